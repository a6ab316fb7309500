"""300W-LP: 122,450 pictures of 3,837 faces of 300-W, turned to large poses (Zhu, Lei, Liu, Shi, Li, CVPR 2016).

Each photo was fitted with a morphable model and rendered at several yaws; research only. Layout, as the owners' zip:

    AFW/ HELEN/ IBUG/ LFPW/            AFW_134212_1_3.jpg (450 × 450) and AFW_134212_1_3.mat; _0 is the photo itself
    AFW_Flip/ HELEN_Flip/ …            their mirror images, under the same names
    landmarks/AFW/ HELEN/ IBUG/ LFPW/  AFW_134212_1_3_pts.mat (none for the mirror images)

Conventions of the files, converted here once: pixel centres counted from 1; y of the 3D frame up, z to the viewer,
x = X, y = 451 − Y. A .mat has Pose_Para (pitch, yaw, roll, tx, ty, tz, f; V_image = f R V + t, V in µm), Shape_Para
(199) and Exp_Para (29); a _pts.mat has pts_2d and pts_3d (68 × 2): the points as seen, with the jaw on the outline, and
the projected points of the fitted mesh, with the jaw on the jaw. A mirror image's points are its original's, mirrored.

A person is one face of one photo: its pictures at all poses. The mirror image counts as another person, since its
shape is another; so there are 7,674 persons with about 90 augmented crops each, as scnn counts them. The owners ship no
splits: val and test are a twentieth of the 3,837 faces each, chosen by a hash of the name (AFW_134212_1), so that a
face and its mirror image are in the same split.
"""

from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import BadData, BadModel
from sameface.core.files import names_in
from sameface.metrics.pose import camera_from_pose_para, pose_para_from_camera, rotation_from_pose_para
from sameface.morphable._matlab import needed, read_matlab
from sameface.training.datasets._people import Item, cartoon, check_split, names_per_split, picture, save, split_of
from sameface.training.labels import IBUG_MIRRORED

__all__ = ["Poses", "gives", "load", "parameters", "sample"]

gives = ("image", "landmarks68", "landmarks68_projected", "rotation", "params", "params240", "person")

SETS = ("AFW", "HELEN", "IBUG", "LFPW")
LAYOUT = "the folders AFW, HELEN, IBUG, LFPW, each also with _Flip, and landmarks/ (unpack 300W-LP.zip)"
CUT = np.concatenate([np.arange(52), np.arange(12 + 199, 12 + 199 + 10)])
"""where 3DDFA's 62 numbers are among the 240"""


class Poses:
    """One split. `poses[i]` reads one picture and its labels:

    image (H, W, 3) uint8 RGB, 450 × 450 as shipped · landmarks68 (68, 2) px, the jaw on the outline as seen ·
    landmarks68_projected (68, 2) px, the fitted mesh's points · rotation (3, 3) of the camera · params (62,) and
    params240 (240,), see `parameters` · person, counted from 0 within the split.
    """

    def __init__(self, root: Path, files: list[tuple[str, str]]):
        self.root = root
        self.folders = np.array([folder for folder, _ in files])
        self.names = np.array([name for _, name in files])
        faces = np.array([f"{folder}/{_face(name)}" for folder, name in files])
        self.person: Int[np.ndarray, " N"] = np.unique(faces, return_inverse=True)[1]

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int, /) -> Item:
        folder, name = str(self.folders[index]), str(self.names[index])
        image = picture(self.root / folder / f"{name}.jpg")
        labels = _read(self.root / folder / f"{name}.mat", {"Pose_Para": 7, "Shape_Para": 199, "Exp_Para": 29})
        pose, shape, expression = (labels[key] for key in ("Pose_Para", "Shape_Para", "Exp_Para"))
        seen, projected = self._points(folder, name, image.shape[1])
        params = parameters(pose, shape, expression)
        return {
            "image": image,
            "landmarks68": seen,
            "landmarks68_projected": projected,
            "rotation": camera_from_pose_para(pose[0], pose[1], pose[2]).astype(np.float32),
            "params": params[CUT],
            "params240": params,
            "person": self.person[index],
        }

    def _points(self, folder: str, name: str, width: int) -> list[Float[np.ndarray, "68 2"]]:
        """Both kinds of points, px from the upper left corner."""
        original = folder.removesuffix("_Flip")
        labels = _read(self.root / "landmarks" / original / f"{name}_pts.mat", {"pts_2d": 136, "pts_3d": 136})
        points = [labels[key].reshape(68, 2) - 0.5 for key in ("pts_2d", "pts_3d")]
        if folder != original:
            points = [np.array([width, 0]) + np.array([-1, 1]) * p[IBUG_MIRRORED] for p in points]
        return [p.astype(np.float32) for p in points]


def parameters(
    pose: Float[np.ndarray, " 7"], shape: Float[np.ndarray, " 199"], expression: Float[np.ndarray, " 29"]
) -> Float[np.ndarray, " 240"]:
    """3DDFA's layout: the row-major 3×4 matrix [f R | t], then the coefficients, from Pose_Para and the others.

    A vertex v of the model (µm) lies at (X, Y, Z) = f R v + t with (X, H − Y) its place in the picture of height H, px
    from the upper left corner, and Z growing towards the viewer; the files' t counts pixel centres from 1, hence −½.
    The first 40 of the shape and the first 10 of the expression are what 3DDFA's 62 numbers keep; on 16 images of
    AFLW2000-3D that cut alone costs 0.71 % of NME.
    """
    rotation = rotation_from_pose_para(pose[0], pose[1], pose[2])
    shift = pose[3:6] - np.array([0.5, 0.5, 0.0])
    matrix = np.column_stack([pose[6] * rotation, shift])
    return np.concatenate([matrix.ravel(), shape, expression]).astype(np.float32)


def load(root: Path, split: str) -> Poses:
    """One split (train, val or test) of the unpacked zip; only lists the folders, reads nothing."""
    check_split(split)
    root = Path(root)
    wanted = [f"{name}{flip}" for name in SETS for flip in ("", "_Flip")]
    missing = [name for name in (*wanted, "landmarks") if not (root / name).is_dir()]
    if missing:
        raise BadData(f"{root} has no folder {', '.join(missing)}; expected {LAYOUT}")
    files, splits = [], {}
    for folder in wanted:
        names = [name[:-4] for name in names_in(root / folder) if name.endswith(".jpg")]
        if not names:
            raise BadData(f"{root / folder} has no .jpg; expected {LAYOUT}")
        for name in names:
            face = _face(name)
            if face not in splits:
                splits[face] = split_of(face)
            if splits[face] == split:
                files.append((folder, name))
    if not files:
        raise BadData(f"{root} has no face in split {split}: too few pictures for a split; expected {LAYOUT}")
    return Poses(root, files)


def _face(name: str) -> str:
    """AFW_134212_1_3 → AFW_134212_1: which face of which photo, without the number of the pose."""
    return name.rpartition("_")[0]


def _read(path: Path, sizes: dict[str, int]) -> dict[str, Float[np.ndarray, " N"]]:
    """Arrays of a .mat file, flat, of the sizes they must have."""
    if not path.exists():
        raise BadData(f"{path} is missing, the labels of a picture; unpack 300W-LP.zip again")
    try:
        content = read_matlab(path)
    except BadModel as error:
        raise BadData(str(error)) from None
    for name, size in sizes.items():
        if name not in content or np.size(content[name]) != size:
            found = np.shape(content[name]) if name in content else "none"
            raise BadData(f"{path} should have {name} with {size} numbers, but has {found}; get this file again")
    return {name: np.asarray(content[name], np.float64).ravel() for name in sizes}


def sample(root: Path) -> None:
    """Write a face per split and set, in two poses, with the mirror images (cartoons, random coefficients)."""
    rng = np.random.default_rng(0)
    forms = ("AFW_{}_1", "HELEN_{}_1", "IBUG_image_{:03d}_1", "LFPW_image_train_{:04d}")
    for folder, form in zip(SETS, forms, strict=True):
        for number, face in enumerate(names_per_split(form.format, 1)):
            for k in range(2):
                _write(root, folder, f"{face}_{k}", rng, number)


def _write(root: Path, folder: str, name: str, rng: np.random.Generator, person: int) -> None:
    savemat = needed("scipy.io", "writing .mat files").savemat
    drawn = cartoon(rng, 450, person)
    points = drawn.points[:, :2] + 0.5
    (root / "landmarks" / folder).mkdir(parents=True, exist_ok=True)
    savemat(root / "landmarks" / folder / f"{name}_pts.mat", {"pts_2d": points, "pts_3d": points + np.array([0, 1])})
    mirror = np.diag([-1.0, 1.0, 1.0])
    for place, image, rotation, x in (
        (folder, drawn.image, drawn.rotation, drawn.shift[0]),
        (f"{folder}_Flip", drawn.image[:, ::-1], mirror @ drawn.rotation @ mirror, 450 - drawn.shift[0]),
    ):
        save(root / place / f"{name}.jpg", np.ascontiguousarray(image))
        angles = pose_para_from_camera(rotation)
        pose = [*angles, x + 0.5, 450.5 - drawn.shift[1], 0.0, drawn.scale / 1000]
        content = {
            "pt2d": points.T, "roi": np.array([[1, 1, 450, 450]], np.int16), "Illum_Para": rng.normal(size=(1, 10)),
            "Color_Para": rng.normal(size=(1, 7)).astype(np.float32), "Tex_Para": 1e3 * rng.normal(size=(199, 1)),
            "Shape_Para": 1e4 * rng.normal(size=(199, 1)), "Exp_Para": rng.normal(size=(29, 1)),
            "Pose_Para": np.array([pose], np.float32),
        }  # fmt: skip
        savemat(root / place / f"{name}.mat", content)
