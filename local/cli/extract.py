"""`facerelay extract`: the faces of a video as images, with the thesis' table of them. Sends nothing."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local.cli.console import Json, clear_errors, fail, messages, print_json, print_table, progress
from local.cli.edge.common import quiet_opencv

if TYPE_CHECKING:  # OpenCV is imported by the command alone
    from edge_uploader.capture.sources import Frame
    from edge_uploader.extract import ExtractStats
    from edge_uploader.settings import EdgeSettings
    from local.display import VideoSink
    from shared.domain import Face


def extract(
    video: Annotated[str, typer.Argument(help="Video file, stream, webcam number or folder of images.")],
    outdir: Annotated[Path, typer.Argument(help="Folder for the face images.")],
    target_fps: Annotated[
        float, typer.Option("--target-fps", "--fps", min=0, max=120, help="Frames looked at a second; 0 for all.")
    ] = 0.0,
    skip_frames: Annotated[
        int, typer.Option("--skip-frames", min=0, max=1_000, help="Frames passed over after each one looked at.")
    ] = 0,
    min_size: Annotated[
        int | None, typer.Option("--min-size", help="Smaller faces (long axis, px) are left out.")
    ] = None,
    max_size: Annotated[int | None, typer.Option("--max-size", help="Larger faces are scaled down to this.")] = None,
    parallel: Annotated[int, typer.Option("--parallel", min=1, max=64, help="Images written at a time.")] = 2,
    output: Annotated[Path | None, typer.Option("--output", help="Video with the faces drawn in, to write.")] = None,
    as_json: Json = False,
) -> None:
    """Writes the faces of a video to a folder, and says how many, how large and how heavy they are."""
    from edge_uploader.capture.sources import SourceUnusable
    from edge_uploader.extract import ExtractStats
    from edge_uploader.settings import EdgeSettings
    from local.display import VideoSink, frames_per_second

    sizes: dict[str, Any] = {"edge_min_face_px": min_size, "edge_max_face_px": max_size}
    given = {name: size for name, size in sizes.items() if size is not None}
    stats, broken = ExtractStats(), ""
    with clear_errors(), ExitStack() as stack:
        settings = EdgeSettings(edge_fps=target_fps, edge_skip_frames=skip_frames, **given)
        sink = None
        if output is not None:
            sink = VideoSink(output, frames_per_second(video, target_fps, skip_frames))
            stack.callback(sink.close)
        try:
            _extract(video, outdir, settings, parallel, stats, sink)
        except SourceUnusable as error:
            broken = str(error)
        except OSError as error:
            fail(f"{error.filename or outdir} cannot be written: {error.strerror}")
    _tell(stats, as_json)
    if output is not None and stats.frames:
        messages.print(f"wrote {output}", highlight=False)
    if broken:
        fail(broken)


def _extract(
    video: str, outdir: Path, settings: EdgeSettings, parallel: int, stats: ExtractStats, sink: VideoSink | None
) -> None:
    from edge_uploader.extract import ExtractOptions, extract_faces
    from edge_uploader.gateway import crop_options, load_edge_detector
    from edge_uploader.opening import open_source
    from local.draw import WHITE, Box, draw_boxes
    from shared.vision.decode import encoder_of

    quiet_opencv()
    options = ExtractOptions(
        settings.edge_high_confidence,
        settings.edge_min_face_px,
        crop_options(settings),
        parallel,
    )
    with progress("frames", None) as bar:

        def look(frame: Frame, faces: list[Face], now: ExtractStats) -> None:
            bar.update(bar.task_ids[0], completed=now.frames, description=f"frames ({len(now.sizes)} faces)")
            if sink is not None:
                boxes = [Box((x1, y1, x2, y2), WHITE) for x1, y1, x2, y2 in (face.box.tolist() for face in faces)]
                sink.show(draw_boxes(frame.image, boxes), frame.position_s)

        source = open_source(video, settings)
        try:
            extract_faces(
                source,
                load_edge_detector(settings),
                outdir,
                options,
                encode=encoder_of(settings.edge_crop_format),
                stats=stats,
                on_frame=look,
            )
        finally:
            source.close()


def _tell(stats: ExtractStats, as_json: bool) -> None:
    """The thesis' "Extracted Face Images Data" (table 6), and the density class (table 5)."""
    from local.bandwidth.arithmetic import density

    values = stats.to_json()
    rate = values["images_per_minute"]
    values["density"] = None if rate is None else density(rate)
    if as_json:
        return print_json(values)
    rows = [
        ("frames looked at", f"{values['frames']:,}"),
        ("length", f"{values['length_s']:.1f} s"),
        ("face images", f"{values['images']:,}"),
        ("face images a minute", "–" if rate is None else f"{rate:,.1f} ({values['density']} density)"),
        ("image files, all", f"{values['bytes'] / 1e6:.2f} MB"),
        ("average image file", f"{values['average_bytes'] / 1e3:.2f} kB"),
        ("average image height", f"{values['average_height_px']:g} px"),
        ("average image width", f"{values['average_width_px']:g} px"),
        ("average image size", f"{values['average_px']:,} px"),
    ]
    return print_table("Extracted face images", ["what", "figure"], rows)
