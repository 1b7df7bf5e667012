"""The real application over real models and a store of its own for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import azure.functions as func
import pytest
from azure.functions.queue import QueueMessage
from fastapi import FastAPI
from PIL import Image
from starlette.testclient import TestClient

from functions.http import build_api
from functions.services import Services, services, use_services
from functions.train import train_queue
from shared.adapters.local import LocalStore
from shared.bootstrap import Runtime
from shared.domain import UInt8Array
from shared.messages import TRAIN_QUEUE
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.detectors import Pack, load_pack
from tests.support import stores_over

MODELS = Settings().model_cache


class Outbox:
    """A notifier that keeps what it is given."""

    def __init__(self) -> None:
        self.sent: list[Mapping[str, Any]] = []
        self.fault: Exception | None = None

    def send(self, payload: Mapping[str, Any]) -> None:
        if self.fault:
            raise self.fault
        self.sent.append(payload)


@pytest.fixture(scope="session")
def pack() -> Pack:
    return load_pack("facenet", ModelCache(MODELS), min_face_px=20)


@pytest.fixture(scope="session")
def photo() -> Callable[[str], UInt8Array]:
    """A demo photograph by its name in the registry, as a Pillow image of at most 420 px: smaller is faster."""
    cache = ModelCache(MODELS)
    images: dict[str, Image.Image] = {}

    def load(name: str) -> Image.Image:
        if name not in images:
            with Image.open(cache.path(name)) as image:
                small = image.convert("RGB")
            small.thumbnail((420, 420))
            images[name] = small
        return images[name].copy()

    return load


@pytest.fixture(scope="session")
def jpeg(photo) -> Callable[[str], bytes]:
    """The same as JPEG bytes."""

    def encode(name: str) -> bytes:
        sink = BytesIO()
        photo(name).save(sink, "JPEG", quality=92)
        return sink.getvalue()

    return encode


@pytest.fixture
def outbox() -> Outbox:
    return Outbox()


@pytest.fixture
def running(tmp_path: Path, pack: Pack, outbox: Outbox) -> Iterator[Services]:
    """The process's services, over an empty store."""
    store = LocalStore(tmp_path)
    settings = Settings(
        data_dir=tmp_path,
        model_cache=MODELS,
        auth=False,
        model_poll_s=3600,
        train_http_wait_s=0,
        max_image_bytes=1_000_000,
        max_image_pixels=4_000_000,
    )
    made = Services(Runtime(settings, stores=stores_over(store), pack=pack, notifier=outbox))
    use_services(made)
    yield made
    use_services(None)
    store.close()


@pytest.fixture(scope="session")
def _apps() -> dict[str, FastAPI]:
    return {}


@pytest.fixture
def api(running: Services, _apps: dict[str, FastAPI]) -> FastAPI:
    """Built once: it asks for the services anew with each request."""
    if "api" not in _apps:
        _apps["api"] = build_api()
    return _apps["api"]


@pytest.fixture
def client(api: FastAPI) -> TestClient:
    return TestClient(
        api,
        raise_server_exceptions=False,
        base_url="http://127.0.0.1",
        client=("127.0.0.1", 50_000),
    )


@pytest.fixture
def work_off() -> Callable[[], int]:
    """Hands every waiting training message to the queue's trigger, as the host would; how many there were."""

    def run() -> int:
        queue, count = services().runtime.stores.queue, 0
        while messages := queue.receive(TRAIN_QUEUE):
            train_queue(_function_message(messages[0].id, messages[0].body))
            queue.delete(messages[0])
            count += 1
        services().runtime.live_model.refresh()
        return count

    return run


def _function_message(id: str, body: str) -> func.QueueMessage:
    return QueueMessage(id=id, body=body, dequeue_count=1, pop_receipt="r")


@pytest.fixture
def enrolled(client: TestClient, jpeg, work_off) -> TestClient:
    """A client of a service that knows Barack Obama by one photograph, and Joe Biden by one."""
    for person_id, name in (("Barack Obama", "demo_obama"), ("joe_biden", "demo_biden")):
        assert client.post(f"/dataset/{person_id}").status_code == 200
        answer = client.post(f"/dataset/{person_id}/image", files={"image": jpeg(name)})
        assert answer.status_code == 200, answer.text
    assert client.post("/model/optimized-train").status_code == 202
    assert work_off() == 1
    return client
