"""The one training loop of the project: method × data set → run folder.

    train("detector", "scenes:../shared/data/scenes", Path("run"))

writes `run/config.json` (what was asked), `log.jsonl` (losses), `last.pt` (everything needed to go on) and `best.pt`
(the weights of the lowest held-out loss). The same call again goes on where the folder stands, or returns at once if
it is finished. Launched by `torchrun`, every process takes its share of the same batches.

Nothing here keeps a random state: what step k sees follows from (seed, k) alone. The items of a step come from the
epoch's permutation, each item's generator from (seed, step, position), dropout from (seed, step, rank). So a killed
run that is resumed repeats the undisturbed one exactly, and several processes repeat one up to rounding if the
losses are means over items and the network keeps no statistics of its batch.
"""

import contextlib
import copy
import dataclasses
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
import torch.distributed as dist
from rich.progress import Progress
from torch import Tensor, nn

from sameface.core import plugins
from sameface.core.errors import AssetMissing, BadData, TrainingFailed, in_one_line
from sameface.core.files import make_folder, read_text, write_file
from sameface.training import checkpoints
from sameface.training.items import Item, Items, ahead, batches, collate, permutation, sampled

__all__ = ["Items", "Loop", "collate", "restore", "settings", "train"]


@dataclass(frozen=True)
class Loop:
    """Settings of the loop itself. What belongs to a recipe (steps, batch, learning rate) is in the method's Config."""

    seed: int = 0
    """Every random number of the run follows from it."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Arithmetic of the forward pass; weights and losses are float32 always."""
    average: float = 0.0
    """Decay per step of the running average of the weights, which then is what is validated and exported; 0: none."""
    clip: float = 0.0
    """Largest norm of the gradient; 0: no limit."""
    log_every: int = 50
    """Steps between two lines of the log."""
    validate_every: int = 1000
    """Steps between two looks at the held-out part."""
    validate_items: int = 1024
    """How many held-out items to look at, evenly spread over them."""
    save_every: int = 500
    """Steps between two writes of last.pt, which is what a kill can cost."""
    workers: int = 2
    """Threads that prepare items."""
    start: str = ""
    """A .pt of an earlier run (best.pt) whose weights to begin with, where a new run would draw them."""
    device: str = "auto"
    """Where to compute; auto is cuda if there is one, else cpu."""


LARGEST_LOG = 1 << 30
"""bytes"""
HOW = ("workers", "device")
"""The settings that change how a run is computed but not what: these may differ when it is resumed."""


MOST = {"batch": 1 << 20, "workers": 1024}
"""what is prepared ahead is held in memory"""


class Team(NamedTuple):
    """The processes that share the run, seen from one of them."""

    rank: int
    size: int
    device: torch.device


def settings(method: str) -> type:
    """The Config class of a method, whose fields become its flags."""
    return plugins.load("methods", method).Config


def train(method: str, data: str, out: Path, config: Any = None, loop: Loop | None = None) -> Path:
    """Train a method (name or .py file) on `data`, written DATASET:FOLDER, into the run folder `out`; returns `out`."""
    plugin, loop = plugins.load("methods", method), loop or Loop()
    config = plugin.Config() if config is None else config
    dataset, root = plugins.dataset_at(data)
    gives = dataset.gives_at(root) if hasattr(dataset, "gives_at") else dataset.gives
    missing = set(plugin.Method.needs) - set(gives)
    if missing:
        raise ValueError(
            f"{method} needs items with {', '.join(sorted(map(repr, missing)))}; "
            f"data set {data.partition(':')[0]} gives {', '.join(gives)}"
        )
    about = {"method": Path(method).name if plugins.is_file(method) else method}
    about |= {f"method_{name}": value for name, value in plugins.fingerprint(method).items()}
    _check(config, loop)
    with _team(loop.device) as team, _in_words(method):
        if config.batch % team.size:
            raise ValueError(f"a batch of {config.batch} cannot be shared equally by {team.size} processes")
        if team.rank == 0:
            make_folder(out, root)
        torch.manual_seed(loop.seed)
        run = Run(out, _begun(plugin.Method(config), loop.start), config, loop, team)
        run.describe(about | {"data": data, "config": _plain(config), "loop": _plain(loop)})
        run.resume()
        if run.step < config.steps:
            run.train(dataset.load(root, "train"), dataset.load(root, "val"))
    return out


def _check(config: Any, loop: Loop) -> None:
    """Raise ValueError for numbers that no run can have."""
    for name in ("steps", "batch", "log_every", "validate_every", "validate_items", "save_every", "workers"):
        value, most = getattr(config if hasattr(config, name) else loop, name), MOST.get(name)
        if value < 1 or (most and value > most):
            raise ValueError(f"{name.replace('_', '-')} is {value}; give {f'1 to {most}' if most else 'at least 1'}")
    if not 0 <= loop.average < 1 or not 0 <= loop.clip < float("inf"):
        raise ValueError(f"average is {loop.average:g} and clip {loop.clip:g}; give a decay below 1 and a norm, or 0")


class Run:
    """A method in training together with its folder."""

    def __init__(self, out: Path, method: Any, config: Any, loop: Loop, team: Team):
        self.out, self.config, self.loop, self.team = out, config, loop, team
        self.method = method.to(device=team.device, memory_format=torch.channels_last)
        self.averaged = copy.deepcopy(self.method) if loop.average else None
        self.optimizer = self.method.optimizer()
        self.rates = [group["lr"] for group in self.optimizer.param_groups]
        self.step, self.best = 0, float("inf")
        self.bad: dict[str, str] = {}
        """items that could not be used since the last line of the log, and why"""

    @property
    def chief(self) -> bool:
        """Whether this process writes the files."""
        return self.team.rank == 0

    def describe(self, description: dict[str, Any]) -> None:
        """Write config.json, or check that the folder's agrees."""
        path = self.out / "config.json"
        if path.exists():
            before, now = _flat(checkpoints.described(self.out)), _flat(description)
            differ = [k for k in sorted(before | now) if before.get(k) != now.get(k) and k.split(".")[-1] not in HOW]
            if differ:
                changes = "; ".join(f"{k} was {before.get(k)!r}, now {now.get(k)!r}" for k in differ)
                raise TrainingFailed(f"{self.out} holds a run with other settings: {changes}. Choose another --out")
        elif self.chief:
            write_file(path, (json.dumps(description, indent=1) + "\n").encode(), durable=True)

    def resume(self) -> None:
        """Take up the state of last.pt, if there is one, and forget what the log says about later steps."""
        if (self.out / "last.pt").exists():
            path = self.out / "last.pt"
            state = checkpoints.read_state(path, self.team.device)
            self.step, self.best = state["step"], state.get("best", float("inf"))
            if self.step > self.config.steps:
                raise TrainingFailed(
                    f"{path} is at step {self.step}, but the run has {self.config.steps}: another run's"
                )
            checkpoints.fill(self.method, state["weights"], path)
            checkpoints.fill(self.optimizer, state.get("optimizer"), path)
            if self.averaged is not None:
                checkpoints.fill(self.averaged, state.get("averaged"), path)
        log = self.out / "log.jsonl"
        if self.chief and log.exists():
            # a kill can cut the last line short: a line without its end is not a line
            lines = [line for line in read_text(log, LARGEST_LOG).splitlines(keepends=True) if line.endswith("\n")]
            try:
                kept = [line for line in lines if json.loads(line)["step"] <= self.step]
            except (ValueError, TypeError, KeyError, RecursionError):
                raise TrainingFailed(f"{log} has lines that are not of a run's log; delete it") from None
            write_file(log, "".join(kept).encode())

    def save(self) -> None:
        """Write last.pt: a kill leaves the old one or the new one."""
        state = {
            "step": self.step,
            "best": self.best,
            "weights": self.method.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged is not None else None,
        }
        checkpoints.write_state(self.out / "last.pt", state)

    def log(self, line: dict[str, Any]) -> None:
        """Append one line to log.jsonl."""
        if self.chief:
            said = dict(self.bad.popitem() for _ in range(len(self.bad)))
            unusable = {"not_used": dict(sorted(said.items()))} if said else {}
            with (self.out / "log.jsonl").open("a") as file:
                file.write(json.dumps({"step": self.step} | line | unusable) + "\n")

    def train(self, data: Items, held_out: Items) -> None:
        """Go on to the last step."""
        for part, name in ((data, "train"), (held_out, "val")):
            if not len(part):
                raise BadData(f"the {name} split of the data set is empty; check its folder and layout")
        objective: nn.Module = _Objective(self.method, self.loop.precision)
        if self.team.size > 1:
            objective = nn.parallel.DistributedDataParallel(objective)
        steps, share, start = self.config.steps, self.config.batch // self.team.size, time.perf_counter()
        items = ahead(self.calls(data), self.loop.workers, 2 * share)
        with Progress(transient=True, disable=not self.chief) as bar, contextlib.closing(items):
            task = bar.add_task(self.out.name, total=steps, completed=self.step)
            for batch in batches(items, share, self.team.device):
                terms = self.update(objective, batch)
                if self.step % self.loop.log_every == 0:
                    seconds, rate = time.perf_counter() - start, self.optimizer.param_groups[0]["lr"]
                    self.log({"loss": sum(terms.values()), **terms, "lr": rate, "seconds": round(seconds, 2)})
                    bar.update(task, completed=self.step, description=f"{self.out.name} {sum(terms.values()):.4f}")
                if self.chief and (self.step % self.loop.validate_every == 0 or self.step == steps):
                    self.validate(held_out)
                if self.chief and (self.step % self.loop.save_every == 0 or self.step == steps):
                    self.save()

    def calls(self, data: Items) -> Iterator[Callable[[], Item]]:
        """How to make each item that this process needs from the present step to the last, in order."""
        batch, seed, share = self.config.batch, self.loop.seed, self.config.batch // self.team.size
        for step in range(self.step, self.config.steps):
            for position in range(self.team.rank * share, (self.team.rank + 1) * share):
                epoch, place = divmod(step * batch + position, len(data))
                index = int(permutation(seed, epoch, len(data))[place])
                yield partial(sampled, self.method, data, index, (seed, 1, step, position), True, self.bad)

    def update(self, objective: nn.Module, batch: dict[str, Tensor]) -> dict[str, float]:
        """One step of the optimizer; returns the loss terms, averaged over the processes."""
        dropout = np.random.SeedSequence((self.loop.seed, 2, self.step, self.team.rank))
        torch.manual_seed(int(dropout.generate_state(1)[0]))
        self.method.train()
        factor = self.method.schedule(self.step / self.config.steps)
        for group, rate in zip(self.optimizer.param_groups, self.rates, strict=True):
            group["lr"] = float(rate * factor)  # a NumPy number could not be read back from last.pt
        losses = objective(batch)
        terms = _shared({name: loss.detach() for name, loss in losses.items()}, self.team)
        broken = [f"{name} is {value}" for name, value in terms.items() if not np.isfinite(value)]
        if broken:
            raise TrainingFailed(
                f"at step {self.step} the loss {' and '.join(broken)}; lower the learning rate or look at the data "
                f"(the folder still holds step {self.step // self.loop.save_every * self.loop.save_every})"
            )
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        if self.loop.clip:
            nn.utils.clip_grad_norm_(self.method.parameters(), self.loop.clip)
        self.optimizer.step()
        self.step += 1
        if self.averaged is not None:
            _move_towards(self.averaged, self.method, 1 - min(self.loop.average, (1 + self.step) / (10 + self.step)))
        return terms

    @torch.no_grad()
    def validate(self, data: Items) -> None:
        """Log the held-out losses; keep the weights if they are the best so far."""
        method = (self.method if self.averaged is None else self.averaged).eval()
        objective, count, totals = _Objective(method, self.loop.precision), min(len(data), self.loop.validate_items), {}
        torch.manual_seed(self.loop.seed)
        calls = (
            partial(sampled, method, data, index, (self.loop.seed, 3, index), False, self.bad)
            for index in np.linspace(0, len(data) - 1, count).astype(int).tolist()
        )
        items = ahead(calls, self.loop.workers, 2 * self.config.batch)
        for batch in batches(items, self.config.batch, self.team.device):
            weight = len(batch["images"]) / count
            for name, loss in objective(batch).items():
                totals[name] = totals.get(name, 0.0) + weight * loss.item()
        total = sum(totals.values())
        self.log({"held_out": total} | {f"held_out_{name}": value for name, value in totals.items()})
        if total < self.best:
            self.best = total
            state = {"step": self.step, "held_out": total, "weights": method.state_dict()}
            checkpoints.write_state(self.out / "best.pt", state)


class _Objective(nn.Module):
    """Batch → loss terms, as one module, so that everything that has weights runs inside DistributedDataParallel."""

    def __init__(self, method: Any, precision: str):
        super().__init__()
        self.method: Any = method
        self.low_precision = precision == "bfloat16"

    def forward(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        with torch.autocast(batch["images"].device.type, torch.bfloat16, enabled=self.low_precision):
            output = self.method(batch["images"])
        return self.method.losses(batch, {name: value.float() for name, value in output.items()})


def restore(run: Path, weights: str = "best.pt") -> tuple[Any, dict[str, Any]]:
    """The trained method of a run folder, ready for use, and what its config.json says.

    A method that is a file is taken only if the user trusts it (`plugins.trust`); else BadData says so. Raises
    AssetMissing, TrainingFailed for files that are missing or not what was written.
    """
    description = checkpoints.described(run)
    state = checkpoints.read_state(run / weights)
    plugin = plugins.named(
        "methods", description["method"], description.get("method_sha256"), run / "config.json", "--method"
    )
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in description["config"].items()}
    try:
        method = plugin.Method(plugin.Config(**values))
    except (TypeError, ValueError, RuntimeError, ArithmeticError, LookupError, MemoryError) as error:
        why = in_one_line(error)[:300]
        raise TrainingFailed(
            f"{run / 'config.json'} has settings that {description['method']} cannot take ({why})"
        ) from None
    checkpoints.fill(method, state["weights"], run / weights)
    return method.eval(), description | {"step": state["step"]}


def _begun(method: Any, start: str) -> Any:
    """The method with the weights of the file `start`, or as it is."""
    if start:
        if not Path(start).is_file():
            raise AssetMissing(f"there is no file {start} to take the first weights from; give the best.pt of a run")
        checkpoints.fill(method, checkpoints.read_state(Path(start))["weights"], Path(start))
    return method


@contextlib.contextmanager
def _in_words(method: str) -> Iterator[None]:
    """What torch says of settings that it cannot compute with, or of memory that is full, as TrainingFailed.

    Whoever writes a method of their own wants to see where it failed: a method that is a file keeps its errors.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if plugins.is_file(method):
            raise
        why = in_one_line(error)[:300]
        raise TrainingFailed(f"{method} cannot compute with these settings ({why}); change them") from error


@contextlib.contextmanager
def _team(device: str) -> Iterator[Team]:
    """The processes that torchrun started together, or this one alone."""
    kind = ("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device
    try:
        torch.zeros(1, device=kind)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise ValueError(f"device is {device!r}, where torch cannot compute ({in_one_line(error)[:200]})") from None
    if "RANK" not in os.environ:
        yield Team(0, 1, torch.device(kind))
        return
    if kind == "cuda":
        kind = f"cuda:{os.environ['LOCAL_RANK']}"
        torch.cuda.set_device(kind)
    dist.init_process_group("nccl" if kind.startswith("cuda") else "gloo")
    try:
        yield Team(dist.get_rank(), dist.get_world_size(), torch.device(kind))
    finally:
        dist.destroy_process_group()


def _shared(terms: dict[str, Tensor], team: Team) -> dict[str, float]:
    """The mean of each term over the processes."""
    values = torch.stack(list(terms.values()))
    if team.size > 1:
        dist.all_reduce(values)
        values /= team.size
    return dict(zip(terms, values.tolist(), strict=True))


@torch.no_grad()
def _move_towards(averaged: nn.Module, method: nn.Module, part: float) -> None:
    """Move the averaged weights, and buffers such as running means, a `part` of the way to the present ones."""
    for mean, now in zip(averaged.state_dict().values(), method.state_dict().values(), strict=True):
        if mean.is_floating_point():
            mean.lerp_(now, part)
        else:
            mean.copy_(now)


def _plain(config: Any) -> dict[str, Any]:
    """A dataclass of settings as it will look when read back from JSON."""
    return json.loads(json.dumps(dataclasses.asdict(config)))


def _flat(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """{"loop": {"seed": 0}} → {"loop.seed": 0}."""
    flat = {}
    for key, value in tree.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
