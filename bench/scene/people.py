"""Who walks through a scene: people enrolled from some of their photographs, seen in others; and strangers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from bench.lfw import GALLERY_TEMPLATES, Photographs
from shared.domain import Face, Float32Array, UInt8Array
from shared.errors import InvalidInput

Locate = Callable[[UInt8Array], Face | None]
"""RGB image (H, W, 3) uint8 → the face that the photograph is of, or None."""

_HELD_OUT_SHARE = 3
"""Where nearly everybody could be enrolled, every so-manieth is a stranger instead."""


@dataclass(frozen=True, slots=True)
class Person:
    """Somebody who may be seen.

    Attributes:
        id: the folder's name.
        gallery: photographs that are enrolled; empty for a stranger.
        shown: the photographs that are seen in a scene, none of them enrolled.
    """

    id: str
    gallery: tuple[Path, ...]
    shown: tuple[Path, ...]

    @property
    def enrolled(self) -> bool:
        return bool(self.gallery)


@dataclass(frozen=True, slots=True, eq=False)
class Portrait:
    """One photograph to be cut out.

    Attributes:
        image: BGR (H, W, 3) uint8.
        box: (4,) float32, xyxy of the face in it.
    """

    image: UInt8Array
    box: Float32Array


def cast_of(root: Path, seed: int) -> list[Person]:
    """Draws whose photographs are enrolled, as `bench.lfw.open_set` does: three of each person with at least four.

    Everybody else is a stranger; where they are fewer than a quarter, every third of those who could be enrolled is.

    Raises:
        InvalidInput: no photographs, nobody who can be enrolled, or no stranger.
    """
    photographs = Photographs.read(root)
    paths: dict[str, list[Path]] = {}
    for person, path in zip(photographs.people, photographs.paths(), strict=True):
        paths.setdefault(person, []).append(path)
    many = [person for person, images in paths.items() if len(images) > GALLERY_TEMPLATES]
    held_out: set[str] = set()
    if len(paths) - len(many) < len(paths) / 4:
        held_out = set(many[::_HELD_OUT_SHARE])
    random = np.random.default_rng(seed)
    people = []
    for person, images in sorted(paths.items()):
        drawn = [images[i] for i in random.permutation(len(images))]
        taken = GALLERY_TEMPLATES if len(images) > GALLERY_TEMPLATES and person not in held_out else 0
        people.append(Person(person, tuple(drawn[:taken]), tuple(drawn[taken:])))
    if len({person.enrolled for person in people}) < 2:
        raise InvalidInput(f"{root}: a scene needs people with four photographs or more, and strangers")
    return people


class Portraits:
    """Photographs with their faces, each read and searched once.

    Args:
        locate: finds the face; neutral towards what is measured, such as a detector that neither side uses.
    """

    def __init__(self, locate: Locate) -> None:
        self._locate = locate
        self._known: dict[Path, Portrait | None] = {}

    def of(self, paths: Sequence[Path]) -> list[Portrait]:
        """Those of `paths` that have a face, in order."""
        return [portrait for path in paths if (portrait := self._portrait(path)) is not None]

    def _portrait(self, path: Path) -> Portrait | None:
        if path not in self._known:
            bgr = cv2.imread(str(path), cv2.IMREAD_COLOR)
            face = None
            if bgr is not None:
                face = self._locate(np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), np.uint8))
            self._known[path] = Portrait(np.asarray(bgr, np.uint8), face.box) if face is not None else None
        return self._known[path]


def mtcnn_locator(cache_dir: Path | None = None) -> Locate:
    """MTCNN, the photograph's most central face: neither the gateway's detector nor the seed's.

    Raises:
        ModelUnavailable: its weights are not in the cache.
    """
    from functions.recognize.service import most_central
    from shared.settings import Settings
    from shared.vision.assets import ModelCache
    from shared.vision.detectors import load_detector

    detector = load_detector("mtcnn", ModelCache(cache_dir or Settings().model_cache), min_face_px=40.0)
    return lambda image: most_central(image, detector.detect(image))
