"""The composition root: the only place that chooses adapters, and the only reader of settings.

`build` is cheap: nothing here imports OpenCV, onnxruntime or an SDK before something needs it, since the platform gives
a worker ten seconds to import the app. Models are loaded once, behind a lock, by whoever asks first.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared import telemetry
from shared.domain import utc_now
from shared.errors import ConfigurationError, FacerelayError
from shared.model_registry import ModelRegistry
from shared.ports import (
    AlertChannel,
    AlertRepository,
    AuditRepository,
    BlobStore,
    Clock,
    DetectionRepository,
    JobRepository,
    Notifier,
    PersonRepository,
    TokenRepository,
    UploadGrants,
    WorkQueue,
)
from shared.serving import LiveModel, Packs, ruling
from shared.settings import BlobTriggerSource, Settings, StoreSettings, TriggerSettings
from shared.vector_search import VectorSearch

if TYPE_CHECKING:
    from shared.adapters.azure.access import AzureAccess
    from shared.adapters.local import LocalStore
    from shared.adapters.webhook import WebhookNotifier
    from shared.alert_rules import AlertRules
    from shared.vision.assets import EmbedderTable
    from shared.vision.detectors import Pack

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stores:
    """One adapter for each port that keeps something."""

    blobs: BlobStore
    queue: WorkQueue
    people: PersonRepository
    detections: DetectionRepository
    jobs: JobRepository
    tokens: TokenRepository
    audit: AuditRepository
    alerts: AlertRepository


def open_stores(settings: StoreSettings) -> Stores:
    """The adapters of the backend that the settings name.

    Raises:
        ConfigurationError: the backend's settings are missing, or hold a secret where an identity is due.
        StoreUnavailable: an emulator does not answer.
    """
    return _azure_stores(settings) if settings.backend == "azure" else _local_stores(settings)


def open_work_queue(settings: StoreSettings) -> WorkQueue:
    """Queues alone: all that an operator of the poison queues needs. Raises as `open_stores`."""
    return open_stores(settings).queue if settings.backend != "azure" else _azure_access(settings).work_queue()


def blob_trigger_source() -> BlobTriggerSource:
    """Who tells of new crops: read when the functions are imported, since a decorator has to know."""
    return TriggerSettings().blob_trigger_source


def open_blob_store(settings: StoreSettings, *, repeats: bool = True) -> BlobStore:
    """Blobs alone. Raises as `open_stores`. `repeats`: False for a caller that repeats by itself, as the gateway."""
    if settings.backend != "azure":
        return open_stores(settings).blobs
    return _azure_blobs(_azure_access(settings) if repeats else _azure_access(settings).single_attempt())


def open_upload_store(settings: StoreSettings, service_url: str, token: str) -> BlobStore:
    """For a gateway with a device token: candidates can be created, by grants or (locally) at the service itself.

    Raises:
        ConfigurationError: an address that the token must not be sent to.
    """
    from shared.adapters.intake import open_service_store

    return open_service_store(service_url, token, **_azure_access(settings).single_attempt().storage_options())


def _local_stores(settings: StoreSettings) -> Stores:
    from shared.adapters.local import LocalStore

    return stores_over(LocalStore(settings.data_dir))


def stores_over(store: LocalStore) -> Stores:
    """Every adapter of the embedded backend, over one open store."""
    from shared.adapters.local import (
        LocalAlertRepository,
        LocalAuditRepository,
        LocalBlobStore,
        LocalDetectionRepository,
        LocalJobRepository,
        LocalPersonRepository,
        LocalTokenRepository,
        LocalWorkQueue,
    )

    return Stores(
        LocalBlobStore(store),
        LocalWorkQueue(store),
        LocalPersonRepository(store),
        LocalDetectionRepository(store),
        LocalJobRepository(store),
        LocalTokenRepository(store),
        LocalAuditRepository(store),
        LocalAlertRepository(store),
    )


def _azure_stores(settings: StoreSettings) -> Stores:
    from shared.adapters.azure.alerts import CosmosAlertRepository
    from shared.adapters.azure.audit import CosmosAuditRepository
    from shared.adapters.azure.detections import CosmosDetectionRepository
    from shared.adapters.azure.jobs import CosmosJobRepository
    from shared.adapters.azure.people import CosmosPersonRepository
    from shared.adapters.azure.tokens import CosmosTokenRepository

    access = _azure_access(settings)
    database = access.cosmos()
    queue = access.work_queue()
    if access.emulated_cosmos:
        database.provision()
    return Stores(
        _azure_blobs(access),
        queue,
        CosmosPersonRepository(database),
        CosmosDetectionRepository(database),
        CosmosJobRepository(database),
        CosmosTokenRepository(database),
        CosmosAuditRepository(database),
        CosmosAlertRepository(database),
    )


def open_vector_search(settings: Settings) -> VectorSearch:
    """What searches models of more than `vector_search_above` people. Raises as `open_stores`."""
    if not settings.vector_search_above:
        return VectorSearch()
    if settings.backend != "azure":
        raise ConfigurationError(
            "FACERELAY_VECTOR_SEARCH_ABOVE is for the backend azure: only Cosmos DB searches vectors"
        )
    from shared.adapters.azure.vectors import CosmosVectors

    access = _azure_access(settings)
    database = access.cosmos()
    if access.emulated_cosmos:
        database.provision(vectors=True)
    return VectorSearch(CosmosVectors(database), above=settings.vector_search_above)


def _azure_blobs(access: AzureAccess) -> BlobStore:
    blobs = access.blob_store()
    # In the cloud, containers are deployed; emulators begin empty.
    if access.emulated_storage:
        blobs.provision()
    return blobs


def _azure_access(settings: StoreSettings) -> AzureAccess:
    from shared.adapters.azure.access import AzureAccess

    return AzureAccess(
        blob_url=settings.storage_blob_url,
        queue_url=settings.storage_queue_url,
        connection_string=settings.storage_connection_string.get_secret_value(),
        cosmos_url=settings.cosmos_url,
        cosmos_database=settings.cosmos_database,
        cosmos_key=settings.cosmos_key.get_secret_value(),
        client_id=settings.managed_identity_client_id,
    )


INSIGHTS = "APPLICATIONINSIGHTS_CONNECTION_STRING"
"""The platform's own name for where telemetry goes; not a setting of ours."""


def start_telemetry(settings: StoreSettings, service: str, *, prometheus: bool = False) -> Callable[[], bytes] | None:
    """Sends spans and metrics to Application Insights when the environment names one, and collects for Prometheus.

    With neither, nothing is imported and nothing is measured. Once in a process.

    Args:
        service: name of this program among others, such as `facerelay-edge`.

    Returns:
        Gives the metrics in Prometheus' text format; None without Prometheus.
    """
    insights = os.environ.get(INSIGHTS, "")
    if not insights and not prometheus:
        return None
    from shared.adapters.telemetry import start

    return start(service, insights=insights, client_id=settings.managed_identity_client_id, prometheus=prometheus)


def queue_depths(queue: WorkQueue, names: Iterable[str]) -> Iterator[tuple[float, dict[str, str]]]:
    """How many messages each queue holds; those that do not answer are left out."""
    for name in names:
        try:
            yield queue.length(name), {"queue": name}
        except FacerelayError as error:
            logger.info("queue not measured", extra={"action": "telemetry.queue", "queue": name, "code": error.code})


def open_webhook(settings: Settings) -> WebhookNotifier:
    """The settings' webhook. Raises: ConfigurationError when it cannot be as it is set."""
    from shared.adapters.webhook import WebhookNotifier

    secret = settings.webhook_secret.get_secret_value()
    return WebhookNotifier(settings.webhook_url, timeout_s=settings.webhook_timeout_s, secret=secret)


def open_alert_channels(settings: Settings) -> list[AlertChannel]:
    """Everybody whom the settings want told: one channel for each address, one for the webhook.

    Raises:
        ConfigurationError: nobody, or only half of what is needed to reach somebody.
    """
    from shared.adapters.smtp import SmtpServer, email_channels
    from shared.adapters.webhook import WebhookAlerts

    password = settings.smtp_password.get_secret_value()
    server = SmtpServer(
        settings.smtp_host,
        settings.smtp_port,
        settings.smtp_security,
        settings.smtp_user,
        password,
        settings.smtp_timeout_s,
    )
    channels: list[AlertChannel] = [*email_channels(server, sender=settings.alert_from, recipients=settings.alert_to)]
    if settings.webhook_url:
        channels.append(WebhookAlerts(open_webhook(settings)))
    if not channels:
        raise ConfigurationError("nobody is told of alerts: set FACERELAY_ALERT_TO or FACERELAY_WEBHOOK_URL")
    return channels


def worker_count(settings: StoreSettings) -> int:
    """How many images are worked on at a time; one more than cores computes while another waits for Python's lock."""
    return settings.inference_threads or (os.cpu_count() or 1) + 1


class Runtime:
    """Everything that services are made from.

    Args:
        settings: read once, here.
        stores: the settings' backend, or test doubles.
        pack: what there is to find and embed faces with: a loaded pack or several, the initial one first, or test
            doubles; those of the settings, loaded on first use, when None.
        notifier: the settings' webhook, or a test double.
        clock: gives UTC-aware times.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        stores: Stores | None = None,
        pack: Pack | Sequence[Pack] | None = None,
        notifier: Notifier | None = None,
        clock: Clock = utc_now,
    ) -> None:
        self.settings = settings
        self.clock = clock
        self.stores = stores or open_stores(settings)
        self.registry = ModelRegistry(self.stores.blobs, clock, open_vector_search(settings))
        self.slot = threading.BoundedSemaphore(worker_count(settings))
        self.metrics_page: Callable[[], bytes] | None = None
        self._notifier = notifier
        self._alert_rules: AlertRules | None = None
        given = () if pack is None else tuple(pack) if isinstance(pack, Sequence) else (pack,)
        self.packs = Packs(
            settings.pack_settings,
            cache=settings.model_cache,
            min_face_px=settings.recognize_min_face_px,
            loaded=given,
        )
        self._live_model: LiveModel | None = None
        self._upload_grants: UploadGrants | None = None
        self._lock = threading.RLock()

    def start_telemetry(self, service: str, *, queues: Iterable[str], prometheus: bool = False) -> None:
        """`start_telemetry` for a process that runs the functions: it watches their queues as well."""
        self.metrics_page = start_telemetry(self.settings, service, prometheus=prometheus)
        names = sorted(queues)
        telemetry.QUEUE_DEPTH.watch(lambda: queue_depths(self.stores.queue, names))

    def ruling(self) -> str:
        """Id of the embedder that the store says answers now."""
        return ruling(self.registry, self.packs)

    @property
    def pack(self) -> Pack:
        """Detector and embedder that the store says answer now.

        Raises:
            ModelUnavailable: the weights are not in the model cache.
            IntegrityError: they do not match their hashes.
        """
        return self.packs.load(self.ruling())

    def check_weights(self) -> str:
        """Name of the pack that answers here, when its files are there and sound, or it is loaded; loads nothing.

        Raises:
            ModelUnavailable, IntegrityError: as `pack`.
        """
        embedder_id = self.live_model().embedder_id
        self.packs.check(embedder_id)
        return self.packs.name(embedder_id)

    @property
    def notifier(self) -> Notifier:
        """Where `send-results` sends."""
        with self._lock:
            if self._notifier is None:
                self._notifier = open_webhook(self.settings)
            return self._notifier

    @property
    def upload_grants(self) -> UploadGrants:
        """What lets gateways write candidates.

        Raises:
            ConfigurationError: the local backend, which has no addresses to write to.
        """
        with self._lock:
            if self._upload_grants is None:
                if self.settings.backend != "azure":
                    raise ConfigurationError(
                        "the local backend gives no upload addresses; deliver crops to /api/v1/candidates instead"
                    )
                self._upload_grants = _azure_access(self.settings).upload_grants()
            return self._upload_grants

    @property
    def alert_rules(self) -> AlertRules:
        """Who is reported.

        Raises:
            ConfigurationError: the rules cannot be read; or there are some, and nobody to tell.
        """
        with self._lock:
            if self._alert_rules is None:
                from shared.alert_rules import load_rules

                rules = load_rules(self.settings.alert_rules)
                if rules.rule:
                    open_alert_channels(self.settings)
                self._alert_rules = rules
            return self._alert_rules

    @property
    def embedder_table(self) -> EmbedderTable:
        """What is known, without loading it, of the embedder that the store says answers now.

        Raises:
            ConfigurationError: it is of no pack that the settings name.
        """
        return self.packs.table(self.ruling())

    @property
    def live_model(self) -> LiveModel:
        """The matcher that answers now."""
        with self._lock:
            if self._live_model is None:
                self._live_model = LiveModel(self.registry, self.packs)
                self._live_model.poll(self.settings.model_poll_s)
            return self._live_model


def build(settings: Settings | None = None, **doubles: Any) -> Runtime:
    """The runtime of this process; `doubles` replace parts of it, see `Runtime`."""
    return Runtime(settings or Settings(), **doubles)
