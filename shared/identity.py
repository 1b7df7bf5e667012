"""What is compared, and what the comparison says: embeddings of one space, and an identity.

Part of the vocabulary of `shared.domain`, which everybody imports it from. Standard library and NumPy only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from shared.errors import EmbedderMismatch, InvalidInput
from shared.spelling import UNKNOWN

Float32Array = NDArray[np.float32]

SECOND_LOOK: Final = 0.1
"""Similarity to either side of the threshold, see `Identity.close`."""


@dataclass(frozen=True, slots=True, eq=False)
class Embeddings:
    """Vectors, and the embedder whose space they are of: what is compared is of one space by construction.

    Attributes:
        embedder_id: of the embedder that made them.
        vectors: (N, D) float32, unit rows.
    """

    embedder_id: str
    vectors: Float32Array

    def __post_init__(self) -> None:
        if self.vectors.ndim != 2:
            raise InvalidInput("embeddings are rows of a matrix")

    def __len__(self) -> int:
        return len(self.vectors)

    def row(self, index: int) -> Embeddings:
        """One of them, still with its embedder."""
        return Embeddings(self.embedder_id, self.vectors[index][None])

    def of(self, embedder_id: str) -> Float32Array:
        """The (N, D) vectors, for whoever compares within the space of `embedder_id`.

        Raises:
            EmbedderMismatch: they are of another.
        """
        if self.embedder_id != embedder_id:
            raise EmbedderMismatch(f"embeddings of {self.embedder_id} cannot be compared with those of {embedder_id}")
        return self.vectors


@dataclass(frozen=True, slots=True)
class Identity:
    """What the matcher says of one probe. Never forced to the nearest person.

    Attributes:
        person_id: a person's id, or `unknown` when `similarity` is below `threshold`.
        similarity: of the nearest person, on the model's scale; higher is closer.
        confidence: calibrated probability that the probe is the nearest person, 0 to 1.
        threshold: what `similarity` was compared with.
        nearest: the nearest person's id even when it is not named; None in an empty gallery. Not for display.
    """

    person_id: str
    similarity: float
    confidence: float
    threshold: float
    nearest: str | None = None

    @property
    def known(self) -> bool:
        return self.person_id != UNKNOWN

    @property
    def close(self) -> bool:
        """Whether so little separates a person from a stranger that a second look is worth its time."""
        return self.nearest is not None and abs(self.similarity - self.threshold) <= SECOND_LOOK
