"""The tracker: who is whom from frame to frame."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_uploader.selection.appearance import Appearance
from edge_uploader.selection.tracker import (
    Sighting,
    Tracker,
    TrackerOptions,
    TrackState,
    association_costs,
    iou_matrix,
)
from tests.unit.edge.fakes import face, square


def look(tracker, faces, at_s, looks=None):
    """One frame; without looks they do not matter."""
    return tracker.update([Sighting(*one) for one in zip(faces, looks or [None] * len(faces), strict=True)], at_s)


def looks_like(who):
    """How somebody looks; two people are as alike as chance has it, and dressed alike."""
    patch = np.random.default_rng(who).standard_normal(256)
    patch -= patch.mean()
    return Appearance(np.float32(patch / np.linalg.norm(patch)), np.float32(np.full(128, 128**-0.5)))


ANN, BEN = looks_like(1), looks_like(2)


def run(tracker, frames, fps=8.0):
    """Ids of the tracks seen in each frame, in order of the faces' x."""
    seen = []
    for number, faces in enumerate(frames):
        update = look(tracker, faces, number / fps)
        seen.append([t.id for t in sorted(update.seen, key=lambda t: float(t.face.box[0]))])
    return seen


def test_one_moving_face_is_one_track():
    ids = run(Tracker(), [[square(50 + 10 * i, 100)] for i in range(20)])
    assert len({i for frame in ids for i in frame}) == 1


def test_faces_that_cross_keep_their_ids():
    tracker = Tracker()
    frames = [[square(40 + 12 * i, 100), square(280 - 12 * i, 112)] for i in range(21)]
    first = run(tracker, frames[:1])[0]
    for number, faces in enumerate(frames[1:], start=1):
        seen = {id(t.face): t.id for t in look(tracker, faces, number / 8).seen}
    assert seen[id(frames[-1][0])] == first[0]
    assert seen[id(frames[-1][1])] == first[1]


def test_a_short_occlusion_keeps_the_id_where_the_movement_leads():
    frames = [[square(50 + 10 * i, 100)] if not 6 <= i < 12 else [] for i in range(18)]
    ids = run(Tracker(), frames)
    assert ids[0] == ids[-1] != []


def test_after_max_age_a_face_is_a_new_track_and_the_old_one_has_ended():
    tracker = Tracker(TrackerOptions(max_age_s=1.0))
    old = look(tracker, [square(100, 100)], 0.0).seen[0]
    update = look(tracker, [square(100, 100)], 1.2)
    assert update.ended == [old]
    assert old.state is TrackState.ENDED
    assert update.seen[0].id != old.id


def test_weak_detections_begin_no_track():
    tracker = Tracker(TrackerOptions(high_confidence=0.6))
    assert run(tracker, [[square(100, 100, confidence=0.5)]] * 5) == [[]] * 5


def test_weak_detections_prolong_a_track():
    tracker = Tracker(TrackerOptions(high_confidence=0.6, max_age_s=0.5))
    frames = [[square(100, 100)]] * 2 + [[square(100, 100, confidence=0.4)]] * 12 + [[square(100, 100)]]
    assert len({i for frame in run(tracker, frames) for i in frame}) == 1


def test_a_weak_detection_does_not_revive_a_lost_track():
    tracker = Tracker()
    track = look(tracker, [square(100, 100)], 0.0).seen[0]
    look(tracker, [], 0.125)
    assert track.state is TrackState.LOST
    assert look(tracker, [square(100, 100, confidence=0.4)], 0.25).seen == []


def test_a_track_is_confirmed_by_its_second_detection_or_by_a_confident_one():
    tracker = Tracker(TrackerOptions(confirm_confidence=0.8))
    doubtful = look(tracker, [square(100, 100, confidence=0.65)], 0.0).seen[0]
    assert not doubtful.confirmed
    sure = look(tracker, [square(100, 100, confidence=0.65), square(250, 100, confidence=0.85)], 0.125).seen
    assert doubtful.confirmed
    assert all(track.confirmed for track in sure)


def test_an_unconfirmed_track_ends_sooner():
    tracker = Tracker(TrackerOptions(max_age_s=2.0, tentative_age_s=0.3))
    flicker = look(tracker, [square(100, 100, confidence=0.65)], 0.0).seen[0]
    assert look(tracker, [], 0.4).ended == [flicker]


def test_somebody_walking_past_close_by_at_eight_frames_a_second_is_one_track():
    """1.3 face sizes a frame, as the woman who crosses in front in the street clip this was tuned on."""
    ids = run(Tracker(), [[square(50 + 125 * i, 100, side=95)] for i in range(8)])
    assert len({i for frame in ids for i in frame}) == 1


def test_uneven_frame_times_do_not_break_a_track():
    tracker = Tracker()
    times = [0.0, 0.1, 0.35, 0.4, 0.8, 0.85, 1.2]
    ids = {look(tracker, [square(50 + 80 * t, 100)], t).seen[0].id for t in times}
    assert len(ids) == 1


def test_a_lost_track_takes_no_face_from_a_track_that_is_seen():
    """A gate that widens with time must not make a distant match a cheap one."""
    tracker = Tracker()
    lost, seen = look(tracker, [square(100, 100), square(150, 100)], 0.0).seen
    for step in range(1, 9):
        update = look(tracker, [square(150 - 6 * step, 100)], step / 8)
        assert [track.id for track in update.seen] == [seen.id]
    assert lost.id != seen.id


def test_between_two_tracks_as_near_the_one_seen_just_now_is_the_match():
    tracker = Tracker()
    lost, seen = look(tracker, [square(90, 100), square(150, 100)], 0.0).seen
    for step in range(1, 9):
        look(tracker, [square(150, 100)], step / 8)
    update = look(tracker, [square(118, 100)], 1.125)  # 28 px from the lost one, 32 px from the other
    assert [track.id for track in update.seen] == [seen.id]
    assert lost in tracker.tracks


def test_a_second_box_on_the_same_head_begins_no_track():
    tracker = Tracker()
    update = look(tracker, [square(100, 100, confidence=0.9), square(100, 75, confidence=0.7)], 0.0)
    assert len(update.seen) == 1
    assert update.seen[0].face.confidence == 0.9


def test_neighbours_in_a_crowd_are_two_tracks():
    assert len(look(Tracker(), [square(100, 100), square(145, 100)], 0.0).seen) == 2


def test_a_face_of_twice_the_size_is_somebody_else():
    tracker = Tracker()
    small = look(tracker, [square(100, 100, side=30)], 0.0).seen[0]
    large = look(tracker, [square(100, 100, side=70)], 0.125).seen[0]
    assert small.id != large.id


def test_trackers_share_nothing_and_runs_never_give_an_id_again():
    first, second = Tracker(), Tracker()
    a = look(first, [square(100, 100)], 0.0).seen[0]
    assert second.tracks == ()
    b = look(second, [square(100, 100)], 0.0).seen[0]
    assert a.id != b.id
    assert Tracker(run="x").next_id() == Tracker(run="x").next_id() == "x_1"


def test_finish_ends_everything_once():
    tracker = Tracker()
    tracks = look(tracker, [square(100, 100), square(200, 100)], 0.0).seen
    assert tracker.finish() == tracks
    assert {t.state for t in tracks} == {TrackState.ENDED}
    assert tracker.finish() == []


def test_a_prediction_follows_the_velocity_and_then_fades():
    tracker = Tracker()
    for i in range(6):
        track = look(tracker, [square(100 + 10 * i, 100)], i / 10).seen[0]
    x = [float(track.predict(0.5 + dt)[0] + track.predict(0.5 + dt)[2]) / 2 for dt in (0.1, 1.0, 10.0)]
    assert x[0] == pytest.approx(160, abs=3)
    assert x[1] < x[2] < 150 + 60  # 100 px/s for half a second and a little more, not for ten


def test_two_who_meet_and_turn_back_keep_their_tracks_by_their_looks():
    """Their ways say that they crossed, and while they meet one hides the other."""
    for looks, kept in (((ANN, BEN), True), (None, False)):
        tracker = Tracker()
        for step in range(-8, 9):
            left, right = square(200 - 12 * abs(step), 100), square(200 + 12 * abs(step), 100)
            faces = [left, right] if abs(step) > 1 else [right]
            shown = looks if looks is None or len(faces) == 2 else (BEN,)
            seen = look(tracker, faces, (step + 8) / 8, shown).seen
            if step == -8:
                ids = [track.id for track in seen]
        by_face = {id(track.face): track.id for track in seen}
        assert ([by_face[id(left)], by_face[id(right)]] == ids) is kept


def standing(who=ANN):
    """A tracker that has seen somebody stand for a second."""
    tracker = Tracker()
    for number in range(9):
        track = look(tracker, [square(100, 100, side=60)], number / 8, [who]).seen[0]
    return tracker, track


@pytest.mark.parametrize(
    ("who", "moved_px", "after_s", "same"),
    [
        (ANN, 80, 0.125, True),  # whoever stood and walks off
        (BEN, 80, 0.125, False),
        (ANN, 160, 1.0, True),
        (BEN, 40, 1.0, False),  # who came out where another went away
        (BEN, 20, 0.125, True),  # a head that turns
    ],
)
def test_how_far_away_a_face_may_be_found_depends_on_how_it_looks(who, moved_px, after_s, same):
    tracker, track = standing()
    found = look(tracker, [square(100 + moved_px, 100, side=60)], 1 + after_s, [who]).seen[0]
    assert (found is track) is same


def test_whoever_was_half_hidden_looks_as_before_when_they_are_seen_again():
    tracker, track = standing()
    look(tracker, [square(100, 100, side=60)], 1.125, [BEN])
    assert look(tracker, [square(170, 100, side=60)], 1.25, [ANN]).seen == [track]


def test_whoever_was_seen_once_may_look_different_a_moment_later():
    tracker = Tracker()
    track = look(tracker, [square(100, 100, side=60)], 0.0, [ANN]).seen[0]
    assert look(tracker, [square(150, 100, side=60)], 0.125, [BEN]).seen == [track]


@pytest.mark.parametrize("before", [ANN, Appearance(np.zeros(256, np.float32), ANN.colours)])
def test_in_the_dark_a_face_is_neither_alike_nor_unlike(before):
    dark = Appearance(np.zeros(256, np.float32), ANN.colours)
    tracker, track = standing(before)
    assert look(tracker, [square(140, 100, side=60)], 1.125, [dark]).seen == [track]
    tracker, track = standing(before)
    assert look(tracker, [square(180, 100, side=60)], 1.125, [dark]).seen != [track]


def test_no_more_than_a_few_looks_of_a_track_are_kept():
    tracker, track = standing()
    for number in range(60):
        look(tracker, [square(100, 100, side=60)], 1.125 + number / 8, [ANN])
    assert 2 <= len(track.looks) <= 12


boxes = st.tuples(st.floats(0, 500), st.floats(0, 500), st.floats(5, 200), st.floats(5, 200)).map(
    lambda v: (v[0], v[1], v[0] + v[2], v[1] + v[3])
)


@given(st.lists(boxes, min_size=1, max_size=6), st.lists(boxes, min_size=1, max_size=6))
def test_overlap_is_symmetric_and_bounded(left, right):
    a, b = np.float32(left), np.float32(right)
    overlap = iou_matrix(a, b)
    assert ((overlap >= 0) & (overlap <= 1.0001)).all()
    np.testing.assert_allclose(overlap, iou_matrix(b, a).T, rtol=1e-4)
    np.testing.assert_allclose(np.diag(iou_matrix(a, a)), 1.0, rtol=1e-4)


@given(boxes)
def test_nothing_is_a_better_match_than_the_same_box(box):
    a = np.float32([box])
    moved = a + 3
    costs = association_costs(a, np.concatenate([a, moved]), np.float32([[2.0, 2.0]]))
    assert costs[0, 0] == pytest.approx(0, abs=1e-4)
    assert costs[0, 1] > costs[0, 0]


@given(st.lists(st.lists(boxes, max_size=5), max_size=12))
def test_whatever_comes_each_face_has_at_most_one_track_and_no_id_comes_back(frames):
    tracker = Tracker()
    over: set[str] = set()
    for number, frame in enumerate(frames):
        update = look(tracker, [face(*box) for box in frame], number * 0.4)
        ids = [track.id for track in update.seen]
        assert len(ids) == len(set(ids)) <= len(frame)
        assert len({id(track.face) for track in update.seen}) == len(ids)
        over |= {track.id for track in update.ended}
        assert not over & set(ids)
