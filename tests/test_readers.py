"""The readers of folders: CASIA-WebFace, VGGFace2, MS1M, 300-W, 300W-LP, 3DDFA's crops and 3DFAW."""

import os
import pickle
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from scipy.io import loadmat, savemat

from sameface.core.errors import BadData
from sameface.core.geometry import align, euler_from_rotation, rotation_from_euler
from sameface.training.datasets import _people, aflwcrops, casia, fw3d, ms1m, pts68, vggface2, w300lp


def put(path, colour=(10, 20, 30), size=(8, 6)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size, colour).save(path)


def persons(data):
    """Each person's pictures, by the folder they lie in."""
    return {data.path(k).parent.name: int(data.person[k]) for k in range(len(data))}


# ── what they share ────────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_is_rgb_whatever_its_kind(tmp_path):
    put(tmp_path / "a.png")
    assert _people.picture(tmp_path / "a.png")[2, 3].tolist() == [10, 20, 30]
    assert _people.picture(tmp_path / "a.png").shape == (6, 8, 3)
    Image.new("L", (8, 6), 77).save(tmp_path / "grey.png")
    assert _people.picture(tmp_path / "grey.png")[0, 0].tolist() == [77, 77, 77]


def test_a_picture_is_not_turned_by_exif_because_labels_are_not_either(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", exif=exif)
    assert _people.picture(tmp_path / "a.jpg").shape == (6, 8, 3)


def test_broken_pictures_are_named(tmp_path):
    put(tmp_path / "whole.jpg", size=(200, 200))
    whole = (tmp_path / "whole.jpg").read_bytes()
    for name, content in {"cut.jpg": whole[: len(whole) // 2], "empty.jpg": b"", "text.png": b"hello"}.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(BadData, match=rf"{name} cannot be decoded"):
            _people.picture(tmp_path / name)
    with pytest.raises(BadData, match=r"gone\.jpg is missing"):
        _people.picture(tmp_path / "gone.jpg")


def test_a_twentieth_of_the_names_each_is_val_and_test():
    counts = {split: 0 for split in _people.SPLITS}
    for k in range(20_000):
        counts[_people.split_of(f"person {k}")] += 1
    assert counts["val"] == pytest.approx(1000, abs=120)
    assert counts["test"] == pytest.approx(1000, abs=120)


def test_an_unknown_split_is_refused():
    with pytest.raises(ValueError, match="there is no split 'all'; the splits are train, val, test"):
        _people.check_split("all")


def test_cartoons_are_the_mean_face_in_the_pose_they_say():
    drawn = _people.cartoon(np.random.default_rng(3), 200, 1)
    again = drawn.scale * _people.mean_points() @ drawn.rotation.T + drawn.shift
    np.testing.assert_allclose(drawn.points, again)
    eye = drawn.points[36:42, :2].mean(0)
    assert drawn.image[int(eye[1]), int(eye[0])].max() < 90  # the pupil


# ── folders of persons ─────────────────────────────────────────────────────────────────────────────────────


def test_persons_are_numbered_by_name_and_pictures_sorted(tmp_path):
    names = [f"{k:07d}" for k in range(40, 60) if _people.split_of(f"{k:07d}") == "train"][:3]
    for name in reversed(names):
        for k in (3, 1, 2):
            put(tmp_path / name / f"{k:03d}.jpg")
    (tmp_path / names[0] / "notes.txt").write_text("")
    (tmp_path / ".cache").mkdir()
    (tmp_path / "readme.txt").write_text("")
    data = casia.load(tmp_path, "train")
    assert len(data) == 9
    assert persons(data) == {name: k for k, name in enumerate(names)}
    assert data.person.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert [data.path(k).name for k in range(3)] == ["001.jpg", "002.jpg", "003.jpg"]
    assert data[0]["image"].shape == (6, 8, 3)


def test_persons_are_in_one_split_each(tmp_path):
    for k in range(100):
        put(tmp_path / "CASIA-WebFace" / f"{k:07d}" / "001.jpg")
    found = {split: set(persons(casia.load(tmp_path, split))) for split in _people.SPLITS}
    assert sum(map(len, found.values())) == len(set.union(*found.values())) == 100


def test_the_persons_of_lfw_are_left_out(tmp_path):
    for name in (*casia.IN_LFW, "0000040"):
        put(tmp_path / name / "001.jpg")
    assert set(persons(casia.load(tmp_path, "train"))) == {"0000040"}
    (tmp_path / "cleaned_list.txt").write_text("".join(f"{name}\\001.jpg 0\n" for name in (*casia.IN_LFW, "0000040")))
    assert set(persons(casia.load(tmp_path, "train"))) == {"0000040"}


def test_a_cleaned_list_of_casia_is_obeyed(tmp_path):
    for k in (1, 2, 3):
        put(tmp_path / "0000040" / f"{k:03d}.jpg")
    (tmp_path / "cleaned_list.txt").write_text("0000040\\001.jpg 0\r\n\n0000040\\003.jpg 0\n")
    data = casia.load(tmp_path, "train")
    assert [data.path(k).name for k in range(len(data))] == ["001.jpg", "003.jpg"]


def test_a_list_with_a_bad_line_is_refused(tmp_path):
    (tmp_path / "cleaned_list.txt").write_text("0000040/001.jpg 0\nnonsense\n")
    with pytest.raises(BadData, match=r"line 2 of .*cleaned_list\.txt names 'nonsense'; expected a picture as FOLDER"):
        casia.load(tmp_path, "train")
    (tmp_path / "cleaned_list.txt").write_text("../../secret/001.jpg 0\n")
    with pytest.raises(BadData, match="expected a picture as FOLDER"):
        casia.load(tmp_path, "train")
    (tmp_path / ms1m.LISTS[0]).write_text("onlyone\n")
    with pytest.raises(BadData, match="too few columns"):
        ms1m.load(tmp_path, "train")


def test_folders_without_persons_or_pictures_are_refused(tmp_path):
    with pytest.raises(BadData, match="has no folders of persons; expected a folder per person"):
        casia.load(tmp_path, "train")
    with pytest.raises(BadData, match="there is no folder"):
        casia.load(tmp_path / "gone", "train")
    (tmp_path / "0000040").mkdir()
    with pytest.raises(BadData, match="0000040 holds no pictures"):
        casia.load(tmp_path, "train")
    with pytest.raises(BadData, match="has no person in split val"):
        casia.load(tmp_path, "val")
    with pytest.raises(BadData, match="has no person in split val"):
        ms1m.load(tmp_path, "val")


def test_vggface2_reads_its_lists_or_its_folders(tmp_path):
    vggface2.sample(tmp_path)
    listed = {split: vggface2.load(tmp_path, split) for split in _people.SPLITS}
    assert [len(listed[split]) for split in _people.SPLITS] == [6, 4, 4]
    assert not set(persons(listed["train"])) & set(persons(listed["val"]))
    (tmp_path / "meta").mkdir()
    (tmp_path / "train_list.txt").rename(tmp_path / "meta" / "train.txt")
    assert vggface2.load(tmp_path, "train").names.tolist() == listed["train"].names.tolist()
    (tmp_path / "meta" / "train.txt").unlink()
    assert vggface2.load(tmp_path, "train").names.tolist() == listed["train"].names.tolist()
    assert listed["val"][0]["image"].shape == (180, 180, 3)


def test_vggface2_says_what_is_missing(tmp_path):
    with pytest.raises(BadData, match=r"there is no folder .*train; expected train/n000002"):
        vggface2.load(tmp_path, "val")
    put(tmp_path / "test" / "n000001" / "0001_01.jpg")
    (tmp_path / "test_list.txt").write_text("")
    with pytest.raises(BadData, match="has no person in split test"):
        vggface2.load(tmp_path, "test")


def test_a_listed_picture_that_is_not_there_is_named_when_it_is_read(tmp_path):
    vggface2.sample(tmp_path)
    data = vggface2.load(tmp_path, "train")
    data.path(1).unlink()
    assert len(vggface2.load(tmp_path, "train")) == 6
    with pytest.raises(BadData, match=r"_01\.jpg is missing, but the data set counts on it"):
        data[1]


def test_the_lists_of_c_ms_celeb_say_who_is_who(tmp_path):
    for name in ("m.01/1-FaceId-0.jpg", "m.01/2-FaceId-0.jpg", "m.02/1-FaceId-0.jpg"):
        put(tmp_path / name)
    who = next(name for name in ("m.03", "m.04", "m.05") if _people.split_of(name) == "train")
    (tmp_path / ms1m.LISTS[0]).write_text(f"{who} m.01/1-FaceId-0.jpg\n{who} m.02/1-FaceId-0.jpg\n")
    (tmp_path / ms1m.LISTS[1]).write_text(f"{who} m.01/2-FaceId-0.jpg\n{who} m.01/1-FaceId-0.jpg\n")
    data = ms1m.load(tmp_path, "train")
    assert data.names.tolist() == [b"m.01/1-FaceId-0.jpg", b"m.01/2-FaceId-0.jpg", b"m.02/1-FaceId-0.jpg"]
    assert data.person.tolist() == [0, 0, 0]


def test_a_list_is_text_in_an_ordinary_file(tmp_path):
    (tmp_path / "list").write_bytes(b"m.01/a.jpg\n\xff/b.jpg\n")
    with pytest.raises(BadData, match=r"line 2 of .*list is not UTF-8 text"):
        list(_people.listed(tmp_path / "list"))
    os.mkfifo(tmp_path / "pipe")  # nobody writes: opening it would wait for ever
    with pytest.raises(BadData, match="pipe is not an ordinary file"):
        list(_people.listed(tmp_path / "pipe"))


def test_a_rec_file_is_not_read(tmp_path):
    (tmp_path / "train.rec").write_bytes(b"")
    with pytest.raises(BadData, match=r"holds a \.rec file, which is not read; unpack it"):
        ms1m.load(tmp_path, "train")


# ── .pts ───────────────────────────────────────────────────────────────────────────────────────────────────

PTS = "version: 1\nn_points:  68\n{{\n{}\n}}\n"


def write_pts(path, first="1 1", count=68):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PTS.format("\n".join([first, *["10.5 20"] * (count - 1)])))


def test_pts_count_pixel_centres_from_one(tmp_path):
    write_pts(tmp_path / "a.pts")
    assert pts68.read_pts(tmp_path / "a.pts")[:2].tolist() == [[0.5, 0.5], [10, 19.5]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (PTS.format("1 1\n2 2"), r"a\.pts has 4 numbers in its braces; expected n_points: 68"),
        (PTS.format("x y"), r"a\.pts (is not a \.pts file|cannot be read \(not UTF-8 text\))"),
        (PTS.format("\n".join(["nan 1"] * 68)), "has 136 numbers"),
        ("", "has 0 numbers"),
    ],
)
def test_a_bad_pts_file_is_named(tmp_path, content, message):
    (tmp_path / "a.pts").write_text(content)
    with pytest.raises(BadData, match=message):
        pts68.read_pts(tmp_path / "a.pts")


def test_a_binary_pts_file_is_named(tmp_path):
    (tmp_path / "a.pts").write_bytes(b"\xff\xfe{")
    with pytest.raises(BadData, match=r"a\.pts (is not a \.pts file|cannot be read \(not UTF-8 text\))"):
        pts68.read_pts(tmp_path / "a.pts")


def test_300w_is_split_as_everybody_does(tmp_path):
    train = next(f"p{k}" for k in range(9) if _people.split_of(f"p{k}") == "train")
    for place in ("afw", "helen/trainset", "helen/testset", "lfpw/testset", "IBUG", "01_Indoor"):
        write_pts(tmp_path / place / f"{train}.pts")
        put(tmp_path / place / f"{train}.{'PNG' if 'lfpw' in place else 'jpg'}")
    put(tmp_path / "afw" / "without_points.jpg")
    assert [points.parent.name for points, _ in pts68.load(tmp_path, "train").files] == ["afw", "trainset"]
    assert len(pts68.load(tmp_path, "test")) == 4
    assert len(pts68.load(tmp_path / "IBUG", "test")) == 1
    with pytest.raises(BadData, match=r"none of the 6 \.pts files under .* is in split val"):
        pts68.load(tmp_path, "val")


def test_a_mirrored_copy_is_in_the_split_of_its_original(tmp_path):
    for k in range(60):
        for name in (f"p{k}", f"p{k}_mirror"):
            write_pts(tmp_path / f"{name}.pts")
            put(tmp_path / f"{name}.jpg")
    for split in ("train", "val"):
        names = {points.stem for points, _ in pts68.load(tmp_path, split).files}
        assert {name.removesuffix("_mirror") + "_mirror" for name in names} <= names


def test_points_without_a_photo_are_refused(tmp_path):
    write_pts(tmp_path / "afw" / "lonely.pts")
    split = "val" if _people.split_of("lonely") == "val" else "train"
    with pytest.raises(BadData, match=r"lonely\.pts has no photo beside it"):
        pts68.load(tmp_path, split)


# ── 300W-LP ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def large_poses(tmp_path_factory):
    folder = tmp_path_factory.mktemp("300W-LP")
    w300lp.sample(folder)
    return folder


def test_a_face_and_its_mirror_image_are_two_persons_of_one_split(large_poses):
    data = w300lp.load(large_poses, "train")
    assert len(data) == 16  # 4 sets, 2 poses, 2 mirror images
    assert data.person.max() == 7
    assert np.bincount(data.person).tolist() == [2] * 8
    assert len({name.rsplit("_", 1)[0] for name in data.names.tolist()}) == 4


def test_mirror_images_have_mirrored_points(large_poses):
    data = w300lp.load(large_poses, "train")
    first = data.names.tolist().index(data.names[0], 1)  # the same name in AFW_Flip
    original, mirrored = data[0], data[first]
    np.testing.assert_allclose(mirrored["image"][:, ::-1].astype(float), original["image"], atol=40)  # JPEG
    np.testing.assert_allclose(mirrored["landmarks68"][36], [450, 0] + [-1, 1] * original["landmarks68"][45], atol=1e-4)
    pitch, yaw, roll = euler_from_rotation(original["rotation"].astype(float))
    again = euler_from_rotation(mirrored["rotation"].astype(float))
    np.testing.assert_allclose(again, (pitch, -yaw, -roll), atol=1e-6)


def test_mirroring_twice_changes_nothing():
    np.testing.assert_array_equal(w300lp.IBUG_MIRRORED[w300lp.IBUG_MIRRORED], np.arange(68))
    mean = _people.mean_points()
    np.testing.assert_allclose(mean[w300lp.IBUG_MIRRORED] * [-1, 1, 1], mean, atol=1.0)  # our mean face is symmetric


def test_both_kinds_of_points_are_read(large_poses):
    item = w300lp.load(large_poses, "train")[0]
    content = loadmat(next((large_poses / "landmarks" / "AFW").glob("*.mat")))
    assert content["pts_2d"].shape == (68, 2)
    np.testing.assert_allclose(item["landmarks68_projected"] - item["landmarks68"], [[0, 1]] * 68, atol=1e-4)


def test_the_params_of_the_sample_project_the_mean_face_to_its_points(large_poses):
    for item in (w300lp.load(large_poses, "val")[k] for k in range(4)):
        matrix = item["params240"][:12].reshape(3, 4).astype(float)
        space = 1000 * _people.mean_points() @ matrix[:, :3].T + matrix[:, 3]
        points = np.column_stack([space[:, 0], 450 - space[:, 1]])
        np.testing.assert_allclose(points, item["landmarks68"], atol=0.05)


@pytest.fixture(scope="module")
def oracle(shared):
    """3DDFA's 68 points and the 16 faces of AFLW2000-3D, whose .mat files are like 300W-LP's."""
    folder = shared("oracles")
    load = {name: np.loadtxt(folder / "tddfa" / f"{name}_base.txt") for name in ("u", "w_shp", "w_exp")}
    modes = np.hstack([load["w_shp"].reshape(204, 40), load["w_exp"].reshape(204, 10)])
    return load["u"].ravel(), modes, sorted((folder / "aflw2000").glob("*.mat"))


def test_params_project_3ddfas_model_to_the_points_of_aflw2000(oracle):
    mean, modes, files = oracle
    assert len(files) == 16
    for file in files:
        content = loadmat(file)
        pose, shape, expression = (content[k].ravel().astype(float) for k in ("Pose_Para", "Shape_Para", "Exp_Para"))
        params = w300lp.parameters(pose, shape, expression)[w300lp.CUT].astype(float)
        matrix = params[:12].reshape(3, 4)
        space = (mean + modes @ params[12:]).reshape(68, 3) @ matrix[:, :3].T + matrix[:, 3]
        points = np.column_stack([space[:, 0], 450 - space[:, 1]])
        true = content["pt3d_68"][:2].T - 0.5
        assert np.linalg.norm(points - true, axis=1).mean() < 3  # 40 + 10 of 199 + 29 coefficients
        bias = (points - true).mean(0)
        assert np.abs(bias).max() < 1.2


def test_rotations_of_aflw2000_agree_with_the_best_fit_of_a_head_to_its_points(oracle):
    """A check that does not know Pose_Para: our mean face, turned onto pt3d_68 (y down, z to the viewer)."""
    _, _, files = oracle
    for file in files:
        content = loadmat(file)
        pose = content["Pose_Para"].ravel().astype(float)
        points = content["pt3d_68"].T.astype(float) * [1, 1, -1]
        _, fitted, _ = align(_people.mean_points(), points)
        between = fitted.T @ w300lp.camera_from_pose_para(pose[0], pose[1], pose[2])
        angle = np.degrees(np.arccos(np.clip((np.trace(between) - 1) / 2, -1, 1)))
        assert angle < 12, file.name  # two different mean faces, one of them with an expression


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda root, name: (root / "AFW" / f"{name}.mat").unlink(), r"\.mat is missing, the labels of a picture"),
        (lambda root, name: (root / "AFW" / f"{name}.mat").write_bytes(b"MATLAB 5.0"), "is not a Matlab file"),
        (
            lambda root, name: savemat(root / "landmarks" / "AFW" / f"{name}_pts.mat", {"pts_2d": np.zeros((68, 2))}),
            "should have pts_3d with 136 numbers, but has none",
        ),
        (
            lambda root, name: savemat(root / "AFW" / f"{name}.mat", {"Pose_Para": np.zeros((1, 6))}),
            r"should have Pose_Para with 7 numbers, but has \(1, 6\)",
        ),
    ],
)
def test_spoilt_labels_of_300w_lp_are_named(large_poses, tmp_path, spoil, message):
    shutil.copytree(large_poses, tmp_path / "copy")
    data = w300lp.load(tmp_path / "copy", "train")
    spoil(tmp_path / "copy", data.names[0])
    with pytest.raises(BadData, match=message):
        data[0]


def test_a_part_of_300w_lp_that_is_missing_is_named(tmp_path):
    for name in w300lp.SETS:
        (tmp_path / name).mkdir()
    with pytest.raises(BadData, match="has no folder AFW_Flip, HELEN_Flip, IBUG_Flip, LFPW_Flip, landmarks; expected"):
        w300lp.load(tmp_path, "train")
    for name in ("landmarks", *(f"{name}_Flip" for name in w300lp.SETS)):
        (tmp_path / name).mkdir()
    with pytest.raises(BadData, match=r"AFW has no \.jpg"):
        w300lp.load(tmp_path, "train")
    for name in w300lp.SETS:
        for flip in ("", "_Flip"):
            put(tmp_path / f"{name}{flip}" / "AFW_1_1_0.jpg")
    other = "val" if _people.split_of("AFW_1_1") != "val" else "test"
    with pytest.raises(BadData, match=f"has no face in split {other}"):
        w300lp.load(tmp_path, other)


# ── 3DDFA's crops ──────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def crops(tmp_path):
    aflwcrops.sample(tmp_path)
    return tmp_path


def test_crops_of_one_face_are_one_person(crops):
    data = aflwcrops.load(crops, "train")
    assert data.person.tolist() == [0, 0, 0, 0, 1, 1, 1, 1]
    assert data.names[0] == b"HELEN_HELEN_1_1_0_0.jpg"


def test_crops_have_the_points_of_the_model_in_train_configs(crops):
    data = aflwcrops.load(crops, "train")
    rng = np.random.default_rng(0)
    drawn = _people.cartoon(_seeded_like_the_sample(rng), 120, 0)
    np.testing.assert_allclose(data[0]["landmarks68_3d"], drawn.points, atol=0.6)  # expressions are noise
    np.testing.assert_allclose(data[0]["rotation"], drawn.rotation, atol=1e-4)


def _seeded_like_the_sample(rng):
    rng.normal(size=(204, 50))
    return rng


def test_points_of_crops_agree_with_3ddfas_own_rule(shared, tmp_path):
    """reconstruct_vertex of 3DDFA's utils/ddfa.py: y turned about 121, pixel centres counted from 1."""
    parts = {name: np.loadtxt(shared("oracles/tddfa") / f"{name}_base.txt") for name in ("u", "w_shp", "w_exp")}
    mean, shape, expression = parts["u"].ravel(), parts["w_shp"].reshape(204, 40), parts["w_exp"].reshape(204, 10)
    for name, array in zip(aflwcrops.BASIS, (mean, 0 * mean, shape, expression, np.arange(204)), strict=True):
        np.save(tmp_path / name, array)
    params = np.array([1e-4, 2e-5, 0, 60.5, -2e-5, 1e-4, 1e-5, 58.25, 0, 0, 1e-4, -66] + [0.0] * 50)
    params[12:] = np.random.default_rng(0).normal(size=50) * ([1e5] * 40 + [1.0] * 10)
    matrix, vertex = params[:12].reshape(3, 4), mean + shape @ params[12:52] + expression @ params[52:]
    vertex = matrix[:, :3] @ vertex.reshape(3, -1, order="F") + matrix[:, 3:]
    vertex[1] = 121 - vertex[1]
    params[[3, 7]] -= 0.5
    points = aflwcrops.Basis(tmp_path).points(params, 120)
    np.testing.assert_allclose(points[:, :2], vertex[:2].T - 0.5, atol=1e-9)
    np.testing.assert_allclose(points[:, 2], -vertex[2])


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda c: (c / "param_whitening.pkl").unlink(), r"param_whitening\.pkl is missing"),
        (lambda c: (c / "u_exp.npy").unlink(), r"u_exp\.npy is missing"),
        (lambda c: (c / "u_exp.npy").write_bytes(b"no"), r"u_exp\.npy is not a \.npy file"),
        (lambda c: (c / "param_all_norm.pkl").write_bytes(b"no"), r"param_all_norm\.pkl is not a pickle"),
        (lambda c: (c / "param_whitening.pkl").write_bytes(pickle.dumps({"a": 1})), "should hold param_mean and"),
        (lambda c: (c / "param_whitening.pkl").write_bytes(pickle.dumps(3)), "should hold param_mean and"),
        (lambda c: np.save(c / "keypoints_sim.npy", np.arange(3)), "has 3 rows of points"),
        (lambda c: (c / "train_aug_120x120.list.train").write_text("a.jpg\n"), r"has 1 lines and param_all_norm\.pkl"),
        (lambda c: (c / "other.list.train").write_text("a.jpg\n"), r"has 2 files \*\.list\.train; expected one"),
        (
            lambda c: (c / "train_aug_120x120.list.train").rename(c / "aflw.list.train"),
            r"there is no folder .*aflw, which aflw\.list\.train lists",
        ),
    ],
)
def test_spoilt_configs_of_crops_are_named(crops, spoil, message):
    spoil(crops / "train.configs")
    with pytest.raises(BadData, match=message):
        aflwcrops.load(crops, "train")


def test_pickles_of_crops_cannot_run_anything(crops):
    class Harm:
        def __reduce__(self):
            return exec, ("harm()",)

    (crops / "train.configs" / "param_all_norm.pkl").write_bytes(pickle.dumps(Harm()))
    with pytest.raises(BadData, match=r"asks for builtins\.exec.*nothing was run"):
        aflwcrops.load(crops, "train")


def test_crops_have_no_test_split(crops):
    with pytest.raises(ValueError, match="there is no split 'test'; the splits are train, val"):
        aflwcrops.load(crops, "test")


# ── 3DFAW ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_3dfaw_is_split_by_its_folders_and_depthnets_list(tmp_path):
    fw3d.sample(tmp_path)
    names = {split: fw3d.load(tmp_path, split).names for split in _people.SPLITS}
    assert [len(names[split]) for split in _people.SPLITS] == [4, 2, 2]
    assert not set(names["val"]) & set(names["test"])
    (tmp_path / fw3d.LIST).unlink()
    assert fw3d.load(tmp_path, "val").names == names["val"] + names["test"]
    with pytest.raises(BadData, match=r"has no list_valid_test\.txt, so split test is not known"):
        fw3d.load(tmp_path, "test")


@given(pitch=st.floats(-0.6, 0.6), yaw=st.floats(-1.5, 1.5), roll=st.floats(-1, 1), sign=st.sampled_from([1.0, -1.0]))
def test_depth_grows_away_from_the_viewer_whatever_the_files_sign(pitch, yaw, roll, sign):
    rotation = rotation_from_euler(*(np.array(angle) for angle in (pitch, yaw, roll)))
    points = _people.mean_points()[fw3d.KEPT] @ rotation.T
    np.testing.assert_allclose(fw3d.upright(points * [1, 1, sign]), points)


def test_the_points_of_3dfaw_are_ibugs_without_the_inner_corners_of_the_mouth(tmp_path):
    assert len(fw3d.KEPT) == 66
    assert fw3d.KEPT[[60, 61, 65]].tolist() == [61, 62, 67]
    (tmp_path / "a.csv").write_text("\n".join(["1,1,5"] * 66))
    assert fw3d.read_points(tmp_path / "a.csv")[0].tolist() == [0.5, 0.5, 5]


def test_spoilt_points_of_3dfaw_are_named(tmp_path):
    (tmp_path / "a.csv").write_text("1,2,3\n")
    with pytest.raises(BadData, match=r"a\.csv holds numbers of shape \(1, 3\); expected 66 lines"):
        fw3d.read_points(tmp_path / "a.csv")
    (tmp_path / "a.csv").write_text("a,b,c\n")
    with pytest.raises(BadData, match=r"a\.csv is not a list of points"):
        fw3d.read_points(tmp_path / "a.csv")
    with pytest.raises(BadData, match=r"gone\.csv is missing"):
        fw3d.read_points(tmp_path / "gone.csv")


def test_missing_parts_of_3dfaw_are_named(tmp_path):
    fw3d.sample(tmp_path)
    (tmp_path / fw3d.LIST).write_text("valid_0000,maybe\n")
    with pytest.raises(BadData, match="has lines that are not `ID,valid`"):
        fw3d.load(tmp_path, "val")
    for picture in (tmp_path / "train_img").iterdir():
        picture.unlink()
    with pytest.raises(BadData, match="has no pictures in split train"):
        fw3d.load(tmp_path, "train")
    (tmp_path / "train_img").rmdir()
    with pytest.raises(BadData, match=r"there is no folder .*train_img; expected"):
        fw3d.load(tmp_path, "train")
