"""When the detector looks."""

from __future__ import annotations

import numpy as np
import pytest

from edge_uploader.selection.schedule import Look, Schedule, ScheduleOptions, change_between, thumbnail
from tests.unit.edge.fakes import picture

STILL = picture(size=(1920, 1080))


def noisy(image, seed):
    noise = np.random.default_rng(seed).normal(0, 4, image.shape)
    return np.clip(image + noise, 0, 255).astype(np.uint8)


def looks(schedule, frames, fps=6.0, **more):
    return [schedule.look(image, i / fps, **({"following": False} | more)) for i, image in enumerate(frames)]


def test_an_idle_scene_is_looked_at_once_a_second():
    seen = looks(Schedule(), [noisy(STILL, i) for i in range(19)])
    assert [i for i, look in enumerate(seen) if look.wanted] == [0, 6, 12, 18]


def test_a_face_that_keeps_still_is_looked_at_twice_a_second():
    seen = looks(Schedule(), [STILL] * 13, following=True)
    assert [i for i, look in enumerate(seen) if look.wanted] == [0, 3, 6, 9, 12]


def test_a_small_face_that_moves_is_looked_at_in_every_frame():
    frames = [picture((100 + 20 * i, 300, 140 + 20 * i, 350), size=(1920, 1080)) for i in range(10)]
    assert all(look.wanted for look in looks(Schedule(), frames))


def test_somebody_who_comes_slowly_is_noticed_since_the_last_look_counts():
    schedule = Schedule(ScheduleOptions(idle_s=60))
    frames = [picture((900 - i, 300, 940, 360), size=(1920, 1080)) for i in range(60)]
    assert Look.MOTION in looks(schedule, frames)


def test_when_it_is_off_every_frame_is_looked_at():
    assert looks(Schedule(ScheduleOptions(idle_s=0)), [STILL] * 5) == [Look.DUE] * 5


def test_when_it_is_off_a_cut_is_seen_all_the_same():
    schedule = Schedule(ScheduleOptions(idle_s=0))
    cuts = []
    for number, image in enumerate([scene(1), scene(1), scene(2)]):
        assert schedule.look(image, number / 6, following=True) is Look.DUE
        cuts.append(schedule.cut)
    assert cuts == [False, False, True]


def test_a_machine_that_is_behind_looks_less_and_recovers():
    schedule = Schedule(ScheduleOptions(idle_s=60, watch_s=60))
    frames = [picture((100 + 15 * (i % 90), 300, 200 + 15 * (i % 90), 420), size=(1920, 1080)) for i in range(200)]
    seen = [schedule.look(f, i / 6, following=True, dropped=min(i, 10)) for i, f in enumerate(frames)]
    assert seen[12:30].count(Look.LOAD) == 12
    assert all(look is Look.MOTION for look in seen[-20:])
    assert schedule.stride == 1


def wholes(schedule, frames, fps=10.0):
    """Numbers of the frames whose look is at the whole picture; every other look is a glance."""
    found = []
    for number, image in enumerate(frames):
        if schedule.look(image, number / fps, following=True).wanted and schedule.whole:
            schedule.looked_at_all(number / fps)
            found.append(number)
    return found


def test_the_whole_picture_is_looked_at_twice_a_second_and_after_a_cut():
    walk = [picture((100 + 20 * i, 300, 240 + 20 * i, 500), size=(1920, 1080)) for i in range(12)]
    other = np.random.default_rng(1).integers(0, 255, (1080, 1920, 3)).astype(np.uint8)
    assert wholes(Schedule(), [*walk, other]) == [0, 5, 10, 12]


def test_every_look_may_be_at_the_whole_picture():
    walk = [picture((100 + 20 * i, 300, 240 + 20 * i, 500), size=(1920, 1080)) for i in range(6)]
    assert wholes(Schedule(ScheduleOptions(whole_s=0)), walk) == [0, 1, 2, 3, 4, 5]


@pytest.mark.parametrize("size", [(1920, 1080), (1080, 1920), (3840, 2160), (320, 240), (40, 30)])
def test_every_size_of_picture_is_compared(size):
    small = thumbnail(picture(size=size))
    assert small.shape == (90, 160)
    assert change_between(small, small).share == 0.0


def scene(seed):
    random = np.random.default_rng(seed)
    return np.kron(random.integers(0, 255, (9, 16, 3)), np.ones((40, 40, 1))).astype(np.uint8)


def test_another_scene_is_a_cut_and_a_light_is_none():
    before = thumbnail(scene(1))
    assert change_between(before, thumbnail(scene(2))).cut
    dark = change_between(before, thumbnail((scene(1) * 0.4).astype(np.uint8)))
    assert dark.share > 0.5
    assert not dark.cut
    schedule = Schedule()
    schedule.look(scene(1), 0.0, following=True)
    assert schedule.look(scene(2), 0.1, following=True).wanted
    assert schedule.cut
