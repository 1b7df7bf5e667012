"""The tree of errors is the one that its docstring draws."""

from __future__ import annotations

import inspect
import re

import pytest

from shared import errors
from shared.errors import FacerelayError, PermanentError, TransientError, UnusableFace

CLASSES = {
    name: kind for name, kind in vars(errors).items() if inspect.isclass(kind) and issubclass(kind, FacerelayError)
}


def drawn() -> dict[str, str | None]:
    """Name → parent, as the docstring draws it."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        if match := re.match(r"^([│ ├└─]*)([A-Z]\w+)(?:$|  )", line):
            depth = len(match[1]) // 4
            del path[depth:]
            parents[match[2]] = path[-1] if path else None
            path.append(match[2])
        elif parents and not line:
            break
    return parents


def test_the_drawing_is_the_tree() -> None:
    real = {name: (kind.__base__.__name__ if kind is not FacerelayError else None) for name, kind in CLASSES.items()}
    assert drawn() == real


def test_every_code_is_its_own() -> None:
    codes = [kind.code for kind in CLASSES.values()]
    assert len(set(codes)) == len(codes)
    assert all(re.fullmatch(r"[a-z_]+", code) for code in codes)


@pytest.mark.parametrize("kind", sorted(set(CLASSES) - {"FacerelayError"}))
def test_an_error_is_permanent_or_transient_and_never_both(kind: str) -> None:
    assert issubclass(CLASSES[kind], PermanentError) != issubclass(CLASSES[kind], TransientError)


def test_an_unusable_face_says_which_way() -> None:
    error = UnusableFace("no_face", "no face was found")
    assert (error.reason, str(error)) == ("no_face", "no face was found")
