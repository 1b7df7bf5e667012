"""The Cosmos DB containers: partition keys, time-to-live and indexing (docs/adr/0007).

This is the one description. The Bicep modules deploy it and a test compares the two; emulators are provisioned from it.
Every path is left out of the index that no query filters or sorts by, embeddings above all: an index entry costs
request units with every write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

PEOPLE: Final = "people"
TEMPLATES: Final = "templates"
DETECTIONS: Final = "detections"
MODELS: Final = "models"
AUDIT: Final = "audit"
TOKENS: Final = "tokens"

DAY_S: Final = 24 * 3600
PER_ITEM: Final = -1
"""Default time-to-live of containers in which only items that say so expire."""


@dataclass(frozen=True, slots=True)
class ContainerSchema:
    """One container.

    Attributes:
        partition_key: path, with its leading slash.
        indexed: properties that queries filter or sort by. `id` and `_ts` always are; all else is left out.
        composite: pairs of properties that one query filters by and sorts by, both rising.
        default_ttl_s: seconds after its last write at which an item is deleted; `PER_ITEM`; or None: kept.
    """

    name: str
    partition_key: str
    indexed: Sequence[str] = ()
    composite: Sequence[tuple[str, str]] = ()
    default_ttl_s: int | None = None

    def indexing_policy(self) -> dict[str, Any]:
        """The policy as Cosmos DB and Bicep write it."""
        return {
            "indexingMode": "consistent",
            "automatic": True,
            "includedPaths": [{"path": f"/{name}/?"} for name in self.indexed],
            "excludedPaths": [{"path": "/*"}],
            "compositeIndexes": [
                [{"path": f"/{name}", "order": "ascending"} for name in pair] for pair in self.composite
            ],
        }


CONTAINERS: Final = (
    ContainerSchema(PEOPLE, "/id"),
    ContainerSchema(TEMPLATES, "/person_id", indexed=("person_id", "embedder_id", "sort")),
    ContainerSchema(
        DETECTIONS,
        "/id",
        indexed=("sort", "person_id", "site", "camera", "location", "status"),
        composite=(("person_id", "sort"),),
        default_ttl_s=30 * DAY_S,
    ),
    ContainerSchema(MODELS, "/id", default_ttl_s=PER_ITEM),
    ContainerSchema(AUDIT, "/day", indexed=("sort",), default_ttl_s=400 * DAY_S),
    ContainerSchema(TOKENS, "/id"),
)
"""`detections` also holds the outcomes of candidates, the alerts, which live as long, and the visits that they are of;
`models` the jobs and leases of training."""
