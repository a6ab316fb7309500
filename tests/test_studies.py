"""studies/: the page of results is what they write; sir's light by least squares; numbers over seeds."""

import importlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.distance import pdist

from sameface.core.geometry import rotation_from_euler
from sameface.morphable.points import Points
from sameface.training import appearance

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def studies():
    """Name → module: they are scripts beside their siblings."""
    sys.path.insert(0, str(ROOT / "studies"))
    try:
        yield importlib.import_module
    finally:
        sys.path.remove(str(ROOT / "studies"))


@pytest.fixture(scope="module")
def study(studies):
    return studies("sir")


@pytest.fixture(scope="module")
def pixels(studies):
    return studies("pixels")


def test_the_page_is_what_the_studies_write(studies, monkeypatch):
    monkeypatch.chdir(ROOT)
    writer = studies("write_results")
    assert writer.PAGE.read_text() == writer.page(writer.measuring()), "run python studies/write_results.py"


def test_every_result_has_one_section_and_every_section_a_study_that_can_be_run(studies, monkeypatch):
    monkeypatch.chdir(ROOT)
    files = studies("write_results").measuring()
    told = [file.RESULT for file in files]
    assert len(set(told)) == len(told)
    assert {path for path in told if path.parent.name == "results"} == set(Path("results").glob("*.json"))
    for path in told:
        commands = json.loads(path.read_text())["command"]
        for command in [commands] if isinstance(commands, str) else commands:
            program, script, *_ = command.split()
            assert program == "sameface" or (program == "python" and Path(script).is_file()), command


def test_paragraphs_and_tables(studies):
    paragraph = studies("write_results").paragraph
    assert paragraph("as it *is*") == "as it *is*"
    assert paragraph((["a", "|b|"], [["1", "2"]])) == "| a | \\|b\\| |\n| --- | ---: |\n| 1 | 2 |"


@pytest.fixture(scope="module")
def face(tiny_model) -> dict[str, torch.Tensor]:
    """Two frontal faces that fill a picture, under light from somewhere."""
    torch.manual_seed(0)
    return {
        "identity": torch.randn(2, tiny_model.n_identity),
        "expression": torch.zeros(2, tiny_model.n_expression),
        "rotation": torch.diag(torch.tensor([1.0, -1, -1])).repeat(2, 1, 1),
        "scale": torch.full((2,), 1 / 250),
        "translation": torch.zeros(2, 2),
        "light": torch.randn(2, 9, 3),
        "albedo": torch.rand(2, 3, 8, 8) + 0.1,
    }


def test_layers_make_the_picture(pixels, tiny_model, face):
    painter = appearance.Painter(tiny_model, 28)
    drawn, covered = painter(face)
    albedo, functions, mask = pixels.layers(painter, face)
    assert torch.equal(mask, covered)
    assert mask.float().mean() > 0.1
    made = albedo * torch.einsum("bkhw,bkc->bchw", functions, face["light"])
    torch.testing.assert_close(made, drawn, atol=1e-5, rtol=1e-4)


def test_best_light_finds_the_light_again(pixels, tiny_model, face):
    painter = appearance.Painter(tiny_model, 28)
    photo, _ = painter(face)
    albedo, functions, mask = pixels.layers(painter, face | {"light": torch.zeros(2, 9, 3)})
    lit = pixels.best_light(albedo, functions, photo, mask)
    assert pixels.mean_distance(lit, photo, mask).max() < 1e-4
    assert pixels.mean_distance(torch.zeros_like(photo), photo, mask).min() > 0.05


def test_best_light_is_least_squares_and_sees_the_mask_only(pixels):
    rng = np.random.default_rng(0)
    albedo, photo = (torch.tensor(rng.random((1, 3, 5, 5)), dtype=torch.float32) for _ in range(2))
    functions = torch.tensor(rng.normal(size=(1, 9, 5, 5)), dtype=torch.float32)
    mask = torch.ones(1, 5, 5, dtype=torch.bool)
    mask[0, 0] = False
    lit = pixels.best_light(albedo, functions, photo, mask)
    for colour in range(3):
        wide = (albedo[0, colour] * functions[0])[:, mask[0]].numpy().T.astype(np.float64)
        light = np.linalg.lstsq(wide, photo[0, colour][mask[0]].numpy().astype(np.float64), rcond=None)[0]
        np.testing.assert_allclose(lit[0, colour][mask[0]].numpy(), wide @ light, atol=1e-5)
    photo[0, :, 0] = 7
    assert torch.equal(pixels.best_light(albedo, functions, photo, mask), lit)


def test_mean_distance_by_hand(pixels):
    drawn, photo = torch.zeros(1, 3, 1, 2), torch.tensor([1.0, 2, 3, 4, 5, 60]).reshape(1, 3, 1, 2)
    mask = torch.tensor([[[True, False]]])
    assert pixels.mean_distance(drawn, photo, mask).tolist() == [3.0]
    assert pixels.mean_distance(drawn, photo, ~mask).tolist() == [22.0]


def test_isometric_points_have_the_distances_of_the_meshes(study, tiny_model):
    identity = np.random.default_rng(0).normal(size=(5, tiny_model.n_identity))
    meshes = tiny_model.vertices(identity).reshape(5, -1).astype(np.float64)
    few = study.isometric(tiny_model, identity)
    assert few.shape == (5, 2, 3)
    np.testing.assert_allclose(
        pdist(few.reshape(5, -1)) / np.sqrt(few.shape[1]), pdist(meshes) / np.sqrt(tiny_model.n_vertices), rtol=1e-5
    )


def test_numbers_over_seeds(study):
    seeds = [{"none": {"AUC": 1.0, "error": {"mean": 2.0}}}, {"none": {"AUC": 3.0, "error": {"mean": 6.0}}}]
    assert study.over(np.mean, seeds) == {"none": {"AUC": 2.0, "error": {"mean": 4.0}}}
    assert study.over(study.deviation, seeds)["none"]["AUC"] == pytest.approx(np.sqrt(2))
    assert study.over(study.deviation, seeds[:1]) == {"none": {"AUC": 0.0, "error": {"mean": 0.0}}}


def test_what_points_miss_together_is_found_again(studies):
    """Photos whose misses were drawn from two modes: the span of what is found is theirs, and c the part of σ."""
    calibrate, rng = studies("calibrate_errors"), np.random.default_rng(0)
    side = rng.normal(0, 40, (10, 3))
    where = np.concatenate([side, side * [-1, 1, 1]])
    modes = np.stack(
        [where * [0.03, 0, 0], where * [0, 0.02, 0.01]], axis=2
    )  # symmetric, as the mirrored photos make it
    axes = rotation_from_euler(*(rng.uniform(-limit, limit, 400) for limit in (0.3, 1, 0.2)))[:, :2]
    sigma = rng.uniform(0.5, 1, (400, 20))
    drawn = np.einsum("nak,lkr,nr->nla", axes, modes, rng.normal(size=(400, 2)))
    missed = drawn + 0.3 * sigma[..., None] * rng.normal(size=(400, 20, 2))
    points = Points(where, np.zeros((20, 3, 1)), np.zeros((20, 3, 1)))
    found, c = calibrate.modes_of(calibrate.mirrored(points, calibrate.Missed(missed, axes, sigma)), 3, rounds=60)
    assert c == pytest.approx(0.3, rel=0.1)
    true, said = modes.reshape(-1, 2), found.reshape(-1, 3)
    np.testing.assert_allclose(said @ said.T, true @ true.T, atol=0.15 * np.abs(true @ true.T).max())
    assert np.linalg.norm(said[:, 2]) < 0.2 * np.linalg.norm(said[:, 1])
