"""Changing the embedder: what an operator may ask for, and when. `migration_work.py` does it."""

from __future__ import annotations

import logging
import uuid

from functions.train.service import TrainRequests
from shared.domain import Job
from shared.errors import ConfigurationError, Conflict, IntegrityError, ModelUnavailable, NotFound, PreconditionFailed
from shared.migration import ALLOWED, Migration, Wish
from shared.model_registry import ModelRegistry
from shared.ports import Clock
from shared.serving import Packs, ruling

logger = logging.getLogger(__name__)


class MigrationRequests:
    """What an operator asks for. Needs no models."""

    def __init__(self, *, registry: ModelRegistry, packs: Packs, requests: TrainRequests, clock: Clock) -> None:
        self._registry = registry
        self._packs = packs
        self._requests = requests
        self._clock = clock

    def current(self) -> Migration:
        """The latest change of the embedder. Raises: NotFound: there never was one."""
        if (migration := self._registry.migrations.current()) is None:
            raise NotFound("the embedder was never changed here; begin with: facerelay models migrate --to PACK")
        return migration

    def start(self, to: str, *, switch: bool = False, compare: int = 500) -> Migration:
        """Begins a change to the pack of that name; asked again for the same one, goes on with it.

        Args:
            switch: do not wait for an operator to look at the comparison.
            compare: most crops to compare on.

        Raises:
            InvalidInput: there is no such pack.
            ConfigurationError: its weights are not there, or not the right ones.
            Conflict: its embedder answers already, or another change is not over.
        """
        while True:
            try:
                return self._start(to, switch, compare)
            except PreconditionFailed:  # the record was changed at the same moment: look again
                continue

    def _start(self, to: str, switch: bool, compare: int) -> Migration:
        target, source = self._packs.named(to), ruling(self._registry, self._packs)
        known = self._registry.migrations.current()
        if target == source:
            raise Conflict(f"{to} answers already")
        if known is not None and not known.over and known.target == target and known.wish in (None, "switch"):
            return self._go_on(known, "switch" if switch else known.wish)
        self._check_weights(to, target)
        now = self._clock()
        fresh = Migration(
            migration_id=uuid.uuid4().hex,
            source=source,
            target=target,
            rules=source,
            job_id=uuid.uuid4().hex,
            started_at=now,
            updated_at=now,
            wish="switch" if switch else None,
            compare=compare,
        )
        begun = self._registry.migrations.begin(fresh)
        logger.info("migration begun", extra={"action": "migration.begin", "embedder_id": target})
        self._requests.send(begun.job_id, "migrate")
        return begun

    def _check_weights(self, to: str, target: str) -> None:
        try:
            self._packs.check(target)
        except (ModelUnavailable, IntegrityError) as error:
            raise ConfigurationError(
                f"the weights of {to} are not there, or not the right ones; run: facerelay models fetch --pack {to}"
            ) from error

    def ask(self, wish: Wish) -> Migration:
        """Asks for the next step; asked again, goes on with it.

        Raises:
            NotFound: there is no change of the embedder.
            Conflict: this cannot follow on how it stands.
        """
        while True:
            try:
                return self._ask(wish)
            except PreconditionFailed:
                continue

    def _ask(self, wish: Wish) -> Migration:
        migration = self.current()
        # A switch that is under way may have moved the pointer: nothing may delete what answers then.
        changeable = migration.wish is None or (
            migration.wish == "switch" and (migration.state != "ready" or self._has_failed(migration.job_id))
        )
        if migration.wish != wish and (migration.state not in ALLOWED[wish] or not changeable):
            doing = f" and will {migration.wish}" if migration.wish else ""
            raise Conflict(f"the migration is {migration.state}{doing}: it cannot {wish} now")
        return self._go_on(migration, wish)

    def _go_on(self, migration: Migration, wish: Wish | None) -> Migration:
        """Writes the wish down, and sees to it that somebody works on it.

        Raises:
            PreconditionFailed: the record was changed meanwhile.
        """
        job_id = uuid.uuid4().hex if self._has_ended(migration.job_id) else migration.job_id
        if (wish, job_id) != (migration.wish, migration.job_id):
            migration = self._registry.migrations.change(migration, self._clock(), wish=wish, job_id=job_id)
        self._requests.send(job_id, "migrate")
        return migration

    def _has_ended(self, job_id: str) -> bool:
        try:
            return self._requests.job(job_id).finished
        except NotFound:
            return False

    def _has_failed(self, job_id: str) -> bool:
        try:
            return self._requests.job(job_id).status == "failed"
        except NotFound:
            return False

    def resume(self) -> bool:
        """Sends the job again when it should run and its message was lost; whether it was. For the training timer."""
        migration = self._registry.migrations.current()
        if migration is None or not migration.working or not self._requests.idle():
            return False
        if self._has_failed(migration.job_id):
            return False  # an operator looks, and asks again
        self._requests.send(migration.job_id, "migrate")
        return True

    def trains_beside(self) -> bool:
        """Whether ordinary trainings take turns with a migration that is under way."""
        migration = self._registry.migrations.current()
        return migration is not None and migration.working

    def job(self, migration: Migration) -> Job:
        """How its work stands. Raises: NotFound."""
        return self._requests.job(migration.job_id)

    def wait(self, migration: Migration, timeout_s: float) -> Migration:
        """The change once its job has ended, or as it stands after `timeout_s`."""
        self._requests.wait(migration.job_id, timeout_s)
        return self.current()
