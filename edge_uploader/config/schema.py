"""What may stand in the gateway's file: made from `EdgeSettings`, so that there is one list of settings and not two.

A key is the setting's name without `edge_`. The settings of service, spool, upload, budget, page and log stand in a
section of that name; every setting that concerns how a camera's frames are worked on may be set again at a camera.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field, SecretStr, create_model
from pydantic.fields import FieldInfo

from edge_uploader.settings import EdgeSettings
from shared.settings import StoreSettings

SECTIONS: Final = {
    "service": "The service that lets this gateway upload.",
    "spool": "Crops that wait for the store.",
    "upload": "How crops are sent.",
    "budget": "What may be spent on sending.",
    "page": "The live page of this gateway.",
    "log": "Where it is told what happens.",
}
_IN_SECTION: Final = {"edge_token": ("service", "token")}
_OF_THE_GATEWAY: Final = frozenset({"edge_site", "edge_location", "edge_drain_s", "edge_stuck_s"})
_PREFIX: Final = "edge_"
FILE_SUFFIX: Final = "_file"

Key = tuple[str, ...]


@cache
def keys() -> dict[Key, str]:
    """Key in the file → name of the setting.

    >>> keys()["spool", "dir"], keys()["fps",]
    ('edge_spool_dir', 'edge_fps')
    """
    return {_key(name): name for name in EdgeSettings.model_fields}


def _key(name: str) -> Key:
    if name in _IN_SECTION:
        return _IN_SECTION[name]
    short = name.removeprefix(_PREFIX)
    if short.startswith("price_"):
        return "budget", short  # what the budget is reckoned with
    section, _, rest = short.partition("_")
    return (section, rest) if name.startswith(_PREFIX) and rest and section in SECTIONS else (short,)


@cache
def camera_keys() -> dict[str, str]:
    """Key of a camera → name of the setting that it stands over."""
    return {
        key[0]: name
        for key, name in keys().items()
        if len(key) == 1 and name not in StoreSettings.model_fields and name not in _OF_THE_GATEWAY
    }


def _optional(field: FieldInfo) -> Any:
    """Type and description of a setting that need not be there."""
    kind: Any = field.annotation
    if field.metadata:
        kind = Annotated[(kind, *field.metadata)]
    return (kind | None, Field(None, description=field.description))


def _fields(names: dict[str, str]) -> dict[str, Any]:
    found = {}
    for key, name in names.items():
        field = EdgeSettings.model_fields[name]
        found[key] = _optional(field)
        if field.annotation is SecretStr:
            found[key + FILE_SUFFIX] = (Path | None, Field(None, description=f"File that holds the {key}, one line."))
    return found


_STRICT: Final = ConfigDict(extra="forbid")


@cache
def camera_model() -> type[BaseModel]:
    """One entry of `cameras`."""
    own: dict[str, Any] = {
        "name": (str, Field(description="Id of the camera.")),
        "source": (
            str,
            Field(min_length=1, description="Video file, folder of images, rtsp://…, http://…, or a webcam's number."),
        ),
        "location": (str | None, Field(None, description="Where it is. Default: the gateway's, or the camera's name.")),
        "priority": (int, Field(5, ge=1, le=9, description="1 (low) to 9 (high): whose crops go first.")),
        "password_file": (Path | None, Field(None, description="File that holds the password of the source's user.")),
    }
    return create_model("Camera", __config__=_STRICT, **own, **_fields(camera_keys()))


@cache
def file_model() -> type[BaseModel]:
    """The whole file."""
    fields: dict[str, Any] = _fields({key[0]: name for key, name in keys().items() if len(key) == 1})
    for section, description in SECTIONS.items():
        names = {key[1]: name for key, name in keys().items() if len(key) == 2 and key[0] == section}
        if names:
            model = create_model(section.title(), __config__=_STRICT, **_fields(names))
            fields[section] = (model | None, Field(None, description=description))
    fields["cameras"] = (
        list[camera_model()],  # type: ignore[misc]  # a model that is made here
        Field(default_factory=list, max_length=64, description="The cameras."),
    )
    return create_model("Gateway", __config__=_STRICT, **fields)


def json_schema() -> dict[str, Any]:
    """JSON schema of the file, for editors."""
    schema = file_model().model_json_schema()
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "facerelay gateway",
        **{key: value for key, value in schema.items() if key != "title"},
    }
