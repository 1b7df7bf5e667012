"""Reading ahead changes when things are made, and nothing else."""

from __future__ import annotations

import threading
import time

import pytest

from edge_uploader.capture.ahead import read_ahead


def test_the_same_items_in_the_same_order():
    assert list(read_ahead(iter(range(100)))) == list(range(100))
    assert list(read_ahead(iter([]))) == []


def test_an_error_comes_after_what_was_before_it():
    def items():
        yield 1
        yield 2
        raise ValueError("broke off")

    got = []
    with pytest.raises(ValueError, match="broke off"):
        for item in read_ahead(items()):
            got.append(item)
    assert got == [1, 2]


def test_no_more_than_the_depth_is_made_ahead():
    made = []

    def items():
        for number in range(50):
            made.append(number)
            yield number

    reader = read_ahead(items(), depth=2)
    next(reader)
    time.sleep(0.1)
    assert len(made) <= 4
    reader.close()


def test_closing_closes_the_source_and_ends_the_thread():
    closed = threading.Event()

    def items():
        try:
            while True:
                yield 0
        finally:
            closed.set()

    reader = read_ahead(items())
    next(reader)
    reader.close()
    assert closed.is_set()
    assert not [thread for thread in threading.enumerate() if thread.name == "read ahead"]
