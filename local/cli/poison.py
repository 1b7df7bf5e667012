"""`facerelay poison list|replay|drop`: what was given up after too many failures, on either backend."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from local.cli.console import Json, clear_errors, console, print_json, print_table

if TYPE_CHECKING:
    from local.host.poison import PoisonQueues

app = typer.Typer(no_args_is_help=True, help="Messages that failed too often: list, replay, drop.")

Ids = Annotated[list[str] | None, typer.Argument(help="Ids from the list; all when none is given.")]


@app.command("list")
def list_(as_json: Json = False) -> None:
    """What was given up, and why."""
    with clear_errors():
        found = _queues().list()
    if as_json:
        return print_json(
            [
                {
                    "id": m.id,
                    "queue": m.queue,
                    "function": m.function,
                    "reason": m.reason,
                    "failed_at": m.failed_at.isoformat(),
                    "body": m.body,
                }
                for m in found
            ]
        )
    rows = [
        (m.id, m.function or m.queue, m.dequeue_count or "?", m.failed_at.isoformat(timespec="seconds"), m.reason)
        for m in found
    ]
    return print_table("Given up", ["id", "function", "tries", "at", "why"], rows)


@app.command()
def replay(ids: Ids = None) -> None:
    """Try them again, from the first."""
    with clear_errors():
        console.print(f"{_queues().replay(ids or None)} sent back to their queues")


@app.command()
def drop(ids: Ids = None, everything: Annotated[bool, typer.Option("--all", help="Drop all of them.")] = False) -> None:
    """Delete them for good."""
    if not ids and not everything:
        raise typer.BadParameter("give ids, or --all")
    with clear_errors():
        console.print(f"{_queues().drop(ids or None)} dropped")


def _queues() -> PoisonQueues:
    from local.host.backend import open_notes
    from local.host.poison import PoisonQueues
    from shared.bootstrap import open_work_queue
    from shared.settings import Settings

    settings = Settings()
    return PoisonQueues(open_work_queue(settings), open_notes(settings))
