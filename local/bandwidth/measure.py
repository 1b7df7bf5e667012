"""Runs the gateway on a video, with a store that only counts. No service is needed."""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Final

import cv2
from PIL import Image

from edge_uploader.camera import CameraSpec
from edge_uploader.capture.sources import SourceUnusable
from edge_uploader.gateway import DetectorFactory, GatewayReport, build_gateway
from edge_uploader.settings import EdgeSettings
from local.bandwidth.arithmetic import Sent, Tariff, Video
from local.bandwidth.report import BEST_SHOTS, EVERY_FACE, BandwidthReport, PolicyReport, policy_report
from local.nowhere import Nowhere
from shared.domain import Candidate, sha256_hex
from shared.errors import InvalidInput, PreconditionFailed

SEED_FPS: Final = 6.0
"""The thesis converts its videos to this, as of a surveillance camera."""

BEGINNING: Final = datetime(2020, 1, 1, tzinfo=UTC)
"""Stands for the video's beginning, so that a crop's time tells its place."""

_SPOOL_BYTES: Final = 10**12


@dataclass(slots=True)
class CountingStore(Nowhere):
    """Keeps nothing but what each crop weighs. Thread-safe."""

    sent: list[Sent] = field(default_factory=list)
    names: set[str] = field(default_factory=set)
    guard: threading.Lock = field(default_factory=threading.Lock)

    def put(
        self,
        container: str,
        name: str,
        data: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> str:
        """Counts the crop. Raises: PreconditionFailed when it is counted already."""
        at_s = (Candidate.from_metadata(metadata or {}).captured_at - BEGINNING).total_seconds()
        with Image.open(BytesIO(data)) as image:
            width, height = image.size
        with self.guard:
            if name in self.names:
                raise PreconditionFailed(f"{name} is there")
            self.names.add(name)
            self.sent.append(Sent(at_s, width, height, len(data)))
        return sha256_hex(data)


def probe(path: Path) -> Video:
    """What the file says of itself.

    Raises:
        SourceUnusable: no video, or one that does not say how long it is.
    """
    if not path.is_file():
        raise SourceUnusable(f"no video file at {path}")
    capture = cv2.VideoCapture(str(path))
    try:
        fps, frames = capture.get(cv2.CAP_PROP_FPS), capture.get(cv2.CAP_PROP_FRAME_COUNT)
        if not capture.isOpened() or fps <= 0 or frames <= 0:
            raise SourceUnusable(f"{path} is not a video that can be read, or does not say how long it is")
        size = int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)), int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT))
    finally:
        capture.release()
    return Video(path.name, *size, frames / fps, path.stat().st_size)


def measure(
    path: Path,
    settings: EdgeSettings,
    tariff: Tariff,
    *,
    detector_factory: DetectorFactory | None = None,
    on_frame: Callable[[str, float], None] | None = None,
) -> BandwidthReport:
    """Both policies on one video: the same detector, sizes and quality of crops; only the choice differs.

    Args:
        settings: the gateway's; its spool is not touched.
        on_frame: called a few times a second with the policy and the share of the video that is done, 0 to 1.

    Raises:
        SourceUnusable: it cannot be read, or broke off.
    """
    video = probe(path)
    seed = settings.model_copy(update={"edge_every_frame": True, "edge_fps": SEED_FPS, "edge_skip_frames": 0})
    ours = settings.model_copy(update={"edge_every_frame": False})
    reports = []
    for name, policy in ((EVERY_FACE, seed), (BEST_SHOTS, ours)):

        def tick(report: GatewayReport, name: str = name) -> None:
            if on_frame is not None:
                on_frame(name, min(1.0, report.cameras[0].position_s / video.length_s))

        reports.append(_run(name, path, policy, detector_factory, tick))
    return BandwidthReport(video, tuple(reports), tariff)


def _run(
    name: str,
    path: Path,
    settings: EdgeSettings,
    detector_factory: DetectorFactory | None,
    on_tick: Callable[[GatewayReport], None],
) -> PolicyReport:
    store = CountingStore()
    with tempfile.TemporaryDirectory(prefix="facerelay-bandwidth-") as folder:
        own = settings.model_copy(update={"edge_spool_dir": Path(folder), "edge_spool_limit_bytes": _SPOOL_BYTES})
        gateway = build_gateway(
            own,
            [CameraSpec("video", str(path))],
            store,
            detector_factory=detector_factory,
            start=BEGINNING,
        )
        report = gateway.run(threading.Event(), on_tick)
    (camera,) = report.cameras
    if camera.state == "failed":
        raise SourceUnusable(camera.error or f"{path} cannot be read")
    if report.waiting or report.uploads.refused:
        raise InvalidInput(f"{report.waiting + report.uploads.refused} crops of {path} could not be counted")
    people = None if settings.edge_every_frame else camera.tracks
    return policy_report(name, settings.edge_fps, camera.frames, people, store.sent)
