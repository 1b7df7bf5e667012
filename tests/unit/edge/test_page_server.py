"""The live page's server: silent, slow and half-said requests do not keep others out."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from local.edge_page.server import _MOST_CONNECTIONS, serving_page
from local.patience import PatientH11

WAIT_S = 0.4


async def _hello(request: Request) -> Response:
    return PlainTextResponse(f"hello {len(await request.body())}")


@pytest.fixture
def url(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(PatientH11, "request_s", WAIT_S)
    with serving_page(Starlette(routes=[Route("/", _hello, methods=["GET", "POST"])]), "127.0.0.1", 0) as url:
        yield url


def connected(url: str) -> socket.socket:
    parts = urlsplit(url)
    return socket.create_connection((str(parts.hostname), int(parts.port or 0)), timeout=10)


def closed_after_s(client: socket.socket) -> float:
    began = time.monotonic()
    with suppress(ConnectionResetError):
        assert client.recv(1) == b""
    return time.monotonic() - began


def test_silent_connections_do_not_keep_others_out(url: str) -> None:
    silent = [connected(url) for _ in range(_MOST_CONNECTIONS)]
    try:
        deadline = time.monotonic() + 10
        while (answer := requests.get(url, timeout=10)).status_code == 503 and time.monotonic() < deadline:
            time.sleep(0.05)
        assert answer.text == "hello 0"
    finally:
        for each in silent:
            each.close()


@pytest.mark.parametrize(
    "said",
    [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: x\r\n", b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nabc"],
    ids=["nothing", "a bit", "no end", "half a body"],
)
def test_a_request_that_is_never_whole_is_given_up(url: str, said: bytes) -> None:
    with connected(url) as client:
        client.sendall(said)
        assert WAIT_S / 2 < closed_after_s(client) < 5


def test_a_request_in_drips_is_given_up(url: str) -> None:
    with connected(url) as client:
        ended = threading.Event()

        def drip() -> None:
            for letter in b"GET / HTTP/1.1\r\nHost: a-name-without-end" * 40:
                if ended.wait(0.05):
                    return
                try:
                    client.sendall(bytes([letter]))
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            assert closed_after_s(client) < 5
        finally:
            ended.set()
            thread.join()


def test_a_second_request_over_the_same_connection_has_its_own_time(url: str) -> None:
    with connected(url) as client:
        for _ in range(3):
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            answer = b""
            while b"hello 0" not in answer:
                answer += client.recv(4_096)
            time.sleep(WAIT_S * 0.7)
        client.sendall(b"GET / HT")
        assert WAIT_S / 2 < closed_after_s(client) < 5


def test_a_long_answer_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(_: Request) -> Response:
        await asyncio.sleep(3 * WAIT_S)
        return PlainTextResponse("at last")

    monkeypatch.setattr(PatientH11, "request_s", WAIT_S)
    with serving_page(Starlette(routes=[Route("/", slow)]), "127.0.0.1", 0) as slow_url:
        assert requests.get(slow_url, timeout=10).text == "at last"
