"""Mesh files of others: the same as trimesh reads, and a clear word for every kind of broken file."""

import numpy as np
import pytest
import trimesh

from sameface.core.errors import BadData
from sameface.mesh import read
from sameface.mesh.read import read_mesh, read_obj, read_picked_points, read_ply, read_wrl
from sameface.mesh.write import write_obj, write_ply
from scan_meshes import bowl

VERTICES, FACES = bowl(5, 6)
COLOURS = np.full((len(VERTICES), 3), 200, np.uint8)


def same(path) -> None:
    ours, theirs = read_mesh(path), trimesh.load(path, process=False)
    np.testing.assert_allclose(ours.vertices, theirs.vertices, atol=1e-6)
    np.testing.assert_array_equal(ours.faces, theirs.faces)
    np.testing.assert_allclose(ours.vertices, VERTICES, atol=1e-3)
    np.testing.assert_array_equal(ours.faces, FACES)


def test_obj_files_of_ours_and_of_trimesh(tmp_path):
    normals = np.tile([0.0, 0, 1], (len(VERTICES), 1))
    write_obj(tmp_path / "a.obj", VERTICES, FACES, normals=normals, uv=VERTICES[:, :2] / 300 + 0.5)
    same(tmp_path / "a.obj")
    trimesh.Trimesh(VERTICES, FACES, vertex_colors=COLOURS, process=False).export(tmp_path / "b.obj")
    same(tmp_path / "b.obj")


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_little_endian"])
def test_ply_files_of_trimesh(tmp_path, encoding):
    mesh = trimesh.Trimesh(VERTICES, FACES, vertex_colors=COLOURS, process=False)
    mesh.export(tmp_path / "a.ply", encoding=encoding)
    same(tmp_path / "a.ply")


def test_ply_files_of_ours(tmp_path):
    write_ply(tmp_path / "a.ply", VERTICES.astype(np.float32), FACES, colours=COLOURS)
    same(tmp_path / "a.ply")


def test_obj_by_hand(tmp_path):
    points = "# quad, colours, slashes\nv 0 0 0 .5 .5 .5\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvn 0 0 1\n"
    (tmp_path / "a.obj").write_text(points + "f 1//1 2//1 3//1 4//1\nf -4/7 -3 -1\n")
    mesh = read_obj(tmp_path / "a.obj")
    assert mesh.vertices.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]]
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 3]]


HEADER = "ply\nformat {0}\ncomment x\nelement vertex 4\nproperty float x\nproperty float y\nproperty float z\n"
LISTS = "element face 2\nproperty list uchar int vertex_indices\nend_header\n"
CORNERS = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], "f4")


@pytest.mark.parametrize("order", [None, "<", ">"])
def test_ply_with_polygons_of_different_sizes(tmp_path, order):
    name = {None: "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    head = (HEADER + LISTS).format(name + " 1.0").encode()
    if order is None:
        body = b"\n".join(b" ".join(b"%g" % x for x in row) for row in CORNERS) + b"\n4 0 1 2 3\n3 0 1 3\n"
    else:
        one = b"\x04" + np.array([0, 1, 2, 3], order + "i4").tobytes()
        body = CORNERS.astype(order + "f4").tobytes() + one + b"\x03" + np.array([0, 1, 3], order + "i4").tobytes()
    (tmp_path / "a.ply").write_bytes(head + body)
    mesh = read_ply(tmp_path / "a.ply")
    assert mesh.vertices.tolist() == CORNERS.tolist()
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3], [0, 1, 3]]


def test_ply_without_faces_is_a_cloud_of_points(tmp_path):
    (tmp_path / "a.ply").write_bytes(HEADER.format("ascii 1.0").encode() + b"end_header\n" + b"0 0 0\n" * 4)
    assert read_ply(tmp_path / "a.ply").faces.shape == (0, 3)


def test_ply_with_an_empty_list_and_a_list_after_a_number(tmp_path):
    head = HEADER + "element face 2\nproperty uchar flag\nproperty list uchar int vertex_index\nend_header\n"
    rows = b"\x07\x00" + b"\x07\x03" + np.array([0, 1, 2], "<i4").tobytes()
    (tmp_path / "a.ply").write_bytes(head.format("binary_little_endian 1.0").encode() + CORNERS.tobytes() + rows)
    assert read_ply(tmp_path / "a.ply").faces.tolist() == [[0, 1, 2]]


STRIP = "element tristrips {0}\nproperty list int int vertex_indices\nend_header\n"
ROW = np.array([[0, 0, 0], [0, 1, 0], [1, 0, 0], [1, 1, 0], [2, 0, 0], [2, 1, 0]], "f4")
"""two rows of points: 1 3 5 above, 0 2 4 below"""


@pytest.mark.parametrize(
    ("strips", "triangles"),
    [
        ([[0, 2, 1, 3]], [[0, 2, 1], [1, 2, 3]]),
        ([[0, 2, 1, -1, 2, 4, 3, 5]], [[0, 2, 1], [2, 4, 3], [3, 4, 5]]),
        ([[0, 2, 1], [2, 4, 3]], [[0, 2, 1], [2, 4, 3]]),
        ([[0, 2, 1, 1, 2, 2, 4, 3]], [[0, 2, 1], [4, 2, 3]]),  # joined by triangles without an area
        ([[-1, 0, 2, 1, -1, -1, 4, 5]], [[0, 2, 1]]),
        ([[0, 1]], []),
    ],
)
@pytest.mark.parametrize("order", [None, "<", ">"])
def test_ply_with_strips_of_triangles(tmp_path, order, strips, triangles):
    name = {None: "ascii", "<": "binary_little_endian", ">": "binary_big_endian"}[order]
    head = HEADER.format(f"{name} 1.0").replace("vertex 4", "vertex 6") + STRIP.format(len(strips))
    rows = [[len(strip), *strip] for strip in strips]
    if order is None:
        body = "\n".join(" ".join(f"{x:g}" for x in row) for row in [*ROW.tolist(), *rows]).encode()
    else:
        body = ROW.astype(order + "f4").tobytes() + b"".join(np.array(row, order + "i4").tobytes() for row in rows)
    (tmp_path / "a.ply").write_bytes(head.encode() + body)
    assert read_ply(tmp_path / "a.ply").faces.tolist() == triangles


def test_a_long_strip_looks_to_one_side(tmp_path):
    count = 101
    at = np.stack([np.arange(2 * count) // 2, np.arange(2 * count) % 2, np.zeros(2 * count)], axis=1)
    head = HEADER.format("ascii 1.0").replace("vertex 4", f"vertex {2 * count}") + STRIP.format(1)
    body = "\n".join(" ".join(map(str, row)) for row in at) + f"\n{2 * count} " + " ".join(map(str, range(2 * count)))
    (tmp_path / "a.ply").write_text(head + body)
    mesh = read_ply(tmp_path / "a.ply")
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    np.testing.assert_array_equal(np.cross(b - a, c - a)[:, 2], -1)
    assert len(mesh.faces) == 2 * count - 2


def test_lines_that_go_on_and_line_ends_of_every_system(tmp_path):
    text = "v 0 0 0\nv 1 0 \\\n 0\nv 1 1 0\nf 1 \\\n 2 \\\n 3\nfo 3 2 1\n"
    for ending in ("\n", "\r\n", "\r"):
        (tmp_path / "a.obj").write_bytes(
            text.replace("\n", ending).encode()
            if ending != "\r"
            else text.replace("\\\n", "").replace("\n", "\r").encode()
        )
        assert read_obj(tmp_path / "a.obj").faces.tolist() == [[0, 1, 2], [2, 1, 0]]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.obj", "v 0 0 0\n" * 11, "more than 10 vertices"),
        ("a.obj", "v 0 0 0\n" + "f 1 1 1\n" * 11, "more than 10 vertices or polygons"),
        ("a.obj", "v 0 0 0\n" + "f" + " 1" * 45 + "\n", "more than 10 vertices or polygons"),
        ("a.obj", "f" + " 1" * 60, "line 1: it has more than 100 bytes"),
        ("a.obj", "f 1 \\\n" * 60, "line 17: it has more than 100 bytes"),
        (
            "a.ply",
            (HEADER + "element face 4000000000\nproperty list uchar int vertex_indices\nend_header\n").format(
                "ascii 1.0"
            ),
            "promises",
        ),
        ("a.wrl", "point [" + " 0" * 33 + "] coordIndex [0 0 0]", "more than 10 vertices"),
        ("a.wrl", "point [0 0 0] coordIndex [" + " -1" * 31 + "]", "more than 10 vertices"),
    ],
)
def test_what_is_too_large_for_a_mesh_is_refused(tmp_path, monkeypatch, name, content, message):
    monkeypatch.setattr(read, "MOST", 10)
    monkeypatch.setattr(read, "LONGEST_LINE", 100)
    (tmp_path / name).write_text(content)
    with pytest.raises(BadData, match=message):
        read_mesh(tmp_path / name)


def test_numbers_of_vrml_are_read_piece_by_piece(tmp_path, monkeypatch):
    monkeypatch.setattr(read, "AT_ONCE", 3)
    (tmp_path / "a.wrl").write_text(WRL)
    assert read_mesh(tmp_path / "a.wrl").vertices.tolist() == CORNERS.tolist()


WRL = """#VRML V2.0 utf8
Shape { geometry IndexedFaceSet { coord Coordinate { point [
0 0 0, 1 0 0, # a comment ]
1 1 0, 0 1 0 ] } coordIndex [ 0, 1, 2, -1, 0, 2, 3, -1 ] } }"""


def test_vrml_by_hand(tmp_path):
    (tmp_path / "a.wrl").write_text(WRL)
    mesh = read_mesh(tmp_path / "a.wrl")
    assert mesh.vertices.tolist() == CORNERS.tolist()
    assert mesh.faces.tolist() == [[0, 1, 2], [0, 2, 3]]


POINTS = """<!DOCTYPE PickedPoints>
<PickedPoints>
 <DocumentData><DateTime time="12:00:00" date="2020-01-01"/></DocumentData>
 <point x="1.5" y="-2" z="3e1" active="1" name="0"/>
 <point name="0" active="0" z="1" y="1" x="1"/>
</PickedPoints>"""


def test_picked_points_in_the_order_of_the_file(tmp_path):
    (tmp_path / "a.pp").write_text(POINTS)
    points = read_picked_points(tmp_path / "a.pp")
    assert list(points) == ["0", "0#1"]
    assert points["0"].tolist() == [1.5, -2, 30]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.stl", "", "is not a mesh we can read; the kinds are .obj, .ply, .wrl"),
        ("a.obj", "", "holds no vertices"),
        ("a.obj", "v 0 0\n", r"line 1: 'v 0 0' is no line"),
        ("a.obj", "v 0 0 x\n", "line 1"),
        ("a.obj", "v 0 0 nan\n", "1 of 1 vertices are NaN"),
        ("a.obj", "v 0 0 0\nf 1 2 3\n", "names a vertex that is not there; there are 1"),
        ("a.obj", "v 0 0 0\nf 0 1 1\n", "names a vertex that is not there"),
        ("a.obj", "v 0 0 0\nf -9 1 1\n", "names a vertex that is not there"),
        ("a.ply", "plx", "is no PLY file: it does not begin with 'ply'"),
        ("a.ply", "ply\nend_header\n", "no format line"),
        ("a.ply", "ply\nformat strange 1.0\nend_header\n", "header lies"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex -1\nend_header\n", "-1 of vertex"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 9000000000000\nend_header\n", "an element without properties"),
        ("a.ply", "ply\nformat ascii 1.0\nelement vertex 9\nproperty float x\nend_header\n1\n", "cut short"),
        ("a.ply", (HEADER + LISTS).format("ascii 1.0") + "0 0 0\n" * 4 + "3 0 1\n3 0 1 2\n", "too few numbers"),
        ("a.ply", (HEADER + LISTS).format("binary_little_endian 1.0") + "abc", "cut short"),
        ("a.ply", (HEADER + LISTS).format("ascii 1.0") + "0 0 0\n" * 4 + "3 0 1 2\n3 0 1 9\n", "not there"),
        ("a.ply", (HEADER + LISTS).format("ascii 1.0").replace("vertex_indices", "corners") + "0 0 0\n" * 4 + "0\n0\n",
         "faces without vertex_indices, but with corners"),
        ("a.ply", (HEADER + LISTS).format("ascii 1.0").replace("list uchar int", "int") + "0 0 0\n" * 4 + "0\n0\n",
         "vertex_indices is no list"),
        ("a.ply", (HEADER + LISTS).format("ascii 1.0") + "0 0 0\n" * 4 + "3 0 1 nan\n3 0 1 2\n", "is no number"),
        ("a.wrl", "#VRML V2.0 utf8\n", r"there is no 'point \[ … \]'"),
        ("a.wrl", WRL.replace("1 1 0", "1 1 x"), "no number"),
        ("a.wrl", WRL.replace("1 1 0", "1 1"), "11 coordinates are no whole number"),
    ],
)  # fmt: skip
def test_a_broken_mesh_is_bad_data(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(BadData, match=message):
        read_mesh(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<PickedPoints>", "is no file of MeshLab's picked points"),
        ('<P><point x="1" y="2"/></P>', "is no file of MeshLab's"),
        ('<P><point x="1" y="2" z="inf"/></P>', "NaN or infinite"),
        ('<!DOCTYPE P [<!ENTITY a "b">]><P/>', "with entities of its own"),
        ('<!DOCTYPE P SYSTEM "file:///etc/passwd"><P/>', "with entities of its own"),
    ],
)
def test_broken_picked_points_are_bad_data(tmp_path, content, message):
    (tmp_path / "a.pp").write_text(content)
    with pytest.raises(BadData, match=message):
        read_picked_points(tmp_path / "a.pp")


def test_a_missing_and_a_huge_file_are_bad_data(tmp_path, monkeypatch):
    with pytest.raises(BadData, match=r"there is no file .*spelling"):
        read_wrl(tmp_path / "none.wrl")
    monkeypatch.setattr(read, "LARGEST", 10)
    (tmp_path / "a.obj").write_text("v 0 0 0\nv 1 1 1\n")
    with pytest.raises(BadData, match=r"has 0\.00002 MB; such a file is read up to 0\.00001 MB"):
        read_obj(tmp_path / "a.obj")
