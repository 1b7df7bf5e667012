"""A small JSON document on disk that outlives a kill, a full disk and a damaged sector."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any, Final

from shared.domain import sha256_hex

logger = logging.getLogger(__name__)

_MAX_BYTES: Final = 100_000


class StateFile:
    """One document, replaced as a whole. The version before it is kept, for when the newest cannot be read.

    Args:
        path: in a folder that is there.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._before = path, path.with_suffix(".old")
        self._failed = False

    def read(self) -> dict[str, Any]:
        """The newest version that is whole; empty when there is none."""
        for path in (self._path, self._before):
            document = _read(path)
            if document is not None:
                return document
        if self._path.exists():
            logger.error("a damaged file was left out", extra={"action": "state_damaged", "file": self._path.name})
        return {}

    def write(self, document: dict[str, Any]) -> bool:
        """Replaces the document; False when the disk does not take it, and then the old one stays."""
        body = json.dumps(document, sort_keys=True)
        raw = json.dumps({"sha256": sha256_hex(body.encode()), "body": body}).encode()
        temporary = self._path.with_suffix(".new")
        try:
            with temporary.open("wb") as file:
                file.write(raw)
                file.flush()
                os.fsync(file.fileno())
            if _read(self._path) is not None:
                self._path.replace(self._before)
            temporary.replace(self._path)
        except OSError as error:
            if not self._failed:
                extra = {"action": "state_unwritten", "file": self._path.name}
                logger.warning("a file cannot be written: %s", error.strerror, extra=extra)
            self._failed = True
            return False
        self._failed = False
        return True


def _read(path: Path) -> dict[str, Any] | None:
    try:
        with path.open("rb") as file:
            outer = json.loads(file.read(_MAX_BYTES))
        body = outer["body"]
        if sha256_hex(body.encode()) != outer["sha256"]:
            return None
        document = json.loads(body)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return document if isinstance(document, dict) else None
