"""Photos in: every format, every lie a file can tell, and crops that do not alias."""

import base64
import io
import os
import struct
import warnings
import zlib
from pathlib import Path
from urllib.parse import quote_from_bytes

import cv2
import numpy as np
import pillow_heif
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from sameface.core.errors import BadPhoto, compared
from sameface.photo import decode
from sameface.photo.face import Photo
from sameface.photo.image import crop, gather, left_out, one_by_one, read

ORIENTATION, FOCAL_MM, FOCAL_35 = 0x0112, 0x920A, 0xA405


@pytest.fixture(scope="module")
def scene() -> np.ndarray:
    """A smooth 96×64 colour picture without symmetry: JPEG keeps it within a few levels."""
    y, x = np.mgrid[0:64, 0:96] / [[[64.0]], [[96.0]]]
    return (255 * np.stack([x, y, 0.5 * x * (1 - y)], -1)).astype(np.uint8)


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def heic(pixels: np.ndarray, **options: object) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(out, quality=95, **options)
    return out.getvalue()


def exif_with(main: dict[int, object], lens: dict[int, object] | None = None) -> Image.Exif:
    exif = Image.Exif()
    for tag, value in main.items():
        exif[tag] = value
    exif.get_ifd(0x8769).update(lens or {})
    return exif


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "BMP"])
def test_lossless_files_come_back_exactly(scene, kind, tmp_path):
    path = tmp_path / "photo.bin"  # the name does not matter, the bytes do
    path.write_bytes(encoded(scene, kind))
    photo = read(path)
    np.testing.assert_array_equal(photo.pixels, scene)
    assert photo.name == str(path)
    assert photo.focal is None
    assert photo.size == (96, 64)


@pytest.mark.parametrize("kind", ["JPEG", "WebP", "AVIF", "GIF", "HEIC"])
def test_lossy_files_come_back_nearly(scene, kind):
    data = heic(scene) if kind == "HEIC" else encoded(scene, kind, quality=95)
    difference = np.abs(read(data).pixels.astype(int) - scene)
    assert difference.mean() < (12 if kind == "GIF" else 3)


def test_gif_gives_its_first_frame(scene):
    frames = [Image.fromarray(scene), Image.fromarray(255 - scene)]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.abs(read(data).pixels.astype(int) - scene).mean() < 12


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_exif_orientation_comes_out_upright(scene, orientation):
    upright = Image.fromarray(scene)
    undo = {
        2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }  # fmt: skip
    stored = upright.transpose(undo[orientation]) if orientation in undo else upright
    for kind in ("PNG", "TIFF", "JPEG"):
        data = encoded(stored, kind, exif=exif_with({ORIENTATION: orientation}))
        photo = read(data)
        assert photo.pixels.shape == scene.shape
        assert np.abs(photo.pixels.astype(int) - scene).mean() < (4 if kind == "JPEG" else 1e-9)


def test_heic_with_an_orientation_comes_out_upright(scene):
    stored = np.ascontiguousarray(np.rot90(scene))
    photo = read(heic(stored, exif=exif_with({ORIENTATION: 6}).tobytes()))
    assert np.abs(photo.pixels.astype(int) - scene).mean() < 3


@pytest.mark.parametrize("orientation", [0, 9, 700])
def test_a_nonsense_orientation_is_upright(scene, orientation):
    data = encoded(scene, "PNG", exif=exif_with({ORIENTATION: orientation}))
    np.testing.assert_array_equal(read(data).pixels, scene)


def test_transparency_is_composited_onto_white(scene):
    alpha = np.zeros((64, 96, 1), np.uint8)
    alpha[:, 32:64], alpha[:, 64:] = 51, 255
    expected = scene.astype(float)
    expected[:, :32] = 255
    expected[:, 32:64] = 0.2 * scene[:, 32:64] + 0.8 * 255
    for source in (np.concatenate([scene, alpha], 2), encoded(np.concatenate([scene, alpha], 2), "PNG")):
        np.testing.assert_allclose(read(source).pixels, expected, atol=0.51)


def test_a_palette_with_a_transparent_colour_is_composited():
    image = Image.new("P", (20, 20), 0)
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.paste(1, (10, 0, 20, 20))
    pixels = read(encoded(image, "PNG", transparency=0)).pixels
    assert pixels[5, 5].tolist() == [255, 255, 255]
    assert pixels[5, 15].tolist() == [200, 100, 50]


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_16_bit_grey_is_scaled_not_clipped(kind):
    wide = np.linspace(0, 65535, 64 * 96).astype(np.uint16).reshape(64, 96)
    pixels = read(encoded(Image.fromarray(wide), kind)).pixels
    np.testing.assert_allclose(pixels[..., 1], wide / 257, atol=0.51)
    assert (pixels[..., 0] == pixels[..., 2]).all()


@pytest.mark.parametrize("suffix", [".png", ".tiff"])
def test_16_bit_colour_is_scaled(scene, suffix):
    wide = scene.astype(np.uint16) * 257
    data = cv2.imencode(suffix, wide[..., ::-1])[1].tobytes()
    np.testing.assert_array_equal(read(data).pixels, scene)


def test_grey_and_bilevel_files():
    grey = np.arange(64 * 96, dtype=np.uint32).reshape(64, 96).astype(np.uint8)
    np.testing.assert_array_equal(read(encoded(grey, "PNG")).pixels, np.repeat(grey[..., None], 3, 2))
    bilevel = read(encoded(Image.fromarray(grey).convert("1"), "PNG")).pixels
    assert set(np.unique(bilevel)) == {0, 255}


def test_float_tiff_is_in_zero_to_one():
    ramp = np.linspace(0, 1, 64 * 96, dtype=np.float32).reshape(64, 96)
    np.testing.assert_allclose(read(encoded(Image.fromarray(ramp), "TIFF")).pixels[..., 0], 255 * ramp, atol=0.51)
    with pytest.raises(BadPhoto, match="divide it by 255"):
        read(encoded(Image.fromarray(ramp * 255), "TIFF"))


def test_adobe_cmyk_is_not_negative(scene):
    pixels = read(encoded(Image.fromarray(scene).convert("CMYK"), "JPEG", quality=98)).pixels
    assert np.abs(pixels.astype(int) - scene).mean() < 4


def swapped_profile() -> bytes:
    """An sRGB profile whose red and green primaries have changed places: an unmistakable colour space."""
    data = bytearray(
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes().replace(b"s\0R\0G\0B", b"S\0W\0A\0P")
    )
    data = bytearray(bytes(data).replace(b"sRGB", b"SWAP"))
    count = struct.unpack(">I", data[128:132])[0]
    tags = {bytes(data[132 + 12 * i : 136 + 12 * i]): 132 + 12 * i for i in range(count)}
    red, green = tags[b"rXYZ"], tags[b"gXYZ"]
    data[red + 4 : red + 12], data[green + 4 : green + 12] = data[green + 4 : green + 12], data[red + 4 : red + 12]
    return bytes(data)


def test_an_embedded_profile_is_applied(scene):
    pixels = read(encoded(scene, "PNG", icc_profile=swapped_profile())).pixels
    np.testing.assert_allclose(pixels, scene[..., [1, 0, 2]], atol=4)
    alpha = np.full((64, 96, 1), 255, np.uint8)
    pixels = read(encoded(np.concatenate([scene, alpha], 2), "PNG", icc_profile=swapped_profile())).pixels
    np.testing.assert_allclose(pixels, scene[..., [1, 0, 2]], atol=4)


def test_an_srgb_profile_changes_nothing_and_a_broken_one_is_ignored(scene):
    srgb = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for profile in (srgb, b"not a profile", swapped_profile()[:200]):
        np.testing.assert_array_equal(read(encoded(scene, "PNG", icc_profile=profile)).pixels, scene)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32, np.float64, np.float16])
def test_arrays_of_every_kind_give_the_same_photo(scene, dtype):
    top = 1.0 if np.dtype(dtype).kind == "f" else np.iinfo(dtype).max
    array = (scene / 255 * top + (0 if np.dtype(dtype).kind == "f" else 0.5)).astype(dtype)
    photo = read(array, name="anna")
    np.testing.assert_array_equal(photo.pixels, scene)
    assert photo.name == "anna"
    np.testing.assert_array_equal(read(array[..., 0]).pixels, np.repeat(scene[..., :1], 3, 2))


def test_one_channel_is_grey(scene):
    np.testing.assert_array_equal(read(scene[..., :1]).pixels, np.repeat(scene[..., :1], 3, 2))


def test_arrays_of_torch_are_photos(scene):
    np.testing.assert_array_equal(read(torch.from_numpy(scene)).pixels, scene)
    np.testing.assert_array_equal(read(torch.from_numpy(scene).float() / 255).pixels, scene)
    with pytest.raises(BadPhoto, match="move its first axis last"):
        read(torch.from_numpy(scene).permute(2, 0, 1))
    with pytest.raises(BadPhoto, match=r"the array cannot be made a numpy array: .*detach"):
        read(torch.zeros(20, 20, 3, requires_grad=True))


def test_bytes_in_every_form_are_a_photo(scene, tmp_path):
    data = encoded(scene, "PNG")
    (tmp_path / "anna.png").write_bytes(data)
    as_text = base64.b64encode(data).decode()
    for source in (
        data, bytearray(data), memoryview(data), io.BytesIO(data), f"data:image/png;base64,{as_text}",
        f"data:;base64,{as_text.rstrip('=')}", f"DATA:image/png,{quote_from_bytes(data)}",
    ):  # fmt: skip
        photo = read(source)
        np.testing.assert_array_equal(photo.pixels, scene)
        assert photo.name == "the picture in memory"
    with (tmp_path / "anna.png").open("rb") as file:
        photo = read(file)
    assert photo.name == str(tmp_path / "anna.png")
    np.testing.assert_array_equal(photo.pixels, scene)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (lambda t: io.BytesIO(), r"gives no bytes: .* seek\(0\)"),
        (lambda t: io.StringIO("text"), r"read\(\) gives str; open it with 'rb'"),
        (lambda t: (t / "text.jpg").open(encoding="utf-8"), r"text.jpg .*rb"),
        (lambda t: (t / "text.jpg").open("ab"), r"text.jpg cannot be read .*rb"),
        (lambda t: "data:image/png;base64", "without a comma"),
        (lambda t: "data:image/png;base64,A", "base64 is broken"),
        (lambda t: "data:text/plain,hello%20world", "holds text"),
        (lambda t: "QUJD" * 3000, r"^QUJD.{36}… \(12000 characters\) is too long for a path; .*b64decode"),
    ],
)
def test_what_gives_no_photo_says_what_to_do(source, message, tmp_path):
    (tmp_path / "text.jpg").write_text("grüße")
    given = source(tmp_path)
    with pytest.raises(BadPhoto, match=message) as said:
        read(given)
    assert len(str(said.value)) < 300
    if not isinstance(given, str):
        given.close()


def test_a_file_that_is_open_and_too_large_is_not_read_whole(monkeypatch):
    monkeypatch.setattr("sameface.photo.image.LARGEST_FILE", 100)
    stream = io.BytesIO(bytes(1000))
    with pytest.raises(BadPhoto, match="has more than"):
        read(stream)
    assert stream.tell() == 101


class Column(list):
    """A column of a table, as pandas has it."""

    dtype = np.dtype(object)

    def __array__(self, *_, **__):
        return np.array(list(self), object)


def test_collections_of_any_depth_are_taken_one_by_one(scene):
    pixels, stream, mapping = scene, io.BytesIO(), {"a": 1}
    given = (["a", ("b", {"c"}), np.array(["d", "e"])], Column(["f"]), (n for n in "gh"), {"x": "i"}.values())
    assert list(one_by_one(given)) == list("abcdefghi")
    alone = ["path", Path("p"), b"x", bytearray(b"x"), memoryview(b"x"), pixels, torch.zeros(4, 4), stream, mapping, 7]
    for one, same in zip(one_by_one(alone), alone, strict=True):
        assert one is same


def test_a_pillow_image_is_a_photo_too(scene):
    np.testing.assert_array_equal(read(Image.fromarray(scene)).pixels, scene)
    turned = Image.open(io.BytesIO(encoded(np.rot90(scene), "PNG", exif=exif_with({ORIENTATION: 6}))))
    np.testing.assert_array_equal(read(turned).pixels, scene)
    with pytest.raises(BadPhoto, match="cannot be decoded"):
        read(Image.open(io.BytesIO(encoded(scene, "JPEG")[:900])))


def test_the_focal_length_of_the_file_is_in_px_of_the_upright_photo(scene):
    lens = {FOCAL_35: 26, FOCAL_MM: 4.2}
    photo = read(encoded(scene, "JPEG", exif=exif_with({ORIENTATION: 6}, lens)))
    np.testing.assert_allclose(photo.focal, 26 * np.hypot(96, 64) / np.hypot(36, 24))


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that announces width × height pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def test_a_decompression_bomb_is_refused_from_its_header():
    with pytest.raises(BadPhoto, match=r"60000×60000 = 3600 million pixels; at most 200 million"):
        read(bomb(60000, 60000))
    with pytest.raises(BadPhoto, match=r"damaged or unusual PNG|truncated PNG"):  # large, but allowed: it is decoded
        read(bomb(16000, 50))


def test_numbers_of_a_message_show_which_is_larger():
    assert compared(200.4, 200.0, 0) == ("200.4", "200.0")
    assert compared(0.6, 0.6) == ("0.60", "0.60")
    with pytest.raises(BadPhoto, match=r"20001×10000 = 200\.01 million pixels; at most 200\.00 million"):
        read(np.broadcast_to(np.uint8(0), (10_000, 20_001)))


def test_what_a_decoder_says_is_one_line(scene):
    data = heic(scene)
    with pytest.raises(BadPhoto) as said:
        read(data[: len(data) // 2])
    assert "\n" not in str(said.value)
    with pytest.raises(BadPhoto) as said:
        read(b"\0\0\0\x18ftypheic" + bytes(30))
    assert "\n" not in str(said.value)


def test_a_jpeg_of_endless_passes_is_refused(scene, monkeypatch):
    data = encoded(scene, "JPEG", progressive=True)
    assert read(data).size == scene.shape[1::-1]
    monkeypatch.setattr("sameface.photo.decode.MOST_SCANS", 5)
    with pytest.raises(BadPhoto, match=r"has \d+ scans, each a pass over all its pixels"):
        read(data)
    assert read(encoded(scene, "JPEG")).size == scene.shape[1::-1]


def test_an_array_too_large_is_refused():
    with pytest.raises(BadPhoto, match="at most 200 million"):
        read(np.broadcast_to(np.uint8(0), (20_000, 20_000)))


def test_a_wide_panorama_and_a_large_photo_are_read():
    assert read(encoded(np.zeros((200, 20_000), np.uint8), "PNG")).size == (20_000, 200)
    assert read(encoded(np.zeros((6000, 4000), np.uint8), "PNG", compress_level=1)).size == (4000, 6000)


@pytest.mark.parametrize("side", [1, 15])
def test_a_tiny_photo_is_refused_with_its_size(side):
    with pytest.raises(BadPhoto, match=f"40×{side} pixels; a photo has at least 16"):
        read(np.zeros((side, 40, 3), np.uint8))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"just some words\n", "holds text .*just some words"),
        ("süß".encode() * 9, "holds text"),
        (b"%PDF-1.7 \x00\x01", "a PDF document"),
        (b"\0\0\0\x18ftypmp42\0\0\0\0", "a video .MP4"),
        (b"\0\0\0\x14ftypqt  ", "a video .MP4 or QuickTime"),
        (b"\x1a\x45\xdf\xa3" + bytes(50), "a video .Matroska"),
        (b"RIFF\0\0\0\0AVI LIST", "a video .AVI"),
        (b"RIFF\0\0\0\0WAVE", "a sound file"),
        (b"PK\x03\x04....", "a zip archive"),
        (b"\n<!DOCTYPE html><html>", "a web page"),
        (b"\0\0\0\x18ftypcrx ", "a camera raw file"),
        (bytes(range(256)), "bytes of an unknown kind"),
        (b"\xff\xd8\xff", "JPEG file"),
        (b"\0\0\0\x18ftypheic" + bytes(30), "HEIC file"),
    ],
)
def test_what_is_no_photo_is_named(content, message, tmp_path):
    path = tmp_path / "holiday.jpg"
    path.write_bytes(content)
    with pytest.raises(BadPhoto, match=message) as caught:
        read(path)
    assert "holiday.jpg" in str(caught.value)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WebP", "TIFF", "GIF", "BMP", "AVIF", "HEIC"])
@settings(max_examples=25, deadline=None)
@given(part=st.floats(0.0, 0.9), flips=st.lists(st.tuples(st.floats(0, 0.999), st.integers(1, 255)), max_size=8))
@example(part=0.0, flips=[(0.0, 1)] * 4 + [(0.0083532, 12)])  # a TIFF whose tags Pillow warns of while it decodes
def test_a_damaged_file_is_a_photo_or_a_bad_photo(kind, part, flips):
    """Whatever is cut off or flipped, no other error comes out, and no warning."""
    y, x = np.mgrid[0:40, 0:50].astype(np.uint8)
    pixels = np.stack([5 * x, 6 * y, x * y], -1)
    data = bytearray(heic(pixels) if kind == "HEIC" else encoded(pixels, kind, exif=exif_with({}, {FOCAL_35: 26})))
    for where, value in flips:
        data[int(where * len(data))] ^= value
    data = bytes(data if len(flips) > 4 else data[: int(part * len(data))])
    try:
        assert read(data).pixels.dtype == np.uint8
    except BadPhoto:
        pass


def test_a_truncated_jpeg_says_so(scene):
    data = encoded(scene, "JPEG")
    with pytest.raises(BadPhoto, match=r"half\.jpg is a truncated JPEG file .*copy or download it again"):
        read(data[: len(data) // 2], name="half.jpg")


def test_paths_that_lead_nowhere(tmp_path, monkeypatch):
    with pytest.raises(BadPhoto, match=r"there is no file .*check the spelling"):
        read(tmp_path / "none.jpg")
    with pytest.raises(BadPhoto, match="nor a folder"):
        read(tmp_path / "neither" / "none.jpg")
    with pytest.raises(BadPhoto, match="it is an address; download it first"):
        read("https://example.org/me.jpg")
    with pytest.raises(BadPhoto, match="is a folder"):
        read(tmp_path)
    with pytest.raises(BadPhoto, match=r"cannot be read .*null"):
        read("a\0b.jpg")
    with pytest.raises(BadPhoto, match="not an ordinary file"):
        read("/dev/null")
    with pytest.raises(BadPhoto, match="camera raw"):
        read(tmp_path / "IMG_1.NEF")
    (tmp_path / "locked.jpg").write_bytes(b"x")
    monkeypatch.setattr(os, "open", lambda *_: (_ for _ in ()).throw(PermissionError(13, "no")))
    with pytest.raises(BadPhoto, match="may not be read by this user"):
        read(tmp_path / "locked.jpg")


def test_a_file_too_large_is_not_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("sameface.photo.image.LARGEST_FILE", 100)
    (tmp_path / "large.jpg").write_bytes(bytes(200))
    with pytest.raises(BadPhoto, match=r"large\.jpg has 0\.0002 MB; such a file is read up to 0\.0001 MB"):
        read(tmp_path / "large.jpg")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((20, 20, 3), np.nan, np.float32), "1200 values that are NaN or infinite"),
        (np.full((20, 20), np.inf), "NaN or infinite"),
        (np.full((20, 20, 3), 200.0), "from 200 to 200; expected .0, 1.; divide it by 255"),
        (np.full((20, 20, 3), -1.0), "from -1 to -1; expected .0, 1.; rescale it"),
        (np.zeros((3, 20, 20), np.uint8), r"shape \(3, 20, 20\).*move its first axis last"),
        (np.zeros((1, 20, 20, 3), np.uint8), "a photo is .*several photos are given one by one"),
        (np.zeros((1, 20, 20), np.uint8), "move its first axis last"),
        (np.zeros((20, 20, 2), np.uint8), "a photo is"),
        (np.zeros((0, 20, 3), np.uint8), "no pixels"),
        (np.zeros((20, 20, 3), np.int64), "an array of int64"),
        (np.zeros((20, 20, 3), bool), "an array of bool"),
    ],
)
def test_arrays_that_are_no_photos(array, message):
    with pytest.raises(BadPhoto, match=message):
        read(array)


def test_untidy_exif_does_not_warn(scene):
    exif = bytearray(exif_with({ORIENTATION: 1, 0x010E: "a" * 50}, {FOCAL_35: 26}).tobytes())
    exif[14:18] = b"\xff\xff\xff\x7f"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read(encoded(scene, "JPEG", exif=bytes(exif))).pixels.shape == scene.shape


def test_a_png_text_bomb_is_a_bad_photo(scene):
    notes = PngImagePlugin.PngInfo()
    notes.add_text("note", "a" * 80_000_000, zip=True)
    with pytest.raises(BadPhoto, match="damaged or unusual PNG"):
        read(encoded(scene, "PNG", pnginfo=notes))


# -- gather ----------------------------------------------------------------------------------------


def test_gather_sorts_naturally_and_takes_only_photos(tmp_path):
    for name in ("10.jpg", "2.JPG", "1.png", "notes.txt", ".hidden.jpg", "b7.heic", "B06.webp"):
        (tmp_path / name).touch()
    (tmp_path / "inner.jpg").mkdir()
    assert [p.name for p in gather(tmp_path)] == ["1.png", "2.JPG", "10.jpg", "B06.webp", "b7.heic"]


def test_gather_keeps_the_order_given_and_each_file_once(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.bin"):
        (tmp_path / name).touch()
    given = [str(tmp_path / "c.bin"), tmp_path / "b.jpg", tmp_path]
    assert [p.name for p in gather(given)] == ["c.bin", "b.jpg", "a.jpg"]
    assert gather(str(tmp_path / "c.bin")) == [tmp_path / "c.bin"]


def test_a_link_to_itself_is_a_photo_that_cannot_be_read(tmp_path):
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "good.png").touch()
    assert [path.name for path in gather(tmp_path)] == ["good.png", "loop.jpg"]
    with pytest.raises(BadPhoto, match=r"loop\.jpg cannot be read \(Too many levels of symbolic links\)"):
        read(tmp_path / "loop.jpg")


def test_a_folder_gives_every_photo_whatever_it_is_called_and_tells_of_the_rest(tmp_path, scene):
    """Of 1.png, download.jfif, IMG.MPO and a clip, three once vanished without a word."""
    jpeg, png = encoded(scene, "JPEG"), encoded(scene, "PNG")
    for name, data in (("1.png", png), ("download.jfif", jpeg), ("IMG_3.MPO", jpeg), ("4.jpg_large", jpeg),
                       ("5.ppm", encoded(scene, "PPM")), ("6", jpeg), ("7.tmp", png)):  # fmt: skip
        (tmp_path / name).write_bytes(data)
    assert left_out(tmp_path) == ""
    photos = gather(tmp_path)
    assert [photo.name for photo in photos] == ["1.png", "4.jpg_large", "5.ppm", "6", "7.tmp", "download.jfif",
                                                "IMG_3.MPO"]  # fmt: skip
    assert {read(photo).pixels.shape for photo in photos} == {scene.shape}
    (tmp_path / "clip.dat").write_bytes(b"\0\0\0\x18ftypisom" + bytes(400))
    assert left_out(tmp_path) == f"in {tmp_path}, 1 video (clip.dat; give it alone)"
    (tmp_path / "BM notes").write_text("BM is how bitmaps begin")
    (tmp_path / "notes.txt").write_text("no photo")
    os.mkfifo(tmp_path / "pipe")  # nobody writes: opening it would wait for ever
    assert gather(tmp_path) == photos
    told = f"in {tmp_path}, 1 video (clip.dat; give it alone) and 3 other files (BM notes, …)"
    assert left_out(tmp_path) == told
    (tmp_path / "older").mkdir()
    assert left_out(tmp_path) == f"{told} and 1 folder (older)"
    assert left_out(tmp_path / "1.png") == left_out(tmp_path / "gone") == left_out("\0") == left_out("x" * 5000) == ""


def test_pixmaps_come_back_exactly(scene):
    np.testing.assert_array_equal(read(encoded(scene, "PPM")).pixels, scene)
    grey = read(encoded(scene[..., 0], "PPM")).pixels
    np.testing.assert_array_equal(grey, np.repeat(scene[..., :1], 3, axis=2))


def test_a_pillow_without_avif_is_said(scene, monkeypatch):
    data = encoded(scene, "AVIF")
    monkeypatch.setattr(decode.features, "check", lambda what: False)
    with pytest.raises(BadPhoto, match="is an AVIF picture, and the installed Pillow was built without AVIF"):
        read(data)
    monkeypatch.setitem(decode._DECODERS, "AVIF", ("PIL.NoSuchPlugin", "X"))
    with pytest.raises(BadPhoto, match="of the kind AVIF, which the installed Pillow does not read"):
        read(data)
    with pytest.raises(BadPhoto, match=r"JPEG XL picture \(Pillow reads none; save it as JPEG or PNG\)"):
        read(b"\xff\x0a" + bytes(100))


def test_gather_errors_say_what_is_missing(tmp_path, monkeypatch):
    with pytest.raises(BadPhoto, match="holds no photos, only no files"):
        gather(tmp_path)
    (tmp_path / "people" / "anna").mkdir(parents=True)
    with pytest.raises(
        BadPhoto, match=r"only 1 folder \(anna\); give such a folder, or all .* `sameface bulk .*people`"
    ):
        gather(tmp_path / "people")
    (tmp_path / "people" / "bert").mkdir()
    (tmp_path / "people" / "notes.txt").touch()
    with pytest.raises(BadPhoto, match=r"only 1 other file \(notes.txt\) and 2 folders \(anna, …\); give"):
        gather(tmp_path / "people")
    for address in ("https://example.org/me.jpg", "data:image/png;base64,AAAA"):
        with pytest.raises(BadPhoto, match=f"there is no file or folder {address}: it is "):
            gather(address)
    (tmp_path / "people" / "anna" / "notes.txt").touch()
    with pytest.raises(BadPhoto, match=r"only 1 other file \(notes.txt\); photos end in .apng, .avif, .bmp"):
        gather([tmp_path / "people" / "anna"])
    with pytest.raises(BadPhoto, match=r"there is no file or folder .*gone"):
        gather(tmp_path / "gone")
    with pytest.raises(BadPhoto, match="no photos were given"):
        gather([])
    with pytest.raises(BadPhoto, match="is too long for a path"):
        gather("x" * 5000)
    with pytest.raises(BadPhoto, match="cannot be reached"):
        gather("x" * 3000)

    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(os, "scandir", refused)
    with pytest.raises(BadPhoto, match=r"cannot be listed .Permission denied"):
        gather(tmp_path)


# -- crop ------------------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(scale=st.floats(0.2, 1.5), angle=st.floats(0.1, 0.5), x=st.floats(60, 68), y=st.floats(60, 68))
def test_crop_of_a_ramp_is_the_ramp(scale, angle, x, y):
    """Pixel centres lie at +0.5, at every scale: the crop's colour is the photo's position that it shows."""
    rows, columns = np.mgrid[0:128, 0:128].astype(np.uint8)
    photo = np.stack([2 * columns, 2 * rows, 0 * rows], -1)  # at a pixel centre, red is 2x - 1 and green 2y - 1
    turn = scale * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    affine = np.column_stack([turn, np.array([8.0, 6.0]) - turn @ [x, y]])
    out = crop(photo, affine, (16, 12))
    v, u = np.mgrid[0:12, 0:16] + 0.5
    source = np.linalg.solve(turn, np.stack([u.ravel(), v.ravel()]) - affine[:, 2:]).T.reshape(12, 16, 2)
    difference = out[..., :2] - (2 * source - 1)
    assert np.abs(difference).max() < 1.3  # two roundings
    assert np.abs(difference.mean((0, 1))).max() < 0.45  # rounding; a half-pixel mistake would be 1 / scale > 0.66


def test_crop_of_identity_is_the_photo(scene):
    np.testing.assert_array_equal(crop(scene, np.eye(2, 3), (96, 64)), scene)


def test_shrinking_does_not_alias():
    checker = (np.indices((600, 600)).sum(0) % 2 * 255).astype(np.uint8)
    out = crop(np.repeat(checker[..., None], 3, 2), np.array([[0.1, 0, 0], [0, 0.1, 0]]), (60, 60))
    assert np.abs(out[2:-2, 2:-2].astype(int) - 127).max() <= 3


def test_enlarging_does_not_darken_the_edge():
    white = np.full((20, 20, 3), 255, np.uint8)
    assert (crop(white, np.array([[4.0, 0, 0], [0, 4, 0]]), (80, 80)) == 255).all()


def test_outside_the_photo_is_black(scene):
    out = crop(scene, np.array([[1.0, 0, 10], [0, 1, 0]]), (106, 64))
    assert not out[:, :9].any()
    np.testing.assert_array_equal(out[:, 10:], scene)
    assert not crop(scene, np.array([[1.0, 0, 500], [0, 1, 0]]), (30, 30)).any()


def test_crop_refuses_an_affine_that_flattens(scene):
    with pytest.raises(ValueError, match="finite affine that can be inverted"):
        crop(scene, np.zeros((2, 3)), (10, 10))
    with pytest.raises(ValueError, match="finite affine"):
        crop(scene, np.full((2, 3), np.nan), (10, 10))


@pytest.mark.parametrize("focal", [float("nan"), float("inf"), 0.0, -1.0])
def test_a_photo_has_no_focal_length_that_cannot_be(focal):
    with pytest.raises(ValueError, match=r"the focal length of a\.jpg is .*; it is a positive number of px, or None"):
        Photo(np.zeros((20, 20, 3), np.uint8), "a.jpg", focal=focal)
