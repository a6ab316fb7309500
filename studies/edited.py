"""How much of a known change of a face today's answers see: `python studies/edited.py` → results/edited.json.

Photos of the face table's val split are changed by `synthetic.editing`: the face fitted to each becomes somebody
else's, by half a change and by its opposite, so that the two photos differ by δ ~ N(0, I) (strangers: √2 times), mm for
mm. Then everything is measured anew in both, and what the answers differ by is held against δ. Slope: Σ p·t / Σ t·t,
p the difference of the two answers and t the true one, over the vertices of the face after the best similarity: 1 is
right, 0 sees nothing, less than 1 shrinks. Left: RMS(p − t) / RMS(t): 100 % is as good as saying that nothing changed.
Modes: the same slope of the coefficients one by one. Points: the same of the points in the photos, px. True points:
what the fit says once it is given those of the changed model. Skin and light stay those of the photo, so nobody can see
what shading alone would show.
"""

import argparse
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sameface.core.errors import NoFaceFound
from sameface.core.geometry import align, euler_from_rotation
from sameface.morphable import default
from sameface.photo.face import Observation, Photo
from sameface.photo.observe import observe, points_of
from sameface.photo.predictor import load, second
from sameface.reconstruction.fit import Priors, fit
from sameface.reconstruction.reconstruct import join, measured
from sameface.synthetic.editing import edited
from sameface.training.datasets import facetable

TITLE, RESULT = "Photos changed by a known amount", Path("results/edited.json")

SHARED = Path(os.environ.get("SAMEFACE_SHARED", "../shared"))
PHOTOS, CHANGES, PEOPLE, EACH = 60, 2, 30, 4
"""photos of each bin of yaw; changes of each; people, and photos of each of them, who are changed alike in all"""
BINS = ((0, 20), (20, 45), (45, 90))
"""|yaw|, degrees"""
ASIDE = 20.0
"""px: a face farther from where it was is another"""
MODES = ((0, 1), (1, 5), (5, 10), (10, 20), (20, 40), (40, 80))
ANSWERS = ("the network's identity", "the answer", "points alone, λ_id 4", "points alone, λ_id 0.25",
           "true points, λ_id 0.25")  # fmt: skip
FIRM, LOOSE = (replace(Priors(), identity=weight, network=0.0) for weight in (4.0, 0.25))


class Pair(NamedTuple):
    """Two photos of everybody in a set, and what is true and said of their difference."""

    yaw: float
    change: np.ndarray
    """(S,) σ"""
    said: np.ndarray
    """(answers, S) σ"""
    meshes: np.ndarray
    """(1 + answers, V, 3) mm: the true difference, and those that are said"""
    points: np.ndarray
    """(2, photos, L, 2) px: the true difference of the points in the photos, and as measured, after a similarity"""


def look(photo: Photo) -> Observation | None:
    """The largest face."""
    try:
        return observe(photo, load("default"), second=second())[0]
    except NoFaceFound:
        return None


def answers(seen: Sequence[Observation], true: Sequence[np.ndarray]) -> np.ndarray:
    """(answers, S) of the photos of one person, in which the points truly are at `true` (L, 2) px."""
    points, data = points_of(load("default")), measured(seen)
    fits = [fit(points, data, priors).identity[0] for priors in (FIRM, LOOSE)]
    best = fit(points, replace(data, landmarks=np.stack(true)), LOOSE).identity[0]
    return np.stack([np.mean([one.identity for one in seen], axis=0), join(seen).identity, *fits, best])


def pair(photos: Sequence[Photo], rng: np.random.Generator) -> Pair | None:
    """The photos of one person changed; None where a face is not found in one of them."""
    model, first = default(), [look(photo) for photo in photos]
    change = rng.normal(size=model.n_identity)
    if any(one is None for one in first):
        return None
    both, places = [], []
    base = join([one for one in first if one is not None])
    if len(base.views) < len(photos):
        return None
    for half in (change / 2, -change / 2):
        seen, true = [], []
        for photo, view in zip(photos, base.views, strict=True):
            face = edited(photo.pixels, view.camera, base.identity, view.expression, half, model)
            found = look(replace(photo, pixels=face))
            if found is None or np.linalg.norm(found.landmarks.mean(0) - view.seen.landmarks.mean(0)) > ASIDE:
                return None
            shape = points_of(load("default"))((base.identity + half)[None], view.expression[None])[0]
            seen.append(found)
            true.append(view.camera.project(shape))
        both.append(answers(seen, true))
        places.append(np.concatenate([true, [one.landmarks for one in seen]]))
    after, before = (
        model.vertices(np.concatenate([base.identity[None] + sign * change / 2, one]))[:, model.regions["face"]]
        for sign, one in zip((1, -1), both, strict=True)
    )
    yaw = float(np.degrees(euler_from_rotation(base.views[0].camera.pose)[1]))
    meshes = differences(after.astype(np.float64), before.astype(np.float64))
    points = differences(places[0], places[1]).reshape(2, len(photos), -1, 2)
    return Pair(yaw, change, both[0] - both[1], meshes, points)


def differences(after: np.ndarray, before: np.ndarray) -> np.ndarray:
    """(N, V, D) between N pairs, each laid on each other by a similarity: photos do not tell size and place."""
    scale, rotation, shift = align(after, before)
    return scale[:, None, None] * after @ rotation.swapaxes(1, 2) + shift[:, None] - before


def compared(true: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """Slope, correlation (about zero) and what is left."""
    both, square = float((true * said).sum()), float((true**2).sum())
    return {
        "slope": both / square,
        "correlation": both / np.sqrt(square * max(float((said**2).sum()), 1e-12)),
        "left": float(np.sqrt(((said - true) ** 2).sum() / square)),
    }


def of_answers(pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
    """By answer, over the face."""
    meshes = np.stack([one.meshes for one in pairs])
    return {name: compared(meshes[:, 0], meshes[:, 1 + k]) for k, name in enumerate(ANSWERS)}


def of_modes(pairs: Sequence[Pair]) -> dict[str, dict[str, float]]:
    """By answer and group of modes: the slope of the coefficients."""
    change, said = np.stack([one.change for one in pairs]), np.stack([one.said for one in pairs])
    return {
        name: {f"{a + 1}-{b}" if b > a + 1 else str(b): compared(change[:, a:b], said[:, k, a:b])["slope"]
               for a, b in MODES}
        for k, name in enumerate(ANSWERS)
    }  # fmt: skip


def of_points(pairs: Sequence[Pair]) -> dict[str, float]:
    """Of the measured points."""
    true, said = (np.concatenate([one.points[k] for one in pairs]) for k in (0, 1))
    return compared(true, said)


def chosen_rows(data: Any, rng: np.random.Generator) -> dict[tuple[int, int], list[int]]:
    """By bin of yaw, rows of the split in a random order."""
    yaw = np.abs(np.degrees(np.arcsin(np.clip(data.rotation[:, 2, 0], -1, 1))))
    order = rng.permutation(len(data))
    return {(low, high): [int(row) for row in order if low <= yaw[row] < high] for low, high in BINS}


def single(data: Any, count: int, changes: int) -> tuple[dict[str, list[Pair]], int]:
    """Pairs by bin of yaw, `count` photos each, and how many photos were left out."""
    rng, out, missed = np.random.default_rng(0), {}, 0
    for (low, high), rows in chosen_rows(data, rng).items():
        done: list[Pair] = []
        for row in rows:
            found = [pair([Photo(data.image(row), data.names[row])], rng) for _ in range(changes)]
            missed += any(one is None for one in found)
            done += [one for one in found if one is not None] if None not in found else []
            if len(done) >= count * changes:
                break
        out[f"{low}-{high}°"] = done
        print(low, high, len(done), of_answers(done)["the answer"], of_points(done), flush=True)
    return out, missed


def several(data: Any, people: int) -> tuple[dict[str, list[Pair]], int]:
    """Pairs of people in one photo and in EACH, changed alike."""
    rng, one, all_of_them, missed = np.random.default_rng(1), [], [], 0
    for person in rng.permutation(np.unique(data.person[data.person >= 0])):
        rows = np.flatnonzero(data.person == person)
        if len(rows) < EACH or len(one) >= people:
            continue
        photos = [Photo(data.image(int(row)), data.names[row]) for row in rng.permutation(rows)[:EACH]]
        state = rng.bit_generator.state
        first = pair(photos[:1], rng)
        rng.bit_generator.state = state  # the same change
        whole = pair(photos, rng)
        missed += first is None or whole is None
        if first is not None and whole is not None:
            one.append(first)
            all_of_them.append(whole)
    return {"1": one, str(EACH): all_of_them}, missed


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--photos", type=int, default=PHOTOS, help="of each bin of yaw")
    parser.add_argument("--people", type=int, default=PEOPLE)
    asked = parser.parse_args()
    data = facetable.load(SHARED / "data" / "faces", "val")
    by_yaw, missed = single(data, asked.photos, CHANGES)
    people, lost = several(data, asked.people)
    every = [one for pairs in by_yaw.values() for one in pairs]
    size = np.sqrt((np.stack([one.meshes[0] for one in every]) ** 2).sum(2).mean())
    out = {
        "command": f"python studies/edited.py --photos {asked.photos} --people {asked.people}",
        "photos": len(every) // CHANGES, "left out": missed,
        "changes": len(every), "true change, mm RMS": float(size),
        "by yaw": {"all": of_answers(every), **{name: of_answers(pairs) for name, pairs in by_yaw.items()}},
        "points": {"all": of_points(every), **{name: of_points(pairs) for name, pairs in by_yaw.items()}},
        "modes": of_modes(every),
        "people": len(people["1"]), "people left out": lost,
        "by photos": {name: of_answers(pairs) for name, pairs in people.items()},
    }  # fmt: skip
    print(json.dumps(out["by photos"], indent=1), json.dumps(out["modes"], indent=1))
    RESULT.write_text(json.dumps(out, indent=1) + "\n")


def section(r: dict[str, Any]) -> list[Any]:
    def cell(row: dict[str, float]) -> str:
        return f"{row['slope']:.2f} · {row['correlation']:.2f} · {row['left']:.0%}"

    bins = list(r["by yaw"])
    rows = [[name, *(cell(r["by yaw"][b][name]) for b in bins)] for name in ANSWERS]
    points = ["measured points, px", *(cell(r["points"][b]) for b in bins)]
    groups = list(r["modes"][ANSWERS[0]])
    modes = [[name, *(f"{r['modes'][name][g]:.2f}" for g in groups)] for name in ANSWERS]
    counts = list(r["by photos"])
    people = [[name, *(cell(r["by photos"][n][name]) for n in counts)] for name in ANSWERS]
    return [
        f"{r['changes']} changes of {r['photos']} val photos, {r['true change, mm RMS']:.1f} mm RMS over the face; "
        f"{r['left out']} more photos, where a face was not found in every version, are left out. "
        "Slope of what answers change on what is true · correlation · what is left (100 %: as good as seeing nothing).",
        (["by |yaw|", *bins], [points, *rows]),
        (["slope by identity mode", *groups], modes),
        f"{r['people']} people, changed alike in all of their photos:",
        (["photos", *counts], people),
    ]


if __name__ == "__main__":
    main()
