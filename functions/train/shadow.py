"""What would change: two pairs of pack and matcher judge the same faces, and nobody is told of the answers.

The faces are those of the last crops from the cameras, as long as these are kept. Where there are too few, enrolled
images stand in: they are left out of both galleries in turn, so that no image is compared with itself.
"""

from __future__ import annotations

import heapq
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from functions.train.fitting import Fitter
from shared.domain import CANDIDATES, UNKNOWN, Embeddings, Template, detection_id, sha256_hex
from shared.errors import NotFound, PermanentError
from shared.matching.bundle import load_matcher
from shared.migration import importance
from shared.ports import BlobStore, PersonRepository
from shared.serving import Serving

logger = logging.getLogger(__name__)

FEW_CROPS: Final = 20
"""With fewer faces than this in the last crops, enrolled images are compared as well."""

MAX_CHANGES: Final = 1_000
MAX_IDS: Final = 20
PARTS: Final = 5

Judge = Callable[[Serving, bytes], str | None]
"""Whom a pair sees in a crop: a person's id, `unknown`, or None where it finds no face that it would judge."""


@dataclass(slots=True)
class _Tally:
    """What the comparison has seen so far."""

    compared: int = 0
    left_out: int = 0
    named: Counter[str] = field(default_factory=Counter)
    changes: defaultdict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    def add(self, old: str, new: str, id: str) -> None:
        self.compared += 1
        self.named.update({"old": old != UNKNOWN, "new": new != UNKNOWN})
        if old != new:
            self.changes[old, new].append(id)

    def figures(self) -> dict[str, Any]:
        changed = sum(len(ids) for ids in self.changes.values())
        whole = max(self.compared, 1)
        return {
            "compared": self.compared,
            "agreed": self.compared - changed,
            "agreement": (self.compared - changed) / whole if self.compared else None,
            "named": {side: self.named[side] / whole if self.compared else None for side in ("old", "new")},
            "left_out": self.left_out,
        }


class ShadowComparison:
    """Compares two pairs.

    Args:
        judge: see `Judge`.
    """

    def __init__(self, *, blobs: BlobStore, people: PersonRepository, fitter: Fitter, judge: Judge) -> None:
        self._blobs = blobs
        self._people = people
        self._fitter = fitter
        self._judge = judge

    def __call__(self, old: Serving, new: Serving, limit: int, progress: Callable[[float], None]) -> dict[str, Any]:
        """The report.

        Args:
            limit: most faces of each kind.

        Returns:
            `crops` and `enrolled`, each with how many faces were compared, in how many both agreed, the share that
            each would name, and how many were left out since one of the two saw no usable face; and `changes`, the
            most important first: `from`, `to`, `count`, `of` (`crops` or `enrolled`), `ids` of detections or templates.
        """
        crops, enrolled = _Tally(), _Tally()
        names = self._latest_crops(limit)
        for index, name in enumerate(names):
            self._compare_crop(name, old, new, crops)
            progress((index + 1) / len(names) * 0.8)
        if crops.compared < FEW_CROPS:
            self._compare_enrolled(old.model.embedder_id, new.model.embedder_id, limit, enrolled)
        progress(1.0)
        changes = sorted(
            (
                {"from": was, "to": becomes, "count": len(ids), "of": of, "ids": ids[:MAX_IDS]}
                for of, tally in (("crops", crops), ("enrolled", enrolled))
                for (was, becomes), ids in tally.changes.items()
            ),
            key=importance,
        )
        return {"crops": crops.figures(), "enrolled": enrolled.figures(), "changes": changes[:MAX_CHANGES]}

    def _latest_crops(self, limit: int) -> list[str]:
        newest = heapq.nlargest(limit, self._blobs.list(CANDIDATES), key=lambda blob: (blob.last_modified, blob.name))
        return [blob.name for blob in newest]

    def _compare_crop(self, name: str, old: Serving, new: Serving, tally: _Tally) -> None:
        try:
            data = self._blobs.get(CANDIDATES, name).data
            seen = (self._judge(old, data), self._judge(new, data))
        except NotFound:
            return  # past its retention meanwhile
        except PermanentError:
            seen = (None, None)
        if seen[0] is None or seen[1] is None:
            tally.left_out += 1
        else:
            tally.add(seen[0], seen[1], detection_id(name, sha256_hex(data), 0))

    def _compare_enrolled(self, old: str, new: str, limit: int, tally: _Tally) -> None:
        olds = {t.image: t for t in self._people.list_templates(embedder_id=old)}
        news = {t.image: t for t in self._people.list_templates(embedder_id=new)}
        # By the hash of their names: of a large gallery some people, and of these all images.
        images = sorted(olds.keys() & news.keys(), key=lambda image: (sha256_hex(image.split("/")[0].encode()), image))
        chosen = images[:limit]
        if len(chosen) < 2:
            return
        before = self._answers(old, [olds[image] for image in chosen])
        after = self._answers(new, [news[image] for image in chosen])
        for image in chosen:
            tally.add(before[image], after[image], olds[image].template_id)

    def _answers(self, embedder_id: str, templates: list[Template]) -> dict[str, str]:
        """Whom a gallery without the image sees in it, by image."""
        answers: dict[str, str] = {}
        for number, part in enumerate(_parts(templates)):
            left = [template for template in templates if template not in part]
            bundle = self._fitter.fit_to(embedder_id, left, "shadow", model_id=f"shadow-{number}")
            for template in part:
                probe = Embeddings(template.embedder_id, template.embedding[None])
                answers[template.image] = load_matcher(bundle).identify(probe)[0].person_id
        return answers


def _parts(templates: list[Template]) -> Iterator[list[Template]]:
    """Every image in one of a few parts; as far as can be, no part has all images of a person."""
    count = min(PARTS, len(templates))
    yield from (templates[start::count] for start in range(count))
