"""A photo and the face fitted to it → the same photo of somebody whose shape differs by a known change of identity.

Nobody knows the true shape of the person in a photo. But if v(α) is fitted to it and every pixel of the head is moved
by P v(α + δ) − P v(α), P the camera, the photo shows a face that differs from the one before by v(α + δ) − v(α), mm for
mm, wherever the fit is right about place, turn and size; that it is wrong by some mm in shape changes the difference by
hundredths. So two photos come about whose true difference is known. Around the head the photo gives way smoothly
(`sheet`), light and skin stay as they are: shading says nothing of the change, and what it does along the line of
sight is seen by its perspective only.
"""

import numpy as np
from jaxtyping import Float, UInt8

from sameface.core.camera import Camera
from sameface.morphable import MorphableModel
from sameface.synthetic.sheet import BEHIND, redrawn, sheet_over, spread

__all__ = ["edited"]


def edited(
    image: UInt8[np.ndarray, "H W 3"],
    camera: Camera,
    identity: Float[np.ndarray, " S"],
    expression: Float[np.ndarray, " E"],
    change: Float[np.ndarray, " S"],
    model: MorphableModel,
) -> UInt8[np.ndarray, "H W 3"]:
    """The photo once its face, fitted as `identity` (σ) and `expression` under `camera`, has changed by `change` (σ).

    The face keeps its camera and its expression. Raises ValueError for a camera of another photo.
    """
    if camera.size != image.shape[1::-1]:
        raise ValueError(f"the camera is for a photo of {camera.size}, but this one has {image.shape[1::-1]} pixels")
    before, after = (model.vertices(one, expression).astype(np.float64) for one in (identity, identity + change))
    sheet, zoom = sheet_over(camera, before, model), float(camera.weak.scale)
    shift = camera.project(after) - camera.project(before)
    depth = zoom * camera.in_camera(after)[:, 2:]
    goal = sheet.on_head(model.faces, np.concatenate([shift, depth], axis=1))
    far = max(sheet.depth[sheet.head].max(), goal[:, 2].max()) + BEHIND * zoom
    return redrawn(image, sheet, spread(sheet, goal, far))
