"""The real networks, from the model cache, and the demo's photographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image
from shared.vision.detectors import load_pack
from shared.vision.mtcnn import MtcnnDetector

PEOPLE = {"obama": "obama", "obama2": "obama", "obama3": "obama", "biden": "biden", "astronaut": "collins"}


@pytest.fixture(scope="session")
def models() -> ModelCache:
    return ModelCache(Settings().model_cache)


@pytest.fixture(scope="session")
def photographs(models):
    """Five photographs of three people, by name."""
    paths: dict[str, Path] = {name: models.path(f"demo_{name}") for name in PEOPLE}
    return {name: decode_image(path.read_bytes(), ImageLimits()) for name, path in paths.items()}


@pytest.fixture(scope="session")
def mtcnn(models):
    return MtcnnDetector(models, min_face_px=40)


@pytest.fixture(scope="session")
def faces(mtcnn, photographs):
    """The surest face of each photograph."""
    return {name: mtcnn.detect(image)[0] for name, image in photographs.items()}


@pytest.fixture(scope="session", params=["facenet", "sface"])
def pack(request, models):
    if request.param == "sface" and not models.holds("sface"):
        pytest.skip("the sface pack is not in the cache: facerelay models fetch --pack sface")
    return load_pack(request.param, models)
