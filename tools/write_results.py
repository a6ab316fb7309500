"""docs/results.md from results/*.json and benchmarks/*.json: `python tools/write_results.py`; never edit the page."""

# ruff: noqa: E501 (its sentences are the page's)

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

RESULTS, BENCHMARKS, PAGE = Path("results"), Path("benchmarks"), Path("docs/results.md")


def table(head: list[str], rows: list[list[str]]) -> str:
    rows = [[cell.replace("|", "\\|") for cell in row] for row in [head, *rows]]
    lines = ["| " + " | ".join(row) + " |" for row in [rows[0], ["---"] + ["---:"] * (len(head) - 1), *rows[1:]]]
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
            "The first two rows are fits of points alone: nobody can say the identity of bare points. The networks never saw a rendered, "
            "bald, sawn-off head: on those their errors are systematic, more views do not help, and the shape is hardly better than the "
            "mean face. Rendered people belong into their training.",
        ]
    )


def priors(r: dict[str, Any]) -> str:
    names = list(r["settings"][0])
    rows = [[f"{s['identity']:g}", *(f"{s[name]:.3g}" for name in names[1:])] for s in r["settings"]]
    chosen = f" Chosen: {r['chosen']}." if "chosen" in r else ""
    beside = ", ".join(f"{name} {v:.3f}" for name, v in r["other photos, percent"].items())
    return "\n\n".join(
        [
            f"Settings of the fit's priors on the val split ({r['photos']} photos).{chosen} Other photos: how far the points of other "
            f"photos of the person are from the shape of a set. Beside them: {beside}.",
            table(names, rows),
        ]
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
    names = list(r["table"][0])
    rows = [[*(str(row[n]) for n in names[:3]), *(f"{100 * row[n]:.1f} %" for n in names[3:])] for row in r["table"]]
    return "\n\n".join(
        [
            f"{r['sets']} sets of five photos of a person and one of a stranger (val split). A photo is left out when its own shape is "
            "farther from the others' than so many mm, and than so many times what they usually are from each other. Chosen: "
            f"{r['chosen'][0]} mm and {r['chosen'][1]} times.",
            table(names, rows),
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


SCNN_ROWS = {
    "labels": "the labels themselves (3DDFA_V2's small network)",
    "stage1": "stage 1: ℓ3d",
    "baseline": "ℓ3d, as long as the others",
    "scnn": "scnn: + ℓshp (50) + ℓid",
    "scnn-weak": "the same, a tenth of both rates",
    "scnn-shape": "scnn, ℓshp on the 40 of shape",
}


def scnn(r: dict[str, Any]) -> str:
    mean = r["mean face in the label's camera"]
    landmarks, spreads, pairs = [], [], []
    against = ("68 points against labels, NME %", "68 points against hand-placed, NME %")
    for key, name in {"mean": "mean face in the label's camera", **SCNN_ROWS}.items():
        row = mean if key == "mean" else r.get(key)
        if row is None:
            continue
        by_yaw = [f"{row[against[0]][b]:.2f}" for b in ("yaw 0-30", "yaw 30-60", "yaw 60-90", "mean of bins")]
        landmarks.append([name, *by_yaw, f"{row[against[1]]['mean']:.2f}"])
        if key == "mean":
            continue
        box, far = row["3D shape, NME %, boxes per person"], row["neutral shapes"]
        mean_box = row["neutral shape against the person's mean label, NME %, boxes per person"]
        spreads.append([
            name, f"{box['mean']:.2f}", f"{box['box width']:.3f}",
            f"{mean_box['mean']:.2f}", f"{mean_box['box width']:.3f}",
            *(f"{far[k]:.2f}" for k in ("photos of a person, mm", "persons, mm", "photos / persons")),
        ])  # fmt: skip
        for code in ("512-vector, cosine", "40 shape, cosine", "50 shape and expression, cosine", "neutral shape, mm"):
            if code in row["verification"]:
                v = row["verification"][code]
                numbers = (f"{v[k]:.1f}" for k in ("eer", "auc", "tar_at_far_10", "tar_at_far_1"))
                pairs.append([f"{name}: {code}", f"{v['accuracy']:.1f} ± {v['accuracy_std']:.1f}", *numbers])
    return "\n\n".join(
        [
            f"The small preset of `scnn` on the face table (test split, {r['photos']} photos). Its labels are answers of "
            "3DDFA_V2's small network, which are steady but not true, so agreement with them is an upper bound of what the "
            "method can show here. 68 points, percent of √(box area), by |yaw|; last column: Helen, AFW, LFPW by hand.",
            table(["NME %", "0-30", "30-60", "60-90", "mean of bins", "hand-placed"], landmarks),
            f"Figure 4 of the paper, {r['persons in boxes and spreads']} persons with 8 photos or more: NME of the 3D shape "
            "after rigid alignment to the photo's label, and how wide one person's box is (quartiles); the same for the neutral shape against the mean of the person's labels. Then the neutral shapes (68 "
            "points, mm RMS): how far a person's photos are from their mean, how far persons are from each other.",
            table(
                [
                    "3D shape",
                    "NME %",
                    "box width",
                    "to mean label, NME %",
                    "box width",
                    "photos, mm",
                    "persons, mm",
                    "ratio",
                ],
                spreads,
            ),
            "![boxes per person](images/scnn-boxes.png)",
            f"{r['pairs']} pairs of test persons, half genuine, {r['folds']} folds; percent.",
            table(["verification", "accuracy", "EER", "AUC", "TAR at FAR 10 %", "at 1 %"], pairs),
            "What this shows. The contrastive losses do what the paper says: persons come apart while a person's photos stay as "
            "close (the ratio falls from 1.19 to 0.78), and shapes of people never seen tell them apart better (AUC 71 against "
            "61). None of that comes from training longer: stage 1 and the baseline have the same ratio and AUC. But it costs "
            "landmark accuracy at the paper's rates; at a tenth of them the landmarks are as good as the baseline's and a third "
            "of the effect is left. Comparing the 40 shape parameters instead of all 50 costs a little less. The boxes of figure "
            "4 do NOT get narrower here: the 'true' shape of a photo is another answer of the labelling network, and shapes that "
            "agree with each other cannot follow its noise; against the mean of a person's labels they are a little narrower and "
            "lower than the baseline's. The 512-vector learns little from 316 persons.",
            "The paper trains on 636,000 pictures of 7,098 faces in synthetic poses, tests on pictures of the same kind, and "
            "reports 97.82 % for its 512-vector; here 316 persons with real photos are all there is to learn from.",
        ]
    )


def landmark_depth(r: dict[str, Any]) -> str:
    plain, hard = r["2D"]["as they are"], r["2D"]["transformed and occluded as in training"]
    rows = []
    for name, key in (("as they are", plain), ("turned, zoomed, occluded", hard)):
        for what in ("mean %", "after a similarity, mean %"):
            v = key["with and without pairs"][what]
            apart = f"{v['difference']:+.2f} ± {v['deviation of the difference over seeds']:.2f}"
            rows.append([f"{name}, {what}", f"{v['with pairs']:.2f}", f"{v['local only']:.2f}", apart])
    longer = {name: plain["runs"][name]["mean %"] for name in ("main", "mean face in the middle")}
    depth = r["depth, held-out faces of the morphable model"]
    yaws = [key for key in depth if key.startswith("yaw")]
    names = list(depth["all"])[:3]
    by_yaw = [[name, *(f"{depth[key][name]['GTE %']:.2f}" for key in ("all", *yaws))] for name in names]
    numbers = [[name, *(f"{value:.2f}" for value in depth["all"][name].values())] for name in depth["all"]]
    real = r["depth, AFLW2000-3D"]
    across = [[key, *(f"{real[key][name]['GTE %']:.2f}" for name in names)] for key in real]
    both = r["3D from photos, AFLW2000-3D"]
    speed = ", ".join(f"{name} {value:.0f}" for name, value in r["speed"].items())
    return "\n\n".join(
        [
            f"The small settings of `landmark_depth`. 66 points of {r['2D']['photos']} test photos with hand-placed points, "
            "percent of the outer eye distance; three seeds, equal budget.",
            table(["mean error", "with the pairwise loss", "local loss only", "difference over seeds"], rows),
            f"The pairwise loss makes no difference that three seeds could show. Trained twice as long: "
            f"{longer['main']:.2f} %; a mean face in the middle of the crop: {longer['mean face in the middle']:.2f} %.",
            f"Depth from true 2D points, {depth['faces per row']} faces of the morphable model with unseen identities; the "
            "baselines are the mean face, and its depth in the best pose for the 2D points:",
            table(["", *depth["all"][names[0]]], numbers),
            "GTE %, by yaw:",
            table(["", "all", *(key.removeprefix("yaw ") for key in yaws)], by_yaw),
            "![depth error by yaw](images/landmark-depth.png)",
            "Across data sets, as in the paper's section 6.1: true 2D points of AFLW2000-3D, whose depths are fits of another "
            "morphable model. GTE %; here the network is NOT better than the posed mean face but between 30° and 60°.",
            table(["", *names], across),
            f"Both networks one after the other on {both['photos']} photos of AFLW2000-3D: GTE {both['GTE %']:.1f} %, CVGTCE "
            f"{both['CVGTCE %']:.1f} %; the 2D part alone is {both['2D part %']:.1f} % (the paper, on its own data: 5.88 and "
            f"3.97 %). Speed, one thread: {speed}.",
        ]
    )


def draw_sweep(r: dict[str, Any], out: Path) -> None:
    """RMSE of the whole shape of neutral faces by yaw."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    for name, take in r.items():
        yaws = [key for key in take if key.startswith("yaw ")] if isinstance(take, dict) else []
        if yaws and "whole shape" in take[yaws[0]]:
            axes.plot(
                [int(key[4:]) for key in yaws], [take[key]["whole shape"] for key in yaws], "o-", ms=4, label=name
            )
    axes.set(xlabel="yaw, degrees", ylabel="RMSE, mm", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def encoder_speed(r: dict[str, Any]) -> str:
    rows = [[name, *(f"{v:.2f}" for v in row.values())] for name, row in r["ms per image"].items()]
    return "\n\n".join(
        [
            f"{r['what']}, {r['cores']} cores; no GPU was at hand. The paper: {r['the paper']}.",
            table(["network", *next(iter(r["ms per image"].values()))], rows),
        ]
    )


def draw_depth(r: dict[str, Any], out: Path) -> None:
    """GTE by yaw: depth network, posed mean face, mean face."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    depth = r["depth, held-out faces of the morphable model"]
    yaws = [key for key in depth if key.startswith("yaw")]
    figure, axes = pyplot.subplots(figsize=(6, 3.2), layout="constrained")
    for name in list(depth["all"])[:3]:
        values = [depth[key][name]["GTE %"] for key in yaws]
        axes.plot([int(key.removeprefix("yaw ").rstrip("°")) for key in yaws], values, "o-", label=name)
    axes.set(xlabel="yaw, degrees", ylabel="GTE, %", ylim=(0, None))
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(out, dpi=110, metadata={"Software": None})
    pyplot.close(figure)


def disentangle(r: dict[str, Any]) -> str:
    systems = [name for name in r if isinstance(r[name], dict) and "RMSE, mm" in r[name]]
    bins = list(r["mean face"]["RMSE, mm"]["identity"])
    tables = {}
    for part in ("whole shape", "identity"):
        tables[part] = [[name, *(f"{r[name]['RMSE, mm'][part][b]:.2f}" for b in bins)] for name in systems]
    pairs = []
    for name in systems:
        for code, v in r[name].get("verification", {}).items():
            numbers = (f"{v[k]:.1f}" for k in ("eer", "auc", "tar_at_far_10", "tar_at_far_1"))
            pairs.append([f"{name}: {code}", f"{v['accuracy']:.1f} ± {v['accuracy_std']:.1f}", *numbers])
    return "\n\n".join(
        [
            f"The small preset of `disentangle`, trained on fitted labels of the train split; test split, {r['photos']} photos. "
            "RMSE to the label's shape (the fit of all photos of the person), mm over the face after Procrustes on 68 landmarks, "
            "by |yaw|. The fit of each photo alone shares its measurements with the label, so it is no fair opponent in the whole "
            "shape.",
            table(["whole shape, mm", *bins], tables["whole shape"]),
            table(["identity part, mm", *bins], tables["identity"]),
            f"{r['pairs']} pairs of test persons, half genuine, 10 folds; percent.",
            table(["verification", "accuracy", "EER", "AUC", "TAR at FAR 10 %", "at 1 %"], pairs),
            "What this shows. Joint training (phase III) improves verification by the code and by the mesh over phases I and II, "
            "and the whole shape too; the identity part pays 0.02 mm. It is still improving: 2,000 steps are five rounds of the "
            "photos whose person is known. Phase II changes nothing that can be seen, since the decoders begin as the morphable "
            "model's own bases and the encoder's codes need no others. A person's photos fitted together (the labels) tell people "
            "apart better than any network here does from one photo (see the section on same persons above).",
            "What the decoders learnt (the paper's figure 9): six columns of the identity decoder as faces before and after joint "
            "training, then six of the residual decoder as heat maps.",
            "![columns of the decoders](images/disentangle-columns.jpg)",
        ]
    )


def verification(r: dict[str, Any]) -> str:
    rows = []
    for name, v in r.items():
        if name.startswith("test, "):
            shares = [
                f"{100 * v[k]:.0f} %"
                for k in ("eer", "tar at far 10 %", "one person, called same", "two persons, called same")
            ]
            rows.append([name.removeprefix("test, "), f"{v['auc']:.3f}", *shares])
    val = r["auc of the distance, n and n photos (nothing is learnt in it, so val counts too)"]["val"]
    return "\n\n".join(
        [
            f"`sameface verify`, calibrated on {r['persons']['val']} persons of the val split, measured on {r['persons']['test']} of the "
            "test split: pairs of disjoint sets of photos, the distance of their neutral meshes in mm.",
            table(
                [
                    "photos on each side",
                    "AUC",
                    "EER",
                    "TAR at FAR 10 %",
                    "one person, called same",
                    "two persons, called same",
                ],
                rows,
            ),
            "Few persons make these figures rough: on the val persons the AUC is "
            + ", ".join(f"{auc:.2f} ({n})" for n, auc in val.items())
            + " (photos on each side).",
        ]
    )


def built(r: dict[str, Any]) -> str:
    rows = []
    for name in ("51 landmarks", "7 landmarks", "no landmarks"):
        if name in r:
            one = r[name]
            rows.append([name, *(f"{one['registration'][k]:.2f}" for k in ("to the true surface, mean mm", "to the true point, mean mm", "rigid template to the true point, mean mm")),
                         f"{100 * one['model']['variance of new faces explained']:.1f}", f"{one['model']['new faces left unexplained, mean mm']:.2f}"])  # fmt: skip
    best = r["ceiling"]
    rows.append(
        [
            "perfect registration",
            "",
            "",
            "",
            f"{100 * best['variance of new faces explained']:.1f}",
            f"{best['new faces left unexplained, mean mm']:.2f}",
        ]
    )
    return "\n\n".join(
        [
            f"{r['people']} scans sampled from a known model ({r['modes']} modes), {r['points per scan']} points each with {r['noise mm']} mm noise and "
            f"{100 * r['holes']:.0f} % holes, in any pose; the template has {r['template vertices']} vertices.",
            table(
                [
                    "registered with",
                    "to the surface, mm",
                    "to the true point, mm",
                    "rigid only, mm",
                    "variance of new faces, %",
                    "left over, mm",
                ],
                rows,
            ),
            "The surface is met within the noise, but points slide along smooth skin, so the small modes are blurred.",
        ]
    )


def evaluation_speed(r: dict[str, Any]) -> str:
    numbers = [[name, str(value)] for name, value in r.items() if isinstance(value, int | float)]
    return "\n\n".join([r["what"] + ":", table(["", ""], numbers)])


def sweep(r: dict[str, Any]) -> str:
    names = [
        name for name, value in r.items() if isinstance(value, dict) and "neutral" in value and name != "expressions"
    ]
    yaws = (0, 10, 20, 30, 40, 50, 60, 70, 80, 90)
    parts = [
        f"{r['people']} synthetic people (`sameface synth`'s drawing, whom no network has seen), {r['photos']} pictures, one light per "
        "person, camera at 1 m. RMSE in mm after Procrustes on the 68 landmarks. Faces not found: "
        + ", ".join(f"{name} {count}" for name, count in r["faces not found"].items())
        + ".",
    ]
    for part in ("whole shape", "identity part", "68 points"):
        rows, faces = [], []
        for name in names:
            take = r[name]
            if part not in take["neutral"]:
                continue
            both = [
                [take[f"yaw {sign * yaw}"][part] for sign in (1, -1) if f"yaw {sign * yaw}" in take] for yaw in yaws
            ]
            rows.append([name, *(f"{sum(v) / len(v):.2f}" if v else "" for v in both)])
            faces.append([name, *(f"{take[e][part]:.2f}" if e in take else "" for e in r["expressions"])])
        parts += [
            table([f"{part}, by \\|yaw\\|".replace("\\", ""), *(f"±{yaw}°" for yaw in yaws)], rows),
            table([f"{part}, frontal", *r["expressions"]], faces),
        ]
    parts += [
        "![shape error by yaw](images/sweep.png)",
        "On rendered neutral people no network here is better than the mean face: they have learnt from photos only, and what they see "
        "in a rendering is systematically off, the more the further a head is turned. The identity part of what ships is as good as the "
        "mean face within 30 degrees, since its fit expects a part of what `sir` says (3.2 mm before that). Training on synthetic people "
        "has to mend the rest. Expressions that change the face much (happiness, surprise, disgust, fear) they do see. "
        "`scnn`'s 68 points belong to another morphable model, whose jaw and brow lie elsewhere, so its errors hold that too. "
        "The paper's own table (BU-3DFE): 2.01 mm, 3DDFA 2.75.",
    ]
    return "\n\n".join(parts)


def fit_set(r: dict[str, Any]) -> str:
    c, done = r["convergence"], r["labels"]
    ours, theirs = (c["with priors and robust weights"][name] for name in ("ours", "alternating"))
    least = c["with priors and robust weights"]["least objective per photo"]
    rounds = (0, 1, 2, 3, 5, 7, 10)
    rows = [
        [name, *(f"{100 * (way['objective per photo'][k] / least - 1):.2f} %" for k in rounds)]
        for name, way in (("ours (all at once)", ours), ("the paper's alternation", theirs))
    ]
    rejected = ", ".join(f"{count} {reason}" for reason, count in done["rejected"].items())
    residual = ", ".join(
        f"{name} %: {v:.2f}" for name, v in done["percentiles of kept photos"]["residual_percent"].items()
    )
    last = done["last_call"]
    return "\n\n".join(
        [
            f"Objective above the least found, by round; {c['persons']} persons, {c['photos']} photos, {c['points']} points, same "
            "objective with the same priors. The paper alternates between cameras, expressions and identity and reports about "
            "seven rounds.",
            table(["above the least, after round", *map(str, rounds)], rows),
            f"Labels for {done['photos']} photos of {done['persons']} persons: {done['kept']} kept; rejected: {rejected}. Residual in "
            f"percent of the face, percentiles: {residual}.",
            f"10,000 photos take {last['seconds for 10,000 photos']:.0f} s with {last['workers']} processes on two cores.",
        ]
    )


def spread_of(mean: float, deviation: float, digits: int = 2) -> str:
    return f"{mean:.{digits}f} ± {deviation:.{digits}f}"


def multiview(r: dict[str, Any]) -> str:
    mean, deviation, paper = r["mean over seeds"], r["deviation over seeds"], r["paper, ARMSE mm"]
    errors = list(next(iter(mean.values())))
    rows = [
        [name, *(spread_of(mean[name][e], deviation[name][e]) for e in errors), f"{paper[name]:.2f}"] for name in paper
    ]
    counts = [name for name in mean if name.startswith("SV mean of ")]
    curve = [["ARMSE, mm", *(spread_of(mean[name]["ARMSE"], deviation[name]["ARMSE"]) for name in counts)]]
    return "\n\n".join(
        [
            f"`multiview` with its network for CPUs (`residual`), trained on 1,440 synthetic people with 6 photos each; {r['persons']} others, "
            f"{r['photos of each']} photos each. Errors of the neutral face in mm, mean ± deviation over {len(r['seeds'])} seeds of the "
            "training; ARMSE within 95 mm of the nose tip after ICP, then the distance of the same vertices after a rigid "
            "motion and after a similarity. Last column: the paper's table, on the scans of 3DFAW 2019.",
            table(["mm", *errors, "paper, ARMSE"], rows),
            "The single-view answers averaged over more and more photos of a person:",
            table(["photos", *(name.removeprefix("SV mean of ") for name in counts)], curve),
            MULTIVIEW,
        ]
    )


MULTIVIEW = (
    "What this shows. By ARMSE the seven rows stand in the paper's order. Three of the steps are larger than what the seeds differ by, and "
    "are there in every seed: any network is better than the mean face, three photos together with the shape's own error as the loss are "
    "better than those with the reprojection, and the mean of five triples is better than one triple. SV frontal and SV mean are as good as "
    "each other, MV add and MV concat too; these two are better than SV by less than 0.02 mm on average, and not after a rigid motion.\n\n"
    "All steps are small: 7 % from the first row to the last, 29 % in the paper. What limits them: the identity shows in 1 to 2.6 px² of the "
    "reprojection, the poses in 5 to 60, and after 8,000 steps of 32 photos (27 minutes on a busy core; the paper: 13 hours on a GPU) the "
    "poses still cost 3 to 4. No photo shows how large a head is, so only the networks whose loss is in mm are better after a rigid motion, "
    "and the reprojection's are the best after a similarity. More photos for the single-view network help little: its answers stay near "
    "the mean face and err alike.\n\n"
    "The people were drawn with version 1 of the synthetic look (commit 19224ae). The baselines in the same units: mean face above; what "
    "ships was not trained on rendered people and is as good as the mean face there (the section on shape by yaw)."
)


def multiview_real(r: dict[str, Any]) -> str:
    mean, deviation = r["mean over seeds"], r["deviation over seeds"]
    others = r["network that ships and its fit, results/identity-halves.json"]
    head = ["same person or not", "AUC", "same, mm", "different, mm"]
    keys = ("auc", "same person, mean mm", "different persons, mean mm")
    rows = [
        [name, *(spread_of(v[k], deviation[name][k], 3 if k == "auc" else 2) for k in keys)] for name, v in mean.items()
    ]
    rows += [
        [f"what ships, {name}", f"{v['auc']:.3f}", *(f"{v[k]:.2f}" for k in keys[1:])]
        for name, v in others.items()
    ]  # fmt: skip
    return "\n\n".join(
        [
            f"The same networks, which never saw a real photo, on {r['photos']} photos of {r['persons']} people of the test split. Shapes "
            "from disjoint sets of photos, mm RMS over the face after the best rigid motion, as in the section on same "
            "persons; the focal length is taken as 1.2 × the larger side. `untrained` is the single-view network before its "
            "first step: what light, pose and background alone tell.",
            table(head, rows),
            MULTIVIEW_REAL,
        ]
    )


MULTIVIEW_REAL = (
    "Having seen rendered people only, the networks tell real people apart better than chance, and better than before their training, but "
    "not by much: 0.63 from one photo and 0.80 from eight, where the untrained network has 0.57 and 0.77, which is what skin, light and "
    "background of one person's photos have in common. From the same six photos, two triples, the merging networks (0.84) are as good as "
    "the averaged single views (0.82 ± 0.04) and make people differ twice as much (1.0 against 0.5 mm). The shape network makes them differ "
    "most and tells them apart worst: it is the one that believes what it sees in millimetres. What ships learnt from real photos with "
    "identities."
)


def sir(r: dict[str, Any]) -> str:
    mean, deviation = r["mean over seeds"], r["deviation over seeds"]
    rows = list(mean)
    scores = list(mean["none"]["verification"])
    auc = [
        [
            row,
            *(
                spread_of(mean[row]["verification"][s]["auc"], deviation[row]["verification"][s]["auc"], 1)
                for s in scores
            ),
        ]
        for row in rows
    ]
    accuracy = [
        [row,
         *(spread_of(mean[row]["verification"][s]["accuracy"], deviation[row]["verification"][s]["accuracy"], 1)
           for s in ("mm, Euclidean", "mm, cosine", "vertices, mm")),
         " · ".join(f"{v:.1f}" for v in r["paper, LFW CFP-FP YTF, %"].get(row, [])) or "-"]
        for row in rows
    ]  # fmt: skip
    regions = list(r["modes"])
    cropped = []
    for row in rows:
        found, off = mean[row]["coefficients and vertices"], deviation[row]["coefficients and vertices"]
        cells = []
        for region in regions:
            name = next(k for k in found[region] if k.startswith("mm, AUC -"))
            cells.append(
                f"{found[region]['mm, correlation']:.3f}, {spread_of(found[region][name], off[region][name], 1)}"
            )
        cropped.append([row, *cells])
    modes = ", ".join(f"{region} {v['largest_cosine']:.2g}" for region, v in r["modes"].items())
    errors = list(r["base"]["photometric error"])
    pixels = [
        [name, f"{v['68 points, NME %']:.2f}", *(f"{v['photometric error'][e]:.4f}" for e in errors)]
        for name, v in (
            ("landmarks only", r["landmarks"]),
            ("with photometric loss", r["base"]),
            ("landmarks weighing four times as much", r["base-8"]),
            ("the network that ships", r["ship"]),
        )
    ]
    pixels += [
        [f"then {row}", spread_of(mean[row]["68 points, NME %"], deviation[row]["68 points, NME %"]),
         *(spread_of(mean[row]["photometric error"][e], deviation[row]["photometric error"][e], 4) for e in errors)]
        for row in rows
    ]  # fmt: skip
    conditions = {
        "together/mm": "same person, mm", "apart/mm": "others, mm", "apart/ratio": "ratio", "frontal/mm": "neutral frontal to the rest, mm",
        "spread/mean": "mean, σ", "spread/variance": "variance, σ²", "spread/kl": "KL, nats",
    }  # fmt: skip
    four = [
        [row, *(spread_of(mean[row]["conditions"][c], deviation[row]["conditions"][c]) for c in conditions)]
        for row in rows
    ]
    return "\n\n".join(
        [
            f"The small preset of `sir` on fitted labels of the train split (316 persons): 2,400 steps without SIR, then each row for "
            f"600 steps more, {len(r['seeds'])} seeds, mean ± deviation. {r['pairs']} pairs of {r['persons']} test persons, half genuine, "
            f"{r['folds']} folds. AUC in percent by the distance of the coefficients (in σ, and in mm along orthogonal modes) and by "
            "the vertices:",
            table(["AUC, %", *scores], auc),
            "Accuracy in percent, and the paper's (LFW · CFP-FP · YTF, by Euclidean distance, trained on millions of photos):",
            table(["accuracy, %", "mm, Euclidean", "mm, cosine", "vertices, mm", "paper"], accuracy),
            "The basis has to be orthogonal for coefficients to speak of vertices (the paper's table IV). Correlation of the distances "
            "of coefficients (mm of each mode over the region) with those of the vertices of the whole mesh, and how far their AUC is "
            f"from the vertices' (percent). Largest cosine between two modes: {modes}.",
            table(["coefficients measured over", *regions], cropped),
            f"{r['photos for points and pixels']} photos of the test split: error of the 68 points, and of the pixels (mean |Î − I|, "
            "colours in [0, 1]). With light solved per photo, networks are compared by geometry and albedo alone.",
            table(["", "68 points, NME %", *errors], pixels),
            "The four conditions (`sameface.evaluation.conditions`):",
            table(["", *conditions.values()], four),
            "![coefficients against the model's distribution](images/sir-spread.png)",
            SIR,
        ]
    )


SIR = (
    "What this shows. The order is the paper's: identity losses make the shapes of people never seen tell them apart better, by "
    "vertices from 76 to 85 percent (AUC, one photo each) with CosFace, a little better with centres, and to 87 with the KL term, "
    "the best of all systems here. Centres alone shrink everybody towards the mean (a person's photos are nearer to each other, but "
    "so are different people); the KL term gives the spread back, and with it the Euclidean distance, the ratio of distances and "
    "the model's variance. Weighted centres do as much as plain ones here: with 600 steps and 316 persons every centre is near its "
    "photos anyway, and the most neutral and frontal photo is no nearer to the rest than any other. Along orthogonal modes "
    "coefficients and vertices agree to all digits; measured over a cropped region they do not, and there the coefficients even "
    "flatter the network by up to four percent.\n\n"
    "The photometric loss lowers the pixels' error on unseen photos from 0.198 to 0.054, and by 3 % where only geometry counts (mean "
    "albedo, best light). With the landmarks' weight at 2, as in the runs of the table, it costs landmarks: 1.52 against 1.31 % after "
    "as many steps. With 8, which is the default now, it does not (1.32 against 1.31 %), and the pixels' error still falls to 0.059, by "
    "1 % where only geometry counts. But what the photometric loss alone teaches about who is who is then gone too (AUC by σ 76 against "
    "67, landmarks alone 68). The rows use landmarks for a fifth of each batch only, as the paper has it, which costs more (1.8 %). "
    "Eq. 22 draws a photo for its person 78 times in 100, in the first part of the run too, so the 28,645 photos without a known "
    "person were seen less than once.\n\n"
    "The network that ships (`ship`: everything, four times as long, from the run with the weight 8; its identity branch is "
    "`identity.onnx`) has an AUC of 88.0 by σ, 89.1 by vertices, and 1.43 % for the points.\n\n"
    "Without SIR the run took 20 minutes on one busy core, each row 5 more."
)


def stability(r: dict[str, Any]) -> str:
    rows = [
        [
            f"{name}: {who}",
            f"{v['mean, mm']:.2f}",
            f"{v['largest, mm']:.2f}",
            v["farthest"],
            f"{v['within 1 mm']} of 25",
            f"{people['the two means, mm']:.2f}",
        ]
        for name, people in r["systems"].items()
        for who, v in people.items()
        if isinstance(v, dict)
    ]
    return "\n\n".join(
        [
            "Two public-domain photos, each in 25 ways (light, blur, crop, rotation, noise, JPEG), each looked at alone: RMS distance "
            "over all vertices of every identity mesh to the mean of that person's, and of the two people's means.",
            table(["", "mean, mm", "largest, mm", "farthest", "within 1 mm", "two people, mm"], rows),
            STABILITY,
            "![two people: photo, shape over it, identity mesh, distance to the other](images/sir.jpg)",
        ]
    )


STABILITY = (
    "What `sameface reconstruct` makes of a photo (`default`: the fit, which expects a part of what `ship` says) stays within 1 mm of "
    "its person's mean in 49 of 50 pictures; the strongest blur (σ of 3 % of the face) moves one of the two people by 1.2 mm. The "
    "networks alone, with SIR or without, move farther under that blur. One photo's own pixels move a shape by 0.2 to 0.4 mm, another "
    "photo of the same person several times as much (the four conditions above). Between the two people lie 1.5 to 2.5 mm."
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
    ("`scnn` on the face table", RESULTS / "scnn.json", scnn),
    ("`landmark_depth`", RESULTS / "landmark-depth.json", landmark_depth),
    ("`disentangle` on fitted labels", RESULTS / "disentangle.json", disentangle),
    ("`multiview` on synthetic people", RESULTS / "multiview.json", multiview),
    ("`multiview` on real photos", RESULTS / "multiview-real.json", multiview_real),
    ("`sir`: recognizable shapes", RESULTS / "sir.json", sir),
    ("`sir`: the same face in changed photos", RESULTS / "sir-stability.json", stability),
    ("Shape by yaw and by expression, rendered people", RESULTS / "sweep.json", sweep),
    ("Speed of `disentangle`", BENCHMARKS / "encoder.json", encoder_speed),
    ("Same person or not", RESULTS / "verify.json", verification),
    ("Speed of an evaluation", RESULTS / "evaluate-speed.json", evaluation_speed),
    ("A model from scans", RESULTS / "build.json", built),
    ("Labels at scale", RESULTS / "fit-set.json", fit_set),
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
            commands = [r["command"]] if isinstance(r["command"], str) else r["command"]
            parts += [f"## {title}", write(r), "  \n".join(f"`{command}`" for command in commands) + f" → `{file}`"]
    return "\n\n".join(parts) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page())
    draw_sweep(json.loads((RESULTS / "sweep.json").read_text()), PAGE.parent / "images" / "sweep.png")
    draw_depth(json.loads((RESULTS / "landmark-depth.json").read_text()), PAGE.parent / "images" / "landmark-depth.png")
    print(PAGE)
