"""Sharing few cores among several cameras: whoever has had the fewest turns is next.

Left to themselves, threads that want more than there is share it by chance, and a camera before a crowd, whose frames
take longer, gets fewer of them looked at. Here as many frames are worked on at a time as there are cores, and a free
core goes to the camera that had the fewest turns, which is start-time fair queueing with turns for a measure.
"""

from __future__ import annotations

import heapq
import itertools
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ParamSpec

import cv2

from shared.domain import Face, UInt8Array
from shared.ports import Detector

P = ParamSpec("P")


def shared_fairly(make: Callable[P, Detector], cameras: int, *, cores: int | None = None) -> Callable[P, Detector]:
    """Makes detectors that take turns where there are more cameras than cores, and none else.

    Sets OpenCV's threads to a camera's share of the cores: its pool is one for the process, and cameras that all use it
    wait for each other (docs/adr/0024).
    """
    cores = cores or os.cpu_count() or 1
    if cameras > 1:
        cv2.setNumThreads(max(1, cores // cameras))
    if cameras <= cores:
        return make
    gate, numbers = FairGate(cores), itertools.count()

    def make_fair(*arguments: P.args, **options: P.kwargs) -> Detector:
        return FairDetector(make(*arguments, **options), gate, str(next(numbers)))

    return make_fair


class FairGate:
    """A semaphore that gives as many turns to each of its members while all of them want more than there is.

    Args:
        slots: turns that are taken at a time, from 1.
        credit: a member that asked for nothing for a while is ahead of the others by so many turns at most.
    """

    def __init__(self, slots: int, *, credit: int = 8) -> None:
        self._free, self._credit = max(1, slots), credit
        self._queue: list[tuple[int, int, threading.Event]] = []
        self._numbers = itertools.count()
        self._tags: dict[str, int] = {}
        self._served = 0
        self._guard = threading.Lock()

    @contextmanager
    def turn(self, member: str) -> Iterator[float]:
        """Waits for a turn, gives the seconds waited, and ends it with the block."""
        asked, mine = time.monotonic(), threading.Event()
        with self._guard:
            tag = max(self._tags.get(member, 0) + 1, self._served - self._credit)
            self._tags[member] = tag
            heapq.heappush(self._queue, (tag, next(self._numbers), mine))
            self._hand_out()
        mine.wait()
        try:
            yield time.monotonic() - asked
        finally:
            with self._guard:
                self._free += 1
                self._hand_out()

    def _hand_out(self) -> None:
        while self._free and self._queue:
            tag, _, waiting = heapq.heappop(self._queue)
            self._served = max(self._served, tag)
            self._free -= 1
            waiting.set()


class FairDetector:
    """A camera's own detector that runs when it is the camera's turn.

    Attributes:
        waited_s: for turns, in all.
        turns: taken.
    """

    def __init__(self, detector: Detector, gate: FairGate, member: str) -> None:
        self._detector, self._gate, self._member = detector, gate, member
        self.waited_s, self.turns = 0.0, 0

    @property
    def detector_id(self) -> str:
        return self._detector.detector_id

    def detect(self, image: UInt8Array) -> Sequence[Face]:
        """As the detector itself."""
        with self._gate.turn(self._member) as waited_s:
            self.waited_s += waited_s
            self.turns += 1
            return self._detector.detect(image)
