"""The trial, with stand-ins that see colours: every photograph ends somewhere, and none is left out in silence."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from local.evaluation.figures import make_figures, report
from local.evaluation.photographs import read_plan, split_plan
from local.evaluation.trial import ALREADY_ENROLLED, NOT_ENROLLED
from shared.errors import InvalidInput
from tests.support import picture, png
from tests.unit.evaluation.album import ANN, BOB, LIKE_ANN, OTHER_ANN, PALE, lay_out, nobody, run


@pytest.fixture(scope="module")
def trial(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("album")
    two = png(picture(((20, 80, 100, 160), ANN), ((140, 80, 220, 160), BOB)))
    gallery = lay_out(root / "g", {"Ann": [ANN, OTHER_ANN, two, ANN], "Bob": [BOB], "Cat": [nobody()]})
    probes = lay_out(
        root / "p",
        {"ann": [PALE, (225, 25, 25), nobody(), b"no picture"], "bob": [(20, 225, 25)], "cat": [(25, 20, 225)]},
    )
    (probes / "bob" / "again.png").write_bytes((gallery / "Bob" / "0.png").read_bytes())
    strangers = lay_out(root / "s", {"a": [LIKE_ANN, PALE, nobody()]})
    return run(read_plan(gallery, probes, strangers))


def by_name(trial, person: str, file: str):
    return next(s for s in trial.searches if (s.photo.name, s.photo.path.name) == (person, file))


def test_gallery_photographs_are_refused_as_the_service_refuses_them(trial) -> None:
    assert [(f.photo.name, f.reason) for f in trial.refused] == [("Ann", "several_faces"), ("Cat", "no_face")]
    assert trial.model.person_ids == ("ann", "bob") and trial.templates == 3
    assert trial.repeated == 1, "the last of Ann is all but the first"


def test_every_search_has_its_ending(trial) -> None:
    assert (by_name(trial, "ann", "1.png").named, by_name(trial, "ann", "1.png").rank) == ("ann", 1)
    assert by_name(trial, "ann", "0.png").named is None and by_name(trial, "ann", "0.png").failure is None
    assert by_name(trial, "ann", "2.png").failure == "no_face"
    assert by_name(trial, "ann", "3.png").failure == "invalid_image"
    assert by_name(trial, "cat", "0.png").failure == NOT_ENROLLED
    assert [(f.photo.path.name, f.reason) for f in trial.left_out] == [("again.png", ALREADY_ENROLLED)]
    named = [s for s in trial.searches if not s.mated and s.named]
    assert [s.named for s in named] == ["ann"] and named[0].crop is not None


def test_the_figures_count_every_photograph(trial) -> None:
    figures = make_figures(trial, seed=0)
    rates = figures.rates
    assert (rates.strangers_named.count, rates.strangers_named.total) == (1, 3)
    assert (rates.usable_strangers_named.count, rates.usable_strangers_named.total) == (1, 2)
    assert (rates.named_rightly.count, rates.named_rightly.total) == (2, 6)
    assert (rates.named_wrongly.count, rates.unknown.count, rates.unusable.count) == (0, 2, 2)
    assert [(c.named, c.count) for c in figures.confusions] == [("ann", 1)]
    assert figures.people[0].name == "Cat"  # who fared worst: nobody could be enrolled
    document = report(figures)
    assert document["probes"]["unusable"] == {"no_face": 2, "invalid_image": 1, NOT_ENROLLED: 1}
    assert document["gallery"]["refused"] == {"several_faces": 1, "no_face": 1}


def test_nothing_of_the_trial_stays(trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    run(trial.plan)
    assert list(tmp_path.iterdir()) == []


def test_the_same_photographs_and_seed_give_the_same_figures(trial) -> None:
    first, again = (report(make_figures(one, seed=3)) for one in (trial, run(trial.plan)))
    assert first == again


def test_one_person_alone_and_no_stranger(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "g", {"Ann": [ANN, ANN, ANN]})
    figures = make_figures(run(split_plan(root, 1, None, seed=0)), seed=0)
    assert figures.rates.named_rightly.count == 2
    assert figures.rates.strangers_named.total == 0 and math.isnan(figures.rates.strangers_named.share)
    assert report(figures)["operating"]["strangers_named"]["share"] is None


def test_a_gallery_without_a_face_says_why(tmp_path: Path) -> None:
    root = lay_out(tmp_path / "g", {"Ann": [nobody(), nobody(), b"x"]})
    strangers = lay_out(tmp_path / "s", {"a": [PALE]})
    with pytest.raises(
        InvalidInput, match=r"none of the 3 .* no face was found \(2\), not a picture, or damaged \(1\)"
    ):
        run(read_plan(root, None, strangers))
