"""A gateway before a real RTSP camera that is killed, stopped and frozen; and two hours of looped video.

Part one is a real gateway on a real RTSP server: the server is killed (SIGKILL) and restarted ten times, stopped once
(SIGSTOP: connections stay open, nothing comes), and once only its picture freezes. Time is compressed there: between
faults the camera is well for some seconds and not for many minutes, a stopped stream is noticed after 3 s and a frozen
picture after 8 s and not after 10 s and 20 s. Every event must be reported, once at its beginning and once at its end,
and nothing else; frames must flow again within 10 s of the server's being back. Memory, file handles and threads are
sampled; their slope over all of it is extrapolated to two hours. Part two plays a file in a loop, as fast as the
machine can, through the same camera, until two hours of video have been worked on.
"""

from __future__ import annotations

import argparse
import signal
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.processes import resident_mb
from bench.report import console, print_figures, run, write_report
from bench.rtsp_camera import PACKAGES, RtspCamera, available
from edge_uploader.camera import Camera, CameraSpec
from edge_uploader.capture.sources import FrameSampler, VideoFile
from edge_uploader.delivery.spool import Spool
from edge_uploader.gateway import Gateway, build_gateway, camera_options, load_edge_detector
from edge_uploader.settings import EdgeSettings
from shared.bootstrap import open_blob_store
from shared.errors import ConfigurationError, StoreUnavailable
from shared.vision.decode import encoder_of
from shared.vision.quality import assess

TWO_HOURS_S = 7_200.0
LIMIT_S = 10.0
TIMEOUT_S, FROZEN_S = 3.0, 8.0
UP_S, DOWN_S = 8.0, 3.0


@dataclass(slots=True)
class Samples:
    """What a process holds, over time: rows of (seconds, resident MB, file handles, threads)."""

    rows: list[tuple[float, float, int, int]] = field(default_factory=list)

    def take(self, at_s: float) -> None:
        tasks = len(list(Path("/proc/self/task").iterdir()))
        self.rows.append((at_s, resident_mb("self"), len(list(Path("/proc/self/fd").iterdir())), tasks))

    def summary(self, over_s: float) -> dict[str, Any]:
        """First and last level (medians of an eighth each), the highest, and memory's slope extrapolated to `over_s`.

        The beginning is left out: models and decoders take their memory there, once.
        """
        rows = np.array(self.rows, dtype=np.float64)
        part = max(1, len(rows) // 8)
        rows = rows[part:]
        first, last = np.median(rows[:part], axis=0), np.median(rows[-part:], axis=0)
        slope = float(np.polyfit(rows[:, 0], rows[:, 1], 1)[0]) * over_s
        names = ("rss_mb", "file_handles", "threads")
        return {
            name: {
                "first": round(float(first[column]), 1),
                "last": round(float(last[column]), 1),
                "highest": round(float(rows[:, column].max()), 1),
            }
            for name, column in zip(names, (1, 2, 3), strict=True)
        } | {"rss_mb_slope_over_two_hours": round(slope, 1)}


class Fixture:
    """A gateway with one camera, that runs in a thread of its own while its server is mistreated."""

    def __init__(self, server: RtspCamera, gateway: Gateway) -> None:
        self.server, self.samples = server, Samples()
        self.recoveries: list[float] = []
        self._gateway, self._stop = gateway, threading.Event()
        self._thread = threading.Thread(target=gateway.run, args=(self._stop,))
        self._began = time.monotonic()

    def __enter__(self) -> Fixture:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join(30)

    @property
    def stats(self) -> Any:
        return self._gateway.report().cameras[0]

    def rest(self, seconds: float) -> None:
        """Lets time pass and takes a sample each half second."""
        until = time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            self.samples.take(time.monotonic() - self._began)
            time.sleep(min(0.5, left))

    def await_frames(self, since: float, before: int, timeout_s: float = 60.0) -> float:
        """Seconds from `since` (monotonic) until more frames than `before` were looked at."""
        while self.stats.frames <= before:
            if time.monotonic() - since > timeout_s:
                raise StoreUnavailable("no frame came back within a minute")
            time.sleep(0.02)
        return time.monotonic() - since

    def await_state(self, picture: str, timeout_s: float = 60.0) -> None:
        """Waits until the camera reports this state of its picture."""
        until = time.monotonic() + timeout_s
        while self.stats.picture != picture and time.monotonic() < until:
            self.rest(0.5)

    def kill(self, down_s: float) -> None:
        """The server is gone at once, and is back after a while."""
        self.server.kill()
        self.rest(down_s)
        before = self.stats.frames
        back = self.server.start()
        self.recoveries.append(self.await_frames(back, before))

    def stop(self, stopped_s: float) -> None:
        """The server stands still, its connections stay open, and it goes on."""
        self.server.send(signal.SIGSTOP)
        self.rest(stopped_s)
        before = self.stats.frames
        self.server.send(signal.SIGCONT)
        self.recoveries.append(self.await_frames(time.monotonic(), before))

    def freeze(self) -> None:
        """The same picture again and again, until that was noticed; then it goes on, until that was noticed as well."""
        self.server.send(signal.SIGUSR1)
        self.await_state("frozen")
        self.rest(2.0)
        self.server.send(signal.SIGUSR1)
        self.await_state("ok")


def faults(video: Path, folder: Path, *, kills: int, stops: int, freezes: int, up_s: float = UP_S) -> dict[str, Any]:
    """Mistreats a camera and says what was reported of it.

    Raises:
        StoreUnavailable: the server did not come up, or the camera did not come back.
    """
    settings = EdgeSettings(
        data_dir=folder / "data",
        edge_spool_dir=folder / "spool",
        edge_site="bench",
        edge_detect_px=320,
        edge_fps=6.0,
        edge_stream_timeout_s=TIMEOUT_S,
        edge_frozen_s=FROZEN_S,
    )
    server = RtspCamera(video, folder / "camera.h264", size="640x360", fps="15", gop="15")
    with server:
        gateway = build_gateway(settings, [CameraSpec("door", server.address)], open_blob_store(settings))
        with Fixture(server, gateway) as fixture:
            fixture.await_frames(time.monotonic(), 0)
            fixture.rest(up_s)
            for number in range(kills):
                fixture.kill(DOWN_S * (0.5 + number % 3 / 2))
                fixture.rest(up_s)
            for _ in range(stops):
                fixture.stop(2.0 * TIMEOUT_S)
                fixture.rest(up_s)
            for _ in range(freezes):
                fixture.freeze()
                fixture.rest(up_s)
            stats, samples, recoveries = fixture.stats, fixture.samples, fixture.recoveries
    counted = Counter((event["kind"], event["phase"]) for event in stats.events)
    expected = Counter({("lost", phase): kills + stops for phase in ("begin", "end")})
    expected += Counter({("frozen", phase): freezes for phase in ("begin", "end")})
    return {
        "kills": kills,
        "stopped": stops,
        "frozen": freezes,
        "events": {f"{kind} {phase}": count for (kind, phase), count in sorted(counted.items())},
        "events_expected": {f"{kind} {phase}": count for (kind, phase), count in sorted(expected.items())},
        "events_as_expected": counted == expected,
        "recovery_s": [round(seconds, 2) for seconds in recoveries],
        "recovery_worst_s": round(max(recoveries), 2),
        "frames": stats.frames,
        "wall_s": round(samples.rows[-1][0], 1),
        "held": samples.summary(TWO_HOURS_S),
    }


def looped(video: Path, folder: Path, seconds: float) -> dict[str, Any]:
    """Works on `seconds` of looped video, at 6 frames for each of them, as fast as it goes."""
    settings = EdgeSettings(edge_spool_dir=folder / "loop", edge_site="bench", edge_detect_px=320)
    source = VideoFile(video, FrameSampler(6.0), loop=True, pace=False)
    spool = Spool(settings.edge_spool_dir, limit_bytes=settings.edge_spool_limit_bytes)
    options = camera_options(settings, CameraSpec("loop", str(video)))
    detector = load_edge_detector(settings)
    camera = Camera(
        "loop", source, detector, spool, options, assess=assess, encode=encoder_of(settings.edge_crop_format)
    )
    samples, began = Samples(), time.monotonic()
    worker = threading.Thread(target=camera.run)
    worker.start()
    while worker.is_alive() and (position_s := camera.stats().position_s) < seconds:
        samples.take(position_s)
        worker.join(0.25)
    camera.stop()
    worker.join(30)
    stats = camera.stats()
    spool.close()
    return {
        "video_s": round(stats.position_s, 1),
        "wall_s": round(time.monotonic() - began, 1),
        "frames": stats.frames,
        "decoded": stats.frames_grabbed,
        "events": stats.events_begun,
        "held": samples.summary(TWO_HOURS_S),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--video", type=Path, default=Path("../shared/data/video/one_by_one_person.mp4"))
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--hours", type=float, default=2.0, help="of looped video")
    arguments = parser.parse_args()
    if not available():
        raise ConfigurationError(f"no RTSP server here; on Debian: apt-get install {PACKAGES}")
    if not arguments.video.is_file():
        raise ConfigurationError(f"no video at {arguments.video}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        console.print(f"{arguments.kills} kills, one stop, one freeze")
        broken = faults(arguments.video, folder, kills=arguments.kills, stops=1, freezes=1)
        console.print(f"{arguments.hours:g} hours of looped video")
        loop = looped(arguments.video, folder, 3600.0 * arguments.hours)
    figures = {
        "compressed": f"{UP_S:.0f} s between faults; silence noticed after {TIMEOUT_S:.0f} s, a frozen picture after "
        f"{FROZEN_S:.0f} s; slopes extrapolated",
        "faults": broken,
        "looped": loop,
    }
    rows = [
        ("events", str(broken["events"])),
        ("as expected", str(broken["events_as_expected"])),
        ("slowest reconnection", f"{broken['recovery_worst_s']} s"),
        ("held, faults", str(broken["held"])),
        ("held, looped", str(loop["held"])),
    ]
    print_figures("Streams that break", rows, ("", ""))
    write_report("edge_streams", figures)
    if not broken["events_as_expected"] or broken["recovery_worst_s"] > LIMIT_S or loop["events"]:
        raise StoreUnavailable("not every event was reported once, or a reconnection took too long; see the report")


if __name__ == "__main__":
    run(main)
