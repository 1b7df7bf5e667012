"""One patience for all threads."""

from __future__ import annotations

import pytest

from edge_uploader.delivery.circuit import Backoff, Circuit


@pytest.fixture
def clock():
    return [100.0]


@pytest.fixture
def circuit(clock):
    return Circuit(Backoff(1.0, 8.0), now_s=lambda: clock[0], spread=lambda: 1.0)


def test_waits_grow_to_the_longest_and_end_with_a_success(circuit, clock):
    waits = []
    for _ in range(6):
        permit = circuit.permit()
        circuit.failed(permit)
        waits.append(circuit.wait_s)
        assert circuit.permit() is None
        clock[0] += circuit.wait_s
    assert waits == [1, 2, 4, 8, 8, 8]
    circuit.succeeded(circuit.permit())
    assert (circuit.open, circuit.wait_s) == (False, 0)


def test_those_that_fail_together_count_once(circuit):
    permits = [circuit.permit() for _ in range(8)]
    assert [circuit.failed(permit) for permit in permits] == [True] + [False] * 7
    assert circuit.wait_s == 1


def test_one_tries_and_the_others_wait_for_it(circuit, clock):
    circuit.failed(circuit.permit())
    clock[0] += 1
    permit = circuit.permit()
    assert permit is not None
    assert [circuit.permit() for _ in range(3)] == [None] * 3
    circuit.unused(permit)
    assert circuit.permit() is not None


def test_a_success_from_before_the_failure_says_nothing_new(circuit):
    old, new = circuit.permit(), circuit.permit()
    circuit.failed(new)
    circuit.succeeded(old)
    assert circuit.open


@pytest.mark.parametrize(("asked", "waited"), [(5.0, 6.0), (0.0, 1.0), (10**9, 3_601.0)])
def test_a_store_that_asks_for_peace_gets_it_within_reason(circuit, asked, waited):
    circuit.failed(circuit.permit(), asked)
    assert circuit.wait_s == waited


def test_the_longest_asked_for_counts(circuit):
    first, second = circuit.permit(), circuit.permit()
    circuit.failed(first, 2.0)
    circuit.failed(second, 20.0)
    assert circuit.wait_s == 21


def test_jitter_is_full():
    waits = set()
    for number in range(200):
        one = Circuit(Backoff(10.0, 10.0), now_s=lambda: 0.0, spread=lambda n=number: n / 200)
        one.failed(one.permit())
        waits.add(one.wait_s)
    assert len(waits) == 200 and min(waits) == 0 and max(waits) < 10
