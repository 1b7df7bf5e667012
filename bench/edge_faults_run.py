"""One fault of `bench.edge_faults`: a gateway process that is offered crops, killed, started again, and counted."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal

from bench.edge_faults_gateway import Order
from bench.faulty_store import Fault, FaultyStore
from bench.processes import resident_mb
from edge_uploader.delivery.state import StateFile
from shared.domain import CANDIDATES, format_time
from shared.errors import StoreUnavailable
from shared.ports import BlobStore

COMPRESSED: Final = 60
"""An hour is a minute; the uploader's waits are divided likewise."""

_BACKOFF_S, _BACKOFF_MAX_S, _ATTEMPT_S = 0.5 / COMPRESSED, 30.0 / COMPRESSED, 4.0
_TICK_S: Final = 0.05
_DRAIN_S: Final = 600.0
_FULL_FOR_S: Final = 1.5
_FULL_WITHIN_S: Final = 180.0
"""A machine that does much else besides is slow to fill a disk."""
_LEFT_BYTES: Final = 100_000


@dataclass(frozen=True)
class Disk:
    """Where the spool lies.

    Attributes:
        kind: `tmpfs`, a real file system that is full when it is full; or `bound`, where none may be mounted: then the
            spool's own bound stands for it.
        free_bytes: at the beginning.
    """

    folder: Path
    kind: Literal["tmpfs", "bound"]
    free_bytes: int


@contextmanager
def small_disk(folder: Path, size_bytes: int) -> Iterator[Disk]:
    """A small file system of its own, in memory; or just a folder, where mounting is not permitted."""
    point = folder / "disk"
    point.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "tmpfs", str(point)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        mounted = False
    try:
        yield Disk(point, "tmpfs" if mounted else "bound", size_bytes)
    finally:
        if mounted:
            subprocess.run(["umount", "--lazy", str(point)], check=False)


@dataclass(frozen=True)
class Phase:
    """One fault.

    Attributes:
        faults: of the store, `period_s` each, in turn.
        least_s: they last at least so long; else until everything was offered and each had its turn.
        fill: who fills the disk in the middle of it.
        live: at the spool's bound, crops are dropped.
    """

    name: str
    faults: tuple[Fault, ...]
    crops: int = 0
    kills: int = 0
    period_s: float = 1.0
    least_s: float = 0.0
    fill: Literal["", "others", "spool"] = ""
    limit_bytes: int = 1_000_000_000
    live: bool = False

    def with_crops(self, crops: int, kills: int) -> Phase:
        return replace(self, crops=crops, kills=kills)


@dataclass
class PhaseRun:
    """What came of it."""

    phase: Phase
    offered: dict[str, tuple[str, str]] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)
    stored: dict[str, tuple[str, str]] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    kills: int = 0
    fills: int = 0
    seconds: float = 0.0
    rss_mb: list[list[tuple[float, float]]] = field(default_factory=list)
    start_s: float = 0.0

    def figures(self) -> dict[str, Any]:
        """The report's fields; `duplicated` is the recogniser's to say."""
        wrong = {name for name, about in self.stored.items() if self.offered.get(name) != about}
        lost = len(self.taken - set(self.stored)) + len(wrong)
        return {
            "fault": self.phase.name,
            "offered": len(self.offered),
            "taken": len(self.taken),
            "stored": len(self.stored),
            "lost": lost,
            "lost_beyond_bound": lost - self.counts["dropped_bound"],
            "duplicated": 0,
            "dropped": self.counts["dropped_bound"] + self.counts["dropped_new"],
            "kills": self.kills,
            "disk_fills": self.fills,
            "time_changed": len(wrong),
            "retries": self.counts["retries"],
            "overdue": self.counts["overdue"],
            "already_there": self.counts["already_there"],
            "times_full": self.counts["times_full"],
            "refused": self.counts["refused"],
            "torn": self.counts["torn"],
            "slowest_spool_start_s": self.start_s,
            "peak_rss_mb": round(max((mb for life in self.rss_mb for _, mb in life), default=0.0), 1),
            "rss_growth_mb_per_1000_crops": self._growth(),
            "seconds": round(self.seconds, 1),
        }

    def _growth(self) -> float | None:
        """Least squares over the longest life of a process, its first quarter left out: it was warming up."""
        life = max(self.rss_mb, key=len, default=[])
        life = [(crops, mb) for crops, mb in life if crops > life[-1][0] / 4]
        if len(life) < 20 or life[-1][0] == life[0][0]:
            return None
        mean_x, mean_y = (sum(values) / len(life) for values in zip(*life, strict=True))
        over = sum((x - mean_x) * (y - mean_y) for x, y in life)
        slope: float = over / sum((x - mean_x) ** 2 for x, _ in life)
        return round(1_000 * slope, 3)


@dataclass
class Rig:
    """What all faults share.

    Attributes:
        proxy: before the store; `connection` leads through it, `store` past it.
        captured_at: of crop 0.
    """

    folder: Path
    disk: Disk
    proxy: FaultyStore
    connection: str
    store: BlobStore
    log: Path
    random: random.Random
    per_s: float
    captured_at: datetime

    def run(self, phase: Phase, on_progress: Callable[[int], None]) -> PhaseRun:
        """Runs one fault until everything that was taken has been sent."""
        gateway = _Gateway(self, phase)
        began = time.monotonic()
        try:
            self._under_faults(phase, gateway, on_progress)
            self.proxy.fault = Fault.NONE
            gateway.drain(_DRAIN_S)
        finally:
            gateway.end()
        run = gateway.result
        run.seconds = time.monotonic() - began
        for blob in self.store.list(CANDIDATES, f"bench/{phase.name}/"):
            run.stored[blob.name] = (blob.metadata["sha256"], blob.metadata["captured_at"])
        return run

    def _under_faults(self, phase: Phase, gateway: _Gateway, on_progress: Callable[[int], None]) -> None:
        moments = sorted(self.random.sample(range(phase.crops), phase.kills))
        began, filled = time.monotonic(), not phase.fill
        least_s = max(phase.least_s, len(phase.faults) * phase.period_s if len(phase.faults) > 1 else 0.0)
        gateway.start()
        while True:
            passed = time.monotonic() - began
            self.proxy.fault = phase.faults[int(passed / phase.period_s) % len(phase.faults)]
            gateway.look()
            offered = len(gateway.result.offered)
            on_progress(offered)
            if moments and offered > moments[0]:
                moments.pop(0)
                time.sleep(self.random.uniform(0.0, 0.3))
                gateway.kill()
                gateway.start()
            elif not filled and offered >= phase.crops / 3:
                self._fill(phase, gateway)
                filled = True
            elif offered >= phase.crops and passed >= least_s and not moments and gateway.offered_all:
                return
            time.sleep(_TICK_S)

    def _fill(self, phase: Phase, gateway: _Gateway) -> None:
        """Fills the disk, kills the gateway that finds it full, and makes room when the next one has found it, too."""
        ballast = self.disk.folder / "ballast"
        # Others go on to write: they take what the spool frees by sending. The spool gets a little, and fills that.
        left_bytes = _LEFT_BYTES if phase.fill == "spool" else 0

        def top_up() -> None:
            if self.disk.kind == "tmpfs" and (phase.fill == "others" or not ballast.exists()):
                _use_up(ballast, left_bytes)

        gateway.bounded = self.disk.kind == "bound"
        for _ in range(2):
            gateway.await_full(top_up)
            time.sleep(_FULL_FOR_S)
            gateway.kill()
            gateway.start()
        gateway.await_full(top_up)
        gateway.bounded = False
        ballast.unlink(missing_ok=True)
        if self.disk.kind == "bound":
            gateway.kill()
            gateway.start()
        gateway.result.fills += 1


def _use_up(ballast: Path, left_bytes: int) -> None:
    """Grows a file until so much is free on its disk."""
    with suppress(OSError), ballast.open("ab", buffering=0) as file:
        while (free := shutil.disk_usage(ballast.parent).free) > left_bytes:
            file.write(b"\0" * min(1_000_000, max(free - left_bytes, 1)))


class _Gateway:
    """The process, its journal and its figures."""

    def __init__(self, rig: Rig, phase: Phase) -> None:
        self._rig, self._phase = rig, phase
        self._journal, self._spool = rig.folder / f"{phase.name}.journal", rig.disk.folder / phase.name
        self._read_bytes = 0
        self._lives, self._settled = 0, -1
        self._numbers: dict[int, str] = {}
        self._process: subprocess.Popen[bytes] | None = None
        self._status = StateFile(rig.folder / f"{phase.name}-0.json")
        self._next_look_s = 0.0
        self.bounded = False
        self.result = PhaseRun(phase)

    @property
    def offered_all(self) -> bool:
        """Whether the process is done with the last crop: taken, dropped, or not to be known after a kill."""
        last = self._phase.crops - 1
        return last in self._numbers and (self._numbers[last] in self.result.taken or self._settled == last)

    def start(self) -> None:
        phase, rig = self._phase, self._rig
        self._lives += 1
        self._status = StateFile(rig.folder / f"{phase.name}-{self._lives}.json")
        self._settled = -1
        first = max(self._numbers, default=-1) + 1
        if first >= phase.crops:
            self._settled = phase.crops - 1
        order = Order(
            connection_string=rig.connection,
            spool=str(self._spool),
            journal=str(self._journal),
            status=str(rig.folder / f"{phase.name}-{self._lives}.json"),
            camera=phase.name,
            first=first,
            end=phase.crops,
            per_s=rig.per_s,
            captured_at=format_time(rig.captured_at),
            limit_bytes=1 if self.bounded else phase.limit_bytes,
            backoff_s=_BACKOFF_S,
            backoff_max_s=_BACKOFF_MAX_S,
            attempt_s=_ATTEMPT_S,
            live=phase.live,
        )
        command = [sys.executable, "-m", "bench.edge_faults_gateway", json.dumps(asdict(order))]
        with rig.log.open("ab") as sink:
            self._process = subprocess.Popen(command, stdout=sink, stderr=sink)
        self.result.rss_mb.append([])

    def kill(self) -> None:
        """SIGKILL; then what it had written down, and its last figures."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
            self.result.kills += 1
        self.look(at_once=True)
        self._collect()

    def look(self, *, at_once: bool = False) -> None:
        """Reads on in the journal, and samples the memory."""
        with suppress(FileNotFoundError), self._journal.open("rb") as file:
            file.seek(self._read_bytes)
            text = file.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read_bytes += len(whole)
            for line in whole.decode().splitlines():
                self._note(line.split(" ", 4))
        if self._process is None or (time.monotonic() < self._next_look_s and not at_once):
            return
        self._next_look_s = time.monotonic() + 0.25
        if self._process.poll() not in (None, 0):
            raise StoreUnavailable(f"the gateway ended by itself; see {self._rig.log}")
        with suppress(OSError, StopIteration, KeyError):
            rss_mb = resident_mb(self._process.pid)
            self.result.rss_mb[-1].append((self._status.read()["uploaded"], rss_mb))

    def await_full(self, top_up: Callable[[], None]) -> None:
        """Until the process has found the disk full; `top_up` keeps it so."""
        began = time.monotonic()
        while time.monotonic() < began + _FULL_WITHIN_S:
            top_up()
            self.look()
            if self._status.read().get("times_full", 0) or (self.bounded and time.monotonic() > began + 2):
                return
            time.sleep(_TICK_S)
        raise StoreUnavailable(f"the disk did not fill in {self._phase.name}")

    def drain(self, within_s: float) -> None:
        """Until the process has sent everything and ended by itself."""
        deadline = time.monotonic() + within_s
        while self._process is not None and self._process.poll() is None:
            if time.monotonic() > deadline:
                raise StoreUnavailable(f"the gateway was not done in {self._phase.name}; see {self._rig.log}")
            self.look()
            time.sleep(_TICK_S)
        self.look(at_once=True)
        self._process = None
        self._collect()

    def end(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _note(self, words: list[str]) -> None:
        number = int(words[1])
        if words[0] == "offered":
            self._numbers[number] = words[4]
            self.result.offered[words[4]] = (words[2], words[3])
        else:
            self._settled = number
            if words[0] == "taken":
                self.result.taken.add(self._numbers[number])

    def _collect(self) -> None:
        figures = self._status.read()
        self.result.start_s = max(self.result.start_s, figures.pop("start_s", 0.0))
        for name in ("uploaded", "already_there", "retries", "overdue", "refused", "torn", "times_full"):
            self.result.counts[name] += figures.get(name, 0)
        for name in ("dropped_bound", "dropped_new"):
            self.result.counts[name] += figures.get(name, 0)
