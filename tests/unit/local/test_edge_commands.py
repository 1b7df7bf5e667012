"""`facerelay edge init`, `check`, `status`: what they print, write and exit with."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from edge_uploader.settings import EdgeSettings
from edge_uploader.stats import CameraStats
from local.cli import app
from local.cli.edge.status import render, state_of, usable_share
from local.edge_check import check_page, check_spool
from local.logs import configure_edge_logging


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("edge_uploader.config.file.user_config_path", lambda _: tmp_path / "nobody")


def run(*arguments: str):
    return CliRunner().invoke(app, ["edge", *arguments], env={"COLUMNS": "160"})


def test_a_file_is_written_once_for_its_owner_and_can_be_checked(tmp_path: Path) -> None:
    done = run("init", "--camera", "door@Hall=rtsp://u:p@127.0.0.1:9/x", "--site", "museum")
    assert done.exit_code == 0 and (tmp_path / "edge.yaml").stat().st_mode & 0o777 == 0o600
    assert "look it over, then: facerelay edge check --config edge.yaml" in done.output
    again = run("init")
    assert again.exit_code == 1 and "is there already" in again.output


def test_what_the_file_still_lacks_is_told() -> None:
    assert "fill in the site's id and the camera, then" in run("init").output
    assert "fill in the site's id, then" in run("init", "--config", "b.yaml", "--camera", "door=a.mp4").output


def test_check_tells_all_problems_of_the_file(tmp_path: Path) -> None:
    (tmp_path / "edge.yaml").write_text("sits: x\nfps: many\n")
    done = run("check")
    assert done.exit_code == 1
    assert "line 1, column 1: sits: there is no such key; did you mean `site`?" in done.output
    assert "line 2, column 6: fps: must be a valid number" in done.output
    document = json.loads(run("check", "--json").stdout)
    assert document["ok"] is False and [found["what"] for found in document["checks"]] == ["file", "file"]
    (missing,) = json.loads(run("check", "--config", "nowhere.yaml", "--json").stdout)["checks"]
    assert missing["ok"] is False and "nowhere.yaml cannot be read" in missing["detail"]


def test_the_schema_is_json() -> None:
    assert json.loads(run("check", "--schema").stdout)["properties"]["cameras"]["type"] == "array"


@pytest.mark.parametrize("command", [["run"], ["preview", "--out", "x"]])
def test_without_a_camera_the_next_step_is_told(command: list[str]) -> None:
    done = run(*command)
    assert done.exit_code == 1 and "facerelay edge init" in done.output


def test_status_without_a_gateway_says_what_waits(tmp_path: Path) -> None:
    ready = tmp_path / "spool" / "ready"
    ready.mkdir(parents=True)
    (ready / "a.crop").write_bytes(b"x" * 2_000)
    done = run("status", "--spool", str(tmp_path / "spool"))
    assert done.exit_code == 1
    assert "no gateway runs with this spool" in done.output and "1 crops wait" in done.output
    document = json.loads(run("status", "--spool", str(tmp_path / "spool"), "--json").stdout)
    assert (document["running"], document["waiting"], document["waiting_bytes"]) == (False, 1, 2_000)


def camera(**changes: object) -> dict[str, object]:
    rates = {"worked_on_fps": 8.0, "looked_at_fps": 1.0, "grabbed_fps": 25.0, "stuck": False}
    return CameraStats("a camera with a long name at the gate", "hall", state="running").to_json() | rates | changes


def test_a_status_fits_eighty_columns_with_all_that_may_be_in_it() -> None:
    full = camera(
        frames_dropped=1_234_567,
        tracks=99_999,
        crops=123_456,
        usable=3,
        unusable={"too_small": 6, "turned_away": 1},
        picture="frozen",
        events=[{"at": "2026-01-02T03:04:05.678Z", "kind": "frozen", "phase": "begin"}],
    )
    document = {
        "site": "museum",
        "cameras": [full, camera(error="rtsp://10.0.0.9/1 cannot be opened")],
        "health": {"ok": False, "problems": ["camera gate: no frame"], "stuck": ["gate"]},
        "spool": {"oldest_s": 7_300, "dropped_bound": 3},
        "uploads": {"uploaded": 12, "bytes_uploaded": 3_000_000, "refused": 1, "trouble": "away"},
        "upload_rate": {"crops_per_minute": 5.0, "bytes_per_s": 0.0},
        "budget": {"hour_bytes": 5e6, "hour_limit_bytes": 1e7, "month_limit": 20, "month_spent": 1.5, "held_back": 4},
        "waiting": 9,
        "waiting_bytes": 90_000,
        "limit_bytes": 10**9,
    }
    plain = Console(width=80, color_system=None)
    with plain.capture() as shown:
        for part in render(document):
            plain.print(part)
    text = shown.get()
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    for told in ("frozen", "30 %", "1234k", "123k", "no picture", "oldest 2 h", "3 dropped", "1 refused",
                 "too small 6, turned away 1", "or is overloaded; crops wait", "5.00 MB of 10.00 MB this hour",
                 "1.50 of 20.00 this month", "4 held back", "camera gate: no frame"):  # fmt: skip
        assert told in words, told


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({}, "running"),
        ({"stuck": True, "error": "x"}, "stuck"),
        ({"state": "failed", "error": "x"}, "failed"),
        ({"error": "x", "picture": "black"}, "no picture"),
        ({"picture": "ok"}, "running"),
        ({"picture": "low_light"}, "low light"),
    ],
)
def test_the_worst_of_a_camera_is_its_state(changes: dict[str, object], word: str) -> None:
    assert state_of(camera(**changes))[0] == word


def test_a_share_that_nobody_told_is_not_invented() -> None:
    assert usable_share(camera()) == "–"
    assert usable_share(camera(usable=1, unusable={"too_dark": 3})) == "25 %"


def test_the_spool_is_written_to_and_left_as_it_was(tmp_path: Path) -> None:
    settings = EdgeSettings(edge_spool_dir=tmp_path / "a" / "spool")
    assert check_spool(settings).ok
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").touch()
    assert check_spool(EdgeSettings(edge_spool_dir=tmp_path / "file" / "spool")).ok is False
    small = check_spool(EdgeSettings(edge_spool_dir=tmp_path, edge_spool_limit_bytes=10**18))
    assert small.ok is False and "limit_bytes" in small.todo


def test_a_page_port_that_is_taken_matters_when_it_was_asked_for(tmp_path: Path) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = check_page(EdgeSettings(edge_spool_dir=tmp_path, edge_page_port=port))
    assert found.ok is False and str(port) in found.detail
    assert check_page(EdgeSettings(edge_spool_dir=tmp_path, edge_page_port=0)).ok


def test_a_log_file_is_private_and_begun_anew_at_its_size(tmp_path: Path) -> None:
    path = tmp_path / "logs" / "edge.log"
    root = logging.getLogger()
    before, level = list(root.handlers), root.level
    try:
        settings = EdgeSettings(
            edge_log_file=str(path), edge_log_max_bytes=10_000, edge_log_backups=2, edge_log_format="json"
        )
        configure_edge_logging(settings)
        for number in range(400):
            logging.getLogger("facerelay.test").info("line %d %s", number, "x" * 60)
    finally:
        for handler in root.handlers:
            handler.close()
        root.handlers[:] = before
        root.setLevel(level)
    files = sorted(path.parent.iterdir())
    assert [file.name for file in files] == ["edge.log", "edge.log.1", "edge.log.2"]
    assert all(file.stat().st_mode & 0o777 == 0o600 and file.stat().st_size <= 10_000 for file in files)
    assert json.loads(path.read_text().splitlines()[-1])["message"].startswith("line 399")


def test_where_the_crops_went_and_whether_somebody_works_on_them_is_told(tmp_path, capsys) -> None:
    from local.cli.edge.run import _tell_where
    from local.host.lock import only_host

    settings = EdgeSettings(backend="local", data_dir=tmp_path)
    _tell_where(settings, 0)
    assert capsys.readouterr().err == ""
    _tell_where(settings, 3)
    assert "no service works on" in capsys.readouterr().err
    with only_host(tmp_path):
        _tell_where(settings, 3)
    assert "facerelay detections" in " ".join(capsys.readouterr().err.split())


def test_the_spool_is_in_the_data_folder(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("FACERELAY_DATA_DIR", str(tmp_path))
    assert EdgeSettings().edge_spool_dir == tmp_path / "spool"
