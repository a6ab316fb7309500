"""What the shipped morphable model lost of its source.

Nothing is measured here: `sameface model compile ict_face.npz fm.npz --save-report results/model.json` does it.
"""

from pathlib import Path
from typing import Any

TITLE, RESULT = "The morphable model", Path("results/model.json")


def section(r: dict[str, Any]) -> list[Any]:
    return [(["of the shipped morphable model", "value"], [[k, f"{v:.5g}"] for k, v in r["report"].items()])]
