"""Files that are either wholly there, durably, or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

_ATTEMPTS = 20


def write_durably(path: Path, data: bytes, root: Path) -> None:
    """Writes a new file: temporary name, fsync, rename, fsync of every folder that changed.

    Args:
        path: inside `root`; folders between are made.

    Raises:
        OSError: nothing is left behind.
    """
    temporary = path.with_name(f"~{os.getpid():x}-{path.name}")
    for attempt in range(_ATTEMPTS):
        made = _make_folders(path.parent, root)
        try:
            _write(temporary, data)
            temporary.rename(path)
            break
        except FileNotFoundError:
            # `prune` took the empty folder away in between.
            if attempt == _ATTEMPTS - 1:
                raise
        except BaseException:
            remove(temporary, root)
            raise
    for folder in (path.parent, *(folder.parent for folder in made)):
        _sync_folder(folder)


def remove(path: Path, root: Path) -> None:
    """Removes a file that may be gone already, and folders that it leaves empty: a person's id may be their name."""
    with suppress(FileNotFoundError):
        path.unlink()
    for folder in path.parents:
        if folder == root or folder.parent == root or root not in folder.parents:
            return
        try:
            folder.rmdir()
        except OSError:
            return


def _write(path: Path, data: bytes) -> None:
    with path.open("xb", buffering=0) as file:
        view = memoryview(data)
        while view:
            view = view[file.write(view) :]
        os.fsync(file.fileno())


def _make_folders(folder: Path, root: Path) -> list[Path]:
    """Folders that were missing, so that their parents can be synced."""
    missing = []
    while folder != root and not folder.is_dir():
        missing.append(folder)
        folder = folder.parent
    for new in reversed(missing):
        # A sibling may make it, or prune its parent, at the same moment; the caller's write tells.
        with suppress(FileExistsError, FileNotFoundError):
            new.mkdir()
    return missing


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there; NTFS journals the entry itself
        return
    try:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
