"""The real services over the real SDKs and the real networks: enrolled, trained, recognised, asked."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from io import BytesIO

import pytest
from PIL import Image
from pydantic import SecretStr

from functions.services import Services
from shared.bootstrap import build, open_blob_store
from shared.domain import CANDIDATES, DATASET, UNKNOWN, Candidate, sha256_hex, utc_now
from shared.messages import GROUP_QUEUE, TRAIN_QUEUE, GroupRequest, TrainRequest
from shared.ports import DetectionFilter
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image
from tests.servers import COSMOS_KEY, Cosmos, Storage, wipe_storage

CACHE = ModelCache(Settings().model_cache)
MARGIN = 0.6


@pytest.fixture
def settings(storage_server: Storage, cosmos_db_server: Cosmos) -> Settings:
    wipe_storage(storage_server)
    return Settings(
        backend="azure",
        storage_connection_string=SecretStr(storage_server.connection_string),
        cosmos_url=cosmos_db_server.url,
        cosmos_key=SecretStr(COSMOS_KEY),
        cosmos_database=f"services-{uuid.uuid4().hex}",
        model_poll_s=3_600,
    )


@pytest.fixture
def services(settings: Settings) -> Services:
    return Services(build(settings))


def photograph(name: str) -> bytes:
    return CACHE.path(name).read_bytes()


def train(services: Services) -> None:
    """Runs the queue's messages, as the trigger does."""
    services.train_requests().request("fit")
    queue = services.runtime.stores.queue
    (message,) = queue.receive(TRAIN_QUEUE)
    job = services.train().run(TrainRequest.model_validate_json(message.body))
    assert queue.delete(message)
    assert (job.status, services.train_requests().job(job.job_id).status) == ("succeeded", "succeeded")
    services.runtime.live_model.refresh()


@pytest.fixture
def crop(services: Services) -> Callable[[str], tuple[Candidate, bytes]]:
    """The surest face of a photograph, cut out as the gateway does."""

    def cut(name: str) -> tuple[Candidate, bytes]:
        image = decode_image(photograph(name), ImageLimits())
        face = services.runtime.pack.detector.detect(image)[0]
        left, top, right, bottom = (float(edge) for edge in face.box)
        x, y = MARGIN * (right - left), MARGIN * (bottom - top)
        box = (max(0, left - x), max(0, top - y), min(image.shape[1], right + x), min(image.shape[0], bottom + y))
        sink = BytesIO()
        Image.fromarray(image).crop(tuple(int(edge) for edge in box)).save(sink, "JPEG", quality=90)
        candidate = Candidate(
            site="north",
            camera="gate 1",
            location="Küche",
            captured_at=utc_now(),
            track=name,
            shot=0,
            frame_box=(int(left), int(top), int(right), int(bottom)),
            frame_size=(image.shape[1], image.shape[0]),
            detector="mtcnn",
            confidence=face.confidence,
            sha256=sha256_hex(sink.getvalue()),
            uploader="test",
        )
        return candidate, sink.getvalue()

    return cut


def test_from_enrolment_to_the_last_known_location(
    services: Services, settings: Settings, crop: Callable[[str], tuple[Candidate, bytes]]
) -> None:
    for person_id, names in {"Barack Obama": ("demo_obama", "demo_obama2"), "joe_biden": ("demo_biden",)}.items():
        services.enroll().add_person(person_id)
        for name in names:
            services.enroll().add_image(person_id, photograph(name))
    assert services.query().image_counts() == [("barack_obama", 2), ("joe_biden", 1)]
    train(services)

    gateway = open_blob_store(settings)
    for name in ("demo_obama3", "demo_astronaut"):
        candidate, data = crop(name)
        gateway.put(
            CANDIDATES,
            candidate.blob_name,
            data,
            metadata=candidate.to_metadata(),
            tags=candidate.to_tags(),
            content_type="image/jpeg",
            if_absent=True,
        )
    blobs = services.runtime.stores.blobs
    names = list(blobs.find_by_tags(CANDIDATES, {"site": "north", "camera": "gate 1"}))
    assert len(names) == 2
    for name in names * 2:  # the platform delivers at least once
        blob = blobs.get(CANDIDATES, name)
        outcome = services.detections().store_candidate(name, blob.data, blob.properties.metadata)
        assert (outcome.status, outcome.faces) == ("detected", 1)

    found = services.runtime.stores.detections.list(DetectionFilter()).detections
    assert sorted(detection.person_id for detection in found) == ["barack_obama", UNKNOWN]
    assert {detection.person_id: detection.embedding is None for detection in found} == {
        "barack_obama": True,
        UNKNOWN: False,
    }
    seen = services.query().last_known_location("Barack Obama")
    assert seen is not None
    assert (seen.location, seen.camera, seen.site) == ("Küche", "gate 1", "north")
    assert services.query().last_known_location("joe_biden") is None

    services.enroll().remove_person("Barack Obama")
    services.runtime.live_model.refresh()
    assert services.query().image_counts() == [("joe_biden", 1)]
    assert [blob.name.split("/")[0] for blob in blobs.list(DATASET)] == ["joe_biden"]
    (face,) = services.recognizer().recognize(photograph("demo_obama3"))
    assert face.identity.person_id == UNKNOWN


def test_the_embedder_is_changed_and_changed_back(services: Services) -> None:
    """The record, the pointer and two sets of templates over Storage and Cosmos DB."""
    for person_id, name in {"barack_obama": "demo_obama", "joe_biden": "demo_biden"}.items():
        services.enroll().add_person(person_id)
        services.enroll().add_image(person_id, photograph(name))
    train(services)

    def answer() -> tuple[str, str, float]:
        services.runtime.live_model.refresh()
        (face,) = services.recognizer().recognize(photograph("demo_obama2"))
        return face.embedding.embedder_id, face.identity.person_id, face.identity.similarity

    def work_off() -> None:
        queue = services.runtime.stores.queue
        while messages := queue.receive(TRAIN_QUEUE):
            services.train().run(TrainRequest.model_validate_json(messages[0].body))
            queue.delete(messages[0])

    before, requests = answer(), services.migration_requests()
    requests.start("sface", switch=True)
    work_off()
    switched = requests.current()
    assert (switched.state, switched.images, switched.embedded) == ("switched", 2, 2)
    assert answer()[:2] == (switched.target, "barack_obama")
    for wish, state in (("rollback", "rolled_back"), ("finish", "finished")):
        requests.ask(wish)  # type: ignore[arg-type]
        work_off()
        assert requests.current().state == state
        assert answer() == before
    templates = services.runtime.stores.people.list_templates()
    assert [template.embedder_id for template in templates] == [switched.source] * 2


def test_strangers_are_grouped_corrected_and_named(
    services: Services, settings: Settings, crop: Callable[[str], tuple[Candidate, bytes]]
) -> None:
    gateway, groups = open_blob_store(settings), services.groups()
    for number, name in enumerate(("demo_obama", "demo_obama2", "demo_obama3", "demo_biden")):
        candidate, data = crop(name)
        candidate = replace(candidate, captured_at=candidate.captured_at - timedelta(minutes=number))
        gateway.put(CANDIDATES, candidate.blob_name, data, metadata=candidate.to_metadata(), content_type="image/jpeg")
        assert services.detections().store_candidate(candidate.blob_name, data, candidate.to_metadata()).faces == 1
    group_until_done(services)
    (group,) = groups.service.list().groups
    faces = groups.service.faces(group.group_id).detections
    assert len(faces) == 3
    groups.service.split(group.group_id, [faces[0].id])
    group_until_done(services)
    kept = {found.group_id: found.ids for found in groups.service.list().groups}
    assert kept.pop(group.group_id) == {faces[1].id, faces[2].id}
    ((new_id, alone),) = kept.items()
    assert alone == {faces[0].id}

    groups.service.merge(group.group_id, new_id, withdraw=True)
    groups.service.name(group.group_id, "Barack Obama")
    group_until_done(services)
    assert services.query().image_counts() == [("barack_obama", 3)]
    named = services.query().detections(DetectionFilter(person_id="barack_obama")).detections
    assert {(d.named_by, d.previous_person, d.embedding is None) for d in named} == {("group", UNKNOWN, True)}
    assert len(named) == 3 and groups.service.list().groups == []

    services.enroll().remove_person("Barack Obama")
    assert services.query().detections(DetectionFilter(person_id="barack_obama")).detections == []


def group_until_done(services: Services) -> None:
    """Asks for a grouping and runs the queue's messages, as the trigger does."""
    services.groups().service.request_run()
    queue = services.runtime.stores.queue
    while messages := queue.receive(GROUP_QUEUE):
        job = services.groups().jobs.run(GroupRequest.model_validate_json(messages[0].body))
        assert job.status == "succeeded", job.error
        assert queue.delete(messages[0])
