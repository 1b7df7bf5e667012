"""`facerelay demo`: the whole system, once, on this machine, with photographs that anybody may use."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from local.cli.console import Json, clear_errors, console, messages, print_json, print_table


def demo(
    output: Annotated[Path, typer.Option(help="Folder for data, pictures and the report; emptied first.")] = Path(
        "build/demo"
    ),
    as_json: Json = False,
) -> None:
    """Fetch models, enrol people, run a composed site video through the system, and show who was seen where."""
    from local.demo import run_demo

    with clear_errors():
        report = run_demo(output, say=lambda text: messages.print(text, highlight=False))
    if as_json:
        return print_json(report)
    return _show(report, output)


def _show(report: dict[str, Any], output: Path) -> None:
    rows = [
        (d["captured_at"][11:19], d["person_id"], f"{d['confidence']:.2f}", d["location"], d["camera"])
        for d in report["sightings"]
    ]
    print_table("Who was seen", ["time (UTC)", "person", "confidence", "location", "camera"], rows)
    print_table("Last known location", ["person", "location"], sorted(report["last_known_location"].items()))
    video, sent = report["bytes_video_4mbps"], report["bytes_uploaded"]
    console.print(
        f"{report['candidates']} crops, {sent:,} bytes sent; 4 Mbps cameras would have sent {video:,} bytes: "
        f"{video / max(sent, 1):,.0f} times as much (a short, quiet video: no benchmark)",
        highlight=False,
    )
    console.print(f"contact sheet: {output / 'contact-sheet.png'}   report: {output / 'report.json'}", highlight=False)
    console.print(report["note"], style="dim", highlight=False)
