"""When a live camera's work is begun anew after an unexpected error, and when that is hopeless."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from edge_uploader.capture.events import FAILING, EventLog
from edge_uploader.capture.streams import backoff_s

logger = logging.getLogger(__name__)

_LONGEST_S = 30.0


class Restarts:
    """The failures of one camera's work: one trouble, from the first until a good spell makes up for all.

    Args:
        most: so many failures without a good spell between them, and there is no hope.
        good_s: length of a good spell.
        now_s: monotonic clock.

    Attributes:
        trouble: what went wrong last; None once that is made up for.
    """

    def __init__(
        self,
        camera: str,
        events: EventLog,
        *,
        most: int = 5,
        good_s: float = 60.0,
        now_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.trouble: str | None = None
        self._camera, self._events = camera, events
        self._most, self._good_s, self._now_s = most, good_s, now_s
        self._failures = 0
        self._good_since_s: float | None = None

    def failed(self, error: Exception) -> float | None:
        """The work failed: how long to wait before it is begun anew; None when there is no hope."""
        self._failures += 1
        self._good_since_s = None
        if self._failures >= self._most:
            return None
        # Steps of four: some of what is missing, such as memory, is there again after seconds.
        wait_s = backoff_s(2 * self._failures, _LONGEST_S, random.random())  # noqa: S311 (not a secret)
        extra = {"action": "camera_restarted", "camera": self._camera}
        logger.error("camera failed; it goes on in %.1f s", wait_s, exc_info=error, extra=extra)
        self.trouble = f"unexpected {type(error).__name__}, see the log; it was started again"
        self._events.begin(FAILING, self.trouble)
        return wait_s

    def worked(self) -> None:
        """A frame was worked on."""
        if not self._failures:
            return
        now_s = self._now_s()
        if self._good_since_s is None:
            self._good_since_s = now_s
        if now_s - self._good_since_s >= self._good_s:
            self._failures, self.trouble = 0, None
            self._events.end(FAILING)
