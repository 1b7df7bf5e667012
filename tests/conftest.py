"""What all tests share: where the reference photographs are, and what happens without them, or without a camera."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bench.rtsp_camera import PACKAGES, available
from tests.servers import cosmos_db_server, storage_server

__all__ = ["cosmos_db_server", "storage_server"]

SHARED_DATA = Path(__file__).parents[2] / "shared" / "data"
REQUIRE_SHARED = os.environ.get("FACERELAY_REQUIRE_SHARED") == "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what needs the reference photographs, or an RTSP server, when they are missing, with a line each.

    Under FACERELAY_REQUIRE_SHARED=1 such a test runs, and fails.
    """
    if REQUIRE_SHARED:
        return
    _leave_out(
        config,
        items,
        "shared_data",
        lambda: SHARED_DATA.is_dir(),
        "the reference photographs are not beside this checkout",
    )
    _leave_out(
        config, items, "rtsp", available, f"there is no RTSP server here (on Debian: apt-get install {PACKAGES})"
    )


def _leave_out(
    config: pytest.Config, items: list[pytest.Item], marker: str, there: Callable[[], bool], reason: str
) -> None:
    marked = [item for item in items if item.get_closest_marker(marker)]
    if not marked or there():
        return
    items[:] = [item for item in items if item not in marked]
    config.hook.pytest_deselected(items=marked)
    config.stash.setdefault(LEFT_OUT, []).append(f"{len(marked)} tests left out: {reason}")


LEFT_OUT: pytest.StashKey[list[str]] = pytest.StashKey()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """In a process beside others: hands on what was left out."""
    if (output := getattr(session.config, "workeroutput", None)) is not None:
        output["left_out"] = session.config.stash.get(LEFT_OUT, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """Takes what a process left out: each is given all tests, and leaves out the same."""
    if left_out := getattr(node, "workeroutput", {}).get("left_out"):
        node.config.stash[LEFT_OUT] = left_out


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Says what was left out."""
    for line in config.stash.get(LEFT_OUT, []):
        terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the reference photographs and clips."""
    assert SHARED_DATA.is_dir(), "the reference photographs must be beside this checkout"
    return SHARED_DATA
