"""What the page says, whom it believes, and that it is complete and harmless whatever the data."""

from __future__ import annotations

import json
import math
import re
import stat
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from local.cli import app
from local.evaluation.figures import make_figures
from local.evaluation.intervals import Rate, clopper_pearson, rate
from local.evaluation.page import limits, render, share
from local.evaluation.pairs import make_pairs
from local.evaluation.photographs import read_plan, split_plan
from local.evaluation.plots import all_plots
from local.evaluation.run import evaluate, prepare
from local.evaluation.verdict import judge, light_of
from shared.errors import InvalidInput
from tests.unit.evaluation.album import ANN, BOB, LIKE_ANN, PALE, lay_out, pack, quiet, run, settings

EVIL = '<img src=x onerror="alert(1)"> & {{ 7*7 }} $\\frac{a}$'


class Reader(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page(figures) -> tuple[str, Reader]:
    html = render(figures, judge(figures), all_plots(figures), make_pairs(figures))
    reader = Reader()
    reader.feed(html)
    return html, reader


@pytest.fixture(scope="module")
def figures(tmp_path_factory: pytest.TempPathFactory):
    root = tmp_path_factory.mktemp("album")
    gallery = lay_out(root / "g", {"Ann": [ANN, ANN], "Bob": [BOB]})
    probes = lay_out(root / "p", {"ann": [(225, 25, 25)], "bob": [(20, 225, 25), PALE], EVIL: [LIKE_ANN]})
    (probes / EVIL / "0.png").rename(probes / EVIL / '"><script>alert(2)<\u2215script>.png')
    (probes / EVIL / "<svg onload=alert(3)>.png").write_bytes(b"no picture")
    return make_figures(run(read_plan(gallery, probes, None)), seed=0)


@pytest.fixture(scope="module")
def read(figures) -> tuple[str, Reader]:
    return page(figures)


def test_names_are_text_and_never_markup(read) -> None:
    html, reader = read
    assert not reader.of("script") and not reader.of("svg")
    assert all((image["src"] or "").startswith("data:image/") for image in reader.of("img"))
    assert all("onerror" not in attributes for _, attributes in reader.tags)
    assert EVIL in reader.text, "the name is there, as it is spelled"
    assert "&lt;img src=x" in html and "{{ 7*7 }}" in html


def test_the_page_asks_the_network_for_nothing(read) -> None:
    html, reader = read
    assert "http://" not in html and "https://" not in html and "url(" not in html
    assert not reader.of("link") and not reader.of("iframe")
    policy = next(m["content"] for m in reader.of("meta") if m.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def test_the_page_can_be_read_without_eyes(read) -> None:
    _, reader = read
    assert reader.of("html") == [{"lang": "en"}]
    assert all(len(image["alt"] or "") > 10 for image in reader.of("img"))
    assert all(cell.get("scope") in ("row", "col") for cell in reader.of("th"))
    assert len(reader.of("h1")) == 1


def test_the_confusion_is_shown_with_both_faces(figures) -> None:
    (pair,) = make_pairs(figures)
    assert (pair.truth, pair.named, pair.stranger) == (EVIL, "Ann", True)
    assert pair.probe.startswith("data:image/jpeg") and pair.enrolled.startswith("data:image/jpeg")


def test_a_probe_that_is_gone_by_then_leaves_its_names(figures) -> None:
    photo = figures.trial.searches[figures.confusions[0].worst].photo.path
    kept = photo.read_bytes()
    photo.unlink()
    try:
        _, reader = page(figures)
        assert "no picture" in reader.text and EVIL in reader.text
    finally:
        photo.write_bytes(kept)


TOO_FEW = "Too few strangers to say"
ALBUMS = {
    "one person, no stranger": ({"Ann": [ANN, ANN, ANN]}, {}, TOO_FEW),
    "strangers alone": ({"Ann": [ANN]}, {"s": [PALE, BOB]}, TOO_FEW),
    "one of each": ({"Ann": [ANN, ANN], "Bob": [BOB, BOB]}, {"s": [PALE]}, TOO_FEW),
    "every stranger named": ({"Ann": [ANN, ANN]}, {"s": [LIKE_ANN]}, "Worse than the target"),
    "no face to search": ({"Ann": [ANN, b"x"]}, {"s": [b"y"]}, TOO_FEW),
}


@pytest.mark.parametrize("album", ALBUMS)
def test_a_page_for_little_data(tmp_path: Path, album: str) -> None:
    people, strangers, label = ALBUMS[album]
    gallery = lay_out(tmp_path / "g", {who: list(found[:1]) for who, found in people.items()})
    probes = lay_out(tmp_path / "p", {who: list(found) for who, found in people.items() if len(found) > 1})
    for folder in probes.iterdir() if probes.is_dir() else ():
        (folder / "0.png").unlink()
    unknown = lay_out(tmp_path / "s", dict(strangers)) if strangers else None
    _, reader = page(make_figures(run(read_plan(gallery, probes if probes.is_dir() else None, unknown)), seed=0))
    assert not re.search(r"\b(nan|inf|None)\b", reader.text.replace("None of the", ""))
    assert label in reader.text


def stranger_rate(named: int, total: int) -> Rate:
    return rate(np.arange(total) < named, np.arange(total))


def test_no_light_where_the_figures_support_none() -> None:
    assert light_of(stranger_rate(0, 298), 0.01) == "unsure"  # one fewer than the rule of three asks for
    assert light_of(stranger_rate(0, 299), 0.01) == "good"
    assert light_of(stranger_rate(12, 1_312), 0.01) == "as_set"
    assert light_of(stranger_rate(4, 1_312), 0.01) == "good"
    assert light_of(stranger_rate(40, 1_312), 0.01) == "bad"
    assert light_of(stranger_rate(5, 20), 0.01) == "bad"  # few, and still far too many
    assert light_of(stranger_rate(0, 0), 0.01) == "unsure"
    one_person = rate(np.zeros(1_000, bool), np.zeros(1_000, np.intp))
    assert light_of(one_person, 0.01) == "unsure"


def test_the_headline_gives_shares_with_their_intervals(figures) -> None:
    from dataclasses import replace

    rates = replace(figures.rates, strangers_named=stranger_rate(12, 1_312))
    said = judge(replace(figures, rates=rates)).sentences[0]
    low, high = clopper_pearson(12, 1_312)
    assert said == f"Of 1,000 strangers about 9 ({1000 * low:.0f} to {1000 * high:.0f}) would be given a name."
    none = replace(figures, rates=replace(rates, strangers_named=stranger_rate(0, 57)))
    assert (
        "None of the 57 photographs" in judge(none).sentences[0]
        and "so few show only that fewer than 51" in judge(none).sentences[0]
    )


def test_too_few_strangers_are_told_how_many_are_needed(figures) -> None:
    verdict = judge(figures)
    assert verdict.light == "unsure" and "rule of three" in verdict.next_steps[0]
    assert "about 298 more people" in verdict.next_steps[0] and "299 of them" in verdict.next_steps[0]


def test_spelling_of_shares() -> None:
    assert (share(0.0), share(0.004), share(0.25), share(1.0), share(math.nan)) == (
        "0.0 %",
        "0.40 %",
        "25.0 %",
        "100.0 %",
        "–",
    )
    assert limits(stranger_rate(0, 0)) == "–"


def test_the_folder_is_for_its_owner_alone_and_holds_everything(tmp_path: Path) -> None:
    plan = split_plan(
        lay_out(tmp_path / "g", {"Ann": [ANN, ANN, ANN], "Bob": [BOB, BOB], "Eve": [PALE]}), 1, None, seed=0
    )
    output = tmp_path / "out"
    outcome = evaluate(plan, settings(), output, quiet(), seed=0, pack=pack())
    assert stat.S_IMODE(output.stat().st_mode) == 0o700
    assert all(stat.S_IMODE(file.stat().st_mode) == 0o600 for file in output.iterdir())
    assert {file.name for file in output.iterdir()} == {
        "index.html",
        "evaluation.json",
        "det.png",
        "cmc.png",
        "similarity.png",
        "reliability.png",
    }
    assert json.loads((output / "evaluation.json").read_text()) == json.loads(json.dumps(outcome.report))
    again = evaluate(plan, settings(), output, quiet(), seed=0, pack=pack())
    assert {k: v for k, v in again.report.items() if k != "time"} == {
        k: v for k, v in outcome.report.items() if k != "time"
    }


def test_a_folder_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "holiday.jpg").write_bytes(b"x")
    tmp_path.chmod(0o755)
    with pytest.raises(InvalidInput, match="new folder"):
        prepare(tmp_path)
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755 and (tmp_path / "holiday.jpg").exists()


def cli(*arguments: str):
    return CliRunner().invoke(app, ["evaluate", *arguments], env={"COLUMNS": "200"})


def test_the_command_says_what_is_missing_in_one_line(tmp_path: Path) -> None:
    gallery = lay_out(tmp_path / "g", {"Ann": [ANN]})
    for arguments, says in (
        ((), "--strangers DIR"),
        (("--split", "3"), "use a smaller --split"),
        (("--split", "3", "--probes", str(gallery)), "without --probes"),
        (("--strangers", str(gallery), "--target-fpir", "0.9"), "FACERELAY_TARGET_FPIR"),
        (("--strangers", str(gallery), "--pack", "nose"), "nose"),
    ):
        done = cli("--gallery", str(gallery), "--output", str(tmp_path / "out"), *arguments)
        assert done.exit_code == 1, arguments
        assert says in re.sub(r"\s+", " ", done.stderr) and "Traceback" not in done.output
