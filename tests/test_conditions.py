"""The four conditions: values by hand, laws, pictures, and every error."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from sameface import morphable
from sameface.core.geometry import rotation_from_euler
from sameface.evaluation import conditions
from sameface.evaluation.case import Case
from sameface.evaluation.conditions import Faces, apart, facing, frontal, gather, orthogonality, spread, together

AHEAD = np.diag([1.0, -1.0, -1.0])


def shifted(*millimetres: float) -> np.ndarray:
    """Meshes of four vertices, each moved by so much along x: the RMS distance of two is the difference."""
    meshes = np.zeros((len(millimetres), 4, 3), np.float32)
    meshes[..., 0] = np.array(millimetres)[:, None]
    return meshes


def faces_of(neutral: np.ndarray, person: list[int], identity: np.ndarray | None = None) -> Faces:
    n = len(neutral)
    return Faces(neutral, np.array(person), np.tile(AHEAD, (n, 1, 1)), np.zeros((n, 2)), identity)


def test_photos_of_one_person_by_hand():
    row = together(shifted(0, 1, 10, 13, 50), np.array([0, 0, 1, 1, 2]))
    assert row["together/mm"] == pytest.approx((1 + 3) / 2)
    assert row["together/mm_95"] == pytest.approx(np.quantile([1, 3], 0.95))
    assert row["together/from_mean_mm"] == pytest.approx((0.5 + 0.5 + 1.5 + 1.5) / 4)
    assert row["together/farthest_from_mean_mm"] == pytest.approx(1.5)


def test_different_people_by_hand():
    row = apart(shifted(0, 1, 10), np.array([0, 0, 1]))
    assert row == pytest.approx({"apart/mm": 9.5, "apart/mm_05": 9.05, "apart/ratio": 9.5, "apart/auc": 1.0})
    assert set(apart(shifted(0, 4), np.array([0, 1]))) == {"apart/mm", "apart/mm_05"}


@given(seed=st.integers(0, 2**32 - 1))
def test_distances_against_a_loop(seed):
    rng = np.random.default_rng(seed)
    meshes, person = rng.normal(size=(5, 3, 3)).astype(np.float32), np.array([0, 0, 1, 1, 1])
    near, far = [], []
    for i in range(5):
        for j in range(i):
            rms = np.sqrt(np.mean([np.sum((meshes[i, v] - meshes[j, v]) ** 2) for v in range(3)]))
            (near if person[i] == person[j] else far).append(rms)
    assert together(meshes, person)["together/mm"] == pytest.approx(np.mean(near), rel=1e-5)
    assert apart(meshes, person)["apart/mm"] == pytest.approx(np.mean(far), rel=1e-5)


def test_the_neutral_frontal_photo_is_compared_with_the_persons_others():
    rotation = np.stack([AHEAD, *(rotation_from_euler(*np.array([[0.0], [yaw], [0.0]]))[0] for yaw in (0.8, -0.8))])
    expression = np.zeros((3, 2))
    row = frontal(shifted(1, 0, 2), np.zeros(3, int), rotation, expression)
    assert row["frontal/mm"] == pytest.approx(0, abs=1e-6)
    assert row["frontal/chance_mm"] == pytest.approx(1.0)  # (0 + 1.5 + 1.5) / 3
    assert row["frontal/ratio"] == pytest.approx(0, abs=1e-6)
    expression[0] = 2.0  # a grimace: now a turned face is nearer to neutral and frontal
    assert frontal(shifted(1, 0, 2), np.zeros(3, int), rotation, expression)["frontal/mm"] == pytest.approx(1.5)
    assert facing(rotation, expression)[1] == pytest.approx((np.cos(0.8) + 1) / 2)


def test_the_weight_is_that_of_the_loss():
    import torch

    from sameface.training.losses import neutral_frontal

    rng = np.random.default_rng(0)
    rotation, expression = rotation_from_euler(*rng.uniform(-1, 1, (3, 5))), rng.uniform(0, 1, (5, 4))
    expected = neutral_frontal(torch.tensor(rotation), torch.tensor(expression), 0.7).numpy()
    np.testing.assert_allclose(facing(rotation, expression, 0.7), expected)


def test_spread_by_hand():
    mean, variance = spread(np.array([[1.0, 0.0], [3.0, 4.0]]))
    assert (mean.tolist(), variance.tolist()) == ([2.0, 2.0], [1.0, 4.0])
    identity = np.array([[0.0], [2.0], [5.0]])
    mean, variance = spread(identity, np.array([0, 0, 1]))
    assert (mean.tolist(), variance.tolist()) == ([3.0], [4.0])


def test_all_conditions_in_one_row():
    identity = np.array([[1.0, -1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]])
    row = conditions.conditions(faces_of(shifted(0, 1, 10, 11), [0, 0, 1, 1], identity))
    assert row["spread/mean"] == 0
    assert row["spread/variance"] == 1
    assert row["spread/kl"] == pytest.approx(0)
    assert {name.split("/")[0] for name in row} == {"together", "apart", "frontal", "spread"}
    assert "spread/kl" not in conditions.conditions(faces_of(shifted(0, 1, 10, 11), [0, 0, 1, 1]))
    stiff = conditions.conditions(faces_of(shifted(0, 1, 10, 11), [0, 0, 1, 1], identity * [1, 0]))
    assert stiff["spread/kl"] == np.inf


def test_orthogonal_modes_make_distances_of_coefficients_those_of_meshes(tiny_model):
    whole = orthogonality(morphable.default())
    assert whole["largest_cosine"] < 1e-4
    assert whole["distortion"] < 1e-4
    cropped = orthogonality(morphable.default(), "face")
    assert cropped["largest_cosine"] > 0.1
    modes = tiny_model.identity_basis.reshape(-1, 6).astype(np.float64)
    z = np.random.default_rng(0).normal(size=(200, 6))
    ratio = np.linalg.norm(z @ modes.T, axis=1) / np.linalg.norm(z * np.linalg.norm(modes, axis=0), axis=1)
    assert np.abs(ratio - 1).max() <= orthogonality(tiny_model)["distortion"] + 1e-9
    with pytest.raises(ValueError, match=r"has no region 'tail'; there are: face"):
        orthogonality(tiny_model, "tail")


def test_any_system_is_asked_photo_by_photo():
    model, cases = morphable.default(), [Case(f"{k}", (Path(f"{k}.jpg"),), (None,)) for k in range(3)]

    def measure(case: Case) -> dict[str, np.ndarray]:
        identity = np.full(80, float(case.name))
        return {"identity": identity, "rotation": AHEAD[None], "expression": np.zeros((1, 51))}

    faces = gather(measure, cases, [0, 0, 1])
    assert faces.identity is not None
    assert faces.identity[:, 0].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(faces.neutral[0], model.mean)
    assert faces.person.tolist() == [0, 0, 1]

    def meshes(case: Case) -> dict[str, np.ndarray]:
        return {"neutral": shifted(float(case.name))[0], "rotation": AHEAD[None], "expression": np.zeros((1, 3))}

    faces = gather(meshes, cases, [0, 0, 1])
    assert faces.identity is None
    assert together(faces.neutral, faces.person)["together/mm"] == pytest.approx(1)


def test_what_a_system_must_say():
    one, two = Case("a", (Path("a.jpg"),), (None,)), Case("b", (Path("b.jpg"), Path("c.jpg")), (None, None))
    with pytest.raises(ValueError, match="of a the system does not say expression, neutral or identity"):
        gather(lambda case: {"rotation": AHEAD[None]}, [one], [0])
    with pytest.raises(ValueError, match="b has 2 photos; a condition looks at each photo alone"):
        gather(lambda case: {}, [two], [0])
    with pytest.raises(ValueError, match="1 cases and 2 persons were given"):
        gather(lambda case: {}, [one], [0, 1])


def test_what_cannot_be_measured_is_refused():
    with pytest.raises(ValueError, match="no person has two photos"):
        together(shifted(0, 1), np.array([0, 1]))
    with pytest.raises(ValueError, match="no person has two photos"):
        frontal(shifted(0, 1), np.array([0, 1]), np.tile(AHEAD, (2, 1, 1)), np.zeros((2, 1)))
    with pytest.raises(ValueError, match="all photos show one person"):
        apart(shifted(0, 1), np.array([0, 0]))
    with pytest.raises(ValueError, match="there are 2 meshes and 1 persons"):
        apart(shifted(0, 1), np.array([0]))
    with pytest.raises(ValueError, match="at least two meshes"):
        apart(shifted(0), np.array([0]))
    with pytest.raises(ValueError, match="at least two photos"):
        spread(np.zeros((2, 3)), np.array([4, 4]))


def test_a_picture_of_means_and_variances(tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "spread.png"
    conditions.plot_spread(path, {"all": rng.normal(size=(20, 8)), "none": np.zeros((3, 8))}, "a title")
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("L"))
    assert pixels.shape[0] > 300
    assert pixels.min() < 100
