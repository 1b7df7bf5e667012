"""`facerelay recognize image|folder|video|camera`: who is in these pictures, asked of a running service.

What the edge sends here is every face of every frame looked at, as the seed's programs did: a person watches. Sites
use `facerelay edge run`, which tracks and chooses.
"""

from __future__ import annotations

import statistics
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import typer

from local.cli.console import Json, clear_errors, console, fail, print_json, print_table, progress
from local.cli.people import Token, Url
from local.client import DEFAULT_URL, Client
from shared.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Ask who is in images, a video or before a camera.")

MinConfidence = Annotated[float, typer.Option("--min-confidence", min=0, max=1, help="Show names from here on.")]


def _row(name: str, face: dict[str, Any]) -> tuple[str, str, str, str]:
    top = face["top_prediction"]
    return name, top["label"], f"{top['confidence']:.2f}", _place(face)


def _place(face: dict[str, Any]) -> str:
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
    print_table("Faces", ["image", "person", "confidence", "box"], [_row(path.name, f) for f in answer["faces"]])
    if rejected := [(path.name, f["reason"], _place(f)) for f in answer.get("rejected", [])]:
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
def folder(
    path: Annotated[Path, typer.Argument(help="A folder of images.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Send the images, ask for no results.")] = False,
    stats: Annotated[bool, typer.Option("--stats", help="Sizes and times at the end.")] = False,
    min_confidence: MinConfidence = 0.0,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Images under way at once.")] = 4,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Who is in each image of a folder."""
    from edge_uploader.capture.sources import image_files

    with clear_errors():
        files = image_files(path)
        if not files:
            raise InvalidInput(f"{path} holds no images")
        results = list(_send_files(Client(url, token=token), files, dry_run=dry_run, parallel=parallel))
    if as_json:
        return print_json([{"image": name, **answer} for name, answer in results])
    rows = [
        _row(name, face)
        for name, answer in results
        for face in answer.get("faces", [])
        if face["top_prediction"]["confidence"] >= min_confidence
    ]
    if not dry_run:
        print_table("Faces", ["image", "person", "confidence", "box"], rows)
    if rejected := [(name, f["reason"], _place(f)) for name, answer in results for f in answer.get("rejected", [])]:
        print_table("Cannot be recognised", ["image", "why", "box"], rejected)
    if refused := [(name, answer["refused"]) for name, answer in results if "refused" in answer]:
        print_table("Refused", ["image", "why"], refused)
    if stats:
        _print_stats(files, results)
    return None


def _send_files(
    client: Client, files: list[Path], *, dry_run: bool, parallel: int
) -> Iterator[tuple[str, dict[str, Any]]]:
    def send(file: Path) -> tuple[str, dict[str, Any]]:
        data, began = file.read_bytes(), time.perf_counter()
        try:
            if dry_run:
                answer = client.call("POST", "/face-recognition/dry-run", files={"image": data})
            else:
                answer = client.look(data)
        except InvalidInput as error:
            answer = {"refused": str(error)}
        return file.name, answer | {"seconds": round(time.perf_counter() - began, 4)}

    with progress("sending images", len(files)) as bar, ThreadPoolExecutor(parallel) as pool:
        for result in pool.map(send, files):
            bar.advance(bar.task_ids[0])
            yield result


def _print_stats(files: list[Path], results: list[tuple[str, dict[str, Any]]]) -> None:
    sizes = [file.stat().st_size for file in files]
    seconds = [answer["seconds"] for _, answer in results]
    people = Counter(face["top_prediction"]["label"] for _, a in results for face in a.get("faces", []))
    console.print(
        f"{len(files)} images sent, {sum(sizes):,} bytes, {statistics.mean(sizes):,.0f} bytes on average; "
        f"{statistics.mean(seconds) * 1e3:.0f} ms an image, median {statistics.median(seconds) * 1e3:.0f} ms"
    )
    print_table("Faces by person", ["person", "faces"], people.most_common())


Output = Annotated[Path, typer.Option("--output", help="Annotated video to write.")]
Fps = Annotated[float, typer.Option("--target-fps", min=0, help="Frames looked at a second; 0 for all.")]
Skip = Annotated[int, typer.Option("--skip-frames", min=0, help="Frames passed over after each one looked at.")]
MinSize = Annotated[int, typer.Option("--min-size", min=12, help="Smaller faces (long axis, px) are left out.")]
MaxSize = Annotated[int, typer.Option("--max-size", min=32, help="Larger faces are sent scaled down to this.")]
Seconds = Annotated[float, typer.Option("--seconds", min=0, help="Stop after so long; 0 for never.")]


@app.command()
def video(
    source: Annotated[str, typer.Argument(help="A video file or stream address.")],
    output: Output = Path("recognized.mp4"),
    target_fps: Fps = 6.0,
    skip_frames: Skip = 0,
    min_size: MinSize = 32,
    max_size: MaxSize = 256,
    min_confidence: MinConfidence = 0.5,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Faces under way at once.")] = 4,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Who is in a video; writes it annotated: red not a face, blue unknown, green somebody."""
    _recognize_frames(
        source,
        output,
        target_fps,
        skip_frames,
        min_size,
        max_size,
        min_confidence,
        parallel,
        0.0,
        Client(url, token=token),
        as_json,
    )


@app.command()
def camera(
    device: Annotated[str, typer.Option(help="Webcam number or stream address.")] = "0",
    output: Output = Path("recognized.mp4"),
    target_fps: Fps = 6.0,
    min_size: MinSize = 32,
    max_size: MaxSize = 256,
    min_confidence: MinConfidence = 0.5,
    parallel: Annotated[int, typer.Option(min=1, max=64, help="Faces under way at once.")] = 4,
    seconds: Seconds = 60.0,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Who is before a camera; writes an annotated video."""
    _recognize_frames(
        device,
        output,
        target_fps,
        0,
        min_size,
        max_size,
        min_confidence,
        parallel,
        seconds,
        Client(url, token=token),
        as_json,
    )


def _recognize_frames(
    source: str,
    output: Path,
    fps: float,
    skip_frames: int,
    min_size: int,
    max_size: int,
    min_confidence: float,
    parallel: int,
    seconds: float,
    client: Client,
    as_json: bool,
) -> None:
    from local.live import LiveRecognition

    with clear_errors():
        live = LiveRecognition(
            client, min_size=min_size, max_size=max_size, min_confidence=min_confidence, parallel=parallel
        )
        with progress("frames", None) as bar:
            summary = live.run(
                source,
                output,
                fps=fps,
                skip_frames=skip_frames,
                seconds=seconds,
                on_frame=lambda: bar.advance(bar.task_ids[0]),
            )
    if summary["frames"] == 0:
        fail(f"no frame could be read from {source}")
    if as_json:
        return print_json(summary)
    print_table("Seen", ["person", "faces"], sorted(summary["people"].items(), key=lambda item: -item[1]))
    console.print(f"{summary['frames']} frames, {summary['faces']} faces sent; wrote {output}")
    return None
