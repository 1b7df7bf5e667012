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
VECTORS: Final = "vectors"

DAY_S: Final = 24 * 3600
PER_ITEM: Final = -1
"""Default time-to-live of containers in which only items that say so expire."""


VECTOR_INDEX: Final = "diskANN"
DISTANCE: Final = "dotproduct"
"""How vectors are compared: similarity is an inner product, and people's weights are of different lengths."""


@dataclass(frozen=True, slots=True)
class ContainerSchema:
    """One container.

    Attributes:
        partition_key: path, with its leading slash.
        indexed: properties that queries filter or sort by. `id` and `_ts` always are; all else is left out.
        composite: pairs of properties that one query filters by and sorts by, both rising.
        default_ttl_s: seconds after its last write at which an item is deleted; `PER_ITEM`; or None: kept.
        vectors: lengths of the vectors that are searched, each at its `vector_path`; one graph for each partition.
    """

    name: str
    partition_key: str
    indexed: Sequence[str] = ()
    composite: Sequence[tuple[str, str]] = ()
    default_ttl_s: int | None = None
    vectors: Sequence[int] = ()

    def indexing_policy(self) -> dict[str, Any]:
        """The policy as Cosmos DB and Bicep write it."""
        policy: dict[str, Any] = {
            "indexingMode": "consistent",
            "automatic": True,
            "includedPaths": [{"path": f"/{name}/?"} for name in self.indexed],
            "excludedPaths": [{"path": "/*"}],
            "compositeIndexes": [
                [{"path": f"/{name}", "order": "ascending"} for name in pair] for pair in self.composite
            ],
        }
        if self.vectors:
            policy["vectorIndexes"] = [
                {"path": vector_path(length), "type": VECTOR_INDEX, "vectorIndexShardKey": [self.partition_key]}
                for length in self.vectors
            ]
        return policy

    def vector_policy(self) -> dict[str, Any] | None:
        """The vector embedding policy as Cosmos DB and Bicep write it; None of containers without vectors."""
        if not self.vectors:
            return None
        return {
            "vectorEmbeddings": [
                {
                    "path": vector_path(length),
                    "dataType": "float32",
                    "distanceFunction": DISTANCE,
                    "dimensions": length,
                }
                for length in self.vectors
            ]
        }


def vector_path(length: int) -> str:
    """Where vectors of that length are. One path has one length, and embedders differ.

    >>> vector_path(513)
    '/vector513'
    """
    return f"/vector{length}"


CONTAINERS: Final = (
    ContainerSchema(PEOPLE, "/id"),
    ContainerSchema(TEMPLATES, "/person_id", indexed=("person_id", "embedder_id", "sort")),
    ContainerSchema(
        DETECTIONS,
        "/id",
        indexed=("sort", "person_id", "site", "camera", "location", "track", "status"),
        composite=(("person_id", "sort"),),
        default_ttl_s=30 * DAY_S,
    ),
    ContainerSchema(MODELS, "/id", default_ttl_s=PER_ITEM),
    ContainerSchema(AUDIT, "/day", indexed=("sort",), default_ttl_s=400 * DAY_S),
    ContainerSchema(TOKENS, "/id"),
)
"""`detections` also holds the outcomes of candidates, the alerts, which live as long, and the visits that they are of;
`models` the jobs and leases of training."""

VECTOR_CONTAINER: Final = ContainerSchema(
    VECTORS, "/model_id", indexed=("model_id",), default_ttl_s=PER_ITEM, vectors=(513, 129)
)
"""Only where vector search is switched on (docs/adr/0021); for FaceNet's embeddings and SFace's, and the bias."""
