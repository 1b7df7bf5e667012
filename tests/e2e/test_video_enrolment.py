"""Video enrolment from the clip to the template: composed head turns, and a real one, against a running service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from functions.gates import enrolment_gate
from local.cli import app
from local.client import Client
from local.head_turn import TurnOptions, choose, coverage, main_scene, problem_of, usual_pitch
from local.head_turn_source import HeadTurnReader, Limits
from shared.domain import Face, UInt8Array
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.decode import encode_jpeg
from tests.e2e.service import Service, serving
from tests.head_turns import compose_still, compose_turn, cut_clip


@pytest.fixture(scope="module")
def reader() -> HeadTurnReader:
    return HeadTurnReader(replace(enrolment_gate(Settings()), min_confidence=0.0))


@pytest.fixture(scope="module")
def photo() -> Callable[[str], UInt8Array]:
    def load(name: str) -> UInt8Array:
        with Image.open(ModelCache(Settings().model_cache).path(name)) as image:
            small = image.convert("RGB")
        small.thumbnail((520, 520))
        return np.asarray(small)

    return load


@pytest.fixture(scope="module")
def turn(tmp_path_factory: pytest.TempPathFactory, reader: HeadTurnReader, photo) -> Path:
    path = tmp_path_factory.mktemp("turn") / "turn.avi"
    picture = photo("demo_obama")
    compose_turn(path, picture, face_of(reader, picture))
    return path


def face_of(reader: HeadTurnReader, picture: UInt8Array) -> Face:
    return max(reader._detector.detect(picture), key=lambda face: face.height_px)


def look(reader: HeadTurnReader, clip: Path) -> tuple[str | None, dict[str, int], int]:
    """What is wrong with a clip, which sides its choice covers, and how many views that has."""
    views = reader.read(str(clip), Limits(60))
    kept = main_scene(views)
    chosen = choose(kept, TurnOptions())
    return problem_of(views), coverage(chosen, usual_pitch(kept)).sides, len(chosen)


def test_a_composed_turn_is_covered_from_left_to_right(reader: HeadTurnReader, turn: Path) -> None:
    problem, sides, count = look(reader, turn)
    assert problem is None and 5 <= count <= 12
    assert sides["left"] and sides["front"] and sides["right"], sides


def test_only_the_face_and_its_margin_leave_this_machine(reader: HeadTurnReader, turn: Path) -> None:
    views = [view for view in reader.read(str(turn), Limits(60)) if view.usable]
    with Image.open(BytesIO(views[0].jpeg)) as sent:
        assert max(sent.size) <= 3 * 320 + 2
    assert all(not view.jpeg for view in reader.read(str(turn), Limits(60)) if not view.usable)


def test_a_camera_is_looked_at_for_so_long_and_no_longer(reader: HeadTurnReader, turn: Path) -> None:
    assert 10 <= len(reader.read(str(turn), Limits(1.0))) <= 12


def test_without_a_screen_the_window_is_a_video(turn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DISPLAY", raising=False)
    looked = ["enroll", "camera", "--person-id", "ann", "--device", str(turn), "--countdown", "0", "--seconds", "2"]
    done = CliRunner().invoke(app, [*looked, "--dry-run", "--window"])
    assert done.exit_code == 0, done.output
    assert "writing head-turn.mp4" in done.stderr and "frames; sides of the face: left: 5" in done.stdout
    assert cv2.VideoCapture("head-turn.mp4").get(cv2.CAP_PROP_FRAME_COUNT) >= 15


def test_two_people_and_cuts_are_refused(reader: HeadTurnReader, photo, tmp_path: Path) -> None:
    one, other = photo("demo_obama"), photo("demo_biden")
    other = np.asarray(Image.fromarray(other).resize(one.shape[1::-1]))
    empty = np.zeros_like(one)
    compose_still(tmp_path / "both.avi", [np.hstack([one, other])])
    assert look(reader, tmp_path / "both.avi")[0] == "several_people"
    compose_still(tmp_path / "cut.avi", [np.hstack([one, empty]), np.hstack([empty, other])])
    assert look(reader, tmp_path / "cut.avi")[0] == "another_person"
    compose_still(tmp_path / "nobody.avi", [empty])
    assert look(reader, tmp_path / "nobody.avi")[0] == "no_face"


@pytest.mark.shared_data
def test_a_real_clip_of_one_man_is_enrolled_from_and_the_whole_film_with_its_cuts_is_not(
    reader: HeadTurnReader, shared_data: Path, tmp_path: Path
) -> None:
    film = shared_data / "video" / "hamilton_clip.mp4"
    assert look(reader, film)[0] in ("several_people", "another_person")
    cut_clip(tmp_path / "man.avi", film, 100, 190)  # one uncut take of a singer who looks about
    problem, sides, count = look(reader, tmp_path / "man.avi")
    assert problem is None and 6 <= count <= 12
    assert sides["left"] >= 2 and sides["front"] >= 1, sides


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("service")
    with serving(folder / "data", folder / "log", "--no-auth") as running:
        yield running


def run(service: Service, *arguments: str):
    return CliRunner().invoke(app, [*arguments, "--url", service.url], env={"COLUMNS": "200"})


def test_a_turn_becomes_templates_and_again_adds_nothing(service: Service, turn: Path, jpeg) -> None:
    done = run(service, "enroll", "video", str(turn), "--person-id", "Barack Obama", "--create-id", "--json")
    assert done.exit_code == 0, done.output
    told = json.loads(done.stdout)
    added = [image for image in told["images"] if image["outcome"] == "image added"]
    covered = [image for image in told["images"] if not image["outcome"].startswith("refused")]
    assert 1 <= len(added) <= len(covered) == sum(told["coverage"].values()) <= 12
    assert told["frames"] == 40 and sum(told["left_out"].values()) == 40 - len(covered)
    templates = service.call("GET", "/api/v1/people/barack_obama/templates")["templates"]
    assert len(templates) == len(added) and {template["source"] for template in templates} == {"video"}

    again = run(service, "enroll", "video", str(turn), "--person-id", "barack_obama")
    assert again.exit_code == 0 and "were there already" in again.stdout, again.output
    assert "0 of" in again.stdout
    assert len(service.call("GET", "/api/v1/people/barack_obama/templates")["templates"]) == len(added)

    assert run(service, "train").exit_code == 0
    assert service.label(jpeg("demo_obama")) == "barack_obama"


def test_a_clip_of_two_is_refused_with_the_reason_and_nobody_is_added(service: Service, photo, tmp_path: Path) -> None:
    one = photo("demo_obama")
    compose_still(tmp_path / "both.avi", [np.hstack([one, one[:, ::-1]])])
    done = run(service, "enroll", "video", str(tmp_path / "both.avi"), "--person-id", "two", "--create-id")
    assert done.exit_code == 1 and "more than one person" in done.stderr
    people = [person["person_id"] for person in service.call("GET", "/api/v1/people")["people"]]
    assert "two" not in people


def test_the_check_is_told_and_pictured(service: Service, jpeg, tmp_path: Path) -> None:
    service.enrol("ann", jpeg("demo_obama2"), jpeg("demo_obama3"), jpeg("demo_biden"))
    service.enrol("joe", jpeg("demo_biden"))
    service.enrol("barry", jpeg("demo_obama"))
    sheet = tmp_path / "sheet.png"
    done = run(service, "gallery", "check", "--pictures", str(sheet))
    assert done.exit_code == 0, done.output
    assert "joe 1.00" in done.stdout and "People who look like one" in done.stdout
    with Image.open(sheet) as picture:
        assert picture.width > 900 and picture.height > 250
        assert len(set(picture.convert("L").resize((60, 40)).tobytes())) > 30, "there are faces on it"
    document = json.loads(run(service, "gallery", "check", "--json").stdout)
    [wrong] = [found for found in document["findings"] if found["person_id"] == "ann"]
    assert wrong["nearest_person"] == "joe"
    kept = run(service, "gallery", "keep", "ann", wrong["template_id"], "--train")
    assert kept.exit_code == 0 and "kept" in kept.stderr
    after = json.loads(run(service, "gallery", "check", "--json").stdout)
    assert all(found["person_id"] != "ann" for found in after["findings"])
    assert run(service, "gallery", "unkeep", "ann", wrong["template_id"]).exit_code == 0
    assert run(service, "gallery", "keep", "ann", "none").exit_code == 1
    assert run(service, "gallery", "check", "--pictures", str(tmp_path / "sheet.txt")).exit_code == 1


def test_a_photograph_on_the_command_line_is_told_why_it_is_refused(service: Service, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").write_bytes(encode_jpeg(np.full((200, 200, 3), 90, np.uint8)))
    Client(service.url).add_person("carol")
    done = run(service, "enroll", "folder", str(tmp_path), "--person-id", "carol")
    assert done.exit_code == 1 and "no face was found" in done.stdout
