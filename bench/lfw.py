"""Labelled photographs in LFW's layout: `images/{person}/{person}_{nnnn}.jpg`, and verification pairs in `pairs.txt`.

Protocols:
    Verification, View 2 of Huang et al., "Labeled Faces in the Wild" (2007): k folds of matched and mismatched pairs;
    the threshold of each fold is chosen on the others.
    Open-set identification, as NIST's FRTE 1:N states it: a gallery of known people, mated probes of them, non-mated
    probes of others; TPIR at a fixed FPIR.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from shared.domain import Float32Array
from shared.errors import InvalidInput
from shared.matching.model import centre

GALLERY_TEMPLATES = 3
MOST_PROBES = 7
"""Of one person: a few celebrities have most of the images, and should not have most of the say."""


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Verification pairs.

    Attributes:
        left, right: (P,) image numbers.
        same: (P,) whether both show one person.
        fold: (P,) fold of each pair.
    """

    left: NDArray[np.intp]
    right: NDArray[np.intp]
    same: NDArray[np.bool_]
    fold: NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Photographs:
    """Every image of a data set, in order of path, and whom it shows."""

    root: Path
    names: tuple[str, ...]
    people: tuple[str, ...]

    @classmethod
    def read(cls, root: Path) -> Photographs:
        """Raises: InvalidInput: no `images/` with photographs in it."""
        paths = sorted((root / "images").glob("*/*.jpg"))
        if not paths:
            raise InvalidInput(f"{root} has no images/*/*.jpg; give a folder in LFW's layout with LFW=DIR")
        return cls(root, tuple(path.stem for path in paths), tuple(path.parent.name for path in paths))

    def paths(self) -> list[Path]:
        images = self.root / "images"
        return [images / person / f"{name}.jpg" for person, name in zip(self.people, self.names, strict=True)]

    def pairs(self) -> Pairs:
        """Reads `pairs.txt`: `folds<TAB>n`, then for each fold n matched and n mismatched pairs.

        Raises:
            InvalidInput: not there, or malformed.
        """
        number = {name: index for index, name in enumerate(self.names)}
        try:
            lines = (self.root / "pairs.txt").read_text().split("\n")
            folds, count = (int(value) for value in lines[0].split())
            rows = [line.split("\t") for line in lines[1:] if line.strip()]
            pairs = [_pair(row, number) for row in rows]
        except (OSError, ValueError, KeyError) as error:
            raise InvalidInput(f"{self.root / 'pairs.txt'} is unreadable: {error!r}") from error
        if len(pairs) != folds * count * 2:
            raise InvalidInput(
                f"{self.root / 'pairs.txt'} has {len(pairs)} pairs where it promises {folds * count * 2}"
            )
        left, right, same = (np.array(column) for column in zip(*pairs, strict=True))
        return Pairs(left, right, same, np.repeat(np.arange(folds), count * 2))


def _pair(row: list[str], number: dict[str, int]) -> tuple[int, int, bool]:
    if len(row) == 3:
        return number[f"{row[0]}_{int(row[1]):04d}"], number[f"{row[0]}_{int(row[2]):04d}"], True
    return number[f"{row[0]}_{int(row[1]):04d}"], number[f"{row[2]}_{int(row[3]):04d}"], False


def verification(pairs: Pairs, embeddings: Float32Array) -> dict[str, float]:
    """k-fold accuracy, and TAR at FAR 10⁻³ over all pairs.

    Compared as the matcher compares: by cosine, after the mean embedding was removed. The mean, like the threshold,
    comes from the other folds. The figures by bare cosine stand beside.
    """
    similarity = np.zeros(len(pairs.left), np.float32)
    for fold in np.unique(pairs.fold):
        held_out = pairs.fold == fold
        seen = np.unique(np.concatenate([pairs.left[~held_out], pairs.right[~held_out]]))
        similarity[held_out] = _cosines(pairs, centre(embeddings, embeddings[seen].mean(axis=0)))[held_out]
    accuracies = _fold_accuracies(pairs, similarity)
    bare = _cosines(pairs, embeddings)
    return {
        "accuracy": float(np.mean(accuracies)),
        "accuracy_std": float(np.std(accuracies)),
        "tar_at_far_1e-3": _tar(pairs, similarity),
        "accuracy_bare_cosine": float(np.mean(_fold_accuracies(pairs, bare))),
        "tar_at_far_1e-3_bare_cosine": _tar(pairs, bare),
        "pairs": len(similarity),
    }


def _cosines(pairs: Pairs, embeddings: Float32Array) -> Float32Array:
    cosines: Float32Array = np.einsum("nd,nd->n", embeddings[pairs.left], embeddings[pairs.right])
    return cosines


def _fold_accuracies(pairs: Pairs, similarity: Float32Array) -> list[float]:
    accuracies = []
    for fold in np.unique(pairs.fold):
        held_out = pairs.fold == fold
        threshold = best_threshold(similarity[~held_out], pairs.same[~held_out])
        accuracies.append(float(np.mean((similarity[held_out] >= threshold) == pairs.same[held_out])))
    return accuracies


def _tar(pairs: Pairs, similarity: Float32Array) -> float:
    threshold = np.quantile(similarity[~pairs.same], 1 - 1e-3, method="higher")
    return float(np.mean(similarity[pairs.same] > threshold))


def best_threshold(similarity: Float32Array, same: NDArray[np.bool_]) -> float:
    """The threshold that decides most pairs rightly.

    >>> best_threshold(np.array([0.1, 0.2, 0.8, 0.9], np.float32), np.array([False, False, True, True]))
    0.5
    """
    order = np.argsort(similarity)
    ranked, truth = similarity[order].astype(np.float64), same[order]
    # Right decisions when everything from position i on is called the same person.
    right = np.concatenate([[0], np.cumsum(~truth)]) + truth.sum() - np.concatenate([[0], np.cumsum(truth)])
    best = int(np.argmax(right))
    if best == 0:
        return float(ranked[0]) - 1e-6
    if best == len(ranked):
        return float(ranked[-1]) + 1e-6
    return round(float(ranked[best - 1] + ranked[best]) / 2, 6)


@dataclass(frozen=True, slots=True, eq=False)
class OpenSet:
    """One draw of the open-set protocol; everything as image numbers.

    Attributes:
        gallery: three images of each person with at least four.
        mated: up to `MOST_PROBES` other images of each of those people.
        non_mated: the images of people with one image only.
        strangers: the images of everybody who cannot be enrolled: with one to three.
    """

    gallery: NDArray[np.intp]
    mated: NDArray[np.intp]
    non_mated: NDArray[np.intp]
    strangers: NDArray[np.intp]


def open_set(photographs: Photographs, seed: int) -> OpenSet:
    """Draws which three images of each person are enrolled."""
    random = np.random.default_rng(seed)
    people = np.array(photographs.people)
    gallery, mated, non_mated, few = [], [], [], []
    for person in np.unique(people):
        images = np.flatnonzero(people == person)
        if len(images) > GALLERY_TEMPLATES:
            images = random.permutation(images)
            gallery.append(images[:GALLERY_TEMPLATES])
            mated.append(images[GALLERY_TEMPLATES : GALLERY_TEMPLATES + MOST_PROBES])
        elif len(images) == 1:
            non_mated.append(images)
        else:
            few.append(images)
    if not gallery or not non_mated:
        raise InvalidInput("the open-set protocol needs people with four or more images, and people with one")
    strangers = np.sort(np.concatenate([*non_mated, *few]))
    return OpenSet(np.concatenate(gallery), np.concatenate(mated), np.concatenate(non_mated), strangers)
