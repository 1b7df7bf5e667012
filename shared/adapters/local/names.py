"""The file that a version of a blob is kept in. Nothing of a name reaches the file system unescaped."""

from __future__ import annotations

import hashlib
from pathlib import PurePosixPath
from typing import Final

from shared.domain import percent_safe

_MAX_SEGMENT_BYTES: Final = 150
_MAX_PATH_BYTES: Final = 1000
_EMPTY_SEGMENT: Final = "%"  # cannot be the escape of anything


def relative_path(container: str, name: str, etag: str) -> PurePosixPath:
    """Where one version of a blob is kept, relative to the blobs' folder.

    The ETag is in the file's name, so no version ever overwrites another, and two names that the disk holds for the
    same one (by letter case, or after shortening) do not meet.

    >>> relative_path("dataset", "ann/../1.jpg", "E7").as_posix()
    'dataset/ann/%2E%2E/1.E7.jpg'
    """
    *folders, last = (_shortened(percent_safe(segment) or _EMPTY_SEGMENT) for segment in name.split("/"))
    stem, dot, extension = last.rpartition(".")
    if not stem or len(extension) > 8:
        stem, dot, extension = last, "", ""
    path = PurePosixPath(container, *folders, f"{stem}.{etag}{dot}{extension}")
    if len(path.as_posix()) > _MAX_PATH_BYTES:
        return PurePosixPath(container, "%long", f"{_hash(name)}.{etag}{dot}{extension}")
    return path


def _shortened(segment: str) -> str:
    """A segment that fits a directory entry; the hash is on the disk only, the database has the name."""
    return segment if len(segment) <= _MAX_SEGMENT_BYTES else f"{segment[:100]}~{_hash(segment)}"


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:24]
