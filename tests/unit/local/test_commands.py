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


SEEN = {
    "captured_at": "2026-01-02T03:04:05.678Z",
    "person_id": "harrison_ford",
    "confidence": 0.5,
    "site": "museum",
    "location": "lobby",
    "camera": "entrance",
}


def test_tables_of_sightings_name_the_site_within_80_columns(service) -> None:
    service.queue = [
        (200, {"last_known_location": [{"location": "lobby"}]}),
        (200, {"detections": [SEEN], "continuation": None}),
    ]
    last = run("whereis", "Harrison Ford", "--url", service.url, COLUMNS="80")
    assert all(SEEN[key] in last.stdout for key in ("site", "location", "camera", "captured_at")), last.output
    assert service.asked[1] == ("GET", "/api/v1/detections?person_id=harrison_ford&page_size=1")
    told = run("detections", "--url", service.url, COLUMNS="80")
    for whole in ("2026-01-02T03:04:05Z", "harrison_ford", "confidence", "0.50", "museum, lobby", "entrance"):
        assert whole in told.stdout, told.output


def test_a_long_site_leaves_the_time_whole(service) -> None:
    service.queue = [(200, {"detections": [SEEN | {"site": "headquarters-north"}], "continuation": None})]
    told = run("detections", "--url", service.url, COLUMNS="80").stdout
    assert "2026-01-02T03:04:05Z" in told and "north, lobby" in told, "broken between words"


def test_whoever_is_not_enrolled_is_named_as_looked_up(service) -> None:
    service.queue = [(404, {"error_message": "nobody is enrolled under this id"})]
    done = run("whereis", "Harrison Ford", "--url", service.url)
    assert done.exit_code == 1 and "under this id: harrison_ford" in done.stderr
    assert "facerelay people" in done.stderr


def test_a_refusal_for_another_reason_points_nowhere_else(service) -> None:
    service.queue = [(403, {"error_message": "this token may not"})]
    done = run("whereis", "ann", "--url", service.url)
    assert done.exit_code == 1 and "this token may not" in done.stderr and "facerelay people" not in done.stderr


def test_unknown_faces_are_asked_for_as_detections(service) -> None:
    done = run("whereis", "Unknown", "--url", service.url)
    assert done.exit_code == 1 and "facerelay detections --person unknown" in done.stderr and service.asked == []


JOB = {
    "job_id": "j",
    "status": "succeeded",
    "result": {
        "model_id": "m1",
        "people": 2,
        "templates": 5,
        "set_aside": 3,
        "calibration": {"calibrated": False, "why": "with fewer than 100 people"},
    },
}


def test_a_training_tells_what_it_left_out(service) -> None:
    service.queue = [(200, JOB)]
    told = run("train", "--url", service.url).stdout
    assert "2 people, 5 templates" in told and "threshold: with fewer than 100 people" in told
    assert "templates left out: 3" in told and "facerelay gallery check" in told
    service.queue = [(200, JOB | {"result": JOB["result"] | {"set_aside": 0}})]
    assert "left out" not in run("train", "--url", service.url).stdout


TEMPLATE = "5f0c0f3a9d5e4d4f8f3c2b1a09876543"
FINDING = {
    "person_id": "harrison_ford",
    "template_id": TEMPLATE,
    "reason": "confuses",
    "set_aside": True,
    "own_similarity": 0.11,
    "nearest_person": "helen_clark",
    "nearest_similarity": 0.45,
    "other_template": TEMPLATE[::-1],
    "own_template": None,
    "suggestion": "look at both; remove it, or enrol the photograph for the other person, or keep it if this is right",
}
CHECK = {
    "people": 2,
    "templates": 9,
    "stranger_similarity": 0.33,
    "measured": False,
    "set_aside": 2,
    "total": 2,
    "findings": [
        FINDING,
        FINDING | {"reason": "duplicate", "own_similarity": None, "nearest_person": None, "nearest_similarity": None},
    ],
    "pairs": [
        {
            "people": ["bob_of_the_north", "robert"],
            "similarity": 0.66,
            "own_similarity": 0.64,
            "templates": [TEMPLATE, TEMPLATE],
            "suggestion": "one person enrolled twice, or twins; of one person remove one id, twins stay as they are",
        }
    ],
}


def test_the_gallery_check_can_be_read_at_80_columns(service) -> None:
    service.queue = [(200, CHECK)]
    done = run("gallery", "check", "--url", service.url, COLUMNS="80")
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    assert max(map(len, lines)) <= 80
    assert f"harrison_ford {TEMPLATE}" in lines, "whole, to be copied into `gallery keep`"
    assert "  confuses; left out; similarity to its own 0.11, helen_clark 0.45" in lines
    assert f"  duplicate of {TEMPLATE[::-1][:8]}…; left out" in lines
    assert "bob_of_the_north and robert" in lines
    words = " ".join(done.stdout.split())
    assert FINDING["suggestion"] in words and "twins stay as they are" in words, "no word is broken"
    assert "facerelay gallery check --pictures check.jpg" in done.stderr
    assert json.loads(run("gallery", "check", "--url", service.url, "--json").stdout) == CHECK


def test_a_gallery_in_order_has_no_faces_to_see(service) -> None:
    service.queue = [(200, CHECK | {"findings": [], "pairs": [], "total": 0, "set_aside": 0})]
    done = run("gallery", "check", "--url", service.url)
    assert "Templates: none" in done.stdout and "--pictures" not in done.stderr


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
