"""Photos of a person → that person's 3D face: observe every photo, fit them together, say how far they disagree."""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from sameface.core.camera import Perspective, WeakPerspective
from sameface.core.errors import BadPhoto, NoFaceFound, SameFaceError, compared
from sameface.core.geometry import align, barycentric
from sameface.core.processes import few_threads
from sameface.morphable import MorphableModel, default
from sameface.morphable.points import Points
from sameface.photo import MIN_SCORE, image
from sameface.photo.face import Observation, Photo
from sameface.photo.image import Source
from sameface.photo.lens import focal_in_px
from sameface.photo.observe import observe, points_of
from sameface.photo.predictor import Predictor, load, networks_name, second
from sameface.photo.turned import observe_turned
from sameface.reconstruction.agreement import disagreeing, reason
from sameface.reconstruction.cameras import in_perspective
from sameface.reconstruction.choice import candidates, choose
from sameface.reconstruction.copies import counted, note
from sameface.reconstruction.doubts import doubts, far_apart
from sameface.reconstruction.fit import Fit, Measured, Priors, fit, tempered
from sameface.reconstruction.in_model import recaster_of
from sameface.reconstruction.result import Reconstruction, View

__all__ = [
    "Looked",
    "check_options",
    "first_error",
    "join",
    "look",
    "measured",
    "no_face_of_that_number",
    "reconstruct",
    "shape_distance",
]

IRIS_DIAMETER = 11.7
"""mm; horizontal visible iris diameter of adults, 11.7 ± 0.5 (Rüfer et al. 2005)"""
PUPILS, BLINKS = (468, 473), ("eyeBlinkRight", "eyeBlinkLeft")
"""MediaPipe's numbers of the subject's right and left pupil, and the expressions that shut these eyes"""
LEAST_FACING, MOST_SHUT = 0.7, 0.5
"""an iris is measured where the cosine of the head's turn is at least the first, and the blink at most the second"""
FARTHEST, APART = 1.75, 1.75
"""mm RMS, and parts of the others' median: a photo whose own shape is farther than both from the others' joint shape is
taken for somebody else or a bad fit"""
NOTICED, MISTAKEN = 0.67, 0.01
"""of strangers and of a person's own photos, the part that is left out at these limits (results/outliers.json)"""
LEAST_QUALITY = 0.06
"""a worse photo does not count when there is a better one"""
LONGEST_WINDOW = 10.0
"""s; more would smooth away whatever a face does"""
LEAST_SCORE = 0.05
"""of a detected face; below it everything is a candidate"""
NEAREST, NEAR = 180.0, 400.0
"""model mm from lens to face; a focal length that means less is not believed (the photo is a crop of another), or
noted: few photos are taken from so near"""


@dataclass(frozen=True)
class Looked:
    """What came of looking at photos: per photo its faces, or the problem (photo, kind, message)."""

    faces: tuple[tuple[Observation, ...], ...]
    problems: tuple[tuple[str, str, str], ...]


def reconstruct(
    *photos: Source | Photo | Iterable[Any],
    face: int | None = None,
    predictor: str = "default",
    iris: bool = False,
    ipd: float | None = None,
    min_score: float = MIN_SCORE,
    focal: float | str | None = None,
    priors: Priors | None = None,
    model: str | os.PathLike[str] | None = None,
) -> Reconstruction:
    """The 3D face of ONE person from one or several photos: whatever `image.read` reads, and collections of that.

    Of several faces in a photo the one is taken that the other photos show, or else the largest and most central
    (`choice.choose`; a note says so), or the `face`-th largest (1 is the largest). Copies of a photo count once. A
    photo that cannot be used is left out and named in `dropped`; if none can be used, the first problem is raised
    (BadPhoto, NoFaceFound).

    Millimetres are those of an average head unless `iris` (the human iris is 11.7 mm wide) or `ipd` (the distance
    between the pupils in mm) sets the scale. The focal length of a photo is that of its EXIF data, or `focal` for all
    photos: a number of px, or a text: "1200px", "50mm" (35 mm equivalent). Where nobody knows it, it is estimated.

    `model` is the file or folder of another morphable model (FLAME, GNM, Basel, ICT, 3DDFA …); `target` of the answer
    is then the same person in it.
    """
    recaster = None if model is None else recaster_of(Path(model))  # which may be refused before any work
    check_options(face=face, iris=iris, ipd=ipd, min_score=min_score, focal=focal)
    looked = look(photos, predictor=predictor, min_score=min_score, focal=focal)
    if not looked.faces and not looked.problems:
        raise ValueError("reconstruct needs at least one photo: a path, bytes, an array or a Pillow image")
    found, problems = [], list(looked.problems)
    for faces in looked.faces:
        if some := candidates(faces, face):
            found.append(some)
        else:
            problems.append(no_face_of_that_number(faces, face or 1))
    if not found:
        raise first_error(problems)
    answer = join(choose(found), predictor=predictor, iris=iris, ipd=ipd, priors=priors, problems=tuple(problems))
    return answer if recaster is None else replace(answer, target=answer.in_model(recaster))


@few_threads()
def look(
    photos: Source | Photo | Iterable[Any],
    *,
    predictor: str = "default",
    min_score: float = MIN_SCORE,
    focal: float | str | None = None,
    turned: bool = True,
    near: Float[np.ndarray, " 4"] | None = None,
    progress: Callable[[str], Any] | None = None,
) -> Looked:
    """Every face of every photo, the largest first; problems are collected, not raised. Photos are read one by one.

    `focal` as in `reconstruct`. With `turned`, photos without a good face are also looked at from their other sides;
    without, `near` may say where the one face was a moment ago (`observe`).
    """
    check_options(min_score=min_score, focal=focal)
    network = load(predictor)
    points_of(network)  # a network that is not what it should be is no photo's fault
    faces, problems, seen_names = [], [], set()
    for number, source in enumerate(image.one_by_one(photos)):
        name = source.name if isinstance(source, Photo) else image.name_of(source) or f"photo {number + 1}"
        try:
            photo = source if isinstance(source, Photo) else image.read(source, name=name)
            if photo.name in seen_names:
                raise BadPhoto(f"{photo.name} was given twice; the second is left out")
            seen_names.add(photo.name)
            if focal is not None:
                photo = replace(photo, focal=focal_in_px(focal, photo.size), focal_from="given", notes=())
            every = (
                observe_turned(photo, network, second=second(), min_score=min_score)
                if turned
                else observe(photo, network, second=second(), min_score=min_score, near=near)
            )
            faces.append(tuple(every))
        except SameFaceError as error:
            problems.append((name, type(error).__name__, str(error)))
        except MemoryError:
            problems.append((name, "BadPhoto", f"{name} does not fit into memory; make it smaller"))
        if progress is not None:
            progress(name)
    return Looked(tuple(faces), tuple(problems))


@few_threads()
def join(
    seen: Sequence[Observation],
    *,
    predictor: str = "default",
    iris: bool = False,
    ipd: float | None = None,
    priors: Priors | None = None,
    problems: tuple[tuple[str, str, str], ...] = (),
) -> Reconstruction:
    """One person from observations of that person (one per photo), with outliers among them left out."""
    if not seen:
        raise ValueError("a reconstruction needs at least one observed face")
    check_options(iris=iris, ipd=ipd)
    network, model = load(predictor), default()
    points = points_of(network)
    believed = [_believed(one) for one in seen]
    good, dropped = _good_enough(believed)
    good, copies = counted(good)
    dropped += copies
    data = measured(good)
    alone = fit(points, data, priors, shared=False)
    out, distance = disagreeing(alone.identity, np.array([one.quality for one in good]), FARTHEST, APART)
    dropped += [(good[k].photo, "Disagrees", reason(distance[k], (NOTICED, MISTAKEN))) for k in out]
    if out:
        keep = np.delete(np.arange(len(good)), out)
        good = [good[k] for k in keep]
        data, alone = measured(good), alone[keep]
    joint = alone if len(good) == 1 else fit(points, data, priors)
    views = tuple(_view(good[k], joint, alone, k, model) for k in range(len(good)))
    scale, origin = _scale(views, joint.identity[0], model, network, iris, ipd)
    answer = Reconstruction(
        identity=joint.identity[0],
        views=views,
        model=model,
        predictor=networks_name(predictor),
        scale=scale,
        scale_from=origin,
        dropped=tuple(problems) + tuple(dropped),
        notes=(*_notes(views), *([note(len(copies))] if copies else [])),
    )
    return answer


def check_options(
    *,
    face: int | None = None,
    iris: bool = False,
    ipd: float | None = None,
    min_score: float = MIN_SCORE,
    smooth: float = 0.0,
    focal: float | str | None = None,
) -> None:
    """Raise ValueError for options of a reconstruction that contradict each other or cannot be meant."""
    if face is not None and face < 1:
        raise ValueError(f"face is {face}, but faces are counted from 1, the largest")
    if iris and ipd is not None:
        raise ValueError("give either iris or ipd, not both: each sets the scale")
    if ipd is not None and not 40 <= ipd <= 90:
        raise ValueError(f"ipd is {ipd:g} mm, but the distance between human pupils is 40 to 90 mm")
    if not LEAST_SCORE <= min_score <= 1:
        raise ValueError(f"min_score is {min_score:g}; expected {LEAST_SCORE:g} (any candidate) to 1")
    if not 0 <= smooth <= LONGEST_WINDOW:
        raise ValueError(f"smooth is {smooth:g}; expected 0 (not at all) to {LONGEST_WINDOW:g} seconds")
    if focal is not None:
        focal_in_px(focal, (1, 1))


def measured(seen: Sequence[Observation], *, weak: bool = False) -> Measured:
    """Observations as the data of a fit, in perspective unless `weak`; σ are `tempered`."""
    sigma = np.stack([o.sigma for o in seen])
    far = WeakPerspective(
        rotation=np.stack([o.camera.rotation for o in seen]),
        translation=np.stack([o.camera.translation for o in seen]),
        scale=np.array([float(o.camera.scale) for o in seen]),
        size=seen[0].camera.size,
    )
    focal = np.array([np.nan if o.focal is None else o.focal for o in seen])
    camera, distance = in_perspective(far, np.array([o.size for o in seen], np.float64), focal)
    return Measured(
        landmarks=np.stack([o.landmarks for o in seen]),
        sigma=tempered(sigma),
        identity=np.stack([o.identity for o in seen]),
        expression=np.stack([o.expression for o in seen]),
        camera=far if weak else camera,
        distance=None if weak else distance,
        firmness=np.stack([np.ones_like(o.expression) if o.firmness is None else o.firmness for o in seen]),
    )


def no_face_of_that_number(faces: Sequence[Observation], number: int) -> tuple[str, str, str]:
    """The problem (photo, kind, message) of a photo with fewer faces than the one asked for."""
    photo, count = faces[0].photo, f"{len(faces)} face{'s' if len(faces) > 1 else ''}"
    return photo, "NoFaceFound", f"{photo} has {count}, so there is no face {number}: ask for a smaller number"


def shape_distance(
    first: Float[np.ndarray, "V 3"], second: Float[np.ndarray, "V 3"], model: MorphableModel, *, scale: bool = False
) -> float:
    """mm RMS over the model's `face` region after the best rigid motion (with `scale`: similarity).

    Raises ValueError for vertices that are not the model's, or not finite.
    """
    for vertices in (first, second):
        if vertices.shape != model.mean.shape or not np.isfinite(vertices).all():
            raise ValueError(
                f"a shape of {model.name} has {model.mean.shape[0]} finite vertices (V, 3), but it is {vertices.shape}"
            )
    region = model.regions["face"]
    a, b = first[region].astype(np.float64), second[region].astype(np.float64)
    s, rotation, shift = align(a, b, scale=scale)
    return float(np.sqrt((((s * a @ rotation.T + shift) - b) ** 2).sum(1).mean()))


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def first_error(problems: Sequence[tuple[str, str, str]]) -> SameFaceError:
    """What to raise where no photo can be used: the first problem (photo, kind, message), and how many more."""
    kinds = {"NoFaceFound": NoFaceFound, "BadPhoto": BadPhoto}
    _, kind, message = problems[0]
    more = f" (and {len(problems) - 1} more photos could not be used)" if len(problems) > 1 else ""
    return kinds.get(kind, BadPhoto)(message + more)


def _good_enough(seen: list[Observation]) -> tuple[list[Observation], list[tuple[str, str, str]]]:
    """Leave out faces too poor to help, unless there is nothing better."""
    if max(o.quality for o in seen) < LEAST_QUALITY:
        return seen, []
    poor = [o for o in seen if o.quality < LEAST_QUALITY]
    why = "the face is too blurred, small or hidden (quality {}, below {})"
    dropped = [(o.photo, "PoorPhoto", why.format(*compared(o.quality, LEAST_QUALITY))) for o in poor]
    return [o for o in seen if o.quality >= LEAST_QUALITY], dropped


def _believed(seen: Observation) -> Observation:
    """The observation, its focal length forgotten if the face would be too near for it, noted if it would be near."""
    if seen.focal is None or (distance := seen.focal / float(seen.camera.scale)) >= NEAR:
        return seen
    source = "in its EXIF data" if seen.focal_from == "exif" else "that was given"
    if distance < NEAREST:
        why = f"the focal length {source} puts the face {distance:.0f} mm from the lens; was the photo cropped?"
        return replace(seen, focal=None, notes=(*seen.notes, f"{why} It was not used"))
    why = f"the focal length {source} puts the face only {distance:.0f} mm from the lens"
    return replace(seen, notes=(*seen.notes, f"{why}; if the photo was cut out of a larger one, that is wrong"))


def _view(seen: Observation, joint: Fit, alone: Fit, k: int, model: MorphableModel) -> View:
    camera = replace(joint.camera[k], size=seen.size)
    assert isinstance(camera, Perspective)
    vertices = model.vertices(joint.identity[k], joint.expression[k])
    region = model.regions["face"]
    apart = (model.vertices(alone.identity[k] - joint.identity[k]) - model.mean)[region]
    return View(
        seen=seen,
        camera=camera,
        expression=joint.expression[k],
        landmarks=camera.project(model.landmarks(vertices).astype(np.float64)),
        residual=float(joint.residual[k]),
        identity_alone=alone.identity[k],
        disagreement=float(np.sqrt((apart**2).sum(1).mean())),
    )


def _scale(
    views: Sequence[View],
    identity: np.ndarray,
    model: MorphableModel,
    network: Predictor,
    iris: bool,
    ipd: float | None,
) -> tuple[float, str]:
    """True mm per model mm, and what that rests on."""
    ids = list(network.description["point_ids"])
    points = points_of(network)
    if ipd is not None:
        corners = model.faces[model.extra["mediapipe_faces"][list(PUPILS)]]
        pupils = barycentric(model.vertices(identity), corners, model.extra["mediapipe_weights"][list(PUPILS)])
        return ipd / float(np.linalg.norm(pupils[0] - pupils[1])), f"pupil distance {ipd:g} mm"
    if not iris:
        return 1.0, "average head"
    found = [one for view in views for one in _irises(view, identity, points, ids, model)]
    if not found:
        names = ", ".join(view.seen.photo for view in views[:3])
        raise BadPhoto(
            f"no open eye looks forward in {names}, so the iris cannot be measured. Give such a photo, or ipd "
            "(the distance between the pupils), or leave iris out"
        )
    return float(np.median(found)), f"human iris {IRIS_DIAMETER} mm ({len(found)} irises)"


def _irises(view: View, identity: np.ndarray, points: Points, ids: list[int], model: MorphableModel) -> list[float]:
    """True mm per model mm from each iris that can be measured.

    An iris of 11.7 mm on an average head is seen by the network with the width of the ring in `points.mean` (which was
    measured on many photos): the scale is that width / (px across / px per model mm at the eye).
    """
    out, shape = [], points(identity[None], view.expression[None])[0]
    for blink, pupil, right, left in zip(BLINKS, PUPILS, (469, 474), (471, 476), strict=True):
        ring = [ids.index(right), ids.index(left)]
        usual = float(np.linalg.norm(np.subtract(*points.mean[ring])))
        across = float(np.linalg.norm(np.subtract(*view.seen.landmarks[ring])))
        ends = view.camera.project(shape[ids.index(pupil)] + np.array([[-0.5, 0, 0], [0.5, 0, 0]]))
        per_mm = float(np.linalg.norm(ends[1] - ends[0]))  # of a disc that faces where the face does
        facing = float(np.linalg.norm(view.camera.pose[:2, 0]))
        shut = view.expression[model.expression_names.index(blink)]
        if facing >= LEAST_FACING and shut <= MOST_SHUT:
            out.append(usual * per_mm / max(across, 1e-6))
    return out


def _notes(views: Sequence[View]) -> list[str]:
    notes = [f"{view.seen.photo}: {note}" for view in views for note in view.seen.notes]
    if len(views) == 1:
        notes.append("one photo: depth is a guess by the statistics of faces; add photos from other angles")
    farthest, limit = max(v.disagreement for v in views), far_apart(2, FARTHEST)
    if len(views) == 2 and farthest > limit:
        far, most = compared(farthest, limit)
        notes.append(
            f"the two photos disagree: {far} mm from their joint shape, over {most}; are they the same person?"
        )
    return notes + doubts(views, FARTHEST)
