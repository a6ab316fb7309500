"""A template bent onto scans: known deformations found again, and every scan that cannot work named."""

import numpy as np
import pytest

from sameface.core.errors import BadData
from sameface.core.geometry import rotation_from_axis_angle
from sameface.mesh.read import Mesh
from sameface.metrics.alignment import Surface
from sameface.morphable.register import Landmarks, Options, _bent, _edges, register


def dome(side=21):
    """A face-like bowl of 160 mm with a nose, triangles towards +z."""
    line = np.linspace(-80, 80, side)
    x, y = (a.ravel() for a in np.meshgrid(line, line))
    z = -(x**2 + 0.6 * y**2) / 160 + 28 * np.exp(-((x / 14) ** 2) - ((y + 5) / 22) ** 2) + 6 * np.sin(y / 18)
    a = np.arange(side * side).reshape(side, side)
    p, q, r, s = (a[i : side - 1 + i, j : side - 1 + j].ravel() for i, j in ((0, 0), (0, 1), (1, 0), (1, 1)))
    return np.stack([x, y, z], 1), np.concatenate([np.stack([p, q, r], 1), np.stack([q, s, r], 1)])


VERTICES, FACES = dome()
CHOSEN = np.array([0, 20, 220, 230, 420, 440, 105])


def other(vertices):
    """Another person: wider, with a longer nose and a fuller cheek."""
    x, y, z = vertices.T
    cheek = 5 * np.exp(-(((x - 40) / 25) ** 2) - ((y + 30) / 25) ** 2)
    return np.stack([1.05 * x, 0.97 * y, z + cheek + 4 * np.exp(-((x / 14) ** 2) - ((y + 5) / 22) ** 2)], 1)


def landmarks(points):
    return Landmarks(np.repeat(CHOSEN[:, None], 3, 1), np.tile([1.0, 0, 0], (len(CHOSEN), 1)), points[CHOSEN])


def as_cloud(mesh, rng, count=6000):
    vertices, faces = mesh
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    which = rng.choice(len(faces), count, p=area / area.sum())
    return (corners[which] * rng.dirichlet([1, 1, 1], count)[..., None]).sum(1)


def moved(points):
    rotation = rotation_from_axis_angle(np.array([0.4, -1.1, 0.3]))
    return points @ rotation.T + [30.0, 80.0, -200.0]


NO_FACES = np.zeros((0, 3), np.int64)


def test_another_shape_is_found_from_a_mesh_with_a_hole_in_any_pose():
    fine, fine_faces = dome(41)
    target = moved(other(fine))
    hole = np.linalg.norm(fine[:, :2] - [-35, 30], axis=1) < 16
    scan = Mesh(target, fine_faces[~hole[fine_faces].any(1)])
    truth = moved(other(VERTICES))
    found = register(VERTICES, FACES, scan, landmarks=landmarks(truth))
    off = np.linalg.norm(found.vertices - truth, axis=1)
    assert off.mean() < 0.6 * np.linalg.norm(found.pose.apply(VERTICES) - truth, axis=1).mean()
    assert Surface(target, fine_faces).closest(found.vertices).distances.mean() < 0.5
    over = np.linalg.norm(VERTICES[:, :2] - [-35, 30], axis=1) < 10
    assert not found.partnered[over].any()
    assert off[over].max() < 3  # carried by their neighbours
    assert found.rms < 0.6


def test_a_cloud_without_triangles_and_landmarks_near_the_template():
    rng = np.random.default_rng(0)
    points = as_cloud((other(VERTICES), FACES), rng) + rng.normal(size=(6000, 3)) * 0.2 + [4.0, -3.0, 5.0]
    points = points[np.linalg.norm(points[:, :2] - [40, 34], axis=1) > 14]
    found = register(VERTICES, FACES, Mesh(points, NO_FACES))
    surface = Surface(other(VERTICES) + np.array([4.0, -3.0, 5.0]), FACES)
    assert surface.closest(found.vertices).distances.mean() < 0.6
    assert found.partnered.mean() < 0.99
    np.testing.assert_allclose(found.pose.scale, 1)


def test_a_scan_of_the_template_leaves_it_as_it_is():
    found = register(VERTICES, FACES, Mesh(VERTICES, FACES))
    assert np.abs(found.vertices - VERTICES).max() < 0.05


def test_the_linear_system_against_dense_least_squares():
    vertices, faces = dome(4)
    rest, edges = vertices / 80, _edges(vertices, faces)
    goals, weights = other(vertices) / 80, (np.arange(len(rest)) % 3 > 0).astype(float)
    marks = Landmarks(faces[[1, 5]], np.array([[0.2, 0.3, 0.5], [1.0, 0, 0]]), np.array([[0.1, 0.2, 0.3], [0, 0, 0.1]]))
    count = len(rest)
    rows, right = [], []
    for i, j in edges:
        for k in range(4):
            row = np.zeros(4 * count)
            row[4 * i + k], row[4 * j + k] = 0.7, -0.7
            rows.append(row)
            right.append(np.zeros(3))
    data = np.zeros((count, 4 * count))
    for i in range(count):
        data[i, 4 * i : 4 * i + 4] = [*rest[i], 1]
    rows += [w * row for w, row in zip(weights, data, strict=True)]
    right += [w * goal for w, goal in zip(weights, goals, strict=True)]
    for corners, shares, point in zip(*marks, strict=True):
        rows.append(2.0 * shares @ data[corners])
        right.append(2.0 * point)
    expected = data @ np.linalg.lstsq(np.array(rows), np.array(right), rcond=None)[0]
    np.testing.assert_allclose(_bent(rest, edges, 0.7, (goals, weights), marks, 2.0), expected, atol=1e-5)


def test_loose_parts_go_with_what_is_beside_them():
    ball = np.array([[0.0, 30, -20], [3, 30, -20], [0, 33, -20]])
    vertices, faces = np.concatenate([VERTICES, ball]), np.concatenate([FACES, [[441, 442, 443]]])
    edges = _edges(vertices, faces)
    assert (edges[:, 0] >= 441).sum() + (edges[:, 1] >= 441).sum() >= 9
    found = register(vertices, faces, Mesh(VERTICES + np.array([0.0, 0, 8]), FACES), options=Options(rounds=2))
    np.testing.assert_allclose(found.vertices[441:] - ball, np.tile([0, 0, 8.0], (3, 1)), atol=1.0)


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────


def test_scans_of_other_units_are_told_apart():
    wrong = (0.001, r"metres: give unit=1000"), (0.1, r"centimetres: give unit=10"), (50.0, "in which unit")
    for factor, said in wrong:
        with pytest.raises(BadData, match=rf"the scan has .* times the size of a face in millimetres.*{said}"):
            register(VERTICES, FACES, Mesh(VERTICES * factor, FACES))
    with pytest.raises(BadData, match=r"looks like inches: give unit=25.4"):
        register(VERTICES, FACES, Mesh(VERTICES, FACES), landmarks=landmarks(VERTICES / 25.4))


def test_bad_scans_are_named():
    with pytest.raises(BadData, match=r"a.ply has 100 points; a face needs 300"):
        register(VERTICES, FACES, Mesh(VERTICES[:100], NO_FACES), name="a.ply")
    broken = VERTICES.copy()
    broken[3, 1] = np.nan
    with pytest.raises(BadData, match=r"a.ply: 1 of 441 points are NaN or infinite"):
        register(VERTICES, FACES, Mesh(broken, FACES), name="a.ply")
    with pytest.raises(BadData, match=r"a.ply meets only 0% of the template, 15% are needed"):
        register(VERTICES, FACES, Mesh(VERTICES + 900, FACES), name="a.ply")
