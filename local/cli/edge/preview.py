"""`facerelay edge preview`: pictures of what a gateway would see and send, to set up a camera's place."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape

from local.cli.console import Json, console, messages, print_json
from local.cli.edge.common import (
    Cameras,
    Config,
    Fps,
    MaxSize,
    MinSize,
    load_plan,
    need_cameras,
    one_line_errors,
    quiet_opencv,
    size,
)


def preview(
    out: Annotated[Path, typer.Option(help="Folder for pictures, video and crops. They show faces.")],
    config: Config = None,
    camera: Cameras = None,
    seconds: Annotated[float, typer.Option(min=1, max=3_600, help="How long to look.")] = 20.0,
    fps: Fps = None,
    min_size: MinSize = None,
    max_size: MaxSize = None,
    as_json: Json = False,
) -> None:
    """Writes what the gateway sees and would send, and says whether the camera's place is good. Sends nothing."""
    options = {"edge_fps": fps, "edge_min_face_px": min_size, "edge_max_face_px": max_size}
    with one_line_errors():
        from local.edge_preview import preview as look_at

        quiet_opencv()
        plan = load_plan(config, camera, options)
        need_cameras(plan)
        with messages.status(f"looking for {seconds:g} s…"):
            looks, report = look_at(plan.settings, plan.cameras, plan.own, out, seconds=seconds)
    failed = [stats for stats in report.cameras if stats.state == "failed"]
    if as_json:
        states = [{"state": stats.state, "error": stats.error} for stats in report.cameras]
        print_json([look.to_json() | state for look, state in zip(looks, states, strict=True)])
    else:
        for look, stats in zip(looks, report.cameras, strict=True):
            width, height = look.frame_size
            told = f"{width}×{height}, {stats.tracks} tracks, {stats.crops} crops of {size(stats.bytes)} would be sent"
            console.print(f"[bold]{escape(look.camera)}[/]: {told}", highlight=False)
            for line in ([stats.error] if stats.error else []) + look.to_json()["verdict"]:
                console.print(f"  {escape(line)}", highlight=False)
        console.print(f"pictures, video and crops: {escape(str(out))}", highlight=False)
    if failed:
        raise typer.Exit(1)
