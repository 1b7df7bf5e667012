"""Where the news of blobs comes from: the embedded store's change feed, or looking through a container."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final, Protocol

from local.host.inbox import BlobInbox
from shared.adapters.local import LocalBlobStore, LocalStore
from shared.ports import BlobProperties, BlobStore

logger = logging.getLogger(__name__)

_BATCH: Final = 200
_REST_FACTOR: Final = 4
"""Listing may take a fifth of the time, so that large containers are looked through less often."""
_LONGEST_REST_S: Final = 30.0


class BlobFeed(Protocol):
    """Turns a container's news into messages of a blob function's inbox."""

    @property
    def inbox(self) -> BlobInbox: ...

    def run(self) -> int:
        """Sends what is new; how many messages that made."""
        ...


class ChangeFeed:
    """The embedded store's own feed, copied into the inbox.

    The messages and the position in the feed are written in one transaction: a host that is killed relays nothing
    twice and leaves nothing out. A function that is new starts at the beginning of its container.
    """

    def __init__(self, inbox: BlobInbox, store: LocalStore, blobs: LocalBlobStore) -> None:
        self.inbox = inbox
        self._store = store
        self._blobs = blobs
        self._position = self._stored_position()

    def run(self) -> int:
        container, sent = self.inbox.trigger.container, 0
        while changes := self._blobs.changes_after(self._position, container, _BATCH):
            with self._store.transaction() as db:
                for change in changes:
                    if self.inbox.accepts(container, change.properties.name):
                        self.inbox.send(change.properties.name, change.properties.etag)
                        sent += 1
                cursor = (self.inbox.queue_name, changes[-1].seq)
                db.execute("INSERT OR REPLACE INTO host_cursors VALUES (?, ?)", cursor)
            self._position = changes[-1].seq
        return sent

    def _stored_position(self) -> int:
        with self._store.reading() as db:
            row = db.execute("SELECT seq FROM host_cursors WHERE name = ?", (self.inbox.queue_name,)).fetchone()
        return 0 if row is None else int(row["seq"])


class ContainerScan:
    """Looks through the whole container, again and again, and sends what it has no receipt for.

    A receipt is a blob's name and ETag, and is written after the message was sent: a host that is killed in between
    sends up to a batch of them a second time. Receipts of blobs that are gone are dropped.

    Args:
        notes: keeps the receipts.
        rest_s: least time between two scans.
        clock_s: for tests.
    """

    def __init__(
        self,
        inbox: BlobInbox,
        notes: LocalStore,
        blobs: BlobStore,
        *,
        rest_s: float = 1.0,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.inbox = inbox
        self._notes = notes
        self._blobs = blobs
        self._rest_s = rest_s
        self._clock_s = clock_s
        self._due_s = clock_s()
        self._sending_s = 0.0
        self._receipts = self._stored_receipts()

    def run(self) -> int:
        began = self._clock_s()
        if began < self._due_s:
            return 0
        self._sending_s = 0.0
        try:
            return self._scan()
        finally:
            ended = self._clock_s()
            # Sending is left out: it makes up for what came during a rest, and must not make the next one longer.
            rest_s = _REST_FACTOR * (ended - began - self._sending_s)
            self._due_s = ended + min(max(self._rest_s, rest_s), _LONGEST_REST_S)

    def _scan(self) -> int:
        container = self.inbox.trigger.container
        present: set[str] = set()
        unwritten: dict[str, str] = {}
        sent = 0
        try:
            for blob in self._blobs.list(container):
                present.add(blob.name)
                if self._receipts.get(blob.name) == blob.etag or not self.inbox.accepts(container, blob.name):
                    continue
                self._send(blob)
                unwritten[blob.name] = self._receipts[blob.name] = blob.etag
                sent += 1
                if len(unwritten) == _BATCH:
                    self._write(unwritten)
                    unwritten.clear()
        finally:
            self._write(unwritten)
        self._drop(self._receipts.keys() - present)
        if sent:
            logger.info("blobs found", extra={"action": "scanned", "sent": sent, "present": len(present)})
        return sent

    def _send(self, blob: BlobProperties) -> None:
        began = self._clock_s()
        self.inbox.send(blob.name, blob.etag)
        self._sending_s += self._clock_s() - began

    def _write(self, receipts: dict[str, str]) -> None:
        if receipts:
            rows = [(self.inbox.queue_name, name, etag) for name, etag in receipts.items()]
            with self._notes.transaction() as db:
                db.executemany("INSERT OR REPLACE INTO host_receipts VALUES (?, ?, ?)", rows)

    def _drop(self, names: set[str]) -> None:
        if names:
            rows = [(self.inbox.queue_name, name) for name in names]
            with self._notes.transaction() as db:
                db.executemany("DELETE FROM host_receipts WHERE queue = ? AND blob = ?", rows)
            for name in names:
                del self._receipts[name]

    def _stored_receipts(self) -> dict[str, str]:
        with self._notes.reading() as db:
            query = "SELECT blob, etag FROM host_receipts WHERE queue = ?"
            return {row["blob"]: row["etag"] for row in db.execute(query, (self.inbox.queue_name,))}
