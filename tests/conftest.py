"""What all tests share: where the reference photographs are, and what happens without them."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.servers import cosmos_db_server, storage_server

__all__ = ["cosmos_db_server", "storage_server"]

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
REQUIRE_SHARED = os.environ.get("FACERELAY_REQUIRE_SHARED") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what needs the reference photographs when they are missing, with one line that says so.

    Under FACERELAY_REQUIRE_SHARED=1 such a test runs, and fails.
    """
    if SHARED_DATA.is_dir() or REQUIRE_SHARED:
        return
    left_out = [item for item in items if item.get_closest_marker("shared_data")]
    if left_out:
        items[:] = [item for item in items if item not in left_out]
        config.hook.pytest_deselected(items=left_out)
        config.stash[LEFT_OUT] = len(left_out)


LEFT_OUT: pytest.StashKey[int] = pytest.StashKey()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says what was left out."""
    if count := config.stash.get(LEFT_OUT, 0):
        terminalreporter.write_line(f"{count} tests left out: the reference photographs are not beside this checkout")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the reference photographs and clips."""
    assert SHARED_DATA.is_dir(), "the reference photographs must be beside this checkout"
    return SHARED_DATA
