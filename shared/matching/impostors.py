"""How similar strangers come to the nearest of N people, as it was measured of an embedder once.

A gallery of ten people cannot tell a rate of 1 in 100: it has some hundred comparisons of different people, and would
need ten times as many. What it lacks is known of the embedder, since similarities of different people hardly depend on
who they are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

FEWEST_PEOPLE: Final = 2
MOST_PEOPLE: Final = 400
"""Beyond what was measured the curve goes on as a straight line in the logarithm; so large a gallery knows better."""
RISE: Final = 0.03
"""Similarity for each factor of e in people, beyond `MOST_PEOPLE`."""
RAREST: Final = 1e-3


@dataclass(frozen=True, slots=True)
class ImpostorCurve:
    """Similarity to the nearest of N people that a share f of strangers reaches, with n = ln N and r = ln 1/f:

    base + people · n + rarity · r + people_people · n² + people_rarity · n r + rarity_rarity · r²
    """

    base: float
    people: float
    rarity: float
    people_people: float
    people_rarity: float
    rarity_rarity: float

    def similarity(self, people: int, share: float) -> float:
        """The similarity that `share` of strangers (0 to 1) reach, in a gallery of so many people.

        >>> ImpostorCurve(0.1, 0.02, 0.04, 0.0, 0.0, 0.0).similarity(100, 0.01).__round__(3)
        0.376
        """
        n = math.log(min(max(people, FEWEST_PEOPLE), MOST_PEOPLE))
        r = -math.log(min(max(share, RAREST), 1.0))
        beyond = RISE * math.log(max(people, MOST_PEOPLE) / MOST_PEOPLE)
        return (
            self.base
            + self.people * n
            + self.rarity * r
            + self.people_people * n * n
            + self.people_rarity * n * r
            + self.rarity_rarity * r * r
            + beyond
        )
