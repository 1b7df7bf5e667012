"""OpenCV's FFmpeg, as this project wants it: quiet, RTSP over TCP, with time limits that hold.

OpenCV takes FFmpeg's options from the process's environment and nowhere else; what an operator has set there stands.
They are read when a capture is opened, the log level when the first one is.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Final, Protocol

import cv2
from cv2.utils import logging as cv2_logging

from shared.domain import UInt8Array
from shared.vision.pixels import from_bgr

_MOST_BUFFERS: Final = 8
"""Frames of one camera that are worked on or wait for it are fewer."""
_WEBCAM_PX: Final = 1920, 1080
"""What a webcam that speaks JPEG is asked for; it gives the nearest that it has. OpenCV alone asks for 640 × 480."""
_UNUSED: Final = 2
"""References to a buffer that is in its list, and an argument of the function that counts; each view is one more."""


class Capture(Protocol):
    """The part of `cv2.VideoCapture` that is used here."""

    def isOpened(self) -> bool: ...  # OpenCV's name

    def grab(self) -> bool: ...

    def retrieve(self, image: UInt8Array | None = None) -> tuple[bool, UInt8Array]: ...

    def get(self, prop: int) -> float: ...

    def release(self) -> None: ...


class Retriever:
    """Takes the frames that were grabbed out of a capture. For one thread."""

    def __init__(self) -> None:
        self._buffers: list[UInt8Array] = []

    def rgb(self, capture: Capture) -> UInt8Array | None:
        """(H, W, 3) RGB, see `shared.vision.pixels`; None when it cannot be decoded."""
        done, bgr = capture.retrieve(self._spare())
        if not done:
            return None
        if not any(bgr is kept for kept in self._buffers):
            self._buffers = [*self._buffers[1 - _MOST_BUFFERS :], bgr]
        return from_bgr(bgr)

    def _spare(self) -> UInt8Array | None:
        """A buffer of which nobody holds a view any more: to ask the system for 6 MB takes longer than to fill them."""
        for index in range(len(self._buffers)):
            if sys.getrefcount(self._buffers[index]) <= _UNUSED:
                return self._buffers[index]
        return None


def prepare() -> None:
    """Sets what OpenCV reads from the environment, where nobody has, and silences its warnings."""
    # Over UDP a lost packet smears the picture. One value suits every camera of this process.
    os.environ.setdefault("OPENCV_FFMPEG_CAPTURE_OPTIONS", "rtsp_transport;tcp")
    # AV_LOG_QUIET: a packet that cannot be decoded is no line on an operator's screen; what matters is an event.
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
    cv2_logging.setLogLevel(
        cv2_logging.LOG_LEVEL_ERROR
    )  # a stream that does not open is an event, and no warning besides


# The log level is read at the first use of FFmpeg in the process, which may be somebody's VideoWriter.
prepare()


def open_file(path: Path) -> Capture:
    """Opens a video file, turned upright as its metadata says."""
    return cv2.VideoCapture(str(path))  # type: ignore[return-value]


def open_capture(address: str | int, timeout_s: float) -> Capture:
    """Opens a stream with FFmpeg, or a webcam.

    Args:
        timeout_s: of opening, and of a read. OpenCV gives up a webcam's read after 10 s.
    """
    if isinstance(address, int):
        return _webcam(address)
    timeout_ms = int(timeout_s * 1000)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, timeout_ms, cv2.CAP_PROP_READ_TIMEOUT_MSEC, timeout_ms]
    # One decoding thread: more of them hold a frame back each, and cost the same for each frame (docs/adr/0024).
    return cv2.VideoCapture(address, cv2.CAP_FFMPEG, [*limits, cv2.CAP_PROP_N_THREADS, 1])  # type: ignore[return-value]


def _webcam(index: int) -> Capture:
    capture = cv2.VideoCapture(index)
    # The format first, as sizes depend on it: USB 2 carries five large pictures a second as they are, and thirty JPEGs.
    jpeg = cv2.VideoWriter.fourcc(*"MJPG")
    capture.set(cv2.CAP_PROP_FOURCC, jpeg)
    if int(capture.get(cv2.CAP_PROP_FOURCC)) == jpeg:
        capture.set(cv2.CAP_PROP_FRAME_WIDTH, _WEBCAM_PX[0])
        capture.set(cv2.CAP_PROP_FRAME_HEIGHT, _WEBCAM_PX[1])
    return capture  # type: ignore[return-value]
