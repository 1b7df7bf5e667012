"""The thesis' tables as data: what each policy would send of a video, beside the video itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from local.bandwidth.arithmetic import (
    Network,
    Sent,
    Tariff,
    Video,
    a_month,
    bytes_of_bitrate,
    density,
    expected_reduction,
    on_network,
)

EVERY_FACE: Final = "every face"
BEST_SHOTS: Final = "best shots"
SHORT_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """What one policy sends.

    Attributes:
        fps: frames looked at a second.
        people: tracks, for a policy that follows faces; None for one that does not.
        network: the crops with the protocol around them, both ways.
    """

    policy: str
    fps: float
    frames: int
    people: int | None
    sent: tuple[Sent, ...]
    network: Network

    @property
    def image_bytes(self) -> int:
        return sum(each.size_bytes for each in self.sent)

    def faces_per_minute(self, length_s: float) -> float:
        return len(self.sent) / length_s * 60

    def to_json(self, video: Video, tariff: Tariff) -> dict[str, Any]:
        """The thesis' tables 6 to 8 and a month's projection; averages and factors are None without a crop."""
        count, length_s = len(self.sent), video.length_s
        camera_bytes = bytes_of_bitrate(tariff.camera_mbps, length_s)
        month_bytes = a_month(self.network.size_bytes, length_s, tariff.hours)
        price = tariff.price_per_gb
        return {
            "policy": self.policy,
            "fps": self.fps,
            "frames": self.frames,
            "people": self.people,
            "faces": count,
            "faces_per_minute": round(self.faces_per_minute(length_s), 1),
            "image_bytes": self.image_bytes,
            "average_image_bytes": _mean([each.size_bytes for each in self.sent]),
            "average_height_px": _mean([each.height_px for each in self.sent]),
            "average_width_px": _mean([each.width_px for each in self.sent]),
            "average_image_px": _mean([each.width_px * each.height_px for each in self.sent]),
            "network_packets": self.network.packets,
            "network_bytes": self.network.size_bytes,
            "average_network_bytes": round(self.network.size_bytes / count, 1) if count else None,
            "overhead": round(self.network.size_bytes / self.image_bytes - 1, 4) if count else None,
            "network_mbps": round(self.network.size_bytes * 8 / length_s / 1e6, 6),
            "reduction_against_camera": _factor(camera_bytes, self.network.size_bytes),
            "reduction_against_file": _factor(video.file_bytes, self.network.size_bytes),
            "gb_a_month": round(month_bytes / 1e9, 3),
            "cost_a_month": None if price is None else round(month_bytes / 1e9 * price, 2),
        }


@dataclass(frozen=True, slots=True)
class BandwidthReport:
    """One video under all policies, the seed's first."""

    video: Video
    policies: tuple[PolicyReport, ...]
    tariff: Tariff

    @property
    def seed(self) -> PolicyReport:
        return self.policies[0]

    @property
    def density(self) -> str:
        """Of the video: by what the seed's policy sends, as the thesis has it."""
        return density(self.seed.faces_per_minute(self.video.length_s))

    @property
    def notes(self) -> list[str]:
        """What a reader has to know of the figures."""
        length_s, notes = self.video.length_s, []
        if length_s < SHORT_S:
            notes.append(
                f"{self.video.name} is {length_s:.0f} s long: figures a minute and a month are drawn from very little, "
                "and people who were cut off count whole. Take ten minutes or more for a figure to rely on."
            )
        if not self.seed.sent:
            notes.append(f"no face was found in {self.video.name}; nothing would be sent.")
        return notes

    def to_json(self) -> dict[str, Any]:
        """Everything but the single crops; sizes in bytes, times in s."""
        video, tariff = self.video, self.tariff
        camera_bytes = bytes_of_bitrate(tariff.camera_mbps, video.length_s)
        price = tariff.price_per_gb
        gb = a_month(camera_bytes, video.length_s, tariff.hours) / 1e9
        rate = self.seed.faces_per_minute(video.length_s)
        return {
            "video": asdict(video) | {"length_s": round(video.length_s, 3), "file_mbps": round(video.file_mbps, 4)},
            "density": self.density,
            "expected_reduction": expected_reduction(rate),
            "camera": {
                "mbps": tariff.camera_mbps,
                "bytes": round(camera_bytes),
                "gb_a_month": round(gb, 3),
                "cost_a_month": None if price is None else round(gb * price, 2),
            },
            "hours_a_day": tariff.hours,
            "price_per_gb": price,
            "policies": [policy.to_json(video, tariff) for policy in self.policies],
            "notes": self.notes,
        }


def policy_report(policy: str, fps: float, frames: int, people: int | None, sent: Sequence[Sent]) -> PolicyReport:
    """A policy's report, the network's bytes reckoned from the crops."""
    network = on_network([each.size_bytes for each in sent])
    return PolicyReport(policy, fps, frames, people, tuple(sorted(sent, key=lambda each: each.at_s)), network)


def _mean(values: Sequence[float]) -> float | None:
    return round(sum(values) / len(values), 1) if values else None


def _factor(whole: float, part: float) -> float | None:
    return round(whole / part, 1) if part else None
