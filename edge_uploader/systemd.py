"""Tells systemd how the gateway is: a datagram to the socket that it names, after `sd_notify(3)`.

By hand, since it is this little: the package `sdnotify` has not changed since 2017 and hides every error, and
`cysystemd` needs systemd's headers and a compiler on the site's machine (docs/adr/0025-one-yaml-file.md).
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

logger = logging.getLogger(__name__)


class Systemd:
    """The service manager that started this process; does nothing when there is none.

    Args:
        environment: of this process.
        process_id: of this process: the watchdog's time concerns the one it names.
    """

    def __init__(self, environment: Mapping[str, str], process_id: int | None = None) -> None:
        self._address = environment.get("NOTIFY_SOCKET", "")
        wanted = environment.get("WATCHDOG_PID", "")
        here = not wanted or wanted == str(process_id or os.getpid())
        microseconds = environment.get("WATCHDOG_USEC", "")
        self._every_s = int(microseconds) / 1e6 / 2 if here and microseconds.isdigit() else 0.0
        self._fed_s = float("-inf")
        self._status = ""
        self._ready = self._failed = False

    def ready(self) -> None:
        """It works; sent once, however often this is called."""
        if not self._ready:
            self._ready = True
            self._send("READY=1")

    def stopping(self) -> None:
        self._send("STOPPING=1")

    def status(self, text: str) -> None:
        """A line for `systemctl status`; sent when it has changed."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={' '.join(text.split())}")

    def feed(self, now_s: float) -> None:
        """Keeps the watchdog quiet: twice in its time, however often this is called."""
        if self._every_s and now_s - self._fed_s >= self._every_s:
            self._fed_s = now_s
            self._send("WATCHDOG=1")

    def _send(self, message: str) -> None:
        if not self._address:
            return
        # "@" stands for the NUL byte of Linux' abstract names.
        address = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
                notify.connect(address)
                notify.sendall(message.encode())
        except (OSError, AttributeError) as error:
            if not self._failed:
                logger.warning("systemd was not told: %s", error, extra={"action": "notify_failed"})
            self._failed = True
        else:
            self._failed = False
