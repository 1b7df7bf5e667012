"""Commands that ask a service, and those that look at this machine's own store."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from typer.testing import CliRunner

from local.cli import app
from local.maintenance import sweep
from shared.adapters.local import LocalStore
from shared.bootstrap import Runtime
from shared.domain import CANDIDATES, Outcome
from shared.settings import Settings
from tests.support import NOW, TickingClock, stores_over


def run(*arguments: str, **environment: str):
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "200", **environment})


def test_people_as_a_table_and_as_json(service) -> None:
    service.queue = [(200, {"face_ids": [{"id_name": "ann", "number_of_images": 3}]})]
    table = run("people", "--url", service.url)
    assert table.exit_code == 0 and "ann" in table.stdout and "3" in table.stdout
    assert json.loads(run("people", "--url", service.url, "--json").stdout) == [
        {"id_name": "ann", "number_of_images": 3}
    ]


def test_whereis(service) -> None:
    seen = [{"location": "lobby", "detected_by_camera_id": "gate", "timestamp": "2026-01-02T03:04:05.678Z"}]
    service.queue = [(200, {"last_known_location": seen})]
    assert json.loads(run("whereis", "Ann B", "--url", service.url, "--json").stdout) == seen
    assert service.asked == [("GET", "/database/Ann%20B/last-known-location")]


def test_detections_go_on_to_the_next_page(service) -> None:
    row = {"captured_at": "t", "person_id": "ann", "confidence": 0.5, "location": "l", "camera": "c"}
    service.queue = [
        (200, {"detections": [row] * 2, "continuation": "more"}),
        (200, {"detections": [row] * 2, "continuation": None}),
    ]
    done = run("detections", "--limit", "3", "--person", "ann", "--url", service.url, "--json")
    assert len(json.loads(done.stdout)) == 3
    assert "continuation=more" in service.asked[1][1] and "person_id=ann" in service.asked[1][1]


def test_a_refusal_is_one_line_and_an_exit_code(service) -> None:
    service.queue = [(404, {"error_message": "nobody of that id is enrolled"})]
    done = run("whereis", "ann", "--url", service.url)
    assert done.exit_code == 1
    assert "nobody of that id is enrolled" in done.stderr and "Traceback" not in done.output


@pytest.mark.parametrize("command", ["list", "replay"])
def test_an_empty_poison_queue(tmp_path: Path, command: str) -> None:
    assert run("poison", command, FACERELAY_DATA_DIR=str(tmp_path)).exit_code == 0


def test_poison_is_not_dropped_by_accident(tmp_path: Path) -> None:
    assert run("poison", "drop", FACERELAY_DATA_DIR=str(tmp_path)).exit_code == 2
    assert run("poison", "drop", "--all", FACERELAY_DATA_DIR=str(tmp_path)).exit_code == 0


def test_the_sweep_deletes_what_is_past_retention_and_nothing_else(tmp_path: Path) -> None:
    clock = TickingClock()
    store = LocalStore(tmp_path, clock=clock)
    stores = stores_over(store)
    settings = Settings(data_dir=tmp_path, candidate_retention_days=7, detection_retention_days=30)
    runtime = Runtime(settings, stores=stores, clock=clock)
    stores.blobs.put(CANDIDATES, "old.jpg", b"x")
    stores.detections.record_outcome(Outcome("1", "old.jpg", "s", "c", "detected", None, 1, NOW))
    clock.advance(timedelta(days=7).total_seconds() - 60)
    stores.blobs.put(CANDIDATES, "new.jpg", b"x")
    assert sweep(runtime) == (0, 0)
    clock.advance(120)
    assert sweep(runtime) == (1, 0)
    assert [blob.name for blob in stores.blobs.list(CANDIDATES)] == ["new.jpg"]
    clock.advance(timedelta(days=23).total_seconds())
    assert sweep(runtime) == (1, 1)
    store.close()


@pytest.mark.parametrize(
    ("typed", "sent"),
    [("2026-01-02", "2026-01-02T00%3A00%3A00.000Z"), ("2026-01-02T05:00:00+02:00", "2026-01-02T03%3A00%3A00.000Z")],
)
def test_a_date_is_its_midnight_in_utc(service, typed: str, sent: str) -> None:
    service.queue = [(200, {"detections": [], "continuation": None})]
    assert run("detections", "--since", typed, "--until", typed, "--url", service.url).exit_code == 0
    assert f"since={sent}" in service.asked[0][1] and f"until={sent}" in service.asked[0][1]


@pytest.mark.parametrize("typed", ["yesterday", "2026-13-01", "2026-01-02T03:04:05"])
def test_what_is_no_time_is_refused_before_anything_is_asked(service, typed: str) -> None:
    done = run("detections", "--since", typed, "--url", service.url)
    assert done.exit_code == 1 and typed in done.stderr and service.asked == []
