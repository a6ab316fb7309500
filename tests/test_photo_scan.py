"""photo_scan: landmarks found, who knows more is nearer, sets of photos, and what is missing is named."""

from dataclasses import replace

import numpy as np
import pytest

from sameface.core.errors import BadData, NoFaceFound
from sameface.core.geometry import rotation_from_axis_angle
from sameface.evaluation import scan_landmarks
from sameface.evaluation.benchmarks import photo_scan
from sameface.evaluation.benchmarks.photo_scan import Options, Scan
from sameface.evaluation.case import Answer
from sameface.evaluation.evaluate import evaluate
from sameface.evaluation.scan_landmarks import find_landmarks, surfels
from sameface.mesh.read import Mesh, read_mesh
from sameface.mesh.write import write_ply
from sameface.morphable import default

OPTIONS, MODEL = Options(), default()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photo_scan")
    photo_scan.sample(folder)
    return folder


@pytest.fixture
def copy(root, tmp_path):
    """Only anna's folder: her landmarks are picked, so nobody looks for them."""
    import shutil

    shutil.copytree(root / "anna", tmp_path / "anna")
    return tmp_path


def answer_of(identity) -> Answer:
    mesh = MODEL.vertices(identity)
    return Answer(neutral=mesh, faces=MODEL.faces, neutral_landmarks=MODEL.landmarks(mesh))


def scan_of(identity, scale=1.0) -> Scan:
    mesh = scale * MODEL.vertices(identity).astype(np.float64)
    return Scan(Mesh(mesh[MODEL.regions["face"]][::3], np.zeros((0, 3), np.int64)), MODEL.landmarks(mesh), False)


# ── landmarks ──────────────────────────────────────────────────────────────────────────────────────────────


def test_landmarks_are_found_on_a_cloud_of_points(root, monkeypatch):
    monkeypatch.setattr(scan_landmarks, "SIDE", 360)  # quick; twice as many pixels find them no better
    mesh, turn = read_mesh(root / "anna" / "scan.ply"), rotation_from_axis_angle(np.array([0.2, 0.5, 0.1]))
    scan = Mesh(mesh.vertices @ turn.T + [40.0, 300.0, -90.0], mesh.faces[:0])
    found = (find_landmarks(scan) - [40.0, 300.0, -90.0]) @ turn
    away = np.linalg.norm(found - photo_scan.picked_beside(root / "anna" / "scan.ply"), axis=1)[17:]
    assert away.mean() < 1.5
    assert away.max() < 4


def test_a_scan_without_a_face_is_named(root, monkeypatch):
    def nobody(photo, *networks, **options):
        looked.append(photo)
        raise NoFaceFound("no face")

    looked = []
    monkeypatch.setattr(scan_landmarks, "observe_turned", nobody)
    monkeypatch.setattr(scan_landmarks, "render", lambda vertices, faces, camera: np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(BadData, match=r"no face can be seen in wall\.ply from any of its six sides"):
        find_landmarks(read_mesh(root / "anna" / "scan.ply"), "wall.ply")
    assert len(looked) == 6


def test_the_inside_of_a_face_is_hollow():
    points = MODEL.landmarks(MODEL.mean).astype(np.float64)
    front = np.diag([1.0, -1, -1])
    assert not scan_landmarks._hollow(points @ front.T)
    assert scan_landmarks._hollow(points @ np.diag([-1.0, -1, 1]).T)
    points[30] = np.nan
    assert scan_landmarks._hollow(points)


def test_surfels_lie_in_the_surface_and_look_at_the_viewer():
    rng = np.random.default_rng(0)
    points = np.concatenate([rng.uniform(-30, 30, (900, 2)), np.zeros((900, 1))], 1)
    mesh = surfels(points, np.array([0.0, 0.6, 0.8]))
    assert len(mesh.vertices) == 4 * 900
    np.testing.assert_allclose(mesh.vertices.reshape(900, 4, 3).mean(1), points, atol=1e-9)
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    normal = np.cross(b - a, c - a)
    assert (normal[:, 2] > 0).all()
    np.testing.assert_allclose(normal[:, :2], 0, atol=1e-9)


# ── numbers ────────────────────────────────────────────────────────────────────────────────────────────────


def test_who_knows_more_is_nearer():
    identity = np.random.default_rng(3).normal(size=MODEL.n_identity)
    mean, landmarks, floor = photo_scan.baselines(scan_of(identity), OPTIONS)
    assert mean > 1.2 * landmarks > 1.2 * 2 * floor > 0


def test_only_the_metrical_protocol_sees_the_size():
    identity = np.random.default_rng(4).normal(size=MODEL.n_identity)
    smaller, same = (photo_scan.baselines(scan_of(identity, scale), OPTIONS) for scale in (0.9, 1.0))
    np.testing.assert_allclose(np.array(smaller) / 0.9, same, rtol=0.25)  # but for the priors, which are in mm
    metrical = photo_scan.baselines(scan_of(identity, 0.9), Options(metrical=True))
    assert metrical.mean > smaller.mean


def test_the_mean_face_scores_as_the_mean_face_and_knows_nothing(copy):
    report = evaluate("photo_scan", copy, model="mean")
    assert not report.failures
    assert list(report.rows) == ["anna/front", "anna/sides", "anna/all"]
    for row in report.rows.values():
        assert row["mm"] == pytest.approx(row["mean face"], rel=1e-6)
        assert row["found landmarks"] == 0
    assert report.summary["under the mean face, %"] == pytest.approx(0, abs=1e-3)
    assert {name.split("/")[0] for name in report.summary if "/" in name} == {"front", "sides", "all"}


def test_our_pipeline_answers_every_set_of_photos(copy):
    report = evaluate("photo_scan", copy)
    assert not report.failures
    for row in report.rows.values():
        assert 0.1 < row["floor"] < row["mm"] < 3


def test_rows_are_means_over_the_scans(copy):
    case = photo_scan.cases(copy, OPTIONS)[0]
    answer = answer_of(np.random.default_rng(5).normal(size=MODEL.n_identity))
    alone = photo_scan.score(case, answer, OPTIONS)
    other = read_mesh(copy / "anna" / "scan.ply")
    write_ply(copy / "anna" / "rough.ply", other.vertices + np.random.default_rng(0).normal(0, 1.5, (4247, 3)),
              other.faces)  # fmt: skip
    (copy / "anna" / "rough.pp").write_bytes((copy / "anna" / "scan.pp").read_bytes())
    both = photo_scan.score(photo_scan.cases(copy, OPTIONS)[0], answer, OPTIONS)
    only = replace(case, truth={**case.truth, "scans": (copy / "anna" / "rough.ply",)})
    rough = photo_scan.score(only, answer, OPTIONS)
    assert rough["floor"] > alone["floor"] + 0.1
    for name in ("mm", "floor"):
        assert both[name] == pytest.approx((alone[name] + rough[name]) / 2, rel=1e-9)


def test_the_unit_of_a_scan_is_given_or_guessed_aloud(copy):
    mesh = read_mesh(copy / "anna" / "scan.ply")
    write_ply(copy / "anna" / "scan.ply", mesh.vertices / 1000, mesh.faces)
    picked = copy / "anna" / "scan.pp"
    landmarks = photo_scan.picked_beside(copy / "anna" / "scan.ply") / 1000
    picked.write_text(photo_scan._picked(landmarks).replace(".0000", ".0"))
    rows = "".join(f'<point x="{x:.7f}" y="{y:.7f}" z="{z:.7f}" name="{k}"/>' for k, (x, y, z) in enumerate(landmarks))
    picked.write_text(f"<PickedPoints>{rows}</PickedPoints>")
    case, answer = photo_scan.cases(copy, OPTIONS)[0], answer_of(np.zeros(MODEL.n_identity))
    with pytest.raises(BadData, match=r"scan.ply has 0.00\d+ times the size .* metres: give unit=1000"):
        photo_scan.score(case, answer, OPTIONS)
    row = photo_scan.score(case, answer, Options(unit=1000.0))
    assert row["mm"] == pytest.approx(row["mean face"], rel=1e-6)


# ── what is missing ────────────────────────────────────────────────────────────────────────────────────────


def test_what_is_missing_is_named(copy):
    with pytest.raises(BadData, match="--unit is 0; it is the number of mm"):
        photo_scan.cases(copy, Options(unit=0.0))
    points = copy / "anna" / "scan.pp"
    points.write_text(points.read_text().replace('name="33"', 'name="005"', 1))
    case = photo_scan.cases(copy, OPTIONS)[0]
    with pytest.raises(BadData, match="picked points beside it lack the iBUG points 33"):
        photo_scan.truth(case, OPTIONS)
    (copy / "anna" / "sides").rename(copy / "anna" / "all")
    with pytest.raises(BadData, match="a set of photos cannot be called all"):
        photo_scan.cases(copy, OPTIONS)
    (copy / "anna" / "scan.ply").unlink()
    with pytest.raises(BadData, match=r"anna has no scan \(.obj, .ply, .wrl\); expected anna/scan.ply"):
        photo_scan.cases(copy, OPTIONS)
    (copy / "ben").mkdir()
    (copy / "anna").rename(copy / "zoe")
    write_ply(copy / "ben" / "scan.ply", np.eye(3), np.array([[0, 1, 2]]))
    with pytest.raises(BadData, match="ben has no folder with photos in it"):
        photo_scan.cases(copy, OPTIONS)


def test_a_person_with_one_set_is_asked_once_and_a_cloud_is_no_answer(copy):
    import shutil

    shutil.rmtree(copy / "anna" / "sides")
    (copy / "anna" / "scan.jpg").write_bytes(b"a texture, not a photo")
    mesh = read_mesh(copy / "anna" / "scan.ply")
    write_ply(copy / "anna" / "scan.ply", mesh.vertices, mesh.faces[:0])
    (case,) = photo_scan.cases(copy, OPTIONS)
    assert (case.name, [photo.name for photo in case.photos]) == ("anna/front", ["0.jpg"])
    with pytest.raises(BadData, match="the scans of anna are clouds of points"):
        photo_scan.truth(case, OPTIONS)
    assert photo_scan.score(case, answer_of(np.zeros(MODEL.n_identity)), OPTIONS)["mm"] > 0.5
