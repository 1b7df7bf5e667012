"""The toy app as a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from local.host.poison import PoisonQueues
from shared.adapters.azure.access import AzureAccess
from shared.adapters.local import LocalBlobStore, LocalStore, LocalWorkQueue
from shared.ports import BlobStore, WorkQueue

ROOT = Path(__file__).parents[3]
QUEUE = "toy-work"
SCHEDULE = "0 0 0 1 1 *"


def until(condition: Callable[[], object], *, timeout_s: float = 20.0) -> None:
    """Waits for `condition`; fails when it does not come."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


class ToyHost:
    """Starts and ends `python -m tests.unit.host.toy`, and looks at what it did."""

    def __init__(self, folder: Path, access: AzureAccess | None = None, **env: str) -> None:
        self.folder = folder
        self.store = LocalStore(folder / "data")
        self.queue: WorkQueue = LocalWorkQueue(self.store) if access is None else access.work_queue()
        self.blobs: BlobStore = LocalBlobStore(self.store) if access is None else access.blob_store()
        self._env = env if access is None else {"TOY_STORAGE": access.connection_string, **env}
        self.poison = PoisonQueues(self.queue, self.store)
        self.process: subprocess.Popen[bytes] | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self.configure()

    def configure(self, **queues: object) -> None:
        extensions = {"http": {"routePrefix": ""}, "queues": queues}
        (self.folder / "host.json").write_text(json.dumps({"version": "2.0", "extensions": extensions}))

    def start(self, *, wait: bool = True, **env: str) -> subprocess.Popen[bytes]:
        (self.folder / "url").unlink(missing_ok=True)
        with (self.folder / "stderr").open("ab") as errors:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.unit.host.toy", str(self.folder)],
                cwd=ROOT,
                env=os.environ | {"TOY_QUEUE": QUEUE, "TOY_SCHEDULE": SCHEDULE} | self._env | env,
                stderr=errors,
            )
        self._processes.append(self.process)
        if wait:
            until(lambda: (self.folder / "url").exists() or self.exited)
        return self.process

    @property
    def exited(self) -> bool:
        return self.process is None or self.process.poll() is not None

    @property
    def url(self) -> str:
        return (self.folder / "url").read_text()

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def lines(self, start: str = "") -> list[str]:
        log = self.folder / "log"
        return [line for line in log.read_text().splitlines() if line.startswith(start)] if log.exists() else []

    def close(self) -> None:
        for process in self._processes:
            process.kill()
            process.wait()
        self.store.close()


@pytest.fixture
def toy(tmp_path: Path) -> Iterator[ToyHost]:
    host = ToyHost(tmp_path)
    yield host
    host.close()
