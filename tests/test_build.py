"""Models of registered shapes and of scan files: the modes they were drawn from come back."""

from dataclasses import replace

import numpy as np
import pytest

from sameface.core.errors import BadData
from sameface.core.geometry import rotation_from_axis_angle
from sameface.morphable import MorphableModel, default, load
from sameface.morphable.build import build_model, laid_on_mean, landmarks_beside, model_of

DEVIATIONS = np.array([6.0, 3.0, 1.5])


@pytest.fixture(scope="module")
def template() -> MorphableModel:
    """A cap of 21 × 21 vertices with landmarks, mirror image and three orthogonal modes."""
    side = 21
    line = np.linspace(-80, 80, side)
    x, y = (a.ravel() for a in np.meshgrid(line, line))
    z = -(x**2 + 0.6 * y**2) / 160 + 28 * np.exp(-((x / 14) ** 2) - ((y + 5) / 22) ** 2) + 6 * np.sin(y / 18)
    a = np.arange(side * side).reshape(side, side)
    p, q, r, s = (a[i : side - 1 + i, j : side - 1 + j].ravel() for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
    faces = np.concatenate([np.stack([p, q, r], 1), np.stack([q, s, r], 1)])
    shapes = [np.cos(x / 30) * np.cos(y / 25), np.cos(x / 18), np.sin(y / 20) * np.cos(x / 40)]
    basis = np.zeros((side * side, 3, 3), np.float32)
    for k, (shape, deviation) in enumerate(zip(shapes, DEVIATIONS, strict=True)):
        basis[:, 2, k] = shape * deviation
    return MorphableModel(
        name="cap", licence="MIT", mean=np.stack([x, y, z], 1).astype(np.float32), identity_basis=basis,
        expression_basis=np.ones((side * side, 3, 1), np.float32), faces=faces,
        landmark_faces=np.linspace(0, len(faces) - 1, 68).astype(np.int64), landmark_weights=np.full((68, 3), 1 / 3),
        expression_names=("up",), mirror=a[:, ::-1].ravel(), regions={"face": np.ones(side * side, bool)},
    )  # fmt: skip


def people(template, count, seed=0):
    rng = np.random.default_rng(seed)
    return template.vertices(rng.normal(size=(count, template.n_identity))).astype(np.float64)


def posed(shapes, seed=1):
    rng = np.random.default_rng(seed)
    rotations = rotation_from_axis_angle(rng.normal(size=(len(shapes), 3)))
    return shapes @ rotations.swapaxes(1, 2) + rng.normal(size=(len(shapes), 1, 3)) * 100


def distances(a, b):
    return np.linalg.norm(a - b, axis=-1)


# ── modes ──────────────────────────────────────────────────────────────────────────────────────────────────


def test_posed_shapes_lie_on_each_other_again(template):
    shapes = people(template, 12)
    again, expected = laid_on_mean(posed(shapes)), laid_on_mean(shapes)
    first = distances(again[:, None], again[None]).mean()
    np.testing.assert_allclose(first, distances(expected[:, None], expected[None]).mean(), rtol=1e-3)


def test_modes_are_the_principal_components_with_unit_variance(template):
    """Against scikit-learn, on the aligned shapes."""
    from sklearn.decomposition import PCA

    shapes = posed(people(template, 40))
    built = model_of(shapes, template, modes=3)
    expected = PCA(3).fit(laid_on_mean(shapes).reshape(40, -1))
    np.testing.assert_allclose(built.variances, expected.explained_variance_, rtol=1e-6)
    assert built.explained == pytest.approx(expected.explained_variance_ratio_.sum(), rel=1e-6)
    lengths = np.linalg.norm(built.model.identity_basis.reshape(-1, 3), axis=0)
    np.testing.assert_allclose(lengths, np.sqrt(built.variances), rtol=1e-5)


def test_a_known_model_comes_back_from_many_people(template):
    built = model_of(posed(people(template, 300)), template, name="again", licence="CC0")
    model = built.model
    new = people(template, 5, seed=9)
    mean, basis = model.mean.astype(np.float64), model.identity_basis.reshape(-1, model.n_identity).astype(np.float64)
    aligned = laid_on_mean(np.concatenate([mean[None], new]))
    rest = (aligned[1:] - aligned[:1]).reshape(5, -1)
    rest = rest - rest @ np.linalg.pinv(basis).T @ basis.T
    assert np.abs(rest).max() < 1.5
    assert (model.name, model.licence, model.expression_names) == ("again", "CC0", ("up",))
    np.testing.assert_array_equal(model.faces, template.faces)
    assert distances(mean, template.mean).mean() < 1.0  # it lies as the template does
    assert np.isnan(built.rms).all()


def test_as_many_modes_as_hold_the_wanted_variance(template):
    shapes = people(template, 60)
    counts = [model_of(shapes, template, kept=kept).model.n_identity for kept in (0.5, 0.9, 1.0)]
    assert counts[0] == 1
    assert counts == sorted(counts)
    assert model_of(shapes, template, kept=0.9).explained >= 0.9


def test_a_symmetric_model_is_its_own_mirror_image(template):
    rng = np.random.default_rng(3)
    shapes = people(template, 10) + rng.normal(size=(10, 441, 3))
    model = model_of(shapes, template, symmetric=True, modes=4).model
    flip = np.array([-1.0, 1, 1])
    np.testing.assert_allclose(model.mean[template.mirror] * flip, model.mean, atol=0.02)
    for mode in np.moveaxis(model.identity_basis, 2, 0):
        mirrored = mode[template.mirror] * flip
        assert min(np.abs(mirrored - mode).max(), np.abs(mirrored + mode).max()) < 0.05 * np.abs(mode).max()


# ── files ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def files(template, tmp_path):
    """Four scans in metres as point clouds, some with picked points beside them."""
    rng, paths = np.random.default_rng(0), []
    for number, shape in enumerate(people(template, 4)):
        corners = shape[template.faces[rng.integers(len(template.faces), size=5000)]]
        points = (corners * rng.dirichlet([1, 1, 1], 5000)[..., None]).sum(1) / 1000
        paths.append(tmp_path / f"{number}.obj")
        paths[-1].write_text("\n".join("v {:.6f} {:.6f} {:.6f}".format(*point) for point in points))
        if number < 2:
            marks = template.landmarks(shape[None])[0] / 1000
            lines = [
                f'<point name="{k}" x="{marks[k, 0]}" y="{marks[k, 1]}" z="{marks[k, 2]}"/>' for k in (0, 20, 40, 60)
            ]
            name = f"{number}.pp" if number else f"{number}_picked_points.pp"
            (tmp_path / name).write_text("<PickedPoints>" + "".join(lines) + "</PickedPoints>")
    return paths


def test_files_become_a_model_that_can_be_saved(files, template, tmp_path):
    told = []
    built = build_model(files, template, unit=1000.0, modes=2, progress=told.append)
    assert told == [str(file) for file in files]
    assert built.model.n_identity == 2
    assert (built.rms < 0.5).all()
    assert (built.partnered > 0.7).all()
    built.model.save(tmp_path / "model.npz")
    assert load(tmp_path / "model.npz").n_identity == 2


def test_landmarks_are_read_beside_a_scan(files, template):
    marks = landmarks_beside(files[0], template)
    assert marks is not None
    np.testing.assert_array_equal(marks.corners, template.faces[template.landmark_faces[[0, 20, 40, 60]]])
    assert landmarks_beside(files[3], template) is None
    files[0].with_suffix(".pp").write_text('<PickedPoints><point name="chin" x="0" y="0" z="0"/></PickedPoints>')
    with pytest.raises(BadData, match=r"0.pp has names chin; expected three or more points named by iBUG numbers"):
        landmarks_beside(files[0], template)
    files[0].with_suffix(".pp").write_text('<PickedPoints><point name="1" x="0" y="0" z="0"/></PickedPoints>')
    with pytest.raises(BadData, match=r"0.pp has 1 points; expected three"):
        landmarks_beside(files[0], template)


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────


def test_wrong_options_and_scans_are_refused(files, template):
    with pytest.raises(BadData, match=r"a model needs 3 scans or more, of as many people; 1 were given"):
        build_model(files[:1])
    with pytest.raises(ValueError, match=r"unit is the number of mm .* but is 0"):
        build_model(files, template, unit=0.0)
    with pytest.raises(BadData, match=r"0.obj has 0.001 times the size.*metres: give unit=1000"):
        build_model(files, template)
    with pytest.raises(ValueError, match=r"shapes of 441 vertices, but the template has 6975"):
        model_of(people(template, 3), default())
    with pytest.raises(BadData, match=r"3 scans or more"):
        model_of(people(template, 2), template)
    with pytest.raises(ValueError, match=r"kept is the part of the variance .* but is 1.5"):
        model_of(people(template, 3), template, kept=1.5)
    with pytest.raises(ValueError, match=r"9 modes were asked for, but 4 scans make 1 to 3"):
        model_of(people(template, 4), template, modes=9)
    with pytest.raises(BadData, match=r"the scans are all the same"):
        model_of(np.repeat(people(template, 1), 3, 0), template)
    with pytest.raises(ValueError, match=r"cap does not know its vertices' mirror images"):
        model_of(people(template, 3), replace(template, mirror=None), symmetric=True)


def test_picked_points_with_right_and_left_swapped_are_refused(files, template):
    marks = default().landmarks(default().mean)
    swap = {36: 45, 45: 36, 39: 42, 42: 39, 48: 54, 54: 48, 30: 30}
    rows = "".join(f'<point name="{name}" x="{x}" y="{y}" z="{z}"/>' for name, (x, y, z) in
                   ((swap[k], marks[k]) for k in swap))  # fmt: skip
    files[0].with_suffix(".pp").write_text(f"<PickedPoints>{rows}</PickedPoints>")
    with pytest.raises(BadData, match=r"0\.pp has right and left landmarks swapped .*; pick them again"):
        landmarks_beside(files[0], default())
