"""A file to begin with: what a gateway needs, and every other key as a comment with its default and what it does."""

from __future__ import annotations

import json
import os
import re
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from edge_uploader.camera import CameraSpec
from edge_uploader.config.schema import FILE_SUFFIX, SECTIONS, camera_keys, keys
from edge_uploader.settings import EdgeSettings
from shared.errors import ConfigurationError

_WIDTH: Final = 110
_HEAD: Final = """\
# The gateway's settings. Check them with: facerelay edge check --config {path}
# Rules: command line over environment (FACERELAY_EDGE_…) over this file over defaults.
# ${{NAME}} anywhere in a value stands for an environment variable; a plain ${{ is written $${{.
# docs/edge.md explains every key; `facerelay edge check --schema` is for editors.
"""
_NO_SITE: Final = "site: site                            # its id, in the name and the tags of every crop: hq, museum"
_NO_CAMERA: Final = """\
  - name: door                        # the camera's id
    source: rtsp://user@10.0.0.9:554/stream1   # or a video file, a folder of images, http://…, a webcam's number
    password_file: /etc/facerelay/door.password
    location: Entrance
    priority: 7                       # 1 to 9: whose crops go first when the line is narrow
"""
_PLACEHOLDERS: Final = {"spool.dir": "/var/lib/facerelay/spool", "log.file": "/var/log/facerelay/edge.log"}
_IN_USE: Final = frozenset({"site", "page.port", "log.format"})
"""Written above, with a value."""


def sample(path: Path, cameras: Sequence[CameraSpec], site: str | None = None) -> str:
    """The text of a file with these cameras; without any, with one to fill in, and so for the site."""
    named = f"site: {json.dumps(site, ensure_ascii=False)}" if site else _NO_SITE
    lines = [_HEAD.format(path=path), named, "", "cameras:"]
    lines.append("".join(_entry(spec) for spec in cameras).rstrip("\n") if cameras else _NO_CAMERA.rstrip("\n"))
    own = ", ".join(sorted(camera_keys()))
    lines += [*_comment(f"A camera may also have its own: {own}.", "    "), ""]
    lines += ["page:", "  port: 8090                          # http://127.0.0.1:8090; 0: no page"]
    lines += _section("page")
    lines += ["", "log:", "  format: text"]
    lines += _section("log")
    for section in SECTIONS:
        if section not in {"page", "log"} and any(key[0] == section for key in keys() if len(key) == 2):
            lines += ["", f"# {SECTIONS[section]}", f"{section}:"]
            lines += _section(section)
    lines += ["", "# The rest, with defaults. Those of the cameras hold for every camera that does not say otherwise."]
    for key, name in keys().items():
        if len(key) == 1 and key[0] not in _IN_USE:
            lines += _key(key, name, "")
    return "\n".join(lines) + "\n"


def write_sample(path: Path, text: str) -> None:
    """Writes it for its owner alone, since passwords may be put into it.

    Raises:
        ConfigurationError: there is one already, or it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as stream:
            stream.write(text)
    except FileExistsError as error:
        raise ConfigurationError(f"{path} is there already; name another with --config") from error
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be written: {error.strerror}") from error


def _entry(spec: CameraSpec) -> str:
    def text(value: str) -> str:
        return json.dumps(value.replace("${", "$${"), ensure_ascii=False)

    location = f"    location: {text(spec.location)}\n" if spec.location else ""
    return f"  - name: {text(spec.name)}\n    source: {text(spec.source)}\n{location}    priority: {spec.priority}\n"


def _section(section: str) -> list[str]:
    lines: list[str] = []
    for key, name in keys().items():
        if len(key) == 2 and key[0] == section and ".".join(key) not in _IN_USE:
            lines += _key(key, name, "  ")
    return lines


def _key(key: tuple[str, ...], name: str, indent: str) -> list[str]:
    field = EdgeSettings.model_fields[name]
    short = key[-1]
    if field.annotation is SecretStr:
        return [*_comment(field.description or "", indent), f"{indent}#{short}{FILE_SUFFIX}: /etc/facerelay/{short}"]
    value = _PLACEHOLDERS.get(".".join(key), None)
    return [*_comment(field.description or "", indent), f"{indent}#{short}: {value or _written(field.default)}"]


def _written(default: Any) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    return f"{default:g}" if isinstance(default, float) else str(default) or '""'


def _comment(text: str, indent: str) -> list[str]:
    names = {name: ".".join(key) for key, name in keys().items()}
    text = re.sub(r"edge_\w+", lambda match: names.get(match[0], match[0]), text)
    return textwrap.wrap(text, _WIDTH, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")
