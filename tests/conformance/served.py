"""A served app that asks for tokens, and a token of each scope."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from PIL import Image

from functions.admin.service import TokenService
from shared.access import Scope
from shared.adapters.local import LocalStore, LocalTokenRepository
from shared.domain import utc_now
from tests.conformance import payloads
from tests.e2e.service import Service, serving


@dataclass
class Guarded:
    """A running service.

    Attributes:
        tokens: one for each scope.
    """

    service: Service
    tokens: dict[Scope, str]

    def headers(self, scope: Scope | None) -> dict[str, str]:
        """What a caller of this scope sends; nothing for a stranger."""
        return {"Authorization": f"Bearer {self.tokens[scope]}"} if scope else {}


@contextmanager
def guarded(folder: Path) -> Iterator[Guarded]:
    """A service with authentication on, without limits of rate, where nobody waits long for a training."""
    data = folder / "data"
    settings = {"AUTH": "true", "RATE_LIMIT": "", "RATE_LIMIT_ANONYMOUS": "", "TRAIN_HTTP_WAIT_S": "5"}
    with serving(data, folder / "log", **{f"FACERELAY_{name}": value for name, value in settings.items()}) as service:
        store = LocalStore(data)
        issuer = TokenService(LocalTokenRepository(store), utc_now)
        lifetime = timedelta(days=1)
        tokens = {
            scope: issuer.create(scope, lifetime=lifetime, site="site" if scope is Scope.DEVICE else None)[0]
            for scope in Scope
        }
        store.close()
        yield Guarded(service, tokens)
        service.stop()


def small_photograph() -> bytes:
    """A face that is quickly found."""
    sink = io.BytesIO()
    with Image.open(io.BytesIO(payloads.photo("demo_obama"))) as image:
        small = image.convert("RGB")
    small.thumbnail((200, 200))
    small.save(sink, "JPEG")
    return sink.getvalue()
