"""The whole service in a process of its own: photographs in, sightings out, models swapped while it answers."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import requests

from shared.bootstrap import Stores
from shared.domain import CANDIDATES, MODELS, UNKNOWN, format_time
from tests.e2e.service import ROOT, Service, serving, within
from tests.support import candidate, local_stores

NEW_MODEL_S = 15.0
"""How long a running service may take to answer by a new model; it looks every 10 s."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with serving(folder / "data", folder / "serve.log") as running:
        yield running
        assert running.stop() == 0, running.log.read_text()
        assert "Traceback" not in running.log.read_text()


@pytest.fixture(scope="module")
def stores(service: Service) -> Iterator[Stores]:
    """The same data folder, opened by this process as the gateway would."""
    with local_stores(service.data_dir) as opened:
        yield opened


def upload(stores: Stores, data: bytes, **changes: object) -> str:
    """What the gateway does with a crop."""
    made = candidate(data, **changes)
    stores.blobs.put(
        CANDIDATES, made.blob_name, data, metadata=made.to_metadata(), tags=made.to_tags(), content_type="image/jpeg"
    )
    return made.blob_name


def test_from_photographs_to_sightings(service: Service, stores: Stores, jpeg) -> None:
    service.enrol("Joe Biden", jpeg("demo_biden"))
    job = service.call("POST", "/model/optimized-train")
    assert job["status"] == "succeeded"
    assert within(NEW_MODEL_S, lambda: service.label(jpeg("demo_biden")) == "joe_biden")

    at = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    names = [
        upload(stores, jpeg("demo_biden"), captured_at=at, camera="gate", location="loading dock", track="1"),
        upload(stores, jpeg("demo_biden"), captured_at=at + timedelta(minutes=1), location="lobby", track="2"),
        upload(stores, jpeg("demo_astronaut"), captured_at=at, camera="gate", track="3"),
        upload(stores, b"not a picture", captured_at=at, track="4"),
    ]
    ended = within(60, lambda: len(list(stores.detections.list_outcomes())) == len(names))
    assert ended, service.log.read_text()
    endings = {outcome.candidate: (outcome.status, outcome.reason) for outcome in stores.detections.list_outcomes()}
    assert [endings[name] for name in names] == [("detected", None)] * 3 + [("failed", "invalid_image")]

    sightings = service.call("GET", "/api/v1/detections")["detections"]
    assert [d["person_id"] for d in sightings].count("joe_biden") == 2
    assert [d["person_id"] for d in sightings].count(UNKNOWN) == 1
    assert {d["candidate"] for d in sightings} == set(names[:3])
    assert service.call("GET", "/database/joe_biden/last-known-location") == {
        "last_known_location": [
            {
                "location": "lobby",
                "detected_by_camera_id": "entrance",
                "timestamp": format_time(at + timedelta(minutes=1)),
            }
        ]
    }

    upload(stores, jpeg("demo_biden"), captured_at=at, camera="gate", location="loading dock", track="1")
    after = upload(stores, b"the next in the queue", captured_at=at, track="5")
    assert within(60, lambda: after in {outcome.candidate for outcome in stores.detections.list_outcomes()})
    assert len(service.call("GET", "/api/v1/detections")["detections"]) == 3, "the same crop again is no new sighting"


def test_while_requests_run_a_person_is_enrolled_and_trained(service: Service, jpeg) -> None:
    """None fails, and the new name comes in time."""
    answers: list[tuple[float, int, str]] = []
    stop = threading.Event()

    def ask() -> None:
        with requests.Session() as session:
            while not stop.is_set():
                answer = session.post(
                    f"{service.url}/face-recognition/get-results",
                    files={"image": jpeg("demo_obama2")},
                    timeout=60,
                )
                faces = answer.json().get("faces", [])
                label = faces[0]["top_prediction"]["label"] if faces else "nobody"
                answers.append((time.monotonic(), answer.status_code, label))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        service.enrol("Barack Obama", jpeg("demo_obama"), jpeg("demo_obama3"))
        service.call("POST", "/model/optimized-train")
        trained = time.monotonic()
        within(NEW_MODEL_S, lambda: bool(answers) and answers[-1][2] == "barack_obama")
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    assert {status for _, status, _ in answers} == {200}
    assert {label for _, _, label in answers} == {UNKNOWN, "barack_obama"}, "never a wrong name, never no face"
    first = min(when for when, _, label in answers if label == "barack_obama")
    assert first - trained <= NEW_MODEL_S


def test_a_model_of_a_wrong_hash_is_refused_and_the_old_one_answers(service: Service, stores: Stores, jpeg) -> None:
    service.call("POST", "/model/optimized-train")
    before = service.label(jpeg("demo_biden"))
    assert before == "joe_biden"
    pointer = stores.blobs.get(MODELS, "current.json")
    damaged = pointer.data.replace(b'"manifest_sha256": "', b'"manifest_sha256": "0')
    assert damaged != pointer.data
    stores.blobs.put(MODELS, "current.json", damaged)
    try:
        refused = within(NEW_MODEL_S, lambda: "the new model cannot be used" in service.log.read_text())
        assert refused
        assert service.label(jpeg("demo_biden")) == "joe_biden"
        assert service.call("GET", "/health")["ready"] is True
    finally:
        stores.blobs.put(MODELS, "current.json", pointer.data)


def test_a_person_who_is_removed_is_unknown_soon(service: Service, jpeg) -> None:
    assert service.label(jpeg("demo_biden")) == "joe_biden"
    service.call("DELETE", "/dataset/joe_biden")
    assert within(NEW_MODEL_S, lambda: service.label(jpeg("demo_biden")) == UNKNOWN)
    service.call("GET", "/database/joe_biden/last-known-location", status=404)
    assert list((service.data_dir / "blobs" / "dataset").rglob("joe_biden/*")) == []


def test_a_body_over_the_limit_of_images_is_refused_before_it_is_sent(service: Service) -> None:
    """The host would collect it for anybody, up to the platform's 100 MB, before it is known who calls."""
    address = urlsplit(service.url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(
            b"POST /face-recognition/get-results HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20000000\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413 ")


def test_two_services_do_not_share_a_folder(service: Service) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local", "serve", "--port", "0"],
        cwd=ROOT,
        env={"FACERELAY_DATA_DIR": str(service.data_dir), "PATH": "", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1 and "another facerelay serve" in " ".join(done.stderr.split())


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org"])  # noqa: S104 - what must be refused
def test_without_tokens_only_this_machine_is_listened_to(tmp_path: Path, host: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "local", "serve", "--port", "0", "--no-auth", "--host", host],
        cwd=ROOT,
        env={"FACERELAY_DATA_DIR": str(tmp_path), "PATH": "", "HOME": str(Path.home())},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1
    assert "only a loopback address" in " ".join(done.stderr.split())
    assert list(tmp_path.iterdir()) == []


def test_nobodys_name_is_in_the_log(service: Service) -> None:
    """Runs last: everything above has been logged by now."""
    said = service.log.read_text().lower()
    assert "biden" not in said and "obama" not in said
