"""Fitting galleries of every size, what the threshold is worth on strangers, and fitting only those who changed."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from io import BytesIO

import joblib
import numpy as np
import pytest

from functions.train import fit as fit_module
from functions.train.calibration import MIN_VISITS, Unknowns
from functions.train.fit import (
    JOBLIB_FILE,
    PLAIN,
    SMALL_GALLERY,
    USUAL,
    FitRequest,
    Gallery,
    choose,
    fit_bundle,
    gather,
    refit_changed,
)
from functions.train.openset import FOLDS, NO_TRIALS, Trials
from functions.train.scoring import KINDS
from shared.domain import UNKNOWN, Float32Array, gallery_hash
from shared.errors import InvalidInput
from shared.matching.bundle import MATCHER_FILE, Bundle, Manifest, load_matcher
from shared.matching.impostors import ImpostorCurve
from shared.matching.model import MatcherModel, Operating
from tests.support import probes, template, unit

DIMENSION = 64
FALLBACK = Operating(threshold=0.5, slope=20.0, midpoint=0.5)
CURVE = {
    "base": -0.1074,
    "people": 0.1286,
    "rarity": 0.0663,
    "people_people": -0.0093,
    "people_rarity": -0.0041,
    "rarity_rarity": -0.0022,
}
"""Of `embeddings`: least squares over quantiles, from 0.2 to 0.002, of the similarity of 40,000 strangers to the
nearest of N people with three photographs, N from 2 to 400, in twenty galleries of each size; off by 0.019 at most."""


def table(curve: dict[str, float] | None = None) -> dict[str, object]:
    return {"embedder_id": "e", "dimension": DIMENSION, "impostors": curve}


def embeddings(people: int, each: int, *, spread: float = 0.7, seed: int = 0) -> Float32Array:
    """(people, each, D) unit rows about a random direction for each person; `spread` is the noise against it."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(people, 1, DIMENSION))
    centres /= np.linalg.norm(centres, axis=2, keepdims=True)
    noise = random.normal(size=(people, each, DIMENSION)) / np.sqrt(DIMENSION)
    rows = centres + spread * noise
    return (rows / np.linalg.norm(rows, axis=2, keepdims=True)).astype(np.float32)


def gallery_of(rows: Float32Array) -> Gallery:
    people, each = rows.shape[:2]
    return Gallery(
        rows.reshape(people * each, DIMENSION),
        np.repeat(np.arange(people), each),
        tuple(f"person_{number:03d}" for number in range(people)),
        "state",
        tuple(f"{person:03d}.{number}" for person in range(people) for number in range(each)),
    )


def request(
    *,
    model_id: str = "20260101T000000.000000Z-0000",
    target_fpir: float = 0.01,
    curve: dict[str, float] | None = None,
    unknowns: Unknowns | None = None,
    best_shot_fpir: float = 0.0,
) -> FitRequest:
    return FitRequest(model_id, table(curve), FALLBACK, target_fpir, unknowns, best_shot_fpir)


def fitted(gallery: Gallery, *, target_fpir: float = 0.01, curve: dict[str, float] | None = None) -> Bundle:
    return fit_bundle(gallery, request(target_fpir=target_fpir, curve=curve))


def answers(model: MatcherModel, rows: Float32Array) -> list[str]:
    return [identity.person_id for identity in model.identify(probes(rows, "e"))]


@pytest.mark.parametrize("curve", [None, CURVE])
@pytest.mark.parametrize("people", [0, 1, 2, 5, 60])
def test_a_gallery_of_any_size_knows_its_people_and_no_strangers(people: int, curve: dict[str, float] | None) -> None:
    rows = embeddings(people + 20, 4, spread=0.5)
    model = load_matcher(fitted(gallery_of(rows[:people, :3]), curve=curve))
    assert model.person_ids == tuple(f"person_{number:03d}" for number in range(people))
    assert np.all(np.isfinite(model.weights)) and np.all(np.isfinite(model.bias))
    if people:
        assert answers(model, rows[:people, 3]) == list(model.person_ids), "a photo that was not enrolled"
    strangers = answers(model, rows[people:, 3])
    assert strangers.count(UNKNOWN) >= 19


@pytest.mark.parametrize("people", [0, 1, 2, 5, SMALL_GALLERY - 1])
def test_a_small_gallery_without_a_curve_states_no_rate_and_keeps_the_conservative_threshold(
    people: int, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "functions.train.fit"):
        bundle = fitted(gallery_of(embeddings(people, 3)))
    assert bundle.manifest.calibration["calibrated"] is False
    assert bundle.manifest.calibration["why"]
    assert load_matcher(bundle).operating.threshold >= FALLBACK.threshold
    if people:
        [record] = [record for record in caplog.records if record.name == "functions.train.fit"]
        assert record.levelno == logging.WARNING and "not calibrated" in record.getMessage()
        assert (record.action, record.model_id) == ("train.calibrated", bundle.manifest.model_id)


@pytest.mark.parametrize("people", [1, 2, 5, SMALL_GALLERY - 1])
def test_a_small_gallery_with_a_curve_has_its_threshold_and_says_that_it_is_not_its_own(people: int) -> None:
    bundle = fitted(gallery_of(embeddings(people, 3)), curve=CURVE)
    calibration = bundle.manifest.calibration
    assert calibration["calibrated"] is False and "embedder" in calibration["why"]
    usual = ImpostorCurve(**CURVE).similarity(people, 0.01)
    threshold = load_matcher(bundle).operating.threshold
    assert threshold == pytest.approx(usual, abs=0.05)
    if people < 2 * FOLDS:
        assert threshold == pytest.approx(usual, abs=1e-6), "nobody can be left out"


def test_a_large_gallery_is_calibrated_and_says_on_what(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "functions.train.fit"):
        bundle = fitted(gallery_of(embeddings(120, 3)))
    calibration = bundle.manifest.calibration
    assert calibration["calibrated"] is True and "why" not in calibration
    assert calibration["target_fpir"] == 0.01
    assert (calibration["stranger_people"], calibration["stranger_trials"]) == (120, 360)
    assert calibration["genuine_trials"] == 5 * 96, "one of each of the 96 known, in five folds"
    assert 0 <= calibration["tpir"] <= 1
    low, high = calibration["fpir_interval_95"]
    assert 0 <= low <= calibration["fpir_of_trials"] <= high <= 1
    assert [record.levelno for record in caplog.records] == [logging.INFO]
    assert not any("person_" in record.getMessage() for record in caplog.records), "nobody's name is logged"


def test_a_large_gallery_with_too_few_people_for_the_rate_is_not_calibrated() -> None:
    """120 strangers cannot tell 1 in 10,000."""
    bundle = fitted(gallery_of(embeddings(120, 3)), target_fpir=0.0001)
    assert bundle.manifest.calibration["calibrated"] is False


@pytest.mark.parametrize(("target", "curve"), [(0.02, None), (0.1, None), (0.02, CURVE)])
def test_strangers_are_named_about_as_often_as_was_asked(target: float, curve: dict[str, float] | None) -> None:
    """Four galleries of 100 people, each asked for 1,000 strangers of the same distribution.

    One gallery's threshold is a quantile of 300 trials of 100 people, whose three photographs resemble each other: its
    rate scatters by about √(p(1-p)/100), 1.4 points at 2 % and 3 at 10 %; the mean of four by half of that.
    """
    measured = []
    for seed in range(4):
        rows = embeddings(1_100, 3, spread=1.2, seed=seed)
        model = load_matcher(fitted(gallery_of(rows[:100]), target_fpir=target, curve=curve))
        strangers = answers(model, rows[100:, 0])
        measured.append(1 - strangers.count(UNKNOWN) / len(strangers))
    assert 0.5 * target <= np.mean(measured) <= 2 * target


@pytest.mark.parametrize("people", [5, 20])
def test_a_curve_gives_a_small_gallery_the_rate_that_was_asked(people: int) -> None:
    """Ten galleries each, 2,000 strangers; what so few people would have to guess, the curve was measured for."""
    measured = []
    for seed in range(10):
        rows = embeddings(people + 2_000, 3, spread=0.7, seed=seed)
        model = load_matcher(fitted(gallery_of(rows[:people]), target_fpir=0.02, curve=CURVE))
        measured.append(1 - answers(model, rows[people:, 0]).count(UNKNOWN) / 2_000)
    assert 0.5 * 0.02 <= np.mean(measured) <= 2 * 0.02


def test_of_two_people_each_is_told_from_the_other() -> None:
    rows = embeddings(2, 3)
    model = load_matcher(fitted(gallery_of(rows)))
    assert model.weights.shape == (2, DIMENSION)
    similarities = model.similarities(rows.reshape(-1, DIMENSION))
    assert similarities.argmax(axis=1).tolist() == [0, 0, 0, 1, 1, 1]


@pytest.mark.parametrize("people", [23, 112])
def test_more_than_ten_people_keep_their_order(people: int) -> None:
    """Were classes sorted as text, "10" would come before "2"."""
    rows = embeddings(people, 3, spread=0.5)
    model = load_matcher(fitted(gallery_of(rows)))
    assert answers(model, rows[:, 0]) == list(model.person_ids)


def test_templates_in_any_order_give_the_same_matcher() -> None:
    gallery = gallery_of(embeddings(60, 3))
    order = np.random.default_rng(0).permutation(180)
    mixed = replace(
        gallery,
        embeddings=gallery.embeddings[order],
        people=gallery.people[order],
        template_ids=tuple(gallery.template_ids[row] for row in order),
    )
    one, other = load_matcher(fitted(gallery)), load_matcher(fitted(mixed))
    assert one.weights == pytest.approx(other.weights, abs=1e-5)
    assert one.bias == pytest.approx(other.bias, abs=1e-5)


def test_confidence_is_high_for_people_and_low_for_strangers() -> None:
    rows = embeddings(260, 4, spread=0.6)
    model = load_matcher(fitted(gallery_of(rows[:120, :3])))
    known = [identity.confidence for identity in model.identify(probes(rows[:120, 3], "e"))]
    strange = [identity.confidence for identity in model.identify(probes(rows[120:, 3], "e"))]
    assert np.median(known) > 0.9 and np.median(strange) < 0.1


@pytest.mark.parametrize("people", [12, 60])
def test_a_person_with_one_photo_among_others_with_many(people: int) -> None:
    rows = embeddings(people, 4, spread=0.4)
    flat = np.concatenate([rows[0, :1], rows[1:].reshape(-1, DIMENSION)])
    whose = np.concatenate([[0], np.repeat(np.arange(1, people), 4)])
    gallery = Gallery(flat, whose, tuple(f"person_{n:03d}" for n in range(people)), "state")
    bundle = fitted(gallery)
    assert bundle.manifest.templates["person_000"] == 1
    assert answers(load_matcher(bundle), rows[:2, 3]) == ["person_000", "person_001"]


@pytest.mark.parametrize("curve", [None, CURVE])
def test_sixty_people_with_one_photo_each_can_be_fitted(curve: dict[str, float] | None) -> None:
    """No genuine trial exists, and a hundredth of sixty is nobody: what holds is no rate of their own."""
    rows = embeddings(60, 2, spread=0.4)
    bundle = fitted(gallery_of(rows[:, :1]), curve=curve)
    assert bundle.manifest.calibration["calibrated"] is False
    assert bundle.manifest.calibration["genuine_trials"] == 0 and "tpir" not in bundle.manifest.calibration
    model = load_matcher(bundle)
    known = answers(model, rows[:, 1])
    assert sum(who == model.person_ids[row] for row, who in enumerate(known)) >= 57
    json.dumps(json.loads(bundle.manifest.to_json()), allow_nan=False)


@pytest.mark.parametrize("people", [1, 2, 60])
def test_twins_and_the_same_photo_twice_do_no_harm(people: int) -> None:
    """Everybody's photograph three times; the first and, where there are two, the last person share theirs."""
    rows = np.repeat(embeddings(people, 1), 3, axis=1)
    rows[-1] = rows[0]
    model = load_matcher(fitted(gallery_of(rows)))
    assert np.all(np.isfinite(model.weights)) and np.all(np.isfinite(model.bias))
    assert answers(model, rows[0])[0] in (model.person_ids[0], model.person_ids[-1])
    if people > 2:
        assert answers(model, rows[1:-1, 0]) == list(model.person_ids[1:-1])


@pytest.mark.parametrize("people", [2, 9, 10, 60])
def test_people_who_all_look_like_one_can_be_fitted(people: int) -> None:
    """One photograph for everybody, as of an embedder that sees nothing."""
    rows = np.repeat(embeddings(1, 2), people, axis=0)
    model = load_matcher(fitted(gallery_of(rows), curve=CURVE))
    assert np.all(np.isfinite(model.weights)) and np.all(np.isfinite(model.bias))


def test_somebody_enrolled_twice_moves_no_threshold() -> None:
    """Of 120 people six are there under two ids; were they strangers to themselves, nobody would be named."""
    rows = embeddings(126, 4, spread=0.5)
    random = np.random.default_rng(3)
    again = rows[:6, :3] + 0.2 * random.normal(size=(6, 3, DIMENSION)) / np.sqrt(DIMENSION)
    again = (again / np.linalg.norm(again, axis=2, keepdims=True)).astype(np.float32)
    once = load_matcher(fitted(gallery_of(rows[:120, :3])))
    twice = load_matcher(fitted(gallery_of(np.concatenate([rows[:114, :3], again]))))
    assert twice.operating.threshold == pytest.approx(once.operating.threshold, abs=0.06)
    assert sum(who != UNKNOWN for who in answers(twice, rows[6:114, 3])) >= 104


@pytest.mark.parametrize("people", [0, 5, 60])
def test_fitting_twice_gives_the_same_bytes(people: int) -> None:
    gallery = gallery_of(embeddings(people, 3))
    one, other = fitted(gallery), fitted(gallery)
    assert one.files == other.files
    assert one.manifest.to_json() == other.manifest.to_json()


@pytest.mark.parametrize("people", [0, 1, 5, 60, 120])
@pytest.mark.parametrize("curve", [None, CURVE])
def test_the_manifest_says_what_the_model_is(people: int, curve: dict[str, float] | None) -> None:
    gallery = gallery_of(embeddings(people, 3))
    manifest = fitted(gallery, curve=curve).manifest
    assert manifest.templates == {f"person_{n:03d}": 3 for n in range(people)}
    assert manifest.gallery == "state" and manifest.embedder == table(curve)
    assert manifest.classifier["kind"] == PLAIN if people < SMALL_GALLERY else manifest.classifier["kind"] in KINDS
    assert set(manifest.files) == {MATCHER_FILE} | ({JOBLIB_FILE} if manifest.classifier["kind"] != PLAIN else set())
    assert {"python", "numpy", "scikit-learn"} <= set(manifest.versions)
    assert manifest.people == gallery.states() and len(set(manifest.people.values())) == people
    assert (manifest.evaluation["people"], manifest.evaluation["templates"]) == (people, 3 * people)
    assert set(manifest.evaluation["matchers"]) == (set(KINDS) if people >= SMALL_GALLERY else set())
    plain = json.loads(json.dumps(json.loads(manifest.to_json()), allow_nan=False))
    assert Manifest.from_json(json.dumps(plain).encode()).to_json() == manifest.to_json()


def test_the_estimator_for_offline_analysis_tells_people_apart() -> None:
    rows = embeddings(60, 3, spread=0.5)
    bundle = fitted(gallery_of(rows))
    estimator = joblib.load(BytesIO(bundle.files[JOBLIB_FILE]))
    centred = load_matcher(bundle).centre(rows[:, 0])
    assert estimator.predict(centred).tolist() == list(range(60))


@pytest.mark.parametrize("people", [1, 12, 60])
def test_progress_grows_to_one(people: int) -> None:
    seen: list[float] = []
    fit_bundle(gallery_of(embeddings(people, 2)), request(), seen.append)
    assert seen == sorted(seen) and seen[-1] == 1.0 and len(seen) >= 3


def test_the_sites_unknown_faces_move_the_threshold_and_that_of_their_camera() -> None:
    """Faces that lean to everybody: nearer than strangers usually come."""
    rows = embeddings(20, 3)
    random = np.random.default_rng(1)
    leaning = (
        random.normal(size=(2 * MIN_VISITS, DIMENSION)) / 8 + 0.7 * rows[random.integers(0, 20, 2 * MIN_VISITS), 0]
    )
    leaning = (leaning / np.linalg.norm(leaning, axis=1, keepdims=True)).astype(np.float32)
    visits = [str(number) for number in range(len(leaning))]
    unknowns = Unknowns(leaning, ["site/door"] * len(leaning), visits)
    plain = fit_bundle(gallery_of(rows), request(curve=CURVE))
    moved = fit_bundle(gallery_of(rows), request(curve=CURVE, unknowns=unknowns))
    assert moved.manifest.calibration["site_shift"] > 0.02
    assert moved.manifest.calibration["unknown_visits"] == 2 * MIN_VISITS
    operating = load_matcher(moved).operating
    assert operating.threshold > load_matcher(plain).operating.threshold + 0.02
    assert set(operating.cameras) == {"site/door"}
    read = Manifest.from_json(moved.manifest.to_json())
    assert load_matcher(Bundle(read, moved.files)).operating == operating
    none = Unknowns(np.zeros((0, DIMENSION), np.float32), [], [])
    assert fit_bundle(gallery_of(rows), request(curve=CURVE, unknowns=none)).files == plain.files


# What the review sets aside


def spoilt() -> tuple[Gallery, Float32Array]:
    """Twelve people with five photographs: one of the first is of the second, one of the third is there twice."""
    rows = embeddings(12, 5, spread=0.5)
    right = rows.copy()
    rows[0, 4] = embeddings(12, 9, spread=0.5)[1, 8]
    rows[0, 4] = (right[1, 0] + right[1, 1]) / np.linalg.norm(right[1, 0] + right[1, 1])
    rows[2, 3] = rows[2, 1]
    return gallery_of(rows), right


def test_what_is_set_aside_is_listed_and_left_out() -> None:
    gallery, _ = spoilt()
    bundle = fitted(gallery)
    manifest = bundle.manifest
    assert [(one["person_id"], one["template_id"], one["reason"]) for one in manifest.set_aside] == [
        ("person_000", "000.4", "confuses"),
        ("person_002", "002.3", "duplicate"),
    ]
    assert manifest.set_aside[0]["with"] == "person_001"
    assert (manifest.templates["person_000"], manifest.templates["person_002"]) == (4, 4)
    assert manifest.evaluation["templates"] == 58
    assert manifest.evaluation["set_aside"] == {"confuses": 1, "duplicate": 1}
    assert manifest.people == gallery.states(), "the fit read them all the same"
    without = np.ones(60, dtype=bool)
    without[[4, 13]] = False
    clean = fitted(gallery.only(without))
    assert bundle.files[MATCHER_FILE] == clean.files[MATCHER_FILE], "as if they were not there"


def test_what_an_operator_keeps_is_used() -> None:
    gallery, _ = spoilt()
    kept = np.zeros(60, dtype=bool)
    kept[[4, 11, 13]] = True  # of the two that are the same, both
    bundle = fitted(replace(gallery, kept=kept))
    assert bundle.manifest.set_aside == [] and bundle.manifest.evaluation["templates"] == 60
    assert bundle.files[MATCHER_FILE] != fitted(gallery).files[MATCHER_FILE]


# Which matcher is chosen


@pytest.mark.parametrize(("people", "tried"), [(0, []), (9, []), (10, []), (49, []), (50, list(KINDS))])
def test_only_a_large_gallery_tries_more_than_the_plain_one(people: int, tried: list[str]) -> None:
    chosen = choose(gallery_of(embeddings(people, 3)), 0.01, lambda _: None)
    assert list(chosen.figures) == tried
    assert (chosen.trials is NO_TRIALS) is (people < 10)
    if not tried:
        assert chosen.kind == PLAIN


def outcome(tpir: float, people: int = 100) -> Trials:
    """Trials in which that share of people is reached."""
    genuine = np.where(np.arange(1_000) < round(1_000 * tpir), 0.9, 0.1).astype(np.float32)
    strangers = np.linspace(0.2, 0.4, people).astype(np.float32)
    return Trials(strangers, np.arange(people), genuine, np.ones(1_000, dtype=bool), 80)


@pytest.mark.parametrize(
    ("plain", "usual", "svm", "best"),
    [
        (0.80, 0.80, 0.80, USUAL),
        (0.90, 0.85, 0.80, USUAL),
        (0.95, 0.85, 0.80, PLAIN),
        (0.80, 0.50, 0.65, PLAIN),
        (0.50, 0.50, 0.65, "svm"),
        (0.10, 0.90, 0.20, USUAL),
    ],
)
def test_another_matcher_must_be_clearly_better_than_the_usual_one(
    monkeypatch: pytest.MonkeyPatch, plain: float, usual: float, svm: float, best: str
) -> None:
    """Of 100 people two standard errors are 2 √(0.85 · 0.15 / 100) = 0.071, and 0.1 at a half."""
    trials = {"prototype": outcome(plain), USUAL: outcome(usual), "svm": outcome(svm)}
    monkeypatch.setattr(fit_module, "cross_validate", lambda *_: trials)
    chosen = choose(gallery_of(embeddings(100, 1)), 0.01, lambda _: None)
    assert chosen.kind == best and chosen.trials is trials[best]
    assert chosen.figures[USUAL] == {"tpir": usual, "rank1": 1.0}


# Only those who changed

TALL = 150


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    """150 people are large; three of them may change, which is 2 %."""
    monkeypatch.setattr(fit_module, "LARGE_GALLERY", 100)


@pytest.fixture(scope="module")
def rows() -> Float32Array:
    return embeddings(TALL + 5, 4, spread=0.6)


@pytest.fixture(scope="module")
def live(rows: Float32Array) -> Bundle:
    """A whole fit, as it is read from the store."""
    bundle = fitted(gallery_of(rows[:TALL, :3]), curve=CURVE)
    return Bundle(Manifest.from_json(bundle.manifest.to_json()), bundle.files)


def later(curve: dict[str, float] | None = CURVE, target_fpir: float = 0.01) -> FitRequest:
    return request(model_id="20260102T000000.000000Z-0000", curve=curve, target_fpir=target_fpir)


def with_photo(gallery: Gallery, person: int, embedding: Float32Array, name: str) -> Gallery:
    """One more template of somebody."""
    at = int(np.searchsorted(gallery.people, person, side="right"))
    return replace(
        gallery,
        embeddings=np.insert(gallery.embeddings, at, embedding, axis=0),
        people=np.insert(gallery.people, at, person),
        template_ids=(*gallery.template_ids[:at], name, *gallery.template_ids[at:]),
        state="later",
    )


def without(gallery: Gallery, *gone: int) -> Gallery:
    """Without some of the people."""
    keep = ~np.isin(gallery.people, gone)
    stay = [person for person in range(gallery.count) if person not in gone]
    return Gallery(
        gallery.embeddings[keep],
        np.searchsorted(stay, gallery.people[keep]),
        tuple(gallery.person_ids[person] for person in stay),
        "later",
        tuple(name for name, kept in zip(gallery.template_ids, keep, strict=True) if kept),
    )


@pytest.mark.usefixtures("large")
def test_a_new_person_is_fitted_and_nobody_else_moves(rows: Float32Array, live: Bundle) -> None:
    gallery = gallery_of(rows[: TALL + 1, :3])
    bundle = refit_changed(gallery, live, later())
    assert bundle is not None
    model, before = load_matcher(bundle), load_matcher(live)
    assert model.model_id == later().model_id and model.person_ids == gallery.person_ids
    assert np.array_equal(model.weights[:TALL], before.weights) and np.array_equal(model.bias[:TALL], before.bias)
    assert np.array_equal(model.mean, before.mean) and model.operating == before.operating
    assert answers(model, rows[TALL : TALL + 1, 3]) == [gallery.person_ids[TALL]]

    whole = load_matcher(fitted(gallery, curve=CURVE))
    if bundle.manifest.classifier["kind"] == live.manifest.classifier["kind"]:
        one, other = model.weights[TALL].astype(np.float64), whole.weights[TALL].astype(np.float64)
        assert one @ other / np.linalg.norm(one) / np.linalg.norm(other) > 0.995
    faces = rows[:, 3]
    assert model.similarities(faces)[:, TALL] == pytest.approx(whole.similarities(faces)[:, TALL], abs=0.03)

    manifest = bundle.manifest
    assert manifest.classifier == {**live.manifest.classifier, "refitted": 1}
    assert manifest.calibration == live.manifest.calibration
    assert manifest.people == gallery.states() and manifest.templates[gallery.person_ids[TALL]] == 3
    assert set(manifest.files) == {MATCHER_FILE}
    assert manifest.gallery == "state" and manifest.evaluation["people"] == TALL + 1
    json.dumps(json.loads(manifest.to_json()), allow_nan=False)


@pytest.mark.usefixtures("large")
def test_a_person_with_a_new_photograph_is_fitted_anew(rows: Float32Array, live: Bundle) -> None:
    gallery = with_photo(gallery_of(rows[:TALL, :3]), 70, rows[70, 3], "070.new")
    bundle = refit_changed(gallery, live, later())
    assert bundle is not None
    model, before = load_matcher(bundle), load_matcher(live)
    moved = np.flatnonzero(np.any(model.weights != before.weights, axis=1))
    assert moved.tolist() == [70]
    assert bundle.manifest.templates["person_070"] == 4 and bundle.manifest.gallery == "later"
    own = model.similarities(rows[70:71, 3])[0, 70]
    assert own > before.similarities(rows[70:71, 3])[0, 70], "the new photograph is known"


@pytest.mark.usefixtures("large")
def test_the_first_person_in_order_may_be_new(rows: Float32Array, live: Bundle) -> None:
    """Everybody's row moves down by one, and stays theirs."""
    gallery = gallery_of(np.concatenate([rows[TALL : TALL + 1, :3], rows[:TALL, :3]]))
    ids = ("a_newcomer", *(f"person_{number:03d}" for number in range(TALL)))
    names = tuple([f"new.{number}" for number in range(3)]) + gallery_of(rows[:TALL, :3]).template_ids
    bundle = refit_changed(replace(gallery, person_ids=ids, template_ids=names), live, later())
    assert bundle is not None
    model = load_matcher(bundle)
    assert np.array_equal(model.weights[1:], load_matcher(live).weights)
    assert answers(model, rows[TALL : TALL + 1, 3]) == ["a_newcomer"]
    assert answers(model, rows[:TALL, 0]) == list(ids[1:])


@pytest.mark.usefixtures("large")
def test_whoever_left_is_gone_and_nobody_else_moves(rows: Float32Array, live: Bundle) -> None:
    gallery = without(gallery_of(rows[:TALL, :3]), 20, 149)
    bundle = refit_changed(gallery, live, later())
    assert bundle is not None
    model, before = load_matcher(bundle), load_matcher(live)
    assert model.person_ids == gallery.person_ids and len(model.person_ids) == TALL - 2
    stay = [row for row in range(TALL) if row not in (20, 149)]
    assert np.array_equal(model.weights, before.weights[stay]) and np.array_equal(model.bias, before.bias[stay])
    assert b"person_020" not in bundle.manifest.to_json() and b"person_149" not in bundle.manifest.to_json()
    assert answers(model, rows[20:21, 0]) == [UNKNOWN]


@pytest.mark.usefixtures("large")
def test_a_gallery_in_which_nothing_changed_is_the_same_matcher(rows: Float32Array, live: Bundle) -> None:
    bundle = refit_changed(gallery_of(rows[:TALL, :3]), live, later())
    assert bundle is not None
    assert bundle.files[MATCHER_FILE] == live.files[MATCHER_FILE]
    assert bundle.manifest.classifier["refitted"] == 0


@pytest.mark.usefixtures("large")
def test_three_may_change_and_the_fourth_makes_a_whole_fit(rows: Float32Array, live: Bundle) -> None:
    """2 % of 150; changes add up over refits, since every one leaves the mean and the threshold as they were."""
    gallery = gallery_of(rows[:TALL, :3])
    for person in range(3):
        gallery = with_photo(gallery, person, rows[person, 3], f"{person:03d}.new")
    bundle = refit_changed(gallery, live, later())
    assert bundle is not None and bundle.manifest.classifier["refitted"] == 3
    again = refit_changed(gallery, bundle, later())
    assert again is not None and again.manifest.classifier["refitted"] == 3
    more = with_photo(gallery, 99, rows[99, 3], "099.new")
    assert refit_changed(more, live, later()) is None
    assert refit_changed(more, bundle, later()) is None
    assert refit_changed(without(gallery_of(rows[:TALL, :3]), 1, 2, 3, 4), live, later()) is None


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize(
    "change",
    [
        {"people": {}},
        {"classifier": {"kind": "prototype+linear-svm", "svm_scale": {}}},
        {"calibration": {"calibrated": False}},
        {"embedder": {**table(CURVE), "embedder_id": "another"}},
        {"embedder": table(None)},
    ],
    ids=["an older format", "its matcher", "no rate", "another embedder", "another curve"],
)
def test_what_was_fitted_otherwise_makes_a_whole_fit(
    rows: Float32Array, live: Bundle, change: dict[str, dict[str, object]]
) -> None:
    before = Bundle(replace(live.manifest, **change), live.files)
    assert refit_changed(gallery_of(rows[:TALL, :3]), before, later()) is None


@pytest.mark.usefixtures("large")
def test_another_target_makes_a_whole_fit(rows: Float32Array, live: Bundle) -> None:
    assert refit_changed(gallery_of(rows[:TALL, :3]), live, later(target_fpir=0.02)) is None
    assert refit_changed(gallery_of(rows[:TALL, :3]), live, replace(later(), best_shot_fpir=0.05)) is None


def test_the_margin_of_best_shots_is_served(rows: Float32Array) -> None:
    bundle = fit_bundle(gallery_of(rows[:40, :3]), request(curve=CURVE, best_shot_fpir=0.05))
    assert load_matcher(bundle).operating.best_shot_margin == bundle.manifest.operating["best_shot_margin"] > 0.01
    assert load_matcher(fitted(gallery_of(rows[:40, :3]), curve=CURVE)).operating.best_shot_margin == 0.0


def test_a_small_gallery_makes_a_whole_fit(rows: Float32Array, live: Bundle) -> None:
    """Below a thousand people, which 150 are."""
    assert refit_changed(gallery_of(rows[:TALL, :3]), live, later()) is None


@pytest.mark.usefixtures("large")
def test_the_empty_model_makes_a_whole_fit(rows: Float32Array) -> None:
    nobody = fitted(gallery_of(rows[:0, :3]), curve=CURVE)
    assert refit_changed(gallery_of(rows[:TALL, :3]), nobody, later()) is None


@pytest.fixture(scope="module")
def live_with_a_stranger(rows: Float32Array) -> tuple[Gallery, Bundle]:
    """Person 30 has a stranger's photograph beside three of theirs, which the whole fit has set aside."""
    stranger = embeddings(1, 1, seed=99)[0, 0]
    gallery = with_photo(gallery_of(rows[:TALL, :3]), 30, stranger, "030.stranger")
    bundle = fitted(gallery, curve=CURVE)
    assert [one["template_id"] for one in bundle.manifest.set_aside] == ["030.stranger"]
    return gallery, Bundle(Manifest.from_json(bundle.manifest.to_json()), bundle.files)


@pytest.mark.usefixtures("large")
def test_what_the_whole_fit_set_aside_stays_out(
    rows: Float32Array, live_with_a_stranger: tuple[Gallery, Bundle]
) -> None:
    gallery, before = live_with_a_stranger
    bundle = refit_changed(with_photo(gallery, 30, rows[30, 3], "030.new"), before, later())
    assert bundle is not None
    assert bundle.manifest.set_aside == before.manifest.set_aside
    assert bundle.manifest.templates["person_030"] == 4, "of five"
    assert answers(load_matcher(bundle), embeddings(1, 1, seed=99)[0]) == [UNKNOWN]


@pytest.mark.usefixtures("large")
def test_nothing_is_left_of_whoever_left_in_what_was_set_aside(live_with_a_stranger: tuple[Gallery, Bundle]) -> None:
    gallery, before = live_with_a_stranger
    bundle = refit_changed(without(gallery, 30), before, later())
    assert bundle is not None
    assert b"person_030" not in bundle.manifest.to_json()


@pytest.mark.usefixtures("large")
def test_what_an_operator_keeps_since_is_used_in_a_refit(
    rows: Float32Array, live_with_a_stranger: tuple[Gallery, Bundle]
) -> None:
    gallery, before = live_with_a_stranger
    gallery = with_photo(gallery, 30, rows[30, 3], "030.new")
    kept = np.array([name == "030.stranger" for name in gallery.template_ids])
    bundle = refit_changed(replace(gallery, kept=kept), before, later())
    assert bundle is None or bundle.manifest.templates["person_030"] == 5


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("person", [30, TALL - 1])
def test_somebody_of_whom_only_what_was_set_aside_is_left(person: int, rows: Float32Array, live: Bundle) -> None:
    """The right photographs were deleted. Nobody else's may be taken for theirs."""
    stranger = embeddings(1, 1, seed=99)[0, 0]
    gallery = with_photo(gallery_of(rows[:TALL, :3]), person, stranger, "stranger")
    aside = [
        {"person_id": f"person_{person:03d}", "template_id": "stranger", "reason": "unlike_own_person", "with": None}
    ]
    before = Bundle(replace(live.manifest, people=gallery.states(), set_aside=aside), live.files)
    left = gallery.only((gallery.people != person) | (np.array(gallery.template_ids) == "stranger"))
    bundle = refit_changed(left, before, later())
    if bundle is not None:
        model = load_matcher(bundle)
        others = [row for row in range(TALL) if row != person]
        assert answers(model, rows[others, 3]) == [model.person_ids[row] for row in others]
        assert model.person_ids[person] not in answers(model, rows[others, 0])
        assert bundle.manifest.templates[f"person_{person:03d}"] == 1


# What is read


def test_templates_are_stacked_by_person_and_then_by_id() -> None:
    stored = [template("bob", unit(0, 1)), template("ann", unit(1, 0)), template("bob", unit(1, 1))]
    stored[2] = replace(stored[2], kept=True)
    gallery = gather(iter(stored), "state", 2)
    assert gallery.person_ids == ("ann", "bob") and gallery.count == 2 and gallery.state == "state"
    assert gallery.people.tolist() == [0, 1, 1]
    bobs = sorted((stored[0], stored[2]), key=lambda one: one.template_id)
    assert gallery.template_ids == (stored[1].template_id, *(one.template_id for one in bobs))
    assert np.array_equal(gallery.embeddings, np.stack([unit(1, 0), *(one.embedding for one in bobs)]))
    assert gallery.kept is not None and gallery.kept.tolist() == [False, *(one.kept for one in bobs)]
    mixed = gather(iter(stored[::-1]), "state", 2)
    assert np.array_equal(mixed.embeddings, gallery.embeddings) and mixed.template_ids == gallery.template_ids


def test_a_gallery_is_called_by_the_hash_of_what_was_read() -> None:
    stored = [template("bob", unit(0, 1)), template("ann", unit(1, 0))]
    state = gather(iter(stored), None, 2).state
    assert state == gallery_hash([(one.person_id, one.template_id) for one in stored])
    assert gather(iter(stored[:1]), None, 2).state != state


def test_a_template_of_another_dimension_is_refused_by_name() -> None:
    odd = template("ann", unit(1, 0, 0))
    with pytest.raises(InvalidInput, match=odd.template_id):
        gather(iter([odd]), "state", 2)


def test_no_templates_are_an_empty_gallery_of_the_right_width() -> None:
    gallery = gather(iter([]), "state", 7)
    assert gallery.embeddings.shape == (0, 7) and gallery.count == 0 and gallery.states() == {}


def test_a_persons_state_changes_with_their_templates_and_with_nobody_elses() -> None:
    gallery = gallery_of(embeddings(3, 2))
    before = gallery.states()
    after = with_photo(gallery, 1, gallery.embeddings[0], "one more").states()
    assert {person for person in before if before[person] != after[person]} == {"person_001"}
    order = np.array([5, 3, 1, 0, 2, 4])
    mixed = replace(
        gallery, people=gallery.people[order], template_ids=tuple(gallery.template_ids[row] for row in order)
    )
    assert mixed.states() == before
    assert replace(gallery, template_ids=()).states() == {}


def test_a_gallery_of_some_templates_keeps_their_names() -> None:
    gallery = gallery_of(embeddings(3, 2))
    part = gallery.only(np.array([True, False, True, True, False, True]))
    assert part.template_ids == ("000.0", "001.0", "001.1", "002.1")
    assert part.people.tolist() == [0, 1, 1, 2] and part.person_ids == gallery.person_ids
    assert np.array_equal(part.embeddings, gallery.embeddings[[0, 2, 3, 5]])
