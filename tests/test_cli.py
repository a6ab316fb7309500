"""The command line as a user has it: files in, files out, a line per problem, and an exit code that can be trusted."""

import errno
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from faces import GRACE, astronaut, encoded, rendered, scenery, seen_by, two_people
from sameface import __version__, cli
from sameface.mesh import write
from sameface.reconstruction import outputs
from sameface.reconstruction.reconstruct import reconstruct
from test_reconstruction import broken_files, foreign_network

EVERY_FILE = {
    "result.json", "neutral.obj", "neutral.mtl", "neutral.png", "neutral.ply", "face.glb", "face.npz", "report.html",
    "anna-overlay.png", "anna.obj",
}  # fmt: skip


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """The folder one works in, with a good photo and one without a face."""
    monkeypatch.chdir(tmp_path)
    Path("anna.png").write_bytes(encoded(astronaut()))
    Path("scenery.jpg").write_bytes(encoded(scenery(), "JPEG"))
    return tmp_path


@pytest.fixture
def run(folder, capsys):
    """`sameface reconstruct …` (or without `verb`: `sameface …`): exit code, stdout, stderr.

    Of a person's files only result.json is written unless told otherwise.
    """

    def call(*arguments: object, verb: bool = True, write: tuple[str, ...] = ()) -> tuple[int, str, str]:
        given = [*map(str, arguments)]
        with pytest.raises(SystemExit) as left:
            cli.main(["reconstruct", *given, "--write", *write] if verb else given)
        out, err = capsys.readouterr()
        assert "Traceback" not in out + err
        return left.value.code, out, err  # type: ignore[return-value]

    return call


def rows(out: str | Path = "out") -> list[tuple]:
    """photos.json as tuples, its messages left out."""
    content = json.loads((Path(out) / "photos.json").read_text())
    for row in content:
        assert list(row) == ["photo", "folder", "problem", "message"]
        assert (row["problem"] is None) == (row["message"] is None) == (row["folder"] is not None)
    return [(row["photo"], row["folder"], row["problem"]) for row in content]


def files(out: str | Path = "out") -> set[str]:
    return {path.relative_to(out).as_posix() for path in Path(out).rglob("*") if path.is_file()}


def identity(path: str) -> list[float]:
    return json.loads(Path(path).read_text())["identity"]


# ── one person ─────────────────────────────────────────────────────────────────────────────────────────────


def test_one_photo_gives_every_file_and_zero(run):
    code, out, err = run("anna.png", "--out", "out/deep", write=cli.DEFAULT_KINDS)
    assert (code, err) == (0, "")
    assert "one face from 1 photo; scale: average head" in out
    assert files("out/deep") == {*EVERY_FILE, "photos.json"}
    assert rows("out/deep") == [("anna.png", ".", None)]
    assert identity("out/deep/result.json") == pytest.approx(reconstruct("anna.png").identity, abs=1e-5)


def test_a_focal_length_is_given_in_millimetres_of_film_or_pixels(run):
    for given, px in (("50mm", 50 * np.hypot(240, 260) / np.hypot(36, 24)), ("410px", 410.0)):
        assert run("anna.png", "--out", "out", "--focal", given)[0] == 0
        (view,) = json.loads(Path("out/result.json").read_text())["views"]
        assert view["camera"]["focal_from"] == "given"
        assert view["camera"]["focal_px"] == pytest.approx(px, abs=1e-3)
    for wrong in ("50", "0mm", "-1px", "nanmm"):
        code, _, err = run("anna.png", "--out", "none", f"--focal={wrong}")
        assert code == 2
        assert "give a 35 mm equivalent such as 50mm" in err or "a focal length is a positive number" in err
    assert not Path("none").exists()


def test_a_photo_on_its_head_is_turned_and_that_is_said(run):
    Path("head.png").write_bytes(encoded(np.ascontiguousarray(np.rot90(astronaut(), 2))))
    code, out, _ = run("head.png", "--out", "out")
    assert code == 0
    assert "note: head.png: it was turned by 180° clockwise to find its face: its EXIF data did not say so" in out


def test_photos_are_one_person_and_bad_ones_do_not_stop_it(run, folder):
    said = broken_files(folder)
    names = list(said)
    code, out, err = run(*names[:4], "anna.png", *names[4:], "--out", "out")
    assert code == 3
    assert "one face from 1 photo" in out
    assert [row[0] for row in rows()] == [*names[:4], "anna.png", *names[4:]]
    problems = {photo: problem for photo, _, problem in rows()}
    assert problems["anna.png"] is None
    assert {name for name, problem in problems.items() if problem == "NoFaceFound"} == {
        "wide.png", "scenery.jpg", "scenery.gif",
    }  # fmt: skip
    lines = err.splitlines()
    assert len(lines) == len(names)
    assert all(line.startswith("not used: ") and name in line for line, name in zip(lines, names, strict=True))
    dropped = json.loads(Path("out/result.json").read_text())["dropped"]
    assert {row["photo"] for row in dropped} == set(names)


@pytest.mark.parametrize("mode", [(), ("--each",), ("--all-faces",)])
def test_nothing_done_is_one_and_still_has_its_rows(run, mode):
    code, out, err = run("scenery.jpg", "missing.jpg", *mode, "--out", "out")
    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 2
    assert rows() == [("scenery.jpg", None, "NoFaceFound"), ("missing.jpg", None, "BadPhoto")]
    assert files() == {"photos.json"}


def test_folders_give_their_photos(run):
    Path("photos/sub").mkdir(parents=True)
    Path("photos/b10.png").write_bytes(encoded(rendered(0, 0.3)))
    Path("photos/b9.png").write_bytes(encoded(rendered(0, -0.3)))
    Path("photos/notes.txt").write_text("not a photo")
    code, out, _ = run("photos", "./photos/b9.png", Path("photos/b10.png").resolve(), "--out", "out")
    assert code == 0
    assert rows() == [("photos/b9.png", ".", None), ("photos/b10.png", ".", None)]
    assert re.search(r"one face from 2 photos; its photos differ from it by \d+\.\d mm", out)


def test_an_empty_folder_is_said(run):
    Path("photos").mkdir()
    code, _, err = run("photos", "--out", "out")
    assert code == 1
    assert "the folder photos holds no photos, only no files; photos end in .apng, .avif" in err
    assert rows() == [("photos", None, "BadPhoto")]
    assert run("photos", "anna.png", "--out", "out")[0] == 3


def test_a_stranger_among_the_photos_has_a_row(run, monkeypatch):
    from faces import from_far, person

    for name in ("a.png", "b.png", "c.png"):
        Path(name).write_bytes(encoded(scenery()))
    identities = {"a.png": person(0), "b.png": -1.5 * person(0), "c.png": person(0)}

    def observed(photo, *_, **__):
        return [seen_by(from_far(0.2 * (photo.name == "a.png")), identities[photo.name], name=photo.name)]

    monkeypatch.setattr("sameface.reconstruction.reconstruct.observe_turned", observed)
    code, out, err = run("a.png", "b.png", "c.png", "--out", "out")
    assert code == 3
    assert rows() == [("a.png", ".", None), ("b.png", None, "Disagrees"), ("c.png", ".", None)]
    assert re.match(r"not used: b.png: its shape is [\d.]+ mm from the other photos'", err)
    assert "one face from 2 photos" in out


def test_a_photo_with_the_name_of_a_result_does_not_overwrite_it(run):
    Path("anna.png").rename("neutral.png")
    assert run("neutral.png", "--out", "out", write=("obj", "views"))[0] == 0
    assert files() == {"photos.json", "result.json", "neutral.obj", "neutral.mtl", "neutral.png", "neutral-2.obj"}


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((), set()),
        (("npz", "stl"), {"face.npz", "neutral.stl"}),
        (("obj", "overlay"), {"neutral.obj", "neutral.mtl", "neutral.png", "anna-overlay.png"}),
    ],
)
def test_only_what_is_asked_for_is_written(run, kinds, expected):
    assert run("anna.png", "--out", "out", write=kinds)[0] == 0
    assert files() == {"photos.json", "result.json", *expected}


def test_quiet_is_quiet_but_for_problems(run):
    code, out, err = run("anna.png", "scenery.jpg", "--quiet", "--out", "out")
    assert (code, out) == (3, "")
    assert len(err.splitlines()) == 1


# ── faces ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_face_asked_for_is_taken(run):
    Path("two.png").write_bytes(encoded(two_people()))
    assert run("two.png", "--out", "first")[0] == 0
    assert run("two.png", "--face", 2, "--out", "second")[0] == 0
    assert identity("first/result.json") != identity("second/result.json")
    code, _, err = run("two.png", "anna.png", "--face", 2, "--out", "third")
    assert code == 3
    assert "anna.png has 1 face, so there is no face 2" in err
    assert rows("third") == [("two.png", ".", None), ("anna.png", None, "NoFaceFound")]


def test_all_faces_are_people_of_their_own(run):
    Path("two.png").write_bytes(encoded(two_people()))
    code, _, _ = run("two.png", "scenery.jpg", "anna.png", "--all-faces", "--out", "out")
    assert code == 3
    assert rows() == [
        ("two.png", "two-face1", None), ("two.png", "two-face2", None), ("scenery.jpg", None, "NoFaceFound"),
        ("anna.png", "anna-face1", None),
    ]  # fmt: skip
    assert files() == {"photos.json", *(f"{name}/result.json" for name in ("two-face1", "two-face2", "anna-face1"))}


def test_each_photo_has_a_folder_of_its_own(run):
    """Names that are the same, or that a file system would take for something else, do not meet."""
    names = ["x/anna.png", "y/Anna.jpg", "../anna.png", "Zoë 😀?.png", " .png", "photos.json.png", "a" * 200 + ".png"]
    Path("work/x").mkdir(parents=True)
    Path("work/y").mkdir()
    os.chdir("work")
    for name in names:
        if not name.startswith("../"):
            Path(name).write_bytes(encoded(astronaut(), "JPEG" if name.endswith("jpg") else "PNG"))
    code, _, err = run(*names, "--each", "--out", "out")
    assert (code, err) == (0, "")
    folders = ["anna", "Anna-2", "anna-3", "Zoë __", "photo", "photos.json-2", "a" * 120]
    assert [row[1] for row in rows()] == folders
    assert files() == {"photos.json", *(f"{name}/result.json" for name in folders)}
    assert identity("out/anna/result.json") == identity("out/anna-3/result.json")


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has file names that are no text")
def test_a_name_that_is_no_text_is_a_name(run):
    name = os.fsdecode(b"f\xfcr.png")
    Path(name).write_bytes(encoded(astronaut()))
    code, _, err = run(name, "--out", os.fsdecode(b"\xfc"), write=("report",))
    assert (code, err) == (0, "")


# ── scale, scores, networks ────────────────────────────────────────────────────────────────────────────────


def test_the_iris_or_the_pupils_set_the_scale(run):
    assert "pupil distance 70 mm" in run("anna.png", "--ipd", 70, "--out", "ipd")[1]
    assert "human iris 11.7 mm (2 irises)" in run("anna.png", "--iris", "--out", "iris")[1]
    for name in ("ipd", "iris"):
        factor = json.loads(Path(name, "result.json").read_text())["scale"]["factor"]
        assert 0.7 < factor < 1.4
        assert factor != 1


def test_the_least_score_decides_what_is_a_face(run):
    assert run("anna.png", "--min-score", 0.3, "--out", "out")[0] == 0
    code, _, err = run("anna.png", "--min-score", 1, "--out", "out")
    assert code == 1
    assert re.search(r"best candidate scored 0\.\d\d, below 1\.00", err)
    assert rows() == [("anna.png", None, "NoFaceFound")]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["anna.png", "--out", "out", "--ipd", "10"], "ipd is 10 mm"),
        (["anna.png", "--out", "out", "--ipd", "63", "--iris"], "either iris or ipd"),
        (["anna.png", "--out", "out", "--ipd", "wide"], "wide"),
        (["anna.png", "--out", "out", "--face", "0"], "counted from 1"),
        (["anna.png", "--out", "out", "--min-score", "-1"], "min_score is -1"),
        (["anna.png", "--out", "out", "--each", "--all-faces"], "leave out --each and --face"),
        (["anna.png", "--out", "out", "--face", "1", "--all-faces"], "leave out --each and --face"),
        (["--out", "out"], "at least one photo"),
        (["anna.png"], "--out"),
        (["anna.png", "--out", "out", "--colour"], "--colour"),
    ],
)
def test_wrong_usage_is_two_and_touches_nothing(run, arguments, message):
    code, out, err = run(*arguments)
    assert code == 2
    assert message in out + err
    assert not Path("out").exists()


def test_an_unknown_kind_of_file_is_wrong_usage(run):
    code, out, err = run("anna.png", "--out", "out", write=("fbx",))
    assert code == 2
    assert "fbx" in out + err


def test_a_network_that_is_none_is_said_once(run):
    Path("notes.onnx").write_text("not a network")
    Path("notes.txt").write_text("not a network")
    foreign_network(Path("theirs.onnx"))
    for name, message in (
        ("notes.onnx", "is not a network that onnxruntime can load"), ("notes.txt", "there is no network 'notes.txt'"),
        ("theirs.onnx", "carries no sameface description"), ("missing.onnx", "there is no network 'missing.onnx'"),
    ):  # fmt: skip
        code, out, err = run("anna.png", "scenery.jpg", "--out", "out", "--predictor", name)
        assert (code, out) == (1, "")
        assert err.count(message) == 1
        assert not Path("out").exists()


# ── what cannot be written ─────────────────────────────────────────────────────────────────────────────────


def fails_at(monkeypatch, part: str, number: int) -> None:
    """Renaming a finished file into a path with this part fails."""
    rename = os.replace

    def replace(source, target):
        if part in Path(target).as_posix():
            raise OSError(number, os.strerror(number))
        rename(source, target)

    monkeypatch.setattr(write.os, "replace", replace)


def test_a_disk_that_is_full_for_one_person_costs_only_that_one(run, monkeypatch):
    for name in ("one", "two", "three"):
        Path(f"{name}.png").write_bytes(encoded(astronaut()))
    fails_at(monkeypatch, "out/two/", errno.ENOSPC)
    code, out, err = run("one.png", "two.png", "three.png", "--each", "--out", "out", write=("npz",))
    assert code == 3
    assert rows() == [("one.png", "one", None), ("two.png", None, "BadOutput"), ("three.png", "three", None)]
    assert re.match(r"not written: out/two/result.json cannot be written \(No space left on device\): choose", err)
    assert files() == {"photos.json", *(f"{n}/{f}" for n in ("one", "three") for f in ("result.json", "face.npz"))}
    assert out.count("one face from") == 2


def test_a_disk_that_is_full_at_the_end_loses_only_the_rows(run, monkeypatch):
    written = outputs.write_rows

    def full_later(out, given):
        if given:
            monkeypatch.setattr(write.os, "replace", lambda *_: (_ for _ in ()).throw(OSError(errno.ENOSPC, "full")))
        written(out, given)

    monkeypatch.setattr(outputs, "write_rows", full_later)
    code, _, err = run("anna.png", "--out", "out")
    assert code == 3
    assert "photos.json cannot be written (full)" in err
    assert files() == {"photos.json", "result.json"}
    assert rows() == []


def test_a_folder_that_cannot_be_used_is_said_before_any_work(run, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a photo was looked at")

    monkeypatch.setattr("sameface.reconstruction.reconstruct.look", never)
    for out in ("anna.png", "anna.png/deeper", "/proc/no-such-place"):
        code, _, err = run("anna.png", "--out", out)
        assert code == 1
        assert re.match(rf"sameface: {out} cannot be made or used as a folder for results \(.+\): choose another", err)
    Path("there").mkdir()
    fails_at(monkeypatch, "there/", errno.EROFS)
    code, _, err = run("anna.png", "--out", "there")
    assert code == 1
    assert "photos.json cannot be written (Read-only file system)" in err
    assert files("there") == set()


def test_a_file_where_a_persons_folder_should_be_costs_only_that_person(run):
    Path("out").mkdir()
    Path("out/anna").write_text("in the way")
    Path("grace.jpg").write_bytes(GRACE.read_bytes())
    code, _, err = run("anna.png", "grace.jpg", "--each", "--out", "out")
    assert code == 3
    assert "out/anna cannot be made or used as a folder" in err
    assert rows() == [("anna.png", None, "BadOutput"), ("grace.jpg", "grace", None)]


def test_ctrl_c_keeps_what_is_done_and_is_130(run, monkeypatch):
    Path("grace.jpg").write_bytes(GRACE.read_bytes())
    from sameface.reconstruction import reconstruct

    look = reconstruct.look

    def interrupted(photos, **options):
        if photos[0].name == "grace.jpg":
            raise KeyboardInterrupt
        return look(photos, **options)

    monkeypatch.setattr(reconstruct, "look", interrupted)
    code, _, err = run("anna.png", "grace.jpg", "--each", "--out", "out")
    assert code == 130
    assert err.endswith("sameface: stopped\n")
    assert rows() == [("anna.png", "anna", None), ("grace.jpg", None, "Stopped")]
    assert files() == {"photos.json", "anna/result.json"}


# ── the other verbs ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["--help"], 0, "Photos of a person in"),
        (["--version"], 0, f"sameface {__version__}"),
        (["reconstruct", "--help"], 0, "Least score of a detected face"),
        (["train"], 2, "usage: sameface train METHOD"),
        (["train", "--help"], 0, "isoface"),
        (["train", "nobody"], 2, "there is no method 'nobody'"),
        (["train", "isoface", "--help"], 0, "--batch"),
        (["evaluate"], 2, "usage: sameface evaluate BENCHMARK"),
        (["evaluate", "--help"], 0, "lfw"),
        (["evaluate", "nobody", "--data", "."], 2, "there is no benchmark 'nobody'"),
        (["evaluate", "lfw", "--help"], 0, "--missing"),
        (["evaluate", "lfw", "--data", "nowhere"], 1, "there is no folder nowhere"),
        (["evaluate", "lfw", "--data", ".", "--model", "nobody"], 2, "there is no system 'nobody'"),
        (["data", "facetable"], 2, "does not say what and where"),
        (["data", "facetable:nowhere"], 1, "there is no folder nowhere"),
        (["data", "facetable:."], 1, "has no .parquet files"),
        (["fit-set", "--help"], 0, "LargeResidual"),
        (["fit-set", "facetable:nowhere", "--out", "labels"], 1, "there is no folder nowhere"),
        (["export", "nowhere"], 1, "it is not the folder of a run"),
        (["verify", "nowhere.jpg", "scenery.jpg"], 1, "nowhere.jpg"),
        (["verify", "anna.png", "scenery.jpg", "--far", "0.9"], 2, "error rates from 0.01 to 0.5"),
        (["synth", "--help"], 0, "people who do not exist"),
        (["model", "build", "nowhere.obj", "--out", "out.npz"], 1, "a model needs 3 scans or more"),
        (["model"], 2, "Missing subcommand"),
        (["model", "show", "nowhere"], 1, "there is no file or folder nowhere"),
        (["model", "show", "scenery.jpg"], 1, "expected one of"),
        (["model", "convert", "scenery.jpg", "out.npz"], 1, "expected one of"),
        (["model", "compile", "nowhere.npz", "out.npz"], 1, "nowhere.npz"),
        ([], 2, "Missing subcommand"),
        (["juggle"], 2, "juggle"),
    ],
)
def test_every_verb_ends_with_a_sentence_and_a_code(run, arguments, code, words):
    left, out, err = run(*arguments, verb=False)
    assert left == code, out + err
    assert words in out + err


MOUTHS = """'Mouths. Layout: ROOT/*.png or .jpg.'
from dataclasses import dataclass
from sameface.evaluation.case import Answer, Case

@dataclass(frozen=True)
class Options:
    factor: float = 1.0
    'of the numbers'

published = ()

def cases(root, options):
    return [Case(p.stem, (p,), (None,)) for p in sorted(root.iterdir()) if p.suffix in (".png", ".jpg")]

def score(case, answer, options): return {"x": options.factor * answer.landmarks[0, 57, 0]}
def summary(cases, answers, rows, options): return {"x": max(row["x"] for row in rows if row)}
def sample(root): ...
def truth(case, options): return Answer()
"""


def test_evaluate_prints_the_table_and_its_code_tells_failures(run):
    Path("mouths.py").write_text(MOUTHS)
    arguments = ("evaluate", "mouths.py", "--data", ".", "--workers", 1)
    code, out, err = run(*arguments, "--out", "out", "--factor", 1000, verb=False)
    assert (code, err) == (3, "")
    assert re.search(r"mouths · default · 2 cases\n\n +default\nx +[\d.e+]+\n", out)
    assert "options: factor = 1000" in out
    assert "scenery: no face in scenery.jpg" in out
    assert out.endswith("out: the numbers of every case, and pictures\n")
    assert {name for name in files() if "/" not in name} == {"mouths-default.json", "mouths-default-ced.png"}
    assert run(*arguments, "--limit", 1, "--model", "mean", verb=False)[0] == 0
    Path("anna.png").unlink()
    assert run(*arguments, verb=False)[0] == 1


def test_cases_are_drawn_instead_of_evaluated(run):
    Path("mouths.py").write_text(MOUTHS)
    code, out, _ = run("evaluate", "mouths.py", "--data", ".", "--show", "cases.png", verb=False)
    assert (code, out) == (0, "cases.png\n")
    assert Path("cases.png").stat().st_size > 1000


def test_a_data_set_is_told_and_drawn(run):
    from sameface.training.datasets import facetable, scenes

    facetable.sample(Path("table"))
    code, out, _ = run("data", "facetable:table", "--split", "val", "--show", "items.png", verb=False)
    assert code == 0
    assert out.startswith("facetable:table, split val: 8 items\n")
    assert re.search(r"image +\(160, 160, 3\) uint8", out)
    assert re.search(r"persons +2\nitems.png", out)
    assert Path("items.png").stat().st_size > 1000
    scenes.sample(Path("scenes"))
    code, out, _ = run("data", "scenes:scenes", verb=False)
    assert code == 0
    assert "persons" not in out


def test_a_data_set_is_fitted_and_its_labels_are_read(run):
    from sameface.training.datasets import facetable

    facetable.sample(Path("table"))  # discs without a face: every photo is a row with its reason
    code, out, _ = run("fit-set", "facetable:table", "--out", "labels", "--workers", 1, "--splits", "val", verb=False)
    assert code == 0
    assert "labels: 0 of 8 photos labelled, 2 persons" in out
    assert "rejected, NoFaceFound: 8" in out


def test_two_photos_of_one_file_are_compared(run):
    code, out, err = run("verify", "anna.png", "anna.png", "--out", "verdict.json", verb=False)
    assert code == 0, err
    assert " mm" in out
    assert json.loads(Path("verdict.json").read_text())["distance_mm"] < 0.01
    assert run("verify", "anna.png", "anna.png", "--quiet", verb=False)[1] in ("same\n", "unsure\n", "different\n")
    assert run("verify", "anna.png", "anna.png", "--page", "page.html", verb=False)[0] == 0
    assert "RMS over the face" in Path("page.html").read_text(encoding="utf-8")


def test_people_are_made_up(run):
    code, out, _ = run(
        "synth", "--out", "people", "--persons", 1, "--views", 1, "--size", 48, "--workers", 0, verb=False
    )
    assert (code, out) == (0, "people: 1 people with 1 photos each, 1 of them new\n")


def test_our_model_is_shown_and_converted(run, folder):
    code, out, _ = run("model", "show", verb=False)
    assert code == 0
    assert "80 modes" in out
    Path("mean.npz").write_bytes((Path(cli.__file__).parent.parent / "assets" / "face_model.npz").read_bytes())
    assert run("model", "convert", "mean.npz", "again.npz", verb=False)[0] == 0
    assert Path("again.npz").stat().st_size > 1e6


def test_doctor_sends_a_face_through_everything(run):
    code, out, _ = run("doctor", verb=False)
    assert code == 0
    assert re.search(r"a rendered face was found and fitted in [\d.]+ s", out)


def test_a_missing_optional_package_names_the_extra(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "sameface.training.export", None)
    code, _, err = run("export", "somewhere", verb=False)
    assert code == 1
    assert "pip install 'sameface[train]'" in err
    monkeypatch.setitem(sys.modules, "sameface.evaluation.evaluate", None)
    code, _, err = run("evaluate", "lfw", "--data", ".", verb=False)
    assert code == 1
    assert "pip install 'sameface[evaluate]'" in err


@pytest.mark.parametrize("command", [[Path(sys.executable).parent / "sameface"], [sys.executable, "-m", "sameface"]])
def test_the_installed_command_works(folder, command):
    done = subprocess.run(
        [*command, "reconstruct", "anna.png", "missing.jpg", "--out", "out", "--write", "npz"],
        capture_output=True, text=True, env=os.environ | {"PYTHONWARNINGS": "error"},
    )  # fmt: skip
    assert done.returncode == 3, done.stderr
    assert done.stderr == "not used: there is no file or folder missing.jpg; its folder exists, so check the spelling\n"
    assert done.stdout.startswith("out: one face from 1 photo")
    with np.load("out/face.npz") as arrays:
        assert np.isfinite(arrays["vertices"]).all()


# ── files that stand in the way ────────────────────────────────────────────────────────────────────────────


def test_results_do_not_go_among_the_photos(run):
    Path("photos").mkdir()
    Path("photos/anna.png").write_bytes(Path("anna.png").read_bytes())
    before = Path("photos/anna.png").stat().st_mtime_ns
    for out in ("photos", "./photos/"):
        code, _, err = run("photos", "--out", out)
        assert code == 1
        assert "is what is read: results would lie among it; choose another folder" in err
    Path("anna-overlay.png").write_bytes(Path("anna.png").read_bytes())
    code, _, err = run("anna.png", "anna-overlay.png", "--out", ".")
    assert code == 1
    assert "anna-overlay.png might be written over" in err
    assert [file.name for file in Path("photos").iterdir()] == ["anna.png"]
    assert Path("photos/anna.png").stat().st_mtime_ns == before


def test_what_begins_as_a_video_costs_itself_only(run):
    Path("odd.jpg").write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    for more in ((), ("--each",)):
        code, _, err = run("odd.jpg", "anna.png", *more, "--out", "out")
        assert code == 3
    assert "not used: odd.jpg is a video; give it alone" in err
    assert rows() == [("odd.jpg", None, "BadPhoto"), ("anna.png", "anna", None)]


def test_ctrl_c_tells_of_every_photo(run, monkeypatch):
    def stopped(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("sameface.reconstruction.reconstruct.join", stopped)
    code, _, err = run("scenery.jpg", "anna.png", "--out", "out")
    assert code == 130
    assert "anna.png: the command was stopped before it was done with this photo" in err
    assert rows() == [("scenery.jpg", None, "NoFaceFound"), ("anna.png", None, "Stopped")]


def test_names_that_are_no_text_are_photos_too(run):
    name = os.fsdecode(b"J\xfcrgen.png")
    shutil.move("anna.png", name)
    code, _, _ = run(name, "--out", "out", write=("report", "npz"))
    assert code == 0
    assert [row[1:] for row in rows()] == [(".", None)]
    assert run("verify", name, name, verb=False)[0] == 0


def test_outputs_that_cannot_be_written_are_refused_before_the_work(run):
    os.mkfifo("pipe.json")
    for command in (
        ("verify", "anna.png", "anna.png", "--out", "pipe.json"),
        ("verify", "anna.png", "anna.png", "--out", "anna.png"),
        ("model", "convert", "anna.png", "none/model.npz"), ("model", "convert", "anna.png", "anna.png"),
    ):  # fmt: skip
        code, out, err = run(*command, verb=False)
        assert (code, out) == (1, "")
        assert re.search("is not an ordinary file|would be written over|there is no folder none", err)
    assert Path("anna.png").read_bytes() == encoded(astronaut())
