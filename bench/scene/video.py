"""Writing a composed scene: H.264 as a camera sends it where there is an ffmpeg, else OpenCV's MPEG-4."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import cv2

from bench.scene.plan import FPS, HEIGHT_PX, WIDTH_PX
from shared.domain import UInt8Array
from shared.errors import InvalidInput

BITRATE = 4_000_000
"""Bits a second, as the thesis takes for such a camera."""


class VideoWriter(Protocol):
    """Takes BGR frames in order; a context manager that finishes the file."""

    def write(self, frame: UInt8Array) -> None: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_writer(path: Path) -> VideoWriter:
    """The better of the two that this machine has."""
    program = shutil.which("ffmpeg")
    return FfmpegWriter(program, path) if program and _has_x264(program) else OpencvWriter(path)


def _has_x264(program: str) -> bool:
    listed = subprocess.run([program, "-hide_banner", "-encoders"], capture_output=True, text=True, check=False)
    return " libx264 " in listed.stdout


class FfmpegWriter:
    """H.264 at `BITRATE`, a key frame every four seconds, through a pipe.

    Raises:
        InvalidInput: when it is left and ffmpeg has failed, with its last words.
    """

    def __init__(self, program: str, path: Path) -> None:
        self._path = path
        rate = str(BITRATE)
        source = ["-f", "rawvideo", "-pix_fmt", "bgr24", "-s", f"{WIDTH_PX}x{HEIGHT_PX}", "-r", str(FPS), "-i", "-"]
        codec = ["-c:v", "libx264", "-preset", "veryfast", "-tune", "zerolatency", "-pix_fmt", "yuv420p"]
        limits = ["-b:v", rate, "-maxrate", rate, "-bufsize", str(2 * BITRATE), "-g", str(round(4 * FPS))]
        # Threads by number: what is encoded must not depend on the machine's cores.
        command = [program, "-loglevel", "error", "-y", *source, *codec, *limits, "-threads", "2", str(path)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)

    def write(self, frame: UInt8Array) -> None:
        if self._process.stdin is not None:
            self._process.stdin.write(frame.data)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        _, said = self._process.communicate()
        if self._process.returncode and error is None:
            raise InvalidInput(f"{self._path} cannot be written: {said.decode(errors='replace').strip()[-200:]}")


class OpencvWriter:
    """MPEG-4 part 2, at OpenCV's own rate.

    Raises:
        InvalidInput: it cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, (WIDTH_PX, HEIGHT_PX))
        if not self._writer.isOpened():
            raise InvalidInput(f"{path} cannot be written as a video")

    def write(self, frame: UInt8Array) -> None:
        self._writer.write(frame)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._writer.release()
