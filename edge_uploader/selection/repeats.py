"""What is seen again and again at one place: a poster, a screen, the guard at the desk. Pure logic.

Place and look together say that it is the same: a place alone would swallow whoever sits down there next, a look alone
is no evidence at all between people. What has settled is sent seldom: after 5 minutes, 10, 20 … up to hours; what
looks different is sent at once.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edge_uploader.selection.appearance import Appearance, likeness
from shared.domain import Float32Array

_NEAR: Final = 0.75
"""Face sizes within which two boxes are at one place: a head moves while its owner sits."""
_SIZE_RATIO: Final = 1.5
_LOOKS: Final = 12
"""Looks remembered of each place: a face turns."""
_PLACES: Final = 64
_CHANGED_LOOKS: Final = 2


@dataclass(frozen=True, slots=True)
class RepeatOptions:
    """When something has settled, and how seldom it is sent then.

    Attributes:
        settle_s: seen for so long at one place, with one look, it has. 0: nothing ever has.
        first_s: wait until it is sent again; each wait is twice the one before.
        longest_s: longest wait.
        same: likeness from which a view shows the same. Of two people, one pair of views in a hundred reaches 0.51
            (docs/adr/0022).
        identical: likeness from which even a return after an absence is no news: a picture on the wall.
        absent_s: not seen for so long, it has been away.
    """

    settle_s: float = 30.0
    first_s: float = 300.0
    longest_s: float = 14_400.0
    same: float = 0.6
    identical: float = 0.9
    absent_s: float = 60.0


@dataclass(slots=True, eq=False)
class Place:
    """A place where something is seen, and how that looks.

    Attributes:
        box: (4,) float32 xyxy, pixels, smoothed.
        seen_s: for how long in all.
        settled: it has been there for long enough.
        due_s: position in the stream at which it may be sent again.
        waits: how often it was sent since it settled.
    """

    box: Float32Array
    looks: list[Appearance]
    last_s: float
    seen_s: float = 0.0
    settled: bool = False
    due_s: float = 0.0
    waits: int = 0
    odd: int = field(default=0, repr=False)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `Repeats.see` makes of a view.

    Attributes:
        held_back: it is known, and not due.
        again: it is known, and due: one crop will do.
        changed: this track shows something else than before at the same place.
        settled: it has just settled: say so.
    """

    held_back: bool = False
    again: bool = False
    changed: bool = False
    settled: bool = False


_NEWS: Final = Verdict()


class Repeats:
    """The places of one camera.

    Args:
        options: see `RepeatOptions`.
    """

    def __init__(self, options: RepeatOptions | None = None) -> None:
        self._options = options or RepeatOptions()
        self._places: list[Place] = []
        self._of: dict[str, Place] = {}

    @property
    def settled(self) -> int:
        """Places that have settled and are remembered."""
        return sum(place.settled for place in self._places)

    def boxes(self) -> list[Float32Array]:
        """Of the places that have settled."""
        return [place.box for place in self._places if place.settled]

    def see(self, track: str, box: Float32Array, look: Appearance, at_s: float) -> Verdict:
        """A track shows a face.

        Args:
            box: xyxy pixels.
            at_s: position in the stream, rising.
        """
        if self._options.settle_s <= 0:
            return _NEWS
        place = self._of.get(track)
        if place is not None and not _at(place.box, box):
            # It moves: whoever walks has no place.
            del self._of[track]
            self._drop_if_passing(place)
            place = None
        if place is None:
            place = self._find(box, look) or self._open(box, look, at_s)
            self._of[track] = place
            return self._arrived(place, box, look, at_s)
        return self._stayed(track, place, box, look, at_s)

    def moved(self, track: str, to: str) -> None:
        """The track has another id now."""
        if (place := self._of.pop(track, None)) is not None:
            self._of[to] = place

    def ended(self, track: str) -> None:
        """The track is over; its place is remembered if it has settled, or may yet."""
        self._of.pop(track, None)

    def sent(self, track: str, at_s: float) -> None:
        """A crop of the track was sent: what has settled waits for longer now."""
        place = self._of.get(track)
        if place is not None and place.settled:
            self._wait(place, at_s)

    def _wait(self, place: Place, at_s: float) -> None:
        place.due_s = at_s + min(self._options.first_s * 2.0**place.waits, self._options.longest_s)
        place.waits = min(place.waits + 1, 32)

    def _arrived(self, place: Place, box: Float32Array, look: Appearance, at_s: float) -> Verdict:
        """A new track at a place that is known, or was opened for it."""
        away_s = at_s - place.last_s
        close = max(likeness(look, known) for known in place.looks)
        self._note(place, box, look, at_s, close)
        if not place.settled:
            return _NEWS
        back = away_s >= self._options.absent_s and close < self._options.identical
        if back or at_s >= place.due_s:
            return Verdict(again=True)
        return Verdict(held_back=True)

    def _stayed(self, track: str, place: Place, box: Float32Array, look: Appearance, at_s: float) -> Verdict:
        options = self._options
        close = max(likeness(look, known) for known in place.looks)
        if close < options.same:
            place.odd += 1
            place.last_s = at_s
            if place.odd < _CHANGED_LOOKS:
                return Verdict(held_back=True)
            place.odd = 0
            self._drop_if_passing(place)
            del self._of[track]
            known = self._find(box, look)
            self._of[track] = other = known or self._open(box, look, at_s)
            if known is not None and known.settled:
                return self._arrived(known, box, look, at_s)
            return dataclasses.replace(self._arrived(other, box, look, at_s), changed=place.settled)
        place.odd = 0
        self._note(place, box, look, at_s, close)
        if not place.settled and place.seen_s >= options.settle_s:
            place.settled = True
            self._wait(place, at_s)
            return Verdict(held_back=True, settled=True)
        if not place.settled:
            return _NEWS
        return Verdict(again=True) if at_s >= place.due_s else Verdict(held_back=True)

    def _note(self, place: Place, box: Float32Array, look: Appearance, at_s: float, close: float) -> None:
        step_s = at_s - place.last_s
        # Longer gaps were an absence.
        place.seen_s += step_s if step_s <= 2.0 else 0.0
        place.last_s = at_s
        place.box = (np.float32(0.95) * place.box + np.float32(0.05) * box).astype(np.float32)
        if close < (self._options.same + self._options.identical) / 2:
            place.looks.append(look)
            if len(place.looks) > _LOOKS:
                del place.looks[1]  # the first is what was sent

    def _find(self, box: Float32Array, look: Appearance) -> Place | None:
        taken = set(map(id, self._of.values()))
        best, found = self._options.same, None
        for place in self._places:
            if id(place) in taken or not _at(place.box, box):
                continue
            close = max(likeness(look, known) for known in place.looks)
            if close >= best:
                best, found = close, place
        return found

    def _open(self, box: Float32Array, look: Appearance, at_s: float) -> Place:
        place = Place(np.asarray(box, dtype=np.float32).copy(), [look], at_s)
        self._places.append(place)
        if len(self._places) > _PLACES:
            # The least known goes first, then the one that was not seen for longest.
            taken = set(map(id, self._of.values()))
            spare = [old for old in self._places[:-1] if id(old) not in taken] or self._places[:-1]
            self._places.remove(min(spare, key=lambda old: (old.settled, old.last_s)))
        return place

    def _drop_if_passing(self, place: Place) -> None:
        """Forgets where somebody only came by."""
        if not place.settled and place.seen_s < self._options.settle_s / 10 and place in self._places:
            self._places.remove(place)


def _at(place: Float32Array, box: Float32Array) -> bool:
    """Whether a box is at a place: near its centre and of about its size."""
    # Plain numbers: each view is held against every place, and NumPy would take ten times as long for four of them.
    left, top, right, bottom = place.tolist()
    x1, y1, x2, y2 = box.tolist()
    size, other = (right - left + bottom - top) / 2, (x2 - x1 + y2 - y1) / 2
    if not 1 / _SIZE_RATIO <= other / max(size, 1e-3) <= _SIZE_RATIO:
        return False
    return bool(math.hypot(left + right - x1 - x2, top + bottom - y1 - y2) / 2 <= _NEAR * size)
