"""Cross-validation: whoever plays a stranger is unknown to the fit, and counts once with all their photographs."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from functions.train import openset
from functions.train.openset import FOLDS, NO_TRIALS, Trials, cross_validate, one_of_each
from functions.train.scoring import Scorer, fit_scorers
from shared.domain import Float32Array

DIMENSION = 32


@dataclass
class Templates:
    embeddings: Float32Array
    people: np.ndarray
    count: int


def drawn(people: int, each: int = 3, *, seed: int = 0) -> Templates:
    random = np.random.default_rng(seed)
    whose = np.repeat(np.arange(people), each)
    rows = random.normal(size=(people, DIMENSION))[whose] + 0.8 * random.normal(size=(len(whose), DIMENSION))
    return Templates((rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), whose, people)


class Spy:
    """The real fit, which remembers what it was given."""

    def __init__(self) -> None:
        self.fits: list[set[bytes]] = []
        self.galleries: list[int] = []

    def __call__(self, embeddings: Float32Array, people: np.ndarray, count: int, **kinds: list[str]) -> dict:
        self.fits.append({row.tobytes() for row in embeddings})
        self.galleries.append(count)
        return fit_scorers(embeddings, people, count, **kinds)


@pytest.fixture
def spy(monkeypatch: pytest.MonkeyPatch) -> Spy:
    spy = Spy()
    monkeypatch.setattr(openset, "fit_scorers", spy)
    return spy


def trials_of(strangers: list[float], who: list[int]) -> Trials:
    return Trials(np.array(strangers, np.float32), np.array(who), np.zeros(0, np.float32), np.zeros(0, bool), 10)


def test_whoever_is_left_out_is_in_no_fit_that_judges_them(spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every probe, stranger or held back, is compared by a fit that has not seen that very template."""
    gallery = drawn(25)
    searched: list[tuple[int, Float32Array, bool]] = []
    real = openset._searched

    def watch(scorer: Scorer, probes: Float32Array, own: np.ndarray | None = None):
        searched.append((len(spy.fits) - 1, probes, own is None))
        return real(scorer, probes, own)

    monkeypatch.setattr(openset, "_searched", watch)
    cross_validate(gallery, ["prototype"], lambda _: None)
    whose = {row.tobytes(): person for row, person in zip(gallery.embeddings, gallery.people, strict=True)}
    assert len(spy.fits) == FOLDS
    for fold, probes, strangers in searched:
        names = {row.tobytes() for row in probes}
        assert len(names) and not names & spy.fits[fold]
        known = {whose[row] for row in spy.fits[fold]}
        people = {whose[row] for row in names}
        assert people.isdisjoint(known) if strangers else people <= known


def test_everybody_is_a_stranger_once_with_all_their_photographs(spy: Spy) -> None:
    found = cross_validate(drawn(23, 4), ["prototype"], lambda _: None)["prototype"]
    assert np.bincount(found.who).tolist() == [4] * 23
    assert found.people == 23
    assert sorted(23 - known for known in spy.galleries) == [4, 4, 5, 5, 5]
    assert found.gallery == round(np.mean(spy.galleries)) == 18
    assert len(found.genuine) == len(found.first) == 4 * 23, "one of each of the known, in each of five folds"


class Folds:
    """Who is left out in each fold."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left_out: list[set[int]] = []
        self._real = openset._one_fold
        monkeypatch.setattr(openset, "_one_fold", self)

    def __call__(self, gallery: Templates, kinds: list[str], left_out: np.ndarray, fold: int) -> dict[str, Trials]:
        self.left_out.append(set(gallery.people[left_out].tolist()))
        return self._real(gallery, kinds, left_out, fold)


def of_different_folds(monkeypatch: pytest.MonkeyPatch, people: int) -> list[int]:
    """The first person of each fold, where nobody looks like anybody."""
    folds = Folds(monkeypatch)
    cross_validate(drawn(people), ["prototype"], lambda _: None)
    monkeypatch.undo()
    return [min(left_out) for left_out in folds.left_out]


@pytest.mark.parametrize("pair", [(0, 3), (3, 0), (1, 2)])
def test_who_is_enrolled_twice_is_no_stranger_to_themselves(
    monkeypatch: pytest.MonkeyPatch, pair: tuple[int, int]
) -> None:
    """The two have the same photographs: left out apart, each would meet the other at a similarity of about 1."""
    gallery, firsts = drawn(20), of_different_folds(monkeypatch, 20)
    one, other = firsts[pair[0]], firsts[pair[1]]
    gallery.embeddings[gallery.people == other] = gallery.embeddings[gallery.people == one]

    apart = cross_validate(gallery, ["prototype"], lambda _: None)["prototype"]
    folds = Folds(monkeypatch)
    together = cross_validate(gallery, ["prototype"], lambda _: None, [(one, other)])["prototype"]
    assert any({one, other} <= left_out for left_out in folds.left_out)
    assert sorted(person for left_out in folds.left_out for person in left_out) == list(range(20)), "everybody once"
    highest = [found.strangers[np.isin(found.who, [one, other])].max() for found in (apart, together)]
    assert highest[0] > 0.8 and highest[1] < 0.7


@pytest.mark.parametrize(
    "chain",
    [
        [(0, 1), (1, 2)],
        [(1, 2), (0, 1)],
        [(2, 3), (1, 2), (0, 1)],
    ],
)
def test_a_chain_of_people_who_look_like_one_is_left_out_as_one(
    monkeypatch: pytest.MonkeyPatch, chain: list[tuple[int, int]]
) -> None:
    firsts = of_different_folds(monkeypatch, 20)
    folds = Folds(monkeypatch)
    cross_validate(drawn(20), ["prototype"], lambda _: None, [(firsts[one], firsts[other]) for one, other in chain])
    everybody = {firsts[number] for pair in chain for number in pair}
    assert any(everybody <= left_out for left_out in folds.left_out)


def test_people_resemble_themselves_and_strangers_nobody() -> None:
    for kind, found in cross_validate(drawn(60), ["prototype", "prototype+svm", "svm"], lambda _: None).items():
        assert np.median(found.genuine) > np.quantile(found.strangers, 0.9), kind
        assert found.first.mean() > 0.8, kind


def test_the_kinds_are_tried_on_the_same_trials() -> None:
    found = cross_validate(drawn(60), ["prototype", "svm"], lambda _: None)
    assert np.array_equal(found["prototype"].who, found["svm"].who)
    assert not np.array_equal(found["prototype"].strangers, found["svm"].strangers)


def test_single_photographs_are_strangers_and_never_held_back() -> None:
    found = cross_validate(drawn(20, 1), ["prototype"], lambda _: None)["prototype"]
    assert len(found.strangers) == 20 and len(found.genuine) == 0


def test_it_stops_once_enough_have_played_strangers(spy: Spy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openset, "ENOUGH_STRANGERS", 40)
    seen: list[float] = []
    found = cross_validate(drawn(100), ["prototype"], seen.append)["prototype"]
    assert len(spy.fits) == 2 and found.people == 40
    assert seen == sorted(seen) and seen[-1] == 1.0


def test_trials_of_a_fold_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(openset, "MOST_TRIALS", 7)
    found = cross_validate(drawn(50), ["prototype"], lambda _: None)["prototype"]
    assert len(found.strangers) == len(found.genuine) == 7 * FOLDS


def test_it_is_the_same_every_time() -> None:
    one, other = (cross_validate(drawn(30), ["prototype"], lambda _: None)["prototype"] for _ in range(2))
    for name in ("strangers", "who", "genuine", "first"):
        assert np.array_equal(getattr(one, name), getattr(other, name)), name


def test_a_quantile_weighs_people_and_not_their_photographs() -> None:
    """Ten people with one photograph about 0.2, and one with ninety at 0.9: a tenth of the people, not of the faces."""
    trials = trials_of([0.9] * 90 + [0.2 + 0.01 * n for n in range(10)], [0] * 90 + list(range(1, 11)))
    assert trials.people == 11
    assert trials.weights.sum() == pytest.approx(1.0)
    assert trials.weights[:90].sum() == pytest.approx(1 / 11)
    assert trials.quantile(0.05) == pytest.approx(0.9)
    # A quarter of eleven people is between the second and the third, a half between the fifth and the sixth.
    assert trials.quantile(0.25) == pytest.approx(0.285, abs=0.006)
    assert trials.quantile(0.5) == pytest.approx(0.255, abs=0.006)


@pytest.mark.parametrize("people", [150, 1_000])
def test_of_people_with_one_photograph_the_share_that_was_asked_reaches_a_quantile(people: int) -> None:
    strangers = np.random.default_rng(0).normal(0.3, 0.1, people)
    trials = trials_of(strangers.tolist(), list(range(people)))
    for share in (0.5, 0.1, 0.0105, 0.025):
        reached = np.mean(trials.strangers >= np.float32(trials.quantile(share)))
        assert reached == pytest.approx(share, abs=1.01 / people)


@pytest.mark.parametrize("people", [100, 200])
def test_a_hundredth_of_a_whole_number_of_hundreds_is_that_many(people: int) -> None:
    """At 100 people the second highest is taken for the hundredth, which 2 % of strangers reach."""
    strangers = np.random.default_rng(0).normal(0.3, 0.1, people)
    trials = trials_of(strangers.tolist(), list(range(people)))
    assert int((trials.strangers >= np.float32(trials.quantile(0.01))).sum()) == people // 100


def test_a_share_of_all_is_the_least() -> None:
    trials = trials_of([0.1, 0.5, 0.3], [0, 1, 2])
    assert trials.quantile(1.0) == pytest.approx(0.1) and trials.quantile(0.0) == pytest.approx(0.5)


def test_no_trials_have_no_people() -> None:
    assert NO_TRIALS.people == 0 and NO_TRIALS.weights.shape == (0,)


def test_one_of_each_who_has_two_another_in_every_fold() -> None:
    people = np.array([2, 0, 1, 0, 2, 0, 2, 2, 2])
    held = np.stack([one_of_each(people, fold) for fold in range(5)])
    for fold in held:
        assert np.bincount(people[fold], minlength=3).tolist() == [1, 0, 1], "person 1 has a single photograph"
    times = held.sum(axis=0)
    assert times[people == 2].tolist() == [1, 1, 1, 1, 1]
    assert sorted(times[people == 0].tolist()) == [1, 2, 2]


def test_of_nobody_nothing_is_held_back() -> None:
    assert one_of_each(np.zeros(0, np.intp), 3).shape == (0,)
