"""`ports.AlertRepository`, as every adapter keeps it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from shared.alerts import Alert, Delivery, Visit
from shared.domain import UNKNOWN
from shared.errors import NotFound
from shared.ports import AlertRepository, DetectionFilter
from tests.contract.racing import race
from tests.contract.test_detections import make_detection, make_outcome

NOW = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
STRANGER = Visit(
    id="d1",
    person_id=UNKNOWN,
    first=NOW,
    last=NOW + timedelta(seconds=3),
    touched_at=NOW + timedelta(seconds=4),
    tracks=("t1", "ü2"),
    embedding=np.array([0.6, -0.8], np.float32),
    faces=2,
)
KNOWN = Visit("d2", "ann", NOW, NOW, NOW)
ALERT = Alert("a1", "d1", "north", "gate 1", ("nachts: Fremde",), NOW)


def same(one: Visit, other: Visit) -> bool:
    embeddings = [each.embedding for each in (one, other)]
    if any(embedding is None for embedding in embeddings):
        return embeddings == [None, None] and replace(one, embedding=None).to_document() == other.to_document()
    return one.to_document() == other.to_document() and np.array_equal(*embeddings)


def test_visits_come_back_whole(alerts: AlertRepository) -> None:
    assert list(alerts.visits("p").visits) == [] and alerts.visits("p").version is None
    assert alerts.keep_visits("p", [STRANGER, KNOWN], version=None, ttl_s=60)
    found = alerts.visits("p")
    assert all(map(same, found.visits, [STRANGER, KNOWN])) and len(found.visits) == 2
    assert found.version is not None
    assert list(alerts.visits("q").visits) == []


def test_visits_are_replaced_at_their_version_only(alerts: AlertRepository) -> None:
    assert alerts.keep_visits("p", [STRANGER], version=None, ttl_s=60) is True
    assert alerts.keep_visits("p", [], version=None, ttl_s=60) is False
    first = alerts.visits("p").version
    assert alerts.keep_visits("p", [KNOWN], version=first, ttl_s=60) is True
    assert alerts.keep_visits("p", [], version=first, ttl_s=60) is False
    assert [visit.id for visit in alerts.visits("p").visits] == ["d2"]
    assert alerts.keep_visits("q", [KNOWN], version="1", ttl_s=60) is False


@pytest.mark.parametrize("there", [False, True])
def test_of_many_writers_of_a_version_one_wins(alerts: AlertRepository, there: bool) -> None:
    if there:
        alerts.keep_visits("p", [KNOWN], version=None, ttl_s=60)
    version = alerts.visits("p").version
    wins = race(6, lambda _: alerts.keep_visits("p", [STRANGER], version=version, ttl_s=60))
    assert wins.count(True) == 1


def test_an_alert_is_added_once(alerts: AlertRepository) -> None:
    assert alerts.get_alert("a1") is None
    assert race(6, lambda number: alerts.add_alert(replace(ALERT, detection_id=f"d{number}"))).count(True) == 1
    assert alerts.add_alert(ALERT) is False
    assert alerts.get_alert("a1") is not None


def test_channels_are_recorded_apart(alerts: AlertRepository) -> None:
    alerts.add_alert(ALERT)
    assert alerts.get_alert("a1") == ALERT
    sent, failed = Delivery(2, NOW, None), Delivery(1, None, "the server said 451")
    alerts.record_delivery("a1", "webhook", failed)
    alerts.record_delivery("a1", "email:ops@example.org", sent)
    found = alerts.get_alert("a1")
    assert found is not None
    assert found.deliveries == {"webhook": failed, "email:ops@example.org": sent}
    assert found.sent_to("email:ops@example.org") and not found.sent_to("webhook") and not found.sent_to("other")
    alerts.record_delivery("a1", "webhook", sent)
    found = alerts.get_alert("a1")
    assert found is not None and found.deliveries["webhook"] == sent
    with pytest.raises(NotFound):
        alerts.record_delivery("a2", "webhook", sent)


def test_no_record_of_two_is_lost(alerts: AlertRepository) -> None:
    alerts.add_alert(ALERT)
    race(4, lambda number: alerts.record_delivery("a1", f"channel{number}", Delivery(1, NOW)))
    found = alerts.get_alert("a1")
    assert found is not None and set(found.deliveries) == {f"channel{number}" for number in range(4)}


def test_the_newest_are_listed_first(alerts: AlertRepository) -> None:
    for number in (2, 0, 3, 1):
        alerts.add_alert(replace(ALERT, id=f"a{number}", created_at=NOW + timedelta(microseconds=number)))
    assert [alert.id for alert in alerts.list_alerts()] == ["a3", "a2", "a1", "a0"]
    assert [alert.id for alert in alerts.list_alerts(limit=2)] == ["a3", "a2"]


def test_retention_removes_what_is_older(alerts: AlertRepository) -> None:
    for number in range(3):
        alerts.add_alert(replace(ALERT, id=f"a{number}", created_at=NOW + timedelta(seconds=number)))
    assert alerts.delete_older_than(NOW + timedelta(seconds=1)) == 1
    assert [alert.id for alert in alerts.list_alerts()] == ["a2", "a1"]


def test_alerts_and_detections_keep_out_of_each_other_s_way(backend) -> None:
    backend.detections.add(make_detection(1))
    backend.detections.record_outcome(make_outcome(1))
    backend.alerts.add_alert(replace(ALERT, id="id0001"))
    backend.alerts.keep_visits("id0001", [STRANGER], version=None, ttl_s=60)
    assert len(backend.detections.list(DetectionFilter()).detections) == 1
    assert len(list(backend.detections.list_outcomes())) == 1
    assert len(backend.alerts.list_alerts()) == 1
    assert backend.detections.get("alert:id0001") is None


def test_another_connection_sees_visits_and_alerts(backend) -> None:
    other = backend.reopened()
    backend.alerts.keep_visits("p", [KNOWN], version=None, ttl_s=60)
    backend.alerts.add_alert(ALERT)
    assert other.alerts.get_alert("a1") == ALERT
    assert other.alerts.keep_visits("p", [], version=other.alerts.visits("p").version, ttl_s=60) is True
    assert list(backend.alerts.visits("p").visits) == []
