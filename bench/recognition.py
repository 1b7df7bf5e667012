"""How well people are told apart, and strangers told from people: `make bench-recognition [LFW=DIR]`.

Writes build/bench/recognition.json. Photographs in which no face is found count as failures, never as left out.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from bench.embed import Embedded, embed_all
from bench.lfw import Photographs, open_set, verification
from bench.report import print_figures, write_report
from bench.report import run as run_bench
from functions.train.fit import Gallery, fit_bundle
from shared.domain import Float32Array, gallery_hash
from shared.matching.bundle import load_matcher
from shared.matching.model import MatcherModel, Operating
from shared.settings import Settings
from shared.vision.assets import ModelCache, load_registry

PACKS = ("facenet", "sface")


def fit_gallery(
    photographs: Photographs, embedded: Embedded, images: Any, pack_name: str, target_fpir: float
) -> MatcherModel:
    """The model that the train function would publish for these images."""
    registry = load_registry()
    table = registry.embedder[registry.pack[pack_name].embedder]
    images = images[embedded.found[images]]  # a photo without a face cannot be enrolled
    person_ids, people = np.unique(np.array(photographs.people)[images], return_inverse=True)
    state = gallery_hash([(photographs.people[i], photographs.names[i]) for i in images])
    gallery = Gallery(embedded.embeddings[images], people, tuple(str(p) for p in person_ids), state)
    bundle = fit_bundle(
        gallery,
        model_id="bench",
        embedder=table.model_dump(),
        fallback=Operating(table.default_threshold, 20.0, table.default_threshold),
        target_fpir=target_fpir,
    )
    return load_matcher(bundle)


def identification(model: MatcherModel, photographs: Photographs, embedded: Embedded, draw: Any) -> dict[str, Any]:
    """Rank 1 and TPIR at fixed FPIRs, thresholds set on the non-mated probes; and the shipped operating point."""
    truth = np.array([model.person_ids.index(photographs.people[i]) for i in draw.mated])
    mated = model.similarities(embedded.embeddings[draw.mated])
    strangers = model.similarities(embedded.embeddings[draw.non_mated]).max(axis=1)
    strangers[~embedded.found[draw.non_mated]] = -np.inf
    right = (mated.argmax(axis=1) == truth) & embedded.found[draw.mated]
    best = mated.max(axis=1)

    def tpir(threshold: float) -> float:
        return float(np.mean(right & (best >= threshold)))

    return {
        "identification": {
            "gallery": len(model.person_ids),
            "templates": len(draw.gallery),
            "mated_probes": len(draw.mated),
            "non_mated_probes": len(draw.non_mated),
            "rank1": float(np.mean(right)),
            "tpir_at_fpir_1pct": tpir(_threshold_at(strangers, 0.01)),
            "tpir_at_fpir_0p1pct": tpir(_threshold_at(strangers, 0.001)),
        },
        "operating": {
            "threshold": model.operating.threshold,
            "measured_fpir": float(np.mean(strangers >= model.operating.threshold)),
            "tpir": tpir(model.operating.threshold),
        },
    }


def _threshold_at(strangers: Float32Array, fpir: float) -> float:
    """Smallest threshold that at most `fpir` of the strangers reach."""
    allowed = int(fpir * len(strangers))
    return float(np.nextafter(np.sort(strangers)[::-1][allowed], np.float32(np.inf)))


def evaluate(
    photographs: Photographs, pack_name: str, cache: ModelCache, target_fpir: float, seed: int
) -> dict[str, Any]:
    """All figures of one pack."""
    embedded = embed_all(photographs, pack_name, cache)
    draw = open_set(photographs, seed)
    model = fit_gallery(photographs, embedded, draw.gallery, pack_name, target_fpir)
    figures = identification(model, photographs, embedded, draw)
    figures["operating"] = {"target_fpir": target_fpir} | figures["operating"]
    missing = int(np.sum(~embedded.found))
    return {
        "faces": {
            "photographs": len(embedded.found),
            "without_face": missing,
            "without_face_per_1000": 1_000 * missing / len(embedded.found),
        },
        "verification": verification(photographs.pairs(), embedded.embeddings),
        **figures,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lfw", type=Path, required=True, help="folder with images/ and pairs.txt")
    parser.add_argument("--packs", nargs="+", default=list(PACKS))
    parser.add_argument("--seed", type=int, default=0, help="which images of each person are enrolled")
    arguments = parser.parse_args()
    settings = Settings()
    cache = ModelCache(settings.model_cache)
    photographs = Photographs.read(arguments.lfw)
    figures = {
        pack: evaluate(photographs, pack, cache, settings.target_fpir, arguments.seed) for pack in arguments.packs
    }
    rows = []
    for pack, f in figures.items():
        v, i, o = f["verification"], f["identification"], f["operating"]
        rows += [
            (pack, "verification accuracy", f"{v['accuracy']:.4f} ± {v['accuracy_std']:.4f}"),
            (pack, "… by bare cosine", f"{v['accuracy_bare_cosine']:.4f}"),
            (pack, "TAR at FAR 0.1 %", f"{v['tar_at_far_1e-3']:.4f}"),
            (pack, f"rank 1, {i['gallery']} people", f"{i['rank1']:.4f}"),
            (pack, "TPIR at FPIR 1 %", f"{i['tpir_at_fpir_1pct']:.4f}"),
            (pack, "TPIR at FPIR 0.1 %", f"{i['tpir_at_fpir_0p1pct']:.4f}"),
            (pack, f"shipped: FPIR (target {o['target_fpir']:.1%})", f"{o['measured_fpir']:.4f}"),
            (pack, "shipped: TPIR", f"{o['tpir']:.4f}"),
            (pack, "photographs without a face", f"{f['faces']['without_face_per_1000']:.2f} in 1,000"),
        ]
    print_figures("Recognition", rows, ("pack", "figure", "value"))
    write_report("recognition", figures)


if __name__ == "__main__":
    run_bench(main)
