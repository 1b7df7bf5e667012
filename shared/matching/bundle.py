"""A model bundle: `manifest.json` and files, every file under the hash that the manifest promises.

Format of `models/{model_id}/`:
    manifest.json   what the model is, was made from and is worth; see `Manifest`
    matcher.npz     the arrays of `MatcherModel`, loaded with pickling forbidden
    svm.joblib      a scikit-learn estimator, for offline analysis only; nothing on the serving path reads it

Schema 1 kept prototypes and SVM apart; it is read still, as the one row a person that it amounts to.
"""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import numpy as np

from shared.domain import Float32Array, sha256_hex
from shared.errors import IntegrityError, InvalidInput, UnknownSchema
from shared.matching.index import PersonIndex
from shared.matching.index import open_index as open_local_index
from shared.matching.model import MatcherModel, Operating

BUNDLE_SCHEMA: Final = 2
_READ_SCHEMAS: Final = (1, BUNDLE_SCHEMA)
MATCHER_FILE: Final = "matcher.npz"
MANIFEST_FILE: Final = "manifest.json"
_ARRAYS = ("mean", "weights", "bias")

OpenIndex = Callable[[str, Float32Array, Float32Array], PersonIndex | None]
"""What a model is searched with, by its id, weights and bias; None: what suits its size."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a bundle is.

    Attributes:
        model_id: begins with the UTC time at which the fit read the gallery, so ids sort by what they know.
        files: SHA-256 of each file.
        embedder: id, dimension and preprocessing of the embedder whose space this is.
        templates: how many templates each person had.
        classifier: kind, its parameters, and what adding a person to it needs.
        operating: threshold, slope and midpoint; thresholds of single cameras.
        calibration: what the threshold was set on; `calibrated` is False when a default holds.
        evaluation: figures of the fit.
        gallery: hash of the (person, template) pairs the fit read.
        versions: of Python and the libraries that fitted it.
        people: hash of each person's templates that the fit read, so that the next fit knows who changed.
        set_aside: templates that the fit left out, each with its person, reason and figures.
    """

    model_id: str
    files: Mapping[str, str]
    embedder: Mapping[str, Any]
    templates: Mapping[str, int]
    classifier: Mapping[str, Any]
    operating: Mapping[str, Any]
    calibration: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    gallery: str
    versions: Mapping[str, str]
    people: Mapping[str, str] = field(default_factory=dict)
    set_aside: Sequence[Mapping[str, Any]] = ()
    schema: int = BUNDLE_SCHEMA

    def to_json(self) -> bytes:
        return json.dumps(asdict(self), indent=2, sort_keys=True).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Manifest:
        """Raises: IntegrityError: not a manifest. UnknownSchema: of a later version of facerelay."""
        try:
            fields = json.loads(data)
            if fields["schema"] not in _READ_SCHEMAS:
                raise UnknownSchema(f"model bundle schema {fields['schema']!r} is not {BUNDLE_SCHEMA}")
            return cls(**{key: value for key, value in fields.items() if key in cls.__slots__})
        except (ValueError, KeyError, TypeError) as error:
            raise IntegrityError(f"model manifest is unreadable: {type(error).__name__}") from error


@dataclass(frozen=True, slots=True)
class Bundle:
    """A manifest and the bytes of its files."""

    manifest: Manifest
    files: Mapping[str, bytes] = field(repr=False)


def pack_matcher(model: MatcherModel) -> bytes:
    """The arrays as an uncompressed npz."""
    buffer = io.BytesIO()
    person_ids = np.array(model.person_ids, dtype=np.str_)
    np.savez(buffer, person_ids=person_ids, **{name: getattr(model, name) for name in _ARRAYS})
    return buffer.getvalue()


def load_matcher(bundle: Bundle, *, open_index: OpenIndex | None = None) -> MatcherModel:
    """The served matcher of a bundle, hashes checked first.

    Args:
        open_index: gives the index that the model is searched with, where that is not the process's own.

    Raises:
        IntegrityError: a file is missing, does not match its hash, or does not hold what it should.
    """
    data = verified_file(bundle, MATCHER_FILE)
    manifest = bundle.manifest
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            person_ids = tuple(arrays["person_ids"].tolist())
            loaded = {name: np.ascontiguousarray(arrays[name], dtype=np.float32) for name in _ARRAYS}
            if manifest.schema == 1:
                prototypes = np.ascontiguousarray(arrays["prototypes"], dtype=np.float32)
                loaded |= _one_row_a_person(prototypes, loaded, manifest.classifier["svm_scale"])
        model = MatcherModel(
            model_id=manifest.model_id,
            embedder_id=str(manifest.embedder["embedder_id"]),
            person_ids=person_ids,
            mean=loaded["mean"],
            weights=loaded["weights"],
            bias=loaded["bias"],
            operating=Operating(**manifest.operating),
        )
        index = open_index(manifest.model_id, model.weights, model.bias) if open_index else None
        return model.searched_by(index or open_local_index(model.weights, model.bias))
    except (InvalidInput, ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise IntegrityError(f"model {manifest.model_id} is unreadable: {type(error).__name__}") from error


def _one_row_a_person(
    prototypes: Float32Array, loaded: Mapping[str, Float32Array], scale: Mapping[str, float]
) -> dict[str, Float32Array]:
    """Weights and bias of a schema 1 bundle, whose similarity was a weighted mean of cosine and scaled SVM margin."""
    share, gain, offset = (np.float32(scale[name]) for name in ("weight", "gain", "offset"))
    return {
        "weights": (1 - share) * prototypes + share * gain * loaded["weights"],
        "bias": share * (gain * loaded["bias"] + offset),
    }


def without_person(bundle: Bundle, person_id: str, *, model_id: str) -> Bundle:
    """The same bundle under a new id, with nothing left in it of `person_id`.

    The scikit-learn estimator cannot be cut and is left out. The gallery's hash stays the old one, so that the next
    look of the training timer finds it changed and refits.
    """
    model = load_matcher(bundle).without(person_id, model_id=model_id)
    data = pack_matcher(model)
    manifest = replace(
        bundle.manifest,
        model_id=model_id,
        files={MATCHER_FILE: sha256_hex(data)},
        templates={known: count for known, count in bundle.manifest.templates.items() if known != person_id},
        people={known: state for known, state in bundle.manifest.people.items() if known != person_id},
        set_aside=[one for one in bundle.manifest.set_aside if person_id not in (one["person_id"], one.get("with"))],
        schema=BUNDLE_SCHEMA,
    )
    return Bundle(manifest, {MATCHER_FILE: data})


def verified_file(bundle: Bundle, name: str) -> bytes:
    """Bytes of one file, once they match the manifest.

    Raises:
        IntegrityError: missing, or of another hash.
    """
    expected, data = bundle.manifest.files.get(name), bundle.files.get(name)
    if expected is None or data is None:
        raise IntegrityError(f"model {bundle.manifest.model_id} lacks {name}")
    if sha256_hex(data) != expected:
        raise IntegrityError(f"model {bundle.manifest.model_id}: {name} does not match its hash")
    return data
