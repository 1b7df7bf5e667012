"""Brings what is in the spool to the blob store, and does not let go of it before the store has acknowledged it."""

from __future__ import annotations

import logging
import random
import threading
import time
from dataclasses import dataclass
from typing import Final

from edge_uploader.delivery.budget import Budget, BudgetLimits, BudgetReport, network_bytes
from edge_uploader.delivery.circuit import Backoff, Circuit
from edge_uploader.delivery.counts import Trouble
from edge_uploader.delivery.refusals import Refusals
from edge_uploader.delivery.spool import Spool, SpoolEntry
from shared import telemetry
from shared.domain import CANDIDATES
from shared.errors import FacerelayError, NotFound, PermanentError, PreconditionFailed, StoreUnavailable, TransientError
from shared.ports import BlobStore

logger = logging.getLogger(__name__)

_POLL_S: Final = 0.5
_OTHERS_TRY_S: Final = 0.05
_MOST_STUCK: Final = 16


@dataclass(slots=True)
class UploadCounts:
    """Since the uploader was made.

    Attributes:
        uploaded: crops that the store acknowledged in this run.
        already_there: of which the store had them from before: an earlier run was cut off before it could note it.
        bytes_uploaded: of the crops' images, each counted once; not the protocol around them.
        network_bytes: estimated on the line, protocol and failed attempts included.
        retries: attempts that failed and are repeated.
        overdue: attempts that took longer than they may, and were given up.
        refused: crops that the store refused for good, while it took others.
        trouble: why crops wait for the store at the moment; None while it takes them.
    """

    uploaded: int = 0
    already_there: int = 0
    bytes_uploaded: int = 0
    network_bytes: int = 0
    retries: int = 0
    overdue: int = 0
    refused: int = 0
    trouble: Trouble | None = None


class _Worker:
    """A sending thread, and the attempt that it has in hand."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._held: tuple[SpoolEntry, int, float] | None = None
        self.given_up = False

    def begin(self, entry: SpoolEntry, permit: int) -> None:
        with self._guard:
            self._held = (entry, permit, time.monotonic())

    def end(self) -> bool:
        """False when the attempt was given up: its entry is somebody else's."""
        with self._guard:
            self._held = None
            return not self.given_up

    def hangs(self, after_s: float) -> bool:
        """Whether nothing is to be expected of it any more, for now."""
        with self._guard:
            return self.given_up or (self._held is not None and time.monotonic() - self._held[2] >= after_s)

    def give_up(self, after_s: float) -> tuple[SpoolEntry, int] | None:
        """Takes the attempt away when it has lasted for so long; the thread ends when its call returns."""
        with self._guard:
            if self._held is None or self.given_up or time.monotonic() - self._held[2] < after_s:
                return None
            self.given_up = True
            return self._held[:2]


class Uploader:
    """Threads that drain a spool.

    A crop has one name and one content for good, and is written if absent: sending it twice leaves one blob and
    fires the recogniser once. One that fails goes back into the spool: the next attempt is for what is worth most then.

    Args:
        store: where to. It should not repeat attempts by itself.
        container: blob container.
        budget: what may be spent; None: anything.
        threads: crops on their way at a time.
        backoff_s, backoff_max_s: waits between attempts while the store is away, shared by all threads; they grow from
            the first to the second and are spread at random, so that gateways that lost the store together do not come
            back together.
        attempt_s: an attempt that lasts longer is given up, and its thread replaced.
    """

    def __init__(
        self,
        spool: Spool,
        store: BlobStore,
        *,
        container: str = CANDIDATES,
        budget: Budget | None = None,
        threads: int = 2,
        backoff_max_s: float = 30.0,
        backoff_s: float = 0.5,
        attempt_s: float = 60.0,
    ) -> None:
        self._spool, self._store, self._container = spool, store, container
        self._budget = budget or Budget(BudgetLimits(), clock=spool.clock)
        self._backoff = Backoff(min(backoff_s, backoff_max_s), backoff_max_s)
        self._circuit = Circuit(self._backoff, now_s=time.monotonic)
        self._refusals, self._judging = Refusals(), threading.Lock()
        self._attempt_s = attempt_s
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self.counts = UploadCounts()
        self._workers: dict[threading.Thread, _Worker] = {}
        for _ in range(threads):
            self._hire()
        self._watcher = threading.Thread(target=self._watch, name="upload-watch", daemon=True)

    def start(self) -> None:
        for thread in [*self._workers, self._watcher]:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether anybody is there who can send. Before `start` and after `stop` nobody is, nor while every attempt
        hangs and no more threads are put in their places."""
        workers = list(self._workers.items())
        return any(thread.is_alive() and not worker.hangs(2 * self._attempt_s) for thread, worker in workers)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stops after the attempts under way. What was not delivered stays in the spool."""
        self._stop.set()
        deadline = time.monotonic() + timeout_s
        for thread in [self._watcher, *self._workers]:
            if thread.is_alive():
                thread.join(max(0.0, deadline - time.monotonic()))
        self._budget.close()

    def budget(self) -> BudgetReport:
        """How the budget stands, and what it holds back."""
        return self._budget.report(self._spool.held(self._budget.gate()))

    def _hire(self) -> threading.Thread:
        worker = _Worker()
        name = f"upload-{len(self._workers)}"
        thread = threading.Thread(target=self._run, args=(worker,), name=name, daemon=True)
        self._workers[thread] = worker
        return thread

    def _run(self, worker: _Worker) -> None:
        while not self._stop.is_set() and not worker.given_up:
            try:
                self._turn(worker)
            except Exception:
                # The edge of the thread: an unforeseen error must not end it.
                logger.exception("sending failed", extra={"action": "upload_error"})
                self._stop.wait(self._backoff.longest_s)

    def _turn(self, worker: _Worker) -> None:
        """One crop, when there is one that may go; else a short wait."""
        permit = self._circuit.permit()
        if permit is None:
            self._spool.tidy()
            self._stop.wait(min(self._circuit.wait_s or _OTHERS_TRY_S, _POLL_S))
            return
        entry = None
        try:
            entry = self._spool.take(_POLL_S, self._budget.gate(), self._refusals.of_all)
        finally:
            if entry is None:
                self._circuit.unused(permit)
        if entry is None:
            return
        if not self._circuit.valid(permit):
            # Others failed while this one waited for a crop: the store is to be left alone.
            self._spool.give_back(entry)
            return
        size = network_bytes(entry.item.data, entry.item.metadata, entry.item.tags)
        if not self._budget.reserve(size):
            self._circuit.unused(permit)
            self._spool.give_back(entry)
            self._stop.wait(_POLL_S)
            return
        worker.begin(entry, permit)
        self._attempt(worker, entry, permit, size)

    def _attempt(self, worker: _Worker, entry: SpoolEntry, permit: int, size: int) -> None:
        try:
            with telemetry.span("edge.upload", kind=telemetry.PRODUCER, carrier=entry.item.metadata):
                fresh = self._put(entry)
        except TransientError as error:
            unsent = isinstance(error, StoreUnavailable) and not error.sent
            if unsent:
                self._budget.refund(size)
            self._note(network_bytes=0 if unsent else size)
            if worker.end():
                self._failed(entry, permit, error)
        except PermanentError as error:
            self._note(network_bytes=size)
            if worker.end():
                self._refused(entry, permit, error)
        except Exception:
            logger.exception("sending failed", extra={"action": "upload_error", "blob": entry.item.name})
            if worker.end():
                self._circuit.unused(permit)
                self._spool.give_back(entry, self._backoff.longest_s)
        else:
            self._note(network_bytes=size)
            if worker.end():
                self._circuit.succeeded(permit)
                self._delivered(entry, fresh)

    def _delivered(self, entry: SpoolEntry, fresh: bool) -> None:
        self._spool.done(entry)
        if self._refusals.taken(entry):
            logger.info("the store takes crops again", extra={"action": "upload_taken_again"})
        size = len(entry.item.data) if fresh else 0
        telemetry.EDGE_UPLOADED.add({})
        telemetry.EDGE_UPLOADED_BYTES.add({}, size)
        self._note(uploaded=1, already_there=int(not fresh), bytes_uploaded=size)
        self.counts.trouble = None

    def _refused(self, entry: SpoolEntry, permit: int, error: PermanentError) -> None:
        with self._judging:  # so that who is taken back has been set aside before
            blamed = self._refusals.refused(entry)
            if blamed is None:
                self._set_aside(entry, error)
            else:
                self._note(refused=-self._spool.restore(blamed))
        if blamed is None:
            self._circuit.succeeded(permit)
            self.counts.trouble = None
            return
        if blamed:
            logger.error(
                "the store refuses one crop after another (%s); they wait in the spool. If this gateway is newer than "
                "its service, update the service; else see what a proxy or the store's settings have against them",
                error,
                extra={"action": "upload_refused_all"},
            )
        self._failed(entry, permit, error, "refuses")

    def _set_aside(self, entry: SpoolEntry, error: PermanentError) -> None:
        extra = {"action": "upload_refused", "blob": entry.item.name}
        logger.error("the store refused a crop: %s", error.code, extra=extra)
        self._spool.refuse(entry, f"{error.code}: {error}")
        telemetry.EDGE_REFUSED.add({})
        self._note(refused=1)

    def _failed(self, entry: SpoolEntry, permit: int, error: FacerelayError, trouble: Trouble = "away") -> None:
        """Back into the spool. It rests for a while, so that one crop that always fails does not block the others."""
        self._circuit.failed(permit, getattr(error, "retry_after_s", None))
        rest_s = self._backoff.limit_s(entry.failures + 1) * random.uniform(0.5, 1.0)  # noqa: S311
        self._spool.give_back(entry, rest_s)
        telemetry.EDGE_RETRIES.add({})
        self._note(retries=1)
        before, self.counts.trouble = self.counts.trouble, trouble
        if before is None and trouble == "away" and not self._stop.is_set():
            logger.warning(
                "the store does not take crops (%s); they wait in the spool",
                type(error).__name__,
                extra={"action": "upload_retry"},
            )

    def _watch(self) -> None:
        """Gives up attempts that hang, such as on a line that trickles, and puts another thread in their place."""
        while not self._stop.wait(min(_POLL_S, self._attempt_s / 4)):
            self._workers = {thread: worker for thread, worker in self._workers.items() if thread.is_alive()}
            for worker in list(self._workers.values()):
                stuck = sum(other.given_up for other in self._workers.values())
                if stuck >= _MOST_STUCK or (taken := worker.give_up(self._attempt_s)) is None:
                    continue
                entry, permit = taken
                logger.warning("an attempt took too long", extra={"action": "upload_overdue", "blob": entry.item.name})
                self._note(overdue=1)
                self._failed(entry, permit, StoreUnavailable("the store took too long"))
                self._hire().start()

    def _put(self, entry: SpoolEntry) -> bool:
        """True when the store has it from us now, False when it had it already."""
        item = entry.item
        try:
            self._store.put(
                self._container,
                item.name,
                item.data,
                metadata=item.metadata,
                tags=item.tags,
                content_type=item.content_type,
                if_absent=True,
            )
        except PreconditionFailed:
            if self._same_there(entry):
                return False
            raise
        return True

    def _same_there(self, entry: SpoolEntry) -> bool:
        try:
            stored = self._store.properties(self._container, entry.item.name)
        except NotFound:
            # Deleted since: it was there, so the recogniser has seen it. Or the store shows nothing (an upload grant);
            # a crop's name is its own for good, so what is there under it is this crop.
            return True
        except StoreUnavailable as error:
            error.sent = True  # the question was not, but the crop was
            raise
        return stored.metadata.get("sha256") == entry.item.metadata.get("sha256")

    def _note(self, **amounts: int) -> None:
        with self._guard:
            for name, amount in amounts.items():
                setattr(self.counts, name, getattr(self.counts, name) + amount)
