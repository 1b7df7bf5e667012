"""What the kernel says of a process."""

from __future__ import annotations

from pathlib import Path
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
