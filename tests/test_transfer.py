"""Our expressions on heads of others: the same where the head is ours, turned with it, with all that hangs on it."""

import json
import struct
from dataclasses import replace

import numpy as np
import pytest

from other_models import exact, head
from sameface.cli import main
from sameface.core.geometry import rotation_from_axis_angle
from sameface.mesh.read import Mesh
from sameface.mesh.write import write_obj
from sameface.metrics.alignment import Similarity
from sameface.morphable import bridge as bridges
from sameface.morphable import default
from sameface.morphable.transfer import as_model, transfer

SHIFT = np.array([3.0, 20.0, -60.0])
BERT = 0.7 * np.random.default_rng(7).normal(size=80)


def bridge_to(person=None, parts=()):
    """To a head of that person, with loose parts (vertices in our frame, faces) behind its own vertices."""
    made, ours = head(person, region="skin"), default()
    vertices, faces = [made.mean], [made.faces]
    for corners, triangles in parts:
        faces.append(triangles + sum(map(len, vertices)))
        vertices.append(corners + SHIFT)
    mesh = Mesh(np.concatenate(vertices), np.concatenate(faces))
    mean = ours.mean if person is None else ours.vertices(np.float32(person))
    return made, exact(as_model(mesh, ours.landmarks(mean) + SHIFT), made, person)


@pytest.fixture(scope="module")
def own():
    made, joined = bridge_to()
    return made, joined, transfer(joined)


def test_on_our_own_head_nothing_changes(own):
    made, _, shapes = own
    ours = default()
    known = np.flatnonzero(made.place >= 0)
    assert tuple(shapes) == ours.expression_names
    for k, name in enumerate(ours.expression_names):
        np.testing.assert_allclose(shapes[name][made.place[known]], ours.expression_basis[known, :, k], atol=0.01)


def test_a_turned_head_has_turned_movements(own):
    _, joined, shapes = own
    turn = rotation_from_axis_angle(np.array([0.4, -0.7, 0.2]))
    moved = Similarity(1.0, turn, np.array([500.0, 0, 30]))
    target = replace(joined.target, mean=moved.apply(joined.target.mean.astype(np.float64)).astype(np.float32))
    there = transfer(replace(joined, target=target, pose=joined.pose.after(moved.inverse())))
    for name in ("jawOpen", "mouthSmileLeft"):
        np.testing.assert_allclose(there[name], shapes[name] @ turn.T, atol=0.02)


def test_on_another_person_expressions_are_nearly_ours():
    made, joined = bridge_to(BERT)
    shapes, ours = transfer(joined), default()
    known = np.flatnonzero(made.place >= 0)
    for name, size in (("jawOpen", 20), ("eyeBlinkLeft", 5), ("mouthPucker", 5)):
        expected = ours.expression_basis[known, :, ours.expression_names.index(name)]
        found = shapes[name][made.place[known]]
        assert np.abs(expected).max() > size
        assert np.linalg.norm(found - expected, axis=1).mean() < 0.1 * np.linalg.norm(expected, axis=1).mean() + 0.05


def box(middle, size):
    corners = np.array(np.meshgrid([-1, 1], [-1, 1], [-1, 1])).reshape(3, -1).T * size / 2 + middle
    return corners, np.array([[0, 1, 2], [1, 3, 2], [4, 6, 5], [5, 6, 7], [0, 4, 1], [1, 4, 5], [2, 3, 6], [3, 7, 6]])


def test_parts_go_with_what_they_belong_to():
    ours = default()
    points = ours.landmarks(ours.mean)
    left = ours.mean[ours.regions["eyeballs"] & (ours.mean[:, 0] > 0)]
    parts = {
        "lash": box(points[44] + [0, 1, 2], 2.0),
        "eye": box((left.min(0) + left.max(0)) / 2, 22.0),
        "lower teeth": box(points[60:].mean(0) - [0, 10, 20], 12.0),
        "upper teeth": box(points[60:].mean(0) - [0, -10, 20], 12.0),
        "hat": box(np.array([0.0, 160, -40]), 40.0),
    }
    made, joined = bridge_to(parts=parts.values())
    shapes = transfer(joined)
    begin = len(made.mean) + 8 * np.arange(len(parts))
    at = {name: slice(first, first + 8) for name, first in zip(parts, begin, strict=True)}

    def size(shape, part):
        return np.linalg.norm(shapes[shape][at[part]], axis=1).max()

    assert size("jawOpen", "lower teeth") > 20
    assert size("mouthSmileLeft", "lower teeth") == 0
    assert size("jawOpen", "upper teeth") == size("jawOpen", "hat") == 0
    assert size("eyeBlinkLeft", "lash") > 3
    assert size("eyeLookInLeft", "eye") > 2
    np.testing.assert_allclose(shapes["eyeLookInLeft"][at["eye"]].mean(0), 0, atol=1e-3)
    assert size("eyeLookInRight", "eye") < 0.01


def test_three_picked_points_say_where_the_others_are():
    ours = default()
    picked = np.full((68, 3), np.nan)
    picked[[30, 36, 45, 48, 54, 8]] = ours.landmarks(ours.mean)[[30, 36, 45, 48, 54, 8]]
    model = as_model(Mesh(ours.mean.astype(np.float64), ours.faces.astype(np.int64)), picked)
    off = np.linalg.norm(model.landmarks(model.mean) - ours.landmarks(ours.mean), axis=1)
    assert off[17:].max() < 3
    assert off[[30, 36, 45]].max() < 0.5


# ---- the command ----


def written(folder, monkeypatch, joined):
    made = head(region="skin")
    write_obj(folder / "bert.obj", made.mean.astype(np.float32), made.faces, unit=10.0)
    monkeypatch.setattr("sameface.evaluation.scan_landmarks.find_landmarks", lambda *_, **__: np.zeros((68, 3)))
    monkeypatch.setattr(bridges, "between", lambda target, name: joined)
    return folder / "bert.obj"


def run(*arguments):
    with pytest.raises(SystemExit) as ended:
        main([*map(str, arguments)])
    return ended.value.code


def test_the_command_writes_a_glb_with_arkits_names(own, tmp_path, monkeypatch, capsys):
    path = written(tmp_path, monkeypatch, own[1])
    assert run("model", "transfer", path, "--out", tmp_path / "bert.glb", "--unit", 10) == 0
    content = (tmp_path / "bert.glb").read_bytes()
    document = json.loads(content[20 : 20 + struct.unpack_from("<I", content, 12)[0]])
    assert document["meshes"][0]["extras"]["targetNames"] == list(default().expression_names)
    assert "landmarks found" in capsys.readouterr().out


def test_the_command_refuses_what_it_cannot_do(tmp_path, monkeypatch, own, capsys):
    path = written(tmp_path, monkeypatch, own[1])
    assert run("model", "transfer", path, "--out", tmp_path / "bert.obj2") != 0
    assert "written as .glb" in capsys.readouterr().err
    assert run("model", "transfer", path, "--out", tmp_path / "a.glb", "--unit", 0) != 0
    (tmp_path / "cloud.obj").write_text("v 0 0 0\nv 1 0 0\n")
    assert run("model", "transfer", tmp_path / "cloud.obj", "--out", tmp_path / "a.glb") != 0
    assert "has no triangles" in capsys.readouterr().err
