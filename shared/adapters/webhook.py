"""Posts documents to an HTTP endpoint: `Notifier` over `requests`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import requests
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential_jitter

from shared.errors import ConfigurationError, StoreUnavailable


class WebhookNotifier:
    """One destination.

    Args:
        url: `http(s)://…`; empty when none is configured.
        timeout_s: for connecting, and again for the answer.
    """

    def __init__(self, url: str, *, timeout_s: float) -> None:
        self._url = url
        self._timeout_s = timeout_s

    def send(self, payload: Mapping[str, Any]) -> None:
        """Posts `payload` as JSON; three attempts.

        Raises:
            ConfigurationError: no URL is configured.
            StoreUnavailable: no 2xx answer.
        """
        if not self._url:
            raise ConfigurationError("no webhook is configured; set FACERELAY_WEBHOOK_URL")
        self._post(payload)

    @retry(
        retry=retry_if_exception_type(StoreUnavailable),
        stop=stop_after_attempt(3),
        wait=wait_exponential_jitter(initial=0.2, max=2.0),
        reraise=True,
    )
    def _post(self, payload: Mapping[str, Any]) -> None:
        try:
            answer = requests.post(self._url, json=payload, timeout=self._timeout_s, allow_redirects=False)
        except requests.RequestException as error:
            raise StoreUnavailable(f"the webhook did not answer: {type(error).__name__}") from error
        if not 200 <= answer.status_code < 300:
            raise StoreUnavailable(f"the webhook answered {answer.status_code}")
