"""One UV atlas without overlaps: the skin in one piece, hardly stretched, the two eyeballs in the lower corners."""

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix
from scipy.sparse.linalg import spsolve

from sameface.morphable.decimate import boundary_loops
from sameface.morphable.relax import relax

__all__ = ["disc", "unwrap"]

ROUNDS = 12
MARGIN = 0.004
EYE_RADIUS = 0.085


def unwrap(
    points: Float[np.ndarray, "V 3"],
    faces: Int[np.ndarray, "F 3"],
    mirror: Int[np.ndarray, " V"],
    eyeball: Int[np.ndarray, " V"],
    share: Float[np.ndarray, " V"],
) -> Float[np.ndarray, "V 2"]:
    """Texture coordinates in [0, 1]; `share` says how many texels a millimetre of skin deserves, relatively.

    The skin is a disc once the eye holes are filled. Its boundary goes to a circle and every inner vertex to a positive
    weighted mean of its neighbours, which cannot overlap (Tutte 1963, Floater 1997); the weights are then divided by
    the stretch at each neighbour, round by round, which evens out the texels (Yoshizawa et al. 2004). From there the
    disc is relaxed with a free boundary into the shape that stretches the skin least; the holes stay filled, so that
    lids do not cross.
    """
    skin = faces[eyeball[faces[:, 0]] == 0]
    loops = [loop for loop in boundary_loops(skin)]
    outer = max(loops, key=len)
    n = len(points)
    at, weight = points.astype(np.float64), share.astype(np.float64)
    for hole in (loop for loop in loops if loop is not outer):  # filled only for the unwrapping
        fan = np.array([[b, a, len(at)] for a, b in zip(hole, [*hole[1:], hole[0]], strict=True)])
        skin, at, weight = np.concatenate([skin, fan]), np.vstack([at, at[hole].mean(0)]), np.append(weight, 0.1)
    flat = relax(at, skin, weight, disc(at, skin, outer, weight))[:n]
    flat = 0.5 * (flat + flat[mirror] * [-1, 1])
    return _atlas(points, flat, np.unique(skin[skin < n]), eyeball).astype(np.float32)


def _atlas(points: np.ndarray, flat: np.ndarray, skin: np.ndarray, eyeball: np.ndarray) -> np.ndarray:
    """Skin and eyeballs in the unit square: the skin, upright about x = 0, as large as it gets beside the eyeballs."""
    edge = MARGIN + EYE_RADIUS
    centres = np.array([[1 - edge, edge], [edge, edge]])
    low, high = flat[skin].min(0), flat[skin].max(0)
    scale = (1 - 2 * MARGIN) / (high - low).max()
    while True:
        out = (flat - [0, high[1]]) * scale + [0.5, 1 - MARGIN]
        if np.linalg.norm(out[skin, None] - centres, axis=2).min() > edge:
            break
        scale *= 0.995
    for eye, centre in ((1, centres[0]), (2, centres[1])):
        mine = eyeball == eye
        front = points[mine][:, :2] - (points[mine].max(0) + points[mine].min(0))[:2] / 2
        out[mine] = front / np.linalg.norm(front, axis=1).max() * EYE_RADIUS + centre
    return out


def disc(at: np.ndarray, faces: np.ndarray, outer: list[int], share: np.ndarray) -> np.ndarray:
    """(V, 2) in the unit disc."""
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
    uv = np.zeros((len(at), 2))
    uv[outer] = _circle(at[outer])
    weights = 1.0 / np.maximum(np.linalg.norm(at[edges[:, 0]] - at[edges[:, 1]], axis=1), 0.2)
    best, best_stretch = uv, np.inf
    for _ in range(ROUNDS):
        uv = _solve(uv, edges, weights, outer, np.unique(faces))
        stretch, total = _stretch(at, faces, uv, share)
        if total >= best_stretch:
            break
        best, best_stretch = uv.copy(), total
        weights = weights / stretch[edges[:, 1]]
    return best


def _circle(loop: np.ndarray) -> np.ndarray:
    """Boundary points on the unit circle by arc length; the loop's top centre goes to the top."""
    step = np.linalg.norm(np.roll(loop, -1, 0) - loop, axis=1)
    along = np.concatenate([[0], np.cumsum(step)[:-1]]) / step.sum()
    top = int(np.argmax(loop[:, 1] - 10 * np.abs(loop[:, 0])))
    middle = loop[len(loop) // 4 + top - len(loop)]
    turn = 2 * np.pi * (along - along[top]) * (1 if middle[0] > 0 else -1)
    return np.stack([np.sin(turn), np.cos(turn)], axis=1)


def _solve(uv: np.ndarray, edges: np.ndarray, weights: np.ndarray, outer: list[int], used: np.ndarray) -> np.ndarray:
    n = len(uv)
    free = np.zeros(n, bool)
    free[used] = True
    free[outer] = False
    total = np.bincount(edges[:, 0], weights, n)
    rows = free[edges[:, 0]]
    matrix = csr_matrix((weights[rows] / total[edges[rows, 0]], (edges[rows, 0], edges[rows, 1])), shape=(n, n))
    system = csr_matrix((np.ones(n), (np.arange(n), np.arange(n))), shape=(n, n)) - matrix
    fixed = np.where(free[:, None], 0.0, uv)
    return np.stack([spsolve(system.tocsc(), fixed[:, k]) for k in range(2)], axis=1)  # pyright: ignore[reportArgumentType, reportCallIssue]


def _stretch(at: np.ndarray, faces: np.ndarray, uv: np.ndarray, share: np.ndarray) -> tuple[np.ndarray, float]:
    """Per-vertex L2 stretch (Sander et al. 2001) of the map texture → surface, and its area-weighted total."""
    (p1, p2, p3), (q1, q2, q3) = (uv[faces[:, k]] for k in range(3)), (at[faces[:, k]] for k in range(3))
    area2 = (p2[:, 0] - p1[:, 0]) * (p3[:, 1] - p1[:, 1]) - (p3[:, 0] - p1[:, 0]) * (p2[:, 1] - p1[:, 1])
    area2 = np.where(np.abs(area2) < 1e-14, 1e-14, area2)[:, None]
    ds = (q1 * (p2 - p3)[:, [1]] + q2 * (p3 - p1)[:, [1]] + q3 * (p1 - p2)[:, [1]]) / area2
    dt = (q1 * (p3 - p2)[:, [0]] + q2 * (p1 - p3)[:, [0]] + q3 * (p2 - p1)[:, [0]]) / area2
    local = np.sqrt(((ds**2).sum(1) + (dt**2).sum(1)) / 2) * share[faces].mean(1)
    area = np.linalg.norm(np.cross(q2 - q1, q3 - q1), axis=1) / 2
    n = len(at)
    around = np.repeat(np.arange(len(faces)), 3)
    mass = np.bincount(faces.reshape(-1), area[around], n)
    per_vertex = np.sqrt(np.bincount(faces.reshape(-1), (area * local**2)[around], n) / np.maximum(mass, 1e-12))
    per_vertex = np.where(mass > 0, per_vertex, 1.0)
    total = float(np.sqrt((area * local**2).sum() / area.sum()))
    return per_vertex / total, total
