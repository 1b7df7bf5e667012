"""Turns on few cores: as many for each, in the order in which they were asked for."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from edge_uploader.capture.fairness import FairDetector, FairGate, shared_fairly
from tests.unit.edge.fakes import ColourDetector

IMAGE = np.zeros((8, 8, 3), np.uint8)


class Slow:
    """A detector that takes its time, as one core of a busy machine would."""

    detector_id = "slow.1"

    def __init__(self, seconds):
        self._seconds = seconds

    def detect(self, image):
        time.sleep(self._seconds)
        return []


def test_a_camera_before_a_crowd_does_not_starve_the_others():
    gate = FairGate(2)
    detectors = [FairDetector(Slow(seconds), gate, str(n)) for n, seconds in enumerate((0.024, 0.012, 0.012, 0.012))]
    stop = threading.Event()

    def work(detector):
        while not stop.is_set():
            detector.detect(IMAGE)

    threads = [threading.Thread(target=work, args=(detector,)) for detector in detectors]
    for thread in threads:
        thread.start()
    time.sleep(1.0)
    stop.set()
    for thread in threads:
        thread.join()
    turns = [detector.turns for detector in detectors]
    assert min(turns) > 10
    assert max(turns) - min(turns) <= max(3, 0.1 * max(turns)), turns
    assert all(detector.waited_s > 0 for detector in detectors)


def test_turns_are_given_in_the_order_in_which_they_were_asked_for():
    gate, order = FairGate(1), []
    held = threading.Event()
    threads = []

    def ask(number):
        with gate.turn(str(number)):
            order.append(number)

    with gate.turn("first"):
        for number in range(6):
            threads.append(threading.Thread(target=ask, args=(number,)))
            threads[-1].start()
            held.wait(0.02)
    for thread in threads:
        thread.join()
    assert order == list(range(6))


def test_a_camera_that_was_away_does_not_keep_the_others_waiting_for_long():
    gate = FairGate(1, credit=3)
    for _ in range(100):
        with gate.turn("there"):
            pass
    order, threads = [], []

    def ask(member):
        with gate.turn(member):
            order.append(member)

    with gate.turn("there"):
        for member in ["back"] * 8 + ["there"]:
            threads.append(threading.Thread(target=ask, args=(member,)))
            threads[-1].start()
    for thread in threads:
        thread.join()
    assert order.index("there") <= 5


def test_a_detector_that_fails_gives_its_turn_back():
    gate = FairGate(1)
    with pytest.raises(ValueError, match="broken"), gate.turn("a"):
        raise ValueError("broken")
    with gate.turn("b") as waited_s:
        assert waited_s < 0.1


def test_few_cameras_take_no_turns():
    detector = ColourDetector()
    assert shared_fairly(lambda: detector, 2, cores=2)() is detector
    shared = shared_fairly(lambda: detector, 3, cores=2)()
    assert isinstance(shared, FairDetector)
    assert shared.detector_id == detector.detector_id
    assert list(shared.detect(IMAGE)) == []
