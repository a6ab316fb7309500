"""AFLW2000-3D: its reader and table on the sample, and the published code's numbers on 16 real photos."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from scipy.io import loadmat, savemat
from torch import nn

from sameface.core.errors import AssetMissing, BadData
from sameface.evaluation.benchmarks import aflw2000
from sameface.evaluation.benchmarks.aflw2000 import (
    Options,
    cases,
    from_matlab,
    sample,
    score,
    summary,
    to_matlab,
    truth,
)
from sameface.evaluation.case import Answer
from sameface.metrics.pose import camera_from_pose_para, split_projection
from sameface.morphable import MorphableModel, tddfa
from sameface.morphable.pickles import read_pickle

DEFAULT = Options()


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("aflw2000")
    sample(folder)
    return folder


# ── reader ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_cases_hold_photos_places_and_the_labels_of_the_mat_files(root):
    found = cases(root, DEFAULT)
    assert [case.name for case in found] == [f"image{k:05d}" for k in range(1, 7)]
    for case in found:
        labels = loadmat(case.photos[0].with_suffix(".mat"))
        assert cv2.imread(str(case.photos[0])).shape == (450, 450, 3)
        np.testing.assert_array_equal(case.truth["landmarks"], labels["pt3d_68"].T)
        np.testing.assert_allclose(case.truth["pose"], np.degrees(labels["Pose_Para"][0, :3]), rtol=1e-6)
        assert case.truth["yaw"] == case.truth["pose"][1]
        np.testing.assert_allclose(case.places[0], labels["pt3d_68"][:2].T - 0.5)


def test_photos_may_lie_in_the_root_itself(root):
    assert len(cases(root / "AFLW2000", DEFAULT)) == 6


def test_the_system_is_told_nothing_where_it_has_to_find_the_face(root):
    assert all(case.places == (None,) for case in cases(root, Options(crop="detect")))


def test_lists_are_joined_by_the_points_not_by_position(root, tmp_path):
    for file in sorted((root / "AFLW2000").iterdir())[6:]:  # the last three photos only
        (tmp_path / file.name).write_bytes(file.read_bytes())
    for file in (root / "test.configs").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    found = cases(tmp_path, Options(annotation="reannotated", yaw="new"))
    assert [case.truth["yaw"] for case in found] == [55, 70, 85]
    for case in found:
        assert case.truth["landmarks"].shape == (68, 2)
        np.testing.assert_array_equal(case.truth["landmarks"], np.round(case.truth["original"][:, :2]))


def test_their_pixels_and_ours():
    ours = from_matlab(np.array([[1.0, 2, 3]]))
    np.testing.assert_allclose(ours, [[0.5, 1.5, -3]])
    np.testing.assert_allclose(to_matlab(ours), [[1, 2, 3]])
    np.testing.assert_allclose(to_matlab(ours[:, :2]), [[1, 2]])


def test_folders_that_are_not_aflw2000_are_named(root, tmp_path):
    with pytest.raises(BadData, match=r"have 0 labels image\*\.mat; expected at least 1; unpack AFLW2000-3D\.zip"):
        cases(tmp_path, DEFAULT)
    with pytest.raises(BadData, match=r"have 6 labels .* expected at least 2000"):
        cases(root, Options(least=2000))
    for file in (root / "AFLW2000").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    with pytest.raises(AssetMissing, match=r"new\.pose\.npy is not in .* test\.configs of cleardusk/3DDFA"):
        cases(tmp_path, Options(yaw="new"))
    other = np.load(root / "test.configs" / "AFLW2000-3D.pts68.npy") + 1
    np.save(tmp_path / "AFLW2000-3D.pts68.npy", other)
    np.save(tmp_path / "AFLW2000-3D-new.pose.npy", np.zeros(6, np.float32))
    with pytest.raises(BadData, match=r"has no face with the points of .*image00001\.mat"):
        cases(tmp_path, Options(yaw="new"))
    savemat(tmp_path / "image00001.mat", {"pt2d": np.zeros((2, 21))})
    with pytest.raises(BadData, match=r"image00001\.mat does not hold pt3d_68"):
        cases(tmp_path, DEFAULT)
    (tmp_path / "image00001.jpg").unlink()
    with pytest.raises(BadData, match=r"image00001\.jpg is missing, the photo of"):
        cases(tmp_path, DEFAULT)


def test_points_without_depth_cannot_be_compared_in_depth(root):
    with pytest.raises(ValueError, match="reannotated points have no z: depth='minus_min' goes with"):
        cases(root, Options(annotation="reannotated", depth="minus_min"))


# ── scores ─────────────────────────────────────────────────────────────────────────────────────────────────

EVERY = [
    DEFAULT,
    Options(depth="minus_min"),
    Options(depth="minus_mean", normaliser="outer_eyes"),
    Options(annotation="reannotated", yaw="new"),
    Options(depth="as_given", normaliser="outer_eyes_3d", alignment="similarity", lenient=True),
]


@pytest.mark.parametrize("options", EVERY)
def test_the_truth_scores_zero(root, options):
    found = cases(root, options)
    rows = [score(case, truth(case, options), options) for case in found]
    for row in rows:
        np.testing.assert_allclose([v for k, v in row.items() if k != "yaw"], 0, atol=1e-4)
        assert list(row) == ["nme", "yaw", "pitch_error", "yaw_error", "roll_error"]
    table = summary(found, [None] * 6, rows, options)
    assert [table[f"images_{name}"] for name in ("0_30", "30_60", "60_90")] == [2, 2, 2]
    assert (table["mae_images"], table["mae_left_out"]) == (5, 1)
    np.testing.assert_allclose([table["nme_mean"], table["mae"]], 0, atol=1e-4)


def test_scores_by_hand(root):
    case = cases(root, DEFAULT)[2]
    points = truth(case, DEFAULT)
    assert points.landmarks is not None
    moved = Answer(landmarks=points.landmarks + np.array([3, 4, 1000]))
    size = np.sqrt(np.prod(np.ptp(case.truth["landmarks"][:, :2], axis=0)))
    assert score(case, moved, DEFAULT) == pytest.approx({"nme": 100 * 5 / size, "yaw": 40})
    deeper = points.landmarks * np.array([1, 1, 1.5])
    three = Options(depth="minus_min")
    z = -case.truth["landmarks"][:, 2]  # the nearest point has their largest z
    wanted = np.abs(0.5 * (z - z.max())).mean() * 100 / size
    assert score(case, Answer(landmarks=deeper), three)["nme"] == pytest.approx(wanted)


def test_angles_are_compared_in_their_convention(root):
    case = cases(root, DEFAULT)[1]
    off = camera_from_pose_para(*np.radians(case.truth["pose"] + [1, -2, 183])[:, None])
    answer = replace(truth(case, DEFAULT), rotation=off)
    strict, lenient = score(case, answer, DEFAULT), score(case, answer, Options(lenient=True))
    assert [strict[f"{n}_error"] for n in ("pitch", "yaw")] == pytest.approx([1, 2], abs=1e-3)
    assert strict["roll_error"] == pytest.approx(177, abs=1e-3)
    assert lenient["roll_error"] == pytest.approx(3, abs=1e-3)


def test_the_table_by_hand(root):
    found = cases(root, DEFAULT)
    rows = [
        {"nme": n, "yaw": case.truth["yaw"]} for n, case in zip([1.0, 3.0, 4.0, 6.0, 7.0, 11.0], found, strict=True)
    ]
    table = summary(found, [None] * 6, rows, DEFAULT)
    assert table["nme_0_30"] == 2
    assert table["nme_mean"] == pytest.approx(16 / 3)
    assert table["nme_std"] == pytest.approx(np.std([2, 5, 9]))
    assert not any(key.startswith("mae") for key in table)
    turned = [row | {"pitch_error": 1.0, "yaw_error": 2.0, "roll_error": 6.0} for row in rows]
    some = summary(found, [None] * 6, [None, *turned[1:5], turned[5] | {"pitch_error": 90.0}], DEFAULT)
    assert some["images_0_30"] == 1
    assert [some[k] for k in ("mae_pitch", "mae_yaw", "mae_roll", "mae")] == [1, 2, 6, 3]
    assert (some["mae_images"], some["mae_left_out"]) == (4, 1)
    far = summary(found, [None] * 6, [*[None] * 5, turned[5]], DEFAULT)
    assert (far["mae_images"], far["mae_left_out"]) == (0, 1)
    assert "mae" not in far
    assert "nme_mean" not in far


def test_answers_without_points_are_refused(root):
    case = cases(root, DEFAULT)[0]
    with pytest.raises(ValueError, match="image00001 needs landmarks of its 1 photo, but the answer has those of 0"):
        score(case, Answer(), DEFAULT)
    with pytest.raises(ValueError, match="has those of 2"):
        score(case, Answer(landmarks=np.zeros((2, 68, 3))), DEFAULT)
    with pytest.raises(ValueError, match="68 of 68 of the predicted points are not finite"):
        score(case, Answer(landmarks=np.full((1, 68, 3), np.nan)), DEFAULT)


def test_published_numbers_agree_with_themselves():
    for one in aflw2000.published:
        assert one.source
        bins = [one.values[k] for k in ("nme_0_30", "nme_30_60", "nme_60_90") if k in one.values]
        if bins:
            assert one.values["nme_mean"] == pytest.approx(np.mean(bins), abs=0.01)


# ── 16 real photos ─────────────────────────────────────────────────────────────────────────────────────────

FLOOR = [.433, .588, .535, .800, .764, .694, .145, .662, .763, .421, 1.007, .702, .888, .890, .795, 1.269]  # fmt: skip
"""NME % of the true parameters cut to 40 + 10, known from the project's notes on formats"""


@pytest.fixture(scope="module")
def oracle(shared) -> tuple[Path, dict]:
    folder = shared("oracles")
    return folder, json.loads((folder / "aflw2000_mb05.json").read_text())["images"]


class Block(nn.Module):
    """Depth-wise 3×3, then 1×1."""

    def __init__(self, inside: int, outside: int, stride: int):
        super().__init__()
        self.conv_dw = nn.Conv2d(inside, inside, 3, stride, 1, groups=inside, bias=False)
        self.bn_dw = nn.BatchNorm2d(inside)
        self.conv_sep = nn.Conv2d(inside, outside, 1, bias=False)
        self.bn_sep = nn.BatchNorm2d(outside)

    def forward(self, x):
        return self.bn_sep(self.conv_sep(self.bn_dw(self.conv_dw(x)).relu())).relu()


WIDTHS = {
    "dw2_1": (32, 1), "dw2_2": (64, 2), "dw3_1": (64, 1), "dw3_2": (128, 2), "dw4_1": (128, 1), "dw4_2": (256, 2),
    "dw5_1": (256, 1), "dw5_2": (256, 1), "dw5_3": (256, 1), "dw5_4": (256, 1), "dw5_5": (256, 1),
    "dw5_6": (512, 2), "dw6": (512, 1),
}  # fmt: skip
"""output channels and stride of each block, by 3DDFA_V2's names"""


class MobileNet(nn.Module):
    """MobileNet-v1 of half width, as 3DDFA_V2's weights name its parts."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, width = nn.Conv2d(3, 16, 3, 2, 1, bias=False), nn.BatchNorm2d(16), 16
        for name, (outside, stride) in WIDTHS.items():
            setattr(self, name, Block(width, outside, stride))
            width = outside
        self.fc_param, self.fc_lm = nn.Linear(512, 62), nn.Linear(512, 136)

    def forward(self, x):
        x = self.bn1(self.conv1(x)).relu()
        for name in WIDTHS:
            x = getattr(self, name)(x)
        return self.fc_param(x.mean((2, 3)))


@pytest.fixture(scope="module")
def network(oracle):
    state = torch.load(oracle[0] / "tddfa" / "mb05_120x120.pth", map_location="cpu", weights_only=True)["state_dict"]
    net = MobileNet()
    net.load_state_dict({name.removeprefix("module."): value for name, value in state.items()})
    return net.eval()


def box_of_points(points: np.ndarray) -> np.ndarray:
    """3DDFA's square around (L, 2) points: the box's centre ± half of √2 · its longer side."""
    low, high = points.min(0), points.max(0)
    half = np.ptp(points, axis=0).max() / np.sqrt(2)
    return np.concatenate([(low + high) / 2 - half, (low + high) / 2 + half])


def crop(image: np.ndarray, box: np.ndarray) -> np.ndarray:
    """The rounded box, black outside of the photo, resized to 120 × 120."""
    left, top, right, bottom = (round(float(v)) for v in box)
    padded = cv2.copyMakeBorder(image, 400, 400, 400, 400, cv2.BORDER_CONSTANT)
    return cv2.resize(padded[top + 400 : bottom + 400, left + 400 : right + 400], (120, 120))


def predicted(network, photos: list[Path], boxes: list[np.ndarray]) -> np.ndarray:
    """(N, 62) whitened numbers."""
    crops = np.stack([crop(cv2.imread(str(photo)), box) for photo, box in zip(photos, boxes, strict=True)])
    with torch.no_grad():
        return (
            network(torch.from_numpy((crops.transpose(0, 3, 1, 2).astype(np.float32) - 127.5) / 128)).double().numpy()
        )


def placed(model: MorphableModel, raw: np.ndarray, parameters: np.ndarray, box: np.ndarray, version: int) -> Answer:
    """3DDFA's way from the 62 numbers, whitened and not, to points in the photo, as our answer."""
    identity = raw[12:52] + model.extra["identity_offset"]
    expression = raw[52:] + model.extra["expression_offset"]
    face = 1000 * (model.mean + model.identity_basis @ identity + model.expression_basis @ expression)
    projection = parameters[:12].reshape(3, 4)
    points = face @ projection[:, :3].T + projection[:, 3]
    shift = 0 if version == 1 else 1  # 3DDFA: y ↦ 121 − y; 3DDFA_V2: 120 − y, x − 1
    points[:, 0] -= shift
    points[:, 1] = 121 - shift - points[:, 1]
    scale = (box[2:] - box[:2]) / 120
    points[:, :2] = points[:, :2] * scale + box[:2]
    points[:, 2] *= scale.mean()
    _, turn, _ = split_projection(projection)
    return Answer(landmarks=from_matlab(points)[None], rotation=(np.diag([1.0, -1, -1]) @ turn)[None])


@pytest.mark.parametrize(("key", "version", "wanted"), [("v1roi", 1, 3.5022), ("lm", 2, 3.4038)])
def test_running_3ddfa_v2_on_16_photos_gives_its_known_errors(oracle, network, key, version, wanted):
    folder, images = oracle
    statistics = folder / "tddfa" / "param_mean_std_62d_120x120.pkl"
    whitening, model = read_pickle(statistics), tddfa.load_sparse(folder / "tddfa", statistics=statistics)
    given = np.load(folder / "aflw2000" / "AFLW2000-3D_crop.roi_box.npy").astype(float)
    found, rows = cases(folder / "aflw2000", DEFAULT), []
    boxes = [given[image["aflw2000_index"]] for image in images.values()]
    if version == 2:
        boxes = [box_of_points(to_matlab(case.places[0])) for case in found]
    raw = predicted(network, [case.photos[0] for case in found], boxes)
    parameters = raw * whitening["std"] + whitening["mean"]
    for k, (case, (name, image)) in enumerate(zip(found, images.items(), strict=True)):
        assert case.name == f"image{name}"
        known = image[key]
        np.testing.assert_allclose(boxes[k], known["roi"], atol=1e-3)
        np.testing.assert_allclose((parameters[k] - known["param62"]) / whitening["std"], 0, atol=0.05)
        rows.append(score(case, placed(model, raw[k], parameters[k], boxes[k], version), DEFAULT))
        assert rows[-1]["nme"] == pytest.approx(known["nme_pct"], abs=0.01)
        stored = Answer(landmarks=from_matlab(np.array(known["pts68"]).T)[None])
        assert score(case, stored, DEFAULT)["nme"] == pytest.approx(known["nme_pct"], abs=1e-4)
    table = summary(found, [None] * 16, rows, DEFAULT)
    assert table["nme_faces"] == pytest.approx(wanted, abs=0.01)
    if version == 1:
        assert [table[f"mae_{n}"] for n in ("pitch", "yaw", "roll")] == pytest.approx([4.33, 3.09, 1.68], abs=0.02)
        assert table["mae_images"] == 16


def test_the_truth_of_16_photos_scores_zero_and_their_other_annotation_what_3ddfa_says(oracle):
    folder, images = oracle
    again = Options(annotation="reannotated", yaw="new")
    for case, other, image in zip(
        cases(folder / "aflw2000", DEFAULT), cases(folder / "aflw2000", again), images.values(), strict=True
    ):
        row = score(case, truth(case, DEFAULT), DEFAULT)
        np.testing.assert_allclose([v for k, v in row.items() if k != "yaw"], 0, atol=1e-4)
        stored = Answer(landmarks=from_matlab(np.array(image["lm"]["pts68"]).T)[None])
        assert score(other, stored, again)["nme"] == pytest.approx(image["lm"]["nme_reannotated_pct"], abs=1e-4)


def test_true_parameters_cut_to_62_numbers_leave_the_known_floor(oracle):
    """Shape_Para multiplies 3DDFA's columns as it is; V_img = f R V + t; y = H + 1 − Y."""
    folder, _ = oracle
    base, shape, expression = (
        np.loadtxt(folder / "tddfa" / f"{n}.txt") for n in ("u_base", "w_shp_base", "w_exp_base")
    )
    for case, wanted in zip(cases(folder / "aflw2000", DEFAULT), FLOOR, strict=True):
        labels = loadmat(case.photos[0].with_suffix(".mat"))
        face = base + shape @ labels["Shape_Para"][:40, 0] + expression @ labels["Exp_Para"][:10, 0]
        pose = labels["Pose_Para"][0].astype(float)
        camera = camera_from_pose_para(*pose[:3, None])[0]
        points = pose[6] * face.reshape(68, 3) @ camera.T + pose[3:6] * [1, -1, -1] + [0.0, 450.5, 0]
        points[:, 0] -= 0.5
        row = score(case, Answer(landmarks=points[None], rotation=camera[None]), DEFAULT)
        assert row["nme"] == pytest.approx(wanted, abs=0.0011)
        assert max(row[f"{n}_error"] for n in ("pitch", "yaw", "roll")) < 1e-4
