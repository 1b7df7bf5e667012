"""Crops, and the metadata that goes with them."""

from __future__ import annotations

from datetime import UTC, datetime

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_uploader.selection.crops import CropOptions, completeness, crop_region, cut, long_axis_px
from shared.domain import Candidate, sha256_hex
from tests.unit.edge.fakes import encode, face, picture

AT = datetime(2026, 1, 2, 3, 4, 5, 678_000, tzinfo=UTC)
coordinates = st.floats(-500, 1500, allow_nan=False)


def decode(jpeg):
    return cv2.cvtColor(cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


@given(coordinates, coordinates, st.floats(0, 800), st.floats(0, 800), st.floats(0, 2))
def test_a_crop_is_never_empty_and_never_outside(x, y, w, h, margin):
    left, top, right, bottom = crop_region(np.float32([x, y, x + w, y + h]), margin, 640, 480)
    assert 0 <= left < right <= 640
    assert 0 <= top < bottom <= 480


@given(coordinates, coordinates, st.floats(1, 800), st.floats(1, 800))
def test_completeness_is_a_share(x, y, w, h):
    assert 0.0 <= completeness(np.float32([x, y, x + w, y + h]), 640, 480) <= 1.0


def test_the_margin_is_on_each_side_and_stops_at_the_edge():
    assert crop_region(np.float32([100, 100, 140, 160]), 0.5, 640, 480) == (80, 70, 160, 190)
    assert crop_region(np.float32([5, 5, 45, 65]), 0.5, 640, 480) == (0, 0, 65, 95)


def test_a_small_face_keeps_its_pixels():
    image = picture((100, 100, 140, 160))
    crop = cut(image, face(100, 100, 140, 160), AT, CropOptions(margin=0.5), encode)
    assert crop.size == (80, 120)
    assert decode(crop.data).shape == (120, 80, 3)


def test_a_large_face_is_scaled_to_the_limit_on_its_long_axis():
    image = picture((100, 60, 200, 210))
    crop = cut(image, face(100, 60, 200, 210), AT, CropOptions(margin=0.2, max_face_px=75), encode)
    assert crop.size == (70, 105)
    assert crop.frame_box == (100, 60, 200, 210)


@pytest.mark.parametrize("limit", [400, 60])
def test_landmarks_are_where_they_were_in_the_picture(limit):
    """A mark painted at the nose is found at the nose's place in the crop."""
    image = np.zeros((240, 320, 3), np.uint8)
    found = face(120, 80, 200, 180)
    x, y = found.landmarks[2].astype(int)
    image[y - 4 : y + 5, x - 4 : x + 5] = 255
    crop = cut(image, found, AT, CropOptions(margin=0.4, max_face_px=limit), encode)
    bright = np.argwhere(decode(crop.data)[..., 0] > 128).mean(axis=0)
    assert np.abs(bright[::-1] - crop.landmarks[2]).max() <= 1.0


def test_a_face_past_the_edge_has_its_box_inside_the_frame():
    crop = cut(picture(), face(-20, 200, 30, 260, landmarks=False), AT, CropOptions(), encode)
    assert crop.frame_box == (0, 200, 30, 240)
    assert crop.landmarks is None


def test_colours_are_right():
    crop = cut(picture((100, 100, 140, 160)), face(100, 100, 140, 160), AT, CropOptions(margin=0.0), encode)
    assert decode(crop.data)[30, 20].tolist() == pytest.approx((230, 20, 20), abs=12)


@pytest.mark.parametrize("chosen", [True, False])
def test_the_candidate_survives_its_journey(chosen):
    crop = cut(picture((100, 100, 140, 160)), face(100, 100, 140, 160, 0.912345), AT, CropOptions(), encode)
    sent = crop.to_candidate(
        site="hq", camera="döor/1", location="Main hall", track="a_1", shot=2, detector="d.1", chosen=chosen
    )
    assert Candidate.from_metadata(sent.to_metadata()) == sent
    assert ("chosen" in sent.to_metadata()) is chosen
    assert sent.sha256 == sha256_hex(crop.data)
    assert sent.uploader.startswith("facerelay-edge/")
    assert sent.blob_name == "hq/d%C3%B6or%2F1/2026/01/02/20260102T030405678Z-a_1-2.jpg"


def test_the_long_axis_is_the_longer_side():
    assert long_axis_px(face(0, 0, 30, 50)) == 50
    assert long_axis_px(face(0, 0, 60, 50)) == 60
