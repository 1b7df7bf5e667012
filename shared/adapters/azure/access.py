"""Where the services are and who we are: the one place that makes SDK clients.

In the cloud there are addresses and a managed identity, and no secrets at all. Connection strings and keys are taken
for emulators on this machine only, so that none can ever end up in a deployment's settings.
"""

from __future__ import annotations

import ipaddress
import logging
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from shared.adapters.azure.patience import DEFAULT_PATIENCE, SINGLE_ATTEMPT, Patience
from shared.errors import ConfigurationError

if TYPE_CHECKING:
    from azure.core.credentials import TokenCredential
    from azure.core.pipeline import PipelineRequest
    from azure.cosmos import CosmosClient
    from azure.storage.blob import BlobServiceClient
    from azure.storage.queue import QueueServiceClient

    from shared.adapters.azure.blobs import AzureBlobStore
    from shared.adapters.azure.cosmos import CosmosDatabase
    from shared.adapters.azure.grants import SasGrants
    from shared.adapters.azure.queues import AzureWorkQueue

_SDK_LOGGERS: Final = ("azure", "urllib3")
_USER_AGENT: Final = "facerelay"


@dataclass(frozen=True)
class AzureAccess:
    """Addresses, identity and time-outs of one deployment.

    Attributes:
        blob_url, queue_url: of the storage account, `https://….blob.core.windows.net` and `…queue…`.
        connection_string: of a storage emulator, with BlobEndpoint and QueueEndpoint, instead of the two.
        cosmos_url: of the Cosmos DB account, `https://….documents.azure.com`.
        cosmos_key: of a Cosmos DB emulator.
        client_id: of the user-assigned managed identity. Empty: whatever `DefaultAzureCredential` finds, such as the
            developer's own sign-in.
    """

    blob_url: str = ""
    queue_url: str = ""
    connection_string: str = field(default="", repr=False)
    cosmos_url: str = ""
    cosmos_database: str = "facerelay"
    cosmos_key: str = field(default="", repr=False)
    client_id: str = ""
    patience: Patience = DEFAULT_PATIENCE

    def __post_init__(self) -> None:
        # The SDKs log the address of every request, and with it names of people, at INFO.
        for name in _SDK_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)

    @property
    def emulated_storage(self) -> bool:
        """Whether the storage account is an emulator on this machine."""
        return bool(self.connection_string)

    @property
    def emulated_cosmos(self) -> bool:
        """Whether the Cosmos DB account is an emulator on this machine."""
        return is_loopback(self.cosmos_url)

    def single_attempt(self) -> AzureAccess:
        """The same, with SDKs that try once: for a caller that repeats by itself."""
        return replace(self, patience=SINGLE_ATTEMPT)

    def blob_store(self) -> AzureBlobStore:
        """Raises: ConfigurationError when the address is missing, or a secret is given for the cloud."""
        from shared.adapters.azure.blobs import AzureBlobStore

        return AzureBlobStore(self._blob_service())

    def upload_grants(self) -> SasGrants:
        """Raises: ConfigurationError, as for blobs."""
        from shared.adapters.azure.grants import SasGrants

        service = self._blob_service()
        # Of a connection string, which leads to an emulator; an identity has no key.
        return SasGrants(service, account_key=getattr(service.credential, "account_key", None))

    def work_queue(self) -> AzureWorkQueue:
        """Raises: ConfigurationError, as for blobs."""
        from shared.adapters.azure.queues import AzureWorkQueue

        return AzureWorkQueue(self._queue_service())

    def cosmos(self) -> CosmosDatabase:
        """Connects at first use.

        Raises:
            ConfigurationError: the address is missing, or a key is given for the cloud.
        """
        from shared.adapters.azure.cosmos import CosmosDatabase

        url = _checked_url("cosmos_url", self.cosmos_url)
        if self.cosmos_key and not is_loopback(url):
            raise ConfigurationError("a Cosmos DB key is taken for an emulator on this machine only; use an identity")
        return CosmosDatabase(
            lambda: self._cosmos_client(url), self.cosmos_database, operation_s=self.patience.operation_s
        )

    def _blob_service(self) -> BlobServiceClient:
        from azure.storage.blob import BlobServiceClient

        if self.connection_string:
            checked = _checked_connection_string(self.connection_string)
            return BlobServiceClient.from_connection_string(checked, **self.storage_options())
        return BlobServiceClient(
            _checked_url("storage_blob_url", self.blob_url), credential=self._credential, **self.storage_options()
        )

    def _queue_service(self) -> QueueServiceClient:
        from azure.storage.queue import QueueServiceClient

        if self.connection_string:
            checked = _checked_connection_string(self.connection_string)
            return QueueServiceClient.from_connection_string(checked, **self.storage_options())
        return QueueServiceClient(
            _checked_url("storage_queue_url", self.queue_url), credential=self._credential, **self.storage_options()
        )

    def _cosmos_client(self, url: str) -> CosmosClient:
        from azure.cosmos import CosmosClient

        patience = self.patience
        return CosmosClient(
            url,
            self.cosmos_key or self._credential,
            connection_timeout=patience.connect_s,
            read_timeout=patience.read_s,
            retry_total=patience.retries,
            retry_throttle_total=3 * patience.retries,
            retry_throttle_backoff_max=patience.throttled_s,
            # An emulator names itself by an address that may not be the one that it was reached at.
            enable_endpoint_discovery=not is_loopback(url),
        )

    def storage_options(self) -> dict[str, Any]:
        """Time-outs and retries of a Storage client, and headers that are no longer than they need to be."""
        from azure.storage.blob import ExponentialRetry

        patience = self.patience
        retry = ExponentialRetry(
            initial_backoff=0,
            increment_base=patience.backoff_base_s,
            random_jitter_range=patience.jitter_s,
            retry_total=patience.retries,
        )
        return {
            "retry_policy": retry,
            "connection_timeout": patience.connect_s,
            "read_timeout": patience.read_s,
            "raw_request_hook": _spare_headers,
        }

    @cached_property
    def _credential(self) -> TokenCredential:
        # One for all services: it keeps their tokens.
        from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

        if self.client_id:
            return ManagedIdentityCredential(client_id=self.client_id)
        return DefaultAzureCredential()


def is_loopback(url: str) -> bool:
    """Whether `url` leads to this machine.

    >>> is_loopback("http://127.0.0.1:10000/devstoreaccount1"), is_loopback("https://127.0.0.1.example.org")
    (True, False)
    """
    host = urlsplit(url).hostname or ""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def require_loopback(url: str) -> None:
    """Raises: ConfigurationError when `url` leads to another machine."""
    if not is_loopback(url):
        raise ConfigurationError("containers are made in emulators on this machine only; in the cloud, deploy them")


def _spare_headers(request: PipelineRequest[Any]) -> None:
    """Around a crop of 2 kB the headers are half of what goes over the line: those that serve nobody here are left out.

    The SDK tells its versions and the machine's in each request, and an id that the answer repeats; the answer has one
    of its own, `x-ms-request-id`, by which Azure's support finds a request. Called before the request is signed.
    """
    headers = request.http_request.headers
    headers["User-Agent"] = _USER_AGENT
    headers.pop("x-ms-client-request-id", None)


def _checked_url(setting: str, url: str) -> str:
    parts = urlsplit(url)
    if not parts.hostname:
        raise ConfigurationError(f"FACERELAY_{setting.upper()} must be the address of the service")
    if parts.scheme != "https" and not is_loopback(url):
        raise ConfigurationError(f"FACERELAY_{setting.upper()} must begin with https://")
    if parts.query or parts.username:
        raise ConfigurationError(f"FACERELAY_{setting.upper()} must hold neither a token nor a user")
    return url


def _checked_connection_string(text: str) -> str:
    pairs = dict(part.split("=", 1) for part in text.split(";") if "=" in part)
    fields = {key.strip().lower(): value.strip() for key, value in pairs.items()}
    if not all(is_loopback(fields.get(name, "")) for name in ("blobendpoint", "queueendpoint")):
        raise ConfigurationError(
            "a storage connection string is taken for an emulator on this machine only, with its BlobEndpoint and "
            "QueueEndpoint in it; in the cloud set the addresses and use an identity"
        )
    return text
