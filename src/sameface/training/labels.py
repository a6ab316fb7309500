"""The labels that methods learn shapes from: 3DDFA's layout of parameters, for any morphable model."""

import numpy as np
from jaxtyping import Float

from sameface.core.errors import BadData
from sameface.morphable import MorphableModel

__all__ = ["IBUG_MIRRORED", "POSE", "in_photo"]

POSE = 12
"""parameters of the row-major 3×4 matrix [sR | t]; shape and expression follow"""

IBUG_MIRRORED = np.array([
    *range(16, -1, -1), *range(26, 16, -1), 27, 28, 29, 30, 35, 34, 33, 32, 31, 45, 44, 43, 42, 47, 46, 39, 38, 37, 36,
    41, 40, 54, 53, 52, 51, 50, 49, 48, 59, 58, 57, 56, 55, 64, 63, 62, 61, 60, 67, 66, 65,
])  # fmt: skip
"""the iBUG point on the other side of the face"""


def in_photo(
    params: Float[np.ndarray, " K"], model: MorphableModel, height: int
) -> tuple[Float[np.ndarray, "3 4"], Float[np.ndarray, " C"]]:
    """A label `params` (12 + S + E) → ([sR | t] from mm to px, y down, z away from the viewer; coefficients in σ).

    In the label (X, height − Y) are the px of the photo and Z points to the viewer. Labels of 3DDFA's own models are in
    µm and unscaled coefficients, which `model.extra["parameters_std"]` tells; all others in mm and σ. Raises BadData
    when the label belongs to another model.
    """
    expected = POSE + model.n_identity + model.n_expression
    if len(params) != expected:
        raise BadData(
            f"the data set gives {len(params)} parameters, but {model.name} has {expected} (12 + {model.n_identity} + "
            f"{model.n_expression}); name the labels' model with --morphable, or make labels with `sameface fit-set`"
        )
    matrix, coefficients = params[:POSE].reshape(3, 4).astype(np.float64), params[POSE:].astype(np.float64)
    if "parameters_std" in model.extra:
        matrix[:, :3] *= 1000
        coefficients = coefficients / model.extra["parameters_std"][POSE:]
    matrix[1:] *= -1
    matrix[1, 3] += height
    return matrix, coefficients
