"""ICT-FaceKit Light (Li et al., "Learning Formation of Physically-Based Face Attributes", CVPR 2020). MIT licence.

Two layouts. As published (github.com/ICT-VGL/ICT-FaceKit, the folder FaceXModel): generic_neutral_mesh.obj of 26,719
vertices with teeth and lashes, quads, in centimetres, and one mesh of the same for every mode: identity000.obj … (one
σ each) and the expressions (weight 1) that vertex_indices.json lists; names and order are kept as they are.

Or one .npz with the head of 17,202 vertices in centimetres: `mean`, `identity`, `expression`, quads, UV, 68 landmarks
twice, and the place of MediaPipe's 468 face-mesh points. The source splits browInnerUp and cheekPuff in halves and
adds four shapes that ARKit does not have; there they are merged and dropped, which leaves 51 of ARKit's 52 names
(tongueOut has no shape).
"""

import re
from pathlib import Path

import numpy as np

from sameface.core.errors import BadData, BadModel
from sameface.core.files import names_in, posing, read_bytes, read_json
from sameface.core.npz import read_npz
from sameface.mesh.read import read_obj
from sameface.morphable import LARGEST_FILE, MorphableModel
from sameface.morphable._checks import checked
from sameface.morphable._landmarks import on_vertices

__all__ = ["load"]

MM_PER_UNIT = 10.0
NOT_ARKIT = ("PupilDilate", "cheekRaiser")
MERGED = ("browInnerUp", "cheekPuff")
NARROW_FACE = 6706
"""the source's vertices 0..6705 are the face without ears, neck and scalp"""
NEUTRAL, CONFIG, FOLDER = "generic_neutral_mesh.obj", "vertex_indices.json", "FaceXModel"
LARGEST_MESH, MOST_MODES = 1 << 25, 1000
"""bytes of one .obj (the published have 2.6 MB), and how many there may be"""
PARTS = {
    "face": 9409, "head_neck": 11248, "mouth_socket": 13294, "eye_socket_left": 13678, "eye_socket_right": 14062,
    "gums_tongue": 17039, "teeth": 21451, "eyeball_left": 23021, "eyeball_right": 24591,
}  # fmt: skip
"""the vertex after the last of each part of the published mesh (its README); lashes and fluids follow"""

# "Facial Landmarks" in ICT-FaceKit's README (MIT): Multi-PIE's 68; and the jaw's points on the bone instead of the
# contour, right (0-7) and left (9-16).
CONTOUR_IDS = np.array("""
    1225 1888 1052 367 1719 1722 2199 1447 966 3661 4390 3927 3924 2608 3272 4088 3443
    268 493 1914 2044 1401 3615 4240 4114 2734 2509 978 4527 4942 4857 1140 2075 1147 4269 3360
    1507 1542 1537 1528 1518 1511 3742 3751 3756 3721 3725 3732
    5708 5695 2081 0 4275 6200 6213 6346 6461 5518 5957 5841 5702 5711 5533 6216 6207 6470 5517 5966
    """.split(), np.int64)  # fmt: skip
JAW_IDS = np.array(
    [1278, 1272, 12, 1834, 243, 781, 2199, 1447, 966, 3661, 4390, 3022, 2484, 4036, 2253, 3490, 3496], np.int64
)


def load(path: Path) -> MorphableModel:
    """The full head as a MorphableModel; UV is dropped (it is per corner), parts become `regions`.

    Raises BadModel when an array or a mesh is missing or has the wrong shape.
    """
    if Path(path).is_dir():
        return _published(Path(path))
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
            unit=MM_PER_UNIT,
        )
    except (KeyError, IndexError, TypeError, OSError, ValueError) as error:
        raise BadModel(f"{path} is not the ICT-FaceKit Light npz: {error!r}") from None
    return model


def _published(folder: Path) -> MorphableModel:
    """The model of the folder FaceXModel, or of the repository that has it."""
    folder = folder if (folder / NEUTRAL).is_file() else folder / FOLDER
    neutral, names = folder / NEUTRAL, names_in(folder, ".obj")
    try:
        mesh = read_obj(neutral)
        config = read_json(folder / CONFIG)
    except BadData as error:
        raise BadModel(f"{error}; expected the folder {FOLDER} of ICT-FaceKit as it is published") from None
    expressions = config.get("expressions") if isinstance(config, dict) else None
    if not isinstance(expressions, list) or not all(isinstance(name, str) for name in expressions):
        raise BadModel(f"{folder / CONFIG} lists no expressions; download it again")
    identities = sorted(name for name in names if re.fullmatch(r"identity\d{3}\.obj", name))
    shapes = [f"{name}.obj" for name in expressions]
    absent = [name for name in shapes if name not in names]
    if absent or not identities or len(identities) + len(shapes) > MOST_MODES:
        what = f"lacks {', '.join(absent[:5])}" if absent else f"has {len(identities)} meshes identityNNN.obj"
        raise BadModel(f"{folder} {what}; download the whole folder {FOLDER} of ICT-FaceKit again")
    mean = mesh.vertices.astype(np.float32)
    on_face, weights = on_vertices(np.concatenate([JAW_IDS, CONTOUR_IDS[17:]]), mesh.faces, neutral)
    contour, contour_weights = on_vertices(CONTOUR_IDS[:17], mesh.faces, neutral)
    begin, regions = 0, {"narrow_face": np.arange(len(mean)) < NARROW_FACE}
    for name, end in PARTS.items():
        regions[name], begin = (np.arange(len(mean)) >= begin) & (np.arange(len(mean)) < end), end
    return checked(
        MorphableModel(
            name="ICT-FaceKit Light, as published",
            licence="MIT, Copyright (c) 2020 USC Institute for Creative Technologies",
            mean=mean * MM_PER_UNIT,
            identity_basis=_offsets(folder, identities, mean) * MM_PER_UNIT,
            expression_basis=_offsets(folder, shapes, mean) * MM_PER_UNIT,
            expression_names=tuple(expressions),
            expression_range=(0.0, 1.0),
            faces=mesh.faces,
            landmark_faces=on_face,
            landmark_weights=weights,
            contour_faces=contour,
            contour_weights=contour_weights,
            regions=regions,
            unit=MM_PER_UNIT,
        ),
        folder,
    )


def _offsets(folder: Path, names: list[str], mean: np.ndarray) -> np.ndarray:
    """(V, 3, K): the vertices of each mesh, which has the triangles of the neutral one, minus the neutral's."""
    offsets = np.zeros((*mean.shape, len(names)), np.float32)
    for k, name in enumerate(names):
        content = read_bytes(folder / name, LARGEST_MESH, BadModel)
        if (instead := posing(content[:600])) is not None:
            raise BadModel(f"{folder / name} is {instead}")
        rows = [line.split()[1:4] for line in content.splitlines() if line[:2] == b"v "]
        try:
            vertices = np.array(rows, np.float32)
        except ValueError:
            vertices = np.zeros(0)
        if vertices.shape != mean.shape or not np.isfinite(vertices).all():
            raise BadModel(
                f"{folder / name} has {len(rows)} vertices of numbers, but {NEUTRAL} has {len(mean)}: it was cut "
                "short, or is another model's; download it again"
            )
        offsets[:, :, k] = vertices - mean
    return offsets


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
