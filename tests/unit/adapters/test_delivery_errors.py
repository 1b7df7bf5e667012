"""What a gateway's stores make of answers: over real HTTP on loopback."""

from __future__ import annotations

import json
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests
from azure.core.exceptions import ClientAuthenticationError, ServiceRequestError
from azure.identity import CredentialUnavailableError
from urllib3.exceptions import ProxyError, SSLError

from shared.adapters.azure.access import AzureAccess
from shared.adapters.azure.patience import Patience
from shared.adapters.azure.storage_errors import translated
from shared.adapters.azure.unsent import was_sent
from shared.adapters.intake import open_service_store
from shared.errors import InvalidInput, NotFound, StoreUnavailable
from tests.servers import connection_string, free_ports


class Answers:
    """A server that answers everything as it is told: status, headers, body."""

    def __init__(self):
        self.answer = 503, {}, b""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_PUT(self):
                self.rfile.read(int(self.headers.get("content-length", 0)))
                status, headers, body = outer.answer
                if self.path.endswith("/uploads"):
                    status, headers, body = 409, {}, json.dumps({"code": "configuration"}).encode()
                self.send_response(status)
                for key, value in {**headers, "content-length": str(len(body))}.items():
                    self.send_header(key, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_PUT

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,))
        self.thread.start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def answers():
    made = Answers()
    yield made
    made.close()


def storage(port):
    patience = Patience(retries=0, read_s=1)
    return AzureAccess(connection_string=connection_string(port, port), patience=patience).blob_store()


def service(port, host="127.0.0.1"):
    return open_service_store(f"http://{host}:{port}", "frl_token")


def put(store):
    return store.put("candidates", "hq/door/1.jpg", b"crop", metadata={"site": "hq"}, if_absent=True)


def test_a_404_of_storage_is_an_answer_and_a_bare_one_is_a_proxys(answers):
    store = storage(answers.port)
    answers.answer = 404, {}, b"<html>no such backend</html>"
    with pytest.raises(StoreUnavailable, match="404"):
        put(store)
    answers.answer = 404, {"x-ms-error-code": "ResourceNotFound"}, b""
    with pytest.raises(NotFound):
        put(store)


def test_what_the_service_says_of_a_refusal_is_told_and_no_name(answers):
    answers.answer = 400, {}, json.dumps({"message": "candidate schema 3;\n update this service"}).encode()
    with pytest.raises(InvalidInput) as caught:
        put(service(answers.port))
    assert str(caught.value) == "the service refused the crop (400): candidate schema 3; update this service"


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}"])
def test_a_refusal_without_words_is_one(answers, body):
    answers.answer = 413, {}, body
    with pytest.raises(InvalidInput, match=r"\(413\): without a reason"):
        put(service(answers.port))


def sent(store):
    with pytest.raises(StoreUnavailable) as caught:
        put(store)
    return caught.value.sent


def straight(port, host="127.0.0.1"):
    """Of a service that gives no grants, which need not be asked."""
    store = service(port, host)
    store._direct = lambda: True
    return store


@pytest.mark.parametrize("kind", ["storage", "service"])
def test_what_found_no_connection_never_left(kind, monkeypatch):
    (port,) = free_ports(1)
    make = {"storage": storage, "service": straight}[kind]
    assert not sent(make(port))

    def no_such_name(*args, **more):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", no_such_name)
    assert not sent(make(port))


@pytest.mark.parametrize("kind", ["storage", "service"])
def test_what_had_a_connection_was_sent(kind, answers, monkeypatch):
    """An answer, a cut, and none in time."""
    monkeypatch.setattr("shared.adapters.intake._TIMEOUT_S", (5, 1))
    make = {"storage": storage, "service": straight}[kind]
    for status in (401, 403, 503):
        answers.answer = status, {}, b""
        assert sent(make(answers.port))
    with socket.create_server(("127.0.0.1", 0)) as server:
        cutter = threading.Thread(target=lambda: server.accept()[0].close())
        cutter.start()
        assert sent(make(server.getsockname()[1]))
        cutter.join()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert sent(make(silent.getsockname()[1]))


def test_what_got_no_token_never_left():
    for error in (CredentialUnavailableError(message="no identity"), ClientAuthenticationError(message="no")):
        with pytest.raises(StoreUnavailable) as caught, translated("writing a blob"):
            raise error
        assert not caught.value.sent


def test_what_nobody_knows_counts_as_sent():
    """The SDK takes a line that TLS broke off for one that was never there."""
    assert was_sent(ServiceRequestError("x", error=requests.exceptions.SSLError(SSLError("EOF"))))
    assert was_sent(requests.ConnectionError(ProxyError("proxy", OSError("cut"))))
    assert was_sent(requests.ReadTimeout())
