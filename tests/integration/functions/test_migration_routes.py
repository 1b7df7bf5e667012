"""The routes of changing the embedder, over real weights of both packs."""

from __future__ import annotations

from collections.abc import Callable

from starlette.testclient import TestClient

from functions.services import services

PATH = "/api/v1/models/migration"


def test_before_the_first_there_is_none(client: TestClient) -> None:
    assert client.get(PATH).status_code == 404
    assert client.post(f"{PATH}/switch").status_code == 404
    assert client.post(f"{PATH}/nonsense").status_code == 400


def test_what_cannot_begin(client: TestClient) -> None:
    assert client.post(PATH, json={"to": "nonsense"}).status_code == 400
    assert client.post(PATH, json={"to": "/etc/passwd.toml"}).status_code == 400, "names of packs, and no paths"
    assert client.post(PATH, json={"to": "sface", "compare": 0}).status_code == 400
    refused = client.post(PATH, json={"to": "facenet"})
    assert refused.status_code == 409 and "answers already" in refused.json()["message"]


def test_there_and_back(enrolled: TestClient, jpeg: Callable[[str], bytes], work_off: Callable[[], int]) -> None:
    def label() -> tuple[str, float]:
        [face] = enrolled.post("/face-recognition/get-results", files={"image": jpeg("demo_obama2")}).json()["faces"]
        return face["top_prediction"]["label"], face["top_prediction"]["confidence"]

    before = label()
    begun = enrolled.post(PATH, json={"to": "sface"})
    assert begun.status_code == 202 and begun.headers["Location"] == PATH
    assert begun.json()["state"] == "embedding" and begun.json()["comparison"] is None
    work_off()
    ready = enrolled.get(PATH).json()
    assert (ready["state"], ready["images"], ready["embedded"], ready["skipped"]) == ("ready", 2, 2, 0)
    assert set(ready["comparison"]) == {"crops", "enrolled", "changes", "models"}
    assert ready["comparison"]["enrolled"]["compared"] == 2
    assert all({"from", "to", "count", "of", "ids"} == set(change) for change in ready["comparison"]["changes"])
    assert ready["comparison"]["models"]["new"]["embedder_id"] == ready["target"]
    assert label() == before

    waiting = enrolled.post(f"{PATH}/switch")
    assert (waiting.status_code, waiting.json()["wish"]) == (202, "switch")
    work_off()
    assert enrolled.get(PATH).json()["rules"] == ready["target"]
    assert enrolled.get("/api/v1/models/current").json()["manifest"]["embedder"]["embedder_id"] == ready["target"]
    assert enrolled.get("/dataset").json()["face_ids"][0]["number_of_images"] == 1
    assert enrolled.get("/api/v1/health").json()["gallery"] == "current"
    after = label()
    assert after[0] == "barack_obama" and after != before

    assert enrolled.post(f"{PATH}/cancel").status_code == 409
    enrolled.post(f"{PATH}/rollback")
    work_off()
    assert enrolled.get(PATH).json()["rollback"] == "exact"
    assert label() == before

    asked = [(entry.action, entry.status) for entry in services().runtime.stores.audit.list().entries]
    assert (f"POST {PATH}/{{step}}", 202) in asked and (f"POST {PATH}", 202) in asked
