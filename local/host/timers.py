"""Timer triggers: NCRONTAB in UTC, one run at a time, what was missed is made up for once."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import azure.functions as func
from azure.functions.timer import TimerRequest
from croniter import croniter

from local.host.index import TimerTrigger
from shared.adapters.local import LocalStore
from shared.adapters.local.schema import from_us, to_us
from shared.errors import ConfigurationError

logger = logging.getLogger(__name__)

_LONGEST_NAP_S = 1.0
_MONITORED_FROM = timedelta(minutes=1)


def next_occurrence(schedule: str, after: datetime) -> datetime:
    """The first moment of an NCRONTAB expression after `after`, in UTC.

    Six fields: second, minute, hour, day, month, day of week; five mean second 0. As in NCrontab, and unlike cron,
    a day has to be right by date and by weekday when both are given.

    >>> next_occurrence("0 30 2 * * *", datetime(2026, 1, 1, 3, tzinfo=UTC)).isoformat()
    '2026-01-02T02:30:00+00:00'

    Raises:
        ConfigurationError: not such an expression, or one that never comes.
    """
    fields = schedule.split()
    six = ["0", *fields] if len(fields) == 5 else fields
    if len(six) != 6:
        raise ConfigurationError(f"not an NCRONTAB expression of six fields: {schedule[:60]!r}")
    try:
        cron = croniter(" ".join(six), after, second_at_beginning=True, day_or=False)
        found: datetime = cron.get_next(datetime)
    except ValueError as error:
        raise ConfigurationError(f"not an NCRONTAB expression: {schedule[:60]!r}") from error
    return found.astimezone(UTC)


class Timer:
    """When one timer function runs next. Keeps its state in the store when it is monitored.

    As on the platform, schedules of less than a minute are not monitored.
    """

    def __init__(self, trigger: TimerTrigger, store: LocalStore, now: datetime) -> None:
        self.trigger = trigger
        self._store = store
        self.next_run = next_occurrence(trigger.schedule, now)
        self.last_run: datetime | None = None
        self._past_due = False
        self._startup = trigger.run_on_startup
        following = next_occurrence(trigger.schedule, self.next_run)
        self.monitored = trigger.use_monitor and following - self.next_run >= _MONITORED_FROM
        if self.monitored:
            self._resume(now)

    def due(self, now: datetime) -> TimerRequest | None:
        """The request to run with, when it is time."""
        if not self._startup and now < self.next_run:
            return None
        status = {
            "Last": self.last_run.isoformat() if self.last_run else "0001-01-01T00:00:00+00:00",
            "Next": self.next_run.isoformat(),
            "LastUpdated": now.isoformat(),
        }
        return TimerRequest(past_due=self._past_due, schedule_status=status, schedule={"AdjustForDST": True})

    def ran(self, started: datetime, now: datetime) -> None:
        """It ran, well or not; what came due meanwhile is left out."""
        self._startup = self._past_due = False
        self.last_run = started
        self.next_run = next_occurrence(self.trigger.schedule, now)
        self._save()

    def _resume(self, now: datetime) -> None:
        with self._store.reading() as db:
            row = db.execute("SELECT * FROM host_timers WHERE name = ?", (self.trigger.function.name,)).fetchone()
        if row is None:
            self._save()
            return
        expected = from_us(row["next_run"])
        if row["last_run"] is not None:
            self.last_run = from_us(row["last_run"])
            # From the last run on: the schedule may be another one since.
            expected = next_occurrence(self.trigger.schedule, self.last_run)
        if expected <= now:
            self.next_run, self._past_due = expected, True

    def _save(self) -> None:
        if not self.monitored:
            return
        last_run = None if self.last_run is None else to_us(self.last_run)
        with self._store.transaction() as db:
            db.execute(
                "INSERT OR REPLACE INTO host_timers VALUES (?, ?, ?)",
                (self.trigger.function.name, last_run, to_us(self.next_run)),
            )


class TimerRunner:
    """A thread for each timer: its runs can never overlap, and no timer waits for another."""

    def __init__(self, trigger: TimerTrigger, store: LocalStore, run: Callable[[func.TimerRequest], None]) -> None:
        self._timer = Timer(trigger, store, store.clock())
        self._clock = store.clock
        self._run = run
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name=f"timer-{trigger.function.name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()

    def join(self, deadline: float) -> bool:
        """Waits for a run until `deadline` (`time.monotonic`). False when it is still running then."""
        self._thread.join(max(0.0, deadline - time.monotonic()))
        return not self._thread.is_alive()

    def _loop(self) -> None:
        while not self._stop.is_set():
            try:
                self._turn()
            except Exception:
                # The edge of the loop: the store may be full or locked.
                logger.exception("timer not served", extra={"action": "timer_failed"})
                self._stop.wait(_LONGEST_NAP_S)

    def _turn(self) -> None:
        started = self._clock()
        request = self._timer.due(started)
        if request is None:
            # Short naps, since the wall clock may be set.
            remaining_s = (self._timer.next_run - started).total_seconds()
            self._stop.wait(min(remaining_s, _LONGEST_NAP_S))
            return
        name = self._timer.trigger.function.name
        try:
            self._run(request)
        except (Exception, SystemExit):
            # The platform does not retry timers either; the next occurrence is the retry.
            logger.exception("timer function failed", extra={"action": "timer_function_failed", "function": name})
        self._timer.ran(started, self._clock())
