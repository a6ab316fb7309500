"""LFW's layout, and what all verification benchmarks share: pairs in cases, scores, fusion, failures, score files."""

from dataclasses import replace

import numpy as np
import pytest

from sameface.core.errors import BadData
from sameface.evaluation.benchmarks import _pair_lists as pair_lists
from sameface.evaluation.benchmarks import _verification as shared
from sameface.evaluation.benchmarks import lfw
from sameface.evaluation.case import Answer
from sameface.metrics import verification as metric

ALL = ("exact", "insightface", "sphereface_pytorch", "mobilefacenet")
OPTIONS = lfw.Options()


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lfw")
    lfw.sample(folder)
    return folder


@pytest.fixture(scope="module")
def cases(root):
    return lfw.cases(root, OPTIONS)


def guessed(cases, noise: float = 0.9, flipped: bool = False) -> list[Answer]:
    """Answers of a system that is right on average."""
    rng = np.random.default_rng(0)
    answers = []
    for case in cases:
        perfect = lfw.truth(case, OPTIONS)
        code = perfect.codes["identity"] + noise * rng.normal(size=(1, 32))
        codes = {"identity": code}
        if flipped:
            codes["identity_flipped"] = code + rng.normal(size=code.shape)
        assert perfect.neutral is not None
        answers.append(Answer(codes=codes, neutral=perfect.neutral + rng.normal(0, 20, perfect.neutral.shape)))
    return answers


def table(cases, answers, **choices):
    return lfw.summary(cases, answers, [{}] * len(cases), replace(OPTIONS, **choices))


# ── LFW ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_photo_of_the_pairs_is_one_case_whose_face_is_in_the_centre(cases, root):
    assert sorted(case.name for case in cases) == [
        f"{name}/{name}_{k:04d}.jpg" for name in ("Anna_Sample", "Ben_Sample") for k in range(1, 6)
    ]
    assert all(case.photos[0].is_file() and len(case.photos) == 1 for case in cases)
    np.testing.assert_array_equal(cases[0].places[0], [[62.5, 62.5], [187.5, 187.5]])
    assert lfw.cases(root, replace(OPTIONS, face="found"))[0].places == (None,)


def test_pairs_come_back_in_order_of_the_file(cases, root):
    pairs = pair_lists.pairs_of(cases)
    assert pairs == pair_lists.read_lfw_pairs(root / "pairs.txt", ".jpg")
    assert pairs[0] == ("Anna_Sample/Anna_Sample_0001.jpg", "Anna_Sample/Anna_Sample_0002.jpg", True, 0)
    assert pairs[3] == ("Anna_Sample/Anna_Sample_0001.jpg", "Ben_Sample/Ben_Sample_0003.jpg", False, 1)
    assert [pair.fold for pair in pairs] == [k // 2 for k in range(20)]


def test_the_owners_list_reads_line_by_line(tmp_path):
    """The header and lines of LFW's own pairs.txt, shortened."""
    file = tmp_path / "pairs.txt"
    file.write_text(
        "2\t1\nAbel_Pacheco\t1\t4\nAbdel_Madi_Shabneh\t1\tDean_Barker\t1\nSlobodan_Milosevic\t2\t3\n"
        "Ben_Betts\t1\tKimi_Raikkonen\t3\n"
    )
    pairs = pair_lists.read_lfw_pairs(file, ".jpg")
    assert pairs[3] == ("Ben_Betts/Ben_Betts_0001.jpg", "Kimi_Raikkonen/Kimi_Raikkonen_0003.jpg", False, 1)


def test_who_knows_every_person_is_always_right(cases):
    answers = [lfw.truth(case, OPTIONS) for case in cases]
    assert [lfw.score(case, answer, OPTIONS) for case, answer in zip(cases, answers, strict=True)] == [{}] * 10
    numbers = table(cases, answers, rule=ALL)
    for name in ("identity/cosine", "identity/euclidean", "mesh/mm"):
        assert numbers[f"{name}/accuracy"] == numbers[f"{name}/auc"] == numbers[f"{name}/tar_at_far_01"] == 100
        assert numbers[f"{name}/eer"] == 0
    for name in ("insightface_no_flip", "sphereface_pytorch", "mobilefacenet_no_flip"):
        assert numbers[f"identity/{name}/accuracy"] == 100
    assert (numbers["pairs"], numbers["failed_pairs"]) == (20, 0)


def test_who_answers_the_same_for_everybody_is_right_half_the_time(cases):
    same_for_all = Answer(codes={"identity": np.ones((1, 4))}, neutral=np.ones((5, 3)))
    numbers = table(cases, [same_for_all] * 10)
    assert numbers["identity/cosine/accuracy"] == numbers["mesh/mm/accuracy"] == 50
    assert numbers["identity/euclidean/auc"] == 50


def test_the_table_holds_the_metrics_of_the_scores_that_are_named(cases):
    answers = guessed(cases, flipped=True)
    pairs = pair_lists.pairs_of(cases)
    by_name = dict(zip((case.name for case in cases), answers, strict=True))
    same, folds = np.array([p.same for p in pairs]), np.array([p.fold for p in pairs])
    a, b = (np.concatenate([by_name[p[k]].codes["identity"] for p in pairs]) for k in (0, 1))
    fa, fb = (np.concatenate([by_name[p[k]].codes["identity_flipped"] for p in pairs]) for k in (0, 1))
    numbers = table(cases, answers, rule=ALL)
    assert not any("identity_flipped" in name or "no_flip" in name for name in numbers)
    cosine = metric.verification_numbers(metric.cosine(a, b), same, folds)
    assert {name: numbers[f"identity/cosine/{name}"] for name in cosine} == cosine
    distance = metric.squared_distance(a + fa, b + fb)
    insightface = metric.accuracy_insightface(distance, same, folds)
    assert numbers["identity/insightface/accuracy"] == 100 * insightface.mean
    assert numbers["identity/insightface/tar_at_far_01"] == 100 * metric.tar_insightface(distance, same, folds).mean()
    long = metric.centred_cosines(np.concatenate([a, fa], 1), np.concatenate([b, fb], 1), folds)
    assert numbers["identity/mobilefacenet/accuracy"] == 100 * metric.accuracy_mobilefacenet(long, same, folds).mean
    close = metric.cosine(a, b, epsilon=1e-5)
    assert numbers["identity/sphereface_pytorch/accuracy_std"] == (
        100 * metric.accuracy_sphereface_pytorch(close, same, folds).std
    )
    meshes = {name: np.asarray(answer.neutral) for name, answer in by_name.items()}
    millimetres = [metric.mesh_distance(meshes[p.first], meshes[p.second]) for p in pairs]
    pooled = table(cases, answers, curves="pooled", interpolation="linear")
    assert pooled["mesh/mm/auc"] == 100 * metric.area_under_curve(-np.array(millimetres), same)
    curves = lfw.curves(cases, answers, replace(OPTIONS, rule=ALL))
    np.testing.assert_array_equal(curves["mesh/mm"][1], metric.roc(-np.array(millimetres), same).tar)
    np.testing.assert_array_equal(curves["identity/insightface"][0], metric.roc(-distance, same).far)
    assert curves["identity/mobilefacenet"][1][-1] == 1


def test_published_numbers_stand_beside_ours_under_the_same_names(cases):
    numbers = table(cases, guessed(cases))
    for system in lfw.published:
        assert set(system.values) <= set(numbers)
        assert "table" in system.source


# ── failures ───────────────────────────────────────────────────────────────────────────────────────────────


def test_failing_never_pays_unless_the_option_says_so(cases):
    perfect = [lfw.truth(case, OPTIONS) for case in cases]
    failed = [None if case.name.endswith("Ben_Sample_0005.jpg") else a for case, a in zip(cases, perfect, strict=True)]
    touched = [p for p in pair_lists.pairs_of(cases) if "Ben_Sample/Ben_Sample_0005.jpg" in (p.first, p.second)]
    wrong = table(cases, failed, rule=ALL)
    assert wrong["failed_pairs"] == len(touched) == 6
    for name in ("cosine", "euclidean", "sphereface_pytorch", "insightface_no_flip", "mobilefacenet_no_flip"):
        assert wrong[f"identity/{name}/accuracy"] == pytest.approx(100 * (20 - 6) / 20), name
    lenient = table(cases, failed, rule=ALL, missing="different")
    strangers = sum(not p.same for p in touched)
    for name in ("cosine", "insightface_no_flip"):
        assert lenient[f"identity/{name}/accuracy"] == pytest.approx(100 * (20 - 6 + strangers) / 20), name
    assert wrong["identity/cosine/auc"] < lenient["identity/cosine/auc"] < 100


def test_a_system_that_fails_everywhere_has_counts_only(cases):
    assert table(cases, [None] * 10) == {"pairs": 20, "failed_pairs": 20}
    assert lfw.curves(cases, [None] * 10, OPTIONS) == {}


def test_answers_that_cannot_be_compared_are_refused(cases):
    with pytest.raises(ValueError, match=r"Sample_0001.jpg: the answer has neither codes .* nor a neutral mesh"):
        lfw.score(cases[0], Answer(), OPTIONS)
    with pytest.raises(ValueError, match=r"code 'identity' of shape \(1, 2\) is empty or not finite"):
        lfw.score(cases[0], Answer(codes={"identity": np.array([[1.0, np.nan]])}), OPTIONS)
    with pytest.raises(ValueError, match=r"code 'identity' of shape \(0, 2\)"):
        lfw.score(cases[0], Answer(codes={"identity": np.zeros((0, 2))}), OPTIONS)
    with pytest.raises(ValueError, match="the neutral mesh has vertices that are not finite"):
        lfw.score(cases[0], Answer(neutral=np.full((4, 3), np.inf)), OPTIONS)
    answers = guessed(cases)
    with pytest.raises(ValueError, match="only some answers have the codes embedding"):
        table(cases, [Answer(codes={**answers[0].codes, "embedding": np.ones((1, 2))}), *answers[1:]])
    with pytest.raises(ValueError, match="some answers have a neutral mesh and some have none"):
        table(cases, [Answer(codes=answers[0].codes), *answers[1:]])
    with pytest.raises(ValueError, match="10 cases but 9 answers; give None"):
        table(cases, answers[1:])


def test_of_the_first_cases_only_the_pairs_among_them_are_scored(cases):
    answers = guessed(cases)
    numbers = table(cases[:9], answers[:9])
    among = pair_lists.pairs_of(cases[:9])
    assert numbers["pairs"] == len(among) < 20
    assert numbers["pairs"] + numbers["pairs_not_asked"] == 20
    assert "pairs_not_asked" not in table(cases, answers)
    assert table(cases[:2], answers[:2]) == {"pairs": 1, "failed_pairs": 0, "pairs_not_asked": 19}
    assert table(cases[:1], answers[:1]) == {"pairs": 0, "failed_pairs": 0, "pairs_not_asked": 20}
    assert lfw.curves(cases[:1], answers[:1], OPTIONS) == {}
    few = [case for case in cases if case.name[-6:] in ("01.jpg", "02.jpg", "03.jpg")]  # folds 0, 1 and 4 are whole
    assert {(p.fold, p.same) for p in pair_lists.pairs_of(few)} == {
        (k, kind) for k in (0, 1, 4) for kind in (True, False)
    }
    known = table(few, [lfw.truth(case, OPTIONS) for case in few])
    assert known["identity/cosine/accuracy"] == 100
    assert known["pairs"] == 6


# ── fusion and files ───────────────────────────────────────────────────────────────────────────────────────


def test_scores_written_by_one_system_are_fused_by_another(cases, tmp_path):
    answers = guessed(cases)
    table(cases, answers, scores=tmp_path / "scores", rule=ALL)
    written = sorted(file.name for file in (tmp_path / "scores").iterdir())
    assert written == [
        "identity-cosine.csv", "identity-euclidean.csv", "identity-insightface_no_flip.csv",
        "identity-mobilefacenet_no_flip.csv", "identity-sphereface_pytorch.csv", "mesh-mm.csv",
    ]  # fmt: skip
    numbers = table(cases, answers, fuse=tmp_path / "scores" / "mesh-mm.csv")
    assert numbers["other/score/accuracy"] == numbers["mesh/mm/accuracy"]
    assert numbers["mesh/mm+other/auc"] == numbers["mesh/mm/auc"]  # a score with itself
    pairs = pair_lists.pairs_of(cases)
    scores = shared.pair_scores(cases, answers, OPTIONS)
    same, folds = np.array([p.same for p in pairs]), np.array([p.fold for p in pairs])
    sums = metric.fused([scores["identity/cosine"], scores["mesh/mm"]], folds)
    expected = metric.verification_numbers(sums, same, folds)
    assert {name: numbers[f"identity/cosine+other/{name}"] for name in expected} == expected


def test_scores_come_back_to_the_last_bit_failed_pairs_included(cases, tmp_path):
    pairs = pair_lists.pairs_of(cases)
    scores = np.random.default_rng(0).normal(size=20)
    scores[3] = -np.inf
    pair_lists.write_scores(tmp_path / "s.csv", pairs, scores)
    np.testing.assert_array_equal(pair_lists.read_scores(tmp_path / "s.csv", pairs), scores)
    first = (tmp_path / "s.csv").read_text().splitlines()[:2]
    assert first[0] == "fold,first,second,same,score"
    assert first[1].startswith("0,Anna_Sample/Anna_Sample_0001.jpg,Anna_Sample/Anna_Sample_0002.jpg,1,0.1257")


def test_score_files_of_other_pairs_are_refused(cases, tmp_path):
    pairs, file = pair_lists.pairs_of(cases), tmp_path / "scores.csv"
    file.write_text("\n".join(["0.5"] * 20))
    assert pair_lists.read_scores(file, pairs).tolist() == [0.5] * 20
    file.write_text("\n".join(["0.5"] * 19))
    with pytest.raises(BadData, match=r"has 19 scores, but the benchmark has 20 pairs"):
        pair_lists.read_scores(file, pairs)
    file.write_text("\n".join(["nan"] * 20))
    with pytest.raises(BadData, match="20 scores that are NaN"):
        pair_lists.read_scores(file, pairs)
    file.write_text("\n".join(["half"] * 20))
    with pytest.raises(BadData, match="is no list of scores"):
        pair_lists.read_scores(file, pairs)
    file.write_text("same,score\n" + "1,0.5\n" * 20)
    with pytest.raises(BadData, match="other labels in its column `same`"):
        pair_lists.read_scores(file, pairs)
    file.write_text("same,score\n" + "1\n" * 20)
    with pytest.raises(BadData, match="is no list of scores"):
        pair_lists.read_scores(file, pairs)
    file.write_text("")
    with pytest.raises(BadData, match="has 0 scores"):
        pair_lists.read_scores(file, pairs)


# ── what can be wrong with the folder ──────────────────────────────────────────────────────────────────────


def test_a_folder_that_is_not_lfw_is_named(root, tmp_path):
    with pytest.raises(BadData, match=r"lfw is not there; unpack LFW into .* option `pictures`"):
        lfw.cases(tmp_path, OPTIONS)
    with pytest.raises(BadData, match=r"there is no file .*other\.txt"):
        lfw.cases(root, replace(OPTIONS, pairs="other.txt"))
    (tmp_path / "lfw").mkdir()
    (tmp_path / "pairs.txt").write_text((root / "pairs.txt").read_text())
    with pytest.raises(BadData, match=r"Anna_Sample_0001\.jpg is not there; the benchmark's list of pairs needs it"):
        lfw.cases(tmp_path, OPTIONS)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must begin with two numbers, folds and pairs"),
        ("1100\nA\t1\t2\n", r"must begin with two numbers, .* not '1100'"),  # View 1's list
        ("2 1\nA 1 2\n", r"promises 2 × 2 × 1 pairs but has 1"),
        ("1 1\nA 1 2 3\nA 1 B 1\n", r"pair 1: expected 'name i j', found 'A 1 2 3'"),
        ("1 1\nA 1 2\nA 1 B x\n", r"pair 2: expected 'name i name j', found 'A 1 B x'"),
    ],
)
def test_lists_of_pairs_in_another_form_are_refused(tmp_path, text, message):
    (tmp_path / "pairs.txt").write_text(text)
    with pytest.raises(BadData, match=message):
        pair_lists.read_lfw_pairs(tmp_path / "pairs.txt", ".jpg")


def test_files_that_are_no_text_or_no_picture_are_named(tmp_path):
    (tmp_path / "pairs.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(BadData, match="not UTF-8 text"):
        pair_lists.read_lines(tmp_path / "pairs.txt")
    with pytest.raises(BadData, match="is no picture that can be read"):
        pair_lists.centre_box(tmp_path / "pairs.txt", 0.5)
