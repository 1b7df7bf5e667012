"""Blob triggers: the change feed of a container becomes messages of an internal queue, as on the platform."""

from __future__ import annotations

import json
import logging
import re
from urllib.parse import quote

import azure.functions as func

from local.host.index import BlobTrigger
from shared.adapters.local import LocalBlobStore, LocalStore, LocalWorkQueue
from shared.domain import BLOB_CONTAINERS
from shared.errors import ConfigurationError, NotFound
from shared.ports import QueueMessage

logger = logging.getLogger(__name__)

BLOB_POISON_QUEUE = "webjobs-blobtrigger-poison"
_BATCH = 200


def blob_queue(function: str) -> str:
    """The internal queue of a blob function; `_` and other characters that queues cannot have become hyphens.

    >>> blob_queue("recognize_candidate")
    'azure-webjobs-blobtrigger-recognize-candidate'
    """
    return "azure-webjobs-blobtrigger-" + re.sub("[^a-z0-9]+", "-", function.lower()).strip("-")


class BlobRelay:
    """Copies one container's changes into its function's queue.

    The messages and the position in the feed are written in one transaction: a host that is killed relays nothing
    twice and leaves nothing out. A function that is new starts at the beginning of its container.

    Raises:
        ConfigurationError: the trigger names a container that there is not.
    """

    def __init__(self, trigger: BlobTrigger, store: LocalStore, blobs: LocalBlobStore, queue: LocalWorkQueue) -> None:
        if trigger.container not in BLOB_CONTAINERS:
            raise ConfigurationError(f"function {trigger.function.name}: there is no container {trigger.container!r}")
        self.queue_name = blob_queue(trigger.function.name)
        self._trigger = trigger
        self._store = store
        self._blobs = blobs
        self._queue = queue
        self._position = self._stored_position()

    def run(self) -> int:
        """Relays all that is new; how many messages that made."""
        sent = 0
        while True:
            changes = self._blobs.changes_after(self._position, self._trigger.container, _BATCH)
            if not changes:
                return sent
            with self._store.transaction() as db:
                for change in changes:
                    if self._trigger.pattern.fullmatch(change.properties.name):
                        self._queue.send(self.queue_name, self._body(change.properties.name, change.properties.etag))
                        sent += 1
                db.execute("INSERT OR REPLACE INTO host_cursors VALUES (?, ?)", (self.queue_name, changes[-1].seq))
            self._position = changes[-1].seq

    def read(self, message: QueueMessage) -> func.blob.InputStream | None:
        """The blob that a message speaks of; None when it is gone or was written again since."""
        body = json.loads(message.body)
        container, name = body["ContainerName"], body["BlobName"]
        try:
            blob = self._blobs.get(container, name)
        except NotFound:
            logger.debug("blob is gone", extra={"action": "blob_gone", "message_id": message.id})
            return None
        if blob.properties.etag != body["ETag"]:
            logger.debug("blob has changed", extra={"action": "blob_changed", "message_id": message.id})
            return None
        modified = blob.properties.last_modified.isoformat()
        return func.blob.InputStream(
            data=blob.data,
            name=f"{container}/{name}",
            uri=f"facerelay://local/{container}/{quote(name)}",
            length=len(blob.data),
            blob_properties={
                "ContentLength": len(blob.data),
                "ContentType": blob.properties.content_type,
                "ETag": blob.properties.etag,
                "LastModified": modified,
            },
            metadata=dict(blob.properties.metadata),
        )

    def _body(self, name: str, etag: str) -> str:
        return json.dumps(
            {
                "FunctionId": f"Host.Functions.{self._trigger.function.name}",
                "BlobType": "BlockBlob",
                "ContainerName": self._trigger.container,
                "BlobName": name,
                "ETag": etag,
            }
        )

    def _stored_position(self) -> int:
        with self._store.reading() as db:
            row = db.execute("SELECT seq FROM host_cursors WHERE name = ?", (self.queue_name,)).fetchone()
        return 0 if row is None else int(row["seq"])
