"""One-against-rest linear SVMs for any number of people, each fitted to the few templates that decide it.

A person's separating plane rests on the templates nearest to it; of 50,000 templates of other people all but some
dozens lie far on their side and have no say. So each person is fitted against the hardest negatives only, found by
one matrix product, and the small problems are solved together, in batches. Where there are no more negatives than
`HARD_NEGATIVES`, this is the SVM itself.

Squared hinge loss, solved in the primal by Newton steps on the active set (Chapelle, "Training a support vector
machine in the primal", Neural Computation 2007); it ends where the active set stays as it is.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.domain import Float32Array

SVM_C: Final = 1.0
HARD_NEGATIVES: Final = 64
"""Templates of others that a person is told from. Twice as many changed neither rank 1 nor TPIR (ADR 0016)."""
MOST_POSITIVES: Final = 64
"""Of a person's own templates, evenly spread over them."""
NEGATIVE_POOL: Final = 65_536
"""Templates among which the hardest negatives are looked for."""
STEPS: Final = 16
_BATCH_BYTES: Final = 64 * 2**20


def fit_svms(
    embeddings: Float32Array, people: NDArray[np.intp], prototypes: Float32Array, rows: NDArray[np.intp]
) -> tuple[Float32Array, Float32Array]:
    """Normals and biases of one-against-rest SVMs for some of the people.

    Args:
        embeddings: (N, D) float32, unit rows, centred.
        people: (N,) 0 to C − 1, everybody's.
        prototypes: (C, D) float32, to which negatives are hard.
        rows: (R,) which people to fit.

    Returns:
        (R, D) and (R,) float32; zero where there is nobody to tell a person from.
    """
    dimension = embeddings.shape[1]
    weights, bias = np.zeros((len(rows), dimension), np.float32), np.zeros(len(rows), np.float32)
    order = np.argsort(people, kind="stable")
    starts = np.searchsorted(people[order], np.arange(len(prototypes) + 1))
    pool = _sample(len(embeddings), NEGATIVE_POOL)
    block = max(1, _BATCH_BYTES // (4 * max(len(pool), (MOST_POSITIVES + HARD_NEGATIVES) * dimension)))
    for start in range(0, len(rows), block):
        part = rows[start : start + block]
        negatives = _hardest(embeddings, people, pool, prototypes[part], part)
        if not negatives.size:
            continue
        positives = _own(order, starts, part)
        weights[start : start + block], bias[start : start + block] = _solve(embeddings, positives, negatives)
    return weights, bias


def _sample(count: int, most: int) -> NDArray[np.intp]:
    """At most `most` numbers below `count`, in order; the same ones every time."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).choice(count, most, replace=False))


def _hardest(
    embeddings: Float32Array,
    people: NDArray[np.intp],
    pool: NDArray[np.intp],
    prototypes: Float32Array,
    rows: NDArray[np.intp],
) -> NDArray[np.intp]:
    """(R, M) templates of others, nearest each prototype; −1 where a person has fewer."""
    similarity = prototypes @ embeddings[pool].T
    own = people[pool][None] == rows[:, None]
    similarity[own] = -np.inf
    count = min(HARD_NEGATIVES, len(pool) - int(own.sum(axis=1).min()))
    if count <= 0:
        return np.zeros((len(rows), 0), np.intp)
    nearest = np.argpartition(-similarity, count - 1, axis=1)[:, :count]
    missing = np.take_along_axis(similarity, nearest, axis=1) == -np.inf
    return np.where(missing, -1, pool[nearest])


def _own(order: NDArray[np.intp], starts: NDArray[np.intp], rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """(R, K) the people's own templates, −1 where a person has fewer."""
    counts = np.minimum(starts[rows + 1] - starts[rows], MOST_POSITIVES)
    own = np.full((len(rows), int(counts.max())), -1, np.intp)
    for row, person in enumerate(rows):
        mine = order[starts[person] : starts[person + 1]]
        own[row, : counts[row]] = mine[np.linspace(0, len(mine) - 1, counts[row]).round().astype(np.intp)]
    return own


def _solve(
    embeddings: Float32Array, positives: NDArray[np.intp], negatives: NDArray[np.intp]
) -> tuple[Float32Array, Float32Array]:
    """The planes between each row of positives and of negatives; −1 stands for no template."""
    chosen = np.concatenate([positives, negatives], axis=1)
    there = chosen >= 0
    sign = np.where(np.arange(chosen.shape[1]) < positives.shape[1], 1.0, -1.0) * there
    points = embeddings[np.maximum(chosen, 0)]
    kernel = np.matmul(points, points.transpose(0, 2, 1)).astype(np.float64)
    problems, size = chosen.shape
    active = there
    beta, offset = np.zeros((problems, size)), np.zeros(problems)
    unit = np.eye(size)
    for _ in range(STEPS):
        # Newton: the active points' system of a least-squares SVM; the others take no part.
        within = active.astype(np.float64)
        system = np.zeros((problems, size + 1, size + 1))
        system[:, :size, :size] = (kernel + unit / (2 * SVM_C)) * within[:, :, None] * within[:, None, :]
        system[:, :size, :size] += unit * (1 - within)[:, :, None]
        system[:, :size, size] = system[:, size, :size] = within
        target = np.concatenate([sign * within, np.zeros((problems, 1))], axis=1)
        solution = np.linalg.solve(system, target[..., None])[..., 0]
        beta, offset = solution[:, :size], solution[:, size]
        margins = sign * (np.matmul(kernel, beta[..., None])[..., 0] + offset[:, None])
        now = there & (margins < 1)
        now[~now.any(axis=1)] = active[~now.any(axis=1)]
        if np.array_equal(now, active):
            break
        active = now
    weights = np.matmul(beta[:, None].astype(np.float32), points)[:, 0]
    return weights, offset.astype(np.float32)
