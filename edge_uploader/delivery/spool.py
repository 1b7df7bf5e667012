"""Crops on disk, between the camera and the store: nothing that was taken is lost by a crash or a dead network.

An entry is one file: a magic line, the length of a JSON header, the header, the image. Image and metadata are one
unit, so neither can be there without the other. It is written under `tmp/`, brought to the disk, then renamed into
`ready/`; what a crash leaves in `tmp/` was never taken, and is set aside in `torn/`. What the store refuses for good
goes to `refused/`.

    spool/
    ├── lock       held while a gateway runs
    ├── tmp/       being written
    ├── ready/     taken, waits for the store
    ├── torn/      half-written or damaged, kept for a look
    └── refused/   the store will not have it; beside each a .reason
"""

from __future__ import annotations

import errno
import json
import logging
import os
import struct
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from shared.domain import sha256_hex
from shared.errors import ConfigurationError, IntegrityError, StoreFull, StoreUnavailable

logger = logging.getLogger(__name__)

_MAGIC: Final = b"FACERELAY-SPOOL-1\n"
_LENGTH: Final = struct.Struct(">I")
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_ASIDE_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class SpoolItem:
    """What is to be put into the store."""

    name: str
    data: bytes
    metadata: Mapping[str, str]
    tags: Mapping[str, str]
    content_type: str = "image/jpeg"


@dataclass(frozen=True, slots=True)
class SpoolEntry:
    """An item that was claimed for sending; give it to `done`, `give_back` or `refuse`."""

    path: Path
    size_bytes: int
    item: SpoolItem


@dataclass(slots=True)
class SpoolCounts:
    """Since the spool was opened."""

    taken: int = 0
    delivered: int = 0
    refused: int = 0
    torn: int = 0
    times_full: int = 0


def encode_item(item: SpoolItem) -> bytes:
    """One spool file: magic, header length (4 bytes, big-endian), JSON header, data."""
    header = json.dumps(
        {
            "name": item.name,
            "metadata": dict(item.metadata),
            "tags": dict(item.tags),
            "content_type": item.content_type,
            "size_bytes": len(item.data),
            "sha256": sha256_hex(item.data),
        }
    ).encode()
    return _MAGIC + _LENGTH.pack(len(header)) + header + item.data


def decode_item(raw: bytes) -> SpoolItem:
    """The inverse of `encode_item`.

    Raises:
        IntegrityError: cut short, damaged, or not a spool file.
    """
    start = len(_MAGIC) + _LENGTH.size
    if not raw.startswith(_MAGIC) or len(raw) < start:
        raise IntegrityError("not a spool file")
    end = start + _LENGTH.unpack_from(raw, len(_MAGIC))[0]
    try:
        header = json.loads(raw[start:end])
        data = raw[end:]
        if len(data) != header["size_bytes"] or sha256_hex(data) != header["sha256"]:
            raise IntegrityError("spool file cut short or damaged")
        return SpoolItem(header["name"], data, header["metadata"], header["tags"], header["content_type"])
    except (ValueError, KeyError, TypeError) as error:
        raise IntegrityError("spool file with a damaged header") from error


class Spool:
    """The spool of one gateway. Thread-safe.

    Args:
        folder: made when it is not there.
        limit_bytes: `put` refuses when so many bytes wait in `ready/`.

    Raises:
        ConfigurationError: another gateway uses the folder, or it cannot be written.
    """

    def __init__(self, folder: Path, *, limit_bytes: int = 1_000_000_000) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes
        self._tmp, self._ready = folder / "tmp", folder / "ready"
        self._torn, self._refused = folder / "torn", folder / "refused"
        self.counts = SpoolCounts()
        try:
            for part in (self._tmp, self._ready, self._torn, self._refused):
                part.mkdir(parents=True, exist_ok=True)
            self._file_lock = FileLock(folder / "lock", thread_local=False)
            self._file_lock.acquire(timeout=0)
        except Timeout as error:
            raise ConfigurationError(
                f"the spool {folder} is in use by another gateway; give each its own edge_spool_dir"
            ) from error
        except OSError as error:
            raise ConfigurationError(f"the spool {folder} cannot be written: {error.strerror}") from error
        self._changed = threading.Condition()
        self._serial = 0
        self._full = False
        self._unread: set[Path] = set()
        for path in self._tmp.iterdir():
            self._set_aside(path)
        waiting = sorted(self._ready.iterdir())
        self._queue: list[Path] = waiting
        self._sizes = {path: path.stat().st_size for path in waiting}

    def close(self) -> None:
        """Lets another gateway have the folder. Entries stay."""
        self._file_lock.release()

    @property
    def waiting(self) -> int:
        """Entries not delivered yet, claimed ones included."""
        return len(self._sizes)

    @property
    def waiting_bytes(self) -> int:
        return sum(self._sizes.copy().values())

    @property
    def limit_bytes(self) -> int:
        """The bound that it was opened with."""
        return self._limit_bytes

    @property
    def full(self) -> bool:
        """Whether the last `put` found no room."""
        return self._full

    def put(self, item: SpoolItem) -> None:
        """Takes an item: on return it is on the disk, and will be delivered.

        Raises:
            StoreFull: the bound is reached or the disk is full. Nothing was taken; try again later.
            StoreUnavailable: the disk cannot be written for another reason. Nothing was taken.
        """
        raw = encode_item(item)
        with self._changed:
            if sum(self._sizes.values()) + len(raw) > self._limit_bytes:
                self._note_full("its bound is reached")
                raise StoreFull("the spool has no room: its bound is reached")
            self._serial += 1
            name = f"{time.time_ns():020d}-{self._serial:06d}.crop"
            temporary, path = self._tmp / name, self._ready / name
            try:
                _write_durably(temporary, raw)
                temporary.rename(path)
                _sync_folder(self._ready)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                # Renamed but not synced: it may be gone after a power cut, and will be offered again.
                path.unlink(missing_ok=True)
                self._note_full(error.strerror or "unknown error")
                if error.errno in _NO_ROOM:
                    raise StoreFull(f"the spool has no room: {error.strerror}") from error
                raise StoreUnavailable(f"the spool cannot be written: {error.strerror}") from error
            if self._full:
                self._full = False
                logger.info("there is room in the spool again", extra={"action": "spool_room"})
            self._sizes[path] = len(raw)
            self._queue.append(path)
            self.counts.taken += 1
            self._changed.notify()

    def take(self, timeout_s: float) -> SpoolEntry | None:
        """Claims the oldest entry; None when there was none within the time.

        Damaged ones are set aside. One that cannot be read now, such as for want of file handles, is not damaged: it
        goes to the end of the queue, and the rest of the time is waited out.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            with self._changed:
                while not self._queue:
                    left = deadline - time.monotonic()
                    if left <= 0 or not self._changed.wait(left):
                        return None
                path = self._queue.pop(0)
            try:
                raw = path.read_bytes()
                entry = SpoolEntry(path, len(raw), decode_item(raw))
            except IntegrityError:
                with self._changed:
                    self._set_aside(path)
                    self._forget(path)
            except FileNotFoundError:
                self._forget(path)
                logger.error("an entry was gone", extra={"action": "spool_gone", "entry": path.name})
            except (OSError, MemoryError) as error:
                self._put_back(path, error)
                time.sleep(max(0.0, deadline - time.monotonic()))
                return None
            else:
                with self._changed:
                    self._unread.discard(path)
                return entry

    def done(self, entry: SpoolEntry) -> None:
        """The store has acknowledged it: deletes it."""
        entry.path.unlink(missing_ok=True)
        with self._changed:
            self._sizes.pop(entry.path, None)
            self.counts.delivered += 1
            self._changed.notify_all()

    def give_back(self, entry: SpoolEntry) -> None:
        """Not delivered now: it waits at the end of the queue."""
        with self._changed:
            self._queue.append(entry.path)
            self._changed.notify()

    def refuse(self, entry: SpoolEntry, reason: str) -> None:
        """The store will never have it: keeps it in `refused/`, with the reason in a file beside it."""
        target = self._refused / entry.path.name
        entry.path.rename(target)
        with self._changed:
            self._sizes.pop(entry.path, None)
            self.counts.refused += 1
            self._changed.notify_all()
        try:
            target.with_suffix(".reason").write_text(reason + "\n", encoding="utf-8")
        except OSError:
            logger.warning("the reason could not be written", extra={"action": "spool_reason", "entry": target.name})
        self._prune(self._refused)

    def wait_empty(self, timeout_s: float) -> bool:
        """Waits until everything was delivered or refused; False when the time is over before."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._sizes, timeout_s)

    def _forget(self, path: Path) -> None:
        with self._changed:
            self._sizes.pop(path, None)
            self._unread.discard(path)
            self._changed.notify_all()

    def _put_back(self, path: Path, error: Exception) -> None:
        """To the end of the queue. Says so once, until everything can be read again."""
        with self._changed:
            first = not self._unread
            self._unread.add(path)
            self._queue.append(path)
            self._changed.notify()
        if first:
            reason = getattr(error, "strerror", None) or type(error).__name__
            logger.error("the spool cannot be read: %s; going on when it can", reason, extra={"action": "spool_unread"})

    def _note_full(self, reason: str) -> None:
        """Says so once, until there is room again."""
        if not self._full:
            self._full = True
            self.counts.times_full += 1
            logger.error("the spool takes nothing: %s; going on when it can", reason, extra={"action": "spool_full"})

    def _set_aside(self, path: Path) -> None:
        self.counts.torn += 1
        try:
            path.rename(self._torn / path.name)
        except OSError:
            logger.warning("a torn entry could not be set aside", extra={"action": "spool_torn", "entry": path.name})
            return
        logger.warning("a torn entry was set aside", extra={"action": "spool_torn", "entry": path.name})
        self._prune(self._torn)

    def _prune(self, folder: Path) -> None:
        """What is kept for a look must not fill the disk: the oldest go when it is over a tenth of the bound."""
        total = 0
        try:
            for path in sorted((path for path in folder.iterdir() if path.is_file()), reverse=True):
                total += path.stat().st_size
                if total > self._limit_bytes * _ASIDE_SHARE:
                    path.unlink(missing_ok=True)
                    logger.warning("an old entry was dropped", extra={"action": "spool_prune", "entry": path.name})
        except OSError:
            # Another thread prunes too, or the disk does not answer: the next one that is set aside tries again.
            return


def _write_durably(path: Path, raw: bytes) -> None:
    """Writes all of `raw` and brings it to the disk. `os.write` may write less than asked for just before it fails."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        view = memoryview(raw)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(folder: Path) -> None:
    """Brings a rename to the disk; Windows has no such call and does not need it."""
    if os.name == "nt":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
