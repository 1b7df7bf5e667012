"""The picture of `facerelay bandwidth`: bytes over time, and faces a minute."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from local.bandwidth.arithmetic import DENSITIES, bytes_of_bitrate, upload
from local.bandwidth.report import BandwidthReport, PolicyReport
from shared.errors import InvalidInput

_COLOURS: Final = ("#e08a4f", "#1b7f4d")
_BINS: Final = 60


def save_plot(report: BandwidthReport, path: Path) -> None:
    """Writes the picture; the ending of `path` says the format.

    Raises:
        InvalidInput: it cannot be written there, or not in that format.
    """
    figure = Figure(figsize=(9, 7), dpi=130, layout="constrained")
    bytes_axes, faces_axes = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    _bytes_over_time(bytes_axes, report)
    _faces_over_time(faces_axes, report)
    figure.suptitle(f"{report.video.name}: {report.density} density", parse_math=False)  # names are anybody's
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path)
    except (OSError, ValueError) as error:
        raise InvalidInput(f"{path} cannot be written: {error}") from error


def _bytes_over_time(axes: Axes, report: BandwidthReport) -> None:
    video = report.video
    ends = np.array([0.0, video.length_s])
    times = np.linspace(0, video.length_s, 200)[1:]
    camera = bytes_of_bitrate(report.tariff.camera_mbps, 1.0)
    axes.plot(times, times * camera, color="#555555", label=f"camera at {report.tariff.camera_mbps:g} Mbps")
    own = f"this file, at {video.file_mbps:.2g} Mbps"
    axes.plot(times, times * video.file_bytes / video.length_s, color="#555555", linestyle=":", label=own)
    for policy, colour in zip(report.policies, _COLOURS, strict=True):
        at_s, total = cumulative(policy, video.length_s)
        label = f"{policy.policy} at {policy.fps:g} fps: {len(policy.sent)} crops"
        axes.step(at_s, total, where="post", color=colour, linewidth=2, label=label)
    axes.set(yscale="log", ylabel="bytes on the network, cumulative", xlim=ends)
    axes.yaxis.set_major_formatter(FuncFormatter(_readable))
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=9)


def cumulative(policy: PolicyReport, length_s: float) -> tuple[list[float], list[float]]:
    """Times of the crops in s, and the bytes on the network up to each; ends with the video."""
    at_s = [each.at_s for each in policy.sent]
    total = np.cumsum([upload(each.size_bytes).size_bytes for each in policy.sent]).tolist()
    return [*at_s, length_s], [*total, total[-1] if total else 0.0]


def _faces_over_time(axes: Axes, report: BandwidthReport) -> None:
    length_s = report.video.length_s
    bins = max(1, min(_BINS, int(length_s)))
    edges = np.linspace(0, length_s, bins + 1)
    for policy, colour in zip(report.policies, _COLOURS, strict=True):
        counts, _ = np.histogram([min(each.at_s, length_s) for each in policy.sent], edges)
        a_minute = counts / (length_s / bins) * 60
        axes.stairs(a_minute, edges, color=colour, fill=True, label=policy.policy)
    for bound, name, _ in DENSITIES[:-1]:
        axes.axhline(bound, color="#444444", linewidth=0.8, linestyle="--")
        axes.text(length_s, bound, f"↓ {name} ", ha="right", va="top", fontsize=8, color="#222222")
    axes.set(
        yscale="symlog",
        ylim=(0, 2 * max(axes.get_ylim()[1], DENSITIES[0][0])),
        ylabel="faces a minute",
        xlabel="seconds of the video",
    )
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(alpha=0.3)


def _readable(size_bytes: float, _position: int) -> str:
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if size_bytes >= size:
            return f"{size_bytes / size:g} {unit}"
    return f"{size_bytes:g} B"
