"""Which templates a fit should leave out, and who looks enrolled twice.

Pure arithmetic on a gallery. Nothing is deleted: what is set aside is listed, with the figures that say why, and an
operator's "yes, this is really them" overrules it.

Three questions are asked, in this order:

1. *Duplicates.* Templates of one person that are all but equal count once; they must not vouch for each other.
2. *Strangers.* A template's similarity to its person's others is compared with what different people reach. Below the
   90 % quantile of similarities between people it is set aside, below the 99 % quantile it is reported and stays. The
   least similar one goes first and the rest is judged anew, so that one wrong photograph does not make the right ones
   look wrong. Where no group of a person's templates outnumbers the others, nobody can say which are the wrong ones:
   all stay, and all are reported.
3. *Pairs.* Two people whose templates resemble each other nearly as much as their own are one person enrolled twice,
   or twins. Both stay as they are, and the pair is reported.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from functions.train.likeness import (
    BLOCK_ELEMENTS,
    LARGE_GALLERY,
    Rows,
    Space,
    compared_space,
    find_duplicates,
    find_strays,
    group_rows,
    nearest_others,
    own_similarity,
    settle_unsure,
    sum_people,
    usual_nearest,
    usual_own,
)
from shared.domain import Float32Array

PAIR_SHARE: Final = 0.85
"""Of their own similarity: two people who reach this with each other are taken for one."""
PAIR_TEMPLATES: Final = 0.7
"""Share of the templates on both sides that must resemble the other side more than strangers do."""
MAX_PAIRS: Final = 100
"""The most similar ones: chance resemblances grow with the square of the gallery, and nobody looks at thousands."""

Word = Literal["keep", "duplicate", "unlike_own_person", "confuses"]


@dataclass(frozen=True, slots=True)
class Limits:
    """What an embedder's similarities (bare cosine) mean.

    Attributes:
        duplicate: from here on two templates are one photograph.
        impostor: 99 % of pairs of different people are below; used where a gallery is too small to measure it.
    """

    duplicate: float
    impostor: float

    @classmethod
    def of(cls, embedder: Mapping[str, Any]) -> Limits:
        """From an embedder's table, as `EmbedderTable.model_dump` or a manifest has it; older ones lack both."""
        return cls(float(embedder.get("duplicate_similarity", 0.95)), float(embedder.get("impostor_similarity", 0.4)))


@dataclass(frozen=True, slots=True)
class Verdict:
    """What is thought of one template.

    Attributes:
        word: `keep`; `duplicate` of `other`; `unlike_own_person`; or `confuses`, when besides it resembles `person`.
        set_aside: whether the fit leaves it out. False too where an operator said to keep it, or where nobody can
            tell which of a person's templates are wrong.
        own: mean similarity to the person's other templates, those set aside left out; None of an only one.
        nearest: mean similarity to the templates of the nearest other person; None where it was not looked for.
        person: that other person's id.
        other: id of the template that this one repeats, or of that other person's most similar one.
        beside: id of the person's own template that is most like all the others, for somebody who looks.
    """

    person_id: str
    template_id: str
    word: Word = "keep"
    set_aside: bool = False
    own: float | None = None
    nearest: float | None = None
    person: str | None = None
    other: str | None = None
    beside: str | None = None


@dataclass(frozen=True, slots=True)
class Pair:
    """Two ids that look like one person, or twins.

    Attributes:
        similarity: mean, between the templates of one and of the other.
        own: the smaller of their own mean similarities; None where each has one template only.
        templates: ids of the most similar two, one of each.
    """

    first: str
    second: str
    similarity: float
    own: float | None
    templates: tuple[str, str]


@dataclass(frozen=True, slots=True, eq=False)
class Review:
    """What is thought of a gallery.

    Attributes:
        verdicts: one for each template, in the gallery's order.
        keep: (N,) which templates a fit should use.
        pairs: people who look like one.
        impostor: similarity that one in a hundred pairs of different people reaches, in the compared space.
        measured: whether that was measured on this gallery, or is the embedder's default.
    """

    verdicts: tuple[Verdict, ...]
    keep: NDArray[np.bool_]
    pairs: tuple[Pair, ...]
    impostor: float
    measured: bool

    @property
    def findings(self) -> tuple[Verdict, ...]:
        """Verdicts other than `keep`."""
        return tuple(verdict for verdict in self.verdicts if verdict.word != "keep")

    def set_aside(self) -> list[dict[str, Any]]:
        """What the fit leaves out, as the manifest lists it."""
        return [
            {"person_id": v.person_id, "template_id": v.template_id, "reason": v.word, "with": v.person or v.other}
            for v in self.verdicts
            if v.set_aside
        ]


def review(
    embeddings: Float32Array,
    people: Rows,
    person_ids: Sequence[str],
    template_ids: Sequence[str],
    *,
    limits: Limits,
    kept: NDArray[np.bool_] | None = None,
) -> Review:
    """Looks a gallery through.

    Args:
        embeddings: (N, D) float32, unit rows.
        people: (N,) index into `person_ids`.
        template_ids: N, parallel to the rows.
        kept: (N,) templates that an operator has said to keep.

    >>> one, other = np.eye(4, dtype=np.float32)[:2]
    >>> found = review(np.stack([one, one, other]), np.array([0, 0, 1]), "ab", "123", limits=Limits(0.98, 0.4))
    >>> [verdict.word for verdict in found.verdicts]
    ['keep', 'duplicate', 'keep']
    """
    kept = np.zeros(len(embeddings), dtype=bool) if kept is None else kept
    groups = group_rows(people, len(person_ids))
    repeats = find_duplicates(embeddings, groups, kept, limits.duplicate)
    large = len(person_ids) >= LARGE_GALLERY
    space = compared_space(embeddings, people, len(person_ids), repeats < 0, None if large else limits.impostor)
    judged = _judge(space, groups, repeats, kept)
    verdicts = [Verdict(person_ids[person], name) for person, name in zip(people, template_ids, strict=True)]
    own = judged.own.tolist()
    for row in np.flatnonzero(judged.doubted | (repeats >= 0)).tolist():
        verdicts[row] = _verdict(row, space, groups, judged, person_ids, template_ids)
    verdicts = [v if np.isnan(mean) else replace(v, own=mean) for v, mean in zip(verdicts, own, strict=True)]
    used = ~judged.aside & (repeats < 0)
    pairs = sorted(_pairs(space, groups, used, person_ids, template_ids), key=lambda pair: -pair.similarity)
    return Review(tuple(verdicts), ~judged.aside, tuple(pairs[:MAX_PAIRS]), space.impostor, large)


@dataclass(frozen=True, slots=True, eq=False)
class _Judged:
    """(N,) arrays: what each row repeats, its similarities, whether it is doubted, and whether it is set aside."""

    repeats: Rows
    own: Float32Array
    nearest: Float32Array
    who: Rows
    doubted: NDArray[np.bool_]
    aside: NDArray[np.bool_]
    outlier: float


def _judge(space: Space, groups: list[Rows], repeats: Rows, kept: NDArray[np.bool_]) -> _Judged:
    single = repeats < 0
    own, stray, unsure = find_strays(space, groups, single, kept)
    doubted = (stray | unsure | (single & (own < space.impostor))) & ~kept
    nearest, who = nearest_others(space, np.flatnonzero(doubted))
    outlier = usual_nearest(space)
    stray |= settle_unsure(groups, unsure, (nearest >= outlier) & ~kept)
    return _Judged(repeats, own, nearest, who, doubted, (~single | stray) & ~kept, outlier)


def _verdict(
    row: int,
    space: Space,
    groups: list[Rows],
    judged: _Judged,
    person_ids: Sequence[str],
    template_ids: Sequence[str],
) -> Verdict:
    """Of one template that is no plain `keep`."""
    person = int(space.people[row])
    plain = Verdict(person_ids[person], template_ids[row], set_aside=bool(judged.aside[row]))
    if judged.repeats[row] >= 0:
        return replace(plain, word="duplicate", other=template_ids[judged.repeats[row]])
    mine = groups[person][groups[person] != row]
    mine = mine[~judged.aside[mine]]
    if len(mine):
        plain = replace(plain, beside=template_ids[mine[np.argmax(judged.own[mine])]])
    who = int(judged.who[row])
    if who < 0:
        return replace(plain, word="unlike_own_person")
    theirs = groups[who]
    return replace(
        plain,
        word="confuses" if judged.nearest[row] >= max(judged.outlier, judged.own[row]) else "unlike_own_person",
        nearest=float(judged.nearest[row]),
        person=person_ids[who],
        other=template_ids[theirs[np.argmax(space.rows[theirs] @ space.rows[row])]],
    )


def _pairs(
    space: Space,
    groups: list[Rows],
    used: NDArray[np.bool_],
    person_ids: Sequence[str],
    template_ids: Sequence[str],
) -> Iterator[Pair]:
    """People whose templates resemble each other nearly as much as their own, over those that are used."""
    count = len(person_ids)
    if count < 2:
        return
    sums, sizes = sum_people(space.rows, space.people, count, used)
    means = (sums / np.maximum(sizes, 1)[:, None]).astype(np.float32)
    own = own_similarity(sums, sizes)
    needed = np.float32(PAIR_SHARE) * np.where(np.isnan(own), usual_own(own, space.impostor), own)

    def mutual(one: int, other: int) -> bool:
        """Whether most templates on both sides resemble the other side more than strangers do."""
        for mine, theirs in ((one, other), (other, one)):
            rows = groups[mine][used[groups[mine]]]
            if len(rows) == 0 or np.mean(space.rows[rows] @ means[theirs] >= space.impostor) < PAIR_TEMPLATES:
                return False
        return True

    block = max(1, BLOCK_ELEMENTS // count)
    for start in range(0, count, block):
        alike = means[start : start + block] @ means.T
        near = alike >= np.maximum(np.minimum(needed[start : start + block, None], needed[None]), space.impostor)
        for row, second in zip(*np.nonzero(near), strict=True):
            first = int(row) + start
            if first < second and mutual(first, int(second)):
                least, similarity = float(np.fmin(own[first], own[second])), float(alike[row, second])
                yield Pair(
                    person_ids[first],
                    person_ids[second],
                    similarity,
                    None if np.isnan(least) else least,
                    _most_alike(space, groups[first], groups[second], template_ids),
                )


def _most_alike(space: Space, mine: Rows, theirs: Rows, template_ids: Sequence[str]) -> tuple[str, str]:
    alike = space.rows[mine] @ space.rows[theirs].T
    one, other = np.unravel_index(int(np.argmax(alike)), alike.shape)
    return template_ids[mine[one]], template_ids[theirs[other]]
