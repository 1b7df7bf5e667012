"""What the gateway's commands share: options, and how the file, the environment and the command line become a plan."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError

from edge_uploader.settings import EdgeSettings
from local.cli.console import clear_errors, fail, messages
from shared.errors import ConfigurationError

if TYPE_CHECKING:  # OpenCV and PyYAML are imported by the commands alone: every `facerelay --help` imports this
    from edge_uploader.camera import CameraSpec
    from shared.ports import BlobStore

Config = Annotated[
    Path | None,
    typer.Option(help="The gateway's file. Default: ./edge.yaml, the user's, or /etc/facerelay/edge.yaml."),
]
Cameras = Annotated[
    list[str] | None,
    typer.Option(
        "--camera",
        help="NAME=SOURCE or NAME@LOCATION=SOURCE: video, folder, URL, webcam index. Repeat it. "
        "Instead of the file's cameras.",
    ),
]
Fps = Annotated[float | None, typer.Option("--fps", "--target-fps", help="Frames looked at each second; 0: all.")]
SkipFrames = Annotated[int | None, typer.Option(help="Frames passed over after each one looked at.")]
MinSize = Annotated[int | None, typer.Option(help="Discard faces smaller than this (px) on the long axis.")]
MaxSize = Annotated[int | None, typer.Option(help="Scale down faces larger than this (px) on the long axis.")]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a gateway is to do.

    Attributes:
        path: the file that was read; None without one.
        own: settings of cameras that have others than the gateway's, by name.
    """

    path: Path | None
    settings: EdgeSettings
    cameras: tuple[CameraSpec, ...]
    own: Mapping[str, EdgeSettings]

    def settings_of(self, camera: str) -> EdgeSettings:
        return self.own.get(camera, self.settings)


def load_plan(config: Path | None, cameras: Sequence[str] | None, options: Mapping[str, Any]) -> Plan:
    """Reads the file, if there is one, and lays environment and options over it.

    Args:
        options: settings that the command line gave; None for those that it did not.

    Raises:
        ConfigurationError: of the file, with all its problems.
        ValidationError: of the environment or the options.
    """
    from edge_uploader.camera import CameraSpec
    from edge_uploader.config.file import EdgeFile, camera_settings, find_file, load_file, settings_over

    path = config or find_file()
    file = load_file(path) if path else EdgeFile()
    if config is None and path is not None:
        messages.print(f"settings: {path}", highlight=False, style="dim")
    given = {name: value for name, value in options.items() if value is not None}
    settings = settings_over(file.settings, given)
    specs = tuple(CameraSpec.parse(text) for text in cameras) if cameras else file.cameras
    own = {
        name: camera_settings(settings, overrides, given)
        for name, overrides in file.overrides.items()
        if overrides and not cameras
    }
    return Plan(path, settings, specs, own)


def need_cameras(plan: Plan) -> None:
    """Raises: ConfigurationError: there is nothing to look at."""
    if not plan.cameras:
        where = f"{plan.path} has no cameras" if plan.path else "no camera was given, and there is no edge.yaml"
        raise ConfigurationError(f"{where}; use --camera NAME=SOURCE, or write a file with `facerelay edge init`")


def open_store(settings: EdgeSettings) -> BlobStore:
    """Where crops go: through the service's grants when there is a service to ask, else straight to the store."""
    from shared.bootstrap import open_blob_store, open_upload_store

    if settings.edge_service_url:
        return open_upload_store(settings, settings.edge_service_url, settings.edge_token.get_secret_value())
    return open_blob_store(settings, repeats=False)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What is wrong in a line for the operator, settings included."""
    try:
        with clear_errors():
            yield
    except ValidationError as error:
        problems = (f"{'.'.join(map(str, p['loc'])) or 'settings'}: {p['msg']}" for p in error.errors())
        fail("; ".join(problems), hint="docs/edge.md describes every setting")


def quiet_opencv() -> None:
    """Its warnings (a camera that is not there, a backend it tried first) are said better in our own lines."""
    from edge_uploader.capture.ffmpeg import prepare

    prepare()


def size(size_bytes: float) -> str:
    """Bytes as people say them.

    >>> size(1_234_567), size(987)
    ('1.23 MB', '1.0 kB')
    """
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e6 else f"{size_bytes / 1e3:.1f} kB"


def span(seconds: float) -> str:
    """A length of time, short.

    >>> span(45), span(7_300), span(200_000)
    ('45 s', '2 h', '2 d')
    """
    for limit, unit_s, unit in ((90, 1, "s"), (5_400, 60, "min"), (129_600, 3_600, "h")):
        if seconds < limit:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86_400:.0f} d"
