"""Groups of unknown faces over HTTP, with the real models: a stranger is seen, grouped, corrected and named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import azure.functions as func
import pytest
from azure.functions.queue import QueueMessage
from PIL import Image, ImageEnhance
from starlette.testclient import TestClient

from functions.group import group_queue, group_timer
from functions.services import Services
from shared.domain import CANDIDATES, Candidate, sha256_hex, utc_now
from shared.messages import GROUP_QUEUE, TRAIN_QUEUE
from shared.ports import DetectionFilter
from tests.integration.functions.test_routes import refused
from tests.support import saved

GROUPS = "/api/v1/groups"


@pytest.fixture
def seen(running: Services, photo) -> Callable[..., list[str]]:
    """Somebody passes a camera; ids of the detections."""

    def see(name: str, times: int = 3, camera: str = "gate") -> list[str]:
        found = []
        for shot in range(times):
            picture: Image.Image = ImageEnhance.Brightness(photo(name)).enhance(0.9 + 0.1 * shot)
            data = saved(picture, "JPEG", quality=92)
            candidate = Candidate(
                site="hq",
                camera=camera,
                location="lobby",
                captured_at=utc_now() - timedelta(minutes=shot),
                track=f"{name}-{shot}",
                shot=0,
                frame_box=(0, 0, 10, 10),
                frame_size=(640, 480),
                detector="yunet",
                confidence=0.9,
                sha256=sha256_hex(data),
                uploader="test",
            )
            running.runtime.stores.blobs.put(
                CANDIDATES, candidate.blob_name, data, metadata=candidate.to_metadata(), content_type="image/jpeg"
            )
            outcome = running.detections().store_candidate(candidate.blob_name, data, candidate.to_metadata())
            assert outcome.status == "detected"
            found.append(candidate.blob_name)
        stored = running.runtime.stores.detections
        return [d.id for d in stored.list(DetectionFilter(camera=camera)).detections if d.candidate in found]

    return see


@pytest.fixture
def grouped(running: Services) -> Callable[[], int]:
    """Hands every waiting message to the queue's trigger; how many there were."""

    def run() -> int:
        queue, count = running.runtime.stores.queue, 0
        while messages := queue.receive(GROUP_QUEUE):
            message: func.QueueMessage = QueueMessage(
                id=messages[0].id, body=messages[0].body, dequeue_count=1, pop_receipt="r"
            )
            group_queue(message)
            queue.delete(messages[0])
            count += 1
        return count

    return run


def only_group(client: TestClient) -> dict[str, Any]:
    (group,) = client.get(GROUPS).json()["groups"]
    return group


def test_a_stranger_is_grouped_named_and_recognised(client, running: Services, seen, grouped, jpeg, work_off) -> None:
    ids = [*seen("demo_obama", 2), *seen("demo_obama2", 2, camera="yard")]
    seen("demo_biden", 1)
    answer = client.post(f"{GROUPS}/run")
    assert answer.status_code == 202 and answer.json()["kind"] == "group"
    assert grouped() == 1
    assert client.get(answer.headers["location"]).json()["result"] == {"faces": 5, "groups": 1, "grouped": 4}

    group = only_group(client)
    assert group["faces"] == 4 and group["cameras"] == ["gate", "yard"] and group["locations"] == ["lobby"]
    assert group["first_seen"] < group["last_seen"] and group["cover"].startswith("hq/")
    details = client.get(f"{GROUPS}/{group['group_id']}", params={"page_size": 3})
    assert len(details.json()["detections"]) == 3 and "embedding" not in details.text
    rest = client.get(f"{GROUPS}/{group['group_id']}", params={"continuation": details.json()["continuation"]}).json()
    assert {d["id"] for d in details.json()["detections"] + rest["detections"]} == set(ids)

    answer = client.post(f"{GROUPS}/{group['group_id']}/name", json={"person_id": "Barack Obama"})
    assert answer.status_code == 202
    assert only_group(client)["naming"] == answer.json()["job_id"]
    refused(client.post(f"{GROUPS}/{group['group_id']}/reject", json={"detections": ids[:1]}), 409, "conflict")
    assert grouped() == 1
    job = client.get(answer.headers["location"]).json()
    assert job["status"] == "succeeded", job
    assert job["result"]["detections"] == 4 and job["result"]["person_created"] and job["result"]["unusable"] == {}
    assert job["result"]["templates"] == 2, "of each photograph one: a little brighter is all but the same"
    assert client.get(GROUPS).json()["groups"] == []
    found = client.get("/api/v1/detections", params={"person_id": "barack_obama"}).json()["detections"]
    assert {d["id"] for d in found} == set(ids)
    assert {(d["named_by"], d["previous_person"]) for d in found} == {("group", "unknown")}
    templates = client.get("/api/v1/people/barack_obama/templates").json()["templates"]
    assert [t["source"] for t in templates] == ["group", "group"]

    assert running.runtime.stores.queue.length(TRAIN_QUEUE) == 1 and work_off() == 1
    faces = client.post("/face-recognition/get-results", files={"image": jpeg("demo_obama3")}).json()["faces"]
    assert faces[0]["top_prediction"]["label"] == "barack_obama"

    assert client.post(f"/api/v1/detections/{ids[0]}/reject").json() == {"message": "unknown from now on"}
    refused(client.post(f"/api/v1/detections/{ids[0]}/reject"), 409, "conflict")
    assert client.delete("/dataset/barack_obama").status_code == 200
    assert client.get("/api/v1/detections", params={"person_id": "barack_obama"}).json()["detections"] == []


def test_corrections_over_http(client, seen, grouped) -> None:
    obama, biden = seen("demo_obama", 4), seen("demo_biden", 3)
    client.post(f"{GROUPS}/run")
    grouped()
    by_size = {group["faces"]: group["group_id"] for group in client.get(GROUPS).json()["groups"]}
    one, other = by_size[4], by_size[3]
    split = client.post(f"{GROUPS}/{one}/split", json={"detections": obama[:2]}).json()
    assert (split["group"]["faces"], split["new_group"]["faces"]) == (2, 2)
    refused(client.post(f"{GROUPS}/{one}/merge", json={"other": split["new_group"]["group_id"]}), 409, "conflict")
    merge = {"other": split["new_group"]["group_id"], "withdraw": True}
    assert client.post(f"{GROUPS}/{one}/merge", json=merge).json()["faces"] == 4
    assert client.post(f"{GROUPS}/{one}/merge", json={"other": other}).json()["faces"] == 7
    assert client.post(f"{GROUPS}/{one}/reject", json={"detections": biden}).json()["faces"] == 4
    client.post(f"{GROUPS}/run")
    grouped()
    assert sorted(group["faces"] for group in client.get(GROUPS).json()["groups"]) == [3, 4]
    entries = [e for e in client.get("/api/v1/audit").json()["entries"] if "groups" in e["action"]]
    assert len(entries) == 7 and {"other", "group_id"} == {*entries[2]["target"]}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("merge", {}),
        ("merge", {"other": 7}),
        ("split", {"detections": []}),
        ("split", {"detections": ["x" * 65]}),
        ("reject", {"detections": "all"}),
        ("name", {"person_id": "unknown"}),
        ("name", {"person_id": "../x"}),
    ],
)
def test_what_makes_no_sense_is_refused(client, path: str, body: dict[str, object]) -> None:
    assert client.post(f"{GROUPS}/g:nothing/{path}", json=body).status_code == 400


def test_groups_that_are_not_there(client) -> None:
    assert client.get(GROUPS).json() == {"groups": [], "continuation": None}
    refused(client.get(f"{GROUPS}/g:nothing"), 404, "not_found")
    refused(client.post(f"{GROUPS}/g:nothing/name", json={"person_id": "ann"}), 404, "not_found")
    refused(client.post("/api/v1/detections/nothing/reject"), 404, "not_found")
    refused(client.get(GROUPS, params={"continuation": "x"}), 400, "invalid_input")


def test_the_timer_asks_once_and_not_at_all_where_none_is_wanted(running: Services) -> None:
    timer: Any = object()
    group_timer(timer)
    group_timer(timer)
    queue = running.runtime.stores.queue
    assert queue.length(GROUP_QUEUE) == 1
    queue.delete(*queue.receive(GROUP_QUEUE))
    running.runtime.settings.group_unknown = False
    group_timer(timer)
    assert queue.length(GROUP_QUEUE) == 0
