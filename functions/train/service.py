"""Training: from the gallery to a published model, as jobs that survive a crash and never run twice at once.

A job is asked for over HTTP or by the timer, waits in the `train-requests` queue, and is run by the queue's trigger.
Its progress is a document that callers may ask after.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal

from functions.train.embed import Reembedder
from functions.train.fitting import Fitter
from shared import telemetry
from shared.domain import Job, format_time, gallery_hash
from shared.errors import Busy, Conflict, IntegrityError, PermanentError, TransientError, UnknownSchema
from shared.matching.bundle import Bundle, Manifest
from shared.messages import TRAIN_QUEUE, TrainRequest
from shared.model_registry import ModelRegistry
from shared.ports import Clock, JobRepository, PersonRepository, WorkQueue
from shared.serving import Packs, ruling

logger = logging.getLogger(__name__)

TRAIN_LEASE: Final = "train"
BUSY_DELAY_S: Final = 5.0
KEPT_MODELS: Final = 5
ATTEMPTS: Final = 3

JobKind = Literal["embed", "fit", "embed_and_fit", "migrate"]


class TrainRequests:
    """The asking side: cheap, and knows nothing of models."""

    def __init__(self, *, jobs: JobRepository, queue: WorkQueue, clock: Clock) -> None:
        self._jobs = jobs
        self._queue = queue
        self._clock = clock

    def request(self, kind: JobKind) -> Job:
        """Queues a job and returns it."""
        return self.send(uuid.uuid4().hex, kind)

    def send(self, job_id: str, kind: JobKind) -> Job:
        """Queues a job under an id that was written down before, so that it can be sent again. Raises as `request`."""
        now = self._clock()
        job = Job(job_id, kind, "queued", now, now)
        self._jobs.put_job(job)
        message = TrainRequest(schema=1, job_id=job.job_id, kind=kind)
        self._queue.send(TRAIN_QUEUE, message.model_dump_json(by_alias=True))
        return job

    def wait(self, job_id: str, timeout_s: float) -> Job:
        """The job once it has finished, or as it stands after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while not (job := self._jobs.get_job(job_id)).finished and time.monotonic() < deadline:
            time.sleep(0.1)
        return job

    def idle(self, *, besides: int = 0) -> bool:
        """Whether no training is waiting or under way.

        Args:
            besides: so many messages do not count: a migration has one in the queue all the time.
        """
        return self._queue.length(TRAIN_QUEUE) <= besides

    def job(self, job_id: str) -> Job:
        """Raises: NotFound."""
        return self._jobs.get_job(job_id)

    def unblock(self) -> bool:
        """Releases a training lease whose owner has died. False when there was none."""
        return self._jobs.release_lease(TRAIN_LEASE)


@dataclass(frozen=True, slots=True)
class Slice:
    """What came of one slice of a long job.

    Attributes:
        finished: False when the rest is for the next slice, after whatever else waits in the queue.
    """

    finished: bool
    progress: float
    result: dict[str, Any] = field(default_factory=dict)


class TrainService:
    """The doing side.

    Args:
        packs: what there is to embed with; which one is meant is what the store says at the moment.
        migrate: works on the change of the embedder for a while; is given what to report progress to.
    """

    def __init__(
        self,
        *,
        people: PersonRepository,
        jobs: JobRepository,
        queue: WorkQueue,
        registry: ModelRegistry,
        packs: Packs,
        reembedder: Reembedder,
        fitter: Fitter,
        migrate: Callable[[Callable[[float], None]], Slice],
        lease_ttl_s: float,
        clock: Clock,
    ) -> None:
        self._people = people
        self._jobs = jobs
        self._queue = queue
        self._registry = registry
        self._packs = packs
        self._reembedder = reembedder
        self._fitter = fitter
        self._migrate = migrate
        self._lease_ttl_s = lease_ttl_s
        self._clock = clock
        self._renewed_at = 0.0

    def run(self, request: TrainRequest, *, last_attempt: bool = False) -> Job:
        """Runs one queued job. Running it again after a crash, or after it was given up, is safe.

        Args:
            last_attempt: the host gives the message up when this fails; the job then says `failed`, not `queued`.

        Raises:
            TransientError: the host should try again; the job says so meanwhile.
        """
        job = self._jobs.get_job(request.job_id)
        if job.status == "succeeded" and request.kind != "migrate":  # more may have been asked of it since
            return job
        if not self._jobs.acquire_lease(TRAIN_LEASE, request.job_id, ttl_s=self._lease_ttl_s):
            self._queue.send(TRAIN_QUEUE, request.model_dump_json(by_alias=True), delay_s=BUSY_DELAY_S)
            return job
        began, status = time.monotonic(), "repeated"
        try:
            with telemetry.span("train.run", kind=telemetry.CONSUMER, attributes={"kind": request.kind}):
                job = self._run_leased(job, request.kind, last_attempt)
            status = job.status
            if status == "running":  # the next slice; whoever waits for the lease comes before it
                others = self._queue.length(TRAIN_QUEUE) > 1
                delay_s = BUSY_DELAY_S + 1 if others else 0.0
                self._queue.send(TRAIN_QUEUE, request.model_dump_json(by_alias=True), delay_s=delay_s)
            return job
        finally:
            self._jobs.release_lease(TRAIN_LEASE, request.job_id)
            telemetry.TRAIN_DURATION.record(time.monotonic() - began, {"kind": request.kind, "status": status})

    def _run_leased(self, job: Job, kind: JobKind, last_attempt: bool) -> Job:
        job, self._renewed_at = self._save(job, status="running", error=None), time.monotonic()
        try:
            result: dict[str, Any] = {}
            if kind in ("embed", "embed_and_fit"):
                pack = self._packs.load(ruling(self._registry, self._packs))
                result |= self._reembedder.embed_all(pack, lambda share: self._report(job, share / 2))
            if kind in ("fit", "embed_and_fit"):
                result |= self._fit(lambda share: self._report(job, 0.5 + share / 2))
            if kind == "migrate":
                part = self._migrate(lambda share: self._report(job, share))
                if not part.finished:
                    return self._save(job, progress=part.progress)
                result |= part.result
        except PermanentError as error:
            logger.error("training failed: %s", error, extra={"action": "train.failed", "code": error.code})
            return self._save(job, status="failed", error=f"{error.code}: {error}")
        except Exception as error:
            # Recorded for whoever waits for the job, whatever it was; the host retries and logs.
            told = f"{error.code}: {error}" if isinstance(error, TransientError) else "unexpected: see the log"
            self._save(job, status="failed" if last_attempt else "queued", error=told)
            raise
        return self._save(job, status="succeeded", progress=1.0, result=result)

    def _report(self, job: Job, progress: float) -> None:
        """Notes the progress, and keeps the lease for as long as there is some.

        Raises:
            Busy: the lease ran out, and somebody else has it.
        """
        if time.monotonic() - self._renewed_at > self._lease_ttl_s / 3:
            if not self._jobs.acquire_lease(TRAIN_LEASE, job.job_id, ttl_s=self._lease_ttl_s):
                raise Busy("another training took over; this one will be tried again")
            self._renewed_at = time.monotonic()
        self._save(job, progress=progress)

    def _save(self, job: Job, **changes: Any) -> Job:
        changed = replace(job, updated_at=self._clock(), **changes)
        self._jobs.put_job(changed)
        return changed

    def gallery_changed(self) -> bool:
        """Whether the live model was fitted to another gallery, or another embedder, than there is now."""
        embedder_id = ruling(self._registry, self._packs)
        keys = self._people.template_keys(embedder_id)
        try:
            pointer = self._registry.pointer()
            manifest = None if pointer is None else self._registry.manifest(pointer)
        except IntegrityError:  # damaged: only a new model mends it
            changed = True
        else:
            changed = bool(keys) if manifest is None else _fitted_to_other(manifest, embedder_id, keys)
        telemetry.MODEL_BEHIND.set(changed, {})
        return changed

    def _fit(self, progress: Callable[[float], None]) -> dict[str, Any]:
        for _ in range(ATTEMPTS):
            embedder_id = ruling(self._registry, self._packs)
            self._catch_up(embedder_id, progress)
            bundle = self._fitter.fit(embedder_id, progress, self._live(embedder_id))
            try:
                self._registry.publish(bundle, going_on=lambda: progress(1.0))
            except Conflict:
                continue  # an erasure, or a change of the embedder, overtook this fit: read the gallery again
            erase_whoever_left(bundle, self._people, self._registry)
            self._registry.prune(KEPT_MODELS)
            manifest = bundle.manifest
            return {
                "model_id": manifest.model_id,
                "people": len(manifest.templates),
                "templates": sum(manifest.templates.values()),
                "set_aside": len(manifest.set_aside),
                "calibration": dict(manifest.calibration),
            }
        raise Busy("the gallery keeps changing; train again")

    def _live(self, embedder_id: str) -> Bundle | None:
        """What answers now, as far as it is sound and of that embedder."""
        try:
            pointer = self._registry.pointer()
            bundle = None if pointer is None else self._registry.load(pointer)
        except (IntegrityError, UnknownSchema):
            return None
        return bundle if bundle and bundle.manifest.embedder["embedder_id"] == embedder_id else None

    def _catch_up(self, embedder_id: str, progress: Callable[[float], None]) -> None:
        """While the embedder is being changed: whoever was enrolled in a process that did not know it yet."""
        migration = self._registry.migrations.current()
        if migration is None or not migration.keeps_both:
            return

        def keep_on(done: int, total: int) -> bool:
            progress(0.0)
            return True

        missing, _ = self._reembedder.missing(embedder_id, migration.skipped)
        if missing:
            self._reembedder.embed_missing(self._packs.load(embedder_id), migration.skipped, keep_on)


def _fitted_to_other(manifest: Manifest, embedder_id: str, keys: list[tuple[str, str]]) -> bool:
    return manifest.embedder["embedder_id"] != embedder_id or manifest.gallery != gallery_hash(keys)


def erase_whoever_left(bundle: Bundle, people: PersonRepository, registry: ModelRegistry) -> None:
    """People who were removed between the reading of the gallery and the publication."""
    still_here = {person.person_id for person in people.list_people()}
    for person_id in bundle.manifest.templates:
        if person_id not in still_here:
            registry.erase_person(person_id)


def job_document(job: Job) -> dict[str, Any]:
    """A job as JSON tells it."""
    return {
        "job_id": job.job_id,
        "kind": job.kind,
        "status": job.status,
        "progress": round(job.progress, 3),
        "created_at": format_time(job.created_at),
        "updated_at": format_time(job.updated_at),
        "result": dict(job.result),
        "error": job.error,
    }
