"""Who belongs together: average linkage over the pairs that resemble each other, under constraints.

Average linkage (UPGMA; Sokal and Michener 1958) joins the two clusters whose members resemble each other most on
average, until no two reach the threshold. Two properties make it cheap and exact here. The average cosine of two
clusters of unit vectors is the product of their sums, divided by their sizes, so that no matrix of pairs is kept. And
an average can reach the threshold only when one of its pairs does, and never rises by a merge above the higher of what
was merged, so that pairs below the threshold are never looked at, and a stale average is an upper bound.

NumPy only; rows are faces, of one embedder.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
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
NEIGHBOURS: Final = 48
"""Most pairs kept of each face, with faces after it: bounds the memory where a thousand faces are one person."""
_ROWS: Final = 2_048
_COLUMNS: Final = 4_096


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
    rows, columns = np.nonzero(hit)
    return _best(rows + start, columns + at, cosines[rows, columns], most)


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

    Returns:
        (N,) labels, numbered by first appearance.
    """
    forest = _Forest(embeddings, constraints or Constraints())
    # The pairs beforehand in order, and only what went stale in the heap: most pairs are looked at once.
    order = np.lexsort((pairs.right, pairs.left, -pairs.similarity))
    left, right, similarity = (each[order].tolist() for each in (pairs.left, pairs.right, pairs.similarity))
    stale: list[tuple[float, int, int]] = []
    for looked_at, (bound, a, b) in enumerate(_falling(zip(similarity, left, right, strict=True), stale)):
        if looked_at % 65_536 == 0:
            progress(min(0.99, looked_at / (2 * len(left) + 1)))
        again = forest.consider(a, b, bound, threshold)
        if again is not None:
            heapq.heappush(stale, (-again[0], again[1], again[2]))
    progress(1.0)
    return forest.labels()


def _falling(
    fresh: Iterable[tuple[float, int, int]], stale: list[tuple[float, int, int]]
) -> Iterator[tuple[float, int, int]]:
    """What is in `fresh`, which falls, and in the heap `stale`, which grows meanwhile, highest first."""
    for candidate in fresh:
        while stale and -stale[0][0] >= candidate[0]:
            bound, a, b = heapq.heappop(stale)
            yield -bound, a, b
        yield candidate
    while stale:
        bound, a, b = heapq.heappop(stale)
        yield -bound, a, b


class _Forest:
    """Clusters that grow: union-find with sums, sizes, and who must stay apart."""

    def __init__(self, embeddings: Float32Array, constraints: Constraints) -> None:
        self._sums = embeddings.copy()
        self._size = [1] * len(embeddings)
        self._parent = list(range(len(embeddings)))
        self._apart: dict[int, set[int]] = {}
        self._seen: dict[tuple[int, int], tuple[int, int]] = {}
        for rows in constraints.same:
            for row in rows[1:]:
                self._join(self.root(rows[0]), self.root(row))
        for one, other in constraints.apart:
            ones, others = {self.root(row) for row in one}, {self.root(row) for row in other}
            for root in ones:
                self._apart.setdefault(root, set()).update(others)
            for root in others:
                self._apart.setdefault(root, set()).update(ones)

    def root(self, row: int) -> int:
        parent = self._parent
        while parent[row] != row:
            parent[row] = parent[parent[row]]
            row = parent[row]
        return row

    def consider(self, a: int, b: int, bound: float, threshold: float) -> tuple[float, int, int] | None:
        """Joins the clusters of two rows if they resemble each other by `bound`; else says by how much they do.

        Returns:
            What to consider again later, at its place; None when the two are done with.
        """
        a, b = self.root(a), self.root(b)
        if a == b or b in self._apart.get(a, ()):
            return None
        a, b = min(a, b), max(a, b)
        sizes = (self._size[a], self._size[b])
        if sizes == (1, 1):
            self._join(a, b)  # a pair's bound is its cosine
            return None
        similarity = float(self._sums[a] @ self._sums[b]) / (sizes[0] * sizes[1])
        if similarity < threshold:
            return None
        if similarity >= bound:
            self._join(a, b)
            return None
        if self._seen.get((a, b)) == sizes:
            return None  # it waits at its place already
        self._seen[a, b] = sizes
        return similarity, a, b

    def _join(self, a: int, b: int) -> None:
        """The smaller row stays the root, whatever the sizes, so that the outcome is the same on every machine."""
        if a == b:
            return
        if a > b:
            a, b = b, a
        self._parent[b] = a
        self._sums[a] += self._sums[b]
        self._size[a] += self._size[b]
        for root in self._apart.pop(b, ()):
            self._apart[root].discard(b)
            self._apart[root].add(a)
            self._apart.setdefault(a, set()).add(root)

    def labels(self) -> IntArray:
        roots = np.array([self.root(row) for row in range(len(self._parent))], dtype=np.int64)
        numbers: IntArray = np.unique(roots, return_inverse=True)[1].astype(np.int64)
        return numbers
