"""Two models joined: where ours lies on the other is found, kept, and told."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from other_models import head, write_flame
from sameface.cli import main
from sameface.core.errors import BadData, BadModel, BadOutput
from sameface.core.geometry import barycentric_weights
from sameface.morphable import bridge as module
from sameface.morphable import default
from sameface.morphable.bridge import bridge

PERSON = 0.7 * np.random.default_rng(7).normal(size=80)


@pytest.fixture(scope="module")
def made():
    """The mean face is another one than ours, and the mesh has other triangles."""
    return head(PERSON, region="skin", split=True)


@pytest.fixture(scope="module")
def joined(made, tmp_path_factory):
    """(the model's file, its bridge)."""
    path = write_flame(tmp_path_factory.mktemp("bridge"), made)
    return path, bridge(path)


def copied(joined, folder):
    for file in joined[0].parent.iterdir():
        shutil.copy(file, folder)
    return folder / joined[0].name


def test_our_vertices_lie_where_they_are_on_the_other_mesh(joined, made):
    ours, found = default(), joined[1]
    apart = np.linalg.norm(found.there.on(made.mean) - made.mean[made.place], axis=1)
    linked = found.there.trust > 0
    for region, mean in (("face", 1.0), ("mouth", 0.8), ("nose", 0.6), ("eyes", 0.8)):
        where = ours.regions[region] & linked
        assert where.sum() > 0.9 * ours.regions[region].sum()
        assert apart[where].mean() < mean
    assert not linked[~ours.regions["skin"]].any()


def test_the_way_back_ends_where_it_began(joined, made):
    ours, found = default(), joined[1]
    back = found.back.on(ours.mean)[made.place[ours.regions["face"]]]
    trusted = found.back.trust[made.place[ours.regions["face"]]] > 0
    assert trusted.mean() > 0.9
    assert np.linalg.norm(back - ours.mean[ours.regions["face"]], axis=1)[trusted].mean() < 1.0


def test_the_quality_is_what_was_measured(joined):
    quality = joined[1].quality
    assert {"face", "mouth", "inner points", "jaw line"} <= quality.keys()
    assert 0.9 < quality["face"].linked <= 1
    assert 0 < quality["face"].mean < quality["face"].p95 < 1
    assert 0 < quality["face"].back < 0.5
    assert quality["inner points"].mean < 2


def test_a_bridge_is_found_again_beside_the_file_and_not_computed(joined, tmp_path, monkeypatch):
    path = copied(joined, tmp_path)
    monkeypatch.setattr(module, "between", lambda *_, **__: pytest.fail("it was computed"))
    again = bridge(path)
    assert joined[1].fresh
    assert not again.fresh
    for name in ("there", "back"):
        for first, second in zip(getattr(joined[1], name), getattr(again, name), strict=True):
            np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(again.pose.apply(np.eye(3)), joined[1].pose.apply(np.eye(3)))


def test_a_bridge_of_another_mesh_is_not_taken(joined, tmp_path, monkeypatch):
    path = copied(joined, tmp_path)
    target = replace(joined[1].target, mean=joined[1].target.mean + np.float32(0.1))
    monkeypatch.setattr(module, "open_model", lambda _: target)
    monkeypatch.setattr(module, "between", lambda *_, **__: replace(joined[1], target=target))
    assert bridge(path).fresh
    assert len(list(tmp_path.glob("*.bridge-*.npz"))) == 2


@pytest.mark.parametrize("damage", ["cut", "index", "nan", "shape"])
def test_a_damaged_bridge_is_computed_again_and_said(joined, tmp_path, monkeypatch, damage):
    path = copied(joined, tmp_path)
    (kept,) = tmp_path.glob("*.bridge-*.npz")
    if damage == "cut":
        kept.write_bytes(kept.read_bytes()[:-500])
    else:
        arrays = dict(np.load(kept))
        if damage == "index":
            arrays["there_corners"][0, 0] = 10**6
        elif damage == "nan":
            arrays["rotation"][0, 0] = np.nan
        else:
            arrays["back_trust"] = arrays["back_trust"][:-1]
        np.savez(kept, **arrays)
    said: list[str] = []
    monkeypatch.setattr(module, "between", lambda *_, **__: joined[1])
    assert bridge(path, progress=said.append) is joined[1]
    assert len(said) == 1
    assert "computed again" in said[0]
    bridge(path, progress=said.append)
    assert len(said) == 1


def test_where_nothing_can_be_written_it_is_said(joined, tmp_path, monkeypatch):
    path = copied(joined, tmp_path)
    for kept in tmp_path.glob("*.bridge-*.npz"):
        kept.unlink()

    def refused(made, kept):
        raise BadOutput(f"{kept} cannot be written")

    said: list[str] = []
    monkeypatch.setattr(module, "between", lambda *_, **__: joined[1])
    monkeypatch.setattr(module, "_write", refused)
    assert bridge(path, progress=said.append) is joined[1]
    assert "not kept" in said[0]


def test_points_without_a_surface_are_refused(joined):
    target, faces = joined[1].target, np.array([[0, 1, 2]])
    few = {name: getattr(target, name)[:100] for name in ("mean", "identity_basis", "expression_basis")}
    with pytest.raises(BadModel, match="100 vertices: points, not a surface"):
        module.between(replace(target, **few, faces=faces, landmark_faces=np.zeros(68, np.int64), extra={}))


def test_what_does_not_meet_our_face_is_refused_by_name(joined, monkeypatch):
    def apart(*_, name, **__):
        raise BadData(f"{name} meets only 3% of the template")

    monkeypatch.setattr(module, "register", apart)
    with pytest.raises(BadModel, match=r"mine\.pkl meets only 3% .*cannot be joined with our face"):
        module.between(joined[1].target, name="mine.pkl")


def test_weights_in_a_triangle_are_those_of_the_point():
    corners = np.array([[[0.0, 0, 0], [2, 0, 0], [0, 2, 0]]])
    np.testing.assert_allclose(barycentric_weights(np.array([[0.5, 1.0, 0]]), corners), [[0.25, 0.25, 0.5]])


def test_the_command_says_how_well_they_meet_and_draws_it(joined, tmp_path, capsys):
    path = copied(joined, tmp_path)
    with pytest.raises(SystemExit) as ended:
        main(["model", "bridge", str(path), "--picture", str(tmp_path / "a.png")])
    assert ended.value.code == 0
    said = capsys.readouterr().out
    assert "joined before" in said
    assert "mouth" in said
    assert (tmp_path / "a.png").read_bytes()[:4] == b"\x89PNG"
