"""Open-set cross-validation: people left out play the strangers, templates held back play the photographs to come."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from functions.train.scoring import Scorer, fit_scorers
from shared.domain import Float32Array

FOLDS: Final = 5
ENOUGH_STRANGERS: Final = 2_000
"""People. Further folds are left out once so many have played strangers: they would tell little more."""
ROUNDING: Final = 1e-9
"""Sums of weights are off by less: one in a hundred of a hundred people is one."""
MOST_TRIALS: Final = 8_192
"""Of each sort in a fold, to bound time and memory in the largest galleries."""

Progress = Callable[[float], None]


class Templates(Protocol):
    """The part of `fit.Gallery` that is needed here."""

    @property
    def embeddings(self) -> Float32Array: ...

    @property
    def people(self) -> NDArray[np.intp]: ...

    @property
    def count(self) -> int: ...


@dataclass(frozen=True, slots=True, eq=False)
class Trials:
    """What cross-validation saw of one matcher.

    Attributes:
        strangers: (S,) float32, similarity of each stranger's template to the nearest person.
        who: (S,) which stranger each is of; a person's templates are no independent trials.
        genuine: (G,) float32, similarity to the own person of templates held back.
        first: (G,) whether the own person was the nearest.
        gallery: people in the galleries that were searched.
    """

    strangers: Float32Array
    who: NDArray[np.intp]
    genuine: Float32Array
    first: NDArray[np.bool_]
    gallery: int

    @property
    def people(self) -> int:
        """How many people played strangers."""
        return len(np.unique(self.who))

    @property
    def weights(self) -> NDArray[np.float64]:
        """(S,) in which every stranger weighs the same; they add up to 1."""
        if not len(self.who):
            return np.zeros(0)
        _, index, counts = np.unique(self.who, return_inverse=True, return_counts=True)
        return 1.0 / counts[index] / len(counts)

    def quantile(self, share: float) -> float:
        """The similarity that `share` of the strangers reach."""
        order = np.argsort(-self.strangers, kind="stable")
        reached = np.cumsum(self.weights[order])
        last = int(np.searchsorted(reached, share - ROUNDING))
        return float(self.strangers[order[min(last, len(order) - 1)]])


NO_TRIALS: Final = Trials(np.zeros(0, np.float32), np.zeros(0, np.intp), np.zeros(0, np.float32), np.zeros(0, bool), 0)


def cross_validate(
    gallery: Templates, kinds: Sequence[str], progress: Progress, alike: Sequence[tuple[int, int]] = ()
) -> Mapping[str, Trials]:
    """Leaves each fifth of the people out once: they are strangers to the rest.

    Genuine trials hold one template of each remaining person back from the fit, where there are two.

    Args:
        kinds: of matchers to try, see `scoring.KINDS`.
        alike: pairs of people who look like one, who are left out together: somebody who is enrolled twice is no
            stranger to themselves, and a few such would move the threshold beyond everybody.
        progress: called with 0 to 1.
    """
    fold_of = _folds(gallery.count, alike)
    parts: dict[str, list[Trials]] = {kind: [] for kind in kinds}
    for fold in range(FOLDS):
        left_out = fold_of[gallery.people] == fold
        if left_out.any() and not left_out.all():  # else everybody looks like one person
            for kind, trials in _one_fold(gallery, kinds, left_out, fold).items():
                parts[kind].append(trials)
        progress((fold + 1) / FOLDS)
        if sum(part.people for part in parts[kinds[0]]) >= ENOUGH_STRANGERS:
            break
    progress(1.0)
    return {kind: _joined(of_kind) if of_kind else NO_TRIALS for kind, of_kind in parts.items()}


def _folds(count: int, alike: Sequence[tuple[int, int]]) -> NDArray[np.intp]:
    """(count,) which fold each person is left out in; people who look like one in the same."""
    fold_of = np.random.default_rng(0).permutation(count) % FOLDS
    if not alike:
        return fold_of
    one, other = np.array(alike, np.intp).T
    _, cluster = connected_components(
        coo_array((np.ones(len(one)), (one, other)), shape=(count, count)), directed=False
    )
    _, first = np.unique(cluster, return_index=True)
    together: NDArray[np.intp] = fold_of[first[cluster]]
    return together


def _one_fold(gallery: Templates, kinds: Sequence[str], left_out: NDArray[np.bool_], fold: int) -> dict[str, Trials]:
    held_back = ~left_out & one_of_each(gallery.people, fold)
    fitted = ~left_out & ~held_back
    known, people = np.unique(gallery.people[fitted], return_inverse=True)
    scorers = fit_scorers(gallery.embeddings[fitted], people, len(known), kinds=kinds)
    random = np.random.default_rng(fold)
    strangers = random.permutation(np.flatnonzero(left_out))[:MOST_TRIALS]
    probes = random.permutation(np.flatnonzero(held_back))[:MOST_TRIALS]
    own = np.searchsorted(known, gallery.people[probes])
    found = {}
    for kind, scorer in scorers.items():
        highest, _ = _searched(scorer, gallery.embeddings[strangers])
        best, similarity = _searched(scorer, gallery.embeddings[probes], own)
        found[kind] = Trials(highest, gallery.people[strangers], similarity, best <= similarity, len(known))
    return found


def _searched(
    scorer: Scorer, probes: Float32Array, own: NDArray[np.intp] | None = None
) -> tuple[Float32Array, Float32Array]:
    """Highest similarity of each probe, and its similarity to the person `own` names."""
    highest, of_own = np.zeros(len(probes), np.float32), np.zeros(len(probes), np.float32)
    for start in range(0, len(probes), 1_024):
        part = slice(start, start + 1_024)
        similarities = scorer.similarities(probes[part])
        highest[part] = similarities.max(axis=1)
        if own is not None:
            of_own[part] = np.take_along_axis(similarities, own[part, None], axis=1)[:, 0]
    return highest, of_own


def _joined(parts: Sequence[Trials]) -> Trials:
    return Trials(
        np.concatenate([part.strangers for part in parts]),
        np.concatenate([part.who for part in parts]),
        np.concatenate([part.genuine for part in parts]),
        np.concatenate([part.first for part in parts]),
        round(float(np.mean([part.gallery for part in parts]))),
    )


def one_of_each(people: NDArray[np.intp], fold: int) -> NDArray[np.bool_]:
    """One template of each person with two or more, a different one in each fold."""
    held = np.zeros(len(people), dtype=bool)
    order = np.argsort(people, kind="stable")
    _, starts, counts = np.unique(people[order], return_index=True, return_counts=True)
    plural = counts >= 2
    held[order[starts[plural] + fold % counts[plural]]] = True
    return held
