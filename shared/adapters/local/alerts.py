"""Visits and alerts in SQLite."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime, timedelta

from shared.adapters.local.schema import to_us
from shared.adapters.local.store import LocalStore
from shared.alerts import Alert, Delivery, Visit, Visits
from shared.errors import NotFound


class LocalAlertRepository:
    """`ports.AlertRepository`."""

    def __init__(self, store: LocalStore) -> None:
        self._store = store

    def visits(self, place: str) -> Visits:
        with self._store.reading() as db:
            row = db.execute("SELECT version, document FROM visits WHERE place = ?", (place,)).fetchone()
        if row is None:
            return Visits((), None)
        return Visits([Visit.from_document(each) for each in json.loads(row["document"])], str(row["version"]))

    def keep_visits(self, place: str, visits: Sequence[Visit], *, version: str | None, ttl_s: float) -> bool:
        now = self._store.clock()
        with self._store.transaction() as db:
            live = db.execute("SELECT version FROM visits WHERE place = ?", (place,)).fetchone()
            if (None if live is None else str(live["version"])) != version:
                return False
            # Faces of strangers are in here: what has run out goes with the next write, and not at night only. A
            # place's own row stays, so that no version comes twice.
            db.execute("DELETE FROM visits WHERE expires_at < ? AND place <> ?", (to_us(now), place))
            db.execute(
                "INSERT OR REPLACE INTO visits VALUES (?, ?, ?, ?)",
                (
                    place,
                    int(version or 0) + 1,
                    json.dumps([visit.to_document() for visit in visits]),
                    to_us(now + timedelta(seconds=ttl_s)),
                ),
            )
        return True

    def add_alert(self, alert: Alert) -> bool:
        row = (alert.id, to_us(alert.created_at), json.dumps(alert.to_document()))
        with self._store.transaction() as db:
            added = db.execute("INSERT OR IGNORE INTO alerts VALUES (?, ?, ?)", row)
        return added.rowcount == 1

    def get_alert(self, alert_id: str) -> Alert | None:
        with self._store.reading() as db:
            row = db.execute("SELECT document FROM alerts WHERE id = ?", (alert_id,)).fetchone()
        return None if row is None else Alert.from_document(json.loads(row["document"]))

    def record_delivery(self, alert_id: str, channel: str, delivery: Delivery) -> None:
        with self._store.transaction() as db:
            alert = self.get_alert(alert_id)
            if alert is None:
                raise NotFound("there is no such alert")
            document = json.dumps(alert.with_delivery(channel, delivery).to_document())
            db.execute("UPDATE alerts SET document = ? WHERE id = ?", (document, alert_id))

    def list_alerts(self, *, limit: int = 100) -> list[Alert]:
        with self._store.reading() as db:
            rows = db.execute("SELECT document FROM alerts ORDER BY created_at DESC, id LIMIT ?", (limit,)).fetchall()
        return [Alert.from_document(json.loads(row["document"])) for row in rows]

    def delete_older_than(self, moment: datetime) -> int:
        with self._store.transaction() as db:
            db.execute("DELETE FROM visits WHERE expires_at < ?", (to_us(self._store.clock()),))
            return db.execute("DELETE FROM alerts WHERE created_at < ?", (to_us(moment),)).rowcount
