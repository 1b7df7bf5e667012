"""Tokens: made, listed, revoked."""

from __future__ import annotations

import logging
from datetime import timedelta

from shared.access import Scope, Token, issue
from shared.errors import NotFound
from shared.ports import Clock, TokenRepository

logger = logging.getLogger(__name__)


class TokenService:
    """What an administrator does with tokens."""

    def __init__(self, tokens: TokenRepository, clock: Clock) -> None:
        self._tokens = tokens
        self._clock = clock

    def create(
        self, scope: Scope, *, lifetime: timedelta, site: str | None = None, description: str = ""
    ) -> tuple[str, Token]:
        """A new token: the text to show once, and what is stored.

        Raises:
            InvalidInput: see `shared.access.issue`.
        """
        text, token = issue(scope, now=self._clock(), lifetime=lifetime, site=site, description=description)
        self._tokens.add_token(token)
        logger.info("token made", extra={"action": "token.create", "token_id": token.token_id, "scope": str(scope)})
        return text, token

    def all(self) -> list[Token]:
        """Expired and revoked ones too, oldest first."""
        return list(self._tokens.list_tokens())

    def revoke(self, token_id: str) -> None:
        """From now on; processes that saw it lately may trust it for the setting `token_cache_s` longer.

        Raises:
            NotFound: no such token.
        """
        if not self._tokens.revoke(token_id, self._clock()):
            raise NotFound("there is no token of this id")
        logger.info("token revoked", extra={"action": "token.revoke", "token_id": token_id})
