"""The matcher as it is served: arrays, and the arithmetic that turns a probe into an identity.

Every matcher that training can choose (cosine to a person's prototype, one-against-rest linear SVM, both together;
with what each person's similarities are corrected by) is linear in the probe, so one row a person serves them all:

    similarity to person j = weights[j] · centred probe + bias[j]

`functions/train/` makes these arrays; nothing here needs scikit-learn, and nothing is unpickled.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from shared.domain import UNKNOWN, Embeddings, Float32Array, Identity
from shared.errors import InvalidInput
from shared.matching.index import PersonIndex, open_index

NO_MODEL = "none"
"""`model_id` in answers while nobody is enrolled."""


FAR_CROWD: Final = 0.35
NEAR_CROWD: Final = 0.6
"""Shares of the threshold. The crowd are the next most similar people after the nearest: where their mean similarity is
the first share, the nearest stands out wholly; where it is the second, not at all."""
CROWD_SHARE: Final = 0.07
MOST_CROWD: Final = 20
"""Share of the other people who are the crowd, one at least, and the most that are asked."""
FEWEST_PEOPLE: Final = 20
"""Fewer are no crowd to stand out of."""


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
        cameras: thresholds of cameras that have seen enough strangers for one of their own, by `camera_key`.
        best_shot_margin: by how much lower the threshold is, at the most, for a gateway's best shots of somebody who
            stands out, see `MatcherModel.identify`; 0: not at all.
        visit_margin: the same for several of them that resemble one person, see `MatcherModel.identify_visit`.
    """

    threshold: float
    slope: float
    midpoint: float
    cameras: Mapping[str, float] = field(default_factory=dict)
    best_shot_margin: float = 0.0
    visit_margin: float = 0.0

    def at(self, camera: str | None) -> float:
        """The threshold that holds at a camera, see `camera_key`; the general one without."""
        return self.threshold if camera is None else self.cameras.get(camera, self.threshold)

    def confidence(self, similarity: Float32Array) -> Float32Array:
        """Probability, 0 to 1, that the probe is the person it resembles by `similarity` (any shape).

        Of faces nine of ten of which are strangers'; see docs/recognition.md.
        """
        exponent = np.clip(-self.slope * (similarity.astype(np.float64) - self.midpoint), -50.0, 50.0)
        return (1.0 / (1.0 + np.exp(exponent))).astype(np.float32)


def camera_key(site: str, camera: str) -> str:
    """How `Operating.cameras` names a camera. A site's name holds no slash.

    >>> camera_key("museum", "door")
    'museum/door'
    """
    return f"{site}/{camera}"


@dataclass(frozen=True, slots=True, eq=False)
class MatcherModel:
    """An immutable matcher for one gallery in one embedder's space.

    Attributes:
        person_ids: the C people, sorted.
        mean: (D,) float32, subtracted from every embedding.
        weights: (C, D) float32, one row a person.
        bias: (C,) float32.
        index: finds the most similar people; see `searched_by`.
    """

    model_id: str
    embedder_id: str
    person_ids: tuple[str, ...]
    mean: Float32Array
    weights: Float32Array
    bias: Float32Array
    operating: Operating
    index: PersonIndex | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        people, dimension = len(self.person_ids), self.mean.shape[0]
        if self.weights.shape != (people, dimension) or self.bias.shape != (people,):
            raise InvalidInput("matcher arrays do not agree on people and dimension")

    def searched_by(self, index: PersonIndex) -> Self:
        """This model, which asks `index` from now on. Before the first answer: nobody may be asking meanwhile."""
        object.__setattr__(self, "index", index)
        return self

    def _nearest(self, centred: Float32Array, count: int) -> tuple[NDArray[np.intp], Float32Array]:
        if self.index is None:  # of a model that was loaded there is one already
            self.searched_by(open_index(self.weights, self.bias))
        assert self.index is not None  # noqa: S101 - made in the line above
        return self.index.nearest(centred, count)

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
        similarities: Float32Array = self.centre(embeddings) @ self.weights.T
        similarities += self.bias
        return similarities

    def identify(self, probes: Embeddings, camera: str | None = None, *, best_shots: bool = False) -> list[Identity]:
        """The identity of each of N probes: the nearest person if near enough, else unknown.

        Every look at a stranger is a chance to take them for somebody. A camera that sends few looks of a visit may be
        less strict with each of them, the less the next people resemble them too: a face that resembles many resembles
        nobody in particular (docs/adr/0028).

        Args:
            camera: whose threshold holds, see `camera_key`.
            best_shots: the probes are a gateway's best shots, a few of each visit; see also `identify_visit`.

        Raises:
            EmbedderMismatch: the probes are of another embedder than this model.
        """
        return self._identify(probes.of(self.embedder_id), camera, best_shots)

    def identify_visit(
        self, shot: Embeddings, others: Sequence[Embeddings], camera: str | None = None
    ) -> Identity | None:
        """Who a best shot shows together with others of the same visit; None when none of them agrees with it.

        The shots that resemble the same person the most as this one does agree with it. How similar they are together
        is the mean of what each is, how far the person stands out likewise; and the threshold is lower than that of
        one shot by itself: strangers seldom resemble the same person from every side (docs/adr/0028).

        Args:
            shot: one row.
            others: a row each; those of another embedder are left out.
            camera: whose threshold holds, see `camera_key`.

        Raises:
            EmbedderMismatch: the shot is of another embedder than this model.
        """
        own = shot.of(self.embedder_id)
        rows = [own, *(other.vectors for other in others if other.embedder_id == self.embedder_id)]
        if not self.person_ids or len(rows) == 1:
            return None
        centred = self.centre(np.concatenate(rows))
        nearest, similarities = self._nearest(centred, 1)
        agree = nearest[:, 0] == nearest[0, 0]
        if np.count_nonzero(agree) == 1:
            return None
        together = centred[agree].mean(axis=0, keepdims=True)
        similarity, usual = similarities[agree, 0].mean(keepdims=True), self.operating.at(camera)
        threshold = usual - self.operating.visit_margin * float(self._standing_out(together, usual)[0])
        (confidence,) = self.operating.confidence(similarity)
        person_id = self.person_ids[nearest[0, 0]]
        named = person_id if similarity[0] >= threshold else UNKNOWN
        return Identity(named, float(similarity[0]), float(confidence), threshold, person_id)

    def _identify(
        self, embeddings: Float32Array, camera: str | None = None, best_shots: bool = False
    ) -> list[Identity]:
        usual = self.operating.at(camera)
        if not self.person_ids or not len(embeddings):
            return [Identity(UNKNOWN, 0.0, 0.0, usual)] * len(embeddings)
        centred = self.centre(embeddings)
        rows, similarities = self._nearest(centred, 1)
        thresholds = np.full(len(embeddings), usual)
        if best_shots:
            below = similarities[:, 0] < usual
            thresholds[below] -= self.operating.best_shot_margin * self._standing_out(centred[below], usual)
        confidences = self.operating.confidence(similarities[:, 0])
        return [
            Identity(
                person_id=self.person_ids[row] if similarity >= threshold else UNKNOWN,
                similarity=float(similarity),
                confidence=float(confidence),
                threshold=float(threshold),
                nearest=self.person_ids[row],
            )
            for row, similarity, confidence, threshold in zip(
                rows[:, 0], similarities[:, 0], confidences, thresholds, strict=True
            )
        ]

    def _standing_out(self, centred: Float32Array, threshold: float) -> NDArray[np.float64]:
        """(N,) how far each probe's nearest person stands out from the next ones, from 0 to 1 (wholly)."""
        people = len(self.person_ids)
        if not len(centred) or people < FEWEST_PEOPLE or threshold <= 0:
            return np.zeros(len(centred))
        crowd = min(max(round(CROWD_SHARE * (people - 1)), 1), MOST_CROWD)
        _, similarities = self._nearest(centred, 1 + crowd)
        near = similarities[:, 1:].mean(axis=1, dtype=np.float64) / threshold
        return np.asarray(np.clip((NEAR_CROWD - near) / (NEAR_CROWD - FAR_CROWD), 0.0, 1.0))

    def confidences(self, probe: Embeddings) -> Iterator[tuple[str, float]]:
        """(person_id, confidence) of everybody for one probe, the likeliest first.

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
        for row in np.argsort(-similarities, kind="stable"):
            yield self.person_ids[row], float(confidences[row])

    def without(self, person_id: str, *, model_id: str) -> Self:
        """The same matcher under a new id that has never heard of `person_id`."""
        keep = np.array([known != person_id for known in self.person_ids], dtype=bool)
        return replace(
            self,
            model_id=model_id,
            person_ids=tuple(known for known in self.person_ids if known != person_id),
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
        weights=np.zeros((0, dimension), np.float32),
        bias=np.zeros(0, np.float32),
        operating=operating,
    )
