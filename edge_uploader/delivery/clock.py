"""A clock for ages and budgets that no change of the wall's clock can turn.

Gateways start in 1970, are set by NTP in mid-run, and lose their batteries. While the process runs, this clock goes by
the machine's uptime alone; over a restart it adds how long the gateway was away, which only the wall's clock can tell,
and never less than nothing. A crop's own time (`captured_at`) has nothing to do with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from edge_uploader.delivery.state import StateFile

_KEEP_NS: Final = 60_000_000_000
_STEP_NS: Final = 2_000_000_000
_LATEST_NS: Final = 2**62

NanoClock = Callable[[], int]
"""Nanoseconds since some moment."""


def uptime_ns() -> int:
    """Nanoseconds since this machine started, sleep included where the system can tell."""
    boot: int | None = getattr(time, "CLOCK_BOOTTIME", None)
    return time.monotonic_ns() if boot is None else time.clock_gettime_ns(boot)


class SteadyClock:
    """Nanoseconds that never go back, and forward only as fast as time passes. Thread-safe.

    By default it begins with the wall's time, so that what an earlier version stamped with that still has its age.

    Args:
        file: where it is remembered over restarts; None: nowhere.
        first_ns: where it begins when nothing is remembered; None: at the wall's time.
        most_away_s: longest time away that is believed at a restart; None: any.
        wall_ns: the wall's clock, since 1970.
        passed_ns: a clock that only time turns.
    """

    def __init__(
        self,
        file: StateFile | None,
        *,
        first_ns: int | None = None,
        most_away_s: float | None = None,
        wall_ns: NanoClock = time.time_ns,
        passed_ns: NanoClock = uptime_ns,
    ) -> None:
        self._file, self._wall_ns, self._passed_ns = file, wall_ns, passed_ns
        self._guard = threading.Lock()
        wall = wall_ns()
        saved = file.read() if file else {}
        steady, then = _time(saved.get("steady_ns")), _time(saved.get("wall_ns"))
        most_ns = _LATEST_NS if most_away_s is None else int(most_away_s * 1e9)
        if steady is None or then is None:
            self._base_ns = wall if first_ns is None else first_ns
        else:
            self._base_ns = steady + min(max(0, wall - then), most_ns)
        self._began_ns = passed_ns()
        self._kept_ns, self._offset_ns = self._base_ns, wall - self._base_ns
        self._save()

    def now_ns(self) -> int:
        return self._base_ns + self._passed_ns() - self._began_ns

    def keep(self) -> None:
        """Remembers where it is, once a minute and whenever the wall's clock was set. To be called often."""
        with self._guard:
            now = self.now_ns()
            stepped = abs(self._wall_ns() - now - self._offset_ns) > _STEP_NS
            if stepped or now - self._kept_ns >= _KEEP_NS:
                self._save()

    def close(self) -> None:
        """Remembers where it is."""
        with self._guard:
            self._save()

    def _save(self) -> None:
        now, wall = self.now_ns(), self._wall_ns()
        self._kept_ns, self._offset_ns = now, wall - now
        if self._file is not None:
            self._file.write({"steady_ns": now, "wall_ns": wall})


def _time(value: object) -> int | None:
    return value if isinstance(value, int) and 0 <= value < _LATEST_NS else None
