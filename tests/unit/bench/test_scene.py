from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from bench.scene.compose import Composer, visible_share
from bench.scene.people import Person, Portraits, cast_of
from bench.scene.plan import (
    COUNTED_PX,
    DENSITIES,
    FPS,
    Plan,
    SceneOptions,
    Visit,
    countable,
    density_class,
    make_plan,
)
from bench.scene.scene import composed
from bench.scene.sprites import Placed
from bench.scene.truth import read_truth
from bench.scene.video import OpencvWriter
from shared.errors import InvalidInput
from tests.unit.bench.drawn import draw_people, locate


@pytest.fixture
def people(tmp_path: Path) -> Path:
    return draw_people(tmp_path / "people", [6, 5, 7, 4, 1, 1, 2, 1])


def test_who_is_enrolled_is_never_seen_in_an_enrolled_photograph(people: Path) -> None:
    cast = cast_of(people, 3)
    enrolled = [person for person in cast if person.enrolled]
    assert len(enrolled) == 4
    assert all(len(person.gallery) == 3 and person.shown for person in enrolled)
    assert all(not set(person.gallery) & set(person.shown) for person in cast)


def test_some_are_strangers_even_where_everybody_could_be_enrolled(tmp_path: Path) -> None:
    cast = cast_of(draw_people(tmp_path / "rich", [5] * 6), 1)
    assert {person.enrolled for person in cast} == {True, False}


def test_without_strangers_or_people_there_is_no_scene(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="four photographs"):
        cast_of(draw_people(tmp_path / "poor", [1, 2, 3]), 1)


@pytest.mark.parametrize("density", list(DENSITIES))
@pytest.mark.parametrize("seed", [1, 2])
def test_a_plan_has_as_many_faces_as_its_density_says(people: Path, density: str, seed: int) -> None:
    plan = make_plan(SceneOptions(density, 10.0, seed), cast_of(people, seed))
    rate = sum(countable(visit, 600.0) for visit in plan.visits) / 10
    assert density_class(rate) == density
    if density not in ("very_low", "low"):  # there one visit is a large part of all
        assert rate == pytest.approx(DENSITIES[density], rel=0.1)
    known = sum(visit.person.enrolled for visit in plan.visits)
    assert abs(2 * known - len(plan.visits)) <= 1


def test_visits_last_seconds_and_faces_have_every_size(people: Path) -> None:
    plan = make_plan(SceneOptions("very_high", 10.0, 1), cast_of(people, 1))
    lengths = [visit.end_s - visit.begin_s for visit in plan.visits]
    assert 5 < np.median(lengths) < 10
    assert {"approach", "cross", "stand", "recede"} == {visit.kind for visit in plan.visits}
    places = [p for v in plan.visits for t in np.arange(v.begin_s, v.end_s, 0.5) if (p := v.at(float(t)))]
    sizes = np.array([place.height_px for place in places])
    assert 22 < sizes.min() < 35
    assert 170 < sizes.max() < 210
    # The mean height of the thesis' face images is 91 px; ours are counted from 40 px on.
    assert 70 < sizes[sizes >= COUNTED_PX].mean() < 95


def test_the_same_seed_gives_the_same_frames_and_another_seed_others(people: Path) -> None:
    def frames(seed: int) -> list[bytes]:
        plan = make_plan(SceneOptions("very_high", 0.03, seed), cast_of(people, seed))
        return [frame.tobytes() for frame, _ in Composer(plan, Portraits(locate)).frames()]

    assert frames(1) == frames(1)
    assert frames(1) != frames(2)


def _alone(person: Person, **changes: object) -> Visit:
    """Somebody who stands in the middle, two metres away."""
    two = np.array([0.0, 60.0], np.float32)
    there = np.zeros(2, np.float32)
    visit = Visit(0, person, "stand", 1, 0.0, two, there, np.full(2, 2.0, np.float32), 0.0)
    return replace(visit, **changes)  # type: ignore[arg-type]


def test_a_true_box_is_where_the_face_was_drawn(people: Path) -> None:
    person = next(person for person in cast_of(people, 1) if person.enrolled)
    walks = np.array([-1.0, 1.0], np.float32)
    visit = _alone(person, x_m=walks, times_s=np.array([0.0, 3.0], np.float32), begin_s=-1.0)
    plan = Plan(SceneOptions("low", 0.02, 1), [visit])
    for frame, truth in Composer(plan, Portraits(locate)).frames():
        (face,) = truth.faces
        blue, red = frame[..., 0].astype(int), frame[..., 2].astype(int)
        rows, columns = np.nonzero(red - blue > 110)  # half of what is drawn, so that blur moves no edge
        seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
        assert np.abs(seen - face.box).max() < 6, (seen, face.box)
        assert face.long_px == pytest.approx(192, abs=1)
        assert face.visible == 1.0


def test_who_is_nearer_hides_who_is_further(people: Path) -> None:
    person = next(person for person in cast_of(people, 1) if person.enrolled)
    far = _alone(person, id=1, z_m=np.full(2, 6.0, np.float32))
    plan = Plan(SceneOptions("low", 0.005, 1), [_alone(person), far])
    _, truth = next(Composer(plan, Portraits(locate)).frames())
    assert [face.visit for face in truth.faces] == [0]


def test_the_visible_share_counts_the_frame_and_who_stands_before() -> None:
    def sprite(left: int, top: int, box: list[float]) -> Placed:
        return Placed(np.full((100, 50, 4), 255, np.uint8), left, top, np.array(box, np.float32))

    face = sprite(100, 100, [100, 100, 200, 200])
    assert visible_share(face, []) == 1.0
    assert visible_share(face, [sprite(100, 100, [0, 0, 1, 1])]) == pytest.approx(0.5, abs=0.03)
    assert visible_share(sprite(0, 0, [-50, 0, 50, 100]), []) == pytest.approx(0.5, abs=0.03)
    assert visible_share(sprite(1900, 0, [1895, 0, 1945, 60]), []) == pytest.approx(0.5, abs=0.05)


def test_a_poster_hangs_all_the_time_and_a_guard_sits_for_most_of_it(people: Path) -> None:
    plan = make_plan(SceneOptions("medium", 2.0, 1, fixtures=True), cast_of(people, 1))
    fixtures = {visit.kind: visit for visit in plan.visits if visit.kind in ("guard", "poster")}
    assert fixtures["poster"].end_s - fixtures["poster"].begin_s == 120
    assert fixtures["guard"].end_s - fixtures["guard"].begin_s == pytest.approx(108)
    assert fixtures["guard"].person.enrolled
    assert not fixtures["poster"].person.enrolled
    assert len({fixtures["guard"].photograph(t)[0] for t in np.arange(6.0, 100.0)}) > 1


def test_a_scene_is_made_once(people: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bench.scene.scene.open_writer", OpencvWriter)
    portraits = Portraits(locate)
    options = SceneOptions("very_high", 0.05, 4)
    scene = composed(options, people, tmp_path / "scenes", portraits)
    written = scene.video.stat().st_mtime_ns
    assert composed(options, people, tmp_path / "scenes", portraits).video.stat().st_mtime_ns == written
    truth = scene.truth()
    capture = cv2.VideoCapture(str(scene.video))
    assert int(capture.get(cv2.CAP_PROP_FRAME_COUNT)) == len(truth) == scene.about["frames"] == 18
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(FPS)
    assert (int(capture.get(3)), int(capture.get(4))) == (1920, 1080)
    row = json.loads((scene.folder / "truth.jsonl").read_text().splitlines()[9])
    assert row["t"] == pytest.approx(9 / FPS, abs=1e-3)
    assert {"visit", "person", "enrolled", "kind", "box", "size", "visible"} == set(row["faces"][0])
    gallery = scene.gallery(people)
    assert gallery
    assert all(len(paths) == 3 and all(path.is_file() for path in paths) for paths in gallery.values())


def test_a_truth_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "truth.jsonl").write_text('{"frame": 1}\n')
    with pytest.raises(InvalidInput, match="no scene's truth"):
        read_truth(tmp_path / "truth.jsonl")
