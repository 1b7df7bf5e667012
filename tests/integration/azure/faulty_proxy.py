"""A loopback HTTP proxy that stands before a server and misbehaves as it is told, one request after the other."""

from __future__ import annotations

import http.client
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    Attributes:
        status: answered instead of the server, which is not asked.
        headers: of that answer.
        cut: the server is asked and does its work, but only half of its answer gets through.
        hang: the server is not asked, and nothing is answered as long as the test runs.
    """

    status: int = 0
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: bool = False
    hang: bool = False


CUT = Fault(cut=True)
HANG = Fault(hang=True)


class FaultyProxy:
    """Forwards to a port on loopback; requests whose path has `marker` in it meet the planned faults, in order."""

    def __init__(self, target: int, marker: str = "/") -> None:
        self._target = target
        self._marker = marker
        self._plan: deque[Fault] = deque()
        self._forever: Fault | None = None
        self._released = threading.Event()
        self._guard = threading.Lock()
        self.seen: list[str] = []
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                self.raw_requestline = self.rfile.readline(65_537)
                if not self.raw_requestline or not self.parse_request():
                    self.close_connection = True
                    return
                proxy._serve(self)

            def log_message(self, format: str, *arguments: object) -> None:
                """Tests have no use for it."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def plan(self, *faults: Fault, forever: Fault | None = None) -> None:
        """The next requests meet `faults`, one each; after them all meet `forever`, or none."""
        with self._guard:
            self._plan = deque(faults)
            self._forever = forever
            self.seen.clear()

    def _next(self, method: str, path: str) -> Fault | None:
        with self._guard:
            if self._marker not in path:
                return None
            self.seen.append(method)
            return self._plan.popleft() if self._plan else self._forever

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        length = int(handler.headers.get("Content-Length") or 0)
        body = handler.rfile.read(length)
        fault = self._next(handler.command, handler.path)
        if fault is not None and fault.hang:
            self._released.wait(60)
            handler.close_connection = True
        elif fault is not None and fault.status:
            _answer(handler, fault.status, list(fault.headers.items()), b"")
        else:
            self._forward(handler, body, cut=fault is not None and fault.cut)

    def _forward(self, handler: BaseHTTPRequestHandler, body: bytes, *, cut: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._target, timeout=30)
        try:
            connection.putrequest(handler.command, handler.path, skip_host=True, skip_accept_encoding=True)
            for name, value in handler.headers.items():
                if name.lower() != "connection":
                    connection.putheader(name, value)
            connection.endheaders(body)
            response = connection.getresponse()
            data = response.read()
            headers = [(n, v) for n, v in response.getheaders() if n.lower() not in _OURS]
            if handler.command == "HEAD":
                headers.append(("Content-Length", response.headers.get("Content-Length") or "0"))
            _answer(handler, response.status, headers, data, cut=cut, head=handler.command == "HEAD")
        finally:
            connection.close()

    def __enter__(self) -> FaultyProxy:
        self._thread.start()
        return self

    def __exit__(self, *unused: object) -> None:
        self._released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


_OURS = {"connection", "content-length", "transfer-encoding", "keep-alive"}


def _answer(
    handler: BaseHTTPRequestHandler,
    status: int,
    headers: list[tuple[str, str]],
    data: bytes,
    *,
    cut: bool = False,
    head: bool = False,
) -> None:
    lines = [f"HTTP/1.1 {status} {http.client.responses.get(status, '')}"]
    lines += [f"{name}: {value}" for name, value in headers]
    if not head and status not in (204, 304):
        lines.append(f"Content-Length: {len(data)}")
    answer = "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head else data)
    if cut:
        # With a body, half of it is missing; without one, all but the first bytes (clients put up with cut headers).
        answer = answer[: len(answer) - max(len(data) // 2, 1)] if data else answer[:5]
        handler.close_connection = True
    handler.wfile.write(answer)


@contextmanager
def faulty(target: int, marker: str = "/") -> Iterator[FaultyProxy]:
    """A running proxy before `target`."""
    with FaultyProxy(target, marker) as proxy:
        yield proxy
