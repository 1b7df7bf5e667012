"""What a month costs, on paper: `python infra/costs.py` prints the tables of docs/deploy.md.

Prices are list prices in US dollars, without tax or agreement, as remembered or read in secondary sources in November
2026: check each before you rely on it. Everything that was measured names where.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Final

SECONDS: Final = 30 * 86_400
HOURS: Final = 730

PRICE: Final = {
    "GB-s on demand": 26e-6,
    "GB-s always ready, waiting": 4e-6,
    "execution": 0.40 / 1e6,
    "GB of blobs": 0.0184,
    "blob write": 0.05 / 1e4,
    "blob read": 0.004 / 1e4,
    "blob index tag": 0.039 / 1e4,
    "queue operation": 0.004 / 1e4,
    "Event Grid operation": 0.60 / 1e6,
    "RU, serverless": 0.25 / 1e6,
    "RU/s of autoscale, hour": 0.012 / 100,
    "GB of documents": 0.25,
    "GB of logs": 2.30,
    "log alert of 15 min": 0.50,
    "log alert of 5 min": 1.50,
    "private endpoint, hour": 0.01,
    "private DNS zone": 0.50,
}
FREE: Final = {"GB-s": 100_000, "executions": 250_000, "events": 100_000, "GB of logs": 5}
"""Each month, of a subscription or billing account."""

CROP_KB: Final = 6
"""docs/edge.md: 182,674 bytes in 31 crops."""
DETECTION_KB: Final = 6
"""A detection with the base64 embedding of an unknown face (512 × 4 × 4/3 bytes) and the outcome beside it."""
RU_PER_CANDIDATE: Final = 20
"""Assumed: the detection and the outcome, both written, with seven indexed properties."""
WORK_S: Final = 0.25
"""Assumed, of one candidate on one core: 25 ms MTCNN and 40 ms FaceNet were measured on a faster one; blob and document
take the rest."""
LOG_KB: Final = 6
"""Assumed: one request, a few traces, one blob write and two queue operations."""


@dataclass(frozen=True, slots=True)
class Site:
    """A site and how it is run.

    Attributes:
        crops_per_camera_day: 200 people before a camera, two crops of each.
        instance_gb: memory of an instance; one core for 2 GB, two for 4.
        overlap: candidates that an instance works on at a time, when it is busy.
        minimum_s: least time billed of an execution that overlaps with no other.
    """

    name: str
    cameras: int
    instance_gb: int
    overlap: int
    minimum_s: float
    always_ready: int
    serverless: bool
    private: bool
    candidate_days: int = 7
    detection_days: int = 30
    crops_per_camera_day: int = 400

    @property
    def candidates(self) -> int:
        """Of a month."""
        return self.cameras * self.crops_per_camera_day * 30


SITES: Final = (
    Site("10 cameras, dev.parameters.json", 10, 2, 1, 1.0, 0, serverless=True, private=False),
    Site("1,000 cameras, prod.parameters.json", 1_000, 4, 2, 0.0, 2, serverless=False, private=True),
)


Row = tuple[str, str, float]
"""What is paid for, the formula with its numbers, US dollars a month."""


def month(site: Site) -> list[Row]:
    """Everything that is paid for."""
    return [*_functions(site), *_storage(site), _requests(site), *_rest(site)]


def _functions(site: Site) -> list[Row]:
    n, timers = site.candidates, SECONDS / 300
    each_s = max(WORK_S, site.minimum_s)
    gb_s = (n * each_s / site.overlap + timers) * site.instance_gb
    work = _over(gb_s, FREE["GB-s"]) * PRICE["GB-s on demand"]
    calls = _over(n + timers, FREE["executions"]) * PRICE["execution"]
    used = f"({n:,} × {each_s} s ÷ {site.overlap} + {timers:,.0f} timers) × {site.instance_gb} GB"
    waiting = site.always_ready * site.instance_gb * SECONDS * PRICE["GB-s always ready, waiting"]
    return [
        ("Functions, work", f"{used} − {FREE['GB-s']:,} free", work),
        ("Functions, executions", f"{n + timers:,.0f} − {FREE['executions']:,} free", calls),
        ("Functions, always ready", f"{site.always_ready} × {site.instance_gb} GB × {SECONDS:,} s", waiting),
    ]


def _storage(site: Site) -> list[Row]:
    n = site.candidates
    kept = n / 30 * site.candidate_days
    gb, tags = kept * CROP_KB / 1e6, kept * 3
    operations = n * (PRICE["blob write"] + 2 * PRICE["blob read"])
    events = _over(2 * n, FREE["events"]) * PRICE["Event Grid operation"]
    return [
        ("Blobs, operations", f"{n:,} × (1 write + 2 reads)", operations),
        ("Blobs, kept", f"{gb:.1f} GB", gb * PRICE["GB of blobs"]),
        ("Blobs, index tags", f"{kept:,.0f} × 3", tags * PRICE["blob index tag"]),
        ("Queues", f"{n:,} × 5 operations", n * 5 * PRICE["queue operation"]),
        ("Event Grid", f"{n:,} × 2 operations − {FREE['events']:,} free", events),
    ]


def _requests(site: Site) -> Row:
    n = site.candidates
    if site.serverless:
        return "Cosmos DB, requests", f"{n:,} × {RU_PER_CANDIDATE} RU", n * RU_PER_CANDIDATE * PRICE["RU, serverless"]
    peak = max(400.0, 5 * n * RU_PER_CANDIDATE / SECONDS)
    formula = f"(4 × 100 + {peak:,.0f}) RU/s × {HOURS} h, detections at five times their mean"
    return "Cosmos DB, requests", formula, (400 + peak) * HOURS * PRICE["RU/s of autoscale, hour"]


def _rest(site: Site) -> list[Row]:
    n = site.candidates
    documents_gb, logs_gb = n / 30 * site.detection_days * DETECTION_KB / 1e6, n * LOG_KB / 1e6
    logs = _over(logs_gb, FREE["GB of logs"]) * PRICE["GB of logs"]
    alerts = 4 * PRICE["log alert of 15 min"] + PRICE["log alert of 5 min"]
    rows = [
        ("Cosmos DB, documents", f"{documents_gb:.1f} GB", documents_gb * PRICE["GB of documents"]),
        ("Logs", f"{logs_gb:.1f} GB − {FREE['GB of logs']} GB free", logs),
        ("Alerts", "4 of 15 min + 1 of 5 min", alerts),
    ]
    if site.private:
        network = 4 * (HOURS * PRICE["private endpoint, hour"] + PRICE["private DNS zone"])
        rows.append(("Private endpoints", f"4 × {HOURS} h, 4 zones", network))
    return rows


def _over(amount: float, free: float) -> float:
    return max(0.0, amount - free)


def tables() -> str:
    """The tables as Markdown."""
    lines = ["| price, US dollars | |", "|---|---|"]
    lines += [f"| {name} | {_price(value)} |" for name, value in PRICE.items()]
    for site in SITES:
        rows = month(site)
        lines += ["", f"**{site.name}**", "", "| | formula | $ a month |", "|---|---|---|"]
        lines += [f"| {what} | {formula} | {dollars:,.2f} |" for what, formula, dollars in rows]
        lines += [f"| **all** | | **{sum(dollars for _, _, dollars in rows):,.2f}** |"]
    return "\n".join(lines) + "\n"


def _price(value: float) -> str:
    return f"{value:.2f}" if value >= 0.1 else f"{value:.4f}" if value >= 0.01 else f"{value * 1e6:,.2f} a million"


if __name__ == "__main__":
    sys.stdout.write(tables())
