"""Upload grants: short-lived signatures that let a gateway create candidates, and nothing else.

In the cloud they are signed with a key that Entra ID gives this service for a while (a user delegation key), so that no
account key exists anywhere. Emulators on this machine sign with their well-known account key.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta
from typing import Any, Final

from azure.storage.blob import BlobServiceClient, ContainerSasPermissions, UserDelegationKey, generate_container_sas

from shared.access import UploadGrant
from shared.adapters.azure.storage_errors import translated
from shared.domain import CANDIDATES, utc_now
from shared.ports import Clock

CLOCKS_DIFFER: Final = timedelta(minutes=5)
"""A grant begins so much earlier, since the gateway's request may meet a server whose clock is behind."""

KEY_LIFETIME: Final = timedelta(hours=25)
"""Of a user delegation key, which is asked for once for many grants; the service allows seven days."""


class SasGrants:
    """`ports.UploadGrants` by shared access signatures of the container `candidates`.

    Args:
        service: of the account.
        account_key: of an emulator; None: a user delegation key.
    """

    def __init__(self, service: BlobServiceClient, *, account_key: str | None = None, clock: Clock = utc_now) -> None:
        self._service = service
        self._account_key = account_key
        self._clock = clock
        self._key: UserDelegationKey | None = None
        self._key_ends: datetime | None = None
        self._lock = threading.Lock()

    def grant(self, lifetime: timedelta) -> UploadGrant:
        now = self._clock()
        expires_at = (now + lifetime).replace(microsecond=0)  # the signature tells whole seconds
        url = str(self._service.get_container_client(CANDIDATES).url)
        signature = generate_container_sas(
            account_name=str(self._service.account_name),
            container_name=CANDIDATES,
            # `tag`: a blob that is created with index tags needs it. Neither read, write, list nor delete.
            permission=ContainerSasPermissions(create=True, tag=True),
            start=now - CLOCKS_DIFFER,
            expiry=expires_at,
            protocol="https" if url.startswith("https:") else "https,http",
            **self._signed_with(now, expires_at),
        )
        return UploadGrant(f"{url}?{signature}", expires_at)

    def _signed_with(self, now: datetime, until: datetime) -> dict[str, Any]:
        if self._account_key is not None:
            return {"account_key": self._account_key}
        with self._lock:
            if self._key is None or self._key_ends is None or self._key_ends < until:
                ends = max(until, now + KEY_LIFETIME)
                with translated("asking for a user delegation key"):
                    self._key = self._service.get_user_delegation_key(now - CLOCKS_DIFFER, ends)
                self._key_ends = ends
            return {"user_delegation_key": self._key}
