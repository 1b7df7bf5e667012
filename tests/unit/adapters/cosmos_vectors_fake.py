"""A Cosmos DB container with vector search, as far as its documentation says what it does; what it forbids is refused.

Sources: learn.microsoft.com/azure/cosmos-db/nosql/vector-search (policies, limits, "always use TOP N"),
.../nosql/query/vectordistance (arguments, order), and the SDK's own rules for `query_items`. Answers are of the stored
numbers, quantised as float32; ties come in falling order of ids, which is not the order that anybody should rely on.
"""

from __future__ import annotations

import copy
import itertools
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from azure.core import MatchConditions
from azure.cosmos.exceptions import (
    CosmosAccessConditionFailedError,
    CosmosHttpResponseError,
    CosmosResourceExistsError,
    CosmosResourceNotFoundError,
)

from shared.adapters.azure.cosmos import CosmosContainer
from shared.adapters.azure.cosmos_schema import VECTOR_CONTAINER, ContainerSchema

MOST_DIMENSIONS = {"flat": 505, "quantizedFlat": 4096, "diskANN": 4096}
DISTANCES = ("cosine", "dotproduct", "euclidean")
DATA_TYPES = ("float32", "float16", "int8", "uint8")
MOST_RESULTS = 50_000
"""The SDK refuses a larger TOP (AZURE_COSMOS_MAX_ITEM_BUFFER_VECTOR_SEARCH)."""

NEAREST = re.compile(
    r"SELECT TOP (?P<top>\d+) c\.id FROM c WHERE c\.(?P<key>\w+) = (?P<of>@\w+) "
    r"ORDER BY VectorDistance\(c\.(?P<path>\w+), (?P<probe>@\w+)\)"
)
PLAIN = re.compile(r"SELECT (?P<what>\*|c\.id) FROM c WHERE c\.(?P<key>\w+) = (?P<of>@\w+)")


def refused(status: int, message: str) -> CosmosHttpResponseError:
    kinds = {404: CosmosResourceNotFoundError, 409: CosmosResourceExistsError, 412: CosmosAccessConditionFailedError}
    return kinds.get(status, CosmosHttpResponseError)(status_code=status, message=message)


class FakeContainer:
    """The part of `azure.cosmos.ContainerProxy` that is used. Every request is in `requests`.

    Args:
        schema: as the container is deployed.

    Raises:
        CosmosHttpResponseError: the service would not make such a container.
    """

    def __init__(self, schema: ContainerSchema = VECTOR_CONTAINER) -> None:
        self._key = schema.partition_key.removeprefix("/")
        self._policy = schema.vector_policy() or {"vectorEmbeddings": []}
        self._indexing = schema.indexing_policy()
        self._check_policies()
        self.documents: dict[tuple[str, str], dict[str, Any]] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.before: Callable[[str, dict[str, Any]], None] = lambda verb, request: None
        self._etags = itertools.count(1)
        self._lock = threading.RLock()

    def _check_policies(self) -> None:
        embeddings = {embedding["path"]: embedding for embedding in self._policy["vectorEmbeddings"]}
        if len(embeddings) != len(self._policy["vectorEmbeddings"]):
            raise refused(400, "each path has at most one policy")
        for embedding in embeddings.values():
            if embedding["distanceFunction"] not in DISTANCES or embedding["dataType"] not in DATA_TYPES:
                raise refused(400, "no such distance function or data type")
        for index in self._indexing.get("vectorIndexes", []):
            if index["path"] not in embeddings or "*" in index["path"] or "[" in index["path"]:
                raise refused(400, "a vector index needs a policy of its path, without wildcards")
            if embeddings[index["path"]]["dimensions"] > MOST_DIMENSIONS[index["type"]]:
                raise refused(400, f"too many dimensions for {index['type']}")
        if {"path": "/*"} not in self._indexing["excludedPaths"]:
            raise refused(400, "(of this test) vectors in the ordinary index cost request units with every write")

    def _request(self, verb: str, **request: Any) -> None:
        with self._lock:
            self.requests.append((verb, request))
        assert request["timeout"] > 0
        self.before(verb, request)

    def read(self, *, timeout: float) -> dict[str, Any]:
        self._request("properties", timeout=timeout)
        return {"vectorEmbeddingPolicy": copy.deepcopy(self._policy), "indexingPolicy": self._indexing}

    def read_item(self, item: str, *, partition_key: str, timeout: float) -> dict[str, Any]:
        self._request("read", id=item, partition_key=partition_key, timeout=timeout)
        with self._lock:
            if (found := self.documents.get((partition_key, item))) is None:
                raise refused(404, "not found")
            return copy.deepcopy(found)

    def create_item(self, body: dict[str, Any], *, timeout: float) -> None:
        self._request("create", id=body["id"], timeout=timeout)
        with self._lock:
            if (body[self._key], body["id"]) in self.documents:
                raise refused(409, "there already")
            self._put(body)

    def upsert_item(self, body: dict[str, Any], *, timeout: float) -> None:
        self._request("upsert", id=body["id"], partition_key=body[self._key], timeout=timeout)
        self._put(body)

    def replace_item(
        self, item: str, body: dict[str, Any], *, etag: str, match_condition: MatchConditions, timeout: float
    ) -> None:
        self._request("replace", id=item, timeout=timeout)
        assert match_condition is MatchConditions.IfNotModified
        with self._lock:
            if (found := self.documents.get((body[self._key], item))) is None:
                raise refused(404, "not found")
            if found["_etag"] != etag:
                raise refused(412, "changed")
            self._put(body)

    def delete_item(self, item: str, *, partition_key: str, timeout: float) -> None:
        self._request("delete", id=item, partition_key=partition_key, timeout=timeout)
        with self._lock:
            if self.documents.pop((partition_key, item), None) is None:
                raise refused(404, "not found")

    def _put(self, body: dict[str, Any]) -> None:
        for embedding in self._policy["vectorEmbeddings"]:
            vector = body.get(embedding["path"].removeprefix("/"))
            if vector is not None and len(vector) != embedding["dimensions"]:
                raise refused(400, "the vector is not of the policy's length")
        with self._lock:
            self.documents[body[self._key], body["id"]] = {**copy.deepcopy(body), "_etag": f"e{next(self._etags)}"}

    def query_items(
        self,
        query: str,
        *,
        parameters: list[dict[str, Any]],
        max_item_count: int,
        timeout: float,
        partition_key: str | None = None,
        enable_cross_partition_query: bool = False,
    ) -> Iterator[dict[str, Any]]:
        values = {parameter["name"]: parameter["value"] for parameter in parameters}
        self._request("query", text=query, parameters=values, partition_key=partition_key, timeout=timeout)
        if partition_key is None or enable_cross_partition_query:
            raise refused(400, "(of this test) a query of every partition costs one search in each")
        nearest, plain = NEAREST.fullmatch(query), PLAIN.fullmatch(query)
        found = nearest or plain
        if found is None:
            raise refused(400, f"not of a form that is documented: {query}")
        if set(values) != {name for name in re.findall(r"@\w+", query)}:
            raise refused(400, "parameters are missing, or too many")
        if found["key"] != self._key or values[found["of"]] != partition_key:
            raise refused(400, "(of this test) the text names the partition, too: emulators look everywhere")
        with self._lock:
            inside = [document for (key, _), document in self.documents.items() if key == partition_key]
        if nearest:
            return iter(self._nearest(inside, nearest, values))
        documents = copy.deepcopy(inside)
        return iter(documents if found["what"] == "*" else [{"id": document["id"]} for document in documents])

    def _nearest(
        self, inside: list[dict[str, Any]], asked: re.Match[str], values: Mapping[str, Any]
    ) -> list[dict[str, Any]]:
        top, path, probe = int(asked["top"]), asked["path"], values[asked["probe"]]
        if not 1 <= top <= MOST_RESULTS:
            raise refused(400, "TOP is between 1 and 50,000")
        policies = {embedding["path"]: embedding for embedding in self._policy["vectorEmbeddings"]}
        policy = policies.get(f"/{path}")
        if policy is None or len(probe) != policy["dimensions"]:
            raise refused(400, "no vector policy of that path and length")
        if not all(isinstance(number, float) for number in probe):
            raise refused(400, "a vector is an array of numbers")
        assert policy["distanceFunction"] == "dotproduct", "the order below is that of inner products"
        scored = [
            (float(np.dot(np.float32(document[path]), np.float32(probe))), document["id"])
            for document in inside
            if path in document
        ]
        scored.sort(key=lambda each: (-each[0], -int(each[1])))
        return [{"id": document_id} for _, document_id in scored[:top]]


class FakeDatabase:
    """Stands for `CosmosDatabase`: `CosmosContainer` itself, with its translation of errors, is the real one."""

    operation_s = 30

    def __init__(self, container: FakeContainer) -> None:
        self.fake = container

    def container(self, name: str) -> CosmosContainer:
        return CosmosContainer(self, name)  # type: ignore[arg-type]

    def open(self, name: str) -> FakeContainer:
        assert name == VECTOR_CONTAINER.name
        return self.fake
