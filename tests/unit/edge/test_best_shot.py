"""Which shots of a track are sent, and when."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from edge_uploader.selection.best_shot import BestShotOptions, BestShots, worth
from shared.domain import Quality

GOOD = Quality(size_px=100, sharpness=100, yaw=0.0, brightness=128, confidence=0.95)


def offer(shots, *views):
    """Offers (worth, at_s) pairs; what was sent at once, as the time it was taken."""
    return [shot.payload for value, at_s in views for shot in shots.offer(value, at_s, lambda at_s=at_s: at_s)]


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("size_px", 40),
        ("sharpness", 5),
        ("yaw", 0.8),
        ("yaw", -0.8),
        ("yaw", None),
        ("brightness", 20),
        ("brightness", 245),
        ("confidence", 0.5),
    ],
)
def test_every_bad_property_lowers_the_worth(change, value):
    assert worth(dataclasses.replace(GOOD, **{change: value}), 1.0) < 0.85 * worth(GOOD, 1.0)


def test_a_face_cut_by_the_frame_or_looking_down_is_worth_less():
    assert worth(GOOD, 0.7) < 0.5 * worth(GOOD, 1.0)
    down = dataclasses.replace(GOOD, pitch=0.17)
    assert worth(down, 1.0) < 0.65 * worth(dataclasses.replace(GOOD, pitch=0.0), 1.0)
    assert worth(dataclasses.replace(GOOD, pitch=-0.17), 1.0) == worth(down, 1.0)


def test_worth_is_zero_for_no_picture_and_never_over_one():
    assert worth(Quality(0, 0, None, 0, 0), 0.0) == 0.0
    assert worth(Quality(1e4, 1e6, 0, 128, 1.0), 1.0) <= 1.0


def test_the_first_good_shot_goes_at_once():
    assert offer(BestShots(BestShotOptions(good_enough=0.4)), (0.2, 0.0), (0.45, 0.1), (0.5, 0.2)) == [0.1]


def test_without_a_good_one_the_best_goes_after_a_while():
    shots = BestShots(BestShotOptions(good_enough=0.9, first_after_s=1.0, spacing_s=0.2))
    assert offer(shots, (0.1, 0.0), (0.3, 0.5), (0.2, 1.1)) == [0.5]


def test_a_clearly_better_one_goes_without_waiting_for_the_end():
    shots = BestShots(BestShotOptions(shots=3, good_enough=0.3, spacing_s=0.5))
    assert offer(shots, (0.3, 0.0), (0.35, 1.0), (0.6, 2.0)) == [0.0, 2.0]


def test_one_that_is_hardly_better_waits_for_the_end():
    shots = BestShots(BestShotOptions(shots=3, good_enough=0.3, spacing_s=0.5))
    assert offer(shots, (0.5, 0.0), (0.55, 1.0)) == [0.0]
    assert [shot.payload for shot in shots.finish()] == [1.0]


def test_never_more_than_the_limit_and_the_best_of_them():
    shots = BestShots(BestShotOptions(shots=3, good_enough=0.9, first_after_s=99, spacing_s=0.1))
    views = [(0.5 + 0.02 * (i % 7), i * 0.3) for i in range(50)]
    sent = offer(shots, *views)
    ended = shots.finish()
    assert sent == []
    assert [shot.worth for shot in ended] == pytest.approx([0.62] * 3)


def test_shots_are_apart_in_time():
    shots = BestShots(BestShotOptions(shots=5, good_enough=0.5, spacing_s=1.0))
    sent = offer(shots, *[(0.6 + i * 0.01, i * 0.1) for i in range(40)])
    times = sorted(sent + [shot.payload for shot in shots.finish()])
    assert len(times) >= 3
    assert min(np.diff(times)) >= 1.0 - 1e-9


def test_of_every_track_something_is_sent_however_poor():
    shots = BestShots(BestShotOptions(good_enough=0.9, first_after_s=99))
    offer(shots, (0.01, 0.0), (0.02, 0.7))
    assert [shot.payload for shot in shots.finish()][0] == 0.7


def test_poor_ones_do_not_go_beside_a_good_one():
    shots = BestShots(BestShotOptions(good_enough=0.5))
    offer(shots, (0.8, 0.0), (0.2, 1.0), (0.3, 2.0))
    assert shots.finish() == []


def test_a_shot_is_made_only_when_it_is_kept():
    made = []
    shots = BestShots(BestShotOptions(shots=2, good_enough=0.5, spacing_s=0.5))
    for value, at_s in [(0.8, 0.0), (0.7, 0.1), (0.1, 1.0), (0.6, 1.1), (0.5, 1.2)]:
        shots.offer(value, at_s, lambda at_s=at_s: made.append(at_s))
    assert made == [0.0, 1.0, 1.1]


def test_somebody_who_stays_is_sent_again_after_the_period():
    shots = BestShots(BestShotOptions(shots=2, good_enough=0.5, spacing_s=0.5, refresh_s=10))
    times = offer(shots, *[(0.6, float(i)) for i in range(31)])
    # One at once and one at the end of each of three periods, and the one that begins the fourth.
    assert len(times) == 7
    assert [t for t in times if t >= 10][0] <= 10


def test_finish_forgets():
    shots = BestShots(BestShotOptions(good_enough=0.9))
    offer(shots, (0.5, 0.0))
    assert len(shots.finish()) == 1
    assert shots.finish() == []
