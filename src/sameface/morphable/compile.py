"""Our default model, made from the ICT head: crop, resample, close, unwrap; modes orthonormal on what is left.

Reading order: `compile_model` is the recipe; each step below it is one function.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, identity, vstack

from sameface.core.geometry import rotation_from_axis_angle
from sameface.morphable import MorphableModel, ict
from sameface.morphable.contact import mended
from sameface.morphable.decimate import boundary_loops, clip, collapse_short_edges, flip_to_delaunay, split_long_edges
from sameface.morphable.head import LOOK
from sameface.morphable.unwrap import unwrap

__all__ = ["compile_model", "orthonormal_modes", "report"]

N_IDENTITY = 80
HALF_FACE = 3400
"""vertices of the half face before mirroring, centre line included"""
HALF_EYE = 140
LONGEST_EDGE = 7.5
NECK_END = -118.0
"""mm: height of the plane in the source's frame that ends the neck"""
IRIS_RADIUS = 5.85
"""mm: half of the 11.7 mm horizontal visible iris diameter"""


@dataclass(frozen=True)
class _Topology:
    """How the new vertices are made of the source's: `weights` (V, V_source), `faces`, `mirror`, one flag per part."""

    weights: csr_matrix
    faces: np.ndarray
    mirror: np.ndarray
    eyeball: np.ndarray
    """(V,) 0 none, 1 left, 2 right"""


def compile_model(source: Path) -> MorphableModel:
    """The shipped model from the ICT npz: 7,000 vertices, 80 identity modes, 51 ARKit expressions, one UV atlas."""
    head = ict.load(source)
    topology = _resample(head)
    made = topology.weights
    mean = made @ _symmetric_mean(head)
    basis, _ = orthonormal_modes(_through(made, head.identity_basis), mean, N_IDENTITY)
    expression = _with_gaze(head, topology, mean, _through(made, head.expression_basis))
    origin = np.zeros(3)
    model = MorphableModel(
        name="sameface-ict",
        licence="MIT; compiled from ICT-FaceKit Light, Copyright (c) 2020 USC Institute for Creative Technologies",
        mean=(mean - origin).astype(np.float32),
        identity_basis=basis.astype(np.float32),
        expression_basis=expression.astype(np.float32),
        expression_names=head.expression_names,
        expression_range=(0.0, 1.0),
        faces=topology.faces,
        landmark_faces=np.zeros(68, np.int32),
        landmark_weights=np.zeros((68, 3), np.float32),
        mirror=topology.mirror,
        uv=unwrap(mean, topology.faces, topology.mirror, topology.eyeball, _texel_share(head, topology)),
        regions=_regions(head, topology, mean),
    )
    return mended(_centred(_with_points(model, head, topology)))


def orthonormal_modes(
    modes: Float[np.ndarray, "V 3 S"], mean: Float[np.ndarray, "V 3"], count: int
) -> tuple[Float[np.ndarray, "V 3 N"], float]:
    """PCA of the faces Σ_s N(0,1) modes_s after taking rigid motion out: `count` modes of one σ, and the variance kept.

    The modes of a whole head are orthogonal over the head, not over a part of it; on the part their covariance is
    B Bᵀ, whose eigenvectors (left singular vectors of B) are orthonormal again and whose σ are B's singular values.
    """
    flat = modes.reshape(-1, modes.shape[2]).astype(np.float64)
    rigid = np.linalg.qr(_rigid_motions(mean, mean.mean(0)))[0]
    flat = flat - rigid @ (rigid.T @ flat)
    u, s, _ = np.linalg.svd(flat, full_matrices=False)
    sign = np.sign(u[np.abs(u).argmax(0), np.arange(u.shape[1])])
    kept = float((s[:count] ** 2).sum() / (s**2).sum())
    return (u * s * sign)[:, :count].reshape(*modes.shape[:2], count), kept


def _rigid_motions(points: np.ndarray, centre: np.ndarray) -> np.ndarray:
    """(3V, 6): the three shifts and, about the centre, the three infinitesimal turns of a mesh."""
    shifts = [np.tile(axis, (len(points), 1)) for axis in np.eye(3)]
    turns = [np.cross(axis, points - centre) for axis in np.eye(3)]
    return np.stack([m.reshape(-1) for m in shifts + turns], axis=1)


def _symmetric_mean(head: MorphableModel) -> np.ndarray:
    assert head.mirror is not None
    return 0.5 * (head.mean + head.mean[head.mirror] * [-1, 1, 1]).astype(np.float64)


def _through(made: csr_matrix, basis: np.ndarray) -> np.ndarray:
    return (made @ basis.reshape(basis.shape[0], -1)).reshape(made.shape[0], 3, -1)  # pyright: ignore[reportOptionalSubscript]


# ── topology ───────────────────────────────────────────────────────────────────────────────────────────────


def _crop_planes(head: MorphableModel) -> np.ndarray:
    """mm before the planes behind face, ears and throat: positive where the source is kept."""
    _, y, z = head.mean.T.astype(np.float64)
    scalp = (75 * (z - 62) - 92 * (y - 122)) / 118.7
    nape = (98 * (z + 30) + 35 * (y + 20)) / 104
    return np.min([z + 30, scalp, nape], axis=0)


def _crop_field(head: MorphableModel) -> np.ndarray:
    """Positive where the source is kept, mm: four planes around face, ears and a short neck; sockets to a depth."""
    _, y, z = head.mean.T.astype(np.float64)
    field = np.minimum(_crop_planes(head), y - NECK_END)
    field = np.where(head.regions["mouth_socket"], z - 72, field)
    return np.where(head.regions["eye_socket_left"] | head.regions["eye_socket_right"], z - 76, field)


def _place(head: MorphableModel):
    """The embedding in which edge lengths are evened: jaw open (lips cannot touch), eyes, lips and nostrils larger."""
    opened = head.mean + 0.6 * head.expression_basis[:, :, head.expression_names.index("jawOpen")]
    points = head.landmarks(opened)
    lenses = ((points[42:48].mean(0), 1.7, 38.0), (points[48:60].mean(0), 1.5, 55.0), (points[35], 1.4, 35.0))

    def place(weights: csr_matrix) -> np.ndarray:
        out = weights @ opened.astype(np.float64)
        for centre, power, radius in lenses:
            away = out - centre
            t = np.clip(1 - np.linalg.norm(away, axis=1) / radius, 0, 1)
            out = centre + away * (1 + (power - 1) * t * t * (3 - 2 * t))[:, None]
        return out

    return place


def _resample(head: MorphableModel) -> _Topology:
    """Half a face and one eyeball, decimated, then mirrored and welded along the centre line, the throat closed."""
    eyeballs = head.regions["eyeball_left"] | head.regions["eyeball_right"]
    left = (head.mean[head.faces][:, :, 0] > -1e-3).all(1)
    weights, faces = clip(
        identity(len(head.mean), format="csr"),  # pyright: ignore[reportArgumentType]
        head.faces[left & ~eyeballs[head.faces].any(1)],
        _crop_field(head),
    )
    place = _place(head)
    weights, faces = split_long_edges(weights, faces, place, LONGEST_EDGE)
    fixed = np.zeros(weights.shape[0], bool)  # pyright: ignore[reportOptionalSubscript]
    for at, corner in ((head.landmark_faces, head.landmark_weights), (head.contour_faces, head.contour_weights)):
        assert at is not None
        assert corner is not None
        fixed[head.faces[at][np.arange(len(at)), corner.argmax(1)]] = True
    fixed |= _corners(weights @ head.mean, faces)
    where = place(weights)
    faces = flip_to_delaunay(where, collapse_short_edges(where, faces, fixed, HALF_FACE))
    eye = _eyeball_front(head)
    return _mirrored(head, weights, faces, eye)


def _corners(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Boundary vertices where the boundary turns by more than 40°, as where a cut meets the centre line."""
    out = np.zeros(len(points), bool)
    for loop in boundary_loops(faces):
        at = points[loop]
        before, after = at - np.roll(at, 1, 0), np.roll(at, -1, 0) - at
        cosine = (before * after).sum(1) / np.maximum(
            np.linalg.norm(before, axis=1) * np.linalg.norm(after, axis=1), 1e-9
        )
        out[np.array(loop)[cosine < np.cos(np.radians(40))]] = True
    return out


def _eyeball_front(head: MorphableModel) -> np.ndarray:
    """Faces of the visible front of the left eyeball: its outer layer, in front of the eye's centre."""
    eye = np.flatnonzero(head.regions["eyeball_left"])
    faces = head.faces[head.regions["eyeball_left"][head.faces].all(1)]
    centre = (head.mean[eye].max(0) + head.mean[eye].min(0)) / 2
    middle = head.mean[faces].mean(1)
    normal = np.cross(head.mean[faces[:, 1]] - head.mean[faces[:, 0]], head.mean[faces[:, 2]] - head.mean[faces[:, 0]])
    outward = (normal * (middle - centre)).sum(1) > 0
    layer = _component(faces, int(eye[np.linalg.norm(head.mean[eye] - centre, axis=1).argmax()]))
    front = faces[outward & layer & (middle[:, 2] > centre[2] + 1.0)]
    kept = collapse_short_edges(head.mean.astype(np.float64), front, np.zeros(len(head.mean), bool), HALF_EYE)
    return flip_to_delaunay(head.mean.astype(np.float64), kept)


def _component(faces: np.ndarray, seed: int) -> np.ndarray:
    """(F,) true for the faces connected to vertex `seed`."""
    reached = np.zeros(faces.max() + 1, bool)
    reached[seed] = True
    while True:
        grown = faces[reached[faces].any(1)]
        if reached[grown].all():
            return reached[faces].all(1)  # pyright: ignore[reportReturnType]
        reached[grown] = True


def _mirrored(head: MorphableModel, weights: csr_matrix, skin: np.ndarray, eye: np.ndarray) -> _Topology:
    used_skin, used_eye = np.unique(skin), np.unique(eye)
    half = vstack([weights[used_skin], identity(len(head.mean), format="csr")[used_eye]]).tocsr()  # pyright: ignore[reportIndexIssue]
    faces = np.concatenate([np.searchsorted(used_skin, skin), len(used_skin) + np.searchsorted(used_eye, eye)])
    assert head.mirror is not None
    flipped = half[:, head.mirror]
    n = half.shape[0]  # pyright: ignore[reportOptionalSubscript]
    is_eye = np.arange(n) >= len(used_skin)
    centre = (np.abs((half @ head.mean)[:, 0]) < 1e-2) & ~is_eye
    half = half.multiply(np.where(centre, 0.5, 1.0)[:, None]) + flipped.multiply(np.where(centre, 0.5, 0.0)[:, None])
    other = np.where(centre, np.arange(n), -1)
    other[~centre] = n + np.arange((~centre).sum())
    both = np.concatenate([faces, other[faces][:, ::-1]])
    mirror = np.concatenate([other, np.flatnonzero(~centre)])
    eyeball = np.concatenate([is_eye.astype(int), 2 * is_eye[~centre].astype(int)])
    made = vstack([half, flipped[~centre]]).tocsr()
    return _throat_closed(_Topology(made, both, mirror, eyeball), head)  # pyright: ignore[reportArgumentType]


def _throat_closed(topology: _Topology, head: MorphableModel) -> _Topology:
    """A fan over the hole where the mouth socket was cut off, around one new vertex in its middle."""
    at = topology.weights @ head.mean
    loops = [loop for loop in boundary_loops(topology.faces) if not topology.eyeball[loop].any()]
    hole = min(loops, key=lambda loop: np.linalg.norm(at[loop].mean(0) - [0, -35, 72]))
    new = len(at)
    middle = csr_matrix(topology.weights[hole].mean(0))
    fan = np.array([[b, a, new] for a, b in zip(hole, [*hole[1:], hole[0]], strict=True)])
    return _Topology(
        vstack([topology.weights, middle]).tocsr(),  # pyright: ignore[reportArgumentType]
        np.concatenate([topology.faces, fan]).astype(np.int32),
        np.append(topology.mirror, new).astype(np.int32),
        np.append(topology.eyeball, 0),
    )


# ── what rides on the topology ─────────────────────────────────────────────────────────────────────────────


def _with_gaze(head: MorphableModel, topology: _Topology, mean: np.ndarray, expression: np.ndarray) -> np.ndarray:
    """The expression basis with the eyeballs turned by the eyeLook shapes."""
    out = expression.copy()
    axes = {"Up": (-1, 0), "Down": (1, 0), "In": (0, -1), "Out": (0, 1)}  # about x, and about y for the left eye
    for eye, side in ((1, "Left"), (2, "Right")):
        mine = topology.eyeball == eye
        whole = head.mean[head.regions["eyeball_" + side.lower()]]
        centre = (whole.max(0) + whole.min(0)) / 2
        for way, (about_x, about_y) in axes.items():
            turn = LOOK * np.array([about_x, about_y if eye == 1 else -about_y, 0.0])
            spun = (mean[mine] - centre) @ rotation_from_axis_angle(turn).T + centre
            out[mine, :, head.expression_names.index(f"eyeLook{way}{side}")] = spun - mean[mine]
    return out


def _texel_share(head: MorphableModel, topology: _Topology) -> np.ndarray:
    """(V,) how long a millimetre is in the texture: eyes, lips and nose most, scalp, neck and all insides least."""
    at, points = topology.weights @ head.mean, head.landmarks(head.mean)[31:]  # nostrils, eyes, lips
    near = np.linalg.norm(at[:, None] - points, axis=2).min(1)
    share = np.where(_most(topology, head.regions["narrow_face"]), 1.4, 0.8) + 1.3 * np.exp(-((near / 15.0) ** 2))
    sockets = head.regions["mouth_socket"] | head.regions["eye_socket_left"] | head.regions["eye_socket_right"]
    return np.where(_most(topology, sockets), 0.35, share)


def _most(topology: _Topology, flag: np.ndarray) -> np.ndarray:
    return topology.weights @ flag.astype(float) > 0.5


def _regions(head: MorphableModel, topology: _Topology, mean: np.ndarray) -> dict[str, np.ndarray]:
    """Named vertex sets; `face` (no ears, scalp, neck, insides) is where shape distances are measured."""
    x, y, z = mean.T
    eyeballs = topology.eyeball > 0
    sockets = _most(
        topology, head.regions["mouth_socket"] | head.regions["eye_socket_left"] | head.regions["eye_socket_right"]
    )
    face = _most(topology, head.regions["narrow_face"]) & ~sockets & ~eyeballs
    skin = ~sockets & ~eyeballs
    points = head.landmarks(head.mean)

    def near(indices: list[int], distance: float) -> np.ndarray:
        return face & (np.linalg.norm(mean[:, None] - points[indices], axis=2).min(1) < distance)

    mouth, nose = near(list(range(48, 68)), 8.0), near([*range(27, 36)], 13.0)
    eyes = near(list(range(36, 48)), 9.0)
    return {
        "face": face,
        "skin": skin,
        "eyeballs": eyeballs,
        "sockets": sockets,
        "ears": skin & ~face & (np.abs(x) > 76) & (y > -28) & (y < 47) & (z < 32),
        "neck": skin & ~face & (y < -80),
        "forehead": face & (y > points[17:27, 1].mean() + 6),
        "mouth": mouth,
        "nose": nose & ~mouth,
        "eyes": eyes,
    }


def _with_points(model: MorphableModel, head: MorphableModel, topology: _Topology) -> MorphableModel:
    """Landmarks (both jaws) and MediaPipe's points, placed on the new surface."""
    assert head.contour_faces is not None
    assert head.contour_weights is not None
    weights = topology.weights.tocsc()

    def vertex(faces: np.ndarray, corner_weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        at = head.faces[faces][np.arange(len(faces)), corner_weights.argmax(1)]
        ours = np.array([weights[:, [v]].toarray()[:, 0].argmax() for v in at])
        return ict._at_vertices(topology.faces, ours)

    on_face, on_weights = vertex(head.landmark_faces, head.landmark_weights)
    contour, contour_weights = vertex(head.contour_faces, head.contour_weights)
    extra = dict(zip(("mediapipe_faces", "mediapipe_weights"), _mediapipe(model, head, topology), strict=True))
    return replace(
        model, landmark_faces=on_face, landmark_weights=on_weights,
        contour_faces=contour, contour_weights=contour_weights, extra=extra,
    )  # fmt: skip


def _mediapipe(model: MorphableModel, head: MorphableModel, topology: _Topology) -> tuple[np.ndarray, np.ndarray]:
    """MediaPipe's 468 points and ten iris points (centre, then right, top, left, bottom in the photo) on our faces.

    The closest point is looked up with the jaw open, so that no point of one lip lands on the other.
    """
    jaw = head.expression_basis[:, :, head.expression_names.index("jawOpen")]
    corners, weights = head.extra["mediapipe_corners"], head.extra["mediapipe_weights"]
    opened = (head.mean + 0.6 * jaw).astype(np.float64)
    points = (opened[corners] * weights[..., None]).sum(1)
    iris = []
    for eye in (2, 1):  # MediaPipe's first iris is the subject's right eye
        ball = model.mean[topology.eyeball == eye]
        pupil = ball[ball[:, 2].argmax()].astype(np.float64)
        ring = IRIS_RADIUS * np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [-1, 0, 0], [0, -1, 0]])
        iris.append(pupil + ring - [0, 0, 1.0] * (np.arange(5) > 0)[:, None])
    skin = topology.faces[topology.eyeball[topology.faces[:, 0]] == 0]
    balls = topology.faces[topology.eyeball[topology.faces[:, 0]] > 0]
    ours = topology.weights @ opened
    on_skin = _closest(points, ours, skin)
    on_ball = _closest(np.concatenate(iris), model.mean.astype(np.float64), balls)
    is_ball = topology.eyeball[topology.faces[:, 0]] > 0
    faces = np.concatenate([np.flatnonzero(~is_ball)[on_skin[0]], np.flatnonzero(is_ball)[on_ball[0]]])
    return faces.astype(np.int32), np.concatenate([on_skin[1], on_ball[1]]).astype(np.float32)


def _closest(
    points: Float[np.ndarray, "N 3"], vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]
) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 3"]]:
    """(face, barycentric weights) of the closest point of a mesh (libigl)."""
    import igl

    _, at, closest = igl.point_mesh_squared_distance(points, vertices, faces.astype(np.int64))
    a, b, c = (vertices[faces[at, k]] for k in range(3))  # pyright: ignore[reportArgumentType, reportCallIssue]
    u, v, w = b - a, c - a, closest - a
    uu, uv, vv, wu, wv = (np.einsum("nk,nk->n", p, q) for p, q in ((u, u), (u, v), (v, v), (w, u), (w, v)))
    det = uu * vv - uv * uv
    second, third = (vv * wu - uv * wv) / det, (uu * wv - uv * wu) / det
    weights = np.clip(np.stack([1 - second - third, second, third], axis=1), 0, 1)
    return at.astype(np.int64), weights / weights.sum(1, keepdims=True)  # pyright: ignore[reportAttributeAccessIssue]


def _centred(model: MorphableModel) -> MorphableModel:
    """The origin moved to the mean of the 68 landmarks (x stays: it is the plane of symmetry)."""
    origin = model.landmarks(model.mean).mean(0) * np.array([0, 1, 1], np.float32)
    return replace(model, mean=model.mean - origin)


def report(model: MorphableModel, source: Path, faces: int = 200) -> dict[str, float]:
    """What compiling lost, in mm: `faces` random source faces against the model's surface, and the variance kept.

    Points are the source's own skin vertices inside the crop, after the rigid motion between the two is taken out.
    """
    import igl

    from sameface.core.geometry import align

    head = ict.load(source)
    topology = _resample(head)
    inside = (_crop_field(head) > 1.0) & (head.regions["face"] | head.regions["head_neck"])
    _, kept = orthonormal_modes(_through(topology.weights, head.identity_basis), model.mean, model.n_identity)
    flat = model.identity_basis.reshape(-1, model.n_identity).astype(np.float64)
    unit = flat / np.linalg.norm(flat, axis=0)
    rng = np.random.default_rng(0)
    errors: dict[str, list[np.ndarray]] = {"resampling": [], "resampling and 80 modes": []}
    for _ in range(faces):
        true = head.vertices(rng.normal(size=head.n_identity)).astype(np.float64)
        resampled = topology.weights @ true
        _, turn, shift = align(resampled, model.mean.astype(np.float64), scale=False)
        moved = resampled @ turn.T + shift
        coefficients = (unit.T @ (moved - model.mean).reshape(-1)) / np.linalg.norm(flat, axis=0)
        for key, mesh in (("resampling", moved), ("resampling and 80 modes", model.vertices(coefficients))):
            d2, *_ = igl.point_mesh_squared_distance(
                true[inside] @ turn.T + shift, mesh.astype(np.float64), model.faces.astype(np.int64)
            )
            errors[key].append(np.sqrt(d2))
    gram = np.abs(unit.T @ unit - np.eye(model.n_identity)).max()
    out = {"variance kept": kept, "largest |uᵢ·uⱼ| off the diagonal": float(gram), "vertices": float(model.n_vertices)}
    for key, values in errors.items():
        out |= {f"{key}: mean mm": float(np.mean(values)), f"{key}: 95% mm": float(np.percentile(values, 95))}
    return out
