"""The one place where errors of SQLite and of the file system become facerelay's."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

from shared.errors import ConfigurationError, FacerelayError, IntegrityError, StoreFull, StoreUnavailable

_NO_ROOM = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_NOT_ALLOWED = frozenset({errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR})


@contextmanager
def translated(what: str) -> Iterator[None]:
    """Runs the body; what SQLite or the system raises in it comes out as an error of the tree.

    Args:
        what: what was being done, for the message. Never a blob's or a person's name.

    Raises:
        StoreFull: the disk, a quota or the file size limit is used up.
        StoreUnavailable: another process held the database for too long, or the disk did not answer.
        IntegrityError: the database file is damaged, or not one.
        ConfigurationError: the folder cannot be written.
    """
    try:
        yield
    except sqlite3.DatabaseError as error:
        raise _from_sqlite(error, what) from error
    except OSError as error:
        # Without the path, which a traceback would bring into the log: a crop of a person lies under the person's id.
        raise _from_system(error, what) from OSError(error.errno, error.strerror)


def _from_sqlite(error: sqlite3.DatabaseError, what: str) -> FacerelayError:
    # Extended codes carry the primary one in their low byte.
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return StoreFull(f"no room left while {what}; free some space in the data folder")
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return IntegrityError(f"the database is damaged ({error}); found while {what}")
    if code in (sqlite3.SQLITE_READONLY, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_PERM):
        return ConfigurationError(f"the data folder cannot be written ({error}); found while {what}")
    return StoreUnavailable(f"the database did not answer ({error}) while {what}")


def _from_system(error: OSError, what: str) -> FacerelayError:
    if error.errno in _NO_ROOM:
        return StoreFull(f"no room left while {what}; free some space in the data folder")
    if error.errno in _NOT_ALLOWED:
        return ConfigurationError(f"the data folder cannot be used ({error.strerror}); found while {what}")
    return StoreUnavailable(f"the disk did not answer ({error.strerror}) while {what}")
