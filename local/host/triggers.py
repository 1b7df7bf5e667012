"""All triggers of an app that are not HTTP: wired up, started, woken, stopped."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial

import azure.functions as func
from azure.functions.queue import QueueMessage as FunctionQueueMessage

from local.host.backend import Backend
from local.host.events import BlobEvents
from local.host.hostjson import HostConfig
from local.host.inbox import BLOB_POISON_QUEUE, BlobInbox, blob_queue
from local.host.index import Function, FunctionIndex, QueueTrigger
from local.host.invoke import run_in_thread
from local.host.ledger import Ledger, Work
from local.host.listener import Listener, Renewer
from local.host.timers import TimerRunner
from shared.errors import ConfigurationError, FacerelayError, InvalidInput
from shared.ports import QueueMessage

logger = logging.getLogger(__name__)

_TICK_S = 0.05
_PAUSE_S = 1.0
_TIME_TO_LIVE = timedelta(days=7)  # the platform's default


class Triggers:
    """Blob, queue and timer triggers of one app on one backend.

    Args:
        concurrency: messages of one function worked on at a time, at most what host.json allows.
        lease_s: how long a message is hidden at a time while its function runs; it is renewed three times as often.

    Raises:
        ConfigurationError: a schedule, queue or container that cannot be used.
    """

    def __init__(
        self,
        functions: FunctionIndex,
        backend: Backend,
        config: HostConfig,
        *,
        concurrency: int,
        lease_s: float = 60.0,
    ) -> None:
        self._backend = backend
        self._clock = backend.notes.clock
        self._ledger = Ledger(backend.notes, backend.queue)
        self._renewer = Renewer(backend.queue, lease_s=lease_s)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = threading.Event()
        self._pump = threading.Thread(target=self._pump_loop, name="pump", daemon=True)
        queues = [blob_queue(trigger.function.name) for trigger in functions.blobs]
        if len(set(queues)) < len(queues):
            raise ConfigurationError("the names of two blob functions differ only in what queue names cannot hold")
        self._inboxes = [BlobInbox(trigger, backend.blobs, backend.queue) for trigger in functions.blobs]
        self._feeds = [feed for inbox in self._inboxes if (feed := backend.feed(inbox)) is not None]
        self._listeners = [self._blob_listener(inbox, config, concurrency) for inbox in self._inboxes] + [
            self._queue_listener(trigger, config, concurrency) for trigger in functions.queues
        ]
        self._bell = backend.bell([listener.work.queue for listener in self._listeners])
        self._workers: list[Listener | TimerRunner] = [
            *self._listeners,
            *(
                TimerRunner(trigger, backend.notes, partial(self._invoke, trigger.function))
                for trigger in functions.timers
            ),
        ]

    def recover(self) -> None:
        """Takes over from a host that died: its messages in hand, and files it left half-acknowledged."""
        returned, swept = self._ledger.recover(), self._backend.sweep()
        if returned or swept:
            logger.info("recovered", extra={"action": "recovered", "returned": returned, "swept": swept})

    def blob_events(self) -> BlobEvents | None:
        """What Event Grid calls; None when no function waits for it."""
        fed = {feed.inbox.trigger.function.name for feed in self._feeds}
        waiting = {inbox.trigger.function.name: inbox for inbox in self._inboxes}
        inboxes = {name: inbox for name, inbox in waiting.items() if name not in fed}
        return BlobEvents(inboxes) if inboxes else None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begins to work; async functions run on `loop`."""
        self._loop = loop
        self._renewer.start()
        for worker in self._workers:
            worker.start()
        self._pump.start()

    def stop(self) -> None:
        """Takes nothing more. Returns at once."""
        self._stop.set()
        for worker in self._workers:
            worker.stop()

    def join(self, timeout_s: float) -> bool:
        """Waits for what is in hand, and gives back what does not end in time.

        Returns:
            False when somebody is still at work: a function, or a look into a store that does not answer.
        """
        if self._loop is None:
            return True
        deadline = time.monotonic() + timeout_s
        done = all([worker.join(deadline) for worker in self._workers])
        self._pump.join(max(0.0, deadline - time.monotonic()))
        # Last, since what is in hand is renewed until its time is over.
        self._renewer.stop(deadline)
        for held in self._renewer.held():
            with held.lock:
                if not held.finished:
                    held.finished = True
                    self._give_back(held.message)
        return done and not self._pump.is_alive()

    def _give_back(self, message: QueueMessage) -> None:
        try:
            self._ledger.give_back(message)
        except FacerelayError:
            # It comes back by itself when its lease ends.
            logger.warning("message not given back", exc_info=True, extra={"action": "give_back_failed"})

    def _blob_listener(self, inbox: BlobInbox, config: HostConfig, concurrency: int) -> Listener:
        function = inbox.trigger.function

        def run(message: QueueMessage) -> None:
            stream = inbox.read(message)
            if stream is not None:
                self._invoke(function, stream)

        work = Work(
            function.name, inbox.queue_name, BLOB_POISON_QUEUE, config.poison_blob_threshold, config.retry_delay_s
        )
        return self._listener(work, run, min(concurrency, config.max_blob_parallelism))

    def _queue_listener(self, trigger: QueueTrigger, config: HostConfig, concurrency: int) -> Listener:
        def run(message: QueueMessage) -> None:
            hidden_until = self._clock() + timedelta(seconds=self._renewer.lease_s)
            self._invoke(trigger.function, _function_message(message, hidden_until))

        poison_queue = f"{trigger.queue}-poison"
        work = Work(trigger.function.name, trigger.queue, poison_queue, config.max_dequeue_count, config.retry_delay_s)
        return self._listener(work, run, min(concurrency, config.queue_concurrency))

    def _listener(self, work: Work, run: Callable[[QueueMessage], None], concurrency: int) -> Listener:
        try:
            self._backend.queue.length(work.queue)
            self._backend.queue.length(work.poison_queue)
        except InvalidInput as error:
            raise ConfigurationError(f"function {work.function}: {error}") from error
        return Listener(
            work, self._ledger, self._renewer, run, concurrency=max(1, concurrency), poll_s=self._backend.poll_s
        )

    def _invoke(self, function: Function, value: object) -> None:
        if self._loop is None:
            raise RuntimeError("the triggers were not started")
        run_in_thread(function, value, self._loop)

    def _pump_loop(self) -> None:
        again = False
        while not self._stop.wait(_TICK_S):
            try:
                if self._bell.rings() or again:
                    again = False
                    self._turn()
            except Exception:
                # The edge of the loop: a store may be full, locked or away; nothing is lost by looking again.
                logger.exception("no news of blobs", extra={"action": "pump_failed"})
                again = True
                self._stop.wait(_PAUSE_S)

    def _turn(self) -> None:
        for feed in self._feeds:
            feed.run()
        for listener in self._listeners:
            listener.wake()


def _function_message(message: QueueMessage, hidden_until: datetime) -> func.QueueMessage:
    return FunctionQueueMessage(  # type: ignore[no-untyped-call]  # the SDK does not annotate it
        id=message.id,
        body=message.body,
        dequeue_count=message.dequeue_count,
        expiration_time=message.inserted_at + _TIME_TO_LIVE,
        insertion_time=message.inserted_at,
        time_next_visible=hidden_until,
        pop_receipt=message.receipt,
    )
