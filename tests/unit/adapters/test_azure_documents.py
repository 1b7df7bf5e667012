"""Documents and their order: what Cosmos DB sorts as text is what was meant."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.azure.cosmos import possible_id
from shared.adapters.azure.cosmos_schema import CONTAINERS, DETECTIONS
from shared.adapters.azure.documents import (
    DETECTIONS_FROM,
    DETECTIONS_TO,
    OUTCOMES_FROM,
    OUTCOMES_TO,
    embedding_of,
    embedding_text,
    gallery_order,
    newest_first,
    oldest_first,
    template_document,
    template_from,
    time_of,
    time_text,
)
from shared.domain import Quality, Template, normalise_person_id
from shared.errors import InvalidIdentifier

TICK = timedelta(microseconds=1)
MOMENTS = st.integers(0, 1_000 * 366 * 86_400 * 1_000_000).map(lambda us: datetime(1980, 1, 1, tzinfo=UTC) + us * TICK)
IDS = st.text("0123456789abcdef", min_size=1, max_size=32)


@given(MOMENTS, IDS, MOMENTS, IDS)
def test_detections_sort_by_falling_time_then_id(first: datetime, a: str, second: datetime, b: str) -> None:
    assert (newest_first(first, a) < newest_first(second, b)) is ((second, a) < (first, b))


@given(MOMENTS, IDS, MOMENTS, IDS)
def test_outcomes_sort_by_rising_time_then_id(first: datetime, a: str, second: datetime, b: str) -> None:
    assert (oldest_first(first, a) < oldest_first(second, b)) is ((first, a) < (second, b))


@given(MOMENTS, IDS, MOMENTS)
def test_ranges_of_the_order_are_ranges_of_time(moment: datetime, detection_id: str, bound: datetime) -> None:
    place = newest_first(moment, detection_id)
    assert (place < newest_first(bound - TICK)) is (moment >= bound), "since, inclusive"
    assert (place >= newest_first(bound - TICK)) is (moment < bound), "until, exclusive"
    assert (oldest_first(moment, detection_id) < oldest_first(bound)) is (moment < bound)


@given(MOMENTS, IDS)
def test_kinds_do_not_mix(moment: datetime, some_id: str) -> None:
    assert DETECTIONS_FROM <= newest_first(moment, some_id) < DETECTIONS_TO
    assert OUTCOMES_FROM <= oldest_first(moment, some_id) < OUTCOMES_TO
    assert DETECTIONS_TO <= OUTCOMES_FROM


@given(st.text(max_size=20), IDS, st.text(max_size=20), IDS)
def test_templates_sort_by_person_then_id(first: str, a: str, second: str, b: str) -> None:
    try:
        first, second = normalise_person_id(first), normalise_person_id(second)
    except InvalidIdentifier:
        return
    assert (gallery_order(first, a) < gallery_order(second, b)) is ((first, a) < (second, b))


@given(MOMENTS, MOMENTS)
def test_times_come_back_and_sort_as_text(first: datetime, second: datetime) -> None:
    assert time_of(time_text(first)) == first
    assert (time_text(first) < time_text(second)) is (first < second)


@given(st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=16))
def test_embeddings_come_back_to_the_bit(values: list[float]) -> None:
    embedding = np.array(values, dtype=np.float32)
    back = embedding_of(embedding_text(embedding))
    assert back.dtype == np.float32
    assert back.tobytes() == embedding.tobytes()
    back[0] = 1  # the caller's own


def test_an_embedding_of_512_numbers_takes_under_three_kilobytes() -> None:
    assert len(embedding_text(np.ones(512, dtype=np.float32))) == 2_732


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda container: container.name)
def test_no_embedding_is_indexed(container) -> None:
    policy = container.indexing_policy()
    assert policy["excludedPaths"] == [{"path": "/*"}]
    assert not {"embedding", "secret_hash", "landmarks"} & set(container.indexed)
    assert all(path["path"].endswith("/?") for path in policy["includedPaths"])
    assert {name for pair in container.composite for name in pair} <= set(container.indexed)


def test_detections_end_after_thirty_days() -> None:
    (detections,) = [container for container in CONTAINERS if container.name == DETECTIONS]
    assert detections.default_ttl_s == 30 * 86_400


@pytest.mark.parametrize("text", ["", "a/b", "a\\b", "a?b", "a#b", "x" * 256, "\0", "\n", "\ud800"])
def test_impossible_ids(text: str) -> None:
    assert possible_id(text) is False


@pytest.mark.parametrize("text", ["a", "o'neil", "李", "job:1", "x" * 255, "a b", "100%"])
def test_possible_ids(text: str) -> None:
    assert possible_id(text) is True


def test_a_template_of_an_earlier_version_still_loads() -> None:
    """Documents written before poses, exposure and the operator's mark were kept."""
    now = datetime(2026, 1, 2, tzinfo=UTC)
    vector = np.ones(4, np.float32) / 2
    quality = Quality(80.0, 99.0, 0.1, 120.0, 0.99)
    template = Template("t", "ann", "e", vector, "ann/x.jpg", (0.0, 0.0, 9.0, 9.0), None, quality, "upload", now)
    document = template_document(template)
    assert template_from(document).kept is False
    del document["kept"]
    for name in ("pitch", "roll", "dark", "bright", "contrast"):
        del document["quality"][name]
    loaded = template_from(document)
    assert (loaded.kept, loaded.quality) == (False, quality)
    document["quality"]["of_a_later_version"] = 1
    assert template_from(document).quality == quality
