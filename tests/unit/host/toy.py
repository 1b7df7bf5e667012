"""A function app that has nothing to do with the product: what the host's tests serve.

Run as `python -m tests.unit.host.toy FOLDER` it is served on a free port until a signal comes; settings in
`TOY_*` variables. What its functions do is written to `FOLDER/log`, one line for each event.
"""

from __future__ import annotations

import faulthandler
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import azure.functions as func

from local.host.backend import Backend, EmbeddedBackend, StorageBackend
from local.host.serve import serve
from shared.adapters.azure.access import AzureAccess
from shared.adapters.local import LocalStore
from shared.errors import StoreUnavailable


def die(_: str) -> None:
    os._exit(9)


def fail(_: str) -> None:
    raise ValueError("personal data")


def fail_for_now(_: str) -> None:
    raise StoreUnavailable("the database is away")


ORDERS: dict[str, Callable[[str], None]] = {
    "ok": lambda _: None,
    "sleep": lambda value: time.sleep(float(value.split()[0])),
    "hang": lambda _: time.sleep(600),
    "die": die,
    "raise": fail,
    "transient": fail_for_now,
}


def make_app(folder: Path) -> func.FunctionApp:
    """Work is told what to do by its message: a word of `ORDERS`, and its value."""
    app = func.FunctionApp(http_auth_level=func.AuthLevel.ANONYMOUS)

    def note(line: str) -> None:
        descriptor = os.open(folder / "log", os.O_CREAT | os.O_APPEND | os.O_WRONLY)
        try:
            os.write(descriptor, f"{line}\n".encode())
        finally:
            os.close(descriptor)

    def do(order: str) -> None:
        note(f"begin {order}")
        word, _, value = order.partition(" ")
        ORDERS[word](value)
        note(f"end {order}")

    @app.route("hello/{name}", methods=["GET"])
    async def hello(req: func.HttpRequest) -> func.HttpResponse:
        return func.HttpResponse(f"hello {req.route_params['name']}")

    @app.route("toil/{seconds}", methods=["POST"])
    def http_work(req: func.HttpRequest) -> str:
        do(f"sleep {req.route_params['seconds']}")
        return "done"

    @app.queue_trigger("message", "%TOY_QUEUE%", "AzureWebJobsStorage")
    def queue_work(message: func.QueueMessage, context: func.Context) -> None:
        assert context.function_name == "queue_work"
        do(message.get_body().decode())

    source = func.BlobSource(os.environ.get("TOY_SOURCE", func.BlobSource.LOGS_AND_CONTAINER_SCAN.value))

    @app.blob_trigger("blob", "candidates/{name}.txt", "AzureWebJobsStorage", source=source)
    async def blob_work(blob: func.InputStream) -> None:
        do(blob.read().decode())

    @app.timer_trigger("timer", "%TOY_SCHEDULE%")
    def tick(timer: func.TimerRequest) -> None:
        note(f"tick {timer.past_due}")

    return app


def make_backend(folder: Path) -> Backend:
    store = LocalStore(folder / "data")
    connection_string = os.environ.get("TOY_STORAGE")
    if connection_string is None:
        return EmbeddedBackend(store)
    access = AzureAccess(connection_string=connection_string)
    return StorageBackend(access.blob_store(), access.work_queue(), store)


def main() -> None:
    folder = Path(sys.argv[1])
    faulthandler.enable()

    def ready(url: str) -> None:
        waiting = folder / "url.new"
        waiting.write_text(url)
        waiting.replace(folder / "url")

    serve(
        make_app(folder),
        make_backend(folder),
        port=int(os.environ.get("TOY_PORT", "0")),
        concurrency=int(os.environ.get("TOY_CONCURRENCY", "2")),
        ready_callback=ready,
        host_json=folder / "host.json",
        lease_s=float(os.environ.get("TOY_LEASE_S", "60")),
        stop_timeout_s=float(os.environ.get("TOY_STOP_S", "10")),
        max_body_bytes=int(os.environ.get("TOY_MAX_BODY", "1000000")),
        silence_s=float(os.environ.get("TOY_SILENCE_S", "30")),
    )


if __name__ == "__main__":
    main()
