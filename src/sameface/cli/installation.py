"""Is this installation well? Versions, and a rendered face through the whole pipeline."""

import importlib.metadata
import platform
import time

import numpy as np

from sameface import __version__, morphable
from sameface.core.camera import WeakPerspective
from sameface.core.errors import NoFaceFound
from sameface.reconstruction import picture
from sameface.reconstruction.reconstruct import reconstruct

__all__ = ["examine"]

PACKAGES = ("numpy", "onnxruntime", "av", "opencv-python-headless", "pillow", "pillow-heif", "torch", "ray")


def examine() -> tuple[list[str], bool]:
    """What to tell the user, line by line, and whether a face was found and fitted."""
    lines = [f"sameface {__version__}, Python {platform.python_version()}, {platform.machine()}"]
    for package in PACKAGES:
        try:
            version = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version = "not installed"
        lines.append(f"  {package:24s} {version}")
    model = morphable.default()
    camera = WeakPerspective(np.diag([1.0, -1.0, -1.0]), np.array([256.0, 256.0]), np.array(1.8), (512, 512))
    start = time.perf_counter()
    try:
        answer = reconstruct(picture.render(model.mean, model.faces, camera))
    except NoFaceFound:
        return [*lines, "  a rendered face was not found: something is wrong with the networks or their runtime"], False
    seconds, score = time.perf_counter() - start, answer.views[0].seen.score
    return [
        *lines,
        f"  a rendered face was found and fitted in {seconds:.2f} s (with start-up), score {score:.2f}",
    ], True
