"""Reads the gateway's file: bounds, `${NAME}`, secrets, the schema; and everything that is wrong, at once.

The order of what rules: command line, environment, file, default. What the first two say stands over the file's
cameras as well.
"""

from __future__ import annotations

import difflib
import os
import re
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from platformdirs import user_config_path
from pydantic import SecretStr, ValidationError
from pydantic_settings import BaseSettings, EnvSettingsSource, InitSettingsSource, PydanticBaseSettingsSource

from edge_uploader.camera import CameraSpec
from edge_uploader.capture.address import password_in
from edge_uploader.config.schema import FILE_SUFFIX, camera_keys, camera_model, file_model, keys
from edge_uploader.config.tree import MAX_BYTES, Place, Problem, Tree, read_tree
from edge_uploader.settings import EdgeSettings
from shared.domain import check_place_id
from shared.errors import ConfigurationError, InvalidInput

NAME: Final = "edge.yaml"
_VARIABLE: Final = re.compile(r"\$\$\{|\$\{([^}]*)\}")
_SECRET_MAX_BYTES: Final = 4_096


class FileProblems(ConfigurationError):
    """The file cannot be used as it is.

    Attributes:
        path: of the file.
        problems: all of them, in the order of the file.
    """

    def __init__(self, path: Path, problems: Sequence[Problem]) -> None:
        self.path, self.problems = path, sorted(problems, key=lambda problem: (problem.line, problem.column))
        count = f"{len(problems)} problems" if len(problems) > 1 else "one problem"
        super().__init__("\n  ".join([f"{path}: {count}", *map(str, self.problems)]))


@dataclass(frozen=True, slots=True)
class EdgeFile:
    """What a file says, checked.

    Attributes:
        settings: name of a setting → value.
        cameras: in the order of the file.
        overrides: camera's name → settings that stand over the gateway's for it.
    """

    path: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    cameras: tuple[CameraSpec, ...] = ()
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    tree: Tree = field(default_factory=Tree, repr=False)


def find_file(folder: Path | None = None) -> Path | None:
    """The file that is used when none is named: of the current folder, the user's, or the machine's."""
    places = (
        (folder or Path.cwd()) / NAME,
        user_config_path("facerelay") / NAME,
        Path("/etc/facerelay") / NAME,
    )
    return next((path for path in places if path.is_file()), None)


def load_file(path: Path, environment: Mapping[str, str] | None = None) -> EdgeFile:
    """Reads and checks a file.

    Args:
        environment: what `${NAME}` stands for; None for this process's.

    Raises:
        FileProblems: with every problem that was found.
        ConfigurationError: it cannot be read.
    """
    try:
        with path.open("rb") as stream:
            private = not os.fstat(stream.fileno()).st_mode & stat.S_IRWXO or os.name == "nt"
            tree = read_tree(stream.read(MAX_BYTES + 1))
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    reader = _Reader(path, tree, os.environ if environment is None else environment, private)
    return reader.read()


class _Reader:
    """One reading of one file; collects what is wrong."""

    def __init__(self, path: Path, tree: Tree, environment: Mapping[str, str], private: bool) -> None:
        self._path, self._tree, self._environment, self._private = path, tree, environment, private
        self._problems = list(tree.problems)

    def read(self) -> EdgeFile:
        if self._problems and not self._tree.data:
            raise FileProblems(self._path, self._problems)
        plain = self._substituted(self._tree.data, ())
        try:
            document = file_model().model_validate(plain).model_dump(exclude_none=True, exclude_unset=True)
        except ValidationError as error:
            self._problems += [self._told(dict(detail), plain) for detail in error.errors()]
            raise FileProblems(self._path, self._problems) from error
        settings = self._settings(document)
        specs, overrides = self._cameras(document.get("cameras", []))
        if not self._problems:
            self._problems += order_problems(self._tree, settings, overrides, [spec.name for spec in specs])
        if self._problems:
            raise FileProblems(self._path, self._problems)
        return EdgeFile(self._path, settings, tuple(specs), overrides, self._tree)

    def _note(self, place: Place, text: str, *, at_key: bool = False) -> None:
        self._problems.append(self._tree.problem(place, text, at_key=at_key))

    def _substituted(self, value: Any, place: Place) -> Any:
        if isinstance(value, dict):
            return {key: self._substituted(part, (*place, key)) for key, part in value.items()}
        if isinstance(value, list):
            return [self._substituted(part, (*place, number)) for number, part in enumerate(value)]
        self._check_plain_secret(str(value), place)

        def stands_for(match: re.Match[str]) -> str:
            name = match[1]
            if name is None:
                return "${"
            if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                self._note(
                    place, f"${{{name}}} is not the name of an environment variable; a plain ${{ is written $${{"
                )
                return ""
            if name not in self._environment:
                self._note(place, f"the environment variable {name} is not set")
            return self._environment.get(name, "")

        return _VARIABLE.sub(stands_for, str(value))

    def _check_plain_secret(self, text: str, place: Place) -> None:
        """A secret may stand in a file that nobody else can read."""
        of_camera = place[-1] == "source"
        secret = text if place[-1] == "token" else password_in(text) if of_camera else ""
        if not secret or self._private or _VARIABLE.fullmatch(secret):
            return
        what, other = ("password", "password_file") if of_camera else ("token", "token_file")
        self._note(
            place, f"a {what} in a file that others may read; `chmod 600 {self._path}`, or use {other} or ${{NAME}}"
        )

    def _told(self, detail: dict[str, Any], plain: Any) -> Problem:
        place: Place = tuple(detail["loc"])
        kind, message = detail["type"], str(detail["msg"])
        if kind == "extra_forbidden":
            return self._tree.problem(place, self._unknown(place), at_key=True)
        if kind == "missing":
            key = str(place[-1])
            example = {"name": "door", "source": "rtsp://10.0.0.9/stream1"}.get(key, "…")
            return self._tree.problem(place, f"is missing; add `{key}: {example}`")
        if kind == "model_type":
            return self._tree.problem(place, "keys with values are expected here, indented below it")
        if kind == "list_type":
            return self._tree.problem(place, "a list is expected: each entry begins with `- `")
        for prefix in ("Input should be ", "String should ", "Value error, "):
            message = message.removeprefix(prefix)
        secret = any(str(part) in {"token", "source"} for part in place)
        given = "" if secret or isinstance(detail["input"], dict | list) else f", not {str(detail['input'])[:60]!r}"
        must = "must" if message.startswith("have") else "must be"
        return self._tree.problem(place, f"{must} {message}{given}")

    def _unknown(self, place: Place) -> str:
        key = str(place[-1])
        own = _known(place)
        short = key.removeprefix("edge_")
        if short in own and short != key:
            return f"there is no such key; write `{short}`"
        for other in keys():
            if "_".join(other) == short and len(other) == 2:
                return f"there is no such key here; write `{other[1]}` in the section `{other[0]}`"
        if near := difflib.get_close_matches(short, own, 1, 0.6):
            return f"there is no such key; did you mean `{near[0]}`?"
        if place[0] == "cameras" and any(key == other[0] for other in keys()):
            return "concerns the whole gateway; it cannot be set for one camera"
        return "there is no such key; `facerelay edge check --schema` lists all"

    def _settings(self, document: dict[str, Any]) -> dict[str, Any]:
        found = {}
        for key, name in keys().items():
            part = document if len(key) == 1 else document.get(key[0], {})
            if key[-1] in part:
                found[name] = part[key[-1]]
            if key[-1] + FILE_SUFFIX in part:
                if key[-1] in part:
                    self._note(key, f"is given twice, here and as {key[-1]}{FILE_SUFFIX}; keep one")
                place = (*key[:-1], key[-1] + FILE_SUFFIX)
                found[name] = SecretStr(self._secret(part[key[-1] + FILE_SUFFIX], place))
        return found

    def _secret(self, path: Path, place: Place) -> str:
        """A secret's file, which is beside this one unless its path says otherwise."""
        path = self._path.parent / path.expanduser()
        try:
            with path.open("rb") as stream:
                if os.fstat(stream.fileno()).st_mode & stat.S_IRWXO and os.name != "nt":
                    self._note(place, f"{path} can be read by everybody on this machine; `chmod 600 {path}`")
                text = stream.read(_SECRET_MAX_BYTES + 1).decode("utf-8").strip()
        except (OSError, UnicodeDecodeError) as error:
            self._note(place, f"{path} cannot be read: {getattr(error, 'strerror', None) or 'not text'}")
            return ""
        if not text or len(text.splitlines()) != 1 or len(text) > _SECRET_MAX_BYTES:
            self._note(place, f"{path} must hold one line")
            return ""
        return text

    def _cameras(self, entries: list[dict[str, Any]]) -> tuple[list[CameraSpec], dict[str, dict[str, Any]]]:
        specs: list[CameraSpec] = []
        overrides: dict[str, dict[str, Any]] = {}
        for number, entry in enumerate(entries):
            place: Place = ("cameras", number)
            name = entry["name"].strip()
            try:
                check_place_id("camera", name)
            except InvalidInput as error:
                self._note((*place, "name"), str(error))
            if any(spec.name == name for spec in specs):
                self._note((*place, "name"), f"another camera is called {name!r}; a camera's name is its id")
            source = self._source(entry, place)
            specs.append(CameraSpec(name, source, entry.get("location", "").strip(), entry.get("priority", 5)))
            overrides[name] = {setting: entry[key] for key, setting in camera_keys().items() if key in entry}
        return specs, overrides

    def _source(self, entry: dict[str, Any], place: Place) -> str:
        source = str(entry["source"]).strip()
        if "password_file" not in entry:
            return source
        scheme, separator, rest = source.partition("://")
        user, at, address = rest.partition("@")
        if not separator or not at or ":" in user:
            self._note((*place, "password_file"), "needs a source with a user and no password: rtsp://user@address/…")
            return source
        password = quote(self._secret(entry["password_file"], (*place, "password_file")), safe="")
        return f"{scheme}://{user}:{password}@{address}"


def _known(place: Place) -> list[str]:
    """Keys that may stand where this one does."""
    if place[0] == "cameras" and len(place) > 2:
        return list(camera_model().model_fields)
    if len(place) == 2:
        section = file_model().model_fields[str(place[0])].annotation
        model = next((part for part in getattr(section, "__args__", ()) if hasattr(part, "model_fields")), None)
        return list(model.model_fields) if model else []
    return list(file_model().model_fields)


def order_problems(
    tree: Tree,
    settings: Mapping[str, Any],
    overrides: Mapping[str, Mapping[str, Any]],
    names: Sequence[str],
) -> Iterator[Problem]:
    """Settings that contradict each other, of the gateway and of each camera, as problems of the file."""
    places = {name: key for key, name in keys().items()}
    rows: list[tuple[Place, Mapping[str, Any]]] = [((), {})]
    rows += [(("cameras", number), overrides[name]) for number, name in enumerate(names)]
    for prefix, own in rows:
        try:
            settings_over({**settings, **own})
        except ValidationError as error:
            for detail in error.errors():
                text = str(detail["msg"]).removeprefix("Value error, ")
                named = [name for name in re.findall(r"edge_\w+", text) if name in places]
                here = [name for name in named if name in own] or (
                    [] if prefix else [n for n in named if n in settings]
                )
                if here:
                    told = re.sub(r"edge_\w+", lambda match: ".".join(places.get(match[0], (match[0],))), text)
                    yield tree.problem((*prefix, *places[here[0]]), told)


def settings_over(
    file_values: Mapping[str, Any], options: Mapping[str, Any] | None = None, *, environment: bool = True
) -> EdgeSettings:
    """Settings of the options, over the environment, over the file, over the defaults.

    Raises:
        ValidationError: a value that cannot be.
    """

    class Layered(EdgeSettings):
        @classmethod
        def settings_customise_sources(
            cls,
            settings_cls: type[BaseSettings],
            init_settings: PydanticBaseSettingsSource,
            env_settings: PydanticBaseSettingsSource,
            dotenv_settings: PydanticBaseSettingsSource,
            file_secret_settings: PydanticBaseSettingsSource,
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            file = InitSettingsSource(settings_cls, dict(file_values))
            return (init_settings, env_settings, file) if environment else (init_settings, file)

    Layered.__name__ = EdgeSettings.__name__  # its errors are told under this name
    return Layered(**(options or {}))


def camera_settings(
    settings: EdgeSettings, overrides: Mapping[str, Any], options: Mapping[str, Any] | None = None
) -> EdgeSettings:
    """The settings of one camera: what the file says at the camera, unless an option or the environment rules.

    Raises:
        ConfigurationError: they contradict each other.
    """
    ruled = {*(options or {}), *EnvSettingsSource(EdgeSettings)()}
    own = {name: value for name, value in overrides.items() if name not in ruled}
    if not own:
        return settings
    values = {name: getattr(settings, name) for name in settings.model_fields_set} | own
    try:
        return settings_over(values, environment=False)
    except ValidationError as error:
        raise ConfigurationError("; ".join(str(detail["msg"]) for detail in error.errors())) from error
