"""The gateway's store when it has a device token: by upload grants where there are any, else the service itself.

An embedded service has no blob store that a gateway could reach, so it says so when it is asked for a grant, and takes
the crops over its own HTTP.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import urlencode

import requests
from requests.adapters import HTTPAdapter

from shared.adapters.azure.unsent import was_sent
from shared.adapters.azure.uploads import (
    Bearer,
    CreateOnly,
    GrantClient,
    NoGrants,
    UploadStore,
    check_creation,
    retry_after_s,
)
from shared.adapters.naming import check_metadata
from shared.domain import utc_now
from shared.errors import InvalidInput, PreconditionFailed, StoreUnavailable
from shared.ports import BlobStore, Clock

INTAKE_PATH: Final = "/api/v1/candidates"
METADATA_HEADER: Final = "X-Facerelay-Candidate"

_TIMEOUT_S: Final = (5, 30)
_ASK_AGAIN: Final = timedelta(hours=1)
_MOST_THREADS: Final = 32
_REFUSED: Final = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE})


class ServiceStore(CreateOnly):
    """`ports.BlobStore` as far as a device token reaches: it creates candidates; it shows and changes nothing.

    Args:
        grants: asks the service for grants.
        granted: writes by them.
        clock: for tests.
    """

    def __init__(self, grants: GrantClient, granted: BlobStore, *, clock: Clock = utc_now) -> None:
        self._grants, self._granted, self._clock = grants, granted, clock
        self._session = requests.Session()
        # Each uploading thread keeps its connection; requests' own pool would close those above ten.
        self._session.mount(grants.service_url, HTTPAdapter(pool_maxsize=_MOST_THREADS))
        self._session.auth = Bearer(grants.token)
        self._direct_until: datetime | None = None
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
            PreconditionFailed: this very crop is there.
            InvalidInput: anything but creating a candidate, or one that the service will never take.
            StoreUnavailable: not now. A token that is refused is mended by somebody; until then crops wait.
        """
        check_creation(container, if_match=if_match, if_absent=if_absent)
        if not self._direct():
            try:
                return self._granted.put(
                    container,
                    name,
                    data,
                    metadata=metadata,
                    tags=tags,
                    content_type=content_type,
                    if_absent=True,
                )
            except NoGrants:
                with self._lock:
                    self._direct_until = self._clock() + _ASK_AGAIN
        return self._deliver(data, check_metadata(metadata or {}), content_type)

    def _direct(self) -> bool:
        with self._lock:
            return self._direct_until is not None and self._clock() < self._direct_until

    def _deliver(self, data: bytes, metadata: Mapping[str, str], content_type: str) -> str:
        headers = {METADATA_HEADER: urlencode(metadata), "Content-Type": content_type}
        try:
            # Never redirected: token and picture are for this service alone.
            answer = self._session.post(
                self._grants.service_url + INTAKE_PATH,
                data=data,
                headers=headers,
                timeout=_TIMEOUT_S,
                allow_redirects=False,
            )
        except requests.RequestException as error:
            what = f"the service does not answer ({type(error).__name__})"
            raise StoreUnavailable(what, sent=was_sent(error)) from error
        if answer.status_code == HTTPStatus.CREATED:
            return str(metadata.get("sha256", ""))
        if answer.status_code == HTTPStatus.OK:
            raise PreconditionFailed("this candidate is there already")
        if answer.status_code in _REFUSED or answer.status_code == HTTPStatus.CONFLICT:
            raise InvalidInput(f"the service refused the crop ({answer.status_code}): {_said(answer)}")
        raise StoreUnavailable(f"the service took no crop ({answer.status_code})", retry_after_s=retry_after_s(answer))


def _said(answer: requests.Response) -> str:
    """The service's own words, which say what to do; a proxy has none."""
    try:
        return " ".join(str(answer.json()["message"]).split())[:200]
    except (ValueError, KeyError, TypeError):
        return "without a reason"


def open_service_store(service_url: str, token: str, **options: Any) -> ServiceStore:
    """The store of a gateway with a token.

    Args:
        options: time-outs and retries of the storage SDK.

    Raises:
        ConfigurationError: an address that the token must not be sent to.
    """
    grants = GrantClient(service_url, token)
    return ServiceStore(grants, UploadStore(grants, **options))
