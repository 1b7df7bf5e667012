"""Both policies on a made video, through the real gateway: no service, no network."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

import edge_uploader.gateway
from edge_uploader.capture.sources import SourceUnusable
from edge_uploader.settings import EdgeSettings
from local.bandwidth.arithmetic import Tariff, on_network
from local.bandwidth.measure import CountingStore, measure, probe
from local.bandwidth.plot import cumulative, save_plot
from local.bandwidth.report import BandwidthReport
from local.cli import app
from shared.errors import InvalidInput, PreconditionFailed
from tests.support import candidate
from tests.unit.edge.fakes import ColourDetector, encode, picture, write_video

FPS, SECONDS = 12.0, 5


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One face that crosses the picture in five seconds, at 12 frames a second."""
    path = tmp_path_factory.mktemp("video") / "walk.avi"
    write_video(str(path), [picture((10 + 3 * n, 80, 60 + 3 * n, 140)) for n in range(int(FPS * SECONDS))], fps=FPS)
    return path


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> EdgeSettings:
    folder = tmp_path_factory.mktemp("settings")
    return EdgeSettings(edge_spool_dir=folder / "never", edge_min_face_px=20, edge_good_enough=0.0)


@pytest.fixture(scope="module")
def told() -> list[tuple[str, float]]:
    return []


@pytest.fixture(scope="module")
def report(clip: Path, settings: EdgeSettings, told: list[tuple[str, float]]) -> BandwidthReport:
    return measure(
        clip,
        settings,
        Tariff(),
        detector_factory=ColourDetector,
        on_frame=lambda name, share: told.append((name, share)),
    )


def test_every_face_is_every_face_at_six_a_second_and_best_shots_are_few(
    report: BandwidthReport, settings: EdgeSettings, told: list[tuple[str, float]]
) -> None:
    seed, ours = report.policies
    assert len(seed.sent) == seed.frames == 6 * SECONDS
    assert [sent.at_s for sent in seed.sent] == pytest.approx([n / 6 for n in range(30)], abs=0.01)
    assert 1 <= len(ours.sent) <= settings.edge_shots_per_track + 1, "one more when the face looks different"
    assert (ours.people, seed.people) == (1, None)
    assert seed.network == on_network([sent.size_bytes for sent in seed.sent])
    assert report.video.length_s == pytest.approx(SECONDS)
    assert {name for name, _ in told} == {"every face", "best shots"} and told[-1][1] == pytest.approx(1, abs=0.05)
    assert not settings.edge_spool_dir.exists(), "the gateway's own spool is not touched"


def test_the_same_crops_are_weighed_as_would_be_sent(report: BandwidthReport, settings: EdgeSettings) -> None:
    first = report.seed.sent[0]
    with_margin = 1 + 2 * settings.edge_crop_margin
    assert first.width_px == pytest.approx(50 * with_margin, abs=20)
    assert first.height_px == pytest.approx(60 * with_margin, abs=5)
    assert 300 < first.size_bytes < 20_000


def test_a_crop_is_counted_once(clip: Path) -> None:
    store, data = CountingStore(), encode(picture(), 90)
    one = candidate(data)
    store.put("candidates", one.blob_name, data, metadata=one.to_metadata(), if_absent=True)
    with pytest.raises(PreconditionFailed):
        store.put("candidates", one.blob_name, data, metadata=one.to_metadata(), if_absent=True)
    assert len(store.sent) == 1


def test_what_is_no_video_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.mp4").write_bytes(b"nothing")
    for path in (tmp_path / "x.mp4", tmp_path / "none.mp4", tmp_path):
        with pytest.raises(SourceUnusable):
            probe(path)


def test_the_picture_is_written_and_not_empty(report: BandwidthReport, tmp_path: Path) -> None:
    save_plot(report, tmp_path / "new" / "plot.png")
    with Image.open(tmp_path / "new" / "plot.png") as image:
        assert image.width > 800 and len(image.convert("L").getcolors(256) or []) > 10
    at_s, total = cumulative(report.seed, report.video.length_s)
    assert at_s[-1] == report.video.length_s and total[-1] == report.seed.network.size_bytes
    with pytest.raises(InvalidInput, match="cannot be written"):
        save_plot(report, tmp_path / "plot.nonsense")


class TestCommand:
    @pytest.fixture(autouse=True)
    def colours(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        monkeypatch.setattr(edge_uploader.gateway, "load_edge_detector", lambda _settings: ColourDetector())
        monkeypatch.setenv("COLUMNS", "80")

    def test_several_videos_give_a_table_that_fits_and_a_picture_each(self, clip: Path, tmp_path: Path) -> None:
        other = tmp_path / "other.avi"
        other.write_bytes(clip.read_bytes())
        done = CliRunner().invoke(app, ["bandwidth", str(clip), str(other), "--plot", str(tmp_path / "p.png")])
        assert done.exit_code == 0, done.output
        assert "faces/min" in done.stdout and "note:" in done.stderr
        assert max(map(len, done.stdout.splitlines())) <= 80
        assert sorted(path.name for path in tmp_path.glob("p-*.png")) == ["p-other.png", "p-walk.png"]

    def test_programs_get_a_list(self, clip: Path) -> None:
        done = CliRunner().invoke(app, ["bandwidth", str(clip), "--json", "--price-per-gb", "2"])
        (document,) = json.loads(done.stdout)
        seed, ours = document["policies"]
        assert seed["faces_per_minute"] == 360 and document["density"] == "medium"
        assert seed["network_bytes"] > ours["network_bytes"] and seed["cost_a_month"] > 0

    def test_a_missing_video_is_one_line_before_any_work(self, clip: Path) -> None:
        done = CliRunner().invoke(app, ["bandwidth", str(clip), "nowhere.mp4"])
        assert done.exit_code == 1 and "no video file at nowhere.mp4" in done.stderr and done.stdout == ""
