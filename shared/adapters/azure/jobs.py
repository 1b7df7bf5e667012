"""Jobs and leases in Cosmos DB."""

from __future__ import annotations

import math
from datetime import timedelta
from typing import Any, Final

from shared.adapters.azure.cosmos import CosmosDatabase
from shared.adapters.azure.cosmos_schema import DAY_S, MODELS
from shared.adapters.azure.documents import JOB_PREFIX, LEASE_PREFIX, job_document, job_from, time_of, time_text
from shared.domain import Job, utc_now
from shared.errors import NotFound, StoreUnavailable
from shared.ports import Clock

JOB_TTL_S: Final = 30 * DAY_S
_ATTEMPTS: Final = 20


class CosmosJobRepository:
    """`ports.JobRepository` in one container, each document in a partition of its own: point operations only.

    A lease is taken, prolonged and freed under its ETag, so that of many who saw it free one gets it. It runs by the
    clocks of those who ask, so that it should be much longer than those may differ: seconds in the cloud.

    Args:
        clock: gives UTC-aware times.
    """

    def __init__(self, database: CosmosDatabase, clock: Clock = utc_now) -> None:
        self._container = database.container(MODELS)
        self._clock = clock

    def put_job(self, job: Job) -> None:
        self._container.upsert(job_document(job, ttl_s=JOB_TTL_S))

    def get_job(self, job_id: str) -> Job:
        document = self._container.read(JOB_PREFIX + job_id, JOB_PREFIX + job_id)
        if document is None:
            raise NotFound("no such job")
        return job_from(document)

    def acquire_lease(self, name: str, owner: str, *, ttl_s: float) -> bool:
        for _ in range(_ATTEMPTS):
            live = self._lease(name)
            wanted = self._new_lease(name, owner, ttl_s)
            if live is None:
                taken = self._container.create(wanted)
            elif live["owner"] == owner or self._has_run_out(live):
                taken = self._container.replace(wanted, live["_etag"])
            else:
                return False
            if taken:
                return True
        raise StoreUnavailable("a lease changes hands faster than it can be asked for")

    def release_lease(self, name: str, owner: str | None = None) -> bool:
        for _ in range(_ATTEMPTS):
            live = self._lease(name)
            if live is None or self._has_run_out(live) or owner not in (None, live["owner"]):
                return False
            if self._container.delete(live["id"], live["id"], etag=live["_etag"]):
                return True
        raise StoreUnavailable("a lease changes hands faster than it can be released")

    def _lease(self, name: str) -> dict[str, Any] | None:
        return self._container.read(LEASE_PREFIX + name, LEASE_PREFIX + name)

    def _new_lease(self, name: str, owner: str, ttl_s: float) -> dict[str, Any]:
        return {
            "id": LEASE_PREFIX + name,
            "owner": owner,
            "expires_at": time_text(self._clock() + timedelta(seconds=ttl_s)),
            # Swept a day after it has run out; until then it is overwritten.
            "ttl": math.ceil(ttl_s) + DAY_S,
        }

    def _has_run_out(self, lease: dict[str, Any]) -> bool:
        return time_of(lease["expires_at"]) <= self._clock()
