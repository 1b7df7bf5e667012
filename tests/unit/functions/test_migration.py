"""Changing the embedder, step by step: killed between any two writes, asked for twice, overtaken by everything else."""

from __future__ import annotations

import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from functions.services import Services, use_services
from functions.train import train_timer
from functions.train.migration_work import MigrationWork
from shared.adapters.local import LocalStore
from shared.bootstrap import Runtime
from shared.domain import CANDIDATES, DATASET, MODELS, UNKNOWN, Identity, Person
from shared.errors import ConfigurationError, Conflict, InvalidInput, ModelUnavailable, NotFound
from shared.messages import TRAIN_QUEUE, TrainRequest
from shared.migration import RECORD
from shared.model_registry import POINTER
from shared.settings import Settings
from tests.support import (
    BLUE,
    EMBEDDER_ID,
    GREEN,
    NOW,
    ONE_COLOUR,
    RED,
    YELLOW,
    ColourEmbedder,
    TickingClock,
    candidate,
    colour_pack,
    colour_vector,
    portrait,
    stores_over,
    template,
)

OTHER = "other.1"
WRITES = {
    "blobs": ("put", "delete"),
    "people": ("add_person", "add_template", "delete_template", "delete_person"),
    "jobs": ("put_job", "acquire_lease", "release_lease"),
    "queue": ("send", "delete"),
}


class OtherEmbedder(ColourEmbedder):
    """Another space of the same size: to compare across the two would give numbers, and wrong ones."""

    def __init__(self) -> None:
        super().__init__(OTHER)

    def _one(self, image, found):
        return np.roll(super()._one(image, found), 3)


class Killed(BaseException):
    """What a process that has died cannot catch."""


class Mortal:
    """An adapter of a process that may die right after its n-th write; the dead do nothing more."""

    def __init__(self, adapter: Any, writes: tuple[str, ...], life: Life) -> None:
        self._adapter, self._writes, self._life = adapter, writes, life

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._adapter, name)

        def call(*arguments: Any, **options: Any) -> Any:
            self._life.check()
            done = method(*arguments, **options)
            if name in self._writes:
                self._life.count()
            return done

        return call


class Life:
    """How many writes a process has made, and at which one it ends."""

    def __init__(self, ends_at: int = -1) -> None:
        self.writes, self._ends_at, self.over = 0, ends_at, False

    def count(self) -> None:
        self.writes += 1
        if self.writes == self._ends_at:
            self.over = True
            raise Killed

    def check(self) -> None:
        if self.over:
            raise Killed


class Site:
    """A service over one store, that can die and be started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = TickingClock()
        self.store = LocalStore(folder, clock=self.clock)
        self.stores = stores_over(self.store)
        self.start()

    def start(self, life: Life | None = None) -> None:
        """A new process."""
        stores = self.stores
        if life is not None:
            mortal = {name: Mortal(getattr(stores, name), writes, life) for name, writes in WRITES.items()}
            stores = replace(stores, **mortal)
        settings = Settings(
            data_dir=self.folder, model_poll_s=3600, model_cache=self.folder / "no weights", **ONE_COLOUR
        )
        packs = [colour_pack(), colour_pack(OtherEmbedder(), name="other")]
        self.services = Services(Runtime(settings, stores=stores, pack=packs, clock=self.clock))

    @property
    def registry(self):
        return self.services.runtime.registry

    @property
    def work(self) -> MigrationWork:
        work: MigrationWork = self.services.train()._migrate.__self__  # type: ignore[attr-defined]
        return work

    @property
    def migrations(self):
        return self.services.migration_requests()

    def enrol(self, person_id: str, *colours: tuple[int, int, int]) -> None:
        try:
            self.services.enroll().add_person(person_id)
        except Conflict:
            assert self.stores.people.get_person(person_id)
        for colour in colours:
            self.services.enroll().add_image(person_id, portrait(colour))

    def work_off(self, most: int = 1_000) -> int:
        """What the host does with the queue; how many messages there were."""
        for done in range(most):
            self.clock.advance(60)
            queue = self.services.runtime.stores.queue
            messages = queue.receive(TRAIN_QUEUE)
            if not messages:
                return done
            self.services.train().run(TrainRequest.model_validate_json(messages[0].body))
            queue.delete(messages[0])
        return most

    def train(self) -> None:
        self.services.train_requests().request("fit")
        self.work_off()

    def timer(self) -> None:
        use_services(self.services)
        try:
            train_timer(None)  # type: ignore[arg-type]
        finally:
            use_services(None)

    def migrate(self, to: str = "other", *, switch: bool = False) -> None:
        self.migrations.start(to, switch=switch)
        self.work_off()

    def ask(self, wish: Any) -> None:
        self.migrations.ask(wish)
        self.work_off()

    def says(self, colour: tuple[int, int, int]) -> tuple[str, Identity]:
        """Of which embedder the answer is, and the answer."""
        self.services.runtime.live_model.refresh()
        [found] = self.services.recognizer().recognize(portrait(colour))
        assert found.model.embedder_id == found.embedding.embedder_id
        return found.embedding.embedder_id, found.identity

    def knows(self, colour: tuple[int, int, int]) -> str:
        return self.says(colour)[1].person_id

    def state(self) -> str:
        return self.migrations.current().state

    def images_of(self, embedder_id: str) -> set[str]:
        return {each.image for each in self.stores.people.list_templates(embedder_id=embedder_id)}

    def stored(self) -> set[str]:
        return set(self.registry.list_ids())


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    made.enrol("ann", RED)
    made.enrol("bob", GREEN)
    made.train()
    yield made
    made.store.close()


@pytest.fixture
def slices(site: Site) -> None:
    """Every slice makes one template."""
    site.work._slice_s = 0.0


class TestThereAndBack:
    def test_nothing_answers_but_the_old_one_until_the_switch(self, site: Site) -> None:
        before, live = site.says(RED), site.registry.pointer()
        site.migrate()
        found = site.migrations.current()
        assert (found.state, found.wish, found.images, found.embedded) == ("ready", None, 2, 2)
        assert site.registry.pointer() == live
        assert site.says(RED) == before
        assert site.images_of(OTHER) == site.images_of(EMBEDDER_ID)
        assert site.registry.stored_model(found.target_model).embedder_id == OTHER

    def test_the_switch_changes_pack_and_model_at_once(self, site: Site) -> None:
        site.migrate()
        site.ask("switch")
        assert site.state() == "switched"
        assert (site.says(RED)[0], site.knows(RED), site.knows(BLUE)) == (OTHER, "ann", UNKNOWN)
        assert site.services.runtime.pack.name == "other"

    def test_switch_is_asked_for_from_the_beginning(self, site: Site) -> None:
        site.migrate(switch=True)
        assert site.state() == "switched" and site.says(RED)[0] == OTHER

    def test_a_rollback_brings_back_the_very_model_and_its_answers(self, site: Site) -> None:
        before, live = [site.says(c) for c in (RED, GREEN, BLUE)], site.registry.pointer()
        site.migrate(switch=True)
        assert [site.says(c) for c in (RED, GREEN, BLUE)] != before
        site.ask("rollback")
        found = site.migrations.current()
        assert (found.state, found.rollback) == ("rolled_back", "exact")
        assert site.registry.pointer().model_id == live.model_id
        assert [site.says(c) for c in (RED, GREEN, BLUE)] == before
        assert site.services.train().gallery_changed() is False, "nothing will replace it"

    def test_after_a_rollback_another_try_has_its_templates_already(self, site: Site, monkeypatch) -> None:
        site.migrate(switch=True)
        site.ask("rollback")
        monkeypatch.setattr(OtherEmbedder, "_one", lambda *_: pytest.fail("made already"))
        site.migrate(switch=True)
        assert site.state() == "switched"

    def test_finish_deletes_what_idles(self, site: Site) -> None:
        site.migrate(switch=True)
        site.ask("finish")
        assert site.state() == "finished"
        assert site.images_of(EMBEDDER_ID) == set() and len(site.images_of(OTHER)) == 2
        assert site.stored() == {site.registry.pointer().model_id}
        assert site.knows(RED) == "ann"
        site.migrate("colours", switch=True)
        assert (site.state(), site.says(RED)[0], site.knows(RED)) == ("switched", EMBEDDER_ID, "ann")

    def test_finish_after_a_rollback_deletes_the_other_set(self, site: Site) -> None:
        site.migrate(switch=True)
        site.ask("rollback")
        site.ask("finish")
        assert (site.state(), site.images_of(OTHER)) == ("finished", set())
        assert site.stored() == {site.registry.pointer().model_id} and site.says(RED)[0] == EMBEDDER_ID

    def test_cancel_leaves_nothing_of_it(self, site: Site) -> None:
        before, stored = site.says(RED), site.stored()
        site.migrate()
        site.ask("cancel")
        assert (site.state(), site.images_of(OTHER), site.stored()) == ("cancelled", set(), stored)
        assert site.says(RED) == before

    def test_nobody_enrolled_can_be_migrated_too(self, tmp_path: Path) -> None:
        site = Site(tmp_path / "empty")
        site.migrate(switch=True)
        assert site.says(RED) == (OTHER, Identity(UNKNOWN, 0.0, 0.0, 0.5))
        site.ask("rollback")
        assert (site.migrations.current().rollback, site.says(RED)[0]) == ("refitted", EMBEDDER_ID)
        site.store.close()

    def test_a_process_that_starts_anew_answers_by_the_pointer_and_not_by_the_setting(self, site: Site) -> None:
        site.migrate(switch=True)
        site.ask("finish")
        site.start()
        assert site.services.runtime.packs.initial == EMBEDDER_ID
        assert site.says(RED)[0] == OTHER
        site.stores.blobs.delete(MODELS, POINTER)
        site.start()
        assert site.says(RED)[0] == OTHER, "even when the pointer is gone"
        site.timer()
        site.work_off()
        assert (site.says(RED)[0], site.knows(RED)) == (OTHER, "ann")


class TestAsking:
    def test_before_the_first_there_is_none(self, site: Site) -> None:
        with pytest.raises(NotFound, match="migrate --to"):
            site.migrations.current()

    def test_an_unknown_pack(self, site: Site) -> None:
        with pytest.raises(InvalidInput, match="colours, other, facenet, sface"):
            site.migrations.start("nonsense")

    def test_the_one_that_answers(self, site: Site) -> None:
        with pytest.raises(Conflict, match="answers already"):
            site.migrations.start("colours")

    def test_without_the_weights_nothing_begins(self, site: Site) -> None:
        with pytest.raises(ConfigurationError, match="facerelay models fetch --pack sface"):
            site.migrations.start("sface")
        assert site.registry.migrations.current() is None and site.services.train_requests().idle()

    @pytest.mark.parametrize(
        ("wish", "states"),
        [
            ("switch", {"embedding", "ready"}),
            ("cancel", {"embedding", "ready"}),
            ("rollback", {"switched"}),
            ("finish", {"switched", "rolled_back"}),
        ],
    )
    def test_what_can_follow(self, site: Site, wish: Any, states: set[str]) -> None:
        for state in ("embedding", "ready", "switched", "finished", "rolled_back", "cancelled"):
            self.put(site, state)
            if state in states:
                assert site.migrations.ask(wish).wish == wish
                assert site.migrations.ask(wish).wish == wish, "asked again"
            else:
                with pytest.raises(Conflict, match=f"{state}.*cannot {wish}"):
                    site.migrations.ask(wish)

    @staticmethod
    def put(site: Site, state: str) -> None:
        site.stores.blobs.delete(MODELS, RECORD)
        begun = site.migrations.start("other")
        site.registry.migrations.change(begun, NOW, state=state)

    def test_what_deletes_cannot_be_taken_back(self, site: Site) -> None:
        self.put(site, "ready")
        site.migrations.ask("cancel")
        with pytest.raises(Conflict, match="will cancel"):
            site.migrations.ask("switch")

    def test_a_switch_that_has_begun_is_not_cancelled(self, site: Site) -> None:
        """It may have moved the pointer already: what answers would be deleted."""
        self.put(site, "ready")
        site.migrations.ask("switch")
        with pytest.raises(Conflict, match="will switch"):
            site.migrations.ask("cancel")

    def test_a_switch_that_failed_for_good_may_be_cancelled(self, site: Site, monkeypatch) -> None:
        site.migrate()
        monkeypatch.setattr(site.registry, "switch", _raise(ConfigurationError("no")))
        site.ask("switch")
        assert site.migrations.job(site.migrations.current()).status == "failed"
        site.ask("cancel")
        assert (site.state(), site.images_of(OTHER), site.says(RED)[0]) == ("cancelled", set(), EMBEDDER_ID)

    def test_what_answers_is_not_deleted_whatever_the_record_says(self, site: Site) -> None:
        site.migrate(switch=True)
        site.registry.migrations.change(site.migrations.current(), NOW, state="ready", wish="cancel", rules=EMBEDDER_ID)
        site.timer()
        site.work_off()
        assert (site.state(), site.says(RED)[0], site.knows(RED)) == ("switched", OTHER, "ann")
        assert len(site.images_of(EMBEDDER_ID)) == len(site.images_of(OTHER)) == 2

    def test_a_model_that_was_damaged_while_it_waited_is_fitted_anew(self, site: Site) -> None:
        site.migrate()
        waiting = site.migrations.current().target_model
        site.stores.blobs.put(MODELS, f"{waiting}/matcher.npz", b"damaged")
        site.ask("switch")
        assert (site.state(), site.says(RED)[0], site.knows(RED)) == ("switched", OTHER, "ann")

    def test_the_same_again_goes_on_and_another_has_to_wait(self, site: Site) -> None:
        first = site.migrations.start("other")
        assert site.migrations.start("other").migration_id == first.migration_id
        assert site.migrations.start("other", switch=True).wish == "switch"
        site.work_off()
        assert site.state() == "switched"
        with pytest.raises(Conflict, match="has to end first"):
            site.migrations.start("colours")

    def test_two_at_once_begin_one(self, site: Site) -> None:
        started, barrier = [], threading.Barrier(4)

        def start() -> None:
            barrier.wait(10)
            started.append(site.migrations.start("other").migration_id)

        threads = [threading.Thread(target=start) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(started) == 4 and len(set(started)) == 1
        site.work_off()
        assert site.state() == "ready"

    def test_an_unreadable_record_does_not_stop_the_service(self, site: Site) -> None:
        site.migrate()
        site.stores.blobs.put(MODELS, RECORD, b"damaged")
        assert site.knows(RED) == "ann"
        site.enrol("cid", BLUE)
        site.train()
        assert site.knows(BLUE) == "cid"
        site.migrate(switch=True)
        assert (site.says(BLUE)[0], site.knows(BLUE)) == (OTHER, "cid")

    def test_a_job_that_failed_for_good_is_told_and_can_be_asked_for_again(self, site: Site, monkeypatch) -> None:
        monkeypatch.setattr(site.services.runtime.packs, "load", _raise(ConfigurationError("no")))
        site.migrate()
        found = site.migrations.current()
        assert (found.state, site.migrations.job(found).error) == ("embedding", "configuration: no")
        site.timer()
        assert site.services.train_requests().idle(), "nobody repeats it but an operator"
        monkeypatch.undo()
        site.migrate()
        assert site.state() == "ready"


def _raise(error: Exception) -> Callable[..., Any]:
    def refuse(*_: object, **__: object) -> None:
        raise error

    return refuse


@pytest.fixture
def in_memory(tmp_path: Path) -> Iterator[Path]:
    """A folder that needs no disk, where there is one: processes die here, not machines."""
    memory = Path("/dev/shm")  # noqa: S108 - only for speed, and with a name of its own
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else tmp_path) as folder:
        yield Path(folder)


class TestDeath:
    """kill -9 between any two writes of a whole life."""

    STEPS: tuple[tuple[Callable[[Site], None], str], ...] = (
        (lambda site: site.migrate(), "ready"),
        (lambda site: site.ask("switch"), "switched"),
        (lambda site: site.ask("rollback"), "rolled_back"),
        (lambda site: site.migrate(switch=True), "switched"),
        (lambda site: site.ask("finish"), "finished"),
    )

    def test_at_any_write(self, in_memory: Path) -> None:
        """After each; to die before one leaves the store as after the one before it."""
        site = Site(in_memory / "0")
        site.enrol("ann", RED)
        site.enrol("bob", GREEN)
        site.train()
        before, facenet = site.says(RED), site.registry.pointer().model_id
        deaths = 0
        for index, (step, end) in enumerate(self.STEPS):
            site.store.close()
            was = site.folder
            site = self.copy(was, in_memory / f"{index + 1}", index)
            site.start(life := Life())
            step(site)
            for number in range(1, life.writes + 1):
                other = self.copy(was, in_memory / f"{index + 1}-{number}", index)
                self.die(other, step, end, number)
                if end == "rolled_back":
                    assert other.says(RED) == before and other.registry.pointer().model_id == facenet
                other.store.close()
                deaths += 1
        site.store.close()
        assert deaths > 60

    @staticmethod
    def copy(was: Path, folder: Path, index: int) -> Site:
        shutil.copytree(was, folder)
        site = Site(folder)
        site.clock.advance(10_000 * (index + 1))  # later than whatever happened in the original
        return site

    def die(self, site: Site, step: Callable[[Site], None], end: str, number: int) -> None:
        began = site.registry.migrations.current()
        site.start(Life(number))
        with pytest.raises(Killed):
            step(site)
        site.start()
        self.check(site)
        # The host delivers again, the timer fires, and the operator, who was not answered, asks again.
        site.work_off()
        site.timer()
        site.work_off()
        self.check(site)
        current = site.registry.migrations.current()
        if current is None or current.state != end or current.migration_id != _id_after(began, current):
            step(site)
        assert site.state() == end, number
        self.check(site)
        if end == "finished":
            assert site.images_of(EMBEDDER_ID) == set() and len(site.images_of(OTHER)) == 2
            assert site.stored() == {site.registry.pointer().model_id}
        assert site.stores.queue.length(TRAIN_QUEUE) == 0

    def check(self, site: Site) -> None:
        """Whenever somebody asks, one sound pair answers, and it knows everybody."""
        model = site.registry.stored_model(site.registry.pointer().model_id)
        assert model is not None and model.person_ids == ("ann", "bob")
        assert site.says(RED)[0] == model.embedder_id
        assert (site.knows(RED), site.knows(GREEN)) == ("ann", "bob")


def _id_after(began: Any, current: Any) -> str:
    """The migration that a step should end in: the one it began with, or a new one."""
    if began is not None and not began.over:
        return began.migration_id
    return current.migration_id if began is None or current.migration_id != began.migration_id else ""


class TestMeanwhile:
    def test_a_training_takes_its_turn_between_slices(self, site: Site, slices: None) -> None:
        site.enrol("cid", BLUE)
        site.migrations.start("other")
        assert site.work_off(1) == 1
        assert (site.state(), site.migrations.current().wish) == ("embedding", None)
        site.timer()
        assert site.work_off(2) == 2
        assert site.state() == "embedding", "the migration is not done yet"
        assert site.knows(BLUE) == "cid", "and the training was"
        site.work_off()
        assert site.state() == "ready"

    def test_the_timer_asks_for_one_training_and_no_more(self, site: Site, slices: None) -> None:
        site.enrol("cid", BLUE)
        site.migrations.start("other")
        for _ in range(3):
            site.timer()
        kinds = [TrainRequest.model_validate_json(m.body).kind for m in site.stores.queue.peek(TRAIN_QUEUE)]
        assert kinds == ["migrate", "fit"]

    def test_the_timer_sends_a_lost_message_again(self, site: Site) -> None:
        site.migrations.start("other")
        [message] = site.stores.queue.receive(TRAIN_QUEUE)
        site.stores.queue.delete(message)
        site.timer()
        site.work_off()
        assert site.state() == "ready"

    def test_whoever_is_enrolled_meanwhile_is_known_to_both(self, site: Site, slices: None) -> None:
        site.migrations.start("other")
        site.work_off(1)
        site.enrol("cid", BLUE)
        site.work_off()
        assert site.state() == "ready"
        site.enrol("dan", YELLOW)  # after the model was fitted
        assert site.images_of(OTHER) == site.images_of(EMBEDDER_ID)
        site.ask("switch")
        assert [site.knows(c) for c in (RED, GREEN, BLUE, YELLOW)] == ["ann", "bob", "cid", "dan"]

    def test_whoever_is_enrolled_after_the_switch_is_not_lost_by_a_rollback(self, site: Site) -> None:
        site.migrate(switch=True)
        site.enrol("cid", BLUE)
        site.train()
        assert site.says(BLUE)[0] == OTHER and site.knows(BLUE) == "cid"
        site.ask("rollback")
        assert site.migrations.current().rollback == "exact"
        site.timer()
        site.work_off()
        assert site.says(BLUE)[0] == EMBEDDER_ID and site.knows(BLUE) == "cid"

    def test_one_enrolled_by_a_process_that_knew_nothing_of_it_is_made_up_for(self, site: Site) -> None:
        """It read the record just before the migration began, and stored just after the templates were made."""
        late = Services(Runtime(site.services.runtime.settings, stores=site.stores, pack=[colour_pack()]))
        site.migrate()
        late.packs_to_enrol = lambda: [late.runtime.pack]  # type: ignore[method-assign]
        late.enroll().add_person("cid")
        late.enroll().add_image("cid", portrait(BLUE))
        assert site.images_of(OTHER) != site.images_of(EMBEDDER_ID)
        site.ask("switch")
        assert site.knows(BLUE) == "cid"

    def test_many_trainings_do_not_prune_the_way_back(self, site: Site) -> None:
        live = site.registry.pointer().model_id
        site.migrate(switch=True)
        for colour in (BLUE, YELLOW, (230, 20, 230), (20, 230, 230), (200, 60, 20), (60, 200, 20)):
            site.enrol("cid", colour)
            site.train()
        site.ask("rollback")
        assert (site.migrations.current().rollback, site.registry.pointer().model_id) == ("exact", live)

    def test_a_slow_training_of_the_old_embedder_does_not_undo_a_switch(self, site: Site, monkeypatch) -> None:
        """The lease had run out: the switch came while the training was fitting."""
        site.migrate()
        fitter = site.services.train()._fitter
        fit = fitter.fit

        def slow(embedder_id: str, progress: Any, live: Any) -> Any:
            bundle = fit(embedder_id, progress, live)
            if embedder_id == EMBEDDER_ID:
                pointer = site.registry.pointer()
                site.registry.switch(site.migrations.current().target_model, expected=pointer)
            return bundle

        monkeypatch.setattr(fitter, "fit", slow)
        site.train()
        assert site.says(RED)[0] == OTHER and site.knows(RED) == "ann"
        manifest = site.registry.manifest(site.registry.pointer())
        assert manifest.embedder["embedder_id"] == OTHER, "it read the gallery again, of the embedder that rules now"

    def test_without_the_other_weights_a_process_enrols_with_its_own(self, site: Site, monkeypatch) -> None:
        site.migrate()
        packs = site.services.runtime.packs
        load = packs.load
        monkeypatch.setattr(
            packs, "load", lambda e: load(e) if e == EMBEDDER_ID else _raise(ModelUnavailable("not here"))()
        )
        site.enrol("cid", BLUE)
        monkeypatch.undo()
        site.ask("switch")
        assert site.knows(BLUE) == "cid"

    def test_images_without_a_face_are_told_and_do_not_hold_it_up(self, site: Site) -> None:
        site.stores.people.add_person(Person("dan", NOW))
        site.stores.blobs.put(DATASET, "dan/1.jpg", b"damaged on the disk")
        site.migrate()
        found = site.migrations.current()
        assert (found.state, len(found.skipped), found.images) == ("ready", 1, 3)
        assert "dan" not in str(found.skipped)


class TestErasure:
    def nobody_knows(self, site: Site, person_id: str) -> None:
        for blob in site.stores.blobs.list(MODELS):
            data = site.stores.blobs.get(MODELS, blob.name).data
            assert person_id.encode() not in data and person_id.encode("utf-32-le") not in data, blob.name
        assert list(site.stores.people.list_templates(person_id=person_id)) == []
        assert person_id not in str(site.migrations.job(site.migrations.current()))

    def erase(self, site: Site, person_id: str = "ann") -> None:
        site.services.enroll().remove_person(person_id)

    def test_while_templates_are_made(self, site: Site, slices: None) -> None:
        site.migrations.start("other", switch=True)
        site.work_off(1)
        self.erase(site)
        site.work_off()
        assert site.state() == "switched"
        assert (site.knows(RED), site.knows(GREEN)) == (UNKNOWN, "bob")
        self.nobody_knows(site, "ann")

    def test_while_the_model_waits(self, site: Site) -> None:
        site.migrate()
        waiting = site.migrations.current().target_model
        self.erase(site)
        assert waiting not in site.stored()
        self.nobody_knows(site, "ann")
        site.ask("switch")
        assert (site.says(GREEN)[0], site.knows(RED), site.knows(GREEN)) == (OTHER, UNKNOWN, "bob")
        self.nobody_knows(site, "ann")

    def test_while_it_is_compared(self, site: Site, monkeypatch) -> None:
        compare = site.work._compare

        def overtaken(*arguments: Any) -> dict[str, Any]:
            report = compare(*arguments)
            report["changes"] = [{"from": "ann", "to": "bob", "count": 1, "of": "crops", "ids": []}]
            self.erase(site)
            return report

        monkeypatch.setattr(site.work, "_compare", overtaken)
        site.migrate()
        assert site.state() == "ready" and site.migrations.current().report["changes"] == []
        self.nobody_knows(site, "ann")

    def test_who_is_erased_after_the_switch_does_not_come_back_with_a_rollback(self, site: Site) -> None:
        live = site.registry.pointer().model_id
        site.migrate(switch=True)
        self.erase(site)
        assert live not in site.stored()
        self.nobody_knows(site, "ann")
        site.ask("rollback")
        assert (site.state(), site.migrations.current().rollback) == ("rolled_back", "refitted")
        assert (site.says(GREEN)[0], site.knows(RED), site.knows(GREEN)) == (EMBEDDER_ID, UNKNOWN, "bob")
        self.nobody_knows(site, "ann")

    def test_a_comparison_forgets_who_is_erased(self, site: Site) -> None:
        site.migrate()
        changes = [
            {"from": "ann", "to": UNKNOWN, "count": 1, "of": "crops", "ids": []},
            {"from": "bob", "to": UNKNOWN, "count": 1, "of": "crops", "ids": []},
        ]
        found = site.migrations.current()
        site.registry.migrations.change(found, NOW, report={**found.report, "changes": changes})
        self.erase(site)
        assert site.migrations.current().report["changes"] == changes[1:]

    def test_a_record_nobody_can_read_may_name_anybody(self, site: Site) -> None:
        site.migrate()
        site.stores.blobs.put(MODELS, RECORD, b"ann is in here")
        self.erase(site)
        assert RECORD not in {blob.name for blob in site.stores.blobs.list(MODELS)}


class TestComparison:
    def crop(self, site: Site, colour: tuple[int, int, int], track: str) -> str:
        data = portrait(colour)
        made = candidate(data, track=track)
        site.stores.blobs.put(CANDIDATES, made.blob_name, data, metadata=made.to_metadata())
        site.services.detections().store_candidate(made.blob_name, data, made.to_metadata())
        [detection] = [d for d in site.stores.detections.list(_any()).detections if d.candidate == made.blob_name]
        return detection.id

    def test_crops_are_judged_by_both_and_no_detection_changes(self, site: Site) -> None:
        red, blue = self.crop(site, RED, "t1"), self.crop(site, BLUE, "t2")
        site.stores.blobs.put(CANDIDATES, "hq/gate/broken.jpg", b"no picture")
        # The other embedder will take blue for ann.
        for each in list(site.stores.people.list_templates(person_id="ann")):
            blue_template = template("ann", np.roll(colour_vector(BLUE), 3), image=each.image, embedder_id=OTHER)
            site.stores.people.add_template(blue_template)
        site.migrate()
        report = site.migrations.current().report
        assert report["crops"] == {
            "compared": 2,
            "agreed": 0,
            "agreement": 0.0,
            "named": {"old": 0.5, "new": 0.5},
            "left_out": 1,
        }
        changes = [change for change in report["changes"] if change["of"] == "crops"]
        assert changes == [
            {"from": "ann", "to": UNKNOWN, "count": 1, "of": "crops", "ids": [red]},
            {"from": UNKNOWN, "to": "ann", "count": 1, "of": "crops", "ids": [blue]},
        ]
        stored = site.stores.detections.list(_any()).detections
        assert {d.embedder_id for d in stored} == {EMBEDDER_ID} and len(stored) == 2
        assert report["models"]["old"]["embedder_id"] == EMBEDDER_ID
        assert report["models"]["new"]["operating"]["threshold"] >= 0.5
        job = site.migrations.job(site.migrations.current())
        assert job.result["comparison"]["crops"]["compared"] == 2 and "ann" not in str(job.result)

    def test_only_the_latest_are_looked_at(self, site: Site) -> None:
        for number in range(4):
            self.crop(site, RED, f"t{number}")
        site.migrations.start("other", compare=3)
        site.work_off()
        assert site.migrations.current().report["crops"]["compared"] == 3

    def test_with_few_crops_enrolled_images_are_left_out_in_turn(self, site: Site) -> None:
        for x, y in ((90, 20), (20, 90), (90, 90)):  # far enough apart to be no near-duplicates
            site.enrol("ann", (230, x, y))
            site.enrol("bob", (x, 230, y))
        site.migrate()
        report = site.migrations.current().report
        assert report["crops"]["agreement"] is None
        assert (report["enrolled"]["compared"], report["enrolled"]["agreement"]) == (8, 1.0)
        assert report["enrolled"]["named"] == {"old": 1.0, "new": 1.0}


def _any() -> Any:
    from shared.ports import DetectionFilter

    return DetectionFilter()
