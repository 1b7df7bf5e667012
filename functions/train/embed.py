"""Templates from stored images: all of one embedder's anew, or only those that are missing."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager
from itertools import groupby
from typing import Any, Final
from urllib.parse import unquote

import numpy as np

from shared.domain import DATASET, Face, Person, Template, UInt8Array, template_key
from shared.errors import InvalidInput, NotFound
from shared.ports import BlobProperties, BlobStore, Clock, PersonRepository
from shared.vision.decode import ImageLimits, decode_image
from shared.vision.detectors import Pack
from shared.vision.quality import assess

logger = logging.getLogger(__name__)

SAME_EMBEDDING: Final = 0.9999


class Reembedder:
    """Makes templates of stored images.

    Args:
        slot: entered while the CPU is used.
    """

    def __init__(
        self,
        *,
        people: PersonRepository,
        blobs: BlobStore,
        limits: ImageLimits,
        slot: AbstractContextManager[object],
        clock: Clock,
    ) -> None:
        self._people = people
        self._blobs = blobs
        self._limits = limits
        self._slot = slot
        self._clock = clock

    def embed_all(self, pack: Pack, progress: Callable[[float], None]) -> dict[str, Any]:
        """Makes the templates of the pack's embedder anew; images of nobody are deleted. How many ended how."""
        images = list(self._blobs.list(DATASET))
        counts = {"images": len(images), "templates": 0, "without_face": 0, "unreadable": 0, "deleted": 0}
        known = self._known(pack)
        for index, image in enumerate(images):
            counts[self.embed_image(pack, image, known.get(image.name))] += 1
            progress((index + 1) / len(images))
        return counts

    def missing(self, embedder_id: str, skipped: Collection[str]) -> tuple[list[BlobProperties], int]:
        """Stored images without a template of an embedder, and how many images there are.

        Args:
            skipped: ids of templates that are known not to be possible.
        """
        there = {template_id for _, template_id in self._people.template_keys(embedder_id)} | set(skipped)
        images = list(self._blobs.list(DATASET))
        return [image for image in images if template_key(image.name, embedder_id) not in there], len(images)

    def embed_missing(
        self, pack: Pack, skipped: Collection[str], progress: Callable[[int, int], bool]
    ) -> tuple[bool, list[str]]:
        """Makes the templates that are missing, until there are none or `progress` says that it is enough for now.

        Args:
            progress: told how many images are done, of how many; False when it is enough for now.

        Returns:
            Whether none is missing now, and the ids of the templates that could not be made this time.
        """
        embedder_id = pack.embedder.embedder_id
        missing, total = self.missing(embedder_id, skipped)
        failed: list[str] = []
        for index, (image, known) in enumerate(self._with_known(missing)):
            enough = not progress(total - len(missing) + index, total)
            if enough and index:  # however long the listing took, at least one is made
                return False, failed
            if self.embed_image(pack, image, known) in ("without_face", "unreadable"):
                failed.append(template_key(image.name, embedder_id))
        progress(total, total)
        return True, failed

    def _with_known(self, images: list[BlobProperties]) -> Iterator[tuple[BlobProperties, Template | None]]:
        """Each with a template that tells where its face is. One person's templates are read at a time."""
        for folder, of_one in groupby(images, key=lambda image: image.name.split("/")[0]):
            templates = {t.image: t for t in self._people.list_templates(person_id=unquote(folder))}
            yield from ((image, templates.get(image.name)) for image in of_one)

    def _known(self, pack: Pack) -> dict[str, Template]:
        """By image: the template that tells where the face is; this embedder's own, where there is one."""
        embedder_id = pack.embedder.embedder_id
        templates = sorted(self._people.list_templates(), key=lambda template: template.embedder_id == embedder_id)
        return {template.image: template for template in templates}

    def embed_image(self, pack: Pack, image: BlobProperties, known: Template | None) -> str:
        """Makes the template of one image; `templates`, or why there is none: `without_face`, `unreadable`, `deleted`.

        Args:
            known: a template of the same image that tells where the face is.
        """
        try:
            return self._embed_image(pack, image, known)
        except NotFound:  # removed while the job was under way
            return "deleted"
        except InvalidInput as error:  # damaged on the disk: one photograph must not stop all the others
            logger.error("stored image is unreadable", extra={"action": "train.unreadable", "code": error.code})
            return "unreadable"

    def _embed_image(self, pack: Pack, image: BlobProperties, known: Template | None) -> str:
        person = self._person_of(image.name)
        if person is None:
            self._blobs.delete(DATASET, image.name)
            return "deleted"
        with self._slot:
            pixels = decode_image(self._blobs.get(DATASET, image.name).data, self._limits)
            face = _face_for(pack, pixels, known)
            if face is None:
                return "without_face"
            embeddings = pack.embedder.embed_reference([pixels], [face])
            quality = known.quality if known else assess(pixels, face)
        template = Template(
            template_id=template_key(image.name, embeddings.embedder_id),
            person_id=person.person_id,
            embedder_id=embeddings.embedder_id,
            embedding=embeddings.vectors[0],
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


def _face_for(pack: Pack, pixels: UInt8Array, known: Template | None) -> Face | None:
    """Where the face is: as it is known, but for landmarks that the embedder needs and nobody has found yet."""
    if known is not None and (known.landmarks is not None or pack.table.crop != "landmarks"):
        landmarks = None if known.landmarks is None else np.array(known.landmarks, dtype=np.float32)
        return Face(np.array(known.face_box, dtype=np.float32), known.quality.confidence, landmarks)
    return max(pack.detector.detect(pixels), key=lambda found: found.height_px, default=None)
