"""What the networks are fed, spelled out a second time.

The numbers are those under which the published accuracy was reproduced: FaceNet 20180408-102900 takes RGB 160 × 160,
(x − 127.5) / 128, a margin of 32 px at 160; SFace takes RGB 112 × 112 as it is, aligned on five points.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest

from shared.vision.assets import ModelCache
from shared.vision.detectors import load_pack
from tests.integration.functions.conftest import MODELS


@pytest.mark.parametrize(
    ("name", "artefact", "side", "mean", "scale"),
    [("facenet", "facenet", 160, 127.5, 1 / 128), ("sface", "sface", 112, 0.0, 1.0)],
)
def test_an_embedding_is_the_networks_answer_to_these_pixels(photo, name, artefact, side, mean, scale) -> None:
    cache = ModelCache(MODELS)
    pack = load_pack(name, cache, min_face_px=40)
    image = np.asarray(photo("demo_obama"))
    face = pack.detector.detect(image)[0]
    crop = pack.embedder.crop(image, face)
    assert crop.shape == (side, side, 3)

    session = onnxruntime.InferenceSession(str(cache.path(artefact)), providers=["CPUExecutionProvider"])
    pixels = ((crop.astype(np.float32) - mean) * scale).transpose(2, 0, 1)[None].astype(np.float32)
    answer = session.run(None, {session.get_inputs()[0].name: pixels})[0][0]
    expected = answer / np.linalg.norm(answer)
    assert pack.embedder.embed([image], [face]).vectors[0] == pytest.approx(expected, abs=1e-3)


def test_facenets_margin_is_an_eighth_of_the_face_on_each_side(photo, pack) -> None:
    """16 of 128 px a side: the middle of the crop is the face box itself."""
    image = np.zeros((400, 400, 3), np.uint8)
    image[100:228, 150:278] = 255
    face = pack.detector.detect(np.asarray(photo("demo_obama")))[0]
    moved = type(face)(np.array([150, 100, 278, 228], np.float32), 1.0, face.landmarks)
    crop = pack.embedder.crop(image, moved)
    white = np.argwhere(crop[..., 0] > 127)
    assert white.min(axis=0) == pytest.approx([16, 16], abs=1)
    assert white.max(axis=0) == pytest.approx([143, 143], abs=1)
