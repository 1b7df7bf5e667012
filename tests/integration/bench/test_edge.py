"""The edge benchmark's real parts, on four seconds of a person in the public domain."""

from __future__ import annotations

import shutil

import cv2
import numpy as np
import pytest

from bench.edge_names import Names, enrolled, named
from bench.edge_policies import run_policy
from bench.edge_seed import gateway_loop
from bench.servers import NODE_MODULES
from shared.errors import ModelUnavailable
from shared.settings import StoreSettings
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image

FRAMES = 24


@pytest.fixture(scope="module")
def portrait():
    cache = ModelCache(StoreSettings().model_cache)
    try:
        for name in ("yunet", "mtcnn_pnet", "sface"):
            cache.path(name)
        return cache.path("demo_astronaut")
    except ModelUnavailable as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def walk(portrait, tmp_path_factory):
    """A portrait that moves through a 720p picture, at 6 fps."""
    image = decode_image(portrait.read_bytes(), ImageLimits())
    small = cv2.resize(image[..., ::-1], (360, 360), interpolation=cv2.INTER_AREA)
    path = tmp_path_factory.mktemp("walk") / "scene.mp4"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 6.0, (1280, 720))
    for number in range(FRAMES):
        frame = np.full((720, 1280, 3), 90, np.uint8)
        frame[200:560, 100 + 30 * number : 460 + 30 * number] = small
        writer.write(frame)
    writer.release()
    return path


@pytest.fixture(scope="module")
def runs(walk):
    if shutil.which("node") is None or not NODE_MODULES.is_dir():
        pytest.skip("Azurite needs Node.js")
    return {policy: run_policy(policy, walk, None) for policy in ("every_frame", "best_shot")}


def test_every_frame_sends_every_frame_and_best_shot_a_few(runs):
    every, best = runs["every_frame"], runs["best_shot"]
    assert sorted(crop.frame for crop in every.crops) == list(range(FRAMES))
    assert 1 <= len(best.crops) <= 4
    figures = every.figures(FRAMES / 6)
    assert figures["mean_face_height_px"] > 60
    assert figures["frames"] == FRAMES


def test_the_network_carries_the_images_and_what_is_around_them(runs):
    for run in runs.values():
        images = sum(len(crop.data) for crop in run.crops)
        # Headers of request and answer, for each crop: metadata, tags, signature.
        around = (run.up_bytes - images) / len(run.crops)
        assert 800 < around < 4_000, run.policy
        assert 100 < run.down_bytes / len(run.crops) < 2_000


def test_crops_are_recognised_by_a_model_of_the_products_own_training(runs, portrait):
    with enrolled("sface", {"astronaut": [portrait]}) as folder:
        names = Names(folder, "sface")
        try:
            answers = names.of(runs["best_shot"].crops, "walk")
        finally:
            names.close()
    assert {answer.text for answer in answers} == {"astronaut"} == {answer.nearest for answer in answers}
    assert all(named(answer.text) and answer.similarity >= answer.threshold for answer in answers)


def test_the_gateways_boxes_are_noted_for_every_frame(walk):
    looked = gateway_loop(walk)
    assert looked.frames == FRAMES
    assert looked.frames_per_s > 0
    assert sum(len(boxes) == 1 for boxes in looked.boxes.values()) >= FRAMES - 1
