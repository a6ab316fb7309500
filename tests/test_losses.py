"""Shared losses: values by hand and against slow loops, laws, gradients, errors."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.autograd import gradcheck

from sameface.core.errors import BadData
from sameface.core.geometry import rotation_from_euler
from sameface.training.losses import (
    centre_distance,
    cosface,
    kl_to_standard_normal,
    landmark_distance,
    moved_centres,
    neutral_frontal,
    perceptual_with_confidence,
    pixel_with_confidence,
    roughness,
)

seeds = st.integers(0, 2**32 - 1)


def noise(seed: int, *shape: int, grad: bool = False) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=torch.float64).requires_grad_(grad)


def rotations(*angles: tuple[float, float, float]) -> torch.Tensor:
    """(pitch, yaw, roll), rad."""
    return rotation_from_euler(*torch.tensor(angles, dtype=torch.float64).T)


def test_landmark_distance_is_one_norm_over_all_coordinates():
    true = torch.zeros(2, 4, 2)
    predicted = torch.stack([torch.full((4, 2), 3.0), torch.tensor([[3.0, 4], [0, 0], [0, 0], [0, 0]])])
    assert landmark_distance(predicted, true).tolist() == pytest.approx([math.sqrt(8 * 9) / 4, 5 / 4])
    assert gradcheck(landmark_distance, (noise(0, 2, 3, 2, grad=True), noise(1, 2, 3, 2, grad=True)))


def test_a_perfect_prediction_has_a_finite_landmark_gradient():
    points = torch.zeros(1, 3, 2, requires_grad=True)
    landmark_distance(points, torch.zeros(1, 3, 2)).sum().backward()
    assert points.grad is not None
    assert points.grad.abs().max() == 0


@pytest.mark.parametrize("loss", [pixel_with_confidence, perceptual_with_confidence])
def test_picture_losses_against_a_loop(loss):
    difference, sigma = noise(0, 2, 3, 4).abs(), noise(1, 2, 3, 4).abs() + 0.1
    mask = noise(2, 2, 3, 4) > 0
    photos = []
    for b in range(2):
        values = []
        for i in range(3):
            for j in range(4):
                far, s = float(difference[b, i, j]), float(sigma[b, i, j])
                if loss is pixel_with_confidence:
                    likely = 1 / (math.sqrt(2) * s) * math.exp(-math.sqrt(2) * far / s)
                else:
                    likely = 1 / math.sqrt(2 * math.pi * s**2) * math.exp(-(far**2) / (2 * s**2))
                if mask[b, i, j]:
                    values.append(-math.log(likely))
        photos.append(np.mean(values))
    assert loss(difference, sigma, mask).item() == pytest.approx(np.mean(photos))
    inputs = difference.requires_grad_(), sigma.requires_grad_()
    assert gradcheck(lambda d, s: loss(d, s, mask), inputs)
    assert loss(difference, sigma, torch.zeros_like(mask)).item() == 0


@given(far=st.floats(0.01, 10), factor=st.floats(0.2, 5))
def test_the_best_confidence_is_the_error_itself(far, factor):
    mask, difference = torch.ones(1, 1, 1, dtype=torch.bool), torch.full((1, 1, 1), far, dtype=torch.float64)
    for loss, best in ((pixel_with_confidence, math.sqrt(2) * far), (perceptual_with_confidence, far)):
        least = loss(difference, torch.full_like(difference, best), mask)
        assert least <= loss(difference, torch.full_like(difference, best * factor), mask) + 1e-9


def test_roughness_against_a_loop():
    texture = noise(0, 2, 3, 4, 5)
    far = []
    for b in range(2):
        for i in range(4):
            for j in range(5):
                around = [(i + 1, j), (i - 1, j), (i, j + 1), (i, j - 1)]
                near = [texture[b, :, p, q] for p, q in around if 0 <= p < 4 and 0 <= q < 5]
                far.append(float((texture[b, :, i, j] - torch.stack(near).mean(0)).norm()))
    assert roughness(texture).item() == pytest.approx(np.mean(far), rel=1e-6)
    assert roughness(torch.ones(1, 3, 4, 4)).item() < 1e-5
    assert gradcheck(roughness, (noise(1, 1, 2, 3, 3, grad=True),))


def test_cosface_by_hand():
    features, classes = torch.tensor([[3.0, 0.0], [0.0, 1.0]]), torch.tensor([[2.0, 0.0], [0.0, 5.0]])
    # photo 0 of person 0: cosines 1 and 0, so ln(1 + e^{s (0 − (1 − m))}); photo 1 takes no part, but is counted
    found = cosface(features, classes, torch.tensor([0, -1]), scale=2.0, margin=0.25)
    assert found.item() == pytest.approx(math.log1p(math.exp(-2 * 0.75)) / 2)
    assert cosface(features, classes, torch.tensor([-1, -1])).item() == 0
    inputs = noise(0, 3, 4, grad=True), noise(1, 5, 4, grad=True)
    assert gradcheck(lambda x, w: cosface(x, w, torch.tensor([0, -1, 4]), 8.0, 0.2), inputs)


@given(seed=seeds, longer=st.floats(0.1, 50))
def test_cosface_sees_directions_only_and_its_margin_costs(seed, longer):
    x, w, person = noise(seed, 4, 3), noise(seed + 1, 5, 3), torch.tensor([0, 1, 4, 2])
    plain = cosface(x, w, person, 10.0, 0.0)
    torch.testing.assert_close(cosface(x * longer, w * longer, person, 10.0, 0.0), plain)
    assert cosface(x, w, person, 10.0, 0.3) > plain


def test_centre_distance_by_hand():
    features, centres = torch.tensor([[3.0, 4.0], [9.0, 9.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
    assert centre_distance(features, centres, torch.tensor([0, -1])).item() == pytest.approx(12.5 / 2)
    assert centre_distance(features, centres, torch.tensor([0, 1])).item() == pytest.approx((12.5 + 64) / 2)
    centres = noise(1, 5, 4)
    assert gradcheck(lambda x: centre_distance(x, centres, torch.tensor([0, -1, 4])), (noise(0, 3, 4, grad=True),))


def test_centres_move_by_hand():
    centres = torch.tensor([[0.0, 0.0], [1.0, 1.0], [5.0, 5.0]])
    features = torch.tensor([[3.0, 0.0], [0.0, 6.0], [2.0, 1.0], [9.0, 9.0]])
    person, weight = torch.tensor([0, 0, 1, -1]), torch.tensor([1.0, 0.5, 0.25, 1.0])
    plain = moved_centres(centres, features, person, rate=1.0)
    assert plain.tolist() == [[1.0, 2.0], [1.5, 1.0], [5.0, 5.0]]  # (3, 6)/3 and (1, 0)/2 of the way; nobody: no move
    weighted = moved_centres(centres, features, person, weight, rate=0.5)
    assert weighted.tolist() == [[0.5, 0.5], [1.0625, 1.0], [5.0, 5.0]]
    assert not weighted.requires_grad
    assert centres.tolist()[0] == [0.0, 0.0]


@settings(max_examples=10)
@given(seed=seeds)
def test_centres_come_to_rest_at_the_weighted_mean(seed):
    features, weight = noise(seed, 4, 3), noise(seed + 1, 4).abs() + 0.1
    centres, person = torch.zeros(1, 3, dtype=torch.float64), torch.zeros(4, dtype=torch.long)
    for _ in range(300):
        centres = moved_centres(centres, features, person, weight, rate=0.9)
    torch.testing.assert_close(centres[0], (weight[:, None] * features).sum(0) / weight.sum(), atol=1e-4, rtol=0)


def test_neutral_frontal_photos_weigh_most():
    rotation = rotations((0, 0, 0), (0, 0, 0), (0, math.radians(60), 0), (0.3, 0.2, math.radians(90)))
    expression = torch.zeros(4, 3, dtype=torch.float64)
    expression[1] = torch.tensor([0.6, 0.8, 0.0])
    weight = neutral_frontal(rotation, expression, decay=2.0).tolist()
    assert weight[:3] == pytest.approx([1.0, math.exp(-2.0), 0.75])
    assert weight[3] == pytest.approx((math.cos(0.3) + 1) * (math.cos(0.2) + 1) / 8)


@given(pitch=st.floats(-1.2, 1.2), yaw=st.floats(-1.2, 1.2), roll=st.floats(-3, 3), smile=st.floats(0, 3))
def test_a_frontal_neutral_photo_moves_its_centre_farthest(pitch, yaw, roll, smile):
    rotation = rotations((0, 0, 0), (pitch, yaw, roll))
    expression = torch.tensor([[0.0, 0.0], [0.0, smile]], dtype=torch.float64)
    weight = neutral_frontal(rotation, expression)
    centres = torch.zeros(2, 3, dtype=torch.float64)
    moved = moved_centres(centres, torch.ones(2, 3, dtype=torch.float64), torch.tensor([0, 1]), weight)
    assert moved[0].norm() >= moved[1].norm() - 1e-9


def test_kl_by_hand_and_by_torch():
    values = torch.tensor([[1.0, 0.0], [3.0, 4.0]])  # means 2 and 2, variances 1 and 4
    assert kl_to_standard_normal(values).item() == pytest.approx(0.5 * (4 + 1 - 1 + 4 + 4 - 1 - math.log(4)), rel=1e-5)
    values = noise(0, 7, 3)
    fitted = torch.distributions.Normal(values.mean(0), values.std(0, correction=0))
    standard = torch.distributions.Normal(torch.zeros_like(fitted.loc), torch.ones_like(fitted.loc))
    expected = torch.distributions.kl_divergence(fitted, standard).sum()
    torch.testing.assert_close(kl_to_standard_normal(values), expected, rtol=1e-6, atol=1e-6)
    assert gradcheck(kl_to_standard_normal, (noise(1, 4, 3, grad=True),))


def test_kl_of_one_photo_says_nothing():
    values = torch.ones(1, 3, requires_grad=True)
    loss = kl_to_standard_normal(values)
    loss.backward()
    assert loss.item() == 0
    assert values.grad is not None
    assert values.grad.abs().max() == 0


@given(seed=seeds)
def test_kl_is_least_for_whitened_values(seed):
    values = noise(seed, 9, 2)
    white = (values - values.mean(0)) / values.std(0, correction=0)
    assert kl_to_standard_normal(white).item() == pytest.approx(0, abs=1e-6)
    assert kl_to_standard_normal(values) >= -1e-6


def test_persons_without_a_class_are_refused():
    x, person = torch.ones(2, 3), torch.tensor([0, 2])
    for function in (cosface, centre_distance):
        with pytest.raises(BadData, match="person 2 is beyond the 2 classes; raise --persons"):
            function(x, torch.ones(2, 3), person)
    with pytest.raises(BadData, match="person 2 is beyond the 2 classes"):
        moved_centres(torch.ones(2, 3), x, person)
