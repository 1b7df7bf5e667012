"""Groups of unknown faces: made, kept, corrected for good, named, and gone with their detections."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from functions.enroll.service import EnrollService
from functions.group.naming import GROUP, MAX_TEMPLATES, Naming
from functions.group.runs import Grouping
from functions.group.service import GROUP_LEASE, GroupJobs, GroupService
from functions.group.state import GroupState, new_group_id
from functions.group.store import STATE_BLOB, GroupStore
from functions.jobs import BUSY_DELAY_S, LeasedJobs
from shared.adapters.local import LocalStore
from shared.bootstrap import Stores
from shared.domain import CANDIDATES, GROUPS, UNKNOWN, Detection, Float32Array, Job, Person
from shared.errors import Conflict, IntegrityError, InvalidIdentifier, InvalidInput, NotFound, StoreUnavailable
from shared.messages import GROUP_QUEUE, GroupRequest
from shared.model_registry import ModelRegistry
from shared.ports import DetectionFilter
from shared.spelling import normalise_person_id
from shared.vision.decode import ImageLimits
from shared.vision.quality import QualityGate
from tests.support import (
    BLUE,
    EMBEDDER_ID,
    GREEN,
    NOW,
    RED,
    YELLOW,
    TickingClock,
    colour_pack,
    colour_vector,
    picture,
    png,
    portrait,
    quality,
    stores_over,
)

RETENTION = timedelta(days=30)
DUPLICATE = 0.9999
SHADE = 4
"""Grey levels between two crops of a stranger: their cosine is 0.9998."""


class World:
    """Every part of grouping over real stores. What fails on purpose is set on `fault`."""

    def __init__(self, folder: Path) -> None:
        self.clock = TickingClock(NOW + timedelta(hours=1))
        self.local = LocalStore(folder, clock=self.clock)
        self.stores: Stores = stores_over(self.local)
        self.blobs, self.detections = self.stores.blobs, self.stores.detections
        self.trainings = 0
        self.number = 0
        self.build()

    def build(self) -> None:
        """All parts anew, as another process has them."""
        self.store = GroupStore(self.blobs, kept_for=RETENTION, clock=self.clock)
        self.leased = LeasedJobs(
            GROUP_LEASE,
            GROUP_QUEUE,
            jobs=self.stores.jobs,
            queue=self.stores.queue,
            lease_ttl_s=60.0,
            clock=self.clock,
        )
        self.enroll = EnrollService(
            people=self.stores.people,
            blobs=self.blobs,
            registry=ModelRegistry(self.blobs, self.clock),
            packs=lambda: [colour_pack(duplicate_similarity=DUPLICATE)],
            gate=QualityGate(min_size_px=40, min_sharpness=0.0, min_confidence=0.9),
            limits=ImageLimits(),
            slot=threading.Semaphore(1),
            clock=self.clock,
            forget=lambda person_id: self.naming.forget(person_id),
        )
        self.naming = Naming(
            detections=self.detections,
            people=self.stores.people,
            blobs=self.blobs,
            store=self.store,
            enroll=lambda: self.enroll,
            thresholds={EMBEDDER_ID: 0.5},
            train=self._train,
            kept_for=RETENTION,
        )
        self.grouping = Grouping(
            detections=self.detections,
            store=self.store,
            thresholds={EMBEDDER_ID: 0.5, "other.1": 0.5},
            min_faces=3,
            kept_for=RETENTION,
            clock=self.clock,
        )
        self.service = GroupService(
            store=self.store,
            detections=self.detections,
            naming=self.naming,
            jobs=self.leased,
            job_repository=self.stores.jobs,
            clock=self.clock,
        )
        self.jobs = GroupJobs(jobs=self.leased, grouping=self.grouping, naming=self.naming, service=self.service)

    def _train(self) -> None:
        self.trainings += 1

    def see(self, embedding: Float32Array | None, **changes: object) -> str:
        """Stores an unknown face; its id."""
        self.number += 1
        changes.setdefault("id", f"d{self.number:04d}")
        captured_at = changes.setdefault("captured_at", NOW + timedelta(seconds=self.number))
        plain = Detection(
            id="",
            person_id=UNKNOWN,
            similarity=0.2,
            confidence=0.1,
            threshold=0.5,
            model_id="m",
            embedder_id=EMBEDDER_ID,
            site="hq",
            camera="gate",
            location="lobby",
            captured_at=captured_at,
            processed_at=captured_at,
            track=f"t{self.number}",
            frame_box=None,
            face_box=(80.0, 80.0, 160.0, 160.0),
            quality=quality(),
            candidate=None,
            embedding=embedding,
        )
        detection = replace(plain, **changes)
        assert self.detections.add(detection)
        return detection.id

    def stranger(self, colour: tuple[int, int, int], faces: int = 4, **changes: object) -> list[str]:
        """Somebody comes by, seen so many times, each with a crop that is not quite like the others."""
        found = []
        for shift in range(faces):
            name = f"hq/gate/{colour}-{self.number}.jpg"
            shade = [level + SHADE * shift if level == min(colour) else level for level in colour]
            self.blobs.put(CANDIDATES, name, portrait((shade[0], shade[1], shade[2]), shift=self.number % 7))
            found.append(self.see(colour_vector(colour), candidate=name, **changes))
        return found

    def drain(self) -> list[Job]:
        """Runs the queue's messages until there is none, as the host does."""
        done = []
        self.clock.advance(BUSY_DELAY_S + 1)
        while messages := self.stores.queue.receive(GROUP_QUEUE):
            done.append(self.jobs.run(GroupRequest.model_validate_json(messages[0].body)))
            self.stores.queue.delete(messages[0])
        return done

    def run(self) -> Job:
        job = self.service.request_run()
        self.drain()
        return self.stores.jobs.get_job(job.job_id)

    def name(self, group_id: str, person_id: str = "ann") -> Job:
        job = self.service.name(group_id, person_id)
        self.drain()
        return self.stores.jobs.get_job(job.job_id)

    def groups(self) -> dict[str, frozenset[str]]:
        return {group.group_id: group.ids for group in self.store.read().groups.values()}

    def group_of(self, detection_id: str) -> str | None:
        return next((key for key, ids in self.groups().items() if detection_id in ids), None)

    def people_of(self, ids: list[str]) -> set[str]:
        return {found.person_id for each in ids if (found := self.detections.get(each))}


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.local.close()


class TestRuns:
    def test_faces_of_one_person_are_a_group_across_cameras(self, world: World) -> None:
        red = [*world.stranger(RED, 2, camera="gate"), *world.stranger(RED, 2, camera="yard", location="Hof")]
        blue = world.stranger(BLUE, 3)
        world.stranger(GREEN, 2)
        job = world.run()
        assert (job.status, dict(job.result)) == ("succeeded", {"faces": 9, "groups": 2, "grouped": 7})
        assert set(world.groups().values()) == {frozenset(red), frozenset(blue)}
        assert job.progress == 1.0

    def test_an_id_is_never_a_persons(self) -> None:
        for _ in range(20):
            with pytest.raises(InvalidIdentifier):
                normalise_person_id(new_group_id())
        assert len({new_group_id() for _ in range(1_000)}) == 1_000

    def test_ids_stay_when_faces_come_and_go(self, world: World) -> None:
        red, blue = world.stranger(RED), world.stranger(BLUE)
        world.run()
        before = world.groups()
        late = world.stranger(RED, 3, captured_at=NOW + timedelta(days=20))
        world.run()
        assert world.groups().keys() == before.keys()
        assert world.group_of(late[0]) == world.group_of(red[0])
        # The first ones age out; whoever is left keeps the name.
        known = world.group_of(red[0])
        world.clock.advance(31 * 86_400)
        world.detections.delete_older_than(world.clock() - RETENTION)
        world.run()
        assert world.groups() == {known: frozenset(late)}
        assert world.group_of(blue[0]) is None

    def test_a_group_is_gone_with_its_last_detection_before_any_run(self, world: World) -> None:
        world.stranger(RED)
        world.run()
        world.clock.advance(31 * 86_400)
        assert world.groups() == {} and world.service.list().groups == []
        world.jobs.prune()
        assert GroupState.from_bytes(world.blobs.get(GROUPS, STATE_BLOB).data).groups == {}

    def test_embedders_are_never_compared(self, world: World) -> None:
        world.stranger(RED, 3)
        world.stranger(RED, 3, embedder_id="other.1")
        world.run()
        assert {group.embedder_id for group in world.store.read().groups.values()} == {EMBEDDER_ID, "other.1"}
        one, other = world.groups()
        with pytest.raises(InvalidInput, match="two embedders"):
            world.service.merge(one, other)

    def test_faces_of_an_embedder_that_nobody_knows_are_left_alone(self, world: World) -> None:
        world.stranger(RED, 3, embedder_id="lost.1")
        assert world.run().status == "succeeded"
        assert world.groups() == {}

    def test_named_faces_and_faces_without_embedding_are_in_no_group(self, world: World) -> None:
        world.stranger(RED, 3, person_id="ann")
        for _ in range(3):
            world.see(None)
        assert world.run().result["faces"] == 0

    def test_two_runs_are_never_under_way_at_once(self, world: World) -> None:
        world.stranger(RED)
        world.stores.jobs.acquire_lease(GROUP_LEASE, "another", ttl_s=60)
        job = world.service.request_run()
        (message,) = world.stores.queue.receive(GROUP_QUEUE)
        assert world.jobs.run(GroupRequest.model_validate_json(message.body)).status == "queued"
        world.stores.queue.delete(message)
        world.stores.jobs.release_lease(GROUP_LEASE)
        world.drain()
        assert world.service._job_repository.get_job(job.job_id).status == "succeeded"

    def test_a_failed_run_is_told_and_changes_nothing(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        world.stranger(RED)
        world.run()
        before = world.groups()
        monkeypatch.setattr(world.detections, "list", _raise(StoreUnavailable("away")))
        job = world.service.request_run()
        request = GroupRequest(schema=1, job_id=job.job_id, kind="group")
        with pytest.raises(StoreUnavailable):
            world.jobs.run(request)
        assert world.stores.jobs.get_job(job.job_id).status == "queued"
        with pytest.raises(StoreUnavailable):
            world.jobs.run(request, last_attempt=True)
        assert world.stores.jobs.get_job(job.job_id).status == "failed"
        assert world.groups() == before

    def test_a_state_that_cannot_be_read_is_not_overwritten(self, world: World) -> None:
        world.blobs.put(GROUPS, STATE_BLOB, b"damaged")
        world.stranger(RED)
        assert world.run().status == "failed"
        with pytest.raises(IntegrityError):
            world.store.read()

    def test_the_state_comes_back_whole(self, world: World) -> None:
        red, blue = world.stranger(RED), world.stranger(BLUE)
        world.run()
        world.service.merge(world.group_of(red[0]), world.group_of(blue[0]))
        world.service.split(world.group_of(red[0]), red[:2])
        world.store.change(lambda s: (replace(s, corrections=s.corrections.deny("ann", red[0])), None))
        state = world.store.read()
        assert GroupState.from_bytes(state.to_bytes()) == state
        assert b"embedding" not in state.to_bytes()


class TestCorrections:
    def test_corrections_survive_three_reruns(self, world: World) -> None:
        red, blue, green = world.stranger(RED), world.stranger(BLUE), world.stranger(GREEN, 6)
        world.run()
        world.service.merge(world.group_of(red[0]), world.group_of(blue[0]))
        _, part = world.service.split(world.group_of(green[0]), green[:3])
        world.service.reject(world.group_of(green[3]), [green[5]])
        merged, rest = world.group_of(red[0]), world.group_of(green[3])
        for rerun in range(3):
            world.build()  # another process, with nothing in memory
            world.stranger(RED, 1)
            world.stranger(GREEN, 1)
            assert world.run().status == "succeeded"
            groups = world.groups()
            assert groups[merged] >= {*red, *blue}, rerun
            assert groups[part.group_id] >= set(green[:3]), rerun
            assert not groups[part.group_id] & set(green[3:]), rerun
            # Below the smallest size, and alike as can be: kept, since somebody has said so, or at least apart.
            assert world.group_of(green[5]) not in (rest, part.group_id) or world.group_of(green[5]) is None, rerun
            assert not world.store.read().corrections.violated_by(groups.values()), rerun

    def test_a_merge_is_seen_at_once_and_the_first_id_stays(self, world: World) -> None:
        red, blue = world.stranger(RED), world.stranger(BLUE)
        world.run()
        one, other = world.group_of(red[0]), world.group_of(blue[0])
        assert world.service.merge(one, other).ids == {*red, *blue}
        assert list(world.groups()) == [one]
        with pytest.raises(NotFound):
            world.service.group(other)

    def test_a_merge_is_transitive(self, world: World) -> None:
        red, blue, green = world.stranger(RED), world.stranger(BLUE), world.stranger(GREEN)
        world.run()
        world.service.merge(world.group_of(red[0]), world.group_of(blue[0]))
        world.service.merge(world.group_of(green[0]), world.group_of(blue[0]))
        world.run()
        assert world.groups() == {world.group_of(green[0]): frozenset([*red, *blue, *green])}

    def test_a_merge_of_who_was_told_apart_is_refused_and_can_be_withdrawn(self, world: World) -> None:
        red, blue = world.stranger(RED, 6), world.stranger(BLUE)
        world.run()
        group, part = world.service.split(world.group_of(red[0]), red[:3])
        world.service.merge(part.group_id, world.group_of(blue[0]))
        # Through blue, too: what was told apart from a part of it is apart from all of it.
        before = world.store.read()
        with pytest.raises(Conflict, match="withdraw"):
            world.service.merge(group.group_id, part.group_id)
        assert world.store.read() == before
        world.service.merge(group.group_id, part.group_id, withdraw=True)
        world.run()
        assert world.groups() == {group.group_id: frozenset([*red, *blue])}

    def test_a_split_narrows_an_earlier_merge(self, world: World) -> None:
        red, blue = world.stranger(RED), world.stranger(BLUE)
        world.run()
        group = world.service.merge(world.group_of(red[0]), world.group_of(blue[0]))
        world.service.split(group.group_id, blue)
        world.run()
        assert set(world.groups().values()) == {frozenset(red), frozenset(blue)}

    def test_a_split_group_may_be_small(self, world: World) -> None:
        red = world.stranger(RED, 5)
        world.run()
        _, part = world.service.split(world.group_of(red[0]), red[:1])
        world.run()
        assert world.groups()[part.group_id] == {red[0]}

    def test_what_a_correction_leaves_of_a_group_keeps_its_id(self, world: World) -> None:
        red = world.stranger(RED, 4)
        world.run()
        group = world.group_of(red[0])
        world.service.reject(group, red[2:])
        world.run()
        assert world.groups() == {group: frozenset(red[:2])}

    def test_rejected_faces_say_nothing_of_each_other(self, world: World) -> None:
        red = world.stranger(RED, 8)
        world.run()
        world.service.reject(world.group_of(red[0]), red[5:])
        assert world.group_of(red[5]) is None
        world.run()
        assert set(world.groups().values()) == {frozenset(red[:5]), frozenset(red[5:])}

    @pytest.mark.parametrize("what", ["split", "reject"])
    def test_what_makes_no_sense_is_refused(self, world: World, what: str) -> None:
        red, blue = world.stranger(RED), world.stranger(BLUE)
        world.run()
        group = world.group_of(red[0])
        correct: Callable = getattr(world.service, what)
        with pytest.raises(Conflict, match="1 of these"):
            correct(group, [red[0], blue[0]])
        with pytest.raises(InvalidInput):
            correct(group, red)
        with pytest.raises(InvalidInput):
            correct(group, [])
        with pytest.raises(NotFound):
            correct("g:nothing", red)
        with pytest.raises(InvalidInput):
            world.service.merge(group, group)

    def test_a_correction_that_comes_during_a_run_is_honoured_by_it(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        red, blue = world.stranger(RED, 6), world.stranger(BLUE)
        world.run()
        one, other = world.group_of(red[0]), world.group_of(blue[0])
        put, corrected = world.blobs.put, []

        def late(container: str, name: str, data: bytes, **rest: object) -> str:
            if container == GROUPS and not corrected:
                corrected.append(True)  # between the run's reading and its writing
                world.service.merge(one, other)
                world.service.reject(one, [red[0]])
            return put(container, name, data, **rest)  # type: ignore[arg-type]

        monkeypatch.setattr(world.blobs, "put", late)
        world.run()
        assert corrected and world.groups() == {one: frozenset([*red[1:], *blue])}

    def test_constraints_go_with_their_detections(self, world: World) -> None:
        red = world.stranger(RED, 6)
        world.run()
        world.service.split(world.group_of(red[0]), red[:3])
        world.clock.advance(31 * 86_400)
        world.detections.delete_older_than(world.clock() - RETENTION)
        world.run()
        corrections = world.store.read().corrections
        assert (corrections.same, corrections.apart, corrections.denied) == ((), (), {})

    def test_what_is_said_of_a_face_that_a_run_has_not_seen_is_kept(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        world.stranger(RED)
        real = world.detections.list

        def listed(*arguments: object, **rest: object):
            page = real(*arguments, **rest)  # type: ignore[arg-type]
            world.see(None, id="late", person_id="ann")
            world.naming.deny("late")
            monkeypatch.setattr(world.detections, "list", real)
            return page

        monkeypatch.setattr(world.detections, "list", listed)
        world.run()
        assert world.store.read().corrections.denied == {"ann": frozenset({"late"})}


class TestQuestions:
    def test_groups_come_last_seen_first_in_pages(self, world: World) -> None:
        for colour in (RED, BLUE, GREEN, YELLOW):
            world.stranger(colour, 3)
        world.run()
        found, continuation = [], None
        while True:
            page = world.service.list(page_size=3, continuation=continuation)
            found += page.groups
            if (continuation := page.continuation) is None:
                break
        assert [g.members[-1].detection_id for g in found] == ["d0012", "d0009", "d0006", "d0003"]
        with pytest.raises(InvalidInput):
            world.service.list(continuation="nonsense")

    def test_a_groups_faces_come_newest_first_in_pages(self, world: World) -> None:
        red = world.stranger(RED, 5)
        world.run()
        group = world.group_of(red[0])
        first = world.service.faces(group, page_size=3)
        rest = world.service.faces(group, page_size=3, continuation=first.continuation)
        assert [d.id for d in (*first.detections, *rest.detections)] == red[::-1]
        assert rest.continuation is None
        with pytest.raises(InvalidInput):
            world.service.faces(group, continuation="nothing")

    def test_the_cover_is_the_best_face_that_has_a_crop(self, world: World) -> None:
        red = world.stranger(RED, 3, quality=quality(sharpness=30.0))
        world.see(colour_vector(RED), quality=quality(sharpness=500.0), candidate=None)
        best = world.see(colour_vector(RED), quality=quality(sharpness=90.0), candidate="hq/gate/best.jpg")
        world.run()
        cover = world.service.group(world.group_of(red[0])).cover
        assert cover is not None and cover.detection_id == best


class TestNaming:
    def test_a_name_enrols_relabels_and_asks_for_a_training(self, world: World) -> None:
        red = world.stranger(RED, 4)
        world.run()
        job = world.name(world.group_of(red[0]), "Ann Smith")
        assert job.status == "succeeded"
        assert job.result["detections"] == 4 and job.result["templates"] == 4
        assert job.result["person_created"] is True and job.result["unusable"] == {}
        templates = list(world.stores.people.list_templates(person_id="ann_smith"))
        assert len(templates) == 4 and {t.source for t in templates} == {GROUP}
        for each in red:
            detection = world.detections.get(each)
            assert (detection.person_id, detection.named_by, detection.previous_person) == (
                "ann_smith",
                GROUP,
                UNKNOWN,
            )
            assert detection.embedding is None
        assert world.groups() == {} and world.trainings == 1
        assert world.run().result["faces"] == 0

    def test_crops_that_cannot_be_used_are_told(self, world: World) -> None:
        red = world.stranger(RED, 4)
        member = world.detections.get(red[0])
        world.blobs.delete(CANDIDATES, member.candidate)
        world.blobs.put(CANDIDATES, world.detections.get(red[1]).candidate, png(picture()))
        world.blobs.put(CANDIDATES, world.detections.get(red[2]).candidate, b"damaged")
        world.see(colour_vector(RED), candidate=None)
        world.blobs.put(CANDIDATES, "hq/gate/wrong.jpg", portrait(GREEN))
        world.see(colour_vector(RED), candidate="hq/gate/wrong.jpg")
        world.run()
        job = world.name(world.group_of(red[0]))
        reasons = {"crop_expired": 1, "no_face": 1, "invalid_image": 1, "no_crop": 1, "other_face": 1}
        assert job.result["unusable"] == reasons and job.result["templates"] == 1
        assert world.people_of(red) == {"ann"}
        (template,) = world.stores.people.list_templates(person_id="ann")
        np.testing.assert_allclose(template.embedding, colour_vector(RED), atol=0.05)

    def test_without_one_usable_crop_the_past_is_named_all_the_same(self, world: World) -> None:
        red = [world.see(colour_vector(RED)) for _ in range(3)]
        world.run()
        job = world.name(world.group_of(red[0]))
        assert (job.status, job.result["templates"], world.trainings) == ("succeeded", 0, 0)
        assert world.people_of(red) == {"ann"}

    def test_somebody_enrolled_gets_more_templates_up_to_a_number(self, world: World) -> None:
        world.stores.people.add_person(Person("ann", NOW))
        red = world.stranger(RED, MAX_TEMPLATES + 5)
        world.run()
        job = world.name(world.group_of(red[0]))
        assert job.result["person_created"] is False and job.result["templates"] == MAX_TEMPLATES
        assert job.result["detections"] == MAX_TEMPLATES + 5

    def test_crops_that_are_all_but_the_same_are_one_template(self, world: World) -> None:
        red = world.stranger(RED, MAX_TEMPLATES)
        for number in range(MAX_TEMPLATES):
            name = f"hq/gate/still-{number}.jpg"
            world.blobs.put(CANDIDATES, name, portrait(RED, shift=number))
            red.append(world.see(colour_vector(RED), candidate=name, quality=quality(sharpness=900.0)))
        world.run()
        job = world.name(world.group_of(red[0]))
        assert (job.result["templates"], job.result["unusable"]) == (MAX_TEMPLATES, {})
        templates = list(world.stores.people.list_templates(person_id="ann"))
        assert len(templates) == MAX_TEMPLATES, "the repeated ones, tried first, do not crowd out the others"

    def test_one_crop_of_each_track_is_tried_first(self, world: World) -> None:
        from functions.group.naming import best_first

        same = [world.see(colour_vector(RED), track="t", quality=quality(sharpness=s)) for s in (180.0, 190.0)]
        other = world.see(colour_vector(RED), track="u", quality=quality(sharpness=50.0))
        world.run()
        group = world.service.group(world.group_of(other))
        assert [m.detection_id for m in best_first(group, frozenset())] == [same[1], other, same[0]]
        assert [m.detection_id for m in best_first(group, frozenset(same))] == [other]

    @pytest.mark.parametrize("calls", range(1, 13))
    def test_a_naming_that_dies_anywhere_is_finished_by_the_next_attempt(
        self, world: World, monkeypatch: pytest.MonkeyPatch, calls: int
    ) -> None:
        red = world.stranger(RED, 3)
        world.run()
        job = world.service.name(world.group_of(red[0]), "ann")
        request = GroupRequest(schema=1, job_id=job.job_id, kind="name")
        counter = _dying_after(calls, monkeypatch, world)
        try:
            world.jobs.run(request)
        except _Killed:
            world.stores.jobs.release_lease(GROUP_LEASE)  # runs out
        assert counter
        monkeypatch.undo()
        world.build()
        if world.stores.jobs.get_job(job.job_id).status != "succeeded":
            assert world.run().status == "succeeded", "a run in between takes nothing away"
            done = world.jobs.run(request)
            assert done.status == "succeeded"
        done = world.stores.jobs.get_job(job.job_id)
        assert (done.result["detections"], done.result["templates"]) == (3, 3)
        assert world.people_of(red) == {"ann"} and world.groups() == {} and world.trainings >= 1
        assert all(world.detections.get(each).embedding is None for each in red)
        assert len(list(world.stores.people.list_templates(person_id="ann"))) == 3

    def test_a_group_that_is_being_named_is_left_alone(self, world: World) -> None:
        red, blue = world.stranger(RED), world.stranger(BLUE)
        world.run()
        group, other = world.group_of(red[0]), world.group_of(blue[0])
        world.service.name(group, "ann")
        for correct in (
            lambda: world.service.merge(other, group),
            lambda: world.service.split(group, red[:1]),
            lambda: world.service.reject(group, red[:1]),
            lambda: world.service.name(group, "bob"),
        ):
            with pytest.raises(Conflict, match="being named"):
                correct()

    def test_a_message_that_was_never_sent_is_sent_by_the_next_run(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        red = world.stranger(RED)
        world.run()
        monkeypatch.setattr(world.leased, "send", _raise(StoreUnavailable("away")))
        with pytest.raises(StoreUnavailable):
            world.service.name(world.group_of(red[0]), "ann")
        monkeypatch.undo()
        world.run()
        assert world.people_of(red) == {"ann"}

    def test_a_naming_that_was_given_up_can_be_asked_for_again(
        self, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        red = world.stranger(RED)
        world.run()
        group = world.group_of(red[0])
        job = world.service.name(group, "bob")
        monkeypatch.setattr(world.detections, "change", _raise(StoreUnavailable("away")))
        with pytest.raises(StoreUnavailable):
            world.jobs.run(GroupRequest(schema=1, job_id=job.job_id, kind="name"), last_attempt=True)
        monkeypatch.undo()
        world.stores.queue.delete(*world.stores.queue.receive(GROUP_QUEUE))
        assert world.name(group, "ann").status == "succeeded"
        assert world.people_of(red) == {"ann"}

    def test_a_name_must_be_one(self, world: World) -> None:
        red = world.stranger(RED)
        world.run()
        for name in ("unknown", "", "a/b", "g:7k3fq9xm2d"):
            with pytest.raises(InvalidIdentifier):
                world.service.name(world.group_of(red[0]), name)
        with pytest.raises(NotFound):
            world.service.name("g:nothing", "ann")


class TestNotThisPerson:
    def test_a_wrong_name_is_taken_off_and_never_given_again(self, world: World) -> None:
        red = world.stranger(RED)
        wrong = world.see(None, person_id="ann")
        assert world.service.deny(wrong) == "ann"
        assert world.detections.get(wrong).person_id == UNKNOWN
        for _ in range(3):
            world.run()
        assert world.store.read().corrections.denied == {"ann": frozenset({wrong})}
        world.name(world.group_of(red[0]))
        assert world.detections.get(wrong).person_id == UNKNOWN

    def test_naming_passes_over_a_face_that_is_not_that_person(self, world: World) -> None:
        red = world.stranger(RED)
        world.run()
        world.store.change(lambda s: (replace(s, corrections=s.corrections.deny("ann", red[0])), None))
        job = world.name(world.group_of(red[1]))
        assert (job.result["detections"], job.result["not_this_person"], job.result["templates"]) == (3, 1, 3)
        assert world.detections.get(red[0]).person_id == UNKNOWN
        assert world.store.read().corrections.denied == {"ann": frozenset({red[0]})}

    def test_a_name_given_by_a_group_can_be_taken_off(self, world: World) -> None:
        red = world.stranger(RED)
        world.run()
        world.name(world.group_of(red[0]))
        world.service.deny(red[0])
        found = world.detections.get(red[0])
        assert (found.person_id, found.named_by, found.previous_person) == (UNKNOWN, None, None)

    def test_what_has_no_name_has_none_to_take_off(self, world: World) -> None:
        red = world.stranger(RED, 1)
        with pytest.raises(Conflict):
            world.service.deny(red[0])
        with pytest.raises(NotFound):
            world.service.deny("nothing")


class TestErasure:
    def test_removing_a_person_takes_the_name_off_everything(self, world: World) -> None:
        red = world.stranger(RED)
        wrong = world.see(None, person_id="ann")
        matched = world.see(None, person_id="ann")
        bob = world.see(None, person_id="bob")
        world.service.deny(wrong)
        world.run()
        world.name(world.group_of(red[0]))
        world.enroll.remove_person("ann")
        assert world.people_of([*red, wrong, matched]) == {UNKNOWN} and world.people_of([bob]) == {"bob"}
        for each in red:
            found = world.detections.get(each)
            assert (found.named_by, found.previous_person, found.embedding) == (None, None, None)
        assert b"ann" not in world.store.read().to_bytes()
        assert "ann" not in world.store.read().corrections.denied
        assert list(world.blobs.list("dataset")) == []
        with pytest.raises(NotFound):
            world.enroll.remove_person("ann")

    def test_many_detections_are_all_found(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("functions.group.naming._PAGE", 3)
        ids = [world.see(None, person_id="ann") for _ in range(10)]
        assert world.naming.forget("ann") is True
        assert world.people_of(ids) == {UNKNOWN}
        assert world.naming.forget("ann") is False

    def test_an_erasure_before_the_job_calls_the_naming_off(self, world: World) -> None:
        red = world.stranger(RED)
        world.run()
        group = world.group_of(red[0])
        world.stores.people.add_person(Person("ann", NOW))
        job = world.service.name(group, "ann")
        world.enroll.remove_person("ann")
        world.drain()
        assert world.stores.jobs.get_job(job.job_id).result == {"called_off": True}
        assert world.groups() == {group: frozenset(red)} and world.people_of(red) == {UNKNOWN}
        assert list(world.stores.people.list_people()) == []

    def test_an_erasure_during_the_job_wins(self, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
        red = world.stranger(RED)
        world.run()
        change, erased = world.detections.change, []

        def changed(detection_id: str, how, **rest: object):
            done = change(detection_id, how, **rest)  # type: ignore[arg-type]
            if not erased:
                erased.append(True)
                world.enroll.remove_person("ann")
            return done

        monkeypatch.setattr(world.detections, "change", changed)
        job = world.name(world.group_of(red[0]))
        assert job.status == "failed" and "removed" in (job.error or "")
        assert world.people_of(red) == {UNKNOWN}
        assert list(world.detections.list(DetectionFilter(person_id="ann")).detections) == []
        assert list(world.stores.people.list_templates()) == [] and list(world.blobs.list("dataset")) == []


class _Killed(BaseException):
    """What no handler takes for an error of its own."""


def _raise(error: BaseException) -> Callable:
    def raising(*_: object, **__: object) -> None:
        raise error

    return raising


def _dying_after(calls: int, monkeypatch: pytest.MonkeyPatch, world: World) -> list[int]:
    """The process dies after so many writes of any store; those are done."""
    counter: list[int] = []

    def watched(target: object, name: str) -> None:
        real = getattr(target, name)

        def call(*arguments: object, **rest: object):
            answer = real(*arguments, **rest)
            counter.append(1)
            if len(counter) == calls:
                raise _Killed
            return answer

        monkeypatch.setattr(target, name, call)

    watched(world.stores.people, "add_person")
    watched(world.stores.people, "add_template")
    watched(world.detections, "change")
    watched(world.blobs, "put")
    watched(world.stores.jobs, "put_job")
    return counter
