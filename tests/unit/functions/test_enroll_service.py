"""Enrolment: exactly one usable face, nothing kept but that face, and nothing left when a person goes."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from functions.enroll.service import KEPT_MARGIN, EnrollService, crop_to_face, refusal
from shared.adapters.local import LocalBlobStore, LocalStore
from shared.bootstrap import Stores
from shared.domain import DATASET
from shared.errors import (
    Conflict,
    InvalidIdentifier,
    InvalidImage,
    NotFound,
    StoreUnavailable,
    UnusableFace,
)
from shared.model_registry import ModelRegistry
from shared.vision.decode import ImageLimits, decode_image
from shared.vision.quality import REASONS, QualityGate
from tests.support import (
    EMBEDDER_ID,
    GREEN,
    RED,
    YELLOW,
    ColourEmbedder,
    PatchDetector,
    TickingClock,
    colour_pack,
    colour_vector,
    face,
    matcher,
    picture,
    png,
    portrait,
    saved,
    stores_over,
)
from tests.unit.matching.bundles import bundle_of


class World:
    def __init__(self, folder: Path) -> None:
        self.store = LocalStore(folder)
        self.stores: Stores = stores_over(self.store)
        self.registry = ModelRegistry(self.stores.blobs, TickingClock())
        self.detector = PatchDetector()
        self.embedders = [EMBEDDER_ID]

    def service(self, *, min_sharpness: float = 0.0) -> EnrollService:
        return EnrollService(
            people=self.stores.people,
            blobs=self.stores.blobs,
            registry=self.registry,
            packs=lambda: [colour_pack(ColourEmbedder(each), detector=self.detector) for each in self.embedders],
            gate=QualityGate(min_size_px=40, min_sharpness=min_sharpness, min_confidence=0.9),
            limits=ImageLimits(),
            slot=threading.Semaphore(1),
            clock=TickingClock(),
        )

    def images(self) -> list[str]:
        return [blob.name for blob in self.stores.blobs.list(DATASET)]

    def templates(self) -> list:
        return list(self.stores.people.list_templates())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.store.close()


@pytest.fixture
def service(world: World) -> EnrollService:
    return world.service()


class TestPeople:
    def test_a_person_is_added_under_one_spelling(self, service: EnrollService, world: World) -> None:
        assert service.add_person("Harrison Ford") == "harrison_ford"
        assert [p.person_id for p in world.stores.people.list_people()] == ["harrison_ford"]

    def test_a_taken_id_is_a_conflict_in_any_spelling(self, service: EnrollService) -> None:
        service.add_person("Harrison Ford")
        with pytest.raises(Conflict):
            service.add_person("harrison_FORD")

    @pytest.mark.parametrize("name", ["../../etc", "unknown", "", "😀", "x" * 300])
    def test_what_is_no_id_is_refused_everywhere(self, service: EnrollService, name: str) -> None:
        for call in (service.add_person, service.remove_person, lambda n: service.add_image(n, portrait(RED))):
            with pytest.raises(InvalidIdentifier):
                call(name)


class TestImages:
    def test_one_face_becomes_an_image_and_a_template(self, service: EnrollService, world: World) -> None:
        service.add_person("ann")
        enrolled = service.add_image("Ann", portrait(RED), source="folder")
        assert enrolled.added and enrolled.person_id == "ann"
        [template], [image] = world.templates(), world.images()
        assert (template.template_id, template.person_id, template.image) == (enrolled.template_id, "ann", image)
        assert image.startswith("ann/") and image.endswith(".jpg") and len(image) == len("ann/.jpg") + 64
        assert template.source == "folder" and template.quality.size_px == 80
        assert template.embedding == pytest.approx(colour_vector(RED), abs=1e-3)

    def test_the_template_points_at_the_face_in_the_stored_image(self, service: EnrollService, world: World) -> None:
        service.add_person("ann")
        service.add_image("ann", png(picture(((300, 200, 380, 280), RED), size=(640, 480))))
        [template] = world.templates()
        stored = decode_image(world.stores.blobs.get(DATASET, template.image).data, ImageLimits())
        x1, y1, x2, y2 = map(round, template.face_box)
        assert (x2 - x1, y2 - y1) == (80, 80)
        inside = stored[y1 + 4 : y2 - 4, x1 + 4 : x2 - 4].reshape(-1, 3).mean(axis=0)
        assert inside == pytest.approx(RED, abs=12), "JPEG smears a little"
        for x, y in template.landmarks:
            assert x1 < x < x2 and y1 < y < y2

    def test_nothing_but_the_face_and_its_margin_is_kept(self, service: EnrollService, world: World) -> None:
        """Neither bystanders nor the room."""
        service.add_person("ann")
        service.add_image("ann", png(picture(((500, 300, 580, 380), RED), ((0, 0, 30, 30), GREEN), size=(1000, 700))))
        stored = decode_image(world.stores.blobs.get(DATASET, world.images()[0]).data, ImageLimits())
        side = 80 * (1 + 2 * KEPT_MARGIN)
        assert stored.shape == (side, side, 3)
        assert not np.any((stored[..., 1] > 180) & (stored[..., 0] < 90)), "no green bystander"

    def test_exif_is_applied_and_then_gone(self, service: EnrollService, world: World) -> None:
        image = Image.fromarray(picture(((30, 100, 110, 180), RED), size=(300, 240)))
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was held on its side
        exif[0x010F] = "SECRET-CAMERA"
        exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}  # GPS
        service.add_person("ann")
        service.add_image("ann", saved(image, "JPEG", exif=exif, quality=95))
        data = world.stores.blobs.get(DATASET, world.images()[0]).data
        assert b"SECRET" not in data and b"Exif" not in data
        with Image.open(__import__("io").BytesIO(data)) as kept:
            assert dict(kept.getexif()) == {}

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (png(picture()), "no_face"),
            (png(picture(((10, 10, 90, 90), RED), ((120, 10, 190, 80), GREEN))), "several_faces"),
            (portrait(RED, side=20), "too_small"),
        ],
    )
    def test_a_photo_that_cannot_be_used_is_refused_and_says_why(
        self, service: EnrollService, world: World, data: bytes, reason: str
    ) -> None:
        service.add_person("ann")
        with pytest.raises(UnusableFace) as refused:
            service.add_image("ann", data)
        assert refused.value.reason == reason
        assert "use a" in str(refused.value), "and what to do instead"
        assert world.images() == [] and world.templates() == []

    def test_a_blurred_face_is_refused(self, world: World) -> None:
        service = world.service(min_sharpness=20.0)
        service.add_person("ann")
        with pytest.raises(UnusableFace) as refused:
            service.add_image("ann", portrait(RED))  # one colour: as blurred as can be
        assert refused.value.reason == "too_blurred"

    def test_an_unsure_detector_is_not_believed(self, service: EnrollService, world: World) -> None:
        world.detector.confidence = 0.5
        service.add_person("ann")
        with pytest.raises(UnusableFace) as refused:
            service.add_image("ann", portrait(RED))
        assert refused.value.reason == "low_confidence"

    def test_a_far_smaller_face_in_the_background_is_not_another_person(self, service: EnrollService) -> None:
        service.add_person("ann")
        data = png(picture(((10, 10, 110, 110), RED), ((150, 10, 195, 55), GREEN)))
        assert service.add_image("ann", data).added

    def test_the_same_photo_twice_adds_nothing(self, service: EnrollService, world: World) -> None:
        service.add_person("ann")
        first = service.add_image("ann", portrait(RED))
        second = service.add_image("ann", portrait(RED))
        assert (second.added, second.template_id) == (False, first.template_id)
        assert len(world.images()) == len(world.templates()) == 1

    @pytest.mark.parametrize("shade", [(225, 25, 20), (230, 20, 35)])
    def test_a_photo_that_is_all_but_the_same_adds_nothing(
        self, service: EnrollService, world: World, shade: tuple[int, int, int]
    ) -> None:
        service.add_person("ann")
        first = service.add_image("ann", portrait(RED))
        again = service.add_image("ann", portrait(shade, shift=3))
        assert (again.added, again.template_id) == (False, first.template_id)
        assert again.similarity > 0.95
        assert len(world.images()) == len(world.templates()) == 1

    def test_another_photo_of_the_same_person_adds_a_template_and_so_does_the_same_of_another_person(
        self, service: EnrollService, world: World
    ) -> None:
        for name in ("ann", "bob"):
            service.add_person(name)
        service.add_image("ann", portrait(RED))
        assert service.add_image("ann", portrait(YELLOW)).added
        assert service.add_image("bob", portrait(RED)).added, "a twin, or a mistake: the gallery's review will tell"
        assert len(world.templates()) == 3

    def test_every_reason_of_the_gate_has_a_sentence_that_helps(self) -> None:
        for reason in (*REASONS, "no_face", "several_faces"):
            assert refusal(reason).reason == reason
            assert "; use a" in str(refusal(reason)), reason

    def test_nobody_of_that_id_gets_no_photo(self, service: EnrollService, world: World) -> None:
        with pytest.raises(NotFound):
            service.add_image("ann", portrait(RED))
        assert world.images() == []

    def test_what_is_no_picture_is_refused(self, service: EnrollService) -> None:
        service.add_person("ann")
        with pytest.raises(InvalidImage):
            service.add_image("ann", b"\x89PNG\r\n\x1a\n")


class TestRemoval:
    def test_nothing_is_left(self, service: EnrollService, world: World) -> None:
        for name, colour in (("ann", RED), ("ann", GREEN), ("anna", RED)):
            if name not in [p.person_id for p in world.stores.people.list_people()]:
                service.add_person(name)
            service.add_image(name, portrait(colour))
        world.registry.publish(bundle_of(matcher({"ann": colour_vector(RED), "anna": colour_vector(GREEN)})))
        service.remove_person("Ann")
        assert [p.person_id for p in world.stores.people.list_people()] == ["anna"]
        assert {t.person_id for t in world.templates()} == {"anna"}
        assert len(world.images()) == 1 and world.images()[0].startswith("anna/"), "a namesake's prefix is not hers"
        assert world.registry.manifest(world.registry.pointer()).templates == {"anna": 1}

    def test_it_is_repeatable_and_says_when_there_was_nothing(self, service: EnrollService) -> None:
        service.add_person("ann")
        service.remove_person("ann")
        with pytest.raises(NotFound):
            service.remove_person("ann")

    def test_what_an_interrupted_removal_left_behind_goes_with_the_next(
        self, service: EnrollService, world: World
    ) -> None:
        service.add_person("ann")
        service.add_image("ann", portrait(RED))
        world.stores.people.delete_person("ann")  # and then the process died
        service.remove_person("ann")
        assert world.images() == []

    def test_a_photo_that_is_enrolled_while_the_person_is_removed_is_not_kept(self, world: World) -> None:
        service = world.service()
        put = LocalBlobStore.put

        def removed_before(container: str, name: str, data: bytes, **options: object) -> str:
            if container == DATASET:
                service.remove_person("ann")
            return put(world.stores.blobs, container, name, data, **options)

        world.stores.blobs.put = removed_before
        service.add_person("ann")
        with pytest.raises(NotFound):
            service.add_image("ann", portrait(RED))
        assert world.images() == [] and world.templates() == []

    def test_a_template_whose_removal_was_interrupted_can_be_removed_again(self, world: World) -> None:
        service = world.service()
        service.add_person("ann")
        template_id = service.add_image("ann", portrait(RED)).template_id

        def away(container: str, name: str) -> bool:
            raise StoreUnavailable("away")

        world.stores.blobs.delete = away
        with pytest.raises(StoreUnavailable):
            service.remove_template("ann", template_id)
        del world.stores.blobs.delete
        service.remove_template("ann", template_id)
        assert world.images() == [] and world.templates() == [], "no image that re-embedding could bring back"

    def test_somebody_removed_can_come_back(self, service: EnrollService, world: World) -> None:
        service.add_person("ann")
        service.add_image("ann", portrait(RED))
        service.remove_person("ann")
        service.add_person("ann")
        assert service.add_image("ann", portrait(RED)).added


def test_a_crop_at_the_edge_of_the_picture_keeps_what_there_is() -> None:
    image = picture(((0, 0, 50, 50), RED), size=(200, 100))
    kept, moved = crop_to_face(image, face(-10, -10, 50, 50))
    assert kept.shape == (100, 110, 3)
    assert moved.box.tolist() == [-10, -10, 50, 50]
