"""Reads a source in a thread of its own, so that the next frame is decoded while this one is looked at."""

from __future__ import annotations

import queue
import threading
from collections.abc import Generator, Iterator
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.2


def read_ahead(items: Iterator[T], *, depth: int = 4) -> Generator[T, None, None]:
    """The same items in the same order; at most `depth` of them are made before they are asked for.

    What `items` raises is raised here, after the items before it. When this is closed, `items` is closed too, by the
    reading thread, after the item under way.
    """
    ready: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
    stop = threading.Event()
    reader = threading.Thread(target=_read, args=(items, ready, stop), name="read ahead", daemon=True)
    reader.start()
    try:
        while True:
            item, error = ready.get()
            if error is not None:
                if isinstance(error, StopIteration):
                    return
                raise error
            if item is not None:
                yield item
            del item  # a frame is large: it is not kept while the next is waited for
    finally:
        stop.set()
        reader.join()


def _read(items: Iterator[T], ready: queue.Queue[tuple[T | None, BaseException | None]], stop: threading.Event) -> None:
    try:
        for item in items:
            if not _put(ready, (item, None), stop):
                return
        _put(ready, (None, StopIteration()), stop)
    except BaseException as error:  # noqa: BLE001 (raised again where the items are asked for)
        _put(ready, (None, error), stop)
    finally:
        close = getattr(items, "close", None)
        if close is not None:
            close()


def _put(
    ready: queue.Queue[tuple[T | None, BaseException | None]],
    entry: tuple[T | None, BaseException | None],
    stop: threading.Event,
) -> bool:
    """Waits for room; False when nobody wants it any more."""
    while not stop.is_set():
        try:
            ready.put(entry, timeout=_POLL_S)
            return True
        except queue.Full:
            continue
    return False
