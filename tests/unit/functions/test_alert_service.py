"""Once for each visit, repeated until delivered: whatever is delivered twice, refused, or dies in between."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from functions.recognize.alerts import AlertRequests, AlertService, AlertSettings
from shared.adapters.local import LocalStore
from shared.alert_rules import load_rules
from shared.alerts import Notice, VisitRules
from shared.bootstrap import Stores
from shared.domain import CANDIDATES, UNKNOWN, Detection
from shared.errors import ConfigurationError, StoreUnavailable
from shared.messages import ALERT_QUEUE, AlertRequest
from tests.contract.racing import race
from tests.contract.test_detections import make_detection
from tests.support import NOW, stores_over, unit

FACE, OTHER_FACE = unit(1, 0, 0), unit(0, 1, 0)
PHOTO = b"\xff\xd8\xff the crop"


class Clock:
    def __init__(self) -> None:
        self.now = NOW

    def __call__(self):
        return self.now


class Channel:
    """Takes notices, after refusing as often as it is told."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.sent: list[Notice] = []
        self.faults: list[Exception] = []

    def send(self, notice: Notice) -> None:
        if self.faults:
            raise self.faults.pop(0)
        self.sent.append(notice)


class World:
    """The service over the real local stores, and a host that hands it what is in the queue."""

    def __init__(self, store: LocalStore, clock: Clock, rules: dict) -> None:
        self.store, self.clock = store, clock
        self.stores: Stores = stores_over(store)
        self.mail, self.webhook = Channel("email:ops@example.org"), Channel("webhook")
        self.rules = load_rules(json.dumps(rules))
        self.requests = AlertRequests(rules=self.rules, queue=self.stores.queue)
        self.service = self.service_of()
        self.errors: list[Exception] = []

    def service_of(self, **changes: object) -> AlertService:
        parts = {
            "rules": self.rules,
            "visits": VisitRules(300.0, 0.5),
            "channels": [self.mail, self.webhook],
            "alerts": self.stores.alerts,
            "detections": self.stores.detections,
            "blobs": self.stores.blobs,
            "jobs": self.stores.jobs,
            "queue": self.stores.queue,
            "settings": AlertSettings(10.0, 3600.0, 60.0, 7, 30),
            "clock": self.clock,
        }
        return AlertService(**(parts | changes))  # type: ignore[arg-type]

    def see(self, number: int, **changes: object) -> Detection:
        """Stores a detection and its photo, and asks for an alert, as recognition does."""
        values = {"person_id": UNKNOWN, "embedding": FACE, "captured_at": self.clock.now} | changes
        made = make_detection(number, **values)
        if made.candidate:
            self.stores.blobs.put(CANDIDATES, made.candidate, PHOTO)
        self.stores.detections.add(made)
        self.requests.request(made)
        return made

    def work_off(self) -> int:
        """Hands every visible message to the service; deletes it when that does not raise."""
        count = 0
        while messages := self.stores.queue.receive(ALERT_QUEUE, visibility_timeout_s=1):
            count += 1
            try:
                self.service.run(AlertRequest.model_validate_json(messages[0].body))
            except StoreUnavailable as error:
                self.errors.append(error)
            else:
                self.stores.queue.delete(messages[0])
        return count

    def pass_time(self, seconds: float) -> None:
        self.clock.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def world(tmp_path: Path, clock: Clock) -> Iterator[World]:
    store = LocalStore(tmp_path, clock=clock)
    rules = {
        "rule": [{"name": "strangers", "who": "unknown"}, {"name": "watch", "who": ["eve"], "cameras": ["gate 1"]}]
    }
    yield World(store, clock, rules)
    store.close()


def test_a_stranger_is_told_once_to_everybody_with_the_photo(world: World) -> None:
    made = world.see(1)
    assert world.work_off() == 1
    [notice] = world.mail.sent
    assert world.webhook.sent == [notice]
    assert (notice.detection_id, notice.rules, notice.photo) == (made.id, ("strangers",), PHOTO)
    for number in range(2, 5):
        world.pass_time(250)
        world.see(number, track=f"t{number}")
    world.work_off()
    assert len(world.mail.sent) == len(world.webhook.sent) == 1
    world.pass_time(301)
    world.see(5, track="t5")
    world.work_off()
    assert [notice.detection_id for notice in world.mail.sent] == ["id0001", "id0005"]


def test_two_strangers_are_two_alerts(world: World) -> None:
    world.see(1, track="a")
    world.see(2, track="b", embedding=OTHER_FACE)
    world.work_off()
    assert [notice.detection_id for notice in world.mail.sent] == ["id0001", "id0002"]


def test_somebody_enrolled_is_nobody_s_business_unless_watched(world: World) -> None:
    world.see(1, person_id="ann", embedding=None)
    world.see(2, person_id="eve", embedding=None, camera="elsewhere")
    assert world.stores.queue.length(ALERT_QUEUE) == 0
    world.see(3, person_id="eve", embedding=None)
    world.see(4, person_id="eve", embedding=None, track="t9")
    world.work_off()
    assert [(notice.detection_id, notice.person_id) for notice in world.mail.sent] == [("id0003", "eve")]


def test_the_message_holds_nothing_about_anybody(world: World) -> None:
    world.see(1, person_id="eve", embedding=None)
    [message] = world.stores.queue.peek(ALERT_QUEUE)
    assert set(json.loads(message.body)) == {"schema", "detection_id", "alert_id", "attempt"}
    assert "eve" not in message.body


def test_asking_twice_tells_once(world: World) -> None:
    made = world.see(1)
    world.requests.request(made)
    world.work_off()
    world.requests.request(made)
    world.work_off()
    assert len(world.mail.sent) == len(world.webhook.sent) == 1


def test_a_channel_that_refuses_is_tried_again_later_and_the_other_is_left_alone(world: World) -> None:
    world.mail.faults = [StoreUnavailable("451"), StoreUnavailable("451")]
    world.see(1)
    assert world.work_off() == 1
    assert (len(world.mail.sent), len(world.webhook.sent)) == (0, 1)
    [alert] = world.stores.alerts.list_alerts()
    assert alert.deliveries["email:ops@example.org"].error == "451" and alert.sent_to("webhook")
    assert world.work_off() == 0  # not yet
    world.pass_time(10)
    assert world.work_off() == 1
    world.pass_time(19)
    assert world.work_off() == 0
    world.pass_time(1)
    assert world.work_off() == 1
    assert (len(world.mail.sent), len(world.webhook.sent)) == (1, 1)
    [alert] = world.stores.alerts.list_alerts()
    mail = alert.deliveries["email:ops@example.org"]
    assert (mail.attempts, mail.sent_at, mail.error) == (3, world.clock.now, None)
    assert world.stores.queue.length(ALERT_QUEUE) == 0 and world.errors == []


def test_a_repetition_does_not_ask_again_whether_it_is_news(world: World) -> None:
    """Hours later the visit is forgotten: the alert must not be made a second time, nor the told be told again."""
    world.mail.faults = [StoreUnavailable("down")] * 9
    world.see(1)
    world.see(2, track="t2")
    for _ in range(12):
        world.work_off()
        world.pass_time(900)
    assert (len(world.mail.sent), len(world.webhook.sent)) == (1, 1)
    assert len(world.stores.alerts.list_alerts()) == 1


def test_what_was_refused_for_too_long_is_raised_and_can_be_replayed(world: World) -> None:
    world.mail.faults = [ConfigurationError("wrong")] * 100
    world.see(1)
    while not world.errors:
        world.work_off()
        world.pass_time(900)
    assert world.clock.now - NOW > timedelta(seconds=3600)
    assert "facerelay alerts list" in str(world.errors[0])
    world.mail.faults = []
    world.work_off()
    assert (len(world.mail.sent), len(world.webhook.sent)) == (1, 1)
    assert world.stores.queue.length(ALERT_QUEUE) == 0


class Died(BaseException):
    """The process ends here."""


@pytest.mark.parametrize(
    "step", ["keep_visits", "add_alert", "record_delivery", "after keep_visits", "after add_alert", "after mail"]
)
def test_a_death_anywhere_loses_nothing_and_makes_one_alert(
    world: World, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    target = world.mail if step == "after mail" else world.stores.alerts
    name = step.split()[-1].replace("mail", "send")
    real = getattr(target, name)

    def die(*args: object, **rest: object) -> None:
        if step.startswith("after"):
            real(*args, **rest)
        raise Died

    monkeypatch.setattr(target, name, die)
    world.see(1)
    [message] = world.stores.queue.receive(ALERT_QUEUE, visibility_timeout_s=1)
    with pytest.raises(Died):
        world.service.run(AlertRequest.model_validate_json(message.body))
    monkeypatch.undo()
    world.see(2, track="t2")  # the visit goes on meanwhile
    for _ in range(8):
        world.pass_time(20)
        world.work_off()
    assert len(world.stores.alerts.list_alerts()) == 1
    # Between a server's word and our record of it a death repeats the mail; nowhere else.
    assert len(world.mail.sent) == (2 if step in ("after mail", "record_delivery") else 1)
    assert len({notice.alert_id for notice in world.mail.sent}) == 1
    assert len(world.webhook.sent) == 1
    assert world.stores.queue.length(ALERT_QUEUE) == 0


def test_while_one_tells_another_waits(world: World) -> None:
    made = world.see(1)
    world.stores.jobs.acquire_lease(f"alert-{made.id}", "somebody", ttl_s=60)
    assert world.work_off() == 1
    assert world.mail.sent == [] and world.stores.queue.length(ALERT_QUEUE) == 1
    world.pass_time(61)
    world.work_off()
    assert len(world.mail.sent) == 1 and world.stores.queue.length(ALERT_QUEUE) == 0


def test_workers_at_once_make_one_alert_of_a_visit(world: World) -> None:
    for number in range(8):
        world.see(number, track=f"t{number}")

    def work(number: int) -> None:
        world.service_of().run(AlertRequest(schema=1, detection_id=f"id{number:04d}"))

    race(8, work)
    assert len(world.mail.sent) == len(world.webhook.sent) == len(world.stores.alerts.list_alerts()) == 1


def test_quiet_hours_put_off_until_the_visit_is_seen_outside_them(tmp_path: Path, clock: Clock) -> None:
    store = LocalStore(tmp_path, clock=clock)  # NOW is 03:04:05 UTC
    world = World(store, clock, {"rule": [{"name": "night off", "who": "anybody", "quiet": ["22:00-03:06"]}]})
    world.see(1, person_id="ann")
    world.work_off()
    assert world.mail.sent == [] and world.stores.alerts.list_alerts() == []
    world.pass_time(120)
    world.see(2, person_id="ann")
    world.see(3, person_id="ann")
    world.work_off()
    assert [notice.detection_id for notice in world.mail.sent] == ["id0002"]
    store.close()


def test_a_photo_that_is_gone_does_not_keep_the_news(world: World) -> None:
    world.see(1)
    world.stores.blobs.delete(CANDIDATES, make_detection(1).candidate or "")
    world.see(2, embedding=OTHER_FACE, track="t2", candidate=None)
    world.work_off()
    assert [notice.photo for notice in world.mail.sent] == [None, None]


def test_a_detection_that_is_gone_ends_it(world: World) -> None:
    world.service.run(AlertRequest(schema=1, detection_id="nothing"))
    assert world.mail.sent == [] and world.stores.queue.length(ALERT_QUEUE) == 0


def test_rules_that_were_taken_back_tell_nobody(world: World) -> None:
    world.see(1)
    world.service = world.service_of(rules=load_rules(""))
    world.work_off()
    assert world.mail.sent == []


def test_a_channel_that_is_new_is_told_of_what_is_still_owed(world: World) -> None:
    world.mail.faults = [StoreUnavailable("451")]
    world.see(1)
    world.work_off()
    late = Channel("email:late@example.org")
    world.service = world.service_of(channels=[world.mail, world.webhook, late])
    world.pass_time(10)
    world.work_off()
    assert [len(each.sent) for each in (world.mail, world.webhook, late)] == [1, 1, 1]


def test_nothing_private_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    world.mail.faults = [StoreUnavailable("451")]
    world.see(1, person_id="eve", embedding=None)
    world.work_off()
    told = " ".join(str(record.__dict__) for record in caplog.records)
    assert "alert.failed" in told and "alert.sent" in told
    assert not re.search(r"\beve\b", told) and "ops@example.org" not in told and "crop" not in told


def test_the_face_of_a_visit_moves_with_its_tracks(world: World) -> None:
    """The visit knows each track that it had, so that a face that turns stays one stranger."""
    world.see(1, track="a", embedding=unit(1, 0, 0))
    world.see(2, track="a", embedding=unit(0.3, 1, 0))
    world.see(3, track="b", embedding=unit(0.6, 0.8, 0))
    world.work_off()
    assert len(world.mail.sent) == 1


def test_an_alert_holds_nobody_s_id(world: World) -> None:
    world.see(1, person_id="eve", embedding=None)
    world.work_off()
    [alert] = world.stores.alerts.list_alerts()
    assert alert.detection_id == "id0001"
    assert "eve" not in json.dumps(alert.to_document())
