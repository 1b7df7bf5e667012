"""What watches over one camera: its picture, and the clock that its crops carry."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Final

from edge_uploader.capture.events import ClockWatch
from edge_uploader.capture.health import OK, HealthOptions, PictureHealth
from edge_uploader.capture.sources import Frame, Source
from shared import telemetry
from shared.domain import utc_now
from shared.ports import Clock

_EARLIEST: Final = datetime(2026, 1, 1, tzinfo=UTC)
"""Before this release was made; a clock that says so was never set."""
UNKNOWN: Final = "unknown"


class CameraWatch:
    """Reports, as events of the source, when its picture or the gateway's clock goes wrong, and when it is right again.

    Args:
        health: None to leave the picture alone.
        labels: of the camera's metrics.
        clock: the gateway's, which crops carry.
        monotonic: seconds of a clock that nobody sets.
    """

    def __init__(
        self,
        camera: str,
        source: Source,
        health: HealthOptions | None,
        labels: Mapping[str, str],
        *,
        clock: Clock = utc_now,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._events, self._labels = source.counts.events, labels
        self._now, self._monotonic = clock, monotonic
        self._events.attach(camera, labels)
        # Unrelated images have no picture that could freeze or move.
        self._health = PictureHealth(health) if health is not None and source.continuous else None
        self._clock = ClockWatch(self._events, earliest=_EARLIEST)
        self._seen = False

    @property
    def picture(self) -> str:
        """`ok`, what is wrong with the picture, or `unknown`."""
        return self._health.state if self._health is not None and self._seen else UNKNOWN

    def look(self, frame: Frame, *, faces: bool = False) -> None:
        """Looks at a frame that is about to be worked on: a few milliseconds, once a second."""
        self._clock.look(self._now(), self._monotonic())
        if self._health is None:
            return
        change = self._health.look(frame.image, frame.position_s, faces=faces)
        if change is not None:
            if change.before != OK:
                self._events.end(change.before, change.detail)
            if change.now != OK:
                self._events.begin(change.now, change.detail)
        if change is not None or not self._seen:
            telemetry.EDGE_PICTURE_OK.set(self._health.state == OK, self._labels)
        self._seen = True
