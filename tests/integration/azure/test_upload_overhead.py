"""What one upload is on the wire, around the image: the constants of `facerelay bandwidth`, measured again."""

from __future__ import annotations

import contextlib
import os
import socket
import statistics
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from local.bandwidth.arithmetic import HTTP_DOWN_BYTES, HTTP_UP_BYTES
from shared.bootstrap import open_blob_store
from shared.domain import CANDIDATES
from shared.settings import StoreSettings
from tests.servers import Storage, connection_string, wipe_storage
from tests.support import candidate

LANDMARKS = ((45.1, 50.2), (78.3, 51.1), (60.0, 70.2), (48.8, 90.1), (75.5, 90.0))
TRACE = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


@dataclass
class Counter:
    """A proxy that passes everything on and counts it."""

    target: int
    listener: socket.socket = field(default_factory=lambda: socket.create_server(("127.0.0.1", 0)))
    up: int = 0
    down: int = 0
    connections: int = 0

    @property
    def port(self) -> int:
        port: int = self.listener.getsockname()[1]
        return port

    def run(self) -> None:
        with contextlib.suppress(OSError):  # closed at the end
            while True:
                client, _ = self.listener.accept()
                self.connections += 1
                server = socket.create_connection(("127.0.0.1", self.target))
                threading.Thread(target=self._pass, args=(client, server, True), daemon=True).start()
                threading.Thread(target=self._pass, args=(server, client, False), daemon=True).start()

    def _pass(self, source: socket.socket, sink: socket.socket, up: bool) -> None:
        with contextlib.suppress(OSError), source, sink:
            while data := source.recv(65_536):
                if up:
                    self.up += len(data)
                else:
                    self.down += len(data)
                sink.sendall(data)


@pytest.fixture
def counter(storage_server: Storage) -> Iterator[Counter]:
    wipe_storage(storage_server)
    counting = Counter(storage_server.blob_port)
    threading.Thread(target=counting.run, daemon=True).start()
    yield counting
    counting.listener.shutdown(socket.SHUT_RDWR)
    counting.listener.close()


def test_the_sdk_sends_what_the_estimate_says(counter: Counter, storage_server: Storage) -> None:
    settings = StoreSettings(
        backend="azure", storage_connection_string=connection_string(counter.port, storage_server.queue_port)
    )
    store = open_blob_store(settings)
    around_up, around_down = [], []
    for number in range(12):
        data = os.urandom(6_000)
        crop = candidate(data, site="museum", location="Main entrance", track=f"a1b2c3d4_{number}", landmarks=LANDMARKS)
        up, down = counter.up, counter.down
        store.put(
            CANDIDATES,
            crop.blob_name,
            data,
            metadata=crop.to_metadata() | TRACE,
            tags=crop.to_tags(),
            content_type="image/jpeg",
            if_absent=True,
        )
        around_up.append(counter.up - up - len(data))
        around_down.append(counter.down - down)
    assert counter.connections == 1, "the connection is kept"
    assert statistics.median(around_up) == pytest.approx(HTTP_UP_BYTES, rel=0.05)
    assert statistics.median(around_down) == pytest.approx(HTTP_DOWN_BYTES, rel=0.05)
