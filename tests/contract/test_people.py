"""`ports.PersonRepository`, as every adapter keeps it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from shared.domain import Person, Quality, Template
from shared.errors import Conflict, NotFound
from shared.ports import PersonRepository
from tests.contract.racing import race

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)


def make_template(person_id: str = "ann", template_id: str = "t1", embedder_id: str = "facenet") -> Template:
    vector = np.random.default_rng(7).standard_normal(512).astype(np.float32)
    return Template(
        template_id=template_id,
        person_id=person_id,
        embedder_id=embedder_id,
        embedding=vector / np.linalg.norm(vector),
        image=f"{person_id}/{template_id}.jpg",
        face_box=(1.5, 2.25, 100.125, 120.0),
        landmarks=((1.0, 2.0), (3.0, 4.0), (5.0, 6.0), (7.0, 8.0), (9.5, 10.5)),
        quality=Quality(size_px=98.6, sharpness=120.5, yaw=-0.1, brightness=127.0, confidence=0.999),
        source="upload",
        created_at=NOW,
    )


def test_a_person_is_kept(people: PersonRepository) -> None:
    people.add_person(Person("ann", NOW))
    assert people.get_person("ann") == Person("ann", NOW)


def test_nobody_is_not_found(people: PersonRepository) -> None:
    with pytest.raises(NotFound):
        people.get_person("ann")
    assert list(people.list_people()) == []
    assert people.delete_person("ann") is False


def test_an_id_is_taken_once(people: PersonRepository) -> None:
    people.add_person(Person("ann", NOW))
    with pytest.raises(Conflict):
        people.add_person(Person("ann", NOW))


def test_of_many_that_add_a_person_one_wins(people: PersonRepository) -> None:
    def add(_: int) -> bool:
        try:
            people.add_person(Person("ann", NOW))
        except Conflict:
            return False
        return True

    assert race(8, add).count(True) == 1


def test_people_are_listed_in_order_of_id(people: PersonRepository) -> None:
    for person_id in ("çelik", "bob", "ann", "o'neil", "李"):
        people.add_person(Person(person_id, NOW))
    assert [person.person_id for person in people.list_people()] == ["ann", "bob", "o'neil", "çelik", "李"]


def test_a_template_comes_back_to_the_bit(people: PersonRepository) -> None:
    people.add_person(Person("ann", NOW))
    template = make_template()
    assert people.add_template(template) is True
    (stored,) = people.list_templates()
    assert stored.embedding.dtype == np.float32
    np.testing.assert_array_equal(stored.embedding, template.embedding)
    for name in ("template_id", "person_id", "embedder_id", "image", "face_box", "landmarks", "quality", "source"):
        assert getattr(stored, name) == getattr(template, name)
    assert stored.created_at == NOW
    assert stored.kept is False


def test_every_measure_of_quality_comes_back(people: PersonRepository) -> None:
    people.add_person(Person("ann", NOW))
    quality = Quality(98.6, 120.5, -0.1, 127.0, 0.999, pitch=0.05, roll=-12.5, dark=0.25, bright=0.125, contrast=31.5)
    people.add_template(replace(make_template(), quality=quality))
    (stored,) = people.list_templates()
    assert stored.quality == quality


def test_an_operators_mark_is_set_and_taken_back_and_changes_nothing_else(people: PersonRepository) -> None:
    people.add_person(Person("ann", NOW))
    for template_id in ("t1", "t2"):
        people.add_template(make_template(template_id=template_id))
    before = list(people.list_templates())
    assert people.keep_template("ann", "t1", True) is True
    assert people.keep_template("ann", "t1", True) is True, "again is no error"
    kept = list(people.list_templates())
    assert [t.kept for t in kept] == [True, False]
    assert people.template_keys("facenet") == [("ann", "t1"), ("ann", "t2")]
    np.testing.assert_array_equal(kept[0].embedding, before[0].embedding)
    assert (kept[0].quality, kept[0].source, kept[0].created_at) == (
        before[0].quality,
        before[0].source,
        before[0].created_at,
    )
    assert people.keep_template("ann", "t1", False) is True
    assert [t.kept for t in people.list_templates()] == [False, False]
    assert people.keep_template("ann", "t3", True) is False
    assert people.keep_template("bob", "t1", True) is False
    people.add_template(replace(make_template(template_id="t4"), kept=True))
    assert [t.kept for t in people.list_templates()] == [False, False, True]


def test_what_is_optional_in_a_template_may_be_missing(people: PersonRepository) -> None:
    people.add_person(Person("ann", NOW))
    people.add_template(replace(make_template(), landmarks=None, quality=Quality(50.0, 30.0, None, 100.0, 0.9)))
    (stored,) = people.list_templates()
    assert stored.landmarks is None
    assert stored.quality.yaw is None


def test_the_same_template_is_added_once(people: PersonRepository) -> None:
    people.add_person(Person("ann", NOW))
    assert people.add_template(make_template()) is True
    assert people.add_template(make_template()) is False
    assert len(list(people.list_templates())) == 1


def test_of_many_that_add_a_template_one_wins(people: PersonRepository) -> None:
    people.add_person(Person("ann", NOW))
    assert race(8, lambda _: people.add_template(make_template())).count(True) == 1


def test_a_template_needs_its_person(people: PersonRepository) -> None:
    with pytest.raises(NotFound):
        people.add_template(make_template())
    assert list(people.list_templates()) == []


def test_templates_are_listed_in_order_and_filtered(people: PersonRepository) -> None:
    for person_id in ("bob", "ann"):
        people.add_person(Person(person_id, NOW))
        for template_id, embedder_id in (("2", "facenet"), ("1", "facenet"), ("3", "sface")):
            people.add_template(make_template(person_id, template_id, embedder_id))

    def keys(**where: str) -> list[tuple[str, str]]:
        return [(t.person_id, t.template_id) for t in people.list_templates(**where)]

    assert keys() == [("ann", "1"), ("ann", "2"), ("ann", "3"), ("bob", "1"), ("bob", "2"), ("bob", "3")]
    assert keys(person_id="bob") == [("bob", "1"), ("bob", "2"), ("bob", "3")]
    assert keys(embedder_id="sface") == [("ann", "3"), ("bob", "3")]
    assert keys(person_id="ann", embedder_id="facenet") == [("ann", "1"), ("ann", "2")]
    assert people.template_keys("facenet") == [("ann", "1"), ("ann", "2"), ("bob", "1"), ("bob", "2")]
    assert people.template_keys("none") == []


def test_a_large_gallery_is_listed_whole(people: PersonRepository) -> None:
    people.add_person(Person("ann", NOW))
    ids = [f"{number:04d}" for number in range(603)]
    for template_id in ids:
        people.add_template(make_template(template_id=template_id))
    assert [template.template_id for template in people.list_templates(embedder_id="facenet")] == ids


def test_a_template_is_deleted(people: PersonRepository) -> None:
    people.add_person(Person("ann", NOW))
    people.add_template(make_template())
    assert people.delete_template("bob", "t1") is False
    assert people.delete_template("ann", "t1") is True
    assert people.delete_template("ann", "t1") is False
    assert people.get_person("ann")


def test_deleting_a_person_deletes_every_template(people: PersonRepository) -> None:
    for person_id in ("ann", "bob"):
        people.add_person(Person(person_id, NOW))
        for embedder_id in ("facenet", "sface"):
            people.add_template(make_template(person_id, embedder_id, embedder_id))
    assert people.delete_person("ann") is True
    assert {template.person_id for template in people.list_templates()} == {"bob"}
    people.add_person(Person("ann", NOW))
    assert list(people.list_templates(person_id="ann")) == []
