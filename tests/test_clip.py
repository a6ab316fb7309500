"""The frames of videos: what the header says of turns, mirrors, pixels and times is done, and every kind is read."""

import contextlib
import os
import re
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from clips import atom, written
from faces import astronaut
from sameface.core.errors import BadPhoto
from sameface.morphable import default
from sameface.photo import clip, decode
from sameface.photo.clip import Promised, frames, is_video, promised
from sameface.reconstruction import video
from sameface.reconstruction.reconstruct import reconstruct, shape_distance
from test_views import write_video

ONE = 1 << 16
TURNS = [(1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0), (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0)]
TURNS += [(0, -1, -1, 0)]
"""(a, b, c, d) of the display matrices of a turn by a quarter or less, and of a mirror"""


def coloured() -> np.ndarray:
    """(48, 64, 3) with another colour in each corner."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32], picture[:24, 32:] = (220, 40, 40), (40, 220, 40)
    picture[24:, :32], picture[24:, 32:] = (40, 40, 220), (220, 220, 40)
    return picture


def shapes_differ(one: object, other: object) -> float:
    """mm between the faces of two pictures."""
    first, second = (reconstruct(picture).vertices() for picture in (one, other))
    return shape_distance(first, second, default())


# ── kinds ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("name", "codec", "container"),
    [
        ("a.avi", "mjpeg", None), ("b.mp4", "mpeg4", None), ("c.mkv", "mjpeg", None), ("d.mpg", "mpeg2video", None),
        ("e.ts", "mpeg2video", None), ("f.flv", "flv", None), ("g.wmv", "wmv2", None), ("h.ogv", "libvpx", "ogg"),
        ("i.webm", "libvpx-vp9", None), ("j.mov", "mpeg4", None), ("k.m2v", "mpeg2video", None),
        ("l.mp4", "libsvtav1", None), ("m.3gp", "mpeg4", None),
    ],
)  # fmt: skip
def test_every_kind_gives_its_frames_with_numbers_and_times(tmp_path, name, codec, container):
    pictures = [np.full((96, 64, 3), (30 * k, 100, 200), np.uint8) for k in range(7)]
    path = written(
        tmp_path / name, pictures, codec=codec, container=container,
        pixels="yuvj420p" if codec == "mjpeg" else "yuv420p",
    )  # fmt: skip
    path = path.rename(tmp_path / "download")  # the name says nothing
    assert is_video(path)
    assert promised(path).frames in (0, 7)
    found = list(frames(path, {1, 4}))
    assert [frame.number for frame in found] == [1, 4]
    assert [frame.photo.name for frame in found] == [f"{path} frame 1", f"{path} frame 4"]
    np.testing.assert_allclose([frame.seconds for frame in found], [1 / 25, 4 / 25], atol=6e-4)  # some count ms
    np.testing.assert_allclose(found[1].photo.pixels.mean((0, 1)), (120, 100, 200), atol=6)


def test_the_packets_of_camcorders_have_a_time_in_front(tmp_path):
    path = written(tmp_path / "a.ts", [coloured()] * 5, codec="mpeg2video")
    packets = path.read_bytes()
    parts = [b"\0\0\0\0" + packets[k : k + 188] for k in range(0, len(packets), 188)]
    (tmp_path / "a.mts").write_bytes(b"".join(parts))
    assert len(list(frames(tmp_path / "a.mts"))) == 5


def test_a_photo_in_the_container_of_a_video_is_no_video(tmp_path):
    assert is_video(write_video(tmp_path / "b.mp4", codec="mpeg4"))
    assert not is_video(tmp_path)
    assert not is_video(tmp_path / "nowhere.mp4")
    assert not is_video(_Unreadable(tmp_path / "b.mp4"))
    os.mkfifo(tmp_path / "pipe")
    assert not is_video(tmp_path / "pipe")  # which to open would take for ever
    for brand in decode._HEIC_BRANDS + decode._AVIF_BRANDS:
        (tmp_path / "photo").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(100))
        assert not is_video(tmp_path / "photo")


def test_a_video_may_have_any_name(tmp_path):
    path = write_video(tmp_path / "a.avi")
    for name in ("http:clip", os.fsdecode(b"M\xfcller.avi")):
        path = path.rename(tmp_path / name)
        assert len(list(frames(path))) == 7


# ── what the header says of the picture ────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("turn", TURNS)
def test_pixels_go_where_the_display_matrix_sends_them(tmp_path, turn):
    a, b, c, d = turn
    path = written(tmp_path / "a.mp4", [coloured()] * 3)
    atom(path, b"tkhd", 40, ONE * a, ONE * b, 0, ONE * c, ONE * d, 0, 0, 0, 1 << 30)
    y, x = np.mgrid[0:48, 0:64]
    where = np.stack([a * x + c * y, b * x + d * y])
    where -= where.min((1, 2))[:, None, None]
    wanted = np.zeros((*where.max((1, 2))[::-1] + 1, 3), np.uint8)
    wanted[where[1], where[0]] = coloured()
    found = next(frames(path)).photo.pixels
    assert found.shape == wanted.shape
    for corner in (np.s_[:16, :16], np.s_[:16, -16:], np.s_[-16:, :16]):
        np.testing.assert_allclose(found[corner].mean((0, 1)), wanted[corner].mean((0, 1)), atol=12)


def test_a_selfie_that_was_filmed_mirrored_gives_the_face_of_the_photo(tmp_path):
    """FFmpeg's angle of such a matrix is 180 degrees: turned by it, the face stood on its head."""
    path = written(tmp_path / "a.mp4", [astronaut()[:, ::-1]] * 3)
    atom(path, b"tkhd", 40, -ONE, 0, 0, 0, ONE, 0, 240 * ONE, 0, 1 << 30)
    assert shapes_differ(next(frames(path)).photo, astronaut()) < 0.3


def test_the_mirrored_selfie_of_a_user(shared):
    found = next(frames(shared("cases") / "12_mirrored_selfie.mp4")).photo.pixels
    with av.open(str(shared("cases") / "12_mirrored_selfie.mp4")) as file:
        stored = next(file.decode(video=0)).to_ndarray(format="rgb24")
    np.testing.assert_array_equal(found, stored[:, ::-1])


@pytest.mark.parametrize(
    ("name", "codec", "aspect", "size"),
    [
        ("a.mp4", "mpeg4", Fraction(4, 3), (85, 48)), ("b.mkv", "mpeg4", Fraction(3, 4), (64, 64)),
        ("c.mpg", "mpeg2video", Fraction(4, 3), (64, 48)),
    ],
)  # fmt: skip
def test_pixels_become_square_by_stretching_the_side_that_has_too_few(tmp_path, name, codec, aspect, size):
    """MPEG-2 knows pictures of 4:3 and 16:9 only, so there 4:3 of 64 × 48 px is square."""
    path = written(tmp_path / name, [coloured()] * 3, codec=codec, aspect=aspect if codec == "mpeg4" else Fraction(1))
    assert next(frames(path)).photo.size == size


def test_a_dvd_in_16_to_9_is_not_squeezed(tmp_path):
    """720 × 576 px with a picture of 16:9: pixels of 64:45."""
    path = written(tmp_path / "a.vob", [np.zeros((576, 720, 3), np.uint8)] * 2, codec="mpeg2video",
                   aspect=Fraction(64, 45))  # fmt: skip
    assert next(frames(path)).photo.size == (1024, 576)


def test_the_face_in_pixels_that_are_not_square_is_that_of_the_photo(tmp_path):
    narrow = np.asarray(Image.fromarray(astronaut()).resize((180, 260), Image.Resampling.BICUBIC))
    path = written(tmp_path / "a.mp4", [narrow] * 3, aspect=Fraction(4, 3))
    assert shapes_differ(next(frames(path)).photo, astronaut()) < 0.3
    assert shapes_differ(narrow, astronaut()) > 1.0  # what the file's pixels alone would give


def test_a_pixel_of_no_such_shape_is_a_slip_of_the_header(tmp_path):
    path = written(tmp_path / "a.mp4", [coloured()] * 2, aspect=Fraction(100, 1))
    assert next(frames(path)).photo.size == (64, 48)


# ── decoders ───────────────────────────────────────────────────────────────────────────────────────────────


def test_interlaced_frames_are_read(tmp_path):
    options = {"flags": "+ildct+ilme", "x264-params": "tff=1"}
    path = written(tmp_path / "a.mp4", [astronaut()] * 3, codec="libx264", options=options)
    with av.open(str(path)) as file:
        assert next(file.decode(video=0)).interlaced_frame
    assert shapes_differ(next(frames(path)).photo, astronaut()) < 0.3


def test_the_interlaced_clip_of_a_user(shared):
    """The astronaut's face, within half a millimetre."""
    import skimage.data

    photo = next(frames(shared("cases") / "02_interlaced.mp4")).photo
    assert shapes_differ(photo, np.ascontiguousarray(skimage.data.astronaut())) < 0.5


def test_sound_with_a_cover_has_no_frames(tmp_path):
    path = tmp_path / "a.m4a"
    with av.open(str(path), "w", format="mp4") as file:
        tone, cover = file.add_stream("mp2", rate=48000), file.add_stream("mjpeg", rate=25)
        cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
        cover.disposition = av.stream.Disposition.attached_pic
        wave = av.AudioFrame.from_ndarray(np.zeros((1, 24000), np.int16), format="s16", layout="mono")
        wave.sample_rate = 48000
        file.mux(tone.encode(wave) + tone.encode(None))
        file.mux(cover.encode(av.VideoFrame.from_ndarray(coloured(), format="rgb24")) + cover.encode(None))
    with pytest.raises(BadPhoto, match=r"a\.m4a holds sound but no moving pictures"):
        next(frames(path))


def test_what_the_file_says_of_itself_may_be_in_any_alphabet(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as file:
        file.metadata["title"] = "Anna"
        stream = file.add_stream("mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        file.mux(stream.encode(av.VideoFrame.from_ndarray(coloured(), format="rgb24")))
        file.mux(stream.encode(None))
    path.write_bytes(path.read_bytes().replace(b"Anna", b"\xc4nn\xe4"))
    assert len(list(frames(path))) == 1


def test_frames_may_change_their_size(tmp_path):
    """As broadcasts do between two programmes."""
    for name, picture in (("a", coloured()), ("b", np.repeat(coloured(), 2, axis=1))):
        written(tmp_path / f"{name}.ts", [picture] * 3, codec="mpeg2video")
    both = tmp_path / "both.ts"
    both.write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    assert {frame.photo.size for frame in frames(both)} == {(64, 48), (128, 48)}


# ── times and lengths ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("name", "tolerance"), [("a.mp4", 1e-5), ("a.mkv", 1e-3), ("a.ts", 0.011)])
def test_pictures_that_begin_after_the_sound_are_shown_when_they_are_shown(tmp_path, name, tolerance):
    """Matroska counts milliseconds; in a broadcast, the encoder's first 10 ms of sound are before the begin."""
    times = 0.5 + np.arange(10) / 25
    path = written(tmp_path / name, [coloured()] * 10, times=times.tolist(), sound_at=0.0)
    np.testing.assert_allclose([frame.seconds for frame in frames(path)], times, atol=tolerance)


def test_frames_that_an_edit_list_hides_are_not_promised(tmp_path):
    """A cut without loss keeps the frames since the last key frame and says from where on to show them."""
    path = written(tmp_path / "a.mp4", [np.full((48, 64, 3), 2 * k, np.uint8) for k in range(100)], codec="libx264",
                   options={"bf": "0"})  # fmt: skip
    with av.open(str(path)) as file:
        ticks = round(file.streams.video[0].time_base.denominator / 25)
    atom(path, b"elst", 8, 2480, 38 * ticks)
    found = list(frames(path))
    assert len(found) == 62
    assert promised(path) == Promised(62, 25.0, pytest.approx(2.48, abs=1e-3))
    np.testing.assert_allclose([frame.seconds for frame in found], np.arange(62) / 25, atol=1e-5)
    assert found[0].photo.pixels.mean() == pytest.approx(76, abs=4)
    assert not video._missing(np.array([frame.seconds for frame in found]), promised(path))


def test_a_pause_in_a_matroska_file_is_no_promise_of_frames(tmp_path):
    """The recorder stood still for half an hour: 50 frames, not 52,520."""
    times = [k / 30 + (1750 if k >= 5 else 0) for k in range(10)]
    path = written(tmp_path / "a.mkv", [astronaut()] * 10, times=times)
    assert promised(path).frames == 0
    found = video.track(path)
    assert len(found.seconds) == 10
    assert not found.notes
    np.testing.assert_allclose(found.seconds, times, atol=1e-3)


def test_an_avi_with_frames_out_of_order_is_as_long_as_it_is(tmp_path):
    path = written(tmp_path / "a.avi", [coloured()] * 100, b_frames=2)
    np.testing.assert_allclose([frame.seconds for frame in frames(path)], np.arange(100) / 25, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("a.avi", r"only \d+ of the 60 frames that the file promises could be decoded"),
        ("a.mkv", r"the file breaks off: its frames end after \d\.\d s, but it promises 2\.4 s"),
        ("a.mp4", r"only \d+ of the 60 frames that the file promises could be decoded"),
    ],
)
def test_a_file_that_breaks_off_gives_what_came_before_and_says_so(tmp_path, name, says):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 255, (120, 160, 3), np.uint8) for _ in range(60)]
    options = {"movflags": "+faststart"} if name == "a.mp4" else None
    path = written(tmp_path / name, pictures, header=options)
    assert not video._missing(np.array([frame.seconds for frame in frames(path)]), promised(path))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    seconds = np.array([frame.seconds for frame in frames(path)])
    assert 20 < len(seconds) < 40
    (note,) = video._missing(seconds, promised(path))
    assert np.isfinite(seconds).all()
    assert re.fullmatch(says, note)


# ── what goes wrong ────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_no_video_is_refused_by_name(tmp_path):
    with pytest.raises(BadPhoto, match=r"there is no file or folder .*nowhere\.mp4"):
        next(frames(tmp_path / "nowhere.mp4"))
    with pytest.raises(BadPhoto, match="cannot be read"):
        next(frames(_Unreadable(tmp_path / "a.mp4")))
    playlist = tmp_path / "list.mp4"
    playlist.write_text("#EXTM3U\nhttp://example.invalid/a.ts\n")
    with pytest.raises(BadPhoto, match=r"list\.mp4 is not a video of a kind that is read \(MP4"):
        next(frames(playlist))
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    with pytest.raises(BadPhoto, match=r"broken\.mp4 cannot be decoded"):
        next(frames(broken))


@pytest.mark.parametrize(
    ("limit", "words"), [("LARGEST_VIDEO", "GB; a video has at most"), ("LARGEST_FRAME", "frames of 64×48; at most")]
)
def test_what_would_fill_the_memory_is_refused(tmp_path, monkeypatch, limit, words):
    path = write_video(tmp_path / "a.avi")
    monkeypatch.setattr(clip, limit, 100)
    with pytest.raises(BadPhoto, match=words):
        next(frames(path))


def test_a_frame_that_is_larger_than_the_header_said_is_none(tmp_path, monkeypatch):
    for name, width in (("a", 64), ("b", 640)):
        written(tmp_path / f"{name}.ts", [np.zeros((48, width, 3), np.uint8)] * 3, codec="mpeg2video")
    (tmp_path / "both.ts").write_bytes((tmp_path / "a.ts").read_bytes() + (tmp_path / "b.ts").read_bytes())
    monkeypatch.setattr(clip, "LARGEST_FRAME", 64 * 48 * 2)
    assert {frame.photo.size for frame in frames(tmp_path / "both.ts")} == {(64, 48)}


class _Unreadable(type(Path())):
    def is_file(self, **_) -> bool:
        raise PermissionError("not yours")


def test_a_video_without_a_whole_frame_is_refused(tmp_path):
    path = write_video(tmp_path / "a.avi")
    data = bytearray(path.read_bytes())
    for chunk in re.finditer(rb"00dc(?!\x10\0\0\0)", bytes(data[: data.index(b"idx1")])):
        size = int.from_bytes(data[chunk.end() : chunk.end() + 4], "little")
        data[chunk.end() + 4 : chunk.end() + 4 + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(BadPhoto, match=r"a\.avi has no frame that can be decoded"):
        next(frames(path))


@given(seed=st.integers(0, 2**32 - 1))
def test_bytes_that_were_changed_give_frames_or_a_sentence(tmp_path_factory, seed):
    rng = np.random.default_rng(seed)
    folder = tmp_path_factory.getbasetemp()
    whole = folder / "whole.mkv"
    if not whole.exists():
        written(whole, [coloured()] * 5)
    data = np.frombuffer(whole.read_bytes(), np.uint8).copy()
    where = rng.integers(4, len(data), 20)
    data[where] = rng.integers(0, 256, 20)
    (folder / "changed.mkv").write_bytes(data.tobytes())
    with contextlib.suppress(BadPhoto):
        for frame in frames(folder / "changed.mkv"):
            assert frame.photo.pixels.dtype == np.uint8
