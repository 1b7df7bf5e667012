"""Publishing and loading models over a `BlobStore`: immutable bundles, and one pointer that moves.

`models/current.json` names the live model and the hash of its manifest. It is replaced under its ETag, and only ever
by a model that read the gallery later: a slow training cannot bring back what a faster one, or an erasure, replaced.
"""

from __future__ import annotations

import json
import logging
import secrets
import threading
from dataclasses import dataclass

from shared import telemetry
from shared.domain import MODELS, format_time, sha256_hex
from shared.errors import (
    Conflict,
    FacerelayError,
    IntegrityError,
    NotFound,
    PreconditionFailed,
    TransientError,
    UnknownSchema,
)
from shared.matching.bundle import MANIFEST_FILE, MATCHER_FILE, Bundle, Manifest, load_matcher, without_person
from shared.matching.model import MatcherModel, fitted_at, new_model_id
from shared.ports import BlobStore, Clock

logger = logging.getLogger(__name__)

POINTER = "current.json"


@dataclass(frozen=True, slots=True)
class Pointer:
    """The live model's id, the hash of its manifest, and the ETag under which this was read."""

    model_id: str
    manifest_sha256: str
    etag: str


class ModelRegistry:
    """Bundles in the `models` container."""

    def __init__(self, blobs: BlobStore, clock: Clock) -> None:
        self._blobs = blobs
        self.clock = clock

    def pointer(self) -> Pointer | None:
        """The live model, or None before the first.

        Raises:
            IntegrityError: the pointer is unreadable.
        """
        try:
            blob = self._blobs.get(MODELS, POINTER)
        except NotFound:
            return None
        try:
            fields = json.loads(blob.data)
            return Pointer(str(fields["model_id"]), str(fields["manifest_sha256"]), blob.properties.etag)
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError("the pointer to the live model is unreadable") from error

    def publish(self, bundle: Bundle) -> None:
        """Writes a bundle, then moves the pointer to it. Of a bundle that has to give way nothing is left.

        Raises:
            Conflict: the live model is of a later gallery, or somebody in this one was erased meanwhile.
        """
        model_id = bundle.manifest.model_id
        manifest = bundle.manifest.to_json()
        # The manifest first: an erasure that comes by meanwhile must be able to tell whom the bundle knows.
        self._blobs.put(MODELS, f"{model_id}/{MANIFEST_FILE}", manifest, content_type="application/json")
        for name, data in bundle.files.items():
            self._blobs.put(MODELS, f"{model_id}/{name}", data)
        document = json.dumps(
            {
                "model_id": model_id,
                "manifest_sha256": sha256_hex(manifest),
                "published_at": format_time(self.clock()),
            }
        ).encode()
        try:
            self._move_pointer(model_id, document)
        except Conflict:
            self._discard(model_id)
            raise
        logger.info("model published", extra={"action": "model.publish", "model_id": model_id})

    def _move_pointer(self, model_id: str, document: bytes) -> None:
        while True:
            live, etag = self._live()
            if live is not None and live.model_id >= model_id:
                raise Conflict(f"model {live.model_id} is live already and knows a later gallery; train again")
            if not list(self._blobs.list(MODELS, prefix=f"{model_id}/{MANIFEST_FILE}")):
                raise Conflict(f"model {model_id} knew somebody who was erased meanwhile; train again")
            try:
                self._blobs.put(
                    MODELS,
                    POINTER,
                    document,
                    content_type="application/json",
                    if_match=etag,
                    if_absent=etag is None,
                )
            except PreconditionFailed:
                continue  # somebody else moved it between the read and the write: compare again
            return

    def _live(self) -> tuple[Pointer | None, str | None]:
        """The live model, and the pointer's ETag: an unreadable pointer names no model, and may be replaced."""
        try:
            pointer = self.pointer()
        except IntegrityError:
            return None, self._blobs.properties(MODELS, POINTER).etag
        return pointer, pointer.etag if pointer else None

    def manifest(self, pointer: Pointer) -> Manifest:
        """The manifest that a pointer promises.

        Raises:
            IntegrityError: it is missing or does not match its hash.
        """
        try:
            data = self._blobs.get(MODELS, f"{pointer.model_id}/{MANIFEST_FILE}").data
        except NotFound as error:
            raise IntegrityError(f"model {pointer.model_id} has no manifest") from error
        if sha256_hex(data) != pointer.manifest_sha256:
            raise IntegrityError(f"model {pointer.model_id}: the manifest does not match its hash")
        return Manifest.from_json(data)

    def load(self, pointer: Pointer) -> Bundle:
        """The served part of the bundle behind a pointer: manifest and matcher.

        Raises:
            IntegrityError: something is missing, or the manifest does not match its hash.
        """
        return self._with_matcher(self.manifest(pointer))

    def newest_sound(self, embedder_id: str) -> MatcherModel | None:
        """The newest stored model of an embedder whose files match its manifest.

        It is what is left to answer with when the pointer leads nowhere.
        """
        for model_id in reversed(self.list_ids()):
            try:
                manifest = Manifest.from_json(self._blobs.get(MODELS, f"{model_id}/{MANIFEST_FILE}").data)
                if manifest.embedder["embedder_id"] == embedder_id:
                    return load_matcher(self._with_matcher(manifest))
            except (NotFound, IntegrityError, UnknownSchema):
                continue
        return None

    def _with_matcher(self, manifest: Manifest) -> Bundle:
        try:
            data = self._blobs.get(MODELS, f"{manifest.model_id}/{MATCHER_FILE}").data
        except NotFound as error:
            raise IntegrityError(f"model {manifest.model_id} lacks {MATCHER_FILE}") from error
        return Bundle(manifest, {MATCHER_FILE: data})

    def erase_person(self, person_id: str) -> bool:
        """No model knows `person_id` any more: the live one is replaced at once, older ones that did are deleted.

        A live model that is damaged cannot be cut: it is taken down, and everybody is unknown until the next training.

        Returns:
            Whether any model did.
        """
        found = False
        while True:
            try:
                if (pointer := self.pointer()) is None:
                    break
                bundle = self.load(pointer)
                knows = person_id in bundle.manifest.templates
                cut = without_person(bundle, person_id, model_id=self._later_than(pointer.model_id)) if knows else None
            except IntegrityError as error:
                logger.error("a damaged model was taken down: %s", error, extra={"action": "model.taken_down"})
                self._blobs.delete(MODELS, POINTER)
                continue
            if cut is None:
                break
            found = True
            try:
                self.publish(cut)
            except Conflict:
                continue  # a training was published meanwhile: it may know the person too
        for model_id in self.list_ids():
            if (pointer is None or model_id != pointer.model_id) and self._may_know(model_id, person_id):
                self.delete(model_id)
                found = True
        return found

    def _later_than(self, model_id: str) -> str:
        """An id of now; or right after `model_id`, which may be of a machine whose clock is ahead of this one's."""
        return max(new_model_id(self.clock()), f"{model_id}-{secrets.token_hex(2)}")

    def _may_know(self, model_id: str, person_id: str) -> bool:
        try:
            manifest = Manifest.from_json(self._blobs.get(MODELS, f"{model_id}/{MANIFEST_FILE}").data)
        except (NotFound, IntegrityError, UnknownSchema):
            return True  # nobody can tell what is in it
        return person_id in manifest.templates

    def prune(self, keep: int) -> None:
        """Deletes all but the newest `keep` bundles; never the live one."""
        live = self.pointer()
        for model_id in self.list_ids()[:-keep]:
            if live is None or model_id != live.model_id:
                self.delete(model_id)

    def list_ids(self) -> list[str]:
        """Ids of all stored models, oldest first."""
        return sorted({blob.name.split("/")[0] for blob in self._blobs.list(MODELS) if "/" in blob.name})

    def delete(self, model_id: str) -> None:
        """Removes a bundle that is not live.

        Raises:
            Conflict: it is live.
        """
        live = self.pointer()
        if live is not None and live.model_id == model_id:
            raise Conflict(f"model {model_id} is live")
        self._discard(model_id)

    def _discard(self, model_id: str) -> None:
        for blob in list(self._blobs.list(MODELS, prefix=f"{model_id}/")):
            self._blobs.delete(MODELS, blob.name)


class LiveModel:
    """The model that answers now. A newer one is loaded beside it, then swapped in: no request waits or fails.

    Args:
        registry: where the pointer is.
        fallback: what answers while nothing was ever published.
        embedder_id: models of any other space are refused.
    """

    def __init__(self, registry: ModelRegistry, *, fallback: MatcherModel, embedder_id: str) -> None:
        self._registry = registry
        self._fallback = fallback
        self._embedder_id = embedder_id
        self._model: MatcherModel | None = None
        self._etag: str | None = None
        self._lock = threading.Lock()

    def __call__(self) -> MatcherModel:
        """The live model. Only the very first call waits for a load.

        Raises:
            TransientError: the very first load failed for a reason that may pass.
        """
        return self._model or self.refresh()

    def refresh(self) -> MatcherModel:
        """Looks at the pointer now, and waits for what it names.

        Raises:
            TransientError: as for a call.
        """
        with self._lock:
            self._refresh()
            model = self._model or self._fallback
        if (fitted := fitted_at(model.model_id)) is not None:
            telemetry.MODEL_AGE.set((self._registry.clock() - fitted).total_seconds(), {})
        return model

    def poll(self, every_s: float, stop: threading.Event | None = None) -> threading.Thread:
        """Starts a thread that looks at the pointer every `every_s`, until `stop` is set or the process ends.

        By itself and not by requests: the first face after a quiet night is judged by the morning's model.
        """
        stop = stop or threading.Event()

        def look() -> None:
            while not stop.wait(every_s):
                try:
                    self.refresh()
                except TransientError:
                    continue  # logged where it was raised; the next look may go through

        thread = threading.Thread(target=look, name="model-poll", daemon=True)
        thread.start()
        return thread

    def _refresh(self) -> None:
        """One look at the pointer, under the lock. Whatever goes wrong, the old model stays live.

        Raises:
            TransientError: there is no old model, and an answer of "unknown" for everybody would be wrong.
        """
        try:
            pointer = self._registry.pointer()
            if pointer is None:
                self._model, self._etag = self._fallback, None
            elif self._model is None or pointer.etag != self._etag:
                self._swap(load_matcher(self._registry.load(pointer)), pointer.etag)
        except FacerelayError as error:
            logger.error(
                "the new model cannot be used; the old one stays live: %s",
                error,
                extra={"action": "model.refused", "code": error.code},
            )
            if self._model is None:
                if isinstance(error, TransientError):
                    raise
                self._swap(self._registry.newest_sound(self._embedder_id) or self._fallback, None)

    def _swap(self, model: MatcherModel, etag: str | None) -> None:
        if model.embedder_id != self._embedder_id:
            raise IntegrityError(
                f"model {model.model_id} is of embedder {model.embedder_id}, this service of {self._embedder_id}; "
                "train again with this pack"
            )
        self._model, self._etag = model, etag
        logger.info("model live", extra={"action": "model.live", "model_id": model.model_id})
