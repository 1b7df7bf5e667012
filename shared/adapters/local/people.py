"""The gallery in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

from shared.adapters.local.rows import embedding_array, embedding_bytes, quality_from, quality_json
from shared.adapters.local.schema import from_us, to_us
from shared.adapters.local.store import LocalStore
from shared.domain import Person, Template
from shared.errors import Conflict, NotFound

_PAGE = 500


class LocalPersonRepository:
    """`ports.PersonRepository`."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def add_person(self, person: Person) -> None:
        with self._store.transaction() as db:
            added = db.execute(
                "INSERT OR IGNORE INTO people VALUES (?, ?)", (person.person_id, to_us(person.created_at))
            )
            if added.rowcount == 0:
                raise Conflict("somebody is enrolled under this id already")

    def get_person(self, person_id: str) -> Person:
        with self._store.reading() as db:
            row = db.execute("SELECT * FROM people WHERE person_id = ?", (person_id,)).fetchone()
        if row is None:
            raise NotFound("nobody is enrolled under this id")
        return _person(row)

    def list_people(self) -> Iterator[Person]:
        with self._store.reading() as db:
            rows = db.execute("SELECT * FROM people ORDER BY person_id").fetchall()
        return map(_person, rows)

    def delete_person(self, person_id: str) -> bool:
        with self._store.transaction() as db:
            return db.execute("DELETE FROM people WHERE person_id = ?", (person_id,)).rowcount == 1

    def add_template(self, template: Template) -> bool:
        with self._store.transaction() as db:
            if db.execute("SELECT 1 FROM people WHERE person_id = ?", (template.person_id,)).fetchone() is None:
                raise NotFound("nobody is enrolled under this id")
            added = db.execute(
                "INSERT OR IGNORE INTO templates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    template.person_id,
                    template.template_id,
                    template.embedder_id,
                    embedding_bytes(template.embedding),
                    template.image,
                    json.dumps(template.face_box),
                    json.dumps(template.landmarks),
                    quality_json(template.quality),
                    template.source,
                    to_us(template.created_at),
                    template.kept,
                ),
            )
        return added.rowcount == 1

    def delete_template(self, person_id: str, template_id: str) -> bool:
        with self._store.transaction() as db:
            gone = db.execute("DELETE FROM templates WHERE person_id = ? AND template_id = ?", (person_id, template_id))
        return gone.rowcount == 1

    def keep_template(self, person_id: str, template_id: str, kept: bool) -> bool:
        with self._store.transaction() as db:
            found = db.execute(
                "UPDATE templates SET kept = ? WHERE person_id = ? AND template_id = ?", (kept, person_id, template_id)
            )
        return found.rowcount == 1

    def list_templates(self, *, person_id: str | None = None, embedder_id: str | None = None) -> Iterator[Template]:
        # By pages, so that a gallery of 100,000 embeddings is never in memory twice.
        conditions = ["(person_id, template_id) > (:after_person, :after_template)"]
        if person_id is not None:
            conditions.append("person_id = :person_id")
        if embedder_id is not None:
            conditions.append("embedder_id = :embedder_id")
        where = " AND ".join(conditions)
        query = f"SELECT * FROM templates WHERE {where} ORDER BY person_id, template_id LIMIT {_PAGE}"  # noqa: S608
        values = {"person_id": person_id, "embedder_id": embedder_id, "after_person": "", "after_template": ""}
        while True:
            with self._store.reading() as db:
                rows = db.execute(query, values).fetchall()
            yield from map(_template, rows)
            if len(rows) < _PAGE:
                return
            values |= {"after_person": rows[-1]["person_id"], "after_template": rows[-1]["template_id"]}

    def template_keys(self, embedder_id: str) -> list[tuple[str, str]]:
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT person_id, template_id FROM templates WHERE embedder_id = ? ORDER BY person_id, template_id",
                (embedder_id,),
            ).fetchall()
        return [(row["person_id"], row["template_id"]) for row in rows]


def _person(row: sqlite3.Row) -> Person:
    return Person(row["person_id"], from_us(row["created_at"]))


def _template(row: sqlite3.Row) -> Template:
    left, top, right, bottom = json.loads(row["face_box"])
    landmarks = json.loads(row["landmarks"])
    return Template(
        template_id=row["template_id"],
        person_id=row["person_id"],
        embedder_id=row["embedder_id"],
        embedding=embedding_array(row["embedding"]),
        image=row["image"],
        face_box=(left, top, right, bottom),
        landmarks=tuple((x, y) for x, y in landmarks) if landmarks else None,
        quality=quality_from(json.loads(row["quality"])),
        source=row["source"],
        created_at=from_us(row["created_at"]),
        kept=bool(row["kept"]),
    )
