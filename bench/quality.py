"""What the quality gates turn away, whether it deserves it, and what a near-duplicate is: `make bench-quality`.

Writes build/bench/quality.json:
    refused: share of all photographs that each gate refuses, by reason.
    natural: how well the photographs' own poses and exposures are recognised, down to the worst hundredth.
    degraded: the same for blurred, dark, over-exposed and flat versions of a sample, and what the gate does with them.
    duplicates: similarity of a photograph to other versions of itself, and to other photographs of the same person.
"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from bench.embed import embed_all
from bench.lfw import OpenSet, Photographs, open_set
from bench.report import OUTPUT, console, print_figures, write_report
from bench.report import run as run_bench
from functions.gates import enrolment_gate, recognition_gate
from functions.recognize.service import most_central
from shared.domain import Face, Float32Array, Quality, UInt8Array
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image, encode_jpeg
from shared.vision.detectors import Pack, load_pack
from shared.vision.quality import QualityGate, assess

SAMPLE: Final = 200
MEASURES: Final[dict[str, Callable[[Quality], float]]] = {
    "yaw": lambda q: abs(q.yaw or 0.0),
    "pitch": lambda q: abs(q.pitch or 0.0),
    "roll": lambda q: abs(q.roll or 0.0),
    "dark": lambda q: q.dark,
    "bright": lambda q: q.bright,
    "flat": lambda q: -(q.contrast or 0.0),
    "blur": lambda q: -q.sharpness,
    "small": lambda q: -q.size_px,
}
"""Worse is higher."""


def gain(factor: float) -> Callable[[UInt8Array, Face], UInt8Array]:
    """Exposure, in light and not in grey levels (gamma 2.2), clipped where a camera clips."""
    table = np.clip(255 * (factor * (np.arange(256) / 255) ** 2.2) ** (1 / 2.2), 0, 255).astype(np.uint8)
    return lambda image, face: np.asarray(cv2.LUT(image, table), np.uint8)


def flat(share: float) -> Callable[[UInt8Array, Face], UInt8Array]:
    """Contrast, as in fog or behind dirty glass: grey levels drawn together about the middle."""
    table = (127 + (np.arange(256) - 127) * share).round().astype(np.uint8)
    return lambda image, face: np.asarray(cv2.LUT(image, table), np.uint8)


def blur(share: float) -> Callable[[UInt8Array, Face], UInt8Array]:
    """Gaussian, its deviation a share of the face's width."""
    return lambda image, face: np.asarray(cv2.GaussianBlur(image, (0, 0), share * face.width_px), np.uint8)


DEGRADATIONS: Final[dict[str, Callable[[UInt8Array, Face], UInt8Array]]] = {
    "none": lambda image, face: image,
    **{f"blur {share:g}": blur(share) for share in (0.02, 0.04, 0.06, 0.09)},
    **{f"light × 1/{round(1 / factor)}": gain(factor) for factor in (1 / 8, 1 / 32, 1 / 64, 1 / 128)},
    **{f"light × {factor}": gain(factor) for factor in (2, 4, 8, 16)},
    **{f"contrast × {share:g}": flat(share) for share in (0.5, 0.25, 0.12, 0.06)},
}


def resized(image: UInt8Array, factor: float) -> UInt8Array:
    return np.asarray(cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), np.uint8)


VERSIONS: Final[dict[str, Callable[[UInt8Array], UInt8Array]]] = {
    "JPEG 80": lambda image: decode_image(encode_jpeg(image, 80), ImageLimits()),
    "JPEG 50": lambda image: decode_image(encode_jpeg(image, 50), ImageLimits()),
    "scaled to 70 %": lambda image: resized(image, 0.7),
    "scaled to 150 %": lambda image: resized(image, 1.5),
    "shifted 1 px": lambda image: np.roll(image, (1, 1), axis=(0, 1)),
    "cut by 12 px": lambda image: np.ascontiguousarray(image[12:-12, 12:-12]),
    "10 % brighter": lambda image: np.clip(image * 1.1, 0, 255).astype(np.uint8),
    "mirrored": lambda image: np.ascontiguousarray(image[:, ::-1]),
}
"""What becomes of one and the same photograph on its way through programs."""


@dataclass(frozen=True, slots=True, eq=False)
class Yardstick:
    """Matches as a fitted model does: cosine to the mean template, the gallery's mean removed first."""

    mean: Float32Array
    prototypes: Float32Array
    people: NDArray[np.str_]
    threshold: float

    @classmethod
    def of(cls, photographs: Photographs, embeddings: Float32Array, draw: OpenSet) -> Yardstick:
        """With the threshold that a hundredth of the strangers reaches."""
        owners = np.array(photographs.people)
        people, rows = np.unique(owners[draw.gallery], return_inverse=True)
        mean = embeddings[draw.gallery].mean(axis=0)
        sums = np.zeros((len(people), embeddings.shape[1]), np.float32)
        np.add.at(sums, rows, unit(embeddings[draw.gallery] - mean))
        made = cls(mean, unit(sums), people, 0.0)
        strangers = made.similarities(embeddings[draw.non_mated]).max(axis=1)
        return cls(mean, made.prototypes, people, float(np.quantile(strangers, 0.99)))

    def similarities(self, embeddings: Float32Array) -> Float32Array:
        compared: Float32Array = unit(embeddings - self.mean) @ self.prototypes.T
        return compared

    def named(self, embeddings: Float32Array, owners: NDArray[np.str_]) -> NDArray[np.bool_]:
        """Whether each probe gets its owner's name."""
        similarities = self.similarities(embeddings)
        right = self.people[similarities.argmax(axis=1)] == owners
        return np.asarray(right & (similarities.max(axis=1) >= self.threshold))


def unit(rows: Float32Array) -> Float32Array:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    return np.asarray(rows / np.maximum(lengths, 1e-9), np.float32)


def read(path: Path) -> UInt8Array:
    return decode_image(path.read_bytes(), ImageLimits())


def find(path: Path, pack: Pack) -> tuple[Face, Quality] | None:
    """The most central face and its quality."""
    image = read(path)
    face = most_central(image, pack.detector.detect(image))
    return None if face is None else (face, assess(image, face))


Found = list[tuple[Face, Quality] | None]


def refused(found: Found, gate: QualityGate) -> dict[str, Any]:
    """Share of the faces that the gate refuses, and of which reason."""
    reasons = Counter(gate.reason(item[1]) for item in found if item is not None)
    passed = reasons.pop(None, 0)
    faces = passed + reasons.total()
    return {"faces": faces, "share": reasons.total() / faces, "by_reason": dict(reasons.most_common())}


def natural(found: Found, named: NDArray[np.bool_], probes: NDArray[np.intp], gates: dict[str, QualityGate]) -> Any:
    """TPIR of the mated probes by how bad they are, and of what each gate refuses and lets through."""
    qualities = [item[1] if (item := found[probe]) else None for probe in probes]
    seen = np.array([quality is not None for quality in qualities])
    by_measure = {}
    for name, measure in MEASURES.items():
        worse = np.array([np.nan if quality is None else measure(quality) for quality in qualities])
        edges = np.nanquantile(worse, [0.9, 0.98, 0.99])
        bands = {"best 90 %": worse <= edges[0], "worst 10 %": worse > edges[0], "worst 2 %": worse > edges[1]}
        bands["worst 1 %"] = worse > edges[2]
        by_measure[name] = {band: rate(named[rows & seen]) for band, rows in bands.items()}
    by_gate = {}
    for name, gate in gates.items():
        let = np.array([quality is not None and gate.reason(quality) is None for quality in qualities])
        by_gate[name] = {"passed": rate(named[let]), "refused": rate(named[~let & seen])}
    return {"by_measure": by_measure, "by_gate": by_gate}


def rate(named: NDArray[np.bool_]) -> dict[str, float | None]:
    return {"probes": len(named), "tpir": float(named.mean()) if len(named) else None}


def degraded(
    photographs: Photographs, found: Found, sample: NDArray[np.intp], pack: Pack, stick: Yardstick, gate: QualityGate
) -> dict[str, Any]:
    """For each degradation: TPIR of all, the share that the gate refuses, and TPIR of either part."""
    paths, owners = photographs.paths(), np.array(photographs.people)

    def judge(probe: int, change: Callable[[UInt8Array, Face], UInt8Array]) -> tuple[Float32Array, str | None]:
        item = found[probe]
        assert item is not None  # noqa: S101 - the sample has faces
        image = change(read(paths[probe]), item[0])
        return pack.embedder.embed([image], [item[0]]).vectors[0], gate.reason(assess(image, item[0]))

    figures = {}
    for name, change in DEGRADATIONS.items():
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            rows = list(pool.map(lambda probe, change=change: judge(int(probe), change), sample))
        named = stick.named(np.stack([row for row, _ in rows]), owners[sample])
        reasons = Counter(reason for _, reason in rows)
        out = np.array([reason is not None for _, reason in rows])
        figures[name] = {
            "tpir": float(named.mean()),
            "refused": float(out.mean()),
            "tpir_passed": rate(named[~out])["tpir"],
            "tpir_refused": rate(named[out])["tpir"],
            "reasons": {reason: count for reason, count in reasons.items() if reason},
        }
        console.print(f"{pack.name} {name}: {figures[name]}")
    return figures


def duplicates(
    photographs: Photographs, embeddings: Float32Array, sample: NDArray[np.intp], pack: Pack
) -> dict[str, Any]:
    """Quantiles of the cosine between a photograph and its versions, each detected anew, and to the person's others."""
    paths, owners = photographs.paths(), np.array(photographs.people)

    def compare(probe: int) -> list[float]:
        image, cosines = read(paths[probe]), []
        for change in VERSIONS.values():
            version = change(image)
            face = most_central(version, pack.detector.detect(version))
            row = None if face is None else pack.embedder.embed([version], [face]).vectors[0]
            cosines.append(np.nan if row is None else float(row @ embeddings[probe]))
        return cosines

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        cosines = np.array(list(pool.map(compare, sample.tolist())))
    figures: dict[str, Any] = {
        name: quantiles(cosines[:, column], (0.0, 0.01, 0.05, 0.5))
        | {"recognised": float(np.mean(cosines[:, column] >= pack.table.duplicate_similarity))}
        for column, name in enumerate(VERSIONS)
    }
    others = []
    for person in np.unique(owners):
        rows = embeddings[owners == person]
        rows = rows[np.abs(rows).sum(axis=1) > 0]
        others.append((rows @ rows.T)[np.triu_indices(len(rows), 1)])
    figures["other photographs of the same person"] = quantiles(np.concatenate(others), (0.5, 0.99, 0.999, 1.0))
    pairs = np.concatenate(others)
    figures["pairs_of_one_person"] = len(pairs)
    figures["pairs_at_or_above"] = {f"{t:g}": int((pairs >= t).sum()) for t in (0.95, 0.97, 0.98, 0.99)}
    return figures


def quantiles(values: Float32Array, wanted: tuple[float, ...]) -> dict[str, float]:
    return {f"{q:g}": round(float(np.nanquantile(values, q)), 4) for q in wanted}


def evaluate(photographs: Photographs, name: str, cache: ModelCache, settings: Settings, sample: int) -> dict[str, Any]:
    """All figures of one pack."""
    pack = load_pack(name, cache, min_face_px=settings.recognize_min_face_px)
    embeddings = embed_all(photographs, name, cache).embeddings
    gates = {"recognition": recognition_gate(settings), "enrolment": enrolment_gate(settings)}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        found: Found = list(pool.map(lambda path: find(path, pack), photographs.paths()))
    draw = open_set(photographs, 0)
    stick, owners = Yardstick.of(photographs, embeddings, draw), np.array(photographs.people)
    random = np.random.default_rng(0)
    mated = np.array([probe for probe in draw.mated if found[probe] is not None])
    chosen = np.sort(random.choice(mated, min(sample, len(mated)), replace=False))
    return {
        "refused": {kind: refused(found, gate) for kind, gate in gates.items()},
        "natural": natural(found, stick.named(embeddings[draw.mated], owners[draw.mated]), draw.mated, gates),
        "degraded": degraded(photographs, found, chosen, pack, stick, gates["recognition"]),
        "duplicates": duplicates(photographs, embeddings, chosen, pack),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lfw", type=Path, required=True, help="folder with images/ and pairs.txt")
    parser.add_argument("--packs", nargs="+", default=["facenet", "sface"])
    parser.add_argument("--sample", type=int, default=SAMPLE, help="photographs that are degraded and duplicated")
    arguments = parser.parse_args()
    settings = Settings()
    photographs, cache = Photographs.read(arguments.lfw), ModelCache(settings.model_cache)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    figures = {name: evaluate(photographs, name, cache, settings, arguments.sample) for name in arguments.packs}
    columns = ("tpir", "refused", "tpir_passed", "tpir_refused")
    rows = [
        (pack, kind, *(f"{f[k]:.3f}" if f[k] is not None else "–" for k in columns))
        for pack, found in figures.items()
        for kind, f in found["degraded"].items()
    ]
    print_figures("Degraded probes", rows, ("pack", "how", "TPIR", "refused", "TPIR passed", "TPIR refused"))
    for pack, found in figures.items():
        for kind, f in found["refused"].items():
            console.print(f"{pack}: {kind} refuses {f['share']:.2%} of {f['faces']} faces: {f['by_reason']}")
    write_report("quality", figures)


if __name__ == "__main__":
    run_bench(main)
