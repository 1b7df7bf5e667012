"""The newest annotated picture of a camera, made only while somebody looks, and never kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from edge_uploader.annotate import draw_tracks
from edge_uploader.camera import Observer
from edge_uploader.capture.sources import Frame
from edge_uploader.selection.crops import Crop, Encoder
from edge_uploader.selection.tracker import Track

LONG_SIDE_PX: Final = 960
_EVERY_S: Final = 0.5
_WATCHED_S: Final = 3.0
_SENT_SHOWN_S: Final = 1.5
_JPEG_QUALITY: Final = 70
_MOST_SENT: Final = 256


class LivePicture:
    """An observer for the live page. `frame` and `crop` are the camera's thread's, `look` everybody's.

    Args:
        encode: to JPEG.
        now_s: monotonic clock.
    """

    def __init__(self, encode: Encoder, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._encode, self._now_s = encode, now_s
        self._guard = threading.Lock()
        self._watched_until_s = float("-inf")
        self._made_s = float("-inf")
        self._jpeg: bytes | None = None
        self._sent: dict[str, float] = {}

    def look(self) -> tuple[bytes, float] | None:
        """The newest picture as JPEG, and its age in seconds; None when there is none yet.

        The first look finds none: it asks for one to be made.
        """
        now_s = self._now_s()
        with self._guard:
            watched, self._watched_until_s = self._watched_until_s >= now_s, now_s + _WATCHED_S
            if not watched:
                self._jpeg = None  # from the last time that somebody looked
            return None if self._jpeg is None else (self._jpeg, now_s - self._made_s)

    def frame(self, frame: Frame, tracks: list[Track]) -> None:
        """Draws the frame when somebody looks, at most twice a second."""
        now_s = self._now_s()
        with self._guard:
            if self._watched_until_s < now_s:
                self._jpeg = None
                return
            if now_s - self._made_s < _EVERY_S:
                return
        self._sent = {track: at_s for track, at_s in self._sent.items() if now_s - at_s < _SENT_SHOWN_S}
        scale = min(1.0, LONG_SIDE_PX / max(frame.image.shape[:2]))
        jpeg = self._encode(draw_tracks(frame.image, tracks, set(self._sent), scale=scale), _JPEG_QUALITY)
        with self._guard:
            self._jpeg, self._made_s = jpeg, now_s

    def crop(self, track: str, crop: Crop) -> None:
        """Remembers for a moment that something of this track was sent, so that it can be seen."""
        if len(self._sent) < _MOST_SENT:
            self._sent[track] = self._now_s()

    def close(self) -> None:
        """Forgets the picture."""
        with self._guard:
            self._jpeg = None


class Observers:
    """Several that look on at one camera."""

    def __init__(self, observers: Sequence[Observer]) -> None:
        self._observers = tuple(observers)

    def frame(self, frame: Frame, tracks: list[Track]) -> None:
        for observer in self._observers:
            observer.frame(frame, tracks)

    def crop(self, track: str, crop: Crop) -> None:
        for observer in self._observers:
            observer.crop(track, crop)

    def close(self) -> None:
        for observer in self._observers:
            observer.close()
