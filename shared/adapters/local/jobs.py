"""Jobs and leases in SQLite."""

from __future__ import annotations

import json
from datetime import timedelta

from shared.adapters.local.schema import from_us, to_us
from shared.adapters.local.store import LocalStore
from shared.domain import Job
from shared.errors import NotFound


class LocalJobRepository:
    """`ports.JobRepository`. Leases run by the wall clock, which all processes of one machine share."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def put_job(self, job: Job) -> None:
        document = json.dumps(
            {
                "kind": job.kind,
                "status": job.status,
                "created_at": to_us(job.created_at),
                "updated_at": to_us(job.updated_at),
                "progress": job.progress,
                "result": dict(job.result),
                "error": job.error,
            }
        )
        with self._store.transaction() as db:
            db.execute("INSERT OR REPLACE INTO jobs VALUES (?, ?)", (job.job_id, document))

    def get_job(self, job_id: str) -> Job:
        with self._store.reading() as db:
            row = db.execute("SELECT document FROM jobs WHERE job_id = ?", (job_id,)).fetchone()
        if row is None:
            raise NotFound("no such job")
        document = json.loads(row["document"])
        created_at, updated_at = from_us(document.pop("created_at")), from_us(document.pop("updated_at"))
        return Job(job_id=job_id, created_at=created_at, updated_at=updated_at, **document)

    def acquire_lease(self, name: str, owner: str, *, ttl_s: float) -> bool:
        now = self._store.clock()
        with self._store.transaction() as db:
            taken = db.execute(
                "INSERT INTO leases VALUES (:name, :owner, :until)"
                " ON CONFLICT (name) DO UPDATE SET owner = :owner, expires_at = :until"
                " WHERE owner = :owner OR expires_at <= :now",
                {"name": name, "owner": owner, "until": to_us(now + timedelta(seconds=ttl_s)), "now": to_us(now)},
            )
        return taken.rowcount == 1

    def release_lease(self, name: str, owner: str | None = None) -> bool:
        with self._store.transaction() as db:
            freed = db.execute(
                "DELETE FROM leases WHERE name = :name AND (:owner IS NULL OR owner = :owner) AND expires_at > :now",
                {"name": name, "owner": owner, "now": to_us(self._store.clock())},
            )
        return freed.rowcount == 1
