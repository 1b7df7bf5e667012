"""One scene through the gateway as shipped, under one policy, into Azurite by the real SDK; and what lies there then.

Policies:
    best_shot: the gateway's own choice.
    every_frame: every face of every frame, the same detector, encoder and crops.
    seed: every face of every frame as the system that this one descends from sent it: its detector (Ultra-Light
        RFB-640), the box without a margin, at most 150 px, JPEG of quality 95 (OpenCV's default).
"""

from __future__ import annotations

import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from bench.edge_proxy import counting
from bench.report import console
from bench.scene.plan import FPS
from bench.servers import azurite, connection_string
from edge_uploader.camera import CameraSpec
from edge_uploader.gateway import GatewayReport, build_gateway
from edge_uploader.settings import EdgeSettings
from local.evaluation.cores import on_all_cores
from shared.bootstrap import open_blob_store
from shared.domain import CANDIDATES, Candidate
from shared.errors import StoreUnavailable
from shared.ports import BlobProperties, BlobStore, Detector
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.detectors import load_detector

START = datetime(2026, 1, 5, 8, 0, tzinfo=UTC)
"""When every video begins; a crop's time then tells its frame."""
CAMERA_BPS = 4_000_000
"""Of a 1080p camera at 6 fps, as the thesis takes it."""
SITE, CAMERA = "bench", "hall"

POLICIES: dict[str, dict[str, Any]] = {
    "every_frame": {"edge_every_frame": True},
    "best_shot": {},
    "seed": {
        "edge_every_frame": True,
        "edge_detector": "ultra_light",
        "edge_high_confidence": 0.7,
        "edge_crop_margin": 0.0,
        "edge_max_face_px": 150,
        "edge_crop_format": "jpeg",
        "edge_crop_quality": 95,
    },
}
_DRAIN_S = 600.0
_TICK_S = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class StoredCrop:
    """A crop as it lies in the store."""

    name: str
    data: bytes
    candidate: Candidate

    @property
    def frame(self) -> int:
        """Number of the frame of a scene that it was cut from."""
        return round((self.candidate.captured_at - START).total_seconds() * FPS)


@dataclass(frozen=True, slots=True, eq=False)
class PolicyRun:
    """What one policy did with one video.

    Attributes:
        up_bytes, down_bytes: what the gateway sent and received, above TCP.
        camera: the gateway's figures of the camera.
        seconds: of the run, until the last crop was acknowledged.
    """

    policy: str
    crops: list[StoredCrop]
    up_bytes: int
    down_bytes: int
    camera: dict[str, Any] = field(repr=False)
    seconds: float

    @property
    def network_bytes(self) -> int:
        return self.up_bytes + self.down_bytes

    def figures(self, video_s: float) -> dict[str, Any]:
        """Sizes and rates of a video of `video_s` seconds."""
        boxes = [crop.candidate.frame_box for crop in self.crops]
        return {
            "crops": len(self.crops),
            "bytes": sum(len(crop.data) for crop in self.crops),
            "network_bytes": self.network_bytes,
            "network_up_bytes": self.up_bytes,
            "network_down_bytes": self.down_bytes,
            "reduction_vs_4mbps": round(CAMERA_BPS / 8 * video_s / max(self.network_bytes, 1), 1),
            "mean_face_width_px": round(sum(box[2] - box[0] for box in boxes) / max(len(boxes), 1), 1),
            "mean_face_height_px": round(sum(box[3] - box[1] for box in boxes) / max(len(boxes), 1), 1),
            "tracks": self.camera["tracks"],
            "frames": self.camera["frames"],
            "frames_per_s": self.camera["frames_per_s"],
            "seconds": round(self.seconds, 1),
        }


def settings_of(policy: str, spool: Path, connection: str) -> EdgeSettings:
    """The gateway's own settings, but for the policy's, the frame rate and the store."""
    return EdgeSettings(
        backend="azure",
        storage_connection_string=SecretStr(connection),
        edge_site=SITE,
        edge_spool_dir=spool,
        edge_fps=FPS,
        edge_drain_s=_DRAIN_S,
        **POLICIES[policy],
    )


def detector_for(settings: EdgeSettings, weights: Path | None) -> Callable[[], Detector] | None:
    """Ultra-Light from a folder of its own where the model cache has none; else None, for the gateway's own way."""
    if settings.edge_detector != "ultra_light":
        return None
    cache = ultra_light_cache(weights)
    return lambda: load_detector("ultra_light", cache, threshold=settings.edge_low_confidence)


def ultra_light_cache(weights: Path | None) -> ModelCache:
    """Where Ultra-Light's weights are; they cannot be fetched, so that a copy elsewhere will do.

    Raises:
        ModelUnavailable, IntegrityError: neither here nor there, or not the right ones.
    """
    cache = ModelCache(Settings().model_cache)
    if weights is not None and not (cache.directory / weights.name).is_file():
        cache = ModelCache(weights.parent)
    cache.path("ultra_light")
    return cache


def run_policy(policy: str, video: Path, weights: Path | None, annotate: Path | None = None) -> PolicyRun:
    """Plays `video` through a gateway as fast as it goes; every crop is in the store when this returns.

    Args:
        weights: Ultra-Light's, for the policy `seed`, where the model cache has none.
        annotate: folder for the gateway's annotated pictures.

    Raises:
        StoreUnavailable: crops were left in the spool, or the camera failed.
    """
    with tempfile.TemporaryDirectory() as folder, azurite() as storage, counting(storage.blob_port) as (port, traffic):
        through = connection_string(port, storage.queue_port)
        settings = settings_of(policy, Path(folder) / "spool", through)
        store = open_blob_store(settings)
        gateway = build_gateway(
            settings,
            [CameraSpec.parse(f"{CAMERA}={video}")],
            store,
            detector_factory=detector_for(settings, weights),
            annotate=annotate,
            start=START,
        )
        traffic.reset()
        began = time.monotonic()
        with console.status(f"{video.parent.name or video.name}: {policy}") as status:

            def tick(report: GatewayReport) -> None:
                camera = report.cameras[0]
                status.update(f"{video.parent.name}: {policy}, {camera.frames} frames, {camera.crops} crops")

            report = gateway.run(threading.Event(), tick)
        seconds = time.monotonic() - began
        if report.failed or report.waiting:
            raise StoreUnavailable(
                f"{policy}: {report.waiting} crops were not sent, {len(report.failed)} cameras failed"
            )
        up, down = traffic.up, traffic.down
        direct = open_blob_store(settings_of(policy, Path(folder) / "unused", storage.connection_string))
        crops = stored_crops(direct, f"{video.parent.name}: {policy}, reading the store")
    console.print(f"{video.parent.name}: {policy}: {len(crops):,} crops, {up + down:,} bytes in {seconds:.0f} s")
    return PolicyRun(policy, crops, up, down, report.cameras[0].to_json(), seconds)


def stored_crops(store: BlobStore, what: str) -> list[StoredCrop]:
    """Every candidate in the store, in order of name."""

    def read(listed: BlobProperties) -> StoredCrop:
        return StoredCrop(
            listed.name, store.get(CANDIDATES, listed.name).data, Candidate.from_metadata(listed.metadata)
        )

    return on_all_cores(read, list(store.list(CANDIDATES)), what, console)
