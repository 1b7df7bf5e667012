"""Domain values as columns and back: embeddings as float32 little-endian bytes, small structures as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any

import numpy as np

from shared.domain import Float32Array, Quality


def embedding_bytes(embedding: Float32Array) -> bytes:
    """(D,) float32 → 4·D bytes, little-endian on every machine."""
    return np.ascontiguousarray(embedding, dtype="<f4").tobytes()


def embedding_array(data: bytes) -> Float32Array:
    """The inverse of `embedding_bytes`; the array is the caller's own."""
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def quality_json(quality: Quality) -> str:
    return json.dumps(asdict(quality))


def quality_from(values: dict[str, Any]) -> Quality:
    return Quality.of(values)
