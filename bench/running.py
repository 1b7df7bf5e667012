"""A `facerelay serve` of the benchmark's own: started, awaited, measured, stopped or killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.processes import resident_mb
from local.client import Client
from shared.errors import StoreUnavailable


class Serve:
    """One service process on a free port of loopback.

    Args:
        data_dir: of the service; kept when it ends.
        log: its output is appended here.
        settings: environment variables besides.
    """

    def __init__(self, data_dir: Path, log: Path, **settings: str) -> None:
        self._environment = dict(os.environ) | {"FACERELAY_DATA_DIR": str(data_dir)} | settings
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self, *, ready: bool = True, timeout_s: float = 60.0) -> None:
        """Starts the process; waits until it listens, and with `ready` until it can recognise.

        Raises:
            StoreUnavailable: it did not come up.
        """
        offset = self._log.stat().st_size if self._log.exists() else 0
        with self._log.open("ab") as sink:
            command = [sys.executable, "-m", "local", "serve", "--no-auth", "--port", "0"]
            self._process = subprocess.Popen(command, env=self._environment, stdout=sink, stderr=sink)
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self._process.poll() is None:
            said = self._log.read_bytes()[offset:].decode(errors="replace").split()
            urls = [word for word in said if word.startswith("http://127.0.0.1:")]
            if urls and (not ready or Client(urls[0]).request("GET", "/health").ok):
                self.url = urls[0]
                return
            time.sleep(0.05)
        raise StoreUnavailable(f"the service did not come up; see {self._log}")

    def restart(self, *, within_s: float = 180.0) -> None:
        """Starts it again and again until it listens, as a supervisor does: what it needs at start may be away.

        Raises:
            StoreUnavailable: it did not come up in all that time.
        """
        deadline = time.monotonic() + within_s
        while True:
            try:
                return self.start(ready=False)
            except StoreUnavailable:
                self._end(signal.SIGKILL)
                if time.monotonic() > deadline:
                    raise
                time.sleep(1.0)

    @property
    def pid(self) -> int:
        if self._process is None:
            raise StoreUnavailable("the service was not started")
        return self._process.pid

    def peak_rss_mb(self) -> float:
        """Highest resident memory so far, as the kernel counts it."""
        with suppress(StopIteration):
            return resident_mb(self.pid, "VmHWM")
        return float("nan")

    def kill(self) -> None:
        """SIGKILL: no chance to tidy up."""
        self._end(signal.SIGKILL)

    def stop(self) -> int:
        """SIGTERM; returns the exit status."""
        return self._end(signal.SIGTERM)

    def _end(self, number: signal.Signals) -> int:
        if self._process is None:
            return 0
        self._process.send_signal(number)
        status = self._process.wait(60)
        self._process = None
        return status

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
