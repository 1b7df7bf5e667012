"""Which models are searched outside of the process; their vectors come, are cut and go with them.

The arrays stay with every process: they decide what a similarity is. Outside is only looked for who might be nearest.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import Protocol

from shared.domain import Float32Array
from shared.matching.bundle import Bundle, load_matcher
from shared.matching.index import ExactIndex, PersonIndex

logger = logging.getLogger(__name__)


GoingOn = Callable[[], None]
"""Called now and then during what takes long; may raise, to stop it."""


class PersonVectors(Protocol):
    """Where the vectors of large models' people are searched. Every method may raise `StoreUnavailable`."""

    def store(
        self, model_id: str, weights: Float32Array, bias: Float32Array, *, going_on: GoingOn | None = None
    ) -> None:
        """Writes a model's vectors; again, what is missing of them.

        Args:
            weights: (C, D) float32.
            bias: (C,) float32.
            going_on: called before every few hundred.

        Raises:
            Conflict: the model was deleted meanwhile; nothing is left of its vectors.
            ConfigurationError: the service is not set up for embeddings of that length.
        """
        ...

    def cut(self, model_id: str, *, of: str, row: int) -> bool:
        """Makes a model that is another one without its row `row` searchable; False when the other is not."""
        ...

    def delete(self, model_id: str) -> None:
        """Deletes a model's vectors, but for those that are also another's."""
        ...

    def sweep(self, stored: Callable[[], Collection[str]]) -> None:
        """Deletes the vectors of models that are not among the stored ones."""
        ...

    def open(self, model_id: str, weights: Float32Array, bias: Float32Array) -> PersonIndex | None:
        """The index over a model's vectors; None when they are not all there."""
        ...


class VectorSearch:
    """`PersonVectors` for models of more than so many people.

    Args:
        vectors: None where every model is searched by the process.
        above: people; a model of more is searched outside.
    """

    def __init__(self, vectors: PersonVectors | None = None, *, above: int = 0) -> None:
        self._vectors = vectors
        self._above = above

    def store(self, bundle: Bundle, *, cut_of: Bundle | None = None, going_on: GoingOn | None = None) -> None:
        """Sees to a model's vectors, before it can be made live.

        Args:
            cut_of: the model of which this one is all but one person. Nobody waits for a whole gallery to be written
                because one person is erased: the two share their vectors. Where the other has none, this one has none
                either, and is searched by the process until the next training.
            going_on: as `PersonVectors.store`.

        Raises:
            Conflict, ConfigurationError, StoreUnavailable: as `PersonVectors.store`.
            IntegrityError: a bundle is damaged.
        """
        if self._vectors is None:
            return
        model = load_matcher(bundle, open_index=_any)
        if len(model.person_ids) <= self._above:
            return
        if cut_of is None:
            self._vectors.store(model.model_id, model.weights, model.bias, going_on=going_on)
            return
        whole, left = load_matcher(cut_of, open_index=_any), set(model.person_ids)
        (row,) = (row for row, person_id in enumerate(whole.person_ids) if person_id not in left)
        self._vectors.cut(model.model_id, of=whole.model_id, row=row)

    def delete(self, model_id: str) -> None:
        """With a model, whatever its size: `above` may have been another when it was stored."""
        if self._vectors is not None:
            self._vectors.delete(model_id)

    def sweep(self, stored: Callable[[], Collection[str]]) -> None:
        """See `PersonVectors.sweep`."""
        if self._vectors is not None:
            self._vectors.sweep(stored)

    def open_index(self, model_id: str, weights: Float32Array, bias: Float32Array) -> PersonIndex | None:
        """What a model is searched with outside; None when the process searches it. Raises: StoreUnavailable."""
        if self._vectors is None or len(weights) <= self._above:
            return None
        index = self._vectors.open(model_id, weights, bias)
        if index is None:
            logger.warning(
                "the model has no vectors to be searched; the process searches it",
                extra={"action": "vectors.missing", "model_id": model_id},
            )
        return index


def _any(model_id: str, weights: Float32Array, bias: Float32Array) -> PersonIndex:
    """For a model that is not asked anything: the index that costs nothing to make."""
    return ExactIndex(weights, bias)
