"""The platform gives a worker ten seconds to import the app: it must cost little beyond what every such app costs."""

from __future__ import annotations

from bench.cold_start import MOST, first_face, imports


def test_the_app_is_imported_in_twice_the_time_of_its_frameworks() -> None:
    figures = imports(rounds=4)
    assert figures["ratio"] <= MOST, figures


def test_a_cold_process_gets_to_a_recognised_face() -> None:
    """Generous: it is a figure to know, measured by `make bench-cold-start`, and here only that it can be."""
    assert 0 < first_face(rounds=1) < 60
