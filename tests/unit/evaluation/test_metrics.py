"""Figures of identification, against examples worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from local.evaluation.metrics import (
    Searches,
    as_promised,
    cmc,
    confusions,
    det,
    fnir_band,
    histogram,
    rank_of,
    reliability,
    sweep,
    threshold_at,
    tpir_at_fpir,
)

NOBODY = -np.inf


def searches(mated, right, strangers, *, mated_person=None, stranger_person=None) -> Searches:
    return Searches(
        np.array(mated, np.float32),
        np.array(right, bool),
        np.arange(len(mated)) if mated_person is None else np.array(mated_person),
        np.array(strangers, np.float32),
        np.arange(len(strangers)) if stranger_person is None else np.array(stranger_person),
    )


FIVE_AND_FOUR = searches(
    # Right at .9 and .6; the wrong person first at .8; right but low at .2; no face in the last.
    [0.9, 0.6, 0.8, 0.2, NOBODY],
    [True, True, False, True, False],
    [0.7, 0.5, 0.3, NOBODY],
)


def test_rates_at_a_threshold_count_failures_and_the_wrong_person_as_misses() -> None:
    assert FIVE_AND_FOUR.tpir(0.5) == pytest.approx(2 / 5)
    assert FIVE_AND_FOUR.fpir(0.5) == pytest.approx(2 / 4)  # who reaches the threshold is named
    assert FIVE_AND_FOUR.fpir(0.51) == pytest.approx(1 / 4)


def test_det_has_every_operating_point() -> None:
    curve = det(FIVE_AND_FOUR)
    assert curve.threshold[:-1] == pytest.approx([0.2, 0.3, 0.5, 0.6, 0.7, 0.9])
    assert curve.fpir == pytest.approx([3 / 4, 3 / 4, 2 / 4, 1 / 4, 1 / 4, 0, 0])
    assert curve.fnir == pytest.approx([2 / 5, 3 / 5, 3 / 5, 3 / 5, 4 / 5, 4 / 5, 1])


@pytest.mark.parametrize("strangers", [[], [NOBODY]])
def test_det_of_nothing_to_see(strangers: list[float]) -> None:
    curve = det(searches([], [], strangers))
    assert len(curve.threshold) == 1 and np.isnan(curve.fnir[0])


def test_threshold_at_lets_no_more_through_than_asked() -> None:
    strangers = np.arange(100, dtype=np.float32) / 100
    for share in (0.0, 0.01, 0.29, 0.999):
        threshold = threshold_at(strangers, share)
        assert np.mean(strangers >= threshold) == pytest.approx(int(share * 100 + 1e-9) / 100)
    assert threshold_at(strangers, 1.0) == -np.inf


def test_ties_at_the_threshold_are_all_kept_out() -> None:
    tied = np.array([0.5, 0.5, 0.5, 0.1], np.float32)
    assert np.mean(tied >= threshold_at(tied, 0.25)) == 0


def test_tpir_at_fpir() -> None:
    assert tpir_at_fpir(FIVE_AND_FOUR, 0.25) == pytest.approx(2 / 5)  # threshold just above 0.5
    assert tpir_at_fpir(FIVE_AND_FOUR, 0.0) == pytest.approx(1 / 5)  # just above 0.7
    assert np.isnan(threshold_at(np.zeros(0, np.float32), 0.1))


def test_sweep() -> None:
    low, high = sweep(FIVE_AND_FOUR, [0.25, 0.75])
    assert (low.fpir, low.tpir) == pytest.approx((3 / 4, 2 / 5))
    assert (high.fpir, high.tpir) == pytest.approx((0, 1 / 5))


def test_the_band_holds_the_curve_and_repeats() -> None:
    random = np.random.default_rng(1)
    found = searches(random.normal(0.7, 0.1, 200), np.ones(200, bool), random.normal(0.4, 0.1, 200))
    fpirs = np.array([0.05, 0.1, 0.5])
    low, high = fnir_band(found, fpirs, seed=3)
    curve = np.array([1 - tpir_at_fpir(found, share) for share in fpirs])
    assert (low <= curve).all() and (curve <= high).all() and (high - low < 0.3).all()
    again = fnir_band(found, fpirs, seed=3)
    assert (low == again[0]).all() and (high == again[1]).all()


def test_the_band_is_wider_where_photographs_are_of_few_people() -> None:
    """Ten people, each with ten photographs that all do well or all do badly."""
    similarity = np.repeat([0.9, 0.9, 0.9, 0.9, 0.9, 0.1, 0.1, 0.9, 0.9, 0.1], 10)
    strangers = np.full(100, 0.5)
    fpirs = np.array([0.001])
    as_people = searches(similarity, np.ones(100, bool), strangers, mated_person=np.arange(100) // 10)
    as_photographs = searches(similarity, np.ones(100, bool), strangers)
    low, high = fnir_band(as_people, fpirs, seed=0)
    narrow_low, narrow_high = fnir_band(as_photographs, fpirs, seed=0)
    assert high[0] - low[0] > 2 * (narrow_high[0] - narrow_low[0])


def test_cmc_counts_failures_in_the_denominator() -> None:
    assert cmc(np.array([1, 2, 2, 5, 0]), 4).tolist() == [0.2, 0.6, 0.6, 0.6]
    assert np.isnan(cmc(np.zeros(0, np.intp), 2)).all()


def test_rank_follows_whom_the_matcher_puts_first() -> None:
    similarities = np.array([0.9, 0.8, 0.7, 0.6], np.float32)
    assert rank_of(similarities, own=0, first=0) == 1
    assert rank_of(similarities, own=0, first=3) == 2  # the SVM ranked another first
    assert rank_of(similarities, own=3, first=0) == 4


def test_reliability_of_answers_in_two_bins() -> None:
    confidence = np.array([0.9, 0.94, 1.0, 0.1, 0.2], np.float32)
    right = np.array([True, True, False, False, True])
    found = reliability(confidence, right, np.ones(5), bins=2)
    assert found.count.tolist() == [2, 3]
    assert found.confidence == pytest.approx([0.15, 0.946667], abs=1e-6)
    assert found.right == pytest.approx([0.5, 2 / 3])
    assert found.ece == pytest.approx(2 / 5 * 0.35 + 3 / 5 * 0.28, abs=1e-6)


def test_reliability_is_told_of_nine_strangers_for_each_person() -> None:
    """Five sightings of people, all right, and five of strangers: were nine of ten strangers, a tenth is right."""
    known = np.array([True] * 5 + [False] * 5)
    found = reliability(np.full(10, 0.1, np.float32), known, as_promised(known))
    assert found.right[1] == pytest.approx(0.1) and found.ece == pytest.approx(0.0, abs=1e-6)
    assert np.isnan(found.right[0])


def test_confusions_are_grouped_and_the_worst_comes_first() -> None:
    truth = ["ann", "ann", "bob", "stranger", "ann", "bob"]
    named = ["bob", "bob", "bob", "ann", None, "ann"]
    found = confusions(truth, named, np.array([0.5, 0.6, 0.9, 0.8, 0.99, 0.55], np.float32))
    assert [(c.truth, c.named, c.count, c.worst) for c in found] == [
        ("stranger", "ann", 1, 3),
        ("ann", "bob", 2, 1),
        ("bob", "ann", 1, 5),
    ]


def test_histograms_share_their_bins_and_leave_failures_out() -> None:
    edges, own, strangers = histogram(np.array([0.8, 0.9], np.float32), np.array([0.1, NOBODY], np.float32), bins=4)
    assert own.sum() == pytest.approx(1) and strangers.sum() == pytest.approx(1)
    assert len(edges) == 5 and strangers[0] == 1 and own[-1] == 1
    assert histogram(np.zeros(0, np.float32), np.zeros(0, np.float32))[1].sum() == 0
