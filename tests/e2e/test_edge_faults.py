"""The fault run in short: one gateway, every fault of the store in turn, the disk full once, five kills."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.edge_faults_run import Phase, Rig, small_disk
from bench.faulty_store import Fault, FaultyStore
from shared.adapters.azure.access import AzureAccess
from tests.servers import Storage, connection_string, wipe_storage

CROPS = 300


def test_everything_that_was_taken_arrives_once_and_unchanged(storage_server: Storage, tmp_path: Path) -> None:
    wipe_storage(storage_server)
    proxy = FaultyStore(storage_server.blob_port, share=0.2, hang_s=5.0)
    store = AzureAccess(connection_string=storage_server.connection_string).blob_store()
    phase = Phase("short", tuple(Fault), crops=CROPS, kills=3, period_s=0.8, fill="others")
    with small_disk(tmp_path, 16_000_000) as disk:
        rig = Rig(
            folder=tmp_path,
            disk=disk,
            proxy=proxy,
            connection=connection_string(proxy.port, storage_server.queue_port),
            store=store,
            log=tmp_path / "gateway.log",
            random=random.Random(7),
            per_s=40.0,  # slow enough for whoever fills the disk before the last is offered, on a busy machine
            captured_at=datetime(2026, 11, 25, 12, tzinfo=UTC) - timedelta(days=1),
        )
        result = rig.run(phase, lambda done: None)
    proxy.close()
    figures = result.figures()
    assert (figures["lost"], figures["refused"], figures["time_changed"]) == (0, 0, 0), figures
    assert figures["offered"] == CROPS
    assert CROPS - figures["kills"] <= figures["taken"] <= figures["stored"] <= CROPS
    # One more where no file system may be mounted, and the spool's bound stands for a full disk.
    assert figures["kills"] == (5 if disk.kind == "tmpfs" else 6)
    assert (figures["disk_fills"], result.counts["dropped_bound"]) == (1, 0)
    assert figures["retries"] > 0 and figures["times_full"] >= 1
    assert figures["peak_rss_mb"] < 300
    # Answers go over connections that are kept: most of what is new was cut by a fault or a kill.
    assert proxy.counts["connections"] < proxy.counts["requests"]
    assert "Traceback" not in rig.log.read_text()
    store.close()
