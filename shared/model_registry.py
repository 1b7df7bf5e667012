"""Publishing and loading models over a `BlobStore`: immutable bundles, and one pointer that moves.

`models/current.json` names the live model and the hash of its manifest. It is replaced under its ETag, and a training
moves it only to a model of the same embedder that read the gallery later: a slow one cannot bring back what a faster
one, an erasure, or a change of the embedder replaced. `switch` alone moves it anywhere else, and only on purpose.
"""

from __future__ import annotations

import json
import logging
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.domain import MODELS, format_time, sha256_hex
from shared.errors import (
    Conflict,
    IntegrityError,
    NotFound,
    PermanentError,
    PreconditionFailed,
    UnknownSchema,
)
from shared.matching.bundle import MANIFEST_FILE, MATCHER_FILE, Bundle, Manifest, load_matcher, without_person
from shared.matching.model import MatcherModel, new_model_id
from shared.migration import Migrations
from shared.ports import BlobStore, Clock
from shared.vector_search import GoingOn, VectorSearch

logger = logging.getLogger(__name__)

POINTER = "current.json"


@dataclass(frozen=True, slots=True)
class Pointer:
    """The live model's id, the hash of its manifest, and the ETag under which this was read.

    Attributes:
        embedder_id: of the live model; None where the pointer was written before it said so.
    """

    model_id: str
    manifest_sha256: str
    etag: str
    embedder_id: str | None = None


class ModelRegistry:
    """Bundles in the `models` container, and the record of a change of the embedder.

    Args:
        search: where the vectors of large models go.
    """

    def __init__(self, blobs: BlobStore, clock: Clock, search: VectorSearch | None = None) -> None:
        self._blobs = blobs
        self.clock = clock
        self.search = search or VectorSearch()
        self.migrations = Migrations(blobs)

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
            embedder_id = fields.get("embedder_id")
            return Pointer(
                str(fields["model_id"]),
                str(fields["manifest_sha256"]),
                blob.properties.etag,
                None if embedder_id is None else str(embedder_id),
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise IntegrityError("the pointer to the live model is unreadable") from error

    def ruling(self) -> str | None:
        """Id of the embedder whose model answers; None while nothing was ever published.

        With a pointer that leads nowhere, the record of the last change of embedder says it.
        """
        try:
            pointer = self.pointer()
            found = None if pointer is None else self._embedder_of(pointer)
        except IntegrityError:
            found = None
        if found is None and (migration := self.migrations.current()) is not None:
            return migration.rules
        return found

    def _embedder_of(self, pointer: Pointer) -> str:
        """Raises: IntegrityError: the pointer does not say, and the manifest is damaged."""
        return pointer.embedder_id or str(self.manifest(pointer).embedder["embedder_id"])

    def publish(self, bundle: Bundle, *, cut_of: Bundle | None = None, going_on: GoingOn | None = None) -> None:
        """Writes a bundle, then moves the pointer to it. Of a bundle that has to give way nothing is left.

        Args:
            cut_of: what it is but for one person, see `VectorSearch.store`.
            going_on: called while it takes long.

        Raises:
            Conflict: the live model is of a later gallery or of another embedder, or somebody in this one was erased
                meanwhile.
            ConfigurationError: the vector search is not set up for it.
        """
        try:
            self._write(bundle, cut_of, going_on)
            self._move_pointer(bundle.manifest)
        except PermanentError:
            self._discard(bundle.manifest.model_id)
            raise
        logger.info("model published", extra={"action": "model.publish", "model_id": bundle.manifest.model_id})

    def store(self, bundle: Bundle, *, going_on: GoingOn | None = None) -> None:
        """Writes a bundle beside the live one; `switch` may make it live. Arguments as of `publish`.

        Raises:
            Conflict: somebody in it was erased meanwhile; nothing is left of it.
            ConfigurationError: as `publish`.
        """
        model_id = bundle.manifest.model_id
        try:
            self._write(bundle, None, going_on)
            if not self._is_stored(model_id):
                raise Conflict(f"model {model_id} knew somebody who was erased meanwhile; train again")
        except PermanentError:
            self._discard(model_id)
            raise
        logger.info("model stored", extra={"action": "model.store", "model_id": model_id})

    def switch(self, model_id: str, *, expected: Pointer | None) -> None:
        """Makes a stored model live, of whatever embedder and age it is.

        Args:
            expected: the pointer as it was when this was decided.

        Raises:
            Conflict: the pointer was moved since, or the model is not there any more.
            IntegrityError: the model is damaged.
        """
        try:
            manifest = self._blobs.get(MODELS, f"{model_id}/{MANIFEST_FILE}").data
        except NotFound as error:
            raise Conflict(f"model {model_id} is not stored any more") from error
        load_matcher(self._with_matcher(Manifest.from_json(manifest)))
        try:
            etag = self._put_pointer(_pointer_document(manifest, self.clock()), expected.etag if expected else None)
        except PreconditionFailed as error:
            raise Conflict("another model was made live meanwhile") from error
        if not self._is_stored(model_id):  # an erasure took it for one that was not live
            self._take_back(expected, etag)
            raise Conflict(f"model {model_id} knew somebody who was erased meanwhile")
        logger.info("model switched", extra={"action": "model.switch", "model_id": model_id})

    def _take_back(self, expected: Pointer | None, etag: str) -> None:
        """The pointer as it was, unless somebody has moved it since."""
        try:
            if expected is None:
                self._blobs.delete(MODELS, POINTER)
            else:
                manifest = self._blobs.get(MODELS, f"{expected.model_id}/{MANIFEST_FILE}").data
                self._put_pointer(_pointer_document(manifest, self.clock()), etag)
        except (PreconditionFailed, NotFound):
            return  # the erasure has seen where the pointer leads, and mends it

    def _write(self, bundle: Bundle, cut_of: Bundle | None, going_on: GoingOn | None) -> None:
        model_id = bundle.manifest.model_id
        manifest = bundle.manifest.to_json()
        # The manifest first: an erasure that comes by meanwhile must be able to tell whom the bundle knows.
        self._blobs.put(MODELS, f"{model_id}/{MANIFEST_FILE}", manifest, content_type="application/json")
        for name, data in bundle.files.items():
            self._blobs.put(MODELS, f"{model_id}/{name}", data)
        self.search.store(bundle, cut_of=cut_of, going_on=going_on)

    def _move_pointer(self, manifest: Manifest) -> None:
        model_id = manifest.model_id
        while True:
            live, etag = self._live()
            if live is not None and self._is_of_another_embedder(live, manifest):
                raise Conflict(f"model {live.model_id} is live and of another embedder; train again")
            if live is not None and live.model_id >= model_id:
                raise Conflict(f"model {live.model_id} is live already and knows a later gallery; train again")
            if not self._is_stored(model_id):
                raise Conflict(f"model {model_id} knew somebody who was erased meanwhile; train again")
            try:
                self._put_pointer(_pointer_document(manifest.to_json(), self.clock()), etag)
            except PreconditionFailed:
                continue  # somebody else moved it between the read and the write: compare again
            return

    def _is_of_another_embedder(self, live: Pointer, manifest: Manifest) -> bool:
        try:
            return self._embedder_of(live) != str(manifest.embedder["embedder_id"])
        except IntegrityError:  # a damaged one is of none, and is mended by what replaces it
            return False

    def _put_pointer(self, document: bytes, etag: str | None) -> str:
        return self._blobs.put(
            MODELS,
            POINTER,
            document,
            content_type="application/json",
            if_match=etag,
            if_absent=etag is None,
        )

    def _is_stored(self, model_id: str) -> bool:
        return bool(list(self._blobs.list(MODELS, prefix=f"{model_id}/{MANIFEST_FILE}")))

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

    def stored_manifest(self, model_id: str) -> Manifest | None:
        """The manifest of a stored model; None when it is not there, or nobody can read it."""
        try:
            return Manifest.from_json(self._blobs.get(MODELS, f"{model_id}/{MANIFEST_FILE}").data)
        except (NotFound, IntegrityError, UnknownSchema):
            return None

    def stored_model(self, model_id: str) -> MatcherModel | None:
        """A stored model, live or not; None when it is not there, or damaged."""
        try:
            manifest = self.stored_manifest(model_id)
            return None if manifest is None else load_matcher(self._with_matcher(manifest))
        except IntegrityError:
            return None

    def newest_sound(self, embedder_id: str) -> MatcherModel | None:
        """The newest stored model of an embedder whose files match its manifest.

        It is what is left to answer with when the pointer leads nowhere.
        """
        for model_id in reversed(self.list_ids()):
            model = self.stored_model(model_id)
            if model is not None and model.embedder_id == embedder_id:
                return model
        return None

    def _with_matcher(self, manifest: Manifest) -> Bundle:
        try:
            data = self._blobs.get(MODELS, f"{manifest.model_id}/{MATCHER_FILE}").data
        except NotFound as error:
            raise IntegrityError(f"model {manifest.model_id} lacks {MATCHER_FILE}") from error
        return Bundle(manifest, {MATCHER_FILE: data})

    def erase_person(self, person_id: str) -> bool:
        """No model knows `person_id` any more: the live one is replaced at once, all others that did are deleted.

        That includes those that a change of the embedder keeps to switch or roll back to: they are fitted anew then.
        A live model that is damaged cannot be cut: it is taken down, and everybody is unknown until the next training.

        Returns:
            Whether any model did.
        """
        found = False
        while True:
            live, knew = self._cut_live(person_id)
            found |= knew
            try:
                for model_id in self.list_ids():
                    if model_id != live and self._may_know(model_id, person_id):
                        self.delete(model_id)
                        found = True
                pointer = self.pointer()
            except (Conflict, IntegrityError):
                continue  # one of them was made live meanwhile
            if (None if pointer is None else pointer.model_id) == live:
                break
        self.search.sweep(self.list_ids)
        self.migrations.forget(person_id)
        return found

    def _cut_live(self, person_id: str) -> tuple[str | None, bool]:
        """Sees to it that the live model does not know a person; its id, and whether it did."""
        found = False
        while True:
            try:
                if (pointer := self.pointer()) is None:
                    return None, found
                bundle = self.load(pointer)
                knows = person_id in bundle.manifest.templates
                cut = without_person(bundle, person_id, model_id=self._later_than(pointer.model_id)) if knows else None
            except IntegrityError as error:
                logger.error("a damaged model was taken down: %s", error, extra={"action": "model.taken_down"})
                self._blobs.delete(MODELS, POINTER)
                continue
            if cut is None:
                return pointer.model_id, found
            found = True
            try:
                self.publish(cut, cut_of=bundle)
            except Conflict:
                continue  # a training was published meanwhile: it may know the person too

    def _later_than(self, model_id: str) -> str:
        """An id of now; or right after `model_id`, which may be of a machine whose clock is ahead of this one's."""
        return max(new_model_id(self.clock()), f"{model_id}-{secrets.token_hex(2)}")

    def _may_know(self, model_id: str, person_id: str) -> bool:
        manifest = self.stored_manifest(model_id)
        return manifest is None or person_id in manifest.templates  # nobody can tell what is in a damaged one

    def prune(self, keep: int) -> None:
        """Deletes all but the newest `keep` bundles; never the live one, nor those of a change of the embedder."""
        live, migration = self.pointer(), self.migrations.current()
        kept = {live.model_id} if live else set()
        if migration is not None:
            kept |= {model_id for model_id in (migration.source_model, migration.target_model) if model_id}
        for model_id in self.list_ids()[:-keep]:
            if model_id not in kept:
                self.delete(model_id)
        self.search.sweep(self.list_ids)

    def delete_all_of(self, embedder_id: str, *, but: Sequence[str] = ()) -> None:
        """Deletes the stored models of an embedder that does not rule, and those nobody can read.

        Args:
            but: ids that stay.

        Raises:
            Conflict: one of them is live.
        """
        live = self.pointer()
        for model_id in self.list_ids():
            manifest = self.stored_manifest(model_id)
            of_it = manifest is None or manifest.embedder["embedder_id"] == embedder_id
            if of_it and model_id not in but and not (manifest is None and live and live.model_id == model_id):
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
        self.search.delete(model_id)
        for blob in list(self._blobs.list(MODELS, prefix=f"{model_id}/")):
            self._blobs.delete(MODELS, blob.name)


def _pointer_document(manifest: bytes, moment: datetime) -> bytes:
    """What the pointer says of a model whose manifest is stored as these bytes."""
    promised = Manifest.from_json(manifest)
    return json.dumps(
        {
            "model_id": promised.model_id,
            "manifest_sha256": sha256_hex(manifest),
            "embedder_id": promised.embedder["embedder_id"],
            "published_at": format_time(moment),
        }
    ).encode()
