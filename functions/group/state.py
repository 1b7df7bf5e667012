"""The groups as they are: members, identities that last, corrections, and what is being named. Pure, and immutable.

One document, so that a grouping or a correction is there as a whole or not at all. It holds no embedding, only which
detections belong together; a detection that has expired is left out when it is read, and dropped by the next run.
"""

from __future__ import annotations

import json
import secrets
import zlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any, Final

from functions.group.corrections import Corrections
from shared.domain import Detection, format_time, parse_time
from shared.errors import Conflict, IntegrityError, InvalidInput, NotFound

SCHEMA: Final = 1
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"  # Crockford's base 32: nothing that is read for something else
_ID_LENGTH: Final = 10


def new_group_id() -> str:
    """`g:` and 50 random bits. No person's id has a colon, so that it can never be taken for one."""
    return "g:" + "".join(secrets.choice(_ALPHABET) for _ in range(_ID_LENGTH))


@dataclass(frozen=True, slots=True)
class Member:
    """What a group tells of one of its detections.

    Attributes:
        fitness: 0 to 1, how good the face is to know somebody by.
        candidate: blob name of the crop; None of images that came over HTTP.
    """

    detection_id: str
    captured_at: datetime
    site: str
    camera: str
    location: str
    track: str | None
    candidate: str | None
    fitness: float

    @classmethod
    def of(cls, detection: Detection) -> Member:
        """A detection's entry."""
        quality = detection.quality
        size, sharpness = min(quality.size_px / 112.0, 1.0), min(quality.sharpness / 200.0, 1.0)
        fitness = size * sharpness * (1.0 - min(abs(quality.yaw or 0.0), 1.0)) * quality.confidence
        return cls(
            detection.id,
            detection.captured_at,
            detection.site,
            detection.camera,
            detection.location,
            detection.track,
            detection.candidate,
            round(fitness, 4),
        )


@dataclass(frozen=True, slots=True)
class Group:
    """Faces of one person whom nobody has named yet.

    Attributes:
        members: in order of capture, then id.
        naming: person's id and job of a naming that is under way; corrections and runs leave the group alone then.
    """

    group_id: str
    embedder_id: str
    created_at: datetime
    members: tuple[Member, ...]
    naming: tuple[str, str] | None = None

    @property
    def ids(self) -> frozenset[str]:
        return frozenset(member.detection_id for member in self.members)

    @property
    def cover(self) -> Member | None:
        """The best face that has a crop."""
        return max((m for m in self.members if m.candidate), key=lambda m: (m.fitness, m.detection_id), default=None)

    def of(self, members: Iterable[Member]) -> Group:
        """The same group with other members."""
        return replace(self, members=tuple(sorted(members, key=lambda m: (m.captured_at, m.detection_id))))


@dataclass(frozen=True, slots=True)
class GroupState:
    """Everything that is kept. Every method gives a new state and leaves this one as it is."""

    groups: Mapping[str, Group] = field(default_factory=dict)
    corrections: Corrections = field(default_factory=Corrections)

    def group(self, group_id: str) -> Group:
        """Raises: NotFound."""
        found = self.groups.get(group_id)
        if found is None:
            raise NotFound("there is no such group; it may have been merged, named, or have expired")
        return found

    def _open(self, group_id: str) -> Group:
        """A group that may be corrected. Raises: NotFound; Conflict while it is being named."""
        group = self.group(group_id)
        if group.naming is not None:
            raise Conflict("the group is being named; it cannot be changed any more")
        return group

    def _with(self, corrections: Corrections, *changed: Group, gone: str | None = None) -> GroupState:
        groups = {key: value for key, value in self.groups.items() if key != gone}
        groups |= {group.group_id: group for group in changed}
        return GroupState({key: group for key, group in groups.items() if group.members}, corrections)

    def merged(self, group_id: str, other_id: str, *, withdraw: bool = False) -> GroupState:
        """The other group's faces are the first one's person. The first one's id stays.

        Raises:
            NotFound: no such group.
            InvalidInput: a group and itself, or groups of two embedders, whose faces cannot be compared.
            Conflict: their faces were told apart, and that is not withdrawn; or one is being named.
        """
        group, other = self._open(group_id), self._open(other_id)
        if group_id == other_id:
            raise InvalidInput("a group cannot be merged with itself")
        if group.embedder_id != other.embedder_id:
            raise InvalidInput("the groups are of two embedders, whose faces cannot be compared; name both instead")
        corrections = self.corrections.united(group.ids | other.ids, withdraw=withdraw)
        return self._with(corrections, group.of((*group.members, *other.members)), gone=other_id)

    def split(self, group_id: str, detection_ids: Sequence[str], new_id: str, now: datetime) -> GroupState:
        """These faces are one other person, and become a group of their own.

        Raises:
            NotFound: no such group.
            InvalidInput: no face, or all of them.
            Conflict: a face is not in the group; or it is being named.
        """
        group, faces = self._taken_out(group_id, detection_ids)
        if faces == group.ids:
            raise InvalidInput("these are all the group's faces: nothing would be left to tell them from")
        corrections = self.corrections.separated(faces, group.ids - faces, together=True)
        part = Group(new_id, group.embedder_id, now, ()).of(m for m in group.members if m.detection_id in faces)
        return self._with(corrections, group.of(m for m in group.members if m.detection_id not in faces), part)

    def rejected(self, group_id: str, detection_ids: Sequence[str]) -> GroupState:
        """These faces are not the group's person, whoever they are.

        Raises:
            NotFound, InvalidInput, Conflict: as `split`.
        """
        group, faces = self._taken_out(group_id, detection_ids)
        if faces == group.ids:
            raise InvalidInput("these are all the group's faces: nobody would be left whom they are not")
        corrections = self.corrections.separated(faces, group.ids - faces, together=False)
        return self._with(corrections, group.of(m for m in group.members if m.detection_id not in faces))

    def _taken_out(self, group_id: str, detection_ids: Sequence[str]) -> tuple[Group, frozenset[str]]:
        group, faces = self._open(group_id), frozenset(detection_ids)
        if not faces:
            raise InvalidInput("name at least one detection")
        if not faces <= group.ids:
            raise Conflict(f"{len(faces - group.ids)} of these detections are not in this group, or no longer")
        return group, faces

    def naming(self, group_id: str, person_id: str, job_id: str) -> GroupState:
        """The group is being named from now on.

        Raises:
            NotFound: no such group.
            Conflict: it is being named already.
        """
        return self._with(self.corrections, replace(self._open(group_id), naming=(person_id, job_id)))

    def named_by(self, job_id: str) -> Group | None:
        """The group that a job is to name; None when it is done."""
        return next((g for g in self.groups.values() if g.naming is not None and g.naming[1] == job_id), None)

    def unnamed(self, group_id: str) -> GroupState:
        """The naming is called off."""
        return self._with(self.corrections, replace(self.group(group_id), naming=None))

    def without(self, group_id: str, named: Collection[str]) -> GroupState:
        """The group is gone, and what was said of those of its faces that have a name now."""
        return self._with(self.corrections.kept(lambda face: face not in named), gone=group_id)

    def only(self, alive: Callable[[str], bool]) -> GroupState:
        """The same without detections that are gone, groups that have none left, and corrections about them."""
        groups = {
            key: group if all(alive(m.detection_id) for m in group.members) else group.of(_alive(group.members, alive))
            for key, group in self.groups.items()
        }
        return GroupState({k: g for k, g in groups.items() if g.members}, self.corrections.kept(alive))

    def since(self, oldest: datetime) -> GroupState:
        """The same without members captured before: those whose detection has expired."""
        dead = {m.detection_id for g in self.groups.values() for m in g.members if m.captured_at < oldest}
        return self.only(lambda face: face not in dead) if dead else self

    def regrouped(
        self,
        embedder_id: str,
        clusters: Iterable[Sequence[Member]],
        *,
        min_faces: int,
        now: datetime,
        new_id: Callable[[], str] = new_group_id,
    ) -> GroupState:
        """One embedder's groups made anew from clusters; whoever was a group before keeps the id.

        Args:
            clusters: disjoint; members of groups that are being named are in none.
            min_faces: smaller clusters are no group, but for what somebody has confirmed, or has left of a group.
        """
        confirmed, left = self.corrections.confirmed(), self.corrections.left()

        def large_enough(members: Sequence[Member]) -> bool:
            ids = {m.detection_id for m in members}
            return len(ids) >= min_faces or bool(ids & confirmed) or (len(ids) > 1 and bool(ids & left))

        large = [members for members in clusters if large_enough(members)]
        before = {k: g for k, g in self.groups.items() if g.embedder_id == embedder_id and g.naming is None}
        ids = inherited(before, large)
        made = []
        for number, members in enumerate(large):
            known = before.get(ids.get(number, ""))
            made.append((known or Group(new_id(), embedder_id, now, ())).of(members))
        others = {k: g for k, g in self.groups.items() if k not in before}
        return GroupState({**others, **{group.group_id: group for group in made}}, self.corrections)

    def to_bytes(self) -> bytes:
        """Compressed JSON; detections and places by number, each written once."""
        members = [member for group in self.groups.values() for member in group.members]
        numbers = {member.detection_id: number for number, member in enumerate(members)}
        places: dict[tuple[str, str, str], int] = {}
        rows = [
            [
                _us(m.captured_at),
                places.setdefault((m.site, m.camera, m.location), len(places)),
                m.track,
                m.candidate,
                m.fitness,
            ]
            for m in members
        ]
        corrections = self.corrections.to_document(lambda face: numbers.setdefault(face, len(numbers)))
        groups = [
            [g.group_id, g.embedder_id, format_time(g.created_at), len(g.members), g.naming]
            for g in self.groups.values()
        ]
        document = {
            "schema": SCHEMA,
            "ids": list(numbers),
            "places": list(places),
            "members": rows,
            "groups": groups,
            "corrections": corrections,
        }
        return zlib.compress(json.dumps(document, separators=(",", ":")).encode(), 6)

    @classmethod
    def from_bytes(cls, data: bytes) -> GroupState:
        """The inverse of `to_bytes`.

        Raises:
            IntegrityError: not what this version writes.
        """
        try:
            document = json.loads(zlib.decompress(data))
            if document["schema"] != SCHEMA:
                raise IntegrityError(f"the groups are kept in schema {document['schema']}; update this service")
            return cls._read(document)
        except (zlib.error, ValueError, KeyError, IndexError, TypeError) as error:
            raise IntegrityError("what is kept of the groups is unreadable") from error

    @classmethod
    def _read(cls, document: dict[str, Any]) -> GroupState:
        ids, places = document["ids"], document["places"]
        members = [
            Member(ids[number], _moment(us), *_place(places[place]), track, candidate, fitness)
            for number, (us, place, track, candidate, fitness) in enumerate(document["members"])
        ]
        groups: dict[str, Group] = {}
        start = 0
        for group_id, embedder_id, created_at, count, naming in document["groups"]:
            own = tuple(members[start : start + count])
            start += count
            under_way = None if naming is None else (str(naming[0]), str(naming[1]))
            groups[group_id] = Group(group_id, embedder_id, parse_time(created_at), own, under_way)
        return cls(groups, Corrections.from_document(document["corrections"], ids))


def inherited(before: Mapping[str, Group], clusters: Sequence[Sequence[Member]]) -> dict[int, str]:
    """Which cluster is which group of before: by the most members in common, the largest overlap first.

    Ties go to the older group, then by ids, so that the outcome does not depend on any order.

    Returns:
        Group's id by the cluster's number, where there is one.
    """
    owner = {m.detection_id: key for key, group in before.items() for m in group.members}
    common: Counter[tuple[int, str]] = Counter()
    for number, members in enumerate(clusters):
        common.update((number, owner[m.detection_id]) for m in members if m.detection_id in owner)
    first = [min((m.detection_id for m in members), default="") for members in clusters]

    def turn(entry: tuple[tuple[int, str], int]) -> tuple[int, datetime, str, str]:
        (number, key), count = entry
        return -count, before[key].created_at, key, first[number]

    found: dict[int, str] = {}
    taken: set[str] = set()
    for (number, key), _ in sorted(common.items(), key=turn):
        if number not in found and key not in taken:
            found[number] = key
            taken.add(key)
    return found


def _alive(members: Iterable[Member], alive: Callable[[str], bool]) -> Iterable[Member]:
    return (member for member in members if alive(member.detection_id))


def _place(place: Sequence[str]) -> tuple[str, str, str]:
    site, camera, location = place
    return site, camera, location


def _us(moment: datetime) -> int:
    return round(moment.timestamp() * 1_000_000)


def _moment(us: int) -> datetime:
    seconds, rest = divmod(us, 1_000_000)
    return datetime.fromtimestamp(seconds, UTC).replace(microsecond=rest)
