"""Whether the gateway makes progress. What stands still for a known reason, such as a full spool, is not stuck."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from edge_uploader.stats import CameraStats

_LOOP_S: Final = 15.0
"""The main loop looks four times a second; a disk that is slow to answer may hold it up for a while."""


@dataclass(frozen=True, slots=True)
class CameraLook:
    """One look at a camera.

    Attributes:
        working_s: how long the frame in hand has been worked on.
        alive: whether its thread runs.
        broken: see `camera.Camera.broken`.
    """

    stats: CameraStats
    working_s: float
    alive: bool
    broken: bool = False


@dataclass(frozen=True, slots=True)
class Health:
    """The finding.

    Attributes:
        problems: a line each; empty when all is well.
        stuck: names of cameras that make no progress, and will make none.
    """

    problems: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.problems

    def to_json(self) -> dict[str, Any]:
        return {"ok": self.ok, "problems": list(self.problems), "stuck": list(self.stuck)}


class ProgressWatch:
    """Remembers when each camera last got on. Thread-safe.

    Args:
        stuck_s: longest time that one frame may be worked on.
        waits_s: longest time between two frames, or two attempts to get one, by camera; others: `stuck_s`.
    """

    def __init__(self, stuck_s: float = 60.0, waits_s: Mapping[str, float] | None = None) -> None:
        self._stuck_s, self._waits_s = stuck_s, dict(waits_s or {})
        self._marks: dict[str, tuple[object, float]] = {}
        self._found = Health(("it is starting",))
        self._looked_s: float | None = None
        self._stopping = False
        self._guard = threading.Lock()

    def look(self, now_s: float, cameras: Sequence[CameraLook], *, uploading: bool, no_room: bool) -> Health:
        """One look at everything.

        Args:
            now_s: monotonic.
            uploading: whether anybody is there to send.
            no_room: the spool takes nothing at the moment, so that cameras rightly stand still.
        """
        stuck = {look.stats.camera: why for look in cameras if (why := self._why(now_s, look, no_room))}
        problems = [f"camera {name}: {why}" for name, why in stuck.items()]
        if not uploading:
            problems.append("nobody is sending: the uploader's threads have ended, or hang")
        with self._guard:
            self._looked_s = now_s
            self._found = Health(tuple(problems), tuple(stuck))
        return self._found

    def stopping(self) -> None:
        """From now on nothing is expected of it but that it ends."""
        with self._guard:
            self._stopping, self._found = True, Health()

    def health(self, now_s: float) -> Health:
        """The last finding, unless nobody has looked for a while: then the main loop itself is stuck.

        Before the first look nothing is well yet: whoever has just been updated is not asked too early.
        """
        with self._guard:
            if self._stopping or self._looked_s is None:
                return self._found
            late_s = now_s - self._looked_s
            if late_s > _LOOP_S:
                return Health((f"the main loop has stood still for {late_s:.0f} s",), self._found.stuck)
            return self._found

    def _why(self, now_s: float, look: CameraLook, no_room: bool) -> str:
        stats = look.stats
        if look.broken:
            return f"{stats.error}; restart the gateway"
        if stats.state not in {"running", "waiting"}:
            return ""
        if not look.alive:
            return "its thread has ended"
        mark = stats.frames, stats.frames_grabbed, stats.reconnects, stats.error, sum(stats.images_unreadable.values())
        before, since_s = self._marks.get(stats.camera, (None, now_s))
        if mark != before or no_room:
            self._marks[stats.camera] = mark, now_s
            since_s = now_s
        if no_room:
            return ""
        if look.working_s > self._stuck_s:
            return f"one frame has been worked on for {look.working_s:.0f} s"
        still_s = now_s - since_s
        limit_s = self._waits_s.get(stats.camera, self._stuck_s)
        return f"no frame and no attempt to get one for {still_s:.0f} s" if still_s > limit_s else ""
