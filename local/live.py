"""Recognition of a video while a person watches: every face of every frame looked at is asked for, and drawn."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Final

import cv2

from edge_uploader.capture.sources import Frame
from edge_uploader.gateway import crop_options, load_edge_detector, open_source
from edge_uploader.selection.crops import crop_region, cut, long_axis_px
from edge_uploader.settings import EdgeSettings
from local.client import Client
from local.draw import RED, Box, draw_boxes, judged
from shared.domain import UNKNOWN, Face, UInt8Array
from shared.errors import InvalidInput
from shared.vision.decode import encoder_of

GIVE_UP_S: Final = 15.0
"""A camera or stream that gives no frame for so long is given up."""


class LiveRecognition:
    """Detects here, asks the service for each face, draws the answers.

    Args:
        min_size, max_size: of a face's long axis in pixels; smaller ones are left out, larger ones sent scaled down.
        min_confidence: from which on a name is shown.
        parallel: faces under way at a time.
    """

    def __init__(self, client: Client, *, min_size: int, max_size: int, min_confidence: float, parallel: int) -> None:
        self._client = client
        self._settings = EdgeSettings()
        self._detector = load_edge_detector(self._settings)
        self._min_size = min_size
        self._crops = crop_options(self._settings.model_copy(update={"edge_max_face_px": max_size}))
        self._min_confidence = min_confidence
        self._parallel = parallel

    def run(
        self,
        source: str,
        output: Path,
        *,
        fps: float,
        skip_frames: int,
        seconds: float,
        on_frame: Callable[[], None],
    ) -> dict[str, Any]:
        """Works through `source` and writes `output`; returns counts of frames, faces, and faces by person.

        Raises:
            SourceUnusable: it cannot be opened, or breaks off.
            InvalidInput: the video cannot be written.
        """
        # A person waits for this: what does not open is given up, and not tried for ever as a gateway would.
        settings = self._settings.model_copy(
            update={"edge_fps": fps, "edge_skip_frames": skip_frames, "edge_stream_give_up_s": GIVE_UP_S}
        )
        opened = open_source(source, settings)
        writer: cv2.VideoWriter | None = None
        counts, frames, faces = Counter[str](), 0, 0
        began = time.monotonic()
        try:
            with ThreadPoolExecutor(self._parallel) as pool:
                for frame in opened.frames():
                    boxes = list(pool.map(partial(self._judge, frame), self._faces(frame.image)))
                    counts.update(box.text.rsplit(" ", 1)[0] or UNKNOWN for box in boxes if box.colour != RED)
                    frames, faces = frames + 1, faces + len(boxes)
                    writer = writer or _open_writer(output, frame.image, fps or 25.0)
                    writer.write(cv2.cvtColor(draw_boxes(frame.image, boxes), cv2.COLOR_RGB2BGR))
                    on_frame()
                    if seconds and time.monotonic() - began > seconds:
                        break
        finally:
            opened.close()
            if writer is not None:
                writer.release()
        return {"frames": frames, "faces": faces, "people": dict(counts), "output": str(output)}

    def _faces(self, image: UInt8Array) -> list[Face]:
        threshold = self._settings.edge_high_confidence
        found = self._detector.detect(image)
        return [f for f in found if f.confidence >= threshold and long_axis_px(f) >= self._min_size]

    def _judge(self, frame: Frame, face: Face) -> Box:
        """Asks the service who one face is. Of several faces in a crop, the first is the one it is surest of."""
        height, width = frame.image.shape[:2]
        left, top, right, bottom = crop_region(face.box, 0.0, width, height)
        crop = cut(frame.image, face, frame.captured_at, self._crops, encoder_of(self._crops.format))
        answers = self._client.recognize(crop.data)
        label, confidence = None, 0.0
        if answers:
            label, confidence = answers[0]["top_prediction"]["label"], answers[0]["top_prediction"]["confidence"]
        colour, text = judged(label, confidence, self._min_confidence)
        return Box((left, top, right, bottom), colour, text)


def _open_writer(output: Path, image: UInt8Array, fps: float) -> cv2.VideoWriter:
    output.parent.mkdir(parents=True, exist_ok=True)
    writer = cv2.VideoWriter(str(output), cv2.VideoWriter.fourcc(*"mp4v"), fps, (image.shape[1], image.shape[0]))
    if not writer.isOpened():
        raise InvalidInput(f"{output} cannot be written as a video; use a name that ends in .mp4")
    return writer
