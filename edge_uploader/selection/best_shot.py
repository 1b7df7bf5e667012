"""Which crops of a track are worth sending. Pure logic.

A shot's worth is its quality, never its similarity to somebody: the gateway knows no people, and choosing the frame
that looks most like one would make mistakes look certain. The first shot goes within a second, so that somebody is
recognised while they are still there; better ones follow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from shared.domain import Quality

T = TypeVar("T")

_SHARPNESS_KNEE = 15.0
"""Variance of the Laplacian at 112 px that counts half. On street video, faces of 50 to 100 px have 10 to 50."""
_CONTRAST_KNEE = 20.0
"""Grey levels of deviation that count half, before the root; most faces have 30 to 60."""
_SMALL_PX = 50.0
"""A smear of a face below this is one that is too far away."""
_PITCH_TOLERANCE, _PITCH_RANGE = 0.05, 0.15
_CHANGED = 0.5
"""What the best worth so far counts once the face looks different; and the share of `enough` that all before is worth
at the most."""
_FOR_THE_NEXT = 3
"""Shots that are left at least, once a track may have passed to somebody else."""
USABLE = 0.1
"""Worth from which a face is as a rule recognised."""
TOO_SMALL: Final = "too_small"
_USUAL = {"too_blurred": 0.7, "turned_away": 0.85, "covered": 0.7, "low_contrast": 0.8}
"""What these properties leave of an ordinary shot; the others leave all."""
_AS_GOOD = 0.85
"""Share of the best worth that counts as the same: so much the worth of one face changes from frame to frame."""
_BETTER = 1.2
"""Times the best worth from which a view counts as better beyond that change."""


def worth(quality: Quality, completeness: float) -> float:
    """0 to 1: how well a face can be recognised from this shot.

    A product, since one bad property spoils the rest: sharpness, frontality (half in profile, half when looking well
    down or up), brightness (less outside 60 to 200), contrast (square root), the detector's confidence (squared: it
    falls with whatever hides a face) and the share of the face inside the frame (to the eighth: a cut face is aligned
    wrongly). Size is in the sharpness, which is measured at 112 px: what was far away is a smear there. Fitted to
    6,000 views of known people, docs/adr/0022.

    >>> round(worth(Quality(112, 135, 0.0, 128, 1.0), 1.0), 2)
    0.9
    """
    return math.prod(shares(quality, completeness).values())


def shares(quality: Quality, completeness: float) -> dict[str, float]:
    """What each property leaves of the worth, 0 to 1, by the defect that it is when it leaves little."""
    yaw = 0.5 if quality.yaw is None else min(1.0, abs(quality.yaw))
    nod = 0.0 if quality.pitch is None else abs(quality.pitch)
    tilt = min(1.0, max(0.0, nod - _PITCH_TOLERANCE) / _PITCH_RANGE)
    return {
        "too_blurred": _share(quality.sharpness, _SHARPNESS_KNEE),
        "turned_away": (1.0 - 0.5 * yaw) * (1.0 - 0.5 * tilt),
        "too_dark": 1.0 - min(1.0, max(60.0 - quality.brightness, 0.0) / 120.0),
        "too_bright": 1.0 - min(1.0, max(quality.brightness - 200.0, 0.0) / 120.0),
        "low_contrast": 1.0 if quality.contrast is None else math.sqrt(_share(quality.contrast, _CONTRAST_KNEE)),
        "covered": quality.confidence**2,
        "cut_off": completeness**8,
    }


def defect(quality: Quality, completeness: float) -> str | None:
    """What spoils a shot most, as a key of `shares` or `TOO_SMALL`; None when it is good enough to be recognised."""
    found = shares(quality, completeness)
    if math.prod(found.values()) >= USABLE:
        return None
    worst = min(found, key=lambda name: found[name] / _USUAL.get(name, 1.0))
    return TOO_SMALL if worst == "too_blurred" and quality.size_px < _SMALL_PX else worst


def _share(value: float, knee: float) -> float:
    """0 to 1: half at the knee."""
    return value / (value + knee) if value > 0 else 0.0


@dataclass(frozen=True, slots=True)
class BestShotOptions:
    """How many shots of a track go, and when.

    Attributes:
        shots: most that are sent in one period.
        enough: worth from which on two shots or more are enough, taken together: a face that is well seen is known
            from two of them, one that is blurred takes all that it gets.
        nearer: times as large as whatever was sent, from where a better view of whoever comes nearer goes all the same,
            once in a period: worth hardly tells a face of 50 px from one of 150.
        spacing_s: least time between two of them.
        hold_s: how long a view is held for a better one, once it is good enough to go.
        refresh_s: length of a period: a track that stays longer starts anew.
        good_enough: worth from which the first shot is held for `hold_s` only.
        first_after_s: when none was good enough for so long, the best so far goes: somebody may be standing there.
        unusable_after_s: the same while no view is even usable: what can hardly be recognised is not worth one of
            few, while whoever comes nearer looks better every moment. Once something was sent of a face,
            `first_after_s` holds.
        rise: by how much each further shot has to be better than the best that was sent.
        relax_s: after so long a time without a better one, one as good as the last will do: another moment is often
            another look, and the recogniser can use both.
        alone_s: after so long with one shot alone since the look changed, any usable one will do: whoever walks away
            never looks better than at first, and whoever passes by is gone soon.
        doubtful: worth below which even the best that was sent may not be recognised, and no worth tells which other
            view would be.
        doubtful_s: in that case any view will do after so long a time, but for the last shot: whoever comes near in
            the end is still sent.
    """

    shots: int = 4
    enough: float = 0.45
    nearer: float = 2.0
    spacing_s: float = 0.8
    hold_s: float = 0.5
    refresh_s: float = 300.0
    good_enough: float = 0.35
    first_after_s: float = 1.0
    unusable_after_s: float = 2.0
    rise: float = 2.0
    relax_s: float = 4.0
    alone_s: float = 2.0
    doubtful: float = 0.2
    doubtful_s: float = 1.2


@dataclass(frozen=True, slots=True)
class Shot(Generic[T]):
    """One view of a face: its worth, when it was taken (position in the stream), what is sent of it, and how large the
    face is, on the long axis."""

    worth: float
    at_s: float
    payload: T
    size_px: float = 0.0


class BestShots(Generic[T]):
    """The choice for one track: peaks of the worth, each sent soon after it was passed.

    A view that meets the demand opens a window; the best view of the window is sent when it closes. So no shot waits
    longer than its window, whatever the track does afterwards; the price is that nobody knows whether a better view
    is still to come. The demand on the next one is therefore high at first (the face may be coming nearer) and
    relaxes to a little below the best that was sent. A view that is not usable waits for one that is, for a while.
    Of a face that is well seen two shots are enough, unless it comes much nearer; one that is not, is sent more often.

    Args:
        options: see `BestShotOptions`.
    """

    def __init__(self, options: BestShotOptions) -> None:
        self._options = options
        self._usable = min(USABLE, options.good_enough)
        self._held: Shot[T] | None = None
        self._opened_s = 0.0
        self._best = self._demanded = 0.0
        # Of the period; of these, of whoever is followed now; and since the look changed.
        self._sent = self._counted = self._of_look = 0
        self._worth_sent = 0.0
        self._last_sent_s = -math.inf
        self._one_more = self._extra = self._nearer = False
        self._largest_px = 0.0
        self._period_started_s: float | None = None

    @property
    def sent(self) -> int:
        """Shots of the present period."""
        return self._sent

    @property
    def enough(self) -> bool:
        """Whether no more are sent in the present period, as long as the face looks the same."""
        return self._counted >= self._options.shots or (self._counted > 1 and self._worth_sent >= self._options.enough)

    def offer(self, worth: float, at_s: float, take: Callable[[], T], size_px: float = 0.0) -> list[Shot[T]]:
        """Looks at one view, and says what to send now.

        Args:
            worth: 0 to 1.
            at_s: position in the stream, rising.
            take: makes the payload; called only when the view is kept or sent.
            size_px: the face's longer side; 0: not known, which is never nearer.
        """
        out: list[Shot[T]] = []
        if self._period_started_s is None:
            self._period_started_s = at_s
        elif at_s - self._period_started_s >= self._options.refresh_s:
            out = self.finish()
            self._period_started_s = at_s
        if self._held is not None:
            if worth > self._held.worth:
                if self._held.worth < self._usable <= worth:
                    self._opened_s = at_s
                self._held = Shot(worth, at_s, take(), size_px)
        else:
            self._allow_nearer(worth, size_px)
            if worth >= self.demand(at_s):
                self._held, self._opened_s = Shot(worth, at_s, take(), size_px), at_s
        return out + self.due(at_s)

    def due(self, at_s: float) -> list[Shot[T]]:
        """What has been held long enough by `at_s`; asked also while the face is not seen."""
        if self._held is None:
            return []
        waited = self._options.hold_s
        if self._held.worth < self._usable:
            waited = self._options.first_after_s if self._best else self._options.unusable_after_s
        elif not self._sent and self._held.worth < self._options.good_enough:
            waited = self._options.first_after_s
        # Half a millisecond of tolerance, as in `FrameSampler`.
        return [] if at_s - self._opened_s < waited - 5e-4 else self._release()

    def changed(self) -> None:
        """The face looks different all of a sudden, as of a head that turned; or it is another's, who crossed its way.

        The next view need not be better than what was sent before, which is no longer enough by itself: one good shot
        of the new look, or two that are less good. Once in a period one more than the most may go.
        """
        self._demanded *= _CHANGED
        self._worth_sent = min(self._worth_sent, _CHANGED * self._options.enough)
        self._of_look = 0
        if self.enough and not self._extra:
            self._one_more = self._extra = True

    def returned(self) -> list[Shot[T]]:
        """The face looks different after having been out of sight; what is held of the one before goes now.

        It may well be somebody who came out where another went away: what was sent before counts for nothing but the
        most, of which three are left at least, until twice as many have gone in all.
        """
        out = self._forget()
        most = self._options.shots
        self._counted = max(min(self._counted, max(most - _FOR_THE_NEXT, 0)), self._sent - most)
        return out

    def flush(self) -> list[Shot[T]]:
        """What is still held when the face is lost; what was sent counts on, should it reappear.

        Something of every track is sent, however poor, since the first view meets every demand.
        """
        return self._release()

    def finish(self) -> list[Shot[T]]:
        """What is still held when the period ends; then forgets everything."""
        out = self._forget()
        self._sent = self._counted = 0
        self._last_sent_s, self._period_started_s = -math.inf, None
        self._one_more = self._extra = self._nearer = False
        return out

    def demand(self, at_s: float) -> float:
        """Worth that a view at `at_s` has to reach to be sent; infinite when no more are."""
        options = self._options
        if not self._sent:
            return 0.0
        since_s = at_s - self._last_sent_s
        if (self.enough and not self._one_more) or since_s < options.spacing_s - 5e-4:
            return math.inf
        doubtful = self._best < options.doubtful and self._counted < options.shots - 1
        if doubtful and since_s >= options.doubtful_s - 5e-4:
            return 0.0
        relaxed = min(1.0, since_s / options.relax_s) if options.relax_s > 0 else 1.0
        demand = self._demanded * (options.rise + (_AS_GOOD - options.rise) * relaxed)
        return min(demand, self._usable) if self._of_look == 1 and since_s >= options.alone_s - 5e-4 else demand

    def _allow_nearer(self, worth: float, size_px: float) -> None:
        """One more may go of a face that was sent often enough, and is much larger and better now."""
        larger = size_px >= self._options.nearer * self._largest_px > 0
        if self.enough and larger and worth >= _BETTER * self._best and not self._nearer:
            self._one_more = self._nearer = True

    def _forget(self) -> list[Shot[T]]:
        """What is held goes; how good and how large it and all before it was counts no longer."""
        out = self._release()
        self._best = self._demanded = self._worth_sent = self._largest_px = 0.0
        self._of_look = 0
        return out

    def _release(self) -> list[Shot[T]]:
        shot = self._held
        if shot is None:
            return []
        self._held = None
        self._sent, self._counted, self._of_look = self._sent + 1, self._counted + 1, self._of_look + 1
        self._worth_sent += shot.worth
        self._one_more = False
        self._best, self._demanded = max(self._best, shot.worth), max(self._demanded, shot.worth)
        self._largest_px = max(self._largest_px, shot.size_px)
        self._last_sent_s = shot.at_s
        return [shot]
