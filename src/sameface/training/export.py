"""Run folder → an `.onnx` file that describes itself, compared with torch on the spot.

The file's inputs and outputs are those of the method's `forward`. Its metadata hold one entry, `sameface`: JSON with
what `metadata()` of the method says (crop, mean, units...), the method's name and settings, the data set and the step.
`describe(path)` reads it back; `annotate(path, more)` adds what was measured since.
"""

import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from sameface.core import plugins
from sameface.core.errors import AssetMissing, BadModel, TrainingFailed

__all__ = ["annotate", "describe", "export"]

KEY = "sameface"
HALF = 100.0
"""how much farther from torch's an output may be with rounded weights"""
SMALL = 256
"""numbers; a smaller array of weights is not worth rounding"""


def export(
    run: Path,
    out: Path | None = None,
    *,
    only: Sequence[str] = (),
    half: bool = False,
    weights: str = "best.pt",
    tolerance: float = 1e-4,
    method: Path | None = None,
) -> Path:
    """Write the method of a run folder as ONNX to `out` (default: in the folder) and return where it is.

    `only` names the outputs that are wanted, and the file holds what these need. `half` stores the weights with 16
    bits; the arithmetic stays that of 32. Every output y must be within `tolerance` * (1 + |y|) of torch's, `half`
    within 100 times that, on the method's example and on noise of another batch size; else no file is left and
    TrainingFailed says which output differs, and by how much. A run whose method is a Python file needs that file,
    `method`; a folder's own word for it is not enough to run it (BadData). Raises ValueError for an output that there
    is not.
    """
    import onnx.utils
    import torch

    from sameface.training import train

    only = (only,) if isinstance(only, str) else only
    if method is not None:
        plugins.trust(method)
    trained, described = train.restore(run, weights)
    name = Path(described["method"]).stem
    out = out or run / f"{name}.onnx"
    example = trained.example()
    axes = getattr(trained, "dynamic", {0: "batch"})
    with torch.no_grad(), _quiet():
        everything = list(trained(example))
        names = _wanted(everything, only)
        program = torch.onnx.export(
            trained,
            (example,),
            dynamo=True,
            input_names=["images"],
            output_names=everything,
            dynamic_shapes=({axis: _dimension(text) for axis, text in axes.items()},),
            verbose=False,
        )
    if program is None:
        raise TrainingFailed(f"torch could not translate {name} to ONNX")
    about = _origin(name, described, axes) | trained.metadata()
    network = onnx.utils.Extractor(program.model_proto).extract_model(["images"], names)
    if half:
        _halve(network)
    part = out.with_name(out.name + ".part")
    try:
        part.write_bytes(_finished(network, about))
        _compare(part, trained, names, example, HALF * tolerance if half else tolerance)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return out


def describe(path: Path) -> dict[str, Any]:
    """What an exported file says about itself."""
    import onnxruntime

    if not path.is_file():
        raise AssetMissing(f"there is no model file {path}; `sameface export RUN` writes one")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    entries = session.get_modelmeta().custom_metadata_map
    if KEY not in entries:
        raise BadModel(
            f"{path} says nothing about itself (no metadata entry {KEY!r}): it was not made by sameface export"
        )
    return json.loads(entries[KEY])


def annotate(path: Path, more: dict[str, Any]) -> None:
    """Add entries to what an exported file says about itself, or replace them."""
    import onnx

    about = describe(path) | more
    model = onnx.load(path)
    (entry,) = (one for one in model.metadata_props if one.key == KEY)
    entry.value = json.dumps(about)
    part = path.with_name(path.name + ".part")
    try:
        part.write_bytes(model.SerializeToString())
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def _wanted(names: list[str], only: Sequence[str]) -> list[str]:
    unknown = set(only) - set(names)
    if unknown:
        raise ValueError(f"the method has no output {', '.join(sorted(unknown))}; it has {', '.join(names)}")
    return [name for name in names if name in only] if only else names


def _origin(name: str, described: dict[str, Any], axes: dict[int, str]) -> dict[str, Any]:
    """Where the file comes from: the run's settings, without the folders of the machine it ran on."""
    return {
        "method": name,
        "config": described["config"],
        "data": Path(described["data"].partition(":")[0]).stem,
        "step": described["step"],
        "axes": {str(axis): text for axis, text in axes.items()},
    }


def _dimension(text: str) -> Any:
    """The free axis "height", or "32*height" if it must be a multiple of 32."""
    from torch.export import Dim

    factor, _, name = text.rpartition("*")
    return int(factor) * Dim(name) if factor else Dim(name)


def _halve(model: Any) -> None:
    """Every large array of weights as float16, cast to float32 where it is used."""
    import onnx
    from onnx import numpy_helper

    casts = []
    for array in model.graph.initializer:
        values = numpy_helper.to_array(array)
        if values.dtype == np.float32 and values.size >= SMALL:
            name = array.name
            array.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}_half"))
            casts.append(onnx.helper.make_node("Cast", [array.name], [name], to=onnx.TensorProto.FLOAT))
    for node in reversed(casts):
        model.graph.node.insert(0, node)


def _finished(model: Any, about: dict[str, Any]) -> bytes:
    """The file's bytes: described, and without the traces of source files and folders that torch writes into it."""
    import onnx

    for part in (*model.graph.node, *model.graph.value_info, *model.graph.input, *model.graph.output, model.graph):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")
    del model.graph.value_info[:], model.functions[:]
    onnx.helper.set_model_props(model, {KEY: json.dumps(about)})
    onnx.checker.check_model(model)
    return model.SerializeToString()


def _compare(path: Path, method: Any, names: Sequence[str], example: Any, tolerance: float) -> None:
    """Run both on the example and on noise; complain about the first output that differs."""
    import onnxruntime
    import torch

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    noise = torch.rand(3, *example.shape[1:], generator=torch.Generator().manual_seed(1))
    for images in (example, noise):
        with torch.no_grad():
            wanted = {name: value.numpy() for name, value in method(images).items() if name in names}
        found = session.run(list(wanted), {"images": images.numpy()})
        for (name, y), value in zip(wanted.items(), found, strict=True):
            off = np.abs(np.asarray(value) - y) / (1 + np.abs(y))
            if not (off <= tolerance).all():
                raise TrainingFailed(
                    f"the exported file disagrees with torch: {name} is off by {off.max():.1e} of 1 + |{name}|, more "
                    f"than {tolerance:.1e}; look for operations of `forward` that depend on the mode or on values"
                )


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the remarks of torch's exporter about its own parts and about packages that are not installed."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
