"""What others rely on: the public names, what importing costs, and that shapes really are checked in these tests.

After a wanted change of the public names, write the list anew: `python tests/test_public.py`.
"""

import ast
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import TypeCheckError

import sameface
from sameface.core import geometry
from sameface.reconstruction.fit import Priors

PACKAGE = Path(sameface.__file__).parent
PUBLIC = (
    "sameface", "sameface.core.arrays", "sameface.core.camera", "sameface.core.files", "sameface.core.geometry",
    "sameface.core.plugins",
    "sameface.evaluation.case", "sameface.evaluation.evaluate", "sameface.evaluation.report",
    "sameface.evaluation.systems", "sameface.mesh.raster", "sameface.mesh.write", "sameface.morphable",
    "sameface.morphable.formats", "sameface.morphable.points", "sameface.photo.detect", "sameface.photo.face",
    "sameface.photo.image", "sameface.photo.predictor", "sameface.reconstruction.cameras",
    "sameface.reconstruction.fit", "sameface.reconstruction.picture", "sameface.reconstruction.reconstruct",
    "sameface.reconstruction.result", "sameface.reconstruction.texture", "sameface.search.index",
    "sameface.training.export", "sameface.training.train",
)  # fmt: skip
"""the modules whose names others may rely on; the rest may change with any version"""
LIST = Path(__file__).parent / "golden" / "public_names.txt"


def public_names(modules: tuple[str, ...] = PUBLIC) -> list[str]:
    """`module: names` of each module's `__all__`, without importing any."""
    lines = []
    for module in modules:
        path = PACKAGE.parent / (module.replace(".", "/") + ".py")
        path = path if path.is_file() else path.with_suffix("") / "__init__.py"
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and [t.id for t in node.targets if isinstance(t, ast.Name)] == ["__all__"]:
                lines.append(f"{module}: {', '.join(sorted(ast.literal_eval(node.value)))}")
    return lines


def in_a_new_process(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_public_names_change_only_on_purpose():
    assert public_names() == LIST.read_text().splitlines(), "on purpose? then run: python tests/test_public.py"


def test_every_name_that_is_promised_exists():
    paths = (path.relative_to(PACKAGE.parent).with_suffix("") for path in PACKAGE.rglob("*.py"))
    every = tuple(".".join(path.parts).removesuffix(".__init__") for path in paths)
    for line in public_names(every):
        module, _, names = line.partition(": ")
        parts = __import__(module, fromlist=["x"])
        for name in names.split(", "):
            assert hasattr(parts, name), f"{module}.{name}"


def test_the_first_names_are_at_hand_and_a_wrong_one_is_answered_with_them():
    assert set(dir(sameface)) == {*sameface.__all__, "__version__"}
    for name in sameface.__all__:
        assert getattr(sameface, name).__doc__
    assert len(sameface.__all__) <= 12
    with pytest.raises(AttributeError, match="sameface has no 'Camera'; it has Index, MorphableModel, "):
        _ = sameface.Camera


def test_no_room_hides_a_first_name():
    """Importing a room sets an attribute of its name: `sameface.reconstruct` must stay the function."""
    assert not {path.stem for path in PACKAGE.iterdir()} & set(sameface.__all__)


def test_importing_sameface_loads_nothing_heavy():
    heavy = ("torch", "cv2", "onnxruntime", "scipy", "PIL", "tyro", "rich", "pyarrow")
    code = f"import sys, sameface; print([name for name in {heavy} if name in sys.modules])"
    assert in_a_new_process(code) == "[]"


@pytest.mark.parametrize(
    "module",
    ["reconstruction.reconstruct", "reconstruction.outputs", "cli", "morphable.formats", "photo.image", "mesh.write"],
)
def test_what_users_run_loads_neither_torch_nor_any_extra(module):
    extras = ("torch", "onnx", "scipy", "h5py", "igl", "pyarrow", "skimage", "matplotlib")
    code = f"import sys, sameface.{module}; print([name for name in {extras} if name in sys.modules])"
    assert in_a_new_process(code) == "[]"


def test_everything_imported_is_declared():
    """A plain install has what `reconstruct` needs; extras have the rest."""
    project = tomllib.loads((PACKAGE.parent.parent / "pyproject.toml").read_text())["project"]
    module = {"opencv-python-headless": "cv2", "pillow": "PIL", "libigl": "igl", "faiss-cpu": "faiss"}

    def modules(requirements: list[str]) -> set[str]:
        names = [re.match(r"[\w-]+", text)[0] for text in requirements]
        return {module.get(name, name.replace("-", "_")) for name in names}

    plain = modules(project["dependencies"])
    extras = "train", "evaluate", "compile", "bulk", "search"
    extra = {name: modules(project["optional-dependencies"][name]) for name in extras}
    for path in PACKAGE.rglob("*.py"):
        inside = path.relative_to(PACKAGE).as_posix()
        allowed = {"sameface", *plain, *sys.stdlib_module_names}
        if inside.startswith(("training/", "synthetic/", "mesh/render", "core/arrays", "core/tables", "cli/")):
            allowed |= extra["train"]
        if inside.startswith(("metrics/", "evaluation/")):
            allowed |= extra["evaluate"]
        if inside.startswith("morphable/"):
            allowed |= extra["compile"]
        if inside.startswith("bulk/"):
            allowed |= extra["bulk"]
        if inside.startswith("search/"):
            allowed |= extra["search"]
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert {name.partition(".")[0] for name in names} <= allowed, inside


def test_a_wrong_shape_is_an_error_here():
    """Fails when the hook that checks shapes in the tests is off, however that came about."""
    with pytest.raises(TypeCheckError, match="vector"):
        geometry.rotation_from_axis_angle(np.zeros(4))
    with pytest.raises(TypeCheckError, match="target"):
        geometry.align(np.zeros((5, 3)), np.zeros((6, 3)))
    with pytest.raises(TypeCheckError, match="vector"):
        geometry.rotation_from_6d(torch.zeros(2, 5))
    with pytest.raises(TypeCheckError, match="points"):
        geometry.apply_affine(np.zeros((2, 3)), np.zeros((4, 2), int))


def test_a_wrong_type_is_an_error_here():
    with pytest.raises(TypeCheckError, match="rounds"):
        Priors(rounds="many")


def test_no_module_switches_shape_checks_off():
    """`from __future__ import annotations` would."""
    for path in PACKAGE.rglob("*.py"):
        assert "from __future__" not in path.read_text(), path


def test_the_version_is_the_same_everywhere():
    text = (PACKAGE.parent.parent / "pyproject.toml").read_text()
    assert f'version = "{sameface.__version__}"' in text


if __name__ == "__main__":
    LIST.write_text("\n".join(public_names()) + "\n")
