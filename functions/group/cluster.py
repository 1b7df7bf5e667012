"""Who belongs together: average linkage over the pairs that resemble each other, under constraints.

Average linkage (UPGMA; Sokal and Michener 1958) joins the two clusters whose members resemble each other most on
average, until no two reach the threshold. Two properties make it cheap and exact here. The average cosine of two
clusters of unit vectors is the product of their sums, divided by their sizes, so that no matrix of pairs is kept. And
an average can reach the threshold only when one of its pairs does, and never rises by a merge above the higher of what
was merged, so that pairs below the threshold are never looked at, and a stale average is an upper bound.

NumPy only; rows are faces, of one embedder.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.domain import Float32Array
from shared.matching.model import centre

IntArray = NDArray[np.int64]
Progress = Callable[[float], None]

TYPICAL_IDENTITIES: Final = 100
"""With fewer, the mean face is that of the people themselves, and removing it would remove what tells them apart."""
SAMPLE: Final = 4_000
"""Faces that the mean is taken from: enough for its error to be far below what tells two people apart."""
LARGE: Final = 4_000
"""Faces up to which the embedder's threshold holds as it is."""
RISE_PER_DOUBLING: Final = 0.01
"""Of the threshold above `LARGE`: every doubling doubles the strangers that a face may be taken for."""
NEIGHBOURS: Final = 24
"""Most pairs kept of each face, with faces after it: bounds the memory where a thousand faces are one person."""
_ROWS: Final = 2_048
_COLUMNS: Final = 4_096
_PORTION: Final = 32_768


@dataclass(frozen=True, slots=True)
class Constraints:
    """What people have said, in rows.

    Attributes:
        same: disjoint sets of rows that are one person each.
        apart: pairs of sets; nobody in the first is anybody in the second. No set of `same` reaches into both.
    """

    same: Sequence[Sequence[int]] = ()
    apart: Sequence[tuple[Sequence[int], Sequence[int]]] = ()


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Pairs of rows that resemble each other: (P,) rows, (P,) later rows, (P,) float32 cosines."""

    left: IntArray
    right: IntArray
    similarity: Float32Array


def no_progress(share: float) -> None:
    """For callers who do not ask."""


def cluster(
    embeddings: Float32Array,
    threshold: float,
    constraints: Constraints | None = None,
    progress: Progress = no_progress,
) -> IntArray:
    """Groups faces into people.

    Args:
        embeddings: (N, D) float32, unit rows.
        threshold: cosine from which two faces of a small number are one person; the embedder's default.
        constraints: hold in every case.
        progress: told shares of the work, 0 to 1. What it raises ends the work.

    Returns:
        (N,) labels, numbered by first appearance; a face that resembles nobody has a label of its own.
    """
    centred = centre(embeddings, typical(embeddings, threshold))
    at = threshold_for(len(centred), threshold)
    pairs = similar_pairs(centred, at, lambda share: progress(0.8 * share))
    return link(centred, pairs, at, constraints or Constraints(), lambda share: progress(0.8 + 0.2 * share))


def threshold_for(faces: int, threshold: float) -> float:
    """The threshold for so many faces.

    >>> threshold_for(100, 0.5), round(threshold_for(16_000, 0.5), 3)
    (0.5, 0.52)
    """
    return threshold + RISE_PER_DOUBLING * max(0.0, math.log2(max(faces, 1) / LARGE))


def typical(embeddings: Float32Array, threshold: float) -> Float32Array:
    """(D,) the mean face, every person counted once; zero when there are too few people to tell.

    The people are those of a first, plain clustering of at most `SAMPLE` faces, evenly spread.
    """
    dimension = embeddings.shape[1]
    rows = np.unique(np.linspace(0, max(len(embeddings) - 1, 0), min(len(embeddings), SAMPLE)).astype(np.int64))
    if len(rows) < TYPICAL_IDENTITIES:
        return np.zeros(dimension, np.float32)
    sample = embeddings[rows]
    # A little higher, since without the mean removed everybody resembles everybody somewhat.
    at = threshold + 0.1 * (1.0 - threshold)
    labels = link(sample, similar_pairs(sample, at), at)
    count = int(labels.max()) + 1
    if count < TYPICAL_IDENTITIES:
        return np.zeros(dimension, np.float32)
    sums = np.zeros((count, dimension), np.float64)
    np.add.at(sums, labels, sample)
    means: Float32Array = (sums / np.bincount(labels)[:, None]).mean(axis=0).astype(np.float32)
    return means


def similar_pairs(
    embeddings: Float32Array, threshold: float, progress: Progress = no_progress, *, most: int = NEIGHBOURS
) -> Pairs:
    """Every pair of (N, D) unit rows whose cosine reaches the threshold, up to `most` of each row with later ones.

    By blocks: N²·D operations in all, and memory for one block and the pairs.
    """
    count = len(embeddings)
    found: list[tuple[IntArray, IntArray, Float32Array]] = []
    for start in range(0, count, _ROWS):
        block = embeddings[start : start + _ROWS]
        hits = [_block_pairs(block, embeddings, start, at, threshold, most) for at in range(start, count, _COLUMNS)]
        left, right, similarity = (np.concatenate(column) for column in zip(*hits, strict=True))
        found.append(_best(left, right, similarity, most))
        # Later rows meet fewer others: the share of the triangle that is done.
        progress(1.0 - (1.0 - min(start + _ROWS, count) / count) ** 2)
    if not found:
        empty = np.zeros(0, np.int64)
        return Pairs(empty, empty, np.zeros(0, np.float32))
    left, right, similarity = (np.concatenate(column) for column in zip(*found, strict=True))
    return Pairs(left, right, similarity)


def _block_pairs(
    block: Float32Array, embeddings: Float32Array, start: int, at: int, threshold: float, most: int
) -> tuple[IntArray, IntArray, Float32Array]:
    cosines: Float32Array = block @ embeddings[at : at + _COLUMNS].T
    hit = cosines >= threshold
    if at < start + len(block):  # on the diagonal: each pair once, and none of a row with itself
        hit &= np.arange(at, at + cosines.shape[1])[None] > np.arange(start, start + len(block))[:, None]
    crowded = np.flatnonzero(hit.sum(axis=1) > most)
    if len(crowded):  # most of a crowd is dropped before it is sorted
        among = np.where(hit[crowded], cosines[crowded], -np.inf)
        nearest = np.argpartition(-among, most, axis=1)[:, :most]
        hit[crowded] = False
        hit[crowded[:, None], nearest] = True
    rows, columns = np.nonzero(hit)
    return rows + start, columns + at, cosines[rows, columns]


def _best(
    left: IntArray, right: IntArray, similarity: Float32Array, most: int
) -> tuple[IntArray, IntArray, Float32Array]:
    """The `most` highest of each left row."""
    if not len(left) or np.bincount(left - left.min()).max() <= most:
        return left, right, similarity
    order = np.lexsort((right, -similarity, left))
    left, right, similarity = left[order], right[order], similarity[order]
    starts = np.flatnonzero(np.concatenate([[True], left[1:] != left[:-1]]))
    rank = np.arange(len(left)) - np.repeat(starts, np.diff(np.concatenate([starts, [len(left)]])))
    keep = rank < most
    return left[keep], right[keep], similarity[keep]


def link(
    embeddings: Float32Array,
    pairs: Pairs,
    threshold: float,
    constraints: Constraints | None = None,
    progress: Progress = no_progress,
) -> IntArray:
    """Constrained average linkage; see the module. `embeddings` are what `pairs` are of.

    In rounds: all clusters that are each other's nearest are joined at once. Since no average rises by a merge, they
    would be joined one after the other just the same (Murtagh 1983).

    Returns:
        (N,) labels, numbered by first appearance.
    """
    clusters = _Clusters(embeddings, constraints or Constraints())
    edges = clusters.renewed(pairs, threshold)
    most = max(len(edges.left), 1)
    while len(edges.left):
        clusters.join(*_mutual(edges, len(embeddings)))
        edges = clusters.renewed(edges, threshold)
        progress(min(0.99, 1.0 - len(edges.left) / most))
    progress(1.0)
    return clusters.labels()


def _mutual(edges: Pairs, count: int) -> tuple[IntArray, IntArray]:
    """Both ends of the edges that are the best of either end. There is always one: the best of all."""
    highest = np.full(count, -np.inf, np.float32)
    np.maximum.at(highest, edges.left, edges.similarity)
    np.maximum.at(highest, edges.right, edges.similarity)
    of_both = (edges.similarity == highest[edges.left]) & (edges.similarity == highest[edges.right])
    left, right = edges.left[of_both], edges.right[of_both]
    # Of equals the first of either end, as the edges are in order of their ends.
    turn = np.arange(len(left))
    first = np.full(count, len(left))
    np.minimum.at(first, left, turn)
    np.minimum.at(first, right, turn)
    chosen = (first[left] == turn) & (first[right] == turn)
    return left[chosen], right[chosen]


class _Clusters:
    """Clusters that grow, each known by its first row: their sums, sizes, and who must stay apart."""

    def __init__(self, embeddings: Float32Array, constraints: Constraints) -> None:
        count = len(embeddings)
        self._sums = embeddings.copy()
        self._size = np.ones(count, np.float32)
        self._of = np.arange(count)
        self._changed = np.zeros(count, dtype=bool)
        for rows in constraints.same:
            self._of[list(rows)] = min(rows)
        joined = np.flatnonzero(self._of != np.arange(count))
        np.add.at(self._sums, self._of[joined], embeddings[joined])
        np.add.at(self._size, self._of[joined], 1.0)
        self._changed[self._of[joined]] = True
        told = [(one, other) for ones, others in constraints.apart for one in ones for other in others]
        self._apart = np.array(told, np.int64).reshape(-1, 2)

    def renewed(self, edges: Pairs, threshold: float) -> Pairs:
        """The edges between clusters as they are now, each once, of those that reach the threshold and may join."""
        count = len(self._of)
        left, right = self._of[edges.left], self._of[edges.right]
        key = np.minimum(left, right) * count + np.maximum(left, right)
        key[left == right] = -1
        key, first = np.unique(key, return_index=True)
        keep = key >= 0
        if len(self._apart):
            one, other = self._of[self._apart[:, 0]], self._of[self._apart[:, 1]]
            keep &= ~np.isin(key, np.minimum(one, other) * count + np.maximum(one, other))
        key, similarity = key[keep], edges.similarity[first[keep]]
        left, right = np.divmod(key, count)
        stale = np.flatnonzero(self._changed[left] | self._changed[right])
        for start in range(0, len(stale), _PORTION):
            part = stale[start : start + _PORTION]
            a, b = left[part], right[part]
            products = np.einsum("nd,nd->n", self._sums[a], self._sums[b])
            similarity[part] = products / (self._size[a] * self._size[b])
        near = similarity >= threshold
        return Pairs(left[near], right[near], similarity[near])

    def join(self, kept: IntArray, gone: IntArray) -> None:
        """Joins pairs of clusters, each in one pair at most; `kept` are the earlier ones."""
        self._sums[kept] += self._sums[gone]
        self._size[kept] += self._size[gone]
        heir = np.arange(len(self._of))
        heir[gone] = kept
        self._of = heir[self._of]
        self._changed[:] = False
        self._changed[kept] = True

    def labels(self) -> IntArray:
        numbers: IntArray = np.unique(self._of, return_inverse=True)[1].astype(np.int64)
        return numbers
