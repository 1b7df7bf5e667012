"""Giving a group a name: the person is enrolled from the group's best crops, and the past detections are relabelled.

Every step can be repeated: the naming stands with the group until all is done, the same crop makes the same template,
and a detection that has its name already is left alone. An erasure that comes in between wins.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final, Protocol

from functions.group.state import Group, GroupState, Member
from functions.group.store import GroupStore
from shared.domain import CANDIDATES, UNKNOWN, Detection
from shared.errors import Conflict, InvalidInput, NotFound, UnusableFace
from shared.ports import BlobStore, DetectionFilter, DetectionRepository, PersonRepository

logger = logging.getLogger(__name__)

GROUP: Final = "group"
"""`named_by` of detections, and `source` of templates, that come of a naming."""
MAX_TEMPLATES: Final = 10
MAX_TRIED: Final = 40
_PAGE: Final = 500


class Progress(Protocol):
    """Told shares of the work; keeps what is known so far of the result with the job."""

    def __call__(self, share: float) -> None: ...

    def keep(self, result: Mapping[str, Any]) -> None: ...

    def kept(self) -> Mapping[str, Any]: ...


class Enroller(Protocol):
    """What naming needs of enrolment."""

    def add_person(self, name: str) -> str: ...

    def add_image(self, name: str, data: bytes, *, source: str = "upload") -> Any: ...

    def remove_template(self, name: str, template_id: str) -> None: ...


class Naming:
    """Names groups, and takes names back.

    Args:
        thresholds: cosine from which two faces are one person, by embedder id.
        train: asks for a training.
    """

    def __init__(
        self,
        *,
        detections: DetectionRepository,
        people: PersonRepository,
        blobs: BlobStore,
        store: GroupStore,
        enroll: Callable[[], Enroller],
        thresholds: Mapping[str, float],
        train: Callable[[], object],
        kept_for: timedelta,
    ) -> None:
        self._detections = detections
        self._people = people
        self._blobs = blobs
        self._store = store
        self._enroll = enroll
        self._thresholds = thresholds
        self._train = train
        self._kept_for = kept_for

    def run(self, job_id: str, progress: Progress) -> Mapping[str, Any]:
        """Does, or finishes, the naming that this job is for, and gives figures of it.

        Raises:
            NotFound: the person was removed meanwhile; nothing of the name is left then.
        """
        group = self._store.read().named_by(job_id)
        if group is None or group.naming is None:
            return progress.kept() or {"called_off": True}
        person_id = group.naming[0]
        result = dict(progress.kept())
        if "templates" not in result:
            # Before the first detection loses its embedding: a crop is checked against it.
            result = self._templates(person_id, group, lambda share: progress(0.5 * share))
            progress.keep(result)
        denied = self._store.read().corrections.denied.get(person_id, frozenset())
        named = self._relabel(person_id, group, denied, lambda share: progress(0.5 + 0.5 * share))
        result |= {"detections": len(named), "not_this_person": len(group.ids & denied)}
        progress.keep(result)
        if result["templates"]:
            self._train()
        self._finish(job_id, person_id, named)
        logger.info("group named", extra={"action": "group.named", "detections": len(named)})
        return result

    def _templates(self, person_id: str, group: Group, progress: Callable[[float], None]) -> dict[str, Any]:
        """Enrols the best crops; how many were usable, and why the others were not."""
        try:
            self._enroll().add_person(person_id)
            created = True
        except Conflict:
            created = False
        denied = self._store.read().corrections.denied.get(person_id, frozenset())
        refused: Counter[str] = Counter()
        templates: set[str] = set()  # by id: crops that are all but the same have one between them
        for number, member in enumerate(best_first(group, denied)):
            if len(templates) == MAX_TEMPLATES or number == MAX_TRIED:
                break
            reason, template_id = self._template(person_id, member)
            if reason:
                refused[reason] += 1
            else:
                templates.add(template_id)
            progress((number + 1) / min(MAX_TRIED, len(group.members)))
        return {"person_created": created, "templates": len(templates), "unusable": dict(refused)}

    def _template(self, person_id: str, member: Member) -> tuple[str, str]:
        """Makes a template of one crop: why not, when it cannot be, and the id of the one that stands for the crop."""
        if member.candidate is None:
            return "no_crop", ""
        try:
            data = self._blobs.get(CANDIDATES, member.candidate).data
        except NotFound:
            return "crop_expired", ""
        try:
            enrolled = self._enroll().add_image(person_id, data, source=GROUP)
        except UnusableFace as error:
            return error.reason, ""
        except InvalidInput as error:
            return error.code, ""
        if self._shows(member, person_id, enrolled.template_id):
            return "", enrolled.template_id
        if enrolled.added:
            self._enroll().remove_template(person_id, enrolled.template_id)
        return "other_face", ""

    def _shows(self, member: Member, person_id: str, template_id: str) -> bool:
        """Whether the template is of the face that was grouped, and not of somebody else in the same crop."""
        detection = self._detections.get(member.detection_id)
        made = next((t for t in self._people.list_templates(person_id=person_id) if t.template_id == template_id), None)
        if detection is None or detection.embedding is None or made is None:
            return False
        if made.embedder_id != detection.embedder_id:
            return True  # the group is of an earlier embedder: there is nothing to compare
        return float(made.embedding @ detection.embedding) >= self._thresholds.get(made.embedder_id, 0.0)

    def _relabel(
        self, person_id: str, group: Group, denied: frozenset[str], progress: Callable[[float], None]
    ) -> set[str]:
        """Gives the group's detections their name; which have it now."""
        named: set[str] = set()
        for number, member in enumerate(group.members):
            if member.detection_id not in denied and self._rename(member.detection_id, person_id):
                named.add(member.detection_id)
            progress((number + 1) / len(group.members))
        return named

    def _rename(self, detection_id: str, person_id: str) -> bool:
        def renamed(detection: Detection) -> Detection | None:
            if detection.person_id != UNKNOWN:
                return None
            return replace(detection, person_id=person_id, named_by=GROUP, previous_person=UNKNOWN, embedding=None)

        if self._detections.change(detection_id, renamed, kept_for=self._kept_for) is not None:
            return True
        found = self._detections.get(detection_id)
        return found is not None and (found.person_id, found.named_by) == (person_id, GROUP)

    def _finish(self, job_id: str, person_id: str, named: set[str]) -> None:
        """Drops the group, unless the person was erased meanwhile: then what was written since is erased, too."""

        def finished(state: GroupState) -> tuple[GroupState, bool]:
            group = state.named_by(job_id)
            return (state, False) if group is None else (state.without(group.group_id, named), True)

        stands = self._store.change(finished)
        try:
            self._people.get_person(person_id)
        except NotFound:
            stands = False
        if not stands:
            self.forget(person_id)
            raise NotFound("the person was removed while the group was being named")

    def forget(self, person_id: str) -> bool:
        """Takes a person's name off every detection and out of the corrections; False when it was nowhere.

        Repeating it continues what was interrupted.
        """

        def forgotten(state: GroupState) -> tuple[GroupState, bool]:
            after = replace(state, corrections=state.corrections.without_person(person_id))
            for group in state.groups.values():
                if group.naming is not None and group.naming[0] == person_id:
                    after = after.unnamed(group.group_id)
            return after, after != state

        # A state that mentions nobody of that id is not written again.
        found = forgotten(self._store.read())[1] and self._store.change(forgotten)
        for detection in self._of(person_id):
            found |= self._clear(detection.id, person_id)
        return found

    def _of(self, person_id: str) -> Iterator[Detection]:
        """A person's detections. Those that are changed leave the list, so that the first page is always the next."""
        last: set[str] = set()
        while True:
            page = self._detections.list(DetectionFilter(person_id=person_id), page_size=_PAGE).detections
            ids = {detection.id for detection in page}
            if not ids - last:
                return
            last = ids
            yield from page

    def deny(self, detection_id: str) -> str:
        """This detection is not whom it was named: it is unknown from now on, and never gets that name again.

        Returns:
            The person's id.

        Raises:
            NotFound: no such detection.
            Conflict: it has no name.
        """
        detection = self._detections.get(detection_id)
        if detection is None:
            raise NotFound("there is no such detection")
        person_id = detection.person_id
        if person_id == UNKNOWN:
            raise Conflict("the detection has no name; to take it out of a group, reject it there")
        # First what keeps the name from coming back, then the name itself: repeating it finishes both.
        self._store.change(
            lambda state: (replace(state, corrections=state.corrections.deny(person_id, detection_id)), None)
        )
        self._clear(detection_id, person_id)
        logger.info("detection is not whom it was named", extra={"action": "group.deny", "detection": detection_id})
        return person_id

    def _clear(self, detection_id: str, person_id: str) -> bool:
        def cleared(detection: Detection) -> Detection | None:
            if detection.person_id != person_id:
                return None
            return replace(detection, person_id=UNKNOWN, named_by=None, previous_person=None)

        return self._detections.change(detection_id, cleared, kept_for=self._kept_for) is not None


def best_first(group: Group, denied: frozenset[str]) -> list[Member]:
    """Members in the order in which they are tried as templates: the best of each track, then the others."""
    ranked = sorted(group.members, key=lambda m: (-m.fitness, m.detection_id))
    ranked = [member for member in ranked if member.detection_id not in denied]
    tracks: set[tuple[str, str, str | None]] = set()
    first: list[Member] = []
    others: list[Member] = []
    for member in ranked:
        track = (member.site, member.camera, member.track)
        (others if member.track is not None and track in tracks else first).append(member)
        tracks.add(track)
    return first + others
