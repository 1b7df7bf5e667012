"""Folders of pictures whose faces are patches of colour, and the stand-ins that see them."""

from __future__ import annotations

from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from rich.console import Console

from local.evaluation.photographs import Plan
from local.evaluation.trial import Trial, run_trial
from shared.settings import Settings
from shared.vision.assets import load_registry
from shared.vision.detectors import Pack
from tests.support import BLUE, DIMENSION, GREEN, GREY, ONE_COLOUR, RED, ColourEmbedder, PatchDetector, png, portrait

Colour = tuple[int, int, int]

ANN, BOB, CAT = RED, GREEN, BLUE
OTHER_ANN: Colour = (230, 20, 90)
"""Ann again, in another light."""
LIKE_ANN: Colour = (230, 40, 20)
"""A stranger who is taken for Ann."""
PALE: Colour = (235, 225, 15)
"""A stranger who resembles nobody enough."""


def pack() -> Pack:
    table = load_registry().embedder["facenet"].model_copy(update={"dimension": DIMENSION})
    return Pack("colours", PatchDetector(), ColourEmbedder(table.embedder_id), table)


def settings(**changes: object) -> Settings:
    return Settings(pack="facenet", **ONE_COLOUR, **changes)  # type: ignore[arg-type]


def quiet() -> Console:
    return Console(file=StringIO())


def lay_out(root: Path, people: Mapping[str, list[Colour | bytes]]) -> Path:
    """`root/{person}/{n}.png`, no two alike."""
    for person, pictures in people.items():
        folder = root / person
        folder.mkdir(parents=True)
        for number, what in enumerate(pictures):
            data = what if isinstance(what, bytes) else portrait(what, shift=number + 3 * (sum(what) % 7))
            (folder / f"{number}.png").write_bytes(data)
    return root


def nobody() -> bytes:
    """A picture without any face."""
    import numpy as np

    return png(np.full((240, 240, 3), GREY, np.uint8))


def run(plan: Plan, **changes: object) -> Trial:
    return run_trial(plan, settings(**changes), quiet(), pack=pack())
