"""How training and identification grow with the gallery: `make bench-scale`.

Writes build/bench/scale.json:

- `fit`: reading nothing, from embeddings in memory: review, cross-validation, fit, calibration, publication into a
  folder; and loading what was published. Each size in a process of its own, so that peak memory is its own.
- `identify`: one face against the loaded model, exactly and by the index, and how often that misses the nearest.
- `add`: one person more in a running service: from the HTTP call that adds the person, over a photograph and training,
  to the first answer under the new model.
- `seed`: scikit-learn's `SVC(kernel="linear", probability=True)`, as the seed fits it, at the sizes that it survives.

The people are drawn, for their number: centres from a normal distribution whose spectrum falls so that strangers'
cosines spread by 0.135, as FaceNet's do on lfw-dev, and photographs around them with a mean cosine of 0.65, more for
some people than for others. Accuracy is bench.recognition's matter, on real people.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.report import OUTPUT, console, print_figures, write_report
from bench.report import run as run_bench
from bench.running import Serve
from functions.train.fit import FitRequest, Gallery, fit_bundle, refit_changed
from local.client import Client
from shared.adapters.local import LocalBlobStore, LocalPersonRepository, LocalStore
from shared.domain import Float32Array, Person, Quality, Template, gallery_hash, utc_now
from shared.matching.bundle import Bundle, load_matcher
from shared.matching.index import EXACT_UP_TO, ExactIndex, QuantisedIndex
from shared.matching.model import Operating, new_model_id
from shared.model_registry import ModelRegistry
from shared.settings import Settings
from shared.vision.assets import ModelCache, load_registry

SIZES: Final = ((1_000, 10), (10_000, 5), (50_000, 3))
SEED_SIZES: Final = ((100, 5), (400, 5), (1_000, 5), (2_000, 5))
DIMENSION: Final = 512
SPECTRUM: Final = 27.0
"""Dimensions over which variance falls by a factor of e; strangers' cosines then spread by 1 / √(2 · 27) = 0.136."""
WITHIN: Final = 0.54
"""Variance of a person's photographs against that of people: a mean cosine of 1 / 1.54 = 0.65."""


def drawn(people: int, each: int, seed: int = 0) -> tuple[Float32Array, NDArray[np.intp]]:
    """(people · each, DIMENSION) unit rows, and whose each is."""
    random = np.random.default_rng(seed)
    scale = np.exp(-np.arange(DIMENSION) / SPECTRUM / 2).astype(np.float32)
    rows = np.empty((people, each, DIMENSION), np.float32)
    for start in range(0, people, 4_096):
        part = rows[start : start + 4_096]
        centres = random.standard_normal((len(part), 1, DIMENSION), np.float32)
        spread = np.sqrt(WITHIN * random.lognormal(0.0, 0.3, (len(part), 1, 1))).astype(np.float32)
        part[:] = (centres + spread * random.standard_normal(part.shape, np.float32)) * scale
        part /= np.linalg.norm(part, axis=2, keepdims=True)
    return rows.reshape(-1, DIMENSION), np.repeat(np.arange(people), each)


def gallery_of(embeddings: Float32Array, people: NDArray[np.intp]) -> Gallery:
    """The drawn people as training reads them."""
    count = int(people.max()) + 1
    ids = tuple(f"{row:032x}" for row in range(len(people)))
    person_ids = tuple(f"person_{number:06d}" for number in range(count))
    state = gallery_hash([(person_ids[person], name) for person, name in zip(people, ids, strict=True)])
    return Gallery(embeddings, people, person_ids, state, ids)


def request() -> FitRequest:
    """As the service asks for a fit, with FaceNet's table."""
    table = load_registry().embedder["facenet"]
    fallback = Operating(table.default_threshold, 20.0, table.default_threshold)
    return FitRequest(new_model_id(datetime.now(UTC)), table.model_dump(), fallback, 0.01)


@contextmanager
def timed(into: dict[str, Any], name: str) -> Iterator[None]:
    """Seconds of what is inside."""
    began = time.perf_counter()
    yield
    into[name] = round(time.perf_counter() - began, 3)


def peak_mb() -> float:
    """Highest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def median_ms(work: Callable[[], object], times: int = 100) -> float:
    """Median time of a call, in milliseconds, after a first one that does not count."""
    work()
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return round(1e3 * statistics.median(taken), 3)


def one_size(people: int, each: int) -> dict[str, Any]:
    """Everything but the service, for one size."""
    figures: dict[str, Any] = {"people": people, "templates": people * each}
    embeddings, whose = drawn(people, each + 1)
    again = embeddings[:: each + 1][:2_000].copy()  # a photograph of each that is not enrolled
    enrolled = np.arange(len(embeddings)) % (each + 1) > 0
    gallery = gallery_of(embeddings[enrolled], whose[enrolled])
    figures["drawn_mb"] = round(peak_mb())
    with tempfile.TemporaryDirectory() as folder:
        store = LocalStore(Path(folder))
        registry = ModelRegistry(LocalBlobStore(store), utc_now)
        with timed(figures, "fit_and_publish_s"):
            with timed(figures, "fit_s"):
                bundle = fit_bundle(gallery, request())
            registry.publish(bundle)
        figures["peak_rss_mb"] = round(peak_mb())
        figures["classifier"] = bundle.manifest.classifier["kind"]
        pointer = registry.pointer()
        assert pointer is not None  # noqa: S101 - it was published two lines above
        with timed(figures, "load_s"):
            load_matcher(registry.load(pointer))
        store.close()
    return figures | identify(bundle, again) | refit(gallery, bundle)


def identify(bundle: Bundle, known: Float32Array) -> dict[str, Any]:
    """Milliseconds for one face, and what the approximate index misses."""
    model = load_matcher(bundle)
    probes = np.concatenate([known, drawn(2_000, 1, seed=9)[0]])  # people who are enrolled, then strangers
    probes = model.centre(probes)
    figures: dict[str, Any] = {"identify_ms": median_ms(lambda: model._identify(probes[:1]))}
    exact = ExactIndex(model.weights, model.bias)
    figures["exact_ms"] = median_ms(lambda: exact.nearest(probes[:1], 1))
    if len(model.person_ids) > EXACT_UP_TO:
        began = time.perf_counter()
        approximate = QuantisedIndex(model.weights, model.bias)
        figures["quantised_built_s"] = round(time.perf_counter() - began, 3)
        figures["quantised_ms"] = median_ms(lambda: approximate.nearest(probes[:1], 1))
        true, _ = exact.nearest(probes, 1)
        found, _ = approximate.nearest(probes, 1)
        figures["quantised_recall_known"] = round(float(np.mean((true == found)[: len(known)])), 4)
        figures["quantised_recall_strangers"] = round(float(np.mean((true == found)[len(known) :])), 4)
    return figures


def refit(gallery: Gallery, bundle: Bundle) -> dict[str, Any]:
    """Seconds to fit one person more."""
    extra, _ = drawn(1, 5, seed=1)
    rows = np.concatenate([gallery.embeddings, extra])
    whose = np.concatenate([gallery.people, np.full(5, gallery.count)])
    figures: dict[str, Any] = {}
    larger = gallery_of(rows, whose)
    with timed(figures, "refit_one_s"):
        fresh = refit_changed(larger, bundle, request())
    assert fresh is not None  # noqa: S101 - one of so many people may be fitted alone
    return figures


def fill(folder: Path, embeddings: Float32Array, whose: NDArray[np.intp]) -> None:
    """Stores the drawn people, as if they had been enrolled."""
    store = LocalStore(folder)
    people = LocalPersonRepository(store)
    gallery, now = gallery_of(embeddings, whose), utc_now()
    embedder_id = load_registry().embedder["facenet"].embedder_id
    quality = Quality(100.0, 100.0, 0.0, 120.0, 0.99)
    for person_id in gallery.person_ids:
        people.add_person(Person(person_id, now))
    for row, (person, name) in enumerate(zip(gallery.people, gallery.template_ids, strict=True)):
        person_id = gallery.person_ids[person]
        image, box = f"{person_id}/{name}.jpg", (0.0, 0.0, 100.0, 100.0)
        people.add_template(
            Template(name, person_id, embedder_id, gallery.embeddings[row], image, box, None, quality, "upload", now)
        )
    store.close()


def add_one(people: int, each: int) -> dict[str, Any]:
    """Over HTTP, in a gallery of that size: a whole training, then one person more."""
    figures: dict[str, Any] = {"people": people, "templates": people * each}
    portrait = ModelCache(Settings().model_cache).path("demo_obama").read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        with timed(figures, "fill_s"):
            fill(Path(folder), *drawn(people, each))
        serve = Serve(Path(folder), OUTPUT / "scale-serve.log")
        serve.start()
        try:
            client = Client(serve.url)
            with timed(figures, "whole_training_s"):
                client.train()
            client.recognize(portrait)
            with timed(figures, "add_one_s"):
                client.add_person("barack obama")
                client.add_image("barack obama", portrait)
                client.train()
                while client.recognize(portrait)[0]["top_prediction"]["label"] != "barack_obama":
                    time.sleep(0.02)
            figures["service_peak_rss_mb"] = round(serve.peak_rss_mb())
        finally:
            serve.stop()
    return figures


def seed_classifier(people: int, each: int, limit_s: float) -> dict[str, Any]:
    """The seed's fit, given up after `limit_s`, beside ours of the same people."""
    script = (
        "import sys, time, numpy as np, warnings; warnings.simplefilter('ignore')\n"
        "from sklearn.svm import SVC; from bench.scale import drawn\n"
        "x, y = drawn(int(sys.argv[1]), int(sys.argv[2])); t = time.perf_counter()\n"
        "SVC(kernel='linear', probability=True).fit(x, y); print(time.perf_counter() - t)\n"
    )
    figures: dict[str, Any] = {"people": people, "templates": people * each}
    try:
        done = subprocess.run(
            [sys.executable, "-c", script, str(people), str(each)],
            capture_output=True,
            text=True,
            timeout=limit_s,
            check=True,
        )
        figures["seed_fit_s"] = round(float(done.stdout), 2)
    except subprocess.TimeoutExpired:
        figures["seed_fit_s"] = None
        figures["given_up_after_s"] = limit_s
    gallery = gallery_of(*drawn(people, each))
    with timed(figures, "our_fit_s"):
        fit_bundle(gallery, request())
    if figures["seed_fit_s"]:
        figures["times_faster"] = round(figures["seed_fit_s"] / figures["our_fit_s"], 1)
    return figures


def in_process(people: int, each: int) -> dict[str, Any]:
    """`one_size` in a process of its own."""
    command = [sys.executable, "-m", "bench.scale", "--one", f"{people}x{each}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2_000:]}")
    figures: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--one", metavar="PEOPLExTEMPLATES", help="one size alone, as JSON on the last line")
    parser.add_argument("--seed-limit-s", type=float, default=120.0, help="after which the seed's fit is given up")
    arguments = parser.parse_args()
    warnings.simplefilter("ignore", UserWarning)
    if arguments.one:
        people, each = (int(part) for part in arguments.one.split("x"))
        print(json.dumps(one_size(people, each)))
        return
    OUTPUT.mkdir(parents=True, exist_ok=True)
    fits = []
    for people, each in SIZES:
        with console.status(f"{people:,} people × {each} …"):
            fits.append(in_process(people, each))
    with console.status("one person more, over HTTP …"):
        added = add_one(10_000, 5)
    seeds = []
    for people, each in SEED_SIZES:
        with console.status(f"the seed's classifier, {people} people × {each} …"):
            seeds.append(seed_classifier(people, each, arguments.seed_limit_s))
    rows = [
        (f"{of['people']:,} × {of['templates'] // of['people']}", name, str(value))
        for of in fits
        for name, value in of.items()
    ]
    rows += [("10,000 × 5 over HTTP", name, str(value)) for name, value in added.items()]
    rows += [(f"seed's SVC, {of['people']} × 5", name, str(value)) for of in seeds for name, value in of.items()]
    print_figures("Scale", rows, ("gallery", "figure", "value"))
    write_report("scale", {"fit": fits, "add": added, "seed": seeds, "settings": asdict(request())["target_fpir"]})


if __name__ == "__main__":
    run_bench(main)
