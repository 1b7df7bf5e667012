"""Bytes to pixels, for bytes that anybody may have sent.

Size, format, pixels and frames are checked on the header; only then is anything decoded. What comes out is always
RGB, upright, 8 bits a channel: EXIF orientation applied, transparency laid over white, grey, palette, CMYK and 16-bit
pictures converted.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from typing import Final

import cv2
import numpy as np
from PIL import Image, UnidentifiedImageError

from shared.domain import UInt8Array
from shared.errors import ConfigurationError, FacerelayError, ImageTooLarge, InvalidImage, InvalidInput

FORMATS: Final = ("JPEG", "PNG", "WEBP", "BMP")
"""What is decoded. TIFF and the rest are not: no camera sends them, and every decoder is one more to attack."""

_ORIENTATION_TAG: Final = 0x0112
_TRANSPARENT: Final = frozenset({"RGBA", "LA", "PA", "La", "RGBa"})

# Pillow's own guard warns at a size of its choosing; ours is checked on the header, before any pixel is decoded.
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True, slots=True)
class ImageLimits:
    """What is refused before it is decoded.

    Attributes:
        max_pixels: width × height.
        max_frames: an animation with more is refused; of one with fewer, the first frame is used.
    """

    max_bytes: int = 10_000_000
    max_pixels: int = 50_000_000
    max_frames: int = 1


def decode_image(data: bytes, limits: ImageLimits) -> UInt8Array:
    """The picture as (H, W, 3) uint8 RGB, upright.

    Raises:
        ImageTooLarge: over a limit.
        InvalidImage: no picture, of a format that is not decoded, or damaged.
    """
    if not data:
        raise InvalidImage("the image is empty (0 bytes)")
    if len(data) > limits.max_bytes:
        raise ImageTooLarge(f"the image has {len(data):,} bytes; at most {limits.max_bytes:,} are accepted")
    try:
        with Image.open(BytesIO(data), formats=FORMATS) as image:
            _check(image, limits)
            pixels = _quick(data, image)
            if pixels is None:
                pixels = _to_rgb(image)
            return _upright(pixels, _orientation(image))
    except (FacerelayError, MemoryError):
        raise
    except UnidentifiedImageError as error:
        raise InvalidImage("this is not a JPEG, PNG, WebP or BMP picture") from error
    except Exception as error:  # noqa: BLE001 (damaged files make decoders raise a dozen unrelated types)
        raise InvalidImage(f"the picture is damaged or cut off ({type(error).__name__})") from error


def encode_jpeg(image: UInt8Array, quality: int = 95) -> bytes:
    """RGB (H, W, 3) uint8 as JPEG, with no metadata at all.

    Raises:
        InvalidInput: JPEG cannot hold it (an empty picture, or a side over 65,500 px).
    """
    if min(image.shape[:2]) < 1 or max(image.shape[:2]) > 65_500:
        raise InvalidInput("JPEG holds pictures of 1 to 65,500 px a side")
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    done, encoded = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise InvalidInput("the picture cannot be written as JPEG")
    return encoded.tobytes()


def encode_webp(image: UInt8Array, quality: int = 80) -> bytes:
    """RGB (H, W, 3) uint8 as lossy WebP, with no metadata at all.

    Raises:
        InvalidInput: WebP cannot hold it (an empty picture, or a side over 16,383 px).
    """
    if min(image.shape[:2]) < 1 or max(image.shape[:2]) > 16_383:
        raise InvalidInput("WebP holds pictures of 1 to 16,383 px a side")
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    # Over 100 OpenCV would write it lossless.
    done, encoded = cv2.imencode(".webp", bgr, [cv2.IMWRITE_WEBP_QUALITY, min(quality, 100)])
    if not done:
        raise InvalidInput("the picture cannot be written as WebP")
    return encoded.tobytes()


def encoder_of(name: str) -> Callable[[UInt8Array, int], bytes]:
    """The encoder of one of `shared.domain.CROP_FORMATS`: RGB image and quality → bytes.

    Raises:
        ConfigurationError: no such format.
    """
    encoders: dict[str, Callable[[UInt8Array, int], bytes]] = {"jpeg": encode_jpeg, "webp": encode_webp}
    if name not in encoders:
        raise ConfigurationError(f"crop format {name!r} is none of {', '.join(encoders)}")
    return encoders[name]


def _check(image: Image.Image, limits: ImageLimits) -> None:
    """Compares what the header says with the limits."""
    width, height = image.size
    if width * height > limits.max_pixels:
        raise ImageTooLarge(f"the image has {width} × {height} pixels; at most {limits.max_pixels:,} are accepted")
    # The second picture of a multi-picture JPEG (MPO, from phones) is a preview or a depth map, not a frame.
    frames = 1 if image.format in {"JPEG", "MPO"} else getattr(image, "n_frames", 1)
    if frames > limits.max_frames:
        raise ImageTooLarge(f"the image is an animation of {frames} frames; at most {limits.max_frames} are accepted")


def _quick(data: bytes, image: Image.Image) -> UInt8Array | None:
    """The usual JPEG by way of OpenCV: the same pixels in a third of the time. None when Pillow should look.

    OpenCV paints the missing part of a JPEG that was cut off grey and says nothing, so only files that reach their
    end marker go this way.
    """
    if image.format != "JPEG" or image.mode not in {"RGB", "L"} or not data.rstrip(b"\0").endswith(b"\xff\xd9"):
        return None
    flags = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    return None if pixels is None else np.asarray(pixels, np.uint8)


def _to_rgb(image: Image.Image) -> UInt8Array:
    """Decodes, and converts whatever mode the file has."""
    if image.mode in _TRANSPARENT or "transparency" in image.info:
        layered = image.convert("RGBA")
        white = Image.new("RGBA", layered.size, "white")
        return np.asarray(Image.alpha_composite(white, layered).convert("RGB"))
    if image.mode == "I" or image.mode.startswith("I;16"):
        wide = np.asarray(image).astype(np.int64)
        grey = np.clip((wide + 128) // 257, 0, 255).astype(np.uint8)  # 65,535 → 255
        return np.repeat(grey[..., None], 3, axis=2)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 when there is none, or the metadata is damaged (the picture need not be)."""
    try:
        value = image.getexif().get(_ORIENTATION_TAG, 1)
    except Exception:  # noqa: BLE001 (as above: the parser raises many types)
        return 1
    return value if value in range(1, 9) else 1


def _upright(pixels: UInt8Array, orientation: int) -> UInt8Array:
    """Undoes what EXIF orientation says was done (EXIF 2.32, tag 0x0112)."""
    if orientation >= 5:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in {2, 3, 6, 7}:
        pixels = pixels[:, ::-1]
    if orientation in {3, 4, 7, 8}:
        pixels = pixels[::-1]
    return np.ascontiguousarray(pixels)
