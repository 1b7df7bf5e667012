"""The adapters that the contract is put to. A new backend joins by one function and one entry in `_BACKENDS`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared import ports
from shared.adapters.local import (
    LocalBlobStore,
    LocalDetectionRepository,
    LocalJobRepository,
    LocalPersonRepository,
    LocalStore,
    LocalWorkQueue,
)


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
    tick_s: float
    reopened: Callable[[], Backend]


@contextmanager
def _local(folder: Path) -> Iterator[Backend]:
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
            tick_s=0.2,
            reopened=opened,
        )

    yield opened()
    for store in stores:
        store.close()


_BACKENDS = {"local": _local}


@pytest.fixture(params=sorted(_BACKENDS))
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Backend]:
    with _BACKENDS[request.param](tmp_path) as made:
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
