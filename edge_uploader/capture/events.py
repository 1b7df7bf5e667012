"""What happens to a camera, as a bounded record: each trouble at its beginning and at its end, once, with the time."""

from __future__ import annotations

import logging
import threading
from collections import Counter, deque
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from shared import telemetry
from shared.domain import format_time, utc_now
from shared.ports import Clock

logger = logging.getLogger(__name__)

MAX_EVENTS: Final = 100

LOST: Final = "lost"
FAILING: Final = "failing"
CLOCK_JUMPED: Final = "clock_jumped"
CLOCK_WRONG: Final = "clock_wrong"

BEGIN, END, ONCE = "begin", "end", "once"


@dataclass(frozen=True, slots=True)
class CameraEvent:
    """Something that happened to a camera.

    Attributes:
        at: when it was reported, UTC.
        kind: `lost` (the stream), `failing` (the work on its frames), `frozen`, `black`, `blinded`, `covered`, `moved`
            (the picture), `clock_jumped`, `clock_wrong` (the gateway's clock).
        phase: `begin`, `end`, or `once` for what has no length.
        detail: for people; never an address with its password.
    """

    at: datetime
    kind: str
    phase: str
    detail: str = ""

    def to_json(self) -> dict[str, str]:
        return {"at": format_time(self.at), "kind": self.kind, "phase": self.phase, "detail": self.detail}


class EventLog:
    """The newest events of one camera, and how often each kind has begun. Safe between threads.

    Args:
        clock: of the gateway.
        limit: so many events are kept, the newest.
    """

    def __init__(self, clock: Clock = utc_now, *, limit: int = MAX_EVENTS) -> None:
        self._clock = clock
        self._events: deque[CameraEvent] = deque(maxlen=limit)
        self._begun: Counter[str] = Counter()
        self._open: set[str] = set()
        self._guard = threading.Lock()
        self._camera = ""
        self._labels: Mapping[str, str] | None = None

    def attach(self, camera: str, labels: Mapping[str, str]) -> None:
        """Says whose events these are, for the log and the metrics."""
        self._camera, self._labels = camera, labels

    def begin(self, kind: str, detail: str = "") -> bool:
        """A trouble begins; False, and nothing more, when it has begun already."""
        with self._guard:
            if kind in self._open:
                return False
            self._open.add(kind)
            self._add(kind, BEGIN, detail)
            return True

    def end(self, kind: str, detail: str = "") -> bool:
        """It is over; False, and nothing more, when it had not begun."""
        with self._guard:
            if kind not in self._open:
                return False
            self._open.discard(kind)
            self._add(kind, END, detail)
            return True

    def once(self, kind: str, detail: str = "") -> None:
        """Something without a length happened."""
        with self._guard:
            self._add(kind, ONCE, detail)

    @property
    def begun(self) -> dict[str, int]:
        """How often each kind has begun, or happened, since the start."""
        with self._guard:
            return dict(self._begun)

    def newest(self) -> list[CameraEvent]:
        """The newest events, the newest last."""
        with self._guard:
            return list(self._events)

    def to_json(self) -> list[dict[str, Any]]:
        return [event.to_json() for event in self.newest()]

    def _add(self, kind: str, phase: str, detail: str) -> None:
        self._events.append(CameraEvent(self._clock(), kind, phase, detail))
        told = f": {detail}" if detail else ""
        extra = {"action": "camera_event", "camera": self._camera, "kind": kind, "phase": phase}
        level = logging.INFO if phase == END else logging.WARNING
        camera = f"{self._camera}: " if self._camera else ""
        logger.log(level, "%s%s%s%s", camera, kind, ", over" if phase == END else "", told, extra=extra)
        if phase == END:
            return
        self._begun[kind] += 1
        if self._labels is not None:
            telemetry.EDGE_EVENTS.add({**self._labels, "kind": kind})


class ClockWatch:
    """Finds out when the gateway's clock is set by hand, or has never been set.

    Crops carry the gateway's time: a camera's own clock is never asked, since it is wrong as often as not.

    Args:
        tolerance_s: NTP moves a clock slowly, by less than this between two looks.
        earliest: a clock before it has not been set (a machine without a battery begins in 1970).
    """

    def __init__(self, events: EventLog, *, earliest: datetime, tolerance_s: float = 2.0) -> None:
        self._events, self._earliest, self._tolerance_s = events, earliest, tolerance_s
        self._offset: datetime | None = None

    def look(self, now: datetime, monotonic_s: float) -> None:
        """Compares the clock on the wall with one that nobody sets."""
        offset = now - timedelta(seconds=monotonic_s)
        if self._offset is not None:
            jump_s = (offset - self._offset).total_seconds()
            if abs(jump_s) > self._tolerance_s:
                self._events.once(CLOCK_JUMPED, f"the gateway's clock was set {_signed(jump_s)}")
        self._offset = offset
        if now < self._earliest:
            self._events.begin(CLOCK_WRONG, f"the gateway's clock says {format_time(now)}")
        else:
            self._events.end(CLOCK_WRONG)


def _signed(seconds: float) -> str:
    return f"{abs(seconds):.1f} s {'forward' if seconds > 0 else 'back'}"
