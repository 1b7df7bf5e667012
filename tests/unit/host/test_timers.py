"""Timer triggers with a clock that the tests set."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import azure.functions as func
import pytest

from local.host.index import TimerTrigger, index
from local.host.timers import Timer, TimerRunner, next_occurrence
from shared.adapters.local import LocalStore
from shared.errors import ConfigurationError

NOON = datetime(2026, 3, 4, 12, tzinfo=UTC)  # a Wednesday


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path)
    yield store
    store.close()


def trigger(schedule: str = "0 */5 * * * *") -> TimerTrigger:
    app = func.FunctionApp()

    @app.route("quiet")  # the SDK logs a warning about apps without any
    def quiet(req: func.HttpRequest) -> str:
        return ""

    @app.timer_trigger("timer", schedule)
    def tick(timer: func.TimerRequest) -> None: ...

    return index(app, {}).timers[0]


@pytest.mark.parametrize(
    ("schedule", "after", "expected"),
    [
        ("0 */5 * * * *", NOON, "2026-03-04T12:05:00"),
        ("*/5 * * * * *", NOON + timedelta(seconds=1), "2026-03-04T12:00:05"),
        ("30 0 * * * *", NOON, "2026-03-04T12:00:30"),
        ("0 30 2 * * *", NOON, "2026-03-05T02:30:00"),
        ("0 0 9-17 * * 1-5", NOON.replace(hour=18), "2026-03-05T09:00:00"),
        ("0 0 0 29 2 *", NOON, "2028-02-29T00:00:00"),
        ("0 0 12 13 * 5", NOON, "2026-03-13T12:00:00"),  # a 13th that is a Friday, not any 13th or Friday
        ("0 0 12 14 * Mon", NOON, "2026-09-14T12:00:00"),
        ("0 0 0 * Jan *", NOON, "2027-01-01T00:00:00"),
        ("*/5 * * * *", NOON, "2026-03-04T12:05:00"),
        ("0 0 12 * * *", NOON, "2026-03-05T12:00:00"),
    ],
)
def test_next_occurrence(schedule: str, after: datetime, expected: str) -> None:
    assert next_occurrence(schedule, after).isoformat() == f"{expected}+00:00"


@pytest.mark.parametrize("schedule", ["", "* * *", "61 * * * * *", "0 0 0 31 2 *", "x y z a b c", "00:05:00", "@daily"])
def test_schedules_that_are_none_are_refused(schedule: str) -> None:
    with pytest.raises(ConfigurationError):
        next_occurrence(schedule, NOON)


def test_it_is_due_at_its_time_and_then_at_the_next(store: LocalStore) -> None:
    timer = Timer(trigger(), store, NOON)
    assert timer.due(NOON) is None
    assert timer.due(NOON + timedelta(minutes=4, seconds=59)) is None
    due = NOON + timedelta(minutes=5)
    request = timer.due(due)
    assert request is not None
    assert request.past_due is False
    timer.ran(due, due + timedelta(seconds=1))
    assert timer.due(due + timedelta(seconds=2)) is None
    assert timer.next_run == NOON + timedelta(minutes=10)


def test_what_came_due_during_a_long_run_is_left_out(store: LocalStore) -> None:
    timer = Timer(trigger(), store, NOON)
    timer.ran(NOON + timedelta(minutes=5), NOON + timedelta(minutes=17))
    assert timer.next_run == NOON + timedelta(minutes=20)


def test_what_was_missed_while_down_runs_once_and_past_due(store: LocalStore) -> None:
    timer = Timer(trigger(), store, NOON)
    timer.ran(NOON + timedelta(minutes=5), NOON + timedelta(minutes=5))
    later = NOON + timedelta(hours=3)
    again = Timer(trigger(), store, later)
    request = again.due(later)
    assert request is not None
    assert request.past_due is True
    assert request.schedule_status["Last"] == (NOON + timedelta(minutes=5)).isoformat()
    again.ran(later, later)
    assert again.due(later) is None


def test_a_first_run_that_was_missed_is_past_due_too(store: LocalStore) -> None:
    Timer(trigger(), store, NOON)
    request = Timer(trigger(), store, NOON + timedelta(minutes=6)).due(NOON + timedelta(minutes=6))
    assert request is not None
    assert request.past_due is True


def test_a_restart_in_between_runs_nothing(store: LocalStore) -> None:
    Timer(trigger(), store, NOON).ran(NOON, NOON)
    later = NOON + timedelta(minutes=2)
    timer = Timer(trigger(), store, later)
    assert timer.due(later) is None
    assert timer.next_run == NOON + timedelta(minutes=5)


def test_unmonitored_timers_forget(store: LocalStore) -> None:
    unmonitored = replace(trigger(), use_monitor=False)
    Timer(unmonitored, store, NOON).ran(NOON, NOON)
    later = NOON + timedelta(hours=1)
    assert Timer(unmonitored, store, later).due(later) is None


def test_schedules_below_a_minute_are_not_monitored(store: LocalStore) -> None:
    assert Timer(trigger("*/30 * * * * *"), store, NOON).monitored is False
    assert Timer(trigger("0 * * * * *"), store, NOON).monitored is True


def test_run_on_startup(store: LocalStore) -> None:
    timer = Timer(replace(trigger(), run_on_startup=True), store, NOON)
    request = timer.due(NOON)
    assert request is not None
    assert request.past_due is False
    timer.ran(NOON, NOON)
    assert timer.due(NOON) is None


def test_runs_never_overlap_and_failures_do_not_end_the_timer(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    running, overlaps, runs = threading.Semaphore(1), [], []

    def run(_: func.TimerRequest) -> None:
        overlaps.append(not running.acquire(blocking=False))
        time.sleep(1.2)
        running.release()
        runs.append(1)
        raise ValueError("not the end")

    runner = TimerRunner(trigger("* * * * * *"), store, run)
    runner.start()
    deadline = time.monotonic() + 10
    while len(runs) < 2 and time.monotonic() < deadline:
        time.sleep(0.05)
    runner.stop()
    assert runner.join(time.monotonic() + 5)
    store.close()
    assert len(runs) >= 2
    assert not any(overlaps)
