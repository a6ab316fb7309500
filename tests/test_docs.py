"""What the documentation says in code is run."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ["conventions.md"]


@pytest.mark.parametrize("page", PAGES)
def test_the_code_of_a_page_runs(page):
    """Block by block, from top to bottom, in one namespace."""
    text = (ROOT / "docs" / page).read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    assert blocks
    names: dict = {}
    for block in blocks:
        exec(compile(block, page, "exec"), names)


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
