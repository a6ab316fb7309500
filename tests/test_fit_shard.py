"""Photos of whole persons → labels: what was drawn is found, and every reason to reject a photo is met."""

from dataclasses import replace

import numpy as np
import pytest

from faces import from_far, person, seen_by, two_people
from sameface.core.errors import BadData, NoFaceFound
from sameface.morphable import default
from sameface.photo.observe import observe, points_of
from sameface.photo.predictor import Second, load
from sameface.reconstruction import reconstruct
from sameface.training import fit_shard as module
from sameface.training.datasets.labelled import camera_of, schema
from sameface.training.fit_shard import Options, fit_shard, look, owners
from sameface.training.labels import in_photo

ANNA, BEN = person(1) / 3, person(2) / 3
"""identities within the usual"""
USUAL = Options()
SIZE = (640, 480)


class Photos:
    """A data set whose pictures are what a perfect network would say of them: `seen[i]`, or an error."""

    def __init__(self, persons: list[int], seen: list):
        self.person, self.seen = np.array(persons), seen

    def __len__(self) -> int:
        return len(self.seen)

    def __getitem__(self, index: int, /):
        if isinstance(self.seen[index], BadData):
            raise self.seen[index]
        return {"image": np.full((SIZE[1], SIZE[0], 3), index, np.uint8)}


@pytest.fixture
def fitted(monkeypatch):
    """Fit what is given as (person, observation) pairs."""

    def run(*given, options=USUAL):
        photos = Photos([number for number, _ in given], [one for _, one in given])

        def said(photo, *_, **__):
            one = photos.seen[photo.pixels[0, 0, 0]]
            if isinstance(one, NoFaceFound):
                raise one
            return [one]

        monkeypatch.setattr(module, "observe", said)
        return fit_shard(photos, "train", range(len(photos)), load(), options)

    return run


def view(identity: np.ndarray, yaw: float = 0.0, **said):
    return seen_by(from_far(yaw, SIZE), identity, name="photo", **said)


SEEN = view(ANNA)


# ── what is kept ───────────────────────────────────────────────────────────────────────────────────────────


def test_persons_are_found_as_they_were_drawn(fitted):
    yaws, smile = (-0.5, 0.0, 0.4), np.zeros(default().n_expression)
    smile[default().expression_names.index("mouthSmileLeft")] = 0.8
    given = [(7, view(ANNA, yaw, expression=smile)) for yaw in yaws] + [(3, view(BEN, yaw)) for yaw in yaws]
    records, told = fitted(*given)
    assert all(record["kept"] for record in records)
    assert [record["row"] for record in records] == list(range(6))
    assert [record["person"] for record in records] == [7, 7, 7, 3, 3, 3]
    model, truth = default(), (ANNA, BEN)
    for k, record in enumerate(records):
        np.testing.assert_array_equal(record["identity"], records[k // 3 * 3]["identity"])
        vertices = [model.vertices(x) for x in (record["identity"], truth[k // 3])]
        assert reconstruct.shape_distance(*vertices, model, scale=True) < 0.6
        assert record["residual_percent"] < 0.2
        assert record["residual_px"] == pytest.approx(record["residual_percent"] / 100 * 240, rel=0.3)
    found = records[0]["expression"]
    assert found.argmax() == smile.argmax()
    assert found.max() == pytest.approx(0.8, abs=0.2)
    assert told["photos"] == [6, 6]
    for name in ("alone", "joint"):
        assert (np.diff(told[name]) <= 0).all()


def test_unknown_persons_are_each_their_own(fitted):
    records, _ = fitted((-1, view(ANNA)), (-1, view(BEN)))
    assert [record["person"] for record in records] == [-1, -1]
    assert np.abs(records[0]["identity"] - records[1]["identity"]).max() > 0.1
    assert records[0]["from_others_mm"] is None


def test_a_data_set_may_not_know_persons(fitted, monkeypatch):
    monkeypatch.setattr(module, "observe", lambda *_, **__: [view(ANNA)])
    items = [{"image": np.zeros((480, 640, 3), np.uint8)}] * 2
    records, _ = fit_shard(items, "val", [1], load(), Options())
    assert records[0]["person"] == -1
    assert records[0]["name"] == "row 1"
    assert records[0]["kept"]


def test_parameters_are_what_methods_read(fitted):
    """They are turned back into the camera, by what methods use and by the reader."""
    (record,), _ = fitted((0, view(ANNA, 0.4)))
    params = record["params"]
    assert params.shape == (12 + 80 + 51,)
    matrix, coefficients = in_photo(params, default(), SIZE[1])
    np.testing.assert_allclose(coefficients, np.concatenate([record["identity"], record["expression"]]), atol=1e-6)
    rotation = record["rotation"].reshape(3, 3)
    np.testing.assert_allclose(matrix[:, :3], record["scale"] * rotation, atol=1e-5)
    np.testing.assert_allclose(matrix[:2, 3], record["translation"], atol=1e-3)
    camera = camera_of(params, SIZE)
    np.testing.assert_allclose(camera.rotation, rotation, atol=1e-5)
    np.testing.assert_allclose(camera.translation, record["translation"], atol=1e-3)
    points = points_of(load())(record["identity"][None], record["expression"][None])
    error = np.linalg.norm(camera.project(points[0]) - view(ANNA, 0.4).landmarks, axis=1)
    assert np.median(error) == pytest.approx(record["residual_px"], rel=0.01)


def test_records_fit_into_the_columns(fitted):
    records, _ = fitted((0, view(ANNA)), (0, NoFaceFound("no face")))
    for record in records:
        assert set(record) <= set(schema().names)
    assert set(schema().names) - set(records[0]) == {"reason", "message"}


# ── what is rejected ───────────────────────────────────────────────────────────────────────────────────────


def test_what_cannot_be_seen_is_a_row_with_its_reason(fitted):
    records, told = fitted(
        (0, NoFaceFound("no face in 0")), (0, BadData("0/1.jpg cannot be decoded")), (0, view(ANNA, quality=0.01)),
        (0, view(ANNA)),
    )  # fmt: skip
    assert [record.get("reason") for record in records] == ["NoFaceFound", "BadData", "PoorPhoto", None]
    assert [record["kept"] for record in records] == [False, False, False, True]
    assert records[0]["message"] == "no face in 0"
    assert "quality 0.01, below 0.06" in records[2]["message"]
    assert "identity" not in records[2]
    assert told["photos"] == [1, 1]


def test_nothing_to_see_is_nothing_to_fit(fitted):
    records, told = fitted((0, NoFaceFound("no face")))
    assert told["photos"] == [0, 0]
    assert told["alone"] == told["joint"] == []
    assert not records[0]["kept"]


def test_points_that_no_face_has_are_rejected(fitted):
    odd = view(ANNA)
    noise = np.random.default_rng(0).normal(0, 30, odd.landmarks.shape)
    records, told = fitted((0, replace(odd, landmarks=odd.landmarks + noise)))
    assert records[0]["reason"] == "LargeResidual"
    assert "% of the face off, more than 3.0 %" in records[0]["message"]
    assert records[0]["residual_percent"] > 3
    assert told["photos"] == [1, 0]


def test_a_stranger_among_a_persons_photos_is_rejected(fitted):
    stranger = np.zeros(80)
    stranger[:4] = (4, -4, 4, 4)
    given = [(0, view(ANNA, yaw)) for yaw in (-0.3, -0.1, 0.1, 0.3)]
    records, _ = fitted(*given, (0, view(stranger)))
    assert [record.get("reason") for record in records] == [None] * 4 + ["Disagrees"]
    assert records[4]["from_others_mm"] > 4 > max(record["from_others_mm"] for record in records[:4])
    assert "another person" in records[4]["message"]
    alone, _ = fitted(*given)
    np.testing.assert_array_equal(alone[0]["identity"], records[0]["identity"])


def test_of_two_that_do_not_fit_together_neither_is_kept(fitted):
    """Each fits well alone, and of two nobody can say which is the stranger."""
    stranger = np.zeros(80)
    stranger[:4] = (4, -4, 4, 4)
    both = (0, view(ANNA)), (0, view(stranger))
    alone = max(record["residual_percent"] for record in fitted((0, both[0][1]), (1, both[1][1]))[0])
    joint = min(record["residual_percent"] for record in fitted(*both)[0])
    assert alone < joint
    records, told = fitted(*both, options=Options(residual=(alone + joint) / 2))
    assert [record["reason"] for record in records] == ["LargeResidual"] * 2
    assert told["photos"] == [2, 2]


# ── which face ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def crowd():
    """(points of the larger face, on the right; of the smaller one)."""
    item = [{"image": two_people()}]
    photo = module.Photo(item[0]["image"], "crowd")
    return [one.landmarks for one in observe(photo, load(), second=Second(None, load("eyes")))]


def test_the_face_where_the_labels_are_is_meant(crowd):
    for points in crowd:
        item = {"image": two_people(), "landmarks68": np.full((68, 2), np.nan), "landmarks": points.astype(np.float32)}
        np.testing.assert_allclose(look([item], 0, load()).landmarks, points, atol=1e-6)


def test_a_face_far_from_the_labels_is_another(crowd):
    item = {"image": two_people(), "landmarks": crowd[0] + [0, 200]}
    with pytest.raises(NoFaceFound, match=r"no face in row 0 where its labels are; the nearest is 200 px away"):
        look([item], 0, load())


def test_without_labels_the_large_face_in_the_middle_is_meant(crowd):
    pixels = two_people()
    assert np.allclose(look([{"image": pixels}], 0, load()).landmarks, crowd[0], atol=1e-6)
    wide = np.concatenate([np.full((340, 500, 3), 200, np.uint8), pixels], axis=1)  # now both are on the right
    found = look([{"image": wide[:, :-60]}], 0, load()).landmarks
    assert found[:, 0].max() < 500 + 240
    assert look([{"image": pixels}], 0, load()).picture.size == 0


# ── small parts ────────────────────────────────────────────────────────────────────────────────────────────


def test_unknown_persons_get_numbers_of_their_own():
    assert owners(np.array([-1, -1])).tolist() == [0, 1]
    assert owners(np.zeros(0, int)).tolist() == []


def test_copies_of_a_photo_are_one_witness(fitted):
    """Of equal pictures the best is kept; another person's photo, and another pose, is no copy."""
    records, told = fitted((0, view(ANNA)), (0, view(ANNA, quality=0.9)), (0, view(ANNA, 0.4)), (1, view(ANNA)))
    assert [record["kept"] for record in records] == [False, True, True, True]
    assert (records[0]["reason"], records[0]["message"]) == (
        "Copy", f"it is the same picture as {records[1]['name']}, which counts once",
    )  # fmt: skip
    assert told["photos"] == [4, 3]
