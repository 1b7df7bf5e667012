"""The page: one file that needs no network and no other file, and believes no name that it is told."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import jinja2

from local.evaluation.figures import Figures
from local.evaluation.intervals import Rate
from local.evaluation.pairs import Pair, data_uri
from local.evaluation.plots import Plot
from local.evaluation.trial import Failure, reason_in_words
from local.evaluation.verdict import Verdict, counted, per
from shared import __version__

LISTED: Final = 100
"""Longest table of photographs or people on the page; evaluation.json has them all."""


def render(
    figures: Figures, verdict: Verdict, plots: list[Plot], pairs: list[Pair], *, now: datetime | None = None
) -> str:
    """The page as HTML. Every text is escaped; the only markup is the template's."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "share": share,
        "limits": limits,
        "number": lambda value: f"{value:,}",
        "counted": counted,
        "readable": lambda name: name.replace("_", " "),  # so that a long one can be broken over lines
    }
    trial = figures.trial
    unusable = [Failure(s.photo, s.failure) for s in trial.searches if s.failure is not None]
    weak = [row for row in figures.people if row.named_rightly < row.photographs]
    return environment.get_template("page.html.jinja").render(
        figures=figures,
        trial=trial,
        rates=figures.rates,
        verdict=verdict,
        plots=[(plot, data_uri(plot.png, "image/png") if plot.png else "") for plot in plots],
        pairs=pairs,
        confusions=len(figures.confusions),
        sweep=_sweep(figures),
        weak=weak[:LISTED],
        weak_total=len(weak),
        refused=_listed(trial.refused),
        unusable=_listed(unusable),
        listed=LISTED,
        others=sum(search.others for search in trial.searches),
        stranger_people=len(set(figures.searches.stranger_person.tolist())),
        mated_people=len(figures.people),
        per=per,
        version=__version__,
        made=f"{now or datetime.now(UTC):%Y-%m-%d %H:%M} UTC",
    )


def share(value: float) -> str:
    """A share in per cent; a dash where it is not known.

    >>> share(0.00912), share(0.5), share(float("nan"))
    ('0.91 %', '50.0 %', '–')
    """
    if value != value:
        return "–"
    percent = 100 * value
    return f"{percent:.2f} %" if 0 < percent < 10 or 99 < percent < 100 else f"{percent:.1f} %"


def limits(rate: Rate) -> str:
    """Its 95 % interval."""
    return f"{share(rate.low)} to {share(rate.high)}" if rate.total else "–"


def _sweep(figures: Figures) -> list[dict[str, Any]]:
    """The threshold in force among those that these strangers suggest, from the strictest on."""
    rows = [{"threshold": p.threshold, "fpir": p.fpir, "tpir": p.tpir, "in_force": False} for p in figures.sweep]
    searches, threshold = figures.searches, figures.threshold
    rows.append(
        {
            "threshold": threshold,
            "fpir": searches.fpir(threshold),
            "tpir": searches.tpir(threshold),
            "in_force": True,
        }
    )
    return sorted(rows, key=lambda row: -float(row["threshold"]))


def _listed(failures: list[Failure] | tuple[Failure, ...]) -> dict[str, Any]:
    counts = Counter(failure.reason for failure in failures)
    return {
        "total": len(failures),
        "reasons": [(reason_in_words(reason), count) for reason, count in counts.most_common()],
        "rows": [(f.photo.name, f.photo.path.name, reason_in_words(f.reason)) for f in failures[:LISTED]],
    }
