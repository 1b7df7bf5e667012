"""Whether the spool has room, said and counted once for each spell of having none."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Final

from edge_uploader.delivery.counts import SpoolCounts

logger = logging.getLogger(__name__)

_ROOM_AGAIN: Final = 0.9
_CALM_S: Final = 10.0


class Room:
    """The spells of one spool, whose lock is held by whoever calls.

    At the bound each crop that is delivered lets another in, and one camera may find room where another does not; on a
    full disk likewise. A spell is over when a tenth of the bound is free and the disk has not failed for a while.
    """

    def __init__(self, counts: SpoolCounts, limit_bytes: int, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._counts, self._limit_bytes, self._now_s = counts, limit_bytes, now_s
        self._at_bound = self._disk_full = False
        self._waits = self._drops = False
        self._failed_s: float | None = None

    @property
    def full(self) -> bool:
        """Whether somebody waits for room. What a live camera finds, or makes, at the bound is not what others need."""
        return self._at_bound or self._disk_full

    def none(self, reason: str, *, disk: bool = False) -> None:
        """Nothing was taken."""
        if disk:
            self._disk_full, self._failed_s = True, self._now_s()
        else:
            self._at_bound = True
        first, self._waits = not self._waits, True
        if first:
            self._counts.times_full += not self._drops
            logger.error("the spool takes nothing: %s; going on when it can", reason, extra={"action": "spool_full"})

    def dropping(self) -> None:
        """At the bound something gives way."""
        first, self._drops = not self._drops, True
        if first:
            self._counts.times_full += not self._waits
            logger.error("the spool's bound is reached; what is worth least is dropped", extra={"action": "spool_drop"})

    def found(self, waiting_bytes: int, *, waited: bool, dropped: bool) -> None:
        """One was taken.

        Args:
            waiting_bytes: before it.
            waited: it would have waited, had there been no room.
            dropped: others gave way to it.
        """
        free = not dropped and waiting_bytes < _ROOM_AGAIN * self._limit_bytes
        self._disk_full = False
        self._at_bound = self._at_bound and not waited and not free
        if not free or (self._failed_s is not None and self._now_s() - self._failed_s < _CALM_S):
            return
        waits, drops = self._waits, self._drops
        self._waits = self._drops = False
        if waits:
            logger.info("there is room in the spool again", extra={"action": "spool_room"})
        if drops:
            dropped_crops = self._counts.dropped_bound + self._counts.dropped_new
            logger.warning(
                "the spool is below its bound again; %d crops were dropped since the start, %d bytes",
                dropped_crops,
                self._counts.dropped_bytes,
                extra={"action": "spool_dropped", "dropped": dropped_crops},
            )
