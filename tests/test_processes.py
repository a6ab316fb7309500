"""How many threads and cores there are to compute with, and that a photo takes no more."""

import math
import os

import numpy as np
import pytest

from faces import from_far, seen_by
from sameface.core import processes
from sameface.morphable import default
from sameface.photo import detect
from sameface.photo.predictor import Predictor, load
from sameface.reconstruction import reconstruct


@pytest.fixture(autouse=True)
def no_wishes(monkeypatch):
    for name in processes.THREADS:
        monkeypatch.delenv(name, raising=False)


def test_processes_compute_in_one_thread(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    monkeypatch.setenv("SAMEFACE_THREADS", "3")
    with processes.one_thread_each():
        assert {os.environ[name] for name in processes.THREADS} == {"1"}
        assert processes.threads() == processes.threads(large=True) == 1
    assert os.environ["OMP_NUM_THREADS"] == "7"
    assert "MKL_NUM_THREADS" not in os.environ
    assert processes.threads() == 3


def test_threads_are_one_unless_the_user_says_otherwise(monkeypatch):
    monkeypatch.setattr(processes, "cores", lambda: 16)
    assert processes.threads() == 1
    assert processes.threads(large=True) == 4
    monkeypatch.setenv("OMP_NUM_THREADS", "5,2")
    assert processes.threads() == processes.threads(large=True) == 5
    monkeypatch.setenv("SAMEFACE_THREADS", " 2 ")
    assert processes.threads() == processes.threads(large=True) == 2


@pytest.mark.parametrize("wrong", ["0", "-1", "two", "1.5", "²"])
def test_a_wrong_wish_is_said(monkeypatch, wrong):
    monkeypatch.setenv("SAMEFACE_THREADS", wrong)
    with pytest.raises(ValueError, match=r"SAMEFACE_THREADS is .*; give a number of threads from 1"):
        processes.threads()


@pytest.mark.parametrize(("files", "own", "expected"), [
    ({"cpu.max": "150000 100000\n"}, "0::/\n", 1.5),
    ({"a/cpu.max": "max 100000\n", "cpu.max": "400000 100000\n"}, "0::/a\n", 4.0),
    ({"a/b/cpu.max": "300000 100000\n", "a/cpu.max": "50000 100000\n"}, "0::/a/b\n", 0.5),  # the tightest counts
    ({"cpu,cpuacct/docker/cpu.cfs_quota_us": "250000\n", "cpu,cpuacct/docker/cpu.cfs_period_us": "100000\n"},
     "5:memory:/docker\n4:cpu,cpuacct:/docker\n", 2.5),
    ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, "4:cpu:/x/../y\n", math.inf),
    ({"cpu.max": "what\n"}, "0::/\n", math.inf),
    ({}, "", math.inf),
])  # fmt: skip
def test_the_quota_of_a_container_is_respected(tmp_path, monkeypatch, files, own, expected):
    for name, text in files.items():
        (tmp_path / "cgroup" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cgroup" / name).write_text(text)
    (tmp_path / "own").write_text(own)
    monkeypatch.setattr(processes, "CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(processes, "OWN", tmp_path / "own")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    assert processes.quota() == expected
    assert processes.cores() == min(8, max(1, math.ceil(min(expected, 8))))
    (tmp_path / "own").unlink()
    assert processes.quota() == math.inf


def blas() -> set[int]:
    return {pool["num_threads"] for pool in processes._pools().info() if pool["user_api"] == "blas"}


def test_linear_algebra_takes_few_threads_meanwhile_and_as_many_as_before_afterwards(monkeypatch):
    before = blas()
    with processes.few_threads():
        assert blas() <= {1}
    assert blas() == before


def test_a_photo_is_looked_at_and_fitted_in_one_thread(monkeypatch):
    seen = []
    monkeypatch.setattr(reconstruct, "observe_turned", lambda *_, **__: seen.append(blas()) or [])
    reconstruct.look([np.zeros((32, 32, 3), np.uint8)])
    monkeypatch.setattr(reconstruct, "check_options", lambda **_: seen.append(blas()))
    reconstruct.join([seen_by(from_far(), np.zeros(default().n_identity), name="a.png")])
    assert seen
    assert all(one <= {1} for one in seen)


def test_networks_take_the_threads_that_are_asked_for(monkeypatch):
    assert load("default").threads >= 1
    assert Predictor(load("default").path).threads >= 1
    assert detect._session().get_session_options().intra_op_num_threads >= 1
    monkeypatch.setenv("SAMEFACE_THREADS", "3")
    other = Predictor(load("default").path)
    assert other._session.get_session_options().intra_op_num_threads == 3
