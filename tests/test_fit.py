"""The landmark fit: it finds what was drawn, never gets worse, and does not care how the photo was taken."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import least_squares, lsq_linear

from sameface.core.camera import Camera, Perspective, WeakPerspective
from sameface.core.geometry import align, apply_affine, rotation_from_axis_angle, rotation_from_euler
from sameface.morphable.points import Points
from sameface.reconstruction.cameras import camera_jacobian, fit_cameras, moved, perspective_from_weak
from sameface.reconstruction.fit import Measured, Priors, _boxed, fit

seeds = st.integers(0, 2**32 - 1)
FREE = Priors(identity=1e-6, expression=1e-6, huber=1e3, rounds=60)
"""hardly any prior: the landmarks decide"""


@pytest.fixture(scope="module")
def points(tiny_model) -> Points:
    return Points.of(tiny_model, tiny_model.landmark_faces, tiny_model.landmark_weights)


def poses(rng: np.random.Generator, count: int) -> np.ndarray:
    return rotation_from_euler(*(rng.uniform(-limit, limit, count) for limit in (0.3, 0.7, 0.3)))


def weak(rng: np.random.Generator, count: int) -> WeakPerspective:
    return WeakPerspective(poses(rng, count), rng.uniform(250, 390, (count, 2)), rng.uniform(1.5, 3, count), (640, 480))


def pinhole(rng: np.random.Generator, count: int) -> Perspective:
    away = np.stack([*rng.uniform(-80, 80, (2, count)), rng.uniform(350, 600, count)], axis=1)
    center = np.tile([320.0, 240.0], (count, 1))
    return Perspective(poses(rng, count), away, rng.uniform(600, 900, count), center, (640, 480))


def unknown(rng: np.random.Generator, count: int) -> Perspective:
    """As `pinhole`; `drawn` forgets the focal length of the even photos."""
    return pinhole(rng, count)


both = pytest.mark.parametrize("make", [weak, pinhole])
every = pytest.mark.parametrize("make", [weak, pinhole, unknown])


def nudged(camera: Camera, rng: np.random.Generator) -> Camera:
    """As a network would guess it: a tenth of a radian and some pixels off."""
    turn = rotation_from_axis_angle(rng.normal(0, 0.06, (len(camera.rotation), 3)))
    move = rng.normal(0, 5, camera.translation.shape)
    return replace(camera, rotation=turn @ camera.rotation, translation=camera.translation + move)


def drawn(
    points: Points, make, seed: int, count: int = 5, noise: float = 0.0, expressive: bool = True
) -> tuple[Measured, np.ndarray, np.ndarray, Camera]:
    """Photos of one random person: what was measured, and the identity, expressions and cameras behind it."""
    rng = np.random.default_rng(seed)
    identity = np.tile(rng.normal(size=points.identity.shape[2]), (count, 1))
    expression = rng.uniform(0.1, 0.9, (count, points.expression.shape[2])) * expressive
    camera = make(rng, count)
    landmarks = camera.project(points(identity, expression)) + rng.normal(0, noise, (count, len(points.mean), 2))
    measured = Measured(
        landmarks=landmarks,
        sigma=np.full(landmarks.shape[:2], max(noise, 1.0)),
        identity=np.zeros_like(identity),
        expression=np.clip(expression + rng.normal(0, 0.1, expression.shape) * expressive, 0, 1),
        camera=nudged(camera, rng),
    )
    if make is unknown:
        measured = guessed(measured, 500.0)
    return measured, identity, expression, camera


def guessed(measured: Measured, distance: float) -> Measured:
    """The focal length of every other photo is forgotten; the face is expected at so many mm and starts there."""
    forgotten = np.arange(len(measured.landmarks)) % 2 == 0
    camera = measured.camera
    zoom = np.where(forgotten, distance / camera.translation[:, 2], 1.0)
    away = camera.translation * np.stack([np.ones_like(zoom), np.ones_like(zoom), zoom], axis=1)
    camera = replace(camera, translation=away, focal=camera.focal * zoom)
    return replace(measured, camera=camera, distance=np.where(forgotten, distance, np.nan))


def shape_error(points: Points, found: np.ndarray, true: np.ndarray) -> float:
    """mm RMS between two identities after the best similarity, as photos without a known scale allow."""
    zero = np.zeros((1, points.expression.shape[2]))
    a, b = points(found[:1], zero)[0], points(true[:1], zero)[0]
    s, rotation, t = align(a, b)
    return float(np.sqrt((((s * a @ rotation.T + t) - b) ** 2).sum(1).mean()))


# ── points ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_points_are_those_of_the_whole_mesh(tiny_model, points):
    rng = np.random.default_rng(0)
    identity, expression = rng.normal(size=(3, 6)), rng.uniform(size=(3, 4))
    wanted = tiny_model.landmarks(tiny_model.vertices(identity, expression))
    np.testing.assert_allclose(points(identity, expression), wanted, atol=1e-3)


# ── finding what was drawn ─────────────────────────────────────────────────────────────────────────────────


@both
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exact_landmarks_give_the_identity_they_were_drawn_from(points, make, seed):
    measured, identity, expression, camera = drawn(points, make, seed)
    found = fit(points, measured, FREE)
    assert np.ptp(found.identity, axis=0).max() == 0
    assert shape_error(points, found.identity, identity) < 0.15
    np.testing.assert_allclose(
        found.camera.project(points(found.identity, found.expression)), measured.landmarks, atol=0.3
    )
    assert found.residual.max() < 1e-3
    angle = np.arccos(np.clip((np.einsum("nij,nij->n", found.camera.rotation, camera.rotation) - 1) / 2, -1, 1))
    assert angle.max() < 0.03
    assert np.abs(found.expression - expression).max() < 0.2


@every
def test_a_known_identity_stays_and_the_rest_is_found(points, make):
    measured, identity, expression, camera = drawn(points, make, 3)
    found = fit(points, measured, FREE, shared=False, identity=identity[0])
    np.testing.assert_array_equal(found.identity, identity)
    np.testing.assert_allclose(found.expression, expression, atol=0.02)
    np.testing.assert_allclose(found.camera.rotation, camera.rotation, atol=0.01)


@both
def test_more_photos_of_noisy_landmarks_come_closer(points, make):
    def error(count: int) -> float:
        tries = [drawn(points, make, seed, count, noise=2.0) for seed in range(5)]
        return float(np.mean([shape_error(points, fit(points, m).identity, true) for m, true, *_ in tries]))

    assert error(12) < 0.8 * error(1)


@every
def test_several_photos_beat_the_average_face(points, make):
    measured, identity, *_ = drawn(points, make, 0, noise=1.0)
    found = fit(points, measured)
    assert shape_error(points, found.identity, identity) < 0.4 * shape_error(points, 0 * identity, identity)


def test_a_strong_prior_gives_the_average_face(points):
    measured, *_ = drawn(points, weak, 0)
    found = fit(points, measured, Priors(identity=1e9, network=0.0))
    assert np.abs(found.identity).max() < 1e-3


def test_a_strong_trust_in_the_network_gives_the_networks_answer(points):
    measured, *_ = drawn(points, weak, 0)
    said = np.random.default_rng(1).normal(size=measured.identity.shape)
    sigma = measured.sigma * np.array([1, 2, 1, 4, 1.0])[:, None]
    found = fit(
        points, replace(measured, identity=said, sigma=sigma), Priors(identity=1e9, network=1.0, expression=1e9)
    )
    sizes = np.linalg.norm(np.ptp(measured.landmarks, axis=1), axis=1)
    weight = sizes**2 / np.array([1, 4, 1, 16, 1])
    np.testing.assert_allclose(found.identity[0], weight @ said / weight.sum(), atol=1e-3)
    np.testing.assert_allclose(found.expression, measured.expression, atol=1e-3)


# ── laws ───────────────────────────────────────────────────────────────────────────────────────────────────


@every
@settings(max_examples=15)
@given(seed=seeds)
def test_the_objective_never_rises(points, make, seed):
    measured, *_ = drawn(points, make, seed, count=3, noise=3.0)
    rng = np.random.default_rng(seed)
    wild = rng.random(measured.landmarks.shape[:2]) < 0.15
    landmarks = measured.landmarks + wild[..., None] * rng.normal(0, 60, measured.landmarks.shape)
    found = fit(points, replace(measured, landmarks=landmarks), Priors(rounds=12))
    history = np.array(found.objective)
    assert len(history) >= 2
    assert (np.diff(history) <= 1e-9 * history[:-1]).all()


@every
@settings(max_examples=10)
@given(seed=seeds)
def test_expressions_stay_in_their_box(points, make, seed):
    measured, *_ = drawn(points, make, seed, count=3, noise=4.0)
    outside = measured.expression + np.random.default_rng(seed).normal(0, 1, measured.expression.shape)
    found = fit(points, replace(measured, expression=outside))
    assert found.expression.min() >= 0
    assert found.expression.max() <= 1


@every
@settings(max_examples=10)
@given(seed=seeds)
def test_turning_scaling_and_moving_the_photo_moves_the_camera_and_not_the_face(points, make, seed):
    measured, *_ = drawn(points, make, seed, count=3, noise=1.0)
    rng = np.random.default_rng(seed)
    turn, zoom = rng.uniform(-3, 3), rng.uniform(0.3, 3)
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    affine = np.concatenate([linear, rng.uniform(-100, 100, (2, 1))], axis=1)
    moved = replace(
        measured,
        landmarks=apply_affine(np.stack([affine] * 3), measured.landmarks),
        sigma=measured.sigma * zoom,
        camera=measured.camera.warped(affine, (96, 96)),
    )
    plain, other = fit(points, measured), fit(points, moved)
    np.testing.assert_allclose(other.identity, plain.identity, atol=2e-3)
    np.testing.assert_allclose(other.expression, plain.expression, atol=2e-3)
    shape = points(plain.identity, plain.expression)
    expected = apply_affine(np.stack([affine] * 3), plain.camera.project(shape))
    np.testing.assert_allclose(other.camera.project(shape), expected, atol=0.02 * zoom)


def test_more_pixels_do_not_make_a_photo_count_more(points):
    """One photo of three five times as large, with the same errors in parts of the face."""
    measured, *_ = drawn(points, weak, 1, count=3, noise=1.0)
    measured = replace(measured, identity=np.random.default_rng(2).normal(size=measured.identity.shape))
    zoom = np.array([1.0, 5.0, 1.0])
    camera = replace(
        measured.camera, scale=measured.camera.scale * zoom, translation=measured.camera.translation * zoom[:, None]
    )
    landmarks, sigma = measured.landmarks * zoom[:, None, None], measured.sigma * zoom[:, None]
    large = fit(points, replace(measured, landmarks=landmarks, sigma=sigma, camera=camera))
    np.testing.assert_allclose(large.identity, fit(points, measured).identity, atol=2e-3)


def test_the_order_of_known_and_unknown_focal_lengths_does_not_matter(points):
    measured, *_ = drawn(points, unknown, 0, noise=1.0)
    backwards = fit(points, measured.map(lambda array: array[::-1].copy()))
    found = fit(points, measured)
    np.testing.assert_allclose(backwards.identity, found.identity, atol=1e-6)
    np.testing.assert_allclose(backwards.camera.focal[::-1], found.camera.focal, rtol=1e-6)


def test_one_gross_outlier_changes_little(points):
    measured, *_ = drawn(points, weak, 3, noise=1.0)
    landmarks = measured.landmarks.copy()
    landmarks[0, 40] += [200, -150]
    plain, spoilt = fit(points, measured), fit(points, replace(measured, landmarks=landmarks))
    assert shape_error(points, spoilt.identity, plain.identity) < 0.2
    trusting = fit(points, replace(measured, landmarks=landmarks), Priors(huber=1e6))
    harm = shape_error(points, trusting.identity, plain.identity)
    assert harm > 5 * shape_error(points, spoilt.identity, plain.identity)


@every
def test_photos_on_their_own_are_fitted_as_if_alone(points, make):
    measured, *_ = drawn(points, make, 0, count=3, noise=1.0)
    priors = Priors(rounds=2)
    apart = fit(points, measured, priors, shared=False)
    for k in range(3):
        alone = fit(points, measured.map(lambda array, k=k: array[k : k + 1]), priors)
        np.testing.assert_allclose(apart.identity[k], alone.identity[0], atol=2e-3)
        np.testing.assert_allclose(apart.expression[k], alone.expression[0], atol=2e-3)
        np.testing.assert_allclose(apart.residual[k], alone.residual[0], atol=1e-4)


def test_several_persons_at_once_are_fitted_as_if_apart(points):
    anna, *_ = drawn(points, weak, 0, count=2, noise=1.0)
    ben, *_ = drawn(points, weak, 1, count=3, noise=1.0)
    order = np.array([2, 0, 3, 1, 4])  # of the photos, mixed
    person = np.array([7, 7, -3, -3, -3])[order]
    parts = zip(
        *([getattr(m, name) for name in ("landmarks", "sigma", "identity", "expression")] for m in (anna, ben)),
        strict=True,
    )
    cameras = WeakPerspective(
        *(
            np.concatenate([getattr(m.camera, n) for m in (anna, ben)])[order]
            for n in ("rotation", "translation", "scale")
        ),
        (640, 480),
    )
    mixed = Measured(*(np.concatenate(part)[order] for part in parts), cameras)
    priors = Priors(rounds=2)
    together = fit(points, mixed, priors, person=person)
    back = np.argsort(order)
    for rows, one in ((back[:2], anna), (back[2:], ben)):
        alone = fit(points, one, priors)
        np.testing.assert_allclose(together.identity[rows], alone.identity, atol=2e-3)
        np.testing.assert_allclose(together.expression[rows], alone.expression, atol=2e-3)


def test_the_order_of_the_photos_does_not_matter(points):
    measured, *_ = drawn(points, weak, 0, noise=1.0)
    backwards = fit(points, measured.map(lambda array: array[::-1].copy()))
    np.testing.assert_allclose(backwards.identity, fit(points, measured).identity, atol=1e-6)


# ── cameras ────────────────────────────────────────────────────────────────────────────────────────────────


@both
@settings(max_examples=10)
@given(seed=seeds)
def test_the_cameras_jacobian_against_finite_differences(points, make, seed):
    rng = np.random.default_rng(seed)
    camera = make(rng, 2)
    at = points(rng.normal(size=(2, 6)), rng.uniform(size=(2, 4)))
    jacobian, by_point = camera_jacobian(camera, at)
    for k in range(6):
        step = 1e-5 * np.eye(6)[[k, k]]
        slope = (moved(camera, step).project(at) - moved(camera, -step).project(at)) / 2e-5
        np.testing.assert_allclose(jacobian[..., k], slope, atol=1e-4, rtol=1e-4)
    for axis in range(3):  # a move in camera axes
        step = 1e-4 * camera.rotation[:, axis][:, None]
        slope = (camera.project(at + step) - camera.project(at - step)) / 2e-4
        np.testing.assert_allclose(by_point[..., axis], slope, atol=1e-5, rtol=1e-4)


@both
def test_the_camera_of_known_points_is_found(points, make):
    measured, identity, expression, camera = drawn(points, make, 0)
    found = fit_cameras(points(identity, expression), measured.landmarks, measured.sigma, measured.camera, rounds=20)
    np.testing.assert_allclose(found.rotation, camera.rotation, atol=1e-4)
    np.testing.assert_allclose(found.translation, camera.translation, atol=0.1)


@both
def test_a_step_of_the_camera_is_bounded(make):
    camera = make(np.random.default_rng(0), 2)
    far = moved(camera, np.full((2, 6), 1e6))
    turn = far.rotation @ camera.rotation.swapaxes(1, 2)
    np.testing.assert_allclose(np.arccos((np.einsum("nii->n", turn) - 1) / 2), 0.3, atol=1e-6)
    if isinstance(far, WeakPerspective):
        np.testing.assert_allclose(far.scale, camera.scale * np.exp(0.5))
    else:
        np.testing.assert_allclose(far.translation[:, 2], 1.6 * camera.translation[:, 2])
        back = moved(camera, np.full((2, 6), -1e6))
        assert (back.translation[:, 2] > 0).all()


def test_the_pinhole_of_a_weak_camera_agrees_at_the_origin_and_nearly_around_it():
    camera = weak(np.random.default_rng(0), 3)
    near = perspective_from_weak(camera, np.full(3, 5e4))
    origin = np.zeros((3, 1, 3))
    np.testing.assert_allclose(near.project(origin), camera.project(origin), atol=1e-6)
    around = np.random.default_rng(1).normal(0, 40, (3, 10, 3))
    np.testing.assert_allclose(near.project(around), camera.project(around), atol=3)
    np.testing.assert_allclose(near.center, [[320, 240]] * 3)


def test_the_seventh_unknown_against_finite_differences(points):
    """Focal length and distance grow together: a dolly zoom."""
    rng = np.random.default_rng(0)
    camera = pinhole(rng, 3)
    at = points(rng.normal(size=(3, 6)), rng.uniform(size=(3, 4)))
    jacobian, _ = camera_jacobian(camera, at, np.array([True, False, True]))
    assert jacobian.shape[3] == 7
    np.testing.assert_array_equal(jacobian[..., :6], camera_jacobian(camera, at)[0])
    step = np.zeros((3, 7))
    step[[0, 2], 6] = 1e-5
    slope = (moved(camera, step).project(at) - moved(camera, -step).project(at)) / 2e-5
    np.testing.assert_allclose(jacobian[..., 6], slope, atol=1e-4, rtol=1e-4)
    assert np.abs(slope[1]).max() == 0
    origin = np.zeros((3, 1, 3))
    far = moved(camera, np.full((3, 7), 0.2) * [0, 0, 0, 0, 0, 0, 1])
    np.testing.assert_allclose(far.project(origin), camera.project(origin))
    np.testing.assert_allclose(far.weak.scale, camera.weak.scale)
    np.testing.assert_allclose(far.translation[:, 2], np.exp(0.2) * camera.translation[:, 2])


@pytest.mark.parametrize("start", [300.0, 1200.0])
def test_exact_landmarks_tell_the_distance(points, start):
    """Of several photos of one person, half of them with a known lens."""
    measured, identity, _, camera = drawn(points, unknown, 1)
    measured = guessed(replace(measured, camera=camera, distance=None), start)
    found = fit(points, measured, replace(FREE, distance=1e-6))
    np.testing.assert_allclose(found.camera.translation[:, 2], camera.translation[:, 2], rtol=0.03)
    np.testing.assert_allclose(found.camera.focal, camera.focal, rtol=0.03)
    assert shape_error(points, found.identity, identity) < 0.15


def test_a_strong_prior_gives_the_expected_distance_and_known_focal_lengths_stay(points):
    measured, *_ = drawn(points, unknown, 2, noise=1.0)
    found = fit(points, measured, Priors(distance=1e9))
    np.testing.assert_allclose(found.camera.translation[::2, 2], 500, rtol=1e-3)
    np.testing.assert_array_equal(found.camera.focal[1::2], measured.camera.focal[1::2])
    assert (found.camera.focal[::2] != measured.camera.focal[::2]).all()


def test_the_objective_counts_the_distance_as_its_formula_says(points):
    measured, *_ = drawn(points, unknown, 3, count=1)
    one, other = (fit(points, measured, Priors(distance=weight, rounds=0)).objective[0] for weight in (0.0, 7.0))
    far = fit(points, measured, Priors(rounds=0)).camera.translation[0, 2]
    assert other - one == pytest.approx(7 * np.log(far / 500) ** 2, rel=1e-6)


def test_a_face_at_the_edge_starts_with_the_turn_against_the_line_of_sight():
    camera = weak(np.random.default_rng(0), 3)
    aside = perspective_from_weak(camera, np.array([300.0, 500.0, 900.0]))
    back = aside.weak
    for name in ("rotation", "translation", "scale"):
        np.testing.assert_allclose(getattr(back, name), getattr(camera, name), atol=1e-9)
    np.testing.assert_allclose(aside.pose, camera.rotation, atol=1e-12)
    around = np.random.default_rng(1).normal(0, 20, (3, 30, 3))  # small beside its distance
    apart = np.linalg.norm(aside.project(around) - camera.project(around), axis=2).mean(1)
    no_turn = replace(aside, rotation=camera.rotation)
    wrong = np.linalg.norm(no_turn.project(around) - camera.project(around), axis=2).mean(1)
    assert (apart < wrong).all()


# ── how firmly expressions are held ────────────────────────────────────────────────────────────────────────


def firm(measured: Measured, value: float | np.ndarray) -> Measured:
    return replace(measured, firmness=np.broadcast_to(value, measured.expression.shape).astype(float))


def test_a_firmness_of_one_is_the_priors_own_and_k_is_k_times_the_prior(points):
    measured, *_ = drawn(points, weak, 0, noise=1.0)
    plain = fit(points, measured)
    np.testing.assert_allclose(fit(points, firm(measured, 1.0)).expression, plain.expression, atol=1e-12)
    stronger = fit(points, measured, Priors(expression=7 * Priors().expression))
    np.testing.assert_allclose(fit(points, firm(measured, 7.0)).expression, stronger.expression, atol=1e-9)
    assert np.abs(stronger.expression - plain.expression).max() > 0.01


def test_what_is_held_very_firmly_stays_and_the_rest_goes_where_the_points_are(points):
    measured, _, expression, _ = drawn(points, weak, 1)
    hold = np.zeros_like(measured.expression)
    hold[:, 0] = 1e12  # FREE hardly holds anything
    found = fit(points, firm(measured, hold), FREE)
    np.testing.assert_allclose(found.expression[:, 0], measured.expression[:, 0], atol=1e-3)
    apart = np.abs(found.expression - expression).mean()
    assert apart < np.abs(measured.expression - expression).mean()


def test_the_objective_counts_the_firmness_as_its_formula_says(points):
    """Started at 1, where 1.5 was expected: 0.25 λ h for each."""
    measured, *_ = drawn(points, weak, 3)
    measured = replace(measured, expression=np.full_like(measured.expression, 1.5))
    hold = np.random.default_rng(0).uniform(0, 3, measured.expression.shape)
    one, other = (fit(points, firm(measured, h), Priors(rounds=0)).objective[0] for h in (0.0, hold))
    assert other - one == pytest.approx(Priors().expression * 0.25 * hold.sum(), rel=1e-9)


@pytest.mark.parametrize("seed", [0, 1])
def test_expressions_held_unequally_against_a_slow_reference(points, seed):
    """scipy's own box-constrained least squares over camera and expression of one photo whose identity is known."""
    measured, identity, _, camera = drawn(points, weak, seed, count=1, noise=2.0)
    hold = np.random.default_rng(seed).uniform(0, 30, measured.expression.shape)
    measured = firm(replace(measured, camera=camera), hold)
    priors = Priors(huber=1e3, rounds=60)
    found = fit(points, measured, priors, identity=identity[0])

    def residual(x: np.ndarray) -> np.ndarray:
        missed = measured.landmarks - moved(camera, x[None, :6]).project(points(identity, x[None, 6:]))
        pull = np.sqrt(priors.expression * hold[0]) * (x[6:] - measured.expression[0])
        return np.concatenate([(missed / measured.sigma[..., None]).ravel(), pull])

    box = np.repeat([[-np.inf], [np.inf]], 6, axis=1), np.tile([[0.0], [1.0]], measured.expression.shape[1])
    start = np.append(np.zeros(6), np.full(measured.expression.shape[1], 0.5))
    slow = least_squares(residual, start, bounds=np.concatenate(box, axis=1), x_scale="jac", xtol=1e-12, ftol=1e-12)
    assert found.objective[-1] == pytest.approx(2 * slow.cost + penalty(priors, identity, measured), rel=1e-5)
    np.testing.assert_allclose(found.expression[0], slow.x[6:], atol=0.01)


def penalty(priors: Priors, identity: np.ndarray, measured: Measured) -> float:
    """What the objective counts for an identity that is known: it is where it is expected, but for the factor k."""
    expected = priors.network * identity[0]
    return priors.identity * float(((identity[0] - expected) ** 2).sum())


# ── errors that points share ───────────────────────────────────────────────────────────────────────────────


def erring(points: Points, count: int = 3) -> Points:
    """Modes of some mm, smooth over the face as those of a network are."""
    rng = np.random.default_rng(5)
    waves = np.sin(points.mean @ rng.normal(0, 0.02, (3, count)) + rng.uniform(0, 6, count))
    return replace(points, errors=waves[:, None] * rng.normal(0, 3, (3, count)))


def test_errors_that_points_share_are_not_taken_for_the_person(points):
    wrong = erring(points)
    assert wrong.errors is not None
    gains = []
    for seed in range(6):
        measured, identity, expression, camera = drawn(points, weak, seed, noise=0.5)
        shared = np.random.default_rng(seed).normal(size=(len(identity), 3))
        shape = points(identity, expression) + np.tensordot(shared, wrong.errors, (1, 2))
        noise = measured.landmarks - camera.project(points(identity, expression))
        measured = replace(measured, landmarks=camera.project(shape) + noise)
        believed, known = (fit(which, measured, Priors(huber=1e3)) for which in (points, wrong))
        gains.append(shape_error(points, known.identity, identity) / shape_error(points, believed.identity, identity))
    assert np.median(gains) < 0.8


def test_no_modes_are_no_errors(points):
    measured, *_ = drawn(points, unknown, 0, noise=1.0)
    none = replace(points, errors=np.zeros((*points.mean.shape, 2)))
    np.testing.assert_allclose(fit(none, measured).identity, fit(points, measured).identity, atol=1e-5)


def test_the_fit_with_errors_is_that_of_correlated_residuals(points):
    """Their Gaussian coefficients integrated away: residuals of covariance σ² I + J E Eᵀ Jᵀ, J of the true camera."""
    wrong = erring(points)
    assert wrong.errors is not None
    measured, identity, _, camera = drawn(points, weak, 7, count=1, noise=2.0, expressive=False)
    measured = replace(measured, camera=camera)
    found = fit(wrong, measured, Priors(huber=1e3, rounds=60), identity=identity[0])
    jacobian = camera.scale[0] * np.einsum("ak,lkr->lar", camera.rotation[0, :2], wrong.errors)
    flat = jacobian.reshape(-1, wrong.errors.shape[2])
    covariance = np.diag(np.repeat(measured.sigma[0] ** 2, 2)) + flat @ flat.T

    white = np.linalg.inv(np.linalg.cholesky(covariance))

    def residual(x: np.ndarray) -> np.ndarray:
        shown = moved(camera, x[None, :6]).project(points(identity, x[None, 6:]))
        held = np.sqrt(Priors().expression) * (x[6:] - measured.expression[0])
        return np.concatenate([white @ (measured.landmarks - shown).ravel(), held])

    count = measured.expression.shape[1]
    box = np.repeat([[-np.inf, 0.0], [np.inf, 1.0]], [6, count], axis=1)
    start = np.append(np.zeros(6), np.full(count, 0.5))
    slow = least_squares(residual, start, bounds=tuple(box), x_scale="jac", xtol=1e-12, ftol=1e-12)
    assert found.objective[-1] == pytest.approx(2 * slow.cost + penalty(Priors(), identity, measured), rel=1e-4)


# ── the box ────────────────────────────────────────────────────────────────────────────────────────────────


@given(seed=seeds, size=st.sampled_from([1, 6, 51]))
def test_boxed_least_squares_against_scipy(seed, size):
    """Also where most unknowns end at a bound, and where unknowns nearly stand for each other."""
    rng = np.random.default_rng(seed)
    matrix, goal = rng.normal(size=(2, 2 * size, size)), rng.normal(0, 4, (2, 2 * size))
    matrix[..., size // 2] = matrix[..., 0] + 0.05 * matrix[..., size // 2]
    start = np.clip(rng.uniform(-0.5, 1.5, (2, size)), 0, 1)
    hessian = matrix.swapaxes(1, 2) @ matrix
    residual = goal - np.einsum("nrk,nk->nr", matrix, start)
    found = _boxed(hessian, np.einsum("nrk,nr->nk", matrix, residual), start)
    for k in range(2):
        wanted = lsq_linear(matrix[k], goal[k], (0, 1), method="bvls", tol=1e-12).x
        np.testing.assert_allclose(found[k], wanted, atol=1e-5)


def test_boxed_least_squares_by_hand():
    """The free optimum is at (2, −1): the corner (1, 0) is the nearest point of the box."""
    found = _boxed(np.eye(2)[None], np.array([[1.5, -1.5]]), np.array([[0.5, 0.5]]))
    np.testing.assert_allclose(found, [[1, 0]])


# ── errors ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_measurements_that_cannot_be_fitted_are_named(points):
    measured, *_ = drawn(points, weak, 0)
    with pytest.raises(ValueError, match="50 landmarks were measured, but the model points are 68"):
        fit(points, replace(measured, landmarks=measured.landmarks[:, :50], sigma=measured.sigma[:, :50]))
    for name in ("landmarks", "sigma", "identity", "expression"):
        broken = getattr(measured, name).copy()
        broken[1, 2] = np.nan
        with pytest.raises(ValueError, match=f"measured {name} of 5 photos contain values that are not finite"):
            fit(points, replace(measured, **{name: broken}))
    with pytest.raises(ValueError, match="positive expected error"):
        fit(points, replace(measured, sigma=0 * measured.sigma))
    with pytest.raises(ValueError, match="firmness of an expected expression is a number of at least 0"):
        fit(points, firm(measured, -1.0))
    with pytest.raises(ValueError, match="only cameras in perspective"):
        fit(points, replace(measured, distance=np.full(5, 500.0)))
    near, *_ = drawn(points, unknown, 0)
    with pytest.raises(ValueError, match="positive number"):
        fit(points, replace(near, distance=np.full(5, -1.0)))
