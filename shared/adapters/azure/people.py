"""The gallery in Cosmos DB."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from shared.adapters.azure.cosmos import CosmosDatabase
from shared.adapters.azure.cosmos_schema import PEOPLE, TEMPLATES
from shared.adapters.azure.documents import (
    incarnation,
    person_document,
    person_from,
    template_document,
    template_from,
)
from shared.domain import Person, Template
from shared.errors import Conflict, NotFound


class CosmosPersonRepository:
    """`ports.PersonRepository` in two containers: people by id, templates by their person.

    There is no transaction over the two. Whoever adds a template looks for the person before and touches it after, by
    a write; whoever deletes a person deletes the person first, then the templates: one of the two sees the other.
    """

    def __init__(self, database: CosmosDatabase) -> None:
        self._people = database.container(PEOPLE)
        self._templates = database.container(TEMPLATES)

    def add_person(self, person: Person) -> None:
        if not self._people.create(person_document(person)):
            raise Conflict("somebody is enrolled under this id already")

    def get_person(self, person_id: str) -> Person:
        document = self._people.read(person_id, person_id)
        if document is None:
            raise NotFound("nobody is enrolled under this id")
        return person_from(document)

    def list_people(self) -> Iterator[Person]:
        return map(person_from, self._people.query("SELECT * FROM c ORDER BY c.id", {}))

    def delete_person(self, person_id: str) -> bool:
        found = self._people.delete(person_id, person_id)
        # Even when nobody was there: what an interrupted deletion left behind goes now.
        for template_id in self._template_ids(person_id):
            self._templates.delete(template_id, person_id)
        return found

    def _template_ids(self, person_id: str) -> list[str]:
        text = "SELECT c.id FROM c WHERE c.person_id = @person_id"
        found = self._templates.query(text, {"@person_id": person_id}, partition=person_id)
        return [document["id"] for document in found]

    def add_template(self, template: Template) -> bool:
        person = self.get_person(template.person_id)
        added = self._templates.create(template_document(template))
        # The same person as before, and not one that was enrolled anew under the id meanwhile.
        same = f"c.incarnation = {incarnation(person)}"
        if added and not self._people.touch(person.person_id, person.person_id, "revision", condition=same):
            self._templates.delete(template.template_id, template.person_id)
            raise NotFound("nobody is enrolled under this id any more")
        return added

    def delete_template(self, person_id: str, template_id: str) -> bool:
        return self._templates.delete(template_id, person_id)

    def keep_template(self, person_id: str, template_id: str, kept: bool) -> bool:
        return self._templates.set(template_id, person_id, {"kept": kept})

    def list_templates(self, *, person_id: str | None = None, embedder_id: str | None = None) -> Iterator[Template]:
        return map(template_from, self._select("*", person_id, embedder_id))

    def template_keys(self, embedder_id: str) -> list[tuple[str, str]]:
        found = self._select("c.person_id, c.id", None, embedder_id)
        return [(document["person_id"], document["id"]) for document in found]

    def _select(self, what: str, person_id: str | None, embedder_id: str | None) -> Iterator[dict[str, Any]]:
        asked = {"person_id": person_id, "embedder_id": embedder_id}
        given = {name: value for name, value in asked.items() if value is not None}
        where = " AND ".join(f"c.{name} = @{name}" for name in given)
        text = f"SELECT {what} FROM c{' WHERE ' + where if where else ''} ORDER BY c.sort"  # noqa: S608
        parameters = {f"@{name}": value for name, value in given.items()}
        return self._templates.query(text, parameters, partition=person_id)
