"""Photos of any other data set with the labels that `sameface fit-set` made for them (Liu et al. 2018, sec. 3.3.2).

Layout: a folder with labels.parquet, one row per photo, and labels.json, whose `data` says which DATASET:FOLDER the
photos are in (a relative folder is relative to labels.json); a data set of your own, a Python file, is run only if you
name it too (`--plugin FILE`). No size or licence of its own: labels of a data set are
for whoever may use the data set. `fit_set.py` writes it; the columns are in `schema`.

A rejected photo is a row with its reason and without labels; it is no item here, and `rejected` counts it. The labels
belong to the morphable model that ships with sameface. Splits are those of the data set, as far as they were fitted.
Items hold everything else that the data set gives; where it has `params` or `rotation` of its own, ours take their
place.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sameface.core import plugins
from sameface.core.camera import WeakPerspective
from sameface.core.errors import BadData
from sameface.core.files import plain, read_json
from sameface.core.tables import read_table, rows_of_lists
from sameface.morphable import default
from sameface.morphable.points import points68
from sameface.training.labels import POSE, in_photo

__all__ = ["Labelled", "camera_of", "gives", "gives_at", "load", "name_of", "parameters", "sample", "schema"]

gives = ("image", "params", "identity", "expression", "rotation", "landmarks68_projected", "person", "quality")

LABELS, ABOUT = "labels.parquet", "labels.json"
LAYOUT = f"{LABELS} and {ABOUT}, as `sameface fit-set DATASET:FOLDER --out FOLDER/{LABELS}` writes them"


def schema() -> Any:
    """The columns of labels.parquet (a pyarrow schema); everything from `identity` on is null in rejected rows.

    split, row, name: which photo; `row` counts from 0 within the split · person: the data set's number, −1 unknown ·
    kept, reason, message: NoFaceFound, BadPhoto, BadData, PoorPhoto, LargeResidual, Copy, Disagrees · quality 0 to 1 ·
    residual_px, residual_percent: median distance of fitted and measured points, of the face's size · from_others_mm:
    how far the photo's own shape is from that of the person's others · identity (S,) σ, the person's · expression (E,)
    · rotation (9,) row-major, translation (2,) px, scale px/mm: the camera · params (12 + S + E,), see `parameters`.
    """
    import pyarrow as pa

    some = pa.list_(pa.float32())
    return pa.schema({
        "split": pa.string(), "row": pa.int32(), "name": pa.string(), "person": pa.int32(), "kept": pa.bool_(),
        "reason": pa.string(), "message": pa.string(), "quality": pa.float32(), "residual_px": pa.float32(),
        "residual_percent": pa.float32(), "from_others_mm": pa.float32(), "identity": some, "expression": some,
        "rotation": some, "translation": some, "scale": pa.float32(), "params": some,
    })  # fmt: skip


def parameters(
    camera: WeakPerspective, identity: Float[np.ndarray, " S"], expression: Float[np.ndarray, " E"], height: int
) -> Float[np.ndarray, " K"]:
    """(12 + S + E,): the row-major 3×4 matrix [sR | t], then identity (σ), then expression.

    What `labels.in_photo` reads: (X, Y, Z) = [sR | t] (v, 1) of a point v in mm has (X, H − Y) as its place in a
    picture of height H, px from the upper left corner, and Z grows towards the viewer. t_z, which nobody sees, is 0.
    """
    upward = np.array([[1.0], [-1.0], [-1.0]])
    shift = np.array([camera.translation[0], height - camera.translation[1], 0.0])
    matrix = np.column_stack([camera.scale * upward * camera.rotation, shift])
    return np.concatenate([matrix.ravel(), identity, expression]).astype(np.float32)


def camera_of(params: Float[np.ndarray, " K"], size: tuple[int, int]) -> WeakPerspective:
    """The camera in `parameters` of a picture of this (width, height), px."""
    matrix, _ = in_photo(params, default(), size[1])
    scale = np.linalg.norm(matrix[0, :3])
    return WeakPerspective(matrix[:, :3] / scale, matrix[:2, 3], scale, size)


class Labelled:
    """One split. `labelled[i]` → what the data set gives for a photo that was kept, and

    params (12 + S + E,), see `parameters` · identity (S,) σ, the same for all photos of a person · expression (E,) ·
    rotation (3, 3) of the camera · landmarks68_projected (68, 2) px, the fitted face's iBUG points · person, counted
    from 0 among those with a photo left, −1 unknown · quality 0 to 1 of the photo.
    """

    def __init__(self, inner: Any, columns: dict[str, np.ndarray], rejected: dict[str, int]):
        self.inner, self.rejected = inner, rejected
        self.rows, self.params, self.quality = columns["row"], columns["params"], columns["quality"]
        person = columns["person"]
        self.person = np.full(len(person), -1)
        self.person[person >= 0] = np.unique(person[person >= 0], return_inverse=True)[1]
        self.names = columns["name"].tolist()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int, /) -> dict[str, np.ndarray | np.generic]:
        item, params = dict(self.inner[int(self.rows[index])]), self.params[index].copy()
        height, width = item["image"].shape[:2]
        camera, shapes = camera_of(params, (width, height)), default().n_identity
        identity, expression = params[POSE : POSE + shapes], params[POSE + shapes :]
        landmarks = camera.project(points68()(identity[None], expression[None])[0])
        labels = {
            "image": item["image"],
            "params": params,
            "identity": identity,
            "expression": expression,
            "rotation": camera.rotation.astype(np.float32),
            "landmarks68_projected": landmarks.astype(np.float32),
            "person": self.person[index],
            "quality": self.quality[index],
        }
        return labels | {name: value for name, value in item.items() if name not in labels}


def load(root: Path, split: str) -> Labelled:
    """The photos of one split that were kept.

    Raises BadData when a file is missing, the split was not fitted, or the labels were made for other photos or for
    another morphable model.
    """
    about = _about(Path(root))
    known = tuple(about["splits"])
    if split not in known:
        raise BadData(f"{root} has no labels of split {split!r}; fitted were {', '.join(known)}")
    model = default().name
    if about["morphable"] != model:
        raise BadData(f"{root} has labels for the model {about['morphable']!r}, expected {model!r}: fit the set again")
    dataset, folder = _inner(Path(root), about)
    inner = dataset.load(folder, split)
    columns, rejected = _read(Path(root) / LABELS, split)
    if len(inner) != about["splits"][split] or columns["row"].min() < 0 or columns["row"].max() >= len(inner):
        raise BadData(
            f"{root} has labels for {about['splits'][split]} photos of split {split!r}, but {about['data']} has "
            f"{len(inner)}; fit the set again"
        )
    for row, name in zip(columns["row"].tolist(), columns["name"].tolist(), strict=True):
        if name_of(inner, row) != name:
            raise BadData(f"{root} has labels for {name} in row {row}, which now is {name_of(inner, row)}; fit again")
    return Labelled(inner, columns, rejected)


def gives_at(root: Path) -> tuple[str, ...]:
    """`gives`, and what else the items of the data set hold that the labels in `root` were made for."""
    inner = _inner(Path(root), _about(Path(root)))[0].gives
    return gives + tuple(name for name in inner if name not in gives)


def name_of(items: Any, row: int) -> str:
    """What a data set calls one of its photos, or the row's number.

    >>> name_of([], 3)
    'row 3'
    """
    names = getattr(items, "names", None)
    return f"row {row}" if names is None else plain(os.fsdecode(names[row]))


def sample(root: Path) -> None:
    """Write persons with cartoons (casia's), labels that show a mean face in their middle, and one rejected photo."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pictures, model, records, splits = plugins.load("datasets", "casia"), default(), [], {}
    pictures.sample(root / "pictures")
    nobody, still = np.zeros(model.n_identity), np.zeros(model.n_expression)
    for split in ("train", "val", "test"):
        items = pictures.load(root / "pictures", split)
        splits[split] = len(items)
        for row in range(len(items)):
            camera = WeakPerspective(np.diag([1.0, -1.0, -1.0]), np.full(2, 125.0), np.float64(250 / 270), (250, 250))
            record: dict[str, Any] = {"split": split, "row": row, "name": name_of(items, row)}
            record |= {"person": int(items.person[row]), "kept": row > 0}
            if row:
                record |= {"quality": 0.5, "residual_px": 1.0, "residual_percent": 0.6, "from_others_mm": 0.0}
                record |= {"identity": nobody, "expression": still, "rotation": camera.rotation.ravel()}
                record |= {"translation": camera.translation, "scale": float(camera.scale)}
                record["params"] = parameters(camera, nobody, still, 250)
            else:
                record |= {"reason": "NoFaceFound", "message": "made up"}
            records.append(record)
    pq.write_table(pa.Table.from_pylist(records, schema()), root / LABELS)
    about = {"data": "casia:pictures", "morphable": model.name, "splits": splits}
    (root / ABOUT).write_text(json.dumps(about, indent=1) + "\n")


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _about(root: Path) -> dict[str, Any]:
    """What labels.json says."""
    for name in (LABELS, ABOUT):
        if not (root / name).is_file():
            raise BadData(f"there is no {name} in {root}; expected {LAYOUT}")
    about = read_json(root / ABOUT)
    wanted = {"data": str, "morphable": str, "splits": dict}
    missing = [name for name, kind in wanted.items() if not isinstance(dict(about).get(name), kind)]
    if missing:
        raise BadData(f"{root / ABOUT} does not say {', '.join(sorted(missing))}; expected {LAYOUT}")
    return about


def _inner(root: Path, about: dict[str, Any]) -> tuple[Any, Path]:
    """The data set that the labels were made for, and its folder."""
    name, _, folder = str(about["data"]).partition(":")
    dataset = plugins.named("datasets", name, about.get("data_sha256"), root / ABOUT)
    if not (root / folder).is_dir():
        raise BadData(
            f"there is no folder {root / folder}, where {ABOUT} says that the photos are; if they moved, change its "
            "`data` (DATASET:FOLDER)"
        )
    return dataset, root / folder


def _read(path: Path, split: str) -> tuple[dict[str, np.ndarray], dict[str, int]]:
    """The columns of the kept rows of a split in the order of its rows, and how many were rejected for which reason."""
    import pyarrow.compute as pc

    kinds = {"split": "text", "row": "whole", "name": "text", "person": "whole", "quality": "number", "params": "list"}
    table = read_table(path, kinds | {"kept": "flag", "reason": "text"}, LAYOUT)
    table = table.filter(pc.equal(table["split"], split)).sort_by("row")  # pyright: ignore[reportAttributeAccessIssue]
    if table["kept"].null_count:
        raise BadData(f"{path} does not say of every photo whether it was kept; fit the set again")
    reasons = table.filter(pc.invert(table["kept"]))["reason"].to_pylist()  # pyright: ignore[reportAttributeAccessIssue]
    table = table.filter(table["kept"])
    if not table.num_rows:
        raise BadData(f"{path} has no photo of split {split!r} that was kept; {len(reasons)} were rejected")
    if any(table[name].null_count for name in ("row", "person", "quality", "name")):
        raise BadData(f"{path} has kept photos without a row, person, quality or name; fit the set again")
    columns = {name: table[name].to_numpy() for name in ("row", "person", "quality", "name")}
    wanted, lists = POSE + default().n_identity + default().n_expression, rows_of_lists(table["params"])
    if any(one is None or len(one) != wanted or not np.isfinite(one).all() for one in lists):
        raise BadData(f"{path} has labels that are not {wanted} numbers each; fit the set again")
    columns["params"] = np.stack(lists)
    return columns, {reason: reasons.count(reason) for reason in sorted(filter(None, set(reasons)))}
