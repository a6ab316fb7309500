"""MICC Florence: the four protocols by name, and what is missing is named."""

import json

import numpy as np
import pytest

from sameface.core.errors import BadData
from sameface.evaluation.benchmarks import florence
from sameface.evaluation.benchmarks.florence import Options
from sameface.evaluation.case import Answer, CaseFailed

ONE = "Indoor-Cooperative"


@pytest.fixture
def root(tmp_path):
    florence.sample(tmp_path)
    return tmp_path


def changed(answer: Answer, amount: float, size: float = 1.0) -> Answer:
    dent = amount * np.exp(-((answer.neutral[:, :2] - [30, -20]) ** 2).sum(1) / 900)
    return Answer(
        neutral=size * (answer.neutral - np.array([0, 0, 1]) * dent[:, None]),
        faces=answer.faces,
        neutral_landmarks=size * answer.neutral_landmarks,
    )


@pytest.mark.parametrize("protocol", ["ganfit", "deep3d", "genova", "mgcnet"])
def test_each_protocol_finds_the_truth_perfect_and_a_dent_not(root, protocol):
    options = Options(protocol=protocol, setting=ONE)
    cases = florence.cases(root, options)
    truths = [florence.truth(case, options) for case in cases]
    rows = [florence.score(case, answer, options) for case, answer in zip(cases, truths, strict=True)]
    assert all(row["mm"] < 1e-3 for row in rows)
    wrong = [changed(answer, 6.0) for answer in truths]
    rows = [florence.score(case, answer, options) for case, answer in zip(cases, wrong, strict=True)]
    assert all(row["mm"] > 0.05 for row in rows)
    table = florence.summary(cases, wrong, rows, options)
    assert set(table) - {"scale"} == {"mm", f"{ONE}/mm", f"{ONE}/std"}
    if protocol != "genova":
        assert table["mm"] == pytest.approx(np.mean([row["mm"] for row in rows]))


def test_genova_has_one_scale_for_all_people(root):
    options = Options(protocol="genova", setting=ONE)
    cases = florence.cases(root, options)
    sized = [changed(florence.truth(case, options), 0.0, size) for case, size in zip(cases, (0.9, 1.1), strict=True)]
    rows = [florence.score(case, answer, options) for case, answer in zip(cases, sized, strict=True)]
    assert all(row["mm"] < 1e-3 for row in rows)  # each with its own scale
    table = florence.summary(cases, sized, rows, options)
    assert table["scale"] == pytest.approx((1 / 0.9 + 1 / 1.1) / 2, rel=1e-3)
    assert table["mm"] > 0.1


def test_a_person_whom_the_scale_of_all_does_not_fit_is_named(root, monkeypatch):
    options = Options(protocol="genova", setting=ONE)
    cases = florence.cases(root, options)
    truths = [florence.truth(case, options) for case in cases]
    rows = [florence.score(case, answer, options) for case, answer in zip(cases, truths, strict=True)]
    right = florence.micc_genova

    def picky(scan, *meshes, scale, **options):
        if len(scan) == len(truths[1].neutral) and (scan == truths[1].neutral).all() and scale is not None:
            raise ValueError("ICP did not converge")
        return right(scan, *meshes, scale=scale, **options)

    monkeypatch.setattr(florence, "micc_genova", picky)
    with pytest.raises(CaseFailed, match="ICP did not converge") as caught:
        florence.summary(cases, truths, rows, options)
    assert caught.value.case == cases[1].name
    assert florence.summary(cases, truths, [rows[0], None], options)["mm"] < 1e-3


def test_ganfit_takes_the_better_of_two_scans(root):
    options = Options(protocol="ganfit", setting=ONE)
    case = florence.cases(root, options)[0]
    assert [pair[0].parent.parent.name for pair in case.truth["scans"]] == ["frontal1", "frontal2"]
    assert florence.score(case, florence.truth(case, options), options)["mm"] < 1e-3
    second = dict(case.truth, scans=case.truth["scans"][1:])
    assert (
        florence.score(type(case)(case.name, case.photos, case.places, second), florence.truth(case, options), options)[
            "mm"
        ]
        > 0.1
    )


def test_frames_are_picked_evenly_and_units_converted(root):
    assert [len(case.photos) for case in florence.cases(root, Options(frames=1))] == [1] * 6
    case = florence.cases(root, Options())[0]
    assert len(case.photos) == 2
    np.testing.assert_allclose(
        florence.truth(case, Options(unit=1.5)).neutral, 1.5 * florence.truth(case, Options()).neutral
    )


def test_scans_of_another_unit_and_swapped_points_are_no_truth(root):
    case = florence.cases(root, Options(setting=ONE))[0]
    with pytest.raises(BadData, match=r"eyes of the scan are 6\.[34] mm apart; it looks like centimetres; give --unit"):
        florence.truth(case, Options(unit=0.1))
    with pytest.raises(BadData, match=r"eyes of the scan are 6\.[34][0-9]?e\+03 mm apart; give --unit, mm per unit"):
        florence.truth(case, Options(unit=100.0))
    path = case.truth["scans"][0][1]
    told = json.loads(path.read_text())
    points = np.array(told["landmarks"]["points"])
    points[[36, 39, 42, 45, 48, 54]] = points[[45, 42, 39, 36, 54, 48]]
    path.write_text(json.dumps({"landmarks": {"points": points.tolist()}}))
    with pytest.raises(BadData, match=rf"{path.name} has right and left landmarks swapped"):
        florence.truth(case, Options())


def test_what_is_missing_is_named(root, tmp_path):
    options = Options(setting=ONE)
    case = florence.cases(root, options)[0]
    with pytest.raises(ValueError, match="the answer has no neutral, faces, neutral_landmarks"):
        florence.score(case, Answer(), options)
    points = case.truth["scans"][0][1]
    points.write_text(json.dumps({"landmarks": {"points": [[0, 0, 0]]}}))
    with pytest.raises(BadData, match=r"holds points of the shape \(1, 3\); expected 68"):
        florence.truth(case, options)
    points.write_text("[]")
    with pytest.raises(BadData, match="is no landmark file of menpo"):
        florence.truth(case, options)
    points.write_bytes(b" " * (florence.LARGEST + 1))
    with pytest.raises(BadData, match="such a file is read up to"):
        florence.truth(case, options)
    case.truth["scans"][0][0].unlink()
    with pytest.raises(BadData, match=r"has no \*.obj: the scan of the subject"):
        florence.cases(root, options)
    for frame in (root / "subject_01" / "Video" / ONE).glob("*"):
        frame.unlink()
    with pytest.raises(BadData, match="has no frames"):
        florence.cases(root, options)
    (root / "MICC_landmarks" / "subject_00").mkdir()
    florence.photo(root / "subject_00" / "Video" / ONE / "a.png", 0)
    with pytest.raises(BadData, match="has neither Model/frontal1/obj nor Model/frontal2/obj"):
        florence.cases(root, options)
    with pytest.raises(BadData, match="the landmarks come with barisgecer/GANFit"):
        florence.cases(root / "subject_01", options)
