"""Embedders with their real networks, on real photographs."""

from concurrent.futures import ThreadPoolExecutor
from itertools import combinations

import cv2
import numpy as np
import pytest

from local.facenet_graph import facenet_to_onnx
from local.models import convert
from shared.domain import Face, sha256_hex
from shared.errors import IntegrityError, InvalidInput, ModelUnavailable
from shared.vision._onnx import open_session
from shared.vision.assets import ModelCache
from shared.vision.detectors import load_pack
from tests.integration.vision.conftest import PEOPLE


def test_the_same_person_is_nearer_than_anybody_else(pack, photographs, faces):
    vectors = pack.embedder.embed(list(photographs.values()), [faces[name] for name in photographs]).vectors
    assert vectors.shape == (5, pack.table.dimension)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    for (i, one), (j, other) in combinations(enumerate(photographs), 2):
        same = PEOPLE[one] == PEOPLE[other]
        similarity = float(vectors[i] @ vectors[j])
        assert (similarity > pack.table.default_threshold) == same, (one, other, similarity)


def test_a_batch_gives_what_one_by_one_gives(pack, photographs, faces):
    images = list(photographs.values()) * 4  # 20: more than one batch of 16
    found = [faces[name] for name in photographs] * 4
    together = pack.embedder.embed(images, found).vectors
    alone = np.concatenate([pack.embedder.embed([i], [f]).vectors for i, f in zip(images[:5], found[:5], strict=True)])
    assert np.abs(together - np.concatenate([alone] * 4)).max() < 1e-4


def test_a_face_from_near_and_from_far_is_the_same(pack, mtcnn, photographs):
    image = photographs["obama2"]
    small = np.asarray(cv2.resize(image, None, fx=0.4, fy=0.4, interpolation=cv2.INTER_AREA), np.uint8)
    vectors = pack.embedder.embed([image, small], [mtcnn.detect(image)[0], mtcnn.detect(small)[0]]).vectors
    assert float(vectors[0] @ vectors[1]) > 0.9


def mirrored(image, face):
    """The photograph as a mirror shows it, and the face in it: landmarks are named as they appear in the picture."""
    width = image.shape[1]
    box = np.array([width - face.box[2], face.box[1], width - face.box[0], face.box[3]], np.float32)
    points = face.landmarks[[1, 0, 2, 4, 3]] * np.float32([-1, 1]) + np.float32([width, 0])
    return np.ascontiguousarray(image[:, ::-1]), Face(box, face.confidence, points)


def unit_rows(rows):
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_a_reference_is_the_mean_of_the_crop_and_the_mirrored_crop(pack, photographs, faces):
    images, found = list(photographs.values()), [faces[name] for name in photographs]
    reference = pack.embedder.embed_reference(images, found)
    assert reference.embedder_id == pack.table.embedder_id and reference.vectors.dtype == np.float32
    plain = pack.embedder.embed(images, found).vectors
    crops = np.stack([pack.embedder.crop(image, face) for image, face in zip(images, found, strict=True)])
    network, pixels = pack.embedder._session, pack.embedder._pixels(crops[:, :, ::-1])
    turned = unit_rows(network.run(None, {pack.embedder._input: pixels})[0])
    assert np.abs(reference.vectors - unit_rows(plain + turned)).max() < 1e-5
    assert np.abs(plain - turned).max() > 0.01, "there is something to take the mean of"


def test_a_reference_is_the_same_of_a_mirrored_photograph(pack, photographs, faces):
    """But for rounding, and SFace's template for aligned faces, which is not quite symmetrical (cosine 0.995)."""
    images, found = list(photographs.values()), [faces[name] for name in photographs]
    turned = [mirrored(image, face) for image, face in zip(images, found, strict=True)]

    def cosines(embed):
        before, after = embed(images, found), embed(*map(list, zip(*turned, strict=True)))
        return np.sum(before.vectors * after.vectors, axis=1)

    assert cosines(pack.embedder.embed_reference).min() > {"facenet": 0.9999, "sface": 0.99}[pack.name]
    assert cosines(pack.embedder.embed).max() < 0.99, "as a plain embedding is not"


def test_no_faces_give_no_rows(pack):
    for embed in (pack.embedder.embed, pack.embedder.embed_reference):
        assert embed([], []).vectors.shape == (0, pack.table.dimension)


def test_one_embedder_serves_several_threads(pack, photographs, faces):
    def embed(_):
        return pack.embedder.embed([photographs["biden"]], [faces["biden"]]).vectors

    with ThreadPoolExecutor(3) as pool:
        first, *others = pool.map(embed, range(6))
    assert all(np.array_equal(first, other) for other in others)


def test_alignment_needs_landmarks(pack, photographs, faces):
    bare = Face(faces["biden"].box, 0.9)
    if pack.table.crop == "margin":
        assert len(pack.embedder.embed([photographs["biden"]], [bare])) == 1
    else:
        with pytest.raises(InvalidInput, match="landmarks"):
            pack.embedder.embed([photographs["biden"]], [bare])


def test_a_manifest_of_ones_own_gives_a_pack(models, tmp_path, photographs, faces):
    """The built-in network under a manifest that feeds it the same way, so that the vectors are known."""
    original = models.registry
    weights = models.path("facenet")
    manifest = tmp_path / "mine.toml"
    manifest.write_text(
        f"""
        [artefact.mine]
        file = "{weights.as_posix()}"
        sha256 = "{original.artefact["facenet"].sha256}"
        [embedder.mine]
        file = "mine"
        embedder_id = "mine.1"
        dimension = 512
        input_px = 160
        crop = "margin"
        margin_px = {original.embedder["facenet"].margin_px}
        default_threshold = 0.4
        [pack.mine]
        detector = "mtcnn"
        embedder = "mine"
        """
    )
    mine, built_in = load_pack(str(manifest), models), load_pack("facenet", models)
    assert mine.embedder.embedder_id == "mine.1"
    vectors = [p.embedder.embed([photographs["obama"]], [faces["obama"]]).vectors for p in (mine, built_in)]
    assert np.array_equal(*vectors)


def test_a_pack_whose_files_are_missing_says_what_to_run(tmp_path):
    with pytest.raises(ModelUnavailable, match="facerelay models fetch"):
        load_pack("facenet", ModelCache(tmp_path))


def test_a_file_that_is_no_network_is_refused(tmp_path):
    path = tmp_path / "noise.onnx"
    path.write_bytes(b"\x08\x07" + bytes(range(100)))
    with pytest.raises(IntegrityError, match=r"noise\.onnx"):
        open_session(path)


@pytest.fixture(scope="module")
def graph(models):
    if not models.holds("facenet_graph"):
        pytest.skip("the frozen graph is not in the cache: facerelay models fetch --all")
    return models.path("facenet_graph")


def test_the_translation_is_what_was_pinned(models, graph):
    assert sha256_hex(facenet_to_onnx(graph.read_bytes())) == models.registry.artefact["facenet"].sha256


def test_the_translation_computes_what_opencv_computes_from_the_frozen_graph(models, graph):
    """OpenCV reads the TensorFlow graph with an importer and kernels of its own."""
    pixels = np.random.default_rng(0).normal(0, 0.5, (3, 3, 160, 160)).astype(np.float32)
    ours = open_session(models.path("facenet")).run(None, {"images": pixels})[0]
    network = cv2.dnn.readNetFromTensorflow(str(graph))
    for row, image in zip(ours, pixels, strict=True):
        network.setInput(image[None])
        theirs = network.forward().ravel()
        assert float(row @ theirs) / np.linalg.norm(theirs) > 0.9999


@pytest.mark.parametrize("data", [b"", b"\xff\xff\xff\xff", b"\x0a\x03abc"])
def test_other_bytes_are_no_graph(data):
    with pytest.raises(IntegrityError):
        facenet_to_onnx(data)


@pytest.mark.parametrize("name", ["sface", "mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet", "yunet"])
def test_an_edited_network_is_what_was_pinned_and_computes_what_the_original_computes(models, name):
    artefact = models.registry.artefact[name]
    if not models.holds(artefact.derived_from):
        pytest.skip(f"{artefact.derived_from} is not in the cache: facerelay models fetch --all")
    original = models.path(artefact.derived_from)
    assert sha256_hex(convert(artefact.conversions, original.read_bytes())) == artefact.sha256
    shape, scale = {
        "sface": ((3, 3, 112, 112), 80),
        "mtcnn_pnet": ((1, 61, 47, 3), 0.5),
        "mtcnn_rnet": ((3, 24, 24, 3), 0.5),
        "mtcnn_onet": ((3, 48, 48, 3), 0.5),
        "yunet": ((1, 3, 640, 640), 60),
    }[name]
    pixels = np.random.default_rng(0).normal(0, scale, shape).astype(np.float32)
    before, after = open_session(original), open_session(models.path(name))
    source = before.get_inputs()[0].name
    together = after.run(None, {source: pixels})
    alone = [before.run(None, {source: pixels[i : i + 1]}) for i in range(len(pixels))]
    for index, output in enumerate(together):
        assert np.allclose(output, np.concatenate([one[index] for one in alone]), atol=1e-4)
