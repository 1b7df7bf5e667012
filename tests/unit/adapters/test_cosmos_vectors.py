"""Vector search in Cosmos DB: the query that is asked, what is made of its answer; no vector outlives its person."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from azure.core.exceptions import ServiceRequestError

from shared.adapters.azure.cosmos_schema import CONTAINERS, PER_ITEM, VECTOR_CONTAINER, ContainerSchema
from shared.adapters.azure.vectors import (
    BATCH,
    FORGOTTEN_S,
    MOST,
    PARALLEL,
    SHORTLIST,
    CosmosPersonIndex,
    CosmosVectors,
    nearest_query,
)
from shared.adapters.local import LocalBlobStore, LocalStore
from shared.bootstrap import open_vector_search
from shared.domain import Float32Array
from shared.errors import Busy, ConfigurationError, Conflict, InvalidInput, StoreUnavailable
from shared.matching.index import ExactIndex, PersonIndex
from shared.matching.model import MatcherModel
from shared.model_registry import ModelRegistry
from shared.serving import LiveModel
from shared.settings import Settings
from shared.vector_search import PersonVectors, VectorSearch
from tests.support import DIMENSION, NOW, TickingClock, colour_pack, matcher, packs_of, probes
from tests.unit.adapters.cosmos_vectors_fake import MOST_DIMENSIONS, FakeContainer, FakeDatabase, refused
from tests.unit.matching.bundles import bundle_of

MODEL = "20260101T000000.000000Z-0000"
SMALL = ContainerSchema("vectors", "/model_id", indexed=("model_id",), default_ttl_s=PER_ITEM, vectors=(9, 5))


def arrays(people: int, dimension: int = 8, seed: int = 0) -> tuple[Float32Array, Float32Array]:
    """Weights of different lengths, and biases that decide: the nearest by direction is not the most similar."""
    rng = np.random.default_rng(seed)
    weights = rng.standard_normal((people, dimension)).astype(np.float32) * rng.uniform(0.2, 2.0, (people, 1))
    return weights.astype(np.float32), rng.uniform(-1, 1, people).astype(np.float32)


def faces(number: int, dimension: int = 8, seed: int = 9) -> Float32Array:
    rows = np.random.default_rng(seed).standard_normal((number, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture
def fake() -> FakeContainer:
    return FakeContainer(SMALL)


@pytest.fixture
def vectors(fake: FakeContainer) -> CosmosVectors:
    return CosmosVectors(FakeDatabase(fake))  # type: ignore[arg-type]


def stored(vectors: CosmosVectors, weights: Float32Array, bias: Float32Array, model: str = MODEL) -> CosmosPersonIndex:
    vectors.store(model, weights, bias)
    index = vectors.open(model, weights, bias)
    assert index is not None
    return index


def rows_in(fake: FakeContainer, set_id: str = MODEL) -> set[int]:
    return {int(document_id) for key, document_id in fake.documents if key == set_id}


def queries(fake: FakeContainer) -> list[dict[str, Any]]:
    return [request for verb, request in fake.requests if verb == "query" and "TOP" in request["text"]]


class TestQuery:
    def test_is_word_for_word_what_the_documentation_shows(self) -> None:
        text, parameters = nearest_query("m-1", np.array([0.25, -0.5, 1], np.float32), 16)
        assert text == "SELECT TOP 16 c.id FROM c WHERE c.model_id = @set ORDER BY VectorDistance(c.vector3, @probe)"
        assert parameters == {"@set": "m-1", "@probe": [0.25, -0.5, 1.0]}

    def test_goes_to_one_partition_within_the_patience_of_the_others(
        self, fake: FakeContainer, vectors: CosmosVectors
    ) -> None:
        stored(vectors, *arrays(40)).nearest(faces(1), 1)
        (query,) = queries(fake)
        assert (query["partition_key"], query["timeout"]) == (MODEL, FakeDatabase.operation_s)
        assert len(query["parameters"]["@probe"]) == 8 + 1
        assert query["parameters"]["@probe"][-1] == 1.0, "the bias counts once"

    @pytest.mark.parametrize(("count", "top"), [(1, SHORTLIST), (SHORTLIST, SHORTLIST), (20, 20), (MOST, MOST)])
    def test_asks_for_a_shortlist(self, fake: FakeContainer, vectors: CosmosVectors, count: int, top: int) -> None:
        stored(vectors, *arrays(MOST + 50)).nearest(faces(1), count)
        assert queries(fake)[0]["text"].startswith(f"SELECT TOP {top} ")

    def test_for_a_longer_list_than_any_search_is_good_for_the_process_does_it(
        self, fake: FakeContainer, vectors: CosmosVectors
    ) -> None:
        weights, bias = arrays(MOST + 50)
        rows, similarities = stored(vectors, weights, bias).nearest(faces(2), MOST + 1)
        expected = ExactIndex(weights, bias).nearest(faces(2), MOST + 1)
        assert np.array_equal(rows, expected[0])
        assert similarities == pytest.approx(expected[1], abs=1e-6)
        assert queries(fake) == []

    @pytest.mark.parametrize("bad", [np.array([np.nan, 1], np.float32), np.array([np.inf, 1], np.float32), faces(2)])
    def test_is_not_made_of_what_is_no_vector(self, bad: Float32Array) -> None:
        with pytest.raises(InvalidInput):
            nearest_query(MODEL, bad, 16)

    def test_lengths_are_within_the_index_s_limit_and_beyond_the_flat_one_s(self) -> None:
        assert VECTOR_CONTAINER.vectors == (512 + 1, 128 + 1)  # FaceNet's and SFace's, and the bias
        assert MOST_DIMENSIONS["flat"] < max(VECTOR_CONTAINER.vectors) <= MOST_DIMENSIONS["diskANN"]
        FakeContainer(VECTOR_CONTAINER)
        with pytest.raises(Exception, match="too many dimensions"):
            FakeContainer(ContainerSchema("v", "/model_id", vectors=(4097,)))

    def test_every_other_container_is_without(self) -> None:
        assert [schema.name for schema in CONTAINERS if schema.vectors or schema.vector_policy()] == []


class TestNearest:
    @pytest.mark.parametrize("count", [1, 3, SHORTLIST])
    @pytest.mark.parametrize("number", [1, 2, 11])
    def test_is_what_the_exact_index_says(self, vectors: CosmosVectors, count: int, number: int) -> None:
        weights, bias = arrays(300)
        index: PersonIndex = stored(vectors, weights, bias)
        rows, similarities = index.nearest(faces(number), count)
        expected_rows, expected = ExactIndex(weights, bias).nearest(faces(number), count)
        assert rows.shape == similarities.shape == (number, count)
        assert (rows.dtype, similarities.dtype) == (np.intp, np.float32)
        assert np.array_equal(rows, expected_rows)
        assert similarities == pytest.approx(expected, abs=1e-6)

    def test_length_and_bias_count_not_direction_alone(self, vectors: CosmosVectors) -> None:
        weights = np.array([[1, 0, 0, 0], [3, 3, 0, 0], [0, 0, 0, 0.1], [0, 0, 1, 0]], np.float32)
        bias = np.array([0, 0, 5, -9], np.float32)
        rows, similarities = stored(vectors, weights, bias).nearest(np.array([[1, 0, 0, 0]], np.float32), 4)
        assert rows.tolist() == [[2, 1, 0, 3]]  # 5, 3, 1, -9; by cosine it would be 0, 1
        assert similarities.tolist() == [[5, 3, 1, -9]]

    def test_ties_go_to_the_first_person_as_everywhere(self, vectors: CosmosVectors) -> None:
        weights, bias = np.ones((12, 4), np.float32), np.zeros(12, np.float32)
        rows, _ = stored(vectors, weights, bias).nearest(faces(1, 4), 3)
        assert rows.tolist() == [[0, 1, 2]]  # the fake names them in falling order

    def test_the_similarity_is_the_process_s_and_not_the_rounded_one(self, vectors: CosmosVectors) -> None:
        weights, bias = np.array([[1 + 2**-20, 0, 0, 0]], np.float32), np.array([2**-22], np.float32)
        _, similarities = stored(vectors, weights, bias).nearest(np.array([[1, 0, 0, 0]], np.float32), 1)
        assert similarities[0, 0] == np.float32(1 + 2**-20) + np.float32(2**-22)

    def test_order_among_the_named_is_the_process_s(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        weights, bias = arrays(60)
        index = stored(vectors, weights, bias)
        answer = fake.query_items

        def shuffled(*args: Any, **kwargs: Any) -> Iterator[dict[str, Any]]:
            return iter(list(answer(*args, **kwargs))[::-1])

        fake.query_items = shuffled  # type: ignore[method-assign]
        assert np.array_equal(index.nearest(faces(3), 5)[0], ExactIndex(weights, bias).nearest(faces(3), 5)[0])

    def test_more_than_there_are(self, vectors: CosmosVectors) -> None:
        weights, bias = arrays(3)
        rows, _ = stored(vectors, weights, bias).nearest(faces(2), 10)
        assert rows.shape == (2, 3)

    def test_no_face(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        rows, similarities = stored(vectors, *arrays(3)).nearest(np.zeros((0, 8), np.float32), 1)
        assert rows.shape == similarities.shape == (0, 1)
        assert queries(fake) == []

    def test_a_set_that_was_deleted_under_it_costs_time_and_no_answer(
        self, fake: FakeContainer, vectors: CosmosVectors, caplog: pytest.LogCaptureFixture
    ) -> None:
        weights, bias = arrays(50)
        index = stored(vectors, weights, bias)
        vectors.delete(MODEL)
        with caplog.at_level(logging.WARNING):
            rows, _ = index.nearest(faces(4), 2)
        assert np.array_equal(rows, ExactIndex(weights, bias).nearest(faces(4), 2)[0])
        assert {record.action for record in caplog.records} == {"vectors.short"}

    def test_faces_of_a_picture_are_asked_for_together_but_not_all(
        self, fake: FakeContainer, vectors: CosmosVectors
    ) -> None:
        index = stored(vectors, *arrays(40))
        index.nearest(faces(3 * PARALLEL), 1)
        assert len(queries(fake)) == 3 * PARALLEL

    @pytest.mark.parametrize(
        "fault",
        [*(refused(status, "no") for status in (400, 403, 404, 429, 503)), ServiceRequestError("cut")],
        ids=str,
    )
    @pytest.mark.parametrize("number", [1, 3])
    def test_a_service_that_does_not_answer_is_unavailable(
        self, fake: FakeContainer, vectors: CosmosVectors, fault: Exception, number: int
    ) -> None:
        index = stored(vectors, *arrays(40))
        fake.before = failing("query", fault)
        with pytest.raises(StoreUnavailable) as caught:
            index.nearest(faces(number), 1)
        assert not re.search(r"\d\.\d", str(caught.value)), "no number of an embedding is in a message"


def failing(verb: str, fault: Exception, after: int = 0) -> Callable[[str, dict[str, Any]], None]:
    seen: list[str] = []

    def fail(asked: str, request: dict[str, Any]) -> None:
        if asked == verb:
            seen.append(asked)
            if len(seen) > after:
                raise fault

    return fail


class TestStore:
    def test_a_document_is_a_row_its_numbers_and_nobody_s_name(
        self, fake: FakeContainer, vectors: CosmosVectors
    ) -> None:
        weights, bias = arrays(3)
        vectors.store(MODEL, weights, bias)
        document = fake.documents[MODEL, "1"]
        assert set(document) == {"id", "model_id", "vector9", "_etag"}
        assert document["vector9"] == pytest.approx([*weights[1], bias[1]], abs=6e-8)
        record = fake.documents["sets", MODEL]
        assert record["state"] == "whole" and "ttl" not in record

    def test_another_embedder_s_are_at_another_path(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        weights, bias = arrays(3, dimension=4)
        index = stored(vectors, weights, bias)
        assert "vector5" in fake.documents[MODEL, "0"]
        assert np.array_equal(index.nearest(faces(1, 4), 3)[0], ExactIndex(weights, bias).nearest(faces(1, 4), 3)[0])

    def test_embeddings_that_the_container_is_not_made_for_are_refused_before_anything_is_written(
        self, fake: FakeContainer, vectors: CosmosVectors
    ) -> None:
        with pytest.raises(ConfigurationError, match="FACERELAY_VECTOR_SEARCH_ABOVE"):
            vectors.store(MODEL, *arrays(3, dimension=16))
        assert fake.documents == {}

    def test_of_another_measure_too(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        fake._policy["vectorEmbeddings"][0]["distanceFunction"] = "cosine"
        with pytest.raises(ConfigurationError):
            vectors.store(MODEL, *arrays(3))

    def test_is_not_searched_before_it_is_whole_and_goes_on_where_it_was_cut(
        self, fake: FakeContainer, vectors: CosmosVectors
    ) -> None:
        weights, bias = arrays(100)
        fake.before = failing("upsert", refused(503, "busy"), after=30)
        with pytest.raises(StoreUnavailable):
            vectors.store(MODEL, weights, bias)
        assert vectors.open(MODEL, weights, bias) is None
        there = len(rows_in(fake))
        assert 0 < there < 100
        fake.before = lambda verb, request: None
        fake.requests.clear()
        vectors.store(MODEL, weights, bias)
        assert sum(verb == "upsert" for verb, _ in fake.requests) == 100 - there
        assert rows_in(fake) == set(range(100))
        assert vectors.open(MODEL, weights, bias) is not None

    def test_twice_writes_once(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        vectors.store(MODEL, *arrays(5))
        fake.requests.clear()
        vectors.store(MODEL, *arrays(5))
        assert [verb for verb, _ in fake.requests] == ["read"]

    def test_a_model_that_is_erased_meanwhile_leaves_nothing(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        erased: list[bool] = []

        def erase(verb: str, request: dict[str, Any]) -> None:
            if verb == "upsert" and request["partition_key"] == MODEL and not erased:
                erased.append(True)
                CosmosVectors(FakeDatabase(fake)).delete(MODEL)  # type: ignore[arg-type]

        fake.before = erase
        with pytest.raises(Conflict):
            vectors.store(MODEL, *arrays(BATCH + 50))
        assert rows_in(fake) == set()
        written = sum(verb == "upsert" and request["partition_key"] == MODEL for verb, request in fake.requests)
        assert written == BATCH, "it looked after the first batch"
        assert fake.documents["sets", MODEL]["state"] == "gone"

    def test_says_that_it_goes_on_and_can_be_stopped(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        said: list[int] = []

        def going_on() -> None:
            said.append(len(rows_in(fake)))
            if len(said) == 3:
                raise Busy("another training took over")

        with pytest.raises(Busy):
            vectors.store(MODEL, *arrays(3 * BATCH), going_on=going_on)
        assert said == [0, BATCH, 2 * BATCH]

    def test_in_the_very_last_moment_too(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        def erase(verb: str, request: dict[str, Any]) -> None:
            if verb == "replace":
                fake.before = lambda verb, request: None
                CosmosVectors(FakeDatabase(fake)).delete(MODEL)  # type: ignore[arg-type]

        fake.before = erase
        with pytest.raises(Conflict):
            vectors.store(MODEL, *arrays(5))
        assert rows_in(fake) == set()

    def test_arrays_of_another_size_are_not_searched_with_it(self, vectors: CosmosVectors) -> None:
        vectors.store(MODEL, *arrays(5))
        assert vectors.open(MODEL, *arrays(6)) is None
        assert vectors.open(MODEL, *arrays(5, dimension=4)) is None
        assert vectors.open("20260101T000000.000000Z-other", *arrays(5)) is None


class TestCutAndDelete:
    def test_a_cut_model_is_searched_in_the_other_s_set(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        weights, bias = arrays(30)
        vectors.store(MODEL, weights, bias)
        fake.requests.clear()
        assert vectors.cut("b", of=MODEL, row=7) is True
        assert vectors.cut("c", of="b", row=7) is True  # the eighth of what is left: row 8 of the set
        assert sum(verb == "upsert" for verb, _ in fake.requests) == 0, "no vector is written again"
        left = [row for row in range(30) if row not in (7, 8)]
        index = vectors.open("c", weights[left], bias[left])
        assert index is not None
        expected = ExactIndex(weights[left], bias[left]).nearest(faces(5), 4)
        assert np.array_equal(index.nearest(faces(5), 4)[0], expected[0])

    def test_the_person_is_not_named_even_while_the_vector_is_there(self, vectors: CosmosVectors) -> None:
        weights, bias = arrays(30)
        vectors.store(MODEL, weights, bias)
        nearest = int(ExactIndex(weights, bias).nearest(faces(1), 1)[0][0, 0])
        vectors.cut("b", of=MODEL, row=nearest)
        left = [row for row in range(30) if row != nearest]
        index = vectors.open("b", weights[left], bias[left])
        assert index is not None
        expected = ExactIndex(weights[left], bias[left]).nearest(faces(1), 1)
        assert index.nearest(faces(1), 1)[0].tolist() == expected[0].tolist()

    def test_the_vector_goes_with_the_last_model_that_has_it(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        vectors.store(MODEL, *arrays(30))
        vectors.cut("b", of=MODEL, row=7)
        assert 7 in rows_in(fake), "the first model still answers"
        vectors.delete(MODEL)
        assert rows_in(fake) == set(range(30)) - {7}
        vectors.cut("c", of="b", row=0)
        vectors.delete("b")
        assert rows_in(fake) == set(range(30)) - {0, 7}
        vectors.delete("c")
        assert rows_in(fake) == set()

    def test_a_set_that_is_not_whole_is_not_cut(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        assert vectors.cut("b", of=MODEL, row=0) is False
        fake.before = failing("upsert", refused(503, "busy"))
        with pytest.raises(StoreUnavailable):
            vectors.store(MODEL, *arrays(5))
        assert vectors.cut("b", of=MODEL, row=0) is False

    def test_what_is_gone_is_remembered_for_longer_than_anybody_writes(
        self, fake: FakeContainer, vectors: CosmosVectors
    ) -> None:
        vectors.store(MODEL, *arrays(5))
        vectors.delete(MODEL)
        assert fake.documents["sets", MODEL]["ttl"] == FORGOTTEN_S
        assert VECTOR_CONTAINER.default_ttl_s == PER_ITEM, "else the service does not look at an item's ttl"

    def test_an_interrupted_deletion_is_finished_by_the_next(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        vectors.store(MODEL, *arrays(100))
        fake.before = failing("delete", refused(503, "busy"), after=20)
        with pytest.raises(StoreUnavailable):
            vectors.delete(MODEL)
        assert rows_in(fake)
        fake.before = lambda verb, request: None
        vectors.delete(MODEL)
        assert rows_in(fake) == set()

    def test_of_a_model_that_has_none(self, fake: FakeContainer, vectors: CosmosVectors) -> None:
        vectors.delete("b")
        assert fake.documents == {}

    def test_a_sweep_takes_what_no_model_has_and_leaves_the_rest(
        self, fake: FakeContainer, vectors: CosmosVectors
    ) -> None:
        vectors.store(MODEL, *arrays(5))
        vectors.store("orphan", *arrays(5))
        fake.documents["gone-before", "3"] = {"id": "3", "model_id": "gone-before", "vector9": [0.0] * 9, "_etag": "x"}
        fake.documents["sets", "gone-before"] = {
            **fake.documents["sets", MODEL], "id": "gone-before", "set": "gone-before", "state": "gone"
        }  # fmt: skip
        vectors.sweep(lambda: {MODEL})
        assert rows_in(fake) == set(range(5))
        assert rows_in(fake, "orphan") == rows_in(fake, "gone-before") == set()

    def test_a_sweep_asks_what_models_there_are_after_it_has_seen_their_vectors(
        self, fake: FakeContainer, vectors: CosmosVectors
    ) -> None:
        """A publication stores the model, then its vectors: one that begins in between must not be taken for a rest."""

        def stored_ids() -> set[str]:
            ids: set[str] = set()
            vectors.store("new", *arrays(5))  # in another process, right after the list was made
            return ids

        vectors.sweep(stored_ids)
        assert rows_in(fake, "new") == set(range(5))


class World:
    """A registry over real blobs, whose models of three and more people are searched in the fake."""

    def __init__(self, folder: Path) -> None:
        self.fake = FakeContainer(SMALL)
        self.vectors: PersonVectors = CosmosVectors(FakeDatabase(self.fake))  # type: ignore[arg-type]
        self.registry = ModelRegistry(
            LocalBlobStore(LocalStore(folder)), TickingClock(NOW), VectorSearch(self.vectors, above=2)
        )
        self.live = LiveModel(self.registry, packs_of(colour_pack()))

    def publish(self, model: MatcherModel) -> None:
        self.registry.publish(bundle_of(model))

    def holds(self, vector: Float32Array) -> bool:
        return any(
            np.allclose(document["vector9"][:-1], vector, atol=1e-4)
            for document in self.fake.documents.values()
            if "vector9" in document
        )


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


ONE = np.eye(DIMENSION, dtype=np.float32)
FOUR = {"ann": ONE[0], "bob": ONE[1], "cat": ONE[2], "dan": ONE[3]}


def made(number: int, people: dict[str, Float32Array]) -> MatcherModel:
    return matcher(people, model_id=f"2026010{number}T000000.000000Z-0000")


class TestLifeOfAModel:
    def test_vectors_are_there_before_the_pointer_moves(self, world: World) -> None:
        world.fake.before = failing("upsert", refused(503, "busy"))
        with pytest.raises(StoreUnavailable):
            world.publish(made(1, FOUR))
        assert world.registry.pointer() is None
        world.fake.before = lambda verb, request: None
        world.publish(made(1, FOUR))
        assert isinstance(world.live().index, CosmosPersonIndex)
        assert [found.person_id for found in world.live().identify(probes(ONE[:4]))] == ["ann", "bob", "cat", "dan"]
        assert len(queries(world.fake)) == 4

    def test_a_small_model_is_searched_by_the_process(self, world: World) -> None:
        world.publish(made(1, {"ann": ONE[0], "bob": ONE[1]}))
        assert not isinstance(world.live().index, CosmosPersonIndex)
        assert world.fake.documents == {}

    def test_a_model_of_before_it_was_switched_on_is_searched_by_the_process(
        self, world: World, tmp_path: Path
    ) -> None:
        ModelRegistry(LocalBlobStore(LocalStore(tmp_path)), TickingClock(NOW)).publish(bundle_of(made(1, FOUR)))
        assert not isinstance(world.live().index, CosmosPersonIndex)
        world.registry.erase_person("ann")
        assert world.fake.documents == {}, "an erasure does not wait for a gallery to be written"
        assert world.live.refresh().person_ids == ("bob", "cat", "dan")

    def test_everybody_s_confidence_needs_no_query(self, world: World) -> None:
        world.publish(made(1, FOUR))
        assert [person for person, _ in world.live().confidences(probes(ONE[0]))][0] == "ann"
        assert queries(world.fake) == []

    def test_an_erasure_leaves_no_vector_of_that_person_and_writes_no_other_s(self, world: World) -> None:
        world.publish(made(1, FOUR | {"eve": ONE[4]}))
        world.publish(made(2, FOUR))
        assert isinstance(world.live().index, CosmosPersonIndex)
        world.fake.requests.clear()
        assert world.registry.erase_person("cat") is True
        assert not world.holds(ONE[2])
        assert all(world.holds(ONE[row]) for row in (0, 1, 3))
        written = [request for verb, request in world.fake.requests if verb == "upsert"]
        assert {request["partition_key"] for request in written} == {"sets"}
        model = world.live.refresh()
        assert isinstance(model.index, CosmosPersonIndex)
        found = model.identify(probes(ONE[:4]))
        assert [each.person_id for each in found] == ["ann", "bob", "unknown", "dan"]

    def test_an_erasure_that_is_cut_off_is_finished_by_the_next(self, world: World) -> None:
        world.publish(made(1, FOUR))
        world.fake.before = failing("delete", refused(503, "busy"))
        with pytest.raises(StoreUnavailable):
            world.registry.erase_person("cat")
        assert world.holds(ONE[2])
        world.fake.before = lambda verb, request: None
        world.registry.erase_person("cat")
        assert not world.holds(ONE[2])

    def test_an_erasure_takes_what_a_killed_publication_has_left(self, world: World) -> None:
        world.publish(made(1, FOUR))
        world.vectors.store("20260105T000000.000000Z-dead", np.eye(DIMENSION, dtype=np.float32)[:4], np.zeros(4, "f4"))
        world.registry.erase_person("cat")
        assert not world.holds(ONE[2])

    def test_a_publication_that_has_to_give_way_leaves_none(self, world: World) -> None:
        world.publish(made(2, FOUR))
        with pytest.raises(Conflict):
            world.publish(made(1, FOUR | {"eve": ONE[4]}))
        assert not world.holds(ONE[4])

    def test_whoever_publishes_hears_that_it_goes_on(self, world: World) -> None:
        heard: list[str] = []
        world.registry.publish(bundle_of(made(1, FOUR)), going_on=lambda: heard.append("publish"))
        world.registry.store(bundle_of(made(2, FOUR)), going_on=lambda: heard.append("store"))
        assert heard == ["publish", "store"]

    def test_one_that_the_container_is_not_made_for_leaves_no_bundle(self, world: World) -> None:
        world.fake._policy["vectorEmbeddings"].clear()
        with pytest.raises(ConfigurationError):
            world.publish(made(1, FOUR))
        assert world.registry.list_ids() == []

    def test_pruned_models_take_theirs_along(self, world: World) -> None:
        for number in (1, 2, 3):
            world.publish(made(number, FOUR))
        world.registry.prune(1)
        sets = {key for key, _ in world.fake.documents}
        assert sets == {"sets", "20260103T000000.000000Z-0000"}

    def test_one_that_is_stored_beside_the_live_one_is_searched_after_the_switch(self, world: World) -> None:
        world.publish(made(1, FOUR))
        world.registry.store(bundle_of(made(2, FOUR | {"eve": ONE[4]})))
        world.registry.switch(made(2, FOUR).model_id, expected=world.registry.pointer())
        model = world.live.refresh()
        assert isinstance(model.index, CosmosPersonIndex)
        assert model.identify(probes(ONE[4]))[0].person_id == "eve"

    def test_a_store_that_is_down_keeps_the_old_model_live(self, world: World) -> None:
        world.publish(made(1, FOUR))
        old = world.live()
        world.publish(made(2, FOUR))
        world.fake.before = failing("read", refused(503, "busy"))
        assert world.live.refresh() is old


class TestSetting:
    def test_by_default_the_process_searches(self) -> None:
        search = open_vector_search(Settings(backend="local"))
        assert search.open_index(MODEL, *arrays(3)) is None

    def test_is_the_cloud_s(self) -> None:
        with pytest.raises(ConfigurationError, match="FACERELAY_VECTOR_SEARCH_ABOVE"):
            open_vector_search(Settings(backend="local", vector_search_above=1))

    def test_in_the_cloud_nothing_is_asked_before_it_is_needed(self) -> None:
        settings = Settings(
            backend="azure",
            storage_blob_url="https://x.blob.core.windows.net",
            storage_queue_url="https://x.queue.core.windows.net",
            cosmos_url="https://x.documents.azure.com",
            vector_search_above=100_000,
        )
        search = open_vector_search(settings)
        assert search.open_index(MODEL, *arrays(3)) is None
