#!/usr/bin/env bash
# torch 2.13.0: a module with a submodule named `code`, `graph` or `meta` is exported, and the program cannot be used:
# ExportedProgram.module(), run_decompositions() and so torch.onnx.export raise RuntimeError, since fx.GraphModule has
# attributes of its own by these names. Any other name works. Nothing at export says so.
#
# Seen on x86-64 Linux, Python 3.11: "head: used; code: RuntimeError; graph: RuntimeError; meta: RuntimeError".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip --quiet --disable-pip-version-check install --target "$work/packages" torch==2.13.0 numpy==2.3.5
PYTHONPATH="$work/packages" python3 -W ignore - <<'PYTHON'
import torch
from torch import nn

assert torch.__version__.startswith("2.13.0")


class Named(nn.Module):
    """A network whose only part has the given name."""

    def __init__(self, name):
        super().__init__()
        self.part = name
        setattr(self, name, nn.Sequential(nn.Linear(3, 2)))

    def forward(self, x):
        return getattr(self, self.part)(x)


def outcome(name):
    example = (torch.rand(1, 3),)
    assert Named(name)(*example).shape == (1, 2)  # the network itself is sound
    program = torch.export.export(Named(name), example)
    try:
        program.module()
    except RuntimeError as error:
        assert "references nonexistent attribute" in str(error), error
        return "RuntimeError"
    return "used"


seen = {name: outcome(name) for name in ("head", "code", "graph", "meta")}
print("; ".join(f"{name}: {said}" for name, said in seen.items()))
assert seen.pop("head") == "used", "another name does not work either"
assert set(seen.values()) == {"RuntimeError"}, "some of these names work now"
PYTHON
