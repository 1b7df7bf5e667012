"""HTTP routes of groups: who is seen again and again without a name, what people say of it, and the name."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Query, Request, Response
from pydantic import BaseModel, Field

from functions.group.state import Group
from functions.guard import name_target, requires
from functions.query.api import DetectionDocument, detection_document
from functions.services import services
from functions.train.api import STATUS_PATH, JobStatus
from functions.train.service import job_document
from shared.access import Scope
from shared.domain import Job, format_time

router = APIRouter(prefix="/api/v1", tags=["groups"], dependencies=[requires(Scope.OPERATOR)])

GroupPath = Annotated[str, Path(max_length=64, examples=["g:7k3fq9xm2d"])]
DetectionPath = Annotated[str, Path(max_length=64, examples=["5f0c0f3a9d5e4d4f8f3c2b1a09876543"])]
DetectionId = Annotated[str, Field(max_length=64, examples=["5f0c0f3a9d5e4d4f8f3c2b1a09876543"])]

PLACES = 20
"""Most cameras and locations told of one group."""


class GroupDocument(BaseModel):
    """Faces that are one person whom nobody has named."""

    group_id: str = Field(examples=["g:7k3fq9xm2d"], description="Stays from run to run. Never a person's id.")
    faces: int = Field(ge=1, examples=[14], description="How many detections.")
    first_seen: str = Field(examples=["2026-01-02T03:04:05.678Z"])
    last_seen: str = Field(examples=["2026-01-09T08:01:00.000Z"])
    cameras: list[str] = Field(examples=[["entrance", "gate"]], description=f"The first {PLACES}, in order.")
    locations: list[str] = Field(examples=[["lobby"]], description=f"The first {PLACES}, in order.")
    cover: str | None = Field(
        examples=["headquarters/entrance/2026/01/02/20260102T030405678Z-a1b2-7-0.jpg"],
        description="Blob of the best crop, which may have expired.",
    )
    embedder_id: str = Field(examples=["facenet-casia-20180408.1"])
    naming: str | None = Field(examples=[None], description="Job of the naming that is under way.")


class GroupsDocument(BaseModel):
    """One page of groups, last seen first. `continuation` asks for the next; null on the last."""

    groups: list[GroupDocument]
    continuation: str | None = Field(examples=[None])


class GroupDetails(GroupDocument):
    """A group and one page of its detections, newest first."""

    detections: list[DetectionDocument]
    continuation: str | None = Field(examples=[None])


class Merge(BaseModel):
    """Another group of the same person."""

    other: str = Field(max_length=64, examples=["g:0v8n5b1zra"], description="Its id is gone afterwards.")
    withdraw: bool = Field(
        False, examples=[False], description="Take back the split or rejection that has told the two apart."
    )


class Faces(BaseModel):
    """Some of a group's detections."""

    detections: list[DetectionId] = Field(
        min_length=1, max_length=1_000, examples=[["5f0c0f3a9d5e4d4f8f3c2b1a09876543"]]
    )


class SplitDocument(BaseModel):
    """What a split made."""

    group: GroupDocument
    new_group: GroupDocument


class Name(BaseModel):
    """Who a group is."""

    person_id: str = Field(
        max_length=200,
        examples=["Harrison Ford"],
        description="Lower-cased, spaces become `_`; made when not enrolled.",
    )


class Denied(BaseModel):
    """What a detection is not any more."""

    message: str = Field(examples=["unknown from now on"])


def group_document(group: Group) -> GroupDocument:
    """A group as JSON tells it: no embedding leaves the system."""
    return GroupDocument(
        group_id=group.group_id,
        faces=len(group.members),
        first_seen=format_time(group.members[0].captured_at),
        last_seen=format_time(group.members[-1].captured_at),
        cameras=sorted({member.camera for member in group.members})[:PLACES],
        locations=sorted({member.location for member in group.members})[:PLACES],
        cover=group.cover.candidate if group.cover else None,
        embedder_id=group.embedder_id,
        naming=group.naming[1] if group.naming else None,
    )


def _accepted(job: Job, response: Response) -> JobStatus:
    response.headers["Location"] = STATUS_PATH.format(job_id=job.job_id)
    return JobStatus(**job_document(job))


@router.get("/groups", summary="Unknown people who were seen repeatedly")
def list_groups(
    page_size: Annotated[int, Query(ge=1, le=1_000, description="Most on one page")] = 100,
    continuation: Annotated[str | None, Query(max_length=200, description="Of the page before")] = None,
) -> GroupsDocument:
    """Last seen first, in pages. Ids stay from one grouping to the next."""
    page = services().groups().service.list(page_size=page_size, continuation=continuation)
    return GroupsDocument(groups=[group_document(group) for group in page.groups], continuation=page.continuation)


@router.post("/groups/run", status_code=202, summary="Group unknown faces now")
def run_grouping(response: Response) -> JobStatus:
    """What the timer does at night: queues a grouping; ask the URL in `Location` how it stands."""
    return _accepted(services().groups().service.request_run(), response)


@router.get("/groups/{group_id}", summary="A group and its detections")
def get_group(
    group_id: GroupPath,
    page_size: Annotated[int, Query(ge=1, le=1_000, description="Most on one page")] = 100,
    continuation: Annotated[str | None, Query(max_length=64, description="Of the page before")] = None,
) -> GroupDetails:
    """Newest first, in pages."""
    service = services().groups().service
    group = service.group(group_id)
    page = service.faces(group_id, page_size=page_size, continuation=continuation)
    return GroupDetails(
        **group_document(group).model_dump(),
        detections=[detection_document(detection) for detection in page.detections],
        continuation=page.continuation,
    )


@router.post("/groups/{group_id}/merge", summary="Two groups are one person")
def merge_groups(request: Request, group_id: GroupPath, wanted: Merge) -> GroupDocument:
    """The other group's detections join this one, for good. 409 when a correction has told the two apart."""
    name_target(request, other=wanted.other)
    return group_document(services().groups().service.merge(group_id, wanted.other, withdraw=wanted.withdraw))


@router.post("/groups/{group_id}/split", summary="Some of a group's faces are another person")
def split_group(group_id: GroupPath, faces: Faces) -> SplitDocument:
    """They become a group of their own, and are never grouped with the others again."""
    group, new = services().groups().service.split(group_id, faces.detections)
    return SplitDocument(group=group_document(group), new_group=group_document(new))


@router.post("/groups/{group_id}/reject", summary="Some faces are not this person")
def reject_faces(group_id: GroupPath, faces: Faces) -> GroupDocument:
    """They leave the group, whoever they are, and are never grouped with the others again."""
    return group_document(services().groups().service.reject(group_id, faces.detections))


@router.post("/groups/{group_id}/name", status_code=202, summary="Who a group is")
def name_group(request: Request, group_id: GroupPath, wanted: Name, response: Response) -> JobStatus:
    """Queues a job that enrols the group's best crops, gives its detections the name, and asks for a training."""
    name_target(request, person_id=wanted.person_id)
    return _accepted(services().groups().service.name(group_id, wanted.person_id), response)


@router.post("/detections/{detection_id}/reject", summary="A named detection is not that person")
def reject_name(request: Request, detection_id: DetectionPath) -> Denied:
    """It is unknown from now on, and never gets that name again."""
    name_target(request, person_id=services().groups().service.deny(detection_id))
    return Denied(message="unknown from now on")
