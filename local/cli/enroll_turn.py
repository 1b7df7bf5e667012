"""`facerelay enroll video|camera`: a person who turns the head, and the views that show the most sides of the face."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local.cli.console import Json, clear_errors, console, fail, messages, print_json, progress
from local.cli.enroll import CreateId, DryRun, Train, add_one, create_person, fail_if_none, report
from local.cli.people import Token, Url, refit
from local.client import DEFAULT_URL, Client
from shared.errors import InvalidInput

if TYPE_CHECKING:
    from collections import Counter

    from edge_uploader.capture.sources import Frame
    from local.display import Sink
    from local.head_turn import Coverage, TurnOptions, View
    from local.head_turn_source import Limits
    from shared.domain import UInt8Array

REC = "REC"
Output = Annotated[Path | None, typer.Option("--output", help="Folder for the images that are added, for a look.")]
Seconds = Annotated[float, typer.Option("--seconds", min=1, max=600, help="Look for so long, from the first face on.")]
Number = Annotated[int, typer.Option("--img-number", min=1, max=200, help="Images to add, at most.")]


def video(
    source: Annotated[str, typer.Argument(help="Video of one person, who turns the head for 3 to 5 seconds.")],
    person_id: Annotated[str, typer.Option("--person-id")],
    img_number: Number = 12,
    seconds: Seconds = 60.0,
    create_id: CreateId = False,
    train: Train = False,
    dry_run: DryRun = False,
    output: Output = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Add the frames of a head turn that show the most sides of the face, each as good as the video has it."""
    from local.head_turn_source import Limits

    turn = _Turn(Client(url, token=token), person_id, "video", img_number, dry_run, output)
    _enroll_turn(turn, partial(_look, source, Limits(seconds), None), create_id, train, as_json)


def camera(
    person_id: Annotated[str, typer.Option("--person-id")],
    device: Annotated[str, typer.Option(help="Webcam number or stream address.")] = "0",
    img_number: Number = 12,
    seconds: Seconds = 8.0,
    min_share: Annotated[
        float, typer.Option("--min-share", min=0, max=1, help="Begin when the face fills so much of the picture.")
    ] = 0.05,
    countdown: Annotated[
        float, typer.Option("--countdown", min=0, max=30, help="Seconds from then on until it begins.")
    ] = 3.0,
    window: Annotated[
        bool, typer.Option("--window", help="Show the picture; q or Escape ends. Without a screen: a video.")
    ] = False,
    create_id: CreateId = False,
    train: Train = False,
    dry_run: DryRun = False,
    output: Output = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Look at a person who turns the head before a camera, and add the views that show the most sides of the face."""
    from local.head_turn_source import Limits

    turn = _Turn(Client(url, token=token), person_id, "camera", img_number, dry_run, output)
    with ExitStack() as stack:
        sink = _window(stack, f"facerelay: {person_id}") if window else None
        limits = Limits(seconds, min_share=min_share, countdown_s=countdown)
        _enroll_turn(turn, partial(_look, device, limits, sink), create_id, train, as_json)


_VIDEO, _VIDEO_FPS = Path("head-turn.mp4"), 10.0
PROBLEMS = {
    "no_face": "no face was found; is the person in the picture, upright and in the light?",
    "several_people": "more than one person is seen; use a clip of this person alone",
    "another_person": "the face jumps elsewhere: a cut, or somebody else; use one uncut take of one person",
}


@dataclass(slots=True)
class _Turn:
    """One head turn on its way into the gallery."""

    client: Client
    person: str
    source: str
    wanted: int
    dry_run: bool = False
    output: Path | None = None
    results: list[tuple[str, str, str]] = field(default_factory=list)


def _enroll_turn(turn: _Turn, look: Callable[[], list[View]], create: bool, train: bool, as_json: bool) -> None:
    from local.head_turn import TurnOptions, coverage, left_out, main_scene, problem_of, usual_pitch

    options = TurnOptions(wanted=turn.wanted)
    with clear_errors():
        views = look()
        if not views:
            fail("no frame could be read")
        if (problem := problem_of(views)) is not None:
            raise InvalidInput(f"{PROBLEMS[problem]} ({problem})")
        views = main_scene(views)
        if create and not turn.dry_run:
            create_person(turn.client, turn.person)
        chosen = _would_add(turn, views, options) if turn.dry_run else _upload(turn, views, options)
        _save(chosen, turn.output)
    covered, others = coverage(chosen, usual_pitch(views)), left_out(views, chosen, options)
    _tell(turn, covered, others, len(views), as_json)
    if train and chosen and not turn.dry_run:
        refit(turn.client, tell=not as_json)


def _tell(turn: _Turn, covered: Coverage, others: Counter[str], frames: int, as_json: bool) -> None:
    if as_json:
        images = [{"person": p, "image": i, "outcome": o} for p, i, o in turn.results]
        document = {"images": images, "coverage": covered.sides, "advice": covered.advice, "left_out": dict(others)}
        print_json(document | {"frames": frames})
        return fail_if_none(turn.results)
    console.print(f"{frames} frames; sides of the face: {covered}", highlight=False)
    if others:
        told = ", ".join(f"{reason.replace('_', ' ')}: {count}" for reason, count in others.most_common())
        console.print(f"frames left out: {told}", highlight=False)
    for hint in covered.advice:
        messages.print(f"[dim]→ {hint}[/]", highlight=False)
    return report(turn.results, as_json=False)


def _window(stack: ExitStack, title: str) -> Sink:
    """The window, or a video where there can be none."""
    from local.display import NoScreen, VideoSink, Window

    window: Sink
    try:
        window = Window(title)
    except NoScreen as error:
        messages.print(f"[yellow]no window:[/] {error}; writing {_VIDEO}, which shows the face", highlight=False)
        window = VideoSink(_VIDEO, _VIDEO_FPS)
    stack.callback(window.close)
    return window


def _save(chosen: Sequence[View], folder: Path | None) -> None:
    """The images as they are sent, for a look."""
    if folder is None:
        return
    folder.mkdir(parents=True, exist_ok=True)
    for view in chosen:
        (folder / f"{view.name.replace(' ', '-')}.jpg").write_bytes(view.jpeg)
    messages.print(f"wrote {len(chosen)} images to {folder}", highlight=False)


def _would_add(turn: _Turn, views: Sequence[View], options: TurnOptions) -> list[View]:
    from local.head_turn import choose

    chosen = choose(views, options)
    turn.results += [(turn.person, view.name, "would be added") for view in chosen]
    return chosen


def _look(source: str, limits: Limits, window: Sink | None) -> list[View]:
    """Every frame, measured; the progress says which sides were seen so far."""
    from functions.gates import enrolment_gate
    from local.head_turn import SIDES, side_of
    from local.head_turn_source import HeadTurnReader
    from shared.settings import Settings

    # The gateway's detector is sure in its own way; the service verifies with its own.
    reader = HeadTurnReader(replace(enrolment_gate(Settings()), min_confidence=0.0))
    seen = dict.fromkeys(SIDES, 0)
    with progress("looking", None) as bar:

        def show(view: View) -> None:
            if view.usable:
                seen[side_of(view)] += 1
            told = ", ".join(f"{side} {count}" for side, count in seen.items())
            bar.update(bar.task_ids[0], advance=1, description=f"looking ({told})")

        def look(frame: Frame, view: View, says: str) -> bool:
            if says != REC:
                bar.update(bar.task_ids[0], description=says)
            return window is None or window.show(_drawn(frame, view, says), frame.position_s)

        return reader.read(source, limits, show, look)


def _drawn(frame: Frame, view: View, says: str) -> UInt8Array:
    """The frame with the face's box, and what to do in the upper right corner."""
    from local.draw import GREEN, RED, WHITE, Box, corner_text, draw_boxes

    boxes = [] if view.box is None else [Box(tuple(view.box.tolist()), GREEN if view.usable else WHITE)]
    return corner_text(draw_boxes(frame.image, boxes), says, RED if says == REC else WHITE)


def _upload(turn: _Turn, views: Sequence[View], options: TurnOptions) -> list[View]:
    """Adds view after view, each the one that is worth most after those that were accepted."""
    from local.head_turn import next_view

    chosen: list[View] = []
    tried: list[View] = []
    with progress("adding views", turn.wanted) as bar:
        while len(chosen) < turn.wanted and len(tried) <= turn.wanted:
            view = next_view(views, chosen, tried, options)
            if view is None:
                break
            outcome = add_one(turn.client, turn.person, view.jpeg, source=turn.source)
            turn.results.append((turn.person, view.name, outcome))
            # What was there already covers its side of the face as well as a new one would.
            (tried if outcome.startswith("refused") else chosen).append(view)
            bar.update(bar.task_ids[0], completed=len(chosen))
    return chosen
