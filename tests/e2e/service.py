"""A real `python -m local serve` in a process of its own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import requests

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
READY_S = 60.0


@dataclass
class Service:
    """A running service and how to talk to it.

    Attributes:
        log: standard output and error of the process.
    """

    process: subprocess.Popen[bytes]
    url: str
    data_dir: Path
    log: Path
    session: requests.Session = field(default_factory=requests.Session)

    def call(self, method: str, path: str, *, status: int = 200, **arguments: Any) -> dict[str, Any]:
        """One request that must be answered with `status`."""
        answer = self.session.request(method, self.url + path, timeout=60, **arguments)
        assert answer.status_code == status, f"{method} {path}: {answer.status_code} {answer.text}"
        document: dict[str, Any] = answer.json()
        return document

    def enrol(self, person_id: str, *photographs: bytes) -> None:
        self.call("POST", f"/dataset/{person_id}")
        for photograph in photographs:
            self.call("POST", f"/dataset/{person_id}/image", files={"image": photograph})

    def label(self, image: bytes) -> str:
        """Whom the service sees in an image of one face."""
        faces = self.call("POST", "/face-recognition/get-results", files={"image": image})["faces"]
        assert len(faces) == 1, json.dumps(faces)
        label: str = faces[0]["top_prediction"]["label"]
        return label

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.session.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(40)


@contextmanager
def serving(data_dir: Path, log: Path, *options: str, **settings: str) -> Iterator[Service]:
    """A service on a free port, with options of the command line; killed at the end when it has not been stopped."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FACERELAY_")}
    environment |= {"FACERELAY_DATA_DIR": str(data_dir), **settings}
    with log.open("wb") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "local", "serve", "--port", "0", *options],
            cwd=ROOT,
            env=environment,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
    try:
        yield Service(process, _url(process, log), data_dir, log)
    finally:
        if process.poll() is None:
            process.kill()
        process.wait(10)


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    def found() -> str | None:
        assert process.poll() is None, log.read_text()
        urls = [word for word in log.read_text().split() if word.startswith("http://127.0.0.1:")]
        return urls[0] if urls and requests.get(f"{urls[0]}/health", timeout=60).ok else None

    url = within(READY_S, found)
    assert url is not None, log.read_text()
    return url


def within(seconds: float, look: Callable[[], T]) -> T:
    """The first true answer of `look`, or its last one when the time is over."""
    deadline = time.monotonic() + seconds
    while not (answer := look()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return answer
