"""Who is nearest: exactly, by one product with every person; above a measured size, by an index that looks at a few.

Similarity is an inner product plus a bias a person. An index over inner products gets the bias as one more dimension,
whose value in every probe is 1.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.domain import Float32Array

EXACT_UP_TO: Final = 20_000
"""People. Up to here one product with all of them takes about as long as an index with its look at the best few, and
misses nobody (bench/scale.py)."""
BLOCK_BYTES: Final = 64 * 2**20
"""Of similarities held at a time."""
SHORTLIST: Final = 64
"""People whom an approximate index names, to be compared exactly."""
LISTS_PER_ROOT: Final = 4
"""Lists of the inverted file, in square roots of the number of people: the usual choice, between 4 and 16."""
PROBED_SHARE: Final = 16
"""One of so many lists is looked at for each probe."""


class PersonIndex(Protocol):
    """Finds the most similar people of one model."""

    def nearest(self, centred: Float32Array, count: int) -> tuple[NDArray[np.intp], Float32Array]:
        """The `count` most similar people (all, if there are fewer) for each probe, most similar first.

        Args:
            centred: (N, D) float32, unit rows, the model's mean removed.

        Returns:
            (N, count) rows of people, and (N, count) float32 similarities, exact.
        """
        ...


class ExactIndex:
    """Every person, by blocked matrix products.

    Args:
        weights: (C, D) float32.
        bias: (C,) float32.
    """

    def __init__(self, weights: Float32Array, bias: Float32Array) -> None:
        self._weights = weights
        self._bias = bias

    def nearest(self, centred: Float32Array, count: int) -> tuple[NDArray[np.intp], Float32Array]:
        count = min(count, len(self._weights))
        rows = np.empty((len(centred), count), np.intp)
        similarities = np.empty((len(centred), count), np.float32)
        # One probe at a time as long as a product with a matrix gains nothing: a few faces of one picture.
        block = 1 if len(centred) <= 4 else max(1, BLOCK_BYTES // (4 * max(len(self._weights), 1)))
        for start in range(0, len(centred), block):
            part = slice(start, start + block)
            found = (self._weights @ centred[start])[None] if block == 1 else centred[part] @ self._weights.T
            found += self._bias
            rows[part] = _best(found, count)
            similarities[part] = np.take_along_axis(found, rows[part], axis=1)
        return rows, similarities


class InvertedFileIndex:
    """Approximate: an inverted file of 8-bit vectors (faiss) names a shortlist, which is then compared exactly.

    Built from the arrays whenever a model is loaded: nothing but them is stored, so nothing foreign is deserialised.

    Args:
        weights: (C, D) float32.
        bias: (C,) float32.
    """

    def __init__(self, weights: Float32Array, bias: Float32Array) -> None:
        import faiss  # only here: most galleries never need it

        self._weights = weights
        self._bias = bias
        rows = np.concatenate([weights, bias[:, None]], axis=1)
        lists = int(LISTS_PER_ROOT * np.sqrt(len(rows)))
        self._coarse = faiss.IndexFlatIP(rows.shape[1])
        self._index: Any = faiss.IndexIVFScalarQuantizer(
            self._coarse, rows.shape[1], lists, faiss.ScalarQuantizer.QT_8bit, faiss.METRIC_INNER_PRODUCT
        )
        self._index.cp.niter = 8
        self._index.cp.max_points_per_centroid = 39
        self._index.train(rows)
        self._index.add(rows)
        self._index.nprobe = max(1, lists // PROBED_SHARE)

    def nearest(self, centred: Float32Array, count: int) -> tuple[NDArray[np.intp], Float32Array]:
        probes = np.concatenate([centred, np.ones((len(centred), 1), np.float32)], axis=1)
        _, shortlist = self._index.search(probes, max(count, SHORTLIST))
        missing = shortlist < 0
        found: Float32Array = np.einsum("nkd,nd->nk", self._weights[shortlist], centred) + self._bias[shortlist]
        found[missing] = -np.inf
        best = _best(found, count)
        return np.take_along_axis(shortlist, best, axis=1).astype(np.intp), np.take_along_axis(found, best, axis=1)


def open_index(weights: Float32Array, bias: Float32Array) -> PersonIndex:
    """The index for a gallery of this size."""
    return ExactIndex(weights, bias) if len(weights) <= EXACT_UP_TO else InvertedFileIndex(weights, bias)


def _best(similarities: Float32Array, count: int) -> NDArray[np.intp]:
    """(N, count) columns of the largest of each row, falling."""
    if count == 1:
        best: NDArray[np.intp] = np.argmax(similarities, axis=1)[:, None]
        return best
    unordered = np.argpartition(-similarities, min(count, similarities.shape[1]) - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(similarities, unordered, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(unordered, order, axis=1), np.intp)
