"""Calling a function from a worker's thread, and saying why that failed."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path
from typing import Any

from local.host.index import Function
from shared.errors import FacerelayError


def run_in_thread(function: Function, value: object, loop: asyncio.AbstractEventLoop) -> Any:
    """Calls it from a worker's thread: async functions on `loop`, as on the platform, others right here."""
    if function.is_async:
        return asyncio.run_coroutine_threadsafe(function.invoke(value), loop).result()
    return function.invoke(value)


def reason_of(error: BaseException) -> str:
    """Why a delivery failed, without anything personal: foreign exceptions may quote what they were given.

    >>> reason_of(ValueError("Ann's photo"))
    'ValueError'
    """
    if isinstance(error, FacerelayError):
        return f"{error.code}: {error}"[:500]
    frames = traceback.extract_tb(error.__traceback__)
    where = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
