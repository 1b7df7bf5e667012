"""What is special about the embedded backend: its files, its change feed, crashes, several processes, a full disk."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.adapters.local import LocalBlobStore, LocalPersonRepository, LocalStore, LocalWorkQueue
from shared.adapters.local.names import relative_path
from shared.adapters.local.schema import MIGRATIONS, SCHEMA_VERSION, from_us, to_us
from shared.adapters.local.store import DATABASE_NAME
from shared.adapters.naming import check_name
from shared.domain import Person, Quality, Template
from shared.errors import ConfigurationError, IntegrityError, InvalidInput, StoreFull, StoreUnavailable

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LocalStore]:
    store = LocalStore(tmp_path / "data")
    yield store
    store.close()


@pytest.fixture
def blobs(store: LocalStore) -> LocalBlobStore:
    return LocalBlobStore(store)


def files(blobs_folder: Path) -> list[str]:
    return sorted(str(path.relative_to(blobs_folder)) for path in blobs_folder.rglob("*") if path.is_file())


def run_python(source: str, *arguments: object) -> subprocess.Popen[bytes]:
    """`source` in a process of its own, with the given arguments."""
    return subprocess.Popen([sys.executable, "-c", textwrap.dedent(source), *map(str, arguments)], cwd=ROOT)


def test_a_person_can_find_a_blob_in_the_folder(store: LocalStore, blobs: LocalBlobStore) -> None:
    etag = blobs.put("dataset", "ann/abc.jpg", b"photo")
    assert (store.data_dir / "blobs" / "dataset" / "ann" / f"abc.{etag}.jpg").read_bytes() == b"photo"


def test_an_overwrite_and_a_delete_leave_no_files(store: LocalStore, blobs: LocalBlobStore) -> None:
    blobs.put("dataset", "ann/1.jpg", b"1")
    etag = blobs.put("dataset", "ann/1.jpg", b"2")
    root = store.data_dir / "blobs"
    assert files(root) == [f"dataset/ann/1.{etag}.jpg"]
    blobs.delete("dataset", "ann/1.jpg")
    assert files(root) == []
    # The folder's name was the person's id.
    assert not (root / "dataset" / "ann").exists()


def test_refused_writes_leave_no_files(store: LocalStore, blobs: LocalBlobStore) -> None:
    etag = blobs.put("models", "p", b"1")
    for condition in ({"if_absent": True}, {"if_match": "other"}):
        with pytest.raises(Exception, match="blob"):
            blobs.put("models", "p", b"2", **condition)
    assert files(store.data_dir / "blobs") == [f"models/p.{etag}"]


@given(st.text(min_size=1, max_size=300))
def test_no_name_is_a_path_out_of_the_folder(name: str) -> None:
    try:
        check_name(name)
    except InvalidInput:
        return
    path = relative_path("candidates", name, "0" * 16)
    assert not path.is_absolute()
    assert path.parts[0] == "candidates"
    assert all(part not in (".", "..") and len(part.encode()) <= 255 for part in path.parts)
    assert len(path.as_posix()) <= 1100
    assert path.as_posix().isascii()
    assert "\\" not in path.as_posix()
    assert ":" not in path.as_posix()


@given(st.datetimes(timezones=st.just(UTC)))
def test_times_are_kept_to_the_microsecond(moment: datetime) -> None:
    assert from_us(to_us(moment)) == moment


def test_the_change_feed_grows_with_every_write(blobs: LocalBlobStore) -> None:
    for name in ("a", "b", "c"):
        blobs.put("candidates", name, b"")
    blobs.put("models", "m", b"")
    first = blobs.changes_after(0, "candidates", limit=2)
    assert [change.properties.name for change in first] == ["a", "b"]
    assert [c.properties.name for c in blobs.changes_after(first[-1].seq, "candidates")] == ["c"]
    last = blobs.changes_after(0, "candidates")[-1].seq
    etag = blobs.put("candidates", "a", b"again")
    (change,) = blobs.changes_after(last, "candidates")
    assert (change.properties.name, change.properties.etag) == ("a", etag)


def test_sequence_numbers_are_never_used_again(blobs: LocalBlobStore) -> None:
    blobs.put("candidates", "a", b"")
    (before,) = blobs.changes_after(0, "candidates")
    blobs.delete("candidates", "a")
    blobs.put("candidates", "a", b"")
    (after,) = blobs.changes_after(0, "candidates")
    assert after.seq > before.seq


def test_a_follower_of_the_feed_misses_nothing_while_many_write(blobs: LocalBlobStore) -> None:
    def write(part: int) -> None:
        for number in range(60):
            blobs.put("candidates", f"{part}-{number}", b"")

    writers = [threading.Thread(target=write, args=(part,)) for part in range(4)]
    for writer in writers:
        writer.start()
    seen: list[str] = []
    position = 0
    while any(writer.is_alive() for writer in writers) or blobs.changes_after(position, "candidates", 1):
        for change in blobs.changes_after(position, "candidates", 7):
            seen.append(change.properties.name)
            position = change.seq
    assert len(seen) == len(set(seen)) == 240


def test_orphans_are_swept_when_they_are_old(store: LocalStore, blobs: LocalBlobStore) -> None:
    etag = blobs.put("candidates", "a/live.jpg", b"live")
    folder = store.data_dir / "blobs" / "candidates" / "a"
    old, young = folder / "orphan.0.jpg", folder / "young.0.jpg"
    for path in (old, young):
        path.write_bytes(b"")
    hours_ago = (datetime.now(UTC) - timedelta(hours=2)).timestamp()
    for path in (old, folder / f"live.{etag}.jpg"):
        os.utime(path, (hours_ago, hours_ago))
    assert blobs.sweep_orphans() == 1
    assert not old.exists()
    assert young.exists()
    assert blobs.get("candidates", "a/live.jpg").data == b"live"


def test_a_missing_or_cut_file_is_told(store: LocalStore, blobs: LocalBlobStore) -> None:
    blobs.put("models", "p.bin", b"12345")
    (file,) = (store.data_dir / "blobs" / "models").iterdir()
    file.write_bytes(b"123")
    with pytest.raises(IntegrityError):
        blobs.get("models", "p.bin")
    file.unlink()
    with pytest.raises(IntegrityError):
        blobs.get("models", "p.bin")
    assert blobs.delete("models", "p.bin") is True


def test_adapters_calls_can_be_one_transaction(store: LocalStore, blobs: LocalBlobStore) -> None:
    queue = LocalWorkQueue(store)
    with pytest.raises(RuntimeError), store.transaction():
        queue.send("some-queue", "x")
        raise RuntimeError
    assert queue.length("some-queue") == 0
    with store.transaction():
        queue.send("some-queue", "x")
        queue.send("other-queue", "y")
    assert (queue.length("some-queue"), queue.length("other-queue")) == (1, 1)


def test_two_processes_write_at_once(store: LocalStore, blobs: LocalBlobStore) -> None:
    other = run_python(
        """
        import sys
        from pathlib import Path
        from shared.adapters.local import LocalBlobStore, LocalStore, LocalWorkQueue
        store = LocalStore(Path(sys.argv[1]))
        blobs, queue = LocalBlobStore(store), LocalWorkQueue(store)
        for number in range(150):
            blobs.put("candidates", f"shared", str(number).encode())
            blobs.put("candidates", f"theirs/{number}", b"x")
            queue.send("some-queue", str(number))
        store.close()
        """,
        store.data_dir,
    )
    queue = LocalWorkQueue(store)
    taken = 0
    for number in range(150):
        blobs.put("candidates", "shared", str(number).encode())
        blobs.put("candidates", f"ours/{number}", b"x")
        taken += sum(queue.delete(message) for message in queue.receive("some-queue"))
    assert other.wait(60) == 0
    assert len(list(blobs.list("candidates"))) == 301
    assert blobs.get("candidates", "shared").data == b"149"
    assert taken + queue.length("some-queue") == 150


def test_many_processes_may_open_a_new_folder_at_once(tmp_path: Path) -> None:
    source = """
        import sys
        from pathlib import Path
        from shared.adapters.local import LocalStore, LocalWorkQueue
        LocalWorkQueue(LocalStore(Path(sys.argv[1]))).send("some-queue", "x")
        """
    processes = [run_python(source, tmp_path / "data") for _ in range(4)]
    assert [process.wait(60) for process in processes] == [0] * 4
    store = LocalStore(tmp_path / "data")
    assert LocalWorkQueue(store).length("some-queue") == 4
    store.close()


def test_what_was_acknowledged_survives_kill_9(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            textwrap.dedent("""
                import sys
                from pathlib import Path
                from shared.adapters.local import LocalBlobStore, LocalStore
                blobs = LocalBlobStore(LocalStore(Path(sys.argv[1])))
                number = 0
                while True:
                    blobs.put("candidates", f"{number % 10}", str(number).encode() * 2000)
                    print(number, flush=True)
                    number += 1
            """),
            str(tmp_path / "data"),
        ],
        cwd=ROOT,
        stdout=subprocess.PIPE,
    )
    assert process.stdout is not None
    for _ in range(100):
        line = process.stdout.readline()
    process.kill()
    acknowledged = int((process.stdout.read().split() or [line])[-1])
    process.wait()
    process.stdout.close()
    store = LocalStore(tmp_path / "data")
    blobs = LocalBlobStore(store)
    for number in range(acknowledged - 9, acknowledged + 1):
        data = blobs.get("candidates", str(number % 10)).data
        # One more write than was acknowledged may have gone through.
        assert data in (str(number).encode() * 2000, str(number + 10).encode() * 2000)
    store.close()


def test_a_full_disk_is_told_and_leaves_nothing_behind(tmp_path: Path) -> None:
    # A limit on the size of files stands in for the disk's end: the write fails half-way in just the same place.
    process = run_python(
        """
        import resource, sys
        from pathlib import Path
        from shared.adapters.local import LocalBlobStore, LocalStore
        from shared.errors import StoreFull
        blobs = LocalBlobStore(LocalStore(Path(sys.argv[1])))
        blobs.put("candidates", "kept", b"x" * 1000)
        resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
        for name in ("new", "kept"):
            try:
                blobs.put("candidates", name, b"y" * 600_000)
            except StoreFull:
                continue
            sys.exit(3)
        """,
        tmp_path / "data",
    )
    assert process.wait(30) == 0
    store = LocalStore(tmp_path / "data")
    blobs = LocalBlobStore(store)
    assert [blob.name for blob in blobs.list("candidates")] == ["kept"]
    assert blobs.get("candidates", "kept").data == b"x" * 1000
    assert len(files(tmp_path / "data" / "blobs")) == 1
    store.close()


def test_a_full_database_is_told_and_heals(store: LocalStore) -> None:
    queue = LocalWorkQueue(store)
    db = store.connection()
    pages = db.execute("PRAGMA page_count").fetchone()[0]
    db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StoreFull):
        for _ in range(1000):
            queue.send("some-queue", "x" * 10_000)
    db.execute("PRAGMA max_page_count = 1000000")
    queue.send("some-queue", "room again")
    assert queue.length("some-queue") >= 1


def test_a_database_that_stays_locked_is_unavailable(tmp_path: Path) -> None:
    store = LocalStore(tmp_path, busy_timeout_s=0.1)
    other = sqlite3.connect(tmp_path / DATABASE_NAME, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    queue = LocalWorkQueue(store)
    with pytest.raises(StoreUnavailable):
        queue.send("some-queue", "x")
    assert queue.length("some-queue") == 0  # reading goes on
    other.execute("COMMIT")
    other.close()
    queue.send("some-queue", "x")
    store.close()


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    LocalStore(tmp_path).close()
    db = sqlite3.connect(tmp_path / DATABASE_NAME)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(ConfigurationError, match="99"):
        LocalStore(tmp_path)


@pytest.mark.parametrize("version", range(1, SCHEMA_VERSION))
def test_a_folder_of_every_earlier_version_becomes_one_of_this(tmp_path: Path, version: int) -> None:
    (tmp_path / "old").mkdir()
    db = sqlite3.connect(tmp_path / "old" / DATABASE_NAME)
    db.executescript("".join(MIGRATIONS[:version]) + f"PRAGMA user_version = {version};")
    db.execute("INSERT INTO people VALUES ('ann', 0)")
    db.commit()
    db.close()
    assert _layout(tmp_path / "old", "before") != _layout(tmp_path / "new")
    assert _layout(tmp_path / "old") == _layout(tmp_path / "new")
    store = LocalStore(tmp_path / "old")
    assert [person.person_id for person in LocalPersonRepository(store).list_people()] == ["ann"]
    store.close()


def _layout(folder: Path, when: str = "opened") -> list[tuple[object, ...]]:
    """The schema's version, and every table's columns."""
    if when == "opened":
        LocalStore(folder).close()
    db = sqlite3.connect(folder / DATABASE_NAME)
    tables = sorted(row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type IN ('table', 'index')"))
    columns = [(table, *row) for table in tables for row in db.execute(f"PRAGMA table_info({table})")]
    version = db.execute("PRAGMA user_version").fetchone()
    db.close()
    return [version, *columns]


def test_a_file_that_is_no_database_is_told(tmp_path: Path) -> None:
    (tmp_path / DATABASE_NAME).write_bytes(b"not a database at all" * 500)
    with pytest.raises(IntegrityError):
        LocalStore(tmp_path)


def test_a_data_dir_that_is_a_file_is_told(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("")
    with pytest.raises((ConfigurationError, StoreUnavailable)):
        LocalStore(tmp_path / "data")


def test_an_erased_embedding_is_overwritten(tmp_path: Path) -> None:
    store = LocalStore(tmp_path)
    people = LocalPersonRepository(store)
    now = datetime.now(UTC)
    embedding = np.random.default_rng(1).standard_normal(512).astype(np.float32)
    people.add_person(Person("ann", now))
    quality = Quality(50.0, 50.0, None, 100.0, 0.9)
    people.add_template(Template("t", "ann", "e", embedding, "i", (0.0, 0.0, 1.0, 1.0), None, quality, "upload", now))
    store.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert embedding.tobytes()[:64] in (tmp_path / DATABASE_NAME).read_bytes()
    people.delete_person("ann")
    store.connection().execute("PRAGMA wal_checkpoint(TRUNCATE)")
    assert embedding.tobytes()[:64] not in (tmp_path / DATABASE_NAME).read_bytes()
    store.close()


def test_connections_of_ended_threads_are_closed(store: LocalStore) -> None:
    queue = LocalWorkQueue(store)
    for _ in range(20):
        thread = threading.Thread(target=queue.length, args=("some-queue",))
        thread.start()
        thread.join()
    assert len(store._connections) <= 2


def test_a_gallery_of_an_earlier_version_is_read_and_goes_on(tmp_path: Path) -> None:
    """Written by schema 4, before poses, exposure and the operator's mark were kept."""
    store = LocalStore(tmp_path)
    with store.transaction() as db:
        db.execute("DROP TABLE templates")
        db.execute("DROP INDEX detections_by_track")
        db.execute(
            "CREATE TABLE templates (person_id TEXT NOT NULL REFERENCES people ON DELETE CASCADE, template_id TEXT NOT "
            "NULL, embedder_id TEXT NOT NULL, embedding BLOB NOT NULL, image TEXT NOT NULL, face_box TEXT NOT NULL, "
            "landmarks TEXT, quality TEXT NOT NULL, source TEXT NOT NULL, created_at INTEGER NOT NULL, "
            "UNIQUE (person_id, template_id))"
        )
        db.execute("INSERT INTO people VALUES ('ann', 0)")
        quality = '{"size_px": 80, "sharpness": 99, "yaw": null, "brightness": 120, "confidence": 0.99}'
        row = ("ann", "t1", "e", np.ones(4, "<f4").tobytes(), "ann/x.jpg", "[0, 0, 1, 1]", "null", quality, "upload", 0)
        db.execute("INSERT INTO templates VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", row)
        db.execute("PRAGMA user_version = 4")
    store.close()
    store = LocalStore(tmp_path)
    people = LocalPersonRepository(store)
    (template,) = people.list_templates()
    assert (template.kept, template.quality) == (False, Quality(80, 99, None, 120, 0.99))
    assert people.keep_template("ann", "t1", True)
    assert next(people.list_templates()).kept
    store.close()
