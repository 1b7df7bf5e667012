"""Recognition of a video while a person watches: every face of every frame looked at is asked for, and drawn.

Three stages at once: a thread that decodes and looks for faces, threads that cut, send and wait, and the thread of the
caller, which draws in the order of the video. What lies between them is bounded, so a slow service slows the reading
and does not fill the memory.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from edge_uploader.capture.ahead import read_ahead
from edge_uploader.capture.sources import Frame, Source
from edge_uploader.gateway import crop_options, load_edge_detector
from edge_uploader.opening import open_source
from edge_uploader.selection.crops import crop_region, cut, long_axis_px
from edge_uploader.selection.tracker import sightings_of
from edge_uploader.settings import EdgeSettings
from local.display import Sink
from local.draw import WHITE, Box, draw_boxes
from local.sending import Sender
from local.verdict import Follower, Question, Verdict, verdict_of
from shared.domain import Face, UInt8Array
from shared.ports import Detector
from shared.vision.decode import encoder_of

GIVE_UP_S: Final = 15.0
"""A camera or stream that gives no frame for so long is given up."""
_AHEAD: Final = 3


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """What is asked, and how.

    Attributes:
        fps, skip_frames: as of `EdgeSettings`.
        seconds: end after so long by the clock on the wall; 0 for never.
        min_size, max_size: of a face's long axis in pixels; smaller ones are left out, larger ones sent scaled down.
        min_confidence: from which on a name is shown.
        parallel: requests under way at a time, across frames.
        dry_run: nothing is asked; faces are drawn white.
        tracked: a face is followed, and asked for again only now and then; else each face of each frame is.
    """

    fps: float = 6.0
    skip_frames: int = 0
    seconds: float = 0.0
    min_size: int = 32
    max_size: int = 256
    min_confidence: float = 0.5
    parallel: int = 4
    dry_run: bool = False
    tracked: bool = False


class LiveRecognition:
    """Detects here, asks the service for each face, draws the answers.

    Args:
        sender: of the service.
        detector: another one than the gateway's, in tests.
    """

    def __init__(self, sender: Sender, options: LiveOptions, *, detector: Detector | None = None) -> None:
        # A person waits for this: what does not open is given up, and not tried for ever as a gateway would.
        self._settings = EdgeSettings().model_copy(
            update={
                "edge_fps": options.fps,
                "edge_skip_frames": options.skip_frames,
                "edge_stream_give_up_s": GIVE_UP_S,
                "edge_min_face_px": options.min_size,
            }
        )
        self._detector = detector or load_edge_detector(self._settings)
        self._sender, self._options = sender, options
        self._crops = crop_options(self._settings.model_copy(update={"edge_max_face_px": options.max_size}))
        self._follower = Follower(self._settings.edge_high_confidence) if options.tracked else None

    def run(self, source: str, sinks: Sequence[Sink], on_frame: Callable[[], None] = lambda: None) -> dict[str, Any]:
        """Works through `source`; returns counts of frames, faces, people, and of what was not recognised and why.

        A sink that has seen enough ends it. Sinks are not closed.

        Raises:
            SourceUnusable: it cannot be opened, or breaks off.
            InvalidInput: the video cannot be written.
            StoreUnavailable: the service does not answer.
        """
        people, rejected = Counter[str](), Counter[str]()
        frames = faces = 0
        began = time.monotonic()
        with self._pipeline(open_source(source, self._settings)) as ready:
            for frame, questions in ready:
                verdicts = [(question.face, verdict_of(question)) for question in questions]
                frames, faces = frames + 1, faces + len(verdicts)
                self._count(verdicts, people, rejected)
                drawn = draw_boxes(frame.image, [self._box(frame.image, *each) for each in verdicts])
                on_frame()
                if not all([sink.show(drawn, frame.position_s) for sink in sinks]):
                    break
                if self._options.seconds and time.monotonic() - began > self._options.seconds:
                    break
        elapsed_s = time.monotonic() - began
        return {
            "frames": frames,
            "faces": faces,
            "asked": self._sender.stats.sent,
            "people": dict(people.most_common()),
            "not_recognised": dict(rejected.most_common()),
            "elapsed_s": round(elapsed_s, 2),
            "frames_per_s": round(frames / elapsed_s, 2) if elapsed_s else 0.0,
        }

    def _count(self, found: list[tuple[Face, Verdict]], people: Counter[str], rejected: Counter[str]) -> None:
        if self._options.dry_run:
            return
        for _, verdict in found:
            if verdict.label is None:
                rejected[verdict.reason] += 1
            else:
                people[verdict.shown(self._options.min_confidence)] += 1

    def _box(self, image: UInt8Array, face: Face, verdict: Verdict) -> Box:
        place = crop_region(face.box, 0.0, image.shape[1], image.shape[0])
        if self._options.dry_run:
            return Box(place, WHITE)
        return Box(place, *verdict.drawn(self._options.min_confidence))

    @contextmanager
    def _pipeline(self, opened: Source) -> Iterator[Iterator[tuple[Frame, list[Question]]]]:
        """Frames with their questions under way, in order; ends reading and sending when it is left."""
        pool = ThreadPoolExecutor(self._options.parallel, thread_name_prefix="ask")
        asked = ((frame, self._ask(frame, pool)) for frame in opened.frames())
        ready = read_ahead(asked, depth=self._options.parallel + _AHEAD)
        try:
            yield ready
        finally:
            opened.close()
            ready.close()
            pool.shutdown(cancel_futures=True)

    def _ask(self, frame: Frame, pool: ThreadPoolExecutor) -> list[Question]:
        threshold = self._settings.edge_high_confidence
        faces = [
            face
            for face in self._detector.detect(frame.image)
            if face.confidence >= threshold and long_axis_px(face) >= self._options.min_size
        ]

        def ask(face: Face) -> Future[Verdict]:
            return pool.submit(self._send, frame, face)

        if self._follower is not None:
            return self._follower.questions(sightings_of(frame.image, faces), frame.position_s, ask)
        return [Question(face, (ask(face),)) for face in faces]

    def _send(self, frame: Frame, face: Face) -> Verdict:
        """Asks the service who one face is; a crop may hold a neighbour's face too."""
        crop = cut(frame.image, face, frame.captured_at, self._crops, encoder_of(self._crops.format))
        height, width = frame.image.shape[:2]
        left, top, right, bottom = crop_region(face.box, self._crops.margin, width, height)
        scale = crop.size[0] / (right - left), crop.size[1] / (bottom - top)
        x, y = (face.box[:2] + face.box[2:]) / 2
        centre = (float(x) - left) * scale[0], (float(y) - top) * scale[1]
        return Verdict.of(self._sender.send(crop.data, crop.size), centre)
