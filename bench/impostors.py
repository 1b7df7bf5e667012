"""Measures an embedder's impostor curve: `python -m bench.impostors --lfw DIR [--packs NAME …]`.

Galleries of 3 to 400 people, three templates each, drawn from people with three photographs or more; strangers are all
others with two or more, at most four photographs each. What a share of strangers reach is fitted by the six numbers of
`matching.impostors.ImpostorCurve`, as `shared/vision/assets.toml` or a pack's own manifest holds them. People with one
photograph take no part: bench.recognition measures the shipped threshold on them. Writes build/bench/impostors.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from rich.progress import track

from bench.embed import Embedded, embed_all
from bench.lfw import GALLERY_TEMPLATES, Photographs
from bench.report import console, print_figures, write_report
from bench.report import run as run_bench
from functions.train.fit import PLAIN
from functions.train.scoring import fit_scorers
from shared.domain import Float32Array
from shared.errors import InvalidInput
from shared.settings import Settings
from shared.vision.assets import ImpostorsTable, ModelCache

GALLERIES: Final = {3: 300, 5: 200, 10: 150, 20: 80, 50: 30, 100: 15, 200: 8, 400: 4}
"""Draws of each size of gallery."""
SHARES: Final = (0.2, 0.1, 0.05, 0.02, 0.01, 0.005, 0.002)
USUAL_SHARE: Final = 0.01
USUAL_WEIGHT: Final = 4.0
"""Of the share that most sites ask for, in the fit."""
MOST_PHOTOGRAPHS: Final = 4


def reached(
    photographs: Photographs, embedded: Embedded, people: int, draws: int, random: np.random.Generator
) -> Float32Array:
    """Similarities of strangers to the nearest of so many people, over several draws of a gallery."""
    whose = np.array(photographs.people)
    names, counts = np.unique(whose[embedded.found], return_counts=True)
    several = names[counts >= 2]
    enrolled = names[counts >= GALLERY_TEMPLATES]
    if len(enrolled) < people:
        raise InvalidInput(f"a gallery of {people} needs as many people with {GALLERY_TEMPLATES} photographs")
    images = {name: np.flatnonzero((whose == name) & embedded.found) for name in several}
    probes = np.concatenate([images[name][:MOST_PHOTOGRAPHS] for name in several])
    found = []
    for _ in range(draws):
        chosen = random.choice(enrolled, people, replace=False)
        rows = np.concatenate([random.choice(images[name], GALLERY_TEMPLATES, replace=False) for name in chosen])
        groups = np.repeat(np.arange(people), GALLERY_TEMPLATES)
        scorer = fit_scorers(embedded.references[rows], groups, people, kinds=[PLAIN])[PLAIN]
        strangers = probes[~np.isin(whose[probes], chosen)]
        found.append(scorer.similarities(embedded.embeddings[strangers]).max(axis=1))
    return np.concatenate(found)


def terms(people: NDArray[np.float64], shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 6) what the curve's numbers are multiplied by, in the order of `ImpostorsTable`."""
    n, r = np.log(people), -np.log(shares)
    return np.stack([np.ones_like(n), n, r, n * n, n * r, r * r], axis=1)


def measure(photographs: Photographs, embedded: Embedded, seed: int) -> dict[str, Any]:
    """The six numbers, and how far they are off."""
    random = np.random.default_rng(seed)
    rows = []
    for people, draws in track(GALLERIES.items(), description="galleries", console=console):
        similarities = reached(photographs, embedded, people, draws, random)
        rows += [(people, share, float(np.quantile(similarities, 1 - share))) for share in SHARES]
    sizes, shares, similarity = (np.array(column, np.float64) for column in zip(*rows, strict=True))
    weight = np.where(shares == USUAL_SHARE, USUAL_WEIGHT, 1.0)
    matrix = terms(sizes, shares)
    numbers = np.linalg.lstsq(matrix * weight[:, None], similarity * weight, rcond=None)[0]
    off = np.abs(matrix @ numbers - similarity)
    return {
        "impostors": {
            name: round(float(value), 4) for name, value in zip(ImpostorsTable.model_fields, numbers, strict=True)
        },
        "largest_residual": float(off.max()),
        "largest_residual_at_1pct": float(off[shares == USUAL_SHARE].max()),
        "points": [{"people": int(p), "share": s, "similarity": round(v, 4)} for p, s, v in rows],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--lfw", type=Path, required=True, help="folder with images/")
    parser.add_argument("--packs", nargs="+", default=["facenet", "sface"])
    parser.add_argument("--seed", type=int, default=1, help="of the galleries")
    arguments = parser.parse_args()
    photographs, cache = Photographs.read(arguments.lfw), ModelCache(Settings().model_cache)
    figures = {
        pack: measure(photographs, embed_all(photographs, pack, cache), arguments.seed) for pack in arguments.packs
    }
    rows = [(pack, name, f"{value:.4f}") for pack, of in figures.items() for name, value in of["impostors"].items()]
    rows += [(pack, "largest residual at 1 %", f"{of['largest_residual_at_1pct']:.4f}") for pack, of in figures.items()]
    print_figures("Impostor curves", rows, ("pack", "number", "value"))
    write_report("impostors", figures)


if __name__ == "__main__":
    run_bench(main)
