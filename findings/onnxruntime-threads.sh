#!/usr/bin/env bash
# onnxruntime 1.23.2 does not ask OMP_NUM_THREADS: a session starts a thread per core whatever it says, and obeys only
# SessionOptions.intra_op_num_threads. Needs two cores or more.
#
# Seen on x86-64 Linux, 2 cores, Python 3.11: "OMP_NUM_THREADS=1: 1 more threads; intra_op_num_threads=1: 0 more".
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
python3 -m pip --quiet --disable-pip-version-check install --target "$work/packages" \
  onnxruntime==1.23.2 onnx==1.19.1 numpy==2.3.5
OMP_NUM_THREADS=1 PYTHONPATH="$work/packages" python3 - <<'PYTHON'
import os

import onnx
import onnxruntime
from onnx import TensorProto, helper

assert onnxruntime.__version__ == "1.23.2"
square = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [512, 512]) for name in ("x", "y")]
graph = helper.make_graph([helper.make_node("MatMul", ["x", "x"], ["y"])], "square", square[:1], square[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
onnx.checker.check_model(model)


def more_threads(asked):
    """How many threads a session adds to this process."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = asked
    before = len(os.listdir("/proc/self/task"))
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return len(os.listdir("/proc/self/task")) - before, session


(usual, _), (told, _) = more_threads(0), more_threads(1)
print(f"OMP_NUM_THREADS=1: {usual} more threads; intra_op_num_threads=1: {told} more")
assert usual >= 1, "it asks OMP_NUM_THREADS now"
assert told == 0, "it does not obey intra_op_num_threads any more"
PYTHON
