"""The answer as one web page: the face to turn and to animate, what each photo said, and how far to believe it.

The page is a single file. It loads nothing (its content policy forbids it), so it can be mailed, and opened in ten
years; meshes ride in it as base64 integers, pictures as JPEG. `assets/report.html` is the page around the numbers.
"""

import base64
import os
import re
from html import escape
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from jaxtyping import Float, UInt8

from sameface.core.camera import WeakPerspective
from sameface.core.geometry import rotation_from_euler, rotation_from_quaternion
from sameface.mesh.glb import Animation
from sameface.morphable.head import normals
from sameface.reconstruction import picture
from sameface.reconstruction.doubts import FAIR, POOR, far_apart
from sameface.reconstruction.reconstruct import FARTHEST
from sameface.reconstruction.result import Reconstruction
from sameface.reconstruction.viewer import as_text, clay, packed, packed_targets, write_page

__all__ = ["card", "write_report"]

RENDER_SIZE = (420, 520)
ANGLES = (("front", 0.0), ("three-quarter", -40.0), ("profile", -88.0))
"""name and yaw in degrees of the still pictures"""
OVERLAY_SIDES = ((12, 560), (40, 420), (10**9, 300))
"""(photos up to, px): the more photos, the smaller their pictures, so that the page stays small"""
STRONGEST = 5
"""expressions named per photo"""
FAINTEST = 0.08
"""weight below which an expression is not worth a word"""
FULL_BAR = 2.0
"""times the disagreement that turns a bar red fills it; half of that turns it amber"""


def write_report(
    reconstruction: Reconstruction, path: str | os.PathLike[str], animation: Animation | None = None
) -> Path:
    """Write one self-contained HTML page about a person's face, and how it moves. Raises BadOutput if it cannot be.

    Positions in the page are within 0.005 mm of `reconstruction.vertices()`; blendshapes leave out what moves by less
    than 0.01 mm. Every text that came from outside, such as the names of photos, is escaped.
    """
    if not reconstruction.has_photos:
        raise ValueError("a report shows the photos, which a loaded result does not hold: reconstruct them again")
    path = Path(path)
    numbers = reconstruction.as_json()
    parts = {
        "title": escape(_title(reconstruction, animation is not None)),
        "facts": _facts(reconstruction, numbers),
        "photos": "\n".join(_photo(reconstruction, k, view) for k, view in enumerate(numbers["views"])),
        "dropped": _dropped(numbers["dropped"]),
        "notes": _notes(numbers["notes"]),
        "scale": escape(_scale_sentence(numbers["scale"])),
        "renders": _renders(reconstruction),
    }
    write_page(path, _face(reconstruction) | _film(animation), numbers, parts)
    return path


def card(answer: Reconstruction) -> str:
    """A few lines of HTML for notebooks: the neutral face from the front, and the line of numbers."""
    head, vertices = answer.head, answer.vertices(head=True)
    look: dict[str, Any] = {"colours": clay(head), "normals": normals(head, vertices)}
    if answer.skin is not None:
        look = {"skin": (answer.skin, head.uv)}
    image = picture.render(vertices, head.faces, _still_camera(vertices, 0.0), **look)
    facts = _facts(answer, answer.as_json()).replace("<div>", "<tr>").replace("</div>", "</tr>")
    rows = facts.replace("<dt>", "<th>").replace("</dt>", "</th>").replace("<dd>", "<td>").replace("</dd>", "</td>")
    notes = "".join(f"<p>{escape(note)}</p>" for note in answer.notes)
    alt = f"the neutral face, {_title(answer)[2:]}"
    return f'<img width="{RENDER_SIZE[0] // 2}" alt="{alt}" src="{_jpeg(image, 86)}"><table>{rows}</table>{notes}'


# ── what the viewer needs ──────────────────────────────────────────────────────────────────────────────────


def _face(answer: Reconstruction) -> dict[str, Any]:
    """The neutral head, its blendshapes and textures, as the viewer's script reads them."""
    model = answer.head
    apart = _disagreement(answer) if len(answer.views) > 1 else None
    face = packed(model, answer.vertices(head=True), apart)
    face |= {
        "names": list(model.expression_names),
        "range": list(model.expression_range),
        "photos": [{"name": v.seen.photo, "weights": np.round(v.expression, 4).tolist()} for v in answer.views],
    } | packed_targets(np.float32(answer.scale) * model.expressions)
    if model.uv is not None:
        uv = np.round(np.clip(model.uv, 0, 1) * 65535).astype("<u2")
        face |= {"uv": as_text(uv), "texture": _jpeg(answer.texture, 90)}
    return face


def _film(animation: Animation | None) -> dict[str, Any]:
    """When each frame is shown, its weights in 255ths, and the head's rotation (float32)."""
    if animation is None:
        return {}
    turns = rotation_from_quaternion(animation.rotation[:, [3, 0, 1, 2]].astype(np.float64))
    film = {
        "seconds": np.round(animation.seconds, 4).tolist(),
        "weights": as_text(np.round(255 * np.clip(animation.weights, 0, 1)).astype(np.uint8)),
        "turns": as_text(turns.astype("<f4")),
    }
    return {"film": film}


def _disagreement(answer: Reconstruction) -> Float[np.ndarray, " V"]:
    """mm at each vertex: RMS over photos of the distance between the shape from one photo alone and the joint shape."""
    alone = np.stack([answer.head.vertices(v.identity_alone) for v in answer.views])
    apart = alone - answer.head.vertices(answer.identity)
    return np.sqrt((apart**2).sum(2).mean(0))


def _jpeg(pixels: UInt8[np.ndarray, "H W 3"], quality: int) -> str:
    """A picture as a data URI."""
    encoded = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


# ── what people read ───────────────────────────────────────────────────────────────────────────────────────


def _title(answer: Reconstruction, moving: bool = False) -> str:
    count, what = len(answer.views), "frame" if moving else "photo"
    return f"A face from one {what}" if count == 1 else f"A face from {count} {what}s"


def _facts(answer: Reconstruction, numbers: dict[str, Any]) -> str:
    """The line of numbers under the title."""
    apart = numbers["disagreement_mm"]
    facts = [
        ("photos used", f"{len(answer.views)} of {len(answer.views) + len(answer.dropped)}"),
        ("photos disagree by", "one photo only" if apart is None else f"{apart:.2f} mm"),
        ("millimetres from", answer.scale_from),
        ("shape", f"{answer.model.n_vertices:,} vertices, {answer.model.n_identity} modes"),
        ("network", answer.predictor),
    ]
    return "".join(f"<div><dt>{name}</dt><dd>{escape(value)}</dd></div>" for name, value in facts)


def _photo(answer: Reconstruction, k: int, view: dict[str, Any]) -> str:
    """The card of one photo."""
    pose = view["head_pose_degrees"]
    quality, apart = view["quality"], view["disagreement_mm"]
    rows = [
        *_photo_bars(len(answer.views), quality, apart),
        _row("head", _pose_in_words(**pose)),
        _row("points off by", f"{100 * view['residual']:.1f} % of the face"),
        _row("expression", _strongest(view["expression"])),
    ]
    name = escape(view["photo"])
    return (
        f'<article class="photo"><div class="peek">{_overlay(answer, k)}</div>'
        f'<h3 title="{name}">{escape(_short(view["photo"]))}</h3><dl>{"".join(rows)}</dl>'
        f'<button type="button" class="quiet" data-photo="{k}">show this expression</button></article>'
    )


def _photo_bars(photos: int, quality: float, apart: float | None) -> list[str]:
    """How good a photo is and how far from the joint shape of so many photos, in colours; what is red is a note too"""
    bars = [_bar("quality", f"{quality:.2f}", quality, _shade_of(-quality, -FAIR, -POOR))]
    if apart is not None:
        far = far_apart(photos, FARTHEST)
        bars.append(_bar("disagreement", f"{apart:.2f} mm", apart / (FULL_BAR * far), _shade_of(apart, far / 2, far)))
    return bars


def _overlay(answer: Reconstruction, k: int) -> str:
    """The fitted mesh over the photo, and the photo alone beneath it."""
    side = next(px for limit, px in OVERLAY_SIDES if len(answer.views) <= limit)
    over, alone = answer.overlay(k), _photo_alone(answer, k)
    shrink = min(1.0, side / max(over.shape[:2]))
    size = max(1, round(over.shape[1] * shrink)), max(1, round(over.shape[0] * shrink))
    over, alone = (cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in (over, alone))
    shape = f'width="{size[0]}" height="{size[1]}"'
    name = escape(answer.views[k].seen.photo)
    return (
        f'<img {shape} loading="lazy" alt="{name}" src="{_jpeg(alone, 82)}">'
        f'<img {shape} loading="lazy" class="over" alt="the fitted face over {name}" src="{_jpeg(over, 82)}">'
        f'<input type="range" value="50" aria-label="photo to the left of this, fitted face to the right, in %"><i></i>'
    )


def _photo_alone(answer: Reconstruction, k: int) -> UInt8[np.ndarray, "h w 3"]:
    """The same cut as the overlay's."""
    view = answer.views[k]
    camera = view.camera.warped(view.seen.to_picture, view.seen.picture.shape[1::-1])
    mesh = answer.model.vertices(answer.identity, view.expression)
    return picture.overlay(view.seen.picture, mesh, answer.model.faces, camera, opacity=0.0)


def _short(name: str) -> str:
    """The last part of a path: what tells photos apart."""
    return name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1] or name


def _row(name: str, value: str) -> str:
    return f"<div><dt>{name}</dt><dd>{value}</dd></div>"


def _bar(name: str, value: str, part: float, kind: str) -> str:
    part = min(max(part, 0.0), 1.0)
    return f'<div><dt>{name}</dt><dd class="bar {kind}"><i style="--part:{part:.2f}"></i><b>{value}</b></dd></div>'


def _shade_of(value: float, uneven: float, bad: float) -> str:
    return "good" if value <= uneven else "fair" if value <= bad else "poor"


def _pose_in_words(pitch: float, yaw: float, roll: float) -> str:
    """Degrees, in the words of somebody who looks at the photo."""
    ways = ((yaw, "left", "right"), (pitch, "up", "down"), (roll, "tilted left", "tilted right"))
    said = [f"{abs(angle):.0f}° {more if angle > 0 else less}" for angle, less, more in ways if abs(angle) >= 0.5]
    return ", ".join(said) or "straight ahead"


def _strongest(weights: dict[str, float]) -> str:
    """The strongest expressions; left and right of one kind become one word with the mean of the two."""
    pairs: dict[str, list[float]] = {}
    for name, weight in weights.items():
        stem = re.sub(r"(Left|Right)$", "", name)
        both = stem + "Left" in weights and stem + "Right" in weights
        pairs.setdefault(stem if both else name, []).append(weight)
    means = sorted(((sum(w) / len(w), name) for name, w in pairs.items()), reverse=True)
    said = [f"{escape(name)} {weight:.2f}" for weight, name in means[:STRONGEST] if weight >= FAINTEST]
    return ", ".join(said) or "none to speak of"


def _dropped(dropped: list[dict[str, str]]) -> str:
    if not dropped:
        return ""
    rows = "".join(
        f'<tr><td title="{escape(one["photo"])}">{escape(_short(one["photo"]))}</td><td>{escape(one["problem"])}</td>'
        f"<td>{escape(one['message'])}</td></tr>"
        for one in dropped
    )
    head = "<thead><tr><th>photo</th><th>problem</th><th>why</th></tr></thead>"
    table = f"<table>{head}<tbody>{rows}</tbody></table>"
    return f'<section><h2>Photos left out</h2><div class="wide">{table}</div></section>'


def _notes(notes: list[str]) -> str:
    return '<ul class="notes">' + "".join(f"<li>{escape(note)}</li>" for note in notes) + "</ul>" if notes else ""


def _scale_sentence(scale: dict[str, Any]) -> str:
    if scale["from"] == "average head":
        return (
            "Photos alone do not tell how large a head is. Here the millimetres are those of an average head, so sizes "
            "are right only up to one common factor, usually within a few percent; proportions do not depend on it."
        )
    return (
        f"The millimetres rest on: {scale['from']}. All lengths were multiplied by {scale['factor']:.4f} "
        "from those of an average head."
    )


def _renders(answer: Reconstruction) -> str:
    """The neutral head from three sides, as clay and (where there is a texture) with its skin."""
    vertices, model = answer.vertices(head=True), answer.head
    colours, across, closed = clay(model), normals(model, vertices), model is not answer.model
    clays, skins = [], []
    for name, degrees in ANGLES:
        mesh = vertices, model.faces, _still_camera(vertices, degrees)
        if model.uv is None:
            images = [picture.render(*mesh, colours=colours, normals=across)]
        else:
            images = picture.render_both(*mesh, colours, (answer.texture, model.uv), normals=across, closed=closed)
        for image, kind, row in zip(images, ("clay", "photo skin"), (clays, skins), strict=False):
            text = f"{name}, {kind}"
            row.append(f'<figure><img src="{_jpeg(image, 86)}" alt="{text}"><figcaption>{text}</figcaption></figure>')
    return "".join(clays + skins)


def _still_camera(vertices: Float[np.ndarray, "V 3"], yaw: float) -> WeakPerspective:
    """A camera that has the whole mesh in its middle; the same scale from every side."""
    zero = np.array(0.0)
    rotation = rotation_from_euler(zero, np.array(np.radians(yaw)), zero)
    width, height = RENDER_SIZE
    low, high = (f((vertices @ rotation.T)[:, :2], axis=0) for f in (np.min, np.max))
    scale = 0.9 * min(height / np.ptp(vertices[:, 1]), width / max(np.ptp(vertices[:, 0]), np.ptp(vertices[:, 2])))
    middle = np.array([width / 2, height / 2]) - scale * (low + high) / 2
    return WeakPerspective(rotation, middle.astype(np.float64), np.array(float(scale)), RENDER_SIZE)
