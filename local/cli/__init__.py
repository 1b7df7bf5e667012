"""The `facerelay` command line: one module for each group of commands."""

from __future__ import annotations

import os

import typer

from local.cli import (
    alerts,
    edge,
    enroll,
    enroll_turn,
    gallery,
    groups,
    migration,
    models,
    people,
    poison,
    recognize,
    recognize_folder,
    token,
)
from local.cli.bandwidth import bandwidth
from local.cli.bench import bench
from local.cli.demo import demo
from local.cli.evaluate import evaluate
from local.cli.extract import extract
from local.cli.serve import serve

app = typer.Typer(
    name="facerelay",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals may hold images and embeddings
    help="Face recognition for site cameras that sends the best crops instead of the video.",
)
app.command()(demo)
app.command()(serve)
app.add_typer(models.app, name="models")
models.app.command()(migration.migrate)
models.app.command()(migration.migration)
app.add_typer(enroll.app, name="enroll")
enroll.app.command()(enroll_turn.video)
enroll.app.command()(enroll_turn.camera)
app.add_typer(gallery.app, name="gallery")
app.add_typer(recognize.app, name="recognize")
recognize.app.command()(recognize_folder.folder)
app.command()(extract)
app.command()(bandwidth)
app.command()(people.train)
app.command()(people.people)
app.command()(people.remove)
app.command()(people.whereis)
app.command()(people.detections)
app.command()(evaluate)
app.add_typer(groups.app, name="groups")
app.add_typer(edge.app, name="edge")
app.add_typer(alerts.app, name="alerts")
app.add_typer(poison.app, name="poison")
app.add_typer(token.app, name="token")
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(bench)


def main() -> None:
    """Entry point of the `facerelay` program."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")  # OpenCV warns about its own internals on standard error
    app()
