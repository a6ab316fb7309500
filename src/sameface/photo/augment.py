"""What cameras, compression and hands do to a picture of a face: the augmentations that several methods share."""

import cv2
import numpy as np
from jaxtyping import Bool, Float, UInt8

__all__ = ["FAULTS", "augmented", "covered", "darkened", "jostled", "mirrored", "moved", "softened", "spoiled"]

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
    faults = np.zeros(len(FAULTS), np.float32)
    kind = int(rng.integers(3))
    faults[kind] = 1
    if FAULTS[kind] == "dark":
        return darkened(crop, np.exp(rng.uniform(np.log(0.02), np.log(0.25))), rng), faults
    if FAULTS[kind] == "blurred":
        return softened(crop, rng.uniform(0.026, 0.073), rng), faults
    return covered(crop, rng)[0], faults


def darkened(crop: UInt8[np.ndarray, "S S 3"], gain: float, rng: np.random.Generator) -> UInt8[np.ndarray, "S S 3"]:
    """A crop of `gain` times its brightness, with a little noise."""
    light = crop.astype(np.float32) * gain
    return np.clip(light + rng.normal(0, rng.uniform(0, 4), crop.shape), 0, 255).astype(np.uint8)


def softened(crop: UInt8[np.ndarray, "S S 3"], sigma: float, rng: np.random.Generator) -> UInt8[np.ndarray, "S S 3"]:
    """A crop as unsharp as a Gaussian of `sigma` sides makes it, or too few pixels, which look nearly the same."""
    size = len(crop)
    if rng.random() < 0.5:
        return cv2.GaussianBlur(crop, (0, 0), sigma * size)
    small = max(4, round(0.45 / sigma))  # a pixel's square and two bilinear enlargements
    return cv2.resize(cv2.resize(crop, (small, small), interpolation=cv2.INTER_AREA), (size, size))


def covered(
    crop: UInt8[np.ndarray, "S S 3"], rng: np.random.Generator
) -> tuple[UInt8[np.ndarray, "S S 3"], Bool[np.ndarray, "S S"]]:
    """A crop of an upright face with something in front of it, and where: a ball or a hand, a mask or scarf, sunglasses."""
    size, shape = len(crop), int(rng.integers(4))
    mask, crop = np.zeros((size, size), np.uint8), crop.copy()
    middle = size * rng.uniform(0.35, 0.65, 2)
    if shape == 0:  # a ball, another head
        axes = tuple(int(v) for v in size * rng.uniform(0.15, 0.4, 2))
        cv2.ellipse(mask, tuple(int(v) for v in middle), axes, rng.uniform(0, 180), 0, 360, 1, -1)
    elif shape == 1:  # a hand, a branch, an arm: thick strokes from outside
        turn, width = rng.uniform(0, 2 * np.pi), size * rng.uniform(0.06, 0.16)
        for k in range(int(rng.integers(1, 6))):
            aside = 1.1 * k * width * np.array([-np.sin(turn), np.cos(turn)])
            tip = middle + aside + rng.uniform(-0.1, 0.1) * size * np.array([np.cos(turn), np.sin(turn)])
            root = tip + size * np.array([np.cos(turn), np.sin(turn)])
            ends = [tuple(int(v) for v in end) for end in (tip, root)]
            cv2.line(mask, ends[0], ends[1], 1, max(2, int(width)))
    elif shape == 2:  # a mask over nose and mouth, a scarf
        top, dip = size * rng.uniform(0.45, 0.62), size * rng.uniform(0, 0.1)
        left, right = size * rng.uniform(0.02, 0.2), size * rng.uniform(0.8, 0.98)
        edge = [(left, top + dip), (size / 2, top), (right, top + dip), (right, size), (left, size)]
        cv2.fillPoly(mask, [np.array(edge).astype(np.int32)], 1)
    else:  # sunglasses, a bar over the eyes
        top, low = size * rng.uniform(0.26, 0.36), size * rng.uniform(0.42, 0.56)
        if rng.random() < 0.5:
            cv2.rectangle(mask, (int(0.12 * size), int(top)), (int(0.88 * size), int(low)), 1, -1)
        else:
            axes = int(size * rng.uniform(0.12, 0.17)), int((low - top) / 2)
            for x in (0.32, 0.68):
                cv2.ellipse(mask, (int(x * size), int((top + low) / 2)), axes, 0, 0, 360, 1, -1)
            cv2.line(mask, (int(0.4 * size), int(top + 0.04 * size)), (int(0.6 * size), int(top + 0.04 * size)), 1, 2)
    share = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), 0.004 * size)[..., None]
    return (share * _stuff(crop, rng) + (1 - share) * crop).astype(np.uint8), mask > 0


def _stuff(crop: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """What covers a face, as large as the crop: one colour or two, shaded, striped, or another part of the picture."""
    size, kind = len(crop), rng.random()
    if kind < 0.25:
        least = size // 4
        return np.roll(crop, tuple(int(v) for v in rng.integers(least, size - least, 2)), axis=(0, 1))
    one, two = rng.integers(0, 256, (2, 3)).astype(np.float32) if kind < 0.7 else np.float32([[1], [1]]) * 255 * (
        np.array([0.9, 0.65, 0.5]) ** rng.uniform(0.6, 2.5) * rng.uniform(0.8, 1.2, (2, 1)))  # fmt: skip
    turn, period = rng.uniform(0, 2 * np.pi), rng.choice([1.0, 0.3, 0.08]) * size * rng.uniform(1, 3)
    y, x = np.mgrid[:size, :size]
    share = 0.5 + 0.5 * np.sin(2 * np.pi * (np.cos(turn) * x + np.sin(turn) * y) / period + turn)
    paint = (one + rng.uniform(0, 1) * share[..., None] * (two - one)) * rng.choice([1.0, rng.uniform(0.05, 1)])
    grain = rng.normal(0, rng.uniform(0, 15), (size, size, 1))
    return np.clip(cv2.GaussianBlur(paint + grain, (0, 0), 0.7).reshape(size, size, 3), 0, 255).astype(np.uint8)


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
