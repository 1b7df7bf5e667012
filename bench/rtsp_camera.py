"""A real RTSP camera for benchmarks and tests: `tests/rtsp_server.py` in a process that can be killed and stopped."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import time
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from bench.servers import free_ports
from shared.errors import StoreUnavailable

SERVER: Final = Path(__file__).parents[1] / "tests" / "rtsp_server.py"
SYSTEM_PYTHON: Final = "/usr/bin/python3"
PACKAGES: Final = (
    "python3-gi gir1.2-gst-rtsp-server-1.0 gstreamer1.0-plugins-base gstreamer1.0-plugins-good "
    "gstreamer1.0-plugins-bad ffmpeg"
)
_PROBE: Final = (
    "import gi; gi.require_version('Gst', '1.0'); gi.require_version('GstRtspServer', '1.0')\n"
    "from gi.repository import Gst, GstRtspServer; Gst.init(None)\n"
    "assert all(Gst.ElementFactory.find(e) for e in ('appsrc', 'h264parse', 'rtph264pay', 'rtpjpegpay'))"
)


def available() -> bool:
    """Whether the Debian packages are there that the server needs."""
    try:
        subprocess.run([SYSTEM_PYTHON, "-c", _PROBE], check=True, capture_output=True, timeout=30)
        subprocess.run(["ffmpeg", "-version"], check=True, capture_output=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return False
    return True


class RtspCamera:
    """One server on a port of its own, which stays the same over restarts.

    Args:
        video: what it shows, in a loop.
        keep: where the encoded video is kept, so that a restart takes no longer than a camera's.
        options: as `tests/rtsp_server.py` has them, without dashes.
    """

    def __init__(self, video: Path, keep: Path, **options: str) -> None:
        self.port = free_ports(1)[0]
        self.options = options
        self._video, self._keep = video, keep
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        user, word = self.options.get("user"), self.options.get("password", "")
        return f"rtsp://{f'{user}:{word}@' if user else ''}127.0.0.1:{self.port}/cam"

    def start(self, timeout_s: float = 60.0) -> float:
        """Starts it and waits until it listens: then, by the monotonic clock.

        Raises:
            StoreUnavailable: it did not come up.
        """
        command = [SYSTEM_PYTHON, str(SERVER), str(self._video), "--port", str(self.port), "--keep", str(self._keep)]
        command += [part for name, value in self.options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        said = self._process.stdout
        if said is None or not select.select([said], [], [], timeout_s)[0] or b"ready" not in said.readline():
            self.kill()
            raise StoreUnavailable("the RTSP server did not come up")
        return time.monotonic()

    def send(self, number: signal.Signals) -> None:
        """SIGUSR1: freeze or thaw; SIGUSR2: no packets, or again; SIGSTOP, SIGCONT."""
        if self._process is not None:
            os.kill(self._process.pid, number)

    def kill(self) -> None:
        """SIGKILL."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
