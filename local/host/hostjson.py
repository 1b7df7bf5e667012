"""The limits of host.json that mean something on one machine."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from shared.errors import ConfigurationError

_DURATION = re.compile(r"(?:(\d+)\.)?(\d{1,2}):(\d{2}):(\d{2})(?:\.\d+)?")


@dataclass(frozen=True)
class HostConfig:
    """Values of host.json, with the platform's defaults (learn.microsoft.com, "host.json reference").

    Attributes:
        route_prefix: before every HTTP route; empty for none.
        batch_size: `queues.batchSize`.
        new_batch_threshold: `queues.newBatchThreshold`; half the batch size when it is not given.
        max_dequeue_count: deliveries of a queue message that fail before it is poison.
        retry_delay_s: `queues.visibilityTimeout`, how long a failed message rests.
        poison_blob_threshold: the same count for blobs.
        max_blob_parallelism: `blobs.maxDegreeOfParallelism`.
    """

    route_prefix: str = "api"
    batch_size: int = 16
    new_batch_threshold: int = 8
    max_dequeue_count: int = 5
    retry_delay_s: float = 0.0
    poison_blob_threshold: int = 5
    max_blob_parallelism: int = 16

    @property
    def queue_concurrency(self) -> int:
        """Messages of one function that the platform works on at a time."""
        return self.batch_size + self.new_batch_threshold

    @classmethod
    def load(cls, path: Path) -> HostConfig:
        """Reads a host.json; one that is missing means the defaults.

        Raises:
            ConfigurationError: not JSON, or a value of the wrong kind.
        """
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            return cls._from(document.get("extensions", {}))
        except FileNotFoundError:
            return cls()
        except (ValueError, AttributeError, TypeError) as error:
            raise ConfigurationError(f"{path.name} cannot be used: {error}") from error

    @classmethod
    def _from(cls, extensions: dict[str, Any]) -> HostConfig:
        queues, blobs = extensions.get("queues", {}), extensions.get("blobs", {})
        batch_size = _number(queues, "batchSize", cls.batch_size)
        return cls(
            route_prefix=str(extensions.get("http", {}).get("routePrefix", cls.route_prefix)).strip("/"),
            batch_size=batch_size,
            new_batch_threshold=_number(queues, "newBatchThreshold", batch_size // 2, at_least=0),
            max_dequeue_count=_number(queues, "maxDequeueCount", cls.max_dequeue_count),
            retry_delay_s=_seconds(queues.get("visibilityTimeout", "00:00:00")),
            poison_blob_threshold=_number(blobs, "poisonBlobThreshold", cls.poison_blob_threshold),
            max_blob_parallelism=_number(blobs, "maxDegreeOfParallelism", cls.max_blob_parallelism),
        )


def _number(section: dict[str, Any], key: str, default: int, *, at_least: int = 1) -> int:
    value = section.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool) or value < at_least:
        raise ValueError(f"{key} is a whole number from {at_least}")
    return value


def _seconds(text: str) -> float:
    """A .NET time span: `hh:mm:ss`, or `d.hh:mm:ss`.

    >>> _seconds("1.00:00:30")
    86430.0
    """
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"{text[:20]!r} is not a time span such as 00:00:30")
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
