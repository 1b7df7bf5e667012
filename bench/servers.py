"""Azurite and the Cosmos DB server from npm, on free loopback ports: for tests and for benchmarks."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

_ROOT: Final = Path(__file__).parents[1]
NODE_MODULES: Final = _ROOT / "node_modules"
START_S: Final = 30.0

# Published with the emulators, the same for everybody: they protect nothing.
STORAGE_ACCOUNT: Final = "devstoreaccount1"
STORAGE_KEY: Final = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
COSMOS_KEY: Final = "C2y6yDjf5/R+ob0N8A7Cgv30VRDJIWEHLM+4QDU5DE2nQ9nDuVTqobD4b8mGGyPMbIZnqyMsEcaGQy67XIw/Jw=="


@dataclass
class Server:
    """A server process of ours, and how to bring it back."""

    command: list[str]
    ports: list[int]
    folder: Path
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self) -> None:
        """Starts it and waits until every port takes connections."""
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                self.command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
            )
        deadline = time.monotonic() + START_S
        for port in self.ports:
            while not _listens(port):
                if self.process.poll() is not None or time.monotonic() > deadline:
                    self.stop()
                    raise RuntimeError(f"did not start:\n{(self.folder / 'output').read_text()[-2_000:]}")
                time.sleep(0.05)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stands still for a while, as if unreachable: unlike a stop it keeps what is only in its memory."""
        if self.process is None:
            raise RuntimeError("it is not running")
        self.process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.process.send_signal(signal.SIGCONT)

    def stop(self) -> None:
        """Ends it; the process is our own child, known by its id."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


@dataclass(frozen=True)
class Storage:
    """A running Azurite, and what it is reached by."""

    server: Server
    blob_port: int
    queue_port: int

    @property
    def connection_string(self) -> str:
        return connection_string(self.blob_port, self.queue_port)


@dataclass(frozen=True)
class Cosmos:
    """A running Cosmos DB server. Plain HTTP: its certificate ran out in 2021, and a proxy can stand before it."""

    server: Server
    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def connection_string(blob_port: int, queue_port: int) -> str:
    """Of the emulators' well-known account, on any ports."""
    return (
        f"DefaultEndpointsProtocol=http;AccountName={STORAGE_ACCOUNT};AccountKey={STORAGE_KEY};"
        f"BlobEndpoint=http://127.0.0.1:{blob_port}/{STORAGE_ACCOUNT};"
        f"QueueEndpoint=http://127.0.0.1:{queue_port}/{STORAGE_ACCOUNT};"
    )


@contextmanager
def azurite() -> Iterator[Storage]:
    """Azurite in memory."""
    blob, queue, table = free_ports(3)
    arguments = ["--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry", "--silent"]
    for kind, port in (("blob", blob), ("queue", queue), ("table", table)):
        arguments += [f"--{kind}Host", "127.0.0.1", f"--{kind}Port", str(port)]
    with _running(NODE_MODULES / ".bin" / "azurite", arguments, [blob, queue]) as server:
        yield Storage(server, blob, queue)


@contextmanager
def cosmos_server() -> Iterator[Cosmos]:
    """The Cosmos DB server, in memory."""
    (port,) = free_ports(1)
    with _running(_ROOT / "tests" / "cosmos-server.cjs", [str(port)], [port]) as server:
        yield Cosmos(server, port)


def free_ports(count: int) -> list[int]:
    """Loopback ports that nobody listens to now."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


@contextmanager
def _running(script: Path, arguments: list[str], ports: list[int]) -> Iterator[Server]:
    node = shutil.which("node")
    if node is None or not NODE_MODULES.is_dir():
        raise RuntimeError("the test servers are not installed: run `make node_modules/.installed` (needs Node.js)")
    folder = Path(tempfile.mkdtemp(prefix=f"{script.stem}-"))
    server = Server([node, os.path.realpath(script), *arguments], ports, folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()
        shutil.rmtree(folder, ignore_errors=True)


def _listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
