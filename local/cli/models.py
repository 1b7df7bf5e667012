"""`facerelay models`: fetch the model files, list them, verify them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn
from rich.table import Table

from local.models import Fetcher, edge_files, open_cache, parse_source_order
from shared.errors import FacerelayError, IntegrityError, ModelUnavailable
from shared.settings import Settings
from shared.vision.assets import ModelCache

app = typer.Typer(no_args_is_help=True, help="Model files: fetch, list, verify; change the embedder.")

PackOption = Annotated[str | None, typer.Option(help="Pack or manifest; the setting `pack` when not given.")]
CacheOption = Annotated[Path | None, typer.Option(help="Folder of the files; the setting `model_cache`.")]


def _open(pack: str | None, cache: Path | None) -> tuple[ModelCache, list[str], Settings]:
    settings = Settings()
    opened, names = open_cache(cache or settings.model_cache, pack or settings.pack)
    return opened, names, settings


def _fail(error: FacerelayError) -> typer.Exit:
    Console(stderr=True, soft_wrap=True).print(f"facerelay: {error}", style="red", markup=False, highlight=False)
    return typer.Exit(1)


def _chosen(cache: ModelCache, names: list[str], everything: bool, demo: bool) -> list[str]:
    listed = cache.registry.artefact.items()
    chosen = [name for name, artefact in listed if artefact.group == "model"] if everything else list(names)
    return chosen + ([name for name, artefact in listed if artefact.group == "demo"] if demo else [])


@app.command()
def fetch(
    pack: PackOption = None,
    everything: Annotated[bool, typer.Option("--all", help="Every model that is known.")] = False,
    demo: Annotated[bool, typer.Option("--demo", help="The photographs of the demo as well.")] = False,
    edge: Annotated[bool, typer.Option("--edge", help="What an edge gateway needs, and nothing else.")] = False,
    offline: Annotated[
        Path | None, typer.Option("--from", help="Folder with the archives or files; no network is used.")
    ] = None,
    cache: CacheOption = None,
) -> None:
    """Brings the files that the pack and the edge gateway need into the cache. A second run has nothing to do."""
    failed = False
    try:
        opened, names, settings = _open(pack, cache)
        chosen = edge_files(opened) if edge else _chosen(opened, names, everything, demo)
        missing = opened.missing(chosen)
        if not missing:
            Console().print(f"{len(chosen)} files are in {opened.directory}", highlight=False, soft_wrap=True)
            return
        order = parse_source_order(settings.model_sources)
        columns = (TextColumn("{task.description:<16}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
        with (
            Progress(*columns) as progress,
            Fetcher(opened, order=order, offline=offline, progress=progress) as fetcher,
        ):
            for name in missing:
                try:
                    fetcher.fetch(name)
                except FacerelayError as error:
                    if not everything:
                        raise
                    failed = True  # of all there are, the others are still of use
                    _fail(error)
    except FacerelayError as error:
        raise _fail(error) from error
    if failed:
        raise typer.Exit(1)


@app.command("list")
def list_models(
    pack: PackOption = None,
    cache: CacheOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="JSON instead of a table.")] = False,
) -> None:
    """What is known, what is needed, and what is there."""
    try:
        opened, names, _ = _open(pack, cache)
    except FacerelayError as error:
        raise _fail(error) from error
    rows = [
        {
            "name": name,
            "file": str(opened.location(name)),
            "bytes": artefact.bytes,
            "licence": artefact.licence,
            "provenance": artefact.provenance,
            "needed": name in names,
            "present": opened.location(name).is_file(),
        }
        for name, artefact in opened.registry.artefact.items()
    ]
    if as_json:
        typer.echo(json.dumps({"cache": str(opened.directory), "artefacts": rows}, indent=2))
        return
    table = Table("name", "MB", "licence", "needed", "present", title=str(opened.directory))
    for row in rows:
        size = f"{row['bytes'] / 1e6:.1f}" if isinstance(row["bytes"], int) else ""
        ticks = ("yes" if row["needed"] else "", "yes" if row["present"] else "")
        table.add_row(str(row["name"]), size, str(row["licence"]), *ticks)
    Console().print(table)


@app.command()
def verify(pack: PackOption = None, cache: CacheOption = None) -> None:
    """Compares the hash of every file that is there. Ends 1 when one is wrong, or a needed one is missing."""
    try:
        opened, names, _ = _open(pack, cache)
    except FacerelayError as error:
        raise _fail(error) from error
    wrong = 0
    for name in opened.registry.artefact:
        try:
            opened.path(name)
            typer.echo(f"ok       {name}")
        except ModelUnavailable:
            if name in names:
                wrong += 1
                typer.echo(f"missing  {name}; run: facerelay models fetch")
        except IntegrityError as error:
            wrong += 1
            typer.echo(f"wrong    {error}")
    if wrong:
        raise typer.Exit(1)
