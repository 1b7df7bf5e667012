"""A bundle is what its manifest promises, or it is not loaded."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from shared.domain import sha256_hex
from shared.errors import IntegrityError, UnknownSchema
from shared.matching.bundle import (
    MATCHER_FILE,
    Bundle,
    Manifest,
    load_matcher,
    pack_matcher,
    verified_file,
    without_person,
)
from shared.matching.model import Operating, centre
from tests.support import matcher, probes, unit
from tests.unit.matching.bundles import bundle_of

ANN, BOB = unit(1, 0, 0, 0), unit(0, 1, 0, 0)
GALLERY = {"ann": ANN, "bob": BOB}


def with_file(bundle: Bundle, data: bytes) -> Bundle:
    """The same manifest, promising and holding other bytes."""
    return Bundle(replace(bundle.manifest, files={MATCHER_FILE: sha256_hex(data)}), {MATCHER_FILE: data})


def test_what_is_packed_is_loaded() -> None:
    model = replace(
        matcher(GALLERY),
        weights=np.arange(8, dtype=np.float32).reshape(2, 4),
        bias=np.array([0.5, -0.5], np.float32),
        mean=np.array([0.1, 0, 0, 0], np.float32),
        operating=Operating(0.41, 23.0, 0.39, {"museum/door": 0.47}),
    )
    loaded = load_matcher(bundle_of(model))
    assert (loaded.model_id, loaded.embedder_id, loaded.person_ids) == (
        model.model_id,
        model.embedder_id,
        ("ann", "bob"),
    )
    assert loaded.operating == model.operating
    for name in ("mean", "weights", "bias"):
        assert np.array_equal(getattr(loaded, name), getattr(model, name)), name


def test_a_gallery_of_nobody_is_packed_and_loaded() -> None:
    assert load_matcher(bundle_of(matcher({}))).person_ids == ()


def test_a_manifest_survives_json_and_ignores_later_fields() -> None:
    manifest = bundle_of(matcher(GALLERY)).manifest
    fields = json.loads(manifest.to_json()) | {"colour_of_the_sky": "blue"}
    read = Manifest.from_json(json.dumps(fields).encode())
    assert read.to_json() == manifest.to_json() and read.schema == 2


def test_what_the_fit_left_out_and_read_survives_json() -> None:
    aside = [{"person_id": "ann", "template_id": "1", "reason": "duplicate", "with": "2"}]
    manifest = replace(bundle_of(matcher(GALLERY)).manifest, people={"ann": "h1", "bob": "h2"}, set_aside=aside)
    read = Manifest.from_json(manifest.to_json())
    assert (read.people, read.set_aside) == ({"ann": "h1", "bob": "h2"}, aside)


@pytest.mark.parametrize("schema", [0, 3, "1", "2", None])
def test_another_schema_is_refused_by_name(schema: object) -> None:
    fields = json.loads(bundle_of(matcher(GALLERY)).manifest.to_json()) | {"schema": schema}
    with pytest.raises(UnknownSchema, match=str(schema)):
        Manifest.from_json(json.dumps(fields).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"schema": 1}', b'{"schema": 2}', b'"x"'])
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        Manifest.from_json(data)


def test_one_changed_bit_is_refused() -> None:
    bundle = bundle_of(matcher(GALLERY))
    data = bytearray(bundle.files[MATCHER_FILE])
    data[len(data) // 2] ^= 1
    with pytest.raises(IntegrityError, match="does not match its hash"):
        load_matcher(Bundle(bundle.manifest, {MATCHER_FILE: bytes(data)}))


def test_a_missing_file_and_one_that_nobody_promised_are_refused() -> None:
    bundle = bundle_of(matcher(GALLERY))
    with pytest.raises(IntegrityError, match="lacks"):
        load_matcher(Bundle(bundle.manifest, {}))
    with pytest.raises(IntegrityError, match="lacks"):
        verified_file(Bundle(bundle.manifest, {"other": b""}), "other")


class Canary:
    """Leaves a file behind when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return (open, (str(self.path), "w"))


def test_a_pickle_inside_is_refused_and_never_run(tmp_path: Path) -> None:
    """Even when the hash is right: whoever can write a bundle must not be able to run code."""
    model, canary = matcher(GALLERY), tmp_path / "canary"
    arrays = {name: getattr(model, name) for name in ("mean", "weights", "bias")}
    sink = io.BytesIO()
    np.savez(sink, person_ids=np.array([Canary(canary), "bob"], dtype=object), **arrays)
    with pytest.raises(IntegrityError):
        load_matcher(with_file(bundle_of(model), sink.getvalue()))
    assert not canary.exists()


def test_arrays_of_other_shapes_are_refused() -> None:
    good = bundle_of(matcher(GALLERY))
    with np.load(io.BytesIO(good.files[MATCHER_FILE])) as arrays:
        changed = {name: arrays[name] for name in arrays.files} | {"bias": np.zeros(3, np.float32)}
    sink = io.BytesIO()
    np.savez(sink, **changed)
    with pytest.raises((IntegrityError, ValueError)) as caught:
        load_matcher(with_file(good, sink.getvalue()))
    assert isinstance(caught.value, IntegrityError)


@pytest.mark.parametrize("data", [b"", b"not a zip", b"PK\x03\x04 cut"])
def test_what_is_no_npz_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityError):
        load_matcher(with_file(bundle_of(matcher(GALLERY)), data))


def test_a_missing_array_is_refused() -> None:
    sink = io.BytesIO()
    with zipfile.ZipFile(sink, "w") as archive:
        archive.writestr("mean.npy", b"")
    with pytest.raises(IntegrityError):
        load_matcher(with_file(bundle_of(matcher(GALLERY)), sink.getvalue()))


SCALE = {"gain": 0.3, "offset": 0.1, "weight": 0.25}


def first_schema(scale: dict[str, float] = SCALE) -> tuple[Bundle, dict[str, np.ndarray]]:
    """A bundle as the first schema had it, and its arrays: prototypes beside SVMs, whose scale the manifest has."""
    random = np.random.default_rng(0)
    arrays = {name: random.normal(size=(3, 8)).astype(np.float32) for name in ("prototypes", "weights")}
    arrays["prototypes"] /= np.linalg.norm(arrays["prototypes"], axis=1, keepdims=True)
    arrays |= {"bias": random.normal(size=3).astype(np.float32), "mean": np.full(8, 0.05, np.float32)}
    sink = io.BytesIO()
    np.savez(sink, person_ids=np.array(["ann", "bob", "cid"]), **arrays)
    fields = json.loads(bundle_of(matcher(GALLERY)).manifest.to_json())
    fields = {key: value for key, value in fields.items() if key not in ("people", "set_aside")}
    fields |= {
        "schema": 1,
        "files": {MATCHER_FILE: sha256_hex(sink.getvalue())},
        "templates": {"ann": 1, "bob": 1, "cid": 1},
        "classifier": {"kind": "prototype+linear-svm", "svm_scale": scale},
        "operating": {"threshold": 0.2, "slope": 20.0, "midpoint": 0.2},
    }
    return Bundle(Manifest.from_json(json.dumps(fields).encode()), {MATCHER_FILE: sink.getvalue()}), arrays


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_bundle_of_the_first_schema_answers_as_it_did(share: float) -> None:
    """Its arithmetic was (1 - w) * cosine + w * (gain * margin + offset), of the centred probe."""
    bundle, arrays = first_schema({**SCALE, "weight": share})
    model = load_matcher(bundle)
    faces = centre(np.random.default_rng(1).normal(size=(20, 8)).astype(np.float32), np.full(8, 1e-9, np.float32))
    centred = centre(faces, arrays["mean"])
    margins = centred @ arrays["weights"].T + arrays["bias"]
    before = (1 - share) * (centred @ arrays["prototypes"].T) + share * (SCALE["gain"] * margins + SCALE["offset"])
    assert model.similarities(faces) == pytest.approx(before, abs=1e-5)
    answers = model.identify(probes(faces, model.embedder_id))
    assert [answer.nearest for answer in answers] == [model.person_ids[row] for row in before.argmax(axis=1)]
    assert model.operating == Operating(0.2, 20.0, 0.2)


@pytest.mark.parametrize("scale", [{}, {"gain": 1.0, "offset": 0.0}])
def test_a_bundle_of_the_first_schema_without_its_scale_is_refused(scale: dict[str, float]) -> None:
    bundle, _ = first_schema(scale)
    with pytest.raises(IntegrityError):
        load_matcher(bundle)


def test_a_person_taken_out_of_the_first_schema_leaves_a_bundle_of_the_second() -> None:
    bundle, _ = first_schema()
    cut = without_person(bundle, "bob", model_id="99999999T000000.000000Z-0000")
    cut = Bundle(Manifest.from_json(cut.manifest.to_json()), cut.files)
    face = unit(1, 2, 3, 4, 5, 6, 7, 8)[None]
    assert cut.manifest.schema == 2
    assert load_matcher(cut).person_ids == ("ann", "cid")
    before = load_matcher(bundle).similarities(face)[:, [0, 2]]
    assert load_matcher(cut).similarities(face) == pytest.approx(before, abs=1e-6)


def test_packing_is_repeatable() -> None:
    assert pack_matcher(matcher(GALLERY)) == pack_matcher(matcher(GALLERY))


def test_nothing_is_left_of_a_person_taken_out() -> None:
    bundle = bundle_of(matcher(GALLERY))
    files = {**bundle.manifest.files, "svm.joblib": sha256_hex(b"ann")}
    aside = [
        {"person_id": "ann", "template_id": "1", "reason": "duplicate", "with": "2"},
        {"person_id": "bob", "template_id": "3", "reason": "confuses", "with": "ann"},
        {"person_id": "bob", "template_id": "4", "reason": "duplicate", "with": "5"},
        {"person_id": "bob", "template_id": "6", "reason": "unlike_own_person", "with": None},
    ]
    bundle = Bundle(
        replace(bundle.manifest, files=files, people={"ann": "h1", "bob": "h2"}, set_aside=aside),
        {**bundle.files, "svm.joblib": b"ann"},
    )
    cut = without_person(bundle, "ann", model_id="99999999T000000.000000Z-0000")
    assert b"ann" not in cut.manifest.to_json()
    assert all(b"a\0\0\0n\0\0\0n" not in data and b"ann" not in data for data in cut.files.values())
    assert cut.manifest.templates == {"bob": 1} and cut.manifest.people == {"bob": "h2"}
    assert [one["template_id"] for one in cut.manifest.set_aside] == ["4", "6"]
    assert cut.manifest.gallery == bundle.manifest.gallery, "so that the timer sees a changed gallery and refits"
    assert load_matcher(cut).person_ids == ("bob",)
