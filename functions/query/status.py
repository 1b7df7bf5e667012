"""HTTP routes for whoever operates the service: health and metrics."""

from __future__ import annotations

from fastapi import APIRouter, Response
from pydantic import BaseModel, Field

from functions.guard import requires
from functions.query.health import Finding
from functions.services import services
from shared.access import Scope
from shared.errors import NotFound
from shared.matching.model import NO_MODEL, fitted_at

router = APIRouter(tags=["status"])

PROMETHEUS_TEXT = "text/plain; version=0.0.4; charset=utf-8"


class Health(BaseModel):
    """Whether this process can do its work. No more than a load balancer needs, since anybody may ask."""

    live: bool = Field(examples=[True], description="Always true: it answers.")
    ready: bool = Field(examples=[True])
    reason: str | None = Field(examples=["weights: model_unavailable"], description="What is wrong, in stable words.")


class Part(BaseModel):
    """How one of the parts is that the service needs."""

    name: str = Field(examples=["blobs"])
    ready: bool = Field(examples=[True])
    reason: str | None = Field(examples=["store_unavailable"])
    detail: str = Field(examples=[""])


class HealthDetails(Health):
    """The same, part by part, and how the live model stands to the gallery."""

    parts: list[Part]
    model_id: str = Field(examples=["20260102T030405.678900Z-0a1b"], description="`none` before the first training.")
    model_age_s: float | None = Field(examples=[5400.0], description="Since the model's fit read the gallery.")
    gallery: str = Field(
        examples=["current"],
        description="`current` when the model knows the gallery as it is, `changed` when a training is due, `unknown` "
        "when the store does not say.",
    )


def _health(findings: list[Finding], response: Response) -> Health:
    reasons = [f"{finding.name}: {finding.reason}" for finding in findings if finding.reason]
    response.status_code = 503 if reasons else 200
    return Health(live=True, ready=not reasons, reason="; ".join(reasons) or None)


@router.get(
    "/health",
    summary="Can this process do its work",
    responses={503: {"model": Health, "description": "It cannot, for the reason given"}},
)
def health(response: Response) -> Health:
    """Weights, live model, blobs, documents and queues: 200 when all can be used, 503 with the reason when not."""
    return _health(services().health().findings(), response)


@router.get(
    "/api/v1/health",
    dependencies=[requires(Scope.OPERATOR)],
    summary="Can this process do its work, in detail",
    responses={503: {"model": HealthDetails, "description": "It cannot, for the reason given"}},
)
def health_details(response: Response) -> HealthDetails:
    """`/health` part by part, with the live model, its age, and whether the gallery has changed since."""
    now = services()
    findings = now.health().findings()
    model_id = next((f.detail for f in findings if f.name == "model" and f.reason is None), NO_MODEL)
    fitted = fitted_at(model_id)
    (gallery,) = now.gallery_health().findings()
    return HealthDetails(
        **_health(findings, response).model_dump(),
        parts=[Part(name=f.name, ready=f.reason is None, reason=f.reason, detail=f.detail) for f in findings],
        model_id=model_id,
        model_age_s=(now.runtime.clock() - fitted).total_seconds() if fitted else None,
        gallery=gallery.detail if gallery.reason is None else "unknown",
    )


@router.get(
    "/metrics",
    dependencies=[requires(Scope.OPERATOR)],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
    summary="Metrics for Prometheus",
)
def metrics() -> Response:
    """In Prometheus' text format; 404 where nothing collects them, as in the cloud."""
    page = services().runtime.metrics_page
    if page is None:
        raise NotFound("no metrics are collected here for Prometheus")
    return Response(page(), media_type=PROMETHEUS_TEXT)
