"""The command with real weights: on the demo's photographs, and on some of the reference photographs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from local.cli import app
from shared.settings import Settings
from shared.vision.assets import ModelCache


def run(*arguments: object):
    return CliRunner().invoke(app, ["evaluate", *map(str, arguments), "--json"], env={"COLUMNS": "200"})


def shrunk(source: Path, target: Path, side: int = 420) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    with Image.open(source) as image:
        small = image.convert("RGB")
    small.thumbnail((side, side))
    small.save(target, "JPEG", quality=92)


def test_people_of_the_demo_are_named_and_the_astronaut_is_not(tmp_path: Path) -> None:
    cache = ModelCache(Settings().model_cache)
    for name, target in (
        ("obama", "g/Barack Obama/1.jpg"),
        ("biden", "g/Joe Biden/1.jpg"),
        ("obama2", "p/Barack Obama/2.jpg"),
        ("obama3", "p/barack_obama/3.jpg"),
        ("astronaut", "s/portrait.jpg"),
    ):
        shrunk(cache.path(f"demo_{name}"), tmp_path / target)
    grey = Image.fromarray(np.full((200, 200, 3), 128, np.uint8))
    grey.save(tmp_path / "p" / "Barack Obama" / "wall.png")
    output = tmp_path / "out"
    done = run(
        "--gallery", tmp_path / "g", "--probes", tmp_path / "p", "--strangers", tmp_path / "s", "--output", output
    )
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    operating = report["operating"]
    assert (operating["named_rightly"]["count"], operating["named_rightly"]["total"]) == (2, 3)
    assert (operating["strangers_named"]["count"], operating["strangers_named"]["total"]) == (0, 1)
    assert report["probes"]["unusable"] == {"no_face": 1}
    assert report["verdict"]["light"] == "unsure"
    assert "wall.png" in (output / "index.html").read_text()


def test_stopped_in_the_middle_it_leaves_no_face_behind(tmp_path: Path) -> None:
    cache = ModelCache(Settings().model_cache)
    for number in range(40):
        shrunk(cache.path("demo_obama"), tmp_path / "g" / "obama" / f"{number}.jpg", side=400 + number)
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-m", "local", "evaluate", "--gallery", str(tmp_path / "g"), "--split", "30"]
    command += ["--output", str(tmp_path / "out")]
    environment = dict(os.environ) | {"TMPDIR": str(temporary)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 60
        while not list(temporary.rglob("dataset/*/*.jpg")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert list(temporary.rglob("dataset/*/*.jpg")), "nobody was enrolled within a minute"
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 128 + signal.SIGTERM
    assert list(temporary.glob("facerelay-*")) == []


@pytest.mark.shared_data
@pytest.mark.timeout(60)
def test_some_of_the_reference_photographs(tmp_path: Path, shared_data: Path) -> None:
    """Eight people with five photographs, two of them enrolled, and fifteen strangers."""
    people = sorted((shared_data / "lfw-dev" / "images").iterdir())
    several = [folder for folder in people if len(list(folder.iterdir())) >= 5][:8]
    single = [folder for folder in people if len(list(folder.iterdir())) == 1][:15]
    for folder in several + single:
        (tmp_path / "photos" / folder.name).mkdir(parents=True)
        for photo in sorted(folder.iterdir())[:5]:
            shutil.copy(photo, tmp_path / "photos" / folder.name)
    done = run("--gallery", tmp_path / "photos", "--split", 2, "--output", tmp_path / "out")
    assert done.exit_code == 0, done.output
    report = json.loads(done.stdout)
    assert report["probes"]["mated"] == 24 and report["probes"]["strangers"] == 15
    assert report["operating"]["strangers_named"]["count"] == 0
    assert report["operating"]["named_rightly"]["share"] > 0.7
    assert report["operating"]["rank1"]["share"] > 0.9
    assert {"det.png", "cmc.png", "similarity.png", "reliability.png"} <= {p.name for p in (tmp_path / "out").iterdir()}
