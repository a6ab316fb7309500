"""What tests share. Because of this file pytest puts its folder on the import path, so tests may import each other."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from importlib import import_module
from pathlib import Path
from typing import Any

import jaxtyping
import numpy as np
import pytest
from hypothesis import HealthCheck, settings

from sameface.morphable import MorphableModel

# the same examples every time: a change is judged by what it changes; studies/stress_tests.py looks for new ones
house = settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.too_slow])  # slow is no failure
settings.register_profile("house", house, derandomize=True)
settings.register_profile("seeds", house)
settings.load_profile("house")


@contextmanager
def uncounted() -> Iterator[None]:
    """Coverage looks at every line of Python, whoever wrote it, and that takes twice the time: not at these."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


@contextmanager
def unchecked() -> Iterator[None]:
    """jaxtyping looks at the arguments of every call: of millions of small ones that takes minutes."""
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", False)


if sys.gettrace() is not None:
    with uncounted():
        for package in "torch onnx ray scipy.optimize sklearn.metrics skimage.data matplotlib.pyplot trimesh".split():
            with suppress(ImportError):
                import_module(package)


def pytest_terminal_summary(terminalreporter):
    """A line for each reason why something was not tested, not one for each place in the tests."""
    skipped = terminalreporter.stats.get("skipped", ())
    reasons = Counter(str(one.longrepr[2]).removeprefix("Skipped: ") for one in skipped)
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"skipped {count}: {reason}")


COLUMNS, ROWS = 7, 8
N_IDENTITY, N_EXPRESSION = 6, 4


@pytest.fixture(scope="session", autouse=True)
def torch_translates_uncounted() -> Iterator[None]:
    """torch's exporter is thousands of lines of Python."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        yield
        return

    @wraps(torch.onnx.export)
    def export(*args, export=torch.onnx.export, **kwargs):
        with uncounted():
            return export(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.onnx, "export", export)
        yield


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Finds a part of the research data, in the folder that SAMEFACE_SHARED names (default ../shared)."""
    root = Path(os.environ.get("SAMEFACE_SHARED", "../shared"))

    def part(name: str) -> Path:
        for path in (root, root / name):
            if not path.exists():
                pytest.skip(f"{path} is not there (set SAMEFACE_SHARED): what needs it is NOT tested")
        return root / name

    return part


@pytest.fixture(scope="session")
def tiny_model() -> MorphableModel:
    """A bowl-shaped patch of 7 × 8 vertices, 120 × 140 mm, with smooth random modes that no camera can imitate."""
    rng = np.random.default_rng(0)
    x, y = (g.reshape(-1) for g in np.meshgrid(np.linspace(-60, 60, COLUMNS), np.linspace(-70, 70, ROWS)))
    mean = np.stack([x, y, 40 - (x**2 + y**2) / 100 + 12 * np.exp(-(x**2 + y**2) / 400)], axis=1).astype(np.float32)
    corner = (np.arange(ROWS - 1)[:, None] * COLUMNS + np.arange(COLUMNS - 1)).reshape(-1)
    quads = np.stack([corner, corner + 1, corner + COLUMNS + 1, corner + COLUMNS], axis=1)
    faces = np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)
    u, v = x / 60, y / 70
    waves = np.stack([u**i * v**j for i in range(5) for j in range(5) if 2 <= i + j <= 4], axis=1)
    waves = np.linalg.qr(waves - waves.mean(0))[0]

    def modes(count: int, millimetres: float) -> np.ndarray:
        raw = np.einsum("vw,wcs->vcs", waves, rng.normal(size=(waves.shape[1], 3, count)))
        return (millimetres * raw / np.sqrt((raw**2).sum(1).mean(0))).astype(np.float32)

    weights = rng.dirichlet(np.ones(3), 68).astype(np.float32)
    return MorphableModel(
        name="tiny",
        licence="none",
        mean=mean,
        identity_basis=modes(N_IDENTITY, 3.0),
        expression_basis=modes(N_EXPRESSION, 5.0),
        expression_names=("jawOpen", "mouthSmileLeft", "mouthSmileRight", "browInnerUp"),
        expression_range=(0.0, 1.0),
        faces=faces,
        landmark_faces=rng.permutation(len(faces))[:68].astype(np.int32),
        landmark_weights=weights,
        contour_faces=np.arange(17, dtype=np.int32),
        contour_weights=weights[::-1][:17].copy(),
        mirror=np.arange(COLUMNS * ROWS, dtype=np.int32).reshape(ROWS, COLUMNS)[:, ::-1].reshape(-1).copy(),
        uv=np.stack([(u + 1) / 2, (v + 1) / 2], axis=1).astype(np.float32),
        regions={"face": np.hypot(u, v) < 0.9},
        extra={"middle": np.array([COLUMNS * ROWS // 2], np.int32)},
    )
