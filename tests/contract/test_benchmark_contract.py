"""What every benchmark must do: read its own sample, find the truth perfect, and everything else worse."""

import ast
import dataclasses
import inspect
import pickle
import re
import shutil
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
import pytest

from clutter import littered
from sameface.core import plugins
from sameface.core.errors import AssetMissing, BadData
from sameface.core.geometry import rotation_from_axis_angle
from sameface.evaluation import systems
from sameface.evaluation.case import Answer, Case
from sameface.photo import image

NOTHING = 0.01
"""percent, mm or degrees: what the error of a perfect answer is below"""


class Bench(NamedTuple):
    module: ModuleType
    options: object
    root: Path
    cases: list[Case]
    truths: list[Answer]


@pytest.fixture(scope="module", params=plugins.names("benchmarks"))
def bench(request, tmp_path_factory) -> Bench:
    module = plugins.load("benchmarks", request.param)
    root = tmp_path_factory.mktemp(request.param)
    module.sample(root)
    options = module.Options()
    cases = module.cases(root, options)
    return Bench(module, options, root, cases, [module.truth(case, options) for case in cases])


def blurred(answer: Answer, seed: int) -> Answer:
    """Points off by hundredths of the face's size, heads turned by 0.3 rad, codes and meshes somebody else's."""
    rng = np.random.default_rng(seed)

    def off(points: np.ndarray | None, share: float = 0.05) -> np.ndarray | None:
        if points is None:
            return None
        size = np.nanmax(points, axis=-2, keepdims=True) - np.nanmin(points, axis=-2, keepdims=True)
        return (points + share * size * rng.normal(size=points.shape)).astype(points.dtype)

    def bent(points: np.ndarray | None) -> np.ndarray | None:
        """As `off`, but a surface still: the nearest point of noise is far to seek."""
        if points is None or answer.codes:
            return off(points, 5.0)
        size = np.ptp(points, axis=-2, keepdims=True)
        waves = np.sin(10 * points / size + rng.uniform(0, 2 * np.pi, (1, 3)))
        return (points + 0.05 * size * waves[..., [1, 2, 0]]).astype(points.dtype)

    turn = rotation_from_axis_angle(0.3 * np.array([0.6, 0.64, 0.48]))
    return dataclasses.replace(
        answer, landmarks=off(answer.landmarks), vertices=off(answer.vertices),
        neutral=bent(answer.neutral), neutral_landmarks=off(answer.neutral_landmarks),
        rotation=None if answer.rotation is None else turn @ answer.rotation,
        codes={name: rng.normal(size=code.shape) for name, code in answer.codes.items()},
    )  # fmt: skip


def mirrored(answer: Answer) -> Answer:
    """Left and right exchanged, the numbers of the points kept."""

    def flipped(points: np.ndarray | None) -> np.ndarray | None:
        if points is None:
            return None
        middle = np.nanmean(points, axis=-2, keepdims=True)
        return (middle + (points - middle) * [-1, 1, 1]).astype(points.dtype)

    flip = np.diag([-1.0, 1.0, 1.0])
    return dataclasses.replace(
        answer, landmarks=flipped(answer.landmarks), vertices=flipped(answer.vertices), neutral=flipped(answer.neutral),
        neutral_landmarks=flipped(answer.neutral_landmarks),
        rotation=None if answer.rotation is None else flip @ answer.rotation @ flip,
    )  # fmt: skip


def rows_of(bench: Bench, answers: list[Answer]) -> list[dict[str, float] | None]:
    return [bench.module.score(case, answer, bench.options) for case, answer in zip(bench.cases, answers, strict=True)]


def errors(bench: Bench, answers: list[Answer]) -> np.ndarray:
    """What should be zero: the first number of each row; for benchmarks of pairs, what accuracy lacks to 100 %."""
    rows = rows_of(bench, answers)
    assert all(np.isfinite(value) for row in rows if row for value in row.values())
    summary = bench.module.summary(bench.cases, answers, rows, bench.options)
    accuracies = [100 - value for name, value in summary.items() if name.endswith("/accuracy")]
    return np.array(accuracies or [next(iter(row.values())) for row in rows if row])


def scored_or_refused(bench: Bench, case: Case, answer: Answer) -> float | str:
    """The first number of the row, or the reason for having none."""
    try:
        return next(iter(bench.module.score(case, answer, bench.options).values()))
    except ValueError as error:
        return str(error)


def test_the_truth_is_perfect(bench):
    np.testing.assert_allclose(errors(bench, bench.truths), 0, atol=NOTHING)


def test_a_blurred_answer_is_worse(bench):
    wrong = errors(bench, [blurred(answer, k) for k, answer in enumerate(bench.truths)])
    assert wrong.mean() > 10 * NOTHING


def test_a_mirrored_answer_is_worse_or_refused(bench):
    """Whether an alignment that cannot succeed ends somewhere bad or is given up may turn with the last bits."""
    if any(answer.codes for answer in bench.truths):
        pytest.skip("pairs are compared by codes and by distances of meshes, which mirror images keep")
    for case, answer in zip(bench.cases, bench.truths, strict=True):
        found = scored_or_refused(bench, case, mirrored(answer))
        refused = isinstance(found, str) and re.search("alignment|ICP|right and left landmarks swapped", found)
        assert refused or (not isinstance(found, str) and found > 10 * NOTHING), found


def test_the_sample_holds_photos_of_cases_with_names_of_their_own(bench):
    assert len({case.name for case in bench.cases}) == len(bench.cases) >= 2
    for case in bench.cases:
        assert len(case.places) == len(case.photos) >= 1
        for photo, place in zip(case.photos, case.places, strict=True):
            assert bench.root in photo.parents
            assert image.read(photo).size
            assert place is None or (len(place) in (2, 5, 68) and np.isfinite(place).all())


def test_cases_travel_to_other_processes(bench):
    again = pickle.loads(pickle.dumps(bench.cases[0]))
    assert (again.name, again.photos) == (bench.cases[0].name, bench.cases[0].photos)


def test_a_failed_case_does_not_stop_the_table(bench):
    answers: list[Answer | None] = [None, *bench.truths[1:]]
    rows = [None, *rows_of(bench, bench.truths)[1:]]
    summary = bench.module.summary(bench.cases, answers, rows, bench.options)
    assert summary
    assert all(isinstance(value, float) for value in summary.values())


def test_an_answer_that_says_nothing_is_told_what_it_lacks(bench):
    with pytest.raises(ValueError, match=r"\w+"):
        bench.module.score(bench.cases[0], Answer(), bench.options)


def test_an_empty_folder_is_named(bench, tmp_path):
    with pytest.raises((BadData, AssetMissing), match=tmp_path.name):
        bench.module.cases(tmp_path, bench.options)


def test_what_systems_leave_in_folders_is_no_case(bench, tmp_path):
    root = littered(Path(shutil.copytree(bench.root, tmp_path / "copy")))
    cases = bench.module.cases(root, bench.options)
    assert [case.name for case in cases] == [case.name for case in bench.cases]
    photos = [[path.relative_to(root) for path in case.photos] for case in cases]
    assert photos == [[path.relative_to(bench.root) for path in case.photos] for case in bench.cases]
    for case in cases:
        bench.module.truth(case, bench.options)


def test_every_choice_of_the_protocol_is_explained(bench):
    assert dataclasses.is_dataclass(bench.module.Options)
    assert hash(bench.options) == hash(bench.module.Options())
    for kind in bench.module.Options.__mro__[:-1]:
        body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
        for field, after in zip(body, [*body[1:], None], strict=True):
            if isinstance(field, ast.AnnAssign):
                text = ast.literal_eval(after.value) if isinstance(after, ast.Expr) else ""
                assert isinstance(text, str)
                assert text, ast.unparse(field)


def test_published_numbers_stand_under_the_tables_names_with_a_source(bench):
    summary = bench.module.summary(bench.cases, bench.truths, rows_of(bench, bench.truths), bench.options)
    ours = {name.split("/")[-1] for name in summary}
    for one in bench.module.published:
        assert {name.split("/")[-1] for name in one.values} <= ours, one.system
        assert len(one.source) > 5


def test_it_says_what_it_is_how_it_lies_on_disk_and_who_may_use_it(bench):
    text = (bench.module.__doc__ or "").lower()
    assert "layout" in text
    assert "licence" in text
    assert set(getattr(bench.module, "asks", ())) <= set(systems.ANSWERS)
