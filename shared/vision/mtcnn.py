"""MTCNN over onnxruntime: verifies candidates and finds the five landmarks.

Three networks, each throwing out what the one before let through: the first slides over an image pyramid, the second
and third look at the surviving boxes. The networks were trained on transposed images (their authors' tool stores
columns first), so the image is transposed once at the start and everything below is x first.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from onnxruntime import InferenceSession

from shared.domain import Face, Float32Array, UInt8Array
from shared.vision import _mtcnn_ops as ops
from shared.vision._onnx import open_session
from shared.vision.assets import ModelCache, MtcnnTable
from shared.vision.boxes import nms, square
from shared.vision.pixels import in_order

_MAX_CANDIDATES: Final = 2_000
"""Boxes kept after each stage, the best first; a 12 megapixel crowd has a few hundred."""
_MAX_PLACES: Final = 8_000
"""Places kept of one pyramid level before overlapping ones are suppressed, which takes time with their square."""
_STRIP_PIXELS: Final = 200_000
"""Of a pyramid level scanned at a time: some 30 MB inside the network."""
_REFINE_BATCH: Final = 16
_OUTPUT_BATCH: Final = 8
"""Crops in one run. Larger batches leave the processor's cache: 0.10 ms a crop at 16, 0.12 ms at 128."""
_INCLUSIVE: Final = np.array([0, 0, 1, 1], np.float32)
"""Makes the sides of a box count as pixels of it, as the last suppression of the reference has it."""


class MtcnnDetector:
    """Finds faces with five landmarks. One instance may be used from several threads at a time.

    Args:
        cache: where the three networks are.
        min_face_px: smallest face looked for, unless a call says otherwise; the time goes with its inverse square.
        thresholds: lowest face probability after each of the three networks.
        table: other networks of the same kind than the built-in ones.
    """

    def __init__(
        self,
        cache: ModelCache,
        *,
        min_face_px: float = 20,
        thresholds: tuple[float, float, float] | None = None,
        table: MtcnnTable | None = None,
        threads: int = 1,
    ) -> None:
        if table is None:
            found = cache.registry.detector["mtcnn"]
            assert isinstance(found, MtcnnTable)  # noqa: S101 (built in)
            table = found
        self._table = table
        self._min_face_px = min_face_px
        self._thresholds = thresholds or table.thresholds
        files = {name: cache.path(artefact) for name, artefact in table.files.items()}
        self._proposals = open_session(files["pnet"], reuse_memory=False, threads=threads)
        self._refinement = open_session(files["rnet"], threads=threads)
        self._output = open_session(files["onet"], threads=threads)

    @property
    def detector_id(self) -> str:
        return self._table.detector_id

    def detect(
        self, image: UInt8Array, *, min_face_px: float | None = None, max_face_px: float | None = None
    ) -> list[Face]:
        """Faces in falling order of confidence, with landmarks.

        Args:
            image: (H, W, 3) uint8 RGB.
            min_face_px: smallest face looked for.
            max_face_px: largest face expected; fewer pyramid levels are computed. Larger faces may still be found.
        """
        height, width = image.shape[:2]
        scales = ops.pyramid(width, height, max(min_face_px or self._min_face_px, ops.WINDOW_PX), max_face_px)
        transposed: UInt8Array = np.ascontiguousarray(in_order(image).transpose(1, 0, 2))
        means = ops.Means(transposed)
        boxes = self._propose(means, scales)
        boxes = self._refine(means, boxes)
        return self._finish(means, boxes)

    def _propose(self, means: ops.Means, scales: list[float]) -> Float32Array:
        """(N, 4) square boxes of the first network, over all scales together."""
        found = []
        for scale in scales:
            boxes, scores, offsets = self._scan(means, scale)
            best = np.argsort(-scores, kind="stable")[:_MAX_PLACES]
            kept = best[nms(boxes[best], scores[best], 0.5)]
            found.append((boxes[kept], scores[kept], offsets[kept]))
        if not found:
            return np.zeros((0, 4), np.float32)
        boxes, scores, offsets = (np.concatenate(parts) for parts in zip(*found, strict=True))
        kept = nms(boxes, scores, 0.7)[:_MAX_CANDIDATES]
        return square(ops.shift(boxes[kept], offsets[kept], inclusive=0))

    def _scan(self, means: ops.Means, scale: float) -> tuple[Float32Array, Float32Array, Float32Array]:
        """Where the first network sees a face at one scale: boxes, scores, offsets.

        A large level is scanned in strips, so that memory is bounded. They overlap by the window less one step, and
        begin at even places, so that every window is seen once and the network's steps of two fall as in one piece.
        """
        x, y = (ops.bins(size, int(size * scale + 1)) for size in (means.width, means.height))
        step = max(_STRIP_PIXELS // len(y), 2 * ops.WINDOW_PX) // 2 * 2
        overlap = ops.WINDOW_PX - ops.STRIDE_PX
        parts = []
        for start in range(0, max(len(x) - overlap, 1), step):
            level = means.over(x.part(start, start + step + overlap), y)
            regression, probability = _run(self._proposals, level[None])
            parts.append((probability[0, ..., 1], regression[0]))
        face, offsets = (np.concatenate(maps) for maps in zip(*parts, strict=True))
        return ops.windows(face, offsets, scale, self._thresholds[0])

    def _refine(self, means: ops.Means, boxes: Float32Array) -> Float32Array:
        """(N, 4) square boxes that the second network keeps."""
        offsets, probability = _run_batched(self._refinement, means, boxes, 24, _REFINE_BATCH, outputs=(4, 2))
        scores = probability[:, 1]
        sure = np.flatnonzero(scores > self._thresholds[1])
        kept = sure[nms(boxes[sure], scores[sure], 0.7)]
        return square(ops.shift(boxes[kept], offsets[kept], inclusive=1))

    def _finish(self, means: ops.Means, boxes: Float32Array) -> list[Face]:
        """The third network's faces."""
        offsets, relative, probability = _run_batched(self._output, means, boxes, 48, _OUTPUT_BATCH, outputs=(4, 10, 2))
        scores = probability[:, 1]
        sure = np.flatnonzero(scores > self._thresholds[2])
        landmarks = ops.place_landmarks(boxes[sure], relative[sure])
        final = ops.shift(boxes[sure], offsets[sure], inclusive=1)
        kept = nms(final + _INCLUSIVE, scores[sure], 0.7, "smaller")
        return [Face(final[index], float(scores[sure[index]]), landmarks[index]) for index in kept]


def _run(session: InferenceSession, pixels: Float32Array) -> list[Float32Array]:
    """One run of a network; its outputs in its own order."""
    outputs: list[Float32Array] = session.run(None, {session.get_inputs()[0].name: pixels})
    return outputs


def _run_batched(
    session: InferenceSession,
    means: ops.Means,
    boxes: Float32Array,
    size_px: int,
    batch: int,
    outputs: tuple[int, ...],
) -> list[Float32Array]:
    """The network's outputs for the pixels of every box, (N, width) for each width in `outputs`."""
    parts = [_run(session, means.crops(boxes[start : start + batch], size_px)) for start in range(0, len(boxes), batch)]
    if not parts:
        return [np.zeros((0, width), np.float32) for width in outputs]
    return [np.concatenate(arrays) for arrays in zip(*parts, strict=True)]
