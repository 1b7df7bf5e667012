"""A TCP proxy on loopback that counts what passes, in each direction. It neither reads nor changes anything."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

_CHUNK_BYTES = 1 << 16


@dataclass(slots=True)
class Traffic:
    """Bytes above TCP since the last `reset`: what its headers, acknowledgements and repeats add is not in them.

    Attributes:
        up: from the clients.
        down: to them.
        connections: that were opened.
    """

    up: int = 0
    down: int = 0
    connections: int = 0
    guard: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def count(self, up: int, down: int) -> None:
        with self.guard:
            self.up += up
            self.down += down

    def reset(self) -> None:
        with self.guard:
            self.up = self.down = self.connections = 0

    @property
    def both(self) -> int:
        return self.up + self.down


@contextmanager
def counting(target_port: int) -> Iterator[tuple[int, Traffic]]:
    """Listens on a free port before `target_port` of loopback; gives the port and what is counted."""
    traffic = Traffic()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        open_sockets: list[socket.socket] = []
        thread = threading.Thread(target=_accept, args=(listener, target_port, traffic, open_sockets), daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], traffic
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(5)
            for each in open_sockets:
                with contextlib.suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()


def _accept(listener: socket.socket, target_port: int, traffic: Traffic, open_sockets: list[socket.socket]) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        traffic.connections += 1
        server = socket.create_connection(("127.0.0.1", target_port))
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        open_sockets += [client, server]
        for source, sink, upwards in ((client, server, True), (server, client, False)):
            threading.Thread(target=_pump, args=(source, sink, traffic, upwards), daemon=True).start()


def _pump(source: socket.socket, sink: socket.socket, traffic: Traffic, upwards: bool) -> None:
    """Passes on until one side closes, then tells the other."""
    with contextlib.suppress(OSError):
        while data := source.recv(_CHUNK_BYTES):
            # Counted before it goes on: whoever has got an answer finds it counted.
            traffic.count(len(data) * upwards, len(data) * (not upwards))
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
