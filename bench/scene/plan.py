"""Who comes when, and which way they take. Pure arithmetic, in metres and seconds.

The camera stands at eye level: a pinhole at the origin, x to the right, z away from it. The density classes are those
of the thesis (table 5): face images a minute, as a gateway that sends every face of every frame at 6 fps counts them.
Its example videos had 305, 865 and 1,479 a minute, at 91 px of mean height.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bench.scene.people import Person
from shared.domain import Float32Array

WIDTH_PX, HEIGHT_PX = 1920, 1080
FOCAL_PX = 1600.0
"""62° of horizontal view."""
HORIZON_PX = 360.0
FACE_M = 0.24
"""From the hairline to the chin, as detectors draw it: 192 px at two metres, 24 px at sixteen."""
FPS = 6.0
COUNTED_PX = 40.0
"""Long axis from which the seed and the gateway take a face."""

DENSITIES: dict[str, float] = {"very_low": 3.0, "low": 27.0, "medium": 305.0, "high": 865.0, "very_high": 1479.0}
"""Faces a minute that a scene of each class aims at."""
_SEEN_SHARE = 0.97
"""Of the faces that are planned, so many are found: the rest are hidden, dark or blurred."""

WAYS = {"approach": 0.45, "cross": 0.25, "stand": 0.22, "recede": 0.08}
_MOST_PHOTOGRAPHS = 3


def density_class(faces_per_minute: float) -> str:
    """The thesis' class.

    >>> [density_class(rate) for rate in (4.9, 5, 50, 500, 1000)]
    ['very_low', 'low', 'medium', 'high', 'very_high']
    """
    for limit, name in ((5, "very_low"), (50, "low"), (500, "medium"), (1000, "high")):
        if faces_per_minute < limit:
            return name
    return "very_high"


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """One person in the picture once.

    Attributes:
        id: from 0, in order of coming.
        kind: a way of `WAYS`, or `guard` or `poster`.
        photographs: how many are shown in turn.
        begin_s: when the way begins.
        times_s, x_m, z_m: (K,) the way's corners, times from `begin_s` on; straight lines in between.
        drop_m: how far the face is below the camera's height.
        gain: of the light on this person.
        defocus: blur besides that of the distance, as a share of the face.
    """

    id: int
    person: Person
    kind: str
    photographs: int
    begin_s: float
    times_s: Float32Array
    x_m: Float32Array
    z_m: Float32Array
    drop_m: float
    gain: float = 1.0
    defocus: float = 0.0

    @property
    def end_s(self) -> float:
        return self.begin_s + float(self.times_s[-1])

    def at(self, now_s: float) -> Place | None:
        """Where the face is, or None before and after."""
        since = now_s - self.begin_s
        if not 0 <= since <= float(self.times_s[-1]):
            return None
        x, z = (float(np.interp(since, self.times_s, metres)) for metres in (self.x_m, self.z_m))
        ahead = since + 0.02
        moved = float(np.interp(ahead, self.times_s, self.x_m)) / float(np.interp(ahead, self.times_s, self.z_m))
        walks = self.kind not in ("guard", "poster") and abs(moved - x / z) > 1e-6
        bob = 0.02 * np.sin(2 * np.pi * 1.9 * since) if walks else 0.0
        if self.kind == "guard":  # never quite still
            x += 0.02 * np.sin(2 * np.pi * since / 7.0)
            bob = 0.01 * np.sin(2 * np.pi * since / 4.3)
        return Place(
            x_px=WIDTH_PX / 2 + FOCAL_PX * x / z,
            y_px=HORIZON_PX + FOCAL_PX * (self.drop_m + float(bob)) / z,
            z_m=z,
            speed_px_s=FOCAL_PX * (moved - x / z) / 0.02,
        )

    def photograph(self, now_s: float) -> tuple[int, bool]:
        """Which photograph is shown, and whether the head is turning at the moment: the next comes or just came."""
        length = float(self.times_s[-1])
        if self.kind == "guard":
            length = min(length, 12.0 * self.photographs)
        share = ((now_s - self.begin_s) % length) / length * self.photographs
        index = min(int(share), self.photographs - 1)
        from_change_s = min(share - index, index + 1 - share) * length / self.photographs
        inner = self.photographs > 1 and 0.05 < (now_s - self.begin_s) / length < 0.95
        return index, inner and from_change_s < 0.09


@dataclass(frozen=True, slots=True)
class Place:
    """A face's centre in the picture, its distance, and how fast it crosses the picture (px/s, to the right)."""

    x_px: float
    y_px: float
    z_m: float
    speed_px_s: float

    @property
    def height_px(self) -> float:
        return FOCAL_PX * FACE_M / self.z_m


@dataclass(frozen=True, slots=True)
class SceneOptions:
    """What is asked for.

    Attributes:
        density: a class of `DENSITIES`.
        minutes: length of the video.
        seed: everything that is drawn by chance follows from it.
        fixtures: a poster hangs on the wall and a guard sits there, besides those who come and go.
    """

    density: str
    minutes: float = 10.0
    seed: int = 1
    fixtures: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """A scene before it is drawn.

    Attributes:
        dark: (begin, end, gain) of stretches with little light, seconds.
    """

    options: SceneOptions
    visits: list[Visit]
    dark: list[tuple[float, float, float]] = field(default_factory=list)

    @property
    def frames(self) -> int:
        return round(self.options.minutes * 60 * FPS)

    def light(self, now_s: float) -> float:
        """1 is full."""
        return next((gain for begin, end, gain in self.dark if begin <= now_s < end), 1.0)


def make_plan(options: SceneOptions, people: Sequence[Person]) -> Plan:
    """Draws visits until as many faces are to be counted as the density asks for; half of them are of strangers."""
    random = np.random.default_rng([options.seed, *options.density.encode()])
    length_s = options.minutes * 60
    wanted = DENSITIES[options.density] * options.minutes / _SEEN_SHARE
    enrolled = [p for p in people if p.enrolled and p.shown]
    strangers = [p for p in people if not p.enrolled and p.shown]
    turns = _turns(random, enrolled), _turns(random, strangers)
    drawn: list[Visit] = []
    counted = 0
    while True:
        visit = _draw(random, next(turns[len(drawn) % 2]), length_s)
        faces = countable(visit, length_s)
        if drawn and counted + faces / 2 > wanted:
            break
        drawn.append(visit)
        counted += faces
    if options.fixtures:
        drawn += _fixtures(random, enrolled, strangers, length_s)
    drawn.sort(key=lambda visit: visit.begin_s)
    visits = [replace(visit, id=number) for number, visit in enumerate(drawn)]
    return Plan(options, visits, _dark(random, length_s))


def countable(visit: Visit, length_s: float) -> int:
    """In how many frames the face is in the picture and large enough to be taken."""
    first, last = int(np.ceil(visit.begin_s * FPS)), int(min(visit.end_s, length_s - 1 / FPS) * FPS)
    places = [place for k in range(max(first, 0), last + 1) if (place := visit.at(k / FPS)) is not None]
    return sum(p.height_px >= COUNTED_PX and 0 < p.x_px < WIDTH_PX and 0 < p.y_px < HEIGHT_PX for p in places)


def _turns(random: np.random.Generator, people: Sequence[Person]) -> Iterator[Person]:
    """Everybody once, in any order, before anybody comes again."""
    while True:
        yield from (people[i] for i in random.permutation(len(people)))


def _draw(random: np.random.Generator, person: Person, length_s: float) -> Visit:
    kind = str(random.choice(list(WAYS), p=list(WAYS.values())))
    times, x, z = _way(random, kind)
    return Visit(
        id=0,
        person=person,
        kind=kind,
        photographs=min(len(person.shown), int(random.integers(1, _MOST_PHOTOGRAPHS + 1))),
        # A way may have begun before the video, as in life; not so far that nothing is left of it.
        begin_s=float(random.uniform(-0.3 * times[-1], max(length_s - 0.7 * times[-1], 0.1))),
        times_s=times,
        x_m=x,
        z_m=z,
        drop_m=float(random.uniform(-0.12, 0.22)),
        gain=float(random.uniform(0.75, 1.05)),
        defocus=float(random.choice([0.0, random.uniform(0.015, 0.035)], p=[0.85, 0.15])),
    )


def _way(random: np.random.Generator, kind: str) -> tuple[Float32Array, Float32Array, Float32Array]:
    """The corners of a way: times (s), x and z (m)."""
    side = float(random.choice([-1.0, 1.0]))
    speed = float(random.uniform(0.9, 1.5))
    if kind == "cross":
        z0 = float(random.uniform(2.8, 6.5))
        z1 = z0 * float(random.uniform(0.85, 1.15))
        corners = [(-side * _outside(z0), z0, 0.0), (side * _outside(z1), z1, 0.0)]
    else:
        far = float(random.uniform(11.0, 16.0))
        start = (float(random.uniform(-0.45, 0.45)) * far * WIDTH_PX / FOCAL_PX, far, 0.0)
        near = float(random.uniform(1.9, 2.6))
        corners = [start, (side * _outside(near), near, 0.0)]
        if kind == "stand":
            at = float(random.uniform(2.3, 4.8))
            x = float(random.uniform(-0.35, 0.35)) * at * WIDTH_PX / FOCAL_PX
            far = at + float(random.uniform(1.5, 3.5))
            corners = [(side * _outside(far), far, 0.0), (x, at, float(random.uniform(1.5, 4.0)))]
            corners.append((-side * _outside(at), at, 0.0))
        if kind == "recede":
            corners.reverse()
    return _walked(corners, speed)


def _walked(
    corners: Sequence[tuple[float, float, float]], speed: float
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Times at a walker's speed, with the pauses (third value, s) at the corners."""
    times, xs, zs = [0.0], [corners[0][0]], [corners[0][1]]
    for x, z, pause in corners[1:]:
        times.append(times[-1] + max(float(np.hypot(x - xs[-1], z - zs[-1])) / speed, 0.3))
        xs.append(x)
        zs.append(z)
        if pause:
            times.append(times[-1] + pause)
            xs.append(x)
            zs.append(z)
    return _metres(times), _metres(xs), _metres(zs)


def _metres(values: Sequence[float]) -> Float32Array:
    return np.array(values, np.float32)


def _outside(z_m: float) -> float:
    """Half the picture's width at a distance, and a head."""
    return z_m * WIDTH_PX / 2 / FOCAL_PX + 0.2


def _fixtures(
    random: np.random.Generator, enrolled: Sequence[Person], strangers: Sequence[Person], length_s: float
) -> list[Visit]:
    """A poster of a stranger for the whole time, and a guard, who is enrolled, for nine tenths of it."""
    guard, poster = enrolled[int(random.integers(len(enrolled)))], strangers[int(random.integers(len(strangers)))]

    def still(person: Person, kind: str, at: tuple[float, float, float], begin_s: float, end_s: float) -> Visit:
        x, z, drop = at
        times, xs, zs = _metres([0.0, end_s - begin_s]), _metres([x, x]), _metres([z, z])
        shown = min(len(person.shown), _MOST_PHOTOGRAPHS) if kind == "guard" else 1
        return Visit(0, person, kind, shown, begin_s, times, xs, zs, drop)

    return [
        still(poster, "poster", (-3.6, 7.0, -0.55), 0.0, length_s),
        still(guard, "guard", (2.6, 5.5, 0.5), 0.05 * length_s, 0.95 * length_s),
    ]


def _dark(random: np.random.Generator, length_s: float) -> list[tuple[float, float, float]]:
    """Two stretches, each a twelfth of the time, at a third to a half of the light."""
    each = length_s / 12
    starts = sorted(random.uniform(0.1, 0.4, 1) * length_s) + sorted(random.uniform(0.6, 0.85, 1) * length_s)
    return [(float(s), float(s) + each, float(random.uniform(0.3, 0.5))) for s in starts]
