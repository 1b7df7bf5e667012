"""One camera: frames in, crops in the spool. Shares nothing with another camera but the spool, which is thread-safe."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from edge_uploader.capture.sources import Frame, Source, SourceUnusable
from edge_uploader.delivery.spool import Spool, SpoolItem
from edge_uploader.selection.best_shot import BestShotOptions, BestShots, Shot, worth
from edge_uploader.selection.crops import Crop, CropOptions, Encoder, completeness, cut, long_axis_px
from edge_uploader.selection.tracker import Track, Tracker, TrackerOptions
from shared import telemetry
from shared.domain import Face, Quality, UInt8Array, check_place_id
from shared.errors import FacerelayError, InvalidInput, TransientError
from shared.ports import Detector

logger = logging.getLogger(__name__)

_ROOM_POLL_S = 1.0


@dataclass(frozen=True, slots=True)
class CameraSpec:
    """A camera as the operator names it.

    Attributes:
        name: the camera's id.
        source: a video file, a folder of images, `rtsp://…`, `http://…`, or a webcam's index.
        location: where it is; empty when the gateway's default is meant.
        priority: 1 (low) to 9 (high): whose crops go first.
    """

    name: str
    source: str
    location: str = ""
    priority: int = 5

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
        low_confidence: weaker detections are dropped.
        min_face_px: faces smaller on the long axis are dropped.
        every_frame: send every face at or above `tracker.high_confidence` of every frame: no tracker, no choice.
    """

    site: str
    location: str
    low_confidence: float = 0.3
    min_face_px: int = 32
    every_frame: bool = False
    crops: CropOptions = field(default_factory=CropOptions)
    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    shots: BestShotOptions = field(default_factory=BestShotOptions)


@dataclass(slots=True)
class CameraStats:
    """What became of a camera's frames and faces.

    Attributes:
        state: `waiting`, `running`, `finished`, `failed`.
        error: why it failed, or what is wrong at the moment.
        frames: looked at by the detector.
        detections: faces at or above the low threshold and the minimum size.
        tracks: confirmed ones; with `every_frame`, the crops.
        crops, bytes: put into the spool.
        lost: crops that found no room before the gateway was stopped.
        position_s: of the last frame in its source.
        busy_s: spent on frames, waiting for the source not counted.
    """

    camera: str
    location: str
    state: str = "waiting"
    error: str | None = None
    frames: int = 0
    frames_grabbed: int = 0
    frames_skipped: int = 0
    frames_dropped: int = 0
    images_unreadable: dict[str, int] = field(default_factory=dict)
    reconnects: int = 0
    detections: int = 0
    tracks: int = 0
    crops: int = 0
    bytes: int = 0
    lost: int = 0
    position_s: float = 0.0
    busy_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Every field, and `frames_per_s`: the rate that the detector and all after it would keep up with."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        rate = self.frames / self.busy_s if self.busy_s else 0.0
        return values | {
            "busy_s": round(self.busy_s, 3),
            "position_s": round(self.position_s, 3),
            "frames_per_s": round(rate, 1),
        }


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
        encode: to JPEG, such as `shared.vision.decode.encode_jpeg`.
        run: prefix of the track ids, one for each run of the gateway.
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
        self._name, self._source, self._detector = name, source, detector
        self._spool, self._options = spool, options
        self._assess, self._encode, self._observer = assess, encode, observer
        self._tracker = Tracker(options.tracker, run=run)
        self._shots: dict[str, BestShots[Crop]] = {}
        self._numbers: defaultdict[str, int] = defaultdict(int)
        self._stop = threading.Event()
        self._working_since: float | None = None
        self._stats = CameraStats(name, options.location)
        self._labels = telemetry.place(options.site, name)

    @property
    def name(self) -> str:
        return self._name

    def stats(self) -> CameraStats:
        """A current view; may be asked for from another thread."""
        counts, stats = self._source.counts, self._stats
        stats.frames_grabbed, stats.frames_skipped = counts.grabbed, counts.skipped
        stats.frames_dropped, stats.reconnects = counts.dropped, counts.reconnects
        stats.images_unreadable = dict(counts.unreadable)
        if stats.state != "failed":
            stats.error = self._source.problem
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
            self._fail(f"unexpected {type(error).__name__}, see the log")
            logger.exception("camera failed", extra={"action": "camera_failed", "camera": self._name})
        finally:
            if self._observer is not None:
                self._observer.close()

    def _fail(self, message: str) -> None:
        self._stats.state, self._stats.error = "failed", message

    def _work(self) -> None:
        try:
            for frame in self._source.frames():
                began = self._working_since = time.perf_counter()
                self._process(frame)
                self._working_since = None
                self._stats.busy_s += time.perf_counter() - began
                if self._stop.is_set():
                    break
        finally:
            # A source that broke off has still shown what it showed.
            for track in self._tracker.finish():
                self._end(track)

    def _process(self, frame: Frame) -> None:
        options, stats = self._options, self._stats
        faces = [
            face
            for face in self._detector.detect(frame.image)
            if face.confidence >= options.low_confidence and long_axis_px(face) >= options.min_face_px
        ]
        stats.frames += 1
        stats.detections += len(faces)
        telemetry.EDGE_FRAMES.add(self._labels)
        telemetry.EDGE_FACES.add(self._labels, len(faces))
        stats.position_s = frame.position_s
        if options.every_frame or not self._source.continuous:
            seen = self._send_all(frame, faces)
        else:
            seen = self._follow(frame, faces)
        if self._observer is not None:
            self._observer.frame(frame, seen)

    def _send_all(self, frame: Frame, faces: list[Face]) -> list[Track]:
        """The seed's way: each face is sent, as a track of its own."""
        tracker = Tracker(self._options.tracker)
        strong = [face for face in faces if face.confidence >= self._options.tracker.high_confidence]
        seen = tracker.update(strong, frame.position_s).seen
        for track in seen:
            track.id = self._tracker.next_id()
            self._stats.tracks += 1
            self._send(track.id, self._cut(frame, track.face))
            self._numbers.pop(track.id, None)
        return seen

    def _follow(self, frame: Frame, faces: list[Face]) -> list[Track]:
        """Tracks, and sends what is worth it."""
        update = self._tracker.update(faces, frame.position_s)
        for track in update.ended:
            self._end(track)
        for track in update.seen:
            if not track.confirmed:
                continue
            if track.id not in self._shots:
                self._shots[track.id] = BestShots(self._options.shots)
                self._stats.tracks += 1
            for shot in self._offer(frame, track):
                self._send(track.id, shot.payload)
        return update.seen

    def _offer(self, frame: Frame, track: Track) -> list[Shot[Crop]]:
        face = track.face
        height, width = frame.image.shape[:2]
        value = worth(self._assess(frame.image, face), completeness(face.box, width, height))
        return self._shots[track.id].offer(value, frame.position_s, lambda: self._cut(frame, face))

    def _end(self, track: Track) -> None:
        shots = self._shots.pop(track.id, None)
        for shot in shots.finish() if shots else []:
            self._send(track.id, shot.payload)
        self._numbers.pop(track.id, None)

    def _cut(self, frame: Frame, face: Face) -> Crop:
        # An own copy of a small part: a view would keep the whole frame in memory for as long as the shot is held.
        return cut(np.asarray(frame.image), face, frame.captured_at, self._options.crops, self._encode)

    def _send(self, track: str, crop: Crop) -> None:
        """Puts a crop into the spool; while that has no room, this camera stands still.

        The trace that begins here travels in the crop's metadata, up to the stored detection.
        """
        with telemetry.span("edge.crop", kind=telemetry.PRODUCER, attributes=self._labels):
            sent = self._spooled(track, crop)
        if not sent:
            self._stats.lost += 1
            telemetry.EDGE_LOST.add(self._labels)
            logger.error("a crop found no room", extra={"action": "crop_lost", "camera": self._name})
            return
        self._stats.crops += 1
        self._stats.bytes += len(crop.jpeg)
        telemetry.EDGE_CROPS.add(self._labels)
        if self._observer is not None:
            self._observer.crop(track, crop)

    def _spooled(self, track: str, crop: Crop) -> bool:
        """Waits until the spool has taken the crop; False when the gateway was stopped before."""
        options = self._options
        candidate = crop.to_candidate(
            site=options.site,
            camera=self._name,
            location=options.location,
            track=track,
            shot=self._numbers[track],
            detector=self._detector.detector_id,
        )
        self._numbers[track] += 1
        metadata = candidate.to_metadata() | telemetry.traceparent()
        item = SpoolItem(candidate.blob_name, crop.jpeg, metadata, candidate.to_tags())
        while True:
            try:
                self._spool.put(item)
                return True
            except TransientError:
                if self._stop.wait(_ROOM_POLL_S):
                    return False
