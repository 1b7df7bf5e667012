"""The edge gateway: cameras → tracks → best crops → spool → blob store.

Sends the best crops of each face instead of the video. `docs/edge.md` is the operator's page. How a frame goes:

`capture` reads frames, `camera` has a detector find faces in them, `selection` joins the faces of one person to a
track, chooses what is worth sending and cuts it out, `delivery` keeps it on disk until the store has acknowledged it.
`gateway` runs one thread for each camera. Imports nothing of this project but `shared`.
"""

import functools
from importlib.metadata import PackageNotFoundError, version


@functools.cache
def uploader_version() -> str:
    """What a candidate says of the program that made it, such as `facerelay-edge/0.1.0`."""
    try:
        return f"facerelay-edge/{version('facerelay')}"
    except PackageNotFoundError:
        return "facerelay-edge/0"
