"""Meshes out: read back by an independent reader, or, where that would forgive, by hand."""

import errno
import json
import os
from pathlib import Path

import numpy as np
import pytest
import trimesh
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from sameface import __version__
from sameface.core.errors import BadOutput
from sameface.core.files import write_file
from sameface.core.geometry import vertex_normals
from sameface.mesh.glb import write_glb
from sameface.mesh.write import write_obj, write_ply

Mesh = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


@pytest.fixture(scope="module")
def ball() -> Mesh:
    """Vertices (mm), faces, unit normals and uv of an icosphere."""
    sphere = trimesh.creation.icosphere(subdivisions=2, radius=80.0)
    vertices = np.asarray(sphere.vertices, np.float32)
    faces = np.asarray(sphere.faces, np.int32)
    uv = (vertices[:, :2] / 200 + 0.5).astype(np.float32)
    return vertices, faces, vertex_normals(vertices, faces), uv


@pytest.fixture(scope="module")
def texture() -> np.ndarray:
    y, x = np.mgrid[0:64, 0:64].astype(np.uint8)
    return np.stack([4 * x, 4 * y, 0 * x], -1)


def reread(path: Path) -> trimesh.Trimesh:
    (mesh,) = trimesh.load_scene(path, process=False).geometry.values()
    return mesh


def glb_parts(path: Path) -> tuple[dict, bytes]:
    data = path.read_bytes()
    assert data[:8] == b"glTF\x02\0\0\0"
    assert int.from_bytes(data[8:12], "little") == len(data)
    length = int.from_bytes(data[12:16], "little")
    assert data[16:20] == b"JSON"
    binary = data[20 + length :]
    assert binary[4:8] == b"BIN\0"
    assert length % 4 == len(binary) % 4 == 0
    return json.loads(data[20 : 20 + length]), binary[8:]


def accessor(document: dict, binary: bytes, index: int) -> np.ndarray:
    """An accessor's values, sparse ones included, by the letter of the specification."""
    kinds = {5126: "<f4", 5123: "<u2", 5125: "<u4"}
    entry = document["accessors"][index]
    width = {"SCALAR": 1, "VEC2": 2, "VEC3": 3}[entry["type"]]

    def view(number: int, kind: str, count: int) -> np.ndarray:
        found = document["bufferViews"][number]
        assert found["byteOffset"] % 4 == 0
        return np.frombuffer(binary, kind, count, found["byteOffset"])

    kind = kinds[entry["componentType"]]
    out = np.zeros(entry["count"] * width, kind)
    if "bufferView" in entry:
        out[:] = view(entry["bufferView"], kind, entry["count"] * width)
    out = out.reshape(-1, width)
    if "sparse" in entry:
        sparse = entry["sparse"]
        rows = view(sparse["indices"]["bufferView"], kinds[sparse["indices"]["componentType"]], sparse["count"])
        assert (np.diff(rows.astype(int)) > 0).all()
        out[rows] = view(sparse["values"]["bufferView"], kind, sparse["count"] * width).reshape(-1, width)
    if "min" in entry:
        np.testing.assert_array_equal(out.min(0), np.array(entry["min"], np.float32))
        np.testing.assert_array_equal(out.max(0), np.array(entry["max"], np.float32))
    return out


def test_obj_of_a_triangle_by_hand(tmp_path):
    corners = np.array([[0, 0, 0], [10, 0, 0], [0, 10.5, -1]], np.float32)
    up = np.tile(np.array([[0, 0, 1]], np.float32), (3, 1))
    write_obj(tmp_path / "t.obj", corners, np.array([[0, 1, 2]]), normals=up)
    assert (tmp_path / "t.obj").read_text().splitlines() == [
        "# sameface, millimetres",
        "v 0.0000 0.0000 0.0000",
        "v 10.0000 0.0000 0.0000",
        "v 0.0000 10.5000 -1.0000",
        *["vn 0.0000 0.0000 1.0000"] * 3,
        "f 1//1 2//2 3//3",
    ]


@pytest.mark.parametrize("with_normals", [False, True])
@pytest.mark.parametrize("with_uv", [False, True])
def test_obj_reads_back(ball, tmp_path, with_normals, with_uv):
    vertices, faces, normals, uv = ball
    path = tmp_path / "ball.obj"
    write_obj(path, vertices, faces, normals=normals if with_normals else None, uv=uv if with_uv else None)
    mesh = reread(path)
    np.testing.assert_allclose(mesh.vertices, vertices, atol=5.1e-5)
    np.testing.assert_array_equal(mesh.faces, faces)
    if with_normals:
        np.testing.assert_allclose(mesh.vertex_normals, normals, atol=1e-4)
    if with_uv:
        np.testing.assert_allclose(mesh.visual.uv, uv, atol=1e-6)


def test_obj_texture_lies_beside_it(ball, texture, tmp_path):
    vertices, faces, normals, uv = ball
    write_obj(tmp_path / "ball.obj", vertices, faces, normals=normals, uv=uv, texture=texture)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ball.mtl", "ball.obj", "ball.png"]
    np.testing.assert_array_equal(
        np.asarray(reread(tmp_path / "ball.obj").visual.material.image.convert("RGB")), texture
    )


def test_the_faces_of_another_mesh_are_not_reused(ball, tmp_path):
    vertices, faces, *_ = ball
    write_obj(tmp_path / "a.obj", vertices, faces)
    write_obj(tmp_path / "b.obj", vertices, np.ascontiguousarray(faces[:, ::-1]))
    np.testing.assert_array_equal(reread(tmp_path / "b.obj").faces, faces[:, ::-1])


@pytest.mark.parametrize("with_normals", [False, True])
@pytest.mark.parametrize("with_colours", [False, True])
def test_ply_reads_back(ball, tmp_path, with_normals, with_colours):
    vertices, faces, normals, _ = ball
    colours = np.random.default_rng(0).integers(0, 256, vertices.shape, dtype=np.uint8)
    path = tmp_path / "ball.ply"
    write_ply(
        path, vertices, faces, normals=normals if with_normals else None, colours=colours if with_colours else None
    )
    mesh = reread(path)
    np.testing.assert_array_equal(mesh.vertices, vertices)
    np.testing.assert_array_equal(mesh.faces, faces)
    if with_normals:
        np.testing.assert_allclose(mesh.vertex_normals, normals, atol=1e-6)
    if with_colours:
        np.testing.assert_array_equal(mesh.visual.vertex_colors[:, :3], colours)


def test_glb_is_in_metres_and_reads_back(ball, texture, tmp_path):
    vertices, faces, normals, uv = ball
    path = tmp_path / "ball.glb"
    write_glb(path, vertices, faces, normals=normals, uv=uv, texture=texture, lossless=True)
    mesh = reread(path)
    np.testing.assert_allclose(mesh.vertices, vertices / 1000, atol=1e-8)
    np.testing.assert_array_equal(mesh.faces, faces)
    np.testing.assert_allclose(mesh.vertex_normals, normals, atol=1e-6)
    np.testing.assert_allclose(mesh.visual.uv, uv, atol=1e-6)
    np.testing.assert_array_equal(np.asarray(mesh.visual.material.baseColorTexture.convert("RGB")), texture)


def test_glb_texture_is_jpeg_by_default(ball, texture, tmp_path):
    vertices, faces, _, uv = ball
    write_glb(tmp_path / "ball.glb", vertices, faces, uv=uv, texture=texture)
    found = reread(tmp_path / "ball.glb").visual.material.baseColorTexture
    assert np.abs(np.asarray(found).astype(int) - texture).mean() < 6
    document, binary = glb_parts(tmp_path / "ball.glb")
    start = document["bufferViews"][document["images"][0]["bufferView"]]["byteOffset"]
    assert document["images"][0]["mimeType"] == "image/jpeg"
    assert binary[start : start + 3] == b"\xff\xd8\xff"


def test_glb_blendshapes_are_morph_targets_by_name(ball, tmp_path):
    vertices, faces, *_ = ball
    rng = np.random.default_rng(1)
    few = np.where(np.arange(len(vertices))[:, None] < 9, rng.normal(size=vertices.shape), 0).astype(np.float32)
    targets = {"jawOpen": few, "browInnerUp": rng.normal(size=vertices.shape), "tongueOut": np.zeros(vertices.shape)}
    write_glb(tmp_path / "ball.glb", vertices, faces, morph_targets=targets)
    document, binary = glb_parts(tmp_path / "ball.glb")
    mesh = document["meshes"][0]
    assert mesh["extras"]["targetNames"] == ["jawOpen", "browInnerUp", "tongueOut"]
    assert mesh["weights"] == [0, 0, 0]
    for target, offsets in zip(mesh["primitives"][0]["targets"], targets.values(), strict=True):
        np.testing.assert_allclose(accessor(document, binary, target["POSITION"]), offsets / 1000, atol=1.001e-5)
    entries = [document["accessors"][t["POSITION"]] for t in mesh["primitives"][0]["targets"]]
    assert ["sparse" in entry for entry in entries] == [True, False, True]


def test_glb_blendshapes_turn_the_normals(ball, tmp_path):
    """At full weight the normals are those of the moved mesh, whole or sparse, but for a degree."""
    vertices, faces, *_ = ball
    rng = np.random.default_rng(2)
    some = np.where(vertices[:, :1] > 0.7 * vertices[:, 0].max(), 4 * rng.normal(size=vertices.shape), 0)
    targets = {"few": some, "all": vertices * [0.5, 0, 0], "none": np.zeros(vertices.shape)}
    write_glb(tmp_path / "ball.glb", vertices, faces, morph_targets=targets)
    document, binary = glb_parts(tmp_path / "ball.glb")
    (primitive,) = document["meshes"][0]["primitives"]
    still = accessor(document, binary, primitive["attributes"]["NORMAL"])
    entries = [document["accessors"][one["NORMAL"]] for one in primitive["targets"]]
    assert ["sparse" in entry for entry in entries] == [True, False, True]
    for target, offsets in zip(primitive["targets"], targets.values(), strict=True):
        expected = vertex_normals(vertices + offsets, faces)
        found = still + accessor(document, binary, target["NORMAL"])
        assert np.abs(found - expected).max() <= 0.0201
    assert np.abs(still - vertex_normals(vertices + some, faces)).max() > 0.1


def test_a_triangle_that_a_blendshape_flattens_has_its_old_normal(tmp_path):
    corners, face = np.array([[0.0, 0, 0], [9, 0, 0], [0, 9, 0]], np.float32), np.array([[0, 1, 2]])
    flat = np.array([[0.0, 0, 0], [0, 0, 0], [0, -9, 0]])
    write_glb(tmp_path / "a.glb", corners, face, morph_targets={"flat": flat})
    document, binary = glb_parts(tmp_path / "a.glb")
    target = document["meshes"][0]["primitives"][0]["targets"][0]
    np.testing.assert_array_equal(accessor(document, binary, target["NORMAL"]), 0)


def test_glb_says_who_made_it_and_what_viewers_trip_over(ball, texture, tmp_path):
    vertices, faces, _, uv = ball
    few = np.where(np.arange(len(vertices))[:, None] < 9, 1.0, 0) * np.ones(3)
    write_glb(tmp_path / "a.glb", vertices, faces, uv=uv, texture=texture, unlit=True, morph_targets={"a": few},
              licence="MIT; Copyright (c) somebody")  # fmt: skip
    document, _ = glb_parts(tmp_path / "a.glb")
    assert document["asset"] == {
        "version": "2.0", "generator": f"sameface {__version__}", "copyright": "MIT; Copyright (c) somebody",
        "extras": {"license": "MIT"},
    }  # fmt: skip
    assert [image["name"] for image in document["images"]] == ["skin"]
    assert document["extensionsUsed"] == ["KHR_materials_unlit"]
    assert document["materials"][0]["extensions"] == {"KHR_materials_unlit": {}}
    for one in document["accessors"]:  # VTK takes no accessor without, though 0 is the default
        for place in (one["sparse"]["indices"], one["sparse"]["values"]) if "sparse" in one else (one,):
            assert place["byteOffset"] == 0
    write_glb(tmp_path / "b.glb", vertices, faces)
    plain, _ = glb_parts(tmp_path / "b.glb")
    assert "extensionsUsed" not in plain
    assert "copyright" not in plain["asset"]


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), count=st.integers(3, 40))
def test_glb_holds_any_mesh(tmp_path_factory, seed, count):
    rng = np.random.default_rng(seed)
    vertices = rng.normal(size=(count, 3)).astype(np.float32) * 100
    faces = rng.integers(0, count, (2 * count, 3))
    path = tmp_path_factory.mktemp("glb") / "any.glb"
    write_glb(path, vertices, faces, uv=rng.random((count, 2)).astype(np.float32))
    document, binary = glb_parts(path)
    primitive = document["meshes"][0]["primitives"][0]
    attributes = {name: accessor(document, binary, at) for name, at in primitive["attributes"].items()}
    np.testing.assert_allclose(attributes["POSITION"], vertices / 1000, rtol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(attributes["NORMAL"], axis=1), 1, atol=1e-5)
    np.testing.assert_array_equal(accessor(document, binary, primitive["indices"]).ravel(), faces.ravel())


def test_large_meshes_get_wide_indices(tmp_path):
    vertices = np.random.default_rng(0).normal(size=(65536, 3)).astype(np.float32)
    faces = np.array([[0, 1, 65535]])
    few = np.zeros_like(vertices)
    few[65535] = 1
    write_glb(tmp_path / "large.glb", vertices, faces, morph_targets={"jawOpen": few})
    document, binary = glb_parts(tmp_path / "large.glb")
    primitive = document["meshes"][0]["primitives"][0]
    assert accessor(document, binary, primitive["indices"]).ravel().tolist() == [0, 1, 65535]
    assert accessor(document, binary, primitive["targets"][0]["POSITION"])[65535, 0] == np.float32(0.001)


@pytest.mark.parametrize("write", [write_obj, write_ply, write_glb])
def test_bad_meshes_are_refused_in_words(ball, tmp_path, write):
    vertices, faces, *_ = ball
    broken = vertices.copy()
    broken[3, 1] = np.nan
    with pytest.raises(ValueError, match="1 of 162 vertices are NaN"):
        write(tmp_path / "x", broken, faces)
    with pytest.raises(ValueError, match=r"faces name vertices 0\.\.161, but there are 100"):
        write(tmp_path / "x", vertices[:100], faces)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("write", [write_obj, write_glb])
def test_a_texture_without_uv_is_refused(ball, texture, tmp_path, write):
    with pytest.raises(ValueError, match="a texture needs uv"):
        write(tmp_path / "x", *ball[:2], texture=texture)


def test_a_morph_target_of_another_size_is_refused(ball, tmp_path):
    with pytest.raises(ValueError, match=r"'jawOpen' must be \(162, 3\) finite offsets in mm, but has \(2, 3\)"):
        write_glb(tmp_path / "x.glb", *ball[:2], morph_targets={"jawOpen": np.zeros((2, 3))})


def test_what_cannot_be_written_says_where_and_why(tmp_path):
    with pytest.raises(BadOutput, match=r"gone/x\.ply cannot be written \(there is no folder .*gone\)"):
        write_file(tmp_path / "gone" / "x.ply", b"1")
    (tmp_path / "folder").mkdir()
    with pytest.raises(BadOutput, match=r"folder is a folder, and is not written over"):
        write_file(tmp_path / "folder", b"1")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    (tmp_path / "x.obj").write_text("old")

    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(BadOutput, match="No space left on device"):
        write_file(tmp_path / "x.obj", b"new", durable=True)
    assert [p.name for p in tmp_path.iterdir()] == ["x.obj"]
    assert (tmp_path / "x.obj").read_text() == "old"


def test_textures_are_rgb(tmp_path, ball):
    vertices, faces, _, uv = ball
    red = np.zeros((8, 8, 3), np.uint8)
    red[..., 0] = 255
    write_obj(tmp_path / "red.obj", vertices, faces, uv=uv, texture=red)
    assert Image.open(tmp_path / "red.png").getpixel((0, 0)) == (255, 0, 0)
