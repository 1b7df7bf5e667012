"""A page of metrics on a port of this machine, for the gateway, which has no other HTTP."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from local.edge_page.access import names_loopback
from shared.errors import ConfigurationError

_HOST = "127.0.0.1"


@contextmanager
def serving(page: Callable[[], bytes], port: int) -> Iterator[str]:
    """Answers `GET /metrics` while the body runs, to this machine alone; gives the address.

    Args:
        port: 0 for any that is free.

    Raises:
        ConfigurationError: the port is taken.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if not names_loopback(self.headers.get("Host", "")):
                self.send_error(421, "this page answers to 127.0.0.1 and localhost alone")
                return
            found = self.path.partition("?")[0] == "/metrics"
            body = page() if found else b"not found; metrics are at /metrics\n"
            self.send_response(200 if found else 404)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Says nothing: a scrape every few seconds is no news."""

    try:
        server = ThreadingHTTPServer((_HOST, port), Handler)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {_HOST} port {port}: {error.strerror}") from error
    threading.Thread(target=server.serve_forever, name="metrics", daemon=True).start()
    try:
        yield f"http://{_HOST}:{server.server_address[1]}/metrics"
    finally:
        server.shutdown()
        server.server_close()
