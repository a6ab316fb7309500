"""Crops by hand and by law; networks that are not what they should be."""

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from sameface.core.errors import AssetMissing, BadPhoto
from sameface.core.geometry import apply_affine
from sameface.photo import predictor
from sameface.photo.predictor import (
    Predictor,
    affine_from_five_points,
    affine_from_landmarks,
    load,
    networks_name,
    networks_sha256,
)

seeds = st.integers(0, 2**32 - 1)
FACE = np.array([[-30.0, 0], [30, 0], [0, 40], [-25, 65], [25, 65]])
"""right eye, left eye, nose tip, right and left mouth corner of an upright frontal face"""


def placed(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float, float]:
    """A similarity of the photo plane: its matrix, shift, scale and turn."""
    turn, scale = rng.uniform(-np.pi, np.pi), rng.uniform(0.2, 8)
    linear = scale * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return linear, rng.uniform(-500, 500, 2), scale, turn


def outline(rng: np.random.Generator) -> np.ndarray:
    """164 points around FACE."""
    return FACE.mean(0) + rng.uniform([-70, -60], [70, 90], (164, 2))


# ── crops ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_frontal_upright_face_by_hand():
    affine = affine_from_five_points(FACE, 96)
    side = 1.4 * 2.55 * 65  # eyes to mouth is 65 px, more than 1.07 times the 60 px between the eyes
    np.testing.assert_allclose(affine[:, :2], np.eye(2) * 96 / side)
    centre = 0.7 * np.array([0, 0.47 * 65]) + 0.3 * FACE[2]
    np.testing.assert_allclose(apply_affine(affine, centre[None])[0], [48, 48])


def test_the_landmark_box_fills_its_share_of_the_crop():
    points = np.array([[-50.0, -40], [50, -40], [50, 100], [-50, 100]])
    found = apply_affine(affine_from_landmarks(points, FACE, 140), points)
    np.testing.assert_allclose(found.min(0), [70 - 50 / 1.4, 20])
    np.testing.assert_allclose(found.max(0), [70 + 50 / 1.4, 120])


@given(seed=seeds)
def test_crops_are_upright_and_the_same_however_the_photo_is_turned(seed):
    rng = np.random.default_rng(seed)
    linear, shift, *_ = placed(rng)
    points = outline(rng)
    for plain, moved in (
        (affine_from_five_points(FACE, 96), affine_from_five_points(FACE @ linear.T + shift, 96)),
        (
            affine_from_landmarks(points, FACE, 96),
            affine_from_landmarks(points @ linear.T + shift, FACE @ linear.T + shift, 96),
        ),
    ):
        np.testing.assert_allclose(apply_affine(moved, FACE @ linear.T + shift), apply_affine(plain, FACE), atol=1e-6)


@given(seed=seeds)
def test_crops_are_similarities_with_an_inverse(seed):
    rng = np.random.default_rng(seed)
    linear, shift, *_ = placed(rng)
    five = (FACE + rng.normal(0, 8, (5, 2))) @ linear.T + shift
    for affine in (affine_from_five_points(five, 112), affine_from_landmarks(five, five, 112)):
        a = affine[:, :2]
        scale = np.sqrt(np.linalg.det(a))
        np.testing.assert_allclose(a @ a.T, scale**2 * np.eye(2), atol=1e-9)
        back = np.linalg.inv(np.vstack([affine, [0, 0, 1]]))[:2]
        np.testing.assert_allclose(apply_affine(back, apply_affine(affine, five)), five, atol=1e-6)
        eyes, mouth = (apply_affine(affine, part.mean(0)[None])[0] for part in (five[:2], five[3:]))
        assert eyes[1] < mouth[1]


@given(seed=seeds, size=st.sampled_from([64, 96, 256]))
def test_a_larger_crop_is_the_same_crop_with_more_pixels(seed, size):
    rng = np.random.default_rng(seed)
    points = outline(rng)
    np.testing.assert_allclose(affine_from_five_points(FACE, size), affine_from_five_points(FACE, 32) * size / 32)
    np.testing.assert_allclose(
        affine_from_landmarks(points, FACE, size), affine_from_landmarks(points, FACE, 32) * size / 32
    )


def test_in_profile_the_crop_stays_upright():
    """Both eyes and both mouth corners nearly coincide."""
    profile = np.array([[0.0, 0], [2, 3], [-35, 40], [-5, 65], [-3, 64]])
    affine = affine_from_five_points(profile, 96)
    assert abs(np.degrees(np.arctan2(affine[1, 0], affine[0, 0]))) < 10


def test_points_that_coincide_are_refused():
    with pytest.raises(ValueError, match="the five points coincide"):
        affine_from_five_points(np.full((5, 2), 7.0), 96)
    with pytest.raises(ValueError, match="the five points coincide"):
        affine_from_landmarks(FACE, np.full((5, 2), 7.0), 96)


# ── networks ───────────────────────────────────────────────────────────────────────────────────────────────


def network(path: Path, described: bool = True) -> Path:
    """A network that gives the mean of each crop's channels and twice the crop."""
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 4, 4])
    outputs = [
        helper.make_tensor_value_info("mean", TensorProto.FLOAT, ["batch", 3]),
        helper.make_tensor_value_info("double", TensorProto.FLOAT, ["batch", 3, 4, 4]),
    ]
    nodes = [
        helper.make_node("ReduceMean", ["images", "axes"], ["mean"], keepdims=0),
        helper.make_node("Add", ["images", "images"], ["double"]),
    ]
    axes = helper.make_tensor("axes", TensorProto.INT64, [2], [2, 3])
    graph = helper.make_graph(nodes, "tiny", [images], outputs, [axes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    if described:
        about = {"method": "tiny", "version": "2.1", "crop": {"size": 4}}
        helper.set_model_props(model, {"sameface": json.dumps(about)})
    onnx.save(model, path)
    return path


def test_a_network_of_ones_own_answers_by_name(tmp_path):
    tiny = load(str(network(tmp_path / "tiny.onnx")))
    assert (tiny.name, tiny.size) == ("tiny@2.1", 4)
    crops = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), dtype=np.uint8)
    answer = tiny(crops)
    assert list(answer) == ["mean", "double"]
    np.testing.assert_allclose(answer["mean"], crops.mean((1, 2)) / 255, atol=1e-6)  # RGB in [0, 1]
    np.testing.assert_allclose(answer["double"], 2 * (crops.transpose(0, 3, 1, 2) / 255), atol=1e-6)


def test_a_network_is_loaded_once(tmp_path):
    path = network(tmp_path / "tiny.onnx")
    assert load(str(path)) is load(str(tmp_path / "." / "tiny.onnx"))


def test_wrong_crops_are_refused(tmp_path):
    tiny = load(str(network(tmp_path / "tiny.onnx")))
    expected = r"tiny@2\.1 takes \(B, 4, 4, 3\) uint8, but got \(2, 5, 4, 3\) uint8"
    with pytest.raises(ValueError, match=expected):
        tiny(np.zeros((2, 5, 4, 3), np.uint8))


def test_unknown_names_are_answered_with_the_known():
    with pytest.raises(AssetMissing, match=r"there is no network 'nobody'; there are: .*or the path of your own"):
        load("nobody")
    with pytest.raises(AssetMissing, match=r"no network '.*none\.onnx'"):
        load("some/where/none.onnx")


def test_networks_that_see_no_crop_of_a_face_are_not_offered_as_predictors():
    with pytest.raises(AssetMissing) as caught:
        load("nobody")
    assert "detect" not in str(caught.value)
    assert "eyes" not in str(caught.value)


def test_files_that_are_no_networks_are_named(tmp_path):
    path = tmp_path / "text.onnx"
    path.write_text("not a network")
    with pytest.raises(AssetMissing, match=r"text\.onnx is not a network that onnxruntime can load"):
        _ = load(str(path)).size


@pytest.mark.parametrize(
    ("about", "message"),
    [
        ("{", "description that cannot be meant"),
        ("[]", "it is no JSON object"),
        ("[" * 100_000, "description that cannot be meant"),
        ('{"crop": 5}', "takes crops of None px"),
        ('{"crop": {"size": 1000000000}}', "takes crops of 1000000000 px"),
        ('{"method": null, "crop": {"size": 4}}', "method, version and morphable are not all texts"),
        ('{"crop": {"size": 4}, "views": ["a"]}', "views are not all numbers"),
    ],
)
def test_descriptions_that_cannot_be_meant_are_named(tmp_path, about, message):
    path = network(tmp_path / "odd.onnx", described=False)
    model = onnx.load(path)
    helper.set_model_props(model, {"sameface": about})
    onnx.save(model, path)
    with pytest.raises(AssetMissing, match=rf"odd\.onnx .*{message}"):
        _ = load(str(path)).size


def test_a_network_reads_no_other_file(tmp_path):
    (tmp_path / "secret").write_bytes(np.ones(4, np.int64).tobytes())
    path = network(tmp_path / "other.onnx")
    model = onnx.load(path)
    weights = model.graph.initializer[0]
    weights.ClearField("int64_data")
    weights.ClearField("raw_data")
    weights.data_location = TensorProto.EXTERNAL
    entry = weights.external_data.add()
    entry.key, entry.value = "location", "secret"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(AssetMissing, match=r"other\.onnx keeps its weights in other files, which are not read"):
        _ = load(str(path)).size


def test_a_network_that_takes_other_crops_than_it_says_is_named(tmp_path):
    path = network(tmp_path / "liar.onnx", described=False)
    model = onnx.load(path)
    helper.set_model_props(model, {"sameface": json.dumps({"method": "a", "version": "1", "crop": {"size": 8}})})
    onnx.save(model, path)
    with pytest.raises(AssetMissing, match=r"liar\.onnx does not take crops as its description says"):
        load(str(path))(np.zeros((1, 8, 8, 3), np.uint8))


def test_a_pipe_is_no_network(tmp_path):
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(AssetMissing, match=r"pipe\.onnx is not an ordinary file"):
        _ = load(str(tmp_path / "pipe.onnx")).size


def test_networks_of_others_are_told_how_to_become_ours(tmp_path):
    other = load(str(network(tmp_path / "other.onnx", described=False)))
    with pytest.raises(AssetMissing, match=r"other\.onnx carries no sameface description; export it with"):
        _ = other.description


def test_the_network_that_ships_describes_itself():
    shipped = load()
    assert shipped.description["morphable"] == "sameface-ict"
    answer = shipped(np.full((2, shipped.size, shipped.size, 3), 127, np.uint8))
    points = len(shipped.description["point_ids"])
    assert answer["landmarks"].shape == (2, points, 2)
    assert answer["identity"].shape == (2, 80)
    assert answer["expression"].shape == (2, 51)
    for value in answer.values():
        assert np.isfinite(value).all()
    np.testing.assert_allclose(answer["rotation"] @ answer["rotation"].swapaxes(1, 2), [np.eye(3)] * 2, atol=1e-4)
    assert predictor.load() is shipped


def test_what_measured_a_photo_is_named_and_has_one_digest(tmp_path):
    """A digest over the digests of the files, in this order; another network for points changes both."""
    files = [predictor.ASSETS / f"{name}.onnx" for name in ("default", "identity", "eyes")]
    digests = "".join(hashlib.sha256(file.read_bytes()).hexdigest() for file in files)
    assert networks_sha256() == hashlib.sha256(digests.encode()).hexdigest()
    assert [name.split("@")[0] for name in networks_name().split()] == ["isoface", "recogniser", "eyes"]
    mine = str(network(tmp_path / "mine.onnx"))
    assert networks_name(mine).split()[1:] == networks_name().split()[1:]
    assert networks_name(mine) != networks_name()
    assert networks_sha256(mine) != networks_sha256()


def test_a_network_that_answers_nan_is_named(monkeypatch):
    network = load("default")
    session = network._session

    class Broken:
        def __getattr__(self, name):
            return getattr(session, name)

        def run(self, names, inputs):
            return [answer * np.nan for answer in session.run(names, inputs)]

    broken = Predictor(network.path)
    monkeypatch.setitem(broken.__dict__, "_session", Broken())
    with pytest.raises(BadPhoto, match="not finite"):
        broken(np.zeros((1, network.size, network.size, 3), np.uint8))
