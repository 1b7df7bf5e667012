"""Which photographs are enrolled, which are searched for, and what is said when there are none."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.evaluation.photographs import read_plan, split_plan
from shared.errors import InvalidInput


def folder(root: Path, **people: int) -> Path:
    for person, count in people.items():
        (root / person).mkdir(parents=True)
        for number in range(count):
            (root / person / f"{number}.jpg").write_bytes(b"x")
    return root


def test_people_are_matched_as_enrolment_spells_them(tmp_path: Path) -> None:
    gallery = folder(tmp_path / "g", **{"Harrison Ford": 1, "Ann": 1})
    probes = folder(tmp_path / "p", harrison_ford=2, stranger_1=1)
    plan = read_plan(gallery, probes, None)
    assert plan.people == {"ann": "Ann", "harrison_ford": "Harrison Ford"}
    assert [(photo.person, plan.mated(photo)) for photo in plan.probes] == [
        ("harrison_ford", True),
        ("harrison_ford", True),
        ("stranger_1", False),
    ]


def test_unsorted_strangers_are_each_somebody_else(tmp_path: Path) -> None:
    gallery = folder(tmp_path / "g", ann=1)
    probes = folder(tmp_path / "p", ann=1, unknown=2)
    strangers = folder(tmp_path / "s", monday=2, tuesday=1)
    plan = read_plan(gallery, probes, strangers)
    assert len({photo.person for photo in plan.probes}) == 6
    assert sum(not plan.mated(photo) for photo in plan.probes) == 5


def test_a_stranger_never_passes_for_a_person_of_the_same_file_name(tmp_path: Path) -> None:
    gallery = folder(tmp_path / "g", **{"ann.jpg": 1})
    (tmp_path / "s").mkdir()
    (tmp_path / "s" / "ann.jpg").write_bytes(b"x")
    plan = read_plan(gallery, None, tmp_path / "s")
    assert not plan.mated(plan.probes[0])


def test_a_split_enrols_so_many_of_each_and_repeats_by_seed(tmp_path: Path) -> None:
    root = folder(tmp_path, ann=5, bob=4, cat=3, dan=1)
    plan = split_plan(root, 3, None, seed=7)
    assert sorted(photo.person for photo in plan.gallery) == ["ann"] * 3 + ["bob"] * 3
    assert sorted(photo.person for photo in plan.probes) == ["ann", "ann", "bob", "cat", "cat", "cat", "dan"]
    assert {p.path for p in plan.gallery}.isdisjoint(p.path for p in plan.probes)
    assert split_plan(root, 3, None, seed=7) == plan
    assert split_plan(root, 3, None, seed=8) != plan


def test_names_that_nobody_can_be_enrolled_under(tmp_path: Path) -> None:
    root = folder(tmp_path, **{"<b>eve</b>".replace("/", "\u2215"): 4, "ann": 1})
    with pytest.raises(InvalidInput, match="rename the folder"):
        read_plan(root, root, None)
    with pytest.raises(InvalidInput, match="rename the folder"):
        split_plan(root, 3, None, seed=0)
    assert len(split_plan(folder(tmp_path / "x", **{"<eve>": 1, "ann": 4}), 3, None, seed=0).probes) == 2


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"gallery": "none", "probes": None, "strangers": None}, "there is no folder"),
        ({"gallery": "empty", "probes": None, "strangers": None}, r"DIR/\{person\}"),
        ({"gallery": "g", "probes": None, "strangers": None}, "--split 3"),
        ({"gallery": "g", "probes": "empty", "strangers": None}, r"DIR/\{person\}"),
        ({"gallery": "g", "probes": None, "strangers": "empty"}, "no images of strangers"),
        ({"gallery": "g", "probes": None, "strangers": "none"}, "there is no folder"),
    ],
)
def test_what_is_missing_is_said_with_what_to_do(tmp_path: Path, arguments: dict[str, str | None], says: str) -> None:
    folder(tmp_path / "g", ann=1)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match=says):
        read_plan(**{name: tmp_path / value if value else None for name, value in arguments.items()})  # type: ignore[arg-type]


def test_a_split_that_leaves_nobody_says_how_many_there_are(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"the most is 2\); use a smaller --split"):
        split_plan(folder(tmp_path, ann=2, bob=1), 3, None, seed=0)
