"""The matcher: the nearest person when near enough, otherwise nobody."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain import UNKNOWN, Embeddings, Float32Array
from shared.errors import EmbedderMismatch, InvalidInput
from shared.matching.model import (
    FEWEST_PEOPLE,
    MatcherModel,
    Operating,
    camera_key,
    centre,
    empty_model,
    fitted_at,
    new_model_id,
)
from tests.support import OPERATING, matcher, probes, unit

ANN, BOB, CID = unit(1, 0, 0, 0), unit(0, 1, 0, 0), unit(0, 0, 1, 0)
THREE = {"ann": ANN, "bob": BOB, "cid": CID}


def of_rows(people: dict[str, Float32Array], *bias: float, mean: Float32Array | None = None) -> MatcherModel:
    """A matcher of these weights as they are, one bias a person."""
    plain = matcher(people)
    mean = plain.mean if mean is None else mean
    biases = np.array(bias, np.float32)
    return MatcherModel("m", plain.embedder_id, plain.person_ids, mean, plain.weights, biases, OPERATING)


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


def crowd(
    others: int, similar: float, *, margin: float = 0.1, threshold: float = 0.6, visit: float = 0.0
) -> MatcherModel:
    """Ann along the first axis; everybody else resembles a probe of (0.55, …) by `similar`."""
    weights = {"ann": ANN} | {f"p{i:03d}": np.array([0, similar / 0.8352, 0, 0], np.float32) for i in range(others)}
    operating = Operating(threshold, 20.0, threshold, {}, margin, visit)
    return replace(of_rows(weights, *[0.0] * len(weights)), operating=operating)


NEARLY_ANN = unit(0.55, 0.8352, 0, 0)


@pytest.mark.parametrize(
    ("similar", "threshold"),
    [(0.0, 0.5), (0.35 * 0.6, 0.5), (0.285, 0.55), (0.3, 0.56), (0.36, 0.6), (0.5, 0.6)],
)
def test_the_threshold_of_a_best_shot_is_lower_the_less_others_resemble_it(similar: float, threshold: float) -> None:
    """Wholly where the next people reach 0.35 of the threshold, not at all from 0.6 of it on."""
    model = crowd(40, similar)
    [best_shot] = model.identify(probes(NEARLY_ANN), best_shots=True)
    assert best_shot.threshold == pytest.approx(threshold, abs=1e-4), "what it was compared with"
    assert best_shot.person_id == ("ann" if best_shot.similarity >= best_shot.threshold else UNKNOWN)
    [any_face] = model.identify(probes(NEARLY_ANN))
    assert (any_face.known, any_face.threshold) == (False, 0.6), "a face of which nobody says that few are sent"


@pytest.mark.parametrize(("similar", "named"), [(0.28, True), (0.29, False)])
def test_a_face_that_resembles_many_is_nobody_in_particular(similar: float, named: bool) -> None:
    [best_shot] = crowd(40, similar).identify(probes(NEARLY_ANN), best_shots=True)
    assert (best_shot.person_id, best_shot.known) == (("ann", True) if named else (UNKNOWN, False))


def test_nobody_is_named_further_down_than_the_margin() -> None:
    [identity] = crowd(40, 0.0, margin=0.04).identify(probes(NEARLY_ANN), best_shots=True)
    assert not identity.known and identity.threshold == pytest.approx(0.56)


def test_without_a_margin_best_shots_are_as_all_faces() -> None:
    [identity] = crowd(40, 0.0, margin=0.0).identify(probes(NEARLY_ANN), best_shots=True)
    assert not identity.known and identity.threshold == 0.6


def test_a_scale_whose_threshold_is_not_positive_has_no_shares_of_it() -> None:
    model = crowd(40, -0.9, threshold=-0.2)
    away = probes(unit(-0.3, 0.1, 0, 0.95))
    [usual], [best_shot] = model.identify(away), model.identify(away, best_shots=True)
    assert best_shot == usual


def test_a_best_shot_at_the_threshold_needs_nobody_to_stand_out_of() -> None:
    [identity] = crowd(40, 0.5, threshold=0.54).identify(probes(NEARLY_ANN), best_shots=True)
    assert identity.person_id == "ann" and identity.threshold == 0.54


@pytest.mark.parametrize(("others", "named"), [(FEWEST_PEOPLE - 2, False), (FEWEST_PEOPLE - 1, True)])
def test_a_few_people_are_no_crowd(others: int, named: bool) -> None:
    assert crowd(others, 0.1).identify(probes(NEARLY_ANN), best_shots=True)[0].known is named


def test_each_best_shot_stands_out_or_not_by_itself() -> None:
    model = crowd(40, 0.4)
    alone = unit(0.55, 0, 0.8352, 0)  # resembles Ann as much, and the others not at all
    answers = model.identify(probes(np.stack([NEARLY_ANN, alone, ANN])), best_shots=True)
    assert [answer.person_id for answer in answers] == [UNKNOWN, "ann", "ann"]
    assert [answer.threshold for answer in answers] == pytest.approx([0.6, 0.5, 0.6])


def test_the_margin_begins_at_the_cameras_own_threshold() -> None:
    model = crowd(40, 0.1, margin=0.1, threshold=0.6)
    model = replace(model, operating=replace(model.operating, cameras={camera_key("a", "door"): 0.7}))
    assert not model.identify(probes(NEARLY_ANN), camera_key("a", "door"), best_shots=True)[0].known
    assert model.identify(probes(NEARLY_ANN), camera_key("a", "hall"), best_shots=True)[0].known


def like_ann(similarity: float, axis: int = 2) -> Float32Array:
    """Resembles Ann by so much, and nobody else of a `crowd`."""
    vector = np.zeros(4, np.float32)
    vector[0], vector[axis] = similarity, np.sqrt(1 - similarity**2)
    return vector


@pytest.mark.parametrize(("first", "named"), [(0.37, False), (0.39, True)])
def test_shots_that_resemble_the_same_person_are_as_similar_as_in_the_mean(first: float, named: bool) -> None:
    model = crowd(40, 0.0, visit=0.2)
    shot, other = probes(like_ann(0.42)), probes(like_ann(first, axis=3))
    assert not model.identify(shot, best_shots=True)[0].known and not model.identify(other, best_shots=True)[0].known
    together = model.identify_visit(shot, [other])
    assert together is not None and together.nearest == "ann"
    assert together.similarity == pytest.approx((0.42 + first) / 2, abs=1e-5)
    assert together.threshold == pytest.approx(0.4)
    assert together.person_id == ("ann" if named else UNKNOWN)
    assert together.confidence == model.operating.confidence(np.float32([together.similarity]))[0]


def test_a_poor_shot_is_named_by_a_better_one_of_the_same_person() -> None:
    together = crowd(40, 0.0, visit=0.2).identify_visit(probes(like_ann(0.35)), [probes(like_ann(0.48))])
    assert together is not None and together.person_id == "ann"


def test_shots_that_resemble_somebody_else_the_most_tell_nothing() -> None:
    model = of_rows(THREE | {f"p{i:03d}": -ANN for i in range(40)}, *[0.0] * 43)
    model = replace(model, operating=Operating(0.6, 20.0, 0.6, {}, 0.0, 0.3))
    bobs = unit(0.5, 0.55, 0, 0.67)
    assert model.identify_visit(probes(like_ann(0.55, axis=3)), [probes(bobs), probes(unit(0.2, 0, 0.5, 0.8))]) is None
    together = model.identify_visit(probes(like_ann(0.55, axis=3)), [probes(bobs), probes(like_ann(0.5, axis=3))])
    assert together is not None and together.similarity == pytest.approx(0.525, abs=1e-5), "Bob's shot is left out"


def test_a_shot_alone_and_those_of_another_embedder_say_nothing_together() -> None:
    model, shot = crowd(40, 0.0, visit=0.2), probes(like_ann(0.55))
    assert model.identify_visit(shot, []) is None
    assert model.identify_visit(shot, [Embeddings("other.1", like_ann(0.55)[None])]) is None
    with pytest.raises(EmbedderMismatch):
        model.identify_visit(Embeddings("other.1", like_ann(0.55)[None]), [shot])
    assert empty_model("colour.1", 4, OPERATING).identify_visit(shot, [shot]) is None


@pytest.mark.parametrize(("similar", "threshold"), [(0.0, 0.4), (0.285, 0.5), (0.36, 0.6)])
def test_the_threshold_of_a_visit_is_lower_the_less_others_resemble_its_shots(similar: float, threshold: float) -> None:
    together = crowd(40, similar, visit=0.2).identify_visit(probes(NEARLY_ANN), [probes(NEARLY_ANN)])
    assert together is not None and together.threshold == pytest.approx(threshold, abs=1e-3)


def test_the_margin_of_a_visit_begins_at_the_cameras_own_threshold() -> None:
    model = crowd(40, 0.0, visit=0.2)
    model = replace(model, operating=replace(model.operating, cameras={camera_key("a", "door"): 0.8}))
    shot = probes(like_ann(0.5))
    at_door, in_hall = (model.identify_visit(shot, [shot], camera_key("a", place)) for place in ("door", "hall"))
    assert at_door is not None and in_hall is not None
    assert (at_door.known, in_hall.known) == (False, True)
    assert (at_door.threshold, in_hall.threshold) == pytest.approx((0.6, 0.4))


def test_in_an_empty_gallery_everybody_is_unknown() -> None:
    model = empty_model("colour.1", 4, OPERATING)
    answers = model.identify(probes(np.stack([ANN, BOB])))
    assert [(a.person_id, a.nearest, a.confidence) for a in answers] == [(UNKNOWN, None, 0.0)] * 2
    assert list(model.confidences(probes(ANN))) == []


def test_similarity_is_one_row_a_person_and_their_bias() -> None:
    weights = np.array([[0.75, 0, 0, 0.5], [0, 2, 0, 0]], np.float32)
    model = of_rows({"ann": weights[0], "bob": weights[1]}, 0.25, -0.125)
    rows = model.similarities(np.stack([unit(3, 0, 0, 4), BOB]))
    # 0.75 * 0.6 + 0.5 * 0.8 + 0.25 = 1.1, and so on; worked out by hand
    assert rows.dtype == np.float32
    assert rows == pytest.approx(np.array([[1.1, -0.125], [0.25, 1.875]]), abs=1e-6)


def test_whom_identify_names_is_the_first_of_everybody_bias_included() -> None:
    """Two look-alikes: the cosine prefers the first, whose bias is against them."""
    like_ann, like_bob = unit(1, 0.1, 0, 0), unit(1, -0.1, 0, 0)
    model = of_rows({"ann": like_ann, "bob": like_bob}, -0.2, 0.05)
    probe = unit(1, 0.05, 0, 0)
    [identity] = model.identify(probes(probe))
    assert (identity.person_id, identity.nearest) == ("bob", "bob")
    assert identity.similarity == pytest.approx(float(probe @ like_bob) + 0.05, abs=1e-6)
    assert [who for who, _ in model.confidences(probes(probe))] == ["bob", "ann"]
    strict = replace(model, operating=replace(OPERATING, threshold=identity.similarity + 1e-4))
    assert strict.identify(probes(probe))[0].person_id == UNKNOWN, "what is compared is what was ranked"


def test_one_face_gets_the_answer_that_it_gets_among_many() -> None:
    """One to four probes are compared one at a time, more of them as one product (`ExactIndex`)."""
    random = np.random.default_rng(0)
    rows = random.normal(size=(40, 16)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    model = of_rows({f"person_{n:02d}": row for n, row in enumerate(rows)}, *random.normal(0, 0.1, 40))
    faces = centre(rows + random.normal(0, 0.2, rows.shape).astype(np.float32), np.full(16, 1e-6, np.float32))
    together = model.identify(probes(faces))
    for face, among in zip(faces, together, strict=True):
        [alone] = model.identify(probes(face))
        assert (alone.person_id, alone.nearest) == (among.person_id, among.nearest)
        assert alone.similarity == pytest.approx(among.similarity, abs=1e-5)
        assert alone.similarity == pytest.approx(float(model.similarities(face[None]).max()), abs=1e-5)


def test_a_camera_has_a_threshold_of_its_own() -> None:
    operating = replace(OPERATING, threshold=0.5, cameras={camera_key("museum", "door"): 0.7})
    model, probe = matcher(THREE, operating=operating), probes(unit(0.6, 0, 0, 0.8))
    [anywhere], [elsewhere] = model.identify(probe), model.identify(probe, camera_key("museum", "hall"))
    [door] = model.identify(probe, camera_key("museum", "door"))
    assert (anywhere.person_id, anywhere.threshold) == (elsewhere.person_id, elsewhere.threshold) == ("ann", 0.5)
    assert (door.person_id, door.nearest, door.threshold) == (UNKNOWN, "ann", 0.7)
    assert door.similarity == anywhere.similarity and door.confidence == anywhere.confidence
    [nobody] = empty_model(model.embedder_id, 4, operating).identify(probe, camera_key("museum", "door"))
    assert nobody.threshold == 0.7


def test_the_gallery_mean_is_removed_from_probes() -> None:
    mean = np.array([0.5, 0, 0, 0], np.float32)
    model = of_rows({"ann": ANN, "bob": BOB}, 0, 0, mean=mean)
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


def test_taking_a_person_out_leaves_everybody_elses_similarities_as_they_are() -> None:
    model = of_rows(THREE, 0.1, 0.2, 0.3, mean=np.array([0.1, 0, 0, 0.2], np.float32))
    cut, face = model.without("bob", model_id="later"), unit(1, 2, 3, 4)[None]
    assert cut.similarities(face) == pytest.approx(model.similarities(face)[:, [0, 2]], abs=1e-6)
    [identity] = cut.identify(probes(face))
    assert (identity.nearest, identity.similarity) == ("cid", pytest.approx(float(model.similarities(face)[0, 2])))


def test_a_copy_with_other_rows_answers_by_those() -> None:
    model = replace(matcher(THREE), weights=np.stack([BOB, CID, ANN]))
    [identity] = model.identify(probes(ANN))
    assert identity.person_id == "cid" == next(model.confidences(probes(ANN)))[0]


def test_taking_out_somebody_unknown_changes_nobody() -> None:
    assert matcher(THREE).without("zoe", model_id="later").person_ids == ("ann", "bob", "cid")


def test_the_last_person_can_be_taken_out() -> None:
    cut = matcher({"ann": ANN}).without("ann", model_id="later")
    assert cut.identify(probes(ANN))[0].person_id == UNKNOWN


def test_arrays_that_do_not_agree_are_refused() -> None:
    with pytest.raises(InvalidInput):
        replace(matcher(THREE), person_ids=("ann",))
    with pytest.raises(InvalidInput):
        replace(matcher(THREE), bias=np.zeros(2, np.float32))
    with pytest.raises(InvalidInput):
        replace(matcher(THREE), mean=np.zeros(5, np.float32))


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


@given(st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)))  # noqa: DTZ001 - hypothesis
def test_a_model_id_tells_when_its_gallery_was_read(when: datetime) -> None:
    assert fitted_at(new_model_id(when)) == when


@pytest.mark.parametrize("model_id", ["none", "", "bench", "20260101-0000"])
def test_an_id_that_does_not_tell_is_no_error(model_id: str) -> None:
    assert fitted_at(model_id) is None


def test_a_probe_of_another_embedder_is_refused_even_where_the_numbers_would_allow_it() -> None:
    with pytest.raises(EmbedderMismatch, match=r"other\.1"):
        matcher(THREE).identify(probes(ANN, "other.1"))
    with pytest.raises(EmbedderMismatch):
        matcher(THREE).confidences(probes(ANN, "other.1"))
    with pytest.raises(EmbedderMismatch):
        empty_model("colour.1", 4, OPERATING).identify(probes(ANN, "other.1"))
