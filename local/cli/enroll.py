"""`facerelay enroll folder|video|camera`: puts people into the gallery of a running service."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from local.cli.console import Json, clear_errors, console, fail, messages, print_json, print_table, progress
from local.cli.people import Token, Url
from local.client import DEFAULT_URL, Client
from shared.errors import InvalidInput

if TYPE_CHECKING:
    from local.head_turn import TurnOptions, View

app = typer.Typer(no_args_is_help=True, help="Add people and their photographs.")

PersonId = Annotated[str | None, typer.Option("--person-id", help="Whom the images show.")]
CreateId = Annotated[bool, typer.Option("--create-id", help="Add the person first.")]
Train = Annotated[bool, typer.Option("--train", help="Refit the model when all images are added.")]


@app.command()
def folder(
    path: Annotated[Path, typer.Argument(help="Images of one person, or a folder of such folders.")],
    person_id: PersonId = None,
    create_id: CreateId = False,
    train: Train = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Add every image of a folder; without --person-id, each subfolder is a person of its name."""
    with clear_errors():
        if person_id is not None:
            groups = {person_id: _images(path)}
        else:
            groups = {sub.name: images for sub in _subfolders(path) if (images := _found_images(sub))}
            if not groups:
                raise InvalidInput(f"no folder in {path} holds an image")
        client = Client(url, token=token)
        results = _add_all(client, groups, create=create_id or person_id is None)
        if train:
            with messages.status("training …"):
                client.train()
    _report(results, as_json)


def _found_images(path: Path) -> list[Path]:
    from edge_uploader.capture.sources import image_files

    return image_files(path)


def _images(path: Path) -> list[Path]:
    found = _found_images(path)
    if not found:
        raise InvalidInput(f"{path} holds no images")
    return found


def _subfolders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise InvalidInput(f"there is no folder {path}")
    found = sorted(sub for sub in path.iterdir() if sub.is_dir())
    if not found:
        raise InvalidInput(f"{path} holds no folders, one a person; for one person's images give --person-id")
    return found


def _add_all(client: Client, groups: dict[str, list[Path]], *, create: bool) -> list[tuple[str, str, str]]:
    results = []
    with progress("adding images", sum(map(len, groups.values()))) as bar:
        for person, files in groups.items():
            if create:
                _create(client, person)
            for file in files:
                results.append((person, file.name, add_one(client, person, file.read_bytes())))
                bar.advance(bar.task_ids[0])
    return results


def _create(client: Client, person: str) -> None:
    """Adds the person; one who is there already gets more images."""
    try:
        client.add_person(person)
    except InvalidInput as error:
        if "already" not in str(error):
            raise


def add_one(client: Client, person: str, data: bytes, *, source: str = "folder") -> str:
    """Adds one image and says what became of it."""
    try:
        return str(client.add_image(person, data, source=source)["message"])
    except InvalidInput as error:
        return f"refused: {error}"


def _report(results: list[tuple[str, str, str]], as_json: bool) -> None:
    added = sum(outcome == "image added" for _, _, outcome in results)
    known = sum("already" in outcome for _, _, outcome in results)
    if as_json:
        print_json([{"person": p, "image": i, "outcome": o} for p, i, o in results])
    else:
        if refused := [row for row in results if row[2].startswith("refused")]:
            print_table("Refused", ["person", "image", "why"], refused)
        console.print(f"{added} of {len(results)} images added" + (f", {known} were there already" if known else ""))
    _fail_if_none(results)


def _fail_if_none(results: list[tuple[str, str, str]]) -> None:
    """What was there already is no failure."""
    if all(outcome.startswith("refused") for _, _, outcome in results):
        raise typer.Exit(1)


Seconds = Annotated[float, typer.Option("--seconds", min=1, max=600, help="Look for so long, from the first face on.")]
Number = Annotated[int, typer.Option("--img-number", min=1, max=200, help="Images to add, at most.")]


@app.command()
def video(
    source: Annotated[str, typer.Argument(help="Video of one person, who turns the head for 3 to 5 seconds.")],
    person_id: Annotated[str, typer.Option("--person-id")],
    img_number: Number = 12,
    seconds: Seconds = 60.0,
    create_id: CreateId = False,
    train: Train = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Add the frames of a head turn that show the most sides of the face, each as good as the video has it."""
    turn = _Turn(Client(url, token=token), person_id, "video", img_number)
    _enroll_turn(turn, source, seconds, create_id, train, as_json)


@app.command()
def camera(
    person_id: Annotated[str, typer.Option("--person-id")],
    device: Annotated[str, typer.Option(help="Webcam number or stream address.")] = "0",
    img_number: Number = 12,
    seconds: Seconds = 8.0,
    create_id: CreateId = False,
    train: Train = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Look at a person who turns the head before a camera, and add the views that show the most sides of the face."""
    turn = _Turn(Client(url, token=token), person_id, "camera", img_number)
    _enroll_turn(turn, device, seconds, create_id, train, as_json)


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
    results: list[tuple[str, str, str]] = field(default_factory=list)


def _enroll_turn(turn: _Turn, source: str, seconds: float, create: bool, train: bool, as_json: bool) -> None:
    from local.head_turn import TurnOptions, coverage, left_out, main_scene, problem_of, usual_pitch

    options = TurnOptions(wanted=turn.wanted)
    with clear_errors():
        views = _look(source, seconds)
        if not views:
            fail(f"no frame could be read from {source}")
        if (problem := problem_of(views)) is not None:
            raise InvalidInput(f"{PROBLEMS[problem]} ({problem})")
        views = main_scene(views)
        if create:
            _create(turn.client, turn.person)
        chosen = _upload(turn, views, options)
        if train and chosen:
            with messages.status("training …"):
                turn.client.train()
    covered, others = coverage(chosen, usual_pitch(views)), left_out(views, chosen, options)
    if as_json:
        images = [{"person": p, "image": i, "outcome": o} for p, i, o in turn.results]
        document = {"images": images, "coverage": covered.sides, "advice": covered.advice, "left_out": dict(others)}
        print_json(document | {"frames": len(views)})
        return _fail_if_none(turn.results)
    console.print(f"{len(views)} frames; sides of the face: {covered}", highlight=False)
    if others:
        told = ", ".join(f"{reason.replace('_', ' ')}: {count}" for reason, count in others.most_common())
        console.print(f"frames left out: {told}", highlight=False)
    for hint in covered.advice:
        messages.print(f"[dim]→ {hint}[/]", highlight=False)
    return _report(turn.results, as_json=False)


def _look(source: str, seconds: float) -> list[View]:
    """Every frame, measured; the progress says which sides were seen so far."""
    from functions.gates import enrolment_gate
    from local.head_turn import SIDES, side_of
    from local.head_turn_source import HeadTurnReader, Limits
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

        return reader.read(source, Limits(seconds), show)


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
