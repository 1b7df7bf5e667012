"""HTTP routes of changing the embedder."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import BaseModel, Field

from functions.guard import name_target, requires
from functions.services import services
from shared.access import Scope
from shared.domain import format_time
from shared.errors import NotFound
from shared.migration import Migration

PATH = "/api/v1/models/migration"

router = APIRouter(prefix=PATH, tags=["migration"], dependencies=[requires(Scope.ADMIN)])


class NewMigration(BaseModel):
    """Where to."""

    to: str = Field(max_length=64, examples=["sface"], description="Name of a pack.")
    switch: bool = Field(False, examples=[False], description="Do not wait for anybody to look at the comparison.")
    compare: int = Field(
        500, ge=1, le=5_000, examples=[500], description="Most crops that both models are compared on."
    )


class Figures(BaseModel):
    """How two models answered to the same faces."""

    compared: int = Field(examples=[480])
    agreed: int = Field(examples=[471])
    agreement: float | None = Field(examples=[0.981], description="Null when nothing could be compared.")
    named: dict[str, float | None] = Field(
        examples=[{"old": 0.62, "new": 0.64}], description="Share of the faces that each would name."
    )
    left_out: int = Field(examples=[20], description="Crops in which one of the two saw no usable face.")


class Change(BaseModel):
    """Faces that would get another name."""

    # `from` is a keyword of the language.
    was: str = Field(alias="from", serialization_alias="from", examples=["harrison_ford"])
    to: str = Field(examples=["unknown"])
    count: int = Field(examples=[3])
    of: Literal["crops", "enrolled"] = Field(examples=["crops"])
    ids: list[str] = Field(
        examples=[["5f0c0f3a9d5e4d4f8f3c2b1a09876543"]],
        description="Of the crops' detections, or of the templates; at most 20.",
    )


class Comparison(BaseModel):
    """The shadow comparison: what would change, found out before anything does."""

    crops: Figures = Field(description="The last crops of the cameras.")
    enrolled: Figures = Field(description="Enrolled images, left out of both in turn; where there are few crops.")
    changes: list[Change] = Field(description="The most important first: another name, a lost one, a new one.")
    models: dict[str, dict[str, Any]] = Field(
        examples=[{"old": {"model_id": "20260102T030405.678900Z-0a1b"}, "new": {"operating": {"threshold": 0.4}}}],
        description="`old` and `new`: what the manifests say of threshold, calibration and evaluation.",
    )


class MigrationDocument(BaseModel):
    """A change of the embedder, as it stands."""

    migration_id: str = Field(examples=["0123456789abcdef0123456789abcdef"])
    job_id: str = Field(examples=["0123456789abcdef0123456789abcdef"])
    source: str = Field(examples=["facenet-casia-20180408.1"], description="The embedder that answered before.")
    target: str = Field(examples=["sface-2021dec.1"])
    rules: str = Field(examples=["facenet-casia-20180408.1"], description="The one of them that answers.")
    state: str = Field(
        examples=["ready"],
        description="`embedding`, `fitted`, `ready`, `switched`, `finished`, `rolled_back` or `cancelled`",
    )
    wish: str | None = Field(examples=[None], description="What was asked for and is not done yet.")
    images: int = Field(examples=[520])
    embedded: int = Field(examples=[520], description="Images that have a template of the target.")
    skipped: int = Field(examples=[0], description="Images of which none could be made.")
    source_model: str | None = Field(examples=[None], description="What a rollback leads back to.")
    target_model: str | None = Field(examples=["20260102T030405.678900Z-0a1b"])
    rollback: str | None = Field(
        examples=[None], description="`exact`: the very model came back. `refitted`: it had to be fitted anew."
    )
    started_at: str = Field(examples=["2026-01-02T03:04:05.678Z"])
    updated_at: str = Field(examples=["2026-01-02T03:04:09.012Z"])
    progress: float = Field(ge=0, le=1, examples=[1.0])
    error: str | None = Field(examples=[None], description="`code: message` when the work on it failed.")
    comparison: Comparison | None = Field(examples=[None])


_LATER: dict[int | str, dict[str, Any]] = {
    202: {"model": MigrationDocument, "description": "Still at it; ask again with GET"}
}


def migration_document(migration: Migration) -> MigrationDocument:
    """A change of the embedder as JSON tells it."""
    progress, error = 0.0, None
    try:
        job = services().migration_requests().job(migration)
        progress, error = (0.0 if job.status == "failed" else job.progress), job.error
    except NotFound:  # not sent yet
        pass
    return MigrationDocument(
        migration_id=migration.migration_id,
        job_id=migration.job_id,
        source=migration.source,
        target=migration.target,
        rules=migration.rules,
        state=migration.state,
        wish=migration.wish,
        images=migration.images,
        embedded=migration.embedded,
        skipped=len(migration.skipped),
        source_model=migration.source_model,
        target_model=migration.target_model,
        rollback=migration.rollback,
        started_at=format_time(migration.started_at),
        updated_at=format_time(migration.updated_at),
        progress=progress,
        error=error,
        comparison=None if migration.report is None else Comparison.model_validate(migration.report),
    )


@router.get("", summary="How the change of the embedder stands")
def get_migration() -> MigrationDocument:
    """The latest one, with the comparison once it is made; 404 before the first."""
    return migration_document(services().migration_requests().current())


@router.post("", status_code=202, summary="Begin to change the embedder")
def start(request: Request, wanted: NewMigration, response: Response) -> MigrationDocument:
    """Templates are made of every stored image, a model is fitted and compared, while the old one answers."""
    name_target(request, to=wanted.to)
    begun = services().migration_requests().start(wanted.to, switch=wanted.switch, compare=wanted.compare)
    response.headers["Location"] = PATH
    return migration_document(begun)


@router.post("/{step}", responses=_LATER, summary="Take the next step of it")
def step(
    step: Annotated[Literal["switch", "rollback", "finish", "cancel"], Path(examples=["switch"])], response: Response
) -> MigrationDocument:
    """`switch` lets the new model answer, `rollback` the old one again; `finish` and `cancel` delete what idles."""
    requests = services().migration_requests()
    migration = requests.wait(requests.ask(step), services().runtime.settings.train_http_wait_s)
    if migration.wish is not None:
        response.status_code = 202
        response.headers["Location"] = PATH
    else:
        services().follow_model()
    return migration_document(migration)
