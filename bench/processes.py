"""What the kernel says of a process; and workers that do not outlive whoever started them."""

from __future__ import annotations

import os
import signal
import time
from multiprocessing import parent_process
from pathlib import Path
from threading import Thread, main_thread
from typing import Literal


def resident_mb(pid: int | str, which: Literal["VmRSS", "VmHWM"] = "VmRSS") -> float:
    """Resident memory of a process in MB: now (`VmRSS`), or its highest so far (`VmHWM`).

    Args:
        pid: or `self`.

    Raises:
        OSError: there is no such process.
        StopIteration: it has ended, and holds nothing any more.
    """
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{which}:"))


def end_with_parent(grace_s: float = 10.0) -> None:
    """Of a worker process: it ends when whoever started it does, however that came about.

    A worker of a pool that is killed waits for work for ever otherwise, and what it started lives on with it.

    Args:
        grace_s: time for the work at hand to tidy up, interrupted as by Ctrl-C.
    """
    # Whatever a shell starts in the background ignores Ctrl-C, and so do its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)

    def watch() -> None:
        parent = parent_process()
        if parent is None:
            return
        parent.join()
        if main := main_thread().ident:
            signal.pthread_kill(main, signal.SIGINT)
        time.sleep(grace_s)
        os._exit(1)

    Thread(target=watch, daemon=True).start()
