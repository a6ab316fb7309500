"""Answers in other models: how near they come to ours, and whether people drawn from them come back.

    python studies/bridges.py

The ICT-FaceKit head of ../shared is a real model of another topology; its makers' people are ours, so the rows below it
ask what matters elsewhere: heads in the way of FLAME, GNM, Basel and 3DDFA, which are made of it. Their mean face is
another one (half a deviation off in every mode), their modes are mixtures, their meshes have parts that ours has not or
lack parts of ours, the jaw is a joint, expressions are in deviations, there are few modes, the file has a mean
expression. Where our vertices belong on them is known, for it is where they belong on the ICT head.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sameface.core.geometry import align
from sameface.evaluation.scan_landmarks import find_landmarks
from sameface.mesh.read import Mesh
from sameface.metrics.alignment import Surface
from sameface.morphable import MorphableModel, default
from sameface.morphable.bridge import Bridge, between
from sameface.morphable.ict import load
from sameface.morphable.recast import Recaster
from sameface.morphable.transfer import as_model, transfer

TITLE, RESULT = "Answers in other models", Path("results/bridges.json")
SHARED = Path(os.environ.get("SAMEFACE_SHARED", "../shared"))
PEOPLE, MEAN_OFF, SEED = 12, 0.5, 0
SHOWN = 0.25
"""part of the expressions that a person shows, each by up to 0.8"""


def mixed(basis: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` modes that are mixtures of all, so that coefficients of one deviation stay so."""
    turn, _ = np.linalg.qr(rng.normal(size=(basis.shape[2], basis.shape[2])))
    return (basis @ turn.astype(np.float32))[..., :count]


def other_mean(head: MorphableModel, rng: np.random.Generator) -> np.ndarray:
    return head.vertices(np.float32(MEAN_OFF * rng.normal(size=head.n_identity))) + np.float32([4, -11, 30])


def cut(head: MorphableModel, kept: np.ndarray) -> MorphableModel:
    """Only the vertices of a part, and what stands on them."""
    number = np.full(head.n_vertices, -1)
    number[kept] = np.arange(kept.sum())
    faces = number[head.faces]
    whole = (faces >= 0).all(1)
    place = np.cumsum(whole) - 1
    changes: dict[str, Any] = {
        name: getattr(head, name)[kept] for name in ("mean", "identity_basis", "expression_basis")
    }
    return replace(
        head, **changes, faces=faces[whole], landmark_faces=place[head.landmark_faces], contour_faces=None,
        contour_weights=None, mirror=None, regions={}, extra={},
    )  # fmt: skip


def flame_like(head: MorphableModel, rng: np.random.Generator) -> MorphableModel:
    """Jaw and eyes are joints; 100 and 50 modes in deviations; a whole head without sockets."""
    opened = np.linalg.norm(head.expression_basis[..., head.expression_names.index("jawOpen")], axis=1)
    others = [k for k, name in enumerate(head.expression_names) if name != "jawOpen" and "eyeLook" not in name]
    eyes = [head.regions[f"eyeball_{side}"] for side in ("left", "right")]
    weights = np.zeros((head.n_vertices, 5), np.float32)
    weights[:, 2] = np.clip(opened / np.percentile(opened, 99), 0, 1)
    regressor = np.zeros((5, head.n_vertices), np.float32)
    hinge = np.flatnonzero(head.regions["head_neck"] & (np.abs(head.mean[:, 1] - head.mean[:, 1].mean()) < 20))
    regressor[:3, hinge] = 1 / len(hinge)
    for k, ball in enumerate(eyes):
        weights[ball], weights[ball, 3 + k] = 0, 1
        regressor[3 + k, ball] = 1 / ball.sum()
    weights[:, 1] = 1 - weights.sum(1)
    extra = {"weights": weights, "J_regressor": regressor}
    expression = mixed(head.expression_basis[..., others] * np.float32(0.5), len(others), rng)
    return replace(
        head, name="FLAME's way", mean=other_mean(head, rng), identity_basis=mixed(head.identity_basis, 100, rng),
        expression_basis=expression, expression_names=tuple(f"e{k}" for k in range(len(others))),
        expression_range=(-3.0, 3.0), extra=extra, unit=1000.0,
    )  # fmt: skip


def gnm_like(head: MorphableModel, rng: np.random.Generator) -> MorphableModel:
    """A whole head with sockets and eyeballs; everything is blended, in deviations."""
    count = head.n_expression
    return replace(
        head, name="GNM's way", mean=other_mean(head, rng), identity_basis=mixed(head.identity_basis, 100, rng),
        expression_basis=mixed(head.expression_basis * np.float32(0.5), count, rng), expression_range=(-3.0, 3.0),
        expression_names=tuple(f"e{k}" for k in range(count)), extra={}, unit=1000.0,
    )  # fmt: skip


def basel_like(head: MorphableModel, rng: np.random.Generator) -> MorphableModel:
    """The face alone; the file has a mean expression."""
    face = cut(gnm_like(head, rng), head.regions["face"])
    smile = head.expression_basis[head.regions["face"]][..., head.expression_names.index("mouthSmileLeft")]
    return replace(face, name="Basel's way", extra={"expression_mean": smile * np.float32(0.5)})


def few_modes(head: MorphableModel, rng: np.random.Generator) -> MorphableModel:
    """3DDFA's 40 and 10 modes, the largest of the face's."""
    face = cut(head, head.regions["face"])

    def largest(basis: np.ndarray, count: int) -> np.ndarray:
        left, sizes, _ = np.linalg.svd(basis.reshape(-1, basis.shape[2]), full_matrices=False)
        return np.float32(left[:, :count] * sizes[:count]).reshape(*basis.shape[:2], count)

    return replace(
        face, name="3DDFA's way", mean=other_mean(head, rng)[head.regions["face"]],
        identity_basis=largest(face.identity_basis, 40),
        expression_basis=largest(face.expression_basis * np.float32(0.5), 10),
        expression_names=tuple(f"e{k}" for k in range(10)), expression_range=(-3.0, 3.0), unit=0.001,
    )  # fmt: skip


def surface_distance(points: np.ndarray, mesh: np.ndarray, faces: np.ndarray) -> np.ndarray:
    return Surface(mesh.astype(np.float64), faces).closest(points.astype(np.float64)).distances


def slide(made: Bridge, right: np.ndarray) -> np.ndarray:
    """mm on the mean face between where our vertices were placed and where they belong, over the face."""
    linked = default().regions["face"] & (made.there.trust > 0)
    return np.linalg.norm(made.there.on(made.target.mean) - right, axis=1)[linked]


def measured(made: Bridge, rng: np.random.Generator) -> dict[str, Any]:
    """People of ours in the other model, and people of the other model there and back."""
    ours, recaster, target = default(), Recaster(made), made.target
    face = ours.regions["face"] & (made.there.trust > 0)
    neutral, shown, moved, back, theirs, identity, took = [], [], [], [], [], [], []
    for _ in range(PEOPLE):
        person = np.float32(rng.normal(size=ours.n_identity))
        weights = np.where(rng.uniform(size=51) < SHOWN, rng.uniform(0, 0.8, 51), 0).astype(np.float32)
        faces = np.stack([ours.vertices(person), ours.vertices(person, weights)])
        recaster(faces[0], faces[1:])
        begun = time.process_time()
        found = recaster(faces[0], faces[1:])
        took.append((time.process_time() - begun) / 2)
        for k, distances in enumerate((neutral, shown)):
            mesh = found.pose.apply(recaster.mesh(found, k).astype(np.float64))
            distances.append(surface_distance(faces[k][face], mesh, target.faces))
        again = [found.pose.apply(made.there.on(recaster.mesh(found, k).astype(np.float64)))[face] for k in range(2)]
        moved.append(np.linalg.norm((again[1] - again[0]) - (faces[1] - faces[0])[face], axis=1))
        back.append(np.linalg.norm(faces[1] - faces[0], axis=1)[face])
        drawn = np.float32(rng.normal(size=target.n_identity))
        mesh = target.vertices(drawn).astype(np.float64)
        seen = ours.mean.astype(np.float64)
        seen[made.there.trust > 0] = made.pose.apply(made.there.on(mesh))[made.there.trust > 0]
        found = recaster(np.float32(seen))
        a, b = made.there.on(recaster.mesh(found, 0).astype(np.float64))[face], made.there.on(mesh)[face]
        _, turn, shift = align(a, b, scale=False)
        theirs.append(np.linalg.norm(a @ turn.T + shift - b, axis=1))
        identity.append(np.corrcoef(found.identity, drawn)[0, 1])
    return {
        "neutral": statistics(neutral), "expression": statistics(shown), "movement": statistics(moved),
        "movement_size": statistics(back), "theirs": statistics(theirs),
        "identity_correlation": float(np.mean(identity)), "ms": 1000 * float(np.median(took)),
    }  # fmt: skip


def statistics(values: list[np.ndarray]) -> dict[str, float]:
    together = np.concatenate(values)
    return {"mean": round(float(together.mean()), 4), "p95": round(float(np.percentile(together, 95)), 4)}


def weights_back(made: Bridge, rng: np.random.Generator) -> float:
    """ARKit's weights → blendshapes of the other → weights: mean error of those that are shown."""
    ours, recaster = default(), Recaster(made)
    errors = []
    for _ in range(PEOPLE):
        person = np.float32(rng.normal(size=ours.n_identity))
        weights = np.where(rng.uniform(size=51) < SHOWN, rng.uniform(0, 0.8, 51), 0).astype(np.float32)
        found = recaster(ours.vertices(person), ours.vertices(person, weights)[None]).expression[1]
        told = dict(zip(made.target.expression_names, found, strict=True))
        errors += [abs(told[name] - w) for name, w in zip(ours.expression_names, weights, strict=True) if w > 0]
    return float(np.mean(errors))


def transferred(head: MorphableModel) -> dict[str, Any]:
    """ARKit's expressions on ICT's head as if somebody had made it, landmarks found, against ICT's own."""
    mesh = Mesh(head.mean.astype(np.float64), head.faces.astype(np.int64))
    made = between(as_model(mesh, find_landmarks(mesh, "the head", refined=False)), name="the head")
    shapes, face = transfer(made), head.regions["face"]
    errors, sizes = [], []
    for name, found in shapes.items():
        if "eyeLook" in name:  # in which ICT's lids alone move
            continue
        right = head.expression_basis[..., head.expression_names.index(name)]
        moved = face & (np.linalg.norm(right, axis=1) > 1)
        errors.append(np.linalg.norm(found - right, axis=1)[moved])
        sizes.append(np.linalg.norm(right, axis=1)[moved])
    return {"error": statistics(errors), "size": statistics(sizes), "shapes": len(errors)}


def main() -> None:
    head, rng = load(SHARED / "data" / "ict_face.npz"), np.random.default_rng(SEED)
    rows = {}
    true = between(head)
    ways: dict[str, Callable[..., MorphableModel]] = {
        "ict": lambda head, rng: head, "flame": flame_like, "gnm": gnm_like, "basel": basel_like, "tddfa": few_modes
    }  # fmt: skip
    for name, make in ways.items():
        target = make(head, rng)
        begun = time.process_time()
        made = true if name == "ict" else between(target, name=name)
        took = time.process_time() - begun
        kept = head.regions["face"] if target.n_vertices < head.n_vertices else np.ones(head.n_vertices, bool)
        whole = np.zeros((head.n_vertices, 3))
        whole[kept] = target.mean
        off = slide(made, true.there.on(whole)) if name != "ict" else np.zeros(1)
        region = made.quality["face"]
        rows[name] = {
            "model": target.name, "vertices": target.n_vertices, "modes": [target.n_identity, target.n_expression],
            "linked": region.linked, "apart": region.mean, "apart_p95": region.p95,
            "slide": None if name == "ict" else {"mean": float(off.mean()), "p95": float(np.percentile(off, 95))},
            "seconds": took if name != "ict" else None, **measured(made, rng),
        }  # fmt: skip
        if target.expression_range[0] == 0:
            rows[name]["weights_back"] = weights_back(made, rng)
        print(name, json.dumps(rows[name]))
    about = {"command": "python studies/bridges.py", "people": PEOPLE, "transfer": transferred(head), "rows": rows}
    RESULT.write_text(json.dumps(about, indent=1) + "\n")


def section(r: dict[str, Any]) -> list[Any]:
    rows = list(r["rows"].values())

    def pair(value: dict[str, float] | None) -> str:
        return "–" if value is None else f"{value['mean']:.2f} ({value['p95']:.2f})"

    table = [
        [
            row["model"], f"{row['vertices']:,}", " + ".join(map(str, row["modes"])), f"{row['linked']:.0%}",
            pair(row["slide"]), pair(row["neutral"]), pair(row["expression"]), pair(row["theirs"]),
            f"{row['identity_correlation']:.2f}",
        ]
        for row in rows
    ]  # fmt: skip
    head = [
        "model", "vertices", "modes", "linked", "wrong place", "our neutral", "our expression", "theirs back", "r",
    ]  # fmt: skip
    back = next(row["weights_back"] for row in rows if "weights_back" in row)
    moved, size = rows[0]["movement"], rows[0]["movement_size"]
    own, needed = r["transfer"]["error"], r["transfer"]["size"]
    return [
        f"{r['people']} people drawn from our model, neutral and with expressions, answered in other models, and as "
        "many drawn from each of these. ICT-FaceKit's is a real file; the others are made of it in the way of those "
        "named, with another mean face, mixed or fewer modes, other parts (`studies/bridges.py` says how): their own "
        "files may not be passed on. Over the linked part of our face region, in mm, mean (95th percentile): *wrong "
        "place*, how far along the surface of the mean face our vertices lie from where they belong; *our neutral* and "
        "*our expression*, from our surface to theirs; *theirs back*, vertex by vertex from a person of theirs to the "
        "same person after a way through ours; *r*, the correlation of that person's coefficients before and after. "
        "All are spanned by the scans that ours is made of: these are errors of the way; what a model cannot express "
        "comes on top, as in the row with 40 and 10 modes, and is told with every answer (`residual_mm`).",
        (head, table),
        "`sameface model transfer` on ICT's head, its landmarks found and nothing known of its model: where one of "
        f"{r['transfer']['shapes']} expressions moves the face by more than a millimetre ({needed['mean']:.1f} mm on "
        f"average), the answer is {own['mean']:.2f} mm from ICT's own (95 %: {own['p95']:.2f}).",
        f"ARKit's weights come back from ICT's blendshapes within {back:.3f} on average (of those that are shown); "
        f"movements of {size['mean']:.1f} mm on average are repeated within {moved['mean']:.2f} mm. Joining took "
        f"{max(row['seconds'] for row in rows if row['seconds']):.0f} s of one core at most, an answer, mesh and "
        f"distance included, {min(row['ms'] for row in rows):.0f} to {max(row['ms'] for row in rows):.0f} ms a face.",
    ]


if __name__ == "__main__":
    sys.exit(main())
