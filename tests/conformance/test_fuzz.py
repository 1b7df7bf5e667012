"""A short run of `fuzz`; `make fuzz` is the long one."""

from __future__ import annotations

import pytest

from tests.conformance.fuzz import REPORTS, fuzz

SECONDS = 30.0


@pytest.mark.timeout(240)
def test_requests_made_from_the_description_find_no_crash_no_lie_and_no_hang() -> None:
    for run, status in fuzz(SECONDS).items():
        assert status == 0, (REPORTS / f"{run}.txt").read_text()
