"""Every function, indexed and invoked by Microsoft's own worker library. Run on Python 3.13 by `make conformance`.

Real models, the local backend in a folder of its own, authentication on as in the cloud, payloads as the host sends
them. `test_conformance.py` runs this from the main suite, in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from shared.access import Scope
from shared.domain import CANDIDATES
from shared.messages import ALERT_QUEUE, GROUP_QUEUE, TRAIN_QUEUE
from tests.conformance import payloads
from tests.conformance.worker import RefusedError, TypedData, Worker

ROOT = Path(__file__).parents[2]
RULES = {"rule": [{"name": "watch list", "who": ["barack_obama"]}]}


class Receiver(BaseHTTPRequestHandler):
    """A webhook that takes everything."""

    taken: list[dict[str, Any]] = []

    def do_POST(self) -> None:  # noqa: N802 - the library's name
        self.taken.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *arguments: Any) -> None:
        """Says nothing."""


class Cloud:
    """The app in the worker, and what the host and the platform's services would know beside it.

    Attributes:
        token: of an administrator.
    """

    def __init__(self, worker: Worker) -> None:
        from datetime import timedelta

        from functions.services import services

        self.worker = worker
        self.services = services()
        self.stores = self.services.runtime.stores
        self.token, _ = self.services.tokens().create(Scope.ADMIN, lifetime=timedelta(days=1))

    def invoke(self, name: str, **values: str) -> TypedData | None:
        """Invokes a recorded payload; what the function returned."""
        payload = payloads.load(name, token=self.token, **values)
        answer = self.worker.invoke(payload.function, payload.input, payload.trigger_metadata)
        assert not answer.output_data, "no function has an output binding"
        returned: TypedData | None = answer.return_value
        return returned

    def http(self, name: str, status: int = 200, **values: str) -> Any:
        """An HTTP function's answer, as the host gets it; its JSON when it is JSON."""
        returned = self.invoke(name, **values)
        assert returned is not None
        response = returned.http
        body: bytes = response.body.bytes
        assert response.status_code == str(status), body
        assert response.headers["x-content-type-options"] == "nosniff"
        return json.loads(body) if response.headers["content-type"] == "application/json" else body.decode()

    def waiting(self, queue: str) -> dict[str, Any]:
        """Takes the one message that waits in a queue."""
        (message,) = self.stores.queue.receive(queue)
        self.stores.queue.delete(message)
        document: dict[str, Any] = json.loads(message.body)
        return document


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cloud]:
    receiver = HTTPServer(("127.0.0.1", 0), Receiver)
    threading.Thread(target=receiver.serve_forever, daemon=True).start()
    with pytest.MonkeyPatch.context() as environment:
        for name in [name for name in os.environ if name.startswith("FACERELAY_")]:
            if name != "FACERELAY_MODEL_CACHE":
                environment.delenv(name)
        settings = {
            "DATA_DIR": str(tmp_path_factory.mktemp("data")),
            "TRAIN_HTTP_WAIT_S": "0",  # the queue's trigger is ours to pull
            "WEBHOOK_URL": f"http://127.0.0.1:{receiver.server_port}/",
            "WEBHOOK_SECRET": "a secret of the conformance test",
            "ALERT_RULES": json.dumps(RULES),
        }
        for name, value in settings.items():
            environment.setenv(f"FACERELAY_{name}", value)
        worker = Worker(ROOT)
        yield Cloud(worker)
        worker.close()
    receiver.shutdown()
    receiver.server_close()


@pytest.fixture(scope="module")
def enrolled(cloud: Cloud) -> Cloud:
    """Somebody is enrolled and the model is trained, through the functions."""
    assert "barack_obama" in cloud.http("enroll_http_add_person")["message"]
    assert cloud.http("enroll_http_add_image")["added"] is True
    job = cloud.http("train_http", status=202)
    request = cloud.waiting(TRAIN_QUEUE)
    assert (request["job_id"], request["kind"]) == (job["job_id"], "fit")
    assert cloud.invoke("train_queue", job_id=job["job_id"]) is None
    assert cloud.http("api_http_job", job_id=job["job_id"])["status"] == "succeeded"
    cloud.services.follow_model()
    return cloud


@pytest.fixture(scope="module")
def seen(enrolled: Cloud) -> Cloud:
    """A crop of the same person, in another photograph, came from the edge."""
    assert enrolled.invoke("recognize_candidate") is None
    return enrolled


def test_every_function_is_indexed_and_has_a_recorded_payload(cloud: Cloud) -> None:
    assert set(cloud.worker.functions) == {payloads.function_of(name) for name in payloads.names()}


def test_the_host_is_told_one_trigger_for_each_function(cloud: Cloud) -> None:
    for name, function in cloud.worker.functions.items():
        bindings = [json.loads(binding) for binding in function.raw_bindings]
        triggers = [binding for binding in bindings if binding["type"].endswith("Trigger")]
        assert len(triggers) == 1, name
        assert {binding["type"] for binding in bindings} - {triggers[0]["type"]} <= {"http"}, name


def test_what_is_enrolled_is_told(enrolled: Cloud) -> None:
    (person,) = enrolled.http("enroll_http_dataset")["face_ids"]
    assert person == {"id_name": "barack_obama", "number_of_images": 1}


def test_a_face_in_a_posted_form_is_recognised(enrolled: Cloud) -> None:
    (face,) = enrolled.http("recognize_http")["faces"]
    assert face["top_prediction"]["label"] == "barack_obama"
    assert [entry["label"] for entry in face["all_predictions"]] == ["barack_obama"]


def test_a_caller_without_a_token_is_refused(enrolled: Cloud) -> None:
    assert enrolled.http("recognize_http_stranger", status=401)["code"] == "not_authenticated"


def test_a_crop_from_the_edge_is_stored_with_what_its_metadata_say(seen: Cloud) -> None:
    (outcome,) = seen.stores.detections.list_outcomes()
    assert (outcome.status, outcome.site, outcome.camera) == ("detected", "headquarters", "lobby-1")
    (last,) = seen.http("query_http")["last_known_location"]
    assert (last["location"], last["detected_by_camera_id"]) == ("Main hall", "lobby-1")


def test_a_crop_that_is_delivered_twice_is_stored_once(seen: Cloud) -> None:
    assert seen.invoke("recognize_candidate") is None
    assert len(list(seen.stores.detections.list_outcomes())) == 1


def test_a_crop_of_a_watched_person_is_told_to_the_webhook(seen: Cloud) -> None:
    detection = seen.stores.detections.last_of("barack_obama")
    assert detection is not None and detection.candidate is not None
    seen.stores.blobs.put(CANDIDATES, detection.candidate, payloads.photo("demo_obama3"), content_type="image/jpeg")
    assert seen.waiting(ALERT_QUEUE)["detection_id"] == detection.id
    assert seen.invoke("alert_queue", detection_id=detection.id) is None
    (document,) = Receiver.taken
    assert document["detection_id"] == detection.id


def test_the_timer_asks_for_a_training_when_the_gallery_has_changed(enrolled: Cloud) -> None:
    assert enrolled.invoke("train_timer") is None
    assert enrolled.stores.queue.length(TRAIN_QUEUE) == 0, "the live model knows the gallery as it is"
    enrolled.http("enroll_http_add_other_image")
    assert enrolled.invoke("train_timer") is None
    assert enrolled.waiting(TRAIN_QUEUE)["kind"] == "fit"


def test_unknown_faces_are_grouped_when_asked_and_at_night(cloud: Cloud) -> None:
    job = cloud.http("group_http", status=202)
    request = cloud.waiting(GROUP_QUEUE)
    assert (request["job_id"], request["kind"]) == (job["job_id"], "group")
    assert cloud.invoke("group_queue", job_id=job["job_id"]) is None
    assert cloud.http("api_http_job", job_id=job["job_id"])["status"] == "succeeded"
    assert cloud.invoke("group_timer") is None
    assert cloud.waiting(GROUP_QUEUE)["kind"] == "group"


def test_a_message_that_nobody_could_read_fails_so_that_the_host_retries(enrolled: Cloud) -> None:
    payload = payloads.load("train_queue", job_id="0")
    with pytest.raises(RefusedError, match="ValidationError"):
        enrolled.worker.invoke("train_queue", {"message": TypedData(string="{}")}, payload.trigger_metadata)


def test_tokens_are_made(cloud: Cloud) -> None:
    assert cloud.http("api_http", status=201)["token"].startswith("frl_")


def test_what_everybody_may_read(enrolled: Cloud) -> None:
    assert "swagger" in enrolled.http("docs_http").lower()
    assert "/dataset/{ID}" in enrolled.http("openapi_http")["paths"]
    assert enrolled.http("health_http")["ready"] is True


def test_the_node_is_named(cloud: Cloud) -> None:
    assert cloud.http("debug_http")


def test_a_removed_person_is_gone(seen: Cloud) -> None:
    """Last in this file."""
    assert seen.http("enroll_http_remove_person")["message"] == "removed"
    assert seen.http("enroll_http_dataset") == {"face_ids": []}


BASIS = """
import azure.functions as func
import functions.enroll, functions.group, functions.query, functions.recognize, functions.train

app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)
for area in (functions.recognize, functions.enroll, functions.train, functions.group, functions.query):
    app.register_functions(area.bp)
"""
BROKEN = {
    "a binding without its parameter": (
        """
@app.queue_trigger(arg_name="message", queue_name="work", connection="AzureWebJobsStorage")
def broken(request: func.QueueMessage) -> None: ...
""",
        "declared in Python but not in the function definition",
    ),
    "a parameter of another type": (
        """
@app.queue_trigger(arg_name="message", queue_name="work", connection="AzureWebJobsStorage")
def broken(message: func.InputStream) -> None: ...
""",
        "do not match the corresponding function parameter's Python type",
    ),
    "two apps": ("other = func.FunctionApp()\n", "More than one"),
    "one name twice": (
        """
@app.function_name("train_queue")
@app.queue_trigger(arg_name="message", queue_name="work", connection="AzureWebJobsStorage")
def broken(message: func.QueueMessage) -> None: ...
""",
        "does not have a unique function name",
    ),
    "an answer that is no answer": (
        """
@app.route(route="broken")
def broken(req: func.HttpRequest) -> dict: ...
""",
        "does not match binding type",
    ),
    "no trigger": (
        """
@app.blob_output(arg_name="made", path="work/made", connection="AzureWebJobsStorage")
def broken(made: func.Out[str]) -> None: ...
""",
        "does not have a trigger",
    ),
}


def index(folder: Path, source: str) -> dict[str, Any]:
    """What the worker says of an app, in a process of its own: it knows one for each process."""
    (folder / "function_app.py").write_text(source, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tests.conformance.index", str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_the_app_that_the_broken_ones_are_made_from_is_taken(cloud: Cloud, tmp_path: Path) -> None:
    assert index(tmp_path, BASIS) == {"functions": sorted(cloud.worker.functions), "refused": None}


@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_binding_is_refused(tmp_path: Path, what: str) -> None:
    addition, reason = BROKEN[what]
    found = index(tmp_path, BASIS + addition)
    assert found["functions"] == []
    assert reason in found["refused"]
