"""The lowest and the newest versions of what pyproject.toml asks for, tested → results/test-versions.json

    python studies/test_versions.py [3.11 3.12 3.13]

For each Python that there is (3.11, 3.12, 3.13, or those that are named): two fresh environments in a temporary folder,
one with the lowest version of each direct dependency that has a wheel (what these depend on is the newest that fits),
one with the newest of all. In each, the tests that need no torch: it weighs more than all others together, and `make
test` pins it. What could not be tested is counted at the end of each run. The environments are uv's work, which `make
test-versions` installs.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path
from typing import Any

from stress_tests import outcome

TITLE, RESULT = "Lowest and newest versions", Path("results/test-versions.json")
ROOT = Path(__file__).parent.parent
PYTHONS = ("3.11", "3.12", "3.13")
WITHOUT = ("torch", "onnxscript", "sameface", "ruff", "pyright", "import-linter", "pytest-cov")
"""torch, what only torch needs, ourselves, and tools that look at the text of the code"""
RESOLUTIONS = {"lowest": "lowest-direct", "newest": "highest"}


def name_of(requirement: str) -> str:
    """`numpy` of `numpy>=2`."""
    return re.split(r"[\[<>=]", requirement)[0]


def requirements() -> list[str]:
    """Everything that pyproject.toml asks for, with its extras, but `WITHOUT`."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    return sorted({one for one in asked if name_of(one) not in WITHOUT})


def find(version: str) -> str | None:
    """A Python of this version: on the PATH, or installed by pyenv."""
    for name in (f"python{version}", *map(str, (Path.home() / ".pyenv/versions").glob(f"{version}.*/bin/python"))):
        try:
            asked = subprocess.run([name, "-c", "import sys; print(sys.executable)"], capture_output=True, text=True)
        except FileNotFoundError:
            continue
        if asked.returncode == 0:  # pyenv leaves commands that only say which versions there are
            return asked.stdout.strip()
    return None


def tested(python: str, versions: str, folder: Path) -> dict[str, Any]:
    """Make the environment and run the tests in it: what was installed of what was asked for, and what came of it."""
    uv, environment = [sys.executable, "-m", "uv", "--quiet"], str(folder / "bin" / "python")
    install = [*uv, "pip", "install", "--python", environment]
    for command in (
        [*uv, "venv", "--python", python, str(folder)],
        [*install, "--only-binary", ":all:", "--resolution", RESOLUTIONS[versions], *requirements()],
        [*install, "--no-deps", "--editable", str(ROOT)],
    ):
        subprocess.run(command, check=True)
    listed = subprocess.run([*uv, "pip", "freeze", "--python", environment], capture_output=True, text=True, check=True)
    wanted = {name_of(one) for one in requirements()}
    installed = dict(one.split("==") for one in listed.stdout.split() if one.split("==")[0] in wanted)
    print(*(f"{name} {version}" for name, version in installed.items()), sep=", ", flush=True)
    report = folder / "report.xml"
    tests = [environment, "-m", "pytest", "-n", "2", "--dist", "loadfile", "--without", "torch", f"--junitxml={report}"]
    if versions == "lowest":  # of what was new when they were written, and is deprecated today
        tests += ["-o", "filterwarnings="]
    alone = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
    tests += ["-p", "no:cacheprovider", f"--basetemp={folder.parent / 'tests'}"]
    ended = subprocess.run(tests, cwd=ROOT, env=alone).returncode
    counts = outcome(report, ended)
    return {**counts, "versions": installed}


def main(wanted: list[str]) -> int:
    """A line for each environment at the end; 0 if all passed."""
    lines, runs, missing = [], [], []
    for version in wanted or PYTHONS:
        python = find(version)
        if python is None:
            missing.append(version)
            lines.append(f"Python {version}: not on this machine, NOT tested")
            continue
        for versions in RESOLUTIONS:
            print(f"\n== Python {version}, {versions} versions", flush=True)
            begun = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                one = tested(python, versions, Path(folder) / "venv")
            runs.append({"python": version, "of all": versions, **one, "seconds": round(time.monotonic() - begun)})
            said = f"{len(one['failed'])} FAILED" if one["failed"] else "passed"
            lines.append(f"Python {version}, {versions}: {said}, {runs[-1]['seconds']} s")
    out = {"command": "python studies/test_versions.py", "not on the machine": missing, "runs": runs}
    RESULT.write_text(json.dumps(out, indent=1) + "\n")
    print("", *lines, sep="\n")
    return int(any(one["failed"] for one in runs))


SHOWN = ("numpy", "scipy", "opencv-python-headless", "pillow", "onnxruntime")


def section(r: dict[str, Any]) -> list[Any]:
    rows = [
        [f"{run['python']}, {run['of all']}", *(run["versions"][name] for name in SHOWN), str(run["passed"]),
         str(run["skipped"]), str(len(run["failed"]))]
        for run in r["runs"]
    ]  # fmt: skip
    missing = ", ".join(r["not on the machine"])
    return [
        "The tests that need no torch, with the lowest and with the newest versions of everything that "
        "`pyproject.toml` asks for." + (f" Not tested for want of it: Python {missing}." if missing else ""),
        (["Python, versions", *SHOWN, "passed", "skipped", "failed"], rows),
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
