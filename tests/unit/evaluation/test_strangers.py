"""The benchmark of strangers: which face counts, what is counted, and the seed's classifier beside it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from bench.lfw import OpenSet
from bench.strangers import (
    Answer,
    Answers,
    SeedAnswers,
    figures_of,
    read_answer,
    same_fpir,
    same_tpir,
    sample,
    seed_at,
    seed_classifier,
    seed_figures,
)


def face(left: float, label: str, confidence: float, everybody: list[str] | None = None) -> dict[str, Any]:
    return {
        "top_prediction": {"label": label, "confidence": confidence},
        "bounding_box": {"left": left, "top": 80, "right": left + 80, "bottom": 160},
        "all_predictions": [{"label": who, "confidence": 0.5} for who in everybody or []],
    }


def test_the_face_nearest_the_middle_counts_and_others_are_told_apart() -> None:
    faces = [face(5, "bob", 0.99), face(90, "unknown", 0.3, ["ann", "bob"]), face(170, "unknown", 0.1)]
    answer = read_answer(faces, (250, 240))
    assert (answer.label, answer.confidence, answer.first, answer.named) == ("unknown", 0.3, "ann", False)
    assert answer.others == (("bob", 0.99), ("unknown", 0.1))
    nothing = read_answer([], (250, 250))
    assert nothing.label is None and not nothing.named


def test_figures_count_failures_as_misses() -> None:
    answers = Answers(
        enrolled=np.arange(3),
        refused={"several": 1},
        mated=[
            Answer("ann", 0.95, "ann"),
            Answer("bob", 0.92, "bob"),
            Answer("unknown", 0.4, "ann"),
            Answer(None, 0.0, None),
        ],
        strangers=[
            Answer("ann", 0.91, "ann"),
            Answer("bob", 0.6, "bob", (("ann", 0.95),)),
            Answer("unknown", 0.2, "ann", (("unknown", 0.1),)),
            Answer(None, 0.0, None),
        ],
        seconds=2.0,
    )
    figures = figures_of(answers, ["ann", "ann", "ann", "ann"])
    strangers, mated = figures["strangers"], figures["mated"]
    assert (strangers["named"]["count"], strangers["named"]["total"], strangers["no_usable_face"]) == (2, 4, 1)
    assert (strangers["named_confidence_0.5"]["count"], strangers["named_confidence_0.9"]["count"]) == (2, 1)
    assert figures["others_in_strangers_photographs"] == {"faces": 2, "named": 1, "named_confidence_0.9": 1}
    assert (mated["rightly"]["count"], mated["wrongly"], mated["unknown"], mated["no_usable_face"]) == (1, 1, 1, 1)
    assert mated["rank1"] == 2 and figures["requests_per_s"] == 4.0


def test_the_seed_is_compared_where_it_recognises_as_many() -> None:
    said = SeedAnswers(
        mated=np.array([0.5, 0.4, 0.3, 0.6], np.float32),
        right=np.array([True, True, True, False]),
        strangers=np.array([0.45, 0.35, 0.0], np.float32),
    )
    assert same_tpir(said, 2) == pytest.approx(0.4)
    assert seed_at(said, same_tpir(said, 2)) == {
        "min_confidence": pytest.approx(0.4),
        "strangers_named": 1,
        "rightly": 2,
        "wrongly": 1,
    }
    assert same_tpir(said, 4) == 0.0
    assert seed_at(said, 0.0)["strangers_named"] == 2  # a photograph without a face has no name even then
    ours = {"mated": {"rightly": {"count": 2}}, "strangers": {"named": {"count": 1}}}
    figures = seed_figures(said, ours)
    assert figures["at"]["own"]["rightly"] == 0 and figures["reaches_our_tpir"]
    assert (figures["at"]["same_fpir"]["strangers_named"], figures["at"]["same_fpir"]["rightly"]) == (1, 2)
    ours["mated"]["rightly"]["count"] = 4
    assert not seed_figures(said, ours)["reaches_our_tpir"]
    assert same_fpir(said, 3) == 0.0


def test_the_seeds_classifier_always_names_somebody() -> None:
    random = np.random.default_rng(0)
    centres = np.eye(5, 16, dtype=np.float32)
    people = [f"p{i}" for i in range(4) for _ in range(4)] + ["stranger"] * 3
    rows = np.array([centres[min(i // 4, 4)] for i in range(19)]) + random.normal(0, 0.05, (19, 16))
    embeddings = (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)
    found = np.ones(19, bool)
    found[18] = False
    gallery = np.array([i for i in range(16) if i % 4 < 3])
    draw = OpenSet(gallery, np.arange(3, 16, 4), np.arange(16, 19), np.arange(16, 19))
    said = seed_classifier(embeddings, found, people, gallery, draw)
    assert said.right.all() and said.rank1_by_votes == 4
    assert (said.strangers[:2] >= 1 / 4).all() and said.strangers[2] == 0


def test_a_sample_is_a_part_of_the_draw() -> None:
    draw = OpenSet(np.arange(3), np.arange(10, 20), np.arange(30, 50), np.arange(30, 60))
    part = sample(draw, 4, None, 0)
    assert len(part.mated) == 4 and set(part.mated) <= set(draw.mated)
    assert (part.non_mated == draw.non_mated).all() and (part.gallery == draw.gallery).all()
