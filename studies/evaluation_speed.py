"""How long an evaluation takes, and the same again with what it kept → results/evaluate-speed.json

    python studies/evaluation_speed.py PAIRS LFW CFP DISENTANGLE.onnx

PAIRS holds what the benchmark `pairs` reads; LFW and CFP hold photos of the face table's test split in these
benchmarks' layouts, not their own photos, which are not needed to measure time; the network is an exported run of
`disentangle`. Every command is a process of its own, twice: the second finds the answers of the first.
"""

import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

TITLE, RESULT = "Speed of an evaluation", Path("results/evaluate-speed.json")
COMMAND = "python studies/evaluation_speed.py PAIRS LFW CFP DISENTANGLE.onnx"
WHAT = (
    "Two processes on two cores, start-up, detection and scoring included; PAIRS are the open pairs, LFW and CFP "
    "photos of the same test split in those layouts (240 to 250 px)"
)


def timed(benchmark: str, folder: str, network: str) -> dict[str, float]:
    """Photos, seconds of the first and of the second run, and photos per second of the first."""
    with tempfile.TemporaryDirectory() as out:
        line = ["sameface", "evaluate", benchmark, "--data", folder, "--model", network, "--out", out, "--quiet"]
        seconds = []
        for _ in range(2):
            start = time.perf_counter()
            done = subprocess.run([sys.executable, "-m", *line], stdout=subprocess.DEVNULL, check=False)
            seconds.append(round(time.perf_counter() - start, 1))
            if done.returncode not in (0, 3):  # 3: some photos could not be used, and were counted
                sys.exit(f"{' '.join(line)} ended with {done.returncode}")
        (report,) = Path(out).glob("*.json")
        photos = json.loads(report.read_text())["cases"]
    return {"photos": photos, "first run, seconds": seconds[0], "second run, seconds": seconds[1],
            "photos per second": round(photos / seconds[0], 1)}  # fmt: skip


def main() -> None:
    if len(sys.argv) != 5:
        sys.exit(__doc__)
    *folders, network = sys.argv[1:]
    asked = [("pairs", "default", "default"), ("lfw", "disentangle", network), ("cfp", "disentangle", network)]
    out: dict[str, Any] = {"command": COMMAND, "what": WHAT}
    for (benchmark, name, model), folder in zip(asked, folders, strict=True):
        out |= {f"{benchmark}, {name}: {key}": value for key, value in timed(benchmark, folder, model).items()}
    RESULT.write_text(json.dumps(out, indent=1) + "\n")
    print(json.dumps(out, indent=1))


def section(r: dict[str, Any]) -> list[Any]:
    numbers = [[name, str(value)] for name, value in r.items() if isinstance(value, int | float)]
    return [r["what"] + ":", (["", ""], numbers)]


if __name__ == "__main__":
    main()
