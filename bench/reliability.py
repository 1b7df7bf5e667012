"""Crops arrive while the service is killed: nothing may be lost, nothing stored twice. `make bench-reliability`.

Crops are put into the candidate container at a steady rate, as gateways do, while `serve` is killed (SIGKILL) at random
moments and started again. At the end every crop must have exactly one outcome, and every detected one exactly one
detection. Writes build/bench/reliability.json.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import threading
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from bench.report import OUTPUT, console, print_figures, write_report
from bench.report import run as run_bench
from bench.running import Serve
from local.client import Client
from shared.bootstrap import Stores, open_stores
from shared.domain import CANDIDATES, Candidate, UInt8Array, sha256_hex
from shared.ports import DetectionFilter
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image, encode_jpeg

FACE_SHARE = 0.6
"""So many of the crops show a face; the others are background, to be rejected."""


def crops(cache: ModelCache, random_: random.Random) -> tuple[list[UInt8Array], list[UInt8Array]]:
    """Crops with a face, and crops of background, from public-domain photographs."""
    faces, background = [], []
    for name, (left, top, right, bottom) in {
        "demo_obama": (320, 20, 670, 490),
        "demo_biden": (330, 60, 810, 700),
        "demo_astronaut": (140, 10, 310, 225),
    }.items():
        image = decode_image(cache.path(name).read_bytes(), ImageLimits())
        step = max(1, (bottom - top) // 160)
        faces.append(np.ascontiguousarray(image[top:bottom:step, left:right:step]))
        corner = random_.randrange(0, 40)
        background.append(np.ascontiguousarray(image[-140 - corner : -20 - corner, 5:105]))
    return faces, background


def candidate(number: int, image: UInt8Array, captured_at: datetime) -> tuple[Candidate, bytes]:
    """One crop as a gateway would send it; every one is different."""
    data = encode_jpeg(np.roll(image, number % 3, axis=1), 70 + number % 25)
    height, width = image.shape[:2]
    return (
        Candidate(
            site="bench",
            camera=f"cam{number % 4}",
            location="hall",
            captured_at=captured_at,
            track=f"t{number}",
            shot=0,
            frame_box=(0, 0, width, height),
            frame_size=(1920, 1080),
            detector="bench",
            confidence=0.9,
            sha256=sha256_hex(data),
            uploader="bench",
        ),
        data,
    )


def offer(stores: Stores, count: int, seconds: float, seed: int, cache: ModelCache) -> None:
    """Puts `count` crops into the container, evenly over `seconds`."""
    random_ = random.Random(seed)
    faces, background = crops(cache, random_)
    start, began = datetime.now(UTC), time.monotonic()
    for number in range(count):
        image = random_.choice(faces if random_.random() < FACE_SHARE else background)
        record, data = candidate(number, image, start + timedelta(milliseconds=10 * number))
        stores.blobs.put(
            CANDIDATES,
            record.blob_name,
            data,
            metadata=record.to_metadata(),
            tags=record.to_tags(),
            content_type="image/jpeg",
        )
        time.sleep(max(0.0, began + seconds * (number + 1) / count - time.monotonic()))


def account(stores: Stores) -> dict[str, Any]:
    """What became of every crop."""
    outcomes = list(stores.detections.list_outcomes())
    detections: Counter[str | None] = Counter()
    token: str | None = None
    while True:
        page = stores.detections.list(DetectionFilter(), page_size=1_000, continuation=token)
        detections.update(d.candidate for d in page.detections)
        if (token := page.continuation) is None:
            break
    offered = {blob.name for blob in stores.blobs.list(CANDIDATES)}
    detected = {o.candidate for o in outcomes if o.status == "detected"}
    return {
        "offered": len(offered),
        "stored": len({o.candidate for o in outcomes}),
        "lost": len(offered - {o.candidate for o in outcomes}) + len(detected - set(detections)),
        "duplicated": sum(n - 1 for n in detections.values()) + (len(outcomes) - len({o.candidate for o in outcomes})),
        "detections": detections.total(),
        "outcomes": dict(Counter(o.status for o in outcomes)),
    }


def poisoned(settings: Settings) -> int:
    """Messages that were given up."""
    from local.host.poison import list_poison
    from shared.adapters.local import LocalStore

    return len(list_poison(LocalStore(settings.data_dir)))


def run(count: int, kills: int, seconds: float, seed: int, folder: Path) -> dict[str, Any]:
    """The fault run; returns the report's figures."""
    random_ = random.Random(seed)
    settings = Settings(data_dir=folder)
    cache = ModelCache(settings.model_cache)
    stores = open_stores(settings)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    serve = Serve(folder, OUTPUT / "reliability-serve.log")
    serve.start()
    _enroll(Client(serve.url), cache)
    offering = threading.Thread(target=offer, args=(stores, count, seconds, seed, cache))
    began = time.monotonic()
    offering.start()
    moments = sorted(random_.uniform(1.0, seconds) for _ in range(kills))
    for number, moment in enumerate(moments):
        time.sleep(max(0.2, began + moment - time.monotonic()))
        serve.kill()
        console.print(f"kill {number + 1} of {kills} at {time.monotonic() - began:.1f} s")
        serve.start(ready=False)
    offering.join()
    _drain(stores, count)
    serve.stop()
    return account(stores) | {
        "kills": kills,
        "poisoned": poisoned(settings),
        "seconds": round(time.monotonic() - began, 1),
    }


def _enroll(client: Client, cache: ModelCache) -> None:
    for person, name in (("barack_obama", "demo_obama2"), ("joe_biden", "demo_biden")):
        client.add_person(person)
        client.add_image(person, cache.path(name).read_bytes())
    client.train()


def _drain(stores: Stores, count: int, timeout_s: float = 900.0) -> None:
    """Waits until as many outcomes are there as crops were offered, or nothing has moved for a minute."""
    deadline, seen, moved = time.monotonic() + timeout_s, -1, time.monotonic()
    while seen < count and time.monotonic() < deadline and time.monotonic() - moved < 60:
        now = sum(1 for _ in stores.detections.list_outcomes())
        if now != seen:
            seen, moved = now, time.monotonic()
        time.sleep(0.5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--crops", type=int, default=2_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=90.0, help="how long crops arrive")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        figures = run(arguments.crops, arguments.kills, arguments.seconds, arguments.seed, Path(folder))
    rows = [(name, str(figures[name])) for name in ("offered", "stored", "lost", "duplicated", "kills", "poisoned")]
    print_figures("kill -9 of serve while crops arrive", rows, ("figure", "value"))
    write_report("reliability", {"fault": "kill -9 of serve", "seed": arguments.seed} | figures)
    if figures["lost"] or figures["duplicated"] or figures["offered"] != arguments.crops:
        raise SystemExit(1)


if __name__ == "__main__":
    run_bench(main)
