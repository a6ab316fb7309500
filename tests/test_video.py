"""Clips: smoothing that does not lag, a row for every frame, an animation that says what the table says."""

import csv
import json
import re
import shutil
from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import trimesh
from hypothesis import given
from hypothesis import strategies as st
from scipy.signal import correlate

import clips
from faces import astronaut, person, scenery, seen_by, two_people
from sameface import cli
from sameface.core.camera import WeakPerspective
from sameface.core.errors import BadPhoto, NoFaceFound
from sameface.core.geometry import apply_affine, euler_from_rotation, rotation_from_axis_angle, rotation_from_euler
from sameface.mesh.glb import Animation, write_glb
from sameface.morphable import default
from sameface.photo.clip import Promised, frames
from sameface.reconstruction import reconstruct, video
from sameface.reconstruction.fit import Priors
from sameface.reconstruction.reconstruct import Looked
from sameface.reconstruction.video import (
    _followed,
    _in_one_go,
    _smoothed_motion,
    _times,
    _window,
    smoothed,
    spread,
    track,
    unit_quaternions,
)
from test_mesh_io import glb_parts

PAGE = Path(__file__).parent.parent / "docs" / "video.md"
RATE, COUNT, SIZE = 30.0, 45, (320, 300)
HIDDEN = (20, 21)
"""frames of the clip without a face"""
seeds = st.integers(0, 2**32 - 1)


def lag(found: np.ndarray, truth: np.ndarray) -> int:
    """Frames by which `found` comes later than `truth`: where their cross-correlation peaks."""
    both = correlate(found - found.mean(), truth - truth.mean(), mode="full")
    return int(both.argmax()) - (len(truth) - 1)


def written(path: Path, pictures: list[np.ndarray]) -> Path:
    return clips.written(path, pictures, rate=round(RATE))


def motion() -> tuple[np.ndarray, np.ndarray]:
    """Roll of the picture (rad) and its middle (px) in every frame: half a second and one second a swing."""
    t = np.arange(COUNT) / RATE
    return np.radians(14) * np.sin(2 * np.pi * t), np.array([160, 150]) + 25 * np.stack([np.sin(4 * t), 0.4 * t], 1)


def filmed() -> list[np.ndarray]:
    """The astronaut moved, rolled and noisy; two frames show nothing."""
    rng, pictures = np.random.default_rng(0), []
    for angle, middle in zip(*motion(), strict=True):
        turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
        affine = np.column_stack([turn, middle - turn @ [120.0, 120.0]])
        moved = cv2.warpAffine(astronaut(), affine, SIZE, borderMode=cv2.BORDER_REPLICATE)
        pictures.append(np.clip(moved + rng.normal(0, 6, moved.shape), 0, 255).astype(np.uint8))
    for k in HIDDEN:
        pictures[k] = scenery(*SIZE)
    return pictures


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    return written(tmp_path_factory.mktemp("video") / "clip.mp4", filmed())


@pytest.fixture(scope="module")
def brief(tmp_path_factory) -> Path:
    """Ten of its frames, the fourth and the fifth without a face."""
    return written(tmp_path_factory.mktemp("video") / "clip.mp4", filmed()[17:27])


@pytest.fixture(scope="module")
def still_noisy(clip) -> video.Track:
    return track(clip, smooth=0.0)


@pytest.fixture(scope="module")
def smooth(clip) -> video.Track:
    return track(clip)


# ── the filter ─────────────────────────────────────────────────────────────────────────────────────────────


def test_smoothing_is_the_value_of_the_best_parabola_in_the_window():
    values = np.random.default_rng(0).normal(size=(20, 3))
    x, found = np.arange(-4, 5), smoothed(values, 9)
    for k in range(4, 16):
        np.testing.assert_allclose(found[k], np.polyfit(x, values[k - 4 : k + 5], 2)[2], atol=1e-12)
    for column in range(3):  # the first rows: the parabola of the first whole window
        start = np.polyval(np.polyfit(np.arange(9), values[:9, column], 2), np.arange(4))
        np.testing.assert_allclose(found[:4, column], start, atol=1e-12)


@given(seed=seeds, count=st.integers(1, 40), half=st.integers(0, 12))
def test_smoothing_keeps_parabolas_and_does_not_know_the_direction_of_time(seed, count, half):
    rng = np.random.default_rng(seed)
    t = np.linspace(-1, 1, count)[:, None]
    parabola = rng.normal(size=(1, 2)) + t * rng.normal(size=(1, 2)) + t**2 * rng.normal(size=(1, 2))
    np.testing.assert_allclose(smoothed(parabola, 2 * half + 1), parabola, atol=1e-9)
    values = rng.normal(size=(count, 2))  # zero phase: filtered backwards it is the same
    np.testing.assert_allclose(smoothed(values[::-1], 2 * half + 1)[::-1], smoothed(values, 2 * half + 1), atol=1e-9)


@given(seed=seeds)
def test_smoothed_rotations_turn_with_the_axes(seed):
    rng = np.random.default_rng(seed)
    steps = rotation_from_axis_angle(rng.normal(0, 0.1, (15, 3)))
    rotation = np.stack([np.linalg.multi_dot([np.eye(3), *steps[: k + 1], np.eye(3)]) for k in range(15)])
    a, b = rotation_from_axis_angle(rng.normal(size=(2, 3)))

    def filtered(rotation: np.ndarray) -> np.ndarray:
        camera = WeakPerspective(rotation, np.zeros((15, 2)), np.ones(15), SIZE)
        return _smoothed_motion(camera, np.zeros((15, 1)), [slice(0, 15)], 7)[0].rotation

    np.testing.assert_allclose(filtered(a @ rotation @ b), a @ filtered(rotation) @ b, atol=1e-9)


def test_a_head_that_turns_evenly_is_followed_exactly_through_a_whole_turn():
    angle = np.radians(10.0) * np.arange(40)  # more than a turn: the quaternions change their sign on the way
    rotation = rotation_from_axis_angle(np.outer(angle, [0.0, 0.6, 0.8]))
    camera = WeakPerspective(rotation, np.zeros((40, 2)), np.ones(40), SIZE)
    found = _smoothed_motion(camera, np.zeros((40, 1)), [slice(0, 40)], 9)[0].rotation
    np.testing.assert_allclose(found[4:-4], rotation[4:-4], atol=1e-9)
    np.testing.assert_allclose(found, rotation, atol=4e-3)  # the ends follow a parabola, not a circle


def test_weights_stay_between_zero_and_one_and_scales_positive():
    rng = np.random.default_rng(1)
    camera = WeakPerspective(np.tile(np.eye(3), (30, 1, 1)), np.zeros((30, 2)), rng.uniform(1e-3, 1, 30), SIZE)
    found, weights = _smoothed_motion(camera, rng.integers(0, 2, (30, 4)).astype(float), [slice(0, 30)], 9)
    assert weights.min() == 0
    assert weights.max() == 1
    assert (found.scale > 0).all()


def test_nothing_is_mixed_across_gaps_and_cuts():
    rotation = np.tile(np.eye(3), (12, 1, 1))
    rotation[9:] = rotation_from_euler(*np.zeros((2, 1)), np.ones(1))[0]
    camera = WeakPerspective(rotation, np.zeros((12, 2)), np.ones(12), SIZE)
    camera.translation[6:] += 81.0
    numbers = np.array([0, 1, 2, 5, 6, 7, 8, 9, 10, 11, 12, 13])
    assert _in_one_go(numbers, camera) == [slice(0, 3), slice(3, 6), slice(6, 9), slice(9, 12)]
    assert _in_one_go(numbers[:1], camera[:1]) == [slice(0, 1)]
    camera.scale[1:] *= 2.0
    assert _in_one_go(numbers, camera)[:2] == [slice(0, 1), slice(1, 3)]


def test_quaternions_are_unit_and_never_jump():
    rotation = rotation_from_axis_angle(np.outer(np.linspace(0, 7, 60), [0.0, 1.0, 0.0]))
    q = unit_quaternions(rotation)
    np.testing.assert_allclose(np.linalg.norm(q, axis=1), 1)
    assert (q[1:] * q[:-1]).sum(1).min() > 0.99
    x, y, z, w = q[20]
    np.testing.assert_allclose(rotation[20][0, 2], 2 * (x * z + w * y), atol=1e-12)


@pytest.mark.parametrize(
    ("seconds", "rate", "frames"), [(0.3, 30, 9), (0.3, 25, 7), (0.3, 60, 17), (0.3, 10, 3), (0, 30, 1)]
)
def test_a_window_is_the_largest_odd_number_of_frames_in_its_time(seconds, rate, frames):
    assert _window(float(seconds), np.arange(50) / rate) == frames
    assert _window(0.3, np.array([0.4])) == 1


# ── what is chosen and followed ────────────────────────────────────────────────────────────────────────────


@given(seed=seeds, count=st.integers(1, 12))
def test_the_best_frame_of_each_part_of_the_yaw_is_chosen(seed, count):
    rng = np.random.default_rng(seed)
    yaw, quality = rng.uniform(-1, 1, 50), rng.random(50)
    found = spread(yaw, quality, count)
    assert len(found) <= count
    assert (np.diff(found) > 0).all()
    assert quality.argmax() in found
    width = (yaw.max() - yaw.min()) / count
    for k in range(50):  # no frame is far in yaw from a chosen one that is at least as good
        assert any(abs(yaw[k] - yaw[j]) <= width + 1e-12 and quality[j] >= quality[k] for j in found)


def test_the_face_is_followed_by_its_place():
    ahead = rotation_from_euler(*np.zeros((3, 1)))[0]
    here, there = (
        seen_by(WeakPerspective(ahead, np.array([x, 150.0]), np.array(size), SIZE), person(1), name="a")
        for x, size in ((60.0, 0.5), (240.0, 0.7))
    )
    assert _followed((there, here), None, 1) is there
    assert _followed((there, here), None, 2) is here
    assert _followed((there, here), None, None) is there
    assert _followed((there, here), here, None) is here
    assert _followed((there, here), here, 1) is here
    assert _followed((there,), here, 1) is there
    assert _followed((there,), here, 2) is None
    assert _followed((), here, 1) is None


def test_a_still_video_is_one_witness_and_several_faces_in_it_are_said(tmp_path):
    found = track(written(tmp_path / "still.mp4", [two_people()] * 3))
    assert found.found.all()
    assert len(found.person.views) == 1
    if found.person.dropped:  # frames whose yaw is the same to the last bit are one choice already
        assert {kind for _, kind, _ in found.person.dropped} == {"Copy"}
        assert "each picture counts once" in found.person.notes[-1]
    told = "several faces in 1 of the 1 frames that were searched for all; followed is the largest and most central"
    assert found.notes == (f"{told} at first, or the one of --face",)


def test_times_that_do_not_count_upwards_are_replaced_and_that_is_said():
    times, notes = _times(np.array([0.0, 0.1, 0.3]), 10.0, Path("a.avi"))
    assert times.tolist() == [0.0, 0.1, 0.3]
    assert not notes
    times, notes = _times(np.zeros(3), 10.0, Path("a.avi"))
    np.testing.assert_allclose(times, [0.0, 0.1, 0.2])
    assert "do not count upwards; 10 frames/s are taken" in notes[0]
    with pytest.raises(BadPhoto, match=r"a\.avi tells neither the times of its frames nor their rate"):
        _times(np.zeros(3), 0.0, Path("a.avi"))


# ── a whole clip ───────────────────────────────────────────────────────────────────────────────────────────


def test_the_head_is_followed_without_lag(smooth):
    roll, middle = motion()
    seen = smooth.found
    found = euler_from_rotation(smooth.camera.rotation[seen])[2]
    assert lag(found, roll[seen]) == 0
    error = found - roll[seen]
    assert np.degrees(np.std(error)) < 1.0  # a lag of one frame alone would cost 2 degrees
    for axis in range(2):
        assert lag(smooth.camera.translation[seen, axis], middle[seen, axis]) == 0


def test_smoothing_takes_noise_away_and_nothing_else(still_noisy, smooth):
    roll, _ = motion()

    def jitter(values: np.ndarray) -> float:
        return float(np.nanstd(np.diff(values, 2, axis=0)))

    before, after = (np.stack(euler_from_rotation(one.camera.rotation), 1) for one in (still_noisy, smooth))
    assert jitter(after[:, :2]) < 0.4 * jitter(before[:, :2])  # pitch and yaw do not change in truth
    assert jitter(smooth.expression) < 0.4 * jitter(still_noisy.expression)
    assert jitter(after[:, 2] - roll) < 0.6 * jitter(before[:, 2] - roll)  # the rest follows the true roll, not noise
    assert np.nanmedian(smooth.error) < 1.3 * np.nanmedian(still_noisy.error)
    np.testing.assert_array_equal(smooth.person.identity, still_noisy.person.identity)


def test_there_is_one_identity_from_at_most_twelve_frames(smooth):
    views = smooth.person.views
    assert 1 < len(views) <= 12
    assert not {view.seen.photo for view in views} & {f"{smooth.clip} frame {k}" for k in HIDDEN}
    for view in views:  # the pictures are those of these frames
        number = int(view.seen.photo.rsplit(" ", 1)[1])
        where = apply_affine(view.seen.to_picture, view.landmarks)
        assert (where > 0).all()
        np.testing.assert_allclose(smooth.camera.translation[number], view.camera.weak.translation, atol=3)
        assert min(view.seen.picture.shape[:2]) > 80


def test_every_frame_has_a_row_and_the_animation_says_the_same(smooth, tmp_path):
    rows = list(csv.DictReader(smooth.save(tmp_path / "frames.csv").read_text().splitlines()))
    names = default().expression_names
    assert [int(row["frame"]) for row in rows] == list(range(COUNT))
    np.testing.assert_allclose([float(row["seconds"]) for row in rows], np.arange(COUNT) / RATE, atol=1e-6)
    assert [k for k, row in enumerate(rows) if row["problem"]] == list(HIDDEN)
    assert "no face" in rows[20]["problem"]
    assert {rows[20][name] for name in (*names, "qx", "yaw_degrees", "x_px", "focal_px", "error_px")} == {""}
    assert {row["focal_px"] for row in rows if not row["problem"]} == {f"{smooth.focal:.6f}"}
    usable = [row for row in rows if not row["problem"]]
    table = np.array([[float(row[name]) for name in names] for row in usable])

    path = smooth.save(tmp_path / "animation.glb")
    document, binary = glb_parts(path)
    times, weights, rotation = animated(document, binary)
    np.testing.assert_allclose(times, [float(row["seconds"]) for row in usable], atol=1e-6)
    assert document["meshes"][0]["extras"]["targetNames"] == list(names)
    np.testing.assert_allclose(weights.reshape(len(times), -1), table, atol=1e-6)
    euler = euler_from_rotation(np.diag([1.0, -1.0, -1.0]) @ matrices(rotation))
    for angle, name in zip(euler, ("pitch", "yaw", "roll"), strict=True):
        np.testing.assert_allclose(np.degrees(angle), [float(row[f"{name}_degrees"]) for row in usable], atol=1e-3)
    quaternion = np.array([[float(row[name]) for name in ("qx", "qy", "qz", "qw")] for row in usable])
    np.testing.assert_allclose(matrices(quaternion), smooth.camera.rotation[smooth.found], atol=1e-5)
    assert trimesh.load(path, force="mesh").vertices.shape == smooth.person.vertices(head=True).shape
    with pytest.raises(ValueError, match=r"a\.obj: a track is saved as \.csv or \.glb"):
        smooth.save(tmp_path / "a.obj")


def animated(document: dict, binary: bytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Times, weights and rotations of the one animation, read by the rules of glTF 2.0, which are checked."""
    (animation,) = document["animations"]
    found = {}
    for channel in animation["channels"]:
        sampler = animation["samplers"][channel["sampler"]]
        assert sampler["interpolation"] == "LINEAR"
        node = document["nodes"][channel["target"]["node"]]
        assert node["name"] in (
            {"head"} if channel["target"]["path"] == "rotation" else {"face", "eyeLeft", "eyeRight"}
        )
        for role in ("input", "output"):
            accessor = document["accessors"][sampler[role]]
            view = document["bufferViews"][accessor["bufferView"]]
            assert accessor["componentType"] == 5126
            assert "target" not in view  # of vertices and indices only
            assert view["byteOffset"] % 4 == 0
            width = {"SCALAR": 1, "VEC4": 4}[accessor["type"]]
            assert view["byteLength"] == 4 * width * accessor["count"]
            values = np.frombuffer(binary, "<f4", width * accessor["count"], view["byteOffset"])
            path = channel["target"]["path"]
            found[role if role == "input" else path if node["name"] in ("face", "head") else node["name"]] = (
                values.reshape(-1, width)
            )
            if role == "input":
                assert accessor["type"] == "SCALAR"
                assert (accessor["min"], accessor["max"]) == ([values.min()], [values.max()])
    times = found["input"][:, 0]
    assert times[0] >= 0
    assert (np.diff(times) > 0).all()
    assert found["weights"].size == len(times) * len(document["meshes"][0]["weights"])
    names = [mesh["extras"]["targetNames"] for mesh in document["meshes"]]
    for eye, mine in zip(("eyeLeft", "eyeRight"), names[1:], strict=True):  # as the face's, under the same names
        of_face = found["weights"].reshape(len(times), -1)[:, [names[0].index(name) for name in mine]]
        np.testing.assert_array_equal(found[eye].reshape(len(times), -1), of_face)
    assert len(found["rotation"]) == len(times)
    np.testing.assert_allclose(np.linalg.norm(found["rotation"], axis=1), 1, atol=1e-6)
    return times, found["weights"], found["rotation"]


def matrices(q: np.ndarray) -> np.ndarray:
    """Rotations by hand: the columns are the turned axes, v ↦ v + 2 u × (u × v + w v)."""
    u, w = q[:, None, :3], q[:, None, 3:]
    axes = np.broadcast_to(np.eye(3), (len(q), 3, 3))
    return (axes + 2 * np.cross(u, np.cross(u, axes) + w * axes)).swapaxes(1, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": np.array([0.0, 0.0])}, "each is later than the one before"),
        ({"seconds": np.array([-1.0, 0.0])}, "begin at 0 s or later"),
        ({"weights": np.zeros((2, 3))}, r"needs at least one of each, and weights \(2, 1\), but they have \(2, 3\)"),
    ],
)
def test_an_animation_that_no_reader_takes_is_refused(tmp_path, change, message):
    good = Animation(np.array([0.0, 1.0]), np.zeros((2, 1)), np.tile([0.0, 0, 0, 1], (2, 1)))
    triangle, face = np.eye(3, dtype=np.float32), np.array([[0, 1, 2]])
    with pytest.raises(ValueError, match=message):
        write_glb(tmp_path / "a.glb", triangle, face, morph_targets={"x": triangle}, animation=good._replace(**change))


def test_only_glb_files_and_reports_are_animated(smooth, tmp_path):
    with pytest.raises(ValueError, match=r"a\.obj: only \.glb and \.html files hold an animation"):
        smooth.person.save(tmp_path / "a.obj", animation=smooth.animation())


def test_what_is_drawn_comes_back(tmp_path, monkeypatch):
    """Perfect observations of one person: the per-frame fit with the joint identity finds each camera and weight."""
    model, count = default(), 30
    t, jaw = np.arange(count) / RATE, model.expression_names.index("jawOpen")
    weights = np.zeros((count, model.n_expression))
    weights[:, jaw] = 0.5 + 0.4 * np.sin(2 * np.pi * t)
    rotation = rotation_from_euler(0.1 * np.sin(4 * t), 0.5 * np.cos(3 * t), 0 * t)
    cameras = WeakPerspective(rotation, 150 + 20 * np.stack([t, -t], 1), 1 + 0.2 * t, SIZE)

    def looked(photos, **_) -> Looked:
        (photo,) = photos
        k = int(photo.name.rsplit(" ", 1)[1])
        seen = seen_by(cameras[k], person(3), name=photo.name, expression=weights[k])
        return Looked(((replace(seen, identity=person(3) / Priors().network),),), ())

    monkeypatch.setattr(video, "look", looked)
    found = track(written(tmp_path / "a.mp4", [scenery(*SIZE)] * count))
    assert np.abs(found.expression[:, jaw] - weights[:, jaw]).max() < 0.05
    turn = np.degrees(np.stack(euler_from_rotation(found.camera.rotation)) - np.stack(euler_from_rotation(rotation)))
    assert np.abs(turn).max() < 1.5
    assert lag(found.expression[:, jaw], weights[:, jaw]) == 0
    assert reconstruct.shape_distance(found.person.vertices(), model.vertices(person(3)), model) < 1.5


# ── what goes wrong ────────────────────────────────────────────────────────────────────────────────────────


def test_a_clip_without_a_face_and_one_too_long_are_refused(tmp_path, monkeypatch):
    path = written(tmp_path / "empty.mp4", [scenery()] * 3)
    with pytest.raises(NoFaceFound, match=r"no face in any of the 3 frames of .*empty\.mp4\. Of the first: no face in"):
        track(str(path))
    with pytest.raises(ValueError, match=r"smooth is -1; expected 0 \(not at all\) to 10 seconds"):
        track(path, smooth=-1.0)
    monkeypatch.setattr(video, "MOST_FRAMES", 2)
    with pytest.raises(BadPhoto, match=r"empty\.mp4 has 3 frames or more; at most 2 are read: cut it into parts"):
        track(str(path))
    monkeypatch.setattr(video, "promised", lambda _: Promised(0, RATE, 0.0))
    with pytest.raises(BadPhoto, match="at most 2 are read"):
        track(str(path))


def test_a_clip_that_breaks_off_says_so(clip, tmp_path, monkeypatch):
    monkeypatch.setattr(video, "frames", lambda path, *wanted: _first(path, 6, *wanted))
    assert track(clip).notes == (f"only 6 of the {COUNT} frames that the file promises could be decoded",)


def _first(path, count, *wanted):
    return islice(frames(path, *wanted), count)


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        cli.main(["reconstruct", *map(str, arguments)])
    return int(left.value.code or 0)


def test_a_clip_on_the_command_line(brief, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(brief, "--out", out, "--write", "glb", "overlay") == 0
    said = capsys.readouterr().out
    assert "a face in 8 of 10 frames" in said
    assert json.loads((out / "photos.json").read_text()) == [
        {"photo": str(brief), "folder": ".", "problem": None, "message": None}
    ]
    names = {path.name for path in out.iterdir()}
    assert {"frames.csv", "animation.glb", "face.glb", "result.json", "photos.json"} < names
    views = json.loads((out / "result.json").read_text())["views"]
    numbers = {int(view["photo"].rsplit(" ", 1)[1]) for view in views}
    assert {name for name in names if name.endswith(".png")} == {f"clip.mp4 frame {k}-overlay.png" for k in numbers}


def test_the_code_of_the_page_runs(brief, tmp_path, monkeypatch):
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)
    monkeypatch.chdir(tmp_path)
    shutil.copy(brief, "clip.mp4")
    exec(compile(code, PAGE.name, "exec"), {})
    assert {path.name for path in tmp_path.iterdir()} == {
        "clip.mp4", "neutral.obj", "neutral.mtl", "neutral.png", "frames.csv"
    }  # fmt: skip


def test_clips_that_cannot_be_used_are_one_and_wrong_usage_is_two(clip, tmp_path, capsys):
    broken = tmp_path / "broken.mp4"
    broken.write_bytes(b"\0\0\0\x18ftypmp42" + bytes(100))
    assert run(broken, "--out", tmp_path / "out") == 1
    assert "broken.mp4 cannot be decoded: it is broken" in capsys.readouterr().err
    assert json.loads((tmp_path / "out" / "photos.json").read_text())[0]["problem"] == "BadPhoto"
    for wrong in ([clip, "--each"], [clip, clip], [clip, "--all-faces"]):
        assert run(*wrong, "--out", tmp_path / "none") == 2
        assert "is a video; give it alone" in capsys.readouterr().err
    assert run(clip, "--smooth", 11, "--out", tmp_path / "none") == 2
    assert not (tmp_path / "none").exists()
