"""The gateway: several cameras in one process, one spool, one uploader.

A thread for each camera: decoding and detection release Python's lock. A camera that fails ends alone, with its reason
in the report; the others go on.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

from edge_uploader.annotate import Annotator
from edge_uploader.camera import Camera, CameraOptions, CameraSpec, Observer
from edge_uploader.capture.fairness import shared_fairly
from edge_uploader.capture.health import HealthOptions
from edge_uploader.delivery.budget import Budget, BudgetLimits, BudgetReport
from edge_uploader.delivery.clock import SteadyClock
from edge_uploader.delivery.spool import Spool, SpoolCounts
from edge_uploader.delivery.state import StateFile
from edge_uploader.delivery.uploader import UploadCounts, Uploader
from edge_uploader.metering import Meter
from edge_uploader.opening import is_live, open_source
from edge_uploader.progress import CameraLook, Health, ProgressWatch
from edge_uploader.selection.best_shot import BestShotOptions
from edge_uploader.selection.crops import CropOptions
from edge_uploader.selection.repeats import RepeatOptions
from edge_uploader.selection.schedule import ScheduleOptions
from edge_uploader.selection.tracker import TrackerOptions
from edge_uploader.settings import EdgeSettings
from edge_uploader.stats import CameraStats
from shared.domain import check_place_id
from shared.errors import ConfigurationError
from shared.ports import BlobStore, Detector

logger = logging.getLogger(__name__)

_TICK_S = 0.25
_JOIN_S = 15.0

DetectorFactory = Callable[[], Detector]
"""Makes a detector for one camera; each camera has its own, since not every detector may be shared by threads."""


@dataclass(frozen=True, slots=True)
class GatewayReport:
    """What a run did.

    Attributes:
        waiting, waiting_bytes: crops left in the spool, for the next start.
        limit_bytes: bound of the spool.
        duration_s: of the run, by the clock on the wall.
        budget: what sending has cost, and what is held back for it.
        oldest_s: since the oldest of the waiting crops was taken; 0 when none waits.
    """

    site: str
    cameras: list[CameraStats]
    uploads: UploadCounts
    spool: SpoolCounts
    waiting: int
    waiting_bytes: int
    limit_bytes: int
    duration_s: float
    budget: BudgetReport | None = None
    oldest_s: float = 0.0

    @property
    def failed(self) -> list[CameraStats]:
        return [camera for camera in self.cameras if camera.state == "failed"]

    def to_json(self) -> dict[str, Any]:
        return {
            "site": self.site,
            "cameras": [camera.to_json() for camera in self.cameras],
            "crops": sum(camera.crops for camera in self.cameras),
            "uploaded": self.uploads.uploaded,
            "already_there": self.uploads.already_there,
            "bytes_uploaded": self.uploads.bytes_uploaded,
            "retries": self.uploads.retries,
            "refused": self.uploads.refused,
            "torn": self.spool.torn,
            "spool_full": self.spool.times_full,
            "dropped": {
                "bound": self.spool.dropped_bound,
                "new": self.spool.dropped_new,
                "age": self.spool.dropped_age,
                "refused": self.spool.dropped_refused,
                "torn": self.spool.dropped_torn,
                "bytes": self.spool.dropped_bytes,
            },
            "network_bytes": self.uploads.network_bytes,
            "overdue": self.uploads.overdue,
            "budget": self.budget.to_json() if self.budget else None,
            "waiting": self.waiting,
            "waiting_bytes": self.waiting_bytes,
            "limit_bytes": self.limit_bytes,
            "duration_s": round(self.duration_s, 3),
            "spool": asdict(self.spool) | {"oldest_s": round(self.oldest_s, 1)},
            "uploads": asdict(self.uploads),
        }


class Gateway:
    """Runs cameras until all have ended or it is told to stop.

    Args:
        spool: closed at the end of `run`.
        drain_s: how long to wait for the spool to empty at the end.
        progress: tells what makes none; None for a watch with its own limits.
    """

    def __init__(
        self,
        site: str,
        cameras: Sequence[Camera],
        spool: Spool,
        uploader: Uploader,
        *,
        drain_s: float = 30.0,
        progress: ProgressWatch | None = None,
    ) -> None:
        self._site, self._cameras, self._spool, self._uploader = site, list(cameras), spool, uploader
        self._drain_s = drain_s
        self._progress = progress or ProgressWatch()
        self._meter = Meter(site)
        self._began = time.monotonic()

    def report(self) -> GatewayReport:
        """As things stand; may be asked for while it runs."""
        return GatewayReport(
            site=self._site,
            cameras=[camera.stats() for camera in self._cameras],
            uploads=self._uploader.counts,
            spool=self._spool.counts,
            waiting=self._spool.waiting,
            waiting_bytes=self._spool.waiting_bytes,
            limit_bytes=self._spool.limit_bytes,
            duration_s=time.monotonic() - self._began,
            budget=self._uploader.budget(),
            oldest_s=self._spool.oldest_s,
        )

    def close(self) -> None:
        """Lets go of the spool of a gateway that may not have run; harmless after `run`."""
        self._spool.close()

    def health(self) -> Health:
        """Whether everything makes progress; may be asked for from another thread."""
        return self._progress.health(time.monotonic())

    def run(self, stop: threading.Event, on_tick: Callable[[GatewayReport], None] | None = None) -> GatewayReport:
        """Works until every camera has ended or `stop` is set, then waits for the spool to empty.

        Args:
            stop: set by a signal handler, or another thread.
            on_tick: called about four times a second, for a progress display.
        """
        self._began = time.monotonic()
        threads = [threading.Thread(target=camera.run, name=camera.name, daemon=True) for camera in self._cameras]
        self._uploader.start()
        for thread in threads:
            thread.start()
        logger.info("gateway started", extra={"action": "edge_start", "cameras": len(threads)})
        try:
            while not stop.is_set() and any(thread.is_alive() for thread in threads):
                stop.wait(_TICK_S)
                self._measure()
                self._watch(threads)
                if on_tick is not None:
                    on_tick(self.report())
        finally:
            self._finish(threads)
        self._measure()
        report = self.report()
        logger.info("gateway stopped", extra={"action": "edge_stop", "waiting": report.waiting})
        if on_tick is not None:
            on_tick(report)
        return report

    def _watch(self, threads: Sequence[threading.Thread]) -> None:
        self._progress.look(
            time.monotonic(),
            [
                CameraLook(camera.stats(), camera.working_s, thread.is_alive(), camera.broken)
                for camera, thread in zip(self._cameras, threads, strict=True)
            ],
            uploading=self._uploader.alive,
            no_room=self._spool.full,
        )

    def _measure(self) -> None:
        """Metrics, as things stand."""
        self._meter.feed(self.report().to_json(), stuck=self.health().stuck)

    def _finish(self, threads: Sequence[threading.Thread]) -> None:
        """Cameras first, since they still put the best shots of open tracks into the spool."""
        self._progress.stopping()
        for camera in self._cameras:
            camera.stop()
        for thread in threads:
            thread.join(_JOIN_S)
        if not self._spool.wait_empty(self._drain_s):
            logger.warning(
                "crops are left in the spool for the next start",
                extra={"action": "edge_left", "waiting": self._spool.waiting},
            )
        self._uploader.stop()
        self._spool.close()


def build_gateway(
    settings: EdgeSettings,
    specs: Sequence[CameraSpec],
    store: BlobStore,
    *,
    detector_factory: DetectorFactory | None = None,
    annotate: Path | None = None,
    observe: Callable[[CameraSpec], Observer] | None = None,
    own_settings: Mapping[str, EdgeSettings] | None = None,
    loop: bool = False,
    start: datetime | None = None,
) -> Gateway:
    """Puts a gateway together.

    Args:
        annotate: folder for annotated pictures, or None.
        observe: makes somebody who looks on, for each camera; instead of `annotate`.
        own_settings: of cameras, by name, that have others than the gateway's.
        loop: play video files again and again, as stand-ins for live cameras.
        start: when the recordings began; None for what the files say.

    Raises:
        ConfigurationError: no camera, two of one name, an unknown detector, or the spool is in use.
        ModelUnavailable: the detector's weights are not there.
    """
    from shared.vision.decode import encoder_of
    from shared.vision.quality import assess

    _check_ids(settings, specs)
    own = {spec.name: (own_settings or {}).get(spec.name, settings) for spec in specs}

    def make_own(mine: EdgeSettings) -> Detector:
        return detector_factory() if detector_factory else load_edge_detector(mine)

    make_detector = shared_fairly(make_own, len(specs))
    if annotate is not None and observe is None:
        observe = partial(_annotator, settings, annotate)
    run = secrets.token_hex(4)
    spool = Spool(
        settings.edge_spool_dir,
        limit_bytes=settings.edge_spool_limit_bytes,
        max_age_s=3_600 * settings.edge_spool_max_age_h,
    )
    try:
        cameras = [
            Camera(
                spec.name,
                open_source(spec.source, own[spec.name], loop=loop, start=start),
                make_detector(own[spec.name]),
                spool,
                camera_options(own[spec.name], spec),
                assess=assess,
                encode=encoder_of(own[spec.name].edge_crop_format),
                run=run,
                observer=observe(spec) if observe else None,
            )
            for spec in specs
        ]
    except BaseException:
        spool.close()
        raise
    uploader = _uploader(settings, specs, spool, store)
    progress = ProgressWatch(
        settings.edge_stuck_s, {spec.name: _longest_wait_s(spec, own[spec.name]) for spec in specs}
    )
    return Gateway(settings.edge_site, cameras, spool, uploader, drain_s=settings.edge_drain_s, progress=progress)


def _longest_wait_s(spec: CameraSpec, settings: EdgeSettings) -> float:
    """How long a camera may rightly stand still: a stream that is away is opened again with waits that grow."""
    if not is_live(spec.source):
        return settings.edge_stuck_s
    return max(settings.edge_stuck_s, 2.0 * (settings.edge_stream_timeout_s + settings.edge_stream_backoff_max_s))


def _uploader(settings: EdgeSettings, specs: Sequence[CameraSpec], spool: Spool, store: BlobStore) -> Uploader:
    limits = BudgetLimits(
        settings.edge_budget_bytes_per_hour,
        settings.edge_budget_month,
        settings.edge_price_per_gb,
        settings.edge_price_per_10k_uploads,
    )
    # The spool's lock keeps these files to one gateway, too.
    file = StateFile(settings.edge_spool_dir / "budget.json")
    # It begins where the spool's stands: an earlier version counted the month by that one.
    clock = SteadyClock(StateFile(settings.edge_spool_dir / "budget-clock.json"), first_ns=spool.clock.now_ns())
    return Uploader(
        spool,
        store,
        budget=Budget(limits, clock=clock, file=file, top_priority=max(spec.priority for spec in specs)),
        threads=settings.edge_upload_threads,
        backoff_max_s=settings.edge_upload_backoff_max_s,
        attempt_s=settings.edge_upload_timeout_s,
    )


def _check_ids(settings: EdgeSettings, specs: Sequence[CameraSpec]) -> None:
    names = [spec.name for spec in specs]
    if not names:
        raise ConfigurationError("no camera was given")
    if len(set(names)) < len(names):
        raise ConfigurationError("two cameras have the same name; a camera's name is its id")
    check_place_id("site", settings.edge_site)


def _annotator(settings: EdgeSettings, folder: Path, spec: CameraSpec) -> Observer:
    return Annotator(folder, spec.name, fps=settings.edge_fps or 25.0)


def camera_options(settings: EdgeSettings, spec: CameraSpec) -> CameraOptions:
    """The part of the settings that concerns one camera."""
    location = spec.location or settings.edge_location or spec.name
    check_place_id("location", location)
    return CameraOptions(
        site=settings.edge_site,
        location=location,
        low_confidence=settings.edge_low_confidence,
        min_face_px=settings.edge_min_face_px,
        detect_px=settings.edge_detect_px,
        every_frame=settings.edge_every_frame,
        priority=spec.priority,
        live=is_live(spec.source),
        health=HealthOptions(frozen_s=settings.edge_frozen_s) if settings.edge_watch_picture else None,
        crops=crop_options(settings),
        tracker=TrackerOptions(high_confidence=settings.edge_high_confidence, max_age_s=settings.edge_track_max_age_s),
        shots=BestShotOptions(
            shots=settings.edge_shots_per_track,
            enough=settings.edge_enough_worth,
            spacing_s=settings.edge_shot_spacing_s,
            refresh_s=settings.edge_shot_refresh_s,
            good_enough=settings.edge_good_enough,
            first_after_s=settings.edge_first_shot_s,
            unusable_after_s=settings.edge_unusable_s,
            hold_s=settings.edge_hold_s,
        ),
        schedule=ScheduleOptions(
            idle_s=settings.edge_idle_s,
            watch_s=min(settings.edge_idle_s, 0.5),
            # The other detectors take as long for a small picture as for a large one.
            whole_s=settings.edge_whole_look_s if settings.edge_detector == "yunet" else 0.0,
        ),
        repeats=RepeatOptions(settle_s=settings.edge_settle_s, first_s=settings.edge_repeat_s),
        rejoin_s=settings.edge_rejoin_s,
    )


def crop_options(settings: EdgeSettings) -> CropOptions:
    """How faces are cut out and encoded."""
    return CropOptions(
        margin=settings.edge_crop_margin,
        max_face_px=settings.edge_max_face_px,
        quality=settings.edge_crop_quality,
        format=settings.edge_crop_format,
    )


def load_edge_detector(settings: EdgeSettings) -> Detector:
    """The detector that the settings name, at the size and threshold that they name.

    Raises:
        ConfigurationError: no such detector.
        ModelUnavailable: its weights are not in the cache.
    """
    from shared.vision.assets import ModelCache
    from shared.vision.detectors import load_detector

    return load_detector(
        settings.edge_detector,
        ModelCache(settings.model_cache),
        threshold=settings.edge_low_confidence,
        input_px=settings.edge_detect_px,
        # Its boxes are a little tighter than those that the limit is meant for.
        min_face_px=0.8 * settings.edge_min_face_px,
    )
