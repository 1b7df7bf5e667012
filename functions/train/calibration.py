"""Where a person begins and a stranger ends: the threshold for a stated rate, and how sure an answer is.

The threshold is the similarity that the target share of strangers reach. Three sources tell it, each weighed by how
many errors it rests on:

- the **embedder's impostor curve**, measured once, for the size of this gallery (`shared/matching/impostors.py`);
- **people left out** in cross-validation, whom the fit did not know;
- the **site's own unknown faces**, when there are enough. Whoever came near the threshold was given a name, so they
  are not asked for their tail, but for where the bulk lies: a dark corridor moves all similarities alike.

An embedder without a curve has its conservative default until its own people suffice.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.stats import beta

from functions.train.openset import Trials
from shared.domain import Float32Array
from shared.matching.impostors import ImpostorCurve
from shared.matching.model import FEWEST_PEOPLE, Operating

CURVE_ERRORS: Final = 3.0
"""Errors that the impostor curve counts for: so many strangers named make the gallery's own people weigh the same."""
MIN_ERRORS: Final = 1.0
"""Of the strangers left out, so many must be expected above the threshold, or they state no rate."""
BULK: Final = 0.1
"""Share of unknown faces, the most similar, whose least similarity says where the site's strangers lie."""
MIN_VISITS: Final = 300
"""Visits of unknown faces, of a site or a camera, from which they are asked."""
MOST_SHIFT: Final = 0.1
"""Similarity by which unknown faces may move a threshold: more than that, and they are not strangers."""
STRANGER_SHARE: Final = 0.9
"""Of the faces that confidence speaks of: nine strangers come by for each person who is enrolled."""
AGREEMENT_PEOPLE: Final = 300
"""From so many people on, shots that agree on one of them tell as much as they ever do."""
STATED_SIZES: Final = (10, 100, 1_000, 10_000)
"""Sizes of gallery for which the manifest states the threshold, besides the gallery's own."""
_ANCHORS: Final = (0.01, 0.001)
_LEAST_DENSITY: Final = 0.2


@dataclass(frozen=True, slots=True, eq=False)
class Unknowns:
    """Unknown faces that the site has seen, of one embedder.

    Attributes:
        embeddings: (N, D) float32, unit rows.
        cameras: N, `camera_key` of each.
        visits: N, what was seen in one go (a track on a camera); its faces count as one.
    """

    embeddings: Float32Array
    cameras: Sequence[str]
    visits: Sequence[str]


@dataclass(frozen=True, slots=True, eq=False)
class Calibration:
    """An operating point and what it rests on, as the manifest states it."""

    operating: Operating
    facts: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False)
class Site:
    """Where the unknown faces of a site lie, against where strangers usually lie.

    Attributes:
        shift: similarity that thresholds move by.
        visits: how many it rests on.
        cameras: shift of each camera with enough visits, and how many.
    """

    shift: float = 0.0
    visits: int = 0
    cameras: Mapping[str, tuple[float, int]] = field(default_factory=dict)


def calibrate(
    trials: Trials,
    people: int,
    *,
    target_fpir: float,
    best_shot_fpir: float = 0.0,
    visit_fpir: float = 0.0,
    curve: ImpostorCurve | None,
    fallback: Operating,
    site: Site,
) -> Calibration:
    """The operating point for a target FPIR.

    Args:
        people: in the gallery.
        best_shot_fpir: share of strangers who reach the similarity that a gateway's best shot needs; see `_margin`.
        visit_fpir: the same of several best shots of one visit that resemble the same person, see `_visit_share`.
        fallback: of an embedder without a curve, while the trials are too few.
    """
    expected = trials.people * target_fpir
    own = _from_trials(trials, people, target_fpir, curve) if len(trials.strangers) else None
    facts: dict[str, Any] = {
        "target_fpir": target_fpir,
        "best_shot_fpir": best_shot_fpir,
        "visit_fpir": visit_fpir,
        "people": people,
        "stranger_people": trials.people,
        "stranger_trials": len(trials.strangers),
        "genuine_trials": len(trials.genuine),
        "unknown_visits": site.visits,
    }
    if curve is None and (own is None or expected < MIN_ERRORS):
        threshold = fallback.threshold if own is None else max(fallback.threshold, float(trials.strangers.max()))
        facts |= {"calibrated": False, "why": f"{_too_few(target_fpir)} conservative default is used"}
        return Calibration(replace(fallback, threshold=threshold, midpoint=threshold), facts)
    weight, threshold = _weighed(own, expected, people, target_fpir, curve, site)
    slope, midpoint = _confidence(trials, threshold, _tail(trials, people, curve))
    facts |= _rate(trials, people, threshold, target_fpir, curve)
    facts |= {"calibrated": expected >= MIN_ERRORS, "weight_of_own_people": round(weight, 3), "site_shift": site.shift}
    if not facts["calibrated"]:
        facts["why"] = f"{_too_few(target_fpir)} usual threshold is used for the most part"
    if curve is not None:
        facts["thresholds"] = _by_size(threshold, people, target_fpir, curve)
    if len(trials.genuine):
        facts["tpir"] = float(np.mean(trials.first & (trials.genuine >= threshold)))
    cameras = {name: threshold + shift - site.shift for name, (shift, _) in site.cameras.items()}
    facts["cameras"] = {name: {"threshold": cameras[name], "visits": n} for name, (_, n) in site.cameras.items()}
    shares = best_shot_fpir, _visit_share(people, best_shot_fpir, visit_fpir)
    margins = (_margin(trials, people, target_fpir, share, curve) for share in shares)
    return Calibration(Operating(threshold, slope, midpoint, cameras, *margins), facts)


def _by_size(threshold: float, people: int, target_fpir: float, curve: ImpostorCurve) -> dict[str, float]:
    """What the threshold would be in galleries of `STATED_SIZES`."""
    here = curve.similarity(people, target_fpir)
    return {str(size): round(threshold + curve.similarity(size, target_fpir) - here, 4) for size in STATED_SIZES}


def _visit_share(people: int, best_shot_fpir: float, visit_fpir: float) -> float:
    """The share for shots that agree: that of a single one among `FEWEST_PEOPLE`, the whole from `AGREEMENT_PEOPLE` on;
    none that is no higher than a single one's.

    Strangers' shots agree by chance the sooner the fewer people there are to agree on; in between it goes by the
    logarithm, as the rarity of such a chance does.
    """
    if visit_fpir <= best_shot_fpir:
        return 0.0
    known = math.log(max(people, 1) / FEWEST_PEOPLE) / math.log(AGREEMENT_PEOPLE / FEWEST_PEOPLE)
    return best_shot_fpir + (visit_fpir - best_shot_fpir) * min(max(known, 0.0), 1.0)


def _margin(trials: Trials, people: int, target_fpir: float, larger_fpir: float, curve: ImpostorCurve | None) -> float:
    """Similarity that lies between two shares of strangers; 0 when the second is no larger."""
    if larger_fpir <= target_fpir:
        return 0.0
    if curve is not None:
        return curve.similarity(people, target_fpir) - curve.similarity(people, larger_fpir)
    return trials.quantile(target_fpir) - trials.quantile(larger_fpir)


def _too_few(target_fpir: float) -> str:
    """Begins the sentence that says what holds while the gallery's own people state no rate."""
    return f"with fewer than {math.ceil(MIN_ERRORS / target_fpir)} people to measure on, the embedder's"


def _weighed(
    own: float | None, expected: float, people: int, target_fpir: float, curve: ImpostorCurve | None, site: Site
) -> tuple[float, float]:
    """How much the gallery's own people weigh, and the threshold of all that is known."""
    if curve is None:
        return 1.0, float(own or 0.0)
    usual = curve.similarity(people, target_fpir) + site.shift
    if own is None:
        return 0.0, usual
    weight = expected / (expected + CURVE_ERRORS)
    return weight, weight * own + (1 - weight) * usual


def _from_trials(trials: Trials, people: int, target_fpir: float, curve: ImpostorCurve | None) -> float:
    """What the people left out say: the galleries they met were smaller, and a larger one names more strangers."""
    return trials.quantile(target_fpir) + _growth(trials, people, target_fpir, curve)


def _growth(trials: Trials, people: int, share: float, curve: ImpostorCurve | None) -> float:
    """By how much the similarity that a share of strangers reach rises from the trials' galleries to this one."""
    if not trials.gallery or people <= trials.gallery:
        return 0.0
    if curve is not None:
        return curve.similarity(people, share) - curve.similarity(trials.gallery, share)
    # An exponential tail: twice the comparisons move a quantile as far as half the share does.
    rise = (trials.quantile(share) - trials.quantile(min(5 * share, 0.5))) / np.log(min(5 * share, 0.5) / share)
    return float(rise * np.log(people / trials.gallery))


def _rate(
    trials: Trials, people: int, threshold: float, target_fpir: float, curve: ImpostorCurve | None
) -> dict[str, Any]:
    """FPIR that the trials saw at the threshold, and a 95 % interval: of a beta distribution, whose prior is the
    curve's word, worth `CURVE_ERRORS` errors."""
    prior = CURVE_ERRORS if curve else 0.5
    reached = trials.strangers >= threshold - _growth(trials, people, target_fpir, curve)
    share = float(trials.weights[reached].sum())
    errors, tries = share * trials.people + prior, trials.people + prior / target_fpir
    low, high = beta.ppf([0.025, 0.975], errors, tries - errors)
    return {"fpir_of_trials": share if trials.people else None, "fpir_interval_95": [float(low), float(high)]}


def _tail(trials: Trials, people: int, curve: ImpostorCurve | None) -> float:
    """Similarity by which the share of strangers that reach it falls to 1/e, at the threshold."""
    if curve is not None:
        reach = [curve.similarity(people, share) for share in _ANCHORS]
    else:
        reach = [trials.quantile(share) for share in (0.05, 0.01)]
    return max((reach[1] - reach[0]) / float(np.log(10 if curve else 5)), 0.01)


def _confidence(trials: Trials, threshold: float, tail: float) -> tuple[float, float]:
    """Slope and midpoint of P(enrolled person | similarity), for a mix of faces with `STRANGER_SHARE` strangers.

    Bayes at two similarities, where a hundredth and a thousandth of strangers are beyond: strangers' density is that of
    an exponential tail, people's is counted in the trials about each.
    """
    target = trials.quantile(_ANCHORS[0]) if trials.people * _ANCHORS[0] >= MIN_ERRORS else threshold
    points = [target, target + tail * float(np.log(_ANCHORS[0] / _ANCHORS[1]))]
    odds = []
    for point, share in zip(points, _ANCHORS, strict=True):
        strangers = share / tail
        odds.append(np.log((1 - STRANGER_SHARE) * _density(trials, point) / (STRANGER_SHARE * strangers)))
    slope = max(float((odds[1] - odds[0]) / (points[1] - points[0])), 1.0)
    # The trials' own hundredth may lie beside the threshold, which is where the hundredth is taken to be.
    return slope, float(points[0] - odds[0] / slope + threshold - target)


def _density(trials: Trials, similarity: float) -> float:
    """Share of genuine trials per unit of similarity, about a similarity; never so low that people seem impossible."""
    if not len(trials.genuine):
        return 1.0
    about = trials.first & (np.abs(trials.genuine - similarity) <= 0.06)
    return max(float(about.mean()) / 0.12, _LEAST_DENSITY)


def site_of(similarities: Float32Array, unknowns: Unknowns, people: int, curve: ImpostorCurve | None) -> Site:
    """Where the site's unknown faces lie.

    Args:
        similarities: (N,) float32, of each unknown face to the nearest person.
        people: in the gallery.
    """
    if curve is None or not len(similarities):
        return Site()
    visits, highest, cameras = _by_visit(similarities, unknowns)
    if len(visits) < MIN_VISITS:
        return Site(visits=len(visits))
    usual = curve.similarity(people, BULK)

    def shift(of: NDArray[np.bool_]) -> float:
        moved = float(np.quantile(highest[of], 1 - BULK)) - usual
        return float(np.clip(moved, -MOST_SHIFT, MOST_SHIFT))

    everywhere = shift(np.ones(len(visits), dtype=bool))
    own = {}
    for camera in np.unique(cameras):
        of = cameras == camera
        if int(of.sum()) >= MIN_VISITS:
            # Drawn towards the whole site, as a camera with just enough visits says half of what it seems to.
            known = of.sum() / (of.sum() + MIN_VISITS)
            own[str(camera)] = (known * shift(of) + (1 - known) * everywhere, int(of.sum()))
    return Site(everywhere, len(visits), own)


def _by_visit(similarities: Float32Array, unknowns: Unknowns) -> tuple[NDArray[Any], Float32Array, NDArray[Any]]:
    """Of each visit: its name, its mean similarity, its camera."""
    names, first, index = np.unique(np.array(unknowns.visits), return_index=True, return_inverse=True)
    sums = np.bincount(index, weights=similarities)
    return names, (sums / np.bincount(index)).astype(np.float32), np.array(unknowns.cameras)[first]
