"""The audit record in Cosmos DB."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any, Final

from shared.access import AuditEntry
from shared.adapters.azure.cosmos import CosmosDatabase
from shared.adapters.azure.cosmos_schema import AUDIT
from shared.adapters.azure.documents import newest_first, time_of, time_text
from shared.errors import InvalidInput
from shared.ports import AuditPage

_MAX_PAGE: Final = 1_000
_PLACE: Final = re.compile(r"d:\d{17}:[^\x00-\x1f]{1,255}")


class CosmosAuditRepository:
    """`ports.AuditRepository` in one container, partitioned by day so that no partition grows for ever.

    Pages are ranges of the property `sort`: falling time, then id. A continuation token is a place in that range; it
    is no secret, since whoever may ask for a page may ask for any.
    """

    def __init__(self, database: CosmosDatabase) -> None:
        self._container = database.container(AUDIT)

    def record(self, entry: AuditEntry) -> None:
        self._container.create(_document(entry))

    def list(self, *, page_size: int = 100, continuation: str | None = None) -> AuditPage:
        if not 1 <= page_size <= _MAX_PAGE:
            raise InvalidInput(f"a page holds 1 to {_MAX_PAGE} entries")
        after = "" if continuation is None else _opened(continuation)
        text = f"SELECT TOP {page_size + 1} * FROM c WHERE c.sort > @after ORDER BY c.sort"  # noqa: S608
        found = list(self._container.query(text, {"@after": after}, page=page_size + 1))
        page = found[:page_size]
        token = _token(page[-1]["sort"]) if len(found) > page_size else None
        return AuditPage([_entry(document) for document in page], token)


def _document(entry: AuditEntry) -> dict[str, Any]:
    return {
        "id": entry.id,
        "day": entry.at.date().isoformat(),
        "sort": newest_first(entry.at, entry.id),
        "at": time_text(entry.at),
        "actor": entry.actor,
        "action": entry.action,
        "target": dict(entry.target),
        "status": entry.status,
    }


def _entry(document: Mapping[str, Any]) -> AuditEntry:
    return AuditEntry(
        id=document["id"],
        at=time_of(document["at"]),
        actor=document["actor"],
        action=document["action"],
        target=document["target"],
        status=document["status"],
    )


def _token(place: str) -> str:
    return base64.urlsafe_b64encode(place.encode()).decode().rstrip("=")


def _opened(token: str) -> str:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        place = raw.decode()
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("not a continuation token of this repository") from error
    if not _PLACE.fullmatch(place):
        raise InvalidInput("not a continuation token of this repository")
    return place
