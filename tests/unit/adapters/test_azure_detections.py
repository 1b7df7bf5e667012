"""A change to a detection in Cosmos DB: under its ETag, and without lending it another life."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from shared.adapters.azure.detections import CosmosDetectionRepository
from shared.adapters.azure.documents import detection_document
from shared.domain import UNKNOWN, Detection
from shared.errors import StoreUnavailable
from tests.support import NOW, quality, unit

DETECTION = Detection(
    id="d1",
    person_id=UNKNOWN,
    similarity=0.2,
    confidence=0.1,
    threshold=0.5,
    model_id="m",
    embedder_id="e",
    site="hq",
    camera="gate",
    location="lobby",
    captured_at=NOW - timedelta(days=9),
    processed_at=NOW - timedelta(days=1),
    track=None,
    frame_box=None,
    face_box=(0.0, 0.0, 1.0, 1.0),
    quality=quality(),
    candidate=None,
    embedding=unit(1.0, 0.0),
)


class Container:
    """One document; `lost` replacements find that somebody else was there before."""

    def __init__(self, lost: int) -> None:
        self.lost = lost
        self.written: list[dict[str, Any]] = []

    def read(self, document_id: str, partition: str) -> dict[str, Any]:
        return {**detection_document(DETECTION), "_etag": "e"}

    def replace(self, document: dict[str, Any], etag: str) -> bool:
        self.written.append(document)
        self.lost -= 1
        return self.lost < 0


class Database:
    def __init__(self, container: Container) -> None:
        self._container = container

    def container(self, name: str) -> Container:
        return self._container


def change(container: Container, now: datetime) -> Detection | None:
    repository = CosmosDetectionRepository(Database(container), lambda: now)  # type: ignore[arg-type]
    return repository.change(
        "d1", lambda found: replace(found, person_id="ann", embedding=None), kept_for=timedelta(days=30)
    )


@pytest.mark.parametrize(
    ("later", "ttl_s"),
    [(timedelta(0), 29 * 86_400), (timedelta(days=28), 86_400), (timedelta(days=29), 1), (timedelta(days=99), 1)],
)
def test_a_changed_detection_expires_when_it_would_have(later: timedelta, ttl_s: int) -> None:
    """The container's own time-to-live would begin anew with this write; 0 is none that Cosmos DB takes."""
    container = Container(lost=0)
    assert change(container, NOW + later) is not None
    (document,) = container.written
    assert document["ttl"] == ttl_s and document["person_id"] == "ann" and document["embedding"] is None


def test_a_change_that_was_overtaken_is_made_again() -> None:
    container = Container(lost=3)
    assert change(container, NOW) is not None
    assert len(container.written) == 4
    with pytest.raises(StoreUnavailable):
        change(Container(lost=1_000), NOW)
