"""A head in the layout of ICT-FaceKit's npz, made of the model that ships: the whole recipe runs on it."""

from pathlib import Path

import numpy as np

from sameface.morphable import MorphableModel

ORIGIN = np.array([0.0, -4.07, 92.51])
"""mm: where our origin, the mean of the landmarks, lies in the source's frame"""
CUT = np.array([0.0, -1.0, -1.6])
"""mm: moves all rims beyond the recipe's cutting planes, so that it has something to cut"""
SPLIT = ("browInnerUp", "cheekPuff")


def write(model: MorphableModel, path: Path) -> int:
    """Write the head; the number of vertices of its narrow face, which come first."""
    parts = _parts(model)
    order = np.concatenate(list(parts.values()))
    new = np.full(model.n_vertices, -1)
    new[order] = np.arange(len(order))
    faces = new[model.faces]
    kept = (faces >= 0).all(1)  # the middle of the closed throat goes
    ends = np.cumsum([len(part) for part in parts.values()])
    ranges = np.stack([ends - [len(part) for part in parts.values()], ends], axis=1)
    names = {"face": "face", "head_neck": "head_neck"} | {name: name for name in list(parts)[2:]}

    def vertices(where: np.ndarray, weights: np.ndarray) -> np.ndarray:
        return new[model.faces[where][np.arange(len(where)), weights.argmax(1)]]

    assert model.contour_faces is not None
    assert model.contour_weights is not None
    jaw_on_bone = vertices(model.landmark_faces, model.landmark_weights)
    outline = vertices(model.contour_faces, model.contour_weights)
    expression_names, expression = _expressions(model)
    np.savez(
        path,
        mean=((model.mean + ORIGIN + CUT) / 10)[order].astype(np.float32),
        identity=np.moveaxis(model.identity_basis, 2, 0)[:, order] / np.float32(10),
        expression=expression[:, order] / np.float32(10),
        expression_names=np.array(expression_names),
        polygons=np.concatenate([faces[kept], np.full((kept.sum(), 1), -1)], axis=1),
        part_names=np.array([names[name] for name in parts]),
        part_ranges=ranges,
        landmarks68_jaw_on_surface=jaw_on_bone,
        landmarks68=np.concatenate([outline, jaw_on_bone[17:]]),
        mediapipe468_triangles=new[model.faces[model.extra["mediapipe_faces"][:468]]],
        mediapipe468_weights=model.extra["mediapipe_weights"][:468],
    )
    return len(parts["face"])


def _parts(model: MorphableModel) -> dict[str, np.ndarray]:
    """The vertices of the source's seven parts, in its order; the last vertex of our model closes the throat."""
    x, y, _ = model.mean.T
    face, skin, eyes, sockets = (model.regions[name] for name in ("face", "skin", "eyeballs", "sockets"))
    flags = {
        "face": face,
        "head_neck": skin & ~face,
        "mouth_socket": sockets & (y < 10) & (np.arange(len(x)) < len(x) - 1),
        "eye_socket_left": sockets & (y > 10) & (x > 0),
        "eye_socket_right": sockets & (y > 10) & (x < 0),
        "eyeball_left": eyes & (x > 0),
        "eyeball_right": eyes & (x < 0),
    }
    return {name: np.flatnonzero(flag) for name, flag in flags.items()}


def _expressions(model: MorphableModel) -> tuple[list[str], np.ndarray]:
    """The source's 57 names and shapes (57, V, 3): sides as `_L` and `_R`, two shapes in halves, four not of ARKit."""
    names, shapes = [], []
    for k, name in enumerate(model.expression_names):
        shape = model.expression_basis[..., k]
        if name in SPLIT:
            names += [f"{name}_L", f"{name}_R"]
            shapes += [0.5 * shape, 0.5 * shape]
            continue
        whole = name.startswith("jaw") or name in ("mouthLeft", "mouthRight")
        names.append(name if whole else name.replace("Left", "_L").replace("Right", "_R"))
        shapes.append(shape)
    extra = [f"{name}_{side}" for name in ("cheekRaiser", "PupilDilate") for side in "LR"]
    return names + extra, np.stack(shapes + [np.zeros_like(shapes[0])] * 4).astype(np.float32)
