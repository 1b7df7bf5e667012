"""API tokens and the audit record in SQLite."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator
from datetime import datetime

from shared.access import AuditEntry, Scope, Token
from shared.adapters.local.continuation import Continuations
from shared.adapters.local.schema import from_us, to_us
from shared.adapters.local.store import LocalStore
from shared.errors import Conflict, InvalidInput
from shared.ports import AuditPage

_MAX_PAGE = 1_000
_QUESTION = "audit"


class LocalTokenRepository:
    """`ports.TokenRepository`."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def add_token(self, token: Token) -> None:
        row = (
            token.token_id,
            token.secret_hash,
            token.scope.value,
            token.site,
            token.description,
            to_us(token.created_at),
            to_us(token.expires_at),
            _us(token.revoked_at),
            _us(token.last_used_at),
        )
        with self._store.transaction() as db:
            added = db.execute("INSERT OR IGNORE INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        if added.rowcount != 1:
            raise Conflict("a token of this id is there already")

    def get_token(self, token_id: str) -> Token | None:
        with self._store.reading() as db:
            row = db.execute("SELECT * FROM tokens WHERE token_id = ?", (token_id,)).fetchone()
        return None if row is None else _token(row)

    def note_use(self, token_id: str, moment: datetime) -> None:
        with self._store.transaction() as db:
            db.execute("UPDATE tokens SET last_used_at = ? WHERE token_id = ?", (to_us(moment), token_id))

    def revoke(self, token_id: str, moment: datetime) -> bool:
        with self._store.transaction() as db:
            found = db.execute(
                "UPDATE tokens SET revoked_at = COALESCE(revoked_at, ?) WHERE token_id = ?", (to_us(moment), token_id)
            )
        return found.rowcount == 1

    def list_tokens(self) -> Iterator[Token]:
        with self._store.reading() as db:
            rows = db.execute("SELECT * FROM tokens ORDER BY created_at, token_id").fetchall()
        yield from map(_token, rows)


class LocalAuditRepository:
    """`ports.AuditRepository`."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store
        self._continuations = Continuations(store.secret("continuation"))

    def record(self, entry: AuditEntry) -> None:
        row = (entry.id, to_us(entry.at), entry.actor, entry.action, json.dumps(dict(entry.target)), entry.status)
        with self._store.transaction() as db:
            db.execute("INSERT OR IGNORE INTO audit VALUES (?, ?, ?, ?, ?, ?)", row)

    def list(self, *, page_size: int = 100, continuation: str | None = None) -> AuditPage:
        if not 1 <= page_size <= _MAX_PAGE:
            raise InvalidInput(f"a page holds 1 to {_MAX_PAGE} entries")
        at, last_id = 2**62, ""
        if continuation is not None:
            at, last_id = self._continuations.position(continuation, _QUESTION)
        with self._store.reading() as db:
            rows = db.execute(
                "SELECT * FROM audit WHERE at < :at OR (at = :at AND id > :id) ORDER BY at DESC, id LIMIT :limit",
                {"at": at, "id": last_id, "limit": page_size + 1},
            ).fetchall()
        more, rows = len(rows) > page_size, rows[:page_size]
        token = self._continuations.token([rows[-1]["at"], rows[-1]["id"]], _QUESTION) if more else None
        return AuditPage([_entry(row) for row in rows], token)


def _us(moment: datetime | None) -> int | None:
    return None if moment is None else to_us(moment)


def _moment(microseconds: int | None) -> datetime | None:
    return None if microseconds is None else from_us(microseconds)


def _token(row: sqlite3.Row) -> Token:
    return Token(
        token_id=row["token_id"],
        secret_hash=row["secret_hash"],
        scope=Scope(row["scope"]),
        site=row["site"],
        description=row["description"],
        created_at=from_us(row["created_at"]),
        expires_at=from_us(row["expires_at"]),
        revoked_at=_moment(row["revoked_at"]),
        last_used_at=_moment(row["last_used_at"]),
    )


def _entry(row: sqlite3.Row) -> AuditEntry:
    return AuditEntry(
        row["id"], from_us(row["at"]), row["actor"], row["action"], json.loads(row["target"]), row["status"]
    )
