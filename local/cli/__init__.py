"""The `facerelay` command line: one module for each group of commands."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True)


def main() -> None:
    """Entry point of the `facerelay` program."""
    app()
