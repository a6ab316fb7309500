"""Exported files, of a method small enough to be translated in a second; the contract test exports every real one."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from sameface import cli
from sameface.core import plugins
from sameface.core.errors import AssetMissing, BadModel, TrainingFailed
from sameface.training import export, train
from test_train import MINE

TWO_OUTPUTS = """
class Method(Method):
    dynamic = {0: "batch", 2: "2*height", 3: "width"}
    def __init__(self, config):
        super().__init__(config)
        self.colours = nn.Conv2d(3, 16, 3, stride=2)
    def forward(self, images):
        return super().forward(images) | {"colour": self.colours(images).mean((2, 3))}
"""
"""what is added to the method of the tests of training: 432 weights, enough to be rounded, and sizes that are free"""


@pytest.fixture(scope="module")
def mine(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("export") / "mine.py"
    path.write_text(MINE.partition("if __name__")[0] + TWO_OUTPUTS)
    return str(path)


@pytest.fixture(scope="module")
def run(mine, tmp_path_factory) -> Path:
    config = plugins.load("methods", mine).Config(steps=2)
    return train.train(mine, f"{mine}:.", tmp_path_factory.mktemp("run") / "run", config)


@pytest.fixture(scope="module")
def exported(run) -> Path:
    return export.export(run)


def test_the_file_answers_like_torch_at_sizes_it_was_not_traced_with(run, exported):
    import onnxruntime

    session = onnxruntime.InferenceSession(str(exported))
    method, _ = train.restore(run)
    for shape in ((1, 3, 6, 9), (2, 3, 16, 5)):
        images = torch.rand(shape)
        with torch.no_grad():
            wanted = method(images)
        found = session.run(list(wanted), {"images": images.numpy()})
        for value, (name, expected) in zip(found, wanted.items(), strict=True):
            np.testing.assert_allclose(value, expected.numpy(), rtol=1e-4, atol=1e-4, err_msg=name)


def test_the_file_says_what_it_is(exported):
    about = export.describe(exported)
    assert about["method"] == about["data"] == "mine"
    assert about["step"] == 2
    assert about["unit"] == "share of white"
    assert about["config"]["widths"] == [4, 4]
    assert about["axes"] == {"0": "batch", "2": "2*height", "3": "width"}


def test_the_file_tells_nothing_about_the_machine(exported, run):
    content = exported.read_bytes()
    for folder in (run, Path(export.__file__).parent, Path(torch.__file__).parent):
        assert str(folder).encode() not in content
    assert not list(exported.parent.glob("*.part"))


def test_only_the_wanted_outputs_and_what_they_need(run, exported, tmp_path):
    part = export.export(run, tmp_path / "part.onnx", only=["colour"])
    assert [output.name for output in onnx.load(part).graph.output] == ["colour"]
    assert len(onnx.load(part).graph.initializer) < len(onnx.load(exported).graph.initializer)
    assert export.describe(part) == export.describe(exported)
    with pytest.raises(ValueError, match=r"no output taste; it has brightness, colour"):
        export.export(run, tmp_path / "none.onnx", only=["colour", "taste"])


def test_half_the_bytes_for_weights_of_16_bits(run, exported, tmp_path):
    import onnxruntime

    half = export.export(run, tmp_path / "half.onnx", half=True)

    def large(path):
        return [array for array in onnx.load(path).graph.initializer if np.prod(array.dims) >= export.SMALL]

    assert {array.data_type for array in large(exported)} == {onnx.TensorProto.FLOAT}
    assert {array.data_type for array in large(half)} == {onnx.TensorProto.FLOAT16}
    assert sum(len(array.raw_data) for array in large(exported)) == 2 * sum(len(one.raw_data) for one in large(half))
    images = np.random.default_rng(0).random((2, 3, 8, 8), np.float32)
    answers = [
        onnxruntime.InferenceSession(str(path)).run(["colour"], {"images": images})[0] for path in (exported, half)
    ]
    assert 0 < np.abs(answers[0] - answers[1]).max() < 1e-2


def test_a_file_that_disagrees_with_torch_is_not_left(mine, run, tmp_path, monkeypatch):
    method = plugins.load("methods", mine).Method
    forward = method.forward

    def noisy(self, images):
        output = forward(self, images)
        return output | {"colour": output["colour"] + 0.01 * torch.rand_like(output["colour"])}

    monkeypatch.setattr(method, "forward", noisy)
    with pytest.raises(TrainingFailed, match="disagrees with torch: colour is off by"):
        export.export(run, tmp_path / "bad.onnx")
    assert not list(tmp_path.iterdir())


def test_the_verb_exports_nobodys_code_unless_it_is_named(mine, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(plugins, "_trusted", {})

    def export_verb(*flags: str) -> int:
        with pytest.raises(SystemExit) as left:
            cli.main(["export", str(run), "--out", str(tmp_path / "a.onnx"), *flags])
        return int(left.value.code or 0)

    assert export_verb() == 1
    assert "if you trust it, give --method mine.py" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
    assert export_verb("--method", mine) == 0
    assert export.describe(tmp_path / "a.onnx")["method"] == "mine"


def test_files_of_others_are_told_apart(tmp_path):
    with pytest.raises(AssetMissing, match=r"no model file .*none\.onnx"):
        export.describe(tmp_path / "none.onnx")
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1])
    other = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", ["x"], ["y"])], "g", [value], [other])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(BadModel, match="says nothing about itself"):
        export.describe(tmp_path / "other.onnx")
