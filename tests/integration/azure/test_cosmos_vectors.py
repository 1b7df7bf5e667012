"""Vectors written, cut and deleted through the real SDK. The local server has no `VectorDistance`: see ADR 0021."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import numpy as np
import pytest
from pydantic import SecretStr

from shared.adapters.azure.access import AzureAccess
from shared.adapters.azure.cosmos import CosmosDatabase
from shared.adapters.azure.cosmos_schema import VECTOR_CONTAINER, VECTORS
from shared.adapters.azure.vectors import CosmosVectors
from shared.bootstrap import build
from shared.errors import ConfigurationError, StoreUnavailable
from shared.settings import Settings
from tests.integration.azure.faulty_proxy import CUT, Fault, FaultyProxy
from tests.servers import COSMOS_KEY, Cosmos, Storage, wipe_storage
from tests.support import NOW, matcher, unit
from tests.unit.matching.bundles import bundle_of

MODEL = "20260101T000000.000000Z-0000"
PEOPLE, DIMENSION = 40, 128
WEIGHTS = np.random.default_rng(3).standard_normal((PEOPLE, DIMENSION)).astype(np.float32)
BIAS = np.linspace(-1, 1, PEOPLE, dtype=np.float32)


@pytest.fixture
def vectors(database: CosmosDatabase) -> Iterator[CosmosVectors]:
    database.provision(vectors=True)
    yield CosmosVectors(database)


def rows_in(database: CosmosDatabase, partition: str = MODEL) -> set[str]:
    found = database.container(VECTORS).query(
        "SELECT c.id FROM c WHERE c.model_id = @set", {"@set": partition}, partition=partition
    )
    return {document["id"] for document in found}


def test_the_container_is_made_as_it_is_deployed(database: CosmosDatabase, vectors: CosmosVectors) -> None:
    made = database.container(VECTORS).properties()
    assert made["partitionKey"]["paths"] == [VECTOR_CONTAINER.partition_key]
    assert made["vectorEmbeddingPolicy"] == VECTOR_CONTAINER.vector_policy()
    assert made["indexingPolicy"] == VECTOR_CONTAINER.indexing_policy()
    assert made["defaultTtl"] == VECTOR_CONTAINER.default_ttl_s


def test_numbers_come_back_as_they_were_stored(database: CosmosDatabase, vectors: CosmosVectors) -> None:
    vectors.store(MODEL, WEIGHTS, BIAS)
    assert rows_in(database) == {str(row) for row in range(PEOPLE)}
    document = database.container(VECTORS).read("7", MODEL)
    assert document is not None
    assert np.array(document["vector129"], np.float32) == pytest.approx([*WEIGHTS[7], BIAS[7]], abs=2e-7)


def test_a_cut_model_shares_and_the_last_one_takes_the_rest(database: CosmosDatabase, vectors: CosmosVectors) -> None:
    vectors.store(MODEL, WEIGHTS, BIAS)
    assert vectors.cut("b", of=MODEL, row=7) is True
    vectors.delete(MODEL)
    assert rows_in(database) == {str(row) for row in range(PEOPLE) if row != 7}
    assert vectors.open("b", np.delete(WEIGHTS, 7, axis=0), np.delete(BIAS, 7)) is not None
    assert vectors.open(MODEL, WEIGHTS, BIAS) is None
    vectors.sweep(lambda: set())
    assert rows_in(database) == set()


def test_an_interrupted_publication_goes_on(
    cosmos_proxy: FaultyProxy, database: CosmosDatabase, vectors: CosmosVectors
) -> None:
    vectors.delete(MODEL)  # the SDK reads the container's properties once
    cosmos_proxy.plan(*[Fault()] * 15, forever=Fault(503))
    with pytest.raises(StoreUnavailable):
        vectors.store(MODEL, WEIGHTS, BIAS)
    cosmos_proxy.plan()
    assert vectors.open(MODEL, WEIGHTS, BIAS) is None
    assert 0 < len(rows_in(database)) < PEOPLE
    vectors.store(MODEL, WEIGHTS, BIAS)
    assert len(rows_in(database)) == PEOPLE
    assert vectors.open(MODEL, WEIGHTS, BIAS) is not None


def test_a_throttled_publication_goes_through(
    cosmos_proxy: FaultyProxy, database: CosmosDatabase, vectors: CosmosVectors
) -> None:
    vectors.delete(MODEL)
    cosmos_proxy.plan(*[Fault(429, {"x-ms-retry-after-ms": "20"}), Fault()] * 10)
    vectors.store(MODEL, WEIGHTS, BIAS)
    assert len(rows_in(database)) == PEOPLE


def test_embeddings_that_the_container_is_not_made_for(vectors: CosmosVectors) -> None:
    with pytest.raises(ConfigurationError):
        vectors.store(MODEL, WEIGHTS[:, :64], BIAS)


@pytest.mark.parametrize("fault", [Fault(400), Fault(429), Fault(503), Fault(403), CUT], ids=str)
def test_a_search_that_is_refused_or_cut_is_not_the_face_s_fault(
    cosmos_proxy: FaultyProxy, vectors: CosmosVectors, fault: Fault
) -> None:
    vectors.store(MODEL, WEIGHTS, BIAS)
    index = vectors.open(MODEL, WEIGHTS, BIAS)
    assert index is not None
    cosmos_proxy.plan(forever=fault)
    with pytest.raises(StoreUnavailable):
        index.nearest(WEIGHTS[:1], 1)


def test_the_local_server_cannot_search_and_says_so(vectors: CosmosVectors) -> None:
    """What cannot be shown here. Should a later version of the server be able to, this asks for more tests."""
    vectors.store(MODEL, WEIGHTS, BIAS)
    index = vectors.open(MODEL, WEIGHTS, BIAS)
    assert index is not None
    with pytest.raises(StoreUnavailable):
        index.nearest(WEIGHTS[:1], 1)


def test_the_service_publishes_and_erases_with_it(storage_server: Storage, cosmos_db_server: Cosmos) -> None:
    """By the setting alone, over Azurite and the Cosmos DB server."""
    wipe_storage(storage_server)
    settings = Settings(
        backend="azure",
        storage_connection_string=SecretStr(storage_server.connection_string),
        cosmos_url=cosmos_db_server.url,
        cosmos_key=SecretStr(COSMOS_KEY),
        cosmos_database=f"vectors-{uuid.uuid4().hex}",
        vector_search_above=2,
        model_poll_s=3_600,
    )
    registry = build(settings, clock=lambda: NOW).registry
    rows = np.eye(DIMENSION, dtype=np.float32)
    registry.publish(bundle_of(matcher({name: unit(*rows[n]) for n, name in enumerate("abcd")}, model_id=MODEL)))
    database = AzureAccess(
        cosmos_url=cosmos_db_server.url, cosmos_key=COSMOS_KEY, cosmos_database=settings.cosmos_database
    ).cosmos()
    assert rows_in(database) == {"0", "1", "2", "3"}
    assert registry.erase_person("c") is True
    assert rows_in(database) == {"0", "1", "3"}
    pointer = registry.pointer()
    assert pointer is not None and pointer.model_id != MODEL
    database.close()
