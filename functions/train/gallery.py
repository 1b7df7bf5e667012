"""The gallery as an operator looks after it: what a training would leave out and why, and "yes, this is them"."""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

from functions.train.hygiene import Limits, Review, review
from shared.domain import DATASET, Template, normalise_person_id
from shared.errors import Busy, NotFound
from shared.ports import BlobStore, PersonRepository


@dataclass(frozen=True, slots=True, eq=False)
class GalleryCheck:
    """A review, and of how many it is."""

    people: int
    templates: int
    review: Review


class GalleryService:
    """Looks at the gallery; changes nothing but the operator's marks.

    Args:
        embedder_id: whose templates are looked at.
        limits: of that embedder.
    """

    def __init__(self, *, people: PersonRepository, blobs: BlobStore, embedder_id: str, limits: Limits) -> None:
        self._people = people
        self._blobs = blobs
        self._embedder_id = embedder_id
        self._limits = limits
        self._lock = threading.Lock()

    def check(self) -> GalleryCheck:
        """Reviews the gallery as it is now. The whole gallery is read and compared, so one at a time.

        Raises:
            Busy: another check is under way in this process.
        """
        if not self._lock.acquire(blocking=False):
            raise Busy("the gallery is being checked already; ask again in a moment")
        try:
            templates = list(self._people.list_templates(embedder_id=self._embedder_id))
            person_ids = sorted({template.person_id for template in templates})
            return GalleryCheck(len(person_ids), len(templates), _reviewed(templates, person_ids, self._limits))
        finally:
            self._lock.release()

    def keep(self, name: str, template_id: str, kept: bool) -> None:
        """Sets or clears the operator's "yes, this is them", of the photograph: whatever embedder's template is meant.

        The next training respects it, also after a change of the embedder.

        Raises:
            InvalidIdentifier: not an id.
            NotFound: the person has no such template.
        """
        person_id = normalise_person_id(name)
        templates = list(self._people.list_templates(person_id=person_id))
        images = {template.image for template in templates if template.template_id == template_id}
        marked = [
            self._people.keep_template(person_id, template.template_id, kept)
            for template in templates
            if template.image in images
        ]
        if not any(marked):
            raise NotFound("this person has no such template")

    def image(self, name: str, template_id: str) -> bytes:
        """The stored face of a template, as JPEG.

        Raises:
            InvalidIdentifier: not an id.
            NotFound: the person has no such template, or its image is gone.
        """
        for template in self._people.list_templates(person_id=normalise_person_id(name)):
            if template.template_id == template_id:
                return self._blobs.get(DATASET, template.image).data
        raise NotFound("this person has no such template")


def _reviewed(templates: list[Template], person_ids: list[str], limits: Limits) -> Review:
    index = {person_id: row for row, person_id in enumerate(person_ids)}
    dimension = len(templates[0].embedding) if templates else 0
    embeddings = np.empty((len(templates), dimension), np.float32)
    for row, template in enumerate(templates):
        embeddings[row] = template.embedding
    return review(
        embeddings,
        np.array([index[template.person_id] for template in templates], dtype=np.intp),
        person_ids,
        [template.template_id for template in templates],
        limits=limits,
        kept=np.array([template.kept for template in templates], dtype=bool),
    )
