"""Tries whatever a gateway needs before it is left alone: cameras, weights, spool, store or service, page, log."""

from __future__ import annotations

import os
import queue
import shutil
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
import requests

from edge_uploader.camera import CameraSpec
from edge_uploader.capture.sources import Source, SourceUnusable
from edge_uploader.gateway import load_edge_detector
from edge_uploader.opening import is_live, open_source
from edge_uploader.settings import EdgeSettings
from edge_uploader.status import RunningGateway
from shared.domain import CANDIDATES, UInt8Array, utc_now
from shared.errors import FacerelayError, ModelUnavailable
from shared.ports import BlobStore, Detector

_MEASURED_S: Final = 2.0
_DARK, _GLARING = 35.0, 225.0
_CLOCK_S: Final = 60.0
_LOOKED_AT_PX: Final = 640
_TIMEOUT_S: Final = (5, 10)


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        ok: None when it could not be tried, since something before it is wrong.
        todo: what to do next; empty when nothing is.
    """

    what: str
    ok: bool | None
    detail: str
    todo: str = ""

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class CameraUnderTest:
    """A camera with the settings that it would run with."""

    spec: CameraSpec
    settings: EdgeSettings


def run_checks(
    settings: EdgeSettings,
    cameras: Sequence[CameraUnderTest],
    open_store: Callable[[EdgeSettings], BlobStore],
    *,
    deadline_s: float = 20.0,
) -> list[Finding]:
    """All checks; what waits for a network runs at the same time and is given up at the deadline."""
    detector, weights = check_detector(settings)
    guard = threading.Lock()  # one detector looks at the frames of all
    jobs: list[tuple[str, Callable[[], Finding]]] = [
        (f"camera {camera.spec.name}", _camera_job(camera, detector, guard, deadline_s)) for camera in cameras
    ]
    if settings.edge_service_url:
        jobs.append(("service", lambda: check_service(settings, open_store)))
        jobs.append(("clock", lambda: check_clock(settings.edge_service_url)))
    else:
        jobs.append(("store", lambda: check_store(settings, open_store)))
    found = [weights, *_together(jobs, deadline_s + _MEASURED_S)]
    if not cameras:
        found.append(Finding("cameras", False, "there is none", "add one to the file, or use --camera NAME=SOURCE"))
    return [*found, check_spool(settings), check_page(settings), *check_log(settings)]


def _camera_job(
    camera: CameraUnderTest, detector: Detector | None, guard: threading.Lock, deadline_s: float
) -> Callable[[], Finding]:
    return lambda: check_camera(camera, detector, guard, deadline_s)


def _together(jobs: Sequence[tuple[str, Callable[[], Finding]]], deadline_s: float) -> list[Finding]:
    """Findings in the order of the jobs. A job that hangs is left behind in a thread that ends with the process."""
    answers: list[queue.SimpleQueue[Finding]] = [queue.SimpleQueue() for _ in jobs]

    def work(job: Callable[[], Finding], answer: queue.SimpleQueue[Finding], what: str) -> None:
        try:
            answer.put(job())
        except Exception as error:  # noqa: BLE001  (the edge of a thread: one check must not end the others)
            first_line = next(iter(str(error).splitlines()), "")
            answer.put(Finding(what, False, f"unexpected {type(error).__name__}: {first_line}"))

    for (what, job), answer in zip(jobs, answers, strict=True):
        threading.Thread(target=work, args=(job, answer, what), daemon=True).start()
    ends = time.monotonic() + deadline_s
    found = []
    for (what, _), answer in zip(jobs, answers, strict=True):
        try:
            found.append(answer.get(timeout=max(0.0, ends - time.monotonic())))
        except queue.Empty:
            found.append(Finding(what, False, f"no answer within {deadline_s:.0f} s", "is the network there?"))
    return found


def check_detector(settings: EdgeSettings) -> tuple[Detector | None, Finding]:
    """Loads the weights that the gateway would load."""
    try:
        detector = load_edge_detector(settings)
    except ModelUnavailable as error:
        return None, Finding("detector", False, str(error), "facerelay models fetch")
    except FacerelayError as error:
        return None, Finding("detector", False, str(error), "detector is yunet, ultra_light or mtcnn")
    return detector, Finding("detector", True, f"{settings.edge_detector} at {settings.edge_detect_px} px")


def check_camera(
    camera: CameraUnderTest, detector: Detector | None, guard: threading.Lock, deadline_s: float
) -> Finding:
    """Opens a camera, looks at one frame, and at a stream for two seconds."""
    what, settings = f"camera {camera.spec.name}", camera.settings
    # A stream that is not there is called again and again; here it has this one deadline.
    patient = settings.model_copy(update={"edge_stream_give_up_s": deadline_s, "edge_fps": 0.0, "edge_skip_frames": 0})
    source = open_source(camera.spec.source, patient)
    stopper = threading.Timer(deadline_s, source.close)
    stopper.daemon = True
    stopper.start()
    try:
        image, fps = _first_frame(source, is_live(camera.spec.source))
    except (SourceUnusable, OSError) as error:
        return Finding(what, False, str(error), _camera_advice(camera.spec.source))
    finally:
        stopper.cancel()
        source.close()
    if image is None:
        return Finding(what, False, source.problem or "no frame came", _camera_advice(camera.spec.source))
    height, width = image.shape[:2]
    brightness, sharpness = brightness_and_sharpness(image)
    parts = [f"{width}×{height}", f"{fps:.0f} fps" if fps else "", f"brightness {brightness:.0f} of 255"]
    parts.append(f"sharpness {sharpness:.0f}")
    if detector is not None:
        with guard:
            faces = [f for f in detector.detect(image) if f.confidence >= settings.edge_high_confidence]
        largest = max((max(f.width_px, f.height_px) for f in faces), default=0.0)
        parts.append(f"{len(faces)} faces, the largest {largest:.0f} px" if faces else "no face in this frame")
    detail = ", ".join(part for part in parts if part)
    if brightness < _DARK:
        return Finding(what, False, detail, "the picture is all but black: lens cap, light, or the camera's exposure")
    if brightness > _GLARING:
        return Finding(what, False, detail, "the picture is all but white: against the light, or exposed too long")
    return Finding(what, True, detail)


def _first_frame(source: Source, live: bool) -> tuple[UInt8Array | None, float]:
    """The first frame, and what a live source gives each second."""
    frames = source.frames()
    first = next(frames, None)
    if first is None:
        return None, 0.0
    if not live:
        return first.image, 0.0
    began, grabbed = time.monotonic(), source.counts.grabbed
    for _ in frames:
        if time.monotonic() - began >= _MEASURED_S:
            break
    elapsed_s = time.monotonic() - began
    return first.image, (source.counts.grabbed - grabbed) / elapsed_s if elapsed_s > 0 else 0.0


def brightness_and_sharpness(image: UInt8Array) -> tuple[float, float]:
    """Mean grey level, and variance of the Laplacian at 640 px, of an RGB frame."""
    scale = min(1.0, _LOOKED_AT_PX / max(image.shape[:2]))
    size = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    grey = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2GRAY)
    return float(np.mean(grey)), float(cv2.Laplacian(grey, cv2.CV_32F).var())


def _camera_advice(source: str) -> str:
    if source.isdigit():
        return "is it plugged in, used by another program, and this user in the group video?"
    if "://" in source:
        return "address, user and password, and whether it is on; try it in VLC from this machine"
    return "is the path right, and readable for this user?"


def check_spool(settings: EdgeSettings) -> Finding:
    """Whether the spool can be written and may grow up to its bound."""
    folder, limit = settings.edge_spool_dir, settings.edge_spool_limit_bytes
    there = next((path for path in (folder, *folder.parents) if path.exists()), Path("/"))
    try:
        probe = there / f".facerelay-check-{os.getpid()}"
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.write(descriptor, b"x")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            probe.unlink()
    except OSError as error:
        todo = f"give this user the folder: chown {_user()} {folder}"
        return Finding("spool", False, f"{folder} cannot be written: {error.strerror}", todo)
    free = shutil.disk_usage(there).free
    detail = f"{folder}, {free / 1e9:.1f} GB free, bound {limit / 1e9:.1f} GB"
    if free < limit:
        return Finding(
            "spool", False, detail, "make room, or lower spool.limit_bytes: the disk is full before the bound"
        )
    return Finding("spool", True, detail)


def _user() -> str:
    return os.environ.get("USER") or str(getattr(os, "getuid", lambda: "this user")())


def check_store(settings: EdgeSettings, open_store: Callable[[EdgeSettings], BlobStore]) -> Finding:
    """Whether the store answers; looks for crops of a site that there is not."""
    try:
        next(iter(open_store(settings).list(CANDIDATES, "facerelay-check/")), None)
    except FacerelayError as error:
        return Finding(
            "store", False, str(error), "docs/settings.md: backend, data_dir, storage_blob_url, the identity"
        )
    where = str(settings.data_dir) if settings.backend == "local" else settings.storage_blob_url or "emulator"
    return Finding("store", True, f"{settings.backend}: {where}")


def check_service(settings: EdgeSettings, open_store: Callable[[EdgeSettings], BlobStore]) -> Finding:
    """Whether the service gives this gateway's token an upload grant."""
    from shared.adapters.azure.uploads import GrantClient, NoGrants

    url = settings.edge_service_url
    try:
        open_store(settings)  # what `run` would do with the address
        ends = GrantClient(url, settings.edge_token.get_secret_value()).grant().expires_at
    except NoGrants:  # said to a token that would have been given one
        return Finding("service", True, f"{url}: takes crops itself, with this token")
    except FacerelayError as error:
        text = str(error)
        if "(401)" in text or "(403)" in text:
            return Finding("service", False, f"{url}: {text}", "make a token: facerelay token create … --scope device")
        return Finding("service", False, f"{url}: {text}", "the address, the network, and whether the service runs")
    return Finding("service", True, f"{url}: the token may upload until {ends:%H:%M} UTC")


def check_clock(url: str) -> Finding:
    """Compares this machine's clock with the service's Date header."""
    try:
        answer = requests.get(url.rstrip("/") + "/health", timeout=_TIMEOUT_S, allow_redirects=False)
        theirs = parsedate_to_datetime(answer.headers["Date"])
    except (requests.RequestException, KeyError, ValueError, TypeError) as error:
        return Finding("clock", None, f"not compared: the service did not tell its time ({type(error).__name__})")
    difference_s = (utc_now() - theirs.astimezone(UTC)).total_seconds()
    detail = f"{abs(difference_s):.0f} s {'ahead of' if difference_s > 0 else 'behind'} the service"
    if abs(difference_s) > _CLOCK_S:
        return Finding("clock", False, detail, "set this machine's clock (NTP): times of detections are the gateway's")
    return Finding("clock", True, detail)


def check_page(settings: EdgeSettings) -> Finding:
    """Whether the live page's port is free, or our own gateway's."""
    if not settings.edge_page_port:
        return Finding("page", True, "no page is wanted (page.port is 0)")
    url = f"http://{settings.edge_page_address}:{settings.edge_page_port}"
    running = RunningGateway.read(settings.edge_spool_dir)
    if running is not None and running.url.endswith(f":{settings.edge_page_port}"):
        return Finding("page", True, f"{running.url}, of the gateway that runs (process {running.pid})")
    family = socket.AF_INET6 if ":" in settings.edge_page_address else socket.AF_INET
    try:
        socket.create_server((settings.edge_page_address, settings.edge_page_port), family=family).close()
    except OSError as error:
        if "edge_page_port" not in settings.model_fields_set:
            return Finding("page", True, f"{url} is taken; another port will be used")
        return Finding("page", False, f"{url}: {error.strerror}", "another page.port, or end the program that has it")
    return Finding("page", True, url)


def check_log(settings: EdgeSettings) -> list[Finding]:
    """Whether the log file can be written, when there is one."""
    if not settings.edge_log_file:
        return []
    path = Path(settings.edge_log_file).expanduser()
    there = next((part for part in (path, *path.parents) if part.exists()), Path("/"))
    if os.access(there, os.W_OK):
        return [Finding("log", True, str(path))]
    return [Finding("log", False, f"{path} cannot be written", f"chown {_user()} {there}")]
