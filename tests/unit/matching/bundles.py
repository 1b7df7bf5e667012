"""Bundles without a fit."""

from __future__ import annotations

from dataclasses import asdict

from shared.domain import sha256_hex
from shared.matching.bundle import MATCHER_FILE, Bundle, Manifest, pack_matcher
from shared.matching.model import MatcherModel


def bundle_of(model: MatcherModel, *, gallery: str = "g") -> Bundle:
    """What a fit would publish for this matcher."""
    data = pack_matcher(model)
    manifest = Manifest(
        model_id=model.model_id,
        files={MATCHER_FILE: sha256_hex(data)},
        embedder={"embedder_id": model.embedder_id, "dimension": len(model.mean)},
        templates=dict.fromkeys(model.person_ids, 1),
        classifier={"kind": "prototype"},
        operating=asdict(model.operating),
        calibration={"calibrated": False},
        evaluation={},
        gallery=gallery,
        versions={},
    )
    return Bundle(manifest, {MATCHER_FILE: data})
