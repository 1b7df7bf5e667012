"""Start and end of all triggers, in this process: no thread outlives its host."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from local.host.backend import Bell, EmbeddedBackend
from local.host.hostjson import HostConfig
from local.host.index import index
from local.host.serve import DEFAULT_HOST_JSON
from local.host.triggers import Triggers
from shared.adapters.local import LocalStore
from tests.unit.host.conftest import QUEUE, SCHEDULE, until
from tests.unit.host.toy import make_app


class StuckBackend(EmbeddedBackend):
    """Its store does not answer whoever asks for news, until it is `freed`."""

    def __init__(self, store: LocalStore) -> None:
        super().__init__(store)
        self.asked, self.freed = threading.Event(), threading.Event()

    def bell(self, queues: Sequence[str]) -> Bell:
        return self

    def rings(self) -> bool:
        self.asked.set()
        self.freed.wait()
        return False


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture
def others() -> frozenset[threading.Thread]:
    """Threads that ran before."""
    return frozenset(threading.enumerate())


def names_but(others: frozenset[threading.Thread]) -> set[str]:
    return {thread.name for thread in threading.enumerate() if thread not in others}


def make(folder: Path, backend: EmbeddedBackend) -> Triggers:
    functions = index(make_app(folder), {"TOY_QUEUE": QUEUE, "TOY_SCHEDULE": SCHEDULE})
    return Triggers(functions, backend, HostConfig.load(DEFAULT_HOST_JSON), concurrency=2)


def test_after_the_end_no_thread_is_left(
    tmp_path: Path, others: frozenset[threading.Thread], store: LocalStore, loop: asyncio.AbstractEventLoop
) -> None:
    triggers = make(tmp_path, EmbeddedBackend(store))
    triggers.start(loop)
    assert {"pump", "renewer"} <= names_but(others)
    triggers.stop()
    until(lambda: "pump" not in names_but(others))  # it has mostly ended by itself before anybody joins it
    assert triggers.join(10)
    assert names_but(others) == set()


def test_a_store_that_does_not_answer_keeps_nobody_from_ending(
    tmp_path: Path, others: frozenset[threading.Thread], store: LocalStore, loop: asyncio.AbstractEventLoop
) -> None:
    backend = StuckBackend(store)
    triggers = make(tmp_path, backend)
    triggers.start(loop)
    assert backend.asked.wait(10)
    # Lets go late, so that who waits for it without an end fails here instead of hanging.
    late = threading.Timer(5, backend.freed.set)
    late.start()
    try:
        triggers.stop()
        began = time.monotonic()
        assert not triggers.join(0.3)
        assert time.monotonic() - began < 3
        until(lambda: "renewer" not in names_but(others))
        assert "pump" in names_but(others)
    finally:
        late.cancel()
        backend.freed.set()
        until(lambda: "pump" not in names_but(others))


def test_what_was_never_started_ends_at_once(tmp_path: Path, store: LocalStore) -> None:
    triggers = make(tmp_path, EmbeddedBackend(store))
    triggers.stop()
    assert triggers.join(10)
