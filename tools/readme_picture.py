"""The picture of the README: `python tools/readme_picture.py` → docs/images/faces.jpg.

Two public-domain photos (Eileen Collins, NASA; Grace Hopper, US Navy), each with the fitted mesh over it, the neutral
face, the textured face from the side, and the same face smiling, which is the blendshapes' work.
"""

from pathlib import Path

import cv2
import numpy as np

import sameface
from sameface.core.camera import WeakPerspective
from sameface.core.geometry import rotation_from_euler
from sameface.reconstruction.picture import contact_sheet, render

SIDE = 420


def drawn(vertices: np.ndarray, faces: np.ndarray, yaw: float, skin: tuple | None = None) -> np.ndarray:
    """A head turned by so many degrees, in the middle of the picture."""
    rotation = rotation_from_euler(np.zeros(1), np.radians([yaw]), np.zeros(1))[0]
    flat = (vertices @ rotation.T)[:, :2] * SIDE / 320
    camera = WeakPerspective(rotation, SIDE / 2 - (flat.min(0) + flat.max(0)) / 2, np.array(SIDE / 320), (SIDE, SIDE))
    return render(vertices, faces, camera, skin=skin)


def squared(pixels: np.ndarray) -> np.ndarray:
    side = min(pixels.shape[:2])
    top, left = ((np.array(pixels.shape[:2]) - side) // 2).tolist()
    return cv2.resize(pixels[top : top + side, left : left + side], (SIDE, SIDE), interpolation=cv2.INTER_AREA)


def row(answer: sameface.Reconstruction) -> list[np.ndarray]:
    head = answer.head
    skin, smile = (answer.texture, head.uv), np.zeros(head.n_expression)
    for name, weight in {
        "mouthSmileLeft": 0.8,
        "mouthSmileRight": 0.8,
        "cheekSquintLeft": 0.5,
        "cheekSquintRight": 0.5,
    }.items():
        smile[head.expression_names.index(name)] = weight
    neutral, smiling = answer.vertices(head=True), head.vertices(answer.identity, smile)
    return [
        squared(answer.views[0].seen.picture), squared(answer.overlay()), drawn(neutral, head.faces, 0),
        drawn(neutral, head.faces, 55), drawn(neutral, head.faces, -40, skin), drawn(smiling, head.faces, -15, skin),
    ]  # fmt: skip


def main() -> None:
    from matplotlib import cbook
    from skimage import data

    photos = [data.astronaut(), str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False))]
    tiles = [tile for photo in photos for tile in row(sameface.reconstruct(photo))]
    titles = ["photo", "fit over the photo", "neutral", "from the side", "textured", "made to smile"] * 2
    sheet = contact_sheet(tiles, 6, titles, height=300)
    path = Path("docs/images/faces.jpg")
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(path)


if __name__ == "__main__":
    main()
