"""`facerelay edge run` and `facerelay extract`: the gateway on the command line."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from edge_uploader.settings import EdgeSettings
from local.cli.console import Json, clear_errors, console, fail, messages, print_json
from local.logs import LogFormat, configure_logging
from shared.domain import parse_moment

if TYPE_CHECKING:  # OpenCV and SciPy are imported by the commands alone: every `facerelay --help` imports this
    from edge_uploader.camera import CameraStats
    from edge_uploader.gateway import Gateway, GatewayReport
    from shared.ports import BlobStore

app = typer.Typer(no_args_is_help=True, help="The edge gateway: cameras in, best face crops out.")
_ONCE_GIVE_UP_S = 15.0
_STATE_STYLE = {"running": "green", "failed": "bold red", "finished": "dim", "waiting": "yellow"}

Fps = Annotated[float | None, typer.Option("--fps", "--target-fps", help="Frames looked at each second; 0: all.")]
SkipFrames = Annotated[int | None, typer.Option(help="Frames passed over after each one looked at.")]
MinSize = Annotated[int | None, typer.Option(help="Discard faces smaller than this (px) on the long axis.")]
MaxSize = Annotated[int | None, typer.Option(help="Scale down faces larger than this (px) on the long axis.")]


@app.callback()
def _edge() -> None:
    """Keeps `run` a command of its own: Typer would fold an app with one command."""


@app.command()
def run(
    camera: Annotated[
        list[str],
        typer.Option(help="NAME=SOURCE or NAME@LOCATION=SOURCE: video, folder, URL, webcam index. Repeat it."),
    ],
    site: Annotated[str | None, typer.Option(help="Id of the site.")] = None,
    location: Annotated[str | None, typer.Option(help="Where cameras are that do not say.")] = None,
    fps: Fps = None,
    skip_frames: SkipFrames = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    every_frame: Annotated[
        bool, typer.Option("--every-frame", help="Send every face of every frame; no tracker.")
    ] = False,
    annotate: Annotated[
        Path | None, typer.Option(help="Write annotated frames, video and crops to this folder.")
    ] = None,
    start: Annotated[str | None, typer.Option(help="When the recordings began: a date (UTC), or RFC 3339.")] = None,
    once: Annotated[
        bool | None,
        typer.Option("--once/--loop", help="Once: end when a stream stays away. Loop: replay files as live cameras."),
    ] = None,
    spool: Annotated[Path | None, typer.Option(help="Folder of the spool.")] = None,
    metrics_port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Metrics for Prometheus, at this port of 127.0.0.1.")
    ] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Log everything to standard error; without it, warnings alone.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Reads cameras and sends the best crops of each face. Exit code 1 when a camera failed."""
    with _one_line_errors():
        from edge_uploader.camera import CameraSpec
        from edge_uploader.gateway import build_gateway
        from shared.bootstrap import start_telemetry

        _quiet_opencv()
        if log_format is not None:
            configure_logging("info", log_format)

        settings = _settings(
            edge_site=site,
            edge_location=location,
            edge_fps=fps,
            edge_skip_frames=skip_frames,
            edge_min_face_px=min_size,
            edge_max_face_px=max_size,
            edge_every_frame=every_frame or None,
            edge_spool_dir=spool,
            edge_stream_give_up_s=_ONCE_GIVE_UP_S if once else None,
        )
        gateway = build_gateway(
            settings,
            [CameraSpec.parse(text) for text in camera],
            _store(settings),
            annotate=annotate,
            loop=once is False,
            start=_time(start),
        )
    with _metrics(start_telemetry(settings, "facerelay-edge", prometheus=metrics_port is not None), metrics_port):
        report = _run(gateway)
    _finish(report, as_json)


def _finish(report: GatewayReport, as_json: bool) -> None:
    """Prints what was done and what went wrong."""
    if as_json:
        print_json(report.to_json())
    else:
        console.print(_table(report))
    for stats in report.cameras:
        style = "bold red" if stats.state == "failed" else "yellow"
        for line in _problems(stats):
            messages.print(f"[{style}]{escape(stats.camera)}[/]: {escape(line)}", highlight=False)
    if report.failed:
        raise typer.Exit(1)


def _run(gateway: Gateway) -> GatewayReport:
    """Runs it under a live table until its cameras end or a signal comes; a second signal ends it at once."""
    stop = threading.Event()

    def on_signal(number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(number, signal.SIG_DFL)

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if not messages.is_terminal:
            return gateway.run(stop)
        with Live(_table(gateway.report()), console=messages, refresh_per_second=4, transient=True) as live:
            return gateway.run(stop, lambda report: live.update(_table(report)))
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _metrics(page: Callable[[], bytes] | None, port: int | None) -> Iterator[None]:
    """Answers Prometheus on this machine while the gateway runs."""
    if page is None or port is None:
        yield
        return
    from local.metrics_server import serving

    with ExitStack() as stack:
        with _one_line_errors():
            url = stack.enter_context(serving(page, port))
        messages.print(f"metrics: {url}", highlight=False)
        yield


def _quiet_opencv() -> None:
    """Its warnings (a camera that is not there, a backend it tried first) are said better in our own lines."""
    from cv2.utils import logging as cv2_logging

    cv2_logging.setLogLevel(cv2_logging.LOG_LEVEL_ERROR)


def _table(report: GatewayReport) -> Table:
    table = Table(title=f"site {escape(report.site)}", caption=_caption(report), title_justify="left")
    table.add_column("camera", overflow="fold")
    table.add_column("state", no_wrap=True)
    for heading in ("frames", "faces", "tracks", "crops", "size", "frames/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for camera in report.cameras:
        style = _STATE_STYLE.get(camera.state, "")
        table.add_row(
            escape(camera.camera if camera.camera == camera.location else f"{camera.camera} @ {camera.location}"),
            f"[{style}]{camera.state}[/]" if style else camera.state,
            str(camera.frames),
            str(camera.detections),
            str(camera.tracks),
            str(camera.crops),
            _size(camera.bytes),
            str(camera.to_json()["frames_per_s"]),
        )
    return table


def _problems(camera: CameraStats) -> list[str]:
    """What an operator should know of a camera, a line each."""
    lines = [camera.error] if camera.error else []
    lines += [f"{count} images left out: {reason}" for reason, count in sorted(camera.images_unreadable.items())]
    if camera.frames_dropped:
        lines.append(f"{camera.frames_dropped} frames dropped: the detector did not keep up")
    if camera.lost:
        lines.append(f"{camera.lost} crops lost: the spool had no room when the gateway stopped")
    if camera.dropped:
        lines.append(f"{camera.dropped} crops dropped: the spool was full of more valuable ones")
    return lines


def _caption(report: GatewayReport) -> str:
    parts = [f"{report.uploads.uploaded} uploaded", _size(report.uploads.bytes_uploaded), f"{report.waiting} waiting"]
    if report.uploads.refused:
        parts.append(f"{report.uploads.refused} refused")
    if report.spool.dropped:
        parts.append(f"{report.spool.dropped} dropped")
    if report.budget is not None and report.budget.held_back:
        parts.append(f"{report.budget.held_back} held back by the budget")
    if report.uploads.unreachable:
        parts.append("the store does not answer")
    return " · ".join(parts)


def _size(size_bytes: float) -> str:
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.1f} kB"


def _time(text: str | None) -> datetime | None:
    return parse_moment(text) if text else None


def _store(settings: EdgeSettings) -> BlobStore:
    """Where crops go: through the service's grants when there is a service to ask, else straight to the store."""
    from shared.bootstrap import open_blob_store, open_upload_store

    if settings.edge_service_url:
        return open_upload_store(settings, settings.edge_service_url, settings.edge_token.get_secret_value())
    return open_blob_store(settings, repeats=False)


def _settings(**options: Any) -> EdgeSettings:
    """Settings from the environment, with the options that were given over them."""
    return EdgeSettings(**{name: value for name, value in options.items() if value is not None})


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """What is wrong in a line for the operator, settings included."""
    try:
        with clear_errors():
            yield
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, p['loc'])) or 'settings'}: {p['msg']}" for p in error.errors())
        fail(escape("; ".join(problems)), hint="docs/edge.md describes every setting")
