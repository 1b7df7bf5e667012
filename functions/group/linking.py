"""From members and their embeddings to clusters of members. Apart from `runs`, since it takes a second to import."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np

from functions.group.cluster import Pairs, Progress, link, similar_pairs, threshold_for, typical
from functions.group.corrections import Corrections
from functions.group.state import Member
from shared.domain import Float32Array
from shared.matching.model import centre


@dataclass(frozen=True, slots=True, eq=False)
class Linked:
    """Faces of one embedder and the pairs that resemble each other.

    Attributes:
        embeddings: (N, D) float32, the mean face removed.
    """

    members: Sequence[Member]
    embeddings: Float32Array
    pairs: Pairs
    threshold: float

    def clusters(self, corrections: Corrections, left_out: Collection[str], progress: Progress) -> list[list[Member]]:
        """Members of one person each, single ones too, under these corrections.

        Args:
            left_out: detections that are in no cluster.
        """
        row_of = {m.detection_id: row for row, m in enumerate(self.members) if m.detection_id not in left_out}
        here = np.zeros(len(self.members), dtype=bool)
        here[list(row_of.values())] = True
        both = here[self.pairs.left] & here[self.pairs.right]
        pairs = Pairs(self.pairs.left[both], self.pairs.right[both], self.pairs.similarity[both])
        labels = link(self.embeddings, pairs, self.threshold, corrections.constraints(row_of), progress)
        found: dict[int, list[Member]] = {}
        for row in row_of.values():
            found.setdefault(int(labels[row]), []).append(self.members[row])
        return list(found.values())


def prepared(members: Sequence[Member], embeddings: Float32Array, threshold: float, progress: Progress) -> Linked:
    """Looks for the pairs; the costly part.

    Args:
        embeddings: (N, D) float32, unit rows, in the order of `members`.
        threshold: the embedder's default.
    """
    centred = centre(embeddings, typical(embeddings, threshold))
    at = threshold_for(len(centred), threshold)
    return Linked(members, centred, similar_pairs(centred, at, progress), at)
