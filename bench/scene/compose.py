"""Draws a plan: frames and their truth, the same for the same plan and photographs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from bench.scene.people import Portraits
from bench.scene.plan import FPS, HEIGHT_PX, HORIZON_PX, WIDTH_PX, Plan, Visit
from bench.scene.sprites import Cutout, Placed, cut_out, placed, poster, set_in
from bench.scene.truth import TrueFace, TrueFrame
from shared.domain import Float32Array, UInt8Array

EXPOSURE_S, DARK_EXPOSURE_S = 1 / 60, 1 / 30
_FOCUS_M, _FOCUS_PX = 4.5, 4.0
"""Distance that is sharp, and the blur's standard deviation per difference of 1/m: 0.7 px at 16 m, 1.1 px at 2 m."""
_NOISE = 2.2
"""Standard deviation of the sensor's noise, grey levels; at little light it grows as the gain that makes up for it."""
_TILES = 6
_SMALLEST_PX = 20.0


@dataclass(frozen=True, slots=True, eq=False)
class _Actor:
    """A visit, and how it looks: a cut-out of each photograph."""

    visit: Visit
    looks: list[Cutout]


class Composer:
    """The frames of one plan.

    Args:
        portraits: where the photographs' faces are; a visit whose photographs have none is left out.
    """

    def __init__(self, plan: Plan, portraits: Portraits) -> None:
        self._plan, self._portraits = plan, portraits
        random = np.random.default_rng([plan.options.seed, 5])
        self._hall = _hall(random)
        self._noise = {scale: _tiles(random, _NOISE * scale) for scale in (1.0, 1.8)}
        self._order = random.integers(0, _TILES, plan.frames)
        self._actors: dict[int, _Actor | None] = {}

    def frames(self) -> Iterator[tuple[UInt8Array, TrueFrame]]:
        """(frame, truth) in order; frames are BGR (1080, 1920, 3) uint8."""
        for index in range(self._plan.frames):
            yield self._frame(index)

    def _frame(self, index: int) -> tuple[UInt8Array, TrueFrame]:
        now_s = index / FPS
        light = self._plan.light(now_s)
        frame = self._hall.copy()
        present = self._present(now_s, light)
        for _, sprite in present:
            set_in(frame, sprite)
        if light < 1.0:
            frame = cv2.convertScaleAbs(frame, alpha=light, beta=4)
        plus, minus = self._noise[1.0 if light == 1.0 else 1.8][self._order[index]]
        frame = cv2.subtract(cv2.add(frame, plus), minus)
        faces = []
        for number, (visit, sprite) in enumerate(present):
            nearer = [other for _, other in present[number + 1 :]]
            visible = visible_share(sprite, nearer)
            person = visit.person
            if visible > 0:
                faces.append(TrueFace(visit.id, person.id, person.enrolled, visit.kind, sprite.box, visible))
        return frame, TrueFrame(index, now_s, light, faces)

    def _present(self, now_s: float, light: float) -> list[tuple[Visit, Placed]]:
        """Who is in the picture, the furthest first."""
        exposure_s = EXPOSURE_S if light == 1.0 else DARK_EXPOSURE_S
        present: list[tuple[float, Visit, Placed]] = []
        for visit in self._plan.visits:
            place = visit.at(now_s)
            actor = self._actor(visit) if place else None
            if place is None or actor is None or place.height_px < _SMALLEST_PX:
                continue
            look, turning = visit.photograph(now_s)
            defocus = _FOCUS_PX * abs(1 / place.z_m - 1 / _FOCUS_M) + visit.defocus * place.height_px
            motion = abs(place.speed_px_s) * exposure_s + (0.12 * place.height_px if turning else 0.0)
            sprite = placed(
                actor.looks[look % len(actor.looks)],
                (place.x_px, place.y_px),
                place.height_px,
                (WIDTH_PX, HEIGHT_PX),
                motion_px=motion,
                defocus_px=defocus,
                gain=visit.gain,
            )
            if sprite is not None:
                # What hangs on the wall is behind everybody.
                depth = np.inf if visit.kind == "poster" else place.z_m
                present.append((depth, visit, sprite))
        for number in [n for n, a in self._actors.items() if a and a.visit.end_s < now_s]:
            self._actors[number] = None
        return [(visit, sprite) for _, visit, sprite in sorted(present, key=lambda each: (-each[0], each[1].id))]

    def _actor(self, visit: Visit) -> _Actor | None:
        if visit.id not in self._actors:
            portraits = self._portraits.of(visit.person.shown)
            # Another visit of the same person begins with another photograph.
            turned = (
                portraits[visit.id % len(portraits) :] + portraits[: visit.id % len(portraits)] if portraits else []
            )
            make = poster if visit.kind == "poster" else cut_out
            looks = [make(portrait) for portrait in turned[: visit.photographs]]
            self._actors[visit.id] = _Actor(visit, looks) if looks else None
        return self._actors[visit.id]


def visible_share(sprite: Placed, nearer: list[Placed]) -> float:
    """Share of a face's ellipse that is inside the frame and not under somebody nearer, 0 to 1."""
    x0, y0, x1, y1 = (round(float(v)) for v in sprite.box)
    mask = np.zeros((max(y1 - y0, 1), max(x1 - x0, 1)), np.uint8)
    h, w = mask.shape
    cv2.ellipse(mask, (w // 2, h // 2), (max(w // 2, 1), max(h // 2, 1)), 0, 0, 360, 1, -1)
    whole = int(mask.sum())
    mask[: max(-y0, 0)] = 0
    mask[:, : max(-x0, 0)] = 0
    mask[max(HEIGHT_PX - y0, 0) :] = 0
    mask[:, max(WIDTH_PX - x0, 0) :] = 0
    for other in nearer:
        oh, ow = other.pixels.shape[:2]
        left, top = max(other.left, x0), max(other.top, y0)
        right, bottom = min(other.left + ow, x1), min(other.top + oh, y1)
        if left < right and top < bottom:
            over = other.pixels[top - other.top : bottom - other.top, left - other.left : right - other.left, 3] > 127
            mask[top - y0 : bottom - y0, left - x0 : right - x0][over] = 0
    return float(mask.sum()) / max(whole, 1)


def _hall(random: np.random.Generator) -> UInt8Array:
    """Walls, a floor, doors and lamps, slightly uneven, so that there is something to compress."""
    tint = random.uniform(0.88, 1.0, 3).astype(np.float32)
    picture: Float32Array = np.empty((HEIGHT_PX, WIDTH_PX, 3), np.float32)
    floor = int(HORIZON_PX + 170)
    picture[:floor] = np.linspace(190, 150, floor, dtype=np.float32)[:, None, None] * tint
    picture[floor:] = np.linspace(95, 135, HEIGHT_PX - floor, dtype=np.float32)[:, None, None] * tint
    for left in range(60, WIDTH_PX, 310):
        shade = float(random.uniform(0.55, 0.9))
        picture[190:floor, left : left + 150] *= shade
        cv2.rectangle(picture, (left, 190), (left + 150, floor), (70.0, 70.0, 75.0), 3)
    for y in range(floor, HEIGHT_PX, 55):
        cv2.line(picture, (0, y), (WIDTH_PX, y), (88.0, 90.0, 92.0), 1)
    for x in range(-1600, WIDTH_PX + 1600, 160):
        cv2.line(picture, (WIDTH_PX // 2 + (x - WIDTH_PX // 2) // 3, floor), (x, HEIGHT_PX), (88.0, 90.0, 92.0), 1)
    coarse = random.normal(0, 5, (HEIGHT_PX // 12, WIDTH_PX // 12)).astype(np.float32)
    picture += cv2.resize(coarse, (WIDTH_PX, HEIGHT_PX), interpolation=cv2.INTER_CUBIC)[..., None]
    return np.clip(picture, 0, 255).astype(np.uint8)


def _tiles(random: np.random.Generator, deviation: float) -> list[tuple[UInt8Array, UInt8Array]]:
    """Noise made once, as what is added and what is taken away: both saturate, and are quick."""
    tiles = []
    for _ in range(_TILES):
        noise = random.normal(0, deviation, (HEIGHT_PX, WIDTH_PX, 3)).round().astype(np.int16)
        tiles.append((np.clip(noise, 0, 255).astype(np.uint8), np.clip(-noise, 0, 255).astype(np.uint8)))
    return tiles
