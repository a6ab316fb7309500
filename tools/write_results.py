"""docs/results.md from results/*.json and benchmarks/*.json: `python tools/write_results.py`; never edit the page."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS, BENCHMARKS, PAGE = Path("results"), Path("benchmarks"), Path("docs/results.md")


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = ["| " + " | ".join(row) + " |" for row in [head, ["---"] + ["---:"] * (len(head) - 1), *rows]]
    return "\n".join(lines)


def default_network(r: dict[str, Any]) -> str:
    dense = r["dense points, percent of √box area, by |yaw|"]
    bins = list(next(iter(dense.values())))
    rows = [[name, *(f"{values[b]['mean']:.2f}" for b in bins)] for name, values in dense.items()]
    counts = ["photos", *(str(next(iter(dense.values()))[b]["photos"]) for b in bins)]
    hand = r["68 hand-placed points, percent of √box area"]
    rows68 = [[name, f"{v['all 68']:.2f}", f"{v['51 inner']:.2f}", str(v["photos"])] for name, v in hand.items()]
    speed = ", ".join(f"{name} {ms:.1f}" for name, ms in r["speed"].items())
    return "\n\n".join(
        [
            f"Landmark error on the test split of the face table ({r['photos']} photos through detector and network, "
            f"{r['faces not found']} faces not found), percent of √(box area), by |yaw| in degrees. The labels are "
            "MediaPipe's, themselves good to 1-2 %.",
            table(["dense points, mean %", *bins], [*rows, counts]),
            "Against hand-placed points (Helen, AFW, LFPW; test split; jaw on the outline):",
            table(["68 points, mean %", "all 68", "51 inner", "photos"], rows68),
            f"Speed on two cores: {speed}.",
        ]
    )


def identity(r: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{v['auc']:.3f}",
            f"{v['same person, mean mm']:.2f}",
            f"{v['different persons, mean mm']:.2f}",
            str(v["same pairs"]),
            str(v["different pairs"]),
        ]
        for name, v in r.items()
        if isinstance(v, dict)
    ]
    return "\n\n".join(
        [
            f"{r['persons']} persons of the test split ({r['photos']} photos). Shapes from disjoint sets of photos, "
            "compared in mm RMS over the face after the best rigid motion; AUC: same or different person by it.",
            table(["sets", "AUC", "same, mm", "different, mm", "same pairs", "different pairs"], rows),
        ]
    )


def views(r: dict[str, Any]) -> str:
    counts = list(r["noise"])
    names = {
        "real errors": "points with the network's real errors (val photos)",
        "noise": "points with 2 mm of independent noise",
        "rendered": "rendered heads, whole pipeline",
    }
    rows = [
        [name, *(f"{r[key][n]['mean']:.2f} ± {r[key][n]['std']:.2f}" for n in counts)] for key, name in names.items()
    ]
    rows.append(["baseline: the mean face", *([f"{r['mean face']:.2f}"] * len(counts))])
    return "\n\n".join(
        [
            f"People drawn from the model, whose shape is known; {r['error']}; mean ± std over people "
            f"({r['persons']} rendered, {3 * r['persons']} as points).",
            table(["photos", *counts], rows),
            "![error against the number of photos](images/views.png)",
            "The network never saw a rendered, bald, sawn-off head: on those its errors are systematic, and more views "
            "do not help. Rendered people belong into its training; until then the first row is the one to go by.",
        ]
    )


def priors(r: dict[str, Any]) -> str:
    names = list(r["settings"][0])
    rows = [[f"{s['identity']:g}", *(f"{s[name]:.3g}" for name in names[1:])] for s in r["settings"]]
    chosen = f" Chosen: {r['chosen']}." if "chosen" in r else ""
    return "\n\n".join(
        [f"Settings of the fit's priors on the val split ({r['photos']} photos).{chosen}", table(names, rows)]
    )


def compiled(r: dict[str, Any]) -> str:
    return table(["of the shipped morphable model", "value"], [[k, f"{v:.5g}"] for k, v in r["report"].items()])


def speed(r: dict[str, Any]) -> str:
    rows = [
        [
            name,
            f"{v['median ms']:.1f}",
            f"{v['quartiles ms'][0]:.1f} - {v['quartiles ms'][1]:.1f}",
            f"{v['least ms']:.1f}",
        ]
        for name, v in r["sameface"].items()
    ]
    return "\n\n".join(
        [
            f"`sameface reconstruct` of a {r['photo']} in a warm process on two cores, {r['runs']} runs.",
            table(["step", "median ms", "quartiles", "least"], rows),
            f"`import sameface`: {1000 * r['import sameface, seconds']:.0f} ms.",
        ]
    )


def fit_speed(r: dict[str, Any]) -> str:
    rows = [[name, f"{v['median ms']:.1f}", f"{v['objective']:.1f}"] for name, v in r["solvers"].items()]
    return "\n\n".join([r["what"], table(["solver", "median ms", "objective reached"], rows), f"Ratio: {r['ratio']}."])


def outliers(r: dict[str, Any]) -> str:
    rows = [[name, f"{100 * r[name]:.1f} %"] for name in r if name.startswith(("strangers", "own"))]
    return "\n\n".join(
        [
            f"{r['sets']} sets of five photos of a person and one of a stranger (val split); "
            f"threshold {r['threshold mm']} mm.",
            table(["", "share"], rows),
        ]
    )


def detector(r: dict[str, Any]) -> str:
    sizes = list(r["scenes"]["sameface"]["recall_by_size"])
    rows = []
    for name, found in r["scenes"].items():
        at = found["by_score"]["0.5"]
        rows.append([name, f"{at['recall']:.3f}", f"{at['precision']:.3f}", *found["recall_by_size"].values()])
    yaws = list(r["turned"]["sameface"]["recall_by_yaw"])
    turned = [[name, f"{v['recall']:.3f}", *v["recall_by_yaw"].values()] for name, v in r["turned"].items()]
    return "\n\n".join(
        [
            f"Held-out scenes: {r['photos']} photos, {r['faces']} labelled faces (labels of a public "
            "detector; some faces have none, so precision is a lower bound). Score 0.5; recall by face side in the "
            "photo as the network sees it.",
            table(["detector", "recall", "precision", *sizes], rows),
            "Faces turned away (test crops of the face table), recall by |yaw|:",
            table(["detector", "recall", *yaws], turned),
        ]
    )


SECTIONS: list[tuple[str, Path, Callable[[dict[str, Any]], str]]] = [
    ("The morphable model", RESULTS / "model.json", compiled),
    ("The default network", RESULTS / "default-test.json", default_network),
    ("Same person, same shape", RESULTS / "identity-halves.json", identity),
    ("Strangers among the photos", RESULTS / "outliers.json", outliers),
    ("More photos, better shape", RESULTS / "views-curve.json", views),
    ("The priors of the fit", RESULTS / "fit-priors.json", priors),
    ("Speed", BENCHMARKS / "reconstruct.json", speed),
    ("Speed of the fit against a general solver", BENCHMARKS / "fit.json", fit_speed),
    ("The face detector", RESULTS / "detect-scenes-test.json", detector),
]


def page() -> str:
    parts = [
        "# Results",
        "Generated by `python tools/write_results.py` from `results/` and `benchmarks/`; each number's "
        "command stands with it. Every test-split photo was unseen in training and in choosing.",
    ]
    for title, file, write in SECTIONS:
        if file.exists():
            r = json.loads(file.read_text())
            parts += [f"## {title}", write(r), f"`{r['command']}` → `{file}`"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    print(PAGE)
