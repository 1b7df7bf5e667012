"""The matcher as it is served: arrays, and the arithmetic that turns a probe into an identity.

Two views of the same gallery are combined. A *prototype* is the normalised mean of a person's templates, compared by
cosine; a *linear SVM* (one against the rest) knows what sets people apart. Prototypes say "far from everybody", which
an SVM cannot; the SVM ranks look-alikes better. `functions/train/fit.py` makes these arrays, with scikit-learn;
nothing here needs it, and nothing is unpickled.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Self

import numpy as np

from shared.domain import UNKNOWN, Embeddings, Float32Array, Identity
from shared.errors import InvalidInput

NO_MODEL = "none"
"""`model_id` in answers while nobody is enrolled."""


def new_model_id(read_at: datetime) -> str:
    """An id that sorts by the time at which the fit read the gallery.

    >>> new_model_id(datetime(2026, 1, 2, 3, 4, 5, 678900))[:23]
    '20260102T030405.678900Z'
    """
    return f"{read_at:%Y%m%dT%H%M%S.%f}Z-{secrets.token_hex(2)}"


def fitted_at(model_id: str) -> datetime | None:
    """When the fit of that id read the gallery; None of an id that does not say, such as the empty model's.

    >>> fitted_at("20260102T030405.678900Z-0a1b")
    datetime.datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=datetime.timezone.utc)
    """
    try:
        return datetime.strptime(model_id.partition("-")[0], "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC)
    except ValueError:
        return None


@dataclass(frozen=True, slots=True)
class Operating:
    """Where a person begins and a stranger ends, and how sure an answer is.

    Attributes:
        threshold: smallest similarity that is given a name.
        slope: of the logistic that maps similarity to confidence; positive.
        midpoint: similarity at which confidence is one half.
    """

    threshold: float
    slope: float
    midpoint: float

    def confidence(self, similarity: Float32Array) -> Float32Array:
        """Probability, 0 to 1, that the probe is the person it resembles by `similarity` (any shape)."""
        exponent = np.clip(-self.slope * (similarity.astype(np.float64) - self.midpoint), -50.0, 50.0)
        return (1.0 / (1.0 + np.exp(exponent))).astype(np.float32)


@dataclass(frozen=True, slots=True)
class SvmScale:
    """Puts an SVM margin on the cosine's scale, so that the two can be averaged.

    `similarity = (1 − weight) · cosine + weight · (gain · margin + offset)`. With `weight` 0 the SVM only ranks.
    """

    gain: float = 0.0
    offset: float = 0.0
    weight: float = 0.0


@dataclass(frozen=True, slots=True, eq=False)
class MatcherModel:
    """An immutable matcher for one gallery in one embedder's space.

    Attributes:
        person_ids: the C people, sorted.
        mean: (D,) float32, subtracted from every embedding; zero for a small gallery.
        prototypes: (C, D) float32, unit rows, in the centred space.
        weights: (C, D) float32, one-against-rest SVM normals; zero where no SVM was fitted.
        bias: (C,) float32.
    """

    model_id: str
    embedder_id: str
    person_ids: tuple[str, ...]
    mean: Float32Array
    prototypes: Float32Array
    weights: Float32Array
    bias: Float32Array
    svm: SvmScale
    operating: Operating

    def __post_init__(self) -> None:
        people, dimension = len(self.person_ids), self.mean.shape[0]
        if self.prototypes.shape != (people, dimension) or self.weights.shape != (people, dimension):
            raise InvalidInput("matcher arrays do not agree on people and dimension")
        if self.bias.shape != (people,):
            raise InvalidInput("matcher bias does not agree with the number of people")

    @property
    def has_svm(self) -> bool:
        return bool(np.any(self.weights))

    def centre(self, embeddings: Float32Array) -> Float32Array:
        """(N, D) embeddings with the gallery's mean removed, unit rows again."""
        return centre(embeddings, self.mean)

    def similarities(self, embeddings: Float32Array) -> Float32Array:
        """Similarity of each probe to each person.

        Args:
            embeddings: (N, D) float32, unit rows, of this model's embedder.

        Returns:
            (N, C) float32; higher is closer.
        """
        centred = self.centre(embeddings)
        cosine: Float32Array = centred @ self.prototypes.T
        if self.svm.weight == 0.0:
            return cosine
        margin = centred @ self.weights.T + self.bias
        scaled = self.svm.gain * margin + self.svm.offset
        return ((1.0 - self.svm.weight) * cosine + self.svm.weight * scaled).astype(np.float32)

    def identify(self, probes: Embeddings) -> list[Identity]:
        """The identity of each of N probes: the nearest person if near enough, else unknown.

        Raises:
            EmbedderMismatch: the probes are of another embedder than this model.
        """
        return self._identify(probes.of(self.embedder_id))

    def _identify(self, embeddings: Float32Array) -> list[Identity]:
        if not self.person_ids:
            return [Identity(UNKNOWN, 0.0, 0.0, self.operating.threshold)] * len(embeddings)
        similarities = self.similarities(embeddings)
        return [self._decide(row, self._rank(row, probe)) for row, probe in zip(similarities, embeddings, strict=True)]

    def _rank(self, similarities: Float32Array, embedding: Float32Array) -> int:
        """The person a probe is held against: the SVM's choice where it only ranks, else the most similar."""
        if self.has_svm and self.svm.weight == 0.0:
            return int(np.argmax(self.centre(embedding[None]) @ self.weights.T + self.bias))
        return int(np.argmax(similarities))

    def _decide(self, similarities: Float32Array, nearest: int) -> Identity:
        similarity = similarities[nearest]
        named = similarity >= self.operating.threshold
        return Identity(
            person_id=self.person_ids[nearest] if named else UNKNOWN,
            similarity=float(similarity),
            confidence=float(self.operating.confidence(similarity)),
            threshold=self.operating.threshold,
            nearest=self.person_ids[nearest],
        )

    def confidences(self, probe: Embeddings) -> Iterator[tuple[str, float]]:
        """(person_id, confidence) of everybody for one probe: whom `identify` chose first, then by likeness.

        Raises:
            EmbedderMismatch: the probe is of another embedder than this model.
        """
        (embedding,) = probe.of(self.embedder_id)
        return self._confidences(embedding)

    def _confidences(self, embedding: Float32Array) -> Iterator[tuple[str, float]]:
        if not self.person_ids:
            return
        similarities = self.similarities(embedding[None])[0]
        confidences = self.operating.confidence(similarities)
        nearest = self._rank(similarities, embedding)
        for index in [nearest, *(other for other in np.argsort(-similarities) if other != nearest)]:
            yield self.person_ids[index], float(confidences[index])

    def without(self, person_id: str, *, model_id: str) -> Self:
        """The same matcher under a new id that has never heard of `person_id`."""
        keep = np.array([known != person_id for known in self.person_ids], dtype=bool)
        return replace(
            self,
            model_id=model_id,
            person_ids=tuple(known for known in self.person_ids if known != person_id),
            prototypes=self.prototypes[keep],
            weights=self.weights[keep],
            bias=self.bias[keep],
        )


def centre(embeddings: Float32Array, mean: Float32Array) -> Float32Array:
    """(N, D) embeddings minus (D,) `mean`, rows scaled to unit length; a row that vanishes stays zero."""
    if not np.any(mean):
        return embeddings
    moved = embeddings - mean
    norms = np.linalg.norm(moved, axis=1, keepdims=True)
    unit: Float32Array = np.divide(moved, norms, out=np.zeros_like(moved), where=norms > 1e-9)
    return unit


def empty_model(embedder_id: str, dimension: int, operating: Operating, *, model_id: str = NO_MODEL) -> MatcherModel:
    """The matcher of a gallery of nobody: everyone is unknown."""
    return MatcherModel(
        model_id=model_id,
        embedder_id=embedder_id,
        person_ids=(),
        mean=np.zeros(dimension, np.float32),
        prototypes=np.zeros((0, dimension), np.float32),
        weights=np.zeros((0, dimension), np.float32),
        bias=np.zeros(0, np.float32),
        svm=SvmScale(),
        operating=operating,
    )
