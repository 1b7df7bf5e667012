"""`facerelay recognize image|folder|video|camera`: who is in these pictures, asked of a running service.

What the edge sends here is every face of every frame looked at, as the seed's programs did: a person watches. With
`--tracked` a face is followed and asked for now and then. Sites use `facerelay edge run`, which tracks and chooses.
`folder` is in `recognize_folder`.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local.cli.console import Json, clear_errors, console, fail, messages, print_json, print_table, progress
from local.cli.people import Token, Url
from local.client import DEFAULT_URL, Client
from shared.domain import UNKNOWN

if TYPE_CHECKING:  # OpenCV is imported by the commands alone
    from local.display import Sink
    from local.live import LiveOptions
    from local.sending import Sender

app = typer.Typer(no_args_is_help=True, help="Ask who is in images, a video or before a camera.")

MinConfidence = Annotated[
    float, typer.Option("--min-confidence", min=0, max=1, help="Show names from here on; others as unknown.")
]
Output = Annotated[
    Path | None,
    typer.Option("--output", help="Annotated video to write; recognized.mp4 when it is neither given nor shown."),
]
Fps = Annotated[float, typer.Option("--target-fps", min=0, help="Frames looked at a second; 0 for all.")]
Skip = Annotated[int, typer.Option("--skip-frames", min=0, help="Frames passed over after each one looked at.")]
MinSize = Annotated[int, typer.Option("--min-size", min=12, help="Smaller faces (long axis, px) are left out.")]
MaxSize = Annotated[int, typer.Option("--max-size", min=32, help="Larger faces are sent scaled down to this.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0, help="Stop after so long; 0 for never.")]
Parallel = Annotated[int, typer.Option("--parallel", min=1, max=64, help="Requests under way at once.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Send, and ask for no results: to measure the network.")]
Stats = Annotated[bool, typer.Option("--stats", help="Sizes, bytes and times of what was sent.")]
Tracked = Annotated[
    bool,
    typer.Option(
        "--tracked/--every-face",
        help="Follow each face and ask for it now and then, so that its name stays; else ask for each in each frame.",
    ),
]
ShowWindow = Annotated[bool, typer.Option("--window", help="Show it; q or Escape ends. Without a screen: the video.")]
_DEFAULT_OUTPUT = Path("recognized.mp4")


def row(name: str, face: dict[str, Any], min_confidence: float) -> tuple[str, str, str, str]:
    """Of a table of faces: image, person, confidence, box."""
    confidence = face["top_prediction"]["confidence"]
    return name, name_of(face, min_confidence), f"{confidence:.2f}", place(face)


def name_of(face: dict[str, Any], min_confidence: float) -> str:
    """The name that a face of the service's answer is shown under."""
    top = face["top_prediction"]
    return str(top["label"]) if top["confidence"] >= min_confidence else UNKNOWN


def place(face: dict[str, Any]) -> str:
    """A face's box for people."""
    box = face["bounding_box"]
    return f"{box['left']:.0f},{box['top']:.0f} – {box['right']:.0f},{box['bottom']:.0f}"


@app.command()
def image(
    path: Annotated[Path, typer.Argument(help="An image file.", exists=True, dir_okay=False)],
    output: Annotated[Path | None, typer.Option("--output", help="Write the picture with boxes here.")] = None,
    min_confidence: MinConfidence = 0.0,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Who is in one image."""
    data = path.read_bytes()
    with clear_errors():
        answer = Client(url, token=token).look(data)
        if output is not None:
            _save_annotated(data, answer, output, min_confidence)
    if as_json:
        return print_json(answer)
    print_table(
        "Faces", ["image", "person", "confidence", "box"], [row(path.name, f, min_confidence) for f in answer["faces"]]
    )
    if rejected := [(path.name, f["reason"], place(f)) for f in answer.get("rejected", [])]:
        print_table("Cannot be recognised", ["image", "why", "box"], rejected)
    return None


def _save_annotated(data: bytes, answer: dict[str, list[dict[str, Any]]], output: Path, min_confidence: float) -> None:
    from local.draw import RED, Box, draw_boxes
    from shared.vision.decode import ImageLimits, decode_image, encode_jpeg

    pixels = decode_image(data, ImageLimits())
    output.parent.mkdir(parents=True, exist_ok=True)
    boxes = [to_box(face, min_confidence) for face in answer["faces"]]
    for face in answer.get("rejected", []):
        box = face["bounding_box"]
        boxes.append(Box((box["left"], box["top"], box["right"], box["bottom"]), RED, face["reason"]))
    output.write_bytes(encode_jpeg(draw_boxes(pixels, boxes)))
    console.print(f"wrote {output}")


def to_box(face: dict[str, Any], min_confidence: float, offset: tuple[float, float] = (0.0, 0.0)) -> Any:
    """A face of the service's answer as something to draw, moved by `offset` pixels."""
    from local.draw import Box, judged

    box, top = face["bounding_box"], face["top_prediction"]
    colour, text = judged(top["label"], top["confidence"], min_confidence)
    x, y = offset
    return Box((box["left"] + x, box["top"] + y, box["right"] + x, box["bottom"] + y), colour, text)


@app.command()
def video(
    source: Annotated[str, typer.Argument(help="A video file or stream address.")],
    output: Output = None,
    window: ShowWindow = False,
    target_fps: Fps = 6.0,
    skip_frames: Skip = 0,
    min_size: MinSize = 32,
    max_size: MaxSize = 256,
    min_confidence: MinConfidence = 0.5,
    parallel: Parallel = 4,
    tracked: Tracked = False,
    dry_run: DryRun = False,
    stats: Stats = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Who is in a video; draws boxes: red cannot be recognised, blue unknown, green somebody."""
    from local.live import LiveOptions

    options = LiveOptions(target_fps, skip_frames, 0.0, min_size, max_size, min_confidence, parallel, dry_run, tracked)
    _watch(_Watch(source, output, window, stats, as_json), options, Client(url, token=token))


@app.command()
def camera(
    device: Annotated[str, typer.Option(help="Webcam number or stream address.")] = "0",
    output: Output = None,
    window: ShowWindow = False,
    target_fps: Fps = 6.0,
    skip_frames: Skip = 0,
    min_size: MinSize = 32,
    max_size: MaxSize = 256,
    min_confidence: MinConfidence = 0.5,
    parallel: Parallel = 4,
    tracked: Tracked = False,
    dry_run: DryRun = False,
    stats: Stats = False,
    seconds: Seconds = 60.0,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Who is before a camera; draws boxes as for a video."""
    from local.live import LiveOptions

    options = LiveOptions(
        target_fps, skip_frames, seconds, min_size, max_size, min_confidence, parallel, dry_run, tracked
    )
    _watch(_Watch(device, output, window, stats, as_json), options, Client(url, token=token))


@dataclass(frozen=True, slots=True)
class _Watch:
    """What is looked at, and how it is told."""

    source: str
    output: Path | None
    window: bool
    stats: bool
    as_json: bool


def _watch(watch: _Watch, options: LiveOptions, client: Client) -> None:
    from local.live import LiveRecognition
    from local.sending import Sender

    with clear_errors(), ExitStack() as stack:
        sender = Sender(client, dry_run=options.dry_run)
        live = LiveRecognition(sender, options)
        sinks, output = _sinks(watch, options)
        for sink in sinks:
            stack.callback(sink.close)
        with progress("frames", None) as bar:
            summary = live.run(watch.source, sinks, lambda: bar.advance(bar.task_ids[0]))
    if summary["frames"] == 0:
        fail(f"no frame could be read from {_shown(watch.source)}")
    _tell(summary | {"output": None if output is None else str(output)}, sender, watch)


def _shown(source: str) -> str:
    """The source without a password in it."""
    from edge_uploader.capture.address import public_name

    return public_name(source) if "://" in source else source


def _sinks(watch: _Watch, options: LiveOptions) -> tuple[list[Sink], Path | None]:
    """The window when there can be one, and the video file when it is asked for or there is no window."""
    from local.display import NoScreen, VideoSink, Window, frames_per_second

    sinks: list[Sink] = []
    if watch.window:
        try:
            sinks.append(Window(f"facerelay: {_shown(watch.source)}", pace=Path(watch.source).is_file()))
        except NoScreen as error:
            messages.print(f"[yellow]no window:[/] {error}; writing the video instead", highlight=False)
    output = watch.output or (None if sinks else _DEFAULT_OUTPUT)
    if output is not None:
        sinks.append(VideoSink(output, frames_per_second(watch.source, options.fps, options.skip_frames)))
    return sinks, output


def _tell(summary: dict[str, Any], sender: Sender, watch: _Watch) -> None:
    if watch.as_json:
        return print_json(summary | ({"stats": sender.stats.to_json()} if watch.stats else {}))
    if people := summary["people"]:
        print_table("Seen", ["person", "faces"], list(people.items()))
    if other := summary["not_recognised"]:
        print_table("Cannot be recognised", ["why", "faces"], list(other.items()))
    wrote = f"; wrote {summary['output']}" if summary["output"] else ""
    console.print(
        f"{summary['frames']} frames, {summary['faces']} faces, {summary['asked']} sent, "
        f"{summary['frames_per_s']:g} frames/s{wrote}",
        highlight=False,
    )
    if watch.stats:
        print_stats(sender)
    return None


def print_stats(sender: Sender) -> None:
    """The seed's statistics of what was sent, and the times."""
    values = sender.stats.to_json()
    rows = [
        ("pictures sent", f"{values['sent']:,}"),
        ("refused", f"{values['refused']:,}"),
        ("bytes", f"{values['bytes']:,}"),
        ("average size", f"{values['average_bytes']:,} bytes"),
        ("average height", f"{values['average_height_px']:g} px"),
        ("average width", f"{values['average_width_px']:g} px"),
        ("average area", f"{values['average_px']:,} px"),
        ("time, mean", f"{values['mean_ms']:g} ms"),
        ("time, median", f"{values['median_ms']:g} ms"),
        ("time, 95 of 100", f"{values['p95_ms']:g} ms"),
        ("requests a second", f"{values['requests_per_s']:g}"),
        ("faces a minute", f"{values['faces_per_minute']:g}"),
    ]
    print_table("Statistics", ["what", "figure"], rows)
