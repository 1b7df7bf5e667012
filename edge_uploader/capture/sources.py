"""Where frames come from: video files and folders of images here, streams and webcams in `streams`.

A source is read once, by one thread. Frames that the sampler passes over are grabbed and never converted to RGB.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Protocol

import cv2
import numpy as np

from edge_uploader.capture.events import EventLog
from edge_uploader.capture.ffmpeg import Capture, Retriever, open_file
from shared.domain import UInt8Array, require_utc, utc_now
from shared.errors import InvalidImage, InvalidInput
from shared.ports import Clock
from shared.vision.pixels import from_bgr, reduced, rgb_copy

IMAGE_SUFFIXES: Final = frozenset({".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff"})
_EARLY_END_SHARE: Final = 0.02
_EARLY_END_S: Final = 1.0
_REDUCED_PX = 640
_DEFAULT_FPS: Final = 25.0

ImageReader = Callable[[Path], UInt8Array]
"""Image file → RGB (H, W, 3) uint8. Raises InvalidImage or ImageTooLarge with the reason."""


class SourceUnusable(InvalidInput):
    """A camera's source is not there, is not what it should be, or broke off. Concerns this camera alone."""

    code = "source_unusable"


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of a camera.

    Attributes:
        image: RGB (H, W, 3) uint8; of a video a view, see `shared.vision.pixels`.
        captured_at: UTC.
        index: number of the frame in its source, from 0, those passed over included.
        position_s: seconds since the source's beginning, rising.
        reduced: the image with one pixel for `step` × `step`, RGB, 640 px to twice as many on the long side; made
            with the frame, in the thread that reads, since everything that looks at all of a frame wants it small.
        step: 1 where the image is as small as that.
    """

    image: UInt8Array
    captured_at: datetime
    index: int
    position_s: float
    step: int = field(init=False)
    reduced: UInt8Array = field(init=False)

    def __post_init__(self) -> None:
        height, width = self.image.shape[:2]
        step = max(min(max(height, width) // _REDUCED_PX, height, width), 1)
        object.__setattr__(self, "step", step)
        object.__setattr__(self, "reduced", reduced(self.image, step))


@dataclass(frozen=True, slots=True)
class Silence:
    """A live source has brought no frame for a while.

    Attributes:
        position_s: now, as a frame's that came at this moment.
    """

    position_s: float


@dataclass(slots=True)
class SourceCounts:
    """What became of a source's frames.

    Attributes:
        grabbed: frames that the source delivered.
        skipped: passed over on purpose, for the frame rate asked for.
        dropped: of a live source, lost because the detector was busy.
        late: of a live source, from the past: a recorder that caught up after a stall.
        unreadable: images that could not be decoded, by reason.
        reconnects: how often a stream was opened again.
        events: what happened to the source, and to its picture.
    """

    grabbed: int = 0
    skipped: int = 0
    dropped: int = 0
    late: int = 0
    unreadable: Counter[str] = field(default_factory=Counter)
    reconnects: int = 0
    events: EventLog = field(default_factory=EventLog)


class Source(Protocol):
    """An origin of frames.

    Attributes:
        counts: rising while frames are read; safe to look at from another thread.
        continuous: whether successive frames show one scene, so that faces can be tracked.
        problem: what is wrong at the moment, such as a stream that is being opened again; None when nothing is.
    """

    counts: SourceCounts
    continuous: bool
    problem: str | None

    def frames(self) -> Iterator[Frame]:
        """The frames, in order.

        Raises:
            SourceUnusable: it cannot be opened, or broke off; frames before that were delivered.
        """
        ...

    def close(self) -> None:
        """Ends `frames` soon. May be called from another thread."""
        ...


class FrameSampler:
    """Which frames are looked at.

    Args:
        fps: frames looked at per second of the source's time; 0 for all.
        skip_frames: frames passed over after each one looked at; when set, it rules over `fps`.
    """

    def __init__(self, fps: float = 0.0, skip_frames: int = 0) -> None:
        self._interval_s = 1.0 / fps if fps > 0 else 0.0
        self._stride = skip_frames + 1
        self._seen = 0
        self._due_s = float("-inf")

    def wants(self, position_s: float) -> bool:
        """Whether the next frame, at `position_s`, is one of them. Call once for each frame, in order."""
        self._seen += 1
        if self._stride > 1:
            return (self._seen - 1) % self._stride == 0
        # Half a millisecond of tolerance: positions are rounded to the container's time base.
        if position_s < self._due_s - 5e-4:
            return False
        late_s = position_s - self._due_s
        self._due_s = (self._due_s if late_s < self._interval_s else position_s) + self._interval_s
        return True


class VideoFile:
    """A recorded video.

    Args:
        path: anything that OpenCV's FFmpeg reads.
        start: when it was begun. Default: the file's modification time, which is when a recording ends, less its
            length.
        loop: stand in for a live camera: play it again and again, at its own pace, in the clock's time.
        pace: with `loop`, wait until each frame is due; False to go as fast as the reader does.
    """

    continuous = True

    def __init__(
        self,
        path: Path,
        sampler: FrameSampler,
        *,
        start: datetime | None = None,
        loop: bool = False,
        pace: bool = True,
        clock: Clock = utc_now,
    ) -> None:
        self.counts = SourceCounts()
        self.problem: str | None = None
        self._path, self._sampler, self._loop, self._clock = path, sampler, loop, clock
        self._pace = pace and loop
        self._start = require_utc(start) if start else None
        self._closed = threading.Event()
        self._retriever = Retriever()

    def close(self) -> None:
        self._closed.set()

    def frames(self) -> Iterator[Frame]:
        """See `Source.frames`. Raises also when the file ends clearly before the length it claims."""
        offset_s, began = 0.0, time.monotonic()
        while not self._closed.is_set():
            length_s = 0.0
            for frame in self._play(offset_s):
                length_s = frame.position_s - offset_s
                if self._pace:
                    self._wait(frame.position_s - (time.monotonic() - began))
                yield frame
            if not self._loop:
                return
            offset_s += length_s + 1.0 / _DEFAULT_FPS

    def _wait(self, seconds: float) -> None:
        if seconds > 0:
            self._closed.wait(seconds)

    def _play(self, offset_s: float) -> Iterator[Frame]:
        if not self._path.is_file():
            raise SourceUnusable(f"no video file at {self._path}")
        capture = open_file(self._path)
        try:
            fps = capture.get(cv2.CAP_PROP_FPS)
            fps = fps if 0 < fps < 1_000 else _DEFAULT_FPS
            expected = int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) if capture.isOpened() else 0
            if not capture.isOpened() or not capture.grab():
                raise SourceUnusable(
                    f"{self._path} is not a video that can be read (empty, cut short, or another format)"
                )
            start = self._start or self._recorded_from(expected / fps)
            index, position_s = 0, -1.0
            while not self._closed.is_set():
                # Variable frame rates are right this way; where a container has no times, the nominal rate must do.
                stamp_s = capture.get(cv2.CAP_PROP_POS_MSEC) / 1000.0
                position_s = stamp_s if stamp_s > position_s else position_s + 1.0 / fps
                self.counts.grabbed += 1
                frame = self._frame(capture, index, position_s, offset_s, start)
                if frame is not None:
                    yield frame
                index += 1
                if not capture.grab():
                    break
            self._check_complete(index, expected, fps)
        finally:
            capture.release()

    def _frame(self, capture: Capture, index: int, position_s: float, offset_s: float, start: datetime) -> Frame | None:
        if not self._sampler.wants(offset_s + position_s):
            self.counts.skipped += 1
            return None
        image = self._retriever.rgb(capture)
        if image is None:
            self.counts.unreadable["frame that cannot be decoded"] += 1
            return None
        captured_at = start + timedelta(seconds=position_s)
        if self._loop:
            captured_at = self._clock()
        return Frame(image, captured_at, index, offset_s + position_s)

    def _recorded_from(self, length_s: float) -> datetime:
        modified = datetime.fromtimestamp(self._path.stat().st_mtime, UTC)
        return modified - timedelta(seconds=max(length_s, 0.0))

    def _check_complete(self, read: int, expected: int, fps: float) -> None:
        """Raises when clearly fewer frames came than the container promised; the promise is an estimate."""
        tolerance = max(_EARLY_END_SHARE * expected, _EARLY_END_S * fps)
        if not self._closed.is_set() and expected - read > tolerance:
            raise SourceUnusable(f"{self._path} ends early: {read} of {expected} frames could be read")


class ImageFolder:
    """A folder of images (or one image file), in order of name. Each image stands for itself: nothing is tracked.

    Args:
        read: decodes one file, within the project's limits.
        start: time of the first image, the others each a second later. Default: each file's modification time.
    """

    continuous = False

    def __init__(self, path: Path, sampler: FrameSampler, *, read: ImageReader, start: datetime | None = None) -> None:
        self.counts = SourceCounts()
        self.problem: str | None = None
        self._path, self._sampler, self._read = path, sampler, read
        self._start = require_utc(start) if start else None
        self._closed = False

    def close(self) -> None:
        self._closed = True

    def frames(self) -> Iterator[Frame]:
        """See `Source.frames`. What cannot be decoded is counted with its reason and passed over."""
        paths = image_files(self._path)
        if not paths:
            raise SourceUnusable(f"no images in {self._path} (looked for {', '.join(sorted(IMAGE_SUFFIXES))})")
        for index, path in enumerate(paths):
            if self._closed:
                return
            self.counts.grabbed += 1
            if not self._sampler.wants(float(index)):
                self.counts.skipped += 1
                continue
            try:
                image = self._read(path)
                modified = datetime.fromtimestamp(path.stat().st_mtime, UTC)
            except (InvalidInput, OSError) as error:
                reason = error.code if isinstance(error, InvalidInput) else type(error).__name__
                self.counts.unreadable[reason] += 1
                continue
            captured_at = self._start + timedelta(seconds=index) if self._start else modified
            yield Frame(image, captured_at, index, float(index))
        if self.counts.unreadable.total() == self.counts.grabbed - self.counts.skipped:
            raise SourceUnusable(f"none of the {len(paths)} images in {self._path} can be read")


def image_files(path: Path) -> list[Path]:
    """Image files in a folder, in order of name, or the file itself.

    Raises:
        SourceUnusable: nothing is there.
    """
    if path.is_file():
        return [path]
    if not path.is_dir():
        raise SourceUnusable(f"no folder at {path}")
    return sorted(p for p in path.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())


def read_image(path: Path) -> UInt8Array:
    """Decodes with OpenCV, for use where the project's own decoder is not wanted.

    Raises:
        InvalidImage: not an image that can be decoded.
    """
    data = np.frombuffer(path.read_bytes(), dtype=np.uint8)
    bgr = cv2.imdecode(data, cv2.IMREAD_COLOR) if data.size else None
    if bgr is None:
        raise InvalidImage(f"{os.fspath(path)} is not an image that can be decoded")
    return rgb_copy(from_bgr(np.asarray(bgr, dtype=np.uint8)))
