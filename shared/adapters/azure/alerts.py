"""Visits and alerts in Cosmos DB, beside the detections that they are of."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final

from shared.adapters.azure.cosmos import CosmosDatabase
from shared.adapters.azure.cosmos_schema import DETECTIONS
from shared.adapters.azure.documents import ALERT_PREFIX, ALERTS_FROM, ALERTS_TO, VISITS_PREFIX, alert_sort
from shared.alerts import Alert, Delivery, Visit, Visits
from shared.errors import NotFound, StoreUnavailable

_ATTEMPTS: Final = 20
_TICK: Final = timedelta(microseconds=1)


class CosmosAlertRepository:
    """`ports.AlertRepository` in the container of the detections: alerts live as long, and everything but the list is a
    point operation on a partition of its own. Visits are replaced under their ETag.
    """

    def __init__(self, database: CosmosDatabase) -> None:
        self._container = database.container(DETECTIONS)

    def visits(self, place: str) -> Visits:
        document = self._container.read(VISITS_PREFIX + place, VISITS_PREFIX + place)
        if document is None:
            return Visits((), None)
        return Visits([Visit.from_document(each) for each in document["visits"]], document["_etag"])

    def keep_visits(self, place: str, visits: Sequence[Visit], *, version: str | None, ttl_s: float) -> bool:
        document = {
            "id": VISITS_PREFIX + place,
            "visits": [visit.to_document() for visit in visits],
            "ttl": math.ceil(ttl_s),
        }
        if version is None:
            return self._container.create(document)
        return self._container.replace(document, version)

    def add_alert(self, alert: Alert) -> bool:
        return self._container.create(_document(alert))

    def get_alert(self, alert_id: str) -> Alert | None:
        document = self._read(alert_id)
        return None if document is None else _alert(document)

    def record_delivery(self, alert_id: str, channel: str, delivery: Delivery) -> None:
        for _ in range(_ATTEMPTS):
            live = self._read(alert_id)
            if live is None:
                raise NotFound("there is no such alert")
            if self._container.replace(_document(_alert(live).with_delivery(channel, delivery)), live["_etag"]):
                return
        raise StoreUnavailable("an alert changes faster than its delivery can be recorded")

    def list_alerts(self, *, limit: int = 100) -> list[Alert]:
        text = f"SELECT TOP {int(limit)} * FROM c WHERE c.sort >= @from AND c.sort < @to ORDER BY c.sort"  # noqa: S608
        found = self._container.query(text, {"@from": ALERTS_FROM, "@to": ALERTS_TO}, page=limit)
        return [_alert(document) for document in found]

    def delete_older_than(self, moment: datetime) -> int:
        text = "SELECT c.id FROM c WHERE c.sort >= @from AND c.sort < @to"
        parameters = {"@from": alert_sort(moment - _TICK), "@to": ALERTS_TO}
        found = [document["id"] for document in self._container.query(text, parameters)]
        return sum(self._container.delete(document_id, document_id) for document_id in found)

    def _read(self, alert_id: str) -> dict[str, Any] | None:
        return self._container.read(ALERT_PREFIX + alert_id, ALERT_PREFIX + alert_id)


def _document(alert: Alert) -> dict[str, Any]:
    return {
        **alert.to_document(),
        "id": ALERT_PREFIX + alert.id,
        "sort": alert_sort(alert.created_at, alert.id),
    }


def _alert(document: dict[str, Any]) -> Alert:
    return Alert.from_document({**document, "id": document["id"].removeprefix(ALERT_PREFIX)})
