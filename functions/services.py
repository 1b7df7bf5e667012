"""The services of this process, made once from the runtime, on first use.

Importing this module imports no model code: each service's module is imported when the service is first asked for.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TypeVar

from functions.gates import enrolment_gate, recognition_gate
from shared.bootstrap import Runtime, build
from shared.domain import gallery_hash
from shared.errors import FacerelayError, NotFound, TransientError
from shared.messages import OPERATED_QUEUES, TRAIN_QUEUE

if TYPE_CHECKING:
    from functions.access import Audit, Authenticator, RateLimits
    from functions.admin.service import TokenService
    from functions.enroll.service import EnrollService
    from functions.group.parts import GroupParts
    from functions.query.health import HealthService
    from functions.query.service import QueryService
    from functions.recognize.alerts import AlertRequests, AlertService
    from functions.recognize.service import DetectionService, Recognizer
    from functions.train.embed import Reembedder
    from functions.train.fitting import FitSettings, Fitter
    from functions.train.gallery import GalleryService
    from functions.train.migration import MigrationRequests
    from functions.train.migration_work import MigrationWork
    from functions.train.service import TrainRequests, TrainService
    from shared.serving import Serving
    from shared.vision.decode import ImageLimits
    from shared.vision.detectors import Pack

logger = logging.getLogger(__name__)

Service = TypeVar("Service")


class Services:
    """Every service over one runtime."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self._made: dict[str, Any] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def _once(self, name: str, make: Callable[[], Service]) -> Service:
        # A lock for each name: while models load for one service, every request still needs others, on the event loop.
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._made:
                self._made[name] = make()
            made: Service = self._made[name]
            return made

    def image_limits(self) -> ImageLimits:
        from shared.vision.decode import ImageLimits

        settings = self.runtime.settings
        return ImageLimits(settings.max_image_bytes, settings.max_image_pixels, settings.max_image_frames)

    def recognizer(self) -> Recognizer:
        return self._once("recognizer", lambda: self._recognizer(self.runtime.live_model.serving))

    def _recognizer(self, serving: Callable[[], Serving]) -> Recognizer:
        from functions.recognize.service import Recognizer

        settings = self.runtime.settings
        return Recognizer(
            serving=serving,
            gate=recognition_gate(settings),
            limits=self.image_limits(),
            max_faces=settings.max_faces,
            slot=self.runtime.slot,
        )

    def detections(self) -> DetectionService:
        from functions.recognize.service import DetectionService

        runtime = self.runtime
        return self._once(
            "detections",
            lambda: DetectionService(
                recognizer=self.recognizer(),
                detections=runtime.stores.detections,
                store_unknown_embeddings=runtime.settings.store_unknown_embeddings,
                clock=runtime.clock,
                announce=self.alert_requests().request,
            ),
        )

    def alert_requests(self) -> AlertRequests:
        from functions.recognize.alerts import AlertRequests

        runtime = self.runtime
        return self._once(
            "alert_requests", lambda: AlertRequests(rules=runtime.alert_rules, queue=runtime.stores.queue)
        )

    def alerts(self) -> AlertService:
        from functions.recognize.alerts import AlertService, AlertSettings
        from shared.alerts import VisitRules
        from shared.bootstrap import open_alert_channels

        runtime, stores, settings = self.runtime, self.runtime.stores, self.runtime.settings
        same_stranger = {} if settings.visit_similarity else runtime.packs.default_thresholds()
        return self._once(
            "alerts",
            lambda: AlertService(
                rules=runtime.alert_rules,
                visits=VisitRules(settings.visit_gap_s, settings.visit_similarity, same_stranger),
                channels=open_alert_channels(settings),
                alerts=stores.alerts,
                detections=stores.detections,
                blobs=stores.blobs,
                jobs=stores.jobs,
                queue=stores.queue,
                settings=AlertSettings(
                    retry_s=settings.alert_retry_s,
                    give_up_s=settings.alert_give_up_s,
                    # A webhook is tried three times, a mail server asked for some eight answers, mostly at once.
                    lease_s=6 * max(settings.smtp_timeout_s, settings.webhook_timeout_s) + 5,
                    photo_days=settings.candidate_retention_days,
                    detection_days=settings.detection_retention_days,
                ),
                clock=runtime.clock,
            ),
        )

    def follow_model(self) -> None:
        """Takes up what was just published, for callers who waited for it; other processes notice by polling."""
        with suppress(TransientError):  # logged where it was raised; polling tries again
            self.runtime.live_model.refresh()

    def enroll(self) -> EnrollService:
        from functions.enroll.service import EnrollService

        runtime, settings = self.runtime, self.runtime.settings
        return self._once(
            "enroll",
            lambda: EnrollService(
                people=runtime.stores.people,
                blobs=runtime.stores.blobs,
                registry=runtime.registry,
                packs=self.packs_to_enrol,
                gate=enrolment_gate(settings),
                limits=self.image_limits(),
                slot=runtime.slot,
                clock=runtime.clock,
                forget=lambda person_id: self.groups().naming.forget(person_id),
            ),
        )

    def packs_to_enrol(self) -> Sequence[Pack]:
        """The pack that answers, then, while it is being changed, the other, where this process has its weights.

        Raises:
            ModelUnavailable, IntegrityError: the weights of the first are not there, or not the right ones.
        """
        runtime = self.runtime
        rules, migration = runtime.ruling(), runtime.registry.migrations.current()
        packs = [runtime.packs.load(rules)]
        if migration is not None and migration.keeps_both:
            other = migration.source if rules == migration.target else migration.target
            try:
                packs.append(runtime.packs.load(other))
            except FacerelayError as error:  # the migration sees to what is missing
                logger.error(
                    "enrolling with one embedder: %s", error, extra={"action": "enroll.one", "code": error.code}
                )
        return packs

    def migration_requests(self) -> MigrationRequests:
        from functions.train.migration import MigrationRequests

        runtime = self.runtime
        return self._once(
            "migration_requests",
            lambda: MigrationRequests(
                registry=runtime.registry, packs=runtime.packs, requests=self.train_requests(), clock=runtime.clock
            ),
        )

    def groups(self) -> GroupParts:
        from functions.group.parts import group_parts

        return self._once("groups", lambda: group_parts(self))

    def train_requests(self) -> TrainRequests:
        from functions.train.service import TrainRequests

        stores = self.runtime.stores
        return self._once(
            "train_requests",
            lambda: TrainRequests(jobs=stores.jobs, queue=stores.queue, clock=self.runtime.clock),
        )

    def train(self) -> TrainService:
        from functions.train.embed import Reembedder
        from functions.train.service import TrainService

        runtime, stores = self.runtime, self.runtime.stores

        def make() -> TrainService:
            fitter = self._fitter()
            reembedder = Reembedder(
                people=stores.people,
                blobs=stores.blobs,
                limits=self.image_limits(),
                slot=runtime.slot,
                clock=runtime.clock,
            )
            return TrainService(
                people=stores.people,
                jobs=stores.jobs,
                queue=stores.queue,
                registry=runtime.registry,
                packs=runtime.packs,
                reembedder=reembedder,
                fitter=fitter,
                migrate=self._migration_work(reembedder, fitter).advance,
                lease_ttl_s=runtime.settings.lease_ttl_s,
                clock=runtime.clock,
            )

        return self._once("train", make)

    def _fitter(self) -> Fitter:
        from functions.train.fitting import FitSettings, Fitter

        runtime = self.runtime

        def settings(embedder_id: str) -> FitSettings:
            packs = runtime.packs
            table, set_to = packs.table(embedder_id), runtime.settings
            return FitSettings(
                table.model_dump(),
                packs.operating(embedder_id),
                set_to.target_fpir,
                table.best_shot_fpir if set_to.best_shot_fpir is None else set_to.best_shot_fpir,
                set_to.visit_fpir,
            )

        stores = runtime.stores
        return Fitter(people=stores.people, settings=settings, clock=runtime.clock, detections=stores.detections)

    def _migration_work(self, reembedder: Reembedder, fitter: Fitter) -> MigrationWork:
        from functions.train.migration_work import MigrationWork
        from functions.train.shadow import ShadowComparison

        runtime, stores = self.runtime, self.runtime.stores

        def judge(pair: Serving, crop: bytes) -> str | None:
            found = self._recognizer(lambda: pair).recognize_crop(crop)
            return None if found is None or found.rejected else found.identity.person_id

        return MigrationWork(
            registry=runtime.registry,
            packs=runtime.packs,
            people=stores.people,
            reembedder=reembedder,
            fitter=fitter,
            compare=ShadowComparison(blobs=stores.blobs, people=stores.people, fitter=fitter, judge=judge),
            clock=runtime.clock,
        )

    def gallery(self) -> GalleryService:
        from functions.train.gallery import GalleryService
        from functions.train.hygiene import Limits

        stores, table = self.runtime.stores, self.runtime.embedder_table
        return self._once(
            f"gallery of {table.embedder_id}",  # the one that answers now; and one at a time may check it
            lambda: GalleryService(
                people=stores.people,
                blobs=stores.blobs,
                embedder_id=table.embedder_id,
                limits=Limits.of(table.model_dump()),
            ),
        )

    def authenticator(self) -> Authenticator:
        from functions.access import Authenticator

        runtime, settings = self.runtime, self.runtime.settings
        return self._once(
            "authenticator",
            lambda: Authenticator(
                runtime.stores.tokens, required=settings.auth, cache_s=settings.token_cache_s, clock=runtime.clock
            ),
        )

    def rate_limits(self) -> RateLimits:
        from functions.access import RateLimits

        settings = self.runtime.settings
        return self._once(
            "rate_limits",
            lambda: RateLimits(per_caller=settings.rate_limit, per_address=settings.rate_limit_anonymous),
        )

    def audit(self) -> Audit:
        from functions.access import Audit

        runtime = self.runtime
        return self._once("audit", lambda: Audit(runtime.stores.audit, runtime.clock))

    def tokens(self) -> TokenService:
        from functions.admin.service import TokenService

        runtime = self.runtime
        return self._once("tokens", lambda: TokenService(runtime.stores.tokens, runtime.clock))

    def health(self) -> HealthService:
        """What this process needs to do its work."""
        from functions.query.health import HealthService

        runtime, stores = self.runtime, self.runtime.stores

        def blobs() -> str:
            runtime.registry.pointer()
            return ""

        def documents() -> str:
            with suppress(NotFound):
                stores.jobs.get_job("health")
            return ""

        def queues() -> str:
            stores.queue.peek(TRAIN_QUEUE, max_messages=1)
            return ""

        return self._once(
            "health",
            lambda: HealthService(
                {
                    "weights": runtime.check_weights,
                    "model": lambda: runtime.live_model().model_id,
                    "blobs": blobs,
                    "documents": documents,
                    "queues": queues,
                }
            ),
        )

    def gallery_health(self) -> HealthService:
        """Whether the live model knows the gallery as it is; rarely asked, since it reads every template's key."""
        from functions.query.health import HealthService

        return self._once("gallery_health", lambda: HealthService({"gallery": self._gallery}, fresh_s=60.0))

    def _gallery(self) -> str:
        runtime = self.runtime
        keys = runtime.stores.people.template_keys(runtime.ruling())
        pointer = runtime.registry.pointer()
        known = runtime.registry.manifest(pointer).gallery if pointer else gallery_hash([])
        return "current" if known == gallery_hash(keys) else "changed"

    def query(self) -> QueryService:
        from functions.query.service import QueryService

        stores = self.runtime.stores
        return self._once(
            "query",
            lambda: QueryService(people=stores.people, detections=stores.detections, embedder_id=self.runtime.ruling),
        )


_services: Services | None = None
_lock = threading.Lock()


def services() -> Services:
    """The process's services, built from the environment on first use."""
    global _services
    with _lock:
        if _services is None:
            runtime = build()
            runtime.start_telemetry("facerelay-functions", queues=OPERATED_QUEUES)
            _services = Services(runtime)
        return _services


def use_services(replacement: Services | None) -> None:
    """Puts other services in the process's place (the embedded host's, or a test's); None forgets them."""
    global _services
    with _lock:
        _services = replacement
