"""A picture of the shipped morphable model: its mean, its first modes, and its expressions, from the front and turned.

`model_sheet.py [FILE]` writes the contact sheet (default docs/images/model.png).
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from sameface.core.camera import WeakPerspective
from sameface.core.geometry import rotation_from_euler
from sameface.morphable import MorphableModel, default
from sameface.reconstruction import picture
from sameface.reconstruction.viewer import clay

MODES = 6
SIGMAS = 3.0
EXPRESSIONS = (
    ("jawOpen",), ("eyeBlinkLeft", "eyeBlinkRight"), ("mouthSmileLeft", "mouthSmileRight"), ("browInnerUp",),
    ("mouthPucker",), ("cheekPuff",), ("mouthFunnel",), ("eyeLookOutLeft", "eyeLookInRight"),
    ("noseSneerLeft", "noseSneerRight"), ("jawLeft",), ("mouthRollLower",), ("browDownLeft", "browDownRight"),
    ("mouthFrownLeft", "mouthFrownRight"), ("eyeLookDownLeft", "eyeLookDownRight"), ("mouthShrugLower",),
)  # fmt: skip
SIZE, SCALE, HEIGHT = (270, 300), 0.98, 300
"""px of a render, px per mm, px of a cell's height"""
TURN = np.radians(-38.0)
COLOURS = 48
"""of the palette: greys and skin need few, and the file stays small"""


def render(model: MorphableModel, vertices: np.ndarray) -> np.ndarray:
    """The mesh from the front and three-quarter, side by side."""
    pair = []
    for yaw in (0.0, TURN):
        rotation = rotation_from_euler(np.array(0.0), np.array(yaw), np.array(0.0))
        middle = rotation @ np.array([0.0, 8.0, -42.0])
        shift = np.array(SIZE) / 2 - SCALE * middle[:2]
        camera = WeakPerspective(rotation, shift, np.array(SCALE), SIZE)
        pair.append(picture.render(vertices, model.faces, camera, colours=clay(model), background=(246, 246, 244)))
    return np.concatenate(pair, axis=1)


def cells(model: MorphableModel) -> Iterator[tuple[str, np.ndarray]]:
    """(title, mesh): mean, modes, expressions."""
    yield "mean", model.mean
    for mode in range(MODES):
        for sign in (-1, 1):
            identity = np.zeros(model.n_identity)
            identity[mode] = sign * SIGMAS
            yield f"mode {mode + 1} at {sign * SIGMAS:+.0f} standard deviations", model.vertices(identity)
    for names in EXPRESSIONS:
        expression = np.array([float(name in names) for name in model.expression_names])
        yield _title(names), model.vertices(np.zeros(model.n_identity), expression)


def _title(names: tuple[str, ...]) -> str:
    """`eyeBlinkLeft, eyeBlinkRight` is `eyeBlink`, both sides."""
    stems = {name.removesuffix("Left").removesuffix("Right") for name in names}
    return f"{stems.pop()}, both" if len(names) > 1 and len(stems) == 1 else ", ".join(names)


def main(file: Path) -> None:
    """Write the sheet."""
    model = default()
    titles, meshes = zip(*cells(model), strict=True)
    sheet = picture.contact_sheet([render(model, mesh) for mesh in meshes], 4, titles, height=HEIGHT)
    file.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).quantize(COLOURS, dither=Image.Dither.NONE).save(file, optimize=True)
    print(f"{file}: {sheet.shape[1]}×{sheet.shape[0]} px, {file.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent / "docs" / "images" / "model.png")
