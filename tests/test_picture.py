"""Pictures of meshes: where things appear, in which colours, and that edges are smooth."""

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st

from sameface.core.camera import Perspective, WeakPerspective
from sameface.core.geometry import rotation_from_euler
from sameface.reconstruction.picture import contact_sheet, overlay, render, render_both, shade

FRONTAL = np.diag([1.0, -1.0, -1.0])


@pytest.fixture(scope="module")
def ball() -> tuple[np.ndarray, np.ndarray]:
    """A sphere of 40 mm."""
    sphere = trimesh.creation.icosphere(subdivisions=3, radius=40.0)
    return np.asarray(sphere.vertices, np.float32), np.asarray(sphere.faces, np.int32)


def camera(
    size: tuple[int, int] = (120, 100), scale: float = 1.0, at: tuple[float, float] = (60.0, 50.0)
) -> WeakPerspective:
    return WeakPerspective(FRONTAL, np.array(at), np.array(scale), size)


def test_the_ball_lies_where_the_camera_puts_it(ball):
    image = render(*ball, camera(at=(70.0, 45.0)), background=(0, 0, 0))
    rows, columns = np.nonzero(image.max(2) > 0)
    assert image.shape == (100, 120, 3)
    np.testing.assert_allclose([columns.min(), columns.max() + 1, rows.min(), rows.max() + 1], [30, 110, 5, 85], atol=1)


def test_edges_are_half_covered_in_linear_light(ball):
    """A white square ending in the middle of a pixel: that pixel is sRGB 188 (0.5 linear), not 128."""
    square = np.array([[0, 0, 0], [9.5, 0, 0], [9.5, 9, 0], [0, 9, 0]], np.float32)
    faces = np.array([[0, 2, 1], [0, 3, 2]])  # their inner side faces the viewer; only the cover matters here
    flat = WeakPerspective(np.eye(3), np.zeros(2), np.array(1.0), (12, 12))
    black = np.zeros((4, 3), np.uint8)
    image = render(square, faces, flat, colours=black, background=(255, 255, 255)).astype(int)
    assert image[4, 11].tolist() == [255] * 3
    assert np.abs(image[4, 9] - 188).max() <= 6  # the sheen adds a little
    assert image[4, 4].max() < 60


def test_light_comes_from_the_upper_left(ball):
    image = render(*ball, camera(), background=(0, 0, 0)).astype(int)
    assert image[35, 45].mean() > image[65, 75].mean() + 30


def test_shading_is_finite_and_follows_albedo():
    normals = np.random.default_rng(0).normal(size=(500, 3))
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    dark, light = (shade(normals, np.full((500, 3), a)) for a in (0.1, 0.8))
    assert np.isfinite(light).all()
    assert (light >= dark).all()
    assert light.max() < 1.2
    assert shade(np.array([[0.0, 0.0, -1.0]]), np.full((1, 3), 0.6)).mean() > 0.4


def test_the_inner_side_is_dark(ball):
    vertices, faces = ball
    outside, inside = (render(vertices, f, camera(), background=(0, 0, 0)) for f in (faces, faces[:, ::-1]))
    assert inside[50, 60].mean() < 0.7 * outside[50, 60].mean()


def test_vertex_colours_and_backgrounds_show(ball):
    vertices, faces = ball
    red = np.tile(np.array([[200, 20, 20]], np.uint8), (len(vertices), 1))
    behind = np.zeros((100, 120, 3), np.uint8)
    behind[..., 2] = np.arange(120)
    image = render(vertices, faces, camera(), colours=red, background=behind).astype(int)
    assert image[45, 55, 0] > 2 * image[45, 55, 1]
    np.testing.assert_allclose(image[0], behind[0], atol=1)
    assert render(vertices, faces, camera())[0, 0].min() > 150  # the default is light


def test_a_texture_is_shown_as_it_is(ball):
    """uv is the frontal view, so the texture appears as it lies in its file: red above, blue to the right."""
    vertices, faces = ball
    painted = np.zeros((80, 80, 3), np.uint8)
    painted[:40, :, 0], painted[:, 40:, 2] = 200, 150
    image = render(vertices, faces, camera(), skin=(painted, vertices[:, :2] / 80 + 0.5)).astype(int)
    for place, colour in {(40, 50): [200, 0, 0], (40, 70): [200, 0, 150], (60, 70): [0, 0, 150]}.items():
        np.testing.assert_allclose(image[place], colour, atol=1)


def test_a_background_of_another_size_is_refused(ball):
    with pytest.raises(ValueError, match=r"the background has \(10, 10\) pixels, but the camera has \(120, 100\)"):
        render(*ball, camera(), background=np.zeros((10, 10, 3), np.uint8))


def test_perspective_cameras_render_too(ball):
    near = Perspective(FRONTAL, np.array([0, 0, 300.0]), np.array(300.0), np.array([60.0, 50.0]), (120, 100))
    rows, _ = np.nonzero(render(*ball, near, background=(0, 0, 0)).max(2) > 0)
    silhouette = 300 * 40 / np.sqrt(300**2 - 40**2)
    np.testing.assert_allclose(rows.max() + 1 - rows.min(), 2 * silhouette, atol=1.5)


@settings(max_examples=10, deadline=None)
@given(yaw=st.floats(-3, 3), pitch=st.floats(-1, 1))
def test_any_pose_renders(ball, yaw, pitch):
    rotation = rotation_from_euler(np.array(pitch), np.array(yaw), np.array(0.0))
    view = WeakPerspective(rotation, np.array([30.0, 25.0]), np.array(0.5), (60, 50))
    assert render(*ball, view).shape == (50, 60, 3)


def test_overlay_is_the_photo_away_from_the_mesh_and_clay_on_it(ball):
    photo = np.full((1000, 1200, 3), (10, 200, 30), np.uint8)
    image = overlay(photo, *ball, camera((1200, 1000), 10.0, (600.0, 500.0)), opacity=1.0, margin=0.05)
    assert max(image.shape[:2]) == 880
    np.testing.assert_allclose(image[3, 3], [10, 200, 30], atol=1)
    assert np.ptp(image[440, 440].astype(int)) < 40  # grey
    clear = overlay(photo, *ball, camera((1200, 1000), 10.0, (600.0, 500.0)), opacity=0.0)
    np.testing.assert_allclose(clear, np.broadcast_to(photo[0, 0], clear.shape), atol=1)


def test_overlays_of_large_and_small_photos_have_a_handy_size(ball):
    large = overlay(np.zeros((3000, 4000, 3), np.uint8), *ball, camera((4000, 3000), 30.0, (2000.0, 1500.0)))
    small = overlay(np.zeros((100, 120, 3), np.uint8), *ball, camera())
    assert max(large.shape) == 1000
    assert max(small.shape) == 640


def test_overlay_keeps_to_the_photo_at_its_border(ball):
    image = overlay(np.zeros((100, 120, 3), np.uint8), *ball, camera(at=(0.0, 0.0)), margin=0.0)
    assert image.shape == (640, 640, 3)
    assert image[5, 5].max() > 50  # the ball's centre lies in the corner


def test_landmarks_are_drawn_where_they_are(ball):
    photo = np.zeros((1000, 1200, 3), np.uint8)
    view = camera((1200, 1000), 10.0, (600.0, 500.0))
    plain = overlay(photo, *ball, view, margin=0.05)
    dotted = overlay(photo, *ball, view, margin=0.05, landmarks=np.array([[600.0, 500.0], [np.nan, 0.0]]))
    rows, columns = np.nonzero((plain != dotted).any(2))
    np.testing.assert_allclose([rows.mean() + 0.5, columns.mean() + 0.5], [440, 440], atol=0.6)
    assert np.ptp(rows) < 14


def test_wireframe_draws_lines(ball):
    photo = np.zeros((1000, 1200, 3), np.uint8)
    image = overlay(photo, *ball, camera((1200, 1000), 10.0, (600.0, 500.0)), wireframe=True)
    assert 0.01 < (image.max(2) > 40).mean() < 0.6


def test_a_mesh_outside_its_photo_is_an_error(ball):
    with pytest.raises(ValueError, match=r"the mesh lies outside the photo: around .* of 120×100 px"):
        overlay(np.zeros((100, 120, 3), np.uint8), *ball, camera(at=(5000.0, 50.0)))


def test_contact_sheet_places_every_picture():
    colours = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    images = [np.full((50, 40 + 5 * k, 3), c, np.uint8) for k, c in enumerate(colours)]
    sheet = contact_sheet(images, 2, ["eins", "zwei", "Ändern 3"], height=200).astype(int)
    for colour, (row, column) in zip(colours, [(0.2, 0.25), (0.2, 0.75), (0.7, 0.25)], strict=True):
        assert sheet[int(row * sheet.shape[0]), int(column * sheet.shape[1])].tolist() == list(colour)
    assert sheet[-1, -1].tolist() == [255, 255, 255]
    assert contact_sheet(images, 9, height=100).shape[1] < 3 * 150


def test_contact_sheet_errors():
    with pytest.raises(ValueError, match="needs pictures and columns, but has 0 and 2"):
        contact_sheet([], 2)
    with pytest.raises(ValueError, match="1 pictures have 2 titles"):
        contact_sheet([np.zeros((9, 9, 3), np.uint8)], 2, ["a", "b"])


def test_of_a_closed_mesh_nothing_is_lost_with_what_looks_away(ball):
    vertices, faces = ball
    colours = np.random.default_rng(0).integers(0, 255, (len(vertices), 3), np.uint8)
    skin = (np.arange(192, dtype=np.uint8).reshape(8, 8, 3), 0.5 + vertices[:, :2] / 100)
    whole, front = (
        render_both(vertices, faces, camera(), colours, skin, closed=closed) for closed in (False, True)
    )  # fmt: skip
    for one, other in zip(whole, front, strict=True):
        assert one.std() > 5
        assert (one != other).mean() < 0.01  # a pixel whose centre lies on the outline, if any
