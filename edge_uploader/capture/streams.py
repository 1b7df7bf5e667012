"""Live sources: RTSP and HTTP streams, and webcams.

A reading thread takes every frame as it comes and keeps only the newest, so that a slow detector sees the present and
not a growing past. When frames stop coming the stream is opened again, with waits that grow and are spread at random.
"""

from __future__ import annotations

import logging
import random
import threading
import time
import traceback
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass

import cv2

from edge_uploader.capture.address import public_name
from edge_uploader.capture.events import LOST
from edge_uploader.capture.ffmpeg import Capture, Retriever, open_capture
from edge_uploader.capture.sources import Frame, FrameSampler, Silence, SourceCounts, SourceUnusable
from edge_uploader.capture.timeline import Timeline
from shared.domain import utc_now
from shared.ports import Clock

logger = logging.getLogger(__name__)

_FIRST_WAIT_S = 0.5
_STEADY_S = 5.0
_NEAR_S = 600.0
_NEAR_WAIT_S = 5.0
_CLOSE_S = 0.9
_SILENCE_S = 1.0


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """How a stream is kept alive.

    Attributes:
        timeout_s: of opening, and of a read.
        backoff_max_s: longest wait between two attempts; while a camera was there in the last ten minutes, 5 s at most.
        give_up_s: without a frame for so long, it has ended; 0 for never.
    """

    timeout_s: float = 10.0
    backoff_max_s: float = 30.0
    give_up_s: float = 0.0


def backoff_s(attempt: int, longest_s: float, draw: float) -> float:
    """Wait before attempt `attempt` (from 1): doubles from half a second to `longest_s`, times ½ to 1.

    Args:
        draw: random, 0 to 1: cameras that went away together should not be called together.

    >>> backoff_s(3, 30.0, 1.0)
    2.0
    """
    return min(longest_s, _FIRST_WAIT_S * 2.0 ** min(attempt - 1, 16)) * (0.5 + 0.5 * draw)


class LiveSource:
    """A stream or a webcam.

    Args:
        address: `rtsp://…`, `http://…`, or a webcam's index.
        opener: opens the address; another one in tests.
    """

    continuous = True

    def __init__(
        self,
        address: str | int,
        sampler: FrameSampler,
        options: StreamOptions | None = None,
        *,
        clock: Clock = utc_now,
        opener: Callable[[str | int, float], Capture] = open_capture,
    ) -> None:
        self.counts = SourceCounts()
        self.problem: str | None = None
        self._address, self._name, self._sampler = address, public_name(address), sampler
        self._options, self._clock, self._opener = options or StreamOptions(), clock, opener
        # Only RTP says when a frame was taken; over HTTP, FFmpeg makes times up.
        self._timed = isinstance(address, str) and address.lower().startswith("rtsp")
        self._closed = threading.Event()
        self._arrived = threading.Condition()
        self._latest: Frame | None = None
        self._retriever = Retriever()
        self._ended = False
        # Of the reading thread: when the last frame came, attempts since the stream was steady, and whether an
        # unexpected error was logged since then.
        self._last_s, self._attempt, self._logged = 0.0, 0, False

    def close(self) -> None:
        self._closed.set()
        with self._arrived:
            self._arrived.notify_all()

    def frames(self) -> Iterator[Frame]:
        """The newest frame, each time one is asked for. Raises `SourceUnusable` when the stream is given up."""
        with closing(self.moments()) as moments:
            for moment in moments:
                if isinstance(moment, Frame):
                    yield moment

    def moments(self) -> Generator[Frame | Silence, None, None]:
        """As `frames`, and a `Silence` for each second in which none came."""
        began = time.monotonic()
        reader = threading.Thread(target=self._read, args=(began,), name=f"read {self._name}", daemon=True)
        reader.start()
        try:
            while True:
                with self._arrived:
                    self._arrived.wait_for(self._has_news, _SILENCE_S)
                    frame, self._latest = self._latest, None
                    ended = self._ended
                if self._closed.is_set():
                    return
                if frame is None and ended:
                    raise SourceUnusable(f"{self.problem or self._name}; given up")
                yield frame or Silence(time.monotonic() - began)
        finally:
            self.close()
            # A read that hangs is left behind: FFmpeg ends it when its time is up, and the thread releases what it has.
            reader.join(_CLOSE_S)

    def _has_news(self) -> bool:
        return self._latest is not None or self._ended or self._closed.is_set()

    def _read(self, began: float) -> None:
        """The reading thread: keeps the stream open until it is closed or given up."""
        self._last_s = began
        try:
            while not self._closed.is_set():
                try:
                    self._read_once(began)
                except Exception as error:  # noqa: BLE001 (whatever OpenCV throws is this attempt's problem alone)
                    self._failed(error)
                self._attempt += 1
                silent_s = time.monotonic() - self._last_s
                if self._closed.is_set() or 0 < self._options.give_up_s <= silent_s:
                    return
                self._wait(silent_s)
        finally:
            with self._arrived:
                self._ended = True
                self._arrived.notify_all()

    def _wait(self, silent_s: float) -> None:
        """Waits before the next attempt: never for long while the camera was there a short while ago."""
        longest_s = self._options.backoff_max_s
        if silent_s < _NEAR_S:
            longest_s = min(longest_s, _NEAR_WAIT_S)
        self.counts.reconnects += 1
        self._closed.wait(backoff_s(self._attempt, longest_s, random.random()))  # noqa: S311 (not a secret)

    def _lost(self, problem: str) -> None:
        self.problem = problem
        self.counts.events.begin(LOST, f"{problem}; trying again until it answers")

    def _failed(self, error: Exception) -> None:
        """A loss like any other; what it was is logged once, until the stream is steady again."""
        if self._closed.is_set():
            return
        self._lost(f"{self._name}: reading failed, unexpected {type(error).__name__}")
        if not self._logged:
            self._logged = True
            trace = "".join(traceback.format_exception(error))
            if isinstance(self._address, str):
                trace = trace.replace(self._address, self._name)
            logger.error("reading failed\n%s", trace, extra={"action": "stream_error"})

    def _read_once(self, began: float) -> None:
        """Opens the stream and reads until it fails."""
        opened = time.monotonic()
        capture = self._opener(self._address, self._options.timeout_s)
        timeline = Timeline()
        try:
            if not capture.isOpened():
                if not self._closed.is_set():
                    self._lost(f"{self._name} cannot be opened")
                return
            while not self._closed.is_set() and self._grab(capture):
                now_s, before_s = time.monotonic(), self._last_s
                self._last_s = now_s
                if self.problem is not None:
                    self.problem = None
                    self.counts.events.end(LOST, f"answers again after {now_s - before_s:.1f} s")
                # A stream that breaks off right after it was opened must not be called again without a wait.
                if now_s - opened > _STEADY_S:
                    self._attempt, self._logged = 0, False
                self._take(capture, timeline, now_s - began)
            if not self._closed.is_set():
                self._lost(f"{self._name} stopped giving frames")
        finally:
            capture.release()

    def _grab(self, capture: Capture) -> bool:
        """The next frame; False when none came in time.

        OpenCV answers a read that timed out with the frames that the decoder still holds, one for each further timeout.
        """
        asked = time.monotonic()
        return capture.grab() and time.monotonic() - asked < 0.95 * self._options.timeout_s

    def _take(self, capture: Capture, timeline: Timeline, position_s: float) -> None:
        """Decodes a frame that is wanted and puts it where the consumer finds it, over the one it has not taken."""
        index = self.counts.grabbed
        self.counts.grabbed += 1
        if self._timed and timeline.is_late(capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0, position_s):
            self.counts.late += 1
            return
        if not self._sampler.wants(position_s):
            self.counts.skipped += 1
            return
        captured_at = self._clock()
        image = self._retriever.rgb(capture)
        if image is None:
            self.counts.unreadable["frame that cannot be decoded"] += 1
            return
        with self._arrived:
            self.counts.dropped += self._latest is not None
            self._latest = Frame(image, captured_at, index, position_s)
            self._arrived.notify()
