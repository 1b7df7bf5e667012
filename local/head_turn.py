"""Which frames of a head turn are enrolled: all sides of the face, each as good as the clip has it. Pure logic.

The protocol: one person, 3 to 5 seconds, the head turned slowly from one side to the other, with a look up and down.
Frames are measured, never compared with anybody: neither names nor embeddings decide.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from edge_uploader.selection.best_shot import worth
from shared.domain import Float32Array, Quality
from shared.vision.boxes import iou

SIDES: Final = ("left", "front", "right", "up", "down")
SIDE_YAW: Final = 0.2
"""From here on a face counts as turned: about 15°, where the second eye is still well seen."""
SIDE_PITCH: Final = 0.1
"""From the clip's usual pitch: cameras hang high or low, and faces differ."""
SAME_POSE: Final = 0.35
"""Distance in (yaw, 2 · pitch) from which on two views show different sides of a face."""
SAME_PLACE_IOU: Final = 0.05
SAME_PLACE_S: Final = 0.5
OTHER_SHARE: Final = 0.15
"""Of the frames with a face: so many with a second person, or in another place, are no accident."""


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """One frame of the clip, measured.

    Attributes:
        name: for people, such as `frame 12`.
        at_s: position in the clip, rising.
        refused: why it cannot be used: `no_face`, `several_faces`, or the quality gate's word.
        box: xyxy of the face, None without one.
        look: small grey picture of the face, any shape but the same for all, mean 0 and length 1.
        jpeg: what is uploaded.
    """

    name: str
    at_s: float
    refused: str | None
    box: Float32Array | None = None
    quality: Quality | None = None
    look: Float32Array | None = None
    jpeg: bytes = b""

    @property
    def usable(self) -> bool:
        return self.refused is None and self.quality is not None


@dataclass(frozen=True, slots=True)
class TurnOptions:
    """How many views are chosen, and how different they must be.

    Attributes:
        wanted: most.
        spacing_s: least time between two.
        alike: correlation of two looks from which on they are one; neighbouring frames of a still head reach it.
        least_gain: 0 to 1, worth × newness below which a view is not worth a template.
    """

    wanted: int = 12
    spacing_s: float = 0.15
    alike: float = 0.995
    least_gain: float = 0.02


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many views show each of `SIDES` (left and right of the picture), and what would be better."""

    sides: dict[str, int]
    advice: tuple[str, ...]

    def __str__(self) -> str:
        return ", ".join(f"{side}: {count}" for side, count in self.sides.items())


def problem_of(views: Sequence[View]) -> str | None:
    """Why a whole clip is not of one person, in a stable word; None when it may be.

    `no_face`: none was found at all. `several_people`: a second face beside the first. `another_person`: the face
    jumps elsewhere and stays there, by a cut or because somebody else came. Slow changes are not noticed here; the
    gallery's review finds templates that do not resemble each other.
    """
    seen = [view for view in views if view.box is not None]
    if not seen:
        return "no_face"
    several = sum(view.refused == "several_faces" for view in seen)
    if several > max(2, OTHER_SHARE * len(seen)):
        return "several_people"
    scenes = _scenes(seen)
    elsewhere = len(seen) - max(map(len, scenes))
    return "another_person" if elsewhere > max(2, OTHER_SHARE * len(seen)) else None


def main_scene(views: Sequence[View]) -> list[View]:
    """The views of the longest stretch in which the face stays where it was, and every view without a face."""
    seen = [view for view in views if view.box is not None]
    if not seen:
        return list(views)
    kept = {id(view) for view in max(_scenes(seen), key=lambda scene: len(scene))}
    return [view if view.box is None or id(view) in kept else replace(view, refused="elsewhere") for view in views]


def _scenes(seen: Sequence[View]) -> list[list[View]]:
    """Stretches of frames whose faces overlap; a face that comes back to a stretch within half a second joins it."""
    scenes: list[list[View]] = []
    for view in seen:
        for scene in reversed(scenes):
            last = scene[-1]
            if view.at_s - last.at_s > SAME_PLACE_S and scene is not scenes[-1]:
                continue
            if _overlap(last, view):
                scene.append(view)
                break
        else:
            scenes.append([view])
    return scenes


def _overlap(one: View, other: View) -> bool:
    return one.box is not None and other.box is not None and float(iou(one.box, other.box)) >= SAME_PLACE_IOU


def next_view(
    views: Sequence[View], chosen: Sequence[View], tried: Sequence[View], options: TurnOptions
) -> View | None:
    """The view that adds most to those chosen: worth × how new its pose is. None when none adds enough.

    The first is the best frontal one. What was tried and refused is not offered again.

    Args:
        chosen: those that were accepted so far.
        tried: those that were offered and refused.
    """
    gone = {id(view) for view in (*chosen, *tried)}
    best, most = None, options.least_gain
    for view in views:
        if id(view) in gone or not view.usable or any(_too_near(view, other, options) for other in chosen):
            continue
        gain = _worth(view) * _newness(view, chosen)
        if gain > most:
            best, most = view, gain
    return best


def choose(views: Sequence[View], options: TurnOptions) -> list[View]:
    """All views that would be enrolled if none were refused, in the order of their choice."""
    chosen: list[View] = []
    while len(chosen) < options.wanted and (view := next_view(views, chosen, (), options)) is not None:
        chosen.append(view)
    return chosen


def left_out(views: Sequence[View], chosen: Sequence[View], options: TurnOptions) -> Counter[str]:
    """Why the other frames were not taken: their own reason, `too_close_in_time`, `too_alike` or `adds_little`."""
    taken = {id(view) for view in chosen}
    return Counter(_reason(view, chosen, options) for view in views if id(view) not in taken)


def _reason(view: View, chosen: Sequence[View], options: TurnOptions) -> str:
    if view.refused is not None:
        return view.refused
    if any(abs(view.at_s - other.at_s) < options.spacing_s for other in chosen):
        return "too_close_in_time"
    if any(_alike(view, other, options) for other in chosen):
        return "too_alike"
    return "adds_little"


def coverage(chosen: Sequence[View], usual_pitch: float = 0.0) -> Coverage:
    """Which sides of the face the chosen views show, and what to do about the others.

    Args:
        usual_pitch: see `usual_pitch`.
    """
    sides = dict.fromkeys(SIDES, 0)
    for view in chosen:
        sides[side_of(view, usual_pitch)] += 1
    advice = [f"turn further to the {side} of the picture" for side in ("left", "right") if not sides[side]]
    if not sides["front"]:
        advice.append("look into the camera for a moment")
    if not sides["up"] and not sides["down"]:
        advice.append("look up and down a little")
    return Coverage(sides, tuple(advice))


def usual_pitch(views: Sequence[View]) -> float:
    """Median pitch of the usable views: what looking straight ahead is before this camera."""
    found = [pitch for view in views if view.usable and (pitch := _pose(view)[1]) is not None]
    return float(np.median(found)) if found else 0.0


def side_of(view: View, usual_pitch: float = 0.0) -> str:
    """One of `SIDES`. Turned counts before nodding; a face without landmarks counts as front."""
    yaw, pitch = _pose(view)
    if abs(yaw) >= SIDE_YAW:
        return "left" if yaw < 0 else "right"
    if abs(pitch - usual_pitch) >= SIDE_PITCH:
        return "up" if pitch < usual_pitch else "down"
    return "front"


def _pose(view: View) -> tuple[float, float]:
    quality = view.quality
    return (0.0, 0.0) if quality is None else (quality.yaw or 0.0, quality.pitch or 0.0)


def _worth(view: View) -> float:
    """As for any shot, but for the pose: a turned face is what is wanted here."""
    if view.quality is None:
        return 0.0
    return worth(replace(view.quality, yaw=0.0, pitch=0.0), 1.0)


def _newness(view: View, chosen: Sequence[View]) -> float:
    """0 to 1: distance to the nearest pose that was chosen; of the first, how frontal it is."""
    yaw, pitch = _pose(view)
    if not chosen:
        return math.exp(-((abs(yaw) + 2 * abs(pitch)) ** 2) / 0.1)
    nearest = min(math.hypot(yaw - other[0], 2 * (pitch - other[1])) for other in map(_pose, chosen))
    return min(1.0, nearest / SAME_POSE)


def _too_near(view: View, other: View, options: TurnOptions) -> bool:
    return abs(view.at_s - other.at_s) < options.spacing_s or _alike(view, other, options)


def _alike(view: View, other: View, options: TurnOptions) -> bool:
    if view.look is None or other.look is None:
        return False
    return float(np.vdot(view.look, other.look)) >= options.alike
