"""Intervals of rates, against published values and by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from local.evaluation.intervals import clopper_pearson, needed, rate, wilson


def test_clopper_pearson_as_published() -> None:
    # Agresti and Coull (1998) and R's binom.test(5, 10), binom.test(1, 100).
    assert clopper_pearson(5, 10) == pytest.approx((0.18709, 0.81291), abs=1e-5)
    assert clopper_pearson(1, 100) == pytest.approx((0.000253, 0.054459), abs=1e-6)


@pytest.mark.parametrize("trials", [30, 300, 3_000])
def test_nothing_seen_gives_the_rule_of_three(trials: int) -> None:
    low, high = clopper_pearson(0, trials)
    assert low == 0 and high == pytest.approx(3 / trials, rel=0.06)
    assert clopper_pearson(trials, trials) == pytest.approx((1 - high, 1))
    assert needed(high) in (trials, trials + 1)


def test_nothing_tried_says_nothing() -> None:
    assert clopper_pearson(0, 0) == wilson(0, 0) == (0.0, 1.0)
    nothing = rate(np.zeros(0, bool), np.zeros(0, np.intp))
    assert math.isnan(nothing.share) and (nothing.low, nothing.high) == (0.0, 1.0)


def test_wilson_as_published() -> None:
    # Newcombe (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    for hits, trials, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ):
        assert wilson(hits, trials) == pytest.approx((low, high), abs=5e-5)


def test_one_photograph_of_each_person_is_plain_binomial() -> None:
    hits = np.arange(100) < 7
    found = rate(hits, np.arange(100))
    assert found.effective == 100 and (found.low, found.high) == pytest.approx(clopper_pearson(7, 100))


def test_photographs_of_one_person_count_for_less_when_they_err_together() -> None:
    together = rate(np.arange(200) < 20, np.arange(200) // 10)  # two of twenty people, always
    spread = rate(np.arange(200) % 10 == 0, np.arange(200) // 10)  # everybody, once in ten
    assert together.effective < 25 and together.high > 0.25
    assert spread.effective == 200


def test_without_errors_people_are_counted_and_not_photographs() -> None:
    assert rate(np.zeros(1_000, bool), np.arange(1_000) // 100).high == clopper_pearson(0, 10)[1]
    assert rate(np.zeros(50, bool), np.zeros(50, np.intp)).effective == 1


def test_the_interval_covers_what_it_promises() -> None:
    """Sixty people with five photographs each, who differ in how often they err: 95 % of intervals hold 10 %."""
    random = np.random.default_rng(0)
    person = np.repeat(np.arange(60), 5)
    covered = 0
    for _ in range(400):
        tendency = random.beta(0.5, 4.5, 60)  # mean 0.1, far from equal
        found = rate(random.random(300) < tendency[person], person)
        covered += found.low <= 0.1 <= found.high
    assert covered / 400 >= 0.93
