"""Detections and outcomes in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from shared.adapters.local.continuation import Continuations
from shared.adapters.local.rows import embedding_array, embedding_bytes, quality_from
from shared.adapters.local.schema import from_us, to_us
from shared.adapters.local.store import LocalStore
from shared.domain import Detection, Outcome
from shared.errors import InvalidInput
from shared.ports import DetectionFilter, DetectionPage

_PAGE = 500
_MAX_PAGE = 1_000
_COLUMNS = ("id", "person_id", "site", "camera", "location")


class LocalDetectionRepository:
    """`ports.DetectionRepository`."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._continuations = Continuations(store.secret("continuation"))

    def add(self, detection: Detection) -> bool:
        row = (
            *(getattr(detection, column) for column in _COLUMNS),
            to_us(detection.captured_at),
            _document(detection),
            None if detection.embedding is None else embedding_bytes(detection.embedding),
        )
        with self._store.transaction() as db:
            added = db.execute("INSERT OR IGNORE INTO detections VALUES (?, ?, ?, ?, ?, ?, ?, ?)", row)
        return added.rowcount == 1

    def get(self, detection_id: str) -> Detection | None:
        with self._store.reading() as db:
            row = db.execute("SELECT * FROM detections WHERE id = ?", (detection_id,)).fetchone()
        return None if row is None else _detection(row)

    def change(
        self, detection_id: str, how: Callable[[Detection], Detection | None], *, kept_for: timedelta
    ) -> Detection | None:
        with self._store.transaction() as db:
            live = self.get(detection_id)
            changed = None if live is None else how(live)
            if changed is None:
                return None
            embedding = None if changed.embedding is None else embedding_bytes(changed.embedding)
            db.execute(
                "UPDATE detections SET person_id = ?, document = ?, embedding = ? WHERE id = ?",
                (changed.person_id, _document(changed), embedding, detection_id),
            )
        return changed

    def last_of(self, person_id: str) -> Detection | None:
        page = self.list(DetectionFilter(person_id=person_id), page_size=1)
        return page.detections[0] if page.detections else None

    def list(self, where: DetectionFilter, *, page_size: int = 100, continuation: str | None = None) -> DetectionPage:
        if not 1 <= page_size <= _MAX_PAGE:
            raise InvalidInput(f"a page holds 1 to {_MAX_PAGE} detections")
        conditions, values = _conditions(where)
        if continuation is not None:
            captured_at, last_id = self._continuations.position(continuation, _question(where))
            # Falling time, then rising id: written out, since a row value compares in one direction only.
            conditions += ["captured_at <= ?", "(captured_at < ? OR id > ?)"]
            values += [captured_at, captured_at, last_id]
        clause = f"WHERE {' AND '.join(conditions)}" if conditions else ""
        query = f"SELECT * FROM detections {clause} ORDER BY captured_at DESC, id LIMIT ?"  # noqa: S608
        with self._store.reading() as db:
            rows = db.execute(query, (*values, page_size + 1)).fetchall()
        more = len(rows) > page_size
        rows = rows[:page_size]
        position = [rows[-1]["captured_at"], rows[-1]["id"]] if more else None
        token = self._continuations.token(position, _question(where)) if position else None
        return DetectionPage([_detection(row) for row in rows], token)

    def of_track(self, site: str, camera: str, track: str, *, most: int) -> Sequence[Detection]:
        query = (
            "SELECT * FROM detections WHERE json_extract(document, '$.track') = ? AND site = ? AND camera = ? LIMIT ?"
        )
        with self._store.reading() as db:
            rows = db.execute(query, (track, site, camera, most)).fetchall()
        return [_detection(row) for row in rows]

    def delete_older_than(self, moment: datetime) -> int:
        return self._delete_before("detections", "captured_at", moment) + self._delete_before(
            "outcomes", "processed_at", moment
        )

    def record_outcome(self, outcome: Outcome) -> bool:
        with self._store.transaction() as db:
            added = db.execute(
                "INSERT OR IGNORE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    outcome.id,
                    outcome.candidate,
                    outcome.site,
                    outcome.camera,
                    outcome.status,
                    outcome.reason,
                    outcome.faces,
                    to_us(outcome.processed_at),
                ),
            )
        return added.rowcount == 1

    def get_outcome(self, outcome_id: str) -> Outcome | None:
        with self._store.reading() as db:
            row = db.execute("SELECT * FROM outcomes WHERE id = ?", (outcome_id,)).fetchone()
        return None if row is None else _outcome(row)

    def list_outcomes(self, *, status: str | None = None) -> Iterator[Outcome]:
        conditions = "(processed_at, id) > (:processed_at, :id) AND (:status IS NULL OR status = :status)"
        query = f"SELECT * FROM outcomes WHERE {conditions} ORDER BY processed_at, id LIMIT {_PAGE}"  # noqa: S608
        values = {"processed_at": -(2**63), "id": "", "status": status}
        while True:
            with self._store.reading() as db:
                rows = db.execute(query, values).fetchall()
            yield from map(_outcome, rows)
            if len(rows) < _PAGE:
                return
            values |= {key: rows[-1][key] for key in ("processed_at", "id")}

    def _delete_before(self, table: str, column: str, moment: datetime) -> int:
        # By portions: other writers get their turn between them.
        query = f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} WHERE {column} < ? LIMIT 1000)"  # noqa: S608
        deleted = 0
        while True:
            with self._store.transaction() as db:
                count = db.execute(query, (to_us(moment),)).rowcount
            deleted += count
            if count == 0:
                return deleted


def _question(where: DetectionFilter) -> str:
    return json.dumps(asdict(where), default=datetime.isoformat)


def _conditions(where: DetectionFilter) -> tuple[list[str], list[Any]]:
    conditions: list[str] = []
    values: list[Any] = []
    for column in ("person_id", "site", "camera", "location"):
        if getattr(where, column) is not None:
            conditions.append(f"{column} = ?")
            values.append(getattr(where, column))
    if where.since is not None:
        conditions.append("captured_at >= ?")
        values.append(to_us(where.since))
    if where.until is not None:
        conditions.append("captured_at < ?")
        values.append(to_us(where.until))
    return conditions, values


def _document(detection: Detection) -> str:
    """What is neither filtered by nor an embedding, as JSON."""
    return json.dumps(
        {
            "similarity": detection.similarity,
            "confidence": detection.confidence,
            "threshold": detection.threshold,
            "model_id": detection.model_id,
            "embedder_id": detection.embedder_id,
            "processed_at": to_us(detection.processed_at),
            "track": detection.track,
            "frame_box": detection.frame_box,
            "face_box": detection.face_box,
            "quality": asdict(detection.quality),
            "candidate": detection.candidate,
            "named_by": detection.named_by,
            "previous_person": detection.previous_person,
        }
    )


def _detection(row: sqlite3.Row) -> Detection:
    document = json.loads(row["document"])
    frame_box, face_box = document["frame_box"], document["face_box"]
    return Detection(
        **{column: row[column] for column in _COLUMNS},
        **{key: document[key] for key in ("similarity", "confidence", "threshold", "model_id", "embedder_id")},
        captured_at=from_us(row["captured_at"]),
        processed_at=from_us(document["processed_at"]),
        track=document["track"],
        frame_box=None if frame_box is None else (frame_box[0], frame_box[1], frame_box[2], frame_box[3]),
        face_box=(face_box[0], face_box[1], face_box[2], face_box[3]),
        quality=quality_from(document["quality"]),
        candidate=document["candidate"],
        embedding=None if row["embedding"] is None else embedding_array(row["embedding"]),
        named_by=document.get("named_by"),
        previous_person=document.get("previous_person"),
    )


def _outcome(row: sqlite3.Row) -> Outcome:
    return Outcome(
        id=row["id"],
        candidate=row["candidate"],
        site=row["site"],
        camera=row["camera"],
        status=row["status"],
        reason=row["reason"],
        faces=row["faces"],
        processed_at=from_us(row["processed_at"]),
    )
