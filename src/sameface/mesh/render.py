"""Our differentiable renderer: exact z-buffer, attributes of the surface, light. Plain torch, the same on CPU and GPU.

Which triangle a pixel sees is found without a gradient: every (triangle, pixel) pair of the triangles' boxes is tested
in float64, and the nearest wins. Where in that triangle the pixel lies is then a smooth function of the three corners,
and gradients flow through it, through the attributes and through the light. Outlines carry no gradient: a pixel that
would change triangles or fall off the face by a small move does not say so. The gradient of a triangle seen edge-on is
large, as it should be, and finite.

Pixel (i, j) is the square [i, i + 1] × [j, j + 1] and is judged at its centre. For smoother pictures draw k times as
large (points · k, size · k) and average: `avg_pool2d(image, k)`.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int, Int64
from torch import Tensor
from torch.nn.functional import grid_sample

from sameface.core.camera import Camera

__all__ = [
    "Fragments", "diffuse", "interpolate", "normal_map", "point_lights", "rasterise", "sample_texture", "screen_points",
    "sh_basis", "sh_shading", "vertex_normals", "visible_vertices",
]  # fmt: skip

CANDIDATES = {"cpu": 1 << 15, "cuda": 1 << 21}
"""(triangle, pixel) pairs tested at once: on a CPU few enough to stay in its cache, on a GPU to need less than 1 GB"""


@dataclass(frozen=True, eq=False, repr=False)
class Fragments:
    """What the pixels of B images see, kept for the N covered ones; `face`, `weights` and `depth` are full images."""

    size: tuple[int, int]
    """(width, height), px"""
    meshes: tuple[int, int]
    """(B images, V vertices in each)"""
    pixel: Int64[Tensor, " N"]
    """position of each covered pixel among the B · height · width, ascending"""
    triangle: Int64[Tensor, " N"]
    """the triangle it sees"""
    corner: Int64[Tensor, "N 3"]
    """that triangle's vertices"""
    weight: Float[Tensor, "N 3"]
    """their barycentric weights at the pixel's centre; none is negative"""
    distance: Float[Tensor, " N"]
    """depth of that point"""

    @property
    def mask(self) -> Bool[Tensor, "B H W"]:
        """Which pixels see the mesh."""
        return self.face >= 0

    @property
    def face(self) -> Int64[Tensor, "B H W"]:
        """Index of the nearest triangle, -1 where there is none."""
        return self._image(self.triangle[:, None], -1)[..., 0]

    @property
    def weights(self) -> Float[Tensor, "B H W 3"]:
        """Barycentric weights in that triangle, zeros where there is none."""
        return self._image(self.weight, 0.0)

    @property
    def depth(self) -> Float[Tensor, "B H W"]:
        """Depth of the surface, infinite where there is none: select by `mask` before doing sums with it."""
        return self._image(self.distance[:, None], torch.inf)[..., 0]

    def _image(self, values: Tensor, background: float | int) -> Tensor:
        """(N, C) values of the covered pixels as (B, H, W, C) images."""
        shape = (self.meshes[0], self.size[1], self.size[0], values.shape[1])
        whole = values.new_full((math.prod(shape[:3]), shape[3]), background)
        return whole.index_copy(0, self.pixel, values).reshape(shape)


def screen_points(vertices: Float[Tensor, "B V 3"], camera: Camera) -> Float[Tensor, "B V 3"]:
    """(x px, y px, z mm) of each vertex by cameras made of torch arrays, as `rasterise` wants them."""
    return torch.cat([camera.project(vertices), camera.in_camera(vertices)[..., 2:]], -1)


def rasterise(
    points: Float[Tensor, "B V 3"],
    faces: Int[Tensor, "F 3"],
    size: tuple[int, int],
    *,
    perspective: bool = False,
    cull: bool = False,
) -> Fragments:
    """The nearest triangle at each pixel centre of B images of (width, height); points are x, y in px and depth.

    Weights w_k = A_k / Σ A, with A_k the area between the pixel's centre and the edge opposite corner k. They are
    linear on the screen, exact for weak perspective; `perspective=True` gives (w_k / z_k) / Σ_j (w_j / z_j), linear on
    the surface (z must then be the distance from the viewer). With `cull`, triangles seen from behind are left out:
    those clockwise on the image, as seen.

    A pixel centre exactly on an edge belongs to the triangle of which it is a top edge (horizontal, the triangle below
    it) or a left one (the triangle to its right). The test for one side of an edge is the exact negative of the test
    for the other, so a surface has neither holes nor pixels hit twice. Of triangles at equal depth the first one is
    taken; triangles without area are not seen. Nothing is clipped: triangles may lie outside the image as far as they
    like, but all of them must be in front of the viewer if `perspective`.

    Raises ValueError for points that are not finite, indices that do not exist, or depths that are not positive.
    """
    _check(points, faces, size, perspective)
    width, height = size
    corners = faces.long()
    with torch.no_grad():
        nearest = torch.cat([_nearest(few, corners, size, perspective, cull) for few in _groups(points, corners)])
        pixel = torch.nonzero(nearest >= 0)[:, 0]
        triangle = nearest.index_select(0, pixel)
        corner = corners.index_select(0, triangle)
        flat = corner + (pixel // (width * height) * points.shape[1])[:, None]
        column, row = (pixel % width).double() + 0.5, (pixel // width % height).double() + 0.5
    x, y, z = points.reshape(-1, 3).index_select(0, flat.T.reshape(-1)).double().reshape(3, -1, 3).unbind(-1)
    areas = torch.stack(_areas(x, y, column, row))
    depth = _depth(areas, z, perspective)
    weight = areas / areas.sum(0)
    weight = (weight * depth / z if perspective else weight).T.to(points.dtype)
    return Fragments(size, (len(points), points.shape[1]), pixel, triangle, corner, weight, depth.to(weight.dtype))


def interpolate(
    attributes: Float[Tensor, "B V C"] | Float[Tensor, "V C"], fragments: Fragments
) -> Float[Tensor, "B C H W"]:
    """Σ_k w_k · attribute_k at each pixel, zero where there is no surface; (V, C) attributes serve all images.

    Differentiable in the attributes and, through the weights, in the points. Raises ValueError if the attributes are
    not those of the meshes that were drawn.
    """
    shape, meshes = tuple(attributes.shape[:-1]), fragments.meshes
    if shape not in (meshes, meshes[1:]):
        raise ValueError(f"attributes of {shape} vertices, but {meshes} were drawn: give (images, vertices, channels)")
    corner = fragments.corner
    if attributes.ndim == 3:
        corner = corner + (fragments.pixel // math.prod(fragments.size) * meshes[1])[:, None]
        attributes = attributes.flatten(0, 1)
    picked = attributes.index_select(0, corner.reshape(-1)).reshape(*corner.shape, -1)
    return fragments._image((fragments.weight[..., None] * picked).sum(1), 0.0).permute(0, 3, 1, 2)


def normal_map(normals: Float[Tensor, "B V 3"], fragments: Fragments) -> Float[Tensor, "B 3 H W"]:
    """The vertices' normals interpolated and made unit length again; zero where there is no surface."""
    return _unit(interpolate(normals, fragments), 1)


def sample_texture(texture: Float[Tensor, "A C T U"], uv: Float[Tensor, "B 2 H W"]) -> Float[Tensor, "B C H W"]:
    """The texture at each pixel's (u, v), bilinear between texel centres; A is B, or 1 for one texture in all images.

    (0, 0) is the lower left corner of the texture and row 0 of its pixels the upper edge; beyond an edge its colour
    goes on. Background pixels, whose uv is 0, get the colour of that corner: multiply by `Fragments.mask`.
    Raises ValueError for another number of textures.
    """
    if texture.shape[0] not in (1, uv.shape[0]):
        raise ValueError(f"{texture.shape[0]} textures for {uv.shape[0]} images: give one for all, or one for each")
    grid = torch.stack([2 * uv[:, 0] - 1, 1 - 2 * uv[:, 1]], -1)
    wide = texture.expand(uv.shape[0], -1, -1, -1)
    return grid_sample(wide, grid, mode="bilinear", padding_mode="border", align_corners=False)


def vertex_normals(vertices: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"]) -> Float[Tensor, "B V 3"]:
    """Unit outward normals: the area-weighted mean of the face normals around each vertex (counter-clockwise faces).

    As `geometry.vertex_normals`, with a gradient; zero for a vertex without faces.
    """
    corners = _corners(faces.long(), *vertices.shape[:2]).flatten()
    a, b, c = vertices.reshape(-1, 3).index_select(0, corners).reshape(3, -1, 3)
    around = torch.linalg.cross(b - a, c - a).repeat(3, 1)
    whole = torch.zeros_like(vertices).reshape(-1, 3).index_add(0, corners, around)
    return _unit(whole.reshape(vertices.shape), 2)


def sh_basis(normals: Float[Tensor, "*s 3"]) -> Float[Tensor, "*s 9"]:
    """The real spherical harmonics of degree 0, 1, 2 at unit vectors, orthonormal on the sphere: ∫ Y_i Y_j = δ_ij.

    In the order (l, m) = 00, 1−1, 10, 11, 2−2, 2−1, 20, 21, 22, with the signs of Ramamoorthi & Hanrahan 2001:
    0.282095, 0.488603 (y, z, x), 1.092548 (xy, yz), 0.315392 (3z² − 1), 1.092548 xz, 0.546274 (x² − y²).

    Deep3D (sicxu/Deep3DFaceRecon_pytorch, models/bfm.py) has the same order, but its functions of degree l are ours
    times π, 2π/√3, 2π/√8, and those with y, x, yz and xz (m = ±1) times −1 too. A light of theirs, with the 0.8 that
    they add to its first coefficients, becomes ours when multiplied by these factors.
    """
    x, y, z = normals.unbind(-1)
    one = torch.ones_like(x)
    first, second = 0.4886025119029199, 1.0925484305920792
    basis = [0.28209479177387814 * one, first * y, first * z, first * x, second * x * y, second * y * z]
    basis += [0.31539156525252005 * (3 * z * z - 1), second * x * z, 0.5462742152960396 * (x * x - y * y)]
    return torch.stack(basis, -1)


def sh_shading(normals: Float[Tensor, "B *s 3"], light: Float[Tensor, "B 9 3"]) -> Float[Tensor, "B *s 3"]:
    """Σ_k light_k Y_k(normal) per colour channel: what multiplies the albedo (linear RGB). It may be negative.

    light: coefficients, in `sh_basis`'s order, of the *shading*; `diffuse` makes them from an environment's radiance.
    """
    return torch.einsum("bnk,bkc->bnc", sh_basis(normals).flatten(1, -2), light).reshape(normals.shape)


def diffuse(radiance: Float[Tensor, "*s 9 3"]) -> Float[Tensor, "*s 9 3"]:
    """The shading of matt skin by a radiance L: (A_l / π) L_lm, A = π, 2π/3, π/4 (Ramamoorthi & Hanrahan 2001)."""
    band = radiance.new_tensor([1.0] + 3 * [2 / 3] + 5 * [1 / 4])
    return radiance * band[:, None]


def point_lights(
    points: Float[Tensor, "B *s 3"],
    normals: Float[Tensor, "B *s 3"],
    lamps: Float[Tensor, "B L 3"],
    colours: Float[Tensor, "B L 3"],
) -> Float[Tensor, "B *s 3"]:
    """Lambert: Σ_l colour_l · max(0, n · d_l) · (1000 mm / r_l)², d the direction to the lamp and r the distance to it.

    points and lamps in mm, in one frame with the normals. A lamp's colour is what it adds to the shading of a surface
    that faces it at one metre. Nothing casts a shadow.
    """
    way = lamps[:, None] - points.flatten(1, -2)[:, :, None]
    square = (way * way).sum(-1).clamp_min(1e-6)
    cosine = (way * normals.flatten(1, -2)[:, :, None]).sum(-1).clamp_min(0) / square.sqrt()
    return torch.einsum("bnl,blc->bnc", cosine * (1e6 / square), colours).reshape(normals.shape)


@torch.no_grad()
def visible_vertices(
    points: Float[Tensor, "B V 3"],
    faces: Int[Tensor, "F 3"],
    size: tuple[int, int],
    *,
    perspective: bool = False,
    tolerance: float = 1e-3,
) -> Bool[Tensor, "B V"]:
    """Which vertices are in the image and behind no triangle but their own, by more than `tolerance` (depth's unit).

    Judged at the vertex's own image point, not at a pixel's centre, so it does not depend on the resolution. Both sides
    of a triangle hide, and so does its border. Arguments and errors are `rasterise`'s.
    """
    _check(points, faces, size, perspective)
    hidden = torch.cat([_hidden(group, faces.long(), perspective, tolerance) for group in _groups(points, faces)])
    inside = (points[..., :2] >= 0) & (points[..., :2] <= points.new_tensor(size))
    return inside.all(-1) & ~hidden


def _hidden(
    points: Float[Tensor, "B V 3"], faces: Int64[Tensor, "F 3"], perspective: bool, tolerance: float
) -> Bool[Tensor, "B V"]:
    """Vertices behind another triangle. A grid of about V cells per image says which vertices a triangle may cover."""
    images, count = points.shape[:2]
    x, y, z = points.double().flatten(0, 1).T.contiguous()
    side = max(1, int(count**0.5))
    column, row = (
        ((v - v.min()) * (side / (v.max() - v.min()).clamp_min(1e-9))).floor().clamp(max=side - 1) for v in (x, y)
    )
    first_cell = torch.arange(images, device=x.device) * side**2
    cell = first_cell.repeat_interleave(count) + (row * side + column).long()
    members, order = torch.bincount(cell, minlength=images * side**2), torch.argsort(cell)
    begin, corners = members.cumsum(0) - members, _corners(faces, images, count)
    boxes = [edge for v in (column, row) for edge in (_at(v, corners).amin(0), _at(v, corners).amax(0) + 1)]
    hidden = torch.zeros_like(x, dtype=torch.bool)
    for which, j, i in _candidates(torch.stack(boxes), max(1, _limit(points) // 4)):
        cell = first_cell[which // len(faces)] + (i * side + j).long()
        pair, rank = _repeated(members[cell])
        vertex, corner = order[begin[cell][pair] + rank], corners[:, which[pair]]
        areas = torch.stack(_areas(x[corner], y[corner], x[vertex], y[vertex]))
        inside = ((areas >= 0).all(0) | (areas <= 0).all(0)) & (areas != 0).any(0) & (corner != vertex).all(0)
        vertex, depth = vertex[inside], _depth(areas[:, inside], z[corner[:, inside]], perspective)
        hidden[vertex[depth < z[vertex] - tolerance]] = True
    return hidden.reshape(images, count)


def _nearest(
    points: Float[Tensor, "B V 3"], faces: Int64[Tensor, "F 3"], size: tuple[int, int], perspective: bool, cull: bool
) -> Int64[Tensor, " P"]:
    """The nearest triangle at each of the B · height · width pixel centres, or -1: the z-buffer."""
    width, height = size
    x, y, z = points.double().flatten(0, 1).T.contiguous()
    corners = _corners(faces, *points.shape[:2])
    boxes = torch.stack([*_pixels(x, width, corners), *_pixels(y, height, corners)])
    some = torch.nonzero((boxes[1] > boxes[0]) & (boxes[3] > boxes[2]))[:, 0]
    boxes, corners = boxes.index_select(1, some), corners.index_select(1, some)
    x, y, z = (_at(v, corners) for v in (x, y, z))
    area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
    boxes[1] = torch.where((area < 0) if cull else (area != 0), boxes[1], boxes[0])
    x, y, z = (torch.where(area < 0, v[[0, 2, 1]], v) for v in (x, y, z))  # all clockwise as seen: inside is positive
    down, along = y[[2, 0, 1]] - y[[1, 2, 0]], x[[2, 0, 1]] - x[[1, 2, 0]]
    top_left = (down < 0) | ((down == 0) & (along > 0))
    first_pixel = some.div(len(faces), rounding_mode="floor") * (width * height)
    nearest = x.new_full((len(points) * width * height,), torch.inf)
    face = some.new_full(nearest.shape, -1)
    for which, j, i in _candidates(boxes, _limit(points)):
        areas = _areas(x.index_select(1, which), y.index_select(1, which), j + 0.5, i + 0.5)
        inside = (areas[0] >= 0) & (areas[1] >= 0) & (areas[2] >= 0)
        which, j, i, *areas = _where(inside, which, j, i, *areas)
        areas = torch.stack(areas)
        pixel = first_pixel.index_select(0, which) + (i * width + j).long()
        depth = _depth(areas, z.index_select(1, which), perspective)
        inside = ((areas > 0) | top_left.index_select(1, which)).all(0)
        which, pixel, depth = _where(inside & (depth < nearest.index_select(0, pixel)), which, pixel, depth)
        nearest.scatter_reduce_(0, pixel, depth, "amin")
        which, pixel = _where(depth == nearest.index_select(0, pixel), which, pixel)
        face.scatter_reduce_(0, pixel, some.index_select(0, which) % len(faces), "amin", include_self=False)
    return face


def _candidates(
    boxes: Float[Tensor, "4 T"], limit: int
) -> Iterator[tuple[Int64[Tensor, " N"], Float[Tensor, " N"], Float[Tensor, " N"]]]:
    """Every (triangle, column, row) of boxes given as left, right, top, bottom, about `limit` at a time."""
    left, columns, top, rows = boxes[0], boxes[1] - boxes[0], boxes[2], boxes[3] - boxes[2]
    count = (columns * rows).long()
    ends = count.cumsum(0)
    if not len(ends) or not ends[-1]:
        return
    cuts = torch.searchsorted(ends, torch.arange(limit, max(limit, int(ends[-1])), limit, device=ends.device))
    for part in torch.arange(len(count), device=count.device).tensor_split(cuts.cpu()):
        which, rank = _repeated(count[part])
        which = part[which]
        wide = columns.index_select(0, which)
        row = ((rank + 0.5) / wide).floor()
        yield which, left.index_select(0, which) + (rank - row * wide), top.index_select(0, which) + row


def _where(condition: Bool[Tensor, " N"], *values: Tensor) -> list[Tensor]:
    """The rows of each where the condition holds: for several at once faster than indexing each by a mask."""
    index = torch.nonzero(condition)[:, 0]
    return [value.index_select(0, index) for value in values]


def _repeated(count: Int64[Tensor, " T"]) -> tuple[Int64[Tensor, " N"], Int64[Tensor, " N"]]:
    """(index, rank): each index as often as `count` says, and how many of the same came before."""
    index = torch.repeat_interleave(count)
    begin = count.cumsum(0) - count
    return index, torch.arange(len(index), device=count.device) - begin.index_select(0, index)


def _corners(faces: Int64[Tensor, "F 3"], images: int, count: int) -> Int64[Tensor, "3 T"]:
    """Corners of the F triangles of every image among the vertices of all images."""
    offset = count * torch.arange(images, device=faces.device)
    return (faces.T[:, None] + offset[:, None]).reshape(3, -1)


def _at(values: Float[Tensor, " V"], index: Int64[Tensor, "3 T"]) -> Float[Tensor, "3 T"]:
    """values[index], several times faster on a CPU."""
    return values.index_select(0, index.flatten()).reshape(index.shape)


def _pixels(
    values: Float[Tensor, " V"], side: int, corners: Int64[Tensor, "3 T"]
) -> tuple[Float[Tensor, " T"], Float[Tensor, " T"]]:
    """First pixel of an image axis whose centre a triangle's box holds, and the one after the last."""
    first, last = (values - 0.5).ceil().clamp(0, side), ((values - 0.5).floor() + 1).clamp(0, side)
    return _at(first, corners).amin(0), _at(last, corners).amax(0)


def _areas(
    x: Float[Tensor, "3 N"], y: Float[Tensor, "3 N"], column: Float[Tensor, " N"], row: Float[Tensor, " N"]
) -> tuple[Float[Tensor, " N"], Float[Tensor, " N"], Float[Tensor, " N"]]:
    """Twice the signed areas between the point and the edge opposite each corner.

    Both ends are taken relative to the point, which makes the values for the two sides of an edge exact negatives.
    """
    (ax, bx, cx), (ay, by, cy) = x - column, y - row
    return bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx


def _depth(areas: Float[Tensor, "3 N"], z: Float[Tensor, "3 N"], perspective: bool) -> Float[Tensor, " N"]:
    """Σ A z / Σ A, where 1 / z takes the place of z under perspective; equal depths give exactly one value."""
    first, second, third = 1 / z if perspective else z
    depth = first + (areas[1] * (second - first) + areas[2] * (third - first)) / areas.sum(0)
    return 1 / depth if perspective else depth


def _limit(points: Tensor) -> int:
    """(triangle, pixel) pairs to test at once on this device."""
    return CANDIDATES.get(points.device.type, 1 << 18)


def _groups(points: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"]) -> tuple[Tensor, ...]:
    """Images split so that a group's triangles are not more than the pairs to test at once."""
    return points.detach().split(max(1, _limit(points) // max(1, len(faces))))


def _check(points: Float[Tensor, "B V 3"], faces: Int[Tensor, "F 3"], size: tuple[int, int], perspective: bool) -> None:
    """Raise ValueError for what cannot be drawn."""
    if min(size) < 1:
        raise ValueError(f"the image's (width, height) must be at least (1, 1) px, but is {size}")
    finite = points.isfinite().all(-1)
    if not finite.all():
        raise ValueError(f"{int((~finite).sum())} of {finite.numel()} points are NaN or infinite")
    low, high = (int(faces.min()), int(faces.max())) if len(faces) else (0, -1)
    if low < 0 or high >= points.shape[1]:
        raise ValueError(f"faces name vertices {low} to {high}, but there are {points.shape[1]}, counted from 0")
    if perspective and (behind := int((points[..., 2] <= 0).sum())):
        raise ValueError(f"{behind} of {finite.numel()} vertices lie behind the camera; move it back")


def _unit(vectors: Tensor, dim: int) -> Tensor:
    """v / |v|, and zero for zero, where the gradient is finite too."""
    square = (vectors * vectors).sum(dim, keepdim=True)
    return vectors / torch.where(square > 0, square, 1).sqrt()
