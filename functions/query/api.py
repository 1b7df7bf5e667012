"""HTTP routes of questions, compatible with the seed's."""

from __future__ import annotations

import platform
import socket
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import BaseModel, Field

from functions.guard import requires
from functions.query import status
from functions.services import services
from shared.access import Scope
from shared.domain import UNKNOWN, Detection, format_time, normalise_person_id, parse_time
from shared.ports import DetectionFilter

router = APIRouter(tags=["query"])
router.include_router(status.router)

for_operators = [requires(Scope.OPERATOR)]

PersonPath = Annotated[str, Path(alias="ID", max_length=200, examples=["harrison_ford"])]


class PersonId(BaseModel):
    """Somebody enrolled."""

    face_id: str = Field(examples=["harrison_ford"])


class People(BaseModel):
    """Everybody enrolled."""

    people: list[PersonId]


class Sighting(BaseModel):
    """Where and when somebody was seen."""

    location: str = Field(examples=["lobby"])
    detected_by_camera_id: str = Field(examples=["entrance"])
    timestamp: str = Field(examples=["2026-01-02T03:04:05.678Z"])


class LastKnownLocation(BaseModel):
    """The latest sighting, or none."""

    last_known_location: list[Sighting]


class DetectionDocument(BaseModel):
    """A stored detection, without its embedding."""

    id: str = Field(examples=["5f0c0f3a9d5e4d4f8f3c2b1a09876543"])
    person_id: str = Field(examples=["harrison_ford"], description="Or `unknown`.")
    similarity: float = Field(
        examples=[0.81],
        description="To the nearest person; higher is closer. Of crops of a visit that were judged together: the mean.",
    )
    confidence: float = Field(examples=[0.97], description="That the face is the nearest person's.")
    threshold: float = Field(examples=[0.62], description="What the similarity was compared with.")
    model_id: str = Field(examples=["20260102T030405.678900Z-0a1b"])
    embedder_id: str = Field(examples=["facenet-casia-20180408.1"], description="Whose space the model is of.")
    site: str = Field(examples=["headquarters"])
    camera: str = Field(examples=["entrance"])
    location: str = Field(examples=["lobby"])
    captured_at: str = Field(examples=["2026-01-02T03:04:05.678Z"])
    processed_at: str = Field(examples=["2026-01-02T03:04:07.012Z"])
    track: str | None = Field(examples=["a1b2-7"], description="One face over frames of one camera.")
    frame_box: tuple[int, int, int, int] | None = Field(
        examples=[(812, 240, 901, 352)], description="Of the face in the camera's frame: left, top, right, bottom."
    )
    face_box: tuple[float, float, float, float] = Field(
        examples=[(44.5, 51.0, 131.0, 166.2)], description="Of the face in the stored crop."
    )
    candidate: str | None = Field(
        examples=["headquarters/entrance/2026/01/02/20260102T030405678Z-a1b2-7-0.jpg"], description="The crop's blob."
    )
    named_by: str | None = Field(
        examples=[None], description="`group` when it got its name by the naming of a group; null from the matcher."
    )
    previous_person: str | None = Field(examples=[None], description="What the matcher said, when it was renamed.")


class Detections(BaseModel):
    """One page, newest first. `continuation` asks for the next; null on the last."""

    detections: list[DetectionDocument]
    continuation: str | None = Field(examples=[None])


class NodeAddress(BaseModel):
    """Address of the node that answers."""

    IP: str = Field(examples=["10.0.0.7"])


class NodeName(BaseModel):
    """Name of the node that answers."""

    node_name: str = Field(examples=["facerelay-0"])


class Unblocked(BaseModel):
    """Whether there was a lease to release."""

    message: str = Field(examples=["dataset unblocked"])


@router.get("/database/people", dependencies=for_operators, summary="Everybody enrolled")
def people() -> People:
    """Ids only."""
    return People(people=[PersonId(face_id=person_id) for person_id in services().query().person_ids()])


@router.get("/database/{ID}/last-known-location", dependencies=for_operators, summary="Where a person was last seen")
def last_known_location(person: PersonPath) -> LastKnownLocation:
    """The camera, location and time of the latest detection; an empty list when there is none."""
    seen = services().query().last_known_location(person)
    return LastKnownLocation(
        last_known_location=[
            Sighting(location=d.location, detected_by_camera_id=d.camera, timestamp=format_time(d.captured_at))
            for d in ([seen] if seen else [])
        ]
    )


def detection_document(detection: Detection) -> DetectionDocument:
    """A detection as JSON tells it: no embedding leaves the system."""
    fields = {name: getattr(detection, name) for name in DetectionDocument.model_fields}
    for name in ("captured_at", "processed_at"):
        fields[name] = format_time(fields[name])
    return DetectionDocument(**fields)


def _moment(text: str | None) -> datetime | None:
    return parse_time(text) if text else None


@router.get("/api/v1/detections", dependencies=for_operators, summary="Detections by person, place and time")
def detections(
    person_id: Annotated[str | None, Query(max_length=64, description="A person, or `unknown`")] = None,
    site: Annotated[str | None, Query(max_length=64, description="Such as `headquarters`")] = None,
    camera: Annotated[str | None, Query(max_length=64, description="Such as `entrance`")] = None,
    location: Annotated[str | None, Query(max_length=64, description="Such as `lobby`")] = None,
    since: Annotated[str | None, Query(max_length=40, description="RFC 3339, inclusive")] = None,
    until: Annotated[str | None, Query(max_length=40, description="RFC 3339, exclusive")] = None,
    page_size: Annotated[int, Query(ge=1, le=1_000, description="Most on one page")] = 100,
    continuation: Annotated[str | None, Query(max_length=1_000, description="Of the page before")] = None,
) -> Detections:
    """Newest first, in pages."""
    if person_id is not None and person_id != UNKNOWN:
        person_id = normalise_person_id(person_id)
    where = DetectionFilter(person_id, site, camera, location, _moment(since), _moment(until))
    page = services().query().detections(where, page_size=page_size, continuation=continuation)
    return Detections(
        detections=[detection_document(d) for d in page.detections],
        continuation=page.continuation,
    )


@router.get("/debug/IP", dependencies=for_operators, summary="Address of the node that answers")
def debug_ip() -> NodeAddress:
    """For load balancers: which node answered."""
    try:
        return NodeAddress(IP=socket.gethostbyname(socket.gethostname()))
    except OSError:
        return NodeAddress(IP="127.0.0.1")


@router.get("/debug/node-name", dependencies=for_operators, summary="Name of the node that answers")
def debug_node_name() -> NodeName:
    """For load balancers: which node answered."""
    return NodeName(node_name=platform.node())


@router.post("/debug/unblock-dataset", dependencies=[requires(Scope.ADMIN)], summary="Release a stale training lease")
def unblock_dataset() -> Unblocked:
    """After a training was killed. A training that is alive goes on; two at once do no harm but take longer."""
    released = services().train_requests().unblock()
    return Unblocked(message="dataset unblocked" if released else "the dataset was not blocked")
