"""Frames of a video or camera as JPEGs, for enrolment."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from edge_uploader.gateway import open_source
from edge_uploader.settings import EdgeSettings
from shared.vision.decode import encode_jpeg

FRAMES_PER_SECOND: Final = 3.0
"""Three a second of a head turn of 3 to 5 s: neighbouring frames of more add nothing."""


def sampled_jpegs(source: str) -> Iterator[tuple[str, bytes]]:
    """(name, JPEG) of frames spread over a source, until it ends or the caller stops.

    Raises:
        SourceUnusable: it cannot be opened, or breaks off.
    """
    opened = open_source(source, EdgeSettings(edge_fps=FRAMES_PER_SECOND))
    try:
        for frame in opened.frames():
            yield f"frame {frame.index}", encode_jpeg(frame.image)
    finally:
        opened.close()
