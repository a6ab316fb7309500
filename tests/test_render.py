"""The renderer against slow loops, ray casting and the numpy z-buffer; its laws; and every gradient."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import sph_harm_y
from torch.autograd import gradcheck

from sameface import morphable
from sameface.core import geometry
from sameface.core.camera import Perspective, WeakPerspective
from sameface.core.geometry import rotation_from_euler
from sameface.mesh import raster, render
from sameface.mesh.render import (
    diffuse,
    interpolate,
    normal_map,
    point_lights,
    rasterise,
    sample_texture,
    screen_points,
    sh_basis,
    sh_shading,
    vertex_normals,
    visible_vertices,
)

SIZE = (11, 9)
DEEP3D = -9.595674533
"""Σ k Y_k, k = 1 … 9, at the normal (0.48, 0.6, 0.64) by the formula of sicxu/Deep3DFaceRecon_pytorch, models/bfm.py"""
seeds = st.integers(0, 2**32 - 1)


def soup(seed: int, count: int = 8, images: int = 2) -> tuple[torch.Tensor, torch.Tensor]:
    """Triangles anywhere in front of the viewer, some partly outside the image."""
    rng = np.random.default_rng(seed)
    points = rng.uniform([-3, -3, 2], [14, 12, 10], (images, 3 * count, 3))
    return torch.tensor(points), torch.tensor(rng.permutation(3 * count).reshape(count, 3))


def gradient(value: torch.Tensor, leaf: torch.Tensor) -> torch.Tensor:
    return torch.autograd.grad(value, leaf)[0]


def belongs(px: float, py: float, corners: np.ndarray) -> np.ndarray | None:
    """Barycentric weights of a point if the top-left rule gives it to the triangle: one edge at a time."""
    a, b, c = corners
    area = (b[0] - a[0]) * (c[1] - a[1]) - (c[0] - a[0]) * (b[1] - a[1])
    if area == 0:
        return None
    weights = np.empty(3)
    for k in range(3):
        start, end = corners[(k + 1) % 3], corners[(k + 2) % 3]
        if area < 0:
            start, end = end, start
        along, down = end[0] - start[0], end[1] - start[1]
        inside = (start[0] - px) * (end[1] - py) - (end[0] - px) * (start[1] - py)
        if inside < 0 or (inside == 0 and not (down < 0 or (down == 0 and along > 0))):
            return None
        weights[k] = inside / abs(area)
    return weights


def slow(points: np.ndarray, faces: np.ndarray, perspective: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One pixel and one triangle at a time."""
    width, height = SIZE
    face, weights = np.full((height, width), -1), np.zeros((height, width, 3))
    depth = np.full((height, width), np.inf)
    for j in range(height):
        for i in range(width):
            for number, corners in enumerate(points[faces]):
                found = belongs(i + 0.5, j + 0.5, corners)
                if found is None:
                    continue
                if perspective:
                    found = found / corners[:, 2] / (found / corners[:, 2]).sum()
                z = corners[0, 2] + found[1:] @ (corners[1:, 2] - corners[0, 2])  # exact for equal depths
                if z < depth[j, i]:
                    face[j, i], weights[j, i], depth[j, i] = number, found, z
    return face, weights, depth


def hits(points: torch.Tensor, faces: torch.Tensor, size: tuple[int, int]) -> np.ndarray:
    """How many triangles each pixel centre belongs to: each triangle drawn alone."""
    return sum(rasterise(points, one[None], size).mask[0].int() for one in faces).numpy()  # type: ignore[union-attr]


def head(side: int, *angles: float) -> tuple[np.ndarray, np.ndarray]:
    """Our model on an image of side × side: (points, faces)."""
    model = morphable.default()
    rotation = rotation_from_euler(*(np.array(angle) for angle in angles))
    camera = WeakPerspective(rotation, np.array([side / 2 + 0.1, side / 2]), np.array(side / 250), (side, side))
    centred = model.mean - (model.mean.min(0) + model.mean.max(0)) / 2
    return raster.screen_points(centred.astype(np.float64), camera), model.faces


# ── which triangle ─────────────────────────────────────────────────────────────────────────────────────────


def test_one_triangle_by_hand():
    points = torch.tensor([[[0.0, 0, 1], [4, 0, 1], [0, 4, 5]]])
    fragments = rasterise(points, torch.tensor([[0, 1, 2]]), (5, 5))
    # the diagonal passes through four centres and is neither a top nor a left edge
    expected = [[0, 0, 0, -1, -1], [0, 0, -1, -1, -1], [0, -1, -1, -1, -1], [-1] * 5, [-1] * 5]
    assert fragments.face[0].tolist() == expected
    assert fragments.mask[0].tolist() == [[number == 0 for number in row] for row in expected]
    torch.testing.assert_close(fragments.weights[0, 1, 1], torch.tensor([0.25, 0.375, 0.375]))
    torch.testing.assert_close(fragments.depth[0, :3, 0], torch.tensor([1.5, 2.5, 3.5]))
    assert fragments.depth[0, 4, 4] == torch.inf
    assert not fragments.weights[0, 4, 4].any()
    assert fragments.weights.dtype == fragments.depth.dtype == torch.float32


@settings(max_examples=6)
@given(seed=seeds, perspective=st.booleans())
def test_against_a_slow_loop(seed, perspective):
    points, faces = soup(seed)
    fragments = rasterise(points, faces, SIZE, perspective=perspective)
    for b in range(2):
        face, weights, depth = slow(points[b].numpy(), faces.numpy(), perspective)
        np.testing.assert_array_equal(fragments.face[b], face)
        np.testing.assert_allclose(fragments.weights[b], weights, atol=1e-9)
        np.testing.assert_allclose(fragments.depth[b], depth)


@settings(max_examples=6)
@given(seed=seeds)
def test_against_a_slow_loop_where_edges_pass_through_pixel_centres(seed):
    """Corners on half pixels and few depths: many exact ties, on edges and in depth, and triangles without area."""
    points, faces = soup(seed, images=1)
    points = torch.round(points[..., :] * 2) / 2
    points[..., 2] = 4 + torch.round(points[..., 2] / 4)
    points[..., 2] = points[:, faces, 2].amin(-1)[:, torch.argsort(faces.flatten()) // 3]  # triangles of one depth
    face, _, _ = slow(points[0].numpy(), faces.numpy(), False)
    np.testing.assert_array_equal(rasterise(points, faces, SIZE).face[0], face)


@pytest.mark.parametrize("angles", [(0.0, 0.0, 0.0), (0.2, 0.7, -0.1), (-0.3, -1.4, 0.4)])
def test_the_numpy_z_buffer_sees_the_same_head(angles):
    points, faces = head(64, *angles)
    fragments = rasterise(torch.tensor(points)[None], torch.tensor(faces), (64, 64))
    theirs = raster.rasterise(points, faces, (64, 64))
    np.testing.assert_array_equal(fragments.face[0], theirs.face)
    np.testing.assert_allclose(fragments.weights[0], theirs.weights, atol=1e-6)
    np.testing.assert_allclose(fragments.depth[0], theirs.depth)
    values = np.random.default_rng(0).normal(size=(len(points), 2))
    ours = interpolate(torch.tensor(values), fragments)[0].permute(1, 2, 0)[fragments.mask[0]]
    np.testing.assert_allclose(ours, raster.interpolate(theirs, faces, values), atol=1e-6)


@settings(max_examples=25)
@given(seed=seeds, count=st.integers(3, 12), flip=st.booleans())
def test_each_pixel_of_a_fan_is_hit_once(seed, count, flip):
    """Corners on half pixels, so that the hub and many edges are exactly on pixel centres."""
    rng = np.random.default_rng(seed)
    angle = np.sort(rng.uniform(0, 2 * np.pi, count)) + np.linspace(0, 1e-3, count)
    hub = np.array([5.5, 4.5])
    rim = np.round(2 * (hub + 4 * np.stack([np.cos(angle), np.sin(angle)], 1))) / 2
    points = np.concatenate([np.vstack([rim, hub]), np.ones((count + 1, 1))], 1)
    index = np.arange(count)
    faces = np.stack([index, (index + 1) % count, np.full(count, count)], 1)
    faces = faces[:, ::-1].copy() if flip else faces
    (ax, ay), (bx, by) = (rim - hub).T, (np.roll(rim, -1, 0) - hub).T
    if not (ax * by - bx * ay > 0).all():  # a gap of more than half a turn: not a fan
        return
    found = hits(torch.tensor(points)[None], torch.tensor(faces), SIZE)
    assert found.max() == 1
    assert found[4, 5] == 1
    cross = [[(ax - x) * (by - y) - (bx - x) * (ay - y) for x in np.arange(11) - 5.0] for y in np.arange(9) - 4.0]
    strictly_inside = (np.array(cross) > 0).all(-1)
    assert (found[strictly_inside] == 1).all()


def test_a_grid_whose_edges_pass_through_all_pixel_centres_is_hit_once_everywhere():
    j, i = np.mgrid[-1:10, -1:12] + 0.5
    points = np.stack([i.ravel(), j.ravel(), 0 * i.ravel()], 1)
    corner = (np.arange(10)[:, None] * 13 + np.arange(12)).ravel()
    faces = np.concatenate([corner[:, None] + [0, 1, 13], corner[:, None] + [1, 14, 13]])
    assert (hits(torch.tensor(points)[None], torch.tensor(faces), SIZE) == 1).all()


@settings(max_examples=15)
@given(seed=seeds)
def test_the_order_and_the_winding_of_faces_do_not_matter(seed):
    points, faces = soup(seed)
    order = torch.tensor(np.random.default_rng(seed).permutation(len(faces)))
    plain, mixed = rasterise(points, faces, SIZE), rasterise(points, faces[order].flip(1), SIZE)
    torch.testing.assert_close(mixed.depth, plain.depth)
    torch.testing.assert_close(torch.where(mixed.mask, order[mixed.face], -1), plain.face)


def test_of_equal_triangles_the_first_is_seen():
    points, faces = soup(0, 1)
    twice = torch.cat([faces, faces, faces])
    assert set(rasterise(points, twice, SIZE).face.flatten().tolist()) == {-1, 0}


@pytest.mark.parametrize("candidates", [3, 50, 1 << 20])
def test_the_size_of_the_chunks_does_not_matter(candidates, monkeypatch):
    points, faces = soup(3, 12)
    plain, seen = rasterise(points, faces, SIZE), visible_vertices(points, faces, SIZE)
    monkeypatch.setattr("sameface.mesh.render.CANDIDATES", {"cpu": candidates})
    again = rasterise(points, faces, SIZE)
    assert torch.equal(again.face, plain.face)
    assert torch.equal(again.weights, plain.weights)
    assert torch.equal(visible_vertices(points, faces, SIZE), seen)


def test_culling_leaves_out_what_is_clockwise_as_seen():
    points = torch.tensor([[[1.0, 1, 1], [9, 1, 1], [1, 8, 1], [9, 8, 1]]])
    faces = torch.tensor([[0, 1, 2], [1, 2, 3]])  # clockwise, counter-clockwise
    assert set(rasterise(points, faces, SIZE, cull=True).face.flatten().tolist()) == {-1, 1}
    front, mesh = (torch.tensor(array) for array in head(32, 0.0, 0.0, 0.0))
    both, one = rasterise(front[None], mesh, (32, 32)), rasterise(front[None], mesh, (32, 32), cull=True)
    assert (both.face == one.face)[both.mask].float().mean() > 0.97  # a face from the front shows its outside
    back = rasterise(front[None] * torch.tensor([-1.0, 1, -1]) + torch.tensor([32.0, 0, 0]), mesh, (32, 32), cull=True)
    assert back.mask.sum() < 0.5 * both.mask.sum()  # and little of it from behind: ears, neck


def test_nothing_to_see():
    corners = torch.tensor([[0, 1, 2]])
    assert not rasterise(torch.zeros(1, 3, 3), corners, SIZE).mask.any()  # no area
    line = torch.tensor([[[0.5, 0.5, 1], [2.5, 2.5, 1], [4.5, 4.5, 1.0]]])
    assert not rasterise(line, corners, SIZE).mask.any()
    assert not rasterise(torch.zeros(2, 3, 3), torch.zeros(0, 3, dtype=torch.int32), SIZE).mask.any()
    assert rasterise(torch.zeros(0, 3, 3), corners, SIZE).face.shape == (0, 9, 11)
    for shift in ([1e9, 0, 0], [-1e9, 0, 0], [0, 40.0, 0], [0, -40.0, 0]):
        far = torch.tensor([[[0, 0, 1], [9, 0, 1], [0, 9.0, 1]]]) + torch.tensor(shift)
        assert not rasterise(far, corners, SIZE).mask.any()


def test_a_triangle_far_larger_than_the_image_covers_it():
    points = torch.tensor([[[-1e7, -1e7, 1], [3e7, -1e7, 1], [-1e7, 3e7, 5.0]]], requires_grad=True)
    fragments = rasterise(points, torch.tensor([[0, 1, 2]]), SIZE)
    assert fragments.mask.all()
    torch.testing.assert_close(fragments.depth, torch.full((1, 9, 11), 2.0), rtol=0, atol=1e-4)
    assert gradient(fragments.weights.square().sum(), points).isfinite().all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"points": torch.tensor([[[0, 0, np.nan], [1, np.inf, 1], [0, 1, 1.0]]])},
            "2 of 3 points are NaN or infinite",
        ),
        ({"faces": torch.tensor([[0, 1, 3]])}, "faces name vertices 0 to 3, but there are 3, counted from 0"),
        ({"faces": torch.tensor([[0, 1, -1]])}, "faces name vertices -1 to 1, but there are 3"),
        ({"size": (0, 5)}, r"must be at least \(1, 1\) px, but is \(0, 5\)"),
        ({"perspective": True}, "2 of 3 vertices lie behind the camera; move it back"),
    ],
)
def test_what_cannot_be_drawn_is_refused(change, message):
    plain = {"points": torch.tensor([[[0, 0, -1], [5, 0, 0], [0, 5, 1.0]]]), "faces": torch.tensor([[0, 1, 2]])}
    for function in (rasterise, visible_vertices):
        with pytest.raises(ValueError, match=message):
            function(**(plain | {"size": (5, 5)} | change))


# ── where in it ────────────────────────────────────────────────────────────────────────────────────────────


def test_interpolation_of_the_positions_gives_the_pixel_centres():
    points, faces = soup(1)
    fragments = rasterise(points, faces, SIZE)
    found = interpolate(points, fragments)
    _, j, i = torch.nonzero(fragments.mask).T
    torch.testing.assert_close(found[:, :2].permute(0, 2, 3, 1)[fragments.mask], torch.stack([i, j], 1).double() + 0.5)
    torch.testing.assert_close(found[:, 2][fragments.mask], fragments.depth[fragments.mask])
    assert not found.permute(0, 2, 3, 1)[~fragments.mask].any()


def test_shared_attributes_are_those_repeated_for_each_image():
    points, faces = soup(2)
    fragments = rasterise(points, faces, SIZE)
    values = torch.rand(24, 5, dtype=torch.float64)
    assert torch.equal(interpolate(values, fragments), interpolate(values.expand(2, -1, -1), fragments))


@pytest.mark.parametrize("shape", [(23, 1), (3, 24, 1), (2, 23, 1)])
def test_attributes_of_other_meshes_are_refused(shape):
    with pytest.raises(ValueError, match=r"but \(2, 24\) were drawn"):
        interpolate(torch.zeros(shape), rasterise(*soup(2), SIZE))


def cast(direction: np.ndarray, corners: np.ndarray) -> tuple[float, np.ndarray] | None:
    """Distance along a ray from the origin, and barycentric weights where it hits (Möller & Trumbore 1997)."""
    first, second = corners[1] - corners[0], corners[2] - corners[0]
    across = np.cross(direction, second)
    t = -corners[0]
    u = t @ across / (first @ across)
    v = direction @ np.cross(t, first) / (first @ across)
    distance = second @ np.cross(t, first) / (first @ across)
    return (distance, np.array([1 - u - v, u, v])) if min(u, v, 1 - u - v) >= 0 and distance > 0 else None


@settings(max_examples=5)
@given(seed=seeds)
def test_perspective_agrees_with_ray_casting(seed):
    rng = np.random.default_rng(seed)
    faces = np.arange(18).reshape(6, 3)
    solid = rng.uniform([-40, -40, 60], [40, 40, 140], (18, 3))
    camera = Perspective(np.eye(3), np.zeros(3), np.array(8.0), np.array([5.2, 4.7]), SIZE)
    points = torch.tensor(raster.screen_points(solid, camera))[None]
    fragments = rasterise(points, torch.tensor(faces), SIZE, perspective=True)
    place = interpolate(torch.tensor(solid), fragments)[0].permute(1, 2, 0).numpy()
    for j in range(SIZE[1]):
        for i in range(SIZE[0]):
            direction = np.array([(i + 0.5 - 5.2) / 8, (j + 0.5 - 4.7) / 8, 1.0])
            found = [(*hit, k) for k, face in enumerate(faces) if (hit := cast(direction, solid[face])) is not None]
            if not found:
                assert fragments.face[0, j, i] == -1
                continue
            distance, weights, number = min(found, key=lambda hit: hit[0])
            assert fragments.face[0, j, i] == number
            np.testing.assert_allclose(fragments.depth[0, j, i], distance)
            np.testing.assert_allclose(fragments.weights[0, j, i], weights, atol=1e-9)
            np.testing.assert_allclose(place[j, i], distance * direction)


@pytest.mark.parametrize("perspective", [False, True])
def test_gradients_of_weights_depth_and_interpolation(perspective):
    points, faces = soup(5, 3)
    points.requires_grad_()
    values = torch.rand(2, 9, 2, dtype=torch.float64, requires_grad=True)

    def draw(points, values):
        fragments = rasterise(points, faces, (5, 4), perspective=perspective)
        return fragments.weights, fragments.depth[fragments.mask], interpolate(values, fragments)

    assert draw(points, values)[1].numel() > 10
    assert gradcheck(draw, (points, values))


def test_gradients_are_finite_on_a_turned_head_with_broken_triangles():
    points, faces = head(48, 0.1, 1.5, 0.0)
    broken = np.array([[0, 0, 1], [7, 7, 7], *faces[:3]], np.int32)  # no area; the same triangle twice
    leaf = torch.tensor(points, dtype=torch.float32)[None].requires_grad_()
    fragments = rasterise(leaf, torch.tensor(np.concatenate([faces, broken])), (48, 48))
    assert (fragments.weight >= 0).all()
    colour = sh_shading(vertex_normals(leaf, torch.tensor(faces)), torch.rand(1, 9, 3))
    picture = interpolate(colour, fragments) + normal_map(vertex_normals(leaf, torch.tensor(faces)), fragments)
    slope = gradient(picture.square().sum() + fragments.depth[fragments.mask].sum(), leaf)
    assert slope.isfinite().all()
    assert slope.abs().sum() > 0


# ── textures and normals ───────────────────────────────────────────────────────────────────────────────────


def test_v_runs_upwards_in_a_texture():
    texture = torch.arange(6.0).reshape(1, 1, 2, 3)  # upper row 0 1 2, lower row 3 4 5
    uv = torch.tensor([[1 / 6, 1 / 4], [5 / 6, 3 / 4], [1 / 2, 1 / 2], [0, 0], [2, 2.0]]).T.reshape(1, 2, 1, 5)
    torch.testing.assert_close(sample_texture(texture, uv)[0, 0, 0], torch.tensor([3, 2, 2.5, 3, 2]))


@settings(max_examples=10)
@given(seed=seeds)
def test_textures_against_a_slow_bilinear_loop(seed):
    rng = np.random.default_rng(seed)
    texture, uv = rng.normal(size=(2, 3, 5, 7)), rng.uniform(-0.1, 1.1, (2, 2, 2, 3))
    found = sample_texture(torch.tensor(texture), torch.tensor(uv)).numpy()
    for b, j, i in np.ndindex(2, 2, 3):
        column, row = np.clip([7 * uv[b, 0, j, i] - 0.5, 5 * (1 - uv[b, 1, j, i]) - 0.5], 0, [6, 4])
        x, y = min(int(column), 5), min(int(row), 3)
        upper = texture[b, :, y, x] * (x + 1 - column) + texture[b, :, y, x + 1] * (column - x)
        lower = texture[b, :, y + 1, x] * (x + 1 - column) + texture[b, :, y + 1, x + 1] * (column - x)
        np.testing.assert_allclose(found[b, :, j, i], upper * (y + 1 - row) + lower * (row - y), atol=1e-9)


def test_one_texture_serves_all_images_and_other_numbers_are_refused():
    uv = torch.rand(3, 2, 4, 4)
    texture = torch.rand(1, 3, 8, 8)
    assert torch.equal(sample_texture(texture, uv), sample_texture(texture.expand(3, -1, -1, -1), uv))
    with pytest.raises(ValueError, match="2 textures for 3 images"):
        sample_texture(texture.expand(2, -1, -1, -1), uv)


def test_gradient_of_a_texture():
    texture = torch.rand(2, 2, 4, 5, dtype=torch.float64, requires_grad=True)
    uv = (torch.rand(2, 2, 2, 3, dtype=torch.float64) * 0.8 + 0.1).requires_grad_()
    assert gradcheck(sample_texture, (texture, uv))


@settings(max_examples=10)
@given(seed=seeds)
def test_normals_are_those_of_the_numpy_formula(seed):
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(2, 7, 3))  # the last has no face
    faces = np.array([[0, 1, 2], [2, 3, 4], [4, 5, 0], [1, 3, 5], [0, 2, 4]])
    ours = vertex_normals(torch.tensor(vertices), torch.tensor(faces))
    np.testing.assert_allclose(ours, geometry.vertex_normals(vertices, faces), atol=1e-9)
    assert not ours[:, 6].any()


def test_gradient_of_the_normals_even_without_faces():
    vertices = torch.rand(2, 6, 3, dtype=torch.float64, requires_grad=True)
    faces = torch.tensor([[0, 1, 2], [2, 3, 4], [0, 2, 4]])
    assert gradcheck(lambda v: vertex_normals(v, faces), vertices)
    assert gradient(vertex_normals(vertices * 0, faces).sum(), vertices).isfinite().all()


def test_the_normal_map_has_unit_length_on_the_mesh_and_is_zero_elsewhere():
    points, faces = soup(6)
    fragments = rasterise(points, faces, SIZE)
    lengths = normal_map(vertex_normals(points, faces), fragments).norm(dim=1)
    torch.testing.assert_close(lengths, fragments.mask.double())


# ── light ──────────────────────────────────────────────────────────────────────────────────────────────────


def sphere(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Directions and weights: Gauss-Legendre in z, the trapezoid rule around it."""
    z, weight = np.polynomial.legendre.leggauss(steps)
    angle = np.arange(2 * steps) * np.pi / steps
    ring = np.sqrt(1 - z**2)[:, None]
    directions = np.stack([ring * np.cos(angle), ring * np.sin(angle), z[:, None] + 0 * angle], -1).reshape(-1, 3)
    return torch.tensor(directions), torch.tensor(np.repeat(weight * np.pi / steps, 2 * steps))


def test_the_basis_is_orthonormal_on_the_sphere():
    directions, weight = sphere(6)  # exact for polynomials of this degree
    basis = sh_basis(directions)
    torch.testing.assert_close(basis.T @ (weight[:, None] * basis), torch.eye(9, dtype=torch.float64))


def test_the_basis_agrees_with_scipy_without_its_alternating_sign():
    directions, _ = sphere(3)
    x, y, z = directions.numpy().T
    theta, phi = np.arccos(z), np.arctan2(y, x)
    for k, (degree, order) in enumerate([(0, 0), (1, -1), (1, 0), (1, 1), (2, -2), (2, -1), (2, 0), (2, 1), (2, 2)]):
        value = sph_harm_y(degree, abs(order), theta, phi)
        part = value.real if order >= 0 else value.imag
        expected = part * (math.sqrt(2) * (-1) ** order if order else 1)
        np.testing.assert_allclose(sh_basis(directions)[:, k], expected, atol=1e-12)


def test_shading_against_a_loop_and_its_gradient():
    normals = torch.nn.functional.normalize(torch.rand(2, 3, 4, 3, dtype=torch.float64), dim=-1)
    light = torch.rand(2, 9, 3, dtype=torch.float64)
    found = sh_shading(normals, light)
    for b, j, i, c in np.ndindex(2, 3, 4, 3):
        slow = sum(light[b, k, c] * sh_basis(normals[b, j, i])[k] for k in range(9))
        np.testing.assert_allclose(found[b, j, i, c], slow)
    assert gradcheck(sh_shading, (normals.requires_grad_(), light.requires_grad_()))


def test_diffuse_light_is_the_integral_over_the_upper_half():
    """shading(n) = (1/π) ∫ L(ω) max(0, n · ω) dω."""
    directions, weight = sphere(100)
    radiance = torch.rand(1, 9, 3, dtype=torch.float64) - 0.3
    normals = torch.nn.functional.normalize(torch.rand(5, 3, dtype=torch.float64) - 0.5, dim=-1)
    sky = sh_basis(directions) @ radiance[0]
    cosine = (normals @ directions.T).clamp_min(0)
    expected = (cosine * weight) @ sky / math.pi
    torch.testing.assert_close(sh_shading(normals[None], diffuse(radiance))[0], expected, rtol=1e-3, atol=1e-3)
    uniform = torch.zeros(1, 9, 3)
    uniform[:, 0] = math.sqrt(4 * math.pi)
    torch.testing.assert_close(sh_shading(normals[None].float(), diffuse(uniform)), torch.ones(1, 5, 3))


def test_a_light_of_deep3d_becomes_ours():
    """The shading that its formula gives for coefficients 1 … 9 and the normal (0.48, 0.6, 0.64)."""
    factor = torch.tensor([1] + 3 * [2 / math.sqrt(3)] + 5 * [2 / math.sqrt(8)]) * math.pi
    factor = factor * torch.tensor([1.0, -1, 1, -1, 1, -1, 1, -1, 1])
    light = (torch.arange(1.0, 10) * factor)[None, :, None].expand(1, 9, 3)
    found = sh_shading(torch.tensor([[[0.48, 0.6, 0.64]]]), light)
    torch.testing.assert_close(found, torch.full((1, 1, 3), DEEP3D))


def test_lamps_by_hand():
    points, normals = torch.zeros(1, 2, 3), torch.tensor([[[0.0, 0, 1], [0, 0, -1]]])
    lamps = torch.tensor([[[0.0, 0, 1000], [0, 2000, 2000]]])
    colours = torch.tensor([[[1.0, 0, 0], [0, 8, 0]]])
    expected = torch.tensor([[[1, math.sqrt(0.5), 0], [0, 0, 0]]])  # the second: 8 · cos 45° · 1/8
    torch.testing.assert_close(point_lights(points, normals, lamps, colours), expected)
    as_image = point_lights(points.reshape(1, 2, 1, 3), normals.reshape(1, 2, 1, 3), lamps, colours)
    assert torch.equal(as_image.reshape(1, 2, 3), expected)


def test_gradient_of_lamps_even_on_the_surface():
    rng = np.random.default_rng(0)
    leaves = [torch.tensor(rng.normal(size=shape)) for shape in [(2, 4, 3), (2, 4, 3), (2, 2, 3), (2, 2, 3)]]
    leaves[2] *= 10
    assert gradcheck(point_lights, [leaf.requires_grad_() for leaf in leaves])
    touching = torch.zeros(1, 1, 3, requires_grad=True)
    light = point_lights(touching, torch.ones(1, 1, 3), torch.zeros(1, 1, 3), torch.ones(1, 1, 3))
    assert gradient(light.sum(), touching).isfinite().all()


# ── visibility of vertices and cameras ─────────────────────────────────────────────────────────────────────


@settings(max_examples=8)
@given(seed=seeds, perspective=st.booleans())
def test_visible_vertices_against_a_slow_loop(seed, perspective):
    points, _ = soup(seed)
    faces = torch.tensor(np.random.default_rng(seed).integers(0, 24, (14, 3)))  # triangles share corners
    found = visible_vertices(points, faces, SIZE, perspective=perspective)
    for b, v in np.ndindex(2, 24):
        x, y, z = points[b, v].numpy()
        seen = 0 <= x <= SIZE[0] and 0 <= y <= SIZE[1]
        for face in faces.numpy():
            corners = points[b].numpy()[face]
            if v in face or (weights := belongs(x, y, corners)) is None:
                continue
            depth = 1 / (weights @ (1 / corners[:, 2])) if perspective else weights @ corners[:, 2]
            seen = seen and depth > z - 1e-3
        assert found[b, v] == seen


def test_a_head_hides_its_other_side():
    points, faces = head(128, 0.0, 1.2, 0.0)  # the nose points right: the subject's left cheek is what one sees
    model = morphable.default()
    seen = visible_vertices(torch.tensor(points)[None], torch.tensor(faces), (128, 128))[0].numpy()
    landmarks = model.landmarks(model.mean)
    eyes = [landmarks[36:42].mean(0), landmarks[42:48].mean(0)]
    near = [np.linalg.norm(model.mean - eye - [0, -25, 0], axis=1) < 12 for eye in eyes]  # the cheeks
    assert sorted(seen[cheek].mean() > 0.5 for cheek in near) == [False, True]


def test_a_tolerance_forgives_what_lies_just_behind():
    points = torch.tensor([[[0.0, 0, 1], [9, 0, 1], [0, 9, 1], [2, 2, 1.5]]])
    faces = torch.tensor([[0, 1, 2]])
    assert visible_vertices(points, faces, SIZE)[0].tolist() == [True, True, True, False]
    assert visible_vertices(points, faces, SIZE, tolerance=0.6).all()
    assert visible_vertices(points, torch.zeros(0, 3, dtype=torch.int64), SIZE).all()


def test_screen_points_are_those_of_the_numpy_function():
    rng = np.random.default_rng(0)
    vertices = rng.normal(size=(9, 3)) * 50
    rotation = rotation_from_euler(np.array(0.1), np.array(0.2), np.array(0.3))
    weak = WeakPerspective(rotation, np.array([50.0, 40.0]), np.array(0.5), (100, 80))
    strong = Perspective(rotation, np.array([0, 0, 600.0]), np.array(300.0), np.array([50.0, 40.0]), (100, 80))
    for camera in (weak, strong):
        ours = screen_points(torch.tensor(vertices)[None], camera.map(lambda array: torch.tensor(array)[None]))
        np.testing.assert_allclose(ours[0], raster.screen_points(vertices, camera))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device: the renderer is NOT tested on one")
def test_a_gpu_draws_the_same_as_a_cpu():
    points, faces = (torch.tensor(array) for array in head(64, 0.2, 0.7, -0.1))
    here, there = rasterise(points[None], faces, (64, 64)), rasterise(points[None].cuda(), faces.cuda(), (64, 64))
    assert torch.equal(here.face, there.face.cpu())
    torch.testing.assert_close(here.weights, there.weights.cpu())
    seen = visible_vertices(points[None].cuda(), faces.cuda(), (64, 64))
    assert torch.equal(seen.cpu(), visible_vertices(points[None], faces, (64, 64)))
    assert render.CANDIDATES["cuda"]
