"""The uploader over the real SDK and a real HTTP store: what it costs, and what it makes of the store's answers."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from bench.faulty_store import Fault, FaultyStore
from edge_uploader.delivery.budget import network_bytes
from edge_uploader.delivery.spool import Spool, SpoolItem
from edge_uploader.delivery.uploader import Uploader
from shared.adapters.azure.access import AzureAccess
from shared.domain import sha256_hex
from shared.errors import StoreUnavailable
from shared.ports import BlobStore
from tests.servers import Storage, connection_string, free_ports, wipe_storage


def item(number: int) -> SpoolItem:
    data = bytes([number]) * 8_000
    metadata = {"sha256": sha256_hex(data), "captured_at": "2026-11-25T12:00:00.000Z", "frame_box": "1,2,3,4"}
    return SpoolItem(f"hq/door/2026/11/25/{number}.jpg", data, metadata, {"site": "hq", "camera": "door"})


def through(storage: Storage, port: int) -> BlobStore:
    access = AzureAccess(connection_string=connection_string(port, storage.queue_port))
    return access.single_attempt().blob_store()


def test_connections_are_kept_and_the_estimate_is_near(storage_server: Storage, tmp_path: Path) -> None:
    wipe_storage(storage_server)
    proxy = FaultyStore(storage_server.blob_port)
    spool = Spool(tmp_path / "spool")
    for number in range(40):
        spool.put(item(number))
    uploader = Uploader(spool, through(storage_server, proxy.port), threads=2)
    uploader.start()
    assert spool.wait_empty(30)
    uploader.stop()
    spool.close()
    proxy.close()
    assert (proxy.counts["requests"], uploader.counts.uploaded) == (40, 40)
    assert proxy.counts["connections"] <= 2
    estimated = sum(network_bytes(one.data, one.metadata, one.tags) for one in map(item, range(40)))
    assert uploader.counts.network_bytes == estimated
    # The proxy sees HTTP; the estimate also has what is below it.
    assert proxy.counts["bytes"] <= estimated <= 1.12 * proxy.counts["bytes"]


def test_the_sdk_asks_once_and_says_how_long_the_store_wants_peace(storage_server: Storage) -> None:
    proxy = FaultyStore(storage_server.blob_port, share=20.0, retry_after_s=7)
    proxy.fault = Fault.THROTTLED
    one = item(1)
    with pytest.raises(StoreUnavailable) as caught:
        through(storage_server, proxy.port).put("candidates", one.name, one.data, if_absent=True)
    assert (caught.value.retry_after_s, caught.value.sent) == (7.0, True)
    assert proxy.counts["throttled"] == proxy.counts["requests"] == 1, "the uploader repeats, the SDK does not"
    proxy.close()


def test_what_was_refused_never_left(storage_server: Storage) -> None:
    (port,) = free_ports(1)
    with pytest.raises(StoreUnavailable) as caught:
        through(storage_server, port).put("candidates", "x", b"x", if_absent=True)
    assert not caught.value.sent


def test_what_was_cut_may_have_been_sent(storage_server: Storage) -> None:
    proxy = FaultyStore(storage_server.blob_port, share=1.0)
    proxy.fault = Fault.CUT_AFTER
    with pytest.raises(StoreUnavailable) as caught:
        through(storage_server, proxy.port).put("candidates", "cut/after.jpg", b"x" * 5_000, if_absent=True)
    assert caught.value.sent
    proxy.close()
    with pytest.raises(OSError):
        socket.create_connection(("127.0.0.1", proxy.port), timeout=1)
