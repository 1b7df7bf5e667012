"""HTTP routes of people and their templates: what `/dataset` does, and more of what is known."""

from __future__ import annotations

from typing import Annotated
from urllib.parse import quote

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from functions.guard import name_target, requires
from functions.services import services
from shared.access import Scope
from shared.domain import Template, format_time

router = APIRouter(prefix="/api/v1/people", tags=["people"])

for_operators = [requires(Scope.OPERATOR)]
for_administrators = [requires(Scope.ADMIN)]

PersonPath = Annotated[str, Path(max_length=200, examples=["harrison_ford"])]
TemplatePath = Annotated[str, Path(max_length=64, examples=["5f0c0f3a9d5e4d4f8f3c2b1a09876543"])]


class NewPerson(BaseModel):
    """Somebody to be enrolled."""

    person_id: str = Field(
        max_length=200, examples=["Harrison Ford"], description="Lower-cased, and spaces become `_`."
    )


class PersonDocument(BaseModel):
    """Somebody enrolled."""

    person_id: str = Field(examples=["harrison_ford"])
    created_at: str = Field(examples=["2026-01-02T03:04:05.678Z"])
    templates: int = Field(ge=0, examples=[12], description="Of the embedder in use.")


class PeopleDocument(BaseModel):
    """Everybody enrolled, in order of id."""

    people: list[PersonDocument]


class QualityDocument(BaseModel):
    """What can be said of a face's fitness for recognition."""

    size_px: float = Field(examples=[142.0], description="The shorter side of the face.")
    sharpness: float = Field(examples=[310.5], description="Variance of the Laplacian at 112 px.")
    yaw: float | None = Field(examples=[-0.08], description="−1 to 1; 0 is frontal.")
    brightness: float = Field(examples=[121.0], description="Mean grey level, 0 to 255.")
    confidence: float = Field(examples=[0.999], description="The detector's.")
    pitch: float | None = Field(examples=[0.03], description="Below 0 looks up, above 0 down; −1 to 1.")
    roll: float | None = Field(examples=[-2.5], description="Degrees, clockwise.")
    dark: float = Field(examples=[0.01], description="Share of the face that is all but black.")
    bright: float = Field(examples=[0.0], description="Share of the face that is all but white.")
    contrast: float | None = Field(examples=[38.0], description="Standard deviation of the grey levels.")


class TemplateDocument(BaseModel):
    """A stored reference of a person, without the embedding itself: none leaves the system."""

    template_id: str = Field(examples=["5f0c0f3a9d5e4d4f8f3c2b1a09876543"])
    embedder_id: str = Field(examples=["facenet-vggface2.2"])
    created_at: str = Field(examples=["2026-01-02T03:04:05.678Z"])
    source: str = Field(examples=["upload"], description="`upload`, `folder`, `video` or `camera`")
    kept: bool = Field(examples=[False], description="An operator has said that this is the person.")
    quality: QualityDocument


class TemplatesDocument(BaseModel):
    """A person's templates, of every embedder."""

    templates: list[TemplateDocument]


class Removed(BaseModel):
    """It is gone."""

    message: str = Field(examples=["removed"])


class Marked(BaseModel):
    """What a training will do with the template."""

    message: str = Field(examples=["kept; the next training uses it"])


def template_document(template: Template) -> TemplateDocument:
    """A template as JSON tells it."""
    quality = {name: getattr(template.quality, name) for name in QualityDocument.model_fields}
    return TemplateDocument(
        template_id=template.template_id,
        embedder_id=template.embedder_id,
        created_at=format_time(template.created_at),
        source=template.source,
        kept=template.kept,
        quality=QualityDocument(**quality),
    )


def _person(name: str) -> PersonDocument:
    person, count = services().query().person(name)
    return PersonDocument(person_id=person.person_id, created_at=format_time(person.created_at), templates=count)


@router.get("", dependencies=for_operators, summary="Everybody enrolled")
def list_people() -> PeopleDocument:
    """With how many templates each has."""
    return PeopleDocument(
        people=[
            PersonDocument(person_id=person.person_id, created_at=format_time(person.created_at), templates=count)
            for person, count in services().query().people()
        ]
    )


@router.post("", status_code=201, dependencies=for_operators, summary="Add a person")
def add_person(request: Request, wanted: NewPerson, response: Response) -> PersonDocument:
    """Photographs are added with `POST /dataset/{ID}/image`."""
    name_target(request, person_id=wanted.person_id)
    added = _person(services().enroll().add_person(wanted.person_id))
    response.headers["Location"] = f"{router.prefix}/{quote(added.person_id, safe='')}"
    return added


@router.get("/{person_id}", dependencies=for_operators, summary="A person")
def get_person(person_id: PersonPath) -> PersonDocument:
    """Since when, and with how many templates."""
    return _person(person_id)


@router.delete("/{person_id}", dependencies=for_administrators, summary="Remove a person")
def remove_person(person_id: PersonPath) -> Removed:
    """Removes images, templates and the person's part of every model, at once."""
    services().enroll().remove_person(person_id)
    services().follow_model()
    return Removed(message="removed")


@router.get("/{person_id}/templates", dependencies=for_operators, summary="A person's templates")
def list_templates(person_id: PersonPath) -> TemplatesDocument:
    """In order of their ids, of every embedder."""
    return TemplatesDocument(templates=[template_document(t) for t in services().query().templates(person_id)])


@router.get(
    "/{person_id}/templates/{template_id}/image",
    dependencies=for_operators,
    response_class=Response,
    responses={200: {"content": {"image/jpeg": {}}, "description": "The face and a margin around it"}},
    summary="A template's stored face",
)
def template_image(person_id: PersonPath, template_id: TemplatePath) -> Response:
    """For whoever looks after the gallery: is this the person?"""
    return Response(services().gallery().image(person_id, template_id), media_type="image/jpeg")


@router.post("/{person_id}/templates/{template_id}/keep", dependencies=for_operators, summary="This is the person")
def keep_template(person_id: PersonPath, template_id: TemplatePath) -> Marked:
    """The next training uses it, whatever the gallery's review thinks of it."""
    services().gallery().keep(person_id, template_id, True)
    return Marked(message="kept; the next training uses it")


@router.delete("/{person_id}/templates/{template_id}/keep", dependencies=for_operators, summary="Take that back")
def unkeep_template(person_id: PersonPath, template_id: TemplatePath) -> Marked:
    """Takes the mark back; the template itself stays."""
    services().gallery().keep(person_id, template_id, False)
    return Marked(message="left to the gallery's review")


@router.delete("/{person_id}/templates/{template_id}", dependencies=for_administrators, summary="Remove a template")
def remove_template(person_id: PersonPath, template_id: TemplatePath) -> Removed:
    """Removes the image and every template made of it. The live model knows it until the next training."""
    services().enroll().remove_template(person_id, template_id)
    return Removed(message="removed")
