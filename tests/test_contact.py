"""Lips and lids of the model that ships: they touch and do not cut. Numbers in mm; the source's are in brackets."""

import numpy as np
import pytest

from sameface.morphable import MorphableModel, contact, default


def shaped(model: MorphableModel, **weights: float) -> np.ndarray:
    one = np.zeros(model.n_expression)
    for name, weight in weights.items():
        one[model.expression_names.index(name)] = weight
    return model.vertices(np.zeros(model.n_identity), one).astype(np.float64)


def deepest(lips: contact.Lips, shape: np.ndarray) -> float:
    return float(np.linalg.norm(lips.cuts(shape)[1], axis=1).max(initial=0))


@pytest.fixture(scope="module")
def lips() -> contact.Lips:
    return contact.Lips.of(default())


@pytest.mark.parametrize(
    "weights",
    [
        {"mouthPucker": 1},  # [2.2]
        {"mouthDimpleRight": 1},  # [2.2]
        {"mouthPressLeft": 1},  # [1.3]
        {"mouthShrugLower": 1},  # [3.4]
        {"jawOpen": 1, "mouthClose": 1},  # [4.4]
        {"jawOpen": 0.4, "mouthClose": 0.4},  # [2.9]
    ],
)
def test_lips_do_not_cut_each_other(lips, weights):
    assert deepest(lips, shaped(lips.model, **weights)) < 0.15


def test_a_lip_inside_the_other_is_found_and_pushed_out(lips):
    """The middle of the lower lip, 1.5 mm higher: no vertex can be deeper than that."""
    shape = lips.model.mean.astype(np.float64)
    shape[lips.lower, 1] += 1.5 * np.exp(-((shape[lips.lower, 0] / 8) ** 2))
    before = deepest(lips, shape)
    assert 0.7 < before < 1.6
    step = lips.apart(shape, symmetric=True)
    np.testing.assert_allclose(step[lips.model.mirror], step * [-1, 1, 1], atol=1e-9)
    assert deepest(lips, shape + step) < 0.3 * before


def test_mouth_close_shuts_the_lips_over_the_open_jaw_and_is_made_for_that(lips):
    model = lips.model

    def gap(**weights: float) -> np.ndarray:
        points = model.landmarks(shaped(model, **weights).astype(np.float32))
        return np.linalg.norm(points[[61, 62, 63]] - points[[67, 66, 65]], axis=1)

    assert gap(jawOpen=1).min() > 25
    for weight in (1.0, 0.3):
        np.testing.assert_allclose(gap(jawOpen=weight, mouthClose=weight), gap(), atol=0.2)
    alone = model.expression_basis[..., model.expression_names.index("mouthClose")]
    assert np.linalg.norm(alone, axis=1).max() < 39.5  # as far as jawOpen moves the lip, in the other direction [41.7]


def test_a_blink_closes_the_lids_over_the_eye(lips):
    model = lips.model
    assert contact.slit(model, shaped(model)) > 150
    shut = shaped(model, eyeBlinkLeft=1)
    assert contact.slit(model, shut) < 0.3  # mm² [12.5]
    assert contact.slit(model, shut, yaw=0.7) < 0.5  # [11.4]
    assert contact.slit(model, shut, pitch=-0.4) < 2.5  # [19.7]
    assert contact.slit(model, shaped(model, eyeBlinkLeft=1, eyeLookDownLeft=1)) == 0  # no eye through the lid


def test_puffed_cheeks_are_alike(lips):
    puff = lips.model.expression_basis[..., lips.model.expression_names.index("cheekPuff")]
    np.testing.assert_allclose(puff[lips.model.mirror], puff * [-1, 1, 1], atol=0.02)  # [3.1]


def test_mending_leaves_all_other_shapes_alone(lips, monkeypatch):
    monkeypatch.setattr(contact, "ROUNDS", 0)  # of pushing apart: those were there
    model = lips.model
    again = contact.mended(model)
    changed = np.abs(again.expression_basis - model.expression_basis).max((0, 1)) > 1e-3
    names = {name for name, some in zip(model.expression_names, changed, strict=True) if some}
    assert names <= {"mouthClose", "mouthDimpleLeft", "mouthDimpleRight"}
    np.testing.assert_array_equal(again.identity_basis, model.identity_basis)
