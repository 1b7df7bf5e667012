"""What the service's answers say of one face in a picture, and which faces are asked for again. Pure logic."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Final

from edge_uploader.selection.crops import long_axis_px
from edge_uploader.selection.tracker import Sighting, Tracker, TrackerOptions
from local.draw import judged
from local.sending import Answer
from shared.domain import UNKNOWN, Face

NO_FACE: Final = "no_face"
REFUSED: Final = "refused"
AGAIN_S: Final = 1.0
"""A followed face is asked for again after so long."""
LARGER: Final = 1.3
"""And when it is larger than it was by so much: names are surer of larger faces."""
_REMEMBERED: Final = 8


@dataclass(frozen=True, slots=True)
class Verdict:
    """Who one face is.

    Attributes:
        label: a person's id or `unknown`; None when the service cannot say.
        confidence: 0 to 1, of the label.
        reason: why it cannot: `no_face`, `refused`, or the word of the quality gate.
    """

    label: str | None
    confidence: float = 0.0
    reason: str = ""

    @classmethod
    def of(cls, answer: Answer, centre: tuple[float, float]) -> Verdict:
        """The verdict on the face nearest to `centre`, in pixels of the picture that was sent."""
        if answer.refused is not None:
            return cls(None, reason=REFUSED)
        found = [(_distance(face, centre), face) for face in (*answer.faces, *answer.rejected)]
        if not found:
            return cls(None, reason=NO_FACE)
        _, nearest = min(found, key=lambda each: each[0])
        if "reason" in nearest:
            return cls(None, reason=str(nearest["reason"]))
        top = nearest["top_prediction"]
        return cls(str(top["label"]), float(top["confidence"]))

    def shown(self, min_confidence: float) -> str:
        """The label, or `unknown` when it is not sure enough to be shown."""
        return self.label if self.label is not None and self.confidence >= min_confidence else UNKNOWN

    def drawn(self, min_confidence: float) -> tuple[tuple[int, int, int], str]:
        """Colour and text."""
        colour, text = judged(self.label, self.confidence, min_confidence)
        return colour, text or ("" if self.reason in ("", NO_FACE) else self.reason)


def _distance(face: dict[str, Any], centre: tuple[float, float]) -> float:
    box = face["bounding_box"]
    x, y = (box["left"] + box["right"]) / 2, (box["top"] + box["bottom"]) / 2
    return float((x - centre[0]) ** 2 + (y - centre[1]) ** 2)


@dataclass(frozen=True, slots=True, eq=False)
class Question:
    """A face, and the answers that were asked for it up to now, oldest first."""

    face: Face
    answers: tuple[Future[Verdict], ...]


def verdict_of(question: Question) -> Verdict:
    """Waits for the answers. Of several, the surest name; without a name, the newest that is not None; else the newest.

    Raises:
        StoreUnavailable: the service does not answer.
    """
    return choose([answer.result() for answer in question.answers])


def choose(verdicts: Sequence[Verdict]) -> Verdict:
    """See `verdict_of`. There is at least one."""
    named = [verdict for verdict in verdicts if verdict.label not in (None, UNKNOWN)]
    if named:
        return max(named, key=lambda verdict: verdict.confidence)
    return next((verdict for verdict in reversed(verdicts) if verdict.label is not None), verdicts[-1])


@dataclass(slots=True)
class _Asked:
    """Of one track."""

    at_s: float
    size_px: float
    answers: list[Future[Verdict]] = field(default_factory=list)


class Follower:
    """Follows faces from frame to frame, so that each is asked for now and then and not in every frame.

    Args:
        high_confidence: of the detector, from which on a detection begins a track.
    """

    def __init__(self, high_confidence: float) -> None:
        self._tracker = Tracker(TrackerOptions(high_confidence=high_confidence))
        self._asked: dict[str, _Asked] = {}

    def questions(
        self, sightings: Sequence[Sighting], at_s: float, ask: Callable[[Face], Future[Verdict]]
    ) -> list[Question]:
        """The faces of one frame, with the answers of their tracks; calls `ask` for those that it is time for."""
        update = self._tracker.update(sightings, at_s)
        for track in update.ended:
            self._asked.pop(track.id, None)
        made = []
        for track in update.seen:
            asked, size_px = self._asked.get(track.id), long_axis_px(track.face)
            if asked is None:
                asked = self._asked[track.id] = _Asked(float("-inf"), 0.0)
            if at_s - asked.at_s >= AGAIN_S or size_px >= LARGER * asked.size_px:
                asked.at_s, asked.size_px = at_s, max(size_px, asked.size_px)
                asked.answers = [*asked.answers, ask(track.face)][-_REMEMBERED:]
            made.append(Question(track.face, tuple(asked.answers)))
        return made
