"""`recognize folder`: which files are sent, how, and what is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from local.cli import app
from local.client import Client
from local.folders import find_images, scaled_to
from local.sending import size_of
from shared.errors import InvalidInput
from tests.support import portrait

BOX = {"left": 80, "top": 80, "right": 160, "bottom": 160}
ANN = {"top_prediction": {"label": "ann", "confidence": 0.9}, "bounding_box": BOX}
FACES = {"faces": [ANN], "rejected": [{"reason": "too_dark", "bounding_box": BOX | {"left": 0, "top": 0}}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.png").write_bytes(portrait((230, 20, 20)))
    (tmp_path / "in" / "b.png").write_bytes(portrait((20, 230, 20), size=400))
    (tmp_path / "in" / "deep" / "a.png").write_bytes(portrait((20, 20, 230)))
    (tmp_path / "in" / "notes.txt").write_text("no image")
    (tmp_path / "in" / "broken.jpg").write_bytes(b"not a picture")
    return tmp_path / "in"


def run(*arguments: str):
    return CliRunner().invoke(app, ["recognize", "folder", *arguments], env={"COLUMNS": "80"})


def test_images_are_sent_and_the_rest_is_counted(service, folder: Path) -> None:
    service.queue = [(200, FACES)]
    done = run(str(folder), "--url", service.url, "--stats", "--parallel", "2")
    assert done.exit_code == 0, done.output
    assert len(service.asked) == 2 and "2 images sent, 2 passed over" in done.stderr
    assert "requests a second" in done.stdout and "time, 95 of 100" in done.stdout and "too_dark" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 80


def test_folders_within_are_looked_through_when_asked_for(service, folder: Path) -> None:
    service.queue = [(200, FACES)]
    done = run(str(folder), "--url", service.url, "--recursive", "--json")
    names = [document["image"] for document in json.loads(done.stdout)]
    assert names == ["a.png", "b.png", "broken.jpg", "deep/a.png"]


def test_a_dry_run_asks_the_route_that_answers_nothing(service, folder: Path) -> None:
    service.queue = [(200, {"message": "received"})]
    done = run(str(folder), "--url", service.url, "--dry-run", "--json", "--stats")
    assert {path for _, path in service.asked} == {"/face-recognition/dry-run"}
    document = json.loads(done.stdout)
    assert document["stats"]["sent"] == 2 and "faces" not in document["images"][0]


def test_annotated_pictures_keep_their_places(service, folder: Path, tmp_path: Path) -> None:
    service.queue = [(200, FACES)]
    done = run(str(folder), "--url", service.url, "--recursive", "--output", str(tmp_path / "out"))
    assert done.exit_code == 0, done.output
    files = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.jpg"))
    assert files == ["a.png.jpg", "b.png.jpg", "deep/a.png.jpg"]
    with Image.open(tmp_path / "out" / "a.png.jpg") as image:
        red, green, blue = image.getpixel((120, 80))
    assert green > red and green > blue, "somebody is green"


def test_sizes_choose_and_scale(service, folder: Path) -> None:
    service.queue = [(200, FACES)]
    done = run(str(folder), "--url", service.url, "--min-size", "300", "--max-size", "200", "--json", "--stats")
    document = json.loads(done.stdout)
    assert [d.get("left_out") for d in document["images"]] == [
        "smaller than 300 px",
        None,
        "not an image that can be opened",
    ]
    assert document["stats"]["average_width_px"] == 200


def test_whoever_is_not_sure_enough_is_shown_as_unknown(service, folder: Path) -> None:
    service.queue = [(200, FACES)]
    for least, name in (("0.95", "unknown"), ("0.9", "ann")):
        done = run(str(folder), "--url", service.url, "--min-confidence", least, "--stats")
        assert done.stdout.count(f"│ {name} ") == 3 and done.stdout.count("0.90") == 2, "both faces, and their person"
        image = str(folder / "a.png")
        alone = CliRunner().invoke(app, ["recognize", "image", image, "--url", service.url, "--min-confidence", least])
        assert f"│ {name} " in alone.stdout and "0.90" in alone.stdout


def test_images_can_be_passed_over(service, folder: Path) -> None:
    service.queue = [(200, FACES)]
    done = run(str(folder), "--url", service.url, "--skip-frames", "1", "--json")
    assert [document["image"] for document in json.loads(done.stdout)] == ["a.png", "broken.jpg"]


def test_a_folder_without_images_says_what_to_do(service, tmp_path: Path) -> None:
    done = run(str(tmp_path), "--url", service.url)
    assert done.exit_code == 1 and "--recursive" in done.stderr
    with pytest.raises(InvalidInput, match="there is no folder"):
        find_images(tmp_path / "none")


def test_a_scaled_image_keeps_its_shape() -> None:
    assert size_of(scaled_to(portrait((230, 20, 20), size=400), 100)) == (100, 100)
    assert size_of(b"no image") is None


def test_a_service_that_is_asked_too_often_is_waited_for(service, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("local.client.time.sleep", waits.append)
    service.queue = [(429, {}), (429, {}), (200, {"message": "done"})]
    assert Client(service.url).call("POST", "/face-recognition/dry-run") == {"message": "done"}
    assert waits == [1.0, 1.0] and len(service.asked) == 3
