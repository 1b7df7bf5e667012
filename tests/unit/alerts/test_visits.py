"""What belongs to one visit, in whatever order it comes."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.alerts import KEPT_TRACKS, KEPT_VISITS, Visit, VisitRules, place_of
from shared.domain import UNKNOWN, Detection, Float32Array
from tests.contract.test_detections import make_detection
from tests.support import unit

START = datetime(2026, 1, 2, 3, tzinfo=UTC)
RULES = VisitRules(gap_s=300.0, similarity=0.5)
EVE, MALLORY = unit(1, 0, 0), unit(0, 1, 0)


def stranger(
    number: int, seconds: float, *, track: str | None = None, embedding: Float32Array | None = None
) -> Detection:
    return make_detection(
        number,
        person_id=UNKNOWN,
        captured_at=START + timedelta(seconds=seconds),
        track=track,
        embedding=embedding,
    )


def known(number: int, seconds: float, person_id: str = "eve") -> Detection:
    return make_detection(number, person_id=person_id, captured_at=START + timedelta(seconds=seconds), track=None)


def visit_ids(*detections: Detection, rules: VisitRules = RULES) -> list[str]:
    """The visit of each detection, when they come in this order at once."""
    visits: list[Visit] = []
    found = []
    for detection in detections:
        visit, visits = rules.joined(visits, detection, START)
        found.append(visit.id)
    return found


def test_a_gap_that_is_longer_begins_another_visit() -> None:
    assert visit_ids(known(1, 0), known(2, 300), known(3, 600)) == ["id0001"] * 3
    assert visit_ids(known(1, 0), known(2, 300.001)) == ["id0001", "id0002"]


def test_people_do_not_share_a_visit() -> None:
    found = visit_ids(known(1, 0), known(2, 1, "mallory"), stranger(3, 2, track="t"), known(4, 3))
    assert found == ["id0001", "id0002", "id0003", "id0001"]


def test_strangers_are_told_apart_by_their_faces() -> None:
    found = visit_ids(
        stranger(1, 0, track="a", embedding=EVE),
        stranger(2, 1, track="b", embedding=MALLORY),
        stranger(3, 2, track="c", embedding=unit(1, 0.5, 0)),
        stranger(4, 3, track="d", embedding=unit(0.2, 1, 0.1)),
    )
    assert found == ["id0001", "id0002", "id0001", "id0002"]


def test_one_track_is_one_stranger_whatever_the_faces() -> None:
    assert visit_ids(stranger(1, 0, track="a", embedding=EVE), stranger(2, 1, track="a", embedding=MALLORY)) == [
        "id0001",
        "id0001",
    ]


def test_without_embeddings_only_the_track_is_left() -> None:
    assert visit_ids(stranger(1, 0, track="a"), stranger(2, 1, track="a"), stranger(3, 2, track="b")) == [
        "id0001",
        "id0001",
        "id0003",
    ]
    assert visit_ids(stranger(1, 0), stranger(2, 1)) == ["id0001", "id0002"]


def test_embeddings_of_two_spaces_are_not_compared() -> None:
    """Not even where the numbers would allow it."""
    of_another = replace(stranger(2, 1, embedding=EVE), embedder_id="other.1")
    assert visit_ids(stranger(1, 0, embedding=EVE), of_another) == ["id0001", "id0002"]


def test_a_visit_goes_on_in_the_space_of_its_latest_face() -> None:
    """By its track, over a change of the embedder: the mean of two spaces would be in neither."""
    of_another = replace(stranger(2, 1, track="a", embedding=MALLORY), embedder_id="other.1")
    _, visits = RULES.joined([], stranger(1, 0, track="a", embedding=EVE), START)
    visit, _ = RULES.joined(visits, of_another, START)
    assert (visit.embedder_id, visit.faces) == ("other.1", 1)
    assert np.array_equal(visit.embedding, MALLORY)
    assert Visit.from_document(visit.to_document()).embedder_id == "other.1"


def test_every_embedder_has_its_own_similarity() -> None:
    rules = VisitRules(300.0, 0.0, {"facenet": 0.9})
    like = unit(1, 0.6, 0)
    assert visit_ids(stranger(1, 0, embedding=EVE), stranger(2, 1, embedding=like), rules=rules) == ["id0001", "id0002"]
    rules = VisitRules(300.0, 0.0, {"facenet": 0.8})
    assert visit_ids(stranger(1, 0, embedding=EVE), stranger(2, 1, embedding=like), rules=rules) == ["id0001"] * 2


def test_a_track_that_was_seen_before_the_gap_does_not_count() -> None:
    assert visit_ids(stranger(1, 0, track="a"), stranger(2, 1000, track="a")) == ["id0001", "id0002"]


def test_what_comes_late_belongs_where_it_was() -> None:
    assert visit_ids(known(1, 200), known(2, 0), known(3, -250), known(4, 500)) == ["id0001"] * 4


def test_between_two_visits_the_nearer_is_its() -> None:
    assert visit_ids(known(1, 0), known(2, 500), known(3, 290)) == ["id0001", "id0002", "id0002"]


def test_the_same_detection_again_changes_nothing() -> None:
    first, visits = RULES.joined([], stranger(1, 0, track="a", embedding=EVE), START)
    again, visits = RULES.joined(visits, stranger(1, 0, track="a", embedding=EVE), START)
    assert again.to_document() == first.to_document() and len(visits) == 1


def test_a_visit_s_face_is_the_mean_of_its_faces() -> None:
    visits: list[Visit] = []
    for number, face in enumerate([EVE, unit(1, 0.4, 0), unit(1, 0, 0.4)]):
        visit, visits = RULES.joined(visits, stranger(number, number, embedding=face), START)
    assert visit.faces == 3 and visit.embedding is not None
    assert float(np.linalg.norm(visit.embedding)) == pytest.approx(1, abs=1e-5)
    mean = unit(*(EVE + unit(1, 0.4, 0) + unit(1, 0, 0.4)))
    assert float(np.dot(visit.embedding, mean)) == pytest.approx(1, abs=1e-4)  # made a unit vector after each face


def test_what_was_not_touched_for_an_hour_and_the_gap_is_forgotten() -> None:
    _, visits = RULES.joined([], known(1, 0), START)
    kept = START + timedelta(hours=1, seconds=300)
    assert [v.id for v in RULES.joined(visits, known(2, 1, "ann"), kept)[1]] == ["id0001", "id0002"]
    assert [v.id for v in RULES.joined(visits, known(2, 1, "ann"), kept + timedelta(seconds=1))[1]] == ["id0002"]


def test_tracks_are_kept_up_to_a_number() -> None:
    visits: list[Visit] = []
    for number in range(KEPT_TRACKS + 5):
        visit, visits = RULES.joined(visits, stranger(number, 0, track=f"t{number}", embedding=EVE), START)
    assert len(visits) == 1 and visit.tracks == tuple(f"t{number}" for number in range(5, KEPT_TRACKS + 5))


def test_visits_are_kept_up_to_a_number_and_the_newest_are() -> None:
    visits: list[Visit] = []
    for number in range(KEPT_VISITS + 50):
        _, visits = RULES.joined(visits, stranger(number, 0, track=f"t{number}"), START)
        seen_again, visits = RULES.joined(visits, stranger(0, 1, track="t0"), START)
        assert seen_again.id == "id0000", "who is before the camera all the time is not forgotten"
        assert len(visits) <= KEPT_VISITS
    newest = [f"id{number:04}" for number in range(51, KEPT_VISITS + 50)]
    assert [visit.id for visit in visits] == [*newest, "id0000"]


def test_as_many_visits_as_are_kept_are_half_of_what_cosmos_takes() -> None:
    tracks = tuple(f"{number:040}" for number in range(KEPT_TRACKS))
    embedding = unit(*range(1, 513))
    visit = Visit("0" * 64, UNKNOWN, START, START, START, tracks, embedding, 1000)
    assert len(json.dumps([visit.to_document()] * KEPT_VISITS)) < 1_000_000


def test_two_cameras_are_two_places() -> None:
    one = make_detection(site="a", camera="b")
    assert place_of(one) == place_of(make_detection(7, site="a", camera="b"))
    others = [make_detection(site="a", camera="c"), make_detection(site="c", camera="b")]
    assert len({place_of(each) for each in [one, *others]}) == 3


@given(st.permutations(range(6)))
def test_a_chain_within_the_gap_is_one_visit_when_each_meets_the_last(order: list[int]) -> None:
    """In any order, no detection is in two visits, and every visit is as long as its detections."""
    detections = [known(number, 100.0 * number) for number in order]
    visits: list[Visit] = []
    for detection in detections:
        _, visits = RULES.joined(visits, detection, START)
    assert min(visit.first for visit in visits) == START
    assert max(visit.last for visit in visits) == START + timedelta(seconds=500)
    assert len(visits) <= 2  # joined by the gap of 300 s; two when both ends came before the middle
