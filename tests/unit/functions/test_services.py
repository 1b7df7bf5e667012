"""The services of a process: made once each, and none waits for another that it does not need."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from functions.gates import enrolment_gate, recognition_gate
from functions.services import Services
from shared.bootstrap import Runtime
from shared.settings import Settings
from shared.vision import detectors
from shared.vision.assets import load_registry
from shared.vision.detectors import Pack
from tests.support import ColourEmbedder, PatchDetector, local_stores

LOADING_S = 2.0


@pytest.fixture
def services(tmp_path: Path) -> Iterator[Services]:
    with local_stores(tmp_path / "data") as stores:
        settings = Settings(data_dir=tmp_path / "data", model_cache=tmp_path / "none")
        yield Services(Runtime(settings, stores=stores))


def test_what_every_request_needs_does_not_wait_for_models(services: Services, monkeypatch: pytest.MonkeyPatch) -> None:
    loading = threading.Event()

    def load(*_: Any, **__: Any) -> Pack:
        loading.set()
        time.sleep(LOADING_S)
        table = load_registry().embedder["facenet"]
        return Pack("colours", PatchDetector(), ColourEmbedder(table.embedder_id), table)

    monkeypatch.setattr(detectors, "load_pack", load)
    with ThreadPoolExecutor(1) as pool:
        warming_up = pool.submit(services.runtime.live_model.serving)
        assert loading.wait(20)
        asked = time.monotonic()
        services.authenticator()
        services.rate_limits()
        services.audit()
        assert time.monotonic() - asked < LOADING_S / 2
        assert not warming_up.done()
    assert warming_up.result().pack is services.runtime.pack


def test_there_is_one_gallery_for_each_embedder_that_answers(services: Services, monkeypatch) -> None:
    """One, so that it is checked by one caller at a time."""
    first = services.gallery()
    assert services.gallery() is first
    packs = services.runtime.packs
    monkeypatch.setattr(services.runtime, "ruling", lambda: packs.named("sface"))
    assert services.gallery() is not first
    assert services.gallery()._embedder_id == packs.named("sface")


def test_callers_at_once_get_one_service(services: Services) -> None:
    made: list[object] = []

    def make() -> object:
        time.sleep(0.05)
        made.append(object())
        return made[-1]

    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda _: services._once("one", make), range(8)))
    assert len(made) == 1 and all(one is made[0] for one in got)


def test_enrolment_stays_stricter_than_recognition_about_what_a_face_is():
    assert recognition_gate(Settings()).min_confidence < enrolment_gate(Settings()).min_confidence
    lenient = Settings(recognize_min_confidence=0.5)
    assert enrolment_gate(lenient).min_confidence == enrolment_gate(Settings()).min_confidence
