"""What becomes of bytes that anybody may send."""

import struct
import zlib
from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageOps

from shared.errors import ImageTooLarge, InvalidImage, InvalidInput
from shared.vision.decode import ImageLimits, decode_image, encode_jpeg

LIMITS = ImageLimits()
PICTURE = np.random.default_rng(0).integers(0, 256, (24, 16, 3), dtype=np.uint8)


def smooth(height=60, width=40):
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 4, columns * 5, rows + columns], axis=2).astype(np.uint8)


def saved(image, kind="PNG", **options):
    buffer = BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_lossless_formats_come_out_as_they_went_in(kind):
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode_image(saved(Image.fromarray(PICTURE), kind, **options), LIMITS), PICTURE)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["PNG", "JPEG"])
def test_exif_orientation_is_undone(orientation, kind):
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = saved(Image.fromarray(smooth()), kind, exif=exif)
    expected = np.asarray(ImageOps.exif_transpose(Image.open(BytesIO(data))))
    assert np.array_equal(decode_image(data, LIMITS), expected)


def test_a_nonsense_orientation_is_ignored():
    exif = Image.Exif()
    exif[0x0112] = 77
    assert decode_image(saved(Image.fromarray(PICTURE), exif=exif), LIMITS).shape == PICTURE.shape


def test_transparency_is_laid_over_white():
    image = Image.new("RGBA", (4, 3), (200, 0, 0, 0))
    image.putpixel((0, 0), (10, 20, 30, 255))
    pixels = decode_image(saved(image), LIMITS)
    assert pixels[0, 0].tolist() == [10, 20, 30]
    assert pixels[2, 3].tolist() == [255, 255, 255]


def test_a_transparent_palette_colour_is_white():
    image = Image.new("P", (2, 1))
    image.putpalette([9, 9, 9, 200, 100, 50])
    image.putpixel((1, 0), 1)
    assert decode_image(saved(image, transparency=0), LIMITS).tolist() == [[[255, 255, 255], [200, 100, 50]]]


def test_grey_and_one_bit_become_rgb():
    assert decode_image(saved(Image.new("L", (3, 2), 77)), LIMITS).tolist() == [[[77] * 3] * 3] * 2
    assert decode_image(saved(Image.new("1", (1, 1), 1)), LIMITS).tolist() == [[[255] * 3]]


def test_sixteen_bits_keep_their_high_byte():
    values = np.array([[0, 257 * 40, 65535]], np.uint16)
    assert decode_image(saved(Image.fromarray(values)), LIMITS)[0, :, 0].tolist() == [0, 40, 255]


def test_cmyk_is_converted():
    data = saved(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", quality=95)
    red, green, blue = decode_image(data, LIMITS)[8, 8].tolist()
    assert red > 200
    assert green < 60
    assert blue < 60


def test_grey_jpeg_becomes_rgb():
    assert decode_image(saved(Image.new("L", (16, 16), 80), "JPEG"), LIMITS).shape == (16, 16, 3)


@pytest.mark.parametrize("data", [b"", b"hello", b"\x00" * 100, b"GIF89a" + b"\x00" * 50, b"\xff\xd8\xff"])
def test_what_is_no_picture_is_refused(data):
    with pytest.raises(InvalidImage):
        decode_image(data, LIMITS)


@pytest.mark.parametrize("kind", ["GIF", "TIFF"])
def test_other_formats_are_refused(kind):
    with pytest.raises(InvalidImage, match="JPEG, PNG, WebP or BMP"):
        decode_image(saved(Image.fromarray(PICTURE), kind), LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP"])
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_cut_file_is_refused_not_painted_grey(kind, share):
    noisy = np.random.default_rng(1).integers(0, 256, (80, 80, 3), dtype=np.uint8)
    data = saved(Image.fromarray(noisy), kind)
    with pytest.raises(InvalidImage):
        decode_image(data[: int(len(data) * share)], LIMITS)


def test_bytes_are_counted_first():
    with pytest.raises(ImageTooLarge, match="at most 1,000"):
        decode_image(b"x" * 1001, ImageLimits(max_bytes=1000))


def test_pixels_are_counted_on_the_header_alone():
    def chunk(kind, body):
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    bomb = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\x00")) + chunk(b"IEND", b"")
    with pytest.raises(ImageTooLarge, match="60000 × 60000"):
        decode_image(bomb, LIMITS)


def test_pixels_up_to_the_limit_are_accepted():
    data = saved(Image.new("RGB", (10, 10)))
    assert decode_image(data, ImageLimits(max_pixels=100)).shape == (10, 10, 3)
    with pytest.raises(ImageTooLarge):
        decode_image(data, ImageLimits(max_pixels=99))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_an_animation_is_refused_or_its_first_frame_used(kind):
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "lime")]
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:])
    with pytest.raises(ImageTooLarge, match="3 frames"):
        decode_image(data, LIMITS)
    red, green, blue = decode_image(data, ImageLimits(max_frames=3))[4, 4].tolist()
    assert red > 240
    assert green < 12
    assert blue < 12


def test_encoded_pictures_come_back_without_metadata():
    data = encode_jpeg(smooth(), quality=95)
    assert not Image.open(BytesIO(data)).getexif()
    assert np.abs(decode_image(data, LIMITS).astype(int) - smooth()).mean() < 3


def test_an_empty_picture_is_not_encoded():
    with pytest.raises(InvalidInput):
        encode_jpeg(np.zeros((0, 5, 3), np.uint8))
