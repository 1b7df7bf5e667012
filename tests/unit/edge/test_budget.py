"""What sending may cost, over kills, damaged files and clocks that are set."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_uploader.delivery.budget import Budget, BudgetLimits, network_bytes
from edge_uploader.delivery.clock import SteadyClock
from edge_uploader.delivery.order import Level
from edge_uploader.delivery.state import StateFile

S = 1_000_000_000
HOUR, DAY = 3_600, 86_400


class World:
    """A machine: a wall's clock that can be set, an uptime that cannot, a folder that a kill leaves."""

    def __init__(self, folder, wall=datetime(2026, 11, 25, 12, tzinfo=UTC)):
        self.folder, self.wall, self.uptime_s = folder, wall, 5.0

    def clock(self):
        return SteadyClock(
            StateFile(self.folder / "clock.json"),
            wall_ns=lambda: round(self.wall.timestamp() * S),
            passed_ns=lambda: round(self.uptime_s * S),
        )

    def budget(self, **limits):
        file = StateFile(self.folder / "budget.json")
        self.steady = self.clock()
        return Budget(BudgetLimits(**limits), clock=self.steady, file=file, utc=lambda: self.wall)

    def passes(self, seconds):
        self.wall += timedelta(seconds=seconds)
        self.uptime_s += seconds
        self.steady.keep()

    def set(self, seconds):
        self.wall += timedelta(seconds=seconds)
        self.steady.keep()


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def spend(budget, size, most=10_000):
    count = 0
    while count < most and budget.reserve(size):
        count += 1
    return count


def test_an_hour_degrades_by_steps_and_opens_again(world):
    budget = world.budget(bytes_per_hour=100_000)
    levels = []
    for _ in range(100):
        levels.append(budget.gate().level)
        assert budget.reserve(1_000)
    assert [levels.count(level) for level in Level] == [60, 25, 15, 0]
    assert budget.gate().level is Level.NOTHING
    assert not budget.reserve(1_000)
    world.passes(HOUR - 61)
    assert not budget.reserve(1_000)
    world.passes(121)
    assert budget.gate().level is Level.ALL
    assert budget.report().hour_bytes == 0


def test_a_month_costs_no_more_than_it_may(world):
    budget = world.budget(per_month=1.0, price_per_gb=100.0, price_per_10k=10.0)
    each = 100 * 1_000_000 / 1e9 + 10 / 10_000  # 0.101
    assert spend(budget, 1_000_000) == int(1.0 / each) == 9
    report = budget.report(held_back=7)
    assert report.month_spent == pytest.approx(9 * each)
    assert (report.level, report.held_back, report.month_uploads) == ("best", 7, 9)
    assert report.month_ends == "2026-12-01T00:00:00.000Z"
    world.passes(5.5 * DAY - 1)
    assert not budget.reserve(1_000_000)
    world.passes(2)
    assert budget.reserve(1_000_000)
    assert budget.report().month_ends == "2027-01-01T00:00:00.000Z"


@pytest.mark.parametrize("seconds", [-HOUR, HOUR, 31 * DAY, -31 * DAY, -50 * 365 * DAY])
def test_a_clock_that_is_set_neither_frees_nor_blocks(world, seconds):
    budget = world.budget(bytes_per_hour=10_000, per_month=1.0, price_per_gb=1.0)
    assert spend(budget, 1_000) == 10
    world.set(seconds)
    assert not budget.reserve(1_000), "the hour is not over because the clock says so"
    spent = budget.report().month_spent
    assert spent > 0, "nor is the month"
    budget = world.budget(bytes_per_hour=10_000, per_month=1.0, price_per_gb=1.0)  # killed, with the clock still wrong
    assert not budget.reserve(1_000)
    assert budget.report().month_spent >= spent
    world.passes(HOUR + 60)
    assert budget.reserve(1_000), "and the hour ends for all that"
    world.passes(31 * DAY + 1)
    assert budget.report().month_spent == 0


@settings(deadline=None, max_examples=40)
@given(st.lists(st.sampled_from(["spend", "kill", "close"]), max_size=40), st.integers(500, 60_000))
def test_no_kill_frees_what_was_spent(tmp_path_factory, steps, size):
    world = World(tmp_path_factory.mktemp("budget"))
    budget, sent = world.budget(bytes_per_hour=300_000), 0
    for step in steps:
        if step == "spend":
            sent += size * budget.reserve(size)
            continue
        if step == "close":
            budget.close()
        budget = world.budget(bytes_per_hour=300_000)
    assert budget.report().hour_bytes >= sent
    assert sent <= 300_000


def test_a_clean_end_remembers_to_the_byte(world):
    budget = world.budget(bytes_per_hour=1_000_000)
    spend(budget, 777, most=10)
    budget.refund(777)
    budget.close()
    assert world.budget(bytes_per_hour=1_000_000).report().hour_bytes == 9 * 777


@pytest.mark.parametrize("damage", [b"", b"{", b'{"body": 5, "sha256": "x"}', b"\xff" * 100, b"[" * 90_000])
def test_one_damaged_file_is_made_good_by_the_one_before(world, damage):
    budget = world.budget(bytes_per_hour=10_000_000)
    spend(budget, 100_000, most=20)
    budget.close()
    (world.folder / "budget.json").write_bytes(damage)
    assert world.budget(bytes_per_hour=10_000_000).report().hour_bytes >= 1_900_000


@pytest.mark.parametrize(
    "document",
    [{"hour": 5}, {"hour": {"x": 1}}, {"spent": float("nan")}, {"spent": -1}, {"month_ends_ns": "x"}, {"bytes": -5}],
)
def test_nonsense_counts_anew_and_blocks_nothing(world, document):
    StateFile(world.folder / "budget.json").write(document)
    budget = world.budget(bytes_per_hour=10_000, per_month=1.0, price_per_gb=1.0)
    assert budget.reserve(1_000)


def test_what_lies_far_in_the_future_is_drawn_near(world):
    document = {"hour": {str(10**12): 10_000}, "month_ends_ns": 10**19, "spent": 1.0}
    StateFile(world.folder / "budget.json").write(document)
    budget = world.budget(bytes_per_hour=10_000, per_month=1.0, price_per_gb=1.0)
    assert not budget.reserve(1_000)
    world.passes(31 * DAY + 1)
    assert budget.reserve(1_000)


def test_a_limit_below_one_crop_does_not_block_for_ever(world):
    budget = world.budget(bytes_per_hour=10)
    assert spend(budget, 5_000) == 1
    world.passes(HOUR + 60)
    assert spend(budget, 5_000) == 1


def test_a_full_disk_stops_no_counting(world, monkeypatch):
    budget = world.budget(bytes_per_hour=10_000)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    assert spend(budget, 1_000) == 10


def test_the_estimate_holds_the_protocol():
    assert network_bytes(b"x" * 8_000, {"sha256": "a" * 64}, {"site": "hq"}) == round(1.05 * (8_000 + 84 + 8 + 1_300))


def test_a_clock_goes_on_over_restarts_and_never_back(world):
    clock = world.clock()
    first = clock.now_ns()
    world.steady = clock
    world.set(-10 * HOUR)
    again = world.clock()
    assert first <= again.now_ns() < first + 60 * S
    world.steady = again
    world.passes(120)
    assert again.now_ns() == pytest.approx(first + 120 * S, abs=S)
    world.wall += timedelta(hours=3)  # switched off for three hours
    assert world.clock().now_ns() == pytest.approx(first + 120 * S + 3 * HOUR * S, abs=S)
