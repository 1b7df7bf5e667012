"""Turns faces into L2-normalised vectors, with any ONNX network that an embedder table describes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import cv2
import numpy as np
from numpy.typing import NDArray

from shared.domain import Embeddings, Face, Float32Array, UInt8Array
from shared.errors import InvalidInput
from shared.vision._onnx import open_session
from shared.vision.assets import EmbedderTable, ModelCache

ALIGNED_PX: Final = 112
ALIGNED_POINTS: Final[Float32Array] = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]], np.float32
)
"""Where the five landmarks go in a 112 × 112 crop: the template of ArcFace (Deng et al. 2019), which SFace shares."""


class OnnxEmbedder:
    """An embedder of an ONNX network. One instance may be used from several threads at a time.

    Args:
        table: how the network is fed.
        cache: where its file is.
        threads: inside one run, see `_onnx.open_session`.
    """

    def __init__(self, table: EmbedderTable, cache: ModelCache, *, threads: int = 1) -> None:
        self._table = table
        self._session = open_session(cache.path(table.file), threads=threads)
        self._input: str = self._session.get_inputs()[0].name

    @property
    def embedder_id(self) -> str:
        """Names weights and preprocessing; vectors of different ids are never compared."""
        return self._table.embedder_id

    @property
    def dimension(self) -> int:
        return self._table.dimension

    def embed(self, images: Sequence[UInt8Array], faces: Sequence[Face]) -> Embeddings:
        """(N, dimension) float32, L2-normalised, one row for each image and the face found in it.

        Args:
            images: RGB (H, W, 3) uint8; the same image may be given several times.
            faces: in pixels of their images.

        Raises:
            InvalidInput: this embedder aligns on landmarks and a face has none.
        """
        return Embeddings(self.embedder_id, _normalised(self._rows(images, faces, mirrored=False)))

    def embed_reference(self, images: Sequence[UInt8Array], faces: Sequence[Face]) -> Embeddings:
        """Embeddings for the gallery: the mean of each face's and its mirror image's. Arguments and errors as `embed`.

        It takes twice the time, once in a template's life; probes are compared by the one crop.
        """
        both = [_normalised(self._rows(images, faces, mirrored=mirrored)) for mirrored in (False, True)]
        return Embeddings(self.embedder_id, _normalised(both[0] + both[1]))

    def _rows(self, images: Sequence[UInt8Array], faces: Sequence[Face], *, mirrored: bool) -> Float32Array:
        """(N, dimension) as the network gives them."""
        size, batch = self._table.input_px, self._table.batch
        rows = np.empty((len(faces), self.dimension), np.float32)
        pairs = list(zip(images, faces, strict=True))
        for start in range(0, len(pairs), batch):
            part = pairs[start : start + batch]
            crops = np.empty((len(part), size, size, 3), np.uint8)
            for crop, (image, face) in zip(crops, part, strict=True):
                found = self.crop(image, face)
                crop[:] = found[:, ::-1] if mirrored else found
            rows[start : start + len(part)] = self._session.run(None, {self._input: self._pixels(crops)})[0]
        return rows

    def crop(self, image: UInt8Array, face: Face) -> UInt8Array:
        """What the network sees of one face: (input_px, input_px, 3) uint8 RGB.

        Raises:
            InvalidInput: this embedder aligns on landmarks and the face has none.
        """
        size = self._table.input_px
        if self._table.crop == "margin":
            return crop_with_margin(image, face.box, size, self._table.margin_px)
        if face.landmarks is None:
            raise InvalidInput(f"{self.embedder_id} aligns faces on five landmarks, and this detector gives none")
        return align(image, face.landmarks, size)

    def _pixels(self, crops: UInt8Array) -> Float32Array:
        ordered = crops if self._table.colour == "rgb" else crops[..., ::-1]
        moved = ordered.transpose(0, 3, 1, 2) if self._table.layout == "nchw" else ordered
        pixels: Float32Array = np.ascontiguousarray(moved, dtype=np.float32)
        pixels -= self._table.mean
        pixels *= self._table.scale
        return pixels


def _normalised(rows: Float32Array) -> Float32Array:
    """Rows scaled to unit length; zero stays zero."""
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: Float32Array = rows / np.maximum(lengths, np.finfo(np.float32).tiny)
    return unit


def crop_with_margin(image: UInt8Array, box: Float32Array, size_px: int, margin_px: int) -> UInt8Array:
    """The box with a margin, scaled to `size_px` × `size_px`.

    The margin is the same on all four sides, as in the published preprocessing (16 of its pixels), but relative to
    the face, so that a face looks the same from near and from far. Beyond the image's edge its last pixels are
    repeated, so that the face keeps its proportions: of the ways tried on LFW this separates people best.

    Args:
        margin_px: both sides together, in pixels of the result, for a face whose longer side fills the rest.
    """
    height, width = image.shape[:2]
    margin = float((box[2:] - box[:2]).max()) * margin_px / (size_px - margin_px) / 2
    x1, y1 = np.floor(box[:2] - margin).astype(int)
    x2, y2 = np.maximum(np.ceil(box[2:] + margin).astype(int), (x1 + 1, y1 + 1))
    if min(x1, y1) >= 0 and x2 <= width and y2 <= height:
        patch = image[y1:y2, x1:x2]
    else:
        patch = image[np.ix_(np.arange(y1, y2).clip(0, height - 1), np.arange(x1, x2).clip(0, width - 1))]
    way = cv2.INTER_AREA if len(patch) > size_px else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(patch, (size_px, size_px), interpolation=way), np.uint8)


def similarity_transform(points: Float32Array, targets: Float32Array) -> NDArray[np.float64]:
    """(2, 3) the turn, scale and shift that brings `points` nearest to `targets` (least squares, no mirroring).

    Closed form of Umeyama, "Least-squares estimation of transformation parameters" (1991), which in the plane needs
    no decomposition: with complex numbers the factor is one division.

    >>> similarity_transform(np.float32([[0, 0], [1, 0]]), np.float32([[1, 1], [1, 3]])).round(6).tolist()
    [[0.0, -2.0, 1.0], [2.0, 0.0, 1.0]]
    """
    source = points[:, 0].astype(np.float64) + 1j * points[:, 1]
    target = targets[:, 0].astype(np.float64) + 1j * targets[:, 1]
    centred = source - source.mean()
    spread = max(float((abs(centred) ** 2).sum()), 1e-9)
    factor = (centred.conj() * (target - target.mean())).sum() / spread
    shift = target.mean() - factor * source.mean()
    return np.array([[factor.real, -factor.imag, shift.real], [factor.imag, factor.real, shift.imag]])


def align(image: UInt8Array, landmarks: Float32Array, size_px: int) -> UInt8Array:
    """The face turned, scaled and shifted so that its five landmarks are at the usual places.

    Args:
        landmarks: (5, 2) in the order of `Face`.
    """
    targets = ALIGNED_POINTS * np.float32(size_px / ALIGNED_PX)
    matrix = similarity_transform(landmarks, targets)
    reduction = 1 / max(float(np.hypot(matrix[0, 0], matrix[1, 0])), 1e-6)
    if reduction >= 2:  # sampling a large face at 112 px without averaging first would show moiré
        image, matrix = _reduce(image, landmarks, matrix, int(reduction))
    return np.asarray(cv2.warpAffine(image, matrix, (size_px, size_px), flags=cv2.INTER_LINEAR), np.uint8)


def _reduce(
    image: UInt8Array, landmarks: Float32Array, matrix: NDArray[np.float64], times: int
) -> tuple[UInt8Array, NDArray[np.float64]]:
    """The neighbourhood of the landmarks, `times` smaller, and `matrix` for its pixels."""
    height, width = image.shape[:2]
    reach = float(np.ptp(landmarks, axis=0).max()) * 2
    centre = landmarks.mean(axis=0)
    x1, y1 = np.clip(np.floor(centre - reach), 0, (width - 1, height - 1)).astype(int)
    x2, y2 = np.clip(np.ceil(centre + reach), (x1 + 1, y1 + 1), (width, height)).astype(int)
    patch = image[y1:y2, x1:x2]
    size = (max((x2 - x1) // times, 1), max((y2 - y1) // times, 1))
    small = np.asarray(cv2.resize(patch, size, interpolation=cv2.INTER_AREA), np.uint8)
    factor_x, factor_y = patch.shape[1] / size[0], patch.shape[0] / size[1]
    # A pixel's centre is at +0.5 in both pictures, so x = (u + 0.5) · factor − 0.5 + x1.
    back = np.array(
        [[factor_x, 0, factor_x / 2 - 0.5 + x1], [0, factor_y, factor_y / 2 - 0.5 + y1], [0, 0, 1]], np.float64
    )
    return small, matrix @ back
