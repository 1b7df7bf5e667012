"""The messages that a blob function is fed with, and the blobs that they speak of."""

from __future__ import annotations

import json
import logging
import re
from typing import Final
from urllib.parse import quote

import azure.functions as func

from local.host.index import BlobTrigger
from shared.domain import BLOB_CONTAINERS
from shared.errors import ConfigurationError, InvalidInput, NotFound
from shared.ports import Blob, BlobStore, QueueMessage, WorkQueue

logger = logging.getLogger(__name__)

BLOB_POISON_QUEUE: Final = "webjobs-blobtrigger-poison"
BLOB_QUEUE_PREFIX: Final = "azure-webjobs-blobtrigger-"


def blob_queue(function: str) -> str:
    """The internal queue of a blob function; `_` and other characters that queues cannot have become hyphens.

    >>> blob_queue("recognize_candidate")
    'azure-webjobs-blobtrigger-recognize-candidate'
    """
    return BLOB_QUEUE_PREFIX + re.sub("[^a-z0-9]+", "-", function.lower()).strip("-")


def blob_message(function: str, container: str, name: str, etag: str) -> str:
    """The platform's message of one blob that was written."""
    return json.dumps(
        {
            "FunctionId": f"Host.Functions.{function}",
            "BlobType": "BlockBlob",
            "ContainerName": container,
            "BlobName": name,
            "ETag": etag,
        }
    )


class BlobInbox:
    """One blob function's queue. Its messages have the fields that the platform's have.

    Raises:
        ConfigurationError: the trigger names a container that there is not.
    """

    def __init__(self, trigger: BlobTrigger, blobs: BlobStore, queue: WorkQueue) -> None:
        if trigger.container not in BLOB_CONTAINERS:
            raise ConfigurationError(f"function {trigger.function.name}: there is no container {trigger.container!r}")
        self.trigger = trigger
        self.queue_name = blob_queue(trigger.function.name)
        self._blobs = blobs
        self._queue = queue

    def accepts(self, container: str, name: str) -> bool:
        """Whether the function is for such a blob."""
        return container == self.trigger.container and self.trigger.pattern.fullmatch(name) is not None

    def send(self, name: str, etag: str) -> None:
        """Tells of a blob that was written."""
        body = blob_message(self.trigger.function.name, self.trigger.container, name, etag)
        self._queue.send(self.queue_name, body)

    def read(self, message: QueueMessage) -> func.blob.InputStream | None:
        """The blob that a message speaks of; None when it is gone, was written again since, or is not for us.

        Raises:
            InvalidInput: the message is no such message.
        """
        container, name, etag = _parsed(message.body)
        if not self.accepts(container, name):
            _log_dropped(message, "foreign")
            return None
        try:
            blob = self._blobs.get(container, name)
        except NotFound:
            _log_dropped(message, "gone")
            return None
        if _plain(blob.properties.etag) != _plain(etag):
            _log_dropped(message, "changed")
            return None
        return _stream(container, name, blob)


def _log_dropped(message: QueueMessage, why: str) -> None:
    logger.info("blob is %s", why, extra={"action": f"blob_{why}", "message_id": message.id})


def _parsed(body: str) -> tuple[str, str, str]:
    try:
        fields = json.loads(body)
        container, name, etag = fields["ContainerName"], fields["BlobName"], fields["ETag"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput("the message does not speak of a blob") from error
    if not all(isinstance(value, str) for value in (container, name, etag)):
        raise InvalidInput("the message does not speak of a blob")
    return container, name, etag


def _plain(etag: str) -> str:
    """Event Grid gives ETags without the quotes that Storage has around them."""
    return etag.strip('"')


def _stream(container: str, name: str, blob: Blob) -> func.blob.InputStream:
    return func.blob.InputStream(
        data=blob.data,
        name=f"{container}/{name}",
        uri=f"facerelay://blobs/{container}/{quote(name)}",
        length=len(blob.data),
        blob_properties={
            "ContentLength": len(blob.data),
            "ContentType": blob.properties.content_type,
            "ETag": blob.properties.etag,
            "LastModified": blob.properties.last_modified.isoformat(),
        },
        metadata=dict(blob.properties.metadata),
    )
