"""`facerelay people`, `whereis`, `detections`, `train`: questions and training, against a running service."""

from __future__ import annotations

from typing import Annotated

import typer

from local.cli.console import Json, clear_errors, console, messages, print_json, print_table
from local.client import DEFAULT_URL, Client
from shared.domain import format_time, parse_moment

Url = Annotated[str, typer.Option("--url", envvar="FACERELAY_URL", help="The service to talk to.")]
Token = Annotated[
    str,
    typer.Option(
        "--token",
        envvar="FACERELAY_TOKEN",
        show_default=False,
        help="Proves who you are, where the service asks. Better in the variable than on the command line, where "
        "other users of this machine may see it.",
    ),
]


def people(url: Url = DEFAULT_URL, token: Token = "", as_json: Json = False) -> None:
    """Everybody enrolled, and how many images each has."""
    with clear_errors():
        dataset = Client(url, token=token).call("GET", "/dataset")["face_ids"]
    if as_json:
        return print_json(dataset)
    return print_table("People", ["person", "images"], [(p["id_name"], p["number_of_images"]) for p in dataset])


def remove(
    person: Annotated[str, typer.Argument(help="Id of an enrolled person.")],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
) -> None:
    """Remove a person: images, templates, and the part of every model that knows them. It cannot be undone."""
    if not yes:
        typer.confirm(f"Remove {person} and everything that recognises them?", abort=True)
    with clear_errors():
        Client(url, token=token).remove_person(person)
    messages.print("removed")


def whereis(
    person: Annotated[str, typer.Argument(help="Id of an enrolled person.")],
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Where and when a person was last seen."""
    with clear_errors():
        seen = Client(url, token=token).last_known_location(person)
    if as_json:
        return print_json(seen)
    rows = [(s["location"], s["detected_by_camera_id"], s["timestamp"]) for s in seen]
    return print_table(f"Last sighting of {person}", ["location", "camera", "time (UTC)"], rows)


def detections(
    person: Annotated[str | None, typer.Option(help="A person's id, or: unknown")] = None,
    camera: Annotated[str | None, typer.Option()] = None,
    location: Annotated[str | None, typer.Option()] = None,
    site: Annotated[str | None, typer.Option()] = None,
    since: Annotated[
        str | None, typer.Option(help="A date, from its midnight UTC, or a time such as 2026-01-02T03:04:05Z")
    ] = None,
    until: Annotated[str | None, typer.Option(help="The same, exclusive")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000)] = 50,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Who was seen, newest first."""
    with clear_errors():
        from_time, to_time = (format_time(parse_moment(text)) if text else None for text in (since, until))
    wanted = {
        "person_id": person,
        "camera": camera,
        "location": location,
        "site": site,
        "since": from_time,
        "until": to_time,
        "page_size": str(min(limit, 1_000)),
    }
    query = {key: value for key, value in wanted.items() if value}
    found: list[dict[str, object]] = []
    with clear_errors():
        client = Client(url, token=token)
        while len(found) < limit:
            page = client.call("GET", "/api/v1/detections", params=query)
            found += page["detections"]
            if page["continuation"] is None:
                break
            query["continuation"] = page["continuation"]
    found = found[:limit]
    if as_json:
        return print_json(found)
    rows = [
        (d["captured_at"], d["person_id"], f"{float(str(d['confidence'])):.2f}", d["location"], d["camera"])
        for d in found
    ]
    return print_table("Detections", ["time (UTC)", "person", "confidence", "location", "camera"], rows)


def train(
    full: Annotated[bool, typer.Option("--full", help="Make every template anew from its image first.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Refit the model to the gallery and publish it."""
    with clear_errors(), messages.status("training …"):
        job = Client(url, token=token).train("/model/train" if full else "/model/optimized-train")
    if as_json:
        return print_json(job)
    result = job["result"]
    calibration = result["calibration"]
    console.print(f"model {result['model_id']}: {result['people']} people, {result['templates']} templates")
    if calibration.get("calibrated"):
        console.print(f"threshold calibrated for strangers named in at most {calibration['target_fpir']:.1%} of cases")
    else:
        console.print(f"threshold: {calibration['why']}", highlight=False)
    return None
