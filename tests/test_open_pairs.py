"""The open pairs: the folder, how it is made from the face table, and the committed list."""

from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pyarrow as arrow
import pyarrow.parquet as parquet
import pytest

from sameface.core.errors import AssetMissing, BadData
from sameface.evaluation.benchmarks import pairs
from sameface.evaluation.case import Answer

OPTIONS = pairs.Options()


def write_table(folder, change=lambda rows: None):
    """Two persons with two test photos each, a stranger, and a photo of another split, out of order."""
    rows = [
        {"person": person, "name": name, "split": split, "source": "celeba", "image": name.encode(), "embedding": [1.0]}
        for person, name, split in (
            ("celeba:2", "d", "test"), ("celeba:1", "b", "test"), (None, "s", "test"), ("celeba:1", "a", "test"),
            ("celeba:3", "t", "train"), ("celeba:2", "c", "test"),
        )
    ]  # fmt: skip
    change(rows)
    folder.mkdir(exist_ok=True)
    parquet.write_table(arrow.Table.from_pylist(rows), folder / "faces.parquet")
    return folder


def test_the_sample_reads_and_who_knows_every_person_is_always_right(tmp_path):
    pairs.sample(tmp_path)
    cases = pairs.cases(tmp_path, OPTIONS)
    assert len(cases) == 10
    assert all(np.asarray(cv2.imread(str(case.photos[0]))).shape == (160, 160, 3) for case in cases)
    np.testing.assert_allclose(np.asarray(cases[0].places[0]), [[80 / 3, 80 / 3], [400 / 3, 400 / 3]])
    assert pairs.cases(tmp_path, replace(OPTIONS, face="found"))[0].places == (None,)
    answers = [pairs.truth(case, OPTIONS) for case in cases]
    assert pairs.score(cases[0], answers[0], OPTIONS) == {}
    numbers = pairs.summary(cases, answers, [{}] * 10, OPTIONS)
    assert numbers["identity/cosine/accuracy"] == numbers["mesh/mm/accuracy"] == 100
    assert pairs.curves(cases, answers, OPTIONS)["mesh/mm"][1].max() == 1
    with pytest.raises(ValueError, match="neither codes"):
        pairs.score(cases[0], Answer(), OPTIONS)


def test_photos_of_the_table_become_a_folder_like_lfw(tmp_path, monkeypatch):
    table = write_table(tmp_path / "table")
    rows = pairs.table_rows(table)
    assert [row["name"] for row in rows] == ["a", "b", "c", "d"]
    listed = tmp_path / "list.txt"
    listed.write_text(f"1 1 {pairs.fingerprint(rows)}\n0 1\n1 2\n")
    monkeypatch.setattr(pairs, "LIST", listed)
    monkeypatch.setattr("sys.argv", ["pairs", str(table), str(tmp_path / "out")])
    pairs.main()
    assert (tmp_path / "out" / "pairs.txt").read_text() == "1\t1\nceleba_1\t1\t2\nceleba_1\t2\tceleba_2\t1\n"
    photos = tmp_path / "out" / "photos"
    assert (photos / "celeba_1" / "celeba_1_0002.webp").read_bytes() == b"b"
    assert (photos / "celeba_2" / "celeba_2_0001.webp").read_bytes() == b"c"
    cases = pairs.cases(tmp_path / "out", replace(OPTIONS, face="found"))
    assert [case.name for case in cases] == [
        "celeba_1/celeba_1_0001.webp", "celeba_1/celeba_1_0002.webp", "celeba_2/celeba_2_0001.webp"
    ]  # fmt: skip


def test_the_command_says_how_it_is_used(monkeypatch):
    monkeypatch.setattr("sys.argv", ["pairs"])
    with pytest.raises(SystemExit, match=r"usage: python -m .* TABLE FOLDER"):
        pairs.main()


def test_another_table_is_refused(tmp_path, monkeypatch):
    table = write_table(tmp_path / "table")
    with pytest.raises(BadData, match=r"has other test people \(4 photos\) than the table"):
        pairs.prepare(table, tmp_path / "out")
    monkeypatch.setattr(pairs, "LIST", tmp_path / "list.txt")
    with pytest.raises(AssetMissing, match=r"list\.txt is not there; it is part of the package"):
        pairs.prepare(table, tmp_path / "out")
    with pytest.raises(BadData, match=r"no \.parquet files with test photos of known persons"):
        pairs.prepare(tmp_path, tmp_path / "out")
    write_table(tmp_path / "other", lambda rows: [row.pop("source") for row in rows])
    with pytest.raises(BadData, match=r"faces\.parquet lacks the columns source of the face table"):
        pairs.prepare(tmp_path / "other", tmp_path / "out")


def test_a_folder_that_was_not_prepared_is_named(tmp_path):
    with pytest.raises(BadData, match=r"has no pairs\.txt; write the folder with: python -m"):
        pairs.cases(write_table(tmp_path / "table"), OPTIONS)


def test_the_committed_list_has_ten_folds_of_300_and_300_pairs_none_twice():
    lines = pairs.LIST.read_text().splitlines()
    folds, each, fingerprint = lines[0].split()
    assert (folds, each, len(fingerprint)) == ("10", "300", 64)
    indices = [tuple(sorted(map(int, line.split()))) for line in lines[1:]]
    assert len(set(indices)) == len(indices) == 6000
    assert all(i != j for i, j in indices)
    assert max(max(pair) for pair in indices) < 1275


@pytest.mark.slow
def test_the_committed_list_belongs_to_the_real_table_and_no_source_gives_a_label_away(shared, tmp_path):
    faces = shared("data/faces")
    rows = pairs.table_rows(faces)
    assert pairs.fingerprint(rows) == pairs.LIST.read_text().split()[2]
    kinds = Counter()
    for k, line in enumerate(pairs.LIST.read_text().splitlines()[1:]):
        first, second = (rows[int(word)] for word in line.split())
        assert first["source"] == second["source"]
        assert (first["person"] == second["person"]) == (k % 600 < 300)
        kinds[k // 600, k % 600 < 300, first["source"]] += 1
    assert set(kinds.values()) == {150}
    assert len(kinds) == 40
    pairs.prepare(faces, tmp_path)
    assert len(pairs.cases(tmp_path, OPTIONS)) == 1275
