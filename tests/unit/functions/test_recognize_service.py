"""What becomes of a crop from the edge, however often it is delivered and whatever is in it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from functions.recognize.service import DetectionService, Provenance, Recognizer, most_central
from shared.adapters.local import LocalDetectionRepository, LocalStore
from shared.domain import (
    UNKNOWN,
    Candidate,
    Detection,
    Embeddings,
    Face,
    Float32Array,
    Outcome,
    UInt8Array,
    detection_id,
    sha256_hex,
)
from shared.errors import ImageTooLarge, InvalidIdentifier, InvalidImage, StoreUnavailable
from shared.matching.model import MatcherModel, camera_key
from shared.ports import DetectionFilter
from shared.serving import Serving
from shared.vision.decode import ImageLimits
from shared.vision.quality import QualityGate
from tests.support import (
    BLUE,
    EMBEDDER_ID,
    GREEN,
    NOW,
    OPERATING,
    RED,
    YELLOW,
    ColourEmbedder,
    PatchDetector,
    TickingClock,
    candidate,
    colour_pack,
    colour_vector,
    face,
    matcher,
    picture,
    png,
    portrait,
    probes,
    serving,
)

NAME = "hq/entrance/2026/01/02/x.png"


class Detections(LocalDetectionRepository):
    """The real repository, which can be told to fail when an outcome is written."""

    fault: Exception | None = None

    def record_outcome(self, outcome: Outcome) -> bool:
        if self.fault:
            fault, self.fault = self.fault, None
            raise fault
        return super().record_outcome(outcome)

    def everything(self) -> list[Detection]:
        return list(self.list(DetectionFilter(), page_size=1000).detections)


class Live:
    """Gives a model; counts how often it is asked."""

    def __init__(self, model: MatcherModel) -> None:
        self.model = model
        self.calls = 0
        self.fault: Exception | None = None

    def __call__(self) -> MatcherModel:
        self.calls += 1
        if self.fault:
            raise self.fault
        return self.model


@pytest.fixture
def detections(tmp_path: Path) -> Iterator[Detections]:
    store = LocalStore(tmp_path)
    yield Detections(store)
    store.close()


@pytest.fixture
def live() -> Live:
    return Live(matcher({"ann": colour_vector(RED), "bob": colour_vector(GREEN)}))


@pytest.fixture
def detector() -> PatchDetector:
    return PatchDetector()


class CountingEmbedder(ColourEmbedder):
    """Counts the faces that it was given. Its second look may see something else."""

    second: Float32Array | None = None

    def __init__(self) -> None:
        super().__init__()
        self.embedded = 0
        self.looked_again = 0

    def embed(self, images: Sequence[UInt8Array], faces: Sequence[Face]) -> Embeddings:
        self.embedded += len(faces)
        return super().embed(images, faces)

    def embed_reference(self, images: Sequence[UInt8Array], faces: Sequence[Face]) -> Embeddings:
        self.looked_again += len(faces)
        return super().embed(images, faces) if self.second is None else probes(self.second)


def colour_at(similarity: float) -> tuple[int, int, int]:
    """A strong colour whose cosine to red is this within 0.01: red turned away from green, so never Bob's."""
    red = colour_vector(RED)[:3]
    away = -colour_vector(GREEN)[:3]
    away -= (away @ red) * red
    away /= np.linalg.norm(away)
    row = similarity * red + np.sqrt(1 - similarity**2) * away
    levels = np.rint(127 + 120 * row / np.abs(row).max()).astype(int)
    return int(levels[0]), int(levels[1]), int(levels[2])


@pytest.fixture
def recognizer(live: Live, detector: PatchDetector) -> Recognizer:
    return recognizer_of(lambda: serving(live(), detector=detector))


def recognizer_of(serving: Callable[[], Serving]) -> Recognizer:
    return Recognizer(
        serving=serving,
        gate=QualityGate(min_size_px=20, min_sharpness=0, min_confidence=0.9),
        limits=ImageLimits(max_bytes=200_000, max_pixels=1_000_000),
        max_faces=3,
        slot=threading.Semaphore(1),
    )


def service_of(recognizer: Recognizer, detections: Detections, *, keep_unknown: bool = True) -> DetectionService:
    return DetectionService(
        recognizer=recognizer,
        detections=detections,
        store_unknown_embeddings=keep_unknown,
        clock=TickingClock(),
    )


@pytest.fixture
def service(recognizer: Recognizer, detections: Detections) -> DetectionService:
    return service_of(recognizer, detections)


def deliver(service: DetectionService, data: bytes, **changes: object) -> Outcome:
    made = candidate(data, **changes)
    return service.store_candidate(made.blob_name, data, made.to_metadata())


def ann_among_others(**margins: float) -> MatcherModel:
    """Ann, who stands out from a crowd of thirty, at a threshold of 0.8."""
    others = {f"p{number:02d}": colour_vector(BLUE) for number in range(30)}
    model = matcher({"ann": colour_vector(RED), **others})
    return replace(model, operating=replace(OPERATING, threshold=0.8, **margins))


class TestCandidate:
    def test_a_known_face_is_one_detection_with_everything_that_is_known(
        self, service: DetectionService, detections: Detections
    ) -> None:
        data = portrait(RED)
        outcome = deliver(service, data)
        assert (outcome.status, outcome.reason, outcome.faces) == ("detected", None, 1)
        [stored] = detections.everything()
        made = candidate(data)
        assert stored.id == detection_id(made.blob_name, sha256_hex(data), 0)
        assert (stored.person_id, stored.model_id, stored.embedder_id) == (
            "ann",
            "20260101T000000.000000Z-0000",
            EMBEDDER_ID,
        )
        assert (stored.site, stored.camera, stored.location) == ("hq", "entrance", "lobby")
        assert stored.captured_at == NOW < stored.processed_at
        assert (stored.track, stored.frame_box, stored.candidate) == ("a1", (10, 20, 50, 70), made.blob_name)
        assert stored.face_box == (80, 80, 160, 160)
        assert stored.similarity > stored.threshold == 0.5 and stored.confidence > 0.9
        assert stored.embedding is None, "the embedding of somebody known is not kept"

    def test_a_stranger_is_unknown_with_an_embedding_to_group_by(
        self, service: DetectionService, detections: Detections
    ) -> None:
        assert deliver(service, portrait(BLUE)).status == "detected"
        [stored] = detections.everything()
        assert stored.person_id == UNKNOWN
        assert stored.embedding == pytest.approx(colour_vector(BLUE), abs=1e-3)

    def test_the_embedding_of_strangers_can_be_switched_off(
        self, recognizer: Recognizer, detections: Detections
    ) -> None:
        deliver(service_of(recognizer, detections, keep_unknown=False), portrait(BLUE))
        assert detections.everything()[0].embedding is None

    def test_a_second_delivery_changes_nothing_and_does_no_work(
        self, service: DetectionService, detections: Detections, detector: PatchDetector
    ) -> None:
        first = deliver(service, portrait(RED))
        assert deliver(service, portrait(RED)) == first
        assert len(detections.everything()) == 1
        assert detector.calls == 1

    def test_interrupted_before_the_outcome_it_is_done_again_into_the_same_detection(
        self, service: DetectionService, detections: Detections
    ) -> None:
        detections.fault = StoreUnavailable("gone")
        with pytest.raises(StoreUnavailable):
            deliver(service, portrait(RED))
        assert deliver(service, portrait(RED)).status == "detected"
        assert len(detections.everything()) == 1

    def test_other_bytes_under_the_same_name_are_another_detection(
        self, service: DetectionService, detections: Detections
    ) -> None:
        deliver(service, portrait(RED))
        deliver(service, portrait(RED, shift=1))
        assert len({d.id for d in detections.everything()}) == 2

    def test_of_several_faces_the_central_one_is_meant(self, service: DetectionService, detections: Detections) -> None:
        """The crop was cut around one face; a larger one at its edge is somebody else, who has a crop of his own."""
        data = png(picture(((100, 100, 140, 140), RED), ((0, 0, 90, 90), GREEN)))
        deliver(service, data)
        assert [d.person_id for d in detections.everything()] == ["ann"]

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (png(picture()), "no_face"),
            (portrait(RED, side=12), "too_small"),
        ],
    )
    def test_what_cannot_be_recognised_is_rejected_with_the_reason(
        self, service: DetectionService, detections: Detections, data: bytes, reason: str
    ) -> None:
        outcome = deliver(service, data)
        assert (outcome.status, outcome.reason, outcome.faces) == ("rejected", reason, 0)
        assert detections.everything() == []

    def test_an_unsure_detector_is_rejected(
        self, service: DetectionService, detections: Detections, detector: PatchDetector
    ) -> None:
        detector.confidence = 0.89
        assert deliver(service, portrait(RED)).reason == "low_confidence"

    @pytest.mark.parametrize(
        ("data", "code"),
        [
            (b"", "invalid_image"),
            (b"not a picture", "invalid_image"),
            (portrait(RED)[:200], "invalid_image"),
            (b"x" * 200_001, "image_too_large"),
        ],
    )
    def test_what_is_no_picture_fails_for_good(
        self, service: DetectionService, detections: Detections, data: bytes, code: str
    ) -> None:
        outcome = deliver(service, data)
        assert (outcome.status, outcome.reason) == ("failed", code)
        assert (outcome.site, outcome.camera) == ("hq", "entrance")
        assert detections.everything() == []

    def test_bytes_of_another_hash_fail_for_good(self, service: DetectionService, detections: Detections) -> None:
        made = candidate(b"what was sent")
        outcome = service.store_candidate(made.blob_name, portrait(RED), made.to_metadata())
        assert (outcome.status, outcome.reason) == ("failed", "integrity")
        assert detections.everything() == []

    @pytest.mark.parametrize(
        "name", ["branch/entrance/2026/01/02/x.png", "hq/exit/2026/01/02/x.png", "hq", "x.png", "/hq/entrance/x.png"]
    )
    def test_a_crop_filed_under_another_place_than_it_claims_fails_for_good(
        self, service: DetectionService, detections: Detections, name: str
    ) -> None:
        outcome = service.store_candidate(name, portrait(RED), candidate(portrait(RED)).to_metadata())
        assert (outcome.status, outcome.reason, outcome.candidate) == ("failed", "invalid_input", name)
        assert detections.everything() == []

    def test_places_are_compared_as_they_are_spelled_in_names(self, service: DetectionService) -> None:
        assert deliver(service, portrait(RED), site="h q", camera="Tür/1").status == "detected"

    @pytest.mark.parametrize(
        ("metadata", "code"),
        [
            ({}, "unknown_schema"),
            ({"schema": "2", "site": "hq"}, "unknown_schema"),
            ({"schema": "1"}, "invalid_input"),
            (candidate().to_metadata() | {"camera": "x" * 65}, "invalid_identifier"),
        ],
    )
    def test_metadata_that_cannot_be_read_fails_for_good(
        self, service: DetectionService, detections: Detections, metadata: dict[str, str], code: str
    ) -> None:
        outcome = service.store_candidate(NAME, portrait(RED), metadata)
        assert (outcome.status, outcome.reason, outcome.candidate) == ("failed", code, NAME)

    def test_every_ending_is_listed_once(self, service: DetectionService, detections: Detections) -> None:
        for data in (portrait(RED), png(picture()), b"", portrait(RED)):
            deliver(service, data)
        assert sorted(o.status for o in detections.list_outcomes()) == ["detected", "failed", "rejected"]

    def test_a_passing_fault_is_raised_for_the_host_to_retry(
        self, service: DetectionService, detections: Detections, live: Live
    ) -> None:
        live.fault = StoreUnavailable("models are away")
        with pytest.raises(StoreUnavailable):
            deliver(service, portrait(RED))
        assert list(detections.list_outcomes()) == [] and detections.everything() == []
        live.fault = None
        assert deliver(service, portrait(RED)).status == "detected"

    def test_nothing_personal_is_logged(self, service: DetectionService, caplog: pytest.LogCaptureFixture) -> None:
        with caplog.at_level("DEBUG"):
            deliver(service, portrait(RED))
        said = " ".join(f"{record.getMessage()} {sorted(vars(record).items(), key=str)}" for record in caplog.records)
        assert "ann" not in said.split() and "'ann'" not in said

    def test_a_camera_with_a_threshold_of_its_own_is_held_to_it(
        self, service: DetectionService, detections: Detections, live: Live
    ) -> None:
        cameras = {camera_key("hq", "entrance"): 0.9, camera_key("branch", "exit"): 0.4}
        live.model = replace(live.model, operating=replace(OPERATING, cameras=cameras))
        data = portrait(colour_at(0.75))
        places = [("hq", "entrance"), ("hq", "exit"), ("branch", "exit"), ("branch", "entrance")]
        for site, camera in places:
            deliver(service, data, site=site, camera=camera)
        seen = {(d.site, d.camera): (d.person_id, d.threshold) for d in detections.everything()}
        assert [seen[place] for place in places] == [(UNKNOWN, 0.9), ("ann", 0.5), ("ann", 0.4), ("ann", 0.5)]

    def test_one_of_a_few_crops_may_be_less_like_somebody_who_stands_out(
        self, service: DetectionService, detections: Detections, live: Live
    ) -> None:
        """And one of all faces of all frames may not, nor an image over HTTP."""
        live.model = ann_among_others(best_shot_margin=0.1)
        data = portrait(colour_at(0.75))
        deliver(service, data, camera="few", chosen=True)
        deliver(service, data, camera="all", chosen=False)
        seen = {d.camera: (d.person_id, d.threshold) for d in detections.everything()}
        assert seen == {"few": ("ann", pytest.approx(0.7)), "all": (UNKNOWN, 0.8)}
        [(found, _)] = service.store_image(data, Provenance("hq", "few", "lobby"))
        assert (found.identity.person_id, found.identity.threshold) == (UNKNOWN, 0.8)

    def test_shots_of_one_visit_are_judged_together(
        self, service: DetectionService, detections: Detections, live: Live
    ) -> None:
        """Nobody by itself, Ann together; of the same track alone, and not what the gateway did not choose."""
        live.model = ann_among_others(visit_margin=0.15)
        data = portrait(colour_at(0.7))
        deliver(service, portrait(colour_at(0.68)), track="t1", shot=0, chosen=True)
        deliver(service, data, track="t2", shot=1, chosen=True)
        deliver(service, data, track="t1", shot=2, chosen=True, camera="exit")
        deliver(service, data, track="t1", shot=3, chosen=False)
        assert {d.person_id for d in detections.everything()} == {UNKNOWN}
        deliver(service, data, track="t1", shot=4, chosen=True)
        [named] = detections.list(DetectionFilter(person_id="ann")).detections
        assert (named.candidate, named.threshold) == (
            candidate(data, track="t1", shot=4, chosen=True).blob_name,
            pytest.approx(0.65, abs=1e-3),
        )
        assert named.similarity == pytest.approx(0.693, abs=0.01), (
            "the mean of three: what was not chosen tells as much"
        )
        assert named.embedding is None, "kept only of whom nobody was recognised"

    def test_a_shot_delivered_again_is_no_second_one(
        self, service: DetectionService, detections: Detections, live: Live
    ) -> None:
        live.model = ann_among_others(visit_margin=0.15)
        detections.fault = StoreUnavailable("outcomes are away")
        with pytest.raises(StoreUnavailable):
            deliver(service, portrait(colour_at(0.7)), chosen=True)
        deliver(service, portrait(colour_at(0.7)), chosen=True)
        assert [d.person_id for d in detections.everything()] == [UNKNOWN]

    def test_an_image_over_http_is_held_to_the_general_threshold(self, service: DetectionService, live: Live) -> None:
        """Its sender says what the camera is called, and may say anything."""
        live.model = replace(live.model, operating=replace(OPERATING, cameras={camera_key("hq", "entrance"): 0.9}))
        [(found, _)] = service.store_image(portrait(colour_at(0.75)), Provenance("hq", "entrance", "lobby"))
        assert (found.identity.person_id, found.identity.threshold) == ("ann", 0.5)


class TestSecondLook:
    """A close call is embedded as templates are, which takes twice the time: only where it may change the answer."""

    @pytest.fixture
    def embedder(self) -> CountingEmbedder:
        return CountingEmbedder()

    @pytest.fixture
    def recognizer(self, live: Live, embedder: CountingEmbedder) -> Recognizer:
        return recognizer_of(lambda: Serving(colour_pack(embedder), live()))

    @pytest.mark.parametrize("similarity", [1.0, 0.62, 0.38, -0.3])
    def test_a_clear_case_is_looked_at_once(
        self, recognizer: Recognizer, embedder: CountingEmbedder, similarity: float
    ) -> None:
        [found] = recognizer.recognize(portrait(colour_at(similarity)))
        assert found.identity.similarity == pytest.approx(similarity, abs=0.01)
        assert (embedder.embedded, embedder.looked_again) == (1, 0)

    @pytest.mark.parametrize("similarity", [0.58, 0.5, 0.42])
    def test_the_second_look_decides_a_close_call(
        self, recognizer: Recognizer, embedder: CountingEmbedder, similarity: float
    ) -> None:
        embedder.second = colour_vector(colour_at(0.9))
        [found] = recognizer.recognize(portrait(colour_at(similarity)))
        assert (embedder.embedded, embedder.looked_again) == (1, 1)
        assert found.identity.person_id == "ann" and found.identity.similarity == pytest.approx(0.9, abs=0.01)
        assert found.embedding.vectors[0] == pytest.approx(embedder.second), "what is stored is what was judged"

    def test_it_may_take_a_name_away_and_is_the_last(self, recognizer: Recognizer, embedder: CountingEmbedder) -> None:
        embedder.second = colour_vector(colour_at(0.48))
        found = recognizer.recognize_crop(portrait(colour_at(0.55)))
        assert found is not None and found.identity.person_id == UNKNOWN
        assert embedder.looked_again == 1, "still close, and not looked at a third time"

    def test_it_is_close_to_the_cameras_own_threshold(
        self, recognizer: Recognizer, embedder: CountingEmbedder, live: Live
    ) -> None:
        live.model = replace(live.model, operating=replace(OPERATING, cameras={"hq/entrance": 0.9}))
        embedder.second = colour_vector(colour_at(0.95))
        data = portrait(colour_at(0.86))
        general = recognizer.recognize_crop(data)
        assert embedder.looked_again == 0 and general is not None and general.identity.person_id == "ann"
        own = recognizer.recognize_crop(data, "hq/entrance")
        assert embedder.looked_again == 1 and own is not None
        assert (own.identity.person_id, own.identity.threshold) == ("ann", 0.9)

    def test_a_rejected_face_is_not_worth_it(self, recognizer: Recognizer, embedder: CountingEmbedder) -> None:
        [found] = recognizer.recognize(portrait(colour_at(0.5), side=12))
        assert found.rejected == "too_small" and embedder.looked_again == 0

    def test_nobody_enrolled_is_no_close_call(
        self, recognizer: Recognizer, embedder: CountingEmbedder, live: Live
    ) -> None:
        live.model = matcher({}, operating=replace(OPERATING, threshold=0.05))
        recognizer.recognize(portrait(RED))
        assert embedder.looked_again == 0

    def test_of_several_faces_only_the_close_one(self, recognizer: Recognizer, embedder: CountingEmbedder) -> None:
        close = colour_at(0.5)
        data = png(picture(((10, 10, 90, 90), RED), ((120, 10, 190, 80), close), ((10, 120, 70, 180), GREEN)))
        found = recognizer.recognize(data)
        assert [f.identity.person_id for f in found][::2] == ["ann", "bob"]
        assert (embedder.embedded, embedder.looked_again) == (3, 1)


class TestImage:
    where = Provenance("http", "cam", "hall")

    def test_every_usable_face_is_stored(self, service: DetectionService, detections: Detections) -> None:
        data = png(picture(((10, 10, 90, 90), RED), ((120, 10, 190, 80), BLUE), ((200, 200, 212, 212), GREEN)))
        found = service.store_image(data, self.where)
        stored = [(face, detection) for face, detection in found if detection is not None]
        assert [face.rejected for face, detection in found if detection is None] == ["too_small"]
        assert sorted(d.person_id for _, d in stored) == ["ann", UNKNOWN]
        kept = detections.everything()
        assert {d.id for d in kept} == {d.id for _, d in stored}
        assert {(d.site, d.camera, d.location, d.track, d.candidate) for d in kept} == {
            ("http", "cam", "hall", None, None)
        }

    def test_the_same_image_twice_is_seen_twice(self, service: DetectionService, detections: Detections) -> None:
        """Unlike a redelivered crop: a caller who sends it again says that it was seen again."""
        service.store_image(portrait(RED), self.where)
        service.store_image(portrait(RED), self.where)
        assert len(detections.everything()) == 2

    def test_places_are_checked(self) -> None:
        with pytest.raises(InvalidIdentifier):
            Provenance("http", "cam\n", "hall")


class TestRecognizer:
    def test_faces_come_as_the_detector_ranks_them_up_to_the_limit(self, recognizer: Recognizer) -> None:
        data = png(
            picture(
                ((0, 0, 40, 40), RED),
                ((60, 0, 110, 50), GREEN),
                ((0, 60, 60, 120), BLUE),
                ((130, 130, 200, 200), YELLOW),
            )
        )
        found = recognizer.recognize(data)
        assert [f.identity.person_id for f in found] == [UNKNOWN, UNKNOWN, "bob"]
        assert [round(f.face.width_px) for f in found] == [70, 60, 50]

    def test_all_faces_of_an_image_are_judged_by_one_model(self, recognizer: Recognizer, live: Live) -> None:
        recognizer.recognize(png(picture(((0, 0, 40, 40), RED), ((60, 0, 110, 50), GREEN))))
        assert live.calls == 1

    def test_a_picture_of_nobody_has_no_answers(self, recognizer: Recognizer, live: Live) -> None:
        assert recognizer.recognize(png(picture())) == []
        assert live.calls == 1, "the detector is of the pair as well"

    def test_limits_hold(self, recognizer: Recognizer) -> None:
        with pytest.raises(ImageTooLarge):
            recognizer.recognize(png(picture(size=(1001, 1000))))
        with pytest.raises(InvalidImage):
            recognizer.recognize(b"GIF89a")

    def test_the_slot_is_given_back_when_it_goes_wrong(self, recognizer: Recognizer) -> None:
        for _ in range(3):
            with pytest.raises(InvalidImage):
                recognizer.recognize(b"")
        assert recognizer.recognize(portrait(RED))[0].identity.person_id == "ann"


def test_the_most_central_face_is_by_its_centre() -> None:
    image = np.zeros((100, 200, 3), np.uint8)
    left, middle = face(0, 0, 90, 90), face(85, 35, 115, 65)
    assert most_central(image, [left, middle]) is middle
    assert most_central(image, []) is None


def test_a_crops_name_is_what_the_host_says_and_not_what_metadata_claims(
    service: DetectionService, detections: Detections
) -> None:
    made: Candidate = replace(candidate(portrait(RED)), track="other")
    outcome = service.store_candidate(NAME, portrait(RED), made.to_metadata())
    assert outcome.candidate == NAME
    assert detections.everything()[0].candidate == NAME


def announcing(
    recognizer: Recognizer, detections: Detections, announce: Callable[[Detection], object]
) -> DetectionService:
    return DetectionService(
        recognizer=recognizer,
        detections=detections,
        store_unknown_embeddings=True,
        clock=TickingClock(),
        announce=announce,
    )


def test_a_detection_is_announced_once_it_is_stored_and_before_the_candidate_is_done(
    recognizer: Recognizer, detections: Detections
) -> None:
    order: list[str] = []

    def announce(detection: Detection) -> None:
        stored = detections.get(detection.id) is not None
        order.append(f"stored {stored}, done {bool(list(detections.list_outcomes()))}")

    service = announcing(recognizer, detections, announce)
    deliver(service, portrait(RED))
    deliver(service, portrait(RED))
    assert order == ["stored True, done False"], "a second delivery of what is done announces nothing"


def test_an_interrupted_candidate_is_announced_again_as_it_was_stored(
    recognizer: Recognizer, detections: Detections, live: Live
) -> None:
    heard: list[Detection] = []
    service = announcing(recognizer, detections, heard.append)
    detections.fault = StoreUnavailable("gone for a moment")
    with pytest.raises(StoreUnavailable):
        deliver(service, portrait(BLUE))
    live.model = matcher({"cat": colour_vector(BLUE)})  # trained meanwhile: the stranger has a name now
    deliver(service, portrait(BLUE))
    assert [detection.person_id for detection in heard] == [UNKNOWN, UNKNOWN]
    assert heard[0].id == heard[1].id


def test_an_announcement_that_fails_leaves_the_candidate_to_be_delivered_again(
    recognizer: Recognizer, detections: Detections
) -> None:
    def refuse(_: Detection) -> None:
        raise StoreUnavailable("the queue is gone")

    service = announcing(recognizer, detections, refuse)
    with pytest.raises(StoreUnavailable):
        deliver(service, portrait(RED))
    assert len(detections.everything()) == 1 and list(detections.list_outcomes()) == []


def test_faces_of_images_over_http_are_announced_too(recognizer: Recognizer, detections: Detections) -> None:
    heard: list[Detection] = []
    announcing(recognizer, detections, heard.append).store_image(portrait(RED), Provenance("http", "c", "l"))
    assert [detection.candidate for detection in heard] == [None]
