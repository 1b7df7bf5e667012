"""Long work as jobs: asked for, waiting in a queue, run one at a time under a lease, safe to run again after a crash.

The asking side stores the job and sends a message; the queue's trigger runs it. Whoever asked reads the job.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Final, Protocol

from shared.domain import Job
from shared.errors import Busy, PermanentError, TransientError
from shared.ports import Clock, JobRepository, WorkQueue

logger = logging.getLogger(__name__)

BUSY_DELAY_S: Final = 5.0


class Request(Protocol):
    """What travels in the queue."""

    @property
    def job_id(self) -> str: ...

    @property
    def kind(self) -> str: ...

    def model_dump_json(self, *, by_alias: bool) -> str: ...


class LeasedJobs:
    """Jobs of one queue, of which one runs at a time.

    Args:
        name: of the lease, and in logs.
        queue_name: where the requests wait.
        lease_ttl_s: how long the lease holds when its owner has died.
    """

    def __init__(
        self, name: str, queue_name: str, *, jobs: JobRepository, queue: WorkQueue, lease_ttl_s: float, clock: Clock
    ) -> None:
        self._name = name
        self._queue_name = queue_name
        self._jobs = jobs
        self._queue = queue
        self._lease_ttl_s = lease_ttl_s
        self._clock = clock

    def new(self, kind: str) -> Job:
        """A job that is stored and not yet asked for."""
        now = self._clock()
        job = Job(uuid.uuid4().hex, kind, "queued", now, now)
        self._jobs.put_job(job)
        return job

    def send(self, request: Request, *, delay_s: float = 0.0) -> None:
        """Asks for a stored job."""
        self._queue.send(self._queue_name, request.model_dump_json(by_alias=True), delay_s=delay_s)

    def idle(self) -> bool:
        """Whether nothing is waiting or under way."""
        return self._queue.length(self._queue_name) == 0

    def run(
        self, request: Request, work: Callable[[JobProgress], Mapping[str, Any]], *, last_attempt: bool = False
    ) -> Job:
        """Runs a queued job. What waits for the lease is sent again, later.

        Args:
            work: gives the job's result; must be safe to repeat.
            last_attempt: the host gives the message up when this fails; the job then says `failed`, not `queued`.

        Raises:
            NotFound: there is no such job.
            TransientError: the host should try again; the job says so meanwhile.
        """
        job = self._jobs.get_job(request.job_id)
        if job.status == "succeeded":
            return job
        if not self._jobs.acquire_lease(self._name, job.job_id, ttl_s=self._lease_ttl_s):
            self.send(request, delay_s=BUSY_DELAY_S)
            return job
        try:
            return self._run_leased(job, work, last_attempt)
        finally:
            self._jobs.release_lease(self._name, job.job_id)

    def _run_leased(self, job: Job, work: Callable[[JobProgress], Mapping[str, Any]], last_attempt: bool) -> Job:
        progress = JobProgress(job, self._jobs, self._name, self._lease_ttl_s, self._clock)
        progress.save(status="running", error=None)
        try:
            result = work(progress)
        except PermanentError as error:
            action = f"{self._name}.failed"
            logger.error("a job failed: %s", error, extra={"action": action, "code": error.code})
            return progress.save(status="failed", error=f"{error.code}: {error}")
        except Exception as error:
            # Recorded for whoever waits for the job, whatever it was; the host retries and logs.
            told = f"{error.code}: {error}" if isinstance(error, TransientError) else "unexpected: see the log"
            progress.save(status="failed" if last_attempt else "queued", error=told)
            raise
        return progress.save(status="succeeded", progress=1.0, result=dict(result))


class JobProgress:
    """How far a running job is; called with shares, 0 to 1. Keeps the lease for as long as it is called."""

    def __init__(self, job: Job, jobs: JobRepository, lease: str, lease_ttl_s: float, clock: Clock) -> None:
        self.job = job
        self._jobs = jobs
        self._lease = lease
        self._lease_ttl_s = lease_ttl_s
        self._clock = clock
        self._renewed_at = self._saved_at = time.monotonic()

    def __call__(self, share: float) -> None:
        """Notes the progress, at most once a second.

        Raises:
            Busy: the lease ran out, and somebody else has it.
        """
        now = time.monotonic()
        if now - self._renewed_at > self._lease_ttl_s / 3:
            if not self._jobs.acquire_lease(self._lease, self.job.job_id, ttl_s=self._lease_ttl_s):
                raise Busy("another worker took over; this one will be tried again")
            self._renewed_at = now
        if now - self._saved_at > 1.0:
            self.save(progress=share)
            self._saved_at = now

    def keep(self, result: Mapping[str, Any]) -> None:
        """Stores what is known of the result, for whoever repeats the work."""
        self.save(result=dict(result))

    def kept(self) -> Mapping[str, Any]:
        """What was kept, by an earlier attempt too."""
        return self.job.result

    def save(self, **changes: Any) -> Job:
        """Changes the job, and stores it."""
        self.job = replace(self.job, updated_at=self._clock(), **changes)
        self._jobs.put_job(self.job)
        return self.job
