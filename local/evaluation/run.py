"""From folders of photographs to a folder with the page, the pictures and the figures."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from rich.console import Console

from local.evaluation.figures import make_figures, report
from local.evaluation.page import render
from local.evaluation.pairs import make_pairs
from local.evaluation.photographs import Plan
from local.evaluation.plots import all_plots
from local.evaluation.trial import run_trial
from local.evaluation.verdict import judge
from shared import __version__
from shared.domain import format_time
from shared.errors import ConfigurationError, InvalidInput
from shared.settings import Settings
from shared.vision.detectors import Pack

PAGE: Final = "index.html"
REPORT: Final = "evaluation.json"


@dataclass(frozen=True, slots=True)
class Outcome:
    """Where the page is, and what it says."""

    page: Path
    report: dict[str, Any]


def evaluate(
    plan: Plan, settings: Settings, output: Path, console: Console, *, seed: int, pack: Pack | None = None
) -> Outcome:
    """Runs the trial and writes `index.html`, `evaluation.json` and a PNG for each picture.

    The folder is for its owner alone: it holds faces.

    Args:
        seed: of what is drawn by chance; the same photographs and seed give the same figures.
        pack: stand-ins for detector and embedder.

    Raises:
        InvalidInput: `output` holds something else, or nothing could be enrolled.
        ModelUnavailable: the weights are not there.
    """
    prepare(output)
    trial = run_trial(plan, settings, console, pack=pack)
    with console.status("drawing …"):
        figures = make_figures(trial, seed=seed)
        verdict, plots = judge(figures), all_plots(figures)
        now = datetime.now(UTC)
        document = {
            "verdict": {"light": verdict.light, "said": list(verdict.sentences), "next": list(verdict.next_steps)},
            **report(figures),
            "seed": seed,
            "facerelay": __version__,
            "time": format_time(now),
        }
        page = render(figures, verdict, plots, make_pairs(figures), now=now)
        for plot in plots:
            (output / f"{plot.name}.png").unlink(missing_ok=True)  # of an earlier run
            if plot.png is not None:
                _write(output / f"{plot.name}.png", plot.png)
        _write(output / REPORT, (json.dumps(document, indent=2, ensure_ascii=False) + "\n").encode())
        _write(output / PAGE, page.encode())
    return Outcome(output / PAGE, document)


def prepare(output: Path) -> None:
    """Makes the folder, or takes one that is empty or of an earlier evaluation; for its owner alone.

    Raises:
        InvalidInput: it holds something else.
        ConfigurationError: it cannot be made.
    """
    try:
        output.mkdir(parents=True, exist_ok=True)
        if any(output.iterdir()) and not (output / REPORT).is_file():
            raise InvalidInput(f"{output} holds something else; give --output a new folder")
        output.chmod(0o700)
    except OSError as error:
        raise ConfigurationError(f"{output} cannot be written ({error.strerror})") from error


def _write(path: Path, data: bytes) -> None:
    """For its owner alone from the first byte on."""
    with suppress(FileNotFoundError):
        path.unlink()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as sink:
        sink.write(data)
