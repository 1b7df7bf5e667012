"""What ended in the poison queues, and why: listed, replayed, dropped."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.adapters.local import LocalStore, LocalWorkQueue
from shared.adapters.local.schema import from_us


@dataclass(frozen=True, slots=True)
class PoisonMessage:
    """A message that was given up.

    Attributes:
        id: in the poison queue; what `replay` and `drop` are told.
        function: whose message it was.
        source_queue: where it goes when it is replayed.
        reason: of the last failure.
        dequeue_count: how often it was delivered.
    """

    id: str
    queue: str
    function: str
    source_queue: str
    body: str
    reason: str
    dequeue_count: int
    failed_at: datetime


def list_poison(store: LocalStore) -> list[PoisonMessage]:
    """All that was given up, oldest first."""
    with store.reading() as db:
        return [_poison(row) for row in _rows(db)]


def replay(store: LocalStore, ids: Sequence[str] | None = None) -> int:
    """Sends messages to the queues they came from, as new ones with no failures; all of them when `ids` is None.

    Returns:
        How many. Ids that are not there (any more) are passed over, so that a repeat does no harm.
    """
    queue = LocalWorkQueue(store)
    with store.transaction() as db:
        chosen = [message for message in map(_poison, _rows(db)) if ids is None or message.id in ids]
        for message in chosen:
            queue.send(message.source_queue, message.body)
            db.execute("DELETE FROM messages WHERE id = ?", (message.id,))
    return len(chosen)


def drop(store: LocalStore, ids: Sequence[str] | None = None) -> int:
    """Deletes messages for good; all of them when `ids` is None. Returns how many."""
    with store.transaction() as db:
        chosen = [row["id"] for row in _rows(db) if ids is None or str(row["id"]) in ids]
        db.executemany("DELETE FROM messages WHERE id = ?", [(message_id,) for message_id in chosen])
    return len(chosen)


def _rows(db: sqlite3.Connection) -> list[sqlite3.Row]:
    return db.execute(
        "SELECT id, queue, body, function, source_queue, reason, host_poison.dequeue_count AS deliveries, failed_at"
        " FROM host_poison JOIN messages ON id = message_id ORDER BY id"
    ).fetchall()


def _poison(row: sqlite3.Row) -> PoisonMessage:
    return PoisonMessage(
        id=str(row["id"]),
        queue=row["queue"],
        function=row["function"],
        source_queue=row["source_queue"],
        body=row["body"],
        reason=row["reason"],
        dequeue_count=row["deliveries"],
        failed_at=from_us(row["failed_at"]),
    )
