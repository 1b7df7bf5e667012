"""The arithmetic of the gallery's review: who is how similar to whom, over galleries of any size."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.domain import Float32Array

LARGE_GALLERY: Final = 50
"""People. From here on the gallery's mean is removed, and its own impostors say what strangers reach."""
IMPOSTOR_QUANTILE: Final = 0.99
STRAY_QUANTILE: Final = 0.9
"""Of similarities between people: a template that is less like its own person is a stranger's. Stricter, and right
photographs of hard poses would go, which recognise the next hard pose: at 0.99 FaceNet lost 0.3 points of TPIR."""
STRAY_SHARE: Final = 0.55
"""Of the higher quantile, where a gallery is too small to measure the lower one: of a normal distribution about 0."""
SAMPLE: Final = 1_500
BLOCK_ELEMENTS: Final = 16_000_000
"""Of a matrix product at a time, 64 MB: a gallery of 50,000 people must fit beside everything else."""
MIXED_SHARE: Final = 0.7
"""Of what people's templates usually reach with each other."""
OUTLIER_MADS: Final = 3.0
MAD_TO_SIGMA: Final = 1.4826

Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True, eq=False)
class Space:
    """Templates as they are compared.

    Attributes:
        rows: (N, D) unit rows, the gallery's mean removed when it is large.
        people: (N,) index of each row's person.
        means: (P, D) mean of each person's rows, not scaled to unit length: its product with a row is the mean
            similarity to that person's templates, whatever their number.
        impostor: see `Review`.
        stray: similarity that `STRAY_QUANTILE` of pairs of different people are below.
    """

    rows: Float32Array
    people: Rows
    means: Float32Array
    impostor: float
    stray: float


def group_rows(people: Rows, count: int) -> list[Rows]:
    """Rows of each person."""
    order = np.argsort(people, kind="stable")
    return list(np.split(order, np.cumsum(np.bincount(people, minlength=count))[:-1])) if count else []


def find_duplicates(embeddings: Float32Array, groups: list[Rows], kept: NDArray[np.bool_], limit: float) -> Rows:
    """(N,) the row that each row repeats, or −1. What an operator keeps is repeated, and repeats nothing."""
    repeats = np.full(len(embeddings), -1, dtype=np.intp)
    for rows in groups:
        if len(rows) < 2:
            continue
        rows = rows[np.argsort(~kept[rows], kind="stable")]
        alike = embeddings[rows] @ embeddings[rows].T >= limit
        for later in range(1, len(rows)):
            first = int(np.argmax(alike[later]))
            if first < later and not kept[rows[later]]:
                repeats[rows[later]] = rows[first]
                alike[:, later] = False  # so that a chain of small steps ends at one that stays
    return repeats


def compared_space(
    embeddings: Float32Array, people: Rows, count: int, single: NDArray[np.bool_], impostor: float | None
) -> Space:
    """Args: impostor: None to remove the gallery's mean, and measure it."""
    rows = embeddings
    if impostor is None:
        rows = embeddings - embeddings[single].mean(axis=0)
        rows /= np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-9))
    sums, sizes = sum_people(rows, people, count, single)
    means = (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)
    if impostor is not None:
        return Space(rows, people, means, impostor, STRAY_SHARE * impostor)
    return Space(rows, people, means, *_impostors(rows, people, single))


def sum_people(
    rows: Float32Array, people: Rows, count: int, used: NDArray[np.bool_]
) -> tuple[Float32Array, Float32Array]:
    """(P, D) sum and (P,) number of each person's rows that are used."""
    sums = np.zeros((count, rows.shape[1]), np.float32)
    order = np.flatnonzero(used)
    order = order[np.argsort(people[order], kind="stable")]
    present, starts = np.unique(people[order], return_index=True)
    if len(order):
        sums[present] = np.add.reduceat(rows[order], starts, axis=0)
    return sums, np.bincount(people[used], minlength=count).astype(np.float32)


def _impostors(rows: Float32Array, people: Rows, single: NDArray[np.bool_]) -> tuple[float, float]:
    """The two quantiles of similarities between templates of different people, over a sample of both."""
    random = np.random.default_rng(0)
    usable = np.flatnonzero(single)
    one, other = (random.choice(usable, min(SAMPLE, len(usable)), replace=False) for _ in range(2))
    different = people[one][:, None] != people[other][None]
    high, low = np.quantile((rows[one] @ rows[other].T)[different], (IMPOSTOR_QUANTILE, STRAY_QUANTILE))
    return float(high), float(low)


def find_strays(
    space: Space, groups: list[Rows], single: NDArray[np.bool_], kept: NDArray[np.bool_]
) -> tuple[Float32Array, NDArray[np.bool_], NDArray[np.bool_]]:
    """Own similarity of each template; those that do not belong to their person; and those where nobody can tell."""
    count = len(space.rows)
    own = _leave_one_out(space, single)
    stray, unsure = np.zeros(count, dtype=bool), np.zeros(count, dtype=bool)
    # Of most people nothing else need be looked at: of two people under one id, half of the similarities are low.
    worth_a_look = max(space.impostor, MIXED_SHARE * float(np.nanmedian(own))) if np.isfinite(own).any() else 0.0
    for person in np.unique(space.people[own < worth_a_look]):
        rows = groups[person][single[groups[person]]]
        alike = space.rows[rows] @ space.rows[rows].T
        inside, own[rows] = _peel(alike, space.stray, kept[rows])
        out = np.flatnonzero(~inside)
        if len(out) == 0:
            unsure[rows] = _mixed(alike, space.impostor)
            continue
        apart = np.all(alike[np.ix_(out, out)][~np.eye(len(out), dtype=bool)] < space.impostor)
        majority = inside.sum() > max(len(out), 1) or (inside.sum() >= 2 and bool(apart))
        if majority:
            stray[rows[out]] = True
        else:
            unsure[rows] = True
    return own, stray, unsure


def _mixed(alike: Float32Array, limit: float) -> bool:
    """Whether half of the templates or more are strangers to half of the others or more: two people under one id."""
    others = alike[~np.eye(len(alike), dtype=bool)].reshape(len(alike), -1)
    return bool(np.mean(np.median(others, axis=1) < limit) >= 0.5)


def _leave_one_out(space: Space, single: NDArray[np.bool_]) -> Float32Array:
    """(N,) mean similarity to the person's other templates; NaN of duplicates, and where there is no other."""
    sizes = np.bincount(space.people[single], minlength=len(space.means)).astype(np.float32)[space.people]
    total = np.einsum("nd,nd->n", space.rows, space.means[space.people]) * sizes
    own: Float32Array = np.where(single & (sizes >= 2), (total - 1) / np.maximum(sizes - 1, 1), np.nan)
    return own.astype(np.float32)


def _peel(alike: Float32Array, limit: float, kept: NDArray[np.bool_]) -> tuple[NDArray[np.bool_], Float32Array]:
    """Takes the least similar out until the rest belong together; what an operator keeps is never taken.

    Args:
        alike: (n, n) similarities of one person's templates.

    Returns:
        (n,) who is left, at least one; and (n,) mean similarity of each to the others that are left.
    """
    inside = np.ones(len(alike), dtype=bool)
    bare = alike - np.diag(np.diag(alike))
    while True:
        others = inside.sum() - inside
        means = (bare[:, inside].sum(axis=1) / np.maximum(others, 1)).astype(np.float32)
        worst = np.where(inside & ~kept, means, np.inf)
        row = int(np.argmin(worst))
        if inside.sum() == 1 or worst[row] >= limit:
            return inside, means
        inside[row] = False


def nearest_others(space: Space, wanted: Rows) -> tuple[Float32Array, Rows]:
    """Mean similarity to, and index of, the nearest other person: of the wanted rows; of the others −inf and −1."""
    similarity = np.full(len(space.rows), -np.inf, np.float32)
    who = np.full(len(space.rows), -1, dtype=np.intp)
    if len(space.means) < 2:
        return similarity, who
    block = max(1, BLOCK_ELEMENTS // len(space.means))
    for start in range(0, len(wanted), block):
        rows = wanted[start : start + block]
        alike = space.rows[rows] @ space.means.T
        alike[np.arange(len(rows)), space.people[rows]] = -np.inf
        who[rows] = alike.argmax(axis=1)
        similarity[rows] = alike[np.arange(len(rows)), who[rows]]
    return similarity, who


def settle_unsure(groups: list[Rows], unsure: NDArray[np.bool_], elsewhere: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where a person's own templates cannot tell which are wrong: those that clearly resemble somebody else."""
    settled = np.zeros(len(unsure), dtype=bool)
    for rows in groups:
        doubtful = rows[unsure[rows]]
        wrong = doubtful[elsewhere[doubtful]]
        if 0 < len(wrong) < len(doubtful):
            settled[wrong] = True
    return settled


def usual_nearest(space: Space) -> float:
    """Similarity to the nearest other person that a template seldom exceeds: median and MAD over a sample.

    At least the impostors' level, which in a gallery of few people is all there is to go by.
    """
    sample = np.random.default_rng(1).permutation(len(space.rows))[:SAMPLE]
    similarity, who = nearest_others(space, sample)
    found = similarity[who >= 0]
    if len(found) < LARGE_GALLERY:
        return space.impostor
    middle = float(np.median(found))
    spread = MAD_TO_SIGMA * float(np.median(np.abs(found - middle)))
    return max(space.impostor, middle + OUTLIER_MADS * spread)


def own_similarity(sums: Float32Array, sizes: Float32Array) -> Float32Array:
    """(P,) mean similarity between different templates of each person; NaN of people with one.

    |sum|² is the sum over all pairs, each template with itself, at 1, included.
    """
    norms = np.einsum("pd,pd->p", sums, sums)
    own: Float32Array = np.where(sizes >= 2, (norms - sizes) / np.maximum(sizes * (sizes - 1), 1), np.nan)
    return own.astype(np.float32)


def usual_own(own: Float32Array, impostor: float) -> float:
    """What people with one template may be expected to reach with another: what the others do, or twice a stranger."""
    return float(np.nanmedian(own)) if np.isfinite(own).any() else min(1.0, 2 * impostor)
