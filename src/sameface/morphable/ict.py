"""ICT-FaceKit Light (Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020). MIT licence.

The file is one .npz with the full head of 17,202 vertices in centimetres: `mean`, `identity` (one σ each),
`expression` (weight 1), quads, UV, 68 landmarks twice, and the place of MediaPipe's 468 face-mesh points.
The source splits browInnerUp and cheekPuff in halves and adds four shapes that ARKit does not have; here they are
merged and dropped, which leaves 51 of ARKit's 52 names (tongueOut has no shape).
"""

from pathlib import Path

import numpy as np

from sameface.core.errors import BadModel
from sameface.core.npz import read_npz
from sameface.morphable import LARGEST_FILE, MorphableModel

__all__ = ["load"]

MM_PER_UNIT = 10.0
NOT_ARKIT = ("PupilDilate", "cheekRaiser")
MERGED = ("browInnerUp", "cheekPuff")
NARROW_FACE = 6706
"""the source's vertices 0..6705 are the face without ears, neck and scalp"""


def load(path: Path) -> MorphableModel:
    """The full head as a MorphableModel; UV is dropped (it is per corner), parts become `regions`.

    Raises BadModel when an array is missing or has the wrong shape.
    """
    try:
        source = read_npz(path, LARGEST_FILE, error=BadModel)
        n = len(source["mean"])
        faces = _triangles(source["polygons"])
        names, expression = _arkit(source["expression_names"], source["expression"])
        on_face, weights = _at_vertices(faces, source["landmarks68_jaw_on_surface"])
        contour, contour_weights = _at_vertices(faces, source["landmarks68"][:17])
        regions = {
            str(name): np.isin(np.arange(n), np.arange(*span))
            for name, span in zip(source["part_names"], source["part_ranges"], strict=True)
        }
        model = MorphableModel(
            name="ICT-FaceKit Light",
            licence="MIT, Copyright (c) 2020 USC Institute for Creative Technologies",
            mean=source["mean"].astype(np.float32) * MM_PER_UNIT,
            identity_basis=np.moveaxis(source["identity"].astype(np.float32), 0, 2) * MM_PER_UNIT,
            expression_basis=np.moveaxis(expression, 0, 2) * MM_PER_UNIT,
            expression_names=names,
            expression_range=(0.0, 1.0),
            faces=faces,
            landmark_faces=on_face,
            landmark_weights=weights,
            contour_faces=contour,
            contour_weights=contour_weights,
            mirror=_mirror(source["mean"]),
            regions=regions | {"narrow_face": np.arange(n) < NARROW_FACE},
            extra={
                "mediapipe_corners": source["mediapipe468_triangles"],
                "mediapipe_weights": source["mediapipe468_weights"],
            },
        )
    except (KeyError, IndexError, TypeError, OSError, ValueError) as error:
        raise BadModel(f"{path} is not the ICT-FaceKit Light npz: {error!r}") from None
    return model


def _triangles(polygons: np.ndarray) -> np.ndarray:
    """Quads (and triangles marked by −1) as triangles."""
    quads = polygons[polygons[:, 3] >= 0]
    return np.concatenate([polygons[:, :3], quads[:, [0, 2, 3]]]).astype(np.int32)


def _arkit(names: np.ndarray, offsets: np.ndarray) -> tuple[tuple[str, ...], np.ndarray]:
    """Shapes (E, V, 3) under their ARKit names: `_L`/`_R` become Left/Right, split halves are added up."""
    merged: dict[str, np.ndarray] = {}
    for name, shape in zip(names.tolist(), offsets.astype(np.float32), strict=True):
        stem, _, side = name.partition("_")
        if stem in NOT_ARKIT:
            continue
        key = stem if stem in MERGED else stem + {"L": "Left", "R": "Right", "": ""}[side]
        merged[key] = merged.get(key, 0) + shape
    return tuple(merged), np.stack(list(merged.values()))


def _at_vertices(faces: np.ndarray, vertices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A (face, barycentric weights) pair for points that sit on vertices."""
    first = np.full(faces.max() + 1, -1)
    first[faces[::-1].reshape(-1)] = np.repeat(np.arange(len(faces))[::-1], 3)
    chosen = first[vertices]
    return chosen.astype(np.int32), (faces[chosen] == vertices[:, None]).astype(np.float32)


def _mirror(mean: np.ndarray) -> np.ndarray:
    """The vertex nearest to each vertex's mirror image; the source's mean is symmetric to half a millimetre."""
    from scipy.spatial import KDTree

    nearest = KDTree(mean).query(mean * np.array([-1, 1, 1], np.float32))[1]
    mirror = np.asarray(nearest, np.int32)
    if not (mirror[mirror] == np.arange(len(mean))).all():
        raise ValueError("the mean face is not symmetric, so no mirror map can be made")
    return mirror
