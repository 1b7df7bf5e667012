"""`facerelay groups`: what it asks the service, and what it shows."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from shared.adapters.local import LocalBlobStore, LocalStore
from shared.domain import CANDIDATES
from tests.support import RED, portrait
from tests.unit.local.test_commands import run

GROUP = {
    "group_id": "g:7k3fq9xm2d",
    "faces": 4,
    "first_seen": "2026-01-02T03:04:05.678Z",
    "last_seen": "2026-01-09T08:01:00.000Z",
    "cameras": ["entrance", "gate"],
    "locations": ["lobby"],
    "cover": "hq/gate/1.jpg",
    "embedder_id": "facenet",
    "naming": None,
}
PATH = "/api/v1/groups/g%3A7k3fq9xm2d"


def detection(number: int) -> dict[str, Any]:
    return {
        "id": f"{number:032d}",
        "captured_at": "2026-01-02T03:04:05.678Z",
        "location": "lobby",
        "camera": "gate",
        "candidate": f"hq/gate/{number}.jpg",
        "face_box": [80.0, 80.0, 160.0, 160.0],
    }


def job(status: str, result: dict[str, Any] | None = None, error: str | None = None) -> dict[str, Any]:
    return {"job_id": "j1", "status": status, "result": result or {}, "error": error}


def test_groups_are_listed_page_by_page_in_eighty_columns(service) -> None:
    service.queue = [
        (200, {"groups": [GROUP], "continuation": "more"}),
        (200, {"groups": [GROUP], "continuation": None}),
    ]
    done = run("groups", "list", "--url", service.url, COLUMNS="80")
    assert done.exit_code == 0 and done.stdout.count("g:7k3fq9xm2d") == 2
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "continuation=more" in service.asked[1][1]


def test_a_group_is_shown_with_its_faces(service) -> None:
    page = {**GROUP, "detections": [detection(1), detection(2)], "continuation": None}
    service.queue = [(200, page), (200, page)]
    done = run("groups", "show", "g:7k3fq9xm2d", "--url", service.url, "--json")
    shown = json.loads(done.stdout)
    assert [d["id"] for d in shown["detections"]] == [detection(1)["id"], detection(2)["id"]]
    assert service.asked[0][1].startswith(PATH)


def test_a_sheet_of_the_faces_whose_crops_are_there(service, tmp_path: Path) -> None:
    store = LocalStore(tmp_path / "data")
    LocalBlobStore(store).put(CANDIDATES, "hq/gate/1.jpg", portrait(RED))
    store.close()
    page = {**GROUP, "detections": [detection(1), detection(2)], "continuation": None}
    sheet, environment = tmp_path / "sheet.png", {"FACERELAY_DATA_DIR": str(tmp_path / "data")}
    service.queue = [(200, page)] * 2
    done = run("groups", "show", "g:7k3fq9xm2d", "--output", str(sheet), "--url", service.url, **environment)
    assert done.exit_code == 0 and "1 faces" in done.stderr
    with Image.open(sheet) as drawn:
        assert drawn.convert("RGB").getpixel((122, 166)) > (220, 20, 20)  # type: ignore[operator]
    service.queue = [(200, {**page, "detections": [detection(2)]})] * 2
    done = run("groups", "show", "g:7k3fq9xm2d", "--output", str(sheet), "--url", service.url, **environment)
    assert done.exit_code == 1 and "FACERELAY_DATA_DIR" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "path"),
    [(["merge", "g:7k3fq9xm2d", "g:0v8n5b1zra"], "merge"), (["reject", "g:7k3fq9xm2d", "d1", "d2"], "reject")],
)
def test_a_correction_is_told(service, arguments: list[str], path: str) -> None:
    service.queue = [(200, GROUP)]
    done = run("groups", *arguments, "--url", service.url)
    assert done.exit_code == 0 and "4 faces" in done.stdout
    assert service.asked == [("POST", f"{PATH}/{path}")]


def test_a_split_shows_both(service) -> None:
    service.queue = [(200, {"group": GROUP, "new_group": {**GROUP, "group_id": "g:0v8n5b1zra", "faces": 2}})]
    done = run("groups", "split", "g:7k3fq9xm2d", "d1", "d2", "--url", service.url)
    assert done.stdout.splitlines() == ["g:7k3fq9xm2d: 4 faces", "g:0v8n5b1zra: 2 faces"]


def test_a_refusal_is_told_as_it_is(service) -> None:
    service.queue = [(409, {"error_message": "these faces were told apart; repeat with withdraw"})]
    done = run("groups", "merge", "g:7k3fq9xm2d", "g:0v8n5b1zra", "--url", service.url)
    assert done.exit_code == 1 and "told apart" in done.stderr


def test_naming_waits_for_the_job_and_says_what_could_not_be_used(service) -> None:
    result = {"detections": 9, "templates": 4, "unusable": {"too_small": 2, "crop_expired": 3}}
    service.queue = [(202, job("queued")), (200, job("running")), (200, job("succeeded", result))]
    done = run("groups", "name", "g:7k3fq9xm2d", "Ann", "--url", service.url)
    assert "9 detections named, 4 crops enrolled" in done.stdout
    assert "3 crop_expired, 2 too_small" in done.stdout


def test_a_failed_job_is_a_failed_command(service) -> None:
    service.queue = [(202, job("queued")), (200, job("failed", error="integrity: unreadable"))]
    done = run("groups", "run", "--url", service.url)
    assert done.exit_code == 1 and "integrity: unreadable" in done.stderr


def test_a_run_says_what_came_of_it(service) -> None:
    service.queue = [(202, job("succeeded", {"faces": 11, "groups": 3, "grouped": 9}))]
    done = run("groups", "run", "--url", service.url)
    assert "11 unknown faces: 9 of them in 3 groups" in done.stdout


def test_not_this_person(service) -> None:
    service.queue = [(200, {"message": "unknown from now on"})]
    assert "unknown from now on" in run("groups", "not-this-person", "d1", "--url", service.url).stdout
    assert service.asked == [("POST", "/api/v1/detections/d1/reject")]
