"""The window on a real X server without a screen: it shows, and a key ends it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

PROGRAM = """
import time
import numpy as np
from local.display import Window
window = Window("facerelay: test", pace=True)
image = np.zeros((2000, 3000, 3), np.uint8)
image[:, :, 0] = 200
began = time.monotonic()
assert window.show(image, 0.0) and window.show(image, 0.3)
assert time.monotonic() - began >= 0.29, "a recording plays at its own pace"
assert window._photo.width() <= 640 * 0.9, "it fits the screen"
window._root.focus_force()
window._root.update()
window._root.event_generate("KEY")
print("open:", window.show(image, 0.3))
window.close()
"""


@pytest.fixture(scope="module")
def screen() -> str:
    """`xvfb-run` in front of a command."""
    runner = shutil.which("Xvfb")
    if runner is None:
        pytest.skip("no Xvfb here: the window is not tried")
    pytest.importorskip("tkinter", reason="this Python has no Tk")
    return runner


@pytest.mark.parametrize(("key", "told"), [("<Key-q>", "open: False"), ("<Key-x>", "open: True")])
def test_q_and_escape_end_it(screen: str, key: str, told: str) -> None:
    server = subprocess.Popen(
        [screen, "-displayfd", "1", "-screen", "0", "640x480x24", "-nolisten", "tcp"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert server.stdout is not None
        display = f":{server.stdout.readline().strip()}"
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM.replace("KEY", key)],
            cwd=ROOT,
            env={**os.environ, "DISPLAY": display},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        assert told in done.stdout
    finally:
        server.terminate()
        server.wait(10)
        assert server.stdout is not None
        server.stdout.close()


def test_without_a_screen_it_says_so() -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("DISPLAY", "WAYLAND_DISPLAY")}
    program = "from local.display import NoScreen, Window\ntry: Window('x')\nexcept NoScreen as e: print('said:', e)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60
    )
    assert "said: " in done.stdout, done.stderr
