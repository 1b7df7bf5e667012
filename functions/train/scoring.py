"""From templates to one linear row a person: prototype, SVM, and what a person's similarities are corrected by.

Three things make people differ in how easily they are named, and each is corrected for, so that one threshold fits all:

- *Who attracts strangers.* Some prototypes lie where many faces lie. A person's **offset** is the mean similarity of
  the most similar hundredth of other people's templates (the idea of Z-norm, Reynolds 1997, at the tail that counts);
  a share of what it exceeds everybody's mean by is subtracted.
- *Who resembles themselves.* Templates that agree promise high similarities, scattered ones low. The similarity that a
  person's photographs promise is estimated from how much the templates agree, and divided out in part.
- *How much is known.* All estimates are drawn towards the mean of everybody where there is little data.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from functions.train.svm import fit_svms
from shared.domain import Float32Array
from shared.matching.model import centre

KINDS: Final[Mapping[str, float]] = {"prototype": 0.0, "prototype+svm": 0.15, "svm": 1.0}
"""The matchers that training tries, simplest first, and the SVM's share in each."""

MEAN_PRIOR: Final = 5
"""People. The gallery's mean is removed as far as it is known: of N people's, N / (N + 5)."""
OFFSET_SHARE: Final = 0.4
OFFSET_TAIL: Final = 0.012
"""Share of the cohort, the most similar, whose mean similarity is a person's offset."""
OFFSET_PRIOR: Final = 50
"""People; as `MEAN_PRIOR`, for what sets a person's offset apart."""
COHORT: Final = 4_096
"""Templates that stand for everybody when offsets are measured."""
GENUINE_SHARE: Final = 0.25
"""Exponent of the promised similarity that is divided out."""
GENUINE_PRIOR: Final = 3.0
"""Pairs of templates; so many of everybody's mean are added to a person's own."""
_BLOCK: Final = 4_096


@dataclass(frozen=True, slots=True, eq=False)
class Scorer:
    """A linear matcher without an operating point, and what it takes to add a person to it.

    Attributes:
        mean: (D,) float32, removed from every embedding.
        weights, bias: (C, D) and (C,) float32, as `MatcherModel` serves them.
        agreement: mean cosine between two templates of one person, of all who have two.
        gain, shift: put SVM margins on the cosines' scale: `gain · margin + shift`.
        mean_offset: of everybody.
        planes: (C, D) normals and (C,) biases of the SVMs as they were fitted, where there are any.
    """

    mean: Float32Array
    weights: Float32Array
    bias: Float32Array
    agreement: float
    gain: float
    shift: float
    mean_offset: float
    planes: tuple[Float32Array, Float32Array] | None = None

    def similarities(self, embeddings: Float32Array) -> Float32Array:
        """(N, C) similarity of (N, D) unit rows to each person."""
        return np.asarray(centre(embeddings, self.mean) @ self.weights.T + self.bias, np.float32)


def fit_scorers(
    embeddings: Float32Array, people: NDArray[np.intp], count: int, *, kinds: Sequence[str]
) -> dict[str, Scorer]:
    """Fits everybody, once for each kind of matcher.

    Args:
        embeddings: (N, D) float32, unit rows.
        people: (N,) 0 to `count` − 1, each at least once.
        kinds: of `KINDS`.
    """
    mean = _mean_of_people(embeddings, people, count) * np.float32(count / (count + MEAN_PRIOR))
    centred = centre(embeddings, mean)
    prototypes, cosines, counts = _prototypes(centred, people, count)
    pairs = counts * (counts - 1) / 2
    agreement = float(np.average(cosines, weights=np.minimum(pairs, 10))) if pairs.any() else 1.0
    scale = _scale(cosines, counts, agreement)
    everybody = np.arange(count)
    normals, offsets, gain, shift = prototypes, np.zeros(count, np.float32), 1.0, 0.0
    planes = None
    if any(KINDS[kind] > 0 for kind in kinds):
        planes = normals, offsets = fit_svms(centred, people, prototypes, everybody)
        gain, shift = _on_cosine_scale(centred, people, prototypes, normals, offsets)
    scorers = {}
    for kind in kinds:
        weights, bias = _blend(prototypes, normals, offsets, KINDS[kind], gain, shift)
        tails = _tails(centred, people, weights, bias, everybody)
        mean_offset = float(tails.mean())
        weights, bias = _corrected(weights, bias, tails, mean_offset, scale, count)
        scorers[kind] = Scorer(mean, weights, bias, agreement, gain, shift, mean_offset, planes)
    return scorers


def refit_people(
    scorer: Scorer, embeddings: Float32Array, people: NDArray[np.intp], count: int, rows: NDArray[np.intp], *, kind: str
) -> tuple[Float32Array, Float32Array]:
    """Weights and bias of a few people among everybody, with all that was estimated of the others left as it is.

    Args:
        embeddings, people, count: as `fit_scorers`, everybody's.
        rows: (R,) whom to fit.
    """
    centred = centre(embeddings, scorer.mean)
    prototypes, cosines, counts = _prototypes(centred, people, count)
    normals, offsets = prototypes[rows], np.zeros(len(rows), np.float32)
    if (share := KINDS[kind]) > 0:
        normals, offsets = fit_svms(centred, people, prototypes, rows)
    weights, bias = _blend(prototypes[rows], normals, offsets, share, scorer.gain, scorer.shift)
    tails = _tails(centred, people, weights, bias, rows)
    scale = _scale(cosines, counts, scorer.agreement)[rows]
    return _corrected(weights, bias, tails, scorer.mean_offset, scale, count)


def _mean_of_people(embeddings: Float32Array, people: NDArray[np.intp], count: int) -> Float32Array:
    """(D,) mean in which everybody weighs the same, however many templates they have."""
    weight = 1.0 / np.bincount(people, minlength=count)[people] / count
    mean: Float32Array = (weight.astype(np.float32) @ embeddings).astype(np.float32)
    return mean


def _prototypes(
    centred: Float32Array, people: NDArray[np.intp], count: int
) -> tuple[Float32Array, NDArray[np.float64], NDArray[np.intp]]:
    """(C, D) unit means; (C,) mean cosine between two of a person's templates, 0 for one alone; (C,) templates."""
    order = np.argsort(people, kind="stable")
    counts = np.bincount(people, minlength=count)
    starts = np.concatenate([[0], np.cumsum(counts)[:-1]])
    sums = np.add.reduceat(centred[order], starts, axis=0)
    lengths = np.linalg.norm(sums, axis=1)
    pairs = np.maximum(counts * (counts - 1), 1)
    cosines = np.where(counts > 1, (lengths.astype(np.float64) ** 2 - counts) / pairs, 0.0)
    prototypes: Float32Array = sums / np.maximum(lengths, 1e-9)[:, None]
    return prototypes, cosines, counts


def _scale(cosines: NDArray[np.float64], counts: NDArray[np.intp], agreement: float) -> Float32Array:
    """(C,) factor that takes out part of the similarity which a person's templates promise of another photograph.

    Two photographs of one person have cosine ρ; then another has √k · ρ / √(1 + (k − 1) ρ) with the mean of k.
    """
    pairs = counts * (counts - 1) / 2
    rho = np.clip((pairs * cosines + GENUINE_PRIOR * agreement) / (pairs + GENUINE_PRIOR), 0.05, 1.0)
    promised = np.sqrt(counts) * rho / np.sqrt(1 + (counts - 1) * rho)
    usual = 0.05 if agreement < 0.05 else np.sqrt(3) * agreement / np.sqrt(1 + 2 * agreement)
    return ((promised / usual) ** -GENUINE_SHARE).astype(np.float32)


def _on_cosine_scale(
    centred: Float32Array,
    people: NDArray[np.intp],
    prototypes: Float32Array,
    normals: Float32Array,
    offsets: Float32Array,
) -> tuple[float, float]:
    """Gain and shift that give margins of other people's templates the mean and spread of their cosines."""
    random = np.random.default_rng(0)
    rows = random.permutation(len(centred))[:COHORT]
    columns = random.permutation(len(prototypes))[:_BLOCK]
    others = people[rows][:, None] != columns[None]
    cosine = (centred[rows] @ prototypes[columns].T)[others]
    margin = (centred[rows] @ normals[columns].T + offsets[columns])[others]
    gain = float(cosine.std() / max(float(margin.std()), 1e-9))
    return gain, float(cosine.mean() - gain * margin.mean())


def _blend(
    prototypes: Float32Array, normals: Float32Array, offsets: Float32Array, share: float, gain: float, shift: float
) -> tuple[Float32Array, Float32Array]:
    if share == 0:
        return prototypes, np.zeros(len(prototypes), np.float32)
    weights = np.float32(1 - share) * prototypes + np.float32(share * gain) * normals
    return weights, (share * (gain * offsets + shift)).astype(np.float32)


def _tails(
    centred: Float32Array,
    people: NDArray[np.intp],
    weights: Float32Array,
    bias: Float32Array,
    rows: NDArray[np.intp],
) -> Float32Array:
    """(R,) mean similarity of the most similar of other people's templates to people `rows` of these weights."""
    cohort = np.sort(np.random.default_rng(1).permutation(len(centred))[:COHORT])
    tails = np.zeros(len(rows), np.float32)
    nobody = np.float32(-np.inf)
    for start in range(0, len(rows), _BLOCK):
        part = slice(start, start + _BLOCK)
        similarity = centred[cohort] @ weights[part].T + bias[part]
        similarity[people[cohort][:, None] == rows[part][None]] = nobody
        others = (similarity > nobody).sum(axis=0)
        most = max(1, round(OFFSET_TAIL * len(cohort)))
        top = -np.partition(-similarity, min(most, len(cohort)) - 1, axis=0)[:most]
        top[top == nobody] = 0.0
        tails[part] = top.sum(axis=0) / np.maximum(np.minimum(others, most), 1)
    return tails


def _corrected(
    weights: Float32Array, bias: Float32Array, tails: Float32Array, mean_offset: float, scale: Float32Array, count: int
) -> tuple[Float32Array, Float32Array]:
    known = count / (count + OFFSET_PRIOR)
    offset = (OFFSET_SHARE * known * (tails - mean_offset)).astype(np.float32)
    return weights * scale[:, None], (bias - offset) * scale
