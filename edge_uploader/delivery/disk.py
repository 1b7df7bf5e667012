"""Files that are there whole, or not at all, whatever happens; and files that cannot be deleted."""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path

logger = logging.getLogger(__name__)


def write_durably(temporary: Path, path: Path, raw: bytes) -> None:
    """Writes a new file under a temporary name, brings it to the disk, and renames it: on return it stays.

    Raises:
        OSError: nothing was written, and nothing is left of it.
    """
    try:
        _write(temporary, raw)
        temporary.rename(path)
        _sync_folder(path.parent)
    except OSError:
        temporary.unlink(missing_ok=True)
        # Renamed but not synced: it may be gone after a power cut, and will be offered again.
        path.unlink(missing_ok=True)
        raise


def _write(path: Path, raw: bytes) -> None:
    """`os.write` may write less than asked for just before it fails."""
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


class Eraser:
    """Deletes crops that were sent or dropped. Thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._failed = False

    def erase(self, path: Path) -> None:
        """What cannot be deleted is found again at the next start. Says so once, until something can be."""
        reason = None
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            reason = error.strerror or type(error).__name__
        with self._guard:
            first, self._failed = reason is not None and not self._failed, reason is not None
        if first:
            logger.error(
                "crops that were sent or dropped cannot be deleted: %s; what is left is sent again at the next start, "
                "which does no harm",
                reason,
                extra={"action": "spool_erase"},
            )
