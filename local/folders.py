"""Folders of images, for the commands that send them."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Final

from PIL import Image, ImageOps

from edge_uploader.capture.sources import IMAGE_SUFFIXES
from shared.errors import InvalidInput

_JPEG_QUALITY: Final = 92


@dataclass(frozen=True, slots=True)
class FoundImages:
    """What is in a folder.

    Attributes:
        images: by their ending, in order of path.
        others: how many files are no images.
    """

    images: list[Path]
    others: int


def find_images(path: Path, *, recursive: bool = False) -> FoundImages:
    """The images of a folder, or the one image that `path` is. Links to folders are not followed.

    Raises:
        InvalidInput: nothing is there.
    """
    if path.is_file():
        return FoundImages([path], 0)
    if not path.is_dir():
        raise InvalidInput(f"there is no folder {path}")
    files = sorted(file for file in (path.rglob("*") if recursive else path.iterdir()) if file.is_file())
    images = [file for file in files if file.suffix.lower() in IMAGE_SUFFIXES]
    return FoundImages(images, len(files) - len(images))


def scaled_to(data: bytes, longest_px: int) -> bytes:
    """The image with its longer side at most `longest_px`, upright, as JPEG."""
    with Image.open(BytesIO(data)) as image:
        upright = ImageOps.exif_transpose(image).convert("RGB")
    upright.thumbnail((longest_px, longest_px))
    sink = BytesIO()
    upright.save(sink, "JPEG", quality=_JPEG_QUALITY)
    return sink.getvalue()
