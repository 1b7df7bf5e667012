"""The HTTP route by which gateways deliver crops to this service itself."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import parse_qsl

from fastapi import APIRouter, Body, Header, Response
from pydantic import BaseModel, Field

from functions.guard import requires
from functions.recognize.intake import CONTENT_TYPES, take_candidate
from functions.services import services
from shared.access import Caller, Scope
from shared.errors import InvalidInput

router = APIRouter(prefix="/api/v1", tags=["recognize"])

_MOST_FIELDS = 40

Metadata = Annotated[
    str,
    Header(
        alias="X-Facerelay-Candidate",
        max_length=4_000,
        description="The candidate's metadata as a query string: `schema=1&site=…&camera=…&sha256=…`.",
        examples=["schema=1&site=headquarters&camera=door"],
    ),
]


class TakenDocument(BaseModel):
    """A crop that waits to be recognised."""

    name: str = Field(examples=["headquarters/door/2026/01/02/20260102T030405678Z-1a2b3c4d_1-0.jpg"])


def _fields(text: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(text, keep_blank_values=True, strict_parsing=True, max_num_fields=_MOST_FIELDS)
    except ValueError as error:
        raise InvalidInput("X-Facerelay-Candidate is no query string") from error
    if len({key for key, _ in pairs}) < len(pairs):
        raise InvalidInput("X-Facerelay-Candidate says one thing twice")
    return dict(pairs)


@router.post(
    "/candidates",
    status_code=201,
    summary="Deliver a crop",
    responses={200: {"model": TakenDocument, "description": "This very crop is there already."}},
    openapi_extra={
        "requestBody": {
            "required": True,
            "content": {kind: {"schema": {"type": "string", "format": "binary"}} for kind in CONTENT_TYPES},
        }
    },
)
def deliver_candidate(
    response: Response,
    data: Annotated[bytes, Body(media_type=CONTENT_TYPES[0])],
    metadata: Metadata,
    caller: Annotated[Caller, requires(Scope.DEVICE)],
    content_type: Annotated[str, Header(include_in_schema=False)] = "",
) -> TakenDocument:
    """For gateways of a service without a blob store in the cloud. The crop is recognised as any other. A device
    delivers for its own site alone. 400 when bytes and metadata do not belong together, 409 when another crop has the
    name."""
    blobs = services().runtime.stores.blobs
    name, fresh = take_candidate(blobs, caller, data, _fields(metadata), content_type.partition(";")[0].strip())
    response.status_code = 201 if fresh else 200
    return TakenDocument(name=name)
