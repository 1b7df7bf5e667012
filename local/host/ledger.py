"""What the host knows of each delivery: whether it is in hand, how often it failed, how often the host died with it.

A message is poison when its function has failed `limit` times, or when the host has died `DEATHS_FACTOR * limit` times
with it in hand. From the second death on it is a suspect, and worked on alone; one that fails by raising shows that
it does not kill, and its deaths are forgotten. docs/adr/0006 says why.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.adapters.local import LocalStore, LocalWorkQueue
from shared.adapters.local.schema import to_us
from shared.errors import NotFound
from shared.ports import QueueMessage, WorkQueue

SUSPECT_AFTER: Final = 2
DEATHS_FACTOR: Final = 3

_WAITING, _TAKEN, _BEGUN = range(3)
_FORGOTTEN_AFTER: Final = timedelta(days=8)  # messages of the cloud's queues that expire do so after seven


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


@dataclass(frozen=True, slots=True)
class _Note:
    failures: int = 0
    deaths: int = 0
    reason: str = ""

    def verdict(self, work: Work) -> str | None:
        """Why the message is poison; None when it is not."""
        if self.failures >= work.limit:
            return self.reason
        if self.deaths >= DEATHS_FACTOR * work.limit:
            return f"the host died {self.deaths} times while working on it"
        return None


class Ledger:
    """Deliveries of one backend's queues, noted in a file of the host's own.

    The embedded queue lies in that same file, and there every step is one transaction. Where the queue is elsewhere,
    a step's parts are in such an order that a death between two of them repeats a delivery and loses none.

    Args:
        notes: where the host keeps what it knows; the queue's own store when that is embedded.
    """

    def __init__(self, notes: LocalStore, queue: WorkQueue) -> None:
        self._notes = notes
        self._queue = queue
        self._embedded = isinstance(queue, LocalWorkQueue)
        self._step: Callable[[], AbstractContextManager[object]] = notes.transaction if self._embedded else nullcontext

    def take(self, work: Work, *, lease_s: float) -> Delivery | None:
        """The next visible message that is not poison, or None. Nothing is written when there is none."""
        while not self._embedded or self._queue.peek(work.queue, max_messages=1):
            with self._step():
                received = self._queue.receive(work.queue, visibility_timeout_s=lease_s)
                if not received:
                    return None
                (message,) = received
                note = self._note(message)
                verdict = note.verdict(work)
                if verdict is None:
                    suspect = note.deaths >= SUSPECT_AFTER
                    self._mark(message, _TAKEN if suspect else _BEGUN)
                    return Delivery(message, suspect)
                self._poison(work, message, verdict)
        return None

    def begin(self, message: QueueMessage) -> None:
        """A suspect's work begins now: from here on the host's death counts against it."""
        self._mark(message, _BEGUN)

    def complete(self, message: QueueMessage) -> bool:
        """Done. False when the lease had run out and somebody else has it."""
        with self._step():
            done = self._queue.delete(message)
            self._forget(message)
        return done

    def give_back(self, message: QueueMessage) -> None:
        """Not done, and nobody's fault: visible again, behind the waiting ones."""
        with self._step():
            self._mark(message, _WAITING)
            self._queue.renew(message, visibility_timeout_s=0.0)

    def fail(self, work: Work, message: QueueMessage, reason: str) -> bool:
        """Its function raised. True when that was once too often, and it is poison now.

        Raises:
            NotFound: the lease had run out and somebody else has it.
        """
        with self._step():
            if self._note_failure(message, reason) < work.limit:
                self._queue.renew(message, visibility_timeout_s=work.retry_delay_s)
                return False
            self._poison(work, message, reason)
        return True

    def recover(self) -> int:
        """Called once at start, when no other host can be running: whatever is in hand was a dead host's.

        Embedded messages go behind the waiting ones at once; others come back when their leases end.

        Returns:
            How many messages had been in hand.
        """
        now = self._notes.clock()
        with self._notes.transaction() as db:
            db.execute(
                "UPDATE messages SET visible_at = ?, receipt = lower(hex(randomblob(8))) WHERE CAST(id AS TEXT) IN"
                " (SELECT message_id FROM host_deliveries WHERE in_hand <> ?)",
                (to_us(now), _WAITING),
            )
            in_hand = db.execute(
                "UPDATE host_deliveries SET deaths = deaths + (in_hand = ?), in_hand = ? WHERE in_hand <> ?",
                (_BEGUN, _WAITING, _WAITING),
            )
            db.execute("DELETE FROM host_deliveries WHERE noted_at < ?", (to_us(now - _FORGOTTEN_AFTER),))
        return in_hand.rowcount

    def _note(self, message: QueueMessage) -> _Note:
        with self._notes.reading() as db:
            row = db.execute(
                "SELECT failures, deaths, reason FROM host_deliveries WHERE message_id = ?", (message.id,)
            ).fetchone()
        return _Note() if row is None else _Note(*row)

    def _mark(self, message: QueueMessage, in_hand: int) -> None:
        with self._notes.transaction() as db:
            db.execute(
                "INSERT INTO host_deliveries (message_id, in_hand, noted_at) VALUES (:id, :in_hand, :now)"
                " ON CONFLICT (message_id) DO UPDATE SET in_hand = :in_hand, noted_at = :now",
                {"id": message.id, "in_hand": in_hand, "now": to_us(self._notes.clock())},
            )

    def _note_failure(self, message: QueueMessage, reason: str) -> int:
        with self._notes.transaction() as db:
            self._mark(message, _WAITING)
            db.execute(
                "UPDATE host_deliveries SET failures = failures + 1, deaths = 0, reason = ? WHERE message_id = ?",
                (reason, message.id),
            )
            return self._note(message).failures

    def _forget(self, message: QueueMessage) -> None:
        with self._notes.transaction() as db:
            db.execute("DELETE FROM host_deliveries WHERE message_id = ?", (message.id,))

    def _poison(self, work: Work, message: QueueMessage, reason: str) -> None:
        poison_id = self._queue.send(work.poison_queue, message.body)
        with self._notes.transaction() as db:
            db.execute(
                "INSERT INTO host_poison VALUES (?, ?, ?, ?, ?, ?)",
                (poison_id, work.function, work.queue, reason, message.dequeue_count, to_us(self._notes.clock())),
            )
        if not self._queue.delete(message):
            raise NotFound("the message that was given up is in somebody else's hands")
        self._forget(message)
