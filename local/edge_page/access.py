"""Who may see the page: whoever is on this machine, or whoever has the token.

Without a token the page is bound to loopback, and then answers only to loopback's names: a web page elsewhere that lets
its own name lead to 127.0.0.1 (DNS rebinding) is refused. With one, a name proves nothing and is not asked for: neither
the token nor the cookie goes with such a request.
"""

from __future__ import annotations

import hmac
import secrets
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import urlsplit

COOKIE: Final = "facerelay_edge"
SESSION_S: Final = 12 * 3600.0
_MOST_SESSIONS: Final = 64
_TRIES: Final = 10
_TRIES_S: Final = 60.0
_LOOPBACK_NAMES: Final = frozenset({"127.0.0.1", "localhost", "::1"})


class Access:
    """The page's guard. Thread-safe.

    Args:
        token: empty: none is asked for.
        now_s: monotonic clock.
    """

    def __init__(self, token: str, *, now_s: Callable[[], float] = time.monotonic) -> None:
        self._token, self._now_s = token.encode(), now_s
        self._sessions: OrderedDict[str, float] = OrderedDict()
        self._failures: deque[float] = deque(maxlen=_TRIES)
        self._guard = threading.Lock()

    @property
    def open(self) -> bool:
        """Whether no token is asked for."""
        return not self._token

    def host_allowed(self, host: str) -> bool:
        """Whether a request's Host header is one that this page answers to."""
        return not self.open or names_loopback(host)

    def allowed(self, headers: Mapping[str, str], cookies: Mapping[str, str]) -> bool:
        """Whether a request carries the token as bearer, or the cookie of a session."""
        if self.open:
            return True
        scheme, _, value = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer" and value:
            return self._matches(value.strip())
        with self._guard:
            ends_s = self._sessions.get(cookies.get(COOKIE, ""))
            return ends_s is not None and self._now_s() < ends_s

    def log_in(self, token: str) -> str | None:
        """A new session for the right token, else None.

        Raises:
            TooManyTries: the last tries were wrong, within a minute.
        """
        now_s = self._now_s()
        with self._guard:
            if len(self._failures) == _TRIES and now_s - self._failures[0] < _TRIES_S:
                raise TooManyTries
        if not self._matches(token):
            with self._guard:
                self._failures.append(now_s)
            return None
        session = secrets.token_urlsafe(32)
        with self._guard:
            self._sessions[session] = now_s + SESSION_S
            while len(self._sessions) > _MOST_SESSIONS:
                self._sessions.popitem(last=False)
        return session

    def log_out(self, session: str) -> None:
        with self._guard:
            self._sessions.pop(session, None)

    def _matches(self, token: str) -> bool:
        return not self.open and hmac.compare_digest(token.encode(), self._token)


def names_loopback(host: str) -> bool:
    """Whether a Host header is one of this machine's names for itself.

    >>> [names_loopback(host) for host in ("127.0.0.1:8090", "[::1]", "example.org", "[")]
    [True, True, False, False]
    """
    try:
        return urlsplit(f"//{host}").hostname in _LOOPBACK_NAMES
    except ValueError:
        return False


class TooManyTries(Exception):
    """Somebody is guessing."""


def same_origin(headers: Mapping[str, str]) -> bool:
    """Whether a form was sent from this page, as far as the browser says; other programs say nothing."""
    if headers.get("sec-fetch-site", "same-origin") not in {"same-origin", "none"}:
        return False
    origin = headers.get("origin")
    return origin is None or urlsplit(origin).netloc == headers.get("host")
