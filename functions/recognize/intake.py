"""Takes crops from gateways over HTTP, where there is no blob store that they could write to themselves."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Final

from shared.access import Caller
from shared.domain import CANDIDATES, Candidate, sha256_hex
from shared.errors import Conflict, InvalidInput, NotFound, NotPermitted, PreconditionFailed
from shared.ports import BlobStore
from shared.telemetry import TRACEPARENT

logger = logging.getLogger(__name__)

CONTENT_TYPES: Final = ("image/jpeg", "image/webp")


def take_candidate(
    blobs: BlobStore, caller: Caller, data: bytes, metadata: Mapping[str, str], content_type: str
) -> tuple[str, bool]:
    """Puts one crop into the container of candidates, under the name that its metadata give it.

    Args:
        caller: a device sends for its own site.
        metadata: as `Candidate.to_metadata` writes them, and the trace that the crop belongs to; the rest is dropped.
        content_type: one of `CONTENT_TYPES`.

    Returns:
        The blob's name, and whether it is new: a crop that is sent again is there already, and changes nothing.

    Raises:
        InvalidInput: empty, of another kind, metadata that are none of a candidate, or other bytes than they promise.
        NotPermitted: of another site than the caller's.
        Conflict: another crop has this name.
    """
    if content_type not in CONTENT_TYPES:
        raise InvalidInput(f"a crop is {' or '.join(CONTENT_TYPES)}")
    candidate = Candidate.from_metadata(metadata)
    if caller.site is not None and candidate.site != caller.site:
        raise NotPermitted("this token is for another site")
    if not data or sha256_hex(data) != candidate.sha256:
        raise InvalidInput("the crop's bytes do not match the hash in its metadata")
    trace = {TRACEPARENT: metadata[TRACEPARENT]} if TRACEPARENT in metadata else {}
    name = candidate.blob_name
    try:
        blobs.put(
            CANDIDATES,
            name,
            data,
            metadata=candidate.to_metadata() | trace,
            tags=candidate.to_tags(),
            content_type=content_type,
            if_absent=True,
        )
    except PreconditionFailed:
        if not _holds(blobs, name, candidate.sha256):
            raise Conflict("another crop has this name") from None
        return name, False
    logger.info("crop taken", extra={"action": "candidate.taken"})
    return name, True


def _holds(blobs: BlobStore, name: str, sha256: str) -> bool:
    try:
        return blobs.properties(CANDIDATES, name).metadata.get("sha256") == sha256
    except NotFound:
        return True  # deleted since: it was there, so it was looked at
