"""Which model files there are, how they are fed, and the folder in which they are kept.

`assets.toml` beside this module lists everything facerelay knows. A manifest of an operator's own has the same
tables, adds to them, and names its files relative to itself. `ModelCache` gives out a path only after the file's
SHA-256 has been compared: no hash, no load.
"""

from __future__ import annotations

import hashlib
import tomllib
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from shared.errors import ConfigurationError, IntegrityError, ModelUnavailable

_BUILT_IN: Final = Path(__file__).with_name("assets.toml")

Sha256 = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]


class _Table(BaseModel):
    """A table of the registry: a misspelt key is an error, not a default."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PackageSource(_Table):
    """A member of an archive in the package registry that pip is set up for.

    Attributes:
        filename: of the wheel or sdist.
        member: path inside it.
    """

    kind: Literal["package"]
    name: str
    version: str
    filename: str
    member: str


class UrlSource(_Table):
    """A file at its publisher's."""

    kind: Literal["url"]
    url: str


Source = Annotated[PackageSource | UrlSource, Field(discriminator="kind")]


class Artefact(_Table):
    """One file, known by its content.

    Attributes:
        file: name in the cache; in an operator's manifest, a path relative to the manifest.
        bytes: its size; None when not stated.
        derived_from: the artefact that `conversions` make it of, when it is not downloaded.
        conversions: functions of `local/facenet_graph.py` and `local/onnx_edits.py`, applied in this order.
        group: `model`, or `demo` for the photographs of the demo.
    """

    file: str
    sha256: Sha256
    bytes: int | None = Field(None, gt=0)
    licence: str = "unstated"
    provenance: str = "the operator's own"
    sources: tuple[Source, ...] = ()
    derived_from: str | None = None
    conversions: tuple[Literal["facenet_to_onnx", "free_batch", "free_size", "split_prelu"], ...] = ()
    group: Literal["model", "demo"] = "model"

    @model_validator(mode="after")
    def _conversion_has_an_origin(self) -> Self:
        if (self.derived_from is None) != (not self.conversions):
            raise ValueError("derived_from and conversions belong together")
        return self


class MtcnnTable(_Table):
    """A cascade of three networks. `files`: `pnet`, `rnet`, `onet`."""

    kind: Literal["mtcnn"]
    detector_id: Identifier
    files: dict[Literal["pnet", "rnet", "onet"], str]
    thresholds: tuple[float, float, float] = (0.6, 0.7, 0.7)


class YunetTable(_Table):
    """A network of OpenCV's YuNet family with a free input size.

    `input_px`: the longer side to which a picture is reduced first.
    """

    kind: Literal["yunet"]
    detector_id: Identifier
    files: dict[Literal["model"], str]
    threshold: float = Field(0.6, gt=0, lt=1)
    input_px: int = Field(640, ge=64, le=4096)
    nms_iou: float = Field(0.3, gt=0, lt=1)


class CornerBoxesTable(_Table):
    """A one-shot network: image (1, 3, H, W) to `scores` (1, N, 2) and `boxes` (1, N, 4), corners in 0 to 1.

    Attributes:
        input_size: width, height of the input.
        mean: taken from each 0 to 255 value before `scale`.
    """

    kind: Literal["corner_boxes"]
    detector_id: Identifier
    files: dict[Literal["model"], str]
    threshold: float = Field(0.6, gt=0, lt=1)
    nms_iou: float = Field(0.3, gt=0, lt=1)
    input_size: tuple[int, int]
    colour: Literal["rgb", "bgr"] = "rgb"
    mean: float = 127.0
    scale: float = 1 / 128


DetectorTable = Annotated[MtcnnTable | YunetTable | CornerBoxesTable, Field(discriminator="kind")]


class ImpostorsTable(_Table):
    """How similar strangers come to the nearest of N people; see `matching.impostors.ImpostorCurve`."""

    base: float
    people: float
    rarity: float
    people_people: float
    people_rarity: float
    rarity_rarity: float


class EmbedderTable(_Table):
    """An ONNX network from one face to one vector, and the way it is fed.

    Attributes:
        file: artefact.
        embedder_id: names weights and preprocessing together; vectors of different ids are never compared.
        input_px: side of the square input.
        mean: taken from each 0 to 255 value before `scale`.
        crop: `margin` enlarges the face box, `landmarks` aligns five points to the usual 112 px template.
        margin_px: for `margin`: both sides together, at `input_px`.
        batch: largest batch the network takes; 1 for networks exported with a fixed batch.
        default_threshold: cosine similarity below which a face is nobody enrolled, until training has calibrated one.
        duplicate_similarity: cosine from which two templates of one person are taken for the same photograph.
        impostor_similarity: cosine that one in a hundred pairs of different people reaches; judges the templates of
            galleries too small to measure it.
        impostors: how similar strangers come to the nearest of N people; None of an embedder where nobody measured it.
        best_shot_fpir: share of strangers who may reach the similarity at which a gateway's best shot is named: with
            it as many visits of strangers are, as when every face is sent and held to the target (docs/adr/0028).
    """

    file: str
    embedder_id: Identifier
    dimension: int = Field(ge=8, le=8192)
    input_px: int = Field(ge=32, le=1024)
    colour: Literal["rgb", "bgr"] = "rgb"
    layout: Literal["nchw", "nhwc"] = "nchw"
    mean: float = 127.5
    scale: float = 1 / 128
    crop: Literal["margin", "landmarks"]
    margin_px: int = Field(0, ge=0)
    batch: int = Field(16, ge=1, le=64)
    default_threshold: float = Field(gt=-1, lt=1)
    duplicate_similarity: float = Field(0.95, gt=0, le=1)
    impostor_similarity: float = Field(0.4, gt=-1, lt=1)
    impostors: ImpostorsTable | None = None
    best_shot_fpir: float = Field(0.03, ge=0, lt=0.5)


class PackTable(_Table):
    """A detector and an embedder that belong together."""

    detector: str
    embedder: str


class Registry(_Table):
    """All tables, by name."""

    artefact: dict[str, Artefact] = {}
    detector: dict[str, DetectorTable] = {}
    embedder: dict[str, EmbedderTable] = {}
    pack: dict[str, PackTable] = {}

    @model_validator(mode="after")
    def _names_are_known(self) -> Self:
        wanted = [(f"artefact.{name}", "artefact", a.derived_from) for name, a in self.artefact.items()]
        wanted += [(f"detector.{n}", "artefact", f) for n, d in self.detector.items() for f in d.files.values()]
        wanted += [(f"embedder.{name}", "artefact", e.file) for name, e in self.embedder.items()]
        wanted += [(f"pack.{name}", "detector", p.detector) for name, p in self.pack.items()]
        wanted += [(f"pack.{name}", "embedder", p.embedder) for name, p in self.pack.items()]
        for table, kind, name in wanted:
            if name is not None and name not in getattr(self, kind):
                raise ValueError(f"[{table}] names {kind} {name!r}, and there is no [{kind}.{name}]")
        return self

    def files_of(self, pack: str) -> list[str]:
        """The artefacts that a pack loads."""
        table = self.pack[pack]
        return [*self.detector[table.detector].files.values(), self.embedder[table.embedder].file]


def load_registry(manifest: Path | None = None) -> Registry:
    """What facerelay knows, and what `manifest` adds.

    Args:
        manifest: TOML with the tables of `assets.toml`; files are relative to it. Its tables may use built-in ones,
            and may not replace them.

    Raises:
        ConfigurationError: not there, not TOML, or not a registry; the message says where and what.
    """
    built_in = _parse(_BUILT_IN)
    if manifest is None:
        return _validate(_BUILT_IN, built_in)
    own = _parse(manifest)
    for name, artefact in own.get("artefact", {}).items():
        if isinstance(artefact, dict) and isinstance(artefact.get("file"), str):
            own["artefact"][name] = artefact | {"file": str(manifest.parent.resolve() / artefact["file"])}
    merged: dict[str, Any] = dict(built_in)
    for kind, tables in own.items():
        if not isinstance(tables, dict):
            raise ConfigurationError(f"{manifest}: {kind!r} should be tables such as [{kind}.mine]")
        if taken := sorted(set(tables) & set(built_in.get(kind, {}))):
            raise ConfigurationError(f"{manifest}: [{kind}.{taken[0]}] is built in; choose another name")
        merged[kind] = {**built_in.get(kind, {}), **tables}
    return _validate(manifest, merged)


def resolve_pack(setting: str) -> tuple[Registry, str]:
    """The registry and the pack's name for the setting `pack`.

    Args:
        setting: a built-in pack's name, or the path of a manifest with exactly one `[pack.NAME]`.

    Raises:
        ConfigurationError: neither.
    """
    registry = load_registry()
    if setting in registry.pack:
        return registry, setting
    manifest = Path(setting).expanduser()
    if manifest.suffix != ".toml":
        known = ", ".join(sorted(registry.pack))
        raise ConfigurationError(f"pack {setting!r} is none of {known}, and not the path of a manifest (.toml)")
    extended = load_registry(manifest)
    own = sorted(set(extended.pack) - set(registry.pack))
    if len(own) != 1:
        raise ConfigurationError(f"{manifest}: a manifest has exactly one [pack.NAME] table, this one has {len(own)}")
    return extended, own[0]


def _parse(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{path}: cannot be read ({error.strerror})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error


def _validate(path: Path, tables: dict[str, Any]) -> Registry:
    try:
        return Registry.model_validate(tables)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"] if part != "function-after")
        message = first["msg"].removeprefix("Value error, ")
        raise ConfigurationError(f"{path}: {f'[{where}] ' if where else ''}{message}") from error


def sha256_of(path: Path) -> str:
    """SHA-256 of a file's content, 64 lower-case hex digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _hash_once(path: Path, size: int, modified_ns: int) -> str:
    """One hash of a file for each process: 94 MB take 50 ms and more. A changed file is another key."""
    return sha256_of(path)


class ModelCache:
    """The folder with the model files.

    Args:
        directory: may be shared between installations; files in it are written whole or not at all.
        registry: what is known of the files; the built-in one when None.
    """

    def __init__(self, directory: Path, registry: Registry | None = None) -> None:
        self.directory = directory
        self.registry = registry if registry is not None else load_registry()

    def location(self, name: str) -> Path:
        """Where the artefact is kept, whether it is there or not."""
        return self.directory / self._artefact(name).file  # a manifest's files are absolute, and stay so

    def path(self, name: str) -> Path:
        """The artefact's file, its size and SHA-256 compared (once for each process).

        Raises:
            ModelUnavailable: not there.
            IntegrityError: there, with other bytes than it should have.
            ConfigurationError: no such artefact.
        """
        artefact, location = self._artefact(name), self.location(name)
        try:
            status = location.stat()
        except OSError as error:
            hint = "check the manifest" if Path(artefact.file).is_absolute() else "run: facerelay models fetch"
            raise ModelUnavailable(f"{name}: {location} is not there; {hint}") from error
        same_size = artefact.bytes is None or status.st_size == artefact.bytes
        if not same_size or _hash_once(location, status.st_size, status.st_mtime_ns) != artefact.sha256:
            raise IntegrityError(
                f"{name}: {location} is not the file it should be (SHA-256 differs); delete it and "
                "run: facerelay models fetch"
            )
        return location

    def missing(self, names: Iterable[str]) -> list[str]:
        """Those of `names` that `path` would refuse."""
        return [name for name in names if not self.holds(name)]

    def holds(self, name: str) -> bool:
        """Whether `path` would give the artefact."""
        try:
            self.path(name)
        except (ModelUnavailable, IntegrityError):
            return False
        return True

    def _artefact(self, name: str) -> Artefact:
        try:
            return self.registry.artefact[name]
        except KeyError:
            raise ConfigurationError(f"there is no [artefact.{name}] in the registry") from None
