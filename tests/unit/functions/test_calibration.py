"""The threshold for a stated rate: what the curve, the gallery's own people and the site's unknown faces say.

Strangers are simulated with an exponential tail, so that the rate at any threshold is known: exp(-(t - BASE) / TAIL).
"""

from __future__ import annotations

import json

import numpy as np
import pytest

from functions.train.calibration import (
    BULK,
    CURVE_ERRORS,
    MIN_VISITS,
    MOST_SHIFT,
    STATED_SIZES,
    STRANGER_SHARE,
    Calibration,
    Site,
    Unknowns,
    calibrate,
    site_of,
)
from functions.train.openset import NO_TRIALS, Trials
from shared.matching.impostors import ImpostorCurve
from shared.matching.model import Operating
from shared.vision.assets import load_registry

BASE, TAIL = 0.2, 0.06
FLAT = ImpostorCurve(BASE, 0.0, TAIL, 0.0, 0.0, 0.0)
"""The truth of the simulation, in a gallery of any size."""
RISING = ImpostorCurve(BASE, 0.03, TAIL, 0.0, 0.0, 0.0)
FALLBACK = Operating(0.5, 20.0, 0.5)
PEOPLE = 400
"""The largest that a curve speaks of without going on as a straight line (`impostors.MOST_PEOPLE`)."""


def simulated(
    people: int,
    seed: int = 0,
    *,
    gallery: int = PEOPLE,
    moved: float = 0.0,
    genuine: tuple[float, float] = (0.7, 0.1),
    genuine_trials: int = 400,
) -> Trials:
    """Strangers of one photograph each, moved by so much against the truth; people of normal similarities."""
    random = np.random.default_rng(seed)
    return Trials(
        (BASE + moved + random.exponential(TAIL, people)).astype(np.float32),
        np.arange(people),
        random.normal(*genuine, genuine_trials).astype(np.float32),
        np.ones(genuine_trials, dtype=bool),
        gallery,
    )


def true_rate(threshold: float) -> float:
    return float(np.exp(-(threshold - BASE) / TAIL))


def calibrated(
    trials: Trials,
    *,
    curve: ImpostorCurve | None = FLAT,
    people: int = PEOPLE,
    target: float = 0.01,
    site: Site | None = None,
) -> Calibration:
    return calibrate(trials, people, target_fpir=target, curve=curve, fallback=FALLBACK, site=site or Site())


# What the threshold rests on


@pytest.mark.parametrize("people", [1, 5, 400])
def test_without_people_to_leave_out_the_curve_alone_speaks(people: int) -> None:
    found = calibrated(NO_TRIALS, curve=RISING, people=people)
    assert found.operating.threshold == pytest.approx(RISING.similarity(people, 0.01))
    assert found.facts["weight_of_own_people"] == 0.0
    assert found.facts["calibrated"] is False and "fewer than 100 people" in found.facts["why"]
    assert found.facts["fpir_of_trials"] is None and "tpir" not in found.facts
    low, high = found.facts["fpir_interval_95"]
    assert low < 0.01 < high


def test_without_a_curve_the_gallerys_own_people_alone_speak() -> None:
    trials = simulated(500)
    found = calibrated(trials, curve=None)
    assert found.operating.threshold == pytest.approx(trials.quantile(0.01))
    assert found.facts["weight_of_own_people"] == 1.0 and found.facts["calibrated"] is True
    assert "why" not in found.facts and "thresholds" not in found.facts


@pytest.mark.parametrize(("people", "weight"), [(100, 1 / 4), (300, 1 / 2), (900, 3 / 4)])
def test_both_weigh_by_the_errors_that_they_rest_on(people: int, weight: float) -> None:
    """1 % of 300 people are the three errors that the curve counts for: half and half."""
    assert CURVE_ERRORS == 3.0
    trials = simulated(people, moved=0.05)
    found = calibrated(trials)
    own, usual = trials.quantile(0.01), FLAT.similarity(PEOPLE, 0.01)
    assert abs(own - usual) > 0.02
    assert found.operating.threshold == pytest.approx(weight * own + (1 - weight) * usual, abs=1e-6)
    assert found.facts["weight_of_own_people"] == pytest.approx(weight, abs=1e-3)


def test_photographs_of_one_person_are_no_further_people() -> None:
    one = simulated(300)
    tenfold = Trials(np.repeat(one.strangers, 10), np.repeat(one.who, 10), one.genuine, one.first, one.gallery)
    single, many = calibrated(one), calibrated(tenfold)
    assert many.operating.threshold == pytest.approx(single.operating.threshold, abs=1e-6)
    assert many.facts["fpir_interval_95"] == pytest.approx(single.facts["fpir_interval_95"], abs=1e-6)
    assert (many.facts["stranger_people"], many.facts["stranger_trials"]) == (300, 3_000)


@pytest.mark.parametrize(
    ("rate", "margin_of"), [("best_shot_fpir", "best_shot_margin"), ("visit_fpir", "visit_margin")]
)
@pytest.mark.parametrize("curve", [RISING, FLAT, None])
def test_the_margin_of_best_shots_lies_between_two_shares_of_strangers(
    curve: ImpostorCurve | None, rate: str, margin_of: str
) -> None:
    trials = simulated(2_000)

    def margin(share: float) -> float:
        how = {"curve": curve, "fallback": FALLBACK, "site": Site()}
        found = calibrate(trials, PEOPLE, target_fpir=0.01, **{rate: share}, **how)  # type: ignore[arg-type]
        assert found.facts[rate] == share
        assert found.operating.threshold == calibrated(trials, curve=curve).operating.threshold, "the other stays"
        margins = {name: getattr(found.operating, name) for name in ("best_shot_margin", "visit_margin")}
        own = margins.pop(margin_of)
        assert list(margins.values()) == [0.0]
        return float(own)

    assert margin(0.0) == margin(0.01) == 0.0
    # Strangers' similarities fall off exponentially: five times as many are TAIL · ln 5 further down.
    assert margin(0.05) == pytest.approx(TAIL * np.log(5), rel=0.15)
    assert margin(0.02) < margin(0.05)


@pytest.mark.parametrize(("people", "share"), [(1, 0.05), (20, 0.05), (77, 0.0998), (300, 0.15), (5_000, 0.15)])
def test_shots_that_agree_tell_less_the_fewer_people_there_are_to_agree_on(people: int, share: float) -> None:
    def margins(**rates: float) -> tuple[float, float]:
        how = {"curve": RISING, "fallback": FALLBACK, "site": Site()}
        found = calibrate(simulated(2_000), people, target_fpir=0.01, **rates, **how)  # type: ignore[arg-type]
        return found.operating.best_shot_margin, found.operating.visit_margin

    single, together = margins(best_shot_fpir=0.05, visit_fpir=0.15)
    assert together == pytest.approx(margins(best_shot_fpir=share)[0], abs=2e-3)
    assert together >= single
    for off in (0.0, 0.05):
        assert margins(best_shot_fpir=0.05, visit_fpir=off) == (single, 0.0), "no lower than a single one"


@pytest.mark.parametrize(("people", "stated"), [(99, False), (100, True)])
def test_a_rate_is_stated_once_an_error_is_expected(people: int, stated: bool) -> None:
    """1 % of 100 people is one."""
    for curve in (FLAT, None):
        found = calibrated(simulated(people), curve=curve)
        assert found.facts["calibrated"] is stated
        assert ("why" in found.facts) is not stated


@pytest.mark.parametrize(("target", "people"), [(0.01, "100"), (0.003, "334"), (0.001, "1000")])
def test_how_many_people_a_rate_takes_is_said(target: float, people: str) -> None:
    for curve in (FLAT, None):
        assert f"fewer than {people} people" in calibrated(simulated(20), curve=curve, target=target).facts["why"]


def test_without_a_curve_and_people_enough_the_default_holds() -> None:
    found = calibrated(NO_TRIALS, curve=None, people=5)
    assert (found.operating.threshold, found.operating.midpoint, found.operating.slope) == (0.5, 0.5, 20.0)
    assert found.facts["calibrated"] is False and "default" in found.facts["why"]


@pytest.mark.parametrize("moved", [-0.3, 0.4])
def test_the_default_is_raised_above_every_stranger_that_was_seen(moved: float) -> None:
    trials = simulated(20, moved=moved)
    found = calibrated(trials, curve=None)
    assert found.operating.threshold == max(0.5, float(trials.strangers.max())) == found.operating.midpoint
    assert found.facts["calibrated"] is False


def test_a_larger_gallery_than_the_trials_met_names_more_strangers() -> None:
    """The trials' galleries lacked the people left out: the curve says what the rest adds, else their own tail does."""
    trials = simulated(2_000, gallery=100)
    own = trials.quantile(0.01)
    weight = 20 / 23
    usual = RISING.similarity(400, 0.01)
    grown = own + 0.03 * np.log(4)
    found = calibrated(trials, curve=RISING, people=400)
    assert found.operating.threshold == pytest.approx(weight * grown + (1 - weight) * usual, abs=1e-6)
    # Without a curve: four times the comparisons, ln 4 of the tail
    without = calibrated(trials, curve=None, people=400)
    assert without.operating.threshold == pytest.approx(own + TAIL * np.log(4), abs=0.02)


def test_the_target_moves_the_threshold() -> None:
    thresholds = [calibrated(simulated(500), target=target).operating.threshold for target in (0.1, 0.02, 0.005)]
    assert thresholds == sorted(thresholds)
    for target, threshold in zip((0.1, 0.02, 0.005), thresholds, strict=True):
        assert true_rate(threshold) == pytest.approx(target, rel=0.5)


@pytest.mark.parametrize("embedder", ["facenet", "sface"])
def test_thresholds_for_other_sizes_rise_with_the_size(embedder: str) -> None:
    table = load_registry().embedder[embedder].impostors
    assert table is not None
    curve = ImpostorCurve(**table.model_dump())
    found = calibrated(simulated(200), curve=curve, people=100)
    stated = found.facts["thresholds"]
    assert list(stated) == [str(size) for size in STATED_SIZES]
    values = list(stated.values())
    assert all(one < other for one, other in zip(values, values[1:], strict=False)), values
    assert stated["100"] == pytest.approx(found.operating.threshold, abs=1e-4)


# What it is worth


@pytest.mark.parametrize("people", [20, 100, 500])
def test_the_interval_contains_the_true_rate_about_as_often_as_it_says(people: int) -> None:
    """95 %; of 150 simulations at least 88 % do by chance alone in all but one case of a thousand (binomial)."""
    inside = 0
    for seed in range(150):
        found = calibrated(simulated(people, seed))
        low, high = found.facts["fpir_interval_95"]
        inside += low <= true_rate(found.operating.threshold) <= high
    assert inside >= 0.88 * 150


def test_the_interval_narrows_with_people() -> None:
    widths = []
    for people in (20, 100, 500, 3_000):
        intervals = [calibrated(simulated(people, seed)).facts["fpir_interval_95"] for seed in range(20)]
        widths.append(np.mean([high - low for low, high in intervals]))
    assert widths == sorted(widths, reverse=True)
    assert widths[-1] < widths[0] / 2


@pytest.mark.parametrize("curve", [FLAT, None])
def test_of_many_people_the_rate_is_what_was_asked(curve: ImpostorCurve | None) -> None:
    """30 errors are expected of 3,000 people: 18 % of scatter each, 4 % of the mean of twenty."""
    rates = [true_rate(calibrated(simulated(3_000, seed), curve=curve).operating.threshold) for seed in range(20)]
    assert np.mean(rates) == pytest.approx(0.01, rel=0.15)


def test_own_people_overrule_a_curve_that_is_wrong_for_the_site() -> None:
    """Strangers half a tenth nearer than usual: with more people left out the rate comes back to what was asked."""

    def rate(people: int) -> float:
        thresholds = [calibrated(simulated(people, seed, moved=0.05)).operating.threshold for seed in range(20)]
        return float(np.mean([true_rate(threshold - 0.05) for threshold in thresholds]))

    assert rate(20) > 0.018
    assert rate(3_000) < 0.013


def test_the_shown_tpir_counts_who_is_named_rightly() -> None:
    trials = simulated(500)
    wrong = trials.first.copy()
    wrong[:100] = False
    fewer = Trials(trials.strangers, trials.who, trials.genuine, wrong, trials.gallery)
    found = calibrated(fewer)
    named = (trials.genuine >= found.operating.threshold) & wrong
    assert found.facts["tpir"] == pytest.approx(named.mean())
    assert found.facts["tpir"] < calibrated(trials).facts["tpir"]


@pytest.mark.parametrize("genuine", [(0.7, 0.1), (0.6, 0.12)])
@pytest.mark.parametrize("curve", [FLAT, None])
def test_confidence_is_how_often_it_is_right(genuine: tuple[float, float], curve: ImpostorCurve | None) -> None:
    """Of faces that are nine strangers to one person. A logistic through two points cannot do better than a tenth.

    Above 0.9, where an alert is decided, it is right to two points in a hundred.
    """
    operating = calibrated(simulated(2_000, genuine=genuine, genuine_trials=2_000), curve=curve).operating
    random, faces = np.random.default_rng(9), 400_000
    enrolled = np.arange(faces) >= STRANGER_SHARE * faces
    strangers = BASE + random.exponential(TAIL, faces)
    similarity = np.where(enrolled, random.normal(*genuine, faces), strangers).astype(np.float32)
    confidence = operating.confidence(similarity)
    for low in (0.4, 0.5, 0.6, 0.7, 0.8):
        about = (confidence >= low) & (confidence < low + 0.1)
        assert about.sum() > 500
        assert enrolled[about].mean() == pytest.approx(confidence[about].mean(), abs=0.1), low
    sure = confidence >= 0.9
    assert enrolled[sure].mean() == pytest.approx(confidence[sure].mean(), abs=0.02)
    assert confidence[~enrolled].mean() < 0.1


def test_without_a_genuine_trial_confidence_still_rises_through_the_threshold() -> None:
    trials = simulated(500, genuine_trials=0)
    for found in (calibrated(trials), calibrated(NO_TRIALS), calibrated(trials, curve=None)):
        low, high = found.operating.confidence(np.array([0.1, 0.95], np.float32))
        assert found.operating.slope >= 1.0 and low < 0.5 < high
        assert abs(found.operating.midpoint - found.operating.threshold) < 0.2


# The site's unknown faces


def unknown_faces(count: int, *, moved: float = 0.0, camera: str = "site/door", seed: int = 0) -> tuple:
    """Similarities of strangers of the simulation, as many visits, all on one camera."""
    random = np.random.default_rng(seed)
    similarities = (BASE + moved + random.exponential(TAIL, count)).astype(np.float32)
    return similarities, [camera] * count, [f"{camera}/{number}" for number in range(count)]


def site(*parts: tuple, curve: ImpostorCurve | None = FLAT) -> Site:
    similarities = np.concatenate([part[0] for part in parts])
    unknowns = Unknowns(
        np.zeros((len(similarities), 4), np.float32),
        [camera for part in parts for camera in part[1]],
        [visit for part in parts for visit in part[2]],
    )
    return site_of(similarities, unknowns, PEOPLE, curve)


def test_usual_strangers_move_nothing() -> None:
    """A tenth's quantile of 3,000 exponentials scatters by TAIL · 3 / √3,000 = 0.003."""
    found = site(unknown_faces(3_000))
    assert abs(found.shift) < 0.01 and found.visits == 3_000


def test_a_site_where_all_come_nearer_has_a_higher_threshold() -> None:
    found = site(unknown_faces(3_000, moved=0.05))
    assert found.shift == pytest.approx(0.05, abs=0.01)
    moved, usual = calibrated(NO_TRIALS, site=found), calibrated(NO_TRIALS)
    assert moved.operating.threshold == pytest.approx(usual.operating.threshold + found.shift)
    assert moved.facts["site_shift"] == found.shift and moved.facts["unknown_visits"] == 3_000


def test_the_shift_is_where_the_bulk_lies_and_not_the_tail() -> None:
    """Strangers who came near the threshold were named: what is above the tenth, save its edge, is not looked at."""
    similarities, cameras, visits = unknown_faces(1_000)
    bulk = np.quantile(similarities, 1 - BULK)
    further = np.where(similarities > bulk + 0.02, similarities + 0.3, similarities).astype(np.float32)
    assert site((further, cameras, visits)).shift == pytest.approx(site((similarities, cameras, visits)).shift)


@pytest.mark.parametrize(("moved", "shift"), [(0.5, MOST_SHIFT), (-0.5, -MOST_SHIFT)])
def test_nothing_moves_a_threshold_further_than_strangers_can(moved: float, shift: float) -> None:
    assert site(unknown_faces(500, moved=moved)).shift == pytest.approx(shift)


@pytest.mark.parametrize(("visits", "asked"), [(MIN_VISITS - 1, False), (MIN_VISITS, True)])
def test_a_site_is_asked_from_so_many_visits(visits: int, asked: bool) -> None:
    found = site(unknown_faces(visits, moved=0.08))
    assert (found.shift > 0.05) is asked and found.shift * (not asked) == 0.0
    assert found.visits == visits, "the manifest says how many there were"
    assert bool(found.cameras) is asked


def test_a_camera_in_the_dark_has_a_threshold_of_its_own() -> None:
    """Drawn half way to the site's where it has just enough visits; 1,200 say four fifths."""
    found = site(
        unknown_faces(3_000),
        unknown_faces(1_200, moved=0.08, camera="site/dark", seed=1),
        unknown_faces(50, camera="x"),
    )
    assert set(found.cameras) == {"site/door", "site/dark"}, "fifty visits say nothing"
    shift, visits = found.cameras["site/dark"]
    assert visits == 1_200
    assert shift == pytest.approx(0.8 * 0.08 + 0.2 * found.shift, abs=0.01)
    operating = calibrated(simulated(500), site=found).operating
    assert operating.at("site/dark") > operating.at("site/door") + 0.03
    assert operating.at("site/dark") - operating.threshold == pytest.approx(shift - found.shift)
    assert operating.at("x") == operating.at(None) == operating.threshold


@pytest.mark.parametrize(("visits", "own"), [(MIN_VISITS - 1, False), (MIN_VISITS, True)])
def test_a_camera_is_asked_from_so_many_visits(visits: int, own: bool) -> None:
    found = site(unknown_faces(2_000), unknown_faces(visits, moved=0.08, camera="site/dark", seed=1))
    assert ("site/dark" in found.cameras) is own


def test_a_track_seen_a_thousand_times_counts_once() -> None:
    similarities, cameras, visits = unknown_faces(400)
    stays = (np.full(1_000, 0.95, np.float32), ["site/door"] * 1_000, ["site/door/stays"] * 1_000)
    with_it, without = site((similarities, cameras, visits), stays), site((similarities, cameras, visits))
    assert with_it.visits == 401 and with_it.cameras["site/door"][1] == 401
    assert with_it.shift == pytest.approx(without.shift, abs=0.005)
    alone = site(stays)
    assert (alone.visits, alone.shift, dict(alone.cameras)) == (1, 0.0, {})


def test_without_a_curve_nobody_knows_where_strangers_should_be() -> None:
    assert site(unknown_faces(1_000, moved=0.08), curve=None).shift == 0.0


def test_no_unknown_faces_are_no_site() -> None:
    found = site_of(np.zeros(0, np.float32), Unknowns(np.zeros((0, 4), np.float32), [], []), PEOPLE, FLAT)
    assert (found.shift, found.visits, dict(found.cameras)) == (0.0, 0, {})


def test_what_is_stated_is_plain_json() -> None:
    dark = site(unknown_faces(2_000), unknown_faces(500, moved=0.08, camera="site/dark"))
    for found in (calibrated(simulated(500), site=dark), calibrated(NO_TRIALS), calibrated(NO_TRIALS, curve=None)):
        assert json.loads(json.dumps(found.facts, allow_nan=False)) == found.facts
