"""People in an index: who is nearest, by hand and as `verify` says it; what it outlives, and what it refuses."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as parquet
import pytest
from PIL import Image

import sameface
from faces import GRACE, astronaut, from_far, person, scenery, seen_by
from sameface.bulk.bulk import Options, bulk, fingerprint_of
from sameface.cli import main
from sameface.core.errors import BadData, BadOutput
from sameface.morphable import default
from sameface.photo.predictor import CODE, load, networks_name, networks_sha256
from sameface.reconstruction.agreement import millimetres
from sameface.reconstruction.reconstruct import join, shape_distance
from sameface.search import approximate, hits, store
from sameface.search import index as module
from sameface.search.index import Index
from sameface.search.places import places
from sameface.search.store import ABOUT, People, Store, writing
from sameface.verification.verify import verify

ROOT = Path(__file__).parent.parent
ABOUT_US = {
    "predictor": networks_name(), "networks_sha256": networks_sha256(), "fingerprint": fingerprint_of("default"),
    "model": default().name,
}  # fmt: skip


def strangers(count: int, seed: int = 0, codes: bool = True) -> People:
    """People who do not exist; every seventh has no code."""
    rng = np.random.default_rng(seed)
    code = rng.normal(size=(count, CODE)) * codes
    code[::7] = 0
    code /= np.maximum(np.linalg.norm(code, axis=1, keepdims=True), 1e-9)
    return People(
        [f"{seed}-{k:05d}" for k in range(count)], ["drawn"] * count, rng.integers(1, 20, count),
        rng.normal(size=(count, default().n_identity)).astype(np.float32), code.astype(np.float32),
    )  # fmt: skip


def written(folder: Path, *some: People) -> Index:
    made = Store.create(folder, ABOUT_US)
    for one in some:
        made.add(one)
    return Index(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir() if file.name != store.LOCK}


def answers(index: Index, query: str, **asked: object) -> list[tuple[str, float]]:
    return [(hit.person, hit.distance_mm) for hit in index.search(query, **asked).hits]


def a_row(index: Index, name: str) -> str:
    return f"{index.folder}:{name}"


@pytest.fixture(scope="module")
def drawn(tmp_path_factory) -> Index:
    return written(tmp_path_factory.mktemp("search") / "drawn.index", strangers(300))


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    """Six people's results, as the command line saves them."""
    folder = tmp_path_factory.mktemp("search") / "results"
    for seed in range(6):
        yaws = np.linspace(-0.4, 0.4, seed + 1) if seed else [0.1]
        answer = join([seen_by(from_far(float(yaw)), person(seed), name=f"{seed}-{yaw:.2f}") for yaw in yaws])
        (folder / f"person{seed}").mkdir(parents=True)
        answer.save(folder / f"person{seed}" / "result.json")
    return folder


# ── places ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("spread", "most"), [(1.0, 0.001), (2.0, 0.005)])
@pytest.mark.parametrize("apart", [0.02, 0.3, None])
def test_places_are_as_far_apart_as_verify_says(spread, most, apart):
    rng, model = np.random.default_rng(3), default()
    first, other = spread * rng.normal(size=(2, 40, model.n_identity))
    other = other if apart is None else first + apart * other
    told = [shape_distance(model.vertices(a), model.vertices(b), model) for a, b in zip(first, other, strict=True)]
    ours = np.linalg.norm(places(first).astype(np.float64) - places(other), axis=1)
    np.testing.assert_allclose(ours, told, rtol=most, atol=1e-5)


def test_differences_without_their_rigid_motions_would_not_do():
    first, other = np.random.default_rng(3).normal(size=(2, 40, default().n_identity))
    told = [
        shape_distance(default().vertices(a), default().vertices(b), default())
        for a, b in zip(first, other, strict=True)
    ]
    assert (np.linalg.norm((first - other) @ millimetres(), axis=1) / told).max() > 1.1


def test_a_place_does_not_depend_on_who_else_is_asked_for():
    identity = strangers(5000).identity
    assert np.abs(places(identity)[4990:] - places(identity[4990:])).max() < 1e-5
    assert places(identity[:0]).shape == (0, default().n_identity)


# ── who is nearest ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_nearest_by_shape_are_those_of_the_slow_way(drawn):
    people, model = strangers(300), default()
    for asked in (5, 77):
        mesh = model.vertices(people.identity[asked])
        slow = {
            name: shape_distance(mesh, model.vertices(one), model)
            for k, (name, one) in enumerate(zip(people.person, people.identity, strict=True)) if k != asked
        }  # fmt: skip
        found = drawn.search(a_row(drawn, people.person[asked]), count=12)
        assert (found.people, found.approximate) == (299, False)
        assert [(hit.person, hit.distance_mm) for hit in found.hits] == sorted(slow.items(), key=lambda one: one[1])[
            :12
        ]


def test_the_nearest_by_code_are_those_of_the_slow_way_and_who_has_none_is_said(drawn):
    people = strangers(300)
    slow = {
        name: 1 - float(code.astype(np.float64) @ people.code[5])
        for k, (name, code) in enumerate(zip(people.person, people.code, strict=True)) if code.any() and k != 5
    }  # fmt: skip
    found = drawn.search(a_row(drawn, people.person[5]), by="code", count=9)
    assert [hit.person for hit in found.hits] == [name for name, _ in sorted(slow.items(), key=lambda one: one[1])[:9]]
    assert [hit.code_distance for hit in found.hits] == pytest.approx(sorted(slow.values())[:9], abs=1e-6)
    assert found.people == len(slow)
    assert "43 of the people in the index have no code, and were not compared" in found.notes
    with pytest.raises(ValueError, match="has no code"):
        drawn.search(a_row(drawn, people.person[7]), by="code")


def test_each_hit_says_what_verify_says(saved, tmp_path):
    index = Index.build(tmp_path / "people.index", saved)
    asked = str(saved / "person4" / "result.json")
    found = index.search(asked, count=6)
    assert found.hits[0].person == "person4"
    assert len(found.hits) == 6
    for hit in found.hits:
        verdict = verify(asked, str(saved / hit.person / "result.json"))
        assert (hit.distance_mm, hit.probability) == (verdict.distance_mm, verdict.probability)
        assert (hit.word, hit.photos) == (verdict.word, verdict.photos[1])
        odds = verdict.probability / (1 - verdict.probability) / 5  # everybody else is as likely beforehand
        assert hit.probability_among == pytest.approx(odds / (1 + odds))
    assert verify(asked, asked).notes[0] not in found.notes  # that the file is on both sides: an index does not know
    assert verify(asked, asked).notes[1] in found.notes


def test_of_equal_ones_the_first_by_name_and_copies_are_all_there(tmp_path):
    one = strangers(1)
    named = [f"copy-{k}" for k in (3, 1, 2)]
    same = People(named, ["drawn"] * 3, np.ones(3, int), one.identity.repeat(3, 0), one.code.repeat(3, 0))
    index = written(tmp_path / "i", strangers(20, 2), same)
    assert [name for name, _ in answers(index, a_row(index, "copy-2"), count=2)] == ["copy-1", "copy-3"]


def test_fewer_people_than_are_asked_for_and_nobody_at_all(tmp_path, saved):
    few = written(tmp_path / "few", strangers(3))
    assert len(few.search(a_row(few, "0-00001"), count=50).hits) == 2
    nobody = written(tmp_path / "nobody")
    found = nobody.search(saved / "person1")
    assert (found.hits, found.people) == ((), 0)
    assert "there is nobody in the index to compare with" in found.notes


# ── growing ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def small_parts(monkeypatch):
    for one in (store, module):
        monkeypatch.setattr(one, "PART", 16)


def test_appended_is_as_built_at_once(tmp_path, small_parts):
    everybody = strangers(75)
    once = written(tmp_path / "once", everybody)
    grown = written(
        tmp_path / "grown", *(everybody.rows(range(a, b)) for a, b in ((0, 5), (5, 16), (16, 17), (17, 75)))
    )
    named = {name: body for name, body in contents(grown.folder).items() if name in once.store.files | {ABOUT}}
    assert named == contents(once.folder)
    assert [part.count for part in once.store.parts] == [16, 16, 16, 16, 11]


def test_the_order_of_people_does_not_matter(tmp_path, small_parts):
    everybody, order = strangers(75), np.random.default_rng(0).permutation(75)
    one, other = written(tmp_path / "one", everybody), written(tmp_path / "other", everybody.rows(order))
    for name in everybody.person[:5]:
        for by in ("shape", "code") if everybody.code[everybody.person.index(name)].any() else ("shape",):
            assert answers(one, a_row(one, name), by=by) == answers(other, a_row(other, name), by=by)


def test_a_kill_at_any_write_leaves_the_index_of_before_or_after(tmp_path, small_parts, monkeypatch):
    before, after, write = strangers(20), strangers(30, 1), store.write_file
    names = {*before.person}
    for writes in range(20):
        index = written(tmp_path / f"{writes}", before)
        left = iter(range(writes))

        def killed(*given: object, left: object = left, **more: object) -> None:
            if next(left, None) is None:
                raise KeyboardInterrupt
            write(*given, **more)

        with monkeypatch.context() as patched:
            patched.setattr(store, "write_file", killed)
            try:
                index.store.add(after)
                done = True
            except KeyboardInterrupt:
                done = False
        again = Index(index.folder)
        assert {name for part in again.store.parts for name in part.people[0]} == names | set(
            after.person if done else []
        )
        if done:
            break
        again.store.add(after)
        assert again.store.files | {ABOUT} <= contents(index.folder).keys()
        Store.open(index.folder).commit()  # whose predecessor is the same: nothing else is kept
        assert contents(index.folder).keys() == again.store.files | {ABOUT}
        assert len(Index(index.folder)) == 50
    assert writes > 10


def test_whoever_searches_goes_on_while_the_index_grows(drawn, tmp_path):
    folder = shutil.copytree(drawn.folder, tmp_path / "i")
    reader = Index(folder)
    before = answers(drawn, a_row(drawn, "0-00010"))
    writer = Index(folder)
    for seed in (5, 6, 7):
        writer.store.add(strangers(40, seed))
    assert answers(reader, a_row(drawn, "0-00010"), count=11)[1:] == before
    assert len(Index(folder)) == 420


def test_two_cannot_write_at_once(drawn, tmp_path, saved):
    folder = shutil.copytree(drawn.folder, tmp_path / "i")
    with writing(folder), pytest.raises(BadOutput, match="is written to by another process"):
        Index(folder).add(saved)
    assert Index(folder).add(saved).new == 6


def test_who_is_there_is_passed_over_and_a_namesake_is_told(saved, tmp_path):
    index = Index.build(tmp_path / "i", saved)
    assert (index.added.new, index.added.known) == (6, 0)
    files = contents(index.folder)
    again = index.add(saved, saved / "person2")
    assert (again.new, again.known, dict(again.errors)) == (0, 7, {})
    assert contents(index.folder) == files
    shutil.copytree(saved / "person3", tmp_path / "elsewhere" / "person2")
    namesake = index.add(tmp_path / "elsewhere")
    assert dict(namesake.errors) == {"OtherFace": 1}
    assert "person2 is in the index with another face" in namesake.problems[0][2]
    assert len(index) == len(Index(index.folder)) == 6


# ── from photos and from bulk ──────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> Path:
    """Two people and somebody whose photo shows nobody."""
    root = tmp_path_factory.mktemp("search") / "people"
    for name in ("eileen", "grace", "nobody"):
        (root / name).mkdir(parents=True)
    Image.fromarray(astronaut()).save(root / "eileen" / "1.png")
    Image.fromarray(astronaut()[:, ::-1]).save(root / "eileen" / "2.png")
    (root / "grace" / "1.jpg").write_bytes(GRACE.read_bytes())
    Image.fromarray(scenery()).save(root / "nobody" / "1.png")
    return root


@pytest.fixture(scope="module")
def faces(folders, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("search") / "faces"
    bulk([folders], out, Options(shard=2), workers=0)
    return out


def test_bulk_writes_codes_of_unit_length_that_tell_people_apart(faces):
    rows = {row["person"]: row["code"] for row in parquet.read_table(faces / "persons").to_pylist()}
    photos = [row["code"] for row in parquet.read_table(faces / "photos").to_pylist() if row["person"] == "eileen"]
    assert rows["nobody"] is None
    assert np.linalg.norm(rows["eileen"]) == pytest.approx(1)
    mean = np.sum(photos, axis=0)
    np.testing.assert_allclose(rows["eileen"], mean / np.linalg.norm(mean), atol=1e-6)
    assert np.dot(*photos) > 0.5 > np.dot(rows["eileen"], rows["grace"])


def test_codes_are_as_long_as_the_network_says():
    (shape,) = [one.shape for one in load("identity")._session.get_outputs() if one.name == "code"]
    assert shape[1] == CODE


def test_photos_and_what_bulk_says_of_them_make_the_same_index(folders, faces, tmp_path):
    direct, rows = Index.build(tmp_path / "direct", folders), Index.build(tmp_path / "rows", faces)
    for index in (direct, rows):
        assert (index.added.new, dict(index.added.errors)) == (2, {"NoFaceFound": 1})
        assert "no face in" in index.added.problems[0][2]
    arrays = [[part.arrays for part in index.store.parts] for index in (direct, rows)]
    for kind in store.ARRAYS:
        assert np.array_equal(*(one[0][kind] for one in arrays))
    photo = folders / "eileen" / "1.png"
    for by in ("shape", "code"):
        found = rows.search(photo, by=by)
        assert [hit.person for hit in found.hits] == ["eileen", "grace"]
        assert found.hits == tuple(
            one.__class__(**(vars(one) | {"source": str(faces)})) for one in direct.search(photo, by=by).hits
        )
    verdict = verify(photo, folders / "eileen")
    hit = rows.search(photo).hits[0]
    assert hit.distance_mm == pytest.approx(verdict.distance_mm, abs=1e-4)
    assert hit.probability == pytest.approx(verdict.probability, abs=1e-4)


def test_a_row_of_bulk_may_be_asked_for(faces, tmp_path):
    index = sameface.Index.build(tmp_path / "i", faces)
    assert index.search(f"{faces}:grace").hits[0].person == "grace"
    with pytest.raises(BadData, match="has no person 'ada'"):
        index.search(f"{faces}:ada")
    with pytest.raises(BadData, match=r"nobody of .* has no face \(NoFaceFound: no face in"):
        index.search(f"{faces}:nobody")
    with pytest.raises(BadData, match="has no person 'ada'"):
        index.search(f"{index.folder}:ada")


def test_of_a_run_of_bulk_that_is_not_whole_the_rest_is_taken_and_it_is_said(faces, tmp_path):
    torn = shutil.copytree(faces, tmp_path / "torn")
    file = torn / "persons" / "000000.parquet"
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    index = Index.build(tmp_path / "i", torn)
    assert index.added.errors["Unfinished"] == 1
    assert index.added.new < 2
    file.write_bytes((faces / "persons" / "000000.parquet").read_bytes())
    assert Index.build(tmp_path / "i", torn).added.errors["Unfinished"] == 0
    assert len(Index(tmp_path / "i")) == 2


@pytest.mark.parametrize("key", ["fingerprint", "morphable", "version"])
def test_bulk_of_other_networks_is_refused(faces, tmp_path, key):
    other = shutil.copytree(faces, tmp_path / "other")
    told = json.loads((other / "bulk.json").read_text())
    (other / "bulk.json").write_text(json.dumps(told | {key: "another"}))
    with pytest.raises(BadData, match="other networks or another model" if key != "version" else "this version"):
        Index.build(tmp_path / "i", other)


# ── what is refused ────────────────────────────────────────────────────────────────────────────────────────


def changed(folder: Path, **about: object) -> None:
    told = json.loads((folder / ABOUT).read_text())
    (folder / ABOUT).write_text(json.dumps(told | about))


@pytest.mark.parametrize(("about", "says"), [
    ({"networks_sha256": "00" * 32}, "was made by isoface.* but the networks here are"),
    ({"model": "another"}, "belongs to the model 'another'"),
    ({"version": 9}, "is not what `sameface index` writes"),
    ({"parts": {}}, "is not what `sameface index` writes"),
    ({"parts": [{"people": 10**9, "files": {}}]}, "is not what `sameface index` writes"),
    ({"approximate": {"people": 10**9, "trained": 1, "files": {}}}, "is not what `sameface index` writes"),
])  # fmt: skip
def test_an_index_that_cannot_be_meant_is_refused(drawn, tmp_path, about, says):
    folder = shutil.copytree(drawn.folder, tmp_path / "i")
    changed(folder, **about)
    with pytest.raises(BadData, match=says):
        Index(folder)


@pytest.mark.parametrize("name", ["../secret-codes.npy", "/etc/passwd", "a\\b-codes.npy", ABOUT, "x.txt", 5])
def test_names_that_lead_elsewhere_are_refused(drawn, tmp_path, name):
    folder = shutil.copytree(drawn.folder, tmp_path / "i")
    parts = json.loads((folder / ABOUT).read_text())["parts"]
    parts[0]["files"]["codes"][0] = name
    changed(folder, parts=parts)
    with pytest.raises(BadData, match="is not what `sameface index` writes"):
        Index(folder)


@pytest.mark.parametrize("kind", ["people", *store.ARRAYS])
def test_a_flipped_bit_a_missing_file_and_a_header_that_lies_are_found(drawn, tmp_path, kind):
    folder = shutil.copytree(drawn.folder, tmp_path / "i")
    file = folder / drawn.store.parts[0].files[kind][0]
    whole = file.read_bytes()
    file.write_bytes(whole[:-9] + bytes([whole[-9] ^ 1]) + whole[-8:])
    with pytest.raises(BadData, match=f"{kind}.* is damaged"):
        Index(folder)
    file.write_bytes(whole.replace(b"(300", b"(900") if kind != "people" else b'{"person": ["anna"]}')
    with pytest.raises(BadData, match=r"(numbers|people) of an index"):
        Index(folder, check=False).search(a_row(drawn, "0-00001"), by="code")
    file.unlink()
    with pytest.raises(BadData, match="there is no file"):
        Index(folder)


def test_numbers_that_are_none_are_refused_where_nobody_checked(drawn, tmp_path):
    folder = shutil.copytree(drawn.folder, tmp_path / "i")
    file = folder / drawn.store.parts[0].files["identities"][0]
    whole = file.read_bytes()
    file.write_bytes(whole[:128] + b"\xff" * (len(whole) - 128))
    with pytest.raises(BadData, match="not finite"):
        Index(folder, check=False).search(a_row(drawn, "0-00001"))


def test_folders_that_are_no_index_and_queries_that_are_none(drawn, saved, tmp_path):
    with pytest.raises(BadData, match="is no index"):
        Index(saved)
    with pytest.raises(BadOutput, match="is no index: give a folder that is empty or new"):
        Index.build(saved, saved / "person1")
    assert len(list(saved.iterdir())) == 6
    for given, says in (({"by": "colour"}, "by is 'colour'"), ({"count": 0}, "count 0"), ({"far": 0.9}, "far 0.9")):
        with pytest.raises(ValueError, match=says):
            drawn.search(a_row(drawn, "0-00001"), **given)
    with pytest.raises(ValueError, match="give somebody to find"):
        drawn.search()
    sameface.Reconstruction.load(saved / "person1" / "result.json").save(tmp_path / "neutral.obj")
    with pytest.raises(BadData, match="is a mesh, which has no identity"):
        drawn.search(tmp_path / "neutral.obj")
    with pytest.raises(ValueError, match="saved results hold none"):
        drawn.search(saved / "person1", by="code")
    (tmp_path / "a.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match="an index takes folders"):
        Index(drawn.folder).add(tmp_path / "a.jpg")


def test_sources_are_looked_for_before_a_folder_is_made(saved, tmp_path, capsys):
    with pytest.raises(BadData, match="there is no file or folder"):
        Index.build(tmp_path / "i", saved, tmp_path / "gone")
    assert called(capsys, "index", tmp_path / "i", tmp_path / "gone")[0] == 1
    with pytest.raises(BadOutput, match="whose folders are persons"):
        Index.build(saved / "people.index", saved)
    (tmp_path / "one.jpg").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"one\.jpg is one file; an index takes folders"):
        Index.build(tmp_path / "i", tmp_path / "one.jpg")
    assert not (tmp_path / "i").exists()
    assert not (saved / "people.index").exists()


def test_what_the_page_says_of_a_million_people_is_what_was_measured():
    told = json.loads((ROOT / "benchmarks" / "search.json").read_text())
    lines = {
        line.split("|")[1].strip("* "): line
        for line in (ROOT / "docs" / "search.md").read_text().splitlines()
        if "|" in line
    }
    everybody, ratios = told["everybody"], told["times_everybody"]
    said = lines["everybody (numpy)"]
    assert f"| {told['index']['seconds']:.0f} | {told['index']['bytes'] / 1e9:.2f} GB |" in said
    assert f"{everybody['shape']['ms']:.0f} / {everybody['code']['ms']:.0f}" in said
    for name, row in (
        ("faiss", "faiss, 8 bits"),
        ("lancedb IVF_PQ", "LanceDB, IVF_PQ"),
        ("lancedb IVF_SQ", "LanceDB, IVF_SQ"),
    ):
        built, asked, ratio = told[name], told[f"{name} asked"], ratios[f"{name} asked"]
        assert f"| + {built['seconds']:.0f} | + {built['bytes'] / 1e9:.2f} GB |" in lines[row]
        assert f"| {asked['shape']['recall']:.3f} / {asked['code']['recall']:.3f} |" in lines[row]
        assert f"| {asked['shape']['ms']:.0f} / {asked['code']['ms']:.0f} |" in lines[row]
        assert f"| {ratio['shape']:.2f} / {ratio['code']:.2f} | {asked['own_bytes'] / 1e9:.2f} GB |" in lines[row]


def test_results_of_other_networks_are_told_and_the_others_taken(saved, tmp_path):
    mixed = shutil.copytree(saved, tmp_path / "mixed")
    file = mixed / "person1" / "result.json"
    file.write_text(file.read_text().replace(networks_name(), "mine@1"))
    (mixed / "person2" / "result.json").write_text("{}")
    index = Index.build(tmp_path / "i", mixed)
    assert (index.added.new, dict(index.added.errors)) == (4, {"BadData": 2})
    assert "was made by mine@1, the index by" in index.added.problems[0][2]
    with pytest.raises(BadData, match="was made by mine@1"):
        index.search(file)


def test_an_index_of_networks_without_a_calibration_has_distances_only(drawn, monkeypatch):
    monkeypatch.setattr(module, "uncalibrated", lambda name, predictor, sha256: f"{name} is uncalibrated")
    found = drawn.search(a_row(drawn, "0-00001"), count=3)
    assert [(hit.probability, hit.probability_among, hit.as_json()["verdict"]) for hit in found.hits] == [
        (None,) * 3
    ] * 3
    assert found.notes[0] == f"no probability: {a_row(drawn, '0-00001')} is uncalibrated"
    assert "–" in found.as_text()


# ── cells ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def cells(monkeypatch):
    faiss = pytest.importorskip("faiss", reason="faiss is not installed: cells are NOT tested")
    monkeypatch.setattr(module, "FROM", 400)
    monkeypatch.setattr(approximate, "FROM", 400)
    return faiss


def taken_in(folder: Path, *some: People) -> Index:
    index = written(folder, *some)
    index._make_cells()
    return Index(folder)


def test_of_many_the_nearest_cells_are_looked_at(cells, tmp_path, small_parts, monkeypatch):
    everybody = strangers(600)
    index, slow = taken_in(tmp_path / "i", everybody), written(tmp_path / "slow", everybody)
    rows = np.flatnonzero(everybody.code.any(1))[:12]
    near = replace(everybody.rows(rows), identity=everybody.identity[rows] * np.float32(1.01))
    others = written(tmp_path / "others", near)
    for by in ("shape", "code"):
        found = [index.search(a_row(others, name), by=by, count=1) for name in near.person]
        assert all(one.approximate for one in found)
        assert [one.hits[0].person for one in found] == near.person
    monkeypatch.setattr(approximate, "CELLS", {"shape": 1.0, "code": 1.0})  # all of them
    for name in near.person:
        for by in ("shape", "code"):
            assert answers(index, a_row(index, name), by=by) == answers(slow, a_row(slow, name), by=by)
    every = [one.search(a_row(one, near.person[0]), by="code").people for one in (index, slow)]
    assert every[0] == every[1]


def test_people_who_come_later_are_found_before_and_after_they_are_in_cells(cells, tmp_path, small_parts, monkeypatch):
    monkeypatch.setattr(approximate, "CELLS", {"shape": 1.0, "code": 1.0})
    index = taken_in(tmp_path / "i", strangers(500))
    more = strangers(50, 9)
    index.store.add(more)
    twin = a_row(index, more.person[1])
    before = answers(Index(index.folder), twin), answers(Index(index.folder), twin, by="code")
    assert index.store.nearby["people"] == 500
    index._make_cells()
    assert (index.store.nearby["people"], index.store.nearby["trained"]) == (550, 500)
    assert (answers(Index(index.folder), twin), answers(Index(index.folder), twin, by="code")) == before
    index.store.add(strangers(600, 10))
    index._make_cells()
    assert (index.store.nearby["people"], index.store.nearby["trained"]) == (1150, 1150)
    Store.open(index.folder).commit()
    assert {file.name for file in index.folder.glob("*.faiss")} == {
        name for name, _ in index.store.nearby["files"].values()
    }


def test_without_codes_there_are_cells_by_shape_only(cells, tmp_path):
    index = taken_in(tmp_path / "i", strangers(450, codes=False))
    assert list(index.store.nearby["files"]) == ["shape"]
    assert index.search(a_row(index, "0-00003")).approximate


def test_cells_that_are_damaged_or_none_are_refused(cells, tmp_path):
    index = taken_in(tmp_path / "i", strangers(450))
    name, _ = index.store.nearby["files"]["shape"]
    file = index.folder / name
    whole, query = file.read_bytes(), a_row(index, "0-00003")
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(BadData, match="is damaged"):
        Index(index.folder).search(query)
    flat = cells.IndexFlatL2(80)
    for content, says in (
        (whole[: len(whole) // 2], "faiss can read"),
        (cells.serialize_index(flat).tobytes(), "no cells"),
    ):
        file.write_bytes(content)
        told = json.loads((index.folder / ABOUT).read_text())["approximate"]
        told["files"]["shape"][1] = store.sha256(file)
        changed(index.folder, approximate=told)
        with pytest.raises(BadData, match=says):
            Index(index.folder).search(query)


def test_without_faiss_everybody_is_looked_at_and_it_is_said(drawn, tmp_path, monkeypatch):
    def missing() -> None:
        raise ImportError("No module named 'faiss'")

    monkeypatch.setattr(module, "FROM", 200)
    monkeypatch.setattr(module, "TELL", 200)
    monkeypatch.setattr(approximate, "FROM", 200)
    monkeypatch.setattr(approximate, "_faiss", missing)
    index = Index(shutil.copytree(drawn.folder, tmp_path / "i"))
    index._make_cells()
    found = index.search(a_row(index, "0-00001"))
    assert not found.approximate
    assert any("pip install 'sameface[search]'" in note for note in found.notes)


# ── the command line ───────────────────────────────────────────────────────────────────────────────────────


def called(capsys, *given: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as end:
        main([str(one) for one in given])
    printed = capsys.readouterr()
    return int(end.value.code or 0), printed.out, printed.err


def test_index_and_search_on_the_command_line(folders, faces, tmp_path, capsys):
    index = tmp_path / "people.index"
    code, out, err = called(capsys, "index", index, faces)
    assert (code, "2 people, 2 of them new" in out, "not taken, NoFaceFound: 1" in out) == (3, True, True)
    assert "no face in" in err
    code, out, err = called(capsys, "index", index, faces)
    assert (code, "there already, with the same face: 2" in out) == (3, True)
    code, out, err = called(capsys, "search", index, folders / "grace", "--by", "code", "--out", tmp_path / "h.csv")
    assert (code, err) == (0, "")
    assert "the 2 nearest of 2 people by code" in out
    assert out.splitlines()[2].endswith("grace")
    assert "Identify nobody by it" in out
    lines = (tmp_path / "h.csv").read_text().splitlines()
    assert lines[0] == ",".join(hits.COLUMNS)
    assert len(lines) == 3


def test_each_query_alone_as_json_and_parquet(saved, tmp_path, capsys):
    index = tmp_path / "people.index"
    assert called(capsys, "index", index, saved, "--quiet")[:2] == (0, "")
    given = saved / "person1", saved / "person5" / "result.json", tmp_path / "gone.jpg"
    code, out, err = called(capsys, "search", index, *given, "--each", "--json", "--out", tmp_path / "h.parquet")
    assert code == 3
    assert "not searched: there is no file" in err
    told = json.loads(out)
    assert (told["format"], [one["hits"][0]["person"] for one in told["queries"]]) == (
        "sameface-hits", ["person1", "person5"],
    )  # fmt: skip
    rows = parquet.read_table(tmp_path / "h.parquet").to_pylist()
    assert [row["person"] for row in rows if row["rank"] == 1] == ["person1", "person5"]
    assert tuple(rows[0]) == hits.COLUMNS
    again = hits.save(tmp_path / "h.json", [Index(index).search(given[0])])
    assert json.loads(again.read_text())["queries"][0] == told["queries"][0]


def test_wrong_usage_on_the_command_line(saved, tmp_path, capsys):
    index = tmp_path / "people.index"
    assert called(capsys, "index", index)[0] == 2
    assert called(capsys, "search", index, saved)[0] == 1
    assert called(capsys, "index", index, saved)[0] == 0
    code, _, err = called(capsys, "search", index, saved / "person1", "--out", tmp_path / "hits.txt")
    assert (code, "hits are saved as .json, .csv, .parquet" in err) == (2, True)
    assert called(capsys, "search", index, tmp_path / "gone.jpg")[0] == 1
