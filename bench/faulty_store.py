"""A proxy on loopback before a real HTTP store, that does to its callers what networks and stores do.

It understands as much HTTP as it needs for cutting a request in the middle and for losing an answer on purpose.
"""

from __future__ import annotations

import http.client
import itertools
import random
import socket
import struct
import threading
import time
from collections import Counter
from contextlib import suppress
from enum import StrEnum
from typing import BinaryIO, Final

_RESET: Final = struct.pack("ii", 1, 0)
_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})
_PIECE_BYTES: Final = 700
_HANG_SHARE: Final = 0.05
_THROTTLED_SHARE: Final = 0.05
"""Of `share`. Each one silences the caller for whole seconds."""


class Fault(StrEnum):
    """What is wrong at the moment."""

    NONE = "none"
    REFUSED = "refused"
    """Nobody listens."""
    SLOW = "slow"
    """Bytes trickle in both directions; one request in twenty is never answered."""
    CUT_BEFORE = "cut_before"
    """The line is cut in the middle of the upload: the store never sees it."""
    CUT_AFTER = "cut_after"
    """The store has written the blob; the answer is lost."""
    THROTTLED = "throttled"
    """429, with Retry-After."""
    FAILING = "failing"
    """500 and 503 by turns."""


class FaultyStore:
    """Passes requests on to the store at a port of loopback.

    Args:
        share: of the requests that `fault` befalls; all are refused when nobody listens.
        retry_after_s: what throttled callers are told.
        hang_s: how long an unanswered request is held.

    Attributes:
        counts: `connections`, `requests`, `bytes` in both directions, and how often each fault was done.
    """

    def __init__(
        self, store_port: int, *, share: float = 0.4, retry_after_s: int = 1, hang_s: float = 20.0, seed: int = 0
    ) -> None:
        self._store_port, self._share, self._retry_after_s, self._hang_s = store_port, share, retry_after_s, hang_s
        self._random = random.Random(seed)
        self._turns = itertools.count()
        self._fault = Fault.NONE
        self._guard = threading.Lock()
        self._open: set[socket.socket] = set()
        self._closed = threading.Event()
        self._listener: socket.socket | None = None
        self.counts: Counter[str] = Counter()
        self.port = 0
        self._listen()

    @property
    def fault(self) -> Fault:
        return self._fault

    @fault.setter
    def fault(self, fault: Fault) -> None:
        self._fault = fault
        if fault is Fault.REFUSED:
            self._deafen()
        elif self._listener is None:
            self._listen()

    def close(self) -> None:
        self._closed.set()
        self._deafen()

    def _listen(self) -> None:
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def _deafen(self) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)
            self._listener.close()
            self._listener = None
        with self._guard:
            for each in self._open:
                _reset(each)

    def _accept(self, listener: socket.socket) -> None:
        while not self._closed.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self._count("connections")
            with self._guard:
                self._open.add(client)
            threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        store = http.client.HTTPConnection("127.0.0.1", self._store_port, timeout=60)
        try:
            with client.makefile("rb") as reader:
                while self._request(client, reader, store):
                    pass
        except (OSError, ValueError, http.client.HTTPException):
            pass  # either side went away, as it may
        finally:
            store.close()
            with self._guard:
                self._open.discard(client)
            client.close()

    def _request(self, client: socket.socket, reader: BinaryIO, store: http.client.HTTPConnection) -> bool:
        """One request and its answer; False when the connection has ended."""
        head = _read_head(reader)
        if head is None:
            return False
        method, target, headers = head
        length = int(headers.get("content-length", "0"))
        fault = self._befalls(method)
        if fault is Fault.CUT_BEFORE:
            reader.read(length // 2)
            self._count(fault)
            _reset(client)
            return False
        body = _read_slowly(reader, length) if fault is Fault.SLOW else reader.read(length)
        self._count("requests")
        self._count("bytes", sum(len(name) + len(value) + 4 for name, value in headers.items()) + len(target) + length)
        if fault in (Fault.THROTTLED, Fault.FAILING):
            self._count(fault)
            client.sendall(self._refusal(fault))
            return True
        if fault is Fault.SLOW and self._chance(_HANG_SHARE):
            self._count("hung")
            self._closed.wait(self._hang_s)
            return False
        answer = _ask(store, method, target, headers, body)
        self._count("bytes", len(answer))
        if fault is Fault.CUT_AFTER:
            self._count(fault)
            _reset(client)
            return False
        if fault is Fault.SLOW:
            self._count(fault)
            for start in range(0, len(answer), 100):
                client.sendall(answer[start : start + 100])
                time.sleep(0.02)
        else:
            client.sendall(answer)
        return True

    def _befalls(self, method: str) -> Fault:
        """The fault that this request meets. Cut are uploads alone."""
        fault = self._fault
        if fault in (Fault.CUT_BEFORE, Fault.CUT_AFTER) and method != "PUT":
            return Fault.NONE
        share = self._share * (_THROTTLED_SHARE if fault is Fault.THROTTLED else 1.0)
        return fault if self._chance(share) else Fault.NONE

    def _refusal(self, fault: Fault) -> bytes:
        if fault is Fault.THROTTLED:
            line = f"429 Too Many Requests\r\nRetry-After: {self._retry_after_s}"
        else:
            line = "500 Internal Server Error" if next(self._turns) % 2 else "503 Service Unavailable"
        return f"HTTP/1.1 {line}\r\nContent-Length: 0\r\n\r\n".encode()

    def _chance(self, share: float) -> bool:
        with self._guard:
            return self._random.random() < share

    def _count(self, what: str, amount: int = 1) -> None:
        with self._guard:
            self.counts[str(what)] += amount


def _read_head(reader: BinaryIO) -> tuple[str, str, dict[str, str]] | None:
    """Method, target and headers (lower-case names); None at the end of the connection."""
    line = reader.readline(65_536).decode("latin-1")
    if not line.strip():
        return None
    method, target, _ = line.split(" ", 2)
    headers = {}
    while (line := reader.readline(65_536).decode("latin-1")).strip():
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    return method, target, headers


def _read_slowly(reader: BinaryIO, length: int) -> bytes:
    pieces = []
    while length > 0:
        pieces.append(reader.read(min(_PIECE_BYTES, length)))
        if not pieces[-1]:
            raise ConnectionError("the caller went away")
        length -= len(pieces[-1])
        time.sleep(0.01)
    return b"".join(pieces)


def _ask(store: http.client.HTTPConnection, method: str, target: str, headers: dict[str, str], body: bytes) -> bytes:
    """The store's answer, as bytes for the caller."""
    store.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        store.putheader(name, value)
    store.endheaders(body)
    answer = store.getresponse()
    content = answer.read()
    lines = [f"HTTP/1.1 {answer.status} {answer.reason}"]
    lines += [f"{name}: {value}" for name, value in answer.getheaders() if name.lower() not in _HOP]
    length = answer.getheader("Content-Length", "0") if method == "HEAD" else str(len(content))
    return "\r\n".join([*lines, f"Content-Length: {length}", "", ""]).encode("latin-1") + content


def _reset(connection: socket.socket) -> None:
    """Ends it as a broken line does, with nothing more in either direction."""
    with suppress(OSError):
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connection.shutdown(socket.SHUT_RDWR)
        connection.close()
