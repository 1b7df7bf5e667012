"""Which shots of a track are sent, and when."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_uploader.selection.best_shot import BestShotOptions, BestShots, defect, shares, worth
from shared.domain import Quality

GOOD = Quality(size_px=100, sharpness=100, yaw=0.0, brightness=128, confidence=0.95)


def offer(shots, *views):
    """Offers (worth, at_s) pairs, or triples with the face's size; what was sent at once, as the time it was taken."""
    return [
        shot.payload for worth, at_s, *size in views for shot in shots.offer(worth, at_s, lambda at=at_s: at, *size)
    ]


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("sharpness", 5),
        ("yaw", 0.8),
        ("yaw", -0.8),
        ("yaw", None),
        ("brightness", 20),
        ("brightness", 245),
        ("contrast", 5.0),
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


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"size_px": 30, "sharpness": 0.6}, "too_small"),
        ({"sharpness": 0.6}, "too_blurred"),
        ({"confidence": 0.25}, "covered"),
        ({"contrast": 0.2, "confidence": 0.7, "sharpness": 30}, "low_contrast"),
        ({"brightness": 2, "sharpness": 10.0, "confidence": 0.65, "size_px": 40}, "too_dark"),
        ({"brightness": 254, "sharpness": 10.0, "confidence": 0.65, "size_px": 40}, "too_bright"),
        ({"yaw": 1.0, "pitch": 0.3, "confidence": 0.55, "sharpness": 15}, "turned_away"),
        ({}, None),
    ],
)
def test_the_defect_names_what_spoils_a_shot_most(change, cause):
    assert defect(dataclasses.replace(GOOD, **change), 1.0) == cause
    assert defect(GOOD, 0.2) == "cut_off"


def test_the_worth_is_the_product_of_its_shares():
    assert worth(GOOD, 0.9) == pytest.approx(np.prod(list(shares(GOOD, 0.9).values())))


def test_the_first_good_shot_is_the_best_of_half_a_second():
    shots = BestShots(BestShotOptions(good_enough=0.4, hold_s=0.5))
    assert offer(shots, (0.45, 0.0), (0.6, 0.2), (0.5, 0.4), (0.55, 0.5)) == [0.2]


def test_without_a_good_one_the_best_goes_after_a_while():
    shots = BestShots(BestShotOptions(good_enough=0.9, first_after_s=1.0, spacing_s=0.2))
    assert offer(shots, (0.1, 0.0), (0.3, 0.5), (0.2, 1.1)) == [0.5]


def test_what_can_hardly_be_recognised_waits_for_what_can():
    options = BestShotOptions(unusable_after_s=3.0, first_after_s=1.0, hold_s=0.5)
    assert offer(BestShots(options), (0.05, 0.0), (0.06, 1.5), (0.04, 2.9)) == []
    assert offer(BestShots(options), (0.05, 0.0), (0.06, 1.5), (0.04, 3.0)) == [1.5], "nothing better came"
    # The window of the usable view begins with it: no better one is missed for the time that the first has waited.
    assert offer(BestShots(options), (0.05, 0.0), (0.2, 2.8), (0.3, 3.5), (0.1, 3.8)) == [3.5]


def test_whoever_takes_anything_as_good_enough_waits_for_nothing():
    shots = BestShots(BestShotOptions(good_enough=0.0, hold_s=0.5))
    assert offer(shots, (0.05, 0.0), (0.04, 0.5)) == [0.0]


def test_of_a_face_that_is_lost_the_best_goes_however_poor():
    shots = BestShots(BestShotOptions())
    assert offer(shots, (0.02, 0.0), (0.04, 0.3)) == []
    assert [shot.payload for shot in shots.flush()] == [0.3]


def test_what_is_held_goes_when_its_time_has_come_though_the_face_is_not_seen():
    shots = BestShots(BestShotOptions(good_enough=0.4, hold_s=0.5))
    assert offer(shots, (0.5, 0.0)) == []
    assert shots.due(0.4) == []
    assert [shot.payload for shot in shots.due(0.5)] == [0.0]
    assert shots.due(9.0) == []


def test_the_next_has_to_be_better_and_after_a_while_as_good_will_do():
    options = BestShotOptions(shots=3, good_enough=0.3, hold_s=0.0, spacing_s=0.5, rise=1.4, relax_s=2.0)
    assert offer(BestShots(options), (0.5, 0.0), (0.55, 0.5), (0.8, 1.0)) == [0.0, 1.0]
    assert offer(BestShots(options), (0.5, 0.0), (0.5, 1.0), (0.5, 2.0)) == [0.0, 2.0]
    two = (0.5, 0.0), (0.5, 2.0)
    assert offer(BestShots(options), *two, (0.2, 30.0)) == [0.0, 2.0], "poor ones do not go beside good ones"


def test_a_shot_does_not_stay_alone_while_there_is_anything_usable():
    options = BestShotOptions(hold_s=0.0, relax_s=4.0, alone_s=2.5, enough=1.0)
    assert offer(BestShots(options), (0.6, 0.0), (0.2, 2.4), (0.09, 2.6), (0.1, 3.0)) == [0.0, 3.0]
    assert offer(BestShots(options), (0.6, 0.0), (0.2, 2.5), (0.2, 5.0), (0.52, 6.6)) == [0.0, 2.5, 6.6], "two may"


def test_somebody_who_comes_nearer_is_sent_near_with_few_shots():
    """From 30 px and a blur on, for 8 s at 6 frames a second: the last shot is worth most of what the best view was."""
    shots = BestShots(BestShotOptions())
    views = [
        (worth(dataclasses.replace(GOOD, sharpness=3 * 10 ** (i / 48)), 1.0), i / 6, 30 * 1.04**i) for i in range(49)
    ]
    sent = offer(shots, *views)
    value = {at_s: value for value, at_s, _ in views}
    assert 3 <= len(sent) <= 4
    assert sent[0] <= 1.0
    assert value[sent[-1]] >= 0.7 * views[-1][0]


def test_whoever_comes_much_nearer_is_sent_once_more_though_it_was_enough():
    options = BestShotOptions(good_enough=0.2, hold_s=0.0, enough=0.6, relax_s=4.0, rise=2.0, nearer=2.0)
    two = [(0.3, 0.0, 50.0), (0.3, 4.0, 52.0)]
    assert offer(BestShots(options), *two, (0.8, 8.0, 103.0)) == [0.0, 4.0], "not yet twice as large"
    assert offer(BestShots(options), *two, (0.35, 8.0, 104.0)) == [0.0, 4.0], "no better than what was sent"
    assert offer(BestShots(options), *two, (0.8, 8.0)) == [0.0, 4.0], "nobody knows how large"
    near = (0.36, 8.0, 104.0), (0.9, 14.0, 300.0)
    assert offer(shots := BestShots(options), *two, *near) == [0.0, 4.0, 8.0], "once in a period"
    shots.finish()
    later = [(worth, 100.0 + at_s, size) for worth, at_s, size in (*two, *near)]
    assert offer(shots, *later) == [100.0, 104.0, 108.0]


def test_whoever_takes_a_track_over_is_compared_with_nobody_elses_size():
    shots = BestShots(BestShotOptions(hold_s=0.0, enough=0.6, nearer=2.0))
    assert offer(shots, (0.4, 0.0, 200.0), (0.4, 4.0, 200.0)) == [0.0, 4.0]
    shots.returned()
    assert offer(shots, (0.3, 5.0, 50.0), (0.3, 9.0, 50.0), (0.5, 13.0, 100.0)) == [5.0, 9.0, 13.0]


def test_of_a_face_that_is_well_seen_two_shots_are_enough():
    options = BestShotOptions(good_enough=0.2, hold_s=0.0, relax_s=1.0, enough=0.7)
    shots = BestShots(options)
    assert offer(shots, (0.4, 0.0), (0.4, 2.0), (0.9, 4.0), (0.9, 9.0)) == [0.0, 2.0]
    assert (shots.sent, shots.enough) == (2, True)
    shots.changed()
    assert offer(shots, (0.5, 10.0), (0.9, 20.0)) == [10.0], "once more, since it looks different"
    shots.finish()
    assert not shots.enough
    assert offer(BestShots(options), (0.8, 0.0), (0.8, 2.0), (0.9, 4.0)) == [0.0, 2.0], "one alone is not enough"
    assert offer(BestShots(options), (0.3, 0.0), (0.3, 2.0), (0.3, 4.0), (0.3, 6.0)) == [0.0, 2.0, 4.0]


def test_a_face_that_may_not_be_recognised_is_sent_again_and_again_up_to_the_most():
    options = BestShotOptions(
        shots=4, enough=0.6, hold_s=0.0, first_after_s=0.0, relax_s=60.0, doubtful=0.2, doubtful_s=1.5
    )
    times = [i / 2 for i in range(40)]
    assert offer(BestShots(options), *[(0.15, at_s) for at_s in times]) == [0.0, 1.5, 3.0], "the last is kept"
    poorer = [(0.15 - at_s / 200, at_s) for at_s in times]
    assert offer(BestShots(options), *poorer) == [0.0, 1.5, 3.0]
    near = [(0.15, at_s) for at_s in times[:20]] + [(0.5, 10.0)]
    assert offer(BestShots(options), *near) == [0.0, 1.5, 3.0, 10.0], "who comes near in the end"
    assert offer(BestShots(options), *[(0.25, at_s) for at_s in times]) == [0.0, 2.0], "as alone_s has it"


def test_after_the_first_what_can_hardly_be_recognised_waits_for_a_second_only():
    shots = BestShots(BestShotOptions(shots=5, first_after_s=1.0, unusable_after_s=3.0, doubtful_s=1.5))
    sent_at = [i / 4 for i in range(30) for _ in shots.offer(0.05, i / 4, lambda: None)]
    # The next view, of 3.25 s, a second later; and so on with the first 1.5 s or more after the one that was sent.
    assert sent_at == [3.0, 4.25, 5.75, 7.25]


@given(
    st.lists(st.tuples(st.floats(0, 1), st.floats(0.02, 1.5)), min_size=1, max_size=80),
    st.integers(1, 5),
    st.floats(0, 1),
)
def test_whatever_comes_the_limits_hold(views, most, good):
    """At most N, apart in time, each within its window, and something of every track."""
    options = BestShotOptions(shots=most, good_enough=good, hold_s=0.5, first_after_s=1.0, spacing_s=0.5)
    shots, now, taken, sent_at = BestShots(options), 0.0, [], []
    for value, step_s in views:
        now += step_s
        for shot in shots.offer(value, now, lambda now=now: now):
            taken.append(shot.payload)
            sent_at.append(now)
    held = [shot.payload for shot in shots.flush()]
    assert 1 <= len(taken + held) <= most
    assert taken + held == sorted(taken + held)
    assert all(later - earlier >= 0.5 - 1e-3 for earlier, later in itertools.pairwise(taken + held))
    # Nobody asked in between: the longest step, 1.5 s, may be added to the longest window, of views that are unusable.
    assert all(when - shot <= 3.0 + 1.5 + 1e-3 for shot, when in zip(taken, sent_at, strict=True))


def test_a_shot_is_made_only_when_it_is_kept():
    made = []
    shots = BestShots(BestShotOptions(shots=2, good_enough=0.5, hold_s=0.2, spacing_s=0.5, relax_s=1.0))
    for value, at_s in [(0.8, 0.0), (0.7, 0.1), (0.1, 1.0), (0.7, 1.1), (0.5, 1.2)]:
        shots.offer(value, at_s, lambda at_s=at_s: made.append(at_s))
    assert made == [0.0, 1.1]


def test_somebody_who_stays_is_sent_again_after_the_period():
    shots = BestShots(BestShotOptions(shots=2, good_enough=0.5, hold_s=0.0, spacing_s=0.5, relax_s=1.0, refresh_s=10))
    times = offer(shots, *[(0.6, float(i)) for i in range(31)])
    assert times == [0.0, 1.0, 10.0, 11.0, 20.0, 21.0, 30.0]


def test_finish_forgets_and_a_flush_does_not():
    shots = BestShots(BestShotOptions(shots=1, good_enough=0.9))
    offer(shots, (0.5, 0.0))
    assert len(shots.flush()) == 1
    assert shots.demand(5.0) == float("inf")
    assert shots.finish() == []
    assert shots.demand(5.0) == 0.0


def test_a_face_that_looks_different_may_be_sent_once_more():
    shots = BestShots(BestShotOptions(shots=2, good_enough=0.3, hold_s=0.0, spacing_s=0.5, relax_s=1.0))
    assert offer(shots, (0.6, 0.0), (0.6, 1.0), (0.6, 2.0)) == [0.0, 1.0]
    shots.changed()
    assert offer(shots, (0.4, 3.0), (0.6, 5.0)) == [3.0]
    shots.changed()
    assert offer(shots, (0.9, 9.0)) == []


def test_whoever_comes_back_again_and_again_is_sent_twice_the_most_in_a_period():
    shots = BestShots(BestShotOptions(shots=2, good_enough=0.1, hold_s=0.0))
    sent = offer(shots, (0.9, 0.0))
    for number in range(1, 20):
        shots.returned()
        sent += offer(shots, (0.9, 10.0 * number))
    assert len(sent) == 4
    assert offer(shots, (0.9, 301.0)) == [301.0], "a new period begins anew"


def test_a_turned_head_of_which_a_good_view_was_sent_is_not_doubtful():
    shots = BestShots(BestShotOptions(hold_s=0.0))
    views = [(0.38, 0.0), (0.38, 3.9)]
    assert offer(shots, *views) == [0.0, 3.9]
    shots.changed()
    assert offer(shots, (0.02, 8.0), (0.02, 9.2), (0.35, 10.0)) == [10.0]


def test_whoever_comes_back_different_does_not_pay_for_the_one_before():
    shots = BestShots(BestShotOptions(shots=4))
    assert offer(shots, *[(0.65, i / 6) for i in range(6)]) == [0.0]
    assert shots.returned() == []
    assert offer(shots, (0.08, 3.0), (0.08, 4.5), (0.3, 5.5), (0.3, 6.5)) == [5.5], (
        "waits for a usable view, as at first"
    )
    assert offer(shots, (0.5, 7.5), (0.5, 8.1)) == [7.5], "one alone was not enough of this one"


def test_what_is_held_of_one_goes_before_another_is_looked_at():
    shots = BestShots(BestShotOptions(shots=3, hold_s=0.5))
    assert offer(shots, (0.6, 0.0), (0.6, 0.5), (0.6, 3.9)) == [0.0]
    assert [shot.payload for shot in shots.returned()] == [3.9]
    assert offer(shots, (0.4, 5.0), (0.4, 5.6)) == [5.0]


def test_a_new_period_grants_anew_what_a_change_allows():
    shots = BestShots(BestShotOptions(shots=1, good_enough=0.1, hold_s=0.0))
    for began in (0.0, 20.0):
        assert offer(shots, (0.5, began), (0.5, began + 1.0)) == [began]
        shots.changed()
        assert offer(shots, (0.5, began + 6.0), (0.5, began + 12.0)) == [began + 6.0]
        shots.changed()
        assert offer(shots, (0.9, began + 14.0), (0.9, began + 15.0)) == []
        shots.finish()


def test_a_change_that_nobody_used_ends_with_the_period():
    shots = BestShots(BestShotOptions(shots=1, good_enough=0.1, hold_s=0.0))
    assert offer(shots, (0.5, 0.0)) == [0.0]
    shots.changed()
    shots.finish()
    assert offer(shots, (0.5, 20.0), (0.5, 26.0)) == [20.0]


def test_whoever_comes_back_looking_different_is_sent_each_time():
    """Somebody who came out where another went away, and whose view need not be as good."""
    shots = BestShots(BestShotOptions(shots=2, good_enough=0.1, hold_s=0.0, spacing_s=0.5))
    assert offer(shots, (0.9, 0.0), (0.9, 6.0), (0.9, 12.0)) == [0.0, 6.0]
    assert shots.returned() == []
    assert offer(shots, (0.2, 13.0)) == [13.0]
    assert shots.returned() == []
    assert offer(shots, (0.2, 15.0), (0.9, 16.0)) == [15.0], "four of two is the most"
    shots.changed()
    assert offer(shots, (0.9, 17.0), (0.9, 18.0)) == [17.0], "the one for a sudden change is still there"


def test_whoever_takes_over_a_track_gets_shots_of_their_own():
    """A track that passed to somebody who came nearer for seven seconds had one shot left, at its worst."""
    shots = BestShots(BestShotOptions(hold_s=0.0, shots=5, enough=5.0))
    assert len(offer(shots, *[(0.4, 6.0 * i) for i in range(4)])) == 4
    shots.returned()
    sent = offer(shots, *[(0.12 + 0.03 * i, 30.0 + i) for i in range(9)])
    assert len(sent) == 3
    assert sent[0] <= 31.0


def test_a_new_look_is_worth_two_shots_unless_one_is_good():
    views = [(0.45, 0.0), (0.45, 4.0)]
    for worth_of_look, at_s in ((0.5, [10.0]), (0.2, [10.0, 12.0])):
        shots = BestShots(BestShotOptions(hold_s=0.0, enough=0.7, alone_s=2.0, relax_s=4.0))
        assert offer(shots, *views) == [0.0, 4.0]
        assert shots.enough
        shots.changed()
        assert offer(shots, *[(worth_of_look, 10.0 + i) for i in range(5)])[:2] == at_s


def test_one_shot_of_a_new_look_does_not_stay_alone_while_somebody_walks_away():
    """Of somebody who crossed another's way and took the track over, one shot went, and none of 32 good views after."""
    shots = BestShots(BestShotOptions(hold_s=0.0, enough=0.7, alone_s=2.0, relax_s=4.0))
    assert offer(shots, (0.43, 0.0), (0.43, 4.0)) == [0.0, 4.0]
    shots.changed()
    away = [(0.29 - 0.01 * i, 5.0 + i / 2) for i in range(10)]
    assert offer(shots, *away) == [7.0, 9.0]
