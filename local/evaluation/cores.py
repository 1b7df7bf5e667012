"""The same work on many photographs, on all cores, with a bar that says how far it is."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from rich.console import Console
from rich.progress import track

Item = TypeVar("Item")
Result = TypeVar("Result")


def on_all_cores(
    work: Callable[[Item], Result], items: Sequence[Item], what: str, console: Console, *, threads: int | None = None
) -> list[Result]:
    """`work` of each item, in order: a thread for each core, since ONNX runs release Python's lock and take one thread.

    Args:
        what: beside the bar.
        threads: instead of as many as cores, where the work is done elsewhere.
    """
    pool = ThreadPoolExecutor(threads or os.cpu_count())
    try:
        return list(track(pool.map(work, items), description=what, total=len(items), console=console, transient=True))
    finally:
        pool.shutdown(cancel_futures=True)  # after Ctrl-C, too, the rest is not begun
