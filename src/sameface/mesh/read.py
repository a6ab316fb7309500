"""Meshes in: OBJ, PLY and VRML files of scanners and other programs, and MeshLab's picked points.

These files come from outside, so nothing in them is trusted: sizes are looked at before anything is made of them, every
number must be finite, every index must exist, and no file takes longer than in proportion to its size. What a mesh is
not made of (colours, normals, textures, materials) is skipped, polygons are split into triangles from their first
corner, strips of triangles are taken apart. Lengths stay in the file's unit. Every fault is BadData with the path.
"""

import io
import re
from array import array
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from sameface.core.errors import BadData
from sameface.core.files import read_bytes

__all__ = ["Mesh", "read_mesh", "read_obj", "read_picked_points", "read_ply", "read_wrl"]

LARGEST = 1 << 28
"""bytes of the largest mesh file that is read"""
LONGEST_LINE = 1 << 24
"""bytes of the longest line: a strip of triangles may be all of a mesh"""
MOST = 5_000_000
"""vertices, and polygons, of the largest mesh: a scanner's finest has some two million"""
LARGEST_POINTS = 1 << 20
"""bytes of the largest file of picked points"""
AT_ONCE = 1 << 24
"""bytes of numbers that are Python objects at a time"""
LONGEST_HEADER = 1 << 20
"""bytes of a PLY file's header"""
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
    vertices, corners, sizes = array("d"), array("q"), array("q")
    for number, line in _lines(path, read_bytes(path, LARGEST), 0):
        words = line.split()
        try:
            if words[:1] == [b"v"]:
                vertices.extend((float(words[1]), float(words[2]), float(words[3])))
            elif words[:1] in ([b"f"], [b"fo"]):
                polygon = [int(word.partition(b"/")[0]) for word in words[1:]] if b"/" in line else map(int, words[1:])
                before = len(corners)
                corners.extend(polygon)
                sizes.append(len(corners) - before)
                if sizes[-1] and min(corners[before:]) < 0:
                    after = len(vertices) // 3 + 1
                    corners[before:] = array("q", (k + after if k < 0 else k for k in corners[before:]))
        except (ValueError, IndexError, OverflowError):
            shown = line[:60].decode("latin-1").rstrip()
            raise BadData(f"{path}, line {number}: {shown!r} is no line of an OBJ file's mesh") from None
        if max(len(vertices) // 3, len(sizes), len(corners) // 4) > MOST:
            raise _too_many(path)
    return _checked(
        path, np.array(vertices).reshape(-1, 3), _triangles(np.array(corners, np.int64) - 1, np.array(sizes, np.int64))
    )


def read_ply(path: Path) -> Mesh:
    """PLY, ascii or binary of either byte order: x, y, z of `vertex`, and the index lists of `face` or `tristrips`."""
    content = read_bytes(path, LARGEST)
    end = re.search(rb"end_header\r?\n", content[:LONGEST_HEADER])
    if not content.startswith(b"ply") or end is None:
        raise BadData(f"{path} is no PLY file: it does not begin with 'ply' and a header that ends with 'end_header'")
    header = content[: end.start()].decode("latin-1").splitlines()
    try:
        order, elements = _ply_header(header)
        if any(count > MOST for _, count, _ in elements):
            raise _too_many(path)
        if order is None:
            tables = _ply_text(path, content, end.end(), elements)
        else:
            tables = _ply_binary(content, end.end(), elements, order)
        axes = [tables["vertex"][axis] for axis in "xyz"]
        if any(isinstance(axis, tuple) for axis in axes):
            raise ValueError("lists where x, y and z should be")
        vertices = np.column_stack(axes).astype(np.float64)
        faces = [_triangles(*_corners(tables["face"]))] if "face" in tables else []
        faces += [_strips(*_corners(tables["tristrips"]))] if "tristrips" in tables else []
        return _checked(path, vertices.reshape(-1, 3), np.concatenate(faces or [np.zeros((0, 3), np.int64)]))
    except (ValueError, IndexError, KeyError, TypeError, OverflowError) as error:
        raise BadData(
            f"{path} is no PLY file with vertices x, y, z: it is cut short or its header lies ({error})"
        ) from None


def read_wrl(path: Path) -> Mesh:
    """VRML 1 or 2: the first `point [ … ]` and `coordIndex [ … ]` (polygons end with −1), as in BU-3DFE."""
    text = re.sub(rb"#[^\n]*", b"", read_bytes(path, LARGEST))
    points, index = _bracketed(text, rb"\bpoint\s*\["), _bracketed(text, rb"\bcoordIndex\s*\[")
    if points is None or index is None:
        raise BadData(f"{path} is no VRML mesh: there is no 'point [ … ]' or no 'coordIndex [ … ]' in it")
    try:
        vertices, numbers = _numbers(points, np.float64), _numbers(index, np.int64)
    except (ValueError, OverflowError) as error:
        raise BadData(f"{path}: the VRML mesh holds something that is no number ({error})") from None
    if len(vertices) % 3:
        raise BadData(f"{path}: {len(vertices)} coordinates are no whole number of points")
    if max(len(vertices), len(numbers)) > 3 * MOST:
        raise _too_many(path)
    ends = np.flatnonzero(np.append(numbers, -1) == -1)
    return _checked(path, vertices.reshape(-1, 3), _triangles(numbers[numbers != -1], np.diff(ends, prepend=-1) - 1))


def read_picked_points(path: Path) -> dict[str, Float[np.ndarray, " 3"]]:
    """MeshLab's .pp: the name of each picked point → x, y, z in the order of the file; points marked inactive as well.

    Plain XML: a file with a document type or entities is refused, so nothing outside it is ever read.
    """
    import xml.etree.ElementTree as ElementTree

    content = read_bytes(path, LARGEST_POINTS)
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


def _too_many(path: Path) -> BadData:
    return BadData(f"{path} promises or has more than {MOST:,} vertices or polygons; that is no mesh of a face")


def _lines(path: Path, content: bytes, at: int) -> Iterator[tuple[int, bytes]]:
    """(number, line) from a place on, lines that end with a backslash in one. Raises BadData for one too long."""
    stream = io.BytesIO(content if b"\n" in content else content.replace(b"\r", b"\n"))
    stream.seek(at)
    parts: list[bytes] = []
    length = 0
    for number, line in enumerate(stream, 1):
        parts.append(line)
        length += len(line)
        if length > LONGEST_LINE:
            raise BadData(f"{path}, line {number}: it has more than {LONGEST_LINE:,} bytes; that is no line of a mesh")
        if not line.endswith((b"\\\n", b"\\\r\n")):
            yield number, line if len(parts) == 1 else b" ".join(part.rstrip(b"\\\r\n") for part in parts)
            parts, length = [], 0


def _bracketed(text: bytes, begin: bytes) -> bytes | None:
    """What stands between the first beginning and the ] after it."""
    found = re.search(begin, text)
    end = -1 if found is None else text.find(b"]", found.end())
    return None if found is None or end < 0 else text[found.end() : end]


def _numbers(text: bytes, kind: type) -> np.ndarray:
    """Numbers between blanks and commas. Raises ValueError, OverflowError."""
    found, at, convert = [np.zeros(0, kind)], 0, int if kind is np.int64 else float
    while at < len(text) and sum(map(len, found)) <= 4 * MOST:
        blank = re.compile(rb"[\s,]").search(text, at + AT_ONCE)
        end = len(text) if blank is None else blank.end()
        found.append(np.array([convert(word) for word in text[at:end].replace(b",", b" ").split()], kind))
        at = end
    return np.concatenate(found)


def _triangles(flat: Int[np.ndarray, " C"], sizes: Int[np.ndarray, " P"]) -> Int[np.ndarray, "F 3"]:
    """Polygons, their corners one after the other, → triangles (0, k, k + 1); −1 stays as the mark of a bad index."""
    flat, sizes = flat.astype(np.int64), sizes.astype(np.int64)
    first = np.cumsum(sizes) - sizes
    fans = np.maximum(sizes - 2, 0)
    begin = np.repeat(first, fans)
    step = np.arange(int(fans.sum())) - np.repeat(np.cumsum(fans) - fans, fans)
    return np.stack([flat[begin], flat[begin + step + 1], flat[begin + step + 2]], axis=1)


def _strips(flat: Int[np.ndarray, " C"], sizes: Int[np.ndarray, " P"]) -> Int[np.ndarray, "F 3"]:
    """Strips of triangles, each with its last two corners in common with the one before; −1 begins a new strip.

    Every other triangle is turned round, so that all look to one side. Those without an area, which join strips, are
    none.
    """
    flat, sizes = flat.astype(np.int64), sizes.astype(np.int64)
    row = np.repeat(np.arange(len(sizes)), sizes)
    begins = np.append(True, (np.diff(row) != 0) | (flat[:-1] < 0))[: len(flat)]
    strip = np.cumsum(begins)
    place = np.arange(len(flat)) - np.maximum.accumulate(np.where(begins, np.arange(len(flat)), 0))
    a, b, c = (np.stack([values[:-2], values[1:-1], values[2:]]) for values in (flat, strip, place))
    whole = (a >= 0).all(0) & (b == b[0]).all(0) & (a[0] != a[1]) & (a[1] != a[2]) & (a[0] != a[2])
    triangles, turned = a.T[whole], (c[0] % 2 == 1)[whole]
    triangles[turned] = triangles[turned][:, [1, 0, 2]]
    return triangles


def _corners(table: dict[str, Any]) -> tuple[Int[np.ndarray, " C"], Int[np.ndarray, " P"]]:
    """The index list of faces or strips, flat, and how long each is."""
    name = next((name for name in ("vertex_indices", "vertex_index") if name in table), None)
    if name is None:
        raise ValueError(f"faces without vertex_indices, but with {', '.join(table)}")
    found = table[name]
    if not isinstance(found, tuple):
        raise ValueError(f"{name} is no list")
    return found


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


_Table = dict[str, Any]
"""columns by name: numbers as an array, lists as (all of them one after the other, how long each is)"""


def _ply_binary(content: bytes, at: int, elements: list, order: str) -> dict[str, _Table]:
    """Columns of every element, in one piece where every row is as long as the first, else row by row."""
    tables: dict[str, _Table] = {}
    for name, count, properties in elements:
        kind = _row_kind(content, at, properties, order)
        if kind is not None and count * kind.itemsize <= len(content) - at:
            rows = np.frombuffer(content, kind, count, at)
            if "length" not in (kind.names or ()):
                tables[name] = {column: rows[column] for column in kind.names or ()}
            elif (rows["length"] == rows["length"][:1]).all():
                tables[name] = {properties[0][-1]: (rows["values"].reshape(-1), rows["length"].astype(np.int64))}
            if name in tables:
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
    _, size, item, _ = properties[0]
    length = int(np.frombuffer(content, order + _KINDS[size], 1, at)[0])
    if not 0 <= length <= len(content):
        raise ValueError(f"a list of {length}")
    return np.dtype([("length", order + _KINDS[size]), ("values", order + _KINDS[item], (length,))])


def _ply_rows(content: bytes, at: int, count: int, properties: list, order: str) -> tuple[_Table, int]:
    """Row by row, for lists of different lengths."""
    kinds = [
        (
            words[-1],
            np.dtype(order + _KINDS[words[1]]) if words[0] == "list" else None,
            np.dtype(order + _KINDS[words[-2]]),
        )
        for words in properties
    ]
    pieces: dict[str, list[bytes]] = {words[-1]: [] for words in properties}
    lengths: dict[str, array] = {words[-1]: array("q") for words in properties}
    for _ in range(count):
        for name, size, kind in kinds:
            length = 1
            if size is not None:
                length = int.from_bytes(_piece(content, at, size.itemsize), _BYTES[order], signed=size.kind == "i")
                at += size.itemsize
            pieces[name].append(_piece(content, at, length * kind.itemsize))
            lengths[name].append(length)
            at += length * kind.itemsize
    table: _Table = {}
    for name, size, kind in kinds:
        flat = np.frombuffer(b"".join(pieces[name]), kind)
        table[name] = flat if size is None else (flat, np.array(lengths[name], np.int64))
    return table, at


_BYTES: dict[str, Literal["little", "big"]] = {"<": "little", ">": "big"}


def _piece(content: bytes, at: int, length: int) -> bytes:
    if not 0 <= length <= len(content) - at:
        raise ValueError(f"{length} bytes at {at} of {len(content)}")
    return content[at : at + length]


def _ply_text(path: Path, content: bytes, at: int, elements: list) -> dict[str, _Table]:
    """Columns of every element of an ascii file, one row a line."""
    lines = (words for _, line in _lines(path, content, at) if (words := line.split()))
    tables: dict[str, _Table] = {}
    for name, count, properties in elements:
        flat: dict[str, array] = {words[-1]: array("d") for words in properties}
        lengths: dict[str, array] = {words[-1]: array("q") for words in properties if words[0] == "list"}
        for _ in range(count):
            row, at = next(lines, []), 0
            for words in properties:
                length = 1
                if words[0] == "list":
                    length, at = int(row[at]), at + 1
                    lengths[words[-1]].append(length)
                if not 0 <= length <= len(row) - at:
                    raise ValueError("a row has too few numbers")
                flat[words[-1]].extend(map(float, row[at : at + length]))
                at += length
        table = tables[name] = {}
        for column, values in flat.items():
            numbers = np.array(values)
            if column in lengths and not np.isfinite(numbers).all():
                raise ValueError(f"{column} holds what is no number")
            table[column] = (
                (numbers.astype(np.int64), np.array(lengths[column], np.int64)) if column in lengths else numbers
            )
    return tables
