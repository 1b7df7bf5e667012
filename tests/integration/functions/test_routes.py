"""Every route that the seed's programs call: statuses, bodies, spellings, and the one shape of errors."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from starlette.testclient import TestClient

from functions.services import Services
from shared.domain import UNKNOWN, parse_time
from shared.errors import ConfigurationError, StoreUnavailable
from shared.messages import TRAIN_QUEUE

BOX = {"left", "top", "right", "bottom"}
ERROR = {"message", "error_message", "code"}


def refused(answer, status: int, code: str) -> str:
    """Checks an error's shape, and returns its message."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == ERROR and body["message"] == body["error_message"] and body["code"] == code
    assert "Traceback" not in answer.text
    return body["message"]


class TestDataset:
    def test_nobody(self, client: TestClient) -> None:
        answer = client.get("/dataset")
        assert (answer.status_code, answer.json()) == (200, {"face_ids": []})

    def test_people_and_their_images(self, enrolled: TestClient) -> None:
        assert enrolled.get("/dataset").json() == {
            "face_ids": [
                {"id_name": "barack_obama", "number_of_images": 1},
                {"id_name": "joe_biden", "number_of_images": 1},
            ]
        }

    def test_ids_are_lower_cased_and_spaces_become_underscores(self, client: TestClient) -> None:
        assert "harrison_ford" in client.post("/dataset/Harrison%20Ford").json()["message"]
        assert client.get("/database/people").json() == {"people": [{"face_id": "harrison_ford"}]}
        refused(client.post("/dataset/HARRISON_FORD"), 409, "conflict")
        assert client.delete("/dataset/harrison Ford").status_code == 200

    def test_the_same_image_twice(self, enrolled: TestClient, jpeg) -> None:
        answer = enrolled.post("/dataset/barack_obama/image", files={"image": jpeg("demo_obama")})
        assert answer.status_code == 200 and answer.json()["added"] is False
        assert enrolled.get("/dataset").json()["face_ids"][0]["number_of_images"] == 1

    @pytest.mark.parametrize("path", ["/dataset/Barack Obama", "/api/v1/people/Barack Obama"])
    def test_a_removed_person_is_gone_everywhere_at_once(self, enrolled: TestClient, path: str, jpeg) -> None:
        assert enrolled.delete(path).status_code == 200
        assert enrolled.get("/database/people").json() == {"people": [{"face_id": "joe_biden"}]}
        answer = enrolled.post("/face-recognition/get-results", files={"image": jpeg("demo_obama")}).json()
        assert [f["top_prediction"]["label"] for f in answer["faces"]] == [UNKNOWN]
        assert enrolled.get("/api/v1/models/current").json()["manifest"]["people"] == 1
        refused(enrolled.delete("/dataset/Barack Obama"), 404, "not_found")

    def test_errors(self, client: TestClient, jpeg) -> None:
        image = {"image": jpeg("demo_obama")}
        refused(client.delete("/dataset/nobody"), 404, "not_found")
        refused(client.post("/dataset/nobody/image", files=image), 404, "not_found")
        refused(client.post("/dataset/unknown"), 400, "invalid_identifier")
        refused(client.post("/dataset/nobody/image"), 400, "invalid_input")
        refused(client.put("/dataset/nobody"), 405, "http")

    @pytest.mark.parametrize(
        ("path", "methods"),
        [
            ("/dataset", "GET"),
            ("/dataset/nobody", "POST, DELETE"),
            ("/api/v1/people", "GET, POST"),
            ("/api/v1/groups/run", "POST"),
            ("/api/v1/groups/g:0v8n5b1zra", "GET"),
            ("/face-recognition/get-results", "GET, POST"),
        ],
    )
    def test_a_wrong_method_is_told_the_right_ones(self, client: TestClient, path: str, methods: str) -> None:
        assert client.options(path).headers["allow"] == methods

    @pytest.mark.parametrize(
        "path", ["..%2F..%2Fetc", "%2e%2e", "a%00b", "%F0%9F%98%80", "x" * 65, "x" * 300, "%20", "-rf", "a%0Ab"]
    )
    @pytest.mark.parametrize("method", ["POST", "DELETE"])
    def test_hostile_ids_are_refused(self, client: TestClient, running: Services, method: str, path: str) -> None:
        answer = client.request(method, f"/dataset/{path}")
        assert answer.status_code in (400, 404, 405), answer.text
        assert set(answer.json()) == ERROR
        assert list(running.runtime.stores.people.list_people()) == []


class TestTraining:
    @pytest.mark.parametrize(
        ("path", "result"),
        [
            ("/model/generate-emb", {"images", "templates", "without_face", "unreadable", "deleted"}),
            ("/model/optimized-train", {"model_id", "people", "templates", "calibration"}),
            ("/model/train", {"images", "model_id", "people", "calibration"}),
        ],
    )
    def test_a_long_training_answers_202_and_a_status_url(
        self, enrolled: TestClient, work_off, path: str, result: set[str]
    ) -> None:
        answer = enrolled.post(path)
        assert answer.status_code == 202 and answer.json()["status"] == "queued"
        status = answer.headers["location"]
        assert status == f"/api/v1/jobs/{answer.json()['job_id']}"
        assert enrolled.get(status).json()["status"] == "queued"
        work_off()
        job = enrolled.get(status).json()
        assert job["status"] == "succeeded" and job["progress"] == 1.0
        assert result <= set(job["result"])

    def test_a_short_training_answers_200(self, client: TestClient, running: Services, work_off) -> None:
        running.runtime.settings.train_http_wait_s = 60.0
        stop = threading.Event()

        def host() -> None:
            while not stop.wait(0.05):
                if running.runtime.stores.queue.length(TRAIN_QUEUE):
                    work_off()

        thread = threading.Thread(target=host)
        thread.start()
        try:
            answer = client.post("/model/optimized-train")
        finally:
            stop.set()
            thread.join()
        assert (answer.status_code, answer.json()["status"]) == (200, "succeeded")

    def test_a_training_that_fails_says_so(
        self, client: TestClient, running: Services, work_off, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refused_for_good(*_: object, **__: object) -> None:
            raise ConfigurationError("a bundle that no store takes")

        monkeypatch.setattr(running.runtime.registry, "publish", refused_for_good)
        job = client.post("/model/optimized-train").json()
        work_off()
        assert client.get(f"/api/v1/jobs/{job['job_id']}").json()["status"] == "failed"

    def test_no_such_job_and_no_model(self, client: TestClient) -> None:
        refused(client.get("/api/v1/jobs/none"), 404, "not_found")
        refused(client.get("/api/v1/models/current"), 404, "not_found")

    def test_the_live_model_tells_what_it_is(self, enrolled: TestClient) -> None:
        manifest = enrolled.get("/api/v1/models/current").json()["manifest"]
        assert (manifest["people"], manifest["templates"]) == (2, 2)
        assert manifest["embedder"]["embedder_id"] == "facenet-casia-20180408.1"
        assert "barack_obama" not in str(manifest)


class TestRecognition:
    def test_faces_of_people_and_strangers(self, enrolled: TestClient, jpeg) -> None:
        for name, label in (("demo_obama2", "barack_obama"), ("demo_biden", "joe_biden"), ("demo_astronaut", UNKNOWN)):
            answer = enrolled.post("/face-recognition/get-results", files={"image": jpeg(name)})
            assert answer.status_code == 200
            [face] = answer.json()["faces"]
            assert set(face) == {"top_prediction", "bounding_box", "all_predictions"}
            assert face["top_prediction"]["label"] == label
            assert 0 <= face["top_prediction"]["confidence"] <= 1
            assert set(face["bounding_box"]) == BOX and face["all_predictions"] is None

    def test_get_with_a_body_answers_the_same(self, enrolled: TestClient, jpeg) -> None:
        """The seed's clients send it."""
        files = {"image": jpeg("demo_obama2")}
        by_get = enrolled.request("GET", "/face-recognition/get-results", files=files)
        assert by_get.status_code == 200
        assert by_get.json() == enrolled.post("/face-recognition/get-results", files=files).json()

    @pytest.mark.parametrize("where", ["query", "form"])
    def test_everybodys_prediction_on_request(self, enrolled: TestClient, jpeg, where: str) -> None:
        options = (
            {"params": {"include_predictions": "true"}}
            if where == "query"
            else {"data": {"include_predictions": "true"}}
        )
        answer = enrolled.post("/face-recognition/get-results", files={"image": jpeg("demo_obama2")}, **options)
        [face] = answer.json()["faces"]
        assert [p["label"] for p in face["all_predictions"]] == ["barack_obama", "joe_biden"]
        assert face["all_predictions"][0] == face["top_prediction"]

    def test_before_anybody_is_enrolled_everybody_is_unknown(self, client: TestClient, jpeg) -> None:
        files = {"image": jpeg("demo_obama")}
        answer = client.post("/face-recognition/get-results?include_predictions=1", files=files)
        [face] = answer.json()["faces"]
        assert face["top_prediction"]["label"] == UNKNOWN and face["all_predictions"] == []

    @pytest.mark.parametrize("path", ["store-results", "store-result"])
    @pytest.mark.parametrize("where", ["query", "form"])
    def test_stored_as_detections(self, enrolled: TestClient, jpeg, path: str, where: str) -> None:
        places = {"camera_id": "cam 7", "location_id": "Tor Süd"}
        options = {"params": places} if where == "query" else {"data": places}
        before = datetime.now(UTC) - timedelta(milliseconds=1)
        answer = enrolled.post(f"/face-recognition/{path}", files={"image": jpeg("demo_obama2")}, **options)
        assert (answer.status_code, answer.json()) == (200, {"message": "1 faces stored"})
        [seen] = enrolled.get("/database/Barack Obama/last-known-location").json()["last_known_location"]
        assert set(seen) == {"location", "detected_by_camera_id", "timestamp"}
        assert (seen["location"], seen["detected_by_camera_id"]) == ("Tor Süd", "cam 7")
        assert before <= parse_time(seen["timestamp"]) <= datetime.now(UTC)

    @pytest.mark.parametrize("path", ["send-results", "send-result"])
    def test_sent_to_the_webhook_and_not_stored(self, enrolled: TestClient, jpeg, outbox, path: str) -> None:
        data = {"camera_id": "c", "location_id": "l"}
        answer = enrolled.post(f"/face-recognition/{path}", files={"image": jpeg("demo_obama2")}, data=data)
        assert (answer.status_code, answer.json()) == (200, {"message": "1 faces sent"})
        [document] = outbox.sent
        assert (document["camera_id"], document["location_id"]) == ("c", "l")
        assert document["faces"][0]["top_prediction"]["label"] == "barack_obama"
        assert enrolled.get("/api/v1/detections").json()["detections"] == []

    def test_a_webhook_that_is_not_set_or_not_there(self, client: TestClient, jpeg, outbox) -> None:
        files = {"image": jpeg("demo_obama2")}
        outbox.fault = ConfigurationError("no webhook is configured; set FACERELAY_WEBHOOK_URL")
        assert "FACERELAY_WEBHOOK_URL" in refused(
            client.post("/face-recognition/send-results", files=files), 409, "configuration"
        )
        outbox.fault = StoreUnavailable("the webhook did not answer")
        answer = client.post("/face-recognition/send-results", files=files)
        refused(answer, 503, "store_unavailable")
        assert int(answer.headers["retry-after"]) > 0

    def test_a_dry_run_only_receives(self, client: TestClient) -> None:
        answer = client.post("/face-recognition/dry-run", files={"image": b"x" * 1234})
        assert (answer.status_code, answer.json()) == (200, {"message": "1234 bytes received"})
        assert client.get("/api/v1/detections").json()["detections"] == []

    @pytest.mark.parametrize("camera", ["x" * 65, "a\nb"])
    def test_places_that_are_none_are_refused(self, client: TestClient, jpeg, camera: str) -> None:
        answer = client.post(
            "/face-recognition/store-results", files={"image": jpeg("demo_obama2")}, params={"camera_id": camera}
        )
        assert answer.status_code == 400 and set(answer.json()) == ERROR

    def test_no_image_is_named(self, client: TestClient) -> None:
        assert "image" in refused(client.post("/face-recognition/get-results"), 400, "invalid_input")
        refused(client.post("/face-recognition/get-results", data={"image": "text"}), 400, "invalid_input")
        refused(client.post("/face-recognition/get-results", files={"picture": b"x"}), 400, "invalid_input")


class TestQueries:
    def test_people(self, enrolled: TestClient) -> None:
        assert enrolled.get("/database/people").json() == {
            "people": [{"face_id": "barack_obama"}, {"face_id": "joe_biden"}]
        }

    def test_last_known_location_of_nobody_and_of_somebody_never_seen(self, enrolled: TestClient) -> None:
        assert enrolled.get("/database/joe_biden/last-known-location").json() == {"last_known_location": []}
        refused(enrolled.get("/database/nobody/last-known-location"), 404, "not_found")
        refused(enrolled.get("/database/-/last-known-location"), 400, "invalid_identifier")

    def test_detections_by_person_place_and_time(self, enrolled: TestClient, jpeg) -> None:
        for name, camera in (("demo_obama2", "a"), ("demo_biden", "b"), ("demo_astronaut", "b")):
            enrolled.post(f"/face-recognition/store-results?camera_id={camera}", files={"image": jpeg(name)})

        def people(**where: str) -> list[str]:
            return [d["person_id"] for d in enrolled.get("/api/v1/detections", params=where).json()["detections"]]

        assert people() == [UNKNOWN, "joe_biden", "barack_obama"], "newest first"
        assert people(person_id="joe_biden") == ["joe_biden"]
        assert people(camera="b") == [UNKNOWN, "joe_biden"]
        assert people(since="2100-01-01T00:00:00Z") == []
        first = enrolled.get("/api/v1/detections?page_size=2").json()
        rest = enrolled.get("/api/v1/detections", params={"page_size": "2", "continuation": first["continuation"]})
        assert len(first["detections"]) == 2 and len(rest.json()["detections"]) == 1
        assert "embedding" not in str(first), "no embedding leaves the system"

    @pytest.mark.parametrize("query", ["since=yesterday", "continuation=x", "page_size=0", "page_size=a"])
    def test_questions_that_make_no_sense(self, client: TestClient, query: str) -> None:
        refused(client.get(f"/api/v1/detections?{query}"), 400, "invalid_input")

    def test_debug(self, client: TestClient, running: Services) -> None:
        assert client.get("/debug/IP").json()["IP"].count(".") == 3
        assert client.get("/debug/node-name").json()["node_name"]
        running.runtime.stores.jobs.acquire_lease("train", "dead", ttl_s=60)
        assert "unblocked" in client.post("/debug/unblock-dataset").json()["message"]
        assert "not blocked" in client.post("/debug/unblock-dataset").json()["message"]

    def test_health(self, client: TestClient, running: Services) -> None:
        answer = client.get("/health")
        assert answer.status_code == 200
        assert {key: answer.json()[key] for key in ("live", "ready", "reason")} == {
            "live": True,
            "ready": True,
            "reason": None,
        }

    def test_nowhere(self, client: TestClient) -> None:
        refused(client.get("/nowhere"), 404, "http")


def test_security_headers_are_on_every_answer(client: TestClient) -> None:
    for path in ("/dataset", "/nowhere", "/health"):
        headers = client.get(path).headers
        assert headers["x-content-type-options"] == "nosniff" and headers["cache-control"] == "no-store"


def test_what_nobody_expected_is_a_500_that_tells_nothing(
    client: TestClient, running: Services, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken() -> None:
        raise RuntimeError("the password is hunter2")

    monkeypatch.setattr(running, "query", broken)
    answer = client.get("/dataset")
    refused(answer, 500, "unexpected")
    assert "hunter2" not in answer.text
    assert "hunter2" in caplog.text, "the log has it"


def test_requests_at_once_all_get_their_own_answer(enrolled: TestClient, jpeg) -> None:
    answers: dict[str, str] = {}

    def ask(name: str) -> None:
        for _ in range(3):
            faces = enrolled.post("/face-recognition/get-results", files={"image": jpeg(name)}).json()["faces"]
            answers[name] = faces[0]["top_prediction"]["label"]

    threads = [threading.Thread(target=ask, args=(n,)) for n in ("demo_obama2", "demo_biden", "demo_astronaut")]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == {"demo_obama2": "barack_obama", "demo_biden": "joe_biden", "demo_astronaut": UNKNOWN}
    assert time.monotonic() - started < 60
