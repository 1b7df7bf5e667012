"""HTTP routes of enrolment, compatible with the seed's."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, File, Form, Path, UploadFile
from pydantic import BaseModel, Field

from functions.guard import requires
from functions.services import services
from shared.access import Scope

router = APIRouter(prefix="/dataset", tags=["enroll"])

for_operators = [requires(Scope.OPERATOR)]
for_administrators = [requires(Scope.ADMIN)]

PersonPath = Annotated[
    str,
    Path(alias="ID", max_length=200, description="Person; lower-cased, spaces become `_`", examples=["Harrison Ford"]),
]

Source = Literal["upload", "folder", "video", "camera"]


class FaceId(BaseModel):
    """Somebody enrolled."""

    id_name: str = Field(examples=["harrison_ford"])
    number_of_images: int = Field(ge=0, examples=[12])


class Dataset(BaseModel):
    """Everybody enrolled."""

    face_ids: list[FaceId]


class Done(BaseModel):
    """What was done."""

    message: str = Field(examples=["harrison_ford added"])


class ImageAdded(Done):
    """What became of a photograph."""

    template_id: str = Field(examples=["5f0c0f3a9d5e4d4f8f3c2b1a09876543"])
    added: bool = Field(
        examples=[True], description="False when this image, or one that is all but the same, was there already."
    )


@router.get("", response_model=Dataset, dependencies=for_operators, summary="Everybody enrolled")
def list_dataset() -> Dataset:
    """Ids and how many images each has."""
    counts = services().query().image_counts()
    return Dataset(face_ids=[FaceId(id_name=person_id, number_of_images=n) for person_id, n in counts])


@router.post("/{ID}", response_model=Done, dependencies=for_operators, summary="Add a person")
def add_person(person: PersonPath) -> Done:
    """Makes room for a person, who is recognised once images are added and the model is trained."""
    return Done(message=f"{services().enroll().add_person(person)} added")


@router.delete("/{ID}", response_model=Done, dependencies=for_administrators, summary="Remove a person")
def remove_person(person: PersonPath) -> Done:
    """Removes images, templates and the person's part of every model, at once."""
    services().enroll().remove_person(person)
    services().follow_model()
    return Done(message="removed")


@router.post(
    "/{ID}/image", response_model=ImageAdded, dependencies=for_operators, summary="Add a photograph of a person"
)
def add_image(
    person: PersonPath,
    image: Annotated[UploadFile, File(description="Exactly one usable face")],
    source: Annotated[Source, Form(description="How the photograph came about")] = "upload",
) -> ImageAdded:
    """Verifies that there is exactly one usable face, and stores its image and template.

    An image that is all but the same as one of this person's adds nothing. A face that cannot be used is refused with
    `code` `unusable_face` and a `reason`.
    """
    enrolled = services().enroll().add_image(person, image.file.read(), source=source)
    message = "image added" if enrolled.added else "this image, or one all but the same, was there already"
    return ImageAdded(message=message, template_id=enrolled.template_id, added=enrolled.added)
