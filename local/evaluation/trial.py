"""The trial itself: people are enrolled, the matcher trained and photographs searched for, by the product's services.

They run over an embedded store in a temporary folder that is deleted at the end, so settings, quality gates, enrolment,
training and recognition are those of `facerelay serve`, and no gallery in use is touched.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from rich.console import Console

from functions.recognize.service import RecognizedFace, most_central
from functions.services import Services
from local.evaluation.cores import on_all_cores
from local.evaluation.metrics import rank_of
from local.evaluation.photographs import Photo, Plan
from shared.adapters.local import LocalStore
from shared.bootstrap import Runtime, stores_over
from shared.domain import DATASET, Float32Array, UInt8Array, sha256_hex
from shared.errors import InvalidInput, PermanentError, UnusableFace
from shared.matching.model import MatcherModel
from shared.messages import TrainRequest
from shared.settings import Settings
from shared.vision.decode import ImageLimits, decode_image
from shared.vision.detectors import Pack

NOT_ENROLLED: Final = "not_enrolled"
ALREADY_ENROLLED: Final = "already_enrolled"
REASONS: Final[Mapping[str, str]] = {
    "no_face": "no face was found",
    "several_faces": "several faces as large as each other",
    "too_small": "the face is too small",
    "too_blurred": "the face is blurred",
    "low_confidence": "not clearly a face",
    "turned_away": "the face is turned away",
    "invalid_image": "not a picture, or damaged",
    "image_too_large": "the picture is too large",
    NOT_ENROLLED: "no photograph of this person could be enrolled",
    ALREADY_ENROLLED: "the very same photograph was enrolled",
}
"""What a reason means, for people."""


@dataclass(frozen=True, slots=True)
class Failure:
    """A photograph that could not be used, and the reason as a stable word."""

    photo: Photo
    reason: str


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """What one photograph found.

    Attributes:
        mated: whether the person it shows was to be enrolled.
        failure: why nobody was searched for, or None.
        others: faces in the picture besides the most central, which is the one that counts.
        box: (4,) of the face, pixels of the upright picture.
        named: id of the person who was named; None for unknown.
        nearest: id of the person who came first, named or not.
        similarity: of the nearest; −inf after a failure.
        confidence: of the answer, 0 to 1; 0 after a failure.
        own: similarity to the person it shows; nan where there is none.
        rank: place of the person it shows, from 1; 0 where there is none.
        crop: of the enrolled photograph that it resembles most, when somebody was named wrongly: JPEG, and face box.
    """

    photo: Photo
    mated: bool
    failure: str | None = None
    others: int = 0
    box: Float32Array | None = None
    named: str | None = None
    nearest: str | None = None
    similarity: float = float("-inf")
    confidence: float = 0.0
    own: float = float("nan")
    rank: int = 0
    crop: tuple[bytes, tuple[float, float, float, float]] | None = None

    @property
    def right(self) -> bool:
        """The person it shows came first."""
        return self.rank == 1


@dataclass(frozen=True, slots=True, eq=False)
class Trial:
    """Everything that happened.

    Attributes:
        model: the matcher that answered.
        calibration: what its threshold rests on, from the bundle's manifest.
        templates: how many there are.
        refused: gallery photographs that could not be enrolled.
        repeated: gallery photographs that show the same picture as another, or all but.
        searches: in the order of the plan's probes; without those that were enrolled themselves.
        left_out: those.
    """

    plan: Plan
    pack: str
    embedder_id: str
    target_fpir: float
    model: MatcherModel
    calibration: Mapping[str, Any]
    templates: int
    refused: tuple[Failure, ...]
    repeated: int
    searches: tuple[Search, ...]
    left_out: tuple[Failure, ...] = field(default=())


def run_trial(plan: Plan, settings: Settings, console: Console, *, pack: Pack | None = None) -> Trial:
    """Enrols, trains and searches.

    Args:
        settings: pack, gates, target; the store they name is not touched.
        console: where bars are drawn.
        pack: stand-ins for detector and embedder.

    Raises:
        InvalidInput: no photograph could be enrolled.
        ConfigurationError: there is no such pack.
        ModelUnavailable: the weights are not there.
    """
    with tempfile.TemporaryDirectory(prefix="facerelay-evaluation-") as folder:
        own = settings.model_copy(update={"backend": "local", "data_dir": Path(folder), "model_poll_s": 3_600.0})
        with closing(LocalStore(Path(folder))) as store:
            return _Bench(plan, Runtime(own, stores=stores_over(store), pack=pack), console).run()


class _Bench:
    """A service of the trial's own."""

    def __init__(self, plan: Plan, runtime: Runtime, console: Console) -> None:
        self._plan = plan
        self._runtime = runtime
        self._services = Services(runtime)
        self._console = console
        self._digests: set[str] = set()

    def run(self) -> Trial:
        embedder = self._runtime.pack.embedder  # what is missing is no fault of the first photograph
        refused, repeated = self._enrol()
        result = self._train()
        model = self._runtime.live_model.refresh()
        found = on_all_cores(lambda photo: self._search(photo, model), self._plan.probes, "searching", self._console)
        settings = self._runtime.settings
        return Trial(
            plan=self._plan,
            pack=settings.pack,
            embedder_id=embedder.embedder_id,
            target_fpir=settings.target_fpir,
            model=model,
            calibration=result["calibration"],
            templates=result["templates"],
            refused=tuple(refused),
            repeated=repeated,
            searches=tuple(s for s in found if s.failure != ALREADY_ENROLLED),
            left_out=tuple(Failure(s.photo, s.failure) for s in found if s.failure == ALREADY_ENROLLED),
        )

    def _enrol(self) -> tuple[list[Failure], int]:
        """Failures, and how many photographs were there already."""
        service = self._services.enroll()
        for person in sorted(self._plan.people):
            service.add_person(person)

        def one(photo: Photo) -> Failure | bool:
            try:
                data = photo.path.read_bytes()
                added = service.add_image(photo.person, data).added
                self._digests.add(sha256_hex(data))
                return added
            except (PermanentError, OSError) as error:
                return Failure(photo, _reason(error))

        def all_of(person: str) -> list[Failure | bool]:
            # One after another: which of two that are all but the same is enrolled must not depend on who is faster.
            return [one(photo) for photo in self._plan.gallery if photo.person == person]

        people = on_all_cores(all_of, list(self._plan.people), "enrolling", self._console)
        done = [ending for endings in people for ending in endings]
        failures = [ending for ending in done if isinstance(ending, Failure)]
        if len(failures) == len(done):
            raise InvalidInput(f"none of the {len(done)} gallery photographs could be enrolled: {_why(failures)}")
        return failures, sum(ending is False for ending in done)

    def _train(self) -> dict[str, Any]:
        with self._console.status("training …"):
            job = self._services.train_requests().request("fit")
            job = self._services.train().run(TrainRequest(schema=1, job_id=job.job_id, kind="fit"), last_attempt=True)
        if job.status != "succeeded" or job.result is None:
            raise InvalidInput(f"training failed: {job.error}")
        return dict(job.result)

    def _search(self, photo: Photo, model: MatcherModel) -> Search:
        mated = self._plan.mated(photo)
        try:
            data = photo.path.read_bytes()
            if sha256_hex(data) in self._digests:
                return Search(photo, mated, ALREADY_ENROLLED)
            faces = self._services.recognizer().recognize(data)
            image = decode_image(data, self._services.image_limits())
        except (PermanentError, OSError) as error:
            return Search(photo, mated, _reason(error))
        found = subject(image, faces)
        if found is None:
            return Search(photo, mated, "no_face")
        others = len(faces) - 1
        if found.rejected is not None:
            return Search(photo, mated, found.rejected, others, found.face.box)
        return self._judge(photo, mated, others, found, model)

    def _judge(self, photo: Photo, mated: bool, others: int, found: RecognizedFace, model: MatcherModel) -> Search:
        identity = found.identity
        enrolled = mated and photo.person in model.person_ids
        own, rank = float("nan"), 0
        if enrolled and identity.nearest is not None:
            similarities = model.similarities(found.embedding.of(model.embedder_id))[0]
            place = model.person_ids.index(photo.person)
            own = float(similarities[place])
            rank = rank_of(similarities, place, model.person_ids.index(identity.nearest))
        wrongly = identity.known and identity.person_id != photo.person
        return Search(
            photo=photo,
            mated=mated,
            failure=NOT_ENROLLED if mated and not enrolled else None,
            others=others,
            box=found.face.box,
            named=identity.person_id if identity.known else None,
            nearest=identity.nearest,
            similarity=identity.similarity,
            confidence=identity.confidence,
            own=own,
            rank=rank,
            crop=self._template(identity.person_id, found.embedding.vectors[0]) if wrongly else None,
        )

    def _template(self, person: str, embedding: Float32Array) -> tuple[bytes, tuple[float, float, float, float]]:
        """The photograph of `person` that comes nearest to an embedding."""
        stores = self._runtime.stores
        embedder_id = self._runtime.pack.embedder.embedder_id
        templates = stores.people.list_templates(person_id=person, embedder_id=embedder_id)
        nearest = max(templates, key=lambda template: float(template.embedding @ embedding))
        return stores.blobs.get(DATASET, nearest.image).data, nearest.face_box


def subject(image: UInt8Array, faces: list[RecognizedFace]) -> RecognizedFace | None:
    """The face that a photograph is about: the one nearest its middle."""
    central = most_central(image, [found.face for found in faces])
    return next((found for found in faces if found.face is central), None) if central is not None else None


def _reason(error: Exception) -> str:
    if isinstance(error, UnusableFace):
        return error.reason
    return error.code if isinstance(error, PermanentError) else "unreadable"


def _why(failures: list[Failure]) -> str:
    """The reasons in words, the most frequent first."""
    counts: dict[str, int] = {}
    for failure in failures:
        counts[failure.reason] = counts.get(failure.reason, 0) + 1
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return ", ".join(f"{REASONS.get(reason, reason)} ({count})" for reason, count in ordered)


def reason_in_words(reason: str) -> str:
    """A reason for people; one that is not known here as it is."""
    return REASONS.get(reason, reason.replace("_", " "))


def thumbnail(image: UInt8Array, box: tuple[float, float, float, float] | Float32Array, margin: float) -> UInt8Array:
    """The face with `margin` (a share of its longer side) around it, as far as the picture reaches."""
    left, top, right, bottom = (float(edge) for edge in box)
    room = margin * max(right - left, bottom - top)
    height, width = image.shape[:2]
    x1, y1 = max(0, int(left - room)), max(0, int(top - room))
    x2, y2 = min(width, int(right + room)), min(height, int(bottom + room))
    cut: UInt8Array = np.ascontiguousarray(image[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)])
    return cut


def open_photo(path: Path) -> UInt8Array:
    """A photograph's pixels, for showing."""
    return decode_image(path.read_bytes(), ImageLimits())
