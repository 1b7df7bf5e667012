"""Crops and the names they were given against a scene's truth: who was recognised on which visit. Pure arithmetic."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from bench.edge_names import Answer, named
from bench.scene.plan import COUNTED_PX
from bench.scene.truth import TrueFace, TrueFrame
from shared.domain import Float32Array, normalise_person_id

VISIBLE = 0.6
"""Share of a face that must be seen for it to count as one that can be found."""
_STEP, _STEPS = 0.005, 40
_NEAR = 0.6
"""Furthest distance between a crop's face and a true one, centre to centre, as a share of the true one's long axis."""


@dataclass(slots=True)
class VisitRecord:
    """One visit, and what was sent and said of it.

    Attributes:
        seen: in some frame the face was large enough, and enough of it in sight, to be taken.
        crops: that show it.
        tracks: they came from.
        names: given to it, each as often as it was.
    """

    visit: int
    person: str
    enrolled: bool
    kind: str
    seen: bool = False
    crops: int = 0
    tracks: set[str] = field(default_factory=set)
    names: Counter[str] = field(default_factory=Counter)

    @property
    def recognised(self) -> bool:
        return self.enrolled and self.names[self.person] > 0

    @property
    def misnamed(self) -> bool:
        """Some detection has a name that is not this visitor's; of a stranger, any name."""
        return any(name != self.person or not self.enrolled for name in self.names)


@dataclass(frozen=True, slots=True)
class SentCrop:
    """What is needed of a crop: its frame, its face in the frame (xyxy px), its track."""

    frame: int
    box: tuple[int, int, int, int]
    track: str


def visits_of(truth: Sequence[TrueFrame]) -> dict[int, VisitRecord]:
    """Every visit of a scene, with nothing sent yet."""
    visits: dict[int, VisitRecord] = {}
    for frame in truth:
        for face in frame.faces:
            person = normalise_person_id(face.person)
            record = visits.setdefault(face.visit, VisitRecord(face.visit, person, face.enrolled, face.kind))
            record.seen |= face.long_px >= COUNTED_PX and face.visible >= VISIBLE
    return visits


def face_at(frame: TrueFrame, box: Float32Array) -> TrueFace | None:
    """The true face that a box of a frame shows: the nearest, when it is near."""
    if not frame.faces:
        return None
    centre = (box[:2] + box[2:]) / 2

    def apart(face: TrueFace) -> float:
        return float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - centre)) / max(face.long_px, 1.0)

    nearest = min(faces, key=apart) if (faces := [f for f in frame.faces if f.visible > 0.2]) else None
    return nearest if nearest is not None and apart(nearest) <= _NEAR else None


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Crops of one policy beside the truth.

    Attributes:
        visits: all that could be seen, or of which something was sent.
        elsewhere: crops that show no true face.
        named_elsewhere: of which some were given a name.
    """

    visits: list[VisitRecord]
    elsewhere: int
    named_elsewhere: int


def judge(truth: Sequence[TrueFrame], crops: Sequence[SentCrop], answers: Sequence[str] | None) -> Judged:
    """Files every crop under its visit, with the name it was given.

    Args:
        answers: one `edge_names.Answer.text` for each crop; None when nobody was asked.
    """
    visits = visits_of(truth)
    elsewhere = named_elsewhere = 0
    for crop, answer in zip(crops, answers or [""] * len(crops), strict=True):
        face = face_at(truth[min(crop.frame, len(truth) - 1)], np.array(crop.box, np.float32))
        has_name = bool(answer) and named(answer)
        if face is None:
            elsewhere += 1
            named_elsewhere += has_name
            continue
        record = visits[face.visit]
        record.crops += 1
        record.tracks.add(crop.track)
        if has_name:
            record.names[answer] += 1
    return Judged([record for record in visits.values() if record.seen or record.crops], elsewhere, named_elsewhere)


def sending_figures(judged: Judged) -> dict[str, Any]:
    """What was sent for each visit."""
    visits = judged.visits
    crops, tracks = [record.crops for record in visits], [len(record.tracks) for record in visits]
    return {
        "visits": len(visits),
        "visits_without_crop": sum(count == 0 for count in crops),
        "crops_per_visit": round(float(np.mean(crops)), 2) if crops else 0.0,
        "tracks_per_visit": round(float(np.mean(tracks)), 2) if tracks else 0.0,
        "crops_of_no_face": judged.elsewhere,
    }


def naming_figures(judged: Judged, answers: Sequence[str]) -> dict[str, Any]:
    """Who was recognised: shares of visits, and counts."""
    enrolled = [record for record in judged.visits if record.enrolled]
    strangers = [record for record in judged.visits if not record.enrolled]
    right = [record for record in enrolled if record.recognised]
    return {
        "enrolled_visits": len(enrolled),
        "recognised_visits": len(right),
        "visits_by_person": dict(Counter(record.person for record in enrolled)),
        "recognised": {record.visit: record.person for record in right},
        "all_visits_by_person": dict(Counter(record.person for record in judged.visits)),
        "misnamed": {record.visit: record.person for record in judged.visits if record.misnamed},
        "visit_recall": round(len(right) / max(len(enrolled), 1), 4),
        "identified_people": len({record.person for record in right}),
        "false_name_visits": sum(record.misnamed for record in judged.visits),
        "false_name_visits_strangers": sum(record.misnamed for record in strangers),
        "stranger_visits": len(strangers),
        "names_of_no_face": judged.named_elsewhere,
        "crops_named": sum(named(answer) for answer in answers),
        "crops_unknown": sum(answer == "unknown" for answer in answers),
        "crops_rejected": dict(Counter(answer[1:] for answer in answers if answer.startswith("-")).most_common()),
    }


def at_as_many_false_names(
    truth: Sequence[TrueFrame], crops: Sequence[SentCrop], answers: Sequence[Answer], most: int
) -> dict[str, Any]:
    """Who is recognised at the lowest threshold at which no more than `most` visits are given a false name.

    A threshold is set for a share of faces, and strangers pass by visits: who is looked at forty times is given a
    false name more often than who is looked at three times. At one threshold for both, few looks are the stricter
    system; this compares them where they are equally strict. The shipped threshold is where the search begins.

    Args:
        most: visits with a false name; of every frame, at the shipped threshold.
    """
    best: dict[str, Any] = {}
    for step in range(_STEPS + 1):
        lower_by = step * _STEP
        texts = [answer.at(lower_by) for answer in answers]
        figures = naming_figures(judge(truth, crops, texts), texts)
        if best and figures["false_name_visits"] > most:
            break
        kept = ("recognised_visits", "visit_recall", "false_name_visits")
        best = {"threshold_lower_by": round(lower_by, 3)} | {key: figures[key] for key in kept}
    return best
