"""`facerelay bandwidth`: the thesis' tables for a user's own videos."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Table

from local.cli.console import Json, clear_errors, console, messages, print_json, progress
from local.cli.edge.common import quiet_opencv
from shared.errors import InvalidInput

if TYPE_CHECKING:  # the gateway and OpenCV are imported by the command alone
    from local.bandwidth.arithmetic import Tariff
    from local.bandwidth.report import BandwidthReport

_STEPS = 1_000


def bandwidth(
    videos: Annotated[list[Path], typer.Argument(help="Video files; several give a table.")],
    camera_mbps: Annotated[
        float, typer.Option("--camera-mbps", min=0.01, max=1_000, help="Bitrate of the camera that is compared with.")
    ] = 4.0,
    hours: Annotated[
        float, typer.Option("--hours", min=0.01, max=24, help="Hours a day in which it is like in the video.")
    ] = 24.0,
    price_per_gb: Annotated[
        float | None, typer.Option("--price-per-gb", min=0, help="What a gigabyte costs, in any currency.")
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write a picture; of several videos, one each with its name added.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What the gateway would send of a video, beside every face of every frame, and beside the video itself.

    Works offline: nothing is sent anywhere. The gateway's own settings apply (docs/edge.md).
    """
    from local.bandwidth.arithmetic import Tariff

    with clear_errors():
        reports = _measure(videos, Tariff(camera_mbps, hours, price_per_gb))
        if plot is not None:
            _plot(reports, plot)
    if as_json:
        return print_json([report.to_json() for report in reports])
    for report in reports:
        console.print(_table(report))
    if len(reports) > 1:
        console.print(_summary(reports))
    for note in dict.fromkeys(note for report in reports for note in report.notes):
        messages.print(f"[yellow]note:[/] {escape(note)}", highlight=False)
    return None


def _measure(videos: list[Path], tariff: Tariff) -> list[BandwidthReport]:
    from edge_uploader.settings import EdgeSettings
    from local.bandwidth.measure import measure, probe
    from local.bandwidth.report import EVERY_FACE

    quiet_opencv()
    for path in videos:
        probe(path)  # all of them first: who waits for the first should not learn then that the second is missing
    reports, settings = [], EdgeSettings()
    with progress("", 2 * _STEPS * len(videos)) as bar:
        for number, path in enumerate(videos):

            def show(policy: str, share: float, number: int = number, name: str = path.name) -> None:
                done = 2 * number + (policy != EVERY_FACE) + share
                bar.update(bar.task_ids[0], description=escape(f"{name}, {policy}"), completed=round(done * _STEPS))

            reports.append(measure(path, settings, tariff, on_frame=show))
    return reports


def _plot(reports: list[BandwidthReport], path: Path) -> None:
    from local.bandwidth.plot import save_plot

    names = [Path(report.video.name).stem for report in reports]
    if len(reports) > 1 and len(set(names)) < len(names):
        raise InvalidInput("two videos have the same name; their pictures would be one")
    for report, name in zip(reports, names, strict=True):
        target = path if len(reports) == 1 else path.with_name(f"{path.stem}-{name}{path.suffix}")
        save_plot(report, target)
        messages.print(f"wrote {target}", highlight=False)


def _table(report: BandwidthReport) -> Table:
    """The thesis' tables 6 to 8 in one, a column for each policy."""
    document = report.to_json()
    video, camera = document["video"], document["camera"]
    title = (
        f"{video['name']}: {video['width_px']}x{video['height_px']}, {video['length_s']:.0f} s, "
        f"{_size(video['file_bytes'])}, {document['density']} density"
    )
    table = Table("", title=escape(title), title_justify="left", header_style="bold")
    for policy in document["policies"]:
        table.add_column(f"{policy['policy']}, {policy['fps']:g} fps", justify="right")
    sections = (_crops_rows(document), _network_rows(document), _month_rows(document, camera))
    for rows in sections:
        for heading, *cells in rows:
            table.add_row(heading, *cells)
        table.add_section()
    table.caption = (
        f"a camera of {camera['mbps']:g} Mbps sends {_size(camera['bytes'])} in that time, {camera['gb_a_month']:,.0f} "
        f"GB a month; sending every face is usually {document['expected_reduction']} less at this density"
    )
    return table


def _row(document: dict[str, Any], heading: str, key: str, form: str) -> list[str]:
    values = [policy[key] for policy in document["policies"]]
    return [heading, *("–" if value is None else form.format(value) for value in values)]


def _sizes(document: dict[str, Any], heading: str, key: str) -> list[str]:
    return [heading, *("–" if (value := policy[key]) is None else _size(value) for policy in document["policies"])]


def _crops_rows(document: dict[str, Any]) -> list[list[str]]:
    return [
        _row(document, "people followed", "people", "{:,}"),
        _row(document, "face images", "faces", "{:,}"),
        _row(document, "face images a minute", "faces_per_minute", "{:,.1f}"),
        _sizes(document, "image files", "image_bytes"),
        _sizes(document, "average image file", "average_image_bytes"),
        _row(document, "average image height", "average_height_px", "{:.0f} px"),
        _row(document, "average image width", "average_width_px", "{:.0f} px"),
        _row(document, "average image size", "average_image_px", "{:,.0f} px"),
    ]


def _network_rows(document: dict[str, Any]) -> list[list[str]]:
    return [
        _row(document, "network packets", "network_packets", "{:,}"),
        _sizes(document, "on the network", "network_bytes"),
        _sizes(document, "an image on the network", "average_network_bytes"),
        _row(document, "overhead", "overhead", "{:.0%}"),
        _row(document, "average bitrate", "network_mbps", "{:.4f} Mbps"),
    ]


def _month_rows(document: dict[str, Any], camera: dict[str, Any]) -> list[list[str]]:
    hours = "" if document["hours_a_day"] == 24 else f" of {document['hours_a_day']:g} h days"
    rows = [
        _row(document, f"less than a {camera['mbps']:g} Mbps camera", "reduction_against_camera", "{:,.1f}×"),
        ["against this file", *(_against(policy["reduction_against_file"]) for policy in document["policies"])],
        _row(document, f"a month{hours}", "gb_a_month", "{:,.2f} GB"),
    ]
    if document["price_per_gb"] is not None:
        heading = f"costs a month (camera: {camera['cost_a_month']:,.2f})"
        rows.append(_row(document, heading, "cost_a_month", "{:,.2f}"))
    return rows


def _against(reduction: float | None) -> str:
    """
    >>> _against(3.14), _against(0.5), _against(None)
    ('3.1× less', '2.0× more', '–')
    """
    if reduction is None:
        return "–"
    return f"{reduction:,.1f}× less" if reduction >= 1 or not reduction else f"{1 / reduction:,.1f}× more"


def _summary(reports: list[BandwidthReport]) -> Table:
    """A line for each video."""
    table = Table(title="All", title_justify="left", header_style="bold")
    table.add_column("video", overflow="fold")
    table.add_column("density", no_wrap=True)
    for heading in ("faces/min", "every face", "best shots", "GB a month"):
        table.add_column(heading, justify="right")
    for report in reports:
        document = report.to_json()
        seed, ours = document["policies"]
        table.add_row(
            escape(report.video.name),
            document["density"],
            f"{seed['faces_per_minute']:,.1f}",
            *(_factor(policy["reduction_against_camera"]) for policy in (seed, ours)),
            f"{ours['gb_a_month']:,.2f}",
        )
    table.caption = f"reduction against {reports[0].tariff.camera_mbps:g} Mbps; GB a month of the best shots"
    return table


def _factor(value: float | None) -> str:
    return "–" if value is None else f"{value:,.1f}×"


def _size(size_bytes: float) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6)):
        if size_bytes >= size:
            return f"{size_bytes / size:.2f} {unit}"
    return f"{size_bytes / 1e3:.2f} kB"
