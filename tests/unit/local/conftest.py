"""A service on loopback that answers what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest


class Answers:
    """What to answer, and what was asked.

    Attributes:
        queue: (status, document) of the next answers; the last one is repeated.
        asked: (method, path) of every request.
    """

    def __init__(self) -> None:
        self.queue: list[tuple[int, Any]] = [(200, {})]
        self.asked: list[tuple[str, str]] = []
        self.url = ""

    def next(self) -> tuple[int, Any]:
        return self.queue.pop(0) if len(self.queue) > 1 else self.queue[0]


@pytest.fixture
def service() -> Iterator[Answers]:
    answers = Answers()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            answers.asked.append((self.command, self.path))
            status, document = answers.next()
            body = document if isinstance(document, bytes) else json.dumps(document).encode()
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_DELETE = answer

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    answers.url = f"http://127.0.0.1:{server.server_port}/"
    yield answers
    server.shutdown()
    server.server_close()
    thread.join()
