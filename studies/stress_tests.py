"""Do the tests pass whatever the processor, the threads, the order, the seed and the load? → results/stress-tests.json

    python studies/stress_tests.py [RUNS]

All tests, RUNS (5) times in a row, each with other kernels (those that OpenBLAS, numpy, OpenCV, torch, MKL and oneDNN
would take on another processor; ONNX Runtime cannot be told), number of BLAS threads, seed of hypothesis and order:
of the files, and of the tests in each. Six busy loops run beside. What pytest said goes to results/stress-tests.txt.
This is also the plug-in of pytest that shuffles. Ends with 1 unless every run passed.
"""

import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path
from typing import Any

TITLE, RESULT = "Tests under stress", Path("results/stress-tests.json")
LOG = Path("results/stress-tests.txt")
RUNS, LOOPS = 5, 6
SEED = "SAMEFACE_TEST_ORDER"
LOOP = "import os\nparent = os.getppid()\nwhile os.getppid() == parent: pass"

AVX512 = "avx512f" in Path("/proc/cpuinfo").read_text().split()
"""whether this processor has it: without, its kernels end a process at once"""
HASWELL = {"OPENBLAS_CORETYPE": "Haswell", "ATEN_CPU_CAPABILITY": "avx2", "MKL_ENABLE_INSTRUCTIONS": "AVX2",
           "ONEDNN_MAX_CPU_ISA": "AVX2"}  # fmt: skip
NO_AVX512 = {"NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL AVX512_SPR", "OPENCV_CPU_DISABLE": "AVX512-SKX"}
KERNELS = {
    "Haswell": HASWELL | (NO_AVX512 if AVX512 else {}),
    **({"SkylakeX": {"OPENBLAS_CORETYPE": "SkylakeX"}} if AVX512 else
       {"Sandybridge": {"OPENBLAS_CORETYPE": "Sandybridge", "ONEDNN_MAX_CPU_ISA": "AVX"}}),
    "Nehalem": {"OPENBLAS_CORETYPE": "Nehalem", "ATEN_CPU_CAPABILITY": "default", "MKL_ENABLE_INSTRUCTIONS": "SSE4_2",
                "NPY_DISABLE_CPU_FEATURES": "X86_V3" + " X86_V4 AVX512_ICL AVX512_SPR" * AVX512,
                "OPENCV_CPU_DISABLE": "AVX,FP16,AVX2" + ",AVX512-SKX" * AVX512, "ONEDNN_MAX_CPU_ISA": "SSE41"},
}  # fmt: skip
"""by OpenBLAS' names: AVX2; the newest that this processor has and is not AVX2, AVX-512 or AVX; SSE4.2"""
THREADS = (1, 2, 4)
LONGEST = 3600
"""s for a run: pytest-xdist waits forever after two of its processes were lost"""


def pytest_collection_modifyitems(items: list[Any]) -> None:
    """Files in random order, and the tests of each."""
    files = defaultdict(list)
    for item in items:
        files[item.path].append(item)
    order, rng = list(files.values()), random.Random(os.environ[SEED])
    rng.shuffle(order)
    for tests in order:
        rng.shuffle(tests)
    items[:] = [item for tests in order for item in tests]


def settings(run: int) -> dict[str, Any]:
    """Nine in a row have every number of threads with every kernel."""
    return {"kernels": list(KERNELS)[run % 3], "threads": THREADS[(run + run // 3) % 3], "seed": run}


def outcome(report: Path, ended: int) -> dict[str, Any]:
    """Counts, and the names of the tests that failed, of what pytest wrote for machines and how it ended."""
    if not report.exists():
        return {"passed": 0, "skipped": 0, "failed": [f"pytest itself, with {ended}"]}
    tests = list(ET.parse(report).getroot().iter("testcase"))
    failed = {f"{t.get('classname')}::{t.get('name')}" for t in tests if {"failure", "error"} & {e.tag for e in t}}
    skipped = sum(t.find("skipped") is not None for t in tests)
    passed = len(tests) - skipped - len(failed)
    if ended and not failed:
        failed = {f"pytest itself, with {ended}"}
    return {"passed": passed, "skipped": skipped, "failed": sorted(failed)}


def run_all(given: dict[str, Any], folder: Path) -> tuple[dict[str, Any], str]:
    """One run: its settings with what came of it, and what pytest said at the end."""
    told = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": str(given["threads"]), SEED: str(given["seed"])}
    report = folder / f"{given['seed']}.xml"
    line = [
        sys.executable, "-m", "pytest", "-p", "studies.stress_tests", "-p", "no:cacheprovider", "--tb=short",
        "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder",
        "--hypothesis-profile=seeds", f"--hypothesis-seed={given['seed']}", f"--junitxml={report}",
        f"--basetemp={folder / 'tests'}",  # of pytest's own folders only those of the last three runs remain
    ]  # fmt: skip
    loops = [subprocess.Popen(["nice", "-n", "19", sys.executable, "-c", LOOP]) for _ in range(LOOPS)]
    start, used = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    try:
        environment = os.environ | KERNELS[given["kernels"]] | told
        with (folder / "said.txt").open("w+") as out:
            try:
                ended = subprocess.run(line, env=environment, stdout=out, stderr=out, timeout=LONGEST).returncode
            except subprocess.TimeoutExpired:
                ended = -9
            out.seek(0)
            said = out.read()
        now, load = resource.getrusage(resource.RUSAGE_CHILDREN), os.getloadavg()[1]
    finally:
        for loop in loops:
            loop.kill()
            loop.wait()
    seconds = now.ru_utime + now.ru_stime - used.ru_utime - used.ru_stime
    counts = outcome(report, ended)
    measured = {"seconds": round(time.monotonic() - start), "CPU seconds": round(seconds), "load": round(load, 1)}
    return {**given, **counts, **measured}, said


def main() -> None:
    runs, wanted = [], int(sys.argv[1]) if len(sys.argv) > 1 else RUNS
    LOG.unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        for run in range(wanted):
            done, said = run_all(settings(run), Path(folder))
            runs.append(done)
            print(done, flush=True)
            text = said[said.find("= FAILURES =") :] if done["failed"] else "\n".join(said.splitlines()[-20:])
            with LOG.open("a") as file:
                file.write(f"== {json.dumps(settings(run))}\n{text.strip()}\n\n")
    # at the end: one of the tests holds the page of results against the files there are
    out = {"command": f"python studies/stress_tests.py {wanted}", "busy loops": LOOPS, "runs": runs}
    RESULT.write_text(json.dumps(out, indent=1) + "\n")
    sys.exit(any(done["failed"] for done in runs))


def section(r: dict[str, Any]) -> list[Any]:
    rows = [
        [f"{run['kernels']}, {run['threads']}", str(run["passed"]), str(run["skipped"]), str(len(run["failed"])),
         f"{run['CPU seconds']}", f"{run['load']:.0f}"]
        for run in r["runs"]
    ]  # fmt: skip
    return [
        f"All tests, {len(rows)} times in a row, each with the kernels of another processor, other numbers of BLAS "
        f"threads, seeds and orders, beside {r['busy loops']} busy loops (`results/stress-tests.txt`).",
        (["kernels, threads", "passed", "skipped", "failed", "CPU s", "load"], rows),
    ]


if __name__ == "__main__":
    main()
