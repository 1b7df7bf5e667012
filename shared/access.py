"""Who may do what: tokens, scopes, and the record of administrative calls. Standard library only.

A token is `frl_{id}_{secret}`: the id finds the stored row, the secret proves it. The secret is 256 random bits, so
that its plain SHA-256 is as good as a slow hash, and is compared in constant time. It is shown once, never stored.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from shared.domain import check_place_id, require_utc
from shared.errors import InvalidInput

_TOKEN = re.compile(r"frl_([0-9a-f]{12})_([A-Za-z0-9_-]{43})")
LAST_USE_RESOLUTION: Final = timedelta(minutes=1)
"""`last_used_at` is written at most this often: a read must not cost a write each time."""


class Scope(StrEnum):
    """What a token is for.

    `device` may recognise, for its own site, and upload candidates, by grants that are bound to no site. `operator` may
    ask, enrol and train. `admin` may do everything, and is needed to remove people and to manage tokens.
    """

    DEVICE = "device"
    OPERATOR = "operator"
    ADMIN = "admin"


@dataclass(frozen=True, slots=True)
class Token:
    """A stored token, without its secret.

    Attributes:
        token_id: 12 hex digits, not secret.
        secret_hash: SHA-256 of the secret, hex.
        site: the only site that a device token acts for over HTTP, unlike its upload grants; None for the other scopes.
    """

    token_id: str
    secret_hash: str = field(repr=False)
    scope: Scope
    site: str | None
    description: str
    created_at: datetime
    expires_at: datetime
    revoked_at: datetime | None = None
    last_used_at: datetime | None = None

    def __post_init__(self) -> None:
        require_utc(self.created_at)
        require_utc(self.expires_at)

    def usable(self, now: datetime) -> bool:
        """Neither expired nor revoked."""
        return self.revoked_at is None and now < self.expires_at

    def proven_by(self, secret: str) -> bool:
        """Whether `secret` is this token's, in time that does not depend on how wrong it is."""
        return hmac.compare_digest(self.secret_hash, _hash(secret))


def issue(
    scope: Scope, *, now: datetime, lifetime: timedelta, site: str | None = None, description: str = ""
) -> tuple[str, Token]:
    """A new token: the text to show once, and what is stored.

    Raises:
        InvalidInput: a device token without a site, another with one, or a lifetime that has passed already.
    """
    if (scope is Scope.DEVICE) != (site is not None):
        raise InvalidInput("a device token names its site, and only a device token does")
    if site is not None:
        check_place_id("site", site)
    if lifetime <= timedelta(0):
        raise InvalidInput("a token must last for some time")
    if len(description) > 200 or not (description.isprintable() or not description):
        raise InvalidInput("a description is at most 200 printable characters")
    token_id, secret = secrets.token_hex(6), secrets.token_urlsafe(32)
    return f"frl_{token_id}_{secret}", Token(token_id, _hash(secret), scope, site, description, now, now + lifetime)


def parse(text: str) -> tuple[str, str] | None:
    """Id and secret of a token's text, or None when it is not one."""
    found = _TOKEN.fullmatch(text)
    return (found.group(1), found.group(2)) if found else None


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who makes a request.

    Attributes:
        name: the token's id; `loopback` where nobody is asked; `anonymous` on public routes.
        scope: None for anonymous.
    """

    name: str
    scope: Scope | None
    site: str | None = None

    def may(self, *scopes: Scope) -> bool:
        """Whether one of `scopes` is the caller's; an admin may do everything."""
        return self.scope is Scope.ADMIN or self.scope in scopes


LOOPBACK: Final = Caller("loopback", Scope.ADMIN)
ANONYMOUS: Final = Caller("anonymous", None)


@dataclass(frozen=True, slots=True)
class UploadGrant:
    """A short-lived way to create candidates and to set their index tags, and nothing else.

    It covers the whole container: the site that a device's token names does not limit where it can write.

    Attributes:
        url: of the container, with its signature; as secret as a password.
    """

    url: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """An administrative call: who asked for what, when, and how it ended.

    Attributes:
        action: method and route template, such as `DELETE /dataset/{ID}`.
        target: what the route's parameters named; empty when it names nothing.
        status: HTTP status of the answer.
    """

    id: str
    at: datetime
    actor: str
    action: str
    target: Mapping[str, str]
    status: int

    def __post_init__(self) -> None:
        require_utc(self.at)
