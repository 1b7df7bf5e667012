"""Crops on disk, between the camera and the store: nothing that was taken is lost by a crash or a dead network.

An entry is one file (see `entries`). It is written under `tmp/`, brought to the disk, then renamed into `ready/`; what
a crash leaves in `tmp/` was never taken, and is set aside in `torn/`. What the store refuses for good goes to
`refused/`. What goes first, and what gives way at the bound, is `order`'s.

    spool/
    ├── lock         held while a gateway runs
    ├── clock.json   by which ages are told; the budget's files lie beside it
    ├── tmp/         being written
    ├── ready/       taken, waits for the store
    ├── torn/        half-written or damaged, kept for a look
    └── refused/     the store will not have it; beside each a .reason
"""

from __future__ import annotations

import errno
import heapq
import logging
import os
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from edge_uploader.delivery.aside import Aside
from edge_uploader.delivery.clock import SteadyClock
from edge_uploader.delivery.counts import Reason, SpoolCounts
from edge_uploader.delivery.disk import Eraser, write_durably
from edge_uploader.delivery.entries import SpoolEntry, SpoolItem, decode_item, encode_item, file_rank, named_rank
from edge_uploader.delivery.order import OPEN, Gate, Rank, Waiting
from edge_uploader.delivery.room import Room
from edge_uploader.delivery.state import StateFile
from shared.errors import ConfigurationError, IntegrityError, StoreFull, StoreUnavailable

__all__ = ["Spool", "SpoolCounts", "SpoolEntry", "SpoolItem", "decode_item", "encode_item"]

logger = logging.getLogger(__name__)

_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ASIDE_SHARE: Final = 0.1
_FRESH_NS: Final = 60_000_000_000
_TURNS: Final = 8
_TIDY_S: Final = 30.0
_EXPIRED_AT_ONCE: Final = 1_000
_MOST_AWAY_S: Final = 7 * 86_400.0
"""What waits ages by this at most while no gateway runs: a clock that is months ahead at a start erases nothing."""


class Spool:
    """The spool of one gateway. Thread-safe.

    Args:
        folder: made when it is not there.
        limit_bytes: most that waits in `ready/`.
        max_age_s: what waited longer is erased, in `torn/` and `refused/` too. 0: never.
        clock: by which ages are told; None: the spool's own, remembered in its folder.

    Raises:
        ConfigurationError: another gateway uses the folder, or it cannot be written.
    """

    def __init__(
        self,
        folder: Path,
        *,
        limit_bytes: int = 1_000_000_000,
        max_age_s: float = 0.0,
        clock: SteadyClock | None = None,
    ) -> None:
        self.limit_bytes, self._max_age_ns = limit_bytes, int(max_age_s * 1e9)
        self._tmp, self._ready = folder / "tmp", folder / "ready"
        self.counts = SpoolCounts()
        try:
            for part in (self._tmp, self._ready, folder / "torn", folder / "refused"):
                part.mkdir(parents=True, exist_ok=True)
            self._file_lock = FileLock(folder / "lock", thread_local=False)
            self._file_lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigurationError(
                f"the spool {folder} is in use by another gateway; give each its own with --spool or spool.dir"
            ) from error
        except OSError as error:
            raise ConfigurationError(f"the spool {folder} cannot be written: {error.strerror}") from error
        self.clock = clock or SteadyClock(StateFile(folder / "clock.json"), most_away_s=_MOST_AWAY_S)
        self._torn = Aside(folder / "torn", int(limit_bytes * _ASIDE_SHARE))
        self._refused = Aside(folder / "refused", int(limit_bytes * _ASIDE_SHARE))
        self._changed = threading.Condition()
        self._serial = self._turn = 0
        self._room = Room(self.counts, limit_bytes)
        self._eraser = Eraser()
        self._tidied_s = 0.0
        self._unread: set[str] = set()
        self._failures: dict[str, int] = {}
        self._resting: list[tuple[float, Rank]] = []
        self._sizes: dict[str, int] = {}  # oldest first
        self._bytes = 0
        self._waiting = Waiting(self._found())
        self.tidy()

    def close(self) -> None:
        """Lets another gateway have the folder. Entries stay."""
        self.clock.close()
        self._file_lock.release()

    @property
    def waiting(self) -> int:
        """Entries not delivered yet, claimed ones included."""
        return len(self._sizes)

    @property
    def waiting_bytes(self) -> int:
        return self._bytes

    @property
    def oldest_s(self) -> float:
        """Seconds since the oldest of what waits was taken; 0 when nothing waits."""
        with self._changed:
            rank = named_rank(next(iter(self._sizes), ""))
        return max(0, self.clock.now_ns() - rank.stamp_ns) / 1e9 if rank else 0.0

    @property
    def full(self) -> bool:
        """Whether somebody waits for room: the last `put` of its kind found none."""
        return self._room.full

    def held(self, gate: Gate) -> int:
        """How many entries `gate` holds back."""
        with self._changed:
            return self._waiting.held(gate)

    def put(self, item: SpoolItem, *, make_room: bool = False) -> bool:
        """Takes an item: on return it is on the disk, and will be delivered.

        Args:
            make_room: at the bound, the least valuable of what waits and this one gives way: for a live camera, whose
                next frames do not wait. Without it nothing gives way: for a recording, which loses nothing by waiting.

        Returns:
            False when this one was the least valuable, and was dropped.

        Raises:
            StoreFull: the bound is reached or the disk is full. Nothing was taken; try again later.
            StoreUnavailable: the disk cannot be written for another reason. Nothing was taken.
        """
        raw = encode_item(item)
        with self._changed:
            self._serial += 1
            rank = file_rank(item, self.clock.now_ns(), self._serial)
            yielding = self._yielding(rank, len(raw), make_room)
            if yielding is None:
                return False
            self._write(rank.name, raw)
            # Only now: had the disk been full, they would have gone for nothing.
            for other in yielding:
                self._waiting.remove(other)
                self._erase(other, "bound")
            self._room.found(self._bytes, waited=not make_room, dropped=bool(yielding))
            self._sizes[rank.name] = len(raw)
            self._bytes += len(raw)
            self._waiting.add(rank)
            self.counts.taken += 1
            self._changed.notify()
        self.tidy()
        return True

    def take(self, timeout_s: float, gate: Gate = OPEN, probe: bool = False) -> SpoolEntry | None:
        """Claims the entry that is to go next; None when there was none within the time.

        Of eight claims four go to what was taken within the last minute, newest of the best class first, so that
        nobody at the door waits for yesterday; three to the most valuable; one to the oldest, so that everything goes
        some day. Who has none leaves it to the others. A probe (of a store that refuses what it is given) is any one,
        so that it is found out when others are taken.

        Damaged ones are set aside. One that cannot be read now, such as for want of file handles, is not damaged: it
        waits, and the rest of the time is waited out.
        """
        self.tidy()
        deadline = time.monotonic() + timeout_s
        while (rank := self._claim(deadline, gate, probe)) is not None:
            path = self._ready / rank.name
            try:
                raw = path.read_bytes()
                entry = SpoolEntry(path, len(raw), decode_item(raw), rank, self._failures.get(rank.name, 0))
            except IntegrityError:
                self._torn_apart(path)
                self._forget(rank.name)
            except FileNotFoundError:
                self._forget(rank.name)
                logger.error("an entry was gone", extra={"action": "spool_gone", "entry": rank.name})
            except (OSError, MemoryError) as error:
                self._put_back(rank, error)
                time.sleep(max(0.0, deadline - time.monotonic()))
                return None
            else:
                with self._changed:
                    self._unread.discard(rank.name)
                return entry
        return None

    def done(self, entry: SpoolEntry) -> None:
        """The store has acknowledged it: deletes it. On a disk that lets nothing be deleted it is forgotten alone."""
        self._eraser.erase(entry.path)
        with self._changed:
            self.counts.delivered += 1
            self._forget(entry.path.name)

    def give_back(self, entry: SpoolEntry, rest_s: float = 0.0) -> None:
        """Not delivered now: it waits again, and is not claimed before it has rested."""
        with self._changed:
            if rest_s > 0:
                self._failures[entry.path.name] = entry.failures + 1
                heapq.heappush(self._resting, (time.monotonic() + rest_s, entry.rank))
            else:
                self._waiting.add(entry.rank)
            self._changed.notify()

    def refuse(self, entry: SpoolEntry, reason: str) -> None:
        """The store will never have it: keeps it in `refused/`, with the reason in a file beside it."""
        gone = self._refused.take(entry.path, reason)
        with self._changed:
            self.counts.refused += 1
            self.counts.drop("refused", *gone)
            self._forget(entry.path.name)

    def restore(self, entries: Iterable[SpoolEntry]) -> int:
        """Takes refused ones back, if need be above the bound: they wait again. Returns how many those are."""
        found = [entry for entry in entries if self._refused.restore(entry.path)]
        with self._changed:
            for entry in found:
                self.counts.refused -= 1
                self._sizes[entry.path.name] = entry.size_bytes
                self._bytes += entry.size_bytes
                self._waiting.add(entry.rank)
            self._sizes = dict(sorted(self._sizes.items()))
            self._changed.notify_all()
        return len(found)

    def wait_empty(self, timeout_s: float) -> bool:
        """Waits until everything was delivered, refused or dropped; False when the time is over before."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._sizes, timeout_s)

    def tidy(self) -> None:
        """Erases what is too old, and remembers the time. To be called often; does something twice a minute."""
        with self._changed:
            if time.monotonic() - self._tidied_s < _TIDY_S and self._tidied_s:
                return
            self._tidied_s = time.monotonic()
            self.clock.keep()
            if not self._max_age_ns:
                return
            before_ns = self.clock.now_ns() - self._max_age_ns
            expired = 0
            while expired < _EXPIRED_AT_ONCE and (rank := self._waiting.oldest()) and rank.stamp_ns < before_ns:
                self._waiting.remove(rank)
                self._erase(rank, "age")
                expired += 1
            if expired == _EXPIRED_AT_ONCE:
                self._tidied_s = 0.0  # there may be more: soon again, so that nobody waits for the lock meanwhile
        for aside in (self._torn, self._refused):
            gone = aside.expire(before_ns)
            expired += gone.crops
            with self._changed:
                self.counts.drop("age", *gone)
        if expired:
            logger.error(
                "%d crops waited for longer than they may, and were erased", expired, extra={"action": "spool_expired"}
            )

    def _found(self) -> list[Rank]:
        """What an earlier run left."""
        for path in self._tmp.iterdir():
            self._torn_apart(path)
        ranks = []
        with os.scandir(self._ready) as found:
            for file in sorted(found, key=lambda file: file.name):
                rank = named_rank(file.name)
                if rank is None:
                    self._torn_apart(Path(file.path))
                    continue
                ranks.append(rank)
                # From here on: the clock may stand where it stood before, and no name may come twice.
                self._serial = max(self._serial, int(rank.name.split("-")[1].removesuffix(".crop")))
                self._sizes[rank.name] = file.stat().st_size
        self._bytes = sum(self._sizes.values())
        return ranks

    def _yielding(self, new: Rank, size_bytes: int, make_room: bool) -> list[Rank] | None:
        """What gives way to `new`; None when that is itself the least valuable."""
        missing = self._bytes + size_bytes - self.limit_bytes
        if missing <= 0:
            return []
        if not make_room:
            self._room.none("its bound is reached")
            raise StoreFull("the spool has no room: its bound is reached")
        self._room.dropping()
        yielding: list[Rank] = []
        for rank in self._waiting.least():
            if rank > new:
                break
            yielding.append(rank)
            missing -= self._sizes[rank.name]
            if missing <= 0:
                return yielding
        self.counts.drop("new", 1, size_bytes)
        return None

    def _write(self, name: str, raw: bytes) -> None:
        try:
            write_durably(self._tmp / name, self._ready / name, raw)
        except OSError as error:
            self._room.none(error.strerror or "unknown error", disk=True)
            if error.errno in _NO_ROOM:
                raise StoreFull(f"the spool has no room: {error.strerror}") from error
            raise StoreUnavailable(f"the spool cannot be written: {error.strerror}") from error

    def _claim(self, deadline: float, gate: Gate, probe: bool) -> Rank | None:
        with self._changed:
            while True:
                now = time.monotonic()
                while self._resting and self._resting[0][0] <= now:
                    self._waiting.add(heapq.heappop(self._resting)[1])
                rank = self._waiting.any(gate) if probe else self._next(gate)
                if rank is not None:
                    self._turn += 1
                    self._waiting.remove(rank)
                    return rank
                if now >= deadline:
                    return None
                rested = self._resting[0][0] if self._resting else deadline
                self._changed.wait(min(deadline, rested) - now)

    def _next(self, gate: Gate) -> Rank | None:
        turn = self._turn % _TURNS
        if turn == _TURNS - 1:
            return self._waiting.oldest(gate)
        fresh = self._waiting.newest(gate, self.clock.now_ns() - _FRESH_NS) if turn % 2 == 0 else None
        return fresh or self._waiting.best(gate)

    def _erase(self, rank: Rank, reason: Reason) -> None:
        """Off the disk: it is given up."""
        self.counts.drop(reason, 1, self._sizes.get(rank.name, 0))
        self._eraser.erase(self._ready / rank.name)
        self._forget(rank.name)

    def _forget(self, name: str) -> None:
        with self._changed:
            self._bytes -= self._sizes.pop(name, 0)
            self._unread.discard(name)
            self._failures.pop(name, None)
            self._changed.notify_all()

    def _put_back(self, rank: Rank, error: Exception) -> None:
        """It waits on. Says so once, until everything can be read again."""
        with self._changed:
            first = not self._unread
            self._unread.add(rank.name)
            heapq.heappush(self._resting, (time.monotonic(), rank))
        if first:
            reason = getattr(error, "strerror", None) or type(error).__name__
            logger.error("the spool cannot be read: %s; going on when it can", reason, extra={"action": "spool_unread"})

    def _torn_apart(self, path: Path) -> None:
        gone = self._torn.take(path)
        with self._changed:
            self.counts.torn += 1
            self.counts.drop("torn", *gone)
