"""Each reader on a file that was written in exactly the published layout, value by value; and its error messages."""

import os
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from morphable_files import (
    WRITERS,
    Python2,
    bfm2009_arrays,
    corner_embedding,
    gnm_landmark_rows,
    ids_file,
    object_npy,
    python2_pickle,
    small_face,
    write_bfm2009,
    write_bfm2009_binary,
    write_bfm2009_expressions,
    write_bfm2009_small,
    write_bfm2017,
    write_flame,
    write_flame_2020,
    write_gnm,
    write_tddfa,
    write_tddfa_sparse,
    write_tddfa_v2,
)
from sameface.core.errors import AssetMissing, BadModel
from sameface.morphable import _checks, _landmarks, bfm2009, bfm2017, flame, formats, gnm, tddfa
from sameface.morphable._matlab import needed, read_matlab


def outward_faces(faces: np.ndarray) -> set[tuple[int, ...]]:
    """Faces as tuples that begin with their smallest corner: equal sets have equal windings."""
    first = faces.argmin(1)
    return {tuple(np.roll(face, -k)) for face, k in zip(faces.tolist(), first, strict=True)}


# ---- every format ----


@pytest.mark.parametrize("writer", WRITERS.values(), ids=WRITERS)
def test_a_reader_returns_what_was_written_in_millimetres_per_deviation(tmp_path, writer):
    written = writer(tmp_path)
    model = written.load()
    used = np.unique(written.faces)
    np.testing.assert_allclose(model.mean[used], written.mean[used], atol=1e-3)
    np.testing.assert_allclose(model.identity_basis, written.identity, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.expression_basis, written.expression, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(model.landmarks(model.mean), written.landmarks, atol=1e-3)
    assert outward_faces(model.faces) == outward_faces(written.faces)


@pytest.mark.parametrize("name", [name for name in WRITERS if not name.startswith("bfm2009 w") and "7.3" not in name])
def test_open_model_recognises_the_format_by_content(tmp_path, name):
    written = WRITERS[name](tmp_path)
    model = formats.open_model(written.path)
    assert model.name == written.load().name
    if written.path.is_file():
        renamed = written.path.rename(written.path.with_name("something.dat"))
        assert formats.recognise(renamed) == formats.recognise(renamed)
        assert formats.recognise(renamed) in formats.KNOWN


@pytest.mark.parametrize("name", ["bfm2009, Matlab 7.3"])
def test_recognise_tells_matlab_73_from_basel_2017(tmp_path, name):
    assert formats.recognise(WRITERS[name](tmp_path).path) == "bfm2009"
    assert formats.recognise(write_bfm2017(tmp_path).path) == "bfm2017"


def test_open_model_reads_our_own_files(tmp_path):
    write_gnm(tmp_path).load().save(tmp_path / "ours.bin")
    assert formats.recognise(tmp_path / "ours.bin") == "sameface"
    assert formats.open_model(tmp_path / "ours.bin").name == "gnm-head-3.0"


def test_recognise_knows_the_ict_file_by_its_landmarks(tmp_path):
    np.savez(tmp_path / "ict.npz", landmarks68_jaw_on_surface=np.arange(68), polygons=np.zeros((1, 4)))
    assert formats.recognise(tmp_path / "ict.npz") == "ict"


def write_unknown(folder: Path) -> dict[str, Path]:
    import h5py
    from scipy.io import savemat

    np.savez(folder / "a.npz", weights=np.ones(2))
    savemat(folder / "a.mat", {"pt2d": np.ones(2)})
    with h5py.File(folder / "a.h5", "w") as file:
        file["images"] = np.ones(2)
    (folder / "a.pkl").write_bytes(pickle.dumps({"state_dict": 1}))
    (folder / "a.jpg").write_bytes(b"\xff\xd8\xff\xe0picture")
    (folder / "broken.npz").write_bytes(b"PK\x03\x04nothing")
    (folder / "folder").mkdir()
    (folder / "folder" / "readme.md").touch()
    return {name: folder / name for name in ("a.npz", "a.mat", "a.h5", "a.pkl", "a.jpg", "broken.npz", "folder")}


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("a.npz", "an .npz with weights"),
        ("a.mat", "a Matlab file with pt2d"),
        ("a.h5", "an HDF5 file with images"),
        ("a.pkl", "a pickle of a dict with state_dict"),
        ("a.jpg", "begin with b'\\\\xff\\\\xd8"),
        ("broken.npz", "a broken .npz, perhaps cut short"),
        ("folder", "a folder with readme.md"),
    ],
)
def test_what_is_no_model_is_described(tmp_path, name, seen):
    with pytest.raises(BadModel, match=f"{seen}.*expected one of: a sameface model"):
        formats.open_model(write_unknown(tmp_path)[name])


def hostile_hdf5(folder: Path) -> dict[str, Path]:
    import h5py

    (folder / "secret").write_bytes(bytes(16))
    paths = {name: folder / f"{name}.h5" for name in ("link", "external", "virtual", "huge", "round")}
    with h5py.File(paths["link"], "w") as file:
        file["shapeMU"] = h5py.ExternalLink("other.h5", "/x")
    with h5py.File(paths["external"], "w") as file:
        file.create_dataset("shapeMU", (16,), "u1", external=[(str(folder / "secret"), 0, 16)])
    with h5py.File(paths["virtual"], "w") as file:
        layout = h5py.VirtualLayout((16,), "u1")
        layout[:] = h5py.VirtualSource("other.h5", "x", (16,))
        file.create_virtual_dataset("shapeMU", layout)
    with h5py.File(paths["huge"], "w") as file:
        file.create_dataset("shapeMU", (1 << 45,), "f8", chunks=(1024,))
    with h5py.File(paths["round"], "w") as file:
        file["a/b"] = np.ones(3)
        file["a/c"] = file["a"]
    return paths


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("link", "shapeMU is a link"),
        ("external", "shapeMU lies in another file"),
        ("virtual", "shapeMU lies in another file"),
        ("huge", "more than 2000 MB of arrays"),
        ("round", "groups within groups without end"),
    ],
)
def test_a_model_reads_no_other_file_and_no_more_than_fits(tmp_path, name, message):
    with pytest.raises(BadModel, match=message):
        formats.open_model(hostile_hdf5(tmp_path)[name])


def test_a_matlab_file_that_claims_too_much_takes_no_memory(tmp_path):
    from scipy.io import savemat

    savemat(tmp_path / "a.mat", {"shapeMU": np.zeros(9), "shapePC": np.zeros(9)})
    data = bytearray((tmp_path / "a.mat").read_bytes())
    at = data.find(np.array([5, 8, 1, 9], np.int32).tobytes())  # miINT32, 8 bytes, 1 × 9
    data[at + 8 : at + 16] = np.array([1 << 15, 1 << 15], np.int32).tobytes()
    (tmp_path / "a.mat").write_bytes(data)
    with pytest.raises(BadModel, match="its arrays claim 859"):
        formats.open_model(tmp_path / "a.mat")


def test_pipes_are_not_waited_for(tmp_path):
    for name in ("a.npz", "a.mat", "a.pkl"):
        os.mkfifo(tmp_path / name)
        with pytest.raises(BadModel, match=r"is not an ordinary file \(a pipe or a device\)"):
            formats.open_model(tmp_path / name)


def test_a_path_without_a_file_is_named(tmp_path):
    with pytest.raises(AssetMissing, match="there is no file or folder"):
        formats.open_model(tmp_path / "nothing.npz")


@pytest.mark.parametrize(("module", "name"), [("h5py", "model.h5"), ("scipy.io", "model.mat")])
def test_a_missing_package_is_named_with_the_extra_that_has_it(tmp_path, monkeypatch, module, name):
    path = write_bfm2017(tmp_path).path if module == "h5py" else write_bfm2009(tmp_path).path
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=r"needs (h5py|scipy): pip install 'sameface\[compile\]'"):
        formats.open_model(path.rename(tmp_path / name))


def test_needed_returns_the_module():
    assert needed("json", "a test").dumps([1]) == "[1]"


# ---- shared steps ----


@given(flips=st.booleans(), scale=st.floats(0.01, 100), shift=st.floats(-100, 100))
def test_outwardness_changes_sign_with_the_winding_and_nothing_else(flips, scale, shift):
    face = small_face()
    value = _checks.outwardness(face.vertices, face.faces)
    faces = face.faces[:, ::-1] if flips else face.faces
    assert value > 0.5
    assert _checks.outwardness(face.vertices * scale + shift, faces) == pytest.approx(-value if flips else value)


@given(value=st.floats(0, 1), mode=st.floats(-0.1, 0.1))
def test_linear_albedo_is_the_srgb_curve_and_its_slope(value, mode):
    def curve(c):
        return c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4

    mean, basis = _checks.linear_albedo(np.full((1, 3), value), np.full((1, 3, 1), mode))
    step = 1e-5 if value < 0.5 else -1e-5
    assert mean[0, 0] == pytest.approx(curve(value), abs=1e-6)
    if abs(value - 0.04045) > 2e-5:
        assert basis[0, 0, 0] == pytest.approx((curve(value + step) - curve(value)) / step * mode, abs=1e-4)


@given(seed=st.integers(0, 2**32 - 1))
def test_vertices_are_found_on_a_face_that_has_them(seed):
    face = small_face()
    ids = np.random.default_rng(seed).choice(np.unique(face.faces), 20)
    chosen, weights = _landmarks.on_vertices(ids, face.faces, Path("ids.txt"))
    np.testing.assert_array_equal((face.faces[chosen] * weights).sum(1), ids)
    np.testing.assert_array_equal(weights.sum(1), 1)


@given(seed=st.integers(0, 2**32 - 1))
def test_points_between_three_vertices_do_not_depend_on_their_order(seed):
    face, rng = small_face(), np.random.default_rng(seed)
    corners = face.faces[rng.choice(len(face.faces), 5)]
    weights = rng.dirichlet(np.ones(3), 5)
    order = rng.permutation(3)
    chosen, out = _landmarks.on_triangles(corners[:, order], weights[:, order], face.faces, Path("rows.txt"))
    there = (face.vertices[face.faces[chosen]] * out[..., None]).sum(1)
    np.testing.assert_allclose(there, (face.vertices[corners] * weights[..., None]).sum(1), atol=1e-4)


def test_published_ids_are_distinct_vertices_of_their_meshes():
    for ids, count in ((_landmarks.BFM2009_IDS, 53490), (_landmarks.NONECK_IDS, 53215)):
        assert ids.shape == (68,)
        assert len(set(ids.tolist())) == 68
        assert ids.min() >= 0
        assert ids.max() < count


def test_published_ids_agree_with_the_second_source():
    """share/ibug_to_bfm.txt of eos: nose tip, upper edges of the two lips."""
    assert _landmarks.BFM2009_IDS[[30, 51, 66]].tolist() == [8319, 8344, 8366]


def test_a_matlab_comment_means_counting_from_one(tmp_path):
    face = small_face()
    path = tmp_path / "points.anl"
    path.write_text("%68 Landmark points\n" + "\n".join(str(i + 1) for i in face.ids))
    chosen, weights = _landmarks.read_landmarks(path, face.vertices, face.faces)
    np.testing.assert_array_equal((face.faces[chosen] * weights).sum(1), face.ids)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1\n2\n3", "has 3 rows"),
        ("\n".join(["1 2"] * 68), r"68 rows of \[2\] numbers"),
        ("\n".join(["1"] * 67 + ["x"]), "is not a list of landmarks"),
        ("\n".join(["900000"] * 68), "landmark 0 is vertex 900000, which no face of this mesh uses"),
        ("%\n" + "\n".join(["0"] * 68), "landmark 0 is vertex -1"),
        ("\n".join(["1 0.5 2 0.1 3 0.1"] * 68), "the weights of landmark 0 sum to 0.7"),
        ("\n".join(["0,9,9,9,2,1,0,0"] * 68), "names face 2, but the mesh has 2"),
        ("\n".join(["0,9,9,9,1,1,0,0"] * 68), r"landmark 0 lies 15\.6 mm from where the file says"),
        ("\n".join(["0 0.5 1 0.5 2 0"] * 68), r"landmark 0 lies between the vertices \[0, 1\], which share no face"),
    ],
)
def test_landmark_files_that_do_not_fit_are_refused(tmp_path, text, message):
    faces = np.array([[0, 2, 3], [1, 2, 3]])
    (tmp_path / "points.txt").write_text(text)
    with pytest.raises(BadModel, match=message):
        _landmarks.read_landmarks(tmp_path / "points.txt", np.zeros((4, 3)), faces)


def spoiled(tmp_path, change):
    """Our smallest model with one thing changed, through the checks."""
    from dataclasses import replace

    model = write_gnm(tmp_path).load()
    return _checks.checked(replace(model, **change(model)), Path("spoiled"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: {"mean": m.mean / 1000}, r"eye centres of the mean face are 0\.0\d+ mm apart; expected 50 to 75"),
        (lambda m: {"mean": m.mean * 1000}, "the file has another unit"),
        (lambda m: {"mean": m.mean * np.float32([-1, 1, 1])}, "subject's right"),
        (lambda m: {"mean": m.mean * np.float32([1, -1, 1])}, "not upright"),
        (lambda m: {"mean": m.mean * np.float32([1, 1, -1])}, "nose towards"),
        (lambda m: {"faces": m.faces[:, ::-1], "landmark_weights": m.landmark_weights[:, ::-1]}, "point inwards"),
        (lambda m: {"mean": m.mean * np.float32(np.nan)}, "not finite"),
        (lambda m: {"faces": m.faces + 1}, "the faces use vertex"),
    ],
)
def test_a_model_that_is_not_a_face_in_our_frame_is_refused(tmp_path, change, message):
    with pytest.raises(BadModel, match=message):
        spoiled(tmp_path, change)


# ---- Basel 2009 ----


def test_bfm2009_deviations_are_not_variances(tmp_path):
    """shapeEV = 884,340 µm on a unit mode: one σ is 884.34 mm over the whole mesh, not its square root."""
    model = write_bfm2009(tmp_path).load()
    assert np.linalg.norm(model.identity_basis[..., 0]) == pytest.approx(884.34, rel=1e-4)
    assert model.n_expression == 0


def test_bfm2009_colours_become_linear_light(tmp_path):
    written = write_bfm2009_small(tmp_path)
    colours = read_matlab(written.path)["texMU"].reshape(-1, 3) / 255
    model = written.load()
    assert model.albedo_mean is not None
    linear = np.where(colours <= 0.04045, colours / 12.92, ((colours + 0.055) / 1.055) ** 2.4)
    np.testing.assert_allclose(model.albedo_mean, linear, atol=1e-5)
    step = read_matlab(written.path)["texPC"][:, 0].reshape(-1, 3) * 4000 / 255  # texEV is a deviation
    slope = np.where(colours <= 0.04045, 1 / 12.92, 2.4 / 1.055 * ((colours + 0.055) / 1.055) ** 1.4)
    assert model.albedo_basis is not None
    np.testing.assert_allclose(model.albedo_basis[..., 0], slope * step, rtol=1e-3, atol=1e-5)


def test_bfm2009_segments_become_regions(tmp_path):
    model = write_bfm2009_small(tmp_path).load()
    assert list(model.regions) == ["nose", "eyes", "mouth", "rest"]
    np.testing.assert_array_equal(model.regions["eyes"], np.arange(model.n_vertices) % 4 == 1)
    np.testing.assert_array_equal(sum(model.regions.values()), 1)


@pytest.mark.parametrize("writer", [write_bfm2009_expressions, write_bfm2009_binary])
def test_bfm2009_keeps_the_mean_expression_apart(tmp_path, writer):
    model = writer(tmp_path).load()
    assert model.n_vertices == 53215
    assert model.expression_names == ("expression0", "expression1")
    np.testing.assert_allclose(model.extra["expression_mean"], 0.25)


@pytest.mark.parametrize("missing", ["shapeMU", "shapePC", "shapeEV", "tl", "texEV"])
def test_bfm2009_names_the_array_that_is_missing(tmp_path, missing):
    from scipy.io import savemat

    arrays, _ = bfm2009_arrays(small_face())
    del arrays[missing]
    savemat(tmp_path / "m.mat", arrays)
    with pytest.raises(BadModel, match=f"it lacks {missing}; it has"):
        bfm2009.load(tmp_path / "m.mat", landmarks=ids_file(tmp_path, small_face().ids))


def test_bfm2009_without_colours_and_segments_is_still_a_shape(tmp_path):
    from scipy.io import savemat

    arrays, _ = bfm2009_arrays(small_face())
    savemat(tmp_path / "m.mat", {name: arrays[name] for name in ("shapeMU", "shapePC", "shapeEV", "tl")})
    model = bfm2009.load(tmp_path / "m.mat", landmarks=ids_file(tmp_path, small_face().ids))
    assert model.albedo_mean is None
    assert model.regions == {}


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("tl", lambda tl: tl - 1, "begins at 0"),
        ("tl", lambda tl: tl[:, :2], r"tl has shape \(\d+, 2\)"),
        ("shapePC", lambda modes: modes[:-3], "shapePC has shape"),
        ("shapeEV", lambda deviations: deviations[:-1], "and 2 deviations"),
    ],
)
def test_bfm2009_names_arrays_of_the_wrong_shape(tmp_path, name, change, message):
    from scipy.io import savemat

    arrays, _ = bfm2009_arrays(small_face())
    savemat(tmp_path / "m.mat", arrays | {name: change(arrays[name])})
    with pytest.raises(BadModel, match=message):
        bfm2009.load(tmp_path / "m.mat", landmarks=ids_file(tmp_path, small_face().ids))


def test_bfm2009_never_invents_landmarks_for_an_unknown_mesh(tmp_path):
    with pytest.raises(BadModel, match=r"landmark ids are published for \[53215, 53490\]"):
        bfm2009.load(write_bfm2009_small(tmp_path).path)


@pytest.mark.parametrize(
    "content",
    [
        b"MATLAB 5.0 MAT-file, cut",
        b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM\x0f\x00\x00\x00\xff\x00\x00\x00not zlib",
        b"\x89HDF\r\n\x1a\ncut",
    ],
)
def test_broken_matlab_files_are_named(tmp_path, content):
    (tmp_path / "m.mat").write_bytes(content)
    with pytest.raises(BadModel, match="is cut short"):
        read_matlab(tmp_path / "m.mat")


def test_bfm2009_needs_the_companions_of_its_expressions(tmp_path):
    written = write_bfm2009_binary(tmp_path)
    (tmp_path / "std_exp.txt").write_text("1.0")
    with pytest.raises(BadModel, match=r"has 2 modes, but .* has 1 deviations"):
        written.load()
    (tmp_path / "std_exp.txt").unlink()
    with pytest.raises(AssetMissing, match=r"no std_exp\.txt"):
        written.load()
    (tmp_path / "BFM_exp_idx.mat").unlink()
    with pytest.raises(AssetMissing, match=r"no model_info\.mat or BFM_exp_idx\.mat"):
        written.load()


def test_bfm2009_refuses_expressions_of_another_mesh(tmp_path):
    from scipy.io import savemat

    written = write_bfm2009_expressions(tmp_path)
    savemat(tmp_path / "model_info.mat", {"trimIndex": np.arange(1, 53001)[:, None]})
    with pytest.raises(BadModel, match="is for 53215 vertices, but trimIndex beside it keeps 53000"):
        written.load()
    savemat(tmp_path / "model_info.mat", {"trimIndex": np.array([[1.0], [53491.0]])})
    with pytest.raises(BadModel, match="trimIndex runs to 53491"):
        written.load()


@pytest.mark.parametrize("cut", [0, 3, 100])
def test_bfm2009_refuses_a_cut_expression_file(tmp_path, cut):
    written = write_bfm2009_binary(tmp_path)
    binary = tmp_path / "Exp_Pca.bin"
    binary.write_bytes(binary.read_bytes()[:cut])
    with pytest.raises(BadModel, match="do not divide so"):
        written.load()


# ---- Basel 2017 ----


def test_bfm2017_variances_are_not_deviations(tmp_path):
    model = write_bfm2017(tmp_path).load()
    norms = np.linalg.norm(model.identity_basis.reshape(-1, 3), axis=0)
    np.testing.assert_allclose(norms, [30, 20, 10], rtol=1e-4)


def test_bfm2017_colours_become_linear_light(tmp_path):
    model = write_bfm2017(tmp_path).load()
    slope = 2.4 / 1.055 * ((0.5 + 0.055) / 1.055) ** 1.4  # every mean colour of the file is 0.5
    assert model.albedo_mean is not None
    assert model.albedo_basis is not None
    np.testing.assert_allclose(model.albedo_mean, 0.21404, atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(model.albedo_basis.reshape(-1, 2), axis=0), [3 * slope, 2 * slope], rtol=1e-4
    )


def test_bfm2017_mean_is_neutral_and_its_named_points_are_kept(tmp_path):
    written = write_bfm2017(tmp_path)
    model = written.load()
    np.testing.assert_allclose(model.extra["expression_mean"], 0.3)
    np.testing.assert_allclose(model.extra["point center.nose.tip"], written.landmarks[30], rtol=1e-6)
    assert model.name == "model2017-1_face12_nomouth"


def test_bfm2017_needs_a_landmark_file(tmp_path):
    path = write_bfm2017(tmp_path).path
    beside = tmp_path / "Landmarks68_model2017-1_face12_nomouth.anl"
    elsewhere = beside.rename(tmp_path / "points.txt")
    with pytest.raises(AssetMissing, match=beside.name.replace(".", r"\.")):
        bfm2017.load(path)
    assert bfm2017.load(path, landmarks=elsewhere).n_identity == 3


def test_bfm2017_takes_landmarks_on_numbered_faces(tmp_path):
    """number,x,y,z,face,w0,w1,w2: the layout of face-avatar-reconstruction's landmarks_68.csv."""
    written, face = write_bfm2017(tmp_path), small_face()
    rows = [np.flatnonzero((face.faces == vertex).any(1))[0] for vertex in face.ids]
    weights = np.random.default_rng(0).dirichlet(np.ones(3), 68)
    points = (face.vertices[face.faces[rows]] * weights[..., None]).sum(1)
    table = np.column_stack([np.arange(68), points, rows, weights])
    lines = [",".join(map(repr, row)) for row in table.tolist()]
    (tmp_path / "landmarks_68.csv").write_text("\n".join(lines))
    model = bfm2017.load(written.path, landmarks=tmp_path / "landmarks_68.csv")
    np.testing.assert_allclose(model.landmarks(model.mean), points, atol=1e-3)


@pytest.mark.parametrize("name", ["shape/model/mean", "shape/representer/cells", "expression/model/pcaVariance"])
def test_bfm2017_names_what_is_missing(tmp_path, name):
    import h5py

    path = write_bfm2017(tmp_path).path
    with h5py.File(path, "r+") as file:
        del file[name]
    with pytest.raises(BadModel, match=f"it lacks {name}"):
        bfm2017.load(path)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("shape/model/pcaVariance", [-1.0, 1.0, 1.0], "negative"),
        ("shape/representer/cells", [[1, 2], [1, 2]], r"has shape \(2, 2\)"),
        ("metadata/landmarks/json", "{", "is not a list of named points"),
        ("metadata/landmarks/json", '["center.nose.tip"]', "is not a list of named points"),
    ],
)
def test_bfm2017_names_what_is_wrong(tmp_path, name, value, message):
    import h5py

    path = write_bfm2017(tmp_path).path
    with h5py.File(path, "r+") as file:
        del file[name]
        file[name] = value
    with pytest.raises(BadModel, match=message):
        bfm2017.load(path)


@pytest.mark.parametrize("form", ["array of text", "bytes", "absent"])
def test_bfm2017_named_points_in_the_forms_that_hdf5_has_for_text(tmp_path, form):
    import h5py

    path = write_bfm2017(tmp_path).path
    text = '[{"id": "a", "coordinates": [1, 2, 3]}]'
    with h5py.File(path, "r+") as file:
        del file["metadata/landmarks/json"]
        if form != "absent":
            file["metadata/landmarks/json"] = np.array([text], object) if form == "array of text" else np.bytes_(text)
    points = {name: xyz.tolist() for name, xyz in bfm2017.load(path).extra.items() if name.startswith("point")}
    assert points == ({} if form == "absent" else {"point a": [1, 2, 3]})


# ---- 3DDFA ----


@pytest.mark.parametrize("writer", [write_tddfa, write_tddfa_v2, write_tddfa_sparse])
def test_tddfa_coefficients_are_the_networks_plus_an_offset(tmp_path, writer):
    """u + w (m + s z), as 3DDFA has it, is our face at α = z + offset."""
    written = writer(tmp_path)
    model = written.load()
    z = np.random.default_rng(0).normal(size=50)
    identity, expression = z[:40] + model.extra["identity_offset"], z[40:] + model.extra["expression_offset"]
    rng = np.random.default_rng(9)
    offset = rng.normal(size=62)[12:]  # the writer's means, in deviations
    expected = written.mean + written.identity @ (z + offset)[:40] + written.expression @ (z + offset)[40:]
    np.testing.assert_allclose(model.vertices(identity, expression), expected, rtol=1e-4, atol=0.05)


def test_tddfa_finds_the_v2_model_in_its_folder(tmp_path):
    written = write_tddfa_v2(tmp_path)
    np.testing.assert_array_equal(tddfa.load(tmp_path).mean, written.load().mean)


def test_tddfa_without_statistics_has_no_scale(tmp_path):
    path = write_tddfa_v2(tmp_path).path
    elsewhere = (tmp_path / "param_mean_std_62d_120x120.pkl").rename(tmp_path / "other.pkl")
    with pytest.raises(AssetMissing, match=r"the coefficients of .* have no scale"):
        tddfa.load(path)
    assert tddfa.load(path, statistics=elsewhere).n_identity == 40


@pytest.mark.parametrize(
    ("statistics", "message"),
    [
        ([1, 2], "a list; expected a dict"),
        ({"mean": np.zeros(62)}, "it lacks std"),
        ({"mean": np.zeros(62), "std": np.zeros(62)}, "the deviations positive"),
        ({"mean": np.zeros(102), "std": np.ones(102)}, "have 102 means and 102 deviations; expected 62 each"),
    ],
)
def test_tddfa_refuses_statistics_of_other_parameters(tmp_path, statistics, message):
    path = write_tddfa_v2(tmp_path).path
    (tmp_path / "param_mean_std_62d_120x120.pkl").write_bytes(pickle.dumps(statistics))
    with pytest.raises(BadModel, match=message):
        tddfa.load(path)


@pytest.mark.parametrize("name", ["u_shp.npy", "keypoints_sim.npy"])
def test_tddfa_names_the_file_that_is_missing(tmp_path, name):
    configs = write_tddfa(tmp_path).path
    (configs / name).unlink()
    with pytest.raises(AssetMissing, match=name):
        tddfa.load(configs)


def test_tddfa_needs_triangles(tmp_path):
    written = write_tddfa(tmp_path)
    inside = (tmp_path / "visualize" / "tri.mat").rename(written.path / "tri.mat")
    assert outward_faces(written.load().faces) == outward_faces(written.faces)
    inside.unlink()
    with pytest.raises(AssetMissing, match="has no triangles"):
        written.load()


def test_tddfa_v2_takes_triangles_from_the_pickle_if_there_are_none_beside_it(tmp_path):
    written = write_tddfa_v2(tmp_path)
    (tmp_path / "tri.pkl").unlink()
    with pytest.raises(AssetMissing, match="holds no triangles"):
        written.load()
    content = pickle.loads(written.path.read_bytes())
    written.path.write_bytes(pickle.dumps(content | {"tri": np.int32(written.faces.T)}))
    assert outward_faces(written.load().faces) == outward_faces(written.faces)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("keypoints", np.arange(68), "keypoints has 68 numbers"),
        ("keypoints", np.arange(1, 205), "the rows x, y, z of 68 landmarks"),
        ("w_shp", np.ones((5, 40)), "the shape modes has shape"),
        ("u", None, "it lacks u"),
    ],
)
def test_tddfa_v2_names_what_is_wrong(tmp_path, name, value, message):
    path = write_tddfa_v2(tmp_path).path
    content = pickle.loads(path.read_bytes())
    content = {k: v for k, v in (content | {name: value}).items() if v is not None}
    path.write_bytes(pickle.dumps(content))
    with pytest.raises(BadModel, match=message):
        tddfa.load(path)


@pytest.mark.parametrize(
    ("triangles", "message"),
    [(np.ones(4), r"triangles have shape \(4,\)"), (np.full((3, 9), 10**6), "the triangles use vertex 1000000")],
)
def test_tddfa_refuses_triangles_of_another_mesh(tmp_path, triangles, message):
    written = write_tddfa_v2(tmp_path)
    (tmp_path / "tri.pkl").write_bytes(pickle.dumps(triangles))
    with pytest.raises(BadModel, match=message):
        written.load()


def test_tddfa_refuses_a_pickle_that_is_not_a_dict(tmp_path):
    (tmp_path / "bfm.pkl").write_bytes(pickle.dumps([1]))
    with pytest.raises(BadModel, match="holds a list; expected the dict"):
        tddfa.load(tmp_path / "bfm.pkl")


def test_tddfa_sparse_names_what_is_missing_or_wrong(tmp_path):
    written = write_tddfa_sparse(tmp_path)
    np.savetxt(tmp_path / "u_base.txt", np.ones(100))
    with pytest.raises(BadModel, match="has 100 numbers; expected 204"):
        written.load()
    (tmp_path / "param_std.txt").unlink()
    with pytest.raises(AssetMissing, match=r"param_std\.txt is missing"):
        written.load()


def test_tddfa_sparse_takes_other_statistics(tmp_path):
    written = write_tddfa_sparse(tmp_path)
    statistics = tmp_path / "v2.pkl"
    statistics.write_bytes(pickle.dumps({"mean": np.zeros(62), "std": np.full(62, 1000.0)}))
    model = tddfa.load_sparse(tmp_path, statistics=statistics)
    np.testing.assert_allclose(
        model.identity_basis.reshape(204, 40), np.loadtxt(tmp_path / "w_shp_base.txt"), rtol=1e-5
    )
    assert not model.extra["identity_offset"].any()
    assert written.load().extra["identity_offset"].any()


# ---- FLAME ----


@pytest.mark.parametrize("writer", [write_flame, write_flame_2020])
def test_flame_has_300_shapes_100_expressions_and_what_poses_would_need(tmp_path, writer):
    written = writer(tmp_path)
    model = written.load()
    assert (model.n_identity, model.n_expression) == (300, 100)
    assert model.extra["kintree_parents"].tolist() == [-1, 0, 1, 1, 1]
    assert model.extra["J_regressor"].shape == (5, model.n_vertices)
    np.testing.assert_allclose(model.extra["J_regressor"] @ model.mean, written.landmarks[:5], atol=1e-3)
    np.testing.assert_allclose(model.extra["posedirs"], 2.0)
    np.testing.assert_allclose(model.extra["weights"], 0.2)


def test_flame_licence_follows_the_edition(tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "research").mkdir()
    assert write_flame(tmp_path / "open").load().licence.startswith("CC-BY-4.0")
    assert "non-commercial" in write_flame_2020(tmp_path / "research").load().licence


def test_flame_dynamic_landmarks_are_the_contour_of_a_frontal_view(tmp_path):
    written = write_flame_2020(tmp_path)
    model = written.load()
    np.testing.assert_allclose(model.landmarks(model.mean, contour=True), written.landmarks, atol=1e-3)
    (tmp_path / "deca").mkdir()
    assert write_flame(tmp_path / "deca").load().contour_faces is None


def test_flame_without_landmark_files_says_which_to_add(tmp_path):
    path = write_flame(tmp_path).path
    (tmp_path / "landmark_embedding.npy").rename(tmp_path / "elsewhere.npy")
    with pytest.raises(AssetMissing, match=r"landmark_embedding\.npy \(from DECA\), or flame_static_embedding\.pkl"):
        flame.load(path)
    assert flame.load(path, landmarks=tmp_path / "elsewhere.npy").n_vertices
    with pytest.raises(AssetMissing, match="does not exist"):
        flame.load(path, landmarks=tmp_path / "nothing.npy")


def test_flame_takes_a_file_of_all_68(tmp_path):
    written = write_flame(tmp_path)
    faces, weights = corner_embedding(small_face(), small_face().ids)
    np.savez(tmp_path / "all.npz", lmk_face_idx=faces, lmk_b_coords=weights)
    model = flame.load(written.path, landmarks=tmp_path / "all.npz")
    np.testing.assert_allclose(model.landmarks(model.mean), written.landmarks, atol=1e-3)


def test_flame_names_a_broken_landmark_file(tmp_path):
    path = write_flame(tmp_path).path
    (tmp_path / "all.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(BadModel, match=r"all\.npz is no \.npz of plain arrays"):
        flame.load(path, landmarks=tmp_path / "all.npz")


def test_flame_inner_points_alone_are_not_enough(tmp_path):
    path = write_flame_2020(tmp_path).path
    with pytest.raises(AssetMissing, match="found the landmarks of inner; expected all 68"):
        flame.load(path, landmarks=tmp_path / "flame_static_embedding.pkl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"other": 1}, "has no landmarks of FLAME; it has other"),
        ([1], "holds a list; expected the dict"),
        ({"lmk_face_idx": np.zeros(5, int), "lmk_b_coords": np.ones((5, 3)) / 3}, "has 5 triangles"),
        ({"lmk_face_idx": np.full(68, 10**5), "lmk_b_coords": np.ones((68, 3)) / 3}, "names face 100000"),
        ({"lmk_face_idx": np.zeros(68, int), "lmk_b_coords": np.ones((68, 3))}, "sum to 3.0000, not to 1"),
    ],
)
def test_flame_refuses_landmarks_that_do_not_fit(tmp_path, content, message):
    path = write_flame(tmp_path).path
    (tmp_path / "points.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(BadModel, match=message):
        flame.load(path, landmarks=tmp_path / "points.pkl")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1], "holds a list; expected the dict of a FLAME model"),
        ({"v_template": np.ones((5, 3))}, "it lacks shapedirs, f"),
        ({"v_template": np.ones((5, 3)), "shapedirs": np.ones((5, 3, 10)), "f": np.ones((1, 3))}, r"\(5, 3, 10\)"),
    ],
)
def test_flame_refuses_other_pickles(tmp_path, content, message):
    (tmp_path / "m.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(BadModel, match=message):
        flame.load(tmp_path / "m.pkl")


def test_flame_landmark_files_cannot_run_anything(tmp_path):
    path = write_flame(tmp_path).path
    evil = object_npy({"full_lmk_faces_idx": Python2("os\nsystem", {})})
    (tmp_path / "landmark_embedding.npy").write_bytes(evil)
    with pytest.raises(BadModel, match=r"os\.system"):
        flame.load(path)


def test_flame_reads_old_pickles_without_importing_what_they_name(tmp_path):
    written = write_flame_2020(tmp_path)
    assert b"chumpy.ch\nCh" in written.path.read_bytes()
    written.load()
    assert "chumpy" not in sys.modules


def test_python2_pickles_of_the_tests_are_real_ones():
    """What the tests write as Python 2 is a pickle to Python itself, too."""
    array = np.arange(6.0).reshape(2, 3)
    np.testing.assert_array_equal(pickle.loads(python2_pickle({"a": array}), encoding="latin1")["a"], array)


# ---- GNM ----


def test_gnm_jaw_rows_in_reverse_are_put_right(tmp_path):
    (tmp_path / "early").mkdir()
    (tmp_path / "now").mkdir()
    early, now = write_gnm(tmp_path / "early", reversed_jaw=True), write_gnm(tmp_path / "now")
    rows = [(w.path.parent / "head_sparse_68.txt").read_text().splitlines() for w in (early, now)]
    assert rows[0] != rows[1]
    np.testing.assert_array_equal(early.load().landmark_faces, now.load().landmark_faces)


def test_gnm_refuses_a_jaw_that_no_known_order_explains(tmp_path):
    written = write_gnm(tmp_path)
    rows = gnm_landmark_rows(small_face())
    rows[0], rows[12] = rows[12], rows[0]
    (tmp_path / "head_sparse_68.txt").write_text("\n".join(rows))
    with pytest.raises(BadModel, match=r"neighbouring jaw landmarks are .* mm apart; expected at most 30"):
        written.load()


def test_gnm_keeps_mirror_groups_corner_uvs_and_joints(tmp_path):
    written = write_gnm(tmp_path)
    model, source = written.load(), np.load(written.path)
    assert model.mirror is not None
    np.testing.assert_array_equal(model.mirror, source["mirror_indices"])
    np.testing.assert_array_equal(model.regions["upper"], source["vertex_groups"][0] > 0.5)
    np.testing.assert_array_equal(model.extra["triangle_uvs"], source["triangle_uvs"])
    np.testing.assert_allclose(model.extra["joints"], 10)
    assert model.uv is None
    assert model.expression_names == ("left_eye_region_0", "lower_face_region_0", "tongue_0")
    assert model.licence == "Apache-2.0"


def test_gnm_landmarks_between_vertices(tmp_path):
    written, face = write_gnm(tmp_path), small_face()
    row = np.flatnonzero((face.faces == face.ids[30]).any(1))[0]
    a, b, c = face.faces[row]
    rows = gnm_landmark_rows(face)
    rows[30] = f"{c} 0.2 {a} 0.5 {b} 0.3"
    (tmp_path / "head_sparse_68.txt").write_text("\n".join(rows))
    model = written.load()
    expected = 0.5 * face.vertices[a] + 0.3 * face.vertices[b] + 0.2 * face.vertices[c]
    np.testing.assert_allclose(model.landmarks(model.mean)[30], expected, atol=1e-3)


def test_gnm_finds_its_landmarks_where_the_repository_has_them(tmp_path):
    folder = tmp_path / "data" / "versions" / "v3_0"
    folder.mkdir(parents=True)
    written = write_gnm(folder)
    (tmp_path / "data" / "landmarks").mkdir()
    moved = (folder / "head_sparse_68.txt").rename(tmp_path / "data" / "landmarks" / "head_sparse_68.txt")
    assert written.load().n_identity == 4
    elsewhere = moved.rename(tmp_path / "points.txt")
    with pytest.raises(AssetMissing, match=r"head_sparse_68\.txt from the same repository"):
        written.load()
    assert gnm.load(written.path, landmarks=elsewhere).n_identity == 4


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("version", lambda _: np.array("2.1"), "GNM of version 2.1"),
        ("triangles", None, "it lacks triangles"),
        ("mirror_indices", lambda m: np.roll(np.arange(len(m)), 1), "applied twice is not the identity"),
        ("vertex_group_names", lambda n: n[:1], "1 names for 2 vertex groups"),
        ("vertex_identity_basis", lambda b: b[:, :5], r"vertex_identity_basis has shape \(4, 5, 3\)"),
    ],
)
def test_gnm_names_what_is_wrong(tmp_path, name, change, message):
    written = write_gnm(tmp_path)
    with np.load(written.path) as file:
        arrays = dict(file)
    if change is None:
        del arrays[name]
    else:
        arrays[name] = change(arrays[name])
    np.savez(written.path, **arrays)
    with pytest.raises(BadModel, match=message):
        written.load()


def test_gnm_refuses_what_is_not_an_npz(tmp_path):
    (tmp_path / "gnm_head.npz").write_bytes(b"PK\x03\x04")
    with pytest.raises(BadModel, match=r"is no \.npz of plain arrays"):
        gnm.load(tmp_path / "gnm_head.npz")


# ---- real files, where they are at hand ----


@pytest.fixture(scope="module")
def real_points(shared):
    return formats.open_model(shared("oracles/tddfa"))


def test_real_68_points_have_the_known_eye_distance(real_points):
    outer = real_points.mean[45] - real_points.mean[36]
    assert np.linalg.norm(outer) == pytest.approx(86.262, abs=5e-4)


def test_real_68_points_are_a_face_in_millimetres(real_points):
    model = real_points
    assert (model.n_vertices, model.n_identity, model.n_expression) == (68, 40, 10)
    np.testing.assert_allclose(model.landmarks(model.mean), model.mean, atol=1e-4)
    assert np.abs(model.mean).max() < 140
    movement = np.linalg.norm(model.identity_basis, axis=1).max(0)
    assert 0.1 < movement.min()
    assert movement.max() < 15
    assert np.abs(model.extra["identity_offset"]).max() < 1


def test_real_columns_have_the_known_norms(shared):
    folder = shared("oracles/tddfa")
    model = tddfa.load_sparse(folder)
    deviation = np.loadtxt(folder / "param_std.txt")[12:] / 1000
    norms = np.linalg.norm(model.identity_basis.reshape(204, 40), axis=0) / deviation[:40]
    np.testing.assert_allclose(norms[:5], [0.0261, 0.0196, 0.0213, 0.0269, 0.0329], atol=1e-4)
    norms = np.linalg.norm(model.expression_basis.reshape(204, 10), axis=0) / deviation[40:]
    np.testing.assert_allclose(norms[:3], [14251, 12919, 12457], atol=1)


def test_real_statistics_of_v2_are_read_from_their_pickle(shared):
    folder = shared("oracles/tddfa")
    model = tddfa.load_sparse(folder, statistics=folder / "param_mean_std_62d_120x120.pkl")
    means, deviations = (np.loadtxt(folder / f"param_{name}_v2.txt") for name in ("mean", "std"))
    np.testing.assert_allclose(model.extra["identity_offset"], (means / deviations)[12:52], rtol=1e-4)
