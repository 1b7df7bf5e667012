"""`facerelay gallery check|keep|unkeep`: what a training leaves out and why, and whom an operator vouches for."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from local.cli.console import Json, clear_errors, console, messages, print_json
from local.cli.people import Token, Url, refit
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
    if pictures is None and (found["findings"] or found["pairs"]):
        messages.print("[dim]→ to see the faces: facerelay gallery check --pictures check.jpg[/]", highlight=False)
    return None


def _print(found: dict[str, Any]) -> None:
    _print_blocks("Templates", [_finding(item) for item in found["findings"]])
    if found["pairs"]:
        _print_blocks("People who look like one", [_pair(pair) for pair in found["pairs"]])
    basis = "measured on this gallery" if found["measured"] else "the embedder's default: the gallery is small"
    console.print(
        f"{found['set_aside']} of {found['templates']} templates of {found['people']} people are left out of a "
        f"training; strangers reach {found['stranger_similarity']:.2f} ({basis})",
        highlight=False,
    )
    if found["total"] > len(found["findings"]):
        console.print(f"{found['total'] - len(found['findings'])} more findings are not shown", highlight=False)


def _print_blocks(title: str, blocks: list[tuple[str, ...]]) -> None:
    """Of each a head and lines below it: whole ids, to be copied, leave a table no room for words."""
    if not blocks:
        return console.print(f"{title}: none")
    console.print(f"{title}\n", style="italic")
    for head, *lines in blocks:
        console.print(Text(head, "bold"))
        console.print(Padding(Text("\n".join(lines)), (0, 0, 1, 2)))
    return None


def _finding(item: dict[str, Any]) -> tuple[str, ...]:
    reason = item["reason"].replace("_", " ")
    if item["reason"] == "duplicate":
        reason = f"duplicate of {item['other_template'][:8]}…"
    left_out = "left out" if item["set_aside"] else "not left out"
    alike = [("its own", item["own_similarity"]), (item["nearest_person"], item["nearest_similarity"])]
    figures = ", ".join(f"{whose} {value:.2f}" for whose, value in alike if value is not None)
    what = f"{reason}; {left_out}" + (f"; similarity to {figures}" if figures else "")
    return f"{item['person_id']} {item['template_id']}", what, item["suggestion"]


def _pair(pair: dict[str, Any]) -> tuple[str, ...]:
    own = "" if pair["own_similarity"] is None else f", within the less alike of them {pair['own_similarity']:.2f}"
    return " and ".join(pair["people"]), f"similarity to each other {pair['similarity']:.2f}{own}", pair["suggestion"]


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
        messages.print(client.keep_template(person, template_id, kept=kept))
    if train:
        refit(client)
