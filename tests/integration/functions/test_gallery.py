"""The gallery over HTTP with real faces: reasons, near-duplicates, the review, and the operator's word."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from functions.services import Services
from shared.domain import DATASET
from tests.integration.functions.test_routes import refused

CHECK = "/api/v1/gallery/check"


def encoded(image: Image.Image, quality: int = 92) -> bytes:
    sink = BytesIO()
    image.save(sink, "JPEG", quality=quality)
    return sink.getvalue()


def add(client: TestClient, person: str, data: bytes, **form: str):
    return client.post(f"/dataset/{person}/image", files={"image": data}, data=form)


@pytest.fixture
def gallery(client: TestClient, jpeg) -> dict[str, str]:
    """Obama with two photographs of him and one of Biden; Biden with the same one. Template ids by what they show."""
    client.post("/dataset/obama")
    client.post("/dataset/biden")
    ids = {}
    for key, person, name in (
        ("obama", "obama", "demo_obama"),
        ("obama2", "obama", "demo_obama2"),
        ("wrong", "obama", "demo_biden"),
        ("biden", "biden", "demo_biden"),
    ):
        answer = add(client, person, jpeg(name))
        assert answer.status_code == 200 and answer.json()["added"], answer.text
        ids[key] = answer.json()["template_id"]
    return ids


def test_a_refused_photograph_names_its_reason(client: TestClient, photo) -> None:
    client.post("/dataset/obama")
    obama, biden = photo("demo_obama"), photo("demo_biden")
    both = Image.fromarray(np.hstack([np.asarray(im.resize((300, 400))) for im in (obama, biden)]))
    over = Image.fromarray(np.clip(np.asarray(obama).astype(int) * 2.2, 0, 255).astype(np.uint8))
    for picture, reason in (
        (Image.new("RGB", (200, 200)), "no_face"),
        (both, "several_faces"),
        (over, "too_bright"),
        (obama.resize((84, 105)), "too_small"),
    ):
        answer = add(client, "obama", encoded(picture))
        body = answer.json()
        assert (answer.status_code, body["code"], body["reason"]) == (400, "unusable_face", reason), body
        assert "use a" in body["message"] and set(body) == {"message", "error_message", "code", "reason"}
    assert client.get("/dataset").json()["face_ids"][0]["number_of_images"] == 0


def test_where_a_photograph_comes_from_is_kept(client: TestClient, photo, jpeg) -> None:
    client.post("/dataset/obama")
    assert add(client, "obama", jpeg("demo_obama"), source="video").status_code == 200
    [template] = client.get("/api/v1/people/obama/templates").json()["templates"]
    assert (template["source"], template["kept"]) == ("video", False)
    assert set(template["quality"]) >= {"pitch", "roll", "dark", "bright", "contrast"}
    refused(add(client, "obama", jpeg("demo_obama2"), source="rumour"), 400, "invalid_input")


def test_the_same_photograph_in_other_clothes_adds_nothing(client: TestClient, running: Services, photo) -> None:
    client.post("/dataset/obama")
    picture = photo("demo_obama")
    first = add(client, "obama", encoded(picture)).json()
    width, height = picture.size
    for other in (
        encoded(picture, 60),
        encoded(picture.resize((int(width * 0.8), int(height * 0.8)))),
        encoded(picture.crop((3, 5, width - 4, height - 2))),
    ):
        answer = add(client, "obama", other).json()
        assert (answer["added"], answer["template_id"]) == (False, first["template_id"])
        assert "already" in answer["message"]
    assert len(list(running.runtime.stores.blobs.list(DATASET))) == 1


def test_a_wrong_photograph_is_found_and_nothing_is_deleted(client: TestClient, gallery: dict[str, str]) -> None:
    found = client.get(CHECK).json()
    assert (found["people"], found["templates"], found["set_aside"], found["measured"]) == (2, 4, 1, False)
    [finding] = found["findings"]
    assert (finding["person_id"], finding["template_id"]) == ("obama", gallery["wrong"])
    assert (finding["reason"], finding["nearest_person"], finding["set_aside"]) == ("confuses", "biden", True)
    assert finding["other_template"] == gallery["biden"] and finding["own_template"] != gallery["wrong"]
    assert finding["nearest_similarity"] > 0.99 > 0.4 > finding["own_similarity"]
    assert found["pairs"] == []
    assert len(client.get("/api/v1/people/obama/templates").json()["templates"]) == 3


def test_an_operators_word_goes_before_the_review_and_is_audited(
    client: TestClient, running: Services, gallery: dict[str, str]
) -> None:
    path = f"/api/v1/people/obama/templates/{gallery['wrong']}/keep"
    assert "kept" in client.post(path).json()["message"]
    assert client.get(CHECK).json()["findings"] == []
    kept = {t["template_id"]: t["kept"] for t in client.get("/api/v1/people/obama/templates").json()["templates"]}
    assert kept == {gallery["obama"]: False, gallery["obama2"]: False, gallery["wrong"]: True}
    assert client.delete(path).status_code == 200
    assert client.get(CHECK).json()["set_aside"] == 1
    audited = [(e.action, e.status) for e in running.runtime.stores.audit.list().entries]
    route = "/api/v1/people/{person_id}/templates/{template_id}/keep"
    assert (f"POST {route}", 200) in audited and (f"DELETE {route}", 200) in audited
    refused(client.post("/api/v1/people/obama/templates/none/keep"), 404, "not_found")
    refused(client.post(f"/api/v1/people/nobody/templates/{gallery['wrong']}/keep"), 404, "not_found")


def test_the_stored_face_can_be_looked_at(client: TestClient, gallery: dict[str, str]) -> None:
    answer = client.get(f"/api/v1/people/obama/templates/{gallery['obama']}/image")
    assert answer.status_code == 200 and answer.headers["content-type"] == "image/jpeg"
    assert answer.headers["cache-control"] == "no-store"
    with Image.open(BytesIO(answer.content)) as image:
        assert min(image.size) > 100
    refused(client.get(f"/api/v1/people/biden/templates/{gallery['obama']}/image"), 404, "not_found")


def test_findings_are_cut_off_where_the_caller_says(client: TestClient, gallery: dict[str, str], jpeg) -> None:
    client.post("/dataset/wrong")
    for name in ("demo_obama", "demo_biden"):  # two that disagree, both somebody else: nobody can tell
        add(client, "wrong", jpeg(name))
    found = client.get(CHECK, params={"limit": 1}).json()
    assert len(found["findings"]) == 1 < found["total"]
    refused(client.get(CHECK, params={"limit": 0}), 400, "invalid_input")


def test_a_rejected_face_is_told_when_asked_for(enrolled: TestClient, running: Services, jpeg) -> None:
    running.runtime.settings.recognize_min_size_px = 900
    running._made.pop("recognizer", None)
    running._made.pop("detections", None)
    image = {"image": jpeg("demo_obama")}
    plain = enrolled.post("/face-recognition/get-results", files=image).json()
    assert plain == {"faces": []}, "programs of the seed see what they always saw"
    for asked in ({"params": {"include_rejected": "true"}}, {"data": {"include_rejected": "true"}}):
        told = enrolled.post("/face-recognition/get-results", files=image, **asked).json()
        assert told["faces"] == [] and [face["reason"] for face in told["rejected"]] == ["too_small"]
        assert set(told["rejected"][0]["bounding_box"]) == {"left", "top", "right", "bottom"}
    stored = enrolled.post("/face-recognition/store-results", files=image).json()
    assert stored == {"message": "0 faces stored, 1 rejected: too_small"}
    assert enrolled.get("/api/v1/detections").json()["detections"] == []


def test_with_rejected_asked_for_and_none_there_the_list_is_empty(enrolled: TestClient, jpeg) -> None:
    told = enrolled.post(
        "/face-recognition/get-results", files={"image": jpeg("demo_obama")}, params={"include_rejected": "true"}
    ).json()
    assert told["rejected"] == [] and len(told["faces"]) == 1
    assert told["faces"][0]["all_predictions"] is None, "still there, and null"
