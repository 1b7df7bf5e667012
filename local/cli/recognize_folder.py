"""`facerelay recognize folder`: every image of a folder, as the seed's program for its benchmarks sent them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from local.cli.console import Json, clear_errors, console, messages, print_json, print_table, progress
from local.cli.people import Token, Url
from local.cli.recognize import DryRun, MinConfidence, Parallel, Stats, name_of, place, print_stats, row, to_box
from local.client import DEFAULT_URL, Client
from shared.errors import InvalidInput

if TYPE_CHECKING:
    from local.sending import Answer, Sender

MinSide = Annotated[
    int, typer.Option("--min-size", min=0, help="Leave out images smaller (long side, px); 0 for none.")
]
MaxSide = Annotated[
    int,
    typer.Option("--max-size", min=0, help="Send images larger (long side, px) scaled down to this; 0: as they are."),
]
SkipImages = Annotated[int, typer.Option("--skip-frames", min=0, help="Images passed over after each one sent.")]


def folder(
    path: Annotated[Path, typer.Argument(help="A folder of images.")],
    recursive: Annotated[bool, typer.Option("--recursive", help="Folders within it too.")] = False,
    output: Annotated[Path | None, typer.Option("--output", help="Folder for the images with boxes.")] = None,
    min_size: MinSide = 0,
    max_size: MaxSide = 0,
    skip_frames: SkipImages = 0,
    dry_run: DryRun = False,
    stats: Stats = False,
    min_confidence: MinConfidence = 0.0,
    parallel: Parallel = 4,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Who is in each image of a folder. What is no image is passed over and counted."""
    from local.folders import find_images
    from local.sending import Sender

    work = _Work(path, output, min_size, max_size, min_confidence, dry_run)
    with clear_errors():
        found = find_images(path, recursive=recursive)
        if not found.images:
            deeper = "" if recursive else "; with --recursive the folders within it are looked through too"
            raise InvalidInput(f"{path} holds no images{deeper}")
        sender = Sender(Client(url, token=token), dry_run=dry_run)
        results = list(_send_all(sender, found.images[:: skip_frames + 1], work, parallel))
    left_out = found.others + sum("left_out" in document for _, document in results)
    if as_json:
        documents = [{"image": name, **document} for name, document in results]
        return print_json({"images": documents, "stats": sender.stats.to_json()} if stats else documents)
    _tell(results, min_confidence)
    messages.print(f"{sender.stats.sent} images sent, {left_out} passed over", highlight=False)
    if stats:
        print_stats(sender)
        people = Counter(name_of(face, min_confidence) for _, d in results for face in d.get("faces", []))
        print_table("Faces by person", ["person", "faces"], people.most_common())
    return None


@dataclass(frozen=True, slots=True)
class _Work:
    """What is done with each image."""

    root: Path
    output: Path | None
    min_size: int
    max_size: int
    min_confidence: float
    dry_run: bool

    def name(self, file: Path) -> str:
        return file.name if file == self.root else file.relative_to(self.root).as_posix()


def _send_all(sender: Sender, files: list[Path], work: _Work, parallel: int) -> Iterator[tuple[str, dict[str, Any]]]:
    """Names and what became of them, in order of the files."""
    with progress("sending images", len(files)) as bar, ThreadPoolExecutor(parallel) as pool:
        under_way = [pool.submit(_send, sender, file, work) for file in files]
        try:
            for file, future in zip(files, under_way, strict=True):
                yield work.name(file), future.result()
                bar.advance(bar.task_ids[0])
        finally:
            pool.shutdown(cancel_futures=True)


def _send(sender: Sender, file: Path, work: _Work) -> dict[str, Any]:
    from local.folders import scaled_to
    from local.sending import size_of

    data = file.read_bytes()
    size = size_of(data)
    if size is None:
        return {"left_out": "not an image that can be opened"}
    if max(size) < work.min_size:
        return {"left_out": f"smaller than {work.min_size} px"}
    if work.max_size and max(size) > work.max_size:
        data = scaled_to(data, work.max_size)
    answer = sender.send(data)
    if work.output is not None and answer.refused is None:
        _annotate(data, answer, work.output / work.name(file), work)
    return _document(answer, work.dry_run)


def _document(answer: Answer, dry_run: bool) -> dict[str, Any]:
    document: dict[str, Any] = {"seconds": round(answer.seconds, 4)}
    if answer.refused is not None:
        return document | {"refused": answer.refused}
    return document if dry_run else document | {"faces": list(answer.faces), "rejected": list(answer.rejected)}


def _annotate(data: bytes, answer: Answer, target: Path, work: _Work) -> None:
    from local.draw import RED, Box, draw_boxes
    from shared.vision.decode import ImageLimits, decode_image, encode_jpeg

    boxes = [to_box(face, work.min_confidence) for face in answer.faces]
    for face in answer.rejected:
        box = face["bounding_box"]
        boxes.append(Box((box["left"], box["top"], box["right"], box["bottom"]), RED, face["reason"]))
    target.parent.mkdir(parents=True, exist_ok=True)
    # The whole name and an ending: a.png and a.jpg stay two pictures.
    target.with_name(f"{target.name}.jpg").write_bytes(
        encode_jpeg(draw_boxes(decode_image(data, ImageLimits()), boxes))
    )


def _tell(results: list[tuple[str, dict[str, Any]]], min_confidence: float) -> None:
    rows = [row(name, face, min_confidence) for name, document in results for face in document.get("faces", [])]
    if any("faces" in document for _, document in results):
        print_table("Faces", ["image", "person", "confidence", "box"], rows)
    if rejected := [(name, f["reason"], place(f)) for name, d in results for f in d.get("rejected", [])]:
        print_table("Cannot be recognised", ["image", "why", "box"], rejected)
    if refused := [(name, d["refused"]) for name, d in results if "refused" in d]:
        print_table("Refused", ["image", "why"], refused)
    if left_out := Counter(d["left_out"] for _, d in results if "left_out" in d):
        console.print("passed over: " + ", ".join(f"{count} {why}" for why, count in left_out.items()), highlight=False)
