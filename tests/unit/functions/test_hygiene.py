"""The gallery's review: what is set aside, what is only reported, and what is never touched."""

from __future__ import annotations

import numpy as np
import pytest

from functions.train.hygiene import Limits, Review, review

DIMENSION = 64
LIMITS = Limits(duplicate=0.95, impostor=0.4)


def near(centre: np.ndarray, count: int, random: np.random.Generator, cosine: float = 0.8) -> np.ndarray:
    """Unit vectors whose cosine to `centre` is `cosine`: to each other they have about its square."""
    noise = random.standard_normal((count, DIMENSION))
    noise -= (noise @ centre)[:, None] * centre
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    return (cosine * centre + np.sqrt(1 - cosine**2) * noise).astype(np.float32)


class People:
    """A gallery of made-up people, each about a direction of their own."""

    def __init__(self, count: int, each: int = 5, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        centres = self.random.standard_normal((count, DIMENSION))
        self.centres = centres / np.linalg.norm(centres, axis=1, keepdims=True)
        self.rows = [near(centre, each, self.random) for centre in self.centres]

    def like(self, person: int, count: int = 1) -> np.ndarray:
        """Further templates that show this person."""
        return near(self.centres[person], count, self.random)

    def review(self, kept: tuple[str, ...] = (), limits: Limits = LIMITS) -> Review:
        names = [f"{person}.{row}" for person, rows in enumerate(self.rows) for row in range(len(rows))]
        return review(
            np.concatenate(self.rows),
            np.repeat(np.arange(len(self.rows)), [len(rows) for rows in self.rows]),
            [f"p{person:03d}" for person in range(len(self.rows))],
            names,
            limits=limits,
            kept=np.array([name in kept for name in names]),
        )


def aside(found: Review) -> list[str]:
    return [verdict.template_id for verdict in found.verdicts if verdict.set_aside]


@pytest.mark.parametrize("count", [1, 2, 3, 60])
def test_a_clean_gallery_of_any_size_loses_nothing(count: int) -> None:
    found = People(count).review()
    assert found.keep.all() and found.findings == () and found.pairs == () and found.set_aside() == []
    assert found.measured == (count >= 50)
    assert all(verdict.own is not None and verdict.own > 0.4 for verdict in found.verdicts)


def test_nobody_enrolled_is_no_error() -> None:
    found = review(np.zeros((0, 8), np.float32), np.zeros(0, np.intp), [], [], limits=LIMITS)
    assert found.verdicts == () and found.pairs == () and len(found.keep) == 0


@pytest.mark.parametrize("count", [3, 60])
def test_a_photograph_of_somebody_else_is_set_aside_and_says_of_whom(count: int) -> None:
    people = People(count)
    people.rows[0][2] = people.like(1)[0]
    found = people.review()
    assert aside(found) == ["0.2"]
    verdict = found.verdicts[2]
    assert (verdict.word, verdict.person) == ("confuses", "p001")
    assert verdict.nearest > verdict.own and verdict.other.startswith("1.") and verdict.beside.startswith("0.")
    assert found.set_aside() == [{"person_id": "p000", "template_id": "0.2", "reason": "confuses", "with": "p001"}]
    assert not found.keep[2] and found.keep.sum() == len(found.keep) - 1


def test_a_photograph_of_nobody_enrolled_is_unlike_its_person() -> None:
    people = People(60)
    stranger = people.random.standard_normal(DIMENSION)
    people.rows[4][0] = near(stranger / np.linalg.norm(stranger), 1, people.random)[0]
    found = people.review()
    assert aside(found) == ["4.0"] and found.findings[0].word == "unlike_own_person"


def test_one_wrong_photograph_does_not_make_the_right_ones_look_wrong() -> None:
    people = People(60, each=3)
    people.rows[7][1] = people.like(20)[0]
    assert aside(people.review()) == ["7.1"]


def test_what_an_operator_keeps_is_kept_and_judged_no_more() -> None:
    people = People(60)
    people.rows[0][2] = people.like(1)[0]
    found = people.review(kept=("0.2",))
    assert found.keep.all() and found.findings == ()


def test_a_persons_only_template_is_never_unlike_its_person() -> None:
    people = People(60)
    people.rows[5] = people.rows[5][:1]
    found = people.review()
    assert found.keep.all() and found.findings == ()
    assert next(v for v in found.verdicts if v.template_id == "5.0").own is None


def test_of_two_that_disagree_the_one_that_is_somebody_else_goes() -> None:
    people = People(60)
    people.rows[3] = np.concatenate([people.like(3), people.like(9)])
    found = people.review()
    assert aside(found) == ["3.1"]
    assert {v.template_id for v in found.findings} == {"3.0", "3.1"}, "both are shown"


def test_where_nobody_can_tell_all_stay_and_all_are_reported() -> None:
    people = People(60)
    strangers = People(2, each=2, seed=9)
    people.rows[3] = np.concatenate(strangers.rows)  # two people, two photographs each, under one id
    found = people.review()
    assert found.keep.all()
    assert {v.template_id for v in found.findings} == {f"3.{row}" for row in range(4)}


@pytest.mark.parametrize("seed", range(8))
def test_somebody_always_keeps_a_template(seed: int) -> None:
    people = People(60, each=4, seed=seed)
    for person in range(60):  # a quarter to all of everybody's are somebody else's
        for row in range(people.random.integers(1, 5)):
            people.rows[person][row] = people.like(int(people.random.integers(60)))[0]
    found = people.review()
    owners = {v.person_id for v, keep in zip(found.verdicts, found.keep, strict=True) if keep}
    assert len(owners) == 60


@pytest.mark.parametrize("count", [4, 60])
def test_one_person_under_two_ids_is_a_pair_to_look_at_and_nothing_is_lost(count: int) -> None:
    people = People(count)
    people.rows[2] = people.like(1, 5)
    found = people.review()
    assert [(pair.first, pair.second) for pair in found.pairs] == [("p001", "p002")]
    assert found.keep.all()
    pair = found.pairs[0]
    assert pair.similarity == pytest.approx(pair.own, abs=0.1)
    assert pair.templates[0].startswith("1.") and pair.templates[1].startswith("2.")


def test_a_pair_is_seen_too_where_each_has_one_template() -> None:
    people = People(60)
    people.rows[1], people.rows[2] = people.rows[1][:1], people.like(1)
    assert [(pair.first, pair.second) for pair in people.review().pairs] == [("p001", "p002")]


def test_one_stray_photograph_makes_no_pair() -> None:
    people = People(60)
    people.rows[2][0] = people.like(1)[0]
    assert people.review().pairs == ()


def test_near_duplicates_count_once() -> None:
    people = People(60)
    people.rows[0] = np.concatenate([people.rows[0], near(people.rows[0][3], 2, people.random, cosine=0.99)])
    found = people.review()
    assert aside(found) == ["0.5", "0.6"]
    assert [(v.word, v.other) for v in found.findings] == [("duplicate", "0.3")] * 2
    assert found.set_aside()[0] == {"person_id": "p000", "template_id": "0.5", "reason": "duplicate", "with": "0.3"}


def test_a_wrong_photograph_enrolled_thrice_does_not_vouch_for_itself() -> None:
    people = People(60, each=3)
    wrong = people.like(30)
    people.rows[0] = np.concatenate([people.rows[0], wrong, near(wrong[0], 3, people.random, cosine=0.99)])
    found = people.review()
    assert set(aside(found)) == {"0.3", "0.4", "0.5", "0.6"}
    assert found.keep[:3].all()


def test_a_kept_duplicate_stays_and_the_other_goes() -> None:
    people = People(60)
    people.rows[0] = np.concatenate([people.rows[0], near(people.rows[0][0], 1, people.random, cosine=0.99)])
    assert aside(people.review(kept=("0.5",))) == ["0.0"]
    assert aside(people.review(kept=("0.0", "0.5"))) == []


def test_the_same_gallery_gets_the_same_review() -> None:
    people = People(70, each=4)
    for person in range(0, 70, 5):
        people.rows[person][0] = people.like((person + 3) % 70)[0]
    first, second = people.review(), people.review()
    assert first.verdicts == second.verdicts and first.pairs == second.pairs


def test_limits_come_from_the_embedders_table_and_older_ones_have_defaults() -> None:
    assert Limits.of({"duplicate_similarity": 0.9, "impostor_similarity": 0.3}) == Limits(0.9, 0.3)
    assert Limits.of({"embedder_id": "x"}) == Limits(0.95, 0.4)


@pytest.mark.parametrize(("cosine", "aside"), [(0.1, True), (0.3, False)])
def test_what_is_hardly_like_its_person_is_reported_and_what_is_not_at_all_is_left_out(
    cosine: float, aside: bool
) -> None:
    """Of a small gallery strangers reach 0.4 in one of a hundred pairs, and 0.55 of that in one of ten."""
    one, other, third = np.eye(8, dtype=np.float32)[:3]
    alike = 0.9 * one + np.sqrt(1 - 0.9**2).astype(np.float32) * other
    odd = cosine * one + np.sqrt(1 - cosine**2).astype(np.float32) * third
    found = review(
        np.stack([one, alike, odd]).astype(np.float32),
        np.zeros(3, np.intp),
        ["ann"],
        ["1", "2", "3"],
        limits=Limits(0.98, 0.4),
    )
    assert [verdict.word for verdict in found.verdicts] == ["keep", "keep", "unlike_own_person"]
    assert (found.verdicts[2].set_aside, bool(found.keep[2])) == (aside, not aside)
