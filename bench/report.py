"""What every benchmark's report has in common: the machine, the versions, the time, and where it is written."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from shared import __version__
from shared.domain import format_time
from shared.errors import FacerelayError

OUTPUT = Path("build/bench")
console = Console()


def run(main: Callable[[], None]) -> None:
    """Runs a benchmark's `main`; our own errors end it with one line."""
    try:
        main()
    except FacerelayError as error:
        raise SystemExit(f"error: {error}") from error


def cpu_model() -> str:
    """The processor's name, as the kernel tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def write_report(name: str, figures: dict[str, Any]) -> Path:
    """Writes `build/bench/{name}.json` and returns its path."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    packages = ("numpy", "onnxruntime", "opencv-python-headless", "scikit-learn")
    facts = {
        "machine": {"cpu": cpu_model(), "cores": os.cpu_count(), "system": platform.platform()},
        "versions": {"facerelay": __version__, "python": platform.python_version()} | {p: version(p) for p in packages},
        "time": format_time(datetime.now(UTC)),
    }
    path = OUTPUT / f"{name}.json"
    path.write_text(json.dumps(figures | facts, indent=2) + "\n")
    console.print(f"report: {path}")
    return path


def print_figures(title: str, rows: Sequence[tuple[str, ...]], columns: tuple[str, ...]) -> None:
    """A table of figures."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column, justify="left" if column == columns[0] else "right")
    for row in rows:
        table.add_row(*row)
    console.print(table)
