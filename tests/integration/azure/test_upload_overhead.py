"""What one upload is on the wire, around the image: the constants of `facerelay bandwidth`, measured again."""

from __future__ import annotations

import os
import statistics
from collections.abc import Iterator

import pytest

from bench.edge_proxy import Traffic, counting
from local.bandwidth.arithmetic import HTTP_DOWN_BYTES, HTTP_UP_BYTES
from shared.bootstrap import open_blob_store
from shared.domain import CANDIDATES
from shared.settings import StoreSettings
from tests.servers import Storage, connection_string, wipe_storage
from tests.support import candidate

LANDMARKS = ((45.1, 50.2), (78.3, 51.1), (60.0, 70.2), (48.8, 90.1), (75.5, 90.0))
TRACE = {"traceparent": f"00-{'a' * 32}-{'b' * 16}-01"}


@pytest.fixture
def counter(storage_server: Storage) -> Iterator[tuple[int, Traffic]]:
    wipe_storage(storage_server)
    with counting(storage_server.blob_port) as proxy:
        yield proxy


def test_the_sdk_sends_what_the_estimate_says(counter: tuple[int, Traffic], storage_server: Storage) -> None:
    port, traffic = counter
    settings = StoreSettings(
        backend="azure", storage_connection_string=connection_string(port, storage_server.queue_port)
    )
    store = open_blob_store(settings)
    around_up, around_down = [], []
    for number in range(12):
        data = os.urandom(6_000)
        crop = candidate(data, site="museum", location="Main entrance", track=f"a1b2c3d4_{number}", landmarks=LANDMARKS)
        up, down = traffic.up, traffic.down
        store.put(
            CANDIDATES,
            crop.blob_name,
            data,
            metadata=crop.to_metadata() | TRACE,
            tags=crop.to_tags(),
            content_type="image/jpeg",
            if_absent=True,
        )
        around_up.append(traffic.up - up - len(data))
        around_down.append(traffic.down - down)
    assert traffic.connections == 1, "the connection is kept"
    assert statistics.median(around_up) == pytest.approx(HTTP_UP_BYTES, rel=0.05)
    assert statistics.median(around_down) == pytest.approx(HTTP_DOWN_BYTES, rel=0.05)
