"""Files and folders as sources of frames."""

from __future__ import annotations

import itertools
import os
from datetime import UTC, datetime, timedelta

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_uploader.capture.sources import FrameSampler, ImageFolder, SourceUnusable, VideoFile, read_image
from shared.errors import InvalidInput
from tests.unit.edge.fakes import picture, write_video

START = datetime(2026, 5, 1, 12, 0, tzinfo=UTC)


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """30 frames at 10 fps; the red square tells the frame's number by its left edge."""
    path = tmp_path_factory.mktemp("video") / "clip.avi"
    write_video(str(path), [picture((5 * i, 50, 5 * i + 60, 110)) for i in range(30)])
    return path


def left_edge(image):
    return int(np.argmax(image[80, :, 0] > 180))


def test_every_frame_comes_in_order_with_its_time(clip):
    source = VideoFile(clip, FrameSampler(), start=START)
    frames = list(source.frames())
    assert [frame.index for frame in frames] == list(range(30))
    assert [left_edge(frame.image) for frame in frames] == pytest.approx([5 * i for i in range(30)], abs=2)
    assert frames[20].captured_at - START == timedelta(seconds=2)
    assert frames[20].position_s == pytest.approx(2.0)
    assert source.counts.grabbed == 30


def test_mp4_reads_as_well(tmp_path):
    path = tmp_path / "clip.mp4"
    write_video(str(path), [picture()] * 12, codec="mp4v")
    assert len(list(VideoFile(path, FrameSampler()).frames())) == 12


def test_frames_are_rgb(clip):
    image = next(iter(VideoFile(clip, FrameSampler()).frames())).image
    assert image.dtype == np.uint8
    assert image[80, 30].tolist() == pytest.approx([230, 20, 20], abs=25)


def test_frames_share_memory_only_once_nobody_looks_at_the_one_before(clip):
    source = VideoFile(clip, FrameSampler(), start=START)
    parts, addresses = [], set()
    for number, frame in enumerate(source.frames()):
        addresses.add(frame.image.__array_interface__["data"][0])
        if number < 3:
            parts.append((5 * number, frame.image[60:100]))
    assert [int(np.argmax(part[20, :, 0] > 180)) for _, part in parts] == pytest.approx([e for e, _ in parts], abs=2)
    # Three that are held, the one that is looked at, and the next.
    assert len(addresses) <= 5


def test_without_a_start_the_recording_ended_when_the_file_was_written(clip):
    os.utime(clip, (1_700_000_000, 1_700_000_000))
    frames = list(VideoFile(clip, FrameSampler()).frames())
    assert frames[0].captured_at == datetime.fromtimestamp(1_700_000_000 - 3, UTC)


def test_target_fps_takes_evenly_spaced_frames_and_skips_the_rest(clip):
    source = VideoFile(clip, FrameSampler(fps=5), start=START)
    assert [frame.index for frame in source.frames()] == list(range(0, 30, 2))
    assert source.counts.skipped == 15


def test_skip_frames_is_as_in_the_seed(clip):
    """'For 30 fps, if set to 5, the effective framerate is 5 fps': one looked at, five passed over."""
    assert [f.index for f in VideoFile(clip, FrameSampler(skip_frames=5)).frames()] == [0, 6, 12, 18, 24]


@given(st.floats(5, 60), st.floats(0.5, 30))
def test_the_sampler_keeps_the_rate(source_fps, target_fps):
    sampler = FrameSampler(fps=target_fps)
    taken = sum(sampler.wants(number / source_fps) for number in range(int(source_fps * 10)))
    assert taken == pytest.approx(min(source_fps, target_fps) * 10, abs=2)


def test_the_sampler_does_not_catch_up_after_a_gap():
    sampler = FrameSampler(fps=2)
    assert [sampler.wants(t) for t in (0.0, 0.5, 10.0, 10.1, 10.2, 10.5)] == [True, True, True, False, False, True]


def test_a_missing_file_says_so(tmp_path):
    with pytest.raises(SourceUnusable, match="no video file"):
        list(VideoFile(tmp_path / "nothing.mp4", FrameSampler()).frames())


@pytest.mark.parametrize("content", [b"", b"not a video at all" * 100])
def test_a_broken_file_says_so(tmp_path, content):
    path = tmp_path / "broken.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceUnusable, match="not a video that can be read"):
        list(VideoFile(path, FrameSampler()).frames())


def test_a_video_that_ends_early_gives_what_it_has_and_then_says_so(tmp_path, clip):
    path = tmp_path / "cut.avi"
    data = clip.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    frames = []
    with pytest.raises(SourceUnusable, match=r"ends early: 1\d of 30 frames"):
        frames.extend(VideoFile(path, FrameSampler()).frames())
    # A generator's items before the error are lost to extend(); iterate to see them.
    seen = []
    with pytest.raises(SourceUnusable):
        for frame in VideoFile(path, FrameSampler()).frames():
            seen.append(frame.index)
    assert 10 <= len(seen) <= 20


def test_a_loop_goes_on_in_the_clocks_time(clip):
    source = VideoFile(clip, FrameSampler(), loop=True, pace=False, clock=lambda: START)
    frames = list(itertools.islice(source.frames(), 65))
    positions = [frame.position_s for frame in frames]
    assert positions == sorted(positions)
    assert len(set(positions)) == 65
    assert {frame.captured_at for frame in frames} == {START}


def test_a_loop_plays_at_its_own_pace(clip):
    waits = []
    source = VideoFile(clip, FrameSampler(), loop=True, clock=lambda: START)
    source._wait = waits.append
    list(itertools.islice(source.frames(), 11))
    assert waits[10] == pytest.approx(1.0, abs=0.5)


def test_close_ends_it(clip):
    source = VideoFile(clip, FrameSampler())
    frames = source.frames()
    next(frames)
    source.close()
    assert list(frames) == []


@pytest.fixture
def folder(tmp_path):
    for name, colour in (("b.png", 50), ("a.jpg", 100), ("c.JPEG", 150)):
        cv2.imwrite(str(tmp_path / name.lower()), np.full((40, 60, 3), colour, np.uint8))
    (tmp_path / "notes.txt").write_text("not an image")
    return tmp_path


def test_a_folder_gives_its_images_by_name(folder):
    source = ImageFolder(folder, FrameSampler(), read=read_image, start=START)
    frames = list(source.frames())
    assert [int(frame.image[0, 0, 0]) for frame in frames] == pytest.approx([100, 50, 150], abs=3)
    assert [frame.captured_at for frame in frames] == [START + timedelta(seconds=s) for s in range(3)]
    assert not source.continuous


def test_bad_images_are_left_out_and_counted_by_reason(folder):
    (folder / "d.jpg").write_bytes(b"")
    (folder / "e.png").write_bytes(b"\x89PNG but not really")
    source = ImageFolder(folder, FrameSampler(), read=read_image)
    assert len(list(source.frames())) == 3
    assert source.counts.unreadable == {"invalid_image": 2}


def test_one_image_is_a_folder_of_one(folder):
    assert len(list(ImageFolder(folder / "a.jpg", FrameSampler(), read=read_image).frames())) == 1


@pytest.mark.parametrize("content", [None, b"rubbish"])
def test_an_empty_folder_or_one_of_rubbish_says_so(tmp_path, content):
    if content:
        (tmp_path / "x.jpg").write_bytes(content)
    with pytest.raises(SourceUnusable, match="no images in|none of the 1 images"):
        list(ImageFolder(tmp_path, FrameSampler(), read=read_image).frames())


def test_a_missing_folder_says_so(tmp_path):
    with pytest.raises(SourceUnusable, match="no folder"):
        list(ImageFolder(tmp_path / "x", FrameSampler(), read=read_image).frames())


def test_a_start_without_a_zone_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="UTC"):
        VideoFile(tmp_path / "x.mp4", FrameSampler(), start=datetime(2026, 1, 1))  # noqa: DTZ001
