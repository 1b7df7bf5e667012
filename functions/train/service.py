"""Training: from the gallery to a published model, as jobs that survive a crash and never run twice at once.

A job is asked for over HTTP or by the timer, waits in the `train-requests` queue, and is run by the queue's trigger.
Its progress is a document that callers may ask after.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import Any, Final, Literal
from urllib.parse import unquote

import numpy as np

from shared import telemetry
from shared.domain import (
    DATASET,
    Face,
    Job,
    Person,
    Template,
    format_time,
    gallery_hash,
    template_key,
)
from shared.errors import Busy, Conflict, IntegrityError, InvalidInput, NotFound, PermanentError, TransientError
from shared.matching.bundle import Bundle, Manifest
from shared.matching.model import Operating, new_model_id
from shared.messages import TRAIN_QUEUE, TrainRequest
from shared.model_registry import ModelRegistry
from shared.ports import (
    BlobProperties,
    BlobStore,
    Clock,
    Detector,
    Embedder,
    JobRepository,
    PersonRepository,
    WorkQueue,
)
from shared.vision.decode import ImageLimits, decode_image
from shared.vision.quality import assess

logger = logging.getLogger(__name__)

TRAIN_LEASE: Final = "train"
BUSY_DELAY_S: Final = 5.0
KEPT_MODELS: Final = 5
ATTEMPTS: Final = 3
SAME_EMBEDDING: Final = 0.9999

JobKind = Literal["embed", "fit", "embed_and_fit"]


class TrainRequests:
    """The asking side: cheap, and knows nothing of models."""

    def __init__(self, *, jobs: JobRepository, queue: WorkQueue, clock: Clock) -> None:
        self._jobs = jobs
        self._queue = queue
        self._clock = clock

    def request(self, kind: JobKind) -> Job:
        """Queues a job and returns it."""
        now = self._clock()
        job = Job(uuid.uuid4().hex, kind, "queued", now, now)
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

    def idle(self) -> bool:
        """Whether no training is waiting or under way."""
        return self._queue.length(TRAIN_QUEUE) == 0

    def job(self, job_id: str) -> Job:
        """Raises: NotFound."""
        return self._jobs.get_job(job_id)

    def unblock(self) -> bool:
        """Releases a training lease whose owner has died. False when there was none."""
        return self._jobs.release_lease(TRAIN_LEASE)


@dataclass(frozen=True, slots=True)
class FitSettings:
    """What a fit needs besides the templates; see `fit_bundle`."""

    embedder: Mapping[str, Any]
    fallback: Operating
    target_fpir: float


class TrainService:
    """The doing side.

    Args:
        fit: `fit_bundle`, or a stand-in.
        slot: entered while the CPU is used for vision.
    """

    def __init__(
        self,
        *,
        people: PersonRepository,
        blobs: BlobStore,
        jobs: JobRepository,
        queue: WorkQueue,
        registry: ModelRegistry,
        detector: Detector,
        embedder: Embedder,
        limits: ImageLimits,
        settings: FitSettings,
        lease_ttl_s: float,
        slot: AbstractContextManager[object],
        clock: Clock,
    ) -> None:
        self._people = people
        self._blobs = blobs
        self._jobs = jobs
        self._queue = queue
        self._registry = registry
        self._detector = detector
        self._embedder = embedder
        self._limits = limits
        self._settings = settings
        self._lease_ttl_s = lease_ttl_s
        self._slot = slot
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
        if job.status == "succeeded":
            return job
        if not self._jobs.acquire_lease(TRAIN_LEASE, request.job_id, ttl_s=self._lease_ttl_s):
            self._queue.send(TRAIN_QUEUE, request.model_dump_json(by_alias=True), delay_s=BUSY_DELAY_S)
            return job
        began, status = time.monotonic(), "repeated"
        try:
            with telemetry.span("train.run", kind=telemetry.CONSUMER, attributes={"kind": request.kind}):
                job = self._run_leased(job, request.kind, last_attempt)
            status = job.status
            return job
        finally:
            self._jobs.release_lease(TRAIN_LEASE, request.job_id)
            telemetry.TRAIN_DURATION.record(time.monotonic() - began, {"kind": request.kind, "status": status})

    def _run_leased(self, job: Job, kind: JobKind, last_attempt: bool) -> Job:
        job, self._renewed_at = self._save(job, status="running", error=None), time.monotonic()
        try:
            result: dict[str, Any] = {}
            if kind in ("embed", "embed_and_fit"):
                result |= self._embed_all(lambda share: self._report(job, share / 2))
            if kind in ("fit", "embed_and_fit"):
                result |= self._fit(lambda share: self._report(job, 0.5 + share / 2))
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
        keys = self._people.template_keys(self._embedder.embedder_id)
        try:
            pointer = self._registry.pointer()
            manifest = None if pointer is None else self._registry.manifest(pointer)
        except IntegrityError:  # damaged: only a new model mends it
            changed = True
        else:
            changed = bool(keys) if manifest is None else self._fitted_to_other(manifest, keys)
        telemetry.MODEL_BEHIND.set(changed, {})
        return changed

    def _fitted_to_other(self, manifest: Manifest, keys: list[tuple[str, str]]) -> bool:
        other_embedder = manifest.embedder["embedder_id"] != self._embedder.embedder_id
        return other_embedder or manifest.gallery != gallery_hash(keys)

    def _fit(self, progress: Callable[[float], None]) -> dict[str, Any]:
        for _ in range(ATTEMPTS):
            bundle = self._fit_once(progress)
            try:
                self._registry.publish(bundle)
            except Conflict:
                continue  # an erasure overtook this fit: read the gallery again
            self._erase_whoever_left(bundle)
            self._registry.prune(KEPT_MODELS)
            manifest = bundle.manifest
            return {
                "model_id": manifest.model_id,
                "people": len(manifest.templates),
                "templates": sum(manifest.templates.values()),
                "calibration": dict(manifest.calibration),
            }
        raise Busy("the gallery keeps changing; train again")

    def _fit_once(self, progress: Callable[[float], None]) -> Bundle:
        from functions.train.fit import fit_bundle, gather  # scikit-learn takes a second to import

        model_id = new_model_id(self._clock())
        embedder_id = self._embedder.embedder_id
        state = gallery_hash(self._people.template_keys(embedder_id))
        gallery = gather(self._people.list_templates(embedder_id=embedder_id), state, self._embedder.dimension)
        return fit_bundle(
            gallery,
            model_id=model_id,
            embedder=self._settings.embedder,
            fallback=self._settings.fallback,
            target_fpir=self._settings.target_fpir,
            progress=progress,
        )

    def _erase_whoever_left(self, bundle: Bundle) -> None:
        """People who were removed between the reading of the gallery and the publication."""
        still_here = {person.person_id for person in self._people.list_people()}
        for person_id in bundle.manifest.templates:
            if person_id not in still_here:
                self._registry.erase_person(person_id)

    def _embed_all(self, progress: Callable[[float], None]) -> dict[str, Any]:
        """Makes the templates of this embedder anew from the stored images; images of nobody are deleted."""
        images = list(self._blobs.list(DATASET))
        counts = {"images": len(images), "templates": 0, "without_face": 0, "unreadable": 0, "deleted": 0}
        templates = sorted(self._people.list_templates(), key=lambda t: t.embedder_id == self._embedder.embedder_id)
        known = {template.image: template for template in templates}  # this embedder's own, where there is one
        for index, image in enumerate(images):
            try:
                ending = self._embed_image(image, known.get(image.name))
            except NotFound:  # removed while the job was under way
                ending = "deleted"
            except InvalidInput as error:  # damaged on the disk: one photograph must not stop all the others
                logger.error("stored image is unreadable", extra={"action": "train.unreadable", "code": error.code})
                ending = "unreadable"
            counts[ending] += 1
            progress((index + 1) / len(images))
        return counts

    def _embed_image(self, image: BlobProperties, known: Template | None) -> str:
        person = self._person_of(image.name)
        if person is None:
            self._blobs.delete(DATASET, image.name)
            return "deleted"
        with self._slot:
            pixels = decode_image(self._blobs.get(DATASET, image.name).data, self._limits)
            face = (
                _stored_face(known)
                if known
                else max(self._detector.detect(pixels), key=lambda found: found.height_px, default=None)
            )
            if face is None:
                return "without_face"
            embedding = self._embedder.embed([pixels], [face])[0]
            quality = known.quality if known else assess(pixels, face)
        template = Template(
            template_id=template_key(image.name, self._embedder.embedder_id),
            person_id=person.person_id,
            embedder_id=self._embedder.embedder_id,
            embedding=embedding,
            image=image.name,
            face_box=(float(face.box[0]), float(face.box[1]), float(face.box[2]), float(face.box[3])),
            landmarks=None if face.landmarks is None else tuple((float(x), float(y)) for x, y in face.landmarks),
            quality=quality,
            source=known.source if known else "upload",
            created_at=self._clock(),
            kept=known.kept if known else False,
        )
        self._replace_if_different(template, known)
        return "templates"

    def _replace_if_different(self, template: Template, known: Template | None) -> None:
        if self._people.add_template(template) or known is None or known.embedder_id != template.embedder_id:
            return
        if float(known.embedding @ template.embedding) < SAME_EMBEDDING:
            self._people.delete_template(template.person_id, template.template_id)
            self._people.add_template(template)

    def _person_of(self, image: str) -> Person | None:
        try:
            return self._people.get_person(unquote(image.split("/")[0]))
        except NotFound:
            return None


def _stored_face(template: Template) -> Face:
    landmarks = None if template.landmarks is None else np.array(template.landmarks, dtype=np.float32)
    return Face(np.array(template.face_box, dtype=np.float32), template.quality.confidence, landmarks)


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
