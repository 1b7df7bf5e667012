"""What a spool counts, and what can be wrong with a store."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

Reason = Literal["bound", "new", "age", "refused", "torn"]
"""Why a crop was given up, see `SpoolCounts`."""
Trouble = Literal["away", "refuses"]
"""Why crops wait for the store: it cannot be reached or is overloaded; it refuses one after another."""
TROUBLES: Final[dict[str, str]] = {
    "away": "the store cannot be reached, or is overloaded",
    "refuses": "the store refuses one crop after another",
}
"""In words, for people."""


@dataclass(slots=True)
class SpoolCounts:
    """Since the spool was opened.

    Attributes:
        times_full: spells in which nothing was taken, or something had to give way.
        dropped_bound: crops that waited and gave way to more valuable ones at the bound.
        dropped_new: crops that were not taken at the bound, since all that waited was worth more.
        dropped_age: crops that waited, or were kept for a look, for longer than the age limit.
        dropped_refused, dropped_torn: crops that were kept for a look and gave way to newer ones.
        dropped_bytes: of all these.
    """

    taken: int = 0
    delivered: int = 0
    refused: int = 0
    torn: int = 0
    times_full: int = 0
    dropped_bound: int = 0
    dropped_new: int = 0
    dropped_age: int = 0
    dropped_refused: int = 0
    dropped_torn: int = 0
    dropped_bytes: int = 0

    def drop(self, reason: Reason, crops: int, size_bytes: int) -> None:
        """So many crops were given up."""
        name = f"dropped_{reason}"
        setattr(self, name, getattr(self, name) + crops)
        self.dropped_bytes += size_bytes

    @property
    def dropped(self) -> int:
        """Crops that were given up, for whatever reason."""
        return self.dropped_bound + self.dropped_new + self.dropped_age + self.dropped_refused + self.dropped_torn
