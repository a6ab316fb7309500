"""Choosing views by yaw, and the pictures of folders and videos."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clips import written
from sameface.photo.views import choose, evenly, pictures


def write_video(path: Path, count: int = 7, size: tuple[int, int] = (64, 48), codec: str = "mjpeg") -> Path:
    """Frame k is filled with red 30 k, green 100, blue 200."""
    pictures = [np.full((size[1], size[0], 3), (30 * k % 256, 100, 200), np.uint8) for k in range(count)]
    return written(path, pictures, codec=codec, pixels="yuvj420p" if codec == "mjpeg" else "yuv420p")


@given(seed=st.integers(0, 2**32 - 1), rank=st.integers(0, 2))
def test_the_choice_is_that_of_a_slow_loop(seed, rank):
    rng = np.random.default_rng(seed)
    yaw, wanted = rng.uniform(-90, 90, 8), (0.0, -45.0, 45.0, 10.0)
    yaw[rng.integers(8)] = np.nan
    for w, found in zip(wanted, choose(yaw, wanted, rank), strict=True):
        order = sorted((k for k in range(8) if np.isfinite(yaw[k])), key=lambda k: abs(yaw[k] - w))
        assert found == order[rank]


def test_more_ranks_than_faces_are_refused():
    with pytest.raises(ValueError, match="rank 2 was asked for, but only 2 of 3 pictures have a yaw"):
        choose(np.array([1.0, np.nan, 3.0]), rank=2)
    with pytest.raises(ValueError, match="only 0 of 1"):
        choose(np.array([np.nan]))


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "mjpeg"), ("b.mp4", "mpeg4"), ("c.mkv", "mjpeg")])
def test_every_kth_frame_comes_in_rgb_with_its_number(tmp_path, name, codec):
    path = write_video(tmp_path / name, codec=codec)
    frames = list(pictures(path, every=3))
    assert [frame.name for frame in frames] == [f"{path} frame {k}" for k in (0, 3, 6)]
    for frame, k in zip(frames, (0, 3, 6), strict=True):
        assert frame.size == (64, 48)
        np.testing.assert_allclose(frame.pixels.mean((0, 1)), (30 * k, 100, 200), atol=6)
    assert len(list(pictures(path, most=2))) == 2


@pytest.mark.parametrize(("count", "numbers"), [(1, [0]), (3, [0, 2, 4]), (7, range(7)), (50, range(7))])
def test_so_many_frames_or_photos_at_equal_steps(tmp_path, count, numbers):
    """Of seven; all seven where more are wanted."""
    path = write_video(tmp_path / "a.avi")
    assert [frame.name for frame in evenly(path, count)] == [f"{path} frame {k}" for k in numbers]
    (tmp_path / "photos").mkdir()
    for k in range(7):
        Image.new("RGB", (16, 16)).save(tmp_path / "photos" / f"{k}.png")
    names = [Path(photo.name).name for photo in evenly(tmp_path / "photos", count)]
    assert names == [f"{k}.png" for k in numbers]


@pytest.mark.slow
def test_a_long_video_is_looked_at_up_to_its_end(tmp_path):
    path = write_video(tmp_path / "a.avi", count=10_500, size=(16, 16))
    assert [frame.name for frame in evenly(path, 3)] == [f"{path} frame {k}" for k in (0, 3500, 7000)]


def test_no_frames_at_all_are_refused(tmp_path):
    with pytest.raises(ValueError, match="count is 0; take at least 1 picture"):
        next(evenly(write_video(tmp_path / "a.avi"), 0))


def test_a_folder_gives_its_photos_in_natural_order(tmp_path):
    for k in (10, 2, 1):
        Image.new("RGB", (20, 20), (k, 0, 0)).save(tmp_path / f"{k}.png")
    assert [int(photo.pixels[0, 0, 0]) for photo in pictures(tmp_path)] == [1, 2, 10]
    assert [int(photo.pixels[0, 0, 0]) for photo in pictures(tmp_path, every=2)] == [1, 10]


def test_steps_and_limits_are_at_least_one(tmp_path):
    for wrong in ({"every": 0}, {"most": 0}):
        with pytest.raises(ValueError, match="both are at least 1"):
            next(pictures(tmp_path, **wrong))
