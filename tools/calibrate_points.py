"""Where do MediaPipe's points really lie on the model? `python tools/calibrate_points.py` → assets/dense_points.npz.

The ICT model says where each point lies to within a millimetre or two, the outline worse; that error is the same for
everybody, so a fit would give everybody the same wrong brow and jaw. Here photos of many people (train split, seen by
the present network) are fitted with the mean face; what is left over on average, per point, in the model's frame, is
the point's offset (mm). By construction the average person of the photos then is the average face. Offsets lie in the
plane of the face (x, y: in depth the labels of turned faces are too poor), are symmetric, and lose what a camera could
explain. Expressions: the share of each blendshape that every photo seems to have (its 20th percentile) is taken for an
offset too, not for an expression.
"""

import os
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from sameface.core.geometry import align
from sameface.morphable import default
from sameface.morphable.points import Points
from sameface.photo.predictor import load
from sameface.reconstruction.fit import Measured, Priors, fit

OUT = Path("src/sameface/assets/dense_points.npz")
PHOTOS, ROUNDS = 3000, 3


def left_over(points: Points, measured: Measured) -> np.ndarray:
    """(L, 3) mm: least squares over the photos of what the projected mean face misses, per point."""
    answer = fit(points, measured, Priors(identity=1e6, network=0.0, expression=5.0), shared=False)
    seen = points(0 * answer.identity, answer.expression)
    missed = measured.landmarks - answer.camera.project(seen)
    camera = answer.camera.scale[:, None, None] * answer.camera.rotation[:, :2]  # (N, 2, 3) px per mm
    weight = 1 / measured.sigma**2
    weight *= np.minimum(1, 1.5 * measured.sigma / np.maximum(np.linalg.norm(missed, axis=2), 1e-9))
    normal = np.einsum("nl,nak,nam->lkm", weight, camera, camera, optimize=True)
    slope = np.einsum("nl,nak,nla->lk", weight, camera, missed, optimize=True)
    along = np.linalg.solve(normal[:, :2, :2], slope[:, :2, None])[..., 0]
    return np.concatenate([along, np.zeros((len(along), 1))], axis=1)


def symmetric(offset: np.ndarray, mean: np.ndarray) -> np.ndarray:
    pairs = np.linalg.norm(mean[:, None] - mean[None] * [-1, 1, 1], axis=2).argmin(1)
    return 0.5 * (offset + offset[pairs] * [-1, 1, 1])


def main() -> None:
    sys.path.append(str(Path(__file__).parent.parent / "studies"))  # what the pipeline sees of the face table is there
    from table import observed

    network, model = load("default"), default()
    ids = np.array(network.description["point_ids"])
    exact = Points.of(model, model.extra["mediapipe_faces"][ids], model.extra["mediapipe_weights"][ids])
    data = observed("train", every=max(1, 39939 // PHOTOS))
    floor = np.percentile(data.measured.expression, 20, axis=0)
    measured = replace(data.measured, expression=np.clip(data.measured.expression - floor, 0, 1),
                       identity=0 * data.measured.identity)  # fmt: skip
    offset = np.zeros_like(exact.mean)
    for _ in range(ROUNDS):
        offset = symmetric(offset + left_over(replace(exact, mean=exact.mean + offset), measured), exact.mean)
        s, turn, shift = align((exact.mean + offset)[:, :2], exact.mean[:, :2])
        offset[:, :2] = s * (exact.mean + offset)[:, :2] @ turn.T + shift - exact.mean[:, :2]
        size = np.linalg.norm(offset, axis=1)
        print(f"offset rms {np.sqrt((size**2).mean()):.2f} mm, largest {size.max():.2f}")
    np.savez(OUT, ids=ids.astype(np.int32), offsets=offset.astype(np.float32))
    print(f"{OUT}: from {len(data.row)} photos; expression floor", {
        n: round(float(v), 2) for n, v in zip(model.expression_names, floor, strict=True) if v > 0.05})  # fmt: skip


if __name__ == "__main__":
    sys.exit(main() if os.environ.get("SAMEFACE_SHARED") or Path("../shared").exists() else "no research data found")
