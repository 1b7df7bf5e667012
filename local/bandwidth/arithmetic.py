"""The seed's arithmetic of bandwidth: density classes, bytes on the network, reduction. Pure.

Source: the thesis this project descends from, sections 6.9 to 6.9.4, tables 5 to 11. There an image is what the
edge sends, and every face of every frame at 6 fps is sent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

DENSITIES: Final = (
    (5.0, "very low", "> 1365×"),
    (50.0, "low", "1365× – 137×"),
    (500.0, "medium", "137× – 14×"),
    (1000.0, "high", "14× – 7×"),
    (math.inf, "very high", "< 7×"),
)
"""Upper bound in face images a minute, class, and the reduction that the thesis expects of it (tables 5 and 11)."""

HTTP_UP_BYTES: Final = 1_255
HTTP_DOWN_BYTES: Final = 386
"""Around one crop, on a connection that is open: the request line and headers with the crop's metadata and tags, and
the answer. Median of 12 uploads by the Azure SDK (azure-storage-blob 12.31.1) to Azurite through a counting proxy, with
the site `museum`, the camera `entrance` and five landmarks; a test measures it again. A longer name adds what it is
longer."""

SEGMENT_BYTES: Final = 1_448
"""Payload of one packet: an Ethernet frame of 1,500 less IP (20) and TCP with time stamps (32)."""

PACKET_BYTES: Final = 66
"""Around each packet: Ethernet (14), IP (20), TCP with time stamps (32). Reckoned, not captured; encryption (TLS) adds
about 22 bytes for each message and is left out, since the thesis' figures are without it."""

MONTH_S: Final = 30 * 24 * 3_600.0


@dataclass(frozen=True, slots=True)
class Sent:
    """One crop that would have gone over the network.

    Attributes:
        at_s: when it was seen, in seconds from the video's beginning.
        width_px, height_px: of the crop.
        size_bytes: of the file that is sent.
    """

    at_s: float
    width_px: int
    height_px: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Network:
    """What a number of crops are on the wire, both ways together."""

    packets: int
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Video:
    """A video as a file.

    Attributes:
        length_s: above 0.
    """

    name: str
    width_px: int
    height_px: int
    length_s: float
    file_bytes: int

    @property
    def file_mbps(self) -> float:
        return self.file_bytes * 8 / self.length_s / 1e6


@dataclass(frozen=True, slots=True)
class Tariff:
    """What is compared with, and what a month costs.

    Attributes:
        camera_mbps: of the camera whose video is not sent; the thesis takes 4 for 1080p at 6 fps.
        hours: a day in which it is like in the video.
        price_per_gb: None when nothing is to be said of money.
    """

    camera_mbps: float = 4.0
    hours: float = 24.0
    price_per_gb: float | None = None


def density(faces_per_minute: float) -> str:
    """The thesis' class of so many face images a minute.

    >>> [density(rate) for rate in (4.9, 5, 305.4, 864.9, 1479.2)]
    ['very low', 'low', 'medium', 'high', 'very high']
    """
    return next(name for bound, name, _ in DENSITIES if faces_per_minute < bound)


def expected_reduction(faces_per_minute: float) -> str:
    """What the thesis expects of so many face images a minute (table 11)."""
    return next(expected for bound, _, expected in DENSITIES if faces_per_minute < bound)


def upload(size_bytes: int) -> Network:
    """One crop of `size_bytes` on the wire, with its answer.

    Headers and body leave in separate packets, and every second packet is acknowledged (RFC 5681, delayed
    acknowledgements); the answer is one packet and one acknowledgement.

    >>> upload(6_000)
    Network(packets=11, size_bytes=8367)
    """
    out = math.ceil(HTTP_UP_BYTES / SEGMENT_BYTES) + math.ceil(size_bytes / SEGMENT_BYTES)
    back = math.ceil(HTTP_DOWN_BYTES / SEGMENT_BYTES)
    packets = out + math.ceil(out / 2) + back + 1
    return Network(packets, size_bytes + HTTP_UP_BYTES + HTTP_DOWN_BYTES + packets * PACKET_BYTES)


def on_network(sizes_bytes: Sequence[int]) -> Network:
    """All of them together."""
    uploads = [upload(size) for size in sizes_bytes]
    return Network(sum(each.packets for each in uploads), sum(each.size_bytes for each in uploads))


def bytes_of_bitrate(mbps: float, seconds: float) -> float:
    """What a stream of `mbps` megabits a second is in `seconds`.

    >>> bytes_of_bitrate(4, 600)
    300000000.0
    """
    return mbps * 1e6 / 8 * seconds


def a_month(size_bytes: float, length_s: float, hours: float) -> float:
    """Bytes in 30 days, when `hours` of each are like `length_s` seconds with `size_bytes`.

    >>> round(a_month(14e6, 600, 24) / 1e9, 2)
    60.48
    """
    return size_bytes / length_s * MONTH_S * hours / 24
