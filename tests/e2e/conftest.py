"""Photographs and crops for whole-system tests."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO

import pytest
from PIL import Image

from shared.settings import Settings
from shared.vision.assets import ModelCache


@pytest.fixture(scope="session")
def jpeg() -> Callable[[str], bytes]:
    """A demo photograph by its name in the registry, at most 420 px: smaller is faster."""
    cache = ModelCache(Settings().model_cache)
    made: dict[str, bytes] = {}

    def load(name: str) -> bytes:
        if name not in made:
            sink = BytesIO()
            with Image.open(cache.path(name)) as image:
                small = image.convert("RGB")
            small.thumbnail((420, 420))
            small.save(sink, "JPEG", quality=92)
            made[name] = sink.getvalue()
        return made[name]

    return load
