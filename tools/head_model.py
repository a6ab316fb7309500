"""The rest of the head that ships: python tools/head_model.py ict_face.npz src/sameface/assets/head.npz"""

import sys
from pathlib import Path

import numpy as np

from sameface.core.files import written
from sameface.morphable import default
from sameface.morphable.compile_head import compile_rest

source, out = map(Path, sys.argv[1:])
rest = compile_rest(default(), source)
with written(out) as file:
    np.savez_compressed(file, **rest)  # type: ignore[arg-type]
print(f"{out}: {len(rest['mean'])} vertices, {out.stat().st_size / 1e6:.2f} MB")
