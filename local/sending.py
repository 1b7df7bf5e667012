"""Pictures on their way to the service: asked, or sent for the measuring alone; counted and timed."""

from __future__ import annotations

import statistics
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from typing import Any, Final

from PIL import Image, UnidentifiedImageError

from local.client import Client
from shared.errors import InvalidInput

_KEPT: Final = 100_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What the service says of one picture.

    Attributes:
        faces: as `/face-recognition/get-results` tells them.
        rejected: faces that cannot be recognised, with the `reason`.
        refused: why the picture itself was not taken; None when it was.
        seconds: from the request to the answer.
    """

    faces: Sequence[dict[str, Any]] = ()
    rejected: Sequence[dict[str, Any]] = ()
    refused: str | None = None
    seconds: float = 0.0


@dataclass(slots=True)
class SendStats:
    """Sizes and times of what was sent. Thread-safe; of the times the newest 100,000 are kept.

    Attributes:
        measured: pictures whose pixels were counted; what cannot be opened has none.
    """

    sent: int = 0
    refused: int = 0
    bytes: int = 0
    measured: int = 0
    width_px: int = 0
    height_px: int = 0
    pixels: int = 0
    faces: int = 0
    seconds: deque[float] = field(default_factory=lambda: deque(maxlen=_KEPT))
    began: float = field(default_factory=time.monotonic)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def add(self, size_bytes: int, size_px: tuple[int, int] | None, answer: Answer) -> None:
        with self.guard:
            self.sent += 1
            self.refused += answer.refused is not None
            self.bytes += size_bytes
            self.faces += len(answer.faces)
            self.seconds.append(answer.seconds)
            if size_px is not None:
                self.measured += 1
                self.width_px += size_px[0]
                self.height_px += size_px[1]
                self.pixels += size_px[0] * size_px[1]

    def to_json(self) -> dict[str, Any]:
        """Averages are 0 when nothing was sent; rates are over the time since these figures were begun."""
        with self.guard:
            elapsed_s = max(time.monotonic() - self.began, 1e-9)
            times = sorted(self.seconds) or [0.0]
            sent, measured = max(self.sent, 1), max(self.measured, 1)
            return {
                "sent": self.sent,
                "refused": self.refused,
                "bytes": self.bytes,
                "average_bytes": round(self.bytes / sent),
                "average_width_px": round(self.width_px / measured, 1),
                "average_height_px": round(self.height_px / measured, 1),
                "average_px": round(self.pixels / measured),
                "mean_ms": round(statistics.fmean(times) * 1e3, 1),
                "median_ms": round(statistics.median(times) * 1e3, 1),
                "p95_ms": round(percentile(times, 0.95) * 1e3, 1),
                "elapsed_s": round(elapsed_s, 2),
                "requests_per_s": round(self.sent / elapsed_s, 2),
                "faces": self.faces,
                "faces_per_minute": round(self.faces / elapsed_s * 60, 1),
            }


def percentile(ordered: Sequence[float], share: float) -> float:
    """The value that `share` of the rising `ordered` do not exceed (nearest rank).

    >>> percentile([1.0, 2.0, 3.0, 4.0], 0.5)
    2.0
    """
    rank = -(-len(ordered) * share // 1)
    return ordered[max(int(rank) - 1, 0)]


class Sender:
    """Sends pictures and keeps the figures. Thread-safe.

    Args:
        dry_run: the service reads the picture and does nothing with it.
    """

    def __init__(self, client: Client, *, dry_run: bool = False) -> None:
        self._client, self._dry_run = client, dry_run
        self.stats = SendStats()

    def send(self, data: bytes, size_px: tuple[int, int] | None = None) -> Answer:
        """One picture. What the service does not take is an answer too.

        Args:
            size_px: (width, height), where it is known; else it is read from the picture.

        Raises:
            StoreUnavailable: the service does not answer.
        """
        began = time.perf_counter()
        document: dict[str, Any] = {}
        refused = None
        try:
            if self._dry_run:
                self._client.receive_only(data)
            else:
                document = self._client.look(data)
        except InvalidInput as error:
            refused = str(error)
        seconds = time.perf_counter() - began
        answer = Answer(document.get("faces", ()), document.get("rejected") or (), refused, seconds)
        self.stats.add(len(data), size_px or size_of(data), answer)
        return answer


def size_of(data: bytes) -> tuple[int, int] | None:
    """(width, height) of an image file, from its header alone; None when it is not one."""
    try:
        with Image.open(BytesIO(data)) as image:
            return image.size
    except (UnidentifiedImageError, OSError, ValueError, Image.DecompressionBombError):
        return None
