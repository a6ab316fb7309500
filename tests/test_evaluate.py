"""An evaluation as a user has it: a benchmark in a file of one's own, real photos, numbers, failures, pictures."""

import io
import json
import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from faces import astronaut, encoded, rendered, scenery
from sameface.core import plugins
from sameface.core.errors import BadData, BadOutput, NoFaceFound, SameFaceError
from sameface.evaluation import evaluate as module
from sameface.evaluation import systems
from sameface.evaluation.case import Answer, Case, CaseFailed
from sameface.evaluation.evaluate import evaluate

BENCHMARK = '''
"""Noses: where is it? Layout: ROOT/*.png."""
from dataclasses import dataclass
from pathlib import Path
import numpy as np
from sameface.evaluation.case import Answer, Case, Published

@dataclass(frozen=True)
class Options:
    factor: float = 1.0
    """what distances are multiplied by"""
    strict: bool = False
    """refuse big noses"""
    parts: tuple[str, ...] = ("nose",)
    """of the face"""
    where: Path | None = None
    """a list"""

published = (Published("someone", {"mean": 2.5, "median": 2.25}, "their paper, table 1"),)

def cases(root, options):
    photos = sorted(root.glob("*.png"))
    return [Case(p.stem, (p,), (None,), {"person": p.stem[0], "nose": np.array([120.0, 110.0])}) for p in photos]

def score(case, answer, options):
    if options.strict:
        return {"distance": float("nan")}
    yaw = np.degrees(np.arcsin(answer.rotation[0, 2, 0]))
    nose = answer.landmarks[0, 30, :2]
    return {"distance": options.factor * np.linalg.norm(nose - case.truth["nose"]), "yaw": yaw}

def summary(cases, answers, rows, options):
    assert all((answer is None) == (row is None) for answer, row in zip(answers, rows, strict=True))
    assert all(answer.vertices is None for answer in answers if answer is not None)
    good = [row["distance"] for row in rows if row is not None]
    return {"mean": float(np.mean(good)), "spread": float("nan")}

def sample(root): ...

def truth(case, options): return Answer()
'''

SETS = '''
"""All photos of a folder at once, compared by codes only."""
from dataclasses import dataclass
import numpy as np
from sameface.evaluation.case import Answer, Case, CaseFailed

@dataclass(frozen=True)
class Options: ...

published, asks = (), ("codes",)

def cases(root, options):
    photos = tuple(sorted(root.glob("*.png")))
    return [Case("all", photos, (None,) * len(photos))]

def score(case, answer, options):
    assert answer.neutral is None and answer.landmarks is None
    return {}

def summary(cases, answers, rows, options): return {"photos": float(len(answers[0].codes["identity_joint"]))}

def curves(cases, answers, options): return {"all": (np.array([0.1, 1.0]), np.array([0.5, 1.0]))}

def sample(root): ...

def truth(case, options): return Answer()
'''


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("noses")
    people = {"anna1": astronaut(), "anna2": astronaut()[:, ::-1], "ben1": rendered(0, 0.3), "ben2": scenery()}
    for name, pixels in people.items():
        (folder / f"{name}.png").write_bytes(encoded(pixels))
    return folder


@pytest.fixture(scope="module")
def noses(tmp_path_factory) -> str:
    file = tmp_path_factory.mktemp("benchmark") / "noses.py"
    file.write_text(BENCHMARK)
    return str(file)


@pytest.fixture(scope="module")
def done(root, noses, tmp_path_factory):
    """One evaluation, and the folder with its files."""
    out = tmp_path_factory.mktemp("out") / "deep"
    ticks: list[tuple[str, int]] = []
    report = evaluate(noses, root, out=out, tick=lambda name, total: ticks.append((name, total)))
    assert ticks == [("anna1", 4), ("anna2", 4), ("ben1", 4), ("ben2", 4)]
    return report, out


def options(noses: str, **values):
    return plugins.load("benchmarks", noses).Options(**values)


def remembered(monkeypatch) -> list[str]:
    """The names of the cases whose photos are looked at from now on; nothing is found in them."""
    seen: list[str] = []

    def measure(case):
        seen.append(case.name)
        raise NoFaceFound(f"nothing in {case.name}")

    module._ready.cache_clear()
    monkeypatch.setattr(systems, "_pipeline", lambda predictor, case: measure(case))
    return seen


def test_every_case_has_its_numbers_and_failures_count(done):
    report, _ = done
    assert (report.cases, report.of) == (4, 4)
    assert list(report.rows) == ["anna1", "anna2", "ben1"]
    assert report.rows["anna1"]["distance"] < 25
    assert report.summary["mean"] == pytest.approx(np.mean([row["distance"] for row in report.rows.values()]))
    assert [one[:2] for one in report.failures] == [("ben2", "NoFaceFound")]
    assert "no face in ben2.png" in report.failures[0].message


def test_the_table_has_options_published_numbers_with_their_source_and_failures(done):
    text = done[0].as_text()
    assert text.startswith("noses · default · 4 cases\n")
    assert re.search(r"^ +default +\[1\]$", text, re.MULTILINE)
    assert re.search(r"^mean +[\d.]+ +2\.5$", text, re.MULTILINE)
    assert re.search(r"^spread +–$", text, re.MULTILINE)
    assert re.search(r"^median +2\.25$", text, re.MULTILINE)
    assert "[1] someone: their paper, table 1" in text
    assert "options: factor = 1.0, strict = False, parts = ('nose',), where = None" in text
    assert "failures: 1\n  NoFaceFound: 1\n    ben2: no face in ben2.png" in text


def test_the_file_holds_everything_and_no_folder_of_this_machine(done, root):
    report, out = done
    content = json.loads((out / "noses-default.json").read_text())
    assert content["command"] == f"sameface evaluate noses.py --data {root.name} --model default"
    assert content["summary"] == {"mean": report.summary["mean"], "spread": None}
    assert content["rows"][0] == {"case": "anna1", **report.rows["anna1"]}
    assert [row["case"] for row in content["failures"]] == ["ben2"]
    assert content["published"][0]["source"] == "their paper, table 1"
    assert content["options"]["parts"] == ["nose"]
    assert content["sameface"]
    assert str(root) not in (out / "noses-default.json").read_text()
    assert str(out) not in (out / "noses-default.json").read_text()


def test_the_pictures_that_fit_are_drawn(done):
    assert {path.name for path in done[1].glob("*.png")} == {
        "noses-default-ced.png", "noses-default-yaw.png", "noses-default-persons.png",
    }  # fmt: skip


def test_a_second_run_looks_at_no_photo_again(done, root, noses, tmp_path, monkeypatch):
    report, out = done[0], Path(shutil.copytree(done[1], tmp_path / "out"))
    seen = remembered(monkeypatch)
    again = evaluate(noses, root, options(noses, factor=2.0), out=out)
    assert seen == []
    assert again.summary["mean"] == pytest.approx(2 * report.summary["mean"])
    assert again.failures == report.failures
    assert again.command.endswith("--model default --factor 2.0")
    assert evaluate(noses, root, out=out, cache=False).rows == {}
    assert seen == ["anna1", "anna2", "ben1", "ben2"]


def test_another_photo_place_or_system_is_looked_at_again(done, root, noses, tmp_path):
    photo = tmp_path / "anna1.png"
    photo.write_bytes((root / "anna1.png").read_bytes())
    system = systems.load("default")
    places = (None, np.zeros((2, 2)), np.ones((2, 2)))
    keys = [module._key(system, Case("anna", (photo,), (place,))) for place in places]
    keys.append(module._key(systems.load("mean"), Case("anna", (photo,), (None,))))
    keys.append(module._key(system, Case("ben", (photo,), (None,))))
    photo.write_bytes(encoded(scenery()))
    keys.append(module._key(system, Case("anna", (photo,), (None,))))
    photo.unlink()
    keys.append(module._key(system, Case("anna", (photo,), (None,))))
    assert len(set(keys)) == len(keys)


def test_processes_side_by_side_say_the_same(done, root, noses):
    report, _ = done
    again = evaluate(noses, root, workers=2)
    assert (again.rows, again.failures) == (report.rows, report.failures)


def test_only_the_first_cases_are_not_the_protocols_numbers(root, noses, monkeypatch):
    remembered(monkeypatch)
    report = evaluate(noses, root, options(noses, parts=("a", "b"), strict=True, where=Path("/x/list.txt")), limit=2)
    assert (report.cases, report.of) == (2, 4)
    assert "2 cases (of 4, so these are not the protocol's numbers)" in report.as_text()
    assert report.command.endswith("--strict --parts a b --where list.txt --limit 2")
    assert report.options["where"] == "list.txt"


def test_when_every_case_fails_there_is_no_table(root, noses, tmp_path, monkeypatch):
    remembered(monkeypatch)
    report = evaluate(noses, root, out=tmp_path, cache=False)
    assert report.summary == {}
    text = report.as_text()
    assert "no case could be scored" in text
    assert "failures: 4\n  NoFaceFound: 4\n    anna1: nothing in anna1" in text
    assert text.endswith("…")
    assert json.loads((tmp_path / "noses-default.json").read_text())["rows"] == []
    assert not list(tmp_path.glob("*.png"))


def test_a_damaged_kept_answer_is_measured_again(root, noses, tmp_path):
    report = evaluate(noses, root, out=tmp_path)
    damages = [
        lambda data: b"", lambda data: data[: len(data) // 2], lambda data: data[:60] + bytes(20) + data[80:],
        lambda data: archive(failure=np.array(["SystemExit", "no"])),
    ]  # fmt: skip
    kept = sorted((tmp_path / "answers").iterdir())
    assert len(kept) == 4
    whole = [file.read_bytes() for file in kept]
    for file, damage in zip(kept, damages, strict=True):
        file.write_bytes(damage(file.read_bytes()))
    again = evaluate(noses, root, out=tmp_path)
    assert (again.rows, again.failures) == (report.rows, report.failures)
    for file, before in zip(kept, whole, strict=True):
        with np.load(file) as mine, np.load(io.BytesIO(before)) as theirs:
            assert sorted(mine.files) == sorted(theirs.files)


def archive(**arrays: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_results_do_not_go_into_the_folder_of_the_benchmark(root, noses):
    with pytest.raises(BadOutput, match="results would lie among it"):
        evaluate(noses, root, out=root)


def test_whatever_goes_wrong_with_a_case_is_its_row(root, noses, monkeypatch):
    report = evaluate(noses, root, options(noses, strict=True), limit=1)
    assert report.failures[0][1:] == ("ValueError", "the score is not a finite number: distance is nan")
    module._ready.cache_clear()
    monkeypatch.setattr(systems, "_pipeline", lambda *_: 1 / 0)
    assert [one.kind for one in evaluate(noses, root).failures] == ["ZeroDivisionError"] * 4


def test_a_summary_that_names_a_case_without_a_row_is_a_mistake_of_the_benchmark(root, noses, tmp_path):
    file = tmp_path / "wrong.py"
    wrong = "from sameface.evaluation.case import CaseFailed\n    raise CaseFailed('ben2', 'again')\n    assert"
    file.write_text(BENCHMARK.replace("assert", wrong, 1))
    with pytest.raises(CaseFailed, match="again"):
        evaluate(str(file), root)


def test_photos_left_out_of_a_case_are_said_and_pairs_have_a_curve(root, tmp_path):
    file = tmp_path / "sets.py"
    file.write_text(SETS)
    report = evaluate(str(file), root, out=tmp_path / "out")
    assert report.rows == {"all": {}}
    left_out = {("all", "ben2.png", "NoFaceFound"), ("all", "ben1.png", "Disagrees")}  # among two of anna
    assert {one[:3] for one in report.left_out} == left_out
    text = report.as_text()
    assert "left out of cases that went on without: 2 photos\n" in text
    assert "  NoFaceFound: 1\n    all: no face in" in text
    assert "  Disagrees: 1\n    all: its shape is" in text
    assert [path.name for path in (tmp_path / "out").glob("*.png")] == ["sets-default-roc.png"]


def test_what_cannot_be_evaluated_is_said_at_once(root, noses, tmp_path):
    with pytest.raises(ValueError, match="there is no benchmark 'nobody'; there are: "):
        evaluate("nobody", root)
    with pytest.raises(ValueError, match="there is no system 'nobody'"):
        evaluate(noses, root, model="nobody")
    with pytest.raises(ValueError, match="limit is 0; take at least 1 case"):
        evaluate(noses, root, limit=0)
    with pytest.raises(ValueError, match="workers is 0; at least one process"):
        evaluate(noses, root, workers=0)
    with pytest.raises(BadData, match=r"there is no folder .*nowhere; .*give --data the folder"):
        evaluate(noses, tmp_path / "nowhere")
    with pytest.raises(BadData, match=r"holds no case of this benchmark; its layout: Noses: where is it\? Lay"):
        evaluate(noses, tmp_path)


def test_cases_of_one_name_are_refused(root, tmp_path):
    (tmp_path / "twice.py").write_text(BENCHMARK.replace("Case(p.stem,", "Case('same',"))
    with pytest.raises(BadData, match="1 cases have the name of another, for example same; names are unique"):
        evaluate(str(tmp_path / "twice.py"), root)


def test_a_process_that_dies_is_said(root, noses, tmp_path, monkeypatch):
    from concurrent.futures.process import BrokenProcessPool

    class Pool:
        def __init__(self, *_): ...
        def __enter__(self):
            return self

        def __exit__(self, *_): ...
        def map(self, *_, **__):
            raise BrokenProcessPool

    monkeypatch.setattr(module, "ProcessPoolExecutor", Pool)
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    with pytest.raises(SameFaceError, match=r"use fewer --workers; what was measured is kept in .*answers"):
        evaluate(noses, root, workers=2, out=tmp_path)
    assert os.environ["OMP_NUM_THREADS"] == "3"
    with pytest.raises(SameFaceError, match=r"use fewer --workers$"):
        evaluate(noses, root, workers=2)


def test_an_answer_keeps_what_is_asked(noses):
    plugin = plugins.load("benchmarks", noses)
    assert module._asked(plugin) == systems.ANSWERS
    assert module._kept_answer(plugin, module._Outcome(None, None, ("BadPhoto", "no"))) is None
    kept = module._kept_answer(plugin, module._Outcome({"code/x": np.ones((1, 3))}, {}))
    assert isinstance(kept, Answer)
    assert kept.codes["x"].shape == (1, 3)


def test_the_benchmark_in_the_documentation_works(tmp_path):
    """It reads its own sample, finds its truth perfect, and photos without faces are failures."""
    page = Path(__file__).parent.parent / "docs" / "evaluate.md"
    code = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)[0]
    (tmp_path / "noses.py").write_text(code)
    (tmp_path / "data").mkdir()
    plugin = plugins.load("benchmarks", str(tmp_path / "noses.py"))
    plugin.sample(tmp_path / "data")
    cases = plugin.cases(tmp_path / "data", plugin.Options())
    rows = [plugin.score(case, plugin.truth(case, plugin.Options()), plugin.Options()) for case in cases]
    assert plugin.summary(cases, [None, None], rows, plugin.Options()) == {"mean": 0}
    with pytest.raises(ValueError, match="anna: noses need landmarks"):
        plugin.score(cases[0], Answer(), plugin.Options())
    with pytest.raises(BadData, match=r"has no photos"):
        plugin.cases(tmp_path, plugin.Options())
    assert [one.kind for one in evaluate(str(tmp_path / "noses.py"), tmp_path / "data").failures] == ["NoFaceFound"] * 2


def test_folders_called_like_a_benchmark_or_a_system_are_not_taken_for_them(tmp_path, monkeypatch):
    for name in ("lfw", "mean"):
        (tmp_path / name).mkdir()
    plugins.load("benchmarks", "lfw").sample(tmp_path / "lfw")
    monkeypatch.chdir(tmp_path)
    report = evaluate("lfw", Path("lfw"), model="mean", limit=2)
    assert (report.benchmark, report.model) == ("lfw", "mean")
    assert [failure.kind for failure in report.failures] == ["NoFaceFound"] * 2  # the sample's photos are noise
