"""3DFAW 2016: 3D Face Alignment in the Wild, photos and frames with 66 points in 3D (Jeni, Tulyakov, Yin et al. 2016).

13,671 pictures to train on and 4,500 to validate on, from Multi-PIE, BU-4DFE, BP4D-Spontaneous and the web; by
agreement with the organisers, research only. Layout: train_img/ID.jpg, train_lm/ID_lm.csv, valid_img/, valid_lm/ (66
lines `x,y,z`; as joelmoniz/DepthNets reads them). The points of the challenge's own test set were not published.

The 66 points are iBUG's 68 without the inner corners of the mouth, 60 and 64. x and y count pixel centres from 1 (the
annotation tool is Matlab's; not confirmed by the owners); z is in px of the same scale with some origin. Its sign is
not documented: it is turned so that the points make a face and not a mirrored one (`upright`).

Splits: train; val is valid_img. With DepthNets' list_valid_test.txt beside the folders (lines `ID,valid` or
`ID,test,ORIENTATION`), val and test are the parts of valid_img that it names; without it there is no test.
"""

from io import StringIO
from pathlib import Path

import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.core.files import names_in, read_text
from sameface.training.datasets._people import Item, cartoon, check_split, picture, save

__all__ = ["KEPT", "Faces3D", "gives", "load", "read_points", "sample", "upright"]

gives = ("image", "landmarks66_3d")

LAYOUT = "train_img/ID.jpg, train_lm/ID_lm.csv, valid_img/ID.jpg and valid_lm/ID_lm.csv"
LIST = "list_valid_test.txt"
KEPT = np.delete(np.arange(68), [60, 64])
"""which of iBUG's 68 points the 66 are"""
EYE, OTHER_EYE, CHIN, NOSE = 36, 45, 8, 30
"""outer corners of the eyes, chin and tip of the nose: the same numbers among the 66"""


class Faces3D:
    """One split. `faces[i]` → image (H, W, 3) uint8 RGB of its own size; landmarks66_3d (66, 3) px.

    x and y from the upper left corner, z of the same scale, growing away from the viewer, with any origin.
    """

    def __init__(self, root: Path, part: str, names: list[str]):
        self.root, self.part, self.names = root, part, names

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> Item:
        name = self.names[index]
        points = read_points(self.root / f"{self.part}_lm" / f"{name}_lm.csv")
        image = picture(self.root / f"{self.part}_img" / f"{name}.jpg")
        return {"image": image, "landmarks66_3d": points.astype(np.float32)}


def read_points(path: Path) -> Float[np.ndarray, "66 3"]:
    """The 66 points of a _lm.csv file, px from the upper left corner, z away from the viewer."""
    if not path.exists():
        raise BadData(f"{path} is missing, the points of a picture; unpack 3DFAW again")
    try:
        points = np.loadtxt(StringIO(read_text(path)), delimiter=",", ndmin=2)
    except ValueError as error:
        raise BadData(f"{path} is not a list of points ({error}); expected 66 lines `x,y,z`") from None
    if points.shape != (66, 3) or not np.isfinite(points).all():
        raise BadData(f"{path} holds numbers of shape {points.shape}; expected 66 lines `x,y,z`")
    return upright(points - np.array([0.5, 0.5, 0.0]))


def upright(points: Float[np.ndarray, "66 3"]) -> Float[np.ndarray, "66 3"]:
    """Turn the sign of z so that it grows away from the viewer (x right, y down).

    (l − r) × (c − r) · (n − r) of the right and left eyes' outer corners r and l, the chin c and the tip of the nose n
    has one sign for every face in every pose, and the other one for its mirror image: in a right-handed frame the nose
    lies on the viewer's side, where it is negative for a frontal face.
    """
    right, left, chin, nose = points[[EYE, OTHER_EYE, CHIN, NOSE]]
    volume = np.dot(np.cross(left - right, chin - right), nose - right)
    return points * np.array([1.0, 1.0, -1.0 if volume > 0 else 1.0])


def load(root: Path, split: str) -> Faces3D:
    """One split (train, val; test with the list of DepthNets); only lists the folders."""
    check_split(split)
    root, part = Path(root), "train" if split == "train" else "valid"
    for folder in (root / f"{part}_img", root / f"{part}_lm"):
        if not folder.is_dir():
            raise BadData(f"there is no folder {folder}; expected {LAYOUT}")
    names = [name[:-4] for name in names_in(root / f"{part}_img") if name.endswith(".jpg")]
    if part == "valid" and (root / LIST).is_file():
        names = _named(root / LIST, {"val": "valid", "test": "test"}[split])
    elif split == "test":
        raise BadData(f"{root} has no {LIST}, so split test is not known (3DFAW's own was not published); use val")
    if not names:
        raise BadData(f"{root} has no pictures in split {split}; expected {LAYOUT}")
    return Faces3D(root, part, names)


def _named(file: Path, kind: str) -> list[str]:
    """The pictures that DepthNets' list calls `kind`."""
    rows = [line.split(",") for line in read_text(file).split()]
    if any(len(row) < 2 or row[1] not in ("valid", "test") for row in rows):
        raise BadData(f"{file} has lines that are not `ID,valid` or `ID,test,ORIENTATION`")
    return [row[0] for row in rows if row[1] == kind]


def sample(root: Path) -> None:
    """Write four cartoons with points into each folder, and DepthNets' list."""
    rng, lines = np.random.default_rng(0), []
    for part in ("train", "valid"):
        (root / f"{part}_lm").mkdir(parents=True, exist_ok=True)
        for k in range(4):
            drawn, name = cartoon(rng, 240, k // 2), f"{part}_{k:04d}"
            save(root / f"{part}_img" / f"{name}.jpg", drawn.image)
            points = drawn.points[KEPT] * [1, 1, -1] + [0.5, 0.5, 0]
            np.savetxt(root / f"{part}_lm" / f"{name}_lm.csv", points, fmt="%.4f", delimiter=",")
            if part == "valid":
                lines.append(f"{name},valid" if k < 2 else f"{name},test,center")
    (root / LIST).write_text("\n".join(lines) + "\n")
