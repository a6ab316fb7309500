"""What every method must do, whatever paper it comes from. A new file in methods/ is tested here untouched.

A method that needs more than its data set's folder (a morphable model's file) gets it from FILES of small_methods.
"""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from sameface.core import plugins
from sameface.photo.predictor import load
from sameface.training import export, train
from sameface.training.train import Loop
from small_methods import FILES, SMALL, sample, takers


@dataclasses.dataclass
class Trained:
    """One method with everything that is needed to train it."""

    name: str
    plugin: Any
    config: Any
    source: str
    folder: Path


@pytest.fixture(scope="module", params=plugins.names("methods"))
def case(request, tmp_path_factory) -> Trained:
    folder, plugin = tmp_path_factory.mktemp(request.param), plugins.load("methods", request.param)
    settings = dict(SMALL.get(request.param, {}))
    if request.param in FILES:
        field, write = FILES[request.param]
        (folder / field).mkdir()
        write(folder / field)
        settings[field] = str(folder / field)
    config = plugin.Config(**settings, batch=4, steps=4)
    sets = takers(plugin.Method)
    assert sets, f"no data set gives {plugin.Method.needs}: nobody can train this method"
    return Trained(request.param, plugin, config, sample(sets[0], folder), folder)


def batch_of(case: Trained, method: Any) -> dict[str, torch.Tensor]:
    name, _, folder = case.source.partition(":")
    data = plugins.load("datasets", name).load(Path(folder), "train")
    items = [method.sample(data, k % len(data), np.random.default_rng(k), True) for k in range(4)]
    return train.collate(items, torch.device("cpu"))


def test_the_header_says_its_symbols_and_what_differs_from_the_paper(case):
    text = case.plugin.__doc__
    assert "Symbols" in text
    assert any(words in text for words in ("iffers from", "What is ours", "not a paper"))


def test_every_setting_is_explained(case):
    source = Path(case.plugin.__file__).read_text()
    for field in dataclasses.fields(case.plugin.Config):
        at = source.index(f"    {field.name}: ")
        assert source[at:].split("\n", 1)[1].lstrip().startswith('"""'), f"{field.name} has no docstring"
    assert {"steps", "batch"} <= {field.name for field in dataclasses.fields(case.plugin.Config)}


def test_every_weight_gets_a_finite_gradient_and_training_lowers_the_loss(case):
    torch.manual_seed(0)
    method = case.plugin.Method(case.config)
    batch, optimizer, totals = batch_of(case, method), method.optimizer(), []
    for _ in range(20):
        losses = method.losses(batch, method(batch["images"]))
        total = torch.stack(list(losses.values())).sum()
        optimizer.zero_grad()
        total.backward()
        trained = [(name, p) for name, p in method.named_parameters() if p.requires_grad]
        assert not [name for name, p in trained if p.grad is None or not p.grad.isfinite().all()]
        optimizer.step()
        totals.append(total.item())
    assert np.mean(totals[-4:]) < np.mean(totals[:4])


def test_an_item_follows_from_the_generator_alone(case):
    method = case.plugin.Method(case.config)
    name, _, folder = case.source.partition(":")
    data = plugins.load("datasets", name).load(Path(folder), "val")
    one, two = (method.sample(data, 1, np.random.default_rng(3), True) for _ in range(2))
    for key in one:
        np.testing.assert_array_equal(one[key], two[key])


def test_a_run_exports_and_the_file_answers_like_torch(case):
    """`export` compares on its own, to 1e-4; here at other sizes, where these are free, and read as pictures are."""
    run = train.train(case.name, case.source, case.folder / "run", case.config, Loop(validate_items=2))
    file, (method, _) = export.export(run), train.restore(run)
    about = export.describe(file)
    assert about["method"] == case.name
    assert about["step"] == 4
    assert about.items() >= json.loads(json.dumps(method.metadata())).items()
    assert str(case.folder) not in json.dumps(about)
    kinds = {node.op_type for node in onnx.load(file).graph.node}
    assert kinds.isdisjoint({"GridSample", "ScatterElements", "ScatterND", "Loop"}), "a face is drawn, or searched for"
    _, *shape = method.example().shape
    free = {axis: text.partition("*")[0] for axis, text in getattr(method, "dynamic", {}).items() if axis}
    for axis, multiple in free.items():
        shape[axis - 1] = int(multiple) * axis
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    with torch.no_grad():
        wanted = {name: value.numpy() for name, value in method(torch.from_numpy(images) / 255).items()}
    if "crop" in about:
        found = load(str(file))(np.moveaxis(images, -3, -1))
    else:
        session = onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"])
        found = dict(zip(wanted, session.run(list(wanted), {"images": np.float32(images) / 255}), strict=True))
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        np.testing.assert_allclose(found[name], value, atol=2e-4, rtol=2e-4, err_msg=name)


@pytest.mark.slow
def test_a_smoke_run_learns_and_survives_a_restart(case):
    steps = 60
    config = dataclasses.replace(case.config, steps=steps, batch=8)
    loop = Loop(log_every=5, validate_every=steps, validate_items=8, save_every=20)
    run = train.train(case.name, case.source, case.folder / "smoke", config, loop)
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in log if "loss" in line]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    halfway = case.folder / "again"
    train.train(case.name, case.source, halfway, config, loop)
    weights = [torch.load(path / "last.pt", weights_only=True)["weights"] for path in (run, halfway)]
    for name, value in weights[0].items():
        assert torch.equal(value, weights[1][name]), name


@pytest.mark.slow
def test_two_processes_train_a_network_without_batch_statistics_like_one(case):
    method = case.plugin.Method(case.config)
    if any(isinstance(part, torch.nn.modules.batchnorm._BatchNorm | torch.nn.Dropout) for part in method.modules()):
        pytest.skip(f"{case.name} normalises over its batch or drops out: two processes are not meant to equal one")
    config = dataclasses.replace(case.config, steps=6)
    loop = Loop(log_every=1, validate_items=4)
    alone = train.train(case.name, case.source, case.folder / "alone", config, loop)
    script = case.folder / "two.py"
    script.write_text(
        "from pathlib import Path\nfrom sameface.core import plugins\nfrom sameface.training.train import Loop, train\n"
        f"plugin = plugins.load('methods', {case.name!r})\n"
        f"train({case.name!r}, {case.source!r}, Path({str(case.folder / 'two')!r}),\n"
        f"      plugin.Config(**{dataclasses.asdict(config)!r}), Loop(log_every=1, validate_items=4))\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(script)]
    subprocess.run(command, check=True, timeout=180)
    curves = [
        [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        for run in (alone, case.folder / "two")
    ]
    for one, two in zip(*curves, strict=True):
        for key in one.keys() - {"seconds"}:
            assert one[key] == pytest.approx(two[key], rel=2e-4, abs=1e-6), key
