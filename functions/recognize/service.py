"""Recognition: from the bytes of an image to identities, and from a candidate to stored detections.

Knows neither Azure nor the environment. `Recognizer` is the vision and the matching; `DetectionService` adds what a
crop from the edge needs: idempotence, provenance, and an outcome for every candidate.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import numpy as np

from shared import telemetry
from shared.domain import (
    UNKNOWN,
    Candidate,
    Detection,
    Embeddings,
    Face,
    Identity,
    Outcome,
    Quality,
    UInt8Array,
    check_place_id,
    detection_id,
    format_time,
    percent_safe,
    sha256_hex,
)
from shared.errors import IntegrityError, InvalidInput, PermanentError
from shared.matching.model import MatcherModel, camera_key
from shared.ports import Clock, DetectionRepository, Detector
from shared.serving import Serving
from shared.vision.decode import ImageLimits, decode_image
from shared.vision.mtcnn import MtcnnDetector
from shared.vision.quality import QualityGate, assess

logger = logging.getLogger(__name__)

CROP_FACE_MIN = 0.25
"""A candidate's face takes at least this share of the crop's shorter side: the edge adds at most 100 % a side."""
OTHER_SHOTS = 10
"""Of a track, that tell who one more shot shows: more than a gateway sends in five minutes."""


@dataclass(frozen=True, slots=True, eq=False)
class RecognizedFace:
    """A verified face, who it is, and what a caller may want to know besides.

    Attributes:
        rejected: why the quality gate would not let it be identified, or None. `identity` is then unknown.
        embedding: one row.
        model: the matcher that answered, of the embedding's embedder.
    """

    face: Face
    quality: Quality
    rejected: str | None
    identity: Identity
    embedding: Embeddings
    model: MatcherModel

    def with_others(self, others: Callable[[], Sequence[Embeddings]], camera: str | None = None) -> RecognizedFace:
        """This face of a best shot; where it has no name, named if other shots of the visit say who it is.

        Args:
            others: gives the embeddings of the visit's other shots, a row each; asked where they can tell something.
            camera: that took it, see `matching.model.camera_key`.
        """
        if self.rejected is not None or self.identity.known or not self.model.operating.visit_margin:
            return self
        shots = others()
        with telemetry.stage("identify"):
            together = self.model.identify_visit(self.embedding, shots, camera)
        return replace(self, identity=together) if together is not None and together.known else self


class Recognizer:
    """Verify, embed, identify.

    Args:
        serving: gives what finds, embeds and names faces; called once for each image: one pair judges all of it.
        gate: what is good enough to be identified.
        limits: on images, checked before decoding.
        max_faces: of one image, most confident first.
        slot: entered while the CPU is used, so that no more images are worked on than there are cores.
    """

    def __init__(
        self,
        *,
        serving: Callable[[], Serving],
        gate: QualityGate,
        limits: ImageLimits,
        max_faces: int,
        slot: AbstractContextManager[object],
    ) -> None:
        self._serving = serving
        self._gate = gate
        self._limits = limits
        self._max_faces = max_faces
        self._slot = slot

    def recognize(self, data: bytes) -> list[RecognizedFace]:
        """Every face of an image, most confident first.

        Raises:
            InvalidImage, ImageTooLarge: see `decode_image`.
        """
        with self._slot:
            image, serving = self._decode(data), self._serving()
            with telemetry.stage("detect"):
                faces = list(serving.pack.detector.detect(image))
            return self._identify(serving, image, faces[: self._max_faces])

    def recognize_crop(
        self, data: bytes, camera: str | None = None, *, best_shot: bool = False
    ) -> RecognizedFace | None:
        """The face that an edge crop was taken for: the one nearest its centre, or None when there is none.

        The crop tells how large its face can be, so the detector looks at two or three scales instead of eleven.

        Args:
            camera: that took it, see `matching.model.camera_key`: it may have a threshold of its own.
            best_shot: the crop is one of the few that are sent of a visit, see `MatcherModel.identify`.
        """
        with self._slot:
            image, serving = self._decode(data), self._serving()
            with telemetry.stage("detect"):
                face = most_central(image, _detect_in_crop(serving.pack.detector, image))
            return self._identify(serving, image, [face], camera, best_shot)[0] if face is not None else None

    def _decode(self, data: bytes) -> UInt8Array:
        with telemetry.stage("decode"):
            return decode_image(data, self._limits)

    def _identify(
        self, serving: Serving, image: UInt8Array, faces: list[Face], camera: str | None = None, best_shot: bool = False
    ) -> list[RecognizedFace]:
        if not faces:
            return []
        with telemetry.stage("embed"):
            embeddings = serving.pack.embedder.embed([image] * len(faces), faces)
        with telemetry.stage("identify"):
            identities = serving.model.identify(embeddings, camera, best_shots=best_shot)
        recognized = []
        for index, (face, identity) in enumerate(zip(faces, identities, strict=True)):
            quality = assess(image, face)
            rejected, embedding = self._gate.reason(quality), embeddings.row(index)
            if rejected is None and identity.close:
                embedding, identity = _look_again(serving, image, face, camera, best_shot)
            recognized.append(RecognizedFace(face, quality, rejected, identity, embedding, serving.model))
        return recognized


def _look_again(
    serving: Serving, image: UInt8Array, face: Face, camera: str | None, best_shot: bool
) -> tuple[Embeddings, Identity]:
    """As templates are embedded: it takes longer, and is worth it where little separates a person from a stranger."""
    with telemetry.stage("embed"):
        embedding = serving.pack.embedder.embed_reference([image], [face])
    with telemetry.stage("identify"):
        (identity,) = serving.model.identify(embedding, camera, best_shots=best_shot)
    return embedding, identity


def _detect_in_crop(detector: Detector, image: UInt8Array) -> Sequence[Face]:
    if isinstance(detector, MtcnnDetector):
        return detector.detect(image, min_face_px=max(12, int(CROP_FACE_MIN * min(image.shape[:2]))))
    return detector.detect(image)


def most_central(image: UInt8Array, faces: Sequence[Face]) -> Face | None:
    """The face whose centre is nearest the middle of the picture."""
    if not faces:
        return None
    middle = np.array([image.shape[1], image.shape[0]], dtype=np.float32) / 2
    return min(faces, key=lambda face: float(np.linalg.norm((face.box[:2] + face.box[2:]) / 2 - middle)))


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where and when an image that came over HTTP was taken, as its sender says."""

    site: str
    camera: str
    location: str

    def __post_init__(self) -> None:
        for kind in ("site", "camera", "location"):
            check_place_id(kind, getattr(self, kind))


class DetectionService:
    """Turns recognised faces into stored detections, once each.

    Args:
        store_unknown_embeddings: keep the embedding of faces that were given no name.
        announce: told of every detection once it is stored, and again when its candidate is delivered again before its
            outcome was recorded.
    """

    def __init__(
        self,
        *,
        recognizer: Recognizer,
        detections: DetectionRepository,
        store_unknown_embeddings: bool,
        clock: Clock,
        announce: Callable[[Detection], object] = lambda detection: None,
    ) -> None:
        self._recognizer = recognizer
        self._detections = detections
        self._store_unknown_embeddings = store_unknown_embeddings
        self._clock = clock
        self._announce = announce

    def store_candidate(self, name: str, data: bytes, metadata: Mapping[str, str]) -> Outcome:
        """Recognises one crop from the edge and stores what came of it. A second delivery changes nothing.

        Detections are written, and announced, before the outcome: what is interrupted in between is done again, into
        the same ids.
        A permanent error becomes the candidate's outcome; a transient one is raised, and the host retries. The trace
        that the gateway began with the crop goes on here.
        """
        with telemetry.span("recognize.candidate", kind=telemetry.CONSUMER, carrier=metadata):
            return self._store_candidate(name, data, metadata)

    def _store_candidate(self, name: str, data: bytes, metadata: Mapping[str, str]) -> Outcome:
        content = sha256_hex(data)
        outcome_id = detection_id(name, content, -1)
        if (known := self._detections.get_outcome(outcome_id)) is not None:
            telemetry.REPEATED.add({})
            return known
        candidate: Candidate | None = None
        site, camera = metadata.get("site", ""), metadata.get("camera", "")
        try:
            candidate = Candidate.from_metadata(metadata)
            site, camera = candidate.site, candidate.camera
            if content != candidate.sha256:
                raise IntegrityError("the crop's bytes do not match the hash in its metadata")
            _check_place(name, candidate)
            status, reason = self._recognize_candidate(name, data, candidate)
        except PermanentError as error:
            logger.warning("candidate failed: %s", error, extra={"action": "candidate.failed", "code": error.code})
            status, reason = "failed", error.code
        faces = 1 if status == "detected" else 0
        outcome = Outcome(outcome_id, name, site, camera, status, reason, faces, self._clock())
        with telemetry.stage("store"):
            fresh = self._detections.record_outcome(outcome)
        if fresh:
            _count(outcome, candidate)
        logger.info("candidate done", extra={"action": f"candidate.{status}", "reason": reason})
        return outcome

    def _recognize_candidate(self, name: str, data: bytes, candidate: Candidate) -> tuple[str, str | None]:
        camera = camera_key(candidate.site, candidate.camera)
        found = self._recognizer.recognize_crop(data, camera, best_shot=candidate.chosen)
        if found is None:
            return "rejected", "no_face"
        if found.rejected is not None:
            return "rejected", found.rejected
        id = detection_id(name, candidate.sha256, 0)
        if candidate.chosen:
            found = found.with_others(lambda: self._others(candidate, id), camera)
        self._add(
            self._detection(
                found,
                id=id,
                where=Provenance(candidate.site, candidate.camera, candidate.location),
                blob_name=name,
                candidate=candidate,
            )
        )
        return "detected", None

    def _others(self, candidate: Candidate, id: str) -> list[Embeddings]:
        """Of a candidate's track: the other shots that nobody was recognised on. One that comes at the same time may
        not be stored yet; then each is judged without the other."""
        with telemetry.stage("store"):
            track = self._detections.of_track(candidate.site, candidate.camera, candidate.track, most=OTHER_SHOTS)
        return [
            Embeddings(shot.embedder_id, shot.embedding[None])
            for shot in track
            if shot.id != id and shot.embedding is not None and shot.person_id == UNKNOWN
        ]

    def _add(self, detection: Detection) -> None:
        with telemetry.stage("store"):
            fresh = self._detections.add(detection)
        if fresh:
            # Over HTTP the caller names the camera: anything at all, and no label.
            camera = detection.camera if detection.candidate else "any"
            identity = "unknown" if detection.person_id == UNKNOWN else "known"
            telemetry.IDENTIFIED.add({**telemetry.place(detection.site, camera), "identity": identity})
        else:
            # What counts is what the first delivery has stored: after a training it may name somebody else.
            detection = self._detections.get(detection.id) or detection
        self._announce(detection)

    def store_image(self, data: bytes, where: Provenance) -> list[tuple[RecognizedFace, Detection | None]]:
        """Recognises every face of an image that came over HTTP, and stores a detection for each that is usable.

        Returns:
            Every face, and its detection, or None of one that the quality gate rejected.
        """
        now = self._clock()
        name = f"http/{percent_safe(where.camera)}/{format_time(now)}"
        content = sha256_hex(data)
        stored: list[tuple[RecognizedFace, Detection | None]] = []
        for index, found in enumerate(self._recognizer.recognize(data)):
            if found.rejected is not None:
                logger.info("face rejected", extra={"action": "face.rejected", "reason": found.rejected})
                stored.append((found, None))
                continue
            detection = self._detection(found, id=detection_id(name, content, index), where=where)
            self._add(detection)
            stored.append((found, detection))
        return stored

    def _detection(
        self,
        found: RecognizedFace,
        *,
        id: str,
        where: Provenance,
        blob_name: str | None = None,
        candidate: Candidate | None = None,
    ) -> Detection:
        now = self._clock()
        keep = self._store_unknown_embeddings and not found.identity.known
        left, top, right, bottom = (float(edge) for edge in found.face.box)
        return Detection(
            id=id,
            person_id=found.identity.person_id,
            similarity=found.identity.similarity,
            confidence=found.identity.confidence,
            threshold=found.identity.threshold,
            model_id=found.model.model_id,
            embedder_id=found.embedding.embedder_id,
            site=where.site,
            camera=where.camera,
            location=where.location,
            captured_at=candidate.captured_at if candidate else now,
            processed_at=now,
            track=candidate.track if candidate else None,
            frame_box=candidate.frame_box if candidate else None,
            face_box=(left, top, right, bottom),
            quality=found.quality,
            candidate=blob_name,
            embedding=found.embedding.vectors[0] if keep else None,
        )


def _check_place(name: str, candidate: Candidate) -> None:
    """A crop is filed under the site and camera that it claims.

    Raises:
        InvalidInput: its name says otherwise.
    """
    if name.split("/")[:2] != candidate.blob_name.split("/")[:2]:
        raise InvalidInput("the crop's name and its metadata are of different places")


def _count(outcome: Outcome, candidate: Candidate | None) -> None:
    """Metrics of one candidate. Metadata that could not be read names no camera."""
    where = telemetry.place(candidate.site, candidate.camera) if candidate else telemetry.place("unknown", "unknown")
    telemetry.CANDIDATES.add(where)
    if outcome.status == "detected":
        telemetry.VERIFIED.add(where)
    else:
        counter = telemetry.REJECTED if outcome.status == "rejected" else telemetry.FAILED
        counter.add({**where, "reason": outcome.reason or ""})
    if candidate:
        delay_s = (outcome.processed_at - candidate.captured_at).total_seconds()
        telemetry.CANDIDATE_DELAY.record(max(delay_s, 0.0), where)
