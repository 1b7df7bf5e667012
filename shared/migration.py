"""The record of a change from one embedder to another: `models/migration.json`, replaced under its ETag.

The record says how far the change is and what the operator wants next; the pointer alone says which model answers.

    embedding ──► fitted ──► ready ──► switched ──► finished
        └──────────┴───────────┴─► cancelled  └─► rolled_back ──► finished

`wish` is what was asked for and is not done yet. Whoever works on the record does one step, writes it down, and may die
anywhere in between: every step can be done again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from typing import Any, Final, Literal

from shared.domain import MODELS, UNKNOWN, format_time, parse_time
from shared.errors import Conflict, NotFound, PreconditionFailed
from shared.ports import BlobStore

logger = logging.getLogger(__name__)

RECORD: Final = "migration.json"
SCHEMA: Final = 1

State = Literal["embedding", "fitted", "ready", "switched", "finished", "rolled_back", "cancelled"]
Wish = Literal["switch", "rollback", "finish", "cancel"]

ALLOWED: Final[Mapping[Wish, frozenset[State]]] = {
    "switch": frozenset({"embedding", "fitted", "ready"}),
    "rollback": frozenset({"switched"}),
    "finish": frozenset({"switched", "rolled_back"}),
    "cancel": frozenset({"embedding", "fitted", "ready"}),
}
"""In which states something may be asked for."""

ONE_WAY: Final[frozenset[Wish]] = frozenset({"finish", "cancel"})
"""These delete: nothing else can be asked for once they were."""


@dataclass(frozen=True, slots=True)
class Migration:
    """One change of the embedder.

    Attributes:
        source, target: embedder ids.
        rules: the one of them that answers, as far as is written down.
        job_id: of the job that works on it.
        wish: what was asked for and is not done yet.
        compare: how many crops the shadow comparison looks at, at most.
        images: stored images when they were last counted; `embedded` have a template of the target.
        skipped: template ids that could not be made: no face, or an image that cannot be read.
        source_model: what a rollback leads to, once the switch has begun; None when nothing had been published.
        target_model: the model of the target that waits, or was switched to.
        rollback: `exact` when the very model that served before came back, `refitted` when it had to be made anew.
        report: the shadow comparison; see `functions/train/shadow.py`.
        etag: that it was read under.
    """

    migration_id: str
    source: str
    target: str
    rules: str
    job_id: str
    started_at: datetime
    updated_at: datetime
    state: State = "embedding"
    wish: Wish | None = None
    compare: int = 500
    images: int = 0
    embedded: int = 0
    skipped: tuple[str, ...] = ()
    source_model: str | None = None
    target_model: str | None = None
    rollback: Literal["exact", "refitted"] | None = None
    report: Mapping[str, Any] | None = None
    etag: str = field(default="", compare=False, repr=False)

    @property
    def keeps_both(self) -> bool:
        """Whether templates of both embedders are made of every new photograph."""
        return self.state in ("embedding", "fitted", "ready", "switched") and self.wish not in ONE_WAY

    @property
    def over(self) -> bool:
        """Whether another may begin."""
        return self.state in ("finished", "rolled_back", "cancelled") and self.wish is None

    @property
    def working(self) -> bool:
        """Whether there is something to do that nobody has to ask for."""
        return self.wish is not None or self.state in ("embedding", "fitted")

    @property
    def idle_embedder(self) -> str:
        """The one of the two that does not answer."""
        return self.source if self.rules == self.target else self.target

    def to_json(self) -> bytes:
        fields = asdict(self)
        del fields["etag"]
        times = {name: format_time(fields[name]) for name in ("started_at", "updated_at")}
        return json.dumps({**fields, **times, "schema": SCHEMA}).encode()

    @classmethod
    def from_json(cls, data: bytes, etag: str) -> Migration:
        """Raises: ValueError, KeyError or TypeError: not a record of this schema."""
        fields = json.loads(data)
        if fields.pop("schema") != SCHEMA:
            raise ValueError("another schema")
        times = {name: parse_time(fields[name]) for name in ("started_at", "updated_at")}
        return cls(**{**fields, **times, "skipped": tuple(fields["skipped"]), "etag": etag})


class Migrations:
    """The one record, over a `BlobStore`."""

    def __init__(self, blobs: BlobStore) -> None:
        self._blobs = blobs

    def current(self) -> Migration | None:
        """The latest change, finished or not; None before the first, and of a record that cannot be read."""
        return self._read()[0]

    def _read(self) -> tuple[Migration | None, str | None]:
        try:
            blob = self._blobs.get(MODELS, RECORD)
        except NotFound:
            return None, None
        try:
            return Migration.from_json(blob.data, blob.properties.etag), blob.properties.etag
        except (ValueError, KeyError, TypeError):
            logger.error("the record of the migration is unreadable", extra={"action": "migration.unreadable"})
            return None, blob.properties.etag

    def begin(self, migration: Migration) -> Migration:
        """Records a new change.

        Raises:
            Conflict: another is not over, or has begun at the same moment.
        """
        known, etag = self._read()
        if known is not None and not known.over:
            raise Conflict(f"a migration to {known.target} is {known.state}; it has to end first")
        return self._put(migration, etag)

    def change(self, migration: Migration, moment: datetime, **changes: Any) -> Migration:
        """Records what has changed since `migration` was read.

        Raises:
            PreconditionFailed: somebody else changed it meanwhile: read it again.
        """
        return self._put(replace(migration, updated_at=moment, **changes), migration.etag)

    def _put(self, migration: Migration, etag: str | None) -> Migration:
        written = self._blobs.put(
            MODELS,
            RECORD,
            migration.to_json(),
            content_type="application/json",
            if_match=etag,
            if_absent=etag is None,
        )
        return replace(migration, etag=written)

    def forget(self, person_id: str) -> None:
        """Takes a person out of the comparison. A record that cannot be read may name anybody: it is deleted."""
        while True:
            known, etag = self._read()
            if known is None:
                if etag is not None:
                    self._blobs.delete(MODELS, RECORD)
                return
            if known.report is None or not _names(known.report, person_id):
                return
            try:
                self._put(replace(known, report=_without(known.report, person_id)), etag)
            except PreconditionFailed:
                continue
            return


def _names(report: Mapping[str, Any], person_id: str) -> bool:
    return any(person_id in (change["from"], change["to"]) for change in report["changes"])


def _without(report: Mapping[str, Any], person_id: str) -> dict[str, Any]:
    kept = [change for change in report["changes"] if person_id not in (change["from"], change["to"])]
    return {**report, "changes": kept}


def importance(change: Mapping[str, Any]) -> tuple[int, int, str, str]:
    """Sorts changes of name: another person's name first, then a name that is lost, then one that is gained."""
    lost, gained = change["to"] == UNKNOWN, change["from"] == UNKNOWN
    return (1 if lost else 2 if gained else 0, -change["count"], change["from"], change["to"])
