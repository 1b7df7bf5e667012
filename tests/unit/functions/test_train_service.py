"""Training jobs: asked for, run once, run again after a crash, overtaken by an erasure."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from functions.train.embed import Reembedder
from functions.train.fitting import FitSettings, Fitter
from functions.train.service import (
    BUSY_DELAY_S,
    TRAIN_LEASE,
    Slice,
    TrainRequests,
    TrainService,
    job_document,
)
from shared.adapters.local import LocalStore
from shared.bootstrap import Stores
from shared.domain import DATASET, MODELS, Person
from shared.errors import EmbedderMismatch, IntegrityError, NotFound, StoreUnavailable
from shared.matching.bundle import load_matcher
from shared.messages import MAX_DEQUEUE_COUNT, TRAIN_QUEUE, TrainRequest
from shared.model_registry import ModelRegistry
from shared.vision.decode import ImageLimits
from tests.support import (
    BLUE,
    DIMENSION,
    EMBEDDER_ID,
    GREEN,
    NOW,
    OPERATING,
    RED,
    ColourEmbedder,
    TickingClock,
    colour_pack,
    colour_vector,
    packs_of,
    picture,
    png,
    portrait,
    stores_over,
    template,
)


class Embedder(ColourEmbedder):
    """Calls `before` ahead of its work."""

    before: Callable[[], None] = staticmethod(lambda: None)

    def embed(self, images, faces):
        self.before()
        return super().embed(images, faces)


def fit_settings(embedder_id: str) -> FitSettings:
    return FitSettings({"embedder_id": embedder_id, "dimension": DIMENSION}, OPERATING, 0.01)


class World:
    """A training service over real stores, with a clock that a test can move."""

    def __init__(self, folder: Path) -> None:
        self.clock = TickingClock()
        self.store = LocalStore(folder, clock=self.clock)
        self.stores: Stores = stores_over(self.store)
        self.registry = ModelRegistry(self.stores.blobs, self.clock)
        self.embedder = Embedder()
        self.requests = TrainRequests(jobs=self.stores.jobs, queue=self.stores.queue, clock=self.clock)

    def service(self) -> TrainService:
        return TrainService(
            people=self.stores.people,
            jobs=self.stores.jobs,
            queue=self.stores.queue,
            registry=self.registry,
            packs=packs_of(colour_pack(self.embedder)),
            reembedder=Reembedder(
                people=self.stores.people,
                blobs=self.stores.blobs,
                limits=ImageLimits(),
                slot=threading.Semaphore(1),
                clock=self.clock,
            ),
            fitter=Fitter(people=self.stores.people, settings=fit_settings, clock=self.clock),
            migrate=lambda report: Slice(True, 1.0),
            lease_ttl_s=60.0,
            clock=self.clock,
        )

    def enrol(self, person_id: str, colour: tuple[int, int, int], *, embedder_id: str = EMBEDDER_ID) -> str:
        """A person with one stored image and its template; returns the image's name."""
        image = f"{person_id}/{'-'.join(map(str, colour))}.jpg"
        try:
            self.stores.people.add_person(Person(person_id, NOW))
        except Exception:  # noqa: BLE001 - a second image of the same person
            assert self.stores.people.get_person(person_id)
        self.stores.blobs.put(DATASET, image, portrait(colour))
        self.stores.people.add_template(
            template(person_id, colour_vector(colour), image=image, embedder_id=embedder_id)
        )
        return image

    def queued(self) -> list[TrainRequest]:
        self.clock.advance(BUSY_DELAY_S + 1)
        return [TrainRequest.model_validate_json(m.body) for m in self.stores.queue.peek(TRAIN_QUEUE)]

    def run(self, kind: str):
        job = self.requests.request(kind)
        return self.service().run(TrainRequest(schema=1, job_id=job.job_id, kind=kind))

    def live_people(self) -> tuple[str, ...]:
        return load_matcher(self.registry.load(self.registry.pointer())).person_ids


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


class TestJobs:
    def test_a_request_is_a_job_and_a_message(self, world: World) -> None:
        job = world.requests.request("fit")
        assert (job.status, world.requests.job(job.job_id).status) == ("queued", "queued")
        [message] = world.queued()
        assert (message.job_id, message.kind) == (job.job_id, "fit")

    def test_a_fit_publishes_the_gallery(self, world: World) -> None:
        world.enrol("ann", RED)
        world.enrol("bob", GREEN)
        job = world.run("fit")
        assert (job.status, job.progress, job.error) == ("succeeded", 1.0, None)
        assert job.result["people"] == 2 and job.result["templates"] == 2 and job.result["set_aside"] == 0
        assert job.result["model_id"] == world.registry.pointer().model_id
        assert world.live_people() == ("ann", "bob")
        assert world.requests.job(job.job_id) == job

    def test_nobody_enrolled_is_a_model_of_nobody(self, world: World) -> None:
        assert world.run("fit").status == "succeeded"
        assert world.live_people() == ()

    def test_a_job_is_waited_for_and_given_up(self, world: World) -> None:
        job = world.requests.request("fit")
        assert world.requests.wait(job.job_id, 0.05).status == "queued"
        world.service().run(TrainRequest(schema=1, job_id=job.job_id, kind="fit"))
        assert world.requests.wait(job.job_id, 30).status == "succeeded"
        with pytest.raises(NotFound):
            world.requests.wait("no-such-job", 1)

    def test_a_finished_job_is_not_run_again(self, world: World) -> None:
        job = world.run("fit")
        model = world.registry.pointer().model_id
        assert world.service().run(TrainRequest(schema=1, job_id=job.job_id, kind="fit")) == job
        assert world.registry.pointer().model_id == model

    def test_a_job_nobody_knows_is_an_error(self, world: World) -> None:
        with pytest.raises(NotFound):
            world.service().run(TrainRequest(schema=1, job_id="x", kind="fit"))

    def test_while_another_trains_the_job_is_put_back_for_later(self, world: World) -> None:
        world.stores.jobs.acquire_lease(TRAIN_LEASE, "another", ttl_s=60)
        job = world.requests.request("fit")
        [message] = world.stores.queue.receive(TRAIN_QUEUE)
        world.stores.queue.delete(message)
        request = TrainRequest.model_validate_json(message.body)
        assert world.service().run(request).status == "queued"
        assert world.stores.queue.peek(TRAIN_QUEUE) == [], "not at once"
        assert world.queued() == [request]
        assert world.registry.pointer() is None
        assert world.stores.jobs.release_lease(TRAIN_LEASE, "another"), "the other's lease was not touched"
        assert world.service().run(request).status == "succeeded"
        assert world.requests.job(job.job_id).finished

    def test_a_stale_lease_can_be_released(self, world: World) -> None:
        world.stores.jobs.acquire_lease(TRAIN_LEASE, "dead", ttl_s=60)
        assert world.requests.unblock() is True
        assert world.requests.unblock() is False
        assert world.run("fit").status == "succeeded"

    def test_a_crash_is_followed_by_a_rerun_under_the_same_lease(self, world: World) -> None:
        """The process died: the job still says `running`, and its lease is still held."""
        world.enrol("ann", RED)
        job = world.requests.request("fit")
        world.stores.jobs.put_job(replace(job, status="running", progress=0.7))
        world.stores.jobs.acquire_lease(TRAIN_LEASE, job.job_id, ttl_s=60)
        assert world.service().run(TrainRequest(schema=1, job_id=job.job_id, kind="fit")).status == "succeeded"
        assert world.stores.jobs.acquire_lease(TRAIN_LEASE, "next", ttl_s=1), "and the lease is free again"

    def test_a_passing_fault_is_raised_and_the_job_waits(self, world: World) -> None:
        world.enrol("ann", RED)
        job = world.requests.request("embed")
        request = TrainRequest(schema=1, job_id=job.job_id, kind="embed")

        def away() -> None:
            raise StoreUnavailable("away")

        world.embedder.before = away
        with pytest.raises(StoreUnavailable):
            world.service().run(request)
        waiting = world.requests.job(job.job_id)
        assert (waiting.status, waiting.error) == ("queued", "store_unavailable: away")
        world.embedder.before = lambda: None
        assert world.service().run(request).status == "succeeded"

    def test_a_lasting_fault_fails_the_job_and_frees_the_lease(self, world: World) -> None:
        world.enrol("ann", RED)

        def damaged() -> None:
            raise IntegrityError("no such weights")

        world.embedder.before = damaged
        job = world.run("embed")
        assert job.status == "failed" and job.error.startswith("integrity: ")
        assert world.stores.jobs.acquire_lease(TRAIN_LEASE, "next", ttl_s=1)

    def test_a_training_mends_a_damaged_pointer(self, world: World) -> None:
        world.enrol("ann", RED)
        world.stores.blobs.put(MODELS, "current.json", b"damaged")
        assert world.service().gallery_changed() is True
        assert world.run("fit").status == "succeeded"
        assert world.live_people() == ("ann",)

    @pytest.mark.parametrize("error", [StoreUnavailable("away"), RuntimeError("a bug")])
    def test_a_job_that_is_given_up_says_so_and_may_be_replayed(self, world: World, error: Exception) -> None:
        world.enrol("ann", RED)
        job = world.requests.request("embed")
        request = TrainRequest(schema=1, job_id=job.job_id, kind="embed")

        def fail() -> None:
            raise error

        world.embedder.before = fail
        for last_attempt, status in ((False, "queued"), (True, "failed")):
            with pytest.raises(type(error)):
                world.service().run(request, last_attempt=last_attempt)
            assert world.requests.job(job.job_id).status == status
        assert "a bug" not in world.requests.job(job.job_id).error
        world.embedder.before = lambda: None
        assert world.service().run(request).status == "succeeded"

    def test_the_lease_is_kept_for_as_long_as_there_is_progress(self, world: World, monkeypatch) -> None:
        for colour in (RED, GREEN, BLUE):
            world.enrol("ann", colour)
        moment = iter(range(0, 10_000, 30))
        monkeypatch.setattr("functions.train.service.time.monotonic", lambda: float(next(moment)))
        taken: list[bool] = []

        def slow() -> None:
            world.clock.advance(45.0)
            taken.append(world.stores.jobs.acquire_lease(TRAIN_LEASE, "another", ttl_s=1))

        world.embedder.before = slow
        assert world.run("embed").status == "succeeded"
        assert taken == [False] * 3, "three times 45 s under a lease of 60 s"

    def test_nothing_is_asked_for_while_a_training_waits(self, world: World) -> None:
        assert world.requests.idle()
        world.requests.request("fit")
        assert not world.requests.idle()

    def test_the_host_gives_up_after_as_many_attempts_as_the_code_counts(self) -> None:
        host = json.loads((Path(__file__).parents[3] / "host.json").read_text())
        assert host["extensions"]["queues"]["maxDequeueCount"] == MAX_DEQUEUE_COUNT

    def test_a_job_as_json(self, world: World) -> None:
        document = job_document(world.run("fit"))
        assert document["status"] == "succeeded" and document["created_at"].endswith("Z")
        assert document["result"]["people"] == 0


class TestGalleryChanged:
    def test_follows_the_gallery(self, world: World) -> None:
        service = world.service()
        assert service.gallery_changed() is False, "nobody enrolled, nothing published"
        world.enrol("ann", RED)
        assert service.gallery_changed() is True
        world.run("fit")
        assert service.gallery_changed() is False
        world.enrol("ann", GREEN)
        assert service.gallery_changed() is True
        world.run("fit")
        world.stores.people.delete_person("ann")
        assert service.gallery_changed() is True

    def test_another_initial_pack_changes_nothing(self, world: World) -> None:
        """What answers is changed by a migration, and not by a setting."""
        world.enrol("ann", RED)
        world.run("fit")
        world.embedder = Embedder("other.1")
        assert world.service().gallery_changed() is False


class TestErasureMeanwhile:
    def test_a_fit_that_an_erasure_overtook_reads_the_gallery_again(self, world: World, monkeypatch) -> None:
        world.enrol("ann", RED)
        world.enrol("bob", GREEN)
        world.run("fit")
        publish = world.registry.publish

        def overtaken(bundle, **options) -> None:
            monkeypatch.setattr(world.registry, "publish", publish)
            world.stores.people.delete_person("ann")
            assert world.registry.erase_person("ann")
            publish(bundle, **options)

        monkeypatch.setattr(world.registry, "publish", overtaken)
        assert world.run("fit").status == "succeeded"
        assert world.live_people() == ("bob",)
        self.assert_nobody_knows("ann", world)

    def test_whoever_left_between_reading_and_publishing_is_erased_again(self, world: World, monkeypatch) -> None:
        """The removal looked for models before this one was published."""
        world.enrol("ann", RED)
        world.enrol("bob", GREEN)
        publish = world.registry.publish

        def removed_meanwhile(bundle, **options) -> None:
            monkeypatch.setattr(world.registry, "publish", publish)
            world.stores.people.delete_person("ann")
            world.registry.erase_person("ann")
            publish(bundle, **options)

        monkeypatch.setattr(world.registry, "publish", removed_meanwhile)
        assert world.run("fit").status == "succeeded"
        assert world.live_people() == ("bob",)
        self.assert_nobody_knows("ann", world)

    @staticmethod
    def assert_nobody_knows(person_id: str, world: World) -> None:
        for blob in world.stores.blobs.list(MODELS):
            data = world.stores.blobs.get(MODELS, blob.name).data
            assert person_id.encode() not in data and person_id.encode("utf-32-le") not in data, blob.name


class TestEmbed:
    def templates(self, world: World, embedder_id: str = EMBEDDER_ID):
        return list(world.stores.people.list_templates(embedder_id=embedder_id))

    def test_images_of_nobody_are_deleted(self, world: World) -> None:
        kept = world.enrol("ann", RED)
        world.stores.blobs.put(DATASET, "ghost/1.jpg", portrait(GREEN))
        job = world.run("embed")
        assert job.result == {"images": 2, "templates": 1, "without_face": 0, "unreadable": 0, "deleted": 1}
        assert [blob.name for blob in world.stores.blobs.list(DATASET)] == [kept]

    def test_another_embedders_templates_stay_and_ours_are_added(self, world: World) -> None:
        world.enrol("ann", RED, embedder_id="old.1")
        world.run("embed")
        [ours], [old] = self.templates(world), self.templates(world, "old.1")
        assert (ours.person_id, ours.image, ours.face_box) == ("ann", old.image, old.face_box)
        assert ours.embedding == pytest.approx(colour_vector(RED), abs=1e-3)
        assert ours.template_id != old.template_id

    def test_a_template_that_is_right_already_is_left_alone(self, world: World) -> None:
        world.enrol("ann", RED)
        before = self.templates(world)
        world.run("embed")
        assert [t.created_at for t in self.templates(world)] == [t.created_at for t in before]

    def test_a_template_that_is_wrong_is_replaced(self, world: World) -> None:
        image = world.enrol("ann", RED)
        [stored] = self.templates(world)
        world.stores.people.delete_template("ann", stored.template_id)
        world.stores.people.add_template(template("ann", colour_vector(BLUE), image=image))
        world.run("embed")
        [replaced] = self.templates(world)
        assert replaced.embedding == pytest.approx(colour_vector(RED), abs=1e-3)

    def test_an_image_without_a_template_has_its_face_found_again(self, world: World) -> None:
        world.stores.people.add_person(Person("ann", NOW))
        world.stores.blobs.put(DATASET, "ann/1.jpg", portrait(RED))
        world.stores.blobs.put(DATASET, "ann/2.jpg", png(picture()))
        job = world.run("embed")
        assert (job.result["templates"], job.result["without_face"]) == (1, 1)
        assert [t.image for t in self.templates(world)] == ["ann/1.jpg"]

    def test_an_image_that_is_removed_meanwhile_does_not_stop_the_others(self, world: World) -> None:
        images = [world.enrol("ann", RED), world.enrol("ann", GREEN)]

        def removed() -> None:
            world.stores.blobs.delete(DATASET, images[1])
            world.stores.blobs.delete(DATASET, images[0])

        world.embedder.before = removed
        job = world.run("embed")
        assert job.status == "succeeded"
        assert (job.result["templates"], job.result["deleted"]) == (1, 1)

    def test_an_image_that_is_damaged_does_not_stop_the_others(self, world: World) -> None:
        world.enrol("ann", RED)
        world.stores.blobs.put(DATASET, "ann/0.jpg", b"damaged on the disk")
        job = world.run("embed")
        assert job.status == "succeeded"
        assert (job.result["templates"], job.result["unreadable"]) == (1, 1)

    def test_both_at_once_embeds_first(self, world: World) -> None:
        world.enrol("ann", RED, embedder_id="old.1")
        job = world.run("embed_and_fit")
        assert job.result["images"] == 1 and job.result["people"] == 1
        assert world.live_people() == ("ann",)


def test_a_template_of_another_embedder_is_in_no_gallery(world: World) -> None:
    """By construction: whatever a store gives back, two spaces are not fitted together."""
    both = [template("ann", colour_vector(RED)), template("bob", colour_vector(GREEN), embedder_id="old.1")]
    fitter = Fitter(people=world.stores.people, settings=fit_settings, clock=world.clock)
    with pytest.raises(EmbedderMismatch, match=r"old\.1"):
        fitter.fit_to(EMBEDDER_ID, both, "state", model_id="m")
