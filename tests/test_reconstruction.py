"""Photos of a person to a face: what comes back from faces that are known, and from photos that cannot be used."""

import gc
import io
import json
import weakref
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from PIL import Image

from conftest import unchecked
from faces import GRACE, astronaut, encoded, from_far, from_near, person, rendered, scenery, seen_by, turned, two_people
from sameface.core.camera import WeakPerspective, onto_axis
from sameface.core.errors import AssetMissing, BadPhoto, NoFaceFound
from sameface.morphable import default
from sameface.photo.face import Photo
from sameface.photo.image import read
from sameface.reconstruction.reconstruct import check_options, join, look, measured, reconstruct, shape_distance
from sameface.training.fit_shard import PRIORS

ANNA, BERT, CARL = person(0), person(1), person(2)
YAWS = (-0.5, 0.0, 0.4, 0.7, -0.2)


def views_of(identity, count=3, name="anna"):
    return [seen_by(from_far(yaw), identity, name=f"{name}-{k}.jpg") for k, yaw in enumerate(YAWS[:count])]


def off(answer, identity) -> float:
    """mm between the shape found and the true one."""
    return shape_distance(default().vertices(answer.identity), default().vertices(identity), default(), scale=True)


# ── known faces ────────────────────────────────────────────────────────────────────────────────────────────


def test_several_photos_give_one_identity_close_to_the_truth():
    answer = join(views_of(ANNA), priors=PRIORS)
    assert off(answer, ANNA) < 1.0 < 2.5 < off(join(views_of(BERT), priors=PRIORS), ANNA)
    assert answer.identity.shape == (default().n_identity,)
    assert [v.seen.photo for v in answer.views] == ["anna-0.jpg", "anna-1.jpg", "anna-2.jpg"]
    assert answer.disagreement == np.median([v.disagreement for v in answer.views])
    assert 0 < answer.disagreement < 2.5
    assert all(v.residual < 0.01 for v in answer.views)
    assert answer.dropped == answer.notes == ()


def test_what_the_networks_say_of_the_identity_is_weighed_against_the_points():
    """With the truth said, the answer is nearer than without; with another one said, points still count."""
    told = [replace(one, identity=ANNA) for one in views_of(ANNA)]
    nothing, said = off(join(views_of(ANNA)), ANNA), off(join(told), ANNA)
    assert said < 0.8 * nothing
    wrong = [replace(one, identity=BERT) for one in views_of(ANNA)]
    towards = off(join(wrong), BERT)
    assert off(join(views_of(ANNA), priors=PRIORS), BERT) > towards > 1.0
    assert join(told).predictor == "isoface@0.1.0 recogniser@0.1.0 eyes@0.1.0"


def test_more_photos_come_closer_than_one():
    assert off(join(views_of(ANNA, 5)), ANNA) < off(join(views_of(ANNA, 1)), ANNA)


def test_one_photo_has_nothing_to_disagree_with():
    answer = join(views_of(ANNA, 1))
    assert np.isnan(answer.disagreement)
    np.testing.assert_array_equal(answer.views[0].identity_alone, answer.identity)
    assert "add photos from other angles" in answer.notes[0]


def test_shapes_that_are_not_the_models_or_not_finite_have_no_distance():
    model = default()
    for other in (model.mean[:3], model.mean[None], np.where(model.mean == model.mean[7], np.nan, model.mean)):
        with unchecked(), pytest.raises(ValueError, match=r"a shape of sameface-ict has 6975 finite vertices \(V, 3\)"):
            shape_distance(model.mean, other, model)


def test_no_observation_is_an_error():
    with pytest.raises(ValueError, match="at least one"):
        join([])


@pytest.mark.parametrize(("count", "place"), [(2, 0), (2, 2), (3, 1)])
def test_somebody_else_among_the_photos_is_left_out(count, place):
    photos = views_of(ANNA, count)
    stranger = seen_by(from_far(0.1), -1.5 * ANNA, name="stranger.jpg")
    answer = join([*photos[:place], stranger, *photos[place:]])
    assert [(photo, kind) for photo, kind, _ in answer.dropped] == [("stranger.jpg", "Disagrees")]
    assert "mm from the other photos" in answer.dropped[0][2]
    assert "another person, or the same one turned, talking" in answer.dropped[0][2]
    rates = json.loads(Path("results/outliers.json").read_text())
    row = next(
        row
        for row in rates["table"]
        if row["shapes"] == "of the fit" and [row["mm"], row["× median"]] == rates["chosen"]
    )
    found, lost = row["strangers left out"], row["own photos left out by mistake, without"]
    assert (
        f"({100 * found:.0f} % of strangers are left out so, and {100 * lost:.0f} % of own photos)"
        in answer.dropped[0][2]
    )
    np.testing.assert_allclose(answer.identity, join(photos).identity, atol=1e-6)
    assert len(answer.views) == count


def test_two_photos_that_disagree_are_both_kept_but_it_is_said():
    answer = join([*views_of(ANNA, 1), seen_by(from_far(0.1), -1.5 * ANNA, name="b.jpg")])
    assert len(answer.views) == 2
    (note,) = (note for note in answer.notes if "same person?" in note)
    farthest = max(view.disagreement for view in answer.views)
    assert f"the two photos disagree: {farthest:.2f} mm from their joint shape, over 0.88; are they" in note
    assert not any("same person?" in note for note in join(views_of(ANNA / 2, 2)).notes)


def test_a_poor_photo_counts_only_where_there_is_nothing_better():
    good, poor = views_of(ANNA, 2)
    poor = replace(poor, quality=0.01)
    answer = join([poor, good])
    assert [(photo, kind) for photo, kind, _ in answer.dropped] == [("anna-1.jpg", "PoorPhoto")]
    np.testing.assert_allclose(answer.identity, join([good]).identity, atol=1e-9)
    alone = join([poor])
    assert alone.dropped == ()
    assert any("every photo is poor" in note for note in alone.notes)


# ── cameras ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_known_focal_length_gives_the_camera_its_distance():
    photos = [seen_by(from_near(yaw), ANNA, name=f"{yaw}.jpg", focal=700.0) for yaw in YAWS[:3]]
    answer = join(photos, priors=PRIORS)
    assert off(answer, ANNA) < 1.2
    for view in answer.views:
        assert float(view.camera.focal) == 700
        assert view.focal_from == "given"
        np.testing.assert_allclose(view.camera.center, [320, 240])
        np.testing.assert_allclose(view.camera.translation[2], 450, rtol=0.1)  # of a face of average size


def test_an_unknown_focal_length_is_estimated_and_costs_little():
    """Three photos from 45 cm: fitted as if from far away, they would give a face that is bent."""
    photos = [seen_by(from_near(yaw), ANNA, name=f"{yaw}.jpg") for yaw in YAWS[:3]]
    weakly = replace(PRIORS, distance=4.0)
    answer = join(photos, priors=weakly)
    far = join([replace(one, focal=4e4) for one in photos], priors=weakly)
    assert off(answer, ANNA) < 1.4 < 2.0 < off(far, ANNA)
    for view in answer.views:
        assert view.focal_from == "estimated"
        np.testing.assert_allclose(view.camera.translation[2], 450, rtol=0.35)
        np.testing.assert_allclose(view.camera.focal / view.camera.translation[2], 700 / 450, rtol=0.1)


def test_photos_with_and_without_a_focal_length_mix():
    near, far = (
        from_near(0.3, (480, 640)),
        WeakPerspective(from_far(-0.4).rotation, np.array([900.0, 80.0]), np.array(0.8), (1000, 700)),
    )
    photos = [seen_by(near, ANNA, name="near.jpg", focal=700.0), seen_by(far, ANNA, name="far.jpg")]
    for order in (photos, photos[::-1]):
        views = {v.seen.photo: v for v in join(order, priors=PRIORS).views}
        assert {name: view.focal_from for name, view in views.items()} == {"near.jpg": "given", "far.jpg": "estimated"}
        assert float(views["near.jpg"].camera.focal) == 700
        assert views["near.jpg"].camera.size == (480, 640)
        assert views["far.jpg"].camera.size == (1000, 700)
        np.testing.assert_allclose(views["near.jpg"].camera.center, [240, 320])
        np.testing.assert_allclose(views["far.jpg"].camera.center, [500, 350])
        np.testing.assert_allclose(views["far.jpg"].camera.weak.scale, 0.8, rtol=0.05)
        for name, true in (("near.jpg", near), ("far.jpg", far)):
            expected = true.project(default().landmarks(default().vertices(ANNA)).astype(float))
            extent = np.ptp(expected, axis=0).max()
            assert np.abs(views[name].landmarks - expected).max() < 0.02 * extent  # also at a corner of the photo


def test_a_small_face_in_a_large_photo_is_expected_farther_away():
    """0.1 px/mm in 5000 px of diagonal: from 1 m only a lens of 0.87 mm (35 mm equivalent) could see that."""
    small = seen_by(from_far(0.2, (4000, 3000), scale=0.1), ANNA, name="crowd.jpg", sigma=0.05)
    distance, (found,) = measured([small]).distance, join([small]).views
    np.testing.assert_allclose(distance, 26 / np.hypot(36, 24) * 5000 / 0.1)
    np.testing.assert_allclose(found.camera.translation[2], distance, rtol=0.3)
    np.testing.assert_allclose(measured([seen_by(from_far(scale=2.0), ANNA, name="portrait.jpg")]).distance, 1000)


def test_who_looks_into_the_lens_is_frontal_also_at_the_edge_of_the_photo():
    camera = from_near(focal=500.0, distance=600.0)
    away = np.array([300.0, -100.0, 600.0])
    looking = replace(camera, translation=away, rotation=onto_axis(away).T @ turned(0.0))
    answer = join([seen_by(looking, ANNA, name="edge.jpg", focal=500.0)], priors=PRIORS)
    (view,) = answer.as_json()["views"]
    assert max(abs(angle) for angle in view["head_pose_degrees"].values()) < 4
    assert view["camera"]["focal_from"] == "given"
    np.testing.assert_allclose(view["camera"]["rotation"], looking.rotation, atol=0.06)


def test_every_camera_has_the_size_of_its_own_photo():
    sizes = [(640, 480), (480, 640), (2000, 1500)]
    photos = [seen_by(from_far(yaw, size), ANNA, name=f"{yaw}") for yaw, size in zip(YAWS, sizes, strict=False)]
    assert [v.camera.size for v in join(photos).views] == sizes


def test_a_focal_length_that_cannot_be_is_not_believed():
    """EXIF data that survived a crop would put the nose behind the lens."""
    photos = views_of(ANNA, 2)
    answer = join([replace(photos[0], focal=60.0, focal_from="exif"), photos[1]])
    assert [view.focal_from for view in answer.views] == ["estimated", "estimated"]
    np.testing.assert_allclose(answer.identity, join(photos).identity, atol=1e-9)
    (note,) = (note for note in answer.notes if "focal" in note)
    assert note.startswith("anna-0.jpg: the focal length in its EXIF data puts the face 40 mm from the lens")
    assert note.endswith("It was not used")


def test_a_face_that_is_near_for_its_focal_length_is_noted():
    (one,) = views_of(ANNA, 1)
    for focal, noted in ((450.0, True), (900.0, False)):  # 1.5 px/mm
        answer = join([replace(one, focal=focal)])
        assert [view.focal_from for view in answer.views] == ["given"]
        assert any("that was given puts the face only 300 mm" in note for note in answer.notes) == noted


def test_the_focal_length_of_a_file_arrives_at_its_camera(tmp_path):
    """A mix of photos of different sizes, with and without the EXIF field."""
    jpeg, png = tmp_path / "jpeg.jpg", tmp_path / "png.png"
    jpeg.write_bytes(encoded(rendered(0, -0.3, (320, 240)), "JPEG", quality=92, focal_35mm=50))
    png.write_bytes(encoded(rendered(0, 0.3, (400, 330))))
    for paths in ((jpeg, png), (png, jpeg)):
        answer = reconstruct(*paths)
        views = {Path(view.seen.photo).name: view for view in answer.views}
        assert {name: view.focal_from for name, view in views.items()} == {"jpeg.jpg": "exif", "png.png": "estimated"}
        np.testing.assert_allclose(views["jpeg.jpg"].camera.focal, 50 * 400 / np.hypot(36, 24))
        assert [views[name].camera.size for name in ("jpeg.jpg", "png.png")] == [(320, 240), (400, 330)]
        for view in answer.views:
            inside = np.clip(view.landmarks, 0, view.camera.size)
            np.testing.assert_allclose(view.landmarks, inside, atol=5)
            assert view.residual < 0.05


def test_a_focal_length_that_is_given_counts_for_all_photos_and_before_their_files(tmp_path):
    (tmp_path / "a.jpg").write_bytes(encoded(rendered(0, 0.2, (320, 240)), "JPEG", quality=92, focal_35mm=28))
    for focal, px in (
        (900.0, [900, 900]),
        ("900px", [900, 900]),
        ("50mm", [50 * 400 / np.hypot(36, 24), 50 * 450 / 43.2666]),
    ):
        answer = reconstruct(tmp_path / "a.jpg", rendered(0, -0.3, (360, 270)), focal=focal)
        np.testing.assert_allclose([view.camera.focal for view in answer.views], px, rtol=1e-5)
        assert {view.focal_from for view in answer.views} == {"given"}


def test_a_crop_that_kept_its_exif_is_said(tmp_path):
    (tmp_path / "cut.jpg").write_bytes(encoded(rendered(0, 0.2), "JPEG", quality=92, focal_35mm=50))
    answer = reconstruct(tmp_path / "cut.jpg")
    assert answer.views[0].focal_from == "estimated"
    assert any("cut.jpg: 320×320 px is the shape of no camera's photos" in note for note in answer.notes)


# ── scale ──────────────────────────────────────────────────────────────────────────────────────────────────


def pupils(answer) -> float:
    """mm between the pupils of a reconstruction."""
    model = default()
    ids = [468, 473]
    at = (
        model.extra["mediapipe_weights"][ids][..., None]
        * answer.vertices()[model.faces[model.extra["mediapipe_faces"][ids]]]
    )
    return float(np.linalg.norm(np.subtract(*at.sum(1))))


def test_the_scale_is_that_of_an_average_head_unless_told():
    answer = join(views_of(ANNA))
    assert (answer.scale, answer.scale_from) == (1, "average head")


@pytest.mark.parametrize("ipd", [55.0, 68.5])
def test_the_pupil_distance_sets_the_scale(ipd):
    answer = join(views_of(ANNA), ipd=ipd)
    np.testing.assert_allclose(pupils(answer), ipd, rtol=1e-4)
    assert f"{ipd:g} mm" in answer.scale_from
    np.testing.assert_allclose(answer.identity, join(views_of(ANNA)).identity)


@pytest.mark.parametrize(("yaw", "pitch"), [(0.0, 0.0), (0.6, 0.0), (0.0, 0.5)])
def test_the_iris_sets_the_scale_from_near_and_from_far_and_of_a_turned_head(yaw, pitch):
    average = np.zeros(default().n_identity)
    for camera, focal in ((from_far(), None), (from_near(distance=300.0), 700.0)):
        camera = replace(camera, rotation=turned(yaw, pitch))
        answer = join([seen_by(camera, average, name="a", focal=focal)], iris=True)
        np.testing.assert_allclose(answer.scale, 1, rtol=0.03)  # the average head has the average iris
        assert "2 irises" in answer.scale_from


def test_the_iris_is_not_measured_where_it_is_not_seen():
    model = default()
    shut = np.zeros(model.n_expression)
    shut[[model.expression_names.index(f"eyeBlink{side}") for side in ("Left", "Right")]] = 1
    asleep = seen_by(from_far(), ANNA, name="asleep.jpg", expression=shut)
    aside = seen_by(from_far(1.2), ANNA, name="aside.jpg")
    with pytest.raises(BadPhoto, match=r"no open eye looks forward in asleep.jpg, aside.jpg.*ipd"):
        join([asleep, aside], iris=True)
    awake = seen_by(from_far(0.2), ANNA, name="awake.jpg")
    assert "2 irises" in join([asleep, aside, awake], iris=True).scale_from


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iris": True, "ipd": 60.0}, "either iris or ipd"),
        ({"ipd": 10.0}, "ipd is 10 mm.*40 to 90"),
        ({"ipd": float("nan")}, "40 to 90"),
        ({"face": 0}, "counted from 1"),
        ({"min_score": 0.0}, "min_score is 0"),
        ({"min_score": 1.5}, "expected 0.05"),
        ({"focal": 0.0}, "a focal length is a positive number"),
        ({"focal": float("inf")}, "a focal length is a positive number"),
        ({"focal": "50"}, "35 mm equivalent such as 50mm, or pixels of the photo: 1200px"),
    ],
)
def test_options_that_cannot_be_meant_are_refused_before_any_work(options, message):
    with pytest.raises(ValueError, match=message):
        check_options(**options)
    with pytest.raises(ValueError, match=message):
        reconstruct("not even read.jpg", **options)


# ── photos ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_photo_is_the_same_as_path_bytes_array_and_image(tmp_path):
    path = tmp_path / "anna.png"
    path.write_bytes(encoded(astronaut()))
    with Image.open(path) as image:
        image.load()
    answers = [reconstruct(source) for source in (path, str(path), path.read_bytes(), astronaut(), image, read(path))]
    for answer in answers[1:]:
        np.testing.assert_array_equal(answer.identity, answers[0].identity)
        np.testing.assert_array_equal(answer.views[0].landmarks, answers[0].views[0].landmarks)
    names = [answer.views[0].seen.photo for answer in answers]
    assert names == [str(path), str(path), "photo 1", "photo 1", str(path), str(path)]


def test_photos_come_one_by_one_or_in_collections():
    anna, scene = Photo(astronaut(), "anna"), scenery()
    for given in ([anna, scene], [[anna, scene]], [photo for photo in [(anna,), (scene,)]], [iter([anna, scene])]):
        answer = reconstruct(*given)
        assert [view.seen.photo for view in answer.views] == ["anna"]
        assert [photo for photo, _, _ in answer.dropped] == ["photo 2"]


def test_rendered_photos_of_a_face_give_one_identity():
    answer = reconstruct([rendered(0, yaw) for yaw in (-0.3, 0.0, 0.3)])
    assert [view.seen.photo for view in answer.views] == ["photo 1", "photo 2", "photo 3"]
    assert 0 < answer.disagreement < 4
    assert len({answer.vertices(k).tobytes() for k in range(3)}) == 3  # three expressions, of
    assert answer.vertices().shape == answer.model.mean.shape  # one neutral face
    yaws = [answer._view_json(view)["head_pose_degrees"]["yaw"] for view in answer.views]
    np.testing.assert_allclose(yaws, np.degrees([-0.3, 0, 0.3]), atol=8)


def test_photos_may_come_in_any_form_and_one_at_a_time():
    data, alive = encoded(astronaut()), []

    class Pixels(np.ndarray):
        """An array that can be watched."""

    def one_by_one():
        for _ in range(3):
            pixels = scenery(64, 64).view(Pixels)
            alive.append(weakref.ref(pixels))
            yield pixels
            del pixels
            gc.collect()
            assert sum(ref() is not None for ref in alive) <= 1  # the last one; the others are gone

    wanted = reconstruct(data).identity
    answer = reconstruct(one_by_one(), [[io.BytesIO(data)]])
    np.testing.assert_array_equal(answer.identity, wanted)
    assert [photo for photo, *_ in answer.dropped] == ["photo 1", "photo 2", "photo 3"]
    assert answer.views[0].seen.photo == "photo 4"
    assert [seen.photo for seen, *_ in look(data).faces] == ["photo 1"]


@pytest.mark.parametrize("nothing", [(), ([],), (iter(()),)])
def test_no_photos_are_an_error(nothing):
    with pytest.raises(ValueError, match="at least one photo"):
        reconstruct(*nothing)


def test_what_is_no_photo_at_all_is_an_error_of_the_caller():
    with pytest.raises(TypeError):
        reconstruct(7)  # type: ignore[arg-type]


def test_a_folder_is_no_photo(tmp_path):
    with pytest.raises(BadPhoto, match=r"is a folder.*gather"):
        reconstruct(tmp_path)


def broken_files(folder: Path) -> dict[str, str]:
    """Files that are no usable photos, and what is said of each."""
    big_header = bytearray(encoded(scenery(16, 16)))
    big_header[16:24] = (60_000).to_bytes(4, "big") * 2
    contents = {
        "text.jpg": (b"dear diary", "text"),
        "cut.jpg": (encoded(astronaut(), "JPEG")[:3000], "truncated JPEG"),
        "bomb.png": (bytes(big_header), "damaged|million pixels"),
        "dot.png": (encoded(scenery(1, 1)), "1×1"),
        "wide.png": (encoded(scenery(20_000, 40)), "no face"),
        "paper.pdf": (b"%PDF-1.7 ...", "PDF document"),
        "empty.jpg": (b"", "0 bytes"),
        "scenery.jpg": (encoded(scenery(), "JPEG"), "no face in .*320×240"),
        "scenery.gif": (encoded(scenery(), "GIF"), "no face"),
    }
    for name, (content, _) in contents.items():
        (folder / name).write_bytes(content)
    Image.fromarray(np.full((40, 40), np.nan, np.float32)).save(folder / "nan.tif")
    return {name: words for name, (_, words) in contents.items()} | {
        "nan.tif": "NaN",
        "missing.jpg": "there is no file",
    }


def test_one_bad_photo_never_stops_the_rest(tmp_path):
    said = broken_files(tmp_path)
    paths = [tmp_path / name for name in said]
    for pixels, problem in ((np.full((64, 64, 3), np.nan), "NaN"), (np.zeros((0, 9, 3), np.uint8), "no pixels")):
        looked = look([pixels])
        assert looked.faces == ()
        assert problem in looked.problems[0][2]
    answer = reconstruct(*paths[:5], astronaut(), *paths[5:])
    np.testing.assert_array_equal(answer.identity, reconstruct(astronaut()).identity)
    assert [photo for photo, _, _ in answer.dropped] == [str(path) for path in paths]
    for (photo, kind, message), (name, words) in zip(answer.dropped, said.items(), strict=True):
        assert kind == ("NoFaceFound" if "no face" in words else "BadPhoto"), photo
        assert name in message
        assert any(word in message for word in words.split("|")) or "no face in " in message


def test_if_no_photo_can_be_used_the_first_problem_is_raised(tmp_path):
    with pytest.raises(NoFaceFound, match=r"no face in photo 1.*1 more photos could not be used"):
        reconstruct(scenery(), tmp_path / "missing.jpg")
    with pytest.raises(BadPhoto, match="there is no file"):
        reconstruct(tmp_path / "missing.jpg", scenery())


def test_a_photo_given_twice_counts_once(tmp_path):
    (tmp_path / "a.png").write_bytes(encoded(astronaut()))
    answer = reconstruct(tmp_path / "a.png", tmp_path / "a.png")
    assert len(answer.views) == 1
    assert "given twice" in answer.dropped[0][2]


def test_of_several_faces_the_largest_is_taken_or_the_one_asked_for():
    largest, second = reconstruct(two_people()), reconstruct(two_people(), face=2)
    assert largest.views[0].seen.box[0] > 240 > second.views[0].seen.box[2]
    np.testing.assert_array_equal(reconstruct(two_people(), face=1).identity, largest.identity)
    with pytest.raises(NoFaceFound, match="has 2 faces, so there is no face 3"):
        reconstruct(two_people(), face=3)
    with pytest.raises(NoFaceFound, match="has 1 face, "):
        reconstruct(GRACE, face=2)


def test_look_tells_its_progress():
    told: list[str] = []
    looked = look([astronaut(), scenery(), GRACE], progress=told.append)
    assert told == ["photo 1", "photo 2", str(GRACE)]
    assert [len(faces) for faces in looked.faces] == [1, 1]
    assert [photo for photo, _, _ in looked.problems] == ["photo 2"]


def test_a_photo_that_does_not_fit_into_memory_is_a_row(monkeypatch):
    def exhausted(*given, **options):
        raise MemoryError

    monkeypatch.setattr("sameface.reconstruction.reconstruct.observe_turned", exhausted)
    assert "does not fit into memory" in look([astronaut()]).problems[0][2]


# ── networks ───────────────────────────────────────────────────────────────────────────────────────────────


def foreign_network(path: Path, description: str | None = None) -> Path:
    """A network that copies its input, with or without a sameface description."""
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in ("x", "y")]
    graph = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "copy", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    if description is not None:
        helper.set_model_props(model, {"sameface": description})
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("description", "message"),
    [
        (None, "carries no sameface description"),
        ('{"method": "detector"}', "lacks crop, morphable, point_ids, version"),
        (
            '{"method": "m", "version": "1", "crop": {}, "point_ids": [], "morphable": "theirs"}',
            "trained for the model 'theirs'",
        ),
    ],
)
def test_a_network_that_is_not_ours_is_no_photos_fault(tmp_path, description, message):
    path = foreign_network(tmp_path / "theirs.onnx", description)
    with pytest.raises(AssetMissing, match=message):
        look([astronaut()], predictor=str(path))
    with pytest.raises(AssetMissing, match=message):
        look([], predictor=str(path))


def test_a_text_file_is_no_network(tmp_path):
    (tmp_path / "notes.onnx").write_text("not a network")
    with pytest.raises(AssetMissing, match="is not a network that onnxruntime can load"):
        reconstruct(astronaut(), predictor=str(tmp_path / "notes.onnx"))
    with pytest.raises(AssetMissing, match=r"there is no network 'notes.txt'; there are: default"):
        reconstruct(astronaut(), predictor="notes.txt")


def test_no_point_counts_too_much():
    (one,) = views_of(person(1) / 3, count=1)
    sigma = one.sigma.copy()
    sigma[0] = 1e-6
    assert measured([replace(one, sigma=sigma)]).sigma[0, 0] == pytest.approx(0.25 * np.median(sigma))
