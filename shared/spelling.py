"""How ids, times and parts of names are spelled, and what is refused. Part of `shared.domain`, which gives them out."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from datetime import UTC, date, datetime, timedelta
from typing import Final
from urllib.parse import quote

from shared.errors import InvalidIdentifier, InvalidInput

UNKNOWN: Final = "unknown"
"""`person_id` of a detection whose face is nobody enrolled. No person can be enrolled under it."""

_PERSON_ID = re.compile(r"\w[\w.'-]{0,63}", re.UNICODE)
_PLACE_ID_LENGTH = 64
_PLACE_ID_ESCAPED = 384  # twice that, a date, a time and a track must fit the 1,024 characters of a blob name


def normalise_person_id(text: str) -> str:
    """The one spelling of a person's id: NFC, lower case, spaces as underscores.

    Args:
        text: as a person or the seed's programs write it, such as `"Harrison Ford"`.

    Raises:
        InvalidIdentifier: empty, over 64 characters, reserved, or with anything but letters, digits, `_ . ' -`.

    >>> normalise_person_id("Harrison Ford")
    'harrison_ford'
    """
    person_id = unicodedata.normalize("NFC", text.strip()).lower().replace(" ", "_")
    if person_id == UNKNOWN:
        raise InvalidIdentifier(f"'{UNKNOWN}' is reserved for faces of nobody enrolled; choose another id")
    if not _PERSON_ID.fullmatch(person_id):
        raise InvalidIdentifier(
            "a person id is 1 to 64 letters, digits, spaces or _ . ' - and begins with a letter or digit"
        )
    return person_id


def check_place_id(kind: str, text: str) -> str:
    """A site, camera or location id: 1 to 64 printable characters. Anything printable is allowed, and escaped in names.

    Raises:
        InvalidIdentifier: empty, too long (of letters beyond Latin, Greek and Cyrillic, 42 or fewer fit a blob name),
            or with control characters.
    """
    if not 1 <= len(text) <= _PLACE_ID_LENGTH or not text.isprintable():
        raise InvalidIdentifier(f"a {kind} is 1 to {_PLACE_ID_LENGTH} printable characters")
    if len(percent_safe(text)) > _PLACE_ID_ESCAPED:
        raise InvalidIdentifier(f"a {kind} is at most {_PLACE_ID_ESCAPED} characters when percent-encoded; shorten it")
    return text


def percent_safe(part: str) -> str:
    """`part` as one segment of a blob name: letters, digits, `_ - ~` and inner dots kept, all else percent-encoded.

    >>> percent_safe("../North Gate")
    '..%2FNorth%20Gate'
    >>> percent_safe("..")
    '%2E%2E'
    """
    quoted = quote(part, safe="")
    return quoted.replace(".", "%2E") if set(quoted) <= {"."} else quoted


def tag_safe(value: str) -> str:
    """`value` as a blob index tag: bytes outside the service's alphabet become `=XX`, cut at 256 characters.

    Azure allows letters, digits, space and `+ - . / : = _` in a tag value.

    >>> tag_safe("café")
    'caf=C3=A9'
    """
    allowed = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 +-./:_")
    return "".join(chr(b) if b in allowed else f"={b:02X}" for b in value.encode())[:256]


def require_utc(moment: datetime) -> datetime:
    """`moment` itself, when it is aware and in UTC.

    Raises:
        InvalidInput: naive, or in another zone.
    """
    if moment.utcoffset() != timedelta(0):
        raise InvalidInput("a time must be aware and in UTC")
    return moment


def utc_now() -> datetime:
    """The default clock. A clock is a `Callable[[], datetime]`."""
    return datetime.now(UTC)


def format_time(moment: datetime) -> str:
    """RFC 3339 in UTC with milliseconds, which sorts as text.

    >>> format_time(datetime(2026, 1, 2, 3, 4, 5, 678900, tzinfo=UTC))
    '2026-01-02T03:04:05.678Z'
    """
    return require_utc(moment).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def parse_time(text: str) -> datetime:
    """The inverse of `format_time`; takes any RFC 3339 offset.

    Raises:
        InvalidInput: not a time, or one without an offset.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidInput(f"not an RFC 3339 time: {text[:40]!r}") from error
    if moment.tzinfo is None:
        raise InvalidInput(f"a time needs an offset or Z: {text[:40]!r}")
    return moment.astimezone(UTC)


def parse_moment(text: str) -> datetime:
    """As `parse_time`, for what people type: a date alone is its midnight in UTC.

    Raises:
        InvalidInput: neither a date nor a time with an offset.

    >>> format_time(parse_moment("2026-01-02"))
    '2026-01-02T00:00:00.000Z'
    """
    try:
        day = date.fromisoformat(text)
    except ValueError:
        try:
            return parse_time(text)
        except InvalidInput as error:
            raise InvalidInput(
                f"{error}; give a date such as 2026-01-02, or a time such as 2026-01-02T03:04:05Z"
            ) from error
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def sha256_hex(data: bytes) -> str:
    """SHA-256 of `data`, 64 lower-case hex digits."""
    return hashlib.sha256(data).hexdigest()
