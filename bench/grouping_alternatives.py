"""Other ways to group faces, for the comparison of `bench.grouping`: all see every similarity, none has constraints."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.sparse import csr_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial.distance import squareform
from sklearn.cluster import DBSCAN, HDBSCAN

from bench.grouping import Labels, Sample, bcubed, groups_of
from functions.group.cluster import typical
from shared.domain import Float32Array
from shared.matching.model import centre

Cosines = NDArray[np.float64]
STEPS: Final = tuple(np.arange(0.2, 0.84, 0.02).round(2).tolist())
JACCARD_NEIGHBOURS: Final = 10


def compare(sample: Sample, default: float, min_faces: int) -> dict[str, Any]:
    """BCubed F of each on the half that its parameter was not chosen on, and on all; our own at its default, too."""
    centred: dict[int | None, tuple[Cosines, Cosines, Labels]] = {
        half: _cosines(sample if half is None else sample.of_half(half), default) for half in (0, 1, None)
    }
    found: dict[str, Any] = {}
    for name, (method, parameters, plain) in METHODS.items():

        def f(half: int | None, parameter: float, method: Any = method, plain: bool = plain) -> float:
            bare, moved, truth = centred[half]
            return bcubed(groups_of(method(bare if plain else moved, parameter), min_faces), truth)["f"]

        chosen = max(parameters, key=lambda parameter: f(0, parameter))
        found[name] = {"chosen": chosen, "other_half": f(1, chosen), "all": f(None, chosen)}
    return found


def _cosines(sample: Sample, default: float) -> tuple[Cosines, Cosines, Labels]:
    def of(rows: Float32Array) -> Cosines:
        cosines: Cosines = np.clip(rows @ rows.T, -1.0, 1.0).astype(np.float64)
        return (cosines + cosines.T) / 2

    moved = centre(sample.embeddings, typical(sample.embeddings, default))
    return of(sample.embeddings), of(moved), sample.truth


def _distances(cosines: Cosines) -> Cosines:
    distances: Cosines = np.clip(1.0 - cosines, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    return distances


def _linkage(kind: str) -> Callable[[Cosines, float], Labels]:
    def linked(cosines: Cosines, threshold: float) -> Labels:
        tree = linkage(squareform(_distances(cosines), checks=False), kind)
        labels: Labels = fcluster(tree, 1.0 - threshold, "distance").astype(np.int64)
        return labels

    return linked


def _components(cosines: Cosines, threshold: float) -> Labels:
    labels: Labels = connected_components(csr_matrix(cosines >= threshold))[1].astype(np.int64)
    return labels


def _dbscan(cosines: Cosines, threshold: float) -> Labels:
    scan = DBSCAN(eps=1.0 - threshold, min_samples=3, metric="precomputed")
    labels: Labels = scan.fit_predict(_distances(cosines)).astype(np.int64)
    return labels


def _hdbscan(cosines: Cosines, min_samples: float) -> Labels:
    scan = HDBSCAN(min_cluster_size=3, min_samples=int(min_samples), metric="precomputed", copy=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        labels: Labels = scan.fit_predict(_distances(cosines)).astype(np.int64)
    return labels


def _whispers(cosines: Cosines, threshold: float) -> Labels:
    """Chinese whispers (Biemann 2006): everybody takes the heaviest label around, in random order, 20 times at most."""
    random = np.random.default_rng(0)
    labels = np.arange(len(cosines))
    near = [row[row != number] for number, row in enumerate(map(np.flatnonzero, cosines >= threshold))]
    for _ in range(20):
        before = labels.copy()
        for number in random.permutation(len(labels)):
            if len(near[number]):
                labels[number] = np.bincount(labels[near[number]], cosines[number, near[number]]).argmax()
        if np.array_equal(labels, before):
            break
    return labels.astype(np.int64)


def _reranked(cosines: Cosines, threshold: float) -> Labels:
    """Average linkage on cosines mixed, 7 to 3, with how much two faces' neighbourhoods have in common (k-reciprocal
    re-ranking's idea; Zhong et al. 2017)."""
    count, k = len(cosines), min(JACCARD_NEIGHBOURS, len(cosines) - 1)
    nearest = np.argpartition(-cosines, k, axis=1)[:, :k]
    rows = np.arange(count)[:, None]
    weights = np.zeros((count, count), np.float32)
    weights[rows, nearest] = np.clip(cosines[rows, nearest], 0.0, 1.0)
    weights = (weights + weights[nearest[:, :6]].mean(axis=1)) / 2
    weights /= np.linalg.norm(weights, axis=1, keepdims=True)
    return _linkage("average")(0.7 * cosines + 0.3 * (weights @ weights.T).astype(np.float64), threshold)


METHODS: Final[dict[str, tuple[Callable[[Cosines, float], Labels], tuple[float, ...], bool]]] = {
    "average linkage": (_linkage("average"), STEPS, False),
    "average linkage, mean left in": (_linkage("average"), STEPS, True),
    "complete linkage": (_linkage("complete"), STEPS, False),
    "connected components": (_components, STEPS, False),
    "DBSCAN": (_dbscan, STEPS, False),
    "HDBSCAN": (_hdbscan, (1.0, 2.0, 3.0, 5.0), False),
    "Chinese whispers": (_whispers, STEPS, False),
    "average linkage, re-ranked": (_reranked, STEPS, False),
}
"""Method, its parameters, and whether it sees the embeddings with the mean face left in."""
