"""HTTP connections that are closed when nobody asks anything over them."""

from __future__ import annotations

import asyncio
from typing import ClassVar

from uvicorn.protocols.http.h11_impl import H11Protocol


class PatientH11(H11Protocol):
    """uvicorn's own, which waits without end for a request that was never begun, or never ended.

    There are only so many connections, and whoever holds them all in silence would keep everybody else out.

    Attributes:
        request_s: from the connection, or from a request's first byte, until all of it is there.
        silence_s: in which nothing more of it comes.
    """

    request_s: ClassVar[float] = 10.0
    silence_s: ClassVar[float] = 10.0

    _timer: asyncio.TimerHandle | None = None
    _given_up_at: float = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self._asked():
            self._wait_no_more()
        else:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wait_no_more()
        super().connection_lost(exc)

    def _asked(self) -> bool:
        """Whether a whole request is here, and its answer is not yet complete."""
        return self.cycle is not None and not self.cycle.more_body and not self.cycle.response_complete

    def _wait(self) -> None:
        now = self.loop.time()
        if self._timer is None:
            self._given_up_at = now + self.request_s
        else:
            self._timer.cancel()
        self._timer = self.loop.call_at(min(self._given_up_at, now + self.silence_s), self.transport.abort)

    def _wait_no_more(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def patient(request_s: float, silence_s: float) -> type[PatientH11]:
    """The protocol that waits for so long."""
    return type("PatientH11", (PatientH11,), {"request_s": request_s, "silence_s": silence_s})
