"""Brings what is in the spool to the blob store, and does not let go of it before the store has acknowledged it."""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass

from tenacity import RetryCallState, RetryError, Retrying, retry_if_exception_type, stop_when_event_set
from tenacity.wait import wait_random_exponential

from edge_uploader.delivery.spool import Spool, SpoolEntry
from shared import telemetry
from shared.domain import CANDIDATES
from shared.errors import NotFound, PermanentError, PreconditionFailed, TransientError
from shared.ports import BlobStore

logger = logging.getLogger(__name__)

_POLL_S = 0.5


@dataclass(slots=True)
class UploadCounts:
    """Since the uploader was made.

    Attributes:
        uploaded: crops that the store acknowledged in this run.
        already_there: of which the store had them from before: an earlier run was cut off before it could note it.
        bytes_uploaded: of the crops' images, each counted once; not the protocol around them.
        retries: attempts that failed and were repeated.
        refused: crops that the store refused for good.
        unreachable: whether the last attempt failed.
    """

    uploaded: int = 0
    already_there: int = 0
    bytes_uploaded: int = 0
    retries: int = 0
    refused: int = 0
    unreachable: bool = False


class Uploader:
    """Threads that drain a spool.

    A crop has one name and one content for good, and is written if absent: sending it twice leaves one blob and
    fires the recogniser once.

    Args:
        store: where to.
        container: blob container.
        threads: crops on their way at a time.
        backoff_max_s: longest wait between attempts; the waits grow from `backoff_s` and are spread at random, so
            that gateways that lost the store together do not come back together.
    """

    def __init__(
        self,
        spool: Spool,
        store: BlobStore,
        *,
        container: str = CANDIDATES,
        threads: int = 2,
        backoff_max_s: float = 30.0,
        backoff_s: float = 0.5,
    ) -> None:
        self._spool, self._store, self._container = spool, store, container
        self._backoff_s, self._backoff_max_s = backoff_s, backoff_max_s
        self._stop = threading.Event()
        self._guard = threading.Lock()
        self.counts = UploadCounts()
        self._threads = [
            threading.Thread(target=self._run, name=f"upload-{number}", daemon=True) for number in range(threads)
        ]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    @property
    def alive(self) -> bool:
        """Whether anybody is there to send. Before `start` and after `stop` nobody is."""
        return any(thread.is_alive() for thread in self._threads)

    def stop(self, timeout_s: float = 10.0) -> None:
        """Stops after the attempt under way. What was not delivered stays in the spool."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(timeout_s)

    def _run(self) -> None:
        while not self._stop.is_set():
            entry = None
            try:
                entry = self._spool.take(_POLL_S)
                if entry is not None:
                    self._deliver(entry)
            except Exception:
                # The edge of the thread: an unforeseen error must neither end it nor lose the crop.
                blob = None if entry is None else entry.item.name
                logger.exception("sending failed", extra={"action": "upload_error", "blob": blob})
                if entry is not None:
                    self._spool.give_back(entry)
                self._stop.wait(self._backoff_max_s)

    def _deliver(self, entry: SpoolEntry) -> None:
        """Puts one entry, again and again while the store is away, until it is there, refused, or we stop."""
        attempts = Retrying(
            retry=retry_if_exception_type(TransientError),
            wait=wait_random_exponential(multiplier=self._backoff_s, max=self._backoff_max_s),
            stop=stop_when_event_set(self._stop),
            sleep=self._sleep,
            before_sleep=self._note_retry,
        )
        try:
            with telemetry.span("edge.upload", kind=telemetry.PRODUCER, carrier=entry.item.metadata):
                fresh = attempts(self._put, entry)
        except RetryError:
            self._spool.give_back(entry)
            return
        except PermanentError as error:
            logger.error(
                "the store refused a crop: %s", error.code, extra={"action": "upload_refused", "blob": entry.item.name}
            )
            self._spool.refuse(entry, f"{error.code}: {error}")
            telemetry.EDGE_REFUSED.add({})
            with self._guard:
                self.counts.refused += 1
            return
        self._spool.done(entry)
        telemetry.EDGE_UPLOADED.add({})
        telemetry.EDGE_UPLOADED_BYTES.add({}, len(entry.item.data) if fresh else 0)
        with self._guard:
            self.counts.uploaded += 1
            self.counts.already_there += not fresh
            self.counts.bytes_uploaded += len(entry.item.data) if fresh else 0
            self.counts.unreachable = False

    def _sleep(self, seconds: float) -> None:
        self._stop.wait(seconds)

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
        return stored.metadata.get("sha256") == entry.item.metadata.get("sha256")

    def _note_retry(self, state: RetryCallState) -> None:
        telemetry.EDGE_RETRIES.add({})
        with self._guard:
            self.counts.retries += 1
            was_there, self.counts.unreachable = not self.counts.unreachable, True
        if was_there:
            error = state.outcome.exception() if state.outcome else None
            logger.warning(
                "the store does not take crops (%s); they wait in the spool",
                type(error).__name__,
                extra={"action": "upload_retry"},
            )
