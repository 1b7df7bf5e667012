"""How well unknown faces are grouped, and how long 100,000 take: `make bench-grouping [LFW=DIR]`.

Writes build/bench/grouping.json. Every image of people with at least three is to be a group, every image of people
with one is to be alone; a face in no group counts as a group of its own. Nothing is chosen on these photographs: the
threshold is the embedder's default. `--alternatives` compares other algorithms, whose threshold is chosen on one half
of the people and reported on the other; the halves are by a hash of the name.

BCubed: Bagga and Baldwin, "Entity-Based Cross-Document Coreferencing Using the Vector Space Model" (1998); the mean
over faces of the share of a face's group that is its person (precision), and of its person that is in its group
(recall).

The faces for the size are drawn: a person's centre from the normal distribution that the data set's people have, faces
around it from the one that its people's photographs have, with a spread drawn from theirs; how many of each person, as
in the data set. Their similarities are those of the data set in the middle, but they have lighter tails: no children,
twins or bad light. So time and memory are what they tell; their BCubed is an upper bound. They are stored as unknown
detections in the embedded store, and a process of its own does what the nightly job does: read, group, keep.
"""

from __future__ import annotations

import argparse
import resource
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.embed import embed_all
from bench.lfw import Photographs
from bench.processes import end_with_parent
from bench.report import console, print_figures, write_report
from bench.report import run as run_bench
from functions.group.cluster import cluster
from functions.group.runs import Grouping
from functions.group.store import GroupStore
from shared.adapters.local import LocalDetectionRepository, LocalStore
from shared.bootstrap import stores_over
from shared.domain import UNKNOWN, Detection, Float32Array, Quality, sha256_hex, utc_now
from shared.settings import Settings
from shared.vision.assets import ModelCache, load_registry

PACKS: Final = ("facenet", "sface")
MIN_IMAGES: Final = 3
PORTION: Final = 10_000
EMBEDDER_ID: Final = "bench"
Labels = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """Faces and whose they are: (N, D) unit rows, (N,) person numbers, (N,) which half the person is in."""

    embeddings: Float32Array
    truth: Labels
    half: Labels

    def of_half(self, half: int) -> Sample:
        keep = self.half == half
        return Sample(self.embeddings[keep], self.truth[keep], self.half[keep])


def bcubed(labels: Labels, truth: Labels) -> dict[str, float]:
    """BCubed precision, recall and F of one label for each face.

    >>> bcubed(np.array([0, 0, 1, 2]), np.array([0, 0, 0, 1]))["recall"]
    0.6666666666666666
    """
    labels, truth = (np.unique(each, return_inverse=True)[1] for each in (labels, truth))
    _, both, count = np.unique(labels * (truth.max() + 1) + truth, return_inverse=True, return_counts=True)
    precision = float(np.mean(count[both] / np.bincount(labels)[labels]))
    recall = float(np.mean(count[both] / np.bincount(truth)[truth]))
    return {"precision": precision, "recall": recall, "f": 2 * precision * recall / (precision + recall)}


def groups_of(labels: Labels, min_faces: int) -> Labels:
    """Labels in which clusters that are too small are taken apart, and -1 is nobody's."""
    numbers = np.unique(labels, return_inverse=True)[1]
    small = (np.bincount(numbers)[numbers] < min_faces) | (labels < 0)
    numbers[small] = numbers.max(initial=0) + 1 + np.arange(small.sum())
    return numbers.astype(np.int64)


def count_groups(labels: Labels) -> int:
    return int(np.sum(np.bincount(np.unique(labels, return_inverse=True)[1]) > 1))


def sample_of(photographs: Photographs, embeddings: Float32Array, found: NDArray[np.bool_]) -> Sample:
    """The protocol's faces. A photograph without a face never comes to be grouped."""
    names, people, images = np.unique(np.array(photographs.people), return_inverse=True, return_counts=True)
    wanted = ((images[people] >= MIN_IMAGES) | (images[people] == 1)) & found
    halves = np.array([int(sha256_hex(str(name).encode())[:2], 16) % 2 for name in names])
    return Sample(embeddings[wanted], people[wanted].astype(np.int64), halves[people][wanted])


def quality(sample: Sample, threshold: float, min_faces: int) -> dict[str, Any]:
    """BCubed of all faces, and of each half of the people by itself."""

    def figures(part: Sample) -> tuple[dict[str, float], Labels]:
        labels = groups_of(cluster(part.embeddings, threshold), min_faces)
        return bcubed(labels, part.truth), labels

    whole, labels = figures(sample)
    return {
        "bcubed": whole,
        "bcubed_halves": [figures(sample.of_half(half))[0] for half in (0, 1)],
        "groups": count_groups(labels),
        "people": int(np.sum(np.bincount(sample.truth) >= MIN_IMAGES)),
        "singles": int(np.sum(np.bincount(sample.truth) == 1)),
        "faces": len(sample.truth),
        "threshold": threshold,
        "min_faces": min_faces,
    }


def drawn(sample: Sample, count: int, seed: int) -> Sample:
    """So many faces of made-up people, see the module."""
    random = np.random.default_rng(seed)
    sizes = np.bincount(sample.truth)
    means = np.zeros((len(sizes), sample.embeddings.shape[1]))
    np.add.at(means, sample.truth, sample.embeddings)
    there, sizes = np.flatnonzero(sizes), sizes[sizes > 0]
    means = means[there] / sizes[:, None]
    number = np.searchsorted(there, sample.truth)
    scale = np.sqrt(sizes / np.maximum(sizes - 1, 1))[number]
    rest = ((sample.embeddings - means[number]) * scale[:, None])[sizes[number] >= MIN_IMAGES]
    owners = number[sizes[number] >= MIN_IMAGES]
    within = rest.T @ rest / len(rest)
    between = np.cov(means.T) - within * np.mean(1 / sizes)
    spreads = np.sqrt(
        np.bincount(owners, (rest**2).sum(axis=1))[np.unique(owners)] / np.bincount(owners)[np.unique(owners)]
    )
    many = random.choice(sizes, size=count)
    truth = np.repeat(np.arange(count), many)[:count]
    people = int(truth[-1]) + 1
    centres = (means.mean(axis=0) + random.standard_normal((people, len(within))) @ _root(between).T).astype(np.float32)
    spread = (random.choice(spreads, people) / np.sqrt(np.trace(within))).astype(np.float32)
    truth, root = truth[random.permutation(count)], _root(within).T.astype(np.float32)
    faces = np.empty((count, len(within)), np.float32)
    for start in range(0, count, PORTION):
        whose = truth[start : start + PORTION]
        noise = random.standard_normal((len(whose), len(within)), dtype=np.float32) @ root
        rows = centres[whose] + spread[whose][:, None] * noise
        faces[start : start + PORTION] = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return Sample(faces, truth.astype(np.int64), np.zeros(count, np.int64))


def _root(covariance: NDArray[np.float64]) -> NDArray[np.float64]:
    values, vectors = np.linalg.eigh(covariance)
    root: NDArray[np.float64] = vectors * np.sqrt(np.clip(values, 0, None))
    return root


def scale(sample: Sample, count: int, threshold: float, min_faces: int, seed: int) -> dict[str, Any]:
    """Seconds and peak memory of a nightly job over so many drawn faces."""
    many = drawn(sample, count, seed)
    with TemporaryDirectory() as folder:
        _store(many.embeddings, Path(folder))
        with ProcessPoolExecutor(1, mp_context=get_context("spawn"), initializer=end_with_parent) as pool:
            seconds, peak_mb, group_of = pool.submit(nightly, Path(folder), threshold, min_faces).result()
    labels = groups_of(np.array([group_of.get(number, -1) for number in range(count)]), min_faces)
    return {
        "embeddings": count,
        "seconds": seconds,
        "peak_rss_mb": peak_mb,
        "people": int(many.truth.max()) + 1,
        "groups": count_groups(labels),
        "bcubed": bcubed(labels, many.truth),
        "drawn": "normal centres and faces with the data set's covariances; see bench/grouping.py",
    }


def _store(embeddings: Float32Array, folder: Path) -> None:
    """Unknown detections in an embedded store, a second apart, their ids numbers."""
    store, now = LocalStore(folder), utc_now()
    repository, plain = LocalDetectionRepository(store), Quality(100.0, 150.0, 0.1, 120.0, 0.99)
    with store.transaction():
        for number, row in enumerate(embeddings):
            at = now - timedelta(seconds=number)
            repository.add(
                Detection(
                    id=f"{number:032d}",
                    person_id=UNKNOWN,
                    similarity=0.2,
                    confidence=0.1,
                    threshold=0.5,
                    model_id="bench",
                    embedder_id=EMBEDDER_ID,
                    site="bench",
                    camera=f"camera-{number % 20}",
                    location="bench",
                    captured_at=at,
                    processed_at=at,
                    track=str(number),
                    frame_box=(0, 0, 100, 100),
                    face_box=(0.0, 0.0, 100.0, 100.0),
                    quality=plain,
                    candidate=f"bench/camera-{number % 20}/{at:%Y/%m/%d}/{at:%Y%m%dT%H%M%S}000Z-{number}-0.jpg",
                    embedding=row,
                )
            )
    store.close()


def nightly(folder: Path, threshold: float, min_faces: int) -> tuple[float, float, dict[int, int]]:
    """What the timer's job does, in this process: its seconds, the process's peak in MB, and each face's group."""
    stores = stores_over(LocalStore(folder))
    kept_for = timedelta(days=30)
    groups = GroupStore(stores.blobs, kept_for=kept_for, clock=utc_now)
    grouping = Grouping(
        detections=stores.detections,
        store=groups,
        thresholds={EMBEDDER_ID: threshold},
        min_faces=min_faces,
        kept_for=kept_for,
        clock=utc_now,
    )
    began = time.monotonic()
    grouping.run(lambda share: None)
    seconds, peak_mb = time.monotonic() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    found = enumerate(groups.read().groups.values())
    return seconds, peak_mb, {int(m.detection_id): number for number, group in found for m in group.members}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lfw", type=Path, required=True, help="folder with images/")
    parser.add_argument("--packs", nargs="+", default=list(PACKS))
    parser.add_argument("--scale", type=int, default=100_000, help="how many drawn faces are grouped; 0: none")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn faces")
    parser.add_argument("--alternatives", action="store_true", help="compare other algorithms, too")
    arguments = parser.parse_args()
    settings, registry = Settings(), load_registry()
    photographs = Photographs.read(arguments.lfw)
    figures: dict[str, Any] = {}
    samples = {}
    for pack in arguments.packs:
        embedded = embed_all(photographs, pack, ModelCache(settings.model_cache))
        samples[pack] = sample_of(photographs, embedded.embeddings, embedded.found)
        threshold = registry.embedder[registry.pack[pack].embedder].default_threshold
        figures[pack] = quality(samples[pack], threshold, settings.group_min_faces)
        if arguments.alternatives:
            from bench.grouping_alternatives import compare

            figures[pack]["alternatives"] = compare(samples[pack], threshold, settings.group_min_faces)
    for pack in arguments.packs if arguments.scale else ():
        console.print(f"{pack}: grouping {arguments.scale} drawn faces")
        f = figures[pack]
        f["scale"] = scale(samples[pack], arguments.scale, f["threshold"], f["min_faces"], arguments.seed)
    _tell(figures)
    write_report("grouping", figures)


def _tell(figures: dict[str, Any]) -> None:
    rows: list[tuple[str, ...]] = []
    for pack, f in figures.items():
        b = f["bcubed"]
        rows.append((pack, "BCubed precision / recall", f"{b['precision']:.4f} / {b['recall']:.4f}"))
        rows.append((pack, "BCubed F", f"{b['f']:.4f}"))
        rows.append((pack, "… of either half", " / ".join(f"{half['f']:.4f}" for half in f["bcubed_halves"])))
        rows.append((pack, "groups / people", f"{f['groups']} / {f['people']}"))
        for name, other in f.get("alternatives", {}).items():
            chosen = f"{other['chosen']:.2f}" if other["chosen"] is not None else "–"
            rows.append((pack, f"{name} ({chosen})", f"{other['other_half']:.4f} / {other['all']:.4f}"))
        if "scale" in f:
            s = f["scale"]
            rows.append((pack, f"{s['embeddings']} faces", f"{s['seconds']:.0f} s, {s['peak_rss_mb']:.0f} MB"))
    print_figures("Grouping", rows, ("pack", "figure", "value"))


if __name__ == "__main__":
    run_bench(main)
