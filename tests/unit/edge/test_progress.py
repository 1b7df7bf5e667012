"""Stuck or waiting; what systemd is told; figures as metrics; pictures made only while somebody looks."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.trace import NoOpTracerProvider
from prometheus_client import CollectorRegistry

from edge_uploader.capture.sources import Frame
from edge_uploader.live_picture import LONG_SIDE_PX, LivePicture
from edge_uploader.metering import Meter
from edge_uploader.progress import CameraLook, ProgressWatch
from edge_uploader.stats import CameraStats
from edge_uploader.systemd import Systemd
from shared import telemetry
from shared.domain import utc_now
from tests.unit.edge.fakes import encode, picture


class Watched:
    """A camera under a watch, at times of our choosing."""

    def __init__(self, **waits_s: float) -> None:
        self.watch = ProgressWatch(60.0, waits_s)
        self.stats = CameraStats("door", "hall", state="running")
        self.now_s = 0.0

    def after(self, seconds: float, *, working_s=0.0, alive=True, uploading=True, no_room=False) -> list[str]:
        self.now_s += seconds
        look = CameraLook(self.stats, working_s, alive)
        return list(self.watch.look(self.now_s, [look], uploading=uploading, no_room=no_room).problems)


def test_a_camera_that_gets_no_frame_and_says_nothing_is_stuck() -> None:
    camera = Watched()
    assert camera.after(0) == camera.after(59) == []
    assert camera.after(2) == ["camera door: no frame and no attempt to get one for 61 s"]
    camera.stats.frames_grabbed += 1
    assert camera.after(1) == []


@pytest.mark.parametrize("sign", ["frames", "frames_grabbed", "reconnects"])
def test_any_progress_counts_and_a_stream_that_is_called_again_is_not_stuck(sign: str) -> None:
    camera = Watched()
    camera.stats.error = "rtsp://10.0.0.9/1 cannot be opened"
    for _ in range(5):
        assert camera.after(50) == []
        setattr(camera.stats, sign, getattr(camera.stats, sign) + 1)


def test_a_stream_has_its_own_limit() -> None:
    camera = Watched(door=100.0)
    camera.after(0)
    assert camera.after(90) == []
    assert camera.after(20) != []


def test_a_frame_that_is_worked_on_for_ever_is_stuck_though_frames_come() -> None:
    camera = Watched()
    camera.stats.frames_grabbed = 7
    assert camera.after(1, working_s=61) == ["camera door: one frame has been worked on for 61 s"]


def test_a_full_spool_is_a_reason_to_stand_still_and_its_time_does_not_count_afterwards() -> None:
    camera = Watched()
    camera.after(0)
    assert camera.after(500, working_s=500, no_room=True) == []
    assert camera.after(50) == []


def test_what_has_ended_is_not_stuck_but_a_thread_that_vanished_is() -> None:
    camera = Watched()
    assert camera.after(0, alive=False) == ["camera door: its thread has ended"]
    for state in ("finished", "failed"):
        camera.stats.state = state
        assert camera.after(1_000, alive=False) == []


def test_a_live_camera_that_is_broken_is_told_by_name_with_what_to_do_until_the_restart() -> None:
    camera = Watched()
    camera.stats.state, camera.stats.error = "failed", "unexpected MemoryError, see the log"
    look = CameraLook(camera.stats, 0.0, alive=False, broken=True)
    for no_room in (False, True):
        found = camera.watch.look(1.0, [look], uploading=True, no_room=no_room)
        assert found.problems == ("camera door: unexpected MemoryError, see the log; restart the gateway",)
        assert found.stuck == ("door",) and not found.ok


def test_nothing_is_well_before_the_first_look() -> None:
    camera = Watched()
    assert camera.watch.health(camera.now_s).problems == ("it is starting",)
    camera.after(0)
    assert camera.watch.health(camera.now_s).ok


def test_an_uploader_without_threads_and_a_main_loop_that_stands_still() -> None:
    camera = Watched()
    assert camera.after(0, uploading=False) == ["nobody is sending: the uploader's threads have ended, or hang"]
    assert camera.after(1) == []
    assert camera.watch.health(camera.now_s + 10).ok
    assert camera.watch.health(camera.now_s + 20).problems == ("the main loop has stood still for 20 s",)
    camera.watch.stopping()
    assert camera.watch.health(camera.now_s + 20).ok


@pytest.fixture
def manager(tmp_path: Path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(1)
        yield listener


def test_systemd_is_told_by_its_socket(manager: socket.socket, tmp_path: Path) -> None:
    environment = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": "7"}
    systemd = Systemd(environment, 7)
    systemd.ready()
    systemd.ready()
    systemd.status("2 cameras\nall well")
    systemd.status("2 cameras\nall well")
    for now_s in (0.0, 5.0, 9.9, 10.0, 12.0):
        systemd.feed(now_s)
    systemd.stopping()
    told = [manager.recv(200).decode() for _ in range(5)]
    assert told == ["READY=1", "STATUS=2 cameras all well", "WATCHDOG=1", "WATCHDOG=1", "STOPPING=1"]


def test_systemd_is_optional_and_another_process_watchdog_is_not_ours(manager: socket.socket, tmp_path: Path) -> None:
    Systemd({}).ready()
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "gone")}).ready()
    Systemd({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "1000000", "WATCHDOG_PID": "7"}, 8).feed(0)
    manager.settimeout(0.05)
    with pytest.raises(TimeoutError):
        manager.recv(100)


def test_running_totals_become_counters_and_what_others_report_is_carried_along() -> None:
    registry = CollectorRegistry()
    meters = MeterProvider(
        [PrometheusMetricReader(disable_target_info=True, scope_info_enabled=False, registry=registry)]
    )
    telemetry.install(NoOpTracerProvider(), meters)
    try:
        camera = CameraStats("door", "hall", state="running").to_json() | {
            "frames_dropped": 3,
            "detector_runs": 9,
            "frames_without_look": {"still": 6, "load": 2},
            "repeats": 2,
            "usable": 4,
            "unusable": {"too_small": 5, "too_dark": 1},
            "picture": "frozen",
            "events": [],
        }
        report = {
            "cameras": [camera],
            "spool": {"dropped_bound": 1, "dropped_age": 2, "torn": 0, "times_full": 1, "oldest_s": 12.5},
            "waiting": 7,
            "waiting_bytes": 700,
            "limit_bytes": 1000,
            "budget": {"share": 0.5, "hour_bytes": 9, "level": "all"},
        }
        meter = Meter("hq")
        meter.feed(report)
        meter.feed(report)
        camera |= {"frames_dropped": 8, "picture": "ok"}
        meter.feed(report, stuck=["door"])

        def value(name: str, **labels: str) -> float | None:
            return registry.get_sample_value(f"facerelay_edge_{name}", {"site": "hq", **labels})

        door = {"camera": "door"}
        assert value("dropped_total", **door) == 8
        assert value("camera_stuck", **door) == 1
        assert value("detector_runs_total", **door) == 9
        assert value("unusable_total", **door, cause="too_small") == 5
        assert value("unlooked_total", **door, reason="load") == 2
        assert (value("picture", **door, state="ok"), value("picture", **door, state="frozen")) == (1, 0)
        assert value("spool_dropped_total") == 3
        assert value("spool_oldest_seconds") == 12.5
        assert value("budget", item="share") == 0.5
        assert value("budget", item="level") is None
    finally:
        telemetry.uninstall()
        meters.shutdown()


class TestLivePicture:
    def setup_method(self) -> None:
        self.now_s = 100.0
        self.encoded: list[tuple[int, ...]] = []

        def count(image, quality):
            self.encoded.append(image.shape)
            return encode(image, quality)

        self.live = LivePicture(count, now_s=lambda: self.now_s)

    def see(self, size=(320, 240)) -> None:
        self.live.frame(Frame(picture(size=size), utc_now(), 0, 0.0), [])

    def test_nothing_is_made_while_nobody_looks(self) -> None:
        for _ in range(5):
            self.see()
        assert self.encoded == []

    def test_while_somebody_looks_two_a_second_and_no_more(self) -> None:
        assert self.live.look() is None
        for _ in range(20):
            self.see()
            self.now_s += 0.1
            self.live.look()
        assert 3 <= len(self.encoded) <= 5

    def test_it_is_shrunk_and_forgotten_when_nobody_looks_any_more(self) -> None:
        self.live.look()
        self.see((1920, 1080))
        assert self.encoded == [(540, LONG_SIDE_PX, 3)]
        assert self.live.look() is not None
        self.now_s += 10
        self.see()
        assert len(self.encoded) == 1
        assert self.live.look() is None, "an old picture is not shown as if it were new"

    def test_the_end_of_a_camera_takes_its_picture_along(self) -> None:
        self.live.look()
        self.see()
        self.live.close()
        assert self.live.look() is None
