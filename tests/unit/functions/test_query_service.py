"""Who is enrolled, and where they were seen."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from functions.query.service import QueryService
from shared.bootstrap import Stores
from shared.domain import UNKNOWN, Detection, Person
from shared.errors import InvalidIdentifier, InvalidInput, NotFound
from shared.ports import DetectionFilter
from tests.support import EMBEDDER_ID, GREEN, NOW, RED, colour_vector, local_stores, quality, template


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[Stores]:
    with local_stores(tmp_path) as opened:
        yield opened


@pytest.fixture
def service(stores: Stores) -> QueryService:
    return QueryService(people=stores.people, detections=stores.detections, embedder_id=lambda: EMBEDDER_ID)


def seen(number: int, person_id: str, camera: str = "gate") -> Detection:
    return Detection(
        id=f"{number:032x}",
        person_id=person_id,
        similarity=0.9,
        confidence=0.9,
        threshold=0.5,
        model_id="m",
        embedder_id=EMBEDDER_ID,
        site="hq",
        camera=camera,
        location=f"by {camera}",
        captured_at=NOW + timedelta(seconds=number),
        processed_at=NOW + timedelta(hours=1),
        track=None,
        frame_box=None,
        face_box=(0, 0, 1, 1),
        quality=quality(),
        candidate=None,
    )


def test_counts_are_of_this_embedders_images_and_include_people_without(service: QueryService, stores: Stores) -> None:
    for person_id in ("bob", "ann"):
        stores.people.add_person(Person(person_id, NOW))
    for colour in (RED, GREEN):
        stores.people.add_template(template("bob", colour_vector(colour)))
    stores.people.add_template(template("bob", colour_vector(RED), embedder_id="other.1"))
    assert list(service.person_ids()) == ["ann", "bob"]
    assert service.image_counts() == [("ann", 0), ("bob", 2)]


def test_the_last_known_location_is_the_latest_capture_and_not_the_latest_write(
    service: QueryService, stores: Stores
) -> None:
    stores.people.add_person(Person("ann", NOW))
    for number, camera in ((5, "roof"), (9, "gate"), (7, "lobby")):
        stores.detections.add(seen(number, "ann", camera))
    stores.detections.add(seen(11, UNKNOWN, "vault"))
    found = service.last_known_location("ANN")
    assert found is not None and found.camera == "gate"


def test_somebody_never_seen_has_none(service: QueryService, stores: Stores) -> None:
    stores.people.add_person(Person("ann", NOW))
    assert service.last_known_location("ann") is None


def test_nobody_of_that_id_and_what_is_no_id(service: QueryService, stores: Stores) -> None:
    stores.detections.add(seen(1, "ann"))
    with pytest.raises(NotFound):
        service.last_known_location("ann")
    with pytest.raises(InvalidIdentifier):
        service.last_known_location("../ann")
    with pytest.raises(InvalidIdentifier):
        service.last_known_location(UNKNOWN)


def test_pages_follow_each_other(service: QueryService, stores: Stores) -> None:
    for number in range(5):
        stores.detections.add(seen(number, "ann"))
    first = service.detections(DetectionFilter(), page_size=3)
    second = service.detections(DetectionFilter(), page_size=3, continuation=first.continuation)
    assert [int(d.id, 16) for d in (*first.detections, *second.detections)] == [4, 3, 2, 1, 0]
    assert second.continuation is None
    with pytest.raises(InvalidInput):
        service.detections(DetectionFilter(), continuation="made up")
