"""Runs a function app on this machine, from the first lock to the last signal."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import signal
import socket
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import azure.functions as func
import uvicorn

from local.host.backend import Backend
from local.host.hostjson import HostConfig
from local.host.http import MAX_BODY_BYTES, HttpApp
from local.host.index import index
from local.host.lock import only_host
from local.host.triggers import Triggers
from local.patience import patient
from shared.errors import ConfigurationError

logger = logging.getLogger(__name__)

DEFAULT_HOST_JSON = Path(__file__).parents[2] / "host.json"
_REQUEST_S = 300.0
"""Until all of a request is there: a photograph of 20 MB over a line of 0.6 Mbit/s."""
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def serve(
    app: func.FunctionApp,
    backend: Backend,
    *,
    host: str = "127.0.0.1",
    port: int = 7071,
    concurrency: int = 1,
    ready_callback: Callable[[str], None] | None = None,
    env: Mapping[str, str] | None = None,
    host_json: Path = DEFAULT_HOST_JSON,
    lease_s: float = 60.0,
    stop_timeout_s: float = 30.0,
    max_body_bytes: int = MAX_BODY_BYTES,
    silence_s: float = 30.0,
) -> None:
    """Runs the app's functions until a signal comes; must be called in the main thread.

    SIGINT or SIGTERM: takes nothing more, finishes what is in hand, returns. What does not end within
    `stop_timeout_s` is given back to its queue, and the process exits. A second signal exits at once.

    Args:
        app: the functions; must not be served twice at the same time.
        backend: where blobs and queues are; of its notes' folder, one host at a time.
        port: 0 for any that is free.
        concurrency: messages of one function worked on at a time.
        ready_callback: called with the base URL once everything runs.
        lease_s: how long a message is hidden at a time while its function runs, and after its host has died.
        max_body_bytes: of a request; bodies are collected before a function can ask who calls.
        silence_s: a connection that says nothing for so long, in the middle of a request or before it, is closed.
        env: app settings for `%NAME%` in bindings; the environment when it is None.

    Raises:
        Busy: another host runs on this data folder.
        ConfigurationError: the app or host.json cannot be used, or the port is taken.
    """
    config = HostConfig.load(host_json)
    functions = index(app, os.environ if env is None else env)
    with only_host(backend.notes.data_dir), _bound(host, port) as listening, _pool() as pool:
        triggers = Triggers(functions, backend, config, concurrency=concurrency, lease_s=lease_s)
        events = triggers.blob_events()
        prefix = config.route_prefix
        web = HttpApp(functions.http, prefix=prefix, pool=pool, blob_events=events, max_body_bytes=max_body_bytes)
        triggers.recover()
        done = asyncio.run(_run(web, triggers, listening, host, ready_callback, stop_timeout_s, silence_s))
        if not (done and web.idle):
            logger.warning("stopped with work in hand; it was given back", extra={"action": "stopped_late"})
            # A function that hangs cannot be ended, and would keep the interpreter from exiting.
            logging.shutdown()
            os._exit(0)
    logger.info("stopped", extra={"action": "stopped"})


class _Server(uvicorn.Server):
    """uvicorn without signal handlers of its own: it would re-raise the signal after a clean stop."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def _run(
    web: HttpApp,
    triggers: Triggers,
    listening: socket.socket,
    host: str,
    ready_callback: Callable[[str], None] | None,
    stop_timeout_s: float,
    silence_s: float,
) -> bool:
    """Serves until a signal. True when everything in hand was finished in time."""
    server = _Server(
        uvicorn.Config(
            web,
            http=patient(_REQUEST_S, silence_s),
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_graceful_shutdown=max(1, round(stop_timeout_s)),
        )
    )
    loop = asyncio.get_running_loop()
    with _handling_signals(loop, server, triggers):
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.01)
        try:
            triggers.start(loop)
            url = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}"
            logger.info("ready", extra={"action": "ready", "url": url})
            if ready_callback is not None:
                ready_callback(url)
            await serving
        finally:
            triggers.stop()
            # In a thread: async functions that are in hand need this loop.
            done = await asyncio.to_thread(triggers.join, stop_timeout_s)
    return done


@contextmanager
def _handling_signals(loop: asyncio.AbstractEventLoop, server: uvicorn.Server, triggers: Triggers) -> Iterator[None]:
    stopping = False

    def on_signal(number: int, _: object) -> None:
        # Kept to what a signal handler may do; signal.signal, since not every platform's loops take handlers.
        nonlocal stopping
        if stopping:
            os._exit(128 + number)
        stopping = True
        loop.call_soon_threadsafe(stop)

    def stop() -> None:
        logger.info("stopping", extra={"action": "stopping"})
        server.should_exit = True
        triggers.stop()

    before = {number: signal.signal(number, on_signal) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _bound(host: str, port: int) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named: asyncio sets TCP_NODELAY only on sockets that do, and without it answers wait 40 ms.
    with socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP) as listening:
        if os.name != "nt":  # there it would let two servers share a port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((host, port))
        except (OSError, OverflowError) as error:
            if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
                raise ConfigurationError(f"port {port} on {host} is in use; choose another with --port") from error
            raise ConfigurationError(f"cannot listen on {host} port {port}: {error}") from error
        yield listening


@contextmanager
def _pool() -> Iterator[ThreadPoolExecutor]:
    """Threads for HTTP functions that are not async; as many as the platform's Python worker has."""
    pool = ThreadPoolExecutor(min(32, (os.cpu_count() or 1) + 4), thread_name_prefix="http")
    try:
        yield pool
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
