"""Real weights and photographs, from the model cache."""

from __future__ import annotations

from pathlib import Path

import pytest

from shared.errors import ModelUnavailable
from shared.settings import StoreSettings
from shared.vision.assets import ModelCache


@pytest.fixture(scope="session")
def cache() -> ModelCache:
    return ModelCache(StoreSettings().model_cache)


@pytest.fixture(scope="session")
def artefact(cache):
    """Path of an artefact by name; skips the test when it was not fetched."""

    def path(name: str) -> Path:
        try:
            return cache.path(name)
        except ModelUnavailable as error:
            pytest.skip(str(error))

    return path
