"""`facerelay extract`: the faces of a video as files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from edge_uploader.settings import EdgeSettings
from local.cli.console import Json, console, messages, print_json
from local.cli.edge.common import Fps, MaxSize, MinSize, SkipFrames, one_line_errors, quiet_opencv, size


def extract(
    video: Annotated[str, typer.Argument(help="Video file, stream or folder of images.")],
    outdir: Annotated[Path, typer.Argument(help="Folder for the face images.")],
    fps: Fps = 0.0,
    skip_frames: SkipFrames = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    as_json: Json = False,
) -> None:
    """Writes the faces of a video to a folder, and says how many, how large and how heavy they are."""
    from edge_uploader.capture.sources import SourceUnusable
    from edge_uploader.extract import ExtractStats, extract_faces
    from edge_uploader.gateway import load_edge_detector, open_source
    from edge_uploader.selection.crops import CropOptions
    from shared.vision.decode import encode_jpeg

    quiet_opencv()
    stats, broken = ExtractStats(), ""
    with one_line_errors():
        settings = _settings(
            edge_fps=fps, edge_skip_frames=skip_frames, edge_min_face_px=min_size, edge_max_face_px=max_size
        )
        with Progress(
            SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn(), console=messages
        ) as progress:
            task = progress.add_task("reading", total=None)

            def tick(now: ExtractStats) -> None:
                progress.update(task, description=f"{now.frames} frames, {len(now.sizes)} faces")

            try:
                extract_faces(
                    open_source(video, settings),
                    load_edge_detector(settings),
                    outdir,
                    encode=encode_jpeg,
                    min_confidence=settings.edge_high_confidence,
                    min_face_px=settings.edge_min_face_px,
                    crops=CropOptions(settings.edge_crop_margin, settings.edge_max_face_px, settings.edge_jpeg_quality),
                    stats=stats,
                    on_frame=tick,
                )
            except SourceUnusable as error:
                broken = str(error)
    _print_extract(stats.to_json(), as_json)
    if broken:
        messages.print(f"[bold red]error[/]: {escape(broken)}")
        raise typer.Exit(1)


def _settings(**options: Any) -> EdgeSettings:
    """Settings from the environment, with the options that were given over them."""
    return EdgeSettings(**{name: value for name, value in options.items() if value is not None})


def _print_extract(values: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(values)
        return
    table = Table("images", "average height", "average width", "average size", "frames")
    table.add_row(
        str(values["images"]),
        f"{values['average_height_px']} px",
        f"{values['average_width_px']} px",
        size(values["average_bytes"]),
        str(values["frames"]),
    )
    console.print(table)
