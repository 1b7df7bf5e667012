"""Fits a matcher to a gallery: reviews it, tries what can be tried, calibrates, and packs a bundle.

    templates ─► review ─► cross-validation of each kind of matcher ─► the best ─► threshold ─► bundle
                (hygiene)  (openset, scoring, svm)                     (here)    (calibration)

The only package that needs scikit-learn and SciPy at run time is this one.
"""

from __future__ import annotations

import io
import logging
import platform
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

import joblib
import numpy as np
import sklearn
from numpy.typing import NDArray
from sklearn.svm import LinearSVC

from functions.train.calibration import Calibration, Site, Unknowns, calibrate, site_of
from functions.train.hygiene import Limits, Review, review
from functions.train.openset import FOLDS, NO_TRIALS, Trials, cross_validate
from functions.train.scoring import KINDS, Scorer, fit_scorers, refit_people
from functions.train.svm import SVM_C
from shared.domain import Float32Array, Template, gallery_hash, sha256_hex
from shared.errors import InvalidInput
from shared.matching.bundle import MATCHER_FILE, Bundle, Manifest, load_matcher, pack_matcher
from shared.matching.impostors import ImpostorCurve
from shared.matching.model import MatcherModel, Operating, empty_model

logger = logging.getLogger(__name__)

SMALL_GALLERY: Final = 50
"""People. In a smaller gallery an SVM has too few negatives, and cross-validation too few strangers, to be tried."""
PLAIN: Final = "prototype"
USUAL: Final = "prototype+svm"
MOST_REFITTED: Final = 0.02
"""Share of the people who may have changed since the last whole fit, for a fit of those alone."""
LARGE_GALLERY: Final = 1_000
"""People from which a fit of the changed people alone is worth its approximations; below, everything takes seconds."""
LARGEST_SVM_DUMP: Final = 2_000
"""People. The scikit-learn estimator of more would be another hundred megabytes that nobody opens."""

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
        template_ids: N, parallel to the rows; empty where nobody asks.
        kept: (N,) templates that an operator has said to keep, or None.
    """

    embeddings: Float32Array
    people: NDArray[np.intp]
    person_ids: tuple[str, ...]
    state: str
    template_ids: tuple[str, ...] = ()
    kept: NDArray[np.bool_] | None = None

    @property
    def count(self) -> int:
        """How many people."""
        return len(self.person_ids)

    def states(self) -> dict[str, str]:
        """`gallery_hash` of each person's templates, and of which of them an operator has said to keep."""
        if not self.template_ids:
            return {}
        kept = np.zeros(len(self.people), dtype=bool) if self.kept is None else self.kept
        of: dict[str, list[tuple[str, str]]] = {person_id: [] for person_id in self.person_ids}
        for person, template_id, keep in zip(self.people, self.template_ids, kept, strict=True):
            of[self.person_ids[person]].append(("kept" if keep else "", template_id))
        return {person_id: gallery_hash(ids) for person_id, ids in of.items()}

    def only(self, keep: NDArray[np.bool_]) -> Gallery:
        """Those templates alone. Everybody must keep one."""
        ids = tuple(t for t, kept in zip(self.template_ids, keep, strict=True) if kept) if self.template_ids else ()
        return replace(self, embeddings=self.embeddings[keep], people=self.people[keep], template_ids=ids, kept=None)


@dataclass(frozen=True, slots=True, eq=False)
class FitRequest:
    """What a fit is asked for.

    Attributes:
        embedder: goes into the manifest; must have `embedder_id` and `dimension`.
        fallback: operating point of an embedder without an impostor curve, while too little is known to calibrate.
        unknowns: unknown faces that the site has seen.
        best_shot_fpir, visit_fpir: see `calibration.calibrate`.
    """

    model_id: str
    embedder: Mapping[str, Any]
    fallback: Operating
    target_fpir: float
    unknowns: Unknowns | None = None
    best_shot_fpir: float = 0.0
    visit_fpir: float = 0.0

    @property
    def curve(self) -> ImpostorCurve | None:
        """What is usual of the embedder's impostors, where it was measured."""
        table = self.embedder.get("impostors")
        return None if table is None else ImpostorCurve(**table)


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The matcher that did best in cross-validation, and how all did.

    Attributes:
        figures: by kind: TPIR at the target FPIR, and rank 1.
    """

    kind: str
    trials: Trials
    figures: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


def choose(gallery: Gallery, target_fpir: float, progress: Progress, alike: Sequence[tuple[int, int]] = ()) -> Chosen:
    """Tries each kind of matcher on people left out; see `cross_validate` for `alike`.

    The highest TPIR at the target wins, when it is higher than the usual matcher's by more than two standard errors, in
    which every person counts once; else the usual one stays: of few people, the best of three is mostly luck.
    """
    if gallery.count < 2 * FOLDS:
        return Chosen(PLAIN, NO_TRIALS)
    kinds = [PLAIN] if gallery.count < SMALL_GALLERY else list(KINDS)
    trials = cross_validate(gallery, kinds, progress, alike)
    if len(kinds) == 1:
        return Chosen(PLAIN, trials[PLAIN])
    figures = {}
    for kind, of_kind in trials.items():
        reached = of_kind.first & (of_kind.genuine >= of_kind.quantile(target_fpir))
        figures[kind] = {
            "tpir": round(float(reached.mean()), 4) if len(reached) else 0.0,
            "rank1": round(float(of_kind.first.mean()), 4) if len(reached) else 0.0,
        }
    best = max(kinds, key=lambda kind: (figures[kind]["tpir"], figures[kind]["rank1"]))
    usual = figures[USUAL]["tpir"]
    error = float(np.sqrt(usual * (1 - usual) / gallery.count))
    if figures[best]["tpir"] - usual <= 2 * error:
        best = USUAL
    return Chosen(best, trials[best], figures)


def fit_bundle(gallery: Gallery, request: FitRequest, progress: Progress = lambda _: None) -> Bundle:
    """A bundle ready to publish, for a gallery of any size, none included.

    Args:
        progress: called with 0 to 1.
    """
    if gallery.count == 0:
        embedder_id, dimension = str(request.embedder["embedder_id"]), int(request.embedder["dimension"])
        model = empty_model(embedder_id, dimension, request.fallback, model_id=request.model_id)
        return _bundle(gallery, model, request, _Facts({}, {"calibrated": False, "why": "nobody is enrolled"}))
    found = look_through(gallery, request.embedder)
    used = gallery.only(found.keep)
    progress(0.1)
    row_of = {person_id: row for row, person_id in enumerate(gallery.person_ids)}
    alike = [(row_of[pair.first], row_of[pair.second]) for pair in found.pairs]
    chosen = choose(used, request.target_fpir, lambda share: progress(0.1 + 0.6 * share), alike)
    scorer = fit_scorers(used.embeddings, used.people, used.count, kinds=[chosen.kind])[chosen.kind]
    progress(0.9)
    calibration = calibrate(
        chosen.trials,
        used.count,
        target_fpir=request.target_fpir,
        best_shot_fpir=request.best_shot_fpir,
        visit_fpir=request.visit_fpir,
        curve=request.curve,
        fallback=request.fallback,
        site=_site(scorer, request, used.count),
    )
    _say(calibration, request)
    classifier = {
        "kind": chosen.kind,
        "svm_c": SVM_C,
        "agreement": scorer.agreement,
        "gain": scorer.gain,
        "shift": scorer.shift,
        "mean_offset": scorer.mean_offset,
        "refitted": 0,
    }
    facts = _Facts(classifier, calibration.facts, chosen.figures, found.set_aside(), used, _estimator(scorer))
    model = _model(scorer, gallery.person_ids, request, calibration.operating)
    bundle = _bundle(gallery, model, request, facts)
    progress(1.0)
    return bundle


def refit_changed(gallery: Gallery, live: Bundle, request: FitRequest) -> Bundle | None:
    """A bundle in which only those who changed since `live` are fitted anew, and everybody else is as before.

    What is estimated of everybody together (mean, offsets, threshold) stays, since a few people among thousands do not
    move it.

    Returns:
        None where everything has to be fitted: a small gallery, another embedder, an older format, too many changes, or
        somebody of whom only what was set aside is left.
    """
    states, before = gallery.states(), live.manifest.people
    changed = [person_id for person_id, state in states.items() if before.get(person_id) != state]
    refitted = live.manifest.classifier.get("refitted", 0) + len(changed)
    usable = (
        gallery.count >= LARGE_GALLERY
        and _asked_the_same(live.manifest, request)
        and live.manifest.classifier.get("kind") in KINDS
        and bool(before)
        and refitted + len(before.keys() - states.keys()) <= MOST_REFITTED * gallery.count
    )
    if not usable:
        return None
    model, kind = load_matcher(live), live.manifest.classifier["kind"]
    aside = _still_aside(gallery, live.manifest.set_aside)
    used = gallery.only(_not_in(gallery, {(one["person_id"], one["template_id"]) for one in aside}))
    if len(np.unique(used.people)) < gallery.count:
        return None  # of somebody only what was set aside is left
    told = {name: float(live.manifest.classifier[name]) for name in ("agreement", "gain", "shift", "mean_offset")}
    scorer = Scorer(
        model.mean,
        model.weights,
        model.bias,
        agreement=told["agreement"],
        gain=told["gain"],
        shift=told["shift"],
        mean_offset=told["mean_offset"],
    )
    row_of = {person_id: row for row, person_id in enumerate(gallery.person_ids)}
    rows = np.array([row_of[person_id] for person_id in changed], np.intp)
    weights, bias = np.zeros((gallery.count, len(model.mean)), np.float32), np.zeros(gallery.count, np.float32)
    there = [row for row, person_id in enumerate(model.person_ids) if person_id in row_of]
    into = [row_of[model.person_ids[row]] for row in there]
    weights[into], bias[into] = model.weights[there], model.bias[there]
    if len(rows):
        weights[rows], bias[rows] = refit_people(scorer, used.embeddings, used.people, used.count, rows, kind=kind)
    classifier = {**live.manifest.classifier, "refitted": refitted}
    facts = _Facts(classifier, live.manifest.calibration, {}, aside, used, None)
    fresh = _model(replace(scorer, weights=weights, bias=bias), gallery.person_ids, request, model.operating)
    return _bundle(gallery, fresh, request, facts)


def _asked_the_same(manifest: Manifest, request: FitRequest) -> bool:
    """Whether a model was fitted for the embedder and the rates that are asked for."""
    told = manifest.calibration
    return manifest.embedder == dict(request.embedder) and all(
        told.get(rate) == getattr(request, rate) for rate in ("target_fpir", "best_shot_fpir", "visit_fpir")
    )


def look_through(gallery: Gallery, embedder: Mapping[str, Any]) -> Review:
    """The review of a gallery whose templates may have no names."""
    ids = gallery.template_ids or tuple(map(str, range(len(gallery.people))))
    limits = Limits.of(embedder)
    return review(gallery.embeddings, gallery.people, gallery.person_ids, ids, limits=limits, kept=gallery.kept)


def _still_aside(gallery: Gallery, aside: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """What stays set aside: neither of, nor for, somebody who has left; and nothing that an operator keeps since."""
    people, kept = set(gallery.person_ids), set()
    if gallery.kept is not None:
        kept = {name for name, keep in zip(gallery.template_ids, gallery.kept, strict=True) if keep}
    there = set(gallery.template_ids)
    return [
        one
        for one in aside
        if one["person_id"] in people
        and one["template_id"] in there - kept
        and (one.get("with") is None or one["with"] in people | there)
    ]


def _not_in(gallery: Gallery, aside: set[tuple[str, str]]) -> NDArray[np.bool_]:
    ids = [gallery.person_ids[person] for person in gallery.people]
    return np.array([pair not in aside for pair in zip(ids, gallery.template_ids, strict=True)], dtype=bool)


def _site(scorer: Scorer, request: FitRequest, people: int) -> Site:
    unknowns = request.unknowns
    if unknowns is None or not len(unknowns.embeddings):
        return Site()
    parts = [unknowns.embeddings[start : start + 1_024] for start in range(0, len(unknowns.embeddings), 1_024)]
    highest = np.concatenate([scorer.similarities(part).max(axis=1) for part in parts])
    return site_of(highest, unknowns, people, request.curve)


def _say(calibration: Calibration, request: FitRequest) -> None:
    extra = {"action": "train.calibrated", "model_id": request.model_id}
    if calibration.facts["calibrated"]:
        logger.info("threshold calibrated", extra=extra)
    else:
        logger.warning("threshold not calibrated: %s", calibration.facts["why"], extra=extra)


def _model(scorer: Scorer, person_ids: tuple[str, ...], request: FitRequest, operating: Operating) -> MatcherModel:
    return MatcherModel(
        model_id=request.model_id,
        embedder_id=str(request.embedder["embedder_id"]),
        person_ids=person_ids,
        mean=scorer.mean,
        weights=scorer.weights,
        bias=scorer.bias,
        operating=operating,
    )


def _estimator(scorer: Scorer) -> LinearSVC | None:
    """The SVMs as scikit-learn would have them, for offline analysis: classes are rows of `person_ids`."""
    if scorer.planes is None or len(scorer.weights) > LARGEST_SVM_DUMP:
        return None
    estimator = LinearSVC(C=SVM_C)
    estimator.coef_, estimator.intercept_ = scorer.planes
    estimator.classes_ = np.arange(len(scorer.weights))
    estimator.n_features_in_ = scorer.weights.shape[1]
    return estimator


@dataclass(frozen=True, slots=True, eq=False)
class _Facts:
    """What the manifest says of a fit."""

    classifier: Mapping[str, Any]
    calibration: Mapping[str, Any]
    tried: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    set_aside: Sequence[Mapping[str, Any]] = ()
    used: Gallery | None = None
    estimator: LinearSVC | None = None


def _bundle(gallery: Gallery, model: MatcherModel, request: FitRequest, facts: _Facts) -> Bundle:
    files = {MATCHER_FILE: pack_matcher(model)}
    if facts.estimator is not None:
        buffer = io.BytesIO()
        joblib.dump(facts.estimator, buffer)
        files[JOBLIB_FILE] = buffer.getvalue()
    used = facts.used or gallery
    counts = np.bincount(used.people, minlength=used.count)
    reasons = Counter(str(one["reason"]) for one in facts.set_aside)
    manifest = Manifest(
        model_id=model.model_id,
        files={name: sha256_hex(data) for name, data in files.items()},
        embedder=request.embedder,
        templates={person_id: int(n) for person_id, n in zip(gallery.person_ids, counts, strict=True)},
        classifier=facts.classifier or {"kind": PLAIN},
        operating=asdict(model.operating),
        calibration=facts.calibration,
        evaluation={
            "people": gallery.count,
            "templates": len(used.people),
            "set_aside": dict(reasons),
            "matchers": facts.tried,
        },
        gallery=gallery.state,
        versions={"python": platform.python_version(), "numpy": np.__version__, "scikit-learn": sklearn.__version__},
        people=gallery.states(),
        set_aside=facts.set_aside,
    )
    return Bundle(manifest, files)


def gather(templates: Iterable[Template], state: str | None, dimension: int) -> Gallery:
    """Stacks stored templates of one embedder, by person and then by id.

    Args:
        state: what the gallery is called; None: the hash of what is read here.

    Raises:
        InvalidInput: a template's embedding has another dimension.
    """
    rows = sorted(templates, key=lambda template: (template.person_id, template.template_id))
    person_ids = tuple(sorted({template.person_id for template in rows}))
    index = {person_id: row for row, person_id in enumerate(person_ids)}
    embeddings = np.empty((len(rows), dimension), np.float32)
    for row, template in zip(embeddings, rows, strict=True):
        if template.embedding.shape != (dimension,):
            raise InvalidInput(f"template {template.template_id} has not {dimension} dimensions")
        row[:] = template.embedding
    return Gallery(
        embeddings,
        np.array([index[t.person_id] for t in rows], dtype=np.intp),
        person_ids,
        gallery_hash([(t.person_id, t.template_id) for t in rows]) if state is None else state,
        tuple(t.template_id for t in rows),
        np.array([t.kept for t in rows], dtype=bool),
    )
