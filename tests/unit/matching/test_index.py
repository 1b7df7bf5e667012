"""Who is nearest: exactly, or by an index that misses hardly anybody and then compares exactly."""

from __future__ import annotations

import numpy as np
import pytest

from shared.domain import Float32Array
from shared.matching import index as index_module
from shared.matching.index import ExactIndex, QuantisedIndex, open_index

DIMENSION = 96
MANY = 25_000
SPECTRUM = 27.0
"""As in bench/scale.py: dimensions over which variance falls by e, for cosines of strangers as FaceNet's on lfw-dev."""
WITHIN = 0.54
"""As in bench/scale.py: variance of a person's photographs against that of people; a mean cosine of 0.65."""


def unit_rows(rows: Float32Array) -> Float32Array:
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


class People:
    """Made-up people: (C, D) weights about their directions, and photographs of them."""

    def __init__(self, count: int, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.scale = np.exp(-np.arange(DIMENSION) / SPECTRUM / 2).astype(np.float32)
        self.centres = self.random.standard_normal((count, DIMENSION), np.float32)
        self.weights = unit_rows(sum(self.photos(np.arange(count)) for _ in range(3)))
        self.bias = self.random.normal(0, 0.02, count).astype(np.float32)

    def photos(self, rows: np.ndarray) -> Float32Array:
        noise = self.random.standard_normal((len(rows), DIMENSION), np.float32)
        return unit_rows((self.centres[rows] + np.sqrt(np.float32(WITHIN)) * noise) * self.scale)

    def brute(self, probes: Float32Array, count: int) -> tuple[np.ndarray, Float32Array]:
        """By sorting all similarities."""
        similarities = probes.astype(np.float64) @ self.weights.T.astype(np.float64) + self.bias
        rows = np.argsort(-similarities, axis=1, kind="stable")[:, :count]
        return rows, np.take_along_axis(similarities, rows, axis=1)


@pytest.fixture(scope="module")
def many() -> tuple[People, QuantisedIndex]:
    people = People(MANY)
    return people, QuantisedIndex(people.weights, people.bias)


@pytest.mark.parametrize("probes", [1, 2, 4, 5, 33])
@pytest.mark.parametrize("count", [1, 2, 7, 50])
def test_the_exact_index_finds_what_sorting_everybody_finds(probes: int, count: int) -> None:
    people = People(50)
    faces = people.photos(np.arange(probes))
    rows, similarities = ExactIndex(people.weights, people.bias).nearest(faces, count)
    expected, expected_similarities = people.brute(faces, count)
    assert rows.tolist() == expected.tolist()
    assert similarities == pytest.approx(expected_similarities, abs=1e-5)
    assert (rows.dtype, similarities.dtype) == (np.intp, np.float32)


def test_more_people_than_there_are_is_everybody() -> None:
    people = People(3)
    rows, similarities = ExactIndex(people.weights, people.bias).nearest(people.photos(np.arange(3)), 10)
    assert rows.shape == similarities.shape == (3, 3)
    assert all(sorted(row) == [0, 1, 2] for row in rows.tolist())


def test_no_probes_no_rows() -> None:
    people = People(5)
    rows, similarities = ExactIndex(people.weights, people.bias).nearest(np.zeros((0, DIMENSION), np.float32), 2)
    assert rows.shape == similarities.shape == (0, 2)


def test_a_bias_can_outweigh_the_cosine() -> None:
    people = People(40)
    faces = people.photos(np.arange(40))
    bias = np.zeros(40, np.float32)
    bias[17] = 3.0  # more than two cosines can differ by
    for some in (faces[:1], faces):
        rows, similarities = ExactIndex(people.weights, bias).nearest(some, 1)
        assert np.all(rows == 17)
        assert similarities[:, 0] == pytest.approx(some @ people.weights[17] + 3.0, abs=1e-5)


def test_blocks_of_probes_join_without_a_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven probes at a time, of twenty."""
    people = People(30)
    faces = people.photos(np.arange(20))
    monkeypatch.setattr(index_module, "BLOCK_BYTES", 7 * 4 * 30)
    rows, _ = ExactIndex(people.weights, people.bias).nearest(faces, 3)
    assert rows.tolist() == people.brute(faces, 3)[0].tolist()


def test_arrays_are_left_as_they_are() -> None:
    people = People(10)
    weights, bias, faces = people.weights.copy(), people.bias.copy(), people.photos(np.arange(8))
    before = faces.copy()
    index = ExactIndex(people.weights, people.bias)
    index.nearest(faces[:1], 2)
    index.nearest(faces, 2)
    assert np.array_equal(weights, people.weights) and np.array_equal(bias, people.bias)
    assert np.array_equal(before, faces)


def test_the_quantised_index_misses_hardly_anybody_who_is_near(many: tuple[People, QuantisedIndex]) -> None:
    """Photographs with a cosine of 0.9 to their person: good ones of somebody with several templates."""
    people, index = many
    who = people.random.permutation(MANY)[:1_000]
    noise = people.photos(np.arange(1_000))
    noise -= np.sum(noise * people.weights[who], axis=1, keepdims=True) * people.weights[who]
    faces = (0.9 * people.weights[who] + np.sqrt(1 - 0.9**2) * unit_rows(noise)).astype(np.float32)
    rows, _ = index.nearest(faces, 1)
    assert np.mean(rows == people.brute(faces, 1)[0]) >= 0.99


def test_the_quantised_index_misses_hardly_anybody_who_would_be_named(many: tuple[People, QuantisedIndex]) -> None:
    """Photographs drawn as bench/scale.py draws them: a cosine of 0.65 to each other, 0.74 to the mean of three."""
    people, index = many
    faces = people.photos(people.random.permutation(MANY)[:1_000])
    expected, similarities = people.brute(faces, 1)
    rows, _ = index.nearest(faces, 1)
    # FaceNet's threshold for 25,000 people at 1 %: 0.584 at 400, and 0.03 for each of the ln(62.5) = 4.1 factors of e
    named = similarities[:, 0] >= 0.7
    assert named.sum() >= 500
    assert np.mean((rows == expected)[named]) >= 0.99


def test_what_the_quantised_index_finds_has_its_exact_similarity(many: tuple[People, QuantisedIndex]) -> None:
    """Two bits a dimension name the shortlist only."""
    people, index = many
    faces = people.photos(np.arange(50))
    rows, similarities = index.nearest(faces, 5)
    exact = np.take_along_axis(faces @ people.weights.T + people.bias, rows, axis=1)
    assert similarities == pytest.approx(exact, abs=1e-5)
    assert np.all(np.diff(similarities, axis=1) <= 0), "most similar first"
    assert all(len(set(row)) == 5 for row in rows.tolist())
    assert (rows.dtype, similarities.dtype) == (np.intp, np.float32)


def test_the_quantised_index_answers_one_probe_as_it_answers_many(many: tuple[People, QuantisedIndex]) -> None:
    people, index = many
    faces = people.photos(np.arange(20))
    together, similarities = index.nearest(faces, 3)
    for number, face in enumerate(faces):
        rows, alone = index.nearest(face[None], 3)
        assert rows[0].tolist() == together[number].tolist()
        assert alone[0] == pytest.approx(similarities[number], abs=1e-5)
    rows, none = index.nearest(faces[:0], 3)
    assert rows.shape == none.shape == (0, 3)


def test_the_quantised_index_heeds_biases() -> None:
    """Everybody is there 300 times, more often than the shortlist is long; only biases tell them apart."""
    people = People(20)
    weights = np.repeat(people.weights, 300, axis=0)
    bias = np.random.default_rng(0).normal(0, 0.1, len(weights)).astype(np.float32)
    faces = unit_rows(people.weights + np.float32(0.1) * people.photos(np.arange(20)))
    rows, _ = QuantisedIndex(weights, bias).nearest(faces, 1)
    assert np.mean(rows[:, 0] == (faces @ weights.T + bias).argmax(axis=1)) >= 0.95


def test_the_quantised_index_finds_most_of_those_who_come_next(many: tuple[People, QuantisedIndex]) -> None:
    """Each of five in its place, 0.96 of them when this was written; of a shortlist of 32 it would be 0.77."""
    people, index = many
    faces = people.photos(np.arange(500))
    assert np.mean(index.nearest(faces, 5)[0] == people.brute(faces, 5)[0]) >= 0.9


def test_more_people_than_the_quantised_index_has_is_everybody() -> None:
    people = People(6_000)
    rows, similarities = QuantisedIndex(people.weights, people.bias).nearest(people.photos(np.arange(2)), 10_000)
    assert rows.shape == similarities.shape == (2, 6_000)
    assert rows.min() == 0 and np.all(np.isfinite(similarities))


def test_the_quantised_index_is_the_same_every_time(many: tuple[People, QuantisedIndex]) -> None:
    people, index = many
    faces = people.photos(np.arange(200))
    again = QuantisedIndex(people.weights, people.bias)
    for one, other in zip(index.nearest(faces, 4), again.nearest(faces, 4), strict=True):
        assert np.array_equal(one, other)


def test_a_gallery_is_searched_exactly_up_to_the_measured_size(
    many: tuple[People, QuantisedIndex], monkeypatch: pytest.MonkeyPatch
) -> None:
    people, _ = many
    monkeypatch.setattr(index_module, "EXACT_UP_TO", 5_000)
    assert isinstance(open_index(people.weights[:5_000], people.bias[:5_000]), ExactIndex)
    assert isinstance(open_index(people.weights[:5_001], people.bias[:5_001]), QuantisedIndex)
    assert isinstance(open_index(people.weights[:0], people.bias[:0]), ExactIndex)
