"""Heads of other models to join with ours: made from ours, so that the right answer is known, in files as theirs."""

import pickle
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sameface.metrics.alignment import Similarity
from sameface.morphable import MorphableModel, default
from sameface.morphable.bridge import Bridge, Places


class Head(NamedTuple):
    """A part of our skin, shuffled, somewhere else in space; three triangles where ours has one, if it is `split`."""

    mean: np.ndarray
    """mm"""
    faces: np.ndarray
    place: np.ndarray
    """of each of our vertices among the head's, −1 if it is not there"""
    identity: np.ndarray
    expression: np.ndarray
    landmarks: tuple[np.ndarray, np.ndarray]


def head(person: np.ndarray | None = None, *, region: str = "face", split: bool = False) -> Head:
    """Its mean face is that of a person of our model."""
    ours, rng = default(), np.random.default_rng(0)
    kept = np.flatnonzero(ours.regions[region])
    number = np.full(ours.n_vertices, -1)
    number[kept] = rng.permutation(len(kept))
    old = number[ours.faces]
    whole = np.flatnonzero((old >= 0).all(1))
    middle = len(kept) + np.arange(len(whole) if split else 0)
    faces = old[whole].astype(np.int64)
    if split:
        faces = np.concatenate([np.column_stack([faces[:, [k, (k + 1) % 3]], middle]) for k in range(3)])

    def filled(rows: np.ndarray) -> np.ndarray:
        out = np.zeros((len(kept) + len(middle), *rows.shape[1:]))
        out[number[kept]] = rows[kept]
        if split:
            out[middle] = rows[ours.faces[whole]].mean(1)
        return out

    mean = ours.mean if person is None else ours.vertices(np.float32(person))
    on = ours.faces[ours.landmark_faces]
    corner = number[on[np.arange(68), ours.landmark_weights.argmax(1)]]
    at = np.array([np.flatnonzero((faces == vertex).any(1))[0] for vertex in corner])
    weights = (faces[at] == corner[:, None]).astype(np.float32)
    shift = np.array([3.0, 20.0, -60.0])  # every model's origin is elsewhere
    basis = filled(ours.identity_basis), filled(ours.expression_basis)
    return Head(filled(mean) + shift, faces, number, *basis, (at, weights))


def jaw_of(made: Head) -> tuple[np.ndarray, np.ndarray]:
    """(weights (V, 5), J_regressor (5, V)) of a jaw joint that moves what our jawOpen moves."""
    ours = default()
    moved = made.expression[..., ours.expression_names.index("jawOpen")]
    share = np.clip(np.linalg.norm(moved, axis=1) / np.percentile(np.linalg.norm(moved, axis=1), 99), 0, 1)
    weights = np.zeros((len(made.mean), 5))
    weights[:, 2], weights[:, 1] = share, 1 - share
    regressor = np.zeros((5, len(made.mean)))
    rear = np.argsort(made.mean[:, 2])[:200]
    regressor[:, rear] = 1 / len(rear)
    return weights, regressor


def write_flame(folder: Path, made: Head, *, modes: int = 20) -> Path:
    """FLAME's layout with a jaw joint in place of our jawOpen; metres, an export of 100 and 50 modes."""
    ours, n = default(), len(made.mean)
    weights, regressor = jaw_of(made)
    shapes = np.zeros((n, 3, 150))
    shapes[..., :modes] = made.identity[..., :modes]
    others = [k for k, name in enumerate(ours.expression_names) if name != "jawOpen" and "eyeLook" not in name]
    shapes[..., 100 : 100 + len(others)] = made.expression[..., others] * 0.5  # per σ, not per whole shape
    source = {
        "v_template": made.mean / 1000, "shapedirs": shapes / 1000, "posedirs": np.zeros((n, 3, 36)),
        "weights": weights, "J_regressor": regressor, "f": np.uint32(made.faces),
        "kintree_table": np.array([[2**32 - 1, 0, 1, 1, 1], [0, 1, 2, 3, 4]], np.uint32),
    }  # fmt: skip
    source = {name: np.float32(value) if value.dtype.kind == "f" else value for name, value in source.items()}
    (folder / "flame2023_Open.pkl").write_bytes(pickle.dumps(source, protocol=4))
    at, shares = made.landmarks
    np.save(
        folder / "landmark_embedding.npy",
        np.array({"full_lmk_faces_idx": at[None], "full_lmk_bary_coords": shares[None]}, object),
        allow_pickle=True,
    )
    return folder / "flame2023_Open.pkl"


def exact(model: MorphableModel, made: Head, person: np.ndarray | None = None) -> Bridge:
    """The bridge that is right: each of our vertices there is one of the head's (not `split`)."""
    ours = default()
    known = np.flatnonzero(made.place >= 0)
    corners, weights = np.zeros((ours.n_vertices, 3), np.int64), np.tile(np.float32([1, 0, 0]), (ours.n_vertices, 1))
    order = np.argsort(made.faces.reshape(-1), kind="stable")
    first = np.searchsorted(made.faces.reshape(-1)[order], made.place[known])
    corners[known] = made.faces[order[first] // 3]
    weights[known] = corners[known] == made.place[known, None]
    trust = np.zeros(ours.n_vertices, np.float32)
    trust[known] = np.where(ours.regions["face"][known], 1.0, 0.2)
    pose = Similarity(1.0, np.eye(3), -np.array([3.0, 20.0, -60.0]))
    home, count = np.zeros((model.n_vertices, 3), np.int64), model.n_vertices
    home[made.place[known]] = known[:, None]
    placed = np.isin(np.arange(count), made.place[known]).astype(np.float32)
    back = Places(home, np.tile(np.float32([1, 0, 0]), (count, 1)), placed)
    bent = ours.mean if person is None else ours.vertices(np.float32(person))
    return Bridge(model, pose, bent, Places(corners, weights, trust), back)
