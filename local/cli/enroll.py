"""`facerelay enroll folder|video|camera`: puts people into the gallery of a running service.

`video` and `camera` are in `enroll_turn`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import typer

from local.cli.console import Json, clear_errors, console, messages, print_json, print_table, progress
from local.cli.people import Token, Url, refit
from local.client import DEFAULT_URL, Client
from shared.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Add people and their photographs.")

PersonId = Annotated[str | None, typer.Option("--person-id", help="Whom the images show.")]
CreateId = Annotated[bool, typer.Option("--create-id", help="Add the person first.")]
Train = Annotated[bool, typer.Option("--train", help="Refit the model when all images are added.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be added, and send nothing.")]


@app.command()
def folder(
    path: Annotated[Path, typer.Argument(help="Images of one person, or a folder of such folders.")],
    person_id: PersonId = None,
    create_id: CreateId = False,
    train: Train = False,
    recursive: Annotated[bool, typer.Option("--recursive", help="Folders within a person's folder too.")] = False,
    parallel: Annotated[int, typer.Option("--parallel", min=1, max=32, help="Images under way at once.")] = 4,
    dry_run: DryRun = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Add every image of a folder; without --person-id, each subfolder is a person of its name."""
    with clear_errors():
        groups, others = _groups(path, person_id, recursive=recursive)
        if dry_run:
            return _tell_plan(groups, others, as_json)
        client = Client(url, token=token)
        results = list(_add_all(client, groups, create=create_id or person_id is None, parallel=parallel))
    if others:
        messages.print(f"{others} files that are no images were passed over", highlight=False)
    report(results, as_json)
    if train:
        refit(client, tell=not as_json)
    return None


def _groups(path: Path, person_id: str | None, *, recursive: bool) -> tuple[dict[str, list[Path]], int]:
    """The images of each person, and how many files are none."""
    from local.folders import find_images

    if person_id is not None:
        found = {person_id: find_images(path, recursive=recursive)}
    else:
        found = {sub.name: find_images(sub, recursive=recursive) for sub in _subfolders(path)}
    groups = {person: each.images for person, each in found.items() if each.images}
    if not groups:
        raise InvalidInput(f"{path} holds no images" if person_id else f"no folder in {path} holds an image")
    return groups, sum(each.others for each in found.values())


def _tell_plan(groups: dict[str, list[Path]], others: int, as_json: bool) -> None:
    rows = [(person, len(files), sum(file.stat().st_size for file in files)) for person, files in groups.items()]
    if as_json:
        people = [{"person": person, "images": count, "bytes": size} for person, count, size in rows]
        return print_json({"people": people, "others": others})
    print_table("Would be added", ["person", "images", "bytes"], [(p, n, f"{size:,}") for p, n, size in rows])
    console.print(f"{sum(n for _, n, _ in rows)} images of {len(rows)} people, {others} other files", highlight=False)
    return None


def _subfolders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise InvalidInput(f"there is no folder {path}")
    found = sorted(sub for sub in path.iterdir() if sub.is_dir())
    if not found:
        raise InvalidInput(f"{path} holds no folders, one a person; for one person's images give --person-id")
    return found


def _add_all(
    client: Client, groups: dict[str, list[Path]], *, create: bool, parallel: int
) -> Iterator[tuple[str, str, str]]:
    """Person, image and what became of it, in order; each person is there before the first image is sent."""
    with progress("adding images", sum(map(len, groups.values()))) as bar, ThreadPoolExecutor(parallel) as pool:
        for person, files in groups.items():
            if create:
                create_person(client, person)
            try:
                for file, outcome in zip(files, pool.map(_adder(client, person), files), strict=True):
                    bar.advance(bar.task_ids[0])
                    yield person, file.name, outcome
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise


def _adder(client: Client, person: str) -> Callable[[Path], str]:
    return lambda file: add_one(client, person, file.read_bytes())


def create_person(client: Client, person: str) -> None:
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


def report(results: list[tuple[str, str, str]], as_json: bool) -> None:
    """What was added and what was refused; exit code 1 when everything was."""
    added = sum(outcome == "image added" for _, _, outcome in results)
    known = sum("already" in outcome for _, _, outcome in results)
    if as_json:
        print_json([{"person": p, "image": i, "outcome": o} for p, i, o in results])
    else:
        if refused := [row for row in results if row[2].startswith("refused")]:
            print_table("Refused", ["person", "image", "why"], refused)
        console.print(f"{added} of {len(results)} images added" + (f", {known} were there already" if known else ""))
    fail_if_none(results)


def fail_if_none(results: list[tuple[str, str, str]]) -> None:
    """What was there already is no failure."""
    if all(outcome.startswith("refused") for _, _, outcome in results):
        raise typer.Exit(1)
