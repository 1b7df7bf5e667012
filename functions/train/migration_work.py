"""Changing the embedder while the old one answers: one step at a time, each written down, each safe to do again.

What the `migrate` job of the training queue runs: under the training lease, so that no training comes in between, and
in slices, so that none waits for long.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any, Final

from functions.train.embed import Reembedder
from functions.train.fitting import Fitter
from functions.train.service import Slice, erase_whoever_left
from shared.domain import UNKNOWN
from shared.errors import Busy, Conflict
from shared.migration import ONE_WAY, Migration
from shared.model_registry import ModelRegistry, Pointer
from shared.ports import Clock, PersonRepository
from shared.serving import Packs, Serving, ruling

logger = logging.getLogger(__name__)

SLICE_S: Final = 20.0
"""How long one slice works before a training that waits gets its turn."""

SAVE_EVERY_S: Final = 2.0
PATIENCE: Final = 20
"""So often a slice is overtaken before it is left to the host to try again."""

Report = Callable[[float], None]
Compare = Callable[[Serving, Serving, int, Report], dict[str, Any]]


class MigrationWork:
    """The steps.

    Args:
        compare: judges crops by two pairs; see `functions.train.shadow`.
        slice_s: how long `advance` works at a time.
    """

    def __init__(
        self,
        *,
        registry: ModelRegistry,
        packs: Packs,
        people: PersonRepository,
        reembedder: Reembedder,
        fitter: Fitter,
        compare: Compare,
        clock: Clock,
        slice_s: float = SLICE_S,
    ) -> None:
        self._registry = registry
        self._migrations = registry.migrations
        self._packs = packs
        self._people = people
        self._reembedder = reembedder
        self._fitter = fitter
        self._compare = compare
        self._clock = clock
        self._slice_s = slice_s
        self._ends_at = 0.0
        self._report: Report = lambda _: None

    def advance(self, report: Report) -> Slice:
        """Works until there is nothing to do that nobody has to ask for, or the slice is over."""
        self._ends_at, self._report = time.monotonic() + self._slice_s, report
        again = 0
        while True:
            migration = self._migrations.current()
            if migration is None or not migration.working:
                return Slice(True, 1.0, {} if migration is None else outcome(migration))
            try:
                self._step(migration)
            except Conflict as error:  # of an erasure, a training or an operator: look again at how things stand
                logger.info("migration looks again: %s", error, extra={"action": "migration.again"})
                if (again := again + 1) == PATIENCE:
                    raise Busy("the gallery keeps changing; the migration will be tried again") from error
            if time.monotonic() >= self._ends_at and (now := self._migrations.current()) is not None and now.working:
                return Slice(False, _share(now))

    def _step(self, migration: Migration) -> None:
        if migration.wish in ONE_WAY:
            self._delete_idle(migration)
        elif migration.wish == "rollback":
            self._roll_back(migration)
        elif migration.state == "embedding":
            self._embed(migration)
        elif migration.state == "fitted":
            self._shadow(migration)
        else:
            self._switch(migration)

    def _change(self, migration: Migration, **changes: Any) -> Migration:
        changed = self._migrations.change(migration, self._clock(), **changes)
        if changed.state != migration.state:
            logger.info("migration %s", changed.state, extra={"action": f"migration.{changed.state}"})
        return changed

    def _embed_missing(self, migration: Migration, embedder_id: str) -> tuple[Migration, bool]:
        """Templates of one of the two for images that have none; the record as it is now, and whether that is all."""
        saved_at, done_of = time.monotonic(), (0, 0)

        def progress(done: int, total: int) -> bool:
            nonlocal migration, saved_at, done_of
            done_of = (done, total)
            if (now := time.monotonic()) - saved_at >= SAVE_EVERY_S:
                if embedder_id == migration.target:
                    migration = self._change(migration, images=total, embedded=done)
                self._report(_share(migration))
                saved_at = now
            return now < self._ends_at

        pack = self._packs.load(embedder_id)
        complete, failed = self._reembedder.embed_missing(pack, migration.skipped, progress)
        changes: dict[str, Any] = {"skipped": (*migration.skipped, *failed)} if failed else {}
        if embedder_id == migration.target and done_of != (0, 0):
            changes |= {"images": done_of[1], "embedded": done_of[0]}
        return (self._change(migration, **changes) if changes else migration), complete

    def _embed(self, migration: Migration) -> None:
        migration, complete = self._embed_missing(migration, migration.target)
        if complete:
            self._change(migration, state="fitted", target_model=self._fit(migration.target))

    def _fit(self, embedder_id: str) -> str:
        """Stores a model of the embedder that does not answer, in place of all others of it; its id.

        Raises:
            Conflict: somebody was erased meanwhile.
        """
        bundle = self._fitter.fit(embedder_id, lambda share: self._report(0.7 + share / 10))
        self._registry.store(bundle, going_on=lambda: self._report(0.8))
        erase_whoever_left(bundle, self._people, self._registry)
        model_id = bundle.manifest.model_id
        self._registry.delete_all_of(embedder_id, but=[model_id])
        return model_id

    def _shadow(self, migration: Migration) -> None:
        new = self._registry.stored_model(migration.target_model or "")
        if new is None:  # somebody was erased: it knew them
            self._change(migration, state="embedding", target_model=None)
            return
        old = self._live(migration.source)
        report = self._compare(
            old,
            Serving(self._packs.load(migration.target), new),
            migration.compare,
            lambda s: self._report(0.8 + s / 5),
        )
        report["models"] = {"old": self._facts(old.model.model_id), "new": self._facts(new.model_id)}
        # Not ready before nobody is named in it who was removed meanwhile: after a death here it is made again.
        self._change(migration, report=report)
        self._forget_whoever_left(report)
        if (written := self._migrations.current()) is not None and written.state == "fitted":
            self._change(written, state="ready")

    def _live(self, embedder_id: str) -> Serving:
        """The pair that answers now. Raises: EmbedderMismatch: it is not of that embedder."""
        pointer = self._registry.pointer()
        model = None if pointer is None else self._registry.stored_model(pointer.model_id)
        return Serving(self._packs.load(embedder_id), model or self._packs.empty(embedder_id))

    def _facts(self, model_id: str) -> dict[str, Any]:
        """What a manifest says of a model's worth, without naming anybody."""
        manifest = self._registry.stored_manifest(model_id)
        if manifest is None:
            return {"model_id": model_id}
        return {
            "model_id": model_id,
            "embedder_id": manifest.embedder["embedder_id"],
            "people": len(manifest.templates),
            "templates": sum(manifest.templates.values()),
            "operating": dict(manifest.operating),
            "calibration": dict(manifest.calibration),
            "evaluation": dict(manifest.evaluation),
        }

    def _forget_whoever_left(self, report: dict[str, Any]) -> None:
        """People who were removed while they were compared."""
        still_here = {person.person_id for person in self._people.list_people()} | {UNKNOWN}
        for person_id in {change[side] for change in report["changes"] for side in ("from", "to")} - still_here:
            self._migrations.forget(person_id)

    def _switch(self, migration: Migration) -> None:
        pointer = self._registry.pointer()
        if self._is_of(pointer, migration.target):  # moved before whoever moved it died
            self._change(migration, state="switched", rules=migration.target, wish=None)
            return
        migration, complete = self._embed_missing(migration, migration.target)
        if not complete:
            return
        if not self._is_fitted_to_all(migration):
            migration = self._change(migration, target_model=self._fit(migration.target))
        migration = self._change(migration, source_model=pointer.model_id if pointer else None)
        self._registry.switch(migration.target_model or "", expected=pointer)
        self._change(migration, state="switched", rules=migration.target, wish=None)

    def _is_fitted_to_all(self, migration: Migration) -> bool:
        """Whether the model that waits is sound, and of the gallery as it is."""
        model_id = migration.target_model or ""
        manifest = self._registry.stored_manifest(model_id)
        if manifest is None or self._registry.stored_model(model_id) is None:
            return False
        return manifest.gallery == self._fitter.state(migration.target)

    def _roll_back(self, migration: Migration) -> None:
        """Back to the very model that answered before; to one fitted anew where that had to be deleted."""
        pointer = self._registry.pointer()
        if not self._is_of(pointer, migration.source):
            if self._registry.stored_model(migration.source_model or "") is None:
                migration, complete = self._embed_missing(migration, migration.source)
                if not complete:
                    return
                model_id = self._fit(migration.source)
                migration = self._change(migration, source_model=model_id, rollback="refitted")
            self._registry.switch(migration.source_model or "", expected=pointer)
        migration, complete = self._embed_missing(migration, migration.source)
        if complete:
            how = migration.rollback or "exact"
            self._change(migration, state="rolled_back", rules=migration.source, wish=None, rollback=how)

    def _is_of(self, pointer: Pointer | None, embedder_id: str) -> bool:
        if pointer is None:
            return False
        return (pointer.embedder_id or self._registry.manifest(pointer).embedder["embedder_id"]) == embedder_id

    def _delete_idle(self, migration: Migration) -> None:
        """Ends it: what the embedder that does not answer has left behind is deleted."""
        rules = ruling(self._registry, self._packs)
        if migration.wish == "cancel" and rules == migration.target:
            logger.error("what was to be cancelled answers already", extra={"action": "migration.not_cancelled"})
            self._change(migration, state="switched", rules=rules, wish=None)
            return
        idle = migration.source if rules == migration.target else migration.target
        for index, (person_id, template_id) in enumerate(self._people.template_keys(idle)):
            self._people.delete_template(person_id, template_id)
            if index % 100 == 99:
                self._report(_share(migration))
                if time.monotonic() >= self._ends_at:
                    return
        self._registry.delete_all_of(idle)
        kept = {"source_model": None} if idle == migration.source else {"target_model": None}
        ended = "cancelled" if migration.wish == "cancel" else "finished"
        self._change(migration, state=ended, rules=rules, wish=None, **kept)


def _share(migration: Migration) -> float:
    """Progress of the work before an operator has to look, 0 to 1."""
    if migration.state == "embedding":
        return 0.7 * migration.embedded / max(migration.images, 1)
    return 0.8 if migration.state == "fitted" else 0.9


def outcome(migration: Migration) -> dict[str, Any]:
    """What a job tells of the change; names nobody, since jobs outlive whoever is removed."""
    report = migration.report or {}
    figures = {key: value for key, value in report.items() if key != "changes"}
    return {"state": migration.state, "rollback": migration.rollback, "comparison": figures or None}
