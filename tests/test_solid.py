"""Meshes for printers: every edge has two triangles, and the volume is that of the thing."""

import numpy as np
import pytest
import trimesh

from sameface.mesh.solid import closed, write_stl
from sameface.morphable import default


def volume(vertices, faces):
    a, b, c = (vertices[faces[:, k]].astype(float) for k in range(3))
    return (a * np.cross(b, c)).sum() / 6


def open_box():
    """A cube of 10 mm without its lid and without half of its bottom, whose rims lie in planes."""
    box = trimesh.creation.box((10, 10, 10))
    up = box.face_normals[:, 2]
    kept = (up < 0.5) & ~((up < -0.5) & (np.arange(len(up)) == np.flatnonzero(up < -0.5)[0]))
    return np.asarray(box.vertices), np.asarray(box.faces)[kept]


def test_holes_are_filled_flat_and_the_volume_is_that_of_the_cube():
    vertices, faces = open_box()
    points, solid = closed(vertices, faces)
    assert len(points) == len(vertices) + 2
    np.testing.assert_array_equal(points[: len(vertices)], vertices)
    np.testing.assert_array_equal(solid[: len(faces)], faces)
    assert trimesh.Trimesh(points, solid, process=False).is_watertight
    assert volume(points, solid) == pytest.approx(1000)


def test_what_is_closed_stays_as_it_is():
    ball = trimesh.creation.icosphere(1, 20.0)
    points, solid = closed(np.asarray(ball.vertices), np.asarray(ball.faces))
    assert (len(points), len(solid)) == (len(ball.vertices), len(ball.faces))


def test_a_mesh_that_no_fan_can_close_is_refused():
    vertices, faces = open_box()
    with pytest.raises(ValueError, match="cannot be closed: triangles share an edge"):
        closed(vertices, np.concatenate([faces, faces[:1]]))


def test_our_head_is_printed_in_mm(tmp_path):
    model = default()
    vertices = model.vertices(np.random.default_rng(0).normal(size=model.n_identity))
    write_stl(tmp_path / "head.stl", vertices, model.faces)
    content = (tmp_path / "head.stl").read_bytes()
    assert not content.startswith(b"solid")
    assert len(content) == 84 + 50 * int.from_bytes(content[80:84], "little")
    head = trimesh.load(tmp_path / "head.stl")
    assert head.is_watertight
    assert head.is_winding_consistent
    np.testing.assert_allclose(head.bounds, [vertices.min(0), vertices.max(0)], atol=1e-4)
    assert 1e6 < head.volume < 4e6  # 1 to 4 litres
