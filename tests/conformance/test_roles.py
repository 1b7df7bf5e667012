"""Nothing is reachable outside its scope: every route of a served app, called with a token of each scope and with none.

The table is docs/security.md's, of which a unit test shows that it has every route.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

from shared.access import Scope
from tests.conformance.served import Guarded, guarded

TABLE = Path(__file__).parents[2] / "docs" / "security.md"
PUBLIC = {("GET", "/health"), ("GET", "/docs"), ("GET", "/openapi.json")}
CALLERS = [None, Scope.DEVICE, Scope.OPERATOR, Scope.ADMIN]

Route = tuple[str, str]


def documented() -> dict[Route, set[Scope | None]]:
    """Who may call each route, by the table."""
    rows = re.findall(r"^\| ([A-Z]+) \| `(\S+)` \|(.+)\|$", TABLE.read_text(encoding="utf-8"), re.M)
    table: dict[Route, set[Scope | None]] = {
        (method, path): {scope for scope, cell in zip(CALLERS[1:], cells.split("|"), strict=True) if "✓" in cell}
        for method, path, cells in rows
    }
    return table | {route: set(CALLERS) for route in PUBLIC}


@pytest.fixture(scope="module")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    with guarded(tmp_path_factory.mktemp("roles")) as served:
        yield served


def reaches(app: Guarded, caller: Scope | None, route: Route) -> bool:
    """Whether the route itself answered: with anything but a refusal. What it is asked about does not exist."""
    method, template = route
    path = re.sub(r"\{\w+\}", "nobody", template)
    answer = requests.request(method, app.service.url + path, headers=app.headers(caller), timeout=60)
    assert answer.status_code < 500, f"{caller}: {method} {path}: {answer.text}"
    if answer.status_code in (401, 403):
        assert answer.status_code == (401 if caller is None else 403), f"{caller}: {method} {path}"
        return False
    return True


@pytest.mark.parametrize("caller", CALLERS)
def test_everybody_reaches_what_the_table_says_and_nothing_else(app: Guarded, caller: Scope | None) -> None:
    table = documented()
    assert len(table) > len(PUBLIC) + 30, "the table was not found"
    assert {route for route in table if reaches(app, caller, route)} == {
        route for route, callers in table.items() if caller in callers
    }
