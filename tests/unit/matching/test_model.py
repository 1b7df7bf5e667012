"""The matcher: the nearest person when near enough, otherwise nobody."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain import UNKNOWN
from shared.errors import EmbedderMismatch, InvalidInput
from shared.matching.model import Operating, SvmScale, centre, empty_model, new_model_id
from tests.support import OPERATING, matcher, probes, unit

ANN, BOB, CID = unit(1, 0, 0, 0), unit(0, 1, 0, 0), unit(0, 0, 1, 0)
THREE = {"ann": ANN, "bob": BOB, "cid": CID}


def test_the_nearest_person_is_named_when_near_enough() -> None:
    [identity] = matcher(THREE).identify(probes(unit(1, 5, 0, 0)))
    assert (identity.person_id, identity.nearest, identity.known) == ("bob", "bob", True)
    assert identity.similarity == pytest.approx(5 / np.sqrt(26), abs=1e-5)
    assert identity.threshold == OPERATING.threshold


def test_far_from_everybody_is_unknown_however_near_the_nearest() -> None:
    [identity] = matcher(THREE).identify(probes(unit(1, 0.9, 0.9, 3)))
    assert (identity.person_id, identity.nearest, identity.known) == (UNKNOWN, "ann", False)


@pytest.mark.parametrize(("threshold", "named"), [(0.6, True), (0.6 + 1e-6, False)])
def test_the_threshold_itself_is_near_enough(threshold: float, named: bool) -> None:
    model = replace(matcher(THREE), operating=Operating(threshold, 20.0, threshold))
    probe = np.array([[0.6, 0, 0, 0.8]], np.float32)
    model = replace(model, operating=replace(model.operating, threshold=threshold if not named else float(probe[0, 0])))
    assert model.identify(probes(probe))[0].known is named


def test_every_probe_has_its_own_answer_in_order() -> None:
    answers = matcher(THREE).identify(probes(np.stack([CID, unit(0, 0, 0, 1), ANN])))
    assert [answer.person_id for answer in answers] == ["cid", UNKNOWN, "ann"]


def test_no_probes_no_answers() -> None:
    assert matcher(THREE).identify(probes(np.zeros((0, 4), np.float32))) == []


def test_in_an_empty_gallery_everybody_is_unknown() -> None:
    model = empty_model("colour.1", 4, OPERATING)
    answers = model.identify(probes(np.stack([ANN, BOB])))
    assert [(a.person_id, a.nearest, a.confidence) for a in answers] == [(UNKNOWN, None, 0.0)] * 2
    assert list(model.confidences(probes(ANN))) == []


def test_an_svm_of_weight_zero_ranks_and_the_cosine_decides() -> None:
    """Two look-alikes: the SVM prefers the second, whose cosine is the lower of the two; that cosine is compared."""
    like_ann, like_bob = unit(1, 0.1, 0, 0), unit(1, -0.1, 0, 0)
    model = replace(
        matcher({"ann": like_ann, "bob": like_bob}),
        weights=np.array([[0, -1, 0, 0], [0, 5, 0, 0]], np.float32),
    )
    probe = unit(1, 0.05, 0, 0)
    [identity] = model.identify(probes(probe))
    assert identity.person_id == "bob"
    assert identity.similarity == pytest.approx(float(probe @ like_bob), abs=1e-6)
    assert [who for who, _ in model.confidences(probes(probe))] == ["bob", "ann"], "whom it names comes first"

    strict = replace(model, operating=replace(OPERATING, threshold=float(probe @ like_ann) - 1e-4))
    assert strict.identify(probes(probe))[0].person_id == UNKNOWN, "the SVM alone names nobody"


def test_a_weighted_svm_is_averaged_with_the_cosine() -> None:
    weights = np.array([[0, 0, 0, 2], [0, 0, 0, 0]], np.float32)
    model = replace(
        matcher({"ann": ANN, "bob": BOB}),
        weights=weights,
        bias=np.array([0.5, 0.0], np.float32),
        svm=SvmScale(gain=0.1, offset=0.2, weight=0.25),
    )
    [row] = model.similarities(unit(1, 0, 0, 0)[None])
    assert row == pytest.approx([0.75 * 1 + 0.25 * (0.1 * 0.5 + 0.2), 0.25 * 0.2], abs=1e-6)


def test_the_gallery_mean_is_removed_from_probes() -> None:
    mean = np.array([0.5, 0, 0, 0], np.float32)
    model = replace(matcher({"ann": ANN, "bob": BOB}), mean=mean)
    assert model.similarities(BOB[None])[0, 1] == pytest.approx(1 / np.sqrt(1.25), abs=1e-6)


def test_confidence_is_the_calibrated_logistic() -> None:
    operating = Operating(threshold=0.5, slope=10.0, midpoint=0.4)
    similarity = np.array([0.4, 0.5, -5.0, 5.0], np.float32)
    expected = [0.5, 1 / (1 + np.exp(-1.0)), 0.0, 1.0]
    assert operating.confidence(similarity) == pytest.approx(expected, abs=1e-6)


def test_everybodys_confidence_comes_most_likely_first() -> None:
    everybody = list(matcher(THREE).confidences(probes(unit(1, 2, 3, 0))))
    assert [who for who, _ in everybody] == ["cid", "bob", "ann"]
    confidences = [confidence for _, confidence in everybody]
    assert confidences == sorted(confidences, reverse=True)


def test_a_person_can_be_taken_out() -> None:
    model = matcher(THREE)
    cut = model.without("bob", model_id="later")
    assert (cut.model_id, cut.person_ids) == ("later", ("ann", "cid"))
    assert cut.identify(probes(BOB))[0].person_id == UNKNOWN
    assert [i.person_id for i in cut.identify(probes(np.stack([ANN, CID])))] == ["ann", "cid"]
    assert model.person_ids == ("ann", "bob", "cid"), "the old one is as it was"


def test_the_last_person_can_be_taken_out() -> None:
    cut = matcher({"ann": ANN}).without("ann", model_id="later")
    assert cut.identify(probes(ANN))[0].person_id == UNKNOWN


def test_arrays_that_do_not_agree_are_refused() -> None:
    with pytest.raises(InvalidInput):
        replace(matcher(THREE), person_ids=("ann",))
    with pytest.raises(InvalidInput):
        replace(matcher(THREE), bias=np.zeros(2, np.float32))


@given(st.lists(st.lists(st.floats(-1, 1, width=32), min_size=4, max_size=4), min_size=1, max_size=8))
def test_centred_rows_are_unit_or_zero(rows: list[list[float]]) -> None:
    centred = centre(np.array(rows, np.float32), np.array([0.25, 0, 0, -0.5], np.float32))
    lengths = np.linalg.norm(centred, axis=1)
    assert np.all((np.abs(lengths - 1) < 1e-4) | (lengths == 0))


@given(st.lists(st.timedeltas(timedelta(0), timedelta(days=40_000)), min_size=2, max_size=5))
def test_model_ids_sort_by_the_time_the_gallery_was_read(ages: list[timedelta]) -> None:
    start = datetime(2000, 1, 1, tzinfo=UTC)
    by_time = [new_model_id(start + age) for age in sorted(set(ages))]
    assert by_time == sorted(by_time)


def test_a_probe_of_another_embedder_is_refused_even_where_the_numbers_would_allow_it() -> None:
    with pytest.raises(EmbedderMismatch, match=r"other\.1"):
        matcher(THREE).identify(probes(ANN, "other.1"))
    with pytest.raises(EmbedderMismatch):
        matcher(THREE).confidences(probes(ANN, "other.1"))
    with pytest.raises(EmbedderMismatch):
        empty_model("colour.1", 4, OPERATING).identify(probes(ANN, "other.1"))
