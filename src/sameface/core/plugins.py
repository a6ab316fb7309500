"""The folder is the registry: a method, data set, benchmark or morphable model is one file, named by its file name.

`names("methods")` lists the files of `sameface/training/methods/` that define what a method must;
`load("methods", "detector")` imports one of them. The path of your own file works in place of a name everywhere that
you say it yourself: `load("methods", "./mine.py")`. What a file says (the settings of a run, labels.json) goes through
`named`, which runs a file only if you said it too, by `load` or `trust`: whoever hands over a folder must not choose
the code that runs.
"""

import ast
import hashlib
import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

from sameface.core.errors import BadData
from sameface.core.files import hint, names_in, sha256

__all__ = ["dataset_at", "fingerprint", "is_file", "load", "named", "names", "trust", "trusted"]

REQUIRED = {
    "methods": ("Config", "Method"),
    "datasets": ("gives", "load", "sample"),
    "benchmarks": ("Options", "cases", "score", "summary", "sample", "truth", "published"),
    "morphable": ("load",),
}
"""What a file of each kind must define."""
FOLDERS = {
    "methods": "training/methods",
    "datasets": "training/datasets",
    "benchmarks": "evaluation/benchmarks",
    "morphable": "morphable",
}
"""where the package keeps them"""
_trusted: dict[str, Path] = {}
"""sha256 → the files that the user named for what data may ask for"""


@cache
def names(kind: str) -> tuple[str, ...]:
    """The names of every plug-in of `kind` that comes with the package, sorted.

    >>> "detector" in names("methods")
    True
    """
    _check(kind)
    folder, wanted = Path(__file__).parent.parent / FOLDERS[kind], set(REQUIRED[kind])
    files = [name for name in names_in(folder, ".py") if not name.startswith("_")]
    return tuple(name.removesuffix(".py") for name in files if wanted <= _defined(folder / name))


def load(kind: str, name: str) -> ModuleType:
    """The module of one plug-in, by its name or by the path of a Python file of your own."""
    _check(kind)
    if is_file(name):
        module = _load_file(Path(name))
        trust(name)
    elif name in names(kind):
        module = importlib.import_module(f"sameface.{FOLDERS[kind].replace('/', '.')}.{name}")
    else:
        known = ", ".join(names(kind)) or "none yet"
        raise ValueError(
            f"there is no {_singular(kind)} {name!r}; there are: {known} (or give the path of your own .py file)"
        )
    missing = [part for part in REQUIRED[kind] if not hasattr(module, part)]
    if missing:
        raise ValueError(
            f"{name} cannot be used as a {_singular(kind)}: it does not define {', '.join(missing)}; "
            f"such a file defines {', '.join(REQUIRED[kind])}"
        )
    return module


def dataset_at(source: str) -> tuple[ModuleType, Path]:
    """DATASET:FOLDER → the data set's module and the folder. Raises ValueError, or BadData if there is no folder."""
    name, _, folder = source.partition(":")
    if not name or not folder:
        raise ValueError(
            f"data {source!r} does not say what and where; write DATASET:FOLDER, for example scenes:/data/scenes"
        )
    dataset, root = load("datasets", name), Path(folder).expanduser()
    if not root.is_dir():
        raise BadData(f"there is no folder {folder}, where data set {name} was said to be{hint(folder)}")
    return dataset, root


def trust(*files: str | Path) -> None:
    """Python files that data may ask for from now on, in this process; each is known by what is in it.

    Raises ValueError for a file that is not there.
    """
    for file in files:
        path = Path(file).expanduser().resolve()
        if not path.is_file():
            raise ValueError(f"there is no file {file}; give the path of an existing .py file")
        digest = sha256(path)
        _trusted.pop(digest, None)
        _trusted[digest] = path


def trusted() -> tuple[Path, ...]:
    """The files that were trusted, for a process that is to trust the same ones."""
    return tuple(_trusted.values())


def fingerprint(name: str) -> dict[str, str]:
    """What to write down beside a plug-in's name, so that `named` knows a file again: nothing for one of ours."""
    return {"sha256": sha256(Path(name).expanduser().resolve())} if is_file(name) else {}


def named(kind: str, name: Any, digest: Any, where: Path, flag: str = "--plugin") -> ModuleType:
    """The module of a plug-in that the file `where` names: one of ours, or a file that the user trusts.

    `digest` is the sha256 that stands beside the name (None in files before 0.2.0, and where somebody wrote the file by
    hand: then the file's name decides).
    Raises BadData, with the flag to give, for any other file, and for what is no name.
    """
    if not isinstance(name, str):
        raise BadData(f"{where} names a {_singular(kind)} by {name!r}, which is no text; is it whole?")
    if not is_file(name):
        if name not in names(kind):
            raise BadData(f"{where} names the {_singular(kind)} {name!r}; there are: {', '.join(names(kind))}")
        return load(kind, name)
    for known, file in reversed(_trusted.items()):
        if known == digest or (digest is None and file.name == Path(name).name):
            return load(kind, str(file))
    other = f" ({', '.join(file.name for file in _trusted.values())} is not what it was made with)" if _trusted else ""
    raise BadData(
        f"{where} was made with a {_singular(kind)} that is a Python file, {Path(name).name}, and no file of a folder "
        f"is run unless you name it: if you trust it, give {flag} {Path(name).name}{other}"
    )


def is_file(name: str) -> bool:
    """Whether `name` means a Python file of the user's rather than a plug-in of the package."""
    return name.endswith(".py")


def _defined(file: Path) -> set[str]:
    """What a Python file defines at its top level, without running it."""
    defined = set()
    for statement in ast.parse(file.read_text(encoding="utf-8")).body:
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            defined.add(statement.name)
        elif isinstance(statement, ast.Assign):
            defined |= {target.id for target in statement.targets if isinstance(target, ast.Name)}
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            defined.add(statement.target.id)
    return defined


def _load_file(path: Path) -> ModuleType:
    """Import a file from anywhere, once per process, without touching `sys.path`."""
    path = path.expanduser().resolve()
    if not path.is_file():
        raise ValueError(f"there is no file {path}; give a plug-in's name or the path of an existing .py file")
    unique = f"sameface_plugin_{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}"
    if unique in sys.modules:
        return sys.modules[unique]
    spec = importlib.util.spec_from_file_location(unique, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"Python cannot import {path}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[unique] = module  # dataclasses look their own module up while it is being imported
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[unique]
        raise
    return module


def _check(kind: str) -> None:
    if kind not in REQUIRED:
        raise ValueError(f"there is no kind of plug-in {kind!r}; there are: {', '.join(REQUIRED)}")


def _singular(kind: str) -> str:
    return {"datasets": "data set", "morphable": "morphable model"}.get(kind, kind.removesuffix("s"))
