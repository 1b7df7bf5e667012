"""Detectors with their real networks, on real photographs."""

from concurrent.futures import ThreadPoolExecutor

import cv2
import numpy as np
import psutil
import pytest

from shared.errors import ConfigurationError
from shared.vision import mtcnn as mtcnn_module
from shared.vision.boxes import iou
from shared.vision.detectors import load_detector
from shared.vision.mtcnn import MtcnnDetector

# Where the face of astronaut.png (512 × 512) is, and its landmarks: read off the picture by eye, ± 6 px.
ASTRONAUT_BOX = np.array([180, 62, 268, 175], np.float32)
ASTRONAUT_POINTS = np.array([[205, 110], [245, 108], [226, 132], [209, 146], [244, 145]], np.float32)


def test_mtcnn_finds_the_face_and_its_landmarks(mtcnn, photographs):
    (face,) = mtcnn.detect(photographs["astronaut"])
    assert face.confidence > 0.99
    assert iou(face.box, ASTRONAUT_BOX) > 0.8
    assert face.box.dtype == np.float32
    assert np.abs(face.landmarks - ASTRONAUT_POINTS).max() < 10


def test_landmarks_are_ordered_as_they_appear(faces):
    for face in faces.values():
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[0] < right_eye[0]
        assert left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])


def test_the_surest_face_comes_first(mtcnn, photographs):
    found = mtcnn.detect(np.hstack([photographs["astronaut"], photographs["astronaut"][:, ::-1]]))
    assert len(found) >= 2
    assert [face.confidence for face in found] == sorted((face.confidence for face in found), reverse=True)


def test_knowing_the_size_changes_the_work_not_the_face(mtcnn, photographs):
    image = photographs["astronaut"]
    (bounded,) = mtcnn.detect(image, min_face_px=60, max_face_px=130)
    assert iou(bounded.box, mtcnn.detect(image)[0].box) > 0.9


@pytest.mark.parametrize("shape", [(1, 1, 3), (5, 400, 3), (400, 5, 3), (12, 12, 3), (20, 20, 3), (21, 37, 3)])
def test_tiny_and_thin_pictures_have_no_face(mtcnn, shape):
    assert mtcnn.detect(np.full(shape, 128, np.uint8), min_face_px=12) == []


def test_noise_has_no_sure_face(mtcnn):
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8)
    assert [face for face in mtcnn.detect(noise) if face.confidence > 0.9] == []


def test_strips_of_a_large_picture_see_what_the_whole_sees(mtcnn, photographs, monkeypatch):
    image = photographs["obama"]
    whole = mtcnn.detect(image)
    monkeypatch.setattr(mtcnn_module, "_STRIP_PIXELS", 9_000)
    strips = mtcnn.detect(image)
    assert len(strips) == len(whole)
    for one, other in zip(strips, whole, strict=True):
        assert np.allclose(one.box, other.box, atol=0.01)


def test_one_detector_serves_several_threads(mtcnn, photographs):
    image = photographs["astronaut"]
    expected = mtcnn.detect(image)[0].box
    with ThreadPoolExecutor(4) as pool:
        boxes = [faces[0].box for faces in pool.map(mtcnn.detect, [image] * 12)]
    assert all(np.array_equal(box, expected) for box in boxes)


def test_memory_stays_flat_over_pictures_of_every_size(models, photographs):
    detector = MtcnnDetector(models, min_face_px=20)
    random = np.random.default_rng(0)
    process = psutil.Process()

    def look(times):
        for _ in range(times):
            width, height = random.integers(60, 360, 2).tolist()
            detector.detect(np.asarray(cv2.resize(photographs["astronaut"], (width, height)), np.uint8))
        return process.memory_info().rss

    warm = look(60)
    assert look(150) - warm < 30_000_000


@pytest.mark.parametrize("name", ["yunet", "ultra_light"])
def test_edge_detectors_agree_with_mtcnn_on_where_the_face_is(models, photographs, faces, name):
    if not models.holds(name):
        pytest.skip(f"{name} is not in the cache: facerelay models fetch --all")
    detector = load_detector(name, models)
    for key, image in photographs.items():
        best = detector.detect(image)[0]
        assert iou(best.box, faces[key].box) > 0.6, key
        if name == "yunet":
            assert np.abs(best.landmarks - faces[key].landmarks).mean() < 0.1 * faces[key].width_px
        else:
            assert best.landmarks is None


@pytest.mark.parametrize("width", [320, 500, 777])
def test_yunet_finds_what_opencv_finds_with_it(models, photographs, width):
    """OpenCV's own reading of the network's outputs, at sizes that are and that are not multiples of its cells."""
    if not models.holds("yunet_original"):
        pytest.skip("yunet_original is not in the cache: facerelay models fetch --edge")
    reference = cv2.FaceDetectorYN.create(str(models.path("yunet_original")), "", (320, 320), 0.3, 0.3, 5_000)
    detector = load_detector("yunet", models, threshold=0.3, input_px=4_000)
    for key, image in photographs.items():
        small = cv2.resize(image, (width, round(image.shape[0] * width / image.shape[1])))
        reference.setInputSize((small.shape[1], small.shape[0]))
        _, rows = reference.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
        theirs = sorted(rows.tolist(), key=lambda row: -row[14])
        ours = detector.detect(small)
        assert len(ours) == len(theirs) > 0, key
        for face, row in zip(ours, theirs, strict=True):
            assert face.confidence == pytest.approx(row[14], abs=1e-3)
            assert np.abs(face.box - [row[0], row[1], row[0] + row[2], row[1] + row[3]]).max() < 0.5
            assert np.abs(face.landmarks.ravel() - row[4:14]).max() < 0.5


def test_yunet_sees_nothing_in_an_empty_picture(models):
    assert load_detector("yunet", models).detect(np.zeros((240, 320, 3), np.uint8)) == []


def test_a_higher_threshold_lets_fewer_through(models, photographs):
    image = cv2.GaussianBlur(photographs["astronaut"], (0, 0), 6)
    few, many = (load_detector("yunet", models, threshold=t).detect(image) for t in (0.9, 0.05))
    assert len(few) < len(many)


def test_an_unknown_detector_is_refused_by_name(models):
    with pytest.raises(ConfigurationError, match="mtcnn, ultra_light, yunet"):
        load_detector("haar", models)
