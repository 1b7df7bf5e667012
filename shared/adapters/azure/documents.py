"""Domain values as Cosmos DB documents and back.

Embeddings are base64 of little-endian float32: to the bit, and 2.7 KB for 512 dimensions where an array of decimal
numbers takes 10 KB; request units go by size. Times are RFC 3339 in UTC with microseconds, which sort as text.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from shared.domain import Detection, Float32Array, Job, Outcome, Person, Quality, Template, require_utc

Document = dict[str, Any]

OUTCOME_PREFIX: Final = "outcome:"
VISITS_PREFIX: Final = "visits:"
ALERT_PREFIX: Final = "alert:"
PREFIXES: Final = (OUTCOME_PREFIX, VISITS_PREFIX, ALERT_PREFIX)
"""Of what lies beside the detections, in their container."""

JOB_PREFIX: Final = "job:"
LEASE_PREFIX: Final = "lease:"

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FAR: Final = 10**17
_DIGITS: Final = 17
_DETECTION: Final = "d"
_OUTCOME: Final = "o"
_ALERT: Final = "a"


def time_text(moment: datetime) -> str:
    """RFC 3339 in UTC with microseconds.

    >>> time_text(datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC))
    '2026-01-02T03:04:05.000006Z'
    """
    return require_utc(moment).isoformat(timespec="microseconds").replace("+00:00", "Z")


def time_of(text: str) -> datetime:
    """The inverse of `time_text`."""
    return datetime.fromisoformat(text).astimezone(UTC)


def embedding_text(embedding: Float32Array) -> str:
    """(D,) float32 as base64 of 4·D little-endian bytes.

    >>> embedding_text(np.array([1.0], dtype=np.float32))
    'AACAPw=='
    """
    return base64.b64encode(np.ascontiguousarray(embedding, dtype="<f4").tobytes()).decode()


def embedding_of(text: str) -> Float32Array:
    """The inverse of `embedding_text`; the array is the caller's own."""
    return np.frombuffer(base64.b64decode(text), dtype="<f4").astype(np.float32)


def newest_first(moment: datetime, detection_id: str = "") -> str:
    """`sort` of a detection: rising text order is falling time, then rising id. Without an id: before all of `moment`.

    >>> noon = datetime(2026, 1, 1, 12, tzinfo=UTC)
    >>> newest_first(noon + timedelta(microseconds=1), "b") < newest_first(noon, "a") < newest_first(noon, "b")
    True
    """
    return f"{_DETECTION}:{_FAR - _microseconds(moment):0{_DIGITS}d}:{detection_id}"


def oldest_first(moment: datetime, outcome_id: str = "") -> str:
    """`sort` of an outcome: rising text order is rising time, then rising id."""
    return f"{_OUTCOME}:{_microseconds(moment):0{_DIGITS}d}:{outcome_id}"


def alert_sort(moment: datetime, alert_id: str = "") -> str:
    """`sort` of an alert: newest first, as of a detection."""
    return f"{_ALERT}:{_FAR - _microseconds(moment):0{_DIGITS}d}:{alert_id}"


DETECTIONS_FROM: Final = f"{_DETECTION}:"
DETECTIONS_TO: Final = f"{_DETECTION};"  # ";" follows ":"
OUTCOMES_FROM: Final = f"{_OUTCOME}:"
OUTCOMES_TO: Final = f"{_OUTCOME};"
ALERTS_FROM: Final = f"{_ALERT}:"
ALERTS_TO: Final = f"{_ALERT};"


def gallery_order(person_id: str, template_id: str) -> str:
    """`sort` of a template. No person's id has a character that sorts before the line feed."""
    return f"{person_id}\n{template_id}"


def person_document(person: Person) -> Document:
    return {
        "id": person.person_id,
        "created_at": time_text(person.created_at),
        "incarnation": incarnation(person),
        "revision": 0,
    }


def incarnation(person: Person) -> int:
    """Tells a person from another one who is enrolled under the same id later: microseconds of `created_at`."""
    return _microseconds(person.created_at)


def person_from(document: Mapping[str, Any]) -> Person:
    return Person(document["id"], time_of(document["created_at"]))


def template_document(template: Template) -> Document:
    return {
        "id": template.template_id,
        "person_id": template.person_id,
        "sort": gallery_order(template.person_id, template.template_id),
        "embedder_id": template.embedder_id,
        "embedding": embedding_text(template.embedding),
        "image": template.image,
        "face_box": template.face_box,
        "landmarks": template.landmarks,
        "quality": asdict(template.quality),
        "source": template.source,
        "kept": template.kept,
        "created_at": time_text(template.created_at),
    }


def template_from(document: Mapping[str, Any]) -> Template:
    left, top, right, bottom = document["face_box"]
    landmarks = document["landmarks"]
    return Template(
        template_id=document["id"],
        person_id=document["person_id"],
        embedder_id=document["embedder_id"],
        embedding=embedding_of(document["embedding"]),
        image=document["image"],
        face_box=(left, top, right, bottom),
        landmarks=tuple((x, y) for x, y in landmarks) if landmarks else None,
        quality=Quality.of(document["quality"]),
        source=document["source"],
        created_at=time_of(document["created_at"]),
        kept=bool(document.get("kept", False)),  # documents of earlier versions lack it
    )


_AS_IT_IS: Final = (
    "id",
    "person_id",
    "similarity",
    "confidence",
    "threshold",
    "model_id",
    "embedder_id",
    "site",
    "camera",
    "location",
    "track",
    "candidate",
)
_CHANGED_LATER: Final = ("named_by", "previous_person")
"""Only in documents of detections that were changed after they were stored."""


def detection_document(detection: Detection) -> Document:
    return {
        **{name: getattr(detection, name) for name in _AS_IT_IS},
        **{name: value for name in _CHANGED_LATER if (value := getattr(detection, name)) is not None},
        "sort": newest_first(detection.captured_at, detection.id),
        "captured_at": time_text(detection.captured_at),
        "processed_at": time_text(detection.processed_at),
        "frame_box": detection.frame_box,
        "face_box": detection.face_box,
        "quality": asdict(detection.quality),
        "embedding": None if detection.embedding is None else embedding_text(detection.embedding),
    }


def detection_from(document: Mapping[str, Any]) -> Detection:
    frame_box, face_box = document["frame_box"], document["face_box"]
    return Detection(
        **{name: document[name] for name in _AS_IT_IS},
        named_by=document.get("named_by"),
        previous_person=document.get("previous_person"),
        captured_at=time_of(document["captured_at"]),
        processed_at=time_of(document["processed_at"]),
        frame_box=None if frame_box is None else (frame_box[0], frame_box[1], frame_box[2], frame_box[3]),
        face_box=(face_box[0], face_box[1], face_box[2], face_box[3]),
        quality=Quality.of(document["quality"]),
        embedding=None if document["embedding"] is None else embedding_of(document["embedding"]),
    )


def outcome_document(outcome: Outcome) -> Document:
    return {
        **asdict(outcome),
        "id": OUTCOME_PREFIX + outcome.id,
        "sort": oldest_first(outcome.processed_at, outcome.id),
        "processed_at": time_text(outcome.processed_at),
    }


def outcome_from(document: Mapping[str, Any]) -> Outcome:
    return Outcome(
        id=document["id"].removeprefix(OUTCOME_PREFIX),
        candidate=document["candidate"],
        site=document["site"],
        camera=document["camera"],
        status=document["status"],
        reason=document["reason"],
        faces=document["faces"],
        processed_at=time_of(document["processed_at"]),
    )


def job_document(job: Job, *, ttl_s: int) -> Document:
    return {
        "id": JOB_PREFIX + job.job_id,
        "kind": job.kind,
        "status": job.status,
        "created_at": time_text(job.created_at),
        "updated_at": time_text(job.updated_at),
        "progress": job.progress,
        "result": dict(job.result),
        "error": job.error,
        "ttl": ttl_s,
    }


def job_from(document: Mapping[str, Any]) -> Job:
    return Job(
        job_id=document["id"].removeprefix(JOB_PREFIX),
        created_at=time_of(document["created_at"]),
        updated_at=time_of(document["updated_at"]),
        **{name: document[name] for name in ("kind", "status", "progress", "result", "error")},
    )


def _microseconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(microseconds=1)
