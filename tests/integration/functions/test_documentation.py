"""The documentation that the service itself shows: offline, and complete."""

from __future__ import annotations

import json
import re

import pytest
from starlette.testclient import TestClient

COMPATIBLE = {
    "/dataset": {"get"},
    "/dataset/{ID}": {"post", "delete"},
    "/dataset/{ID}/image": {"post"},
    "/model/generate-emb": {"post"},
    "/model/optimized-train": {"post"},
    "/model/train": {"post"},
    "/face-recognition/get-results": {"post"},
    "/face-recognition/send-results": {"post"},
    "/face-recognition/store-results": {"post"},
    "/face-recognition/dry-run": {"post"},
    "/database/people": {"get"},
    "/database/{ID}/last-known-location": {"get"},
    "/debug/IP": {"get"},
    "/debug/node-name": {"get"},
    "/debug/unblock-dataset": {"post"},
}
"""Routes of the seed. GET get-results and the singular spellings are aliases, and left out of the schema: a browser
cannot send GET with a body, so "Try it out" would fail."""


def test_openapi_lists_every_compatible_route(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]
    for path, methods in COMPATIBLE.items():
        assert methods <= set(paths[path]), path


def test_images_can_be_tried_out(client: TestClient) -> None:
    """An upload button is shown for a multipart body only."""
    document = client.get("/openapi.json").json()
    for path in ("/face-recognition/get-results", "/dataset/{ID}/image"):
        assert "multipart/form-data" in document["paths"][path]["post"]["requestBody"]["content"]


def test_every_route_says_what_it_is(client: TestClient) -> None:
    for path, methods in client.get("/openapi.json").json()["paths"].items():
        for method, operation in methods.items():
            assert operation["summary"] and operation["description"], f"{method} {path}"


def test_every_route_shows_what_it_takes_and_gives(client: TestClient) -> None:
    """Examples of what must be given and of all that is answered; a description of what may be given: an example there
    would be filled in by "Try it out"."""
    document = client.get("/openapi.json").json()
    lacking = []
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for parameter in operation.get("parameters", []):
                shown = parameter["schema"].get("examples") if parameter["required"] else parameter.get("description")
                if not shown:
                    lacking.append(f"{method} {path}: {parameter['name']}")
            for status, answer in operation["responses"].items():
                content = answer.get("content", {}).get("application/json")
                if content and status.startswith("2") and "$ref" not in json.dumps(content["schema"]):
                    lacking.append(f"{method} {path}: its answer has no model")
    for name, schema in document["components"]["schemas"].items():
        form = name.startswith("Body_")
        for field, kind in schema.get("properties", {}).items():
            if "$ref" not in json.dumps(kind) and not kind.get("description" if form else "examples"):
                lacking.append(f"{name}.{field}")
    assert lacking == []


def test_the_page_needs_no_other_host(client: TestClient) -> None:
    page = client.get("/docs")
    assert page.status_code == 200 and "swagger" in page.text.lower()
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//[^"'> ]+""", page.text)
    needed = re.findall(r"""(?:src|href)=["']([^"']+)""", page.text)
    assert len(needed) >= 2
    for path in needed:
        assert client.get(path).status_code == 200, path


@pytest.mark.parametrize("path", ["/redoc", "/docs/static/../../etc/passwd", "/docs/static/%2e%2e/%2e%2e/etc/passwd"])
def test_nothing_else_is_served(client: TestClient, path: str) -> None:
    assert client.get(path).status_code == 404
