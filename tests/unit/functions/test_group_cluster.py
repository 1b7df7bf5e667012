"""Average linkage over similar pairs: the same as by the book, bounded, and never against what people said."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.cluster.hierarchy import fcluster, linkage
from scipy.spatial.distance import squareform

from functions.group import cluster as module
from functions.group.cluster import Constraints, Pairs, cluster, link, similar_pairs, threshold_for, typical
from shared.errors import Busy
from shared.matching.model import centre


def people(count: int, faces: int, *, dimension: int = 64, spread: float = 0.6, seed: int = 0, offset: float = 0.0):
    """(count · faces, D) unit rows, and whose they are; cosine of two faces of one person about 1 / (1 + spread²)."""
    random = np.random.default_rng(seed)
    centres = random.standard_normal((count, dimension)) / np.sqrt(dimension)
    truth = np.repeat(np.arange(count), faces)
    rows = centres[truth] + spread * random.standard_normal((len(truth), dimension)) / np.sqrt(dimension)
    rows[:, 0] += offset
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), truth


def same_partition(one, other) -> bool:
    pairs = set(zip(np.asarray(one).tolist(), np.asarray(other).tolist(), strict=True))
    return len(pairs) == len(set(np.asarray(one).tolist())) == len(set(np.asarray(other).tolist()))


@pytest.mark.parametrize("threshold", [0.2, 0.35, 0.5, 0.65])
@pytest.mark.parametrize("spread", [0.5, 1.0])
def test_it_is_average_linkage_to_the_letter(threshold: float, spread: float) -> None:
    """Against SciPy, which holds every distance."""
    rows, _ = people(40, 6, spread=spread)
    distances = np.clip(1.0 - rows @ rows.T, 0.0, 2.0)
    np.fill_diagonal(distances, 0.0)
    tree = linkage(squareform((distances + distances.T) / 2, checks=False), "average")
    expected = fcluster(tree, 1.0 - threshold, "distance")
    assert same_partition(link(rows, similar_pairs(rows, threshold), threshold), expected)


def test_blocks_find_the_pairs_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, _ = people(30, 5)
    whole = similar_pairs(rows, 0.4)
    monkeypatch.setattr(module, "_ROWS", 7)
    monkeypatch.setattr(module, "_COLUMNS", 13)
    blocks = similar_pairs(rows, 0.4)
    expected = {(i, j) for i, j in zip(*np.nonzero(np.triu(rows @ rows.T >= 0.4, 1)), strict=True)}
    for pairs in (whole, blocks):
        assert {(i, j) for i, j in zip(pairs.left.tolist(), pairs.right.tolist(), strict=True)} == expected
        np.testing.assert_allclose(pairs.similarity, np.einsum("nd,nd->n", rows[pairs.left], rows[pairs.right]), 1e-5)


def test_a_thousand_faces_of_one_person_are_one_group_from_a_bounded_number_of_pairs() -> None:
    rows, _ = people(1, 1_000, spread=0.5)
    pairs = similar_pairs(rows, 0.5, most=10)
    assert len(pairs.left) <= 10 * len(rows)
    assert link(rows, pairs, 0.5).max() == 0


def test_strangers_who_resemble_nobody_have_labels_of_their_own() -> None:
    rows = np.eye(6, dtype=np.float32)
    assert link(rows, similar_pairs(rows, 0.3), 0.3).tolist() == [0, 1, 2, 3, 4, 5]
    assert cluster(np.zeros((0, 8), np.float32), 0.5).tolist() == []
    assert cluster(rows[:1], 0.5).tolist() == [0]


def test_the_mean_face_counts_every_person_once() -> None:
    """A night of one person before the camera must not make that person's own face the mean."""
    crowd, _ = people(150, 2, offset=0.7, seed=1)
    regular, _ = people(1, 900, offset=0.7, seed=2)
    mean = typical(np.concatenate([crowd, regular]), 0.5)
    alone = typical(crowd, 0.5)
    assert mean @ alone / np.linalg.norm(mean) / np.linalg.norm(alone) > 0.98
    own = regular.mean(axis=0) - alone
    assert abs(float((mean - alone) @ own)) < 0.1 * float(own @ own)


def test_of_few_people_no_mean_is_taken() -> None:
    rows, _ = people(20, 10, offset=1.0)
    assert not typical(rows, 0.5).any()


def test_removing_the_mean_tells_people_apart_who_share_much() -> None:
    rows, truth = people(150, 4, spread=0.5, offset=0.8)
    assert same_partition(cluster(rows, 0.5), truth)
    assert not same_partition(link(rows, similar_pairs(rows, 0.5), 0.5), truth)
    assert np.any(centre(rows, typical(rows, 0.5)) != rows)


def test_the_threshold_rises_with_the_number_of_strangers() -> None:
    assert threshold_for(0, 0.5) == threshold_for(4_000, 0.5) == 0.5
    assert 0.5 < threshold_for(8_000, 0.5) < threshold_for(100_000, 0.5) < 0.56


def test_the_outcome_is_the_same_every_time_and_progress_rises() -> None:
    rows, _ = people(60, 5, spread=0.9)
    told: list[float] = []
    first = cluster(rows, 0.4, progress=told.append)
    assert first.tolist() == cluster(rows, 0.4).tolist()
    assert told == sorted(told) and told[-1] == pytest.approx(1.0)


def test_what_progress_raises_ends_the_work() -> None:
    def lost(share: float) -> None:
        raise Busy("somebody else has it")

    with pytest.raises(Busy):
        cluster(people(3, 3)[0], 0.4, progress=lost)


def test_same_joins_whatever_they_look_like_and_apart_parts_them() -> None:
    rows, _ = people(3, 4, spread=0.2)
    labels = cluster(rows, 0.5, Constraints(same=[[0, 4]], apart=[([0], [8, 1])]))
    assert labels[0] == labels[4]
    assert labels[0] != labels[1] and labels[0] != labels[8]


def test_apart_holds_for_whoever_joined_either_side() -> None:
    """Three faces in a row, each like its neighbour; the ends told apart."""
    angles = np.array([0.0, 0.3, 0.6])
    rows = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    pairs = similar_pairs(rows, 0.5)
    assert link(rows, pairs, 0.5).tolist() == [0, 0, 0]
    labels = link(rows, pairs, 0.5, Constraints(apart=[([0], [2])]))
    assert labels[0] != labels[2]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_constraint_is_ever_violated(data: st.DataObject) -> None:
    rows, _ = people(5, 4, spread=0.9, dimension=8, seed=data.draw(st.integers(0, 50)))
    cuts = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6, unique=True))
    order = data.draw(st.permutations(range(len(rows))))
    same = [part for part in np.split(np.array(order), sorted(cuts)) if 1 < len(part) < 6]
    of = {row: number for number, part in enumerate(same) for row in part.tolist()}
    apart = []
    for _ in range(data.draw(st.integers(0, 5))):
        a, b = data.draw(st.integers(0, len(rows) - 1)), data.draw(st.integers(0, len(rows) - 1))
        if a != b and (a not in of or of[a] != of.get(b)):
            apart.append(([a], [b]))
    labels = link(rows, similar_pairs(rows, 0.1), 0.1, Constraints([part.tolist() for part in same], apart))
    for part in same:
        assert len(set(labels[part].tolist())) == 1
    for (a,), (b,) in apart:
        assert labels[a] != labels[b]


def test_pairs_of_nobody() -> None:
    empty = np.zeros(0, np.int64)
    assert link(np.eye(2, dtype=np.float32), Pairs(empty, empty, np.zeros(0, np.float32)), 0.5).tolist() == [0, 1]
