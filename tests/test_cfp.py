"""CFP's layout: numbered lists, ten folds, frontal with profile or with frontal."""

from dataclasses import replace

import numpy as np
import pytest

from sameface.core.errors import BadData
from sameface.evaluation.benchmarks import _pair_lists as pair_lists
from sameface.evaluation.benchmarks import cfp
from sameface.evaluation.case import Answer

OPTIONS = cfp.Options()


@pytest.fixture
def root(tmp_path):
    cfp.sample(tmp_path)
    return tmp_path


def test_indices_of_the_lists_become_photos(root):
    cases = cfp.cases(root, OPTIONS)
    pairs = pair_lists.pairs_of(cases)
    assert pairs[0] == ("001/frontal/01.jpg", "001/profile/01.jpg", True, 0)
    assert pairs[1] == ("001/frontal/01.jpg", "002/profile/01.jpg", False, 0)
    assert pairs[18] == ("001/frontal/10.jpg", "001/profile/02.jpg", True, 9)
    assert len(pairs) == 20
    assert cases[0].photos[0] == root / "Data" / "Images" / "001" / "frontal" / "01.jpg"
    assert cases[0].places == (None,)
    frontal = pair_lists.pairs_of(cfp.cases(root, replace(OPTIONS, protocol="FF")))
    assert frontal[:2] == [
        ("001/frontal/01.jpg", "001/frontal/02.jpg", True, 0),
        ("001/frontal/01.jpg", "002/frontal/02.jpg", False, 0),
    ]


def test_the_central_half_may_be_named(root):
    case = cfp.cases(root, replace(OPTIONS, face="centre"))[0]
    np.testing.assert_array_equal(case.places[0], [[30, 30], [90, 90]])


@pytest.mark.parametrize("protocol", ["FP", "FF"])
def test_who_knows_every_person_is_always_right_and_names_the_protocol(root, protocol):
    options = replace(OPTIONS, protocol=protocol)
    cases = cfp.cases(root, options)
    answers = [cfp.truth(case, options) for case in cases]
    assert cfp.score(cases[0], answers[0], options) == {}
    numbers = cfp.summary(cases, answers, [{}] * len(cases), options)
    assert numbers[f"{protocol}/identity/cosine/accuracy"] == numbers[f"{protocol}/mesh/mm/100-eer"] == 100
    assert numbers[f"{protocol}/failed_pairs"] == 0
    assert all(name.startswith(protocol) for name in numbers)
    assert cfp.curves(cases, answers, options)["identity/euclidean"][1].max() == 1
    if protocol == "FP":
        assert all(set(system.values) <= set(numbers) for system in cfp.published)
    with pytest.raises(ValueError, match="neither codes"):
        cfp.score(cases[0], Answer(), options)


def test_what_is_missing_or_garbled_is_named(root, tmp_path_factory):
    with pytest.raises(BadData, match=r"there is no file .*Pair_list_F\.txt"):
        cfp.cases(tmp_path_factory.mktemp("empty"), OPTIONS)
    same = root / "Protocol" / "Split" / "FP" / "03" / "same.txt"
    same.write_text("3,99\n")
    with pytest.raises(BadData, match=r"same\.txt: expected 'i,j' with i up to 20 and j up to 8, found '3,99'"):
        cfp.cases(root, OPTIONS)
    same.write_text("3,3\n")
    (root / "Data" / "Images" / "001" / "profile" / "03.jpg").unlink()
    with pytest.raises(BadData, match=r"03\.jpg is not there; unpack CFP's Data/Images"):
        cfp.cases(root, OPTIONS)
    listed = root / "Protocol" / "Pair_list_P.txt"
    listed.write_text("1 ../Data/Images/001/profile/01.jpg\n3 ../Data/Images/001/profile/03.jpg\n")
    with pytest.raises(BadData, match=r"Pair_list_P\.txt, line 2: expected '2 path', found '3 \.\./Data"):
        cfp.cases(root, OPTIONS)
