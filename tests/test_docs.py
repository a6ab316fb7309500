"""What the documentation says in code is run."""

import json
import re
import tomllib
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from faces import astronaut, encoded

ROOT = Path(__file__).parent.parent
PAGES = ["conventions.md", "coming-from.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page, tmp_path, monkeypatch):
    """Block by block, from top to bottom, in one namespace; anna-1.jpg and anna-2.jpg lie in the folder."""
    for name, photo in (("anna-1.jpg", astronaut()), ("anna-2.jpg", astronaut()[:, ::-1])):
        (tmp_path / name).write_bytes(encoded(photo))
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    names: dict = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


def test_the_cluster_of_the_page_about_scale_is_one_that_ray_takes():
    jsonschema, yaml = pytest.importorskip("jsonschema"), pytest.importorskip("yaml")
    schema = json.loads((files("ray") / "autoscaler" / "ray-schema.json").read_text())
    (block,) = re.findall(r"^```yaml\n(.*?)^```", (ROOT / "docs" / "scale.md").read_text(), re.DOTALL | re.MULTILINE)
    told = yaml.safe_load(block)
    jsonschema.validate(told, schema)
    assert told["head_node_type"] in told["available_node_types"]
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told | {"max_workers": "many"}, schema)


def test_what_the_page_about_scale_says_was_measured_is_in_the_benchmarks():
    page = (ROOT / "docs" / "scale.md").read_text()
    bulk, search = (json.loads((ROOT / "benchmarks" / f"{name}.json").read_text()) for name in ("bulk", "search"))
    rate = bulk["photos_per_second"]["bulk, 2"]
    assert f"{rate} photos of 600 px a second" in page
    assert f"| {2000 / rate:.0f} ms | {2e7 / rate / 3600:.0f} hours of a core |" in page
    assert f"({bulk['times_the_loop']['bulk, 2']} times one loop" in page
    seconds, size = (sum(search[name][key] for name in ("index", "faiss")) for key in ("seconds", "bytes"))
    assert f"{seconds:.0f} s on one core, {size / 1e9:.2f} GB" in page
    assert f"{np.mean([search['faiss asked'][by]['ms'] for by in ('shape', 'code')]):.0f} ms on one core" in page


def test_the_page_about_the_layout_shows_the_rooms_that_there_are():
    """In the order of the contract, each with modules that it has."""
    package = ROOT / "src" / "sameface"
    text = (ROOT / "docs" / "architecture.md").read_text()
    rows = re.findall(r"^\| `(\w+)/` \|.*?\|(.*)\|$", text, re.MULTILINE)
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    assert [room for room, _ in rows] == settings["contracts"][0]["layers"]
    assert {room for room, _ in rows} == {file.parent.name for file in package.glob("*/__init__.py")}
    for room, inside in rows:
        there = {file.stem for file in (package / room).iterdir() if not file.name.startswith("_")}
        said = set(re.findall(r"`([a-z_]+)/?`", re.sub(r"\([^()]*\)", "", inside)))
        assert said <= there, room
        left_out = there - said
        assert not left_out or room == "morphable", (room, left_out)


def test_the_page_about_the_layout_names_folders_that_there_are():
    text = (ROOT / "docs" / "architecture.md").read_text()
    (beside,) = re.findall(r"^Beside the package: (.*?)\n\n", text, re.MULTILINE | re.DOTALL)
    for folder in re.findall(r"`(\w+)/`", beside):
        assert (ROOT / folder).is_dir() or (ROOT / "tests" / folder).is_dir(), folder


def test_every_link_between_our_pages_leads_somewhere():
    for page in [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target and not target.startswith("mailto:"):
                assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_licences_of_everything_shipped_are_told():
    folder = ROOT / "src" / "sameface" / "assets"
    text = (folder / "LICENSES.md").read_text()
    for file in folder.iterdir():
        if file.suffix in (".npz", ".onnx"):
            assert f"`{file.name}`" in text
    assert "Copyright (c) 2020 USC Institute for Creative Technologies" in text
    for source in ("FairFace", "CelebA", "AFLW", "Helen", "LFPW", "AFW", "PINS"):
        assert source in text
