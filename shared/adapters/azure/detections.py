"""Detections and outcomes in Cosmos DB."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any, Final

from shared.adapters.azure.cosmos import CosmosDatabase
from shared.adapters.azure.cosmos_schema import DETECTIONS
from shared.adapters.azure.documents import (
    DETECTIONS_FROM,
    DETECTIONS_TO,
    OUTCOME_PREFIX,
    OUTCOMES_FROM,
    OUTCOMES_TO,
    PREFIXES,
    detection_document,
    detection_from,
    newest_first,
    oldest_first,
    outcome_document,
    outcome_from,
)
from shared.domain import Detection, Outcome, utc_now
from shared.errors import InvalidInput, StoreUnavailable
from shared.ports import Clock, DetectionFilter, DetectionPage

_MAX_PAGE: Final = 1_000
_DIGEST_BYTES: Final = 12
_ATTEMPTS: Final = 20
_TICK: Final = timedelta(microseconds=1)


class CosmosDetectionRepository:
    """`ports.DetectionRepository` in one container, each document in a partition of its own.

    A detection's place must not depend on what was recognised: the same crop, delivered again after a training, may
    get another name, and has to meet its first detection. So the partition is the id, creation is exactly once, and
    the questions are answered from the index (docs/adr/0007).

    Everything that is asked for by time is one range of the property `sort`: kind, falling time, id. A continuation
    token is a place in that range, with a digest that ties it to its question. It is no secret: whoever makes one up
    gets another page of an answer that they may have anyway.

    Args:
        clock: gives UTC-aware times.
    """

    def __init__(self, database: CosmosDatabase, clock: Clock = utc_now) -> None:
        self._container = database.container(DETECTIONS)
        self._clock = clock

    def add(self, detection: Detection) -> bool:
        return self._container.create(detection_document(detection))

    def get(self, detection_id: str) -> Detection | None:
        if detection_id.startswith(PREFIXES):  # an outcome, or what alerts keep here
            return None
        document = self._container.read(detection_id, detection_id)
        return None if document is None else detection_from(document)

    def change(
        self, detection_id: str, how: Callable[[Detection], Detection | None], *, kept_for: timedelta
    ) -> Detection | None:
        for _ in range(_ATTEMPTS):
            live = None if detection_id.startswith(PREFIXES) else self._container.read(detection_id, detection_id)
            changed = None if live is None else how(detection_from(live))
            if live is None or changed is None:
                return None
            # A container's time-to-live counts from the last write: this one must not lend the detection another life.
            left_s = math.ceil((changed.processed_at + kept_for - self._clock()).total_seconds())
            document = {**detection_document(changed), "ttl": max(1, left_s)}
            if self._container.replace(document, live["_etag"]):
                return changed
        raise StoreUnavailable("a detection changes faster than it can be changed")

    def last_of(self, person_id: str) -> Detection | None:
        page = self.list(DetectionFilter(person_id=person_id), page_size=1)
        return page.detections[0] if page.detections else None

    def list(self, where: DetectionFilter, *, page_size: int = 100, continuation: str | None = None) -> DetectionPage:
        if not 1 <= page_size <= _MAX_PAGE:
            raise InvalidInput(f"a page holds 1 to {_MAX_PAGE} detections")
        after = None if continuation is None else _opened(continuation, where)
        conditions, parameters = _conditions(where, after)
        # With the composite index, one person's newest detections are neighbours in the index.
        order = "c.sort" if where.person_id is None else "c.person_id, c.sort"
        text = f"SELECT TOP {page_size + 1} * FROM c WHERE {' AND '.join(conditions)} ORDER BY {order}"  # noqa: S608
        found = list(self._container.query(text, parameters, page=page_size + 1))
        page = found[:page_size]
        token = _token(page[-1]["sort"], where) if len(found) > page_size else None
        return DetectionPage([detection_from(document) for document in page], token)

    def of_track(self, site: str, camera: str, track: str, *, most: int) -> Sequence[Detection]:
        # Not ordered: that would take a composite index, without which the query is refused, as it is while one is
        # being built on a container that is there already.
        text = (
            f"SELECT TOP {int(most)} * FROM c WHERE c.track = @track AND c.site = @site AND c.camera = @camera "  # noqa: S608
            "AND c.sort >= @from AND c.sort < @to"
        )
        parameters = {"@track": track, "@site": site, "@camera": camera, "@from": DETECTIONS_FROM, "@to": DETECTIONS_TO}
        return [detection_from(document) for document in self._container.query(text, parameters, page=most)]

    def delete_older_than(self, moment: datetime) -> int:
        return self._delete_between(newest_first(moment - _TICK), DETECTIONS_TO) + self._delete_between(
            OUTCOMES_FROM, oldest_first(moment)
        )

    def record_outcome(self, outcome: Outcome) -> bool:
        return self._container.create(outcome_document(outcome))

    def get_outcome(self, outcome_id: str) -> Outcome | None:
        document_id = OUTCOME_PREFIX + outcome_id
        document = self._container.read(document_id, document_id)
        return None if document is None else outcome_from(document)

    def list_outcomes(self, *, status: str | None = None) -> Iterator[Outcome]:
        parameters = {"@from": OUTCOMES_FROM, "@to": OUTCOMES_TO}
        condition = "c.sort >= @from AND c.sort < @to"
        if status is not None:
            condition += " AND c.status = @status"
            parameters["@status"] = status
        text = f"SELECT * FROM c WHERE {condition} ORDER BY c.sort"  # noqa: S608
        return map(outcome_from, self._container.query(text, parameters))

    def _delete_between(self, start: str, end: str) -> int:
        text = "SELECT c.id FROM c WHERE c.sort >= @from AND c.sort < @to"
        found = [document["id"] for document in self._container.query(text, {"@from": start, "@to": end})]
        return sum(self._container.delete(document_id, document_id) for document_id in found)


def _conditions(where: DetectionFilter, after: str | None) -> tuple[list[str], dict[str, Any]]:
    """The filter as a range of `sort` and equalities."""
    start = DETECTIONS_FROM if where.until is None else newest_first(where.until - _TICK)
    end = DETECTIONS_TO if where.since is None else newest_first(where.since - _TICK)
    conditions = ["c.sort >= @from", "c.sort < @to"]
    parameters: dict[str, Any] = {"@from": start, "@to": end}
    if after is not None:
        conditions.append("c.sort > @after")
        parameters["@after"] = after
    for name in ("person_id", "site", "camera", "location"):
        value = getattr(where, name)
        if value is not None:
            conditions.append(f"c.{name} = @{name}")
            parameters[f"@{name}"] = value
    return conditions, parameters


def _token(last: str, where: DetectionFilter) -> str:
    payload = last.encode()
    return base64.urlsafe_b64encode(_digest(payload, where) + payload).decode().rstrip("=")


def _opened(token: str, where: DetectionFilter) -> str:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidInput("not a continuation token of this repository") from error
    digest, payload = raw[:_DIGEST_BYTES], raw[_DIGEST_BYTES:]
    if digest != _digest(payload, where):
        raise InvalidInput("the continuation token was changed, or belongs to another query")
    return payload.decode()


def _digest(payload: bytes, where: DetectionFilter) -> bytes:
    question = json.dumps(asdict(where), default=datetime.isoformat).encode()
    return hashlib.sha256(question + b"\n" + payload).digest()[:_DIGEST_BYTES]
