"""Fits and calibrates a matcher from templates. The only module that needs scikit-learn.

The threshold is set for a target FPIR: people are left out in turn, the rest are the gallery, and the people left out
play the strangers. The similarity that only the target share of those strangers reaches is the threshold. With too
few people to state a rate, the embedder's conservative default holds, and the result says so.
"""

from __future__ import annotations

import io
import platform
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final

import joblib
import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.svm import LinearSVC

from shared.domain import Float32Array, Template, sha256_hex
from shared.matching.bundle import MATCHER_FILE, Bundle, Manifest, pack_matcher
from shared.matching.model import MatcherModel, Operating, SvmScale, centre, empty_model

SVM_C: Final = 1.0
SVM_WEIGHT: Final = 0.5
FOLDS: Final = 5
LARGE_GALLERY: Final = 50
"""People. In a smaller gallery the mean embedding is the people themselves, and removing it would remove what tells
them apart; nor is there enough to put SVM margins on the cosine's scale, where the default threshold lives."""
MIN_EXPECTED_ERRORS: Final = 1.0
"""Of the strangers in cross-validation, so many must be expected above the threshold, or no rate is stated."""

JOBLIB_FILE: Final = "svm.joblib"

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, eq=False)
class Gallery:
    """The templates of one embedder.

    Attributes:
        embeddings: (N, D) float32, unit rows.
        people: (N,) index into `person_ids`.
        person_ids: sorted.
        state: `gallery_hash` of what was read.
    """

    embeddings: Float32Array
    people: NDArray[np.intp]
    person_ids: tuple[str, ...]
    state: str

    @property
    def large(self) -> bool:
        return len(self.person_ids) >= LARGE_GALLERY


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """Arrays of a matcher, before it has an operating point."""

    mean: Float32Array
    prototypes: Float32Array
    weights: Float32Array
    bias: Float32Array
    estimator: LinearSVC | None


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """Similarities seen in cross-validation: of strangers to their nearest person, of people to themselves."""

    strangers: Float32Array
    genuine: Float32Array


def fit_arrays(embeddings: Float32Array, people: NDArray[np.intp], count: int, *, large: bool) -> Fit:
    """Prototypes, and a one-against-rest linear SVM with squared hinge, for `count` people.

    Args:
        embeddings: (N, D) float32, unit rows.
        people: (N,) 0 to `count` − 1.
        large: remove the gallery's mean first.
    """
    dimension = embeddings.shape[1]
    mean = embeddings.mean(axis=0) if large else np.zeros(dimension, np.float32)
    centred = centre(embeddings, mean)
    sums = np.zeros((count, dimension), np.float32)
    np.add.at(sums, people, centred)
    prototypes = sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-9)
    weights, bias, estimator = np.zeros((count, dimension), np.float32), np.zeros(count, np.float32), None
    if count >= 2:
        estimator = _svm(centred, people)
        weights, bias = _one_against_rest(estimator)
    return Fit(mean, prototypes, weights, bias, estimator)


def _svm(embeddings: Float32Array, people: NDArray[np.intp]) -> LinearSVC:
    """The fitted estimator; its classes are strings, zero-padded to keep their order."""
    with warnings.catch_warnings():
        # With one photograph for most people, scikit-learn suspects a quantity that should be regressed.
        warnings.filterwarnings("ignore", message="The number of unique classes", category=UserWarning)
        return LinearSVC(C=SVM_C, random_state=0).fit(embeddings, [f"{person:08d}" for person in people])


def _one_against_rest(estimator: LinearSVC) -> tuple[Float32Array, Float32Array]:
    """Normals and biases, one row a person. For two people scikit-learn keeps one row, for the second of them."""
    weights = estimator.coef_.astype(np.float32)
    bias = estimator.intercept_.astype(np.float32)
    if len(weights) == 1:
        weights, bias = np.concatenate([-weights, weights]), np.concatenate([-bias, bias])
    return weights, bias


def cross_validate(gallery: Gallery, scale: SvmScale, progress: Progress) -> Trials:
    """Leaves each fifth of the people out once: they are strangers to the rest.

    Genuine trials hold every third template of the remaining people back from the fit, where a person has two.
    """
    count = len(gallery.person_ids)
    fold_of = np.random.default_rng(0).permutation(count) % FOLDS
    strangers, genuine = [], []
    for fold in range(FOLDS):
        left_out = fold_of[gallery.people] == fold
        held_back = ~left_out & _held_back(gallery.people, fold)
        fitted = ~left_out & ~held_back
        known, people = np.unique(gallery.people[fitted], return_inverse=True)
        fit = fit_arrays(gallery.embeddings[fitted], people, len(known), large=gallery.large)
        model = _as_model(fit, scale)
        strangers.append(model.similarities(gallery.embeddings[left_out]).max(axis=1))
        rows = np.searchsorted(known, gallery.people[held_back])
        own = model.similarities(gallery.embeddings[held_back])
        genuine.append(own[np.arange(len(rows)), rows])
        progress((fold + 1) / FOLDS)
    return Trials(np.concatenate(strangers), np.concatenate(genuine))


def _held_back(people: NDArray[np.intp], fold: int) -> NDArray[np.bool_]:
    """One template of each person with two or more, a different one in each fold."""
    held = np.zeros(len(people), dtype=bool)
    order = np.argsort(people, kind="stable")
    _, starts, counts = np.unique(people[order], return_index=True, return_counts=True)
    plural = counts >= 2
    held[order[starts[plural] + fold % counts[plural]]] = True
    return held


def _as_model(fit: Fit, scale: SvmScale) -> MatcherModel:
    return MatcherModel(
        model_id="fold",
        embedder_id="fold",
        person_ids=tuple(str(row) for row in range(len(fit.prototypes))),
        mean=fit.mean,
        prototypes=fit.prototypes,
        weights=fit.weights,
        bias=fit.bias,
        svm=scale,
        operating=Operating(0.0, 1.0, 0.0),
    )


def svm_scale(gallery: Gallery, fit: Fit) -> SvmScale:
    """Gain and offset that give SVM margins of other people's templates the mean and spread of their cosines.

    In a small gallery there is too little to go by, and the SVM only ranks.
    """
    if not gallery.large:
        return SvmScale()
    centred = centre(gallery.embeddings, fit.mean)
    others = np.arange(len(gallery.person_ids))[None] != gallery.people[:, None]
    cosine = (centred @ fit.prototypes.T)[others]
    margin = (centred @ fit.weights.T + fit.bias)[others]
    gain = float(cosine.std() / max(float(margin.std()), 1e-9))
    return SvmScale(gain=gain, offset=float(cosine.mean() - gain * margin.mean()), weight=SVM_WEIGHT)


def calibrate(
    trials: Trials, *, large: bool, target_fpir: float, fallback: Operating
) -> tuple[Operating, dict[str, Any]]:
    """The operating point for a target FPIR, and what it rests on.

    Each fold's gallery is smaller than the real one by a fifth, and a stranger's chance of a false match grows with
    the gallery, so the quantile is taken at four fifths of the target.
    """
    strangers = len(trials.strangers)
    expected = strangers * target_fpir * (1 - 1 / FOLDS)
    facts: dict[str, Any] = {
        "target_fpir": target_fpir,
        "stranger_trials": strangers,
        "genuine_trials": len(trials.genuine),
    }
    if not large or expected < MIN_EXPECTED_ERRORS or len(trials.genuine) < 1:
        worst = float(trials.strangers.max()) if strangers else fallback.threshold
        raised = max(fallback.threshold, worst)
        shift = raised - fallback.threshold
        facts |= {"calibrated": False, "why": "too few people to state a rate; the conservative default holds"}
        return Operating(raised, fallback.slope, fallback.midpoint + shift), facts
    threshold = float(np.quantile(trials.strangers, 1 - target_fpir * (1 - 1 / FOLDS)))
    slope, midpoint = _logistic(trials)
    facts |= {"calibrated": True, "tpir": float(np.mean(trials.genuine >= threshold))}
    return Operating(threshold, slope, midpoint), facts


def _logistic(trials: Trials) -> tuple[float, float]:
    """Slope and midpoint of P(same person | similarity), people and strangers weighing the same (Platt scaling)."""
    similarity = np.concatenate([trials.strangers, trials.genuine]).astype(np.float64)[:, None]
    same = np.concatenate([np.zeros(len(trials.strangers)), np.ones(len(trials.genuine))])
    model = LogisticRegression(C=1e6, class_weight="balanced", max_iter=1_000).fit(similarity, same)
    slope = max(float(model.coef_[0, 0]), 1e-3)
    return slope, float(-model.intercept_[0] / slope)


def fit_bundle(
    gallery: Gallery,
    *,
    model_id: str,
    embedder: Mapping[str, Any],
    fallback: Operating,
    target_fpir: float,
    progress: Progress = lambda _: None,
) -> Bundle:
    """A bundle ready to publish, for a gallery of any size, none included.

    Args:
        embedder: goes into the manifest; must have `embedder_id` and `dimension`.
        fallback: operating point where too little is known to calibrate.
        progress: called with 0 to 1.
    """
    count, embedder_id = len(gallery.person_ids), str(embedder["embedder_id"])
    if count == 0:
        model = empty_model(embedder_id, int(embedder["dimension"]), fallback, model_id=model_id)
        return _bundle(gallery, model, None, embedder, {"calibrated": False, "why": "nobody is enrolled"})
    fit = fit_arrays(gallery.embeddings, gallery.people, count, large=gallery.large)
    scale = svm_scale(gallery, fit)
    trials = cross_validate(gallery, scale, progress) if count >= 2 * FOLDS else Trials(*[np.zeros(0, np.float32)] * 2)
    operating, calibration = calibrate(trials, large=gallery.large, target_fpir=target_fpir, fallback=fallback)
    model = replace(
        _as_model(fit, scale),
        model_id=model_id,
        embedder_id=embedder_id,
        person_ids=gallery.person_ids,
        operating=operating,
    )
    return _bundle(gallery, model, fit.estimator, embedder, calibration)


def _bundle(
    gallery: Gallery,
    model: MatcherModel,
    estimator: LinearSVC | None,
    embedder: Mapping[str, Any],
    calibration: Mapping[str, Any],
) -> Bundle:
    files = {MATCHER_FILE: pack_matcher(model)}
    if estimator is not None:
        buffer = io.BytesIO()
        joblib.dump(estimator, buffer)
        files[JOBLIB_FILE] = buffer.getvalue()
    counts = np.bincount(gallery.people, minlength=len(gallery.person_ids))
    manifest = Manifest(
        model_id=model.model_id,
        files={name: sha256_hex(data) for name, data in files.items()},
        embedder=embedder,
        templates={person_id: int(n) for person_id, n in zip(gallery.person_ids, counts, strict=True)},
        classifier={
            "kind": "prototype+linear-svm" if model.has_svm else "prototype",
            "svm_c": SVM_C,
            "svm_scale": asdict(model.svm),
        },
        operating=asdict(model.operating),
        calibration=calibration,
        evaluation={"people": len(gallery.person_ids), "templates": len(gallery.people)},
        gallery=gallery.state,
        versions={"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__},
    )
    return Bundle(manifest, files)


def gather(templates: Iterable[Template], state: str, dimension: int) -> Gallery:
    """Stacks stored templates of one embedder."""
    rows = list(templates)
    person_ids = tuple(sorted({template.person_id for template in rows}))
    index = {person_id: row for row, person_id in enumerate(person_ids)}
    embeddings = np.stack([t.embedding for t in rows]) if rows else np.zeros((0, dimension), np.float32)
    people = np.array([index[t.person_id] for t in rows], dtype=np.intp)
    return Gallery(embeddings.astype(np.float32, copy=False), people, person_ids, state)
