"""`facerelay extract`: images, the thesis' table, the annotated video."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner

import edge_uploader.gateway
from local.cli import app
from tests.unit.edge.fakes import ColourDetector, picture, write_video


@pytest.fixture
def clip(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(edge_uploader.gateway, "load_edge_detector", lambda _settings: ColourDetector())
    path = tmp_path / "walk.avi"
    write_video(str(path), [picture((10 + 4 * n, 80, 70 + 4 * n, 160)) for n in range(40)], fps=10)
    return path


def run(*arguments: str):
    return CliRunner().invoke(app, ["extract", *arguments], env={"COLUMNS": "80"})


def test_images_figures_and_a_video(clip: Path, tmp_path: Path) -> None:
    done = run(str(clip), str(tmp_path / "faces"), "--target-fps", "5", "--output", str(tmp_path / "o.mp4"), "--json")
    assert done.exit_code == 0, done.output
    values, files = json.loads(done.stdout), sorted((tmp_path / "faces").iterdir())
    assert (values["frames"], values["images"], len(files)) == (20, 20, 20)
    assert values["images_per_minute"] == pytest.approx(300, abs=1) and values["density"] == "medium"
    assert values["bytes"] == sum(path.stat().st_size for path in files)
    capture = cv2.VideoCapture(str(tmp_path / "o.mp4"))
    assert (capture.get(cv2.CAP_PROP_FRAME_COUNT), capture.get(cv2.CAP_PROP_FPS)) == (20, 5)


def test_the_table_fits_and_has_the_class(clip: Path, tmp_path: Path) -> None:
    done = run(str(clip), str(tmp_path / "faces"), "--skip-frames", "3", "--parallel", "4")
    assert "medium density" in done.stdout and max(map(len, done.stdout.splitlines())) <= 80


def test_small_faces_are_left_out_and_large_ones_scaled(clip: Path, tmp_path: Path) -> None:
    none = json.loads(run(str(clip), str(tmp_path / "a"), "--min-size", "120", "--json").stdout)
    assert (none["images"], none["average_px"]) == (0, 0)
    small = json.loads(run(str(clip), str(tmp_path / "b"), "--max-size", "40", "--json").stdout)
    assert small["average_height_px"] == pytest.approx(64, abs=3), "a face of 40 px and its margins of 0.3"


def test_what_is_no_video_and_what_is_no_folder_are_one_line_each(clip: Path, tmp_path: Path) -> None:
    done = run(str(tmp_path / "none.mp4"), str(tmp_path / "faces"))
    assert done.exit_code == 1 and "no video file" in done.stderr
    (tmp_path / "file").write_text("")
    done = run(str(clip), str(tmp_path / "file"))
    assert done.exit_code == 1 and "cannot be written" in " ".join(done.stderr.split())
    assert "Traceback" not in done.output
