"""Cosmos DB: the connection, what the repositories do with a container, and its errors, all in one place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http import HTTPStatus
from typing import Any, Final

from azure.core import MatchConditions
from azure.core.exceptions import AzureError
from azure.cosmos import ContainerProxy, CosmosClient, PartitionKey
from azure.cosmos.exceptions import CosmosHttpResponseError

from shared.adapters.azure.access import require_loopback
from shared.adapters.azure.cosmos_schema import CONTAINERS, VECTOR_CONTAINER
from shared.errors import (
    Conflict,
    FacerelayError,
    InvalidInput,
    NotFound,
    PreconditionFailed,
    StoreFull,
    StoreUnavailable,
)

Document = dict[str, Any]

RECONNECT_AFTER_S: Final = 1.0

_MAX_ID_LENGTH: Final = 255
_NOT_IN_IDS: Final = frozenset("/\\?#")
_SUBSTATUS_NO_CONTAINER: Final = 1003
_SUBSTATUS_PARTITION_FULL: Final = 1014
_PAGE: Final = 500


class CosmosDatabase:
    """One database of one account. Connects at first use, since the SDK asks the service as soon as it is made.

    Args:
        connect: makes the SDK's client; see `access.AzureAccess`.
        name: of the database.
        operation_s: see `Patience`.
    """

    def __init__(self, connect: Callable[[], CosmosClient], name: str, *, operation_s: int) -> None:
        self.operation_s = operation_s
        self._connect = connect
        self._name = name
        self._client: CosmosClient | None = None
        self._not_before = 0.0
        self._lock = threading.Lock()

    def client(self) -> CosmosClient:
        """The connected client.

        Raises:
            StoreUnavailable: the service does not answer; a call a second later tries again.
        """
        with self._lock:
            if self._client is None:
                # Whoever has waited for the attempt that failed has waited long enough.
                if time.monotonic() < self._not_before:
                    raise StoreUnavailable("Cosmos DB did not answer a moment ago, while connecting")
                try:
                    with translated("connecting"):
                        self._client = self._connect()
                except StoreUnavailable:
                    self._not_before = time.monotonic() + RECONNECT_AFTER_S
                    raise
            return self._client

    def container(self, name: str) -> CosmosContainer:
        """One of `cosmos_schema`'s, opened at first use."""
        return CosmosContainer(self, name)

    def open(self, container: str) -> ContainerProxy:
        """The SDK's container. No request is made besides the connection."""
        return self.client().get_database_client(self._name).get_container_client(container)

    def provision(self, *, vectors: bool = False) -> None:
        """Makes the database and the containers that are missing, in an emulator.

        Args:
            vectors: the one for vector search, too.

        Raises:
            ConfigurationError: it is none; in the cloud they are deployed.
        """
        client = self.client()
        require_loopback(client.client_connection.url_connection)
        with translated("making the database"):
            database = client.create_database_if_not_exists(self._name)
            for schema in (*CONTAINERS, VECTOR_CONTAINER) if vectors else CONTAINERS:
                database.create_container_if_not_exists(
                    schema.name,
                    PartitionKey(path=schema.partition_key),
                    indexing_policy=schema.indexing_policy(),
                    default_ttl=schema.default_ttl_s,
                    vector_embedding_policy=schema.vector_policy(),
                )

    def close(self) -> None:
        """Closes the connections. A later use connects again."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None


class CosmosContainer:
    """What the repositories do with one container. Every method may raise `StoreUnavailable`."""

    def __init__(self, database: CosmosDatabase, name: str) -> None:
        self._database = database
        self._name = name

    def create(self, document: Document) -> bool:
        """False when its id is there already, in its partition."""
        check_id(document["id"])
        try:
            with self._operation("creating a document") as (container, within):
                container.create_item(document, **within)
        except Conflict:
            return False
        return True

    def upsert(self, document: Document) -> None:
        """Creates or replaces."""
        check_id(document["id"])
        with self._operation("writing a document") as (container, within):
            container.upsert_item(document, **within)

    def read(self, document_id: str, partition: str) -> Document | None:
        """A point read; None when there is nothing of that id, or can be nothing."""
        if not possible_id(document_id):
            return None
        try:
            with self._operation("reading a document", of_item=True) as (container, within):
                return dict(container.read_item(document_id, partition_key=partition, **within))
        except NotFound:
            return None

    def replace(self, document: Document, etag: str) -> bool:
        """False when it is gone, or has changed since `etag` was read."""
        try:
            with self._operation("replacing a document", of_item=True) as (container, within):
                container.replace_item(
                    document["id"], document, etag=etag, match_condition=MatchConditions.IfNotModified, **within
                )
        except (NotFound, PreconditionFailed):
            return False
        return True

    def touch(self, document_id: str, partition: str, counter: str, *, condition: str) -> bool:
        """Counts up `counter`; False when the document is gone or `condition` does not hold.

        A write sees the latest state, which a read under session consistency may not.
        """
        try:
            with self._operation("touching a document", of_item=True) as (container, within):
                container.patch_item(
                    document_id,
                    partition_key=partition,
                    patch_operations=[{"op": "incr", "path": f"/{counter}", "value": 1}],
                    filter_predicate=f"from c where {condition}",
                    **within,
                )
        except (NotFound, PreconditionFailed):
            return False
        return True

    def set(self, document_id: str, partition: str, values: Mapping[str, Any], *, condition: str | None = None) -> bool:
        """Sets properties and leaves the others; False when the document is gone or `condition` does not hold."""
        if not possible_id(document_id):
            return False
        predicate: dict[str, Any] = {} if condition is None else {"filter_predicate": f"from c where {condition}"}
        try:
            with self._operation("setting a property", of_item=True) as (container, within):
                container.patch_item(
                    document_id,
                    partition_key=partition,
                    patch_operations=[{"op": "set", "path": f"/{name}", "value": v} for name, v in values.items()],
                    **predicate,
                    **within,
                )
        except (NotFound, PreconditionFailed):
            return False
        return True

    def delete(self, document_id: str, partition: str, *, etag: str | None = None) -> bool:
        """False when it is gone, or has changed since `etag` was read."""
        if not possible_id(document_id):
            return False
        condition: dict[str, Any] = {}
        if etag is not None:
            condition = {"etag": etag, "match_condition": MatchConditions.IfNotModified}
        try:
            with self._operation("deleting a document", of_item=True) as (container, within):
                container.delete_item(document_id, partition_key=partition, **condition, **within)
        except (NotFound, PreconditionFailed):
            return False
        return True

    def properties(self) -> Document:
        """The container's own description: its key and policies."""
        with self._operation("reading the container's policies") as (container, within):
            return dict(container.read(**within))

    def query(
        self, text: str, parameters: Mapping[str, Any], *, partition: str | None = None, page: int = _PAGE
    ) -> Iterator[Document]:
        """Documents that a query gives, page by page.

        Args:
            partition: the only partition to look in; None asks all. The text must name it too, since emulators
                look everywhere.
        """
        where: dict[str, Any] = {"enable_cross_partition_query": True}
        if partition is not None:
            where = {"partition_key": partition}
        with self._operation("querying") as (container, within):
            yield from map(
                dict,
                container.query_items(
                    text,
                    parameters=[{"name": name, "value": value} for name, value in parameters.items()],
                    max_item_count=page,
                    **where,
                    **within,
                ),
            )

    @contextmanager
    def _operation(self, what: str, *, of_item: bool = False) -> Iterator[tuple[ContainerProxy, dict[str, Any]]]:
        container = self._database.open(self._name)
        with translated(what, of_item=of_item):
            yield container, {"timeout": self._database.operation_s}


def possible_id(document_id: str) -> bool:
    """Whether Cosmos DB takes `document_id`: 1 to 255 characters, none of `/ \\ ? #`, none that is no text."""
    return (
        1 <= len(document_id) <= _MAX_ID_LENGTH
        and _NOT_IN_IDS.isdisjoint(document_id)
        and not any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F or 0xD800 <= ord(c) <= 0xDFFF for c in document_id)
    )


def check_id(document_id: str) -> None:
    """Raises: InvalidInput when Cosmos DB would not take it."""
    if not possible_id(document_id):
        raise InvalidInput(f"an id is 1 to {_MAX_ID_LENGTH} characters without / \\ ? # or control characters")


@contextmanager
def translated(what: str, *, of_item: bool = False) -> Iterator[None]:
    """Runs the body; what the SDK raises in it comes out as an error of the tree.

    As with Storage, only what would be wrong on every store is permanent: what an operator has to mend waits.

    Args:
        what: what was being done, for the message. Never a document's id.
        of_item: whether 404 means that an item is missing; elsewhere it is the container.

    Raises:
        NotFound: the item is not there.
        Conflict: its id is taken.
        PreconditionFailed: it has changed since its ETag was read.
        InvalidInput: the service refuses the request for what is in it.
        StoreFull: a logical partition has reached its limit.
        StoreUnavailable: everything else, after the SDK's own retries.
    """
    try:
        yield
    except CosmosHttpResponseError as error:
        raise _from_response(error, what, of_item) from error
    except AzureError as error:
        raise StoreUnavailable(f"Cosmos DB did not answer ({type(error).__name__}) while {what}") from error


def _from_response(error: CosmosHttpResponseError, what: str, of_item: bool) -> FacerelayError:
    status, substatus = error.status_code or 0, error.sub_status or 0
    if status == HTTPStatus.NOT_FOUND and of_item and substatus != _SUBSTATUS_NO_CONTAINER:
        return NotFound(f"there is no such document, while {what}")
    if status == HTTPStatus.NOT_FOUND:
        return StoreUnavailable(f"Cosmos DB lacks the database or container, while {what}; deploy it")
    if status == HTTPStatus.CONFLICT:
        return Conflict(f"the id is taken, while {what}")
    if status == HTTPStatus.PRECONDITION_FAILED:
        return PreconditionFailed(f"it has changed since it was read, while {what}")
    if status == HTTPStatus.FORBIDDEN and substatus == _SUBSTATUS_PARTITION_FULL:
        return StoreFull(f"a logical partition of Cosmos DB is full, while {what}")
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return StoreUnavailable(f"Cosmos DB does not let this identity in ({status}) while {what}; check its roles")
    if status in (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE):
        return InvalidInput(f"Cosmos DB refused the request ({status}) while {what}")
    return StoreUnavailable(f"Cosmos DB did not answer ({status}/{substatus}) while {what}")
