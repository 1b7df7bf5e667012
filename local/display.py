"""Where annotated frames go: a video file, or a window where there is a screen.

The window is Tk's, from the standard library: OpenCV's own is left out of the headless build, which is what servers and
gateways install.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final, Protocol

import cv2
import numpy as np
from PIL import Image

from shared.domain import UInt8Array
from shared.errors import ConfigurationError, InvalidInput

_LONGEST_GAP_S: Final = 10.0
_SCREEN_SHARE: Final = 0.9
_STEP_S: Final = 0.01


class Sink(Protocol):
    """Takes frames, in order."""

    def show(self, image: UInt8Array, position_s: float) -> bool:
        """Takes an RGB frame (H, W, 3) uint8 of that place in its source. False: enough was seen."""
        ...

    def close(self) -> None: ...


class NoScreen(ConfigurationError):
    """There is no screen, or no Tk, on this machine."""


class VideoSink:
    """Writes an MP4 that is as long as what it shows: frames are repeated or left out to keep the source's time.

    Args:
        fps: of the video, above 0.
    """

    def __init__(self, path: Path, fps: float) -> None:
        self._path, self._fps = path, fps
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._written = 0
        self._first_s = 0.0

    def show(self, image: UInt8Array, position_s: float) -> bool:
        """See `Sink.show`. Raises InvalidInput when the file cannot be written."""
        if self._writer is None:
            self._open(image, position_s)
        if (image.shape[1], image.shape[0]) != self._size:
            image = np.asarray(cv2.resize(image, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        frame = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        due = round((position_s - self._first_s) * self._fps) + 1
        for _ in range(min(due - self._written, round(_LONGEST_GAP_S * self._fps))):
            self._writer.write(frame)  # type: ignore[union-attr]  # opened above
        self._written = max(due, self._written)
        return True

    def _open(self, image: UInt8Array, position_s: float) -> None:
        height, width = image.shape[0] // 2 * 2, image.shape[1] // 2 * 2  # the codec wants even sides
        self._size, self._first_s = (width, height), position_s
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInput(f"{self._path.parent} cannot be made: {error.strerror}") from error
        self._writer = cv2.VideoWriter(str(self._path), cv2.VideoWriter.fourcc(*"mp4v"), self._fps, self._size)
        if not self._writer.isOpened():
            raise InvalidInput(f"{self._path} cannot be written as a video; use a name that ends in .mp4")

    def close(self) -> None:
        if self._writer is not None:
            self._writer.release()


class Window:
    """A window that shows frames; `q`, Escape or its own button end it. Belongs to the thread that made it.

    Args:
        pace: wait until each frame's time has come, for recordings that are worked on faster than they play.

    Raises:
        NoScreen: there is none, or Python was built without Tk.
    """

    def __init__(self, title: str, *, pace: bool = False) -> None:
        try:
            import tkinter

            from PIL import ImageTk

            self._root = tkinter.Tk(className="facerelay")
        except ImportError as error:
            raise NoScreen("this Python has no Tk (Debian: python3-tk)") from error
        except tkinter.TclError as error:
            raise NoScreen("there is no screen here") from error
        self._photo_of = ImageTk.PhotoImage
        self._photo: ImageTk.PhotoImage | None = None
        self._root.title(title)
        self._label = tkinter.Label(self._root, borderwidth=0)
        self._label.pack()
        self._limit = (
            int(self._root.winfo_screenwidth() * _SCREEN_SHARE),
            int(self._root.winfo_screenheight() * _SCREEN_SHARE),
        )
        self._open, self._pace = True, pace
        self._began: float | None = None
        for key in ("q", "Q", "<Escape>"):
            self._root.bind(key, lambda _event: self._end())
        self._root.protocol("WM_DELETE_WINDOW", self._end)

    def _end(self) -> None:
        self._open = False

    def show(self, image: UInt8Array, position_s: float) -> bool:
        """See `Sink.show`."""
        if self._began is None:
            self._began = time.monotonic() - position_s
        picture = Image.fromarray(image)
        picture.thumbnail(self._limit)
        self._photo = self._photo_of(picture, master=self._root)  # Tk keeps no reference of its own
        self._label.configure(image=self._photo)
        self._root.update()
        while self._open and self._pace and time.monotonic() - self._began < position_s:
            time.sleep(_STEP_S)
            self._root.update()
        return self._open

    def close(self) -> None:
        self._photo = None
        self._root.destroy()


def frames_per_second(source: str, target_fps: float, skip_frames: int) -> float:
    """Of the video that shows what was looked at: the target, or what the file has, less the frames skipped."""
    native = 25.0
    if Path(source).is_file():
        capture = cv2.VideoCapture(source)
        found = capture.get(cv2.CAP_PROP_FPS)
        capture.release()
        native = found if 1 <= found <= 240 else native
    if skip_frames:
        return native / (skip_frames + 1)
    return min(target_fps, native) if target_fps > 0 else native
