"""A gateway under every fault at once, and what arrives of its crops. `make bench-edge-faults`.

20,000 crops are offered to a gateway's spool while the store (Azurite, behind a proxy of ours) is refused, slow, cut in
mid-upload before and after it has written, answers 429, 500 and 503, and is away for an hour, sixty times compressed:
a minute, with the uploader's waits divided by sixty as well. The disk fills twice: once by somebody else's file, once
by the spool itself. The process is killed (SIGKILL) 30 times, each time started again on what is left. A crop that the
spool had taken must be in the store, unchanged and with its own time; what was written down before and after each
offer says which these are. Then `serve` recognises what has arrived, one crop in twenty delivered twice.
Writes build/bench/edge_faults.json.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from tenacity import retry, retry_if_exception_type, stop_after_attempt, wait_exponential

from bench.edge_faults_run import COMPRESSED, Phase, PhaseRun, Rig, small_disk
from bench.faulty_store import Fault, FaultyStore
from bench.report import OUTPUT, console, print_figures, write_report
from bench.report import run as run_bench
from bench.running import Serve
from bench.servers import azurite, connection_string
from local.client import Client
from local.host.backend import open_notes
from local.host.inbox import blob_message, blob_queue
from local.host.poison import PoisonQueues
from shared.adapters.azure.access import AzureAccess
from shared.bootstrap import Stores, open_stores
from shared.domain import CANDIDATES
from shared.errors import TransientError
from shared.ports import BlobStore, DetectionFilter
from shared.settings import Settings
from shared.vision.assets import ModelCache

FUNCTION: Final = "recognize_candidate"
ONE_TWICE_IN: Final = 20
TWICE_AFTER: Final = 100
AWAY_S: Final = 3_600 / COMPRESSED
DISK_BYTES: Final = 64_000_000


def phases(crops: int, kills: int) -> list[Phase]:
    """The faults, with the crops and kills shared out among them; the last is the declared bound's, and is besides."""
    each = crops // 10
    # None while all is calm: memory is followed there, over one long life.
    shared = [0] + [kills // 9 + (number < kills % 9) for number in range(9)]
    made = [
        Phase("calm", (Fault.NONE,)),
        Phase("refused", (Fault.REFUSED, Fault.NONE), period_s=2.0),
        Phase("slow", (Fault.SLOW,)),
        Phase("cut_before_stored", (Fault.CUT_BEFORE,)),
        Phase("cut_after_stored", (Fault.CUT_AFTER,)),
        Phase("answers_429", (Fault.THROTTLED,)),
        Phase("answers_500_503", (Fault.FAILING,)),
        Phase("away_an_hour", (Fault.REFUSED,), least_s=AWAY_S),
        Phase("disk_filled_by_others", (Fault.NONE,), fill="others"),
        Phase("disk_filled_by_spool", (Fault.REFUSED,), fill="spool"),
    ]
    made = [phase.with_crops(each, kills) for phase, kills in zip(made, shared, strict=True)]
    bound = Phase("bound_reached", (Fault.REFUSED,), limit_bytes=each * 2_000, live=True)
    return [*made, bound.with_crops(each, 0)]


@dataclass
class Recognised:
    """What the recogniser made of the crops of one camera."""

    outcomes: int = 0
    detections: int = 0
    duplicated: int = 0
    missing: int = 0
    statuses: Counter[str] = field(default_factory=Counter)


def recognise(arrived: BlobStore, folder: Path, progress: Progress) -> tuple[dict[str, Recognised], int]:
    """Gives a running service everything that has arrived, one in twenty twice; by camera, and how many are poison."""
    settings = Settings(backend="local", data_dir=folder)
    stores = open_stores(settings)
    log = OUTPUT / "edge-faults-serve.log"
    log.unlink(missing_ok=True)
    with Serve(folder, log, FACERELAY_BACKEND="local", FACERELAY_PACK="sface") as serve:
        _enroll(Client(serve.url), ModelCache(settings.model_cache))
        names = [blob.name for blob in arrived.list(CANDIDATES)]
        task = progress.add_task("recognised", total=len(names))
        again: deque[tuple[int, str, str]] = deque()
        for number, name in enumerate(names):
            etag = _deliver(arrived, stores, name)
            if number % ONE_TWICE_IN == 0:
                again.append((number + TWICE_AFTER, name, etag))
            while again and again[0][0] <= number:
                _deliver_again(arrived, stores, *again.popleft())
        for number, name, etag in again:
            _deliver_again(arrived, stores, number, name, etag)
        _await_outcomes(stores, len(names), _bar(progress, task))
        found = _account(stores, names)
        return found, len(PoisonQueues(stores.queue, open_notes(settings)).list())


def _bar(progress: Progress, task: TaskID) -> Callable[[int], None]:
    return lambda done: progress.update(task, completed=done)


def _enroll(client: Client, cache: ModelCache) -> None:
    for person, name in (("barack_obama", "demo_obama2"), ("joe_biden", "demo_biden")):
        client.add_person(person)
        client.add_image(person, cache.path(name).read_bytes())
    client.train()


@retry(retry=retry_if_exception_type(TransientError), stop=stop_after_attempt(5), wait=wait_exponential(), reraise=True)
def _deliver(arrived: BlobStore, stores: Stores, name: str) -> str:
    """Into the service's store. Where much else runs besides, Azurite does not always answer in time."""
    blob = arrived.get(CANDIDATES, name)
    return stores.blobs.put(
        CANDIDATES, name, blob.data, metadata=blob.properties.metadata, content_type=blob.properties.content_type
    )


def _deliver_again(arrived: BlobStore, stores: Stores, number: int, name: str, etag: str) -> None:
    """By turns written again, or told of again as Event Grid may do."""
    if number % (2 * ONE_TWICE_IN) < ONE_TWICE_IN:
        _deliver(arrived, stores, name)
    else:
        stores.queue.send(blob_queue(FUNCTION), blob_message(FUNCTION, CANDIDATES, name, etag))


def _await_outcomes(stores: Stores, expected: int, on_progress: Callable[[int], None]) -> None:
    """Until every message is done, or nothing has moved for two minutes."""
    last, moved = -1, time.monotonic()
    while time.monotonic() - moved < 120:
        waiting = stores.queue.length(blob_queue(FUNCTION))
        done = sum(1 for _ in stores.detections.list_outcomes())
        on_progress(done)
        if waiting == 0 and done >= expected:
            return
        if done - waiting != last:
            last, moved = done - waiting, time.monotonic()
        time.sleep(3.0)


def _account(stores: Stores, names: list[str]) -> dict[str, Recognised]:
    found: dict[str, Recognised] = {}
    outcomes: Counter[str] = Counter()
    for outcome in stores.detections.list_outcomes():
        outcomes[outcome.candidate] += 1
        found.setdefault(_camera(outcome.candidate), Recognised()).statuses[outcome.status] += 1
    detections: Counter[str] = Counter()
    token: str | None = None
    while True:
        page = stores.detections.list(DetectionFilter(), page_size=1_000, continuation=token)
        detections.update(d.candidate for d in page.detections if d.candidate)
        if (token := page.continuation) is None:
            break
    for name in names:
        one = found.setdefault(_camera(name), Recognised())
        one.outcomes += outcomes[name]
        one.detections += detections[name]
        # Each of these crops shows one face: a second outcome or detection of one is a double.
        one.duplicated += max(0, detections[name] - 1) + max(0, outcomes[name] - 1)
        one.missing += outcomes[name] == 0
    return found


def _camera(name: str) -> str:
    return name.split("/")[1]


def figures(run: PhaseRun, recognised: Recognised | None) -> dict[str, Any]:
    """The report of one fault."""
    values = run.figures()
    if recognised is not None:
        values["lost"] += recognised.missing
        values["lost_beyond_bound"] += recognised.missing
        values |= {
            "duplicated": recognised.duplicated,
            "detections": recognised.detections,
            "outcomes": dict(recognised.statuses),
        }
    return values


def run(crops: int, kills: int, seed: int, per_s: float, with_recognition: bool) -> dict[str, Any]:
    """The whole run; returns the report's figures."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as folder,
        azurite() as storage,
        small_disk(Path(folder), DISK_BYTES) as disk,
        Progress(*columns, console=console) as progress,
    ):
        direct = AzureAccess(connection_string=storage.connection_string).blob_store()
        direct.provision()
        proxy = FaultyStore(storage.blob_port, seed=seed)
        rig = Rig(
            folder=Path(folder),
            disk=disk,
            proxy=proxy,
            connection=connection_string(proxy.port, storage.queue_port),
            store=direct,
            log=OUTPUT / "edge-faults-gateway.log",
            random=random.Random(seed),
            per_s=per_s,
            captured_at=datetime.now(UTC).replace(microsecond=0) - timedelta(days=1),
        )
        runs = []
        for phase in phases(crops, kills):
            task = progress.add_task(phase.name, total=phase.crops)
            runs.append(rig.run(phase, _bar(progress, task)))
        proxy.close()
        recognised, poisoned = recognise(direct, Path(folder) / "data", progress) if with_recognition else ({}, 0)
    faults = {run.phase.name: figures(run, recognised.get(run.phase.name)) for run in runs}
    return summary(runs, faults, rig) | {"poisoned": poisoned, "recognised": with_recognition, "faults": faults}


def summary(runs: list[PhaseRun], faults: dict[str, dict[str, Any]], rig: Rig) -> dict[str, Any]:
    """Over all faults; the bound's own phase is told apart, since it drops on purpose."""
    kept = [values for values in faults.values() if values["fault"] != "bound_reached"]
    totals = {
        name: sum(values.get(name, 0) for values in kept)
        for name in ("offered", "taken", "stored", "lost", "duplicated", "kills", "retries", "overdue", "times_full")
    }
    bound = faults["bound_reached"]
    return totals | {
        "lost_beyond_bound": totals["lost"] + bound["lost_beyond_bound"],
        "time_changed": sum(values["time_changed"] for values in faults.values()),
        "disk": rig.disk.kind,
        "disk_fills": sum(run.fills for run in runs),
        "compressed": f"an hour of absence and the uploader's waits, {COMPRESSED} times",
        "peak_rss_mb": max(values["peak_rss_mb"] for values in faults.values()),
        "rss_growth_mb_per_1000_crops": faults["calm"]["rss_growth_mb_per_1000_crops"],
        "slowest_spool_start_s": max(run.start_s for run in runs),
        "proxy": dict(rig.proxy.counts),
        "seconds": round(sum(run.seconds for run in runs), 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--crops", type=int, default=20_000)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--per-second", type=float, default=100.0, help="crops offered a second")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--no-recognition", action="store_true", help="stop when everything is in the store")
    arguments = parser.parse_args()
    found = run(arguments.crops, arguments.kills, arguments.seed, arguments.per_second, not arguments.no_recognition)
    columns = (
        "fault",
        "offered",
        "taken",
        "stored",
        "lost",
        "duplicated",
        "dropped",
        "kills",
        "retries",
        "peak_rss_mb",
    )
    rows = [tuple(str(values.get(name, "")) for name in columns) for values in found["faults"].values()]
    print_figures("a gateway under faults", rows, columns)
    write_report("edge_faults", {"fault": "all of `faults`", "seed": arguments.seed} | found)
    if found["lost_beyond_bound"] or found["duplicated"] or found["time_changed"] or found["poisoned"]:
        raise SystemExit(1)


if __name__ == "__main__":
    run_bench(main)
