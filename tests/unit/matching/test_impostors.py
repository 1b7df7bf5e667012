"""What is usual of an embedder's strangers: more people and rarer strangers mean more similarity."""

from __future__ import annotations

import pytest

from shared.matching.impostors import MOST_PEOPLE, RAREST, RISE, ImpostorCurve
from shared.vision.assets import load_registry

PEOPLE = (2, 3, 5, 10, 20, 50, 100, 200, 300, 400)
SHARES = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
"""Between the sizes and shares that a gallery without strangers of its own is likely to have."""
BUILT_IN = ("facenet", "sface")


@pytest.fixture(params=BUILT_IN)
def curve(request: pytest.FixtureRequest) -> ImpostorCurve:
    table = load_registry().embedder[request.param].impostors
    assert table is not None
    return ImpostorCurve(**table.model_dump())


def test_every_shipped_embedder_has_a_curve() -> None:
    with_curve = {name for name, table in load_registry().embedder.items() if table.impostors is not None}
    assert with_curve == set(BUILT_IN)


@pytest.mark.parametrize("share", SHARES[:-1])
def test_strangers_come_nearer_to_more_people(curve: ImpostorCurve, share: float) -> None:
    reached = [curve.similarity(people, share) for people in PEOPLE]
    assert all(one < other for one, other in zip(reached, reached[1:], strict=False)), reached


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_rarest_strangers_that_were_measured_come_no_less_near_to_more_people(name: str) -> None:
    table = load_registry().embedder[name].impostors
    assert table is not None
    reached = [ImpostorCurve(**table.model_dump()).similarity(people, SHARES[-1]) for people in PEOPLE]
    assert all(one <= other for one, other in zip(reached, reached[1:], strict=False)), reached


@pytest.mark.parametrize("people", PEOPLE)
def test_rarer_strangers_come_nearer(curve: ImpostorCurve, people: int) -> None:
    reached = [curve.similarity(people, share) for share in SHARES]
    assert all(one < other for one, other in zip(reached, reached[1:], strict=False)), reached


@pytest.mark.parametrize("people", PEOPLE)
@pytest.mark.parametrize("share", SHARES)
def test_it_is_a_similarity(curve: ImpostorCurve, people: int, share: float) -> None:
    assert 0 < curve.similarity(people, share) < 1


def test_the_formula_is_what_it_says() -> None:
    """ln 100 = 4.60517 and ln 1/0.01 the same: 0.1 + 0.02 n + 0.03 r + 0.001 n² + 0.002 n r + 0.003 r², by hand."""
    curve = ImpostorCurve(0.1, 0.02, 0.03, 0.001, 0.002, 0.003)
    assert curve.similarity(100, 0.01) == pytest.approx(0.1 + 0.05 * 4.60517 + 0.006 * 4.60517**2, abs=1e-5)


@pytest.mark.parametrize("people", [0, 1, 2])
def test_fewer_people_than_were_measured_are_two(curve: ImpostorCurve, people: int) -> None:
    assert curve.similarity(people, 0.01) == curve.similarity(2, 0.01)


@pytest.mark.parametrize("share", [0.0, RAREST / 10, RAREST])
def test_rarer_than_was_measured_is_the_rarest(curve: ImpostorCurve, share: float) -> None:
    assert curve.similarity(100, share) == curve.similarity(100, RAREST)


def test_a_share_above_all_is_all(curve: ImpostorCurve) -> None:
    assert curve.similarity(100, 2.0) == curve.similarity(100, 1.0)


def test_more_people_than_were_measured_go_on_as_a_straight_line(curve: ImpostorCurve) -> None:
    last = curve.similarity(MOST_PEOPLE, 0.01)
    assert curve.similarity(MOST_PEOPLE + 1, 0.01) == pytest.approx(last, abs=1e-3), "without a step"
    # ten times the people are ln 10 = 2.302585 factors of e
    assert curve.similarity(10 * MOST_PEOPLE, 0.01) == pytest.approx(last + 2.302585 * RISE, abs=1e-6)
    assert curve.similarity(100 * MOST_PEOPLE, 0.01) == pytest.approx(last + 2 * 2.302585 * RISE, abs=1e-6)
