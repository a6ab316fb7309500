"""Meshes for the tests of scans and their benchmarks: a bowl with a nose and waves, which no motion maps to itself."""

import numpy as np

from sameface.metrics.alignment import Similarity


def bowl(columns: int = 33, rows: int = 41) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) vertices in mm and (F, 3) faces, 160 × 200 mm, counter-clockwise seen from +z."""
    x, y = (g.reshape(-1) for g in np.meshgrid(np.linspace(-80, 80, columns), np.linspace(-100, 100, rows)))
    nose = 15 * np.exp(-(x**2 + (y + 5) ** 2) / 300)
    z = 60 - (x**2 + y**2) / 120 + nose + 3 * np.cos(x / 12) * np.sin(y / 15) + 2 * np.sin(x / 9 + y / 20)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    quads = np.stack([corner, corner + 1, corner + columns + 1, corner + columns], axis=1)
    return np.stack([x, y, z], axis=1), np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def seven(vertices: np.ndarray) -> np.ndarray:
    """NoW's 7 points at vertices of the bowl: eye corners from the subject's right, nose bottom, mouth corners."""
    places = np.array([[-45, 30], [-18, 30], [18, 30], [45, 30], [0, -10], [-25, -45], [25, -45.0]])
    return vertices[np.linalg.norm(bowl_xy(vertices)[None] - places[:, None], axis=2).argmin(1)]


def sixty_eight(vertices: np.ndarray) -> np.ndarray:
    """68 points at vertices; 30 is the nose tip, 36, 39, 42, 45, 33, 48, 54 are NoW's."""
    rng = np.random.default_rng(5)
    points = vertices[rng.integers(0, len(vertices), 68)].copy()
    points[[36, 39, 42, 45, 33, 48, 54]] = seven(vertices)
    points[30] = vertices[np.linalg.norm(bowl_xy(vertices) - [0, -5], axis=1).argmin()]
    return points


def bowl_xy(vertices: np.ndarray) -> np.ndarray:
    return vertices[:, :2]


def on_surface(vertices: np.ndarray, faces: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """(count, 3) random points on the triangles."""
    weights = rng.dirichlet(np.ones(3), count)
    return (vertices[faces[rng.integers(0, len(faces), count)]] * weights[..., None]).sum(1)


def motion(rng: np.random.Generator, angle: float = 0.08, shift: float = 4.0, scale: float = 1.0) -> Similarity:
    """A random small similarity."""
    from scipy.spatial.transform import Rotation

    turn = Rotation.from_rotvec(rng.uniform(-angle, angle, 3)).as_matrix()
    return Similarity(scale, turn, rng.uniform(-shift, shift, 3))
