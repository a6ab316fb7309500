"""Same person or not: the calibration's laws, every kind of side, and every way in which a side can be bad."""

import io
import json
import math
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from faces import astronaut, encoded, from_far, person, scenery, seen_by
from sameface.core.errors import BadData, BadPhoto, NoFaceFound
from sameface.mesh.write import write_obj
from sameface.morphable import default
from sameface.photo.predictor import networks_name, networks_sha256
from sameface.reconstruction.reconstruct import join, reconstruct, shape_distance
from sameface.verification import calibration, sides
from sameface.verification import verify as module
from sameface.verification.calibration import FARS, features, limit, probability
from sameface.verification.verify import Verdict, verify

KNOWN = json.loads((Path(module.__file__).parent.parent / "assets" / "verification.json").read_text())
COUNTS = st.integers(1, 40)
MM = st.floats(0.1, 8)


def seen(seed: int, photos: int):
    """The reconstruction of `person(seed)` from views all round."""
    yaws = np.linspace(-0.5, 0.5, photos) if photos > 1 else [0.2]
    return join([seen_by(from_far(float(yaw)), person(seed), name=f"{seed}-{k}") for k, yaw in enumerate(yaws)])


@pytest.fixture(scope="module")
def anna():
    return seen(1, 4)


@pytest.fixture(scope="module")
def bert():
    return seen(2, 4)


@pytest.fixture
def folder(tmp_path, monkeypatch, anna, bert) -> Path:
    monkeypatch.chdir(tmp_path)
    for name, one in (("anna", anna), ("bert", bert)):
        Path(name).mkdir()
        one.save(f"{name}/result.json")
        one.save(f"{name}/face.npz")
        one.save(f"{name}/neutral.obj")
    return tmp_path


def told(path: str, **changes) -> str:
    """A copy of Anna's result.json with some of it changed."""
    Path(path).write_text(json.dumps(json.loads(Path("anna/result.json").read_text()) | changes))
    return path


# ── the calibration ────────────────────────────────────────────────────────────────────────────────────────


def test_the_probability_by_hand():
    w = KNOWN["coefficients"]
    u, d = math.log(1 / 2 + 1 / 5), math.log(1.7)
    score = w[0] + w[1] * d + w[2] * u + w[3] * u * d + w[4] * u * u
    assert probability(1.7, 2, 5) == pytest.approx(1 / (1 + math.exp(-score)))
    assert features(np.array([1.0, 2.0]), np.array([1, 2]), 3).shape == (2, 5)


@given(near=MM, more=st.floats(0.01, 4), n_a=COUNTS, n_b=COUNTS)
def test_the_probability_falls_with_distance(near, more, n_a, n_b):
    assert probability(near, n_a, n_b) > probability(near + more, n_a, n_b)


@given(distance=MM, n_a=COUNTS, n_b=COUNTS)
def test_the_probability_does_not_mind_who_is_a(distance, n_a, n_b):
    assert probability(distance, n_a, n_b) == pytest.approx(probability(distance, n_b, n_a))


@given(n_a=st.integers(1, 15), n_b=st.integers(1, 16))
def test_more_photos_make_the_same_change_of_distance_say_more(n_a, n_b):
    def steepness(n: int) -> float:
        odds = [p / (1 - p) for p in (probability(1.5, n, n_b), probability(3.0, n, n_b))]
        return math.log(odds[0] / odds[1])

    assert steepness(n_a + 1) > steepness(n_a) > 0


def test_photos_beyond_the_sixteenth_add_nothing():
    assert probability(1.2, 16, 3) == probability(1.2, 100, 3)


@given(low=st.sampled_from(FARS[:-1]), n_a=COUNTS, n_b=COUNTS)
def test_limits_loosen_with_the_rate_and_lie_between_the_measured_ones(low, n_a, n_b):
    high = FARS[FARS.index(low) + 1]
    middle = math.sqrt(low * high)
    assert limit("accept", low, n_a, n_b) < limit("accept", middle, n_a, n_b) < limit("accept", high, n_a, n_b)
    assert limit("reject", low, n_a, n_b) > limit("reject", middle, n_a, n_b) > limit("reject", high, n_a, n_b)


@pytest.mark.parametrize(("share", "text"), [(0.9999, "over 99 %"), (0.0, "under 1 %"), (0.5, "50 %"), (0.99, "99 %")])
def test_nothing_is_certain(share, text):
    assert calibration.percent(share) == text


def test_the_calibration_is_that_of_the_packaged_network():
    assert KNOWN["predictor"] == networks_name()
    assert KNOWN["networks_sha256"] == networks_sha256()
    assert KNOWN["model"] == default().name
    assert len(KNOWN["accept"]) == len(KNOWN["reject"]) == len(FARS)


@pytest.mark.parametrize(("given_", "says"), [((-1.0, 1, 1), "at least 0 mm"), ((math.nan, 1, 1), "finite"),
                                              ((1.0, 0, 1), "at least one photo")])  # fmt: skip
def test_what_has_no_probability(given_, says):
    with pytest.raises(ValueError, match=says):
        probability(*given_)


# ── verdicts ───────────────────────────────────────────────────────────────────────────────────────────────


def test_a_person_against_themselves_and_against_another(anna, bert):
    same, other = verify(anna, seen(1, 6)), verify(anna, bert)
    assert same.distance_mm < 0.5 < other.distance_mm
    assert same.probability is not None
    assert other.probability is not None
    assert same.probability > 0.5 > other.probability
    assert (same.same, other.same, same.word, other.word) == (True, False, "same", "different")
    assert same.photos == (4, 6)
    assert same.distance_mm == pytest.approx(shape_distance(anna.vertices(), seen(1, 6).vertices(), default()))


def test_a_and_b_may_be_exchanged(anna, bert):
    one, two = verify(anna, bert), verify(bert, anna)
    assert one.distance_mm == pytest.approx(two.distance_mm)
    assert one.probability == pytest.approx(two.probability)
    assert one.disagreement == two.disagreement[::-1]


def test_one_photo_leaves_much_unsure():
    distance = (limit("accept", 0.1, 1, 1) + limit("reject", 0.1, 1, 1)) / 2
    assert calibration.decided(distance, [1, 1], probability(distance, 1, 1), 0.1, KNOWN) is None
    assert verify(seen(1, 1), seen(1, 1)).disagreement == (None, None)


def test_where_the_limits_have_crossed_the_likelier_one_is_taken():
    assert limit("reject", 0.5, 16, 16) < 1.0 < limit("accept", 0.5, 16, 16)
    assert calibration.decided(1.0, [16, 16], 0.7, 0.5, KNOWN) is True
    assert calibration.decided(1.0, [16, 16], 0.3, 0.5, KNOWN) is False


def test_the_scale_that_was_asked_for_does_not_matter(anna):
    assert verify(anna, replace(anna, scale=1.1)).distance_mm == pytest.approx(0, abs=1e-4)


def test_the_warning_says_how_weak_shape_is(anna, bert):
    note, right = verify(anna, bert).notes[0], f"{min(99, math.floor(100 * KNOWN['auc']['4']))} of 100 cases"
    assert f"with 4 photos of each, a person is nearer to themselves than somebody else is in {right}" in note
    assert "with one photo" in verify(anna, seen(3, 1)).notes[0]  # 4 and 1 are worth 1.6 of each


def test_what_is_printed_and_saved(tmp_path, anna, bert):
    verdict = verify(anna, bert)
    path = verdict.save(tmp_path / "verdict.json")
    kept = json.loads(path.read_text())
    assert kept["verdict"] == "different"
    assert kept["photos"] == [4, 4]
    assert kept["calibration"] == KNOWN["name"]
    assert kept["distance_mm"] == pytest.approx(verdict.distance_mm, abs=1e-4)
    text = verdict.as_text()
    assert text.startswith("different (at an error rate of 10 %)")
    assert f"{verdict.distance_mm:.2f} mm RMS" in text
    assert "Identify nobody by it" in text
    with pytest.raises(ValueError, match=r"saved as \.json, not '\.txt'"):
        verdict.save(tmp_path / "verdict.txt")


def test_a_verdict_without_a_calibration_can_be_printed_and_saved(tmp_path):
    bare = Verdict(1.0, 2.0, None, None, 0.1, (None, 3), (None, 0.5), None)
    assert "unknown that it is one person" in bare.as_text()
    assert "? and 3; they disagree by – and 0.50 mm" in bare.as_text()
    assert json.loads(bare.save(tmp_path / "v.json").read_text())["verdict"] == "unsure"


@pytest.mark.parametrize("far", [0.0, 0.009, 0.6])
def test_error_rates_that_nobody_measured(anna, far):
    with pytest.raises(ValueError, match=r"from 0\.01 to 0\.5"):
        verify(anna, anna, far=far)


# ── sides from files ───────────────────────────────────────────────────────────────────────────────────────


def test_photos_and_folders_of_photos(folder):
    Path("photos").mkdir()
    Path("photos/a.png").write_bytes(encoded(astronaut()))
    Path("photos/b.png").write_bytes(encoded(astronaut()[:, ::-1]))
    Path("photos/scenery.png").write_bytes(encoded(scenery()))
    Path("broken.jpg").write_bytes(b"nothing")
    several = verify("photos", ["photos/b.png", "broken.jpg"])
    assert several.photos == (2, 1)
    assert {(Path(name).name, kind) for name, kind, _ in several.dropped} == {
        ("scenery.png", "NoFaceFound"), ("broken.jpg", "BadPhoto")}  # fmt: skip
    assert (several.probability or 0) > 0.5
    assert "b.png is on both sides" in several.notes[0]
    against = verify("photos/a.png", "bert")
    assert against.photos == (1, 4)
    assert against.calibration == KNOWN["name"]


def test_the_same_photo_under_another_name_is_found_out(folder):
    Path("a.png").write_bytes(encoded(astronaut()))
    Path("copy.png").write_bytes(encoded(astronaut()))
    verdict = verify("a.png", "copy.png")
    assert verdict.notes[0].startswith("a.png is on both sides: of course that is alike")
    assert verdict.distance_mm == pytest.approx(0, abs=1e-6)
    assert (verdict.probability or 0) > 0.5


@pytest.mark.parametrize("side", ["anna", "anna/result.json", "anna/face.npz"])
def test_saved_results_say_the_same_as_the_reconstruction(folder, anna, bert, side):
    saved, direct = verify(side, "bert"), verify(anna, bert)
    assert saved.distance_mm == pytest.approx(direct.distance_mm, abs=1e-3)
    assert saved.probability == pytest.approx(direct.probability, abs=1e-3)
    assert saved.disagreement == pytest.approx(direct.disagreement, abs=1e-3)
    assert saved.photos == (4, 4)


def test_an_array_file_of_one_photo_has_no_disagreement(folder):
    Path("one").mkdir()
    one = seen(3, 1)
    one.save("one/face.npz")
    assert verify("one/face.npz", "anna").disagreement[0] is None
    assert verify("one/face.npz", "anna").photos == (1, 4)


def test_meshes_and_lone_arrays_give_a_distance_only(folder, anna, bert):
    Path("elsewhere").mkdir()
    anna.save("elsewhere/face.npz")
    for side in ("elsewhere/face.npz", "anna/neutral.obj"):
        verdict = verify(side, "bert")
        assert verdict.distance_mm == pytest.approx(verify(anna, bert).distance_mm, abs=1e-3)
        assert (verdict.probability, verdict.same, verdict.calibration) == (None, None, None)
        assert f"no probability: {side} does not say which network made it" in verdict.notes[0]


@pytest.mark.parametrize(("factor", "unit"), [(0.001, "metres"), (0.1, "centimetres"), (1 / 25.4, "inches")])
def test_meshes_in_another_unit_are_not_compared_as_millimetres(folder, anna, bert, factor, unit):
    """In metres, any two faces are 0.01 mm apart."""
    for name, side in (("anna", anna), ("bert", bert)):
        write_obj(Path(f"{name}.obj"), side.vertices() * factor, default().faces)
        write_obj(Path(f"half {name}.obj"), side.vertices()[:3000] * factor, np.zeros((0, 3), int))
        np.savez(f"{name}.npz", vertices=side.vertices() * factor)
    for a, b in (("anna.obj", "bert.obj"), ("half anna.obj", "half bert.obj"), ("anna.npz", "bert.npz")):
        with pytest.raises(BadData, match=rf"{a} has [0-9.]+ times the size .*it looks like {unit}\. Save it in"):
            verify(a, b)


def test_a_mirrored_mesh_is_said(folder, anna):
    write_obj(Path("mirrored.obj"), anna.vertices() * np.float32([-1, 1, 1]), default().faces)
    with pytest.raises(BadData, match=r"mirrored\.obj has right and left landmarks swapped"):
        verify("mirrored.obj", "anna/neutral.obj")


def test_meshes_of_another_topology(folder):
    points = np.random.default_rng(0).normal(0, 60, size=(50, 3))
    np.savez("a.npz", vertices=points)
    np.savez("b.npz", vertices=points + np.array([3.0, 4.0, 0.0]))
    verdict = verify("a.npz", "b.npz")
    assert verdict.vertex_distance_mm == pytest.approx(5)
    assert verdict.distance_mm == pytest.approx(0, abs=1e-9)
    with pytest.raises(BadData, match=r"a\.npz has 50 vertices and .* 6975"):
        verify("a.npz", "anna")


def test_another_network_has_no_probability(folder, anna, bert):
    assert "was made by isoface@9" in verify(told("new.json", predictor="isoface@9"), "bert").notes[0]
    assert verify(replace(anna, predictor="mine@1"), bert).probability is None


def test_a_network_of_the_same_name_but_other_weights_has_no_probability(folder, monkeypatch):
    Path("a.png").write_bytes(encoded(astronaut()))
    monkeypatch.setattr(module, "packaged", lambda: KNOWN | {"networks_sha256": "0"})
    verdict = verify("a.png", reconstruct("a.png"))
    assert verdict.probability is None
    assert any("a.png was made by" in note for note in verdict.notes)


# ── what is wrong with a side ──────────────────────────────────────────────────────────────────────────────


def test_photos_that_cannot_be_used_are_named(folder):
    Path("scenery.jpg").write_bytes(encoded(scenery(), "JPEG"))
    Path("empty").mkdir()
    with pytest.raises(NoFaceFound, match=r"no face in scenery\.jpg"):
        verify("anna", "scenery.jpg")
    with pytest.raises(BadPhoto, match="empty holds no photos, only no files"):
        verify("empty", "anna")
    with pytest.raises(BadPhoto, match=r"no file or folder missing\.jpg"):
        verify("missing.jpg", "anna")
    for address in ("https://example.org/anna.jpg", "https://example.org/anna.json"):
        with pytest.raises((BadPhoto, BadData), match=r"https:/{1,2}example.org/anna\S+: it is an address; download"):
            verify(address, "anna")
    with pytest.raises(BadPhoto, match="no photos were given"):
        verify([], "anna")
    for photo in (encoded(scenery()), io.BytesIO(encoded(scenery())), [scenery()]):
        with pytest.raises(TypeError, match=r"verify takes paths; .*verify\(reconstruct\(a\), b\)"):
            sides.read_side.__wrapped__(photo, "default", 0.6)  # past the tests' type checks


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"format": "other"}, "is no result.json"),
        ({"version": 99}, "is no result.json"),
        ({"views": None}, "is no result.json"),
        ({"model": "other"}, "belongs to the model 'other'"),
        ({"identity": [1.0]}, "not 80 finite numbers"),
        ({"identity": [float("nan")] * 80}, "not 80 finite numbers"),
        ({"identity": [10**400] * 80}, "is no result.json"),
        ({"disagreement_mm": float("inf")}, "is no result.json"),
        ({"disagreement_mm": float("nan")}, "is no result.json"),
        ({"disagreement_mm": 10**400}, "is no result.json"),
        ({"disagreement_mm": [[1]]}, "is no result.json"),
        ({"views": []}, "is no result.json"),
        ({"predictor": {"a": 1}}, "is no result.json"),
    ],
)
def test_results_that_are_none(folder, changes, says):
    with pytest.raises(BadData, match=says):
        verify(told("changed.json", **changes), "anna")


def test_files_that_are_no_results(folder, monkeypatch):
    Path("text.json").write_text("no")
    Path("text.npz").write_text("no")
    np.savez("flat.npz", vertices=np.zeros(7))
    np.savez("nan.npz", vertices=np.full((9, 3), np.nan))
    np.savez("pickled.npz", vertices=np.array([{}], object))
    for name, says in {
        "text.json": "is not JSON", "text.npz": "is no .npz", "flat.npz": "no array `vertices`",
        "nan.npz": "not finite", "pickled.npz": "is no .npz", "missing.json": "there is no file missing.json",
    }.items():  # fmt: skip
        with pytest.raises(BadData, match=says):
            verify(name, "anna")
    monkeypatch.setattr(sides, "LARGEST_RESULT", 10)
    with pytest.raises(BadData, match=r"face.npz is no .npz .* MB are read at most"):
        verify("anna/face.npz", "anna")
    with pytest.raises(BadData, match=r"result.json has .* MB; such a file is read up to"):
        verify("anna", "anna")
    Path("deep.json").write_text("[" * 100_000)
    os.mkfifo("pipe.json")
    for name, says in {"deep.json": "is not JSON|such a file", "pipe.json": "is not an ordinary file"}.items():
        with pytest.raises(BadData, match=says):
            verify(name, "anna")
