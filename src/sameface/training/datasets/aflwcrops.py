"""3DDFA's training crops: a folder of 120 × 120 px faces with a list and a table of 62 parameters (Guo et al. 2018).

The public set train_aug_120x120 has 687,854 crops of 300W-LP (7,674 faces, mirror images counted apart, about 90
crops each), which is what scnn was trained on; crops of AFLW or any other photos prepared in the same way are read too.
Research only. Layout, as cleardusk/3DDFA offers it:

    train_aug_120x120/                       LFPWFlip_LFPW_image_train_0859_12_3.jpg, …
    train.configs/train_aug_120x120.list.train, .list.val      a file name per line
    train.configs/param_all_norm.pkl, param_all_norm_val.pkl   (N, 62) in the order of the lists, whitened
    train.configs/param_whitening.pkl                          {param_mean, param_std}
    train.configs/u_shp.npy, u_exp.npy, w_shp_sim.npy, w_exp_sim.npy, keypoints_sim.npy    the morphable model

The list may be called NAME.list.train for crops in NAME/. Conventions of the files, converted here once: vertices
(µm) lie at P v + t, pixel centres counted from 1, x = X, y = H + 1 − Y, z to the viewer. Pickles are read by the
allow-list of `sameface.morphable.pickles`; nothing in them is run.

A person is one face: the name without its last two numbers, of the pose and of the crop. Splits: the owners' train and
val, which share faces; there is no test.
"""

from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import BadData, BadModel
from sameface.core.files import names_in, read_text
from sameface.core.geometry import nearest_rotation
from sameface.metrics.pose import split_projection
from sameface.morphable.pickles import read_npy, read_pickle
from sameface.training.datasets._people import Item, cartoon, check_split, mean_points, picture, save

__all__ = ["Basis", "Crops", "gives", "load", "sample"]

gives = ("image", "landmarks68", "landmarks68_3d", "rotation", "params", "person")

LAYOUT = "train_aug_120x120/ and train.configs/ with its lists, .pkl and .npy files"
TABLES = {"train": "param_all_norm.pkl", "val": "param_all_norm_val.pkl"}
WHITENING = "param_whitening.pkl"
BASIS = ("u_shp.npy", "u_exp.npy", "w_shp_sim.npy", "w_exp_sim.npy", "keypoints_sim.npy")
SHAPES, EXPRESSIONS = 40, 10
UPRIGHT = np.array([1.0, -1.0, -1.0])
"""y up, z to the viewer → y down, z away"""


class Basis:
    """The 68 points of the morphable model in train.configs: u + W_s a + W_e e, µm."""

    def __init__(self, folder: Path):
        u_shape, u_expression, shape, expression, rows = (_npy(folder / name) for name in BASIS)
        rows = rows.ravel().astype(int)
        if rows.shape != (204,) or shape.shape[1:] != (SHAPES,) or expression.shape[1:] != (EXPRESSIONS,):
            raise BadData(
                f"{folder} has {rows.size} rows of points, {shape.shape} shapes and {expression.shape} expressions; "
                f"expected 204, (3V, {SHAPES}) and (3V, {EXPRESSIONS})"
            )
        self.mean = (u_shape.ravel()[rows] + u_expression.ravel()[rows]).astype(np.float64)
        self.modes = np.hstack([shape[rows], expression[rows]]).astype(np.float64)

    def points(self, params: Float[np.ndarray, " 62"], height: int) -> Float[np.ndarray, "68 3"]:
        """P (u + W a) with y and z turned round: px from the upper left corner, z away from the viewer."""
        matrix = params[:12].reshape(3, 4)
        vertices = (self.mean + self.modes @ params[12:]).reshape(-1, 3)
        return (vertices @ matrix[:, :3].T + matrix[:, 3]) * UPRIGHT + [0.0, height, 0.0]


class Crops:
    """One split. `crops[i]` reads one crop:

    image (H, W, 3) uint8 RGB, 120 × 120 as shipped · landmarks68 (68, 2) and landmarks68_3d (68, 3) px, the model's
    points under these parameters, z away from the viewer · rotation (3, 3) of the camera · params (62,): row-major 3×4
    matrix [sR | t], 40 shape, 10 expression, with (X, H − Y) px of the crop · person, counted from 0 within the split.
    """

    def __init__(self, root: Path, split: str):
        folder = root / "train.configs"
        lists = [folder / name for name in names_in(folder, f".list.{split}")]
        if len(lists) != 1:
            raise BadData(f"{folder} has {len(lists)} files *.list.{split}; expected one ({LAYOUT})")
        self.folder = root / lists[0].name.removesuffix(f".list.{split}")
        if not self.folder.is_dir():
            raise BadData(f"there is no folder {self.folder}, which {lists[0].name} lists; expected {LAYOUT}")
        self.names = np.array([line.encode() for line in read_text(lists[0]).split()])
        self.whitened: Float[np.ndarray, "N 62"] = np.asarray(_pickled(folder / TABLES[split]))
        self.mean, self.deviation = _whitening(folder / WHITENING)
        self.basis = Basis(folder)
        if self.whitened.shape != (len(self.names), 62) or not len(self.names):
            raise BadData(
                f"{lists[0]} has {len(self.names)} lines and {TABLES[split]} has shape {self.whitened.shape}; "
                "expected a row of 62 numbers per line"
            )

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def person(self) -> Int[np.ndarray, " N"]:
        """A number per face, from 0 within the split."""
        return np.unique([name.rsplit(b"_", 2)[0] for name in self.names.tolist()], return_inverse=True)[1]

    def params(self, index: int) -> Float[np.ndarray, " 62"]:
        """Without the whitening, pixels counted from the corner: the centre of the first was 1, and is ½."""
        params = self.whitened[index] * self.deviation + self.mean
        params[[3, 7]] -= 0.5
        return params

    def __getitem__(self, index: int, /) -> Item:
        image, params = picture(self.folder / self.names[index].decode()), self.params(index)
        points = self.basis.points(params, len(image)).astype(np.float32)
        _, rotation, _ = split_projection(params[:12].reshape(3, 4))
        return {
            "image": image,
            "landmarks68": points[:, :2],
            "landmarks68_3d": points,
            "rotation": (UPRIGHT[:, None] * nearest_rotation(rotation)).astype(np.float32),
            "params": params.astype(np.float32),
            "person": self.person[index],
        }


def load(root: Path, split: str) -> Crops:
    """One split (train or val); reads the table of parameters (158 MB), no pictures."""
    check_split(split, ("train", "val"))
    root = Path(root)
    if not (root / "train.configs").is_dir():
        raise BadData(f"there is no folder {root / 'train.configs'}; expected {LAYOUT}")
    return Crops(root, split)


def _pickled(path: Path) -> object:
    if not path.exists():
        raise BadData(f"{path} is missing; expected {LAYOUT}")
    try:
        return read_pickle(path)
    except BadModel as error:
        raise BadData(str(error)) from None


def _npy(path: Path) -> np.ndarray:
    if not path.exists():
        raise BadData(f"{path} is missing; expected {LAYOUT}")
    try:
        return np.asarray(read_npy(path))
    except BadModel as error:
        raise BadData(str(error)) from None


def _whitening(path: Path) -> tuple[Float[np.ndarray, " 62"], Float[np.ndarray, " 62"]]:
    """Mean and deviation of the parameters."""
    content = _pickled(path)
    pair = (
        [content[name] for name in ("param_mean", "param_std") if name in content] if isinstance(content, dict) else []
    )
    if [np.size(part) for part in pair] != [62, 62]:
        raise BadData(f"{path} should hold param_mean and param_std with 62 numbers each; get this file again")
    mean, deviation = (np.asarray(part, np.float64).ravel() for part in pair)
    return mean, deviation


def sample(root: Path) -> None:
    """Write two faces with four crops each for train and for val; the morphable model is a mean face with noise."""
    rng, folder = np.random.default_rng(0), root / "train.configs"
    folder.mkdir(parents=True, exist_ok=True)
    mean = (1000 * mean_points()).reshape(-1, 1).astype(np.float32)
    modes = rng.normal(size=(204, SHAPES + EXPRESSIONS)).astype(np.float32)
    arrays = (mean, 0 * mean, 0.02 * modes[:, :SHAPES], 500 * modes[:, SHAPES:], np.arange(204))
    for name, array in zip(BASIS, arrays, strict=True):
        np.save(folder / name, array)
    center = np.array([4e-4, 0, 0, 60, 0, 4e-4, 0, 60, 0, 0, 4e-4, -60] + [0] * 50, np.float32)
    deviation = np.array([2e-4, 2e-4, 2e-4, 20] * 3 + [3e4] * SHAPES + [1.0] * EXPRESSIONS, np.float32)
    (folder / WHITENING).write_bytes(_pickle({"param_mean": center, "param_std": deviation}))
    for split, table in TABLES.items():
        names, rows = [], []
        for person, face in enumerate(("HELEN_HELEN_1_1", "LFPWFlip_LFPW_image_train_0002")):
            for k in range(4):
                drawn = cartoon(rng, 120, person)
                names.append(f"{face}_{k // 2}_{k % 2 + int(split == 'val') * 2}.jpg")
                save(root / "train_aug_120x120" / names[-1], drawn.image)
                matrix = np.column_stack([UPRIGHT[:, None] * drawn.rotation * drawn.scale / 1000, drawn.shift])
                matrix[:2, 3] = matrix[0, 3] + 0.5, 120.5 - matrix[1, 3]
                rows.append((np.concatenate([matrix.ravel(), 0.1 * rng.normal(size=50)]) - center) / deviation)
        (folder / f"train_aug_120x120.list.{split}").write_text("\n".join(names) + "\n")
        (folder / table).write_bytes(_pickle(np.array(rows, np.float32)))


def _pickle(content: object) -> bytes:
    import pickle

    return pickle.dumps(content, protocol=2)
