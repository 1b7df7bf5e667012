"""Turns a report's running totals into metrics. What a report does not have is not measured."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Final

from shared import telemetry
from shared.telemetry import Counter

_OF_A_CAMERA: Final[Mapping[str, Counter]] = {
    "frames_grabbed": telemetry.EDGE_GRABBED,
    "frames_skipped": telemetry.EDGE_SKIPPED,
    "frames_dropped": telemetry.EDGE_DROPPED,
    "reconnects": telemetry.EDGE_RECONNECTS,
    "tracks": telemetry.EDGE_TRACKS,
    "detector_runs": telemetry.EDGE_DETECTOR_RUNS,
    "repeats": telemetry.EDGE_REPEATS,
    "usable": telemetry.EDGE_USABLE,
}
_OF_THE_SPOOL: Final[Mapping[str, Counter]] = {
    "torn": telemetry.EDGE_SPOOL_TORN,
    "times_full": telemetry.EDGE_SPOOL_FULL,
}


class Meter:
    """Feeds the metrics of one gateway.

    Args:
        site: label of all.
    """

    def __init__(self, site: str) -> None:
        self._site = site
        self._before: dict[tuple[str, ...], int] = {}
        self._states: dict[str, set[str]] = {}

    def feed(self, report: Mapping[str, Any], *, stuck: Collection[str] = ()) -> None:
        """Takes `GatewayReport.to_json()` as it stands now; counters grow by what was added since the last time.

        Args:
            stuck: names of cameras that make no progress.
        """
        for camera in report["cameras"]:
            self._camera(camera)
            name = str(camera["camera"])
            telemetry.EDGE_STUCK.set(name in stuck, telemetry.place(self._site, name))
        labels, spool = {"site": self._site}, report["spool"]
        for name, counter in _OF_THE_SPOOL.items():
            self._grow(counter, spool.get(name), labels)
        self._grow(telemetry.EDGE_SPOOL_DROPPED, dropped(spool), labels)
        telemetry.EDGE_SPOOL_DEPTH.set(report["waiting"], labels)
        telemetry.EDGE_SPOOL_SIZE.set(report["waiting_bytes"], labels)
        telemetry.EDGE_SPOOL_LIMIT.set(report["limit_bytes"], labels)
        oldest_s = spool.get("oldest_s")
        if _is_number(oldest_s):
            telemetry.EDGE_SPOOL_OLDEST.set(oldest_s, labels)
        for item, value in (report.get("budget") or {}).items():
            if _is_number(value):
                telemetry.EDGE_BUDGET.set(value, {"site": self._site, "item": item})

    def _camera(self, camera: Mapping[str, Any]) -> None:
        name = str(camera["camera"])
        labels = telemetry.place(self._site, name)
        up = camera["state"] == "running" and camera["error"] is None
        telemetry.EDGE_UP.set(up, labels)
        for key, counter in _OF_A_CAMERA.items():
            self._grow(counter, camera.get(key), labels)
        for cause, count in (camera.get("unusable") or {}).items():
            self._grow(telemetry.EDGE_UNUSABLE, count, {**labels, "cause": str(cause)})
        for reason, count in (camera.get("frames_without_look") or {}).items():
            self._grow(telemetry.EDGE_UNLOOKED, count, {**labels, "reason": str(reason)})
        picture = camera.get("picture")
        if isinstance(picture, str):
            seen = self._states.setdefault(name, set())
            seen.add(picture)
            for state in seen:
                telemetry.EDGE_PICTURE.set(state == picture, {**labels, "state": state})

    def _grow(self, counter: Counter, value: object, labels: Mapping[str, str]) -> None:
        if not isinstance(value, int) or isinstance(value, bool):
            return
        key = (counter.name, *labels.values())
        if (more := value - self._before.get(key, 0)) > 0:
            counter.add(labels, more)
            self._before[key] = value


def dropped(spool: Mapping[str, Any]) -> int:
    """Crops that the spool gave up, whatever for.

    >>> dropped({"dropped_bound": 2, "dropped_age": 1, "dropped_bytes": 9_000})
    3
    """
    return sum(value for key, value in spool.items() if key.startswith("dropped_") and not key.endswith("_bytes"))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
