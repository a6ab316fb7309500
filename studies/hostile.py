"""What damaged and hostile files do to us: `python studies/hostile.py [--limit N]` → results/hostile.json.

Every input of `tests/hostile/` goes through its door; `--limit` takes so many of each at most. Linux; minutes.
"""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

TITLE, RESULT = "Hostile inputs", Path("results/hostile.json")
FAULTS = ("traceback", "hang", "memory", "crash", "lost row", "half-written", "outside", "no word", "many words")


def main() -> None:
    line = [sys.executable, "tests/hostile/hostile_run.py", "--out", str(RESULT), *sys.argv[1:]]
    sys.exit(subprocess.run(line, env=os.environ | {"PYTHONPATH": "tests"}).returncode)


def section(r: dict[str, Any]) -> list[Any]:
    rows = [
        [door, *(f"{found[name]:,}" for name in ("cases", "inputs", *FAULTS))] for door, found in r["doors"].items()
    ]
    return [
        f"{r['inputs']:,} damaged, huge, cut, linked, misnamed and lying inputs ({r['command']}), each case a process "
        f"of its own: how many ended in a traceback, in over {r['limits']['seconds']} s of computing, in more than "
        f"{r['limits']['bytes'] / 1e9:g} GB, lost a row, left a file that is not whole or lies elsewhere, or said "
        "nothing. `stops` are kills, terminations, full disks and folders that may not be written to, each followed by "
        "the same command once more, which must give what an undisturbed run gives. Besides, hypothesis bends 2,000 "
        "files for each reader of meshes, models, pickles, archives, networks and photos in `make hostile`, 8 in "
        "every test run.",
        (["door", "cases", "inputs", *FAULTS], rows),
    ]


if __name__ == "__main__":
    main()
