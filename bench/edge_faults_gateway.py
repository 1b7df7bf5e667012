"""The process that `bench.edge_faults` kills: a gateway's spool, uploader and store, with crops offered to it.

Before a crop is offered, that is written down and brought to the disk, and again when the spool has taken it: so it is
known after a kill what had been acknowledged.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path

import numpy as np

from edge_uploader.delivery.budget import Budget, BudgetLimits
from edge_uploader.delivery.spool import Spool, SpoolItem
from edge_uploader.delivery.state import StateFile
from edge_uploader.delivery.uploader import Uploader
from edge_uploader.settings import EdgeSettings
from shared.adapters.azure.access import AzureAccess
from shared.domain import Candidate, UInt8Array, parse_time, sha256_hex
from shared.errors import StoreFull
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image, encode_jpeg

PORTRAITS = {
    "demo_obama": (320, 20, 670, 490),
    "demo_biden": (330, 60, 810, 700),
    "demo_astronaut": (140, 10, 310, 225),
}
SHOTS_PER_VISIT = 3


@dataclass(frozen=True)
class Order:
    """What one process is to do.

    Attributes:
        camera: id, one for each fault.
        first, end: numbers of the crops that are offered, `end` not included.
        per_s: crops offered a second.
        captured_at: RFC 3339; crop n was taken n seconds later.
        live: at the bound the least valuable give way.
    """

    connection_string: str
    spool: str
    journal: str
    status: str
    camera: str
    first: int
    end: int
    per_s: float
    captured_at: str
    limit_bytes: int
    backoff_s: float
    backoff_max_s: float
    attempt_s: float
    live: bool = False


def portraits() -> list[UInt8Array]:
    """Crops of faces, about 120 × 160 px, from public-domain photographs."""
    cache, found = ModelCache(EdgeSettings().model_cache), []
    for name, (left, top, right, bottom) in PORTRAITS.items():
        image = decode_image(cache.path(name).read_bytes(), ImageLimits())
        step = max(1, (bottom - top) // 160)
        found.append(np.ascontiguousarray(image[top:bottom:step, left:right:step]))
    return found


def item(number: int, faces: list[UInt8Array], order: Order) -> SpoolItem:
    """The crop of this number. Noise of its own makes each one different."""
    face = faces[number // SHOTS_PER_VISIT % len(faces)].astype(np.int16)
    noise = np.random.default_rng(number).integers(-3, 4, face.shape, dtype=np.int16)
    data = encode_jpeg(np.clip(face + noise + number % 11 - 5, 0, 255).astype(np.uint8), 85)
    height, width = face.shape[:2]
    candidate = Candidate(
        site="bench",
        camera=order.camera,
        location="hall",
        captured_at=parse_time(order.captured_at) + timedelta(seconds=number),
        track=f"t{number // SHOTS_PER_VISIT}",
        shot=number % SHOTS_PER_VISIT,
        frame_box=(0, 0, width, height),
        frame_size=(1920, 1080),
        detector="bench",
        confidence=0.9,
        sha256=sha256_hex(data),
        uploader="bench",
    )
    return SpoolItem(
        candidate.blob_name,
        data,
        candidate.to_metadata(),
        candidate.to_tags(),
        worth=(number * 37 % 100) / 100,
        shot=candidate.shot,
    )


class Journal:
    """Lines that are on the disk when `write` returns."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def write(self, line: str) -> None:
        os.write(self._descriptor, f"{line}\n".encode())
        os.fsync(self._descriptor)


def offer(order: Order, spool: Spool, stop: threading.Event) -> None:
    """Offers the crops; while there is no room, waits as a camera does."""
    faces, journal = portraits(), Journal(Path(order.journal))
    for number in range(order.first, order.end):
        began = time.monotonic()
        made = item(number, faces, order)
        journal.write(f"offered {number} {made.metadata['sha256']} {made.metadata['captured_at']} {made.name}")
        while True:
            try:
                taken = spool.put(made, make_room=order.live)
                break
            except StoreFull:
                if stop.wait(0.05):
                    return
        journal.write(f"{'taken' if taken else 'dropped'} {number}")
        if stop.wait(max(0.0, 1 / order.per_s - (time.monotonic() - began))):
            return


def main() -> None:
    """Works until everything was offered and the spool is empty, or it is told to stop."""
    order = Order(**json.loads(sys.argv[1]))
    folder, stop = Path(order.spool), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    began = time.monotonic()
    spool = Spool(folder, limit_bytes=order.limit_bytes)
    start_s = time.monotonic() - began
    uploader = Uploader(
        spool,
        # As `open_blob_store` makes it for an account; of an emulator that would ask for its containers first.
        AzureAccess(connection_string=order.connection_string).single_attempt().blob_store(),
        # A limit that is never reached: so that its file is written, killed and read again.
        budget=Budget(BudgetLimits(10**12), clock=spool.clock, file=StateFile(folder / "budget.json")),
        backoff_s=order.backoff_s,
        backoff_max_s=order.backoff_max_s,
        attempt_s=order.attempt_s,
    )
    uploader.start()
    producer = threading.Thread(target=offer, args=(order, spool, stop), daemon=True)
    producer.start()
    status = StateFile(Path(order.status))
    while not stop.is_set() and (producer.is_alive() or spool.waiting):
        time.sleep(0.1)
        status.write(_figures(spool, uploader, start_s))
    uploader.stop()
    status.write(_figures(spool, uploader, start_s))
    spool.close()


def _figures(spool: Spool, uploader: Uploader, start_s: float) -> dict[str, float]:
    counts = asdict(spool.counts) | asdict(uploader.counts)
    return counts | {"waiting": spool.waiting, "start_s": round(start_s, 4), "hour": uploader.budget().hour_bytes}


if __name__ == "__main__":
    main()
