"""Posts signed documents to an HTTP endpoint: `Notifier` over `requests`, and the alert channel that uses it.

The signature is hex HMAC-SHA256, under the shared secret, of the time of sending in Unix seconds, a dot, and the body:
what Stripe and others do, so that receivers' libraries fit. A receiver refuses times more than five minutes from its
own (docs/alerts.md), so that a request that was overheard is of no use later.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from shared.adapters.loopback import is_loopback_host
from shared.alerts import Notice
from shared.domain import format_time, utc_now
from shared.errors import ConfigurationError, StoreUnavailable
from shared.ports import Clock

TIMESTAMP_HEADER: Final = "X-Facerelay-Timestamp"
SIGNATURE_HEADER: Final = "X-Facerelay-Signature"
MIN_SECRET_LENGTH: Final = 16


def signature(secret: str, timestamp: str, body: bytes) -> str:
    """`v1=` and the 64 hex digits of HMAC-SHA256 over `{timestamp}.{body}`."""
    digest = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return f"v1={digest}"


class WebhookNotifier:
    """One destination.

    Args:
        url: `https://…`, or `http://…` of this machine; empty when none is configured.
        timeout_s: for connecting, and again for the answer.
        secret: documents are signed with it; empty: they are not signed.

    Raises:
        ConfigurationError: a URL that would be read on the way, or a secret that could be guessed.
    """

    def __init__(self, url: str, *, timeout_s: float, secret: str = "", clock: Clock = utc_now) -> None:
        parts = urlsplit(url)
        if url and (not parts.hostname or parts.scheme not in ("http", "https")):
            raise ConfigurationError("FACERELAY_WEBHOOK_URL is not an address such as https://example.org/faces")
        if parts.scheme == "http" and not is_loopback_host(parts.hostname or ""):
            raise ConfigurationError("FACERELAY_WEBHOOK_URL must begin with https:// unless it leads to this machine")
        if secret and len(secret) < MIN_SECRET_LENGTH:
            raise ConfigurationError(f"FACERELAY_WEBHOOK_SECRET must have {MIN_SECRET_LENGTH} characters or more")
        self._url = url
        self._timeout_s = timeout_s
        self._secret = secret
        self._clock = clock

    @property
    def signs(self) -> bool:
        """Whether documents are signed."""
        return bool(self._secret)

    def send(self, payload: Mapping[str, Any]) -> None:
        """Posts `payload` as JSON; three attempts.

        Raises:
            ConfigurationError: no URL is configured.
            StoreUnavailable: no 2xx answer.
        """
        if not self._url:
            raise ConfigurationError("no webhook is configured; set FACERELAY_WEBHOOK_URL")
        self._post(json.dumps(payload).encode())

    @retry(
        retry=retry_if_exception_type(StoreUnavailable),
        stop=stop_after_attempt(3),
        wait=wait_exponential_jitter(multiplier=0.2, max=2.0),
        reraise=True,
    )
    def _post(self, body: bytes) -> None:
        headers = {"Content-Type": "application/json", **self._signed(body)}
        try:
            answer = requests.post(
                self._url, data=body, headers=headers, timeout=self._timeout_s, allow_redirects=False
            )
        except requests.RequestException as error:
            raise StoreUnavailable(f"the webhook did not answer: {type(error).__name__}") from error
        if not 200 <= answer.status_code < 300:
            raise StoreUnavailable(f"the webhook answered {answer.status_code}")

    def _signed(self, body: bytes) -> dict[str, str]:
        """The headers that prove where a body comes from, and when: made anew for each attempt."""
        if not self._secret:
            return {}
        timestamp = str(int(self._clock().timestamp()))
        return {TIMESTAMP_HEADER: timestamp, SIGNATURE_HEADER: signature(self._secret, timestamp, body)}


class WebhookAlerts:
    """`ports.AlertChannel`: alerts as documents, without the photo.

    Raises:
        ConfigurationError: the notifier does not sign.
    """

    name = "webhook"

    def __init__(self, notifier: WebhookNotifier) -> None:
        if not notifier.signs:
            raise ConfigurationError("alerts are signed: set FACERELAY_WEBHOOK_SECRET beside FACERELAY_WEBHOOK_URL")
        self._notifier = notifier

    def send(self, notice: Notice) -> None:
        self._notifier.send(alert_document(notice))


def alert_document(notice: Notice) -> dict[str, Any]:
    """An alert as the webhook gets it. `alert_id` is the same on every attempt: a receiver drops what it has."""
    return {
        "type": "alert",
        "test": notice.test,
        "alert_id": notice.alert_id,
        "detection_id": notice.detection_id,
        "rules": list(notice.rules),
        "person_id": notice.person_id,
        "similarity": round(notice.similarity, 4),
        "site": notice.site,
        "camera_id": notice.camera,
        "location_id": notice.location,
        "timestamp": format_time(notice.captured_at),
        "local_time": notice.captured_local.isoformat(timespec="seconds"),
    }
