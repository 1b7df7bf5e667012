"""`facerelay edge run`: the gateway at work."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.live import Live
from rich.markup import escape
from rich.table import Table

from edge_uploader.delivery.counts import TROUBLES
from edge_uploader.systemd import Systemd
from local.cli.console import Json, console, messages, print_json
from local.cli.edge.common import (
    Cameras,
    Config,
    Fps,
    MaxSize,
    MinSize,
    SkipFrames,
    load_plan,
    need_cameras,
    one_line_errors,
    open_store,
    quiet_opencv,
    size,
)
from local.logs import LogFormat, configure_edge_logging
from shared.domain import parse_moment

if TYPE_CHECKING:  # OpenCV and SciPy are imported by the commands alone: every `facerelay --help` imports this
    from edge_uploader.camera import CameraSpec
    from edge_uploader.gateway import Gateway, GatewayReport
    from edge_uploader.settings import EdgeSettings
    from edge_uploader.stats import CameraStats
    from local.cli.edge.live import LivePage

_ONCE_GIVE_UP_S = 15.0
_STATE_STYLE = {"running": "green", "failed": "bold red", "finished": "dim", "waiting": "yellow"}


def run(
    camera: Cameras = None,
    config: Config = None,
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
    page_port: Annotated[int | None, typer.Option(min=0, max=65_535, help="Port of the live page; 0: no page.")] = None,
    log_format: Annotated[
        LogFormat | None, typer.Option(help="Log everything to standard error; without it, warnings alone.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Reads cameras and sends the best crops of each face. Exit code 1 when a camera failed."""
    options = {
        "edge_site": site,
        "edge_location": location,
        "edge_fps": fps,
        "edge_skip_frames": skip_frames,
        "edge_min_face_px": min_size,
        "edge_max_face_px": max_size,
        "edge_every_frame": every_frame or None,
        "edge_spool_dir": spool,
        "edge_stream_give_up_s": _ONCE_GIVE_UP_S if once else None,
        "edge_page_port": page_port,
        "edge_log_format": log_format,
    }
    with one_line_errors(), ExitStack() as stack:
        from edge_uploader.gateway import build_gateway
        from local.cli.edge.live import LivePage
        from shared.bootstrap import start_telemetry

        quiet_opencv()
        plan = load_plan(config, camera, options)
        need_cameras(plan)
        configure_edge_logging(plan.settings)
        page = LivePage(plan.settings, annotate)
        gateway = build_gateway(
            plan.settings,
            plan.cameras,
            open_store(plan.settings),
            observe=page.observe,
            own_settings=plan.own,
            loop=once is False,
            start=_time(start),
        )
        stack.callback(gateway.close)
        measured = metrics_port is not None or page.wanted
        metrics = start_telemetry(plan.settings, "facerelay-edge", prometheus=measured)
        stack.enter_context(_metrics(metrics, metrics_port))
        url = stack.enter_context(page.serving(gateway, metrics))
        if url:
            messages.print(f"live page: {url}", highlight=False)
        _tell_times(plan.cameras, start, looped=once is False)
        report = _run(gateway, page)
    _finish(report, as_json)
    _tell_where(plan.settings, report.uploads.uploaded)


def _tell_times(cameras: Sequence[CameraSpec], start: str | None, *, looped: bool) -> None:
    """A recording has the times that its file claims; a copied file claims those of its copying."""
    if not start and not looped and any(Path(spec.source).is_file() for spec in cameras):
        messages.print("times are those of the files' last change; --start says when the recordings began")


def _tell_where(settings: EdgeSettings, uploaded: int) -> None:
    """Where the crops went, and whether somebody works on them there."""
    if not uploaded or settings.backend != "local" or settings.edge_service_url:
        return
    from local.host.lock import is_hosted

    folder = escape(str(settings.data_dir))
    if is_hosted(settings.data_dir):
        messages.print(
            f"the service works on them in {folder}; who was seen: facerelay detections. A crop without a face that "
            "can be recognised leaves none",
            highlight=False,
        )
    else:
        messages.print(
            f"[yellow]no service works on {folder}[/]: what was uploaded waits there for "
            "`facerelay serve` with the same FACERELAY_DATA_DIR",
            highlight=False,
        )


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


def _run(gateway: Gateway, page: LivePage) -> GatewayReport:
    """Runs it under a live table until its cameras end or a signal comes; a second signal ends it at once."""
    stop = threading.Event()
    manager = Systemd(os.environ)

    def on_signal(number: int, _frame: FrameType | None) -> None:
        stop.set()
        manager.stopping()
        signal.signal(number, signal.SIG_DFL)

    def on_tick(report: GatewayReport) -> None:
        page.update(report)
        health = gateway.health()
        if health.ok:
            manager.ready()
            manager.feed(time.monotonic())
        manager.status("; ".join(health.problems) or f"{_caption(report)}, {len(report.cameras)} cameras")

    previous = {number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        if not messages.is_terminal:
            return gateway.run(stop, on_tick)
        with Live(_table(gateway.report()), console=messages, refresh_per_second=4, transient=True) as live:

            def show(report: GatewayReport) -> None:
                on_tick(report)
                live.update(_table(report))

            return gateway.run(stop, show)
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


@contextmanager
def _metrics(page: Callable[[], bytes] | None, port: int | None) -> Iterator[None]:
    """Answers Prometheus on a port of its own while the gateway runs; the live page has the same at `/metrics`."""
    if page is None or port is None:
        yield
        return
    from local.metrics_server import serving

    with serving(page, port) as url:
        messages.print(f"metrics: {url}", highlight=False)
        yield


def _table(report: GatewayReport) -> Table:
    table = Table(title=f"site {escape(report.site)}", caption=_caption(report), title_justify="left")
    table.add_column("camera", overflow="fold")
    table.add_column("state", no_wrap=True)
    for heading in ("frames", "tracks", "usable", "crops", "size", "frames/s"):
        table.add_column(heading, justify="right", no_wrap=True)
    for camera in report.cameras:
        style = _STATE_STYLE.get(camera.state, "")
        table.add_row(
            escape(camera.camera if camera.camera == camera.location else f"{camera.camera} @ {camera.location}"),
            f"[{style}]{camera.state}[/]" if style else camera.state,
            str(camera.frames),
            str(camera.tracks),
            str(camera.usable),
            str(camera.crops),
            size(camera.bytes),
            str(camera.to_json()["frames_per_s"]),
        )
    return table


def _problems(camera: CameraStats) -> list[str]:
    """What an operator should know of a camera, a line each."""
    lines = [camera.error] if camera.error else []
    lines += [f"{count} images left out: {reason}" for reason, count in sorted(camera.images_unreadable.items())]
    if camera.frames_dropped:
        lines.append(f"{camera.frames_dropped} frames dropped: the detector did not keep up")
    if camera.dropped:
        lines.append(f"{camera.dropped} crops dropped: the spool was full of more valuable ones")
    if camera.lost:
        lines.append(f"{camera.lost} crops lost: the spool had no room when the gateway stopped")
    return lines


def _caption(report: GatewayReport) -> str:
    parts = [f"{report.uploads.uploaded} uploaded", size(report.uploads.bytes_uploaded), f"{report.waiting} waiting"]
    if report.uploads.refused:
        parts.append(f"{report.uploads.refused} refused")
    if report.spool.dropped:
        parts.append(f"{report.spool.dropped} dropped")
    if report.budget is not None and report.budget.held_back:
        parts.append(f"{report.budget.held_back} held back by the budget")
    if report.uploads.trouble:
        parts.append(TROUBLES[report.uploads.trouble])
    return " · ".join(parts)


def _time(text: str | None) -> datetime | None:
    return parse_moment(text) if text else None
