"""Which source a camera's address means."""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path

from edge_uploader.capture.sources import IMAGE_SUFFIXES, FrameSampler, ImageFolder, ImageReader, Source, VideoFile
from edge_uploader.capture.streams import LiveSource, StreamOptions
from edge_uploader.settings import EdgeSettings
from shared.domain import UInt8Array, utc_now
from shared.errors import ConfigurationError
from shared.ports import Clock

_IMAGE_MAX_BYTES = 50_000_000
_IMAGE_MAX_PIXELS = 100_000_000


def is_live(text: str) -> bool:
    """Whether a source shows the present, and does not wait: a stream or a webcam."""
    return text.isdigit() or "://" in text


def open_source(
    text: str,
    settings: EdgeSettings,
    *,
    loop: bool = False,
    start: datetime | None = None,
    clock: Clock = utc_now,
    read_image: ImageReader | None = None,
) -> Source:
    """The source that `text` names: digits are a webcam, `…://…` a stream, a folder images, else a video file.

    Raises:
        ConfigurationError: a stream's address that is none.
    """
    sampler = FrameSampler(settings.edge_fps, settings.edge_skip_frames)
    if is_live(text):
        options = StreamOptions(
            settings.edge_stream_timeout_s, settings.edge_stream_backoff_max_s, settings.edge_stream_give_up_s
        )
        return LiveSource(int(text) if text.isdigit() else text, sampler, options, clock=clock)
    if re.match("(rtsps?|https?):", text, re.IGNORECASE):
        # Not a file of that name: its name would be shown, with the password in it.
        raise ConfigurationError("a stream's address begins with rtsp:// or http://, with both slashes")
    path = Path(text).expanduser()
    if path.is_dir() or path.suffix.lower() in IMAGE_SUFFIXES:
        # Images are looked at one by one: a frame rate has no meaning for them, skipping has.
        sampler = FrameSampler(0.0, settings.edge_skip_frames)
        return ImageFolder(path, sampler, read=read_image or _read_image, start=start)
    return VideoFile(path, sampler, start=start, loop=loop, clock=clock)


def _read_image(path: Path) -> UInt8Array:
    from shared.vision.decode import ImageLimits, decode_image

    return decode_image(path.read_bytes(), ImageLimits(_IMAGE_MAX_BYTES, _IMAGE_MAX_PIXELS, 1))
