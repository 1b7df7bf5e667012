"""`ports.DetectionRepository`, as every adapter keeps it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from shared.domain import UNKNOWN, Detection, Outcome, Quality
from shared.errors import InvalidInput
from shared.ports import DetectionFilter, DetectionRepository
from tests.contract.racing import race

MONTH = timedelta(days=30)
START = datetime(2026, 1, 2, 3, 4, 5, 678000, tzinfo=UTC)


def make_detection(number: int = 0, **changes: Any) -> Detection:
    values: dict[str, Any] = {
        "id": f"id{number:04d}",
        "person_id": "ann",
        "similarity": 0.812345,
        "confidence": 0.97,
        "threshold": 0.55,
        "model_id": "20260101T000000Z-abc",
        "embedder_id": "facenet",
        "site": "north",
        "camera": "gate 1",
        "location": "Küche",
        "captured_at": START + timedelta(seconds=number),
        "processed_at": START + timedelta(seconds=number + 1),
        "track": "t1",
        "frame_box": (1, 2, 30, 40),
        "face_box": (1.5, 2.5, 30.25, 40.75),
        "quality": Quality(28.0, 50.0, 0.2, 99.0, 0.98),
        "candidate": f"north/gate%201/{number}.jpg",
    }
    return Detection(**(values | changes))


def make_outcome(number: int = 0, **changes: Any) -> Outcome:
    values: dict[str, Any] = {
        "id": f"o{number:04d}",
        "candidate": f"north/gate/{number}.jpg",
        "site": "north",
        "camera": "gate",
        "status": "rejected",
        "reason": "no_face",
        "faces": 0,
        "processed_at": START + timedelta(seconds=number),
    }
    return Outcome(**(values | changes))


def ids(repository: DetectionRepository, where: DetectionFilter, page_size: int = 100) -> list[str]:
    found: list[str] = []
    continuation = None
    while True:
        page = repository.list(where, page_size=page_size, continuation=continuation)
        assert len(page.detections) <= page_size
        found += [detection.id for detection in page.detections]
        continuation = page.continuation
        if continuation is None:
            return found


def test_a_detection_comes_back_whole(detections: DetectionRepository) -> None:
    embedding = np.linspace(-1, 1, 128, dtype=np.float32)
    made = make_detection(person_id=UNKNOWN, embedding=embedding)
    assert detections.add(made) is True
    (stored,) = detections.list(DetectionFilter()).detections
    for name in Detection.__slots__:
        if name != "embedding":
            assert getattr(stored, name) == getattr(made, name), name
    assert stored.embedding is not None
    assert stored.embedding.dtype == np.float32
    np.testing.assert_array_equal(stored.embedding, embedding)


def test_what_is_optional_may_be_missing(detections: DetectionRepository) -> None:
    detections.add(make_detection(track=None, frame_box=None, candidate=None))
    (stored,) = detections.list(DetectionFilter()).detections
    assert (stored.track, stored.frame_box, stored.candidate, stored.embedding) == (None, None, None, None)


def test_one_is_found_by_its_id(detections: DetectionRepository) -> None:
    detections.add(make_detection(1, person_id=UNKNOWN, embedding=np.array([0.6, 0.8], np.float32)))
    detections.record_outcome(make_outcome(2))
    found = detections.get("id0001")
    assert found is not None and found.candidate == "north/gate%201/1.jpg"
    assert found.embedding is not None and found.embedding.tolist() == pytest.approx([0.6, 0.8])
    for nothing in ("id0002", "o0002", "outcome:o0002", "", "a/b"):
        assert detections.get(nothing) is None


def test_a_change_replaces_what_was_there(detections: DetectionRepository) -> None:
    made = make_detection(1, person_id=UNKNOWN, embedding=np.array([0.6, 0.8], np.float32))
    detections.add(made)
    detections.add(make_detection(2, person_id=UNKNOWN))
    named = replace(made, person_id="ann", named_by="group", previous_person=UNKNOWN, embedding=None)
    changed = detections.change("id0001", lambda found: named, kept_for=MONTH)
    assert changed is named
    stored = detections.get("id0001")
    assert stored is not None and stored.embedding is None
    for name in Detection.__slots__:
        assert getattr(stored, name) == getattr(named, name), name
    assert ids(detections, DetectionFilter(person_id="ann")) == ["id0001"]
    assert ids(detections, DetectionFilter(person_id=UNKNOWN)) == ["id0002"]
    other = detections.get("id0002")
    assert other is not None and (other.named_by, other.previous_person) == (None, None)


def test_a_change_sees_the_detection_and_may_leave_it(detections: DetectionRepository) -> None:
    made = make_detection(1, person_id=UNKNOWN, embedding=np.array([0.6, 0.8], np.float32))
    detections.add(made)
    seen: list[Detection] = []
    assert detections.change("id0001", seen.append, kept_for=MONTH) is None  # type: ignore[arg-type]
    assert seen[0].id == "id0001" and seen[0].embedding is not None
    stored = detections.get("id0001")
    assert stored is not None and stored.person_id == UNKNOWN and stored.embedding is not None


@pytest.mark.parametrize("nothing", ["id0002", "o0001", "outcome:o0001", "", "a/b"])
def test_what_is_not_there_is_not_changed(detections: DetectionRepository, nothing: str) -> None:
    detections.add(make_detection(1))
    detections.record_outcome(make_outcome(1))

    def never(found: Detection) -> Detection:
        raise AssertionError(found)

    assert detections.change(nothing, never, kept_for=MONTH) is None


def test_a_change_that_fails_changes_nothing(detections: DetectionRepository) -> None:
    detections.add(make_detection(1))
    with pytest.raises(ZeroDivisionError):
        detections.change("id0001", lambda found: replace(found, similarity=1 / 0), kept_for=MONTH)
    stored = detections.get("id0001")
    assert stored is not None and stored.similarity == 0.812345


def test_of_many_changes_at_once_none_is_lost(detections: DetectionRepository) -> None:
    detections.add(make_detection(1, named_by=""))

    def add_one(number: int) -> object:
        return detections.change("id0001", lambda d: replace(d, named_by=f"{d.named_by}{number}"), kept_for=MONTH)

    assert all(race(6, add_one))
    stored = detections.get("id0001")
    assert stored is not None and sorted(stored.named_by or "") == list("012345")


def test_the_same_id_is_added_once(detections: DetectionRepository) -> None:
    assert detections.add(make_detection(similarity=0.8)) is True
    assert detections.add(make_detection(similarity=0.1)) is False
    (stored,) = detections.list(DetectionFilter()).detections
    assert stored.similarity == 0.8


def test_of_many_that_add_a_detection_one_wins(detections: DetectionRepository) -> None:
    assert race(8, lambda _: detections.add(make_detection())).count(True) == 1


def test_newest_first_then_by_id(detections: DetectionRepository) -> None:
    detections.add(make_detection(1, id="b", captured_at=START))
    detections.add(make_detection(2, id="a", captured_at=START))
    detections.add(make_detection(3, id="z", captured_at=START - timedelta(milliseconds=1)))
    detections.add(make_detection(4, id="m", captured_at=START + timedelta(milliseconds=1)))
    assert ids(detections, DetectionFilter()) == ["m", "a", "b", "z"]


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 100])
def test_pages_join_without_gap_or_repeat(detections: DetectionRepository, page_size: int) -> None:
    for number in range(14):
        detections.add(make_detection(number, captured_at=START + timedelta(seconds=number // 4)))
    found = ids(detections, DetectionFilter(person_id="ann"), page_size)
    assert len(found) == len(set(found)) == 14
    assert found == ids(detections, DetectionFilter(person_id="ann"))


def test_a_full_last_page_has_no_continuation(detections: DetectionRepository) -> None:
    for number in range(4):
        detections.add(make_detection(number))
    first = detections.list(DetectionFilter(), page_size=2)
    assert first.continuation is not None
    assert detections.list(DetectionFilter(), page_size=2, continuation=first.continuation).continuation is None


def test_what_is_added_between_pages_does_not_disturb_them(detections: DetectionRepository) -> None:
    for number in range(6):
        detections.add(make_detection(number))
    page = detections.list(DetectionFilter(), page_size=3)
    detections.add(make_detection(99))
    rest = detections.list(DetectionFilter(), page_size=3, continuation=page.continuation)
    assert [d.id for d in rest.detections] == ["id0002", "id0001", "id0000"]


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        (DetectionFilter(person_id="bob"), ["id0001"]),
        (DetectionFilter(person_id="nobody"), []),
        (DetectionFilter(site="south"), ["id0002"]),
        (DetectionFilter(camera="yard"), ["id0003"]),
        (DetectionFilter(location="Hof"), ["id0003"]),
        (DetectionFilter(since=START + timedelta(seconds=2)), ["id0003", "id0002"]),
        (DetectionFilter(until=START + timedelta(seconds=2)), ["id0001", "id0000"]),
        (DetectionFilter(since=START, until=START), []),
        (DetectionFilter(person_id="ann", camera="yard", since=START), ["id0003"]),
        (DetectionFilter(person_id="bob", camera="yard"), []),
        (DetectionFilter(person_id="' OR 1=1 --"), []),
    ],
)
def test_filters(detections: DetectionRepository, where: DetectionFilter, expected: list[str]) -> None:
    detections.add(make_detection(0))
    detections.add(make_detection(1, person_id="bob"))
    detections.add(make_detection(2, site="south"))
    detections.add(make_detection(3, camera="yard", location="Hof"))
    assert ids(detections, where) == expected
    assert ids(detections, where, page_size=1) == expected


def test_a_continuation_is_good_for_its_own_question_only(detections: DetectionRepository) -> None:
    for number in range(4):
        detections.add(make_detection(number))
    token = detections.list(DetectionFilter(person_id="ann"), page_size=2).continuation
    assert token is not None
    with pytest.raises(InvalidInput):
        detections.list(DetectionFilter(), page_size=2, continuation=token)


@pytest.mark.parametrize("spoil", [str.swapcase, lambda t: t[:-3], lambda t: "AAAA" + t[4:], lambda t: t + "=é"])
def test_a_changed_continuation_is_refused(detections: DetectionRepository, spoil: Any) -> None:
    for number in range(4):
        detections.add(make_detection(number))
    token = detections.list(DetectionFilter(), page_size=2).continuation
    assert token is not None
    with pytest.raises(InvalidInput):
        detections.list(DetectionFilter(), page_size=2, continuation=spoil(token))


@pytest.mark.parametrize("token", ["", "x", "not a token", "é", "AAAA", "W10", "\0"])
def test_an_invented_continuation_is_refused(detections: DetectionRepository, token: str) -> None:
    with pytest.raises(InvalidInput):
        detections.list(DetectionFilter(), continuation=token)


def test_a_continuation_is_good_in_another_process(backend) -> None:
    for number in range(4):
        backend.detections.add(make_detection(number))
    token = backend.detections.list(DetectionFilter(), page_size=3).continuation
    page = backend.reopened().detections.list(DetectionFilter(), page_size=3, continuation=token)
    assert [d.id for d in page.detections] == ["id0000"]


@pytest.mark.parametrize("page_size", [0, -1])
def test_a_page_holds_at_least_one(detections: DetectionRepository, page_size: int) -> None:
    with pytest.raises(InvalidInput):
        detections.list(DetectionFilter(), page_size=page_size)


def test_the_last_detection_is_by_capture_time(detections: DetectionRepository) -> None:
    assert detections.last_of("ann") is None
    detections.add(make_detection(5))
    detections.add(make_detection(3, processed_at=START + timedelta(hours=1)))
    detections.add(make_detection(9, person_id="bob"))
    last = detections.last_of("ann")
    assert last is not None
    assert last.id == "id0005"


def test_a_tracks_detections_are_found(detections: DetectionRepository) -> None:
    for number in range(4):
        seen = np.float32([number, 1.0])
        detections.add(make_detection(number, person_id="ann" if number == 2 else UNKNOWN, embedding=seen))
    detections.add(make_detection(4, track="t2"))
    detections.add(make_detection(5, track=None))
    detections.add(make_detection(6, camera="yard"))
    detections.add(make_detection(7, site="south"))
    detections.record_outcome(make_outcome(8))
    found = {d.id: d for d in detections.of_track("north", "gate 1", "t1", most=10)}
    assert {id: d.person_id for id, d in found.items()} == {
        f"id000{n}": ("ann" if n == 2 else UNKNOWN) for n in range(4)
    }
    embedding = found["id0003"].embedding
    assert embedding is not None and embedding.tolist() == [3.0, 1.0]
    few = detections.of_track("north", "gate 1", "t1", most=2)
    assert len(few) == 2 and {d.id for d in few} < found.keys()
    assert list(detections.of_track("north", "gate 1", "' OR 1=1 --", most=10)) == []


def test_retention_removes_what_is_older(detections: DetectionRepository) -> None:
    for number in range(6):
        detections.add(make_detection(number))
        detections.record_outcome(make_outcome(number))
    assert detections.delete_older_than(START + timedelta(seconds=2)) == 4
    assert ids(detections, DetectionFilter()) == ["id0005", "id0004", "id0003", "id0002"]
    assert [outcome.id for outcome in detections.list_outcomes()] == ["o0002", "o0003", "o0004", "o0005"]
    assert detections.delete_older_than(START) == 0


def test_an_outcome_is_recorded_once(detections: DetectionRepository) -> None:
    made = make_outcome(status="detected", reason=None, faces=2)
    assert detections.record_outcome(made) is True
    assert detections.record_outcome(make_outcome()) is False
    assert detections.get_outcome(made.id) == made
    assert detections.get_outcome("missing") is None


def test_outcomes_are_listed_by_time_and_status(detections: DetectionRepository) -> None:
    for number in (3, 1, 2):
        detections.record_outcome(make_outcome(number))
    detections.record_outcome(make_outcome(0, status="failed", reason="invalid_image"))
    assert [outcome.id for outcome in detections.list_outcomes()] == ["o0000", "o0001", "o0002", "o0003"]
    assert [outcome.id for outcome in detections.list_outcomes(status="failed")] == ["o0000"]
    assert list(detections.list_outcomes(status="detected")) == []


def test_many_outcomes_of_one_moment_are_listed_whole(detections: DetectionRepository) -> None:
    for number in range(603):
        detections.record_outcome(make_outcome(number, processed_at=START))
    assert len({outcome.id for outcome in detections.list_outcomes(status="rejected")}) == 603
