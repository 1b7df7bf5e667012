"""How well people are told apart, and strangers told from people: `make bench-recognition [LFW=DIR]`.

Writes build/bench/recognition.json. Ten draws of which photographs are enrolled; of every figure the mean and the
spread. Photographs in which no face is found count as failures, never as left out.

- `identification`: TPIR at a fixed FPIR, of the ranking alone. The threshold is set on one half of the strangers, by
  person, and TPIR and FPIR are reported for the other; then the other way round.
- `operating`: the threshold that training ships, of a site that has seen nobody yet, met by people with a single
  photograph, whom neither the fit nor the embedder's impostor curve has seen; for galleries of 10, 100 and all.
- `awkward`: the same for galleries as they should not be: one photograph each; 1 to 7 of each; every photograph five
  times over, all but the same; and twenty people enrolled under two names, as twins look to an embedder.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from bench.embed import Embedded, embed_all
from bench.lfw import OpenSet, Photographs, open_set, verification
from bench.report import console, print_figures, write_report
from bench.report import run as run_bench
from functions.train.fit import FitRequest, Gallery, fit_bundle
from shared.domain import SECOND_LOOK, Float32Array, sha256_hex
from shared.matching.bundle import Bundle, load_matcher
from shared.matching.model import MatcherModel, Operating
from shared.settings import Settings
from shared.vision.assets import ModelCache, load_registry

PACKS: Final = ("facenet", "sface")
SIZES: Final = (10, 100, None)
"""People enrolled when the shipped threshold is measured; None is everybody who can be."""
TWINS: Final = 20
TWIN: Final = "~twin"
"""Ends the other name of somebody who is enrolled under two."""
FPIRS: Final = {"1pct": 0.01, "0p1pct": 0.001}


@dataclass(frozen=True, slots=True, eq=False)
class Bench:
    """Photographs, embedded by one pack."""

    photographs: Photographs
    embedded: Embedded
    pack: str
    target_fpir: float

    def fit(self, images: NDArray[np.intp]) -> Bundle:
        """The bundle that the train function would publish of these images."""
        images = images[self.embedded.found[images]]  # a photo without a face cannot be enrolled
        return self.fit_rows(self.embedded.references[images], np.array(self.photographs.people)[images])

    def fit_rows(self, references: Float32Array, whose: NDArray[np.str_]) -> Bundle:
        """The bundle of these templates and whose they are said to be."""
        registry = load_registry()
        table = registry.embedder[registry.pack[self.pack].embedder]
        person_ids, people = np.unique(whose, return_inverse=True)
        names = tuple(f"{row:06d}" for row in range(len(references)))
        gallery = Gallery(references, people, tuple(str(person_id) for person_id in person_ids), "bench", names)
        fallback = Operating(table.default_threshold, 20.0, table.default_threshold)
        return fit_bundle(gallery, FitRequest("bench", table.model_dump(), fallback, self.target_fpir))

    def search(self, model: MatcherModel, images: NDArray[np.intp]) -> tuple[Float32Array, NDArray[np.bool_]]:
        """Highest similarity of each image, and whether it is the right person's. No face: no similarity.

        Where it is close, at the second look, as `Recognizer` does it.
        """
        similarities = model.similarities(self.embedded.embeddings[images])
        close = np.abs(similarities.max(axis=1) - model.operating.threshold) <= SECOND_LOOK
        similarities[close] = model.similarities(self.embedded.references[images[close]])
        similarities[~self.embedded.found[images]] = -np.inf
        nearest = np.array([name.removesuffix(TWIN) for name in model.person_ids])[similarities.argmax(axis=1)]
        right = (nearest == np.array(self.photographs.people)[images]) & self.embedded.found[images]
        return similarities.max(axis=1), right


def ranking(bench: Bench, model: MatcherModel, draw: OpenSet) -> dict[str, float]:
    """Rank 1, and TPIR at fixed FPIRs with thresholds set on other strangers than those that are reported."""
    best, right = bench.search(model, draw.mated)
    strangers, _ = bench.search(model, draw.strangers)
    half = np.array([int(sha256_hex(bench.photographs.people[i].encode())[:8], 16) % 2 for i in draw.strangers])
    figures = {"rank1": float(np.mean(right))}
    for name, fpir in FPIRS.items():
        tpirs, seen = [], []
        for one in (0, 1):
            threshold = threshold_at(strangers[half == one], fpir)
            tpirs.append(float(np.mean(right & (best >= threshold))))
            seen.append(float(np.mean(strangers[half != one] >= threshold)))
        figures |= {f"tpir_at_fpir_{name}": float(np.mean(tpirs)), f"fpir_at_{name}": float(np.mean(seen))}
        # For comparison with figures whose threshold was set on the very strangers that were reported.
        own, _ = bench.search(model, draw.non_mated)
        figures[f"tpir_at_own_{name}"] = float(np.mean(right & (best >= threshold_at(own, fpir))))
    return figures


def operating(bench: Bench, model: MatcherModel, draw: OpenSet) -> dict[str, float]:
    """FPIR and TPIR at the shipped threshold."""
    mated = draw.mated[np.isin(np.array(bench.photographs.people)[draw.mated], model.person_ids)]
    best, right = bench.search(model, mated)
    strangers, _ = bench.search(model, draw.non_mated)
    confident = model.operating.confidence(strangers) >= 0.9
    named = strangers >= model.operating.threshold
    return {
        "threshold": model.operating.threshold,
        "measured_fpir": float(np.mean(named)),
        "tpir": float(np.mean(right & (best >= model.operating.threshold))),
        "misnamed": float(np.mean(~right & (best >= model.operating.threshold))),
        "fpir_with_confidence_0p9": float(np.mean(named & confident)),
    }


def awkward(bench: Bench, draw: OpenSet, seed: int) -> dict[str, tuple[Float32Array, NDArray[np.str_]]]:
    """Templates, and whose they are said to be, of galleries as they should not be."""
    random = np.random.default_rng(seed)
    images = draw.gallery[bench.embedded.found[draw.gallery]]
    references, whose = bench.embedded.references, np.array(bench.photographs.people)
    _, first = np.unique(whose[images], return_index=True)
    spare = draw.mated[::2]  # every other probe is enrolled, of whoever has them; the rest is searched for
    spare = spare[bench.embedded.found[spare]]
    keep = np.concatenate([images[first], random.permutation(np.setdiff1d(images, images[first]))[: len(first)], spare])
    noise = 0.12 * random.standard_normal((4 * len(images), references.shape[1])) / np.sqrt(references.shape[1])
    copies = np.tile(references[images], (4, 1)) + noise.astype(np.float32)
    copies /= np.linalg.norm(copies, axis=1, keepdims=True)
    twice = np.isin(whose[images], random.choice(np.unique(whose[images]), TWINS, replace=False))
    twin = np.array([f"{name}{TWIN}" for name in whose[images[twice]]])
    return {
        "one_photograph_each": (references[images[first]], whose[images[first]]),
        "one_to_seven_each": (references[keep], whose[keep]),
        "five_near_duplicates": (
            np.concatenate([references[images], copies.astype(np.float32)]),
            np.tile(whose[images], 5),
        ),
        "twins": (
            np.concatenate([references[images], references[images[twice]]]),
            np.concatenate([whose[images], twin]),
        ),
    }


def threshold_at(strangers: Float32Array, fpir: float) -> float:
    """The threshold that further strangers are expected to reach at a rate of `fpir`.

    Of n, the k-th highest is reached by the next with probability k / (n + 1); between two it is interpolated.
    """
    highest = np.sort(strangers)[::-1]
    place = fpir * (len(highest) + 1) - 1
    below = int(np.clip(np.floor(place), 0, len(highest) - 2))
    share = float(np.clip(place - below, 0.0, 1.0))
    between = (1 - share) * highest[below] + share * highest[below + 1]
    return float(np.nextafter(np.float32(between), np.float32(np.inf)))


def some_people(bench: Bench, images: NDArray[np.intp], count: int | None, seed: int) -> NDArray[np.intp]:
    """The images of `count` people, drawn by `seed`."""
    people = np.array(bench.photographs.people)[images]
    everybody = np.unique(people)
    if count is None or count >= len(everybody):
        return images
    return images[np.isin(people, np.random.default_rng(seed).choice(everybody, count, replace=False))]


def spread(draws: Sequence[dict[str, float]]) -> dict[str, float]:
    """Mean of every figure over the draws, and beside it, as `…_sd`, the standard deviation."""
    found = {name: float(np.mean([draw[name] for draw in draws])) for name in draws[0]}
    return found | {f"{name}_sd": float(np.std([draw[name] for draw in draws])) for name in draws[0]}


def evaluate(bench: Bench, draws: int) -> dict[str, Any]:
    """All figures of one pack."""
    ranked: list[dict[str, float]] = []
    shipped: dict[str, list[dict[str, float]]] = {}
    chosen: list[str] = []
    odd: dict[str, list[dict[str, float]]] = {}
    for seed in track(range(draws), description=f"{bench.pack}: {draws} draws", console=console):
        draw = open_set(bench.photographs, seed)
        for size in SIZES:
            bundle = bench.fit(some_people(bench, draw.gallery, size, seed))
            model = load_matcher(bundle)
            shipped.setdefault(str(size or "all"), []).append(operating(bench, model, draw))
            if size is None:
                ranked.append(ranking(bench, model, draw))
                chosen.append(str(bundle.manifest.classifier["kind"]))
        for name, (references, whose) in awkward(bench, draw, seed).items():
            model_of = load_matcher(bench.fit_rows(references, whose))
            left = replace(draw, mated=draw.mated[1::2]) if name == "one_to_seven_each" else draw
            odd.setdefault(name, []).append(operating(bench, model_of, left))
    missing = int(np.sum(~bench.embedded.found))
    target = {"target_fpir": bench.target_fpir}
    return {
        "faces": {
            "photographs": len(bench.embedded.found),
            "without_face": missing,
            "without_face_per_1000": 1_000 * missing / len(bench.embedded.found),
        },
        "verification": verification(bench.photographs.pairs(), bench.embedded.embeddings),
        "identification": {
            "draws": draws,
            "gallery": len(model.person_ids),
            "templates": len(draw.gallery),
            "mated_probes": len(draw.mated),
            "non_mated_probes": len(draw.non_mated),
            "strangers_for_thresholds": len(draw.strangers),
            "matchers": {kind: chosen.count(kind) for kind in sorted(set(chosen))},
            **spread(ranked),
        },
        "operating": target | spread(shipped["all"]),
        "operating_by_gallery": {size: target | spread(figures) for size, figures in shipped.items()},
        "awkward": {name: target | spread(figures) for name, figures in odd.items()},
    }


def rows_of(pack: str, figures: dict[str, Any]) -> list[tuple[str, str, str]]:
    """What the table says of a pack."""
    v, i = figures["verification"], figures["identification"]

    def mean_of(of: dict[str, Any]) -> Callable[[str], str]:
        return lambda name: f"{of[name]:.4f} ± {of[name + '_sd']:.4f}"

    say = mean_of(i)
    rows = [
        (pack, "verification accuracy", f"{v['accuracy']:.4f} ± {v['accuracy_std']:.4f}"),
        (pack, "… by bare cosine", f"{v['accuracy_bare_cosine']:.4f}"),
        (pack, "TAR at FAR 0.1 %", f"{v['tar_at_far_1e-3']:.4f}"),
        (pack, f"rank 1, {i['gallery']} people", say("rank1")),
        (pack, "TPIR at FPIR 1 %", say("tpir_at_fpir_1pct")),
        (pack, "TPIR at FPIR 0.1 %", say("tpir_at_fpir_0p1pct")),
    ]
    for size, of in figures["operating_by_gallery"].items():
        say = mean_of(of)
        rows += [
            (pack, f"shipped, {size} people: FPIR ({of['target_fpir']:.1%})", say("measured_fpir")),
            (pack, f"shipped, {size} people: TPIR", say("tpir")),
            (pack, f"shipped, {size} people: strangers at confidence 0.9", say("fpir_with_confidence_0p9")),
        ]
    for name, of in figures["awkward"].items():
        say = mean_of(of)
        rows.append((pack, f"{name.replace('_', ' ')}: FPIR, TPIR", f"{say('measured_fpir')}, {say('tpir')}"))
    return [*rows, (pack, "photographs without a face", f"{figures['faces']['without_face_per_1000']:.2f} in 1,000")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lfw", type=Path, required=True, help="folder with images/ and pairs.txt")
    parser.add_argument("--packs", nargs="+", default=list(PACKS))
    parser.add_argument("--draws", type=int, default=10, help="how often the enrolled images are drawn anew")
    arguments = parser.parse_args()
    settings = Settings()
    cache = ModelCache(settings.model_cache)
    photographs = Photographs.read(arguments.lfw)
    logging.getLogger("functions.train.fit").setLevel(logging.ERROR)  # small galleries state no rate, as they should
    figures = {}
    for pack in arguments.packs:
        bench = Bench(photographs, embed_all(photographs, pack, cache), pack, settings.target_fpir)
        figures[pack] = evaluate(bench, arguments.draws)
    rows = [row for pack, of in figures.items() for row in rows_of(pack, of)]
    print_figures("Recognition", rows, ("pack", "figure", "mean ± spread over draws"))
    write_report("recognition", figures)


if __name__ == "__main__":
    run_bench(main)
