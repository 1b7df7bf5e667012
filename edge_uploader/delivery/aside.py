"""Crops that cannot be sent, kept for a look: `torn/` and `refused/`."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from edge_uploader.delivery.entries import named_rank

logger = logging.getLogger(__name__)


class Gone(NamedTuple):
    """Crops that were erased."""

    crops: int = 0
    size_bytes: int = 0


_NOTHING: Final = Gone()


class Aside:
    """A folder that keeps the newest of what is moved there. Thread-safe.

    Args:
        folder: of its own.
        limit_bytes: what is kept for a look must not fill the disk: the oldest go.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes
        self._guard = threading.Lock()

    def take(self, path: Path, reason: str | None = None) -> Gone:
        """Moves an entry here, with the reason in a file beside it. What cannot be moved stays where it is.

        Returns:
            What had to go for it.
        """
        extra = {"action": f"spool_{self._folder.name}", "entry": path.name}
        target = self._folder / path.name
        with self._guard:
            try:
                path.rename(target)
            except OSError:
                logger.warning("an entry could not be set aside", extra=extra)
                return _NOTHING
            if reason is None:
                logger.warning("a torn entry was set aside", extra=extra)
            else:
                try:
                    target.with_suffix(".reason").write_text(reason + "\n", encoding="utf-8")
                except OSError:
                    logger.warning("the reason could not be written", extra=extra)
            return self._prune()

    def restore(self, path: Path) -> bool:
        """Moves an entry back to where it was, unless it never left; False when it is not there then."""
        target = self._folder / path.name
        with self._guard:
            with suppress(OSError):
                target.rename(path)
                target.with_suffix(".reason").unlink(missing_ok=True)
            return path.exists()

    def expire(self, before_ns: int) -> Gone:
        """Erases what was taken before then."""
        gone = _NOTHING
        with self._guard:
            try:
                for path in self._folder.iterdir():
                    rank = named_rank(path.name)
                    if rank is not None and rank.stamp_ns < before_ns:
                        gone = _erase(path, gone)
            except OSError:
                logger.warning("old entries cannot be erased", extra={"action": "spool_expire"})
        return gone

    def _prune(self) -> Gone:
        total, gone = 0, _NOTHING
        try:
            for path in sorted((path for path in self._folder.iterdir() if path.is_file()), reverse=True):
                total += path.stat().st_size
                if total > self._limit_bytes:
                    gone = _erase(path, gone)
                    logger.warning("an old entry was dropped", extra={"action": "spool_prune", "entry": path.name})
        except OSError:
            # The disk does not answer: the next one that is set aside tries again.
            pass
        return gone


def _erase(path: Path, gone: Gone) -> Gone:
    size_bytes = path.stat().st_size
    path.unlink()
    return Gone(gone.crops + 1, gone.size_bytes + size_bytes) if path.suffix == ".crop" else gone
