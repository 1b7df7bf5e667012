"""Recognition of a video: colours, order, parallel sending, following; against a service on loopback."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge_uploader.selection.tracker import Sighting
from local.cli.recognize import _shown
from local.client import Client
from local.display import VideoSink, frames_per_second
from local.draw import BLUE, GREEN, RED, WHITE
from local.live import LiveOptions, LiveRecognition
from local.sending import Answer, Sender, percentile
from local.verdict import Follower, Verdict, choose
from shared.domain import UInt8Array
from shared.errors import StoreUnavailable
from tests.unit.edge.fakes import ColourDetector, face, picture, square, write_video

FRAMES, FPS = 24, 6.0


class Slow:
    """A service that takes a while for each picture, and says who is in it.

    Attributes:
        label: whom it sees; None for no face.
        most: requests it had at one time.
    """

    def __init__(self) -> None:
        self.label: str | None = "ann"
        self.seconds, self.status = 0.0, 200
        self.under_way = self.most = self.asked = 0
        self.guard = threading.Lock()
        self.url = ""

    def answer(self) -> dict[str, Any]:
        with self.guard:
            self.asked += 1
            self.under_way += 1
            self.most = max(self.most, self.under_way)
        time.sleep(self.seconds)
        with self.guard:
            self.under_way -= 1
        box = {"left": 20, "top": 20, "right": 80, "bottom": 80}
        found = [{"top_prediction": {"label": self.label, "confidence": 0.9}, "bounding_box": box}]
        return {"faces": found if self.label else [], "rejected": []}


@pytest.fixture
def slow() -> Iterator[Slow]:
    made = Slow()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            body = json.dumps(made.answer()).encode()
            self.send_response(made.status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    made.url = f"http://127.0.0.1:{server.server_port}"
    yield made
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    """One face in every frame, four seconds at six frames a second."""
    path = tmp_path_factory.mktemp("video") / "walk.avi"
    write_video(str(path), [picture((10 + 5 * n, 80, 60 + 5 * n, 140)) for n in range(FRAMES)], fps=FPS)
    return str(path)


class Seen:
    """A sink that keeps what it is shown."""

    def __init__(self, most: int = 10**6) -> None:
        self.images: list[UInt8Array] = []
        self.at_s: list[float] = []
        self.most = most

    def show(self, image: UInt8Array, position_s: float) -> bool:
        self.images.append(image)
        self.at_s.append(position_s)
        return len(self.images) < self.most

    def close(self) -> None: ...


def drawn(image: UInt8Array, colour: tuple[int, int, int]) -> bool:
    """Whether the picture has a box of that colour, and of no other."""
    return {c for c in (RED, BLUE, GREEN, WHITE) if (image == c).all(axis=2).sum() > 100} == {colour}


def answered(who: str, left: int) -> dict[str, Any]:
    box = {"left": left, "top": 0, "right": left + 20, "bottom": 20}
    return {"top_prediction": {"label": who, "confidence": 0.9}, "bounding_box": box}


def live(slow: Slow, **options: Any) -> LiveRecognition:
    made = LiveOptions(**{"fps": 0.0, **options})
    return LiveRecognition(Sender(Client(slow.url), dry_run=made.dry_run), made, detector=ColourDetector())


@pytest.mark.parametrize(
    ("label", "colour", "people", "other"),
    [("ann", GREEN, {"ann": FRAMES}, {}), ("unknown", BLUE, {"unknown": FRAMES}, {}),
     (None, RED, {}, {"no_face": FRAMES})],
)  # fmt: skip
def test_the_seeds_colours(slow: Slow, clip: str, label: str | None, colour, people, other) -> None:
    slow.label, seen = label, Seen()
    summary = live(slow).run(clip, [seen])
    assert (summary["frames"], summary["faces"], summary["asked"]) == (FRAMES, FRAMES, FRAMES)
    assert (summary["people"], summary["not_recognised"]) == (people, other)
    assert drawn(seen.images[3], colour)
    assert seen.at_s == sorted(seen.at_s)


def test_an_unsure_name_is_not_shown(slow: Slow, clip: str) -> None:
    assert live(slow, min_confidence=0.95).run(clip, [])["people"] == {"unknown": FRAMES}


def test_requests_overlap_across_frames_up_to_the_bound(slow: Slow, clip: str) -> None:
    """With one face a frame, frame by frame would take 24 times 80 ms and have one under way."""
    slow.seconds = 0.08
    began = time.monotonic()
    live(slow, parallel=6).run(clip, [])
    assert slow.most == 6
    assert time.monotonic() - began < 0.6 * FRAMES * slow.seconds


def test_reading_waits_for_a_slow_service(slow: Slow, clip: str) -> None:
    slow.seconds, seen = 0.02, Seen(most=2)
    made = live(slow, parallel=2)
    assert made.run(clip, [seen])["frames"] == 2
    assert slow.asked <= 2 + 2 + 3 + 2, "shown, under way, waiting, one in hand each"


def test_a_dry_run_asks_for_nothing_and_draws_white(slow: Slow, clip: str) -> None:
    seen = Seen()
    summary = live(slow, dry_run=True).run(clip, [seen])
    assert summary["people"] == summary["not_recognised"] == {}
    assert summary["asked"] == FRAMES and drawn(seen.images[3], WHITE)


def test_a_followed_face_is_asked_for_once_a_second_and_keeps_its_name(slow: Slow, clip: str) -> None:
    seen = Seen()
    summary = live(slow, tracked=True).run(clip, [seen])
    assert summary["people"] == {"ann": FRAMES}
    assert 4 <= summary["asked"] <= 6 < FRAMES


def test_small_faces_are_not_asked_for(slow: Slow, clip: str) -> None:
    assert live(slow, min_size=100).run(clip, [])["asked"] == 0


def test_a_service_that_fails_ends_it_with_its_word(slow: Slow, clip: str) -> None:
    slow.status = 503
    with pytest.raises(StoreUnavailable):
        live(slow).run(clip, [])
    assert not [thread for thread in threading.enumerate() if thread.name.startswith(("ask", "look"))]


class TestVerdict:
    def test_the_nearest_face_of_a_crop_is_meant(self) -> None:
        faces = [answered("neighbour", 80), answered("ann", 30)]
        assert Verdict.of(Answer(faces), (45, 10)).label == "ann"

    def test_a_face_that_is_too_poor_says_why(self) -> None:
        poor = {"reason": "too_dark", "bounding_box": {"left": 0, "top": 0, "right": 9, "bottom": 9}}
        verdict = Verdict.of(Answer(rejected=[poor]), (4, 4))
        assert (verdict.label, verdict.drawn(0.5)) == (None, (RED, "too_dark"))

    def test_a_picture_that_was_not_taken_is_red(self) -> None:
        assert Verdict.of(Answer(refused="no"), (0, 0)).drawn(0.0)[0] == RED

    def test_a_name_outlives_a_bad_look(self) -> None:
        ann, unknown, nothing = Verdict("ann", 0.8), Verdict("unknown", 0.9), Verdict(None, reason="no_face")
        assert choose([ann, unknown, nothing]) == ann
        assert choose([Verdict("bob", 0.6), ann]) == ann
        assert choose([unknown, nothing]) == unknown
        assert choose([nothing]) == nothing

    def test_a_larger_view_is_asked_for_at_once(self) -> None:
        follower, asked = Follower(0.5), []

        def ask(found) -> Future[Verdict]:
            asked.append(found)
            return Future()

        for at_s, side in ((0.0, 40), (0.1, 44), (0.2, 60)):
            follower.questions([Sighting(square(100, 100, side))], at_s, ask)
        assert [round(found.width_px) for found in asked] == [40, 60]

    def test_each_face_has_its_own_answers(self) -> None:
        follower = Follower(0.5)
        faces = [Sighting(face(0, 0, 40, 40)), Sighting(face(200, 0, 240, 40))]
        found = follower.questions(faces, 0.0, lambda _: Future())
        assert found[0].answers != found[1].answers


class TestVideoSink:
    def test_the_video_is_as_long_as_what_it_shows(self, tmp_path: Path) -> None:
        sink = VideoSink(tmp_path / "new" / "o.mp4", 10.0)
        for at_s in (5.0, 5.1, 5.12, 5.5, 6.0):
            sink.show(picture(size=(321, 241)), at_s)
        sink.close()
        capture = cv2.VideoCapture(str(tmp_path / "new" / "o.mp4"))
        assert capture.get(cv2.CAP_PROP_FRAME_COUNT) == 11
        assert (capture.get(cv2.CAP_PROP_FRAME_WIDTH), capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) == (320, 240)

    def test_a_camera_that_changes_its_size_is_fitted(self, tmp_path: Path) -> None:
        sink = VideoSink(tmp_path / "o.mp4", 10.0)
        for n, size in enumerate([(320, 240), (640, 480)]):
            assert sink.show(picture(size=size), n / 10)
        sink.close()
        assert cv2.VideoCapture(str(tmp_path / "o.mp4")).get(cv2.CAP_PROP_FRAME_COUNT) == 2

    def test_the_rate_is_what_was_looked_at(self, clip: str) -> None:
        assert frames_per_second(clip, 0.0, 0) == pytest.approx(6)
        assert frames_per_second(clip, 2.0, 0) == 2
        assert frames_per_second(clip, 0.0, 2) == pytest.approx(2)
        assert frames_per_second("0", 0.0, 0) == 25


def test_percentiles_are_values_that_were_measured() -> None:
    values = [float(n) for n in range(1, 101)]
    assert [percentile(values, share) for share in (0.5, 0.95, 1.0)] == [50, 95, 100]
    assert percentile([7.0], 0.95) == 7


def test_figures_of_what_was_sent(slow: Slow) -> None:
    sender = Sender(Client(slow.url))
    data = cv2.imencode(".png", np.zeros((40, 60, 3), np.uint8))[1].tobytes()
    sender.send(data)
    values = sender.stats.to_json()
    assert (values["sent"], values["bytes"], values["faces"]) == (1, len(data), 1)
    assert (values["average_width_px"], values["average_height_px"], values["average_px"]) == (60, 40, 2400)


@pytest.mark.parametrize(
    ("source", "shown"),
    [("rtsp://me:secret@10.0.0.9/ch1", "rtsp://10.0.0.9"), ("0", "0"), ("a folder/video.mp4", "a folder/video.mp4")],
)
def test_a_source_is_shown_without_its_password(source: str, shown: str) -> None:
    assert _shown(source) == shown
