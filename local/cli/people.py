"""`facerelay people`, `whereis`, `detections`, `train`: questions and training, against a running service."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from local.cli.console import Json, clear_errors, console, fail, messages, print_json, print_table
from local.client import DEFAULT_URL, Client
from shared.domain import UNKNOWN, format_time, normalise_person_id, parse_moment, parse_time
from shared.errors import InvalidInput

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
    if person.strip().lower() == UNKNOWN:
        fail(f"'{UNKNOWN}' is no person", hint=f"faces of nobody enrolled: facerelay detections --person {UNKNOWN}")
    with clear_errors():
        person_id = normalise_person_id(person)
        client = Client(url, token=token)
        try:
            seen = client.last_known_location(person)
        except InvalidInput as error:
            if "enrolled" not in str(error):
                raise
            fail(f"{error}: {person_id}", hint="who is enrolled: facerelay people")
        if as_json:
            return print_json(seen)
        # That route says no more than it always did; the detection itself also knows the site.
        found = client.call("GET", "/api/v1/detections", params={"person_id": person_id, "page_size": "1"})
    rows = [(d["site"], d["location"], d["camera"], d["captured_at"]) for d in found["detections"]]
    return print_table(f"Last sighting of {person_id}", ["site", "location", "camera", "time (UTC)"], rows)


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
    found: list[dict[str, Any]] = []
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
    return print_table(
        "Detections", ["time (UTC)", "person", "confidence", "site, location", "camera"], [_row(d) for d in found]
    )


def _row(detection: dict[str, Any]) -> tuple[str, ...]:
    """Of the table, which fits 80 columns: whole seconds, and site and location share a column."""
    moment = parse_time(detection["captured_at"]).strftime("%Y-%m-%dT%H:%M:%SZ")
    place = f"{detection['site']}, {detection['location']}"
    return moment, detection["person_id"], f"{detection['confidence']:.2f}", place, detection["camera"]


def train(
    full: Annotated[bool, typer.Option("--full", help="Make every template anew from its image first.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Refit the model to the gallery and publish it."""
    with clear_errors(), messages.status("training …"):
        job = Client(url, token=token).train("/model/train" if full else "/model/optimized-train")
    return print_json(job) if as_json else _tell_training(job["result"])


def refit(client: Client, *, tell: bool = True) -> None:
    """What `--train` of other commands does: trains, and tells of it as `facerelay train` does."""
    with clear_errors(), messages.status("training …"):
        job = client.train()
    if tell:
        _tell_training(job["result"])


def _tell_training(result: dict[str, Any]) -> None:
    calibration = result["calibration"]
    console.print(f"model {result['model_id']}: {result['people']} people, {result['templates']} templates")
    if aside := result.get("set_aside"):
        console.print(f"templates left out: {aside}; which and why: facerelay gallery check", highlight=False)
    if calibration.get("calibrated"):
        console.print(f"threshold calibrated for strangers named in at most {calibration['target_fpir']:.1%} of cases")
    else:
        console.print(f"threshold: {calibration['why']}", highlight=False)
