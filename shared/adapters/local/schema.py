"""The tables of the embedded backend, and their version.

Times are whole microseconds since 1970 in UTC, so that they sort and compare exactly. `seq` and message ids come from
AUTOINCREMENT: they only ever grow, even after deletions, which is what makes `blobs.seq` a change feed.
Tables named `host_` belong to the embedded host (`local/host/`); they live here to be in the same transactions.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)

_FIRST: Final = """
CREATE TABLE secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;

CREATE TABLE blobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    container TEXT NOT NULL,
    name TEXT NOT NULL,
    etag TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    path TEXT NOT NULL UNIQUE,
    content_type TEXT NOT NULL,
    metadata TEXT NOT NULL,
    last_modified INTEGER NOT NULL,
    UNIQUE (container, name)
);
CREATE INDEX blobs_by_change ON blobs (container, seq);
CREATE TABLE blob_tags (
    seq INTEGER NOT NULL REFERENCES blobs ON DELETE CASCADE,
    key TEXT NOT NULL,
    value TEXT NOT NULL,
    PRIMARY KEY (seq, key)
) WITHOUT ROWID;
CREATE INDEX blob_tags_by_value ON blob_tags (key, value, seq);

CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    queue TEXT NOT NULL,
    body TEXT NOT NULL,
    inserted_at INTEGER NOT NULL,
    visible_at INTEGER NOT NULL,
    dequeue_count INTEGER NOT NULL DEFAULT 0,
    receipt TEXT NOT NULL DEFAULT ''
);
CREATE INDEX messages_by_turn ON messages (queue, visible_at, id);

CREATE TABLE people (person_id TEXT PRIMARY KEY, created_at INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE templates (
    person_id TEXT NOT NULL REFERENCES people ON DELETE CASCADE,
    template_id TEXT NOT NULL,
    embedder_id TEXT NOT NULL,
    embedding BLOB NOT NULL,
    image TEXT NOT NULL,
    face_box TEXT NOT NULL,
    landmarks TEXT,
    quality TEXT NOT NULL,
    source TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (person_id, template_id)
);
CREATE INDEX templates_by_embedder ON templates (embedder_id, person_id, template_id);

CREATE TABLE detections (
    id TEXT NOT NULL PRIMARY KEY,
    person_id TEXT NOT NULL,
    site TEXT NOT NULL,
    camera TEXT NOT NULL,
    location TEXT NOT NULL,
    captured_at INTEGER NOT NULL,
    document TEXT NOT NULL,
    embedding BLOB
);
CREATE INDEX detections_by_person ON detections (person_id, captured_at DESC, id);
CREATE INDEX detections_by_time ON detections (captured_at DESC, id);

CREATE TABLE outcomes (
    id TEXT NOT NULL PRIMARY KEY,
    candidate TEXT NOT NULL,
    site TEXT NOT NULL,
    camera TEXT NOT NULL,
    status TEXT NOT NULL,
    reason TEXT,
    faces INTEGER NOT NULL,
    processed_at INTEGER NOT NULL
);
CREATE INDEX outcomes_by_time ON outcomes (processed_at, id);
CREATE INDEX outcomes_by_status ON outcomes (status, processed_at, id);

CREATE TABLE jobs (job_id TEXT PRIMARY KEY, document TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE leases (name TEXT PRIMARY KEY, owner TEXT NOT NULL, expires_at INTEGER NOT NULL) WITHOUT ROWID;

CREATE TABLE host_cursors (name TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE host_timers (name TEXT PRIMARY KEY, last_run INTEGER, next_run INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE host_deliveries (
    message_id INTEGER PRIMARY KEY REFERENCES messages ON DELETE CASCADE,
    in_hand INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT ''
);
CREATE TABLE host_poison (
    message_id INTEGER PRIMARY KEY REFERENCES messages ON DELETE CASCADE,
    function TEXT NOT NULL,
    source_queue TEXT NOT NULL,
    reason TEXT NOT NULL,
    dequeue_count INTEGER NOT NULL,
    failed_at INTEGER NOT NULL
);
"""

_ACCESS: Final = """
CREATE TABLE tokens (
    token_id TEXT PRIMARY KEY,
    secret_hash TEXT NOT NULL,
    scope TEXT NOT NULL,
    site TEXT,
    description TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    last_used_at INTEGER
) WITHOUT ROWID;
CREATE TABLE audit (
    id TEXT NOT NULL PRIMARY KEY,
    at INTEGER NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    target TEXT NOT NULL,
    status INTEGER NOT NULL
);
CREATE INDEX audit_by_time ON audit (at DESC, id);
"""

_ALERTS: Final = """
CREATE TABLE visits (
    place TEXT PRIMARY KEY, version INTEGER NOT NULL, document TEXT NOT NULL, expires_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE TABLE alerts (id TEXT NOT NULL PRIMARY KEY, created_at INTEGER NOT NULL, document TEXT NOT NULL);
CREATE INDEX alerts_by_time ON alerts (created_at DESC, id);
"""

_HOST_ANYWHERE: Final = """
CREATE TABLE noted_deliveries (
    message_id TEXT PRIMARY KEY,
    in_hand INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    reason TEXT NOT NULL DEFAULT '',
    noted_at INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO noted_deliveries SELECT CAST(message_id AS TEXT), in_hand, failures, deaths, reason,
    CAST(strftime('%s', 'now') AS INTEGER) * 1000000 FROM host_deliveries;
DROP TABLE host_deliveries;
ALTER TABLE noted_deliveries RENAME TO host_deliveries;
CREATE TABLE noted_poison (
    message_id TEXT PRIMARY KEY,
    function TEXT NOT NULL,
    source_queue TEXT NOT NULL,
    reason TEXT NOT NULL,
    dequeue_count INTEGER NOT NULL,
    failed_at INTEGER NOT NULL
) WITHOUT ROWID;
INSERT INTO noted_poison SELECT CAST(message_id AS TEXT), function, source_queue, reason, dequeue_count, failed_at
    FROM host_poison;
DROP TABLE host_poison;
ALTER TABLE noted_poison RENAME TO host_poison;
CREATE TABLE host_receipts (
    queue TEXT NOT NULL, blob TEXT NOT NULL, etag TEXT NOT NULL, PRIMARY KEY (queue, blob)
) WITHOUT ROWID;
"""
"""The host's tables for queues that lie elsewhere, whose messages have ids of another kind."""

_KEPT: Final = "ALTER TABLE templates ADD COLUMN kept INTEGER NOT NULL DEFAULT 0;"
"""The operator's mark on a template."""

_BY_TRACK: Final = """
CREATE INDEX detections_by_track ON detections (json_extract(document, '$.track'));
"""
"""Finds the other shots of a visit."""

MIGRATIONS: Final = (_FIRST, _ACCESS, _ALERTS, _HOST_ANYWHERE, _KEPT, _BY_TRACK)
"""What each version added. A folder of version n has had the first n; opening it runs the others. Never edit one that
was released: add another."""

SCHEMA_VERSION: Final = len(MIGRATIONS)


def to_us(moment: datetime) -> int:
    """Whole microseconds since 1970.

    >>> to_us(datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC))
    1000000
    """
    return (moment - _EPOCH) // timedelta(microseconds=1)


def from_us(microseconds: int) -> datetime:
    """The inverse of `to_us`.

    >>> from_us(1_000_001)
    datetime.datetime(1970, 1, 1, 0, 0, 1, 1, tzinfo=datetime.timezone.utc)
    """
    return _EPOCH + timedelta(microseconds=microseconds)
