"""Continuation tokens: where a page ended, signed together with the question it answers.

One that was changed, or that belongs to another question or another data folder, is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from typing import Any

from shared.errors import InvalidInput

_MAC_BYTES = 16


class Continuations:
    """Makes and opens the tokens of one repository.

    Args:
        key: secret of the data folder.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def token(self, position: list[Any], question: str) -> str:
        """The token for the page after `position`, which JSON can hold."""
        payload = json.dumps(position).encode()
        return base64.urlsafe_b64encode(self._mac(payload, question) + payload).decode().rstrip("=")

    def position(self, token: str, question: str) -> list[Any]:
        """The position that a token names.

        Raises:
            InvalidInput: not a token of this repository and question.
        """
        try:
            raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise InvalidInput("not a continuation token of this repository") from error
        mac, payload = raw[:_MAC_BYTES], raw[_MAC_BYTES:]
        if not hmac.compare_digest(mac, self._mac(payload, question)):
            raise InvalidInput("the continuation token was changed, or belongs to another query")
        position: list[Any] = json.loads(payload)
        return position

    def _mac(self, payload: bytes, question: str) -> bytes:
        return hmac.new(self._key, question.encode() + b"\n" + payload, hashlib.sha256).digest()[:_MAC_BYTES]
