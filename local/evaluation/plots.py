"""The pictures: each a PNG of its own, drawn without any display, and each with the sentence that describes it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator, PercentFormatter

from local.evaluation.figures import Figures
from local.evaluation.intervals import wilson
from local.evaluation.metrics import histogram
from local.evaluation.verdict import counted

INK: Final = "#1b2733"
PEOPLE: Final = "#0b66a8"
STRANGERS: Final = "#c2410c"
MARK: Final = "#7c3aed"
PALE: Final = "#5b6773"
"""Told apart by people who see no red or green, and at least 4.5 : 1 on white."""


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture, or the reason why there is none.

    Attributes:
        name: file name without its ending.
        png: None where there is nothing to draw.
        alt: what it shows, for people who do not see it.
        reading: how to read it; or why it is not there.
    """

    name: str
    title: str
    png: bytes | None
    alt: str
    reading: str


def all_plots(figures: Figures) -> list[Plot]:
    """Every picture of the page, in its order."""
    return [histogram_plot(figures), det_plot(figures), cmc_plot(figures), reliability_plot(figures)]


def _draw(paint: Callable[[Axes], None], *, height: float = 4.4, legend_above: bool = False) -> bytes:
    figure = Figure(figsize=(7.2, height), dpi=144, layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(True, color="#e3e7eb", linewidth=0.8)
    axes.set_axisbelow(True)
    paint(axes)
    if legend_above:
        figure.legend(loc="outside upper center", frameon=False, fontsize=9, ncols=3)
    sink = BytesIO()
    figure.savefig(sink, format="png", metadata={"Software": None})
    return sink.getvalue()


def det_plot(figures: Figures) -> Plot:
    """FNIR over FPIR with the point in force, the target and the bootstrap band."""
    title = "Strangers named against people missed (DET)"
    strangers, people = len(figures.searches.strangers), len(figures.searches.mated)
    if not strangers or not people:
        return Plot("det", title, None, "", "It takes photographs of strangers and of enrolled people to draw this.")
    floor_x, floor_y = 0.5 / strangers, 0.5 / people
    at = figures.rates
    alt = (
        f"Curve of the share of enrolled people missed over the share of strangers named. At the threshold in force "
        f"{at.strangers_named.share:.2%} of strangers are named and {1 - at.named_rightly.share:.2%} of people missed."
    )
    reading = (
        "Each point of the curve is another threshold: further left fewer strangers are named, further down fewer "
        "enrolled people are missed. The cross is the threshold in force, its arms the 95 % intervals; the dashed line "
        "is the target. The band is the 95 % bootstrap interval, people drawn with all their photographs. What is less "
        "than one photograph is drawn at the edge."
    )
    return Plot("det", title, _draw(lambda axes: _paint_det(axes, figures, floor_x, floor_y)), alt, reading)


def _paint_det(axes: Axes, figures: Figures, floor_x: float, floor_y: float) -> None:
    curve, rates = figures.det, figures.rates
    fpirs, low, high = figures.band
    if len(fpirs):
        axes.fill_between(
            fpirs, np.maximum(low, floor_y), np.maximum(high, floor_y), color=PEOPLE, alpha=0.14, linewidth=0
        )
    axes.plot(
        np.maximum(curve.fpir, floor_x),
        np.maximum(curve.fnir, floor_y),
        color=PEOPLE,
        linewidth=1.8,
        label="every threshold",
    )
    axes.axvspan(0, 2 * floor_x, color=PALE, alpha=0.10, linewidth=0, label="less than one stranger: cannot be told")
    target = figures.trial.target_fpir
    axes.axvline(target, color=INK, linestyle="--", linewidth=1.1, label=f"target: {100 * target:g} % of strangers")
    x, y = max(rates.strangers_named.share, floor_x), max(1 - rates.named_rightly.share, floor_y)
    arms_x = [[x - min(max(rates.strangers_named.low, floor_x), x)], [max(rates.strangers_named.high, x) - x]]
    arms_y = [[y - min(max(1 - rates.named_rightly.high, floor_y), y)], [max(1 - rates.named_rightly.low, y) - y]]
    axes.errorbar(
        [x], [y], xerr=arms_x, yerr=arms_y, fmt="o", color=MARK, capsize=4, markersize=7, zorder=5, label="in force"
    )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlim(min(floor_x * 0.8, target / 2), 1.15)
    axes.set_ylim(floor_y * 0.85, 1.3)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(FuncFormatter(_percent))
        axis.set_minor_formatter(FuncFormatter(lambda value, _: ""))
    axes.set_xlabel(f"strangers named: FPIR, of {counted(len(figures.searches.strangers), 'photograph')}", color=INK)
    axes.set_ylabel(
        f"enrolled people missed: FNIR,\nof {counted(len(figures.searches.mated), 'photograph')}", color=INK
    )
    axes.legend(frameon=False, loc="best", fontsize=9)


def _percent(value: float, _: object) -> str:
    return f"{100 * value:g} %" if value <= 1 else ""


def cmc_plot(figures: Figures) -> Plot:
    """Share of searches with the right person among the first k."""
    title = "How far down the list the right person is (CMC)"
    people = len(figures.trial.model.person_ids)
    if not len(figures.searches.mated) or people < 2:
        reason = "It takes photographs of at least two enrolled people to draw this: among one there is no order."
        return Plot("cmc", title, None, "", reason)
    first, last = figures.cmc[0], figures.cmc[-1]
    alt = f"The right person is first in {first:.2%} of searches, and among the first {len(figures.cmc)} in {last:.2%}."
    reading = (
        f"Whatever the threshold: in how many photographs the right one of {people:,} people comes first, or among the "
        "first few. What a longer list does not mend are photographs without a usable face, and people who resemble "
        "others."
    )

    def paint(axes: Axes) -> None:
        ranks = np.arange(1, len(figures.cmc) + 1)
        axes.plot(ranks, figures.cmc, marker="o", markersize=4.5, color=PEOPLE, linewidth=1.6)
        rank1 = figures.rates.rank1
        arms = [[rank1.share - rank1.low], [rank1.high - rank1.share]]
        axes.errorbar([1], [rank1.share], yerr=arms, color=PEOPLE, capsize=4, linewidth=1.1)
        lowest = min(rank1.low, first)
        room = max(0.08 * (1 - lowest), 0.0005)
        axes.set_ylim(max(0.0, lowest - room), 1 + room / 2)
        axes.set_xlim(0.6, len(figures.cmc) + 0.4)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("among the first …", color=INK)
        axes.set_ylabel("of photographs", color=INK)

    return Plot("cmc", title, _draw(paint, height=3.8), alt, reading)


def histogram_plot(figures: Figures) -> Plot:
    """Similarities of people to themselves and of strangers to the nearest person, and the threshold."""
    title = "How like enrolled people, and how like strangers"
    if not len(figures.own) and not len(figures.strangers):
        return Plot("similarity", title, None, "", "No face could be used.")
    alt = (
        f"Two distributions of similarity and the threshold {figures.threshold:.3f} between them: {len(figures.own):,} "
        f"photographs of enrolled people, {len(figures.strangers):,} of strangers."
    )
    reading = (
        "Blue: how like each photograph of an enrolled person is to that person. Orange: how like each stranger is to "
        "the nearest enrolled person. Right of the line a name is given. The less the two overlap, the better."
    )

    def paint(axes: Axes) -> None:
        edges, own, strangers = histogram(figures.own, figures.strangers)
        for shares, count, colour, what in (
            (strangers, len(figures.strangers), STRANGERS, "strangers"),
            (own, len(figures.own), PEOPLE, "enrolled people"),
        ):
            if count:
                axes.stairs(shares, edges, fill=True, color=colour, alpha=0.28)
                axes.stairs(
                    shares, edges, color=colour, linewidth=1.5, label=f"{what} ({counted(count, 'photograph')})"
                )
        axes.axvline(figures.threshold, color=MARK, linewidth=1.6, label=f"threshold {figures.threshold:.3f}")
        axes.set_ylim(0, None)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.set_xlabel("similarity", color=INK)
        axes.set_ylabel("of photographs", color=INK)

    return Plot("similarity", title, _draw(paint, legend_above=True), alt, reading)


def reliability_plot(figures: Figures) -> Plot:
    """Share of answers that are right over their confidence, and how many answers there are."""
    title = "Whether “confidence” can be taken at its word"
    found = figures.reliability
    if not found.count.sum():
        return Plot("reliability", title, None, "", "No face could be used.")
    rows = zip(found.confidence, found.right, found.count, strict=True)
    told = [f"of {n:,} answers around {c:.2f}, {r:.0%} right" for c, r, n in rows if n]
    alt = "Share of answers that are right by confidence: " + "; ".join(told) + "."
    reading = (
        "On the diagonal, answers with a confidence of 0.9 are right nine times in ten; above it the system is more "
        "cautious than it need be, below it too sure. Bars are 95 % intervals (Wilson), numbers are photographs. "
        "Nine of ten faces count as strangers', as confidence is meant. Mean distance from the diagonal (ECE): "
        f"{found.ece:.3f}."
    )
    return Plot("reliability", title, _draw(lambda axes: _paint_reliability(axes, figures)), alt, reading)


def _paint_reliability(axes: Axes, figures: Figures) -> None:
    found = figures.reliability
    axes.plot([0, 1], [0, 1], color=PALE, linestyle="--", linewidth=1.1, label="as promised")
    filled = found.count > 0
    x, y, count = found.confidence[filled], found.right[filled], found.count[filled]
    limits = [wilson(share * n, n) for share, n in zip(y, count, strict=True)]
    arms = np.array([[max(s - low, 0), max(high - s, 0)] for s, (low, high) in zip(y, limits, strict=True)]).T
    axes.errorbar(x, y, yerr=arms, fmt="o", color=PEOPLE, capsize=3, markersize=6, label="as it was")
    for confidence, share, n in zip(x, y, count, strict=True):
        below = share > 0.5
        axes.annotate(
            f"{n:,}",
            (confidence, share),
            xytext=(9 if confidence < 0.9 else -9, -12 if below else 8),
            textcoords="offset points",
            ha="left" if confidence < 0.9 else "right",
            fontsize=8.5,
            color=PALE,
        )
    axes.set_xlim(-0.03, 1.03)
    axes.set_ylim(-0.03, 1.06)
    axes.set_xlabel("confidence of the answer", color=INK)
    axes.set_ylabel("right answers", color=INK)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))
    axes.legend(frameon=False, loc="upper left", fontsize=9)
