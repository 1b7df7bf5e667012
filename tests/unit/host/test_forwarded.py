"""The embedded host tells its functions who called, as the platform does."""

from __future__ import annotations

from typing import Any

import pytest

from functions.guard import client_address
from local.host.http import _request


@pytest.mark.parametrize(
    ("sent", "expected"),
    [([], "192.0.2.7"), ([b"10.0.0.1"], "10.0.0.1, 192.0.2.7"), ([b"a", b"b"], "a,b, 192.0.2.7")],
)
def test_the_last_hop_is_the_address_that_was_seen(sent: list[bytes], expected: str) -> None:
    scope: dict[str, Any] = {
        "headers": [(b"x-forwarded-for", value) for value in sent],
        "query_string": b"",
        "scheme": "http",
        "client": ("192.0.2.7", 50_000),
    }
    headers = _request(scope, "GET", "/x", {}, b"").headers
    assert headers["x-forwarded-for"] == expected
    assert client_address({"client": None}, {b"x-forwarded-for": headers["x-forwarded-for"]}) == "192.0.2.7"


def test_without_a_client_nothing_is_made_up() -> None:
    scope: dict[str, Any] = {"headers": [], "query_string": b"", "scheme": "http", "client": None}
    assert "x-forwarded-for" not in _request(scope, "GET", "/x", {}, b"").headers
