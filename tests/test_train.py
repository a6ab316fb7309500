"""The loop, with a method and a data set of the user's own (one file is both)."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from sameface.core import plugins
from sameface.core.errors import AssetMissing, BadData, BadOutput, TrainingFailed
from sameface.training import checkpoints, train
from sameface.training.train import Loop

MINE = '''
"""Tells how bright a picture is."""
import os
import threading
import time
from dataclasses import dataclass
import numpy as np
import torch
from torch import nn
from sameface.core.errors import BadData

gives = ("images", "brightness")
CALLS, LOCK = [], threading.Lock()

@dataclass(frozen=True)
class Config:
    steps: int = 40
    """Steps."""
    batch: int = 8
    """Items of a step."""
    lr: float = 0.02
    """Of Adam."""
    widths: tuple[int, ...] = (4, 4)
    """Channels."""
    dropout: float = 0.2
    """Share of channels."""
    poison: int = -1
    """The loss of this item of an epoch is infinite."""

class Data:
    def __init__(self, count, seed):
        self.images = np.random.default_rng(seed).integers(0, 256, (count, 1, 1, 3), dtype=np.uint8)
    def __len__(self):
        return len(self.images)
    def __getitem__(self, index):
        if str(index) in os.environ.get("BAD_ITEMS", "").split():
            raise BadData(f"item {index} holds no picture")
        image = self.images[index].repeat(8, 0).repeat(8, 1)
        return {"images": image, "brightness": np.float32(image.mean() / 255), "index": np.int64(index)}

def load(root, split):
    return Data({"train": 50, "val": 20}[split], {"train": 0, "val": 1}[split])

def sample(root):
    pass

class Method(nn.Module):
    needs = ("images", "brightness")
    def __init__(self, config):
        super().__init__()
        self.config = config
        a, b = config.widths
        self.layers = nn.Sequential(nn.Conv2d(3, a, 3), nn.ReLU(), nn.Dropout(config.dropout), nn.Conv2d(a, b, 3))
        self.head = nn.Linear(b, 1)
    def sample(self, data, index, rng, train):
        with LOCK:
            CALLS.append(index)
            stalled = len(CALLS) > int(os.environ.get("STALL_AFTER", "1000000"))
        time.sleep(3600 if stalled else 0)
        item = data[index]
        if train and rng.random() < 0.5:
            item["images"] = item["images"][:, ::-1]
        return item
    def forward(self, images):
        return {"brightness": self.head(self.layers(images).mean((2, 3)))[:, 0]}
    def losses(self, batch, output):
        square = (output["brightness"] - batch["brightness"]).square()
        return {"square": torch.where(batch["index"] == self.config.poison, torch.inf, square).mean(),
                "size": 1e-3 * self.head.weight.square().mean()}
    def optimizer(self):
        return torch.optim.Adam(self.parameters(), lr=self.config.lr)
    def schedule(self, progress):
        return np.float64(1 - progress / 2)
    def metadata(self):
        return {"unit": "share of white"}
    def example(self):
        return torch.zeros(1, 3, 8, 8)

if __name__ == "__main__":
    import sys
    from pathlib import Path
    from sameface.training.train import Loop, train
    train(__file__, f"{__file__}:.", Path(sys.argv[1]), Config(dropout=float(sys.argv[2])),
          Loop(log_every=1, save_every=4))
'''
POOR = "gives = ('images', 'age')\ndef load(root, split): 1 / 0\ndef sample(root): ...\n"
CLOCK = ("seconds",)


@pytest.fixture
def mine(tmp_path) -> str:
    path = tmp_path / "mine.py"
    path.write_text(MINE)
    return str(path)


def run(mine: str, out: Path, loop: Loop | None = None, **changes) -> list[dict]:
    loop = loop or Loop(log_every=1, save_every=4)
    train.train(mine, f"{mine}:.", out, plugins.load("methods", mine).Config(**changes), loop)
    return read_log(out)


def read_log(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in CLOCK} for line in lines]


def test_a_run_learns_and_leaves_its_folder(mine, tmp_path):
    log = run(mine, tmp_path / "run", Loop(log_every=1, validate_every=20), steps=60, dropout=0.0)
    assert sorted(p.name for p in (tmp_path / "run").iterdir()) == ["best.pt", "config.json", "last.pt", "log.jsonl"]
    held_out = [line["held_out"] for line in log if "held_out" in line]
    assert len(held_out) == 3
    assert held_out[-1] < 0.2 * next(line["loss"] for line in log)
    first = log[0]
    assert first["loss"] == pytest.approx(first["square"] + first["size"])


def test_a_run_can_begin_with_the_weights_of_another(mine, tmp_path):
    log = run(mine, tmp_path / "first", Loop(log_every=1), steps=60, dropout=0.0)
    start = str(tmp_path / "first" / "best.pt")
    more = run(mine, tmp_path / "second", Loop(log_every=1, seed=5, start=start), steps=3, dropout=0.0)
    assert more[0]["loss"] < 0.5 * log[0]["loss"]
    with pytest.raises(AssetMissing, match="nowhere"):
        run(mine, tmp_path / "third", Loop(start=str(tmp_path / "nowhere.pt")), steps=3)


def test_a_finished_run_is_not_done_again(mine, tmp_path):
    log = run(mine, tmp_path / "run")
    changed = (tmp_path / "run" / "last.pt").stat().st_mtime_ns
    assert run(mine, tmp_path / "run") == log
    assert (tmp_path / "run" / "last.pt").stat().st_mtime_ns == changed


def test_how_many_threads_prepare_items_changes_nothing(mine, tmp_path):
    logs = [run(mine, tmp_path / str(n), Loop(log_every=1, workers=n), steps=10) for n in (1, 4)]
    assert logs[0] == logs[1]


def test_the_seed_changes_everything(mine, tmp_path):
    logs = [run(mine, tmp_path / str(n), Loop(log_every=1, seed=n), steps=4) for n in (0, 1)]
    assert logs[0][0] != logs[1][0]


def test_an_epoch_shows_every_item_once(mine):
    module = plugins.load("methods", mine)
    config = module.Config(steps=25, batch=4)
    state = train.Run(Path("."), module.Method(config), config, Loop(), train.Team(0, 1, torch.device("cpu")))
    seen = [int(call()["index"]) for call in state.calls(module.load(None, "train"))]
    assert sorted(seen[:50]) == sorted(seen[50:]) == list(range(50))
    assert seen[:50] != seen[50:]


def test_processes_share_the_very_items_of_one(mine):
    module = plugins.load("methods", mine)
    config, data = module.Config(steps=3), module.load(None, "train")

    def images(rank, size):
        state = train.Run(Path("."), module.Method(config), config, Loop(), train.Team(rank, size, torch.device("cpu")))
        return np.stack([call()["images"] for call in state.calls(data)]).reshape(3, 8 // size, 8, 8, 3)

    np.testing.assert_array_equal(np.concatenate([images(0, 2), images(1, 2)], axis=1), images(0, 1))


def test_a_killed_run_goes_on_as_if_nothing_had_happened(mine, tmp_path):
    undisturbed = run(mine, tmp_path / "whole")
    stalls = os.environ | {"STALL_AFTER": "60"}  # seven batches of 8 and a half: then no item ever comes
    process = subprocess.Popen([sys.executable, mine, str(tmp_path / "killed"), "0.2"], env=stalls)
    log = tmp_path / "killed" / "log.jsonl"
    while not (log.exists() and log.read_text().count("\n") == 7):  # last.pt then holds step 4
        assert process.poll() is None
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert len(read_log(tmp_path / "killed")) < len(undisturbed)
    with log.open("a") as file:
        file.write('{"step": 9, "lo')  # a kill in the middle of a line
    resumed = run(mine, tmp_path / "killed")
    assert resumed == undisturbed
    ends = [torch.load(tmp_path / name / "last.pt", weights_only=True)["weights"] for name in ("whole", "killed")]
    for name, value in ends[0].items():
        assert torch.equal(value, ends[1][name]), name


@pytest.mark.slow
def test_two_processes_give_the_curve_of_one(mine, tmp_path):
    alone = run(mine, tmp_path / "one", dropout=0.0)
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", mine]
    subprocess.run([*command, str(tmp_path / "two"), "0"], check=True, timeout=600)
    together = read_log(tmp_path / "two")
    assert len(alone) == len(together)
    for one, two in zip(alone, together, strict=True):
        assert one == pytest.approx(two, rel=1e-4, abs=1e-7)


def test_averaged_weights_are_what_is_kept(mine, tmp_path):
    run(mine, tmp_path / "run", Loop(log_every=1, average=0.9))
    method, description = train.restore(tmp_path / "run")
    last = torch.load(tmp_path / "run" / "last.pt", weights_only=True)
    assert description["step"] == 40
    assert not method.training
    assert torch.equal(method.head.weight, last["averaged"]["head.weight"])
    assert not torch.equal(method.head.weight, last["weights"]["head.weight"])


def test_low_precision_and_clipping_still_learn(mine, tmp_path):
    log = run(mine, tmp_path / "run", Loop(precision="bfloat16", clip=1.0, log_every=1), steps=60, dropout=0.0)
    assert log[-1]["held_out"] < 0.3 * log[0]["loss"]


def test_a_loss_that_is_not_finite_stops_the_run_by_name(mine, tmp_path):
    with pytest.raises(TrainingFailed, match=r"at step [0-9]+ the loss square is inf; lower the learning rate"):
        run(mine, tmp_path / "run", poison=7)


def test_a_bad_item_costs_itself_only_and_is_said(mine, tmp_path, monkeypatch):
    whole = run(mine, tmp_path / "whole", dropout=0.0)
    monkeypatch.setenv("BAD_ITEMS", "7 8")
    log = run(mine, tmp_path / "run", dropout=0.0)
    said = {name: why for line in log for name, why in line.get("not_used", {}).items()}
    assert said == {f"{kind} {k}": f"item {k} holds no picture" for kind in ("item", "held-out item") for k in (7, 8)}
    assert len([line for line in log if "loss" in line]) == len([line for line in whole if "loss" in line]) == 40
    monkeypatch.setenv("BAD_ITEMS", " ".join(map(str, range(50))))
    with pytest.raises(BadData, match=r"items one after the other cannot be used, the last: item \d+ holds no picture"):
        run(mine, tmp_path / "none")


def bent(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[data.find(b"data/0") + 200] ^= 1  # in the numbers of the first weights
    path.write_bytes(data)


def beyond(path: Path) -> None:
    checkpoints.write_state(path, checkpoints.read_state(path) | {"step": 10**9})


def no_number(path: Path) -> None:
    checkpoints.write_state(path, checkpoints.read_state(path) | {"best": "low"})


def of_another(path: Path) -> None:
    checkpoints.write_state(path, checkpoints.read_state(path) | {"weights": {"other": torch.zeros(3)}})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (bent, "last.pt (is damaged: it is not what was written|holds no state of a run)"),
        (beyond, "last.pt is at step 1000000000, but the run has 8"),
        (of_another, "last.pt has weights of another network"),
        (lambda path: path.write_bytes(path.read_bytes()[:500]), "last.pt holds no state of a run"),
        (no_number, "last.pt holds no state of a run"),
        (lambda path: path.write_bytes(b""), "last.pt holds no state of a run"),
        (lambda path: torch.save({"step": 1}, path), "last.pt holds no state of a run"),
        (lambda path: path.with_name("config.json").write_text("[]"), "config.json does not say method, data"),
        (lambda path: path.with_name("log.jsonl").write_text("no\n"), "log.jsonl has lines that are not of a run's"),
    ],
)
def test_a_run_is_gone_on_with_only_from_what_was_written(mine, tmp_path, damage, message):
    run(mine, tmp_path / "run", steps=8)
    damage(tmp_path / "run" / "last.pt")
    with pytest.raises(TrainingFailed, match=message):
        run(mine, tmp_path / "run", steps=8)


def test_a_state_without_a_digest_is_one_of_the_version_before(mine, tmp_path):
    log = run(mine, tmp_path / "run", steps=8)
    path = tmp_path / "run" / "last.pt"
    torch.save({k: v for k, v in torch.load(path, weights_only=True).items() if k != "sha256"}, path)
    assert run(mine, tmp_path / "run", steps=8) == log


@pytest.mark.parametrize(
    ("loop", "config", "message"),
    [
        (Loop(save_every=0), {}, "save-every is 0; give at least 1"),
        (Loop(log_every=-1), {}, "log-every is -1"),
        (Loop(workers=0), {}, "workers is 0"),
        (Loop(workers=100_000), {}, "workers is 100000; give 1 to 1024"),
        (Loop(), {"batch": 0}, "batch is 0"),
        (Loop(), {"batch": 10**12}, "batch is 1000000000000; give 1 to"),
        (Loop(average=1.0), {}, "average is 1"),
        (Loop(clip=float("nan")), {}, "clip nan"),
        (Loop(device="nowhere"), {}, "device is 'nowhere', where torch cannot compute"),
    ],
)
def test_numbers_that_no_run_can_have_are_refused_before_anything_is_made(mine, tmp_path, loop, config, message):
    with pytest.raises(ValueError, match=message):
        run(mine, tmp_path / "run", loop, **config)
    assert not (tmp_path / "run").exists()


def test_settings_that_torch_cannot_compute_with_are_a_sentence_but_for_a_method_of_ones_own(mine, tmp_path):
    plugins.load("datasets", "scenes").sample(tmp_path / "scenes")
    config = plugins.load("methods", "detector").Config(neck=-1)
    with pytest.raises(TrainingFailed, match=r"detector cannot compute with these settings \(.*negative dim"):
        train.train("detector", f"scenes:{tmp_path / 'scenes'}", tmp_path / "run", config)
    with pytest.raises(RuntimeError, match="negative dim"):
        run(mine, tmp_path / "mine", widths=(-1, 4))


def test_a_run_is_not_written_among_the_data(mine, tmp_path):
    (tmp_path / "data").mkdir()
    with pytest.raises(BadOutput, match="is what is read: results would lie among it"):
        train.train(mine, f"{mine}:{tmp_path / 'data'}", tmp_path / "data")
    assert not list((tmp_path / "data").iterdir())


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here")
def test_a_gpu_that_is_not_there_is_said(mine, tmp_path):
    with pytest.raises(ValueError, match="device is 'cuda', where torch cannot compute"):
        run(mine, tmp_path / "run", Loop(device="cuda"))


def test_other_settings_need_another_folder(mine, tmp_path):
    run(mine, tmp_path / "run", steps=4)
    with pytest.raises(TrainingFailed, match=r"config\.lr was 0\.02, now 0\.1.*another --out"):
        run(mine, tmp_path / "run", steps=4, lr=0.1)


def test_what_a_method_needs_is_checked_before_anything_is_read(mine, tmp_path):
    (tmp_path / "poor.py").write_text(
        "gives = ('images', 'age')\ndef load(root, split): 1 / 0\ndef sample(root): ...\n"
    )
    with pytest.raises(ValueError, match=r"needs items with 'brightness'; data set .* gives images, age"):
        train.train(mine, f"{tmp_path / 'poor.py'}:.", tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("data", ["scenes", "scenes:", ":folder"])
def test_data_says_what_and_where(mine, tmp_path, data):
    with pytest.raises(ValueError, match="write DATASET:FOLDER"):
        train.train(mine, data, tmp_path / "run")


def test_a_folder_that_is_not_there_is_named(mine, tmp_path):
    with pytest.raises(BadData, match=r"there is no folder .*nowhere"):
        train.train(mine, f"{mine}:{tmp_path / 'nowhere'}", tmp_path / "run")


def test_somebody_elses_run_runs_none_of_their_code(mine, tmp_path, monkeypatch):
    run(mine, tmp_path / "run", steps=2)
    told = json.loads((tmp_path / "run" / "config.json").read_text())
    assert told["method"] == "mine.py"
    monkeypatch.setattr(plugins, "_trusted", {})
    (tmp_path / "run" / "mine.py").write_text("from pathlib import Path\nPath(__file__).with_name('ran').touch()\n")
    for name in ("mine.py", str(tmp_path / "run" / "mine.py")):
        (tmp_path / "run" / "config.json").write_text(json.dumps(told | {"method": name}))
        with pytest.raises(BadData, match=r"mine\.py, and no file of a folder is run .* give --method mine\.py"):
            train.restore(tmp_path / "run")
    plugins.trust(tmp_path / "run" / "mine.py")
    with pytest.raises(BadData, match="is not what it was made with"):  # another file of that name
        train.restore(tmp_path / "run")
    plugins.trust(mine)
    assert train.restore(tmp_path / "run")[1]["step"] == 2
    assert not (tmp_path / "run" / "ran").exists()


def test_a_method_that_was_changed_since_does_not_go_on_with_a_run(mine, tmp_path):
    run(mine, tmp_path / "run", steps=4)
    moved = tmp_path / "other" / "mine.py"
    moved.parent.mkdir()
    moved.write_text(Path(mine).read_text())
    train.train(str(moved), f"{mine}:.", tmp_path / "run", plugins.load("methods", mine).Config(steps=4),
                Loop(log_every=1, save_every=4))  # fmt: skip
    moved.write_text(Path(mine).read_text() + "\n# changed\n")
    with pytest.raises(TrainingFailed, match=r"holds a run with other settings: method_sha256 was"):
        train.train(str(moved), f"{mine}:.", tmp_path / "run", plugins.load("methods", mine).Config(steps=4),
                    Loop(log_every=1, save_every=4))  # fmt: skip


def test_a_folder_without_a_run_cannot_be_restored(tmp_path):
    with pytest.raises(AssetMissing, match=r"has no config\.json"):
        train.restore(tmp_path)


def test_pictures_become_floats_and_labels_stay(mine):
    items = [{"images": np.full((2, 3, 3), 255, np.uint8), "index": np.int64(4)}] * 5
    batch = train.collate(items, torch.device("cpu"))
    assert batch["images"].shape == (5, 3, 2, 3)
    assert batch["images"].unique().tolist() == [1.0]
    assert batch["index"].tolist() == [4] * 5


def test_settings_are_the_methods_own(mine):
    assert [field.name for field in dataclasses.fields(train.settings(mine))][:3] == ["steps", "batch", "lr"]
