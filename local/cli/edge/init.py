"""`facerelay edge init`: a file to begin with."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from local.cli.console import console, messages
from local.cli.edge.common import Cameras, one_line_errors


def init(
    config: Annotated[Path, typer.Option(help="Where to.")] = Path("edge.yaml"),
    camera: Cameras = None,
    site: Annotated[str | None, typer.Option(help="Id of the site.")] = None,
) -> None:
    """Writes a commented file to begin with, readable by its owner alone. Overwrites nothing."""
    with one_line_errors():
        from edge_uploader.camera import CameraSpec
        from edge_uploader.config.sample import sample, write_sample
        from shared.domain import check_place_id

        if site is not None:
            check_place_id("site", site)
        write_sample(config, sample(config, [CameraSpec.parse(text) for text in camera or ()], site))
    console.print(f"wrote {config}", highlight=False)
    missing = [name for name, there in (("the site's id", site), ("the camera", camera)) if not there]
    first = f"fill in {' and '.join(missing)}" if missing else "look it over"
    messages.print(f"[dim]→ {first}, then: facerelay edge check --config {config}[/]", highlight=False)
