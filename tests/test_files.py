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
from sameface.core.errors import BadData, NoFaceFound
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
    (tmp_path / "people").mkdir()
    (tmp_path / "others").symlink_to(tmp_path / "people")
    assert names_in(tmp_path) == ["photo.jpg"]
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
