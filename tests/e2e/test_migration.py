"""The embedder is changed, back and forth, while requests run: none fails, none is answered from two spaces."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests

from shared.bootstrap import Stores
from shared.domain import CANDIDATES, MODELS, UNKNOWN, Detection
from shared.errors import NotFound
from shared.ports import DetectionFilter
from shared.vision.assets import load_registry
from tests.e2e.service import Service, serving, within
from tests.support import candidate, local_stores

EMBEDDERS = {name: load_registry().embedder[name].embedder_id for name in ("facenet", "sface")}
PATH = "/api/v1/models/migration"


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    with serving(tmp_path / "data", tmp_path / "serve.log", FACERELAY_MODEL_POLL_S="0.5") as running:
        yield running
        assert running.stop() == 0, running.log.read_text()
        assert "Traceback" not in running.log.read_text()


@dataclass
class Traffic:
    """Sends photographs without a pause, and keeps what was answered and of which embedder every model was."""

    service: Service
    stores: Stores
    photographs: dict[str, bytes]
    statuses: list[int] = field(default_factory=list)
    bodies: list[str] = field(default_factory=list)
    embedder_of: dict[str, str] = field(default_factory=dict)
    stop: threading.Event = field(default_factory=threading.Event)

    def ask(self, camera: str, data: bytes) -> None:
        with requests.Session() as session:
            while not self.stop.is_set():
                for route in ("store-results", "get-results"):
                    answer = session.post(
                        f"{self.service.url}/face-recognition/{route}",
                        files={"image": data},
                        data={"camera_id": camera, "include_predictions": "true"},
                        timeout=60,
                    )
                    self.statuses.append(answer.status_code)
                    if answer.status_code != 200:
                        self.bodies.append(answer.text)

    def watch(self) -> None:
        """Manifests come and go: each is read while it is there."""
        while not self.stop.wait(0.05):
            for blob in list(self.stores.blobs.list(MODELS)):
                model_id, _, name = blob.name.partition("/")
                if name == "manifest.json" and model_id not in self.embedder_of:
                    try:
                        manifest = json.loads(self.stores.blobs.get(MODELS, blob.name).data)
                    except NotFound:
                        continue
                    self.embedder_of[model_id] = manifest["embedder"]["embedder_id"]

    @contextmanager
    def running(self) -> Iterator[None]:
        asking = [threading.Thread(target=self.ask, args=pair) for pair in self.photographs.items()]
        threads = [*asking, threading.Thread(target=self.watch)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stop.set()
            for thread in threads:
                thread.join()

    def detections(self, camera: str = "") -> list[Detection]:
        """Newest first."""
        where = DetectionFilter(camera=camera or None, site="http")
        page = self.stores.detections.list(where, page_size=1_000)
        found = [*page.detections]
        while page.continuation:
            page = self.stores.detections.list(where, page_size=1_000, continuation=page.continuation)
            found += page.detections
        return found

    def answers(self, model_id: str) -> dict[str, tuple[Any, ...]]:
        """What a model said of each camera's photograph: the same floats each time, or this fails."""
        said: dict[str, set[tuple[Any, ...]]] = {}
        for d in self.detections():
            if d.model_id == model_id:
                said.setdefault(d.camera, set()).add((d.person_id, d.similarity, d.confidence, d.threshold))
        assert all(len(each) == 1 for each in said.values()), said
        return {camera: each.pop() for camera, each in said.items()}

    def until_answered_by(self, model_id: str) -> None:
        """Every camera's photograph was judged by that model just now."""
        assert within(20, lambda: all(self.latest(camera) == model_id for camera in self.photographs))

    def latest(self, camera: str) -> str:
        page = self.stores.detections.list(DetectionFilter(camera=camera, site="http"), page_size=1)
        return page.detections[0].model_id if page.detections else ""


def done(service: Service, state: str) -> dict[str, Any]:
    """The migration, once it has come so far."""

    def look() -> dict[str, Any] | None:
        found = service.call("GET", PATH)
        assert found["error"] is None, found
        return found if found["state"] == state and found["wish"] is None else None

    found = within(40, look)
    assert found is not None, (service.call("GET", PATH), service.log.read_text())
    return found


def step(service: Service, name: str, state: str) -> dict[str, Any]:
    service.call("POST", f"{PATH}/{name}")
    return done(service, state)


def live(stores: Stores) -> str:
    model_id: str = json.loads(stores.blobs.get(MODELS, "current.json").data)["model_id"]
    return model_id


def test_there_and_back_while_requests_run(service: Service, jpeg: Callable[[str], bytes]) -> None:
    service.enrol("Barack Obama", jpeg("demo_obama"), jpeg("demo_obama3"))
    service.enrol("Joe Biden", jpeg("demo_biden"))
    service.call("POST", "/model/optimized-train")
    photographs = {"knows": jpeg("demo_obama2"), "stranger": jpeg("demo_astronaut")}
    with local_stores(service.data_dir) as stores:
        for number, name in enumerate(("demo_obama2", "demo_astronaut")):
            made = candidate(jpeg(name), track=str(number))
            stores.blobs.put(CANDIDATES, made.blob_name, jpeg(name), metadata=made.to_metadata())
        traffic = Traffic(service, stores, photographs)
        with traffic.running():
            facenet = live(stores)
            traffic.until_answered_by(facenet)

            service.call("POST", PATH, json={"to": "sface"}, status=202)
            ready = done(service, "ready")
            assert live(stores) == facenet, "nothing answers but the old one"
            assert ready["comparison"]["crops"] | {"named": None} == {
                "compared": 2, "agreed": 2, "agreement": 1.0, "left_out": 0, "named": None,
            }  # fmt: skip
            first = traffic.answers(facenet)
            step(service, "switch", "switched")
            sface = live(stores)
            assert sface != facenet
            traffic.until_answered_by(sface)

            assert step(service, "rollback", "rolled_back")["rollback"] == "exact"
            assert live(stores) == facenet
            before = len(traffic.detections())
            traffic.until_answered_by(facenet)
            assert len(traffic.detections()) > before

            service.call("POST", PATH, json={"to": "sface", "switch": True}, status=202)
            done(service, "switched")
            traffic.until_answered_by(live(stores))
            step(service, "finish", "finished")

            service.call("POST", PATH, json={"to": "facenet", "switch": True}, status=202)
            done(service, "switched")
            traffic.until_answered_by(live(stores))
        assert set(traffic.statuses) == {200}, traffic.bodies[:3]
        found = traffic.detections()
        assert len(found) > 20
        mixed = [d for d in found if d.embedder_id != traffic.embedder_of[d.model_id]]
        assert mixed == []
        assert {d.embedder_id for d in found} == set(EMBEDDERS.values())
        assert {d.embedding.shape for d in found if d.embedding is not None and "facenet" in d.embedder_id} == {(512,)}
        assert {d.embedding.shape for d in found if d.embedding is not None and "sface" in d.embedder_id} == {(128,)}
        # After the rollback as before the switch, to the last bit; `answers` has compared all that the model said.
        back = traffic.answers(facenet)
        assert back == first
        assert {camera: answer[0] for camera, answer in back.items()} == {"knows": "barack_obama", "stranger": UNKNOWN}
        assert {d.person_id for d in traffic.detections("knows")} == {"barack_obama"}
        assert {d.person_id for d in traffic.detections("stranger")} == {UNKNOWN}


def test_a_service_that_is_killed_goes_on_with_it(tmp_path: Path, jpeg: Callable[[str], bytes]) -> None:
    """kill -9 right after it has begun; the next process finds the record and the message."""
    with serving(tmp_path / "data", tmp_path / "first.log") as first:
        first.enrol("Barack Obama", jpeg("demo_obama"), jpeg("demo_obama3"))
        first.enrol("Joe Biden", jpeg("demo_biden"))
        first.call("POST", "/model/optimized-train")
        first.call("POST", PATH, json={"to": "sface", "switch": True}, status=202)
        first.process.kill()
    with serving(tmp_path / "data", tmp_path / "second.log") as second:
        found = done(second, "switched")
        assert (found["images"], found["embedded"]) == (3, 3)
        assert found["rules"] == EMBEDDERS["sface"]
        assert within(15, lambda: second.call("GET", "/api/v1/health")["model_id"] == found["target_model"])
        assert second.label(jpeg("demo_obama2")) == "barack_obama"
        assert second.stop() == 0
