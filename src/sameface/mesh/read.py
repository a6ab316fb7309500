"""Meshes in: OBJ, PLY and VRML files of scanners and other programs, and MeshLab's picked points.

These files come from outside, so nothing in them is trusted: the size is looked at first, every number must be finite,
every index must exist. What a mesh is not made of (colours, normals, textures, materials) is skipped, polygons are
split into triangles from their first corner. Lengths stay in the file's unit. Every fault is BadData with the path.
"""

import re
from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import BadData

__all__ = ["Mesh", "read_mesh", "read_obj", "read_picked_points", "read_ply", "read_wrl"]

LARGEST = 1 << 29
"""bytes of the largest mesh file that is read (half a gigabyte, some five million vertices)"""
LARGEST_POINTS = 1 << 20
"""bytes of the largest file of picked points"""
_KINDS = {
    "char": "i1", "uchar": "u1", "short": "i2", "ushort": "u2", "int": "i4", "uint": "u4", "float": "f4",
    "double": "f8", "int8": "i1", "uint8": "u1", "int16": "i2", "uint16": "u2", "int32": "i4", "uint32": "u4",
    "float32": "f4", "float64": "f8",
}  # fmt: skip


class Mesh(NamedTuple):
    """Triangles in space."""

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]


def read_mesh(path: Path) -> Mesh:
    """A mesh file of any kind we know, by its ending: .obj, .ply, .wrl."""
    readers = {".obj": read_obj, ".ply": read_ply, ".wrl": read_wrl}
    reader = readers.get(Path(path).suffix.lower())
    if reader is None:
        raise BadData(f"{path} is not a mesh we can read; the kinds are {', '.join(readers)}")
    return reader(path)


def read_obj(path: Path) -> Mesh:
    """Wavefront OBJ: the `v` and `f` lines; numbers after x y z (colours) are skipped, negative indices count back."""
    text = _bytes(path, LARGEST).decode("latin-1").replace("\\\n", " ")
    vertices, corners = [], []
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split()
        try:
            if words[:1] == ["v"]:
                vertices.append((float(words[1]), float(words[2]), float(words[3])))
            elif words[:1] == ["f"]:
                polygon = [int(word.split("/", 1)[0]) for word in words[1:]]
                corners.append([i - 1 if i > 0 else i + len(vertices) if i < 0 else -1 for i in polygon])
        except (ValueError, IndexError):
            raise BadData(f"{path}, line {number}: {line[:60]!r} is no line of an OBJ file's mesh") from None
    return _checked(path, np.array(vertices, np.float64).reshape(-1, 3), _triangles(corners))


def read_ply(path: Path) -> Mesh:
    """PLY, ascii or binary of either byte order: x, y, z of `vertex` and the index list of `face`."""
    content = _bytes(path, LARGEST)
    end = re.search(rb"end_header\r?\n", content)
    if not content.startswith(b"ply") or end is None:
        raise BadData(f"{path} is no PLY file: it does not begin with 'ply' and a header that ends with 'end_header'")
    header = content[: end.start()].decode("latin-1").splitlines()
    try:
        order, elements = _ply_header(header)
        tables = _ply_text(content[end.end() :], elements) if order is None else {}
        if order is not None:
            tables = _ply_binary(content[end.end() :], elements, order)
        vertices = np.column_stack([tables["vertex"][axis] for axis in "xyz"]).astype(np.float64)
        face = tables.get("face", {})
        corners = face.get("vertex_indices", face.get("vertex_index", []))
        return _checked(path, vertices.reshape(-1, 3), _triangles(corners))
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise BadData(
            f"{path} is no PLY file with vertices x, y, z: it is cut short or its header lies ({error})"
        ) from None


def read_wrl(path: Path) -> Mesh:
    """VRML 1 or 2: the first `point [ … ]` and `coordIndex [ … ]` (polygons end with −1), as in BU-3DFE."""
    text = re.sub(r"#[^\n]*", "", _bytes(path, LARGEST).decode("latin-1"))
    points = re.search(r"\bpoint\s*\[([^\]]*)\]", text)
    index = re.search(r"\bcoordIndex\s*\[([^\]]*)\]", text)
    if points is None or index is None:
        raise BadData(f"{path} is no VRML mesh: there is no 'point [ … ]' or no 'coordIndex [ … ]' in it")
    try:
        vertices = np.array(points[1].replace(",", " ").split(), np.float64)
        numbers = np.array(index[1].replace(",", " ").split(), np.int64)
    except (ValueError, OverflowError) as error:
        raise BadData(f"{path}: the VRML mesh holds something that is no number ({error})") from None
    if len(vertices) % 3:
        raise BadData(f"{path}: {len(vertices)} coordinates are no whole number of points")
    polygons = [part[part >= 0].tolist() for part in np.split(numbers, np.flatnonzero(numbers == -1) + 1)]
    return _checked(path, vertices.reshape(-1, 3), _triangles([p for p in polygons if p]))


def read_picked_points(path: Path) -> dict[str, Float[np.ndarray, " 3"]]:
    """MeshLab's .pp: the name of each picked point → x, y, z in the order of the file; points marked inactive as well.

    Plain XML: a file with a document type or entities is refused, so nothing outside it is ever read.
    """
    import xml.etree.ElementTree as ElementTree

    content = _bytes(path, LARGEST_POINTS)
    # MeshLab writes <!DOCTYPE PickedPoints>; a declaration with more than a name could define entities
    content = re.sub(rb"<!DOCTYPE\s+\w+\s*>", b"", content)
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise BadData(f"{path}: a file of picked points with entities of its own is not read")
    try:
        points = {}
        for number, point in enumerate(ElementTree.fromstring(content).iter("point")):
            name = point.get("name") or str(number)
            points[name if name not in points else f"{name}#{number}"] = np.array(
                [float(point.attrib[a]) for a in "xyz"]
            )
    except (ElementTree.ParseError, KeyError, ValueError, LookupError) as error:
        raise BadData(f"{path} is no file of MeshLab's picked points ({error})") from None
    if not all(np.isfinite(point).all() for point in points.values()):
        raise BadData(f"{path}: a picked point is NaN or infinite")
    return points


def _bytes(path: Path, largest: int) -> bytes:
    """The content of a file that is there and not too large."""
    try:
        size = Path(path).stat().st_size
        if size > largest:
            raise BadData(f"{path} has {size:,} bytes; such a file is read up to {largest:,}")
        return Path(path).read_bytes()
    except OSError as error:
        raise BadData(f"{path} cannot be read ({error.strerror or type(error).__name__})") from None


def _triangles(polygons: Sequence | np.ndarray) -> Int[np.ndarray, "F 3"]:
    """Polygons of any number of corners → triangles (0, k, k + 1); −1 stays as the mark of a bad index."""
    if not len(polygons):
        return np.zeros((0, 3), np.int64)
    sizes = np.fromiter(map(len, polygons), np.int64, len(polygons))
    flat = np.fromiter(chain.from_iterable(polygons), np.int64, int(sizes.sum()))
    first = np.cumsum(sizes) - sizes
    fans = np.maximum(sizes - 2, 0)
    begin = np.repeat(first, fans)
    step = np.arange(int(fans.sum())) - np.repeat(np.cumsum(fans) - fans, fans)
    return np.stack([flat[begin], flat[begin + step + 1], flat[begin + step + 2]], axis=1)


def _checked(path: Path, vertices: np.ndarray, faces: np.ndarray) -> Mesh:
    if not len(vertices):
        raise BadData(f"{path} holds no vertices")
    bad = int((~np.isfinite(vertices).all(axis=1)).sum())
    if bad:
        raise BadData(f"{path}: {bad} of {len(vertices)} vertices are NaN or infinite")
    if faces.size and not (0 <= faces.min() and faces.max() < len(vertices)):
        raise BadData(f"{path}: a face names a vertex that is not there; there are {len(vertices)}")
    return Mesh(vertices, faces)


def _ply_header(lines: list[str]) -> tuple[str | None, list[tuple[str, int, list[list[str]]]]]:
    """(byte order, None for ascii; elements as (name, count, properties))."""
    order: str | None = "?"
    elements: list[tuple[str, int, list[list[str]]]] = []
    for line in lines:
        words = line.split()
        if words[:1] == ["format"]:
            order = {"ascii": None, "binary_little_endian": "<", "binary_big_endian": ">"}[words[1]]
        elif words[:1] == ["element"]:
            count = int(words[2])
            if count < 0:
                raise ValueError(f"{count} of {words[1]}")
            elements.append((words[1], count, []))
        elif words[:1] == ["property"]:
            elements[-1][2].append(words[1:])
    if any(not properties for _, _, properties in elements):
        raise ValueError("an element without properties")
    if order == "?":
        raise ValueError("no format line")
    return order, elements


def _ply_binary(content: bytes, elements: list, order: str) -> dict[str, dict]:
    """Columns of every element, in one piece where every row is as long as the first, else row by row."""
    tables: dict[str, dict] = {}
    at = 0
    for name, count, properties in elements:
        kind = _row_kind(content, at, properties, order)
        if kind is not None and count * kind.itemsize <= len(content) - at:
            rows = np.frombuffer(content, kind, count, at)
            if "length" not in (kind.names or ()) or (rows["length"] == rows["length"][:1]).all():
                tables[name] = {column: rows[column] for column in kind.names or ()}
                at += count * kind.itemsize
                continue
        tables[name], at = _ply_rows(content, at, count, properties, order)
    return tables


def _row_kind(content: bytes, at: int, properties: list, order: str) -> np.dtype | None:
    """The layout of one row, if numbers are all there is, or one list as long as the first row's."""
    if all(words[0] != "list" for words in properties):
        return np.dtype([(words[-1], order + _KINDS[words[0]]) for words in properties])
    if len(properties) > 1 or at >= len(content):
        return None
    _, size, item, name = properties[0]
    length = int(np.frombuffer(content, order + _KINDS[size], 1, at)[0])
    return np.dtype([("length", order + _KINDS[size]), (name, order + _KINDS[item], (max(length, 0),))])


def _ply_rows(content: bytes, at: int, count: int, properties: list, order: str) -> tuple[dict[str, list], int]:
    """Row by row, for lists of different lengths."""
    table: dict[str, list] = {words[-1]: [] for words in properties}
    for _ in range(count):
        for words in properties:
            length = 1
            if words[0] == "list":
                size = np.dtype(order + _KINDS[words[1]])
                length = int(np.frombuffer(content, size, 1, at)[0])
                at += size.itemsize
            kind = np.dtype(order + _KINDS[words[-2]])
            values = np.frombuffer(content, kind, length, at) if length else np.zeros(0, kind)
            at += length * kind.itemsize
            table[words[-1]].append(values.tolist() if words[0] == "list" else values[0])
    return table, at


def _ply_text(content: bytes, elements: list) -> dict[str, dict[str, list]]:
    """Columns of every element of an ascii file, one row a line."""
    lines = iter(line for line in content.decode("latin-1").splitlines() if line.strip())
    tables: dict[str, dict[str, list]] = {}
    for name, count, properties in elements:
        table: dict[str, list] = {words[-1]: [] for words in properties}
        for _ in range(count):
            row = next(lines, "").split()
            for words in properties:
                if words[0] == "list":
                    length = int(row[0])
                    table[words[-1]].append([int(float(word)) for word in row[1 : length + 1]])
                    if len(row) <= length:
                        raise ValueError("a list has too few numbers")
                    row = row[length + 1 :]
                else:
                    table[words[-1]].append(float(row[0]))
                    row = row[1:]
        tables[name] = table
    return tables
