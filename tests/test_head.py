"""The whole head: the model as it is, and what closes it, in the same modes."""

import json
from dataclasses import replace

import numpy as np
import pytest
import trimesh

from sameface import morphable
from sameface.core.geometry import rotation_from_axis_angle
from sameface.mesh.glb import Part, write_glb
from sameface.mesh.solid import closed, write_stl
from sameface.morphable import head as heads
from sameface.reconstruction.scalp import with_scalp
from test_compile import area, assert_manifold


@pytest.fixture(scope="module")
def model() -> morphable.MorphableModel:
    return morphable.default()


@pytest.fixture(scope="module")
def head(model) -> morphable.MorphableModel:
    return heads.whole(model)


def somebody(head: morphable.MorphableModel, seed: int, jaw: float = 0.0) -> np.ndarray:
    expression = np.zeros(head.n_expression)
    expression[head.expression_names.index("jawOpen")] = jaw
    return head.vertices(np.random.default_rng(seed).normal(size=head.n_identity), expression)


def test_its_first_vertices_are_the_models(model, head):
    n = model.n_vertices
    for name in ("mean", "identity_basis", "expression_basis", "uv", "mirror"):
        np.testing.assert_array_equal(getattr(head, name)[:n], getattr(model, name))
    np.testing.assert_array_equal(head.faces[: len(model.faces)], model.faces)
    for name, flags in model.regions.items():
        np.testing.assert_array_equal(head.regions[name][:n], flags)


def test_other_models_stay_as_they_are(model):
    other = replace(model, name="another")
    assert heads.whole(other) is other


def test_it_is_closed_but_for_the_eyeballs(head):
    faces = heads.surface(head)
    assert_manifold(faces)
    for seed, jaw in ((0, 0.0), (1, 1.0)):
        vertices = somebody(head, seed, jaw)
        skin = trimesh.Trimesh(vertices, faces[~head.regions["eyeballs"][faces].any(1)], process=False)
        assert skin.is_watertight
        assert skin.is_winding_consistent
        assert 3e6 < skin.volume < 6e6  # 3 to 6 litres, with a neck
    assert_manifold(closed(vertices, faces)[1])


def test_it_goes_on_where_the_model_ends(model, head):
    """Behind the rim vertices move as those of the rim: the first row is 5 mm and more away, and 2.5 σ of a mode are
    millimetres."""
    n, same = model.n_vertices, head.extra["same_place"]
    twice = np.flatnonzero(same != np.arange(head.n_vertices))
    assert len(twice) == 150
    assert (same[twice] < n).all()
    for seed in range(3):
        vertices = somebody(head, seed, jaw=0.5)
        np.testing.assert_allclose(vertices[twice], vertices[same[twice]], atol=1e-4)  # as matrices multiply
        edges = head.faces[len(model.faces) :][:, [0, 1]]
        before, after = (np.linalg.norm(np.diff(v[edges], axis=1), axis=2) for v in (head.mean, vertices))
        assert 0.6 < np.median(after / before) < 1.5
        assert np.percentile(after / before, 99) < 2
        turned = np.abs((heads.normals(head, vertices) * heads.normals(head, head.mean)).sum(1)[twice])
        assert turned.min() > 0.7  # no crease at the rim


def test_it_is_its_own_mirror_image(head):
    np.testing.assert_array_equal(head.mirror[head.mirror], np.arange(head.n_vertices))
    np.testing.assert_allclose(head.mean[head.mirror], head.mean * [-1, 1, 1], atol=1e-4)


def test_its_chart_lies_beside_the_others(model, head):
    new = head.faces[len(model.faces) :]
    assert area(head.uv, new).min() > 0
    scalp = head.uv[head.regions["scalp"]]
    assert scalp.min() >= 0
    assert scalp[:, 1].max() < model.uv[~model.regions["eyeballs"], 1].min()
    left, right = (model.uv[model.regions["eyeballs"] & (side * model.mean[:, 0] > 0), 0] for side in (1, -1))
    assert right.max() < scalp[:, 0].min() < scalp[:, 0].max() < left.min()


def test_eyeballs_turn_about_their_centres(head):
    for vertices, most in ((head.mean, 0.02), (somebody(head, 3), 1.5)):  # mm: people's eyes differ, the shapes do not
        for side, mine, centre in heads.eye_centres(head, vertices):
            for name, axis in (("Up", [-1, 0, 0]), ("Out", [0, 1 if side == "Left" else -1, 0])):
                target = head.expression_basis[mine][..., head.expression_names.index(f"eyeLook{name}{side}")]
                turn = rotation_from_axis_angle(heads.LOOK * np.array(axis, float))
                apart = vertices[mine] + target - (vertices[mine] - centre) @ turn.T - centre
                assert np.linalg.norm(apart, axis=1).max() < most
                assert np.linalg.norm(apart.mean(0)) < 0.1
    assert heads.eye_centres(replace(head, expression_names=("a",) * 51), head.mean) == []


def test_the_scalp_has_the_colours_of_the_rim(model, head):
    """A skin that is red above and green below: so is the scalp, and the rim has the same colour on both charts."""
    skin = np.zeros((256, 256, 3), np.uint8)
    skin[:128, :, 0], skin[128:, :, 1] = 200, 200
    painted = with_scalp(skin, head)
    same = head.extra["same_place"]
    twice = np.flatnonzero(same != np.arange(head.n_vertices))

    def at(vertices: np.ndarray) -> np.ndarray:
        column, row = np.clip((head.uv[vertices] * [1, -1] + [0, 1]) * 256, 0, 255).astype(int).T
        return painted[row, column].astype(int)

    crown = np.flatnonzero(head.regions["scalp"])[head.mean[head.regions["scalp"], 1].argmax()]
    low = np.flatnonzero(head.regions["scalp"])[head.mean[head.regions["scalp"], 1].argmin()]
    assert at(np.array([crown]))[0, 0] > 120
    assert at(np.array([low]))[0, 1] > 120
    assert np.median(np.abs(at(twice) - at(same[twice]))) < 20
    unchanged = (painted == skin).all(2)
    assert unchanged[:200].all()
    assert with_scalp(skin, model) is skin


def test_stl_is_one_piece_for_each_thing(head, tmp_path):
    vertices = somebody(head, 0)
    write_stl(tmp_path / "head.stl", vertices, heads.surface(head))
    solid = trimesh.load(tmp_path / "head.stl")
    assert solid.is_watertight
    assert solid.body_count == 3  # the head and two eyes
    np.testing.assert_allclose(solid.bounds, [vertices.min(0), vertices.max(0)], atol=1e-3)


def test_eyes_are_nodes_of_their_own(head, tmp_path):
    vertices = somebody(head, 1)
    targets = {name: head.expression_basis[..., k] for k, name in enumerate(head.expression_names)}
    eyes = [Part(f"eye{side}", mine, centre) for side, mine, centre in heads.eye_centres(head, vertices)]
    write_glb(tmp_path / "a.glb", vertices, head.faces, uv=head.uv, morph_targets=targets, parts=eyes)
    content = (tmp_path / "a.glb").read_bytes()
    document = json.loads(content[20 : 20 + int.from_bytes(content[12:16], "little")])
    face, left, right, root = document["nodes"]
    assert [node["name"] for node in (face, left, right, root)] == ["face", "eyeLeft", "eyeRight", "head"]
    assert document["scenes"][0]["nodes"] == [3]
    assert root["children"] == [0, 1, 2]
    names = [mesh["extras"]["targetNames"] for mesh in document["meshes"]]
    assert names[0] == list(head.expression_names)
    assert names[1:] == [[f"eyeLook{way}{side}" for way in ("Down", "In", "Out", "Up")] for side in ("Left", "Right")]
    assert [mesh["primitives"][0]["material"] for mesh in document["meshes"]] == [0, 1, 1]
    assert [material["name"] for material in document["materials"]] == ["skin", "eyes"]
    scene = trimesh.load(tmp_path / "a.glb")
    for name, mine, centre in eyes:
        turn, _ = scene.graph[name]
        np.testing.assert_allclose(turn[:3, 3], centre / 1000, atol=1e-6)
        corners = head.faces[mine[head.faces].all(1)]
        middle = scene.geometry[name].triangles.mean(1) + turn[:3, 3]
        np.testing.assert_allclose(np.sort(middle, 0), np.sort(vertices[corners].mean(1) / 1000, 0), atol=1e-5)
    assert len(scene.geometry["face"].faces) == len(head.faces) - sum(len(scene.geometry[e.name].faces) for e in eyes)


@pytest.mark.slow
def test_compiling_again_gives_the_shipped_rest(model, head, shared):
    from sameface.morphable.compile_head import compile_rest

    again = heads.join(model, compile_rest(model, shared("data/ict_face.npz")))
    np.testing.assert_array_equal(again.faces, head.faces)
    np.testing.assert_allclose(again.mean, head.mean, atol=1e-3)
    for name in ("identity_basis", "expression_basis"):
        np.testing.assert_allclose(getattr(again, name), getattr(head, name), atol=2e-2)
