"""One patience for all sending threads: a store that is away is asked by one of them, at growing intervals."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

_GROWTH_LIMIT: Final = 30
_LONGEST_ASKED_S: Final = 3_600.0


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential back-off with full jitter (Brooker, "Exponential Backoff And Jitter", 2015).

    Attributes:
        first_s: the first wait is at most this; each further one may be twice as long.
        longest_s: bound of all waits.
    """

    first_s: float = 0.5
    longest_s: float = 30.0

    def limit_s(self, failures: int) -> float:
        """Longest wait after so many failures in a row.

        >>> [Backoff(0.5, 30.0).limit_s(n) for n in (1, 2, 3, 9)]
        [0.5, 1.0, 2.0, 30.0]
        """
        return min(self.longest_s, self.first_s * 2.0 ** min(max(failures - 1, 0), _GROWTH_LIMIT))


class Circuit:
    """Whether an attempt may begin. Thread-safe.

    Closed, everybody may. A failure opens it for a while; then one attempt may try, and the others wait for what comes
    of it. Attempts that were under way together and fail together count once.

    Args:
        now_s: a clock that only time turns.
        spread: between 0 and 1 at random.
    """

    def __init__(self, backoff: Backoff, *, now_s: Callable[[], float], spread: Callable[[], float] = random.random):
        self._backoff, self._now_s, self._spread = backoff, now_s, spread
        self._guard = threading.Lock()
        self._failures = self._round = 0
        self._until_s = 0.0
        self._trying = False

    @property
    def open(self) -> bool:
        """Whether the last attempt failed."""
        return self._failures > 0

    @property
    def wait_s(self) -> float:
        """How long until an attempt may begin."""
        return max(0.0, self._until_s - self._now_s()) if self._failures else 0.0

    def permit(self) -> int | None:
        """Leave for one attempt, to be given to `succeeded`, `failed` or `unused`; None: not now."""
        with self._guard:
            if self._failures:
                if self._trying or self._now_s() < self._until_s:
                    return None
                self._trying = True
            return self._round

    def valid(self, permit: int) -> bool:
        """Whether the leave still holds: what it was to be used for may have come late, after another's failure."""
        with self._guard:
            return permit == self._round or not self._failures

    def succeeded(self, permit: int) -> None:
        """The store answered, if only to refuse a crop."""
        with self._guard:
            if permit == self._round:
                self._failures, self._trying = 0, False
                self._round += 1

    def failed(self, permit: int, asked_s: float | None = None) -> bool:
        """The store did not take it.

        Args:
            asked_s: how long it wants to be left alone (`Retry-After`).

        Returns:
            Whether this was news: False for one of several that failed together.
        """
        with self._guard:
            if permit != self._round and asked_s is None:
                return False
            news = permit == self._round
            if news:
                self._failures += 1
                self._round += 1
                self._trying = False
            wait_s = self._spread() * self._backoff.limit_s(self._failures)
            if asked_s is not None:
                # At least as long as it asks for; the spread lies behind that, so that not all come back together.
                wait_s += min(max(asked_s, 0.0), _LONGEST_ASKED_S)
            until_s = self._now_s() + wait_s
            self._until_s = until_s if news else max(self._until_s, until_s)
            return news

    def unused(self, permit: int) -> None:
        """No attempt was made."""
        with self._guard:
            if permit == self._round:
                self._trying = False
