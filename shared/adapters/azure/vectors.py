"""Who is nearest, asked of Cosmos DB's vector search, for galleries that a process is not to search itself (ADR 0021).

A model's *set* is a logical partition with one document a person: `{id, model_id, vector<n>}`. `id` is the person's row
in the model's arrays, so that nobody's name is in here; `vector<n>` is the row of weights and the bias, since

    similarity = weights[row] · centred probe + bias[row] = (weights[row], bias[row]) · (centred probe, 1).

The partition `sets` holds a *record* for each model: which set it is searched in, and which rows of that are not its
own. A model that was cut out of another, because somebody was erased, shares the other's set: only that person's vector
goes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from shared.adapters.azure.cosmos import CosmosContainer, CosmosDatabase
from shared.adapters.azure.cosmos_schema import DAY_S, DISTANCE, VECTORS, vector_path
from shared.domain import Float32Array
from shared.errors import ConfigurationError, Conflict, InvalidInput, StoreUnavailable

logger = logging.getLogger(__name__)

SHORTLIST: Final = 16
"""People whom the service names for a probe. They are compared exactly afterwards: it has to be right about who is
among the first few, not about their order. The documentation's figures are of ten."""
MOST: Final = 200
"""A longer list is not asked for: it is compared exactly here, as `ExactIndex` does."""
PARALLEL: Final = 8
"""Requests under way at a time: of a publication, of a deletion, of the faces of one picture."""
BATCH: Final = 400
"""Vectors after which a publication looks whether its model was erased meanwhile."""
DECIMALS: Final = 7
"""Of a stored number: 11 bytes where all 17 digits take 20. Below float32's own precision for numbers from 0.5 to 1."""
FORGOTTEN_S: Final = 7 * DAY_S
"""How long it is remembered that a set is gone: longer than any publication that might still be writing into it."""

_SETS: Final = "sets"
_WRITING: Final = "writing"
_WHOLE: Final = "whole"
_GONE: Final = "gone"

Document = dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Record:
    """What is known of one model's vectors.

    Attributes:
        set_id: the partition that it is searched in: its own id, or that of the model which it was cut out of.
        people: rows of the set when it was whole.
        removed: rows of the set that are nobody's in this model.
    """

    model_id: str
    set_id: str
    people: int
    dimension: int
    removed: tuple[int, ...]
    state: str
    etag: str = ""

    @classmethod
    def of(cls, document: Document) -> _Record:
        return cls(
            document["id"],
            document["set"],
            document["people"],
            document["dimension"],
            tuple(document["removed"]),
            document["state"],
            document["_etag"],
        )

    def document(self, state: str) -> Document:
        return {
            "id": self.model_id,
            "model_id": _SETS,
            "set": self.set_id,
            "people": self.people,
            "dimension": self.dimension,
            "removed": list(self.removed),
            "state": state,
            **({"ttl": FORGOTTEN_S} if state == _GONE else {}),
        }

    def rows(self) -> NDArray[np.intp]:
        """(C,) rows of the set, rising: the j-th is that of the model's row j."""
        return np.delete(np.arange(self.people), np.array(self.removed, np.intp))


class CosmosVectors:
    """The vectors of all models that are large enough. Every method may raise `StoreUnavailable`."""

    def __init__(self, database: CosmosDatabase) -> None:
        self._container = database.container(VECTORS)

    def store(
        self, model_id: str, weights: Float32Array, bias: Float32Array, *, going_on: Callable[[], None] | None = None
    ) -> None:
        """Writes a model's vectors. What is there already of an interrupted attempt is not written again.

        Args:
            weights: (C, D) float32.
            bias: (C,) float32.
            going_on: called before each batch; may raise, to stop it.

        Raises:
            Conflict: the model was deleted meanwhile; nothing is left of it.
            ConfigurationError: the container was not made for vectors of that length.
        """
        people, dimension = weights.shape
        record = self._record(model_id)
        if record is None:
            self._check_policy(dimension + 1)
            record = _Record(model_id, model_id, people, dimension, (), _WRITING)
            self._container.create(record.document(_WRITING))
        if record.state == _WHOLE:
            return
        stored = self._stored(model_id)
        missing = [row for row in range(people) if row not in stored]

        def write(row: int) -> None:
            vector = _numbers(np.append(weights[row], bias[row]))
            self._container.upsert({"id": str(row), "model_id": model_id, _property(dimension): vector})

        for start in range(0, len(missing), BATCH):
            if going_on is not None:
                going_on()
            self._check_not_gone(model_id)
            _each(write, missing[start : start + BATCH])
        record = self._check_not_gone(model_id)
        if not self._container.replace(record.document(_WHOLE), record.etag):
            self._check_not_gone(model_id)  # else another process has just finished the same
        logger.info("vectors stored", extra={"action": "vectors.store", "model_id": model_id, "people": people})

    def cut(self, model_id: str, *, of: str, row: int) -> bool:
        """Lets a model that is another one without one person be searched in the other's set.

        The person's vector goes with the last model that has it: see `delete`.

        Args:
            row: of the person, in the other model's arrays.

        Returns:
            False when the other model has no whole set.
        """
        parent = self._record(of)
        if parent is None or parent.state != _WHOLE:
            return False
        removed = tuple(sorted({*parent.removed, int(parent.rows()[row])}))
        record = _Record(model_id, parent.set_id, parent.people, parent.dimension, removed, _WHOLE)
        return self._container.create(record.document(_WHOLE))

    def delete(self, model_id: str) -> None:
        """Forgets a model, and deletes every vector that no other model has; once more, what an interruption left."""
        if (record := self._record(model_id)) is None:
            return
        if record.state != _GONE:
            self._container.upsert(record.document(_GONE))
        self._collect(record.set_id)

    def sweep(self, stored: Callable[[], Collection[str]]) -> None:
        """Deletes what interrupted publications and deletions have left.

        Args:
            stored: gives the ids of all models that there are; asked after the records were read, since a model is
                stored before its vectors.
        """
        records = self._records()
        known = set(stored())
        unknown = [record for record in records if record.model_id not in known]
        for record in unknown:
            if record.state != _GONE:
                self._container.upsert(record.document(_GONE))
        for set_id in sorted({record.set_id for record in unknown}):
            self._collect(set_id)

    def open(self, model_id: str, weights: Float32Array, bias: Float32Array) -> CosmosPersonIndex | None:
        """The index of a model; None when its vectors are not all there.

        Args:
            weights: (C, D) float32, the model's own.
            bias: (C,) float32.
        """
        record = self._record(model_id)
        if record is None or record.state != _WHOLE:
            return None
        rows = record.rows()
        if (len(rows), record.dimension) != weights.shape:
            logger.error("the vectors are not this model's", extra={"action": "vectors.refused", "model_id": model_id})
            return None
        return CosmosPersonIndex(self._container, record.set_id, rows, weights, bias)

    def _collect(self, set_id: str) -> None:
        """Deletes from a set what no model is searched for in it."""
        users = [record for record in self._records() if record.set_id == set_id and record.state != _GONE]
        rows: Iterable[int] = self._stored(set_id)
        if users:
            rows = set.intersection(*(set(record.removed) for record in users))
        rows = sorted(rows)
        for start in range(0, len(rows), BATCH):
            _each(lambda row: self._container.delete(str(row), set_id), rows[start : start + BATCH])
        if rows:
            logger.info("vectors deleted", extra={"action": "vectors.delete", "model_id": set_id, "people": len(rows)})

    def _check_policy(self, length: int) -> None:
        """Vectors without a policy would be stored and then searched one by one, by another measure."""
        policy = self._container.properties().get("vectorEmbeddingPolicy", {})
        wanted = (vector_path(length), length, DISTANCE)
        for found in policy.get("vectorEmbeddings", ()):
            if (found["path"], found["dimensions"], found["distanceFunction"]) == wanted:
                return
        raise ConfigurationError(
            f"the container {VECTORS} has no vector policy for {wanted[0]} ({length} dimensions, {DISTANCE}); deploy "
            "one with vectorSearch and vectorLengths, or set FACERELAY_VECTOR_SEARCH_ABOVE to 0"
        )

    def _check_not_gone(self, model_id: str) -> _Record:
        record = self._record(model_id)
        if record is None or record.state == _GONE:
            self._collect(model_id)
            raise Conflict(f"model {model_id} was deleted while its vectors were stored")
        return record

    def _record(self, model_id: str) -> _Record | None:
        document = self._container.read(model_id, _SETS)
        return None if document is None else _Record.of(document)

    def _records(self) -> list[_Record]:
        found = self._container.query("SELECT * FROM c WHERE c.model_id = @set", {"@set": _SETS}, partition=_SETS)
        return [_Record.of(document) for document in found]

    def _stored(self, set_id: str) -> set[int]:
        """Rows of a set that are there."""
        found = self._container.query("SELECT c.id FROM c WHERE c.model_id = @set", {"@set": set_id}, partition=set_id)
        return {int(document["id"]) for document in found}


class CosmosPersonIndex:
    """A `PersonIndex` whose shortlist comes from Cosmos DB, and whose similarities are the process's own.

    The service rounds: to the numbers stored, and in its index. Thresholds are not rounded, so the few whom it names
    are compared exactly, with the arrays that every process has of its model.

    Args:
        rows: (C,) rows of the set, rising, of the model's people.
        weights: (C, D) float32.
        bias: (C,) float32.
    """

    def __init__(
        self,
        container: CosmosContainer,
        set_id: str,
        rows: NDArray[np.intp],
        weights: Float32Array,
        bias: Float32Array,
    ) -> None:
        self._container = container
        self._set_id = set_id
        self._rows = rows
        self._weights = weights
        self._bias = bias

    def nearest(self, centred: Float32Array, count: int) -> tuple[NDArray[np.intp], Float32Array]:
        """As `PersonIndex.nearest`: one query for each probe.

        Raises:
            StoreUnavailable: Cosmos DB does not answer, or does not search.
        """
        count = min(count, len(self._weights))
        rows = np.empty((len(centred), count), np.intp)
        similarities = np.empty((len(centred), count), np.float32)
        if count:
            for probe, people in enumerate(self._shortlists(centred, count)):
                found = self._weights[people] @ centred[probe] + self._bias[people]
                best = np.lexsort((people, -found))[:count]
                rows[probe], similarities[probe] = people[best], found[best]
        return rows, similarities

    def _shortlists(self, centred: Float32Array, count: int) -> Iterator[NDArray[np.intp]]:
        def ask(probe: Float32Array) -> NDArray[np.intp]:
            return self._shortlist(probe, count)

        if len(centred) <= 1:
            yield from map(ask, centred)
            return
        with ThreadPoolExecutor(min(len(centred), PARALLEL)) as pool:
            yield from pool.map(ask, centred)

    def _shortlist(self, probe: Float32Array, count: int) -> NDArray[np.intp]:
        """Rows of the model to compare: at least `count`."""
        everybody = np.arange(len(self._weights))
        if count > MOST:
            return everybody
        text, parameters = nearest_query(self._set_id, np.append(probe, np.float32(1)), max(count, SHORTLIST))
        found = self._container.query(text, parameters, partition=self._set_id, page=MOST)
        try:
            people = self._people({int(document["id"]) for document in found})
        except InvalidInput as error:  # the face is not to blame: it waits for whoever mends it
            raise StoreUnavailable(f"Cosmos DB refuses to search the container {VECTORS} for vectors") from error
        if len(people) >= count:
            return people
        # The set was deleted under a model that still answers: the next look at the pointer brings another.
        logger.warning(
            "vector search named too few",
            extra={"action": "vectors.short", "model_id": self._set_id, "named": len(people)},
        )
        return everybody

    def _people(self, rows: Collection[int]) -> NDArray[np.intp]:
        """Rows of the model for rows of the set; without those that are nobody's in it."""
        named = np.array(sorted(rows), np.intp)
        at: NDArray[np.intp] = np.minimum(np.searchsorted(self._rows, named), len(self._rows) - 1)
        known: NDArray[np.intp] = at[self._rows[at] == named]
        return known


def nearest_query(set_id: str, probe: Float32Array, count: int) -> tuple[str, Document]:
    """Text and parameters of the query for the vectors of a set whose inner product with (L,) `probe` is largest.

    `TOP` is a literal: the service plans by it. `ORDER BY VectorDistance` takes no direction, nor the alias of a
    projection; the most similar come first. The measure is the container policy's.

    >>> nearest_query("m", np.array([0.5, 1.0], np.float32), 16)[0]
    'SELECT TOP 16 c.id FROM c WHERE c.model_id = @set ORDER BY VectorDistance(c.vector2, @probe)'

    Raises:
        InvalidInput: the probe is no vector of finite numbers.
    """
    if probe.ndim != 1 or not np.isfinite(probe).all():
        raise InvalidInput("a probe is one row of finite numbers")
    column = vector_path(len(probe)).removeprefix("/")
    text = f"SELECT TOP {count:d} c.id FROM c WHERE c.model_id = @set ORDER BY VectorDistance(c.{column}, @probe)"  # noqa: S608 - two numbers
    return text, {"@set": set_id, "@probe": _numbers(probe)}


def _property(dimension: int) -> str:
    """Name of the property with the vectors of a model of (C, dimension) weights."""
    return vector_path(dimension + 1).removeprefix("/")


def _numbers(vector: Float32Array) -> list[float]:
    return [round(number, DECIMALS) for number in vector.astype(np.float64).tolist()]


def _each(do: Callable[[int], object], rows: Sequence[int]) -> None:
    """Some at a time; raises what the first of them raises, once all that were begun are done."""
    with ThreadPoolExecutor(PARALLEL) as pool:
        for future in [pool.submit(do, row) for row in rows]:
            future.result()
