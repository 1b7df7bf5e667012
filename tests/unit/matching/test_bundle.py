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
from shared.matching.model import SvmScale
from tests.support import matcher, unit
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
        svm=SvmScale(0.3, 0.1, 0.5),
    )
    loaded = load_matcher(bundle_of(model))
    assert (loaded.model_id, loaded.embedder_id, loaded.person_ids) == (
        model.model_id,
        model.embedder_id,
        ("ann", "bob"),
    )
    assert (loaded.svm, loaded.operating) == (model.svm, model.operating)
    for name in ("mean", "prototypes", "weights", "bias"):
        assert np.array_equal(getattr(loaded, name), getattr(model, name)), name


def test_a_gallery_of_nobody_is_packed_and_loaded() -> None:
    assert load_matcher(bundle_of(matcher({}))).person_ids == ()


def test_a_manifest_survives_json_and_ignores_later_fields() -> None:
    manifest = bundle_of(matcher(GALLERY)).manifest
    fields = json.loads(manifest.to_json()) | {"colour_of_the_sky": "blue"}
    assert Manifest.from_json(json.dumps(fields).encode()) == manifest


@pytest.mark.parametrize("schema", [0, 2, "1", None])
def test_another_schema_is_refused_by_name(schema: object) -> None:
    fields = json.loads(bundle_of(matcher(GALLERY)).manifest.to_json()) | {"schema": schema}
    with pytest.raises(UnknownSchema, match=str(schema)):
        Manifest.from_json(json.dumps(fields).encode())


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"schema": 1}', b'"x"'])
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
    arrays = {name: getattr(model, name) for name in ("mean", "prototypes", "weights", "bias")}
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


def test_packing_is_repeatable() -> None:
    assert pack_matcher(matcher(GALLERY)) == pack_matcher(matcher(GALLERY))


def test_nothing_is_left_of_a_person_taken_out() -> None:
    bundle = bundle_of(matcher(GALLERY))
    bundle = Bundle(
        replace(bundle.manifest, files={**bundle.manifest.files, "svm.joblib": sha256_hex(b"ann")}),
        {**bundle.files, "svm.joblib": b"ann"},
    )
    cut = without_person(bundle, "ann", model_id="99999999T000000.000000Z-0000")
    assert b"ann" not in cut.manifest.to_json()
    assert all(b"a\0\0\0n\0\0\0n" not in data and b"ann" not in data for data in cut.files.values())
    assert cut.manifest.templates == {"bob": 1}
    assert cut.manifest.gallery == bundle.manifest.gallery, "so that the timer sees a changed gallery and refits"
    assert load_matcher(cut).person_ids == ("bob",)
