"""`facerelay edge status`: how a running gateway stands, in 80 columns."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from edge_uploader.delivery.counts import TROUBLES
from local.cli.console import Json, console, messages, print_json
from local.cli.edge.common import Config, load_plan, one_line_errors, size, span

_TIMEOUT_S: Final = (2, 5)
_EVERY_S: Final = 2.0
_MAX_BYTES: Final = 4_000_000
_SHOWN_WIDTH: Final = 80


class NoAnswer(Exception):
    """The gateway does not run, or does not answer; the message says which."""


def status(
    config: Config = None,
    spool: Annotated[Path | None, typer.Option(help="Folder of the gateway's spool.")] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until interrupted.")] = False,
    as_json: Json = False,
) -> None:
    """How the gateway that runs on this machine stands. Exit code 1 when none answers, or all is not well."""
    with one_line_errors():
        plan = load_plan(config, None, {"edge_spool_dir": spool})
    folder, token = plan.settings.edge_spool_dir, plan.settings.edge_page_token.get_secret_value()
    if watch and not as_json:
        return _watch(folder, token)
    try:
        document = ask(folder, token)
    except NoAnswer as reason:
        left = waiting_in(folder)
        if as_json:
            print_json({"running": False, "reason": str(reason), **left})
        else:
            messages.print(f"[bold red]{escape(str(reason))}[/]", highlight=False)
            console.print(f"{left['waiting']} crops wait in the spool {folder} ({size(left['waiting_bytes'])})")
        raise typer.Exit(1) from None
    if as_json:
        print_json({"running": True, **document})
    else:
        for part in render(document):
            console.print(part)
    if not document["health"]["ok"]:
        raise typer.Exit(1)
    return None


def ask(spool: Path, token: str) -> dict[str, Any]:
    """Asks the gateway of a spool for its status.

    Raises:
        NoAnswer: with the reason.
    """
    import requests

    from edge_uploader.status import RunningGateway

    found = RunningGateway.read(spool)
    if found is None:
        raise NoAnswer("no gateway runs with this spool, or it has no page (page.port is 0)")
    if not _lives(found.pid):
        raise NoAnswer(f"the gateway has ended without tidying up (process {found.pid} is gone)")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    try:
        with requests.Session() as session:
            session.trust_env = False  # no proxy between this machine and itself
            answer = session.get(f"{found.url}/api/status", headers=headers, timeout=_TIMEOUT_S, allow_redirects=False)
    except requests.RequestException as error:
        raise NoAnswer(f"the gateway (process {found.pid}) does not answer: {type(error).__name__}") from error
    if answer.status_code == 401:
        raise NoAnswer("the gateway's page asks for its token: name its file with --config")
    try:
        if answer.status_code != 200 or len(answer.content) > _MAX_BYTES:
            raise ValueError
        document: dict[str, Any] = answer.json()
        document["cameras"], document["health"]["ok"], document["spool"]  # noqa: B018  (must be there)
    except (ValueError, KeyError, TypeError) as error:
        raise NoAnswer(f"what answers at {found.url} is no gateway") from error
    return document


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # another user's
    return True


def waiting_in(spool: Path) -> dict[str, int]:
    """What waits in a spool, seen from outside."""
    sizes = []
    for path in (spool / "ready").glob("*"):
        try:
            sizes.append(path.stat().st_size)
        except OSError:
            continue  # sent in this moment
    return {"waiting": len(sizes), "waiting_bytes": sum(sizes)}


def _watch(spool: Path, token: str) -> None:
    with Live(console=console, auto_refresh=False, screen=False) as live:
        while True:
            try:
                grid = Table.grid()
                for part in render(ask(spool, token)):
                    grid.add_row(part)
                live.update(grid, refresh=True)
            except NoAnswer as reason:
                live.update(Text(str(reason), style="bold red"), refresh=True)
            try:
                time.sleep(_EVERY_S)
            except KeyboardInterrupt:
                return


def render(document: dict[str, Any]) -> list[Table | Text]:
    """The status as it is printed: cameras, then what is said of each, then spool, upload and budget."""
    table = Table(
        title=f"site {escape(str(document['site']))}", title_justify="left", width=_SHOWN_WIDTH, padding=(0, 1)
    )
    table.add_column("camera", overflow="fold", ratio=1)
    table.add_column("state", no_wrap=True)
    table.add_column("fps", justify="right", no_wrap=True)
    for heading in ("dropped", "tracks", "crops", "usable"):
        table.add_column(heading, justify="right", no_wrap=True)
    for camera in document["cameras"]:
        word, style = state_of(camera)
        table.add_row(
            escape(str(camera["camera"])),
            f"[{style}]{escape(word)}[/]",
            f"{camera['worked_on_fps']:g}/{camera['grabbed_fps']:g}",
            _count(camera["frames_dropped"]),
            _count(camera["tracks"]),
            _count(camera["crops"]),
            usable_share(camera),
        )
    table.caption = "fps: worked on / given by the camera"
    lines = [line for camera in document["cameras"] for line in _lines(camera)]
    lines += [Text(f"! {problem}", style="bold red") for problem in document["health"]["problems"]]
    return [table, *lines, *_delivery(document)]


def state_of(camera: dict[str, Any]) -> tuple[str, str]:
    """A word for a camera's state, and its style."""
    picture = camera.get("picture", "ok")
    if camera.get("stuck"):
        return "stuck", "bold red"
    if camera["state"] == "failed":
        return "failed", "bold red"
    if camera["error"]:
        return "no picture", "bold red"
    if isinstance(picture, str) and picture not in {"ok", "unknown"}:
        return picture.replace("_", " "), "yellow"
    return str(camera["state"]), "green" if camera["state"] == "running" else "dim"


def usable_share(camera: dict[str, Any]) -> str:
    """Share of the faces that could be recognised, when the gateway tells."""
    good = camera.get("usable")
    total = (good or 0) + sum((camera.get("unusable") or {}).values())
    return f"{100 * good / total:.0f} %" if isinstance(good, int) and total else "–"


def _lines(camera: dict[str, Any]) -> list[Text]:
    found = []
    name = str(camera["camera"])
    if camera["error"]:
        found.append(Text(f"{name}: {camera['error']}", style="red"))
    causes = sorted((camera.get("unusable") or {}).items(), key=lambda item: -item[1])[:3]
    if causes:
        told = ", ".join(f"{cause.replace('_', ' ')} {_count(count)}" for cause, count in causes)
        found.append(Text(f"{name}: not usable: {told}", style="dim"))
    if events := camera.get("events"):
        last = events[-1]
        at = str(last.get("at", ""))[:19].replace("T", " ")
        found.append(Text(f"{name}: last event: {last.get('kind', '')} {last.get('phase', '')}, {at}", style="dim"))
    return found


def _delivery(document: dict[str, Any]) -> list[Text]:
    from edge_uploader.metering import dropped

    spool, uploads, rate = document["spool"], document["uploads"], document["upload_rate"]
    depth = (
        f"spool   {document['waiting']:,} waiting, {size(document['waiting_bytes'])} of {size(document['limit_bytes'])}"
    )
    if document["waiting"] and isinstance(spool.get("oldest_s"), int | float):
        depth += f", oldest {span(spool['oldest_s'])}"
    if lost := dropped(spool):
        depth += f", {lost:,} dropped"
    sent = f"upload  {uploads['uploaded']:,} sent, {size(uploads['bytes_uploaded'])}"
    sent += f", {rate['crops_per_minute']:g} a minute"
    if uploads["refused"]:
        sent += f", {uploads['refused']:,} refused"
    lines = [Text(depth), Text(sent)]
    if trouble := uploads["trouble"]:
        lines.append(Text(f"        {TROUBLES[trouble]}; crops wait", style="red"))
    if budget := document.get("budget"):
        lines.append(Text(f"budget  {budget_line(budget)}"))
    return lines


def budget_line(budget: dict[str, Any]) -> str:
    """The budget in a line."""
    parts = []
    if budget.get("hour_limit_bytes"):
        parts.append(f"{size(budget['hour_bytes'])} of {size(budget['hour_limit_bytes'])} this hour")
    if budget.get("month_limit"):
        parts.append(f"{budget['month_spent']:.2f} of {budget['month_limit']:.2f} this month")
    if budget.get("held_back"):
        parts.append(f"{budget['held_back']:,} held back")
    return ", ".join(parts) or "no limit"


def _count(value: int) -> str:
    """Short enough for a column: 12,345 → 12k."""
    for limit, unit in ((10_000_000, "M"), (10_000, "k")):
        if value >= limit:
            return f"{value // (1_000_000 if unit == 'M' else 1_000)}{unit}"
    return str(value)
