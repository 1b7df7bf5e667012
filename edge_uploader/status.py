"""How a running gateway stands, as one JSON document: for the live page, `edge status` and whoever else asks."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_uploader.gateway import GatewayReport
from edge_uploader.progress import Health
from shared import __version__
from shared.domain import format_time, utc_now
from shared.ports import Clock

logger = logging.getLogger(__name__)

SCHEMA: Final = 1
STATE_FILE: Final = "gateway.json"
_WINDOW_S: Final = 10.0
_SAMPLE_S: Final = 0.5
_RATES: Final = ("worked_on_fps", "looked_at_fps", "grabbed_fps")
"""Frames a second of a camera: taken into work, of those looked at by the detector, given by the camera."""
_STATE_MAX_BYTES: Final = 4_096


@dataclass(frozen=True, slots=True)
class _Sample:
    at_s: float
    cameras: Mapping[str, tuple[int, ...]]  # frames of each camera, as in _RATES
    uploaded: int
    uploaded_bytes: int


class StatusBook:
    """Keeps the newest report, and enough of the earlier ones to tell rates of the last ten seconds. Thread-safe.

    Args:
        health: asked whenever somebody asks for the status.
        now_s: monotonic clock.
        clock: for the times that are shown.
    """

    def __init__(
        self, health: Callable[[], Health], *, now_s: Callable[[], float] = time.monotonic, clock: Clock = utc_now
    ) -> None:
        self._health, self._now_s, self._clock = health, now_s, clock
        self._started_at = clock()
        self._report: dict[str, Any] = {}
        self._samples: deque[_Sample] = deque()
        self._guard = threading.Lock()

    def update(self, report: GatewayReport) -> None:
        """Takes the gateway's report of now."""
        document, now_s = report.to_json(), self._now_s()
        with self._guard:
            self._report = document
            if self._samples and now_s - self._samples[-1].at_s < _SAMPLE_S:
                return
            self._samples.append(
                _Sample(
                    now_s,
                    {c.camera: (c.frames, c.detector_runs, c.frames_grabbed) for c in report.cameras},
                    report.uploads.uploaded,
                    report.uploads.bytes_uploaded,
                )
            )
            while len(self._samples) > 2 and now_s - self._samples[1].at_s >= _WINDOW_S:
                self._samples.popleft()

    def document(self) -> dict[str, Any]:
        """The report, with rates, the finding of the health check, and when it was made."""
        health = self._health()
        with self._guard:
            report, samples = self._report, list(self._samples)
        first, last = (samples[0], samples[-1]) if samples else (None, None)
        cameras = [
            camera | _camera_rates(camera["camera"], first, last) | {"stuck": camera["camera"] in health.stuck}
            for camera in report.get("cameras", [])
        ]
        return {
            "schema": SCHEMA,
            "version": __version__,
            "pid": os.getpid(),
            "started_at": format_time(self._started_at),
            "now": format_time(self._clock()),
            "health": health.to_json(),
            **report,
            "cameras": cameras,
            "upload_rate": _upload_rates(first, last),
        }

    def healthy(self) -> tuple[bool, str]:
        """Whether all makes progress, and a reason that names no camera, for whoever may not know them."""
        health = self._health()
        if health.ok:
            return True, "ok"
        stuck = len(health.stuck)
        return False, f"cameras without progress: {stuck}" if stuck else health.problems[0]


def _camera_rates(name: str, first: _Sample | None, last: _Sample | None) -> dict[str, float]:
    span_s = last.at_s - first.at_s if first and last else 0.0
    if not first or not last or span_s <= 0:
        return dict.fromkeys(_RATES, 0.0)
    before, now = first.cameras.get(name, (0, 0, 0)), last.cameras.get(name, (0, 0, 0))
    return {rate: round((now[i] - before[i]) / span_s, 1) for i, rate in enumerate(_RATES)}


def _upload_rates(first: _Sample | None, last: _Sample | None) -> dict[str, float]:
    span_s = last.at_s - first.at_s if first and last else 0.0
    if not first or not last or span_s <= 0:
        return {"crops_per_minute": 0.0, "bytes_per_s": 0.0}
    return {
        "crops_per_minute": round(60 * (last.uploaded - first.uploaded) / span_s, 1),
        "bytes_per_s": round((last.uploaded_bytes - first.uploaded_bytes) / span_s, 1),
    }


@dataclass(frozen=True, slots=True)
class RunningGateway:
    """Where a gateway's page is, as its spool's folder says.

    Attributes:
        url: of the page, as this machine reaches it.
    """

    pid: int
    url: str

    def write(self, spool: Path) -> None:
        """Leaves it in the spool's folder. It holds no secret; still nobody else needs it.

        A full disk keeps nobody from running, above all not from sending what fills it: that is logged.
        """
        path = spool / STATE_FILE
        temporary = path.with_suffix(".new")
        try:
            temporary.unlink(missing_ok=True)
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                json.dump({"schema": SCHEMA, "pid": self.pid, "url": self.url}, stream)
            temporary.replace(path)
        except OSError as error:
            logger.warning("`edge status` will not find this gateway by its spool: %s", error.strerror or error)

    @staticmethod
    def remove(spool: Path) -> None:
        """The gateway has ended in order. What cannot be removed tells of a process that is gone, and does no harm."""
        with suppress(OSError):
            (spool / STATE_FILE).unlink()

    @classmethod
    def read(cls, spool: Path) -> RunningGateway | None:
        """What was left there; None when there is nothing that can be understood. The process may be gone."""
        try:
            with (spool / STATE_FILE).open("rb") as stream:
                document = json.loads(stream.read(_STATE_MAX_BYTES))
            pid, url = int(document["pid"]), str(document["url"])
        except (OSError, ValueError, TypeError, KeyError):
            return None
        return cls(pid, url) if url.startswith("http://") else None
