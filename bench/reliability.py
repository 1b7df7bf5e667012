"""Crops arrive while the service is killed: nothing may be lost, nothing stored twice. `make bench-reliability`.

Crops are put into the candidate container at a steady rate, as gateways do, one in twenty of them twice, while `serve`
is killed (SIGKILL) at random moments and started again. Over Azurite and the Cosmos DB server (`--backend azure`) the
database stands still twice besides, for 30 s. At the end every crop must have exactly one outcome, every detected one
exactly one detection, and the poison queues must be empty. Writes build/bench/reliability.json.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import SecretStr

from bench.report import OUTPUT, console, print_figures, write_report
from bench.report import run as run_bench
from bench.running import Serve
from bench.servers import COSMOS_KEY, Server, azurite, cosmos_server
from local.client import Client
from local.host.backend import open_notes
from local.host.inbox import blob_message, blob_queue
from local.host.poison import PoisonQueues
from shared.bootstrap import Stores, open_stores
from shared.domain import CANDIDATES, Candidate, UInt8Array, sha256_hex
from shared.ports import DetectionFilter
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image, encode_jpeg

FACE_SHARE = 0.6
"""So many of the crops show a face; the others are background, to be rejected."""

FUNCTION = "recognize_candidate"
BLOB_QUEUE = blob_queue(FUNCTION)
ONE_TWICE_IN = 20
TWICE_AFTER = 100
"""So many crops later the second delivery comes: most have been recognised by then."""
OUTAGE_S = 30.0
STALLED_S = 120.0
"""Twice as long as the lease of a message that was in hand when the service was killed."""


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


@dataclass(frozen=True, slots=True)
class Again:
    """A crop that is delivered a second time, once `due` crops have been offered."""

    due: int
    record: Candidate
    data: bytes
    etag: str
    rewritten: bool


def offer(stores: Stores, count: int, seconds: float, seed: int, cache: ModelCache) -> None:
    """Puts `count` crops into the container, evenly over `seconds`, and every twentieth a second time later on.

    By turns the blob is written again, or its message is repeated as Event Grid may do.
    """
    random_ = random.Random(seed)
    faces, background = crops(cache, random_)
    start, began = datetime.now(UTC), time.monotonic()
    waiting: deque[Again] = deque()
    for number in range(count):
        image = random_.choice(faces if random_.random() < FACE_SHARE else background)
        record, data = candidate(number, image, start + timedelta(milliseconds=10 * number))
        etag = _put(stores, record, data)
        if number % ONE_TWICE_IN == 0:
            rewritten = number % (2 * ONE_TWICE_IN) == 0
            waiting.append(Again(number + TWICE_AFTER, record, data, etag, rewritten))
        while waiting and waiting[0].due <= number:
            _deliver_again(stores, waiting.popleft())
        time.sleep(max(0.0, began + seconds * (number + 1) / count - time.monotonic()))
    for again in waiting:
        _deliver_again(stores, again)


def _put(stores: Stores, record: Candidate, data: bytes) -> str:
    return stores.blobs.put(
        CANDIDATES,
        record.blob_name,
        data,
        metadata=record.to_metadata(),
        tags=record.to_tags(),
        content_type="image/jpeg",
    )


def _deliver_again(stores: Stores, again: Again) -> None:
    if again.rewritten:
        _put(stores, again.record, again.data)
    else:
        stores.queue.send(BLOB_QUEUE, blob_message(FUNCTION, CANDIDATES, again.record.blob_name, again.etag))


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


@dataclass(frozen=True)
class Setup:
    """A backend of the run's own, empty.

    Attributes:
        environment: what makes a service use it.
        database: stands still during outages; None when there is none to lose.
    """

    settings: Settings
    environment: dict[str, str]
    database: Server | None


@contextmanager
def setup(backend: str, folder: Path) -> Iterator[Setup]:
    """The local backend in `folder`, or Azurite and the Cosmos DB server on free ports."""
    if backend == "local":
        yield Setup(Settings(backend="local", data_dir=folder), {"FACERELAY_BACKEND": "local"}, None)
        return
    with azurite() as storage, cosmos_server() as cosmos:
        settings = Settings(
            backend="azure",
            data_dir=folder,
            storage_connection_string=SecretStr(storage.connection_string),
            cosmos_url=cosmos.url,
            cosmos_key=SecretStr(COSMOS_KEY),
        )
        environment = {
            "FACERELAY_BACKEND": "azure",
            "FACERELAY_STORAGE_CONNECTION_STRING": storage.connection_string,
            "FACERELAY_COSMOS_URL": cosmos.url,
            "FACERELAY_COSMOS_KEY": COSMOS_KEY,
        }
        yield Setup(settings, environment, cosmos.server)


def outages(database: Server, starts_s: list[float]) -> None:
    """Lets the database answer nobody, `OUTAGE_S` each time; it keeps what it holds, and connections stay open."""
    began = time.monotonic()
    for start_s in starts_s:
        time.sleep(max(0.0, began + start_s - time.monotonic()))
        console.print(f"the database stands still for {OUTAGE_S:.0f} s, at {start_s:.0f} s")
        with database.paused():
            time.sleep(OUTAGE_S)


def run(made: Setup, count: int, kills: int, seconds: float, seed: int) -> dict[str, Any]:
    """The fault run; returns the report's figures."""
    random_ = random.Random(seed)
    cache = ModelCache(made.settings.model_cache)
    stores = open_stores(made.settings)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    log = OUTPUT / f"reliability-serve-{made.settings.backend}.log"
    log.unlink(missing_ok=True)
    serve = Serve(made.settings.data_dir, log, **made.environment)
    serve.start()
    _enroll(Client(serve.url), cache)
    threads = [threading.Thread(target=offer, args=(stores, count, seconds, seed, cache))]
    starts_s = [0.2 * seconds, 0.6 * seconds] if made.database else []
    if made.database:
        threads.append(threading.Thread(target=outages, args=(made.database, starts_s)))
    began = time.monotonic()
    for thread in threads:
        thread.start()
    moments = sorted(random_.uniform(1.0, seconds) for _ in range(kills))
    for number, moment in enumerate(moments):
        time.sleep(max(0.2, began + moment - time.monotonic()))
        serve.kill()
        console.print(f"kill {number + 1} of {kills} at {time.monotonic() - began:.1f} s")
        serve.restart()
    for thread in threads:
        thread.join()
    figures = _drained(stores)
    serve.stop()
    return figures | {
        "kills": kills,
        "delivered_twice": len(range(0, count, ONE_TWICE_IN)),
        "database_outages": len(starts_s),
        "database_outage_s": OUTAGE_S if starts_s else 0.0,
        "poisoned": len(PoisonQueues(stores.queue, open_notes(made.settings)).list()),
        "seconds": round(time.monotonic() - began, 1),
    }


def _enroll(client: Client, cache: ModelCache) -> None:
    for person, name in (("barack_obama", "demo_obama2"), ("joe_biden", "demo_biden")):
        client.add_person(person)
        client.add_image(person, cache.path(name).read_bytes())
    client.train()


def _drained(stores: Stores) -> dict[str, Any]:
    """What became of every crop, when nothing is lost any more or nothing has moved for two minutes."""
    missing, moved = -1, time.monotonic()
    while True:
        waiting = stores.queue.length(BLOB_QUEUE)
        if waiting == 0:
            figures = account(stores)
            if figures["lost"] == 0:
                return figures
            waiting = -figures["lost"]
        if waiting != missing:
            missing, moved = waiting, time.monotonic()
        if time.monotonic() - moved > STALLED_S:
            return account(stores)
        time.sleep(2.0)


def report(backend: str, figures: dict[str, Any]) -> None:
    """Writes build/bench/reliability.json: this run at the top and by its backend, the other one's last run beside."""
    path = OUTPUT / "reliability.json"
    earlier: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    runs = {name: earlier[name] for name in ("local", "azure") if name in earlier} | {backend: figures}
    write_report("reliability", {"backend": backend} | figures | runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--backend", choices=("local", "azure"), default="local")
    parser.add_argument("--crops", type=int, default=5_000)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seconds", type=float, help="how long crops arrive; without, 20 come in a second")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    seconds = arguments.seconds or arguments.crops / 20
    with tempfile.TemporaryDirectory() as folder, setup(arguments.backend, Path(folder)) as made:
        figures = run(made, arguments.crops, arguments.kills, seconds, arguments.seed)
    rows = [(name, str(value)) for name, value in figures.items()]
    print_figures(f"kill -9 of serve while crops arrive, backend {arguments.backend}", rows, ("figure", "value"))
    fault = "kill -9 of serve; one crop in twenty twice" + ("; database still" if made.database else "")
    report(arguments.backend, {"fault": fault, "seed": arguments.seed} | figures)
    if figures["lost"] or figures["duplicated"] or figures["poisoned"] or figures["offered"] != arguments.crops:
        raise SystemExit(1)


if __name__ == "__main__":
    run_bench(main)
