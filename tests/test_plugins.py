import sys

import pytest

from sameface.core import plugins
from sameface.core.errors import BadData

METHOD = (
    "from dataclasses import dataclass\n@dataclass(frozen=True)\nclass Config:\n    x: int = 3\nclass Method: ...\n"
)


def test_a_files_name_is_its_name():
    assert "detector" in plugins.names("methods")
    assert "scenes" in plugins.names("datasets")
    assert plugins.load("datasets", "scenes").__name__ == "sameface.training.datasets.scenes"


def test_files_that_only_help_the_plugins_are_not_listed():
    assert "ict" in plugins.names("morphable")
    assert "__init__" not in plugins.names("morphable")
    for kind in plugins.REQUIRED:
        for name in plugins.names(kind):
            assert plugins.load(kind, name).__doc__


def test_your_own_file_works_in_place_of_a_name(tmp_path):
    (tmp_path / "mine.py").write_text(METHOD)
    before = list(sys.path)
    module = plugins.load("methods", str(tmp_path / "mine.py"))
    assert module.Config().x == 3
    assert plugins.load("methods", str(tmp_path / "mine.py")) is module
    assert sys.path == before


def test_two_files_of_one_name_are_two_plugins(tmp_path):
    for folder, x in ("a", "3"), ("b", "4"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "mine.py").write_text(METHOD.replace("3", x))
    found = [plugins.load("methods", str(tmp_path / folder / "mine.py")).Config().x for folder in "ab"]
    assert found == [3, 4]


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"no method 'detectr'; there are: .*detector.* \(or give the path"):
        plugins.load("methods", "detectr")


def test_an_unknown_kind_lists_the_known_ones():
    with pytest.raises(ValueError, match="no kind of plug-in 'losses'; there are: methods, datasets"):
        plugins.names("losses")


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*nothing\.py"):
        plugins.load("methods", str(tmp_path / "nothing.py"))


def test_a_file_without_the_parts_is_told_which_are_missing(tmp_path):
    (tmp_path / "half.py").write_text("class Config: ...\n")
    with pytest.raises(ValueError, match=r"half\.py cannot be used as a method: it does not define Method;"):
        plugins.load("methods", str(tmp_path / "half.py"))


def test_a_file_that_fails_to_import_leaves_nothing_behind(tmp_path):
    path = tmp_path / "broken.py"
    path.write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        plugins.load("methods", str(path))
    path.write_text(METHOD)
    assert plugins.load("methods", str(path)).Config().x == 3


# ── what data may name ─────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def nobody_trusted(monkeypatch):
    monkeypatch.setattr(plugins, "_trusted", {})


EVIL = "from pathlib import Path\nPath(__file__).with_name('ran').touch()\n"


def test_a_file_that_data_name_is_not_run_until_the_user_names_it(tmp_path, nobody_trusted):
    path, where = tmp_path / "mine.py", tmp_path / "config.json"
    path.write_text(EVIL + METHOD)
    digest = plugins.fingerprint(str(path))["sha256"]
    assert plugins.fingerprint("detector") == {}
    says = r"config\.json was made with a method that is a Python file, mine\.py, .*give --plugin mine\.py$"
    for name in (str(path), "mine.py", "../mine.py"):
        with pytest.raises(BadData, match=says):
            plugins.named("methods", name, digest, where)
    assert not (tmp_path / "ran").exists()
    plugins.trust(path)
    assert not (tmp_path / "ran").exists()  # to trust is not to run
    assert plugins.named("methods", "/somewhere/else/mine.py", digest, where).Config().x == 3
    assert plugins.trusted() == (path,)


def test_another_file_of_that_name_is_not_what_data_mean(tmp_path, nobody_trusted):
    path, where = tmp_path / "mine.py", tmp_path / "config.json"
    path.write_text(METHOD)
    digest = plugins.fingerprint(str(path))["sha256"]
    path.write_text(EVIL + METHOD)
    plugins.trust(path)
    with pytest.raises(BadData, match=r"--method mine\.py \(mine\.py is not what it was made with\)"):
        plugins.named("methods", "mine.py", digest, where, "--method")
    assert not (tmp_path / "ran").exists()
    assert plugins.named("methods", "mine.py", None, where).Config().x == 3  # older folders say no digest


def test_what_the_user_loads_by_its_path_is_trusted(tmp_path, nobody_trusted):
    (tmp_path / "mine.py").write_text(METHOD)
    plugins.load("methods", str(tmp_path / "mine.py"))
    assert plugins.trusted() == (tmp_path / "mine.py",)
    with pytest.raises(ValueError, match=r"there is no file .*none\.py"):
        plugins.trust(tmp_path / "none.py")


@pytest.mark.parametrize("name", [None, 5, ["detector"], "", "os", "../training/train", "detector.pyc"])
def test_data_name_plugins_of_the_package_and_nothing_else(name, tmp_path, nobody_trusted):
    assert plugins.named("methods", "detector", None, tmp_path).Method
    with pytest.raises(BadData, match="names "):
        plugins.named("methods", name, None, tmp_path)
