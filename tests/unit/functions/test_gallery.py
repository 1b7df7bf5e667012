"""The gallery between its review and its operator; and that nothing but enrolment ever changes it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from functions.recognize.service import DetectionService, Provenance, Recognizer
from functions.train.gallery import GalleryService
from functions.train.gallery_api import finding_document, pair_document
from functions.train.hygiene import Limits
from shared.bootstrap import Stores
from shared.domain import DATASET, Person, gallery_hash
from shared.errors import Busy, InvalidIdentifier, NotFound
from shared.vision.decode import ImageLimits
from shared.vision.quality import QualityGate
from tests.support import (
    BLUE,
    EMBEDDER_ID,
    NOW,
    RED,
    TickingClock,
    candidate,
    colour_vector,
    local_stores,
    matcher,
    portrait,
    serving,
    template,
)

LIMITS = Limits(duplicate=0.999, impostor=0.4)


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with local_stores(tmp_path) as opened:
        yield opened


def service(stores: Stores) -> GalleryService:
    return GalleryService(people=stores.people, blobs=stores.blobs, embedder_id=EMBEDDER_ID, limits=LIMITS)


def enrol(stores: Stores, person_id: str, *colours: tuple[int, int, int]) -> list[str]:
    """Adds a template of each colour, with an image; their ids."""
    stores.people.add_person(Person(person_id, NOW))
    ids = []
    for number, colour in enumerate(colours):
        made = template(person_id, colour_vector(colour))
        stores.people.add_template(made)
        stores.blobs.put(DATASET, made.image, f"{person_id} {number}".encode())
        ids.append(made.template_id)
    return ids


def test_an_empty_gallery_is_in_order(stores: Stores) -> None:
    checked = service(stores).check()
    assert (checked.people, checked.templates, checked.review.findings) == (0, 0, ())


def test_a_wrong_photograph_is_found_kept_and_left_to_the_review_again(stores: Stores) -> None:
    reds = [(230, 20, 20), (230, 60, 20), (230, 20, 60)]
    ann = enrol(stores, "ann", *reds, BLUE)
    enrol(stores, "bob", (20, 20, 230), (20, 60, 230))
    gallery = service(stores)
    checked = gallery.check()
    assert (checked.people, checked.templates) == (2, 6)
    [finding] = checked.review.findings
    assert (finding.template_id, finding.word, finding.person, finding.set_aside) == (ann[3], "confuses", "bob", True)
    assert len(list(stores.people.list_templates())) == 6, "nothing is deleted"

    gallery.keep("Ann", ann[3], True)
    assert gallery.check().review.findings == ()
    gallery.keep("ann", ann[3], False)
    assert len(gallery.check().review.findings) == 1

    document = finding_document(finding)
    assert document.reason == "confuses" and document.nearest_person == "bob" and document.suggestion
    assert document.own_template in ann[:3] and document.other_template not in ann


def test_people_who_look_like_one_are_told_with_their_most_similar_templates(stores: Stores) -> None:
    enrol(stores, "ann", (230, 20, 20), (230, 60, 20))
    enrol(stores, "anna", (230, 20, 40), (230, 50, 30))
    enrol(stores, "bob", (20, 20, 230), (20, 60, 230))
    [pair] = service(stores).check().review.pairs
    assert pair_document(pair).people == ("ann", "anna")
    assert all(pair.templates)


def test_only_the_embedder_in_use_is_looked_at(stores: Stores) -> None:
    enrol(stores, "ann", RED)
    other = template("ann", np.ones(4, np.float32) / 2, embedder_id="other.1")
    stores.people.add_template(other)
    assert service(stores).check().templates == 1


def test_a_photograph_is_kept_in_every_embedders_space(stores: Stores) -> None:
    """While the embedder is being changed there are two templates of it, and the operator has seen one photograph."""
    red, blue = enrol(stores, "ann", RED, BLUE)
    image = next(t.image for t in stores.people.list_templates() if t.template_id == red)
    other = template("ann", np.ones(4, np.float32) / 2, image=image, embedder_id="other.1")
    stores.people.add_template(other)
    service(stores).keep("ann", other.template_id, True)
    assert {t.template_id: t.kept for t in stores.people.list_templates()} == {
        red: True,
        other.template_id: True,
        blue: False,
    }
    service(stores).keep("ann", red, False)
    assert not any(t.kept for t in stores.people.list_templates())


def test_what_is_not_there_cannot_be_kept_or_shown(stores: Stores) -> None:
    [only] = enrol(stores, "ann", RED)
    gallery = service(stores)
    assert gallery.image("Ann", only) == b"ann 0"
    for call in (lambda n, t: gallery.keep(n, t, True), gallery.image):
        with pytest.raises(NotFound):
            call("ann", "nothing")
        with pytest.raises(NotFound):
            call("bob", only)
        with pytest.raises(InvalidIdentifier):
            call("../ann", only)
    stores.blobs.delete(DATASET, next(stores.people.list_templates()).image)
    with pytest.raises(NotFound):
        gallery.image("ann", only)


def test_one_check_at_a_time(stores: Stores) -> None:
    enrol(stores, "ann", RED)
    gallery, inside, go = service(stores), threading.Event(), threading.Event()
    listed = stores.people.list_templates

    def slow(**where: str):
        inside.set()
        assert go.wait(10)
        return listed(**where)

    stores.people.list_templates = slow
    first = threading.Thread(target=gallery.check)
    first.start()
    assert inside.wait(10)
    with pytest.raises(Busy):
        gallery.check()
    go.set()
    first.join()
    assert gallery.check().templates == 1, "and free again"


def test_recognition_never_adds_to_the_gallery(stores: Stores) -> None:
    """No self-training: a recognised face, however sure, becomes nobody's template; a person must enrol it."""
    enrol(stores, "ann", RED)

    def state() -> tuple[str, list[str]]:
        return gallery_hash(stores.people.template_keys(EMBEDDER_ID)), [b.name for b in stores.blobs.list(DATASET)]

    before = state()
    recognizer = Recognizer(
        serving=lambda: serving(matcher({"ann": colour_vector(RED)})),
        gate=QualityGate(min_size_px=20, min_sharpness=0, min_confidence=0.9),
        limits=ImageLimits(),
        max_faces=10,
        slot=threading.Semaphore(1),
    )
    seen = DetectionService(
        recognizer=recognizer,
        detections=stores.detections,
        store_unknown_embeddings=True,
        clock=TickingClock(),
    )
    for number in range(50):
        data = portrait(RED, shift=number)
        made = candidate(data, track=f"t{number}")
        assert seen.store_candidate(made.blob_name, data, made.to_metadata()).status == "detected"
        [(_, detection)] = seen.store_image(data, Provenance("http", "cam", "hall"))
        assert detection is not None and detection.person_id == "ann"
    assert state() == before
