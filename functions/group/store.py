"""Where the groups are kept: one blob, replaced under its ETag, so that no correction is lost to a run or another."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Final, TypeVar

from functions.group.state import GroupState
from shared.domain import GROUPS
from shared.errors import Busy, NotFound, PreconditionFailed
from shared.ports import BlobStore, Clock

STATE_BLOB: Final = "state.json.z"
_ATTEMPTS: Final = 20

Result = TypeVar("Result")


class GroupStore:
    """Reads and changes the one state that there is.

    Args:
        kept_for: how long after its capture a detection may still be told of.
    """

    def __init__(self, blobs: BlobStore, *, kept_for: timedelta, clock: Clock) -> None:
        self._blobs = blobs
        self._kept_for = kept_for
        self._clock = clock
        self._lock = threading.Lock()
        self._cached: tuple[str, GroupState] | None = None

    def read(self) -> GroupState:
        """The groups as they are, without what has expired.

        Raises:
            IntegrityError: they are unreadable.
        """
        return self._read()[0]

    def exists(self) -> bool:
        """Whether anything is kept."""
        return self._read()[1] is not None

    def change(self, how: Callable[[GroupState], tuple[GroupState, Result]]) -> Result:
        """Replaces the state by what `how` makes of it; what it gives besides. What it raises changes nothing.

        Args:
            how: called again when somebody else has changed the state meanwhile.

        Raises:
            Busy: others change it all the time.
        """
        for _ in range(_ATTEMPTS):
            before, etag = self._read()
            after, result = how(before)
            try:
                self._write(after, etag)
            except PreconditionFailed:
                time.sleep(random.uniform(0, 0.05))  # noqa: S311  # so that two do not march in step
                continue
            return result
        raise Busy("the groups change faster than this can be added; try again")

    def _write(self, state: GroupState, etag: str | None) -> None:
        if etag is None:
            new = self._blobs.put(GROUPS, STATE_BLOB, state.to_bytes(), if_absent=True)
        else:
            new = self._blobs.put(GROUPS, STATE_BLOB, state.to_bytes(), if_match=etag)
        with self._lock:
            self._cached = (new, state)

    def _read(self) -> tuple[GroupState, str | None]:
        oldest = self._clock() - self._kept_for
        try:
            etag = self._blobs.properties(GROUPS, STATE_BLOB).etag
            with self._lock:
                cached = self._cached
            if cached is None or cached[0] != etag:
                blob = self._blobs.get(GROUPS, STATE_BLOB)
                cached = (blob.properties.etag, GroupState.from_bytes(blob.data))
                with self._lock:
                    self._cached = cached
        except NotFound:
            return GroupState(), None
        return cached[1].since(oldest), cached[0]
