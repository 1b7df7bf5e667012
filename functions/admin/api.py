"""HTTP routes of administration: tokens, the audit record, and upload grants for gateways."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated

from fastapi import APIRouter, Path, Query, Request
from pydantic import BaseModel, Field

from functions.guard import name_target, requires
from functions.services import services
from shared.access import Scope, Token
from shared.domain import format_time

router = APIRouter(prefix="/api/v1")

admin_only = [requires(Scope.ADMIN)]


class NewToken(BaseModel):
    """What a token shall be for."""

    scope: Scope = Field(examples=["device"])
    site: str | None = Field(
        None, max_length=64, examples=["headquarters"], description="Of a device: the only site that it acts for."
    )
    description: str = Field("", max_length=200, examples=["gateway in the lobby"])
    lifetime_days: int = Field(90, ge=1, le=3_650, examples=[90])


class TokenDocument(BaseModel):
    """A token without its secret."""

    token_id: str = Field(examples=["0123456789ab"])
    scope: Scope = Field(examples=["device"])
    site: str | None = Field(examples=["headquarters"])
    description: str = Field(examples=["gateway in the lobby"])
    created_at: str = Field(examples=["2026-01-02T03:04:05.678Z"])
    expires_at: str = Field(examples=["2026-04-02T03:04:05.678Z"])
    revoked_at: str | None = Field(examples=[None])
    last_used_at: str | None = Field(examples=["2026-01-03T03:04:05.678Z"], description="To the minute.")


class IssuedToken(TokenDocument):
    """A new token. The text is shown here and never again."""

    token: str = Field(examples=["frl_0123456789ab_" + 43 * "x"])


class Tokens(BaseModel):
    """Every token, oldest first."""

    tokens: list[TokenDocument]


class Revoked(BaseModel):
    """A token that is not valid any more."""

    message: str = Field(examples=["revoked"])


class AuditDocument(BaseModel):
    """An administrative call."""

    id: str = Field(examples=["5f0c0f3a9d5e4d4f8f3c2b1a09876543"])
    at: str = Field(examples=["2026-01-02T03:04:05.678Z"])
    actor: str = Field(examples=["0123456789ab"], description="Id of the token, or `loopback`.")
    action: str = Field(examples=["DELETE /dataset/{ID}"])
    target: dict[str, str] = Field(examples=[{"ID": "harrison_ford"}])
    status: int = Field(examples=[200])


class AuditTrail(BaseModel):
    """One page, newest first. `continuation` asks for the next; null on the last."""

    entries: list[AuditDocument]
    continuation: str | None = Field(examples=[None])


class UploadGrantDocument(BaseModel):
    """Where a gateway may write candidates, and until when."""

    url: str = Field(
        examples=["https://example.blob.core.windows.net/candidates?sv=…&sig=…"],
        description="Of the container, with a signature that lets its holder create blobs: not read, list, overwrite "
        "or delete them. Keep it as secret as a password.",
    )
    expires_at: str = Field(examples=["2026-01-02T04:04:05.678Z"])


def token_document(token: Token) -> TokenDocument:
    """A token as JSON tells it."""
    return TokenDocument(
        token_id=token.token_id,
        scope=token.scope,
        site=token.site,
        description=token.description,
        created_at=format_time(token.created_at),
        expires_at=format_time(token.expires_at),
        revoked_at=format_time(token.revoked_at) if token.revoked_at else None,
        last_used_at=format_time(token.last_used_at) if token.last_used_at else None,
    )


@router.post("/tokens", status_code=201, tags=["access"], dependencies=admin_only, summary="Make a token")
def create_token(request: Request, wanted: NewToken) -> IssuedToken:
    """The answer holds the token's text, which is shown this once."""
    text, token = (
        services()
        .tokens()
        .create(
            wanted.scope,
            lifetime=timedelta(days=wanted.lifetime_days),
            site=wanted.site,
            description=wanted.description,
        )
    )
    name_target(request, token_id=token.token_id, scope=token.scope)
    return IssuedToken(token=text, **token_document(token).model_dump())


@router.get("/tokens", tags=["access"], dependencies=admin_only, summary="Every token")
def list_tokens() -> Tokens:
    """Expired and revoked ones too, with their last use."""
    return Tokens(tokens=[token_document(token) for token in services().tokens().all()])


@router.delete("/tokens/{token_id}", tags=["access"], dependencies=admin_only, summary="Revoke a token")
def revoke_token(token_id: Annotated[str, Path(max_length=40, examples=["0123456789ab"])]) -> Revoked:
    """At once here; other processes may trust it for `FACERELAY_TOKEN_CACHE_S` longer."""
    services().tokens().revoke(token_id)
    services().authenticator().forget(token_id)
    return Revoked(message="revoked")


@router.get("/audit", tags=["access"], dependencies=admin_only, summary="Who changed what")
def audit(
    page_size: Annotated[int, Query(ge=1, le=1_000, description="Most on one page")] = 100,
    continuation: Annotated[str | None, Query(max_length=1_000, description="Of the page before")] = None,
) -> AuditTrail:
    """Every call that enrolled, trained, removed or managed, newest first, in pages."""
    page = services().runtime.stores.audit.list(page_size=page_size, continuation=continuation)
    return AuditTrail(
        entries=[
            AuditDocument(
                id=entry.id,
                at=format_time(entry.at),
                actor=entry.actor,
                action=entry.action,
                target=dict(entry.target),
                status=entry.status,
            )
            for entry in page.entries
        ],
        continuation=page.continuation,
    )


@router.post(
    "/uploads",
    tags=["recognize"],
    dependencies=[requires(Scope.DEVICE)],
    summary="A short-lived way to write candidates",
)
def grant_upload() -> UploadGrantDocument:
    """For a gateway without an identity of its own. 409 on the local backend, which has no addresses to write to.

    The grant covers the whole container of candidates, whatever site the token is for: blobs can be created and index
    tags set under any name, and nothing can be read, listed, overwritten or deleted.
    """
    runtime = services().runtime
    grant = runtime.upload_grants.grant(timedelta(minutes=runtime.settings.upload_sas_minutes))
    return UploadGrantDocument(url=grant.url, expires_at=format_time(grant.expires_at))
