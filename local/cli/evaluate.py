"""`facerelay evaluate`: how well people are told apart, and from strangers, on somebody's own photographs."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from local.cli.console import Json, clear_errors, console, fail, messages, print_json, print_table

Folder = typer.Option(file_okay=False)


def evaluate(
    gallery: Annotated[Path, typer.Option(help="Photographs to enrol: DIR/{person}/*.jpg.")],
    probes: Annotated[
        Path | None,
        typer.Option(help="Photographs to search for: DIR/{person}/*.jpg; who is not enrolled is a stranger."),
    ] = None,
    strangers: Annotated[Path | None, typer.Option(help="Photographs of strangers, unsorted.")] = None,
    split: Annotated[
        int | None,
        typer.Option(min=1, max=100, help="Instead of --probes: enrol so many of each person, search for the others."),
    ] = None,
    pack: Annotated[str | None, typer.Option(help="Detector and embedder; by default FACERELAY_PACK's.")] = None,
    target_fpir: Annotated[
        float | None,
        typer.Option(help="Share of strangers that may be named, as 0.01; by default FACERELAY_TARGET_FPIR's."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the page; it will hold faces.")] = Path("build/evaluation"),
    seed: Annotated[int, typer.Option(min=0, help="Of what is drawn by chance.")] = 0,
    as_json: Json = False,
) -> None:
    """Measure recognition on your own photographs: a page with a verdict, curves and confusions. Nothing is sent."""
    if probes is not None and split is not None:
        fail("--split divides the gallery's photographs, so it goes without --probes")
    with clear_errors(), _tidy_when_stopped():
        outcome = _run(gallery, probes, strangers, split, pack, target_fpir, output, seed)
    if as_json:
        return print_json(outcome.report)
    return _show(outcome.report, outcome.page)


@contextmanager
def _tidy_when_stopped() -> Iterator[None]:
    """SIGTERM ends the command as Ctrl-C does: what was enrolled for the trial is deleted first."""
    before = signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _run(
    gallery: Path,
    probes: Path | None,
    strangers: Path | None,
    split: int | None,
    pack: str | None,
    target_fpir: float | None,
    output: Path,
    seed: int,
) -> Any:
    from local.evaluation.photographs import read_plan, split_plan
    from local.evaluation.run import evaluate as run
    from shared.settings import Settings

    given = {"pack": pack, "target_fpir": target_fpir}
    settings = Settings(**{name: value for name, value in given.items() if value is not None})  # type: ignore[arg-type]
    if split is not None:
        plan = split_plan(gallery, split, strangers, seed=seed)
    else:
        plan = read_plan(gallery, probes, strangers)
    return run(plan, settings, output, messages, seed=seed)


def _show(report: dict[str, Any], page: Path) -> None:
    for sentence in report["verdict"]["said"]:
        console.print(sentence, highlight=False, markup=False)
    print_table("What to do next", ["", ""], [(n, step) for n, step in enumerate(report["verdict"]["next"], 1)])
    console.print(f"the page: {page} (it shows faces and names: for your eyes only)", highlight=False, markup=False)
