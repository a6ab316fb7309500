"""REALY's error by region: a rigid alignment of the prediction to each part of the scan, then the scan bent onto it.

Chai et al.: "REALY: Rethinking the Evaluation of 3D Face Reconstruction", ECCV 2022, after the public code
(czh-98/REALY, utils/gICP.py, rICP.py, NICP.py, eval.py), whose constants are kept: they belong to the scans' own unit,
so everything here runs in that unit, and the caller multiplies the result by the scan's number of mm per unit.
The non-rigid ICP is Amberg et al. 2007 (eqs. 10-12) in the authors' schedule, solved with SciPy's SuperLU in place of
CHOLMOD, in double instead of single precision, and never with a reflection.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sameface.core.geometry import align
from sameface.metrics.alignment import Similarity, Surface

__all__ = ["KEYPOINTS", "REGIONS", "align_seven", "bend", "region_error"]

REGIONS = ("nose", "mouth", "forehead", "cheek")
_MOUTH = (*range(48, 61), 64)
_CHEEK = (*_MOUTH, 76, 77, 36, 41, 40, 39, 42, 47, 46, 45, 7, 8, 9)
KEYPOINTS = {
    "nose": (*range(27, 36), 70, 71), "mouth": _MOUTH, "forehead": (*range(36, 48), *range(17, 27)), "cheek": _CHEEK,
}  # fmt: skip
"""of the 85, for the rigid alignment of each region"""
BEND_BY = {"nose": tuple(range(27, 36)), "mouth": _MOUTH, "forehead": KEYPOINTS["forehead"], "cheek": ()}
"""of the 85, for the non-rigid one"""
SEVEN = (36, 39, 42, 45, 33, 48, 54)
RIGID_STEPS, RIGID_GAIN = 100, 1e-6
STIFFNESS, STIFFNESS_FIRST, KEYPOINT_WEIGHT = 50.0, 150.0, 50.0
FIRST_WEIGHTS = (2.0, 2.0, 3.0, 2.0)
"""of the columns of an affine map in the first step's stiffness"""
MOST_STEPS = 100
"""of a round without keypoints, where the original goes on without end"""


class RegionError(NamedTuple):
    """What `region_error` finds, in the unit of the scan."""

    nmse: float
    """mean distance"""
    distances: Float[np.ndarray, " N"]
    """of each scan vertex"""
    deformed: Float[np.ndarray, "N 3"]
    """the scan's vertices bent onto the prediction"""


def align_seven(source: Float[np.ndarray, "85 3"], target: Float[np.ndarray, "85 3"]) -> Similarity:
    """Least-squares rotation of 7 keypoints, then s = Σ|t| / Σ|R s| over all centred coordinates (gICP.py)."""
    x, y = source[list(SEVEN)], target[list(SEVEN)]
    _, rotation, _ = align(x, y, scale=False)
    turned = (x - x.mean(0)) @ rotation.T
    scale = float(np.abs(y - y.mean(0)).sum() / np.abs(turned).sum())
    return Similarity(scale, rotation, y.mean(0) - scale * rotation @ x.mean(0))


def region_error(
    region: str,
    scan: Float[np.ndarray, "N 3"],
    scan_faces: Int[np.ndarray, "G 3"],
    scan_keypoints: Float[np.ndarray, "85 3"],
    prediction: Surface,
    keypoints: Float[np.ndarray, "85 3"],
) -> RegionError:
    """NMSE of one region: mean |p − c(p′)|, p a scan vertex, p′ where the bent scan has it, c(·) the nearest point.

    1. `align_seven`; 2. rigid ICP of the prediction to the region, keypoints repeated N/K times (cheek: a quarter);
    3. `bend` the region to its nearest points on the prediction. Invariant to similarities of the prediction.
    Raises ValueError for another region, and where the bending cannot be solved.
    """
    if region not in REGIONS:
        raise ValueError(f"there is no region {region!r}; there are: {', '.join(REGIONS)}")
    pose = _rigid(region, scan, scan_keypoints, prediction, keypoints)
    moved, moved_points = Surface(pose.apply(prediction.vertices), prediction.faces), pose.apply(keypoints)
    scan, where = np.unique(scan, axis=0, return_inverse=True)  # vertices given twice would tear the mesh when it bends
    scan_faces = where.reshape(-1)[scan_faces]
    chosen = list(BEND_BY[region])
    ends = scan_keypoints[chosen]
    handles = np.array([((scan - end) ** 2).sum(1).argmin() for end in ends], np.int64)
    deformed = bend(scan, scan_faces, moved.closest(scan).points, handles, moved_points[chosen])
    distances = np.linalg.norm(moved.closest(deformed).points - scan, axis=1)
    return RegionError(float(distances.mean()), distances, deformed)


def _rigid(
    region: str, scan: np.ndarray, scan_keypoints: np.ndarray, prediction: Surface, keypoints: np.ndarray
) -> Similarity:
    """Rigid ICP without scale from the seven keypoints; like the original, the step that ends it is not taken."""
    pose, chosen = align_seven(keypoints, scan_keypoints), list(KEYPOINTS[region])
    ends = scan_keypoints[chosen]
    repeated = int(len(scan) / len(ends) / (4 if region == "cheek" else 1))
    weights = np.concatenate([np.ones(len(scan)), np.full(len(ends), float(repeated))])
    there, before = np.concatenate([scan, ends]), 0.0
    for _ in range(RIGID_STEPS + 1):
        nearest = pose.apply(prediction.closest(pose.inverse().apply(scan)).points)
        here = np.concatenate([nearest, pose.apply(keypoints[chosen])])
        _, rotation, shift = align(here, there, scale=False, weights=weights)
        step = Similarity(1.0, rotation, shift)
        error = float((weights * ((step.apply(here) - there) ** 2).sum(1)).sum() / weights.sum())
        if abs(error - before) < RIGID_GAIN:
            break
        pose, before = step.after(pose), error
    return pose


def bend(
    vertices: Float[np.ndarray, "N 3"],
    faces: Int[np.ndarray, "G 3"],
    targets: Float[np.ndarray, "M 3"],
    handles: Int[np.ndarray, " K"],
    handle_targets: Float[np.ndarray, "K 3"],
) -> Float[np.ndarray, "N 3"]:
    """Non-rigid ICP (NICP.py): the vertices, moved by an affine map X_i each that minimises stiffness, data, keypoints.

    Σ_edges α² |(X_i − X_j) G|² + Σ_i w_i² |X_i v_i − u_i|² + Σ_k β² |X_k v_k − h_k|², u_i the nearest of `targets`,
    w_i = 1 where it is nearer than twice the mean distance (at least 1). With keypoints: one step of these alone with
    α = 150, β = 50, then three rounds of at most 11 steps with α = 50, 30.3, 18.4 and β = 5 exp(−0.9 · step). Without:
    the three rounds. A round ends when the maps change by less than 1, ½, ¼ (Frobenius).
    """
    from scipy.spatial import KDTree

    edges = np.unique(np.sort(faces[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1), axis=0)
    tree, now = KDTree(targets), vertices.astype(np.float64)
    maps, last, count = np.ones((4 * len(now), 3)), np.zeros((4 * len(now), 3)), 0
    if len(handles):
        pull = _pull(len(now), handles, handle_targets, KEYPOINT_WEIGHT)
        last, maps = maps, _solve(edges, STIFFNESS_FIRST, np.array(FIRST_WEIGHTS), now, [pull])
        now, count = _moved(now, maps), 1
    for round_ in range(3):
        alpha, most = STIFFNESS * np.exp(-0.5 * round_), 11 if len(handles) else MOST_STEPS
        for _ in range(most):
            if np.linalg.norm(maps - last) <= 0.5**round_:
                break
            distance, index = tree.query(now)
            near = (distance < max(2 * distance.mean(), 1.0)).astype(np.float64)
            terms = [(near, targets[index])]
            if len(handles):
                terms.append(_pull(len(now), handles, handle_targets, KEYPOINT_WEIGHT * np.exp(-0.9 * count) / 10))
            last, maps = maps, _solve(edges, alpha, np.ones(4), now, terms)
            now, count = _moved(now, maps), count + 1
        else:
            if not len(handles):
                raise ValueError(f"the scan's region cannot be bent: its maps went on changing after {most} steps")
    return now


def _pull(
    count: int, handles: np.ndarray, handle_targets: np.ndarray, strength: float
) -> tuple[np.ndarray, np.ndarray]:
    """Weights and goals of all vertices that pull the handles only."""
    weights, goals = np.zeros(count), np.zeros((count, 3))
    weights[handles], goals[handles] = strength, handle_targets
    return weights, goals


def _moved(points: np.ndarray, maps: np.ndarray) -> np.ndarray:
    homogeneous = np.append(points, np.ones((len(points), 1)), axis=1)
    return np.einsum("nk,nkc->nc", homogeneous, maps.reshape(-1, 4, 3))


def _solve(
    edges: np.ndarray, alpha: float, weights: np.ndarray, points: np.ndarray, terms: list[tuple[np.ndarray, np.ndarray]]
) -> np.ndarray:
    """The maps (4N, 3) of least energy, by the normal equations: α² L ⊗ G² + Σ_terms w² v vᵀ in 4 × 4 blocks."""
    from scipy import sparse
    from scipy.sparse.linalg import splu

    count = len(points)
    ones, number = np.ones(len(edges)), np.arange(len(edges))
    arcs = sparse.csr_matrix(
        (np.concatenate([ones, -ones]), (np.tile(number, 2), edges.T.reshape(-1))), (len(edges), count)
    )
    matrix = sparse.kron(alpha**2 * arcs.T @ arcs, sparse.diags(weights**2))
    homogeneous = np.append(points, np.ones((count, 1)), axis=1)
    right = np.zeros((4 * count, 3))
    strength = np.sum([weight**2 for weight, _ in terms], axis=0)
    blocks = strength[:, None, None] * homogeneous[:, :, None] * homogeneous[:, None, :]
    matrix = matrix + sparse.bsr_matrix((blocks, np.arange(count), np.arange(count + 1)), (4 * count, 4 * count))
    for weight, goal in terms:
        right += (weight[:, None, None] ** 2 * homogeneous[:, :, None] * goal[:, None, :]).reshape(-1, 3)
    try:
        solver = splu(
            matrix.tocsc(), permc_spec="MMD_AT_PLUS_A", diag_pivot_thresh=0.0, options={"SymmetricMode": True}
        )
    except RuntimeError as error:
        raise ValueError(
            f"the scan's region cannot be bent ({error}): a part of it hangs on to nothing; its {count} vertices need "
            "keypoints that do not lie in one plane, and no vertex without a face"
        ) from None
    return solver.solve(right)
