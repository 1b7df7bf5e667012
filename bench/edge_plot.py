"""The picture of build/bench/edge.json: bytes by policy and density beside a camera's, and who was recognised."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from bench.edge_policies import CAMERA_BPS
from local.evaluation.plots import INK, MARK, PALE, PEOPLE, STRANGERS

_COLOURS = {"seed": PALE, "every_frame": STRANGERS, "best_shot": PEOPLE}


def draw(figures: dict[str, Any], path: Path) -> Path:
    """Writes the picture and returns its path."""
    scenes = figures["scenes"]
    figure = Figure(figsize=(12, 5.0), dpi=144, layout="constrained")
    left, right = figure.subplots(1, 2)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(True, axis="y", color="#e3e7eb", linewidth=0.8)
        axes.set_axisbelow(True)
    if scenes:
        _rates(left, scenes)
        _recalls(right, scenes)
    for axes in (left, right):
        if axes.get_legend_handles_labels()[0]:  # nobody was asked for names
            axes.legend(frameon=False, fontsize=8, ncols=4, loc="upper center", bbox_to_anchor=(0.5, -0.14))
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})
    return path


def _rates(axes: Axes, scenes: dict[str, Any]) -> None:
    policies = [policy for policy in _COLOURS if any(policy in scene["policies"] for scene in scenes.values())]
    width = 0.8 / len(policies)
    for number, policy in enumerate(policies):
        for place, scene in enumerate(scenes.values()):
            found = scene["policies"].get(policy)
            if found:
                mbps = found["network_bytes"] * 8 / (scene["minutes"] * 60) / 1e6
                at = place + (number - (len(policies) - 1) / 2) * width
                label = policy.replace("_", " ") if place == 0 else None
                axes.bar(at, mbps, width * 0.92, color=_COLOURS[policy], label=label)
                text = f"{found['reduction_vs_4mbps']:,.0f}×"
                axes.annotate(text, (at, mbps), (0, 3), textcoords="offset points", ha="center", fontsize=7, color=INK)
    axes.axhline(CAMERA_BPS / 1e6, color=MARK, linestyle="--", label="a camera's 4 Mbps")
    axes.set_yscale("log")
    axes.set_ylabel("network, Mbps (both directions)")
    _names(axes, scenes)
    axes.set_title("Sent, and how many times less than the camera", fontsize=10, color=INK)


def _recalls(axes: Axes, scenes: dict[str, Any]) -> None:
    """Bars of visit recall, a pair for each pack."""
    packs = sorted({p for scene in scenes.values() for f in scene["policies"].values() for p in f["packs"]})
    pairs = [(pack, policy) for pack in packs for policy in ("every_frame", "best_shot")]
    width = 0.8 / max(len(pairs), 1)
    for number, (pack, policy) in enumerate(pairs):
        for place, scene in enumerate(scenes.values()):
            found = scene["policies"].get(policy, {"packs": {}})["packs"].get(pack)
            if found:
                at = place + (number - (len(pairs) - 1) / 2) * width
                hatch = "//" if pack == packs[0] else ""
                label = f"{policy.replace('_', ' ')}, {pack}" if place == 0 else None
                colour = _COLOURS[policy]
                bar = at, found["visit_recall"], width * 0.92
                axes.bar(*bar, color=colour, hatch=hatch, edgecolor="white", label=label)
                text = f"{found['false_name_visits']}"
                where = at, found["visit_recall"]
                axes.annotate(text, where, (0, 3), textcoords="offset points", ha="center", fontsize=7, color=INK)
    axes.set_ylim(0, 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1.0))
    axes.set_ylabel("enrolled people's visits recognised")
    _names(axes, scenes)
    axes.set_title("Visit recall; above, visits with a false name", fontsize=10, color=INK)


def _names(axes: Axes, scenes: dict[str, Any]) -> None:
    labels = []
    for name, scene in scenes.items():
        rate = next(iter(scene["policies"].values()))["faces_per_minute"]
        labels.append(
            name.replace("_", " ").replace(", ", "\n") + (f"\n{rate:,.0f} faces/min" if rate is not None else "")
        )
    axes.set_xticks(range(len(labels)), labels, fontsize=9 if len(labels) < 5 else 7)
