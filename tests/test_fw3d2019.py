"""3DFAW 2019: ARMSE by hand, videos and folders of frames, and what is missing is named."""

import numpy as np
import pytest

from sameface.core.errors import BadData, NoFaceFound
from sameface.evaluation import systems
from sameface.evaluation.benchmarks import fw3d2019
from sameface.evaluation.benchmarks.fw3d2019 import Options
from sameface.evaluation.case import Answer
from sameface.evaluation.case_photos import first_photo
from sameface.mesh.write import write_obj
from test_views import write_video

OPTIONS = Options()


@pytest.fixture
def root(tmp_path):
    fw3d2019.sample(tmp_path)
    return tmp_path


def grid(columns: int, rows: int, step: float) -> tuple[np.ndarray, np.ndarray]:
    """A flat sheet around the origin."""
    x, y = (g.reshape(-1) for g in np.meshgrid(np.arange(columns) * step, np.arange(rows) * step))
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).reshape(-1)
    quads = np.stack([corner, corner + 1, corner + columns + 1, corner + columns], axis=1)
    vertices = np.stack([x - x.mean(), y - y.mean(), 0 * x], axis=1)
    return vertices, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


def test_a_smaller_sheet_by_hand(tmp_path):
    """A sheet of 80 × 80 mm, of which the prediction has the middle 40 × 40 with the same vertices, every 10 mm.

    The landmarks agree and each vertex has its own, so nothing moves. The prediction lies on the truth: RMSE 0. A true
    vertex beyond is as far away as it is from the middle square; every fourth of the 81 counts. The eyes are 40 apart.
    """
    vertices, faces = grid(9, 9, 10.0)
    inner = np.abs(vertices).max(1) <= 20
    numbers = np.flatnonzero(inner)[np.arange(51) % 25]
    numbers[[13, 19, 28]] = [40, 38, 42]  # nose tip in the middle, eyes at x = ±20
    numbers[[22, 25, 16, 31, 37]] = [39, 41, 31, 21, 23]  # and the other corners and the nose where a face has them
    folder = tmp_path / "ground_truth"
    folder.mkdir()
    write_obj(folder / "mesh7.obj", vertices, faces)
    np.savetxt(folder / "VertexLandmarks7.txt", numbers, fmt="%d")
    fw3d2019.photo(tmp_path / "videos" / "iphone" / "7" / "a.png", 0)
    (case,) = fw3d2019.cases(tmp_path, OPTIONS)
    points = np.full((68, 3), np.nan)
    points[17:] = vertices[numbers]
    answer = Answer(neutral=vertices, faces=faces[inner[faces].all(1)], neutral_landmarks=points)
    beyond = np.maximum(np.abs(vertices) - 20, 0)
    expected = np.sqrt((beyond[::4] ** 2).sum(1).mean()) / 2
    row = fw3d2019.score(case, answer, OPTIONS)
    assert row["mm"] == pytest.approx(expected, rel=1e-6)
    assert row["armse"] == pytest.approx(100 * expected / 40, rel=1e-6)
    whole = Answer(neutral=vertices, faces=faces, neutral_landmarks=points)
    assert fw3d2019.score(case, whole, OPTIONS)["mm"] == pytest.approx(0, abs=1e-9)
    cropped = fw3d2019.score(case, whole, Options(radius=29.0))  # |p| ≤ 29: the square of 40 mm without less and more
    assert cropped["mm"] == pytest.approx(expected, rel=1e-6)


def test_a_prediction_may_have_any_size_and_place(root):
    case = fw3d2019.cases(root, OPTIONS)[0]
    answer = fw3d2019.truth(case, OPTIONS)
    turn = np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]])
    moved = Answer(
        neutral=0.1 * answer.neutral @ turn.T + 7,
        faces=answer.faces,
        neutral_landmarks=0.1 * answer.neutral_landmarks @ turn.T + 7,
    )
    assert fw3d2019.score(case, moved, OPTIONS)["mm"] < 1e-4


def test_a_mean_over_people_and_its_deviation(root):
    cases = fw3d2019.cases(root, OPTIONS)
    rows = [{"armse": 2.0, "mm": 1.5}, {"armse": 4.0, "mm": 3.5}]
    assert fw3d2019.summary(cases, [None, None], rows, OPTIONS) == {"armse": 3.0, "std": 1.0, "mm": 2.5}
    assert fw3d2019.summary(cases, [None, None], [None, rows[1]], OPTIONS)["armse"] == 4.0
    with pytest.raises(ValueError, match="failed on all 2 people"):
        fw3d2019.summary(cases, [None, None], [None, None], OPTIONS)


def test_frames_of_a_folder_or_of_a_video_at_equal_steps(root):
    case = fw3d2019.cases(root, OPTIONS)[0]
    assert [path.name for path in case.photos] == ["frame0000.jpg", "frame0001.jpg", "frame0002.jpg"]
    one = fw3d2019.cases(root, Options(video="highres", frames=1))[1]
    assert [str(path.relative_to(root)) for path in one.photos] == ["videos/highres/027/frame0000.jpg"]
    for path in case.photos:
        path.unlink()
    case.photos[0].parent.rmdir()
    write_video(root / "videos" / "iphone" / "001.avi")
    case = fw3d2019.cases(root, Options(frames=4))[0]
    assert (case.photos[0].name, case.frames, case.places) == ("001.avi", 4, (None,))
    assert first_photo(case).name == "001.avi frame 0"


def test_our_pipeline_on_a_video_of_nobody_is_a_failure_that_is_said(root):
    write_video(root / "videos" / "iphone" / "009.avi")
    for name in ("mesh{}.obj", "VertexLandmarks{}.txt"):
        (root / "ground_truth" / name.format("001")).rename(root / "ground_truth" / name.format("009"))
    case = fw3d2019.cases(root, Options(frames=3))[0]
    with pytest.raises(NoFaceFound, match=r"no face in 009\.avi frame 0"):
        systems.load("mean")(case)


def test_what_is_missing_is_named(root):
    case = fw3d2019.cases(root, OPTIONS)[0]
    answer, points = fw3d2019.truth(case, OPTIONS), case.truth["points"]
    with pytest.raises(ValueError, match="needs the person's mesh, but the answer has no faces, neutral_landmarks"):
        fw3d2019.score(case, Answer(neutral=answer.neutral), OPTIONS)
    blank = Answer(neutral=answer.neutral, faces=answer.faces, neutral_landmarks=np.full((68, 3), np.nan))
    with pytest.raises(ValueError, match="landmarks of the answer's mesh are NaN"):
        fw3d2019.score(case, blank, OPTIONS)
    with pytest.raises(ValueError, match="frames is 0"):
        fw3d2019.cases(root, Options(frames=0))
    numbers = np.loadtxt(points, dtype=int)
    for place, name in ((13, "tip of the nose"), (19, "right outer eye corner"), (28, "left outer eye corner")):
        unknown = numbers.copy()
        unknown[place] = -1
        np.savetxt(points, unknown, fmt="%d")
        with pytest.raises(BadData, match=rf"does not know the {name} \(line {place + 1}\)"):
            fw3d2019.truth(case, OPTIONS)
    np.savetxt(points, numbers[:50], fmt="%d")
    with pytest.raises(BadData, match=r"holds 50 numbers from -1 to \d+; expected 51, from −1"):
        fw3d2019.truth(case, OPTIONS)
    points.write_text("right eye\n")
    with pytest.raises(BadData, match="is not a list of vertices"):
        fw3d2019.truth(case, OPTIONS)
    points.unlink()
    with pytest.raises(BadData, match=r"VertexLandmarks001.txt is missing, the landmarks of mesh001.obj"):
        fw3d2019.cases(root, OPTIONS)
    points.write_text("0\n" * 51)
    for frame in case.photos:
        frame.unlink()
    with pytest.raises(BadData, match=r"001 has no frames \(\.jpg"):
        fw3d2019.cases(root, OPTIONS)
    case.photos[0].parent.rmdir()
    with pytest.raises(BadData, match=r"iphone has no video 001.mp4 .* and no folder 001"):
        fw3d2019.cases(root, OPTIONS)
    with pytest.raises(BadData, match=r"has no mesh\*.obj; put the scans"):
        fw3d2019.cases(root / "videos", OPTIONS)
