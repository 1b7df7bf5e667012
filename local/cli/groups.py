"""`facerelay groups`: unknown people who were seen repeatedly; what you know of them, told to a running service."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import typer

from local.cli.console import Json, clear_errors, console, messages, print_json, print_table
from local.cli.people import Token, Url
from local.client import DEFAULT_URL, POLL_S, Client
from shared.errors import InvalidInput

app = typer.Typer(no_args_is_help=True, help="Unknown people who were seen repeatedly: list, correct, name.")

GroupId = Annotated[str, typer.Argument(help="Id of a group, such as g:7k3fq9xm2d.")]
DetectionIds = Annotated[list[str], typer.Argument(help="Ids of detections, from: facerelay groups show")]
ROUTE = "/api/v1/groups"
SHEET_FACES = 60


@app.command("list")
def list_(
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Groups, last seen first."""
    with clear_errors():
        groups = _pages(Client(url, token=token), ROUTE, "groups", limit)
    if as_json:
        return print_json(groups)
    columns = ["id", "faces", "first seen (UTC)", "last seen (UTC)", "cameras", "locations"]
    return print_table("Groups of unknown faces", columns, [_row(group) for group in groups])


@app.command()
def show(
    group: GroupId,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    output: Annotated[
        Path | None, typer.Option(help="Write a picture of the faces, as JPEG or PNG. Needs the crops' store.")
    ] = None,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """A group and its detections, newest first."""
    with clear_errors():
        client, path = Client(url, token=token), f"{ROUTE}/{quote(group, safe='')}"
        details = client.call("GET", path, params={"page_size": "1"})
        details["detections"] = _pages(client, path, "detections", limit)
        del details["continuation"]
        drawn = None if output is None else _draw(details, output)
    if as_json:
        return print_json(details)
    rows = [(d["id"], _minute(d["captured_at"]), d["location"], d["camera"]) for d in details["detections"]]
    print_table(f"{group}: {details['faces']} faces", ["id", "time (UTC)", "location", "camera"], rows)
    if drawn is not None:
        messages.print(f"{output}: {drawn} faces", highlight=False)
    return None


@app.command()
def merge(
    group: GroupId,
    other: Annotated[str, typer.Argument(help="Another group of the same person; its id is gone afterwards.")],
    withdraw: Annotated[
        bool, typer.Option("--withdraw", help="Take back the split or rejection that has told them apart.")
    ] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Two groups are one person, for good."""
    answer = _correct(url, token, group, "merge", {"other": other, "withdraw": withdraw})
    if as_json:
        return print_json(answer)
    return console.print(f"{group}: {answer['faces']} faces", highlight=False)


@app.command()
def split(
    group: GroupId, faces: DetectionIds, url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False
) -> None:
    """Some of a group's faces are one other person: they become a group of their own, for good."""
    answer = _correct(url, token, group, "split", {"detections": faces})
    if as_json:
        return print_json(answer)
    told = (f"{part['group_id']}: {part['faces']} faces" for part in (answer["group"], answer["new_group"]))
    return console.print("\n".join(told), highlight=False)


@app.command()
def reject(
    group: GroupId, faces: DetectionIds, url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False
) -> None:
    """Some faces are not this person, whoever they are: they never come back into the group."""
    answer = _correct(url, token, group, "reject", {"detections": faces})
    if as_json:
        return print_json(answer)
    return console.print(f"{group}: {answer['faces']} faces", highlight=False)


@app.command()
def name(
    group: GroupId,
    person: Annotated[str, typer.Argument(help="Who it is: somebody enrolled, or somebody new.")],
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Enrol a group as a person, and give its past detections the name."""
    with clear_errors(), messages.status("naming …"):
        client = Client(url, token=token)
        job = _finished(client, client.call("POST", _path(group, "name"), json={"person_id": person}))
    if as_json:
        return print_json(job)
    result = job["result"]
    if "detections" not in result:
        return console.print("called off: the person was removed meanwhile")
    unusable = ", ".join(f"{count} {reason}" for reason, count in sorted(result["unusable"].items()))
    console.print(f"{result['detections']} detections named, {result['templates']} crops enrolled", highlight=False)
    if unusable:
        console.print(f"crops that could not be used: {unusable}", highlight=False)
    return None


@app.command("not-this-person")
def not_this_person(
    detection: Annotated[str, typer.Argument(help="Id of a detection that was given a wrong name.")],
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """A named detection is not that person: it is unknown from now on, and never gets that name again."""
    with clear_errors():
        answer = Client(url, token=token).call("POST", f"/api/v1/detections/{quote(detection, safe='')}/reject")
    console.print(answer["message"])


@app.command()
def run(url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False) -> None:
    """Group unknown faces now, instead of tonight."""
    with clear_errors(), messages.status("grouping …"):
        client = Client(url, token=token)
        job = _finished(client, client.call("POST", f"{ROUTE}/run"))
    if as_json:
        return print_json(job)
    result = job["result"]
    told = f"{result['faces']} unknown faces: {result['grouped']} of them in {result['groups']} groups"
    return console.print(told, highlight=False)


def _path(group: str, what: str) -> str:
    return f"{ROUTE}/{quote(group, safe='')}/{what}"


def _correct(url: str, token: str, group: str, what: str, body: dict[str, Any]) -> dict[str, Any]:
    with clear_errors():
        return Client(url, token=token).call("POST", _path(group, what), json=body)


def _finished(client: Client, job: dict[str, Any]) -> dict[str, Any]:
    """Waits for a job. Raises: InvalidInput when it failed."""
    while job["status"] in ("queued", "running"):
        time.sleep(POLL_S)
        job = client.call("GET", f"/api/v1/jobs/{job['job_id']}")
    if job["status"] == "failed":
        raise InvalidInput(f"it failed: {job['error']}")
    return job


def _pages(client: Client, path: str, what: str, limit: int) -> list[dict[str, Any]]:
    query = {"page_size": str(min(limit, 1_000))}
    found: list[dict[str, Any]] = []
    while len(found) < limit:
        page = client.call("GET", path, params=query)
        found += page[what]
        if page["continuation"] is None:
            break
        query["continuation"] = page["continuation"]
    return found[:limit]


def _row(group: dict[str, Any]) -> tuple[object, ...]:
    seen = (_minute(group[key]) for key in ("first_seen", "last_seen"))
    return group["group_id"], group["faces"], *seen, ", ".join(group["cameras"]), ", ".join(group["locations"])


def _minute(moment: str) -> str:
    return moment[:16].replace("T", " ")


def _draw(details: dict[str, Any], output: Path) -> int:
    """Writes a contact sheet of the newest faces that still have a crop; how many."""
    from PIL import Image

    from local.contact_sheet import Tile, contact_sheet
    from shared.bootstrap import open_blob_store
    from shared.domain import CANDIDATES
    from shared.errors import NotFound
    from shared.settings import Settings
    from shared.vision.decode import ImageLimits, decode_image

    blobs, tiles = open_blob_store(Settings()), []
    for seen in details["detections"][:SHEET_FACES]:
        try:
            crop = decode_image(blobs.get(CANDIDATES, seen["candidate"] or "none").data, ImageLimits())
        except NotFound:
            continue
        left, top, right, bottom = seen["face_box"]
        lines = (
            seen["captured_at"][:19].replace("T", " "),
            f"{seen['location']} · camera {seen['camera']}",
            seen["id"],
        )
        tiles.append(Tile(crop, (left, top, right, bottom), False, lines))
    if not tiles:
        raise InvalidInput("none of these faces has a crop in this store; FACERELAY_DATA_DIR names the service's")
    try:
        Image.fromarray(contact_sheet(f"{details['group_id']}: {details['faces']} faces", tiles)).save(output)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{output} cannot be written: {error}") from error
    return len(tiles)
