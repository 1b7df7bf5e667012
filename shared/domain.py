"""What facerelay talks about: candidates, faces, people, templates, detections.

Standard library and NumPy only. Boxes are `xyxy` in pixels, float32; times are UTC-aware, checked when made;
embeddings are L2-normalised float32 vectors of one embedder, named by `embedder_id`, and never leave that space.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from urllib.parse import quote, unquote

import numpy as np
from numpy.typing import NDArray

from shared.errors import InvalidInput, UnknownSchema
from shared.identity import SECOND_LOOK as SECOND_LOOK
from shared.identity import Embeddings as Embeddings
from shared.identity import Float32Array as Float32Array
from shared.identity import Identity as Identity
from shared.spelling import UNKNOWN as UNKNOWN
from shared.spelling import check_place_id as check_place_id
from shared.spelling import format_time as format_time
from shared.spelling import normalise_person_id as normalise_person_id
from shared.spelling import parse_moment as parse_moment
from shared.spelling import parse_time as parse_time
from shared.spelling import percent_safe as percent_safe
from shared.spelling import require_utc as require_utc
from shared.spelling import sha256_hex as sha256_hex
from shared.spelling import tag_safe as tag_safe
from shared.spelling import utc_now as utc_now

UInt8Array = NDArray[np.uint8]

CANDIDATE_SCHEMA: Final = 1

CROP_FORMATS: Final = {"jpeg": (".jpg", "image/jpeg"), "webp": (".webp", "image/webp")}
"""How an edge crop may be encoded: the suffix of its name, and its content type."""

CANDIDATES: Final = "candidates"
DATASET: Final = "dataset"
MODELS: Final = "models"
ERASURES: Final = "erasures"
GROUPS: Final = "groups"
SOURCES: Final = ("upload", "folder", "video", "camera", "group")
"""How a photograph came to be enrolled."""

BLOB_CONTAINERS: Final = (CANDIDATES, DATASET, MODELS, ERASURES, GROUPS)


@dataclass(frozen=True, slots=True, eq=False)
class Face:
    """A face that a detector found in one image.

    Attributes:
        box: (4,) float32, xyxy in pixels of the image it was found in; may reach past the image's edge.
        confidence: the detector's, 0 to 1.
        landmarks: (5, 2) float32 pixels, in the order left eye, right eye, nose, left and right corner of the mouth
            as they appear in the picture; None when the detector gives none.
    """

    box: Float32Array
    confidence: float
    landmarks: Float32Array | None = None

    @property
    def width_px(self) -> float:
        return float(self.box[2] - self.box[0])

    @property
    def height_px(self) -> float:
        return float(self.box[3] - self.box[1])


@dataclass(frozen=True, slots=True)
class Quality:
    """What can be said of a face's fitness for recognition, without knowing who it is.

    Attributes:
        size_px: the shorter side of the face box.
        sharpness: variance of the Laplacian over the face scaled to 112 px; below about 20 is a smear.
        yaw: −1 to 1, how far the nose is from midway between the eyes; 0 is frontal. None without landmarks.
        brightness: mean grey level of the face, 0 to 255.
        confidence: the detector's.
        pitch: −1 to 1, below 0 the face looks up, above 0 down. None without landmarks.
        roll: degrees by which the line of the eyes is turned clockwise in the picture, −180 to 180. None without
            landmarks.
        dark: share of the face's middle that is all but black, 0 to 1.
        bright: share of the face's middle that is all but white, 0 to 1.
        contrast: standard deviation of the middle's grey levels. None where it was not measured.

    The fields with defaults came later: what was stored before does not have them.
    """

    size_px: float
    sharpness: float
    yaw: float | None
    brightness: float
    confidence: float
    pitch: float | None = None
    roll: float | None = None
    dark: float = 0.0
    bright: float = 0.0
    contrast: float | None = None

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Quality:
        """Reads stored values; those that a later version added are left aside.

        >>> Quality.of({"size_px": 80, "sharpness": 9, "yaw": None, "brightness": 99, "confidence": 1, "new": 1}).yaw
        """
        return cls(**{name: values[name] for name in cls.__dataclass_fields__ if name in values})


@dataclass(frozen=True, slots=True)
class Candidate:
    """An unverified face crop from the edge, and where, when and by what it was taken.

    Attributes:
        captured_at: UTC, kept to the millisecond.
        track: id of the track on its camera, unique per camera and run of the gateway.
        shot: number of this crop within its track, from 0.
        frame_box: xyxy, whole pixels, of the face in the original frame.
        frame_size: (width, height) of the original frame.
        confidence: the edge detector's.
        sha256: of the crop's bytes.
        landmarks: five (x, y) points in pixels of the crop.
        format: of the crop's bytes, one of `CROP_FORMATS`. Metadata names it only where it is not JPEG.
        chosen: one of a visit's few best shots, and not every face of every frame; so that few are sent of a visit.
    """

    site: str
    camera: str
    location: str
    captured_at: datetime
    track: str
    shot: int
    frame_box: tuple[int, int, int, int]
    frame_size: tuple[int, int]
    detector: str
    confidence: float
    sha256: str
    uploader: str
    landmarks: tuple[tuple[float, float], ...] | None = None
    schema: int = CANDIDATE_SCHEMA
    format: str = "jpeg"
    chosen: bool = False

    def __post_init__(self) -> None:
        for kind in ("site", "camera", "location"):
            check_place_id(kind, getattr(self, kind))
        require_utc(self.captured_at)
        if self.format not in CROP_FORMATS:
            raise InvalidInput(f"candidate: no crop format {self.format[:20]!r}")

    @property
    def blob_name(self) -> str:
        """`{site}/{camera}/{yyyy}/{mm}/{dd}/{captured_at}-{track}-{n}.jpg` (or `.webp`), every part percent-safe."""
        day = self.captured_at.strftime("%Y/%m/%d")
        stamp = self.captured_at.strftime("%Y%m%dT%H%M%S") + f"{self.captured_at.microsecond // 1000:03d}Z"
        return (
            f"{percent_safe(self.site)}/{percent_safe(self.camera)}/{day}/"
            f"{stamp}-{percent_safe(self.track)}-{self.shot}{CROP_FORMATS[self.format][0]}"
        )

    def to_metadata(self) -> dict[str, str]:
        """Blob metadata: ASCII only, since it travels in HTTP headers; text values are percent-encoded."""
        metadata = {
            "schema": str(self.schema),
            "site": quote(self.site),
            "camera": quote(self.camera),
            "location": quote(self.location),
            "captured_at": format_time(self.captured_at),
            "track": quote(self.track),
            "shot": str(self.shot),
            "frame_box": ",".join(map(str, self.frame_box)),
            "frame_size": ",".join(map(str, self.frame_size)),
            "detector": quote(self.detector),
            "confidence": f"{self.confidence:.4f}",
            "sha256": self.sha256,
            "uploader": quote(self.uploader),
        }
        if self.format != "jpeg":
            metadata["format"] = self.format
        if self.chosen:
            metadata["chosen"] = "1"
        if self.landmarks is not None:
            metadata["landmarks"] = ",".join(f"{value:.1f}" for point in self.landmarks for value in point)
        return metadata

    def to_tags(self) -> dict[str, str]:
        """Blob index tags, by which candidates are found without reading them."""
        return {kind: tag_safe(getattr(self, kind)) for kind in ("site", "camera", "location")}

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, str]) -> Candidate:
        """Reads what `to_metadata` wrote. Unknown keys are accepted, in any letter case.

        Raises:
            UnknownSchema: the schema is missing, or not 1.
            InvalidInput: a value is missing or malformed.
        """
        values = {key.lower(): value for key, value in metadata.items()}
        schema = values.get("schema", "")
        if schema != str(CANDIDATE_SCHEMA):
            raise UnknownSchema(f"candidate schema {schema[:20]!r} is not {CANDIDATE_SCHEMA}; update this service")
        try:
            box = tuple(int(v) for v in values["frame_box"].split(","))
            size = tuple(int(v) for v in values["frame_size"].split(","))
            flat = [_finite(v) for v in values["landmarks"].split(",")] if values.get("landmarks") else None
            if len(box) != 4 or len(size) != 2 or (flat is not None and len(flat) != 10):
                raise InvalidInput("candidate metadata: frame_box, frame_size or landmarks of the wrong length")
            return cls(
                site=unquote(values["site"]),
                camera=unquote(values["camera"]),
                location=unquote(values["location"]),
                captured_at=parse_time(values["captured_at"]),
                track=unquote(values["track"]),
                shot=int(values["shot"]),
                frame_box=(box[0], box[1], box[2], box[3]),
                frame_size=(size[0], size[1]),
                detector=unquote(values["detector"]),
                confidence=_finite(values["confidence"]),
                sha256=values["sha256"],
                uploader=unquote(values["uploader"]),
                landmarks=tuple(zip(flat[::2], flat[1::2], strict=True)) if flat else None,
                format=values.get("format", "jpeg"),
                chosen=values.get("chosen") == "1",
            )
        except KeyError as error:
            raise InvalidInput(f"candidate metadata lacks {error.args[0]!r}") from error
        except ValueError as error:
            raise InvalidInput(f"candidate metadata: {error}") from error


def _finite(text: str) -> float:
    """Raises: ValueError: not a number, or one that nothing can be compared with."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"not a finite number: {text[:20]!r}")
    return value


def detection_id(blob_name: str, content_sha256: str, face_index: int) -> str:
    """The same crop delivered twice is one detection: its id depends on nothing else."""
    return sha256_hex(f"{blob_name}\n{content_sha256}\n{face_index}".encode())[:32]


@dataclass(frozen=True, slots=True, eq=False)
class Detection:
    """The stored event: this person, or a stranger, was before this camera at this time.

    Attributes:
        person_id: a person's id or `unknown`.
        frame_box: of the face in the original frame, as the edge saw it; None for images sent over HTTP.
        face_box: xyxy of the verified face, pixels of the candidate image.
        candidate: blob name, or None for images sent over HTTP.
        embedding: of unknown faces only, so that they can be grouped, and the shots of a visit judged together; None
            when that is switched off.
        named_by: `group` when the name came later, by the naming of a group; None when the matcher decided.
        previous_person: whom the matcher saw, of a detection that was changed later; None of one that was not.
    """

    id: str
    person_id: str
    similarity: float
    confidence: float
    threshold: float
    model_id: str
    embedder_id: str
    site: str
    camera: str
    location: str
    captured_at: datetime
    processed_at: datetime
    track: str | None
    frame_box: tuple[int, int, int, int] | None
    face_box: tuple[float, float, float, float]
    quality: Quality
    candidate: str | None
    embedding: Float32Array | None = None
    named_by: str | None = None
    previous_person: str | None = None

    def __post_init__(self) -> None:
        require_utc(self.captured_at)
        require_utc(self.processed_at)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a candidate ended, for every candidate: the proof that none was lost.

    Attributes:
        id: `detection_id(blob_name, sha256, -1)`, so that a second delivery writes nothing new.
        status: `detected` (at least one detection), `rejected` (no usable face), or `failed` (a permanent error).
        reason: why, in a stable word; None when detected.
        faces: how many detections it gave.
    """

    id: str
    candidate: str
    site: str
    camera: str
    status: str
    reason: str | None
    faces: int
    processed_at: datetime


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody enrolled. The id is all that recognition needs; nothing else is kept here."""

    person_id: str
    created_at: datetime


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """A stored reference embedding, with its provenance.

    Attributes:
        template_id: `template_key(image, embedder_id)`: the same photo adds nothing twice.
        embedding: (D,) float32, L2-normalised.
        image: blob name in `dataset`: `{person_id}/{sha256}.jpg`.
        face_box: xyxy float pixels of the stored image.
        landmarks: five points in pixels of the stored image, or None.
        source: one of `SOURCES`.
        kept: an operator has said that it is this person, whatever the gallery's review thinks.
    """

    template_id: str
    person_id: str
    embedder_id: str
    embedding: Float32Array
    image: str
    face_box: tuple[float, float, float, float]
    landmarks: tuple[tuple[float, float], ...] | None
    quality: Quality
    source: str
    created_at: datetime
    kept: bool = False


def template_key(image: str, embedder_id: str) -> str:
    """Id of the template that `embedder_id` makes of the stored image of that blob name."""
    return sha256_hex(f"{image}\n{embedder_id}".encode())[:32]


def gallery_hash(template_ids: list[tuple[str, str]]) -> str:
    """One word for the state of a gallery: hash of its sorted (person_id, template_id) pairs.

    >>> gallery_hash([("b", "2"), ("a", "1")]) == gallery_hash([("a", "1"), ("b", "2")])
    True
    """
    return sha256_hex(json.dumps(sorted(template_ids)).encode())[:16]


@dataclass(frozen=True, slots=True)
class Job:
    """Long work that an HTTP caller may ask after.

    Attributes:
        status: `queued`, `running`, `succeeded` or `failed`.
        progress: 0 to 1.
        result: figures of a job that succeeded.
        error: `code: message` of one that failed.
    """

    job_id: str
    kind: str
    status: str
    created_at: datetime
    updated_at: datetime
    progress: float = 0.0
    result: Mapping[str, Any] = field(default_factory=dict)
    error: str | None = None

    @property
    def finished(self) -> bool:
        return self.status in ("succeeded", "failed")
