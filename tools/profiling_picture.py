"""One photo and the profiles made of it → docs/images/profiling.jpg (a public-domain portrait of NASA's).

python tools/profiling_picture.py
"""

import cv2
import numpy as np
from skimage import data

from sameface import reconstruct
from sameface.core.geometry import euler_from_rotation
from sameface.morphable import default
from sameface.synthetic.profiling import profile

YAWS = (30, 50, 70, 88)


def main() -> None:
    photo = np.ascontiguousarray(data.astronaut()[:300, 60:400])
    person = reconstruct(photo)
    view = person.views[0]
    camera = view.camera.weak  # profiles are made with weak perspective
    mesh = default().vertices(person.identity, view.expression)
    side = float(np.sign(euler_from_rotation(camera.rotation)[1]))
    row = [profile(photo, camera, mesh, default(), side * float(np.radians(yaw))).image for yaw in YAWS]
    sheet = np.hstack([photo, *row])
    cv2.imwrite("docs/images/profiling.jpg", sheet[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 86])


if __name__ == "__main__":
    main()
