"""`ports.BlobStore`, as every adapter keeps it."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from shared.domain import CANDIDATES, DATASET, ERASURES, MODELS, utc_now
from shared.errors import InvalidInput, NotFound, PreconditionFailed
from shared.ports import BlobStore
from tests.contract.racing import race

TAKEN_NAMES = [
    "a",
    "site/cam/2026/01/02/20260102T030405678Z-t1-0.jpg",
    "with space.jpg",
    "%2e%2e%2fescape.jpg",
    "..%2Fup.jpg",
    "a/.../b.jpg",
    "/leading.jpg",
    "double//slash.jpg",
    "plus+and&percent%.jpg",
    "grüße/日本語/😀.jpg",
    "é" * 300,
    "x" * 300 + ".jpg",
    "😀" * 1024,
    "/".join("d" * 254),
    "~",
    ".hidden",
    "CON",
    "a.b.c.d",
    "query?x=1#fragment",
    "'; DROP TABLE blobs; --",
    'quote"d*<|>',
]
REFUSED_NAMES = [
    "back\\slash.jpg",
    "C:\\windows\\x.jpg",
    "",
    "..",
    ".",
    "../escape.jpg",
    "a/../../escape.jpg",
    "a/./b.jpg",
    "nul\0.jpg",
    "line\nbreak.jpg",
    "tab\t.jpg",
    "del\x7f.jpg",
    "c1\x85.jpg",
    "ends/with/slash/",
    "ends.with.dot.",
    "\ud800.jpg",
    "x" * 1025,
    "/".join("d" * 255),
]


def test_what_was_put_is_got(blobs: BlobStore) -> None:
    before = utc_now()
    etag = blobs.put(CANDIDATES, "a/b.jpg", b"\xff\xd8data", metadata={"site": "north"}, content_type="image/jpeg")
    blob = blobs.get(CANDIDATES, "a/b.jpg")
    assert blob.data == b"\xff\xd8data"
    assert blob.properties.name == "a/b.jpg"
    assert blob.properties.etag == etag
    assert blob.properties.size_bytes == 6
    assert blob.properties.content_type == "image/jpeg"
    assert blob.properties.metadata == {"site": "north"}
    # The cloud tells whole seconds.
    assert before - timedelta(seconds=2) <= blob.properties.last_modified <= utc_now() + timedelta(seconds=2)
    assert blob.properties.last_modified.utcoffset() == timedelta(0)
    assert blobs.properties(CANDIDATES, "a/b.jpg") == blob.properties


def test_an_empty_blob_is_a_blob(blobs: BlobStore) -> None:
    blobs.put(MODELS, "empty", b"")
    assert blobs.get(MODELS, "empty").data == b""


def test_a_large_blob_comes_back_whole(blobs: BlobStore) -> None:
    data = bytes(range(256)) * 40_000
    blobs.put(MODELS, "large", data)
    assert blobs.get(MODELS, "large").data == data


def test_an_overwrite_replaces_bytes_metadata_and_etag(blobs: BlobStore) -> None:
    first = blobs.put(MODELS, "p", b"1", metadata={"a": "1"}, tags={"k": "old"})
    second = blobs.put(MODELS, "p", b"22", metadata={"b": "2"}, tags={"k": "new"})
    assert first != second
    blob = blobs.get(MODELS, "p")
    assert (blob.data, blob.properties.metadata, blob.properties.etag) == (b"22", {"b": "2"}, second)
    assert [found.name for found in blobs.list(MODELS)] == ["p"]
    assert list(blobs.find_by_tags(MODELS, {"k": "old"})) == []
    assert list(blobs.find_by_tags(MODELS, {"k": "new"})) == ["p"]


def test_the_same_bytes_again_have_another_etag(blobs: BlobStore) -> None:
    assert blobs.put(MODELS, "p", b"1") != blobs.put(MODELS, "p", b"1")


@pytest.mark.parametrize("name", ["missing", "a/b", "x" * 1000])
def test_a_missing_blob_is_not_found(blobs: BlobStore, name: str) -> None:
    with pytest.raises(NotFound):
        blobs.get(CANDIDATES, name)
    with pytest.raises(NotFound):
        blobs.properties(CANDIDATES, name)
    assert blobs.delete(CANDIDATES, name) is False


def test_a_deleted_blob_is_gone(blobs: BlobStore) -> None:
    blobs.put(DATASET, "ann/1.jpg", b"1", tags={"k": "v"})
    assert blobs.delete(DATASET, "ann/1.jpg") is True
    assert blobs.delete(DATASET, "ann/1.jpg") is False
    with pytest.raises(NotFound):
        blobs.get(DATASET, "ann/1.jpg")
    assert list(blobs.list(DATASET)) == []
    assert list(blobs.find_by_tags(DATASET, {"k": "v"})) == []


def test_containers_do_not_mix(blobs: BlobStore) -> None:
    blobs.put(DATASET, "same", b"d")
    blobs.put(ERASURES, "same", b"e")
    assert blobs.get(DATASET, "same").data == b"d"
    assert blobs.get(ERASURES, "same").data == b"e"
    assert [found.name for found in blobs.list(DATASET)] == ["same"]


@pytest.mark.parametrize("container", ["", "secrets", "..", "../candidates", "Candidates"])
def test_unknown_containers_are_refused(blobs: BlobStore, container: str) -> None:
    with pytest.raises(InvalidInput):
        blobs.put(container, "x", b"")


@pytest.mark.parametrize("name", TAKEN_NAMES, ids=lambda name: ascii(name)[:40])
def test_awkward_names_are_kept_as_they_are(blobs: BlobStore, name: str) -> None:
    blobs.put(CANDIDATES, name, b"here")
    blobs.put(CANDIDATES, "other", b"there")
    assert blobs.get(CANDIDATES, name).data == b"here"
    assert name in [found.name for found in blobs.list(CANDIDATES)]
    assert blobs.delete(CANDIDATES, name) is True
    assert [found.name for found in blobs.list(CANDIDATES)] == ["other"]


@pytest.mark.parametrize("name", REFUSED_NAMES, ids=lambda name: ascii(name)[:40])
def test_names_that_the_service_would_refuse_or_change_are_refused(blobs: BlobStore, name: str) -> None:
    with pytest.raises(InvalidInput):
        blobs.put(CANDIDATES, name, b"")
    assert list(blobs.list(CANDIDATES)) == []


def test_names_differ_in_letter_case(blobs: BlobStore) -> None:
    blobs.put(CANDIDATES, "A.jpg", b"upper")
    blobs.put(CANDIDATES, "a.jpg", b"lower")
    assert blobs.get(CANDIDATES, "A.jpg").data == b"upper"
    assert blobs.get(CANDIDATES, "a.jpg").data == b"lower"


def test_a_name_may_be_the_folder_of_another(blobs: BlobStore) -> None:
    blobs.put(CANDIDATES, "a", b"1")
    blobs.put(CANDIDATES, "a/b", b"2")
    blobs.delete(CANDIDATES, "a")
    assert blobs.get(CANDIDATES, "a/b").data == b"2"


def test_names_that_shorten_alike_stay_apart(blobs: BlobStore) -> None:
    first, second = "x" * 900 + "1", "x" * 900 + "2"
    blobs.put(CANDIDATES, first, b"1")
    blobs.put(CANDIDATES, second, b"2")
    assert (blobs.get(CANDIDATES, first).data, blobs.get(CANDIDATES, second).data) == (b"1", b"2")


@pytest.mark.parametrize(
    "metadata",
    [
        {"site": "grüße"},
        {"site": "😀"},
        {"site": "line\nbreak"},
        {"site": "nul\0"},
        {"site": " padded "},
        {"ünicode": "x"},
        {"with-hyphen": "x"},
        {"1digit": "x"},
        {"": "x"},
        {"a": "1", "A": "2"},
        {"big": "x" * 9000},
    ],
    ids=lambda metadata: ascii(metadata)[:40],
)
def test_metadata_that_cannot_be_headers_is_refused(blobs: BlobStore, metadata: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        blobs.put(CANDIDATES, "x", b"", metadata=metadata)
    assert list(blobs.list(CANDIDATES)) == []


@pytest.mark.parametrize(
    "tags",
    [
        {"site": "grüße"},
        {"site": "a,b"},
        {"": "x"},
        {"k" * 129: "x"},
        {"k": "v" * 257},
        {f"k{i}": "v" for i in range(11)},
    ],
    ids=lambda tags: ascii(tags)[:40],
)
def test_tags_that_the_index_would_refuse_are_refused(blobs: BlobStore, tags: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        blobs.put(CANDIDATES, "x", b"", tags=tags)


def test_listing_is_by_prefix_in_order_with_metadata(blobs: BlobStore) -> None:
    for name in ("b/2", "a/1", "b/1", "b", "c/1", "b/10", "b%"):
        blobs.put(CANDIDATES, name, name.encode(), metadata={"n": name.replace("%", "")})
    found = list(blobs.list(CANDIDATES, "b/"))
    assert [item.name for item in found] == ["b/1", "b/10", "b/2"]
    assert [item.metadata["n"] for item in found] == ["b/1", "b/10", "b/2"]
    assert [item.name for item in blobs.list(CANDIDATES, "b%")] == ["b%"]
    assert len(list(blobs.list(CANDIDATES))) == 7
    assert list(blobs.list(CANDIDATES, "nothing")) == []


def test_listing_goes_over_many_pages(blobs: BlobStore) -> None:
    names = [f"page/{number:04d}" for number in range(1_203)]
    race(4, lambda part: [blobs.put(CANDIDATES, name, b"") for name in names[part::4]])
    assert [item.name for item in blobs.list(CANDIDATES, "page/")] == names


def test_deleting_while_listing_is_allowed(blobs: BlobStore) -> None:
    for number in range(30):
        blobs.put(CANDIDATES, f"{number:02d}", b"")
    assert all(blobs.delete(CANDIDATES, item.name) for item in blobs.list(CANDIDATES))
    assert list(blobs.list(CANDIDATES)) == []


def test_tags_are_found_when_all_match(blobs: BlobStore) -> None:
    blobs.put(CANDIDATES, "1", b"", tags={"site": "north", "camera": "gate"})
    blobs.put(CANDIDATES, "2", b"", tags={"site": "north", "camera": "yard"})
    blobs.put(CANDIDATES, "3", b"")
    assert list(blobs.find_by_tags(CANDIDATES, {"site": "north"})) == ["1", "2"]
    assert list(blobs.find_by_tags(CANDIDATES, {"site": "north", "camera": "yard"})) == ["2"]
    assert list(blobs.find_by_tags(CANDIDATES, {"site": "south"})) == []
    assert list(blobs.find_by_tags(DATASET, {"site": "north"})) == []


def test_if_absent_writes_once(blobs: BlobStore) -> None:
    etag = blobs.put(MODELS, "p", b"1", if_absent=True)
    with pytest.raises(PreconditionFailed):
        blobs.put(MODELS, "p", b"2", if_absent=True)
    assert (blobs.get(MODELS, "p").data, blobs.get(MODELS, "p").properties.etag) == (b"1", etag)
    blobs.delete(MODELS, "p")
    blobs.put(MODELS, "p", b"3", if_absent=True)


def test_if_match_needs_the_live_etag(blobs: BlobStore) -> None:
    first = blobs.put(MODELS, "p", b"1")
    second = blobs.put(MODELS, "p", b"2", if_match=first)
    with pytest.raises(PreconditionFailed):
        blobs.put(MODELS, "p", b"3", if_match=first)
    assert blobs.get(MODELS, "p").data == b"2"
    blobs.put(MODELS, "p", b"4", if_match=second)
    with pytest.raises(PreconditionFailed):
        blobs.put(MODELS, "missing", b"", if_match=second)


def test_of_many_if_absent_one_wins(blobs: BlobStore) -> None:
    def put(number: int) -> bool:
        try:
            blobs.put(MODELS, "p", str(number).encode(), if_absent=True)
        except PreconditionFailed:
            return False
        return True

    won = race(8, put)
    assert won.count(True) == 1
    assert blobs.get(MODELS, "p").data == str(won.index(True)).encode()


def test_of_many_if_match_one_wins(blobs: BlobStore) -> None:
    etag = blobs.put(MODELS, "p", b"start")

    def put(number: int) -> bool:
        try:
            blobs.put(MODELS, "p", str(number).encode(), if_match=etag)
        except PreconditionFailed:
            return False
        return True

    assert race(8, put).count(True) == 1


def test_a_reader_never_sees_half_an_overwrite(blobs: BlobStore) -> None:
    blobs.put(MODELS, "p", b"0" * 100_000, metadata={"n": "0"})
    done = threading.Event()

    def run(number: int) -> int:
        if number == 0:
            for turn in range(1, 60):
                digit = str(turn % 10)
                blobs.put(MODELS, "p", digit.encode() * (100_000 + turn), metadata={"n": digit})
            done.set()
            return 1
        reads = 0
        while not done.is_set():
            blob = blobs.get(MODELS, "p")
            assert len(blob.data) == blob.properties.size_bytes
            assert set(blob.data) == set(blob.properties.metadata["n"].encode())
            reads += 1
        return reads

    assert min(race(4, run)) > 0


def test_another_connection_sees_an_acknowledged_write(backend) -> None:
    other = backend.reopened()
    etag = backend.blobs.put(DATASET, "ann/1.jpg", b"1")
    assert other.blobs.get(DATASET, "ann/1.jpg").properties.etag == etag
    other.blobs.put(DATASET, "ann/1.jpg", b"2", if_match=etag)
    assert backend.blobs.get(DATASET, "ann/1.jpg").data == b"2"
