"""What became of one camera's frames and faces: plain counts, for reports, the live page and metrics."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class CameraStats:
    """What became of a camera's frames and faces.

    Attributes:
        state: `waiting`, `running`, `finished`, `failed`.
        error: why it failed, or what is wrong at the moment.
        frames: worked on: those that the frame rate asked for, less those that a stream dropped.
        detector_runs: frames that the detector looked at; glances, those of them where it looked only around faces.
        frames_without_look: the others, by the reason: `still`, nothing moved; `load`, the machine is behind.
        picture: `ok`, `frozen`, `black`, `blinded`, `covered`, `moved`; `unknown` where it is not watched.
        events, events_begun: see `capture.watch.CameraWatch`; the newest last.
        frames_late: of a stream, of the past: a recorder that caught up after a stall.
        detections: faces at or above the low threshold and the minimum size.
        tracks … unusable: see `selection.follow.FollowCounts`; with `every_frame`, tracks are the crops.
        crops, bytes: put into the spool.
        lost, dropped: crops that found no room before the end; that gave way to worthier ones at the bound.
        position_s, busy_s: of the last frame in its source; spent on frames, waiting for the source not counted.
    """

    camera: str
    location: str
    state: str = "waiting"
    error: str | None = None
    frames: int = 0
    detector_runs: int = 0
    glances: int = 0
    frames_without_look: dict[str, int] = field(default_factory=dict)
    frames_grabbed: int = 0
    frames_skipped: int = 0
    frames_dropped: int = 0
    frames_late: int = 0
    picture: str = "unknown"
    events: list[dict[str, str]] = field(default_factory=list)
    events_begun: dict[str, int] = field(default_factory=dict)
    images_unreadable: dict[str, int] = field(default_factory=dict)
    reconnects: int = 0
    detections: int = 0
    tracks: int = 0
    rejoined: int = 0
    cuts: int = 0
    repeats: int = 0
    held_back: int = 0
    usable: int = 0
    unusable: dict[str, int] = field(default_factory=dict)
    crops: int = 0
    bytes: int = 0
    lost: int = 0
    dropped: int = 0
    position_s: float = 0.0
    busy_s: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Every field, and `frames_per_s`: the rate that the detector and all after it would keep up with."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        rate = self.frames / self.busy_s if self.busy_s else 0.0
        rounded = {name: round(values[name], 3) for name in ("busy_s", "position_s")}
        return values | rounded | {"frames_per_s": round(rate, 1)}
