"""Whatever is said in whatever order, between whatever runs: no group goes against it."""

from __future__ import annotations

from datetime import timedelta
from itertools import count

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from functions.group.corrections import Corrections
from functions.group.linking import prepared
from functions.group.state import Group, GroupState, Member, inherited
from shared.errors import Conflict, InvalidInput
from tests.support import NOW


def member(face: str) -> Member:
    return Member(face, NOW + timedelta(seconds=int(face[1:])), "hq", "gate", "lobby", None, None, 0.5)


def ids(*faces: str) -> frozenset[str]:
    return frozenset(faces)


class Operators(RuleBasedStateMachine):
    """Operators correct, faces come and go, and groupings run in between."""

    @initialize(seed=st.integers(0, 1_000))
    def begin(self, seed: int) -> None:
        self.random = np.random.default_rng(seed)
        self.people = self.random.standard_normal((5, 6))
        self.numbers = count()
        self.faces: dict[str, np.ndarray] = {}
        self.state = GroupState()
        self.said_same: list[frozenset[str]] = []
        self.said_apart: list[tuple[str, str]] = []
        self.come(12)

    @rule(many=st.integers(1, 6))
    def come(self, many: int) -> None:
        for _ in range(many):
            row = self.people[self.random.integers(5)] + 0.9 * self.random.standard_normal(6)
            self.faces[f"d{next(self.numbers)}"] = (row / np.linalg.norm(row)).astype(np.float32)
        self.regroup()

    @rule(data=st.data())
    def age(self, data: st.DataObject) -> None:
        for face in data.draw(st.lists(st.sampled_from(sorted(self.faces)), max_size=3, unique=True)):
            if len(self.faces) > 3:
                del self.faces[face]
        self.said_apart = [(a, b) for a, b in self.said_apart if a in self.faces and b in self.faces]
        self.said_same = [kept for one in self.said_same if (kept := one & self.faces.keys())]
        self.regroup()

    @rule()
    def regroup(self) -> None:
        members = [member(face) for face in sorted(self.faces)]
        rows = np.stack([self.faces[m.detection_id] for m in members])
        before = {key: group.ids & self.faces.keys() for key, group in self.state.groups.items()}
        state = self.state.only(self.faces.__contains__)
        clusters = prepared(members, rows, 0.3, lambda share: None).clusters(state.corrections, (), lambda share: None)
        assert sorted(m.detection_id for one in clusters for m in one) == sorted(self.faces)
        new_id = map("g:{}".format, self.numbers).__next__
        self.state = state.regrouped("e", clusters, min_faces=2, now=NOW, new_id=new_id)
        for key, group in self.state.groups.items():
            if key in before:
                assert group.ids & before[key], "an id went to faces that it never had"

    @rule(data=st.data(), withdraw=st.booleans())
    def merge(self, data: st.DataObject, withdraw: bool) -> None:
        if len(self.state.groups) < 2:
            return
        one, other = data.draw(st.permutations(sorted(self.state.groups)))[:2]
        whole = self.state.group(one).ids | self.state.group(other).ids
        against = [pair for pair in self.said_apart if whole.issuperset(pair)]
        try:
            self.state = self.state.merged(one, other, withdraw=withdraw)
        except Conflict:
            assert against and not withdraw
            return
        assert withdraw or not against
        self.said_apart = [pair for pair in self.said_apart if pair not in against]
        self.said_same.append(whole)

    @rule(data=st.data(), together=st.booleans())
    def take_out(self, data: st.DataObject, together: bool) -> None:
        large = sorted(key for key, group in self.state.groups.items() if len(group.members) > 1)
        if not large:
            return
        key = data.draw(st.sampled_from(large))
        members = self.state.group(key).ids
        size = len(members) - 1
        faces = frozenset(data.draw(st.lists(st.sampled_from(sorted(members)), min_size=1, max_size=size, unique=True)))
        if together:
            self.state = self.state.split(key, sorted(faces), f"g:{next(self.numbers)}", NOW)
            self.said_same = [*(one - faces for one in self.said_same), faces]
        else:
            self.state = self.state.rejected(key, sorted(faces))
            self.said_same = [one - faces for one in self.said_same]
        self.said_apart += [(a, b) for a in faces for b in members - faces]

    @invariant()
    def what_was_said_holds(self) -> None:
        if not hasattr(self, "state"):
            return
        group_of = {m.detection_id: key for key, group in self.state.groups.items() for m in group.members}
        for a, b in self.said_apart:
            assert group_of.get(a, a) != group_of.get(b, b)
        for one in self.said_same:
            assert len({group_of.get(face, face) for face in one}) <= 1
        assert not self.state.corrections.violated_by(group.ids for group in self.state.groups.values())
        assert sum(len(group.members) for group in self.state.groups.values()) == len(group_of)

    @invariant()
    def it_is_kept_whole(self) -> None:
        if hasattr(self, "state"):
            assert GroupState.from_bytes(self.state.to_bytes()) == self.state


TestOperators = Operators.TestCase
TestOperators.settings = settings(max_examples=40, stateful_step_count=25, deadline=None)


def test_same_sets_grow_together() -> None:
    said = Corrections().united(ids("a", "b")).united(ids("c", "d")).united(ids("b", "c"))
    assert said.same == (ids("a", "b", "c", "d"),)


def test_what_is_apart_stays_so_through_who_is_the_same() -> None:
    said = Corrections().separated(ids("a"), ids("b"), together=True).united(ids("b", "c"))
    with pytest.raises(Conflict, match="told apart"):
        said.united(ids("a", "c"))
    withdrawn = said.united(ids("a", "c"), withdraw=True)
    assert withdrawn.same == (ids("a", "b", "c"),) and withdrawn.apart == ()


def test_withdrawing_takes_back_no_more_than_it_must() -> None:
    said = Corrections().separated(ids("a", "x"), ids("b", "y"), together=False).united(ids("a", "b"), withdraw=True)
    apart = {(a, b) for one, other in said.apart for a in one for b in other}
    assert apart == {("x", "b"), ("x", "y"), ("a", "y")}


def test_a_violation_is_seen() -> None:
    said = Corrections((ids("a", "b"),), ((ids("a"), ids("c")),))
    assert said.violated_by([ids("a", "b", "c")])
    assert said.violated_by([ids("a"), ids("b")]) and said.violated_by([ids("a")])
    assert not said.violated_by([ids("a", "b"), ids("c")])


def groups(**members: str) -> dict[str, Group]:
    return {key: Group(key, "e", NOW, tuple(map(member, faces.split()))) for key, faces in members.items()}


@pytest.mark.parametrize(
    ("clusters", "expected"),
    [
        (["d1 d2 d3", "d4 d5"], {0: "a", 1: "b"}),
        (["d1", "d2 d3 d4 d5"], {1: "a"}),  # two of either in the second: the tie goes by id, and a has one heir only
        (["d9"], {}),
        (["d4 d1 d2", "d3"], {0: "a"}),
    ],
)
def test_the_largest_overlap_inherits_the_id(clusters: list[str], expected: dict[int, str]) -> None:
    before = groups(a="d1 d2 d3", b="d4 d5")
    found = inherited(before, [[member(face) for face in one.split()] for one in clusters])
    assert found == expected


def test_a_tie_goes_to_the_older_group_whatever_the_order() -> None:
    before = groups(a="d1", b="d2")
    before["b"] = Group("b", "e", NOW - timedelta(days=1), before["b"].members)
    for order in (["d1", "d2"], ["d2", "d1"]):
        assert inherited(before, [[member(face) for face in order]]) == {0: "b"}


def test_small_groups_are_none_unless_somebody_said_so() -> None:
    state = GroupState(corrections=Corrections((ids("d1"),)))
    made = state.regrouped("e", [[member("d1")], [member("d2")]], min_faces=2, now=NOW)
    assert [group.ids for group in made.groups.values()] == [ids("d1")]


def test_no_detection_is_no_correction() -> None:
    state = GroupState(groups(a="d1 d2"))
    with pytest.raises(InvalidInput):
        state.rejected("a", [])
