"""Time of disentangle's encoder and decoders per image: `python benchmarks/encoder.py` → benchmarks/encoder.json.

Random weights (time does not depend on them), ONNX Runtime as it is shipped, 1 and 64 crops at a time; the small preset
and the paper's SphereFace-20. The peer in the same run is our shipped network of dense landmarks. The paper: 4.79 ms
per image on a GTX 1080 graphics card.
"""

import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch

from sameface.photo import predictor
from sameface.training.methods import disentangle

TITLE, RESULT = "Speed of `disentangle`", Path("benchmarks/encoder.json")

SIZES = (1, 64)
REPEATS = 7
PEER = "our landmark network"


def exported(network: str, folder: Path) -> Path:
    method, path = disentangle.Method(disentangle.Config(network=network)).eval(), folder / f"{network}.onnx"
    with torch.no_grad():
        axes = ({0: torch.export.Dim("batch")},)
        program = torch.onnx.export(method, (method.example(),), dynamo=True, dynamic_shapes=axes, verbose=False)
    assert program is not None
    program.save(str(path))
    return path


def timed(files: dict[str, tuple[Path, int]]) -> dict[str, dict[str, float]]:
    """ms per image of each network, the least of interleaved runs."""
    options, rng = onnxruntime.SessionOptions(), np.random.default_rng(0)
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    sessions = {name: onnxruntime.InferenceSession(str(path), options) for name, (path, _) in files.items()}
    times: dict[str, dict[int, list[float]]] = {name: {count: [] for count in SIZES} for name in files}
    for _ in range(REPEATS):
        for name, session in sessions.items():
            for count in SIZES:
                crops, again = rng.random((count, 3, *[files[name][1]] * 2), np.float32), max(1, 16 // count)
                start = time.perf_counter()
                for _ in range(again):
                    session.run(None, {session.get_inputs()[0].name: crops})
                times[name][count].append((time.perf_counter() - start) / again / count)
    return {name: {f"batch {k}": round(1000 * min(v), 2) for k, v in by.items()} for name, by in times.items()}


def main() -> None:
    load = round(os.getloadavg()[0], 1)
    with tempfile.TemporaryDirectory() as folder:
        files = {f"disentangle, {n}": (exported(n, Path(folder)), 112) for n in ("small", "sphereface20")}
        files[PEER] = (predictor.load("default").path, predictor.load("default").size)
        best = timed(files)
    ratio = {
        name: {k: round(v / best[PEER][k], 2) for k, v in row.items()} for name, row in best.items() if name != PEER
    }
    out = {
        "command": "python benchmarks/encoder.py", "what": "Encoder and decoders in ONNX Runtime, ms per image",
        "cores": len(os.sched_getaffinity(0)), "load before": load, "ms per image": best, f"ratio to {PEER}": ratio,
        "the paper": "4.79 ms per image on a GTX 1080",
    }  # fmt: skip
    Path("benchmarks/encoder.json").write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


def section(r: dict[str, Any]) -> list[Any]:
    rows = [[name, *(f"{v:.2f}" for v in row.values())] for name, row in r["ms per image"].items()]
    return [
        f"{r['what']}, {r['cores']} cores; no GPU was at hand. The paper: {r['the paper']}.",
        (["network", *next(iter(r["ms per image"].values()))], rows),
    ]


if __name__ == "__main__":
    main()
