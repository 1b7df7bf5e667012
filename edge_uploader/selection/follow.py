"""From the faces of successive frames to the crops that are worth sending. Belongs to one camera's thread.

A *track* is what the tracker could follow without a break; a *visit* is one person at this camera, who may be made up
of several tracks: whoever reappears within a few seconds, near where they were lost and looking alike, goes on with
the shots they have left.
"""

from __future__ import annotations

import dataclasses
import logging
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edge_uploader.capture.sources import Frame
from edge_uploader.selection.appearance import Appearance, likeness
from edge_uploader.selection.best_shot import TOO_SMALL, BestShotOptions, BestShots, Shot, defect, worth
from edge_uploader.selection.crops import CropOptions, View, completeness, long_axis_px, take
from edge_uploader.selection.repeats import RepeatOptions, Repeats, Verdict
from edge_uploader.selection.tracker import Track, Tracker, TrackerOptions, sightings_of
from shared.domain import Face, Float32Array, Quality, UInt8Array
from shared.vision.boxes import enlarge

logger = logging.getLogger(__name__)

_REACH, _REACH_PER_S = 1.5, 1.0
"""Face sizes, and more for each second, within which somebody reappears."""
_SIZE_RATIO: Final = 1.6
_ASTRAY = 1.5
_ODD_LOOKS: Final = 2
_OUT_OF_SIGHT_S: Final = 0.4
"""A track not seen for so long, though it was looked for, may have passed to somebody who came out where another went
away."""


@dataclass(frozen=True, slots=True)
class FollowOptions:
    """How faces are followed.

    Attributes:
        min_face_px: faces smaller on the long axis are followed, and not sent.
        rejoin_s: for so long after a track was lost, another that looks alike may continue it; 0: never.
        rejoin_likeness: from which two tracks look alike, see `appearance.likeness`.
        unlike: below this a track shows something else than a moment ago: 2 % of the views of one face, a sixth of a
            second apart, and 95 % of the views of two people (docs/adr/0022).
    """

    crops: CropOptions = field(default_factory=CropOptions)
    tracker: TrackerOptions = field(default_factory=TrackerOptions)
    shots: BestShotOptions = field(default_factory=BestShotOptions)
    repeats: RepeatOptions = field(default_factory=RepeatOptions)
    min_face_px: float = 0.0
    rejoin_s: float = 4.0
    rejoin_likeness: float = 0.6
    unlike: float = 0.4


@dataclass(frozen=True, slots=True, eq=False)
class Sending:
    """A view that is to be sent.

    Attributes:
        track: id of the visit's first track.
        shot: number within the visit, from 0.
        worth: 0 to 1.
    """

    track: str
    shot: int
    worth: float
    view: View


@dataclass(frozen=True, slots=True)
class Followed:
    """What a frame brought: the tracks seen in it, and what is to be sent now."""

    seen: list[Track]
    sendings: list[Sending]


@dataclass(slots=True)
class FollowCounts:
    """Since the camera began.

    Attributes:
        tracks: confirmed ones, those that continue another not counted again.
        rejoined: tracks that continued another.
        cuts: changes of scene, each of which ended all tracks.
        repeats: places at which the same was seen for so long that it is sent seldom.
        held_back: views of those that were not considered.
        usable: visits whose best view can be recognised.
        unusable: the other visits, by the main defect of their best view; and faces that were followed and never large
            enough to be sent, `too_small`.
    """

    tracks: int = 0
    rejoined: int = 0
    cuts: int = 0
    repeats: int = 0
    held_back: int = 0
    usable: int = 0
    unusable: Counter[str] = field(default_factory=Counter)


@dataclass(slots=True, eq=False)
class _Visit:
    """One person at this camera."""

    id: str
    shots: BestShots[View]
    number: int = 0
    best: float = -1.0
    defect: str | None = None
    look: Appearance | None = None
    box: Float32Array | None = None
    seen_s: float = 0.0
    lost_s: float = 0.0
    once: bool = False
    odd: int = 0


class Follower:
    """Follows the faces of one camera.

    Args:
        camera: its name, for the log.
        assess: RGB image and face → quality, such as `shared.vision.quality.assess`.
        run: prefix of the track ids, one for each run of the gateway.
    """

    def __init__(
        self,
        options: FollowOptions,
        *,
        camera: str,
        assess: Callable[[UInt8Array, Face], Quality],
        run: str | None = None,
    ) -> None:
        self._options, self._camera, self._assess = options, camera, assess
        self._tracker = Tracker(options.tracker, run=run)
        self._repeats = Repeats(options.repeats)
        self._visits: dict[str, _Visit] = {}
        self._lately: list[_Visit] = []
        self._looked_s = self._looked_before_s = -math.inf
        self.counts = FollowCounts()

    @property
    def following(self) -> bool:
        """Whether there are tracks."""
        return bool(self._tracker.tracks)

    def expected(self, at_s: float) -> Float32Array:
        """(N, 4) xyxy around the places where the faces that are followed should be."""
        boxes = [
            # Whoever was seen once may be going anywhere.
            enlarge(track.predict(at_s)[None], _ASTRAY if track.hits == 1 else 1.0)
            for track in self._tracker.tracks
        ]
        return np.concatenate(boxes) if boxes else np.zeros((0, 4), np.float32)

    def next_id(self) -> str:
        """A track id that was not given before."""
        return self._tracker.next_id()

    def look(self, frame: Frame, faces: Sequence[Face], *, cut: bool = False) -> Followed:
        """The detector looked at a frame.

        Args:
            faces: every detection above the low threshold.
            cut: the frame begins another scene: nobody in it was seen before.
        """
        at_s = frame.position_s
        self._looked_before_s, self._looked_s = self._looked_s, at_s
        sendings = self._cut(at_s) if cut else []
        update = self._tracker.update(sightings_of(frame.image, faces), at_s)
        for track in update.ended:
            sendings += self._lost(track)
        for track in update.seen:
            if track.confirmed and long_axis_px(track.face) >= self._options.min_face_px:
                sendings += self._view(frame, track)
        sendings += self.due(at_s)
        return Followed(update.seen, sendings)

    def due(self, at_s: float) -> list[Sending]:
        """What has been held for long enough, also of faces that are not seen at the moment; and closes visits."""
        sendings: list[Sending] = []
        for visit in list(self._visits.values()):
            sendings += self._send(visit, visit.shots.due(at_s))
        gone = [visit for visit in self._lately if at_s - visit.lost_s > self._options.rejoin_s]
        for visit in gone:
            self._close(visit)
        return sendings

    def without_frame(self, at_s: float) -> list[Sending]:
        """No frame comes any more: what is due by `at_s`, and what is held of faces not seen for too long."""
        sendings: list[Sending] = []
        for track in self._tracker.retire(at_s):
            sendings += self._lost(track)
        return sendings + self.due(at_s)

    def finish(self) -> list[Sending]:
        """Everything ends: what is held goes out, every visit is closed."""
        sendings: list[Sending] = []
        for track in self._tracker.finish():
            sendings += self._lost(track)
        for visit in list(self._lately):
            self._close(visit)
        return sendings

    def _cut(self, at_s: float) -> list[Sending]:
        self.counts.cuts += 1
        logger.info(
            "another scene", extra={"action": "scene_cut", "camera": self._camera, "position_s": round(at_s, 1)}
        )
        return self.finish()

    def _view(self, frame: Frame, track: Track) -> list[Sending]:
        """A confirmed track was seen: what is to be sent of it now."""
        face, look, at_s = track.face, track.looks[-1], frame.position_s
        visit = self._visits.get(track.id) or self._begin(track, look)
        verdict = self._repeats.see(track.id, face.box, look, at_s)
        if verdict.changed:
            visit = self._renew(track)
        missed = visit.seen_s < self._looked_before_s
        sendings = self._compare(visit, look, returned=missed and at_s - visit.seen_s >= _OUT_OF_SIGHT_S)
        visit.box, visit.seen_s = face.box, at_s
        height, width = frame.image.shape[:2]
        quality, whole = self._assess(frame.image, face), completeness(face.box, width, height)
        value = worth(quality, whole)
        if value > visit.best:
            visit.best, visit.defect = value, defect(quality, whole)
        if not self._considered(visit, verdict, face):
            return sendings
        options = self._options.crops
        return sendings + self._send(
            visit,
            visit.shots.offer(
                value, at_s, lambda: take(frame.image, face, frame.captured_at, options), long_axis_px(face)
            ),
        )

    def _compare(self, visit: _Visit, look: Appearance, *, returned: bool) -> list[Sending]:
        """A look unlike the last: twice over, by a turn, or because two who crossed have exchanged their tracks; at
        once, when the track was out of sight before. What is to be sent of the look before."""
        sendings: list[Sending] = []
        if visit.look is not None and likeness(look, visit.look) < self._options.unlike:
            visit.odd += 1
            if returned:
                sendings = self._send(visit, visit.shots.returned())
            elif visit.odd < _ODD_LOOKS:
                return []
            else:
                visit.shots.changed()
        visit.look, visit.odd = look, 0
        return sendings

    def _considered(self, visit: _Visit, verdict: Verdict, face: Face) -> bool:
        """Whether a view may be sent at all; once more only, when it shows what has settled."""
        if verdict.settled:
            self.counts.repeats += 1
            x, y = ((face.box[:2] + face.box[2:]) / 2).round().astype(int).tolist()
            logger.info(
                "the same is seen here again and again: it is sent seldom from now on",
                extra={"action": "edge_repeat", "camera": self._camera, "x": x, "y": y, "track": visit.id},
            )
        if verdict.held_back:
            self.counts.held_back += 1
            return False
        if verdict.again and not visit.once:
            visit.shots, visit.once = BestShots(dataclasses.replace(self._options.shots, shots=1)), True
        return True

    def _begin(self, track: Track, look: Appearance) -> _Visit:
        """A track's first view: a visit begins, or goes on."""
        found = self._before(track, look)
        if found is None:
            self.counts.tracks += 1
            found = _Visit(track.id, BestShots(self._options.shots))
        else:
            self.counts.rejoined += 1
            self._lately.remove(found)
            track.id = found.id
        self._visits[found.id] = found
        return found

    def _before(self, track: Track, look: Appearance) -> _Visit | None:
        """The visit that this track continues, or None."""
        best, found = self._options.rejoin_likeness, None
        for visit in self._lately:
            if visit.look is None or visit.box is None:
                continue
            gap_s = max(track.first_seen_s - visit.lost_s, 0.0)
            if gap_s > self._options.rejoin_s or not _within_reach(visit.box, track.face.box, gap_s):
                continue
            close = likeness(look, visit.look)
            if close >= best:
                best, found = close, visit
        return found

    def _renew(self, track: Track) -> _Visit:
        """Somebody else is where this track has been: a visit of their own begins."""
        old = self._visits.pop(track.id)
        self._close(old)
        self._repeats.moved(track.id, fresh := self._tracker.next_id())
        track.id = fresh
        self.counts.tracks += 1
        self._visits[fresh] = _Visit(fresh, BestShots(self._options.shots))
        return self._visits[fresh]

    def _lost(self, track: Track) -> list[Sending]:
        visit = self._visits.pop(track.id, None)
        if visit is None:
            if track.confirmed:
                self.counts.unusable[TOO_SMALL] += 1
            return []
        sendings = self._send(visit, visit.shots.flush())
        visit.lost_s = track.last_seen_s
        self._repeats.ended(track.id)
        self._lately.append(visit)
        return sendings

    def _close(self, visit: _Visit) -> None:
        if visit in self._lately:
            self._lately.remove(visit)
        if visit.defect is None:
            self.counts.usable += 1
        else:
            self.counts.unusable[visit.defect] += 1

    def _send(self, visit: _Visit, shots: list[Shot[View]]) -> list[Sending]:
        sendings = []
        for shot in shots:
            sendings.append(Sending(visit.id, visit.number, shot.worth, shot.payload))
            visit.number += 1
            visit.once = False
            self._repeats.sent(visit.id, shot.at_s)
        return sendings


def _within_reach(left: Float32Array, right: Float32Array, gap_s: float) -> bool:
    """Whether a face may have come from one box to the other in so many seconds."""
    size, other = float((left[2:] - left[:2]).mean()), float((right[2:] - right[:2]).mean())
    if not 1 / _SIZE_RATIO <= other / max(size, 1e-3) <= _SIZE_RATIO:
        return False
    apart = np.linalg.norm((left[:2] + left[2:]) / 2 - (right[:2] + right[2:]) / 2)
    return bool(apart <= (_REACH + _REACH_PER_S * gap_s) * max(size, other))
