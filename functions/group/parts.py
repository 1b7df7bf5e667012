"""What grouping is made of, put together once for each process."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from functions.group.naming import Naming
from functions.group.runs import Grouping
from functions.group.service import GROUP_LEASE, GroupJobs, GroupService
from functions.group.store import GroupStore
from functions.jobs import LeasedJobs
from shared.messages import GROUP_QUEUE

if TYPE_CHECKING:
    from functions.services import Services
    from shared.bootstrap import Runtime


@dataclass(frozen=True, slots=True)
class GroupParts:
    """The asking side, the doing side, and what erasure needs."""

    service: GroupService
    jobs: GroupJobs
    naming: Naming


def thresholds(runtime: Runtime) -> dict[str, float]:
    """Default threshold of every embedder that is known, by its id: of the installation's own manifest, too."""
    from shared.vision.assets import load_registry, resolve_pack

    tables = [*load_registry().embedder.values(), *resolve_pack(runtime.settings.pack)[0].embedder.values()]
    return {table.embedder_id: table.default_threshold for table in tables}


def group_parts(services: Services) -> GroupParts:
    """Everything over one process's services."""
    runtime, stores, settings = services.runtime, services.runtime.stores, services.runtime.settings
    kept_for, known = timedelta(days=settings.detection_retention_days), thresholds(runtime)
    store = GroupStore(stores.blobs, kept_for=kept_for, clock=runtime.clock)
    jobs = LeasedJobs(
        GROUP_LEASE,
        GROUP_QUEUE,
        jobs=stores.jobs,
        queue=stores.queue,
        lease_ttl_s=settings.lease_ttl_s,
        clock=runtime.clock,
    )
    naming = Naming(
        detections=stores.detections,
        people=stores.people,
        blobs=stores.blobs,
        store=store,
        enroll=services.enroll,
        thresholds=known,
        train=lambda: services.train_requests().request("fit"),
        kept_for=kept_for,
    )
    grouping = Grouping(
        detections=stores.detections,
        store=store,
        thresholds=known,
        min_faces=settings.group_min_faces,
        kept_for=kept_for,
        clock=runtime.clock,
    )
    service = GroupService(
        store=store,
        detections=stores.detections,
        naming=naming,
        jobs=jobs,
        job_repository=stores.jobs,
        clock=runtime.clock,
    )
    return GroupParts(service, GroupJobs(jobs=jobs, grouping=grouping, naming=naming, service=service), naming)
