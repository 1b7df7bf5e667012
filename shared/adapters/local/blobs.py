"""Blobs as files that a person can browse, under the rule of a table that says which version is the live one."""

from __future__ import annotations

import json
import secrets
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.adapters.local.files import remove, write_durably
from shared.adapters.local.names import relative_path
from shared.adapters.local.schema import from_us, to_us
from shared.adapters.local.store import LocalStore
from shared.adapters.local.translate import translated
from shared.adapters.naming import check_container, check_metadata, check_name, check_tags
from shared.errors import IntegrityError, InvalidInput, NotFound, PreconditionFailed, StoreUnavailable
from shared.ports import Blob, BlobProperties

_PAGE = 500
_READ_ATTEMPTS = 100
_COLUMNS = "seq, name, etag, size_bytes, path, content_type, metadata, last_modified"


@dataclass(frozen=True, slots=True)
class BlobChange:
    """A blob's latest write in the change feed; `seq` grows with every write to any container."""

    seq: int
    properties: BlobProperties


class LocalBlobStore:
    """`ports.BlobStore` in `{data_dir}/blobs/`.

    A write is a new file under a name of its own, then one transaction that makes it the live version, then the
    removal of the file before it. Killed at any point, the old version or the new one is whole and live; what was
    left over is swept by `sweep_orphans`.
    """

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._root = store.data_dir / "blobs"
        with translated("making the blobs' folder"):
            self._root.mkdir(exist_ok=True)

    def put(
        self,
        container: str,
        name: str,
        data: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> str:
        check_container(container)
        check_name(name)
        checked_metadata = check_metadata(metadata or {})
        checked_tags = check_tags(tags or {})
        # Asked before the bytes are written, to spare the disk, and again when it counts.
        _check_conditions(self._row(container, name), if_match, if_absent)
        etag = secrets.token_hex(8)
        path = self._root / relative_path(container, name, etag)
        try:
            with translated("writing a blob"):
                write_durably(path, data, self._root)
            with self._store.transaction() as db:
                old = self._row(container, name)
                _check_conditions(old, if_match, if_absent)
                if not path.exists():
                    raise StoreUnavailable("a blob's file was swept before it was acknowledged; write it again")
                if old is not None:
                    db.execute("DELETE FROM blobs WHERE seq = ?", (old["seq"],))
                self._insert(db, container, name, etag, path, len(data), content_type, checked_metadata, checked_tags)
        except BaseException:
            remove(path, self._root)
            raise
        if old is not None:
            self._discard(old["path"])
        return etag

    def get(self, container: str, name: str) -> Blob:
        missed = ""
        for _ in range(_READ_ATTEMPTS):
            row = self._live(container, name)
            data = self._read(row["path"])
            if data is None and row["etag"] == missed:
                raise IntegrityError("a blob's file is missing from the data folder")
            if data is None:
                # Overwritten or deleted between the look-up and the read: the table knows better now.
                missed = row["etag"]
                continue
            if len(data) != row["size_bytes"]:
                raise IntegrityError("a blob's file is not as long as it was when it was written")
            return Blob(data, _properties(row))
        raise StoreUnavailable("a blob is being overwritten faster than it can be read")

    def properties(self, container: str, name: str) -> BlobProperties:
        return _properties(self._live(container, name))

    def delete(self, container: str, name: str) -> bool:
        check_container(container)
        if self._row(container, name) is None:
            return False
        with self._store.transaction() as db:
            row = self._row(container, name)
            if row is None:
                return False
            db.execute("DELETE FROM blobs WHERE seq = ?", (row["seq"],))
        self._discard(row["path"])
        return True

    def list(self, container: str, prefix: str = "") -> Iterator[BlobProperties]:
        check_container(container)
        return self._list(container, prefix)

    def _list(self, container: str, prefix: str) -> Iterator[BlobProperties]:
        # By pages, so that a slow reader holds no snapshot open. Names with a common prefix are neighbours.
        query = f"SELECT {_COLUMNS} FROM blobs WHERE container = ? AND name {{}} ? ORDER BY name LIMIT {_PAGE}"  # noqa: S608
        relation, bound = ">=", prefix
        while True:
            rows = self._rows(query.format(relation), (container, bound))
            for row in rows:
                if not row["name"].startswith(prefix):
                    return
                yield _properties(row)
            if len(rows) < _PAGE:
                return
            relation, bound = ">", rows[-1]["name"]

    def find_by_tags(self, container: str, tags: Mapping[str, str]) -> Iterator[str]:
        check_container(container)
        if not tags:
            raise InvalidInput("name at least one index tag to look for")
        having = " AND ".join(["seq IN (SELECT seq FROM blob_tags WHERE key = ? AND value = ?)"] * len(tags))
        values = [text for pair in tags.items() for text in pair]
        query = f"SELECT name FROM blobs WHERE container = ? AND {having} ORDER BY name"  # noqa: S608
        return iter([row["name"] for row in self._rows(query, (container, *values))])

    def changes_after(self, seq: int, container: str, limit: int = 100) -> Sequence[BlobChange]:
        """Latest writes in `container` with a sequence number above `seq`, oldest first.

        A blob that was written twice appears once, at its latest write; one that was deleted not at all. Sequence
        numbers become visible in their order, so a reader that remembers the last one misses nothing.
        """
        check_container(container)
        query = f"SELECT {_COLUMNS} FROM blobs WHERE container = ? AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608
        return [BlobChange(row["seq"], _properties(row)) for row in self._rows(query, (container, seq, limit))]

    def sweep_orphans(self, *, older_than_s: float = 3_600.0) -> int:
        """Removes files that no row speaks of: left by a process that was killed between file and row.

        Returns:
            How many files were removed. Younger ones are left alone: their row may be on its way.
        """
        oldest = self._store.clock().timestamp() - older_than_s
        removed = 0
        with translated("sweeping the blobs' folder"):
            for path in self._root.rglob("*"):
                if not path.is_file() or path.stat().st_mtime > oldest or self._is_live(path):
                    continue
                # Inside a transaction: no put can be between its check that the file is there and its commit.
                with self._store.transaction():
                    if not self._is_live(path):
                        remove(path, self._root)
                        removed += 1
        return removed

    def _is_live(self, path: Path) -> bool:
        return bool(self._rows("SELECT 1 FROM blobs WHERE path = ?", (self._relative(path),)))

    def _insert(
        self,
        db: sqlite3.Connection,
        container: str,
        name: str,
        etag: str,
        path: Path,
        size_bytes: int,
        content_type: str,
        metadata: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        cursor = db.execute(
            "INSERT INTO blobs (container, name, etag, size_bytes, path, content_type, metadata, last_modified)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                container,
                name,
                etag,
                size_bytes,
                self._relative(path),
                content_type,
                json.dumps(dict(metadata)),
                to_us(self._store.clock()),
            ),
        )
        db.executemany("INSERT INTO blob_tags VALUES (?, ?, ?)", [(cursor.lastrowid, *pair) for pair in tags.items()])

    def _read(self, path: str) -> bytes | None:
        with translated("reading a blob"):
            try:
                return (self._root / path).read_bytes()
            except FileNotFoundError:
                return None

    def _discard(self, path: str) -> None:
        # The row is gone for good: a file that cannot be removed now (a scanner has it open) is swept later.
        try:
            remove(self._root / path, self._root)
        except OSError:
            return

    def _relative(self, path: Path) -> str:
        return path.relative_to(self._root).as_posix()

    def _live(self, container: str, name: str) -> sqlite3.Row:
        check_container(container)
        row = self._row(container, name)
        if row is None:
            raise NotFound(f"no such blob in {container}")
        return row

    def _row(self, container: str, name: str) -> sqlite3.Row | None:
        query = f"SELECT {_COLUMNS} FROM blobs WHERE container = ? AND name = ?"  # noqa: S608
        try:
            rows = self._rows(query, (container, name))
        except UnicodeEncodeError:  # a lone surrogate: nothing is called that
            return None
        return next(iter(rows), None)

    def _rows(self, query: str, values: tuple[object, ...]) -> Sequence[sqlite3.Row]:
        with self._store.reading() as db:
            return db.execute(query, values).fetchall()


def _check_conditions(row: sqlite3.Row | None, if_match: str | None, if_absent: bool) -> None:
    if if_absent and row is not None:
        raise PreconditionFailed("the blob is there already")
    if if_match is not None and (row is None or row["etag"] != if_match):
        raise PreconditionFailed("the blob has changed since it was read")


def _properties(row: sqlite3.Row) -> BlobProperties:
    return BlobProperties(
        name=row["name"],
        etag=row["etag"],
        size_bytes=row["size_bytes"],
        last_modified=from_us(row["last_modified"]),
        content_type=row["content_type"],
        metadata=json.loads(row["metadata"]),
    )
