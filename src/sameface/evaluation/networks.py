"""What a network in a file says of the photos of a case, brought from its crops into the photos.

Most networks see each photo alone, and the person's identity is the mean of what they say of the photos. Some see
several photos of a person together (`multiview`'s merging variants; their description names the `views`, yaws in
degrees). For these the photo nearest to each yaw is taken, and one photo serves several times where there are fewer.
The yaw is what the network that ships with sameface says of the photo: the file holds none that looks at one photo.

A pose in perspective needs the focal length, which is that of the photo's EXIF where it puts the face no nearer than
`reconstruct` believes, else the multiple of the photo's larger side that the network's description names.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8

from sameface.core.errors import AssetMissing, SameFaceError
from sameface.core.geometry import apply_affine, euler_from_rotation, rotation_from_axis_angle
from sameface.evaluation.case import Case
from sameface.evaluation.case_photos import Problem, first_error, look, photos_of, text_of
from sameface.morphable import default
from sameface.photo import image
from sameface.photo.face import Observation, Photo
from sameface.photo.predictor import FIVE, Predictor, affine_for_sphereface, affine_from_landmarks, five_of_68
from sameface.photo.predictor import load as load_network
from sameface.photo.views import choose
from sameface.reconstruction.reconstruct import NEAREST, join

__all__ = ["RULES", "measure", "speaks_of_our_model"]

RULES = ("upright", "box68", "sphereface5")
"""how networks crop"""
AT_ONCE = 16
"""crops that go through a network at a time"""
DETECTOR_SIDE, DETECTOR_DOWN = 1.58, 0.14
"""3DDFA_V2's crop for a detector's box, parts of its mean side (utils/functions.py, parse_roi_box_from_bbox)"""
WITHOUT_INNER_MOUTH_CORNERS = [k for k in range(68) if k not in (60, 64)]
"""the iBUG numbers of a set of 66 points (3DFAW)"""
SAME_MESH = 0.01
"""mm; a mesh that differs by less from that of the coefficients is theirs"""
FOCAL = "focal / larger side of the photo, if unknown"
"""where a description with a perspective camera says that"""


class _Crop(NamedTuple):
    """What a network gets to see of a photo."""

    photo: str
    size: tuple[int, int]
    """(width, height) of the photo"""
    focal: float
    """px of the photo, from its EXIF; NaN: not known"""
    pixels: UInt8[np.ndarray, "S S 3"]
    affine: Float[np.ndarray, "2 3"]
    """photo px → crop px"""
    yaw: float
    """degrees; NaN where nobody asked"""


def measure(network: Predictor, of_our_model: bool, case: Case) -> dict[str, np.ndarray]:
    """What `systems.Measured` names, from a network in a file."""
    cut, problems = _crops(network, case)
    if network.views:
        cut, said, others = _together(network, cut)
        problems += others
    else:
        pixels = [one.pixels for one in cut]
        parts = [network(np.stack(pixels[k : k + AT_ONCE])) for k in range(0, len(pixels), AT_ONCE)]
        said = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    said = {name: values.astype(np.float64) for name, values in said.items()}
    measured = {f"code/{name}": said[name] for name in ("identity", "embedding") if name in said}
    measured |= _in_perspective(said, cut, network) if _perspective(network) else _placed(said, cut, network.size)
    if not of_our_model:
        measured.pop("zoom", None)
    elif _own_mesh(said):
        measured["neutral"], measured["faces"] = said["neutral"].mean(0).astype(np.float32), default().faces
        measured["neutral_landmarks"] = default().landmarks(measured["neutral"])
    else:
        measured["identity"] = said["identity"].mean(0)
    return {**measured, "left_out": text_of(problems)}


def speaks_of_our_model(network: Predictor) -> bool:
    """Whether a network's identity is one of our morphable model; raises AssetMissing if it says nothing we know."""
    described, missing = network.description, {"method", "version", "crop"} - set(network.description)
    if missing:
        lacks = ", ".join(sorted(missing))
        raise AssetMissing(f"{network.path} does not say its {lacks}; make the file with `sameface export`")
    rule, crop = _rule(network), described["crop"]
    if rule not in RULES or (rule == "box68" and "factor" not in crop):
        raise AssetMissing(f"{network.path} wants crops {crop}; known are {', '.join(RULES)}, the second with a factor")
    views = (len(network.views),) if network.views else ()
    said = network(np.zeros((1, *views, network.size, network.size, 3), np.uint8))
    known = {"landmarks68": (68, 3), "landmarks66": (66, 3), "rotation": (*views, 3, 3), "identity": None}
    known |= {"embedding": None}
    useful = [name for name in said if name in known]
    wrong = [f"{name} {said[name].shape}" for name in useful if known[name] and said[name].shape[1:] != known[name]]
    if wrong or not useful:
        gives = ", ".join(f"{name} {values.shape}" for name, values in said.items())
        raise AssetMissing(f"{network.path} gives {gives}; expected some of {', '.join(known)}, points as (B, L, 3)")
    return "identity" in said and described.get("morphable") == default().name


def _own_mesh(said: dict[str, np.ndarray]) -> bool:
    """Whether a network has a decoder of its own, whose meshes no coefficients of our model give."""
    if "neutral" not in said:
        return False
    return bool(np.abs(said["neutral"] - default().vertices(said["identity"])).max() > SAME_MESH)


# ── crops ──────────────────────────────────────────────────────────────────────────────────────────────────


def _crops(network: Predictor, case: Case) -> tuple[list[_Crop], list[Problem]]:
    """What the network gets to see of each photo, and the photos of which it cannot."""
    cut, problems, side = [], [], (network.size, network.size)
    for photo, place in photos_of(case, problems):
        try:
            ours = look(photo, place, load_network("default")) if network.views else None
            affine = _affine(photo, place, network, ours)
        except SameFaceError as error:
            problems.append((photo.name, type(error).__name__, str(error)))
            continue
        pixels = image.crop(photo.pixels, affine, side, edge=_rule(network) != "box68")
        yaw = np.nan if ours is None else float(np.degrees(euler_from_rotation(ours.camera.rotation)[1]))
        cut.append(_Crop(photo.name, photo.size, photo.focal or np.nan, pixels, affine, yaw))
    if not cut:
        raise first_error(problems)
    return cut, problems


def _rule(network: Predictor) -> str:
    return network.description["crop"].get("rule", "upright")


def _affine(
    photo: Photo, place: np.ndarray | None, network: Predictor, ours: Observation | None
) -> Float[np.ndarray, "2 3"]:
    """Photo px → crop px by the network's own rule.

    upright: the upright box of our default network's dense points. box68: the square of `factor` × the larger side of
    the 68 points' box; a detector's box (two corners) is first made the square that 3DDFA_V2 crops for √2. sphereface5:
    SphereFace's alignment of five points. Points that the case does not tell are those of our own fit to `ours`, what
    our network sees (None: not looked yet).
    """
    rule, crop, size = _rule(network), network.description["crop"], network.size
    if rule == "box68" and place is not None and len(place) == 2:
        mean_side = float((place[1] - place[0]).sum()) / 2
        centre = place.mean(0) + np.array([0, DETECTOR_DOWN * mean_side])
        return _square(centre, DETECTOR_SIDE * mean_side * crop["factor"] / np.sqrt(2), size)
    if rule != "upright" and place is not None and len(place) in ((68,) if rule == "box68" else (5, 68)):
        points = place
    else:
        default_network = load_network("default")
        ours = ours or look(photo, place, default_network)
        if rule == "upright":
            five = [default_network.description["point_ids"].index(k) for k in FIVE]
            return affine_from_landmarks(ours.landmarks, ours.landmarks[five], size)
        points = join([ours]).views[0].landmarks
    if rule == "sphereface5":
        return affine_for_sphereface(five_of_68(points) if len(points) == 68 else points, size)
    return _square((points.min(0) + points.max(0)) / 2, crop["factor"] * float(np.ptp(points, axis=0).max()), size)


def _square(centre: Float[np.ndarray, " 2"], side: float, size: int) -> Float[np.ndarray, "2 3"]:
    """The affine that takes the upright square of `side` px around `centre` to size × size px."""
    zoom = size / side
    return np.array([[zoom, 0, size / 2 - zoom * centre[0]], [0, zoom, size / 2 - zoom * centre[1]]])


# ── several photos together ────────────────────────────────────────────────────────────────────────────────


def _together(network: Predictor, cut: list[_Crop]) -> tuple[list[_Crop], dict[str, np.ndarray], list[Problem]]:
    """The photos that come nearest to the network's views, what it says of each of these, and the others.

    A photo that serves several views has the pose of the first of them. The identity is the same for all.
    """
    chosen = choose(np.array([one.yaw for one in cut]), network.views)
    rows, first = np.unique(chosen, return_index=True)
    raw = network(np.stack([cut[k].pixels for k in chosen])[None])
    joint = ("identity", "neutral", "embedding")
    said = {name: np.repeat(v, len(rows), axis=0) if name in joint else v[0, first] for name, v in raw.items()}
    wanted = ", ".join(f"{yaw:g}" for yaw in network.views)
    why = f"yaw {{:.0f}}°; this network takes the photos nearest to {wanted}°"
    others = [(cut[k].photo, "NotChosen", why.format(cut[k].yaw)) for k in range(len(cut)) if k not in rows]
    return [cut[k] for k in rows], said, others


# ── from crops to photos ───────────────────────────────────────────────────────────────────────────────────


def _back(cut: list[_Crop], size: int) -> tuple[Float[np.ndarray, "N 2 3"], Float[np.ndarray, " N"]]:
    """Affines from crop px to photo px, and the sides of the crops in the photos, px."""
    affines = np.stack([one.affine for one in cut])
    linear = np.linalg.inv(affines[:, :, :2])
    back = np.concatenate([linear, -linear @ affines[:, :, 2:]], axis=2)
    return back, np.sqrt(np.linalg.det(linear)) * size


def _placed(said: dict[str, np.ndarray], cut: list[_Crop], size: int) -> dict[str, np.ndarray]:
    """Points, rotations and weak-perspective cameras of the crops as those of the photos."""
    back, side = _back(cut, size)
    placed = {}
    for name, where in (("landmarks68", list(range(68))), ("landmarks66", WITHOUT_INNER_MOUTH_CORNERS)):
        if name in said:
            flat = apply_affine(back, (said[name][..., :2] + 0.5) * size)
            points = np.full((len(back), 68, 3), np.nan)
            points[:, where] = np.concatenate([flat, side[:, None, None] * said[name][..., 2:]], axis=2)
            placed["landmarks"] = points
    if "rotation" in said:
        turn = np.tile(np.eye(3), (len(back), 1, 1))
        turn[:, :2, :2] = back[:, :, :2] * (size / side)[:, None, None]
        placed["rotation"] = turn @ said["rotation"]
    if {"identity", "expression", "rotation", "scale", "translation"} <= set(said):
        middle = apply_affine(back, (said["translation"][:, None] + 0.5) * size)[:, 0]
        nothing = np.full((len(back), 2), np.nan)
        placed["translation"] = np.concatenate([middle, nothing[:, :1]], axis=1)
        placed |= {"expression": said["expression"], "zoom": said["scale"] * side, "center": nothing}
    return placed


def _perspective(network: Predictor) -> bool:
    return network.description.get("camera", {}).get("kind") == "perspective"


def _in_perspective(said: dict[str, np.ndarray], cut: list[_Crop], network: Predictor) -> dict[str, np.ndarray]:
    """Perspective cameras in the photos, whose middle is the principal point; the face is still unless it is said.

    As `methods.multiview.in_camera`: the crop shows where the origin is and px/mm there, s, so t = f/s K⁻¹[place, 1];
    the head's turn is against the ray r through the middle of the crop, so R = (shortest turn of z to r) · rotation.
    """
    if not {"rotation", "translation", "scale"} <= set(said):
        return {}
    back, side = _back(cut, network.size)
    at = apply_affine(back, network.size * (said["translation"][:, None] + 0.5))[:, 0]
    middle = apply_affine(back, np.full((len(cut), 1, 2), network.size / 2))[:, 0]
    size, told = np.array([one.size for one in cut], np.float64), np.array([one.focal for one in cut])
    px_per_mm, assumed = said["scale"] * side, network.description["camera"][FOCAL] * size.max(1)
    focal = np.where(told / px_per_mm >= NEAREST, told, assumed)  # NaN is not
    ray, where = (_homogeneous((points - size / 2) / focal[:, None]) for points in (middle, at))
    ray /= np.linalg.norm(ray, axis=1, keepdims=True)
    axis = np.cross([0.0, 0.0, 1.0], ray)  # its length is the sine of the angle
    turn = rotation_from_axis_angle(axis / np.sinc(np.arccos(ray[:, 2]) / np.pi)[:, None])
    return {
        "rotation": turn @ said["rotation"],
        "translation": (focal / px_per_mm)[:, None] * where,
        "zoom": focal,
        "center": size / 2,
        "expression": said.get("expression", np.zeros((len(cut), default().n_expression))),
    }


def _homogeneous(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 3"]:
    return np.concatenate([points, np.ones((len(points), 1))], axis=1)
