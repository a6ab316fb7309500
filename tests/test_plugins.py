import sys

import pytest

from sameface.core import plugins

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
