"""What goes first, what is held back, and what has to give way. Pure logic.

A crop's value: the camera's priority, then first shots of a visit before later ones, then its worth, then the newer.
Two lists for each class of crops, one by value and one by age, answer every question at both ends in microseconds
with 100,000 crops waiting.
"""

from __future__ import annotations

import random
from bisect import bisect_left, insort
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final, NamedTuple

GOOD_WORTH: Final = 0.5
"""Worth from which a later shot of a visit is sent when only the better ones are."""

PRIORITIES: Final = range(1, 10)
DEFAULT_PRIORITY: Final = 5


class Kind(IntEnum):
    """What a crop is to its visit; higher is worth more."""

    REST = 0
    GOOD = 1
    FIRST = 2


class Level(IntEnum):
    """How much of what waits may be sent."""

    ALL = 0
    BETTER = 1
    BEST = 2
    NOTHING = 3


class Rank(NamedTuple):
    """A waiting crop's place: of two, the greater is worth more.

    Attributes:
        worth: in hundredths.
        stamp_ns: when it was taken, by the spool's own clock.
    """

    priority: int
    kind: Kind
    worth: int
    stamp_ns: int
    name: str


def rank_of(priority: int, shot: int, worth: float, stamp_ns: int, name: str) -> Rank:
    """The place of a crop.

    Args:
        priority: of the camera, 1 to 9.
        shot: number of the crop within its visit, from 0.
        worth: 0 to 1.

    >>> rank_of(5, 0, 0.2, 0, "a") > rank_of(5, 1, 0.9, 0, "b") > rank_of(4, 0, 1.0, 0, "c")
    True
    """
    priority = min(max(priority, PRIORITIES[0]), PRIORITIES[-1])
    worth = min(max(worth, 0.0), 1.0) if worth == worth else 0.0
    kind = Kind.FIRST if shot <= 0 else Kind.GOOD if worth >= GOOD_WORTH else Kind.REST
    return Rank(priority, kind, round(100 * worth), stamp_ns, name)


@dataclass(frozen=True, slots=True)
class Gate:
    """Which crops may be sent now.

    Attributes:
        top_priority: of the gateway's cameras; only these pass at `Level.BEST`, and of them only first shots.
    """

    level: Level = Level.ALL
    top_priority: int = DEFAULT_PRIORITY

    def allows(self, priority: int, kind: Kind) -> bool:
        """
        >>> Gate(Level.BETTER).allows(1, Kind.GOOD), Gate(Level.BETTER).allows(9, Kind.REST)
        (True, False)
        >>> Gate(Level.BEST, 7).allows(7, Kind.FIRST), Gate(Level.BEST, 7).allows(6, Kind.FIRST)
        (True, False)
        """
        if self.level is Level.BETTER:
            return kind is not Kind.REST
        if self.level is Level.BEST:
            return kind is Kind.FIRST and priority >= self.top_priority
        return self.level is Level.ALL


OPEN: Final = Gate()


@dataclass(slots=True)
class _Bucket:
    """Crops of one priority and kind."""

    by_value: list[Rank] = field(default_factory=list)
    by_age: list[Rank] = field(default_factory=list)


def _age(rank: Rank) -> tuple[int, str]:
    return rank.stamp_ns, rank.name


class Waiting:
    """The crops that nobody has claimed."""

    def __init__(self, ranks: list[Rank] | None = None) -> None:
        # From the most valuable to the least: the order in which they are looked through.
        self._buckets = {(p, kind): _Bucket() for p in reversed(PRIORITIES) for kind in reversed(Kind)}
        self._size = 0
        for rank in ranks or ():
            self._buckets[rank.priority, rank.kind].by_value.append(rank)
            self._size += 1
        for bucket in self._buckets.values():
            bucket.by_value.sort()
            bucket.by_age = sorted(bucket.by_value, key=_age)

    def __len__(self) -> int:
        return self._size

    def add(self, rank: Rank) -> None:
        bucket = self._buckets[rank.priority, rank.kind]
        insort(bucket.by_value, rank)
        insort(bucket.by_age, rank, key=_age)
        self._size += 1

    def remove(self, rank: Rank) -> None:
        """Raises: KeyError: it does not wait."""
        bucket = self._buckets[rank.priority, rank.kind]
        place = bisect_left(bucket.by_value, rank)
        if place == len(bucket.by_value) or bucket.by_value[place] != rank:
            raise KeyError(rank.name)
        del bucket.by_value[place]
        del bucket.by_age[bisect_left(bucket.by_age, _age(rank), key=_age)]
        self._size -= 1

    def best(self, gate: Gate = OPEN) -> Rank | None:
        """The most valuable one that may go."""
        return next((bucket.by_value[-1] for bucket in self._allowed(gate)), None)

    def newest(self, gate: Gate, since_ns: int) -> Rank | None:
        """The newest of the most valuable class that has one taken since then."""
        newest = (bucket.by_age[-1] for bucket in self._allowed(gate))
        return next((rank for rank in newest if rank.stamp_ns >= since_ns), None)

    def oldest(self, gate: Gate = OPEN) -> Rank | None:
        return min((bucket.by_age[0] for bucket in self._allowed(gate)), key=_age, default=None)

    def any(self, gate: Gate = OPEN) -> Rank | None:
        """One at random, of a class at random that has one which may go."""
        buckets = list(self._allowed(gate))
        return random.choice(random.choice(buckets).by_value) if buckets else None  # noqa: S311

    def least(self) -> Iterator[Rank]:
        """From the least valuable on. Nothing may be added or removed meanwhile."""
        for bucket in reversed(self._buckets.values()):
            yield from bucket.by_value

    def held(self, gate: Gate) -> int:
        """How many may not go."""
        return self._size - sum(len(bucket.by_value) for bucket in self._allowed(gate))

    def _allowed(self, gate: Gate) -> Iterator[_Bucket]:
        return (bucket for (p, kind), bucket in self._buckets.items() if bucket.by_value and gate.allows(p, kind))
