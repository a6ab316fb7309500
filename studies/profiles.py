"""Is a person the same from the front and from the side? `python studies/profiles.py` → results/profiles.json.

People of the test split: photos from the front (yaw below 15° by the labels), against photos from the side. There are
few of these (beyond 35°), so photos from the front are also turned to 60° and 75° (`synthetic/profiling.py`, by what
the pipeline saw of them) and looked at anew; a photo is never compared with itself turned. AUC: how often a pair of the
same person is nearer than one of two, by mm of the surface (`identity_halves`), of the fit and of what the
network alone says. Faces that are not found are counted.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from identity_halves import distances
from sameface.core.camera import WeakPerspective
from sameface.core.errors import NoFaceFound
from sameface.core.geometry import euler_from_rotation
from sameface.metrics.verification import area_under_curve
from sameface.morphable import default
from sameface.photo.face import Observation, Photo
from sameface.photo.observe import observe, points_of
from sameface.photo.predictor import load, second
from sameface.reconstruction.fit import fit
from sameface.reconstruction.reconstruct import measured
from sameface.synthetic.profiling import profile
from sameface.training.datasets import facetable
from table import SHARED, Observed, observed

TITLE, RESULT = "Front against side", Path("results/profiles.json")
FRONT, SIDE, EACH, TURNS = 15.0, 35.0, 6, (60.0, 75.0)
"""degrees; photos of a person at most; degrees that they are turned to"""
GOOD = 0.5


def chosen(data: Observed, front: bool) -> np.ndarray:
    """Rows of `data`: good photos from the front, EACH of a person at most; or all from the side."""
    rng, rows = np.random.default_rng(0), []
    for person in np.unique(data.person):
        mine, yaw = data.person == person, np.abs(data.yaw)
        some = np.flatnonzero(mine & (yaw < FRONT) & (data.quality > GOOD) if front else mine & (yaw > SIDE))
        rows.append(rng.permutation(some)[: EACH if front else None])
    return np.concatenate(rows)


def again(pixels: np.ndarray) -> Observation | None:
    """The largest face of a picture."""
    try:
        faces = observe(Photo(pixels, "photo"), load("default"), second=second())
    except NoFaceFound:
        return None
    return max(faces, key=lambda face: float(np.ptp(face.landmarks, axis=0).prod()))


def turned(table: Any, data: Observed, rows: np.ndarray, yaw: float) -> list[Observation | None]:
    """What the pipeline sees of photos once their heads are turned."""
    out, model = [], default()
    for row in rows:
        one = data.measured[[row]]
        camera = one.camera
        assert isinstance(camera, WeakPerspective)
        camera = WeakPerspective(camera.rotation[0], camera.translation[0], camera.scale[0], camera.size)
        side = np.sign(euler_from_rotation(camera.rotation)[1]) * np.radians(yaw)
        vertices = model.vertices(one.identity[0], np.clip(one.expression[0], 0, 1))
        out.append(again(profile(table.image(int(data.row[row])), camera, vertices, model, float(side)).image))
    return out


def compared(first: dict[str, np.ndarray], second: dict[str, np.ndarray], apart: np.ndarray) -> dict[str, Any]:
    """AUC and mm over all pairs of one of each, but for those that `apart` (A, B) leaves out."""
    same = (first["person"][:, None] == second["person"])[apart]
    out: dict[str, Any] = {"same pairs": int(same.sum()), "different pairs": int((~same).sum())}
    for name in ("fit", "network"):
        both = distances(np.concatenate([first[name], second[name]]))
        distance = both[: len(first[name]), len(first[name]) :][apart]
        out[f"auc, {name}"] = area_under_curve(-distance, same)
        out[f"same mm, {name}"] = float(distance[same].mean())
        out[f"different mm, {name}"] = float(distance[~same].mean())
    return out


def said(data: Observed, rows: np.ndarray) -> dict[str, np.ndarray]:
    part = data[rows]
    shape = fit(points_of(load("default")), part.seen, shared=False).identity
    return {"fit": shape, "network": part.measured.identity, "person": part.person}


def main() -> None:
    data, table = observed("test", persons_only=True), facetable.load(SHARED / "data" / "faces", "test")
    rows, aside = chosen(data, True), chosen(data, False)
    front, points = said(data, rows), points_of(load("default"))
    out: dict[str, Any] = {"command": "python studies/profiles.py", "people": len(np.unique(data.person[rows])),
                           "photos from the front": len(rows), "photos from the side": len(aside)}  # fmt: skip
    no_pair_with_itself = ~np.eye(len(rows), dtype=bool)
    out["front against front"] = compared(front, front, np.triu(no_pair_with_itself))
    out["front against side"] = compared(front, said(data, aside), np.ones((len(rows), len(aside)), bool))
    for yaw in TURNS:
        seen = turned(table, data, rows, yaw)
        found = np.flatnonzero([one is not None for one in seen])
        faces = [one for one in seen if one is not None]
        shape = fit(points, measured(faces), shared=False).identity
        network = np.stack([one.identity for one in faces])
        side = {"fit": shape, "network": network, "person": data.person[rows][found]}
        out[f"front against turned to {yaw:g}°"] = compared(front, side, no_pair_with_itself[:, found])
        out[f"front against turned to {yaw:g}°"]["not found"] = len(rows) - len(found)
    RESULT.write_text(json.dumps(out, indent=1, ensure_ascii=False) + "\n")
    print(json.dumps(out, indent=1, ensure_ascii=False))


def section(r: dict[str, Any]) -> list[Any]:
    rows = [
        [name, f"{v['same pairs']}", f"{v.get('not found', 0)}", f"{v['auc, fit']:.3f}", f"{v['same mm, fit']:.2f}",
         f"{v['different mm, fit']:.2f}", f"{v['auc, network']:.3f}"]
        for name, v in r.items() if isinstance(v, dict)
    ]  # fmt: skip
    return [
        f"{r['people']} people of the test split, {r['photos from the front']} photos from the front, "
        f"{r['photos from the side']} from the side (beyond 35°); turned: the photos from the front with the head "
        "turned by face profiling, never compared with themselves. AUC by mm between shapes of single photos.",
        (["pairs", "same", "faces not found", "AUC, fit", "same, mm", "different, mm", "AUC, network alone"], rows),
    ]


if __name__ == "__main__":
    main()
