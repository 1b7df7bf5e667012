"""What the host is run over: the embedded store, or a storage account."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final, Protocol

from local.host.feeds import BlobFeed, ChangeFeed, ContainerScan
from local.host.inbox import BlobInbox
from shared.adapters.local import LocalBlobStore, LocalStore, LocalWorkQueue
from shared.adapters.local.schema import to_us
from shared.bootstrap import Stores
from shared.ports import BlobStore, WorkQueue
from shared.settings import Settings

_LOOK_S: Final = 1.0


class Bell(Protocol):
    """Asked twenty times a second whether there may be something new."""

    def rings(self) -> bool: ...


class Backend(Protocol):
    """Blobs and queues, and how one hears of their news.

    Attributes:
        notes: the host's own state: receipts, timers, deliveries, reasons of poison. One host at a time.
        poll_s: how often an idle worker looks into its queue unasked; None where the bell tells of messages.
    """

    @property
    def notes(self) -> LocalStore: ...
    @property
    def queue(self) -> WorkQueue: ...
    @property
    def blobs(self) -> BlobStore: ...
    @property
    def poll_s(self) -> float | None: ...

    def feed(self, inbox: BlobInbox) -> BlobFeed | None:
        """What fills `inbox`; None when Event Grid does."""
        ...

    def bell(self, queues: Sequence[str]) -> Bell: ...

    def sweep(self) -> int:
        """Removes what a host that died has left behind; how much."""
        ...


class EmbeddedBackend:
    """One folder. Its database tells of every commit, so nothing is polled."""

    poll_s: float | None = None

    def __init__(self, store: LocalStore) -> None:
        self.notes = store
        self.queue = LocalWorkQueue(store)
        self.blobs = LocalBlobStore(store)

    def feed(self, inbox: BlobInbox) -> BlobFeed:
        """The folder's change feed, whatever source the trigger names: it is both prompt and complete."""
        return ChangeFeed(inbox, self.notes, self.blobs)

    def bell(self, queues: Sequence[str]) -> Bell:
        return _CommitBell(self.notes, queues)

    def sweep(self) -> int:
        return self.blobs.sweep_orphans()


class StorageBackend:
    """A storage account, or an emulator of one. The host's own state stays on this machine.

    Args:
        notes: in a folder of its own.
    """

    poll_s: float | None = _LOOK_S

    def __init__(self, blobs: BlobStore, queue: WorkQueue, notes: LocalStore) -> None:
        self.blobs = blobs
        self.queue = queue
        self.notes = notes

    def feed(self, inbox: BlobInbox) -> BlobFeed | None:
        return None if inbox.trigger.event_grid else ContainerScan(inbox, self.notes, self.blobs)

    def bell(self, queues: Sequence[str]) -> Bell:
        return _IntervalBell(_LOOK_S)

    def sweep(self) -> int:
        return 0


def open_notes(settings: Settings) -> LocalStore:
    """Where a host under these settings keeps its own state.

    With the embedded backend that is the store itself; other backends have a folder beside it, so that changing
    between them mixes nothing up.
    """
    return LocalStore(
        settings.data_dir if settings.backend == "local" else settings.data_dir / f"{settings.backend}-host"
    )


def open_backend(settings: Settings, stores: Stores) -> Backend:
    """What `serve` runs over under these settings."""
    notes = open_notes(settings)
    return EmbeddedBackend(notes) if settings.backend == "local" else StorageBackend(stores.blobs, stores.queue, notes)


class _CommitBell:
    """Rings after any commit to a database, by any process, and when a hidden message becomes visible."""

    def __init__(self, store: LocalStore, queues: Sequence[str]) -> None:
        self._store = store
        self._queues = queues
        self._version = -1
        self._wake_at_us: int | None = None

    def rings(self) -> bool:
        seen = self._data_version()
        waking = self._wake_at_us is not None and to_us(self._store.clock()) >= self._wake_at_us
        if seen == self._version and not waking:
            return False
        # Asked before anybody looks: what becomes visible meanwhile is then not overlooked.
        self._wake_at_us = self._next_visible_us()
        self._version = seen
        return True

    def _data_version(self) -> int:
        """Changes whenever another connection, of this process or any, has committed: costs next to nothing to ask."""
        with self._store.reading() as db:
            version: int = db.execute("PRAGMA data_version").fetchone()[0]
        return version

    def _next_visible_us(self) -> int | None:
        query = "SELECT min(visible_at) FROM messages WHERE queue = ? AND visible_at > ?"
        now = to_us(self._store.clock())
        with self._store.reading() as db:
            found = [db.execute(query, (queue, now)).fetchone()[0] for queue in self._queues]
        return min((moment for moment in found if moment is not None), default=None)


class _IntervalBell:
    """Rings every so often."""

    def __init__(self, interval_s: float) -> None:
        self._interval_s = interval_s
        self._next_s = time.monotonic()

    def rings(self) -> bool:
        now = time.monotonic()
        if now < self._next_s:
            return False
        self._next_s = now + self._interval_s
        return True
