"""One host for each data folder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from filelock import FileLock, Timeout

from shared.adapters.local.translate import translated
from shared.errors import Busy

_LOCK_NAME: Final = "host.lock"


@contextmanager
def only_host(data_dir: Path) -> Iterator[None]:
    """Holds the folder while a host works on it.

    Raises:
        Busy: another host does.
    """
    lock = FileLock(data_dir / _LOCK_NAME)
    with translated("locking the data folder"):
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise Busy(
                "another facerelay serve is running on this data folder; stop it, or use another folder"
            ) from error
    try:
        yield
    finally:
        lock.release()


def is_hosted(data_dir: Path) -> bool:
    """Whether a host works on the folder at this moment."""
    if not (data_dir / _LOCK_NAME).exists():
        return False
    try:
        with only_host(data_dir):
            return False
    except Busy:
        return True
