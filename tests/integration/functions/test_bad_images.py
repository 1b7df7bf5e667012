"""Pictures that anybody may have sent: decoded right, or refused with a reason; never a 5xx."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from starlette.testclient import TestClient

from shared.domain import UNKNOWN
from tests.support import saved

WAYS_IN = ["/face-recognition/get-results", "/face-recognition/store-results", "/dataset/ann/image"]


def png_header(width: int, height: int) -> bytes:
    """A PNG that promises more pixels than it has."""
    ihdr = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", len(ihdr)) + b"IHDR" + ihdr + struct.pack(">I", zlib.crc32(b"IHDR" + ihdr))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 0) + b"IEND" + struct.pack(">I", zlib.crc32(b"IEND"))


def animated(format: str) -> bytes:
    frames = [Image.new("RGB", (64, 64), (shade, 0, 0)) for shade in (0, 120, 250)]
    sink = BytesIO()
    frames[0].save(sink, format, save_all=True, append_images=frames[1:], duration=50)
    return sink.getvalue()


REFUSED: dict[str, tuple[Callable[[bytes], bytes], int]] = {
    "zero bytes": (lambda jpeg: b"", 400),
    "text": (lambda jpeg: b"<html>not a picture</html>", 400),
    "truncated": (lambda jpeg: jpeg[: len(jpeg) // 2], 400),
    "header only": (lambda jpeg: jpeg[:20], 400),
    "bomb header": (lambda jpeg: png_header(60_000, 60_000), 413),
    "promised pixels that are not there": (lambda jpeg: png_header(64, 64), 400),
    "over the byte limit": (lambda jpeg: jpeg + b"\0" * 1_000_001, 413),
    "animated webp": (lambda jpeg: animated("WEBP"), 413),
    "animated png": (lambda jpeg: animated("PNG"), 413),
    "gif": (lambda jpeg: animated("GIF"), 400),
    "tiff": (lambda jpeg: saved(Image.new("RGB", (64, 64)), "TIFF"), 400),
}


@pytest.mark.parametrize("path", WAYS_IN)
@pytest.mark.parametrize("kind", sorted(REFUSED))
def test_refused_with_a_reason(client: TestClient, jpeg, path: str, kind: str) -> None:
    client.post("/dataset/ann")
    make, status = REFUSED[kind]
    answer = client.post(path, files={"image": make(jpeg("demo_obama"))})
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert body["code"] in ("invalid_image", "image_too_large", "invalid_input") and body["message"]
    assert client.get("/dataset").json()["face_ids"][0]["number_of_images"] == 0


def sixteen_bit(image: Image.Image) -> bytes:
    wide = np.asarray(image.convert("L")).astype(np.uint16) * 257
    return saved(Image.fromarray(wide), "PNG")


def turned(image: Image.Image) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 8  # stored on its side; upright after a quarter turn back
    return saved(image.transpose(Image.Transpose.ROTATE_270), "JPEG", exif=exif, quality=92)


DECODED: dict[str, Callable[[Image.Image], bytes]] = {
    "grey": lambda image: saved(image.convert("L"), "JPEG"),
    "cmyk": lambda image: saved(image.convert("CMYK"), "JPEG"),
    "16 bit": sixteen_bit,
    "alpha": lambda image: saved(image.convert("RGBA"), "PNG"),
    "palette": lambda image: saved(image.convert("P"), "PNG"),
    "progressive": lambda image: saved(image, "JPEG", progressive=True),
    "webp": lambda image: saved(image, "WEBP"),
    "bmp": lambda image: saved(image, "BMP"),
    "turned by exif": turned,
}


@pytest.mark.parametrize("kind", sorted(DECODED))
def test_decoded_right(enrolled: TestClient, photo, kind: str) -> None:
    """The person is recognised whatever the file is."""
    data = DECODED[kind](photo("demo_obama2"))
    answer = enrolled.post("/face-recognition/get-results", files={"image": data})
    assert answer.status_code == 200, answer.text
    assert [f["top_prediction"]["label"] for f in answer.json()["faces"]] == ["barack_obama"]


def test_a_tiny_picture_has_no_faces(client: TestClient) -> None:
    for size in ((1, 1), (1, 2000), (11, 11)):
        data = saved(Image.new("RGB", size), "PNG")
        answer = client.post("/face-recognition/get-results", files={"image": data})
        assert (answer.status_code, answer.json()) == (200, {"faces": []})


def test_a_body_over_the_limit_is_refused_unread(client: TestClient) -> None:
    answer = client.post("/face-recognition/dry-run", files={"image": b"x" * 1_100_000})
    assert answer.status_code == 413 and answer.json()["code"] == "image_too_large"


def test_a_form_that_is_none(client: TestClient) -> None:
    headers = {"content-type": "multipart/form-data; boundary=x"}
    for body in (b"", b"--x", b"garbage", b'--x\r\ncontent-disposition: form-data; name="image"\r\n\r\n'):
        answer = client.post("/face-recognition/get-results", content=body, headers=headers)
        assert answer.status_code == 400 and set(answer.json()) == {"message", "error_message", "code"}


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda photo: saved(Image.new("RGB", (300, 300), (90, 120, 90)), "JPEG"), "no face"),
        (lambda photo: saved(beside(photo("demo_obama"), photo("demo_biden")), "JPEG"), "more than one"),
        (lambda photo: saved(shrunk(photo("demo_obama"), 90), "JPEG", quality=95), "small"),
    ],
    ids=["no face", "two faces", "small face"],
)
def test_enrolment_photos_that_cannot_be_used(client: TestClient, photo, make, words: str) -> None:
    client.post("/dataset/ann")
    answer = client.post("/dataset/ann/image", files={"image": make(photo)})
    assert answer.status_code == 400 and answer.json()["code"] == "unusable_face"
    assert words in answer.json()["message"]


def beside(left: Image.Image, right: Image.Image) -> Image.Image:
    both = Image.new("RGB", (left.width + right.width, max(left.height, right.height)))
    both.paste(left, (0, 0))
    both.paste(right, (left.width, 0))
    return both


def shrunk(image: Image.Image, side: int) -> Image.Image:
    small = image.copy()
    small.thumbnail((side, side))
    return small


def test_two_people_in_one_picture_are_two_answers(enrolled: TestClient, photo) -> None:
    data = saved(beside(photo("demo_obama2"), photo("demo_astronaut")), "JPEG", quality=92)
    faces = enrolled.post("/face-recognition/get-results", files={"image": data}).json()["faces"]
    assert sorted(f["top_prediction"]["label"] for f in faces) == ["barack_obama", UNKNOWN]
    left = next(f for f in faces if f["top_prediction"]["label"] == "barack_obama")
    assert left["bounding_box"]["right"] < photo("demo_obama2").width


@pytest.mark.shared_data
def test_photographs_of_strangers_stay_unknown(enrolled: TestClient, shared_data) -> None:
    """Ten people of Labeled Faces in the Wild, none of whom is enrolled."""
    paths = sorted((shared_data / "lfw-dev" / "images").rglob("*.jpg"))[::450][:10]
    assert len(paths) == 10
    for path in paths:
        faces = enrolled.post("/face-recognition/get-results", files={"image": path.read_bytes()}).json()["faces"]
        assert faces and {f["top_prediction"]["label"] for f in faces} == {UNKNOWN}
