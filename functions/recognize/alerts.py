"""Alerts: from a stored detection to mail and webhook, once for each visit, repeated until delivered.

Recognition asks, cheaply, through the queue `alert-requests`; the queue's trigger decides whether the detection is news
and tells it. The order is what makes it safe: detection stored, then asked, then the candidate's outcome recorded. A
candidate that is interrupted in between is delivered again and asks again; the visit and the alert it finds then are
its own, and each channel that has taken the alert is on record.
"""

from __future__ import annotations

import logging
import random
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from shared.alert_rules import AlertRules
from shared.alerts import KEPT_AFTER, Alert, Delivery, Notice, VisitRules, place_of
from shared.domain import CANDIDATES, Detection
from shared.errors import ConfigurationError, InvalidImage, NotFound, StoreUnavailable
from shared.messages import ALERT_QUEUE, AlertRequest
from shared.ports import (
    AlertChannel,
    AlertRepository,
    BlobStore,
    Clock,
    DetectionRepository,
    JobRepository,
    WorkQueue,
)

logger = logging.getLogger(__name__)

MAX_DELAY_S: Final = 900.0
_ATTEMPTS: Final = 20


class AlertRequests:
    """The asking side: costs nothing for a detection that no rule is about."""

    def __init__(self, *, rules: AlertRules, queue: WorkQueue) -> None:
        self._rules = rules
        self._queue = queue

    def request(self, detection: Detection) -> bool:
        """Asks for an alert of a stored detection; False when no rule is about it. Asking twice alerts once."""
        if not self._rules.concerned(detection):
            return False
        send(self._queue, AlertRequest(schema=1, detection_id=detection.id))
        return True


def send(queue: WorkQueue, request: AlertRequest, *, delay_s: float = 0.0) -> None:
    """Puts a request into the alerts' queue."""
    queue.send(ALERT_QUEUE, request.model_dump_json(by_alias=True), delay_s=delay_s)


@dataclass(frozen=True, slots=True)
class AlertSettings:
    """How alerts are told.

    Attributes:
        retry_s: after the first failure; doubled with each further one, up to a quarter of an hour.
        give_up_s: after this the message goes to the poison queue, where it can be replayed.
        lease_s: longer than any channel takes; so long one that died keeps others from telling.
        photo_days, detection_days: retention, told in the mail.
    """

    retry_s: float
    give_up_s: float
    lease_s: float
    photo_days: int
    detection_days: int


class AlertService:
    """The telling side.

    Args:
        rules: who is reported, where and when.
        visits: what belongs to one visit.
        channels: whom to tell.
    """

    def __init__(
        self,
        *,
        rules: AlertRules,
        visits: VisitRules,
        channels: Sequence[AlertChannel],
        alerts: AlertRepository,
        detections: DetectionRepository,
        blobs: BlobStore,
        jobs: JobRepository,
        queue: WorkQueue,
        settings: AlertSettings,
        clock: Clock,
    ) -> None:
        self._rules = rules
        self._visits = visits
        self._channels = channels
        self._alerts = alerts
        self._detections = detections
        self._blobs = blobs
        self._jobs = jobs
        self._queue = queue
        self._settings = settings
        self._clock = clock

    def run(self, request: AlertRequest) -> None:
        """Tells of a detection when it is news, to every channel that was not told yet.

        What a channel refuses is asked for again, later, in a message of its own: the host's five attempts are over
        within a minute, a mail server's greylisting is not.

        Raises:
            StoreUnavailable: a store does not answer; or a channel has refused for `give_up_s`, so that the host
                repeats it a last few times and then puts the message where an operator finds it.
        """
        detection = self._detections.get(request.detection_id)
        if detection is None:
            logger.warning("the detection is gone", extra={"action": "alert.gone"})
            return
        alert = self._alerts.get_alert(request.alert_id) if request.alert_id else self._alert_of(detection)
        if alert is None or not self._untold(alert):
            return
        request = request.model_copy(update={"alert_id": alert.id})
        name, owner = f"alert-{alert.id}", uuid.uuid4().hex
        if not self._jobs.acquire_lease(name, owner, ttl_s=self._settings.lease_s):
            # Somebody is at it, or has died at it: look again.
            send(self._queue, request, delay_s=self._settings.retry_s)
            return
        try:
            done = self._tell(alert.id, detection, name, owner)
        finally:
            self._jobs.release_lease(name, owner)
        if not done:
            self._repeat(request, alert)

    def _alert_of(self, detection: Detection) -> Alert | None:
        """The detection's alert, made if it is news; None when the visit is told of by another, or not wanted now."""
        if not self._rules.concerned(detection):
            return None
        visit_id = self._visit_of(detection)
        if self._alerts.get_alert(visit_id) is None:
            wanting = self._rules.wanting(detection)
            if not wanting:
                return None
            made = Alert(visit_id, detection.id, detection.site, detection.camera, wanting, self._clock())
            if self._alerts.add_alert(made):
                logger.info("alert made", extra={"action": "alert.made", "alert": visit_id, "detection": detection.id})
        alert = self._alerts.get_alert(visit_id)
        return alert if alert is not None and alert.detection_id == detection.id else None

    def _visit_of(self, detection: Detection) -> str:
        """Adds the detection to its visit; the visit's id."""
        place = place_of(detection)
        ttl_s = self._visits.gap_s + KEPT_AFTER.total_seconds()
        for _ in range(_ATTEMPTS):
            kept = self._alerts.visits(place)
            visit, visits = self._visits.joined(kept.visits, detection, self._clock())
            if self._alerts.keep_visits(place, visits, version=kept.version, ttl_s=ttl_s):
                return visit.id
            time.sleep(random.uniform(0, 0.05))  # noqa: S311  # so that workers on one camera do not march in step
        raise StoreUnavailable("a camera's visits change faster than one can be added")

    def _untold(self, alert: Alert) -> list[AlertChannel]:
        return [channel for channel in self._channels if not alert.sent_to(channel.name)]

    def _tell(self, alert_id: str, detection: Detection, lease: str, owner: str) -> bool:
        """Tells every channel that was not told yet; True when none is left. One channel's failure is its own."""
        alert = self._alerts.get_alert(alert_id)  # read again: under the lease it is nobody else's
        if alert is None:
            return True
        notice = self._notice(alert, detection)
        done = True
        for channel in self._untold(alert):
            self._jobs.acquire_lease(lease, owner, ttl_s=self._settings.lease_s)
            attempts = alert.deliveries.get(channel.name, Delivery()).attempts + 1
            delivery = self._told(channel, notice, attempts)
            self._alerts.record_delivery(alert.id, channel.name, delivery)
            done = done and delivery.sent_at is not None
        return done

    def _told(self, channel: AlertChannel, notice: Notice, attempts: int) -> Delivery:
        facts = {"alert": notice.alert_id, "detection": notice.detection_id, "channel": channel.name.split(":")[0]}
        try:
            channel.send(notice)
        except (StoreUnavailable, ConfigurationError) as error:
            logger.warning("alert not delivered: %s", error, extra={"action": "alert.failed", **facts})
            return Delivery(attempts, None, str(error))
        logger.info("alert delivered", extra={"action": "alert.sent", **facts})
        return Delivery(attempts, self._clock())

    def _repeat(self, request: AlertRequest, alert: Alert) -> None:
        if self._clock() - alert.created_at > timedelta(seconds=self._settings.give_up_s):
            raise StoreUnavailable(
                "an alert was refused for too long; `facerelay alerts list` says why, and once it is mended "
                "`facerelay poison replay` sends it"
            )
        delay_s = min(self._settings.retry_s * 2.0 ** min(request.attempt, 30), MAX_DELAY_S)
        send(self._queue, request.model_copy(update={"attempt": request.attempt + 1}), delay_s=delay_s)

    def _notice(self, alert: Alert, detection: Detection) -> Notice:
        return Notice(
            alert_id=alert.id,
            detection_id=detection.id,
            person_id=detection.person_id,
            similarity=detection.similarity,
            site=detection.site,
            camera=detection.camera,
            location=detection.location,
            captured_at=detection.captured_at,
            captured_local=self._rules.local_time(detection.site, detection.captured_at),
            rules=alert.rules,
            photo=self._photo(detection),
            photo_days=self._settings.photo_days,
            detection_days=self._settings.detection_days,
        )

    def _photo(self, detection: Detection) -> bytes | None:
        if detection.candidate is None:
            return None
        try:
            return as_mailed(self._blobs.get(CANDIDATES, detection.candidate).data)
        except (NotFound, InvalidImage):
            return None


def as_mailed(photo: bytes) -> bytes:
    """A crop as every mail program shows it: WebP becomes JPEG, the rest stays as it is.

    Raises:
        InvalidImage: WebP that cannot be decoded.
    """
    if photo[:4] != b"RIFF" or photo[8:12] != b"WEBP":
        return photo
    from shared.vision.decode import ImageLimits, decode_image, encode_jpeg

    return encode_jpeg(decode_image(photo, ImageLimits()), 90)
