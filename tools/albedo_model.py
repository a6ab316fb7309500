"""The colours of skin, learnt from photos by our own fits. `python tools/albedo_model.py [CACHE]` → assets/albedo.npz.

Photos: FairFace's in the face table (CC BY 4.0), train split, frontal to three-quarter, well seen. Each is fitted with
the morphable model and laid out in its texture coordinates (`texture.py`, with visibility). Then

1. *de-lit*: the light L (nine spherical harmonics per colour) that explains I(x) ≈ ā(x) · Y(n(x)) L best, ā the mean
   albedo so far (first: one colour); the photo's albedo is I / (Y L). Robust, since beards and glasses are no light;
2. *toned*: how much of a face's brightness is skin and how much is lamp and exposure, no photo can say. Photos of the
   same person (PINS, train split, 300 photos; nothing but this 3×3 covariance is taken from them) vary by light alone;
   what FairFace varies more than that is skin. A photo's tone is drawn from its posterior given both covariances;
3. *completed*: both halves of the face are averaged where both are seen, one taken where one is;
4. *reduced*: principal components of the sRGB-like (power 1/2.2) albedo, the unseen filled in by the model in each
   round (Roweis 1998, EM for PCA with missing data); texels more than 4 σ off (glasses, hands) count as unseen.

The result is checked for privacy: how much of a mode any photo makes up, and how far every photo is from what the model
can say about it. Colours of the neck, ears and scalp, which few photos show, go on smoothly from the face.
"""

import json
import os
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import torch

from sameface.core.errors import NoFaceFound
from sameface.core.geometry import vertex_normals
from sameface.mesh.raster import interpolate, screen_points
from sameface.mesh.render import rasterise, sh_basis
from sameface.morphable import default
from sameface.photo.observe import points_of
from sameface.photo.predictor import load
from sameface.reconstruction import texture as texturing
from sameface.reconstruction.fit import fit
from sameface.reconstruction.reconstruct import measured
from sameface.training.datasets import facetable
from sameface.training.fit_shard import look

SHARED = Path(os.environ.get("SAMEFACE_SHARED", "../shared"))
OUT = Path("src/sameface/assets/albedo.npz")
SIDE, MODES, ROUNDS, LIGHTS = 128, 40, 8, 512
PHOTOS, SAME_PERSON = 1600, 200
GAMMA = 2.2
LARGEST_SHARE, PASSES = 0.02, 6
QUALITY, YAW, PITCH = 0.84, 0.65, 0.4


def chosen(data: facetable.Faces, source: str, count: int, rng: np.random.Generator) -> np.ndarray:
    """Rows that the labels say are not turned too far; of PINS four photos of each of some persons."""
    turn = np.array([abs(r[2, 0]) for r in data.rotation]), np.array([abs(r[2, 1]) for r in data.rotation])
    rows = np.flatnonzero((np.array(data.sources) == source) & (turn[0] < np.sin(YAW)) & (turn[1] < np.sin(PITCH)))
    if source == "fairface":
        return rng.permutation(rows)[:count]
    persons = data.person[rows]
    some = rng.permutation(np.unique(persons))[: count // 4]
    return np.concatenate([rng.permutation(rows[persons == p])[:4] for p in some])


def extracted(data: facetable.Faces, rows: np.ndarray) -> dict[str, np.ndarray]:
    """Per photo and charted texel: sRGB colour, whether it is seen, normal in the camera's axes (int8)."""
    network, model, seen, kept = load("default"), default(), [], []
    for row in rows.tolist():
        try:
            one = look(data, row, network)
        except NoFaceFound:
            continue
        if one.quality > QUALITY:
            seen.append(one)
            kept.append(row)
    fits, atlas = fit(points_of(network), measured(seen), shared=False), texturing._atlas(model, SIDE)
    corner, weight = model.faces[atlas.raster.face[atlas.charted]], atlas.raster.weights[atlas.charted]
    texels, skin = len(corner), zones()["clear"][atlas.charted]
    colour, known = np.zeros((len(kept), texels, 3), np.uint8), np.zeros((len(kept), texels), bool)
    normal = np.zeros((len(kept), texels, 3), np.int8)
    for k, row in enumerate(kept):
        camera, vertices = fits.camera[k], model.vertices(fits.identity[k], fits.expression[k])
        turned = (vertex_normals(vertices, model.faces) @ camera.rotation.T).astype(np.float32)
        points = screen_points(vertices, camera).astype(np.float32)
        at = (np.concatenate([points, turned], 1)[corner] * weight[..., None]).sum(1)
        known[k] = skin & visible(at, points, model.faces)
        where = (at[None, :, :2] - 0.5).astype(np.float32)
        colour[k] = cv2.remap(data.image(row), where, None, cv2.INTER_LINEAR)[0]  # type: ignore[call-overload]
        normal[k] = np.round(127 * at[:, 3:])
        data._decoded.clear()
    return {"colour": colour, "known": known, "normal": normal, "row": np.array(kept)}


def visible(texels: np.ndarray, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Texels (x, y, z, normal) in the photo, turned to it, and behind nothing; 3 px of the outline are left out."""
    side = facetable.SIDE
    fragments = rasterise(torch.from_numpy(points)[None], torch.from_numpy(faces), (side, side))
    depth = fragments.depth[0].numpy()
    outside = cv2.dilate(np.isinf(depth).astype(np.uint8), np.ones((7, 7), np.uint8)) > 0
    nearest = np.where(outside, -np.inf, cv2.erode(depth, np.ones((3, 3), np.uint8)))
    column, row = np.clip(texels[:, :2], 0, side - 1).astype(int).T
    inside = (texels[:, :2] > 1).all(1) & (texels[:, :2] < side - 1).all(1)
    cosine = np.clip(-texels[:, 5], 0.05, 1)
    slope = np.sqrt(1 - cosine**2) / cosine
    return inside & (texels[:, 5] < -0.3) & (texels[:, 2] < nearest[row, column] + 1.5 + 3 * slope)


def zones() -> dict[str, np.ndarray]:
    """Flags per texel (SIDE × SIDE): the skin that light is measured on, what is painted, and the atlas."""
    model, atlas = default(), texturing._atlas(default(), SIDE)

    def zone(*names: str) -> np.ndarray:
        flags, out = np.any([model.regions[name] for name in names], axis=0), np.zeros((SIDE, SIDE), bool)
        out[atlas.charted] = interpolate(atlas.raster, model.faces, flags[:, None].astype(np.float32))[:, 0] > 0.5
        return out

    return {
        "charted": atlas.charted,
        "bare": atlas.cheeks,
        "painted": zone("eyeballs", "sockets"),
        "clear": zone("skin") & ~zone("ears", "neck"),
        "face": zone("face"),
    }


def linear(colour: np.ndarray) -> np.ndarray:
    return (colour.astype(np.float32) / 255) ** GAMMA


def delit(photo: dict[str, np.ndarray], mean: np.ndarray, bare: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """(albedo (T, 3), light (9, 3), relative error): least squares on bare skin, weights 1 / (1 + (r/σ)²)."""
    basis = sh_basis(torch.from_numpy(photo["normal"].astype(np.float32) / 127)).numpy()
    colour, use = linear(photo["colour"]), np.flatnonzero(photo["known"] & bare)[::4]
    light, weight = np.zeros((9, 3)), np.ones(len(use))
    ridge = np.diag([0.0] + [2e-3] * 3 + [1e-2] * 5)
    for _ in range(4):
        for c in range(3):
            rows = basis[use] * mean[use, c : c + 1]
            normal = (rows * weight[:, None]).T @ rows / weight.sum()
            slope = (rows * weight[:, None]).T @ colour[use, c] / weight.sum()
            light[:, c] = np.linalg.solve(normal + ridge * normal[0, 0], slope)
        missed = ((colour[use] - mean[use] * (basis[use] @ light)) / colour[use].mean()).mean(1)
        weight = 1 / (1 + (missed / (1.5 * np.median(np.abs(missed)) + 1e-6)) ** 2)
    shading = basis @ light
    least = 0.3 * np.median(shading[use], axis=0)
    return colour / np.maximum(shading, np.maximum(least, 1e-3)), light, float(np.median(np.abs(missed)))


def tone(light: np.ndarray) -> np.ndarray:
    """(3,) log of the mean shading of a face that looks at the camera: the ratio of a photo to the mean albedo."""
    front = sh_basis(torch.tensor([[0, 0, -1.0], [0.5, 0, -0.866], [-0.5, 0, -0.866], [0, -0.5, -0.866]])).numpy()
    return np.log(np.maximum((front @ light).mean(0), 1e-3))


def split(tones: np.ndarray, same: np.ndarray, persons: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Tone of each photo's skin, drawn from N(A T⁻¹ c, A − A T⁻¹ A): T all, A = T − light's covariance."""
    within = np.concatenate([same[persons == p] - same[persons == p].mean(0) for p in np.unique(persons)])
    by_light = within.T @ within / (len(within) - len(np.unique(persons)))
    total = np.cov(tones.T)
    values, vectors = np.linalg.eigh(total - by_light)
    values[:2] *= 0.4  # mostly from dark to light: what is left of the colours of lamps is in the other two
    skin = (vectors * np.maximum(values, 0.05 * np.linalg.eigvalsh(total))) @ vectors.T
    gain = skin @ np.linalg.inv(total)
    rest = skin - gain @ skin
    print("σ of log tone: all", np.sqrt(np.diag(total)).round(2), "light", np.sqrt(np.diag(by_light)).round(2), "skin",
          np.sqrt(np.diag(skin)).round(2))  # fmt: skip
    noise = rng.multivariate_normal(np.zeros(3), rest + 1e-6 * np.eye(3), len(tones))
    return (tones - tones.mean(0)) @ gain.T + noise


def components(
    data: np.ndarray, known: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """mean (D,), modes (K, D) times σ, scores (N, K), who counts in which mode (N, K), rest (D,) σ of what is left."""
    rng = np.random.default_rng(1)
    usual = np.stack([np.median(data[known[:, j], j]) if known[:, j].any() else 0.5 for j in range(data.shape[1])])
    data -= usual
    data[~known] = 0
    modes = np.linalg.qr(rng.normal(size=(data.shape[1], MODES)).astype(np.float32))[0]
    mean, spread = np.zeros(data.shape[1], np.float32), None
    parts = np.array_split(np.arange(len(data)), max(1, len(data) // 250))
    for turn in range(ROUNDS):
        scores = np.concatenate([(data[p] - mean) @ modes for p in parts])
        squares = np.zeros(data.shape[1])
        for p in parts:
            guess = mean + scores[p] @ modes.T
            missed = data[p] - guess
            squares += (missed**2 * known[p]).sum(0)
            if spread is not None and turn in (3, 6):
                known[p] &= np.abs(missed) < 4 * spread
            data[p] = np.where(known[p], data[p], guess)
        spread = np.sqrt(squares / np.maximum(known.sum(0), 1))
        mean = data.mean(0)
        following = sum((data[p] - mean).T @ scores[p] for p in parts)
        modes = np.linalg.qr(following)[0].astype(np.float32)
        print(f"round {turn}: what is left {spread.mean():.4f}", flush=True)
    scores = np.concatenate([(data[p] - mean) @ modes for p in parts])
    left, sigma, right = np.linalg.svd(scores - scores.mean(0), full_matrices=False)
    basis = (modes @ right.T * sigma / np.sqrt(len(data))).T
    return mean + usual, basis, left * np.sqrt(len(data)), left**2, spread


def privacy(data: np.ndarray, known: np.ndarray, mean: np.ndarray, basis: np.ndarray, share: np.ndarray) -> dict:
    """How far each photo is from its best image by the model, the mean and each mode, and shares; 1/255 of sRGB."""
    modes = basis / np.linalg.norm(basis, axis=1, keepdims=True)
    best = mean + (data - mean) @ modes.T @ modes
    off = np.sqrt(((data - best) ** 2 * known).sum(1) / known.sum(1))
    deviation = data - mean
    cosine = np.abs(deviation @ modes.T) / np.linalg.norm(deviation, axis=1, keepdims=True)
    to_mean = np.sqrt((deviation**2 * known).sum(1) / known.sum(1))
    return {
        "photos": len(data),
        "modes": len(basis),
        "largest_share_of_a_photo_in_a_mode": float(share.max()),
        "effective_photos_per_mode_least": float((1 / (share**2).sum(0)).min()),
        "largest_cosine_between_a_photo_and_a_mode": float(cosine[:, 1:].max()),
        "largest_cosine_with_the_first_mode": float(cosine[:, 0].max()),
        "nearest_photo_to_the_mean": float(255 * to_mean.min()),
        "nearest_photo_to_its_reconstruction": float(255 * off.min()),
        "median_photo_to_its_reconstruction": float(255 * np.median(off)),
    }


def whole(half: np.ndarray, known: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """(SIDE, SIDE, 3) → the same with unknown texels continued smoothly from the allowed known ones."""
    return texturing._pushed_and_pulled(half.astype(np.float32), (known & allowed).astype(np.float32))


def main() -> None:
    start, rng = time.process_time(), np.random.default_rng(0)
    torch.set_num_threads(1)
    cache = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    if cache is not None and cache.exists():
        kept = dict(np.load(cache))
    else:
        data = facetable.load(SHARED / "data" / "faces", "train")
        many, same = (
            extracted(data, chosen(data, *what, rng))
            for what in (("fairface", int(PHOTOS * 1.35)), ("pins", SAME_PERSON))
        )
        kept = {**many, **{f"same_{k}": v for k, v in same.items()}, "person": data.person[same["row"]]}
        if cache is not None:
            np.savez(cache, **kept)
            print(f"kept in {cache}, {time.process_time() - start:.0f} s", flush=True)
    kept = {k: v[:PHOTOS] if not k.startswith(("same", "person")) else v for k, v in kept.items()}
    print(f"{len(kept['colour'])} photos extracted, {time.process_time() - start:.0f} s", flush=True)
    zone = zones()
    charted, bare = zone["charted"], zone["bare"][zone["charted"]]
    everything, others = photos(kept, ""), photos(kept, "same_")
    mean = np.tile(np.array([[0.43, 0.25, 0.18]], np.float32), (int(charted.sum()), 1))
    for _ in range(2):  # the mean albedo, from a third of the photos
        total, count = np.zeros_like(mean), np.zeros((len(mean), 1), np.float32)
        for photo in everything[::4]:
            albedo, _, _ = delit(photo, mean, bare)
            total[photo["known"]] += np.clip(albedo[photo["known"]], 0, 1)
            count[photo["known"]] += 1
        mean = np.where(count > 20, total / np.maximum(count, 1), mean)
    answers = [delit(photo, mean, bare) for photo in everything]
    tones = np.array([tone(a[1]) for a in answers])
    good = np.array([a[2] for a in answers]) < 0.3
    good &= np.linalg.norm(tones - np.median(tones, axis=0), axis=1) < 2.5
    same = np.array([tone(delit(photo, mean, bare)[1]) for photo in others])
    skin = split(tones[good], same, kept["person"], rng)
    exposure = np.exp(tones[good].mean(0))  # the average light is white and bright enough to show the skin as it is
    lights = np.stack([answers[i][1] * np.exp(-skin[k]) / exposure for k, i in enumerate(np.flatnonzero(good))])
    half, known = halves(
        [answers[i][0] for i in np.flatnonzero(good)],
        [everything[i]["known"] for i in np.flatnonzero(good)],
        skin,
        charted,
    )
    del kept, everything, answers
    finish(half, known, exposure, lights, zone, rng)
    print(f"{time.process_time() - start:.0f} s of one core")


def photos(kept: dict[str, np.ndarray], prefix: str) -> list[dict[str, np.ndarray]]:
    names = ("colour", "known", "normal")
    return [{n: kept[prefix + n][i] for n in names} for i in range(len(kept[prefix + "colour"]))]


def halves(albedos: list, seen: list, skin: np.ndarray, charted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(N, SIDE, SIDE/2, 3) power-1/2.2 albedo of the left half and its mirrored other half, averaged; and known."""
    out = np.zeros((len(albedos), SIDE, SIDE // 2, 3), np.float32)
    known = np.zeros((len(albedos), SIDE, SIDE // 2), bool)
    for k, (albedo, mask) in enumerate(zip(albedos, seen, strict=True)):
        whole_, flags = np.zeros((SIDE, SIDE, 3), np.float32), np.zeros((SIDE, SIDE), bool)
        whole_[charted], flags[charted] = np.clip(albedo * np.exp(skin[k]), 0, 1.5) ** (1 / GAMMA), mask
        own, other = whole_[:, : SIDE // 2], whole_[:, ::-1][:, : SIDE // 2]
        a, b = flags[:, : SIDE // 2], flags[:, ::-1][:, : SIDE // 2]
        known[k] = a | b
        out[k] = (own * a[..., None] + other * b[..., None]) / np.maximum(a.astype(int) + b, 1)[..., None]
    return out, known


def finish(half: np.ndarray, known: np.ndarray, exposure: np.ndarray, lights: np.ndarray, zone: dict, rng) -> None:
    """Modes, filled and saved."""
    tone_of_all = (exposure ** (1 / GAMMA)).astype(np.float32)
    area = SIDE // 2
    use = (known.mean(0) > 0.25) & ~zone["painted"][:, :area] & zone["face"][:, :area]
    data = (half * tone_of_all)[:, use].reshape(len(half), -1)
    flags = np.repeat(known[:, use], 3, axis=1)
    original, seen = data.copy(), flags.copy()
    print(f"{len(data)} photos, {data.shape[1]} numbers each", flush=True)
    for _ in range(PASSES):  # without photos that would make up much of a mode: mostly occluders and bad light
        mean, basis, _, share, rest = components(data, flags)
        keep = share.max(1) < LARGEST_SHARE
        if keep.all():
            break
        print(f"{(~keep).sum()} photos make up too much of a mode", flush=True)
        original, seen = original[keep], seen[keep]
        data, flags = original.copy(), seen.copy()
    told = privacy(np.where(flags, original, data), seen, mean, basis, share)
    print(json.dumps(told, indent=1))

    def image(values: np.ndarray) -> np.ndarray:
        out = np.zeros((SIDE, area, 3), np.float32)
        out[use] = values.reshape(-1, 3)
        wide = whole(np.concatenate([out, out[:, ::-1]], axis=1), np.concatenate([use, use[:, ::-1]], axis=1),
                     zone["charted"] & ~zone["painted"])  # fmt: skip
        return wide[:, :area]

    order = rng.permutation(len(lights))[:LIGHTS]
    arrays = {
        "mean": image(mean).astype(np.float32),
        "modes": np.stack([image(mode) for mode in basis]).astype(np.float16),
        "rest": cv2.GaussianBlur(image(rest).mean(2), (0, 0), 1.5).astype(np.float16),
        "lights": lights[order].astype(np.float16),
        "about": np.frombuffer(json.dumps(told | {"gamma": GAMMA, "side": SIDE}).encode(), np.uint8),
    }
    with OUT.open("wb") as file:
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
    print(OUT, OUT.stat().st_size)


if __name__ == "__main__":
    sys.exit(main() if SHARED.exists() else "no research data found")
