"""YouTube Faces' layout: videos as folders of frames, with the owners' boxes."""

from dataclasses import replace

import numpy as np
import pytest

from sameface.core.errors import BadData
from sameface.evaluation.benchmarks import _pair_lists as pair_lists
from sameface.evaluation.benchmarks import ytf
from sameface.evaluation.case import Answer

OPTIONS = ytf.Options()


@pytest.fixture
def root(tmp_path):
    ytf.sample(tmp_path)
    return tmp_path


def test_a_video_is_one_case_with_its_frames_in_order_and_their_boxes(root):
    cases = ytf.cases(root, OPTIONS)
    assert sorted(case.name for case in cases) == [f"{n}/{k}" for n in ("Anna_Sample", "Ben_Sample") for k in range(5)]
    assert [photo.name for photo in cases[0].photos] == ["0.8.jpg", "0.9.jpg", "0.10.jpg"]
    for place in cases[0].places:
        np.testing.assert_array_equal(place, [[37, 33], [87, 83]])
    assert ytf.cases(root, replace(OPTIONS, face="found"))[0].places == (None, None, None)


def test_aligned_pictures_have_the_face_in_their_middle(root):
    case = ytf.cases(root, replace(OPTIONS, images="aligned_images_DB"))[0]
    assert case.photos[2].name == "aligned_detect_0.10.jpg"
    np.testing.assert_allclose(np.asarray(case.places[0]), [[30, 30], [80, 80]])  # 110 px / 2.2


def test_frames_are_evenly_spaced(root):
    for frame in range(11, 108):
        pair_lists.noise(root / "frame_images_DB" / "Anna_Sample" / "0" / f"0.{frame}.jpg", 8)
    options = replace(OPTIONS, face="found", frames=5)
    assert [photo.name for photo in ytf.cases(root, options)[0].photos] == [f"0.{k}.jpg" for k in (8, 33, 58, 82, 107)]
    assert len(ytf.cases(root, replace(options, frames=0))[0].photos) == 100
    with pytest.raises(ValueError, match="frames is -1"):
        ytf.cases(root, replace(options, frames=-1))


def test_the_owners_lines_read_with_and_without_a_header(root):
    lines = (root / "splits.txt").read_text().splitlines()
    lines[0] = "1, 1, Anna_Sample/0, Anna_Sample/1, 1"  # as in the owners' file
    (root / "corrected.txt").write_text("split, pair, first, second, is same\n" + "\n".join(lines))
    pairs = pair_lists.pairs_of(ytf.cases(root, replace(OPTIONS, splits="corrected.txt")))
    assert pairs == pair_lists.pairs_of(ytf.cases(root, OPTIONS))
    assert pairs[:2] == [("Anna_Sample/0", "Anna_Sample/1", True, 1), ("Anna_Sample/0", "Ben_Sample/1", False, 1)]


def test_the_code_of_a_video_is_the_mean_over_its_frames(root):
    cases = ytf.cases(root, OPTIONS)
    answers = []
    rng = np.random.default_rng(0)
    for case in cases:
        code = ytf.truth(case, OPTIONS).codes["identity"]
        assert code.shape == (3, 32)
        swing = 100 * rng.normal(size=code.shape)
        answers.append(Answer(codes={"identity": code + swing - swing.mean(0)}))
    assert ytf.score(cases[0], answers[0], OPTIONS) == {"frames": 3}
    assert ytf.score(cases[0], Answer(neutral=np.zeros((4, 3))), OPTIONS) == {"frames": 3}
    numbers = ytf.summary(cases, answers, [{}] * len(cases), OPTIONS)
    assert numbers["identity/cosine/accuracy"] == numbers["identity/euclidean/auc"] == 100
    assert "mesh/mm/accuracy" not in numbers
    assert all(set(system.values) <= set(numbers) for system in ytf.published)
    assert ytf.curves(cases, answers, OPTIONS)["identity/cosine"][1].max() == 1


def test_what_is_missing_or_garbled_is_named(root, tmp_path_factory):
    with pytest.raises(BadData, match=r"there is no file .*splits\.txt"):
        ytf.cases(tmp_path_factory.mktemp("empty"), OPTIONS)
    (root / "splits.txt").write_text("1, 1, Anna_Sample/0, Anna_Sample/7, 1\n")
    with pytest.raises(BadData, match=r"7 has no frames \(\*\.jpg\)"):
        ytf.cases(root, OPTIONS)
    (root / "splits.txt").write_text("1, 1, Anna_Sample, Anna_Sample/1, 1\n")
    with pytest.raises(BadData, match="expected 'fold, number, name/video, name/video, 0 or 1', found '1, 1, Anna_Sam"):
        ytf.cases(root, OPTIONS)
    (root / "splits.txt").write_text("1, 1, Anna_Sample/0, Anna_Sample/1, 1\n")
    labels = root / "frame_images_DB" / "Anna_Sample.labeled_faces.txt"
    labels.write_text("Anna_Sample\\0\\0.8.jpg,0,62,58,50,50,0.0,1\n")
    with pytest.raises(BadData, match=r"0\.9\.jpg has no line in its person's \.labeled_faces\.txt"):
        ytf.cases(root, OPTIONS)
    labels.write_text("Anna_Sample\\0\\0.8.jpg,0,62\n")
    with pytest.raises(BadData, match=r"expected 'file,ignore,x,y,width,height,…', found 'Anna_Sample"):
        ytf.cases(root, OPTIONS)
    pair_lists.noise(root / "frame_images_DB" / "Anna_Sample" / "0" / "cover.jpg", 8)
    with pytest.raises(BadData, match=r"cover\.jpg is not named like a frame"):
        ytf.cases(root, OPTIONS)
