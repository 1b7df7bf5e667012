"""Joins the faces of one person, frame by frame, to a track. Pure arithmetic; all state is per instance.

The association follows ByteTrack (Zhang et al., 2022): confident detections are matched first, and weak ones only
prolong tracks that have begun, so that a turned or half-hidden face does not break its track. Where ByteTrack has a
Kalman filter per frame, this has a constant-velocity (alpha-beta) filter in seconds, because a gateway's frame rate
is low and uneven; and where it has IoU alone, this adds the distance of centres, because at 8 frames a second a small
face moves by more than its own width, and how faces look, because people cross. docs/adr/0004-own-tracker.md says why
it is not a library.
"""

from __future__ import annotations

import secrets
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from scipy.optimize import linear_sum_assignment

from edge_uploader.selection.appearance import Appearance, Looks, appearance_of
from shared.domain import Face, Float32Array, UInt8Array

_POSITION_GAIN = 0.8
_VELOCITY_GAIN = 0.4
_SIZE_GAIN = 0.5
_VELOCITY_DECAY_S = 0.5
"""Without new detections a velocity is worth less and less: after this time a prediction hardly moves on."""
_MAX_STEP_S = 0.5
_SIZE_RATIO = 2.0
_UNSEEN_COST_PER_S = 0.5
_UNLIKE_COST = 0.6
_ALIKE, _UNLIKE = 0.6, 0.3
"""Likeness from which, and below which, a look tells that it is the same face, or another one (docs/adr/0004)."""
_LOOKS_KEPT = 6
"""Of each track: whoever is half hidden for a moment looks as before when they are seen again."""
_SHADOW = 0.9
"""A detection this near (in sizes) to a stronger one is another box on the same head, or a face half hidden by it."""
_INFEASIBLE = 1e6


class TrackState(Enum):
    """`TENTATIVE` until confirmed; `LOST` while not seen; `ENDED` for good."""

    TENTATIVE = "tentative"
    CONFIRMED = "confirmed"
    LOST = "lost"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class TrackerOptions:
    """How faces are joined.

    Attributes:
        high_confidence: detections from here on may begin a track and are matched first.
        confirm_hits: detections that make a track a confirmed one.
        confirm_confidence: one detection from here on confirms at once: in a slow stream a passer-by is seen only once.
        max_age_s: a confirmed track not seen for longer has ended.
        tentative_age_s: the same for one that was never confirmed.
        gate: furthest distance between a predicted and a detected centre, in face sizes.
        gate_new: the same for a track whose velocity is not known yet, having been seen once: at 8 frames a second
            somebody who walks past close by moves by 1.3 faces.
        gate_per_s: how much the gate widens for each second that the track was not seen.
        gate_alike, gate_alike_per_s: the same for a face that looks as the track did, which may be found further away.
        gate_unlike: the same for one that looks different, however long the track was not seen: it has to be where the
            track leads, as a head that turns is. It does not hold for a track that was seen once.
    """

    high_confidence: float = 0.6
    confirm_hits: int = 2
    confirm_confidence: float = 0.8
    max_age_s: float = 1.5
    tentative_age_s: float = 0.5
    gate: float = 0.8
    gate_new: float = 1.5
    gate_per_s: float = 1.5
    gate_alike: float = 1.5
    gate_alike_per_s: float = 2.0
    gate_unlike: float = 0.45


@dataclass(frozen=True, slots=True, eq=False)
class Sighting:
    """A face of a frame, and how it looks; None where looks do not matter."""

    face: Face
    look: Appearance | None = None


def sightings_of(image: UInt8Array, faces: Sequence[Face]) -> list[Sighting]:
    """The faces of an RGB image (H, W, 3) uint8, with their looks."""
    return [Sighting(face, appearance_of(image, face.box)) for face in faces]


@dataclass(slots=True, eq=False)
class Track:
    """One face over the frames of one camera.

    Attributes:
        id: unique per camera and run of the gateway.
        face: as it was seen last.
        first_seen_s, last_seen_s: position in the stream.
        hits: detections joined so far.
        confirmed: once true, stays true.
        looks: the last few, the newest last; none where looks do not matter.
    """

    id: str
    face: Face
    first_seen_s: float
    last_seen_s: float
    state: TrackState
    centre: Float32Array
    size: Float32Array
    velocity: Float32Array
    hits: int = 1
    confirmed: bool = False
    looks: deque[Appearance] = field(default_factory=lambda: deque(maxlen=_LOOKS_KEPT))

    def predict(self, at_s: float) -> Float32Array:
        """(4,) float32 xyxy: where the face should be at `at_s`, at constant velocity that fades while unseen."""
        elapsed = max(0.0, at_s - self.last_seen_s)
        travelled = _VELOCITY_DECAY_S * (1.0 - np.exp(-elapsed / _VELOCITY_DECAY_S))
        centre = self.centre + self.velocity * np.float32(travelled)
        return np.concatenate([centre - self.size / 2, centre + self.size / 2]).astype(np.float32)


@dataclass(frozen=True, slots=True)
class TrackerUpdate:
    """What one frame changed: tracks seen in it, and tracks that are over."""

    seen: list[Track]
    ended: list[Track]


def iou_matrix(left: Float32Array, right: Float32Array) -> Float32Array:
    """(N, M) intersection over union of xyxy boxes (N, 4) and (M, 4).

    >>> iou_matrix(np.float32([[0, 0, 2, 2]]), np.float32([[1, 0, 3, 2]])).round(3).tolist()
    [[0.3330000042915344]]
    """
    low = np.maximum(left[:, None, :2], right[None, :, :2])
    high = np.minimum(left[:, None, 2:], right[None, :, 2:])
    inside = np.clip(high - low, 0, None).prod(axis=2)
    area_left = (left[:, 2:] - left[:, :2]).prod(axis=1)
    area_right = (right[:, 2:] - right[:, :2]).prod(axis=1)
    union = area_left[:, None] + area_right[None, :] - inside
    return np.asarray(inside / np.maximum(union, 1e-6), dtype=np.float32)


def association_costs(predicted: Float32Array, detected: Float32Array, gates: Float32Array) -> Float32Array:
    """(N, M) costs of joining predicted boxes (N, 4) with detected ones (M, 4), from 0; impossible pairs are huge.

    Sums what speaks against a pair: missing overlap, distance of the centres in sizes, and difference in size (natural
    logarithm of the ratio). A pair is impossible when the centres are further apart than the gate, or one box is more
    than twice the other's size. The gate does not scale the cost: a track that was not seen for long may be found
    further away, but it is not for that a better match than one that was seen just now.

    Args:
        gates: (N, M) furthest distance, in sizes (geometric mean of both boxes' mean side).
    """
    sides_p = np.maximum((predicted[:, 2:] - predicted[:, :2]).mean(axis=1), 1.0)
    sides_d = np.maximum((detected[:, 2:] - detected[:, :2]).mean(axis=1), 1.0)
    centres_p = (predicted[:, :2] + predicted[:, 2:]) / 2
    centres_d = (detected[:, :2] + detected[:, 2:]) / 2
    apart = np.linalg.norm(centres_p[:, None] - centres_d[None], axis=2) / np.sqrt(sides_p[:, None] * sides_d[None])
    ratio = np.maximum(sides_p[:, None] / sides_d[None], sides_d[None] / sides_p[:, None])
    costs = 0.5 * (1.0 - iou_matrix(predicted, detected)) + 0.5 * apart + 0.5 * np.log(ratio)
    costs[(apart > gates) | (ratio > _SIZE_RATIO)] = _INFEASIBLE
    return np.asarray(costs, dtype=np.float32)


class Tracker:
    """The tracks of one camera. Not thread-safe: it belongs to the camera's thread.

    Args:
        options: see `TrackerOptions`.
        run: prefix of the ids, one for each run of the gateway, so that a restart never gives an id a second time.
    """

    def __init__(self, options: TrackerOptions | None = None, *, run: str | None = None) -> None:
        self._options = options or TrackerOptions()
        self._run = run or secrets.token_hex(4)
        self._count = 0
        self._tracks: list[Track] = []

    @property
    def tracks(self) -> Sequence[Track]:
        """Tracks that have not ended."""
        return tuple(self._tracks)

    def next_id(self) -> str:
        """An id that this tracker has not given before."""
        self._count += 1
        return f"{self._run}_{self._count}"

    def update(self, sightings: Sequence[Sighting], at_s: float) -> TrackerUpdate:
        """Joins the faces of one frame.

        Args:
            sightings: every detection above the low threshold.
            at_s: the frame's position in the stream; later than the last frame's.
        """
        ended = self.retire(at_s)
        strong = [one for one in sightings if one.face.confidence >= self._options.high_confidence]
        weak = [one for one in sightings if one.face.confidence < self._options.high_confidence]
        seen, tracks, strong = self._match(self._tracks, strong, at_s)
        # A weak detection is evidence only where a track that was seen a moment ago should be.
        recent = [track for track in tracks if track.state is not TrackState.LOST]
        more, tracks_left, _ = self._match(recent, weak, at_s)
        seen += more
        for track in tracks_left:
            if track.confirmed:
                track.state = TrackState.LOST
        for one in sorted(strong, key=lambda one: -one.face.confidence):
            if not any(_shadows(track.face, one.face) for track in seen):
                seen.append(self._begin(one, at_s))
        return TrackerUpdate(seen, ended)

    def retire(self, at_s: float) -> list[Track]:
        """Ends what was not seen for too long; `update` does so itself."""
        ages = {True: self._options.max_age_s, False: self._options.tentative_age_s}
        ended = [track for track in self._tracks if at_s - track.last_seen_s > ages[track.confirmed]]
        for track in ended:
            track.state = TrackState.ENDED
            self._tracks.remove(track)
        return ended

    def finish(self) -> list[Track]:
        """Ends every track, at the end of a stream."""
        ended, self._tracks = self._tracks, []
        for track in ended:
            track.state = TrackState.ENDED
        return ended

    def _match(
        self, tracks: Sequence[Track], sightings: Sequence[Sighting], at_s: float
    ) -> tuple[list[Track], list[Track], list[Sighting]]:
        """Joins what belongs together at the least total cost: matched tracks, tracks left, sightings left."""
        if not tracks or not sightings:
            return [], list(tracks), list(sightings)
        predicted = np.stack([track.predict(at_s) for track in tracks])
        detected = np.stack([one.face.box for one in sightings]).astype(np.float32)
        unseen_s = np.array([at_s - track.last_seen_s for track in tracks], dtype=np.float32)
        alike = _likenesses(tracks, sightings)
        costs = association_costs(predicted, detected, self._gates(tracks, unseen_s, alike))
        costs += _UNSEEN_COST_PER_S * unseen_s[:, None] + _UNLIKE_COST * (1.0 - alike)
        pairs = [(r, c) for r, c in zip(*linear_sum_assignment(costs), strict=True) if costs[r, c] < _INFEASIBLE]
        for row, column in pairs:
            self._join(tracks[row], sightings[column], at_s)
        rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
        return (
            [tracks[row] for row, _ in pairs],
            [track for i, track in enumerate(tracks) if i not in rows],
            [one for i, one in enumerate(sightings) if i not in columns],
        )

    def _gates(self, tracks: Sequence[Track], unseen_s: Float32Array, alike: Float32Array) -> Float32Array:
        """(N, M) furthest distances, in sizes, of (N, M) likenesses."""
        options = self._options
        new = np.array([track.hits == 1 for track in tracks])
        usual = np.where(new, options.gate_new, options.gate) + options.gate_per_s * unseen_s
        wide = np.maximum(usual, options.gate_alike + options.gate_alike_per_s * unseen_s)
        # Whoever was seen once may be going anywhere, and look like anything.
        narrow = np.where(new, usual, np.minimum(usual, options.gate_unlike))
        gates = np.where(alike < _UNLIKE, narrow[:, None], usual[:, None])
        return np.asarray(np.where(alike >= _ALIKE, wide[:, None], gates), dtype=np.float32)

    def _begin(self, one: Sighting, at_s: float) -> Track:
        centre, size = _centre_and_size(one.face)
        track = Track(
            self.next_id(), one.face, at_s, at_s, TrackState.TENTATIVE, centre, size, np.zeros(2, dtype=np.float32)
        )
        self._tracks.append(track)
        self._note(track, one)
        return track

    def _join(self, track: Track, one: Sighting, at_s: float) -> None:
        """Alpha-beta update of the position, smoothing of the size."""
        elapsed = max(at_s - track.last_seen_s, 1e-3)
        predicted = track.predict(at_s)
        expected = (predicted[:2] + predicted[2:]) / 2
        centre, size = _centre_and_size(one.face)
        error = centre - expected
        # The second detection is the first that tells a velocity; smoothing it from zero would lag by several frames.
        gain = 1.0 if track.hits == 1 else _VELOCITY_GAIN
        track.velocity = (track.velocity + np.float32(gain / max(elapsed, 1 / 30)) * error).astype(np.float32)
        if elapsed > _MAX_STEP_S:
            track.velocity *= np.float32(0.5)
        track.centre = (expected + np.float32(_POSITION_GAIN) * error).astype(np.float32)
        track.size = (track.size + np.float32(_SIZE_GAIN) * (size - track.size)).astype(np.float32)
        track.face, track.last_seen_s = one.face, at_s
        track.hits += 1
        self._note(track, one)

    def _note(self, track: Track, one: Sighting) -> None:
        """Its newest look, and whether it is confirmed by now."""
        options = self._options
        if one.look is not None:
            track.looks.append(one.look)
        track.confirmed = (
            track.confirmed or track.hits >= options.confirm_hits or track.face.confidence >= options.confirm_confidence
        )
        track.state = TrackState.CONFIRMED if track.confirmed else TrackState.TENTATIVE


def _likenesses(tracks: Sequence[Track], sightings: Sequence[Sighting]) -> Float32Array:
    """(N, M) how much each face looks like the look of each track that it resembles most; neither alike nor unlike
    where a look is not known, or too flat to tell, as in the dark."""
    known = np.full((len(tracks), len(sightings)), (_ALIKE + _UNLIKE) / 2, np.float32)
    telling = {column: one.look for column, one in enumerate(sightings) if one.look is not None and one.look.tells}
    if not telling:
        return known
    columns, looks = list(telling), Looks.of(list(telling.values()))
    for row, track in enumerate(tracks):
        if track_looks := [look for look in track.looks if look.tells]:
            known[row, columns] = Looks.of(track_looks).likenesses(looks).max(axis=0)
    return known


def _shadows(stronger: Face, face: Face) -> bool:
    """Whether `face` is too near to a more confident one to begin a track of its own."""
    if stronger.confidence < face.confidence:
        return False
    (centre, size), (other, other_size) = _centre_and_size(stronger), _centre_and_size(face)
    return bool(np.linalg.norm(centre - other) < _SHADOW * max(size.mean(), other_size.mean()))


def _centre_and_size(face: Face) -> tuple[Float32Array, Float32Array]:
    box = face.box.astype(np.float32)
    centre: Float32Array = ((box[:2] + box[2:]) / 2).astype(np.float32)
    return centre, (box[2:] - box[:2]).astype(np.float32)
