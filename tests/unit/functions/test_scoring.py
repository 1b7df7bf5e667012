"""What a person's similarities are corrected by, so that one threshold fits everybody."""

from __future__ import annotations

import numpy as np
import pytest

from functions.train import scoring
from functions.train.scoring import GENUINE_PRIOR, GENUINE_SHARE, KINDS, Scorer, fit_scorers, refit_people
from shared.domain import Float32Array
from shared.matching.model import centre

DIMENSION = 64
PEOPLE = 200


def unit_rows(rows: np.ndarray) -> Float32Array:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def drawn(
    people: int, each: int = 3, *, spread: float | np.ndarray = 0.6, seed: int = 0
) -> tuple[Float32Array, np.ndarray]:
    """(N, D) unit rows about a direction a person, and whose each is; `spread` is the noise, one or (people,)."""
    random = np.random.default_rng(seed)
    centres = unit_rows(random.normal(size=(people, DIMENSION)))
    whose = np.repeat(np.arange(people), each)
    noise = random.normal(size=(len(whose), DIMENSION)) / np.sqrt(DIMENSION)
    return unit_rows(centres[whose] + np.broadcast_to(spread, people)[whose, None] * noise), whose


def with_a_hub(people: int = PEOPLE) -> tuple[Float32Array, np.ndarray, Float32Array]:
    """Person 0 is where a third of all faces lean to; the gallery, and 500 strangers who lean there too."""
    random = np.random.default_rng(0)
    centres = unit_rows(random.normal(size=(people, DIMENSION)))
    leaning = np.arange(1, 1 + people // 3)
    centres[leaning] = unit_rows(0.5 * centres[0] + centres[leaning])
    whose = np.repeat(np.arange(people), 3)
    rows = unit_rows(centres[whose] + 0.6 * random.normal(size=(len(whose), DIMENSION)) / np.sqrt(DIMENSION))
    strangers = unit_rows(0.5 * centres[0] + unit_rows(random.normal(size=(500, DIMENSION))))
    return rows, whose, strangers


def fitted(rows: Float32Array, whose: np.ndarray, kind: str = "prototype") -> Scorer:
    return fit_scorers(rows, whose, int(whose.max()) + 1, kinds=[kind])[kind]


@pytest.mark.parametrize("kind", ["prototype", "prototype+svm"])
def test_who_attracts_strangers_is_lowered(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Uncorrected, the hub is nearest to a fifth of the strangers or more; corrected, to three quarters of those."""
    rows, whose, strangers = with_a_hub()
    corrected = fitted(rows, whose, kind)
    monkeypatch.setattr(scoring, "OFFSET_SHARE", 0.0)
    bare = fitted(rows, whose, kind)
    before, after = bare.similarities(strangers), corrected.similarities(strangers)
    lowered = (after - before).mean(axis=0)
    assert lowered[0] < -0.03 and lowered[0] == lowered.min()
    named_before, named_after = (np.mean(found.argmax(axis=1) == 0) for found in (before, after))
    assert named_before >= 0.2 and named_after <= 0.75 * named_before
    own = np.arange(len(rows)), whose
    assert np.mean(corrected.similarities(rows).argmax(axis=1) == whose) == 1.0
    assert corrected.similarities(rows)[own].min() > np.quantile(after, 0.99)


def test_offsets_are_set_against_the_mean_so_that_nobody_average_moves() -> None:
    rows, whose = drawn(PEOPLE)
    scorer = fitted(rows, whose)
    norms = np.linalg.norm(scorer.weights, axis=1)
    assert abs(np.mean(scorer.bias / norms)) < 1e-4
    assert np.abs(scorer.bias).max() < 0.05


def test_in_a_small_gallery_an_offset_is_drawn_to_the_mean() -> None:
    """A fifth of what 200 people say remains of the same offset at N / (N + 50): 10 of 60 against 200 of 250."""
    tails = np.array([0.5, 0.3, 0.1], np.float32)
    weights, ones = np.zeros((3, 4), np.float32), np.ones(3, np.float32)
    moved = {
        count: scoring._corrected(weights, np.zeros(3, np.float32), tails, 0.3, ones, count)[1] for count in (10, 200)
    }
    assert moved[200] == pytest.approx([-0.4 * 0.8 * 0.2, 0.0, 0.4 * 0.8 * 0.2], abs=1e-6)
    assert moved[10] == pytest.approx(moved[200] * (10 / 60) / (200 / 250), abs=1e-6)


def test_what_is_scaled_is_the_similarity_with_its_offset() -> None:
    """Twice as high for the second person: (0.2 - 0.4 · 0.8 · 0.2) · 2, at 200 of 250 people."""
    weights, bias = np.ones((2, 3), np.float32), np.array([0.2, 0.2], np.float32)
    tails, scale = np.array([0.5, 0.5], np.float32), np.array([1.0, 2.0], np.float32)
    scaled, moved = scoring._corrected(weights, bias, tails, 0.3, scale, 200)
    assert scaled.tolist() == [[1.0] * 3, [2.0] * 3]
    assert moved == pytest.approx([0.136, 0.272], abs=1e-6)


def test_in_a_small_gallery_little_of_the_mean_is_removed() -> None:
    """Of N people's mean N / (N + 5): a third of two people's, which is mostly they themselves."""
    rows, whose = drawn(2, 4)
    mean = np.stack([rows[whose == person].mean(axis=0) for person in range(2)]).mean(axis=0)
    assert fitted(rows, whose).mean == pytest.approx(mean * 2 / 7, abs=1e-6)


def test_everybody_counts_once_in_the_mean_however_many_photographs_they_have() -> None:
    rows, whose = drawn(20, 2)
    many = np.concatenate([rows, np.repeat(rows[whose == 3], 50, axis=0)])
    whose_many = np.concatenate([whose, np.full(100, 3)])
    assert fitted(many, whose_many).mean == pytest.approx(fitted(rows, whose).mean, abs=1e-6)


def test_scattered_people_are_raised_relative_to_those_who_resemble_themselves() -> None:
    """Half of the people scatter; the factor is what the docstring of `_scale` says, from their own cosines."""
    spread = np.where(np.arange(100) < 50, 0.4, 1.2)
    rows, whose = drawn(100, 4, spread=spread)
    scorer = fitted(rows, whose)
    factor = np.linalg.norm(scorer.weights, axis=1)  # prototypes are unit rows
    assert factor[:50].max() < factor[50:].min()
    assert np.median(factor[:50]) < 1 < np.median(factor[50:])

    centred = centre(rows, scorer.mean)
    mine = centred[whose == 70].astype(np.float64)
    cosine = (mine @ mine.T)[np.triu_indices(4, 1)].mean()
    rho = (6 * cosine + GENUINE_PRIOR * scorer.agreement) / (6 + GENUINE_PRIOR)
    promised = 2 * rho / np.sqrt(1 + 3 * rho)
    usual = np.sqrt(3) * scorer.agreement / np.sqrt(1 + 2 * scorer.agreement)
    assert factor[70] == pytest.approx((promised / usual) ** -GENUINE_SHARE, rel=1e-4)


def test_one_threshold_treats_scattered_people_better_than_without(monkeypatch: pytest.MonkeyPatch) -> None:
    """New photographs of both kinds of people: the gap between their similarities narrows."""
    spread = np.where(np.arange(100) < 50, 0.4, 1.2)
    rows, whose = drawn(100, 5, spread=spread)
    later = np.arange(len(rows)) % 5 == 4
    own = np.arange(100), whose[later]

    def gap() -> float:
        similarities = fitted(rows[~later], whose[~later]).similarities(rows[later])[own]
        return float(similarities[:50].mean() / similarities[50:].mean())

    corrected = gap()
    monkeypatch.setattr(scoring, "GENUINE_SHARE", 0.0)
    assert 1 < corrected < 0.95 * gap()


def test_few_templates_say_little_about_how_much_somebody_scatters() -> None:
    """Two templates that disagree as much as a hundred do: one pair among three of everybody's, or 4,950."""
    cosines, counts = np.array([0.2, 0.2]), np.array([2, 100])
    rho = (0.2 + 3 * 0.6) / 4, (4_950 * 0.2 + 3 * 0.6) / 4_953
    promised = [np.sqrt(k) * r / np.sqrt(1 + (k - 1) * r) for k, r in zip(counts, rho, strict=True)]
    usual = np.sqrt(3) * 0.6 / np.sqrt(2.2)
    expected = [(p / usual) ** -0.25 for p in promised]
    assert scoring._scale(cosines, counts, 0.6) == pytest.approx(expected, rel=1e-5)


def test_where_everybody_has_one_photograph_nobody_is_raised() -> None:
    rows, whose = drawn(30, 1)
    scorer = fitted(rows, whose)
    assert scorer.agreement == 1.0
    assert np.linalg.norm(scorer.weights, axis=1) == pytest.approx(np.ones(30), abs=1e-5)


def test_the_same_photograph_over_and_over_is_finite() -> None:
    rows, whose = drawn(3, 1)
    scorer = fitted(np.repeat(rows, 10, axis=0), np.repeat(whose, 10))
    assert np.all(np.isfinite(scorer.weights)) and np.all(np.isfinite(scorer.bias))
    assert scorer.similarities(rows).argmax(axis=1).tolist() == [0, 1, 2]


@pytest.mark.parametrize("kind", ["prototype", "svm"])
def test_margins_are_put_on_the_scale_of_cosines(kind: str) -> None:
    """So that a threshold means about the same to every kind: others' templates have one mean and spread."""
    rows, whose = drawn(80, 3)
    others = whose[:, None] != np.arange(80)
    found = fitted(rows, whose, kind).similarities(rows)[others]
    usual = fitted(rows, whose).similarities(rows)[others]
    assert found.mean() == pytest.approx(usual.mean(), abs=0.01)
    assert found.std() == pytest.approx(usual.std(), rel=0.15)


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_fitted_together_are_those_fitted_alone(kind: str) -> None:
    rows, whose = drawn(30, 2)
    together, alone = fit_scorers(rows, whose, 30, kinds=list(KINDS))[kind], fitted(rows, whose, kind)
    assert np.array_equal(together.weights, alone.weights) and np.array_equal(together.bias, alone.bias)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rows_wanted", [[0], [7, 3, 59], list(range(60))])
def test_refitting_people_gives_the_rows_that_fitting_everybody_gave(kind: str, rows_wanted: list[int]) -> None:
    rows, whose, _ = with_a_hub(60)
    scorer = fitted(rows, whose, kind)
    weights, bias = refit_people(scorer, rows, whose, 60, np.array(rows_wanted), kind=kind)
    assert weights == pytest.approx(scorer.weights[rows_wanted], abs=1e-6)
    assert bias == pytest.approx(scorer.bias[rows_wanted], abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_scorer_is_the_same_bits_every_time_and_leaves_its_input(kind: str) -> None:
    rows, whose = drawn(40, 3)
    before = rows.copy()
    one, other = fitted(rows, whose, kind), fitted(rows, whose, kind)
    assert np.array_equal(one.weights, other.weights) and np.array_equal(one.bias, other.bias)
    assert np.array_equal(rows, before)
