"""Queues as one table: what is visible when, and who has taken it."""

from __future__ import annotations

import re
import secrets
import sqlite3
from datetime import timedelta

from shared.adapters.local.schema import from_us, to_us
from shared.adapters.local.store import LocalStore
from shared.errors import InvalidInput, NotFound
from shared.ports import QueueMessage

MAX_BODY_BYTES = 64 * 1024
_QUEUE_NAME = re.compile(r"(?=.{3,128}\Z)[a-z0-9]+(-[a-z0-9]+)*")


class LocalWorkQueue:
    """`ports.WorkQueue` in SQLite. Messages are taken in the order in which they became visible.

    Queue names are lower-case words joined by single hyphens; the service stops at 63 characters, here 128 are taken
    since the embedded host makes names from function names.
    """

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def send(self, queue: str, body: str, *, delay_s: float = 0.0) -> str:
        _check_queue(queue)
        if len(_encoded(body)) > MAX_BODY_BYTES:
            raise InvalidInput(f"a message is at most {MAX_BODY_BYTES} bytes")
        now = self._store.clock()
        visible_at = now + timedelta(seconds=max(delay_s, 0.0))
        with self._store.transaction() as db:
            cursor = db.execute(
                "INSERT INTO messages (queue, body, inserted_at, visible_at) VALUES (?, ?, ?, ?)",
                (queue, body, to_us(now), to_us(visible_at)),
            )
        return str(cursor.lastrowid)

    def receive(self, queue: str, *, max_messages: int = 1, visibility_timeout_s: float = 30.0) -> list[QueueMessage]:
        _check_queue(queue)
        if not self._visible(queue, 1):  # so that looking into an empty queue costs no write
            return []
        with self._store.transaction() as db:
            rows = self._visible(queue, max_messages)
            hidden_until = to_us(self._store.clock() + timedelta(seconds=visibility_timeout_s))
            taken = []
            for row in rows:
                receipt = secrets.token_hex(8)
                db.execute(
                    "UPDATE messages SET visible_at = ?, dequeue_count = dequeue_count + 1, receipt = ? WHERE id = ?",
                    (hidden_until, receipt, row["id"]),
                )
                taken.append(_message(row, row["dequeue_count"] + 1, receipt))
        return taken

    def delete(self, message: QueueMessage) -> bool:
        with self._store.transaction() as db:
            gone = db.execute("DELETE FROM messages WHERE id = ? AND receipt = ?", (message.id, message.receipt))
        return gone.rowcount == 1

    def renew(self, message: QueueMessage, *, visibility_timeout_s: float) -> QueueMessage:
        visible_at = to_us(self._store.clock() + timedelta(seconds=visibility_timeout_s))
        receipt = secrets.token_hex(8)
        with self._store.transaction() as db:
            changed = db.execute(
                "UPDATE messages SET visible_at = ?, receipt = ? WHERE id = ? AND receipt = ?",
                (visible_at, receipt, message.id, message.receipt),
            )
        if changed.rowcount == 0:
            raise NotFound("the message was deleted, or another delivery has it")
        return QueueMessage(
            message.id, message.queue, message.body, message.dequeue_count, message.inserted_at, receipt
        )

    def peek(self, queue: str, *, max_messages: int = 32) -> list[QueueMessage]:
        _check_queue(queue)
        return [_message(row, row["dequeue_count"], "") for row in self._visible(queue, max_messages)]

    def length(self, queue: str) -> int:
        _check_queue(queue)
        with self._store.reading() as db:
            count: int = db.execute("SELECT count(*) FROM messages WHERE queue = ?", (queue,)).fetchone()[0]
        return count

    def names(self) -> list[str]:
        with self._store.reading() as db:
            return [row["queue"] for row in db.execute("SELECT DISTINCT queue FROM messages ORDER BY queue")]

    def _visible(self, queue: str, limit: int) -> list[sqlite3.Row]:
        with self._store.reading() as db:
            return db.execute(
                "SELECT * FROM messages WHERE queue = ? AND visible_at <= ? ORDER BY visible_at, id LIMIT ?",
                (queue, to_us(self._store.clock()), limit),
            ).fetchall()


def _check_queue(queue: str) -> None:
    if not _QUEUE_NAME.fullmatch(queue):
        raise InvalidInput("a queue's name is 3 or more lower-case letters, digits and single inner hyphens")


def _encoded(body: str) -> bytes:
    try:
        return body.encode()
    except UnicodeEncodeError as error:
        raise InvalidInput("a message is Unicode text") from error


def _message(row: sqlite3.Row, dequeue_count: int, receipt: str) -> QueueMessage:
    return QueueMessage(str(row["id"]), row["queue"], row["body"], dequeue_count, from_us(row["inserted_at"]), receipt)
