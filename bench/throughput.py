"""Requests a second of a running service, beside the seed's pipeline in the same run: `make bench-throughput`.

`POST /face-recognition/get-results` with one photograph of 250×250 pixels, at several concurrencies. The load comes
from threads of this process, on the same cores. The seed's pipeline (facenet-pytorch) runs in an environment of its
own under build/, when its script is given. Writes build/bench/throughput.json.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from bench.mtcnn_agreement import set_up_reference
from bench.report import OUTPUT, console, print_figures, write_report
from bench.report import run as run_bench
from bench.running import Serve
from local.client import Client
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image, encode_jpeg

CONCURRENCY = (1, 8, 32)
HEADLINE = 8
PEER = Path("../shared/peers/facenet_pytorch_pipeline.py")
BOUNDARY = "facerelay-bench"


def photograph(given: Path | None, cache: ModelCache) -> tuple[str, bytes]:
    """Name and bytes of the photograph: the one given, or a public-domain portrait at 250×250 as LFW's are."""
    if given is not None:
        return given.name, given.read_bytes()
    image = decode_image(cache.path("demo_astronaut").read_bytes(), ImageLimits())
    portrait = cv2.resize(image[0:360, 44:404], (250, 250), interpolation=cv2.INTER_AREA)
    return "Eileen Collins, NASA, 250x250", encode_jpeg(np.ascontiguousarray(portrait))


def multipart(image: bytes) -> tuple[bytes, dict[str, str]]:
    """Body and headers of the request, made once."""
    head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="image"; filename="i.jpg"\r\n\r\n'.encode()
    return head + image + f"\r\n--{BOUNDARY}--\r\n".encode(), {
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}"
    }


def load(url: str, image: bytes, *, concurrency: int, requests: int) -> dict[str, Any]:
    """Sends `requests` requests over `concurrency` connections that stay open."""
    body, headers = multipart(image)
    address = urlsplit(url).netloc
    local = threading.local()

    def one(_: int) -> tuple[float, bool]:
        if not hasattr(local, "connection"):
            local.connection = http.client.HTTPConnection(address, timeout=120)
        began = time.perf_counter()
        local.connection.request("POST", "/face-recognition/get-results", body, headers)
        answer = local.connection.getresponse()
        faces = json.loads(answer.read()).get("faces", []) if answer.status == 200 else []
        return time.perf_counter() - began, len(faces) >= 1

    with ThreadPoolExecutor(concurrency) as pool:
        began = time.perf_counter()
        results = list(pool.map(one, range(requests)))
        seconds = time.perf_counter() - began
    times_ms = np.array([elapsed for elapsed, _ in results]) * 1e3
    return {
        "concurrency": concurrency,
        "requests": requests,
        "requests_per_s": round(requests / seconds, 2),
        "p50_ms": round(float(np.percentile(times_ms, 50)), 1),
        "p95_ms": round(float(np.percentile(times_ms, 95)), 1),
        "failed": sum(not ok for _, ok in results),
    }


def peer(script: Path, image: bytes, repeat: int) -> float | None:
    """Images a second of the seed's pipeline, or None when its script is not there."""
    if not script.is_file():
        console.print(f"{script} is not there: no comparison with the seed's pipeline")
        return None
    python = set_up_reference()
    with tempfile.NamedTemporaryFile(suffix=".jpg") as file:
        file.write(image)
        file.flush()
        command = [str(python), str(script), file.name, "--repeat", str(repeat)]
        said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"([\d.]+) images a second", said)
    return float(found.group(1)) if found else None


def measure(image: bytes, requests: int) -> tuple[list[dict[str, Any]], float]:
    """Every concurrency against one service with a person enrolled; peak memory of the service in MB."""
    OUTPUT.mkdir(parents=True, exist_ok=True)
    log = OUTPUT / "throughput-serve.log"
    with tempfile.TemporaryDirectory() as folder, Serve(Path(folder), log) as serve:
        client = Client(serve.url)
        client.add_person("somebody")
        client.add_image("somebody", image)
        client.train()
        load(serve.url, image, concurrency=2, requests=10)
        levels = [
            load(serve.url, image, concurrency=level, requests=max(requests // (4 if level == 1 else 1), 20))
            for level in CONCURRENCY
        ]
        return levels, round(serve.peak_rss_mb(), 1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--image", type=Path, help="a photograph of about 250×250; a public-domain one when not given")
    parser.add_argument("--requests", type=int, default=400)
    parser.add_argument("--peer", type=Path, default=PEER, help="the seed's pipeline, for the ratio")
    arguments = parser.parse_args()
    name, image = photograph(arguments.image, ModelCache(Settings().model_cache))
    before = peer(arguments.peer, image, 20)
    levels, peak = measure(image, arguments.requests)
    after = peer(arguments.peer, image, 20)
    headline = next(level for level in levels if level["concurrency"] == HEADLINE)
    report: dict[str, Any] = headline | {"peak_rss_mb": peak, "image": name, "levels": levels, "peer": None}
    if before is not None and after is not None:
        rate = (before + after) / 2
        report["peer"] = {
            "images_per_s": round(rate, 2),
            "before_and_after": [before, after],
            "ratio": round(headline["requests_per_s"] / rate, 2),
        }
        console.print(f"{report['peer']['ratio']} times the seed's pipeline ({rate:.2f} images a second, same run)")
    rows = [
        (
            str(v["concurrency"]),
            f"{v['requests_per_s']:.1f}",
            f"{v['p50_ms']:.0f}",
            f"{v['p95_ms']:.0f}",
            str(v["failed"]),
        )
        for v in levels
    ]
    print_figures(
        "get-results, one 250×250 photograph", rows, ("concurrency", "requests/s", "p50 ms", "p95 ms", "failed")
    )
    console.print(f"peak memory of the service: {peak:.0f} MB")
    write_report("throughput", report)


if __name__ == "__main__":
    run_bench(main)
