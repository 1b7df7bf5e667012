"""How often a camera's work is begun anew."""

from __future__ import annotations

from edge_uploader.capture.events import EventLog
from edge_uploader.restarts import Restarts


class Work:
    """Failures and good frames, at times of our choosing."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.events = EventLog()
        self.restarts = Restarts("door", self.events, now_s=lambda: self.now_s)

    def fails(self) -> float | None:
        return self.restarts.failed(ZeroDivisionError())

    def good_for(self, seconds: int) -> None:
        for _ in range(seconds + 1):
            self.restarts.worked()
            self.now_s += 1.0


def test_the_fifth_failure_without_a_good_minute_between_is_the_last() -> None:
    work = Work()
    waits = []
    for _ in range(4):
        waits.append(work.fails())
        work.good_for(50)
    assert [low <= wait <= 2 * low for wait, low in zip(waits, (0.5, 2.0, 8.0, 15.0), strict=True)] == [True] * 4
    assert work.fails() is None
    assert work.events.begun == {"failing": 1}


def test_a_good_minute_makes_up_for_all_and_silence_is_no_good_work() -> None:
    work = Work()
    for _ in range(3):
        work.fails()
    work.now_s += 1_000.0
    work.good_for(50)
    assert work.restarts.trouble is not None
    work.good_for(20)
    assert work.restarts.trouble is None
    assert [event.phase for event in work.events.newest()] == ["begin", "end"]
    assert [work.fails() is None for _ in range(5)] == [False] * 4 + [True]
