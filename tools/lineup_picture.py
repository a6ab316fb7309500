"""Twelve people in grey: `python tools/lineup_picture.py` → docs/images/lineup.jpg.

Two public-domain photos (Eileen Collins, NASA; Grace Hopper, US Navy) and ten synthetic people whose true shape is
known: a photo each, the shape that one photo gives, the shape that photos from seven sides give, and the truth.
"""

import sys

import cv2
import numpy as np
import torch

import sameface
from sameface.core.camera import WeakPerspective
from sameface.core.geometry import rotation_from_euler
from sameface.morphable import default
from sameface.reconstruction.picture import contact_sheet, render
from sameface.synthetic.look import load_skin
from sameface.synthetic.people import draw, look_at, prepare
from sameface.synthetic.people import render as photograph

SYNTHETIC, SIDE, PHOTO, VIEWS = 10, 300, 320, 7
TURN = 28.0
"""degrees: a grey face from straight ahead shows little"""


def grey(vertices: np.ndarray) -> np.ndarray:
    rotation = rotation_from_euler(np.zeros(1), np.radians([TURN]), np.zeros(1))[0]
    camera = WeakPerspective(rotation, np.array([SIDE / 2, SIDE * 0.56]), np.array(SIDE / 250), (SIDE, SIDE))
    return render(vertices, default().faces, camera)


def shapes(photos: list[np.ndarray]) -> tuple[np.ndarray, list[np.ndarray]]:
    """The first photo's face, and the shapes in grey: of the first photo, and of all if there are several."""
    answers = [sameface.reconstruct(photos[0])] + ([sameface.reconstruct(photos)] if len(photos) > 1 else [])
    face = cv2.resize(answers[0].views[0].seen.picture, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    return face, [grey(answer.vertices()) for answer in answers]


def main() -> None:
    from matplotlib import cbook
    from skimage import data

    torch.set_num_threads(1)
    white, hopper = (
        np.full((SIDE, SIDE, 3), 255, np.uint8),
        str(cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)),
    )
    columns = []
    for photo in (data.astronaut(), hopper):
        face, (one,) = shapes([photo])
        columns.append([face, one, white, white])
    people = draw(default(), load_skin(), SYNTHETIC, np.random.default_rng(21))
    for k in range(SYNTHETIC):
        head = prepare(people, k)
        taken = [look_at(head, np.random.default_rng([21, k, view]), PHOTO) for view in range(VIEWS)]
        face, both = shapes([photograph(head, view, camera_noise=False).image for view in taken])
        columns.append([face, *both, grey(default().vertices(people.identity[k]))])
    tiles = [column[row] for row in range(4) for column in columns]
    titles = ["photo", "from this photo", f"from {VIEWS} photos", "truth"]
    sheet = contact_sheet(tiles, len(columns), [title for title in titles for _ in columns], height=150)
    out = sys.argv[1] if len(sys.argv) > 1 else "docs/images/lineup.jpg"
    cv2.imwrite(out, cv2.cvtColor(sheet, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 88])
    print(out)


if __name__ == "__main__":
    main()
