"""HTTP routes of training, compatible with the seed's, and the status of jobs."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Path, Response
from pydantic import BaseModel, Field

from functions.guard import requires
from functions.services import services
from functions.train.service import JobKind, job_document
from shared.access import Scope
from shared.errors import NotFound

router = APIRouter(tags=["train"], dependencies=[requires(Scope.OPERATOR)])

STATUS_PATH = "/api/v1/jobs/{job_id}"


class JobStatus(BaseModel):
    """Long work, as it stands."""

    job_id: str = Field(examples=["0123456789abcdef0123456789abcdef"])
    kind: str = Field(examples=["fit"], description="`embed`, `fit`, `embed_and_fit` or `migrate`")
    status: str = Field(examples=["succeeded"], description="`queued`, `running`, `succeeded` or `failed`")
    progress: float = Field(ge=0, le=1, examples=[1.0])
    created_at: str = Field(examples=["2026-01-02T03:04:05.678Z"])
    updated_at: str = Field(examples=["2026-01-02T03:04:09.012Z"])
    result: dict[str, Any] = Field(
        examples=[{"model_id": "20260102T030405.678900Z-0a1b", "people": 40, "templates": 520}]
    )
    error: str | None = Field(examples=[None], description="`code: message` of one that failed")


class OperatingPoint(BaseModel):
    """Where a person begins and a stranger ends."""

    threshold: float = Field(examples=[0.62], description="Smallest similarity that is given a name.")
    slope: float = Field(examples=[18.0])
    midpoint: float = Field(examples=[0.62], description="Similarity at which confidence is one half.")
    cameras: dict[str, float] = Field(
        default={}, examples=[{"museum/door": 0.66}], description="Thresholds of single cameras, by `site/camera`."
    )
    best_shot_margin: float = Field(
        default=0.0,
        examples=[0.05],
        description="How much lower the threshold is, at most, for a gateway's best shots of somebody who stands out.",
    )
    visit_margin: float = Field(
        default=0.0,
        examples=[0.1],
        description="The same for several best shots of one visit together that resemble the same person.",
    )


class ManifestDocument(BaseModel):
    """What a model is, was made from and is worth."""

    model_id: str = Field(examples=["20260102T030405.678900Z-0a1b"])
    embedder: dict[str, Any] = Field(examples=[{"embedder_id": "facenet-vggface2.2", "dimension": 512}])
    people: int = Field(examples=[40], description="How many it knows.")
    templates: int = Field(examples=[520])
    classifier: dict[str, Any] = Field(examples=[{"kind": "prototype+svm", "svm_c": 1.0}])
    operating: OperatingPoint
    calibration: dict[str, Any] = Field(examples=[{"calibrated": True, "target_fpir": 0.01}])
    evaluation: dict[str, Any] = Field(examples=[{"people": 40, "templates": 518, "set_aside": {"duplicate": 2}}])
    versions: dict[str, str] = Field(examples=[{"python": "3.13.0", "facerelay": "0.1.0"}])


class LiveModelFacts(BaseModel):
    """The live model."""

    manifest: ManifestDocument


class StoredModel(BaseModel):
    """A model that is kept."""

    model_id: str = Field(
        examples=["20260102T030405.678900Z-0a1b"], description="Begins with the time at which its fit read the gallery."
    )
    live: bool = Field(examples=[True])


class StoredModels(BaseModel):
    """Every model that is kept, newest first."""

    models: list[StoredModel]


_ANSWERS: dict[int | str, dict[str, Any]] = {
    202: {"model": JobStatus, "description": "Still at it; ask the URL in `Location`"},
    500: {"model": JobStatus, "description": "The job failed; `error` says why"},
}


def _run(kind: JobKind, response: Response) -> JobStatus:
    """Queues a job and waits for it, up to the HTTP limit."""
    requests = services().train_requests()
    job = requests.wait(requests.request(kind).job_id, services().runtime.settings.train_http_wait_s)
    if not job.finished:
        response.status_code = 202
        response.headers["Location"] = STATUS_PATH.format(job_id=job.job_id)
    elif job.status == "failed":
        response.status_code = 500
    else:
        services().follow_model()
    return JobStatus(**job_document(job))


@router.post("/model/generate-emb", responses=_ANSWERS, summary="Make every template anew from its stored image")
def generate_embeddings(response: Response) -> JobStatus:
    """Of the embedder that answers. A change of the embedder makes the other's by itself."""
    return _run("embed", response)


@router.post("/model/optimized-train", responses=_ANSWERS, summary="Refit from stored templates")
def optimized_train(response: Response) -> JobStatus:
    """Fits a model to the stored templates and publishes it, with no downtime."""
    return _run("fit", response)


@router.post("/model/train", responses=_ANSWERS, summary="Re-embed, then refit")
def train(response: Response) -> JobStatus:
    """Makes every template anew, fits a model and publishes it, with no downtime."""
    return _run("embed_and_fit", response)


@router.get(STATUS_PATH, summary="How a job stands")
def job_status(job_id: Annotated[str, Path(examples=["0123456789abcdef0123456789abcdef"])]) -> JobStatus:
    """For callers that were answered 202."""
    return JobStatus(**job_document(services().train_requests().job(job_id)))


@router.get("/api/v1/models", summary="Every model that is kept")
def models() -> StoredModels:
    """Newest first. One of them is live, once a training has published it."""
    registry = services().runtime.registry
    live = registry.pointer()
    return StoredModels(
        models=[
            StoredModel(model_id=model_id, live=live is not None and model_id == live.model_id)
            for model_id in reversed(registry.list_ids())
        ]
    )


@router.get("/api/v1/models/current", summary="The live model")
def current_model() -> LiveModelFacts:
    """The manifest of the live model: threshold, target rate, what it was calibrated on, how many people."""
    registry = services().runtime.registry
    pointer = registry.pointer()
    if pointer is None:
        raise NotFound("no model was published yet; enrol people and train")
    manifest = registry.manifest(pointer)
    return LiveModelFacts(
        manifest=ManifestDocument(
            model_id=manifest.model_id,
            embedder=dict(manifest.embedder),
            people=len(manifest.templates),
            templates=sum(manifest.templates.values()),
            classifier=dict(manifest.classifier),
            operating=OperatingPoint(**manifest.operating),
            calibration=dict(manifest.calibration),
            evaluation=dict(manifest.evaluation),
            versions=dict(manifest.versions),
        )
    )
