"""Recorded trigger payloads: what the host hands to the worker for one invocation.

A payload is JSON with the fields of FunctionRpc's InvocationRequest. What cannot be recorded stands in its place:
`${name}` for a value of the run, `{"photo": …}` for a photograph of the model cache, `{"multipart": …}` for a form.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from shared.settings import Settings
from shared.vision.assets import ModelCache
from tests.conformance.protocol import RpcHttp, TypedData

FOLDER = Path(__file__).parent / "payloads"


@dataclass(frozen=True)
class Payload:
    """One invocation."""

    function: str
    input: dict[str, TypedData]
    trigger_metadata: dict[str, TypedData]


def names() -> list[str]:
    """Every recorded payload."""
    return sorted(path.stem for path in FOLDER.glob("*.json"))


def function_of(name: str) -> str:
    """The function that a payload is for."""
    function: str = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))["function"]
    return function


def load(name: str, **values: str) -> Payload:
    """A payload with the run's values filled in.

    Raises:
        KeyError: it needs a value that is not given.
    """
    recorded = json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    photographs = [data["bytes"]["photo"] for data in recorded["input"].values() if "bytes" in data]
    if photographs:  # the blob trigger's metadata tell what the gateway and the storage know of the bytes
        (photograph,) = map(photo, photographs)
        values |= {"sha256": hashlib.sha256(photograph).hexdigest(), "length": str(len(photograph))}
    filled = _fill(recorded, values)
    return Payload(
        filled["function"],
        {name: _typed(data) for name, data in filled["input"].items()},
        {name: _typed(data) for name, data in filled["trigger_metadata"].items()},
    )


def photo(name: str) -> bytes:
    """A photograph of the model cache."""
    return ModelCache(Settings().model_cache).path(name).read_bytes()


def _fill(recorded: Any, values: dict[str, str]) -> Any:
    if isinstance(recorded, str):
        return Template(recorded).substitute(values)
    if isinstance(recorded, list):
        return [_fill(item, values) for item in recorded]
    if isinstance(recorded, dict):
        return {key: _fill(item, values) for key, item in recorded.items()}
    return recorded


def _typed(data: dict[str, Any]) -> TypedData:
    ((kind, value),) = data.items()
    if kind == "http":
        body = value.get("body")
        return TypedData(http=RpcHttp(**value | {"body": TypedData(bytes=_body(body) if body else b"")}))
    if kind == "bytes":
        return TypedData(bytes=photo(value["photo"]))
    return TypedData(**{kind: json.dumps(value) if kind == "json" else value})


def _body(body: dict[str, Any]) -> bytes:
    if "json" in body:
        return json.dumps(body["json"]).encode()
    form = body["multipart"]
    boundary: bytes = form["boundary"].encode()
    head = b'Content-Disposition: form-data; name="image"; filename="image.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
    return b"--" + boundary + b"\r\n" + head + photo(form["photo"]) + b"\r\n--" + boundary + b"--\r\n"
