"""From detections to what is sent: visits, repeats, cuts."""

from __future__ import annotations

import dataclasses
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np

from edge_uploader.capture.sources import Frame
from edge_uploader.selection.best_shot import BestShotOptions
from edge_uploader.selection.follow import Follower, FollowOptions
from edge_uploader.selection.repeats import RepeatOptions
from edge_uploader.selection.tracker import TrackerOptions
from tests.unit.edge.fakes import assess, face

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)
PEOPLE = {
    number: np.kron(np.random.default_rng(number).integers(0, 255, (8, 6, 3)), np.ones((10, 10, 1))).astype(np.uint8)
    for number in range(4)
}
"""(80, 60, 3): how somebody looks."""


def scene(*people):
    """A frame's image and faces; people are (who, x, y) of the face's top left corner."""
    image = np.full((480, 640, 3), 110, np.uint8)
    faces = []
    for who, x, y in people:
        image[y : y + 80, x : x + 60] = PEOPLE[who]
        image[y + 80 : y + 200, x : x + 60] = PEOPLE[who][40, 30]
        faces.append(face(x, y, x + 60, y + 80))
    return image, faces


def follower(**changes):
    return Follower(FollowOptions(**changes), camera="door", assess=assess, run="r")


def play(following, frames, begin_s=0.0, fps=6.0):
    """Everything that was sent at once, as (track, shot, seconds after the frame it shows)."""
    sent = []
    for number, people in enumerate(frames):
        at_s = begin_s + number / fps
        image, faces = scene(*people)
        frame = Frame(image, START + timedelta(seconds=at_s), number, at_s)
        for sending in following.look(frame, faces).sendings:
            waited = (frame.captured_at - sending.view.captured_at).total_seconds()
            sent.append((sending.track, sending.shot, waited))
    return sent


def test_no_shot_waits_for_longer_than_its_window():
    sent = play(follower(), [[(0, 20 + 5 * i, 100)] for i in range(100)])
    assert 2 <= len(sent) <= 3
    assert max(waited for _, _, waited in sent) <= 0.7


def test_what_is_held_goes_out_though_the_face_is_gone():
    following = follower()
    assert play(following, [[(0, 100, 100)]]) == []
    assert len(following.due(0.6)) == 1


def test_somebody_who_was_hidden_goes_on_with_the_shots_they_have_left():
    frames = [[(0, 100, 100)]] * 12 + [[]] * 12 + [[(0, 130, 100)]] * 30
    following = follower()
    sent = play(following, frames)
    assert following.counts.rejoined == 1
    assert {track for track, _, _ in sent} == {sent[0][0]}
    assert [shot for _, shot, _ in sent] == list(range(len(sent)))
    assert len(sent) <= 3
    assert following.counts.tracks == 1


def test_somebody_else_who_appears_there_is_a_visit_of_their_own():
    frames = [[(0, 100, 100)]] * 12 + [[]] * 12 + [[(1, 130, 100)]] * 30
    following = follower()
    sent = play(following, frames)
    assert following.counts.rejoined == 0
    assert len({track for track, _, _ in sent}) == 2


def test_somebody_else_on_the_same_track_is_sent_though_its_shots_are_gone():
    """Out of sight for half a second, which does not end the track."""
    before = [[(0, 20 + 2 * i, 100)] for i in range(90)]
    for who, more in ((1, 1), (0, 0)):
        following = follower()
        assert len(play(following, before)) == 2, "of a face that is well seen two are enough"
        for times in range(2):  # the second time, what a sudden change allows is used up
            out_of_sight_s = (90 + 23 * times) / 6
            assert play(following, [[]] * 3, begin_s=out_of_sight_s) == []
            after = [[(times + 1 if who else 0, 205 + 45 * times + 2 * i, 100)] for i in range(20)]
            assert len(play(following, after, begin_s=out_of_sight_s + 0.5)) == more
        assert following.counts.tracks == 1


def test_a_change_of_look_between_two_rare_looks_is_nobody_who_came_back():
    """Two looks a second: half a second apart is out of sight only when a look in between did not find the face."""
    following = follower()
    frames = [[(number // 6 % 2, 100 + number % 3, 100)] for number in range(240)]
    sent = play(following, frames, fps=2.0)
    assert following.counts.tracks == 1
    assert len(sent) <= BestShotOptions().shots + 1, "one more than the most for a sudden change, whatever comes"


def test_people_who_meet_and_turn_back_keep_their_visits():
    """The one in front hides the other for half a second; by their ways alone they would have crossed."""
    following = follower()
    for number, step in enumerate(range(-8, 9)):
        left, right = (0, 240 - 12 * abs(step), 100), (1, 240 + 12 * abs(step), 100)
        image, faces = scene(*([left, right] if abs(step) > 1 else [right]))
        frame = Frame(image, START + timedelta(seconds=number / 6), number, number / 6)
        seen = {track.face.box[0]: track.id for track in following.look(frame, faces).seen}
    assert seen == {144: "r_1", 336: "r_2"}
    assert following.counts.tracks == 2


def test_whoever_comes_nearer_is_sent_once_more_from_near():
    """Two good crops of 40 to 50 px are enough; once it is twice as large there is a better one."""

    def sizes(nearer):
        shots = BestShotOptions(nearer=nearer)
        by_size = Follower(
            FollowOptions(shots=shots),
            camera="door",
            assess=lambda image, face: dataclasses.replace(assess(image, face), sharpness=0.4 * face.width_px),
        )
        taken = []
        for number in range(120):
            width, height = round(40 * 1.01**number), round(53 * 1.01**number)
            image = np.full((480, 640, 3), 110, np.uint8)
            image[100 : 100 + height, 200 : 200 + width] = cv2.resize(PEOPLE[0], (width, height))
            frame = Frame(image, START + timedelta(seconds=number / 6), number, number / 6)
            faces = [face(200, 100, 200 + width, 100 + height)]
            taken += [sending.view.frame_box for sending in by_size.look(frame, faces).sendings]
        return [box[2] - box[0] for box in taken]

    usual, nearer = sizes(99.0), sizes(2.0)
    assert nearer[: len(usual)] == usual and len(usual) == 2
    assert len(nearer) == 3 and nearer[2] >= 2 * nearer[1]


def test_a_guard_is_sent_once_and_whoever_takes_the_seat_at_once(caplog):
    caplog.set_level("INFO")
    options = RepeatOptions(settle_s=10, first_s=300)
    following = follower(repeats=options)
    guard = play(following, [[(0, 200 + i % 3, 150)] for i in range(6 * 120)])
    assert len(guard) == 2
    assert following.counts.repeats == 1
    assert following.counts.held_back > 600
    assert [r.camera for r in caplog.records if getattr(r, "action", "") == "edge_repeat"] == ["door"]
    other = play(following, [[(1, 200, 150)]] * 12, begin_s=120)
    assert other, "another person at the desk is sent within two seconds"
    assert other[0][0] != guard[0][0]
    again = play(following, [[(0, 200, 150)]] * 60, begin_s=122)
    assert again == [], "the guard is back: no news"


def test_a_poster_is_sent_again_after_five_minutes_and_then_ten():
    following = follower(repeats=RepeatOptions(settle_s=10, first_s=300), shots=BestShotOptions(refresh_s=60))
    sent_at = []
    for number in range(2 * 1500):
        image, faces = scene((0, 200, 150))
        frame = Frame(image, START + timedelta(seconds=number / 2), number, number / 2)
        sent_at += [frame.position_s for _ in following.look(frame, faces).sendings]
    assert len(sent_at) == 2 + 2
    assert 305 <= sent_at[2] <= 315
    assert 600 <= sent_at[3] - sent_at[2] <= 605


def test_a_cut_ends_every_visit():
    following = follower()
    play(following, [[(0, 100, 100)]] * 3)
    image, faces = scene((0, 100, 100))
    followed = following.look(Frame(image, START + timedelta(seconds=1), 9, 1.0), faces, cut=True)
    assert len(followed.sendings) == 1, "what was held goes out"
    play(following, [[(0, 100, 100)]] * 3, begin_s=1.2)
    following.finish()
    assert (following.counts.cuts, following.counts.tracks, following.counts.rejoined) == (1, 2, 0)


def test_every_visit_is_usable_or_has_a_cause():
    following = Follower(
        FollowOptions(tracker=TrackerOptions(max_age_s=0.3), rejoin_s=0),
        camera="door",
        assess=lambda image, found: assess(image, found) if found.box[0] < 300 else dark(image, found),
    )
    play(following, [[(0, 100, 100), (1, 400, 100)]] * 6 + [[]] * 6)
    assert following.counts.usable == 1
    assert following.counts.unusable == {"too_dark": 1}


def test_a_face_that_never_is_large_enough_is_unusable_and_not_a_track():
    following = follower(min_face_px=100.0, tracker=TrackerOptions(max_age_s=0.3))
    assert play(following, [[(0, 100, 100)]] * 6 + [[]] * 6) == []
    assert (following.counts.tracks, following.counts.usable) == (0, 0)
    assert following.counts.unusable == {"too_small": 1}


def dark(image, found):
    return dataclasses.replace(assess(image, found), brightness=1.0, sharpness=12.0, confidence=0.65)


def test_without_frames_what_is_due_goes_then_the_visit_ends_and_nothing_goes_twice():
    following = follower()
    assert play(following, [[(0, 100, 100)]]) == []
    assert following.without_frame(0.3) == []
    assert len(following.without_frame(1.1)) == 1, "due by the clock"
    assert following.without_frame(1.4) == [] and following.following
    assert following.without_frame(1.6) == [] and not following.following
    sent = play(following, [[(0, 100, 100)]] * 12, begin_s=3.0)
    assert [(track, shot) for track, shot, _ in sent[:1]] == [("r_1", 1)], "who is still there goes on"
    for at_s in (6.0, 12.0, 13.0):
        following.without_frame(at_s)
    assert following.counts.tracks == 1
    assert following.counts.usable + following.counts.unusable.total() == 1, "the visit was closed"
    assert following.finish() == []


def test_without_frames_a_view_that_waits_for_a_better_one_goes_when_its_face_counts_as_lost():
    options = BestShotOptions(first_after_s=60.0, good_enough=1.0, unusable_after_s=60.0)
    following = follower(shots=options)
    assert play(following, [[(0, 100, 100)]] * 3) == []
    assert following.without_frame(1.5) == []
    assert len(following.without_frame(2.0)) == 1
