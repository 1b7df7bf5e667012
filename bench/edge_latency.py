"""From a camera's frame to the stored detection, while four cameras run: `make bench-edge-latency`.

Four cameras of 1080p at 6 frames a second (composed scenes, see `bench.scene`), one gateway process and one service
process, the crops delivered over loopback HTTP with a device token; all on the same cores. Of every crop is noted when
its frame was captured, when the gateway had looked at the frame, when the crop was in the spool, when its upload began
and ended, and when the service had stored what came of it. All processes read one clock. Also says whether the
cameras kept up, and the gateway's peak memory. Writes build/bench/edge_latency.json.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from pydantic import SecretStr
from rich.progress import track

from bench.processes import resident_mb
from bench.report import OUTPUT, console, print_figures, write_report
from bench.report import run as run_bench
from bench.running import Serve
from bench.scene.people import Portraits, mtcnn_locator
from bench.scene.plan import SceneOptions
from bench.scene.scene import Scene, composed
from edge_uploader.camera import CameraSpec
from edge_uploader.capture.sources import Frame
from edge_uploader.gateway import build_gateway
from edge_uploader.selection.crops import Crop
from edge_uploader.selection.tracker import Track
from edge_uploader.settings import EdgeSettings
from local.client import Client
from shared.adapters.local import LocalDetectionRepository, LocalStore
from shared.bootstrap import open_upload_store
from shared.domain import format_time
from shared.ports import BlobStore

CAMERAS: Final = 4
FPS: Final = 6.0
GOAL_P95_S: Final = 1.5
GOAL_RSS_MB: Final = 600
STAGES: Final = ("look", "choice", "spool", "upload", "recognition")
SCENES: Final = Path("build/scenes")


@dataclass(slots=True)
class Stamps:
    """When one crop got where, seconds since the epoch. `looked`: its frame had been worked on."""

    captured: float
    spooled: float
    looked: float = 0.0
    sent: float = 0.0
    acknowledged: float = 0.0


class Watch:
    """Looks on at one camera. What it keeps is bounded by the number of crops, and of frames that are still held."""

    def __init__(self, stamps: dict[tuple[str, str], Stamps]) -> None:
        self._stamps = stamps
        self._looked: dict[float, float] = {}

    def frame(self, frame: Frame, tracks: list[Track]) -> None:
        self._looked[frame.captured_at.timestamp()] = time.time()
        if len(self._looked) > 1_000:
            self._looked.pop(next(iter(self._looked)))

    def crop(self, track: str, crop: Crop) -> None:
        captured, now = crop.captured_at.timestamp(), time.time()
        # A crop that goes at once is in the spool before its frame is done.
        looked = self._looked.get(captured, now)
        self._stamps[track, format_time(crop.captured_at)] = Stamps(captured, now, looked)

    def close(self) -> None:
        return


class TimedStore:
    """The real store, with the times at which each crop was sent and acknowledged."""

    def __init__(self, store: BlobStore, sent: dict[str, tuple[str, str, float, float]]) -> None:
        self._store, self._sent = store, sent

    def put(self, container: str, name: str, data: bytes, **options: Any) -> str:
        began = time.time()
        etag = self._store.put(container, name, data, **options)
        metadata: Mapping[str, str] = options["metadata"]
        self._sent[name] = (metadata["track"], metadata["captured_at"], began, time.time())
        return etag

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)


def gateway(url: str, sources: Sequence[str], spool: Path, out: Path) -> None:
    """Runs the gateway as shipped until SIGTERM, then writes its report and every crop's times to `out`."""
    settings = EdgeSettings(
        edge_site="site",
        edge_fps=FPS,
        edge_spool_dir=spool,
        edge_service_url=url,
        edge_token=SecretStr("asked for by nobody here"),
    )
    stamps: dict[tuple[str, str], Stamps] = {}
    sent: dict[str, tuple[str, str, float, float]] = {}
    store = TimedStore(open_upload_store(settings, url, settings.edge_token.get_secret_value()), sent)
    specs = [CameraSpec(f"camera{number}", source) for number, source in enumerate(sources, 1)]
    made = build_gateway(settings, specs, store, observe=lambda spec: Watch(stamps), loop=True)
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    report = made.run(stop).to_json()
    rows = []
    for name, (which, captured_at, began, ended) in sent.items():
        if (found := stamps.get((which, captured_at))) is not None:
            found.sent, found.acknowledged = began, ended
            rows.append([name, found.captured, found.looked, found.spooled, found.sent, found.acknowledged])
    out.write_text(json.dumps({"report": report, "crops": rows}))


def enrol(client: Client, scenes: Sequence[Scene], people: Path) -> int:
    """Everybody that any of the scenes says is enrolled; how many people."""
    gallery: dict[str, Sequence[Path]] = {}
    for scene in scenes:
        gallery |= scene.gallery(people)
    for person, photographs in track(gallery.items(), description="enrolling", console=console, transient=True):
        client.add_person(person)
        for photograph in photographs:
            client.request("POST", f"/dataset/{person}/image", files={"image": photograph.read_bytes()})
    client.train()
    return len(gallery)


def measure(sources: Sequence[str], serve: Serve, folder: Path, seconds: float) -> dict[str, Any]:
    """Runs the gateway for so long and reads what became of its crops."""
    out = folder / "gateway.json"
    command = [sys.executable, "-m", "bench.edge_latency", "--as-gateway", serve.url, str(folder / "spool"), str(out)]
    process = subprocess.Popen([*command, *sources], env=dict(os.environ))
    try:
        for _ in track(range(int(seconds)), description="four cameras", console=console, transient=True):
            if process.poll() is not None:
                raise SystemExit("the gateway ended before its time")
            time.sleep(1.0)
        rss_mb = resident_mb(process.pid, "VmHWM")
        cpu_s = _cpu_s(process.pid)
        process.send_signal(signal.SIGTERM)
        process.wait(90)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    written: dict[str, Any] = json.loads(out.read_text())
    return written | {"peak_rss_mb": rss_mb, "cpu_s": cpu_s}


def stored_at(data_dir: Path, settled_s: float = 30.0) -> dict[str, float]:
    """When each candidate's outcome was stored, by its name; waits until nothing more comes."""
    store = LocalStore(data_dir)
    try:
        outcomes = LocalDetectionRepository(store)
        seen, since = -1, time.monotonic()
        while True:
            found = {one.candidate: one.processed_at.timestamp() for one in outcomes.list_outcomes()}
            if len(found) == seen and time.monotonic() - since > settled_s / 10:
                return found
            if len(found) != seen:
                seen, since = len(found), time.monotonic()
            time.sleep(0.5)
    finally:
        store.close()


def stages(rows: Sequence[Sequence[Any]], stored: Mapping[str, float]) -> dict[str, np.ndarray[Any, Any]]:
    """Seconds of every crop in each stage, and `total`; crops without an outcome are left out."""
    done = [(*row[1:], stored[row[0]]) for row in rows if row[0] in stored]
    times = np.array(done, dtype=np.float64).reshape(-1, 6)
    parts = np.diff(times, axis=1)
    return dict(zip(STAGES, parts.T, strict=True)) | {"total": times[:, -1] - times[:, 0]}


def summary(seconds: Mapping[str, np.ndarray[Any, Any]]) -> dict[str, Any]:
    """Percentiles of each stage, and its share of all time."""
    whole = float(seconds["total"].sum())
    return {
        stage: {
            "p50_s": round(float(np.percentile(values, 50)), 3),
            "p95_s": round(float(np.percentile(values, 95)), 3),
            "p99_s": round(float(np.percentile(values, 99)), 3),
            "share": round(float(values.sum()) / whole, 3),
        }
        for stage, values in seconds.items()
    }


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run_cameras(lfw: Path, density: str, minutes: float, pack: str) -> dict[str, Any]:
    """The whole measurement; the report's figures."""
    portraits = Portraits(mtcnn_locator())
    scenes = [
        composed(SceneOptions(density, 3.0, seed, False), lfw, SCENES, portraits) for seed in range(1, CAMERAS + 1)
    ]
    OUTPUT.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        settings = {"FACERELAY_PACK": pack, "FACERELAY_RATE_LIMIT": ""}
        serve = stack.enter_context(Serve(folder / "data", OUTPUT / "edge-latency-serve.log", **settings))
        people = enrol(Client(serve.url), scenes, lfw)
        seconds = minutes * 60
        ran = measure([str(scene.video) for scene in scenes], serve, folder, seconds)
        stored = stored_at(folder / "data")
        service_mb = serve.peak_rss_mb()
    cameras = ran["report"]["cameras"]
    asked = FPS * seconds
    return {
        "cameras": [
            {
                "frames_looked_at": one["frames"],
                "frames_asked": round(asked),
                "kept_up": round(one["frames"] / asked, 3),
                "dropped": one["frames_dropped"],
                "tracks": one["tracks"],
                "crops": one["crops"],
            }
            for one in cameras
        ],
        "density": density,
        "pack": pack,
        "people": people,
        "minutes": minutes,
        "crops": len(ran["crops"]),
        "stored": sum(row[0] in stored for row in ran["crops"]),
        "latency": summary(stages(ran["crops"], stored)),
        "gateway": {"peak_rss_mb": round(ran["peak_rss_mb"], 1), "cores_used": round(ran["cpu_s"] / seconds, 2)},
        "service": {"peak_rss_mb": round(service_mb, 1)},
        "waiting": ran["report"]["waiting"],
    }


def tell(figures: Mapping[str, Any]) -> None:
    """Prints what the report holds, beside its goals."""
    rows = [
        (stage, f"{v['p50_s']:.2f}", f"{v['p95_s']:.2f}", f"{v['p99_s']:.2f}", f"{v['share']:.0%}")
        for stage, v in figures["latency"].items()
    ]
    print_figures("from frame to stored detection", rows, ("stage", "p50 s", "p95 s", "p99 s", "share"))
    kept = min(camera["kept_up"] for camera in figures["cameras"])
    console.print(
        f"{figures['crops']} crops, {figures['stored']} stored; p95 {figures['latency']['total']['p95_s']:.2f} s "
        f"(goal {GOAL_P95_S}); slowest camera looked at {kept:.1%} of its frames; gateway "
        f"{figures['gateway']['peak_rss_mb']:.0f} MB (goal {GOAL_RSS_MB}), {figures['gateway']['cores_used']} cores"
    )


def main() -> None:
    if sys.argv[1:2] == ["--as-gateway"]:
        url, spool, out, *sources = sys.argv[2:]
        return gateway(url, sources, Path(spool), Path(out))
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lfw", type=Path, required=True, help="folder with images/{person}/*.jpg")
    parser.add_argument("--density", default="medium")
    parser.add_argument("--minutes", type=float, default=3.0)
    parser.add_argument("--pack", default="facenet")
    arguments = parser.parse_args()
    figures = run_cameras(arguments.lfw, arguments.density, arguments.minutes, arguments.pack)
    tell(figures)
    write_report("edge_latency", figures)
    return None


if __name__ == "__main__":
    run_bench(main)
