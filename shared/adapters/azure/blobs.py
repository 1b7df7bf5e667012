"""Blobs in Azure Blob Storage."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from azure.core import MatchConditions
from azure.storage.blob import BlobClient, BlobServiceClient, ContentSettings, FilteredBlob
from azure.storage.blob import BlobProperties as ServiceProperties

from shared.adapters.azure.access import require_loopback
from shared.adapters.azure.storage_errors import translated
from shared.adapters.naming import check_container, check_metadata, check_name, check_tags
from shared.domain import BLOB_CONTAINERS
from shared.errors import InvalidInput, NotFound, PreconditionFailed, StoreUnavailable
from shared.ports import Blob, BlobProperties

WRITE_ID: Final = "facerelay_write"
"""Metadata key of conditional writes, by which a write that was repeated knows its own first attempt. Not shown."""

_PAGE: Final = 1_000
_READ_ATTEMPTS: Final = 20


class AzureBlobStore:
    """`ports.BlobStore` in one storage account.

    The containers are deployed, not made here. ETags are kept in the quoted form that conditions take.

    Args:
        service: set up with credential, time-outs and retries, see `access.AzureAccess`.
    """

    def __init__(self, service: BlobServiceClient) -> None:
        self._service = service

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
        blob = self._client(container, check_name(name))
        sent = check_metadata(metadata or {})
        checked_tags = check_tags(tags or {})
        write_id = uuid.uuid4().hex if if_absent or if_match is not None else None
        if write_id is not None:
            sent[WRITE_ID] = write_id
        try:
            with translated("writing a blob"):
                result = blob.upload_blob(
                    data,
                    overwrite=not if_absent,
                    metadata=sent,
                    tags=checked_tags or None,
                    content_settings=ContentSettings(content_type=content_type),
                    **_if_match(if_match),
                )
        except PreconditionFailed:
            # The SDK repeats a write whose answer was lost; then it is our own first attempt that is in the way.
            etag = self._etag_of_write(blob, write_id)
            if etag is None:
                raise
            return etag
        return _quoted(str(result["etag"]))

    def get(self, container: str, name: str) -> Blob:
        blob = self._existing(container, name)
        for _ in range(_READ_ATTEMPTS):
            try:
                with translated("reading a blob"):
                    download = blob.download_blob()
                    return Blob(download.readall(), _properties(download.properties))
            except PreconditionFailed:
                continue  # overwritten between two ranges of a large blob: read the new version
        raise StoreUnavailable("a blob is being overwritten faster than it can be read")

    def properties(self, container: str, name: str) -> BlobProperties:
        with translated("reading a blob's properties"):
            return _properties(self._existing(container, name).get_blob_properties())

    def delete(self, container: str, name: str) -> bool:
        try:
            with translated("deleting a blob"):
                self._existing(container, name).delete_blob(delete_snapshots="include")
        except NotFound:
            return False
        return True

    def list(self, container: str, prefix: str = "") -> Iterator[BlobProperties]:
        client = self._service.get_container_client(check_container(container))
        return self._list(
            client.list_blobs(name_starts_with=prefix or None, include=["metadata"], results_per_page=_PAGE)
        )

    def _list(self, found: Iterable[ServiceProperties]) -> Iterator[BlobProperties]:
        with translated("listing blobs"):
            for item in found:
                yield _properties(item)

    def find_by_tags(self, container: str, tags: Mapping[str, str]) -> Iterator[str]:
        client = self._service.get_container_client(check_container(container))
        if not tags:
            raise InvalidInput("name at least one index tag to look for")
        # The alphabet of tags has no quotes, so nothing needs escaping once it is checked.
        expression = " AND ".join(f"\"{key}\"='{value}'" for key, value in check_tags(tags).items())
        return self._names(client.find_blobs_by_tags(expression))

    def _names(self, found: Iterable[FilteredBlob]) -> Iterator[str]:
        with translated("looking for blobs by tag"):
            for item in found:
                yield str(item.name)

    def provision(self) -> None:
        """Makes the containers that are missing, in an emulator.

        Raises:
            ConfigurationError: it is none; in the cloud they are deployed.
        """
        require_loopback(self._service.url)
        with translated("making the blob containers"):
            present = {container.name for container in self._service.list_containers()}
            for name in BLOB_CONTAINERS:
                if name not in present:
                    self._service.create_container(name)

    def close(self) -> None:
        """Closes the connections. The store must not be used any more."""
        self._service.close()

    def _client(self, container: str, name: str) -> BlobClient:
        return self._service.get_blob_client(check_container(container), name)

    def _existing(self, container: str, name: str) -> BlobClient:
        """Client of a blob that may exist: HTTP resolves dot segments, and `../` would leave the container."""
        check_container(container)
        try:
            return self._client(container, check_name(name))
        except InvalidInput as error:
            raise NotFound(f"no such blob in {container}") from error

    def _etag_of_write(self, blob: BlobClient, write_id: str | None) -> str | None:
        try:
            with translated("looking for the blob's last write"):
                live = blob.get_blob_properties()
        except NotFound:
            return None
        ours = write_id is not None and (live.metadata or {}).get(WRITE_ID) == write_id
        return _quoted(live.etag) if ours else None


def _if_match(etag: str | None) -> dict[str, Any]:
    return {} if etag is None else {"etag": etag, "match_condition": MatchConditions.IfNotModified}


def _quoted(etag: str) -> str:
    """Listings give ETags without the quotes that every other answer has, and that conditions need."""
    return '"{}"'.format(etag.strip('"'))


def _properties(item: ServiceProperties) -> BlobProperties:
    return BlobProperties(
        name=str(item.name),
        etag=_quoted(str(item.etag)),
        size_bytes=int(item.size),
        last_modified=item.last_modified,
        content_type=str(item.content_settings.content_type),
        metadata={key: value for key, value in (item.metadata or {}).items() if key != WRITE_ID},
    )
