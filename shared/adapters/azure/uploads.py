"""The gateway's blob store when it has a device token instead of an identity in Azure.

The service gives it a container address with a signature that lets it create candidates, for an hour or so; before
that ends it asks for another.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final, NoReturn

import requests
from azure.core.exceptions import HttpResponseError
from azure.core.pipeline.transport import RequestsTransport
from azure.storage.blob import ContainerClient, ContentSettings

from shared.access import UploadGrant
from shared.adapters.azure.access import is_loopback
from shared.adapters.azure.storage_errors import error_code, translated
from shared.adapters.naming import check_metadata, check_name, check_tags
from shared.domain import CANDIDATES, parse_time, utc_now
from shared.errors import ConfigurationError, InvalidInput, NotFound, PreconditionFailed, StoreUnavailable
from shared.ports import Blob, BlobProperties, Clock

GRANT_PATH: Final = "/api/v1/uploads"
NO_GRANTS: Final = ConfigurationError.code
"""The service's word for "ask me in another way": its backend has no addresses to write to."""

_TIMEOUT_S: Final = (5, 30)
_RENEW_PAUSE: Final = timedelta(minutes=1)
_THERE: Final = frozenset({"BlobAlreadyExists", "UnauthorizedBlobOverwrite"})
"""What a signature that may only create is told of a blob that is there."""

_THERE_IN_EMULATOR: Final = _THERE | {"AuthorizationPermissionMismatch"}
"""Azurite has no word of its own for it. In the cloud this one means that a role is missing, and then crops wait."""


class NoGrants(StoreUnavailable):
    """This service gives no grants: it takes candidates itself."""

    code = "no_grants"


class GrantClient:
    """Asks the service for grants.

    Attributes:
        service_url, token: as given; the address without a slash at its end.


    Args:
        service_url: `https://…` of the service; plain HTTP on this machine only, since a token goes with it.
        token: of scope device.

    Raises:
        ConfigurationError: an address that the token must not be sent to.
    """

    def __init__(self, service_url: str, token: str) -> None:
        if not service_url.startswith("https://") and not is_loopback(service_url):
            raise ConfigurationError("FACERELAY_EDGE_SERVICE_URL must begin with https://")
        self.service_url = service_url.rstrip("/")
        self.token = token
        self._url = self.service_url + GRANT_PATH
        self._session = requests.Session()
        self._session.auth = Bearer(token)

    def grant(self) -> UploadGrant:
        """A new grant.

        Raises:
            NoGrants: the service has none to give, and takes candidates itself.
            StoreUnavailable: none was given. Even a refused token is mended by somebody; until then crops wait.
        """
        try:
            # Never redirected: the token is for this service alone.
            answer = self._session.post(self._url, timeout=_TIMEOUT_S, allow_redirects=False)
            document = answer.json()
            if answer.status_code == HTTPStatus.OK:
                return UploadGrant(str(document["url"]), parse_time(str(document["expires_at"])))
            why = str(document.get("message", ""))[:200]
            code = str(document.get("code", ""))
        except (requests.RequestException, ValueError, KeyError, TypeError, AttributeError, InvalidInput) as error:
            raise StoreUnavailable(f"the service gave no upload grant ({type(error).__name__})", sent=False) from error
        refusal = f"the service gave no upload grant ({answer.status_code}): {why}"
        if answer.status_code == HTTPStatus.CONFLICT and code == NO_GRANTS:
            raise NoGrants(refusal, sent=False)
        raise StoreUnavailable(refusal, retry_after_s=retry_after_s(answer), sent=False)


def retry_after_s(answer: requests.Response) -> int | None:
    """Seconds that an answer asks to be left alone for; None when it says nothing, or a date."""
    asked = answer.headers.get("Retry-After", "")
    return int(asked) if asked.isascii() and asked.isdigit() and len(asked) < 6 else None


class Bearer(requests.auth.AuthBase):
    """Sends the token. As the session's own way to authenticate, so that no `.netrc` takes its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class CreateOnly:
    """`ports.BlobStore` but for `put`, of a gateway with a device token: it shows and changes nothing."""

    def properties(self, container: str, name: str) -> BlobProperties:
        """Raises: NotFound: always; a device token lets nothing be read."""
        raise NotFound("a device token shows no blobs")

    def get(self, container: str, name: str) -> Blob:
        """Raises: NotFound: always."""
        raise NotFound("a device token shows no blobs")

    def delete(self, container: str, name: str) -> bool:
        """Raises: InvalidInput: always."""
        _refuse()

    def list(self, container: str, prefix: str = "") -> Iterator[BlobProperties]:
        """Raises: InvalidInput: always."""
        _refuse()

    def find_by_tags(self, container: str, tags: Mapping[str, str]) -> Iterator[str]:
        """Raises: InvalidInput: always."""
        _refuse()


def check_creation(container: str, *, if_match: str | None, if_absent: bool) -> None:
    """Raises: InvalidInput: a write that is anything but creating a candidate."""
    if container != CANDIDATES or not if_absent or if_match is not None:
        _refuse()


def _refuse() -> NoReturn:
    raise InvalidInput("a device token lets candidates be created, and nothing else")


class UploadStore(CreateOnly):
    """`ports.BlobStore` as far as a grant reaches: it creates candidates; it shows and changes nothing.

    Args:
        grants: where grants are asked for.
        options: of the SDK's client: time-outs and retries.
    """

    def __init__(self, grants: GrantClient, *, clock: Clock = utc_now, **options: Any) -> None:
        self._grants = grants
        self._clock = clock
        # One for the clients of all grants: closing a client's own could end an upload that another thread has in hand.
        self._transport = RequestsTransport(**options)
        self._options = {**options, "transport": self._transport}
        self._container: ContainerClient | None = None
        self._renew_at: datetime | None = None
        self._ends: datetime | None = None
        self._lock = threading.Lock()

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
        """Creates a candidate.

        Raises:
            PreconditionFailed: one of that name is there. A crop's name is its own for good, so it is this very crop,
                and its first sending went through though the answer was lost.
            InvalidInput: anything but creating a candidate.
        """
        check_creation(container, if_match=if_match, if_absent=if_absent)
        check_name(name)
        arguments: dict[str, Any] = {
            "overwrite": False,
            "metadata": check_metadata(metadata or {}),
            "tags": check_tags(tags or {}) or None,
            "content_settings": ContentSettings(content_type=content_type),
        }
        with translated("writing a candidate"):
            granted = self._granted()
            try:
                return str(granted.get_blob_client(name).upload_blob(data, **arguments)["etag"])
            except HttpResponseError as error:
                if error_code(error) in (_THERE_IN_EMULATOR if is_loopback(granted.url) else _THERE):
                    raise PreconditionFailed("this candidate is there already") from error
                if error.status_code != HTTPStatus.FORBIDDEN:
                    raise
                self._forget()  # the grant was withdrawn, or a clock is wrong: the next attempt has a new one
                raise

    def close(self) -> None:
        """Closes the connections. The store must not be used any more."""
        self._forget()
        self._transport.close()

    def _granted(self) -> ContainerClient:
        """A client whose grant lasts for a while. While it does, a service that is away does no harm."""
        with self._lock:
            now = self._clock()
            if self._container is None or self._renew_at is None or now >= self._renew_at:
                try:
                    self._take(self._grants.grant(), now)
                except StoreUnavailable:
                    if self._container is None or self._ends is None or now >= self._ends:
                        raise
                    self._renew_at = now + _RENEW_PAUSE
            if self._container is None:  # for the type checker: `_take` sets it
                raise StoreUnavailable("there is no upload grant")
            return self._container

    def _take(self, grant: UploadGrant, now: datetime) -> None:
        if not grant.url.startswith("https://") and not is_loopback(grant.url):
            raise StoreUnavailable("the service's upload grant leads to an address without encryption")
        self._container = ContainerClient.from_container_url(grant.url, **self._options)
        self._ends = grant.expires_at
        self._renew_at = now + (grant.expires_at - now) * 0.75

    def _forget(self) -> None:
        with self._lock:
            self._container = self._renew_at = self._ends = None
