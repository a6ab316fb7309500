"""What cameras, compression and hands do to a picture of a face: the augmentations that several methods share."""

import cv2
import numpy as np
from jaxtyping import Float, UInt8

__all__ = ["FAULTS", "augmented", "jostled", "mirrored", "moved", "spoiled"]

FAULTS = ("dark", "blurred", "hidden")
"""what may spoil a picture so much that it shows the face no more"""


def moved(
    affine: Float[np.ndarray, "2 3"], size: int, *, turn: float, zoom: float, shift: Float[np.ndarray, " 2"]
) -> Float[np.ndarray, "2 3"]:
    """The affine of a crop of `size` px, turned (rad) and zoomed about the crop's middle, then shifted (px)."""
    linear = zoom * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.full(2, size / 2)
    return np.column_stack([linear @ affine[:, :2], linear @ (affine[:, 2] - middle) + middle + shift])


def jostled(affine: Float[np.ndarray, "2 3"], size: int, rng: np.random.Generator) -> Float[np.ndarray, "2 3"]:
    """The affine of a crop turned, zoomed and shifted a little, as five points of a detector differ."""
    turn, zoom, shift = np.radians(rng.normal(0, 4)), np.exp(rng.normal(0, 0.04)), rng.normal(0, 2, 2)
    return moved(affine, size, turn=turn, zoom=zoom, shift=shift)


def mirrored(affine: Float[np.ndarray, "2 3"], size: int) -> Float[np.ndarray, "2 3"]:
    """The affine of the mirror image of a crop of `size` px."""
    return np.array([[-1.0, 0, size], [0, 1, 0]]) @ np.vstack([affine, [0, 0, 1]])


def augmented(crop: UInt8[np.ndarray, "S S 3"], rng: np.random.Generator) -> UInt8[np.ndarray, "S S 3"]:
    """A square crop with low resolution, blur, noise, JPEG, colour, light and occluders, each only sometimes."""
    size = len(crop)
    if rng.random() < 0.3:
        small = int(size * rng.uniform(0.2, 0.8))
        how = (cv2.INTER_AREA, cv2.INTER_LINEAR)[int(rng.integers(2))]
        crop = cv2.resize(cv2.resize(crop, (small, small), interpolation=how), (size, size))
    if rng.random() < 0.2:
        crop = _blurred(crop, rng)
    out = crop.astype(np.float32)
    if rng.random() < 0.15:
        out = np.repeat(out.mean(2, keepdims=True), 3, axis=2)
    if rng.random() < 0.8:
        gain, lift = np.exp(rng.normal(0, 0.25)), rng.normal(0, 18)
        out = (out - 128) * gain * np.exp(rng.normal(0, 0.1, 3)) + 128 + lift
    if rng.random() < 0.25:  # light from one side
        x = np.linspace(-1, 1, size, dtype=np.float32)
        turn = rng.uniform(0, 2 * np.pi)
        out *= np.exp(rng.uniform(0, 0.9) * (np.cos(turn) * x[None] + np.sin(turn) * x[:, None]))[..., None]
    if rng.random() < 0.25:
        out += rng.normal(0, rng.uniform(2, 14), out.shape).astype(np.float32)
    out = np.clip(out, 0, 255).astype(np.uint8)
    if rng.random() < 0.2:
        _, code = cv2.imencode(".jpg", out, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(15, 70))])
        out = cv2.imdecode(code, cv2.IMREAD_COLOR)
    for _ in range(int(rng.integers(1, 3)) if rng.random() < 0.3 else 0):
        _occlude(out, rng)  # pyright: ignore[reportArgumentType]
    return out  # pyright: ignore[reportReturnType]


def spoiled(
    crop: UInt8[np.ndarray, "S S 3"], rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "S S 3"], Float[np.ndarray, " 3"]]:
    """A crop that hardly shows the face any more, and which of FAULTS was done to it (0 or 1 each)."""
    size, faults = len(crop), np.zeros(len(FAULTS), np.float32)
    kind = int(rng.integers(3))
    faults[kind] = 1
    if FAULTS[kind] == "dark":
        light = crop.astype(np.float32) * np.exp(rng.uniform(np.log(0.02), np.log(0.25)))
        crop = np.clip(light + rng.normal(0, rng.uniform(0, 4), crop.shape), 0, 255).astype(np.uint8)
    elif FAULTS[kind] == "blurred":
        if rng.random() < 0.5:
            crop = cv2.GaussianBlur(crop, (0, 0), size / 96 * rng.uniform(2.5, 7))
        else:
            small = int(rng.integers(6, 20))
            crop = cv2.resize(cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA), (size, size))
    else:
        crop, middle = crop.copy(), size * rng.uniform(0.35, 0.65, 2)
        mask, paint = np.zeros((size, size), np.uint8), rng.integers(0, 256, 3).tolist()
        shape = int(rng.integers(3))
        if shape == 0:  # a ball, a hand, another head
            axes = tuple(int(v) for v in size * rng.uniform(0.2, 0.4, 2))
            cv2.ellipse(mask, tuple(int(v) for v in middle), axes, rng.uniform(0, 180), 0, 360, 1, -1)
        elif shape == 1:  # a mask over nose and mouth, a scarf
            cv2.rectangle(mask, (int(0.1 * size), int(size * rng.uniform(0.5, 0.6))), (int(0.9 * size), size), 1, -1)
        else:  # sunglasses, a bar over the eyes
            top = size * rng.uniform(0.28, 0.36)
            low = (int(0.88 * size), int(top + size * rng.uniform(0.13, 0.22)))
            cv2.rectangle(mask, (int(0.12 * size), int(top)), low, 1, -1)
        shade = np.clip(rng.normal(0, rng.uniform(0, 25), crop.shape) + paint, 0, 255)
        crop[mask > 0] = shade.astype(np.uint8)[mask > 0]
    return crop, faults


def _blurred(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    if rng.random() < 0.5:
        return cv2.GaussianBlur(crop, (0, 0), rng.uniform(0.5, 2.2))
    length, turn = int(rng.integers(3, 9)), rng.uniform(0, np.pi)
    kernel = np.zeros((length, length), np.float32)
    middle, reach = (length - 1) / 2, length / 2 * np.array([np.cos(turn), np.sin(turn)])
    ends = [tuple(int(v) for v in np.round(middle + sign * reach)) for sign in (-1, 1)]
    cv2.line(kernel, ends[0], ends[1], 1.0)
    return cv2.filter2D(crop, -1, kernel / max(kernel.sum(), 1e-6))


def _occlude(out: np.ndarray, rng: np.random.Generator) -> None:
    """Paint a box or an ellipse of one colour, of another part of the picture, or of noise."""
    size = len(out)
    w, h = (rng.uniform(0.1, 0.4, 2) * size).astype(int)
    x, y = int(rng.integers(-w // 2, size - w // 2)), int(rng.integers(-h // 2, size - h // 2))
    mask = np.zeros((size, size), np.uint8)
    if rng.random() < 0.5:
        cv2.rectangle(mask, (x, y), (x + int(w), y + int(h)), 1, -1)
    else:
        cv2.ellipse(
            mask, (x + int(w) // 2, y + int(h) // 2), (int(w) // 2, int(h) // 2), rng.uniform(0, 180), 0, 360, 1, -1
        )
    kind = rng.random()
    if kind < 0.5:
        paint = np.broadcast_to(rng.integers(0, 256, 3, dtype=np.uint8), out.shape)
    elif kind < 0.8:
        least = min(20, size // 4)
        paint = np.roll(out, tuple(int(v) for v in rng.integers(least, size - least, 2)), axis=(0, 1))
    else:
        paint = rng.integers(0, 256, out.shape, dtype=np.uint8)
    where = mask.astype(bool)
    out[where] = paint[where]
