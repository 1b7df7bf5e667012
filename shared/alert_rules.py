"""Who is reported: the rules as an operator writes them, checked, with errors that say what to mend.

```toml
time_zone = "Europe/Berlin"            # of sites that are not named; UTC when it is missing
[sites.lisbon]
time_zone = "Europe/Lisbon"

[[rule]]
name = "strangers at night"
who = "unknown"                        # or "anybody", or ["eve", "mallory"]
sites = ["berlin"]                     # all when it is missing
cameras = ["entrance", "gate"]         # all when it is missing
quiet = ["06:00-22:00"]                # by the site's clock; never when it is missing
```

Nothing richer: who, which camera, quiet hours.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from shared.domain import UNKNOWN, Detection, check_place_id, normalise_person_id
from shared.errors import ConfigurationError, InvalidIdentifier

SETTING: Final = "FACERELAY_ALERT_RULES"
_INTERVAL = re.compile(r"([01]\d|2[0-3]):([0-5]\d)\s*-\s*([01]\d|2[0-3]):([0-5]\d)")
_STRICT = ConfigDict(extra="forbid", frozen=True, arbitrary_types_allowed=True)


class QuietHours(BaseModel):
    """A part of the day by the wall clock, from `start` to just before `end`; over midnight when that is earlier.

    Nights on which the clock is changed need no care: what counts is what the clock on the wall shows.
    """

    model_config = _STRICT

    start: time
    end: time

    @model_validator(mode="before")
    @classmethod
    def _parsed(cls, text: Any) -> Any:
        if not isinstance(text, str):
            raise ValueError('write quiet hours as "22:00-06:00"')
        found = _INTERVAL.fullmatch(text.strip())
        if found is None:
            raise ValueError('write quiet hours as "22:00-06:00", from 00:00 to 23:59')
        hours = [int(part) for part in found.groups()]
        if hours[:2] == hours[2:]:
            raise ValueError("quiet hours that begin when they end are none, or all day: leave them, or the rule, out")
        return {"start": time(hours[0], hours[1]), "end": time(hours[2], hours[3])}

    def covers(self, moment: time) -> bool:
        """Whether a time of the day is in them.

        >>> QuietHours.model_validate("22:00-06:00").covers(time(23, 30))
        True
        """
        if self.start < self.end:
            return self.start <= moment < self.end
        return moment >= self.start or moment < self.end


def _zone(name: Any) -> ZoneInfo:
    try:
        return name if isinstance(name, ZoneInfo) else ZoneInfo(str(name))
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f'{str(name)[:40]!r} is not a time zone; write one such as "Europe/Berlin"') from error


def _person(text: Any) -> str:
    if text == UNKNOWN:
        raise ValueError('for strangers write who = "unknown", without brackets')
    try:
        return normalise_person_id(text)
    except (InvalidIdentifier, AttributeError) as error:
        raise ValueError(str(error) if isinstance(text, str) else "a person's id is text") from error


def _place(text: str) -> str:
    try:
        return check_place_id("site or camera", text)
    except InvalidIdentifier as error:
        raise ValueError(str(error)) from error


def _who(value: Any) -> Any:
    if value in ("unknown", "anybody"):
        return value
    if not isinstance(value, list | tuple) or not value:
        raise ValueError('who is "unknown", "anybody", or a list of people\'s ids such as ["eve"]')
    return tuple(_person(person) for person in value)


Zone = Annotated[ZoneInfo, BeforeValidator(_zone)]
PlaceId = Annotated[str, AfterValidator(_place)]
Places = Annotated[tuple[PlaceId, ...], Field(min_length=1)]


class Rule(BaseModel):
    """One rule: these people, before these cameras, outside these hours.

    Attributes:
        name: told with the alert.
        who: `unknown`, `anybody`, or people's ids: a watch list.
        sites, cameras: None for all.
        quiet: hours in which it wants nothing.
    """

    model_config = _STRICT

    name: Annotated[str, Field(min_length=1, max_length=80)]
    who: Annotated[Literal["unknown", "anybody"] | tuple[str, ...], BeforeValidator(_who)]
    sites: Places | None = None
    cameras: Places | None = None
    quiet: tuple[QuietHours, ...] = ()

    @model_validator(mode="after")
    def _printable(self) -> Rule:
        if not self.name.isprintable():
            raise ValueError("a rule's name is printable text")
        return self

    def concerns(self, person_id: str, site: str, camera: str) -> bool:
        """Whether it is about this person before this camera, whatever the hour."""
        wanted = self.who == "anybody" or (person_id == UNKNOWN if self.who == "unknown" else person_id in self.who)
        return (
            wanted and (self.sites is None or site in self.sites) and (self.cameras is None or camera in self.cameras)
        )

    def is_quiet(self, wall_clock: time) -> bool:
        """Whether it wants nothing at this time of the day."""
        return any(hours.covers(wall_clock) for hours in self.quiet)


class Site(BaseModel):
    """What is said of one site."""

    model_config = _STRICT

    time_zone: Zone


class AlertRules(BaseModel):
    """All rules, and whose clock they go by."""

    model_config = _STRICT

    rule: tuple[Rule, ...] = ()
    time_zone: Zone = ZoneInfo("UTC")
    sites: dict[PlaceId, Site] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _named_once(self) -> AlertRules:
        names = [rule.name for rule in self.rule]
        if twice := {name for name in names if names.count(name) > 1}:
            raise ValueError(f"two rules have the name {min(twice)!r}; their alerts could not be told apart")
        return self

    def concerned(self, detection: Detection) -> list[Rule]:
        """The rules that a detection is for, whatever the hour."""
        return [rule for rule in self.rule if rule.concerns(detection.person_id, detection.site, detection.camera)]

    def local_time(self, site: str, moment: datetime) -> datetime:
        """A moment by a site's clock."""
        named = self.sites.get(site)
        return moment.astimezone(named.time_zone if named is not None else self.time_zone)

    def wanting(self, detection: Detection) -> tuple[str, ...]:
        """Names of the rules that want an alert of this detection: concerned, and not in their quiet hours."""
        wall_clock = self.local_time(detection.site, detection.captured_at).time()
        return tuple(rule.name for rule in self.concerned(detection) if not rule.is_quiet(wall_clock))


def load_rules(setting: str) -> AlertRules:
    """The rules that a setting holds: a TOML file's path, or, beginning with a brace, the same as JSON. Empty: none.

    Raises:
        ConfigurationError: the file cannot be read, or something in it cannot be; says where, and what to write.
    """
    text = setting.strip()
    if not text:
        return AlertRules()
    try:
        document = json.loads(text) if text.startswith("{") else tomllib.loads(Path(text).read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigurationError(f"{SETTING}: the file cannot be read: {error.strerror or error}") from error
    except ValueError as error:  # both decoders' errors, and bytes that are not UTF-8
        raise ConfigurationError(f"{SETTING}: not {'JSON' if text.startswith('{') else 'TOML'}: {error}") from error
    try:
        return AlertRules.model_validate(document)
    except ValidationError as error:
        raise ConfigurationError(f"{SETTING}: {_explained(error, document)}") from error


def _explained(error: ValidationError, document: Any) -> str:
    """Each mistake in one clause: the rule's name or number, the key, what is wrong."""
    found = []
    for mistake in error.errors(include_url=False, include_input=False):
        message = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden":
            message = "there is no such key"
        found.append(f"{_place_in(mistake['loc'], document)}: {message}")
    return "; ".join(dict.fromkeys(found[:5]))


def _place_in(location: Sequence[int | str], document: Any) -> str:
    if len(location) >= 2 and location[0] == "rule" and isinstance(location[1], int):
        try:
            name = document["rule"][location[1]].get("name")
        except (AttributeError, KeyError, IndexError, TypeError):
            name = None
        where = f"rule {name!r}" if isinstance(name, str) else f"rule {location[1] + 1}"
        rest = [part for part in location[2:] if not str(part).startswith(("literal", "constrained", "tuple"))]
        return f"{where}, {'.'.join(map(str, rest))}" if rest else where
    return ".".join(map(str, location)) or "rules"
