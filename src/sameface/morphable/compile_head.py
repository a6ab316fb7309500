"""The rest of the head, from the source of our model and in its modes: scalp, nape, and a plane that ends the neck.

`compile_rest` is the recipe. The rest begins on the model's rim, with vertices of its own at the same places, for the
texture; the source's vertices follow 5 mm behind.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from scipy.sparse import csr_matrix, diags, identity, vstack

from sameface.morphable import MorphableModel, ict
from sameface.morphable import compile as recipe
from sameface.morphable.decimate import boundary_loops, clip, collapse_short_edges, flip_to_delaunay
from sameface.morphable.unwrap import disc

__all__ = ["compile_rest"]

GAP = 5.0
"""mm from the model's rim that the source's own vertices keep"""
HALF_REST = 420
"""vertices of the half scalp and nape before mirroring"""
CHAMFER = 0.8
"""mm of a ring within the end of the neck, so that it shades as an edge and not as a bulge"""
STILL = 2e-3
"""mm; what moves less does not move"""
CHART = np.array([[0.195, 0.006], [0.805, 0.104]])
"""where the rest lies in the texture: below the face, between the eyes"""


def compile_rest(model: MorphableModel, source: Path) -> dict[str, np.ndarray]:
    """What `head.join` adds to a model that was compiled from this source: a closed head with open eyeballs."""
    head = ict.load(source)
    shell = recipe._resample(head).weights
    mean, count = recipe._symmetric_mean(head), model.n_vertices
    origin = (shell @ mean - model.mean).mean(0)
    if np.abs(shell @ mean - origin - model.mean).max() > 1e-2:
        raise ValueError(f"{source} is not what {model.name} was compiled from: their mean faces differ")
    rim = _rim(model)
    half, faces = _half_rest(head)
    rows, faces, mirror = _whole_rest(head, model, shell, rim, half, faces, origin)
    at = np.concatenate([model.mean[rim], rows @ mean - origin])
    made = csr_matrix(vstack([shell[rim], rows]))  # pyright: ignore[reportArgumentType]
    uv = _chart(at, faces, mirror)
    modes = _in_our_modes(model, shell, made, head, at)
    expression = recipe._through(made, head.expression_basis)  # pyright: ignore[reportArgumentType]
    modes[: len(rim)], expression[: len(rim)] = model.identity_basis[rim], model.expression_basis[rim]
    same = np.concatenate([rim, count + np.arange(len(rim), len(at))])
    rest = {
        "mean": at, "identity": modes, "expression": expression, "uv": uv, "same_place": same,
        "faces": faces + count, "mirror": mirror + count, "sockets": np.zeros(0),
    }  # fmt: skip
    return _stored(_sockets_closed(model, rest))


def _rim(model: MorphableModel) -> Int[np.ndarray, " N"]:
    """The model's outer border, from the crown down its left side, along the neck and up its right side."""
    rim = np.array(max(boundary_loops(model.faces), key=len))
    at = model.mean[rim]
    rim = np.roll(rim, -int(np.argmax(at[:, 1] - 10 * np.abs(at[:, 0]))))
    return rim if model.mean[rim[1], 0] > 0 else np.roll(rim[::-1], 1)


def _half_rest(head: MorphableModel) -> tuple[csr_matrix, Int[np.ndarray, "F 3"]]:
    """The left half of the source's skin behind the model's rim and above the end of the neck, resampled."""
    skin = head.regions["face"] | head.regions["head_neck"]
    left = (head.mean[head.faces][:, :, 0] > -1e-3).all(1) & skin[head.faces].all(1)
    behind = (recipe._crop_planes(head) < -GAP)[head.faces].all(1)
    whole = identity(len(head.mean), format="csr")
    above = head.mean[:, 1].astype(np.float64) - recipe.NECK_END
    weights, faces = clip(whole, head.faces[left & behind], above)  # pyright: ignore[reportArgumentType]
    at = weights @ head.mean
    faces = flip_to_delaunay(at, collapse_short_edges(at, faces, recipe._corners(at, faces), HALF_REST))
    used, faces = np.unique(faces, return_inverse=True)
    return weights[used], faces.reshape(-1, 3)  # pyright: ignore[reportReturnType]


def _whole_rest(
    head: MorphableModel, model: MorphableModel, shell: csr_matrix, rim: np.ndarray, half: csr_matrix,
    faces: np.ndarray, origin: np.ndarray,
) -> tuple[csr_matrix, np.ndarray, np.ndarray]:  # fmt: skip
    """Rows (R, V_source) of all vertices but the rim's, faces and mirror images; numbers count the rim's first."""
    mean = recipe._symmetric_mean(head)
    first, middle = len(rim), len(rim) // 2
    at = np.concatenate([model.mean[rim], half @ mean - origin])
    faces = faces + first
    end = recipe.NECK_END - origin[1]
    low = np.flatnonzero(np.abs(at[:first, 1] - end) < 0.5)
    corner = int(low[low <= middle].min())
    upper, lower = np.arange(corner + 1), np.arange(corner, middle + 1)
    behind, neck = _borders(at, faces, end, at[0], at[corner])
    strip = _outward(at, _zipped(at, upper, behind), [0.0, at[behind, 1].mean(), at[behind, 2].mean() - 40])
    around = np.concatenate([lower[::-1], neck])
    edge = csr_matrix(vstack([shell[rim[lower[::-1]]], half[neck - first]]))  # pyright: ignore[reportArgumentType]
    hub = csr_matrix(edge.mean(0))
    hub = 0.5 * (hub + hub[:, head.mirror])
    at_hub = (hub @ mean)[0] - origin
    near = diags(CHAMFER / np.linalg.norm(at[around] - at_hub, axis=1))
    ring = len(at) + np.arange(len(around))
    rows = csr_matrix(vstack([half, edge - near @ edge + near @ vstack([hub] * len(around)), hub]))
    at = np.concatenate([at[:first], rows @ mean - origin])
    centre = len(at) - 1
    fan = np.array(
        [
            three
            for a, b, c, d in zip(around[:-1], around[1:], ring[:-1], ring[1:], strict=True)
            for three in ([a, b, d], [a, d, c], [c, d, centre])
        ]
    )
    fan = _outward(at, fan, [0.0, end + 50, at[centre, 2]])
    return _mirrored(head, rows, np.concatenate([faces, strip, fan]), at, first)


def _borders(
    at: np.ndarray, faces: np.ndarray, end: float, crown: np.ndarray, corner: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the half behind the rim: its border along the rim from the crown down, and along the end of the neck."""
    loop = np.array(max(boundary_loops(faces), key=len))
    place = at[loop]
    middle, low = np.abs(place[:, 0]) < 1e-2, np.abs(place[:, 1] - end) < 0.05
    start = int(np.where(middle, np.linalg.norm(place - crown, axis=1), np.inf).argmin())
    loop, low, middle = (np.roll(one, -start, axis=0) for one in (loop, low, middle))
    if middle[1]:  # the way round is along the back of the head
        loop, low = (np.roll(one[::-1], 1) for one in (loop, low))
    stop = int(np.flatnonzero(low)[0])
    past = stop + int(low[stop:].argmin()) if not low[stop:].all() else len(loop)
    assert np.linalg.norm(at[loop[stop]] - corner) < 4 * GAP
    return loop[: stop + 1], loop[stop:past]


def _zipped(at: np.ndarray, one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Triangles between two lines of vertices, the shorter way across at each step."""
    i = j = 0
    out = []
    while i < len(one) - 1 or j < len(other) - 1:
        first = np.linalg.norm(at[one[i + 1]] - at[other[j]]) if i < len(one) - 1 else np.inf
        second = np.linalg.norm(at[one[i]] - at[other[j + 1]]) if j < len(other) - 1 else np.inf
        if first <= second:
            out.append([one[i], one[i + 1], other[j]])
            i += 1
        else:
            out.append([one[i], other[j + 1], other[j]])
            j += 1
    return np.array(out)


def _outward(at: np.ndarray, faces: np.ndarray, inside: list[float]) -> np.ndarray:
    """The faces, all turned over if they look to the point `inside`."""
    a, b, c = (at[faces[:, k]] for k in range(3))
    return faces if (np.cross(b - a, c - a) * (a - inside)).sum() > 0 else faces[:, ::-1]


def _mirrored(
    head: MorphableModel, rows: csr_matrix, faces: np.ndarray, at: np.ndarray, first: int
) -> tuple[csr_matrix, np.ndarray, np.ndarray]:
    assert head.mirror is not None
    count = len(at) - first
    flipped = rows[:, head.mirror]
    centre = np.abs(at[first:, 0]) < 1e-2
    share = np.where(centre, 0.5, 1.0)[:, None]
    rows = csr_matrix(rows.multiply(share) + flipped.multiply(1 - share))
    rim = np.concatenate([[0], np.arange(first - 1, 0, -1)])
    other = np.where(centre, np.arange(count), -1)
    other[~centre] = count + np.arange((~centre).sum())
    across = np.concatenate([rim, first + other])
    mirror = np.concatenate([across, first + np.flatnonzero(~centre)])
    made = vstack([rows, flipped[~centre]]).tocsr()  # pyright: ignore[reportArgumentType]
    return made, np.concatenate([faces, across[faces][:, ::-1]]), mirror  # pyright: ignore[reportReturnType]


def _chart(at: np.ndarray, faces: np.ndarray, mirror: np.ndarray) -> Float[np.ndarray, "R 2"]:
    """The rest as an ellipse, its border the rim."""
    (outer,) = boundary_loops(faces)
    flat = disc(at.astype(np.float64), faces, outer, np.ones(len(at)))
    flat = 0.5 * (flat + flat[mirror] * [-1, 1])
    (ax, ay), (bx, by), (cx, cy) = (flat[faces[:, k]].T for k in range(3))
    turn = np.sign(((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)).sum())
    return CHART.mean(0) + flat * [turn, 1] * (CHART[1] - CHART[0]) / 2


def _in_our_modes(
    model: MorphableModel, shell: csr_matrix, made: csr_matrix, head: MorphableModel, at: np.ndarray
) -> Float[np.ndarray, "R 3 S"]:
    """How the rest moves with the model's modes: each is a sum of the source's modes and of a rigid motion."""
    theirs, centre = recipe._through(shell, head.identity_basis), model.mean.astype(np.float64).mean(0)
    known = np.concatenate([theirs.reshape(model.mean.size, -1), recipe._rigid_motions(model.mean, centre)], axis=1)
    ours = model.identity_basis.reshape(model.mean.size, -1).astype(np.float64)
    mix, *_ = np.linalg.lstsq(known, ours, rcond=None)
    beyond = recipe._through(made, head.identity_basis).reshape(at.size, -1)
    beyond = np.concatenate([beyond, recipe._rigid_motions(at, centre)], axis=1)
    return (beyond @ mix).reshape(*at.shape, -1)


def _sockets_closed(model: MorphableModel, rest: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """A fan behind each eye, over the hole where its socket was cut off, around one new vertex."""
    eyes, outer = model.regions["eyeballs"], set(_rim(model).tolist())
    holes = [np.array(one) for one in boundary_loops(model.faces) if not eyes[one].any() and not outer & set(one)]
    holes.sort(key=lambda hole: -model.mean[hole, 0].mean())
    assert model.uv is not None
    out, new = dict(rest), model.n_vertices + len(rest["mean"]) + np.arange(len(holes))
    for name, values in (
        ("mean", model.mean), ("identity", model.identity_basis), ("expression", model.expression_basis),
        ("uv", model.uv),
    ):  # fmt: skip
        out[name] = np.concatenate([rest[name], [values[hole].mean(0) for hole in holes]])
    fans = [
        np.stack([np.roll(hole, -1), hole, np.full(len(hole), middle)], axis=1)
        for hole, middle in zip(holes, new, strict=True)
    ]
    out["faces"] = np.concatenate([rest["faces"], *fans])
    out["mirror"] = np.concatenate([rest["mirror"], new[::-1]])
    out["same_place"] = np.concatenate([rest["same_place"], new])
    out["sockets"] = new - model.n_vertices
    return out


def _stored(rest: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """As `head.npz` holds it: modes as float16, mode by mode, and no move that nobody sees."""
    out: dict[str, np.ndarray] = {}
    for name, values in rest.items():
        if name in ("identity", "expression"):
            values = np.moveaxis(np.where(np.abs(values) < STILL, 0, values), 2, 0)
            out[name] = values.astype(np.float16)
        else:
            out[name] = values.astype(np.float32 if values.dtype.kind == "f" and name != "sockets" else np.int32)
    return out
