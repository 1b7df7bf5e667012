"""Publishing moves one pointer, forwards only; erasing leaves nothing; a running process swaps or keeps what it has."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from shared import serving as serving_module
from shared.adapters.local import LocalBlobStore, LocalStore
from shared.domain import MODELS, UNKNOWN, sha256_hex
from shared.errors import (
    Conflict,
    EmbedderMismatch,
    IntegrityError,
    InvalidInput,
    ModelUnavailable,
    PreconditionFailed,
    StoreUnavailable,
)
from shared.matching.bundle import MANIFEST_FILE, MATCHER_FILE, load_matcher
from shared.matching.model import NO_MODEL, MatcherModel
from shared.migration import Migration
from shared.model_registry import POINTER, ModelRegistry
from shared.serving import LiveModel, Packs, Serving
from tests.support import (
    EMBEDDER_ID,
    NOW,
    ColourEmbedder,
    TickingClock,
    colour_pack,
    matcher,
    packs_of,
    probes,
    unit,
)
from tests.unit.matching.bundles import bundle_of

ANN, BOB = unit(1, 0, 0, 0, 0, 0, 0, 0), unit(0, 1, 0, 0, 0, 0, 0, 0)


def model_id(number: int) -> str:
    return f"2026010{number}T000000.000000Z-0000"


def model(number: int, **people) -> MatcherModel:
    return matcher(people or {"ann": ANN}, model_id=model_id(number))


class Blobs(LocalBlobStore):
    """The real store, which can be told to fail, or to be overtaken by somebody else."""

    def __init__(self, store: LocalStore) -> None:
        super().__init__(store)
        self.down = False
        self.before_pointer: list = []

    def get(self, container: str, name: str):
        if self.down:
            raise StoreUnavailable("down")
        return super().get(container, name)

    def put(self, container: str, name: str, data: bytes, **options):
        if name == POINTER and self.before_pointer:
            self.before_pointer.pop()()
        return super().put(container, name, data, **options)


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[Blobs]:
    store = LocalStore(tmp_path)
    yield Blobs(store)
    store.close()


@pytest.fixture
def registry(blobs: Blobs) -> ModelRegistry:
    return ModelRegistry(blobs, TickingClock())


@pytest.fixture
def live(registry: ModelRegistry) -> LiveModel:
    return LiveModel(registry, packs_of(colour_pack()))


class TestPublish:
    def test_before_the_first_there_is_no_pointer(self, registry: ModelRegistry) -> None:
        assert registry.pointer() is None
        assert registry.newest_sound(EMBEDDER_ID) is None

    def test_what_is_published_is_what_the_pointer_leads_to(self, registry: ModelRegistry) -> None:
        registry.publish(bundle_of(model(1)))
        pointer = registry.pointer()
        assert pointer is not None and pointer.model_id == model_id(1)
        assert load_matcher(registry.load(pointer)).person_ids == ("ann",)

    def test_a_later_gallery_replaces_an_earlier_and_never_the_reverse(self, registry: ModelRegistry) -> None:
        registry.publish(bundle_of(model(2)))
        with pytest.raises(Conflict, match="later gallery"):
            registry.publish(bundle_of(model(1)))
        registry.publish(bundle_of(model(3)))
        with pytest.raises(Conflict):
            registry.publish(bundle_of(model(3)))
        assert registry.pointer().model_id == model_id(3)

    def test_overtaken_by_an_older_model_it_tries_again(self, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(1)))
        blobs.before_pointer.append(lambda: registry.publish(bundle_of(model(2))))
        registry.publish(bundle_of(model(3)))
        assert registry.pointer().model_id == model_id(3)

    def test_overtaken_by_a_newer_model_it_gives_way(self, registry: ModelRegistry, blobs: Blobs) -> None:
        """The ETag is what notices: the pointer that was compared is not the one that would be replaced."""
        registry.publish(bundle_of(model(1)))
        blobs.before_pointer.append(lambda: registry.publish(bundle_of(model(3))))
        with pytest.raises(Conflict):
            registry.publish(bundle_of(model(2)))
        assert registry.pointer().model_id == model_id(3)

    def test_two_first_models_at_once_leave_the_later_one(self, registry: ModelRegistry, blobs: Blobs) -> None:
        blobs.before_pointer.append(lambda: registry.publish(bundle_of(model(2))))
        with pytest.raises(Conflict):
            registry.publish(bundle_of(model(1)))
        assert registry.pointer().model_id == model_id(2)

    def test_the_pointer_moves_last(self, registry: ModelRegistry, blobs: Blobs) -> None:
        """Whoever reads the pointer finds everything that it leads to."""
        seen: list[set[str]] = []
        blobs.before_pointer.append(lambda: seen.append({blob.name for blob in blobs.list(MODELS)}))
        registry.publish(bundle_of(model(1)))
        assert seen == [{f"{model_id(1)}/{MANIFEST_FILE}", f"{model_id(1)}/{MATCHER_FILE}"}]

    @pytest.mark.parametrize("data", [b"", b"{}", b"[1]", b'"x"', b"\xff"])
    def test_an_unreadable_pointer_is_an_error_and_not_an_empty_gallery(
        self, registry: ModelRegistry, blobs: Blobs, data: bytes
    ) -> None:
        blobs.put(MODELS, POINTER, data)
        with pytest.raises(IntegrityError):
            registry.pointer()

    def test_a_manifest_of_another_hash_or_none_is_refused(self, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(1)))
        pointer = registry.pointer()
        blobs.put(MODELS, f"{model_id(1)}/{MANIFEST_FILE}", bundle_of(model(1, bob=BOB)).manifest.to_json())
        with pytest.raises(IntegrityError, match="hash"):
            registry.manifest(pointer)
        blobs.delete(MODELS, f"{model_id(1)}/{MANIFEST_FILE}")
        with pytest.raises(IntegrityError, match="no manifest"):
            registry.manifest(pointer)

    def test_a_bundle_without_its_arrays_is_refused(self, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(1)))
        blobs.delete(MODELS, f"{model_id(1)}/{MATCHER_FILE}")
        with pytest.raises(IntegrityError, match="lacks"):
            registry.load(registry.pointer())


class TestSwitch:
    """To a model of another embedder, and back: only on purpose, and under the pointer's ETag."""

    def other(self, number: int, **people) -> MatcherModel:
        return replace(model(number, **people), embedder_id="other.1")

    def test_a_stored_model_is_not_live(self, registry: ModelRegistry) -> None:
        registry.publish(bundle_of(model(1)))
        registry.store(bundle_of(self.other(2)))
        assert registry.pointer().model_id == model_id(1)
        assert registry.stored_model(model_id(2)).embedder_id == "other.1"
        assert registry.ruling() == EMBEDDER_ID

    def test_a_training_does_not_change_the_embedder(self, registry: ModelRegistry) -> None:
        registry.publish(bundle_of(model(1)))
        with pytest.raises(Conflict, match="another embedder"):
            registry.publish(bundle_of(self.other(2)))
        assert registry.list_ids() == [model_id(1)], "and nothing is left of it"

    def test_a_switch_moves_to_any_stored_model_and_back(self, registry: ModelRegistry) -> None:
        registry.publish(bundle_of(model(3)))
        registry.store(bundle_of(self.other(1)))
        registry.switch(model_id(1), expected=registry.pointer())
        assert (registry.pointer().model_id, registry.ruling()) == (model_id(1), "other.1")
        assert registry.load(registry.pointer()).manifest.model_id == model_id(1)
        with pytest.raises(Conflict, match="another embedder"):
            registry.publish(bundle_of(model(4)))
        registry.switch(model_id(3), expected=registry.pointer())
        assert registry.ruling() == EMBEDDER_ID

    def test_the_first_model_may_come_by_a_switch(self, registry: ModelRegistry) -> None:
        registry.store(bundle_of(self.other(1)))
        registry.switch(model_id(1), expected=None)
        assert registry.ruling() == "other.1"

    def test_a_pointer_that_was_moved_since_is_left_alone(self, registry: ModelRegistry) -> None:
        registry.publish(bundle_of(model(1)))
        read = registry.pointer()
        registry.publish(bundle_of(model(2)))
        registry.store(bundle_of(self.other(3)))
        for expected in (read, None):
            with pytest.raises(Conflict, match="meanwhile"):
                registry.switch(model_id(3), expected=expected)
        assert registry.pointer().model_id == model_id(2)

    def test_what_is_not_there_or_damaged_is_not_switched_to(self, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(1)))
        with pytest.raises(Conflict, match="not stored"):
            registry.switch(model_id(2), expected=registry.pointer())
        registry.store(bundle_of(self.other(2)))
        blobs.put(MODELS, f"{model_id(2)}/{MATCHER_FILE}", b"damaged")
        with pytest.raises(IntegrityError):
            registry.switch(model_id(2), expected=registry.pointer())
        assert registry.pointer().model_id == model_id(1)

    def test_an_erasure_at_the_moment_of_the_switch_wins(self, registry: ModelRegistry, blobs: Blobs) -> None:
        """It took the model for one that idles, and the pointer was moved to it right then."""
        registry.publish(bundle_of(model(1, bob=BOB)))
        registry.store(bundle_of(self.other(2, ann=ANN, bob=BOB)))
        blobs.before_pointer.append(lambda: registry.erase_person("ann"))
        with pytest.raises(Conflict, match="erased meanwhile"):
            registry.switch(model_id(2), expected=registry.pointer())
        assert (registry.pointer().model_id, registry.list_ids()) == (model_id(1), [model_id(1)])
        assert registry.load(registry.pointer())

    def test_an_erasure_that_sees_the_switch_cuts_what_is_live_now(self, registry: ModelRegistry, blobs) -> None:
        registry.publish(bundle_of(model(1, bob=BOB)))
        registry.store(bundle_of(self.other(2, ann=ANN, bob=BOB)))
        delete = registry.delete

        def switched_just_before(chosen: str) -> None:
            registry.delete = delete  # type: ignore[method-assign]
            registry.switch(model_id(2), expected=registry.pointer())
            delete(chosen)

        registry.delete = switched_just_before  # type: ignore[method-assign]
        assert registry.erase_person("ann")
        live = load_matcher(registry.load(registry.pointer()))
        assert (live.embedder_id, live.person_ids) == ("other.1", ("bob",))
        for stored in registry.list_ids():
            assert "ann" not in registry.stored_manifest(stored).templates

    def test_storing_gives_way_to_an_erasure(self, registry: ModelRegistry, blobs: Blobs) -> None:
        put = LocalBlobStore.put

        def erased_meanwhile(container: str, name: str, data: bytes, **options):
            etag = put(blobs, container, name, data, **options)
            if name == f"{model_id(2)}/{MATCHER_FILE}":
                registry.erase_person("ann")
            return etag

        blobs.put = erased_meanwhile
        with pytest.raises(Conflict, match="erased meanwhile"):
            registry.store(bundle_of(self.other(2, ann=ANN)))
        assert registry.list_ids() == []

    def test_a_pointer_of_before_names_its_embedder_by_its_manifest(
        self, registry: ModelRegistry, blobs: Blobs
    ) -> None:
        registry.publish(bundle_of(model(1)))
        fields = json.loads(blobs.get(MODELS, POINTER).data)
        del fields["embedder_id"]
        blobs.put(MODELS, POINTER, json.dumps(fields).encode())
        assert registry.pointer().embedder_id is None
        assert registry.ruling() == EMBEDDER_ID
        with pytest.raises(Conflict, match="another embedder"):
            registry.publish(bundle_of(self.other(2)))
        blobs.put(MODELS, f"{model_id(1)}/{MANIFEST_FILE}", b"damaged")
        assert registry.ruling() is None
        registry.publish(bundle_of(model(2)))
        assert registry.pointer().model_id == model_id(2), "a training mends it"

    def test_one_embedders_models_are_deleted_together(self, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(1)))
        for number in (2, 3):
            registry.store(bundle_of(self.other(number)))
        registry.delete_all_of("other.1", but=[model_id(3)])
        assert registry.list_ids() == [model_id(1), model_id(3)]
        with pytest.raises(Conflict):
            registry.delete_all_of(EMBEDDER_ID)


class TestKeeping:
    def test_prune_keeps_the_newest(self, registry: ModelRegistry) -> None:
        for number in range(1, 6):
            registry.publish(bundle_of(model(number)))
        registry.prune(2)
        assert registry.list_ids() == [model_id(4), model_id(5)]

    def test_prune_never_deletes_the_live_one(self, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(1)))
        for number in (2, 3):  # written, never published: their trainings died
            blobs.put(MODELS, f"{model_id(number)}/{MANIFEST_FILE}", b"{}")
        registry.prune(1)
        assert registry.list_ids() == [model_id(1), model_id(3)]

    def test_the_live_model_cannot_be_deleted(self, registry: ModelRegistry) -> None:
        registry.publish(bundle_of(model(1)))
        with pytest.raises(Conflict):
            registry.delete(model_id(1))

    def test_the_newest_sound_model_is_of_this_embedder_and_whole(self, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(1)))
        registry.publish(bundle_of(model(2)))
        registry.store(bundle_of(replace(model(3), embedder_id="other")))
        blobs.put(MODELS, f"{model_id(2)}/{MATCHER_FILE}", b"damaged")
        found = registry.newest_sound(EMBEDDER_ID)
        assert found is not None and found.model_id == model_id(1)


class TestErase:
    def test_older_models_that_knew_the_person_go(self, registry: ModelRegistry) -> None:
        registry.publish(bundle_of(model(1, ann=ANN)))
        registry.publish(bundle_of(model(2, bob=BOB)))
        assert registry.erase_person("ann") is True
        assert registry.list_ids() == [model_id(2)]
        assert registry.pointer().model_id == model_id(2), "the live one did not know ann: it stays"

    def test_only_the_person_is_cut_out_of_the_live_model(self, registry: ModelRegistry) -> None:
        registry.publish(bundle_of(model(1, ann=ANN, bob=BOB)))
        assert registry.erase_person("ann") is True
        pointer = registry.pointer()
        assert pointer.model_id > model_id(1)
        left = load_matcher(registry.load(pointer))
        assert left.person_ids == ("bob",)
        assert left.identify(probes(ANN))[0].person_id == UNKNOWN
        assert registry.list_ids() == [pointer.model_id], "the bundle that knew ann is gone"

    def test_no_stored_byte_names_the_person(self, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(1, ann=ANN, bob=BOB)))
        registry.erase_person("ann")
        for blob in blobs.list(MODELS):
            data = blobs.get(MODELS, blob.name).data
            assert b"ann" not in data and "ann".encode("utf-32-le") not in data, blob.name

    def test_a_bundle_nobody_can_read_may_know_anybody(self, registry: ModelRegistry, blobs: Blobs) -> None:
        blobs.put(MODELS, f"{model_id(1)}/{MANIFEST_FILE}", b"\xff")
        registry.publish(bundle_of(model(2, bob=BOB)))
        assert registry.erase_person("ann") is True
        assert registry.list_ids() == [model_id(2)]

    def test_a_damaged_live_model_that_may_know_the_person_is_taken_down(
        self, registry: ModelRegistry, blobs: Blobs
    ) -> None:
        registry.publish(bundle_of(model(1, ann=ANN)))
        blobs.put(MODELS, f"{model_id(1)}/{MATCHER_FILE}", b"damaged")
        assert registry.erase_person("ann") is True
        assert registry.pointer() is None
        assert registry.list_ids() == []

    def test_an_unreadable_pointer_does_not_keep_the_person(self, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(1, ann=ANN)))
        blobs.put(MODELS, POINTER, b"{}")
        assert registry.erase_person("ann") is True
        assert registry.pointer() is None and registry.list_ids() == []

    def test_an_unreadable_pointer_is_replaced_by_a_publication(self, registry: ModelRegistry, blobs: Blobs) -> None:
        blobs.put(MODELS, POINTER, b"{}")
        registry.publish(bundle_of(model(1, ann=ANN)))
        assert registry.pointer().model_id == model_id(1)

    def test_overtaken_by_a_training_it_erases_from_that_too(self, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(1, ann=ANN, bob=BOB)))
        overtaking = bundle_of(replace(model(1, ann=ANN, bob=BOB), model_id="20260102T030405.700000Z-ffff"))
        blobs.before_pointer.append(lambda: registry.publish(overtaking))
        assert registry.erase_person("ann")
        assert load_matcher(registry.load(registry.pointer())).person_ids == ("bob",)
        assert len(registry.list_ids()) == 1, "what was overtaken was not left behind"

    def test_a_clock_that_is_behind_does_not_keep_the_person(self, registry: ModelRegistry) -> None:
        """The live model was fitted by a machine whose clock is years ahead."""
        registry.publish(bundle_of(replace(model(1, ann=ANN, bob=BOB), model_id="20990101T000000.000000Z-0000")))
        assert registry.erase_person("ann")
        assert load_matcher(registry.load(registry.pointer())).person_ids == ("bob",)
        assert len(registry.list_ids()) == 1

    def test_a_publication_that_gives_way_leaves_nobody_behind(self, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(2, bob=BOB)))
        with pytest.raises(Conflict):
            registry.publish(bundle_of(model(1, ann=ANN)))
        assert registry.list_ids() == [model_id(2)]

    def test_an_erasure_during_a_publication_makes_it_give_way(self, registry: ModelRegistry, blobs: Blobs) -> None:
        """The pointer never leads to a bundle that an erasure took away."""
        registry.publish(bundle_of(model(1, bob=BOB)))
        put = LocalBlobStore.put

        def erased_meanwhile(container: str, name: str, data: bytes, **options):
            etag = put(blobs, container, name, data, **options)
            if name == f"{model_id(2)}/{MATCHER_FILE}":
                registry.erase_person("ann")
            return etag

        blobs.put = erased_meanwhile
        with pytest.raises(Conflict, match="erased meanwhile"):
            registry.publish(bundle_of(model(2, ann=ANN, bob=BOB)))
        assert registry.list_ids() == [model_id(1)]
        assert load_matcher(registry.load(registry.pointer())).person_ids == ("bob",)

    def test_nobody_knew_the_person(self, registry: ModelRegistry) -> None:
        assert registry.erase_person("ann") is False
        registry.publish(bundle_of(model(1, bob=BOB)))
        assert registry.erase_person("ann") is False
        assert registry.pointer().model_id == model_id(1)


class TestLiveModel:
    def test_before_the_first_model_everybody_is_unknown(self, live: LiveModel) -> None:
        assert live().model_id == NO_MODEL

    def test_a_new_model_is_swapped_in(self, live: LiveModel, registry: ModelRegistry) -> None:
        live()
        registry.publish(bundle_of(model(1)))
        assert live().model_id == NO_MODEL, "a call does not look"
        assert live.refresh().model_id == model_id(1)
        registry.publish(bundle_of(model(2)))
        live.refresh()
        assert live().model_id == model_id(2)

    def test_an_unmoved_pointer_loads_nothing(self, live: LiveModel, registry: ModelRegistry) -> None:
        registry.publish(bundle_of(model(1)))
        assert live.refresh() is live.refresh()

    @pytest.mark.parametrize("broken", [MATCHER_FILE, MANIFEST_FILE, POINTER])
    def test_a_wrong_hash_keeps_the_old_one_and_is_logged(
        self,
        live: LiveModel,
        registry: ModelRegistry,
        blobs: Blobs,
        caplog: pytest.LogCaptureFixture,
        broken: str,
    ) -> None:
        registry.publish(bundle_of(model(1)))
        live.refresh()
        registry.publish(bundle_of(model(2)))
        blobs.put(MODELS, POINTER if broken == POINTER else f"{model_id(2)}/{broken}", b"damaged")
        with caplog.at_level(logging.ERROR):
            assert live.refresh().model_id == model_id(1)
        assert [(r.levelname, r.action, r.code) for r in caplog.records] == [("ERROR", "model.refused", "integrity")]
        registry._blobs.delete(MODELS, POINTER)
        registry.publish(bundle_of(model(3)))
        assert live.refresh().model_id == model_id(3), "and a sound one is taken again"

    def test_a_first_load_that_may_pass_is_raised(self, live: LiveModel, registry: ModelRegistry, blobs: Blobs) -> None:
        """Answering `unknown` for everybody would be wrong, and stored."""
        registry.publish(bundle_of(model(1)))
        blobs.down = True
        with pytest.raises(StoreUnavailable):
            live()
        blobs.down = False
        assert live().model_id == model_id(1)

    def test_a_later_look_that_may_pass_keeps_the_old_one(
        self, live: LiveModel, registry: ModelRegistry, blobs: Blobs
    ) -> None:
        registry.publish(bundle_of(model(1)))
        live()
        blobs.down = True
        assert live.refresh().model_id == model_id(1)

    def test_a_broken_first_model_falls_back_to_the_newest_sound_one(
        self, live: LiveModel, registry: ModelRegistry, blobs: Blobs
    ) -> None:
        registry.publish(bundle_of(model(1)))
        registry.publish(bundle_of(model(2)))
        blobs.put(MODELS, f"{model_id(2)}/{MATCHER_FILE}", b"damaged")
        assert live().model_id == model_id(1)

    def test_a_model_of_another_space_is_refused(self, live: LiveModel, registry: ModelRegistry, caplog) -> None:
        registry.publish(bundle_of(model(1)))
        live()
        registry.store(bundle_of(replace(model(2), embedder_id="other")))
        registry.switch(model_id(2), expected=registry.pointer())
        assert live.refresh().model_id == model_id(1)
        assert "no pack that this service knows" in caplog.text

    def test_a_poll_finds_a_new_model_without_being_asked(self, live: LiveModel, registry: ModelRegistry) -> None:
        live()
        stop = threading.Event()
        thread = live.poll(0.01, stop)
        registry.publish(bundle_of(model(1)))
        deadline = time.monotonic() + 10
        while live().model_id != model_id(1) and time.monotonic() < deadline:
            time.sleep(0.01)
        stop.set()
        thread.join(10)
        assert live().model_id == model_id(1)

    def test_a_poll_outlives_a_store_that_goes_away(self, live: LiveModel, registry: ModelRegistry, blobs) -> None:
        registry.publish(bundle_of(model(1)))
        blobs.down = True
        stop = threading.Event()
        thread = live.poll(0.01, stop)
        try:
            time.sleep(0.1)
            assert thread.is_alive()
            blobs.down = False
            assert live().model_id == model_id(1)
        finally:
            stop.set()
            thread.join(10)

    def test_no_request_waits_for_a_load(self, live: LiveModel, registry: ModelRegistry, blobs: Blobs) -> None:
        registry.publish(bundle_of(model(1)))
        live()
        registry.publish(bundle_of(model(2)))
        reading, go_on = threading.Event(), threading.Event()
        get = LocalBlobStore.get

        def slow(container: str, name: str):
            if name.endswith(MATCHER_FILE):
                reading.set()
                assert go_on.wait(10)
            return get(blobs, container, name)

        blobs.get = slow
        loader = threading.Thread(target=live.refresh)
        loader.start()
        assert reading.wait(10)
        assert live().model_id == model_id(1), "answers while the next one loads"
        go_on.set()
        loader.join(10)
        assert live().model_id == model_id(2)


class TestChangeOfEmbedder:
    """What a running process answers with, while the pointer moves from one embedder to another."""

    @pytest.fixture
    def packs(self) -> Packs:
        return Packs(cache=Path("none"), min_face_px=20, loaded=[colour_pack()])

    def switched(self, registry: ModelRegistry) -> None:
        registry.publish(bundle_of(model(1)))
        registry.store(bundle_of(replace(model(2), embedder_id="other.1")))

    def test_the_other_pack_is_loaded_before_anything_is_swapped(self, registry: ModelRegistry, packs: Packs) -> None:
        self.switched(registry)
        live = LiveModel(registry, packs)
        assert live.serving().pack.name == "colours"
        loading, go_on = threading.Event(), threading.Event()
        other = colour_pack(ColourEmbedder("other.1"), name="other")
        packs._all()["other.1"] = serving_module._Known("other", "", other.table)

        def slow(embedder_id: str):
            if embedder_id == "other.1" and not packs.is_loaded(embedder_id):
                loading.set()
                assert go_on.wait(10)
                packs._loaded[embedder_id] = other
            return packs._loaded[embedder_id]

        packs.load = slow  # type: ignore[method-assign]
        registry.switch(model_id(2), expected=registry.pointer())
        thread = threading.Thread(target=live.refresh)
        thread.start()
        assert loading.wait(10)
        assert live.serving().model.model_id == model_id(1), "the old pair answers while the new weights load"
        go_on.set()
        thread.join(10)
        pair = live.serving()
        assert (pair.pack.name, pair.model.model_id) == ("other", model_id(2))

    def test_weights_that_are_not_there_keep_the_old_pair_and_are_looked_for_again(
        self, registry: ModelRegistry, packs: Packs, tmp_path: Path
    ) -> None:
        live = LiveModel(registry, packs)
        registry.publish(bundle_of(model(1)))
        live.serving()
        other = colour_pack(ColourEmbedder("other.1"), name="other")
        packs._all()["other.1"] = serving_module._Known("other", "sface", other.table)
        registry.store(bundle_of(replace(model(2), embedder_id="other.1")))
        registry.switch(model_id(2), expected=registry.pointer())
        live.refresh()
        assert live.serving().model.model_id == model_id(1)
        packs._loaded["other.1"] = other
        live.refresh()
        assert live.serving().model.model_id == model_id(2)

    def test_old_weights_are_let_go_when_the_change_is_over(self, registry: ModelRegistry) -> None:
        packs = Packs(cache=Path("none"), min_face_px=20, loaded=[colour_pack()])
        packs._loaded["other.1"] = colour_pack(ColourEmbedder("other.1"))
        registry.publish(bundle_of(model(1)))
        record = Migration("m", EMBEDDER_ID, "other.1", EMBEDDER_ID, "j", NOW, NOW, state="ready")
        kept = registry.migrations.begin(record)
        live = LiveModel(registry, packs)
        live.refresh()
        assert packs.is_loaded("other.1")
        registry.migrations.change(kept, NOW, state="cancelled")
        live.refresh()
        assert not packs.is_loaded("other.1") and packs.is_loaded(EMBEDDER_ID)

    def test_a_pair_of_two_embedders_cannot_be_made(self) -> None:
        with pytest.raises(EmbedderMismatch):
            Serving(colour_pack(), replace(model(1), embedder_id="other.1"))

    def test_a_first_model_that_nobody_can_make_probes_for_is_waited_for(self, registry: ModelRegistry, packs) -> None:
        """An answer of `unknown` for everybody would be wrong: a crop waits until the setting is mended."""
        registry.store(bundle_of(replace(model(1), embedder_id="gone.1")))
        registry.switch(model_id(1), expected=None)
        with pytest.raises(ModelUnavailable, match="FACERELAY_EXTRA_PACKS"):
            LiveModel(registry, packs).serving()


class TestPacks:
    def test_the_initial_one_comes_first_and_the_built_in_ones_by_themselves(self, tmp_path: Path) -> None:
        packs = Packs(["sface"], cache=tmp_path, min_face_px=20)
        assert packs.initial == packs.named("sface")
        assert packs.name(packs.named("facenet")) == "facenet"
        assert packs.default_thresholds()[packs.initial] == packs.operating(packs.initial).threshold
        assert packs.empty(packs.initial).embedder_id == packs.initial

    def test_a_pack_of_ones_own_may_be_changed_to(self, tmp_path: Path) -> None:
        manifest = tmp_path / "mine.toml"
        manifest.write_text('[pack.mine]\ndetector = "mtcnn"\nembedder = "facenet"\n')
        packs = Packs(["sface", str(manifest)], cache=tmp_path, min_face_px=20)
        assert packs.name(packs.named("mine")) == "mine"
        with pytest.raises(InvalidInput, match="facenet"):
            packs.named("facenet")  # of the same embedder, and named before it by the operator

    def test_weights_are_checked_and_not_loaded(self, tmp_path: Path) -> None:
        packs = Packs(["facenet"], cache=tmp_path, min_face_px=20)
        with pytest.raises(ModelUnavailable):
            packs.check(packs.initial)
        assert packs.loaded_count() == 0


def test_the_pointer_names_the_manifest_by_its_hash(registry: ModelRegistry, blobs: Blobs) -> None:
    registry.publish(bundle_of(model(1)))
    document = json.loads(blobs.get(MODELS, POINTER).data)
    manifest = blobs.get(MODELS, f"{model_id(1)}/{MANIFEST_FILE}").data
    assert document["manifest_sha256"] == sha256_hex(manifest)
    assert document["model_id"] == model_id(1)


def test_the_store_refuses_a_stale_etag(registry: ModelRegistry, blobs: Blobs) -> None:
    """What the race above rests on."""
    registry.publish(bundle_of(model(1)))
    stale = registry.pointer().etag
    registry.publish(bundle_of(model(2)))
    with pytest.raises(PreconditionFailed):
        blobs.put(MODELS, POINTER, b"{}", if_match=stale)
