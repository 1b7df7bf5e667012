"""The thesis' tables, from the thesis' own numbers."""

from __future__ import annotations

import pytest

from local.bandwidth import arithmetic
from local.bandwidth.arithmetic import Sent, Tariff, Video, density, expected_reduction, on_network, upload
from local.bandwidth.report import BandwidthReport, policy_report


@pytest.mark.parametrize(
    ("rate", "name"),
    [(0, "very low"), (4.99, "very low"), (5, "low"), (50, "medium"), (500, "high"), (999.9, "high"),
     (1000, "very high"), (1e9, "very high")],
)  # fmt: skip
def test_a_class_begins_at_its_bound(rate: float, name: str) -> None:
    assert density(rate) == name


def test_the_thesis_medium_video_gets_the_thesis_factor() -> None:
    """Tables 6 to 8: 3,054 images in 600 s; 300 MB over 14 MB is 21.4."""
    assert round(arithmetic.bytes_of_bitrate(4, 600) / 14e6, 1) == 21.4
    assert density(3054 / 10) == "medium"
    assert expected_reduction(305.4) == "137× – 14×"


def test_the_reckoned_overhead_is_of_the_size_that_the_thesis_captured() -> None:
    """Table 7: 3,054 images of 10.05 MB were 45,536 packets and 14 MB: 15 packets and 1.3 kB an image beyond it.

    Ours carries the crop's place, time and landmarks besides, and no connection is opened for each."""
    network = on_network([round(10.05e6 / 3054)] * 3054)
    assert 1.3 < network.size_bytes / 10.05e6 < 2.0
    assert 5 < network.packets / 3054 < 15


def test_more_bytes_are_never_less_on_the_network() -> None:
    sizes = [upload(size).size_bytes for size in range(1, 20_000, 7)]
    assert sizes == sorted(sizes)
    assert all(upload(size).size_bytes > size + arithmetic.HTTP_UP_BYTES for size in (1, 1448, 1449, 100_000))


def report(length_s: float, *policies: list[Sent], tariff: Tariff | None = None) -> BandwidthReport:
    video = Video("a.mp4", 640, 360, length_s, 1_000_000)
    made = [policy_report(f"p{n}", 6, 10, None, sent) for n, sent in enumerate(policies)]
    return BandwidthReport(video, tuple(made), tariff or Tariff())


def test_a_video_without_a_face_has_a_report() -> None:
    document = report(120, [], []).to_json()
    assert document["density"] == "very low"
    policy = document["policies"][0]
    assert (policy["faces"], policy["network_bytes"], policy["gb_a_month"]) == (0, 0, 0)
    assert policy["average_image_bytes"] is policy["overhead"] is policy["reduction_against_camera"] is None
    assert any("no face" in note for note in document["notes"])


def test_a_month_and_its_price_follow_from_the_bytes() -> None:
    tariff = Tariff(camera_mbps=2, hours=12, price_per_gb=3)
    document = report(100, [Sent(1, 80, 100, 5_000)] * 4, [], tariff=tariff).to_json()
    policy, seconds = document["policies"][0], 30 * 12 * 3600
    gb = policy["network_bytes"] / 100 * seconds / 1e9
    assert policy["gb_a_month"] == pytest.approx(gb, abs=1e-3)
    assert policy["cost_a_month"] == pytest.approx(3 * gb, abs=0.01)
    assert document["camera"]["gb_a_month"] == pytest.approx(2e6 / 8 * seconds / 1e9)
    assert policy["reduction_against_camera"] == pytest.approx(2e6 / 8 * 100 / policy["network_bytes"], abs=0.05)
    assert policy["reduction_against_file"] == pytest.approx(1e6 / policy["network_bytes"], abs=0.05)


@pytest.mark.parametrize(("length_s", "noted"), [(59.0, True), (61.0, False)])
def test_a_short_video_is_said_to_be_short(length_s: float, noted: bool) -> None:
    notes = report(length_s, [Sent(1, 80, 100, 5_000)], []).notes
    assert any("very little" in note for note in notes) is noted
