"""One-against-rest SVMs in batches: scikit-learn's planes where all negatives fit, and the right ones where not."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.svm import LinearSVC

from functions.train import svm as svm_module
from functions.train.svm import HARD_NEGATIVES, MOST_POSITIVES, SVM_C, fit_svms
from shared.domain import Float32Array

DIMENSION = 24


def unit_rows(rows: np.ndarray) -> Float32Array:
    return (rows / np.linalg.norm(rows, axis=-1, keepdims=True)).astype(np.float32)


def drawn(counts: list[int], *, spread: float = 0.8, seed: int = 0) -> tuple[Float32Array, np.ndarray]:
    """(N, D) unit rows about a direction for each person, who has so many; and whose each is."""
    random = np.random.default_rng(seed)
    centres = unit_rows(random.normal(size=(len(counts), DIMENSION)))
    people = np.repeat(np.arange(len(counts)), counts)
    noise = random.normal(size=(len(people), DIMENSION)) / np.sqrt(DIMENSION)
    return unit_rows(centres[people] + spread * noise), people


def prototypes_of(rows: Float32Array, people: np.ndarray) -> Float32Array:
    return unit_rows(np.stack([rows[people == person].sum(axis=0) for person in range(people.max() + 1)]))


def fitted(rows: Float32Array, people: np.ndarray, only: list[int] | None = None) -> tuple[Float32Array, Float32Array]:
    prototypes = prototypes_of(rows, people)
    wanted = np.arange(len(prototypes)) if only is None else np.array(only)
    return fit_svms(rows, people, prototypes, wanted)


@pytest.mark.parametrize("counts", [[3, 3], [1, 1], [3, 4, 5, 6], [1, 2, 20, 5], [2] * 30])
def test_where_all_negatives_fit_the_planes_are_those_of_scikit_learn(counts: list[int]) -> None:
    """LinearSVC regularises its intercept as one more weight, `intercept_scaling` times less: 1,000 makes it nothing.

    1e-3 is what liblinear's own tolerance leaves.
    """
    rows, people = drawn(counts)
    assert len(rows) - min(counts) <= HARD_NEGATIVES and max(counts) <= MOST_POSITIVES
    weights, bias = fitted(rows, people)
    for person in range(len(counts)):
        theirs = LinearSVC(C=SVM_C, dual=False, intercept_scaling=1_000.0, tol=1e-8, max_iter=100_000)
        theirs.fit(rows.astype(np.float64), np.where(people == person, 1, -1))
        assert weights[person] == pytest.approx(theirs.coef_[0], abs=1e-3), person
        assert bias[person] == pytest.approx(theirs.intercept_[0], abs=1e-3), person


def test_the_plane_is_the_minimum_of_the_squared_hinge() -> None:
    """Its definition, without a library: w²/2 + C Σ max(0, 1 − y (w·x + b))² rises in every direction."""
    rows, people = drawn([4, 6, 9])
    weights, bias = fitted(rows, people, [1])
    sign = np.where(people == 1, 1.0, -1.0)

    def loss(weight: np.ndarray, offset: float) -> float:
        hinge = np.maximum(0.0, 1 - sign * (rows.astype(np.float64) @ weight + offset))
        return float(weight @ weight / 2 + SVM_C * (hinge**2).sum())

    weight, offset = weights[0].astype(np.float64), float(bias[0])
    random = np.random.default_rng(1)
    for _ in range(50):
        step = 1e-2 * random.normal(size=DIMENSION + 1)
        assert loss(weight + step[:-1], offset + step[-1]) > loss(weight, offset)


def test_a_person_is_told_from_their_look_alike_among_many_others() -> None:
    """300 people, of whom two share most of a direction: no plane has any of the look-alike's on its person's side.

    Were negatives drawn at random, 64 of 900 would seldom hold any of the look-alike's three.
    """
    random = np.random.default_rng(0)
    centres = unit_rows(random.normal(size=(300, DIMENSION)))
    centres[1] = unit_rows(centres[0] + 0.45 * centres[1])
    people = np.repeat(np.arange(300), 3)
    rows = unit_rows(centres[people] + 0.15 * random.normal(size=(900, DIMENSION)) / np.sqrt(DIMENSION))
    weights, bias = fitted(rows, people, [0, 1])
    margins = rows @ weights.T + bias
    for mine, other in ((0, 1), (1, 0)):
        assert margins[people == other, mine].max() < -0.2
        # How far, at C = 1, is a matter of three templates against 64: liblinear's planes lie the same.
        assert margins[people == mine, mine].min() > margins[people != mine, mine].max() + 0.3


def test_hard_negatives_decide_as_all_of_them_would(monkeypatch: pytest.MonkeyPatch) -> None:
    """ADR 0016 keeps 64; here 40 of 147 templates stand for all, and the margins agree."""
    rows, people = drawn([3] * 50, spread=0.9)
    monkeypatch.setattr(svm_module, "HARD_NEGATIVES", 1_000)
    whole, whole_bias = fitted(rows, people)
    monkeypatch.setattr(svm_module, "HARD_NEGATIVES", 40)
    part, part_bias = fitted(rows, people)
    own = np.arange(150), people
    assert np.corrcoef((rows @ whole.T + whole_bias)[own], (rows @ part.T + part_bias)[own])[0, 1] > 0.9
    cosines = np.sum(whole * part, axis=1) / np.linalg.norm(whole, axis=1) / np.linalg.norm(part, axis=1)
    assert cosines.min() > 0.8


def test_people_with_one_template_and_with_two_hundred() -> None:
    rows, people = drawn([1, 200, 2, 30], spread=0.5)
    weights, bias = fitted(rows, people)
    assert np.all(np.isfinite(weights)) and np.all(np.isfinite(bias))
    margins = rows @ weights.T + bias
    assert np.mean(margins.argmax(axis=1) == people) > 0.98
    for person in range(4):
        assert margins[people == person, person].mean() > 0 > margins[people != person, person].mean()


def test_a_single_template_counts_once_beside_somebody_with_many() -> None:
    """Batched problems are filled up to the same width; what fills them must not count."""
    rows, people = drawn([1, 50, 3])
    together, alone = fitted(rows, people), fitted(rows, people, [0])
    assert together[0][0] == pytest.approx(alone[0][0], abs=1e-5)
    assert together[1][0] == pytest.approx(alone[1][0], abs=1e-5)


def test_of_two_people_each_plane_is_the_other_turned_round() -> None:
    rows, people = drawn([4, 4])
    weights, bias = fitted(rows, people)
    assert weights[0] == pytest.approx(-weights[1], abs=1e-5)
    assert bias[0] == pytest.approx(-bias[1], abs=1e-5)
    margins = rows @ weights.T + bias
    assert np.all((margins > 0) == (people[:, None] == np.arange(2)))


def test_with_nobody_to_be_told_from_there_is_no_plane() -> None:
    rows, people = drawn([5])
    weights, bias = fitted(rows, people)
    assert weights.shape == (1, DIMENSION) and not weights.any() and not bias.any()


def test_nobody_asked_for_is_nothing() -> None:
    rows, people = drawn([2, 2])
    weights, bias = fit_svms(rows, people, prototypes_of(rows, people), np.array([], np.intp))
    assert weights.shape == (0, DIMENSION) and bias.shape == (0,)


def test_some_people_get_the_planes_that_they_get_among_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """In batches of any size, in the order asked for."""
    rows, people = drawn([3, 1, 4, 2, 5, 3, 2, 6])
    weights, bias = fitted(rows, people)
    some = [6, 0, 3]
    monkeypatch.setattr(svm_module, "_BATCH_BYTES", 1)
    few, few_bias = fitted(rows, people, some)
    assert few == pytest.approx(weights[some], abs=1e-5)
    assert few_bias == pytest.approx(bias[some], abs=1e-5)


def test_the_order_of_templates_does_not_matter() -> None:
    rows, people = drawn([3, 5, 2, 4])
    weights, bias = fitted(rows, people)
    order = np.random.default_rng(0).permutation(len(rows))
    mixed, mixed_bias = fit_svms(rows[order], people[order], prototypes_of(rows, people), np.arange(4))
    assert mixed == pytest.approx(weights, abs=1e-5) and mixed_bias == pytest.approx(bias, abs=1e-5)


def test_one_photo_under_two_people_leaves_both_finite() -> None:
    rows, people = drawn([2, 2, 3])
    rows[2] = rows[0]
    rows[3] = rows[1]
    weights, bias = fitted(rows, people)
    assert np.all(np.isfinite(weights)) and np.all(np.isfinite(bias))
    # The same templates on both sides: nothing of the plane remains between those two people.
    margins = rows @ weights.T + bias
    assert margins[:4, 0] == pytest.approx(margins[:4, 1], abs=1e-4)


@pytest.mark.parametrize("counts", [[3] * 40, [1, 2, 80]])
def test_planes_are_the_same_bits_every_time(counts: list[int]) -> None:
    rows, people = drawn(counts)
    for one, other in zip(fitted(rows, people), fitted(rows, people), strict=True):
        assert np.array_equal(one, other)


def test_the_pool_of_negatives_is_bounded_and_always_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, people = drawn([2] * 100)
    monkeypatch.setattr(svm_module, "NEGATIVE_POOL", 80)
    one, other = fitted(rows, people), fitted(rows, people)
    assert np.array_equal(one[0], other[0])
    margins = rows @ one[0].T + one[1]
    assert np.mean(margins.argmax(axis=1) == people) > 0.9
