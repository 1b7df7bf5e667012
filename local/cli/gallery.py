"""`facerelay gallery check|keep|unkeep`: what a training leaves out and why, and whom an operator vouches for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from local.cli.console import Json, clear_errors, console, messages, print_json, print_table
from local.cli.people import Token, Url
from local.client import DEFAULT_URL, Client
from shared.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Look after the templates: which are left out, and why.")

PICTURES = frozenset({".jpg", ".jpeg", ".png"})
Person = Annotated[str, typer.Argument(help="Id of an enrolled person.")]
TemplateId = Annotated[str, typer.Argument(help="Id of the template, as the check names it.")]
Train = Annotated[bool, typer.Option("--train", help="Refit the model at once.")]


@app.command()
def check(
    pictures: Annotated[
        Path | None, typer.Option("--pictures", help="Write the faces, side by side, to this .jpg or .png.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Templates that a training leaves out or that somebody should look at, and people who look enrolled twice."""
    with clear_errors():
        if pictures is not None and pictures.suffix.lower() not in PICTURES:
            raise InvalidInput(f"{pictures.name} is no name for a picture; use one that ends in .jpg or .png")
        client = Client(url, token=token)
        with messages.status("checking the gallery …"):
            found = client.check_gallery()
        if pictures is not None:
            _draw(client, found, pictures)
    if as_json:
        return print_json(found)
    _print(found)
    return None


def _print(found: dict[str, Any]) -> None:
    print_table(
        "Templates",
        ["person", "id", "reason", "own", "nearest", "left out", "suggestion"],
        [_row(item) for item in found["findings"]],
    )
    if found["pairs"]:
        rows = [
            (*pair["people"], f"{pair['similarity']:.2f}", _figure(pair["own_similarity"]), pair["suggestion"])
            for pair in found["pairs"]
        ]
        print_table("People who look like one", ["person", "person", "similarity", "own", "suggestion"], rows)
    basis = "measured on this gallery" if found["measured"] else "the embedder's default: the gallery is small"
    console.print(
        f"{found['set_aside']} of {found['templates']} templates of {found['people']} people are left out of a "
        f"training; strangers reach {found['stranger_similarity']:.2f} ({basis})",
        highlight=False,
    )
    if found["total"] > len(found["findings"]):
        console.print(f"{found['total'] - len(found['findings'])} more findings are not shown", highlight=False)


def _row(item: dict[str, Any]) -> tuple[str, ...]:
    nearest = f"{item['nearest_person']} {item['nearest_similarity']:.2f}" if item["nearest_person"] else "–"
    reason = item["reason"].replace("_", " ")
    if item["reason"] == "duplicate":
        reason = f"duplicate of {item['other_template']}"
    left_out = "yes" if item["set_aside"] else "no"
    name, template = item["person_id"], item["template_id"]
    return name, template, reason, _figure(item["own_similarity"]), nearest, left_out, item["suggestion"]


def _figure(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def _draw(client: Client, found: dict[str, Any], path: Path) -> None:
    import cv2

    from local.gallery_sheet import gallery_sheet, sheet_rows

    rows = sheet_rows(found)
    with messages.status("fetching the faces …"):
        sheet = gallery_sheet(f"Gallery: {len(rows)} to look at", rows, client.template_image)
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR)):
        raise InvalidInput(f"{path} cannot be written")
    messages.print(f"wrote {path}")


@app.command()
def keep(
    person: Person,
    template_id: TemplateId,
    train: Train = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Say that a template is this person: no training leaves it out."""
    _mark(Client(url, token=token), person, template_id, kept=True, train=train)


@app.command()
def unkeep(
    person: Person,
    template_id: TemplateId,
    train: Train = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Take that back, and leave the template to the review."""
    _mark(Client(url, token=token), person, template_id, kept=False, train=train)


def _mark(client: Client, person: str, template_id: str, *, kept: bool, train: bool) -> None:
    with clear_errors():
        said = client.keep_template(person, template_id, kept=kept)
        if train:
            with messages.status("training …"):
                client.train()
    messages.print(said)
