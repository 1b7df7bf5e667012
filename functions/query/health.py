"""Whether this process can do its work, found out in bounded time and no more often than it helps."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from shared.errors import FacerelayError

Check = Callable[[], str]
"""Does something cheap that needs the part, and says what is worth knowing of it. Raises what the part raises."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one part is.

    Attributes:
        reason: a stable word for what is wrong; None when nothing is.
        detail: for operators; empty when the check has not answered.
    """

    name: str
    reason: str | None
    detail: str


class HealthService:
    """Looks at every part at the same time, each in a thread of its own.

    A check that hangs is not started a second time before it has come back: a store that is away must not fill the
    process with threads. Findings are kept for `fresh_s`, since anybody may ask, as often as they like.

    Args:
        checks: by name.
        timeout_s: how long an answer may take, at most.
    """

    def __init__(self, checks: Mapping[str, Check], *, timeout_s: float = 3.0, fresh_s: float = 2.0) -> None:
        self._checks = {name: _Running(name, check) for name, check in checks.items()}
        self._timeout_s, self._fresh_s = timeout_s, fresh_s
        self._lock = threading.Lock()
        self._found: list[Finding] = []
        self._found_at = float("-inf")

    def findings(self) -> list[Finding]:
        """How every part is, in the order of the checks."""
        with self._lock:
            if time.monotonic() - self._found_at > self._fresh_s:
                deadline = time.monotonic() + self._timeout_s
                for check in self._checks.values():
                    check.start()
                self._found = [check.finding(deadline) for check in self._checks.values()]
                self._found_at = time.monotonic()
            return self._found


class _Running:
    """One check, which may still be at it from the last time."""

    def __init__(self, name: str, check: Check) -> None:
        self._name, self._check = name, check
        self._thread: threading.Thread | None = None
        self._last: Finding | None = None

    def start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._last = None
            self._thread = threading.Thread(target=self._run, name=f"health-{self._name}", daemon=True)
            self._thread.start()

    def finding(self, deadline: float) -> Finding:
        if self._thread is not None:
            self._thread.join(max(0.0, deadline - time.monotonic()))
        return self._last or Finding(self._name, "timeout", "")

    def _run(self) -> None:
        try:
            self._last = Finding(self._name, None, self._check())
        except FacerelayError as error:
            self._last = Finding(self._name, error.code, str(error))
        except Exception as error:  # noqa: BLE001 - whatever it is, the part cannot be used
            self._last = Finding(self._name, "unexpected", type(error).__name__)
