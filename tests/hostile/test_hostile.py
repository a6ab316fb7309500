"""The quick part of `make hostile`: a few inputs of the fastest doors."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits on processes are Linux': NOT tested here")
def test_hostile_inputs_cost_a_sentence_each():
    script = Path(__file__).parent / "hostile_run.py"
    command = [sys.executable, str(script), "--only", "verify", "networks", "export", "--limit", "8"]
    path = os.pathsep.join([str(script.parent.parent), *sys.path])
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, env=os.environ | {"PYTHONPATH": path})
    assert done.returncode == 0, done.stderr
