"""Telling the present from the past that a recorder delivers faster than it happened, to catch up after a stall."""

from __future__ import annotations

from collections import deque
from typing import Final

_WINDOW: Final = 8
_FAST: Final = 1.5
_BEHIND_S: Final = 1.0
_CAUGHT_UP_S: Final = 0.25


class Timeline:
    """Compares a stream's own times with the times of arrival.

    A stream's times say how far two frames are apart and nothing of when they were taken: cameras' clocks are wrong.
    The frame that came soonest after its own time is taken for the present; others are behind by what they came later.
    A frame is late when it is more than a second behind *and* frames come much faster than they were taken: a backlog.
    A stream that is behind at its normal pace stays so, and is the only present there is; one whose times are wrong,
    and run slower than the clock, is never fast.
    """

    def __init__(self) -> None:
        self._soonest_s: float | None = None
        self._recent: deque[tuple[float, float]] = deque(maxlen=_WINDOW)
        self._catching_up = False

    def is_late(self, stream_s: float, arrived_s: float) -> bool:
        """Whether the next frame shows the past.

        Args:
            stream_s: the frame's time by the stream.
            arrived_s: when it came, by a monotonic clock.
        """
        if self._recent and not self._recent[-1][0] < stream_s < self._recent[-1][0] + 3600.0:
            # Times that stand still, go back or leap: no times, or a new count of them.
            self._recent.clear()
            self._soonest_s, self._catching_up = None, False
        elif self._recent and arrived_s - self._recent[-1][1] > _BEHIND_S:
            # A stall says nothing of the pace of what follows it.
            self._recent.clear()
        self._recent.append((stream_s, arrived_s))
        delay_s = arrived_s - stream_s
        if self._soonest_s is None or delay_s < self._soonest_s:
            self._soonest_s = delay_s
        behind_s = delay_s - self._soonest_s
        fast = self._pace() > _FAST
        if self._catching_up:
            self._catching_up = fast and behind_s > _CAUGHT_UP_S
        else:
            self._catching_up = fast and behind_s > _BEHIND_S
        if behind_s > _BEHIND_S and self._steady():
            # Behind, and not catching up: this is the stream's present from now on.
            self._soonest_s = delay_s
        return self._catching_up

    def _pace(self) -> float:
        """Stream time for each second of arrival, over the last three frames."""
        if len(self._recent) < 3:  # noqa: PLR2004
            return 0.0
        (stream_s, arrived_s), (last_stream_s, last_arrived_s) = self._recent[-3], self._recent[-1]
        return (last_stream_s - stream_s) / max(last_arrived_s - arrived_s, 1e-6)

    def _steady(self) -> bool:
        """Whether the whole window came at about the pace at which it was taken."""
        if len(self._recent) < _WINDOW:
            return False
        (stream_s, arrived_s), (last_stream_s, last_arrived_s) = self._recent[0], self._recent[-1]
        return last_stream_s - stream_s < 1.1 * (last_arrived_s - arrived_s)
