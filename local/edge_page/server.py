"""Serves the page from a thread of the gateway."""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn

from local.patience import PatientH11
from shared.errors import ConfigurationError

_BACKLOG: Final = 32
_MOST_CONNECTIONS: Final = 64
_START_S: Final = 10.0
_STOP_S: Final = 5.0


@contextmanager
def serving_page(app: Any, address: str, port: int, *, any_port: bool = False) -> Iterator[str]:
    """Answers while the body runs; gives the address as this machine reaches it.

    Args:
        port: 0 for any that is free.
        any_port: take any other when `port` is taken.

    Raises:
        ConfigurationError: the port is taken, or the address is not this machine's.
    """
    listener = _listen(address, port, any_port)
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            http=PatientH11,
            log_config=None,
            access_log=False,
            lifespan="off",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=_MOST_CONNECTIONS,
            timeout_keep_alive=5,
            timeout_graceful_shutdown=2,
        )
    )
    thread = threading.Thread(target=server.run, args=([listener],), name="page", daemon=True)
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)  # that it started is no news
    thread.start()
    waited = threading.Event()
    for _ in range(int(_START_S / 0.02)):
        if server.started or not thread.is_alive():
            break
        waited.wait(0.02)
    try:
        host, bound = listener.getsockname()[:2]
        yield f"http://{reached(host)}:{bound}"
    finally:
        server.should_exit = True
        thread.join(_STOP_S)
        listener.close()


def _listen(address: str, port: int, any_port: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    for tried in (port, 0) if any_port and port else (port,):
        try:
            return socket.create_server((address, tried), family=family, backlog=_BACKLOG)
        except OSError as error:
            reason = error.strerror or str(error)
    raise ConfigurationError(f"the live page cannot listen on {address} port {port}: {reason}; set edge_page_port")


def reached(host: str) -> str:
    """How this machine reaches what is bound to an address, as part of a URL."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  (bound by the operator, reached here)
    return f"[{host}]" if ":" in host else host
