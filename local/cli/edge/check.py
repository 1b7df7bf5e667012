"""`facerelay edge check`: whether a gateway would work, tried out."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from edge_uploader.settings import EdgeSettings
from local.cli.console import Json, console, messages, print_json
from local.cli.edge.common import Cameras, Config, load_plan, one_line_errors, open_store, quiet_opencv

_MARKS = {True: "[bold green]✓[/]", False: "[bold red]✗[/]", None: "[yellow]–[/]"}


def check(
    config: Config = None,
    camera: Cameras = None,
    timeout_s: Annotated[float, typer.Option("--timeout", min=1, max=300, help="Seconds for each camera.")] = 20.0,
    schema: Annotated[
        bool, typer.Option("--schema", help="Print the file's JSON schema, for editors, and end.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Validates the file, then tries cameras, weights, spool, store and page. Exit code 1 when something is wrong."""
    if schema:
        from edge_uploader.config.schema import json_schema

        return print_json(json_schema())
    with one_line_errors():
        from edge_uploader.config.file import FileProblems
        from local.edge_check import CameraUnderTest, Finding, run_checks
        from shared.errors import ConfigurationError

        quiet_opencv()
        try:
            plan = load_plan(config, camera, {})
        except ConfigurationError as error:
            if not as_json:
                raise
            problems = error.problems if isinstance(error, FileProblems) else [error]
            print_json({"ok": False, "checks": [Finding("file", False, str(p)).to_json() for p in problems]})
            raise typer.Exit(1) from None
        cameras = [CameraUnderTest(spec, plan.settings_of(spec.name)) for spec in plan.cameras]
        detail = str(plan.path) if plan.path else "none: settings of the environment, and defaults"
        found = [Finding("file", True, detail)]
        with messages.status("trying cameras and connections…"):
            found += run_checks(plan.settings, cameras, open_store, deadline_s=timeout_s)
    failed = [finding for finding in found if finding.ok is False]
    if as_json:
        checks = [finding.to_json() for finding in found]
        print_json({"ok": not failed, "checks": checks, "page": _page(plan.settings)})
    else:
        table = Table(box=None, pad_edge=False, show_header=False)
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold", max_width=24)
        table.add_column(overflow="fold")
        for finding in found:
            todo = f"\n[bold]→ {escape(finding.todo)}[/]" if finding.todo and not finding.ok else ""
            table.add_row(_MARKS[finding.ok], escape(finding.what), escape(finding.detail) + todo)
        console.print(table)
    if failed:
        raise typer.Exit(1)
    return None


def _page(settings: EdgeSettings) -> str | None:
    """Where this machine reaches the live page of a gateway with these settings, which may not run yet."""
    if not settings.edge_page_port:
        return None
    from local.edge_page.server import reached

    return f"http://{reached(settings.edge_page_address)}:{settings.edge_page_port}"
