"""The adapters behind proxies that fail when told, with time-outs short enough to be waited for."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

import pytest

from shared.adapters.azure.access import AzureAccess
from shared.adapters.azure.blobs import AzureBlobStore
from shared.adapters.azure.cosmos import CosmosDatabase
from shared.adapters.azure.patience import Patience
from shared.adapters.azure.queues import AzureWorkQueue
from tests.integration.azure.faulty_proxy import FaultyProxy, faulty
from tests.servers import COSMOS_KEY, Cosmos, Storage, connection_string, wipe_storage

IMPATIENT: Final = Patience(
    connect_s=1, read_s=1, retries=2, backoff_base_s=0, jitter_s=0, throttled_s=1, operation_s=3
)


@pytest.fixture
def blob_proxy(storage_server: Storage) -> Iterator[FaultyProxy]:
    wipe_storage(storage_server)
    with faulty(storage_server.blob_port) as proxy:
        yield proxy


@pytest.fixture
def queue_proxy(storage_server: Storage) -> Iterator[FaultyProxy]:
    wipe_storage(storage_server)
    with faulty(storage_server.queue_port, "/messages") as proxy:
        yield proxy


@pytest.fixture
def cosmos_proxy(cosmos_db_server: Cosmos) -> Iterator[FaultyProxy]:
    with faulty(cosmos_db_server.port, "/docs") as proxy:
        yield proxy


@pytest.fixture
def blobs(blob_proxy: FaultyProxy) -> Iterator[AzureBlobStore]:
    access = AzureAccess(connection_string=connection_string(blob_proxy.port, blob_proxy.port), patience=IMPATIENT)
    store = access.blob_store()
    yield store
    store.close()


@pytest.fixture
def queue(queue_proxy: FaultyProxy) -> Iterator[AzureWorkQueue]:
    access = AzureAccess(connection_string=connection_string(queue_proxy.port, queue_proxy.port), patience=IMPATIENT)
    work_queue = access.work_queue()
    yield work_queue
    work_queue.close()


@pytest.fixture
def database(cosmos_proxy: FaultyProxy) -> Iterator[CosmosDatabase]:
    access = AzureAccess(
        cosmos_url=f"http://127.0.0.1:{cosmos_proxy.port}",
        cosmos_key=COSMOS_KEY,
        cosmos_database=f"faults-{uuid.uuid4().hex}",
        patience=IMPATIENT,
    )
    opened = access.cosmos()
    opened.provision()
    yield opened
    opened.close()
