"""What the host knows of each delivery: who has it in hand, how often it failed, how often the host died with it.

A message is poison when its function has failed `limit` times, or when the host has died `DEATHS_FACTOR * limit` times
with it in hand. From the second death on it is a suspect, and worked on alone; one that fails by raising shows that
it does not kill, and its deaths are forgotten. docs/adr/0006 says why.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from shared.adapters.local import LocalStore, LocalWorkQueue
from shared.adapters.local.schema import from_us, to_us
from shared.ports import QueueMessage

SUSPECT_AFTER: Final = 2
DEATHS_FACTOR: Final = 3

_WAITING, _TAKEN, _BEGUN = range(3)


@dataclass(frozen=True, slots=True)
class Work:
    """One queue that a function is fed from.

    Attributes:
        function: the function's name.
        limit: failures after which a message is poison.
        retry_delay_s: how long a failed message rests.
    """

    function: str
    queue: str
    poison_queue: str
    limit: int
    retry_delay_s: float


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message that was taken; `suspect` when it may be what killed the host."""

    message: QueueMessage
    suspect: bool


class Ledger:
    """Deliveries in the store's own database: every step is one transaction with the queue's."""

    def __init__(self, store: LocalStore, queue: LocalWorkQueue) -> None:
        self._store = store
        self._queue = queue

    def take(self, work: Work, *, lease_s: float) -> Delivery | None:
        """The next visible message, or None. Nothing is written when there is none."""
        if not self._queue.peek(work.queue, max_messages=1):
            return None
        with self._store.transaction() as db:
            for message in self._queue.receive(work.queue, visibility_timeout_s=lease_s):
                row = db.execute("SELECT deaths FROM host_deliveries WHERE message_id = ?", (message.id,)).fetchone()
                suspect = row is not None and row["deaths"] >= SUSPECT_AFTER
                self._mark(db, message, _TAKEN if suspect else _BEGUN)
                return Delivery(message, suspect)
        return None

    def begin(self, message: QueueMessage) -> None:
        """A suspect's work begins now: from here on the host's death counts against it."""
        with self._store.transaction() as db:
            self._mark(db, message, _BEGUN)

    def complete(self, message: QueueMessage) -> bool:
        """Done. False when the lease had run out and somebody else has it."""
        return self._queue.delete(message)

    def give_back(self, message: QueueMessage) -> None:
        """Not done, and nobody's fault: visible again, behind the waiting ones."""
        with self._store.transaction() as db:
            self._queue.renew(message, visibility_timeout_s=0.0)
            self._mark(db, message, _WAITING)

    def fail(self, work: Work, message: QueueMessage, reason: str) -> bool:
        """Its function raised. True when that was once too often, and it is poison now."""
        with self._store.transaction() as db:
            renewed = self._queue.renew(message, visibility_timeout_s=work.retry_delay_s)
            self._mark(db, message, _WAITING)
            db.execute(
                "UPDATE host_deliveries SET failures = failures + 1, deaths = 0, reason = ? WHERE message_id = ?",
                (reason, message.id),
            )
            row = db.execute("SELECT failures FROM host_deliveries WHERE message_id = ?", (message.id,)).fetchone()
            if row["failures"] < work.limit:
                return False
            self._poison(db, work, renewed, reason)
        return True

    def recover(self, works: list[Work]) -> tuple[int, int]:
        """Called once at start, when no other host can be running: whatever is in hand was a dead host's.

        Returns:
            How many messages were put back behind the waiting ones, and how many have become poison.
        """
        by_queue = {work.queue: work for work in works}
        returned = poisoned = 0
        with self._store.transaction() as db:
            db.execute("UPDATE host_deliveries SET deaths = deaths + 1 WHERE in_hand = ?", (_BEGUN,))
            rows = db.execute(
                "SELECT messages.*, deaths FROM host_deliveries JOIN messages ON id = message_id"
                " WHERE in_hand <> ? ORDER BY id",
                (_WAITING,),
            ).fetchall()
            for row in rows:
                message = QueueMessage(
                    str(row["id"]),
                    row["queue"],
                    row["body"],
                    row["dequeue_count"],
                    from_us(row["inserted_at"]),
                    row["receipt"],
                )
                work = by_queue.get(message.queue)
                if work is not None and row["deaths"] >= DEATHS_FACTOR * work.limit:
                    self._poison(db, work, message, f"the host died {row['deaths']} times while working on it")
                    poisoned += 1
                else:
                    self.give_back(message)
                    returned += 1
        return returned, poisoned

    def next_visible_us(self, queues: Iterable[str]) -> int | None:
        """When the next hidden message of `queues` becomes visible, in microseconds since 1970; None without any."""
        query = "SELECT min(visible_at) FROM messages WHERE queue = ? AND visible_at > ?"
        now = to_us(self._store.clock())
        with self._store.reading() as db:
            found = [db.execute(query, (queue, now)).fetchone()[0] for queue in queues]
        return min((moment for moment in found if moment is not None), default=None)

    def _mark(self, db: sqlite3.Connection, message: QueueMessage, in_hand: int) -> None:
        db.execute(
            "INSERT INTO host_deliveries (message_id, in_hand) VALUES (:id, :in_hand)"
            " ON CONFLICT (message_id) DO UPDATE SET in_hand = :in_hand",
            {"id": message.id, "in_hand": in_hand},
        )

    def _poison(self, db: sqlite3.Connection, work: Work, message: QueueMessage, reason: str) -> None:
        poison_id = self._queue.send(work.poison_queue, message.body)
        db.execute(
            "INSERT INTO host_poison VALUES (?, ?, ?, ?, ?, ?)",
            (poison_id, work.function, work.queue, reason, message.dequeue_count, to_us(self._store.clock())),
        )
        self._queue.delete(message)
