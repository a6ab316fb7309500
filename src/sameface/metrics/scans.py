"""Meshes against scans, in mm: distances, RMSE after ICP, ARMSE; NoW, Stirling, 3DFAW 2019 and MICC by name.

"MICC" names several protocols that give different numbers for the same meshes; each has its own function here.
REALY is in `regions`. The corrected error of arXiv 2505.18025 is not offered: we could not state it exactly.
"""

from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sameface.metrics.alignment import Registration, Similarity, Surface, fit_mesh, icp, procrustes

__all__ = [
    "IBUG_SEVEN", "MILLIMETRES", "Compared", "Distances", "armse", "crop", "distances", "fw3d2019", "micc_deep3d",
    "micc_ganfit", "micc_genova", "micc_mgcnet", "now", "now_crop", "rmse", "rmse_after_icp", "stirling",
]  # fmt: skip

IBUG_SEVEN = (36, 39, 42, 45, 33, 48, 54)
"""NoW's and Stirling's 7 points among iBUG's 68: eye corners from the subject's right, nose bottom, mouth corners"""
MICC_RADIUS = 95.0
"""mm around the nose tip (MICC, all protocols)"""
MICC_GAIN = 1e-3
"""mm; GANFit's alignment ends when a step gains less"""
FW3D_RADIUS, FW3D_STEPS, FW3D_EVERY = 95.0, 19, 4
"""mm around the nose tip; steps of ICP after the one on landmarks; every which vertex is measured (3DFAW 2019)"""
SHRUNK = 0.7
"""GANFit's points may shrink on their way to the mesh, at worst to nothing; below this part of their size we refuse"""
_NOSE_TIP, _EYES = 30, (36, 45)
MILLIMETRES = {"mm": 1.0, "cm": 10.0, "m": 1000.0}
"""per unit"""


class Distances(NamedTuple):
    """How far N points are from a mesh, mm."""

    surface: Float[np.ndarray, " N"]
    """to the nearest point of its surface"""
    plane: Float[np.ndarray, " N"]
    """to the plane of the nearest triangle: what a point beyond the edge of the mesh is not charged for"""


class Compared(NamedTuple):
    """One mesh held against one scan."""

    distances: Float[np.ndarray, " K"]
    """mm, for each scan vertex within the crop"""
    kept: Int[np.ndarray, " K"]
    """which scan vertices these are"""
    registration: Registration
    """moves the predicted mesh onto the scan"""


def rmse(errors: Float[np.ndarray, " N"]) -> float:
    """√(Σ e² / N), in the unit of the errors. Raises ValueError for none, or for NaN.

    >>> rmse(np.array([3.0, 4.0, 0.0, 0.0]))
    2.5
    """
    if not len(errors) or not np.isfinite(errors).all():
        raise ValueError(f"an RMSE needs finite errors, but there are {len(errors)}, not all finite, or none")
    return float(np.sqrt((errors**2).mean()))


def crop(points: Float[np.ndarray, "N 3"], centre: Float[np.ndarray, " 3"], radius: float) -> Int[np.ndarray, " K"]:
    """The numbers of the points with |p − centre| ≤ radius. Raises ValueError when fewer than 3 are left."""
    kept = np.flatnonzero(np.linalg.norm(points - centre, axis=1) <= radius)
    if len(kept) < 3:
        away = np.linalg.norm(points - centre, axis=1).min(initial=np.inf)
        raise ValueError(
            f"only {len(kept)} of {len(points)} scan points are within {radius:.1f} of the centre (the nearest is "
            f"{away:.1f} away): are the scan and its landmarks in the same frame, and in mm?"
        )
    return kept


def distances(points: Float[np.ndarray, "N 3"], surface: Surface, pose: Similarity | None = None) -> Distances:
    """d_i = |p_i − c_i| and |n_i · (p_i − c_i)|, c_i the nearest point of the mesh moved by `pose`, n_i its normal.

    In the unit of the points. Unchanged when points and pose are moved together by one rigid motion.
    """
    pose = Similarity() if pose is None else pose
    inside = pose.inverse().apply(points)
    closest = surface.closest(inside)
    along = ((inside - closest.points) * surface.normals[closest.triangles]).sum(1)
    return Distances(abs(pose.scale) * closest.distances, np.abs(pose.scale * along))


def rmse_after_icp(
    points: Float[np.ndarray, "N 3"],
    surface: Surface,
    *,
    to: Literal["surface", "plane"] = "surface",
    start: Similarity | None = None,
    scale: bool = False,
    trimmed: float = 0.0,
    sample: int | None = None,
) -> tuple[float, Registration]:
    """RMSE of the distances (all points, mm) after the mesh has been moved onto the points by `icp` with planes.

    `to` picks the distance: to the mesh's "surface" (point to point) or to the nearest triangle's "plane". Invariant to
    rigid motions, and with `scale` to the size of the mesh, within ICP's tolerance and its basin (give a `start`).
    Raises ValueError when ICP does not converge.
    """
    found = icp(points, surface, start=start, scale=scale, trimmed=trimmed, sample=sample)
    _must_converge(found, "ICP")
    return rmse(getattr(distances(points, surface, found.similarity), to)), found


def _must_converge(found: Registration, what: str) -> None:
    if not found.converged:
        raise ValueError(
            f"{what} did not converge within {found.iterations} steps (rms {found.rms:.3g} mm): the mesh may be too "
            "far from the scan; check the landmarks it starts from"
        )


def armse(
    truth: Surface,
    prediction: Surface,
    *,
    truth_landmarks: Float[np.ndarray, "68 3"],
    landmarks: Float[np.ndarray, "68 3"],
    radius: float | None = None,
    normalise: bool = True,
) -> float:
    """(RMSE(prediction → truth) + RMSE(truth → prediction)) / 2 / d, d the distance of the true outer eye corners.

    Vertex-to-surface distances after a rigid ICP that starts from the landmarks; `normalise=False` gives mm. `radius`
    keeps the vertices of both within so many mm of the true nose tip. Ours, for meshes in true size that both may reach
    beyond the face; the challenge that the name comes from has its own alignment and crop, `fw3d2019`.
    """
    start = procrustes(landmarks, truth_landmarks, scale=False)
    tip = truth_landmarks[_NOSE_TIP]
    points = truth.vertices if radius is None else truth.vertices[crop(truth.vertices, tip, radius)]
    found = icp(points, prediction, start=start)
    _must_converge(found, "ICP")
    back = found.similarity.apply(prediction.vertices)
    back = back if radius is None else back[crop(back, tip, radius)]
    there, here = distances(points, prediction, found.similarity).surface, distances(back, truth).surface
    eyes = float(np.linalg.norm(truth_landmarks[_EYES[0]] - truth_landmarks[_EYES[1]]))
    return (rmse(there) + rmse(here)) / 2 / (eyes if normalise else 1.0)


def fw3d2019(
    truth: Surface,
    truth_landmarks: Float[np.ndarray, "68 3"],
    prediction: Surface,
    landmarks: Float[np.ndarray, "68 3"],
    *,
    radius: float = FW3D_RADIUS,
) -> float:
    """ARMSE of the 3DFAW challenge of 2019, mm: (RMSE(prediction → truth) + RMSE(truth → prediction)) / 2.

    After the organisers' program (RohithPillai/3dfaw-Evaluation, version 12.9): 1. a similarity on the landmarks that
    both know (NaN: not known); 2. of the prediction, and of it alone, what is within `radius` of its nose tip; 3. 19
    more similarities, each from all its vertices to the nearest true vertices; 4. the distances of every fourth vertex
    from the other surface. Vertices without a triangle do not count; those beyond the rim of the other mesh do. They
    print 100 times this by the distance of the true outer eye corners. One difference: distances are to the whole other
    surface, theirs to the triangles around the nearest vertex. Unchanged by similarities of the prediction. Raises
    ValueError when its nose tip is not known.
    """
    from scipy.spatial import KDTree

    known = np.isfinite(truth_landmarks).all(1) & np.isfinite(landmarks).all(1)
    if not np.isfinite(landmarks[_NOSE_TIP]).all():
        raise ValueError("the prediction is cropped around its nose tip, which is NaN")
    pose = procrustes(landmarks[known], truth_landmarks[known])
    used, target = np.unique(prediction.faces), truth.vertices[np.unique(truth.faces)]
    points = pose.apply(prediction.vertices[used])
    kept = crop(points, pose.apply(landmarks[_NOSE_TIP]), radius)
    number = np.full(len(prediction.vertices), -1)
    number[used[kept]] = np.arange(len(kept))
    faces, points = number[prediction.faces], points[kept]
    tree = KDTree(target)
    for _ in range(FW3D_STEPS):
        points = procrustes(points, target[tree.query(points)[1]]).apply(points)
    there = truth.closest(points[::FW3D_EVERY]).distances
    here = Surface(points, faces[(faces >= 0).all(1)]).closest(target[::FW3D_EVERY]).distances
    return (rmse(there) + rmse(here)) / 2


def now_crop(landmarks: Float[np.ndarray, "7 3"], factor: float = 1.4) -> tuple[Float[np.ndarray, " 3"], float]:
    """NoW's ball: bridge b = (l1 + l2)/2, centre l4 + 0.3 (b − l4), radius = factor (|l0 − l3| + |b − l4|)/2."""
    bridge = (landmarks[1] + landmarks[2]) / 2
    size = np.linalg.norm(landmarks[0] - landmarks[3]) + np.linalg.norm(bridge - landmarks[4])
    return landmarks[4] + 0.3 * (bridge - landmarks[4]), float(factor * size / 2)


def now(
    scan: Float[np.ndarray, "N 3"],
    scan_landmarks: Float[np.ndarray, "7 3"],
    surface: Surface,
    landmarks: Float[np.ndarray, "7 3"],
    *,
    metrical: bool = False,
    unit: Literal["mm", "cm", "m"] = "mm",
) -> Compared:
    """NoW's error: |p − c| for every scan vertex p in the ball, c on the aligned mesh (Sanyal et al. 2019), mm.

    1. the ball of `now_crop`; 2. Procrustes with scale on the 7 points; 3. `fit_mesh`, which refines s, R and t.
    `metrical`: the scale is the `unit`'s number of mm, and only R and t are found (the scale of step 2 is used for the
    first shift only, as in the original). Differences from soubhiksanyal/now_evaluation: the solver (`fit_mesh`), and
    that Procrustes never reflects here. Invariant to rigid motions of the mesh, and non-metrical to its size.
    """
    if unit not in MILLIMETRES:
        raise ValueError(f"there is no unit {unit!r}; there are: {', '.join(MILLIMETRES)}")
    kept = crop(scan, *now_crop(scan_landmarks))
    start = procrustes(landmarks, scan_landmarks)
    if metrical:
        start = start._replace(scale=MILLIMETRES[unit])
    found = fit_mesh(scan[kept], surface, start=start, scale=not metrical)
    _must_converge(found, "NoW's alignment")
    return Compared(distances(scan[kept], surface, found.similarity).surface, kept, found)


def stirling(
    scan: Float[np.ndarray, "N 3"],
    scan_landmarks: Float[np.ndarray, "7 3"],
    surface: Surface,
    landmarks: Float[np.ndarray, "7 3"],
) -> Compared:
    """The FG2018 challenge (patrikhuber/fg2018-competition): NoW's ball with factor 1.2, Procrustes only, mm.

    The challenge's 3D-RMSE is `rmse(…distances)`. Invariant to similarities of the predicted mesh.
    """
    kept = crop(scan, *now_crop(scan_landmarks, 1.2))
    pose = procrustes(landmarks, scan_landmarks)
    errors = distances(scan[kept], surface, pose).surface
    return Compared(errors, kept, Registration(pose, 0, True, rmse(errors)))


def micc_ganfit(
    truth: Surface,
    truth_landmarks: Float[np.ndarray, "68 3"],
    prediction: Surface,
    landmarks: Float[np.ndarray, "68 3"],
    *,
    radius: float = MICC_RADIUS,
) -> float:
    """GANFit's MICC error, mm: the mean of the two directions' mean vertex-to-surface distances.

    For each direction the vertices within `radius` of the nose tip move by similarities to their closest points until a
    step gains no more than 0.001 mm (barisgecer/GANFit, micc_evaluation.py; there 95 mm, 60 for subject 28). Two
    things to know: each direction is measured in the size of the mesh that stays; and the original begins from the
    correspondences of its own topology, this from the 68 landmarks. Raises ValueError when the points shrink to less
    than 0.7 of their size: they can fall onto a single point, where any error is small.
    """
    directions = ((truth, truth_landmarks, prediction, landmarks), (prediction, landmarks, truth, truth_landmarks))
    return sum(_ganfit_one_way(*way, radius) for way in directions) / 2


def _ganfit_one_way(
    moving: Surface, moving_landmarks: np.ndarray, fixed: Surface, fixed_landmarks: np.ndarray, radius: float
) -> float:
    kept = crop(moving.vertices, moving_landmarks[_NOSE_TIP], radius)
    points = procrustes(moving_landmarks, fixed_landmarks).apply(moving.vertices[kept])
    closest = fixed.closest(points)
    before, error, size = np.inf, float(closest.distances.mean()), 1.0
    while before - error > MICC_GAIN:
        step = procrustes(points, closest.points)
        points, size = step.apply(points), size * step.scale
        if size < SHRUNK:
            raise ValueError(
                f"GANFit's alignment shrank the mesh to {size:.2f} of the size that its landmarks gave it, which makes "
                "any error small: the two meshes do not fit each other"
            )
        closest = fixed.closest(points)
        before, error = error, float(closest.distances.mean())
    return error


def micc_deep3d(
    scan: Float[np.ndarray, "N 3"],
    scan_landmarks: Float[np.ndarray, "L 3"],
    prediction: Surface,
    landmarks: Float[np.ndarray, "L 3"],
    *,
    nose_tip: Float[np.ndarray, " 3"],
    radius: float = MICC_RADIUS,
) -> float:
    """Deep3D's MICC error, mm: point-to-PLANE RMSE over the scan within `radius` of its nose tip, per mesh.

    ICP with an isotropic scale for each mesh (as told in microsoft/Deep3DFaceReconstruction#23), here `fit_mesh`, which
    ends at the optimum of point-to-surface ICP, from a Procrustes with scale on the landmarks. Their cut at the
    forehead is not specified, so it is not done. Invariant to similarities of the prediction.
    """
    return _plane_rmse(scan, scan_landmarks, prediction, landmarks, nose_tip, radius, scale=True)


def micc_mgcnet(
    scan: Float[np.ndarray, "N 3"],
    scan_landmarks: Float[np.ndarray, "L 3"],
    prediction: Surface,
    landmarks: Float[np.ndarray, "L 3"],
    *,
    nose_tip: Float[np.ndarray, " 3"],
    radius: float = MICC_RADIUS,
) -> float:
    """MGCNet's MICC error, mm: landmarks (5 there), crop, ICP, point-to-plane RMSE (jiaxiangshang/MGCNet#16).

    As `micc_deep3d`, but ICP is rigid: the scale stays the landmarks'. How theirs is found is our reading.
    """
    return _plane_rmse(scan, scan_landmarks, prediction, landmarks, nose_tip, radius, scale=False)


def _plane_rmse(
    scan: np.ndarray,
    scan_landmarks: np.ndarray,
    prediction: Surface,
    landmarks: np.ndarray,
    nose_tip: np.ndarray,
    radius: float,
    *,
    scale: bool,
) -> float:
    points = scan[crop(scan, nose_tip, radius)]
    start = procrustes(landmarks, scan_landmarks)
    found = fit_mesh(points, prediction, start=start, scale=scale)
    _must_converge(found, "the alignment")
    return rmse(distances(points, prediction, found.similarity).plane)


def micc_genova(
    scan: Float[np.ndarray, "N 3"],
    scan_landmarks: Float[np.ndarray, "L 3"],
    prediction: Surface,
    landmarks: Float[np.ndarray, "L 3"],
    *,
    nose_tip: Float[np.ndarray, " 3"],
    radius: float = MICC_RADIUS,
    scale: float | None = None,
) -> tuple[float, float]:
    """Genova's MICC error: (mean point-to-surface distance on the intersection in mm, the scale that was used).

    One `scale` for all meshes of a system (Genova et al. 2018): call it first without, which finds each mesh's own by
    ICP, then again with the mean of these. On the intersection: scan points within `radius` of the nose tip whose
    nearest point is not on the rim of the predicted mesh; only these take part in ICP too. How the authors find scale
    and intersection is our reading. Raises ValueError when fewer than 3 are left.
    """
    points = scan[crop(scan, nose_tip, radius)]
    start = procrustes(landmarks, scan_landmarks)
    if scale is not None:
        middle = landmarks.mean(0)  # the landmarks' middle stays where it was while the size changes
        shift = start.apply(middle) - scale * start.rotation @ middle
        start = Similarity(scale, start.rotation, shift)
    found = icp(points, prediction, start=start, scale=scale is None, beyond=False)
    _must_converge(found, "ICP")
    closest = prediction.closest(found.similarity.inverse().apply(points))
    inside = ~prediction.on_rim(closest)
    return float(found.similarity.scale * closest.distances[inside].mean()), found.similarity.scale
