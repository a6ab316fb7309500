"""A whole data set fitted: every photo is a row, no person is split, and whatever stops it, the file is the same."""

import json
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from faces import GRACE, astronaut, from_far, person, seen_by
from sameface import cli
from sameface.core import plugins
from sameface.core.errors import AssetMissing, BadData, BadOutput, NoFaceFound, SameFaceError
from sameface.training import fit_set as module
from sameface.training import fit_shard
from sameface.training.datasets import facetable, labelled
from sameface.training.fit_set import Options, deal, fit_set

PLUGIN = '''
"""Pictures in .npy files; stops its process where a file `deadly` says so, once."""
import os
from pathlib import Path
import numpy as np

gives = ("image", "person")
sample = None

class Photos:
    def __init__(self, root):
        self.files = sorted(root.glob("*.npy"))
        self.names = [file.stem for file in self.files]
        self.person = np.array([int(name[0]) for name in self.names])

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        deadly = self.files[index].with_suffix(".deadly")
        if deadly.exists():
            deadly.unlink()
            os._exit(9)
        return {"image": np.load(self.files[index]), "person": self.person[index]}

def load(root, split):
    return Photos(Path(root) / split)
'''
"""photo 1b.npy shows person 1"""


@pytest.fixture
def pictures(tmp_path) -> str:
    """DATASET:FOLDER of two persons' real photos, dealt in turn, and one of nobody."""
    (tmp_path / "mine.py").write_text(PLUGIN)
    (tmp_path / "pictures" / "train").mkdir(parents=True)
    grace = np.asarray(Image.open(GRACE).convert("RGB").crop((100, 60, 440, 400)).resize((200, 200)))
    for k, name in enumerate("abc"):
        np.save(tmp_path / "pictures" / "train" / f"0{name}.npy", np.roll(astronaut(), 5 * k, axis=1))
        np.save(tmp_path / "pictures" / "train" / f"1{name}.npy", np.roll(grace, 5 * k, axis=1))
    np.save(tmp_path / "pictures" / "train" / "2a.npy", np.full((100, 100, 3), 128, np.uint8))
    return f"{tmp_path / 'mine.py'}:{tmp_path / 'pictures'}"


@pytest.fixture
def table(tmp_path, monkeypatch) -> str:
    """A face table where a perfect network sees each person's own face, but no face in the first photo."""
    facetable.sample(tmp_path / "table")
    asked.clear()

    def said(photo, *_, **__):
        asked.append(photo.name)
        if photo.name.endswith("anna-0"):
            raise NoFaceFound(f"no face in {photo.name}")
        _, name, k = photo.name.split("-")
        camera = from_far(0.1 * int(k), (160, 160), 0.5)
        one = seen_by(replace(camera, translation=camera.translation * 0 + 80), person(len(name)) / 3, name=photo.name)
        return [one]

    monkeypatch.setattr(fit_shard, "observe", said)
    monkeypatch.setattr(fit_shard, "FARTHEST_LABEL", 10.0)  # the sample's labels are noise
    return f"facetable:{tmp_path / 'table'}"


asked: list[str] = []
"""photos that the made-up network was shown"""
PIECES = Options(shard=4)


def rows_of(out: Path) -> list[dict]:
    return parquet.read_table(out / labelled.LABELS).to_pylist()


# ── the file ───────────────────────────────────────────────────────────────────────────────────────────────


def test_every_photo_is_a_row_and_the_labels_can_be_read(table, tmp_path):
    about, rows = fit_set(table, tmp_path / "out", PIECES, workers=0), rows_of(tmp_path / "out")
    assert [(row["split"], row["row"]) for row in rows] == [(s, k) for s in ("train", "val") for k in range(8)]
    assert [row["reason"] for row in rows] == ["NoFaceFound", *[None] * 7] * 2
    assert about["photos"] == 16
    assert about["persons"] == 4
    assert about["kept"] == 14
    assert about["rejected"] == {"NoFaceFound": 2}
    assert about["percentiles of kept photos"]["residual_percent"]["100"] < 0.5
    objectives = about["objective per photo, before the first and after each round"]
    for values in objectives.values():
        assert (np.diff(values) <= 0).all()
    assert about["last_call"]["photos"] == 16
    assert [file.name for file in sorted((tmp_path / "out").iterdir())] == ["labels.json", "labels.parquet"]
    data = labelled.load(tmp_path / "out", "val")
    assert len(data) == 7
    assert data.rejected == {"NoFaceFound": 1}
    np.testing.assert_array_equal(data[3]["identity"], np.float32(rows[12]["identity"]))
    assert data.person.tolist() == [0, 0, 0, 1, 1, 1, 1]


def test_labels_of_a_file_of_your_own_can_be_fitted_again_if_you_name_it(tmp_path, monkeypatch, capsys):
    """In other processes too, which are told what is trusted."""
    (tmp_path / "mine.py").write_text("from sameface.training.datasets.casia import gives, load, sample\n")
    labelled.sample(tmp_path / "labels")
    about = json.loads((tmp_path / "labels" / "labels.json").read_text())
    about |= {"data": "mine.py:pictures", "data_sha256": plugins.fingerprint(str(tmp_path / "mine.py"))["sha256"]}
    (tmp_path / "labels" / "labels.json").write_text(json.dumps(about))
    monkeypatch.setattr(plugins, "_trusted", {})
    arguments = [f"labelled:{tmp_path / 'labels'}", "--out", str(tmp_path / "out"), "--workers", "1", "--quiet"]

    def verb(name: str, *given: str) -> int:
        with pytest.raises(SystemExit) as left:
            cli.main([name, *given])
        return int(left.value.code or 0)

    for name, rest in (("fit-set", arguments), ("data", arguments[:1])):
        assert verb(name, *rest) == 1
        assert "is a Python file, mine.py, and no file of a folder is run" in capsys.readouterr().err
    assert verb("fit-set", *arguments, "--plugin", str(tmp_path / "mine.py")) == 0
    assert "0 of 10 photos labelled" in capsys.readouterr().out  # casia's cartoons show nobody
    assert verb("data", *arguments[:1], "--plugin", str(tmp_path / "mine.py")) == 0


def test_a_finished_folder_is_not_computed_again(table, tmp_path):
    first = fit_set(table, tmp_path / "out" / labelled.LABELS, PIECES, workers=0)
    asked.clear()
    (tmp_path / "out" / "labels.parquet.shards").mkdir()  # a kill before the last step leaves them
    assert fit_set(table, tmp_path / "out", PIECES, workers=0) == first
    assert not asked
    assert len(list((tmp_path / "out").iterdir())) == 2
    labels = tmp_path / "out" / labelled.LABELS
    whole = labels.read_bytes()
    labels.write_bytes(whole[:100] + bytes(20) + whole[120:])
    again = fit_set(table, tmp_path / "out", PIECES, workers=0)
    assert len(asked) == 16
    assert labels.read_bytes() == whole
    assert again["labels_sha256"] == first["labels_sha256"]


def test_only_the_first_persons_are_fitted_when_asked(table, tmp_path):
    about = fit_set(table, tmp_path / "out", Options(limit=9), workers=0)
    assert about["photos"] == 12  # both of train and one of val
    asked.clear()
    about = fit_set(table, tmp_path / "other", Options(limit=3), workers=0)
    assert about["photos"] == 4
    assert not any(name.startswith("val") for name in asked)


def test_a_data_set_of_nothing_but_rejects_is_still_written(table, tmp_path, monkeypatch):
    def nothing(photo, *_, **__):
        raise NoFaceFound("no face")

    monkeypatch.setattr(fit_shard, "observe", nothing)
    about = fit_set(table, tmp_path / "out", Options(splits=("val",)), workers=0)
    assert about["rejected"] == {"NoFaceFound": 8}
    assert about["percentiles of kept photos"]["residual_px"] == {}
    assert about["objective per photo, before the first and after each round"] == {"alone": [], "joint": []}


# ── whatever stops it ──────────────────────────────────────────────────────────────────────────────────────


def test_stopped_by_ctrl_c_it_goes_on_where_it_was(table, tmp_path):
    fit_set(table, tmp_path / "whole", PIECES, workers=0)
    asked.clear()

    def stop(done: int, of: int) -> None:
        assert of == 16
        if done == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_set(table, tmp_path / "out", PIECES, workers=0, tick=stop)
    assert not (tmp_path / "out" / labelled.LABELS).exists()
    pieces = tmp_path / "out" / "labels.parquet.shards"
    (pieces / "000000.parquet").write_bytes((pieces / "000001.parquet").read_bytes())  # whole, but of other photos
    (pieces / ".000002.parquet.77.part").write_bytes(b"PAR1")  # left by a kill
    before, done = len(asked), []
    about = fit_set(table, tmp_path / "out", PIECES, workers=0, tick=lambda *counts: done.append(counts))
    assert before == 8
    assert len(asked) == 8 + 12
    assert done == [(4, 16), (8, 16), (12, 16), (16, 16)]
    assert about["last_call"]["photos"] == 12
    assert same(tmp_path / "whole", tmp_path / "out")


def test_a_killed_process_costs_its_shards_only_and_processes_change_no_bit(pictures, tmp_path):
    options = Options(splits=("train",), shard=3)
    fit_set(pictures, tmp_path / "serial", options, workers=0)
    rows = rows_of(tmp_path / "serial")
    assert [row["name"] for row in rows] == ["0a", "0b", "0c", "1a", "1b", "1c", "2a"]
    reasons = [row["reason"] for row in rows]  # shifted pictures are copies
    assert reasons[-1] == "NoFaceFound"
    assert set(reasons[:-1]) == {None, "Copy"}
    (tmp_path / "pictures" / "train" / "1b.deadly").touch()
    with pytest.raises(SameFaceError, match=r"a process ended before its time .* the same command goes on"):
        fit_set(pictures, tmp_path / "out", options, workers=1)
    assert (tmp_path / "out" / "labels.parquet.shards" / "000000.parquet").exists()
    about = fit_set(pictures, tmp_path / "out", options, workers=2)
    assert about["last_call"]["photos"] == 4
    assert same(tmp_path / "serial", tmp_path / "out")


def same(first: Path, second: Path) -> bool:
    return (first / labelled.LABELS).read_bytes() == (second / labelled.LABELS).read_bytes()


# ── shards ─────────────────────────────────────────────────────────────────────────────────────────────────


@given(person=st.lists(st.integers(-1, 6), min_size=1, max_size=40), size=st.integers(1, 12))
def test_no_person_is_split_and_no_row_is_lost(person, size):
    person = np.array(person)
    shards = deal(person, size)
    assert sorted(np.concatenate(shards).tolist()) == list(range(len(person)))
    known = [set(person[rows].tolist()) - {-1} for rows in shards]
    assert sum(map(len, known)) == len(set().union(*known))
    for rows in shards:
        assert len(rows) <= size or len(set(fit_shard.owners(person)[rows])) == 1


@given(person=st.lists(st.integers(-1, 6), min_size=1, max_size=40), limit=st.integers(1, 50))
def test_a_limit_takes_whole_persons_and_no_more_than_needed(person, limit):
    person = np.array(person)
    chosen, owner = np.concatenate(deal(person, 5, limit)), fit_shard.owners(person)
    assert np.isin(owner, owner[chosen]).sum() == len(chosen)
    last = (owner[chosen] == owner[chosen[-1]]).sum()
    assert len(chosen) == len(person) or len(chosen) - last < limit <= len(chosen)


def test_rounds_are_added_up_and_those_who_stopped_stay_where_they_were():
    assert module._rounds([[8.0, 4.0, 2.0], [], [6.0, 3.0]], 2) == [7.0, 3.5, 2.5]


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("options", "workers", "message"),
    [
        (Options(), -1, "workers is -1; give the number of processes"),
        (Options(shard=0), 0, "shard is 0"),
        (Options(limit=-1), 0, "limit -1"),
        (Options(splits=()), 0, "splits are none"),
        (Options(splits=("val", "val")), 0, "none twice"),
    ],
)
def test_settings_that_cannot_be_meant_are_refused(tmp_path, options, workers, message):
    with pytest.raises(ValueError, match=message):
        fit_set("facetable:nowhere", tmp_path, options, workers=workers)


def test_labels_of_another_name_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"called labels.parquet, but out is .*faces.parquet; give a folder, or"):
        fit_set("facetable:nowhere", tmp_path / "faces.parquet")


def test_a_network_that_says_no_shape_is_refused_before_work_begins(table, tmp_path):
    with pytest.raises(AssetMissing, match="description"):
        fit_set(table, tmp_path / "out", Options(predictor=str(module.detect.NETWORK)), workers=0)


def plugin(folder: Path, text: str) -> str:
    (folder / "photos").mkdir()
    (folder / "odd.py").write_text("sample = None\n" + text)
    return f"{folder / 'odd.py'}:{folder / 'photos'}"


def test_data_sets_that_cannot_be_fitted_are_refused(tmp_path):
    data = plugin(tmp_path, "gives = ('boxes',)\ndef load(root, split): return []")
    with pytest.raises(ValueError, match=r"fit-set needs items with 'image'; data set .*odd.py gives boxes"):
        fit_set(data, tmp_path / "out", workers=0)
    (tmp_path / "second").mkdir()
    data = plugin(tmp_path / "second", "gives = ('image', 'person')\ndef load(root, split): return [1]")
    with pytest.raises(ValueError, match="split train needs all as an attribute `person`"):
        fit_set(data, tmp_path / "out", workers=0)
    (tmp_path / "third").mkdir()
    data = plugin(tmp_path / "third", "gives = ('image',)\ndef load(root, split): return []")
    with pytest.raises(BadData, match="holds no photos in train, val"):
        fit_set(data, tmp_path / "out", workers=0)


def test_labels_made_with_other_settings_are_not_gone_on_with(table, tmp_path):
    out = tmp_path / "out"
    fit_set(table, out, PIECES, workers=0)
    with pytest.raises(BadOutput, match=r"other settings: settings was .*'shard': 4.*, now .*'shard': 8.*Delete it"):
        fit_set(table, out, Options(shard=8), workers=0)
    (out / labelled.ABOUT).write_text(json.dumps({"data": table}))
    with pytest.raises(BadOutput, match=r"labels.json is not what fit-set writes"):
        fit_set(table, out, PIECES, workers=0)


def test_a_full_disk_is_named(table, tmp_path, monkeypatch):
    def full(aside, path, replace=os.replace):
        if Path(path).name == labelled.LABELS:
            raise OSError(28, "No space left on device")
        replace(aside, path)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(BadOutput, match=r"labels.parquet cannot be written .*No space left"):
        fit_set(table, tmp_path / "out", PIECES, workers=0)
    assert sorted(one.name for one in (tmp_path / "out").iterdir()) == ["labels.parquet.shards"]
