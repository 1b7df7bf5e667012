"""`facerelay edge …`: the gateway on the command line."""

from __future__ import annotations

import typer

from local.cli.edge.check import check
from local.cli.edge.init import init
from local.cli.edge.preview import preview
from local.cli.edge.run import run
from local.cli.edge.status import status

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="The edge gateway: cameras in, best face crops out.")
app.command()(init)
app.command()(check)
app.command()(preview)
app.command()(run)
app.command()(status)
