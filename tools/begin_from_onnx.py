"""The torch weights in an exported isoface network, so that training can go on from it.

    python tools/begin_from_onnx.py src/sameface/assets/default.onnx pointlabels:runs/points begin.pt
    sameface train isoface --start begin.pt …

Exporting folds every batch normalisation into the convolution before it. Here each gets back the mean and variance that
it sees over augmented crops of the val split, and a scale and shift that undo them: the network says the same, and
trains as if it had never been folded. Heads that the file does not have begin as in a new network.
"""

import sys
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, nn

from sameface.core import plugins
from sameface.training.methods.isoface import Config, Method

CROPS, LARGEST_DIFFERENCE = 512, 1e-4


def unfolded(file: Path, crops: Tensor) -> Method:
    """The method whose output is the file's, with batch normalisations that fit the crops."""
    said = {i.name: torch.tensor(numpy_helper.to_array(i)) for i in onnx.load(str(file)).graph.initializer}
    method, bias, norms = Method(Config()).eval(), torch.zeros(0), {}
    for name, layer in method.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and f"{name}.weight" in said:
            layer.weight.data = said[f"{name}.weight"]
            bias = said.get(f"{name}.weight_bias", said.get(f"{name}.bias"))
            if layer.bias is not None:
                layer.bias.data = bias.clone()
        elif isinstance(layer, nn.BatchNorm2d | nn.BatchNorm1d):
            nn.init.ones_(layer.weight)
            layer.running_var.fill_(1 - layer.eps)  # type: ignore[union-attr,operator]
            if isinstance(layer, nn.BatchNorm2d):
                layer.bias.data = bias.clone()
            norms[name] = layer
    with torch.no_grad():
        for layer in norms.values():
            seen: list[Tensor] = []
            hook = layer.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(inputs[0]))
            method(crops)
            hook.remove()
            axes = (0, 2, 3) if seen[0].ndim == 4 else (0,)
            mean, variance = seen[0].mean(axes), seen[0].var(axes) + 1e-4
            layer.running_mean.copy_(mean)
            layer.running_var.copy_(variance)
            layer.bias += mean
            layer.weight.copy_(torch.sqrt(variance + layer.eps))
    return method


def main(file: Path, data: str, out: Path) -> None:
    import onnxruntime

    dataset, root = plugins.dataset_at(data)
    held_out, rng = dataset.load(root, "val"), np.random.default_rng(0)
    sampler = Method(Config())
    rows = np.linspace(0, len(held_out) - 1, CROPS).astype(int).tolist()
    crops = np.stack([sampler.sample(held_out, k, rng, True)["images"] for k in rows])
    images = torch.tensor(crops).permute(0, 3, 1, 2) / 255
    method = unfolded(file, images)
    (wanted,) = onnxruntime.InferenceSession(str(file)).run(["rotation"], {"images": images[:32].numpy()})
    with torch.no_grad():
        apart = float(np.abs(method(images[:32])["rotation"].numpy() - wanted).max())
    if apart > LARGEST_DIFFERENCE:
        raise SystemExit(f"the weights of {file} give other answers in torch ({apart:.2g} apart)")
    torch.save({"step": 0, "weights": method.state_dict()}, out)
    print(f"{out}: within {apart:.1g} of {file}")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))
