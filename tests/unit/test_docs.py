"""What is documented is what there is: settings with their defaults, and routes."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from pydantic_settings import BaseSettings

from edge_uploader.settings import EdgeSettings
from functions.http import routers
from shared.settings import Settings, StoreSettings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

NOT_SETTINGS = {"FACERELAY_URL", "FACERELAY_TOKEN", "FACERELAY_REQUIRE_SHARED"}
"""Of the command line, and of the tests."""


def table(page: str) -> dict[str, str]:
    """Setting → documented default, of every table row on a page."""
    rows = re.findall(r"^\| `(FACERELAY_[A-Z0-9_]+)` \| (.+?) \|", (DOCS / page).read_text(encoding="utf-8"), re.M)
    assert len(dict(rows)) == len(rows), "a setting is documented twice"
    return {name: default for name, default in rows if name not in NOT_SETTINGS}


def names(settings: type[BaseSettings]) -> set[str]:
    return {f"FACERELAY_{field.upper()}" for field in settings.model_fields}


def written(value: Any) -> str:
    """A default as the tables write it."""
    value = value.get_secret_value() if isinstance(value, SecretStr) else value
    if value is None or value == "":
        return "empty"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    if isinstance(value, float):
        return f"`{value:g}`"
    return f"`{value}`"


@pytest.mark.parametrize(
    ("settings", "page", "expected"),
    [
        (Settings, "settings.md", names(Settings)),
        (EdgeSettings, "edge.md", names(EdgeSettings) - names(StoreSettings)),
    ],
)
def test_every_setting_is_documented_with_its_default(
    settings: type[BaseSettings], page: str, expected: set[str]
) -> None:
    documented = table(page)
    assert set(documented) == expected
    for name, default in documented.items():
        field = settings.model_fields[name.removeprefix("FACERELAY_").lower()]
        if field.default_factory is None:
            assert default == written(field.default), name
        else:
            assert default.endswith("folder"), f"{name} depends on the machine"


@pytest.mark.parametrize("settings", [Settings, EdgeSettings])
def test_every_setting_says_what_it_is(settings: type[BaseSettings]) -> None:
    for name, field in settings.model_fields.items():
        assert field.description and field.description.endswith("."), name


def test_the_documents_name_no_setting_that_does_not_exist() -> None:
    known = names(Settings) | names(EdgeSettings) | NOT_SETTINGS
    for page in [ROOT / "README.md", *DOCS.rglob("*.md")]:
        named = set(re.findall(r"FACERELAY_[A-Z0-9_]*[A-Z0-9]", page.read_text(encoding="utf-8")))
        assert named <= known, page.name


def flat(router: Any) -> Iterator[Any]:
    """A router's own routes, and those of the routers that it includes."""
    for route in router.routes:
        if included := getattr(route, "original_router", None):
            yield from flat(included)
        else:
            yield route


def routes() -> set[tuple[str, str]]:
    """(method, path) of everything the application answers, from the routers that it includes."""
    found = {(method, route.path) for router in routers() for route in flat(router) for method in route.methods}
    return found | {("GET", "/docs"), ("GET", "/openapi.json")}


def test_every_route_is_documented_and_every_documented_route_is_there() -> None:
    rows = re.findall(r"^\| ([A-Z, ]+) \| `(/[^`]*)` \|", (DOCS / "api.md").read_text(encoding="utf-8"), re.M)
    documented = {(method, path) for methods, path in rows for method in methods.split(", ")}
    assert documented == routes()


@pytest.mark.parametrize("page", sorted(path.relative_to(ROOT).as_posix() for path in DOCS.rglob("*.md")))
def test_links_between_documents_lead_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
        assert ((ROOT / page).parent / target).exists(), target
