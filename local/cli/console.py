"""What all commands share: one console for people, one way to answer programs, one way to fail."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any, NoReturn

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from shared.errors import FacerelayError

console = Console()
"""Answers. Tables fit the terminal."""

messages = Console(stderr=True)
"""Progress, hints and errors, so that `--json` output stays clean."""

COPIED = frozenset({"id", "time (UTC)"})
"""Columns of tables that are never broken: what stands in them is there to be copied."""

Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs instead of a table.")]


def fail(message: str, *, hint: str | None = None) -> NoReturn:
    """Ends the command with one clear line, and what to do next."""
    messages.print(f"[bold red]error:[/] {escape(message)}", highlight=False)
    if hint:
        messages.print(f"[dim]→ {escape(hint)}[/]", highlight=False)
    raise typer.Exit(1)


@contextmanager
def clear_errors() -> Iterator[None]:
    """Turns our own errors into one line instead of a traceback."""
    try:
        yield
    except FacerelayError as error:
        fail(str(error))
    except ValidationError as error:
        if error.title not in ("Settings", "EdgeSettings"):
            raise
        told = (f"FACERELAY_{'.'.join(map(str, e['loc'])).upper()}: {e['msg']}" for e in error.errors())
        fail("; ".join(told), hint="docs/settings.md and docs/edge.md describe every setting")


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    json.dump(document, sys.stdout, indent=2, ensure_ascii=False)
    sys.stdout.write("\n")


def print_table(title: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """A table, or a line that says there is nothing to show."""
    if not rows:
        console.print(f"{title}: none")
        return
    table = Table(title=title, title_justify="left", header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold", no_wrap=column in COPIED)
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    console.print(table)


@contextmanager
def progress(what: str, total: int | None) -> Iterator[Progress]:
    """A progress bar on standard error; call `advance(progress.task_ids[0])`."""
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=messages, transient=True) as bar:
        bar.add_task(what, total=total)
        yield bar
