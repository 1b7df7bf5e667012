"""What goes first, what is held back, what gives way: against a list that is sorted anew each time."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_uploader.delivery.entries import SpoolItem, file_rank, named_rank
from edge_uploader.delivery.order import Gate, Kind, Level, Rank, Waiting, rank_of

ranks = st.builds(
    rank_of,
    st.integers(1, 9),
    st.integers(0, 2),
    st.floats(0, 1),
    st.integers(0, 50),
    st.uuids().map(str),
)
gates = st.builds(Gate, st.sampled_from(Level), st.integers(1, 9))


@settings(deadline=None)
@given(st.lists(ranks, max_size=30, unique_by=lambda rank: rank.name), gates, st.integers(0, 50), st.data())
def test_every_question_is_answered_as_a_sorted_list_would(some, gate, since, data):
    half = len(some) // 2
    waiting = Waiting(some[:half])
    for rank in some[half:]:
        waiting.add(rank)
    if some:
        gone = data.draw(st.sampled_from(some))
        waiting.remove(gone)
        some = [rank for rank in some if rank != gone]
        with pytest.raises(KeyError):
            waiting.remove(gone)
    allowed = [rank for rank in some if gate.allows(rank.priority, rank.kind)]
    assert len(waiting) == len(some)
    assert waiting.held(gate) == len(some) - len(allowed)
    assert waiting.best(gate) == max(allowed, default=None)
    assert waiting.oldest(gate) == min(allowed, key=lambda rank: (rank.stamp_ns, rank.name), default=None)
    assert list(waiting.least()) == sorted(some)
    fresh = [rank for rank in allowed if rank.stamp_ns >= since]
    newest = max(fresh, key=lambda rank: (rank.priority, rank.kind, rank.stamp_ns, rank.name), default=None)
    assert waiting.newest(gate, since) == newest


@given(st.integers(-5, 20), st.integers(-1, 3), st.floats(), st.integers(0, 10**19), st.integers(0, 10**7))
def test_a_files_name_tells_its_place(priority, shot, worth, stamp, serial):
    rank = file_rank(SpoolItem("x", b"", {}, {}, worth=worth, priority=priority, shot=shot), stamp, serial)
    assert named_rank(rank.name) == rank
    assert named_rank(rank.name.replace(".crop", ".reason"))[:4] == rank[:4]


@pytest.mark.parametrize(
    "name", ["", "x.crop", "1-1.crop", "0" * 20 + "-000001-0000.crop", "0" * 20 + "-000001-52087.tmp", "..crop"]
)
def test_other_names_are_none_of_ours(name):
    assert named_rank(name) is None


def test_each_level_lets_less_go():
    kinds = [(priority, kind) for priority in range(1, 10) for kind in Kind]
    passing = [{pair for pair in kinds if Gate(level, 7).allows(*pair)} for level in Level]
    assert passing[0] == set(kinds)
    assert passing[0] > passing[1] > passing[2] > passing[3] == set()
    assert passing[2] == {(priority, Kind.FIRST) for priority in (7, 8, 9)}


def test_a_hundred_thousand_wait_and_none_is_slow():
    """Generous, since machines differ: what is quadratic takes minutes."""
    some = [Rank(1 + n % 9, Kind(n % 3), n * 37 % 101, n, str(n)) for n in range(100_000)]
    began = time.perf_counter()
    waiting = Waiting(some)
    for n in range(2_000):
        waiting.add(Rank(5, Kind.FIRST, 50, 100_000 + n, f"new {n}"))
        waiting.remove(waiting.best())
        waiting.remove(waiting.oldest())
        next(waiting.least())
    assert time.perf_counter() - began < 5
    assert len(waiting) == 98_000
