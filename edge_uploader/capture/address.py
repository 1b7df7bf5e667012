"""What of a stream's address may be seen, and the password that stands in it.

Addresses are seldom as the standard has them: passwords with a slash in them, recorders that want user and password in
the path or behind a question mark. Only what cannot be any of that is shown.
"""

from __future__ import annotations

import re
from typing import Final

_PARTS: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE | re.DOTALL)
_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|[\w.-]+)(:\d{1,5})?", re.IGNORECASE)
_NUMERIC_HOST: Final = re.compile(r"(\[[0-9a-f:.]+\]|\d{1,3}(\.\d{1,3}){3})(:\d{1,5})?", re.IGNORECASE)
_PARAMETER: Final = re.compile(
    r"(?<![^\W_])(?:password|passwd|passphrase|pass|loginpas|pwd|psw|pw)=(?!_[a-z]+=)"
    r"(\$\{[^}]*\}(?=[&;/?#_]|$)|[^&;/?#]+)",
    re.IGNORECASE,
)
"""`?user=a&password=b`; recorders take `/user=a&password=b&stream=0.sdp` and `/user=a_password=b_stream=0.sdp`."""


def public_name(address: str | int) -> str:
    """Scheme, host and port; a path may hold a password or a key in too many ways to show any of it.

    >>> public_name("rtsp://admin:secret@10.0.0.9:554/ch1?token=1")
    'rtsp://10.0.0.9:554'
    """
    if isinstance(address, int):
        return f"webcam {address}"
    parts = _PARTS.fullmatch(address)
    if parts is None:
        return "a stream"
    _, host = _split(parts[2])
    return f"{parts[1]}://{host or '…'}"


def password_in(address: str) -> str:
    """The password that stands in an address; empty when there is none.

    >>> password_in("rtsp://admin:se/cret@10.0.0.9/ch1"), password_in("rtsp://10.0.0.9/user=a&password=b&stream=0.sdp")
    ('se/cret', 'b')
    """
    parts = _PARTS.fullmatch(address)
    if parts is None:
        return ""
    user, _ = _split(parts[2])
    found = _PARAMETER.search(parts[2])
    return user.partition(":")[2] or (found[1] if found else "")


def _split(rest: str) -> tuple[str, str]:
    """User with password, and host with port, of what follows `://`; each empty where it is not certain.

    An `@` behind the first slash ends a password that was not escaped, or belongs to the path. An IP address on either
    side decides it; a name might be the end of a password.
    """
    authority = _authority(rest)
    user, _, host = authority.rpartition("@")
    if "@" in rest[len(authority) :] and not _NUMERIC_HOST.fullmatch(host):
        before, _, behind = rest.rpartition("@")
        other = _authority(behind)
        numeric = _NUMERIC_HOST.fullmatch(other) is not None
        user = before if numeric or not _HOST.fullmatch(host) else user
        host = other if numeric else ""
    return user, host if _HOST.fullmatch(host) else ""


def _authority(text: str) -> str:
    return re.split(r"[/?#]", text, maxsplit=1)[0]
