"""Figures of open-set identification: pure arithmetic on what searches found.

Definitions are those of NIST's FRTE 1:N (Grother, Ngan, Hanaoka: NISTIR 8271, section 3), with candidate lists of one,
as the product names one person or nobody:

FPIR(N, T): share of the searches of strangers in which somebody of the N enrolled people reaches the threshold T.
FNIR(N, 1, T): share of the searches of enrolled people in which the person is not first, or below T. TPIR = 1 − FNIR.

A photograph in which no face could be used is a search that found nobody: its similarity is −inf. That is a miss of an
enrolled person, and no false name for a stranger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from functions.train.calibration import STRANGER_SHARE
from shared.domain import Float32Array

Float64Array = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.intp]

RELIABILITY_BINS: Final = 10


@dataclass(frozen=True, slots=True, eq=False)
class Searches:
    """What the searches of an evaluation found.

    Attributes:
        mated: (M,) float32 similarity of the person who came first in each search of somebody enrolled; −inf where no
            face could be used.
        right: (M,) whether that was the right one; never where no face could be used.
        mated_person: (M,) who was searched for, as a number.
        strangers: (S,) float32 similarity of the person who came first in each search of a stranger; −inf as above.
        stranger_person: (S,) which stranger it was, as a number; each photograph its own where that is not known.
    """

    mated: Float32Array
    right: BoolArray
    mated_person: IntArray
    strangers: Float32Array
    stranger_person: IntArray

    def fpir(self, threshold: float) -> float:
        """Share of strangers' searches that reach `threshold`; nan without strangers."""
        return _share(self.strangers >= threshold)

    def tpir(self, threshold: float) -> float:
        """Share of enrolled people's searches with the right person first, at or above `threshold`; nan without any."""
        return _share(self.right & (self.mated >= threshold))


def _share(hits: BoolArray) -> float:
    return float(np.mean(hits)) if len(hits) else float("nan")


@dataclass(frozen=True, slots=True, eq=False)
class Det:
    """A detection error trade-off: FNIR over FPIR, from the lowest threshold to the highest.

    Attributes:
        threshold: (P,) ascending; the last is above everything seen.
        fpir, fnir: (P,) falling, and rising.
    """

    threshold: Float64Array
    fpir: Float64Array
    fnir: Float64Array


def det(searches: Searches) -> Det:
    """Every operating point that these searches can tell apart.

    >>> curve = det(Searches(np.float32([0.9, 0.4]), np.array([True, True]), np.arange(2),
    ...                      np.float32([0.5, 0.1]), np.arange(2)))
    >>> curve.fpir.tolist(), curve.fnir.tolist()
    ([1.0, 0.5, 0.5, 0.0, 0.0], [0.0, 0.0, 0.5, 0.5, 1.0])
    """
    found = np.sort(np.where(searches.right, searches.mated, -np.inf).astype(np.float64))
    strangers = np.sort(searches.strangers.astype(np.float64))
    seen = np.unique(np.concatenate([found, strangers]))
    seen = seen[np.isfinite(seen)]
    above = np.nextafter(seen[-1], np.inf) if len(seen) else 0.0
    threshold = np.append(seen, above)
    return Det(threshold, _at_least(strangers, threshold), 1.0 - _at_least(found, threshold))


def _at_least(ascending: Float64Array, threshold: Float64Array) -> Float64Array:
    """Share of `ascending` at or above each threshold; nan of nothing."""
    if not len(ascending):
        return np.full(len(threshold), np.nan)
    share: Float64Array = 1.0 - np.searchsorted(ascending, threshold, side="left") / len(ascending)
    return share


def threshold_at(strangers: Float32Array, fpir: float) -> float:
    """Smallest threshold that at most the share `fpir` of the strangers reach.

    >>> threshold_at(np.float32([0.25, 0.5, 0.75, 1.0]), 0.25) > 0.75
    True
    """
    if not len(strangers):
        return float("nan")
    allowed = int(fpir * len(strangers) + 1e-9)  # 0.29 × 100 is 28.999…
    if allowed >= len(strangers):
        return float("-inf")
    return float(np.nextafter(np.sort(strangers)[::-1][allowed], np.float32(np.inf)))


def tpir_at_fpir(searches: Searches, fpir: float) -> float:
    """TPIR with the threshold set on these very strangers, so that at most `fpir` of them are named."""
    return searches.tpir(threshold_at(searches.strangers, fpir))


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One row of a sweep over thresholds."""

    threshold: float
    fpir: float
    tpir: float


def sweep(searches: Searches, thresholds: list[float]) -> list[OperatingPoint]:
    """What would be at each threshold."""
    return [OperatingPoint(t, searches.fpir(t), searches.tpir(t)) for t in thresholds]


def fnir_band(
    searches: Searches, fpirs: Float64Array, *, seed: int, resamples: int = 500, confidence: float = 0.95
) -> tuple[Float64Array, Float64Array]:
    """Pointwise bootstrap interval of FNIR at given FPIRs, by identity: people are drawn, with all their photographs.

    By identity, because photographs of one person err together; by bootstrap, because the threshold at a given FPIR
    moves with the strangers drawn, which no binomial interval knows. (Efron and Tibshirani, 1993, chapters 8 and 13.)

    Returns:
        Lower and upper limit, each of the shape of `fpirs`.
    """
    random = np.random.default_rng(seed)
    stranger_order = np.argsort(-searches.strangers, kind="stable")
    strangers = searches.strangers[stranger_order].astype(np.float64)
    found = np.where(searches.right, searches.mated, -np.inf).astype(np.float64)
    found_order = np.argsort(-found, kind="stable")
    found = -found[found_order]  # ascending
    drawn = np.empty((resamples, len(fpirs)))
    for row in drawn:
        stranger_weight = _draw(searches.stranger_person, random)[stranger_order]
        reached = np.cumsum(stranger_weight) / max(stranger_weight.sum(), 1)
        first_refused = np.searchsorted(reached, fpirs + 1e-12, side="right")
        limit = np.append(strangers, -np.inf)[np.minimum(first_refused, len(strangers))]
        weight = _draw(searches.mated_person, random)[found_order]
        named = np.append(0, np.cumsum(weight))[np.searchsorted(found, -limit, side="left")]
        row[:] = 1.0 - named / max(weight.sum(), 1)
    tail = 100 * (1 - confidence) / 2
    low, high = np.percentile(drawn, [tail, 100 - tail], axis=0)
    return low, high


def _draw(person: IntArray, random: np.random.Generator) -> IntArray:
    """How often each photograph is in a sample of as many people as there are, drawn with replacement."""
    _, number = np.unique(person, return_inverse=True)
    people = int(number.max()) + 1 if len(number) else 0
    times = np.bincount(random.integers(0, max(people, 1), people), minlength=people)
    weight: IntArray = times[number].astype(np.intp)
    return weight


def rank_of(similarities: Float32Array, own: int, first: int) -> int:
    """Place of the right person in one search, from 1.

    Args:
        similarities: (C,) to everybody enrolled.
        own: the right person.
        first: whom the matcher puts first, who need not be the most similar.

    >>> rank_of(np.float32([0.9, 0.8, 0.7]), own=1, first=1), rank_of(np.float32([0.9, 0.8, 0.7]), own=1, first=2)
    (1, 3)
    """
    if own == first:
        return 1
    others = np.delete(similarities, [own, first])
    return 2 + int(np.sum(others > similarities[own]))


def cmc(ranks: IntArray, longest: int) -> Float64Array:
    """Cumulative match characteristic: share of searches with the right person among the first 1, 2, … `longest`.

    Args:
        ranks: (M,) place of the right person, from 1; 0 where the search found nobody.

    >>> cmc(np.array([1, 1, 3, 0]), 3).tolist()
    [0.5, 0.5, 0.75]
    """
    if not len(ranks):
        return np.full(longest, np.nan)
    counts = np.bincount(ranks[(ranks > 0) & (ranks <= longest)], minlength=longest + 1)[1:]
    shares: Float64Array = np.cumsum(counts) / len(ranks)
    return shares


@dataclass(frozen=True, slots=True, eq=False)
class Reliability:
    """Whether confidence is a probability: of answers with confidence p, the share p should be right.

    Attributes:
        low: (B,) lower edge of each bin, all as wide as the next.
        count: (B,) answers in it.
        confidence: (B,) their mean confidence; nan in an empty bin.
        right: (B,) the share of them that is right; nan in an empty bin.
        ece: expected calibration error, the mean of |right − confidence| over all answers
            (Naeini, Cooper, Hauskrecht: AAAI 2015).
    """

    low: Float64Array
    count: IntArray
    confidence: Float64Array
    right: Float64Array
    ece: float


def reliability(
    confidence: Float32Array, right: BoolArray, weight: Float64Array, bins: int = RELIABILITY_BINS
) -> Reliability:
    """Bins answers by confidence.

    Args:
        confidence: (N,) 0 to 1.
        right: (N,) whether the face was the person that came first.
        weight: (N,) of each answer; see `as_promised`.
    """
    where = np.minimum((confidence.astype(np.float64) * bins).astype(np.intp), bins - 1)
    mass = np.bincount(where, weight, bins)
    with np.errstate(invalid="ignore"):
        mean = np.bincount(where, weight * confidence, bins) / mass
        share = np.bincount(where, weight * right, bins) / mass
    filled = mass > 0
    ece = float(np.sum(mass[filled] * np.abs(share - mean)[filled]) / mass.sum()) if filled.any() else float("nan")
    return Reliability(np.arange(bins) / bins, np.bincount(where, minlength=bins), mean, share, ece)


def as_promised(known: BoolArray) -> Float64Array:
    """Weights with which strangers have the share that they have where confidence is calibrated, nine of ten.

    >>> as_promised(np.array([True, False, False])).round(2).tolist()
    [0.3, 1.35, 1.35]
    """
    people, strangers = int(known.sum()), int((~known).sum())
    if not people or not strangers:
        return np.ones(len(known))
    return len(known) * np.where(known, (1 - STRANGER_SHARE) / people, STRANGER_SHARE / strangers)


@dataclass(frozen=True, slots=True)
class Confusion:
    """Somebody who was taken for somebody else.

    Attributes:
        truth: who it was.
        named: whose name was given.
        count: in so many photographs.
        worst: number of the photograph with the highest similarity.
        similarity: of it.
    """

    truth: str
    named: str
    count: int
    worst: int
    similarity: float


def confusions(truth: list[str], named: list[str | None], similarity: Float32Array) -> list[Confusion]:
    """Every pair of people with a false name, the most similar first.

    Args:
        truth: (N) who each photograph shows.
        named: (N) whose name was given; None for nobody's.
        similarity: (N,) of the one who was named.

    >>> found = confusions(["a", "a", "b"], ["b", "b", "b"], np.float32([0.5, 0.7, 0.9]))
    >>> [(c.truth, c.named, c.count, c.worst) for c in found]
    [('a', 'b', 2, 1)]
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for index, (who, name) in enumerate(zip(truth, named, strict=True)):
        if name is not None and name != who:
            groups.setdefault((who, name), []).append(index)
    found = []
    for (who, name), indices in groups.items():
        worst = max(indices, key=lambda index: float(similarity[index]))
        found.append(Confusion(who, name, len(indices), worst, float(similarity[worst])))
    return sorted(found, key=lambda pair: (-pair.similarity, pair.truth, pair.named))


def histogram(genuine: Float32Array, strangers: Float32Array, bins: int = 40) -> tuple[Float64Array, ...]:
    """Two distributions of similarity over the same bins; what is not finite is left out.

    Returns:
        Edges (bins + 1,), and for each of the two the share (bins,) of its values in each bin.
    """
    genuine, strangers = genuine[np.isfinite(genuine)], strangers[np.isfinite(strangers)]
    both = np.concatenate([genuine, strangers]).astype(np.float64)
    low, high = (float(both.min()), float(both.max())) if len(both) else (0.0, 1.0)
    edges = np.linspace(low - 0.02, high + 0.02, bins + 1)
    shares = (np.histogram(values, edges)[0] / max(len(values), 1) for values in (genuine, strangers))
    return edges, *shares
