"""What an operator sees of a gateway and a service, each a process: metrics, health, and one trace through both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import requests

from shared.adapters.local import LocalBlobStore, LocalStore
from shared.domain import CANDIDATES
from tests.e2e.service import ROOT, Service, serving, within


def send(service: Service, folder: Path) -> None:
    """A gateway with one camera, which sees the pictures of a folder."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("FACERELAY_")}
    environment |= {"FACERELAY_DATA_DIR": str(service.data_dir), "FACERELAY_EDGE_SPOOL_DIR": str(folder / "spool")}
    command = ["edge", "run", "--camera", f"door@Hall={folder}", "--site", "hq", "--metrics-port", "0"]
    done = subprocess.run(
        [sys.executable, "-m", "local", *command, "--log-format", "json"],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert "metrics: http://127.0.0.1:" in done.stderr


def samples(page: str) -> dict[str, float]:
    lines = [line.rpartition(" ") for line in page.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


def test_a_crop_can_be_followed_from_the_camera_into_the_service(tmp_path: Path, jpeg: Callable[[str], bytes]) -> None:
    pictures, log = tmp_path / "pictures", tmp_path / "serve.log"
    pictures.mkdir()
    (pictures / "one.jpg").write_bytes(jpeg("demo_obama"))
    with serving(tmp_path / "data", log, "--log-format", "json") as service:
        send(service, pictures)

        def metrics() -> dict[str, float]:
            answer = service.session.get(f"{service.url}/metrics", timeout=10)
            assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
            return samples(answer.text)

        where = 'camera="door",site="hq"'
        counted = within(30, lambda: found if f"facerelay_candidates_total{{{where}}}" in (found := metrics()) else {})
        assert counted[f"facerelay_candidates_total{{{where}}}"] == 1
        assert counted[f"facerelay_verified_total{{{where}}}"] == 1
        assert counted['facerelay_identified_total{camera="door",identity="unknown",site="hq"}'] == 1
        assert counted['facerelay_stage_duration_seconds_count{stage="embed"}'] == 1
        assert counted['facerelay_queue_depth{queue="webjobs-blobtrigger-poison"}'] == 0
        details = service.call("GET", "/api/v1/health")
        assert (details["ready"], details["gallery"]) == (True, "current")
        assert service.stop() == 0
    lines = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    (done,) = [line for line in lines if line.get("action") == "candidate.detected"]
    store = LocalStore(tmp_path / "data")
    (blob,) = LocalBlobStore(store).list(CANDIDATES)
    store.close()
    assert blob.metadata["traceparent"].split("-")[1] == done["trace_id"]


def test_metrics_can_be_switched_off(tmp_path: Path) -> None:
    with serving(tmp_path / "data", tmp_path / "serve.log", "--no-metrics") as service:
        assert requests.get(f"{service.url}/metrics", timeout=10).status_code == 404
        assert service.stop() == 0
