"""Who is calling, and may they: authentication, scopes, rates, and the record of administrative calls."""

from __future__ import annotations

import logging
import math
import threading
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Final

from limits import RateLimitItem, parse
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from shared.access import LAST_USE_RESOLUTION, LOOPBACK, AuditEntry, Caller, Scope, Token
from shared.access import parse as parse_token
from shared.errors import FacerelayError, NotAuthenticated, NotPermitted, TooManyRequests
from shared.ports import AuditRepository, Clock, TokenRepository

logger = logging.getLogger(__name__)

BEARER: Final = "bearer "


class Authenticator:
    """Finds out who calls.

    A token is looked up at most once in `cache_s`, so a revocation takes that long to be felt everywhere.

    Args:
        required: False where only this machine can call: everybody is then `loopback`, with every right.
    """

    def __init__(self, tokens: TokenRepository, *, required: bool, cache_s: float, clock: Clock) -> None:
        self._tokens = tokens
        self._required = required
        self._cache_s = cache_s
        self._clock = clock
        self._cache: dict[str, tuple[datetime, Token | None]] = {}
        self._lock = threading.Lock()

    @property
    def required(self) -> bool:
        """Whether callers are asked who they are."""
        return self._required

    def remembers(self, authorization: str) -> bool:
        """Whether what is shown names a token that was there when last looked up; says nothing of its secret."""
        parts = _parts(authorization)
        with self._lock:
            found = self._cache.get(parts[0]) if parts else None
        return found is not None and found[1] is not None

    def caller(self, authorization: str) -> Caller:
        """Who shows this `Authorization` header (or `X-Api-Key`, which holds the bare token).

        Raises:
            NotAuthenticated: nobody we know.
        """
        if not self._required:
            return LOOPBACK
        parts = _parts(authorization)
        if parts is None:
            raise NotAuthenticated("this needs a token: send it as `Authorization: Bearer frl_…`")
        token_id, secret = parts
        token, now = self._token(token_id), self._clock()
        # Proven before anything else is looked at, so that a guess learns nothing of the token's state.
        if token is None or not token.proven_by(secret) or not token.usable(now):
            raise NotAuthenticated("this token is not valid; ask an administrator for one")
        self._note_use(token, now)
        return Caller(token.token_id, token.scope, token.site)

    def forget(self, token_id: str) -> None:
        """Looks this token up anew when it is shown next."""
        with self._lock:
            self._cache.pop(token_id, None)

    def _token(self, token_id: str) -> Token | None:
        now = self._clock()
        with self._lock:
            found = self._cache.get(token_id)
            if found is not None and (now - found[0]).total_seconds() < self._cache_s:
                return found[1]
        token = self._tokens.get_token(token_id)
        with self._lock:
            if len(self._cache) > 10_000:  # guesses must not fill the memory
                self._cache.clear()
            self._cache[token_id] = (now, token)
        return token

    def _note_use(self, token: Token, now: datetime) -> None:
        if token.last_used_at is not None and now - token.last_used_at < LAST_USE_RESOLUTION:
            return
        with self._lock:
            found = self._cache.get(token.token_id)
            # With the time of its lookup, or steady use would put off the next; and not once it was forgotten.
            if found is not None and found[1] is token:
                self._cache[token.token_id] = (found[0], replace(token, last_used_at=now))
        try:
            self._tokens.note_use(token.token_id, now)
        except FacerelayError as error:  # knowing when a token was used last is not worth a failed request
            logger.warning("last use of a token not noted", extra={"action": "token.use", "code": error.code})


def _parts(authorization: str) -> tuple[str, str] | None:
    text = authorization[len(BEARER) :] if authorization.lower().startswith(BEARER) else authorization
    return parse_token(text.strip())


class RateLimits:
    """How often a caller may ask, counted in this process.

    Args:
        per_caller: such as `600/minute`; empty for no limit.
        per_address: for requests that prove nobody, by address; failed attempts are slow guesses.
    """

    def __init__(self, *, per_caller: str, per_address: str) -> None:
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._per_caller = _limit(per_caller)
        self._per_address = _limit(per_address)

    def count_caller(self, caller: Caller) -> None:
        """Raises: TooManyRequests."""
        if caller is not LOOPBACK:
            self._count(self._per_caller, f"caller:{caller.name}")

    def count_public(self, address: str) -> None:
        """Raises: TooManyRequests."""
        self._count(self._per_address, f"public:{address}")

    def count_failure(self, address: str) -> None:
        """Raises: TooManyRequests."""
        self._count(self._per_address, f"failed:{address}")

    def check_failures(self, address: str) -> None:
        """Raises: TooManyRequests: too many failures from this address already."""
        key = f"failed:{address}"
        if self._per_address is not None and not self._limiter.test(self._per_address, key):
            raise self._refusal(self._per_address, key)

    def _count(self, limit: RateLimitItem | None, key: str) -> None:
        if limit is not None and not self._limiter.hit(limit, key):
            raise self._refusal(limit, key)

    def _refusal(self, limit: RateLimitItem, key: str) -> TooManyRequests:
        wait_s = self._limiter.get_window_stats(limit, key).reset_time - time.time()
        return TooManyRequests(f"more than {limit}; wait a little", retry_after_s=max(1, math.ceil(wait_s)))


def _limit(text: str) -> RateLimitItem | None:
    return parse(text) if text.strip() else None


def check_scope(caller: Caller, scopes: tuple[Scope, ...]) -> None:
    """Raises: NotPermitted: none of the scopes is the caller's, and it is no administrator."""
    if not caller.may(*scopes):
        raise NotPermitted(f"this needs a token of scope {' or '.join((*scopes, Scope.ADMIN))}")


class Audit:
    """Records administrative calls."""

    def __init__(self, entries: AuditRepository, clock: Clock, new_id: Callable[[], str] = lambda: uuid.uuid4().hex):
        self._entries = entries
        self._clock = clock
        self._new_id = new_id

    def record(self, caller: Caller, action: str, target: Mapping[str, str], status: int) -> None:
        """Writes one entry. A store that is away is logged, since the call has happened already."""
        entry = AuditEntry(self._new_id(), self._clock(), caller.name, action, dict(target), status)
        try:
            self._entries.record(entry)
        except FacerelayError as error:
            logger.error(
                "audit entry not written",
                extra={"action": "audit.failed", "code": error.code, "actor": caller.name, "call": action},
            )
