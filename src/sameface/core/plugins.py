"""The folder is the registry: a method, data set, benchmark or morphable model is one file, named by its file name.

`names("methods")` lists the files of `sameface/training/methods/` that define what a method must;
`load("methods", "detector")` imports one of them. The path of your own file works in place of a name everywhere:
`load("methods", "./mine.py")`.
"""

import ast
import hashlib
import importlib
import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from sameface.core.errors import BadData
from sameface.core.files import hint, names_in

__all__ = ["dataset_at", "is_file", "load", "names"]

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
