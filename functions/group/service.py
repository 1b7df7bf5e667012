"""Groups of unknown faces: asked about, corrected, named. The asking side, and the one that runs the queue's jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from functions.group.naming import Naming
from functions.group.runs import Grouping
from functions.group.state import Group, GroupState, new_group_id
from functions.group.store import GroupStore
from functions.jobs import JobProgress, LeasedJobs
from shared import telemetry
from shared.domain import UNKNOWN, Detection, Job, normalise_person_id
from shared.errors import InvalidInput, NotFound
from shared.messages import GroupRequest
from shared.ports import Clock, DetectionRepository, JobRepository

logger = logging.getLogger(__name__)

GROUP_LEASE: Final = "group"


@dataclass(frozen=True, slots=True)
class GroupPage:
    """One page of groups, last seen first, and the token that asks for the next; None on the last."""

    groups: Sequence[Group]
    continuation: str | None


@dataclass(frozen=True, slots=True)
class FacePage:
    """One page of a group's detections, newest first, and the token that asks for the next; None on the last."""

    detections: Sequence[Detection]
    continuation: str | None


class GroupService:
    """What operators ask and say. Cheap: nothing here looks at an embedding."""

    def __init__(
        self,
        *,
        store: GroupStore,
        detections: DetectionRepository,
        naming: Naming,
        jobs: LeasedJobs,
        job_repository: JobRepository,
        clock: Clock,
    ) -> None:
        self._job_repository = job_repository
        self._store = store
        self._detections = detections
        self._naming = naming
        self._jobs = jobs
        self._clock = clock

    def request_run(self) -> Job:
        """Asks for a grouping."""
        job = self._jobs.new("group")
        self._jobs.send(GroupRequest(schema=1, job_id=job.job_id, kind="group"))
        return job

    def idle(self) -> bool:
        """Whether no grouping or naming is waiting or under way."""
        return self._jobs.idle()

    def list(self, *, page_size: int = 100, continuation: str | None = None) -> GroupPage:
        """The groups, last seen first."""
        groups = sorted(self._store.read().groups.values(), key=_order)
        if continuation is not None:
            after = _position(continuation)
            groups = [group for group in groups if _order(group) > after]
        page = groups[:page_size]
        more = len(groups) > page_size
        return GroupPage(page, f"{-_order(page[-1])[0]}~{page[-1].group_id}" if more else None)

    def group(self, group_id: str) -> Group:
        """Raises: NotFound."""
        return self._store.read().group(group_id)

    def faces(self, group_id: str, *, page_size: int = 100, continuation: str | None = None) -> FacePage:
        """A group's detections, newest first; those that expired or were named by now are left out.

        Raises:
            NotFound: no such group.
            InvalidInput: not a continuation of this list.
        """
        ids = [member.detection_id for member in reversed(self.group(group_id).members)]
        start = 0
        if continuation is not None:
            if continuation not in ids:
                raise InvalidInput("the group has changed since the page before; begin again")
            start = ids.index(continuation) + 1
        page = ids[start : start + page_size]
        found = [self._detections.get(detection_id) for detection_id in page]
        more = start + page_size < len(ids)
        return FacePage([d for d in found if d is not None and d.person_id == UNKNOWN], page[-1] if more else None)

    def merge(self, group_id: str, other_id: str, *, withdraw: bool = False) -> Group:
        """Both are one person. See `GroupState.merged`."""
        state = self._change(lambda state: state.merged(group_id, other_id, withdraw=withdraw))
        _said("merge", group_id)
        return state.group(group_id)

    def split(self, group_id: str, detection_ids: Sequence[str]) -> tuple[Group, Group]:
        """These faces are another person. Gives the group, and the new one. See `GroupState.split`."""
        new_id = new_group_id()
        state = self._change(lambda state: state.split(group_id, detection_ids, new_id, self._clock()))
        _said("split", group_id)
        return state.group(group_id), state.group(new_id)

    def reject(self, group_id: str, detection_ids: Sequence[str]) -> Group:
        """These faces are not this person, whoever they are. See `GroupState.rejected`."""
        state = self._change(lambda state: state.rejected(group_id, detection_ids))
        _said("reject", group_id)
        return state.group(group_id)

    def deny(self, detection_id: str) -> str:
        """A named detection is not that person. See `Naming.deny`."""
        return self._naming.deny(detection_id)

    def name(self, group_id: str, name: str) -> Job:
        """Asks for a group to be named. Until it is done, the group cannot be changed.

        Raises:
            InvalidIdentifier: not a person's id.
            NotFound: no such group.
            Conflict: it is being named already.
        """
        person_id = normalise_person_id(name)
        group = self.group(group_id)
        given_up = group.naming if group.naming is not None and self._failed(group.naming[1]) else None
        job = self._jobs.new("name")

        def naming(state: GroupState) -> GroupState:
            if given_up is not None and state.group(group_id).naming == given_up:
                state = state.unnamed(group_id)
            return state.naming(group_id, person_id, job.job_id)

        self._change(naming)
        self._jobs.send(GroupRequest(schema=1, job_id=job.job_id, kind="name"))
        _said("name", group_id)
        return job

    def _failed(self, job_id: str) -> bool:
        try:
            return self._job_repository.get_job(job_id).status == "failed"
        except NotFound:  # jobs are not kept for ever
            return True

    def resume_namings(self) -> None:
        """Asks again for namings that nobody may be at, as when the message was never sent. Twice does no harm."""
        for group in self._store.read().groups.values():
            if group.naming is not None and not self._failed(group.naming[1]):
                self._jobs.send(GroupRequest(schema=1, job_id=group.naming[1], kind="name"))

    def _change(self, how: Callable[[GroupState], GroupState]) -> GroupState:
        def changed(state: GroupState) -> tuple[GroupState, GroupState]:
            after = how(state)
            return after, after

        return self._store.change(changed)


class GroupJobs:
    """Runs what is in the queue."""

    def __init__(self, *, jobs: LeasedJobs, grouping: Grouping, naming: Naming, service: GroupService) -> None:
        self._service = service
        self._jobs = jobs
        self._grouping = grouping
        self._naming = naming

    def run(self, request: GroupRequest, *, last_attempt: bool = False) -> Job:
        """Runs one queued job. Running it again after a crash is safe. See `LeasedJobs.run`."""
        with telemetry.span("group.run", kind=telemetry.CONSUMER, attributes={"kind": request.kind}):
            return self._jobs.run(request, lambda progress: self._work(request, progress), last_attempt=last_attempt)

    def _work(self, request: GroupRequest, progress: JobProgress) -> Mapping[str, Any]:
        if request.kind == "name":
            return self._naming.run(request.job_id, progress)
        result = self._grouping.run(progress)
        self._service.resume_namings()
        return result

    def prune(self) -> None:
        """Drops what has expired, where grouping is switched off."""
        self._grouping.prune()


def _order(group: Group) -> tuple[float, str]:
    return -group.members[-1].captured_at.timestamp(), group.group_id


def _position(continuation: str) -> tuple[float, str]:
    seconds, separator, group_id = continuation.partition("~")
    try:
        if not separator:
            raise ValueError(continuation)
        return -float(seconds), group_id
    except ValueError as error:
        raise InvalidInput("not a continuation of this list") from error


def _said(what: str, group_id: str) -> None:
    logger.info("group corrected", extra={"action": f"group.{what}", "group": group_id})
