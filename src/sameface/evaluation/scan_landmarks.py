"""iBUG's points on a scan that nobody picked: the scan is drawn as clay, and the face in the picture is measured.

It is drawn from its six sides until a face is found in it, whichever way up; then again straight from the front, and
what the default network sees there is lifted onto the surface. The inside of a mask looks like a face too, and is told
by its nose. From there the morphable model is fitted to the scan, and its points are the scan's: good to some two
millimetres, enough to say where the face is and to begin an alignment, and the same whatever system is evaluated.
"""

import numpy as np
from jaxtyping import Float, Int

from sameface.core.camera import WeakPerspective
from sameface.core.errors import BadData, NoFaceFound
from sameface.core.geometry import rotation_from_axis_angle
from sameface.mesh.raster import rasterise, screen_points
from sameface.mesh.read import Mesh
from sameface.metrics.scans import IBUG_SEVEN, crop, now_crop
from sameface.morphable import default
from sameface.morphable.scan_fit import Fitted, fit_landmarks, fit_scan
from sameface.photo.face import Observation, Photo
from sameface.photo.predictor import load, second
from sameface.photo.turned import GOOD, observe_turned
from sameface.reconstruction.picture import render
from sameface.reconstruction.reconstruct import join

__all__ = ["find_landmarks", "surfels"]

SIDE, FACE, FRONTAL = 480, 0.55, 2
"""px of the pictures; part of them that the face takes from the front; looks from there, for the first is turned yet"""
FRONT = np.diag([1.0, -1.0, -1.0])
QUARTER = np.pi / 2
SIDES = ((0, 0, 0), (0, QUARTER, 0), (0, -QUARTER, 0), (0, 2 * QUARTER, 0), (QUARTER, 0, 0), (-QUARTER, 0, 0))
"""turns of the scan before it is drawn: the side that should be its front comes first"""
MOST_POINTS, NEIGHBOURS, OVERLAP = 40_000, 16, 1.1
"""of a cloud that are drawn; that make a plane; half the side of a point's square by the usual distance of points"""


def find_landmarks(scan: Mesh, name: str = "the scan", *, refined: bool = True) -> Float[np.ndarray, "68 3"]:
    """The 68 points on a mesh or a cloud of points, mm.

    Not `refined`, they are where the picture's points lie on the surface, some NaN: for heads that have insides (teeth,
    sockets), which no fit of a face to all that is there would do justice to. Raises BadData, with `name`, if no face
    can be seen in it from any side.
    """
    best, found = 0.0, None
    for side in SIDES:
        seen, camera = _look(scan, FRONT @ rotation_from_axis_angle(np.array(side, np.float64)), scan.vertices)
        for _ in range(FRONTAL):
            if seen is None:
                break
            around = _lifted(scan, camera, seen.landmarks)
            turn = FRONT @ seen.camera.rotation.T @ camera.rotation
            seen, camera = _look(scan, turn, around[np.isfinite(around).all(1)])
        if seen is None:
            continue
        landmarks = _lifted(scan, camera, join([seen]).views[0].landmarks)
        if seen.score * seen.quality > best and not _hollow(landmarks @ camera.rotation.T):
            best, found = seen.score * seen.quality, landmarks
        if best >= GOOD:
            break
    if found is None:
        raise BadData(
            f"no face can be seen in {name} from any of its six sides: is it one, is its surface whole? Pick landmarks "
            "in MeshLab and save them beside it"
        )
    return _refined(scan, found) if refined else found


def surfels(points: Float[np.ndarray, "N 3"], towards: Float[np.ndarray, " 3"]) -> Mesh:
    """A small square for every point of a cloud, in the plane of its neighbours, its outside `towards` the viewer."""
    from scipy.spatial import KDTree

    if len(points) > MOST_POINTS:
        points = points[np.linspace(0, len(points) - 1, MOST_POINTS).round().astype(int)]
    distance, around = KDTree(points).query(points, min(NEIGHBOURS, len(points)))
    centred = points[around] - points[around].mean(1, keepdims=True)
    axes = np.linalg.eigh(centred.swapaxes(1, 2) @ centred)[1]  # columns: normal, then the plane
    u, v = axes[:, :, 1], axes[:, :, 2]
    inwards = (np.cross(u, v) @ towards < 0)[:, None]
    u, v = np.where(inwards, v, u), np.where(inwards, u, v)
    half = OVERLAP * float(np.median(distance[:, min(4, distance.shape[1] - 1)]))
    corners = [points + half * (a * u + b * v) for a, b in ((-1, -1), (1, -1), (1, 1), (-1, 1))]
    first = 4 * np.arange(len(points))[:, None]
    faces = np.concatenate([first + np.array(corner) for corner in ((0, 1, 2), (0, 2, 3))])
    return Mesh(np.stack(corners, axis=1).reshape(-1, 3), faces)


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _hollow(landmarks: Float[np.ndarray, "68 3"]) -> bool:
    """Whether it is the inside of a face that was seen, by its points in the axes of the camera: the nose lies deep."""
    tip, around = landmarks[30, 2], landmarks[[36, 39, 42, 45, 48, 54], 2]
    return not tip < np.nanmean(around)  # NaN too


def _refined(scan: Mesh, found: Float[np.ndarray, "68 3"]) -> Float[np.ndarray, "68 3"]:
    """Where our model has its points once it is fitted to the scan, from these points of its."""
    model, inner = default(), found.copy()
    inner[:17] = np.nan  # of the outline
    near = fit_landmarks(model, inner)

    def landmarks(fitted: Fitted) -> np.ndarray:
        return fitted.pose.apply(model.landmarks(model.vertices(fitted.identity)).astype(np.float64))

    points = np.asarray(scan.vertices, np.float64)
    return landmarks(fit_scan(model, points[crop(points, *now_crop(landmarks(near)[list(IBUG_SEVEN)]))], near))


def _drawable(scan: Mesh, rotation: Float[np.ndarray, "3 3"]) -> tuple[np.ndarray, Int[np.ndarray, "F 3"]]:
    mesh = scan if len(scan.faces) else surfels(np.asarray(scan.vertices, np.float64), -rotation[2])
    return mesh.vertices, mesh.faces


def _look(
    scan: Mesh, rotation: Float[np.ndarray, "3 3"], around: Float[np.ndarray, "K 3"]
) -> tuple[Observation | None, WeakPerspective]:
    """The largest face in the clay picture by a camera that is turned so, and shows all, or the face, of the scan."""
    flat = (around @ rotation.T)[:, :2]
    low, high = flat.min(0), flat.max(0)
    share = 0.9 if around is scan.vertices else FACE
    zoom = share * SIDE / float((high - low).max())
    camera = WeakPerspective(rotation, SIDE / 2 - zoom * (low + high) / 2, np.array(zoom), (SIDE, SIDE))
    picture = render(*_drawable(scan, rotation), camera)
    try:
        return observe_turned(Photo(picture, "the scan"), load("default"), second=second())[0], camera
    except NoFaceFound:
        return None, camera


def _lifted(scan: Mesh, camera: WeakPerspective, places: Float[np.ndarray, "L 2"]) -> Float[np.ndarray, "L 3"]:
    """Where the surface is nearest to the viewer at places of the picture (px); NaN where there is none."""
    vertices, faces = _drawable(scan, camera.rotation)
    raster = rasterise(screen_points(vertices, camera), faces, camera.size)
    column, row = np.clip(np.floor(places), 0, SIDE - 1).astype(int).T
    depth = raster.depth[row, column]
    inside = ((places >= 0) & (places < SIDE)).all(1) & np.isfinite(depth)
    flat = (places - camera.translation) / camera.scale
    seen = np.concatenate([flat, np.where(inside, depth, np.nan)[:, None]], axis=1)
    return seen @ camera.rotation  # R⁻¹ = Rᵀ, for rows
