"""Cosmos DB that is throttled, fails, cuts connections or does not answer."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from shared.adapters.azure.access import AzureAccess
from shared.adapters.azure.cosmos import RECONNECT_AFTER_S, CosmosDatabase
from shared.adapters.azure.detections import CosmosDetectionRepository
from shared.adapters.azure.jobs import CosmosJobRepository
from shared.adapters.azure.people import CosmosPersonRepository
from shared.domain import Person
from shared.errors import NotFound, StoreUnavailable
from shared.ports import DetectionFilter
from tests.contract.test_detections import START, make_detection, make_outcome
from tests.contract.test_people import make_template
from tests.integration.azure.conftest import IMPATIENT
from tests.integration.azure.faulty_proxy import CUT, HANG, Fault, FaultyProxy
from tests.servers import COSMOS_KEY, cosmos_server

THROTTLED = Fault(429, {"x-ms-retry-after-ms": "20"})


@pytest.fixture
def detections(database: CosmosDatabase) -> CosmosDetectionRepository:
    repository = CosmosDetectionRepository(database)
    repository.get_outcome("warm")  # the SDK reads the container's properties once
    return repository


def test_throttled_work_goes_through(cosmos_proxy: FaultyProxy, detections: CosmosDetectionRepository) -> None:
    cosmos_proxy.plan(THROTTLED, THROTTLED)
    assert detections.add(make_detection()) is True
    assert len(cosmos_proxy.seen) == 3
    cosmos_proxy.plan(THROTTLED, THROTTLED)
    assert len(detections.list(DetectionFilter()).detections) == 1


@pytest.mark.parametrize(
    "call",
    [
        lambda detections: detections.add(make_detection()),
        lambda detections: detections.get_outcome("x"),
        lambda detections: detections.list(DetectionFilter()),
        lambda detections: list(detections.list_outcomes()),
        lambda detections: detections.last_of("ann"),
    ],
    ids=["create", "read", "page", "query", "last"],
)
@pytest.mark.parametrize(
    "fault",
    [THROTTLED, Fault(500), Fault(503), Fault(401), Fault(403), HANG],
    ids=["429", "500", "503", "401", "403", "hang"],
)
def test_a_store_that_stays_so_is_unavailable_in_time(
    cosmos_proxy: FaultyProxy,
    detections: CosmosDetectionRepository,
    fault: Fault,
    call: Callable[[CosmosDetectionRepository], object],
) -> None:
    cosmos_proxy.plan(forever=fault)
    started = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        call(detections)
    assert time.monotonic() - started < IMPATIENT.worst_case_cosmos_s
    assert "ann" not in str(caught.value)


def test_a_read_that_is_cut_is_read_again(cosmos_proxy: FaultyProxy, detections: CosmosDetectionRepository) -> None:
    made = make_outcome()
    detections.record_outcome(made)
    cosmos_proxy.plan(CUT)
    assert detections.get_outcome(made.id) == made
    assert len(cosmos_proxy.seen) == 2


def test_a_detection_whose_answer_was_lost_is_stored_once(
    cosmos_proxy: FaultyProxy, detections: CosmosDetectionRepository
) -> None:
    cosmos_proxy.plan(CUT)
    with pytest.raises(StoreUnavailable):
        detections.add(make_detection())
    # The host delivers the candidate again; meanwhile a training has given the face another name.
    assert detections.add(make_detection(person_id="bob")) is False
    (stored,) = detections.list(DetectionFilter()).detections
    assert stored.person_id == "ann"


def test_a_lease_whose_answer_was_lost_is_its_owner_s(cosmos_proxy: FaultyProxy, database: CosmosDatabase) -> None:
    jobs = CosmosJobRepository(database)
    jobs.release_lease("train")
    cosmos_proxy.plan(Fault(), CUT)  # the read goes through, the creation does its work
    with pytest.raises(StoreUnavailable):
        jobs.acquire_lease("train", "a", ttl_s=60)
    assert jobs.acquire_lease("train", "b", ttl_s=60) is False
    assert jobs.acquire_lease("train", "a", ttl_s=60) is True


def test_a_lease_that_has_changed_hands_is_not_released(
    database: CosmosDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs = CosmosJobRepository(database)
    jobs.acquire_lease("train", "a", ttl_s=60)
    stale = jobs._lease("train")
    jobs.release_lease("train", "a")
    jobs.acquire_lease("train", "b", ttl_s=60)
    looks = [stale, jobs._lease("train")]
    monkeypatch.setattr(jobs, "_lease", lambda name: looks.pop(0))
    assert jobs.release_lease("train", "a") is False
    monkeypatch.undo()
    assert jobs.acquire_lease("train", "c", ttl_s=60) is False


def test_a_deletion_that_was_interrupted_is_finished_by_the_next(
    cosmos_proxy: FaultyProxy, database: CosmosDatabase
) -> None:
    people = CosmosPersonRepository(database)
    people.add_person(Person("ann", START))
    people.add_template(make_template())
    cosmos_proxy.plan(Fault(), forever=Fault(503))  # the person goes, the templates cannot be asked for
    with pytest.raises(StoreUnavailable):
        people.delete_person("ann")
    cosmos_proxy.plan()
    assert people.delete_person("ann") is False
    assert list(people.list_templates()) == []


def test_a_person_who_goes_while_a_template_comes_leaves_none(
    cosmos_proxy: FaultyProxy, database: CosmosDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    people, other = CosmosPersonRepository(database), CosmosPersonRepository(database)
    people.add_person(Person("ann", START))
    create = people._templates.create

    def create_late(document: dict[str, object]) -> bool:
        # Between the look and the write, the person is deleted and somebody else enrolled under the id.
        other.delete_person("ann")
        other.add_person(Person("ann", START.replace(year=2027)))
        return create(document)

    monkeypatch.setattr(people._templates, "create", create_late)
    with pytest.raises(NotFound):
        people.add_template(make_template())
    assert list(other.list_templates()) == []


def test_it_connects_when_the_service_comes_up() -> None:
    with cosmos_server() as server:
        server.server.stop()
        access = AzureAccess(cosmos_url=server.url, cosmos_key=COSMOS_KEY, patience=IMPATIENT)
        database = access.cosmos()
        jobs = CosmosJobRepository(database)
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            jobs.get_job("j")
        connecting = time.monotonic() - started
        assert connecting < 20
        started = time.monotonic()
        with pytest.raises(StoreUnavailable):
            jobs.get_job("j")
        assert time.monotonic() - started < min(connecting, RECONNECT_AFTER_S), "nobody waits for what has just failed"
        server.server.start()
        time.sleep(RECONNECT_AFTER_S)
        database.provision()
        with pytest.raises(NotFound):
            jobs.get_job("j")
        database.close()


def test_work_goes_on_after_a_standstill() -> None:
    with cosmos_server() as server:
        database = AzureAccess(cosmos_url=server.url, cosmos_key=COSMOS_KEY, patience=IMPATIENT).cosmos()
        database.provision()
        detections = CosmosDetectionRepository(database)
        assert detections.add(make_detection(1)) is True
        with server.server.paused():
            for call in (lambda: detections.add(make_detection(2)), lambda: detections.get_outcome("x")):
                with pytest.raises(StoreUnavailable):
                    call()
        # The write may have been done after all, once the server went on: the host asks again, and it is there once.
        detections.add(make_detection(2))
        assert [found.id for found in detections.list(DetectionFilter()).detections] == ["id0002", "id0001"]
        database.close()


def test_a_container_that_is_not_deployed_is_not_a_missing_document(
    cosmos_proxy: FaultyProxy, cosmos_db_server: object
) -> None:
    access = AzureAccess(
        cosmos_url=f"http://127.0.0.1:{cosmos_proxy.port}",
        cosmos_key=COSMOS_KEY,
        cosmos_database="never-made",
        patience=IMPATIENT,
    )
    database = access.cosmos()
    detections = CosmosDetectionRepository(database)
    with pytest.raises(StoreUnavailable):
        detections.add(make_detection())
    with pytest.raises(StoreUnavailable):
        detections.list(DetectionFilter())
    database.close()


@pytest.mark.parametrize("job_id", ["../x", "a/b", "a?b", "a#b", "a\\b", "", "x" * 300, "nul\0", "\ud800"])
def test_ids_that_cannot_be_are_not_found(cosmos_proxy: FaultyProxy, database: CosmosDatabase, job_id: str) -> None:
    jobs = CosmosJobRepository(database)
    cosmos_proxy.plan()
    with pytest.raises(NotFound):
        jobs.get_job(job_id)


@pytest.mark.parametrize("person_id", ["o'neil", "李", "çelik", "a.b-c_d", "é" * 64, "100%25"])
def test_ids_of_any_script_are_found(database: CosmosDatabase, person_id: str) -> None:
    people = CosmosPersonRepository(database)
    people.add_person(Person(person_id, START))
    assert people.get_person(person_id) == Person(person_id, START)
    assert people.add_template(make_template(person_id)) is True
    assert [template.person_id for template in people.list_templates(person_id=person_id)] == [person_id]
    assert people.delete_person(person_id) is True
    with pytest.raises(NotFound):
        people.get_person(person_id)
