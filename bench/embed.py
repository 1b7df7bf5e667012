"""Finds and embeds the face of every photograph, on all cores; keeps the result under build/ for the next run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.lfw import Photographs
from bench.report import OUTPUT, console
from functions.recognize.service import most_central
from local.evaluation.cores import on_all_cores
from shared.domain import Float32Array, sha256_hex
from shared.settings import Settings
from shared.vision.assets import ModelCache
from shared.vision.decode import ImageLimits, decode_image
from shared.vision.detectors import Pack, load_pack


@dataclass(frozen=True, slots=True, eq=False)
class Embedded:
    """The face of each of N photographs.

    Attributes:
        embeddings: (N, D) unit rows, as a probe is embedded; zero where no face was found.
        references: (N, D) the same as a template is.
        found: (N,) where there was a face.
    """

    embeddings: Float32Array
    references: Float32Array
    found: NDArray[np.bool_]


def embed_all(photographs: Photographs, pack_name: str, cache: ModelCache) -> Embedded:
    """The most central face of each photograph, through the product's own detector and embedder."""
    pack = load_pack(pack_name, cache, min_face_px=Settings().recognize_min_face_px)
    kept = OUTPUT / f"embeddings-{pack.embedder.embedder_id}-{_fingerprint(photographs, pack)}.npz"
    if kept.is_file():
        console.print(f"{pack_name}: embeddings of an earlier run ({kept.name})")
        with np.load(kept) as arrays:
            return Embedded(arrays["embeddings"], arrays["references"], arrays["found"])
    paths = photographs.paths()
    rows = on_all_cores(lambda path: _embed(path, pack), paths, f"{pack_name}: {len(paths)} photographs", console)
    found = np.array([row is not None for row in rows])
    nothing = np.zeros((2, pack.embedder.dimension), np.float32)
    embeddings, references = np.stack([nothing if row is None else row for row in rows], axis=1)
    OUTPUT.mkdir(parents=True, exist_ok=True)
    np.savez(kept, embeddings=embeddings, references=references, found=found)
    return Embedded(embeddings, references, found)


def _fingerprint(photographs: Photographs, pack: Pack) -> str:
    """Changes with the photographs, and with the code that makes the embeddings."""
    sources = sorted(Path("shared/vision").glob("*.py")) + [Path("shared/vision/assets.toml")]
    code = sha256_hex(b"".join(path.read_bytes() for path in sources))
    return sha256_hex(f"{code}{pack.name}{'|'.join(photographs.names)}".encode())[:12]


def _embed(path: Path, pack: Pack) -> Float32Array | None:
    image = decode_image(path.read_bytes(), ImageLimits())
    face = most_central(image, pack.detector.detect(image))
    if face is None:
        return None
    embedder = pack.embedder
    return np.concatenate([embed([image], [face]).vectors for embed in (embedder.embed, embedder.embed_reference)])
