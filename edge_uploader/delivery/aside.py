"""Crops that cannot be sent, kept for a look: `torn/` and `refused/`."""

from __future__ import annotations

import logging
from pathlib import Path

from edge_uploader.delivery.entries import named_rank

logger = logging.getLogger(__name__)


class Aside:
    """A folder that keeps the newest of what is moved there.

    Args:
        folder: of its own.
        limit_bytes: what is kept for a look must not fill the disk: the oldest go.
    """

    def __init__(self, folder: Path, limit_bytes: int) -> None:
        self._folder, self._limit_bytes = folder, limit_bytes

    def take(self, path: Path, reason: str | None = None) -> None:
        """Moves an entry here, with the reason in a file beside it. What cannot be moved stays where it is."""
        extra = {"action": f"spool_{self._folder.name}", "entry": path.name}
        target = self._folder / path.name
        try:
            path.rename(target)
        except OSError:
            logger.warning("an entry could not be set aside", extra=extra)
            return
        if reason is None:
            logger.warning("a torn entry was set aside", extra=extra)
        else:
            try:
                target.with_suffix(".reason").write_text(reason + "\n", encoding="utf-8")
            except OSError:
                logger.warning("the reason could not be written", extra=extra)
        self._prune()

    def expire(self, before_ns: int) -> int:
        """Erases what was taken before then; returns how many crops that were."""
        gone = 0
        try:
            for path in self._folder.iterdir():
                rank = named_rank(path.name)
                if rank is not None and rank.stamp_ns < before_ns:
                    path.unlink(missing_ok=True)
                    gone += path.suffix == ".crop"
        except OSError:
            logger.warning("old entries cannot be erased", extra={"action": "spool_expire"})
        return gone

    def _prune(self) -> None:
        total = 0
        try:
            for path in sorted((path for path in self._folder.iterdir() if path.is_file()), reverse=True):
                total += path.stat().st_size
                if total > self._limit_bytes:
                    path.unlink(missing_ok=True)
                    logger.warning("an old entry was dropped", extra={"action": "spool_prune", "entry": path.name})
        except OSError:
            # Another thread prunes too, or the disk does not answer: the next one that is set aside tries again.
            return
