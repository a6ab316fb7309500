"""Choosing views by yaw, and the pictures of folders and videos."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sameface.core.errors import BadPhoto
from sameface.photo import decode, views
from sameface.photo.views import choose, evenly, frames, is_video, pictures, promised


def write_video(path: Path, count: int = 7, size: tuple[int, int] = (64, 48), codec: str = "MJPG") -> Path:
    """Frame k is filled with red 30 k, green 100, blue 200."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*codec), 25.0, size)
    for k in range(count):
        writer.write(np.full((size[1], size[0], 3), (200, 100, 30 * k), np.uint8))
    writer.release()
    return path


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


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("b.mp4", "mp4v"), ("c.mkv", "MJPG")])
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


@pytest.mark.parametrize(("name", "codec"), [("a.avi", "MJPG"), ("b.mp4", "mp4v"), ("c.mkv", "MJPG")])
def test_frames_know_their_number_and_their_time(tmp_path, name, codec):
    path = write_video(tmp_path / name, codec=codec)
    assert promised(path) == (7, 25.0)
    found = list(frames(path, {1, 4}))
    assert [frame.number for frame in found] == [1, 4]
    np.testing.assert_allclose([frame.seconds for frame in found], [1 / 25, 4 / 25], atol=6e-4)  # Matroska counts ms
    np.testing.assert_allclose(found[1].photo.pixels.mean((0, 1)), (120, 100, 200), atol=6)


def test_a_photo_in_the_container_of_a_video_is_no_video(tmp_path):
    assert is_video(write_video(tmp_path / "b.mp4", codec="mp4v"))
    assert not is_video(tmp_path)
    assert not is_video(tmp_path / "nowhere.mp4")
    assert not is_video(_Unreadable(tmp_path / "b.mp4"))
    os.mkfifo(tmp_path / "pipe")
    assert not is_video(tmp_path / "pipe")  # which to open would take for ever
    for brand in decode._HEIC_BRANDS + decode._AVIF_BRANDS:
        (tmp_path / "photo").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(100))
        assert not is_video(tmp_path / "photo")


def test_a_video_may_have_any_name(tmp_path):
    path = write_video(tmp_path / "a.avi").rename(tmp_path / "http:clip")
    assert len(list(pictures(path))) == 7


def test_a_video_that_breaks_off_gives_what_came_before(tmp_path):
    path = write_video(tmp_path / "a.avi", count=30, size=(320, 240))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert 0 < len(list(pictures(path))) < 30


def test_a_folder_gives_its_photos_in_natural_order(tmp_path):
    for k in (10, 2, 1):
        Image.new("RGB", (20, 20), (k, 0, 0)).save(tmp_path / f"{k}.png")
    assert [int(photo.pixels[0, 0, 0]) for photo in pictures(tmp_path)] == [1, 2, 10]
    assert [int(photo.pixels[0, 0, 0]) for photo in pictures(tmp_path, every=2)] == [1, 10]


def test_what_is_no_video_is_refused_by_name(tmp_path, monkeypatch):
    with pytest.raises(BadPhoto, match=r"there is no file or folder .*nowhere\.mp4"):
        next(pictures(tmp_path / "nowhere.mp4"))
    with pytest.raises(BadPhoto, match="cannot be read"):
        next(pictures(_Unreadable(tmp_path / "a.mp4")))
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\nhttp://example.invalid/a.ts\n")
    with pytest.raises(BadPhoto, match=r"list\.mp4 is not a video of a kind that is read \(MP4"):
        next(pictures(playlist))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    with pytest.raises(BadPhoto, match=r"broken\.mp4 cannot be decoded"):
        next(pictures(broken))


@pytest.mark.parametrize(
    ("limit", "words"), [("LARGEST_VIDEO", "GB; a video has at most"), ("LARGEST_FRAME", "frames of 64×48; at most")]
)
def test_what_would_fill_the_memory_is_refused(tmp_path, monkeypatch, limit, words):
    path = write_video(tmp_path / "a.avi")
    monkeypatch.setattr(views, limit, 100)
    with pytest.raises(BadPhoto, match=words):
        next(pictures(path))


class _Unreadable(type(Path())):
    def is_file(self, **_) -> bool:
        raise PermissionError("not yours")


def test_a_video_without_a_whole_frame_is_refused(tmp_path, monkeypatch):
    class Empty:
        def __init__(self, *_): ...

        def get(self, _):
            return 8

        def isOpened(self):
            return True

        def grab(self):
            return True

        def retrieve(self):
            return False, None

        def release(self): ...

    path = write_video(tmp_path / "a.avi")
    monkeypatch.setattr(cv2, "VideoCapture", Empty)
    with pytest.raises(BadPhoto, match=r"a\.avi has no frame that can be decoded"):
        next(pictures(path))


def test_steps_and_limits_are_at_least_one(tmp_path):
    for wrong in ({"every": 0}, {"most": 0}):
        with pytest.raises(ValueError, match="both are at least 1"):
            next(pictures(tmp_path, **wrong))
