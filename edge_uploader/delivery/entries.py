"""What waits in the spool: one file for each crop, with all that its sending needs.

The file is a magic line, the length of a JSON header, the header, the image. Its name has what the order of sending
needs, so that 100,000 files are put in order by their names alone:

    01764045353123456789-000042-52087.crop
    taken (ns)           serial ││└ worth in hundredths
                                │└ 2 first shot of its visit, 1 good, 0 the rest
                                └ priority of its camera
"""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from edge_uploader.delivery.order import DEFAULT_PRIORITY, GOOD_WORTH, Kind, Rank, rank_of
from shared.domain import sha256_hex
from shared.errors import IntegrityError

_MAGIC: Final = b"FACERELAY-SPOOL-1\n"
_LENGTH: Final = struct.Struct(">I")
_NAME: Final = re.compile(r"(\d{20})-\d{6,}(?:-([1-9])([0-2])(\d{3}))?\.(?:crop|reason)", re.ASCII)


@dataclass(frozen=True, slots=True)
class SpoolItem:
    """What is to be put into the store.

    Attributes:
        worth: 0 to 1, see `selection.best_shot.worth`.
        priority: of the camera, 1 to 9; higher goes first.
        shot: number of the crop within its visit, from 0.
    """

    name: str
    data: bytes
    metadata: Mapping[str, str]
    tags: Mapping[str, str]
    content_type: str = "image/jpeg"
    worth: float = GOOD_WORTH
    priority: int = DEFAULT_PRIORITY
    shot: int = 0


@dataclass(frozen=True, slots=True)
class SpoolEntry:
    """An item that was claimed for sending; give it to `done`, `give_back` or `refuse`.

    Attributes:
        size_bytes: of the file.
        failures: how often it was given back after an attempt, in this run.
    """

    path: Path
    size_bytes: int
    item: SpoolItem
    rank: Rank
    failures: int = 0


def encode_item(item: SpoolItem) -> bytes:
    """One spool file: magic, header length (4 bytes, big-endian), JSON header, data."""
    header = json.dumps(
        {
            "name": item.name,
            "metadata": dict(item.metadata),
            "tags": dict(item.tags),
            "content_type": item.content_type,
            "worth": item.worth,
            "priority": item.priority,
            "shot": item.shot,
            "size_bytes": len(item.data),
            "sha256": sha256_hex(item.data),
        }
    ).encode()
    return _MAGIC + _LENGTH.pack(len(header)) + header + item.data


def decode_item(raw: bytes) -> SpoolItem:
    """The inverse of `encode_item`.

    Raises:
        IntegrityError: cut short, damaged, or not a spool file.
    """
    start = len(_MAGIC) + _LENGTH.size
    if not raw.startswith(_MAGIC) or len(raw) < start:
        raise IntegrityError("not a spool file")
    end = start + _LENGTH.unpack_from(raw, len(_MAGIC))[0]
    try:
        header: dict[str, Any] = json.loads(raw[start:end])
        data = raw[end:]
        if len(data) != header["size_bytes"] or sha256_hex(data) != header["sha256"]:
            raise IntegrityError("spool file cut short or damaged")
        return SpoolItem(
            header["name"],
            data,
            header["metadata"],
            header["tags"],
            header["content_type"],
            float(header.get("worth", GOOD_WORTH)),
            int(header.get("priority", DEFAULT_PRIORITY)),
            int(header.get("shot", 0)),
        )
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IntegrityError("spool file with a damaged header") from error


def file_rank(item: SpoolItem, stamp_ns: int, serial: int) -> Rank:
    """Its place, under the name that its file will have.

    >>> file_rank(SpoolItem("a", b"", {}, {}, worth=0.87), 1764045353123456789, 42).name
    '01764045353123456789-000042-52087.crop'
    """
    rank = rank_of(item.priority, item.shot, item.worth, stamp_ns, "")
    return rank._replace(name=f"{stamp_ns:020d}-{serial:06d}-{rank.priority}{rank.kind:d}{rank.worth:03d}.crop")


def named_rank(name: str) -> Rank | None:
    """The place that a file's name tells; None when it is no name of ours. Earlier versions' names had no value.

    >>> named_rank("01764045353123456789-000042-52087.crop")[:3]
    (5, <Kind.FIRST: 2>, 87)
    >>> named_rank("01764045353123456789-000042.crop")[:3]
    (5, <Kind.FIRST: 2>, 50)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    stamp, priority, kind, worth = match.groups()
    if priority is None:
        return Rank(DEFAULT_PRIORITY, Kind.FIRST, round(100 * GOOD_WORTH), int(stamp), name)
    return Rank(int(priority), Kind(int(kind)), min(int(worth), 100), int(stamp), name)
