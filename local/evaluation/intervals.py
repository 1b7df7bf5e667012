"""How sure a rate is: intervals for shares of photographs, and how many photographs a statement needs.

Rates are stated with Clopper and Pearson's exact binomial interval (1934), which is never too narrow, on an *effective*
number of photographs: those of one person err together, so ten photographs of one stranger say less than ten strangers.
The effective number comes from the spread between people (Korn and Graubard, "Confidence intervals for proportions with
small expected number of positive counts estimated from survey data", Survey Methodology 24, 1998). A bootstrap would
not do here: where no error was seen it draws none, and claims 0 to 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

import numpy as np
from scipy.stats import beta, norm, t

from local.evaluation.metrics import BoolArray, IntArray

CONFIDENCE: Final = 0.95


@dataclass(frozen=True, slots=True)
class Rate:
    """A share that was counted, and the 95 % interval of the true one.

    Attributes:
        count: hits.
        total: trials. With none, `share` is nan and the interval is 0 to 1.
        effective: so many independent trials would say as much.
    """

    count: int
    total: int
    share: float
    low: float
    high: float
    effective: float


def clopper_pearson(hits: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Exact binomial interval of a share; need not be of whole numbers.

    With no hit, or nothing but hits, one limit is certain and the other gets all of the error: the rule of three.

    >>> low, high = clopper_pearson(0, 300)
    >>> low, round(high, 4)
    (0.0, 0.0099)
    """
    if trials <= 0:
        return 0.0, 1.0
    tail = (1 - confidence) / 2
    if hits <= 0:
        return 0.0, 1 - (2 * tail) ** (1 / trials)
    if hits >= trials:
        return (2 * tail) ** (1 / trials), 1.0
    low = beta.ppf(tail, hits, trials - hits + 1)
    high = beta.ppf(1 - tail, hits + 1, trials - hits)
    return float(low), float(high)


def wilson(hits: float, trials: float, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Wilson's score interval (1927), for the bars of plots: shorter, right on average.

    >>> [round(limit, 3) for limit in wilson(8, 10)]
    [0.49, 0.943]
    """
    if trials <= 0:
        return 0.0, 1.0
    z = float(norm.ppf((1 + confidence) / 2))
    share = hits / trials
    middle = (share + z * z / (2 * trials)) / (1 + z * z / trials)
    half = z / (1 + z * z / trials) * math.sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def rate(hits: BoolArray, person: IntArray) -> Rate:
    """A share of photographs with its interval, knowing which photographs show the same person.

    Args:
        hits: (N,).
        person: (N,) whom each shows, as a number.

    >>> rate(np.array([True] + [False] * 99), np.arange(100)).high < 0.055
    True
    >>> rate(np.array([True] * 10 + [False] * 90), np.arange(100) // 10).effective < 15
    True
    """
    total, count = len(hits), int(hits.sum())
    if not total:
        return Rate(0, 0, math.nan, 0.0, 1.0, 0.0)
    share, effective = count / total, _effective(hits, person)
    low, high = clopper_pearson(share * effective, effective)
    return Rate(count, total, share, low, high, effective)


def _effective(hits: BoolArray, person: IntArray) -> float:
    """Korn and Graubard's effective sample size, at most the number of photographs.

    Where all are hits or none is, nothing shows how people differ: then each person is one trial.
    """
    total = len(hits)
    _, number = np.unique(person, return_inverse=True)
    people = int(number.max()) + 1
    share = float(np.mean(hits))
    if people == total:
        return float(total)
    if people < 2 or share in (0.0, 1.0):
        return float(people)
    residuals = np.bincount(number, hits - share, people)
    variance = people / (people - 1) * float(np.sum(residuals**2)) / total**2
    independent = share * (1 - share) / variance if variance > 0 else total
    few = (t.ppf(0.975, total - 1) / t.ppf(0.975, people - 1)) ** 2
    return float(min(max(independent * few, 1.0), total))


def needed(target: float) -> int:
    """So many strangers without one false name show, at 95 %, that the rate is below `target`: the rule of three.

    (Hanley and Lippman-Hand, "If nothing goes wrong, is everything all right?", JAMA 249, 1983.)

    >>> needed(0.01), needed(0.001)
    (299, 2995)
    """
    return math.ceil(math.log(1 - CONFIDENCE) / math.log(1 - target))
