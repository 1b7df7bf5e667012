"""Which photographs are enrolled and which are searched for: folders read, or one folder split."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from edge_uploader.capture.sources import IMAGE_SUFFIXES, image_files
from shared.domain import UNKNOWN, normalise_person_id
from shared.errors import InvalidIdentifier, InvalidInput

UNSORTED: Final = frozenset({UNKNOWN, "strangers", "stranger"})
"""Folders of probes with such a name hold many people, not one."""

LAYOUT: Final = "put each person's photographs in a folder of their name: DIR/{person}/*.jpg"


@dataclass(frozen=True, slots=True)
class Photo:
    """A photograph and whom it shows.

    Attributes:
        person: id as enrolment spells it; of a stranger anything that no enrolled person is called.
        name: as the folder is called, for people to read.
    """

    path: Path
    person: str
    name: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What an evaluation does.

    Attributes:
        gallery: photographs to enrol.
        probes: photographs to search for: of people in the gallery, and of strangers.
        how: where these came from, in words.
    """

    gallery: tuple[Photo, ...]
    probes: tuple[Photo, ...]
    how: str

    @property
    def people(self) -> dict[str, str]:
        """Name of each person in the gallery, by id."""
        return {photo.person: photo.name for photo in self.gallery}

    def mated(self, photo: Photo) -> bool:
        """Whether this person is to be enrolled, so that a search should find somebody."""
        return photo.person in self.people


def read_plan(gallery: Path, probes: Path | None, strangers: Path | None) -> Plan:
    """Gallery and probes from folders of their own.

    Raises:
        InvalidInput: nothing to enrol or to search for, or a folder whose name nobody can be enrolled under.
    """
    enrolled = _gallery(gallery)
    people = {photo.person for photo in enrolled}
    searched = _probes(probes, people) if probes else []
    searched += _unsorted(strangers) if strangers else []
    if not searched:
        raise InvalidInput(
            "there is nothing to search for: give other photographs of the same people with --probes DIR and of "
            "strangers with --strangers DIR, or let --split 3 divide the gallery's"
        )
    given = [f"probes from {probes}"] * bool(probes) + [f"strangers from {strangers}"] * bool(strangers)
    return Plan(tuple(enrolled), tuple(searched), f"Gallery from {gallery}; {'; '.join(given)}.")


def split_plan(folder: Path, each: int, strangers: Path | None, *, seed: int) -> Plan:
    """One folder of people, divided: `each` photographs of a person are enrolled, the others searched for.

    People with no more than `each` photographs are strangers, all of their photographs searched for.

    Args:
        seed: which photographs are enrolled.

    Raises:
        InvalidInput: nobody has more than `each` photographs, or nothing to search for.
    """
    random = np.random.default_rng(seed)
    groups: dict[str, list[Photo]] = {}
    for photo in _gallery(folder, strict=False):
        groups.setdefault(photo.person, []).append(photo)
    enrolled: list[Photo] = []
    searched: list[Photo] = []
    for _, photos in sorted(groups.items()):
        if len(photos) <= each:
            searched += photos
            continue
        order = random.permutation(len(photos))
        enrolled += [_enrollable(photos[i]) for i in order[:each]]
        searched += [photos[i] for i in order[each:]]
    if not enrolled:
        most = max(len(photos) for photos in groups.values())
        raise InvalidInput(
            f"nobody in {folder} has more than {each} photographs (the most is {most}); use a smaller --split"
        )
    searched += _unsorted(strangers) if strangers else []
    how = (
        f"{folder} was divided by chance (seed {seed}): {each} photographs of each person are enrolled, the others "
        f"searched for; people with {each} or fewer are strangers."
    )
    return Plan(tuple(enrolled), tuple(searched), how + (f" More strangers from {strangers}." if strangers else ""))


def _folders(path: Path) -> list[Path]:
    if not path.is_dir():
        raise InvalidInput(f"there is no folder {path}")
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _gallery(path: Path, *, strict: bool = True) -> list[Photo]:
    found = [photo for folder in _folders(path) for photo in _person(folder)]
    if not found:
        raise InvalidInput(f"no folder in {path} holds an image; {LAYOUT}")
    return [_enrollable(photo) for photo in found] if strict else found


def _enrollable(photo: Photo) -> Photo:
    try:
        return replace(photo, person=normalise_person_id(photo.name))
    except InvalidIdentifier as error:
        raise InvalidInput(f"nobody can be enrolled as {photo.name!r}, rename the folder: {error}") from error


def _person(folder: Path) -> list[Photo]:
    name = unicodedata.normalize("NFC", folder.name)
    try:
        person = normalise_person_id(name)
    except InvalidIdentifier:
        person = name  # fit for a stranger
    return [Photo(path, person, name) for path in image_files(folder)]


def _probes(path: Path, people: set[str]) -> list[Photo]:
    found: list[Photo] = []
    for folder in _folders(path):
        if folder.name.lower() in UNSORTED and folder.name.lower() not in people:
            found += _unsorted(folder)
        else:
            found += _person(folder)
    if not found:
        raise InvalidInput(f"no folder in {path} holds an image; {LAYOUT}")
    return found


def _unsorted(path: Path) -> list[Photo]:
    """Every image below a folder, each taken for another stranger."""
    if not path.is_dir():
        raise InvalidInput(f"there is no folder {path}")
    files = sorted(file for file in path.rglob("*") if file.suffix.lower() in IMAGE_SUFFIXES and file.is_file())
    if not files:
        raise InvalidInput(f"{path} holds no images of strangers")
    return [Photo(file, f"/{file.relative_to(path)}", "stranger") for file in files]
