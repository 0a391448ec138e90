"""What the pages show is what is in the tree."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def test_the_readmes_application_is_the_example():
    shown = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert shown is not None
    assert (ROOT / "examples/echo.py").read_text().endswith("\n\n" + shown[1])


def test_links_lead_somewhere():
    pages = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]
    assert len(pages) > 5
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name}: {target}"
