"""Which addresses and secrets the cloud adapters take, and how they are set up. No network."""

from __future__ import annotations

import logging
import subprocess
import sys

import pytest
from pydantic import SecretStr

from shared.adapters.azure.access import AzureAccess, is_loopback
from shared.adapters.azure.blobs import AzureBlobStore
from shared.adapters.azure.patience import Patience
from shared.bootstrap import open_blob_store, open_stores
from shared.errors import ConfigurationError
from shared.settings import Settings
from tests.servers import connection_string

CLOUD_STRING = "DefaultEndpointsProtocol=https;AccountName=acme;AccountKey=c2VjcmV0;EndpointSuffix=core.windows.net"
BLOB_URL = "https://acme.blob.core.windows.net"
QUEUE_URL = "https://acme.queue.core.windows.net"
COSMOS_URL = "https://acme.documents.azure.com"


@pytest.mark.parametrize(
    "text",
    [
        CLOUD_STRING,
        connection_string(1, 2).replace("QueueEndpoint=http://127.0.0.1", "QueueEndpoint=http://10.0.0.1"),
        connection_string(1, 2).replace("127.0.0.1", "127.0.0.1.example.org"),
        connection_string(1, 2).split("BlobEndpoint")[0],
        "BlobEndpoint=https://127.0.0.1/x",
        "nonsense",
    ],
)
def test_a_connection_string_that_leaves_this_machine_is_refused(text: str) -> None:
    access = AzureAccess(connection_string=text)
    for make in (access.blob_store, access.work_queue):
        with pytest.raises(ConfigurationError) as caught:
            make()
        assert "c2VjcmV0" not in str(caught.value)


def test_a_cosmos_key_that_leaves_this_machine_is_refused() -> None:
    with pytest.raises(ConfigurationError):
        AzureAccess(cosmos_url=COSMOS_URL, cosmos_key="c2VjcmV0").cosmos()


@pytest.mark.parametrize(
    "url", ["", "acme", "http://acme.blob.core.windows.net", f"{BLOB_URL}/?sv=1&sig=x", "https://me:secret@acme.org"]
)
def test_an_address_is_https_and_holds_no_secret(url: str) -> None:
    access = AzureAccess(blob_url=url, queue_url=url, cosmos_url=url)
    for make in (access.blob_store, access.work_queue, access.cosmos):
        with pytest.raises(ConfigurationError):
            make()


def test_in_the_cloud_an_identity_signs_in() -> None:
    from azure.identity import DefaultAzureCredential, ManagedIdentityCredential

    access = AzureAccess(blob_url=BLOB_URL, queue_url=QUEUE_URL, cosmos_url=COSMOS_URL, client_id="1-2-3")
    for made in (access.blob_store(), access.work_queue()):
        assert isinstance(made._service.credential, ManagedIdentityCredential)
        made.close()
    access.cosmos()  # connects at first use only
    assert isinstance(AzureAccess(blob_url=BLOB_URL)._credential, DefaultAzureCredential)


def test_containers_are_not_made_in_the_cloud() -> None:
    store = AzureAccess(blob_url=BLOB_URL, client_id="1-2-3").blob_store()
    with pytest.raises(ConfigurationError):
        store.provision()
    store.close()


def test_secrets_are_not_shown() -> None:
    access = AzureAccess(connection_string=CLOUD_STRING, cosmos_key="c2VjcmV0")
    settings = Settings(storage_connection_string=SecretStr(CLOUD_STRING), cosmos_key=SecretStr("c2VjcmV0"))
    assert "c2VjcmV0" not in repr(access) + repr(settings) + str(settings)


@pytest.mark.parametrize("logger", ["azure.core.pipeline.policies.http_logging_policy", "azure.cosmos", "urllib3"])
def test_the_sdks_do_not_log_addresses_of_requests(logger: str) -> None:
    AzureAccess()
    assert not logging.getLogger(logger).isEnabledFor(logging.INFO)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:1", True),
        ("http://127.9.9.9", True),
        ("http://[::1]:8081/", True),
        ("http://localhost:1", True),
        ("http://localhost.example.org", False),
        ("http://0.0.0.0", False),
        ("http://169.254.169.254", False),
        ("127.0.0.1", False),
        ("", False),
    ],
)
def test_loopback_is_this_machine_only(url: str, expected: bool) -> None:
    assert is_loopback(url) is expected


def test_missing_addresses_are_named() -> None:
    with pytest.raises(ConfigurationError, match="FACERELAY_STORAGE_BLOB_URL"):
        open_blob_store(Settings(backend="azure"))
    with pytest.raises(ConfigurationError, match="FACERELAY_COSMOS_URL"):
        open_stores(Settings(backend="azure"))


def test_a_gateway_needs_the_address_of_blobs_alone() -> None:
    store = open_blob_store(Settings(backend="azure", storage_blob_url=BLOB_URL, managed_identity_client_id="1-2-3"))
    assert isinstance(store, AzureBlobStore)
    store.close()


def test_a_gateway_does_not_load_the_sdk_of_documents() -> None:
    program = (
        "import sys; from shared.adapters.azure.access import AzureAccess;"
        "assert not [name for name in sys.modules if name.startswith('azure.')];"
        f"AzureAccess(blob_url={BLOB_URL!r}, client_id='1').blob_store();"
        "assert 'azure.storage.blob' in sys.modules and 'azure.cosmos' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_the_waits_are_bounded_as_the_adr_says() -> None:
    assert Patience().worst_case_storage_s == 69
    assert Patience().worst_case_cosmos_s == 43
    # A request over HTTP is cut at 230 s, a queue message must be renewed within its 10 s by the host itself.
    assert Patience().worst_case_storage_s + Patience().worst_case_cosmos_s < 230
