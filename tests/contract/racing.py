"""Threads that start at the same moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")


def race(count: int, run: Callable[[int], T]) -> list[T]:
    """`run(0)` … `run(count - 1)` at once; their results in order. What any of them raises is raised."""
    barrier = threading.Barrier(count)

    def start(number: int) -> T:
        barrier.wait()
        return run(number)

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(start, range(count)))
