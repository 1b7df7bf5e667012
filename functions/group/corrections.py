"""What people have said about unknown faces: who is the same person, and who is not. Pure; over detections' ids.

Kept closed: no set of `same` reaches into both sides of an `apart`. So whatever a later grouping does, it can honour
all of it, and what cannot be honoured is refused when it is said. A split or a rejection is about particular faces and
so narrows an earlier merge, which was about groups as they were; a merge never overrides a split by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from functions.group.cluster import Constraints
from shared.errors import Conflict

Ids = frozenset[str]


@dataclass(frozen=True, slots=True)
class Corrections:
    """Every correction that is in force.

    Attributes:
        same: disjoint sets of detections that are one person each.
        apart: pairs of sets; nobody in the first is anybody in the second.
        denied: detections that are not this person, by the person's id.
    """

    same: tuple[Ids, ...] = ()
    apart: tuple[tuple[Ids, Ids], ...] = ()
    denied: Mapping[str, Ids] = field(default_factory=dict)

    def united(self, faces: Ids, *, withdraw: bool = False) -> Corrections:
        """All these faces are one person, and so is whoever was said to be the same as any of them.

        Args:
            withdraw: takes back what has told them apart.

        Raises:
            Conflict: some of them were told apart.
        """
        touched = [one for one in self.same if one & faces]
        whole = faces.union(*touched)
        against = [pair for pair in self.apart if pair[0] & whole and pair[1] & whole]
        if against and not withdraw:
            raise Conflict(
                "these faces were told apart by an earlier split or 'not this person'; to take that back and merge "
                "them all the same, repeat with withdraw"
            )
        rest = tuple(one for one in self.same if not one & faces)
        apart = tuple(
            pair for old in self.apart for pair in ([old] if old not in against else _without(old, whole, whole))
        )
        return replace(self, same=(*rest, whole), apart=apart)

    def separated(self, faces: Ids, others: Ids, *, together: bool) -> Corrections:
        """None of `faces` is anybody of `others`; all of them were in one group until now.

        Args:
            together: `faces` are one person; else nothing is said of them among themselves.
        """
        # What a merge said of the whole group it no longer says of faces that are taken out of it.
        same = tuple(rest for one in self.same if (rest := one - faces))
        return replace(self, same=(*same, faces) if together else same, apart=(*self.apart, (faces, others)))

    def deny(self, person_id: str, detection_id: str) -> Corrections:
        """This face is not this person."""
        known = self.denied.get(person_id, frozenset())
        return replace(self, denied={**self.denied, person_id: known | {detection_id}})

    def without_person(self, person_id: str) -> Corrections:
        """Nothing that mentions this person, who is erased."""
        return replace(self, denied={key: ids for key, ids in self.denied.items() if key != person_id})

    def kept(self, alive: Callable[[str], bool]) -> Corrections:
        """What is about faces that are still there."""
        same = (frozenset(filter(alive, one)) for one in self.same)
        apart = ((frozenset(filter(alive, one)), frozenset(filter(alive, other))) for one, other in self.apart)
        denied = {person: frozenset(filter(alive, ids)) for person, ids in self.denied.items()}
        return Corrections(
            tuple(one for one in same if one),
            tuple(pair for pair in apart if pair[0] and pair[1]),
            {person: ids for person, ids in denied.items() if ids},
        )

    def confirmed(self) -> Ids:
        """Faces of which somebody has said with whom they belong: groups of them are never too small."""
        return frozenset().union(*self.same)

    def left(self) -> Ids:
        """Faces that stayed in their group when others were taken out of it."""
        return frozenset().union(*(others for _, others in self.apart))

    def constraints(self, row_of: Mapping[str, int]) -> Constraints:
        """The same in rows, of the faces that are among them."""
        same = (_rows(one, row_of) for one in self.same)
        apart = ((_rows(one, row_of), _rows(other, row_of)) for one, other in self.apart)
        return Constraints([rows for rows in same if rows], [pair for pair in apart if pair[0] and pair[1]])

    def violated_by(self, groups: Iterable[Collection[str]]) -> bool:
        """Whether any of these groups brings together who was told apart, or parts who is the same."""
        group_of = {face: number for number, faces in enumerate(groups) for face in faces}
        for one in self.same:
            if len({group_of.get(face) for face in one}) > 1:
                return True
        for one, other in self.apart:
            if {group_of[face] for face in one if face in group_of} & {group_of[f] for f in other if f in group_of}:
                return True
        return False

    def to_document(self, number: Callable[[str], int]) -> dict[str, Any]:
        """As JSON keeps it, with a number in place of each detection's id."""

        def numbers(faces: Ids) -> list[int]:
            return [number(face) for face in sorted(faces)]

        return {
            "same": [numbers(one) for one in self.same],
            "apart": [[numbers(one), numbers(other)] for one, other in self.apart],
            "denied": {person: numbers(ids) for person, ids in self.denied.items()},
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any], ids: Sequence[str]) -> Corrections:
        """The inverse of `to_document`; `ids` by their numbers."""

        def named(numbers: Iterable[int]) -> Ids:
            return frozenset(ids[number] for number in numbers)

        return cls(
            tuple(named(one) for one in document["same"]),
            tuple((named(one), named(other)) for one, other in document["apart"]),
            {person: named(numbers) for person, numbers in document["denied"].items()},
        )


def _rows(faces: Ids, row_of: Mapping[str, int]) -> list[int]:
    return sorted(row_of[face] for face in faces if face in row_of)


def _without(pair: tuple[Ids, Ids], one: Ids, other: Ids) -> list[tuple[Ids, Ids]]:
    """A pair of sets less what it says of `one` against `other`: those of either side keep what they are apart from."""
    left, right = pair
    parts = [(left - one, right), (left & one, right - other)]
    return [part for part in parts if part[0] and part[1]]
