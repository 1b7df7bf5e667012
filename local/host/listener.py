"""Feeds one function with the messages of one queue: so many at a time, each leased, renewed, retried or poisoned."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from local.host.invoke import reason_of
from local.host.ledger import Delivery, Ledger, Work
from shared.errors import FacerelayError, NotFound
from shared.ports import QueueMessage, WorkQueue

logger = logging.getLogger(__name__)

_PAUSE_S = 1.0


class Held:
    """A message in hand. `message` carries the newest receipt; take `lock` to use it."""

    def __init__(self, message: QueueMessage) -> None:
        self.message = message
        self.lock = threading.Lock()
        self.finished = False


class Renewer:
    """Keeps the messages in hand hidden while their functions run."""

    def __init__(self, queue: WorkQueue, *, lease_s: float) -> None:
        self.lease_s = lease_s
        self._queue = queue
        self._held: set[Held] = set()
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="renewer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, deadline: float) -> None:
        """Renews nothing more. Waits until `deadline` (`time.monotonic`) for a renewal that is being made."""
        self._stop.set()
        self._thread.join(max(0.0, deadline - time.monotonic()))

    @contextmanager
    def holding(self, message: QueueMessage) -> Iterator[Held]:
        """Renews `message` for as long as the body runs."""
        held = Held(message)
        with self._guard:
            self._held.add(held)
        try:
            yield held
        finally:
            with self._guard:
                self._held.discard(held)

    def held(self) -> list[Held]:
        """What is in hand now."""
        with self._guard:
            return list(self._held)

    def _loop(self) -> None:
        while not self._stop.wait(self.lease_s / 3):
            for held in self.held():
                with held.lock:
                    if not held.finished:
                        self._renew(held)

    def _renew(self, held: Held) -> None:
        try:
            held.message = self._queue.renew(held.message, visibility_timeout_s=self.lease_s)
        except NotFound:
            # The machine slept longer than the lease: the message may run a second time.
            held.finished = True
            logger.warning("lease lost", extra={"action": "lease_lost", "queue": held.message.queue})
        except FacerelayError:
            logger.warning("lease not renewed", exc_info=True, extra={"action": "renew_failed"})


class Gate:
    """Lets many workers in, or one alone."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._inside = 0
        self._alone = False

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Waits while somebody is alone, or wants to be."""
        with self._condition:
            self._condition.wait_for(lambda: not self._alone)
            self._inside += 1
        try:
            yield
        finally:
            with self._condition:
                self._inside -= 1
                self._condition.notify_all()

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """For one who is inside: waits until all others have left. False when another wants to be alone already."""
        with self._condition:
            granted = not self._alone
            if granted:
                self._alone = True
                self._condition.wait_for(lambda: self._inside == 1)
        try:
            yield granted
        finally:
            if granted:
                with self._condition:
                    self._alone = False
                    self._condition.notify_all()


class Listener:
    """Workers of one function, each with one message at a time: what is in hand is what is really being worked on.

    Args:
        run: calls the function; raises what it raises.
        concurrency: messages worked on at a time.
        poll_s: how often an idle worker looks unasked; None: only after `wake`.
    """

    def __init__(
        self,
        work: Work,
        ledger: Ledger,
        renewer: Renewer,
        run: Callable[[QueueMessage], None],
        *,
        concurrency: int,
        poll_s: float | None = None,
    ) -> None:
        self.work = work
        self._ledger = ledger
        self._renewer = renewer
        self._run = run
        self._poll_s = poll_s
        self._gate = Gate()
        self._changed = threading.Condition()
        self._change = 0
        self._stopping = False
        self._threads = [
            threading.Thread(target=self._loop, name=f"{work.function}-{number}", daemon=True)
            for number in range(concurrency)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """There may be something in the queue."""
        with self._changed:
            self._change += 1
            self._changed.notify_all()

    def stop(self) -> None:
        """Takes no more messages. Returns at once; `join` waits for those in hand."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()

    def join(self, deadline: float) -> bool:
        """Waits until `deadline` (`time.monotonic`). False when somebody is still at work then."""
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        return not any(thread.is_alive() for thread in self._threads)

    def _loop(self) -> None:
        while not self._stopping:
            seen = self._change
            try:
                with self._gate.inside():
                    worked = not self._stopping and self._turn()
            except Exception:
                # The edge of the loop: a store that is full or locked now will not be for ever.
                logger.exception("queue not served", extra={"action": "listener_failed", "queue": self.work.queue})
                self._wait(None, _PAUSE_S)
                continue
            if not worked:
                self._wait(seen, self._poll_s)

    def _wait(self, seen: int | None, timeout_s: float | None) -> None:
        """Until the time is over, somebody has called `wake` since `seen`, or the end has come."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._stopping or (seen is not None and self._change != seen),
                timeout_s,
            )

    def _turn(self) -> bool:
        """Takes and works on one message. False when there was none."""
        delivery = self._ledger.take(self.work, lease_s=self._renewer.lease_s)
        if delivery is None:
            return False
        with self._renewer.holding(delivery.message) as held:
            if not delivery.suspect:
                self._deliver(held)
                return True
            with self._gate.alone() as granted:
                self._deliver_suspect(held, delivery, granted)
        return True

    def _deliver_suspect(self, held: Held, delivery: Delivery, granted: bool) -> None:
        if not granted or self._stopping:
            with held.lock:
                held.finished = True
                self._ledger.give_back(held.message)
            return
        logger.warning(
            "working on a message alone that the host has died with",
            extra={"action": "suspect", "queue": self.work.queue, "message_id": delivery.message.id},
        )
        self._ledger.begin(delivery.message)
        self._deliver(held)

    def _deliver(self, held: Held) -> None:
        try:
            self._run(held.message)
        except (Exception, SystemExit) as error:  # noqa: BLE001 - the edge of an invocation
            self._failed(held, error)
            return
        with held.lock:
            if not held.finished:
                held.finished = True
                self._ledger.complete(held.message)

    def _failed(self, held: Held, error: BaseException) -> None:
        poisoned = False
        with held.lock:
            if not held.finished:
                held.finished = True
                poisoned = self._ledger.fail(self.work, held.message, reason_of(error))
        logger.error(
            "message given up" if poisoned else "message failed",
            exc_info=error,
            extra={
                "action": "message_poisoned" if poisoned else "message_failed",
                "function": self.work.function,
                "queue": self.work.queue,
                "message_id": held.message.id,
                "dequeue_count": held.message.dequeue_count,
            },
        )
