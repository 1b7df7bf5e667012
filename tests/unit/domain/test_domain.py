"""Identifiers, times, names and the metadata that a crop carries from the gateway to the recogniser."""

from __future__ import annotations

import re
import string
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.domain import (
    CANDIDATE_SCHEMA,
    Candidate,
    check_place_id,
    detection_id,
    format_time,
    gallery_hash,
    normalise_person_id,
    parse_moment,
    parse_time,
    percent_safe,
    require_utc,
    tag_safe,
    template_key,
)
from shared.errors import InvalidIdentifier, InvalidInput, UnknownSchema
from tests.support import NOW, candidate

places = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), min_size=1, max_size=20)
texts = st.text(st.characters(exclude_categories=("Cs",)), max_size=30)
moments = st.datetimes(datetime(2000, 1, 1), datetime(2200, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds
ints = st.integers(-10_000, 10_000)
candidates = st.builds(
    Candidate,
    site=places,
    camera=places,
    location=places,
    captured_at=moments.map(lambda t: t.replace(microsecond=t.microsecond // 1000 * 1000)),
    track=texts,
    shot=st.integers(0, 10**6),
    frame_box=st.tuples(ints, ints, ints, ints),
    frame_size=st.tuples(ints, ints),
    detector=texts,
    confidence=st.integers(0, 10_000).map(lambda n: n / 10_000),
    sha256=st.just("0" * 64),
    uploader=texts,
    landmarks=st.none()
    | st.lists(st.tuples(ints, ints).map(lambda p: (p[0] / 10, p[1] / 10)), min_size=5, max_size=5).map(tuple),
)


class TestPersonId:
    @pytest.mark.parametrize(
        ("written", "person_id"),
        [
            ("Harrison Ford", "harrison_ford"),
            ("  ann ", "ann"),
            ("O'Brien-Smith Jr.", "o'brien-smith_jr."),
            ("7", "7"),
            ("ZOË", "zoë"),
            ("Zoe\u0308", "zoë"),  # decomposed on one machine, composed on the next: one person
            ("张伟", "张伟"),
            ("x" * 64, "x" * 64),
        ],
    )
    def test_has_one_spelling(self, written: str, person_id: str) -> None:
        assert normalise_person_id(written) == person_id

    @pytest.mark.parametrize(
        "hostile",
        [
            "",
            "   ",
            "../../etc",
            "..",
            ".",
            ".hidden",
            "a/b",
            "a\\b",
            "%2e%2e",
            "a\0b",
            "a\nb",
            "a\tb",
            "😀",
            "x" * 65,
            "x" * 300,
            "-rf",
            "a b;drop",
            "<b>",
            "\u202eevil",
        ],
    )
    def test_refuses_what_is_no_id(self, hostile: str) -> None:
        with pytest.raises(InvalidIdentifier):
            normalise_person_id(hostile)

    @pytest.mark.parametrize("reserved", ["unknown", "Unknown", " UNKNOWN "])
    def test_nobody_is_called_unknown(self, reserved: str) -> None:
        with pytest.raises(InvalidIdentifier, match="reserved"):
            normalise_person_id(reserved)

    @given(st.text(max_size=70))
    def test_an_id_is_its_own_spelling_and_safe_as_a_folder(self, text: str) -> None:
        try:
            person_id = normalise_person_id(text)
        except InvalidIdentifier:
            return
        assert normalise_person_id(person_id) == person_id
        assert not set(percent_safe(person_id)) & set("/\\\0%") - {"%"}
        assert percent_safe(person_id) not in (".", "..")


class TestPlaceId:
    @pytest.mark.parametrize("text", ["lobby", "../North Gate", "Tor 3 / Süd", "前台", "a" * 64])
    def test_takes_anything_printable(self, text: str) -> None:
        assert check_place_id("camera", text) == text

    @pytest.mark.parametrize("text", ["", "a" * 65, "a" * 300, "a\nb", "a\0", "\ud800", "\x7f"])
    def test_refuses_the_rest(self, text: str) -> None:
        with pytest.raises(InvalidIdentifier, match="camera"):
            check_place_id("camera", text)


class TestTimes:
    def test_naive_times_are_refused(self) -> None:
        with pytest.raises(InvalidInput):
            require_utc(datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake under test

    def test_other_zones_are_refused(self) -> None:
        with pytest.raises(InvalidInput):
            require_utc(datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=1))))

    def test_a_candidate_checks_its_time_when_made(self) -> None:
        with pytest.raises(InvalidInput):
            candidate(captured_at=datetime(2026, 1, 1))  # noqa: DTZ001 - the mistake under test

    @pytest.mark.parametrize("text", ["", "yesterday", "2026-13-01T00:00:00Z", "2026-01-01T00:00:00", "12"])
    def test_what_is_no_moment_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidInput):
            parse_time(text)

    @pytest.mark.parametrize("text", ["yesterday", "2026-01-02T03:04:05"])
    def test_what_can_be_typed_instead_is_said(self, text: str) -> None:
        with pytest.raises(InvalidInput) as refused:
            parse_moment(text)
        said = str(refused.value)
        assert text in said
        for example in ("2026-01-02", "2026-01-02T03:04:05Z"):
            assert f"such as {example}" in said and parse_moment(example)

    def test_an_offset_is_turned_into_utc(self) -> None:
        assert parse_time("2026-01-02T05:04:05.678+02:00") == NOW

    @given(moments)
    def test_written_and_read_is_the_same_to_the_millisecond(self, moment: datetime) -> None:
        assert timedelta(0) <= moment - parse_time(format_time(moment)) < timedelta(milliseconds=1)

    @given(moments, moments)
    def test_written_times_sort_as_the_times_do(self, one: datetime, other: datetime) -> None:
        assert (format_time(one) <= format_time(other)) or one > other


class TestCandidate:
    @given(candidates)
    def test_metadata_gives_the_same_candidate_back(self, made: Candidate) -> None:
        assert Candidate.from_metadata(made.to_metadata()) == made

    @given(candidates)
    def test_metadata_can_travel_in_http_headers(self, made: Candidate) -> None:
        for key, value in made.to_metadata().items():
            assert key.isidentifier()
            assert all(" " < character <= "~" for character in value)

    def test_unknown_keys_are_accepted_in_any_letter_case(self) -> None:
        metadata = {key.title(): value for key, value in candidate().to_metadata().items()} | {"Weather": "rain"}
        assert Candidate.from_metadata(metadata) == candidate()

    @pytest.mark.parametrize("schema", ["2", "", "one", "1.0"])
    def test_an_unknown_schema_is_refused_by_name(self, schema: str) -> None:
        with pytest.raises(UnknownSchema, match=re.escape(repr(schema))):
            Candidate.from_metadata(candidate().to_metadata() | {"schema": schema})

    def test_no_schema_is_an_unknown_one(self) -> None:
        with pytest.raises(UnknownSchema):
            Candidate.from_metadata({})

    @pytest.mark.parametrize("key", sorted(set(candidate().to_metadata()) - {"schema"}))
    def test_a_missing_value_is_named(self, key: str) -> None:
        metadata = candidate().to_metadata()
        del metadata[key]
        with pytest.raises(InvalidInput, match=key):
            Candidate.from_metadata(metadata)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("frame_box", "1,2,3"),
            ("frame_box", "a,b,c,d"),
            ("frame_size", "1,2,3"),
            ("landmarks", "1,2,3"),
            ("confidence", "sure"),
            ("confidence", "nan"),
            ("confidence", "inf"),
            ("captured_at", "2026-01-01T00:00:00"),
            ("shot", "first"),
            ("site", ""),
            ("camera", "x" * 65),
            ("location", "a%00b"),
        ],
    )
    def test_a_malformed_value_is_refused(self, key: str, value: str) -> None:
        with pytest.raises(InvalidInput):
            Candidate.from_metadata(candidate().to_metadata() | {key: value})

    def test_its_name_tells_place_and_time(self) -> None:
        made = candidate(track="t7", shot=2)
        assert made.blob_name == "hq/entrance/2026/01/02/20260102T030405678Z-t7-2.jpg"

    @pytest.mark.parametrize("part", ["..", ".", "../../etc", "a/b", "..\\..", "%2e%2e", "Tor 😀", "é" * 64, "#?&"])
    def test_hostile_parts_stay_one_segment_of_the_name(self, part: str) -> None:
        made = candidate(site=part, camera=part, track=part)
        segments = made.blob_name.split("/")
        assert len(segments) == 6
        assert not set(segments) & {"", ".", ".."}
        assert made.blob_name.isascii()

    @pytest.mark.parametrize("part", ["x" * 64, "é" * 64, "张" * 42, "张" * 64, "😀" * 64], ids=len)
    def test_a_name_fits_the_store_or_its_parts_are_refused(self, part: str) -> None:
        try:
            made = candidate(site=part, camera=part)
        except InvalidIdentifier:
            return
        assert len(made.blob_name) <= 1024, "Azure's limit for a blob name"

    @given(candidates)
    def test_tags_are_of_the_alphabet_that_the_index_takes(self, made: Candidate) -> None:
        allowed = set(string.ascii_letters + string.digits + " +-./:=_")
        assert set(made.to_tags()) == {"site", "camera", "location"}
        for value in made.to_tags().values():
            assert set(value) <= allowed and len(value) <= 256


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=40), st.text(max_size=5))
def test_different_short_texts_have_different_tags(text: str, other: str) -> None:
    if len(other.encode(errors="ignore").decode()) == len(other) and len(text.encode()) < 80:
        assert (tag_safe(text) == tag_safe(other)) == (text == other)


def test_a_detection_is_of_one_crop_content_and_face() -> None:
    ids = {detection_id(*key) for key in [("a", "h", 0), ("b", "h", 0), ("a", "i", 0), ("a", "h", 1), ("a", "h", -1)]}
    assert len(ids) == 5
    assert detection_id("a", "h", 0) in ids


def test_a_template_is_of_one_image_and_embedder() -> None:
    assert len({template_key("a", "x"), template_key("b", "x"), template_key("a", "y")}) == 3


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3)), max_size=6), st.randoms())
def test_a_gallery_hash_ignores_order_and_nothing_else(pairs: list[tuple[str, str]], random) -> None:
    shuffled = list(pairs)
    random.shuffle(shuffled)
    assert gallery_hash(shuffled) == gallery_hash(pairs)
    assert gallery_hash([*pairs, ("new", "one")]) != gallery_hash(pairs)


def test_the_schema_that_is_written_is_the_one_that_is_read() -> None:
    assert candidate().to_metadata()["schema"] == str(CANDIDATE_SCHEMA)
