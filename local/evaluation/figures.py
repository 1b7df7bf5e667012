"""From what a trial found to its figures: the rates with their intervals, and the curves that pictures are drawn of."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np

from local.evaluation.intervals import Rate, rate
from local.evaluation.metrics import (
    BoolArray,
    Confusion,
    Det,
    Float64Array,
    IntArray,
    OperatingPoint,
    Reliability,
    Searches,
    as_promised,
    cmc,
    confusions,
    det,
    fnir_band,
    reliability,
    sweep,
    threshold_at,
)
from local.evaluation.trial import NOT_ENROLLED, Search, Trial
from shared.domain import Float32Array

TARGETS: Final = (0.001, 0.003, 0.01, 0.03, 0.1)
"""FPIRs whose thresholds are told, where there are strangers enough for one to be so rare."""

LONGEST_RANK: Final = 20


@dataclass(frozen=True, slots=True)
class Rates:
    """What happened at the threshold in force, each as a share of photographs.

    Attributes:
        strangers_named: FPIR.
        usable_strangers_named: the same of those photographs alone in which a face could be used.
        named_rightly: TPIR.
        named_wrongly: of people enrolled: given somebody else's name.
        unknown: of people enrolled: a face, and no name.
        unusable: of people enrolled: no face that could be used.
        rank1: of people enrolled: came first, whatever the threshold.
    """

    strangers_named: Rate
    usable_strangers_named: Rate
    named_rightly: Rate
    named_wrongly: Rate
    unknown: Rate
    unusable: Rate
    rank1: Rate


@dataclass(frozen=True, slots=True)
class PersonRow:
    """How one enrolled person fared."""

    name: str
    photographs: int
    named_rightly: int
    named_wrongly: int
    unknown: int
    unusable: int


@dataclass(frozen=True, slots=True, eq=False)
class Figures:
    """Everything that the page tells.

    Attributes:
        sweep: what would be at thresholds for other FPIRs, set on these strangers; the one in force is not among them.
        band: FPIRs, and the lower and upper limit of FNIR at each.
        own: similarity of each usable mated search to the person it shows.
        strangers: similarity of each usable search of a stranger to the nearest person.
        confusions: worst first; `worst` is the number of a search.
        people: who fared worst first.
    """

    trial: Trial
    searches: Searches
    threshold: float
    rates: Rates
    det: Det
    band: tuple[Float64Array, Float64Array, Float64Array]
    sweep: tuple[OperatingPoint, ...]
    cmc: Float64Array
    reliability: Reliability
    own: Float32Array
    strangers: Float32Array
    confusions: tuple[Confusion, ...]
    people: tuple[PersonRow, ...]


def usable(search: Search) -> bool:
    """A face was found in it, and looked for among the enrolled."""
    return search.failure in (None, NOT_ENROLLED)


def make_figures(trial: Trial, *, seed: int) -> Figures:
    """All figures of a trial.

    Args:
        seed: of the bootstrap.
    """
    mated = [search for search in trial.searches if search.mated]
    strangers = [search for search in trial.searches if not search.mated]
    searches = Searches(
        _similarities(mated),
        _flags(s.right for s in mated),
        _people(mated),
        _similarities(strangers),
        _people(strangers),
    )
    threshold = trial.model.operating.threshold
    ranks = np.array([search.rank for search in mated], np.intp)
    return Figures(
        trial=trial,
        searches=searches,
        threshold=threshold,
        rates=_rates(mated, strangers, searches),
        det=det(searches),
        band=_band(searches, seed),
        sweep=_sweep(searches),
        cmc=cmc(ranks, min(LONGEST_RANK, max(len(trial.model.person_ids), 1))),
        reliability=_reliability(trial.searches),
        own=np.array([s.own for s in mated if usable(s) and not math.isnan(s.own)], np.float32),
        strangers=searches.strangers[np.isfinite(searches.strangers)],
        confusions=tuple(_confusions(trial)),
        people=tuple(_per_person(trial, mated)),
    )


def _similarities(found: Sequence[Search]) -> Float32Array:
    return np.array([search.similarity if usable(search) else -np.inf for search in found], np.float32)


def _flags(values: Any) -> BoolArray:
    return np.array(list(values), dtype=bool)


def _people(found: Sequence[Search]) -> IntArray:
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(search.photo.person, len(numbers)) for search in found], np.intp)


def _rates(mated: Sequence[Search], strangers: Sequence[Search], searches: Searches) -> Rates:
    with_face = [search for search in strangers if usable(search)]
    person = searches.mated_person

    def of_mated(hits: Any) -> Rate:
        return rate(_flags(hits), person)

    return Rates(
        strangers_named=rate(_flags(s.named is not None for s in strangers), searches.stranger_person),
        usable_strangers_named=rate(_flags(s.named is not None for s in with_face), _people(with_face)),
        named_rightly=of_mated(s.named == s.photo.person for s in mated),
        named_wrongly=of_mated(s.named not in (None, s.photo.person) for s in mated),
        unknown=of_mated(usable(s) and s.named is None for s in mated),
        unusable=of_mated(not usable(s) for s in mated),
        rank1=of_mated(s.right for s in mated),
    )


def _band(searches: Searches, seed: int) -> tuple[Float64Array, Float64Array, Float64Array]:
    """From one stranger in all to every stranger, evenly in the logarithm."""
    strangers = len(searches.strangers)
    if strangers < 2 or len(searches.mated) < 2:
        nothing = np.zeros(0)
        return nothing, nothing, nothing
    fpirs = np.geomspace(1 / strangers, 1.0, 60)
    return fpirs, *fnir_band(searches, fpirs, seed=seed)


def _sweep(searches: Searches) -> tuple[OperatingPoint, ...]:
    """Thresholds for FPIRs that these strangers can tell: at least one of them must be allowed."""
    told = [target for target in TARGETS if target * len(searches.strangers) >= 1]
    thresholds = [threshold_at(searches.strangers, target) for target in told]
    return tuple(sweep(searches, [threshold for threshold in thresholds if math.isfinite(threshold)]))


def _reliability(found: Sequence[Search]) -> Reliability:
    answered = [search for search in found if usable(search)]
    known = _flags(search.mated for search in answered)
    confidence = np.array([search.confidence for search in answered], np.float32)
    return reliability(confidence, _flags(search.right for search in answered), as_promised(known))


def _confusions(trial: Trial) -> list[Confusion]:
    return confusions(
        [search.photo.person for search in trial.searches],
        [search.named for search in trial.searches],
        np.array([search.similarity for search in trial.searches], np.float32),
    )


def _per_person(trial: Trial, mated: Sequence[Search]) -> list[PersonRow]:
    groups: dict[str, list[Search]] = {}
    for search in mated:
        groups.setdefault(search.photo.person, []).append(search)
    rows = []
    for person, found in groups.items():
        right = sum(s.named == person for s in found)
        wrong = sum(s.named not in (None, person) for s in found)
        lost = sum(not usable(s) for s in found)
        rows.append(
            PersonRow(trial.plan.people[person], len(found), right, wrong, len(found) - right - wrong - lost, lost)
        )
    return sorted(rows, key=lambda row: (row.named_rightly / row.photographs, -row.photographs, row.name))


def report(figures: Figures) -> dict[str, Any]:
    """The figures as JSON, without the curves' points; shares that are not known are null."""
    trial, searches = figures.trial, figures.searches
    return {
        "pack": trial.pack,
        "embedder_id": trial.embedder_id,
        "protocol": trial.plan.how,
        "gallery": {
            "people": len(trial.model.person_ids),
            "templates": trial.templates,
            "photographs": len(trial.plan.gallery),
            "repeated": trial.repeated,
            "refused": dict(Counter(failure.reason for failure in trial.refused)),
        },
        "probes": {
            "mated": len(searches.mated),
            "mated_people": len(np.unique(searches.mated_person)),
            "strangers": len(searches.strangers),
            "stranger_people": len(np.unique(searches.stranger_person)),
            "unusable": dict(Counter(s.failure for s in trial.searches if s.failure is not None)),
            "already_enrolled": len(trial.left_out),
            "other_faces": sum(search.others for search in trial.searches),
        },
        "operating": {
            "target_fpir": trial.target_fpir,
            "threshold": figures.threshold,
            "calibration": dict(trial.calibration),
            **{name: _plain(value) for name, value in asdict(figures.rates).items()},
        },
        "sweep": [_plain(asdict(point)) for point in figures.sweep],
        "cmc": _plain(figures.cmc.tolist()),
        "calibration": {
            "ece": _plain(figures.reliability.ece),
            "answers": figures.reliability.count.tolist(),
            "confidence": _plain(figures.reliability.confidence.tolist()),
            "right": _plain(figures.reliability.right.tolist()),
        },
        "confusions": [asdict(pair) | {"photo": _file(trial, pair.worst)} for pair in figures.confusions],
        "people": [asdict(row) for row in figures.people],
        "not_enrolled_photographs": [{"photo": str(f.photo.path), "reason": f.reason} for f in trial.refused],
        "unusable_photographs": [
            {"photo": str(s.photo.path), "reason": s.failure} for s in trial.searches if s.failure is not None
        ],
        "already_enrolled_photographs": [str(failure.photo.path) for failure in trial.left_out],
    }


def _file(trial: Trial, search: int) -> str:
    return str(trial.searches[search].photo.path)


def _plain(value: Any) -> Any:
    """JSON has no nan."""
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
