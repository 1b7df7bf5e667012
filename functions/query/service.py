"""Questions about people and detections."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator

from shared.domain import Detection, Person, Template, normalise_person_id
from shared.ports import DetectionFilter, DetectionPage, DetectionRepository, PersonRepository


class QueryService:
    """Reads; changes nothing, and needs no model.

    Args:
        embedder_id: gives the one whose templates count as a person's images.
    """

    def __init__(
        self, *, people: PersonRepository, detections: DetectionRepository, embedder_id: Callable[[], str]
    ) -> None:
        self._people = people
        self._detections = detections
        self._embedder_id = embedder_id

    def person_ids(self) -> Iterator[str]:
        """Everybody enrolled, in order of id."""
        return (person.person_id for person in self._people.list_people())

    def image_counts(self) -> list[tuple[str, int]]:
        """Everybody enrolled and how many images they have, in order of id."""
        return [(person.person_id, count) for person, count in self.people()]

    def people(self) -> list[tuple[Person, int]]:
        """Everybody enrolled and how many templates they have, in order of id."""
        counts = Counter(person_id for person_id, _ in self._people.template_keys(self._embedder_id()))
        return [(person, counts[person.person_id]) for person in self._people.list_people()]

    def person(self, name: str) -> tuple[Person, int]:
        """A person and how many templates they have.

        Raises:
            InvalidIdentifier: not an id.
            NotFound: nobody of that id is enrolled.
        """
        person = self._people.get_person(normalise_person_id(name))
        templates = self._people.list_templates(person_id=person.person_id, embedder_id=self._embedder_id())
        return person, sum(1 for _ in templates)

    def templates(self, name: str) -> list[Template]:
        """A person's templates, of every embedder. Raises as `person`."""
        person = self._people.get_person(normalise_person_id(name))
        return list(self._people.list_templates(person_id=person.person_id))

    def last_known_location(self, name: str) -> Detection | None:
        """The latest detection of a person, or None when there is none.

        Raises:
            InvalidIdentifier: not an id.
            NotFound: nobody of that id is enrolled.
        """
        person_id = normalise_person_id(name)
        self._people.get_person(person_id)
        return self._detections.last_of(person_id)

    def detections(
        self, where: DetectionFilter, *, page_size: int = 100, continuation: str | None = None
    ) -> DetectionPage:
        """One page of detections, newest first."""
        return self._detections.list(where, page_size=page_size, continuation=continuation)
