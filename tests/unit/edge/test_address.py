"""Addresses of streams as people write them: what is shown of them, and which password is found in them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_uploader.capture.address import password_in, public_name
from edge_uploader.opening import open_source
from edge_uploader.settings import EdgeSettings
from shared.errors import ConfigurationError

SHOWN = "rtsp://10.0.0.9:554"


@pytest.mark.parametrize(
    ("address", "name", "password"),
    [
        ("rtsp://u:p@10.0.0.9:554/a/b?token=x", SHOWN, "p"),
        ("rtsp://u:pa/ss@10.0.0.9:554/ch1", SHOWN, "pa/ss"),
        ("rtsp://u:pa?s#s@10.0.0.9:554/ch1", SHOWN, "pa?s#s"),
        ("rtsp://u:12/34@10.0.0.9:554/ch1", SHOWN, "12/34"),
        ("rtsp://u:p@s/s@10.0.0.9:554/ch1", SHOWN, "p@s/s"),
        ("rtsp://10.0.0.9:554?user=a&password=b", SHOWN, "b"),
        ("rtsp://10.0.0.9:554/?usr=a&pwd=b@c", SHOWN, "b@c"),
        ("rtsp://10.0.0.9:554/user=admin&password=x&stream=0.sdp", SHOWN, "x"),
        ("rtsp://10.0.0.9:554/user=admin_password=xyz_channel=1_stream=0.sdp?real_stream", SHOWN, None),
        ("rtsp://10.0.0.9:554/user=admin&password=p@ss/x&stream=0.sdp", SHOWN, "p@ss"),
        ("rtsp://u:p@10.0.0.9:554/ch1?mail=a@b", SHOWN, "p"),
        ("RTSP://10.0.0.9:554/live/8f3kd92k", "RTSP://10.0.0.9:554", ""),
        ("rtsp://10.0.0.9:554/user=admin&password=&channel=1", SHOWN, ""),
        ("rtsp://10.0.0.9:554/user=admin_password=_channel=1_stream=0.sdp", SHOWN, ""),
        ("http://u:p@ss@cam", "http://cam", "p@ss"),
        ("http://cam/cgi?loginuse=a&loginpas=b", "http://cam", "b"),
        ("http://cam:8080/x@2?bypass=1", "http://…", ""),
        ("http://u:p/w@cam/stream", "http://…", "p/w"),
        ("http://u:p@ss/w@cam/stream", "http://…", "p"),
        ("http://u:p@[fe80::1]:80/x", "http://[fe80::1]:80", "p"),
        ("http://user@cam/x", "http://cam", ""),
        ("rtsp://u:secret/ch1", "rtsp://…", ""),
        ("rtsp://10.0.0.9&user=a&password=b", "rtsp://…", "b"),
        ("u:p://x", "a stream", ""),
        (2, "webcam 2", ""),
    ],
)
def test_what_is_shown_and_the_password_that_is_found(address: str | int, name: str, password: str | None) -> None:
    assert public_name(address) == name
    if password is None:
        assert password_in(str(address)).startswith("xyz")
    elif isinstance(address, str):
        assert password_in(address) == password


PASSWORDS = st.text("abcXYZ019/?#@:=&;%._- \u00e4", min_size=3).map(lambda text: f"Qz{text}zQ")


@given(PASSWORDS, st.sampled_from(["10.0.0.9", "10.0.0.9:554", "cam", "cam.local:8554", "[fe80::1]:554"]))
def test_no_part_of_a_password_is_ever_shown(password: str, host: str) -> None:
    for address in (
        f"rtsp://admin:{password}@{host}/ch1",
        f"http://{host}?user=admin&password={password}",
        f"rtsp://{host}/user=admin&password={password}&stream=0.sdp",
        f"rtsp://{host}/live/{password}",
    ):
        shown = public_name(address)
        assert shown in {f"{address[:4]}://{host}", f"{address[:4]}://…"}


@pytest.mark.parametrize("text", ["rtsp:/u:geheim@10.0.0.9/1", "HTTP:u:geheim@10.0.0.9"])
def test_a_mistyped_address_is_not_shown_as_the_name_of_a_file(text: str) -> None:
    with pytest.raises(ConfigurationError, match="both slashes") as caught:
        open_source(text, EdgeSettings())
    assert "geheim" not in str(caught.value)
