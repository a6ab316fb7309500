"""The report page: one file that needs nothing, says what result.json says, and lets no file name become markup."""

import base64
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from sameface.core.camera import WeakPerspective
from sameface.core.errors import BadOutput
from sameface.core.geometry import rotation_from_euler
from sameface.mesh.glb import Animation
from sameface.photo.face import Observation
from sameface.reconstruction import picture, report
from sameface.reconstruction.cameras import perspective_from_weak
from sameface.reconstruction.report import write_report
from sameface.reconstruction.result import Reconstruction, View
from sameface.reconstruction.viewer import clay

DOCS = Path(__file__).parent.parent / "docs"
EVIL = "<script>alert(1)</script>.jpg"


def view(model, photo: str, yaw: float, expression: list[float]) -> View:
    """One photo of the tiny model, 160 × 180 px, as if it had been fitted."""
    rotation = rotation_from_euler(np.array(0.05), np.array(yaw), np.array(-0.1))
    weak = WeakPerspective(rotation, np.array([80.0, 90.0]), np.array(1.0), (160, 180))
    camera = perspective_from_weak(weak, np.array(900.0))
    weights = np.array(expression, float)
    identity = np.full(model.n_identity, 0.1 + yaw)
    pixels = np.full((180, 160, 3), (190, 150, 130), np.uint8)
    pixels[:, :80] -= 30
    points = camera.project(model.landmarks(model.vertices(identity, weights)).astype(np.float64))
    seen = Observation(
        photo=photo, size=(160, 180), focal=None, box=np.array([20.0, 20, 140, 160]), score=0.93, landmarks=points,
        sigma=np.ones(68), identity=identity, expression=weights, camera=weak, quality=0.71, picture=pixels,
        to_picture=np.eye(2, 3),
    )  # fmt: skip
    return View(
        seen=seen, camera=camera, expression=weights, landmarks=points, residual=0.0123, identity_alone=identity,
        disagreement=1.234 + yaw,
    )  # fmt: skip


@pytest.fixture(scope="module")
def answer(tiny_model) -> Reconstruction:
    tiny_model = replace(tiny_model, uv=0.25 * tiny_model.uv)  # few texels: quick
    views = (
        view(tiny_model, EVIL, 0.0, [0.5, 0.25, 0.35, 0.0]),
        view(tiny_model, 'holiday/"quoted" & late.jpg', 0.3, [0, 0, 0, 0]),
    )
    return Reconstruction(
        identity=np.full(tiny_model.n_identity, 0.4), views=views, model=tiny_model, predictor="tiny@1", scale=1.02,
        scale_from="pupil distance 62 mm", dropped=((EVIL.upper(), "NoFaceFound", "no <b>face</b> in it"),),
        notes=("one note <i>",),
    )  # fmt: skip


@pytest.fixture(scope="module")
def bare(answer) -> Reconstruction:
    """One photo, and a model without texture coordinates."""
    return replace(answer, views=answer.views[:1], model=replace(answer.model, uv=None), dropped=(), notes=())


@contextmanager
def small_pictures() -> Iterator[None]:
    """Renders and overlays with a quarter of the side, where nobody looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "RENDER_SIZE", (105, 130))
        patch.setattr(picture, "SMALLEST_OVERLAY", 160)
        yield


@pytest.fixture
def quick() -> Iterator[None]:
    with small_pictures():
        yield


@pytest.fixture(scope="module")
def page(answer, tmp_path_factory) -> str:
    with small_pictures():
        return write_report(answer, tmp_path_factory.mktemp("report") / "report.html").read_text(encoding="utf-8")


class Outline(HTMLParser):
    """Tags, attributes and text of a page; fails on tags that do not nest."""

    EMPTY = frozenset({"meta", "img", "input", "br", "link"})

    def __init__(self, page: str):
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text: dict[str, str] = {}
        self.feed(page)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes something else"

    def handle_data(self, data):
        self.text[self.open[-1] if self.open else ""] = self.text.get(self.open[-1] if self.open else "", "") + data


def embedded(page: str, name: str) -> dict:
    return json.loads(re.search(rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.S)[1])


def decoded(text: str, kind: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), kind)


def test_the_page_nests_and_refers_to_nothing_outside(page):
    outline = Outline(page)
    assert "://" not in page
    assert not {tag for tag, _ in outline.tags} & {"link", "iframe", "object", "embed", "base", "form"}
    for _, attributes in outline.tags:
        for key in ("src", "href", "srcset", "action"):
            assert attributes.get(key, "data:image/jpeg;base64,").startswith("data:image/jpeg;base64,")
    assert not re.search(r"@import|url\(", page)
    assert "{{" not in page
    policy = next(a["content"] for _, a in outline.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy.startswith("default-src 'none'; img-src data:;")


def test_names_of_photos_stay_text(page):
    outline = Outline(page)
    assert sum(tag == "script" for tag, _ in outline.tags) == 3  # two of data, one of ours
    assert "b" not in {parent for parent in outline.text if "alert" in outline.text[parent]}
    assert "alert(1)</script>" not in page.replace("&lt;/script&gt;", "")
    assert outline.text["h3"].count("script>.jpg") == 1
    assert "no <b>face</b> in it" in outline.text["td"]
    assert embedded(page, "face")["photos"][0]["name"] == EVIL


def test_it_says_what_result_json_says(answer, page):
    numbers = answer.as_json()
    assert embedded(page, "result") == numbers
    assert f"{numbers['disagreement_mm']:.2f} mm" in page
    assert "pupil distance 62 mm" in page
    assert "1.0200" in page
    for one in numbers["views"]:
        assert f"{one['disagreement_mm']:.2f} mm" in page
        assert f"{one['quality']:.2f}" in page
    assert "17° right, 3° down, 6° tilted left" in page
    assert "jawOpen 0.50, mouthSmile 0.30" in page
    assert "none to speak of" in page
    assert "2 of 3" in page


def test_a_slider_lies_between_each_photo_and_its_face(answer, page):
    outline = Outline(page)
    sliders = [a for tag, a in outline.tags if tag == "input" and a.get("type") == "range"]
    assert len(sliders) == len(answer.views)
    assert all(a["aria-label"] for a in sliders)
    assert [tag for tag, a in outline.tags if a.get("class") == "over"] == ["img"] * len(answer.views)


def test_headings_go_down_step_by_step(page):
    levels = [int(tag[1]) for tag, _ in Outline(page).tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))


def test_the_wheel_scrolls_the_page_unless_it_is_a_pinch(page):
    assert re.search(r'"wheel", event => \{ if \(event\.ctrlKey\)', page)


def test_the_mesh_in_the_page_is_the_mesh(answer, page):
    face, model = embedded(page, "face"), answer.model
    positions = decoded(face["positions"], "<i2").reshape(-1, 3) * face["step"]
    assert np.abs(positions - answer.vertices()).max() < 0.02
    np.testing.assert_array_equal(decoded(face["faces"], "<u4").reshape(-1, 3), model.faces)
    assert np.abs(decoded(face["uv"], "<u2").reshape(-1, 2) / 65535 - model.uv).max() < 1e-4
    ends = np.cumsum(face["counts"])
    moved, deltas = decoded(face["moved"], "<u2"), decoded(face["deltas"], "<i2").reshape(-1, 3) * face["morph_step"]
    for k, (end, count) in enumerate(zip(ends, face["counts"], strict=True)):
        offsets = np.zeros((model.n_vertices, 3))
        offsets[moved[end - count : end]] = deltas[end - count : end]
        assert np.abs(offsets - answer.scale * model.expression_basis[:, :, k]).max() < 0.02
    texture = cv2.imdecode(decoded(face["texture"].partition(",")[2], np.uint8), cv2.IMREAD_COLOR_RGB)
    assert np.abs(texture.astype(int) - answer.texture).mean() < 4


def test_a_report_plays_how_the_face_moves(answer, tmp_path, quick):
    seconds, turns = np.array([0.0, 0.5, 0.75]), Rotation.from_euler("xyz", [[0.1, 0.2, 0.3], [0, -0.5, 0], [1, 0, 0]])
    weights = np.linspace(0, 1, 3 * len(answer.model.expression_names)).reshape(3, -1)
    page = answer.save(tmp_path / "r.html", animation=Animation(seconds, weights, turns.as_quat())).read_text()
    film = embedded(page, "face")["film"]
    assert film["seconds"] == seconds.tolist()
    assert np.abs(decoded(film["weights"], np.uint8).reshape(3, -1) / 255 - weights).max() <= 0.5 / 255 + 1e-9
    np.testing.assert_allclose(decoded(film["turns"], "<f4").reshape(3, 3, 3), turns.as_matrix(), atol=1e-6)
    assert "A face from 2 frames" in page
    with pytest.raises(ValueError, match=r"only \.glb and \.html files hold an animation"):
        answer.save(tmp_path / "r.obj", animation=Animation(seconds, weights, turns.as_quat()))


def test_where_the_photos_disagree_is_embedded(answer, page):
    alone = np.stack([answer.model.vertices(v.identity_alone) for v in answer.views])
    apart = np.linalg.norm(alone - answer.model.vertices(answer.identity), axis=2)
    expected = np.sqrt((apart**2).mean(0))
    np.testing.assert_allclose(decoded(embedded(page, "face")["disagreement"], "<u2") / 1000, expected, atol=1e-3)


@pytest.mark.usefixtures("quick")
def test_one_photo_and_a_model_without_texture_coordinates(bare, tmp_path):
    page = bare.save(tmp_path / "one.html").read_text(encoding="utf-8")
    Outline(page)
    face = embedded(page, "face")
    assert not {"uv", "texture", "disagreement"} & face.keys()
    assert "A face from one photo" in page
    assert "one photo only" in page
    assert "Photos left out" not in page
    assert page.count("<figure>") == 3


@pytest.mark.usefixtures("quick")
def test_the_average_head_is_not_called_a_measurement(bare, tmp_path):
    page = write_report(replace(bare, scale=1.0, scale_from="average head"), tmp_path / "a.html").read_text()
    assert "those of an average head" in page


def test_clay_eyes_look_somewhere():
    from sameface.morphable import default

    model = default()
    colours = clay(model)
    assert {tuple(c) for c in colours[model.regions["eyeballs"]].tolist()} == {(226, 223, 219), (128, 118, 112)}
    assert len({tuple(c) for c in colours[model.regions["skin"]].tolist()}) == 1
    assert (colours[model.mirror] == colours).all()


def test_a_page_of_the_shipped_model_is_small(tiny_model, tmp_path):
    from sameface.morphable import default

    model = default()
    one = view(tiny_model, "a.jpg", 0.0, [0, 0, 0, 0])
    camera = replace(one.camera, focal=np.array(540.0))
    rest = {"identity_alone": np.zeros(model.n_identity), "expression": np.zeros(model.n_expression)}
    answer = Reconstruction(
        identity=np.zeros(model.n_identity), views=(replace(one, camera=camera, **rest),), model=model,
        predictor="none",
    )  # fmt: skip
    assert write_report(answer, tmp_path / "big.html").stat().st_size < 3e6


def keys(value) -> set[str]:
    """Every key of nested JSON, except the names of expressions."""
    if isinstance(value, list):
        return set().union(*(keys(one) for one in value))
    if not isinstance(value, dict):
        return set()
    return set(value).union(*(keys(one) for name, one in value.items() if name != "expression"))


def test_the_documentation_explains_every_key(answer, tmp_path):
    page = (DOCS / "result.md").read_text(encoding="utf-8")
    assert not {key for key in keys(answer.as_json()) if f"`{key}`" not in page}
    answer.save(tmp_path / "face.npz")
    assert not {key for key in np.load(tmp_path / "face.npz").files if f"`{key}`" not in page}


def test_the_example_of_the_documentation_runs(answer, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    answer.save("result.json")
    answer.save("face.npz")
    (code,) = re.findall(r"^```python\n(.*?)^```", (DOCS / "result.md").read_text(encoding="utf-8"), re.S | re.M)
    exec(compile(code, "result.md", "exec"), {})
    assert capsys.readouterr().out.endswith("quality 0.71, 100% of the face lies inside the photo\n")


@pytest.mark.usefixtures("quick")
def test_a_page_that_cannot_be_written_is_said(bare, tmp_path):
    with pytest.raises(BadOutput, match=r"missing/report\.html cannot be written"):
        write_report(bare, tmp_path / "missing" / "report.html")
