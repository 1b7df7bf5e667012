"""The registry of model files, an operator's manifest, and the cache that gives out nothing without a hash."""

import hashlib

import pytest

from shared.errors import ConfigurationError, IntegrityError, ModelUnavailable
from shared.vision.assets import ModelCache, Registry, load_registry, resolve_pack

WEIGHTS = b"not really a network"
SHA256 = hashlib.sha256(WEIGHTS).hexdigest()

MANIFEST = f"""
[artefact.mine]
file = "weights/mine.onnx"
sha256 = "{SHA256}"

[embedder.mine]
file = "mine"
embedder_id = "mine.1"
dimension = 128
input_px = 112
crop = "landmarks"
default_threshold = 0.4

[pack.mine]
detector = "mtcnn"
embedder = "mine"
"""


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / "pack.toml"
    path.write_text(MANIFEST)
    return path


def test_every_built_in_artefact_can_be_had_and_is_described():
    registry = load_registry()
    for name, artefact in registry.artefact.items():
        assert artefact.bytes, name
        assert artefact.licence != "unstated", name
        assert artefact.sources or artefact.derived_from, name
        assert "/" not in artefact.file, name


def test_every_model_but_the_derived_has_two_places_to_come_from():
    single = [
        name
        for name, artefact in load_registry().artefact.items()
        if artefact.derived_from is None and len(artefact.sources) < 2
    ]
    assert single == ["ultra_light"]  # in no package; docs/models.md


def test_built_in_packs():
    registry, name = resolve_pack("facenet")
    assert name == "facenet"
    assert registry.files_of("facenet") == ["mtcnn_pnet", "mtcnn_rnet", "mtcnn_onet", "facenet"]
    assert registry.files_of("sface")[-1] == "sface"


def test_a_manifest_adds_an_embedder_without_code(manifest):
    registry, name = resolve_pack(str(manifest))
    assert name == "mine"
    assert registry.embedder["mine"].crop == "landmarks"
    assert registry.detector[registry.pack["mine"].detector].kind == "mtcnn"
    assert ModelCache(manifest.parent, registry).location("mine") == manifest.parent.resolve() / "weights" / "mine.onnx"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('crop = "landmarks"', 'crop = "landmarks"\ncolor = "bgr"', "color"),
        (SHA256, "abc", "sha256"),
        ('file = "mine"', 'file = "other"', "other"),
        ("dimension = 128", "", "dimension"),
        ('detector = "mtcnn"', 'detector = "haar"', "haar"),
        ("[embedder.mine]", "[embedder.facenet]", "built in"),
        ("[pack.mine]", "[pack.mine", "not TOML"),
    ],
)
def test_a_wrong_manifest_is_refused_with_the_place(manifest, old, new, message):
    manifest.write_text(MANIFEST.replace(old, new))
    with pytest.raises(ConfigurationError, match=message) as caught:
        resolve_pack(str(manifest))
    assert str(manifest) in str(caught.value)


def test_a_manifest_has_one_pack(manifest):
    manifest.write_text(MANIFEST + '[pack.two]\ndetector = "mtcnn"\nembedder = "mine"\n')
    with pytest.raises(ConfigurationError, match="exactly one"):
        resolve_pack(str(manifest))


def test_an_unknown_pack_is_told_apart_from_a_missing_manifest(tmp_path):
    with pytest.raises(ConfigurationError, match="facenet, sface"):
        resolve_pack("arcface")
    with pytest.raises(ConfigurationError, match="cannot be read"):
        resolve_pack(str(tmp_path / "none.toml"))


def cache_with(tmp_path, content, **fields):
    table = {"file": "a.bin", "sha256": SHA256, "bytes": len(WEIGHTS)} | fields
    if content is not None:
        (tmp_path / "a.bin").write_bytes(content)
    return ModelCache(tmp_path, Registry.model_validate({"artefact": {"a": table}}))


def test_a_file_with_the_right_hash_is_given_out(tmp_path):
    assert cache_with(tmp_path, WEIGHTS).path("a").read_bytes() == WEIGHTS


def test_a_missing_file_says_what_to_run(tmp_path):
    cache = cache_with(tmp_path, None)
    assert cache.missing(["a"]) == ["a"]
    with pytest.raises(ModelUnavailable, match="facerelay models fetch"):
        cache.path("a")


@pytest.mark.parametrize("content", [WEIGHTS[:-1], WEIGHTS[:-1] + b"!", b""])
def test_other_bytes_are_never_given_out(tmp_path, content):
    with pytest.raises(IntegrityError):
        cache_with(tmp_path, content).path("a")
    with pytest.raises(IntegrityError):
        cache_with(tmp_path, content or b"x", bytes=None).path("a")


def test_a_file_that_changes_is_hashed_again(tmp_path):
    cache = cache_with(tmp_path, WEIGHTS, bytes=None)
    cache.path("a")
    (tmp_path / "a.bin").write_bytes(b"something else, longer than before")
    with pytest.raises(IntegrityError):
        cache.path("a")


def test_an_unknown_artefact_is_a_fault_of_configuration(tmp_path):
    with pytest.raises(ConfigurationError):
        cache_with(tmp_path, WEIGHTS).path("b")
