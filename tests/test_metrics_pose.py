"""Angles of 300W-LP: by hand, against SciPy, against plain copies of what others print, and on AFLW2000-3D."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.io import loadmat
from scipy.spatial.transform import Rotation

from sameface.core.geometry import euler_from_rotation, rotation_from_euler
from sameface.metrics.pose import (
    angle_errors,
    angles_by_3ddfa,
    angles_by_synergynet,
    camera_from_pose_para,
    pose_mae,
    pose_para_from_camera,
    pose_para_from_rotation,
    rotation_from_pose_para,
    split_projection,
    within_limit,
)

angles = st.tuples(st.floats(-3, 3), st.floats(-1.5, 1.5), st.floats(-3, 3))
tilted = st.tuples(st.floats(0.2, 0.6), st.floats(0.3, 0.8), st.floats(0.2, 0.6))


def rotation(pose) -> np.ndarray:
    return rotation_from_pose_para(*(np.array(float(a)) for a in pose))


def random_rotation(seed: int) -> np.ndarray:
    return Rotation.from_rotvec(np.random.default_rng(seed).normal(size=3)).as_matrix()


# ── Pose_Para ──────────────────────────────────────────────────────────────────────────────────────────────


def test_each_angle_alone_by_hand():
    quarter = math.pi / 2
    np.testing.assert_allclose(rotation((quarter, 0, 0)), [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-12)
    np.testing.assert_allclose(rotation((0, quarter, 0)), [[0, 0, -1], [0, 1, 0], [1, 0, 0]], atol=1e-12)
    np.testing.assert_allclose(rotation((0, 0, quarter)), [[0, 1, 0], [-1, 0, 0], [0, 0, 1]], atol=1e-12)


@settings(max_examples=30)
@given(pose=angles)
def test_forward_agrees_with_scipy_whose_turns_are_the_transposed_ones(pose):
    """Rx(a) of 300W-LP is the usual Rx(−a): the product is SciPy's intrinsic "XYZ" of the negative angles."""
    np.testing.assert_allclose(rotation(pose), Rotation.from_euler("XYZ", [-a for a in pose]).as_matrix(), atol=1e-12)


@settings(max_examples=25)
@given(pose=angles)
def test_the_inverse_is_exact(pose):
    np.testing.assert_allclose(pose_para_from_rotation(rotation(pose)), pose, atol=1e-7)
    back = camera_from_pose_para(*(np.array(a) for a in pose))
    np.testing.assert_allclose(pose_para_from_camera(back), pose, atol=1e-7)


def test_at_a_quarter_turn_the_matrix_still_comes_back():
    turned = rotation((0.3, math.pi / 2, 0.1))
    np.testing.assert_allclose(pose_para_from_rotation(turned)[1], math.pi / 2)


def test_batches_are_taken_as_they_come():
    many = np.random.default_rng(0).uniform(-1, 1, (4, 5, 3))
    matrices = rotation_from_pose_para(*np.moveaxis(many, -1, 0))
    assert matrices.shape == (4, 5, 3, 3)
    np.testing.assert_allclose(np.stack(pose_para_from_rotation(matrices), -1), many, atol=1e-9)
    np.testing.assert_allclose(matrices[2, 3], rotation(many[2, 3]))


# ── their convention and ours ──────────────────────────────────────────────────────────────────────────────


@settings(max_examples=20)
@given(angle=st.floats(-1.5, 1.5))
def test_one_angle_alone_changes_its_sign_but_roll_does_not(angle):
    for position, sign in ((0, -1), (1, -1), (2, 1)):
        pose = [np.array(0.0)] * 3
        pose[position] = np.array(angle)
        np.testing.assert_allclose(euler_from_rotation(camera_from_pose_para(*pose))[position], sign * angle, atol=1e-7)


def test_three_angles_together_are_other_numbers():
    """Their order is Rx Ry Rz and ours Rz Ry Rx, so only the matrix can be converted."""
    ours = euler_from_rotation(camera_from_pose_para(np.array(0.4), np.array(0.6), np.array(0.3)))
    assert abs(-ours[0] - 0.4) > 0.1
    np.testing.assert_allclose(rotation_from_euler(*ours), camera_from_pose_para(*map(np.array, (0.4, 0.6, 0.3))))


@settings(max_examples=25)
@given(pose=angles)
def test_projecting_with_our_camera_is_projecting_with_theirs(pose):
    """x the same, y and z negated: their image has y up and z towards the viewer."""
    points = np.random.default_rng(0).normal(size=(5, 3))
    ours = points @ camera_from_pose_para(*(np.array(a) for a in pose)).T
    np.testing.assert_allclose(ours, points @ rotation(pose).T * [1, -1, -1])


# ── what others print ──────────────────────────────────────────────────────────────────────────────────────


def printed(R: np.ndarray, corrected: bool) -> tuple[float, float, float]:
    """The branches of both projects' functions with the standard library's scalars: pitch, yaw, roll."""
    p, r = (R[1, 2], R[0, 1]) if corrected else (R[2, 1], R[1, 0])
    if R[2, 0] not in (1, -1):
        yaw = math.asin(R[2, 0])
        c = math.cos(yaw)
        return math.atan2(p / c, R[2, 2] / c), yaw, math.atan2(r / c, R[0, 0] / c)
    if R[2, 0] == -1:
        return math.atan2(R[0, 1], R[0, 2]), math.pi / 2, 0.0
    return math.atan2(-R[0, 1], -R[0, 2]), -math.pi / 2, 0.0


@settings(max_examples=25)
@given(pose=angles)
def test_public_variants_are_reproduced(pose):
    np.testing.assert_allclose(angles_by_3ddfa(rotation(pose)), printed(rotation(pose), False), atol=1e-12)
    np.testing.assert_allclose(angles_by_synergynet(rotation(pose)), printed(rotation(pose), True), atol=1e-12)


@pytest.mark.parametrize("corner", [1.0, -1.0])
def test_public_variants_are_reproduced_where_the_axes_lock(corner):
    locked = np.array([[0, math.sin(0.4), math.cos(0.4)], [0, math.cos(0.4), -math.sin(0.4)], [corner, 0, 0]])
    for function, corrected in ((angles_by_3ddfa, False), (angles_by_synergynet, True)):
        np.testing.assert_allclose(function(locked), printed(locked, corrected), atol=1e-12)
        np.testing.assert_allclose(function(np.stack([np.eye(3), locked]))[1], [0, -corner * math.pi / 2])


@settings(max_examples=30)
@given(pose=tilted)
def test_public_variants_are_wrong_where_their_docstrings_say_so(pose):
    pitch, yaw, roll = pose
    theirs, corrected = angles_by_3ddfa(rotation(pose)), angles_by_synergynet(rotation(pose))
    np.testing.assert_allclose(corrected[::2], (pitch, roll), atol=1e-9)
    np.testing.assert_allclose(corrected[1], theirs[1])
    assert max(np.abs(np.subtract(theirs, pose))) > 0.03
    np.testing.assert_allclose(angles_by_3ddfa(rotation((0, yaw, 0))), (0, yaw, 0), atol=1e-9)
    np.testing.assert_allclose(angles_by_3ddfa(rotation((pitch, 0, 0))), (-pitch, 0, 0), atol=1e-9)
    np.testing.assert_allclose(angles_by_3ddfa(rotation((0, 0, roll))), (0, 0, -roll), atol=1e-9)


def test_a_tilted_profile_is_tens_of_degrees_off():
    pose = np.radians([-10.0, 70, -40])
    assert np.degrees(np.abs(np.subtract(angles_by_3ddfa(rotation(pose)), pose))).max() > 20


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), scale=st.floats(1e-4, 10))
def test_a_projection_splits_into_what_it_was_made_of(seed, scale):
    turn, shift = random_rotation(seed), np.random.default_rng(seed).normal(size=3)
    s, found, t = split_projection(np.concatenate([scale * turn, shift[:, None]], axis=1))
    np.testing.assert_allclose(s, scale)
    np.testing.assert_allclose(found, turn, atol=1e-9)
    np.testing.assert_allclose(t, shift)


def test_a_projection_by_hand():
    rows = np.array([[2.0, 0, 0, 5], [0, 4, 0, 6], [9, 9, 9, 7]])  # the third row is not looked at
    s, turn, t = split_projection(rows)
    assert s == 3
    np.testing.assert_allclose(turn, np.eye(3))
    np.testing.assert_allclose(t, [5, 6, 7])


def test_matrices_that_are_none_are_refused():
    with pytest.raises(ValueError, match=r"first two rows of the projection have lengths \[0\. 1\.\]"):
        split_projection(np.diag([0.0, 1, 1, 1])[:3])
    for function in (pose_para_from_rotation, angles_by_3ddfa, angles_by_synergynet):
        with pytest.raises(ValueError, match="length 2 to 2 is no rotation; divide by its scale first"):
            function(2 * np.eye(3))
        with pytest.raises(ValueError, match="is no rotation"):
            function(np.full((3, 3), np.nan))


# ── mean absolute errors ───────────────────────────────────────────────────────────────────────────────────


def test_mean_errors_by_hand():
    truth = np.array([[0.0, 10, -20], [5, 99, 0], [0, 0, 99.5], [-120, 0, 0]])
    predicted = truth + np.array([[1, -2, 3], [3, 4, -1], [50, 50, 50], [50, 50, 50]])
    assert within_limit(truth).tolist() == [True, True, False, False]
    found = pose_mae(predicted, truth)
    assert found == (2, 3, 2, 7 / 3, 2, 2)
    assert pose_mae(predicted, truth, limit=360.0).used == 4


def test_lenient_errors_by_hand():
    truth = np.zeros((1, 3))
    predicted = np.array([[179.0, -350, 90]])
    assert angle_errors(predicted, truth).tolist() == [[179, 350, 90]]
    assert angle_errors(predicted, truth, lenient=True).tolist() == [[1, 10, 90]]
    assert pose_mae(predicted, truth, lenient=True)[:4] == (1, 10, 90, 101 / 3)


@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1))
def test_lenient_is_never_more_and_strict_doubles(seed):
    rng = np.random.default_rng(seed)
    truth, error = rng.uniform(-99, 99, (6, 3)), rng.uniform(-90, 90, (6, 3))
    strict = angle_errors(truth + error, truth)
    np.testing.assert_allclose(angle_errors(truth + 2 * error, truth), 2 * strict)
    lenient = angle_errors(truth + 2 * error, truth, lenient=True)
    assert (lenient <= 2 * strict + 1e-9).all()
    assert (lenient <= 90 + 1e-9).all()
    np.testing.assert_allclose(angle_errors(truth + error + 180, truth, lenient=True), np.abs(error), atol=1e-9)
    slow = [min(abs(d + k) for k in (0, 360, -360, 180, -180)) for d in (2 * error).ravel().tolist()]
    np.testing.assert_allclose(lenient.ravel(), slow, atol=1e-9)


def test_poses_that_cannot_be_compared_are_refused():
    good, bad = np.zeros((2, 3)), np.array([[0, 0, 0], [0, np.nan, 0]])
    with pytest.raises(ValueError, match="1 of 2 predicted poses are not finite"):
        pose_mae(bad, good)
    with pytest.raises(ValueError, match="1 of 2 true poses are not finite"):
        pose_mae(good, bad)
    with pytest.raises(ValueError, match="0 of 0 true poses"):
        pose_mae(good[:0], good[:0])
    with pytest.raises(ValueError, match="none of 2 true poses is within 99 degrees"):
        pose_mae(good, good + 100)


# ── AFLW2000-3D ────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def oracle(shared) -> dict[str, dict]:
    folder = shared("oracles")
    images = json.loads((folder / "aflw2000_mb05.json").read_text())["images"]
    for name, image in images.items():
        image["labels"] = loadmat(folder / "aflw2000" / f"image{name}.mat")
    return images


def test_pose_para_of_16_faces_comes_back(oracle):
    """Through the matrix, which the floor test of tests/test_aflw2000.py checks against the true points."""
    for image in oracle.values():
        pose = image["labels"]["Pose_Para"][0, :3].astype(float)
        np.testing.assert_allclose(pose_para_from_rotation(rotation(pose)), pose, atol=1e-6)
        np.testing.assert_allclose(np.degrees(pose), image["gt_pose_deg_pitch_yaw_roll"], atol=1e-5)


def test_their_yaw_runs_opposite_to_ours_on_16_faces(oracle):
    """A nose that points to the image's right lies right of the eyes: yaw > 0 for us, < 0 for them."""
    for image in oracle.values():
        theirs = np.radians(image["gt_pose_deg_pitch_yaw_roll"])
        points = np.array(image["gt_pts68"])
        camera = camera_from_pose_para(*theirs[:, None])[0]
        _, ours, _ = euler_from_rotation(camera)
        ahead = camera @ [0, 0, 1]
        if abs(theirs[1]) > math.radians(20):
            nose = points[0, 30] - points[0, [36, 45]].mean()
            assert np.sign(nose) == np.sign(ahead[0]) == np.sign(ours) == -np.sign(theirs[1])
        if abs(theirs[0]) > math.radians(25) and abs(theirs[1]) < math.radians(30):
            assert np.sign(ahead[1]) == -np.sign(theirs[0])


def test_the_true_points_are_the_ones_that_our_camera_rotation_turns(oracle, shared):
    """Mean shape, turned as we say, correlates with the true points best when no sign is changed."""
    shape = np.loadtxt(shared("oracles/tddfa") / "u_base.txt").reshape(68, 3)
    for image in oracle.values():
        theirs = np.radians(image["gt_pose_deg_pitch_yaw_roll"])[:, None]
        truth = np.array(image["gt_pts68"]).T * [1, 1, -1]  # z away from the viewer, as ours

        def fit(pose, truth=truth):
            turned = shape @ camera_from_pose_para(*pose)[0].T
            a, b = turned - turned.mean(0), truth - truth.mean(0)
            return (a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b)

        right = fit(theirs)
        assert right > 0.985
        for axis in range(3):
            if abs(theirs[axis, 0]) > math.radians(10):
                other = theirs.copy()
                other[axis] *= -1
                assert fit(other) < right


def test_the_mean_errors_of_3ddfa_v2_on_16_faces_are_the_known_ones(oracle):
    truth = np.array([image["gt_pose_deg_pitch_yaw_roll"] for image in oracle.values()])
    found = []
    for image in oracle.values():
        _, turn, _ = split_projection(np.array(image["v1roi"]["param62"])[:12].reshape(3, 4))
        found.append(np.degrees(pose_para_from_rotation(turn)))
        np.testing.assert_allclose(found[-1], image["v1roi"]["pose_exact_deg"], atol=1e-6)
    errors = pose_mae(np.array(found), truth)
    np.testing.assert_allclose(errors[:4], [4.33, 3.09, 1.68, 3.03], atol=0.005)
    assert (errors.used, errors.left_out) == (16, 0)
