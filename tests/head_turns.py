"""Clips of a head turn for tests: composed from one photograph, or cut out of a longer clip."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from shared.domain import Face, UInt8Array

FPS = 20.0


def turned(photo: UInt8Array, face: Face, degrees: float, nod: float = 0.0) -> UInt8Array:
    """The photograph as if the head had turned: a face has depth, and what is nearer moves further.

    A head is modelled as a bump with a smaller one, the nose, on it. It is good enough for five landmarks to move as
    in a turning head; no embedder would be fooled.

    Args:
        degrees: to the right of the picture. A detector believes about a third of it.
        nod: degrees, downwards.
    """
    assert face.landmarks is not None
    unit = float(np.linalg.norm(face.landmarks[1] - face.landmarks[0]))
    x, y = face.landmarks[2]
    rows, columns = np.mgrid[: photo.shape[0], : photo.shape[1]].astype(np.float32)
    sine, nodding = np.float32(np.sin(np.deg2rad(degrees))), np.float32(np.sin(np.deg2rad(nod)))
    from_x, from_y = columns.copy(), rows.copy()
    for _ in range(8):  # where a pixel comes from depends on the depth there
        dx, dy = (from_x - x) / unit, (from_y - y) / unit
        depth = 0.9 * np.exp(-((dx / 1.4) ** 2) - (dy / 1.6) ** 2) + 0.4 * np.exp(-((dx / 0.4) ** 2) - (dy / 0.4) ** 2)
        from_x, from_y = columns - sine * unit * depth, rows - nodding * unit * depth
    return np.asarray(cv2.remap(photo, from_x, from_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE), np.uint8)


def compose_turn(path: Path, photo: UInt8Array, face: Face, *, seconds: float = 4.0, reach: float = 75.0) -> None:
    """Writes a clip in which the face turns from left to right, nods, and drifts a little."""
    noise = np.random.default_rng(0)
    writer = _open(path, photo)
    frames = int(seconds * FPS)
    for number in range(frames):
        way = number / (frames - 1)
        if way < 0.75:
            image = turned(photo, face, reach * (2 * way / 0.75 - 1))
        else:
            image = turned(photo, face, 0.0, 60 * float(np.sin((way - 0.75) * 8 * np.pi)))
        shift = np.float32([[1, 0, 4 * np.sin(way * 7)], [0, 1, 3 * np.cos(way * 5)]])
        image = cv2.warpAffine(image, shift, image.shape[1::-1], borderMode=cv2.BORDER_REPLICATE)
        grain = noise.normal(0, 2, image.shape[:2])[..., None]
        write(writer, np.clip(image + grain, 0, 255).astype(np.uint8))
    writer.release()


def compose_still(path: Path, photos: list[UInt8Array], *, each: int = 30) -> None:
    """Writes photographs one after the other, each for some frames, on a canvas of the first one's size."""
    writer = _open(path, photos[0])
    for photo in photos:
        for _ in range(each):
            write(writer, photo)
    writer.release()


def cut_clip(path: Path, source: Path, first: int, last: int) -> None:
    """Writes frames `first` to `last` of another clip."""
    capture = cv2.VideoCapture(str(source))
    capture.set(cv2.CAP_PROP_POS_FRAMES, first)
    writer = None
    for _ in range(last - first):
        ok, image = capture.read()
        assert ok, "the clip is shorter than that"
        writer = writer or _open(path, image, capture.get(cv2.CAP_PROP_FPS))
        writer.write(image)
    capture.release()
    assert writer is not None
    writer.release()


def write(writer: cv2.VideoWriter, image: UInt8Array) -> None:
    writer.write(cv2.cvtColor(image, cv2.COLOR_RGB2BGR))


def _open(path: Path, image: UInt8Array, fps: float = FPS) -> cv2.VideoWriter:
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (image.shape[1], image.shape[0]))
    assert writer.isOpened()
    return writer
