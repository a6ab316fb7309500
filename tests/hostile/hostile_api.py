"""Hostile arguments for the Python API: each is a line of Python, which ends well or with an error of our own."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from hostile_inputs import Case, put, variants

from faces import astronaut, encoded

__all__ = ["NAMES", "calls"]

NAMES = """
import io, itertools, math, os
from dataclasses import replace
import numpy as np, PIL.Image, torch
import sameface
from sameface import Photo, Reconstruction, default_model, look, morphable, read, reconstruct, shape_distance
from sameface.core.camera import Perspective, WeakPerspective
from sameface.mesh.read import read_mesh
from sameface.mesh.write import write_obj, write_ply
from sameface.photo.observe import observe
from sameface.photo.predictor import load
from sameface.reconstruction import video
from sameface.verification.verify import verify
face = open("face.png", "rb").read()
pixels = np.array(PIL.Image.open("face.png").convert("RGB"))
model = default_model()
"""
"""what the lines may use"""

PHOTOS = (
    "b''", "io.BytesIO()", "io.BytesIO(face[:100])", "io.StringIO('x')", "open('face.png')", "open(os.devnull, 'rb')",
    "bytearray(20)", "memoryview(b'x' * 50)", "memoryview(np.zeros((4, 4)))[::2]", "np.zeros(0)", "np.zeros(5)",
    "np.zeros((0, 0, 3), np.uint8)", "np.zeros((5, 0, 3))", "np.zeros((9, 9, 9, 9))", "np.zeros((50, 50, 2))",
    "np.full((50, 50, 3), np.nan)", "np.full((50, 50, 3), np.inf)", "np.full((50, 50, 3), -1.0)", "pixels.astype(int)",
    "pixels.astype(complex)", "pixels > 99", "pixels.astype(str)", "np.array([None])", "np.array(pixels, object)",
    "np.zeros((50, 50, 3), 'M8[s]')", "np.zeros((1, 3_000_000), np.uint8)", "pixels[::-1, ::-1]", "pixels.T",
    "np.broadcast_to(np.uint8(5), (100_000, 100_000, 3))", "torch.zeros(3, 50, 50)", "torch.zeros(50, 50, 3).cfloat()",
    "torch.zeros(50, 50, 3, requires_grad=True)", "torch.zeros(50, 50, 3, device='meta')",
    "PIL.Image.new('RGB', (0, 0))", "PIL.Image.new('1', (50, 50))", "PIL.Image.new('F', (50, 50))",
    "PIL.Image.open('cut.png')", "None", "5", "1.5", "object()", "{}", "{'a': 1}", "print", "''", "'a' * 10_000",
    "'\\0'", "'face.png\\0'", "'data:'", "'data:;base64,é'", "'data:image/png;base64,AAAA'", "b'\\xff' * 1000",
    "[[[[]]]]", "(x for x in ())", "itertools.repeat(0, 3)", "Photo(pixels, 'a', math.nan)",
    "Photo(pixels, 'a', math.inf)", "Photo(pixels, 'a', -1.0)", "Photo(pixels, 'a', 0.0)", "Photo(pixels, 'a', 1e300)",
    "Photo(pixels[:, :, 0], 'a')", "Photo(pixels.astype(float), 'a')", "Photo(np.zeros((0, 0, 3), np.uint8), 'a')",
    "Photo(pixels, '\\udcff')",
)  # fmt: skip
LINES = (
    "reconstruct()", "reconstruct(face, face, focal=math.nan)", "reconstruct(face, focal=math.inf)",
    "reconstruct(face, focal='nan')", "reconstruct(face, focal='1e400px')", "reconstruct(face, focal='-5mm')",
    "reconstruct(face, focal=[])", "reconstruct(face, ipd=math.nan)", "reconstruct(face, min_score=math.nan)",
    "reconstruct(face, face=0)", "reconstruct(face, face=10**30)", "reconstruct(face, iris=True, ipd=60)",
    "reconstruct(face, predictor='no.onnx')", "reconstruct(face, predictor='')",
    "reconstruct(face, predictor='face.png')", "list(reconstruct(face))", "reconstruct(face)[0]",
    "len(reconstruct(face))", "reconstruct(face).save('')", "reconstruct(face).save('x.xyz')",
    "reconstruct(face).save('no/face.glb')",
    "reconstruct(face).save('out')", "Reconstruction.load('face.png')", "Reconstruction.load('')",
    "Reconstruction.load('\\0')", "Reconstruction.load('pipe.npz')", "Reconstruction.load('/dev/zero')",
    "verify(face, face)", "verify(None, 5)", "verify([], [])", "verify('face.png', 'face.png', far=math.nan)",
    "verify('face.png', 'face.png', far=2)", "verify('face.png', 'cut.png')",
    "verify(iter(['face.png']), ['face.png'])", "verify('\\0', 'face.png')", "verify(reconstruct(face), 'pipe.npz')",
    "morphable.load('face.png')", "morphable.load('')", "morphable.load('\\0')", "morphable.load('pipe.npz')",
    "model.vertices(np.zeros(3))", "model.vertices(np.full(80, np.nan))", "model.vertices(np.zeros((2, 2, 2, 80)))",
    "replace(model, mean=np.zeros((3, 3)))", "replace(model, mean=model.mean * np.nan).save('out.npz')",
    "replace(model, faces=model.faces + 10**6).save('out.npz')", "shape_distance(np.zeros((3, 3)), model.mean, model)",
    "shape_distance(model.mean * np.nan, model.mean, model)", "read_mesh('face.png')", "read_mesh('pipe.obj')",
    "read_mesh('/dev/zero')", "write_ply('out.ply', np.full((3, 3), np.nan), np.array([[0, 1, 2]]))",
    "write_obj('out.obj', np.zeros((3, 3)), np.array([[0, 1, 9]]))", "load('face.png')",
    "load('pipe.onnx').description",
    "video.track('face.png')", "video.track('')", "video.track('pipe.mp4')",
    "video.track('face.png', smooth=math.nan)", "look(face, min_score=2)", "look(())",
    "observe(Photo(pixels, 'a', math.nan), load('default'))",
    "Perspective(np.eye(3), np.zeros(3), math.nan, np.zeros(2), (5, 5))",
    "Perspective(np.full((3, 3), np.nan), np.ones(3), 5.0, np.zeros(2), (5, 5))",
    "Perspective(np.eye(2), np.ones(3), 5.0, np.zeros(2), (5, 5))",
    "WeakPerspective(np.eye(3), np.ones(2), np.array(0.0), (5, 5)).project(np.ones((4, 3)))", "sameface.nothing",
    "sameface.read",
)  # fmt: skip
"""calls that cannot be meant, or hardly"""


def calls(work: Path, rng: np.random.Generator) -> Iterator[Case]:
    """One line of Python each."""
    good, cut = encoded(astronaut()), encoded(astronaut())[:5000]
    lines = [*(f"{call}({photo})" for photo in PHOTOS for call in ("read", "reconstruct")), *LINES]
    for k, line in enumerate(lines):
        folder = work / f"api-{k}"
        put(folder / "face.png", good), put(folder / "cut.png", cut)
        for name in ("pipe.npz", "pipe.obj", "pipe.onnx", "pipe.mp4"):
            if name in line:
                put(folder / name, variants(b"x", rng, 0)["pipe"])
        yield Case("api", folder.name, ["python", line])
