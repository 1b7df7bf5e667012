"""`facerelay models migrate` and `migration`: changing the embedder of a running service."""

from __future__ import annotations

import time
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskProgressColumn, TextColumn

from local.cli.console import Json, clear_errors, console, fail, messages, print_json, print_table
from local.cli.people import Token, Url
from local.client import DEFAULT_URL, Client
from shared.errors import InvalidInput

PATH = "/api/v1/models/migration"
POLL_S = 0.5
STEP_TIMEOUT_S = 300.0

WORDS = {
    "embedding": "making templates",
    "fitted": "comparing",
    "ready": "ready",
    "switched": "switched",
    "finished": "finished",
    "rolled_back": "rolled back",
    "cancelled": "cancelled",
}


def migrate(
    to: Annotated[str, typer.Option("--to", help="The pack to change to.")],
    switch: Annotated[bool, typer.Option("--switch", help="Switch at once, without a look at the comparison.")] = False,
    compare: Annotated[int, typer.Option("--compare", min=1, max=5_000, help="Most crops to compare on.")] = 500,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Until it is ready; it goes on either way.")] = True,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """Change the embedder: templates of every stored image, a model, and a comparison, while the old one answers."""
    with clear_errors():
        client = Client(url, token=token)
        state = client.call("POST", PATH, json={"to": to, "switch": switch, "compare": compare})
        if wait:
            state = _follow(client, state)
    _show(state, as_json)


def migration(
    switch: Annotated[bool, typer.Option("--switch", help="Let the new model answer.")] = False,
    rollback: Annotated[bool, typer.Option("--rollback", help="Let the old one answer again.")] = False,
    finish: Annotated[bool, typer.Option("--finish", help="Delete what the other embedder has left.")] = False,
    cancel: Annotated[bool, typer.Option("--cancel", help="Give it up before the switch.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask before deleting.")] = False,
    url: Url = DEFAULT_URL,
    token: Token = "",
    as_json: Json = False,
) -> None:
    """How the change of the embedder stands, and the next step of it."""
    flags = {"switch": switch, "rollback": rollback, "finish": finish, "cancel": cancel}
    chosen = [name for name, wanted in flags.items() if wanted]
    if len(chosen) > 1:
        fail("one step at a time: --switch, --rollback, --finish or --cancel")
    if chosen and chosen[0] in ("finish", "cancel") and not yes:
        typer.confirm("Delete the templates and models of the embedder that does not answer?", abort=True)
    with clear_errors():
        client = Client(url, token=token)
        if chosen:
            state = _follow(client, client.call("POST", f"{PATH}/{chosen[0]}", timeout_s=STEP_TIMEOUT_S))
        else:
            state = client.call("GET", PATH)
    _show(state, as_json, compared=not chosen)


def _working(state: dict[str, Any]) -> bool:
    return state["wish"] is not None or state["state"] in ("embedding", "fitted")


def _follow(client: Client, state: dict[str, Any]) -> dict[str, Any]:
    """Shows a bar until nothing is left to do that nobody has to ask for.

    Raises:
        InvalidInput: the work failed.
    """
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TaskProgressColumn())
    with Progress(*columns, console=messages, transient=True) as bar:
        task = bar.add_task("", total=1.0)
        while _working(state):
            if state["error"] and client.call("GET", f"/api/v1/jobs/{state['job_id']}")["status"] == "failed":
                raise InvalidInput(f"the migration stopped: {state['error']}")
            done = f" ({state['embedded']} of {state['images']} images)" if state["state"] == "embedding" else ""
            bar.update(task, description=f"{WORDS[state['state']]}{done}", completed=state["progress"])
            time.sleep(POLL_S)
            state = client.call("GET", PATH)
    return state


def _show(state: dict[str, Any], as_json: bool, *, compared: bool = True) -> None:
    if as_json:
        return print_json(state)
    console.print(f"{state['source']} → {state['target']}: {WORDS[state['state']]}", highlight=False, markup=False)
    console.print(f"answers now: {state['rules']}", highlight=False, markup=False)
    if state["rollback"] == "refitted":
        console.print("the earlier model had to be fitted anew, since somebody in it was removed meanwhile")
    if state["skipped"]:
        console.print(f"{state['skipped']} images have no template of {state['target']}: no face, or unreadable")
    if state["comparison"] and compared:
        _show_comparison(state["comparison"])
    if hint := _hint(state):
        messages.print(f"[dim]→ {hint}[/]", highlight=False)
    return None


def _hint(state: dict[str, Any]) -> str | None:
    if _working(state):
        return "facerelay models migration shows how far it is"
    if state["state"] == "ready":
        return "facerelay models migration --switch, or --cancel"
    if state["state"] == "switched":
        return "facerelay models migration --rollback, or --finish when all is well"
    return None


def _show_comparison(comparison: dict[str, Any]) -> None:
    rows = [
        (
            kind,
            figures["compared"],
            _percent(figures["agreement"]),
            _percent(figures["named"]["old"]),
            _percent(figures["named"]["new"]),
            figures["left_out"],
        )
        for kind, figures in (("crops", comparison["crops"]), ("enrolled images", comparison["enrolled"]))
        if figures["compared"] or figures["left_out"]
    ]
    print_table("Comparison", ["faces", "compared", "agree", "old names", "new names", "left out"], rows)
    models = comparison["models"]
    keys = [
        (part, key)
        for part in ("operating", "calibration", "evaluation")
        for key in sorted({*models["old"].get(part, {}), *models["new"].get(part, {})})
        if not any(isinstance(models[side].get(part, {}).get(key), dict | list) for side in ("old", "new"))
    ]
    facts = [(f"{p}: {k}", *(_short(models[side].get(p, {}).get(k)) for side in ("old", "new"))) for p, k in keys]
    print_table("Models", ["figure", "old", "new"], facts)
    changes = [(c["from"], c["to"], c["count"], c["of"], ", ".join(c["ids"][:3])) for c in comparison["changes"]]
    print_table("Who changes name", ["from", "to", "faces", "of", "such as"], changes)


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.1%}"


def _short(value: Any) -> str:
    return "–" if value is None else f"{value:.4g}" if isinstance(value, float) else str(value)
