"""The client that the command line talks through."""

from __future__ import annotations

import pytest

from local import client as module
from local.client import Client
from shared.errors import ConfigurationError, InvalidInput, StoreUnavailable


def test_names_are_escaped_in_paths(service) -> None:
    client = Client(service.url)
    service.queue = [(200, {"last_known_location": []})]
    client.add_person("Harrison Ford/..")
    client.remove_person("a?b")
    client.last_known_location("../dataset")
    assert service.asked == [
        ("POST", "/dataset/Harrison%20Ford%2F.."),
        ("DELETE", "/dataset/a%3Fb"),
        ("GET", "/database/..%2Fdataset/last-known-location"),
    ]


def test_a_refusal_is_told_in_the_services_own_words(service) -> None:
    service.queue = [(400, {"message": "m", "error_message": "the face is too small", "code": "unusable_face"})]
    with pytest.raises(InvalidInput, match="the face is too small"):
        Client(service.url).add_image("ann", b"")


@pytest.mark.parametrize("document", [b"", b"<html>", b"[1]", {}])
def test_an_answer_that_is_no_document_is_told_by_its_status(service, document) -> None:
    service.queue = [(404, document)]
    with pytest.raises(InvalidInput, match="404"):
        Client(service.url).call("GET", "/x")


def test_a_service_that_cannot_now_is_not_the_callers_fault(service) -> None:
    service.queue = [(503, {"error_message": "the store is away"})]
    with pytest.raises(StoreUnavailable, match="the store is away"):
        Client(service.url).call("GET", "/x")


def test_nobody_there_says_what_to_do(service) -> None:
    with pytest.raises(StoreUnavailable, match="facerelay serve"):
        Client("http://127.0.0.1:9").call("GET", "/x")


@pytest.mark.parametrize("url", ["nonsense", "", "http://"])
def test_what_is_no_url_is_named(url: str) -> None:
    with pytest.raises(ConfigurationError):
        Client(url).call("GET", "/x")


def test_training_is_waited_for_without_haste(service, monkeypatch: pytest.MonkeyPatch) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(module.time, "sleep", pauses.append)
    job = {"job_id": "j", "status": "queued"}
    service.queue = [(202, job), (200, job | {"status": "running"}), (200, job | {"status": "succeeded"})]
    assert Client(service.url).train()["status"] == "succeeded"
    assert service.asked[1:] == [("GET", "/api/v1/jobs/j")] * 2
    assert len(pauses) == 2 and min(pauses) >= 0.1


def test_training_that_fails_says_why(service) -> None:
    service.queue = [(202, {"job_id": "j", "status": "queued"}), (200, {"status": "failed", "error": "integrity: x"})]
    with pytest.raises(InvalidInput, match="integrity: x"):
        Client(service.url).train()
