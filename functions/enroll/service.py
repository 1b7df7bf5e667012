"""Enrolment: people come, add photographs, and go without a trace.

Every photograph must show exactly one usable face. Only that face and a margin around it is kept, newly encoded, so
neither bystanders nor the camera's EXIF are stored.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

import numpy as np

from shared.domain import (
    DATASET,
    Embeddings,
    Face,
    Person,
    Quality,
    Template,
    UInt8Array,
    normalise_person_id,
    percent_safe,
    sha256_hex,
    template_key,
)
from shared.errors import InvalidInput, NotFound, UnusableFace
from shared.model_registry import ModelRegistry
from shared.ports import BlobStore, Clock, Detector, PersonRepository
from shared.vision.decode import ImageLimits, decode_image, encode_jpeg
from shared.vision.detectors import Pack
from shared.vision.quality import QualityGate, assess

logger = logging.getLogger(__name__)

KEPT_MARGIN = 1.0
"""Margin kept around an enrolled face, as a share of its longer side: enough for any embedder's own crop."""

REFUSALS = {
    "no_face": "no face was found; use a photo that shows the person's face, upright and in focus",
    "several_faces": "more than one face was found; use a photo of this person alone",
    "too_small": "the face is too small; use a closer or larger photo",
    "too_blurred": "the face is blurred; use a sharper photo",
    "low_confidence": "the face is not clear enough; use a photo with the whole face visible",
    "turned_away": "the face is turned away; use a photo from the front",
    "looking_up": "the face looks up; use a photo at the height of the eyes",
    "looking_down": "the face looks down; use a photo at the height of the eyes",
    "tilted": "the head is tilted; use a photo with the head upright",
    "too_dark": "the face is too dark; use a photo with light on the face, not behind it",
    "too_bright": "the face is over-exposed; use a photo without flash or direct sun",
    "low_contrast": "the face has too little contrast; use a photo through a clean lens, in even light",
}


@dataclass(frozen=True, slots=True)
class Enrolled:
    """What became of one photograph.

    Attributes:
        template_id: of the template that stands for it.
        added: False when that was there already, made of the same image or of one that is all but the same.
        similarity: cosine to the most similar template that the person had; None for the first.
    """

    person_id: str
    template_id: str
    added: bool
    quality: Quality
    similarity: float | None = None


class EnrollService:
    """The gallery's front door.

    Args:
        packs: gives those that templates are made with now: of the embedder that answers, then, while it is being
            changed, of the other.
        gate: what is good enough to recognise somebody by; stricter than the recogniser's.
        slot: entered while the CPU is used.
        forget: takes a removed person's name off what naming and recognition have left; whether there was anything.
    """

    def __init__(
        self,
        *,
        people: PersonRepository,
        blobs: BlobStore,
        registry: ModelRegistry,
        packs: Callable[[], Sequence[Pack]],
        gate: QualityGate,
        limits: ImageLimits,
        slot: AbstractContextManager[object],
        clock: Clock,
        forget: Callable[[str], bool] = lambda person_id: False,
    ) -> None:
        self._forget = forget
        self._people = people
        self._blobs = blobs
        self._registry = registry
        self._packs = packs
        self._gate = gate
        self._limits = limits
        self._slot = slot
        self._clock = clock

    def add_person(self, name: str) -> str:
        """Makes room for a person and returns the id.

        Raises:
            InvalidIdentifier: see `normalise_person_id`.
            Conflict: the id is taken.
        """
        person_id = normalise_person_id(name)
        self._people.add_person(Person(person_id, self._clock()))
        logger.info("person added", extra={"action": "person.add"})
        return person_id

    def add_image(self, name: str, data: bytes, *, source: str = "upload") -> Enrolled:
        """Adds one photograph to a person; one that is all but the same as an earlier one adds nothing.

        Args:
            source: one of `SOURCES`.

        Raises:
            NotFound: the person was not added before.
            UnusableFace: no face, several, or one that the gate refuses; `reason` says which.
            InvalidImage, ImageTooLarge: see `decode_image`.
        """
        person_id = normalise_person_id(name)
        self._people.get_person(person_id)
        packs = self._packs()
        with self._slot:
            image = decode_image(data, self._limits)
            face, quality = self._only_face(packs[0].detector, image)
            embeddings = [packs[0].embedder.embed_reference([image], [face]), *_of_others(packs[1:], image, face)]
        same, similarity = self._most_similar(person_id, embeddings[0])
        if same is not None and similarity is not None and similarity >= packs[0].table.duplicate_similarity:
            logger.info("template repeated", extra={"action": "template.add", "added": False})
            return Enrolled(person_id, same, False, quality, similarity)
        kept, kept_face = crop_to_face(image, face)
        stored = encode_jpeg(kept)
        digest = sha256_hex(stored)
        template, *others = [self._template(person_id, digest, e, kept_face, quality, source) for e in embeddings]
        self._blobs.put(DATASET, template.image, stored, content_type="image/jpeg")
        try:
            added = self._people.add_template(template)
            for other in others:
                self._people.add_template(other)
        except NotFound:  # the person was removed while this photo was looked at
            self._blobs.delete(DATASET, template.image)
            raise
        logger.info("template added", extra={"action": "template.add", "added": added})
        return Enrolled(person_id, template.template_id, added, quality, similarity)

    def _most_similar(self, person_id: str, probe: Embeddings) -> tuple[str | None, float | None]:
        """The person's template that is most like it, and by how much. The exact same image is like itself."""
        known = self._people.list_templates(person_id=person_id, embedder_id=probe.embedder_id)
        found = [(float(template.embedding @ probe.vectors[0]), template.template_id) for template in known]
        similarity, template_id = max(found, default=(None, None))
        return template_id, similarity

    def _only_face(self, detector: Detector, image: UInt8Array) -> tuple[Face, Quality]:
        """The one face of the picture; far smaller ones in the background do not count as others."""
        faces = list(detector.detect(image))
        if not faces:
            raise refusal("no_face")
        largest = max(faces, key=lambda face: face.height_px)
        if any(face is not largest and face.height_px > 0.5 * largest.height_px for face in faces):
            raise refusal("several_faces")
        quality = assess(image, largest)
        if reason := self._gate.reason(quality):
            raise refusal(reason)
        return largest, quality

    def _template(
        self, person_id: str, digest: str, embedding: Embeddings, face: Face, quality: Quality, source: str
    ) -> Template:
        left, top, right, bottom = (float(edge) for edge in face.box)
        landmarks = None if face.landmarks is None else tuple((float(x), float(y)) for x, y in face.landmarks)
        image = image_name(person_id, digest)
        return Template(
            template_id=template_key(image, embedding.embedder_id),
            person_id=person_id,
            embedder_id=embedding.embedder_id,
            embedding=embedding.vectors[0],
            image=image,
            face_box=(left, top, right, bottom),
            landmarks=landmarks,
            quality=quality,
            source=source,
            created_at=self._clock(),
        )

    def remove_person(self, name: str) -> None:
        """Removes a person's row, templates and images, every model that knows them, and their name from detections.

        The row goes first: a training that runs meanwhile looks at it after publishing, and erases again. What an
        interrupted removal left behind is removed by the next.

        Raises:
            NotFound: nothing of that id was left anywhere.
        """
        person_id = normalise_person_id(name)
        found = self._people.delete_person(person_id)
        for blob in list(self._blobs.list(DATASET, prefix=f"{percent_safe(person_id)}/")):
            found |= self._blobs.delete(DATASET, blob.name)
        found |= self._registry.erase_person(person_id)
        found |= self._forget(person_id)
        if not found:
            raise NotFound("nobody of that id is enrolled")
        logger.info("person removed", extra={"action": "person.remove"})

    def remove_template(self, name: str, template_id: str) -> None:
        """Removes a template, its image, and what other embedders made of that image.

        The image goes first: what is interrupted then can be asked for again by the template that is left, while an
        image without its template would come back with the next re-embedding.

        Raises:
            NotFound: the person has no such template.
        """
        person_id = normalise_person_id(name)
        templates = list(self._people.list_templates(person_id=person_id))
        images = {template.image for template in templates if template.template_id == template_id}
        if not images:
            raise NotFound("this person has no such template")
        for image in images:
            self._blobs.delete(DATASET, image)
        for template in templates:
            if template.image in images:
                self._people.delete_template(person_id, template.template_id)
        logger.info("template removed", extra={"action": "template.remove"})


def _of_others(packs: Sequence[Pack], image: UInt8Array, face: Face) -> list[Embeddings]:
    """What the embedder that does not answer makes of a face; nothing where it needs landmarks that there are none of.

    The migration tries such an image again with its own detector.
    """
    found = []
    for pack in packs:
        try:
            found.append(pack.embedder.embed_reference([image], [face]))
        except InvalidInput:
            logger.info("no template of the other embedder", extra={"action": "template.other"})
    return found


def image_name(person_id: str, digest: str) -> str:
    """Blob name of an enrolment image."""
    return f"{percent_safe(person_id)}/{digest}.jpg"


def refusal(reason: str) -> UnusableFace:
    """The error for a photograph that cannot be enrolled."""
    return UnusableFace(reason, REFUSALS.get(reason, f"the face cannot be used: {reason}"))


def crop_to_face(image: UInt8Array, face: Face) -> tuple[UInt8Array, Face]:
    """The face with `KEPT_MARGIN` around it, and the same face in the crop's own pixels."""
    margin = KEPT_MARGIN * max(face.width_px, face.height_px)
    height, width = image.shape[:2]
    left, top = (max(0, int(edge - margin)) for edge in face.box[:2])
    right, bottom = min(width, int(face.box[2] + margin)), min(height, int(face.box[3] + margin))
    offset = np.array([left, top], dtype=np.float32)
    landmarks = None if face.landmarks is None else face.landmarks - offset
    moved = Face(face.box - np.concatenate([offset, offset]), face.confidence, landmarks)
    return np.ascontiguousarray(image[top:bottom, left:right]), moved
