"""Enrolment by folder and before a camera, as far as it needs no weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from local.cli import app
from local.draw import RED, corner_text
from local.head_turn_source import REC, HeadTurnReader, Limits, Recording, share_of
from shared.errors import InvalidInput
from shared.vision.quality import QualityGate
from tests.support import portrait
from tests.unit.edge.fakes import ColourDetector, picture, write_video


def run(*arguments: str):
    return CliRunner().invoke(app, ["enroll", *arguments], env={"COLUMNS": "120"})


@pytest.fixture
def people(tmp_path: Path) -> Path:
    for person, count in (("Ann", 3), ("bob", 1)):
        (tmp_path / person / "older").mkdir(parents=True)
        for n in range(count):
            (tmp_path / person / f"{n}.png").write_bytes(portrait((230, 20, 20), shift=n))
    (tmp_path / "Ann" / "older" / "9.png").write_bytes(portrait((230, 20, 20), shift=9))
    (tmp_path / "Ann" / "notes.txt").write_text("none")
    return tmp_path


class TestFolder:
    def test_a_dry_run_says_what_would_be_added_and_sends_nothing(self, service, people: Path) -> None:
        done = run("folder", str(people), "--dry-run", "--json", "--url", service.url)
        plan = json.loads(done.stdout)
        assert [(each["person"], each["images"]) for each in plan["people"]] == [("Ann", 3), ("bob", 1)]
        assert plan["others"] == 1 and service.asked == []

    def test_every_image_is_sent_after_its_person(self, service, people: Path) -> None:
        service.queue = [(200, {"message": "image added"})]
        done = run("folder", str(people), "--recursive", "--json", "--url", service.url)
        assert [(r["person"], r["image"]) for r in json.loads(done.stdout)] == [
            ("Ann", "0.png"), ("Ann", "1.png"), ("Ann", "2.png"), ("Ann", "9.png"), ("bob", "0.png")
        ]  # fmt: skip
        paths = [path for _, path in service.asked]
        assert paths[0] == "/dataset/Ann" and paths[5] == "/dataset/bob" and len(paths) == 7

    def test_one_person(self, service, people: Path) -> None:
        service.queue = [(200, {"message": "image added"})]
        done = run("folder", str(people / "Ann"), "--person-id", "ann", "--url", service.url)
        assert "3 of 3 images added" in done.stdout and "1 files that are no images" in done.stderr
        assert {path for _, path in service.asked} == {"/dataset/ann/image"}

    def test_a_training_is_told_of_after_what_was_added(self, service, people: Path) -> None:
        result = {"model_id": "m1", "people": 2, "templates": 4, "set_aside": 1, "calibration": {"why": "few"}}
        job = (200, {"status": "succeeded", "result": result})
        for arguments, told in (([], True), (["--json"], False)):
            service.queue = [(200, {"message": "image added"})] * 4 + [job]
            ann = [str(people / "Ann"), "--person-id", "ann", "--create-id", "--url", service.url]
            done = run("folder", *ann, "--train", *arguments)
            assert done.exit_code == 0 and service.asked[-1] == ("POST", "/model/optimized-train"), done.output
            assert ("2 people, 4 templates" in done.stdout) is told
            assert ("facerelay gallery check" in done.stdout) is told
            if told:
                assert done.stdout.index("3 of 3 images added") < done.stdout.index("model m1")
            else:
                assert len(json.loads(done.stdout)) == 3

    def test_where_everything_was_refused_nothing_is_trained(self, service, people: Path) -> None:
        service.queue = [(400, {"error_message": "no face was found"})]
        done = run("folder", str(people / "Ann"), "--person-id", "ann", "--train", "--url", service.url)
        assert done.exit_code == 1 and {path for _, path in service.asked} == {"/dataset/ann/image"}

    def test_nothing_to_add_is_said(self, service, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        for arguments in ([str(tmp_path)], [str(tmp_path / "empty"), "--person-id", "ann"]):
            done = run("folder", *arguments, "--url", service.url)
            assert done.exit_code == 1 and "hold" in done.stderr


class TestRecording:
    def test_it_begins_when_the_face_is_near_and_the_count_is_over(self) -> None:
        recording = Recording(Limits(2.0, min_share=0.05, countdown_s=3.0))
        told = []
        for at_s, share in ((0, None), (1, 0.01), (2, 0.06), (3, 0.06), (4, 0.04), (5, 0.06), (6, 0.06)):
            told.append((recording.take(at_s, share), recording.says))
        assert told == [(False, "no face"), (False, "come closer"), (False, "3"), (False, "2"), (False, "1"),
                        (True, REC), (True, REC)]  # fmt: skip
        assert not recording.over(6.9, 0) and recording.over(7.0, 0)

    def test_nobody_is_waited_for_without_end(self) -> None:
        recording = Recording(Limits(2.0, patience_s=30))
        recording.take(1.0, None)
        assert not recording.over(1.0, 29) and recording.over(1.0, 30)

    def test_a_share_is_of_the_area(self) -> None:
        assert share_of(np.array([0, 0, 32, 24], np.float32), picture()) == pytest.approx(0.01)
        assert share_of(None, picture()) is None


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A face of 1.6 % of the picture, and after a second one of 12.5 %."""
    path = tmp_path_factory.mktemp("video") / "near.avi"
    far, near = picture((100, 80, 135, 115)), picture((100, 60, 196, 160))
    write_video(str(path), [far] * 10 + [near] * 20, fps=10)
    return path


class TestReader:
    def reader(self) -> HeadTurnReader:
        return HeadTurnReader(
            QualityGate(min_size_px=10, min_sharpness=0, min_confidence=0.0), detector=ColourDetector()
        )

    def test_only_what_is_near_enough_is_used(self, clip: Path) -> None:
        said: list[str] = []
        views = self.reader().read(
            str(clip), Limits(60, min_share=0.05, countdown_s=0.5), on_frame=lambda _, view, says: not said.append(says)
        )
        assert len(views) == 15 and all(view.box[2] - view.box[0] > 80 for view in views)
        assert said[:10] == ["come closer"] * 10 and said[10:15] == ["1"] * 5 and set(said[15:]) == {REC}

    def test_too_far_is_said_with_the_figure(self, clip: Path) -> None:
        with pytest.raises(InvalidInput, match=r"12\.\d% of the picture at most, and 40% are asked for"):
            self.reader().read(str(clip), Limits(60, min_share=0.4))

    def test_the_window_ends_it(self, clip: Path) -> None:
        assert len(self.reader().read(str(clip), Limits(60), on_frame=lambda *_: False)) == 1


def test_rec_stands_in_the_corner() -> None:
    image = np.zeros((240, 320, 3), np.uint8)
    drawn = corner_text(image, REC, RED)
    assert not image.any() and (drawn[:60, 200:] == RED).all(axis=2).any()
    assert not drawn[120:].any() and not drawn[:, :160].any()
