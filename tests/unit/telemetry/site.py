"""A site in small: a camera, its gateway, the store, and the recogniser; real but for the vision."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

from edge_uploader.camera import Camera, CameraOptions
from edge_uploader.capture.sources import Frame, SourceCounts
from edge_uploader.delivery.spool import Spool
from edge_uploader.delivery.uploader import Uploader
from edge_uploader.gateway import Gateway
from functions.recognize.service import DetectionService, Recognizer
from shared.bootstrap import Stores
from shared.domain import CANDIDATES, Outcome, UInt8Array
from shared.matching.model import MatcherModel
from shared.ports import BlobStore
from shared.vision.decode import ImageLimits
from shared.vision.quality import QualityGate
from tests.support import NOW, PatchDetector, TickingClock, serving
from tests.unit.edge.fakes import assess, encode


class Pictures:
    """A source of unrelated pictures."""

    continuous = False
    problem = None

    def __init__(self, pictures: Sequence[UInt8Array]) -> None:
        self.counts = SourceCounts()
        self._pictures = pictures

    def frames(self):
        for index, image in enumerate(self._pictures):
            yield Frame(image, NOW - timedelta(seconds=3) + timedelta(seconds=index / 10), index, index / 10)

    def close(self) -> None: ...


def run_gateway(folder: Path, blobs: BlobStore, pictures: Sequence[UInt8Array]) -> None:
    """Sends every face of the pictures to the store."""
    spool = Spool(folder)
    camera = Camera(
        "door",
        Pictures(pictures),
        PatchDetector(),
        spool,
        CameraOptions("hq", "hall", min_face_px=20),
        assess=assess,
        encode=encode,
    )
    gateway = Gateway("hq", [camera], spool, Uploader(spool, blobs, threads=1, backoff_s=0.01, backoff_max_s=0.02))
    report = gateway.run(threading.Event())
    assert report.waiting == 0 and not report.failed


def recogniser(stores: Stores, model: MatcherModel) -> DetectionService:
    return DetectionService(
        recognizer=Recognizer(
            serving=lambda: serving(model),
            gate=QualityGate(min_size_px=20, min_sharpness=0, min_confidence=0.9),
            limits=ImageLimits(max_bytes=1_000_000, max_pixels=4_000_000),
            max_faces=5,
            slot=threading.Semaphore(1),
        ),
        detections=stores.detections,
        store_unknown_embeddings=True,
        clock=TickingClock(),
    )


def work_off(service: DetectionService, blobs: BlobStore) -> list[Outcome]:
    """Gives every stored candidate to the recogniser, with its metadata as the store gives them back."""
    names = [blob.name for blob in blobs.list(CANDIDATES)]
    found = [blobs.get(CANDIDATES, name) for name in names]
    return [service.store_candidate(blob.properties.name, blob.data, blob.properties.metadata) for blob in found]
