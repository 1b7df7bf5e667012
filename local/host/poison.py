"""What ended in the poison queues, and why: listed, replayed, dropped."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from local.host.inbox import BLOB_POISON_QUEUE, BLOB_QUEUE_PREFIX
from shared.adapters.local import LocalStore
from shared.adapters.local.schema import from_us
from shared.errors import ConfigurationError, NotFound
from shared.ports import QueueMessage, WorkQueue

_SUFFIX: Final = "-poison"
_BATCH: Final = 32
_HIDDEN_S: Final = 60.0
_UNKNOWN_REASON: Final = "given up by another host; its log says why"


@dataclass(frozen=True, slots=True)
class PoisonMessage:
    """A message that was given up.

    Attributes:
        id: in the poison queue; what `replay` and `drop` are told.
        function: whose message it was; empty when it is not known here.
        source_queue: where it goes when it is replayed; empty when it is not known.
        reason: of the last failure.
        dequeue_count: how often it was delivered; None when it is not known here.
    """

    id: str
    queue: str
    function: str
    source_queue: str
    body: str
    reason: str
    dequeue_count: int | None
    failed_at: datetime


class PoisonQueues:
    """All queues of one backend whose names end in `-poison`, whoever filled them.

    Messages are looked at by taking them and giving them back, since a cloud queue shows no more than 32 otherwise.
    While one operator looks, another sees nothing.

    Args:
        notes: of the host on this machine: why it gave a message up. Other hosts' reasons are in their logs.
    """

    def __init__(self, queue: WorkQueue, notes: LocalStore) -> None:
        self._queue = queue
        self._notes = notes

    def list(self) -> list[PoisonMessage]:
        """All that was given up, oldest first."""
        found, held = [], []
        try:
            for message in self._taken():
                held.append(message)
                found.append(self._described(message))
        finally:
            self._give_back(held)
        return sorted(found, key=lambda message: message.failed_at)

    def replay(self, ids: Sequence[str] | None = None) -> int:
        """Sends messages to the queues they came from, as new ones with no failures; all of them when `ids` is None.

        Returns:
            How many. Ids that are not there (any more) are passed over, so that a repeat does no harm.

        Raises:
            ConfigurationError: where one came from is not known; it stays.
        """
        count, held = 0, []
        try:
            for message in self._taken():
                held.append(message)
                if ids is None or message.id in ids:
                    described = self._described(message)
                    if not described.source_queue:
                        raise ConfigurationError(f"nothing tells which queue a message in {message.queue} came from")
                    # Sent before it is deleted: a repeat does less harm than a loss.
                    self._queue.send(described.source_queue, message.body)
                    self._delete(held.pop())
                    count += 1
        finally:
            self._give_back(held)
        return count

    def drop(self, ids: Sequence[str] | None = None) -> int:
        """Deletes messages for good; all of them when `ids` is None. Returns how many."""
        count, held = 0, []
        try:
            for message in self._taken():
                held.append(message)
                if ids is None or message.id in ids:
                    self._delete(held.pop())
                    count += 1
        finally:
            self._give_back(held)
        return count

    def _taken(self) -> Iterator[QueueMessage]:
        for name in self._queue.names():
            if not name.endswith(_SUFFIX):
                continue
            left = self._queue.length(name)  # so that what is given up meanwhile cannot keep us here
            while left > 0:
                batch = self._queue.receive(name, max_messages=min(left, _BATCH), visibility_timeout_s=_HIDDEN_S)
                yield from batch
                left = left - len(batch) if batch else 0

    def _give_back(self, messages: Sequence[QueueMessage]) -> None:
        for message in messages:
            with suppress(NotFound):  # it took us longer than they were hidden
                self._queue.renew(message, visibility_timeout_s=0.0)

    def _delete(self, message: QueueMessage) -> None:
        self._queue.delete(message)
        with self._notes.transaction() as db:
            db.execute("DELETE FROM host_poison WHERE message_id = ?", (message.id,))

    def _described(self, message: QueueMessage) -> PoisonMessage:
        with self._notes.reading() as db:
            row = db.execute("SELECT * FROM host_poison WHERE message_id = ?", (message.id,)).fetchone()
        if row is None:
            return PoisonMessage(
                id=message.id,
                queue=message.queue,
                function=_function_of(message.body),
                source_queue=self._source_of(message.queue),
                body=message.body,
                reason=_UNKNOWN_REASON,
                dequeue_count=None,
                failed_at=message.inserted_at,
            )
        return PoisonMessage(
            id=message.id,
            queue=message.queue,
            function=row["function"],
            source_queue=row["source_queue"],
            body=message.body,
            reason=row["reason"],
            dequeue_count=row["dequeue_count"],
            failed_at=from_us(row["failed_at"]),
        )

    def _source_of(self, poison_queue: str) -> str:
        """The platform names its queue of blob messages after the app, and has one."""
        if poison_queue != BLOB_POISON_QUEUE:
            return poison_queue.removesuffix(_SUFFIX)
        internal = [name for name in self._queue.names() if name.startswith(BLOB_QUEUE_PREFIX)]
        return internal[0] if len(internal) == 1 else ""


def _function_of(body: str) -> str:
    """Of a blob's message, which the platform may have encoded as base64; empty for all others.

    >>> _function_of('{"FunctionId": "Host.Functions.recognize_candidate"}')
    'recognize_candidate'
    """
    text = body
    with suppress(ValueError):
        text = base64.b64decode(body, validate=True).decode()
    try:
        return str(json.loads(text)["FunctionId"]).removeprefix("Host.Functions.")
    except (ValueError, KeyError, TypeError):
        return ""
