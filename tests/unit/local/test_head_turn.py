"""Which frames of a head turn are enrolled."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from local.head_turn import (
    TurnOptions,
    View,
    choose,
    coverage,
    left_out,
    main_scene,
    next_view,
    problem_of,
    side_of,
    usual_pitch,
)
from shared.domain import Quality

OPTIONS = TurnOptions()
GOOD = Quality(size_px=120, sharpness=150, yaw=0.0, brightness=120, confidence=0.95, pitch=0.0, roll=0.0)


def view(number: int, yaw: float = 0.0, pitch: float = 0.0, *, x: float = 100.0, refused: str | None = None, **quality):
    """A view at 10 frames a second whose look is its own."""
    look = np.random.default_rng(number).standard_normal(64).astype(np.float32)
    look -= look.mean()
    box = np.array([x, 100, x + 100, 220], np.float32)
    measured = replace(GOOD, yaw=yaw, pitch=pitch, **quality)
    return View(f"frame {number}", number / 10, refused, box, measured, look / np.linalg.norm(look), b"jpeg")


def turn(frames: int = 40) -> list[View]:
    """From left to right in three quarters of the time, then a look up and down."""
    side = [view(n, -0.7 + 1.4 * n / (frames * 0.75)) for n in range(int(frames * 0.75))]
    nods = [view(len(side) + n, 0.0, 0.25 * np.sin(n)) for n in range(frames - len(side))]
    return side + nods


def nobody(number: int) -> View:
    return View(f"frame {number}", number / 10, "no_face")


def test_a_whole_turn_is_covered_on_all_sides() -> None:
    views = turn()
    chosen = choose(views, OPTIONS)
    assert 8 <= len(chosen) <= 12
    covered = coverage(chosen, usual_pitch(views))
    assert all(covered.sides[side] for side in ("left", "front", "right", "up", "down")), str(covered)
    assert covered.advice == ()
    assert "left: " in str(covered)


def test_the_first_is_the_best_frontal_one() -> None:
    views = [view(0, -0.6), view(3, 0.05, sharpness=20.0), view(6, 0.02), view(9, 0.5, size_px=200)]
    assert choose(views, OPTIONS)[0].name == "frame 6"


def test_of_one_pose_the_better_frame_is_taken() -> None:
    views = [view(0), view(10, 0.6, sharpness=8.0), view(13, 0.6, sharpness=120.0), view(16, 0.6, brightness=15.0)]
    names = [chosen.name for chosen in choose(views, TurnOptions(wanted=2))]
    assert names == ["frame 0", "frame 13"]


def test_a_still_head_gives_one_view_and_advice_instead_of_twelve() -> None:
    still = [replace(view(n), look=view(0).look) for n in range(40)]
    chosen = choose(still, OPTIONS)
    assert len(chosen) == 1
    assert left_out(still, chosen, OPTIONS) == {"too_alike": 38, "too_close_in_time": 1}
    advice = coverage(chosen).advice
    assert "turn further to the left of the picture" in advice and "turn further to the right of the picture" in advice
    assert "look up and down a little" in advice


def test_one_sided_turns_are_told_which_side_is_missing() -> None:
    chosen = choose([view(n, 0.7 * n / 30) for n in range(30)], OPTIONS)
    covered = coverage(chosen)
    assert covered.sides["left"] == 0 < covered.sides["right"]
    assert covered.advice[0] == "turn further to the left of the picture"


def test_frames_are_apart_in_time_and_never_more_than_wanted() -> None:
    chosen = choose([view(n, 0.9 * np.sin(n)) for n in range(100)], TurnOptions(wanted=5, spacing_s=0.35))
    times = sorted(chosen_view.at_s for chosen_view in chosen)
    assert len(chosen) == 5 and min(b - a for a, b in zip(times, times[1:], strict=False)) >= 0.35


def test_unusable_frames_are_never_taken_and_counted_by_reason() -> None:
    views = [view(n, refused="too_blurred") for n in range(10)] + [nobody(n) for n in range(10, 14)] + [view(20)]
    chosen = choose(views, OPTIONS)
    assert [v.name for v in chosen] == ["frame 20"]
    assert left_out(views, chosen, OPTIONS) == {"too_blurred": 10, "no_face": 4}


def test_what_the_service_refused_is_replaced_and_not_offered_again() -> None:
    views = turn()
    first = next_view(views, [], [], OPTIONS)
    second = next_view(views, [], [first], OPTIONS)
    assert first is not None and second is not None and first is not second
    assert next_view([first], [], [first], OPTIONS) is None


def test_a_camera_that_hangs_high_has_a_usual_pitch_of_its_own() -> None:
    views = [view(n, pitch=0.2) for n in range(9)] + [view(9, pitch=0.02), view(10, pitch=0.35)]
    usual = usual_pitch(views)
    assert usual == pytest.approx(0.2)
    assert [side_of(v, usual) for v in views[-3:]] == ["front", "up", "down"]
    assert usual_pitch([nobody(0)]) == 0.0


def test_a_clip_without_a_face() -> None:
    assert problem_of([nobody(n) for n in range(30)]) == "no_face"
    assert problem_of([]) == "no_face"


def test_two_people_in_one_picture_are_refused_and_a_passer_by_is_not() -> None:
    both = [view(n, refused="several_faces" if n % 3 == 0 else None) for n in range(30)]
    assert problem_of(both) == "several_people"
    assert problem_of(turn() + [view(40, refused="several_faces"), view(41, refused="several_faces")]) is None


def test_a_cut_to_somebody_elsewhere_is_refused_and_one_false_face_is_passed_over() -> None:
    cut = [view(n) for n in range(20)] + [view(n, x=900.0) for n in range(20, 40)]
    assert problem_of(cut) == "another_person"
    flicker = [view(n, x=900.0 if n == 10 else 100.0) for n in range(40)]
    assert problem_of(flicker) is None
    assert [v.name for v in main_scene(flicker) if v.refused == "elsewhere"] == ["frame 10"]
    assert len(main_scene(flicker)) == 40


def test_walking_through_the_picture_is_one_person() -> None:
    assert problem_of([view(n, x=100.0 + 40 * n) for n in range(40)]) is None
