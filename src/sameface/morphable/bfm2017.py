"""Basel Face Models as .h5: model2017-1_*.h5, model2019_*.h5 (Gerig et al., FG 2018), model2009-publicmm1-bfm.h5.

Licence: academic research, on request at faces.dmi.unibas.ch/bfm; neither the file nor a conversion may be passed on.
Topology: model2017-1_bfm_nomouth 53,149 vertices, model2017-1_face12_nomouth 28,588; 2019 has the same layout. The
file: `shape`, `color`, `expression`, each with `model/mean` (3V), `model/pcaBasis` (3V, K) of unit norm and
`model/pcaVariance` (K), the VARIANCES; `shape/representer/cells` (3, T) from 0; millimetres; +x to the subject's
left; colours 0-1. That of 2009 has 53,490 vertices and no `expression`; files in µm are told by their size.

The mean is the neutral one, that of `shape`. The file's mean expression, which opens the mouth a little and which eos
adds to every face, is `extra["expression_mean"]` (mm).

Landmarks: the file names some sixty points ("center.nose.tip", …) by position; they are kept as `extra["point NAME"]`
(mm). They are not the 68 of iBUG: no point of the jaw line but the chin. So a file of 68 points is needed; it is
looked for as Landmarks68_<name of the model>.anl beside the model, or given (with 53,490 vertices it is not needed:
`_landmarks.py` has their ids). Public ones: for
model2017-1_bfm_nomouth, data/BFM2017_nomouth/landmarks_68.csv of github.com/kanonet/face-avatar-reconstruction (faces
and weights, with positions against which they are checked here); for model2017-1_face12_nomouth, a list of vertex ids
that goes by the name Landmarks68_model2017-1_face12_nomouth.anl. The list of eos (ibug_to_bfm2017-1_bfm_nomouth.txt)
has 30 of the 68.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sameface.core.errors import AssetMissing, BadModel
from sameface.morphable import MorphableModel
from sameface.morphable._checks import as_basis, checked, linear_albedo, outwardness
from sameface.morphable._landmarks import BFM2009_IDS, on_vertices, read_landmarks
from sameface.morphable._matlab import open_hdf5

__all__ = ["load"]

LICENCE = "Basel Face Model licence: academic research only, no redistribution"
POINTS = "metadata/landmarks/json"
N_2009 = 53490
LARGEST_HEAD = 10_000.0
"""of what would be mm: a file that goes beyond is in µm"""


def load(path: Path, *, landmarks: Path | None = None) -> MorphableModel:
    """Read a model of 2017 or 2019; `landmarks` is a text file of 68 points (see above)."""
    path = Path(path)
    with open_hdf5(path) as file:
        mean, identity = _statistics(file, "shape", path)
        faces = np.asarray(_dataset(file, "shape/representer/cells", path), np.int64).T
        expression_mean, expression = None, np.zeros((len(mean), 3, 0), np.float32)
        if "expression" in file:
            expression_mean, expression = _statistics(file, "expression", path)
        albedo_mean, albedo_basis = (
            linear_albedo(*_statistics(file, "color", path)) if "color" in file else (None, None)
        )
        points = _points(file, path)
    if faces.ndim != 2 or faces.shape[1] != 3:
        raise BadModel(f"{path}: shape/representer/cells has shape {faces.T.shape}; expected (3, triangles)")
    unit = 1.0
    if np.ptp(mean, axis=0).max() > LARGEST_HEAD:
        unit, mean, identity, expression = 0.001, mean / 1000, identity / 1000, expression / 1000
        expression_mean = None if expression_mean is None else expression_mean / 1000
    if landmarks is None and len(mean) == N_2009:
        faces = faces if outwardness(mean, faces) > 0 else faces[:, [0, 2, 1]]
        chosen, weights = on_vertices(BFM2009_IDS, faces, path)
    else:
        chosen, weights = read_landmarks(_landmark_file(path, landmarks), mean, faces)
    return checked(
        MorphableModel(
            name=path.stem,
            licence=LICENCE,
            mean=mean,
            identity_basis=identity,
            expression_basis=expression,
            faces=faces,
            landmark_faces=chosen,
            landmark_weights=weights,
            expression_names=tuple(f"expression{i}" for i in range(expression.shape[2])),
            albedo_mean=albedo_mean,
            albedo_basis=albedo_basis,
            extra=points if expression_mean is None else {"expression_mean": expression_mean, **points},
            unit=unit,
        ),
        path,
    )


def _dataset(file: Any, name: str, path: Path) -> np.ndarray:
    if name not in file:
        raise BadModel(f"{path} is not a Basel Face Model of 2017 or 2019: it lacks {name}; it has {', '.join(file)}")
    return file[name][()]


def _statistics(file: Any, part: str, path: Path) -> tuple[Float[np.ndarray, "V 3"], Float[np.ndarray, "V 3 K"]]:
    """(mean, modes times the square root of their variances) of one part."""
    mean = np.asarray(_dataset(file, f"{part}/model/mean", path), np.float32).reshape(-1, 3)
    variance = np.asarray(_dataset(file, f"{part}/model/pcaVariance", path), float)
    if (variance < 0).any():
        raise BadModel(f"{path}: {part}/model/pcaVariance has negative numbers; expected variances")
    matrix = _dataset(file, f"{part}/model/pcaBasis", path)
    return mean, as_basis(matrix, np.sqrt(variance), len(mean), path, f"{part}/model/pcaBasis")


def _points(file: Any, path: Path) -> dict[str, Float[np.ndarray, " 3"]]:
    """The named points, mm: a JSON text [{"id": name, "coordinates": [x, y, z], …}, …]."""
    if POINTS not in file:
        return {}
    raw = file[POINTS][()]
    raw = raw.flat[0] if isinstance(raw, np.ndarray) and raw.dtype.hasobject else raw
    text = raw if isinstance(raw, str) else bytes(raw).decode("utf-8")
    try:
        return {f"point {p['id']}": np.array(p["coordinates"], np.float32) for p in json.loads(text.rstrip("\0"))}
    except (ValueError, KeyError, TypeError) as error:
        raise BadModel(f"{path}: {POINTS} is not a list of named points ({type(error).__name__}: {error})") from None


def _landmark_file(path: Path, given: Path | None) -> Path:
    if given is not None:
        return Path(given)
    beside = path.parent / f"Landmarks68_{path.stem}.anl"
    if not beside.exists():
        raise AssetMissing(
            f"{path} does not say where the 68 landmarks are; expected {beside.name} beside it, or a file given as "
            "`landmarks`; sameface.morphable.bfm2017 names public ones"
        )
    return beside
