"""Queues in Azure Queue Storage. Bodies travel as plain text: `messageEncoding` is `none` in host.json too."""

from __future__ import annotations

import math
import re
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from typing import Final

from azure.core.exceptions import ResourceExistsError
from azure.storage.queue import QueueClient, QueueServiceClient
from azure.storage.queue import QueueMessage as ServiceMessage

from shared.adapters.azure.storage_errors import translated
from shared.errors import InvalidInput, NotFound
from shared.ports import QueueMessage

MAX_BODY_BYTES: Final = 64 * 1024
MAX_MESSAGES: Final = 32
MAX_HIDDEN_S: Final = 7 * 24 * 3600

_NEVER_EXPIRES: Final = -1
_UNTOLD: Final = datetime.fromtimestamp(0, UTC)
_QUEUE_NAME = re.compile(r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*")
_NOT_IN_XML = re.compile(r"[^\t\n\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class AzureWorkQueue:
    """`ports.WorkQueue` in one storage account.

    The service counts whole seconds, so that time-outs are rounded up. A queue that is missing is empty, and is made
    by the first message: the Functions host makes poison queues in the same way.

    Args:
        service: set up with credential, time-outs and retries, see `access.AzureAccess`.
    """

    def __init__(self, service: QueueServiceClient) -> None:
        self._service = service

    def send(self, queue: str, body: str, *, delay_s: float = 0.0) -> str:
        client = self._client(queue)
        _check_body(body)
        delay = _whole_seconds(delay_s, least=0)
        try:
            return self._sent(client, body, delay)
        except NotFound:
            self._make(client)
            return self._sent(client, body, delay)

    def _sent(self, client: QueueClient, body: str, delay: int) -> str:
        with translated("sending a message"):
            # The service's own default is to drop a message after seven days.
            sent = client.send_message(body, visibility_timeout=delay, time_to_live=_NEVER_EXPIRES)
        return str(sent.id)

    def _make(self, client: QueueClient) -> None:
        with translated("making a queue"), suppress(ResourceExistsError):  # another sender was faster
            client.create_queue()

    def receive(self, queue: str, *, max_messages: int = 1, visibility_timeout_s: float = 30.0) -> list[QueueMessage]:
        client = self._client(queue)
        count = min(max_messages, MAX_MESSAGES)
        hidden = _whole_seconds(visibility_timeout_s, least=1)
        try:
            with translated("receiving messages"):
                found = client.receive_messages(messages_per_page=count, max_messages=count, visibility_timeout=hidden)
                return [_message(queue, item) for item in found]
        except NotFound:
            return []

    def delete(self, message: QueueMessage) -> bool:
        try:
            with translated("deleting a message"):
                self._client(message.queue).delete_message(message.id, message.receipt)
        except NotFound:
            return False
        return True

    def renew(self, message: QueueMessage, *, visibility_timeout_s: float) -> QueueMessage:
        hidden = _whole_seconds(visibility_timeout_s, least=0)
        with translated("renewing a message"):
            updated = self._client(message.queue).update_message(
                message.id, message.receipt, content=message.body, visibility_timeout=hidden
            )
        return replace(message, receipt=str(updated.pop_receipt))

    def peek(self, queue: str, *, max_messages: int = MAX_MESSAGES) -> list[QueueMessage]:
        client = self._client(queue)
        try:
            with translated("peeking at messages"):
                return [
                    replace(_message(queue, item), receipt="")
                    for item in client.peek_messages(max_messages=min(max_messages, MAX_MESSAGES))
                ]
        except NotFound:
            return []

    def length(self, queue: str) -> int:
        client = self._client(queue)
        try:
            with translated("counting messages"):
                return int(client.get_queue_properties().approximate_message_count or 0)
        except NotFound:
            return 0

    def names(self) -> list[str]:
        with translated("listing queues"):
            return sorted(str(item.name) for item in self._service.list_queues())

    def close(self) -> None:
        """Closes the connections. The queue must not be used any more."""
        self._service.close()

    def _client(self, queue: str) -> QueueClient:
        if not _QUEUE_NAME.fullmatch(queue):
            raise InvalidInput("a queue's name is 3 to 63 lower-case letters, digits and single inner hyphens")
        return self._service.get_queue_client(queue)


def _check_body(body: str) -> None:
    if _NOT_IN_XML.search(body):
        raise InvalidInput("a message is text without control characters: it travels in XML")
    if len(body.encode()) > MAX_BODY_BYTES:
        raise InvalidInput(f"a message is at most {MAX_BODY_BYTES} bytes")


def _whole_seconds(seconds: float, *, least: int) -> int:
    return max(least, min(math.ceil(seconds), MAX_HIDDEN_S))


def _message(queue: str, item: ServiceMessage) -> QueueMessage:
    return QueueMessage(
        id=str(item.id),
        queue=queue,
        body=str(item.content),
        dequeue_count=int(item.dequeue_count or 0),
        inserted_at=item.inserted_on or _UNTOLD,
        receipt=str(item.pop_receipt or ""),
    )
