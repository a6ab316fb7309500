"""A clip of one person → that person's 3D face, and how it moves: a camera and expression weights for every frame.

    track = video.track(Path("clip.mp4"))
    track.save("frames.csv"), track.save("animation.glb"), track.person.save("neutral.obj")

Frames are read as a stream, and of each only what the network said is kept. Then
1. the identity comes from at most VIEWS frames, spread over the yaw, in the same way as from photos;
2. with the identity known, every frame is fitted alone: a camera and an expression;
3. each quantity is smoothed over time by a Savitzky-Golay filter (Savitzky & Golay 1964): at each frame the value of
   the parabola that fits a window around it best. The window is symmetric, so the filter has zero phase: the result
   neither lags nor leads, and whatever changes at an even rate passes unchanged.

Rotations are smoothed as unit quaternions of continuous sign, renormalised: the weighted chordal mean on SO(3), which
does not depend on the axes. Scales are smoothed as logarithms; expression weights are clipped to [0, 1] afterwards. A
frame without a face, or a cut, ends a window: nothing is mixed across it, and nothing is made up.
"""

import csv
import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int
from scipy.signal import savgol_filter
from scipy.spatial.transform import Rotation

from sameface.core.camera import WeakPerspective
from sameface.core.errors import BadPhoto, NoFaceFound
from sameface.core.files import write_file
from sameface.core.geometry import euler_from_rotation, intersection_over_union
from sameface.core.processes import few_threads
from sameface.mesh.glb import Animation
from sameface.photo import MIN_SCORE
from sameface.photo.clip import Promised, frames, promised
from sameface.photo.face import Observation
from sameface.photo.observe import picture_around, points_of
from sameface.photo.predictor import load
from sameface.reconstruction.cameras import perspective_from_weak
from sameface.reconstruction.choice import candidates
from sameface.reconstruction.fit import fit
from sameface.reconstruction.reconstruct import check_options, join, look, measured, no_face_of_that_number
from sameface.reconstruction.result import Reconstruction

__all__ = ["SMOOTH", "Track", "smoothed", "spread", "track", "unit_quaternions"]

VIEWS = 12
"""frames that decide the identity, at most"""
SMOOTH = 0.3
"""s; length of the window: 9 frames at 30 per second"""
MOST_FRAMES = 50_000
"""frames of a clip; about 300 MB of observations"""
FOLLOWED = 0.3
"""the face that overlaps the last frame's at least so much (intersection over union) is the same one"""
CUT_TURN, CUT_SHIFT, CUT_GROWTH = np.radians(30.0), 80.0, 1.5
"""rad, model mm, factor: a head that changes more from one frame to the next was not filmed in one go"""
SEARCHED = 15
"""every so many frames the whole frame is searched for faces, and where the one of the frame before is lost"""
AT_ONCE = 256
"""frames that are fitted at a time"""
_DEGREE = 2


@dataclass(frozen=True, eq=False, repr=False)
class Track:
    """A clip's person, and the face in each of its N frames; NaN where no face was found."""

    clip: str
    person: Reconstruction
    """from the chosen frames, which are its views"""
    seconds: Float[np.ndarray, " N"]
    """when each frame is shown"""
    camera: WeakPerspective
    """batch of N, px of the frames, smoothed: where the face is, how large, and its turn against the line of sight"""
    expression: Float[np.ndarray, "N E"]
    """0 to 1, smoothed"""
    focal: float
    """px: of the lens; the cameras in perspective are `perspective_from_weak(camera, focal)`"""
    error: Float[np.ndarray, " N"]
    """px: median distance between the measured points and those of the smoothed face"""
    problems: tuple[str, ...]
    """of each frame: why there is no face, or nothing"""
    notes: tuple[str, ...] = ()
    """sentences to read before trusting the numbers"""

    @property
    def found(self) -> Bool[np.ndarray, " N"]:
        """The frames with a face."""
        return np.isfinite(self.error)

    def save(self, path: str | os.PathLike[str], *, unlit: bool = False) -> Path:
        """Write one file by its suffix: .csv (a row per frame) or .glb (the face, animated). Raises BadOutput.

        `unlit` as of `Reconstruction.save`.
        """
        path = Path(path)
        if path.suffix.lower() == ".csv":
            write_file(path, self._csv().encode())
        elif path.suffix.lower() == ".glb":
            self.person.save(path, animation=self.animation(), unlit=unlit)
        else:
            raise ValueError(f"{path.name}: a track is saved as .csv or .glb; other files come from track.person.save")
        return path

    def animation(self) -> Animation:
        """The frames with a face as keys; the head turns as the viewer of the clip saw it."""
        seen = self.found
        turned = np.diag([1.0, -1.0, -1.0]) @ self.camera.rotation[seen]
        return Animation(self.seconds[seen], self.expression[seen], unit_quaternions(turned))

    def _csv(self) -> str:
        seen = self.found
        quaternion = np.full((len(seen), 4), np.nan)
        quaternion[seen] = unit_quaternions(self.camera.rotation[seen])
        degrees = np.degrees(np.stack(euler_from_rotation(self.camera.rotation), axis=-1))
        columns = {
            "qx": quaternion[:, 0], "qy": quaternion[:, 1], "qz": quaternion[:, 2], "qw": quaternion[:, 3],
            "pitch_degrees": degrees[:, 0], "yaw_degrees": degrees[:, 1], "roll_degrees": degrees[:, 2],
            "x_px": self.camera.translation[:, 0], "y_px": self.camera.translation[:, 1],
            "scale_px_per_mm": self.camera.scale, "focal_px": np.where(seen, self.focal, np.nan),
            "error_px": self.error,
            **dict(zip(self.person.model.expression_names, self.expression.T, strict=True)),
        }  # fmt: skip
        out = io.StringIO()
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["frame", "seconds", "problem", *columns])
        for k, row in enumerate(np.stack(list(columns.values()), axis=1)):
            cells = [f"{value:.6f}" for value in row] if seen[k] else [""] * len(row)
            table.writerow([k, f"{self.seconds[k]:.6f}", self.problems[k], *cells])
        return out.getvalue()


def track(
    path: str | Path,
    *,
    smooth: float = SMOOTH,
    face: int | None = None,
    predictor: str = "default",
    iris: bool = False,
    ipd: float | None = None,
    min_score: float = MIN_SCORE,
    focal: float | str | None = None,
    progress: Callable[[int, int], Any] | None = None,
) -> Track:
    """The one face of a clip through all its frames; `smooth` is the window's length in seconds, 0 for none.

    `focal` is that of the clip's lens, as in `reconstruct`; where nobody knows it, it is estimated, one for all frames.

    The largest and most central face (or the `face`-th largest) is followed from frame to frame by its place.
    `progress` is called with the frames done and promised. Raises BadPhoto for what is no video that can be decoded or
    is too long, NoFaceFound if no frame has a face.
    """
    check_options(face=face, iris=iris, ipd=ipd, min_score=min_score, smooth=smooth, focal=focal)
    path = Path(path)
    said = promised(path)
    _check_length(path, said.frames)
    seen: dict[int, Observation] = {}
    problems, seconds, several, searched = [], [], 0, 0
    last: Observation | None = None
    for frame in frames(path):
        _check_length(path, frame.number + 1)
        near = None if last is None or frame.number % SEARCHED == 0 else last.box
        looked = look([frame.photo], predictor=predictor, min_score=min_score, focal=focal, turned=False, near=near)
        faces = looked.faces[0] if looked.faces else ()
        several, searched = several + (len(faces) > 1), searched + (near is None)
        one = _followed(faces, last, face)
        if one is not None:
            last = seen[frame.number] = replace(one, picture=np.zeros((1, 1, 3), np.uint8))
        problem = looked.problems[0] if looked.problems else None
        problem = no_face_of_that_number(faces, face or 1) if faces and one is None else problem
        problems.append(problem[2] if problem else "")
        seconds.append(frame.seconds)
        if progress is not None:
            progress(frame.number + 1, max(said.frames or round(said.end * said.rate), frame.number + 1))
    if not seen:
        raise NoFaceFound(f"no face in any of the {len(problems)} frames of {path}. Of the first: {problems[0]}")
    times, notes = _times(np.array(seconds), said.rate, path)
    notes += _missing(times, said)
    if several and face is None:
        where = f"several faces in {several} of the {searched} frames that were searched for all"
        notes.append(f"{where}; followed is the largest and most central at first, or the one of --face")
    person = join(_chosen(path, seen), predictor=predictor, iris=iris, ipd=ipd)
    return _through(path, seen, person, times, tuple(problems), smooth, predictor, tuple(notes))


def spread(yaw: Float[np.ndarray, " N"], quality: Float[np.ndarray, " N"], count: int = VIEWS) -> Int[np.ndarray, " M"]:
    """The numbers of at most `count` frames, ascending: the best in each of `count` equal parts of the range of yaw.

    >>> spread(np.array([0.0, 1.0, 2.0, 40.0, 41.0]), np.array([0.1, 0.9, 0.5, 0.3, 0.2]), 2).tolist()
    [1, 3]
    """
    edges = np.linspace(yaw.min(), yaw.max(), count + 1)[1:-1]
    part = np.searchsorted(edges, yaw, side="right")
    best = [np.flatnonzero(part == k)[quality[part == k].argmax()] for k in np.unique(part)]
    return np.sort(np.array(best))


def smoothed(values: Float[np.ndarray, "N K"], window: int) -> Float[np.ndarray, "N K"]:
    """Each column by a Savitzky-Golay filter of degree 2 over an odd number of rows; zero phase, exact for parabolas.

    The first and last half window take the parabola of the outermost whole window. A series shorter than the window
    narrows it; below 5 rows nothing changes, because a parabola through 3 points is no smoothing.
    """
    window = min(window, len(values) - 1 + len(values) % 2)
    return np.asarray(savgol_filter(values, window, _DEGREE, axis=0)) if window >= 5 else values


def unit_quaternions(rotation: Float[np.ndarray, "N 3 3"]) -> Float[np.ndarray, "N 4"]:
    """x, y, z, w of each rotation, of the sign that is nearest to the one before."""
    q = Rotation.from_matrix(rotation).as_quat()
    q[1:] *= np.cumprod(np.where((q[1:] * q[:-1]).sum(1) < 0, -1.0, 1.0))[:, None]
    return q


# ── inside ─────────────────────────────────────────────────────────────────────────────────────────────────


def _check_length(path: Path, count: int) -> None:
    if count > MOST_FRAMES:
        raise BadPhoto(f"{path} has {count} frames or more; at most {MOST_FRAMES} are read: cut it into parts")


def _followed(faces: Sequence[Observation], last: Observation | None, number: int | None) -> Observation | None:
    """The face where the last one was; if there is none, the `number`-th largest, else the largest and most central."""
    if last is not None and faces:
        overlap = [intersection_over_union(one.box, last.box) for one in faces]
        if max(overlap) >= FOLLOWED:
            return faces[int(np.argmax(overlap))]
    found = candidates(faces, number) if faces else []
    return found[0].face if found else None


def _times(seconds: Float[np.ndarray, " N"], rate: float, path: Path) -> tuple[Float[np.ndarray, " N"], list[str]]:
    """The frames' own times, or even ones, and a note, where the file's do not count upwards."""
    if seconds[0] >= 0 and (np.diff(seconds) > 0).all():
        return seconds, []
    if not rate:
        raise BadPhoto(f"{path} tells neither the times of its frames nor their rate; convert it to MP4")
    return np.arange(len(seconds)) / rate, [f"the times in the file do not count upwards; {rate:g} frames/s are taken"]


def _missing(seconds: Float[np.ndarray, " N"], said: Promised) -> list[str]:
    """A note where a file promises more than could be decoded."""
    if len(seconds) < 0.98 * said.frames - 2:
        return [f"only {len(seconds)} of the {said.frames} frames that the file promises could be decoded"]
    last = seconds[-1] + (1 / said.rate if said.rate else 0.0)
    if not said.frames and last < 0.98 * said.end - 2 * (last - seconds[-1]):
        return [f"the file breaks off: its frames end after {last:.1f} s, but it promises {said.end:.1f} s"]
    return []


def _chosen(path: Path, seen: dict[int, Observation]) -> list[Observation]:
    """The observations that decide the identity, with their pictures, for which the clip is read once more."""
    numbers = np.array(list(seen))
    yaw = np.array([euler_from_rotation(one.camera.rotation)[1] for one in seen.values()])
    best = numbers[spread(yaw, np.array([one.quality for one in seen.values()]))].tolist()
    chosen = []
    for number, _, photo in islice(frames(path, frozenset(best)), len(best)):
        picture, to_picture = picture_around(photo.pixels, seen[number].landmarks)
        chosen.append(replace(seen[number], picture=picture, to_picture=to_picture))
    return chosen


@few_threads()
def _through(
    path: Path,
    seen: dict[int, Observation],
    person: Reconstruction,
    seconds: Float[np.ndarray, " N"],
    problems: tuple[str, ...],
    smooth: float,
    predictor: str,
    notes: tuple[str, ...],
) -> Track:
    """Steps 2 and 3: every frame fitted for the known identity, then smoothed."""
    points, numbers = points_of(load(predictor)), np.array(list(seen))
    focal = float(np.median([view.camera.focal for view in person.views]))
    observed = [replace(one, focal=focal) for one in seen.values()]
    parts = [
        fit(points, measured(observed[k : k + AT_ONCE]), shared=False, identity=person.identity)
        for k in range(0, len(observed), AT_ONCE)
    ]
    rotation, shift, scale = (
        np.concatenate([getattr(one.camera.weak, name) for one in parts])
        for name in ("rotation", "translation", "scale")
    )
    camera = WeakPerspective(rotation, shift, scale, observed[0].size)
    expression = np.concatenate([one.expression for one in parts])
    window = _window(smooth, seconds)
    if window > 1:
        camera, expression = _smoothed_motion(camera, expression, _in_one_go(numbers, camera), window)
    shape = points(np.tile(person.identity, (len(observed), 1)), expression)
    projected = perspective_from_weak(camera, np.full(len(observed), focal)).project(shape)
    apart = np.linalg.norm(projected - np.stack([one.landmarks for one in observed]), axis=2)

    def everywhere(values: np.ndarray) -> np.ndarray:
        out = np.full((len(seconds), *values.shape[1:]), np.nan)
        out[numbers] = values
        return out

    return Track(
        clip=str(path), person=person, seconds=seconds, camera=camera.map(everywhere),
        expression=everywhere(expression), focal=focal, error=everywhere(np.median(apart, axis=1)), problems=problems,
        notes=notes,
    )  # fmt: skip


def _window(smooth: float, seconds: Float[np.ndarray, " N"]) -> int:
    """The largest odd number of frames in `smooth` seconds, at least 1; frames count as evenly spaced."""
    count = int(smooth / float(np.median(np.diff(seconds))) + 1e-3) if len(seconds) > 1 else 1
    return max(1, count - 1 + count % 2)


def _in_one_go(numbers: Int[np.ndarray, " N"], camera: WeakPerspective) -> list[slice]:
    """The stretches of consecutive frames without a cut."""
    turn = camera.rotation[1:] @ camera.rotation[:-1].swapaxes(1, 2)
    angle = np.arccos(np.clip((np.trace(turn, axis1=1, axis2=2) - 1) / 2, -1, 1))
    shift = np.linalg.norm(np.diff(camera.translation, axis=0), axis=1) / np.minimum(
        camera.scale[1:], camera.scale[:-1]
    )
    growth = np.abs(np.diff(np.log(camera.scale)))
    cut = (angle > CUT_TURN) | (shift > CUT_SHIFT) | (growth > np.log(CUT_GROWTH)) | (np.diff(numbers) > 1)
    ends = [0, *(np.flatnonzero(cut) + 1).tolist(), len(numbers)]
    return [slice(a, b) for a, b in pairwise(ends)]


def _smoothed_motion(
    camera: WeakPerspective, expression: Float[np.ndarray, "N E"], stretches: Sequence[slice], window: int
) -> tuple[WeakPerspective, Float[np.ndarray, "N E"]]:
    """Cameras and expressions, each stretch smoothed on its own."""

    def each(values: np.ndarray) -> np.ndarray:
        return np.concatenate([smoothed(values[part], window) for part in stretches])

    quaternions = np.concatenate([smoothed(unit_quaternions(camera.rotation[part]), window) for part in stretches])
    return replace(
        camera,
        rotation=Rotation.from_quat(quaternions).as_matrix(),  # which normalises
        translation=each(camera.translation),
        scale=np.exp(each(np.log(camera.scale)[:, None])[:, 0]),
    ), np.clip(each(expression), 0, 1)
