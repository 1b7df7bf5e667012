"""API tokens in Cosmos DB."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from shared.access import Scope, Token
from shared.adapters.azure.cosmos import CosmosDatabase
from shared.adapters.azure.cosmos_schema import TOKENS
from shared.adapters.azure.documents import time_of, time_text
from shared.errors import Conflict


class CosmosTokenRepository:
    """`ports.TokenRepository` in one container, each token in a partition of its own: a lookup is a point read.

    Uses and revocations are patches, so that neither undoes the other.
    """

    def __init__(self, database: CosmosDatabase) -> None:
        self._container = database.container(TOKENS)

    def add_token(self, token: Token) -> None:
        if not self._container.create(_document(token)):
            raise Conflict("a token of this id is there already")

    def get_token(self, token_id: str) -> Token | None:
        document = self._container.read(token_id, token_id)
        return None if document is None else _token(document)

    def note_use(self, token_id: str, moment: datetime) -> None:
        self._container.set(token_id, token_id, {"last_used_at": time_text(moment)})

    def revoke(self, token_id: str, moment: datetime) -> bool:
        values = {"revoked_at": time_text(moment)}
        if self._container.set(token_id, token_id, values, condition="IS_NULL(c.revoked_at)"):
            return True
        # Not patched: it was revoked before, or there is none.
        return self._container.read(token_id, token_id) is not None

    def list_tokens(self) -> Iterator[Token]:
        # A handful of documents, put in order here: an index would cost with every write and save nothing.
        found = map(_token, self._container.query("SELECT * FROM c", {}))
        return iter(sorted(found, key=lambda token: (token.created_at, token.token_id)))


def _document(token: Token) -> dict[str, Any]:
    return {
        "id": token.token_id,
        "secret_hash": token.secret_hash,
        "scope": token.scope.value,
        "site": token.site,
        "description": token.description,
        "created_at": time_text(token.created_at),
        "expires_at": time_text(token.expires_at),
        "revoked_at": None if token.revoked_at is None else time_text(token.revoked_at),
        "last_used_at": None if token.last_used_at is None else time_text(token.last_used_at),
    }


def _token(document: Mapping[str, Any]) -> Token:
    revoked, used = document["revoked_at"], document["last_used_at"]
    return Token(
        token_id=document["id"],
        secret_hash=document["secret_hash"],
        scope=Scope(document["scope"]),
        site=document["site"],
        description=document["description"],
        created_at=time_of(document["created_at"]),
        expires_at=time_of(document["expires_at"]),
        revoked_at=None if revoked is None else time_of(revoked),
        last_used_at=None if used is None else time_of(used),
    )
