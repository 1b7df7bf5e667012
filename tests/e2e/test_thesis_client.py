"""A client written from the thesis' description of the Cloud API alone, run against a served process.

Whoever wrote this had read the thesis (sections 5.4, 5.4.6 and chapter 6), the original project's read-me and the
table of routes, and nothing of this code base. It is the day-to-day procedures of section 5.4.6 as somebody with only
that text would program them: if it fails, the service is wrong, not the client.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, Queue
from typing import IO, Any

import pytest
import requests
from PIL import Image

from shared.settings import Settings
from shared.vision.assets import ModelCache

START_TIMEOUT_S = 60
#: The programs of chapter 6 wait this long for a training; every other request gets the ordinary time-out.
TRAIN_TIMEOUT_S = 1000
REQUEST_TIMEOUT_S = 60
#: "only showing the identity of the faces detected for which the confidence of the match is over 80%".
MIN_CONFIDENCE = 0.8

FACE_ID = "Barack Obama"
STORED_ID = "barack_obama"
OTHER_ID = "Joe BIDEN"
STORED_OTHER_ID = "joe_biden"


def photo(name: str) -> Path:
    """Path of a public-domain photograph of the demonstration."""
    return ModelCache(Settings().model_cache).path(name)


class CloudApi:
    """The Cloud API as the thesis describes it: one method per call of section 5.4."""

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")

    def call(
        self, method: str, path: str, image: Path | None = None, timeout: float = REQUEST_TIMEOUT_S, **fields: Any
    ) -> requests.Response:
        """Send one request, with the image as the multipart field ``image``; `fields` are ``params`` or ``data``."""
        files = {"image": (image.name, image.read_bytes(), "image/jpeg")} if image else None
        return requests.request(method, f"{self.address}{path}", files=files, timeout=timeout, **fields)

    def add_id(self, face_id: str) -> requests.Response:
        return self.call("POST", f"/dataset/{face_id}")

    def add_image(self, face_id: str, image: Path) -> requests.Response:
        return self.call("POST", f"/dataset/{face_id}/image", image)

    def remove_id(self, face_id: str) -> requests.Response:
        return self.call("DELETE", f"/dataset/{face_id}")

    def optimized_train(self) -> requests.Response:
        return self.call("POST", "/model/optimized-train", timeout=TRAIN_TIMEOUT_S)

    def dataset(self) -> dict[str, int]:
        """Number of images per Face ID."""
        answer = self.call("GET", "/dataset")
        assert answer.status_code == 200, answer.text
        return {entry["id_name"]: entry["number_of_images"] for entry in answer.json()["face_ids"]}

    def people(self) -> list[str]:
        answer = self.call("GET", "/database/people")
        assert answer.status_code == 200, answer.text
        return [entry["face_id"] for entry in answer.json()["people"]]

    def faces(self, image: Path, method: str = "POST", **fields: Any) -> list[dict[str, Any]]:
        """The faces of an image with their identities."""
        answer = self.call(method, "/face-recognition/get-results", image, **fields)
        assert answer.status_code == 200, answer.text
        faces: list[dict[str, Any]] = answer.json()["faces"]
        return faces


def forward_lines(stream: IO[str], lines: Queue[str]) -> None:
    """Keep reading, so that the service never blocks on a full pipe."""
    for line in stream:
        lines.put(line)


@pytest.fixture(scope="module")
def api(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CloudApi]:
    """A service of its own, on a free port, over an empty folder."""
    environment = {**os.environ, "FACERELAY_DATA_DIR": str(tmp_path_factory.mktemp("thesis"))}
    process = subprocess.Popen(
        [sys.executable, "-m", "local", "serve", "--port", "0"],
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    lines: Queue[str] = Queue()
    reader = threading.Thread(target=forward_lines, args=(process.stderr, lines), daemon=True)
    reader.start()
    try:
        yield CloudApi(await_address(lines))
    finally:
        process.terminate()
        process.wait(timeout=30)
        reader.join(timeout=10)
        process.stderr.close()


def await_address(lines: Queue[str]) -> str:
    """The first URL the service prints on its standard error."""
    seen: list[str] = []
    while True:
        try:
            line = lines.get(timeout=START_TIMEOUT_S)
        except Empty:
            pytest.fail("the service printed no URL:\n" + "".join(seen))
        seen.append(line)
        if found := re.search(r"http://[\w.\-\[\]]+:\d+", line):
            return found.group()


def box_is_inside(box: dict[str, float], width: int, height: int) -> bool:
    return 0 <= box["left"] < box["right"] <= width and 0 <= box["top"] < box["bottom"] <= height


@pytest.fixture(scope="module")
def enrolled(api: CloudApi) -> CloudApi:
    """Figure 41: add the Face ID, add the images one by one, request an optimized training."""
    for face_id, images in {FACE_ID: ("demo_obama", "demo_obama2"), OTHER_ID: ("demo_biden",)}.items():
        assert api.add_id(face_id).status_code == 200
        for name in images:
            answer = api.add_image(face_id, photo(name))
            assert answer.status_code == 200, answer.text
    answer = api.optimized_train()
    assert answer.status_code == 200, answer.text
    return api


def test_the_dataset_and_the_people_table_name_who_was_added(enrolled: CloudApi) -> None:
    assert enrolled.dataset() == {STORED_ID: 2, STORED_OTHER_ID: 1}
    assert sorted(enrolled.people()) == [STORED_ID, STORED_OTHER_ID]


@pytest.mark.parametrize("method", ["POST", "GET"])  # the thesis' text says GET, its Swagger page says POST
def test_a_photograph_never_seen_before_is_recognised(enrolled: CloudApi, method: str) -> None:
    (face,) = enrolled.faces(photo("demo_obama3"), method)
    assert face["top_prediction"]["label"] == STORED_ID
    assert MIN_CONFIDENCE <= face["top_prediction"]["confidence"] <= 1
    assert not face["all_predictions"]


@pytest.mark.parametrize("place", ["params", "data"])
def test_all_predictions_come_when_they_are_asked_for(enrolled: CloudApi, place: str) -> None:
    asked: dict[str, Any] = {place: {"include_predictions": "true"}}
    (face,) = enrolled.faces(photo("demo_obama3"), **asked)
    confidences = {entry["label"]: entry["confidence"] for entry in face["all_predictions"]}
    assert {STORED_ID, STORED_OTHER_ID} <= set(confidences)
    assert max(confidences, key=confidences.__getitem__) == STORED_ID
    assert all(0 <= confidence <= 1 for confidence in confidences.values())
    assert confidences[STORED_ID] == pytest.approx(face["top_prediction"]["confidence"])


def test_the_box_lies_in_the_image(enrolled: CloudApi) -> None:
    path = photo("demo_biden")
    with Image.open(path) as image:
        width, height = image.size
    (face,) = enrolled.faces(path)
    assert face["top_prediction"]["label"] == STORED_OTHER_ID
    assert box_is_inside(face["bounding_box"], width, height)


def test_a_stranger_is_not_shown_as_somebody_known(enrolled: CloudApi) -> None:
    """A "blue box": the face is detected, its identity is below the confidence the program shows."""
    (face,) = enrolled.faces(photo("demo_astronaut"))
    known = face["top_prediction"]["label"] in (STORED_ID, STORED_OTHER_ID)
    assert not (known and face["top_prediction"]["confidence"] >= MIN_CONFIDENCE)


@pytest.mark.parametrize(("place", "route"), [("data", "store-results"), ("params", "store-result")])
def test_a_stored_detection_is_the_last_known_location(enrolled: CloudApi, place: str, route: str) -> None:
    """Figure 45; the text says ``store-results``, the Swagger page ``store-result``."""
    seen = {"camera_id": f"cam-{place}", "location_id": f"Main Hall {place}"}
    sent: dict[str, Any] = {place: seen}
    answer = enrolled.call("POST", f"/face-recognition/{route}", photo("demo_obama3"), **sent)
    assert answer.status_code == 200, answer.text

    answer = enrolled.call("GET", f"/database/{FACE_ID}/last-known-location")
    assert answer.status_code == 200, answer.text
    (last,) = answer.json()["last_known_location"]
    assert last["location"] == seen["location_id"]
    assert last["detected_by_camera_id"] == seen["camera_id"]
    assert last["timestamp"]


def test_an_image_without_a_face_is_refused_with_a_reason(enrolled: CloudApi, tmp_path: Path) -> None:
    blank = tmp_path / "blank.jpg"
    Image.new("RGB", (200, 200), "grey").save(blank)
    answer = enrolled.add_image(FACE_ID, blank)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error_message"]
    assert enrolled.dataset()[STORED_ID] == 2


def test_images_can_be_sent_to_the_dummy_address(enrolled: CloudApi) -> None:
    """Section 6.8's dry run: nothing comes back, nothing is stored."""
    answer = enrolled.call("POST", "/face-recognition/dry-run", photo("demo_obama3"))
    assert answer.status_code == 200, answer.text
    assert STORED_ID not in answer.text


@pytest.mark.parametrize(
    ("method", "path"),
    [("GET", "/debug/IP"), ("GET", "/debug/node-name"), ("POST", "/debug/unblock-dataset"), ("GET", "/docs")],
)
def test_the_debugging_calls_and_the_documentation_answer(api: CloudApi, method: str, path: str) -> None:
    answer = api.call(method, path)
    assert answer.status_code == 200, answer.text
    assert answer.text.strip()


@pytest.mark.parametrize("path", ["/model/generate-emb", "/model/train"])
def test_the_other_model_updates_keep_everybody_known(enrolled: CloudApi, path: str) -> None:
    answer = enrolled.call("POST", path, timeout=TRAIN_TIMEOUT_S)
    assert answer.status_code == 200, answer.text
    (face,) = enrolled.faces(photo("demo_obama3"))
    assert face["top_prediction"]["label"] == STORED_ID


def test_a_removed_person_is_recognised_no_more(enrolled: CloudApi) -> None:
    """Figure 42, last in this file: remove the ID, request an optimized training."""
    answer = enrolled.remove_id(FACE_ID)
    assert answer.status_code == 200, answer.text
    answer = enrolled.optimized_train()
    assert answer.status_code == 200, answer.text

    assert enrolled.dataset() == {STORED_OTHER_ID: 1}
    assert enrolled.people() == [STORED_OTHER_ID]
    (face,) = enrolled.faces(photo("demo_obama3"))
    assert face["top_prediction"]["label"] != STORED_ID
    answer = enrolled.call("GET", f"/database/{FACE_ID}/last-known-location")
    assert answer.status_code == 404 or not answer.json()["last_known_location"]
