"""The source of our model: its reader, and the whole recipe on a head in its layout, so that neither needs its file."""

from pathlib import Path

import numpy as np
import pytest

import ict_head
from conftest import unchecked
from sameface import morphable
from sameface.core.errors import BadModel
from sameface.morphable import compile as recipe
from sameface.morphable import ict
from sameface.morphable.compile import compile_model, report
from sameface.morphable.decimate import boundary_loops
from test_compile import area, assert_manifold, covering


@pytest.fixture(scope="module")
def shipped() -> morphable.MorphableModel:
    return morphable.default()


@pytest.fixture(scope="module")
def made(shipped, tmp_path_factory) -> tuple[morphable.MorphableModel, Path]:
    """What the recipe makes of a head that is our own model in the source's layout."""
    path = tmp_path_factory.mktemp("head") / "ict.npz"
    narrow = ict_head.write(shipped, path)
    with pytest.MonkeyPatch.context() as patch, unchecked():
        patch.setattr(ict, "NARROW_FACE", narrow)
        patch.setattr(recipe, "HALF_FACE", 3300)
        return compile_model(path), path


def test_compiling_our_own_head_gives_it_back(shipped, made):
    model, _ = made
    assert model.expression_names == shipped.expression_names
    assert 6_000 < model.n_vertices < shipped.n_vertices
    np.testing.assert_allclose(model.landmarks(model.mean), shipped.landmarks(shipped.mean), atol=0.2)
    contours = (m.landmarks(m.mean, contour=True) for m in (model, shipped))
    np.testing.assert_allclose(*contours, atol=0.2)
    at = [
        (m.mean[m.faces[m.extra["mediapipe_faces"]]] * m.extra["mediapipe_weights"][..., None]).sum(1)
        for m in (model, shipped)
    ]
    assert np.linalg.norm(at[0] - at[1], axis=1).mean() < 0.5
    assert len(at[0]) == 478


def test_what_the_recipe_makes_is_whole(made):
    model, _ = made
    assert_manifold(model.faces)
    assert len(boundary_loops(model.faces)) == 5
    np.testing.assert_array_equal(model.mirror[model.mirror], np.arange(model.n_vertices))
    np.testing.assert_allclose(model.mean[model.mirror], model.mean * [-1, 1, 1], atol=1e-4)
    assert area(model.uv, model.faces).min() > 0
    assert covering(model.uv, model.faces, 1024).max() == 1
    flat = model.identity_basis.reshape(-1, 80).astype(np.float64)
    flat /= np.linalg.norm(flat, axis=0)
    np.testing.assert_allclose(flat.T @ flat, np.eye(80), atol=1e-4)
    assert {"face", "skin", "eyeballs", "sockets", "ears", "neck", "forehead", "mouth", "nose", "eyes"} == set(
        model.regions
    )
    for name, region in model.regions.items():
        assert region.any(), name


def test_the_report_measures_what_compiling_lost(made, monkeypatch):
    model, path = made
    monkeypatch.setattr(recipe, "HALF_FACE", 3300)
    with unchecked():
        found = report(model, path, faces=2)
    assert found["vertices"] == model.n_vertices
    assert found["variance kept"] == pytest.approx(1, abs=1e-3)
    assert found["resampling: mean mm"] < 0.1
    assert found["resampling and 80 modes: mean mm"] < 0.2


def test_a_source_without_its_arrays_is_refused(tmp_path):
    np.savez(tmp_path / "ict.npz", mean=np.zeros((3, 3)))
    with pytest.raises(BadModel, match="is not the ICT-FaceKit Light npz"):
        ict.load(tmp_path / "ict.npz")


def test_a_source_that_is_not_symmetric_is_refused(shipped, tmp_path):
    ict_head.write(shipped, tmp_path / "ict.npz")
    with np.load(tmp_path / "ict.npz") as file:
        arrays = {key: file[key] for key in file.files}
    arrays["mean"] = arrays["mean"] + 3 * np.random.default_rng(0).normal(size=arrays["mean"].shape).astype(np.float32)
    np.savez(tmp_path / "ict.npz", **arrays)
    with pytest.raises(BadModel, match="not symmetric"):
        ict.load(tmp_path / "ict.npz")
