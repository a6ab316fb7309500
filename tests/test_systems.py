"""Systems that can be evaluated: our pipeline, the mean face, and networks in files, brought from crops into photos."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from faces import GRACE, astronaut, encoded, from_far, from_near, person, scenery, seen_by, two_people
from sameface import morphable
from sameface.core.errors import AssetMissing, BadData, BadPhoto, NoFaceFound
from sameface.core.geometry import apply_affine, euler_from_rotation
from sameface.evaluation import case_photos, systems
from sameface.evaluation.case import Case
from sameface.photo import image
from sameface.photo.observe import observe
from sameface.photo.predictor import FIVE, SPHEREFACE_FIVE, five_of_68
from sameface.photo.predictor import load as load_network
from sameface.reconstruction.reconstruct import look, reconstruct

DEFAULT = Path(systems.__file__).parent.parent / "assets" / "default.onnx"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for name, pixels in (("anna", astronaut()), ("two", two_people()), ("scenery", scenery())):
        (root / f"{name}.png").write_bytes(encoded(pixels))
    (root / "focal.jpg").write_bytes(encoded(astronaut()[30:210], "JPEG", focal_35mm=50))
    (root / "broken.png").write_bytes(b"not a photo")
    (root / "again").mkdir()
    (root / "again" / "anna.png").write_bytes(encoded(astronaut()[:, ::-1]))
    return root


def case(folder: Path, *names: str, places=None) -> Case:
    return Case("one", tuple(folder / name for name in names), places or (None,) * len(names))


def network(path: Path, outputs: dict[str, np.ndarray], size: int = 8, **description) -> Path:
    """An .onnx that says the same of every crop: `outputs`, each without its batch axis."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["grey"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Sub", ["grey", "grey"], ["nothing"]),
    ]
    values, results = [], []
    for name, value in outputs.items():
        shape = [-1] + [1] * value.ndim
        values.append(numpy_helper.from_array(value[None].astype(np.float32), f"{name} value"))
        values.append(numpy_helper.from_array(np.array(shape, np.int64), f"{name} shape"))
        nodes.append(helper.make_node("Reshape", ["nothing", f"{name} shape"], [f"{name} nothing"]))
        nodes.append(helper.make_node("Add", [f"{name} value", f"{name} nothing"], [name]))
        results.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, ["batch", *value.shape]))
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, size, size])
    graph = helper.make_graph(nodes, "fixed", [images], results, values)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    about = {"method": "fixed", "version": "1", "crop": {"size": size, "rule": "box68", "factor": 1.5}, **description}
    helper.set_model_props(model, {"sameface": json.dumps({k: v for k, v in about.items() if v is not None})})
    onnx.save(model, path)
    return path


POINTS = np.random.default_rng(0).uniform(-0.4, 0.4, (68, 3))


# ── our pipeline ───────────────────────────────────────────────────────────────────────────────────────────


def test_default_says_what_reconstruct_says(folder):
    system, answer = systems.load("default"), systems.load("default")(case(folder, "anna.png"))
    expected = reconstruct(folder / "anna.png")
    assert system.name == "default"
    np.testing.assert_allclose(answer.landmarks[0, :, :2], expected.views[0].landmarks, atol=1e-3)
    np.testing.assert_allclose(answer.neutral, expected.vertices(), atol=1e-3)
    np.testing.assert_allclose(answer.codes["identity"], [expected.identity])
    np.testing.assert_allclose(answer.rotation, [expected.views[0].camera.pose])
    np.testing.assert_allclose(answer.neutral_landmarks, expected.model.landmarks(expected.vertices()), atol=1e-3)
    flat = expected.views[0].camera.project(expected.vertices(0).astype(float))
    np.testing.assert_allclose(answer.vertices[0, :, :2], flat, atol=1e-2)
    assert answer.faces is expected.model.faces
    assert set(answer.codes) == {"identity"}


def test_depth_has_the_scale_of_the_photo_and_grows_away_from_the_viewer(folder):
    answer = systems.load("default")(case(folder, "anna.png"))
    model, seen = morphable.default(), reconstruct(folder / "anna.png").views[0]
    nose, ears = answer.landmarks[0, 30, 2], answer.landmarks[0, [0, 16], 2].mean()
    assert nose < ears
    size = np.linalg.norm(np.ptp(answer.vertices[0], axis=0)) / np.linalg.norm(np.ptp(model.mean, axis=0))
    assert size == pytest.approx(float(seen.camera.weak.scale), rel=0.1)


def test_a_photo_with_a_focal_length_is_seen_in_perspective(folder):
    answer = systems.load("default")(case(folder, "focal.jpg"))
    face = reconstruct(folder / "focal.jpg")
    expected = face.views[0]
    assert expected.focal_from == "exif"
    np.testing.assert_allclose(answer.landmarks[0, :, :2], expected.landmarks, atol=1e-2)
    apart = np.linalg.norm(answer.landmarks[0, 36] - answer.landmarks[0, 45])
    points = face.model.landmarks(face.vertices(0))
    magnified = float(expected.camera.focal / expected.camera.translation[2])
    assert apart == pytest.approx(magnified * np.linalg.norm(points[36] - points[45]), rel=0.05)


def test_photos_of_a_case_are_one_person_and_bad_ones_are_said(folder):
    asked = case(folder, "anna.png", "scenery.png", "again/anna.png", "broken.png")
    measured = systems.load("default").measure(asked)
    assert measured["left_out"][:, 0].tolist() == ["2/scenery.png", "4/broken.png"]
    assert measured["left_out"][:, 1].tolist() == ["NoFaceFound", "BadPhoto"]
    answer = systems.answer(measured)
    together = reconstruct(folder / "anna.png", folder / "again" / "anna.png")
    np.testing.assert_allclose(answer.codes["identity_joint"], [together.identity] * 2)
    np.testing.assert_allclose(answer.codes["identity"], [view.identity_alone for view in together.views])
    assert answer.landmarks.shape == (2, 68, 3)


def test_only_what_is_asked_for_is_made(folder):
    measured = systems.load("default").measure(case(folder, "anna.png"))
    answer = systems.answer(measured, ("codes",))
    assert set(answer.codes) == {"identity"}
    assert all(getattr(answer, name) is None for name in systems.ANSWERS if name != "codes")


@pytest.mark.parametrize("kind", ["68 points", "5 points", "box"])
@pytest.mark.parametrize("which", [0, 1])
def test_the_face_that_is_meant_is_taken(folder, kind, which):
    seen = look([folder / "two.png"]).faces[0][which]
    five = [load_network("default").description["point_ids"].index(k) for k in FIVE]
    place = {"68 points": seen.landmarks[:68], "5 points": seen.landmarks[five], "box": seen.box.reshape(2, 2)}[kind]
    answer = systems.load("default")(case(folder, "two.png", places=(place,)))
    box = seen.landmarks.min(0), seen.landmarks.max(0)
    assert (answer.landmarks[0, 30, :2] > box[0]).all()
    assert (answer.landmarks[0, 30, :2] < box[1]).all()


def test_a_face_where_nobody_was_found_is_a_failure(folder):
    nowhere = np.array([[1.0, 1.0], [9.0, 9.0]])
    with pytest.raises(NoFaceFound, match=r"the only face found in anna\.png is not where the one meant is"):
        systems.load("default")(case(folder, "anna.png", places=(nowhere,)))
    with pytest.raises(NoFaceFound, match=r"none of the 2 faces found in two\.png is where the one meant is"):
        systems.load("default")(case(folder, "two.png", places=(nowhere,)))
    with pytest.raises(NoFaceFound, match=r"no face in scenery.png .* \(and 1 more photos of this case"):
        systems.load("default")(case(folder, "scenery.png", "broken.png"))
    with pytest.raises(BadPhoto, match=r"broken\.png"):
        systems.load("mean")(case(folder, "broken.png"))


def test_a_case_that_contradicts_itself_is_the_callers_mistake(folder):
    with pytest.raises(ValueError, match="case one has 1 photos and 2 places"):
        systems.load("default")(case(folder, "anna.png", places=(None, None)))
    with pytest.raises(ValueError, match="by 7 points; expected 68, 5 or 2"):
        systems.load("default")(case(folder, "anna.png", places=(np.zeros((7, 2)),)))


# ── the mean face ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_mean_face_is_the_mean_placed_where_the_face_is(folder):
    answer = systems.load("mean")(case(folder, "anna.png", "again/anna.png"))
    model = morphable.default()
    np.testing.assert_allclose(answer.neutral, model.mean, atol=1e-4)
    assert answer.codes == {}
    theirs = systems.load("default")(case(folder, "anna.png"))
    apart = np.linalg.norm(answer.landmarks[0, :, :2] - theirs.landmarks[0, :, :2], axis=1)
    assert 0.1 < np.median(apart) < 8


def test_the_mean_faces_camera_is_the_best_for_what_was_seen(folder, monkeypatch):
    """A perfect observation of the mean face gives its camera back."""
    camera = from_far(0.4)
    seen = seen_by(camera, np.zeros(80), name="anna.png")
    monkeypatch.setattr(case_photos, "observe_turned", lambda *_, **__: [seen])
    answer = systems.load("mean")(case(folder, "anna.png"))
    model = morphable.default()
    np.testing.assert_allclose(answer.vertices[0, :, :2], camera.project(model.mean.astype(float)), atol=1e-2)


def test_perspective_places_points_as_its_camera_does(folder, monkeypatch):
    camera = from_near(0.3)
    seen = seen_by(camera, person(1), name="anna.png", focal=700.0)
    monkeypatch.setattr(case_photos, "observe_turned", lambda *_, **__: [seen])
    measured = systems.load("default").measure(case(folder, "anna.png"))
    assert np.isfinite(measured["center"]).all()
    answer = systems.answer(measured)
    shape = morphable.default().vertices(measured["identity"], measured["expression"][0])
    turned = shape @ measured["rotation"][0].T + measured["translation"][0]
    expected = measured["zoom"][0] * turned[:, :2] / turned[:, 2:] + measured["center"][0]
    np.testing.assert_allclose(answer.vertices[0, :, :2], expected, atol=1e-2)


# ── networks in files ──────────────────────────────────────────────────────────────────────────────────────


def test_our_own_network_in_a_file_is_the_whole_pipeline(folder, tmp_path):
    (tmp_path / "mine.onnx").write_bytes(DEFAULT.read_bytes())
    system = systems.load(str(tmp_path / "mine.onnx"))
    assert system.name == "mine"
    ours = systems.load("default")(case(folder, "anna.png"))
    np.testing.assert_allclose(system(case(folder, "anna.png")).neutral, ours.neutral)


def test_points_of_a_crop_around_true_landmarks_come_back_to_the_photo(folder, tmp_path):
    """box68: the side is 1.5 times the larger side of the box, (−½, −½) its upper left corner."""
    truth = np.random.default_rng(1).uniform([30, 40], [130, 200], (68, 2))
    system = systems.load(str(network(tmp_path / "fixed.onnx", {"landmarks68": POINTS})))
    answer = system(case(folder, "anna.png", "scenery.png", places=(truth, truth + 10)))
    low, high = truth.min(0), truth.max(0)
    side = 1.5 * (high - low).max()
    np.testing.assert_allclose(answer.landmarks[0, :, :2], (low + high) / 2 + side * POINTS[:, :2], atol=1e-3)
    np.testing.assert_allclose(answer.landmarks[0, :, 2], side * POINTS[:, 2], atol=1e-3)
    np.testing.assert_allclose(answer.landmarks[1, :, :2], answer.landmarks[0, :, :2] + 10, atol=1e-3)


def test_what_the_network_sees_is_the_crop(folder, tmp_path):
    """The crop's mean grey is a code here: a crop of the upper left corner is that part of the photo."""
    path = tmp_path / "grey.onnx"
    nodes = [helper.make_node("ReduceMean", ["images"], ["embedding"], axes=[2, 3], keepdims=0)]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["batch", 3, 40, 40])
    said = helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["batch", 3])
    graph = helper.make_graph(nodes, "grey", [images], [said])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    about = {"method": "grey", "version": "1", "crop": {"size": 40, "rule": "box68", "factor": 1.0}}
    helper.set_model_props(model, {"sameface": json.dumps(about)})
    onnx.save(model, path)
    place = np.tile(np.array([[20.0, 30.0], [60.0, 70.0]]), (34, 1))
    code = systems.load(str(path))(case(folder, "anna.png", places=(place,))).codes["embedding"]
    np.testing.assert_allclose(code[0], astronaut()[30:70, 20:60].mean((0, 1)) / 255, atol=1e-3)


def test_a_detectors_box_is_cropped_as_3ddfa_v2_does(folder, tmp_path):
    """factor √2: side 1.58 (w + h)/2, centre 0.14 (w + h)/2 lower; here w = 40, h = 60."""
    crop = {"size": 8, "rule": "box68", "factor": 2**0.5}
    system = systems.load(str(network(tmp_path / "fixed.onnx", {"landmarks68": POINTS}, crop=crop)))
    box = np.array([[100.0, 50.0], [140.0, 110.0]])
    points = system(case(folder, "anna.png", places=(box,))).landmarks[0]
    np.testing.assert_allclose(points[:, :2], [120, 87] + 79 * POINTS[:, :2], atol=1e-3)


@pytest.mark.parametrize("place", [None, "5 points"])
def test_without_true_landmarks_the_crop_is_around_our_own(folder, tmp_path, place):
    seen = observe(image.read(folder / "anna.png"), load_network("default"))[0]
    five = [load_network("default").description["point_ids"].index(k) for k in FIVE]
    given = None if place is None else seen.landmarks[five]
    system = systems.load(str(network(tmp_path / "fixed.onnx", {"landmarks68": POINTS})))
    points = system(case(folder, "anna.png", places=(given,))).landmarks[0]
    own = reconstruct(folder / "anna.png").views[0].landmarks
    side = 1.5 * np.ptp(own, axis=0).max()
    np.testing.assert_allclose(points[:, :2], (own.min(0) + own.max(0)) / 2 + side * POINTS[:, :2], atol=1e-2)


def test_five_points_are_aligned_as_sphereface_does(folder, tmp_path):
    """The five points of the crop come back to the five of the photo, however these are told."""
    inside = np.zeros((68, 3))
    inside[:5, :2] = SPHEREFACE_FIVE / 112 - 0.5
    crop = {"size": 56, "rule": "sphereface5"}
    system = systems.load(str(network(tmp_path / "fixed.onnx", {"landmarks68": inside}, size=56, crop=crop)))
    five = np.array([[20.0, -10.0]]) + 1.3 * SPHEREFACE_FIVE @ np.array([[0.8, 0.6], [-0.6, 0.8]])
    points = system(case(folder, "anna.png", places=(five,))).landmarks[0]
    np.testing.assert_allclose(points[:5, :2], five, atol=1e-2)
    for place in (None, reconstruct(folder / "anna.png").views[0].landmarks):
        points = system(case(folder, "anna.png", places=(place,))).landmarks[0]
        own = five_of_68(reconstruct(folder / "anna.png").views[0].landmarks)
        assert np.linalg.norm(points[:5, :2] - own, axis=1).max() < 8  # her smile is wider than the template's mouth


def test_66_points_leave_the_inner_corners_of_the_mouth_out(folder, tmp_path):
    system = systems.load(str(network(tmp_path / "fixed.onnx", {"landmarks66": POINTS[:66]})))
    points = system(case(folder, "anna.png", places=(np.tile([[20.0, 30.0], [60.0, 70.0]], (34, 1)),))).landmarks[0]
    assert np.flatnonzero(np.isnan(points).any(1)).tolist() == [60, 64]
    np.testing.assert_allclose(points[61, :2], [40, 50] + 60 * POINTS[60, :2], atol=1e-3)


def test_an_upright_crop_turns_points_and_rotation_back(folder, tmp_path):
    """When the photo leans by 30°, so do the points and the head, because the upright crop shows the same."""
    cos, sin, middle = np.cos(np.pi / 6), np.sin(np.pi / 6), np.array([120.0, 130.0])
    linear = np.array([[cos, -sin], [sin, cos]])
    lean = np.concatenate([linear, (middle - linear @ middle)[:, None]], axis=1)
    leaning = image.crop(astronaut(), lean, (240, 260), edge=True)
    (tmp_path / "leaning.png").write_bytes(encoded(leaning))
    outputs = {"landmarks68": POINTS, "rotation": np.diag([1.0, -1.0, -1.0])}
    system = systems.load(str(network(tmp_path / "fixed.onnx", outputs, crop={"size": 8})))
    upright, leant = system(case(folder, "anna.png")), system(case(tmp_path, "leaning.png"))
    np.testing.assert_allclose(apply_affine(lean, upright.landmarks[0, :, :2]), leant.landmarks[0, :, :2], atol=8)
    rolls = [np.degrees(euler_from_rotation(answer.rotation[0])[2]) for answer in (upright, leant)]
    assert rolls[1] - rolls[0] == pytest.approx(30, abs=5)
    np.testing.assert_allclose(leant.rotation[0] @ leant.rotation[0].T, np.eye(3), atol=1e-6)
    assert leant.rotation[0, 2, 2] == pytest.approx(-1)


def test_coefficients_of_our_model_become_meshes(folder, tmp_path):
    model, place = morphable.default(), np.tile([[20.0, 30.0], [60.0, 70.0]], (34, 1))
    identity, expression = person(3), np.linspace(0, 0.2, model.n_expression)
    outputs = {
        "identity": identity, "expression": expression, "rotation": np.diag([1.0, -1.0, -1.0]),
        "scale": np.array(0.005), "translation": np.array([0.1, -0.1]), "embedding": np.ones(4),
    }  # fmt: skip
    path = network(tmp_path / "fixed.onnx", outputs, morphable=model.name)
    answer = systems.load(str(path))(case(folder, "anna.png", places=(place,)))
    np.testing.assert_allclose(answer.neutral, model.vertices(identity), atol=1e-3)
    seen = model.vertices(identity, expression) * [1, -1, -1]
    np.testing.assert_allclose(answer.vertices[0, :, :2], [46, 44] + 0.3 * seen[:, :2], atol=1e-3)
    np.testing.assert_allclose(answer.landmarks[0, 30], [46, 44, 0] + 0.3 * model.landmarks(seen)[30], atol=1e-3)
    assert set(answer.codes) == {"identity", "embedding"}
    foreign = systems.load(str(network(tmp_path / "theirs.onnx", outputs, morphable="theirs")))
    answer = foreign(case(folder, "anna.png", places=(place,)))
    assert answer.neutral is None
    assert answer.vertices is None
    assert answer.codes["identity"].shape == (1, 80)


def test_a_network_with_its_own_decoder_gives_its_own_mesh(folder, tmp_path):
    model = morphable.default()
    mesh = (model.mean + 1).astype(np.float32)
    outputs = {"identity": np.zeros(model.n_identity, np.float32), "neutral": mesh}
    system = systems.load(str(network(tmp_path / "decoder.onnx", outputs, morphable=model.name)))
    said = system(Case("anna", (folder / "anna.png",), (None,)))
    np.testing.assert_allclose(said.neutral, mesh, atol=1e-4)
    np.testing.assert_allclose(said.neutral_landmarks, model.landmarks(mesh), atol=1e-3)
    assert said.faces is model.faces


def test_photos_that_a_network_cannot_use_are_said(folder, tmp_path):
    system = systems.load(str(network(tmp_path / "fixed.onnx", {"embedding": np.ones(4)})))
    measured = system.measure(case(folder, "anna.png", "scenery.png"))
    assert measured["code/embedding"].shape == (1, 4)
    assert measured["left_out"][0, :2].tolist() == ["scenery.png", "NoFaceFound"]
    with pytest.raises(NoFaceFound, match=r"no face in scenery\.png"):
        system(case(folder, "scenery.png"))


@pytest.mark.parametrize(
    ("outputs", "description", "message"),
    [
        ({"embedding": np.ones(4)}, {"version": None}, "does not say its version"),
        ({"embedding": np.ones(4)}, {"crop": {"size": 8, "rule": "box68"}}, "known are upright, box68, sphereface5"),
        ({"embedding": np.ones(4)}, {"crop": {"size": 8, "rule": "round"}}, "known are upright, box68, sphereface5"),
        ({"colour": np.ones(4)}, {}, r"gives colour \(1, 4\); expected some of landmarks68"),
        ({"landmarks68": np.ones((68, 2))}, {}, r"gives landmarks68 \(1, 68, 2\); expected some of"),
    ],
)
def test_a_network_that_says_nothing_we_know_is_refused(tmp_path, outputs, description, message):
    with pytest.raises(AssetMissing, match=message):
        systems.load(str(network(tmp_path / "odd.onnx", outputs, **description)))


def test_an_unknown_system_is_answered_with_the_known_ones():
    with pytest.raises(ValueError, match="there is no system 'nobody'; there are: default, mean, the path of"):
        systems.load("nobody")
    with pytest.raises(AssetMissing, match=r"there is no network 'nobody\.onnx'"):
        systems.load("nobody.onnx")


def test_the_fingerprint_tells_networks_apart(tmp_path):
    (tmp_path / "mine.onnx").write_bytes(DEFAULT.read_bytes())
    other = network(tmp_path / "fixed.onnx", {"embedding": np.ones(4)})
    names = ["default", str(tmp_path / "mine.onnx"), str(other)]
    marks = [systems.load(name).fingerprint for name in names]
    assert marks[0] == marks[1] != marks[2]


def test_grace_is_a_photo_like_any_other():
    answer = systems.load("default")(Case("grace", (GRACE,), (None,)))
    assert answer.landmarks.shape == (1, 68, 3)


# ── meshes of others ───────────────────────────────────────────────────────────────────────────────────────


def test_meshes_in_nows_layout_are_answers(tmp_path):
    """Beside each mesh the seven points of NoW, as .txt or as .npy with one axis too many, or all 68, or none."""
    folder = tmp_path / "theirs" / "anna" / "selfie"
    folder.mkdir(parents=True)
    for name in ("one", "two", "three", "four"):
        (folder / f"{name}.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 2 0\nf 1 2 3\n")
    seven = np.arange(21.0).reshape(7, 3)
    np.savetxt(folder / "one.txt", seven)
    np.save(folder / "two.npy", seven[None])
    np.save(folder / "three.npy", POINTS)
    system = systems.load(str(tmp_path / "theirs"))
    assert (system.name, system.keep) == ("theirs", False)
    answers = {name: system(Case(f"anna/selfie/{name}", (), ())) for name in ("one", "two", "three", "four")}
    assert answers["one"].neutral.tolist() == [[0, 0, 0], [1, 0, 0], [0, 2, 0]]
    assert answers["one"].faces.tolist() == [[0, 1, 2]]
    for name in ("one", "two"):
        np.testing.assert_array_equal(answers[name].neutral_landmarks[[36, 39, 42, 45, 33, 48, 54]], seven)
        assert np.isnan(answers[name].neutral_landmarks).any(1).sum() == 61
    np.testing.assert_array_equal(answers["three"].neutral_landmarks, POINTS)
    assert answers["four"].neutral_landmarks is None


def test_meshes_that_are_missing_or_have_odd_points_are_said(tmp_path):
    system, asked = systems.load(str(tmp_path)), Case("one", (), ())
    with pytest.raises(BadData, match=r"has no mesh one.obj or \.ply"):
        system(asked)
    (tmp_path / "one.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 2 0\nf 1 2 3\n")
    (tmp_path / "one.txt").write_text("a b c\n")
    with pytest.raises(BadData, match=r"one\.txt cannot be read as points .*; write 7 × 3 numbers"):
        system(asked)
    np.savetxt(tmp_path / "one.txt", np.ones((6, 3)))
    with pytest.raises(BadData, match=r"one\.txt holds \(6, 3\) numbers; expected \(7, 3\) or \(68, 3\), all finite"):
        system(asked)
    np.savetxt(tmp_path / "one.txt", np.full((7, 3), np.nan))
    with pytest.raises(BadData, match="all finite"):
        system(asked)
