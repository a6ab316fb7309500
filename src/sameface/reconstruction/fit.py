"""Landmarks of one or several photos of a person → one identity, and per photo a camera and an expression.

The multi-image fit of Liu et al. 2018 (sec. 3.3.2, eq. 7), with priors and robust weights. Minimised over the
identity α (shared), and per photo i the camera c_i and the expression β_i ∈ [0, 1]:

    Σ_i Σ_l ρ(|P(c_i) v_l(α, β_i) − q_il| / σ_il)
        + λ_id (1 + (N−1) r) |α − k ᾱ|² + λ_exp Σ_i |β_i − β̄_i|²

ᾱ is what a network says of the identity, on average over the photos (weights (face's size / mean σ)²). Networks make
the same mistakes in every photo of a person: r is how far the N photos repeat each other. With r = 1, N copies of a
photo give the shape of one; with r = 0 they count as N independent witnesses and overrule the prior. With k = 0 the
prior is the average face.
ρ is Huber's function, q_il the measured points and σ_il their expected errors (px), β̄_i what the network said.
Each round takes two Gauss-Newton steps: the expressions (cameras move along), then the identity (cameras and the
expressions inside their box move along). What moves along is eliminated by the Schur complement, so that the valleys
between head size and distance, and between a smile and a wide mouth, cost no rounds. The objective never rises: a step
that would raise it is cut to a third, and again, then refused.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Int

from sameface.core.arrays import Record
from sameface.core.camera import Camera, Perspective, WeakPerspective
from sameface.core.geometry import rotation_from_axis_angle
from sameface.morphable.points import Points

__all__ = ["Fit", "Measured", "Priors", "fit", "fit_cameras", "perspective_from_weak"]

AT_ONCE = 4
"""photos whose Jacobians are held at a time"""


@dataclass(frozen=True)
class Priors:
    """Weights of the objective; the defaults were chosen on the val split (results/fit-priors.json)."""

    identity: float = 32.0
    """λ_id: pull towards the expected face"""
    repeated: float = 0.5
    """r: correlation of the errors of two photos of a person"""
    network: float = 0.6
    """k: the expected face is this part of what the network says; 0: the average face"""
    expression: float = 20.0
    """λ_exp: pull towards the network's expression"""
    huber: float = 1.5
    """residuals beyond this many σ count linearly"""
    rounds: int = 8
    """at most this many rounds"""


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Record):
    """What was seen in N photos: the start of the fit and its data."""

    landmarks: Float[np.ndarray, "N L 2"]
    """px"""
    sigma: Float[np.ndarray, "N L"]
    """px"""
    identity: Float[np.ndarray, "N S"]
    """the network's, σ"""
    expression: Float[np.ndarray, "N E"]
    """the network's"""
    camera: Camera
    """batch of N, in photo px"""


@dataclass(frozen=True, eq=False, repr=False)
class Fit(Record):
    """The minimum found."""

    identity: Float[np.ndarray, "N S"]
    """σ; equal rows when the identity is shared"""
    expression: Float[np.ndarray, "N E"]
    camera: Camera
    residual: Float[np.ndarray, " N"]
    """median landmark distance of each photo, as a fraction of the face's size in it"""
    objective: tuple[float, ...]
    """before the first and after each round"""


def fit(
    points: Points,
    measured: Measured,
    priors: Priors | None = None,
    *,
    shared: bool = True,
    person: Int[np.ndarray, " N"] | None = None,
    identity: Float[np.ndarray, " S"] | None = None,
) -> Fit:
    """Fit N photos: of one person (`shared`), each on its own (`shared=False`), or several persons (`person` numbers).

    An `identity` (σ) that is known already stays as it is: only cameras and expressions are fitted.
    Raises ValueError if a measurement is not finite or a σ is not positive.
    """
    _check(points, measured)
    priors = priors or Priors()
    n = len(measured.landmarks)
    owner = np.zeros(n, int) if shared else np.arange(n)
    owner = owner if person is None else np.unique(person, return_inverse=True)[1]
    state = _State(points, measured, priors, owner, identity)
    history = [state.objective()]
    for _ in range(priors.rounds):
        state.step_expression()
        if identity is None:
            state.step_identity()
        history.append(state.objective())
        if history[-2] - history[-1] < 1e-4 * max(history[-2], 1e-12):
            break
    size = _sizes(measured.landmarks)
    distance = np.median(np.linalg.norm(state.camera.project(state.points()) - measured.landmarks, axis=2), axis=1)
    return Fit(state.identity[owner], state.expression, state.camera, distance / np.maximum(size, 1e-9), tuple(history))


def fit_cameras(points: Float[np.ndarray, "N L 3"], measured: Measured, rounds: int = 10, huber: float = 1.5) -> Camera:
    """The camera of each photo for known 3D points (Gauss-Newton with Huber weights from `measured.camera`)."""
    camera = measured.camera
    for _ in range(rounds):
        residual = measured.landmarks - camera.project(points)
        weight = _weights(residual, measured.sigma, huber)
        jacobian, _ = _camera_jacobian(camera, points)
        hessian = np.einsum("nlak,nl,nlam->nkm", jacobian, weight, jacobian, optimize=True)
        gradient = np.einsum("nlak,nl,nla->nk", jacobian, weight, residual, optimize=True)
        camera = _moved(camera, np.linalg.solve(hessian + 1e-9 * _trace(hessian), gradient[..., None])[..., 0])
    return camera


def perspective_from_weak(
    camera: WeakPerspective, focal: Float[np.ndarray, " N"], center: Float[np.ndarray, "N 2"] | None = None
) -> Perspective:
    """The pinhole camera with this focal length (px) that agrees at the origin; `center`: the photo's if None."""
    depth = focal / camera.scale
    if center is None:
        center = np.broadcast_to(np.array(camera.size, np.float64) / 2, camera.translation.shape).copy()
    aside = (camera.translation - center) / camera.scale[..., None]
    return Perspective(
        rotation=camera.rotation,
        translation=np.concatenate([aside, depth[..., None]], axis=-1),
        focal=np.asarray(focal, np.float64),
        center=center,
        size=camera.size,
    )


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


class _State:
    """The unknowns between two steps; identity has one row per person, `owner` says whose photo each is."""

    def __init__(
        self,
        model: Points,
        measured: Measured,
        priors: Priors,
        owner: np.ndarray,
        known: Float[np.ndarray, " S"] | None = None,
    ):
        self.model, self.measured, self.priors, self.owner = model, measured, priors, owner
        self.ridge = priors.identity * (1 + (np.bincount(owner) - 1) * priors.repeated)
        trust = (_sizes(measured.landmarks) / np.mean(measured.sigma, axis=1)) ** 2
        start = _per_owner(trust[:, None] * measured.identity, owner) / _per_owner(trust, owner)[:, None]
        start = start if known is None else np.tile(known, (len(start), 1))
        self.expected = priors.network * start
        self.identity, self.expression = start.copy(), np.clip(measured.expression, 0, 1).astype(np.float64)
        self.camera = fit_cameras(self.points(), measured, rounds=4, huber=priors.huber)

    def points(self) -> np.ndarray:
        return self.model(self.identity[self.owner], self.expression)

    def objective(self) -> float:
        return float(self.objective_per_photo().sum() + self.prior(self.identity).sum())

    def prior(self, identity: np.ndarray) -> np.ndarray:
        """(persons,)"""
        return self.ridge * ((identity - self.expected) ** 2).sum(1)

    def objective_per_photo(self) -> np.ndarray:
        distance = (
            np.linalg.norm(self.measured.landmarks - self.camera.project(self.points()), axis=2) / self.measured.sigma
        )
        h = self.priors.huber
        data = np.where(distance <= h, distance**2, 2 * h * distance - h**2).sum(1)
        return data + self.priors.expression * ((self.expression - self.measured.expression) ** 2).sum(1)

    def linearised(self, part: slice) -> tuple[np.ndarray, np.ndarray]:
        """Weighted residuals (n, 2L, 1) and Jacobian (n, 2L, 6 + E + S) in camera, expression and identity."""
        points = self.model(self.identity[self.owner[part]], self.expression[part])
        camera = self.camera[part]
        residual = self.measured.landmarks[part] - camera.project(points)
        root = np.sqrt(_weights(residual, self.measured.sigma[part], self.priors.huber))[..., None]
        by_camera, by_point = _camera_jacobian(camera, points)
        turned = root[..., None] * (by_point @ camera.rotation[:, None])
        n, k = len(points), self.model.both.shape[2]
        jacobian = np.empty((n, points.shape[1], 2, 6 + k))
        jacobian[..., :6] = root[..., None] * by_camera
        shapes = jacobian[..., 6:]
        np.multiply(turned[..., 0, None], self.model.both[:, None, 0], out=shapes)
        for axis in (1, 2):
            shapes += turned[..., axis, None] * self.model.both[:, None, axis]
        return (root * residual).reshape(n, -1, 1), jacobian.reshape(n, -1, 6 + k)

    def by_parts(self, reduced: Callable[[slice], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        """A function of a few photos at a time, so that their Jacobians stay in the processor's cache."""
        parts = [reduced(slice(k, k + AT_ONCE)) for k in range(0, len(self.owner), AT_ONCE)]
        return tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def step_expression(self) -> None:
        """Box-constrained least squares in each photo's expression, the camera moving along."""
        n_expression = self.expression.shape[1]

        def reduced(part: slice) -> tuple[np.ndarray, ...]:
            residual, jacobian = self.linearised(part)
            return _eliminated(jacobian[..., :6], jacobian[..., 6 : 6 + n_expression], residual)

        hessian, gradient, back = self.by_parts(reduced)
        pull = self.priors.expression
        gradient = gradient + pull * (self.measured.expression - self.expression)
        goal = _boxed(hessian + pull * np.eye(hessian.shape[1]), gradient, self.expression)
        delta = goal - self.expression
        move = _followed(back, delta)
        start, before = (self.camera, self.expression), self.objective_per_photo()

        def at(step: np.ndarray) -> np.ndarray:
            self.expression = start[1] + step[:, None] * delta
            self.camera = _moved(start[0], step[:, None] * move)
            return self.objective_per_photo()

        _descend(at, before)

    def step_identity(self) -> None:
        """Ridge regression in each person's identity, cameras and free expressions moving along."""
        n_expression, p = self.expression.shape[1], self.priors
        ridge = np.append(np.zeros(6), np.full(n_expression, p.expression))

        def reduced(part: slice) -> tuple[np.ndarray, ...]:
            residual, jacobian = self.linearised(part)
            local, shape = jacobian[..., : 6 + n_expression], jacobian[..., 6 + n_expression :]
            now = self.expression[part]
            pull = np.zeros((len(local), 6 + n_expression))
            pull[:, 6:] = p.expression * (self.measured.expression[part] - now)
            slope = (pull + (local.swapaxes(1, 2) @ residual)[..., 0])[:, 6:]
            stuck = np.zeros_like(pull, dtype=bool)  # at a bound and pushed against it
            stuck[:, 6:] = ((now <= 0) & (slope < 0)) | ((now >= 1) & (slope > 0))
            return _eliminated(local, shape, residual, ridge, pull, stuck)

        hessian, gradient, back = self.by_parts(reduced)
        total = _per_owner(hessian, self.owner)
        total = total + self.ridge[:, None, None] * np.eye(hessian.shape[1])
        slope = _per_owner(gradient, self.owner) + self.ridge[:, None] * (self.expected - self.identity)
        delta = np.linalg.solve(total, slope[..., None])[..., 0]
        move = _followed(back, delta[self.owner])
        start = (self.camera, self.expression, self.identity)

        def at(step: np.ndarray) -> np.ndarray:
            mine = step[self.owner][:, None]
            self.identity = start[2] + step[:, None] * delta
            self.expression = np.clip(start[1] + mine * move[:, 6:], 0, 1)
            self.camera = _moved(start[0], mine * move[:, :6])
            return _per_owner(self.objective_per_photo(), self.owner) + self.prior(self.identity)

        _descend(at, _per_owner(self.objective_per_photo(), self.owner) + self.prior(self.identity))


def _eliminated(
    local: np.ndarray,
    shape: np.ndarray,
    residual: np.ndarray,
    ridge: np.ndarray | None = None,
    pull: np.ndarray | None = None,
    stuck: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reduced Hessian and gradient of `shape`'s coefficients with `local`'s eliminated (Schur complement), and the
    matrix (N, local, 1 + shape) that gives the local step back. `ridge`, `pull` are the prior's; `stuck` ones stay."""
    ll = local.swapaxes(1, 2) @ local
    ll = ll + 1e-9 * _trace(ll) + (0 if ridge is None else np.diag(ridge))
    rhs = local.swapaxes(1, 2) @ np.concatenate([residual, shape], axis=2)
    if pull is not None:
        rhs[..., 0] += pull
    if stuck is not None:
        free = ~stuck
        ll = np.where(free[:, :, None] & free[:, None, :], ll, np.eye(ll.shape[1]))
        rhs = rhs * free[..., None]
    back = np.linalg.solve(ll, rhs)
    cross = rhs[..., 1:].swapaxes(1, 2)
    hessian = shape.swapaxes(1, 2) @ shape - cross @ back[..., 1:]
    gradient = (shape.swapaxes(1, 2) @ residual - cross @ back[..., :1])[..., 0]
    return hessian, gradient, back


def _followed(back: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """The step of the eliminated unknowns when the others step by `delta`."""
    return back[..., 0] - (back[..., 1:] @ delta[..., None])[..., 0]


def _descend(at: Callable[[np.ndarray], np.ndarray], before: np.ndarray) -> None:
    """Take the full step where the cost falls, a third, a ninth ... where it would rise, none if nothing helps."""
    step = np.ones(len(before))
    for _ in range(4):
        worse = ~(at(step) <= before * (1 + 1e-12))
        if not worse.any():
            return
        step = np.where(worse, step / 3, step)
    at(np.where(worse, 0.0, step))


def _sizes(landmarks: Float[np.ndarray, "N L 2"]) -> Float[np.ndarray, " N"]:
    """Of the faces in the photos, px."""
    return np.linalg.norm(np.ptp(landmarks, axis=1), axis=1) / np.sqrt(2)


def _check(points: Points, measured: Measured) -> None:
    n, landmarks = measured.landmarks.shape[:2]
    if landmarks != len(points.mean):
        raise ValueError(f"{landmarks} landmarks were measured, but the model points are {len(points.mean)}")
    for name in ("landmarks", "sigma", "identity", "expression"):
        if not np.isfinite(getattr(measured, name)).all():
            raise ValueError(f"the measured {name} of {n} photos contain values that are not finite")
    if not (measured.sigma > 0).all():
        raise ValueError("every landmark needs a positive expected error sigma (px)")


def _per_owner(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Sum of the rows of each person."""
    out = np.zeros((owner.max() + 1, *values.shape[1:]))
    np.add.at(out, owner, values)
    return out


def _weights(residual: np.ndarray, sigma: np.ndarray, huber: float) -> np.ndarray:
    """(N, L) of iteratively reweighted least squares for Huber's function."""
    distance = np.linalg.norm(residual, axis=2) / sigma
    return np.minimum(1, huber / np.maximum(distance, 1e-9)) / sigma**2


def _trace(matrix: np.ndarray) -> np.ndarray:
    """Mean diagonal times the unit matrix: a relative ridge."""
    k = matrix.shape[-1]
    return np.einsum("nkk->n", matrix)[:, None, None] / k * np.eye(k)


def _camera_jacobian(camera: Camera, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """d q / d (ω, rest) (N, L, 2, 6) for R ← exp(ω) R, and d q / d X_cam (N, L, 2, 3).

    The rest is (log scale, t_x, t_y) or, in perspective, the translation (mm).
    """
    turned = points @ camera.rotation.swapaxes(-1, -2)
    n, count = points.shape[:2]
    by_point = np.zeros((n, count, 2, 3))
    if isinstance(camera, WeakPerspective):
        by_point[..., 0, 0] = by_point[..., 1, 1] = camera.scale[:, None]
        rest = np.zeros((n, count, 2, 3))
        rest[..., 0] = camera.scale[:, None, None] * turned[..., :2]
        rest[..., 0, 1] = rest[..., 1, 2] = 1
    else:
        seen = turned + camera.translation[:, None]
        nearness = camera.focal[:, None] / seen[..., 2]
        by_point[..., 0, 0] = by_point[..., 1, 1] = nearness
        by_point[..., 2] = -nearness[..., None] * seen[..., :2] / seen[..., 2:]
        rest = by_point
    cross = np.zeros((n, count, 3, 3))  # ω × Y = −[Y]ₓ ω
    x, y, z = turned[..., 0], turned[..., 1], turned[..., 2]
    cross[..., 0, 1], cross[..., 0, 2], cross[..., 1, 2] = z, -y, x
    cross[..., 1, 0], cross[..., 2, 0], cross[..., 2, 1] = -z, y, -x
    return np.concatenate([by_point @ cross, rest], axis=-1), by_point


def _moved(camera: Camera, step: np.ndarray) -> Camera:
    """The cameras after a Gauss-Newton step (N, 6), at most 0.3 rad of turn at once."""
    turn = step[:, :3] * np.minimum(1, 0.3 / np.maximum(np.linalg.norm(step[:, :3], axis=1, keepdims=True), 1e-12))
    rotation = rotation_from_axis_angle(turn) @ camera.rotation
    if isinstance(camera, WeakPerspective):
        scale = camera.scale * np.exp(np.clip(step[:, 3], -0.5, 0.5))
        return replace(camera, rotation=rotation, scale=scale, translation=camera.translation + step[:, 4:])
    move = step[:, 3:].copy()
    depth = camera.translation[:, 2]
    move[:, 2] = np.clip(move[:, 2], -0.4 * depth, 0.6 * depth)
    return replace(camera, rotation=rotation, translation=camera.translation + move)


def _boxed(hessian: np.ndarray, gradient: np.ndarray, start: np.ndarray, sweeps: int = 6) -> np.ndarray:
    """argmin over x ∈ [0, 1] of ½ (x − x₀)ᵀ H (x − x₀) − gᵀ (x − x₀), all photos at once (coordinate descent)."""
    x, slope = start.copy(), gradient.copy()
    diagonal = np.einsum("nkk->nk", hessian)
    for _ in range(sweeps):
        largest = 0.0
        for k in range(x.shape[1]):
            new = np.clip(x[:, k] + slope[:, k] / diagonal[:, k], 0, 1)
            change = new - x[:, k]
            biggest = np.abs(change).max()
            if biggest > 1e-9:
                slope -= change[:, None] * hessian[:, :, k]
                x[:, k] = new
                largest = max(largest, float(biggest))
        if largest < 1e-4:
            break
    return x
