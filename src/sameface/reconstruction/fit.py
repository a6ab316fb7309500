"""Landmarks of one or several photos of a person → one identity, and per photo a camera and an expression.

The multi-image fit of Liu et al. 2018 (sec. 3.3.2, eq. 7), with priors and robust weights. Minimised over the
identity α (shared), and per photo i the camera c_i and the expression β_i ∈ [0, 1]:

    Σ_i Σ_l ρ(|P(c_i) (v_l(α, β_i) + E_l γ_i) − q_il| / σ_il) + Σ_i |γ_i|²
        + λ_id (1 + (N−1) r) |α − k ᾱ|² + λ_exp Σ_i Σ_e h_ie (β_ie − β̄_ie)² + λ_far Σ_i log² (z_i / z̄_i)

ᾱ is what a network says of the identity, on average over the photos (weights (face's size / mean σ)²). Networks make
the same mistakes in every photo of a person: r is how far the N photos repeat each other. With r = 1, N copies of a
photo give the shape of one; with r = 0 they count as N independent witnesses and overrule the prior. With k = 0 the
prior is the average face.
ρ is Huber's function, q_il the measured points and σ_il their expected errors (px), β̄_i what is expected of the
expression and h_i how firmly.
z_i is the distance of the face, an unknown of every photo whose focal length is unknown, and z̄_i what is expected of
it. Only how much larger near parts look tells it, and a face that is deeper and farther looks nearly the same: where
points lie a little differently from the model's, the data alone put frontal faces too far away (results/distance.json).
Each round takes two Gauss-Newton steps: the identity (cameras and the expressions inside their box move along), then
the expressions (cameras move along). What moves along is eliminated by the Schur complement, so that the valleys
between head size and distance, and between a smile and a wide mouth, cost no rounds. The objective never rises: a step
that would raise it is cut to a third, and again, then refused.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from sameface.core.arrays import Batch
from sameface.core.camera import Camera, Perspective
from sameface.morphable.points import Points
from sameface.reconstruction.cameras import camera_jacobian, fit_cameras, huber_weights, moved, ridged

__all__ = ["Fit", "Measured", "Priors", "fit", "tempered"]

AT_ONCE = 4
"""photos whose Jacobians are held at a time"""
NO_MORE = 1e-5
"""of the objective: what is left to gain, were it to go on falling as it did, at which a fit ends"""
SLACK, MOST_PIVOTS = 1e-9, 200
"""part of the steepest slope that counts as none, so that the last bits of a float decide nothing; and how often the
unknowns at a bound are guessed anew (three to five times is usual)"""


@dataclass(frozen=True)
class Priors:
    """Weights of the objective; the defaults were chosen on the val split (results/fit-priors.json)."""

    identity: float = 8.0
    """λ_id: pull towards the expected face"""
    repeated: float = 0.5
    """r: correlation of the errors of two photos of a person"""
    network: float = 1.0
    """k: the expected face is this part of what the network says; 0: the average face"""
    expression: float = 20.0
    """λ_exp: pull towards the network's expression"""
    distance: float = 32.0
    """λ_far: pull towards the expected distance where the focal length is unknown (results/distance.json)"""
    huber: float = 1.5
    """residuals beyond this many σ count linearly"""
    rounds: int = 8
    """at most this many rounds"""


@dataclass(frozen=True, eq=False, repr=False)
class Measured(Batch):
    """What was seen in N photos: the start of the fit and its data."""

    landmarks: Float[np.ndarray, "N L 2"]
    """px"""
    sigma: Float[np.ndarray, "N L"]
    """px"""
    identity: Float[np.ndarray, "N S"]
    """the network's, σ"""
    expression: Float[np.ndarray, "N E"]
    """what is expected of it"""
    camera: Camera
    """batch of N, in photo px"""
    distance: Float[np.ndarray, " N"] | None = None
    """mm, in perspective: what is expected of the distance where the focal length is unknown (the camera's is a start
    then); NaN where it is known; None: all are known"""
    firmness: Float[np.ndarray, "N E"] | None = None
    """h: how many times λ_exp holds each expression to what is expected; None: once"""


@dataclass(frozen=True, eq=False, repr=False)
class Fit(Batch):
    """The minimum found."""

    identity: Float[np.ndarray, "N S"]
    """σ; equal rows when the identity is shared"""
    expression: Float[np.ndarray, "N E"]
    camera: Camera
    residual: Float[np.ndarray, " N"]
    """median landmark distance of each photo, as a fraction of the face's size in it"""
    objective: tuple[float, ...]
    """before the first and after each round"""


def tempered(sigma: Float[np.ndarray, "N L"]) -> Float[np.ndarray, "N L"]:
    """σ of points of N photos with none believed more than four times as much as the median one of its photo."""
    return np.maximum(sigma, 0.25 * np.median(sigma, axis=1, keepdims=True))


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
    history, fell = [state.objective()], 0.0
    for _ in range(priors.rounds):
        if identity is None:
            state.step_identity()
        state.step_expression()
        history.append(state.objective())
        before, fell = fell, history[-2] - history[-1]
        if fell * min(fell / max(before, 1e-30), 1) <= NO_MORE * history[-1]:
            break
    missed = measured.landmarks - state.camera.project(points(state.identity[owner], state.expression))
    distance = np.median(np.linalg.norm(missed, axis=2), axis=1) / np.maximum(_sizes(measured.landmarks), 1e-9)
    return Fit(state.identity[owner], state.expression, state.camera, distance, tuple(history))


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


class _State:
    """The unknowns between two steps, and what follows from them (`look`); identity has one row per person, `owner`
    says whose photo each is."""

    shape: np.ndarray
    """(N, L, 3) mm: the points of each photo's face, with the errors that they share"""
    residual: np.ndarray
    """(N, L, 2) px: measured − projected"""
    cost: np.ndarray
    """(N,) the part of the objective that each photo has for itself"""

    def __init__(
        self,
        model: Points,
        measured: Measured,
        priors: Priors,
        owner: np.ndarray,
        known: Float[np.ndarray, " S"] | None = None,
    ):
        self.model, self.measured, self.priors, self.owner = model, measured, priors, owner
        expected = np.full(len(owner), np.nan) if measured.distance is None else measured.distance
        lens = np.isfinite(expected)
        self.lens, self.n_camera = (lens, 7) if lens.any() else (None, 6)
        self.expected_distance = np.where(lens, expected, 1.0)
        self.error = np.zeros((len(owner), 0 if model.errors is None else model.errors.shape[2]))
        self.n_local = self.n_camera + self.error.shape[1]
        self.ridge = priors.identity * (1 + (np.bincount(owner) - 1) * priors.repeated)
        trust = (_sizes(measured.landmarks) / np.mean(measured.sigma, axis=1)) ** 2
        start = _per_owner(trust[:, None] * measured.identity, owner) / _per_owner(trust, owner)[:, None]
        start = start if known is None else np.tile(known, (len(start), 1))
        self.expected = priors.network * start
        firmness = measured.firmness
        self.hold = priors.expression * (np.ones_like(measured.expression) if firmness is None else firmness)
        self.identity, self.expression = start.copy(), np.clip(measured.expression, 0, 1).astype(np.float64)
        shape = self.model(self.identity[owner], self.expression)
        self.camera = fit_cameras(
            shape, measured.landmarks, measured.sigma, measured.camera, rounds=4, huber=priors.huber
        )
        self.look()

    def look(self) -> np.ndarray:
        """Follow the unknowns; returns the cost of each photo."""
        self.shape = self.model(self.identity[self.owner], self.expression)
        if self.model.errors is not None:
            self.shape += np.tensordot(self.error, self.model.errors, (1, 2))
        self.residual = self.measured.landmarks - self.camera.project(self.shape)
        distance = np.sqrt(self.residual[..., 0] ** 2 + self.residual[..., 1] ** 2) / self.measured.sigma
        inside = np.minimum(distance, self.priors.huber)
        data = (inside * (2 * distance - inside)).sum(1)
        self.cost = data + (self.error**2).sum(1)
        self.cost += (self.hold * (self.expression - self.measured.expression) ** 2).sum(1)
        if self.lens is not None:
            self.cost += self.priors.distance * self.nearer() ** 2
        return self.cost

    def nearer(self) -> np.ndarray:
        """(N,) log of expected / present distance; 0 where it is no unknown."""
        assert self.lens is not None
        return self.lens * np.log(self.expected_distance / self.camera.translation[:, 2])

    def objective(self) -> float:
        return float(self.cost.sum() + self.prior().sum())

    def prior(self) -> np.ndarray:
        """(persons,)"""
        return self.ridge * ((self.identity - self.expected) ** 2).sum(1)

    def per_person(self) -> np.ndarray:
        """(persons,) the objective"""
        return _per_owner(self.cost, self.owner) + self.prior()

    def normal(self, part: slice, columns: slice = slice(None)) -> np.ndarray:
        """(n, C + K + 1, C + K + 1) products of the weighted Jacobian's columns, the residuals behind them as one more:
        in the camera and K coefficients, `columns` of errors, expression and identity side by side."""
        camera, residual, basis = self.camera[part], self.residual[part], self.model.all[..., columns]
        lens, count = None if self.lens is None else self.lens[part], self.n_camera
        root = np.sqrt(huber_weights(residual, self.measured.sigma[part], self.priors.huber))[..., None]
        by_camera, by_point = camera_jacobian(camera, self.shape[part], lens)
        jacobian = np.empty((*by_point.shape[:3], count + basis.shape[2] + 1))
        jacobian[..., :count] = root[..., None] * by_camera
        np.matmul(root[..., None] * (by_point @ camera.rotation[:, None]), basis, out=jacobian[..., count:-1])
        jacobian[..., -1] = root * residual
        flat = jacobian.reshape(len(residual), -1, count + basis.shape[2] + 1)
        products = flat.swapaxes(1, 2) @ flat
        if lens is not None:  # the prior's row: log z changes by t_z / z and by the seventh unknown
            row = np.zeros(products.shape[:2])
            row[:, 5], row[:, 6], row[:, -1] = lens / camera.translation[:, 2], lens, self.nearer()[part]
            products += self.priors.distance * row[:, :, None] * row[:, None]
        errors = np.arange(count, self.n_local)
        products[:, errors, errors] += 1
        products[:, errors, -1] -= self.error[part]
        return products

    def by_parts(self, reduced: Callable[[slice], tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
        """A function of a few photos at a time, so that their Jacobians stay in the processor's cache."""
        parts = [reduced(slice(k, k + AT_ONCE)) for k in range(0, len(self.owner), AT_ONCE)]
        return parts[0] if len(parts) == 1 else tuple(np.concatenate(column) for column in zip(*parts, strict=True))

    def move(self, camera: Camera, error: np.ndarray, step: np.ndarray) -> None:
        """Cameras and errors from where they were."""
        self.camera = moved(camera, step[:, : self.n_camera])
        self.error = error + step[:, self.n_camera :]

    def step_expression(self) -> None:
        """Box-constrained least squares in each photo's expression, camera and errors moving along."""
        n_expression = self.expression.shape[1]

        def reduced(part: slice) -> tuple[np.ndarray, ...]:
            return _eliminated(self.normal(part, slice(self.error.shape[1] + n_expression)), self.n_local)

        hessian, gradient, back = self.by_parts(reduced)
        gradient = gradient + self.hold * (self.measured.expression - self.expression)
        goal = _boxed(hessian + self.hold[:, None] * np.eye(n_expression), gradient, self.expression)
        delta = goal - self.expression
        move = _followed(back, delta)
        start = (self.camera, self.expression, self.error)

        def at(step: np.ndarray) -> np.ndarray:
            self.expression = start[1] + step[:, None] * delta
            self.move(start[0], start[2], step[:, None] * move)
            return self.look()

        _descend(at, self.cost)

    def step_identity(self) -> None:
        """Ridge regression in each person's identity, cameras, errors and free expressions moving along."""
        first = self.n_local
        count = first + self.expression.shape[1]

        def reduced(part: slice) -> tuple[np.ndarray, ...]:
            normal, now, hold = self.normal(part), self.expression[part], self.hold[part]
            ridge, pull = np.zeros((2, len(now), count))
            ridge[:, first:], pull[:, first:] = hold, hold * (self.measured.expression[part] - now)
            slope = (pull + normal[:, :count, -1])[:, first:]
            stuck = np.zeros_like(pull, dtype=bool)  # at a bound and pushed against it
            stuck[:, first:] = ((now <= 0) & (slope < 0)) | ((now >= 1) & (slope > 0))
            return _eliminated(normal, count, ridge, pull, stuck)

        hessian, gradient, back = self.by_parts(reduced)
        total = _per_owner(hessian, self.owner)
        total = total + self.ridge[:, None, None] * np.eye(hessian.shape[1])
        slope = _per_owner(gradient, self.owner) + self.ridge[:, None] * (self.expected - self.identity)
        delta = np.linalg.solve(total, slope[..., None])[..., 0]
        move = _followed(back, delta[self.owner])
        start = (self.camera, self.expression, self.error, self.identity)

        def at(step: np.ndarray) -> np.ndarray:
            mine = step[self.owner][:, None]
            self.identity = start[3] + step[:, None] * delta
            self.expression = np.clip(start[1] + mine * move[:, first:], 0, 1)
            self.move(start[0], start[2], mine * move[:, :first])
            self.look()
            return self.per_person()

        _descend(at, self.per_person())


def _eliminated(
    normal: np.ndarray,
    count: int,
    ridge: np.ndarray | None = None,
    pull: np.ndarray | None = None,
    stuck: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reduced Hessian and gradient with the first `count` unknowns eliminated (Schur complement), and the matrix
    (N, count, others + 1) that gives their step back. `ridge`, `pull` are the prior's; `stuck` ones stay."""
    local, rhs = ridged(normal[:, :count, :count]), normal[:, :count, count:]
    if ridge is not None:
        local += ridge[:, None] * np.eye(count)
    if pull is not None:
        rhs[..., -1] += pull
    if stuck is not None:
        free = ~stuck
        local = np.where(free[:, :, None] & free[:, None, :], local, np.eye(count))
        rhs = rhs * free[..., None]
    back = np.linalg.solve(local, rhs)
    rest = normal[:, count:-1, count:] - rhs[..., :-1].swapaxes(1, 2) @ back
    return rest[..., :-1], rest[..., -1], back


def _followed(back: np.ndarray, delta: np.ndarray) -> np.ndarray:
    """The step of the eliminated unknowns when the others step by `delta`."""
    return back[..., -1] - (back[..., :-1] @ delta[..., None])[..., 0]


def _descend(at: Callable[[np.ndarray], np.ndarray], before: np.ndarray) -> None:
    """Take the full step where the cost falls, a third, a ninth ... where it would rise, none if nothing helps."""
    step = np.ones(len(before))
    for _ in range(4):
        worse = ~(at(step) <= before * (1 + 1e-12))
        if not worse.any():
            return
        step = np.where(worse, step / 3, step)
    at(np.where(worse, 0.0, step))


def _boxed(hessian: np.ndarray, gradient: np.ndarray, start: np.ndarray) -> np.ndarray:
    """argmin over x ∈ [0, 1] of ½ (x − x₀)ᵀ H (x − x₀) − gᵀ (x − x₀), for each photo (H positive definite).

    Block principal pivoting (Júdice & Pires 1994): guess which unknowns lie at a bound, solve for the others, and let
    all change sides that should; if that makes nothing better three times, only the last one, which ends surely.
    """
    side = np.where(start <= 0, -1, np.where(start >= 1, 1, 0))
    least, tries, unit = np.full(len(start), start.shape[1] + 1), np.full(len(start), 3), np.eye(start.shape[1])
    linear = gradient + (hessian @ start[..., None])[..., 0]
    slack = SLACK * np.abs(linear).max(1, keepdims=True)
    for _ in range(MOST_PIVOTS):
        free = side == 0
        fixed = (side > 0).astype(np.float64)
        goal = np.where(free, linear - (hessian @ fixed[..., None])[..., 0], fixed)
        x = np.linalg.solve(np.where(free[:, :, None] & free[:, None], hessian, unit), goal[..., None])
        slope = (linear[..., None] - hessian @ x)[..., 0]  # > 0: a larger x is better
        x = x[..., 0]
        wanted = np.where(free, np.where(x < 0, -1, np.where(x > 1, 1, 0)), np.where(side * slope < -slack, 0, side))
        wrong = wanted != side
        count = wrong.sum(1)
        if not count.any():
            break
        better = count < least
        least, tries = np.where(better, count, least), np.where(better, 3, tries - 1)
        last = wrong & (np.cumsum(wrong[:, ::-1], axis=1)[:, ::-1] == 1)
        side = np.where(np.where((tries > 0)[:, None], wrong, last), wanted, side)
    return np.clip(x, 0, 1)


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
    if measured.firmness is not None and not (np.isfinite(measured.firmness) & (measured.firmness >= 0)).all():
        raise ValueError("the firmness of an expected expression is a number of at least 0")
    if not (measured.sigma > 0).all():
        raise ValueError("every landmark needs a positive expected error sigma (px)")
    distance = measured.distance
    if distance is not None and ((distance <= 0).any() or not isinstance(measured.camera, Perspective)):
        raise ValueError("an expected distance is a positive number (mm), and only cameras in perspective have one")


def _per_owner(values: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """Sum of the rows of each person."""
    count = owner.max() + 1
    if count in (1, len(owner)):
        return values.sum(0, keepdims=True) if count == 1 else values[np.argsort(owner)]
    order = np.argsort(owner, kind="stable")
    return np.add.reduceat(values[order], np.searchsorted(owner[order], np.arange(count)))
