"""The spool against a model of it: whatever is done in whatever order, what was taken is there, once."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from edge_uploader.delivery.clock import SteadyClock
from edge_uploader.delivery.entries import encode_item
from edge_uploader.delivery.order import Gate, Kind, Level
from edge_uploader.delivery.spool import Spool, SpoolItem
from edge_uploader.delivery.state import StateFile
from shared.errors import StoreFull

LIMIT = 6_000
AGE_S = 100.0
S = 1_000_000_000


class Spools(RuleBasedStateMachine):
    """The model: name → (value, size, taken at), and who has claimed what."""

    claimed = Bundle("claimed")

    def __init__(self):
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.wall, self.uptime, self.number = 1_700_000_000 * S, 5 * S, 0
        self.steady = self.wall
        self.model, self.out = {}, set()
        self.done_before, self.spool = 0, None
        self.open()

    def open(self):
        (self.folder / "clock").mkdir(exist_ok=True)
        clock = SteadyClock(
            StateFile(self.folder / "clock" / "c.json"), wall_ns=lambda: self.wall, passed_ns=lambda: self.uptime
        )
        self.spool = Spool(self.folder / "spool", limit_bytes=LIMIT, max_age_s=AGE_S, clock=clock)
        self.out = set()
        self.expire()

    def teardown(self):
        self.spool.close()
        shutil.rmtree(self.folder)

    def value(self, name):
        item, _, stamp, order = self.model[name]
        kind = 2 if item.shot == 0 else 1 if item.worth >= 0.5 else 0
        return item.priority, kind, round(100 * item.worth), stamp, order

    def expire(self):
        self.spool._tidied_s = 0.0
        self.spool.tidy()
        old = [n for n, about in self.model.items() if n not in self.out and about[2] < self.steady - AGE_S * S]
        for name in old:
            del self.model[name]

    @rule(size=st.integers(0, 2_500), priority=st.integers(1, 9), shot=st.integers(0, 2), worth=st.floats(0, 1))
    def put_live(self, **about):
        item = self.item(**about)
        need = len(encode_item(item))
        total = sum(size for _, size, _, _ in self.model.values())
        self.model[item.name] = (item, need, self.steady, self.number)
        yielding = []
        for name in sorted((n for n in self.model if n not in self.out), key=self.value):
            if total + need <= LIMIT:
                break
            yielding.append(name)
            if name == item.name:
                break
            total -= self.model[name][1]
        assert self.spool.put(item, make_room=True) == (item.name not in yielding)
        for name in [item.name] if item.name in yielding else yielding:
            del self.model[name]

    @rule(size=st.integers(0, 2_500))
    def put_recorded(self, size):
        item = self.item(size, 5, 0, 0.5)
        need = len(encode_item(item))
        if sum(about[1] for about in self.model.values()) + need > LIMIT:
            try:
                self.spool.put(item)
            except StoreFull:
                return
            raise AssertionError("it was taken beyond the bound")
        assert self.spool.put(item)
        self.model[item.name] = (item, need, self.steady, self.number)

    def item(self, size, priority, shot, worth):
        self.number += 1
        name = f"{self.number:06d}"
        return SpoolItem(name, b"x" * size, {"n": name}, {}, worth=worth, priority=priority, shot=shot)

    @rule(target=claimed, level=st.sampled_from(Level))
    def take(self, level):
        entry = self.spool.take(0, Gate(level, 5))
        waiting = [n for n in self.model if n not in self.out]
        allowed = [n for n in waiting if Gate(level, 5).allows(*self.kind(n))]
        if entry is None:
            assert not allowed
            return None
        assert entry.item.name in allowed
        assert entry.item == self.model[entry.item.name][0]
        best, oldest = max(allowed, key=self.value), min(allowed, key=lambda n: self.model[n][2:])
        fresh = [n for n in allowed if self.model[n][2] >= self.steady - 60 * S]
        assert entry.item.name in {best, oldest} or entry.item.name in fresh
        self.out.add(entry.item.name)
        return entry

    def kind(self, name):
        return self.value(name)[0], Kind(self.value(name)[1])

    @rule(entry=consumes(claimed), how=st.sampled_from(["done", "back", "refuse"]))
    def finish(self, entry, how):
        if entry is None or entry.item.name not in self.out:
            return
        self.out.discard(entry.item.name)
        if how == "back":
            self.spool.give_back(entry)
            return
        del self.model[entry.item.name]
        if how == "done":
            self.spool.done(entry)
        else:
            self.spool.refuse(entry, "no")

    @rule(seconds=st.integers(0, 60))
    def time_passes(self, seconds):
        for clock in ("wall", "uptime", "steady"):
            setattr(self, clock, getattr(self, clock) + seconds * S)
        self.expire()

    @rule(seconds=st.sampled_from([-3_600, 3_600, 31 * 86_400, -50 * 365 * 86_400]))
    def the_wall_clock_is_set(self, seconds):
        self.wall = max(0, self.wall + seconds * S)
        self.expire()

    @rule()
    def killed_and_started_again(self):
        """All that a kill leaves is the disk; the lock goes with the process."""
        self.spool._file_lock.release()
        (self.folder / "spool" / "tmp" / f"half-{self.number}.crop").write_bytes(b"FACERELAY-SPO")
        self.open()

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def a_file_is_damaged_while_nobody_looks(self, data):
        name = data.draw(st.sampled_from(sorted(self.model)))
        self.spool._file_lock.release()
        for path in (self.folder / "spool" / "ready").iterdir():
            if path.read_bytes().find(f'"name": "{name}"'.encode()) > 0:
                path.write_bytes(path.read_bytes()[:-1] + b"?\n")
        del self.model[name]
        self.open()
        while (entry := self.spool.take(0)) is not None:  # so that it is found; all others are given back
            self.out.add(entry.item.name)
            self.held = [*getattr(self, "held", []), entry]
        for entry in getattr(self, "held", []):
            self.spool.give_back(entry)
        self.held, self.out = [], set()
        # One that has waited for too long is erased before anybody reads it.
        assert self.spool.counts.torn + self.spool.counts.dropped_age >= 1

    @invariant()
    def what_was_taken_is_there_once(self):
        assert self.spool.waiting == len(self.model)
        assert self.spool.waiting_bytes == sum(about[1] for about in self.model.values()) <= LIMIT
        names = []
        for path in (self.folder / "spool" / "ready").iterdir():
            raw = path.read_bytes()
            names += [name for name in self.model if f'"name": "{name}"'.encode() in raw]
        assert sorted(names) == sorted(self.model)


TestSpools = Spools.TestCase
TestSpools.settings = settings(max_examples=30, stateful_step_count=25, deadline=None)
