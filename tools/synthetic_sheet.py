"""The sheet of sixty synthetic people: `python tools/synthetic_sheet.py` → docs/images/synthetic-people.jpg."""

import sys

import cv2
import numpy as np
import torch

from sameface.morphable import default
from sameface.synthetic.look import load_skin
from sameface.synthetic.people import draw, look_at, prepare, render

ROWS, COLUMNS, SIZE = 6, 10, 160


def main() -> None:
    torch.set_num_threads(1)
    people, pictures = draw(default(), load_skin(), ROWS * COLUMNS, np.random.default_rng(5)), []
    for k in range(ROWS * COLUMNS):
        head = prepare(people, k)
        view = look_at(head, np.random.default_rng([7, k]), SIZE)
        pictures.append(render(head, view, camera_noise=k % 2 == 0).image)
    sheet = np.vstack([np.hstack(pictures[i : i + COLUMNS]) for i in range(0, len(pictures), COLUMNS)])
    out = sys.argv[1] if len(sys.argv) > 1 else "docs/images/synthetic-people.jpg"
    cv2.imwrite(out, sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 85])


if __name__ == "__main__":
    main()
