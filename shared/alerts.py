"""Visits and alerts: when a face before a camera is news, and what became of telling it. Standard library and NumPy.

A visit is the detections of one person, or of one stranger, before one camera, without a gap longer than
`VisitRules.gap_s`. A visit gives at most one alert: the alert's id is the visit's, which is the id of the detection
that opened it, so that creating the alert if it is absent is what makes it one.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import numpy as np

from shared.domain import UNKNOWN, Detection, Float32Array, require_utc, sha256_hex

KEPT_TRACKS: Final = 20
KEPT_VISITS: Final = 200
"""Of one camera: its document stays below 1 MB, and Cosmos DB takes 2 MB, however many strangers pass in an hour."""
KEPT_AFTER: Final = timedelta(hours=1)
"""A visit is forgotten when nothing was added to it for the gap and this, by the wall clock: a gateway that was offline
sends what it has kept in one go, so that what belongs together still meets."""


@dataclass(frozen=True, slots=True, eq=False)
class Visit:
    """One person or stranger before one camera for a while.

    Attributes:
        id: of the detection that opened it.
        person_id: a person's id or `unknown`.
        first, last: the earliest and the latest `captured_at`.
        touched_at: when a detection was last added, by the wall clock.
        tracks: of its detections, the newest last.
        embedding: (D,) float32 unit vector, the mean of the stranger's embeddings; None of people, and where embeddings
            of strangers are not kept.
        faces: how many embeddings the mean is of.
        embedder_id: in whose space the embedding is; None of one that was kept before this was.
    """

    id: str
    person_id: str
    first: datetime
    last: datetime
    touched_at: datetime
    tracks: tuple[str, ...] = ()
    embedding: Float32Array | None = None
    faces: int = 0
    embedder_id: str | None = None

    def to_document(self) -> dict[str, Any]:
        """As JSON takes it: times in RFC 3339 with microseconds, the embedding as base64 of little-endian float32."""
        vector = None if self.embedding is None else base64.b64encode(self.embedding.astype("<f4").tobytes()).decode()
        return {
            "id": self.id,
            "person_id": self.person_id,
            "first": self.first.isoformat(),
            "last": self.last.isoformat(),
            "touched_at": self.touched_at.isoformat(),
            "tracks": list(self.tracks),
            "embedding": vector,
            "faces": self.faces,
            "embedder_id": self.embedder_id,
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Visit:
        """The inverse of `to_document`."""
        vector = document["embedding"]
        return cls(
            id=document["id"],
            person_id=document["person_id"],
            first=_moment(document["first"]),
            last=_moment(document["last"]),
            touched_at=_moment(document["touched_at"]),
            tracks=tuple(document["tracks"]),
            embedding=None if vector is None else np.frombuffer(base64.b64decode(vector), "<f4").astype(np.float32),
            faces=document["faces"],
            embedder_id=document.get("embedder_id"),
        )


def _moment(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


@dataclass(frozen=True, slots=True)
class Visits:
    """One camera's visits, and the version that they were read at; None when nothing was kept there yet."""

    visits: Sequence[Visit]
    version: str | None


@dataclass(frozen=True, slots=True)
class VisitRules:
    """What belongs together.

    Attributes:
        gap_s: a visit ends when its person was not seen for longer.
        similarity: cosine from which two unknown faces before one camera are one stranger.
        by_embedder: the same for the embedders that have one of their own.
    """

    gap_s: float
    similarity: float
    by_embedder: Mapping[str, float] = field(default_factory=dict)

    def joined(self, visits: Sequence[Visit], detection: Detection, now: datetime) -> tuple[Visit, list[Visit]]:
        """Adds a detection to the visit that it belongs to, or to a new one.

        Detections may come in any order, and twice.

        Args:
            visits: of the detection's camera.
            now: by the wall clock.

        Returns:
            The detection's visit, and all visits of the camera that are still worth keeping, the last touched last: at
            most `KEPT_VISITS`, the longest untouched are forgotten first.
        """
        oldest = now - timedelta(seconds=self.gap_s) - KEPT_AFTER
        live = [visit for visit in visits if visit.touched_at >= oldest]
        own = min(
            (visit for visit in live if self._belongs(visit, detection)),
            key=lambda visit: _distance(visit, detection.captured_at),
            default=None,
        )
        grown = _grown(own, detection, now) if own is not None else _opened(detection, now)
        return grown, [*(visit for visit in live if visit is not own), grown][-KEPT_VISITS:]

    def _belongs(self, visit: Visit, detection: Detection) -> bool:
        if visit.id == detection.id:
            return True
        if visit.person_id != detection.person_id:
            return False
        if _distance(visit, detection.captured_at) > timedelta(seconds=self.gap_s):
            return False
        return detection.person_id != UNKNOWN or self._same_stranger(visit, detection)

    def _same_stranger(self, visit: Visit, detection: Detection) -> bool:
        if detection.track is not None and detection.track in visit.tracks:
            return True
        one, other = visit.embedding, detection.embedding
        if one is None or other is None or not _one_space(visit, detection):
            return False
        return float(np.dot(one, other)) >= self.by_embedder.get(detection.embedder_id, self.similarity)


def _one_space(visit: Visit, detection: Detection) -> bool:
    return visit.embedder_id == detection.embedder_id


def _distance(visit: Visit, moment: datetime) -> timedelta:
    """How far outside the visit a moment is."""
    return max(visit.first - moment, moment - visit.last, timedelta(0))


def _opened(detection: Detection, now: datetime) -> Visit:
    return Visit(
        id=detection.id,
        person_id=detection.person_id,
        first=detection.captured_at,
        last=detection.captured_at,
        touched_at=now,
        tracks=() if detection.track is None else (detection.track,),
        embedding=detection.embedding,
        faces=0 if detection.embedding is None else 1,
        embedder_id=detection.embedder_id,
    )


def _grown(visit: Visit, detection: Detection, now: datetime) -> Visit:
    tracks = visit.tracks
    if detection.track is not None:
        tracks = (*(track for track in tracks if track != detection.track), detection.track)[-KEPT_TRACKS:]
    embedding, faces, embedder_id = _mean(visit, detection)
    return replace(
        visit,
        first=min(visit.first, detection.captured_at),
        last=max(visit.last, detection.captured_at),
        touched_at=now,
        tracks=tracks,
        embedding=embedding,
        faces=faces,
        embedder_id=embedder_id,
    )


def _mean(visit: Visit, detection: Detection) -> tuple[Float32Array | None, int, str | None]:
    if detection.embedding is None or visit.id == detection.id:
        return visit.embedding, visit.faces, visit.embedder_id
    if visit.embedding is None or not _one_space(visit, detection):
        return detection.embedding, 1, detection.embedder_id
    total = visit.embedding * visit.faces + detection.embedding
    norm = float(np.linalg.norm(total))
    if norm == 0.0:
        return visit.embedding, visit.faces, visit.embedder_id
    return (total / norm).astype(np.float32), visit.faces + 1, visit.embedder_id


def place_of(detection: Detection) -> str:
    """Key of the camera whose visits a detection is one of: 32 hex digits."""
    return sha256_hex(f"{detection.site}\n{detection.camera}".encode())[:32]


@dataclass(frozen=True, slots=True)
class Delivery:
    """How telling one channel stands.

    Attributes:
        sent_at: when the destination took it; None while it has not.
        attempts: how often it was tried.
        error: why the last attempt failed; None when it did not.
    """

    attempts: int = 0
    sent_at: datetime | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True)
class Alert:
    """That a visit is told of, and to whom it was. Holds nobody's id: the detection does.

    Attributes:
        id: of the visit.
        detection_id: the detection that is told of: the visit's first that a rule wants outside its quiet hours.
        rules: names of the rules that want it.
        deliveries: by name of the channel; one that is not there was not tried.
    """

    id: str
    detection_id: str
    site: str
    camera: str
    rules: tuple[str, ...]
    created_at: datetime
    deliveries: Mapping[str, Delivery] = field(default_factory=dict)

    def __post_init__(self) -> None:
        require_utc(self.created_at)

    def sent_to(self, channel: str) -> bool:
        """Whether that channel's destination has taken it."""
        delivery = self.deliveries.get(channel)
        return delivery is not None and delivery.sent_at is not None

    def with_delivery(self, channel: str, delivery: Delivery) -> Alert:
        """The same, with that channel's state set."""
        return replace(self, deliveries={**self.deliveries, channel: delivery})

    def to_document(self) -> dict[str, Any]:
        """As JSON takes it."""
        return {
            "id": self.id,
            "detection_id": self.detection_id,
            "site": self.site,
            "camera": self.camera,
            "rules": list(self.rules),
            "created_at": self.created_at.isoformat(),
            "deliveries": {
                channel: {
                    "attempts": delivery.attempts,
                    "sent_at": None if delivery.sent_at is None else delivery.sent_at.isoformat(),
                    "error": delivery.error,
                }
                for channel, delivery in self.deliveries.items()
            },
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Alert:
        """The inverse of `to_document`."""
        return cls(
            id=document["id"],
            detection_id=document["detection_id"],
            site=document["site"],
            camera=document["camera"],
            rules=tuple(document["rules"]),
            created_at=_moment(document["created_at"]),
            deliveries={
                channel: Delivery(
                    delivery["attempts"],
                    None if delivery["sent_at"] is None else _moment(delivery["sent_at"]),
                    delivery["error"],
                )
                for channel, delivery in document["deliveries"].items()
            },
        )


@dataclass(frozen=True, slots=True, eq=False)
class Notice:
    """What a channel tells.

    Attributes:
        captured_local: `captured_at` by the site's clock, with its offset.
        photo: the crop's bytes, or None when there is none any more.
        photo_days, detection_days: how long the service keeps the photo and the detection.
        test: made by `facerelay alerts test`: nobody was there.
    """

    alert_id: str
    detection_id: str
    person_id: str
    similarity: float
    site: str
    camera: str
    location: str
    captured_at: datetime
    captured_local: datetime
    rules: tuple[str, ...]
    photo: bytes | None
    photo_days: int
    detection_days: int
    test: bool = False

    @property
    def known(self) -> bool:
        return self.person_id != UNKNOWN
