"""Bulk runs, on a real Ray of two processes."""

import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import sameface
from clutter import littered
from faces import GRACE, astronaut, encoded, rendered, scenery
from sameface.bulk import bulk as module
from sameface.bulk import people_list, shard
from sameface.bulk.bulk import Options, bulk
from sameface.cli import main
from sameface.core.errors import AssetMissing, BadData, BadOutput, SameFaceError
from sameface.morphable import default

ray = pytest.importorskip("ray", reason="ray is not installed: bulk runs are NOT tested (pip install 'sameface[bulk]')")

PIECES = Options(shard=5)
"""two shards: anna; bert and cleo"""


@pytest.fixture(scope="module")
def cluster():
    """The Ray that a bulk run starts, for all tests."""
    with module._Ray(None, 2) as processes:
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        yield processes
    assert not ray.is_initialized()


@pytest.fixture(scope="module")
def people(tmp_path_factory) -> Path:
    """Two persons with three good photos between bad ones, and a folder of nobody."""
    root = tmp_path_factory.mktemp("bulk") / "people"
    for name in ("anna", "bert", "cleo"):
        (root / name).mkdir(parents=True)
    for k, yaw in enumerate((-0.4, 0.0, 0.4)):
        Image.fromarray(rendered(1, yaw)).save(root / "anna" / f"{k + 8}.png")
    Image.fromarray(scenery()).save(root / "bert" / "1.png")
    (root / "bert" / "2.jpg").write_bytes(GRACE.read_bytes())
    (root / "bert" / "3.jpg").write_bytes(GRACE.read_bytes()[:20_000])
    Image.fromarray(astronaut()).save(root / "bert" / "4.png")
    (root / "bert" / "notes.txt").write_text("no photo")
    return root


@pytest.fixture(scope="module")
def whole(people, cluster, tmp_path_factory) -> Path:
    """A run on two processes."""
    out = tmp_path_factory.mktemp("bulk") / "whole"
    bulk([people], out, PIECES, workers=2)
    return out


def rows(out: Path, kind: str = "photos") -> list[dict]:
    return parquet.read_table(out / kind).to_pylist()


def contents(out: Path) -> dict[str, bytes]:
    return {f"{file.parent.name}/{file.name}": file.read_bytes() for file in out.glob("p*/*")}


def errors(out: Path) -> dict[str, str | None]:
    return {Path(row["path"]).name: row["error"] for row in rows(out)}


# ── the rows ───────────────────────────────────────────────────────────────────────────────────────────────


def test_every_photo_and_every_person_is_a_row(whole, people):
    told = json.loads((whole / "bulk.json").read_text())
    photos, persons = rows(whole), rows(whole, "persons")
    names = [f"{Path(row['path']).parent.name}/{Path(row['path']).name}" for row in photos]
    assert names == [*("anna/8.png", "anna/9.png", "anna/10.png"), *(f"bert/{k}" for k in BERT), "people/cleo"]
    assert [row["error"] for row in photos] == [None] * 3 + ["NoFaceFound", None, "BadPhoto", None, "BadPhoto"]
    assert [row["person"] for row in photos] == ["anna"] * 3 + ["bert"] * 4 + ["cleo"]
    assert "truncated" in photos[5]["message"]
    assert "holds no photos" in photos[7]["message"]
    assert [(p["person"], p["photos"], p["used"], p["error"]) for p in persons] == [
        ("anna", 3, 3, None), ("bert", 4, 2, None), ("cleo", 1, 0, "BadPhoto")
    ]  # fmt: skip
    assert (told["photos"], told["photos_used"], told["persons"], told["persons_used"]) == (8, 5, 3, 2)
    assert told["errors"] == {"BadPhoto": 2, "NoFaceFound": 1}
    assert sorted(contents(whole)) == [f"{kind}/00000{k}.parquet" for kind in ("persons", "photos") for k in (0, 1)]
    about = json.loads(parquet.read_schema(whole / "photos" / "000000.parquet").metadata[b"sameface"])
    assert about["morphable"] == "sameface-ict"


BERT = ("1.png", "2.jpg", "3.jpg", "4.png")


@pytest.mark.parametrize("person", ["anna", "bert"])
def test_a_row_says_what_reconstruct_says(whole, people, person):
    answer = sameface.reconstruct(sameface.photo.image.gather(people / person)).as_json()
    found = next(row for row in rows(whole, "persons") if row["person"] == person)
    np.testing.assert_allclose(found["identity"], answer["identity"], atol=1e-5)
    assert found["disagreement_mm"] == pytest.approx(answer["disagreement_mm"], abs=1e-3)
    assert found["notes"] == answer["notes"]
    photos = {row["path"]: row for row in rows(whole) if row["person"] == person}
    for view in answer["views"]:
        row, camera, pose = photos.pop(view["photo"]), view["camera"], view["head_pose_degrees"]
        assert [row["width"], row["height"]] == view["size"]
        assert camera["kind"] == "perspective"
        assert row["focal_from"] == camera["focal_from"] == "estimated"
        for name in ("box", "score", "quality", "residual", "disagreement_mm"):
            np.testing.assert_allclose(row[name], view[name], atol=1e-2 if name == "box" else 1e-3)
        np.testing.assert_allclose(np.reshape(row["rotation"], (3, 3)), camera["rotation"], atol=1e-5)
        np.testing.assert_allclose(row["translation"], camera["translation"], atol=1e-3)
        assert row["focal_px"] == pytest.approx(camera["focal_px"], abs=1e-2)
        np.testing.assert_allclose(row["center"], camera["center"], atol=1e-3)
        assert [row[name] for name in ("pitch", "yaw", "roll")] == pytest.approx(list(pose.values()), abs=0.01)
        weights = dict(zip(default().expression_names, row["expression"], strict=True))
        for name, weight in view["expression"].items():
            assert weights[name] == pytest.approx(weight, abs=1e-4)
    assert all(row["error"] for row in photos.values())


def test_what_the_page_says_of_rows_without_nulls_is_so(whole):
    """Vector stores refuse columns of fixed length with null rows; those of cleo, whom no photo shows, are such."""
    page = (Path(__file__).parent.parent / "docs" / "bulk.md").read_text()
    (block,) = (one for one in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "filters=" in one)
    names: dict = {}
    exec(block.replace('"faces/', f'"{whole}/'), names)
    vectors = names["persons"]["identity"].combine_chunks()
    assert parquet.read_table(whole / "persons")["identity"].null_count == 1
    assert (names["persons"]["person"].to_pylist(), vectors.null_count) == (["anna", "bert"], 0)
    assert vectors.flatten().to_numpy(zero_copy_only=True).reshape(-1, 80).shape == (2, 80)
    assert names["photos"]["identity"].null_count == 0 < parquet.read_table(whole / "photos")["identity"].null_count


def test_each_photo_alone_is_what_reconstruct_says_of_it(people, tmp_path):
    (tmp_path / "deep" / "er").mkdir(parents=True)
    photo = tmp_path / "deep" / "er" / "near.jpg"
    Image.fromarray(rendered(2, size=(400, 300))).save(photo, exif=focal(28))
    (tmp_path / "deep" / "er" / ".hidden.jpg").write_bytes(b"")
    bulk([tmp_path / "deep"], tmp_path / "out", Options(each=True), workers=0)
    (row,), (person,) = rows(tmp_path / "out"), rows(tmp_path / "out", "persons")
    answer = sameface.reconstruct(photo)
    camera = answer.views[0].camera
    assert row["path"] == row["person"] == person["person"] == str(photo)
    assert row["focal_from"] == "exif"
    assert row["focal_px"] == float(camera.focal) == pytest.approx(28 * 500 / np.hypot(36, 24))
    np.testing.assert_array_equal(row["translation"], camera.translation)
    np.testing.assert_array_equal(row["center"], camera.center)
    np.testing.assert_array_equal(np.float32(row["identity"]), np.float32(answer.identity))
    np.testing.assert_array_equal(np.float32(person["identity"]), np.float32(answer.identity))
    assert row["disagreement_mm"] is person["disagreement_mm"] is None


def focal(millimetres: int) -> Image.Exif:
    exif = Image.Exif()
    exif.get_ifd(0x8769)[0xA405] = millimetres
    return exif


def test_a_photo_given_twice_counts_once_and_a_stranger_is_dropped(people, tmp_path):
    lines = ["path\tperson"] + [f"people/anna/{k}.png\t7" for k in (8, 9, 10, 9)]
    lines += ["people/anna/../anna/8.png\t7", "people/anna/8.png\t", "gone.jpg\t"]
    (tmp_path / "people").symlink_to(people)
    (tmp_path / "list.txt").write_text("\n".join(lines) + "\n")
    told = bulk([tmp_path / "list.txt"], tmp_path / "out", workers=0)
    photos, persons = rows(tmp_path / "out"), rows(tmp_path / "out", "persons")
    assert [row["error"] for row in photos] == [None] * 3 + ["BadPhoto"] * 2 + [None, "BadPhoto"]
    assert photos[3]["message"] == "people/anna/9.png was given twice; it counts once"
    assert [row["person"] for row in persons] == ["7", "people/anna/8.png", "gone.jpg"]
    answer = sameface.reconstruct(*(people / "anna" / f"{k}.png" for k in (8, 9, 10)))
    np.testing.assert_array_equal(np.float32(persons[0]["identity"]), np.float32(answer.identity))
    assert told["errors"] == {"BadPhoto": 3}


def test_a_copy_of_a_photo_is_no_second_witness(people, tmp_path):
    photo = Image.open(people / "bert" / "4.png")
    photo.resize((photo.width // 2, photo.height // 2)).save(tmp_path / "again.jpg")
    listed = [(str(path), "bert") for path in (people / "bert" / "4.png", tmp_path / "again.jpg")]
    photos, (person,) = shard.shard_rows(listed, tmp_path, Options(), lambda *_: None)
    assert sorted((row.get("error") for row in photos), key=str) == ["Copy", None]
    assert (person["used"], person["disagreement_mm"]) == (1, None)
    assert person["notes"][-1].startswith("1 photo is a copy of others")


def test_whatever_goes_wrong_is_a_row(people, tmp_path, monkeypatch):
    def look(photo, *_, **__):
        raise {"8": MemoryError(), "9": ZeroDivisionError("odd")}.get(Path(photo.name).stem) or KeyError("x")

    def join(*_, **__):
        raise np.linalg.LinAlgError("singular")

    monkeypatch.setattr(shard, "join", join)
    bulk([people], tmp_path / "joined", workers=0)
    assert errors(tmp_path / "joined") == {
        **dict.fromkeys(("8.png", "9.png", "10.png", "2.jpg", "4.png"), "LinAlgError"),
        **{"1.png": "NoFaceFound", "3.jpg": "BadPhoto", "cleo": "BadPhoto"},
    }
    monkeypatch.setattr(shard, "observe_turned", look)
    bulk([people], tmp_path / "out", workers=0)
    photos = rows(tmp_path / "out")
    assert [row["error"] for row in photos[:3]] == ["MemoryError", "ZeroDivisionError", "KeyError"]
    assert "does not fit into memory" in photos[0]["message"]
    assert rows(tmp_path / "out", "persons")[0]["error"] == "MemoryError"


def test_what_systems_leave_beside_photos_and_results_is_no_row(people, whole, tmp_path):
    told = json.loads((whole / "bulk.json").read_text())
    photos = littered(Path(shutil.copytree(people, tmp_path / "people")))
    out = littered(Path(shutil.copytree(whole, tmp_path / "out")))
    (out / "photos" / "000001.parquet").unlink()
    (out / "photos" / "copy of 000000.parquet").write_bytes((out / "photos" / "000000.parquet").read_bytes())
    about = {**told, "sha256": people_list.write(people_list.people([photos])[1], BytesIO(), 5)[3]}
    (out / "bulk.json").write_text(json.dumps(about))
    again = bulk([photos], out, PIECES, workers=0)
    for name in ("photos", "photos_used", "persons", "persons_used", "errors"):
        assert again[name] == told[name]


# ── whatever stops it ──────────────────────────────────────────────────────────────────────────────────────


def test_stopped_it_goes_on_and_gives_the_same_bytes(people, whole, tmp_path):
    def stop(done: int, of: int) -> None:
        assert of == 8
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bulk([people], tmp_path, PIECES, workers=0, tick=stop)
    assert sorted(file.name for file in (tmp_path / "photos").iterdir()) == ["000000.parquet"]
    (tmp_path / "photos" / ".000001.at").write_text("photo 1")  # left by a kill
    done: list[int] = []
    told = bulk([people], tmp_path, PIECES, workers=0, tick=lambda now, _: done.append(now))
    assert done == [3, 8]
    assert told["last_call"]["photos"] == 5
    for kind in ("photos", "persons"):
        for mine, theirs in zip(rows(tmp_path, kind), rows(whole, kind), strict=True):
            same_row(mine, theirs)
    before = contents(tmp_path)
    assert ".000001.at" not in str(sorted(before))
    (tmp_path / "photos" / "000001.parquet").write_bytes(b"PAR1")  # cut short by a power cut
    (tmp_path / "persons" / "000000.parquet").unlink()
    bulk([people], tmp_path, PIECES, workers=0)
    assert contents(tmp_path) == before
    again = bulk([people], tmp_path, PIECES, workers=0, tick=lambda now, _: done.append(now))
    assert done[-1] == 8
    assert again["last_call"]["photos"] == 8


def flipped(out: Path) -> None:
    data = bytearray((out / "photos" / "000000.parquet").read_bytes())
    data[len(data) // 3] ^= 1
    (out / "photos" / "000000.parquet").write_bytes(data)


def zeroed(out: Path) -> None:
    data = (out / "persons" / "000001.parquet").read_bytes()
    (out / "persons" / "000001.parquet").write_bytes(data[:40] + bytes(60) + data[100:])


def swapped(out: Path) -> None:
    for kind in ("photos", "persons"):
        first, second = (out / kind / f"00000{k}.parquet" for k in (0, 1))
        first.rename(out / "first")
        second.rename(first)
        (out / "first").rename(second)


def counted_wrong(out: Path) -> None:
    told = json.loads((out / "bulk.json").read_text())
    (out / "bulk.json").write_text(json.dumps(told | {"photos_used": 8}))


@pytest.mark.parametrize(("damage", "new"), [(flipped, 3), (zeroed, 5), (swapped, 8), (counted_wrong, 0)])
def test_what_is_found_is_believed_only_as_far_as_its_checksum(people, whole, tmp_path, damage, new):
    shutil.copytree(whole, out := tmp_path / "out")
    before, told = contents(out), json.loads((out / "bulk.json").read_text())
    damage(out)
    again, told_before = bulk([people], out, PIECES, workers=0), told.pop("last_call")
    assert contents(out).keys() == before.keys()
    assert again.pop("last_call")["photos"] == (new or told_before["photos"])
    assert again == told
    if not new:
        assert contents(out) == before


def same_row(mine: dict, theirs: dict) -> None:
    assert mine.keys() == theirs.keys()
    for name, value in mine.items():
        if isinstance(value, float) or (isinstance(value, list) and name != "notes"):
            np.testing.assert_allclose(value, theirs[name], atol=1e-5)
        else:
            assert value == theirs[name]


def test_a_lost_shard_is_made_again_on_ray(people, whole):
    before = contents(whole)
    times = {file: file.stat().st_mtime_ns for file in whole.glob("p*/000001.parquet")}
    (whole / "photos" / "000000.parquet").unlink()
    done: list[int] = []
    bulk([people], whole, PIECES, workers=1, tick=lambda now, _: done.append(now))
    assert done == [5, 8]
    assert contents(whole) == before
    assert {file: file.stat().st_mtime_ns for file in times} == times


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="finds processes in /proc")
def test_a_killed_process_is_replaced_and_no_photo_is_blamed_for_it(people, whole, tmp_path):
    killed, finished = [], threading.Event()

    def kill() -> None:
        while not (killed or finished.is_set()):
            killed.extend(workers()[:1] if list(tmp_path.glob("photos/.*.at")) else [])
            time.sleep(0.001)
        for process in killed:
            os.kill(process, signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        bulk([people], tmp_path, PIECES, workers=1)
    finally:
        finished.set()
        thread.join()
    assert killed
    assert contents(tmp_path) == contents(whole)


def workers() -> list[int]:
    """The processes of our Ray that make shards."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, parent = (folder / "cmdline").read_text(), (folder / "stat").read_text().split(") ")[-1].split()[1]
            mine = Path("/proc", parent, "stat").read_text().split(") ")[-1].split()[1] == str(os.getpid())
        except OSError:  # it has ended
            continue
        if mine and name.startswith("ray::_Worker.write"):
            found.append(int(folder.name))
    return found


def test_a_photo_that_takes_too_long_is_given_up(people, cluster, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(rendered(1)).save(tmp_path / "photos" / "slow.png")
    bulk([tmp_path / "photos"], tmp_path / "out", Options(each=True, seconds=1e-4), workers=1)
    (row,), (person,) = rows(tmp_path / "out"), rows(tmp_path / "out", "persons")
    assert row["error"] == person["error"] == "WorkerDied"
    assert "took too long" in row["message"]


def test_a_person_at_whom_processes_end_is_given_up(people):
    listed = [(f"anna/{k}.png", "anna") for k in (8, 9)] + [("bert/4.png", "bert")]
    told: list[tuple[str, float]] = []
    photos, persons = shard.shard_rows(listed, people, Options(), lambda *what: told.append(what), ("person 0",))
    assert [row.get("error") for row in photos] == ["WorkerDied"] * 2 + [None]
    assert [row.get("error") for row in persons] == ["WorkerDied", None]
    assert told == [("photo 0", 300), ("photo 1", 300), ("photo 2", 300), ("person 2", 301)]


def test_errors_of_a_process_reach_the_user(people, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "fingerprint_of", lambda _: "another")
    with pytest.raises(AssetMissing, match="install the same sameface everywhere"):
        bulk([people], tmp_path, workers=1)


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://[::1]:1"])
def test_a_cluster_that_does_not_answer_is_not_waited_for(address):
    with pytest.raises(SameFaceError, match=r"no Ray cluster answers at .*: check the address"):
        module._check_reachable(address)


def test_a_ray_that_starts_nothing_is_not_waited_for_forever(people, cluster, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "MEMORY", 10**18)
    monkeypatch.setattr(module, "PATIENCE", 0.5)
    with pytest.raises(SameFaceError, match=r"started no process in 0 s; each needs .* have 2 processors and"):
        bulk([people], tmp_path, workers=1)


# ── who is in the photos ───────────────────────────────────────────────────────────────────────────────────


@given(counts=st.lists(st.integers(1, 9), min_size=1, max_size=20), size=st.integers(1, 12))
def test_no_person_is_split_and_no_photo_is_lost(tmp_path_factory, counts, size):
    everybody = [(f"p{k}", [f"{k}/{j}" for j in range(count)]) for k, count in enumerate(counts)]
    file = tmp_path_factory.mktemp("plan") / "plan.parquet"
    with file.open("wb") as opened:
        sizes, photos, persons, _ = people_list.write(iter(everybody), opened, size)
    plan = parquet.ParquetFile(file)
    shards = [plan.read_row_group(k).to_pylist() for k in range(plan.num_row_groups)]
    listed = [(row["person"], row["path"]) for shard in shards for row in shard]
    assert listed == [(name, path) for name, paths in everybody for path in paths]
    assert (sizes, photos, persons) == ([len(shard) for shard in shards], len(listed), len(counts))
    owners = [{row["person"] for row in shard} for shard in shards]
    assert sum(map(len, owners)) == len(counts)
    assert all(len(shard) <= size or len(owner) == 1 for shard, owner in zip(shards, owners, strict=True))


@given(person=st.lists(st.sampled_from(["a", "b", "c", "", None]), min_size=1, max_size=30), piece=st.integers(1, 8))
def test_a_list_is_grouped_by_person_in_order_of_appearance(tmp_path_factory, person, piece):
    file = tmp_path_factory.mktemp("list") / "list.parquet"
    parquet.write_table(pa.table({"path": [str(k) for k in range(len(person))], "person": person}), file)
    wanted: dict[str, list[str]] = {}
    for k, name in enumerate(person):
        wanted.setdefault(name or str(k), []).append(str(k))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(people_list, "AT_ONCE", piece)
        root, everybody, left = people_list.people([file])
        assert (root, list(everybody), left) == (file.parent, list(wanted.items()), {})


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("l.csv", 'person,path,age\nb,"x, y.jpg",3\n12,z.jpg,4\nb,ü.jpg,5\n'),
        ("l.TSV", "path\tperson\nx, y.jpg\tb\nz.jpg\t12\nü.jpg\tb\n"),
        ("l.csv", "\ufeffPath;Person\r\nx, y.jpg;b\r\nz.jpg;12\r\nü.jpg;b\r\n"),
        ("l.csv", '"PATH";notes;Person \nx, y.jpg;none;b\nz.jpg;;12\n"ü.jpg";a;b\n'),
        ("l.txt", "person|path\nb|x, y.jpg\n12|z.jpg\nb|ü.jpg\n"),
    ],
)
def test_lists_of_text(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    everybody = list(people_list.people([tmp_path / name])[1])
    assert everybody == [("b", ["x, y.jpg", "ü.jpg"]), ("12", ["z.jpg"])]
    alone = list(people_list.people([tmp_path / name], each=True)[1])
    assert sorted(alone) == [(path, [path]) for path in ("x, y.jpg", "z.jpg", "ü.jpg")]


def test_columns_of_parquet_may_have_capitals(tmp_path):
    parquet.write_table(pa.table({"PATH": ["a", "b"], "Person": [3, 3], "x": [1, 2]}), tmp_path / "l.parquet")
    assert list(people_list.people([tmp_path / "l.parquet"])[1]) == [("3", ["a", "b"])]


def test_a_list_of_numbered_persons_and_one_without_persons(tmp_path):
    parquet.write_table(pa.table({"path": ["a", "b", "c"], "person": [3, None, 3]}), tmp_path / "l.parquet")
    assert list(people_list.people([tmp_path / "l.parquet"])[1]) == [("3", ["a", "c"]), ("b", ["b"])]
    parquet.write_table(pa.table({"path": ["a", "b", "a"]}), tmp_path / "l.parquet")
    assert list(people_list.people([tmp_path / "l.parquet"])[1]) == [("a", ["a", "a"]), ("b", ["b"])]


def test_names_that_are_no_text_are_escaped(tmp_path):
    try:
        Path(os.fsdecode(bytes(tmp_path) + b"/\xff.jpg")).write_bytes(b"")
    except OSError:
        pytest.skip("this file system takes no such name")
    (name, _), *_ = people_list.people([tmp_path], each=True)[1]
    assert name.endswith("\\xff.jpg")


def folder(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(b"")
    return root


def test_folders_give_what_begins_like_a_photo_and_the_rest_is_counted(tmp_path):
    """A photo without an ending once vanished with --each, and whatever else lay there without a word."""
    folder(tmp_path, "anna/1.jpg", "anna/notes.txt", "anna/old/2.jpg", "cleo/clip.mp4", "cleo/b.txt", ".x", "list.txt")
    (tmp_path / "anna" / "10").write_bytes(encoded(scenery(20, 20), "PNG"))
    (tmp_path / "cleo" / "clip.mp4").write_bytes(b"\0\0\0\x18ftypisom" + bytes(400))
    (tmp_path / "dora").symlink_to(tmp_path / "anna" / "old")
    _, everybody, left = people_list.people([tmp_path])
    photos = {person: [os.path.relpath(path, tmp_path) for path in paths] for person, paths in everybody}
    assert photos == {"anna": ["anna/1.jpg", "anna/10"], "cleo": ["cleo"], "dora": ["dora/2.jpg"]}
    assert {what: (count, os.path.relpath(first, tmp_path)) for what, (count, first) in left.items()} == {
        "other file": (3, "list.txt"), "folder": (1, "anna/old"), "video": (1, "cleo/clip.mp4")
    }  # fmt: skip
    _, everybody, left = people_list.people([tmp_path], each=True)
    assert sorted(os.path.relpath(path, tmp_path) for path, _ in everybody) == [
        "anna/1.jpg",
        "anna/10",
        "anna/old/2.jpg",
    ]
    assert {what: count for what, (count, _) in left.items()} == {"other file": 3, "video": 1, "folder": 1}
    (tmp_path / "loose").write_bytes(encoded(scenery(20, 20), "PNG"))
    with pytest.raises(ValueError, match=r"holds photos \(loose\) outside"):
        list(people_list.people([tmp_path])[1])


def test_one_source_needs_no_list(tmp_path):
    folder(tmp_path, "anna/1.jpg", "list.csv").joinpath("list.csv").write_text("path\nanna/1.jpg\n")
    for one in (tmp_path, tmp_path / "list.csv"):
        assert list(people_list.people(str(one))[1]) == list(people_list.people([one])[1]) != []


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda t: [], ValueError, "give a folder of photos"),
        (lambda t: [folder(t, "a.jpg") / "a.jpg"], ValueError, r"folders, or one list .* was given a.jpg; for single"),
        (lambda t: [t / "nowhere"], BadData, "there is no file or folder .*nowhere; its folder exists"),
        (
            lambda t: ["https://x.org/l.csv"],
            BadData,
            "there is no file or folder https://x.org/l.csv: it is an address",
        ),
        (lambda t: [folder(t, "a.csv") / "a.csv", t], ValueError, "a.csv among others"),
        (lambda t: [folder(t, "a/1.jpg"), t / "a"], ValueError, "a is in .*count twice"),
        (lambda t: [folder(t, "a/1.jpg", "z.JPG", "b.jpg")], ValueError, r"holds photos \(b.jpg\) outside .* --each"),
        (lambda t: [folder(t / "x", "a/1.jpg"), folder(t / "y", "a/1.jpg")], ValueError, "are they one person"),
        (lambda t: [folder(t, "notes.txt")], BadData, "not one photo"),
    ],
)
def test_sources_that_cannot_be_meant_are_refused(tmp_path, make, error, message):
    with pytest.raises(error, match=message):
        bulk(make(tmp_path), tmp_path / ".out", workers=0)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("l.csv", b"file,person\na,b\n", "no column path, only file,person"),
        ("l.csv", b"path,Path\na,b\n", "two columns of one name among path, Path"),
        ("l.csv", b"path,a,a\nx,b,c\n", "two columns of one name"),
        ("l.csv", b"path;person\na;b;c\n", "cannot be read as a list .*columns"),
        ("l.csv", b"path" * 20_000, "no column path"),
        ("l.csv", b"", "has no column path, only none"),
        ("l.txt", b"path\n\xff\n", "cannot be read as a list"),
        ("l.csv", b"path,person\n,b\n", "rows without a path"),
        ("l.parquet", b"PAR1", "cannot be read as a list"),
    ],
)
def test_lists_that_cannot_be_read_are_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(BadData, match=message):
        bulk([tmp_path / name], tmp_path / "out", workers=0)


def test_a_person_of_too_many_photos_is_refused(tmp_path):
    everybody = iter([("crowd", ["x"] * 2001)])
    with pytest.raises(BadData, match=r"person crowd has 2001 photos, more than 2000.* --each"):
        people_list.write(everybody, BytesIO(), 5)


@pytest.mark.parametrize(
    ("options", "workers"),
    [(Options(), -1), (Options(shard=0), 1), (Options(seconds=0.0), 1), (Options(min_score=2.0), 1)],
)
def test_settings_that_cannot_be_meant_are_refused(people, tmp_path, options, workers):
    with pytest.raises(ValueError, match=r"at least|expected"):
        bulk([people], tmp_path, options, workers=workers)


def test_results_of_other_photos_or_settings_are_not_gone_on_with(people, whole, tmp_path):
    with pytest.raises(BadOutput, match=r"settings was .*'shard': 5.*, now .*'shard': 6.*Delete it"):
        bulk([people], whole, Options(shard=6), workers=0)
    only = tmp_path / "only"
    only.mkdir()
    (only / "anna").symlink_to(people / "anna")
    with pytest.raises(BadOutput, match=r"photos was 8, now 3"):
        bulk([only], whole, PIECES, workers=0)
    assert not list(whole.glob(".*"))


def test_a_folder_with_something_else_is_refused(people, tmp_path):
    (tmp_path / "bulk.json").write_text("[]")
    with pytest.raises(BadOutput, match="is not what bulk writes"):
        bulk([people], tmp_path, workers=0)


# ── the command ────────────────────────────────────────────────────────────────────────────────────────────


def test_the_command_says_what_became_of_the_photos(people, tmp_path, capsys):
    with pytest.raises(SystemExit) as code:
        main(["bulk", str(people), "--out", str(tmp_path / "out"), "--workers", "0"])
    said, aside = capsys.readouterr()
    assert code.value.code == 3
    assert "5 of 8 photos, 2 of 3 persons" in said
    assert f"not looked at: 1 other file ({people}/bert/notes.txt)\n" in aside
    assert "not used, BadPhoto: 2" in said
    assert "photos differ from their person's face by" in said


def test_without_ray_the_extra_is_named(people, tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(SystemExit) as code:
        main(["bulk", str(people), "--out", str(tmp_path / "out")])
    assert code.value.code == 1
    assert "pip install 'sameface[bulk]'" in capsys.readouterr().err
