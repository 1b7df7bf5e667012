"""`/api/v1`: people, templates and models; and devices, which act for their own site."""

from __future__ import annotations

from datetime import timedelta

import pytest
from starlette.testclient import TestClient

from functions.services import Services
from shared.access import Scope
from shared.domain import DATASET
from tests.integration.functions.test_routes import refused

PEOPLE = "/api/v1/people"


def test_people_come_and_go(client: TestClient, jpeg) -> None:
    assert client.get(PEOPLE).json() == {"people": []}
    answer = client.post(PEOPLE, json={"person_id": "Zoë O'Neil"})
    assert answer.status_code == 201, answer.text
    assert (answer.json()["person_id"], answer.json()["templates"]) == ("zoë_o'neil", 0)
    assert client.get(answer.headers["location"]).json() == answer.json()
    refused(client.post(PEOPLE, json={"person_id": "zoë o'neil"}), 409, "conflict")
    assert client.get(PEOPLE).json() == {"people": [answer.json()]}
    assert client.get("/database/people").json() == {"people": [{"face_id": "zoë_o'neil"}]}
    assert client.delete(answer.headers["location"]).json() == {"message": "removed"}
    refused(client.get(answer.headers["location"]), 404, "not_found")
    refused(client.delete(answer.headers["location"]), 404, "not_found")


@pytest.mark.parametrize(
    "body", [{}, {"person_id": ""}, {"person_id": "unknown"}, {"person_id": "../x"}, {"person_id": 7}]
)
def test_somebody_who_cannot_be(client: TestClient, body: dict[str, object]) -> None:
    answer = client.post(PEOPLE, json=body)
    assert answer.status_code == 400 and set(answer.json()) == {"message", "error_message", "code"}
    assert client.get(PEOPLE).json() == {"people": []}


def test_a_template_tells_what_it_is_and_can_be_removed(client: TestClient, running: Services, jpeg) -> None:
    client.post(PEOPLE, json={"person_id": "biden"})
    ids = [
        client.post("/dataset/biden/image", files={"image": jpeg(name)}).json()["template_id"]
        for name in ("demo_biden", "demo_obama")
    ]
    found = client.get(f"{PEOPLE}/biden/templates")
    assert sorted(template["template_id"] for template in found.json()["templates"]) == sorted(ids)
    assert "embedding" not in found.text
    one = found.json()["templates"][0]
    assert one["source"] == "upload" and one["quality"]["size_px"] > 40
    assert client.get(f"{PEOPLE}/biden").json()["templates"] == 2

    assert client.delete(f"{PEOPLE}/biden/templates/{ids[0]}").status_code == 200
    assert [t["template_id"] for t in client.get(f"{PEOPLE}/biden/templates").json()["templates"]] == [ids[1]]
    assert len(list(running.runtime.stores.blobs.list(DATASET))) == 1, "its image is gone as well"
    refused(client.delete(f"{PEOPLE}/biden/templates/{ids[0]}"), 404, "not_found")
    refused(client.delete(f"{PEOPLE}/nobody/templates/{ids[1]}"), 404, "not_found")
    refused(client.get(f"{PEOPLE}/nobody/templates"), 404, "not_found")


def test_models_are_listed_with_the_live_one(enrolled: TestClient, work_off) -> None:
    enrolled.post("/model/optimized-train")
    work_off()
    models = enrolled.get("/api/v1/models").json()["models"]
    assert [model["live"] for model in models] == [True, False]
    assert models[0]["model_id"] == enrolled.get("/api/v1/models/current").json()["manifest"]["model_id"]
    assert models == sorted(models, key=lambda model: model["model_id"], reverse=True)


def test_a_device_acts_for_its_own_site(enrolled: TestClient, running: Services, jpeg) -> None:
    running.runtime.settings.auth = True
    running._made.pop("authenticator")
    text, _ = running.tokens().create(Scope.DEVICE, lifetime=timedelta(days=1), site="branch 7")
    device = {"Authorization": f"Bearer {text}"}
    image = {"image": jpeg("demo_obama")}
    answer = enrolled.post(
        "/face-recognition/store-results", files=image, data={"camera_id": "gate", "site": "elsewhere"}, headers=device
    )
    assert answer.status_code == 200, answer.text
    operator, _ = running.tokens().create(Scope.OPERATOR, lifetime=timedelta(days=1))
    found = enrolled.get("/api/v1/detections", headers={"X-Api-Key": operator}).json()["detections"]
    assert [(d["site"], d["camera"]) for d in found] == [("branch 7", "gate")]
    assert enrolled.post("/face-recognition/get-results", files=image, headers=device).status_code == 200
    refused(enrolled.get("/api/v1/detections", headers=device), 403, "not_permitted")
