"""HTTP routes of recognition, compatible with the seed's."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any

from fastapi import APIRouter, Depends, File, Form, Query, UploadFile
from pydantic import BaseModel, Field

from functions.guard import requires
from functions.recognize.service import Provenance, RecognizedFace
from functions.services import services
from shared.access import Caller, Scope
from shared.domain import format_time

router = APIRouter(prefix="/face-recognition", tags=["recognize"])

HTTP_SITE = "http"
"""`site` of detections whose image came over HTTP and not from a gateway."""


CAMERA = "The camera, such as `entrance`; of the query and the form, the form wins."
LOCATION = "Where it is, such as `lobby`; the form wins."
PREDICTIONS = "How probable everybody enrolled is; the form wins."
REJECTED = "Tell of faces that cannot be recognised too, and why; the form wins."


class Prediction(BaseModel):
    """A person's id, or `unknown`, and how probable it is."""

    label: str = Field(examples=["harrison_ford"])
    confidence: float = Field(
        ge=0, le=1, examples=[0.97], description="Calibrated probability that the face is the nearest enrolled person."
    )


class BoundingBox(BaseModel):
    """Pixels of the image that was sent, EXIF orientation applied."""

    left: float = Field(examples=[412.5])
    top: float = Field(examples=[96.0])
    right: float = Field(examples=[498.0])
    bottom: float = Field(examples=[210.3])


class FaceResult(BaseModel):
    """One face."""

    top_prediction: Prediction
    bounding_box: BoundingBox
    all_predictions: list[Prediction] | None = Field(description="Everybody enrolled; only with include_predictions.")


class RejectedFace(BaseModel):
    """A face that cannot be recognised."""

    reason: str = Field(examples=["too_dark"], description="Why, in a stable word.")
    bounding_box: BoundingBox


class Results(BaseModel):
    """Every face of an image, most confident first."""

    faces: list[FaceResult]
    rejected: list[RejectedFace] | None = Field(
        None, description="Faces that cannot be recognised; only with include_rejected."
    )


class Accepted(BaseModel):
    """What was done with the image."""

    message: str = Field(examples=["2 faces stored", "1 faces stored, 1 rejected: too_dark"])


def _either(form: str | None, query: str | None, default: str) -> str:
    return form or query or default


class Request:
    """The parameters that all recognition routes share, each accepted as a form field or in the query."""

    def __init__(
        self,
        image: Annotated[UploadFile, File(description="JPEG, PNG, WebP or BMP")],
        camera_id: Annotated[str | None, Form(max_length=64, description=CAMERA)] = None,
        location_id: Annotated[str | None, Form(max_length=64, description=LOCATION)] = None,
        include_predictions: Annotated[bool | None, Form(description=PREDICTIONS)] = None,
        query_camera: Annotated[str | None, Query(alias="camera_id", max_length=64, description=CAMERA)] = None,
        query_location: Annotated[str | None, Query(alias="location_id", max_length=64, description=LOCATION)] = None,
        query_predictions: Annotated[bool | None, Query(alias="include_predictions", description=PREDICTIONS)] = None,
        include_rejected: Annotated[bool | None, Form(description=REJECTED)] = None,
        query_rejected: Annotated[bool | None, Query(alias="include_rejected", description=REJECTED)] = None,
    ) -> None:
        self.image = image
        self.camera = _either(camera_id, query_camera, "unspecified")
        self.location = _either(location_id, query_location, "unspecified")
        self.include_predictions = bool(include_predictions if include_predictions is not None else query_predictions)
        self.include_rejected = bool(include_rejected if include_rejected is not None else query_rejected)

    def data(self) -> bytes:
        return self.image.file.read()

    def where(self, caller: Caller) -> Provenance:
        """A device acts for its own site, whatever it says."""
        return Provenance(caller.site or HTTP_SITE, self.camera, self.location)


Parameters = Annotated[Request, Depends()]
Recogniser = Annotated[Caller, requires(Scope.DEVICE, Scope.OPERATOR)]


def bounding_box(found: RecognizedFace) -> BoundingBox:
    """To a tenth of a pixel."""
    left, top, right, bottom = (round(float(edge), 1) for edge in found.face.box)
    return BoundingBox(left=left, top=top, right=right, bottom=bottom)


def face_result(found: RecognizedFace, *, include_predictions: bool) -> FaceResult:
    """One recognised face as the seed's programs read it."""
    everybody = found.model.confidences(found.embedding) if include_predictions else None
    return FaceResult(
        top_prediction=Prediction(label=found.identity.person_id, confidence=found.identity.confidence),
        bounding_box=bounding_box(found),
        all_predictions=[Prediction(label=who, confidence=p) for who, p in everybody] if everybody else None,
    )


def usable(faces: list[RecognizedFace]) -> list[RecognizedFace]:
    """The faces that the quality gate let through."""
    return [found for found in faces if found.rejected is None]


def told(count: int, done: str, faces: Iterable[RecognizedFace]) -> Accepted:
    """How many faces were stored or sent, and why the others were not."""
    reasons = [found.rejected for found in faces if found.rejected is not None]
    rejected = f", {len(reasons)} rejected: {', '.join(sorted(set(reasons)))}" if reasons else ""
    return Accepted(message=f"{count} faces {done}{rejected}")


@router.get("/get-results", response_model=Results, response_model_exclude_unset=True, include_in_schema=False)
@router.post("/get-results", response_model=Results, response_model_exclude_unset=True, summary="Who is in this image")
def get_results(request: Parameters, caller: Recogniser) -> Results:
    """Recognises every face of the image. Nothing is stored."""
    faces = services().recognizer().recognize(request.data())
    named = [face_result(found, include_predictions=request.include_predictions) for found in usable(faces)]
    if not request.include_rejected:
        return Results(faces=named)
    rejected = [(found, found.rejected) for found in faces if found.rejected is not None]
    return Results(
        faces=named,
        rejected=[RejectedFace(reason=reason, bounding_box=bounding_box(found)) for found, reason in rejected],
    )


@router.post("/store-result", response_model=Accepted, include_in_schema=False)
@router.post("/store-results", response_model=Accepted, summary="Recognise and store as detections")
def store_results(request: Parameters, caller: Recogniser) -> Accepted:
    """Recognises every face of the image and stores a detection for each, at this camera and location, now."""
    found = services().detections().store_image(request.data(), request.where(caller))
    stored = sum(detection is not None for _, detection in found)
    return told(stored, "stored", (face for face, _ in found))


@router.post("/send-result", response_model=Accepted, include_in_schema=False)
@router.post("/send-results", response_model=Accepted, summary="Recognise and send to the webhook")
def send_results(request: Parameters, caller: Annotated[Caller, requires(Scope.OPERATOR)]) -> Accepted:
    """Recognises every face of the image and posts the results to the configured webhook. Nothing is stored."""
    runtime = services().runtime
    found = services().recognizer().recognize(request.data())
    faces = usable(found)
    document: dict[str, Any] = {
        "camera_id": request.camera,
        "location_id": request.location,
        "timestamp": format_time(runtime.clock()),
        "faces": [face_result(found, include_predictions=False).model_dump() for found in faces],
    }
    runtime.notifier.send(document)
    return told(len(faces), "sent", found)


@router.post("/dry-run", response_model=Accepted, summary="Receive only, for measuring the network")
def dry_run(request: Parameters, caller: Recogniser) -> Accepted:
    """Reads the image and does nothing with it."""
    return Accepted(message=f"{len(request.data())} bytes received")
