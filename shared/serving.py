"""What answers: one immutable pair of pack and matcher, of one embedder, swapped as a whole.

The pointer in the store says which model answers, and the model says which embedder it is of; the setting `pack` only
names the one that a new installation begins with. `Packs` are all that this process may answer with, each loaded once
and when it is first needed; `LiveModel` follows the pointer.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from shared import telemetry
from shared.errors import (
    ConfigurationError,
    EmbedderMismatch,
    FacerelayError,
    InvalidInput,
    ModelUnavailable,
    PermanentError,
    TransientError,
)
from shared.matching.bundle import load_matcher
from shared.matching.model import NO_MODEL, MatcherModel, Operating, empty_model, fitted_at
from shared.model_registry import ModelRegistry

if TYPE_CHECKING:
    from shared.vision.assets import EmbedderTable, Registry
    from shared.vision.detectors import Pack

logger = logging.getLogger(__name__)

DEFAULT_SLOPE: Final = 20.0
"""Steepness of confidence around an uncalibrated threshold: 0.88 at a similarity 0.1 above it."""

BUILT_IN: Final = ("facenet", "sface")


@dataclass(frozen=True, slots=True)
class _Known:
    """A pack that may be asked for: how to load it, and what its embedder is."""

    name: str
    setting: str
    table: EmbedderTable
    registry: Registry | None = None


class Packs:
    """Every pack that this process may answer with, one for each embedder.

    Args:
        settings: as the setting `pack` spells them, the initial one first. Where two have the same embedder, the first
            stands for it. The built-in packs come last by themselves.
        cache: folder of the weights.
        min_face_px: smallest face that is looked for.
        loaded: packs that are there already, before all others: the first of them is the initial one.
    """

    def __init__(
        self, settings: Iterable[str] = (), *, cache: Path, min_face_px: float, loaded: Iterable[Pack] = ()
    ) -> None:
        self._settings = tuple(settings)
        self._cache = cache
        self._min_face_px = min_face_px
        self._given = tuple(loaded)
        self._loaded: dict[str, Pack] = {pack.table.embedder_id: pack for pack in self._given}
        self._known: dict[str, _Known] | None = None
        self._lock = threading.RLock()

    def _all(self) -> dict[str, _Known]:
        """By embedder id, the initial one first. Raises: ConfigurationError: a setting names none."""
        with self._lock:
            if self._known is None:
                from shared.vision.assets import resolve_pack

                known = {pack.table.embedder_id: _Known(pack.name, "", pack.table) for pack in self._given}
                for setting in (*self._settings, *BUILT_IN):
                    registry, name = resolve_pack(setting)
                    table = registry.embedder[registry.pack[name].embedder]
                    known.setdefault(table.embedder_id, _Known(name, setting, table, registry))
                self._known = known
            return self._known

    @property
    def initial(self) -> str:
        """Embedder id of the pack that a new installation begins with."""
        return next(iter(self._all()))

    def named(self, name: str) -> str:
        """Embedder id of the pack of that name.

        Raises:
            InvalidInput: there is none.
        """
        known = self._all()
        for embedder_id, pack in known.items():
            if pack.name == name:
                return embedder_id
        raise InvalidInput(f"pack {name!r} is none of {', '.join(pack.name for pack in known.values())}")

    def name(self, embedder_id: str) -> str:
        """Name of an embedder's pack. Raises as `table`."""
        return self._find(embedder_id).name

    def table(self, embedder_id: str) -> EmbedderTable:
        """How an embedder is fed.

        Raises:
            ConfigurationError: it is of no pack that this process knows.
        """
        return self._find(embedder_id).table

    def _find(self, embedder_id: str) -> _Known:
        try:
            return self._all()[embedder_id]
        except KeyError:
            raise ConfigurationError(
                f"embedder {embedder_id} is of no pack that this service knows; name its manifest in FACERELAY_PACK "
                "or FACERELAY_EXTRA_PACKS"
            ) from None

    def default_thresholds(self) -> Mapping[str, float]:
        """Of every embedder: the cosine similarity below which a face is nobody, until it is calibrated."""
        return {embedder_id: known.table.default_threshold for embedder_id, known in self._all().items()}

    def operating(self, embedder_id: str) -> Operating:
        """An embedder's conservative operating point, for galleries too small to calibrate on. Raises as `table`."""
        threshold = self.table(embedder_id).default_threshold
        return Operating(threshold, DEFAULT_SLOPE, threshold)

    def empty(self, embedder_id: str) -> MatcherModel:
        """What answers while nothing was ever published. Raises as `table`."""
        return empty_model(embedder_id, self.table(embedder_id).dimension, self.operating(embedder_id))

    def is_loaded(self, embedder_id: str) -> bool:
        """Whether `load` would not have to wait."""
        return embedder_id in self._loaded

    def load(self, embedder_id: str) -> Pack:
        """An embedder's pack; the first call waits for its weights.

        Raises:
            ModelUnavailable: the weights are not in the model cache.
            IntegrityError: they do not match their hashes.
            ConfigurationError: as `table`.
        """
        if (pack := self._loaded.get(embedder_id)) is not None:  # without the lock: no answer waits for another pack
            return pack
        known = self._find(embedder_id)
        with self._lock:
            if embedder_id not in self._loaded:
                from shared.vision.assets import ModelCache
                from shared.vision.detectors import load_pack

                cache = ModelCache(self._cache, known.registry)
                self._loaded[embedder_id] = load_pack(known.setting, cache, min_face_px=self._min_face_px)
            return self._loaded[embedder_id]

    def check(self, embedder_id: str) -> None:
        """Compares the hashes of an embedder's weights; loads nothing, and nothing when they are loaded already.

        Raises:
            ModelUnavailable, IntegrityError, ConfigurationError: as `load`.
        """
        known = self._find(embedder_id)
        if known.registry is None or self.is_loaded(embedder_id):
            return
        from shared.vision.assets import ModelCache

        cache = ModelCache(self._cache, known.registry)
        for file in known.registry.files_of(known.name):
            cache.path(file)

    def keep_only(self, embedder_ids: Collection[str]) -> None:
        """Lets go of the weights of all others; whoever still answers with them has them until they are done."""
        with self._lock:
            given = {pack.table.embedder_id for pack in self._given}
            for embedder_id in set(self._loaded) - set(embedder_ids) - given:
                del self._loaded[embedder_id]
                logger.info("weights let go", extra={"action": "pack.dropped", "embedder_id": embedder_id})

    def loaded_count(self) -> int:
        """How many packs' weights are in memory."""
        return len(self._loaded)


def ruling(registry: ModelRegistry, packs: Packs) -> str:
    """Id of the embedder that answers, as the store says now: what is enrolled and trained is of it."""
    return registry.ruling() or packs.initial


@dataclass(frozen=True, slots=True, eq=False)
class Serving:
    """What answers for one image: the pack that finds and embeds its faces, and the matcher that names them.

    Raises:
        EmbedderMismatch: they are of different embedders.
    """

    pack: Pack
    model: MatcherModel

    def __post_init__(self) -> None:
        if self.pack.embedder.embedder_id != self.model.embedder_id:
            raise EmbedderMismatch(
                f"model {self.model.model_id} is of {self.model.embedder_id}, and pack {self.pack.name} of "
                f"{self.pack.embedder.embedder_id}"
            )


class LiveModel:
    """The model that answers now. A newer one is loaded beside it, then swapped in: no request waits or fails.

    A model of another embedder brings its pack: the weights are loaded first, and then both are swapped at once, since
    the model alone says which pack goes with it.

    Args:
        registry: where the pointer is.
        packs: what there is to answer with; models of any other embedder are refused.
    """

    def __init__(self, registry: ModelRegistry, packs: Packs) -> None:
        self._registry = registry
        self._packs = packs
        self._model: MatcherModel | None = None
        self._etag: str | None = None
        self._lock = threading.Lock()

    def __call__(self) -> MatcherModel:
        """The live model. Only the very first call waits for a load.

        Raises:
            TransientError: the very first load failed for a reason that may pass.
        """
        return self._model or self.refresh()

    def serving(self) -> Serving:
        """The live model and its pack. Taken once for an image: whatever is switched meanwhile, one pair answers.

        Raises:
            TransientError: as for a call; or the weights are not there, or not the right ones. A crop is not to blame
                for that: it waits.
        """
        model = self()
        try:
            return Serving(self._packs.load(model.embedder_id), model)
        except PermanentError as error:
            raise ModelUnavailable(str(error)) from error

    def refresh(self) -> MatcherModel:
        """Looks at the pointer now, and waits for what it names.

        Raises:
            TransientError: as for a call.
        """
        with self._lock:
            self._refresh()
            model = self._model or self._fallback()
            self._let_go(model)
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
                self._swap(self._fallback(), None)
            elif self._model is None or pointer.etag != self._etag:
                bundle = self._registry.load(pointer)
                self._swap(load_matcher(bundle, open_index=self._registry.search.open_index), pointer.etag)
        except FacerelayError as error:
            logger.error(
                "the new model cannot be used; the old one stays live: %s",
                error,
                extra={"action": "model.refused", "code": error.code},
            )
            if self._model is None:
                if isinstance(error, TransientError):
                    raise
                self._swap_to_what_is_left()

    def _swap_to_what_is_left(self) -> None:
        try:
            self._swap(self._registry.newest_sound(ruling(self._registry, self._packs)) or self._fallback(), None)
        except ConfigurationError as error:
            raise ModelUnavailable(str(error)) from error

    def _fallback(self) -> MatcherModel:
        """Knows nobody. One and the same for as long as it serves."""
        embedder_id = ruling(self._registry, self._packs)
        if (model := self._model) is not None and (model.model_id, model.embedder_id) == (NO_MODEL, embedder_id):
            return model
        return self._packs.empty(embedder_id)

    def _swap(self, model: MatcherModel, etag: str | None) -> None:
        self._packs.table(model.embedder_id)  # refused when nobody here can make a probe for it
        old = self._model
        if old is model:
            return
        if old is not None and old.embedder_id != model.embedder_id and self._packs.is_loaded(old.embedder_id):
            self._packs.load(model.embedder_id)
        if old is None and model.embedder_id != self._packs.initial:
            logger.info("the pack that answers is not the setting's", extra={"action": "pack.changed"})
        self._model, self._etag = model, etag
        logger.info("model live", extra={"action": "model.live", "model_id": model.model_id})

    def _let_go(self, model: MatcherModel) -> None:
        """Drops weights that neither answer nor are needed to enrol: after a change of embedder, the old ones."""
        if self._packs.loaded_count() < 2:
            return
        try:
            migration = self._registry.migrations.current()
        except FacerelayError:
            return
        both = {migration.source, migration.target} if migration is not None and not migration.over else set()
        self._packs.keep_only({model.embedder_id} | both)
