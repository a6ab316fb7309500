"""What does the network say of expressions that are not there, and how far is it off? → into the network's file.

    python tools/calibrate_expressions.py runs/points

A network that hedges says a little smile of every serious face, and the fit then keeps it. On photos of the train split
(heads turned by less than 40°) each blendshape's zero is what the network says, in the median, where the teacher says
none; its error is what is left between teacher and network once zero counts as none. Blinks are what the network of
the eyes says, and have an error of their own. The file `default.onnx` gets `expression_zero`, `expression_error`, and
the places of the points (`dense_points.npz`) as they are now. To be run after every `sameface export` of a network for
points.
"""

import sys
from pathlib import Path

import numpy as np

from sameface.core.geometry import apply_affine, inverse_affine
from sameface.photo import image
from sameface.photo.eyes import BLINKS, look_again
from sameface.photo.observe import expected
from sameface.photo.predictor import FIVE, affine_from_landmarks, load, second
from sameface.training.datasets import pointlabels
from sameface.training.dense_points import dense_points
from sameface.training.export import annotate

NONE = 0.03
"""of a blendshape that the teacher does not see"""
LEAST_SEEN = 0.8
"""share of the dense points that a head shows which is turned by less than some 40°"""
ROWS, FEWEST = 3000, 50
BLINK_ERROR = 0.042
"""of blinks: held eight times. The lids' points come from the same look as the blink and would count it twice; held
once, squints and looks downwards take half of a blink"""


def main(labels: Path) -> None:
    network, data = load("default"), pointlabels.load(labels, "train")
    size, five = network.size, [list(network.description["point_ids"]).index(k) for k in FIVE]
    shown = np.stack([np.asarray(w, np.float32) for w in data.labels["weight"]])
    shapes = np.stack([np.asarray(b, np.float64) for b in data.labels["blendshapes"]])
    frontal = (shown > 0.5).mean(1) > LEAST_SEEN
    usable = np.flatnonzero((data.source == "faces") & np.isfinite(shapes).all(1) & frontal)
    said = []
    chosen = np.random.default_rng(0).permutation(usable)[:ROWS]
    index = {int(k): j for j, k in enumerate(data.order)}
    for k in chosen.tolist():
        item = data[index[k]]
        around = item["landmarks"].astype(np.float64)
        for _ in range(2):
            affine = affine_from_landmarks(around, around[five], size)
            answer = network(image.crop(item["image"], affine, (size, size), edge=True)[None])
            around = apply_affine(inverse_affine(affine), (answer["landmarks"][0].astype(np.float64) + 0.5) * size)
        said.append(look_again(item["image"], affine[None], answer, network, second().eyes)["expression"][0])
    told, found = shapes[chosen], np.array(said, np.float64)
    none = told < NONE
    few = none.sum(0) < FEWEST
    zero = np.array([0.0 if few[e] else np.median(found[none[:, e], e]) for e in range(found.shape[1])])
    error = np.sqrt(((expected(found, zero) - told) ** 2).mean(0))
    error[[data.blendshapes.index(name) for name in BLINKS]] = BLINK_ERROR
    annotate(network.path, {
        "expression_zero": zero.round(4).tolist(), "expression_error": error.round(4).tolist(),
        "point_offsets_mm": np.round(dense_points()["offsets"].astype(float), 3).tolist(),
    })  # fmt: skip
    for name, *values in zip(data.blendshapes, zero, error, told.mean(0), found.mean(0), strict=True):
        print(f"{name:22s}" + "".join(f"{v:8.3f}" for v in values))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
