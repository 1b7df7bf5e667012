"""One SQLite file for all that is not a blob's bytes: connections, transactions, the schema's version."""

from __future__ import annotations

import secrets
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from shared.adapters.local.schema import MIGRATIONS, SCHEMA_VERSION
from shared.adapters.local.translate import translated
from shared.domain import utc_now
from shared.errors import ConfigurationError
from shared.ports import Clock

DATABASE_NAME = "facerelay.db"


class LocalStore:
    """The embedded backend's folder: `blobs/` and one SQLite file in WAL mode.

    Any number of threads and processes may use the same folder. Each thread has its own connection; writers take
    turns, readers never wait. A commit is on the disk when it returns (`synchronous=FULL`).

    Args:
        data_dir: the folder; made when it is missing.
        clock: of all times that the adapters set.
        busy_timeout_s: how long a writer waits for another process before `StoreUnavailable`.

    Raises:
        ConfigurationError: the folder cannot be used, or a newer facerelay has written it.
        IntegrityError: the database file is damaged.
    """

    def __init__(self, data_dir: Path, *, clock: Clock = utc_now, busy_timeout_s: float = 10.0) -> None:
        self.data_dir = data_dir
        self.clock = clock
        self._busy_timeout_s = busy_timeout_s
        self._local = threading.local()
        self._connections: dict[threading.Thread, sqlite3.Connection] = {}
        self._guard = threading.Lock()
        # Threads of one process queue here instead of in SQLite's busy handler, which sleeps for up to 100 ms.
        self._writers = threading.RLock()
        with translated("opening the data folder"):
            # Faces are in here: a folder that is made new is its owner's alone.
            data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._migrate()

    def connection(self) -> sqlite3.Connection:
        """This thread's connection, in autocommit mode. For reads; write inside `transaction`."""
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect()
        return connection

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """A write transaction: committed durably at the end of the body, undone when the body raises.

        One that is opened inside another joins it, so that several adapters' calls can be made one.

        Raises:
            StoreUnavailable: another process did not give up the database in time.
            StoreFull: no room left.
        """
        with self._writers, translated("writing to the database"):
            connection = self.connection()
            if connection.in_transaction:
                yield connection
                return
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # A full disk may have made SQLite roll back by itself already.
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """This thread's connection, with SQLite's errors translated."""
        with translated("reading the database"):
            yield self.connection()

    def secret(self, name: str) -> bytes:
        """32 random bytes of this folder, made at the first call."""
        with self.transaction() as db:
            db.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", (name, secrets.token_bytes(32)))
            value: bytes = db.execute("SELECT value FROM secrets WHERE name = ?", (name,)).fetchone()[0]
            return value

    def close(self) -> None:
        """Closes every thread's connection. The store must not be used any more."""
        with self._guard:
            for connection in self._connections.values():
                connection.close()
            self._connections.clear()
        self._local = threading.local()

    def _connect(self) -> sqlite3.Connection:
        with translated("opening the database"):
            # check_same_thread: `close` and the reaping of dead threads' connections come from other threads.
            connection = sqlite3.connect(
                self.data_dir / DATABASE_NAME,
                timeout=self._busy_timeout_s,
                isolation_level=None,
                check_same_thread=False,
            )
            try:
                self._configure(connection)
            except BaseException:
                connection.close()
                raise
        with self._guard:
            for thread in [thread for thread in self._connections if not thread.is_alive()]:
                self._connections.pop(thread).close()
            self._connections[threading.current_thread()] = connection
        return connection

    def _configure(self, connection: sqlite3.Connection) -> None:
        deadline = time.monotonic() + self._busy_timeout_s
        while connection.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            # Two processes that switch a new file to WAL at once: SQLite refuses one without waiting.
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        # What is erased is overwritten: embeddings of a deleted person must not linger in free pages.
        connection.execute("PRAGMA secure_delete = ON")

    def _migrate(self) -> None:
        with self.reading() as db:
            version: int = db.execute("PRAGMA user_version").fetchone()[0]
        if version < SCHEMA_VERSION:
            with self.transaction() as db:
                version = db.execute("PRAGMA user_version").fetchone()[0]
                for migration in MIGRATIONS[version:]:
                    for statement in filter(str.strip, migration.split(";")):
                        db.execute(statement)
                version = max(version, SCHEMA_VERSION)
                db.execute(f"PRAGMA user_version = {version}")
        if version > SCHEMA_VERSION:
            self.close()
            raise ConfigurationError(
                f"the data folder has schema {version}, this facerelay reads {SCHEMA_VERSION}: update facerelay"
            )
