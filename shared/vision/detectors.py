"""The detectors behind `ports.Detector`, and the factories that make a detector, an embedder or a pack by name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import cv2
import numpy as np

from shared.domain import Face, Float32Array, UInt8Array
from shared.errors import ConfigurationError
from shared.ports import Detector
from shared.vision._onnx import open_session
from shared.vision.assets import CornerBoxesTable, EmbedderTable, ModelCache, MtcnnTable, YunetTable, resolve_pack
from shared.vision.boxes import nms
from shared.vision.embedders import OnnxEmbedder
from shared.vision.mtcnn import MtcnnDetector
from shared.vision.pixels import in_order

_CELLS: Final = (8, 16, 32)
_YUNET_OUTPUTS: Final = [f"{kind}_{cell}" for kind in ("cls", "obj", "bbox", "kps") for cell in _CELLS]


class YunetDetector:
    """YuNet, with landmarks. May be used from several threads at a time.

    Three grids of cells of 8, 16 and 32 px: each cell says how sure it is of a face, and where that face and its
    landmarks are in cells from its own corner (Wu et al. 2023, "YuNet: A Tiny Millisecond-level Face Detector").

    Args:
        table: which network, and with which threshold.
        input_px: the longer side to which a picture is reduced first, None for the table's; larger finds smaller
            faces (about 10 px at this size), and takes time with its square.
        threshold: lowest confidence; None for the table's.
        threads: inside one run, see `_onnx.open_session`.
    """

    def __init__(
        self,
        table: YunetTable,
        cache: ModelCache,
        *,
        input_px: int | None = None,
        threshold: float | None = None,
        threads: int = 1,
    ) -> None:
        self._table = table
        self._input_px = input_px or table.input_px
        self._threshold = table.threshold if threshold is None else threshold
        # Pictures of many sizes: a plan kept for each would only cost memory, and saves no time.
        self._session = open_session(cache.path(table.files["model"]), plan_memory=False, threads=threads)
        self._input: str = self._session.get_inputs()[0].name

    @property
    def detector_id(self) -> str:
        return self._table.detector_id

    def detect(self, image: UInt8Array) -> list[Face]:
        """Faces of an RGB image (H, W, 3) uint8, in falling order of confidence, with landmarks."""
        image = in_order(image)
        height, width = image.shape[:2]
        scale = min(1.0, self._input_px / max(height, width))
        size = (max(round(width * scale), 1), max(round(height * scale), 1))
        small = cv2.resize(image, size, interpolation=cv2.INTER_AREA) if scale < 1 else image
        right, below = -size[0] % _CELLS[-1], -size[1] % _CELLS[-1]
        pixels = np.zeros((1, 3, size[1] + below, size[0] + right), np.float32)
        # The network was trained on BGR, 0 to 255. OpenCV's own way to it takes three times as long.
        for plane, channel in zip(reversed(pixels[0]), cv2.split(small), strict=True):
            plane[: size[1], : size[0]] = channel
        outputs = self._session.run(_YUNET_OUTPUTS, {self._input: pixels})
        found = []
        for index, cell in enumerate(_CELLS):
            face, seen, box, points = outputs[index :: len(_CELLS)]
            found.append(_yunet_cells(face, seen, box, points, cell, pixels.shape[3] // cell, self._threshold))
        confidences, boxes, landmarks = (np.concatenate(parts) for parts in zip(*found, strict=True))
        back = np.array([width / size[0], height / size[1]] * 2, np.float32)
        return [
            Face(boxes[index] * back, float(confidences[index]), landmarks[index] * back[:2])
            for index in nms(boxes, confidences, self._table.nms_iou)
        ]


def _yunet_cells(
    face: Float32Array,
    seen: Float32Array,
    boxes: Float32Array,
    landmarks: Float32Array,
    cell: int,
    columns: int,
    threshold: float,
) -> tuple[Float32Array, Float32Array, Float32Array]:
    """Confidences (N,), boxes (N, 4) xyxy and landmarks (N, 5, 2) of one grid's faces, in pixels of the input.

    Args:
        face, seen: (1, C, 1) how sure a cell is that this is a face, and that it is seen at all, 0 to 1.
        boxes: (1, C, 4) centre, and the logarithm of the size.
        landmarks: (1, C, 10).
        cell: side of a cell in pixels.
    """
    sure = np.flatnonzero(face[0, :, 0] * seen[0, :, 0] >= threshold**2)
    confidences: Float32Array = np.sqrt(np.minimum(face[0, sure, 0], 1) * np.minimum(seen[0, sure, 0], 1))
    corners = np.stack([sure % columns, sure // columns], axis=1).astype(np.float32)
    centres = (corners + boxes[0, sure, :2]) * cell
    halves = np.exp(boxes[0, sure, 2:]) * (cell / 2)
    points = (landmarks[0, sure].reshape(-1, 5, 2) + corners[:, None]) * cell
    return confidences, np.concatenate([centres - halves, centres + halves], axis=1), points


class CornerBoxesDetector:
    """A one-shot network such as Ultra-Light: boxes, no landmarks. May be used from several threads at a time.

    Args:
        threshold: lowest confidence; None for the table's.
        threads: inside one run, see `_onnx.open_session`.
    """

    def __init__(
        self, table: CornerBoxesTable, cache: ModelCache, *, threshold: float | None = None, threads: int = 1
    ) -> None:
        self._table = table
        self._threshold = table.threshold if threshold is None else threshold
        self._session = open_session(cache.path(table.files["model"]), threads=threads)
        self._input: str = self._session.get_inputs()[0].name

    @property
    def detector_id(self) -> str:
        return self._table.detector_id

    def detect(self, image: UInt8Array) -> list[Face]:
        """Faces of an RGB image (H, W, 3) uint8, in falling order of confidence, without landmarks."""
        image = in_order(image)
        height, width = image.shape[:2]
        resized = cv2.resize(image, self._table.input_size, interpolation=cv2.INTER_LINEAR)
        ordered = resized if self._table.colour == "rgb" else resized[..., ::-1]
        pixels = (ordered.astype(np.float32) - np.float32(self._table.mean)) * np.float32(self._table.scale)
        scores, corners = self._session.run(None, {self._input: np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])})
        confidences: Float32Array = scores[0, :, 1]
        sure = np.flatnonzero(confidences > self._threshold)
        boxes: Float32Array = corners[0, sure] * np.array([width, height, width, height], np.float32)
        kept = nms(boxes, confidences[sure], self._table.nms_iou)
        return [Face(boxes[index], float(confidences[sure[index]])) for index in kept]


def load_detector(
    name: str,
    cache: ModelCache,
    *,
    threshold: float | None = None,
    input_px: int | None = None,
    min_face_px: float | None = None,
    threads: int = 1,
) -> Detector:
    """The detector of a table `[detector.NAME]`. Options that its kind does not have are left aside.

    Args:
        threshold: lowest confidence of a face; the table's when None.
        input_px: longer side of what YuNet sees.
        min_face_px: smallest face that MTCNN looks for.
        threads: inside one run.

    Raises:
        ConfigurationError: no such table.
        ModelUnavailable: its files are not in the cache.
    """
    table = cache.registry.detector.get(name)
    if isinstance(table, YunetTable):
        return YunetDetector(table, cache, input_px=input_px, threshold=threshold, threads=threads)
    if isinstance(table, CornerBoxesTable):
        return CornerBoxesDetector(table, cache, threshold=threshold, threads=threads)
    if isinstance(table, MtcnnTable):
        last = table.thresholds[2] if threshold is None else threshold
        thresholds = (table.thresholds[0], table.thresholds[1], last)
        return MtcnnDetector(cache, min_face_px=min_face_px or 20, thresholds=thresholds, table=table, threads=threads)
    raise ConfigurationError(f"detector {name!r} is none of {', '.join(sorted(cache.registry.detector))}")


def load_embedder(name: str, cache: ModelCache, *, threads: int = 1) -> OnnxEmbedder:
    """The embedder of a table `[embedder.NAME]`.

    Raises:
        ConfigurationError: no such table.
        ModelUnavailable: its file is not in the cache.
    """
    table = cache.registry.embedder.get(name)
    if table is None:
        raise ConfigurationError(f"embedder {name!r} is none of {', '.join(sorted(cache.registry.embedder))}")
    return OnnxEmbedder(table, cache, threads=threads)


@dataclass(frozen=True, slots=True)
class Pack:
    """A detector and an embedder that belong together.

    Attributes:
        table: how the embedder is fed, and its default threshold; a model bundle repeats it.
    """

    name: str
    detector: Detector
    embedder: OnnxEmbedder
    table: EmbedderTable


def load_pack(setting: str, cache: ModelCache, *, min_face_px: float | None = None, threads: int = 1) -> Pack:
    """The pack that the setting `pack` names: a built-in one, or the path of a manifest.

    Raises:
        ConfigurationError: no such pack, or a manifest that cannot work.
        ModelUnavailable: its files are not there.
    """
    registry, name = resolve_pack(setting)
    cache = ModelCache(cache.directory, registry)
    pack = registry.pack[name]
    return Pack(
        name,
        load_detector(pack.detector, cache, min_face_px=min_face_px, threads=threads),
        load_embedder(pack.embedder, cache, threads=threads),
        registry.embedder[pack.embedder],
    )
