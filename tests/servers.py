"""The servers of `bench.servers` as fixtures, one of each for a test session."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from azure.storage.blob import BlobServiceClient
from azure.storage.queue import QueueServiceClient

from bench.servers import (
    COSMOS_KEY,
    Cosmos,
    Server,
    Storage,
    azurite,
    connection_string,
    cosmos_server,
    free_ports,
)
from shared.domain import BLOB_CONTAINERS

__all__ = [
    "COSMOS_KEY",
    "Cosmos",
    "Server",
    "Storage",
    "azurite",
    "connection_string",
    "cosmos_server",
    "free_ports",
    "wipe_storage",
]


@pytest.fixture(scope="session")
def storage_server() -> Iterator[Storage]:
    """One Azurite for the session."""
    with azurite() as storage:
        yield storage


@pytest.fixture(scope="session")
def cosmos_db_server() -> Iterator[Cosmos]:
    """One Cosmos DB server for the session."""
    with cosmos_server() as cosmos:
        yield cosmos


def wipe_storage(storage: Storage) -> None:
    """Empties Azurite: what has blobs is made anew, queues are gone."""
    with BlobServiceClient.from_connection_string(storage.connection_string) as blobs:
        present = {container.name for container in blobs.list_containers()}
        for name in BLOB_CONTAINERS:
            container = blobs.get_container_client(name)
            if name in present and next(container.list_blobs(results_per_page=1), None) is not None:
                container.delete_container()
                present.remove(name)
            if name not in present:
                container.create_container()
    with QueueServiceClient.from_connection_string(storage.connection_string) as queues:
        for queue in list(queues.list_queues()):
            queues.delete_queue(queue.name)
