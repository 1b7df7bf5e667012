"""What a blob may be called and carry, the same for every backend: a name that works at home works in the cloud.

The rules are Azure Blob Storage's (learn.microsoft.com, "Naming and Referencing Containers, Blobs, and Metadata").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from shared.domain import BLOB_CONTAINERS
from shared.errors import InvalidInput

MAX_NAME_LENGTH: Final = 1024
MAX_NAME_SEGMENTS: Final = 254
MAX_METADATA_BYTES: Final = 8 * 1024
MAX_TAGS: Final = 10

_METADATA_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_METADATA_VALUE = re.compile(r"[ -~]*")
_TAG_TEXT = re.compile(r"[A-Za-z0-9 +\-./:=_]*")


def check_container(container: str) -> str:
    """Raises: InvalidInput when it is none of `domain.BLOB_CONTAINERS`."""
    if container not in BLOB_CONTAINERS:
        raise InvalidInput(f"no such blob container; there are {', '.join(BLOB_CONTAINERS)}")
    return container


def check_name(name: str) -> str:
    """`name` itself, when the service would take it.

    Raises:
        InvalidInput: empty, over 1,024 characters or 254 segments, control characters, not Unicode text, a segment
            that is `.` or `..` (HTTP clients resolve those), a dot or slash at the end (the service drops those), or
            a backslash (the service makes it a slash).
    """
    if not 1 <= len(name) <= MAX_NAME_LENGTH:
        raise InvalidInput(f"a blob name is 1 to {MAX_NAME_LENGTH} characters")
    if any(ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F or 0xD800 <= ord(c) <= 0xDFFF for c in name):
        raise InvalidInput("a blob name has no control characters or lone surrogates")
    if "\\" in name:
        raise InvalidInput("a blob name has no backslash")
    segments = name.split("/")
    if len(segments) > MAX_NAME_SEGMENTS:
        raise InvalidInput(f"a blob name has at most {MAX_NAME_SEGMENTS} segments")
    if name[-1] in "./" or any(segment in (".", "..") for segment in segments):
        raise InvalidInput("a blob name ends in neither dot nor slash and has no segments that are dots")
    return name


def check_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Raises: InvalidInput for what cannot travel as HTTP headers: keys that are no identifiers, values not ASCII."""
    if any(not _METADATA_KEY.fullmatch(key) for key in metadata):
        raise InvalidInput("a metadata key is ASCII letters, digits and _, and does not begin with a digit")
    if len({key.lower() for key in metadata}) != len(metadata):
        raise InvalidInput("metadata keys differ in more than letter case")
    if any(not _METADATA_VALUE.fullmatch(value) or value != value.strip() for value in metadata.values()):
        raise InvalidInput("a metadata value is printable ASCII without spaces at its ends; percent-encode the rest")
    if sum(len(key) + len(value) for key, value in metadata.items()) > MAX_METADATA_BYTES:
        raise InvalidInput(f"metadata is at most {MAX_METADATA_BYTES} bytes")
    return dict(metadata)


def check_tags(tags: Mapping[str, str]) -> dict[str, str]:
    """Raises: InvalidInput for more than 10, or characters that the service's index does not take."""
    if len(tags) > MAX_TAGS:
        raise InvalidInput(f"a blob has at most {MAX_TAGS} index tags")
    for key, value in tags.items():
        if not 1 <= len(key) <= 128 or len(value) > 256:
            raise InvalidInput("an index tag has a key of 1 to 128 and a value of 0 to 256 characters")
        if not _TAG_TEXT.fullmatch(key) or not _TAG_TEXT.fullmatch(value):
            raise InvalidInput("an index tag is letters, digits, space and + - . / : = _")
    return dict(tags)
