"""`facerelay models migrate` and `migration` against a service that answers what a test tells it to."""

from __future__ import annotations

import json
from typing import Any

import pytest
from typer.testing import CliRunner

from local.cli import app, migration

FIGURES = {"compared": 20, "agreed": 19, "agreement": 0.95, "named": {"old": 0.6, "new": 0.55}, "left_out": 1}
NOTHING = {"compared": 0, "agreed": 0, "agreement": None, "named": {"old": None, "new": None}, "left_out": 0}
COMPARISON = {
    "crops": FIGURES,
    "enrolled": NOTHING,
    "changes": [{"from": "ann", "to": "unknown", "count": 1, "of": "crops", "ids": ["d1"]}],
    "models": {
        "old": {"operating": {"threshold": 0.61234567}, "calibration": {"calibrated": True}, "evaluation": {}},
        "new": {
            "operating": {"threshold": 0.4},
            "calibration": {"calibrated": False, "why": "too few"},
            "evaluation": {"of folds": [1]},
        },
    },
}


def state(state: str, **changes: Any) -> dict[str, Any]:
    return {
        "migration_id": "m",
        "job_id": "j",
        "source": "facenet.1",
        "target": "sface.1",
        "rules": "facenet.1",
        "state": state,
        "wish": None,
        "images": 10,
        "embedded": 4,
        "skipped": 0,
        "source_model": None,
        "target_model": None,
        "rollback": None,
        "started_at": "t",
        "updated_at": "t",
        "progress": 0.3,
        "error": None,
        "comparison": None,
        **changes,
    }


def run(*arguments: str, **options: Any):
    return CliRunner().invoke(app, ["models", *arguments], env={"COLUMNS": "200"}, **options)


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migration, "POLL_S", 0.0)


def test_it_is_followed_until_it_is_ready_and_the_comparison_shown(service) -> None:
    service.queue = [(202, state("embedding")), (200, state("fitted")), (200, state("ready", comparison=COMPARISON))]
    done = run("migrate", "--to", "sface", "--url", service.url)
    assert done.exit_code == 0, done.output
    assert service.asked[0] == ("POST", "/api/v1/models/migration")
    assert "95.0%" in done.stdout and "60.0%" in done.stdout and "55.0%" in done.stdout
    assert "ann" in done.stdout and "d1" in done.stdout
    assert "of folds" not in done.stdout, "what does not fit into a table is for --json"
    assert "operating: threshold" in done.stdout and "0.6123" in done.stdout and "too few" in done.stdout
    assert "--switch" in done.stderr


def test_it_goes_on_without_being_watched(service) -> None:
    service.queue = [(202, state("embedding"))]
    done = run("migrate", "--to", "sface", "--no-wait", "--json", "--url", service.url)
    assert json.loads(done.stdout)["state"] == "embedding" and len(service.asked) == 1


def test_what_cannot_begin_is_one_line(service) -> None:
    service.queue = [(409, {"error_message": "run: facerelay models fetch --pack sface"})]
    done = run("migrate", "--to", "sface", "--url", service.url)
    assert done.exit_code == 1 and "facerelay models fetch --pack sface" in done.stderr


def test_a_failure_is_told_and_ends_1(service) -> None:
    service.queue = [(202, state("embedding", error="integrity: x")), (200, {"status": "failed"})]
    done = run("migrate", "--to", "sface", "--url", service.url)
    assert done.exit_code == 1 and "integrity: x" in done.stderr


def test_a_passing_fault_is_waited_out(service) -> None:
    service.queue = [
        (202, state("embedding", error="store_unavailable: x")),
        (200, {"status": "queued"}),
        (200, state("ready")),
    ]
    assert run("migrate", "--to", "sface", "--url", service.url).exit_code == 0


@pytest.mark.parametrize("step", ["switch", "rollback", "finish", "cancel"])
def test_every_step_is_asked_for_and_waited_for(service, step: str) -> None:
    service.queue = [(202, state("ready", wish=step)), (200, state("switched"))]
    done = run("migration", f"--{step}", "--yes", "--json", "--url", service.url)
    assert done.exit_code == 0 and json.loads(done.stdout)["state"] == "switched"
    assert service.asked == [("POST", f"/api/v1/models/migration/{step}"), ("GET", "/api/v1/models/migration")]


@pytest.mark.parametrize("step", ["finish", "cancel"])
def test_what_deletes_asks_first(service, step: str) -> None:
    done = run("migration", f"--{step}", "--url", service.url, input="n\n")
    assert done.exit_code == 1 and service.asked == []


def test_one_step_at_a_time(service) -> None:
    done = run("migration", "--switch", "--rollback", "--url", service.url)
    assert done.exit_code == 1 and service.asked == []


def test_a_rollback_to_a_model_that_was_fitted_anew_says_so(service) -> None:
    service.queue = [(200, state("rolled_back", rollback="refitted", skipped=2))]
    done = run("migration", "--url", service.url)
    assert "fitted anew" in done.stdout and "2 images" in done.stdout
