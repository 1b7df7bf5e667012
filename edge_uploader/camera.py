"""One camera: frames in, crops in the spool. Shares nothing with another camera but the spool, which is thread-safe."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from edge_uploader.capture.ahead import read_ahead
from edge_uploader.capture.health import HealthOptions
from edge_uploader.capture.sources import Frame, Silence, Source, SourceUnusable, VideoFile
from edge_uploader.capture.streams import LiveSource
from edge_uploader.capture.watch import CameraWatch
from edge_uploader.delivery.order import DEFAULT_PRIORITY, GOOD_WORTH, PRIORITIES
from edge_uploader.delivery.spool import Spool, SpoolItem
from edge_uploader.restarts import Restarts
from edge_uploader.selection.best_shot import BestShotOptions
from edge_uploader.selection.crops import Crop, CropOptions, Encoder, cut, long_axis_px
from edge_uploader.selection.follow import Follower, FollowOptions, Sending
from edge_uploader.selection.looking import Looker
from edge_uploader.selection.repeats import RepeatOptions
from edge_uploader.selection.schedule import Schedule, ScheduleOptions
from edge_uploader.selection.tracker import Sighting, Track, Tracker, TrackerOptions
from edge_uploader.stats import CameraStats
from shared import telemetry
from shared.domain import CROP_FORMATS, Face, Quality, UInt8Array, check_place_id
from shared.errors import FacerelayError, InvalidInput, TransientError
from shared.ports import Detector

logger = logging.getLogger(__name__)

_ROOM_POLL_S = 1.0
_FOLLOWED = 0.8
"""Share of the least size from which a face is followed: it may come nearer, and boxes are not exact."""


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """A camera as the operator names it.

    Attributes:
        name: the camera's id.
        source: a video file, a folder of images, `rtsp://…`, `http://…`, or a webcam's index.
        location: where it is; empty when the gateway's default is meant.
        priority: 1 to 9; a higher one's crops are sent first, and are the last to be held back or dropped.
    """

    name: str
    source: str
    location: str = ""
    priority: int = DEFAULT_PRIORITY

    def __post_init__(self) -> None:
        if self.priority not in PRIORITIES:
            raise InvalidInput("a camera's priority is 1 (low) to 9 (high)")

    @classmethod
    def parse(cls, text: str) -> CameraSpec:
        """Reads `NAME=SOURCE` or `NAME@LOCATION=SOURCE`.

        Raises:
            InvalidInput: of another form, or a name that cannot be one.

        >>> CameraSpec.parse("door@Main hall=rtsp://10.0.0.9/1?a=b")
        CameraSpec(name='door', source='rtsp://10.0.0.9/1?a=b', location='Main hall', priority=5)
        """
        place, equals, source = text.partition("=")
        name, at, location = place.partition("@")
        if not equals or not name.strip() or not source.strip() or (at and not location.strip()):
            raise InvalidInput(
                "a camera is given as NAME=SOURCE or NAME@LOCATION=SOURCE, such as door=rtsp://10.0.0.9/1"
            )
        check_place_id("camera", name.strip())
        return cls(name.strip(), source.strip(), location.strip())


@dataclass(frozen=True, slots=True)
class CameraOptions:
    """How a camera's frames are worked on.

    Attributes:
        low_confidence, detect_px: see `selection.looking.Looker`.
        min_face_px: faces smaller on the long axis are not sent, and those much smaller not followed either.
        health: what is made of the picture itself; None when it is not watched.
        every_frame: send every face at or above `tracker.high_confidence` of every frame: no tracker, no choice.
        priority: of its crops, 1 to 9.
        live: its frames do not wait: at the spool's bound the least valuable crops give way. A recording waits.
        rejoin_s: see `FollowOptions`.
    """

    site: str
    location: str
    low_confidence: float = 0.3
    min_face_px: int = 32
    detect_px: int = 800
    every_frame: bool = False
    priority: int = DEFAULT_PRIORITY
    live: bool = False
    health: HealthOptions | None = field(default_factory=HealthOptions)
    crops: CropOptions = field(default_factory=CropOptions)
    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    shots: BestShotOptions = field(default_factory=BestShotOptions)
    schedule: ScheduleOptions = field(default_factory=ScheduleOptions)
    repeats: RepeatOptions = field(default_factory=RepeatOptions)
    rejoin_s: float = 4.0

    def follow(self) -> FollowOptions:
        """The part that concerns following."""
        return FollowOptions(
            self.crops, self.tracker, self.shots, self.repeats, min_face_px=self.min_face_px, rejoin_s=self.rejoin_s
        )


class Observer(Protocol):
    """Looks on, for annotated pictures."""

    def frame(self, frame: Frame, tracks: list[Track]) -> None:
        """A frame was worked on; `tracks` are those seen in it."""
        ...

    def crop(self, track: str, crop: Crop) -> None:
        """A crop was put into the spool."""
        ...

    def close(self) -> None: ...


class Camera:
    """Works on one camera's frames, in the thread that calls `run`.

    Args:
        detector: of this camera alone.
        assess: RGB image and face → quality, such as `shared.vision.quality.assess`.
        encode: writes `options.crops.format`, such as `shared.vision.decode.encoder_of(format)`.
        run: prefix of the track ids, one for each run of the gateway.

    Attributes:
        broken: a live camera was ended by errors that nobody expected; it takes a restart of the gateway.
    """

    def __init__(
        self,
        name: str,
        source: Source,
        detector: Detector,
        spool: Spool,
        options: CameraOptions,
        *,
        assess: Callable[[UInt8Array, Face], Quality],
        encode: Encoder,
        run: str | None = None,
        observer: Observer | None = None,
    ) -> None:
        self._name, self._source, self._detector_id = name, source, detector.detector_id
        self._looker = Looker(
            detector,
            input_px=options.detect_px,
            low_confidence=options.low_confidence,
            min_face_px=_FOLLOWED * options.min_face_px,
        )
        self._spool, self._options = spool, options
        self._encode, self._observer = encode, observer
        self._new_follower = partial(Follower, options.follow(), camera=name, assess=assess)
        self._follower = self._new_follower(run=run)
        self._schedule = Schedule(options.schedule)
        self._every = options.every_frame or not source.continuous
        self._latest: list[Track] = []
        self._stop = threading.Event()
        self._working_since: float | None = None
        self._restarts = Restarts(name, source.counts.events)
        self.broken = False
        self._stats = CameraStats(name, options.location)
        self._labels = telemetry.place(options.site, name)
        self._watch = CameraWatch(name, source, options.health, self._labels)

    @property
    def name(self) -> str:
        return self._name

    def stats(self) -> CameraStats:
        """A current view; may be asked for from another thread."""
        counts, stats = self._source.counts, self._stats
        stats.frames_grabbed, stats.frames_skipped = counts.grabbed, counts.skipped
        stats.frames_dropped, stats.reconnects = counts.dropped, counts.reconnects
        stats.images_unreadable = dict(counts.unreadable)
        followed = self._follower.counts
        for name in ("rejoined", "cuts", "repeats", "held_back", "usable"):
            setattr(stats, name, getattr(followed, name))
        stats.unusable = dict(followed.unusable)
        if not self._every:
            stats.tracks = followed.tracks
        stats.frames_late, stats.picture = counts.late, self._watch.picture
        stats.events, stats.events_begun = counts.events.to_json(), counts.events.begun
        if stats.state != "failed":
            stats.error = self._source.problem or self._restarts.trouble
        return stats

    @property
    def working_s(self) -> float:
        """How long the frame in hand has been worked on; 0 between frames."""
        since = self._working_since
        return 0.0 if since is None else time.perf_counter() - since

    def stop(self) -> None:
        """Ends `run` after the frame under way. May be called from another thread."""
        self._stop.set()
        self._source.close()

    def run(self) -> None:
        """Works until the source ends, fails, or `stop` is called. Never raises: a failure is in the stats."""
        self._stats.state = "running"
        try:
            self._work()
            self._stats.state = "finished"
        except (SourceUnusable, FacerelayError) as error:
            self._fail(str(error))
            logger.error("camera failed: %s", error, extra={"action": "camera_failed", "camera": self._name})
        except Exception as error:
            # The edge of the camera's thread: its failure must not be another camera's.
            self.broken = self._options.live
            self._fail(f"unexpected {type(error).__name__}, see the log")
            logger.exception("camera failed", extra={"action": "camera_failed", "camera": self._name})
        finally:
            if self._observer is not None:
                self._observer.close()

    def _fail(self, message: str) -> None:
        self._stats.state, self._stats.error = "failed", message

    def _work(self) -> None:
        try:
            for moment in self._moments():
                self._attempt(moment)
                if self._stop.is_set():
                    break
        finally:
            # A source that broke off has still shown what it showed.
            self._send_views(self._follower.finish())

    def _attempt(self, moment: Frame | Silence) -> None:
        """Works on a moment; after an error, a live camera's work is begun anew with a later one, a few times."""
        try:
            self._work_on(moment)
        except Exception as error:
            wait_s = self._restarts.failed(error) if self._options.live else None
            if wait_s is None:
                self.broken = self._options.live
                raise
            self._begin_anew()
            self._stop.wait(wait_s)

    def _work_on(self, moment: Frame | Silence) -> None:
        began = self._working_since = time.perf_counter()
        try:
            if isinstance(moment, Silence):
                self._send_views(self._follower.without_frame(moment.position_s))
                return
            self._watch.look(moment, faces=self._follower.following)
            self._process(moment)
            self._stats.busy_s += time.perf_counter() - began
        finally:
            self._working_since = None
        self._restarts.worked()

    def _begin_anew(self) -> None:
        """Sends what is held of those who were followed, and forgets them."""
        old = self._follower
        # Its ids begin with another prefix, so that none is given twice; what was counted stays.
        self._follower, self._schedule, self._latest = self._new_follower(), Schedule(self._options.schedule), []
        self._follower.counts = old.counts
        try:
            self._send_views(old.finish())
        except Exception:
            logger.exception("held views are lost", extra={"action": "camera_restarted", "camera": self._name})

    def _moments(self) -> Iterator[Frame | Silence]:
        """Decoding goes on while a frame is looked at; a live source sees to that itself, and wakes while none come."""
        if isinstance(self._source, LiveSource):
            return self._source.moments()
        frames = self._source.frames()
        return read_ahead(frames) if isinstance(self._source, VideoFile) else frames

    def _process(self, frame: Frame) -> None:
        stats = self._stats
        stats.frames += 1
        stats.position_s = frame.position_s
        telemetry.EDGE_FRAMES.add(self._labels)
        if self._every:
            self._latest = self._send_all(frame, self._counted(self._looker.whole(frame)))
        else:
            self._follow(frame)
        if self._observer is not None:
            self._observer.frame(frame, self._latest)

    def _faces(self, frame: Frame) -> list[Face]:
        """The faces of a frame; between two looks at the whole picture, those where faces are expected."""
        if not self._schedule.whole:
            expected = self._follower.expected(frame.position_s)
            if self._looker.worth_a_glance(frame, expected):
                self._stats.glances += 1
                return self._counted(self._looker.glance(frame, expected))
        self._schedule.looked_at_all(frame.position_s)
        return self._counted(self._looker.whole(frame))

    def _counted(self, faces: list[Face]) -> list[Face]:
        self._stats.detector_runs += 1
        self._stats.detections += len(faces)
        telemetry.EDGE_FACES.add(self._labels, len(faces))
        return faces

    def _send_all(self, frame: Frame, faces: list[Face]) -> list[Track]:
        """The seed's way: each face is sent, as a track of its own."""
        tracker = Tracker(self._options.tracker)
        least, least_px = self._options.tracker.high_confidence, self._options.min_face_px
        strong = [Sighting(f) for f in faces if f.confidence >= least and long_axis_px(f) >= least_px]
        seen = tracker.update(strong, frame.position_s).seen
        for track in seen:
            track.id = self._follower.next_id()
            self._stats.tracks += 1
            crop = cut(frame.image, track.face, frame.captured_at, self._options.crops, self._encode)
            self._send(track.id, 0, crop)
        return seen

    def _follow(self, frame: Frame) -> None:
        """Looks when it pays, follows, and sends what is worth it."""
        look = self._schedule.look(
            frame.reduced, frame.position_s, following=self._follower.following, dropped=self._source.counts.dropped
        )
        if look.wanted:
            followed = self._follower.look(frame, self._faces(frame), cut=self._schedule.cut)
            self._latest, sendings = followed.seen, followed.sendings
        else:
            without = self._stats.frames_without_look
            self._stats.frames_without_look = without | {look.value: without.get(look.value, 0) + 1}
            sendings = self._follower.due(frame.position_s)
        self._send_views(sendings)

    def _send_views(self, sendings: Sequence[Sending]) -> None:
        for sending in sendings:
            crop = sending.view.encoded(self._options.crops, self._encode)
            self._send(sending.track, sending.shot, crop, sending.worth)

    def _send(self, track: str, shot: int, crop: Crop, value: float = GOOD_WORTH) -> None:
        """Puts a crop into the spool; while that has no room, a recording's camera stands still.

        The trace that begins here travels in the crop's metadata, up to the stored detection.
        """
        stats = self._stats
        with telemetry.span("edge.crop", kind=telemetry.PRODUCER, attributes=self._labels):
            item = self._item(track, shot, crop, value)
            taken = self._spooled(item)
        if taken is None:
            stats.lost += 1
            telemetry.EDGE_LOST.add(self._labels)
            logger.error("a crop found no room", extra={"action": "crop_lost", "camera": self._name})
        elif not taken:
            stats.dropped += 1
        else:
            stats.crops += 1
            stats.bytes += len(crop.data)
            telemetry.EDGE_CROPS.add(self._labels)
            if self._observer is not None:
                self._observer.crop(track, crop)

    def _item(self, track: str, shot: int, crop: Crop, value: float) -> SpoolItem:
        options = self._options
        candidate = crop.to_candidate(
            site=options.site,
            camera=self._name,
            location=options.location,
            track=track,
            shot=shot,
            detector=self._detector_id,
            chosen=not self._every,
        )
        metadata = candidate.to_metadata() | telemetry.traceparent()
        return SpoolItem(
            candidate.blob_name,
            crop.data,
            metadata,
            candidate.to_tags(),
            CROP_FORMATS[crop.format][1],
            worth=value,
            priority=options.priority,
            shot=shot,
        )

    def _spooled(self, item: SpoolItem) -> bool | None:
        """Waits until the spool has taken the crop, or dropped it; None when the gateway was stopped before."""
        while True:
            try:
                return self._spool.put(item, make_room=self._options.live)
            except TransientError:
                if self._stop.wait(_ROOM_POLL_S):
                    return None
