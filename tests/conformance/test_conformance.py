"""Runs `suite.py`, Microsoft's worker library over every function, on the Python 3.13 that it needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / "build" / "conformance" / "bin" / "python"


@pytest.mark.skipif(not PYTHON.exists(), reason="no environment with Python 3.13; `make conformance` makes it")
def test_microsofts_worker_indexes_and_invokes_every_function() -> None:
    done = subprocess.run(
        [PYTHON, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/conformance/suite.py"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout and "skipped" not in done.stdout, done.stdout
