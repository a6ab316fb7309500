"""The Basel Face Model 2009, 01_MorphableModel.mat (Paysan et al., AVSS 2009).

Licence: academic research, on request at faces.dmi.unibas.ch/bfm; neither the file nor a conversion may be passed on.
Topology: 53,490 vertices. The file: micrometres; +x to the subject's left, +y up, +z to the viewer; unit-norm modes
`shapePC` and their STANDARD DEVIATIONS `shapeEV` (not variances, in spite of the name); colours 0-255; triangles `tl`
counted from 1 and clockwise seen from outside.

The file has no expressions. Those that everybody adds live on 53,215 of its vertices (`trimIndex`), and the model is
then cut to these: 3DDFA's Model_Expression.mat (mu_exp, w_exp, sigma_exp; 29 modes) with model_info.mat beside it, or
Guo et al.'s Exp_Pca.bin (79 modes) with std_exp.txt and BFM_exp_idx.mat (or model_info.mat) beside it. In both, the
modes times their standard deviations are micrometres. The mean stays the neutral one; the mean expression, which
3DDFA and face3d add to it and Deep3DFaceRecon does not, is `extra["expression_mean"]` (mm).

Landmarks: vertex ids published by Bas (BFMLandmarks) for the whole mesh, 3DDFA's own for the trimmed one, see
`_landmarks.py`; or your own file.
"""

from dataclasses import dataclass
from io import StringIO
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from sameface.core.errors import AssetMissing, BadModel
from sameface.core.files import read_bytes, read_text
from sameface.morphable import LARGEST_FILE, MorphableModel
from sameface.morphable._checks import as_basis, checked, linear_albedo, require
from sameface.morphable._landmarks import BFM2009_IDS, NONECK_IDS, on_vertices, read_landmarks
from sameface.morphable._matlab import read_matlab

__all__ = ["load"]

LICENCE = "Basel Face Model 2009 licence: academic research only, no redistribution"
PUBLISHED_IDS = {53490: BFM2009_IDS, 53215: NONECK_IDS}
TRIM_FILES = ("model_info.mat", "BFM_exp_idx.mat")


@dataclass(frozen=True)
class _Expressions:
    mean: Float[np.ndarray, "V 3"]
    basis: Float[np.ndarray, "V 3 E"]
    kept: Int[np.ndarray, " V"]


def load(path: Path, *, expressions: Path | None = None, landmarks: Path | None = None) -> MorphableModel:
    """Read 01_MorphableModel.mat (Matlab 5 or 7.3).

    `expressions` is Model_Expression.mat or Exp_Pca.bin, with its companions beside it (see above). `landmarks` is a
    text file of 68 vertex ids of the resulting mesh, needed only if that has neither 53,490 nor 53,215 vertices.
    """
    path = Path(path)
    source = read_matlab(path)
    require(source, ("shapeMU", "shapePC", "shapeEV", "tl"), path, "the Basel Face Model 2009")
    mean = np.asarray(source["shapeMU"], np.float32).reshape(-1, 3) / 1000
    identity = as_basis(source["shapePC"], np.asarray(source["shapeEV"]) / 1000, len(mean), path, "shapePC")
    faces = _faces(source["tl"], path)
    added = None if expressions is None else _expressions(Path(expressions), len(mean))
    kept = np.arange(len(mean)) if added is None else added.kept
    faces = _faces_among(faces, kept, len(mean))
    chosen, weights = _landmarks(landmarks, mean[kept], faces, path)
    albedo_mean, albedo_basis = _albedo(source, kept, len(mean), path)
    return checked(
        MorphableModel(
            name="bfm2009",
            licence=LICENCE,
            mean=mean[kept],
            identity_basis=identity[kept],
            expression_basis=np.zeros((len(kept), 3, 0), np.float32) if added is None else added.basis,
            faces=faces,
            landmark_faces=chosen,
            landmark_weights=weights,
            expression_names=tuple(f"expression{i}" for i in range(0 if added is None else added.basis.shape[2])),
            albedo_mean=albedo_mean,
            albedo_basis=albedo_basis,
            regions=_regions(source, kept),
            extra={} if added is None else {"expression_mean": added.mean},
            unit=0.001,
        ),
        path,
    )


def _faces(tl: np.ndarray, path: Path) -> Int[np.ndarray, "F 3"]:
    """Counted from 0, and the last two corners exchanged: counter-clockwise seen from outside."""
    if tl.ndim != 2 or tl.shape[1] != 3 or tl.min() < 1:
        raise BadModel(f"{path}: tl has shape {tl.shape} and begins at {tl.min()}; expected (triangles, 3), from 1")
    return (tl.astype(np.int64) - 1)[:, [0, 2, 1]]


def _faces_among(faces: np.ndarray, kept: np.ndarray, n_vertices: int) -> Int[np.ndarray, "F 3"]:
    """The faces whose three vertices are all kept, in the numbering of the kept ones."""
    number = np.full(n_vertices, -1)
    number[kept] = np.arange(len(kept))
    renumbered = number[faces]
    return renumbered[(renumbered >= 0).all(1)]


def _landmarks(given: Path | None, mean: np.ndarray, faces: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray]:
    if given is not None:
        return read_landmarks(given, mean, faces)
    if len(mean) not in PUBLISHED_IDS:
        raise BadModel(
            f"{path} has {len(mean)} vertices; landmark ids are published for {sorted(PUBLISHED_IDS)}. "
            "Give a file with the 68 vertex ids of this mesh as `landmarks`"
        )
    return on_vertices(PUBLISHED_IDS[len(mean)], faces, path)


def _albedo(
    source: dict[str, np.ndarray], kept: np.ndarray, n_vertices: int, path: Path
) -> tuple[np.ndarray | None, np.ndarray | None]:
    if "texMU" not in source:
        return None, None
    require(source, ("texPC", "texEV"), path, "the Basel Face Model 2009 with colours")
    mean = np.asarray(source["texMU"], np.float32).reshape(-1, 3) / 255
    basis = as_basis(source["texPC"], np.asarray(source["texEV"]) / 255, n_vertices, path, "texPC")
    return linear_albedo(mean[kept], basis[kept])


def _regions(source: dict[str, np.ndarray], kept: np.ndarray) -> dict[str, Bool[np.ndarray, " V"]]:
    if "segbin" not in source:
        return {}
    return {name: source["segbin"][kept, k] > 0 for k, name in enumerate(("nose", "eyes", "mouth", "rest"))}


def _expressions(path: Path, n_vertices: int) -> _Expressions:
    kept = _trim(path, n_vertices)
    if path.suffix == ".bin":
        mean, matrix, deviations = _exp_pca(path)
    else:
        source = read_matlab(path)
        require(source, ("mu_exp", "w_exp", "sigma_exp"), path, "3DDFA's Model_Expression.mat")
        mean, matrix, deviations = source["mu_exp"], source["w_exp"], source["sigma_exp"]
    if np.size(mean) != 3 * len(kept):
        raise BadModel(f"{path} is for {np.size(mean) // 3} vertices, but trimIndex beside it keeps {len(kept)}")
    basis = as_basis(np.asarray(matrix), np.asarray(deviations) / 1000, len(kept), path, "the expression matrix")
    return _Expressions(np.asarray(mean, np.float32).reshape(-1, 3) / 1000, basis, kept)


def _trim(path: Path, n_vertices: int) -> Int[np.ndarray, " V"]:
    """trimIndex, from 0: which vertices of the whole mesh the expressions are for."""
    for name in TRIM_FILES:
        beside = path.parent / name
        if beside.exists():
            source = read_matlab(beside)
            require(source, ("trimIndex",), beside, "a list of the vertices that expressions are for")
            kept = np.ravel(source["trimIndex"]).astype(np.int64) - 1
            if kept.min() < 0 or kept.max() >= n_vertices:
                raise BadModel(f"{beside}: trimIndex runs to {kept.max() + 1}, but the model has {n_vertices} vertices")
            return kept
    raise AssetMissing(
        f"beside {path} there is no {' or '.join(TRIM_FILES)}, which says for which vertices it is; add it"
    )


def _exp_pca(path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Exp_Pca.bin: an int32 K, then float32: the mean (3V), K modes (3V each). Deviations in std_exp.txt beside it."""
    beside = path.parent / "std_exp.txt"
    if not beside.exists():
        raise AssetMissing(f"beside {path} there is no std_exp.txt, the standard deviations of its modes; add it")
    try:
        deviations = np.loadtxt(StringIO(read_text(beside, error=BadModel))).ravel()
    except ValueError as error:
        raise BadModel(f"{beside} is no list of numbers ({error}); download it again") from None
    data = read_bytes(path, LARGEST_FILE, BadModel)
    modes = int(np.frombuffer(data, "<i4", 1)[0]) if len(data) >= 4 else 0
    numbers = (len(data) - 4) // 4
    if not 0 < modes <= 1000 or numbers % (3 * (modes + 1)) or (len(data) - 4) % 4:
        raise BadModel(
            f"{path} says it has {modes} modes, but its {len(data)} bytes do not divide so; download it again"
        )
    table = np.frombuffer(data, "<f4", offset=4).reshape(modes + 1, -1)
    if len(deviations) != modes:
        raise BadModel(f"{path} has {modes} modes, but {beside} has {len(deviations)} deviations")
    return table[0], table[1:].T, deviations
