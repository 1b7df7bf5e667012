"""Planted errors in a clean gallery, and what the review makes of them: `make bench-hygiene [LFW=DIR]`.

People with at least four photographs are enrolled; then a twentieth of the templates is swapped between people, five
people are enrolled under two ids, and noisy copies of templates are added. Writes build/bench/hygiene.json, means over
the draws: what was found, and what was set aside wrongly. The data set's own errors count as wrongly set aside.
"""

from __future__ import annotations

import argparse
import time
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.embed import Embedded, embed_all
from bench.lfw import Photographs
from bench.quality import unit
from bench.report import console, print_figures, write_report
from bench.report import run as run_bench
from functions.train.hygiene import Limits, Review, review
from shared.domain import Float32Array
from shared.settings import Settings
from shared.vision.assets import ModelCache, load_registry

MIN_IMAGES: Final = 4
SWAPPED: Final = 0.05
ENROLLED_TWICE: Final = 5
COPIES: Final = 20
COPY_COSINE: Final = 0.985
"""Of a copy to its original: the median of re-encoded and resized photographs, see bench/quality.py."""
SCALE: Final = (10_000, 5)


@dataclass(frozen=True, slots=True, eq=False)
class Planted:
    """A gallery with errors whose truth is known.

    Attributes:
        images: (N,) photograph behind each template.
        people: (N,) under whom it is enrolled, and `truth` whom it shows, as indices into `person_ids`.
        copy: (N,) copies of another template.
        twice: pairs of ids that are one person.
    """

    embeddings: Float32Array
    images: NDArray[np.intp]
    people: NDArray[np.intp]
    truth: NDArray[np.intp]
    copy: NDArray[np.bool_]
    person_ids: tuple[str, ...]
    twice: frozenset[tuple[str, str]]


def plant(photographs: Photographs, embedded: Embedded, per_person: int, seed: int, *, errors: bool) -> Planted:
    """One draw."""
    random = np.random.default_rng(seed)
    owners = np.array(photographs.people)
    groups = {str(person): np.flatnonzero((owners == person) & embedded.found) for person in np.unique(owners)}
    groups = {person: random.permutation(rows) for person, rows in groups.items() if len(rows) >= MIN_IMAGES}
    large = [person for person, rows in groups.items() if len(rows) >= 2 * min(per_person, MIN_IMAGES)]
    split = set(random.permutation(large)[: ENROLLED_TWICE if errors else 0].tolist())
    person_ids: list[str] = []
    images: list[NDArray[np.intp]] = []
    for person, rows in groups.items():
        if person in split:
            half = min(len(rows) // 2, per_person)
            person_ids += [person, f"{person}-2"]
            images += [rows[:half], rows[half : 2 * half]]
        else:
            person_ids.append(person)
            images.append(rows[:per_person])
    truth = np.repeat(np.arange(len(images)), [len(rows) for rows in images])
    chosen, people = np.concatenate(images), truth.copy()
    embeddings, copy = embedded.embeddings[chosen], np.zeros(len(chosen), dtype=bool)
    if errors:
        swapped = random.permutation(len(chosen))[: int(SWAPPED * len(chosen))]
        people[swapped] = truth[np.roll(swapped, 1)]
        originals = random.permutation(len(chosen))[:COPIES]
        embeddings = np.concatenate([embeddings, noisy(embeddings[originals], random)])
        chosen, people, truth = (np.concatenate([a, a[originals]]) for a in (chosen, people, truth))
        copy = np.arange(len(chosen)) >= len(copy)
    twice = frozenset((person, f"{person}-2") for person in split)
    return Planted(embeddings, chosen, people, truth, copy, tuple(person_ids), twice)


def noisy(embeddings: Float32Array, random: np.random.Generator) -> Float32Array:
    """Unit vectors at `COPY_COSINE` from the given ones."""
    noise = random.standard_normal(embeddings.shape)
    noise -= (noise * embeddings).sum(axis=1, keepdims=True) * embeddings
    noise /= np.linalg.norm(noise, axis=1, keepdims=True)
    copies: Float32Array = (COPY_COSINE * embeddings + np.sqrt(1 - COPY_COSINE**2) * noise).astype(np.float32)
    return copies


def judge(planted: Planted, limits: Limits) -> tuple[dict[str, float], Review]:
    """Counts of one draw."""
    names = [str(number) for number in range(len(planted.people))]
    found = review(planted.embeddings, planted.people, planted.person_ids, names, limits=limits)
    same = {frozenset(pair) for pair in planted.twice}
    alike = np.array(
        [frozenset((planted.person_ids[a], planted.person_ids[b])) in same
         for a, b in zip(planted.people, planted.truth, strict=True)]
    )  # fmt: skip
    wrong = (planted.people != planted.truth) & ~alike & ~planted.copy
    right = ~wrong & ~planted.copy
    duplicate = np.array([verdict.word == "duplicate" for verdict in found.verdicts])
    reported = np.array([verdict.word in ("unlike_own_person", "confuses") for verdict in found.verdicts])
    stray = ~found.keep & ~duplicate
    pairs = {(pair.first, pair.second) for pair in found.pairs}
    return {
        "templates": len(wrong),
        "swapped": int(wrong.sum()),
        "swapped_set_aside": int((wrong & stray).sum()),
        "swapped_reported": int((wrong & reported).sum()),
        "right": int(right.sum()),
        "right_set_aside": int((right & stray).sum()),
        "right_reported": int((right & reported).sum()),
        "copies": int(planted.copy.sum()),
        "copies_found": int((duplicate & planted.copy).sum()),
        "right_called_copies": int((duplicate & ~planted.copy).sum()),
        "enrolled_twice": len(planted.twice),
        "enrolled_twice_found": len(planted.twice & pairs),
        "pairs_besides": len(pairs - planted.twice),
    }, found


def evaluate(
    photographs: Photographs, embedded: Embedded, limits: Limits, per_person: int, draws: int
) -> dict[str, Any]:
    """Sums over the draws, as rates; and whom the clean gallery's review names most often."""
    sums, flagged = Counter[str](), Counter[str]()
    clean = Counter[str]()
    for seed in range(draws):
        figures, _ = judge(plant(photographs, embedded, per_person, seed, errors=True), limits)
        sums.update({name: int(value) for name, value in figures.items()})
        planted = plant(photographs, embedded, per_person, seed, errors=False)
        figures, found = judge(planted, limits)
        clean.update({name: int(value) for name, value in figures.items()})
        flagged.update(
            photographs.names[planted.images[row]]
            for row, verdict in enumerate(found.verdicts)
            if verdict.set_aside and verdict.word != "duplicate"
        )
    return {
        "templates": sums["templates"] / draws,
        "swapped_set_aside": sums["swapped_set_aside"] / sums["swapped"],
        "swapped_reported": sums["swapped_reported"] / sums["swapped"],
        "right_set_aside": sums["right_set_aside"] / sums["right"],
        "right_set_aside_clean_gallery": clean["right_set_aside"] / clean["right"],
        "copies_found": sums["copies_found"] / sums["copies"],
        "right_called_copies": sums["right_called_copies"] / sums["right"],
        "enrolled_twice_found": sums["enrolled_twice_found"] / sums["enrolled_twice"],
        "pairs_besides": sums["pairs_besides"] / draws,
        "most_often_set_aside_when_clean": dict(flagged.most_common(10)),
    }


def worth(
    photographs: Photographs, embedded: Embedded, limits: Limits, per_person: int, draws: int
) -> dict[str, float]:
    """TPIR at FPIR 1 % of people's other photographs: with the errors in the gallery, and with them set aside.

    Matched by cosine to the mean template, the gallery's mean removed; people enrolled twice may be named either way.
    """
    owners = np.array(photographs.people)
    counts = Counter(photographs.people)
    alone = np.array([counts[person] == 1 for person in photographs.people]) & embedded.found
    sums: defaultdict[str, float] = defaultdict(float)
    for seed in range(draws):
        planted = plant(photographs, embedded, per_person, seed, errors=True)
        _, found = judge(planted, limits)
        people = np.array([name.removesuffix("-2") for name in planted.person_ids])
        mated = np.isin(owners, people) & embedded.found
        mated[planted.images] = False
        used = {
            "with_errors": np.ones(len(planted.people), dtype=bool),
            "set_aside": found.keep,
            "without_errors": planted.people == planted.truth,
        }
        for name, rows in used.items():
            mean = planted.embeddings[rows].mean(axis=0)
            sums_of = np.zeros((len(people), planted.embeddings.shape[1]), np.float32)
            np.add.at(sums_of, planted.people[rows], unit(planted.embeddings[rows] - mean))
            strangers = unit(embedded.embeddings[alone] - mean) @ unit(sums_of).T
            threshold = np.quantile(strangers.max(axis=1), 0.99)
            alike = unit(embedded.embeddings[mated] - mean) @ unit(sums_of).T
            right = (people[alike.argmax(axis=1)] == owners[mated]) & (alike.max(axis=1) >= threshold)
            sums[name] += float(right.mean())
    return {name: round(total / draws, 4) for name, total in sums.items()}


def scale(dimension: int) -> dict[str, float]:
    """Seconds for a gallery of synthetic people."""
    people, each = SCALE
    random = np.random.default_rng(0)
    rows = np.repeat(random.standard_normal((people, dimension), dtype=np.float32), each, axis=0)
    rows += 0.8 * random.standard_normal(rows.shape, dtype=np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    names = [str(number) for number in range(len(rows))]
    began, worked = time.perf_counter(), time.process_time()
    review(rows, np.repeat(np.arange(people), each), names[:people], names, limits=Limits(0.95, 0.4))
    return {
        "people": people,
        "templates_each": each,
        "review_s": round(time.perf_counter() - began, 2),
        "cpu_s": round(time.process_time() - worked, 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lfw", type=Path, required=True, help="folder with images/")
    parser.add_argument("--packs", nargs="+", default=["facenet", "sface"])
    parser.add_argument("--draws", type=int, default=5)
    arguments = parser.parse_args()
    photographs, cache, registry = Photographs.read(arguments.lfw), ModelCache(Settings().model_cache), load_registry()
    report: dict[str, Any] = {}
    rows = []
    for pack in arguments.packs:
        table = registry.embedder[registry.pack[pack].embedder]
        embedded = embed_all(photographs, pack, cache)
        limits = Limits(table.duplicate_similarity, table.impostor_similarity)
        report[pack] = {"scale": scale(table.dimension)}
        for per_person in (3, 4, 8):
            figures = evaluate(photographs, embedded, limits, per_person, arguments.draws)
            figures["tpir"] = worth(photographs, embedded, limits, per_person, arguments.draws)
            rows += [(pack, str(per_person), f"TPIR {name}", f"{v:.4f}") for name, v in figures["tpir"].items()]
            report[pack][f"templates_up_to_{per_person}"] = figures
            rows += [(pack, str(per_person), k, f"{v:.4f}") for k, v in figures.items() if not isinstance(v, dict)]
            console.print(
                f"{pack}, {per_person} each, set aside when clean: {figures['most_often_set_aside_when_clean']}"
            )
        rows.append((pack, "–", "review of 10,000 × 5, s", f"{report[pack]['scale']['review_s']:.1f}"))
        rows.append((pack, "–", "of the processors' time, s", f"{report[pack]['scale']['cpu_s']:.1f}"))
    print_figures("Hygiene", rows, ("pack", "templates", "figure", "value"))
    write_report("hygiene", report)


if __name__ == "__main__":
    run_bench(main)
