"""Lips and lids that touch and do not cut: what our model mends of the expressions it is compiled from.

Blendshapes are linear, so what a shape does wrong at a weight of 1 it does wrong in part at every weight. Mended are
mouthClose (below), the shapes in `CUTTING`, where one lip stood up to 3.4 mm inside the other, eyeBlink, which left a
slit of half a millimetre, and cheekPuff, whose halves differed by 3 mm. Nothing else moves.
"""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.sparse import csr_matrix, diags
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree

from sameface.core.geometry import rotation_from_euler, vertex_normals
from sameface.mesh.raster import rasterise
from sameface.mesh.solid import closed
from sameface.morphable import MorphableModel

__all__ = ["Lips", "mended", "slit"]

CUTTING = ("mouthPucker", "mouthDimpleLeft", "mouthPressLeft", "mouthShrugLower")
"""with their mirror images"""
ROUNDS, SHALLOW = 8, 0.08
"""of pushing lips apart; mm that they may stay inside each other"""
REACH = 22.0
"""mm from the lips; what is farther away stays"""
CORNER = 3.0
"""mm around a corner of the mouth, where the source's dimple folds the skin over itself"""
LID_STEPS, SLIT = np.arange(0, 0.31, 0.02), 0.3
"""parts of a blink that are tried on top of it; mm² of the eyeball that may show through it"""


def mended(model: MorphableModel) -> MorphableModel:
    """The model with its expressions mended where lips cut each other, and lids do not close; Left mirrors Right.

    mouthClose has ARKit's meaning: at equal weights it shuts the lips over a jaw that jawOpen opens. That takes the
    lower lip as far up as the jaw took it down (39 mm at a weight of 1), so no linear shape can do it and leave a face
    unharmed whose jaw is shut: nobody should give mouthClose more weight than jawOpen.
    """
    lips = Lips.of(model)
    out = model.expression_basis.astype(np.float64)
    at = {name: k for k, name in enumerate(model.expression_names)}
    assert model.mirror is not None

    def mirrored(moves: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        return moves[model.mirror] * [-1, 1, 1]

    def add(name: str, moves: Float[np.ndarray, "V 3"]) -> None:
        if "Left" in name:
            out[..., at[name.replace("Left", "Right")]] += mirrored(moves)
        else:
            moves = 0.5 * (moves + mirrored(moves))
        out[..., at[name]] += moves

    add("mouthDimpleLeft", lips.unfolded(out[..., at["mouthDimpleLeft"]]))
    for name in CUTTING:
        add(name, lips.apart(model.mean + out[..., at[name]], symmetric="Left" not in name))
    add("mouthClose", lips.shut(out[..., at["jawOpen"]], out[..., at["mouthClose"]]))
    puff = out[..., at["cheekPuff"]]
    puff[:] = 0.5 * (puff + mirrored(puff))
    add("eyeBlinkLeft", _lids_shut(model, out[..., at["eyeBlinkLeft"]]))
    return replace(model, expression_basis=out.astype(np.float32))


# ── lips ───────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, eq=False)
class Lips:
    """The surface around the mouth, and which of it belongs to the lower lip."""

    model: MorphableModel
    skin: Int[np.ndarray, "F 3"]
    """all but the eyeballs"""
    away: Float[np.ndarray, " V"]
    """mm from the nearest point of the lips"""
    zone: Bool[np.ndarray, " V"]
    lower: Bool[np.ndarray, " V"]

    @cached_property
    def at_rest(self) -> Int[np.ndarray, " N"]:
        """Vertices inside flesh though nothing moves: two at each corner of the mouth."""
        return self.inside(self.model.mean.astype(np.float64))

    @staticmethod
    def of(model: MorphableModel) -> "Lips":
        """The lips of a model with ARKit's names: the jaw takes the lower one with it."""
        eyes = model.regions["eyeballs"]
        away = np.asarray(KDTree(model.landmarks(model.mean)[48:68]).query(model.mean)[0])
        jaw = model.expression_basis[:, 1, model.expression_names.index("jawOpen")]
        skin = model.faces[~eyes[model.faces].any(1)].astype(np.int64)
        return Lips(model, skin, away, (away < 14) & ~eyes, jaw < -12)

    def inside(self, shape: Float[np.ndarray, "V 3"]) -> Int[np.ndarray, " N"]:
        """Vertices of the lips that lie inside flesh, by their winding number (Jacobson et al. 2013)."""
        import igl

        ids = np.flatnonzero(self.zone)
        just_outside = shape[ids] + 0.02 * vertex_normals(shape.astype(np.float32), self.model.faces)[ids]
        solid, faces = closed(shape, self.skin)
        return ids[np.asarray(igl.winding_number(solid, faces, just_outside)) > 0.5]

    def cuts(self, shape: Float[np.ndarray, "V 3"]) -> tuple[Int[np.ndarray, " N"], Float[np.ndarray, "N 3"]]:
        """Vertices of one lip inside the other, but for the few that are so at rest, and for each the way out, mm."""
        import igl

        ids = np.setdiff1d(self.inside(shape), self.at_rest)
        out = np.zeros((len(ids), 3))
        for side in (False, True):
            mine = self.lower[ids] == side
            if mine.any():
                other = self.skin[self.zone[self.skin].all(1) & (self.lower[self.skin] != side).all(1)]
                _, _, nearest = igl.point_mesh_squared_distance(shape[ids[mine]], shape, other)
                out[mine] = nearest - shape[ids[mine]]
        return ids, out

    def apart(self, shape: Float[np.ndarray, "V 3"], *, symmetric: bool) -> Float[np.ndarray, "V 3"]:
        """Moves after which the lips of this shape touch: each half the way out, and smoothly on from there."""
        moves, mirror, before = np.zeros(shape.shape), self.model.mirror, np.inf
        for _ in range(ROUNDS):
            ids, out = self.cuts(shape + moves)
            deep = np.linalg.norm(out, axis=1, keepdims=True)
            if not len(ids) or not SHALLOW < deep.max() < before:
                break
            before = 0.98 * deep.max()
            step = self._spread(ids, 0.5 * out * (1.1 + 0.03 / np.maximum(deep, 1e-6)), 30.0)
            moves += 0.5 * (step + step[mirror] * [-1, 1, 1]) if symmetric else step
        return moves

    def unfolded(self, moves: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        """What to add to moves so that they go smoothly through the left corner of the mouth."""
        corner = self.model.landmarks(self.model.mean)[[54, 64]].mean(0)
        away = np.linalg.norm(self.model.mean - corner, axis=1)
        kept = np.flatnonzero((self.away < REACH) & (away > CORNER))
        return np.where((away < CORNER + 4)[:, None], self._spread(kept, moves[kept], 30.0) - moves, 0)

    def shut(self, jaw: Float[np.ndarray, "V 3"], close: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
        """What to add to mouthClose so that both lips go where it takes the upper one over the open jaw."""
        core, moved = np.flatnonzero(self.zone & (self.away < 7.5)), jaw + close
        across = self.model.mean[:, 0] / 30
        upper, goal = core[~self.lower[core]], np.zeros_like(moved)
        for k, powers in enumerate(((1, 3), (0, 2, 4), (0, 2, 4))):
            terms = np.stack([across**p for p in powers], axis=1)
            goal[:, k] = terms @ np.linalg.lstsq(terms[upper], moved[upper, k], rcond=None)[0]
        return self._spread(core, (goal - moved)[core], 300.0)

    @cached_property
    def _bend(self) -> csr_matrix:
        """Whose quadratic form is small for smooth moves: the squared Laplacian; its rows are the vertices near the
        lips, beyond which nothing moves."""
        mean, count = self.model.mean.astype(np.float64), len(self.away)
        edges = np.concatenate([self.skin[:, [0, 1]], self.skin[:, [1, 2]], self.skin[:, [2, 0]]])
        edges = np.unique(np.concatenate([edges, edges[:, ::-1]]), axis=0)
        near = 1 / np.maximum(np.linalg.norm(mean[edges[:, 0]] - mean[edges[:, 1]], axis=1), 0.3)
        links = csr_matrix((near, tuple(edges.T)), shape=(count, count))
        total = np.asarray(links.sum(1)).ravel()
        laplacian = diags(1 / np.maximum(total, 1e-9)) @ (diags(total) - links)
        around = np.flatnonzero(self.away < REACH)
        return csr_matrix(laplacian.T @ laplacian)[around][:, around]  # pyright: ignore[reportReturnType]

    def _spread(
        self, ids: Int[np.ndarray, " N"], wish: Float[np.ndarray, "N 3"], weight: float
    ) -> Float[np.ndarray, "V 3"]:
        """The smoothest moves with which the vertices `ids` move as wished."""
        asked, wishes, out = np.zeros(len(self.away)), np.zeros((len(self.away), 3)), np.zeros((len(self.away), 3))
        asked[ids], wishes[ids] = weight, weight * wish
        stay = 1.2 * np.clip((self.away - 4) / 14, 0, 1) ** 2 + 1e-3
        around = self.away < REACH
        out[around] = splu((40 * self._bend + diags((asked + stay)[around])).tocsc()).solve(wishes[around])
        return out


# ── lids ───────────────────────────────────────────────────────────────────────────────────────────────────


def slit(model: MorphableModel, shape: Float[np.ndarray, "V 3"], yaw: float = 0.0, pitch: float = 0.0) -> float:
    """mm² of the left eyeball that show, as seen from far."""
    scale, side = 6.0, 300
    turned = shape @ rotation_from_euler(np.array(pitch), np.array(yaw), np.array(0.0)).T
    ball = model.regions["eyeballs"] & (model.mean[:, 0] > 0)
    middle = (turned[ball].max(0) + turned[ball].min(0)) / 2
    faces = model.faces[(np.linalg.norm((turned - middle)[:, :2], axis=1) < 40)[model.faces].all(1)]
    screen = (turned - middle) * scale + [side / 2, side / 2, 0]
    seen = rasterise(screen, faces, (side, side)).face
    of_ball = np.all(ball[faces], axis=1)
    return float(of_ball[seen[seen >= 0]].sum() / scale**2)


def _lids_shut(model: MorphableModel, blink: Float[np.ndarray, "V 3"]) -> Float[np.ndarray, "V 3"]:
    """What to add to eyeBlinkLeft so that the upper lid meets the lower one: a little more of the same, as far from the
    middle of the eye as before."""
    ball = model.regions["eyeballs"] & (model.mean[:, 0] > 0)
    centre = (model.mean[ball].max(0) + model.mean[ball].min(0)) / 2 * [1, 1, 0]
    centre[2] = model.mean[ball, 2].max() - 13.0
    share = np.clip(blink[:, 1] / blink[:, 1].min(), 0, 1)[:, None]
    shut = model.mean + blink
    radius = np.linalg.norm(shut - centre, axis=1, keepdims=True)
    for step in LID_STEPS:
        further = shut + step * share * blink - centre
        further = further * np.where(share > 0, radius / np.linalg.norm(further, axis=1, keepdims=True), 1) + centre
        if slit(model, further) < SLIT:
            break
    return further - shut
