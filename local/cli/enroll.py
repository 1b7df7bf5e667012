"""`facerelay enroll folder|video|camera`: puts people into the gallery of a running service."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from local.cli.console import Json, clear_errors, console, fail, messages, print_json, print_table, progress
from local.cli.people import Token, Url
from local.client import DEFAULT_URL, Client
from shared.errors import InvalidInput

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
    from edge_uploader.sources import image_files

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


def add_one(client: Client, person: str, data: bytes) -> str:
    """Adds one image and says what became of it."""
    try:
        return str(client.add_image(person, data)["message"])
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
    if added + known == 0:
        raise typer.Exit(1)


@app.command()
def video(
    source: Annotated[str, typer.Argument(help="Video of one person, who turns the head for 3 to 5 seconds.")],
    person_id: Annotated[str, typer.Option("--person-id")],
    img_number: Annotated[int, typer.Option("--img-number", min=1, max=200, help="Images to add.")] = 12,
    create_id: CreateId = False,
    train: Train = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Add evenly spaced frames of a video; frames with no face, or two, are passed over."""
    _enroll_frames(source, person_id, img_number, create_id, train, Client(url, token=token), as_json)


@app.command()
def camera(
    person_id: Annotated[str, typer.Option("--person-id")],
    device: Annotated[str, typer.Option(help="Webcam number or stream address.")] = "0",
    img_number: Annotated[int, typer.Option("--img-number", min=1, max=200, help="Images to add.")] = 12,
    create_id: CreateId = False,
    train: Train = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Add images from a camera, about three a second, until enough were accepted."""
    _enroll_frames(device, person_id, img_number, create_id, train, Client(url, token=token), as_json)


def _enroll_frames(
    source: str, person: str, wanted: int, create: bool, train: bool, client: Client, as_json: bool
) -> None:
    from local.frames import sampled_jpegs

    with clear_errors():
        if create:
            _create(client, person)
        results = _add_until(client, person, sampled_jpegs(source), wanted)
        if not results:
            fail(f"no frame could be read from {source}")
        if train:
            with messages.status("training …"):
                client.train()
    _report(results, as_json)


def _add_until(
    client: Client, person: str, frames: Iterable[tuple[str, bytes]], wanted: int
) -> list[tuple[str, str, str]]:
    results: list[tuple[str, str, str]] = []
    accepted = 0
    with progress("adding frames", wanted) as bar:
        for name, data in frames:
            outcome = add_one(client, person, data)
            results.append((person, name, outcome))
            if not outcome.startswith("refused"):
                accepted += 1
                bar.advance(bar.task_ids[0])
            if accepted == wanted:
                break
    return results
