"""What is seen again and again is sent seldom, and whoever takes its place at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edge_uploader.selection.appearance import Appearance, appearance_of, likeness
from edge_uploader.selection.repeats import RepeatOptions, Repeats

BOX = np.float32([100, 100, 160, 180])


def look(seed):
    """A look of its own; two of different seeds have nothing in common."""
    random = np.random.default_rng(seed)
    patch, colours = random.normal(size=256), random.uniform(size=128) * (random.uniform(size=128) > 0.8)
    return Appearance(*(np.float32(v / np.linalg.norm(v)) for v in (patch - patch.mean(), colours)))


GUARD, OTHER = look(1), look(2)


def watch(repeats, seen, begin_s, end_s, *, track="a", box=BOX, sends=False):
    """Verdicts of one view each half second."""
    verdicts = []
    for at_s in np.arange(begin_s, end_s, 0.5):
        verdicts.append(repeats.see(track, box, seen, float(at_s)))
        if sends and not verdicts[-1].held_back:
            repeats.sent(track, float(at_s))
    return verdicts


def settled(**changes):
    repeats = Repeats(RepeatOptions(settle_s=30, first_s=300, longest_s=3_600, **changes))
    watch(repeats, GUARD, 0, 31)
    return repeats


def test_it_settles_after_a_while_and_says_so_once():
    repeats = Repeats(RepeatOptions(settle_s=30))
    verdicts = watch(repeats, GUARD, 0, 60)
    assert [v.settled for v in verdicts].count(True) == 1
    assert not any(v.held_back for v in verdicts[:60])
    assert all(v.held_back for v in verdicts[60:])


def test_it_is_sent_again_after_waits_that_double_up_to_the_longest():
    repeats = settled()
    sent = [
        at_s / 2
        for at_s, verdict in enumerate(watch(repeats, GUARD, 31, 12_000, sends=True), start=62)
        if not verdict.held_back
    ]
    waits = np.diff(sent)
    assert 299 <= sent[0] - 30 <= 301
    assert waits[:3].tolist() == [600, 1200, 2400]
    assert set(waits[3:]) == {3_600}


def test_a_track_that_breaks_is_no_news():
    repeats = settled()
    repeats.ended("a")
    assert all(v.held_back for v in watch(repeats, GUARD, 33, 60, track="b"))


def test_somebody_else_at_the_same_place_is_news_though_the_track_went_on():
    verdicts = watch(settled(), OTHER, 31, 40)
    assert [v.changed for v in verdicts] == [False, True] + [False] * 16
    assert not any(v.held_back for v in verdicts[1:])


def test_somebody_else_at_the_same_place_is_news_on_a_new_track():
    repeats = settled()
    repeats.ended("a")
    assert not any(v.held_back for v in watch(repeats, OTHER, 33, 40, track="b"))


def test_the_first_one_who_comes_back_is_known():
    repeats = settled()
    watch(repeats, OTHER, 31, 45)
    verdicts = watch(repeats, GUARD, 45, 50)
    assert all(v.held_back for v in verdicts)


def test_who_was_away_is_sent_once_more_but_a_picture_on_the_wall_is_not():
    turned = Appearance(np.float32(0.8 * GUARD.patch + 0.6 * OTHER.patch), GUARD.colours)
    assert 0.6 < likeness(GUARD, turned) < 0.9
    for seen, again in ((turned, True), (GUARD, False)):
        repeats = settled()
        repeats.ended("a")
        assert repeats.see("b", BOX, seen, 131.0).again is again


def test_whoever_walks_never_settles():
    repeats = Repeats(RepeatOptions(settle_s=30))
    for step in range(400):
        assert not repeats.see("a", BOX + np.float32(20 * step % 1500), GUARD, step / 2).held_back


def test_nothing_settles_when_that_is_off():
    assert not any(v.held_back for v in watch(Repeats(RepeatOptions(settle_s=0)), GUARD, 0, 100))


@given(st.lists(st.tuples(st.integers(0, 300), st.integers(0, 5), st.integers(0, 2_000)), min_size=70, max_size=120))
def test_what_is_remembered_is_bounded(views):
    repeats = Repeats()
    for number, (track, seed, x) in enumerate(views):
        repeats.see(str(track), BOX + np.float32([x, 0, x, 0]), look(seed), float(number))
    assert len(repeats._places) <= 64


def test_a_look_is_of_the_face_and_the_clothes():
    random = np.random.default_rng(0)
    image = random.integers(0, 255, (400, 400, 3), dtype=np.uint8)
    same = appearance_of(image, BOX)
    assert likeness(same, same) > 0.99
    clothes = image.copy()
    clothes[190:] = (200, 0, 0)
    assert likeness(same, appearance_of(clothes, BOX)) < 0.95
    beyond = appearance_of(image, np.float32([380, 390, 460, 480]))
    assert np.isfinite(beyond.patch).all() and np.isfinite(beyond.colours).all()


def test_flat_faces_are_told_apart_by_colour_alone():
    def plain(face_colour, chest):
        image = np.full((400, 400, 3), 90, np.uint8)
        image[100:180, 100:160], image[180:320] = face_colour, chest
        return appearance_of(image, BOX)

    assert likeness(plain(20, (10, 10, 60)), plain(20, (10, 10, 60))) > 0.99
    assert likeness(plain(20, (10, 10, 60)), plain(120, (200, 30, 30))) < 0.4
