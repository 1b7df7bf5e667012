"""The seams: what the services need of the world, as Protocols.

Adapters in `shared/adapters/` satisfy them without importing a base class; `tests/contract/` puts every adapter
through the same cases. All methods are synchronous and thread-safe. Every one may raise `StoreUnavailable`
(transient) besides what it names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Protocol

from shared.access import AuditEntry, Token, UploadGrant
from shared.alerts import Alert, Delivery, Notice, Visit, Visits
from shared.domain import Detection, Embeddings, Face, Job, Outcome, Person, Template, UInt8Array

Clock = Callable[[], datetime]


@dataclass(frozen=True, slots=True)
class BlobProperties:
    """What a listing tells of a blob. `etag` changes with every write."""

    name: str
    etag: str
    size_bytes: int
    last_modified: datetime
    content_type: str
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Blob:
    """A blob's bytes and properties, of one and the same version."""

    data: bytes
    properties: BlobProperties


class BlobStore(Protocol):
    """Containers of named bytes with metadata, ETags and index tags (Azure Blob Storage's semantics)."""

    def put(
        self,
        container: str,
        name: str,
        data: bytes,
        *,
        metadata: Mapping[str, str] | None = None,
        tags: Mapping[str, str] | None = None,
        content_type: str = "application/octet-stream",
        if_match: str | None = None,
        if_absent: bool = False,
    ) -> str:
        """Writes the whole blob, atomically, and returns its ETag once it is durable.

        Raises:
            PreconditionFailed: `if_match` names another ETag than the live one, or `if_absent` and it is there.
            StoreFull: no room.
            InvalidInput: a container or blob name that the service would refuse.
        """
        ...

    def get(self, container: str, name: str) -> Blob:
        """Raises: NotFound."""
        ...

    def properties(self, container: str, name: str) -> BlobProperties:
        """Raises: NotFound."""
        ...

    def delete(self, container: str, name: str) -> bool:
        """Deletes; False when it was not there."""
        ...

    def list(self, container: str, prefix: str = "") -> Iterator[BlobProperties]:
        """Blobs whose name begins with `prefix`, in order of name, with metadata."""
        ...

    def find_by_tags(self, container: str, tags: Mapping[str, str]) -> Iterator[str]:
        """Names of the blobs that carry all of `tags`. A cloud index may lag behind a write."""
        ...


@dataclass(frozen=True, slots=True)
class QueueMessage:
    """A message that was received and not yet deleted.

    Attributes:
        body: UTF-8 text.
        dequeue_count: how often it was received, this time included: 1 on first delivery.
        receipt: proves this delivery; another delivery makes it stale.
    """

    id: str
    queue: str
    body: str
    dequeue_count: int
    inserted_at: datetime
    receipt: str


class WorkQueue(Protocol):
    """Named queues with at-least-once delivery and visibility time-outs (Azure Queue Storage's semantics)."""

    def send(self, queue: str, body: str, *, delay_s: float = 0.0) -> str:
        """Stores a message, durably, and returns its id."""
        ...

    def receive(self, queue: str, *, max_messages: int = 1, visibility_timeout_s: float = 30.0) -> list[QueueMessage]:
        """Takes up to `max_messages` visible messages and hides them for the time-out."""
        ...

    def delete(self, message: QueueMessage) -> bool:
        """Done with it. False when the receipt is stale: somebody else has it now."""
        ...

    def renew(self, message: QueueMessage, *, visibility_timeout_s: float) -> QueueMessage:
        """Hides it for longer (0 gives it back at once), and returns it with its new receipt.

        Raises:
            NotFound: the receipt is stale.
        """
        ...

    def peek(self, queue: str, *, max_messages: int = 32) -> list[QueueMessage]:
        """Visible messages, oldest first, without taking them; their `receipt` is empty."""
        ...

    def length(self, queue: str) -> int:
        """Messages in the queue, hidden ones included; approximate in the cloud."""
        ...

    def names(self) -> list[str]:
        """Queues, in order: all that hold a message, and maybe empty ones."""
        ...


class PersonRepository(Protocol):
    """People and their templates: the gallery."""

    def add_person(self, person: Person) -> None:
        """Raises: Conflict when the id is taken."""
        ...

    def get_person(self, person_id: str) -> Person:
        """Raises: NotFound."""
        ...

    def list_people(self) -> Iterator[Person]:
        """Everybody, in order of id."""
        ...

    def delete_person(self, person_id: str) -> bool:
        """Deletes the person and all templates, of every embedder. False when there was nothing."""
        ...

    def add_template(self, template: Template) -> bool:
        """Create-if-absent: False when this template is there already.

        Raises:
            NotFound: the person is not there.
        """
        ...

    def delete_template(self, person_id: str, template_id: str) -> bool:
        """False when it was not there."""
        ...

    def keep_template(self, person_id: str, template_id: str, kept: bool) -> bool:
        """Sets the operator's mark; False when the template is not there."""
        ...

    def list_templates(self, *, person_id: str | None = None, embedder_id: str | None = None) -> Iterator[Template]:
        """Templates in order of (person_id, template_id)."""
        ...

    def template_keys(self, embedder_id: str) -> list[tuple[str, str]]:
        """(person_id, template_id) of one embedder's gallery, without reading embeddings."""
        ...


@dataclass(frozen=True, slots=True)
class DetectionFilter:
    """Which detections are asked for; None means any. `since` is inclusive, `until` exclusive, on `captured_at`."""

    person_id: str | None = None
    site: str | None = None
    camera: str | None = None
    location: str | None = None
    since: datetime | None = None
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class DetectionPage:
    """One page, newest first, and the token that asks for the next; None on the last."""

    detections: Sequence[Detection]
    continuation: str | None


class DetectionRepository(Protocol):
    """Detections, and the outcome of every candidate."""

    def add(self, detection: Detection) -> bool:
        """Create-if-absent by id: False when it is there already."""
        ...

    def get(self, detection_id: str) -> Detection | None: ...

    def change(
        self, detection_id: str, how: Callable[[Detection], Detection | None], *, kept_for: timedelta
    ) -> Detection | None:
        """Replaces a detection by what `how` makes of it, in one step: nobody's change in between is lost.

        Args:
            how: may be called again, with the detection as it is by then; None leaves it as it is. Person, embedding
                and where the name came from may be changed.
            kept_for: after `processed_at`; for stores that delete by the time of the last write, which must not count.

        Returns:
            The detection as it is now; None when it is gone or was left as it is.
        """
        ...

    def last_of(self, person_id: str) -> Detection | None:
        """The detection with the latest `captured_at`, or None."""
        ...

    def list(self, where: DetectionFilter, *, page_size: int = 100, continuation: str | None = None) -> DetectionPage:
        """A page in order of falling `captured_at`, then id.

        Raises:
            InvalidInput: a continuation token that this repository did not issue.
        """
        ...

    def of_track(self, site: str, camera: str, track: str, *, most: int) -> Sequence[Detection]:
        """Detections of one track of a camera, at most `most`; which of more, and in what order, is up to the store."""
        ...

    def delete_older_than(self, moment: datetime) -> int:
        """Retention for stores without a time-to-live of their own: removes detections and outcomes; how many."""
        ...

    def record_outcome(self, outcome: Outcome) -> bool:
        """Create-if-absent by id: False when it is there already."""
        ...

    def get_outcome(self, outcome_id: str) -> Outcome | None: ...

    def list_outcomes(self, *, status: str | None = None) -> Iterator[Outcome]:
        """In order of `processed_at`."""
        ...


class JobRepository(Protocol):
    """Long work that a caller may ask after, and the leases that keep two of a kind apart."""

    def put_job(self, job: Job) -> None:
        """Creates or replaces."""
        ...

    def get_job(self, job_id: str) -> Job:
        """Raises: NotFound."""
        ...

    def acquire_lease(self, name: str, owner: str, *, ttl_s: float) -> bool:
        """True when `owner` now holds it (again, or since it was free or had run out)."""
        ...

    def release_lease(self, name: str, owner: str | None = None) -> bool:
        """Frees it for `owner`, or for whoever holds it when None. False when there was nothing to free."""
        ...


class TokenRepository(Protocol):
    """API tokens, without their secrets."""

    def add_token(self, token: Token) -> None:
        """Stores a new token.

        Raises:
            Conflict: the id is taken.
        """
        ...

    def get_token(self, token_id: str) -> Token | None: ...

    def note_use(self, token_id: str, moment: datetime) -> None:
        """Sets `last_used_at`, and nothing else: it must not undo a revocation that comes by meanwhile."""
        ...

    def revoke(self, token_id: str, moment: datetime) -> bool:
        """Sets `revoked_at` where it is not set. False when there is no such token."""
        ...

    def list_tokens(self) -> Iterator[Token]:
        """All of them, expired and revoked ones too, in order of `created_at`."""
        ...


@dataclass(frozen=True, slots=True)
class AuditPage:
    """One page, newest first, and the token that asks for the next; None on the last."""

    entries: Sequence[AuditEntry]
    continuation: str | None


class AuditRepository(Protocol):
    """The record of administrative calls; nothing in it is ever changed."""

    def record(self, entry: AuditEntry) -> None:
        """Create-if-absent by id."""
        ...

    def list(self, *, page_size: int = 100, continuation: str | None = None) -> AuditPage:
        """A page in order of falling `at`, then id.

        Raises:
            InvalidInput: a continuation token that this repository did not issue.
        """
        ...


class AlertRepository(Protocol):
    """Visits by camera, and alerts with the state of their delivery."""

    def visits(self, place: str) -> Visits:
        """What was last kept for a camera, see `alerts.place_of`."""
        ...

    def keep_visits(self, place: str, visits: Sequence[Visit], *, version: str | None, ttl_s: float) -> bool:
        """Replaces them. False when they are no longer the ones of `version`: read them again.

        Args:
            ttl_s: how long after this write they may be forgotten.
        """
        ...

    def add_alert(self, alert: Alert) -> bool:
        """Create-if-absent by id: False when it is there already."""
        ...

    def get_alert(self, alert_id: str) -> Alert | None: ...

    def record_delivery(self, alert_id: str, channel: str, delivery: Delivery) -> None:
        """Sets how one channel stands, and leaves the others as they are.

        Raises:
            NotFound: there is no such alert.
        """
        ...

    def list_alerts(self, *, limit: int = 100) -> list[Alert]:
        """The newest `limit`, newest first."""
        ...

    def delete_older_than(self, moment: datetime) -> int:
        """Retention for stores without a time-to-live of their own: alerts made before; how many."""
        ...


class UploadGrants(Protocol):
    """Lets gateways that have no identity of their own write candidates."""

    def grant(self, lifetime: timedelta) -> UploadGrant:
        """A grant from now on.

        Raises:
            ConfigurationError: this backend has none.
        """
        ...


class Notifier(Protocol):
    """Tells the outside world of recognised faces."""

    def send(self, payload: Mapping[str, Any]) -> None:
        """Delivers one JSON document.

        Raises:
            ConfigurationError: no destination is configured.
            StoreUnavailable: the destination did not accept it.
        """
        ...


class AlertChannel(Protocol):
    """One destination of alerts.

    Attributes:
        name: stable, since deliveries are recorded under it; `webhook`, or `email:` and an address.
    """

    @property
    def name(self) -> str: ...

    def send(self, notice: Notice) -> None:
        """Delivers; has the destination's word for it when it returns.

        Raises:
            ConfigurationError: the destination cannot be used as it is set up.
            StoreUnavailable: it did not accept it.
        """
        ...


class Detector(Protocol):
    """Finds faces."""

    @property
    def detector_id(self) -> str: ...

    def detect(self, image: UInt8Array) -> Sequence[Face]:
        """Faces of an RGB image (H, W, 3) uint8, in falling order of confidence."""
        ...


class Embedder(Protocol):
    """Turns faces into vectors of one space."""

    @property
    def embedder_id(self) -> str: ...

    @property
    def dimension(self) -> int: ...

    def embed(self, images: Sequence[UInt8Array], faces: Sequence[Face]) -> Embeddings:
        """(N, dimension) float32, L2-normalised: one row for each pair of RGB image and a face found in it.

        Raises:
            InvalidInput: the embedder aligns on landmarks and a face has none.
        """
        ...

    def embed_reference(self, images: Sequence[UInt8Array], faces: Sequence[Face]) -> Embeddings:
        """As `embed`, for templates: may take longer, to say more of a face that is to be compared for years."""
        ...
