"""The demo: cameras to answers through the real triggers, in a service of its own that lasts as long as the demo."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from edge_uploader.camera import CameraSpec
from edge_uploader.gateway import GatewayReport, build_gateway
from edge_uploader.settings import EdgeSettings
from local.client import Client
from local.contact_sheet import Tile, contact_sheet
from local.demo_scene import FPS, Walker, compose
from local.models import Fetcher, open_cache, parse_source_order
from shared import __version__
from shared.bootstrap import Stores, open_stores
from shared.domain import CANDIDATES, UNKNOWN, Face, UInt8Array, format_time
from shared.errors import ConfigurationError, StoreUnavailable
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image
from shared.vision.detectors import load_detector

Say = Callable[[str], None]

VIDEO_BITS_PER_S: Final = 4_000_000
READY_TIMEOUT_S: Final = 60.0
DRAIN_TIMEOUT_S: Final = 120.0
SCENE_S: Final = 12.0

ENROLLED: Final = {"barack_obama": ("demo_obama", "demo_obama2"), "joe_biden": ("demo_biden",)}
NOTE: Final = (
    "The two videos are composed: public-domain photographs moved across a drawn corridor. Barack Obama walks as a "
    "photograph that was not enrolled. Joe Biden has one photograph only: it is enrolled, and walks mirrored. Eileen "
    "Collins (NASA) is enrolled nowhere: the stranger."
)


@dataclass(frozen=True, slots=True)
class Scene:
    """One camera of the demo, where it is, and its composed video."""

    camera: str
    location: str
    video: Path


def run_demo(output: Path, *, say: Say) -> dict[str, Any]:
    """Runs the demo and returns its report, which is also in `output/report.json`.

    Args:
        output: emptied first.
        say: told what happens, for people.

    Raises:
        FacerelayError: models cannot be had, or the service does not come up or does not finish.
    """
    began = time.monotonic()
    if output.exists():
        shutil.rmtree(output)
    output.mkdir(parents=True)
    settings = Settings(data_dir=(output / "data").resolve())
    say("1/5  models and photographs")
    cache = fetch(settings)
    say("2/5  composing two camera videos from photographs")
    scenes = compose_scenes(cache, output)
    with service(settings, output / "serve.log") as client:
        say(f"3/5  enrolling {len(ENROLLED)} people at {client.url}")
        enroll(client, cache)
        say("4/5  cameras → crops → recognition → detections")
        gateway = run_gateway(settings, scenes, output)
        stores = open_stores(settings)
        wait_until_done(stores)
        say("5/5  answers")
        report = ask(client, gateway, stores, duration_s=time.monotonic() - began)
    save_contact_sheet(stores, report["sightings"], output / "contact-sheet.png")
    (output / "report.json").write_text(json.dumps(report, indent=2))
    return report


def fetch(settings: Settings) -> ModelCache:
    """Models of the pack and the demo's photographs, in the cache."""
    cache, names = open_cache(settings.model_cache, settings.pack)
    names += [name for name, artefact in cache.registry.artefact.items() if artefact.group == "demo"]
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, transient=True) as progress:
        if missing := cache.missing(names):
            with Fetcher(cache, order=parse_source_order(settings.model_sources), progress=progress) as fetcher:
                for name in missing:
                    fetcher.fetch(name)
    return cache


def compose_scenes(cache: ModelCache, output: Path) -> list[Scene]:
    """The two cameras' videos: an enrolled person in each, and the stranger in both."""
    obama, biden, stranger = (_portrait(cache, name) for name in ("demo_obama3", "demo_biden", "demo_astronaut"))
    entrance = [Walker(*obama, 0.5, 6.0), Walker(*stranger, 6.5, 11.5, leftwards=True)]
    gate = [Walker(*stranger, 0.5, 5.5), Walker(*biden, 6.0, 11.5, leftwards=True, mirrored=True)]
    scenes = [
        Scene("entrance", "lobby", output / "entrance.mp4"),
        Scene("gate", "loading_dock", output / "gate.mp4"),
    ]
    for seed, (scene, walkers) in enumerate(zip(scenes, (entrance, gate), strict=True)):
        compose(scene.video, walkers, duration_s=SCENE_S, seed=seed)
    return scenes


def _portrait(cache: ModelCache, name: str) -> tuple[UInt8Array, Face]:
    image = decode_image(cache.path(name).read_bytes(), ImageLimits())
    detector = load_detector("mtcnn", cache, min_face_px=60)
    return image, detector.detect(image)[0]


@contextmanager
def service(settings: Settings, log: Path) -> Iterator[Client]:
    """A `facerelay serve` of our own on a free port, stopped at the end."""
    environment = dict(os.environ) | {
        "FACERELAY_DATA_DIR": str(settings.data_dir),
        "FACERELAY_MODEL_POLL_S": "1",
    }
    command = [sys.executable, "-m", "local", "serve", "--no-auth", "--port", "0"]
    with log.open("w") as sink:
        process = subprocess.Popen(command, env=environment, stdout=sink, stderr=sink)  # noqa: S603 - our own program
        try:
            yield Client(_url(process, log))
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()


def _url(process: subprocess.Popen[bytes], log: Path) -> str:
    """Where the service listens, once it says so and is ready."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline and process.poll() is None:
        found = [word for word in log.read_text().split() if word.startswith("http://127.0.0.1:")]
        if found and Client(found[0]).request("GET", "/health").ok:
            return found[0]
        time.sleep(0.1)
    raise StoreUnavailable(f"the service did not come up; see {log}")


def enroll(client: Client, cache: ModelCache) -> None:
    """Adds people and photographs over HTTP, and trains."""
    for person_id, photographs in ENROLLED.items():
        client.add_person(person_id)
        for name in photographs:
            client.add_image(person_id, cache.path(name).read_bytes())
    client.train()


def run_gateway(settings: Settings, scenes: list[Scene], output: Path) -> GatewayReport:
    """The edge gateway over both videos, into the same store that the service watches."""
    edge = EdgeSettings(
        data_dir=settings.data_dir,
        model_cache=settings.model_cache,
        edge_site="demo",
        edge_spool_dir=output / "spool",
    )
    specs = [CameraSpec(scene.camera, str(scene.video), scene.location) for scene in scenes]
    start = datetime.now(UTC) - timedelta(seconds=SCENE_S)  # so that the videos end now
    gateway = build_gateway(edge, specs, open_stores(settings).blobs, annotate=output / "annotated", start=start)
    report = gateway.run(threading.Event())
    if failed := report.failed:
        raise ConfigurationError(f"camera {failed[0].camera} failed: {failed[0].error}")
    return report


def wait_until_done(stores: Stores) -> None:
    """Until every candidate has an outcome.

    Raises:
        StoreUnavailable: some have none after two minutes.
    """
    wanted = {blob.name for blob in stores.blobs.list(CANDIDATES)}
    deadline = time.monotonic() + DRAIN_TIMEOUT_S
    while wanted - {outcome.candidate for outcome in stores.detections.list_outcomes()}:
        if time.monotonic() > deadline:
            raise StoreUnavailable("the service did not finish all crops; see serve.log")
        time.sleep(0.2)


def ask(client: Client, gateway: GatewayReport, stores: Stores, *, duration_s: float) -> dict[str, Any]:
    """The report, from the service's own answers."""
    sightings = client.call("GET", "/api/v1/detections", params={"page_size": "1000"})["detections"]
    sightings.sort(key=lambda d: d["captured_at"])
    counts = Counter(d["person_id"] for d in sightings)
    people = [p["face_id"] for p in client.call("GET", "/database/people")["people"]]
    locations = {
        person_id: seen[0]["location"]
        for person_id in people
        if (seen := client.call("GET", f"/database/{person_id}/last-known-location")["last_known_location"])
    }
    outcomes = Counter(outcome.status for outcome in stores.detections.list_outcomes())
    return {
        "candidates": outcomes.total(),
        "detections": len(sightings),
        "outcomes": dict(outcomes),
        "people": {person_id: counts[person_id] for person_id in people},
        "unknown": counts[UNKNOWN],
        "last_known_location": locations,
        "bytes_uploaded": gateway.uploads.bytes_uploaded,
        "bytes_video_4mbps": round(len(gateway.cameras) * SCENE_S * VIDEO_BITS_PER_S / 8),
        "duration_s": round(duration_s, 1),
        "sightings": sightings,
        "note": NOTE,
        "video_fps": FPS,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {"facerelay": __version__, "python": platform.python_version(), "numpy": np.__version__},
        "time": format_time(datetime.now(UTC)),
    }


def save_contact_sheet(stores: Stores, sightings: list[dict[str, Any]], path: Path) -> None:
    """Every detection as its crop, with who, where and when."""
    tiles = []
    for seen in sightings:
        crop = decode_image(stores.blobs.get(CANDIDATES, seen["candidate"]).data, ImageLimits())
        left, top, right, bottom = seen["face_box"]
        lines = (
            f"{seen['person_id']}  {seen['confidence']:.2f}",
            f"{seen['location']} · camera {seen['camera']}",
            f"{seen['captured_at'][11:19]} UTC",
        )
        tiles.append(Tile(crop, (left, top, right, bottom), seen["person_id"] != UNKNOWN, lines))
    title = "facerelay demo: every detection (composed video, see report.json)"
    Image.fromarray(contact_sheet(title, tiles)).save(path)
