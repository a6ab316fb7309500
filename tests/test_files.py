"""What is in a folder, and what only systems put there."""

import hashlib
import os
import string
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clutter import littered
from sameface.bulk import people_list
from sameface.core import files
from sameface.core.errors import BadData, BadOutput, NoFaceFound
from sameface.core.files import names_in, sha256, walk
from sameface.evaluation.benchmarks.pairs import table_rows
from sameface.photo.image import gather
from sameface.synthetic.files import _photos
from sameface.training.datasets import facetable
from sameface.verification import sides

NAMES = st.sets(st.text(string.ascii_letters + "._12", min_size=1, max_size=8).filter(lambda n: n.strip(".")))


def test_the_photos_of_a_folder_in_order(tmp_path):
    for name in ("b.jpg", "a.JPG", "10.jpeg", "2.jpeg", "notes.txt"):
        (tmp_path / name).touch()
    (tmp_path / "album.jpg").mkdir()
    littered(tmp_path)
    assert names_in(tmp_path, ".jpg", ".jpeg") == ["10.jpeg", "2.jpeg", "a.JPG", "b.jpg"]
    assert names_in(str(tmp_path)) == ["10.jpeg", "2.jpeg", "a.JPG", "b.jpg", "notes.txt"]
    assert names_in(tmp_path, folders=True) == ["album.jpg"]


@settings(max_examples=30)
@given(names=NAMES)
def test_nothing_of_the_users_is_left_out(names, tmp_path_factory):
    folder = tmp_path_factory.mktemp("folder")
    for name in names:
        (folder / name).touch()
    assert names_in(littered(folder)) == sorted(name for name in names if not name.startswith("."))


def test_a_folder_that_is_not_there_holds_nothing(tmp_path):
    (tmp_path / "file").touch()
    assert names_in(tmp_path / "gone") == names_in(tmp_path / "file") == []
    assert list(walk(tmp_path / "gone")) == []


def test_a_link_that_leads_nowhere_is_not_passed_over(tmp_path):
    (tmp_path / "photo.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "loop.jpg").symlink_to("loop.jpg")
    (tmp_path / "people").mkdir()
    (tmp_path / "others").symlink_to(tmp_path / "people")
    assert names_in(tmp_path) == ["loop.jpg", "photo.jpg"]
    assert names_in(tmp_path, folders=True) == ["others", "people"]


def test_what_may_not_be_listed_is_said(tmp_path, monkeypatch):
    def refused(path):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(files.os, "scandir", refused)
    with pytest.raises(BadData, match=rf"{tmp_path.name} cannot be listed \(Permission denied\)"):
        names_in(tmp_path)
    with pytest.raises(BadData, match=rf"{tmp_path.name} cannot be listed \(Permission denied\)"):
        list(walk(tmp_path))


def test_every_folder_below_in_order(tmp_path):
    for path in ("b/2.jpg", "b/deep/3.jpg", "a/1.jpg", "a/1.txt", ".git/4.jpg", "top.jpg"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    found = [(folder.relative_to(tmp_path), names) for folder, names in walk(littered(tmp_path), ".jpg")]
    wanted = {".": ["top.jpg"], "a": ["1.jpg"], "b": ["2.jpg"], "b/deep": ["3.jpg"]}
    assert found == [(Path(folder), names) for folder, names in wanted.items()]


def test_the_digest_is_that_of_the_files_one_after_the_other(tmp_path):
    contents = [os.urandom(1000), b"", os.urandom(10)]
    for k, content in enumerate(contents):
        (tmp_path / str(k)).write_bytes(content)
    assert sha256(*(tmp_path / str(k) for k in range(3))) == hashlib.sha256(b"".join(contents)).hexdigest()


# ── readers that are no plug-ins; tests/contract has those that are ────────────────────────────────────────


@pytest.fixture
def people(tmp_path) -> Path:
    """Anna has two photos, Ben one; beside them what systems leave."""
    for photo in ("anna/1.jpg", "anna/2.jpg", "ben/1.png"):
        (tmp_path / "people" / photo).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "people" / photo).touch()
    return littered(tmp_path / "people")


def test_photos_are_gathered_without_it(people):
    assert gather([people / "anna", people / "ben"]) == [
        people / name for name in ("anna/1.jpg", "anna/2.jpg", "ben/1.png")
    ]
    assert _photos(people / "ben") == (str(people / "ben" / "1.png"),)


def test_a_list_of_people_is_without_it(people):
    anna, ben = [str(people / "anna" / f"{k}.jpg") for k in (1, 2)], [str(people / "ben" / "1.png")]
    assert list(people_list.people([people])[1]) == [("anna", anna), ("ben", ben)]
    assert [photo for photo, _ in people_list.people([people], each=True)[1]] == [*anna, *ben]


def test_a_side_of_a_comparison_is_without_it(people, monkeypatch):
    def look(photos, **_):
        raise NoFaceFound(" ".join(photo.name for photo in photos))

    monkeypatch.setattr(sides, "look", look)
    with pytest.raises(NoFaceFound, match=r"^1\.jpg 2\.jpg$"):
        sides.read_side(people / "anna", "default", 0.6)


def test_the_face_table_is_read_without_it(tmp_path):
    facetable.sample(tmp_path)
    assert table_rows(littered(tmp_path))


# ── reading and writing ────────────────────────────────────────────────────────────────────────────────────


def test_pipes_and_devices_are_not_waited_for(tmp_path):
    os.mkfifo(pipe := tmp_path / "pipe.json")
    for path in (pipe, Path(os.devnull)):
        for read in (files.read_bytes, files.read_text, files.read_json, sha256):
            with pytest.raises(BadData, match=r"is not an ordinary file \(a pipe or a device\)"):
                read(*[path, 100][: 2 if read is files.read_bytes else 1])


def test_what_is_written_is_whole_or_not_there(tmp_path):
    path, target = tmp_path / "a.bin", tmp_path / "target"
    target.write_text("kept")
    (tmp_path / f".a.bin.{os.getpid()}.part").symlink_to(target)  # planted
    files.write_file(path, b"first")
    assert (path.read_bytes(), target.read_text()) == (b"first", "kept")
    with pytest.raises(ZeroDivisionError), files.written(path) as file:
        file.write(bytes([1 // 0]))
    with pytest.raises(BadOutput, match=r"a.bin cannot be written \(full\)"), files.written(path) as file:
        raise OSError("full")
    assert path.read_bytes() == b"first"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["a.bin", "target"]


def test_what_is_no_file_is_not_written_over(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "photo.png").touch()
    (tmp_path / "same.png").symlink_to(tmp_path / "photo.png")
    pipe, device, missing, null = tmp_path / "pipe", Path(os.devnull), tmp_path / "none" / "x", tmp_path / "a\0b"
    whys = "a pipe or a device", "device", "a folder", "there is no folder", "cannot be written"
    for path, why in zip((pipe, device, tmp_path, missing, null), whys, strict=True):
        with pytest.raises(BadOutput, match=why):
            files.check_output(path)
    with pytest.raises(BadOutput, match="is what is read, and would be written over"):
        files.check_output(tmp_path / "same.png", tmp_path / "other.png", tmp_path / "photo.png")
    with pytest.raises(BadOutput, match="results would lie among it"):
        files.make_folder(tmp_path, tmp_path / "photo.png", tmp_path)


def test_what_killed_runs_left_is_cleared_away(tmp_path):
    kept = [f".a.json.{os.getpid()}.part", "a.1.part", ".mine.part"]
    for name in (*kept, ".a.json.999999999.part"):
        (tmp_path / name).touch()
    files.make_folder(tmp_path)
    assert sorted(one.name for one in tmp_path.iterdir()) == sorted(kept)


def test_a_seal_breaks_with_the_last_bit_and_with_what_it_is_about(tmp_path):
    first, second, seal = (tmp_path / name for name in "abc")
    first.write_bytes(b"one")
    second.write_bytes(b"two")
    files.seal(seal, "about", first, second)
    assert files.sealed(seal, "about", first, second)
    assert not files.sealed(seal, "other", first, second)
    assert not files.sealed(seal, "about", second, first)
    second.write_bytes(b"twp")
    assert not files.sealed(seal, "about", first, second)
    second.unlink()
    assert not files.sealed(seal, "about", first, second)
    assert not files.sealed(tmp_path / "none", "about", first)


@given(name=st.binary(min_size=1, max_size=12).filter(lambda b: not set(b) & set(b"/\0\\")))
def test_names_that_are_no_text_are_found_again(name, tmp_path_factory):
    folder = tmp_path_factory.mktemp("names")
    if name.strip(b".") == b"":
        return
    file = folder / os.fsdecode(name)
    file.touch()
    text = files.plain(file)
    text.encode()
    assert files.named(text) == file
