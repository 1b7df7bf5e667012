from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STARTER = """
import os, time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from bench.processes import end_with_parent

def work(told):
    try:
        Path(told).with_suffix(".new").write_text(str(os.getpid()))
        Path(told).with_suffix(".new").rename(told)
        time.sleep(600)
    finally:
        Path(told).with_suffix(".tidied").touch()

if __name__ == "__main__":
    import sys
    with ProcessPoolExecutor(1, get_context("spawn"), end_with_parent, (5.0,)) as pool:
        pool.submit(work, sys.argv[1]).result()
"""


def is_alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False


def wait_for(what: str, condition: Callable[[], bool], within_s: float = 30.0) -> None:
    until = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < until, f"{what}: not within {within_s:g} s"
        time.sleep(0.05)


@pytest.mark.parametrize("background", [False, True])
def test_a_worker_tidies_up_and_ends_when_its_starter_is_killed(tmp_path: Path, background: bool) -> None:
    script, told = tmp_path / "starter.py", tmp_path / "worker"
    script.write_text(STARTER)
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    # A shell lets what it starts in the background ignore Ctrl-C.
    shell = ["env", "--ignore-signal=INT"] if background else []
    starter = subprocess.Popen([*shell, sys.executable, str(script), str(told)], env=environment)
    try:
        wait_for("the worker's start", told.exists)
        worker = int(told.read_text())
        assert is_alive(worker)
    finally:
        starter.send_signal(signal.SIGKILL)
        starter.wait()
    wait_for("the worker's end", lambda: not is_alive(worker))
    assert told.with_suffix(".tidied").exists()
