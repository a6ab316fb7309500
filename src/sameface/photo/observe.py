"""A photo → the faces in it: detector, upright crop, network, and the crop once more around what the network saw.

Other networks may look again: who it is, of the face as SphereFace aligns it, and what each eye does.
"""

from dataclasses import replace
from functools import lru_cache

import numpy as np
from jaxtyping import Float, Int, UInt8

from sameface.core.camera import WeakPerspective
from sameface.core.errors import AssetMissing, NoFaceFound, compared
from sameface.core.geometry import apply_affine, inverse_affine
from sameface.morphable import default
from sameface.morphable.points import Points, points68
from sameface.photo import MIN_SCORE, image
from sameface.photo.detect import Faces, detect, detect_near
from sameface.photo.eyes import look_again
from sameface.photo.face import Observation, Photo
from sameface.photo.predictor import (
    FIVE,
    Predictor,
    Second,
    affine_for_sphereface,
    affine_from_five_points,
    affine_from_landmarks,
    five_of_68,
)

__all__ = ["expectation", "expected", "firmness", "observe", "picture_around", "points_of"]

SMALLEST_FACE = 20.0
"""px; smaller faces carry too little to measure"""
LAPLACE_TO_SIGMA = np.sqrt(3.0)
"""per axis σ of a 2D isotropic Laplace error with scale b: E r² = 6 b²"""
QUALITY_HALVES_AT = 0.02
"""expected landmark error (crop sides) at which a photo's quality is one half"""
USUAL_ERROR, FIRMEST = 0.12, 20.0
"""error of an expected expression that is held once (one of half that error four times), and the most it may be held"""
MOST_MODES = 64
"""of the errors that points share"""
PICTURE_CONTEXT, PICTURE_SIDE = 1.7, 900
AT_ONCE = 16
"""faces that go through the network at a time, so that a crowd does not fill the memory"""


def observe(
    photo: Photo,
    predictor: Predictor,
    *,
    second: Second | None = None,
    min_score: float = MIN_SCORE,
    near: Float[np.ndarray, " 4"] | None = None,
) -> list[Observation]:
    """The faces of a photo, the largest first; small ones beside a large one may be missing (`detect`'s glance).

    With `near`, the box of a face a moment ago (px), that face alone, if it is near there still. The networks of
    `second` say the identity, and what the eyes do; without them `predictor` does.

    Raises NoFaceFound, naming the photo, its size and the best candidate, when there is none.
    """
    faces = None if near is None else detect_near(photo.pixels, near, min_score=min_score)
    faces = faces or detect(photo.pixels, min_score=min_score, glance=True)
    side = np.sqrt(np.clip(faces.boxes[:, 2:] - faces.boxes[:, :2], 0, None).prod(1))
    large = np.flatnonzero(side >= SMALLEST_FACE)
    if not len(large):
        raise NoFaceFound(_nothing(photo, faces, side, min_score))
    chosen = faces[large[np.argsort(-side[large], kind="stable")]]
    first = np.stack([affine_from_five_points(five, predictor.size) for five in chosen.points])
    said = _said(photo.pixels, first, predictor)
    _check(said, predictor)
    five = [predictor.description["point_ids"].index(k) for k in FIVE]
    seen = _in_photo(said, first, predictor)
    again = np.stack([affine_from_landmarks(points, points[five], predictor.size) for points in seen])
    said = _said(photo.pixels, again, predictor)
    if second is not None and second.identity is not None:
        aligned = [affine_for_sphereface(five, second.identity.size) for five in _five(said, again, predictor)]
        person = _said(photo.pixels, np.stack(aligned), second.identity)
        said |= {name: person[name] for name in ("identity", "code") if name in person}
    if second is not None:
        said = look_again(photo.pixels, again, said, predictor, second.eyes)
    seen = _in_photo(said, again, predictor)
    return [
        _observation(photo, chosen, k, {name: values[k] for name, values in said.items()}, again[k], seen[k], predictor)
        for k in range(len(again))
    ]


def expected(said: Float[np.ndarray, "*n E"], zero: Float[np.ndarray, " E"]) -> Float[np.ndarray, "*n E"]:
    """Expressions to expect where a network said these, of which `zero` is what it says of faces that have none.

    >>> expected(np.array([0.1, 0.625, 1.0]), np.full(3, 0.25)).tolist()
    [0.0, 0.5, 1.0]
    """
    return np.clip((said - zero) / (1 - zero), 0, 1)


def firmness(error: Float[np.ndarray, " E"]) -> Float[np.ndarray, " E"]:
    """How firmly the fit holds expressions that are expected with such an error (root mean square): by its square.

    >>> firmness(np.array([0.24, 0.12, 0.06, 0.0])).tolist()
    [0.25, 1.0, 4.0, 20.0]
    """
    return np.minimum((USUAL_ERROR / np.maximum(error, 1e-6)) ** 2, FIRMEST)


def expectation(
    predictor: Predictor, said: Float[np.ndarray, "*n E"]
) -> tuple[Float[np.ndarray, "*n E"], Float[np.ndarray, "*n E"]]:
    """What to expect of expressions that a predictor said, and how firmly; of one whose file does not tell how it errs
    (tools/calibrate_expressions.py), what it said, once."""
    about, none = predictor.description, np.zeros(said.shape[-1])
    zero = np.array(about.get("expression_zero", none))
    error = np.array(about.get("expression_error", none + USUAL_ERROR))
    return expected(said, zero), np.broadcast_to(firmness(error), said.shape)


@lru_cache(maxsize=4)
def points_of(predictor: Predictor) -> Points:
    """The shipped model at the dense points that a predictor measures."""
    model = default()
    missing = {"method", "version", "crop", "morphable", "point_ids"} - set(predictor.description)
    if missing:
        raise AssetMissing(
            f"{predictor.path} is not a network that says a face's shape: its description lacks "
            f"{', '.join(sorted(missing))}. Give one that `sameface export` made of a run of such a method"
        )
    if predictor.description["morphable"] != model.name:
        wanted = predictor.description["morphable"]
        raise AssetMissing(
            f"{predictor.name} was trained for the model {wanted!r}, but this package ships {model.name!r}"
        )
    ids, offsets, errors = _measured_points(predictor, len(model.extra["mediapipe_faces"]))
    points = Points.of(model, model.extra["mediapipe_faces"][ids], model.extra["mediapipe_weights"][ids])
    return replace(points, mean=points.mean + offsets, errors=errors)


def _measured_points(
    predictor: Predictor, known: int
) -> tuple[Int[np.ndarray, " L"], Float[np.ndarray, "..."], Float[np.ndarray, "L 3 R"] | None]:
    """The dense points that a predictor measures, how far they lie from the model's (mm), and the modes of what they
    miss together, if its file tells them. Raises AssetMissing."""
    told = predictor.description
    try:
        ids = np.array(told["point_ids"])
        offsets = np.array(told.get("point_offsets_mm", np.zeros(3)), np.float64)
        if ids.ndim != 1 or ids.dtype.kind != "i" or not set(FIVE) <= set(ids.tolist()):
            raise ValueError(f"they are no list of numbers that has {', '.join(map(str, FIVE))} among them")
        if ids.min() < 0 or ids.max() >= known:
            raise ValueError(f"they go from {ids.min()} to {ids.max()}, but {known} points are known")
        if offsets.shape not in ((3,), (len(ids), 3)) or not np.isfinite(offsets).all():
            raise ValueError(f"point_offsets_mm have shape {offsets.shape}")
        if "point_errors_mm" not in told:
            return ids, offsets, None
        errors = np.array(told["point_errors_mm"], np.float64)
        if errors.ndim != 3 or not 0 < len(errors) <= MOST_MODES or errors.shape[1:] != (len(ids), 3):
            raise ValueError(f"point_errors_mm have shape {errors.shape}")
        if not np.isfinite(errors).all():
            raise ValueError("point_errors_mm are not all finite")
        return ids, offsets, np.ascontiguousarray(errors.transpose(1, 2, 0))
    except (ValueError, TypeError) as error:
        raise AssetMissing(f"{predictor.path} has points that cannot be meant ({error}); export it anew") from None


def _nothing(photo: Photo, faces: Faces, side: np.ndarray, min_score: float) -> str:
    where = f"no face in {photo.name} ({photo.size[0]}×{photo.size[1]})"
    if len(side):
        largest, least = compared(float(side.max()), SMALLEST_FACE, 0)
        return f"{where}; the largest found is {largest} px, below {least}. Crop closer or enlarge it"
    candidates = detect(photo.pixels, min_score=0.05)
    best = (
        "the best candidate scored {}, below {}".format(*compared(float(candidates.scores.max()), min_score))
        if len(candidates)
        else "not even a candidate"
    )
    return f"{where}; {best}. Crop closer, or lower min_score"


def _said(pixels: UInt8[np.ndarray, "H W 3"], affines: np.ndarray, predictor: Predictor) -> dict[str, np.ndarray]:
    """The network's outputs for one crop per affine."""
    size = (predictor.size, predictor.size)
    parts = [
        predictor(np.stack([image.crop(pixels, affine, size, edge=True) for affine in affines[k : k + AT_ONCE]]))
        for k in range(0, len(affines), AT_ONCE)
    ]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _check(said: dict[str, np.ndarray], predictor: Predictor) -> None:
    """Raise AssetMissing unless the outputs have the shapes of a network that says a face's shape."""
    model, points, count = default(), len(predictor.description["point_ids"]), len(next(iter(said.values())))
    wanted = {
        "landmarks": (points, 2), "landmark_error": (points,), "rotation": (3, 3), "translation": (2,), "scale": (),
        "identity": (model.n_identity,), "expression": (model.n_expression,),
    }  # fmt: skip
    odd = [
        f"{name} {wanted[name]}" for name in wanted if name not in said or said[name].shape != (count, *wanted[name])
    ]
    if odd:
        raise AssetMissing(f"{predictor.path} does not give a row of {', '.join(odd)} for each face; export it anew")


def _in_photo(said: dict[str, np.ndarray], affines: np.ndarray, predictor: Predictor) -> np.ndarray:
    """(N, L, 2) the network's points in photo px."""
    points = (said["landmarks"].astype(np.float64) + 0.5) * predictor.size
    return np.stack([apply_affine(inverse_affine(a), p) for a, p in zip(affines, points, strict=True)])


def _five(said: dict[str, np.ndarray], affines: np.ndarray, predictor: Predictor) -> Float[np.ndarray, "N 5 2"]:
    """Eyes, nose tip and mouth corners of the face that the network's coefficients make, photo px."""
    shapes = points68()(said["identity"].astype(np.float64), said["expression"].astype(np.float64))
    turned = shapes @ said["rotation"].astype(np.float64).swapaxes(1, 2)
    flat = said["scale"][:, None, None] * turned[..., :2] + said["translation"][:, None]
    return np.stack([five_of_68(one) for one in _in_photo({"landmarks": flat}, affines, predictor)])


def _observation(
    photo: Photo,
    faces: Faces,
    k: int,
    said: dict[str, np.ndarray],
    affine: Float[np.ndarray, "2 3"],
    landmarks: Float[np.ndarray, "L 2"],
    predictor: Predictor,
) -> Observation:
    """The k-th face, from its own row of what the network said."""
    back = inverse_affine(affine)
    zoom = float(np.sqrt(abs(np.linalg.det(back[:, :2]))))
    size = predictor.size
    camera = WeakPerspective(
        rotation=said["rotation"].astype(np.float64),
        translation=(said["translation"].astype(np.float64) + 0.5) * size,
        scale=np.float64(said["scale"]) * size,
        size=(size, size),
    ).warped(back, photo.size)
    error = said["landmark_error"].astype(np.float64)
    expression, firm = expectation(predictor, said["expression"].astype(np.float64))
    picture, to_picture = picture_around(photo.pixels, landmarks)
    return Observation(
        photo=photo.name,
        size=photo.size,
        focal=photo.focal,
        box=faces.boxes[k].astype(np.float64),
        score=float(faces.scores[k]),
        landmarks=landmarks,
        sigma=LAPLACE_TO_SIGMA * error * size * zoom,
        identity=said["identity"].astype(np.float64),
        expression=expression,
        firmness=firm,
        camera=camera,
        quality=float(1 / (1 + (np.median(error) / QUALITY_HALVES_AT) ** 2)),
        picture=picture,
        to_picture=to_picture,
        focal_from=photo.focal_from,
        notes=photo.notes,
        code=said["code"].astype(np.float64) if "code" in said else None,
    )


def picture_around(
    pixels: UInt8[np.ndarray, "H W 3"], landmarks: Float[np.ndarray, "L 2"]
) -> tuple[UInt8[np.ndarray, "h w 3"], Float[np.ndarray, "2 3"]]:
    """The square around the face, inside the photo, at most PICTURE_SIDE px."""
    height, width = pixels.shape[:2]
    low, high = landmarks.min(0), landmarks.max(0)
    half = PICTURE_CONTEXT / 2 * (high - low).max()
    corner = np.clip((low + high) / 2 - half, 0, [width - 1, height - 1]).astype(int)
    far = np.clip(np.ceil((low + high) / 2 + half), corner + 1, [width, height]).astype(int)
    shrink = min(1.0, PICTURE_SIDE / float((far - corner).max()))
    affine = np.array([[shrink, 0, -shrink * corner[0]], [0, shrink, -shrink * corner[1]]])
    size = tuple(max(1, round(v)) for v in (far - corner) * shrink)
    if shrink == 1:
        return pixels[corner[1] : far[1], corner[0] : far[0]].copy(), affine
    return image.crop(pixels, affine, (size[0], size[1]), edge=True), affine
