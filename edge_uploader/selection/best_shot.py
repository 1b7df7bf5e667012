"""Which crops of a track are worth sending. Pure logic.

A shot's worth is its quality, never its similarity to somebody: the gateway knows no people, and choosing the frame
that looks most like one would make mistakes look certain. The first shot that is good enough goes at once, so that
somebody is recognised while they are still there; better ones follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.domain import Quality

T = TypeVar("T")

_FULL_SIZE_PX = 112.0
"""Size from which a larger face makes recognition no better: SFace's input; FaceNet's 160 holds a margin."""
_SHARPNESS_KNEE = 15.0
"""Variance of the Laplacian at 112 px that counts half. On street video, faces of 50 to 100 px have 10 to 50."""
_PITCH_TOLERANCE, _PITCH_RANGE = 0.05, 0.15
_CLEARLY_BETTER = 1.3
_NOT_WORTH_IT = 0.6


def worth(quality: Quality, completeness: float) -> float:
    """0 to 1: how well a face can be recognised from this shot.

    A product, since one bad property spoils the rest: size (square root, full from 112 px), sharpness, frontality
    (half in profile, half when looking well down or up), brightness (less outside 60 to 200), the detector's
    confidence (squared: it falls with whatever hides a face) and the share of the face inside the frame (squared:
    half a face is no face).

    >>> round(worth(Quality(112, 135, 0.0, 128, 1.0), 1.0), 2)
    0.9
    """
    size = math.sqrt(min(1.0, max(quality.size_px, 0.0) / _FULL_SIZE_PX))
    sharpness = quality.sharpness / (quality.sharpness + _SHARPNESS_KNEE) if quality.sharpness > 0 else 0.0
    yaw = 0.5 if quality.yaw is None else min(1.0, abs(quality.yaw))
    nod = 0.0 if quality.pitch is None else abs(quality.pitch)
    tilt = min(1.0, max(0.0, nod - _PITCH_TOLERANCE) / _PITCH_RANGE)
    light = 1.0 - min(1.0, max(60.0 - quality.brightness, quality.brightness - 200.0, 0.0) / 120.0)
    frontality = (1.0 - 0.5 * yaw) * (1.0 - 0.5 * tilt)
    return size * sharpness * frontality * light * quality.confidence**2 * completeness**2


@dataclass(frozen=True, slots=True)
class BestShotOptions:
    """How many shots of a track go, and when.

    Attributes:
        shots: most that are sent in one period.
        spacing_s: least time between two of them.
        refresh_s: length of a period: a track that stays longer starts anew.
        good_enough: worth at which the first shot goes without waiting.
        first_after_s: when none was good enough for so long, the best so far goes: somebody may be standing there.
    """

    shots: int = 3
    spacing_s: float = 0.5
    refresh_s: float = 300.0
    good_enough: float = 0.35
    first_after_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Shot(Generic[T]):
    """One view of a face: its worth, when it was taken (position in the stream), and what is sent of it."""

    worth: float
    at_s: float
    payload: T


class BestShots(Generic[T]):
    """The choice for one track.

    Args:
        options: see `BestShotOptions`.
    """

    def __init__(self, options: BestShotOptions) -> None:
        self._options = options
        self._held: list[Shot[T]] = []
        self._sent: list[Shot[None]] = []
        self._period_started_s: float | None = None

    def offer(self, worth: float, at_s: float, take: Callable[[], T]) -> list[Shot[T]]:
        """Looks at one view, and says what to send now.

        Args:
            worth: 0 to 1.
            at_s: position in the stream, rising.
            take: makes the payload; called only when the view is kept or sent.
        """
        out: list[Shot[T]] = []
        if self._period_started_s is None:
            self._period_started_s = at_s
        elif at_s - self._period_started_s >= self._options.refresh_s:
            out = self.finish()
            self._period_started_s = at_s
        if self._goes_now(worth, at_s):
            out.append(self._send(Shot(worth, at_s, take())))
        else:
            self._hold(worth, at_s, take)
        if not self._sent and self._held and at_s - self._period_started_s >= self._options.first_after_s:
            best = max(self._held, key=lambda shot: shot.worth)
            self._held.remove(best)
            out.append(self._send(best))
        return out

    def finish(self) -> list[Shot[T]]:
        """What remains to be sent when the track (or the period) ends, best first; then forgets everything.

        Something of every track is sent, however poor, since the best is measured against itself; of the rest only
        what is not much worse.
        """
        best = max([shot.worth for shot in self._held] + [shot.worth for shot in self._sent], default=0.0)
        room = self._options.shots - len(self._sent)
        ranked = sorted(self._held, key=lambda shot: -shot.worth)
        chosen = [s for s in ranked if s.worth >= _NOT_WORTH_IT * best and not self._near_sent(s.at_s)][: max(room, 0)]
        self._held, self._sent, self._period_started_s = [], [], None
        return chosen

    def _goes_now(self, worth: float, at_s: float) -> bool:
        if not self._sent:
            return worth >= self._options.good_enough
        best = max(shot.worth for shot in self._sent)
        # The last one is left for the track's end: what comes next may be better still.
        room = len(self._sent) < self._options.shots - 1
        return room and worth >= _CLEARLY_BETTER * best and not self._near_sent(at_s)

    def _send(self, shot: Shot[T]) -> Shot[T]:
        self._sent.append(Shot(shot.worth, shot.at_s, None))
        self._held = [held for held in self._held if not self._near_sent(held.at_s)]
        return shot

    def _hold(self, worth: float, at_s: float, take: Callable[[], T]) -> None:
        """Keeps the best views that are far enough apart in time from each other and from what was sent."""
        room = self._options.shots - len(self._sent)
        if room <= 0 or self._near_sent(at_s):
            return
        near = [shot for shot in self._held if abs(shot.at_s - at_s) < self._options.spacing_s]
        if any(shot.worth >= worth for shot in near):
            return
        others = [shot for shot in self._held if shot not in near]
        if len(others) >= room:
            worst = min(others, key=lambda shot: shot.worth)
            if worst.worth >= worth:
                return
            others.remove(worst)
        self._held = [*others, Shot(worth, at_s, take())]

    def _near_sent(self, at_s: float) -> bool:
        return any(abs(shot.at_s - at_s) < self._options.spacing_s for shot in self._sent)
