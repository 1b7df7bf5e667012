"""The adapters that the contract is put to. A new backend joins by one function and one entry in `_BACKENDS`."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared import ports
from shared.adapters.azure.access import AzureAccess
from shared.adapters.azure.alerts import CosmosAlertRepository
from shared.adapters.azure.audit import CosmosAuditRepository
from shared.adapters.azure.blobs import AzureBlobStore
from shared.adapters.azure.cosmos import CosmosDatabase
from shared.adapters.azure.detections import CosmosDetectionRepository
from shared.adapters.azure.jobs import CosmosJobRepository
from shared.adapters.azure.people import CosmosPersonRepository
from shared.adapters.azure.queues import AzureWorkQueue
from shared.adapters.azure.tokens import CosmosTokenRepository
from shared.adapters.local import (
    LocalAlertRepository,
    LocalAuditRepository,
    LocalBlobStore,
    LocalDetectionRepository,
    LocalJobRepository,
    LocalPersonRepository,
    LocalStore,
    LocalTokenRepository,
    LocalWorkQueue,
)
from tests.servers import COSMOS_KEY, Cosmos, Storage, wipe_storage


@dataclass(frozen=True)
class Backend:
    """One backend's adapters, on an empty store.

    Attributes:
        tick_s: shortest time-out that the backend can tell apart; the cloud counts whole seconds.
        reopened: the same store through new connections, as another process would see it.
    """

    blobs: ports.BlobStore
    queue: ports.WorkQueue
    people: ports.PersonRepository
    detections: ports.DetectionRepository
    jobs: ports.JobRepository
    tokens: ports.TokenRepository
    audit: ports.AuditRepository
    alerts: ports.AlertRepository
    tick_s: float
    reopened: Callable[[], Backend]


@contextmanager
def _local(request: pytest.FixtureRequest) -> Iterator[Backend]:
    folder: Path = request.getfixturevalue("tmp_path")
    stores: list[LocalStore] = []

    def opened() -> Backend:
        store = LocalStore(folder / "data")
        stores.append(store)
        return Backend(
            blobs=LocalBlobStore(store),
            queue=LocalWorkQueue(store),
            people=LocalPersonRepository(store),
            detections=LocalDetectionRepository(store),
            jobs=LocalJobRepository(store),
            tokens=LocalTokenRepository(store),
            audit=LocalAuditRepository(store),
            alerts=LocalAlertRepository(store),
            tick_s=0.2,
            reopened=opened,
        )

    yield opened()
    for store in stores:
        store.close()


@contextmanager
def _azure(request: pytest.FixtureRequest) -> Iterator[Backend]:
    storage: Storage = request.getfixturevalue("storage_server")
    cosmos: Cosmos = request.getfixturevalue("cosmos_db_server")
    access = AzureAccess(
        connection_string=storage.connection_string,
        cosmos_url=cosmos.url,
        cosmos_key=COSMOS_KEY,
        cosmos_database=f"contract-{uuid.uuid4().hex}",
    )
    opened: list[AzureBlobStore | AzureWorkQueue | CosmosDatabase] = []

    def open_all() -> Backend:
        blobs, queue, database = access.blob_store(), access.work_queue(), access.cosmos()
        opened.extend((blobs, queue, database))
        return Backend(
            blobs=blobs,
            queue=queue,
            people=CosmosPersonRepository(database),
            detections=CosmosDetectionRepository(database),
            jobs=CosmosJobRepository(database),
            tokens=CosmosTokenRepository(database),
            audit=CosmosAuditRepository(database),
            alerts=CosmosAlertRepository(database),
            tick_s=1.0,
            reopened=open_all,
        )

    backend = open_all()
    asked = set(inspect.signature(request.function).parameters)
    if asked & {"backend", "blobs", "queue"}:
        wipe_storage(storage)
    if asked - {"blobs", "queue"}:  # a database takes a third of a second to make: not for those who need none
        opened[2].provision()
    yield backend
    for each in opened:
        each.close()


_BACKENDS = {"azure": _azure, "local": _local}


@pytest.fixture(params=sorted(_BACKENDS))
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    with _BACKENDS[request.param](request) as made:
        yield made


@pytest.fixture
def blobs(backend: Backend) -> ports.BlobStore:
    return backend.blobs


@pytest.fixture
def queue(backend: Backend) -> ports.WorkQueue:
    return backend.queue


@pytest.fixture
def people(backend: Backend) -> ports.PersonRepository:
    return backend.people


@pytest.fixture
def detections(backend: Backend) -> ports.DetectionRepository:
    return backend.detections


@pytest.fixture
def jobs(backend: Backend) -> ports.JobRepository:
    return backend.jobs


@pytest.fixture
def tokens(backend: Backend) -> ports.TokenRepository:
    return backend.tokens


@pytest.fixture
def audit(backend: Backend) -> ports.AuditRepository:
    return backend.audit


@pytest.fixture
def alerts(backend: Backend) -> ports.AlertRepository:
    return backend.alerts
