"""Who is nearest: exactly, by one product with every person; above a measured size, by an index that looks at a few.

Similarity is an inner product plus a bias a person. An index over inner products gets the bias as one more dimension,
whose value in every probe is 1.
"""

from __future__ import annotations

from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from shared.domain import Float32Array

EXACT_UP_TO: Final = 5_000
"""People. Up to here one product with all of them is as fast as an index; beyond, their weights outgrow the processor's
cache and it takes milliseconds (bench/scale.py)."""
BLOCK_BYTES: Final = 64 * 2**20
"""Of similarities held at a time."""
SHORTLIST: Final = 128
"""People whom an approximate index names, to be compared exactly."""
CODED: Final = 2
"""Dimensions that share a code of 4 bits: a person is 1/16 of the size, and all codes are looked at."""
TRAINED_ON: Final = 1_024
TRAINED_FOR: Final = 8
"""People from whom the codes are learned, and rounds of it: sixteen codes of two dimensions need no more."""


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


class QuantisedIndex:
    """Approximate: product-quantised people (faiss, 4-bit fast scan) give a shortlist, which is compared exactly.

    Built from the arrays whenever a model is loaded: nothing but them is stored, so nothing foreign is deserialised.

    Args:
        weights: (C, D) float32.
        bias: (C,) float32.
    """

    def __init__(self, weights: Float32Array, bias: Float32Array) -> None:
        import faiss  # only here: most galleries never need it

        faiss.omp_set_num_threads(1)  # images are worked on side by side already, see `bootstrap.worker_count`
        self._weights = weights
        self._bias = bias
        self._padding = -(weights.shape[1] + 1) % CODED
        rows = np.pad(np.concatenate([weights, bias[:, None]], axis=1), ((0, 0), (0, self._padding)))
        width = rows.shape[1]
        self._index: Any = faiss.IndexPQFastScan(width, width // CODED, 4, faiss.METRIC_INNER_PRODUCT)
        self._index.pq.cp.niter = TRAINED_FOR
        sample = np.random.default_rng(0).permutation(len(rows))[:TRAINED_ON]
        self._index.train(np.ascontiguousarray(rows[sample]))
        self._index.add(rows)

    def nearest(self, centred: Float32Array, count: int) -> tuple[NDArray[np.intp], Float32Array]:
        if not len(centred):
            return np.zeros((0, count), np.intp), np.zeros((0, count), np.float32)
        ones = np.ones((len(centred), 1), np.float32)
        probes = np.pad(np.concatenate([centred, ones], axis=1), ((0, 0), (0, self._padding)))
        _, shortlist = self._index.search(probes, min(max(count, SHORTLIST), len(self._weights)))
        found: Float32Array = np.einsum("nkd,nd->nk", self._weights[shortlist], centred) + self._bias[shortlist]
        found[shortlist < 0] = -np.inf
        best = _best(found, count)
        return np.take_along_axis(shortlist, best, axis=1).astype(np.intp), np.take_along_axis(found, best, axis=1)


def open_index(weights: Float32Array, bias: Float32Array) -> PersonIndex:
    """The index for a gallery of this size."""
    return ExactIndex(weights, bias) if len(weights) <= EXACT_UP_TO else QuantisedIndex(weights, bias)


def _best(similarities: Float32Array, count: int) -> NDArray[np.intp]:
    """(N, count) columns of the largest of each row, falling."""
    if count == 1:
        best: NDArray[np.intp] = np.argmax(similarities, axis=1)[:, None]
        return best
    unordered = np.argpartition(-similarities, min(count, similarities.shape[1]) - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(similarities, unordered, axis=1), axis=1, kind="stable")
    return np.asarray(np.take_along_axis(unordered, order, axis=1), np.intp)
