"""Who was taken for whom: the probe's face beside the enrolled one, as small pictures."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image

from local.evaluation.figures import Figures
from local.evaluation.trial import open_photo, thumbnail
from shared.domain import Float32Array, UInt8Array
from shared.errors import PermanentError
from shared.vision.decode import ImageLimits, decode_image

SHOWN: Final = 24
"""Pairs on the page; all are in evaluation.json."""

SIDE_PX: Final = 132
MARGIN: Final = 0.35


@dataclass(frozen=True, slots=True)
class Pair:
    """One confusion, for the page. Names are as folders are called: not to be trusted.

    Attributes:
        stranger: whether the person is not enrolled at all.
        probe, enrolled: `data:` addresses of JPEG pictures; empty when a picture could not be read again.
        photo: folder and file name of the probe.
    """

    truth: str
    named: str
    stranger: bool
    similarity: float
    confidence: float
    count: int
    probe: str
    enrolled: str
    photo: str


def make_pairs(figures: Figures) -> list[Pair]:
    """The worst confusions with their faces."""
    trial = figures.trial
    pairs = []
    for confusion in figures.confusions[:SHOWN]:
        search = trial.searches[confusion.worst]
        pairs.append(
            Pair(
                truth=search.photo.name,
                named=trial.plan.people.get(confusion.named, confusion.named),
                stranger=not search.mated,
                similarity=confusion.similarity,
                confidence=search.confidence,
                count=confusion.count,
                probe=_probe(search.photo.path, search.box),
                enrolled=_enrolled(search.crop),
                photo=f"{search.photo.path.parent.name}/{search.photo.path.name}",
            )
        )
    return pairs


def _probe(path: Path, box: Float32Array | None) -> str:
    try:
        return "" if box is None else _picture(thumbnail(open_photo(path), box, MARGIN))
    except (PermanentError, OSError):  # gone, or changed, since it was searched for
        return ""


def _enrolled(crop: tuple[bytes, tuple[float, float, float, float]] | None) -> str:
    if crop is None:
        return ""
    data, box = crop
    return _picture(thumbnail(decode_image(data, ImageLimits()), box, MARGIN))


def _picture(image: UInt8Array) -> str:
    picture = Image.fromarray(image)
    picture.thumbnail((SIDE_PX * 2, SIDE_PX * 2))
    sink = BytesIO()
    picture.save(sink, "JPEG", quality=88)
    return data_uri(sink.getvalue(), "image/jpeg")


def data_uri(data: bytes, kind: str) -> str:
    """Bytes as an address, so that the page needs no other file."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
