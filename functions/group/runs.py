"""A grouping: every unknown face read once, grouped per embedder, and put in the place of the groups of before.

The costly part, which faces resemble which, is done before the state is looked at; what is left takes seconds and is
done again when a correction came in meanwhile, so that every result honours every correction that is on record.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import numpy as np

from functions.group.state import GroupState, Member
from functions.group.store import GroupStore
from shared.domain import UNKNOWN, Float32Array
from shared.ports import Clock, DetectionFilter, DetectionRepository

logger = logging.getLogger(__name__)

PAGE: Final = 1_000

Progress = Callable[[float], None]


@dataclass(slots=True)
class _Faces:
    """The unknown faces of one embedder, as they are read."""

    members: list[Member] = field(default_factory=list)
    rows: list[Float32Array] = field(default_factory=list)


class Grouping:
    """Groups unknown faces.

    Args:
        thresholds: cosine from which two faces are one person, by embedder id; faces of other embedders keep the groups
            they are in.
        min_faces: smaller groups are none.
        kept_for: how long detections are kept.
    """

    def __init__(
        self,
        *,
        detections: DetectionRepository,
        store: GroupStore,
        thresholds: Mapping[str, float],
        min_faces: int,
        kept_for: timedelta,
        clock: Clock,
    ) -> None:
        self._detections = detections
        self._store = store
        self._thresholds = thresholds
        self._min_faces = min_faces
        self._kept_for = kept_for
        self._clock = clock

    def run(self, progress: Callable[[float], None]) -> dict[str, Any]:
        """Groups everything anew, and gives figures of it."""
        from functions.group.linking import Linked, prepared

        known = _mentioned(self._store.read())
        faces, seen = self._read(lambda: progress(0.05))
        ready: dict[str, Linked] = {}
        for number, (embedder_id, found) in enumerate(sorted(faces.items())):
            if embedder_id in self._thresholds:
                start, end = (0.1 + 0.7 * each / len(faces) for each in (number, number + 1))
                part = _part(progress, start, end)
                ready[embedder_id] = prepared(found.members, np.stack(found.rows), self._thresholds[embedder_id], part)
            found.rows.clear()

        def renewed(state: GroupState) -> tuple[GroupState, GroupState]:
            named = {m.detection_id for g in state.groups.values() if g.naming for m in g.members}
            # What was said of a face that came after the reading is kept for the next run.
            state = state.only(lambda face: face in seen or face in named or face not in known)
            for embedder_id, linked in ready.items():
                clusters = linked.clusters(state.corrections, named, _part(progress, 0.8, 1.0))
                state = state.regrouped(embedder_id, clusters, min_faces=self._min_faces, now=self._clock())
            return state, state

        after = self._store.change(renewed)
        figures = {
            "faces": sum(len(found.members) for found in faces.values()),
            "groups": len(after.groups),
            "grouped": sum(len(group.members) for group in after.groups.values()),
        }
        logger.info("unknown faces grouped", extra={"action": "group.run", **figures})
        return figures

    def prune(self) -> None:
        """Drops what has expired, where nothing is grouped any more."""
        if not self._store.exists():
            return
        known = _mentioned(self._store.read())
        gone = {face for face in known if self._detections.get(face) is None}
        self._store.change(lambda state: (state.only(lambda face: face not in gone), None))

    def _read(self, page_read: Callable[[], None]) -> tuple[dict[str, _Faces], set[str]]:
        """Unknown faces with an embedding, by embedder, and the ids of all unknown detections; in order of id."""
        where = DetectionFilter(person_id=UNKNOWN, since=self._clock() - self._kept_for)
        found: dict[str, dict[str, tuple[Member, Float32Array]]] = {}
        seen: set[str] = set()
        continuation: str | None = None
        while True:
            page = self._detections.list(where, page_size=PAGE, continuation=continuation)
            for detection in page.detections:
                seen.add(detection.id)
                if detection.embedding is not None:
                    of_embedder = found.setdefault(detection.embedder_id, {})
                    of_embedder[detection.id] = (Member.of(detection), detection.embedding)
            page_read()
            continuation = page.continuation
            if continuation is None:
                break
        faces: dict[str, _Faces] = {}
        for embedder_id, rows in found.items():
            ordered = [rows[key] for key in sorted(rows)]
            faces[embedder_id] = _Faces([member for member, _ in ordered], [row for _, row in ordered])
        return faces, seen


def _part(progress: Progress, start: float, end: float) -> Progress:
    return lambda share: progress(start + (end - start) * share)


def _mentioned(state: GroupState) -> set[str]:
    """Every detection that the state knows of."""
    of_corrections = state.corrections
    found = {m.detection_id for group in state.groups.values() for m in group.members}
    found.update(*of_corrections.same, *(side for pair in of_corrections.apart for side in pair))
    found.update(*of_corrections.denied.values())
    return found
